"""The frontier as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_frontier"]


class HasRows(Protocol):
    """A frontier: anything that lists its points as records of name, statements, fidelity and knee."""

    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """The points."""


def plot_frontier(frontier: HasRows, ax: Axes | None = None) -> Axes:
    """Draw fidelity, with its bounds, against the number of statements.

    Parameters
    ----------
    frontier : Frontier
    ax : matplotlib Axes or None, default=None
        Where to draw; new ones where None.

    Returns
    -------
    matplotlib Axes
    """
    points = frontier.rows()
    if not points:
        raise InvalidData("expected a frontier with points, got none")
    ax = axes(ax, figsize=(7.0, 4.2))
    names = list(dict.fromkeys(point["name"] for point in points))
    for k, name in enumerate(names):
        own = sorted((p for p in points if p["name"] == name), key=lambda p: p["statements"])
        x = [p["statements"] * 1.02 ** (k - (len(names) - 1) / 2) for p in own]  # side by side, not on top
        y = [p["fidelity"].value for p in own]
        below = [p["fidelity"].value - p["fidelity"].lower for p in own]
        above = [p["fidelity"].upper - p["fidelity"].value for p in own]
        look: dict[str, Any] = {"color": COLOURS[k % 8], "lw": 1, "elinewidth": 0.8, "ms": 4, "capsize": 2}
        ax.errorbar(x, y, [below, above], fmt=f"{MARKERS[k % 8]}-", label=name, **look)
    for point in points:
        if point["knee"]:
            ax.axvline(point["statements"], color="0.6", lw=0.8, ls=":", zorder=0)
            ax.annotate("more stops paying", (point["statements"], 0.02), xycoords=("data", "axes fraction"), fontsize=8)
    best = max(p["fidelity"].value for p in points)
    least = min(p["fidelity"].value for p in points)
    ax.set_ylim(bottom=least - 0.5 * max(best - least, 1e-9))
    ax.set_xscale("log", base=2)
    ax.set_xlabel("statements to read")
    found = points[0]["fidelity"]
    ax.set_ylabel(f"{found.measure}{'' if found.greater_is_better else ' (lower is better)'}, {100 * found.level:g} %")
    ax.legend(frameon=False, fontsize=8)
    return ax
