"""Training online: learned fields, equal budgets, who waits for whom, runs that fail, real processes, and what is refused."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from locum.core.errors import InvalidData, OutsideRegion
from locum.emulate import FIFOBuffer, FIROBuffer, OnlineTrainer, ReservoirBuffer, SimulationFailed, StoredBuffer
from locum.problems.heat import HeatPlate

PRIOR = stats.uniform(1.0, 1.0)


def cooling(p):
    """Two numbers that fall, from p, at two rates."""
    for t in range(1, 11):
        yield np.array([p[0] * np.exp(-0.1 * t), p[0] * np.exp(-0.3 * t)])


def moving(p):
    """A wave of a phase that p[1] gives, which moves by p[0] cells a step; begins where it is."""
    x = 2 * np.pi * np.arange(16) / 16
    for t in range(6):
        yield np.sin(x - 2 * np.pi * p[0] * t / 16 + p[1])[None]


def slow(p):
    for field in cooling(p):
        time.sleep(0.01)
        yield field


def trainer(simulate=cooling, **changes):
    usual = {"width": 32, "lr": 1e-2, "buffer": ReservoirBuffer(200, 40), "validate_every": 100, "n_params": 1}
    return OnlineTrainer(**{"model": "mlp", "simulate": simulate, "prior": PRIOR, **usual, **changes})


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Processes that are started look for simulators by the name of their module."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


@pytest.fixture(scope="module")
def fitted():
    return trainer().fit(400, max_updates=400, validation_runs=12)


# ---------------------------------------------------------------------- learning
def test_a_direct_network_learns_the_fields_of_all_steps(fitted):
    P, fields = fitted.validation_
    assert fields.shape == (12, 10, 2)
    said = fitted.model_.predict(P)
    assert np.abs(said - fields).max() < 0.15
    np.testing.assert_allclose(fitted.model_.predict(P[:2], [0, 9]), said[:2][:, [0, 9]], atol=1e-6)
    np.testing.assert_allclose(fitted.errors(), ((said - fields) ** 2).mean(axis=(1, 2)))
    found = fitted.fidelity()
    assert found.n == 12
    assert found.lower <= found.value <= found.upper < 0.1
    assert fitted.history_.errors[-1] < 0.1 * fitted.history_.errors[0] or fitted.history_.errors[0] < 1e-3
    assert fitted.history_.updates == (100, 200, 300, 400)


@pytest.mark.parametrize("model", ["fno", "message-passing", "unet", "mlp"])
def test_a_stepping_network_learns_the_next_field(model):
    prior = [stats.uniform(0.0, 1.5), stats.uniform(0.0, 6.28)]
    found = trainer(moving, model=model, prior=prior, mode="autoregressive", shown=[0], width=16 if model != "mlp" else 64,
                    batch_size=16, lr=5e-3).fit(700, max_updates=250, validation_runs=8)  # fmt: skip
    P, fields = found.validation_
    still = (np.diff(fields, axis=1) ** 2).mean()
    one = found.errors(rollout=False).mean()
    assert one < 0.2 * still
    assert found.history_.errors[-1] == pytest.approx(one)
    said = found.model_.rollout(fields[:, 0], 5, P)
    assert said.shape == (5, 8, 1, 16)
    np.testing.assert_allclose(said[1], found.model_.step(said[0], P), atol=1e-5)
    per_run = np.sqrt(((np.moveaxis(said, 0, 1) - fields[:, 1:]) ** 2).mean(axis=(1, 2, 3)))
    assert found.fidelity().value == pytest.approx(per_run.mean())


def test_fields_have_units_that_are_known_beforehand():
    def hot(p):
        for field in cooling(p):
            yield 300 + 100 * field

    plain, scaled = trainer(), trainer(hot, field_mean=300.0, field_scale=100.0)
    for one in (plain, scaled):
        one.fit(50, max_updates=50, validation_runs=4)
    np.testing.assert_allclose(scaled.model_.predict([[1.5]]), 300 + 100 * plain.model_.predict([[1.5]]), atol=0.01)
    np.testing.assert_allclose(scaled.errors(), plain.errors(), rtol=1e-2)


def test_a_module_of_your_own_learns_and_is_not_touched():
    module = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    before = module[0].weight.detach().clone()
    found = trainer(model=module).fit(100, max_updates=100, validation_runs=4)
    assert (module[0].weight == before).all()
    assert found.fidelity().value < 0.5
    with pytest.raises(InvalidData, match=r"expected a network from \(n, \*\(2,\)\) to \(n, \*\(2,\)\), got \(2, 3\)"):
        trainer(model=torch.nn.Linear(2, 3)).fit(10, validation_runs=2)


# ---------------------------------------------------------------------- the same numbers
def test_the_same_seed_gives_the_same_numbers_and_another_others(fitted):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = clone(fitted).fit(400, max_updates=400, validation_runs=12)
    assert (torch.get_rng_state() == before[0]).all()
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert again.history_.errors == fitted.history_.errors
    other = trainer(random_state=1).fit(400, max_updates=100, validation_runs=12)
    assert other.history_.errors[0] != fitted.history_.errors[0]
    assert np.abs(other.validation_[0] - fitted.validation_[0]).max() > 0.01


def test_runs_held_out_are_none_of_those_learned_from(fitted):
    seen = []

    def noted(p):
        seen.append(float(p[0]))
        yield from cooling(p)

    trainer(noted).fit(30, max_updates=20, validation_runs=5)
    assert len(set(seen[:5]) & set(seen[5:])) == 0
    assert len(set(seen)) == len(seen)
    np.testing.assert_allclose(seen[:5], fitted.validation_[0][:5, 0])


# ---------------------------------------------------------------------- budgets and waiting
def test_stored_runs_are_learned_from_once_all_are_there_epoch_after_epoch():
    found = trainer(buffer=StoredBuffer()).fit(20, max_updates=100, validation_runs=4)
    told = found.stats_
    assert told.received == told.records_learned == 200
    assert told.read_counts == {5: 200}
    assert told.ticks == 20 + 100
    assert found.history_.unique == (200,)


def test_records_that_are_read_once_bound_the_updates():
    for buffer in (FIFOBuffer(100), FIROBuffer(100, 20)):
        found = trainer(buffer=buffer).fit(20, max_updates=1000, validation_runs=4)
        assert found.stats_.read_counts == {1: 200}
        assert found.history_.updates == (20,), "20 updates of 10 are all there are"


def test_a_reservoir_learns_on_where_simulations_are_slow():
    """Two records come for each update of ten: a buffer whose records are read once stands idle four turns of five."""
    once = trainer(buffer=FIROBuffer(200, 40), records_per_update=2).fit(400, max_updates=200, validation_runs=4)
    again = trainer(records_per_update=2).fit(400, max_updates=200, validation_runs=4)
    assert once.stats_.trainer_utilisation == pytest.approx(0.2, abs=0.02)
    assert again.stats_.trainer_utilisation > 0.85
    assert again.history_.ticks[-1] < 0.3 * once.history_.ticks[-1]
    assert max(again.stats_.read_counts) > 1


def test_simulations_wait_where_the_buffer_is_full():
    found = trainer(buffer=FIROBuffer(60, 40), records_per_update=30).fit(100, max_updates=50, validation_runs=4)
    assert found.stats_.client_utilisation == pytest.approx(1 / 3, abs=0.05)
    assert found.stats_.received <= 50 * 10 + 60


def test_a_longer_queue_means_older_records():
    short, long = (trainer(buffer=FIROBuffer(500, mark)).fit(400, max_updates=300, validation_runs=4) for mark in (10, 400))
    assert long.stats_.mean_age > 10 * short.stats_.mean_age
    assert 0 <= short.stats_.mean_age < 10


# ---------------------------------------------------------------------- runs that fail
def test_runs_that_are_not_finite_or_change_their_shape_are_set_apart_and_counted():
    seen = [0]

    def wild(p):
        seen[0] += 1
        number = seen[0]  # four are held out
        for t, field in enumerate(cooling(p)):
            if number == 8 and t == 3:
                yield np.array([np.nan, 1.0])
            elif number == 9 and t == 4:
                yield np.zeros(3)
            else:
                yield field

    found = trainer(wild, buffer=StoredBuffer()).fit(10, max_updates=10, validation_runs=4)
    assert found.stats_.quarantined == (3, 4)
    assert found.stats_.records_learned <= 8 * 10 + 3 + 4
    assert sum(found.stats_.read_counts.values()) == 8 * 10 + 3 + 4
    assert np.isfinite(found.errors()).all()


def test_a_run_that_fails_is_begun_again_and_gives_no_record_twice():
    failures = [2]

    def fails(p):
        for t, field in enumerate(cooling(p)):
            if t == 6 and failures[0] and p[0] > 1.5:
                failures[0] -= 1
                raise OSError("the licence server is away")
            yield field

    design = np.linspace(1.6, 1, 24)[:, None]  # the last two are held out
    found = trainer(fails, buffer=StoredBuffer(), prior=design).fit(20, max_updates=5, validation_runs=2)
    assert found.stats_.restarts == 2
    assert found.stats_.duplicates == 2 * 6
    assert sum(found.stats_.read_counts.values()) == 200
    failures[0] = 10**6
    told = r"run \d failed 3 times, the last time with: OSError.*parameters \[1\.[56]"
    with pytest.raises(SimulationFailed, match=told) as caught:
        trainer(fails, buffer=StoredBuffer(), prior=design).fit(20, max_updates=5, validation_runs=2)
    assert caught.value.run < 4


# ---------------------------------------------------------------------- at once
class Killed:
    """A simulator whose process is killed once, in the middle of a run."""

    def __init__(self, folder, simulate=cooling):
        self.folder, self.simulate = folder, simulate

    def __call__(self, p):
        for t, field in enumerate(self.simulate(p)):
            marker = Path(self.folder) / "killed"
            if t == 5 and p[0] > 1.7 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield field


@pytest.fixture
def cluster(request):
    """A small one for Ray, which ends with the test."""
    if request.param == "process":
        yield "process"
        return
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield "ray"
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # of Ray's own processes
@pytest.mark.parametrize("cluster", ["process", pytest.param("ray", marks=pytest.mark.slow)], indirect=True)
def test_simulations_in_processes_lose_no_record_where_one_is_killed(cluster, tmp_path):
    design = np.linspace(1.8, 1.0, 14)[:, None]
    (tmp_path / "killed").touch()  # not while those held out are simulated, the last two of the design
    usual = {"prior": design, "n_clients": 2, "max_restarts": 3}
    found = trainer(Killed(tmp_path), backend=cluster, buffer=FIROBuffer(60, 20), **usual)
    (tmp_path / "killed").unlink()
    found.fit(12, max_updates=1000, validation_runs=2)
    told = found.stats_
    assert (tmp_path / "killed").exists()
    assert told.restarts >= 1
    assert told.duplicates >= 0
    assert told.runs_done == 12
    assert told.read_counts == {1: 120}, "runs times steps, each once"
    assert told.received == 120 + told.duplicates
    assert 0 < told.trainer_utilisation <= 1
    assert 0 < told.client_utilisation <= 1
    serial = trainer(buffer=FIROBuffer(60, 20), **usual).fit(12, max_updates=1000, validation_runs=2)
    np.testing.assert_allclose(found.validation_[1], serial.validation_[1])


def test_a_training_ends_while_simulations_wait():
    """More is simulated than is learned from: processes wait at a full buffer, and are ended."""
    found = trainer(backend="process", n_clients=2, buffer=FIROBuffer(40, 10)).fit(500, max_updates=20, validation_runs=2)
    assert found.history_.updates == (20,)
    assert found.stats_.received < 500 * 10
    assert sum(reads * n for reads, n in found.stats_.read_counts.items()) == 200


def test_who_waits_is_told_where_simulations_are_slow():
    found = trainer(slow, backend="process", n_clients=2, buffer=FIFOBuffer(100)).fit(6, max_updates=100, validation_runs=2)
    assert found.stats_.trainer_utilisation < 0.9
    assert found.stats_.seconds > 0.2


def test_what_cannot_be_sent_to_a_process_is_told():
    with pytest.raises(InvalidData, match="need a simulator that can be pickled"):
        trainer(lambda p: cooling(p), backend="process").fit(3, validation_runs=2)


# ---------------------------------------------------------------------- the plate
def test_the_plate_is_learned_better_online_than_from_few_stored_runs():
    plate = HeatPlate(n=8, n_steps=20, dt=0.005)
    settings = {"model": "mlp", "simulate": plate, "prior": stats.uniform(100, 400), "n_params": 5, "field_mean": 300.0,
                "field_scale": 100.0, "width": 64, "n_clients": 10, "lr": 3e-3}  # fmt: skip
    stored = OnlineTrainer(buffer=StoredBuffer(), **settings).fit(10, max_updates=600, validation_runs=20)
    online = OnlineTrainer(buffer=ReservoirBuffer(400, 100), **settings).fit(600, max_updates=600, validation_runs=20)
    assert online.history_.errors[-1] < 0.5 * stored.history_.errors[-1]
    assert online.stats_.received > 10 * stored.stats_.received


# ---------------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"buffer": ReservoirBuffer(100, 95)}, "watermark \\+ batch_size of at most capacity=100, got 95 \\+ 10"),
        ({"buffer": "reservoir"}, "expected buffer= to be a buffer"),
        ({"model": "transformer"}, "model= to be one of mlp, fno"),
        ({"model": "fno"}, "expected model='mlp' in direct mode"),
        ({"mode": "autoregressive"}, r"shape \(fields, \*grid\)"),
        ({"backend": "threads"}, "backend= to be one of serial, process, ray"),
        ({"simulate": 3}, "simulate= to be callable, got int"),
        ({"prior": np.zeros((5, 1))}, "design of 12 rows or more"),
        ({"prior": "uniform"}, "expected prior= as a distribution"),
        ({"prior": stats.cauchy()}, "finite mean and spread"),
        ({"shown": [1]}, "among the 1 parameters"),
        ({"field_scale": 0.0}, "field_scale= above 0"),
        ({"n_clients": 0}, "n_clients= to be a whole number of 1"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes, message):
    with pytest.raises((InvalidData, ValueError), match=message):
        trainer(**changes).fit(10, max_updates=5, validation_runs=2)


@pytest.mark.parametrize(
    ("simulate", "message"),
    [
        (lambda p: iter([np.zeros(2)]), "two steps or more, all alike"),
        (lambda p: iter([np.zeros(2), np.zeros(3)]), "two steps or more, all alike"),
        (lambda p: iter([np.zeros(2), np.full(2, np.nan)]), "finite fields of the runs held out"),
    ],
)
def test_runs_held_out_must_be_alike_and_finite(simulate, message):
    with pytest.raises(InvalidData, match=message):
        trainer(simulate).fit(10, max_updates=5, validation_runs=2)


def test_parameters_outside_those_trained_on_are_warned_of():
    def cooling(p):
        for t in range(1, 6):
            yield np.broadcast_to(p[:1] * np.exp(-0.2 * t), (1, 4)).copy()

    design = np.column_stack([np.linspace(1, 2, 30), np.linspace(0, 1, 30)])
    for prior, outside in (([PRIOR, stats.norm(0, 1)], "p0 = 2.5 is above 2"), (design, "p0 = 2.5 is above 2")):
        for mode in ("direct", "autoregressive"):
            trainer = OnlineTrainer("mlp", cooling, prior, mode=mode, shown=[0], width=8, buffer=ReservoirBuffer(50, 5))
            model = trainer.fit(n_runs=25, max_updates=20, validation_runs=5).model_

            def use(p, model=model, mode=mode):
                return model.predict([p]) if mode == "direct" else model.rollout(np.ones((1, 1, 4)), 3, p)

            assert np.isfinite(use([2.0, 0.5])).all()
            with pytest.warns(OutsideRegion, match=f"1 of 1 rows of parameters lie outside those trained on: {outside}"):
                use([2.5, 0.5])
