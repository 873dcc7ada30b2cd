"""The 65 files: complete, in our own words, and with states that are derived, never typed."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest

from locum.catalogue import Paper, paper, papers
from locum.catalogue._papers import EXTRAS, FOLDER, ROOMS, read_paper
from locum.catalogue._readme import update_measured
from locum.core.errors import InvalidData

ROOT = Path(__file__).parents[2]
LISTED = ROOT.parent / "shared" / "papers.json"
MEASURED = """
[measured]
holds = {holds}
measure = "gain"
effect = 0.12
lower = 0.05
upper = 0.18
level = 0.95
direction = "greater"
seeds = 5
seconds = 61.5
"""


@pytest.fixture(scope="module")
def listed() -> dict[str, dict]:
    if not LISTED.exists():
        pytest.skip("../shared/papers.json is not there: only the project's own machine has it")
    return {one["slug"]: one for one in json.loads(LISTED.read_text(encoding="utf-8"))}


@pytest.fixture
def written(tmp_path: Path):
    """A copy of a real file with one text replaced and another appended, read back."""

    def write(old: str = "", new: str = "", extra: str = "", name: str = "dsl") -> Paper:
        text = update_measured((FOLDER / "dsl.toml").read_text(encoding="utf-8"), None)  # as before it was built
        text = re.sub(r"^class = .*\n", "", text, flags=re.MULTILINE).replace('extras = ["infer"]', "extras = []")
        assert old in text
        path = tmp_path / f"{name}.toml"
        path.write_text(text.replace(old, new, 1) + extra, encoding="utf-8")
        return read_paper(path)

    return write


def test_there_are_65_numbered_from_1_with_unique_slugs():
    assert [one.number for one in papers()] == list(range(1, 66))
    assert len({one.slug for one in papers()}) == 65
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one.slug) for one in papers())


def test_facts_agree_with_the_list_of_systems(listed):
    assert {one.slug for one in papers()} == set(listed)
    for one in papers():
        there = listed[one.slug]
        assert (one.number, one.title, one.room, one.stands_in) == (
            there["number"],
            there["title"],
            there["package"],
            there["stands_in"],
        )


@pytest.mark.parametrize("one", papers(), ids=lambda one: one.slug)
def test_every_file_is_complete(one: Paper):
    assert one.room in ROOMS
    assert set(one.extras) <= set(EXTRAS)
    assert all(re.fullmatch(r"[^,]+, [^,]+", author) for author in one.authors)
    assert 2017 <= one.year <= 2026
    assert one.arxiv is None or re.fullmatch(r"\d{4}\.\d{4,5}", one.arxiv)
    assert one.doi is None or one.doi.startswith("10.")
    assert one.repository is None or one.repository.startswith("https://")
    assert one.url is not None
    assert 2 <= len(re.findall(r"[.!?](?:\s|$)", one.summary)) <= 3
    assert 1 <= len(one.claims) <= 3
    assert all(claim.claim.endswith(".") and claim.measure for claim in one.claims)
    assert "\n" not in one.summary


def test_no_twelve_words_in_a_row_come_from_an_abstract(listed):
    for one in papers():
        theirs = _runs(listed[one.slug]["abstract"])
        for text in (one.summary, *(f"{claim.claim} {claim.measure}" for claim in one.claims)):
            assert not theirs & _runs(text), one.slug


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[i : i + 12]) for i in range(len(words) - 11)}


def test_state_is_derived_from_class_and_measurement(written):
    classed = {"old": "year =", "new": 'class = "locum.infer.DSL"\nyear ='}
    assert written().state == "planned"
    built = written(**classed)
    assert (built.state, built.class_path) == ("built", "locum.infer.DSL")
    assert written(**classed, extra=MEASURED.format(holds="true")).state == "holds"
    failed = written(**classed, extra=MEASURED.format(holds="false"))
    assert failed.state == "does not hold"
    assert str(failed.measured) == "gain 0.12 [0.05, 0.18]"
    assert json.loads(json.dumps(failed.to_dict()))["measured"]["upper"] == 0.18


def test_settings_are_read(written):
    assert written(extra="\n[settings]\nfolds = 2\n").settings == {"folds": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": MEASURED.format(holds="true")}, "a measurement needs a class"),
        ({"name": "other"}, "expected the file's name"),
        ({"old": 'room = "infer"', "new": 'room = "attic"'}, "room is 'attic'"),
        ({"old": "extras = []", "new": 'extras = ["gpu"]'}, "extras are gpu"),
        ({"old": "year = 2023", "new": "yeer = 2023"}, "yeer"),
        ({"old": "year = 2023", "new": ""}, "missing or unknown field"),
        ({"old": "year = 2023", "new": "year = "}, "is not TOML"),
        ({"old": '"Egami, Naoki"', "new": '"Naoki Egami"'}, "Family, Given"),
        ({"old": 'venue = "', "new": 'later_title = "'}, "needs its venue"),
        ({"extra": MEASURED.format(holds="true").replace("0.05", "0.5")}, "lower <= upper"),
        ({"extra": MEASURED.format(holds="true").replace("0.12", "nan")}, "finite"),
        ({"extra": MEASURED.format(holds='"yes"')}, "true or false"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(written, change, message):
    with pytest.raises(InvalidData, match=re.escape(message)):
        written(**change)


def test_an_unknown_slug_names_the_nearest():
    with pytest.raises(InvalidData, match="Did you mean 'transcoders'"):
        paper("transcoder")
    with pytest.raises(InvalidData, match="Did you mean 'info-koopman'"):
        paper("Koopman")
    with pytest.raises(InvalidData, match="No name is near it"):
        paper("zzzzzz")


def test_to_dict_is_json_and_derives_paths():
    record = json.loads(json.dumps([one.to_dict() for one in papers()]))[1]
    assert record["slug"] == "hd-blackbox"
    assert record["class"] == "locum.explain.HighDimExplainer"
    assert record["state"] == paper("hd-blackbox").state
    assert record["paths"]["test"] == "tests/explain/test_hd_blackbox.py"
    assert record["paths"]["benchmark"] == "benchmarks/papers/hd-blackbox"


def test_each_entry_is_read_once(monkeypatch):
    read: list[str] = []
    loads = tomllib.loads

    def counted(text: str) -> dict:
        read.append(text)
        return loads(text)

    papers.cache_clear()
    monkeypatch.setattr(tomllib, "loads", counted)
    first = papers()
    assert len(read) == len(set(read)) == len(first)
    assert papers() is first
    assert len(read) == len(first)


def test_the_catalogue_imports_nothing_heavy():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert not name.startswith("locum") or name.startswith(("locum.catalogue", "locum.core.errors")), path
                assert name.partition(".")[0] not in {"numpy", "scipy", "sklearn", "rich", "typer"}, path
