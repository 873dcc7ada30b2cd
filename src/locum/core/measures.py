"""Measures of fidelity: how well a stand-in's predictions agree with the target's answers.

Each measure reads its data, gives an estimate and an interval that holds at the n at hand, and so a
:class:`~locum.core.fidelity.Fidelity`. To add one, subclass :class:`RowMeasure` (a mean of bounded row scores),
:class:`ErrorMeasure` (a function of mean errors) or :class:`Measure` itself.
"""

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

__all__ = [
    "Measure", "RowMeasure", "ErrorMeasure", "MEASURES", "measure", "default_measure",
    "Agreement", "CohenKappa", "BalancedAgreement",
    "TotalVariationSimilarity", "MeanSquaredProbabilityError", "KLDivergence",
    "R2", "RMSE", "MAE", "PearsonCorrelation", "IntervalCoverage",
    "KendallTau", "SpearmanCorrelation", "TopKOverlap", "NDCG",
    "TokenAgreement", "ExactMatch", "EditSimilarity",
]  # fmt: skip

Array = NDArray[np.float64]

FEW = 10.0  # errors that rest on fewer rows than this are bounded by how rare they are, not by their spread


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

    The interval is exact binomial where all scores are at the ends of `limits` (Korn-Graubard with weights or
    groups), else that of :func:`~locum.core.bounds.bounded_mean`.
    """

    limits: ClassVar[tuple[float, float]] = (0.0, 1.0)

    @abstractmethod
    def scores(self, truth: Any, prediction: Any) -> Array:
        """The score of each row, shape (n,); a row's score must not depend on the other rows."""

    @final
    def estimate(
        self, truth: Any, prediction: Any, *, weights: Any, groups: Any, level: float, random_state: Any
    ) -> tuple[float, Interval]:
        return _mean_score(self.scores(truth, prediction), self.limits, weights, groups, level, random_state)


