"""What edits of a recommender's vector do to its lists: the share of a kind of items against the quality that is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_doses"]


def plot_doses(responses: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Draw the share of a kind in the lists against their NDCG, one line an edit, each dose written beside its point.

    An edit is better the further up its line lies: more of the kind for the same loss.

    Parameters
    ----------
    responses : dict of str to DoseResponse
        What ``RecommenderAudit.dose_response`` gave, by name of the edit; all of one kind of items.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    kinds = {found.kind for found in responses.values()}
    if len(kinds) != 1:
        raise InvalidData(f"expected responses of one kind of items, got {sorted(kinds) or 'none'}")
    ax = axes(ax, figsize=(6.4, 4.0))
    for i, (name, found) in enumerate(responses.items()):
        ax.plot(found.gain, found.share, f"{MARKERS[i % 8]}-", color=COLOURS[i % 8], lw=1, ms=4, label=name)
        for dose, x, y in zip(found.doses, found.gain, found.share, strict=True):
            ax.annotate(f"{dose:g}", (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7, color=COLOURS[i % 8])
    ax.set_xlabel("NDCG with the item that came next")
    ax.set_ylabel(f"share of {kinds.pop()} in the lists")
    ax.legend(frameon=False, fontsize=8)
    return ax
