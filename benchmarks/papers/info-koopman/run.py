"""Koopman representations shaped by information: Lorenz, the wake of a cylinder, and sea temperatures.

Lorenz-63 by Runge-Kutta steps of 0.02, 6,000 to fit, 1,000 to choose on and 1,500 to measure on, disjoint in time. Effective
dimension: a learned map, 32 latents, no information term, entropy weighed by 0, 0.1 and 0.5. Forecasts: the map solved for in
each batch, losses on one step; the setting of information and entropy is chosen on the middle stretch, and its error after 20
steps, in standard deviations, is compared with that of the plain autoencoder. Wake: lattice Boltzmann at Reynolds 100 and 64 x
64 cells, 250 frames to fit, 60 to choose the setting on by the error after 20 steps, and 150 to measure on, 64 latents through
convolutions of a quarter of the published width, beside dynamic mode decomposition of as many components. Sea
temperatures: monthly means in the eastern Pacific, twelve months a row, beside the month of the year before; told only.
Pendulum: pairs of pictures of 48 x 48 pixels, drawn latent states of three dimensions, the terms left out one by one; ten
nearest latent states of 40 runs are to tell angle and velocity in 20 others. Errors of pixels are averaged there (so the
variance of what is observed is half their number): where they are summed, at a variance of 0.1, no other term matters.
Intervals are Student's over seeds. What was done is kept in ~/.cache/locum/info-koopman.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, Kept, main, over
from sklearn.neighbors import KNeighborsRegressor

from locum.emulate import KoopmanEmulator, KoopmanWarning, Trajectories
from locum.problems.cylinder_wake import CylinderWake

PLAIN = {"alpha": 0.0, "gamma": 0.0}
CHOICES = {
    "entropy 0.01": {"alpha": 0.0, "gamma": 0.01},
    "information 0.2, entropy 0.01": {"alpha": 0.2, "gamma": 0.01},
    "as published: information 2, entropy 0.1": {"alpha": 2.0, "gamma": 0.1},
}
GAMMAS = (0.5, 0.1, 0.0)
HORIZONS = (5, 20, 50)
WAKE = {"steps": 40, "fit": 250, "choose": 60, "test": 150}
WAKE_CHOICES = {
    "entropy 0.01": {"alpha": 0.0, "gamma": 0.01},
    "entropy 0.1": {"alpha": 0.0, "gamma": 0.1},
    "information 0.2, entropy 0.01": {"alpha": 0.2, "gamma": 0.01},
}
PENDULUM = {  # α, β, γ; the published weights, and parts left out
    "all terms": (3.0, 2.0, 0.5), "no information": (0.0, 2.0, 0.5), "no latent step": (3.0, 0.0, 0.5),
    "no entropy": (3.0, 2.0, 0.0), "little entropy": (3.0, 2.0, 0.1), "none": (0.0, 0.0, 0.0),
}  # fmt: skip


# ---------------------------------------------------------------------- data
def lorenz(n: int, seed: int, dt: float = 0.02) -> np.ndarray:
    """States of Lorenz-63 with the usual parameters, shape (n, 3), on the attractor."""

    def slope(x: np.ndarray) -> np.ndarray:
        return np.array([10 * (x[1] - x[0]), x[0] * (28 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])

    x, out = np.random.default_rng(seed).normal([0.0, 0.0, 25.0]), np.empty((n, 3))
    for t in range(-1000, n):
        k1 = slope(x)
        k2 = slope(x + dt / 2 * k1)
        k3 = slope(x + dt / 2 * k2)
        x = x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + slope(x + dt * k3))
        if t >= 0:
            out[t] = x
    return out


def stretches(seed: int) -> dict[str, Trajectories]:
    x = lorenz(8500, seed)
    ends = {"fit": (0, 6000), "choose": (6000, 7000), "test": (7000, 8500)}
    return {name: Trajectories.of(x[a:b], dt=0.02) for name, (a, b) in ends.items()}


def sea() -> np.ndarray:
    """Monthly mean sea temperatures from 1950 to 2010, one year a row, as one series."""
    from statsmodels.datasets import elnino

    return elnino.load_pandas().data.to_numpy()[:, 1:].ravel()


def swings(runs: int, seed: int, steps: int = 40, dt: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Angle and velocity of pendulums let go anywhere (runs, steps, 2), and pictures of each state and the one before it."""
    rng = np.random.default_rng([seed, 38])
    state = np.stack([rng.uniform(-np.pi, np.pi, runs), rng.uniform(-6, 6, runs)], axis=1)
    out = np.empty((runs, steps + 1, 2))
    for t in range(steps + 1):
        out[:, t] = state
        for _ in range(10):  # symplectic, with tenths of a step
            state[:, 1] -= dt / 10 * 9.81 * np.sin(state[:, 0])
            state[:, 0] += dt / 10 * state[:, 1]
    places = np.linspace(-1.2, 1.2, 48)
    x, y = np.meshgrid(places, -places)
    along = np.stack([np.sin(out[..., 0]), -np.cos(out[..., 0])], axis=-1)
    share = np.clip(x * along[..., :1, None] + y * along[..., 1:, None], 0, 1)
    off = (x - share * along[..., :1, None]) ** 2 + (y - share * along[..., 1:, None]) ** 2
    frames = np.exp(-off / (2 * 0.06**2)).reshape(runs, steps + 1, -1)
    return out[:, 1:], np.concatenate([frames[:, 1:], frames[:, :-1]], axis=2)


