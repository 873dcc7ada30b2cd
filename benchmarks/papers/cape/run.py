"""Does knowing the parameters serve a neural solver, also at values never trained on, and does the curriculum?

Advection (exact) and Burgers (finite volumes), seven trained values of the parameter, log-spaced, three values between them and
one outside; test runs have initial states of their own. A plain Fourier operator, one with channel attention (without a norm,
and with the paper's), one with the parameter as a channel, all of about as many weights, and a plain one that sees two frames;
equal updates. Then teacher forcing, roll-out and push-forward against the curriculum on Burgers, and where the solver may be
used; and the solver itself at as few cells as make it as fast. On a GPU: 64 cells, windows of 5 steps and five seeds, several
trainings at a time; on a CPU: 32 cells, windows of 4 steps and three seeds. Ratios are of mean errors of roll-outs of 20 steps:
nRMSE for advection, and RMSE for Burgers, whose fields die away where the viscosity is large, so that errors relative to them
say nothing; intervals are over seeds. Trainings that are done on a CPU are kept in ~/.cache/locum/cape, and a run that was
stopped goes on from there.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, Kept, main, median_of

from locum.core.errors import OutsideRegion
from locum.emulate import CAPE, Conditional, Curriculum, NeuralPDESolver, RolloutErrors, coarse_solvers
from locum.nets import TrainingFailed
from locum.problems.pde import Advection, Burgers, RandomWaves

STEPS = 20
MEASURES = ("nRMSE", "nRMSE last", "nRMSE persistence", "RMSE", "RMSE last")
TOGETHER = 8  # trainings on one GPU, which one alone leaves idle most of the time
MODELS: dict[str, dict[str, Any]] = {
    "cape": {"parameters": CAPE()},
    "cape, layer norm": {"parameters": CAPE(norm="layer")},
    "conditional": {"parameters": Conditional(), "width": 36},
    "plain": {"width": 36},
    "plain, two frames": {"width": 36, "history": 2},
}
SCHEDULES: dict[str, dict[str, Any]] = {
    name: {"parameters": CAPE(), "curriculum": Curriculum(name)} for name in ("teacher-forcing", "rollout", "push-forward")
}
Map = Callable[[Callable[..., Any], Iterable[Any]], Iterator[Any]]


@dataclass(frozen=True)
class Equation:
    """What is solved, at which values."""

    name: str
    solver: Advection | Burgers
    dt: float
    seen: tuple[float, ...]
    between: tuple[float, ...]
    outside: float
    measure: str
    tolerance: float

    @property
    def values(self) -> np.ndarray:
        return np.sort([*self.seen, *self.between, self.outside])


EQUATIONS = (
    Equation("advection", Advection(), 0.05, tuple(np.geomspace(0.2, 4.0, 7)), (0.42, 1.1, 3.0), 6.0, "nRMSE", 0.1),
    Equation("Burgers", Burgers(cells=256), 0.1, tuple(np.geomspace(0.002, 2.0, 7)), (0.011, 0.11, 1.1), 4.0, "RMSE", 0.05),
)


@dataclass(frozen=True)
class Size:
    """How much is trained and tested."""

    runs: int
    test: int
    grid: int
    window: int
    epochs: int
    seeds: int
    batch: int


QUICK = Size(12, 6, 32, 4, 12, 2, 28)
CPU = Size(40, 40, 32, 5, 70, 3, 50)
GPU = Size(200, 40, 64, 6, 100, 5, 128)


def solved(equation: Equation, n: int, grid: int, seed: int, value: float) -> tuple[np.ndarray, np.ndarray]:
    """n runs at a value; each value has initial states of its own."""
    states = RandomWaves.draw(n, random_state=1000 * seed + equation.values.tolist().index(value))
    U = equation.solver.solve(states, value, n_steps=STEPS, dt=equation.dt, n_grid=grid)
    return U.astype(np.float32), np.full((n, 1), value)


def data(equation: Equation, size: Size, each: Map) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Runs to train on, to test on, and to see whether what was said of the tested ones holds."""
    found = {}
    for name, values, n, seed in (("train", equation.seen, size.runs, 1), ("test", equation.values, size.test, 2),
                                  ("again", equation.values, size.test, 3)):  # fmt: skip
        parts = list(each(partial(solved, equation, n, size.grid, seed), list(values)))
        U, P = zip(*parts, strict=True)
        found[name] = np.concatenate(U), np.concatenate(P)
    return found


