"""What can be read from a linear map: its modes, a bounded version of it, and how to steer by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import solve_discrete_are

from locum.core.errors import InvalidData

__all__ = ["Modes", "regulator_gain", "shortened"]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Modes:
    """What a linear map does, one entry an eigenvalue, the slowest to decay first.

    Attributes
    ----------
    eigenvalues : ndarray of complex, shape (m,)
    periods : ndarray of shape (m,)
        Of a turn, in units of time; infinite for a mode that does not turn.
    decay_times : ndarray of shape (m,)
        Until a mode is at 1/e; negative where it grows, infinite where it stays.
    """

    eigenvalues: NDArray[np.complex128]
    periods: Array
    decay_times: Array

    @classmethod
    def of(cls, K: Array, dt: float) -> Self:
        """Of a map that takes a time `dt`."""
        found = np.linalg.eigvals(K).astype(complex)
        found = found[np.argsort(-np.abs(found), kind="stable")]
        turn, size = np.abs(np.angle(found)), np.abs(found)
        with np.errstate(divide="ignore"):
            periods = np.where(turn > 0, 2 * np.pi * dt / turn, np.inf)
            decay = np.where(size == 1, np.inf, -dt / np.log(size))
        return cls(found, periods, np.where(size == 0, 0.0, decay))


def shortened(K: Array, largest: float) -> Array:
    """The map with eigenvalues of at most this modulus."""
    values, vectors = np.linalg.eig(K)
    size = np.abs(values)
    if size.max() <= largest:
        return K
    if np.linalg.cond(vectors) > 1e8:  # not to be taken apart; shorten all
        return K * (largest / size.max())
    bounded = np.where(size > largest, values * largest / np.maximum(size, 1e-300), values)
    return np.asarray(np.real(vectors * bounded @ np.linalg.inv(vectors)))


def regulator_gain(A: Array, B: Array, state_cost: ArrayLike | None, control_cost: ArrayLike | None) -> Array:
    """Gain of the linear-quadratic regulator of ``z' = A z + B u``, shape (k, m)."""
    if not B.shape[1]:
        raise InvalidData("expected a model that was fitted with controls=, since nothing else can be regulated")
    Q = np.eye(len(A)) if state_cost is None else np.asarray(state_cost, dtype=float)
    R = np.eye(B.shape[1]) if control_cost is None else np.asarray(control_cost, dtype=float)
    if Q.shape != A.shape or R.shape != (B.shape[1],) * 2:
        raise InvalidData(f"expected costs of shapes {A.shape} and {(B.shape[1],) * 2}, got {Q.shape} and {R.shape}")
    P = solve_discrete_are(A, B, Q, R)
    return np.asarray(np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A))
