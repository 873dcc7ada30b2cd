"""Targets from functions, given or named."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.targets import from_callable

X = np.array([[1.0, 2.0], [3.0, 4.0]])


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_a_function_becomes_a_target():
    target = from_callable(lambda X: X.sum(axis=1), name="sum", price=0.5)
    assert target.query(X).tolist() == [3.0, 7.0]
    assert (target.name, target.output, target.account().money) == ("sum", "value", 1.0)


def test_a_named_function_is_imported_from_the_working_folder(module):
    module("my_models_a", "class Kept:\n    @staticmethod\n    def score(X):\n        return X[:, 0] * 10\n")
    before = list(sys.path)
    target = from_callable("my_models_a:Kept.score")
    assert target.query(X).tolist() == [10.0, 30.0]
    assert target.name == "my_models_a:Kept.score"
    assert sys.path == before
    assert from_callable("my_models_a:Kept.score", name="other").name == "other"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("math", "expected 'module:function', got 'math'"),
        (":f", "expected 'module:function', got ':f'"),
        ("no_such_module_here:f", "cannot import 'no_such_module_here' for .*No module named .*; run where it can be imported"),
        ("my_models_b:f", r"cannot import 'my_models_b' for 'my_models_b:f' \(ZeroDivisionError: division by zero\)"),
        ("my_models_c:f", r"cannot import 'my_models_c' for .* \(SyntaxError: "),
        ("sys:no_such", "module 'sys' has no 'no_such'; it is read from Python itself"),
        ("json:loads.no_such", "module 'json' has no 'loads.no_such'; it is read from .*json"),
        ("math:pi", "expected 'math:pi' to be a function of rows, it is float"),
    ],
)
def test_what_is_no_function_is_refused(module, path, message):
    module("my_models_b", "1 / 0\n")
    module("my_models_c", "def f(:\n")
    with pytest.raises(InvalidData, match=message):
        from_callable(path)
