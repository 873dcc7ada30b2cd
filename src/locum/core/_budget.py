"""Budgets, prices, and the meter that holds a budget against what was asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core._content import Rows
from locum.core.errors import InvalidData
from locum.core.ledger import Account, Ledger, Purpose, Vector

__all__ = ["Budget", "Meter", "Price", "Request"]

_PAID = 1 << 7  # beside the bits of the purposes


@dataclass(frozen=True)
class Budget:
    """What may be spent. A call is one row asked. What is None is not limited.

    Rows count with their recorded price, each once, whether they are paid for now or were before; so a run that was killed
    and is started again ends at the same row. Seconds are the time the answers take, added up over workers; they are looked
    at between batches, so the last batch may go over.

    Parameters
    ----------
    calls : int or None, default=None
    seconds : float or None, default=None
    money : float or None, default=None

    Raises
    ------
    InvalidData
        Nothing is limited, or a limit is not above zero.
    """

    calls: int | None = None
    seconds: float | None = None
    money: float | None = None

    def __post_init__(self) -> None:
        if self.calls is None and self.seconds is None and self.money is None:
            raise InvalidData("expected a budget of calls, seconds or money, got none of them")
        if self.calls is not None and (not isinstance(self.calls, int | np.integer) or isinstance(self.calls, bool)):
            raise InvalidData(f"expected a whole number of calls, got {self.calls!r}")
        for name, limit in (("calls", self.calls), ("seconds", self.seconds), ("money", self.money)):
            if limit is not None and not limit > 0:
                raise InvalidData(f"expected a budget of {name} above zero, got {limit}")

    def __str__(self) -> str:
        parts = [f"{self.calls:,} calls"] if self.calls is not None else []
        parts += [f"{self.seconds:g} s"] if self.seconds is not None else []
        parts += [f"{self.money:,.2f} of money"] if self.money is not None else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Price:
    """What asking costs.

    Parameters
    ----------
    calls : int
        Rows.
    seconds : float
        NaN where nothing was measured yet.
    money : float
    currency : str, default="USD"

    Examples
    --------
    >>> print(Price(1000, 3.2, 2.0))
    1,000 calls, 3.2 s, 2.00 USD
    """

    calls: int
    seconds: float
    money: float
    currency: str = "USD"

    def __str__(self) -> str:
        parts = [f"{self.calls:,} calls", "time unknown" if math.isnan(self.seconds) else f"{self.seconds:.3g} s"]
        return ", ".join([*parts, *([f"{self.money:,.2f} {self.currency}"] if self.money else [])])


@dataclass
class Request:
    """Rows of one query: which are distinct, where in the ledger they are.

    Attributes
    ----------
    rows : Rows
    first : ndarray of shape (m,)
        Position of each distinct row, in order.
    inverse : ndarray of shape (n,) or None
        Which distinct row each row is; None where all differ.
    numbers : ndarray of shape (m,)
        In the ledger; -1 where there is no answer.
    """

    rows: Rows
    first: NDArray[np.intp]
    inverse: NDArray[np.intp] | None
    numbers: NDArray[np.int64]

    @cached_property
    def keys(self) -> list[bytes]:
        """Of the distinct rows."""
        keys = self.rows.keys
        return keys if self.inverse is None else [keys[i] for i in self.first.tolist()]

    def reach(self, k: int) -> int:
        """How many rows, from the first on, are among the first `k` distinct ones."""
        if self.inverse is None:
            return k
        beyond = self.inverse >= k
        return int(np.argmax(beyond)) if beyond.any() else len(self.inverse)


class Meter:
    """What was asked through one target, each row once, and how much more its budget allows."""

    def __init__(self, budget: Budget | None) -> None:
        self.budget = budget
        self.marks = Vector(np.uint8)  # by the row's number in the ledger: its purposes, and whether it was paid for here
        self.pending: set[bytes] = set()  # reserved, not answered yet
        self.failed: set[bytes] = set()
        self.answered = self.in_doubt = 0
        self.seconds = self.money = 0.0

    def room(self, asked: Request, ledger: Ledger, price: float) -> int:
        """How many of the distinct rows, from the first on, the budget allows."""
        m, budget = len(asked.numbers), self.budget
        if budget is None:
            return m
        known, counted = asked.numbers >= 0, self._marks(asked.numbers) != 0
        blocks, seconds, money = np.full(m, -1), np.zeros(m), np.full(m, price)
        blocks[known], seconds[known], money[known] = ledger.prices(asked.numbers[known])
        allowed = self._in_time(counted, blocks, seconds)
        if budget.calls is not None or budget.money is not None:
            free = counted.copy()
            for i in np.flatnonzero(~counted).tolist() if self.pending or self.failed else ():
                free[i] = asked.keys[i] in self.pending or asked.keys[i] in self.failed
            calls = self.answered + len(self.pending) + len(self.failed) + np.cumsum(~free)
            spent = self.money + price * len(self.pending) + np.cumsum(money * ~free)
            allowed &= free | (
                (calls <= (math.inf if budget.calls is None else budget.calls))
                & (spent <= (math.inf if budget.money is None else budget.money * (1 + 1e-9)))
            )
        return m if allowed.all() else int(np.argmin(allowed))

    def has_time(self, asked: Request, position: int, ledger: Ledger) -> bool:
        """Whether there is time left for one of the distinct rows, which has no answer yet."""
        numbers = asked.numbers[: position + 1]
        known, blocks, seconds = numbers >= 0, np.full(position + 1, -1), np.zeros(position + 1)
        blocks[known], seconds[known], _ = ledger.prices(numbers[known])
        return bool(self._in_time(self._marks(numbers) != 0, blocks, seconds)[-1])

    def _in_time(self, counted: NDArray[np.bool_], blocks: NDArray[Any], seconds: NDArray[Any]) -> NDArray[np.bool_]:
        """Which rows are in time. What a batch takes is known once it is back: it is begun while there is any time left."""
        limit = None if self.budget is None else self.budget.seconds
        if limit is None:
            return np.ones(len(counted), dtype=bool)
        before = self.seconds + np.concatenate([[0.0], np.cumsum(seconds * ~counted)[:-1]])
        starts = np.concatenate([[True], blocks[1:] != blocks[:-1]])
        return (before[np.maximum.accumulate(np.where(starts, np.arange(len(counted)), 0))] < limit) | counted

    def count(self, numbers: NDArray[np.int64], paid: NDArray[np.bool_], purpose: Purpose, ledger: Ledger) -> int:
        """Count answered rows, some of them just paid for; how many more than before were replayed."""
        before = self._marks(numbers)
        new = before == 0
        _, seconds, money = ledger.prices(numbers[new])
        self.answered += int(new.sum())
        self.seconds += float(seconds.sum())
        self.money += float(money.sum())
        after = before | np.uint8(purpose.bit) | np.where(paid, np.uint8(_PAID), np.uint8(0))
        self.marks.values[numbers] = after
        # A thread that waited for another's answer may have counted it as replayed before the other counts it as paid.
        return int(np.count_nonzero(_replayed(after))) - int(np.count_nonzero(_replayed(before)))

    def account(self, currency: str) -> Account:
        """What was counted."""
        marks = self.marks.values
        replayed = int(np.count_nonzero(_replayed(marks)))
        paid, failed = self.answered - replayed, len(self.failed)
        counts = {p.value: int(np.count_nonzero(marks & p.bit)) for p in Purpose}
        return Account(
            paid + replayed + failed, paid, replayed, failed, self.in_doubt, self.seconds, self.money, counts, currency
        )

    def _marks(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The marks of rows; 0 where a row is not counted or has no answer."""
        self.marks.grow(max(0, int(numbers.max(initial=-1)) + 1 - len(self.marks.values)))
        out = np.zeros(len(numbers), dtype=np.uint8)
        out[numbers >= 0] = self.marks.values[numbers[numbers >= 0]]
        return out


def _replayed(marks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (marks != 0) & (marks & _PAID == 0)
