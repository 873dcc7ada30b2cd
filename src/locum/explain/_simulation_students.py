"""Machine students: what guesses a model's answers from the screens that a reader is shown, and from nothing else.

A machine student is not a person. Each has one fixed way to read each kind of explanation, set before any was measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from locum.core.errors import InvalidData
from locum.explain._simulation_screens import Additive, Case, Rule, Screen, facts_in, read

__all__ = ["AdditiveStudent", "KNNStudent", "RuleStudent", "Student", "TreeStudent", "WeightsStudent"]

_FLOAT = NDArray[np.float64]
_SHRINK = 0.5


class Student(ABC):
    """Learns from screens, then guesses the answers to others."""

    @abstractmethod
    def answer(
        self, learned: Sequence[Screen], asked: Sequence[Screen], labels: tuple[str, str], random_state: int
    ) -> list[str]:
        """A guess for each screen that is asked.

        Parameters
        ----------
        learned : sequence of Screen
        asked : sequence of Screen
            Their `answer` is shown where they have a changed item, and is not to be used where they have none.
        labels : tuple of str
            The two answers there are.
        random_state : int
        """


@dataclass(frozen=True)
class AdditiveStudent(Student):
    """Adds up: a logistic regression on the answers shown, and the weights that explanations give to facts.

    The weight of a fact is the sum of those that were shown for it, divided by their number and a half; the baseline the mean
    of those shown. Weights of each kind and the regression vote as multiples of their own spread over the items shown. For a
    changed item whose own explanation is shown, its total loses the weights of the facts that went, and gains those that came.
    """

    def answer(
        self, learned: Sequence[Screen], asked: Sequence[Screen], labels: tuple[str, str], random_state: int
    ) -> list[str]:
        """A guess for each screen; see `Student.answer`."""
        notes = _Notes(learned, asked, labels)
        score = sum((_summed(notes, kind, asked) for kind in notes.kinds), _regressed(notes))
        return [labels[int(one > 0)] for one in score]


@dataclass(frozen=True)
class WeightsStudent(Student):
    """Adds up weights as `AdditiveStudent` does, and forgets the answers shown as soon as there are any.

    It believes what it is shown, so it is what false weights harm most.
    """

    def answer(
        self, learned: Sequence[Screen], asked: Sequence[Screen], labels: tuple[str, str], random_state: int
    ) -> list[str]:
        """A guess for each screen; see `Student.answer`."""
        notes = _Notes(learned, asked, labels)
        votes = [_summed(notes, kind, asked) for kind in notes.kinds] or [_regressed(notes)]
        return [labels[int(one > 0)] for one in np.sum(votes, axis=0)]


@dataclass(frozen=True)
class RuleStudent(Student):
    """Follows rules: the answer that most of the rules shown give to an item, or else a logistic regression's."""

    def answer(
        self, learned: Sequence[Screen], asked: Sequence[Screen], labels: tuple[str, str], random_state: int
    ) -> list[str]:
        """A guess for each screen; see `Student.answer`."""
        notes = _Notes(learned, asked, labels)
        rules = [block for blocks in notes.blocks for block in blocks if isinstance(block, Rule)]
        fallback = _regressed(notes)
        out = []
        for facts, other in zip(notes.asked, fallback, strict=True):
            votes = sum(notes.sign(rule.label) for rule in rules if rule.facts <= facts)
            out.append(labels[int((votes or other) > 0)])
        return out


@dataclass(frozen=True)
class KNNStudent(Student):
    """Goes by cases: the answer of most of the items shown that share the most facts, cases in explanations among them.

    Parameters
    ----------
    k : int, default=3
    """

    k: int = 3

    def answer(
        self, learned: Sequence[Screen], asked: Sequence[Screen], labels: tuple[str, str], random_state: int
    ) -> list[str]:
        """A guess for each screen; see `Student.answer`."""
        notes = _Notes(learned, asked, labels)
        items, signs = notes.with_cases()
        order = np.random.default_rng(random_state).permutation(len(items))  # which of equally near ones comes first
        out = []
        for facts in notes.asked:
            near = [len(facts & items[i]) / len(facts | items[i]) for i in order]
            first = order[np.argsort(-np.array(near), kind="stable")[: self.k]]
            votes = sum(signs[i] for i in first)
            out.append(labels[int((votes or signs[first[0]]) > 0)])
        return out


