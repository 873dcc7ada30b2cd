"""Heads as nodes, reference prompts, and what a decomposition finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.explain.units import mean_fidelity
from locum.nets.prompts import by_length

__all__ = ["KINDS", "Mean", "Node", "RandomCircuits", "Relevance", "Round", "check_node", "masks", "node_sets"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
KINDS = ("z", "query", "key", "value")
_LENGTHS = "expected prompts of one length, since a position means nothing across lengths; explain each length apart"


class Node(NamedTuple):
    """An attention head, at all positions or at one; as a target, one of the things it works with.

    Parameters
    ----------
    layer, head : int
        Counted from 0.
    position : int or None, default=None
        Counted from 0; all positions where None.
    kind : {"z", "query", "key", "value"}, default="z"
        What is meant where it is a target; z is what the head puts out, before the output projection. A key or value is that
        of the query head named, also where several share it.
    """

    layer: int
    head: int
    position: int | None = None
    kind: str = "z"

    def __str__(self) -> str:
        place = "" if self.position is None else f"@{self.position}"
        return f"{self.layer}.{self.head}{place}" + ("" if self.kind == "z" else f" {self.kind}")


# ---------------------------------------------------------------------- prompts
@final
class Mean:
    """The mean activation of each head at each position over reference prompts: what a head puts out when it knows nothing.

    Parameters
    ----------
    input_ids : array-like of int, shape (references, length), or a list of rows
        Prompts disjoint from those explained. They stand for explained prompts of their own length.
    groups : sequence or None, default=None
        Of each reference prompt, such as its template; one group where None.
    prompts : sequence or None, default=None
        The group of each prompt that is explained, in their order.

    Raises
    ------
    InvalidData
        Labels that do not fit, or a group without a reference prompt.
    """

    name = "the mean over reference prompts"

    def __init__(self, input_ids: Any, *, groups: Sequence[Any] | None = None, prompts: Sequence[Any] | None = None) -> None:
        self.by_length = by_length(input_ids)
        count = sum(len(rows) for rows, _ in self.by_length)
        if (groups is None) != (prompts is None):
            raise InvalidData("expected groups= and prompts= together, or neither")
        if groups is not None and len(groups) != count:
            raise InvalidData(f"expected a group for each of the {count} reference prompts, got {len(groups)}")
        self.groups = ["all"] * count if groups is None else list(groups)
        self.prompts = None if prompts is None else list(prompts)
        missing = [one for one in self.prompts or () if one not in set(self.groups)]
        if missing:
            raise InvalidData(f"there is no reference prompt of the group {missing[0]!r}")


# ---------------------------------------------------------------------- heads as masks
def node_sets(sources: Any, layers: int, heads: int, length: int | None) -> list[tuple[Node, ...]]:
    """Sources as sets of nodes: all heads, all heads at all positions, or those given, each a node or some.

    Raises
    ------
    InvalidData
        A node that is not there, no source, or an empty one.
    """
    if isinstance(sources, str):
        if sources == "heads":
            return [(Node(layer, head),) for layer in range(layers) for head in range(heads)]
        if sources == "heads@pos":
            if length is None:
                raise InvalidData(_LENGTHS)
            return [(Node(i, j, p),) for i in range(layers) for j in range(heads) for p in range(length)]
        raise InvalidData(f"expected sources= to be 'heads', 'heads@pos' or nodes, got {sources!r}")
    found = [(one,) if isinstance(one, Node) else tuple(one) for one in sources]
    if not found or not all(found):
        raise InvalidData("expected sources= of at least one node each, got none")
    for one in (one for some in found for one in some):
        check_node(one, layers, heads, length)
    return found


def check_node(node: Any, layers: int, heads: int, length: int | None) -> None:
    """Refuse what is no head of the network."""
    if not isinstance(node, Node):
        raise InvalidData(f"expected nodes such as Node(layer, head), got {node!r}")
    if not (0 <= node.layer < layers and 0 <= node.head < heads):
        raise InvalidData(f"there is no head {node}: there are {layers} layers (from 0) of {heads} heads (from 0)")
    if node.position is None:
        return
    if length is None:
        raise InvalidData(_LENGTHS)
    if not 0 <= node.position < length:
        raise InvalidData(f"there is no position {node.position} in prompts of {length} tokens, counted from 0")


def masks(sets: Sequence[Sequence[Node]], layers: int, heads: int, length: int | None) -> NDArray[np.bool_]:
    """Where each set has its nodes, shape (sets, layers, length or 1, heads)."""
    placed = any(node.position is not None for some in sets for node in some)
    out = np.zeros((len(sets), layers, int(length or 1) if placed else 1, heads), dtype=bool)
    for i, some in enumerate(sets):
        for node in some:
            out[i, node.layer, slice(None) if node.position is None else node.position, node.head] = True
    return out


# ---------------------------------------------------------------------- results
@dataclass(frozen=True, eq=False)
class Relevance:
    """How much of an answer, or of some heads, comes from each source.

    Attributes
    ----------
    sources : tuple of tuple of Node
    values : ndarray of shape (sources, prompts)
        Signed; the score of the relevant part of the logits, or the relevant share of the target heads.
    full : ndarray of shape (prompts,) or None
        The score of the model itself; None where heads are the target.
    target : str
        In words.
    """

    sources: tuple[tuple[Node, ...], ...]
    values: _FLOAT
    full: _FLOAT | None
    target: str

    @property
    def mean(self) -> _FLOAT:
        """Mean over prompts, one a source."""
        return self.values.mean(axis=1)

    def top(self, k: int = 10) -> tuple[tuple[tuple[Node, ...], Fidelity], ...]:
        """The `k` sources of largest mean by magnitude, each with an interval over prompts."""
        order = np.argsort(-np.abs(self.mean), kind="stable")[:k]
        return tuple((self.sources[i], mean_fidelity("relevance", self.values[i])) for i in order.tolist())

    def grid(self) -> _FLOAT:
        """Mean relevance by layer and head, shape (layers, heads); summed over positions, NaN where there is no source."""
        alone = [(some[0], value) for some, value in zip(self.sources, self.mean, strict=True) if len(some) == 1]
        if len(alone) < len(self.sources):
            raise InvalidData("expected sources of one head each; sets of several have no place of their own")
        shape = tuple(1 + max(getattr(node, name) for node, _ in alone) for name in ("layer", "head"))
        total, seen = np.zeros(shape), np.zeros(shape, dtype=bool)
        for node, value in alone:
            total[node.layer, node.head] += value
            seen[node.layer, node.head] = True
        return np.where(seen, total, np.nan)

    def __str__(self) -> str:
        lines = [f"relevance of {len(self.sources)} sources to {self.target}"]
        return "\n".join(lines + [f"{' + '.join(map(str, some))}  {found}" for some, found in self.top()])


class Round(NamedTuple):
    """One step of a search.

    Parameters
    ----------
    targets : tuple of Node
        What the sources were scored against; none stands for the logits.
    nodes : tuple of Node
        The best sources.
    score : float
        Mean score of the task with all nodes found so far, every other head at its mean.
    """

    targets: tuple[Node, ...]
    nodes: tuple[Node, ...]
    score: float


@dataclass(frozen=True, eq=False)
class RandomCircuits:
    """A circuit beside random ones.

    Attributes
    ----------
    percent : tuple of int
        Size of the random circuits, in percent of all nodes.
    faithfulness : ndarray of shape (sizes, circuits)
    circuit : float
        Faithfulness of the circuit itself.
    """

    percent: tuple[int, ...]
    faithfulness: _FLOAT
    circuit: float

    @property
    def beaten(self) -> _FLOAT:
        """Share of the random circuits of each size that are less faithful than the circuit."""
        return (self.faithfulness < self.circuit).mean(axis=1)

    def __str__(self) -> str:
        shares = [f"{share:.0%} of those of {size} %" for size, share in zip(self.percent, self.beaten, strict=True)]
        return f"faithfulness {self.circuit:.3f}; beats, of random circuits, {', '.join(shares)}"