# ---------------------------------------------------------------------- one training
@dataclass(frozen=True)
class Trained:
    """What came of a training: mean errors at each value."""

    errors: dict[str, list[float]]
    again: list[float]
    upper: list[float]
    trusted: list[bool]
    ranges: list[tuple[float, float]]
    diverged: list[int]
    weights: int
    seconds: float


def trained(equation: Equation, size: Size, runs: dict[str, Any], device: str, job: tuple[dict[str, Any], int]) -> Trained:
    """Train with some settings and a seed; a training that fails has the worst errors there are."""
    import torch

    settings, seed = job
    if device != "cpu":
        torch.set_num_threads(1)
    window = size.window + settings.get("history", 1) - 1  # as many steps, whatever is seen
    model = NeuralPDESolver(**{
        "window": window, "epochs": size.epochs, "batch_size": size.batch, "device": device, "random_state": seed, **settings
    })  # fmt: skip
    try:
        model.fit(*runs["train"])
    except TrainingFailed:
        worst = [10.0] * len(equation.values)
        return Trained(dict.fromkeys(MEASURES, worst), worst, worst, [False] * len(worst), [], [size.test] * len(worst), 0, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideRegion)  # one value is outside on purpose
        errors, again = model.fidelity(*runs["test"]), model.fidelity(*runs["again"])
    region = errors.trust_region(equation.tolerance, measure=equation.measure)
    return Trained(
        {name: means(errors, name) for name in MEASURES}, means(again, equation.measure),
        region.upper.tolist(), region.trusted.tolist(), list(region.ranges),
        np.bincount(errors.of[errors.diverged], minlength=len(errors.values)).tolist(), model.n_parameters_,
        model.history_.seconds,
    )  # fmt: skip


def plain(work: Callable[..., Trained], job: tuple[dict[str, Any], int]) -> dict[str, Any]:
    return asdict(work(job))


def means(errors: RolloutErrors, name: str) -> list[float]:
    return [float(errors.by_run[name][errors.of == i].mean()) for i in range(len(errors.values))]


def at(equation: Equation, found: list[Trained], where: str, name: str | None = None) -> np.ndarray:
    """The equation's measure, or another, as a mean over values, one a seed.

    Those "seen", those "between", the one "outside", or "inside", the first two.
    """
    seen, between = np.isin(equation.values, equation.seen), np.isin(equation.values, equation.between)
    rows = {"seen": seen, "between": between, "outside": ~seen & ~between, "inside": seen | between}[where]
    return np.array([np.mean(np.array(one.errors[name or equation.measure])[rows]) for one in found])


def ratio(name: str, measure: str, above: np.ndarray, below: np.ndarray, **settings) -> Claim:
    return median_of(name, measure, above / below, direction="less", **settings)


