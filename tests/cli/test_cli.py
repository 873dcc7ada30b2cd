"""The command line, as a person types it: what it prints, writes, and exits with."""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

from locum.cli import main

FUNCTION = """
import numpy as np
from pathlib import Path

def high(rows):
    with Path(__file__).with_name("asked.txt").open("a") as file:
        file.write(f"{len(rows)}\\n")
    return ((rows[:, 0] > 0.5) & (rows[:, 1] <= 0.7)).astype(int)

def broken(rows):
    raise RuntimeError("out of order")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a function to ask, rows, and recorded answers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "box", raising=False)
    (tmp_path / "box.py").write_text(FUNCTION)
    rng = np.random.default_rng(0)
    for name, seed in (("rows.csv", 1), ("fresh.csv", 2)):
        rows = np.random.default_rng(seed).uniform(size=(200, 3)).round(4).tolist()
        write(tmp_path / name, ["width", "height", "depth"], rows)
    size, colour = rng.uniform(size=300).round(3), rng.choice(["red", "blue", ""], 300)
    answers = [[s, c, "yes" if s > 0.4 or c == "red" else "no"] for s, c in zip(size.tolist(), colour.tolist(), strict=True)]
    write(tmp_path / "answers.csv", ["size", "colour", "approved"], [list(row) for row in dict.fromkeys(map(tuple, answers))])
    return tmp_path


def write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def run(capsys, *arguments):
    """Exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_a_model_is_fitted_scored_and_shown(here, capsys):
    code, out, _ = run(
        capsys, "fit", "rows.csv", "-m", "box:high", "-f", "tree", "-k", 4, "-b", 120, "-o", "s.locum", "--card", "card.html"
    )
    assert code == 0
    assert "width" in out
    assert (here / "s.locum").exists()
    assert (here / "card.html").read_text().startswith("<!doctype html>")
    code, out, _ = run(capsys, "score", "s.locum", "fresh.csv", "-m", "box:high", "--at-least", 0.8, "--json")
    record = json.loads(out)
    assert code == 0
    assert record["holds"]
    assert record["fidelity"][0]["n"] == 200
    assert set(record["rivals"]) == {"constant", "one split", "linear model"}
    code, out, _ = run(capsys, "score", "s.locum", "fresh.csv", "-m", "box:high", "--at-least", 0.9999)
    assert code == 1
    assert "is below 0.9999" in out
    code, out, _ = run(capsys, "card", "s.locum", "fresh.csv", "-m", "box:high", "-o", "other.json", "--title", "High things")
    assert code == 0
    assert "High things" in out
    assert json.loads((here / "other.json").read_text())["fidelity"][0]["n"] == 200


def test_a_frontier_picks_at_most_k_and_is_the_same_again(here, capsys):
    once = run(capsys, "frontier", "rows.csv", "-m", "box:high", "-k", 3, "-b", 100, "-f", "tree", "--json")
    again = run(capsys, "frontier", "rows.csv", "-m", "box:high", "-k", 3, "-b", 100, "-f", "tree", "--json")
    records = [json.loads(out) for _, out, _ in (once, again)]
    assert once[0] == 0
    assert records[0]["picked"]["statements"] <= 3
    assert records[0]["points"] == records[1]["points"]
    assert records[0]["picked"] == records[1]["picked"]


