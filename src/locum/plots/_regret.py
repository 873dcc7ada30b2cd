"""How fast optimisers come down to the best value, what one believes along a line, and how far it was right on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, axes, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_foretold", "plot_regret", "plot_slice"]

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
    at = list(dict.fromkeys(one.decode(np.linspace(0, 1, _POINTS)[:, None])))
    line = [{**base, name: value} for value in at]
    (low, middle, high), worth = optimizer.interval(line).T, optimizer.worth(line)
    above, below = pyplot().subplots(2, 1, figsize=(6.0, 5.0), sharex=True, height_ratios=(3, 1), layout="constrained")[1]
    above.plot(at, middle, color=COLOURS[0], lw=1.4, label="median")
    above.fill_between(at, low, high, color=COLOURS[0], alpha=0.18, lw=0, label="90 % of evaluations")
    seen = [(told[name], value) for told, value in zip(optimizer.points, optimizer.values, strict=True) if name in told]
    above.plot(*zip(*seen, strict=True), "o", color=COLOURS[7], ms=3, label="evaluated, wherever the rest lies")
    above.set_ylabel("objective")
    above.legend(frameon=False, fontsize=8)
    below.plot(at, worth, color=COLOURS[1], lw=1.4)
    below.set_xlabel(name)
    below.set_ylabel("acquisition")
    return above, below


def plot_foretold(result: Any) -> tuple[Axes, Axes]:
    """Draw what the surrogate foretold of each point it proposed and what that gave, and below them how often it held so far.

    Parameters
    ----------
    result : Result
        Of a run in which the surrogate proposed points.

    Returns
    -------
    two matplotlib Axes

    Raises
    ------
    InvalidData
        No point was foretold.
    """
    low, middle, high = result.foretold.T
    there = np.isfinite(middle) & np.isfinite(result.values)
    if not there.any():
        raise InvalidData("the surrogate proposed no point that was evaluated; run for longer than the first design")
    at, values = 1 + np.flatnonzero(there), result.values[there]
    held = (low[there] <= values) & (values <= high[there])
    above, below = pyplot().subplots(2, 1, figsize=(6.0, 5.0), sharex=True, height_ratios=(3, 1), layout="constrained")[1]
    ends = np.abs(np.stack([low, high])[:, there] - middle[there])
    above.errorbar(at, middle[there], ends, fmt="none", ecolor=COLOURS[0], alpha=0.5, label="foretold, 90 %")
    for inside, colour, label in ((held, COLOURS[2], "held"), (~held, COLOURS[1], "did not hold")):
        above.plot(at[inside], values[inside], "o", color=colour, ms=3, label=label)
    # One interval from early on may be wider than all that was ever seen.
    seen = np.concatenate([values, middle[there]])
    spare = 0.3 * np.ptp(seen) or 1.0
    above.set_ylim(seen.min() - spare, seen.max() + spare)
    above.set_ylabel("objective")
    above.legend(frameon=False, fontsize=8)
    below.plot(at, np.cumsum(held) / np.arange(1, len(held) + 1), color=COLOURS[0], lw=1.4)
    below.axhline(0.9, color="0.6", lw=0.8, ls="--")
    below.set_ylim(0, 1.05)
    below.set_ylabel("held so far")
    below.set_xlabel("evaluations")
    return above, below
