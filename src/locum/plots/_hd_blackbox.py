"""What a black box of very many columns uses, and whether it needs those columns and no others, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_faithfulness"]

_NAMES = ("comprehensiveness", "sufficiency")


def plot_faithfulness(found: Any, ax: Axes | None = None) -> Axes:
    """Draw what is lost without the best columns (solid) and with them alone (dashed), beside random and bottom ones.

    Parameters
    ----------
    found : Faithfulness
        As `HighDimExplainer.faithfulness` gives it.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    if not found.ks:
        raise InvalidData("expected curves over some numbers of columns, got none")
    ax = axes(ax, figsize=(6.4, 4.0))
    for line, name in zip(("-", "--"), _NAMES, strict=True):
        for i, (which, curve) in enumerate(getattr(found, name).items()):
            values = [one.value for one in curve]
            reach = [[one.value - one.lower for one in curve], [one.upper - one.value for one in curve]]
            look: dict[str, Any] = {"color": COLOURS[i], "lw": 1, "ms": 4, "capsize": 2, "elinewidth": 0.8}
            ax.errorbar(found.ks, values, reach, fmt=f"{MARKERS[i]}{line}", label=f"{name}, {which}", **look)
    ax.axhline(0, color="0.7", lw=0.6)
    ax.set_xscale("log")
    ax.set_xticks(found.ks, [str(k) for k in found.ks])
    ax.minorticks_off()
    ax.set_xlabel("columns replaced (solid), or kept alone (dashed)")
    ax.set_ylabel("fall of the probability of the answer")
    ax.legend(frameon=False, fontsize=8)
    return ax
