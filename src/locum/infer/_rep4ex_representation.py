"""Encoders trained on one half of the rows, and λ chosen by what they do on the other half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.infer._rep4ex_encoders import networks
from locum.infer._rep4ex_moments import Resampled, TestResult, linear_invariance_test, with_ones
from locum.infer._rep4ex_results import LamTried
from locum.nets import seeded

__all__ = ["Plan", "Representation", "Scaling", "best_of", "whitening"]

Array = NDArray[np.floating[Any]]
_Index = NDArray[np.intp]

_PRESERVED = 0.01  # of the variance of the inputs: how much reconstruction λ may cost


@dataclass(frozen=True)
class Scaling:
    """Mean zero and standard deviation one: of each column, or of each channel of images.

    Attributes
    ----------
    mean, scale : ndarray
        Of a shape that spreads over rows.
    """

    mean: Array
    scale: Array

    @classmethod
    def of(cls, rows: Array) -> Scaling:
        axes = (0,) if rows.ndim == 2 else (0, 2, 3)
        scale = rows.std(axis=axes, keepdims=True)
        return cls(rows.mean(axis=axes, keepdims=True), np.where(scale > 0, scale, 1.0))

    def __call__(self, rows: Array) -> Array:
        return (rows - self.mean) / self.scale


def whitening(code: Array) -> tuple[Array, Array]:
    """Mean, and the matrix that gives a code the identity as its covariance."""
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(code.T)))
    values = np.maximum(values, 1e-9 * max(values[-1], 1e-12))  # a direction that collapsed stays small
    return code.mean(axis=0), vectors / np.sqrt(values)


class Representation:
    """An encoder, whose code is whitened by the rows it was trained on."""

    def __init__(self, network: Any, x: Array, history: Any) -> None:
        self.network, self.history = network, history
        self._mean, self._root = whitening(networks().codes(network, x))

    def __call__(self, x: Array) -> Array:
        """Codes of standardised inputs, shape (n, d)."""
        return (networks().codes(self.network, x) - self._mean) @ self._root

    def reconstruction_r2(self, x: Array) -> float:
        return networks().reconstruction_r2(self.network, x)


@dataclass(frozen=True)
class Plan:
    """What all encoders of a fit have in common.

    Attributes
    ----------
    spec : DenseAutoencoder, ConvolutionalAutoencoder or VariationalAutoencoder
    latent_dim : int
    training : dict
        Settings of `fit` of the networks: epochs, batch size, learning rate, device.
    x, actions : ndarray
        Standardised.
    features : ndarray of shape (n, m)
        Of the actions, whose inner products are the kernel.
    resamples, random_state : int
    """

    spec: Any
    latent_dim: int
    training: dict[str, Any]
    x: Array
    actions: Array
    features: Array
    resamples: int
    random_state: int

    def trained(self, rows: _Index, lam: float, half: int) -> Representation:
        """An encoder that has seen those rows; the same half starts from the same weights whatever λ is."""
        seed = int(np.random.SeedSequence([self.random_state, half]).generate_state(1)[0])
        with seeded(seed):
            network = self.spec.build(self.x.shape[1:], self.latent_dim)
        parts = self.x[rows], with_ones(self.actions[rows]), self.features[rows]
        history = networks().fit(network, *parts, lam=lam, random_state=seed, **self.training)
        return Representation(network, self.x[rows], history)

    def moment_test(self, found: Representation, rows: _Index) -> Resampled:
        """Of an encoder, on rows it has not seen."""
        code = found(self.x[rows])
        mean, root = whitening(code)
        rng = np.random.default_rng([self.random_state, 2])
        return linear_invariance_test((code - mean) @ root, self.actions[rows], self.features[rows], rng, self.resamples)

    def tried(self, lams: Sequence[float], rows: _Index, others: _Index) -> tuple[list[Representation], tuple[LamTried, ...]]:
        """An encoder for each λ, trained on `rows`, and how it does on `others`."""
        found = [self.trained(rows, lam, 0) for lam in lams]
        tests = [TestResult.of(self.moment_test(one, others)) for one in found]
        kept = [one.reconstruction_r2(self.x[others]) for one in found]
        return found, tuple(LamTried(*each) for each in zip(lams, kept, tests, strict=True))


def best_of(path: Sequence[LamTried]) -> int:
    """Position of the λ with the smallest moment statistic among those that give the inputs back as well as any."""
    enough = max(one.reconstruction_r2 for one in path) - _PRESERVED
    able = [i for i, one in enumerate(path) if one.reconstruction_r2 >= enough]
    return min(able, key=lambda i: path[i].moment_test.statistic)
