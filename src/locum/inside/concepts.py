"""Do directions tell texts with a concept from texts without, and which neurons do directions have in common?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from locum.core.bounds import bounded_mean
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.inside.rows import finite_rows

__all__ = [
    "ConceptDetection",
    "SharedNeurons",
    "areas_under_curve",
    "core_and_exclusive",
    "detect_concepts",
    "log_ratio",
    "shared_neurons",
    "text_scores",
]

_FLOATS = NDArray[np.float64]


def text_scores(X: ArrayLike, directions: ArrayLike, documents: ArrayLike) -> tuple[NDArray[Any], _FLOATS]:
    """The largest cosine of each direction with the activations of each text.

    A maximum grows with the number of tokens: compare texts of like length.

    Parameters
    ----------
    X : array-like of shape (n, width)
        Activations, one row a token.
    directions : array-like of shape (units, width)
    documents : array-like of shape (n,)
        Text of each row.

    Returns
    -------
    texts : ndarray of shape (texts,)
        In order.
    scores : ndarray of shape (texts, units)
    """
    x, d, whose = finite_rows(X), finite_rows(directions), np.asarray(documents)
    if x.shape[1] != d.shape[1]:
        raise InvalidData(f"expected directions {x.shape[1]} wide, as the rows are, got {d.shape[1]}")
    if whose.shape != (len(x),):
        raise InvalidData(f"expected documents= of shape {(len(x),)}, got {whose.shape}")
    x, d = (one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (x, d))
    texts, code = np.unique(whose, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(len(texts)))
    return texts, np.maximum.reduceat(x[order] @ d.T, starts, axis=0).astype(np.float64)


def log_ratio(scores: ArrayLike, has: ArrayLike) -> _FLOATS:
    """Logarithm of the mean score of texts with a concept over that of texts without, for each unit, shape (units,).

    NaN where a mean is not positive, so that no ratio makes sense.

    Parameters
    ----------
    scores : array-like of shape (texts, units)
    has : array-like of bool, shape (texts,)
    """
    table, flags = _both(scores, has)
    one, other = table[flags].mean(axis=0), table[~flags].mean(axis=0)
    good = (one > 0) & (other > 0)
    return np.where(good, np.log(np.where(good, one, 1.0) / np.where(good, other, 1.0)), np.nan)


def areas_under_curve(scores: ArrayLike, has: ArrayLike) -> _FLOATS:
    """Area under the receiver operating characteristic of each unit, shape (units,); ties count half.

    Parameters
    ----------
    scores : array-like of shape (texts, units)
    has : array-like of bool, shape (texts,)
    """
    table, flags = _both(scores, has)
    with_it = int(flags.sum())
    ranks = rankdata(table, axis=0)[flags].sum(axis=0)
    return (ranks - with_it * (with_it + 1) / 2) / (with_it * (len(flags) - with_it))


@dataclass(frozen=True)
class ConceptDetection:
    """How well the unit that was chosen for each concept finds it in other texts.

    Attributes
    ----------
    concepts : tuple
    unit : ndarray of int, shape (concepts,)
        Chosen on the training texts.
    area : ndarray of shape (concepts,)
        Under the receiver operating characteristic, on the test texts, against those of all other concepts.
    log_ratio : ndarray of shape (concepts,)
        On the test texts.
    mean_area : Fidelity
        Over concepts.
    """

    concepts: tuple[Any, ...]
    unit: NDArray[np.int64]
    area: _FLOATS
    log_ratio: _FLOATS
    mean_area: Fidelity


def detect_concepts(
    train: ArrayLike, train_labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike, *, level: float = 0.95
) -> ConceptDetection:
    """Choose a unit for each concept on some texts, and see on others how well it tells the concept from the rest.

    Where several units are as good on the training texts, the one whose scores lie furthest apart is taken.

    Parameters
    ----------
    train : array-like of shape (texts, units)
        As :func:`text_scores` gives them.
    train_labels : array-like of shape (texts,)
        Concept of each text.
    test, test_labels : as `train`, `train_labels`
        Of other texts.
    level : float, default=0.95

    Raises
    ------
    InvalidData
        Fewer than two concepts, or one without test texts.
    """
    one, other = np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64)
    labels, held = np.asarray(train_labels), np.asarray(test_labels)
    concepts = np.unique(labels)
    if len(concepts) < 2 or set(concepts.tolist()) != set(np.unique(held).tolist()):
        raise InvalidData("expected two concepts or more, the same ones in the training and the test texts")
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1]:
        raise InvalidData(f"expected scores of the same units, got shapes {one.shape} and {other.shape}")
    spread = np.maximum(one.std(axis=0), 1e-12)
    unit, area, ratio = [], [], []
    for concept in concepts:
        found = areas_under_curve(one, labels == concept)
        gap = (one[labels == concept].mean(axis=0) - one[labels != concept].mean(axis=0)) / spread
        best = int(np.lexsort((-gap, -found))[0])
        unit.append(best)
        area.append(float(areas_under_curve(other[:, [best]], held == concept)[0]))
        ratio.append(float(log_ratio(other[:, [best]], held == concept)[0]))
    ends = bounded_mean(np.array(area), 0.0, 1.0, level)
    mean = Fidelity(
        "area under the curve", float(np.mean(area)), ends.lower, ends.upper, level, len(area), "", "concepts on test texts",
        ends.method,
    )  # fmt: skip
    return ConceptDetection(tuple(concepts.tolist()), np.array(unit), np.array(area), np.array(ratio), mean)


def shared_neurons(components: ArrayLike) -> NDArray[np.int64]:
    """How many neurons each two components have in common, shape (components, components); the diagonal counts their own.

    Parameters
    ----------
    components : array-like of shape (components, width)
    """
    used = (finite_rows(components) != 0).astype(np.int64)
    return used @ used.T


@dataclass(frozen=True)
class SharedNeurons:
    """Neurons of a group of components.

    Attributes
    ----------
    core : ndarray of int
        In all of them, or in as many as asked for.
    exclusive : tuple of ndarray of int
        In one alone, for each.
    """

    core: NDArray[np.int64]
    exclusive: tuple[NDArray[np.int64], ...]


def core_and_exclusive(components: ArrayLike, members: Sequence[int], *, share: float = 1.0) -> SharedNeurons:
    """Neurons that the components of a group share, and those that each has alone in the group.

    Parameters
    ----------
    components : array-like of shape (components, width)
    members : sequence of int
        Numbers of the components of the group.
    share : float, default=1.0
        Of the members that must have a neuron of the core, all of them unless told otherwise; two in any case.

    Raises
    ------
    InvalidData
        Fewer than two members, or one that there is not.
    """
    table, group = finite_rows(components), [int(one) for one in members]
    if len(set(group)) < 2 or len(set(group)) < len(group) or min(group) < 0 or max(group) >= len(table):
        raise InvalidData(f"expected two or more different members below {len(table)}, got {group}")
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise InvalidData(f"expected share= above 0 and at most 1, got {share!r}")
    used = table[group] != 0
    times, least = used.sum(axis=0), max(2.0, share * len(group) - 1e-9)
    alone = times == 1
    return SharedNeurons(np.flatnonzero(times >= least), tuple(np.flatnonzero(one & alone) for one in used))


def _both(scores: ArrayLike, has: ArrayLike) -> tuple[_FLOATS, NDArray[np.bool_]]:
    table, flags = np.asarray(scores, dtype=np.float64), np.asarray(has, dtype=bool)
    if table.ndim != 2 or flags.shape != (len(table),) or flags.all() or not flags.any():
        raise InvalidData(f"expected scores of texts with the concept and without, got shapes {table.shape} and {flags.shape}")
    return table, flags
