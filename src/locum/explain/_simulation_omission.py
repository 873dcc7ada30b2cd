"""What goes where one column of a row is left open: expectations over the values that the other columns let one expect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from locum.core.domain import Domain

__all__ = ["Conditionals", "one_hot"]

_FLOAT = NDArray[np.float64]
_RARE = 0.005  # chance below which a value is not asked
_MOST_ROWS = 4000


def one_hot(domain: Domain, Z: _FLOAT) -> _FLOAT:
    """Levels as indicators, shape (n, levels); a missing value has none."""
    return np.concatenate(
        [Z[:, [j]] == np.arange(len(column.levels)) for j, column in enumerate(domain.columns)], axis=1
    ).astype(float)


class Conditionals:
    """A multinomial regression of each column on all others, learned from at most 4,000 rows.

    Parameters
    ----------
    domain : Domain
        Of categories.
    Z : ndarray of shape (n, d)
        Encoded rows.
    """

    def __init__(self, domain: Domain, Z: _FLOAT) -> None:
        self._domain = domain
        Z = Z[np.linspace(0, len(Z) - 1, min(len(Z), _MOST_ROWS)).astype(int)]
        sizes = [len(column.levels) for column in domain.columns]
        ends = np.cumsum(sizes)
        self._others = [np.r_[0 : end - size, end : ends[-1]] for end, size in zip(ends, sizes, strict=True)]
        indicators = one_hot(domain, Z)
        self._models: list[Any] = []
        for j, others in enumerate(self._others):
            known = ~np.isnan(Z[:, j])
            levels = np.unique(Z[known, j])
            if len(levels) < 2:
                self._models.append(levels)
                continue
            model = LogisticRegression(C=0.1, tol=1e-2, max_iter=1000)
            self._models.append(model.fit(indicators[known][:, others], Z[known, j]))

    def drops(self, z: _FLOAT, evidence: Callable[[_FLOAT], _FLOAT]) -> _FLOAT:
        """How much each column's value adds to the evidence for a row of shape (d,), shape (d,)."""
        rows, weights, owner = [z], [0.0], [-1]
        indicators = one_hot(self._domain, z[None])
        for j, model in enumerate(self._models):
            if isinstance(model, np.ndarray):
                continue
            chances = model.predict_proba(indicators[:, self._others[j]])[0]
            for level, chance in zip(model.classes_, chances, strict=True):
                if chance >= _RARE:
                    other = z.copy()
                    other[j] = level
                    rows.append(other)
                    weights.append(float(chance))
                    owner.append(j)
        after = evidence(np.stack(rows))
        mass, told = np.array(weights), np.array(owner)
        out = np.zeros(len(z))
        for j in np.unique(told[1:]):
            mine = told == j
            out[j] = after[0] - (mass[mine] @ after[mine]) / mass[mine].sum()
        return out
