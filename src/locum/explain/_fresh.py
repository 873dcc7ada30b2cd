"""Which arrays had a say in a fit, told by their content, so that they are not used to judge it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import xxhash
from numpy.typing import NDArray

from locum.core.errors import NotFresh

__all__ = ["among", "contents", "require_fresh"]


def contents(arrays: Iterable[NDArray[Any]]) -> frozenset[int]:
    """One number for the content of each array."""
    return frozenset(map(_content, arrays))


def among(arrays: Iterable[NDArray[Any]], known: frozenset[int]) -> int:
    """How many arrays are among those known."""
    return sum(_content(one) in known for one in arrays)


def require_fresh(arrays: NDArray[Any], known: frozenset[int], why: str) -> None:
    """Refuse arrays that had a say in what they are to measure.

    Raises
    ------
    NotFresh
        Says how many, and `why`: what they are and did.
    """
    seen = among(arrays, known)
    if seen:
        raise NotFresh(f"{seen} of {len(arrays)} {why}; measure on others")


def _content(array: NDArray[Any]) -> int:
    return xxhash.xxh3_64_intdigest(array.tobytes())