# ---------------------------------------------------------------------- claims
def parameters(e: Equation, found: dict[str, list[Trained]]) -> Iterator[Claim]:
    places = ("seen", "between", "outside")
    told: dict[str, Any] = {name: {where: at(e, rows, where).tolist() for where in places} for name, rows in found.items()}
    relative = {name: {where: at(e, rows, where, "nRMSE").tolist() for where in places} for name, rows in found.items()}
    relative["persistence"] = {where: [float(at(e, found["plain"], where, "nRMSE persistence")[0])] for where in places}
    details = {e.measure: told, "nRMSE": relative, "weights": {name: rows[0].weights for name, rows in found.items()},
               "seconds of a training": {name: [one.seconds for one in rows] for name, rows in found.items()}}  # fmt: skip

    def over(name: str, where: str, other: str) -> tuple[np.ndarray, np.ndarray]:
        return at(e, found[name], where), at(e, found[other], where)

    yield ratio(f"{e.name}: attention serves at values never trained on, between those that were",
                f"{e.measure} over that of the plain operator", *over("cape", "between", "plain"), threshold=0.7,
                details=details)  # fmt: skip
    for name in ("cape", "conditional"):
        yield ratio(f"{e.name}: {name} is far below the plain operator at trained values",
                    f"{e.measure} over that of the plain operator", *over(name, "seen", "plain"), threshold=0.5)  # fmt: skip
    for where in ("seen", "between", "outside"):
        yield ratio(f"{e.name}: attention is better than the parameter as a channel, values: {where}",
                    f"{e.measure} over that of the conditional operator", *over("cape", where, "conditional"),
                    threshold=1.0, needed=False)  # fmt: skip
    yield ratio(f"{e.name}: attention without the layer norm is better than with it", f"{e.measure} at values between, "
                "over that with layer norm", *over("cape", "between", "cape, layer norm"), threshold=1.0,
                needed=False)  # fmt: skip
    yield ratio(f"{e.name}: attention is better than a second frame, values between", f"{e.measure} over that of two frames",
                *over("cape", "between", "plain, two frames"), threshold=1.0, needed=False)  # fmt: skip
    worst = [max((a for a, good in zip(one.again, one.trusted, strict=True) if good), default=np.inf) for one in found["cape"]]
    trust = {"ranges": [one.ranges for one in found["cape"]], "upper": [one.upper for one in found["cape"]]}
    yield median_of(f"{e.name}: where the solver may be used, other initial states agree", f"largest mean {e.measure} at a "
                    "trusted value, over the tolerance", np.array(worst) / e.tolerance, direction="less", threshold=1.0,
                    needed=False, details={"tolerance": e.tolerance, **trust})  # fmt: skip


def first_guess(e: Equation, size: Size, device: str, seed: int) -> float:
    """The module alone, trained on single short steps: what it adds is -speed times slope times step."""
    dt, runs = 0.01, min(size.runs, 100)
    states = RandomWaves.draw(len(e.seen) * runs, bent=0.0, random_state=7)
    speeds = np.repeat(e.seen, runs)
    U = e.solver.solve(states, speeds, n_steps=2, dt=dt, n_grid=size.grid)
    fresh, p = RandomWaves.draw(60, bent=0.0, random_state=8), np.geomspace(0.3, 3.0, 60)
    u = e.solver.solve(fresh, p, n_steps=1, dt=dt, n_grid=size.grid)[:, 0]
    slope = np.fft.irfft(np.fft.rfft(u[:, 0]) * 2j * np.pi * np.arange(size.grid // 2 + 1), n=size.grid)
    model = NeuralPDESolver(parameters=CAPE(), warmup_epochs=size.epochs, epochs=size.epochs, device=device,
                            batch_size=size.batch, random_state=seed).fit(U, speeds[:, None])  # fmt: skip
    change = (model.first_guess(u, p[:, None]).fields[:, 0] - u)[:, 0]
    known = -p[:, None] * slope * dt
    return float(np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(change, known, strict=True)]))


def curriculum(e: Equation, found: dict[str, list[Trained]]) -> Iterator[Claim]:
    last = {name: at(e, rows, "inside", "RMSE last") for name, rows in found.items()}
    details = {"RMSE last": {name: one.tolist() for name, one in last.items()},
               "diverged": {name: [one.diverged for one in rows] for name, rows in found.items()}}  # fmt: skip
    measure = "RMSE of the last frame, over that with {}"
    pair = last["cape"], last["teacher-forcing"]
    yield ratio("the curriculum is no worse than true fields throughout", measure.format("teacher forcing"), *pair,
                threshold=1.0, details=details)  # fmt: skip
    yield ratio("it is better by a fifth", measure.format("teacher forcing"), *pair, threshold=0.8, needed=False)
    for name in ("rollout", "push-forward"):
        yield ratio(f"it is better than {name} from the start", measure.format(name), last["cape"], last[name],
                    threshold=1.0, needed=False)  # fmt: skip
    inside = e.values != e.outside
    n = float(sum(np.sum(np.array(one.diverged)[inside]) for one in found["cape"]))
    name = "no run of the curriculum diverges at values inside"
    yield Claim(name, "roll-outs that diverged", n, n, n, len(pair[0]), "less", 0.5)


