"""Likelihood of levels on top of one another in plain linear algebra, with slopes written out: the loop fits at every step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack

from locum.optimize._likelihood import CORRELATIONS

__all__ = ["LevelLikelihood", "plane"]

_FLOAT = NDArray[np.float64]
_LEVEL, _SLOPES = 1.0, 4.0  # prior variances of the height at the centre of the box, and of all slopes together


def plane(A: Any, B: Any) -> Any:
    """Prior covariance of a plane over the box with unknown height and slopes, for standardised levels.

    What a level adds is often little else. Integrated out, it stays unknown as long as few designs are common; settings at the
    mode of their posterior would fit a height to three of them and be sure of it.
    """
    return _LEVEL + _SLOPES / A.shape[-1] * ((A - 0.5) @ (B - 0.5).swapaxes(-1, -2))


class LevelLikelihood:
    """Less the logarithm of the likelihood of all levels, up to a constant, and its slopes.

    Parameters
    ----------
    rows : ndarray of shape (n, d + 1)
        The level stands last.
    values : ndarray of shape (n,)
    L : int
    kernel : str
    noise : ndarray of shape (L,) or None
        Learnt where None.
    least_noise : float
    """

    def __init__(self, rows: _FLOAT, values: _FLOAT, L: int, kernel: str, noise: _FLOAT | None, least_noise: float) -> None:
        self.values, self.L, self.noise, self.least = values, L, noise, least_noise
        self.correlation, self.x = CORRELATIONS[kernel], rows[:, :-1] - 0.5
        self.level = rows[:, -1].round().astype(np.intp)
        self.at = np.eye(L)[self.level]  # (n, L)
        self.above = [np.flatnonzero(self.level >= j) for j in range(L)]
        self.apart = [
            ((self.x[some][:, None] - self.x[some][None]) ** 2).transpose(2, 0, 1).reshape(rows.shape[1] - 1, -1)
            for some in self.above
        ]
        self.planes = [plane(rows[some, :-1], rows[some, :-1]) if j else 0.0 for j, some in enumerate(self.above)]

    def _weights(self, ratios: list[_FLOAT], without: int = -1) -> _FLOAT:
        """What the addition of each level counts in each row, shape (n, L); the slope of that in one ratio."""
        out = np.zeros((len(self.level), self.L))
        for j in range(self.L):
            weight = (self.level >= max(j, without + 1)).astype(float) * (without < 0 or j <= without)
            for i in range(j, self.L - 1):
                if i != without:
                    weight = np.where(self.level > i, weight * ratios[i], weight)
            out[:, j] = weight
        return out

    def __call__(self, parts: dict[str, _FLOAT]) -> tuple[float, dict[str, _FLOAT]]:
        """The value, and slopes of parts: logarithms of lengths, variances and noise; ratios, slopes of them, and means."""
        n = len(self.values)
        variances = np.exp(np.concatenate([parts["whole"], parts["rest"]]))
        bends = [self.x @ one if one.size else np.zeros(n) for one in parts["slopes"]]
        ratios = [ratio[0] + bend for ratio, bend in zip(parts["ratio"], bends, strict=True)]
        noise = np.exp(parts["noise"]) if self.noise is None else self.noise
        W, K, pieces = self._weights(ratios), np.zeros((n, n)), []
        for j, some in enumerate(self.above):
            shrunk = np.exp(-2.0 * parts["lengths"][j])
            R, slope = self.correlation((shrunk @ self.apart[j]).reshape(len(some), -1))
            pieces.append((shrunk, R, slope))
            w = W[some, j]
            K[np.ix_(some, some)] += (variances[j] * R + self.planes[j]) * w[:, None] * w
        K[np.diag_indices(n)] += noise[self.level] + self.least
        root, failed = lapack.dpotrf(K, lower=1)
        if failed:
            return np.inf, parts
        residual = self.values - self.at[:, 0] * parts["mean"]
        held = cho_solve((root, True), residual)
        whole, _ = lapack.dpotri(root, lower=1)
        pull = np.outer(held, held) - np.tril(whole) - np.tril(whole, -1).T  # twice the slope of the log likelihood in K
        value = 0.5 * residual @ held + np.log(np.diag(root)).sum()
        return float(value), self._slopes(parts, variances, ratios, noise, W, pieces, pull, held)

    def _slopes(
        self, parts: dict[str, _FLOAT], variances: _FLOAT, ratios: list[_FLOAT], noise: _FLOAT, W: _FLOAT, pieces: list,
        pull: _FLOAT, held: _FLOAT,
    ) -> dict[str, _FLOAT]:  # fmt: skip
        lengths, heights, toward = np.zeros_like(parts["lengths"]), np.zeros(self.L), np.zeros_like(W)
        for j, (some, (shrunk, R, slope)) in enumerate(zip(self.above, pieces, strict=True)):
            w, here = W[some, j], pull[np.ix_(some, some)]
            both = variances[j] * w[:, None] * w * here
            lengths[j] = (both * slope).ravel() @ self.apart[j].T * shrunk
            heights[j] = -0.5 * (both * R).sum()
            toward[some, j] = -(here * (variances[j] * R + self.planes[j])) @ w  # slope in the weights
        ratio, bent = np.zeros_like(parts["ratio"]), np.zeros_like(parts["slopes"])
        for i in range(self.L - 1):
            each = (toward * self._weights(ratios, i)).sum(axis=1)
            ratio[i, 0] = each.sum()
            if bent.size:
                bent[i] = each @ self.x
        spread = -0.5 * noise * (np.diag(pull) @ self.at) if self.noise is None else np.zeros(0)
        return {
            "lengths": lengths, "whole": heights[:1], "rest": heights[1:], "ratio": ratio, "slopes": bent,
            "mean": -held @ self.at[:, :1], "noise": spread,
        }  # fmt: skip
