"""From the answer back to the heads it comes from, and to the heads those come from: a circuit, and its pruning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from locum.core.errors import InvalidData, require_one_of, require_whole
from locum.explain._cd_records import KINDS, Mean, Node, Round
from locum.nets.prompts import Score, by_length

if TYPE_CHECKING:
    from locum.explain.cd_t import ContextualDecomposition

__all__ = ["CircuitSearch"]

_FLOAT = NDArray[np.float64]
_LEVELS = ("heads", "heads@pos")
_PATIENCE = 2  # rounds in a row without gain


class CircuitSearch(BaseEstimator):
    """A few attention heads stand in for a whole transformer on one task; all others are held at their mean.

    The heads most relevant to the logits come first, then those most relevant to them, and so on back; what is found is
    joined. Then heads are taken out again, one at a time, as long as the task is done better without.

    Parameters
    ----------
    decomposition : ContextualDecomposition
    score : LogitDifference or ProbabilityDifference
        For the prompts of the fit, the higher the better.
    reference : Mean or None, default=None
        What a head that is taken away puts out; zero where None.
    level : {"heads", "heads@pos"}, default="heads"
    per_round : int, default=2
        Nodes taken in a round.
    percentile : float or None, default=None
        Take instead all nodes whose relevance is above this percentile of the round.
    rounds : int or "auto", default="auto"
        At most so many; where "auto", until no earlier layer is left, a round finds nothing new, or two in a row bring no gain.
    measure : {"l1", "dot"}, default="l1"
        Of relevance to heads.
    kind : {"z", "query", "key", "value"}, default="z"
        What of the heads found is traced back.
    prune : bool, default=True
    protect : sequence of Node, default=()
        Never taken out.

    Attributes
    ----------
    nodes_ : tuple of Node
        The circuit, in order.
    found_ : tuple of Node
        Before pruning.
    path_ : tuple of Round
    pruned_ : tuple of (Node, float)
        What was taken out, in that order, and the mean score after it.

    Raises
    ------
    InvalidData
        Settings that cannot be used.

    Notes
    -----
    Cost: one relevance of all nodes a round; for pruning up to n(n + 1) / 2 passes a prompt for n nodes found. Pruning fits the
    prompts, so measure the circuit on others.

    Relevance to the logits is signed, and heads that speak against the answer are not taken. Relevance to heads is compared
    within the layer of its source, as in the paper.

    References
    ----------
    Hsu et al., arXiv 2407.00886.

    Examples
    --------
    >>> import torch, transformers
    >>> from locum.explain.cd_t import ContextualDecomposition, LogitDifference
    >>> from locum.nets import seeded
    >>> settings = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    >>> with seeded(0):
    ...     model = transformers.GPT2LMHeadModel(settings).eval()
    >>> search = CircuitSearch(ContextualDecomposition(model), LogitDifference(4, 5), per_round=1).fit([[1, 2, 3], [3, 2, 1]])
    >>> set(search.nodes_) <= set(search.found_)
    True
    """

    papers = ("cd-t",)

    def __init__(
        self,
        decomposition: ContextualDecomposition,
        score: Score,
        reference: Mean | None = None,
        *,
        level: str = "heads",
        per_round: int = 2,
        percentile: float | None = None,
        rounds: int | str = "auto",
        measure: str = "l1",
        kind: str = "z",
        prune: bool = True,
        protect: Iterable[Node] = (),
    ) -> None:
        self.decomposition = decomposition
        self.score = score
        self.reference = reference
        self.level = level
        self.per_round = per_round
        self.percentile = percentile
        self.rounds = rounds
        self.measure = measure
        self.kind = kind
        self.prune = prune
        self.protect = protect

    def fit(self, input_ids: Any, y: Any = None) -> Self:
        """Find the circuit.

        Parameters
        ----------
        input_ids : array-like of int, shape (prompts, length), or a list of rows
        y : None, default=None
            Not used.
        """
        self._check(input_ids)
        targets: tuple[Node, ...] = ()
        found: list[Node] = []
        path: list[Round] = []
        best, idle = -np.inf, 0
        while self.rounds == "auto" or len(path) < int(self.rounds):
            nodes = self._round(input_ids, targets, found)
            if not nodes:
                break
            found += nodes
            path.append(Round(targets, tuple(nodes), self._kept(input_ids, [found])[0]))
            targets = tuple(self._target(node) for node in nodes)
            idle = 0 if path[-1].score > best else idle + 1
            best = max(best, path[-1].score)
            if self.rounds == "auto" and idle == _PATIENCE:
                break
        if not found:
            raise InvalidData("no head speaks for the answer on these prompts; check the tokens and the position of score=")
        self.path_, self.found_ = tuple(path), tuple(sorted(found, key=_place))
        self.nodes_, self.pruned_ = self._pruned(input_ids, found, path[-1].score) if self.prune else (self.found_, ())
        return self

    def _round(self, input_ids: Any, targets: tuple[Node, ...], found: list[Node]) -> list[Node]:
        """The best sources that are not in the circuit yet."""
        to = {"target": targets, "normalise": "layer", "measure": self.measure} if targets else {"score": self.score}
        if targets and max(node.layer for node in targets) == 0:
            return []
        relevance = self.decomposition.relevance(input_ids, sources=self.level, reference=self.reference, **to)
        value = relevance.mean
        order = np.argsort(-value, kind="stable")
        if self.percentile is None:
            order = order[: self.per_round]
        else:
            order = order[value[order] > np.percentile(value, self.percentile)]
        taken = [relevance.sources[i][0] for i in order if value[i] > 0]
        return [node for node in taken if node not in found]

    def _target(self, node: Node) -> Node:
        # What a head puts out at a position comes from keys and values at others.
        place = node.position if self.kind in ("z", "query") else None
        return node._replace(kind=self.kind, position=place)

    def _pruned(
        self, input_ids: Any, found: list[Node], score: float
    ) -> tuple[tuple[Node, ...], tuple[tuple[Node, float], ...]]:
        """Take out the node whose removal helps most, again and again."""
        nodes, taken = sorted(found, key=_place), []
        while len(nodes) > 1:
            free = [node for node in nodes if node not in set(self.protect)]
            if not free:
                break
            scores = self._kept(input_ids, [[one for one in nodes if one != node] for node in free])
            i = int(np.argmax(scores))
            if scores[i] <= score:
                break
            score = scores[i]
            nodes.remove(free[i])
            taken.append((free[i], score))
        return tuple(nodes), tuple(taken)

    def _kept(self, input_ids: Any, circuits: list[list[Node]]) -> list[float]:
        found = self.decomposition.kept(input_ids, circuits, self.score, reference=self.reference)
        return [float(one) for one in found.mean(axis=1)]

    def _check(self, input_ids: Any) -> None:
        require_whole(1, per_round=self.per_round)
        if self.rounds != "auto":
            require_whole(1, rounds=self.rounds)
        require_one_of(_LEVELS, level=self.level)
        require_one_of(KINDS, kind=self.kind)
        if self.percentile is not None and not 0 <= self.percentile < 100:
            raise InvalidData(f"expected percentile= from 0 to below 100, or None, got {self.percentile!r}")
        if self.level == "heads@pos" and len(by_length(input_ids)) > 1:
            raise InvalidData("expected prompts of one length for level='heads@pos'; search each length apart")


def _place(node: Node) -> tuple[int, int, int]:
    return node.layer, node.head, -1 if node.position is None else node.position
