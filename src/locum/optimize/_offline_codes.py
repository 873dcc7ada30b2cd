"""Designs as standardised numbers, and back: what offline methods work on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData

__all__ = ["DesignCode"]

_FLOAT = NDArray[np.float64]
_SOFT = 0.6  # share of a choice that is its own; the rest is spread over all


@final
class DesignCode:
    """Standardised numbers for designs; categories as logits of a softened choice, less that of the first.

    Trabucco et al., arXiv 2202.08450, section 5.

    Parameters
    ----------
    n_choices : int, sequence of int or None
        Categories at each position; None for numbers.
    """

    def __init__(self, n_choices: int | Sequence[int] | None) -> None:
        self.n_choices = n_choices

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn means and deviations.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,) or None, default=None
            Values, where they are to be standardised too.

        Raises
        ------
        InvalidData
            Designs that are not finite or no categories, or values that are all the same.
        """
        designs = np.asarray(X)
        if designs.ndim != 2 or len(designs) < 2:
            raise InvalidData(f"expected two or more designs of shape (n, d), got {designs.shape}")
        self.columns_ = designs.shape[1]
        raw = self._raw(designs)
        self.middle_ = raw.mean(axis=0)
        spread = raw.std(axis=0)
        self.spread_ = np.where(spread > 0, spread, 1.0)
        if y is not None:
            values = np.asarray(y, dtype=float)
            if values.shape != (len(designs),) or not np.isfinite(values).all():
                found = f"shape {values.shape}" if values.shape != (len(designs),) else "NaN or infinity"
                raise InvalidData(f"expected one finite value for each of {len(designs)} designs, got {found}")
            self.value_middle_, self.value_spread_ = float(values.mean()), float(values.std())
            if not self.value_spread_ > 0:
                raise InvalidData("the values are all the same: there is nothing to make better")
        return self

    def _choices(self) -> list[int] | None:
        """Categories of each position."""
        if self.n_choices is None:
            return None
        if isinstance(self.n_choices, int | np.integer):
            return [int(self.n_choices)] * self.columns_
        if len(self.n_choices) != self.columns_:
            raise InvalidData(f"expected n_choices for each of {self.columns_} positions, got {len(self.n_choices)}")
        return list(self.n_choices)

    def _raw(self, designs: NDArray[Any]) -> _FLOAT:
        choices = self._choices()
        if designs.ndim != 2 or designs.shape[1] != self.columns_:
            raise InvalidData(f"expected designs of shape (n, {self.columns_}), got {designs.shape}")
        if choices is None:
            found = designs.astype(float)
            if not np.isfinite(found).all():
                raise InvalidData("expected finite designs, got NaN or infinity")
            return found
        parts = []
        for j, k in enumerate(choices):
            codes = designs[:, j].astype(np.intp)
            if (codes != designs[:, j]).any() or codes.min() < 0 or codes.max() >= k:
                raise InvalidData(f"expected whole numbers from 0 to {k - 1} at position {j}")
            logits = np.log(_SOFT * np.eye(k)[codes] + (1 - _SOFT) / k)
            parts.append(logits[:, 1:] - logits[:, :1])
        return np.concatenate(parts, axis=1)

    def encode(self, X: ArrayLike) -> _FLOAT:
        """Designs as numbers of mean 0 and deviation 1, shape (n, width)."""
        return np.asarray((self._raw(np.asarray(X)) - self.middle_) / self.spread_)

    def decode(self, rows: ArrayLike) -> NDArray[Any]:
        """The designs that rows of shape (n, width) stand for, shape (n, d)."""
        raw = np.asarray(rows, dtype=float) * self.spread_ + self.middle_
        choices, out, place = self._choices(), [], 0
        if choices is None:
            return np.asarray(raw)
        for k in choices:
            logits = np.column_stack([np.zeros(len(raw)), raw[:, place : place + k - 1]])
            out.append(logits.argmax(axis=1))
            place += k - 1
        return np.stack(out, axis=1)
