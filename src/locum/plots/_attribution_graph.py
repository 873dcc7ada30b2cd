"""The circuit of a target on a prompt, as a picture: tokens to the right, layers upwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_attribution_graph"]

_SHAPES = {"feature": "o", "head": "s", "embedding": "^", "position": "^", "logits": "*", "error": "X", "mlp": "X", "skip": "D"}
_LEVELS = 3  # of names above nodes
_WITHIN = 0.8  # of the distance between tokens, over which nodes of one place are spread


def plot_attribution_graph(
    graph: Any,
    tokens: Sequence[str] | None = None,
    *,
    names: Mapping[tuple[int, int], str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a circuit: what writes and reads at each token and layer, and how much flows along each edge.

    Features are dots, heads squares at the token they attend to, embeddings triangles, errors of transcoders crosses. Blue adds
    to the target and orange takes from it. Biases and constants are left out.

    Parameters
    ----------
    graph : AttributionGraph
    tokens : sequence of str or None, default=None
        Of the prompt, in words; their positions where None.
    names : dict of (layer, latent) to str, optional
        What features are called; their numbers otherwise.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    places = _places(graph)
    if len(places) < 2:
        raise InvalidData("expected a graph with sources, got its target alone; search deeper or with a wider beam")
    length = len(graph.prompt.tokens)
    if tokens is not None and len(tokens) != length:
        raise InvalidData(f"expected the {length} tokens of the prompt, got {len(tokens)}")
    layers = sorted({y for _, y in places.values()})
    ax = axes(ax, figsize=(max(5.0, 1.0 + 0.9 * length), 1.6 + 0.4 * len(layers)))
    largest = max(abs(value) for value in graph.edges.values())
    for (source, reader), value in graph.edges.items():
        if source in places and reader in places:
            (x, y), (to_x, to_y) = places[source], places[reader]
            share = abs(value) / largest
            ax.plot([x, to_x], [y, to_y], color=COLOURS[value < 0], lw=0.4 + 2.6 * share, alpha=0.25 + 0.6 * share, zorder=1)
    for i, (node, (x, y)) in enumerate(places.items()):
        ax.scatter(x, y, s=60, marker=_SHAPES[node.kind], color=COLOURS[graph.nodes[node] < 0], zorder=3)
        name = (names or {}).get((node.layer, node.unit)) if node.kind == "feature" else None
        text = name or (f"{node.layer}.{node.unit}" if node.unit >= 0 else "")
        high = 6 + 7 * (i % _LEVELS)  # names of neighbours do not run into each other
        ax.annotate(text, (x, y), (0, high), textcoords="offset points", ha="center", fontsize=6, parse_math=False, zorder=4)
    ax.set_xlim(-0.6, length - 0.4)
    ax.set_xticks(range(length), [str(one) for one in (tokens if tokens is not None else range(length))], fontsize=7)
    for label in ax.get_xticklabels():
        label.set_parse_math(False)
    ax.set_yticks(sorted({round(y) for y in layers}), [_level(round(y), graph) for y in sorted({round(y) for y in layers})])
    ax.set_xlabel("token")
    ax.set_ylabel("layer")
    ax.set_title(f"{graph.target}: {graph.value:.3g} (blue adds, orange takes away)", fontsize=8)
    return ax


def _level(y: int, graph: Any) -> str:
    if y < 0:
        return "embedding"
    return "logits" if graph.target.kind == "logits" and y == graph.target.layer else str(y)


def _places(graph: Any) -> dict[Any, tuple[float, float]]:
    """Where nodes stand: heads a little below the MLP of their layer, those of one place side by side."""
    rows: dict[tuple[int, float], list[Any]] = {}
    for node in graph.nodes:
        if node.kind in _SHAPES:
            rows.setdefault((node.token, node.layer - (0.4 if node.kind == "head" else 0.0)), []).append(node)
    found = {}
    for (token, y), nodes in rows.items():
        nodes.sort(key=lambda node: -abs(graph.nodes[node]))
        for i, node in enumerate(nodes):
            found[node] = (token + _WITHIN * ((i + 0.5) / len(nodes) - 0.5), y)
    return found
