"""How well units tell concepts from one another, concept by concept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_detection"]


def plot_detection(found: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Draw the area under the curve of each concept, one kind of mark a method; chance is the dashed line.

    Parameters
    ----------
    found : dict of str to ConceptDetection
        What ``detect_concepts`` gave, by name of the method; all of the same concepts.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
        Concepts in the order of the first method, the best at the top; means with intervals are in the legend.
    """
    if not found:
        raise InvalidData("expected at least one method, got none")
    first = next(iter(found.values()))
    if any(one.concepts != first.concepts for one in found.values()):
        raise InvalidData("expected detections of the same concepts by all methods")
    order = np.argsort(first.area, kind="stable")
    ax = axes(ax, figsize=(6.4, 1.2 + 0.25 * len(order)))
    for i, (name, one) in enumerate(found.items()):
        mean = one.mean_area
        label = f"{name}: {mean.value:.2f} [{mean.lower:.2f}, {mean.upper:.2f}]"
        ax.plot(one.area[order], np.arange(len(order)), MARKERS[i % 8], color=COLOURS[i % 8], ms=5, ls="", label=label)
    ax.axvline(0.5, color="grey", lw=0.8, ls="--")
    ax.set_yticks(np.arange(len(order)), [str(first.concepts[i]) for i in order])
    ax.set_xlabel("area under the curve on other texts")
    ax.set_xlim(right=1.02)
    ax.legend(frameon=False, fontsize=8)
    return ax
