"""Estimators of flips, alone and composed, against derivatives by counting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from claims import Claim
from scipy import stats
from torch.distributions import Bernoulli

from locum.infer.programmable_vi import (
    SIR,
    Average,
    Enumerate,
    Marginal,
    MeasureValued,
    Normalize,
    Objective,
    Program,
    Reinforce,
    RunningMean,
    check_unbiased,
    elbo,
    iwelbo,
    program,
    sample,
)

CALL = {"call": torch.tensor(1.0)}
PARAMS = {"t": torch.tensor(-0.3), "a": torch.tensor(0.8), "c": torch.tensor(0.5)}
FLIPS = list(itertools.product((0, 1), repeat=2))
STRATEGIES = {
    "ENUM": Enumerate(),
    "MVD": MeasureValued(),
    "REINFORCE": Reinforce(),
    "REINFORCE, leave-one-out": Reinforce("leave-one-out"),
    "REINFORCE, running mean": Reinforce(RunningMean()),
    "average of 3 REINFORCE": Average(Reinforce(), 3),
}


@program
def burglary():
    thief = sample("thief", Bernoulli(0.2))
    alarm = sample("alarm", Bernoulli(0.1 + 0.7 * thief))
    sample("call", Bernoulli(0.05 + 0.9 * alarm))


def guide(first: Any, second: Any) -> Program:
    @program
    def flips(p):
        thief = sample("thief", Bernoulli(logits=p["t"]), first)
        sample("alarm", Bernoulli(logits=p["a"] + p["c"] * thief), second)

    return flips


@program
def thief_alone():
    thief = sample("thief", Bernoulli(0.2))
    sample("call", Bernoulli(0.1 + 0.6 * thief))


def through_alarm(first: Any, second: Any) -> Program:
    @program
    def flips(p):
        alarm = sample("alarm", Bernoulli(logits=p["a"]), first)
        sample("thief", Bernoulli(logits=p["t"] + p["c"] * alarm), second)

    return flips


def joint(thief: int, alarm: int) -> float:
    on = 0.1 + 0.7 * thief
    return (0.2 if thief else 0.8) * (on if alarm else 1 - on) * (0.05 + 0.9 * alarm)


def chance(p: Any, thief: int, alarm: int) -> Any:
    t, a = p["t"].sigmoid(), (p["a"] + p["c"] * thief).sigmoid()
    return (t if thief else 1 - t) * (a if alarm else 1 - a)


def counted_bound(k: int) -> Callable[[Any], Any]:
    def bound(p: Any) -> Any:
        total = 0.0
        for drawn in itertools.product(FLIPS, repeat=k):
            weights = [joint(*one) / chance(p, *one) for one in drawn]
            total = total + math.prod(chance(p, *one) for one in drawn) * torch.log(sum(weights) / k)
        return total

    return bound


def counted_marginal(k: int) -> Callable[[Any], Any]:
    def bound(p: Any) -> Any:
        total, on = 0.0, p["a"].sigmoid()
        for thief, *alarms in itertools.product((0, 1), repeat=k + 1):
            each = [g if thief else 1 - g for g in ((p["t"] + p["c"] * alarm).sigmoid() for alarm in alarms)]
            weight = math.prod(on if alarm else 1 - on for alarm in alarms) * each[0]
            target = (0.1 + 0.6 * thief) * (0.2 if thief else 0.8)
            total = total + weight * (math.log(target) - torch.log(sum(each) / k))
        return total

    return bound


def cases() -> Iterator[tuple[str, Objective, Callable[[Any], Any]]]:
    """Four objectives, with every pair of strategies at the two flips."""
    for (one, first), (two, second) in itertools.product(STRATEGIES.items(), repeat=2):
        kinds = f"{one} then {two}"
        yield f"ELBO, {kinds}", elbo(burglary, guide(first, second), CALL), counted_bound(1)
        yield f"IWELBO(2), {kinds}", iwelbo(burglary, guide(first, second), CALL, 2), counted_bound(2)
        pair = Marginal(through_alarm(first, second), ["thief"], SIR(2))
        yield f"ELBO of a marginal, {kinds}", elbo(thief_alone, pair, CALL), counted_marginal(2)
        picked = Enumerate() if one == "ENUM" else Reinforce("leave-one-out")
        whole = Normalize(burglary, CALL, SIR(2, guide(first, second)), picked)
        yield f"ELBO of a normalised guide, {kinds}", elbo(burglary, whole, CALL), counted_bound(2)


def derivative(expectation: Callable[[Any], Any]) -> dict[str, float]:
    free = {key: one.double().requires_grad_() for key, one in PARAMS.items()}
    return {key: float(one) for key, one in zip(free, torch.autograd.grad(expectation(free), list(free.values())), strict=True)}


def claims(quick: bool, seed: int) -> Iterator[Claim]:
    n, batches, found = (3_000, 20, {}) if quick else (8_000, 40, {})
    for name, objective, expectation in cases():
        found[name] = check_unbiased(objective, PARAMS, exact=derivative(expectation), n=n, batches=batches, random_state=seed)
    z = np.array([float(one) for each in found.values() for one in each.z.values()])
    limit = float(stats.t.ppf(1 - 0.001 / (2 * len(z)), batches - 1))
    worst = max(found, key=lambda name: found[name].worst)
    # Entries of one case share draws, so the interval is over cases and not over entries.
    squares = np.array([np.mean([float(one) ** 2 for one in each.z.values()]) for each in found.values() if each.worst > 0.05])
    drawn = np.random.default_rng(seed).choice(squares, (2_000, len(squares))).mean(1)
    yield Claim(
        "Every composed estimator is unbiased",
        f"largest |z| over {len(z)} derivatives of {len(found)} estimators of flips (limit {limit:.2f})",
        float(np.abs(z).max()),
        0.0,
        float(np.abs(z).max()),
        seeds=1,
        direction="less",
        threshold=limit,
        details={
            "estimates each": n,
            "furthest": worst,
            "mean square of z (1 expected of noisy ones)": float(squares.mean()),
            "its interval": np.quantile(drawn, [0.025, 0.975]).tolist(),
        },
    )
