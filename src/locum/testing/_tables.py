"""Small tables whose answers are known, for things that learn."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core._content import Rows
from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.target import Target

__all__ = ["Table", "drawn", "given", "planted", "without_last_column"]

_COLOURS = np.array(["blue", "green", "red"], dtype=object)
_LABELS = np.array(["high", "low", "middle"], dtype=object)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with their answers.

    Attributes
    ----------
    X : n rows
    y : ndarray of shape (n,) or (n, k)
        Labels, probabilities or values.
    output : {"class", "probability", "value"}
    answer : callable or None
        Answers any rows like these; None where only these have answers.
    """

    X: Any
    y: NDArray[Any]
    output: str
    answer: Callable[[Any], NDArray[Any]] | None

    @property
    def classes(self) -> NDArray[Any] | None:
        """Of labels."""
        return np.unique(self.y) if self.output == "class" else None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, positions: Any) -> Any:
        """Some rows, in their container."""
        return Rows(self.X).take(np.asarray(positions))

    def target(self, *, recorded: bool = False) -> Target:
        """What answers these rows, and where possible others."""
        only_these = recorded or self.answer is None
        answer = self._recorded if only_these else self.answer
        rows = self.X if only_these else None
        return Target(answer, name="checked", output=self.output, classes=self.classes, rows=rows)  # type: ignore[arg-type]

    def _recorded(self, X: Any) -> NDArray[Any]:
        place = {key: i for i, key in enumerate(Rows(self.X).keys)}
        return self.y[[place[key] for key in Rows(X).keys]]


def planted(n: int, *, output: str, categories: bool, missing: bool, several: bool = True, seed: int = 0) -> Table:
    """Rows of three numbers and, where wanted, a category and missing values, answered by a sum that sets classes apart."""
    rng = np.random.default_rng(seed)
    numbers = np.column_stack([rng.uniform(size=n), rng.normal(size=n), rng.integers(0, 10, n).astype(float)])
    if missing:
        numbers[rng.random(n) < 0.15, 2] = np.nan
    X: NDArray[Any] = numbers
    if categories:
        X = np.empty((n, 4), dtype=object)
        X[:, :3] = numbers
        X[:, 3] = _COLOURS[rng.integers(0, 3, n)]
        if missing:
            X[rng.random(n) < 0.1, 3] = None
    edges = np.quantile(_score(X), [1 / 3, 2 / 3] if several else [1 / 2])

    def answer(rows: Any) -> NDArray[Any]:
        score = _score(rows)
        if output == "value":
            return score
        if output == "class":
            return _LABELS[np.digitize(score, edges)].astype(str)
        raised = np.exp(-np.abs(score[:, None] - np.quantile(edges, [0, 0.5, 1])) * 3)
        return raised / raised.sum(axis=1, keepdims=True)

    return Table(X, answer(X), output, answer)


def _score(X: NDArray[Any]) -> NDArray[np.float64]:
    numbers = X[:, :3].astype(float)
    score = 3 * (numbers[:, 0] > 0.45) + numbers[:, 1] + np.where(np.isnan(numbers[:, 2]), 1.0, 0.2 * numbers[:, 2])
    if X.shape[1] > 3:
        score += np.select([X[:, 3] == "red", X[:, 3] == "blue"], [2.0, -1.0], 0.3)
    return score


def given(X: Any, y: Any) -> Table:
    """A table of one's own."""
    y = np.asarray(y)
    if y.ndim == 0 or len(y) != Rows(X).n:
        raise InvalidData(f"expected an answer for each of the {Rows(X).n} rows, got answers of shape {y.shape}")
    output = "probability" if y.ndim == 2 else "value" if y.dtype.kind == "f" else "class"
    return Table(deepcopy(X), y.copy(), output, None)


def drawn(domain: Domain, n: int, seed: int = 0) -> NDArray[np.float64]:
    """Encoded rows (n, d) from the ranges and levels of a domain, missing where that may be."""
    rng = np.random.default_rng(seed)
    Z = np.empty((n, len(domain)))
    for j, column in enumerate(domain.columns):
        if column.kind == "categorical":
            Z[:, j] = rng.choice(np.setdiff1d(np.arange(len(column.levels)), column.unseen), n)
        elif column.low is None or column.high is None:
            Z[:, j] = np.nan
        else:
            Z[:, j] = rng.uniform(column.low, column.high, n)
        if column.missing:
            Z[rng.random(n) < 0.1, j] = np.nan
    return np.where(np.isnan(Z), Z, domain.fill(Z))


def without_last_column(X: Any) -> Any:
    """Rows that lack one of their columns."""
    if isinstance(X, np.ndarray) and X.dtype.names:
        return X[list(X.dtype.names[:-1])]
    return X.iloc[:, :-1] if hasattr(X, "iloc") else X[:, :-1]
