"""Does knowing the parameters serve a neural solver, also at values never trained on, and does the curriculum?

Advection (exact) and Burgers (finite volumes), seven trained values of the parameter, log-spaced, three values between them and
one outside; test runs have initial states of their own. A plain Fourier operator, one with channel attention, one with the
parameter as a channel, all of about as many weights, and a plain one that sees two frames; equal updates. Then teacher forcing,
roll-out and push-forward against the curriculum on Burgers, and where the solver may be used. On a GPU: 64 cells, 20 steps
unrolled and five seeds; on a CPU: 32 cells, windows of 4 steps and three seeds. Ratios are of mean nRMSE of roll-outs of 20
steps; intervals are over seeds.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, median_of

from locum.core.errors import OutsideRegion
from locum.emulate import CAPE, Conditional, Curriculum, NeuralPDESolver, RolloutErrors
from locum.nets import TrainingFailed
from locum.problems.pde import Advection, Burgers, RandomWaves

STEPS = 20
MODELS = {
    "cape": {"parameters": CAPE()},
    "conditional": {"parameters": Conditional(), "width": 36},
    "plain": {"width": 36},
    "plain, two frames": {"width": 36, "history": 2},
}
SCHEDULES = ("teacher-forcing", "rollout", "push-forward")


@dataclass(frozen=True)
class Equation:
    """What is solved, at which values."""

    name: str
    solver: Advection | Burgers
    dt: float
    seen: np.ndarray
    between: tuple[float, ...]
    outside: float

    def runs(self, values, n: int, grid: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """n runs at each value."""
        p = np.repeat(np.asarray(values, dtype=float), n)
        states = RandomWaves.draw(len(p), random_state=seed)
        return self.solver.solve(states, p, n_steps=STEPS, dt=self.dt, n_grid=grid), p[:, None]


EQUATIONS = (
    Equation("advection", Advection(), 0.05, np.geomspace(0.2, 4.0, 7), (0.42, 1.1, 3.0), 6.0),
    Equation("Burgers", Burgers(cells=256), 0.1, np.geomspace(0.002, 2.0, 7), (0.011, 0.11, 1.1), 4.0),
)


@dataclass(frozen=True)
class Size:
    """How much is trained and tested."""

    runs: int
    test: int
    grid: int
    window: int | None
    epochs: int
    seeds: int
    batch: int = 50


QUICK = Size(12, 6, 32, 4, 12, 2, 28)
CPU = Size(60, 20, 32, 5, 100, 3)
GPU = Size(200, 50, 64, None, 60, 5)


@dataclass
class Bench:
    """Data of one equation, and what is trained on them."""

    equation: Equation
    size: Size
    device: str
    seed: int

    def __post_init__(self) -> None:
        e, s = self.equation, self.size
        self.train = e.runs(e.seen, s.runs, s.grid, 100)
        self.values = np.sort([*e.seen, *e.between, e.outside])
        self.test = e.runs(self.values, s.test, s.grid, 101)

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.size.seeds)

    def solver(self, seed: int, **settings) -> NeuralPDESolver:
        s, history = self.size, settings.get("history", 1)
        window = None if s.window is None else s.window + history - 1  # as many steps, whatever is seen
        usual = {"window": window, "epochs": s.epochs, "batch_size": s.batch, "device": self.device, "random_state": seed}
        return NeuralPDESolver(**{**usual, **settings}).fit(*self.train)

    def errors(self, model: NeuralPDESolver, test=None) -> RolloutErrors:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OutsideRegion)  # one value is outside on purpose
            return model.fidelity(*(self.test if test is None else test))

    def row(self, errors: RolloutErrors, measure: str = "nRMSE") -> dict[str, float]:
        """Means at trained values, between them, and outside."""
        mean = np.array([errors.by_run[measure][errors.of == i].mean() for i in range(len(errors.values))])
        e = self.equation
        seen, between = np.isin(self.values, e.seen), np.isin(self.values, e.between)
        found = {"seen": mean[seen].mean(), "between": mean[between].mean(), "outside": mean[~seen & ~between].mean()}
        return {name: float(value) for name, value in found.items()} | {"diverged": int(errors.diverged.sum())}


def ratio(name: str, measure: str, above, below, **settings) -> Claim:
    return median_of(name, measure, np.array(above) / np.array(below), direction="less", **settings)


# ---------------------------------------------------------------------- parameters
def parameters(bench: Bench) -> Iterator[Claim]:
    """The four networks; what is left of them is the errors of the one with channel attention."""
    rows: dict[str, list] = {name: [] for name in MODELS}
    weights = {}
    for name, settings in MODELS.items():
        for seed in bench.seeds:
            model = bench.solver(seed, **settings)
            errors = bench.errors(model)
            rows[name].append(bench.row(errors))
            if name == "cape":
                bench.kept[seed] = model, errors
        weights[name] = model.n_parameters_
    on, still = bench.equation.name, bench.row(errors, "nRMSE persistence")

    def mean(name, where):
        return [row[where] for row in rows[name]]

    details = {"nRMSE": rows, "weights": weights, "persistence": still, "values": bench.values.tolist()}
    yield ratio(f"{on}: attention serves at values never trained on, between those that were",
                "nRMSE over that of the plain operator", mean("cape", "between"), mean("plain", "between"), threshold=0.7,
                details=details)  # fmt: skip
    for name in ("cape", "conditional"):
        yield ratio(f"{on}: {name} is far below the plain operator at trained values",
                    "nRMSE over that of the plain operator", mean(name, "seen"), mean("plain", "seen"), threshold=0.5)  # fmt: skip
    for where in ("seen", "between", "outside"):
        yield ratio(f"{on}: attention is better than the parameter as a channel, values: {where}",
                    "nRMSE over that of the conditional operator", mean("cape", where), mean("conditional", where),
                    threshold=1.0, needed=False)  # fmt: skip
    yield ratio(f"{on}: attention is better than a second frame, values between", "nRMSE over that of the plain operator "
                "of two frames", mean("cape", "between"), mean("plain, two frames", "between"), threshold=1.0, needed=False)  # fmt: skip


def first_guess(bench: Bench, epochs: int) -> Claim:
    """The module alone, trained on single short steps: what it adds is -speed times slope times step."""
    e, s, dt, found = bench.equation, bench.size, 0.01, []
    states = RandomWaves.draw(7 * s.runs, bent=0.0, random_state=7)
    speeds = np.repeat(e.seen, s.runs)
    U = e.solver.solve(states, speeds, n_steps=2, dt=dt, n_grid=s.grid)
    fresh = RandomWaves.draw(60, bent=0.0, random_state=8)
    p = np.geomspace(0.3, 3.0, 60)
    u = e.solver.solve(fresh, p, n_steps=1, dt=dt, n_grid=s.grid)[:, 0]
    slope = np.fft.irfft(np.fft.rfft(u[:, 0]) * 2j * np.pi * np.arange(s.grid // 2 + 1), n=s.grid)
    for seed in bench.seeds:
        model = NeuralPDESolver(parameters=CAPE(), warmup_epochs=epochs, epochs=epochs, device=bench.device,
                                batch_size=s.batch, random_state=seed).fit(U, speeds[:, None])  # fmt: skip
        change = (model.first_guess(u, p[:, None]).fields[:, 0] - u)[:, 0]
        known = -p[:, None] * slope * dt
        found.append(float(np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(change, known, strict=True)])))
    return median_of("the first guess moves fields by the derivative that the speed weighs", "correlation of the change with "
                     "-speed times slope times step", found, threshold=0.9)  # fmt: skip


# ---------------------------------------------------------------------- curriculum
def curriculum(bench: Bench) -> Iterator[Claim]:
    """Schedules at equal updates; the first of them, "tanh", was trained above."""
    last, lost = {"curriculum": []}, dict.fromkeys(SCHEDULES, 0)
    lost["curriculum"] = 0
    for seed in bench.seeds:
        _, errors = bench.kept[seed]
        last["curriculum"].append(bench.row(errors, "nRMSE last"))
        lost["curriculum"] += last["curriculum"][-1]["diverged"]
    for name in SCHEDULES:
        last[name] = []
        for seed in bench.seeds:
            try:
                errors = bench.errors(bench.solver(seed, parameters=CAPE(), curriculum=Curriculum(name)))
            except TrainingFailed:
                lost[name] += len(bench.test[0])
                last[name].append({"seen": 10.0, "between": 10.0, "outside": 10.0, "diverged": len(bench.test[0])})
                continue
            last[name].append(bench.row(errors, "nRMSE last"))
            lost[name] += last[name][-1]["diverged"]

    def both(name):
        return [0.5 * (row["seen"] + row["between"]) for row in last[name]]

    yield ratio("the curriculum is no worse than true fields throughout", "nRMSE of the last frame, over that with teacher "
                "forcing", both("curriculum"), both("teacher-forcing"), threshold=1.0, details={"last": last, "lost": lost})  # fmt: skip
    yield ratio("it is better by a fifth", "nRMSE of the last frame, over that with teacher forcing", both("curriculum"),
                both("teacher-forcing"), threshold=0.8, needed=False)  # fmt: skip
    for name in ("rollout", "push-forward"):
        yield ratio(f"it is better than {name} from the start", f"nRMSE of the last frame, over that with {name}",
                    both("curriculum"), both(name), threshold=1.0, needed=False)  # fmt: skip
    n = float(lost["curriculum"])
    yield Claim("no run of the curriculum diverges", "roll-outs that diverged", n, n, n, len(bench.seeds), "less", 0.5)


# ---------------------------------------------------------------------- trust
def trust(bench: Bench, tolerance: float) -> Claim:
    """Where the bound is below the tolerance, fresh initial states are too."""
    e, s, worst, told = bench.equation, bench.size, [], []
    fresh = e.runs(bench.values, s.test, s.grid, 102)
    for seed in bench.seeds:
        model, errors = bench.kept[seed]
        region = errors.trust_region(tolerance)
        again = bench.errors(model, fresh).fidelity()
        means = [one.value for one, good in zip(again, region.trusted, strict=True) if good]
        worst.append(max(means, default=np.inf) / tolerance)
        told.append({"ranges": region.ranges, "upper": region.upper.tolist()})
    return median_of(f"{e.name}: where the solver may be used, other initial states agree", "largest mean nRMSE at a trusted "
                     f"value, over the tolerance of {tolerance:g}", worst, direction="less", threshold=1.0,
                     needed=False, details={"trust": told})  # fmt: skip


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    size = QUICK if quick else CPU if device == "cpu" else GPU
    benches = [Bench(one, size, device, seed) for one in EQUATIONS]
    for bench in benches:
        bench.kept = {}
        yield from parameters(bench)
    yield first_guess(benches[0], size.epochs)
    yield from curriculum(benches[1])
    for bench in benches:
        yield trust(bench, 0.1)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
