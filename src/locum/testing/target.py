"""Checks of a target: what is stood in for, and asked through its ledger."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core._content import Rows
from locum.core.errors import BudgetExhausted, InvalidData, NotFresh
from locum.core.target import Target
from locum.testing._checks import Suite, need, need_equal, refusal
from locum.testing._tables import without_last_column

__all__ = ["check_target", "target_checks"]

_LEAST_ROWS = 8
_SAME_SUMS = 1e-6  # the same sums in another order differ in the last digits

_suite: Suite[_Case] = Suite()


@dataclass(frozen=True, eq=False)
class _Case:
    """A target, and where there is one what makes it anew.

    Attributes
    ----------
    target : Target
    make : callable or None
        Makes it again with an empty ledger, given settings of `Target`.
    rows : n distinct rows
    refused : tuple of rows
        That the target must refuse.
    """

    target: Target
    make: Callable[..., Target] | None
    rows: Any
    refused: tuple[Any, ...]

    @property
    def n(self) -> int:
        return Rows(self.rows).n

    def take(self, positions: Any) -> Any:
        return Rows(self.rows).take(np.asarray(positions))

    @cached_property
    def answers(self) -> NDArray[Any]:
        return self.target.query(self.rows)

    def anew(self, **settings: Any) -> Target:
        assert self.make is not None
        return self.make(**settings)

    @property
    def bad(self) -> list[tuple[str, Any]]:
        """Rows that must be refused, with what is wrong with them."""
        out = [("no rows at all", self.take(np.arange(0)))]
        if self.target.domain is not None or self.target.recorded:
            out.append(("rows that lack a column", without_last_column(self.rows)))
        return out + [(f"the rows refused[{i}]", rows) for i, rows in enumerate(self.refused)]


def _can_be_made(case: _Case) -> bool:
    return case.make is not None


def check_target(
    target: Target | Callable[..., Target], rows: Any, *, refused: Iterable[Any] = (), skip: Iterable[str] = ()
) -> None:
    """See that a target behaves as one must whose answers will be paid for, kept, and learnt from.

    Parameters
    ----------
    target : Target or callable
        Something that makes the target, with an empty ledger, and hands keyword arguments on to `Target`, such as
        ``functools.partial(locum.target, model)``; or a target. A target never asks the same twice, so of one alone it
        cannot be seen whether the model behind it always answers the same, and those checks are left out.
    rows : rows
        At least eight, all different, that it can answer.
    refused : iterable of rows, default=()
        Rows that it must refuse before the model is asked; without columns, and with one too few where the target has a
        domain or recorded answers, are tried anyway.
    skip : iterable of str, default=()
        Names of checks to leave out.

    Raises
    ------
    CheckFailed
        By the first check that fails: which, what was expected, what came, what to do.
    InvalidData
        Too few rows, equal rows, or a name in ``skip`` that no check has.

    Notes
    -----
    Cost: seven times the answers to all rows where the target can be made anew, else once. Rows count as fitted in its
    ledger afterwards.

    Examples
    --------
    >>> import numpy as np
    >>> from functools import partial
    >>> check_target(partial(Target, lambda X: X.sum(axis=1), output="value"), np.random.default_rng(0).normal(size=(10, 2)))
    """
    for _, run in target_checks(target, rows, refused=refused, skip=skip):
        run()


def target_checks(
    target: Target | Callable[..., Target], rows: Any, *, refused: Iterable[Any] = (), skip: Iterable[str] = ()
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The checks of `check_target` one by one, as (name, callable), for a test a check; the parameters are its."""
    keys = Rows(rows).keys
    different = len(set(keys))
    if different < max(_LEAST_ROWS, len(keys)):
        raise InvalidData(f"expected at least {_LEAST_ROWS} rows, all different, got {len(keys)}, of which {different} differ")
    make = None if isinstance(target, Target) else target
    made = target if isinstance(target, Target) else target()
    if not isinstance(made, Target):
        raise InvalidData(f"expected a Target, or something that makes one, got what makes a {type(made).__name__}")
    yield from _suite.named(_Case(made, make, rows, tuple(refused)), f"the target {made.name!r}", skip)


# ---------------------------------------------------------------------- answers
@_suite.check(
    "one answer a row",
    expected="one answer a row: labels of shape (n,), probabilities that sum to one of shape (n, k), or finite values",
    advice="Give the callable all rows it is handed an answer for, in their order; say output= where it is not what it seems.",
)
def _one_answer_a_row(case: _Case) -> None:
    answers, output = case.answers, case.target.output
    need(len(answers) == case.n, f"{len(answers)} answers for {case.n} rows")
    if output == "class":
        need(answers.ndim == 1, f"labels of shape {answers.shape}")
        need(np.isin(answers, np.asarray(case.target.classes)).all(), "labels that are not among its classes")
    elif output == "probability":
        need(np.allclose(answers.sum(axis=1), 1, atol=1e-3), f"rows that sum to {answers.sum(axis=1).min():g}")


