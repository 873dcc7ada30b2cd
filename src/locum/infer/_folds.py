"""Rows in an order that their content sets, and folds drawn over it: the same rows give the same folds in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData

__all__ = ["codes_of", "content_order", "stratified_folds"]

_Index = NDArray[np.intp]


def codes_of(values: ArrayLike) -> tuple[_Index, NDArray[Any]]:
    """Whole numbers for the distinct values, and the values in sorted order; missing values are refused."""
    array = np.asarray(values)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise InvalidData(f"expected a value in every row, got {int(np.isnan(array).sum())} missing ones")
    if array.dtype.kind == "O":
        missing = [value is None or value != value for value in array]
        if any(missing):
            raise InvalidData(f"expected a value in every row, got {sum(missing)} missing ones")
        array = array.astype(str)
    levels, codes = np.unique(array, return_inverse=True)
    return codes.astype(np.intp), levels


def content_order(columns: Sequence[NDArray[Any]]) -> _Index:
    """Positions that sort rows by what they hold, shape (n,); rows that tie hold the same."""
    keys = [
        column if column.dtype.kind in "biuf" else np.unique(column.astype(str), return_inverse=True)[1] for column in columns
    ]
    return np.lexsort(keys)


def stratified_folds(folds: int, strata: _Index, rng: np.random.Generator, *, groups: _Index | None = None) -> NDArray[np.intp]:
    """A fold for each row, shape (n,), with each stratum spread evenly; whole groups stay together.

    Parameters
    ----------
    folds : int
    strata : ndarray of shape (n,)
        A group is of the largest stratum among its rows.
    rng : Generator
    groups : ndarray of shape (n,) or None, default=None
    """
    if groups is not None:
        of_group = np.zeros(int(groups.max()) + 1, dtype=np.intp)
        np.maximum.at(of_group, groups, strata)
        return stratified_folds(folds, of_group, rng)[groups]
    order = rng.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    out = np.empty(len(strata), dtype=np.intp)
    out[order] = np.arange(len(strata)) % folds
    return out
