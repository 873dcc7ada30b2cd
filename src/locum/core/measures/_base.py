"""What every measure shares: checking, the correction for candidates, the record, and two ways to an interval."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from locum.core import bounds
from locum.core._reading import READERS
from locum.core.bounds import Interval
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity

__all__ = ["Array", "FEW", "Measure", "RowMeasure", "ErrorMeasure", "mean_score", "rare_share", "centre", "constant"]

Array = NDArray[np.float64]

FEW = 5.0  # errors that rest on fewer rows than this are bounded by how rare they are, not by their spread


class Measure(ABC):
    """How well predictions stand in for answers.

    A measure says what it reads (`kind`: "class", "probability", "value", "interval", "ranking" or "sequence") and
    how to get an estimate with its interval; checking the data, the correction for candidates and the record are
    done here. `truth` is what the target answered, `prediction` what the stand-in said.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    greater_is_better: ClassVar[bool] = True

    @abstractmethod
    def estimate(
        self, truth: Any, prediction: Any, *, weights: Any, groups: Any, level: float, random_state: Any
    ) -> tuple[float, Interval]:
        """The measure on checked data, and its interval at `level` for independent rows, or groups of rows."""

    @final
    def fidelity(
        self,
        truth: Any,
        prediction: Any,
        *,
        weights: Any = None,
        groups: Any = None,
        level: float = 0.95,
        candidates: int = 1,
        region: str = "",
        how: str = "fresh queries",
        random_state: Any = 0,
    ) -> Fidelity:
        """Measure the agreement of `prediction` with `truth`, with bounds.

        Parameters
        ----------
        truth, prediction : array-like of n rows
            The target's answers and the stand-in's, in the same order.
        weights : array-like of shape (n,), optional
            Weight of each row, 0 or more; estimates are self-normalised. Rows of weight 0 are left out.
        groups : array-like of shape (n,), optional
            Group of each row, when rows within a group are alike (one patient, one series): the interval then rests
            on the number of groups.
        level : float, default=0.95
            Level of the interval.
        candidates : int, default=1
            Number of stand-ins measured on these rows, of which the best is reported.
        region : str, default=""
            Where the rows came from.
        how : str, default="fresh queries"
            How the rows were sampled.
        random_state : int, Generator or None, default=0
            Seed of the bootstrap and of the betting order.

        Raises
        ------
        InvalidData
            Data that do not fit together, or on which the measure is not defined.
        """
        if isinstance(candidates, bool) or not isinstance(candidates, (int, np.integer)) or candidates < 1:
            raise InvalidData(f"expected candidates to be a whole number of 1 or more, got {candidates!r}")
        answers, said = READERS[self.kind](truth, prediction)
        _, codes = bounds.check_sample(len(answers), weights, groups, level)
        if weights is not None:
            keep = np.asarray(weights, dtype=float) > 0
            answers, said, weights = answers[keep], said[keep], np.asarray(weights, dtype=float)[keep]
            codes = None if codes is None else codes[keep]
            weights, codes = bounds.check_sample(len(answers), weights, codes, level)
        corrected = 1.0 - (1.0 - level) / candidates
        value, interval = self.estimate(
            answers, said, weights=weights, groups=codes, level=corrected, random_state=random_state
        )
        interval = interval.including(value)
        return Fidelity(
            self.name, float(value), interval.lower, interval.upper, level, len(answers), region, how,
            interval.method, int(candidates), None if codes is None else int(codes.max()) + 1, self.greater_is_better,
        )  # fmt: skip


class RowMeasure(Measure):
    """A weighted mean of row scores that lie within `limits`.

    The interval is that of :func:`~locum.core.bounds.bounded_mean`: exact binomial where all scores are at the ends of
    `limits` and rows are independent and of equal weight.
    """

    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @abstractmethod
    def scores(self, truth: Any, prediction: Any) -> Array:
        """The score of each row, shape (n,); a row's score must not depend on the other rows."""

    @final
    def estimate(
        self, truth: Any, prediction: Any, *, weights: Any, groups: Any, level: float, random_state: Any
    ) -> tuple[float, Interval]:
        return mean_score(self.scores(truth, prediction), self.limits, weights, groups, level, random_state)


