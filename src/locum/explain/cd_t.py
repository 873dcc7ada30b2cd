"""A transformer's forward pass as an exact sum of two parts, and the few attention heads that stand in for it on one task.

Each activation is a relevant part, which comes from chosen heads or tokens, and a rest. How much of the relevant part reaches
the answer ranks the heads without a run for each of them; the best ones, traced back head by head, make a circuit.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from locum.core.bounds import Interval, bootstrap, bootstrap_mean
from locum.core.errors import InvalidData, LocumError, need, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.explain._cd_records import (
    KINDS,
    Mean,
    Node,
    RandomCircuits,
    Relevance,
    Round,
    check_node,
    masks,
    node_sets,
)
from locum.explain._cd_search import CircuitSearch
from locum.explain._cd_tokens import Masking, token_importance
from locum.explain.attribution import Attribution
from locum.nets.prompts import LogitDifference, ProbabilityDifference, Score, by_length, single_tokens

if TYPE_CHECKING:
    from locum.explain._cd_engine import Means

__all__ = [
    "CircuitSearch",
    "ContextualDecomposition",
    "LogitDifference",
    "Masking",
    "Mean",
    "Node",
    "ProbabilityDifference",
    "RandomCircuits",
    "Relevance",
    "Round",
    "single_tokens",
]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_ATTENTION = ("full", "fixed")
_MEASURES = ("l1", "dot")
_NORMALISE = (None, "score", "layer")


class ContextualDecomposition:
    r"""A sum of two parts stands in for each activation of a transformer: what comes from chosen sources, and the rest.

    The parts go through every module by a rule that keeps their sum what it was. With x = b + g, b relevant:
    linear, :math:`b' = bW + c\,|bW| / (|bW| + |gW|)`, the bias shared by magnitude; layer norm with mean and variance of x;
    activation, :math:`g' = a(g),\ b' = a(x) - a(g)`; attention, :math:`b' = \mathrm{softmax}(q_b k_b^T) v_b` ("full") or
    :math:`b' = A v_b` with the pattern of x ("fixed"). At a source, what differs from the reference m becomes relevant:
    :math:`b = z - m,\ g = m`.

    Parameters
    ----------
    model : model of transformers
        In eval mode: ``LlamaForCausalLM``, ``GPT2LMHeadModel``, ``BertForSequenceClassification``, or ``BertModel`` with
        `head`. It is moved to `device`, and otherwise left as it is.
    adapter : {"auto", "llama", "gpt2", "bert"}, default="auto"
    head : torch.nn.Linear or None, default=None
        Classifies the mean of the last states of a ``BertModel``.
    attention : {"full", "fixed"}, default="full"
    symmetric : bool, default=False
        Whether b' of an activation is the mean over both orders, :math:`\tfrac12[a(x) - a(g)] + \tfrac12[a(b) - a(0)]`.
    cleanup : bool, default=True
        Whether parts of opposite sign are merged into the larger after each half of an MLP and each block, which keeps them
        from growing against one another.
    batch : int, default=64
        Prompts times sources that go through the network at once.
    device : torch.device or str, default="cpu"

    Raises
    ------
    InvalidData
        Settings that cannot be used, a model in train mode or of another kind.
    UnsupportedModule
        A module that there is no rule for.

    Notes
    -----
    Cost: for each source and prompt about one pass through the blocks from the source on; what lies before is worked out once
    a prompt. 270 heads of a network of 135 million parameters take about 10 seconds for a prompt of 16 tokens on one core.

    **Departures**: the rest is the total less the relevant part, as the rules make it, so that it need not be carried; `check`
    carries both. Rules for RMSNorm (both parts divided by the root mean square of x), rotary positions (both are rotated), keys
    that heads share (repeated), gated MLPs (:math:`g' = a(g_u) g_v`) are not in the paper. Since the rest comes first in an
    activation, all of x being relevant gives :math:`a(x) - a(0)`. With b = 0 the relevant pattern is uniform, which does no
    harm as the relevant values are zero. The score of a relevant part of the logits is told beyond that of zero logits, which
    is not 0 for probabilities.

    References
    ----------
    Hsu, Zhou, Cherapanamjeri, Huang, Odisho, Carroll and Yu, *Efficient Automated Circuit Discovery in Transformers using
    Contextual Decomposition*, arXiv 2407.00886.

    Examples
    --------
    >>> import torch, transformers
    >>> from locum.nets import seeded
    >>> settings = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    >>> with seeded(0):
    ...     model = transformers.GPT2LMHeadModel(settings).eval()
    >>> cd = ContextualDecomposition(model)
    >>> cd.check([[1, 2, 3]]) < 1e-5
    True
    >>> cd.relevance([[1, 2, 3]], score=LogitDifference([4], [5])).values.shape
    (4, 1)
    """

    papers = ("cd-t",)

    def __init__(
        self,
        model: Any,
        *,
        adapter: str = "auto",
        head: Any = None,
        attention: str = "full",
        symmetric: bool = False,
        cleanup: bool = True,
        batch: int = 64,
        device: Any = "cpu",
    ) -> None:
        need("torch", "contextual decomposition", "lm")
        from locum.explain._cd_engine import Engine
        from locum.explain._cd_networks import network
        from locum.explain._cd_rules import Rules

        require_whole(1, batch=batch)
        require_one_of(_ATTENTION, attention=attention)
        net = network(model, adapter, Rules(attention, symmetric, cleanup), head)
        model.to(device)
        if head is not None:
            head.to(device)
        self.model = model
        self._engine, self._net = Engine(net, batch), net
        self._means: weakref.WeakKeyDictionary[Mean, dict[int, Any]] = weakref.WeakKeyDictionary()

    @property
    def layers(self) -> int:
        """How many blocks there are."""
        return self._net.layers

    @property
    def heads(self) -> int:
        """How many heads a block has."""
        return self._net.heads

    # ------------------------------------------------------------------ exactness
    def check(self, input_ids: Any, *, sources: Any = None, reference: Mean | None = None, tolerance: float = 1e-4) -> float:
        """Largest gap between the sum of both parts and the model's own activations, relative to their size.

        Parameters
        ----------
        input_ids : array-like of int, shape (prompts, length), or a list of rows
        sources : as in `relevance`, default=None
            One head, and all heads of the first block, where None.
        reference : Mean or None, default=None
        tolerance : float, default=1e-4
            In float32; some 1e-9 in float64, where the model itself computes in float64 throughout.

        Raises
        ------
        LocumError
            A gap above the tolerance; names the block.
        """
        wanted = sources or [[Node(0, 0)], [Node(0, head) for head in range(self.heads)]]
        largest = 0.0
        for rows, ids in self._prompts(input_ids):
            sets = node_sets(wanted, self.layers, self.heads, ids.shape[1])
            where = masks(sets, self.layers, self.heads, ids.shape[1])
            found = self._engine.conservation(self._engine.ids(ids), where, self._at(reference, rows, ids.shape[1]))
            found.check(tolerance)
            largest = max(largest, found.gap)
        return largest

    # ------------------------------------------------------------------ relevance
    def relevance(
        self,
        input_ids: Any,
        *,
        score: Score | None = None,
        sources: Any = "heads",
        target: Any = "logits",
        reference: Mean | None = None,
        measure: str = "l1",
        normalise: str | None = None,
    ) -> Relevance:
        """How much each source has to do with the answer, or with some heads.

        Parameters
        ----------
        input_ids : array-like of int, shape (prompts, length), or a list of rows
        score : LogitDifference, ProbabilityDifference or None, default=None
            Needed where the target is the logits.
        sources : "heads", "heads@pos", or sequence of Node or of sets of Node, default="heads"
            The sets are scored each as one source.
        target : "logits" or sequence of Node, default="logits"
            Heads to explain; they may be meant at one position, and as their query, key or value.
        reference : Mean or None, default=None
            Zero where None, and then all that a source puts out is relevant.
        measure : {"l1", "dot"}, default="l1"
            Of target heads: the relevant share of the magnitude, or the product of the relevant part with the head's difference
            from the reference; summed over the heads.
        normalise : {None, "score", "layer"}, default=None
            Divide by the model's own score of the prompt, or by the sum of magnitudes over sources in the same layer.

        Returns
        -------
        Relevance

        Raises
        ------
        InvalidData
            Nodes that are not there, scores that do not fit the prompts, prompts of several lengths where positions count.
        LocumError
            Parts that outgrow all numbers, as gated MLPs let them without `cleanup`.
        """
        prompts = self._prompts(input_ids)
        count = sum(len(rows) for rows, _ in prompts)
        length = prompts[0][1].shape[1] if len(prompts) == 1 else None
        sets = node_sets(sources, self.layers, self.heads, length)
        if normalise not in _NORMALISE:
            raise InvalidData(f"expected normalise= to be one of {_NORMALISE}, got {normalise!r}")
        to_logits = isinstance(target, str)
        targets = self._targets(target, length, measure)
        if to_logits:
            score = self._score(score, count)
        elif normalise == "score":
            raise InvalidData("normalise='score' needs the logits as target; say 'layer', or nothing")
        values = np.zeros((len(sets), count))
        for rows, ids in prompts:
            where = masks(sets, self.layers, self.heads, ids.shape[1])
            tokens, means = self._engine.ids(ids), self._at(reference, rows, ids.shape[1])
            if to_logits:
                assert score is not None
                read = _reader(score.take(rows))
                values[:, rows] = self._engine.relevant(tokens, where, means, read, score.position)
            else:
                values[:, rows] = self._engine.relevant_to(tokens, where, means, targets, measure)
        _check_finite(values, sets)
        full = self.scores(input_ids, score) if to_logits and score is not None else None
        for i, some in enumerate(sets):
            if any(_same_head(node, one) for node in some for one in targets):
                values[i] = 0.0
        words = "the logits" if to_logits else ", ".join(map(str, targets))
        return Relevance(tuple(sets), _normalised(values, normalise, sets, full), full, words)

    def _targets(self, target: Any, length: int | None, measure: str) -> tuple[Node, ...]:
        require_one_of(_MEASURES, measure=measure)
        if isinstance(target, str):
            if target != "logits":
                raise InvalidData(f"expected target= to be 'logits' or nodes, got {target!r}")
            return ()
        found = tuple(target)
        if not found:
            raise InvalidData("expected target= of at least one node, got none")
        for one in found:
            check_node(one, self.layers, self.heads, length)
            if one.kind not in KINDS:
                raise InvalidData(f"expected a target of kind {', '.join(KINDS)}, got {one.kind!r}")
        return found

    # ------------------------------------------------------------------ the task
    def scores(self, input_ids: Any, score: Score) -> _FLOAT:
        """The task's score of each prompt, by the model as it is, shape (prompts,)."""
        prompts = self._prompts(input_ids)
        score = self._score(score, sum(len(rows) for rows, _ in prompts))
        out = np.zeros(sum(len(rows) for rows, _ in prompts))
        for rows, ids in prompts:
            read = _reader(score.take(rows))
            for some, logits in self._engine.answers(self._engine.ids(ids), score.position):
                out[rows[some]] = read(logits, some).double().cpu().numpy()
        return out

    def ablated(self, input_ids: Any, sources: Any, score: Score, *, reference: Mean | None = None) -> _FLOAT:
        """The task's score with each source, and nothing else, at its reference mean: the exact counterpart of relevance.

        Parameters
        ----------
        input_ids : array-like of int, shape (prompts, length), or a list of rows
        sources : as in `relevance`
        score : LogitDifference or ProbabilityDifference
        reference : Mean or None, default=None
            Zero where None.

        Returns
        -------
        ndarray of shape (sources, prompts)
        """
        prompts = self._prompts(input_ids)
        length = prompts[0][1].shape[1] if len(prompts) == 1 else None
        sets = node_sets(sources, self.layers, self.heads, length)
        return self._without(prompts, lambda n: masks(sets, self.layers, self.heads, n), score, reference)

    def kept(
        self, input_ids: Any, circuits: Sequence[Sequence[Node]], score: Score, *, reference: Mean | None = None
    ) -> _FLOAT:
        """The task's score with every head outside a circuit at its reference mean, for each of some circuits.

        Parameters
        ----------
        input_ids : array-like of int, shape (prompts, length), or a list of rows
        circuits : sequence of sequence of Node
            An empty one keeps nothing.
        score : LogitDifference or ProbabilityDifference
        reference : Mean or None, default=None
            Zero where None.

        Returns
        -------
        ndarray of shape (circuits, prompts)
        """
        prompts = self._prompts(input_ids)
        length = prompts[0][1].shape[1] if len(prompts) == 1 else None
        for node in (node for some in circuits for node in some):
            check_node(node, self.layers, self.heads, length)
        return self._without(prompts, lambda n: ~masks(circuits, self.layers, self.heads, n), score, reference)

    def faithfulness(
        self,
        nodes: Sequence[Node],
        input_ids: Any,
        score: Score,
        *,
        reference: Mean | None = None,
        level: float = 0.95,
        random_state: int = 0,
    ) -> Fidelity:
        """How much of the task a circuit does: (m(circuit) - m(nothing)) / (m(all) - m(nothing)), m the mean score.

        Parameters
        ----------
        nodes : sequence of Node
        input_ids : array-like of int, shape (prompts, length), or a list of rows
            Prompts that had no say in finding the circuit.
        score : LogitDifference or ProbabilityDifference
        reference : Mean or None, default=None
            Zero where None.
        level : float, default=0.95
        random_state : int, default=0
            Of the resampling.

        Returns
        -------
        Fidelity
            With a bootstrap interval over prompts. It can be above 1, where heads outside work against the answer.

        Raises
        ------
        InvalidData
            The model with nothing kept does the task as well as with everything, as far as these prompts can tell.
        """
        empty, found = self.kept(input_ids, [(), tuple(nodes)], score, reference=reference)
        full = self.scores(input_ids, score)
        _check_gap(full, empty, level, random_state)
        ends = _ratio(found - empty, full - empty, level, random_state)
        value = float((found - empty).mean() / (full - empty).mean())
        return Fidelity(
            "faithfulness", value, ends.lower, ends.upper, level, len(full), how="prompts", method=ends.method,
        )  # fmt: skip

    def random_circuits(
        self,
        nodes: Sequence[Node],
        input_ids: Any,
        score: Score,
        *,
        reference: Mean | None = None,
        sizes: Sequence[int] = range(10, 101, 10),
        n: int = 10,
        random_state: int = 0,
    ) -> RandomCircuits:
        """A circuit beside random ones of several sizes.

        Parameters
        ----------
        nodes : sequence of Node
            With positions, the random circuits have them too.
        input_ids : array-like of int, shape (prompts, length), or a list of rows
        score : LogitDifference or ProbabilityDifference
        reference : Mean or None, default=None
            Zero where None.
        sizes : sequence of int, default=range(10, 101, 10)
            In percent of all heads.
        n : int, default=10
            Random circuits of each size.
        random_state : int, default=0
        """
        require_whole(1, n=n)
        if not len(sizes) or min(sizes) < 1 or max(sizes) > 100:
            raise InvalidData(f"expected sizes= in percent, from 1 to 100, got {tuple(sizes)}")
        prompts = self._prompts(input_ids)
        placed = any(node.position is not None for node in nodes)
        length = prompts[0][1].shape[1] if len(prompts) == 1 else None
        pool = [one for (one,) in node_sets("heads@pos" if placed else "heads", self.layers, self.heads, length)]
        rng = np.random.default_rng(random_state)
        drawn = [
            [pool[i] for i in rng.permutation(len(pool))[: max(1, round(size * len(pool) / 100))]]
            for size in sizes
            for _ in range(n)
        ]
        full = self.scores(input_ids, score)
        empty, own, *others = self.kept(input_ids, [(), tuple(nodes), *drawn], score, reference=reference)
        _check_gap(full, empty, 0.95, random_state)
        spread = full.mean() - empty.mean()
        found = np.array([one.mean() - empty.mean() for one in others]).reshape(len(sizes), n) / spread
        return RandomCircuits(tuple(map(int, sizes)), found, float((own.mean() - empty.mean()) / spread))

    # ------------------------------------------------------------------ tokens
    def local_importance(
        self,
        input_ids: Any,
        *,
        labels: Sequence[int] | None = None,
        window: int = 1,
        names: Callable[[int], str] = str,
        masking: Masking | None = None,
    ) -> list[Attribution]:
        """What each token has to do with the answer: the margin of the label over its closest competitor in the relevant part.

        Parameters
        ----------
        input_ids : list of rows of tokens, which may be of unequal length
        labels : sequence of int or None, default=None
            Classes (or tokens) explained; those answered where None.
        window : int, default=1
            Tokens that are relevant together, with the one that is told in the middle.
        names : callable, default=str
            Token to words, such as ``tokenizer.convert_ids_to_tokens``.
        masking : Masking or None, default=None
            How tokens are taken away to see whether importances foretell what that does; fidelity is not measured where None.

        Returns
        -------
        list of Attribution
            One a prompt, in their order. The fidelity is the rank correlation, over masked texts, between the margin and the
            sum of the importances that are left; beside it is that of how many tokens are left.
        """
        require_whole(1, window=window)
        prompts = self._prompts(input_ids)
        count = sum(len(rows) for rows, _ in prompts)
        if labels is not None and len(labels) != count:
            raise InvalidData(f"expected a label for each of the {count} prompts, got {len(labels)}")
        out: dict[int, Attribution] = {}
        for rows, ids in prompts:
            for row, one in zip(rows.tolist(), ids, strict=True):
                label = None if labels is None else int(labels[row])
                out[row] = token_importance(self._engine, one, label, window, names, masking)
        return [out[row] for row in range(count)]

    # ------------------------------------------------------------------ shared
    def _without(
        self, prompts: list[tuple[_INT, _INT]], where: Callable[[int], NDArray[np.bool_]], score: Score, reference: Mean | None
    ) -> _FLOAT:
        score = self._score(score, sum(len(rows) for rows, _ in prompts))
        parts = []
        for rows, ids in prompts:
            tokens, sets, read = self._engine.ids(ids), where(ids.shape[1]), _reader(score.take(rows))
            means = self._at(reference, rows, ids.shape[1])
            parts.append((rows, self._engine.without(tokens, sets, means, read, score.position)))
        out = np.zeros((len(parts[0][1]), sum(len(rows) for rows, _ in parts)))
        for rows, found in parts:
            out[:, rows] = found
        return out

    def _prompts(self, input_ids: Any) -> list[tuple[_INT, _INT]]:
        found = by_length(input_ids.tolist() if hasattr(input_ids, "tolist") else input_ids)
        size, places = self.model.config.vocab_size, self.model.config.max_position_embeddings
        least, largest = min(int(ids.min()) for _, ids in found), max(int(ids.max()) for _, ids in found)
        if least < 0 or largest >= size:
            raise InvalidData(f"expected tokens from 0 to below the {size} of the model, got {least if least < 0 else largest}")
        if found[-1][1].shape[1] > places:
            raise InvalidData(
                f"expected prompts of at most the {places} tokens the model takes, got {found[-1][1].shape[1]}; shorten them"
            )
        return found

    def _score(self, score: Any, prompts: int) -> Score:
        if not isinstance(score, LogitDifference | ProbabilityDifference):
            raise InvalidData(f"expected score= of LogitDifference or ProbabilityDifference, got {type(score).__name__}")
        if score.prompts not in (None, prompts):
            raise InvalidData(f"the score is for {score.prompts} prompts, and there are {prompts}")
        return score

    def _at(self, reference: Mean | None, rows: _INT, length: int) -> Means | None:
        """The reference of some prompts of one length; worked out once for each reference and length."""
        from locum.explain._cd_engine import Means

        if reference is None:
            return None
        if not isinstance(reference, Mean):
            raise InvalidData(f"expected reference= to be Mean(input_ids) or None, got {type(reference).__name__}")
        known = self._means.setdefault(reference, {})
        if length not in known:
            found = [(at, ids) for at, ids in reference.by_length if ids.shape[1] == length]
            if not found:
                raise InvalidData(f"there is no reference prompt of {length} tokens, as the prompts that are explained have")
            at, ids = found[0]
            labels = [reference.groups[i] for i in at]
            index = {label: i for i, label in enumerate(dict.fromkeys(labels))}
            groups = np.array([index[label] for label in labels])
            known[length] = self._engine.means(self._engine.ids(ids), groups), index
        by_kind, index = known[length]
        wanted = ["all"] * len(rows) if reference.prompts is None else self._labels(reference, rows)
        missing = [label for label in wanted if label not in index]
        if missing:
            raise InvalidData(f"there is no reference prompt of {length} tokens of the group {missing[0]!r}")
        return Means(by_kind, np.array([index[label] for label in wanted]))

    @staticmethod
    def _labels(reference: Mean, rows: _INT) -> list[Any]:
        given = reference.prompts or []
        if int(rows.max()) >= len(given):
            raise InvalidData(f"the reference is for {len(given)} prompts, and there are at least {int(rows.max()) + 1}")
        return [given[i] for i in rows]


