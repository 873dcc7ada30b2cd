"""Measures for targets that answer with a distribution over classes."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from locum.core.errors import InvalidData
from locum.core.measures._base import Array, ErrorMeasure, RowMeasure, centre

__all__ = ["TotalVariationSimilarity", "MeanSquaredProbabilityError", "KLDivergence"]


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
        usual = centre(p)
        return np.column_stack([np.maximum((p * np.log(p / r)).sum(axis=1), 0.0) for r in (q, usual)])

    def combine(self, means: Array) -> Array:
        return np.log(means[..., 0])
