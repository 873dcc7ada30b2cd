"""Piecewise-linear cells, and the maps between their states and what is observed.

All cells are z → A z + W φ(z) + h + C s, with φ a sum of rectified affine functions:

    φ(z) = sum_j c_j relu(P z + o_j)

A cell says what its parameters make of P (L, M), o (J, L) and c (J,); stepping, differentiating and learning are the same
for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CELLS", "OBSERVATIONS", "Cell", "Observation", "Parameters", "Phi"]

Array = NDArray[np.floating[Any]]
Parameters = dict[str, Array]


class Phi(NamedTuple):
    """What φ is made of, or the gradient with respect to it."""

    P: Array
    o: Array
    c: Array


# ---------------------------------------------------------------------- cells
class Cell(ABC):
    """A cell of M latent states, `hidden` parts of φ (its meaning depends on the cell), and K external inputs."""

    hollow = False  # whether W connects each state to the others only

    def __init__(self, latent: int, hidden: int, inputs: int) -> None:
        self.latent, self.hidden, self.inputs = latent, hidden, inputs

    @property
    @abstractmethod
    def parts(self) -> int:
        """L, the length of φ."""

    @property
    @abstractmethod
    def own(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters of φ."""

    @abstractmethod
    def phi(self, p: Parameters) -> Phi:
        """φ, as its parameters make it."""

    @abstractmethod
    def own_gradients(self, g: Phi) -> Parameters:
        """Gradients of the parameters of φ."""

    # ------------------------------------------------------------------ what all cells share
    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all parameters."""
        common = {"A": (self.latent,), "W": (self.latent, self.parts), "h": (self.latent,)}
        return common | self.own | ({"C": (self.latent, self.inputs)} if self.inputs else {})

    def initial(self, rng: np.random.Generator) -> Parameters:
        """A within 0 and 1, h of 0, and all others uniform within one over the root of their last dimension."""
        R = rng.normal(size=(self.latent, self.latent))
        K = R.T @ R / self.latent + np.eye(self.latent)
        out: Parameters = {"A": np.diag(K) / np.linalg.eigvalsh(K)[-1], "h": np.zeros(self.latent)}
        for name, shape in self.shapes.items():
            if name not in out:
                reach = 1.0 / np.sqrt(shape[-1])
                out[name] = rng.uniform(-reach, reach, shape)
        return {name: self.allowed(name, one) for name, one in out.items()}

    def allowed(self, name: str, values: Array) -> Array:
        """A parameter or its gradient, with 0 where the cell has no connection."""
        return values - np.diag(np.diag(values)) if self.hollow and name == "W" else values

    def step(self, p: Parameters, z: Array, s: Array | None = None) -> Array:
        """States (..., M) one step on."""
        P, o, c = self.phi(p)
        over = np.maximum((z @ P.T)[..., None, :] + o, 0.0)
        out = p["A"] * z + np.einsum("j,...jl->...l", c, over) @ p["W"].T + p["h"]
        return out if s is None else out + s @ p["C"].T

    def pattern(self, p: Parameters, z: Array) -> NDArray[np.bool_]:
        """Which rectifiers are on, shape (..., J, L): the linear region of a state."""
        P, o, _ = self.phi(p)
        return np.asarray((z @ P.T)[..., None, :] + o > 0)

    def jacobian(self, p: Parameters, z: Array) -> Array:
        """Derivatives of `step`, shape (..., M, M)."""
        P, _, c = self.phi(p)
        slope = np.einsum("j,...jl->...l", c, self.pattern(p, z))
        return np.asarray(np.diag(p["A"]) + (p["W"] * slope[..., None, :]) @ P)


class Shallow(Cell):
    """One hidden layer: φ = relu(W2 z + h2)."""

    @property
    def parts(self) -> int:
        return self.hidden

    @property
    def own(self) -> dict[str, tuple[int, ...]]:
        return {"W2": (self.hidden, self.latent), "h2": (self.hidden,)}

    def initial(self, rng: np.random.Generator) -> Parameters:
        return super().initial(rng) | {"h2": np.zeros(self.hidden)}

    def phi(self, p: Parameters) -> Phi:
        return Phi(p["W2"], p["h2"][None], np.ones(1, p["h2"].dtype))

    def own_gradients(self, g: Phi) -> Parameters:
        return {"W2": g.P, "h2": g.o[0]}


class Clipped(Cell):
    """φ = relu(W2 z + h2) - relu(W2 z), which is bounded: orbits are where all |A| are below 1."""

    @property
    def parts(self) -> int:
        return self.hidden

    @property
    def own(self) -> dict[str, tuple[int, ...]]:
        return {"W2": (self.hidden, self.latent), "h2": (self.hidden,)}

    def phi(self, p: Parameters) -> Phi:
        return Phi(p["W2"], np.stack([p["h2"], np.zeros_like(p["h2"])]), np.array([1.0, -1.0], p["h2"].dtype))

    def own_gradients(self, g: Phi) -> Parameters:
        return {"W2": g.P, "h2": g.o[0]}


class Plain(Cell):
    """φ = relu(z)."""

    hollow = True

    @property
    def parts(self) -> int:
        return self.latent

    @property
    def own(self) -> dict[str, tuple[int, ...]]:
        return {}

    def phi(self, p: Parameters) -> Phi:
        kind = p["A"].dtype
        return Phi(np.eye(self.latent, dtype=kind), np.zeros((1, self.latent), kind), np.ones(1, kind))

    def own_gradients(self, g: Phi) -> Parameters:
        return {}


class Centred(Cell):
    """φ = relu(z - mean of z)."""

    hollow = True

    @property
    def parts(self) -> int:
        return self.latent

    @property
    def own(self) -> dict[str, tuple[int, ...]]:
        return {}

    def phi(self, p: Parameters) -> Phi:
        kind = p["A"].dtype
        centre = np.eye(self.latent, dtype=kind) - np.array(1.0 / self.latent, kind)
        return Phi(centre, np.zeros((1, self.latent), kind), np.ones(1, kind))

    def own_gradients(self, g: Phi) -> Parameters:
        return {}


class Dendritic(Cell):
    """φ = sum over `hidden` bases b of a_b relu(z - H_b)."""

    hollow = True

    @property
    def parts(self) -> int:
        return self.latent

    @property
    def own(self) -> dict[str, tuple[int, ...]]:
        return {"a": (self.hidden,), "H": (self.hidden, self.latent)}

    def phi(self, p: Parameters) -> Phi:
        return Phi(np.eye(self.latent, dtype=p["A"].dtype), -p["H"], p["a"])

    def own_gradients(self, g: Phi) -> Parameters:
        return {"a": g.c, "H": -g.o}


CELLS: dict[str, type[Cell]] = {
    "clipped-shplrnn": Clipped,
    "shplrnn": Shallow,
    "plrnn": Plain,
    "mean-centred-plrnn": Centred,
    "dendritic-plrnn": Dendritic,
}


# ---------------------------------------------------------------------- observation maps
class Observation(ABC):
    """Between M latent states and N observed values."""

    def __init__(self, observed: int, latent: int, bias: bool) -> None:
        self.observed, self.latent, self.bias = observed, latent, bias

    @property
    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters."""

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> Parameters:
        """Where learning begins."""

    @abstractmethod
    def encode(self, p: Parameters, x: Array) -> Array:
        """Latent states (..., M) that are observed as x (..., N)."""

    @abstractmethod
    def decode(self, p: Parameters, z: Array) -> Array:
        """What is observed of states."""

    @abstractmethod
    def pull(self, p: Parameters, g: Array) -> Array:
        """Gradient of the states (..., M) from that of what is observed of them (..., N)."""

    @abstractmethod
    def gradients(self, z: Array, g: Array, x0: Array, g0: Array) -> Parameters:
        """Gradients of the parameters.

        From states z (n, M) and the gradient of what is observed of them (n, N), and from first observations x0 (S, N) and the
        gradient of the states that they are encoded as (S, M).
        """

    @abstractmethod
    def penalty(self, p: Parameters) -> tuple[float, Parameters]:
        """What is kept small, with its gradient."""


