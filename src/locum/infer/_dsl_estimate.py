"""The estimators of a regression with two kinds of labels: the design-based one, and those it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.infer._dsl_rows import Sample
from locum.infer._first_stage import from_surrogate
from locum.infer._moments import LINKS, Link, NoSolution, Stack, freedom, residuals_of_effects, sandwich
from locum.infer._ppi import prediction_powered
from locum.infer._results import Estimates, undefined

__all__ = ["Corrected", "Regression"]

Array = NDArray[np.float64]

_ABSORBED = 1e-9  # of a column's size, below which the fixed effects explain all of it


@dataclass(frozen=True)
class Corrected:
    """The design-based estimate with one assignment to folds.

    Attributes
    ----------
    params : ndarray of shape (q,)
    influence : ndarray of shape (N, q)
    vcov : ndarray of shape (q, q)
    first, second : ndarray of shape (q, q)
        With n labels the covariance is first + second; with m it is (n / m) first + second.
    freedom : ndarray of shape (q,)
        Degrees of freedom that each variance rests on: the number of units, as far as their influences are alike.
    """

    params: Array
    influence: Array
    vcov: Array
    first: Array
    second: Array
    freedom: Array


@dataclass(frozen=True)
class Regression:
    """What is estimated, on which rows.

    Parameters
    ----------
    sample : Sample
    link : Link
    small : bool
        Whether variances are scaled up for small samples (HC1).
    finite : bool
        Whether the target is the coefficients that experts would give on these very rows.
    """

    sample: Sample
    link: Link
    small: bool
    finite: bool

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the columns; fixed effects leave no room for an intercept."""
        terms = self.sample.formula.terms
        return tuple(name for name in terms if name != "Intercept") if self.sample.effects else terms

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        outcomes = self.sample.formula.outcomes
        return self.terms if len(outcomes) == 1 else tuple(f"{one}: {term}" for one in outcomes for term in self.terms)

    def _matrices(self, frame: object, predictions: Mapping[str, Array] | None = None) -> tuple[Array, Array]:
        X, Y = self.sample.formula.evaluate(frame, predictions, self.sample.labels)
        keep = [name in self.terms for name in self.sample.formula.terms]
        return (X if all(keep) else X[:, keep]), Y

    @cached_property
    def expert(self) -> tuple[Array, Array]:
        """Columns and outcomes of the labelled rows, from expert labels; outcomes must lie in the range of the link."""
        X, Y = self._matrices(self.sample.labelled_frame)
        low, high = self.link.range
        if Y.min() < low or Y.max() > high:
            raise InvalidData(
                f"expected outcomes within [{low:g}, {high:g}] for the {self.link.name} link, got [{Y.min():g}, {Y.max():g}]"
            )
        return X, Y

    # ------------------------------------------------------------------ the design-based estimate
    def corrected(self, predictions: Mapping[str, Array]) -> Corrected:
        """Solve the doubly robust equations with these predictions of every row."""
        sample = self.sample
        n, rows, w = len(sample.frame), sample.rows, 1.0 / sample.pi[sample.rows]
        X, Y = self._matrices(sample.frame, predictions)
        X1, Y1 = self.expert
        absorbed = 0
        if sample.effects:
            adjusted = np.hstack([X, Y])
            adjusted[rows] += w[:, None] * (np.hstack([X1, Y1]) - adjusted[rows])
            left, absorbed = residuals_of_effects(adjusted, sample.effects)
            means = adjusted - left
            _require_left(left, adjusted, self.terms)
            p = X.shape[1]
            X, Y, X1, Y1 = X - means[:, :p], Y - means[:, p:], X1 - means[rows, :p], Y1 - means[rows, p:]
        stack = Stack(np.vstack([X, X1, X[rows]]), np.vstack([Y, Y1, Y[rows]]), np.concatenate([np.ones(n), w, -w]))
        solved = stack.solve(self.link, self.terms)
        guessed, gained, lost = np.split(solved.influence, [n, n + len(rows)])
        correction = gained + lost
        influence = guessed.copy()
        influence[rows] += correction
        vcov, first, freedom = self._covariances(influence, correction, absorbed)
        return Corrected(solved.params, influence, vcov, first, vcov - first, freedom)

    def _covariances(self, influence: Array, correction: Array, absorbed: int) -> tuple[Array, Array, Array]:
        """The covariance, the part of it that falls as more rows are labelled, and the freedom of its diagonal."""
        sample, pi = self.sample, self.sample.pi[self.sample.rows]
        groups = sample.groups[sample.rows] if sample.groups is not None and sample.whole_groups() else None
        first = sandwich(correction, groups)
        if self.finite:
            reach = correction * np.sqrt(1.0 - pi)[:, None]
            return sandwich(reach, groups), first, freedom(reach, groups)
        factor = self._factor(len(influence), sample.groups, absorbed)
        return factor * sandwich(influence, sample.groups), factor * first, freedom(influence, sample.groups)

    def _factor(self, n: int, groups: NDArray[np.intp] | None, absorbed: int = 0) -> float:
        if not self.small:
            return 1.0
        left = n - len(self.terms) - absorbed
        if left <= 0:
            raise InvalidData(f"expected more rows than coefficients, got {n} rows: use cov_type='HC0' or fewer terms")
        if groups is None:
            return n / left
        count = len(np.unique(groups))
        return count / (count - 1) * (n - 1) / left

    # ------------------------------------------------------------------ the estimates it is compared with
    def naive(self, method: str, frame: object, predictions: Mapping[str, Array] | None = None) -> tuple[Estimates, Array]:
        """An ordinary regression on all rows that takes all labels at their word, and its influences."""
        X, Y = self._matrices(frame, predictions)
        return self._plain(method, X, Y, np.ones(len(X)), np.arange(len(X)))

    def expert_only(self) -> Estimates:
        """The labelled rows alone, weighted by 1/π."""
        return self._plain("expert labels only", *self.expert, 1.0 / self.sample.pi[self.sample.rows], self.sample.rows)[0]

    def _plain(self, method: str, X: Array, Y: Array, weights: Array, rows: NDArray[np.intp]) -> tuple[Estimates, Array]:
        sample, absorbed = self.sample, 0
        if sample.effects:
            table = np.hstack([X, Y]) * 1.0
            kept = [np.unique(codes[rows], return_inverse=True)[1] for codes in sample.effects]
            if np.ptp(weights) > 0:
                raise NoSolution("fixed effects of labelled rows alone need equal sampling probabilities")
            left, absorbed = residuals_of_effects(table, kept)
            _require_left(left, table, self.terms)
            X, Y = left[:, : X.shape[1]], left[:, X.shape[1] :]
        solved = Stack(X, Y, weights).solve(self.link, self.terms)
        groups = None if sample.groups is None else np.unique(sample.groups[rows], return_inverse=True)[1]
        vcov = self._factor(len(X), groups, absorbed) * sandwich(solved.influence, groups)
        return Estimates(method, self.names, solved.params, vcov), solved.influence

    def surrogate_only(self) -> tuple[Estimates, Array | None]:
        """The first surrogate column in the place of every label."""
        method, found = "surrogate labels only", self.surrogate_predictions()
        if found is None:
            return undefined(method, self.names, "a surrogate is a score and no label"), None
        try:
            return self.naive(method, self.sample.frame, found)
        except (NoSolution, InvalidData) as error:
            return undefined(method, self.names, str(error)), None

    def surrogate_predictions(self) -> dict[str, Array] | None:
        """The first surrogate of each variable as predictions; None where one is a score."""
        sample = self.sample
        found = {name: from_surrogate(sample.frame[sample.surrogates[name][0]], one) for name, one in sample.labels.items()}
        return (
            None
            if any(one is None for one in found.values())
            else {name: one for name, one in found.items() if one is not None}
        )

    def plugged_in(self, predictions: Mapping[str, Array]) -> Estimates:
        """Predictions where there is no expert label, as if they were labels."""
        mixed = {}
        for name, values in predictions.items():
            mixed[name] = values.copy()
            mixed[name][self.sample.rows] = self.sample.labels[name].indicators()
        return self.naive("predicted labels plugged in", self.sample.frame, mixed)[0]

    def prediction_powered(self) -> Estimates:
        """PPI++ with the first surrogate, where only the outcome is predicted."""
        sample, method = self.sample, "prediction-powered (PPI++)"
        found = self.surrogate_predictions()
        covariates_seen = set(sample.labels) <= sample.formula.outcome_used and len(sample.formula.outcomes) == 1
        if (
            found is None
            or not covariates_seen
            or sample.groups is not None
            or sample.effects
            or len(sample.rows) == len(sample.frame)
        ):
            why = "is for one predicted outcome, a surrogate label, independent rows, no fixed effects and rows without label"
            return undefined(method, self.names, why)
        if (sample.pi >= 1.0).any():
            return undefined(method, self.names, "needs sampling probabilities below 1")
        X, Y = self._matrices(sample.frame, found)
        params, vcov, tuning = prediction_powered(
            X, self.expert[1][:, 0], Y[:, 0], sample.rows, sample.pi, self.link, self.terms
        )
        return Estimates(method, self.names, params, vcov, {"lambda": f"{tuning:.3f}"})


def attempt(method: str, names: tuple[str, ...], make: Callable[[], Estimates]) -> Estimates:
    """An estimate, or what kept it from being made."""
    try:
        return replace(make(), method=method)
    except (NoSolution, InvalidData) as error:
        return undefined(method, names, str(error))


def _require_left(left: Array, before: Array, terms: tuple[str, ...]) -> None:
    size = np.sqrt((before**2).mean(axis=0))
    absorbed = [name for name, a, b in zip(terms, np.sqrt((left**2).mean(axis=0)), size, strict=False) if a <= _ABSORBED * b]
    if absorbed:
        raise InvalidData(f"{', '.join(absorbed)} do not vary within the fixed effects, so they have no coefficient: drop them")


def link_of(model: str) -> Link:
    """The link of a named model."""
    return LINKS[{"mean": "identity", "lm": "identity", "felm": "identity", "logit": "logit", "poisson": "log"}[model]]