class ErrorMeasure(Measure):
    """A function of mean row errors, such as R²; its interval is a studentised bootstrap on a stable scale.

    Where the error rests on fewer than about ten rows (a stand-in that is exact but for a few) no bootstrap holds.
    Then the share of rows in error gets an exact binomial bound, and those rows the largest error seen or the
    largest of the constant stand-in: with no error at all the interval still has a width.
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
        with np.errstate(divide="ignore"):  # the log of no error at all is -inf, and means what it should
            value = self.restore(self.combine(mean))
        errors, units = sums[:, 0], len(mass)
        bearing = float(errors.sum() ** 2 / (errors**2).sum()) if errors.max() > 0 else 0.0
        if bearing < min(FEW, units / 2):
            share = float(special.betaincinv(bearing + 1.0, units - bearing, level))
            bad, good = mean.copy(), mean.copy()
            bad[0], good[0] = (1.0 - share) * mean[0] + share * terms[:, :2].max(), 0.0
            with np.errstate(divide="ignore"):
                ends = sorted([self.restore(self.combine(bad)), self.restore(self.combine(good))])
            return value, Interval(ends[0], ends[1], level, "rare-error bound")
        found = bounds.bootstrap(terms, self.combine, level, weights=weights, groups=groups, random_state=random_state)
        ends = sorted([self.restore(found.lower), self.restore(found.upper)])
        return value, Interval(ends[0], ends[1], level, found.method)


def _mean_score(
    scores: Array, limits: tuple[float, float], weights: Any, groups: Any, level: float, random_state: Any
) -> tuple[float, Interval]:
    """Weighted mean of bounded scores with the tightest interval that holds for them."""
    low, high = limits
    sums, mass = bounds.unit_sums(scores[:, None], weights, groups)
    value = float(np.clip(sums.sum() / mass.sum(), low, high))
    share = (scores - low) / (high - low)
    if not np.all((share == 0.0) | (share == 1.0)):
        return value, bounds.bounded_mean(scores, low, high, level, weights=weights, groups=groups, random_state=random_state)
    if weights is None and groups is None:
        found = bounds.binomial(float(share.sum()), len(share), level)
    else:
        found = bounds.survey_proportion(share, level, weights=weights, groups=groups)
    return value, Interval(low + (high - low) * found.lower, low + (high - low) * found.upper, level, found.method)


# --- classes ---------------------------------------------------------------------------------------------------------


@final
class Agreement(RowMeasure):
    """Share of rows on which the stand-in names the class the target names: ``mean(truth == prediction)``, in [0, 1].

    A constant stand-in scores the frequency of its class, so read it beside one. Cost: O(n).

    Examples
    --------
    >>> print(Agreement().fidelity(["a", "b"] * 100, ["a", "b"] * 95 + ["b", "a"] * 5))
    agreement 0.950 [0.909, 0.976] at 95 %, n=200 fresh queries
    """

    name = "agreement"
    kind = "class"

    def scores(self, truth: Any, prediction: Any) -> Array:
        return (truth == prediction).astype(float)


@final
class CohenKappa(Measure):
    """Agreement beyond chance: ``1 - D / E``, D the share that disagrees, E what would if both named classes blindly.

    1 for a perfect copy, 0 for a constant stand-in, negative below chance; no unit. Interval: Korn-Graubard on D at the
    effective sample size that kappa's linearised variance implies, divided by E. Cost: O(n log n).
    Undefined when the target names one class. Reference: Cohen, Educational and Psychological Measurement 20 (1960).
    """

    name = "cohen_kappa"
    kind = "class"

    def estimate(
        self, truth: Any, prediction: Any, *, weights: Any, groups: Any, level: float, random_state: Any
    ) -> tuple[float, Interval]:
        _several_classes(truth, self.name)
        w = np.ones(len(truth)) if weights is None else weights
        size = int(max(truth.max(), prediction.max())) + 1
        p, q = (np.bincount(side, w, size) / w.sum() for side in (truth, prediction))
        differs = (truth != prediction).astype(float)
        rate, chance = float(w @ differs / w.sum()), float(p @ q)
        expected = 1.0 - chance
        slope = 2.0 * chance - q[truth] - p[prediction]  # effect of each row on `expected`
        found = bounds.survey_proportion(
            differs, level, weights=weights, groups=groups, influence=differs - rate - rate / expected * slope
        )
        return 1.0 - rate / expected, _mirrored(found, expected)


@final
class BalancedAgreement(Measure):
    """Agreement within each class that the target names, averaged over classes: ``mean_c P(prediction = c | truth = c)``.

    In [0, 1]; a constant stand-in scores 1 / classes. Interval: Korn-Graubard, each row weighing 1 / (its class's size).
    Cost: O(n log n). Undefined when the target names one class.
    """

    name = "balanced_agreement"
    kind = "class"

    def estimate(
        self, truth: Any, prediction: Any, *, weights: Any, groups: Any, level: float, random_state: Any
    ) -> tuple[float, Interval]:
        _several_classes(truth, self.name)
        w = np.ones(len(truth)) if weights is None else weights
        differs = (truth != prediction).astype(float)
        size = np.bincount(truth, w)
        within = np.bincount(truth, w * differs) / np.where(size > 0, size, 1.0)
        found = bounds.survey_proportion(
            differs, level, weights=w / size[truth], groups=groups, influence=differs - within[truth]
        )
        return 1.0 - float(within[size > 0].mean()), _mirrored(found, 1.0)


def _several_classes(truth: Any, name: str) -> None:
    if truth.min() == truth.max():
        raise InvalidData(f"{name} is undefined when the target names one class: use agreement, or ask other rows")


def _mirrored(error: Interval, scale: float) -> Interval:
    """The interval of ``1 - error / scale``."""
    return Interval(1.0 - error.upper / scale, 1.0 - error.lower / scale, error.level, error.method)


# --- probabilities ---------------------------------------------------------------------------------------------------


@final
class TotalVariationSimilarity(RowMeasure):
    """One minus the total variation between the two distributions, averaged: ``1 - mean(½ Σ_c |p_c - q_c|)``, in [0, 1].

    The largest difference in the probability that target and stand-in give any event, taken from 1. Cost: O(n C).
    """

    name = "total_variation_similarity"
    kind = "probability"

    def scores(self, truth: Any, prediction: Any) -> Array:
        return np.clip(1.0 - 0.5 * np.abs(truth - prediction).sum(axis=1), 0.0, 1.0)


@final
class MeanSquaredProbabilityError(RowMeasure):
    """Brier-type error against the target's probabilities: ``mean(Σ_c (p_c - q_c)²)``, in [0, 2], lower is better.

    Cost: O(n C). Reference: Brier, Monthly Weather Review 78 (1950), with the target's distribution as outcome.
    """

    name = "mean_squared_probability_error"
    kind = "probability"
    greater_is_better = False
    limits = (0.0, 2.0)

    def scores(self, truth: Any, prediction: Any) -> Array:
        return np.clip(((truth - prediction) ** 2).sum(axis=1), 0.0, 2.0)


@final
class KLDivergence(ErrorMeasure):
    """Information lost when the stand-in's distribution replaces the target's: ``mean(Σ_c p_c log(p_c / q_c))``, in nats.

    Lower is better. Both are first raised to `floor` and rescaled, since one probability of zero would make it infinite.
    Cost: O(n C) and a bootstrap.

    Parameters
    ----------
    floor : float, default=1e-6
        Least probability.
    """

    name = "kl_divergence"
    kind = "probability"
    greater_is_better = False

    def __init__(self, floor: float = 1e-6) -> None:
        if not 0.0 < floor < 0.5:
            raise InvalidData(f"expected a floor between 0 and 0.5, got {floor!r}")
        self.floor = floor

    def terms(self, truth: Any, prediction: Any) -> Array:
        p, q = (np.maximum(side, self.floor) for side in (truth, prediction))
        p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
        usual = _centre(p)
        return np.column_stack([np.maximum((p * np.log(p / r)).sum(axis=1), 0.0) for r in (q, usual)])

    def combine(self, means: Array) -> Array:
        return np.log(means[..., 0])


# --- values ----------------------------------------------------------------------------------------------------------


@final
class R2(ErrorMeasure):
    """Share of the target's variance that the stand-in accounts for: ``1 - Σ (y - ŷ)² / Σ (y - ȳ)²``; at most 1.

    0 for the constant mean, negative below it; no unit. Several outputs: sums run over all of them. Interval:
    studentised bootstrap of log(1 - R²). Cost: O(n) and a bootstrap. Undefined when the target's answers are constant.

    Examples
    --------
    >>> y = np.linspace(0.0, 1.0, 500)
    >>> print(R2().fidelity(y, y + 0.1 * np.sin(50 * y)))
    r2 0.940 [0.934, 0.946] at 95 %, n=500 fresh queries
    """

    name = "r2"
    kind = "value"

    def terms(self, truth: Any, prediction: Any) -> Array:
        truth, prediction = truth.reshape(len(truth), -1), prediction.reshape(len(truth), -1)
        away = truth - _centre(truth)
        if not np.any(away):
            raise InvalidData("r2 is undefined when the target's answers are constant: use rmse, or ask other rows")
        return np.column_stack([((truth - prediction) ** 2).sum(axis=1), (away**2).sum(axis=1), away])

    def combine(self, means: Array) -> Array:
        return np.log(means[..., 0] / (means[..., 1] - (means[..., 2:] ** 2).sum(axis=-1)))

    def restore(self, steady: Any) -> float:
        return float(1.0 - np.exp(steady))


@final
class RMSE(ErrorMeasure):
    """Root mean squared error, in the target's unit: ``sqrt(mean((y - ŷ)²))``, over rows and outputs; lower is better.

    Interval: studentised bootstrap of its log. Cost: O(n) and a bootstrap.
    """

    name = "rmse"
    kind = "value"
    greater_is_better = False

    def terms(self, truth: Any, prediction: Any) -> Array:
        truth, prediction = truth.reshape(len(truth), -1), prediction.reshape(len(truth), -1)
        return np.column_stack([((truth - other) ** 2).mean(axis=1) for other in (prediction, _centre(truth))])

    def combine(self, means: Array) -> Array:
        return 0.5 * np.log(means[..., 0])


@final
class MAE(ErrorMeasure):
    """Mean absolute error, in the target's unit: ``mean(|y - ŷ|)``, over rows and outputs; lower is better.

    Interval: studentised bootstrap of its log. Cost: O(n) and a bootstrap.
    """

    name = "mae"
    kind = "value"
    greater_is_better = False

    def terms(self, truth: Any, prediction: Any) -> Array:
        truth, prediction = truth.reshape(len(truth), -1), prediction.reshape(len(truth), -1)
        return np.column_stack([np.abs(truth - other).mean(axis=1) for other in (prediction, _centre(truth))])

    def combine(self, means: Array) -> Array:
        return np.log(means[..., 0])


@final
class PearsonCorrelation(ErrorMeasure):
    """Linear correlation of answers and predictions, in [-1, 1]: blind to shift and scale, unlike R².

    Interval: studentised bootstrap of arctanh(r). Cost: O(n) and a bootstrap. Undefined when either side is constant.
    """

    name = "pearson_correlation"
    kind = "value"

    def terms(self, truth: Any, prediction: Any) -> Array:
        if truth.ndim != 1:
            raise InvalidData(f"expected one output, shape (n,), got {truth.shape}: measure each output on its own")
        x, y = (side - _centre(side) for side in (truth, prediction))
        if not (np.any(x) and np.any(y)):
            raise InvalidData("pearson_correlation is undefined when answers or predictions are constant")
        x, y = (side / np.sqrt(np.sort(side**2).mean()) for side in (x, y))
        sign = np.full(len(x), -1.0 if x @ y < 0 else 1.0)
        y = sign * y
        return np.column_stack([(x - y) ** 2, x**2 + 1.0, x, y, x**2, y**2, sign])

    def combine(self, means: Array) -> Array:
        gap, _, mx, my, mxx, myy, sign = np.moveaxis(means, -1, 0)
        sx, sy = np.sqrt(mxx - mx**2), np.sqrt(myy - my**2)
        apart = (gap - (mx - my) ** 2 - (sx - sy) ** 2) / (2.0 * sx * sy)  # 1 - |r|, without cancellation near 1
        return sign * 0.5 * np.log((2.0 - apart) / np.maximum(apart, 0.0))

    def restore(self, steady: Any) -> float:
        return float(np.tanh(steady))


@final
class IntervalCoverage(RowMeasure):
    """Share of the target's answers inside the stand-in's intervals: ``mean(lower <= y <= upper)``, in [0, 1].

    Predictions have shape (n, 2). Compare it with the level the intervals claim: wide ones cover for free. Cost: O(n).
    """

    name = "interval_coverage"
    kind = "interval"

    def scores(self, truth: Any, prediction: Any) -> Array:
        return ((prediction[:, 0] <= truth) & (truth <= prediction[:, 1])).astype(float)


def _centre(values: Array) -> Array:
    """Column means, summed in sorted order so that they do not depend on the order of the rows."""
    return np.sort(values, axis=0).mean(axis=0)


# --- rankings --------------------------------------------------------------------------------------------------------


class _RankCorrelation(Measure):
    """A rank correlation of the rows, shape (n,), or of the items within each row, shape (n, items), averaged.

    Over rows: arctanh interval from the Hájek projection, or the rare-error bound where fewer than about ten rows
    are out of order. Within rows: the interval of a mean of scores in [-1, 1].
    """

    kind = "ranking"
    reach: ClassVar[float]  # by how much moving a share of the rows can change it, at most, per share

    @abstractmethod
    def statistic(self, x: Array, y: Array, w: Array) -> tuple[float, Array, Array]:
        """Value, influence of each row and how far out of order each row is."""

    @final
    def estimate(
        self, truth: Any, prediction: Any, *, weights: Any, groups: Any, level: float, random_state: Any
    ) -> tuple[float, Interval]:
        if truth.ndim == 2:
            ones = np.ones(truth.shape[1])
            self._check_variety(truth.T, prediction.T)
            scores = np.array([self.statistic(x, y, ones)[0] for x, y in zip(truth, prediction, strict=True)])
            return _mean_score(np.clip(scores, -1.0, 1.0), (-1.0, 1.0), weights, groups, level, random_state)
        self._check_variety(truth, prediction)
        value, influence, misplaced = self.statistic(truth, prediction, np.ones(len(truth)) if weights is None else weights)
        sums, mass = bounds.unit_sums(misplaced[:, None], weights, groups)
        bearing = float(sums.sum() ** 2 / (sums**2).sum()) if sums.max() > 1e-12 else 0.0
        if bearing < min(FEW, len(mass) / 2):
            share = float(special.betaincinv(bearing + 1.0, len(mass) - bearing, level))
            ends = sorted([np.sign(value), float(np.clip(value - np.sign(value) * self.reach * share, -1.0, 1.0))])
            return value, Interval(ends[0], ends[1], level, "rare-error bound")
        return value, bounds.linearised(value, influence, level, weights=weights, groups=groups)

    def _check_variety(self, truth: Array, prediction: Array) -> None:
        """Refuse rankings in which everything is tied (along the first axis)."""
        for side, who in ((truth, "answers"), (prediction, "predictions")):
            flat = np.atleast_1d(side.min(axis=0) == side.max(axis=0))
            if flat.any():
                where = "" if side.ndim == 1 else f" (row {int(np.argmax(flat))})"
                raise InvalidData(f"{self.name} is undefined when the {who} are all equal{where}: there is no order")


@final
class KendallTau(_RankCorrelation):
    """Kendall's tau-b: pairs in the same order less pairs in the opposite, over pairs untied, in [-1, 1].

    ``Σ_ij w_i w_j sgn(x_i - x_j) sgn(y_i - y_j) / sqrt(Σ_ij w_i w_j [x_i ≠ x_j] · Σ_ij w_i w_j [y_i ≠ y_j])``. Cost:
    O(n log² n); 1 s at n = 100,000. Undefined when either side is constant. Reference: Kendall, Biometrika 33 (1945).
    """

    name = "kendall_tau"
    reach = 4.0

    def statistic(self, x: Array, y: Array, w: Array) -> tuple[float, Array, Array]:
        total = w.sum()
        both = _below(np.stack([x, -x, x, -x]), np.stack([y, -y, -y, y]), w)
        same = (both[0] + both[1] - both[2] - both[3]) / total
        free_x, free_y = (1.0 - _tied(side, w) / total for side in (x, y))
        a, b, c = (w @ term / total for term in (same, free_x, free_y))
        tau = float(np.clip(a / np.sqrt(b * c), -1.0, 1.0))
        influence = 2.0 * (same - a) / np.sqrt(b * c) - tau * ((free_x - b) / b + (free_y - c) / c)
        return tau, influence, np.maximum((free_x + free_y) / 2.0 - np.sign(tau) * same, 0.0)


@final
class SpearmanCorrelation(_RankCorrelation):
    """Spearman's rank correlation: Pearson's correlation of the midranks, in [-1, 1]. Cost: O(n log n).

    Undefined when either side is constant. Reference: Spearman, American Journal of Psychology 15 (1904); influence
    as of a U-statistic of order three.
    """

    name = "spearman_correlation"
    reach = 6.0

    def statistic(self, x: Array, y: Array, w: Array) -> tuple[float, Array, Array]:
        total = w.sum()
        f, g = (0.5 - _above(side, w) / total for side in (x, y))
        vf, vg, cov = (w @ term / total for term in (f * f, g * g, f * g))
        dvf, dvg = (r * r + 2.0 * _above(side, w * r) / total - 3.0 * v for r, side, v in ((f, x, vf), (g, y, vg)))
        dcov = f * g + (_above(x, w * g) + _above(y, w * f)) / total - 3.0 * cov
        rho = float(np.clip(cov / np.sqrt(vf * vg), -1.0, 1.0))
        influence = dcov / np.sqrt(vf * vg) - rho / 2.0 * (dvf / vf + dvg / vg)
        return rho, influence, (f - np.sign(rho) * g) ** 2


def _tied(x: Array, w: Array) -> Array:
    """Weight of the rows with the same x, each row counted with itself."""
    codes = np.unique(x, return_inverse=True)[1]
    return np.asarray(np.bincount(codes, w)[codes], dtype=float)


def _above(x: Array, v: Array) -> Array:
    """Sum of v over rows with a larger x, plus half of it over rows with the same x."""
    codes = np.unique(x, return_inverse=True)[1]
    level = np.bincount(codes, v)
    return np.asarray((level[::-1].cumsum()[::-1] - level / 2.0)[codes], dtype=float)


def _below(x: Array, y: Array, w: Array) -> Array:
    """For each row, the weight of rows smaller in both x and y; (b, n) problems at once, in O(n log² n) each.

    Rows in the order of x are merged bottom-up in blocks: at each level, what lies in the left half of a block and is
    smaller in y is added to the rows of the right half.
    """
    lines, n = x.shape
    order = np.lexsort((-y, x), axis=-1)  # among equal x, larger y first: those never count for one another
    rank = np.stack([np.unique(line, return_inverse=True)[1] for line in np.take_along_axis(y, order, axis=1)])
    weight, position, found = w[order], np.arange(n), np.zeros((lines, n))
    half = 1
    while half < n:
        block, right = position // (2 * half), (position // half) % 2
        merged = np.argsort(((block * n + rank) * 2 + 1 - right), axis=1, kind="stable")  # equal y: right half first
        left = np.take_along_axis(weight * (1 - right), merged, axis=1).cumsum(axis=1)
        before = np.concatenate([np.zeros((lines, 1)), left], axis=1)[:, block * 2 * half]  # weight in earlier blocks
        inside = np.empty((lines, n))
        np.put_along_axis(inside, merged, left - before, axis=1)
        found += inside * right
        half *= 2
    result = np.empty((lines, n))
    np.put_along_axis(result, order, found, axis=1)
    return result


@final
class TopKOverlap(RowMeasure):
    """Share of the target's k highest items that are among the stand-in's k highest, averaged over rows, in [0, 1].

    Scores of shape (n, items), more than k items. Items tied for the last places share them: a constant stand-in
    scores k / items. Cost: O(n items log items).

    Parameters
    ----------
    k : int, default=5
        Number of highest items.
    """

    name = "top_k_overlap"
    kind = "ranking"

    def __init__(self, k: int = 5) -> None:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise InvalidData(f"expected k to be a whole number of 1 or more, got {k!r}")
        self.k = int(k)

    def scores(self, truth: Any, prediction: Any) -> Array:
        if truth.ndim != 2 or truth.shape[1] <= self.k:
            raise InvalidData(f"expected scores of shape (n, items) with more than k={self.k} items, got {truth.shape}")
        members = []
        for side in (truth, prediction):
            last = np.sort(side, axis=1)[:, -self.k, None]
            places = self.k - (side > last).sum(axis=1, keepdims=True)
            members.append((side > last) + (side == last) * places / (side == last).sum(axis=1, keepdims=True))
        return np.clip(np.minimum(*members).sum(axis=1) / self.k, 0.0, 1.0)


@final
class NDCG(RowMeasure):
    """Normalised discounted cumulative gain: the target's relevance in the stand-in's order, averaged over rows, in [0, 1].

    ``Σ_i g_(i) / log2(1 + i)`` with gains g, the target's scores (0 or more), in the order of the stand-in's scores,
    over the same in the best order. Tied items share the discounts of their places. Scores of shape (n, items). Cost:
    O(n items log items). Undefined for a row without any gain. Reference: Järvelin and Kekäläinen (2002).
    """

    name = "ndcg"
    kind = "ranking"

    def scores(self, truth: Any, prediction: Any) -> Array:
        if truth.ndim != 2 or truth.shape[1] < 2:
            raise InvalidData(f"expected scores of shape (n, items) with at least 2 items, got shape {truth.shape}")
        if truth.min() < 0 or not truth.max(axis=1).min() > 0:
            raise InvalidData("ndcg is undefined for gains below 0 or rows without any gain: shift or drop those rows")
        n, items = truth.shape
        discount = 1.0 / np.log2(np.arange(2.0, items + 2.0))
        order = np.argsort(-prediction, axis=1, kind="stable")
        ranked = np.take_along_axis(prediction, order, axis=1)
        starts = np.concatenate([np.ones((n, 1), bool), ranked[:, 1:] != ranked[:, :-1]], axis=1)
        tie = np.cumsum(starts.ravel()) - 1  # one number for each run of equal predictions, rows never sharing one
        shared = (np.bincount(tie, np.tile(discount, n)) / np.bincount(tie))[tie].reshape(n, items)
        gained = (np.take_along_axis(truth, order, axis=1) * shared).sum(axis=1)
        return np.clip(gained / (-np.sort(-truth, axis=1) @ discount), 0.0, 1.0)


# --- sequences -------------------------------------------------------------------------------------------------------


@final
class TokenAgreement(RowMeasure):
    """Share of positions with the same token, averaged over sequences: ``mean(matches / longer length)``, in [0, 1].

    A string is the sequence of its characters; give lists of tokens for words. Two empty sequences agree. Cost:
    O(total length).
    """

    name = "token_agreement"
    kind = "sequence"

    def scores(self, truth: Any, prediction: Any) -> Array:
        return np.array(
            [
                sum(a == b for a, b in zip(said, told, strict=False)) / max(len(said), len(told), 1) if said or told else 1.0
                for said, told in zip(truth, prediction, strict=True)
            ]
        )


@final
class ExactMatch(RowMeasure):
    """Share of sequences that are the same token for token: ``mean(truth == prediction)``, in [0, 1]. Cost: O(n)."""

    name = "exact_match"
    kind = "sequence"

    def scores(self, truth: Any, prediction: Any) -> Array:
        return np.array([float(said == told) for said, told in zip(truth, prediction, strict=True)])


@final
class EditSimilarity(RowMeasure):
    """One minus the edit distance over the longer length, averaged over sequences, in [0, 1].

    Edits insert, delete or replace a token. Two empty sequences agree. Cost: O(length²) a pair, one NumPy call a token.
    Reference: Levenshtein, Soviet Physics Doklady 10 (1966).
    """

    name = "edit_similarity"
    kind = "sequence"

    def scores(self, truth: Any, prediction: Any) -> Array:
        return np.array([_edit_similarity(said, told) for said, told in zip(truth, prediction, strict=True)])


def _edit_similarity(a: tuple[Any, ...], b: tuple[Any, ...]) -> float:
    if a == b:
        return 1.0
    codes: dict[Any, int] = {}
    first, second = (np.array([codes.setdefault(token, len(codes)) for token in side], dtype=int) for side in (a, b))
    places = np.arange(len(b) + 1)
    line = places.copy()
    for i, token in enumerate(first, start=1):
        step = np.concatenate([[i], np.minimum(line[1:] + 1, line[:-1] + (second != token))])
        line = np.minimum.accumulate(step - places) + places  # insertions run along the line
    return 1.0 - float(line[-1]) / max(len(a), len(b))


MEASURES: dict[str, Measure] = {
    found.name: found
    for found in (
        Agreement(), CohenKappa(), BalancedAgreement(),
        TotalVariationSimilarity(), MeanSquaredProbabilityError(), KLDivergence(),
        R2(), RMSE(), MAE(), PearsonCorrelation(), IntervalCoverage(),
        KendallTau(), SpearmanCorrelation(), TopKOverlap(), NDCG(),
        TokenAgreement(), ExactMatch(), EditSimilarity(),
    )
}  # fmt: skip


def measure(name: str | Measure) -> Measure:
    """The measure of that name, with its default settings; a measure is given back as it is.

    Examples
    --------
    >>> measure("r2").kind
    'value'
    """
    if isinstance(name, Measure):
        return name
    if name not in MEASURES:
        raise InvalidData(f"expected a measure, one of {', '.join(MEASURES)}; got {name!r}")
    return MEASURES[name]


def default_measure(output: str) -> Measure:
    """The measure for a target's kind of output: "class", "probability" or "value" (also "interval", "ranking", "sequence").

    Examples
    --------
    >>> [default_measure(output).name for output in ("class", "probability", "value")]
    ['agreement', 'total_variation_similarity', 'r2']
    """
    for found in MEASURES.values():
        if found.kind == output:
            return found
    raise InvalidData(f"expected an output, one of {', '.join(READERS)}; got {output!r}")
