"""The commands of simulation tests: machine students, people at a terminal and in a browser, and what their answers say."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from locum.cli import main

pytest.importorskip("pandas")

BANK = """
import numpy as np
def predict(rows):
    return np.where(2 * rows["a"] - rows["b"] + (rows["color"] == "red") > 0, "yes", "no")
"""
BUILD = ("simulate", "students", "loans.csv", "--label", "paid", "--model", "bank:predict", "--readers", 2, "--yes")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a table, a model and a study."""
    folder = tmp_path_factory.mktemp("simulate")
    rng = np.random.default_rng(0)
    X, color = rng.normal(size=(2000, 3)), rng.choice(["red", "green", "blue"], 2000)
    answers = 2 * X[:, 0] - X[:, 1] + (color == "red") > 0
    truth = np.where(answers == (rng.random(2000) < 0.65), "yes", "no")
    with open(folder / "loans.csv", "w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "c", "color", "paid"], *([*x, c, t] for x, c, t in zip(X, color, truth))])  # noqa: B905
    (folder / "bank.py").write_text(BANK)
    return folder


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    return made


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.fixture
def study(here, capsys):
    """A study for people, made once."""
    if not (here / "study.json").exists():
        assert run(capsys, *BUILD, "--study", "study.json")[0] == 0
    return here / "study.json"


def typing(monkeypatch, answer, count=1000):
    """Somebody who types what `answer` gives for each question, until patience ends."""
    asked = []

    def typed(*_):
        if len(asked) >= count:
            raise EOFError
        asked.append(answer)
        return "yes" if len(asked) == 1 else answer

    monkeypatch.setattr("builtins.input", typed)


def test_students_read_what_is_shown_and_controls_stand_beside(here, capsys):
    code, out, _ = run(capsys, *BUILD, "--json")
    record = json.loads(out)
    assert code == 0
    assert not record["people"]
    found = {(one["method"], one["student"]): one["change"]["value"] for one in record["changes"]}
    assert {method for method, _ in found} == {"lime", "nothing", "shuffled"}
    assert {student for _, student in found} == {"AdditiveStudent", "WeightsStudent"}
    assert found["nothing", "WeightsStudent"] == pytest.approx(0, abs=1e-9)
    assert found["lime", "WeightsStudent"] > found["shuffled", "WeightsStudent"]
    assert record["references"][0] == {"name": "floor, the true label", "accuracy": 0.5, "n": 64}
    assert json.loads(run(capsys, *BUILD, "--json")[1])["changes"] == record["changes"]
    code, out, _ = run(capsys, *BUILD, "--show", "anchor", "--kind", "counterfactual", "--ask", 16)
    assert code == 0
    assert "anchor (RuleStudent)" in out
    assert "A machine student is not a person." in out


def test_a_person_takes_it_stops_and_goes_on(study, capsys, monkeypatch):
    typing(monkeypatch, "1", count=8)
    code, _, err = run(capsys, "simulate", "take", study, "-t", 1)
    assert (code, "take it again to go on" in err) == (2, True)
    kept = (study.parent / "answers_1.csv").read_text()
    typing(monkeypatch, "1")
    assert run(capsys, "simulate", "take", study, "-t", 1)[0] == 0
    assert (study.parent / "answers_1.csv").read_text().startswith(kept)
    typing(monkeypatch, "2")
    assert run(capsys, "simulate", "take", study, "-t", 2, "--answers", "second.csv")[0] == 0
    code, out, _ = run(capsys, "simulate", "analyse", study, "answers_1.csv", "second.csv", "--json")
    record = json.loads(out)
    assert (code, record["people"]) == (0, True)
    # The items are balanced, so whoever always says the same is right half of the time.
    assert all(one["post"] == pytest.approx(0.5) for one in record["changes"])
    assert sum(one["n_students"] for one in record["changes"]) == 2


def test_the_page_holds_what_is_shown_and_not_the_answers_asked(study, capsys):
    code, out, _ = run(capsys, "simulate", "page", study, "-o", "take.html", "--takers", 5, "--json")
    assert (code, json.loads(out)["takers"]) == (0, 5)
    page = (study.parent / "take.html").read_text()
    assert set(json.loads(study.read_text())["methods"]) == {"lime", "nothing", "shuffled"}
    assert "<html" in page
    assert all(told not in page for told in ("shuffled", "quadrant", "wanted"))


def test_the_page_is_served_until_interrupted(study):
    code = "import sys; from locum.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "simulate", "serve", str(study), "said", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=study.parent) as process:
        try:
            address = json.loads(process.stdout.readline())["address"]
            with urllib.request.urlopen(address, timeout=20) as answer:
                assert b"<html" in answer.read()
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--show", "magic"), "--show to be one of lime, omission, anchor, boundary, got 'magic'"),
        (("--kind", "sideways"), "kind= to be one of forward, counterfactual"),
        (("--learn", 6), "multiple of 4"),
        (("--ask", 400), "to be asked about"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(here, capsys, more, message):
    code, _, err = run(capsys, *BUILD, *more)
    assert (code, message in err) == (2, True), err


def test_labels_that_are_not_the_models_and_files_that_are_no_study_are_refused(here, capsys):
    code, _, err = run(capsys, *(("color" if a == "paid" else a) for a in BUILD))
    assert (code, "expected two classes in color, got 3: blue, green, red" in err) == (2, True), err
    code, _, err = run(capsys, "simulate", "take", "loans.csv", "-t", 1)
    assert (code, "loans.csv is no study" in err) == (5, True), err
