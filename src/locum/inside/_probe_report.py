"""How often a concept is read from states, by a probe and by what it must beat, with intervals over answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.bounds import bounded_mean
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.inside.codebook import Codebook, Document, parts_of

__all__ = ["ProbeReport", "RankTable", "answer_of", "rank_table", "report_on"]

_HOW = "prompts that did not fit"
_ANY = "answer @1 by the query that suits the answer (upper bound)"


@dataclass(frozen=True)
class ProbeReport:
    """What is read from states by a probe, its controls and its rivals.

    Attributes
    ----------
    methods : dict of str to dict of str to Fidelity
        By method: "answer @1", "answer @5", and of probes "context @1" (words of the prompt's other pairs, each asked for with
        the other), "cosine" and "bit accuracy". Of the probe itself also the share with the best of all queries, which uses
        the answer and is an upper bound.
    ranks : dict of str to ndarray of int, shape (n,)
        Of the answer among concepts that are not in the prompt, by method.
    relations : tuple of str
        Of the documents; empty where not given.
    excluded : int
        Documents left out, since a concept of theirs did not fit.
    """

    methods: dict[str, dict[str, Fidelity]]
    ranks: dict[str, NDArray[np.int64]]
    relations: tuple[str, ...]
    excluded: int

    def by_relation(self, method: str = "probe", top: int = 1) -> dict[str, float]:
        """Share of documents of each relation whose answer is among the first `top`.

        Parameters
        ----------
        method : str, default="probe"
        top : int, default=1
        """
        if method not in self.ranks:
            raise InvalidData(f"there is no method {method!r}; there is {', '.join(self.ranks)}")
        names = np.asarray(self.relations)
        return {one: float((self.ranks[method][names == one] <= top).mean()) for one in sorted(set(self.relations))}

    def __str__(self) -> str:
        lines = [f"{name}: {fidelity}" for name, told in self.methods.items() for fidelity in told.values()]
        return "\n".join(lines + ([f"{self.excluded} documents left out"] if self.excluded else []))


@dataclass(frozen=True)
class RankTable:
    """Of each document: rank of the answer, share of context words at rank 1, cosine and agreement of signs with its vector."""

    answer: NDArray[np.int64]
    context: NDArray[np.float64] | None
    cosine: NDArray[np.float64]
    bits: NDArray[np.float64]
    best: NDArray[np.int64] | None


def answer_of(document: Document) -> tuple[str, str]:
    """The last term of a document: what is asked with, and the answer.

    Raises
    ------
    InvalidData
        It is not a pair.
    """
    last = parts_of(document[-1])
    if len(last) != 2:
        raise InvalidData(f"expected the last term of each document to be a pair of key and answer, got {document[-1]!r}")
    return last[0], last[1]


def rank_table(
    codebook: Codebook, vectors: NDArray[np.int8], documents: Sequence[Document], ties: str, *, oracle: bool
) -> RankTable:
    """What is read from the vectors of documents by the fixed queries."""
    asked = [answer_of(one) for one in documents]
    prompts = [_prompt(codebook, one) for one in documents]
    answers = np.array([codebook.index(value) for _, value in asked])
    found = codebook.cosines(codebook.unbind(vectors, [(key,) for key, _ in asked]))
    ranks = _ranks(found, answers, prompts)
    targets = codebook.compose(documents, ties=ties).astype(np.float64)
    counted = targets != 0
    bits = ((vectors == targets) & counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    lengths = np.linalg.norm(targets, axis=1) * np.linalg.norm(vectors.astype(np.float64), axis=1)
    cosine = np.clip((vectors * targets).sum(axis=1) / np.maximum(lengths, 1e-12), -1.0, 1.0)
    best = _best_query(codebook, vectors, documents, answers, prompts) if oracle else None
    return RankTable(ranks, _context(codebook, vectors, documents), cosine, bits, best)


def _prompt(codebook: Codebook, document: Document) -> list[int]:
    names = [one for term in document for one in parts_of(term)][:-1]
    return [codebook.index(one) for one in names]


def _ranks(scores: NDArray[Any], wanted: NDArray[np.int64], prompts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Ranks from 1; what ties with the wanted one counts as before it, so that a constant reads nothing."""
    own = scores[np.arange(len(wanted)), wanted]
    if np.isnan(own).any():
        raise InvalidData("expected scores that are numbers, got NaN")
    table = scores.copy()
    for row, indices in zip(table, prompts, strict=True):
        row[list(indices)] = -np.inf
    return np.asarray((table >= own[:, None]).sum(axis=1) + _in_prompt(wanted, prompts), dtype=np.int64)


