"""Who receives something: sentences whose last word follows from three attributes that are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_one_of, require_whole

__all__ = ["IndirectObject", "IndirectObjectPrompts", "TokenizedPrompts"]

ATTRIBUTES = ("IO", "S", "Pos")
WOMEN = (
    "Mary", "Anna", "Alice", "Kate", "Emma", "Lucy", "Sarah", "Laura", "Grace", "Jane", "Jessica", "Rachel", "Maria", "Julia",
    "Claire", "Rose", "Helen", "Ruth", "Amy", "Emily", "Lisa", "Susan", "Karen", "Nancy", "Linda", "Anne", "Ellen", "Diana",
    "Victoria", "Elizabeth", "Margaret", "Eva", "Sophia", "Hannah", "Rebecca", "Charlotte",
)  # fmt: skip
MEN = (
    "John", "Tom", "James", "Dan", "Sam", "Paul", "Mark", "Jack", "David", "Peter", "Henry", "Adam", "Scott", "Frank",
    "Michael", "Robert", "Daniel", "Thomas", "Martin", "Simon", "Charles", "George", "William", "Richard", "Edward", "Joseph",
    "Andrew", "Kevin", "Brian", "Steve", "Eric", "Matthew", "Joshua", "Ryan", "Alex", "Oliver",
)  # fmt: skip
NAMES = tuple(name for pair in zip(WOMEN, MEN, strict=True) for name in pair)
PLACES = (
    "store", "park", "office", "station", "school", "garden", "hospital", "market", "house", "restaurant", "library", "beach",
    "hotel", "church",
)  # fmt: skip
OBJECTS = (
    "drink", "book", "letter", "key", "ball", "ring", "basket", "phone", "gift", "map", "ticket", "box", "camera", "flower",
)  # fmt: skip
TEMPLATES = (
    "When {A} and {B} went to the {place}, {S} gave a {object} to",
    "After {A} and {B} arrived at the {place}, {S} handed a {object} to",
    "While {A} and {B} were working at the {place}, {S} passed a {object} to",
    "Then {A} and {B} met at the {place}, and {S} showed a {object} to",
    "Once {A} and {B} left the {place}, {S} offered a {object} to",
)


@dataclass(frozen=True)
class TokenizedPrompts:
    """Prompts as token ids, and where their names are.

    Attributes
    ----------
    ids : list of list of int
    positions : dict of str to ndarray of int, shape (n,)
        "IO", "S1" and "S2", the two times that S is named, and "END", the last token.
    right, wrong : ndarray of int, shape (n,)
        Tokens of IO and of S.
    """

    ids: list[list[int]]
    positions: dict[str, NDArray[np.int64]]
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]


@dataclass(frozen=True)
class IndirectObjectPrompts:
    """Sentences that end before the name of the one who receives something, row by row.

    Attributes
    ----------
    labels : dict of str to ndarray of str, shape (n,)
        "IO", who receives and is named once; "S", who gives and is named twice; "Pos", "ABB" where IO is named first and
        "BAB" where S is.
    template, place, object : ndarray of str, shape (n,)
    names : tuple of str
        That the attributes are drawn from.
    """

    labels: dict[str, NDArray[Any]]
    template: NDArray[Any]
    place: NDArray[Any]
    object: NDArray[Any]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.template)

    @property
    def texts(self) -> list[str]:
        """The sentences."""
        told = []
        for i, template in enumerate(self.template):
            to, giver = self.labels["IO"][i], self.labels["S"][i]
            first, second = (to, giver) if self.labels["Pos"][i] == "ABB" else (giver, to)
            told.append(template.format(A=first, B=second, S=giver, place=self.place[i], object=self.object[i]))
        return told

    @property
    def pairs(self) -> NDArray[Any]:
        """The two names of each sentence in alphabetical order: sentences of one pair are no independent evidence."""
        return np.array(["/".join(sorted(pair)) for pair in zip(self.labels["IO"], self.labels["S"], strict=True)])

    def take(self, rows: Any) -> IndirectObjectPrompts:
        """Some of the sentences.

        Parameters
        ----------
        rows : array-like of int or bool
        """
        labels = {name: values[rows] for name, values in self.labels.items()}
        return IndirectObjectPrompts(labels, self.template[rows], self.place[rows], self.object[rows], self.names)

    def differing(self, attribute: str, seed: int = 0) -> IndirectObjectPrompts:
        """The same sentences, each with another value of one attribute.

        Parameters
        ----------
        attribute : {"IO", "S", "Pos"}
        seed : int, default=0
            Of the other names, which are neither of the two there.
        """
        require_one_of(ATTRIBUTES, attribute=attribute)
        if attribute == "Pos":
            return replace(self, labels=self.labels | {"Pos": np.where(self.labels["Pos"] == "ABB", "BAB", "ABB")})
        if len(self.names) < 3:
            raise InvalidData("expected three names or more, so that there is another one")
        rng, drawn = np.random.default_rng([seed, 3, ATTRIBUTES.index(attribute)]), []
        for pair in zip(self.labels["IO"], self.labels["S"], strict=True):
            drawn.append(rng.choice([name for name in self.names if name not in pair]))
        return replace(self, labels=self.labels | {attribute: np.array(drawn)})

    def properties(self) -> dict[str, dict[str, NDArray[np.bool_]]]:
        """What a latent might stand for beside single attributes and their combinations, by family.

        Returns
        -------
        dict of str to dict of str to ndarray of bool, shape (n,)
            "name in sentence", "first name", "second name", "gender of IO" and "gender of S".
        """
        to, giver = self.labels["IO"], self.labels["S"]
        abb = self.labels["Pos"] == "ABB"
        first, second = np.where(abb, to, giver), np.where(abb, giver, to)
        women = {who: np.isin(self.labels[who], WOMEN) for who in ("IO", "S")}
        return {
            "name in sentence": {name: (to == name) | (giver == name) for name in self.names},
            "first name": {name: first == name for name in self.names},
            "second name": {name: second == name for name in self.names},
            **{f"gender of {who}": {"woman": found, "man": ~found} for who, found in women.items()},
        }

    def tokens(self, tokenizer: Any) -> TokenizedPrompts:
        """Token ids, and where the names are.

        Parameters
        ----------
        tokenizer : tokenizer of transformers

        Raises
        ------
        InvalidData
            A name that is not one token, with the space before it, or that is not found where it must be; the prompt and the
            position are named.
        """
        known = {name: tokenizer(f" {name}", add_special_tokens=False)["input_ids"] for name in set(self.names)}
        long = sorted(name for name, found in known.items() if len(found) != 1)
        if long:
            raise InvalidData(f"expected names of one token each, and {', '.join(long)} are not; draw from other names")
        ids, places = [], {name: np.zeros(len(self), dtype=np.int64) for name in ("IO", "S1", "S2", "END")}
        right, wrong = ([known[name][0] for name in self.labels[who]] for who in ("IO", "S"))
        for i, text in enumerate(self.texts):
            row = list(tokenizer(text, add_special_tokens=False)["input_ids"])
            found = {"IO": np.flatnonzero(np.equal(row, right[i])), "S1, S2": np.flatnonzero(np.equal(row, wrong[i]))}
            for name, times in (("IO", 1), ("S1, S2", 2)):
                if len(found[name]) != times:
                    raise InvalidData(f"expected {name} once each in prompt {i}, {text!r}, found it {len(found[name])} times")
            places["IO"][i], (places["S1"][i], places["S2"][i]) = found["IO"][0], found["S1, S2"]
            places["END"][i] = len(row) - 1
            ids.append(row)
        return TokenizedPrompts(ids, places, np.array(right), np.array(wrong))


@dataclass(frozen=True)
class IndirectObject:
    """Sentences such as "When Mary and John went to the store, John gave a drink to", which goes on with " Mary".

    Names of a sentence are drawn without replacement, so IO and S are slightly dependent; Pos is independent of both.

    Parameters
    ----------
    names, places, objects, templates : sequence of str, default=()
        Drawn from, evenly; a template holds {A} and {B}, the names in their order, {S}, {place} and {object}. Where empty,
        seventy-two names, by turns of women and men, fourteen places, fourteen objects or five templates.

    Raises
    ------
    InvalidData
        One name, or a template that lacks a part.

    References
    ----------
    Wang and others, *Interpretability in the Wild*, arXiv 2211.00593, for the task.

    Examples
    --------
    >>> task = IndirectObject(names=("Mary", "John"), templates=TEMPLATES[:1])
    >>> sentence = task.sample(1, seed=2)
    >>> sentence.texts[0]
    'When Mary and John went to the restaurant, Mary gave a camera to'
    >>> str(sentence.labels["Pos"][0]), sentence.differing("Pos").texts[0]
    ('BAB', 'When John and Mary went to the restaurant, Mary gave a camera to')
    """

    names: Sequence[str] = ()
    places: Sequence[str] = ()
    objects: Sequence[str] = ()
    templates: Sequence[str] = ()

    def __post_init__(self) -> None:
        usual = {"names": NAMES, "places": PLACES, "objects": OBJECTS, "templates": TEMPLATES}
        for name, values in usual.items():
            if not len(getattr(self, name)):
                object.__setattr__(self, name, values)
        if len(set(self.names)) < 2:
            raise InvalidData(f"expected two names or more, got {', '.join(self.names)}")
        for template in self.templates:
            parts = [part for part in ("{A}", "{B}", "{S}", "{place}", "{object}") if template.count(part) != 1]
            if parts:
                raise InvalidData(f"expected {', '.join(parts)} once in the template {template!r}")

    def sample(self, n: int, seed: int = 0) -> IndirectObjectPrompts:
        """Sentences drawn at random.

        Parameters
        ----------
        n : int
        seed : int, default=0
        """
        require_whole(1, n=n)
        rng, names = np.random.default_rng([seed, 41]), np.array(self.names)
        to = rng.integers(len(names), size=n)
        giver = (to + rng.integers(1, len(names), size=n)) % len(names)
        labels = {"IO": names[to], "S": names[giver], "Pos": rng.choice(["ABB", "BAB"], size=n)}
        template, place, thing = (rng.choice(np.array(one), size=n) for one in (self.templates, self.places, self.objects))
        return IndirectObjectPrompts(labels, template, place, thing, tuple(self.names))
