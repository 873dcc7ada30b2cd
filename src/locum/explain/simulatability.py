"""Simulation tests: does an explanation help a reader to foretell what a model answers?

A reader with a picture of the model in mind stands in for the model; an explanation is worth what it adds to the accuracy of
that stand-in on items it has not seen. Readers are people, at a terminal or in a browser, or machine students that are given
the very text that a person is shown. A machine student is not a person.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from locum.core.domain import Domain
from locum.core.errors import InvalidData, require_one_of, require_whole
from locum.core.target import Target
from locum.explain._simulation_analysis import Reference, Response, SimulationChange, SimulationRun
from locum.explain._simulation_conditions import (
    Anchor,
    Boundary,
    Composite,
    Condition,
    Context,
    Lime,
    Omission,
    Prototype,
    Shown,
    Shuffled,
    np_units,
)
from locum.explain._simulation_prototype import PrototypeClassifier
from locum.explain._simulation_rows import (
    Edits,
    Medium,
    Table,
    called,
    in_ranges,
    medium_of,
    one_line,
    tabular_edits,
    word_edits,
)
from locum.explain._simulation_screens import Case, Screen, facts_in, read
from locum.explain._simulation_students import (
    AdditiveStudent,
    KNNStudent,
    RuleStudent,
    Student,
    TreeStudent,
    WeightsStudent,
)
from locum.explain._simulation_study import Study, analyse

__all__ = [
    "SimulationTest", "Item", "Study", "analyse", "in_ranges", "tabular_edits", "word_edits", "Condition", "Shown",
    "Lime", "Anchor", "Boundary", "Omission", "Prototype", "Composite", "Shuffled", "PrototypeClassifier", "Student",
    "Screen", "AdditiveStudent", "WeightsStudent", "RuleStudent", "KNNStudent", "TreeStudent", "SimulationRun",
    "SimulationChange", "Response", "Reference",
]  # fmt: skip

_QUADRANTS = ("TP", "FP", "TN", "FN")
_KINDS = ("forward", "counterfactual")


@dataclass(frozen=True, eq=False)
class Item:
    """One item of a test.

    Parameters
    ----------
    name : str
        Its pool and position in it.
    unit : any
        The item as it is kept inside.
    shown : str
        As a reader sees it.
    label, answer : str
        What is true, and what the model answers.
    quadrant : {"TP", "FP", "TN", "FN"}
        Whether the model is right, and whether it answers the second class.
    changed : any, default=None
        The changed item of a counterfactual test.
    changed_shown, changed_answer : str, default=""
        As a reader sees it, and what the model answers for it.
    """

    name: str
    unit: Any
    shown: str
    label: str
    answer: str
    quadrant: str
    changed: Any = None
    changed_shown: str = ""
    changed_answer: str = ""

    @property
    def wanted(self) -> str:
        """The answer that a reader is to guess."""
        return self.changed_answer or self.answer

    def screen(self, explanation: str = "") -> Screen:
        """What a reader sees of it."""
        return Screen(self.shown, self.label, self.answer, explanation, self.changed_shown)


@dataclass(frozen=True, eq=False)
class _Pool:
    """Items that could be drawn: those of one content once, with the quadrant of each that all models agree on."""

    name: str
    units: NDArray[Any]
    shown: tuple[str, ...]
    labels: NDArray[np.str_]
    answers: NDArray[np.str_]
    quadrants: NDArray[np.str_]
    agreed: NDArray[np.bool_]

    def counts(self, hidden: Iterable[str] = ()) -> dict[str, int]:
        """How many items of each quadrant can be drawn."""
        without = set(hidden)
        free = self.agreed & np.array([text not in without for text in self.shown])
        return {quadrant: int((free & (self.quadrants == quadrant)).sum()) for quadrant in _QUADRANTS}

    def item(self, i: int) -> Item:
        return Item(
            f"{self.name}-{i}", self.units[i], self.shown[i], str(self.labels[i]), str(self.answers[i]), str(self.quadrants[i])
        )


@dataclass(frozen=True, eq=False)
class SimulationTest:
    r"""A test of whether readers foretell a model's answers better once they have seen explanations.

    Items are balanced by whether the model is right: as many true positives, false positives, true negatives and false
    negatives to learn from and to be asked about, so that knowing what is true is worth nothing. In a forward test a reader
    learns from some items and guesses the answers to others; in a counterfactual one, the answer to a small change of an item
    whose answer is shown. What an explanation is worth is

    .. math:: \Delta = \mathrm{accuracy\ after} - \mathrm{accuracy\ before}

    on the same items, which are never explained themselves. Made by `SimulationTest.build`.

    Parameters
    ----------
    target : Target
    medium : Medium
        How items are read and shown.
    labels : tuple of str
        The two classes; the second is the positive one.
    kind : {"forward", "counterfactual"}
    edits : Edits
    models : tuple of callable
        Models whose answers must be those of the target.
    pools : tuple
        What items are drawn from: to learn from, and to be asked about.
    n_learn, n_test : int
    random_state : int
    learn, test : tuple of Item
    dropped : mapping of str to int
        Items left out since no change of theirs was found that keeps ("same") or changes ("diff") the answer.
    kept : dict, default=empty
        Explanations made before.

    Notes
    -----
    Cost: each item of both pools once; for a counterfactual test, the draws of `perturb` for each item tried; and what the
    explainers ask. All but the explainers' queries are made for use: they fit nothing. Items learned from and asked about
    are told apart by what they look like.

    **Departures**: two classes and, for tables, categories only, as in the paper. The latent distance of the decision boundary
    is the user's (`Boundary`). Machine students are none of the paper's; p-values are not given.

    References
    ----------
    Hase and Bansal, *Evaluating Explainable AI*, ACL 2020, arXiv 2005.01831, sections 3 to 5. Machine students: Chen et al.,
    *Use-Case-Grounded Simulations for Explanation Evaluation*, NeurIPS 2022, arXiv 2206.02256.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = np.array([["low", "high"][int(v)] for v in rng.integers(0, 2, 4800)]).reshape(600, 8).astype(object)
    >>> y = np.where((X == "high")[:, :3].sum(axis=1) >= 2, "yes", "no")
    >>> model = lambda X: np.where((X == "high")[:, :2].any(axis=1), "yes", "no")
    >>> flipped = np.where(rng.random(600) < 0.2, np.where(y == "yes", "no", "yes"), y)
    >>> target = Target(model, name="loan", output="class", classes=["no", "yes"])
    >>> test = SimulationTest.build(target, X[:300], flipped[:300], X[300:], flipped[300:], n_learn=8, n_test=16)
    >>> sorted({item.quadrant for item in test.test})
    ['FN', 'FP', 'TN', 'TP']
    >>> run = test.run({"lime": Lime(k=2, samples=400)}, [AdditiveStudent()], seeds=range(3))
    >>> [one.method for one in run.change(n_boot=200)]
    ['lime']
    """

    target: Target
    medium: Medium
    labels: tuple[str, str]
    kind: str
    edits: Edits
    models: tuple[Callable[[Any], Any], ...]
    pools: tuple[Any, Any]
    n_learn: int
    n_test: int
    random_state: int
    learn: tuple[Item, ...]
    test: tuple[Item, ...]
    dropped: Mapping[str, int]
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    papers = ("simulatability",)

    @classmethod
    def build(
        cls,
        target: Target,
        X_dev: Any,
        y_dev: Any,
        X_test: Any,
        y_test: Any,
        *,
        kind: str = "forward",
        n_learn: int = 16,
        n_test: int = 32,
        perturb: Edits | None = None,
        agree_with: Iterable[Any] = (),
        domain: Domain | None = None,
        random_state: int = 0,
    ) -> SimulationTest:
        """Draw a balanced test.

        Parameters
        ----------
        target : Target
            Of two classes, or their probabilities.
        X_dev : rows of categories, or sequence of sentences
            Items to learn from.
        y_dev : array-like
            What is true of them.
        X_test : rows of categories, or sequence of sentences
            Items to be asked about; one that is learned from is not asked.
        y_test : array-like
        kind : {"forward", "counterfactual"}, default="forward"
        n_learn : int, default=16
            Items to learn from, a multiple of 4.
        n_test : int, default=32
            Items that are asked, a multiple of 4; of 8 in a counterfactual test, where half of the changes change the answer.
        perturb : edits or None, default=None
            `tabular_edits` or `word_edits`; ``tabular_edits(1, 3)`` for a table where None.
        agree_with : iterable of models, default=()
            Only items are drawn that these answer as the target does: callables, or objects with ``predict``.
        domain : Domain or None, default=None
        random_state : int, default=0

        Raises
        ------
        InvalidData
            Settings that cannot be used, labels that are not the target's two classes, or too few items of some quadrant.
        """
        if not isinstance(target, Target):
            raise InvalidData(f"expected a Target, got {type(target).__name__}; make one with locum.target(...)")
        _check(kind, n_learn, n_test, random_state)
        medium = medium_of(X_dev, domain or target.domain)
        if perturb is None:
            if not isinstance(medium, Table):
                raise InvalidData("expected perturb= for sentences: word_edits(neighbours)")
            perturb = tabular_edits(1, 3)
        labels = _classes(y_dev, y_test)
        models = tuple(model if callable(model) else model.predict for model in agree_with)
        pools = (
            _pool("learn", target, medium, X_dev, y_dev, labels, models),
            _pool("test", target, medium, X_test, y_test, labels, models),
        )
        known = None if target.classes is None else tuple(one_line(one) for one in np.asarray(target.classes).tolist())
        strange = sorted(set(pools[0].answers) | set(pools[1].answers) | set(known or ()))
        if not set(strange) <= set(labels):
            raise InvalidData(f"expected the target to answer with the labels {labels[0]!r} and {labels[1]!r}, got {strange}")
        empty = cls(target, medium, labels, kind, perturb, models, pools, n_learn, n_test, random_state, (), (), {})
        return empty.redraw(random_state)

    def redraw(self, random_state: int) -> SimulationTest:
        """Another draw of items from the same pools; only changed items are asked anew.

        Parameters
        ----------
        random_state : int
        """
        dev, pool = self.pools
        rng = np.random.default_rng([random_state, zlib.crc32(self.kind.encode())])
        _enough(dev, self.n_learn // 4, "to learn from", ())
        learn = []
        for quadrant in _QUADRANTS:
            places = np.flatnonzero(dev.agreed & (dev.quadrants == quadrant))
            learn += [dev.item(int(i)) for i in rng.permutation(places)[: self.n_learn // 4]]
        seen = {item.shown for item in learn}
        _enough(pool, self.n_test // 4, "to be asked about", seen)
        dropped = {"same": 0, "diff": 0}
        asked: list[Item] = []
        for quadrant in _QUADRANTS:
            places = rng.permutation(np.flatnonzero(pool.agreed & (pool.quadrants == quadrant)))
            candidates = [pool.item(int(i)) for i in places]
            if self.kind == "forward":
                asked += [item for item in candidates if item.shown not in seen][: self.n_test // 4]
            else:
                asked += self._changed(candidates, seen, dropped, rng)
        order = rng.permutation(len(asked))  # neither the quadrant nor whether the answer changes shows in the order
        shuffled = tuple(learn[i] for i in rng.permutation(len(learn)))
        return replace(self, random_state=random_state, learn=shuffled, test=tuple(asked[i] for i in order), dropped=dropped)

    def _changed(self, candidates: list[Item], seen: set[str], dropped: dict[str, int], rng: np.random.Generator) -> list[Item]:
        """Items of one quadrant with a change each, half of which change the answer."""
        wanted = ["same", "diff"] * (self.n_test // 8)
        out: list[Item] = []
        for item in candidates:
            if len(out) == len(wanted):
                break
            if item.shown in seen:
                continue
            found = self._change(item, wanted[len(out)], seen | {item.shown}, rng)
            if found is None:
                dropped[wanted[len(out)]] += 1
                continue
            seen |= {found.shown, found.changed_shown}
            out.append(found)
        if len(out) < len(wanted):
            raise InvalidData(
                f"expected {len(wanted)} items of {candidates[0].quadrant if candidates else 'a quadrant'} with a change that "
                f"keeps or changes the answer, got {len(out)} of {len(candidates)} (dropped: {dropped['same']} without one "
                f"that keeps it, {dropped['diff']} without one that changes it); allow larger changes, or ask fewer items"
            )
        return out

    def _change(self, item: Item, wanted: str, seen: set[str], rng: np.random.Generator) -> Item | None:
        for attempt in range(self.edits.attempts):
            drawn = self.edits.draw(self.medium, item.unit, rng, attempt)
            free = [i for i, text in enumerate(self.medium.texts(drawn)) if text not in seen]
            if not free:
                continue
            units = drawn[free]
            rows = self.medium.give(units)
            answers = called(self.target, self.target.query(rows, "use"))
            fits = (answers == item.answer) == (wanted == "same")
            for model in self.models:
                fits &= _named(model(rows)) == answers
            places = np.flatnonzero(fits)
            if len(places):
                i = int(rng.choice(places))
                return replace(item, changed=units[i], changed_shown=self.medium.show(units[i]), changed_answer=str(answers[i]))
        return None

    # ------------------------------------------------------------------ what is shown
    @property
    def explained(self) -> tuple[Item, ...]:
        """The items that explanations are of: those learned from, or in a counterfactual test those shown with their answer."""
        return self.learn if self.kind == "forward" else self.test

    @property
    def hidden(self) -> frozenset[str]:
        """Items, as they are shown, that may appear in no explanation: those whose answers are asked."""
        return frozenset(item.changed_shown or item.shown for item in self.test)

    def explanations(self, condition: Condition | Callable[[Any], Sequence[Any]] | None) -> list[Shown]:
        """What a condition shows of the items that are explained.

        Parameters
        ----------
        condition : Condition, callable or None
            A callable takes the items as the target does, and gives one text for each.

        Raises
        ------
        InvalidData
            Not one text for each item, or one that shows an item whose answer is asked.
        """
        items = self.explained
        if condition is None:
            return [Shown("") for _ in items]
        units = np_units([item.unit for item in items])
        if isinstance(condition, Condition):
            dev = self.pools[0]
            context = Context(self.target, self.medium, self.labels, dev.units, self.edits, self.hidden, 0, self.kept)
            found = condition.explain(context, units)
        else:
            found = [one if isinstance(one, Shown) else Shown(str(one)) for one in condition(self.medium.give(units))]
        if len(found) != len(items):
            raise InvalidData(f"expected one explanation for each of {len(items)} items, got {len(found)}")
        self._refuse_leaks(found)
        return found

    def _refuse_leaks(self, found: Sequence[Shown]) -> None:
        asked = {facts_in(text): text for text in self.hidden}
        for item, shown in zip(self.explained, found, strict=True):
            cases = [block.item for block in read(shown.text) if isinstance(block, Case)]
            leaked = [text for text in self.hidden if f"\n{text}\n" in f"\n{shown.text}\n"]
            leaked += [case for case in cases if facts_in(case) in asked]
            if leaked:
                raise InvalidData(
                    f"the explanation of {item.name} shows an item whose answer is asked ({one_line(leaked[0])[:80]}); leave "
                    "out of explanations what test.hidden holds"
                )

    # ------------------------------------------------------------------ machine students
    def run(
        self,
        conditions: Mapping[str, Condition | Callable[[Any], Sequence[Any]] | None],
        students: Sequence[Student],
        seeds: Iterable[int] = range(60),
    ) -> SimulationRun:
        """Let machine students sit the test, each seed with items of its own, before and after each condition.

        Parameters
        ----------
        conditions : mapping of str to Condition, callable or None
            None shows the items again without anything.
        students : sequence of Student
        seeds : iterable of int, default=range(0, 60)
            Each draws items and one student of every kind.

        Returns
        -------
        SimulationRun

        Raises
        ------
        InvalidData
            No conditions, students or seeds; or what `explanations` raises.
        """
        seeds = list(seeds)
        if not (conditions and students and seeds):
            raise InvalidData("expected at least one condition, one student and one seed")
        responses: list[Response] = []
        words: dict[str, list[int]] = {name: [] for name in conditions}
        guesses: dict[str, list[bool]] = {}
        for seed in seeds:
            drawn = self.redraw(seed)
            for name, right in drawn._references().items():
                guesses.setdefault(name, []).extend(right)
            texts = {name: drawn.explanations(condition) for name, condition in conditions.items()}
            for name, shown in texts.items():
                words[name] += [len(one.text.split()) for one in shown]
            for student in students:
                responses += drawn._sat(student, texts, seed)
        references = tuple(Reference(name, float(np.mean(right)), len(right)) for name, right in guesses.items())
        mean = {name: float(np.mean(counts)) for name, counts in words.items()}
        return SimulationRun(tuple(responses), False, self.kind, references, mean)

    def _sat(self, student: Student, texts: Mapping[str, list[Shown]], seed: int) -> list[Response]:
        """One student's guesses before, and after each condition."""
        nothing = [""] * len(self.explained)
        before = self._guesses(student, nothing, seed)
        out = []
        for name, shown in texts.items():
            after = self._guesses(student, [one.text for one in shown], seed)
            ratings = [np.nan if one.rating is None else one.rating for one in shown]
            if self.kind == "forward":  # what was rated was shown before all of the items
                known = [rating for rating in ratings if np.isfinite(rating)]
                ratings = [float(np.mean(known)) if known else np.nan] * len(self.test)
            kind = type(student).__name__
            for item, pre, post, rating in zip(self.test, before, after, ratings, strict=True):
                out.append(Response(name, kind, str(seed), item.name, item.quadrant, float(pre), float(post), rating))
        return out

    def _guesses(self, student: Student, texts: Sequence[str], seed: int) -> list[bool]:
        """Whether a student guesses each item right, having seen these texts."""
        if self.kind == "forward":
            learned = [item.screen(text) for item, text in zip(self.learn, texts, strict=True)]
            # The label and the answer of an item that is asked are on no screen.
            asked = [Screen(item.shown, "", "") for item in self.test]
        else:
            learned = [item.screen() for item in self.learn]
            asked = [item.screen(text) for item, text in zip(self.test, texts, strict=True)]
        answers = student.answer(learned, asked, self.labels, seed)
        return [answer == item.wanted for answer, item in zip(answers, self.test, strict=True)]

    def _references(self) -> dict[str, list[bool]]:
        """Guesses that need no explanation, right or wrong."""
        out = {"floor, the true label": [item.label == item.wanted for item in self.test]}
        answers = self.pools[0].answers
        majority = max(self.labels, key=lambda label: int((answers == label).sum()))
        out["floor, the majority"] = [item.wanted == majority for item in self.test]
        if self.kind == "counterfactual":
            out["floor, the answer before the change"] = [item.answer == item.wanted for item in self.test]
        predict = self.kept.get("every answer")
        if predict is None:
            predict = self.kept["every answer"] = _every_answer(self.pools[0])
        guessed = predict([item.changed_shown or item.shown for item in self.test])
        out["ceiling, a student of every answer to learn from"] = [
            guess == item.wanted for guess, item in zip(guessed, self.test, strict=True)
        ]
        return out

    # ------------------------------------------------------------------ people
    def study(
        self, conditions: Mapping[str, Condition | Callable[[Any], Sequence[Any]] | None], *, title: str = "", consent: str = ""
    ) -> Study:
        """The test with its explanations, for people to take at a terminal or in a browser.

        Parameters
        ----------
        conditions : mapping of str to Condition, callable or None
        title, consent : str, default=""
            What takers are told first, in place of Locum's own words.
        """
        texts = {name: [one.text for one in self.explanations(condition)] for name, condition in conditions.items()}
        return Study.of(self, texts, title=title, consent=consent)