def as_fast(e: Equation, size: Size, runs: dict[str, Any], device: str) -> dict[str, Any]:
    """Seconds of roll-outs of the network, whatever it has learned, and what the solver does at fewer cells; one thread."""
    import torch

    U, P = (one[np.isin(runs["test"][1][:, 0], [*e.seen, *e.between])] for one in runs["test"])
    shape = {"window": size.window, "batch_size": size.batch, "device": device}
    model = NeuralPDESolver(parameters=CAPE(), warmup_epochs=0, epochs=1, **shape)
    model.fit(*(one[:: len(runs["train"][0]) // 14] for one in runs["train"]))
    torch.set_num_threads(1)
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        model.rollout(U[:, 0], STEPS, P)
        spent.append(time.perf_counter() - began)
    waves = {v: RandomWaves.draw(size.test, random_state=2000 + e.values.tolist().index(v)) for v in np.unique(P)}

    def solve(cells: int) -> np.ndarray:
        solver = Burgers(cells)
        return np.concatenate([solver.solve(w, v, n_steps=STEPS, dt=e.dt, n_grid=size.grid) for v, w in waves.items()])

    found = coarse_solvers(solve, [size.grid, 2 * size.grid, 4 * size.grid], U, P)
    which = found.within(float(np.median(spent)), e.measure) or found.solvers[0]
    table = {str(one.setting): {"seconds": one.seconds, e.measure: one.error(e.measure)} for one in found.solvers}
    return {"network": sorted(spent), "solver": table, "as fast": str(which.setting)}


def beside_the_solver(e: Equation, told: dict[str, Any], found: list[Trained]) -> Claim:
    """At equal seconds; where even the coarsest solver is slower, that one."""
    own, its = at(e, found, "inside"), told["solver"][told["as fast"]][e.measure]
    return ratio(f"{e.name}: the network is nearer than the solver itself at {told['as fast']} cells, in the same seconds",
                 f"{e.measure} over that of the solver", own, np.full(len(own), its), threshold=1.0, needed=False,
                 details=told)  # fmt: skip


@contextmanager
def side_by_side(device: str) -> Iterator[Map]:
    """One after the other here; several at a time where a GPU does the work."""
    if device == "cpu":
        yield map
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of what is started
    with ProcessPoolExecutor(TOGETHER, multiprocessing.get_context("spawn")) as pool:
        yield pool.map


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    size = QUICK if quick else CPU if device == "cpu" else GPU
    seeds, kept = range(seed, seed + size.seeds), Kept("cape", quick, [asdict(size), "floor 0.1"])
    with side_by_side(device) as each:
        for e in EQUATIONS:
            runs = data(e, size, each)
            settings = MODELS | (SCHEDULES if e.name == "Burgers" else {})
            names = list(product(settings, seeds))
            work = partial(trained, e, size, runs, device)
            if device == "cpu":
                done = [Trained(**kept([e.name, *job], partial(plain, work, (settings[job[0]], job[1])))) for job in names]
            else:
                done = list(each(work, [(settings[name], one) for name, one in names]))
            found = {name: done[i * len(seeds) : (i + 1) * len(seeds)] for i, name in enumerate(settings)}
            yield from parameters(e, {name: found[name] for name in MODELS})
            if e.name == "Burgers":
                yield from curriculum(e, {name: found[name] for name in ("cape", *SCHEDULES)})
                told = kept([e.name, "the solver as fast", device], partial(as_fast, e, size, runs, device))
                yield beside_the_solver(e, told, found["cape"])
        alike = list(each(partial(first_guess, EQUATIONS[0], size, device), seeds))
        yield median_of("the first guess moves fields by the derivative that the speed weighs", "correlation of the change "
                        "with -speed times slope times step", alike, threshold=0.9)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
