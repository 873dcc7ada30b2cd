"""What takes the place of the parts of an input that are taken away: a named distribution, drawn from more than once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from locum.core.errors import InvalidData, require_whole

__all__ = ["Baseline", "ConstantBaseline", "MeanBaseline", "NormalBaseline", "PermutedBaseline", "replaced"]

_FLOAT = NDArray[np.float64]


class Baseline(BaseEstimator, ABC):
    """Inputs with nothing of the one explained in them: rows, series, images or activations of one shape.

    Attributes
    ----------
    name : str
        The distribution in words, for the record of an explanation.
    """

    @property
    @abstractmethod
    def name(self) -> str: ...

    def fit(self, X: ArrayLike) -> Self:
        """Take inputs of shape (n, ...) as examples.

        Raises
        ------
        InvalidData
            No input, or numbers that are not finite.
        """
        found = np.asarray(X, dtype=float)
        if found.ndim < 2 or not len(found):
            raise InvalidData(f"expected inputs of shape (n, ...) with n of at least 1, got shape {found.shape}")
        if not np.isfinite(found).all():
            raise InvalidData("expected finite inputs, got NaN or infinity; impute or drop them first")
        self.shape_ = found.shape[1:]
        self._learn(found)
        return self

    def draw(self, n: int, rng: np.random.Generator) -> _FLOAT:
        """Draw n inputs, an array of shape (n, ...)."""
        if not hasattr(self, "shape_"):
            raise InvalidData(f"{type(self).__name__} has seen no inputs yet; call fit(X) first")
        return self._draw(n, rng)

    @abstractmethod
    def _learn(self, X: _FLOAT) -> None:
        """Keep what drawing takes."""

    @abstractmethod
    def _draw(self, n: int, rng: np.random.Generator) -> _FLOAT: ...


@final
class ConstantBaseline(Baseline):
    """One number everywhere.

    Parameters
    ----------
    value : float, default=0.0
    """

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    @property
    def name(self) -> str:
        return f"the constant {self.value:g}"

    def _learn(self, X: _FLOAT) -> None:
        if not np.isfinite(self.value):
            raise InvalidData(f"expected a finite value, got {self.value!r}")

    def _draw(self, n: int, rng: np.random.Generator) -> _FLOAT:
        return np.full((n, *self.shape_), self.value)


@final
class MeanBaseline(Baseline):
    """The mean of each position over the examples.

    Attributes
    ----------
    mean_ : ndarray of the shape of one input
    """

    @property
    def name(self) -> str:
        return "the mean of each position"

    def _learn(self, X: _FLOAT) -> None:
        self.mean_ = X.mean(axis=0)

    def _draw(self, n: int, rng: np.random.Generator) -> _FLOAT:
        return np.tile(self.mean_, (n, *(1,) * self.mean_.ndim))


@final
class NormalBaseline(Baseline):
    """A normal distribution for each position, independent of the others.

    Attributes
    ----------
    mean_, sd_ : ndarray of the shape of one input
    """

    @property
    def name(self) -> str:
        return "a normal distribution for each position"

    def _learn(self, X: _FLOAT) -> None:
        self.mean_, self.sd_ = X.mean(axis=0), X.std(axis=0)

    def _draw(self, n: int, rng: np.random.Generator) -> _FLOAT:
        return rng.normal(self.mean_, self.sd_, size=(n, *self.shape_))


@final
class PermutedBaseline(Baseline):
    """Whole examples at random: what positions have to do with one another stays."""

    @property
    def name(self) -> str:
        return "other examples"

    def _learn(self, X: _FLOAT) -> None:
        self._examples = X

    def _draw(self, n: int, rng: np.random.Generator) -> _FLOAT:
        return self._examples[rng.integers(len(self._examples), size=n)]


def replaced(X: ArrayLike, keep: ArrayLike, baseline: Baseline, *, draws: int = 5, random_state: Any = 0) -> Iterator[_FLOAT]:
    """Inputs with what is not kept replaced, once for each draw of the baseline.

    Parameters
    ----------
    X : array-like of shape (n, ...)
    keep : array-like of bool
        Of that shape, or one that broadcasts to it: what stays.
    baseline : Baseline
        Fitted.
    draws : int, default=5
    random_state : int or Generator, default=0

    Yields
    ------
    ndarray of the shape of X

    Raises
    ------
    InvalidData
        Shapes that do not fit, or a mask that is not of bools.

    Examples
    --------
    >>> baseline = MeanBaseline().fit([[0.0, 4.0], [2.0, 6.0]])
    >>> [found.tolist() for found in replaced([[9.0, 9.0]], [[True, False]], baseline, draws=1)]
    [[[9.0, 5.0]]]
    """
    given, mask = np.asarray(X, dtype=float), np.asarray(keep)
    require_whole(1, draws=draws)
    if mask.dtype != bool:
        raise InvalidData(f"expected keep= of bools, got {mask.dtype}")
    if given.shape[1:] != getattr(baseline, "shape_", given.shape[1:]):
        raise InvalidData(f"expected inputs of shape (n, {', '.join(map(str, baseline.shape_))}), got {given.shape}")
    try:
        mask = np.broadcast_to(mask, given.shape)
    except ValueError:
        raise InvalidData(f"expected keep= of a shape that fits {given.shape}, got {mask.shape}") from None
    rng = np.random.default_rng(random_state)
    return (np.where(mask, given, baseline.draw(len(given), rng)) for _ in range(draws))
