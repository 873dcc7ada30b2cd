"""Heads as nodes, scores of a task, reference prompts, and what a decomposition finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.explain.units import mean_fidelity

__all__ = [
    "KINDS", "LogitDifference", "Mean", "Node", "ProbabilityDifference", "RandomCircuits", "Relevance", "Round", "Score",
    "by_length", "check_node", "masks", "node_sets", "single_tokens",
]  # fmt: skip

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


# ---------------------------------------------------------------------- scores
@final
class LogitDifference:
    """Logit of the right answer less that of a wrong one.

    Parameters
    ----------
    right, wrong : array-like of int, shape (prompts,) or ()
        Tokens, or classes.
    position : int, default=-1
        Where the answer is read; negative counts from the end.

    Raises
    ------
    InvalidData
        Tokens that are not whole numbers of one shape.

    Examples
    --------
    >>> score = LogitDifference([2, 0], [1, 1])
    >>> score(np.array([[0.0, 1.0, 3.0], [5.0, 1.0, 0.0]])).tolist()
    [2.0, 4.0]
    """

    name = "logit of the right answer less that of the wrong one"

    def __init__(self, right: ArrayLike, wrong: ArrayLike, *, position: int = -1) -> None:
        self.right, self.wrong, self.position = _tokens(right, "right"), _tokens(wrong, "wrong"), position
        if self.right.shape != self.wrong.shape or self.right.ndim > 1:
            shapes = f"{self.right.shape} and {self.wrong.shape}"
            raise InvalidData(f"expected right and wrong of one shape, (prompts,) or (), got {shapes}")

    @property
    def prompts(self) -> int | None:
        """How many prompts it is for; None where it is the same for each."""
        return len(self.right) if self.right.ndim else None

    def take(self, rows: Any) -> LogitDifference:
        """The score of some of the prompts."""
        if self.prompts is None:
            return self
        return LogitDifference(self.right[rows], self.wrong[rows], position=self.position)

    def __call__(self, logits: Any) -> Any:
        """Scores of shape (..., prompts) from logits of shape (..., prompts, classes), of torch or NumPy."""
        rows = np.arange(logits.shape[-2])
        return logits[..., rows, self.right] - logits[..., rows, self.wrong]


@final
class ProbabilityDifference:
    """Probability of all right answers less that of all wrong ones.

    Parameters
    ----------
    tokens : array-like of int, shape (answers,)
    right : array-like of bool, shape (prompts, answers)
        Which of them are right; the others are wrong.
    position : int, default=-1
        Where the answer is read; negative counts from the end.

    Raises
    ------
    InvalidData
        Shapes that do not fit.

    Examples
    --------
    >>> score = ProbabilityDifference([0, 1], [[True, False]])
    >>> round(float(score(np.log([[0.75, 0.25]]))[0]), 3)
    0.5
    """

    name = "probability of the right answers less that of the wrong ones"

    def __init__(self, tokens: ArrayLike, right: ArrayLike, *, position: int = -1) -> None:
        self.tokens, self.right, self.position = _tokens(tokens, "tokens"), np.asarray(right), position
        if self.right.dtype != bool or self.right.ndim != 2 or self.right.shape[1:] != self.tokens.shape:
            raise InvalidData(
                f"expected right= of bools, of shape (prompts, {len(np.atleast_1d(self.tokens))}), got {self.right.dtype} of "
                f"shape {self.right.shape}"
            )

    @property
    def prompts(self) -> int:
        """How many prompts it is for."""
        return len(self.right)

    def take(self, rows: Any) -> ProbabilityDifference:
        """The score of some of the prompts."""
        return ProbabilityDifference(self.tokens, self.right[rows], position=self.position)

    def __call__(self, logits: Any) -> Any:
        """Scores of shape (..., prompts) from logits of shape (..., prompts, classes), of torch or NumPy."""
        raised = logits - (logits.max(-1)[..., None] if isinstance(logits, np.ndarray) else logits.amax(-1, keepdim=True))
        chances = np.exp(raised) if isinstance(logits, np.ndarray) else raised.exp()
        chances = chances[..., self.tokens] / chances.sum(-1)[..., None]
        sign = np.where(self.right, 1.0, -1.0)
        signs = sign if isinstance(logits, np.ndarray) else logits.new_tensor(sign)
        return (chances * signs).sum(-1)


Score = LogitDifference | ProbabilityDifference


def single_tokens(tokenizer: Any, words: Iterable[str]) -> _INT:
    """The token of each word, refused where a word is not exactly one.

    Parameters
    ----------
    tokenizer : tokenizer of transformers
    words : iterable of str
        As they stand in the text, with the space before them.

    Raises
    ------
    InvalidData
        Names the first word that is several tokens.
    """
    out = []
    for word in words:
        found = tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(found) != 1:
            parts = [tokenizer.decode([one]) for one in found]
            raise InvalidData(f"expected answers of one token each, and {word!r} is {len(found)}: {parts}; choose another word")
        out.append(found[0])
    return np.array(out, dtype=np.intp)


def _tokens(values: ArrayLike, name: str) -> _INT:
    found = np.asarray(values)
    if found.dtype.kind not in "iu" or (found < 0).any():
        raise InvalidData(f"expected {name}= of tokens as whole numbers of 0 or more, got {found.dtype}")
    return found.astype(np.intp)


# ---------------------------------------------------------------------- prompts
def by_length(input_ids: Any, what: str = "input_ids") -> list[tuple[_INT, _INT]]:
    """Prompts of one length together: their positions in the order given, and their tokens, shape (prompts, length).

    Raises
    ------
    InvalidData
        No prompt, or one that is not a row of tokens.
    """
    try:
        rows = [np.asarray(row) for row in input_ids]
    except TypeError:
        rows = []
    if not rows or any(row.ndim != 1 or not len(row) or row.dtype.kind not in "iu" for row in rows):
        raise InvalidData(f"expected {what}= of one row of tokens (whole numbers) a prompt, got {_described(input_ids)}")
    lengths = np.array([len(row) for row in rows])
    return [
        (np.flatnonzero(lengths == one), np.stack([row for row in rows if len(row) == one]).astype(np.intp))
        for one in np.unique(lengths)
    ]


def _described(thing: Any) -> str:
    shape = getattr(thing, "shape", None)
    return type(thing).__name__ if shape is None else f"shape {tuple(shape)}"


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