# ---------------------------------------------------------------------- building
def _check(kind: str, n_learn: int, n_test: int, random_state: int) -> None:
    require_one_of(_KINDS, kind=kind)
    require_whole(4, n_learn=n_learn, n_test=n_test)
    require_whole(0, random_state=random_state)
    step = 4 if kind == "forward" else 8
    if n_learn % 4 or n_test % step:
        raise InvalidData(f"expected n_learn= a multiple of 4 and n_test= one of {step}, got {n_learn} and {n_test}")


def _classes(*labels: Any) -> tuple[str, str]:
    found = sorted({one for part in labels for one in _named(part)})
    if len(found) != 2:
        raise InvalidData(f"expected labels of two classes, got {len(found)}: {', '.join(found[:5])}")
    return str(found[0]), str(found[1])


def _named(answers: Any) -> NDArray[np.str_]:
    """Labels as text; bools and numbers as Python writes them."""
    return np.array([one_line(one) for one in np.asarray(answers).ravel().tolist()])


def _pool(
    name: str, target: Target, medium: Medium, X: Any, y: Any, labels: tuple[str, str], models: Sequence[Callable[[Any], Any]]
) -> _Pool:
    units, truth = medium.read(X), _named(y)
    if len(units) != len(truth):
        raise InvalidData(f"expected a label for each of {len(units)} items to {name}, got {len(truth)}")
    texts = medium.texts(units)
    first = list({text: i for i, text in reversed(list(enumerate(texts)))}.values())[::-1]
    units, truth = units[first], truth[first]
    rows = medium.give(units)
    answers = called(target, target.query(rows, "use"))
    agreed = np.ones(len(units), dtype=bool)
    for model in models:
        agreed &= _named(model(rows)) == answers
    positive = answers == labels[1]
    right = answers == truth
    quadrants = np.where(right, np.where(positive, "TP", "TN"), np.where(positive, "FP", "FN"))
    return _Pool(name, units, tuple(texts[i] for i in first), truth, answers, quadrants, agreed)