def _in_prompt(wanted: NDArray[np.int64], prompts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """1 where the wanted concept itself stands in the prompt and was left out of the count."""
    return np.array([one in indices for one, indices in zip(wanted, prompts, strict=True)], dtype=np.int64)


def _context(codebook: Codebook, vectors: NDArray[np.int8], documents: Sequence[Document]) -> NDArray[np.float64] | None:
    """Share of the words of other pairs that are nearest when the other word of their pair is unbound."""
    queries = [
        (i, known, wanted)
        for i, one in enumerate(documents)
        for term in one[:-1]
        if len(parts_of(term)) == 2
        for known, wanted in (parts_of(term), parts_of(term)[::-1])
    ]
    if not queries:
        return None
    rows = np.array([i for i, _, _ in queries])
    found = codebook.cosines(codebook.unbind(vectors[rows], [(known,) for _, known, _ in queries]))
    right = _ranks(found, np.array([codebook.index(one) for _, _, one in queries]), [[]] * len(queries)) == 1
    counts = np.bincount(rows, minlength=len(documents))
    shares = np.bincount(rows, weights=right, minlength=len(documents)) / np.maximum(counts, 1)
    return np.asarray(shares) if counts.all() else None


def _best_query(
    codebook: Codebook,
    vectors: NDArray[np.int8],
    documents: Sequence[Document],
    answers: NDArray[np.int64],
    prompts: Sequence[Sequence[int]],
) -> NDArray[np.int64]:
    """The least rank of the answer over all sets of prompt words to unbind."""
    names = [[codebook.concepts[i] for i in one] for one in prompts]
    best = np.full(len(documents), len(codebook) + 1)
    for size in range(1, max(map(len, names)) + 1):
        for places in combinations(range(max(map(len, names))), size):
            known = [[one[place] for place in places if place < len(one)] for one in names]
            found = codebook.cosines(codebook.unbind(vectors, known))
            best = np.minimum(best, _ranks(found, answers, prompts))
    return best


# ---------------------------------------------------------------------- the report
def report_on(
    codebook: Codebook,
    tables: Mapping[str, RankTable],
    scores: Mapping[str, NDArray[Any]],
    documents: Sequence[Document],
    relations: Sequence[str] | None,
    excluded: int,
    level: float,
) -> ProbeReport:
    """A report of rank tables, and of other means' scores of all concepts."""
    asked = [answer_of(one) for one in documents]
    answers, prompts = np.array([codebook.index(value) for _, value in asked]), [_prompt(codebook, one) for one in documents]
    ranks = {name: one.answer for name, one in tables.items()}
    for name, table in scores.items():
        if table.shape != (len(documents), len(codebook)):
            raise InvalidData(
                f"expected scores of {name!r} of shape {(len(documents), len(codebook))}, documents by concepts, got "
                f"{table.shape}"
            )
        ranks[name] = _ranks(table.astype(np.float64), answers, prompts)
    measured = _Measured(asked, relations, level)
    methods = {name: {f"answer @{k}": measured(f"answer @{k}", one <= k) for k in (1, 5)} for name, one in ranks.items()}
    for name, one in tables.items():
        if one.context is not None:
            methods[name]["context @1"] = measured("context @1", one.context)
        methods[name]["cosine"] = measured("cosine", one.cosine, low=-1.0)
        methods[name]["bit accuracy"] = measured("bit accuracy", one.bits)
        if one.best is not None:
            methods[name][_ANY] = measured(_ANY, one.best == 1)
    return ProbeReport(methods, ranks, tuple(relations or ()), excluded)


class _Measured:
    """Means with intervals over answers' pairs; each relation counts alike."""

    def __init__(self, asked: Sequence[tuple[str, str]], relations: Sequence[str] | None, level: float) -> None:
        pairs = {pair: i for i, pair in enumerate(dict.fromkeys(asked))}
        self.groups = np.array([pairs[pair] for pair in asked])
        self.weights, self.level = np.ones(len(asked)), level
        if relations is not None:
            _, code, counts = np.unique(np.asarray(relations), return_inverse=True, return_counts=True)
            self.weights = 1.0 / counts[code]
        self.region = "" if relations is None else f"{len(set(relations))} relations"
        if len(pairs) < 2:
            raise InvalidData("expected documents with two answers or more to measure on, got one; take more documents")

    def __call__(self, name: str, values: ArrayLike, low: float = 0.0) -> Fidelity:
        x = np.asarray(values, dtype=np.float64)
        value = float(np.average(x, weights=self.weights))
        ends = bounded_mean(x, low, 1.0, self.level, weights=self.weights, groups=self.groups).including(value)
        n, groups = len(x), int(self.groups.max()) + 1
        return Fidelity(name, value, ends.lower, ends.upper, self.level, n, self.region, _HOW, ends.method, groups=groups)
