"""How often edits of a few features make a network answer as patching does, dictionary by dictionary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_control"]


def plot_control(comparison: Any, attribute: str, ax: Axes | None = None) -> Axes:
    """Draw the agreement of edits with patching against the number of features changed, one line a dictionary, with intervals.

    The dashed line, and the band around it, is the network without any edit.

    Parameters
    ----------
    comparison : Comparison
        What ``DictionaryEval.compare`` gave.
    attribute : str
        One that was edited.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    told = {name: found[attribute] for name, found in comparison.control.items() if attribute in found}
    if not told:
        known = sorted({name for found in comparison.control.values() for name in found})
        raise InvalidData(f"there are no edits of {attribute!r}; there are those of {', '.join(known) or 'nothing'}")
    ax = axes(ax, figsize=(6.4, 4.0))
    for i, (name, control) in enumerate(told.items()):
        found, colour = [control.agreement(k) for k in control.ks], COLOURS[i % 8]
        ax.plot(control.ks, [one.value for one in found], f"{MARKERS[i % 8]}-", color=colour, lw=1, ms=4, label=name)
        ax.fill_between(control.ks, [one.lower for one in found], [one.upper for one in found], color=colour, alpha=0.12, lw=0)
    none = next(iter(told.values())).none
    ax.axhline(none.value, color="grey", lw=1, ls="--", label="no edit")
    ax.axhspan(none.lower, none.upper, color="grey", alpha=0.12, lw=0)
    ax.set_xscale("log", base=2)
    ks = next(iter(told.values())).ks
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.minorticks_off()
    ax.set_xlabel("features changed, at most")
    ax.set_ylabel(f"answers as patching {attribute} gives")
    ax.set_ylim(-0.02, 1.02)
    ax.legend(frameon=False, fontsize=8)
    return ax