def test_recorded_answers_need_no_model(here, capsys):
    code, out, _ = run(capsys, "frontier", "answers.csv", "--answer", "approved", "-k", 4, "-f", "tree", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["fidelity"][0]["value"] > 0.95
    assert "colour" in record["picked"]["text"]


def test_a_ledger_pays_once(here, capsys):
    options = ("fit", "rows.csv", "-m", "box:high", "-k", 4, "-b", 100, "--ledger", "l.ledger", "--json")
    assert run(capsys, *options)[0] == 0
    asked = sum(map(int, (here / "asked.txt").read_text().split()))
    assert run(capsys, *options)[0] == 0
    assert sum(map(int, (here / "asked.txt").read_text().split())) == asked


def test_a_high_price_is_not_paid_without_consent(here, capsys):
    code, _, err = run(capsys, "fit", "rows.csv", "-m", "box:high", "--price", 1, "-b", 50)
    assert code == 2
    assert "say --yes" in err
    assert sum(map(int, (here / "asked.txt").read_text().split())) <= 20
    assert run(capsys, "fit", "rows.csv", "-m", "box:high", "--price", 1, "-b", 50, "--yes", "--json")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fit", "rows.csv"), 2, "either --model"),
        (("fit", "rows.csv", "-m", "box:high", "-a", "width"), 2, "either --model"),
        (("fit", "none.csv", "-m", "box:high"), 2, "cannot read"),
        (("fit", "rows.csv", "-m", "box:nothing"), 2, "has no 'nothing'"),
        (("fit", "rows.csv", "-m", "box:high", "-f", "forest"), 2, "families="),
        (("fit", "rows.csv", "-m", "box:high", "--drop", "colour"), 2, "has no column 'colour'"),
        (("fit", "rows.csv", "-m", "box:broken"), 3, "out of order"),
        (("fit", "rows.csv", "-m", "box:high", "-k", "none"), 2, "valid integer"),
        (("fit", "rows.csv", "-m", "model.pkl"), 2, "there is no such file"),
        (("score", "rows.csv", "rows.csv", "-m", "box:high"), 5, "is not a saved stand-in"),
        (("frontier", "answers.csv", "-a", "size_"), 2, "has no column 'size_'"),
        (("papers", "timx"), 2, "timex"),
        (("papers", "--room", "attic"), 2, "no room"),
        (("reproduce",), 2, "--all"),
        (("cite", "nobody"), 2, "nobody"),
        (("dance",), 2, "dance"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_a_code(here, capsys, arguments, code, message):
    found, _, err = run(capsys, *arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_a_pickle_is_not_loaded_unless_trusted(here, capsys):
    import joblib
    from sklearn.tree import DecisionTreeClassifier

    X = np.random.default_rng(0).uniform(size=(100, 3))
    joblib.dump(DecisionTreeClassifier(max_depth=3).fit(X, X[:, 0] > 0.5), here / "model.joblib")
    code, _, err = run(capsys, "fit", "rows.csv", "-m", "model.joblib")
    assert code == 2
    assert "--trust-pickle" in err
    assert run(capsys, "fit", "rows.csv", "-m", "model.joblib", "--trust-pickle", "-b", 60, "--json")[0] == 0


def test_papers_are_listed_and_cited(capsys):
    code, out, _ = run(capsys, "papers", "--json")
    assert code == 0
    assert len(json.loads(out)) == 65
    code, out, _ = run(capsys, "papers", "timex")
    assert "TimeX" in out or "Time-Series" in out
    code, out, _ = run(capsys, "cite", "timex", "cart")
    assert code == 0
    assert out.count("@") >= 3


def test_a_saved_stand_in_says_what_it_stands_on(here, capsys):
    run(capsys, "fit", "rows.csv", "-m", "box:high", "-k", 2, "-b", 60, "-o", "s.locum", "--json")
    code, out, _ = run(capsys, "cite", "s.locum")
    assert code == 0
    assert "Breiman" in out


def test_reproduce_reports_what_the_script_says(tmp_path, capsys):
    for slug, holds in (("dsl", True), ("sso", False)):
        (tmp_path / slug).mkdir()
        line = json.dumps({"slug": slug, "holds": holds, "effect": 0.5, "lower": 0.4, "upper": 0.6, "seeds": 3, "seconds": 1})
        (tmp_path / slug / "run.py").write_text(f"print('''{line}''')\nraise SystemExit({int(not holds)})\n")
    assert run(capsys, "reproduce", "dsl", "--benchmarks", tmp_path)[0] == 0
    code, out, _ = run(capsys, "reproduce", "sso", "--benchmarks", tmp_path)
    assert code == 1
    assert "does not hold" in out


def test_help_names_the_exit_codes(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert "Exit codes" in out


# ---------------------------------------------------------------------- explain
@pytest.mark.parametrize(
    ("by", "said"), [("lime", "width"), ("shapley", "width"), ("anchors", "width"), ("counterfactual", "width: ")]
)
def test_one_answer_is_explained_each_way(here, capsys, by, said):
    code, out, _ = run(capsys, "explain", "row", "rows.csv", "-m", "box:high", "--row", 3, "--by", by)
    assert code == 0
    assert out.startswith("Row 3\n")
    assert said in out
    code, out, _ = run(capsys, "explain", "row", "rows.csv", "-m", "box:high", "--row", 3, "--row", 0, "--by", by, "--json")
    record = json.loads(out)
    assert (code, record["by"], len(record["explanations"])) == (0, by, 2)
    again = run(capsys, "explain", "row", "rows.csv", "-m", "box:high", "--row", 3, "--row", 0, "--by", by, "--json")[1]
    assert json.loads(again)["explanations"] == record["explanations"]


def test_rows_of_another_file_in_another_order_of_columns(here, capsys):
    write(here / "two.csv", ["depth", "note", "height", "width"], [[0.5, "a", 0.2, 0.9], [0.5, "b", 0.2, 0.1]])
    code, out, _ = run(capsys, "explain", "row", "rows.csv", "-m", "box:high", "--rows", "two.csv", "--by", "anchors", "--json")
    first, second = json.loads(out)["explanations"]
    assert code == 0
    assert (first["answer"], second["answer"]) == (1, 0)
    code, out, _ = run(
        capsys, "explain", "row", "rows.csv", "-m", "box:high", "--rows", "two.csv", "--by", "shapley", "--class", "0", "--json"
    )
    assert [round(sum(one["values"]) + one["base"], 9) for one in json.loads(out)["explanations"]] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected rows to explain"),
        (("--row", 1, "--rows", "fresh.csv"), "expected rows to explain"),
        (("--row", 200), "no row 200 in the data: it has 200"),
        (("--row", -1), "no row -1"),
        (("--row", 1, "--by", "guess"), "one of lime, shapley, anchors, counterfactual"),
        (("--row", 1, "--by", "anchors", "--class", "1"), "--class goes with"),
        (("--row", 1, "--wanted", "1"), "go with --by counterfactual"),
        (("--row", 1, "--class", "blue"), "no class 'blue'; expected one of 0, 1"),
        (("--row", 1, "--by", "counterfactual", "--wanted", "a:b"), "as LOW:HIGH"),
        (("--rows", "answers.csv"), "lacks the column 'width'"),
        (("--rows", "none.csv"), "cannot read"),
    ],
)
def test_what_cannot_be_explained(here, capsys, arguments, message):
    code, _, err = run(capsys, "explain", "row", "rows.csv", "-m", "box:high", *arguments)
    assert code == 2
    assert message in err
