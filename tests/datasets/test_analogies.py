"""Word analogies from a file or from the package that ships them."""

from __future__ import annotations

import importlib.util

import pytest

from locum.core.errors import InvalidData
from locum.datasets import load_analogies


def test_analogies_are_read_from_a_file(tmp_path):
    file = tmp_path / "questions.txt"
    file.write_text(": currency\nDenmark krone Mexico peso\n\n: family\nboy girl he she\n", encoding="utf-8")
    first, second = load_analogies(file)
    assert (first.relation, first.example, first.asked) == ("currency", ("Denmark", "krone"), ("Mexico", "peso"))
    assert second.relation == "family"
    file.write_text("boy girl he she\n", encoding="utf-8")
    with pytest.raises(InvalidData, match=r"line 1 of .* got 'boy girl he she'"):
        load_analogies(file)
    with pytest.raises(InvalidData, match="there is no file of analogies at"):
        load_analogies(tmp_path / "none.txt")
    file.write_text(": family\n", encoding="utf-8")
    with pytest.raises(InvalidData, match="holds no analogies"):
        load_analogies(file)


def test_analogies_of_the_package_are_all_there():
    if importlib.util.find_spec("gensim") is None:
        pytest.skip("the package gensim, which holds the file, is not installed")
    assert len(load_analogies()) == 19544
