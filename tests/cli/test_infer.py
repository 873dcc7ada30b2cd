"""The commands of the room `infer`: a table, a JSON, a figure."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from locum.cli import main

pytest.importorskip("formulaic")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with labelled rows, and with a trial."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=600)
    y = 1 + 2 * x + rng.normal(size=600)
    cheap = y + 0.5 * (x > 0) + rng.normal(size=600)
    drawn = rng.random(600) < 0.4
    write("labels.csv", ["x", "Y", "q"], [[a, b if d else "", c] for a, b, c, d in zip(x, y, cheap, drawn, strict=True)])
    arm = np.repeat([0, 1], 300)
    progression = rng.exponential(1 + 2 * arm)
    death = progression + rng.exponential(1 + arm)
    time = np.minimum(death, 6)
    seen = np.where(progression < time, progression, np.nan)
    rows = [[t, int(d <= 6), a, "" if np.isnan(s) else s] for t, d, a, s in zip(time, death, arm, seen, strict=True)]
    write("trial.csv", ["time", "event", "arm", "progressed"], rows)
    return tmp_path


def write(name, header, rows):
    with open(name, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


DSL = ("infer", "dsl", "labels.csv", "-f", "Y ~ x", "-l", "Y=q", "-p", "0.4", "--model", "lm", "--learner", "linear")
TRIAL = ("--time", "time", "--event", "event", "--arm", "arm", "--surrogate", "progressed", "--perturbations", 60)
PTE = ("infer", "pte", "trial.csv", *TRIAL)


def test_a_regression_with_cheap_labels(here, capsys):
    code, out, _ = run(capsys, *DSL, "--json")
    record = json.loads(out)
    found = dict(zip(record["estimates"]["names"], record["estimates"]["params"], strict=True))
    assert code == 0
    assert found["x"] == pytest.approx(2, abs=0.2)
    assert set(record["compared"]) == {"SO", "GSO", "SL", "PPI", "DSL"}
    code, out, _ = run(capsys, *DSL)
    assert code == 0
    assert "std err" in out


def test_a_trial_with_an_early_outcome(here, capsys):
    code, out, _ = run(capsys, *PTE, "--t0", 1, "--t", 3, "--json")
    record = json.loads(out)
    share = record["rows"][0]
    assert code == 0
    assert share["lower"] < share["estimate"] < share["upper"]
    assert set(record["fidelity"]) >= {"g", "alive at t0", "constant"}
    code, out, _ = run(capsys, *PTE, "--t0", 1, "--t", 3)
    assert code == 0
    assert "share explained" in out


def test_figures(here, capsys):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    assert run(capsys, *DSL, "--figure", "labels.png", "--json")[0] == 0
    assert run(capsys, *PTE, "--t0", 1, "--t", 3, "--figure", "g.svg", "--json")[0] == 0
    assert (here / "labels.png").read_bytes()[1:4] == b"PNG"
    assert "<svg" in (here / "g.svg").read_text()
    matplotlib.pyplot.close("all")
    code, _, err = run(capsys, *DSL, "--figure", "labels.nothing")
    assert code == 2
    assert "cannot write the figure" in err
    matplotlib.pyplot.close("all")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*DSL[:6], "q", *DSL[7:]), "--labels as COLUMN=CHEAP1,CHEAP2"),
        ((*DSL[:8], "1.5", *DSL[9:]), "probab"),
        ((*PTE, "--t0", 3, "--t", 1), "t0 before t"),
        (("infer", "pte", "labels.csv", *TRIAL, "--t0", 1, "--t", 3), "no column 'time'"),
    ],
)
def test_what_cannot_be_used(here, capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