@dataclass(frozen=True)
class TreeStudent(Student):
    """Splits: a shallow decision tree on the answers shown, cases in explanations among them.

    Parameters
    ----------
    max_depth : int, default=3
    """

    max_depth: int = 3

    def answer(
        self, learned: Sequence[Screen], asked: Sequence[Screen], labels: tuple[str, str], random_state: int
    ) -> list[str]:
        """A guess for each screen; see `Student.answer`."""
        notes = _Notes(learned, asked, labels)
        items, signs = notes.with_cases()
        tree = DecisionTreeClassifier(max_depth=self.max_depth, random_state=random_state)
        tree.fit(notes.indicators(items), signs)
        return [labels[int(one > 0)] for one in tree.predict(notes.indicators(notes.asked))]


# ---------------------------------------------------------------------- what was read
class _Notes:
    """Everything on the screens, taken apart."""

    def __init__(self, learned: Sequence[Screen], asked: Sequence[Screen], labels: tuple[str, str]) -> None:
        shown = [*learned, *(screen for screen in asked if screen.changed)]
        self.labels = labels
        self.shown = [facts_in(screen.item) for screen in shown]
        self.signs = [self.sign(screen.answer) for screen in shown]
        self.blocks = [read(screen.explanation) for screen in shown]
        self.before = [facts_in(screen.item) for screen in asked]
        self.asked = [facts_in(screen.changed or screen.item) for screen in asked]
        self._place = {fact: i for i, fact in enumerate(sorted(set().union(*self.shown, *self.asked)))}

    def sign(self, label: str) -> int:
        """1 for the second of the two labels, -1 for the first."""
        if label not in self.labels:
            raise InvalidData(f"an explanation speaks of the answer {label!r}; expected one of {', '.join(self.labels)}")
        return 1 if label == self.labels[1] else -1

    @property
    def kinds(self) -> list[str]:
        """Kinds of weights that were shown."""
        return sorted({block.kind for blocks in self.blocks for block in blocks if isinstance(block, Additive)})

    def indicators(self, items: Sequence[frozenset[str]]) -> _FLOAT:
        """Which facts items have, shape (n, facts); facts that no item shown or asked has are left out."""
        out = np.zeros((len(items), len(self._place)))
        for i, facts in enumerate(items):
            out[i, [self._place[fact] for fact in facts if fact in self._place]] = 1.0
        return out

    def with_cases(self) -> tuple[list[frozenset[str]], list[int]]:
        """Items shown and the cases in their explanations, with the signs of their answers."""
        cases = [block for blocks in self.blocks for block in blocks if isinstance(block, Case)]
        items = [*self.shown, *(facts_in(case.item) for case in cases)]
        return items, [*self.signs, *(self.sign(case.label) for case in cases)]


def _regressed(notes: _Notes) -> _FLOAT:
    """The vote of a logistic regression on the answers shown, shape (m,)."""
    if len(set(notes.signs)) < 2:
        return np.full(len(notes.asked), float(notes.signs[0]))
    model: Any = LogisticRegression().fit(notes.indicators(notes.shown), notes.signs)
    spread = float(model.decision_function(notes.indicators(notes.shown)).std())
    return model.decision_function(notes.indicators(notes.asked)) / (spread or 1.0)


def _summed(notes: _Notes, kind: str, asked: Sequence[Screen]) -> _FLOAT:
    """The vote of the weights of one kind, shape (m,)."""
    seen: dict[str, list[float]] = defaultdict(list)
    totals, baselines = list[float](), list[float]()
    own: dict[frozenset[str], tuple[dict[str, float], float]] = {}
    for facts, blocks in zip(notes.shown, notes.blocks, strict=True):
        for block in blocks:
            if isinstance(block, Additive) and block.kind == kind:
                sign = notes.sign(block.label)
                baselines.append(sign * (block.baseline - block.threshold))
                mine = {fact: sign * weight for fact, weight in block.weights.items()}
                for fact, weight in mine.items():
                    seen[fact].append(weight)
                totals.append(baselines[-1] + sum(mine.values()))
                own[facts] = (mine, totals[-1])
    pooled = {fact: sum(weights) / (len(weights) + _SHRINK) for fact, weights in seen.items()}
    spread, base = float(np.std(totals)) or 1.0, float(np.mean(baselines))
    out = []
    for screen, before, facts in zip(asked, notes.before, notes.asked, strict=True):
        if screen.changed and before in own:
            mine, total = own[before]
            total -= sum(mine.get(fact, pooled.get(fact, 0.0)) for fact in sorted(before - facts))
            total += sum(pooled.get(fact, 0.0) for fact in sorted(facts - before))
        else:
            total = base + sum(pooled.get(fact, 0.0) for fact in sorted(facts))
        out.append(total / spread)
    return np.array(out)
