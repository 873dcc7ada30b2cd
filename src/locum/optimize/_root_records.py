"""What a bridge between designs gives back, and what it refuses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, LocumError, require_one_of, require_whole
from locum.core.fidelity import Fidelity

__all__ = ["BridgeDiagnostics", "NoPairs", "Translation", "above_the_best", "check_settings", "table"]

_FLOAT = NDArray[np.float64]
_TARGET = re.compile(r"\s*max\s*\+\s*(\d+(?:\.\d*)?|\.\d+)\s*sd\s*")
_WHOLE = {
    "n_functions": 1, "ascent_steps": 1, "hidden": 1, "epochs": 1, "refresh": 1, "batch_size": 1,
    "T": 2, "sample_steps": 2, "n_pairs": 2, "random_state": 0,
}  # fmt: skip


class NoPairs(LocumError, RuntimeError):
    """No walk on the posterior means went far enough to make a pair of a poor and a good design."""


@dataclass(frozen=True)
class BridgeDiagnostics:
    """How the training went.

    Attributes
    ----------
    losses, validation : tuple of float
        Mean absolute error of the network after each epoch: on training pairs, and on pairs from starts never trained on.
    kept : tuple of float
        Share of walks that gave a pair, each time that pairs were drawn.
    gaps : tuple of float
        Quantiles 0.1, 0.5 and 0.9 of the gap in value within a pair, in deviations of y, at the last draw.
    high_values : tuple of float
        The same quantiles of the value at a pair's upper end, in the unit of y: what the network has seen as good.
    high_distances : tuple of float
        The same quantiles of an upper end's distance to the nearest row, in z-scored coordinates. Far from all rows the
        posterior means are made up.
    row_distance : float
        For comparison: the median distance of a row to the nearest other one.
    """

    losses: tuple[float, ...]
    validation: tuple[float, ...]
    kept: tuple[float, ...]
    gaps: tuple[float, ...]
    high_values: tuple[float, ...]
    high_distances: tuple[float, ...]
    row_distance: float


@dataclass(frozen=True, eq=False)
class Translation:
    """Designs, where they come from, and what the stand-in says of them.

    Attributes
    ----------
    X : ndarray of shape (m, d)
        Designs, coded as those of `fit`.
    sources : ndarray of shape (m, d)
    y_low, y_high : ndarray of shape (m,)
        The values that were asked about: at the source, and wanted. NaN where none was wanted.
    predicted : ndarray of shape (m,)
        By the mean of the posterior means, which is no promise: see `fidelity`.
    distances : ndarray of shape (m,)
        To the nearest row of the data, in z-scored coordinates.
    unique : int
        Different designs among them.
    seen : int
        Designs that are rows of the data.
    fidelity : tuple of Fidelity
        Of the stand-in.
    """

    X: NDArray[Any]
    sources: NDArray[Any]
    y_low: _FLOAT
    y_high: _FLOAT
    predicted: _FLOAT
    distances: _FLOAT
    unique: int
    seen: int
    fidelity: tuple[Fidelity, ...]


def check_settings(given: Mapping[str, Any]) -> None:
    """Refuse settings of `BridgeOptimizer` that cannot be used.

    Raises
    ------
    InvalidData
        Names the first.
    """
    for name, least in _WHOLE.items():
        require_whole(least, **{name: given[name]})
    if given["max_gp_rows"] is not None:
        require_whole(2, max_gp_rows=given["max_gp_rows"])
    require_one_of(("top", "low", "all"), pool=given["pool"])
    require_one_of(("consistent", "released"), order=given["order"])
    for name in ("lengthscale", "outputscale", "gp_noise", "ascent_lr", "learning_rate"):
        _require(name, given[name], lambda number: number > 0, "above 0")
    for name in ("noise_scale", "min_gap"):
        _require(name, given[name], lambda number: number >= 0, "of 0 or more")
    for name in ("guidance", "alpha"):
        _require(name, given[name], lambda number: True, "that is finite")
    _require("p_uncond", given["p_uncond"], lambda number: 0 <= number < 1, "of at least 0 and below 1")
    least = min(given["lengthscale"], given["outputscale"])
    _require("jitter", given["jitter"], lambda number: 0 <= number < least, f"of 0 or more and below the scales, {least:g}")
    if given["sample_steps"] > given["T"]:
        raise InvalidData(f"expected sample_steps= of at most T={given['T']}, got {given['sample_steps']}")
    if isinstance(given["target"], str):
        above_the_best(given["target"])
    else:
        _require("target", given["target"], lambda number: True, 'that is finite, or text such as "max+0.5sd"')


def above_the_best(target: str) -> float:
    """The deviations in text such as "max+0.5sd".

    Raises
    ------
    InvalidData
        Other text.
    """
    found = _TARGET.fullmatch(target)
    if found is None:
        raise InvalidData(f'expected target= to be a number or text such as "max+0.5sd", got {target!r}')
    return float(found[1])


def table(X: Any) -> NDArray[Any]:
    """Rows of finite numbers.

    Raises
    ------
    InvalidData
        Anything else.
    """
    rows = np.asarray(X)
    if rows.ndim != 2 or rows.dtype.kind not in "biuf" or rows.size == 0:
        raise InvalidData(f"expected designs as numbers of shape (n, d), got shape {rows.shape} of {rows.dtype}")
    if not np.isfinite(rows).all():
        raise InvalidData("expected finite designs, got NaN or infinity: drop those rows")
    return rows


def _require(name: str, number: Any, holds: Callable[[float], bool], words: str) -> None:
    known = isinstance(number, int | float | np.floating) and not isinstance(number, bool) and math.isfinite(number)
    if not known or not holds(float(number)):
        raise InvalidData(f"expected {name}= to be a number {words}, got {number!r}")