def _reader(score: Score) -> Callable[[Any, slice], Any]:
    """A score of logits for a batch of the prompts it is for."""
    return lambda logits, rows: score.take(rows)(logits)


def _check_finite(values: _FLOAT, sets: list[tuple[Node, ...]]) -> None:
    if not np.isfinite(values).all():
        i, prompt = np.argwhere(~np.isfinite(values))[0]
        raise LocumError(
            f"the parts of source {' + '.join(map(str, sets[i]))} grew against one another beyond all numbers on prompt "
            f"{prompt}; use cleanup=True, which merges parts of opposite sign"
        )


def _same_head(one: Node, other: Node) -> bool:
    places = {one.position, other.position}
    return one[:2] == other[:2] and (None in places or len(places) == 1)


def _normalised(values: _FLOAT, how: str | None, sets: list[tuple[Node, ...]], full: _FLOAT | None) -> _FLOAT:
    if how == "score" and full is not None:
        if (full == 0).any():
            raise InvalidData("the model scores 0 on a prompt, which nothing can be divided by; leave out normalise=")
        return values / full
    if how == "layer":
        layer = np.array([min(node.layer for node in some) for some in sets])
        sums = np.stack([np.abs(values[layer == one]).sum(axis=0) for one in layer])
        return np.divide(values, sums, out=np.zeros_like(values), where=sums > 0)
    return values


def _ratio(part: _FLOAT, whole: _FLOAT, level: float, random_state: int) -> Interval:
    """Interval of the mean of `part` divided by that of `whole`."""
    value = float(part.mean() / whole.mean())
    if np.abs(part - value * whole).max() <= 1e-9 * np.abs(whole).max():  # the same in each prompt: nothing, or everything
        return Interval(value, value, level, "the same for each prompt")
    terms = np.stack([part, whole], axis=1)
    return bootstrap(terms, lambda means: means[..., 0] / means[..., 1], level, random_state=random_state).including(value)


def _check_gap(full: _FLOAT, empty: _FLOAT, level: float, random_state: int) -> None:
    gap = full - empty
    ends = bootstrap_mean(gap, level, random_state=random_state)
    if ends.lower <= 0 <= ends.upper:
        raise InvalidData(
            f"with all heads the task scores {gap.mean():.3g} [{ends.lower:.3g}, {ends.upper:.3g}] more than with none, which "
            "cannot be told from 0, so no share of it can be given; take more prompts, or another score or reference"
        )