class Identity(Observation):
    """The first N latent states are what is observed; the others begin at L x."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"L": (self.latent - self.observed, self.observed)} if self.latent > self.observed else {}

    def initial(self, rng: np.random.Generator) -> Parameters:
        reach = 1.0 / np.sqrt(self.observed)
        return {name: rng.uniform(-reach, reach, shape) for name, shape in self.shapes.items()}

    def encode(self, p: Parameters, x: Array) -> Array:
        return np.concatenate([x, x @ p["L"].T], axis=-1) if self.shapes else x

    def decode(self, p: Parameters, z: Array) -> Array:
        return z[..., : self.observed]

    def pull(self, p: Parameters, g: Array) -> Array:
        hidden = np.zeros((*g.shape[:-1], self.latent - self.observed), dtype=g.dtype)
        return np.concatenate([g, hidden], axis=-1)

    def gradients(self, z: Array, g: Array, x0: Array, g0: Array) -> Parameters:
        return {"L": g0[:, self.observed :].T @ x0} if self.shapes else {}

    def penalty(self, p: Parameters) -> tuple[float, Parameters]:
        return (float((p["L"] ** 2).sum()), {"L": 2.0 * p["L"]}) if self.shapes else (0.0, {})


class Affine(Observation):
    """x = B z (+ b); the states of x are those of least squares."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"B": (self.observed, self.latent)} | ({"b": (self.observed,)} if self.bias else {})

    def initial(self, rng: np.random.Generator) -> Parameters:
        begin: Parameters = {"B": rng.normal(0.0, np.sqrt(2.0 / self.latent), (self.observed, self.latent))}
        return begin | ({"b": np.zeros(self.observed)} if self.bias else {})

    def encode(self, p: Parameters, x: Array) -> Array:
        return np.asarray((x - p["b"] if self.bias else x) @ np.linalg.pinv(p["B"]).T)

    def decode(self, p: Parameters, z: Array) -> Array:
        out = z @ p["B"].T
        return np.asarray(out + p["b"] if self.bias else out)

    def pull(self, p: Parameters, g: Array) -> Array:
        return np.asarray(g @ p["B"])

    def gradients(self, z: Array, g: Array, x0: Array, g0: Array) -> Parameters:
        return {"B": g.T @ z} | ({"b": g.sum(axis=0)} if self.bias else {})

    def penalty(self, p: Parameters) -> tuple[float, Parameters]:
        """How far the condition number of B is from 1, squared."""
        U, s, V = np.linalg.svd(p["B"], full_matrices=False)
        low = s[-1] + 1e-8
        away = 1.0 - s[0] / low
        slope = np.outer(U[:, 0], V[0]) / low - s[0] / low**2 * np.outer(U[:, -1], V[-1])
        return float(away**2), {"B": -2.0 * away * slope}


OBSERVATIONS: dict[str, type[Observation]] = {"identity": Identity, "affine": Affine}
