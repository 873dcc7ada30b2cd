"""The circuit of a target on a prompt: its strongest paths through features and heads, found greedily and merged."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from locum.core.errors import need, require_whole
from locum.inside._attribution import Attributions, Feature, Logits, Node, Prompt, Reader

__all__ = ["AttributionGraph", "Path", "attribution_graph"]


class Path(NamedTuple):
    """A way from the target back.

    Attributes
    ----------
    nodes : tuple of Node
        The target first.
    value : float
        What the last node adds to the target along this path.
    dependent, invariant : float
        Its two factors, where the last node is a feature or an embedding; NaN for others.
    """

    nodes: tuple[Node, ...]
    value: float
    dependent: float
    invariant: float


@dataclass(frozen=True)
class AttributionGraph:
    """Paths of a circuit, merged where they share nodes, so that nothing counts twice.

    Attributes
    ----------
    prompt : Prompt
    target : Node
    value : float
        What is attributed: the target's pre-activation, or its logits.
    paths : tuple of Path
        All that the search kept, of every length.
    nodes : dict of Node to float
        What a node adds to the target along the kept paths that end there.
    edges : dict of (Node, Node) to float
        From a source to a reader.
    rest : dict of Node to float
        What a node reads from sources that the search did not keep: for each node, edges into it and this sum to its value.
    """

    prompt: Prompt
    target: Node
    value: float
    paths: tuple[Path, ...]
    nodes: dict[Node, float]
    edges: dict[tuple[Node, Node], float]
    rest: dict[Node, float]

    def features(self, n: int | None = None) -> list[Feature]:
        """Features other than the target, by size of what they add.

        Parameters
        ----------
        n : int or None, default=None
            So many at most.
        """
        found = [node for node in self.nodes if node.kind == "feature" and node != self.target]
        found.sort(key=lambda node: -abs(self.nodes[node]))
        return [Feature(*node[1:]) for node in found[:n]]

    def to_networkx(self) -> Any:
        """A networkx.DiGraph, with `value` on nodes and edges and `rest` on nodes."""
        networkx = need("networkx", "a graph for other programs", "nets")
        graph = networkx.DiGraph(value=self.value)
        for node, value in self.nodes.items():
            graph.add_node(node, value=value, rest=self.rest.get(node, 0.0), label=str(node))
        for (source, reader), value in self.edges.items():
            graph.add_edge(source, reader, value=value)
        return graph


class _Open(NamedTuple):
    """A path that may be followed further."""

    path: Path
    reader: Reader | None


def attribution_graph(prompt: Prompt, target: Feature | Logits, *, depth: int = 3, beam: int | None = 20) -> AttributionGraph:
    """The circuit of a target: a greedy search for its strongest paths, merged into a graph.

    From the target back, each path is extended by the sources that add most to the target through it, by size, and of all
    extended paths the largest are kept and extended again.

    Parameters
    ----------
    prompt : Prompt
        Of :meth:`ReplacementModel.run <locum.inside.ReplacementModel.run>`.
    target : Feature or Logits
    depth : int, default=3
        Longest path, in steps; a head is a step.
    beam : int or None, default=20
        Paths kept at each step; all where None, which grows fast.

    Returns
    -------
    AttributionGraph

    Notes
    -----
    Cost: for each path that is extended, a product with the decoder rows of all active latents at its token, and with the
    output matrices of all heads below; 0.7 s on one core for a target above 12 layers of width 576, with depth 4 and beam 40.
    """
    require_whole(1, depth=depth)
    if beam is not None:
        require_whole(1, beam=beam)
    node, reader = prompt.reader(target)
    value = prompt.read(reader)
    frontier, kept = [_Open(Path((node,), value, np.nan, np.nan), reader)], []
    nodes: dict[Node, float] = defaultdict(float, {node: value})
    edges: dict[tuple[Node, Node], float] = defaultdict(float)
    rest: dict[Node, float] = defaultdict(float, {node: value})
    for _ in range(depth):
        longer = [one for parent in frontier if parent.reader is not None for one in _extended(prompt, parent, beam)]
        longer.sort(key=lambda one: -abs(one[0].value))
        frontier = [_Open(path, prompt.onward(parent, path.nodes[-1])) for path, parent in longer[:beam]]
        kept += [one.path for one in frontier]
        for path, onward in frontier:
            source, read_by = path.nodes[-1], path.nodes[-2]
            nodes[source] += path.value
            edges[source, read_by] += path.value
            rest[read_by] -= path.value
            if onward is not None:
                rest[source] += path.value
    return AttributionGraph(prompt, node, value, tuple(kept), dict(nodes), dict(edges), dict(rest))


def _extended(prompt: Prompt, parent: _Open, beam: int | None) -> list[tuple[Path, Reader]]:
    assert parent.reader is not None
    told: Attributions = prompt.sources(parent.path.nodes[-1], parent.reader)
    order = np.argsort(-np.abs(told.values), kind="stable")[:beam]
    factors = np.stack([told.values, told.dependent, told.invariant], axis=1)
    found = [i for i in order if told.values[i] != 0]
    return [(Path((*parent.path.nodes, told.nodes[i]), *map(float, factors[i])), parent.reader) for i in found]
