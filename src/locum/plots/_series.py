"""Maps of time series as pictures: one under its series, and series that are explained alike side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData, require_whole
from locum.plots._axes import COLOURS, axes, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_landmarks", "plot_series"]

_WIDE, _HIGH = 2.4, 1.5  # inches, of one small picture


def plot_series(explanation: Any, position: int = 0, ax: Axes | None = None) -> Axes:
    """Draw one series, with the map of each channel as a strip under it.

    Parameters
    ----------
    explanation : TimeXExplanation
        As `TimeXExplainer.explain` gives it.
    position : int, default=0
        Of the series.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    i = range(len(explanation))[position]
    ax = axes(ax, figsize=(6.4, 3.0))
    _series(ax, explanation, i, lines=1.2)
    ax.set_xlabel("time")
    said = f"class {explanation.answer[i]}, landmark {explanation.landmark_id[i]}"
    ax.set_title(f"{said}; the darker below, the likelier kept", fontsize=8)
    return ax


def plot_landmarks(explanation: Any, *, groups: int = 6, members: int = 4) -> Figure:
    """Draw groups of series that are explained alike, one row a landmark, the largest group first.

    Parameters
    ----------
    explanation : TimeXExplanation
    groups : int, default=6
        Rows at most.
    members : int, default=4
        Series a row at most, the most typical first.

    Returns
    -------
    matplotlib Figure
    """
    require_whole(1, groups=groups, members=members)
    found, counts = np.unique(explanation.landmark_id, return_counts=True)
    if not len(found):
        raise InvalidData("expected an explanation of one or more series, got none")
    rows = found[np.argsort(-counts, kind="stable")][:groups]
    figure, grid = pyplot().subplots(
        len(rows), members, squeeze=False, figsize=(_WIDE * members, _HIGH * len(rows) + 0.3), layout="constrained"
    )
    for line, landmark in zip(grid, rows.tolist(), strict=True):
        group = explanation.group(landmark)
        shown = group[:members].tolist()
        for ax, i in zip(line, shown, strict=False):
            _series(ax, explanation, i, lines=0.8)
            ax.set_title(f"class {explanation.answer[i]}", fontsize=7)
            ax.tick_params(labelsize=6)
        for ax in line[len(shown) :]:
            ax.set_axis_off()
        line[0].set_ylabel(f"landmark {landmark}\n{len(group)} series", fontsize=7)
    return figure


def _series(ax: Any, explanation: Any, i: int, lines: float) -> None:
    """A series, and strips of its map that are as wide as its time points are apart."""
    there = explanation.times[i] > -1e5
    when, values, p = explanation.times[i, there], explanation.X[i, there], explanation.saliency[i, there]
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 1e-9)
    strip = 0.12 * span
    middle = (when[1:] + when[:-1]) / 2
    first, last = (when[:1], when[-1:]) if len(when) > 1 else (when - 0.5, when + 0.5)
    edges = np.concatenate([first, middle, last])
    for j in range(values.shape[1]):
        ax.plot(when, values[:, j], color=COLOURS[j % len(COLOURS)], lw=lines)
        top = low - 0.08 * span - j * strip
        ax.pcolormesh(edges, [top - strip, top], p[None, :, j], cmap="Greys", vmin=0, vmax=max(float(p.max()), 1e-9))
    ax.set_xlim(edges[0], edges[-1])
