"""Measures for targets whose answers matter by their order: of the rows, or of the items within each row."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, final

import numpy as np

from locum.core import bounds
from locum.core.bounds import Interval
from locum.core.errors import InvalidData
from locum.core.measures._base import FEW, Array, Measure, RowMeasure, mean_score, rare_share

__all__ = ["KendallTau", "SpearmanCorrelation", "TopKOverlap", "NDCG"]


class _RankCorrelation(Measure):
    """A rank correlation of the rows, shape (n,), or of the items within each row, shape (n, items), averaged.

    Over rows: arctanh interval from the Hájek projection, or the rare-error bound where fewer than about five rows
    are out of order. Within rows: the interval of a mean of scores in [-1, 1].
    """

    kind = "ranking"
    reach: ClassVar[float]  # by how much moving a share of the rows can change it, at most, per share

    @abstractmethod
    def correlation(self, x: Array, y: Array) -> float:
        """Its value on rows of equal weight."""

    @abstractmethod
    def expansion(self, x: Array, y: Array, w: Array) -> tuple[float, float, Array, Array]:
        """Value, the same without the bias of small samples, influence of each row and how far out of order each is."""

    @final
    def estimate(
        self, truth: Any, prediction: Any, *, weights: Any, groups: Any, level: float, random_state: Any
    ) -> tuple[float, Interval]:
        self._check_variety(truth.T, prediction.T)
        if truth.ndim == 2:
            scores = np.array([self.correlation(x, y) for x, y in zip(truth, prediction, strict=True)])
            return mean_score(np.clip(scores, -1.0, 1.0), (-1.0, 1.0), weights, groups, level, random_state)
        w = np.ones(len(truth)) if weights is None else weights
        value, centre, influence, misplaced = self.expansion(truth, prediction, w)
        sums, mass = bounds.unit_sums(np.column_stack([misplaced, influence]), weights, groups)
        out, effects = sums.T
        still = out.max() <= 1e-12 or np.abs(effects).max() <= 1e-12  # nothing misplaced, or no spread to judge by
        bearing = 0.0 if still else float(out.sum() ** 2 / (out**2).sum())
        if bearing < min(FEW, len(mass) / 2) or abs(centre) >= 1.0 - 1e-12:
            share = rare_share(bearing, mass, level)
            lower = max(value - self.reach * share, -1.0) if value >= 0 else -1.0
            upper = min(value + self.reach * share, 1.0) if value <= 0 else 1.0
            return value, Interval(lower, upper, level, "rare-error bound")
        return value, bounds.linearised(centre, influence, level, weights=weights, groups=groups)

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

    def correlation(self, x: Array, y: Array) -> float:
        return self.expansion(x, y, np.ones(len(x)))[0]

    def expansion(self, x: Array, y: Array, w: Array) -> tuple[float, float, Array, Array]:
        same, free_x, free_y = _concordance(x, y, w)
        a, b, c = (np.sort(w * term).sum() / w.sum() for term in (same, free_x, free_y))
        tau = float(np.clip(a / np.sqrt(b * c), -1.0, 1.0))
        influence = 2.0 * (same - a) / np.sqrt(b * c) - tau * ((free_x - b) / b + (free_y - c) / c)
        return tau, tau, influence, np.maximum((free_x + free_y) / 2.0 - np.sign(tau) * same, 0.0)


@final
class SpearmanCorrelation(_RankCorrelation):
    """Spearman's rank correlation: Pearson's correlation of the midranks, in [-1, 1].

    In small samples it lies nearer to 0 than in the population, by about ``3 (ρ - τ) / n``; the interval is centred
    where it would be without that, and covers more than it says above 0.99. Cost: O(n log² n); 1 s at n = 100,000.
    Undefined when either side is constant. References: Spearman, American Journal of Psychology 15 (1904); Hoeffding,
    Annals of Mathematical Statistics 19 (1948), for its bias and its influence as of a U-statistic of order three.
    """

    name = "spearman_correlation"
    reach = 6.0

    def correlation(self, x: Array, y: Array) -> float:
        ones = np.ones(len(x))
        f, g = (0.5 * len(x) - _above(side, ones) for side in (x, y))
        return float(np.clip(f @ g / np.sqrt((f @ f) * (g @ g)), -1.0, 1.0))

    def expansion(self, x: Array, y: Array, w: Array) -> tuple[float, float, Array, Array]:
        share = w / np.sort(w).sum()
        f, g = (0.5 - _above(side, share) for side in (x, y))
        vf, vg, cov = (np.sort(share * term).sum() for term in (f * f, g * g, f * g))
        dvf, dvg = (r * r + 2.0 * _above(side, share * r) - 3.0 * v for r, side, v in ((f, x, vf), (g, y, vg)))
        dcov = f * g + _above(x, share * g) + _above(y, share * f) - 3.0 * cov
        rho = float(np.clip(cov / np.sqrt(vf * vg), -1.0, 1.0))
        influence = dcov / np.sqrt(vf * vg) - rho / 2.0 * (dvf / vf + dvg / vg)
        # a row compared with the same other row in x and in y gives the excess over a mean of three independent rows
        excess = [float(np.sort(share * share * term).sum()) / 4.0 for term in _concordance(x, y, w)]
        spread = (vf - excess[1]) * (vg - excess[2])
        unbiased = float(np.clip((cov - excess[0]) / np.sqrt(spread), -1.0, 1.0)) if spread > 0 else float(np.sign(rho))
        return rho, unbiased, influence, (f - np.sign(rho) * g) ** 2


def _concordance(x: Array, y: Array, w: Array) -> tuple[Array, Array, Array]:
    """For each row, shares of the weight: in the same order less in the opposite; untied in x; untied in y."""
    total = np.sort(w).sum()
    both = _below(np.stack([x, -x, x, -x]), np.stack([y, -y, -y, y]), w)
    return (both[0] + both[1] - both[2] - both[3]) / total, 1.0 - _tied(x, w) / total, 1.0 - _tied(y, w) / total


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
    scores k / items, where the target has no ties. Cost: O(n items log items).

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