@_suite.check(
    "one kind of answers",
    expected="the first row alone to be answered with the kind of output that all rows together are",
    advice="Say output='value' for values that may look like whole numbers or probabilities, output='class' for labels.",
    when=_can_be_made,
)
def _one_kind(case: _Case) -> None:
    case.answers  # noqa: B018 - asked here, so that output is known
    for i in range(min(case.n, _LEAST_ROWS)):
        alone = case.anew()
        alone.query(case.take([i]))
        need(alone.output == case.target.output, f"{alone.output!r} for row {i} alone, {case.target.output!r} for all")


@_suite.check(
    "same rows same answers",
    expected="the same rows to get the same answers when the model is asked again",
    advice="Fix the seed of whatever is drawn by chance, or average it out: one answer is kept for each row.",
    when=_can_be_made,
)
def _same_answers(case: _Case) -> None:
    need_equal(case.anew().query(case.rows), case.answers, "answers", rtol=_SAME_SUMS)


@_suite.check(
    "any batch size",
    expected="a row to be answered alone as it is among others",
    advice="Let no answer depend on the other rows of its batch: a network may have to be put in evaluation mode.",
    when=_can_be_made,
)
def _any_batch_size(case: _Case) -> None:
    for size in (1, 3):
        need_equal(case.anew(batch_size=size).query(case.rows), case.answers, f"answers in batches of {size}", rtol=_SAME_SUMS)


@_suite.check(
    "any order",
    expected="rows in another order to get the same answers, each its own",
    advice="Keep answers in the order of the rows, and nothing from one row for the next.",
    when=_can_be_made,
)
def _any_order(case: _Case) -> None:
    order = np.arange(case.n)[::-1]
    need_equal(case.anew().query(case.take(order)), case.answers[order], "answers", rtol=_SAME_SUMS)


@_suite.check(
    "given rows untouched",
    expected="rows to be after a query what they were before",
    advice="Copy before changing anything in place.",
    when=_can_be_made,
)
def _given_rows(case: _Case) -> None:
    rows = copy.deepcopy(case.rows)
    case.anew().query(rows)
    need(Rows(rows).keys == Rows(case.rows).keys, "other rows")


# ---------------------------------------------------------------------- what is paid
@_suite.check(
    "each row once",
    expected="every distinct row to be asked once, however often it comes",
    advice="Ask for answers through Target.query alone.",
)
def _each_row_once(case: _Case) -> None:
    case.answers  # noqa: B018 - paid for here, at the latest
    asking, twice = case.target.within(None), np.tile(np.arange(case.n), 2)
    answers = asking.query(case.take(twice))
    need_equal(answers, np.concatenate([case.answers] * 2), "answers to a row that comes twice")
    need(asking.account().asked == case.n, f"{asking.account().asked} of {case.n} rows counted")
    need(asking.account().paid == 0, f"{asking.account().paid} rows paid for again")


@_suite.check(
    "budget",
    expected="the budget to end at its last call exactly, with what was answered kept and told",
    advice="Ask for answers through Target.query alone, and hand budget= on to Target.",
)
def _budget(case: _Case) -> None:
    calls = case.n // 2
    targets = [case.target.within(calls)] + ([case.anew(budget=calls)] if case.make is not None else [])
    for asking in targets:
        try:
            asking.query(case.rows)
        except BudgetExhausted as ended:
            need(ended.answered == calls, f"{ended.answered} rows answered with a budget of {calls} calls")
        else:
            need(False, f"no end after {case.n} rows with a budget of {calls} calls")
        need(asking.account().asked == calls, f"{asking.account().asked} rows asked with a budget of {calls} calls")
        need_equal(asking.query(case.take(range(calls))), case.answers[:calls], "answers kept", rtol=_SAME_SUMS)


@_suite.check(
    "answers outlive the process",
    expected="a ledger file to give all answers back to the same target, without asking the model",
    advice="Give the target the same name=, and a fingerprint= where its model cannot be recognised by its content.",
    when=_can_be_made,
)
def _answers_kept(case: _Case) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.ledger"
        first = case.anew(ledger=path)
        first.query(case.rows)
        first.ledger.close()
        again = case.anew(ledger=path)
        answers, paid = again.query(case.rows), again.account().paid
        again.ledger.close()
    need(paid == 0, f"{paid} rows asked again")
    need_equal(answers, case.answers, "answers", rtol=_SAME_SUMS)


@_suite.check(
    "bad rows refused",
    expected="a ValueError for rows that cannot be asked, before the model is",
    advice="Give Target a domain=, or a check= that raises InvalidData.",
)
def _bad_rows(case: _Case) -> None:
    before = case.target.ledger.account()
    for what, rows in case.bad:
        with refusal(what):
            case.target.query(rows)
    need(case.target.ledger.account() == before, "a model that was asked first")


@_suite.check(
    "fitted rows never score",
    expected="NotFresh for rows that fitted, and for those alone",
    advice="Ask for answers through Target.query alone, each with the purpose it has.",
)
def _fitted_never_score(case: _Case) -> None:
    target = case.target if case.make is None else case.anew()
    fitted, rest = case.take(range(0, case.n, 2)), case.take(range(1, case.n, 2))
    if case.make is not None:
        target.query(rest, "score")
    target.query(fitted, "fit")
    need(not target.fresh(fitted).any(), "fitted rows that are called fresh")
    try:
        target.query(case.rows, "score")
    except NotFresh:
        return
    need(False, "answers")
