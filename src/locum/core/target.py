"""Target: what is stood in for, a model with a price, asked only through its ledger."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import closing
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from locum.core._answers import OUTPUTS, Contract, Output
from locum.core._budget import Budget, Meter, Price, Request
from locum.core._content import Rows, fingerprint_of, name_of, pack
from locum.core.errors import BudgetExhausted, InvalidData, NotFresh, TargetError, TargetTimeout
from locum.core.execute import ENDING, BadAnswer, Job, Malformed, Outcome, Plan, run
from locum.core.ledger import FITTED, LARGEST_BLOCK, Account, Claim, Ledger, Purpose

if TYPE_CHECKING:
    from locum.core.domain import Domain

__all__ = ["Budget", "Price", "Target"]

_LONGEST_PAUSE = 0.5  # seconds between two looks at what another process is asking


class Target:
    """What is stood in for: a model with a price. Every query goes through its ledger.

    Rows are cached by content, duplicates are asked once, and a row that fitted or tuned can never score. What was answered
    is kept whatever happens to the rest.

    Parameters
    ----------
    answer : callable
        Takes m rows in the container they were given in, and gives m answers: an array of shape (m, ...).
    name : str or None, default=None
        The callable's own where None.
    output : {"auto", "class", "probability", "value"}, default="auto"
        What the answers are. "auto" decides from the first: text, bools and whole numbers of shape (m,) are classes; rows of
        numbers that sum to one are probabilities; anything else is values.
    classes : sequence or None, default=None
        All classes, in the order of the probabilities; those that came up, where None.
    ledger : Ledger, path or None, default=None
        Where queries are recorded; in memory where None.
    budget : Budget, int (calls) or None, default=None
    price : float, default=0.0
        Money a row.
    currency : str, default="USD"
    batch_size : int, default=10000
        Most rows in one call.
    executor : None, concurrent.futures executor, or "ray", default=None
        Where batches are computed; None is here, one at a time.
    timeout : float or None, default=None
        Seconds a batch may take; then it is left alone. It keeps its worker, except on Ray, and when all workers are held so,
        nothing more is asked.
    retries : int, default=0
        How often a batch that failed is asked again. An exception with a number ``retry_after`` is given those seconds beyond
        the back-off; where it is infinite, the batch is not asked again as it was.
    backoff : float, default=0.5
        Seconds before the first retry, doubled each time.
    failures : {"raise", "isolate"}, default="raise"
        Whether a batch that fails is given up, or halved until the rows that fail stand alone.
    in_doubt : {"ask", "refuse"}, default="ask"
        What to do about rows that were being asked when a process died or a call was interrupted.
    fingerprint : str or None, default=None
        What tells this model from another; from its code and content where None.
    domain : Domain or None, default=None
        The columns of its rows; rows that do not fit are refused before anything is paid.
    allow_nan : bool, default=False
        Whether NaN and infinities are answers.
    check : callable or None, default=None
        Called with the rows of each query, to raise InvalidData before anything is paid.
    rows : container of rows or None, default=None
        For recorded answers: the only rows that can be asked.

    Attributes
    ----------
    name : str
    ledger : Ledger
    domain : Domain or None
    currency : str
    rows : container of rows or None

    Raises
    ------
    InvalidData
        A setting that cannot be used.
    LedgerError
        The ledger is another target's, damaged, or cannot be written.

    Notes
    -----
    Cost: one answer a distinct row that is not in the ledger; beyond that a few microseconds a row in batches of thousands,
    and two synchronous writes a batch. Threads may share a target.

    Examples
    --------
    >>> import numpy as np
    >>> target = Target(lambda X: (X[:, 0] > 0).astype(int), name="sign", price=0.01)
    >>> target.query(np.array([[1.0], [-2.0], [1.0]]), "fit")
    array([1, 0, 1])
    >>> target.fresh(np.array([[1.0], [3.0]]))
    array([False,  True])
    >>> print(target.estimate(np.array([[1.0], [3.0]])).money)
    0.01
    """

    def __init__(
        self,
        answer: Callable[[Any], Any],
        *,
        name: str | None = None,
        output: str = "auto",
        classes: Any = None,
        ledger: Any = None,
        budget: Budget | int | None = None,
        price: float = 0.0,
        currency: str = "USD",
        batch_size: int = 10_000,
        executor: Any = None,
        timeout: float | None = None,
        retries: int = 0,
        backoff: float = 0.5,
        failures: str = "raise",
        in_doubt: str = "ask",
        fingerprint: str | None = None,
        domain: Domain | None = None,
        allow_nan: bool = False,
        check: Callable[[Any], None] | None = None,
        rows: Any = None,
    ) -> None:
        if not callable(answer):
            raise InvalidData(f"expected a callable that answers rows, got {type(answer).__name__}; see locum.targets.target")
        _expect("output", output, ("auto", *OUTPUTS))
        _expect("failures", failures, ("raise", "isolate"))
        _expect("in_doubt", in_doubt, ("ask", "refuse"))
        if not (isinstance(batch_size, int) and batch_size >= 1):
            raise InvalidData(f"expected batch_size= of at least one row, got {batch_size!r}")
        if not 0 <= price < math.inf:
            raise InvalidData(f"expected price= of zero or more, got {price!r}")
        self._answer, self._price, self._batch_size = answer, price, batch_size
        self._plan = Plan(executor, timeout, retries, backoff, failures == "isolate")
        self._plan.check(answer)
        self._in_doubt, self._check = in_doubt, check
        self.currency, self.domain, self.rows = currency, domain, rows
        self._allowed = None if rows is None else frozenset(Rows(rows).keys)
        self._lock = threading.RLock()
        self._meters: tuple[Meter, ...] = (Meter(_budget(budget)),)
        self.ledger = ledger if isinstance(ledger, Ledger) else Ledger(ledger)
        self.name = name or name_of(answer)
        if fingerprint is None and ledger is not None:  # a ledger of its own meets no other target
            fingerprint = fingerprint_of(answer)
        identity = {"name": self.name, "fingerprint": fingerprint, "currency": currency}
        known = self.ledger.attach({**identity, "output": None if output == "auto" else output})
        self._contract = Contract(known, self.ledger.attach, None if classes is None else np.asarray(classes), allow_nan)

    def __repr__(self) -> str:
        return f"Target({self.name!r}, output={self.output!r}, ledger={self.ledger!r})"

    def __call__(self, X: Any) -> NDArray[Any]:
        return self.query(X, Purpose.USE)

    # ------------------------------------------------------------------ facts
    @property
    def output(self) -> Output | None:
        """ "class", "probability" or "value"; None until the first answer, where it was left to "auto"."""
        return self._contract.output

    @property
    def recorded(self) -> bool:
        """Whether only `rows` can be asked."""
        return self.rows is not None

    @property
    def classes(self) -> NDArray[Any] | None:
        """All classes, sorted; those that came up so far, where none were given; None for values."""
        if self._contract.classes is not None or self.output not in ("class", "probability"):
            return self._contract.classes
        if self.output == "probability":
            return None if self._contract.shape is None else np.arange(self._contract.shape[0])
        seen = np.flatnonzero(self._meters[0].marks.values)
        return np.unique(self.ledger.answers(seen)) if seen.size else None

    def account(self) -> Account:
        """What was asked through this target since it was made, each row once, and what it cost."""
        with self._lock:
            return self._meters[-1].account(self.currency)

    def fresh(self, X: Any) -> NDArray[np.bool_]:
        """Which rows never fitted or tuned, so that they may score, shape (n,)."""
        return (self.ledger.purposes(X) & FITTED) == 0

    def estimate(self, rows: Any) -> Price:
        """What asking would cost, from what answers took so far.

        Parameters
        ----------
        rows : int or rows
            A number of new rows; or the rows themselves, of which only those without an answer cost anything.
        """
        if isinstance(rows, int | np.integer):
            n = int(rows)
        else:
            asked = self._request(rows)
            n = int((asked.numbers < 0).sum())
        return Price(n, self.ledger.seconds_per_row * n if n else 0.0, self._price * n, self.currency)

    def within(self, budget: Budget | int | None) -> Target:
        """The same model and ledger with a budget and an account of its own; this target's budget holds as well."""
        child = copy(self)
        child._meters = (*self._meters, Meter(_budget(budget)))
        return child

    # ------------------------------------------------------------------ asking
    def query(self, X: Any, purpose: Purpose | str = "use") -> NDArray[Any]:
        """Ask for answers: the only way to the model.

        Parameters
        ----------
        X : n rows
        purpose : {"fit", "tune", "score", "use"}, default="use"

        Returns
        -------
        ndarray of shape (n, ...)

        Raises
        ------
        InvalidData
            Rows that cannot be asked; nothing was paid.
        NotFresh
            Rows that fitted or tuned, asked to score; nothing was paid.
        BudgetExhausted
            The budget ended; ``answered`` rows, from the first on, have an answer in the ledger.
        TargetError, TargetTimeout
            Rows without an answer, at positions ``rows``; all others are in the ledger.
        LedgerError
        """
        purpose = _purpose(purpose)
        asked = self._request(X)
        self._require_fresh(asked, purpose)
        if self._in_doubt == "refuse" and (asked.numbers < 0).any():
            self.ledger.refuse_doubtful([asked.keys[i] for i in np.flatnonzero(asked.numbers < 0).tolist()])
        k, reserved = self._reserve(asked)
        paid, errors = np.zeros(len(asked.numbers), dtype=bool), list[Outcome]()
        try:
            if reserved:
                self._ask(asked, k, purpose, paid, errors)
        finally:
            k = self._settle(asked, k, reserved, paid, errors, purpose)
        if errors:
            self._fail(asked, errors)
        if k < len(asked.numbers):
            self._exhausted(asked, k)
        self.ledger.mark(asked.numbers, purpose)
        answers = self.ledger.answers(asked.numbers)
        return answers if asked.inverse is None else answers[asked.inverse]

    def _request(self, X: Any) -> Request:
        rows = Rows(X)
        if rows.batch is not None and (numbers := self.ledger.find_batch(rows.batch)) is not None:
            return Request(rows, np.arange(rows.n), None, numbers)
        if self.domain is not None:
            _check_domain(self.domain, X)
        self._contract.check_columns(rows.names)
        if self._check is not None:
            self._check(X)
        keys = rows.keys
        if self._allowed is not None and not self._allowed.issuperset(keys):
            strange = [i for i, key in enumerate(keys) if key not in self._allowed]
            raise InvalidData(
                f"{len(strange)} of these {rows.n} rows have no recorded answer, first row {strange[0]}: there is no access to "
                "the model itself; choose among target.rows"
            )
        first, inverse = np.arange(rows.n), None
        if len(set(keys)) < rows.n:
            place: dict[bytes, int] = {}
            inverse = np.array([place.setdefault(key, len(place)) for key in keys])
            first = np.unique(inverse, return_index=True)[1]
            keys = list(place)
        return Request(rows, first, inverse, self.ledger.find(keys))

    def _require_fresh(self, asked: Request, purpose: Purpose) -> None:
        if purpose is not Purpose.SCORE:
            return
        known = np.flatnonzero(asked.numbers >= 0)
        fitted = known[(self.ledger.bits(asked.numbers[known]) & FITTED) != 0]
        if fitted.size:
            raise NotFresh(
                f"{fitted.size} of these {len(asked.numbers)} rows fitted or tuned a stand-in, so they cannot score one; the "
                f"first is row {asked.first[fitted[0]]}; target.fresh(X) tells which rows can"
            )

    def _reserve(self, asked: Request) -> tuple[int, list[bytes]]:
        """How many distinct rows the budgets allow, and the keys of those among them that have no answer."""
        with self._lock:
            k = min(meter.room(asked, self.ledger, self._price) for meter in self._meters)
            if k == 0:
                self._exhausted(asked, 0)
            unknown = np.flatnonzero(asked.numbers[:k] < 0).tolist()
            reserved = [asked.keys[i] for i in unknown]
            for meter in self._meters:
                meter.pending.update(key for key in reserved if key not in meter.failed)
        return k, reserved

    def _settle(self, asked: Request, k: int, reserved: list[bytes], paid: Any, errors: list[Outcome], purpose: Purpose) -> int:
        """Count what was answered and what failed; how many distinct rows, from the first on, were within the budgets."""
        with self._lock:
            if reserved:
                asked.numbers = self.ledger.find(asked.keys)
            failed = [asked.keys[i] for outcome in errors for i in outcome.positions.tolist()]
            for meter in self._meters:
                meter.pending.difference_update(reserved)
                meter.failed.difference_update(reserved)
                meter.failed.update(failed)
            k = min(k, *(meter.room(asked, self.ledger, self._price) for meter in self._meters))
            # What was paid counts, though the time should have ended before it; so it is free from now on.
            counted = (asked.numbers >= 0) & (paid | (np.arange(len(paid)) < k))
            for meter in self._meters:
                if meter.failed:
                    meter.failed.difference_update(asked.keys[i] for i in np.flatnonzero(counted).tolist())
            replayed = [meter.count(asked.numbers[counted], paid[counted], purpose, self.ledger) for meter in self._meters]
            self.ledger.count_replayed(replayed[0])
        return k

    def _ask(self, asked: Request, k: int, purpose: Purpose, paid: NDArray[np.bool_], errors: list[Outcome]) -> None:
        """Ask the rows that have no answer; where somebody else is asking them, wait for what comes of it."""
        place = {asked.keys[i]: i for i in np.flatnonzero(asked.numbers[:k] < 0).tolist()}
        claims: list[Claim] = []
        todo, pause = list(place), 0.005
        try:
            while todo:
                waiting: list[bytes] = []
                jobs = self._jobs(asked, place, todo, purpose, claims, waiting)
                with closing(run(self._answer, jobs, self._plan, self._contract.judge, partial(_rows_at, asked))) as outcomes:
                    for outcome in outcomes:
                        self._write(asked, outcome, purpose)
                        if outcome.error is None:
                            paid[outcome.positions] = True
                        else:
                            errors.append(outcome)
                if any(isinstance(outcome.error, ENDING) for outcome in errors):
                    return
                pause = 0.005 if len(waiting) < len(todo) else min(2 * pause, _LONGEST_PAUSE)
                todo = waiting
                if todo:
                    time.sleep(pause)
        except BaseException:
            for claim in claims:
                self.ledger.abandon(claim)
            raise

    def _jobs(
        self, asked: Request, place: dict[bytes, int], todo: list[bytes], purpose: Purpose, claims: list[Claim], waiting: Any
    ) -> Iterator[Job]:
        """Batches of rows, each claimed just before it is asked."""
        timed = any(meter.budget is not None and meter.budget.seconds is not None for meter in self._meters)
        for start in range(0, len(todo), self._batch_size):
            if timed:
                with self._lock:
                    if not all(meter.has_time(asked, place[todo[start]], self.ledger) for meter in self._meters):
                        return
            claim = self.ledger.claim(todo[start : start + self._batch_size], purpose, self._in_doubt)
            waiting += claim.waiting
            for meter in self._meters:
                meter.in_doubt += claim.doubtful
            if claim.keys:
                claims.append(claim)
                positions = np.array([place[key] for key in claim.keys])
                yield Job(positions, claim)

    def _write(self, asked: Request, outcome: Outcome, purpose: Purpose) -> None:
        keys = [asked.keys[i] for i in outcome.positions.tolist()]
        rows = asked.rows.pack(asked.first[outcome.positions])
        answers = b"" if outcome.answers is None else pack(outcome.answers)
        if len(rows) + len(answers) > LARGEST_BLOCK and len(keys) > 1:
            for half in outcome.halves():
                self._write(asked, half, purpose)
        elif outcome.answers is None:
            self.ledger.fail(outcome.claim, keys, rows, _what_failed(self.name, outcome.error))
        else:
            first = self.ledger.record(
                outcome.claim,
                keys,
                purpose,
                rows,
                answers,
                seconds=outcome.seconds,
                money=self._price * len(keys),
                batch=asked.rows.batch if len(keys) == asked.rows.n else None,
            )
            asked.numbers[outcome.positions] = np.arange(first, first + len(keys))
            self._contract.hold_columns(asked.rows.names)

    def _exhausted(self, asked: Request, k: int) -> None:
        answered = asked.reach(k)
        budgets = " within ".join(str(meter.budget) for meter in reversed(self._meters) if meter.budget is not None)
        raise BudgetExhausted(
            f"the budget of {budgets} is used up: {answered} of the {asked.rows.n} rows asked "
            "for now, from the first on, have an answer, which is in the ledger; raise the budget to ask the rest",
            ledger=self.ledger,
            answered=answered,
        )

    def _fail(self, asked: Request, errors: list[Outcome]) -> None:
        # Those that failed, and those that were not even asked because of it.
        lost = asked.numbers < 0
        rows = np.flatnonzero(lost if asked.inverse is None else lost[asked.inverse])
        found = [outcome.error for outcome in errors]
        error = next((error for error in found if not isinstance(error, TimeoutError)), found[0])
        message = (
            f"{_what_failed(self.name, error)}; {len(rows)} of the {asked.rows.n} rows asked have no answer, the first is row "
            f"{rows[0]}; what was answered is in the ledger, so asking again costs only the rest"
        )
        raise (TargetTimeout if isinstance(error, TimeoutError) else TargetError)(message, rows=rows) from error


