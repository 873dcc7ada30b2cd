"""Posteriors of two parameters, as draws in their plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData, require_whole
from locum.plots._axes import COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_posterior"]


def plot_posterior(
    calibrations: Mapping[str, Any],
    *,
    pair: tuple[int, int] = (0, 1),
    truth: Sequence[float] | None = None,
    draws: int = 1500,
    ax: Axes | None = None,
) -> Axes:
    """Draw what calibrations say of two parameters: draws, the mean as a cross with the interval of 90 % of each.

    Parameters
    ----------
    calibrations : mapping of str to calibration
        With `names`, `draws`, `mean` and `interval`, such as ``locum.emulate.calibrate`` gives; all of the same parameters.
    pair : tuple of int, default=(0, 1)
        Across and up.
    truth : sequence of float or None, default=None
        All parameters, where they are known.
    draws : int, default=1500
        Shown of each, evenly over those there are.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    require_whole(1, draws=draws)
    names = {tuple(one.names) for one in calibrations.values()}
    if len(names) != 1 or max(pair) >= len(next(iter(names))):
        raise InvalidData(f"expected calibrations of the same parameters that have columns {pair}, got {sorted(names)}")
    ax, first, second = axes(ax, figsize=(5.0, 4.2)), *pair
    for i, (name, one) in enumerate(calibrations.items()):
        colour, count = COLOURS[i % len(COLOURS)], len(one.draws)
        some = one.draws[np.linspace(0, count - 1, min(draws, count)).astype(int)]
        ax.scatter(some[:, first], some[:, second], s=4, alpha=0.25, color=colour, linewidths=0)
        half = np.abs(one.interval() - one.mean[:, None])
        ax.errorbar(one.mean[first], one.mean[second], xerr=half[first][:, None], yerr=half[second][:, None], color=colour,
                    label=name, capsize=3)  # fmt: skip
    if truth is not None:
        ax.plot(truth[first], truth[second], "k*", markersize=11, label="truth")
    label = next(iter(names))
    ax.set_xlabel(label[first])
    ax.set_ylabel(label[second])
    ax.legend(frameon=False)
    return ax
