"""Checks of a model that is to stand in for something, and of a stand-in that does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from locum.core.errors import InvalidData
from locum.core.surrogate import StandIn
from locum.testing import _estimators, _standins

__all__ = ["check_surrogate", "surrogate_checks"]


def check_surrogate(
    thing: Any, *, rows: Any = None, answers: Any = None, limit: str | None = None, skip: Iterable[str] = ()
) -> None:
    """See that a model behaves as one must that others will trust in the place of something else.

    What is checked depends on what it is: a classifier or a regressor; whether it takes text and missing values (its
    scikit-learn tags say so); which of the abilities `Predicts`, `Readable`, `ChoosesQueries` and `Saves` of
    `locum.core.surrogate` it has; or a fitted `StandIn`.

    Parameters
    ----------
    thing : estimator or StandIn
        Not fitted, with tiny settings, since it will be fitted some thirty times; or a fitted stand-in.
    rows, answers : rows and array of shape (n,) or (n, k), default=None
        To learn from, for a model that cannot learn from any small table; 60 planted rows where None. For a stand-in,
        ``rows`` are those to ask it; drawn from the ranges of its region where None.
    limit : str or None, default=None
        Name of the setting that says how many statements a `Readable` may have.
    skip : iterable of str, default=()
        Names of checks to leave out.

    Raises
    ------
    CheckFailed
        By the first check that fails: which, what was expected, what came, what to do.
    InvalidData
        Nothing that can be checked, or a name in ``skip`` that no check has.

    Notes
    -----
    Cost: some thirty fits to 60 rows; five seconds for a rule list.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> check_surrogate(DecisionTreeClassifier(max_depth=3))
    """
    for _, run in surrogate_checks(thing, rows=rows, answers=answers, limit=limit, skip=skip):
        run()


def surrogate_checks(
    thing: Any, *, rows: Any = None, answers: Any = None, limit: str | None = None, skip: Iterable[str] = ()
) -> Iterator[tuple[str, Callable[[], None]]]:
    """The checks of `check_surrogate` one by one, as (name, callable), for a test a check; the parameters are its.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> names = [name for name, run in surrogate_checks(Ridge())]
    >>> names[0], "saved and read back" in names
    ('one answer a row', False)
    """
    if isinstance(thing, StandIn):
        if answers is not None or limit is not None:
            raise InvalidData("a stand-in is fitted already: leave out answers= and limit=")
        yield from _standins.suite.named(_standins.Fitted(thing, rows), f"the stand-in {type(thing.model).__name__}", skip)
        return
    if isinstance(thing, type) or not (hasattr(thing, "get_params") and hasattr(thing, "fit")):
        came = f"the class {thing.__name__} itself" if isinstance(thing, type) else type(thing).__name__
        raise InvalidData(f"expected an estimator in scikit-learn's manner, or a StandIn, got {came}")
    learner = _estimators.Learner.of(thing, rows, answers, limit)
    yield from _estimators.suite.named(learner, type(thing).__name__, skip)
