"""Measures for targets that answer with numbers."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from locum.core.errors import InvalidData
from locum.core.measures._base import Array, ErrorMeasure, RowMeasure, centre, constant

__all__ = ["R2", "RMSE", "MAE", "PearsonCorrelation", "IntervalCoverage"]

ROUNDING = 16 * np.finfo(float).eps  # relative to the largest answer


@final
class R2(ErrorMeasure):
    """Share of the target's variance that the stand-in accounts for: ``1 - Σ (y - ŷ)² / Σ (y - ȳ)²``; at most 1.

    0 for the constant mean, negative below it; no unit. Several outputs: sums run over all of them. Interval:
    studentised bootstrap of log(1 - R²). Cost: O(n) and a bootstrap. Undefined when the target's answers are constant.

    Examples
    --------
    >>> y = np.linspace(0.0, 1.0, 500)
    >>> print(R2().fidelity(y, y + 0.1 * np.sin(50 * y)))
    r2 0.940 [0.933, 0.946] at 95 %, n=500 fresh queries
    """

    name = "r2"
    kind = "value"

    def terms(self, truth: Any, prediction: Any) -> Array:
        if constant(truth):
            raise InvalidData("r2 is undefined when the target's answers are constant: use rmse, or ask other rows")
        gap, away = _gaps(truth, prediction)
        return np.column_stack([(gap**2).sum(axis=1), (away**2).sum(axis=1), away])

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
        return np.column_stack([(gap**2).mean(axis=1) for gap in _gaps(truth, prediction)])

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
        return np.column_stack([np.abs(gap).mean(axis=1) for gap in _gaps(truth, prediction)])

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
        if constant(truth) or constant(prediction):
            raise InvalidData("pearson_correlation is undefined when answers or predictions are constant: use rmse")
        x, y = (side - centre(side) for side in (truth, prediction))
        sx, sy = (np.sqrt(np.sort(side**2).mean()) for side in (x, y))
        noise = ROUNDING * (np.abs(truth).max() / sx + np.abs(prediction).max() / sy)
        x, y = x / sx, y / sy
        sign = np.full(len(x), -1.0 if np.sort(x * y).sum() < 0 else 1.0)
        y = sign * y
        gap, both = np.where(np.abs(x - y) <= noise, 0.0, x - y), (x + y) / 2.0
        return np.column_stack([gap**2, x**2 + 1.0, gap * both, both**2, gap, both, sign])

    def combine(self, means: Array) -> Array:
        dd, _, db, bb, d, b, sign = np.moveaxis(means, -1, 0)  # of the gap and the mid-point: no cancellation near |r| = 1
        dd, db, bb = dd - d**2, db - d * b, bb - b**2
        sx, sy = np.sqrt(bb + db + dd / 4.0), np.sqrt(bb - db + dd / 4.0)
        apart = (dd - (2.0 * db / (sx + sy)) ** 2) / (2.0 * sx * sy)  # 1 - |r|
        return sign * 0.5 * (np.log(np.maximum(2.0 - apart, 0.0)) - np.log(np.maximum(apart, 0.0)))

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


def _gaps(truth: Array, prediction: Array) -> tuple[Array, Array]:
    """What the stand-in and the constant mean miss, each (n, outputs); a miss that is mere rounding is none."""
    truth, prediction = truth.reshape(len(truth), -1), prediction.reshape(len(truth), -1)
    noise = ROUNDING * np.abs(truth).max(axis=0)
    gap, away = truth - prediction, truth - centre(truth)
    return np.where(np.abs(gap) <= noise, 0.0, gap), np.where(np.abs(away) <= noise, 0.0, away)
