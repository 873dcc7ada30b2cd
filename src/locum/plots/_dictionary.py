"""What a dictionary leaves unexplained as it may take more latents, and how codes are found step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_error_curves"]


def plot_error_curves(
    curves: Mapping[str, Mapping[int, Any]], ax: Axes | None = None, *, trained: Mapping[str, int] | None = None,
    xlabel: str = "latents a row",
) -> Axes:  # fmt: skip
    """Draw the fraction of variance unexplained against the number of latents, one line a dictionary, with intervals.

    Parameters
    ----------
    curves : dict of str to dict of int to Fidelity
        What ``error_curve`` or ``prefix_curve`` gave, by name of the dictionary.
    ax : matplotlib Axes or None, default=None
    trained : dict of str to int or None, default=None
        Number of latents that each was trained with; marked by a ring.
    xlabel : str, default="latents a row"
        For prefixes, "latents kept".

    Returns
    -------
    matplotlib Axes
    """
    if not curves or not all(curves.values()):
        raise InvalidData("expected at least one curve with at least one point, got none")
    ax = axes(ax, figsize=(6.4, 4.0))
    for i, (name, curve) in enumerate(curves.items()):
        ks, colour = sorted(curve), COLOURS[i % 8]
        values = [curve[k].value for k in ks]
        ax.plot(ks, values, f"{MARKERS[i % 8]}-", color=colour, lw=1, ms=4, label=name)
        ax.fill_between(ks, [curve[k].lower for k in ks], [curve[k].upper for k in ks], color=colour, alpha=0.15, lw=0)
        if trained is not None and trained.get(name) in curve:
            at = trained[name]
            ax.plot(at, curve[at].value, "o", ms=10, mfc="none", mec=colour)
    ax.set_xscale("log", base=2)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("variance unexplained")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=8)
    return ax
