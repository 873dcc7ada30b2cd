"""What a reader may be shown about an item: explanations as text, each made with a target that is asked in the usual way.

A condition is given the items that it explains, and the items that must never appear in what it writes; it is not told which
items are asked, nor what the model answers for them.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.explain._simulation_omission import Conditionals
from locum.explain._simulation_rows import Edits, Medium, Sentences, Table, called, evidence
from locum.explain._simulation_screens import Additive, additive_text, case_text, path_text, read, rule_text, strongest
from locum.explain.anchors import AnchorExplainer
from locum.explain.lime import LimeExplainer

__all__ = ["Anchor", "Boundary", "Composite", "Condition", "Context", "Lime", "Omission", "Prototype", "Shown", "Shuffled"]

_ANY = "No change of this kind was found that changes the answer."


class Shown(NamedTuple):
    """What is shown about one item.

    Parameters
    ----------
    text : str
    rating : float or None, default=None
        What the explainer itself says of how good the explanation is; it stands in for a reader's rating.
    """

    text: str
    rating: float | None = None


@dataclass(frozen=True, eq=False)
class Context:
    """What a condition works with.

    Parameters
    ----------
    target : Target
    medium : Medium
    labels : tuple of str
        The two classes; evidence is for the second.
    background : ndarray
        Items of the learning pool.
    edits : Edits
    hidden : frozenset of str
        Items as shown that may not appear in an explanation.
    random_state : int
    kept : dict
        What was computed before, by condition and item.
    """

    target: Target
    medium: Medium
    labels: tuple[str, str]
    background: NDArray[Any]
    edits: Edits
    hidden: frozenset[str]
    random_state: int
    kept: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def positive(self) -> Any:
        """The second class as the target calls it."""
        found = [one for one in np.asarray(self.target.classes).tolist() if str(one).split() == self.labels[1].split()]
        return found[0] if found else self.labels[1]

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, made once."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def each(self, key: Hashable, units: NDArray[Any], make: Callable[[NDArray[Any]], list[Shown]]) -> list[Shown]:
        """What `make` gives for each item, those that are new in one call."""
        texts = self.medium.texts(units)
        first = {text: i for i, text in enumerate(texts) if (key, text) not in self.kept}
        if first:
            for text, shown in zip(first, make(units[list(first.values())]), strict=True):
                self.kept[key, text] = shown
        return [self.kept[key, text] for text in texts]

    def evidence(self, units: NDArray[Any], purpose: str = "fit") -> NDArray[np.float64]:
        """Evidence for the second class, shape (n,)."""
        return evidence(self.target, self.target.query(self.medium.give(units), purpose), self.labels[1])

    def rng(self, text: str, what: str) -> np.random.Generator:
        """Random numbers for one item, whatever else is explained."""
        return np.random.default_rng([self.random_state, zlib.crc32(text.encode()), zlib.crc32(what.encode())])


class Condition(ABC):
    """One way to explain items to a reader."""

    @abstractmethod
    def explain(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        """What is shown about each of n items."""


# ---------------------------------------------------------------------- by Locum's own explainers
@dataclass(frozen=True)
class Lime(Condition):
    """The strongest weights of a local linear model, its baseline and their sum.

    Parameters
    ----------
    k : int, default=5
        Facts that are shown.
    samples : int, default=5000
        Rows asked, for all rows of a table together or for each sentence.
    """

    k: int = 5
    samples: int = 5000

    def explain(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        """What is shown about each of n items; the rating is the explainer's own R2."""
        return context.each(self, units, lambda new: self._explained(context, new))

    def _explained(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        settings: dict[str, Any] = {"samples": self.samples, "max_terms": self.k, "output": context.positive}
        out = []
        for unit, found in zip(units, _by(LimeExplainer, settings, context, units, self), strict=True):
            facts = context.medium.facts(unit)
            parts = [(facts[part.position[0]], part.value) for part in found.top(self.k)]
            parts.sort(key=lambda one: -one[1])
            text = additive_text(context.labels[1], parts, threshold=0.5, baseline=found.base)
            out.append(Shown(text, None if found.fidelity is None else found.fidelity.value))
        return out


@dataclass(frozen=True)
class Anchor(Condition):
    """A rule under which the model nearly always answers as it does for the item.

    Parameters
    ----------
    threshold : float, default=0.95
        Wanted precision.
    samples : int, default=1000
        Rows asked under each rule that is tried.
    """

    threshold: float = 0.95
    samples: int = 1000

    def explain(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        """What is shown about each of n items; the rating is the precision measured."""
        return context.each(self, units, lambda new: self._explained(context, new))

    def _explained(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        settings = {"threshold": self.threshold, "samples": self.samples}
        answers = called(context.target, context.target.query(context.medium.give(units), "use"))
        out = []
        for unit, found, label in zip(
            units, _by(AnchorExplainer, settings, context, units, self), answers.tolist(), strict=True
        ):
            facts = context.medium.facts(unit)
            text = rule_text(label, [facts[condition.column] for condition in found.conditions])
            out.append(Shown(text, None if found.precision is None else found.precision.value))
        return out


def _by(kind: Any, settings: dict[str, Any], context: Context, units: NDArray[Any], key: Hashable) -> list[Any]:
    """Records of an explainer of tables: of the rows themselves, or of which words of a sentence are kept."""
    if isinstance(context.medium, Sentences):
        out = []
        for unit in units.tolist():
            asked, rows, domain = context.medium.masks(unit, context.target, context.random_state)
            explainer = kind(asked, rows, domain=domain, random_state=context.random_state, **settings)
            out += explainer.explain(rows[:1])
        return out
    assert isinstance(context.medium, Table)
    domain = context.medium.domain
    explainer = context.once(
        (key, "explainer"),
        lambda: kind(
            context.target, domain.decode(context.background), domain=domain, random_state=context.random_state, **settings
        ),
    )
    return explainer.explain(domain.decode(units))


# ---------------------------------------------------------------------- by changes
@dataclass(frozen=True)
class Boundary(Condition):
    """The way to the nearest small change that changes the answer, and where it ends.

    Of changed copies with the other answer, the one with the fewest edits is taken, and among those the nearest one: in a
    latent space where `embed` gives one, by evidence otherwise. On the way the edit comes next that moves the evidence least.

    Parameters
    ----------
    path : bool, default=True
        Whether the single steps are shown, or only where they end.
    embed : callable or None, default=None
        Takes n items as the target takes them, gives an array of shape (n, k).
    """

    path: bool = True
    embed: Callable[[Any], Any] | None = None

    def explain(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        """What is shown about each of n items."""
        return [self._one(context, unit) for unit in units]

    def _one(self, context: Context, unit: Any) -> Shown:
        medium, text = context.medium, context.medium.show(unit)
        near = context.once(("near", self.embed, text), lambda: self._flipped(context, unit))
        allowed = [other for other in near if medium.show(other) not in context.hidden]
        if not allowed:
            return Shown(_ANY)
        end = allowed[0]
        own = context.evidence(np_units([unit, end]))
        label = context.labels[int(own[1] > 0)]
        blocks = [case_text(label, medium.show(end))]
        if self.path:
            blocks.insert(0, path_text(label, self._steps(context, unit, end, float(own[0]), own[1] > 0)))
        return Shown("\n\n".join(blocks))

    def _flipped(self, context: Context, unit: Any) -> list[Any]:
        """Changed copies with the other answer, nearest first."""
        medium, text = context.medium, context.medium.show(unit)
        rng = context.rng(text, "boundary")
        found: list[Any] = []
        for attempt in range(context.edits.attempts):
            drawn = context.edits.draw(medium, unit, rng, attempt)
            if not len(drawn):
                continue
            own, after = context.evidence(np_units([unit])), context.evidence(drawn)
            edits = medium.edits(unit, drawn)
            if self.embed is not None:
                latent = np.asarray(self.embed(medium.give(np.concatenate([np_units([unit]), drawn]))))
                apart = ((latent[1:] - latent[0]) ** 2).sum(axis=1)
            else:
                apart = np.abs(after - own[0]) / (2 * np.abs(after - own[0]).max() + 1e-12)
            flipped = (after > 0) != (own[0] > 0)
            order = np.argsort(edits + apart, kind="stable")
            found = [drawn[i] for i in order if flipped[i]]
            if found:
                break
        return found

    def _steps(self, context: Context, unit: Any, end: Any, start: float, toward: bool) -> list[tuple[str, str, float]]:
        medium, now, at = context.medium, unit, start
        left = _differing(medium, unit, end)
        steps = []
        while left:
            tried = np_units([medium.exchanged(now, end, [j]) for j in left])
            after = context.evidence(tried)
            best = int(np.abs(after - at).argmin())
            j = left.pop(best)
            sign = 1.0 if toward else -1.0
            steps.append((medium.cells(unit)[j], medium.cells(end)[j], sign * float(after[best])))
            now, at = tried[best], float(after[best])
        return steps


@dataclass(frozen=True)
class Omission(Condition):
    """How much evidence goes where a fact is left open.

    A column of a table takes the values that the others let one expect; a word is left out.

    Parameters
    ----------
    k : int, default=5
        Facts that are shown.
    """

    k: int = 5

    def explain(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        """What is shown about each of n items."""
        return context.each(self, units, lambda new: [self._one(context, unit) for unit in new])

    def _one(self, context: Context, unit: Any) -> Shown:
        medium = context.medium
        facts = medium.facts(unit)
        if isinstance(medium, Sentences):
            shorter = [medium.without(unit, [fact]) for fact in facts] if len(facts) > 1 else []
            after = context.evidence(np_units([unit, *shorter]))
            drops = after[0] - after[1:]
        else:
            assert isinstance(medium, Table)
            table = medium
            model = context.once("conditionals", lambda: Conditionals(table.domain, context.background))
            drops = model.drops(unit, context.evidence)
        shown = strongest(facts, drops.tolist(), self.k)
        return Shown(additive_text(context.labels[1], shown, threshold=0.0, kind="lost without each"))


@dataclass(frozen=True, eq=False)
class Prototype(Condition):
    """The training case that a prototype network finds most like the item, its class, and what of the item makes it so.

    Parameters
    ----------
    classifier : PrototypeClassifier
        Fitted.
    k : int, default=5
        Facts that are shown.
    """

    classifier: Any
    k: int = 5

    def explain(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        """What is shown about each of n items; the rating is the similarity."""
        return [
            Shown(one.text(), one.similarity)
            for one in self.classifier.explained(context.medium.give(units), hidden=context.hidden, k=self.k)
        ]


# ---------------------------------------------------------------------- made of others
@dataclass(frozen=True)
class Composite(Condition):
    """Several explanations, one after the other.

    Parameters
    ----------
    parts : tuple of Condition
    """

    parts: tuple[Condition, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))

    def explain(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        """What is shown about each of n items; the rating is the mean of those of the parts."""
        found = [part.explain(context, units) for part in self.parts]
        out = []
        for pieces in zip(*found, strict=True):
            ratings = [piece.rating for piece in pieces if piece.rating is not None]
            out.append(Shown("\n\n".join(piece.text for piece in pieces), float(np.mean(ratings)) if ratings else None))
        return out


@dataclass(frozen=True)
class Shuffled(Condition):
    """A control: the weights of another condition, dealt to facts of the item at random.

    Parameters
    ----------
    of : Condition
        One that shows weights, such as `Lime`.
    """

    of: Condition

    def explain(self, context: Context, units: NDArray[Any]) -> list[Shown]:
        """What is shown about each of n items."""
        out = []
        for unit, shown in zip(units, self.of.explain(context, units), strict=True):
            rng = context.rng(context.medium.show(unit), "shuffled")
            facts = context.medium.facts(unit)
            blocks = [block for block in read(shown.text) if isinstance(block, Additive)]
            if not blocks:
                raise InvalidData(f"expected a condition that shows weights to shuffle, and {self.of} shows none")
            texts = []
            for block in blocks:
                chosen = rng.permutation(len(facts))[: len(block.weights)]
                weights = list(zip([facts[i] for i in chosen], block.weights.values(), strict=True))
                texts.append(
                    additive_text(
                        block.label, weights, threshold=block.threshold, baseline=block.baseline or None, kind=block.kind
                    )
                )
            out.append(Shown("\n\n".join(texts), shown.rating))
        return out


# ---------------------------------------------------------------------- small parts
def np_units(units: Sequence[Any]) -> NDArray[Any]:
    """Items as one array."""
    if units and isinstance(units[0], str):
        out = np.empty(len(units), dtype=object)
        out[:] = units
        return out
    return np.stack(units)


def _differing(medium: Medium, unit: Any, other: Any) -> list[int]:
    return [j for j, (a, b) in enumerate(zip(medium.cells(unit), medium.cells(other), strict=True)) if a != b]
