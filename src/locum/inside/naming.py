"""Names of latents: what excites one is put into words, and the words are held to contexts that they were not made from.

A name stands in for a latent: whoever reads it should be able to say which contexts excite the latent and which do not
(detection scoring). Contexts are texts, with the token where the latent was read or without one, so the same serves
latents of language models and those of anything else that can be described in words, such as the items of a recommender.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.stats import binom

from locum.core.bounds import bounded_mean
from locum.core.errors import InvalidData, require_whole
from locum.core.fidelity import Fidelity

__all__ = [
    "CalibratedDetector", "Context", "Detector", "LatentExamples", "NameScore", "NameScores", "Namer", "latent_examples",
    "score_names", "token_contexts",
]  # fmt: skip

_FLOATS = NDArray[np.float64]
KINDS = ("random", "similar", "same token")


@dataclass(frozen=True)
class Context:
    """A text, and the part of it at which a latent was read.

    Parameters
    ----------
    text : str
    start, stop : int or None, default=None
        Where the token begins and ends in the text; None where the latent was read from the text as a whole.

    Examples
    --------
    >>> Context("The river rose.", 4, 9).marked
    'The <<river>> rose.'
    """

    text: str
    start: int | None = None
    stop: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise InvalidData(f"expected a context's text, got {type(self.text).__name__}")
        if (self.start is None) != (self.stop is None):
            raise InvalidData("expected both start= and stop= of the token, or neither")
        if self.start is not None and self.stop is not None and not 0 <= self.start <= self.stop <= len(self.text):
            raise InvalidData(f"expected a token within the {len(self.text)} letters, got {self.start} to {self.stop}")

    @cached_property
    def token(self) -> str:
        """The token, "" where there is none."""
        return self.text[self.start : self.stop] if self.start is not None else ""

    @cached_property
    def before(self) -> str:
        """What precedes the token; the whole text where there is none."""
        return self.text[: self.start]

    @cached_property
    def after(self) -> str:
        """What follows the token."""
        return "" if self.stop is None else self.text[self.stop :]

    @cached_property
    def marked(self) -> str:
        """The text with the token in double angle brackets."""
        return self.text if self.start is None else f"{self.before}<<{self.token}>>{self.after}"


@runtime_checkable
class Namer(Protocol):
    """Any callable that gives a name to what excites a latent."""

    def __call__(self, active: Sequence[Context], inactive: Sequence[Context], /) -> str:
        """A name, from contexts that excite the latent, the strongest first, and ones that do not."""


@runtime_checkable
class Detector(Protocol):
    """Any callable that says of contexts whether a latent of that name would be active."""

    def __call__(self, name: str, contexts: Sequence[Context], /) -> ArrayLike:
        """A probability of each context, or True and False; active is what is above one half."""


class CalibratedDetector(ABC):
    """What becomes a detector once it has seen how names fit contexts, of other latents than those that are to be judged."""

    @abstractmethod
    def calibrated(self, names: Sequence[str], examples: Sequence[LatentExamples]) -> Detector:
        """A detector that has learned from the held-out contexts of some latents; this one stays as it is."""


# ---------------------------------------------------------------------- contexts of a latent
@dataclass(frozen=True)
class LatentExamples:
    """Contexts to name a latent from, and others to hold the name to.

    Attributes
    ----------
    latent : int
    active, inactive : tuple of Context
        To name it from; the active ones in falling order of the code.
    held_active, held_inactive : tuple of Context
        To score the name on.
    kinds : tuple of str
        Of each of `held_inactive`: "random", "similar" (close to the active contexts) or "same token".
    """

    latent: int
    active: tuple[Context, ...]
    inactive: tuple[Context, ...]
    held_active: tuple[Context, ...]
    held_inactive: tuple[Context, ...]
    kinds: tuple[str, ...]


def token_contexts(
    documents: Sequence[ArrayLike], labels: ArrayLike, decode: Callable[[Any], str], *, before: int = 16, after: int = 4
) -> list[Context]:
    """What stands around tokens, as contexts.

    Parameters
    ----------
    documents : sequence of array-like of int
        Token ids that a store was collected from; none longer than the store's context.
    labels : array-like of int, shape (n, 3)
        Token, document and position of each row, as ``store.labels(split)`` gives them.
    decode : callable
        From token ids to text: ``tokenizer.decode``.
    before, after : int, default=16, 4
        Tokens on either side.

    Raises
    ------
    InvalidData
        Documents that are not those of the store.
    """
    require_whole(0, before=before, after=after)
    table, ids = np.asarray(labels), [np.asarray(one, dtype=np.int64) for one in documents]
    if table.ndim != 2 or table.shape[1] != 3:
        raise InvalidData(f"expected labels= of shape (n, 3), got {table.shape}")
    found = []
    for token, document, at in table:
        if document >= len(ids) or at >= len(ids[document]) or ids[document][at] != token:
            raise InvalidData(
                f"expected documents= as in the store, where token {at} of document {document} is {token}; "
                "give the token ids that were collected"
            )
        one = ids[document]
        first, middle = decode(one[max(0, at - before) : at]), decode(one[at : at + 1])
        last = decode(one[at + 1 : at + 1 + after])
        found.append(Context(first + middle + last, len(first), len(first) + len(middle)))
    return found


def latent_examples(
    codes: Any,
    contexts: Sequence[Context],
    held_codes: Any,
    held_contexts: Sequence[Context],
    *,
    latents: Sequence[int] | None = None,
    n: int = 20,
    n_held: int = 20,
    support: int = 20,
    kinds: Sequence[str] = KINDS,
    naming_kinds: Sequence[str] = ("random", "same token"),
    vectors: Callable[[Sequence[str]], Any] | None = None,
    candidates: int = 2000,
    random_state: int = 0,
) -> list[LatentExamples]:
    """Draw contexts over the range of each latent's codes, and others that do not excite it but could be taken to.

    Active contexts are drawn evenly over the ranks of the codes above 0. As many inactive ones are drawn, in equal shares of
    each kind: at random; similar, which are closest to the mean of the active ones; and those whose token is also one
    at which the latent is active. Where a kind has too few, random ones take their place.

    Parameters
    ----------
    codes : sparse or dense array of shape (rows, latents)
        On rows to name from.
    contexts : sequence of Context
        Of those rows.
    held_codes, held_contexts : as `codes`, `contexts`
        On rows of other documents, to score names on.
    latents : sequence of int or None, default=None
        All that are active on enough rows of both where None.
    n, n_held : int, default=20
        Active contexts to name from and to score on, at most; as many inactive ones. A namer that only counts words wants a
        hundred or more to name from.
    support : int, default=20
        Rows of either part on which a latent must be active.
    kinds : sequence of str, default=("random", "similar", "same token")
        Of the inactive contexts to score on.
    naming_kinds : sequence of str, default=("random", "same token")
        Of those to name from.
    vectors : callable or None, default=None
        From texts to rows of numbers, in which similarity is a cosine; counts of words (TF-IDF) where None.
    candidates : int, default=2000
        Rows, drawn once, among which similar ones are looked for.
    random_state : int, default=0

    Returns
    -------
    list of LatentExamples

    Raises
    ------
    InvalidData
        Contexts that do not fit the codes, or a latent asked for that is active on too few rows.
    """
    require_whole(2, n=n, n_held=n_held, support=support, candidates=candidates)
    for name, told in (("kinds", kinds), ("naming_kinds", naming_kinds)):
        if not told or not set(told) <= set(KINDS):
            raise InvalidData(f"expected {name}= of {', '.join(KINDS)}, got {tuple(told)}")
    one = _Pool(codes, contexts, vectors, candidates, random_state)
    held = _Pool(held_codes, held_contexts, vectors, candidates, random_state + 1)
    if one.codes.shape[1] != held.codes.shape[1]:
        raise InvalidData(f"expected codes of the same latents, got {one.codes.shape[1]} and {held.codes.shape[1]}")
    enough = (one.active >= support) & (held.active >= support)
    wanted = np.flatnonzero(enough) if latents is None else np.asarray(latents, dtype=np.int64)
    for latent in wanted:
        if not 0 <= latent < len(enough) or not enough[latent]:
            seen = (one.active[latent], held.active[latent]) if 0 <= latent < len(enough) else (0, 0)
            raise InvalidData(
                f"latent {latent} is active on {seen[0]} rows and {seen[1]} held-out ones, and {support} are needed of each; "
                "leave it out, or give more rows"
            )
    found = []
    for latent in wanted:
        rng = np.random.default_rng([random_state, int(latent)])
        active, inactive, _ = one.draw(latent, n, naming_kinds, rng)
        held_active, held_inactive, of = held.draw(latent, n_held, kinds, rng)
        found.append(LatentExamples(int(latent), active, inactive, held_active, held_inactive, of))
    return found


class _Pool:
    """Rows of codes with their contexts, to draw from."""

    def __init__(
        self, codes: Any, contexts: Sequence[Context], vectors: Callable[[Sequence[str]], Any] | None, candidates: int,
        seed: int,
    ) -> None:  # fmt: skip
        self.codes, self.contexts = sparse.csc_array(codes), contexts
        if self.codes.shape[0] != len(contexts):
            raise InvalidData(f"expected a context for each of {self.codes.shape[0]} rows of codes, got {len(contexts)}")
        if not all(isinstance(one, Context) for one in contexts):
            raise InvalidData("expected contexts as locum.inside.Context(text) or Context(text, start, stop)")
        self.active = np.asarray((self.codes > 0).sum(axis=0)).ravel()
        rng = np.random.default_rng([seed, 11])
        self.candidates = np.sort(rng.permutation(len(contexts))[:candidates])
        self._vectors = vectors
        keys = [one.token.strip().lower() for one in contexts]
        self.key = np.unique(keys, return_inverse=True)[1] if any(keys) else None

    @cached_property
    def _space(self) -> tuple[Callable[[Sequence[str]], Any], Any]:
        """From texts to vectors of length 1, and those of the candidates."""
        texts = [self.contexts[i].text for i in self.candidates]
        if self._vectors is None:
            from sklearn.feature_extraction.text import TfidfVectorizer

            counted = TfidfVectorizer(token_pattern=r"(?u)\S+", sublinear_tf=True).fit(texts)
            return counted.transform, counted.transform(texts)
        given = self._vectors
        return (lambda told: _unit(given(told))), _unit(given(texts))

    def draw(
        self, latent: int, n: int, kinds: Sequence[str], rng: np.random.Generator
    ) -> tuple[tuple[Context, ...], tuple[Context, ...], tuple[str, ...]]:
        column = self.codes[:, [latent]].tocoo()
        rows, values = column.coords[0][column.data > 0], column.data[column.data > 0]
        ranked = rows[np.argsort(-values, kind="stable")]
        n = min(n, len(ranked))
        edges = np.linspace(0, len(ranked), n + 1).astype(int)
        picked = ranked[[int(rng.integers(a, b)) for a, b in pairwise(edges)]]
        free = np.ones(len(self.contexts), dtype=bool)
        free[rows] = False
        if free.sum() < n:
            raise InvalidData(f"latent {latent} is active on all but {int(free.sum())} rows: there is nothing to tell it from")
        chosen: list[int] = []
        told: list[str] = []
        shares = [len(part) for part in np.array_split(np.arange(n), len(kinds))]
        for kind, share in sorted(zip(kinds, shares, strict=True), key=lambda one: one[0] == "random"):
            found = self._inactive(kind, picked, rows, free, share if kind != "random" else n - len(chosen), rng)
            free[found] = False
            chosen += found.tolist()
            told += [kind] * len(found)
        if len(chosen) < n:
            found = self._inactive("random", picked, rows, free, n - len(chosen), rng)
            chosen, told = chosen + found.tolist(), told + ["random"] * len(found)
        return (
            tuple(self.contexts[i] for i in picked),
            tuple(self.contexts[i] for i in chosen),
            tuple(told),
        )

    def _inactive(
        self, kind: str, picked: NDArray[Any], rows: NDArray[Any], free: NDArray[np.bool_], share: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        if kind == "same token":
            there = np.flatnonzero(free & np.isin(self.key, self.key[rows])) if self.key is not None else np.empty(0, int)
            return rng.permutation(there)[:share]
        if kind == "similar":
            embed, table = self._space
            centre = np.asarray(embed([self.contexts[i].text for i in picked]).mean(axis=0)).ravel()
            order = self.candidates[np.argsort(-np.asarray(table @ centre).ravel(), kind="stable")]
            return order[free[order]][:share]
        return rng.permutation(np.flatnonzero(free))[:share]


def _unit(table: Any) -> Any:
    rows = np.asarray(table, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


# ---------------------------------------------------------------------- scores
@dataclass(frozen=True)
class NameScore:
    """How well the name of one latent tells its contexts.

    Attributes
    ----------
    latent : int
    name : str
    balanced_accuracy : Fidelity
        Mean of the shares of active and of inactive held-out contexts that are told rightly.
    recall : float
        Share of active ones.
    left_out : dict of str to float
        Share of inactive ones of each kind that are told rightly.
    """

    latent: int
    name: str
    balanced_accuracy: Fidelity
    recall: float
    left_out: dict[str, float]


@dataclass(frozen=True)
class NameScores:
    """How well names tell the contexts of their latents.

    Attributes
    ----------
    latents : tuple of NameScore
    mean, median : Fidelity
        Balanced accuracy, over latents.
    null : Fidelity
        The mean where each latent is judged by the name of another.
    """

    latents: tuple[NameScore, ...]
    mean: Fidelity
    median: Fidelity
    null: Fidelity

    def best(self, n: int | None = None) -> list[NameScore]:
        """The latents whose names fit best, in falling order of the lower end of the interval.

        Parameters
        ----------
        n : int or None, default=None
            All where None.
        """
        ranked = sorted(self.latents, key=lambda one: (-one.balanced_accuracy.lower, -one.balanced_accuracy.value, one.latent))
        return ranked[:n]


def score_names(
    names: Sequence[str],
    examples: Sequence[LatentExamples],
    detector: Detector | CalibratedDetector,
    *,
    permutations: int = 3,
    level: float = 0.95,
    random_state: int = 0,
) -> NameScores:
    """Balanced accuracy with which a detector that sees only a name tells held-out contexts of its latent.

    A :class:`CalibratedDetector` learns from one half of the latents to judge the other half, and the other way round, so none
    judges a latent that it learned from.

    Parameters
    ----------
    names : sequence of str
    examples : sequence of LatentExamples
        Of the latents that have these names.
    detector : Detector or CalibratedDetector
    permutations : int, default=3
        How often names are given to other latents, for the null; each costs as much as the score itself.
    level : float, default=0.95
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Names that do not fit the examples, fewer than four latents, or a detector that gives something else than a
        probability for each context.
    """
    require_whole(1, permutations=permutations)
    if len(names) != len(examples) or len(names) < 4:
        raise InvalidData(f"expected a name for each of four latents or more, got {len(names)} for {len(examples)}")
    if not all(isinstance(name, str) for name in names):
        raise InvalidData("expected names as texts")
    rng = np.random.default_rng([random_state, 12])
    judges = _judges(names, examples, detector, rng)
    scores = [_scored(name, one, judge, level) for name, one, judge in zip(names, examples, judges, strict=True)]
    values = np.array([one.balanced_accuracy.value for one in scores])
    null = np.zeros(len(names))
    for _ in range(permutations):
        ring = rng.permutation(len(names))
        other = dict(zip(ring.tolist(), np.roll(ring, 1).tolist(), strict=True))
        told = [_scored(names[other[i]], examples[i], judges[i], level) for i in range(len(names))]
        null += np.array([one.balanced_accuracy.value for one in told]) / permutations
    return NameScores(
        tuple(scores),
        _over_latents("mean balanced accuracy", values, level),
        _median(values, level),
        _over_latents("mean balanced accuracy of permuted names", null, level),
    )


def _judges(names: Sequence[str], examples: Sequence[LatentExamples], detector: Any, rng: np.random.Generator) -> list[Any]:
    if not isinstance(detector, CalibratedDetector):
        return [detector] * len(names)
    half = np.zeros(len(names), dtype=bool)
    half[rng.permutation(len(names))[: len(names) // 2]] = True
    fitted = {}
    for side in (False, True):
        of = np.flatnonzero(half != side).tolist()
        fitted[side] = detector.calibrated([names[i] for i in of], [examples[i] for i in of])
    return [fitted[bool(side)] for side in half]


def _scored(name: str, example: LatentExamples, detector: Detector, level: float) -> NameScore:
    contexts = [*example.held_active, *example.held_inactive]
    said = np.asarray(detector(name, contexts), dtype=np.float64)
    if said.shape != (len(contexts),) or not np.isfinite(said).all():
        raise InvalidData(f"expected a probability for each of {len(contexts)} contexts, the detector gave shape {said.shape}")
    truth = np.arange(len(contexts)) < len(example.held_active)
    right = ((said > 0.5) == truth).astype(np.float64)
    weights = np.where(truth, 1.0 / truth.sum(), 1.0 / (~truth).sum())
    ends = bounded_mean(right, 0.0, 1.0, level, weights=weights)
    value = float((right * weights).sum() / 2.0)
    lower, upper = min(ends.lower, value), max(ends.upper, value)
    how = "held-out contexts"
    found = Fidelity("balanced accuracy", value, lower, upper, level, len(contexts), "", how, ends.method)
    kinds = np.array(example.kinds)
    left_out = {kind: float(right[~truth][kinds == kind].mean()) for kind in dict.fromkeys(example.kinds)}
    return NameScore(example.latent, name, found, float(right[truth].mean()), left_out)


def _over_latents(measure: str, values: _FLOATS, level: float) -> Fidelity:
    ends, mean = bounded_mean(values, 0.0, 1.0, level), float(values.mean())
    return Fidelity(measure, mean, ends.lower, ends.upper, level, len(values), "", "latents", ends.method)


def _median(values: _FLOATS, level: float) -> Fidelity:
    """The median between order statistics: how many of n lie below it is binomial with one half."""
    ordered, n = np.sort(values), len(values)
    rank = int(binom.ppf((1.0 - level) / 2.0, n, 0.5))
    if binom.cdf(rank, n, 0.5) > (1.0 - level) / 2.0:
        rank -= 1
    lower, upper = (ordered[rank], ordered[n - 1 - rank]) if rank >= 0 else (0.0, 1.0)
    return Fidelity(
        "median balanced accuracy", float(np.median(ordered)), float(lower), float(upper), level, n, "", "latents",
        "order statistics",
    )  # fmt: skip
