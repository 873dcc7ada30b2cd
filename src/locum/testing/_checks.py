"""A check: one behaviour with a name, what is expected, and what to do where something else comes."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from locum.core.errors import InvalidData, LocumError

__all__ = ["CheckFailed", "Suite", "global_state", "need", "need_equal", "refusal"]

Subject = TypeVar("Subject")


class CheckFailed(LocumError, AssertionError):
    """Something does not behave as its place demands: the message says which check, what was expected, what came, what to do.

    Parameters
    ----------
    message : str
    check : str, default=""
        Name of the check.
    """

    def __init__(self, message: str, *, check: str = "") -> None:
        super().__init__(message)
        self.check = check


class _Unmet(Exception):
    """What came instead of what was expected."""


@dataclass(frozen=True)
class _Check(Generic[Subject]):
    name: str
    expected: str
    advice: str
    when: Callable[[Subject], bool]
    body: Callable[[Subject], None]

    def run(self, subject: Subject, thing: str) -> None:
        cause: Exception | None = None
        try:
            self.body(subject)
            return
        except _Unmet as unmet:
            came = str(unmet)
        except Exception as error:  # a thing under test can raise anything
            came, cause = f"{type(error).__name__}: {error}", error
        raise CheckFailed(
            f"{thing} fails the check {self.name!r}: expected {self.expected}; got {came}. {self.advice}", check=self.name
        ) from cause


class Suite(Generic[Subject]):
    """Checks for one kind of thing, in the order they were written."""

    def __init__(self) -> None:
        self._checks: list[_Check[Subject]] = []

    def check(
        self, name: str, *, expected: str, advice: str, when: Callable[[Subject], bool] = lambda subject: True
    ) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """Add a check; `when` says which subjects it is for."""

        def added(body: Callable[[Subject], None]) -> Callable[[Subject], None]:
            self._checks.append(_Check(name, expected, advice, when, body))
            return body

        return added

    def named(self, subject: Subject, thing: str, skip: Any) -> Iterator[tuple[str, Callable[[], None]]]:
        """The checks that are for `subject`, by name, without those in `skip`; each raises CheckFailed where it fails."""
        known = [check.name for check in self._checks]
        left_out = {skip} if isinstance(skip, str) else set(skip)
        strange = sorted(left_out - set(known))
        if strange:
            near = difflib.get_close_matches(strange[0], known, n=1) or known
            raise InvalidData(f"expected skip= to name checks, got {strange[0]!r}; one of them is {near[0]!r}")
        for check in self._checks:
            if check.name not in left_out and check.when(subject):
                yield check.name, _bound(check, subject, thing)


def _bound(check: _Check[Subject], subject: Subject, thing: str) -> Callable[[], None]:
    return lambda: check.run(subject, thing)


# ---------------------------------------------------------------------- what checks are made of
def need(holds: Any, came: str) -> None:
    """Where something does not hold, say what came instead."""
    if not holds:
        raise _Unmet(came)


def need_equal(one: Any, other: Any, what: str, *, rtol: float = 0.0) -> None:
    """See that two arrays hold the same: to the bit, or numbers to a relative tolerance (of their size as a whole)."""
    one, other = np.asarray(one), np.asarray(other)
    need(one.shape == other.shape, f"{what} of shapes {one.shape} and {other.shape}")
    if rtol and one.dtype.kind == "f":
        size = float(np.abs(other[np.isfinite(other)]).max(initial=0.0))
        same = np.isclose(one, other, rtol=rtol, atol=rtol * size, equal_nan=True)
    else:
        same = (one == other) | ((one != one) & (other != other))
    differ = ~np.asarray(same, dtype=bool).reshape(len(one), -1).all(axis=1)
    if differ.any():
        first = int(np.argmax(differ))
        raise _Unmet(f"{what} that differ in {int(differ.sum())} of {len(one)} rows, first {one[first]!r} and {other[first]!r}")


@contextmanager
def refusal(what: str) -> Iterator[None]:
    """See that a ValueError with words is raised; any other error is itself what came."""
    try:
        yield
    except ValueError as error:
        need(str(error).strip(), f"a {type(error).__name__} without a message for {what}")
        return
    raise _Unmet(f"no error for {what}")


def global_state() -> tuple[Any, ...]:
    """The state of the random generators that everybody shares."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - read, to see that nobody moved it
    return (random.getstate(), name, np.asarray(keys).tobytes(), *rest)
