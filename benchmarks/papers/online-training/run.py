"""Does a network that learns while simulations run generalise better than one that learns from stored runs?

A plate that is heated (24 by 24 cells, 50 steps, five temperatures) and a network from parameters and time to the field: 4000
updates of ten records each, offline on 50, 200 and 800 stored runs, and online with three buffers, to which ten records an
update come: what the streams see are the 800 runs of the last. Then a slow solver, two records an update; solvers in processes,
one of which is killed; and operators that step Burgers' equation. Errors are mean squares of scaled fields on 60 runs held out,
times 10,000; updates, learning rates and the first weights of a seed are the same throughout. Intervals are ranges over seeds.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.stats import uniform

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, median_of

from locum.emulate import FIFOBuffer, FIROBuffer, OnlineTrainer, ReservoirBuffer, StoredBuffer
from locum.problems.heat import HeatPlate
from locum.problems.pde import Burgers, RandomWaves

SCALE = 1e4
STEPS = 50


@dataclass(frozen=True)
class Size:
    """How much is simulated and learned."""

    updates: int
    runs: int
    held_out: int
    seeds: int
    operator_updates: int
    operator_seeds: int
    few: int


FULL = Size(4000, 800, 60, 5, 800, 3, 50)
QUICK = Size(400, 80, 20, 2, 60, 2, 8)


# ---------------------------------------------------------------------- solvers
@lru_cache(maxsize=4000)
def plate_run(p: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    return tuple(field.astype(np.float32) for field in HeatPlate(n_steps=STEPS)(p))


def plate(p: np.ndarray) -> Iterator[np.ndarray]:
    """The same run is not computed twice in this process: all ways of training get the same numbers."""
    yield from plate_run(tuple(np.asarray(p).tolist()))


@lru_cache(maxsize=4000)
def burgers_run(p: tuple[float, ...]) -> np.ndarray:
    """16 steps of 64 cells: viscosity 10 to the first of the parameters, two waves of given sizes and phases."""
    two = np.array([p[1:3]]), np.array([[1.0, 2.0]]), np.array([p[3:5]])
    states = RandomWaves(*two, np.array([False]), np.ones(1), np.full((1, 2), np.nan), 2.0)
    return Burgers(cells=128).solve(states, 10.0 ** p[0], n_steps=16, dt=0.05, n_grid=64)[0].astype(np.float32)


def burgers(p: np.ndarray) -> Iterator[np.ndarray]:
    yield from burgers_run(tuple(np.asarray(p).tolist()))


class Slow:
    """A plate whose steps take 20 ms; the process that computes it is killed once, where a file is not there yet."""

    def __init__(self, marker: str, wait: float = 0.02) -> None:
        self.marker, self.wait = marker, wait

    def __call__(self, p: np.ndarray) -> Iterator[np.ndarray]:
        for t, field in enumerate(HeatPlate(n_steps=STEPS)(p)):
            time.sleep(self.wait)
            if t == STEPS // 2 and p[0] > 300 and not Path(self.marker).exists():
                Path(self.marker).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield field


HEAT: dict[str, Any] = {
    "model": "mlp", "prior": uniform(100, 400), "n_params": 5, "field_mean": 300.0, "field_scale": 100.0, "n_clients": 10
}  # fmt: skip
BURGERS: dict[str, Any] = {
    "simulate": burgers, "mode": "autoregressive", "shown": [0], "n_clients": 10, "batch_size": 32, "records_per_update": 8,
    "prior": [uniform(-2.5, 2.5), uniform(0, 1), uniform(0, 1), uniform(0, 6.2832), uniform(0, 6.2832)], "lr": 3e-3,
}  # fmt: skip


def told(trainer: OnlineTrainer) -> dict[str, Any]:
    """Last error, the lowest on the way, and what went through the buffer."""
    stats, history = trainer.stats_, trainer.history_
    each = trainer.errors(rollout=False)
    return {
        "last": SCALE * float(each.mean()), "best": SCALE * min(history.errors),
        "worst run in twenty": SCALE * float(np.quantile(each, 0.95)),
        "unique": stats.records_learned, "ticks": stats.ticks, "mean age": stats.mean_age, "trainer": stats.trainer_utilisation,
        "clients": stats.client_utilisation, "seconds": stats.seconds, "curve": [SCALE * one for one in history.errors],
        "at": list(history.ticks), "megabytes": stats.bytes_received / 1e6,
    }  # fmt: skip


def column(rows: list[dict[str, Any]], name: str = "last") -> np.ndarray:
    return np.array([row[name] for row in rows])


def ratio(name: str, measure: str, above: np.ndarray, below: np.ndarray, **settings) -> Claim:
    return median_of(name, measure, above / below, direction="less", **settings)


# ---------------------------------------------------------------------- equal updates
def buffers(size: Size, seeds: range, device: str) -> Iterator[Claim]:
    # At the start and end of a quick run a watermark of 200 would be most of it.
    capacity, watermark = (1000, 200) if size is FULL else (300, 60)
    ways = {
        f"offline, {size.few} runs": (StoredBuffer(), size.few),
        f"offline, {4 * size.few} runs": (StoredBuffer(), 4 * size.few),
        "offline, all runs": (StoredBuffer(), size.runs),
        "FIFO": (FIFOBuffer(capacity), size.runs),
        "FIRO": (FIROBuffer(capacity, watermark), size.runs + size.runs // 4),  # as many updates, though some wait in it
        "reservoir": (ReservoirBuffer(capacity, watermark), size.runs),
    }
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for seed in seeds:
        for name, (buffer, runs) in ways.items():
            trainer = OnlineTrainer(simulate=plate, buffer=buffer, device=device, random_state=seed, **HEAT)
            rows[name].append(told(trainer.fit(runs, max_updates=size.updates, validation_runs=size.held_out)))
    few, all_runs = rows[f"offline, {size.few} runs"], rows["offline, all runs"]
    online = rows["reservoir"]
    yield ratio("learning online halves the error of learning from few stored runs", f"error over that offline on {size.few} "
                "runs", column(online), column(few), threshold=0.5, details=rows)  # fmt: skip
    apart = float(column(few).min() - column(online).max())
    yield Claim("seeds do not overlap", f"lowest error offline on {size.few} runs less the highest online", apart, apart, apart,
                len(seeds))  # fmt: skip
    yield ratio("so it does where the offline training stops at its best", f"error over the lowest offline on {size.few} runs",
                column(online), column(few, "best"), threshold=0.5)  # fmt: skip
    yield ratio("a reservoir is better than reading each record once, in random order", "error over that of FIRO",
                column(online), column(rows["FIRO"]), threshold=1.0)  # fmt: skip
    yield ratio("random order is better than the order of coming", "error of FIRO over that of FIFO", column(rows["FIRO"]),
                column(rows["FIFO"]), threshold=1.0)  # fmt: skip
    yield ratio("online is no worse than offline on as many runs, all stored", "error over that offline on all runs",
                column(online), column(all_runs), threshold=1.0, needed=False)  # fmt: skip


# ---------------------------------------------------------------------- a slow solver
def slow(size: Size, seeds: range, device: str) -> Iterator[Claim]:
    """Two records an update: FIRO waits for records, the reservoir learns on; a tick is the time in which two records come."""
    capacity, watermark = (1000, 200) if size is FULL else (300, 60)
    settings = {"simulate": plate, "records_per_update": 2, "device": device, **HEAT}
    rows: dict[str, list[dict[str, Any]]] = {"FIRO": [], "reservoir": []}
    share = []
    for seed in seeds:
        firo = OnlineTrainer(buffer=FIROBuffer(capacity, watermark), random_state=seed, **settings)
        firo.fit(size.runs + size.runs // 4, max_updates=size.updates, validation_runs=size.held_out)
        rows["FIRO"].append(told(firo))
        ticks = rows["FIRO"][-1]["ticks"]
        on = OnlineTrainer(buffer=ReservoirBuffer(capacity, watermark), validate_every=500, random_state=seed, **settings)
        rows["reservoir"].append(told(on.fit(size.runs, max_updates=ticks // 2, validation_runs=size.held_out)))
        row = rows["reservoir"][-1]
        far = rows["FIRO"][-1]["last"]
        reached = [tick for tick, error in zip(row["at"], row["curve"], strict=True) if error <= far]
        share.append(min(reached, default=np.inf) / ticks)
    yield median_of("where the solver is slow, a reservoir gets as far in less time", "time to the last error of FIRO, over "
                    "its time", share, direction="less", threshold=1.0, details=rows)  # fmt: skip
    yield median_of("FIRO stands idle there", "share of the time in which it learns", column(rows["FIRO"], "trainer"),
                    direction="less", threshold=0.25, needed=False)  # fmt: skip
    yield median_of("the reservoir does not", "share of the time in which it learns", column(rows["reservoir"], "trainer"),
                    threshold=0.9, needed=False)  # fmt: skip


# ---------------------------------------------------------------------- processes
def design(size: Size) -> np.ndarray:
    """Parameters of runs, and of four that are held out, in which no process is killed."""
    p = np.random.default_rng(3).uniform(100, 500, (size.runs // 20 + 4, 5))
    p[:3, 0], p[-4:, 0] = 400.0, 250.0
    return p


def trained_on(size: Size, simulate: Any, seed: int, device: str, backend: str) -> OnlineTrainer:
    settings = HEAT | {"n_clients": 4, "prior": design(size), "buffer": FIROBuffer(200, 50)}
    trainer = OnlineTrainer(simulate=simulate, backend=backend, device=device, random_state=seed, **settings)
    return trainer.fit(size.runs // 20, max_updates=10**6, validation_runs=4)


def in_turn(size: Size, seeds: range, device: str) -> list[float]:
    """Errors of each seed where simulations run here in turn."""
    return [SCALE * float(trained_on(size, plate, seed, device, "serial").errors().mean()) for seed in seeds]


def at_once(size: Size, seed: int, device: str, backend: str, serial: list[float]) -> Iterator[Claim]:
    """Four simulations in processes, one of which is killed."""
    with TemporaryDirectory() as folder:
        marker = Path(folder) / "killed"
        trainer = trained_on(size, Slow(str(marker)), seed, device, backend)
        killed = marker.exists()
    stats = trainer.stats_
    twice = sum(n for times, n in stats.read_counts.items() if times != 1)
    wrong = abs(sum(stats.read_counts.values()) - size.runs // 20 * STEPS) + twice
    details = {"restarts": stats.restarts, "duplicates discarded": stats.duplicates, "runs": stats.runs_done,
               "killed": killed, "trainer": stats.trainer_utilisation, "clients": stats.client_utilisation,
               "mean age": stats.mean_age}  # fmt: skip
    lost = float(wrong if killed and stats.restarts else np.inf)
    name = f"{backend}: no record is lost or learned twice though a process is killed"
    yield Claim(name, "records, against runs times steps", lost, lost, lost, 1, "less", 0.5, details=details)
    rate, most = stats.received / stats.seconds, 4 / 0.02
    yield Claim(f"{backend}: simulations do not wait for the network", "steps a second, over the most that the solvers make",
                rate / most, rate / most, rate / most, 1, threshold=0.5, needed=False,
                details={"steps a second": rate})  # fmt: skip
    error = SCALE * float(trainer.errors().mean())
    share = error / max(serial)
    yield Claim(f"{backend}: the error is within what seeds of the run in turn give", "error over the highest of them",
                share, share, share, 1, "less", 1.1, needed=False, details={"in turn": serial, "at once": error})  # fmt: skip


# ---------------------------------------------------------------------- operators
def operators(size: Size, seeds: range, device: str) -> Iterator[Claim]:
    runs = size.operator_updates * BURGERS["records_per_update"] // 16
    few = runs // 4
    capacity, watermark = (1000, 200) if size is FULL else (200, 40)
    for model, width in (("fno", 20), ("message-passing", 24)):
        reservoir = ReservoirBuffer(capacity, watermark)
        ways = {"few": (StoredBuffer(), few), "all": (StoredBuffer(), runs), "online": (reservoir, runs)}
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for seed in seeds:
            for name, (buffer, n) in ways.items():
                trainer = OnlineTrainer(model, buffer=buffer, width=width, device=device, random_state=seed, **BURGERS)
                trainer.fit(n, max_updates=size.operator_updates, validation_runs=size.held_out // 2)
                rows[name].append(told(trainer) | {"roll-out": SCALE * float(trainer.errors().mean())})
        yield ratio(f"{model}: online is better than offline on {few} runs", "error of a step, over that offline",
                    column(rows["online"]), column(rows["few"]), threshold=1.0, details=rows)  # fmt: skip
        yield ratio(f"{model}: roll-outs are better, too", "error of roll-outs, over that offline",
                    column(rows["online"], "roll-out"), column(rows["few"], "roll-out"), threshold=1.0,
                    needed=False)  # fmt: skip
        yield ratio(f"{model}: online is no worse than offline on as many runs, all stored",
                    "error of a step, over that offline", column(rows["online"]), column(rows["all"]), threshold=1.0,
                    needed=False)  # fmt: skip


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    size = QUICK if quick else FULL
    seeds = range(seed, seed + size.seeds)
    yield from buffers(size, seeds, device)
    yield from slow(size, seeds[:3], device)
    serial = in_turn(size, seeds, device)
    yield from at_once(size, seed, device, "process", serial)
    if not quick:
        try:
            import ray
        except ImportError:  # a machine without it measures processes alone
            pass
        else:
            ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
            yield from at_once(size, seed, device, "ray", serial)
            ray.shutdown()
    yield from operators(size, range(seed, seed + size.operator_seeds), device)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
