"""Windows under forcing: the loss, its gradient, and how much forcing keeps that bounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.emulate._gtf_cells import Cell, Observation, Parameters, Phi
from locum.emulate._gtf_kernel import backward, forward

__all__ = ["ESTIMATORS", "Flat", "Problem", "loss_and_gradient"]

Array = NDArray[np.floating[Any]]


class Flat:
    """All parameters as one vector, and as arrays that are views into it."""

    def __init__(self, cell: Cell, observation: Observation) -> None:
        self.cell, self.observation = cell, observation
        self.shapes = cell.shapes | observation.shapes
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()]).tolist()
        self.size = ends[-1]
        self._slices = dict(zip(self.shapes, map(slice, [0, *ends[:-1]], ends), strict=True))

    def named(self, vector: Array) -> Parameters:
        """Views, by name."""
        return {name: vector[self._slices[name]].reshape(shape) for name, shape in self.shapes.items()}

    def vector(self, named: Parameters, dtype: Any = np.float64) -> Array:
        """One vector; 0 for what is not named."""
        out = np.zeros(self.size, dtype=dtype)
        for name, values in named.items():
            out[self._slices[name]] = np.ravel(values)
        return out

    def initial(self, rng: np.random.Generator) -> Array:
        """Where learning begins."""
        return self.vector(self.cell.initial(rng) | self.observation.initial(rng))


@dataclass(frozen=True)
class Problem:
    """What is learned, apart from the data.

    Attributes
    ----------
    flat : Flat
    partial : bool
        Whether only the first N latent states are forced.
    latent_penalty, observation_penalty : float
    """

    flat: Flat
    partial: bool
    latent_penalty: float
    observation_penalty: float


def loss_and_gradient(problem: Problem, vector: Array, x: Array, inputs: Array | None, alpha: Array) -> tuple[float, Array]:
    """Mean squared error of the unforced predictions in a batch of windows, with penalties, and its gradient.

    Forcing signals are taken as they are: no gradient goes through them, nor through the first state of an affine map.

    Parameters
    ----------
    problem : Problem
    vector : ndarray of shape (size,)
    x : ndarray of shape (T + 1, S, N)
        Windows of observations, time first.
    inputs : ndarray of shape (T, S, K) or None
        Those of the steps to x[1:].
    alpha : ndarray of shape (T,)
        Share of forcing after each step.
    """
    flat, kind = problem.flat, vector.dtype
    cell, observation = flat.cell, flat.observation
    p = flat.named(vector)
    signal = np.ascontiguousarray(observation.encode(p, x))
    kept = np.repeat(1.0 - alpha[:, None], cell.latent, axis=1).astype(kind)
    if problem.partial:
        kept[:, observation.observed :] = 1.0
    phi = Phi(*map(np.ascontiguousarray, cell.phi(p)))
    offset = np.broadcast_to(p["h"], (*x[1:].shape[:2], cell.latent)) if inputs is None else p["h"] + inputs @ p["C"].T
    states, said, u = forward(p["A"], p["W"], *phi, np.ascontiguousarray(offset), signal, kept)
    error = observation.decode(p, said) - x[1:]
    loss = float(np.mean(np.square(error, dtype=np.float64)))
    observed = error * np.array(2.0 / error.size, kind)
    pull = np.ascontiguousarray(observation.pull(p, observed))
    g = backward(p["A"], p["W"], *phi, pull, kept, states, u)
    found = {"A": g["A"], "W": cell.allowed("W", g["W"]), "h": g["offset"].sum(axis=(0, 1))}
    found |= cell.own_gradients(Phi(g["P"], g["o"], g["c"]))
    if inputs is not None:
        found["C"] = np.einsum("tsm,tsk->mk", g["offset"], inputs)
    said, observed = said.reshape(-1, cell.latent), observed.reshape(-1, observation.observed)
    found |= observation.gradients(said, observed, x[0], g["first"])
    return _with_penalties(problem, p, loss, found, kind)


def _with_penalties(problem: Problem, p: Parameters, loss: float, found: Parameters, kind: Any) -> tuple[float, Array]:
    lam, flat = problem.latent_penalty, problem.flat
    gradient = flat.vector(found, kind)
    if lam:
        away = {name: p[name] - (1.0 if name == "A" else 0.0) for name in flat.cell.shapes}  # a hollow W has zeros there
        loss += lam * sum(float((one**2).sum()) for one in away.values())
        gradient += flat.vector({name: 2.0 * lam * one for name, one in away.items()}, kind)
    if problem.observation_penalty:
        value, slope = flat.observation.penalty(p)
        loss += problem.observation_penalty * value
        gradient += flat.vector({name: problem.observation_penalty * one for name, one in slope.items()}, kind)
    return loss, gradient


# ---------------------------------------------------------------------- how much forcing
def _norms(J: Array) -> Array:
    """Largest singular values of matrices (..., M, M): roots of the largest eigenvalues of J'J, which cost less."""
    square = np.swapaxes(J, -1, -2) @ J
    if J.shape[-1] == 3:
        return np.sqrt(np.maximum(_largest_of_three(square), 0.0))
    return np.sqrt(np.maximum(np.linalg.eigvalsh(square)[..., -1], 0.0))


def _largest_of_three(S: Array) -> Array:
    """Largest eigenvalue of symmetric (..., 3, 3) by the cosine of a third of an angle (Smith, 1961), for many at once."""
    middle = np.trace(S, axis1=-2, axis2=-1) / 3.0
    K = S - middle[..., None, None] * np.eye(3, dtype=S.dtype)
    spread = np.sqrt(np.maximum((K**2).sum(axis=(-1, -2)) / 6.0, 1e-30))
    a, b, c, d, e, f = (K[..., i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
    half = (a * b * c + 2 * d * e * f - a * f**2 - b * e**2 - c * d**2) / (2.0 * spread**3)
    return np.asarray(middle + 2.0 * spread * np.cos(np.arccos(np.clip(half, -1.0, 1.0)) / 3.0))


def _upper_bound(cell: Cell, p: Parameters, z: Array) -> float:
    P, _, c = cell.phi(p)
    # a part of φ goes through at most all rectifiers of one sign at once
    steepest = max(float(np.maximum(c, 0).sum()), float(np.maximum(-c, 0).sum()))
    return float(np.abs(p["A"]).max() + steepest * np.linalg.norm(p["W"], 2) * np.linalg.norm(P, 2))


def _batch_maximum(cell: Cell, p: Parameters, z: Array) -> float:
    return float(_norms(cell.jacobian(p, z)).max())


def _product(cell: Cell, p: Parameters, z: Array) -> float:
    norms = np.maximum(_norms(cell.jacobian(p, z)), 1e-12)
    return float(np.exp(np.log(norms).mean(axis=0)).max())


def _explog(cell: Cell, p: Parameters, z: Array) -> float:
    size = np.maximum(np.abs(cell.jacobian(p, z)), 1e-12)
    return float(_norms(np.exp(np.log(size).mean(axis=0))).max())


def _arithmetic(cell: Cell, p: Parameters, z: Array) -> float:
    return float(_norms(cell.jacobian(p, z).mean(axis=0)).max())


# From the cell, its parameters and forcing signals (T, S, M), the size of the Jacobians.
ESTIMATORS: dict[str, Callable[[Cell, Parameters, Array], float]] = {
    "product_upper_bound": _product,
    "batch_maximum": _batch_maximum,
    "jacobian_upper_bound": _upper_bound,
    "explog_approx": _explog,
    "arithmetic_mean": _arithmetic,
}
