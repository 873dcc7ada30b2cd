"""Coefficients of one regression, estimated in several ways, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_estimates"]


def plot_estimates(estimates: Mapping[str, Any], ax: Axes | None = None, *, alpha: float = 0.05) -> Axes:
    """Draw coefficients with their intervals, those of one name beside each other.

    Parameters
    ----------
    estimates : mapping of str to Estimates
        Of the same coefficients, by the name of the way; as ``DSLRegressor.compare().estimates``.
    ax : matplotlib Axes or None, default=None
    alpha : float, default=0.05
        Intervals have the level 1 - alpha.

    Returns
    -------
    matplotlib Axes
    """
    if not estimates:
        raise InvalidData("expected estimates of at least one kind to draw, got none")
    names = next(iter(estimates.values())).names
    ax = axes(ax, figsize=(6.4, 0.9 + 0.16 * len(names) * (len(estimates) + 1)))
    step = 0.8 / len(estimates)
    for i, (label, one) in enumerate(estimates.items()):
        known = np.isfinite(one.params)
        ends = one.conf_int(alpha)[known]
        places = -np.arange(len(names))[known] - step * (i - (len(estimates) - 1) / 2)
        reach = np.abs(ends.T - one.params[known])
        mark: dict[str, Any] = {"fmt": MARKERS[i % len(MARKERS)], "color": COLOURS[i % 8], "ms": 4, "lw": 1.1, "capsize": 2}
        ax.errorbar(one.params[known], places, xerr=reach, label=label, **mark)
    ax.axvline(0, color="0.7", lw=0.6)
    ax.set_yticks(-np.arange(len(names)), names, parse_math=False)
    ax.set_xlabel(f"coefficient, {1 - alpha:.0%} intervals", fontsize=9)
    ax.legend(fontsize=8)
    return ax