def _enough(pool: _Pool, wanted: int, what: str, hidden: Iterable[str]) -> None:
    counts = pool.counts(hidden)
    if min(counts.values()) < wanted:
        told = ", ".join(f"{count} {quadrant}" for quadrant, count in counts.items())
        raise InvalidData(
            f"expected at least {wanted} items {what} of each of TP, FP, TN and FN that all models agree on, got {told}; give "
            "more rows, ask for fewer items, or test a model that errs more often"
        )


def _every_answer(pool: _Pool) -> Callable[[Sequence[str]], list[str]]:
    """A logistic regression on the answers to all items to learn from."""
    place = {fact: i for i, fact in enumerate(sorted(set().union(*map(facts_in, pool.shown))))}

    def indicators(texts: Sequence[str]) -> NDArray[np.float64]:
        out = np.zeros((len(texts), len(place)))
        for i, text in enumerate(texts):
            out[i, [place[fact] for fact in facts_in(text) if fact in place]] = 1.0
        return out

    if len(set(pool.answers)) < 2:
        return lambda texts: [str(pool.answers[0])] * len(texts)
    model: Any = LogisticRegression(max_iter=1000).fit(indicators(pool.shown), pool.answers)
    return lambda texts: [str(one) for one in model.predict(indicators(texts))]
