"""Closed forms against simulation with a million draws, by algebra that shares nothing with the library."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.stats import norm

from locum.optimize import expected_maximum_gain

DRAWS = 1_000_000


class Process:
    """A Gaussian process on a few points, from the textbook."""

    def __init__(self, n: int, noise: float, rng: np.random.Generator, d: int = 2) -> None:
        self.rows, self.noise = rng.random((n, d)), noise
        self.values = np.sin(5 * self.rows[:, 0]) + self.rows[:, 1] ** 2 + np.sqrt(noise) * rng.normal(size=n)
        self._inverse = np.linalg.inv(self.kernel(self.rows, self.rows) + noise * np.eye(n))

    @staticmethod
    def kernel(A: np.ndarray, B: np.ndarray) -> np.ndarray:
        return np.exp(-((A[:, None] - B[None]) ** 2).sum(axis=2) / (2 * 0.35**2))

    def at(self, A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance."""
        cross = self.kernel(A, self.rows)
        return cross @ self._inverse @ self.values, self.kernel(A, A) - cross @ self._inverse @ cross.T


def improvement(mean: np.ndarray, sd: np.ndarray, best: float) -> np.ndarray:
    u = (mean - best) / sd
    return sd * (u * norm.cdf(u) + norm.pdf(u))


def noisy_improvement(process: Process, x: np.ndarray) -> float:
    """The paper's, by lines over the evaluated points and x."""
    mean, spread = process.at(np.vstack([process.rows, x]))
    slopes = spread[:, -1] / np.sqrt(spread[-1, -1] + process.noise)
    return float(expected_maximum_gain(mean, slopes) + mean.max() - mean[:-1].max())


def largest_difference_without_noise(seed: int) -> list[float]:
    """Noisy improvement less classical improvement with noise of 1e-10, at points apart from those seen: the largest a case."""
    out = []
    for case in range(10):
        rng = np.random.default_rng([seed, case])
        process = Process(6, 1e-10, rng)
        mean, spread = process.at(X := rng.random((40, 2)))
        classical = improvement(mean, np.sqrt(np.maximum(spread.diagonal(), 1e-300)), process.values.max())
        out.append(max(abs(noisy_improvement(process, x) - c) for x, c in zip(X, classical, strict=True)))
    return out


def gaps(seed: int) -> Iterator[tuple[str, float]]:
    """Closed form less simulation in standard errors, for each form."""
    rng = np.random.default_rng([seed, 99])

    def gap(closed: float, draws: np.ndarray) -> float:
        return abs(float(closed) - draws.mean()) / (draws.std() / np.sqrt(len(draws)) + 1e-300)

    for m in (2, 5, 10, 20, 50):
        a, b = rng.normal(size=m), rng.normal(size=m)
        a[-1], b[-1] = a[0], b[0]  # the same line twice, and a parallel
        b[m // 2] = b[0]
        best = np.full(DRAWS, -np.inf)
        Z = rng.normal(size=DRAWS)
        for one, two in zip(a, b, strict=True):
            best = np.maximum(best, one + two * Z)
        yield f"h, m={m}", gap(expected_maximum_gain(a, b).item(), best - a.max())
    Z, W = rng.normal(size=(2, DRAWS))
    for case in range(4):
        process = Process(8, 0.1, rng)
        top = process.at(process.rows)[0].max()
        while True:  # a form that is nothing to a million draws cannot be held against them
            (mean,), spread = process.at(x := rng.random((1, 2)))
            sd = float(np.sqrt(spread[0, 0]))
            if improvement(mean, sd, top) > 0.01:
                break
        yield f"EI {case}", gap(improvement(mean, sd, top), (mean + sd * Z - top).clip(0))
        means, whole = process.at(np.vstack([process.rows, x]))
        slopes = whole[:, -1] / np.sqrt(whole[-1, -1] + 0.1)
        best = np.full(DRAWS, -np.inf)
        for one, two in zip(means, slopes, strict=True):
            best = np.maximum(best, one + two * Z)
        yield f"noisy EI {case}", gap(noisy_improvement(process, x), best - top)
        level, width = 0.5 * rng.normal(), 0.5
        draws = (mean + sd * Z - top).clip(0) * ((level + width * W) >= 0)
        yield f"constrained EI {case}", gap(improvement(mean, sd, top) * norm.cdf(level / width), draws)
        weights = np.array([0.5, 0.3, 0.2])
        grid = np.column_stack([np.repeat(np.linspace(0, 1, 20), 3), np.tile([0.1, 0.5, 0.9], 20)])
        means, whole = process.at(np.vstack([grid, x]))
        slopes = (whole[:-1, -1] / np.sqrt(whole[-1, -1] + 0.1)).reshape(20, 3) @ weights
        heights = means[:-1].reshape(20, 3) @ weights
        best = np.full(DRAWS, -np.inf)
        for one, two in zip(heights, slopes, strict=True):
            best = np.maximum(best, one + two * Z)
        yield f"KG on F {case}", gap(expected_maximum_gain(heights, slopes).item(), best - heights.max())
