"""Accuracies of alignments beside their controls, and interactions between layers as a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_audit", "plot_interactions"]


def plot_audit(audit: Any, ax: Axes | None = None) -> Axes:
    """Draw each line of an audit: accuracy under interventions with its interval, and what controls reach.

    Parameters
    ----------
    audit : AlignmentAudit
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    lines = audit.lines
    if not lines:
        raise InvalidData("expected an audit with at least one line, got none")
    ax = axes(ax, figsize=(6.4, 1.2 + 0.45 * len(lines)))
    names = list(dict.fromkeys(name for line in lines for name in line.controls))
    for at, line in enumerate(lines):
        found = line.iia
        ax.plot([found.lower, found.upper], [at, at], "-", color=COLOURS[0], lw=2)
        ax.plot(found.value, at, "o", color=COLOURS[0], mfc=COLOURS[0] if line.supported else "white", zorder=3)
        for i, name in enumerate(names):
            if name in line.controls:
                ax.plot(line.controls[name].value, at, MARKERS[(i + 1) % 8], color=COLOURS[(i + 1) % 8], mfc="none", ms=6)
    ax.plot([], [], "o-", color=COLOURS[0], label="network (filled: supported)")
    for i, name in enumerate(names):
        ax.plot([], [], MARKERS[(i + 1) % 8], color=COLOURS[(i + 1) % 8], mfc="none", label=name)
    ax.set_yticks(range(len(lines)), [f"{line.site}, {line.map}" for line in lines])
    ax.invert_yaxis()
    ax.set_xlabel("accuracy under interventions")
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_interactions(
    edges: Mapping[str, Any], ax: Axes | None = None, *, most: int = 60, labels: Mapping[str, Any] | None = None
) -> Axes:
    """Draw directions of layers as columns of dots, and the strongest edges between neighbouring ones.

    Parameters
    ----------
    edges : dict of str to array-like of shape (directions of the next layer, directions of the layer)
        By layer in their order; ``InteractionGraph.edges_``.
    ax : matplotlib Axes or None, default=None
    most : int, default=60
        Edges drawn from each layer; wider where stronger.
    labels : dict of str to array-like of int or None, default=None
        Module of each direction but the first, which is the constant, by layer; gives colours.

    Returns
    -------
    matplotlib Axes
    """
    tables = {layer: np.asarray(one, dtype=float) for layer, one in edges.items()}
    if not tables or not all(one.size for one in tables.values()):
        raise InvalidData("expected edges from at least one layer, got none")
    ax = axes(ax, figsize=(6.4, 4.8))
    names = [*tables, "output"]
    sizes = [one.shape[1] for one in tables.values()] + [list(tables.values())[-1].shape[0]]

    def height(column: int, i: int) -> float:
        return (i + 0.5) / sizes[column]

    for column, table in enumerate(tables.values()):
        strongest = np.argsort(-table, axis=None)[:most]
        for flat in strongest:
            i, j = np.unravel_index(flat, table.shape)
            width = float(np.sqrt(table[i, j] / table.max()))
            ax.plot([column, column + 1], [height(column, int(j)), height(column + 1, int(i))], "-", color="0.4", lw=2 * width)
    for column, name in enumerate(names):
        module = [-1, *np.asarray(labels[name]).tolist()] if labels is not None else [0] * sizes[column]
        for i in range(sizes[column]):
            ax.plot(column, height(column, i), "o", ms=4, color="0.7" if module[i] < 0 else COLOURS[module[i] % 8], zorder=3)
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks([])
    ax.invert_yaxis()
    ax.set_ylabel("directions, the most important first")
    return ax
