"""How fast optimisers come down to the best value; and what one believes along a line, with what it would evaluate next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, axes, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_regret", "plot_slice"]

_POINTS = 201
_LEAST = 1e-12  # a regret of 0 has no place on a scale of ratios


def plot_regret(traces: Mapping[str, Any], best: float, ax: Axes | None = None) -> Axes:
    """Draw simple regret against evaluations, with the middle half of the runs of each optimiser.

    Parameters
    ----------
    traces : mapping of str to array-like of shape (n,) or (runs, n)
        Best values so far, such as ``trace`` of results, by the name of the optimiser.
    best : float
        The best value there is.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InvalidData
        No traces, or some with more than two dimensions.
    """
    runs = {name: np.atleast_2d(np.asarray(trace, dtype=float)) for name, trace in traces.items()}
    if not runs or any(trace.ndim != 2 or not trace.size for trace in runs.values()):
        raise InvalidData("expected a trace, or a row a run, for each name, got none or an array of another shape")
    ax = axes(ax, figsize=(6.0, 4.0))
    for (name, trace), colour in zip(runs.items(), COLOURS * (1 + len(runs) // len(COLOURS)), strict=False):
        regret = np.maximum(np.abs(trace - best), _LEAST)
        low, middle, high = np.nanquantile(regret, [0.25, 0.5, 0.75], axis=0)
        at = np.arange(1, regret.shape[1] + 1)
        ax.plot(at, middle, color=colour, lw=1.4, label=f"{name}, {len(trace)} runs" if len(trace) > 1 else name)
        if len(trace) > 1:
            ax.fill_between(at, low, high, color=colour, alpha=0.18, lw=0)
    ax.set_yscale("log")
    ax.set_xlabel("evaluations")
    ax.set_ylabel("simple regret")
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_slice(optimizer: Any, name: str, point: Mapping[str, Any] | None = None) -> tuple[Axes, Axes]:
    """Draw mean and spread of the surrogate along one parameter, and below them what evaluating there is worth.

    Parameters
    ----------
    optimizer : Optimizer
        After two or more evaluations.
    name : str
        A number among the parameters.
    point : mapping or None, default=None
        What the other parameters are; the point recommended where None.

    Returns
    -------
    two matplotlib Axes

    Raises
    ------
    InvalidData
        A name of no number in the space.
    """
    one = dict(zip(optimizer.space.names, optimizer.space.parameters, strict=True)).get(name)
    if one is None or one.width != 1:
        raise InvalidData(f"expected the name of a number among {', '.join(optimizer.space.names)}, got {name!r}")
    base = optimizer.recommend() if point is None else point
    at = list(dict.fromkeys(one.decode([u]) for u in np.linspace(0, 1, _POINTS)))
    line = [{**base, name: value} for value in at]
    (mean, sd), worth = optimizer.foretell(line), optimizer.worth(line)
    above, below = pyplot().subplots(2, 1, figsize=(6.0, 5.0), sharex=True, height_ratios=(3, 1), layout="constrained")[1]
    above.plot(at, mean, color=COLOURS[0], lw=1.4, label="mean")
    low, high = mean - 1.645 * sd, mean + 1.645 * sd
    above.fill_between(at, low, high, color=COLOURS[0], alpha=0.18, lw=0, label="90 % of evaluations")
    seen = [(told[name], value) for told, value in zip(optimizer.points, optimizer.values, strict=True) if name in told]
    above.plot(*zip(*seen, strict=True), "o", color=COLOURS[7], ms=3, label="evaluated, wherever the rest lies")
    above.set_ylabel("objective")
    above.legend(frameon=False, fontsize=8)
    below.plot(at, worth, color=COLOURS[1], lw=1.4)
    below.set_xlabel(name)
    below.set_ylabel("acquisition")
    return above, below