# ---------------------------------------------------------------------- private
def _expect(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidData(f"expected {name}= to be one of {', '.join(map(repr, known))}, got {value!r}")


def _rows_at(asked: Request, positions: NDArray[np.intp]) -> Any:
    return asked.rows.take(asked.first[positions])


def _budget(budget: Budget | int | None) -> Budget | None:
    return budget if budget is None or isinstance(budget, Budget) else Budget(calls=budget)


def _purpose(purpose: Purpose | str) -> Purpose:
    try:
        return Purpose(purpose)
    except ValueError as error:
        raise InvalidData(f"expected a purpose of 'fit', 'tune', 'score' or 'use', got {purpose!r}") from error


def _check_domain(domain: Domain, X: Any) -> None:
    encoded = domain.encode(X)
    for j, column in enumerate(domain.columns):
        absent = np.isnan(encoded[:, j])
        if absent.any() and not column.missing:
            raise InvalidData(
                f"column {column.name!r} is missing in row {int(np.argmax(absent))}, and the target's domain has no missing "
                "values there; fill it, or leave the row out"
            )


def _what_failed(name: str, error: Exception | None) -> str:
    if isinstance(error, TimeoutError):
        return f"the target {name!r} did not answer in time ({error})"
    if isinstance(error, BrokenExecutor):
        return f"a worker of the pool died while the target {name!r} was asked ({error}); use a new pool, or retries="
    if isinstance(error, BadAnswer | Malformed):
        return f"the target {name!r} does not answer as it should: {error}"
    return f"the target {name!r} raised {type(error).__name__}: {error}"