# ---------------------------------------------------------------------- cells
def dimension(gamma: float, seed: int, updates: int, device: str) -> dict[str, Any]:
    settings = {"operator": "learned", "alpha": 0.0, "gamma": gamma, "max_updates": updates, "lr": (1e-3, 1e-3)}
    model = KoopmanEmulator(32, device=device, random_state=seed, **settings).fit(stretches(seed)["fit"])
    return {"dimension": model.effective_dimension_}


def forecast(settings: dict[str, float], rollout: int, seed: int, updates: int, device: str) -> dict[str, Any]:
    parts = stretches(seed)
    given = {"max_updates": updates, "lr": (1e-3, 1e-4), "rollout_steps": rollout, "device": device, "random_state": seed}
    model = KoopmanEmulator(32, **given, **settings).fit(parts["fit"])
    out: dict[str, Any] = {"largest modulus": float(np.abs(model.modes().eigenvalues).max())}
    for name in ("choose", "test"):
        told = model.errors(parts[name], HORIZONS, origins=200)
        out[name] = {str(h): {who: one.value for who, one in told[h].items()} for h in HORIZONS}
    return out | {"dimension": model.effective_dimension_, "information": model.latent_information()}


def wake(settings: dict[str, float], seed: int, updates: int, device: str) -> dict[str, Any]:
    flow = CylinderWake()
    ends = np.cumsum([WAKE[part] for part in ("fit", "choose", "test")])
    frames = flow.frames(int(ends[-1]), steps=WAKE["steps"], random_state=seed).reshape(-1, 2 * 64 * 64)
    dt = flow.dt(WAKE["steps"])
    fit, choose, test = (Trajectories.of(part, dt=dt) for part in np.split(frames, ends[:-1]))
    given = {"encoder": "conv", "shape": (2, 64, 64), "max_updates": updates, "batch_size": 4, "lr": (1e-3, 1e-4)}
    model = KoopmanEmulator(64, device=device, random_state=seed, **given, **settings).fit(fit)
    chosen, told = model.errors(choose, HORIZONS[1:2], origins=50), model.errors(test, HORIZONS, origins=50)
    across = frames.reshape(-1, 2, 64, 64)[:, 1, 32, 40]
    power = np.abs(np.fft.rfft((across - across.mean()) * np.hanning(len(across)), 2**14)) ** 2
    shedding = 1 / np.fft.rfftfreq(2**14, dt)[power.argmax()]
    modes = model.modes()
    near = np.abs(np.abs(modes.eigenvalues) - 1) < 0.02
    at = [float(np.abs(modes.periods[near] * k / shedding - 1).min(initial=9.0)) for k in (1, 2)]
    return {
        "choose": chosen[HORIZONS[1]]["Koopman"].value,
        "errors": {str(h): {who: one.value for who, one in told[h].items()} for h in HORIZONS},
        "dimension": model.effective_dimension_, "period off": at, "shedding period": float(shedding),
        "largest modulus": float(np.abs(modes.eigenvalues).max()),
    }  # fmt: skip


