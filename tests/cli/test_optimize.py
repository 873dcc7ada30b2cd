"""`locum optimize`: a problem in a file, a function or a programme as objective, and runs that go on."""

from __future__ import annotations

import json
import sys

import pytest

pytest.importorskip("botorch")

from locum.cli import main
from locum.core.errors import FormatError, InvalidData
from locum.optimize.problem import Problem, command

PARAMETERS = """
[[parameters]]
name = "x"
kind = "real"
low = -3.0
high = 3.0

[[parameters]]
name = "kind"
kind = "categorical"
choices = ["a", "b"]

[[parameters]]
name = "depth"
kind = "integer"
low = 1
high = 5
when = ["kind", ["b"]]
"""
MODULE = """
def bowl(point):
    with open("calls.txt", "a") as file:
        file.write(".")
    return (point["x"] - 1) ** 2 + (1.0 if point["kind"] == "a" else abs(point["depth"] - 3) / 4)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "plant", raising=False)
    (tmp_path / "plant.py").write_text(MODULE)
    head = 'direction = "minimize"\ntarget = "plant:bowl"\nbudget = 14\ninitial = 8\n'
    (tmp_path / "problem.toml").write_text(head + PARAMETERS)
    return tmp_path


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def calls(folder):
    return len((folder / "calls.txt").read_text())


def test_a_problem_is_solved_kept_and_gone_on_with(here, capsys):
    code, out, err = run(capsys, "optimize", "problem.toml", "--json", "-o", "result.json")
    record = json.loads(out)
    assert (code, calls(here)) == (0, 14), err
    assert record["value"] < 1
    assert json.loads((here / "result.json").read_text()) == record
    assert (here / "problem.ledger").exists()
    code, out, _ = run(capsys, "optimize", "problem.toml", "--budget", 16)
    assert (code, calls(here)) == (0, 16)
    assert "16 evaluations; the budget ended" in out
    code, out, _ = run(capsys, "optimize", "problem.toml", "--json", "--fresh")
    assert calls(here) == 30
    assert json.loads(out)["points"] == record["points"]


def test_a_programme_is_asked_and_its_failures_are_kept(here, capsys):
    script = "import sys; x = float(sys.argv[1]); print('at', x); print(x * x if x < 2 else sys.exit('too far'))"
    words = json.dumps([sys.executable, "-c", script, "{x}"])
    text = f'direction = "minimize"\ncommand = {words}\nbudget = 9\n'
    one = PARAMETERS.split("[[parameters]]")[1]
    (here / "sim.toml").write_text(text + "[[parameters]]" + one)
    code, out, err = run(capsys, "optimize", "sim.toml", "--json")
    record = json.loads(out)
    assert code == 0, err
    assert len(record["values"]) == 9
    assert abs(record["best"]["x"]) < 1
    assert all((value is None) == (point["x"] >= 2) for value, point in zip(record["values"], record["points"], strict=True))


def test_arguments_of_parameters_that_do_not_matter_are_left_out():
    show = command([sys.executable, "-c", "import sys; print(len(sys.argv))", "--x", "{x}", "--depth", "{depth}"])
    assert show({"x": 1.0, "depth": 2}) == 5
    assert show({"x": 1.0}) == 3
    silent, broken = "print('no number')", "import sys; sys.exit('broken')"
    for code, message in ((silent, "got 'no number'"), (broken, "ended with 1: broken")):
        with pytest.raises(RuntimeError, match=message):
            command([sys.executable, "-c", code])({})
    with pytest.raises(InvalidData, match="a command as a list"):
        command("rm -rf")
    with pytest.raises(InvalidData, match="written twice"):
        command(["echo", "{"])({"x": 1})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (('direction = "minimize"', 'direction = "down"'), FormatError, "needs direction"),
        (('target = "plant:bowl"', ""), FormatError, "needs either target"),
        (("budget = 14", "bugdet = 14"), FormatError, "has 'bugdet', which is unknown"),
        (("high = 3.0", "high = -5.0"), InvalidData, "low below high"),
        (("plant:bowl", "plant:bowls"), InvalidData, "has no 'bowls'"),
        (("plant:bowl", "plant"), InvalidData, "module:function"),
        (('kind = "real"', 'kind = "complex"'), FormatError, "no space"),
    ],
)
def test_files_that_are_no_problem_are_refused(here, change, error, message):
    text = (here / "problem.toml").read_text()
    assert change[0] in text
    (here / "problem.toml").write_text(text.replace(*change, 1))
    with pytest.raises(error, match=message):
        Problem.load("problem.toml")


def test_a_budget_is_needed_and_a_space_that_changed_is_refused(here, capsys):
    text = (here / "problem.toml").read_text()
    (here / "problem.toml").write_text(text.replace("budget = 14\n", ""))
    code, _, err = run(capsys, "optimize", "problem.toml")
    assert (code, "expected a budget" in err) == (2, True)
    code, _, err = run(capsys, "optimize", "problem.toml", "-b", 3)
    assert (code, "at least the 8 first points" in err) == (2, True)
    assert run(capsys, "optimize", "problem.toml", "-b", 8)[0] == 0
    (here / "problem.toml").write_text(text.replace("high = 3.0", "high = 4.0"))
    code, _, err = run(capsys, "optimize", "problem.toml")
    assert (code, "ledger" in err) == (5, True), err
    assert calls(here) == 8
