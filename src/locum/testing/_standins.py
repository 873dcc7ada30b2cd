"""Checks of a stand-in that is fitted."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core._content import Rows
from locum.core.errors import OutsideRegion
from locum.core.export import load
from locum.core.surrogate import Saves, StandIn
from locum.testing._checks import Suite, need, need_equal, refusal
from locum.testing._tables import drawn, without_last_column

__all__ = ["Fitted", "suite"]

_ROWS = 60
_SAME_SUMS = 1e-6

suite: Suite[Fitted] = Suite()


@dataclass(frozen=True, eq=False)
class Fitted:
    """A stand-in and rows to ask it.

    Attributes
    ----------
    standin : StandIn
    rows : rows or None
        Drawn from the ranges of its region where None.
    """

    standin: StandIn
    rows: Any

    @cached_property
    def X(self) -> Any:
        region = self.standin.region
        return self.standin.domain.decode(drawn(region.domain, _ROWS)) if self.rows is None else self.rows

    @cached_property
    def beyond(self) -> Any:
        """Rows of which every other one leaves a range; none where no column is numeric."""
        domain = self.standin.region.domain
        Z = self.standin.domain.encode(self.X)
        for j in np.flatnonzero(~domain.categorical).tolist():
            low, high = domain.columns[j].low or 0.0, domain.columns[j].high or 0.0
            Z[::2, j] = high + 1.0 + 10 * (high - low)
        return self.standin.domain.decode(Z)

    def said(self, X: Any) -> NDArray[Any]:
        return np.asarray(self.standin.predict(X, outside="ignore"))


@suite.check(
    "one answer a row",
    expected="labels among the target's classes, probabilities that sum to one, or finite values, one a row",
    advice="See what the model's predict gives, and predict_proba where the target answers with probabilities.",
)
def _one_answer_a_row(case: Fitted) -> None:
    said, target = case.said(case.X), case.standin.target
    need(len(said) == Rows(case.X).n, f"{len(said)} answers for {Rows(case.X).n} rows")
    if target["output"] == "class":
        need(said.ndim == 1 and np.isin(said, target["classes"]).all(), f"answers such as {said.ravel()[:1]}")
    elif target["output"] == "probability":
        need(said.ndim == 2 and said.min() >= 0 and np.allclose(said.sum(axis=1), 1), f"rows such as {said[:1]}")
    else:
        need(np.isfinite(said).all(), "values that are not finite")


@suite.check(
    "a row alone",
    expected="a row to be answered alone as it is among others",
    advice="Let nothing in predict depend on the other rows, such as their mean.",
)
def _row_alone(case: Fitted) -> None:
    picked = range(0, Rows(case.X).n, 5)
    alone = np.concatenate([case.said(Rows(case.X).take(np.array([i]))) for i in picked])
    need_equal(alone, case.said(case.X)[list(picked)], "answers alone and together", rtol=_SAME_SUMS)


@suite.check(
    "given rows untouched",
    expected="rows to be after predict what they were before",
    advice="Copy before changing anything in place.",
)
def _given_rows(case: Fitted) -> None:
    before = Rows(case.X).keys
    case.said(case.X)
    need(Rows(case.X).keys == before, "other rows")


@suite.check(
    "the program is the model",
    expected="the program to predict what the model predicts, to the bit",
    advice="Let predict run program_ itself.",
    when=lambda case: case.standin.program is not None,
)
def _program_is_the_model(case: Fitted) -> None:
    program, Z = case.standin.program, case.standin.domain.encode(case.X)
    assert program is not None
    need_equal(program.predict(Z), case.standin.model.predict(case.X), "predictions of program and model")


@suite.check(
    "saved and read back",
    expected="a stand-in that was saved and read back to predict the same to the bit, with the same fidelity",
    advice="Keep every number in to_state as it is; JSON and arrays keep floats exactly.",
    when=lambda case: isinstance(case.standin.model, Saves),
)
def _saved(case: Fitted) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.standin"
        case.standin.save(path)
        again = load(path, classes=[type(case.standin.model)])
    need_equal(np.asarray(again.predict(case.X, outside="ignore")), case.said(case.X), "predictions")
    need(again.fidelity == case.standin.fidelity, f"fidelity {again.fidelity}")


@suite.check(
    "outside the region",
    expected="a row outside the region to be warned of, or masked, and only such a row; its answer to stay as it is",
    advice="Use StandIn.predict as it is.",
)
def _outside(case: Fitted) -> None:
    for X in (case.X, case.beyond):
        inside = case.standin.region.inside(X)
        masked = case.standin.predict(X, outside="abstain")
        mask = np.ma.getmaskarray(masked).reshape(len(inside), -1).all(axis=1)
        need_equal(mask, ~inside, "masks and rows outside")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            said = case.standin.predict(X)
        warned = any(issubclass(one.category, OutsideRegion) for one in caught)
        need(warned == (not inside.all()), f"{'a' if warned else 'no'} warning for {int((~inside).sum())} rows outside")
        need_equal(said, case.said(X), "answers with and without a warning")


@suite.check(
    "surer inside than outside",
    expected="probabilities outside the region to lie nearer to uniform than the model's own",
    advice="Use StandIn.predict_proba as it is.",
    when=lambda case: case.standin.target["output"] != "value" and hasattr(case.standin.model, "predict_proba"),
)
def _surer_inside(case: Fitted) -> None:
    own = case.standin.predict_proba(case.beyond, outside="ignore")
    widened = case.standin.predict_proba(case.beyond)
    need(np.allclose(widened.sum(axis=1), 1), "probabilities that do not sum to one")
    surer = widened.max(axis=1) > own.max(axis=1) + 1e-12
    need(not surer.any(), f"{int(surer.sum())} rows that are surer")
    out = ~case.standin.region.in_range(case.beyond)
    need(np.allclose(widened[out], 1 / own.shape[1]), "rows out of range that are not uniform")


@suite.check(
    "other columns refused",
    expected="a ValueError for rows that lack a column of the fit",
    advice="Compare the columns with those of the fit before anything else.",
)
def _other_columns(case: Fitted) -> None:
    with refusal("rows that lack a column"):
        case.said(without_last_column(case.X))
