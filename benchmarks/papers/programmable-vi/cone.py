"""The noisy cone: what richer guides and objectives gain."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from claims import Claim, over_seeds
from torch.distributions import Normal, Uniform

from locum.infer.programmable_vi import SIR, Marginal, elbo, iwelbo, program, sample

OBS = {"z": torch.tensor(5.0)}
PUBLISHED = {"ELBO": -8.08, "IWELBO(5)": -7.67, "HVI": -9.75, "IWHVI(5)": -8.18, "DIWHVI(5,5)": -7.30}
RAISED = (5, 20, 80)


@program
def model():
    x = sample("x", Normal(0.0, 10.0))
    y = sample("y", Normal(0.0, 10.0))
    r = x * x + y * y
    sample("z", Normal(r, 0.1 + r / 100))


@program
def mean_field(p):
    sample("x", Normal(p["mx"], p["sx"].exp()))
    sample("y", Normal(p["my"], p["sy"].exp()))


@program
def ring(p):
    u = sample("u", Uniform(0.0, 1.0))
    angle, radius = 2 * math.pi * u, math.sqrt(5.0)
    sample("x", Normal(radius * angle.cos(), p["sx"].exp()))
    sample("y", Normal(radius * angle.sin(), p["sy"].exp()))


def marginal(n: int) -> Marginal:
    return Marginal(ring, ["x", "y"], SIR(n))


BOUNDS = {
    "ELBO": elbo(model, mean_field, OBS),
    "IWELBO(5)": iwelbo(model, mean_field, OBS, 5),
    "HVI": elbo(model, marginal(1), OBS),
    "IWHVI(5)": elbo(model, marginal(5), OBS),
    "DIWHVI(5,5)": iwelbo(model, marginal(5), OBS, 5),
}


def evidence() -> float:
    """log p(z = 5) by quadrature: x² + y² is exponential with mean 200."""
    r = np.linspace(0.0, 40.0, 400_001)
    spread = 0.1 + r / 100
    density = np.exp(-r / 200) / 200 * np.exp(-0.5 * ((5 - r) / spread) ** 2) / (spread * math.sqrt(2 * math.pi))
    return float(np.log(np.trapezoid(density, r)))


def start(seed: int, flat: bool) -> dict[str, torch.Tensor]:
    """Log scales of -2, and means near the ring and an axis: the optima are there, and it is slow to turn to them."""
    rng = np.random.default_rng(seed)
    angle = rng.integers(4) * math.pi / 2 + rng.normal(0, 0.05)
    mean = {"mx": 2 * math.cos(angle), "my": 2 * math.sin(angle)} if flat else {}
    return {key: torch.tensor(one) for key, one in ({"sx": -2.0, "sy": -2.0} | mean).items()}


def claims(quick: bool, seed: int) -> Iterator[Claim]:
    seeds = range(seed, seed + (2 if quick else 5))
    steps, rate = (800 if quick else 1_000), 5e-3
    truth = evidence()
    reached: dict[str, list[float]] = {name: [] for name in BOUNDS}
    raised: dict[int, list[float]] = {n: [] for n in RAISED}
    for one in seeds:
        for name, bound in BOUNDS.items():
            found = bound.maximise(
                start(one, "HVI" not in name),
                steps=steps,
                particles=64,
                optimizer=lambda p: torch.optim.Adam(p, lr=rate),
                random_state=one,
            )
            reached[name].append(float(bound.evaluate(found.params, particles=20_000, random_state=one).mean()))
        for n in RAISED:
            more = iwelbo(model, marginal(n), OBS, n)
            raised[n].append(float(more.evaluate(found.params, particles=500, random_state=one).mean()))
    means = {name: float(np.mean(each)) for name, each in reached.items()}
    gain = np.subtract(reached["DIWHVI(5,5)"], reached["ELBO"])
    details = {
        "log evidence": truth,
        "here": means,
        "published": PUBLISHED,
        "N = K": {str(n): each for n, each in raised.items()},
    }
    yield Claim(
        "Richer guides and objectives tighten the fit",
        "nats that DIWHVI(5, 5) lies above the mean-field ELBO on the cone",
        *over_seeds(gain),
        seeds=len(seeds),
        details=details,
    )
    rise = {name: means[name] - PUBLISHED[name] for name in BOUNDS}
    yield Claim(
        "All five bounds come to the values of the authors' artifact, or above",
        "smallest rise over the published value, in nats",
        min(rise.values()),
        min(rise.values()),
        max(rise.values()),
        seeds=len(seeds),
        threshold=-0.05,
        decided_by="effect",
        details=rise,
    )
    order = [np.subtract(reached[high], reached[low]) for high, low in (("IWHVI(5)", "HVI"), ("DIWHVI(5,5)", "IWHVI(5)"))]
    yield Claim(
        "DIWHVI lies above IWHVI, and that above HVI",
        "the smaller of the two gaps in nats",
        *over_seeds(np.min(order, axis=0)),
        seeds=len(seeds),
    )
    steps_up = [np.subtract(raised[high], raised[low]) for low, high in itertools.pairwise(RAISED)]
    yield Claim(
        f"More inner particles (N = K = {', '.join(map(str, RAISED))}) close the gap",
        "the smaller of the two rises in nats",
        *over_seeds(np.min(steps_up, axis=0)),
        seeds=len(seeds),
        details={"gap left": [truth - float(np.mean(raised[n])) for n in RAISED]},
    )
    highest = [max(each) for each in [*reached.values(), *raised.values()]]
    yield Claim(
        "No bound passes the log evidence",
        "highest bound reached less log p(z = 5), in nats",
        max(highest) - truth,
        min(highest) - truth,
        max(highest) - truth,
        seeds=len(seeds),
        direction="less",
        threshold=0.02,
    )