def temperatures(settings: dict[str, float], seed: int, updates: int, device: str) -> dict[str, Any]:
    months = sea()
    rows = np.lib.stride_tricks.sliding_window_view(months, 12)
    cut = 45 * 12
    model = KoopmanEmulator(16, device=device, random_state=seed, max_updates=updates, lr=(1e-3, 1e-4), **settings)
    model.fit(rows[:cut])
    test, out = rows[cut + 12 :], {}
    for h in (3, 6, 12):
        said = np.array([model.forecast(test[: t + 1], h)[-1, -1] for t in range(len(test) - h)])
        truth, spread = test[h:, -1], months[:cut].std()
        before = months[cut + 11 + h : cut + 11 + h + len(truth)]
        out[str(h)] = {
            "Koopman": float(np.sqrt(np.mean((said - truth) ** 2)) / spread),
            "the year before": float(np.sqrt(np.mean((before - truth) ** 2)) / spread),
        }
    return out


def pendulum(weights: tuple[float, float, float], seed: int, updates: int, device: str) -> dict[str, float]:
    (truth, pictures), (other, fresh) = swings(40, 2 * seed), swings(20, 2 * seed + 1)
    alpha, beta, gamma = weights
    given = {
        "form": "vae",
        "operator": "learned",
        "hidden": (256, 128),
        "shape": (2, 48, 48),
        "neighbours": 5,
        "noise": 48.0**2,
    }
    model = KoopmanEmulator(
        3, alpha=alpha, beta=beta, gamma=gamma, max_updates=updates, batch_size=16, random_state=seed, device=device, **given
    ).fit(Trajectories.of(list(pictures), dt=0.05))
    z, z_fresh = (np.concatenate([model.encode(run) for run in some]) for some in (pictures, fresh))
    scale = np.maximum(z.std(axis=0), 1e-9)
    out = {"dimension": model.effective_dimension_}
    for name, columns in (("angle", (np.cos, np.sin)), ("velocity", (None,))):
        seen, asked = (np.stack([f(x[..., 0]) if f else x[..., 1] for f in columns], axis=-1) for x in (truth, other))
        seen, asked = seen.reshape(-1, len(columns)), asked.reshape(-1, len(columns))
        said = KNeighborsRegressor(10).fit(z / scale, seen).predict(z_fresh / scale)
        out[name] = float(1 - ((asked - said) ** 2).sum() / ((asked - asked.mean(axis=0)) ** 2).sum())
    return out


# ---------------------------------------------------------------------- claims
def dimensions(kept: Kept, seeds: range, updates: int, device: str) -> Iterator[Claim]:
    found = {
        gamma: [kept(["dimension", gamma, s], partial(dimension, gamma, s, updates, device))["dimension"] for s in seeds]
        for gamma in GAMMAS
    }
    details = {str(gamma): values for gamma, values in found.items()}
    for low, high in ((0.0, 0.1), (0.1, 0.5)):
        gap = min(found[high]) - max(found[low])
        yield Claim(
            f"entropy keeps latent states apart: {high} against {low}",
            "least effective dimension less the largest of the other", gap, gap, gap, len(seeds), details=details,
        )  # fmt: skip
    yield over("without entropy few directions are filled", "effective dimension of 32 without entropy", found[0.0],
               direction="less", threshold=8.0, needed=False)  # fmt: skip


def forecasts(kept: Kept, seeds: range, updates: int, device: str, rollout: int) -> Iterator[Claim]:
    runs = []
    for s in seeds:
        cells = {
            name: kept(["forecast", name, rollout, s], partial(forecast, settings, rollout, s, updates, device))
            for name, settings in {"plain": PLAIN, **CHOICES}.items()
        }
        best = min(CHOICES, key=lambda name: cells[name]["choose"]["20"]["Koopman"])
        runs.append({"chosen": best, "cells": cells})
    ours = np.array([run["cells"][run["chosen"]]["test"]["20"]["Koopman"] for run in runs])
    plain = np.array([run["cells"]["plain"]["test"]["20"]["Koopman"] for run in runs])
    how = "one step" if not rollout else f"free runs of {rollout} steps"
    yield over(
        f"Lorenz, trained on {how}: information and entropy help", "share less error after 20 steps than the autoencoder",
        1 - ours / plain, threshold=0.1, needed=not rollout, details={"seeds": runs},
    )  # fmt: skip
    published = [run["cells"][list(CHOICES)[-1]]["test"]["20"]["Koopman"] for run in runs]
    yield over(f"Lorenz, trained on {how}: the published weights help here", "the same, published weights",
               1 - np.array(published) / plain, needed=False)  # fmt: skip
    if not rollout:
        yield over("Lorenz: the published error is reached", "error after 20 steps, in standard deviations", ours,
                   direction="less", threshold=0.007, needed=False)  # fmt: skip


