"""Emulators as programs: PyTorch's and ONNX Runtime's answers are the emulator's own, for any number of rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from locum.core.errors import InvalidData, MissingExtra
from locum.emulate import (
    CAPE,
    LSTM,
    Conditional,
    FIFOBuffer,
    KoopmanEmulator,
    Level,
    NBeats,
    NetworkForecaster,
    NeuralPDESolver,
    OnlineTrainer,
    PINNEmulator,
    RecurrentForecaster,
    RenderingRegressor,
    Trajectories,
)
from locum.emulate._operators import SpectralConv
from locum.problems.battery import graphite_nmc, simple_cell
from locum.problems.pde import Advection, RandomWaves

RNG = np.random.default_rng(0)


def solver(base="fno", parameters=None, history=1, **changes):
    speeds = np.repeat(np.geomspace(0.5, 2.0, 4), 2)
    U = 7 + 3 * Advection().solve(RandomWaves.draw(8, random_state=1), speeds, n_steps=4, dt=0.05, n_grid=16)
    settings = {"width": 8, "epochs": 2, "warmup_epochs": 1, "batch_size": 8, **changes}
    model = NeuralPDESolver(base, parameters or CAPE(width=8, modes=4), history=history, **settings).fit(U, speeds[:, None])
    fields, p = U[:5, :history].reshape(5, history, 16), speeds[:5, None]
    return model, [fields, p], model.step(fields, p)[:, -1:]


def koopman(controls=False):
    t = np.arange(120) * 0.1
    x = np.stack([np.sin(t) * 5 + 2, np.cos(t)], axis=1)
    u = np.cos(3 * t)[:, None]
    model = KoopmanEmulator(4, hidden=(8,), window=12, rollout_steps=4, max_updates=20)
    if controls:
        model.fit(Trajectories.of(x, dt=0.1), [u])
        return model, [x[:5], u[:5]], model.decode(model.step(model.encode(x[:5]), u[:5]))
    model.fit(Trajectories.of(x, dt=0.1))
    return model, [x[:5]], model.predict(x[:5], 1)[:, 0]


def forecaster(network):
    series = 3 + np.cumsum(RNG.normal(size=(90, 2)), axis=0)
    model = NetworkForecaster(network, rows=8, epochs=2).fit(series)
    windows = np.stack([series[i : i + 8] for i in range(5)])
    return model, [windows], np.stack([model.forecast(one, 1)[0] for one in windows])


def recurrent():
    runs = [3 + np.cumsum(RNG.normal(size=(60, 3)), axis=0) for _ in range(4)]
    model = RecurrentForecaster([2], inputs=[0, 2], horizon=4, rows=8, hidden=6, epochs=2).fit(runs)
    windows = np.stack([runs[0][i : i + 8] for i in range(5)])
    return model, [windows], np.stack([model.forecast(one, 4) for one in windows])


def regressor():
    pictures = RNG.random((24, 1, 4, 16, 16), dtype=np.float32)
    settings = {"views": ("top",), "width": 4, "hidden": 8, "epochs": 1, "joined_epochs": 1}
    model = RenderingRegressor(**settings).fit(pictures, 0.3 + 0.1 * RNG.random(24))
    return model, [pictures[:5]], model.predict(pictures[:5])


def battery(cell=None, *more):
    cell = cell or simple_cell()
    model = PINNEmulator(cell, levels=[Level(5, 50, 4), *more], inner=16, edge=8).fit()
    rows, times = cell.sample(5, 1), np.linspace(20.0, 0.9 * cell.duration, 5)
    return model, [rows, times], np.diag(model.predict(rows, times))


def moving(p):
    """A wave that moves by its parameter a step, for five steps."""
    for step in range(5):
        yield np.sin(np.arange(8) * np.pi / 4 + p[0] * step)[None]


def online(mode):
    design = np.linspace(0.1, 0.5, 12)[:, None]
    settings = {"simulate": moving, "prior": design, "mode": mode, "width": 8, "buffer": FIFOBuffer(40)}
    trainer = OnlineTrainer("mlp" if mode == "direct" else "fno", **settings)
    model, p = trainer.fit(8, max_updates=20, validation_runs=2).model_, design[:5]
    if mode == "direct":
        return model, [np.column_stack([p, np.arange(5)])], np.stack([model.predict(p[i], [i])[0, 0] for i in range(5)])
    fields = RNG.normal(size=(5, 1, 8))
    return model, [fields, p], model.step(fields, p)


CASES = {
    "solver": solver,
    "solver, channel and two frames": lambda: solver("unet", Conditional(), history=2),
    "Koopman": koopman,
    "Koopman with controls": lambda: koopman(controls=True),
    "N-BEATS": lambda: forecaster(NBeats()),
    "LSTM": lambda: forecaster(LSTM()),
    "recurrent": recurrent,
    "pictures": regressor,
    "battery": lambda: battery(graphite_nmc()),
    "battery, from a time on": lambda: battery(None, Level(0, 50, 4, begin=600.0)),
    "online, direct": lambda: online("direct"),
    "online, stepping": lambda: online("autoregressive"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_pytorch_runs_answers_as_the_emulator(name, tmp_path):
    model, inputs, said = CASES[name]()
    model.export(tmp_path / "it.pt2")
    program = torch.export.load(tmp_path / "it.pt2").module()
    _, rows = model.to_module()
    given = [torch.as_tensor(x).to(row.dtype) for x, row in zip(inputs, rows.values(), strict=True)]
    found = program(*given).detach().numpy()
    np.testing.assert_allclose(found.reshape(said.shape), said, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", ["solver", "Koopman with controls", "battery"])
def test_what_onnx_runs_answers_as_the_emulator(name, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model, inputs, said = CASES[name]()
    model.export(tmp_path / "it.onnx")
    session = runtime.InferenceSession(tmp_path / "it.onnx")
    _, rows = model.to_module()
    given = {one: x.astype(rows[one].numpy().dtype) for one, x in zip(rows, inputs, strict=True)}
    (found,) = session.run(["said"], given)
    np.testing.assert_allclose(found.reshape(said.shape), said, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("grid", [(16,), (15,), (6,), (16, 12), (8, 16), (5, 6)])
def test_spectral_convolutions_are_products_of_matrices(grid):
    conv = SpectralConv(3, 2, 5, len(grid)).double()
    u = torch.as_tensor(RNG.normal(size=(4, 3, *grid)))
    torch.testing.assert_close(conv._by_matrices(u), conv(u), rtol=1e-9, atol=1e-12)


def test_an_export_leaves_the_emulator_as_it_was():
    model, inputs, said = solver()
    module, _ = model.to_module()
    for one in module.parameters():
        one.data.zero_()
    np.testing.assert_array_equal(model.step(*inputs)[:, -1:], said)


def test_files_that_no_program_is_written_to_are_refused(tmp_path, monkeypatch):
    model, *_ = solver()
    with pytest.raises(InvalidData, match=r"ends with .pt2 \(PyTorch\) or .onnx, got it.h5"):
        model.export(tmp_path / "it.h5")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match="onnx"):
        model.export(tmp_path / "it.onnx")
    assert not list(tmp_path.iterdir())
