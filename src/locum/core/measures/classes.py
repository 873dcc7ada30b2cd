"""Measures for targets that answer with a class."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from locum.core import bounds
from locum.core.bounds import Interval
from locum.core.errors import InvalidData
from locum.core.measures._base import Array, Measure, RowMeasure

__all__ = ["Agreement", "CohenKappa", "BalancedAgreement"]


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

    1 for a perfect copy, 0 for a constant stand-in, negative below chance; no unit. Interval: moment-matched beta on D
    with kappa's linearised variance, divided by E. Cost: O(n log n). Undefined when the target names one class.
    Reference: Cohen, Educational and Psychological Measurement 20 (1960).
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

    In [0, 1]; a constant stand-in scores 1 / classes. Interval: moment-matched beta, each row weighing
    1 / (its class's size). Cost: O(n log n). Undefined when the target names one class.
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
