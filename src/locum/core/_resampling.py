"""The studentised bootstrap as a few matrix products."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData

__all__ = ["counts", "gradient", "studentised"]

Array = NDArray[np.float64]


@lru_cache(maxsize=2)
def counts(seed: int, resamples: int, units: int) -> Array:
    """How often each unit is drawn in each resample, shape (resamples, units)."""
    drawn = np.random.default_rng(seed).integers(units, size=(resamples, units))
    drawn += np.arange(resamples)[:, None] * units
    table = np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units).astype(float)
    table.flags.writeable = False
    return table


def studentised(
    statistic: Callable[[Array], Array], centre: float, mean: Array, residual: Array, mass: Array, scale: Array, table: Array
) -> Array:
    """Sorted ``(statistic* - statistic) / error*``, one for each resample on which the statistic is defined.

    `residual` holds unit sums about the overall mean, `table` how often each unit was drawn; the error is the delta
    method's, at the resample's own means.
    """
    units = len(mass)
    terms = np.column_stack([residual, mass])
    # Sums of squared influences are a quadratic form in sums of products: no table of (resamples, units) beside the counts.
    i, j = np.triu_indices(terms.shape[1])
    drawn = table @ np.column_stack([terms, terms[:, i] * terms[:, j]])
    sums, products = drawn[:, : terms.shape[1]], drawn[:, terms.shape[1] :]
    shift, total = sums[:, :-1] / sums[:, -1:], sums[:, -1]
    with np.errstate(all="ignore"):
        slopes = gradient(statistic, mean + shift, scale)
        reach = np.column_stack([slopes, -(slopes * shift).sum(axis=1)])
        squares = (products * reach[:, i] * reach[:, j] * np.where(i == j, 1.0, 2.0)).sum(axis=1)
        errors = np.sqrt(units / (units - 1) * np.maximum(squares, 0.0)) / total
        away = statistic(mean + shift) - centre
        t = np.where((away == 0.0) & (errors == 0.0), 0.0, away / errors)
    t = np.sort(t[~np.isnan(t)])
    if len(t) < len(table) / 2:
        raise InvalidData("the statistic is undefined on most resamples: it rests on too few rows, ask for more")
    return t


def gradient(statistic: Callable[[Array], Array], means: Array, scale: Array) -> Array:
    """Central differences of the statistic at each line of means, shape of means."""
    slopes = np.zeros_like(means)
    for j in np.flatnonzero(scale > 0):
        step = np.zeros(means.shape[1])
        step[j] = 1e-4 * scale[j]
        slopes[:, j] = (statistic(means + step) - statistic(means - step)) / (2.0 * step[j])
    return slopes