class ErrorMeasure(Measure):
    """A function of mean row errors, such as R²; its interval is a studentised bootstrap on a stable scale.

    Where the error rests on fewer than about five rows (a stand-in that is exact but for a few) no bootstrap holds.
    Then the share of rows in error gets an exact binomial bound, and those rows the largest error seen or the
    largest of the constant stand-in: with no error at all the interval still has a width. An error that is the same on
    every row is the case of no exception seen: the interval is widened for the exceptions there may be.

    Errors have no known limit, so no interval can promise its level whatever their distribution: with few rows and
    errors that are mostly small and seldom very large it covers less, by what ``benchmarks/speed/coverage`` records.
    """

    @abstractmethod
    def terms(self, truth: Any, prediction: Any) -> Array:
        """What is averaged, shape (n, k): the row's error (0 or more), then the error of the best constant stand-in
        in the same unit, then whatever else :meth:`combine` needs."""

    @abstractmethod
    def combine(self, means: Array) -> Array:
        """Mean terms of shape (..., k) to the measure on a scale where its spread is steady, shape (...); monotone in
        the first term. The log of an error, unless :meth:`restore` says otherwise."""

    def restore(self, steady: Any) -> float:
        """From that scale to the measure."""
        return float(np.exp(steady))

    @final
    def estimate(
        self, truth: Any, prediction: Any, *, weights: Any, groups: Any, level: float, random_state: Any
    ) -> tuple[float, Interval]:
        terms = self.terms(truth, prediction)
        sums, mass = bounds.unit_sums(terms, weights, groups)
        mean = sums.sum(axis=0) / mass.sum()
        each, largest = sums[:, 0] / mass, float(terms[:, :2].max())
        if largest == 0.0:
            raise InvalidData(f"{self.name} has no scale: the target's answers are constant, and met exactly; ask other rows")
        even = bool(each.max() - each.min() <= 1e-12 * each.max())
        bearing = 0.0 if even else float(sums[:, 0].sum() ** 2 / (sums[:, 0] ** 2).sum())
        rare = bearing < min(FEW, len(mass) / 2)
        ends: list[Any] = []
        with np.errstate(all="ignore"):  # the log of no error at all is -inf, and means what it should
            value = self.restore(self.combine(mean))
            if rare:
                share = rare_share(bearing, mass, level)
                for error in ((1.0 - share) * mean[0] + share * largest, (1.0 - share) * mean[0] if even else 0.0):
                    ends.append(self.combine(np.concatenate([[error], mean[1:]])))
            if not rare or (even and each.max() > 0.0):
                found = bounds.bootstrap(terms, self.combine, level, weights=weights, groups=groups, random_state=random_state)
                ends += [found.lower, found.upper]
            restored = [self.restore(end) for end in ends]
        if not np.all(np.isfinite([value, *restored])):
            raise InvalidData(
                f"{self.name} has no finite interval at level {level:g} on {len(mass)} independent rows or groups: ask for more"
            )
        return value, Interval(min(restored), max(restored), level, "rare-error bound" if rare else found.method)


def rare_share(bearing: float, mass: Array, level: float) -> float:
    """Upper bound of the share of the weight that is in units of which about `bearing` were seen: the heaviest, if need be."""
    share = float(special.betaincinv(bearing + 1.0, len(mass) - bearing, level))
    return min(1.0, share * float(mass.max() / mass.mean()))


def mean_score(
    scores: Array, limits: tuple[float, float], weights: Any, groups: Any, level: float, random_state: Any
) -> tuple[float, Interval]:
    """Weighted mean of bounded scores with the tightest interval that holds for them."""
    sums, mass = bounds.unit_sums(scores[:, None], weights, groups)
    value = float(np.clip(sums.sum() / mass.sum(), *limits))
    return value, bounds.bounded_mean(scores, *limits, level, weights=weights, groups=groups, random_state=random_state)


def centre(values: Array) -> Array:
    """Column means, summed in sorted order so that they do not depend on the order of the rows."""
    return np.asarray(np.sort(values, axis=0).mean(axis=0))


def constant(values: Array) -> bool:
    """Whether every column is one number, up to rounding."""
    reach = values.max(axis=0) - values.min(axis=0)
    return bool(np.all(reach <= 1e-12 * np.abs(values).max(axis=0)))
