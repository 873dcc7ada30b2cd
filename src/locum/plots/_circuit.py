"""Attention heads that make a circuit, heads by relevance, and the words of a sentence by importance, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, axes, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_circuit", "plot_heads", "plot_tokens"]

_COLUMNS = 12  # tokens in a line


def plot_circuit(search: Any, ax: Axes | None = None) -> Axes:
    """Draw the heads of a circuit by layer, and from which heads the search went back to which.

    Heads that pruning took out are pale.

    Parameters
    ----------
    search : CircuitSearch
        Fitted.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    if not getattr(search, "found_", ()):
        raise InvalidData("expected a fitted CircuitSearch, got one without nodes; call fit(input_ids) first")
    heads = search.decomposition.heads
    places = {node[:3]: _place(node, search.found_, heads) for node in search.found_}
    layers = sorted({node.layer for node in search.found_})
    ax = axes(ax, figsize=(6.4, 1.4 + 0.42 * len(layers)))
    kept = {node[:3] for node in search.nodes_}
    answer = ((heads - 1) / 2, layers[-1] + 1)
    arrow = {"arrowstyle": "->", "color": "0.8", "lw": 0.6, "shrinkA": 7, "shrinkB": 7}
    for step in search.path_:
        ends = [_end(node, places) for node in step.targets] or [[answer]]
        for node in step.nodes:
            for x, y in (one for some in ends for one in some if one[1] > node.layer):
                ax.annotate("", (x, y), places[node[:3]], arrowprops=arrow)
    for node in search.found_:
        x, y = places[node[:3]]
        strong = node[:3] in kept
        ax.scatter(x, y, s=160, color=COLOURS[0] if strong else "0.85", zorder=3)
        ax.text(x, y, str(node), ha="center", va="center", fontsize=6, color="white" if strong else "0.3", zorder=4)
    ax.text(*answer, "answer", ha="center", va="center", fontsize=8, bbox={"fc": "white", "ec": "0.6"}, zorder=4)
    ax.set_xlim(-0.7, heads - 0.3)
    ax.set_ylim(layers[0] - 0.8, layers[-1] + 1.6)
    ax.set_xticks(range(heads))
    ax.set_yticks(layers)
    ax.set_xlabel("head")
    ax.set_ylabel("layer")
    return ax


def _place(node: Any, nodes: Sequence[Any], heads: int) -> tuple[float, float]:
    """Heads at several positions stand side by side."""
    same = [one for one in nodes if one[:2] == node[:2]]
    return node.head + 0.5 * same.index(node) / len(same), node.layer


def _end(target: Any, places: dict[Any, tuple[float, float]]) -> list[tuple[float, float]]:
    """Where a target stands; a target at all positions may have been found at one."""
    return [place for node, place in places.items() if node[:2] == target[:2] and target.position in (None, node[2])]


def plot_heads(relevance: Any, ax: Axes | None = None) -> Axes:
    """Draw the mean relevance of each head, layers upwards.

    Parameters
    ----------
    relevance : Relevance
        Of single heads.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    grid = relevance.grid()
    ax = axes(ax, figsize=(1.8 + 0.32 * grid.shape[1], 1.6 + 0.16 * grid.shape[0]))
    most = float(np.nanmax(np.abs(grid))) or 1.0
    picture = ax.imshow(grid, cmap="RdBu_r", vmin=-most, vmax=most, origin="lower", aspect="auto")
    ax.figure.colorbar(picture, ax=ax, label=f"relevance to {relevance.target}")
    ax.set_xticks(range(grid.shape[1]))
    ax.set_yticks(range(0, grid.shape[0], max(1, grid.shape[0] // 10)))
    ax.set_xlabel("head")
    ax.set_ylabel("layer")
    return ax


def plot_tokens(attribution: Any, ax: Axes | None = None) -> Axes:
    """Draw the tokens of a text in their order, each on the colour of its value.

    Parameters
    ----------
    attribution : Attribution
        With the one axis "token".
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    if [axis.unit for axis in attribution.axes] != ["token"]:
        raise InvalidData(f"expected an explanation with the one axis of tokens, got {attribution.unit}")
    values, names = attribution.values, attribution.axes[0].names
    rows = -(-len(names) // _COLUMNS)
    ax = axes(ax, figsize=(8.0, 0.7 + 0.4 * rows))
    most = float(np.abs(values).max()) or 1.0
    colours = pyplot().get_cmap("RdBu_r")
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        level = 0.5 + 0.5 * float(value) / most
        ax.text(
            i % _COLUMNS, -(i // _COLUMNS), name, ha="center", va="center", fontsize=8, parse_math=False,
            color="white" if abs(level - 0.5) > 0.35 else "black",
            bbox={"fc": colours(level), "ec": "none", "boxstyle": "round,pad=0.25"},
        )  # fmt: skip
    ax.set_xlim(-0.7, min(len(names), _COLUMNS) - 0.3)
    ax.set_ylim(0.6 - rows, 0.6)
    ax.set_axis_off()
    ax.set_title(f"red speaks for, blue against: {attribution.output}", fontsize=8, parse_math=False)
    return ax
