"""Errors on held-out runs as networks learn while simulations run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData, require_one_of
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_learning"]

_OVER = {"updates": "updates", "seconds": "seconds", "ticks": "turns of the scheduler", "unique": "steps that came"}


def plot_learning(histories: Mapping[str, Any], *, over: str = "updates", ax: Axes | None = None) -> Axes:
    """Draw errors on runs held out against updates, time, or data, one line a training.

    Parameters
    ----------
    histories : mapping of str to OnlineHistory
        By the names of what they are of.
    over : {"updates", "seconds", "ticks", "unique"}, default="updates"
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    require_one_of(tuple(_OVER), over=over)
    if not histories or not all(one.errors for one in histories.values()):
        raise InvalidData("expected a history or more, each with a validation, got none: validate more often")
    ax = axes(ax, figsize=(5.2, 3.4))
    for i, (name, one) in enumerate(histories.items()):
        ax.plot(getattr(one, over), one.errors, f"{MARKERS[i % 8]}-", color=COLOURS[i % 8], lw=1, ms=3, label=name)
    ax.set_yscale("log")
    ax.set_xlabel(_OVER[over])
    ax.set_ylabel("mean squared error of scaled fields")
    ax.legend(frameon=False, fontsize=8)
    return ax
