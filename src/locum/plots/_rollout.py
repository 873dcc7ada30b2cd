"""Roll-outs of stand-ins for solvers as pictures: error at each value of a parameter, and fields over time side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_fields", "plot_rollout_errors"]


def plot_rollout_errors(
    errors: Mapping[str, Any],
    *,
    measure: str = "nRMSE",
    trained: ArrayLike = (),
    tolerance: float | None = None,
    level: float = 0.95,
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean error of roll-outs, with intervals, over a parameter.

    Parameters
    ----------
    errors : mapping of str to RolloutErrors
        Of one parameter, by the names of what they are of.
    measure : str, default="nRMSE"
    trained : array-like of shape (m,), default=()
        Values trained on, which get a tick above.
    tolerance : float or None, default=None
        A level to draw.
    level : float, default=0.95
        Of the intervals.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    if not errors or any(one.values.shape[1] != 1 for one in errors.values()):
        raise InvalidData("expected errors over one parameter to draw, by name")
    ax = axes(ax, figsize=(5.2, 3.4))
    for i, (name, one) in enumerate(errors.items()):
        found = one.fidelity(measure, level)
        x, mean = one.values[:, 0], np.array([each.value for each in found])
        reach = np.abs(np.array([[each.lower, each.upper] for each in found]).T - mean)
        ax.errorbar(x, mean, reach, color=COLOURS[i], marker=MARKERS[i % len(MARKERS)], ms=4, lw=1, capsize=2, label=name)
    if (one.values > 0).all():
        ax.set_xscale("log")
    ax.set_yscale("log")
    top = ax.get_ylim()[1]
    places = np.asarray(trained, dtype=float)
    if len(places):
        ax.plot(places, np.full(len(places), top), "|", color="#333333", ms=9, clip_on=False, label="trained on")
    if tolerance is not None:
        ax.axhline(tolerance, color="#777777", ls="--", lw=0.8)
    ax.set_xlabel("parameter")
    ax.set_ylabel(measure)
    ax.legend(fontsize=7)
    return ax


def plot_fields(fields: Mapping[str, ArrayLike], *, dt: float = 1.0, length: float = 1.0) -> Figure:
    """Draw fields over place and time side by side, in the colours of the first.

    Parameters
    ----------
    fields : mapping of str to array-like of shape (T, n)
        What each is called, the truth first.
    dt : float, default=1.0
        Time between rows.
    length : float, default=1.0
        Of the grid.

    Returns
    -------
    matplotlib Figure
    """
    found = {name: np.asarray(one, dtype=float) for name, one in fields.items()}
    if not found or any(one.ndim != 2 for one in found.values()):
        raise InvalidData(f"expected fields of shape (T, n), got shapes {[one.shape for one in found.values()]}")
    figure, panels = pyplot().subplots(
        1, len(found), figsize=(2.3 * len(found) + 0.8, 2.8), sharey=True, squeeze=False, layout="constrained"
    )
    size = float(np.abs(next(iter(found.values()))).max())
    for ax, (name, one) in zip(panels[0], found.items(), strict=True):
        image = ax.imshow(
            one, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-size, vmax=size, extent=(0, length, 0, dt * len(one))
        )
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("x")
    panels[0, 0].set_ylabel("time")
    figure.colorbar(image, ax=list(panels[0]), shrink=0.8)
    return figure
