"""BibTeX: every entry parses, keys are unique, nothing outside ASCII, and `cite` names what ran."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from sklearn.tree import DecisionTreeClassifier

import locum
from locum.catalogue import cite, paper, papers, references
from locum.catalogue._bibtex import bibtex_entry
from locum.core.errors import InvalidData

NAMES = [*references(), *(one.slug for one in papers())]


def parse(text: str) -> dict[str, dict[str, str]]:
    """Entries of a BibTeX text, key to fields; strict about braces and about what stands between entries."""
    entries: dict[str, dict[str, str]] = {}
    for block in text.strip().split("\n\n"):
        head, *lines, last = block.split("\n")
        kind, key = re.fullmatch(r"@([a-z]+)\{([a-z0-9]+),", head).groups()
        assert kind in {"article", "inproceedings", "book", "misc"}
        assert last == "}"
        assert key not in entries
        fields = dict(re.fullmatch(r"  ([A-Za-z]+) = \{(.+)\},", line).groups() for line in lines)
        assert len(fields) == len(lines)
        for value in fields.values():
            plain = value.replace(r"\{", "").replace(r"\}", "")
            assert all(plain[:i].count("{") >= plain[:i].count("}") for i in range(len(plain)))
            assert plain.count("{") == plain.count("}")
        entries[key] = fields
    return entries


def test_every_entry_parses_with_unique_keys_in_ascii():
    text = cite(NAMES)
    assert text.isascii()
    entries = parse(text)
    assert len(entries) == len(NAMES)
    for key, fields in entries.items():
        assert fields["title"].startswith("{")
        assert fields["author"]
        assert "year" in fields or key == "locum"


def test_signs_and_accents_are_escaped():
    key, text = bibtex_entry(
        {
            "entry": "misc",
            "title": "A & B_c: 50% of $x^2$ {~}\\ – ß",
            "authors": ["Doe-Müller, Zoë", "The Łab & Co"],
            "year": 2020,
        }
    )
    assert key == "doemuller2020a"
    assert r"A \& B\_c: 50\% of \$x{\textasciicircum}2\$ \{{\textasciitilde}\}{\textbackslash} -- {\ss}" in text
    assert r"M{\"{u}}ller, Zo{\"{e}} and {The {\L}ab \& Co}" in text


def test_an_entry_says_where_it_was_published():
    fields = parse(paper("life2vec").bibtex())["savcisens2024using"]
    assert fields["journal"] == "Nature Computational Science"
    assert fields["doi"] == "10.1038/s43588-023-00573-5"
    assert fields["eprint"] == "2306.03009"
    assert parse(cite(["cart"]))["breiman1984classification"]["publisher"] == "Wadsworth"
    assert parse(cite([]))["locum"]["note"].startswith("Version ")


def test_cite_takes_classes_objects_slugs_and_keys_each_once():
    class Tree:
        papers = ("cart", "hd-blackbox")

    entries = parse(cite([Tree, Tree(), "cart", DecisionTreeClassifier(), "timex"]))
    assert list(entries) == [
        "locum",
        "breiman1984classification",
        "karim2022interpreting",
        "pedregosa2011scikit",
        "queen2023encoding",
    ]


def test_cite_refuses_what_it_does_not_know():
    with pytest.raises(InvalidData, match="Did you mean 'lasso'"):
        cite(["laso"])
    with pytest.raises(InvalidData, match="does not say which papers"):
        cite([3.0])
    with pytest.raises(InvalidData, match="Expected a list"):
        cite("cart")


def test_every_class_of_locum_cites_what_exists():
    for path in Path(locum.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef):
                continue
            for line in node.body:
                if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "papers":
                    unknown = set(ast.literal_eval(line.value)) - set(NAMES)
                    assert not unknown, f"{path}: {node.name} cites {unknown}"
