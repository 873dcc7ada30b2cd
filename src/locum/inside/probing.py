"""How well few latents tell a concept: sparse probes beside dense ones, principal and random directions, and other networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from locum.core.bounds import bounded_mean
from locum.core.errors import InvalidData, require_positive, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.rows import finite_rows

__all__ = ["SparseProbe", "probe_rivals", "sparse_probe"]

_FLOATS = NDArray[np.float64]
_ROUNDS = 1000  # of the solver


@dataclass(frozen=True)
class SparseProbe:
    """A logistic probe on few columns, and how well it tells the concept on rows that did not fit it.

    Attributes
    ----------
    columns : tuple of int
        That it reads, the most telling by itself first.
    weights : ndarray of shape (k,)
        Of the columns as they are.
    intercept : float
    accuracy : Fidelity
        Balanced: rows with the concept count as much as those without. A coin has one half.
    f1 : float
        On the rows that did not fit it.
    """

    columns: tuple[int, ...]
    weights: _FLOATS
    intercept: float
    accuracy: Fidelity
    f1: float

    def scores(self, table: Any) -> _FLOATS:
        """Log-odds of the concept, shape (n,).

        Parameters
        ----------
        table : sparse or dense array of shape (n, columns)
        """
        return np.asarray(_dense(table, np.array(self.columns)) @ self.weights + self.intercept)


def sparse_probe(
    train: Any,
    train_labels: ArrayLike,
    test: Any,
    test_labels: ArrayLike,
    ks: Sequence[int] = (1, 2, 5, 16),
    *,
    C: float = 1.0,
    documents: ArrayLike | None = None,
    level: float = 0.95,
) -> dict[int, SparseProbe]:
    """Logistic probes on the k columns of which the means with and without the concept lie furthest apart.

    Distances are in standard deviations of the column on the rows that fit; the columns are scaled to these before the probe is
    fitted, with the classes weighted alike.

    Parameters
    ----------
    train : sparse or dense array of shape (n, columns)
        Codes, or rows themselves. A k of all columns gives the dense probe.
    train_labels : array-like of bool, shape (n,)
    test, test_labels : as `train`, `train_labels`
        Of rows of other documents.
    ks : sequence of int, default=(1, 2, 5, 16)
        Those above the number of columns mean all of them.
    C : float, default=1.0
        Inverse of the weight of the squared weights.
    documents : array-like of shape (m,), optional
        Of the test rows; the interval is over them where given.
    level : float, default=0.95

    Returns
    -------
    dict of int to SparseProbe

    Raises
    ------
    InvalidData
        Tables that do not fit together, or labels of one kind.

    Notes
    -----
    Cost: a pass over the columns, and a logistic regression for each k.

    References
    ----------
    Gurnee and others, arXiv 2305.01610; the choice of columns is that of Karvonen and others, arXiv 2503.09532.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> codes = rng.random((400, 6))
    >>> has = codes[:, 4] > 0.5
    >>> found = sparse_probe(codes[:200], has[:200], codes[200:], has[200:], [1])
    >>> found[1].columns, found[1].accuracy.value > 0.9
    ((4,), True)
    """
    one, flags, other, held = _checked(train, train_labels, test, test_labels)
    require_positive(C=C)
    wanted = sorted({min(int(k), one.shape[1]) for k in ks})
    if not wanted or wanted[0] < 1:
        raise InvalidData(f"expected ks= of 1 or more each, got {list(ks)}")
    gap, spread = _gaps(one, flags)
    order = np.argsort(-np.abs(gap), kind="stable")
    return {k: _fitted(one, flags, other, held, order[:k], spread, C, documents, level) for k in wanted}


def probe_rivals(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    ks: Sequence[int] = (1, 2, 5, 16),
    *,
    n_latents: int,
    others: Mapping[str, tuple[Any, Any]] | None = None,
    C: float = 1.0,
    documents: ArrayLike | None = None,
    level: float = 0.95,
    random_state: int = 0,
) -> dict[str, dict[int, SparseProbe]]:
    """The same probes on what needs no dictionary.

    Parameters
    ----------
    train : array-like of shape (n, width)
        Rows of activations.
    train_labels : array-like of bool, shape (n,)
    test, test_labels : as `train`, `train_labels`
        Of rows of other documents.
    ks : sequence of int, default=(1, 2, 5, 16)
    n_latents : int
        Of the dictionary: that many random directions are drawn.
    others : dict of str to (train, test), or None, default=None
        More of them, such as "untrained network" with its rows, or codes of a dictionary of these. Their labels are the same.
    C : float, default=1.0
    documents : array-like of shape (m,), optional
    level : float, default=0.95
    random_state : int, default=0

    Returns
    -------
    dict of str to dict of int to SparseProbe
        "coordinates", "PCA" (components of the training rows), "random directions" (the positive part along as many as there
        are latents, from the mean) and those of `others`, each with k columns; "dense probe" on all coordinates, under their
        number.
    """
    x, flags, y, held = _checked(finite_rows(train), train_labels, finite_rows(test), test_labels)
    require_whole(1, n_latents=n_latents)
    told: dict[str, Any] = {"C": C, "documents": documents, "level": level}
    mean, width = x.mean(axis=0), x.shape[1]
    axes = np.linalg.svd(x - mean, full_matrices=False)[2]
    drawn = np.random.default_rng([random_state, 15]).normal(size=(width, n_latents)).astype(np.float32) / width**0.5
    tables: dict[str, tuple[Any, Any]] = {
        "coordinates": (x, y),
        "PCA": ((x - mean) @ axes.T, (y - mean) @ axes.T),
        "random directions": (np.maximum((x - mean) @ drawn, 0.0), np.maximum((y - mean) @ drawn, 0.0)),
        **(others or {}),
    }
    found = {name: sparse_probe(a, flags, b, held, ks, **told) for name, (a, b) in tables.items()}
    return {"dense probe": sparse_probe(x, flags, y, held, [width], **told), **found}


# ---------------------------------------------------------------------- parts
def _checked(train: Any, train_labels: ArrayLike, test: Any, test_labels: ArrayLike) -> tuple[Any, Any, Any, Any]:
    tables = [sparse.csc_array(one) if sparse.issparse(one) else np.asarray(one) for one in (train, test)]
    flags = [np.asarray(one) for one in (train_labels, test_labels)]
    for which, table, flag in zip(("train", "test"), tables, flags, strict=True):
        if table.ndim != 2 or flag.shape != (table.shape[0],):
            raise InvalidData(f"expected a label for each row of {which}, got shapes {table.shape} and {flag.shape}")
        if not np.isin(flag, (0, 1)).all() or flag.all() or not flag.any():
            raise InvalidData(f"expected labels of {which} as true and false, both of them there")
    if tables[0].shape[1] != tables[1].shape[1]:
        raise InvalidData(f"expected tables of the same columns, got {tables[0].shape[1]} and {tables[1].shape[1]}")
    return tables[0], flags[0].astype(bool), tables[1], flags[1].astype(bool)


def _gaps(table: Any, flags: NDArray[np.bool_]) -> tuple[_FLOATS, _FLOATS]:
    """Difference of the means of each column, in its standard deviations, and these; 0 for columns without spread."""
    n, squared = len(flags), table.multiply(table) if sparse.issparse(table) else table * table
    weights = np.column_stack([flags / flags.sum(), ~flags / (~flags).sum(), np.full(n, 1 / n)]).T
    with_it, without, mean = np.asarray(weights @ table, dtype=np.float64)
    spread = np.sqrt(np.maximum(np.asarray(squared.sum(axis=0), dtype=np.float64).ravel() / n - mean**2, 0.0))
    good = spread > 1e-6 * max(float(spread.max()), 1e-12)
    return np.where(good, (with_it - without) / np.where(good, spread, 1.0), 0.0), np.where(good, spread, 1.0)


def _dense(table: Any, columns: NDArray[np.int64]) -> _FLOATS:
    part = sparse.csc_array(table)[:, columns].toarray() if sparse.issparse(table) else np.asarray(table)[:, columns]
    return np.asarray(part, dtype=np.float64)


def _fitted(
    train: Any, flags: NDArray[np.bool_], test: Any, held: NDArray[np.bool_], columns: NDArray[np.int64], spread: _FLOATS,
    C: float, documents: ArrayLike | None, level: float,
) -> SparseProbe:  # fmt: skip
    scale = spread[columns]
    x = _dense(train, columns)
    centre = x.mean(axis=0)  # a common shift is the intercept's, and the solver is quicker without
    model = LogisticRegression(C=C, class_weight="balanced", max_iter=_ROUNDS)
    model.fit((x - centre) / scale, flags)
    weights = model.coef_[0] / scale
    intercept = float(model.intercept_[0] - centre @ weights)
    said = _dense(test, columns) @ weights + intercept > 0
    right, hits = said == held, int((said & held).sum())
    balance = np.where(held, 0.5 / held.sum(), 0.5 / (~held).sum())
    ends = bounded_mean(right.astype(float), 0.0, 1.0, level, weights=balance, groups=documents)
    value = float(np.clip((balance * right).sum(), ends.lower, ends.upper))
    groups = None if documents is None else len(np.unique(np.asarray(documents)))
    accuracy = Fidelity(
        f"balanced accuracy of a probe on {len(columns)} columns", value, ends.lower, ends.upper, level, len(held), "",
        "rows that did not fit", ends.method, groups=groups,
    )  # fmt: skip
    f1 = 2 * hits / max(int(said.sum()) + int(held.sum()), 1)
    return SparseProbe(tuple(int(i) for i in columns), weights, intercept, accuracy, f1)
