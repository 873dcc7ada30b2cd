"""Learn an emulator from a table, let it run on, judge it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from locum.cli import main
from locum.emulate import Trajectories, read_trajectories, write_trajectories

pytest.importorskip("torch")
pytest.importorskip("numba")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("emulate")
    t = np.arange(160) * 0.1
    for name, starts in (("runs", (0.0, 1.0, 2.0)), ("fresh", (0.5, 1.5))):
        runs = [np.stack([np.cos(t + s), np.sin(t + s)], axis=1) for s in starts]
        table = Trajectories.of(runs, dt=0.1, names=("x", "y"), units=("m", "m"), time_unit="s")
        write_trajectories(table, here / f"{name}.csv")
    return here


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.mark.parametrize("kind", ["reconstructor", "koopman"])
def test_an_emulator_is_learned_runs_on_and_is_judged(kind, folder, capsys):
    model = folder / f"{kind}.npz"
    learn = ("--kind", kind, "--latents", 4, "--hidden", 16, "--window", 12, "--updates", 1000)
    code, said, _ = run(capsys, "emulate", "fit", folder / "runs.csv", "-o", model, *learn, "--json")
    assert code == 0
    told = json.loads(said)
    assert told["runs"] == 3
    assert np.mean(told["scores"]["PE(8)"]["values"]) < np.mean(told["scores"]["PE(8)"]["floor"])
    code, said, _ = run(capsys, "emulate", "rollout", model, folder / "fresh.csv", "-n", 25, "-o", folder / "on.csv")
    assert code == 0
    on, before = read_trajectories(folder / "on.csv"), read_trajectories(folder / "fresh.csv")
    assert (on.lengths, on.units, on.time_unit) == ((25, 25), ("m", "m"), "s")
    assert on.times(0)[0] == pytest.approx(before.times(0)[-1] + 0.1)
    away = Trajectories.of([50.0 * run for run in before.states], dt=0.1, names=("x", "y"), units=("m", "m"), time_unit="s")
    write_trajectories(away, folder / "away.csv")
    code, said, warned = run(
        capsys, "emulate", "rollout", model, folder / "away.csv", "-n", 25, "-o", folder / "on.csv", "--json"
    )
    assert code == 0
    assert [one[:31] for one in json.loads(said)["outside"]] == [f"run {i}: the run leaves the state" for i in range(2)]
    assert "warning: run 0: the run leaves the states learned from after 1 of 25 steps" in warned
    code, said, _ = run(capsys, "emulate", "score", model, folder / "fresh.csv", "--figure", folder / "score.png")
    assert code == 0
    assert "diverged: 0 of 2 runs" in said
    assert (folder / "score.png").stat().st_size > 1000
    code, said, _ = run(capsys, "emulate", "export", model, "-o", folder / "model.onnx", "--json")
    assert code == 0
    assert json.loads(said)["bytes"] == (folder / "model.onnx").stat().st_size > 1000
    code, _, said = run(capsys, "emulate", "export", model, "-o", folder / "model.h5")
    assert code == 2
    assert "expected a file that ends with" in said


def test_what_does_not_fit_is_refused(folder, capsys):
    model = folder / "small.npz"
    learn = ("--latents", 3, "--hidden", 5, "--window", 10, "--updates", 50)
    assert run(capsys, "emulate", "fit", folder / "runs.csv", "-o", model, *learn)[0] == 0
    (folder / "other.csv").write_text("time,x\n" + "".join(f"{0.1 * i},{i % 3}\n" for i in range(60)))
    (folder / "coarse.csv").write_text("time,x,y\n" + "".join(f"{0.2 * i},{i % 3},{i % 2}\n" for i in range(60)))
    for name, words in (("other", "2 columns of states"), ("coarse", "times 0.1 apart")):
        code, _, said = run(capsys, "emulate", "score", model, folder / f"{name}.csv")
        assert code == 2
        assert words in said
    assert run(capsys, "emulate", "score", folder / "runs.csv", folder / "runs.csv")[0] == 5
    code, _, said = run(capsys, "emulate", "fit", folder / "runs.csv", "-o", model, "--kind", "magic")
    assert code == 2
    assert "koopman" in said
