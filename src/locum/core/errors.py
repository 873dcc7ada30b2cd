"""Errors: what was expected, what came, what to do.

Every class is also a ``ValueError`` or a ``RuntimeError``, so code that knows nothing of Locum can still catch it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locum.core.ledger import Ledger

__all__ = [
    "LocumError",
    "InvalidData",
    "NotFresh",
    "TargetError",
    "TargetTimeout",
    "BudgetExhausted",
    "LedgerError",
    "FormatError",
    "MissingExtra",
    "OutsideRegion",
    "UnsupportedModule",
    "need",
    "require_one_of",
    "require_positive",
    "require_whole",
]


class LocumError(Exception):
    """Base of every error that Locum raises on purpose."""


class InvalidData(LocumError, ValueError):
    """Rows, answers or settings that cannot be used; raised before the target is asked."""


class NotFresh(LocumError, ValueError):
    """Rows that fitted (or tuned) a stand-in were asked to score one."""


class TargetError(LocumError, RuntimeError):
    """The target raised, or answered with something that is not an answer.

    Parameters
    ----------
    message : str
        What was expected, what came, what to do.
    rows : sequence of int, default=()
        Positions, in the rows that were asked, of the rows without an answer.
    """

    def __init__(self, message: str, *, rows: Any = ()) -> None:
        super().__init__(message)
        self.rows = tuple(int(row) for row in rows)


class TargetTimeout(TargetError):
    """The target did not answer within the time it was given."""


class BudgetExhausted(LocumError, RuntimeError):
    """The budget ran out; what was paid for is kept.

    Parameters
    ----------
    message : str
        What ran out, and after how much.
    ledger : Ledger or None, default=None
        The record of everything that was paid for.
    answered : int, default=0
        How many of the rows asked for in this call, from the first on, have an answer.
    best : object or None, default=None
        The best stand-in so far, where there is one.
    """

    def __init__(self, message: str, *, ledger: Ledger | None = None, answered: int = 0, best: Any = None) -> None:
        super().__init__(message)
        self.ledger = ledger
        self.answered = answered
        self.best = best


class LedgerError(LocumError, RuntimeError):
    """A ledger file that is damaged, foreign, of another target, or cannot be written."""


class FormatError(LocumError, ValueError):
    """A saved stand-in that is damaged or newer than this version reads."""


class MissingExtra(LocumError, ImportError):
    """An optional package is needed here; the message names the extra that brings it."""


class UnsupportedModule(LocumError, ValueError):
    """A network holds a module that a method has no rule for; the message names it."""


class OutsideRegion(UserWarning):
    """A prediction was asked for outside the region where the stand-in was checked."""


def need(module: str, what: str, extra: str) -> Any:
    """Import a package that is not part of the base install.

    Parameters
    ----------
    module : str
    what : str
        What needs it, such as "an ONNX file".
    extra : str
        The extra of Locum that brings it.

    Raises
    ------
    MissingExtra
        It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtra(f"{what} needs {package}; install it with: pip install 'locum[{extra}]'") from error


def require_one_of(known: Collection[str], **given: Any) -> None:
    """Refuse settings that are none of the names known.

    Raises
    ------
    InvalidData
        Names the first that is not.
    """
    for name, value in given.items():
        if value not in known:
            raise InvalidData(f"expected {name}= to be one of {', '.join(map(str, known))}, got {value!r}")


def require_positive(**given: Any) -> None:
    """Refuse settings that are not finite numbers above 0.

    Raises
    ------
    InvalidData
        Names the first that is not.
    """
    for name, number in given.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < math.inf:
            raise InvalidData(f"expected {name}= above 0, got {number!r}")


def require_whole(least: int, **given: Any) -> None:
    """Refuse settings that are not whole numbers of at least `least`.

    Raises
    ------
    InvalidData
        Names the first that is not.
    """
    for name, number in given.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise InvalidData(f"expected {name}= to be a whole number of {least} or more, got {number!r}")
