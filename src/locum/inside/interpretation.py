"""Which property each latent of a dictionary stands for: the one, or the union, that its activity tells best by F1."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from locum.core.errors import InvalidData, require_whole

__all__ = ["Interpretation", "f1_scores", "interpret", "label_properties"]

_FLOATS = NDArray[np.float64]
_BOOLS = NDArray[np.bool_]
Properties = Mapping[str, Mapping[Any, ArrayLike]]


def label_properties(labels: Mapping[str, ArrayLike]) -> dict[str, dict[Any, _BOOLS]]:
    """Each value of each attribute, and of each two attributes together, by family.

    Parameters
    ----------
    labels : mapping of str to array-like of shape (n,)

    Returns
    -------
    dict of str to dict of value to ndarray of bool, shape (n,)
        Families are "A", and "A, B" for two; values of two are tuples.
    """
    table = {name: np.asarray(values) for name, values in labels.items()}
    found: dict[str, dict[Any, _BOOLS]] = {}
    for name, values in table.items():
        found[name] = {value: values == value for value in np.unique(values).tolist()}
    for one, other in itertools.combinations(table, 2):
        pairs = {(v, w): a & b for v, a in found[one].items() for w, b in found[other].items()}
        found[f"{one}, {other}"] = {pair: both for pair, both in pairs.items() if both.any()}
    return found


def f1_scores(codes: Any, properties: Mapping[Any, ArrayLike]) -> _FLOATS:
    """How well the activity of each latent tells each property, shape (n_latents, properties).

    ``2 TP / (active rows + rows with the property)``; 0 for a latent that is never active, or a property that no row has.

    Parameters
    ----------
    codes : sparse or dense array of shape (n, n_latents)
        Active where not 0.
    properties : mapping of value to array-like of bool, shape (n,)
    """
    active, has = _active(codes), _flags(properties, codes.shape[0])
    both = np.asarray(active.T @ has.astype(np.float64))
    total = np.asarray(active.sum(axis=0)).ravel()[:, None] + has.sum(axis=0)
    return np.divide(2 * both, total, out=np.zeros_like(both), where=total > 0)


@dataclass(frozen=True)
class Interpretation:
    """What each latent stands for.

    Attributes
    ----------
    family : tuple of str, one a latent
        "" for a latent that is never active.
    values : tuple of tuple, one a latent
        The value of the family that it stands for, or the values of a union.
    f1 : ndarray of shape (n_latents,)
        On the rows that it was chosen on, and so too high; see :meth:`on`.
    positives : ndarray of int, shape (n_latents,)
        Rows with the property: F1 is low, and says little, where there are few.
    """

    family: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    f1: _FLOATS
    positives: NDArray[np.int64]

    def found(self, family: str, threshold: float = 0.5, *, single: bool = False) -> NDArray[np.int64]:
        """Latents that stand for something of a family.

        Parameters
        ----------
        family : str
        threshold : float, default=0.5
            Least F1.
        single : bool, default=False
            Leave out unions.
        """
        good = [
            name == family and score >= threshold and (not single or len(values) == 1)
            for name, score, values in zip(self.family, self.f1, self.values, strict=True)
        ]
        return np.flatnonzero(good)

    def on(self, codes: Any, properties: Properties) -> _FLOATS:
        """F1 of the same interpretations on other rows, shape (n_latents,).

        Parameters
        ----------
        codes : sparse or dense array of shape (n, n_latents)
        properties : as in :func:`interpret`
            Of those rows; a value that none of them has may be left out.
        """
        active, n = sparse.csc_array(_active(codes)), codes.shape[0]
        table = {name: {value: np.asarray(has, dtype=bool) for value, has in of.items()} for name, of in properties.items()}
        out = np.zeros(len(self.f1))
        for i, (name, values) in enumerate(zip(self.family, self.values, strict=True)):
            there = [table[name][value] for value in values if value in table.get(name, {})]
            has = np.logical_or.reduce(there) if there else np.zeros(n, dtype=bool)
            rows = active.indices[active.indptr[i] : active.indptr[i + 1]]
            total = len(rows) + has.sum()
            out[i] = 2 * has[rows].sum() / total if total else 0.0
        return out


def interpret(codes: Any, properties: Properties, *, unions: int = 10) -> Interpretation:
    """The property, or the union of properties of one family, that each latent's activity tells best.

    Unions take in the properties of a family in the order of their F1 with the latent, up to `unions` of them; of equal scores
    that of fewer properties counts, and of the family that comes first.

    Parameters
    ----------
    codes : sparse or dense array of shape (n, n_latents)
        Active where not 0.
    properties : mapping of str to mapping of value to array-like of bool, shape (n,)
        Families; :func:`label_properties` makes those of labels.
    unions : int, default=10
        Most properties in a union; 1 for none.

    Raises
    ------
    InvalidData
        No property, or flags that do not fit the codes.

    Notes
    -----
    Cost: O(families · unions · n · n_latents).
    """
    require_whole(1, unions=unions)
    if not properties or not all(properties.values()):
        raise InvalidData("expected at least one family with at least one property, got none")
    active = _active(codes).toarray()
    n, p = active.shape
    count = active.sum(axis=0)
    best = np.zeros(p)
    family, values, positives = [""] * p, [()] * p, np.zeros(p, dtype=np.int64)
    for name, of in properties.items():
        keys, has = list(of), _flags(of, n)
        order = np.argsort(-f1_scores(codes, of), axis=1, kind="stable")
        union = np.zeros((n, p), dtype=bool)
        for k in range(min(unions, len(keys))):
            union |= has[:, order[:, k]]
            total = count + union.sum(axis=0)
            score = 2 * (union & active).sum(axis=0) / np.maximum(total, 1)
            for i in np.flatnonzero(score > best + 1e-12):
                best[i], family[i], positives[i] = score[i], name, union[:, i].sum()
                values[i] = tuple(keys[j] for j in order[i, : k + 1])
    return Interpretation(tuple(family), tuple(values), best, positives)


def _active(codes: Any) -> sparse.csr_array:
    if sparse.issparse(codes):
        return sparse.csr_array(codes != 0)
    return sparse.csr_array(np.asarray(codes) != 0)


def _flags(properties: Mapping[Any, ArrayLike], n: int) -> _BOOLS:
    columns = [np.asarray(one, dtype=bool) for one in properties.values()]
    bad = [one.shape for one in columns if one.shape != (n,)]
    if bad or not columns:
        raise InvalidData(f"expected properties as flags of {n} rows, got shape {bad[0] if bad else 'none'}")
    return np.stack(columns, axis=1)