def wakes(kept: Kept, seeds: range, updates: int, device: str) -> Iterator[Claim]:
    cells = {
        name: [kept(["wake", name, s, updates], partial(wake, settings, s, updates, device)) for s in seeds]
        for name, settings in {"plain": PLAIN, **WAKE_CHOICES}.items()
    }
    best = [min(WAKE_CHOICES, key=lambda name: cells[name][i]["choose"]) for i in range(len(seeds))]
    runs = {"plain": cells["plain"], "information": [cells[name][i] for i, name in enumerate(best)]}

    def error(name: str, h: int, who: str = "Koopman") -> np.ndarray:
        return np.array([run["errors"][str(h)][who] for run in runs[name]])

    worse = error("information", 50) / error("plain", 50)
    yield over("wake: 50 steps on, no worse than the autoencoder", "error over that of the autoencoder", worse,
               direction="less", threshold=1.0, decided_by="effect", details={"chosen": best} | cells)  # fmt: skip
    wider = [a["dimension"] - b["dimension"] for a, b in zip(runs["information"], runs["plain"], strict=True)]
    yield over("wake: more directions are filled", "effective dimension, difference", wider)
    off = [max(run["period off"]) for run in runs["information"]]
    yield over("wake: eigenvalues on the circle turn with the shedding and twice as fast", "relative error of the worse period",
               off, direction="less", threshold=0.05, decided_by="effect")  # fmt: skip
    ratio = error("information", 50) / error("information", 50, "linear map")
    yield over("wake: against dynamic mode decomposition", "error after 50 steps over that of as many components", ratio,
               direction="less", threshold=1.0, needed=False)  # fmt: skip


def seas(kept: Kept, seeds: range, updates: int, device: str) -> Iterator[Claim]:
    settings = {"alpha": 0.2, "gamma": 0.01}
    runs = [kept(["sea", s], partial(temperatures, settings, s, updates, device)) for s in seeds]
    for h in ("3", "12"):
        yield over(f"sea temperatures, {h} months on, against the year before", "error over that of the month a year before",
                   [run[h]["Koopman"] / run[h]["the year before"] for run in runs], direction="less", threshold=1.0,
                   needed=False, details={"seeds": runs})  # fmt: skip


def pendulums(kept: Kept, seeds: range, updates: int, device: str, quick: bool) -> Iterator[Claim]:
    runs = {
        name: [kept(["pendulum", name, s], partial(pendulum, weights, s, updates, device)) for s in seeds]
        for name, weights in PENDULUM.items()
        if not quick or name in ("all terms", "no entropy")
    }

    def lost(name: str, what: str) -> list[float]:
        return [a[what] - b[what] for a, b in zip(runs["all terms"], runs[name], strict=True)]

    yield over("pendulum: without entropy the velocity is lost", "R2 of the velocity, lost", lost("no entropy", "velocity"),
               needed=not quick, details=runs)  # fmt: skip
    for name in runs.keys() - {"all terms", "no entropy"}:
        for what in ("angle", "velocity"):
            yield over(f"pendulum: {name}", f"R2 of the {what}, lost", lost(name, what), needed=False)


def measure(quick: bool, first: int, device: str) -> Iterator[Claim]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", KoopmanWarning)  # of plain autoencoders, which is what is told here
    kept = Kept("info-koopman", quick, device)
    seeds, few = range(first, first + (2 if quick else 5)), range(first, first + (1 if quick else 3))
    yield from dimensions(kept, seeds, 300 if quick else 700, device)
    yield from forecasts(kept, seeds, 150 if quick else 2000, device, 0)
    yield from pendulums(kept, few, 60 if quick else 800, device, quick)
    if not quick:
        yield from forecasts(kept, few, 2000, device, 15)
        yield from wakes(kept, few, 500 if device == "cpu" else 3000, device)
        yield from seas(kept, few, 1000, device)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
