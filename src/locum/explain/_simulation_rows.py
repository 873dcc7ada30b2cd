"""Items of a simulation test: rows of a table or sentences, how they are shown, and how they are changed a little.

Everything a reader sees is text, and what is the same text is the same item: that is how leaks are found.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Column, Domain
from locum.core.errors import InvalidData, require_whole
from locum.core.target import Target

__all__ = [
    "Edits", "Medium", "Sentences", "Table", "called", "evidence", "in_ranges", "medium_of", "one_line", "tabular_edits",
    "word_edits",
]  # fmt: skip

_FLOAT = NDArray[np.float64]
_LIMIT = 10.0  # of an evidence in log odds
_MASKS = 128
_RATE, _RATE_A_WORD, _RATE_MOST, _RATE_MORE = 0.25, 0.005, 0.15, 0.05


def one_line(text: Any) -> str:
    """Text without line breaks: a name of a column or a level cannot start a line of its own."""
    return " ".join(str(text).split()) or "(empty)"


# ---------------------------------------------------------------------- what items are
class Medium(ABC):
    """What items are made of. Inside, n items are an array of length n."""

    @abstractmethod
    def read(self, X: Any) -> NDArray[Any]:
        """Items in the form used inside."""

    @abstractmethod
    def give(self, units: NDArray[Any]) -> Any:
        """Items as the target takes them."""

    @abstractmethod
    def facts(self, unit: Any) -> tuple[str, ...]:
        """What an explanation can refer to, one line each."""

    @abstractmethod
    def show(self, unit: Any) -> str:
        """The item as a reader sees it."""

    @abstractmethod
    def cells(self, unit: Any) -> tuple[str, ...]:
        """The parts that an edit can change, in words."""

    @abstractmethod
    def edits(self, unit: Any, others: NDArray[Any]) -> NDArray[np.intp]:
        """In how many cells other items differ from one, shape (n,)."""

    @abstractmethod
    def exchanged(self, unit: Any, other: Any, positions: Sequence[int]) -> Any:
        """The item with some cells of another."""

    def texts(self, units: NDArray[Any]) -> list[str]:
        """Several items as a reader sees them."""
        return [self.show(unit) for unit in units]


@dataclass(frozen=True)
class Table(Medium):
    """Rows of categories, shown one column a line."""

    domain: Domain

    def __post_init__(self) -> None:
        numeric = [column.name for column in self.domain.columns if column.kind != "categorical"]
        if numeric:
            raise InvalidData(
                f"expected categories only, as a reader of a test is shown, and column {numeric[0]!r} holds numbers; cut them "
                "into named ranges with in_ranges(target, X)"
            )

    def read(self, X: Any) -> _FLOAT:
        Z = self.domain.encode(X)
        if (Z < 0).any():
            i, j = np.argwhere(Z < 0)[0]
            raise InvalidData(f"row {i} has a category in column {self.domain.names[j]!r} that the domain does not know")
        return Z

    def give(self, units: _FLOAT) -> Any:
        return self.domain.decode(units)

    def facts(self, unit: _FLOAT) -> tuple[str, ...]:
        # The last name of each column is that of a missing value.
        return tuple(names[-1 if z != z else int(z)] for names, z in zip(self._names, unit.tolist(), strict=True))

    @cached_property
    def _names(self) -> list[list[str]]:
        """Each level of each column in words."""
        return [
            [f"{one_line(column.name)} = {level}" for level in (*map(one_line, column.levels), "missing")]
            for column in self.domain.columns
        ]

    def show(self, unit: _FLOAT) -> str:
        return "\n".join(self.facts(unit))

    def cells(self, unit: _FLOAT) -> tuple[str, ...]:
        return self.facts(unit)

    def edits(self, unit: _FLOAT, others: _FLOAT) -> NDArray[np.intp]:
        return ((others != unit) & ~(np.isnan(others) & np.isnan(unit))).sum(axis=1)

    def exchanged(self, unit: _FLOAT, other: _FLOAT, positions: Sequence[int]) -> _FLOAT:
        out = unit.copy()
        out[list(positions)] = other[list(positions)]
        return out


@dataclass(frozen=True)
class Sentences(Medium):
    """Sentences, whose words stand between blanks."""

    def read(self, X: Any) -> NDArray[np.object_]:
        out = np.empty(len(X), dtype=object)
        for i, text in enumerate(X):
            if not isinstance(text, str) or not text.split():
                raise InvalidData(f"expected sentences of at least one word, got {text!r} at position {i}")
            out[i] = " ".join(text.split())
        return out

    def give(self, units: NDArray[np.object_]) -> Any:
        return units

    def facts(self, unit: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(word.lower() for word in unit.split()))

    def show(self, unit: str) -> str:
        return unit

    def cells(self, unit: str) -> tuple[str, ...]:
        return tuple(unit.split())

    def edits(self, unit: str, others: NDArray[np.object_]) -> NDArray[np.intp]:
        words = unit.split()
        return np.array([sum(a != b for a, b in zip(words, other.split(), strict=True)) for other in others], dtype=np.intp)

    def exchanged(self, unit: str, other: str, positions: Sequence[int]) -> str:
        words, others = unit.split(), other.split()
        for i in positions:
            words[i] = others[i]
        return " ".join(words)

    def without(self, unit: str, facts: Sequence[str]) -> str:
        """The sentence without every occurrence of some words."""
        left_out = set(facts)
        return " ".join(word for word in unit.split() if word.lower() not in left_out)

    def masks(self, unit: str, target: Target, random_state: int) -> tuple[Target, NDArray[np.object_], Domain]:
        """A target of which words are kept, rows of that kind (the first keeps all), and their domain."""
        words = self.facts(unit)
        columns = tuple(Column(word, "categorical", levels=("kept", "left out")) for word in words)
        drawn = np.random.default_rng(random_state).random((_MASKS, len(words))) < 0.5
        drawn[0] = False

        def answer(rows: NDArray[np.object_]) -> NDArray[Any]:
            texts = np.empty(len(rows), dtype=object)
            for i, row in enumerate(rows):
                texts[i] = self.without(unit, [word for word, state in zip(words, row, strict=True) if state == "left out"])
            return target.query(texts, "fit")

        asked = Target(answer, name=target.name, output=target.output or "auto", classes=target.classes)
        return asked, np.where(drawn, "left out", "kept").astype(object), Domain(columns, "object", ("O",) * len(words))


def medium_of(X: Any, domain: Domain | None) -> Medium:
    """Sentences where X is a sequence of text, a table otherwise."""
    flat = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.ndim == 1)
    if domain is None and flat and len(X) and all(isinstance(text, str) for text in X):
        return Sentences()
    return Table(domain or Domain.of(X))


# ---------------------------------------------------------------------- answers
def called(target: Target, answers: NDArray[Any]) -> NDArray[np.str_]:
    """The class of each answer, as text."""
    if target.output == "value":
        raise InvalidData(f"expected a target that answers with classes or probabilities, and {target.name!r} gives values")
    if answers.ndim == 1:
        return np.array([one_line(one) for one in answers.tolist()])
    names = np.array([one_line(one) for one in np.asarray(target.classes).tolist()])
    return names[answers.argmax(axis=1)]


def evidence(target: Target, answers: NDArray[Any], positive: str) -> _FLOAT:
    """Log odds of a class, cut off at 10, shape (n,); 1 or -1 where answers are classes alone."""
    if answers.ndim == 1:
        return np.where(called(target, answers) == positive, 1.0, -1.0)
    index = [one_line(one) for one in np.asarray(target.classes).tolist()].index(positive)
    p = np.clip(answers[:, index], 1e-12, 1 - 1e-12)
    return np.clip(np.log(p / (1 - p)), -_LIMIT, _LIMIT)


# ---------------------------------------------------------------------- small changes
class Edits(ABC):
    """Small changes to one item."""

    attempts: int

    @abstractmethod
    def draw(self, medium: Any, unit: Any, rng: np.random.Generator, attempt: int) -> NDArray[Any]:
        """Changed copies of an item; later attempts may go further."""


@dataclass(frozen=True)
class _TabularEdits(Edits):
    fewest: int
    most: int
    draws: int
    attempts: int = 1

    def draw(self, medium: Medium, unit: _FLOAT, rng: np.random.Generator, attempt: int) -> _FLOAT:
        if not isinstance(medium, Table):
            raise InvalidData("tabular_edits is for rows of a table; sentences are changed by word_edits(...)")
        levels = np.array([len(column.levels) for column in medium.domain.columns])
        free = np.flatnonzero(levels > 1)
        if len(free) < self.fewest:
            raise InvalidData(f"expected at least {self.fewest} columns with two levels or more to change, got {len(free)}")
        out = np.repeat(unit[None], self.draws, axis=0)
        count = rng.integers(self.fewest, min(self.most, len(free)) + 1, size=self.draws)
        order = rng.random((self.draws, len(free))).argsort(axis=1)
        for place in range(int(count.max())):
            rows = np.flatnonzero(count > place)
            j = free[order[rows, place]]
            old = np.nan_to_num(out[rows, j], nan=0.0)
            # One of the other levels, each as likely as the next.
            out[rows, j] = (old + 1 + np.floor(rng.random(len(rows)) * (levels[j] - 1))) % levels[j]
        return np.unique(out, axis=0)


def tabular_edits(fewest: int = 1, most: int = 3, *, draws: int = 1000) -> Edits:
    """Changes of a few columns, each to any other of its levels.

    Parameters
    ----------
    fewest, most : int, default=1 and 3
        Columns that change.
    draws : int, default=1000
        Changed copies of each item, from which one is picked (the paper: 10,000).
    """
    require_whole(1, fewest=fewest, most=most, draws=draws)
    if most < fewest:
        raise InvalidData(f"expected most= of at least {fewest}, got {most}")
    return _TabularEdits(fewest, most, draws)


@dataclass(frozen=True)
class _WordEdits(Edits):
    neighbours: Mapping[str, tuple[str, ...]] = field(hash=False)
    most: int
    draws: int
    attempts: int = 3

    def draw(self, medium: Medium, unit: str, rng: np.random.Generator, attempt: int) -> NDArray[np.object_]:
        if not isinstance(medium, Sentences):
            raise InvalidData("word_edits is for sentences; rows of a table are changed by tabular_edits(...)")
        words = unit.split()
        free = [i for i, word in enumerate(words) if self.neighbours.get(word.lower())]
        rate = _RATE - min(_RATE_A_WORD * len(words), _RATE_MOST) + _RATE_MORE * attempt
        made = set()
        for _ in range(self.draws if free else 0):
            chosen = [i for i in free if rng.random() < rate] or [free[rng.integers(len(free))]]
            if len(chosen) <= self.most:
                changed = list(words)
                for i in chosen:
                    others = self.neighbours[words[i].lower()]
                    changed[i] = others[rng.integers(len(others))]
                made.add(" ".join(changed))
        out = np.empty(len(made), dtype=object)
        out[:] = sorted(made)
        return out


def word_edits(neighbours: Mapping[str, Sequence[str]], *, most: int = 6, draws: int = 100) -> Edits:
    """Changes of a few words, each to one of its neighbours.

    A word changes with chance .25 - min(.005 L, .15) in a sentence of L words, and .05 more after each attempt in vain.

    Parameters
    ----------
    neighbours : mapping of str to sequence of str
        Words, in lower case, that may take the place of one; a word that it does not hold stays.
    most : int, default=6
        Words that change in one sentence.
    draws : int, default=100
        Changed copies of each sentence and attempt, from which one is picked.
    """
    require_whole(1, most=most, draws=draws)
    kept = {word: tuple(one for one in others if one != word) for word, others in neighbours.items()}
    wrong = [one for others in kept.values() for one in others if not isinstance(one, str) or len(one.split()) != 1]
    if wrong:
        raise InvalidData(f"expected neighbours of one word each, got {wrong[0]!r}")
    return _WordEdits(kept, most, draws)


# ---------------------------------------------------------------------- numbers as ranges
def in_ranges(target: Target, X: Any, *, domain: Domain | None = None, ranges: int = 3) -> tuple[Target, NDArray[np.object_]]:
    """Rows with their numbers cut into named ranges, and the target as it answers the median of each.

    What readers are tested on is then the target on those medians: rows within one range are one item.

    Parameters
    ----------
    target : Target
    X : rows of shape (n, d)
    domain : Domain or None, default=None
        How columns are read; the target's, or that of X, where None.
    ranges : int, default=3
        At most, in each column of numbers, with about as many rows in each.

    Returns
    -------
    target : Target
        Takes rows of categories; what it asks is counted by the target given.
    rows : ndarray of object of shape (n, d)

    Examples
    --------
    >>> import numpy as np
    >>> inner = Target(lambda X: np.where(X[:, 0] > 3, "yes", "no"), name="step", output="class")
    >>> outer, rows = in_ranges(inner, np.arange(9.0)[:, None])
    >>> [str(one) for one in dict.fromkeys(rows[:, 0])]
    ['up to 2', 'above 2 up to 5', 'above 5']
    >>> outer.query(rows[[0, 4, 8]], "use").tolist()
    ['no', 'yes', 'yes']
    """
    require_whole(2, ranges=ranges)
    domain = domain or target.domain or Domain.of(X)
    Z = domain.encode(X)
    rows = np.empty(Z.shape, dtype=object)
    names: Sequence[Any]
    meant: list[dict[Any, float]] = []  # the encoded value of each name, column by column
    for j, column in enumerate(domain.columns):
        if column.kind == "categorical":
            meant.append({level: float(code) for code, level in enumerate(column.levels)})
            names = [None if z != z else column.levels[int(z)] for z in Z[:, j]]
        else:
            names, values = _ranges(Z[:, j], ranges)
            meant.append(values)
        rows[:, j] = names
    own = Domain.of(rows, names=domain.names, categorical=domain.names)

    def answer(asked: Any) -> Any:
        codes = np.array([[meant[j].get(value, np.nan) for j, value in enumerate(row)] for row in asked], dtype=float)
        return target.query(domain.decode(codes), "use")

    name, output = f"{target.name} in ranges", target.output or "auto"
    return Target(answer, name=name, output=output, classes=target.classes, domain=own), rows


def _ranges(values: _FLOAT, most: int) -> tuple[list[str | None], dict[Any, float]]:
    """The name of each value's range, None for a missing one, and the median of each range."""
    there = ~np.isnan(values)
    known = values[there]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, most + 1)[1:-1], method="lower")) if len(known) else known
    edges = edges[edges < known.max()] if len(known) else edges
    ends = [f"{edge:.4g}" for edge in edges]
    if len(set(ends)) < len(ends):
        ends = [repr(float(edge)) for edge in edges]
    middles = [f"above {low} up to {high}" for low, high in pairwise(ends)]
    names = [f"up to {ends[0]}", *middles, f"above {ends[-1]}"] if ends else ["all"]
    place = np.searchsorted(edges, values, side="left")
    of = {name: float(np.median(values[here])) for i, name in enumerate(names) if (here := (place == i) & there).any()}
    return [None if value != value else names[i] for value, i in zip(values.tolist(), place.tolist(), strict=True)], of
