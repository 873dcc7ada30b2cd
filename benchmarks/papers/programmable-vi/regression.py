"""Regressions on real data: estimators of many flips, and how far guides stand in for posteriors."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from claims import Claim, over_seeds
from sklearn.datasets import load_breast_cancer, load_diabetes
from torch.distributions import Bernoulli, Independent, MultivariateNormal, Normal

from locum.infer.programmable_vi import (
    Enumerate,
    Laplace,
    MeasureValued,
    Objective,
    Prior,
    Program,
    Reinforce,
    elbo,
    evidence_gap,
    pareto_k,
    program,
    sample,
)
from locum.nets import seeded

FEW = 6  # columns at which all subsets can still be enumerated
ESTIMATORS = {
    "ENUM": Enumerate(),
    "MVD": MeasureValued(),
    "REINFORCE, leave-one-out": Reinforce("leave-one-out"),
    "REINFORCE": Reinforce(),
}
NOISE, PRIOR = 0.7, 0.5


def cancer(columns: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    return torch.tensor(X[:, :columns], dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def entries(law: Any) -> Independent:
    return Independent(law, 1)


def selection(X: torch.Tensor) -> Program:
    """Logistic regression in which a flip for each column says whether it is in."""
    d = X.shape[1]

    @program
    def model():
        kept = sample("in", entries(Bernoulli(torch.full((d,), 0.2))))
        weights = sample("w", entries(Normal(torch.zeros(d), torch.ones(d))))
        sample("y", entries(Bernoulli(logits=(kept * weights) @ X.T)))

    return model


def slab(strategy: Any) -> Program:
    @program
    def guide(p):
        sample("in", entries(Bernoulli(logits=p["k"])), strategy)
        sample("w", entries(Normal(p["m"], p["s"].exp())))

    return guide


def begin(d: int) -> dict[str, torch.Tensor]:
    return {"k": torch.zeros(d), "m": torch.zeros(d), "s": torch.full((d,), -1.0)}


def spread(bound: Objective, params: Any, repeats: int, particles: int) -> tuple[float, float]:
    """Variance of the gradient of the flips, summed over columns, and seconds an estimate."""
    grads, seconds = [], []
    for seed in range(repeats):
        at = time.process_time()
        grads.append(bound.value_and_grad(params, particles=particles, random_state=seed).grads["k"])
        seconds.append(time.process_time() - at)
    return float(torch.stack(grads).var(0).sum()), statistics.median(seconds)


def variances(quick: bool, seed: int) -> Iterator[Claim]:
    X, y = cancer(FEW)
    model, obs = selection(X), {"y": y}
    found = {
        name: spread(elbo(model, slab(one), obs), begin(FEW), 100 if quick else 300, 8) for name, one in ESTIMATORS.items()
    }
    logs = [math.log10(max(variance, 1e-12)) for variance, _ in found.values()]
    yield Claim(
        "Less variance for more work: ENUM, MVD, REINFORCE with and without a baseline",
        f"smallest rise in log10 variance from one to the next, {FEW} flips",
        min(np.diff(logs)),
        min(np.diff(logs)),
        max(np.diff(logs)),
        seeds=100 if quick else 300,
        decided_by="effect",
        details={name: {"variance": v, "seconds": s, "variance x seconds": v * s} for name, (v, s) in found.items()},
    )
    yield from at_equal_time(quick, seed, FEW, "ENUM", 0.7 if quick else 1.5)
    yield from at_equal_time(quick, seed, 30, "MVD", 1.5 if quick else 3.0)


def at_equal_time(quick: bool, seed: int, columns: int, richer: str, seconds: float) -> Iterator[Claim]:
    """Adam for the same processor time, as many steps as fit in."""
    X, y = cancer(columns)
    model, obs, seeds = selection(X), {"y": y}, 2 if quick else 5
    ends: dict[str, list[float]] = {}
    for name in (richer, "REINFORCE, leave-one-out", "REINFORCE"):
        bound = elbo(model, slab(ESTIMATORS[name]), obs)
        ends[name] = [trained(bound, columns, seconds, seed + one) for one in range(seeds)]
    yield Claim(
        f"At equal time {richer} ends above REINFORCE, {columns} flips",
        f"nats of ELBO after {seconds:g} s of processor time",
        *over_seeds(np.subtract(ends[richer], ends["REINFORCE"])),
        seeds=seeds,
        needed=False,
        details=ends,
    )


def trained(bound: Objective, columns: int, seconds: float, seed: int) -> float:
    """ELBO after so many seconds of processor time of Adam."""
    params, stop, number = begin(columns), time.process_time() + seconds, 0
    free = {key: one.clone().requires_grad_() for key, one in params.items()}
    steps = torch.optim.Adam(list(free.values()), lr=0.02)
    while time.process_time() < stop:
        steps.zero_grad(set_to_none=True)
        with seeded(10**6 * seed + number):
            (-bound.surrogate(free, particles=8)).backward()
        steps.step()
        number += 1
    return float(bound.evaluate({key: one.detach() for key, one in free.items()}, particles=2_000, random_state=seed).mean())


# ---------------------------------------------------------------------- fidelity
def linear(X: torch.Tensor) -> Program:
    d = X.shape[1]

    @program
    def model():
        weights = sample("w", entries(Normal(torch.zeros(d), torch.full((d,), PRIOR))))
        sample("y", entries(Normal(weights @ X.T, torch.full((len(X),), NOISE))))

    return model


def logistic(X: torch.Tensor) -> Program:
    d = X.shape[1]

    @program
    def model():
        weights = sample("w", entries(Normal(torch.zeros(d), torch.ones(d))))
        sample("y", entries(Bernoulli(logits=weights @ X.T)))

    return model


@program
def mean_field(p):
    sample("w", entries(Normal(p["m"], p["s"].exp())))


@program
def full_rank(p):
    scale = torch.tril(p["L"], -1) + torch.diag(p["s"].exp())
    sample("w", MultivariateNormal(p["m"], scale_tril=scale))


def fitted(model: Program, obs: Any, d: int, steps: int, seed: int) -> dict[str, tuple[Objective, Any]]:
    """Guides with their parameters, beside the two that take no optimisation."""
    first = {"m": torch.zeros(d), "s": torch.full((d,), -2.0)}
    out: dict[str, tuple[Objective, Any]] = {}
    for name, guide, params in (
        ("mean field", mean_field, first),
        ("full rank", full_rank, first | {"L": torch.zeros(d, d)}),
    ):
        bound = elbo(model, guide, obs)
        rough = bound.maximise(params, steps=steps, particles=16, random_state=seed)
        fine = bound.maximise(
            rough.params, steps=steps, particles=64, optimizer=lambda p: torch.optim.Adam(p, lr=1e-3), random_state=seed + 1
        )
        out[name] = (bound, fine.params)
    nothing = {"none": torch.zeros(())}
    out["Laplace"] = (elbo(model, Laplace(model, obs), obs), nothing)
    out["prior"] = (elbo(model, Prior(model, obs), obs), nothing)
    return out


def fidelity(quick: bool, seed: int) -> Iterator[Claim]:
    steps = 300 if quick else 700
    X, y = load_diabetes(return_X_y=True)
    X, y = torch.tensor(X / X.std(0), dtype=torch.float32), torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
    covariance = NOISE**2 * torch.eye(len(X), dtype=torch.float64) + PRIOR**2 * X.double() @ X.double().T
    truth = float(MultivariateNormal(torch.zeros(len(X), dtype=torch.float64), covariance).log_prob(y.double()))
    found = fitted(linear(X), {"y": y}, X.shape[1], steps, seed)
    gaps = {name: evidence_gap(bound, params, evidence=truth, random_state=seed) for name, (bound, params) in found.items()}
    yield Claim(
        "A full-rank guide of a conjugate model comes near its posterior",
        "nats of ELBO below the known log evidence, diabetes",
        gaps["full rank"].value,
        gaps["full rank"].lower,
        gaps["full rank"].upper,
        seeds=1,
        direction="less",
        threshold=gaps["mean field"].lower,
        details={"log evidence": truth} | {name: str(one) for name, one in gaps.items()},
    )
    X, y = cancer()
    found = fitted(logistic(X), {"y": y}, 30, steps, seed)
    tails = {name: pareto_k(bound, params, random_state=seed) for name, (bound, params) in found.items()}
    yield Claim(
        "A full-rank guide of a logistic posterior has a lighter tail of weights than a mean-field one",
        "Pareto k, breast cancer, 30 columns",
        tails["full rank"].value,
        tails["full rank"].lower,
        tails["full rank"].upper,
        seeds=1,
        direction="less",
        threshold=tails["mean field"].value,
        decided_by="effect",
        needed=not quick,
        details={
            name: {"k": str(tails[name]), "ELBO": float(found[name][0].evaluate(found[name][1], particles=2_000).mean())}
            for name in found
        },
    )


def claims(quick: bool, seed: int) -> Iterator[Claim]:
    yield from variances(quick, seed)
    yield from fidelity(quick, seed)
