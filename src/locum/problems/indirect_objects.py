"""Who was given something? Two names, one of which comes again; the other is the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole
from locum.problems.equalities import Algorithm

__all__ = ["IndirectObjects"]

NAMES = (
    "Mary", "John", "James", "Robert", "Michael", "William", "David", "Richard", "Joseph", "Thomas", "Charles", "Daniel",
    "Matthew", "Mark", "Paul", "Andrew", "George", "Kevin", "Brian", "Edward", "Jason", "Jeff", "Ryan", "Jacob", "Gary",
    "Eric", "Jonathan", "Stephen", "Larry", "Scott", "Frank", "Henry", "Peter", "Jack", "Dennis", "Adam", "Patricia",
    "Jennifer", "Linda", "Elizabeth", "Barbara", "Susan", "Jessica", "Sarah", "Karen", "Lisa", "Nancy", "Betty", "Sandra",
    "Margaret", "Ashley", "Kimberly", "Emily", "Donna", "Michelle", "Carol", "Amanda", "Melissa", "Laura", "Rebecca", "Amy",
    "Anna", "Emma", "Helen", "Alice", "Rachel", "Ruth", "Maria", "Diana", "Julia", "Grace", "Jane", "Kate", "Simon", "Tom",
    "Sam",
)  # fmt: skip
_PLACES = ("store", "park", "school", "office", "hospital", "restaurant", "station", "garden", "house", "library")
_OBJECTS = ("book", "ring", "drink", "kiss", "bone", "computer", "necklace", "ball", "letter", "flower", "bag", "map")
_PARTS = ("Then,", " and", " went to the", ".", " gave a", " to")


@dataclass(frozen=True)
class IndirectObjects:
    """Prompts such as "Then, Mary and John went to the store. John gave a drink to", in tokens, all of one length.

    Which of the two comes again is even; what decides is a single value in between: whether it is the first or the second.

    Parameters
    ----------
    encode : callable
        Token ids of a text without special tokens, such as ``lambda text: tokenizer.encode(text, add_special_tokens=False)``.
    names : sequence of str, default=()
        Those that may occur; a list of 76 where empty. Those of more than one token are left out.

    Raises
    ------
    InvalidData
        Fewer than two names of one token.

    References
    ----------
    Wang and others, arXiv 2211.00593; Sutter and others, arXiv 2507.08802, section 5.
    """

    encode: Callable[[str], Sequence[int]]
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(self.usable) < 2:
            raise InvalidData(f"expected at least two names of one token each, got {len(self.usable)} of {len(self.names)}")

    @property
    def usable(self) -> tuple[str, ...]:
        """Names of one token after a space."""
        return tuple(name for name in self.names or NAMES if len(self.encode(f" {name}")) == 1)

    @property
    def choices(self) -> tuple[int, int]:
        """Positions of the two names, the candidates for the answer."""
        first = len(self.encode(_PARTS[0]))
        return first, first + 1 + len(self.encode(_PARTS[1]))

    @property
    def algorithm(self) -> Algorithm:
        """The answer is the name that does not come again: 0 for the first, 1 for the second."""
        first, second = self.choices

        def repeated(x: NDArray[Any]) -> NDArray[Any]:
            """Whether the first of the two comes again."""
            return (x[:, second + 1 :] == x[:, first, None]).any(axis=1)

        return Algorithm({"repeated": repeated}, lambda repeated: repeated)

    def sample(self, n: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids of shape (n, tokens), and the answer's place among the choices, shape (n,).

        Parameters
        ----------
        n : int
        seed : int, default=0
        """
        require_whole(1, n=n)
        rng = np.random.default_rng([seed, 53])
        names = [self.encode(f" {name}") for name in self.usable]
        places, things = self._single(_PLACES), self._single(_OBJECTS)
        start, joint, went, end, gave, last = (self.encode(part) for part in _PARTS)
        rows, answers = [], rng.integers(2, size=n)
        for answer in answers:
            pair = rng.choice(len(names), size=2, replace=False)
            who, place, thing = pair[1 - answer], places[rng.integers(len(places))], things[rng.integers(len(things))]
            first, second = (names[i] for i in pair)
            rows.append([*start, *first, *joint, *second, *went, *place, *end, *names[who], *gave, *thing, *last])
        return np.array(rows, dtype=np.int64), answers

    def _single(self, words: Sequence[str]) -> list[Sequence[int]]:
        found = [ids for ids in (self.encode(f" {word}") for word in words) if len(ids) == 1]
        if not found:
            raise InvalidData(f"expected at least one of {', '.join(words)} to be one token, got none")
        return found
