"""What stands in for an objective that is dear to evaluate, and the loop that asks it where to look next."""

from __future__ import annotations

from locum.optimize.acquisition import Acquisition, ExpectedImprovement, UpperConfidenceBound
from locum.optimize.objective import objective, rows_of
from locum.optimize.optimizer import Optimizer, Result, maximize, minimize
from locum.optimize.space import Categorical, Integer, Real, Space
from locum.optimize.surrogate import GaussianProcess, Surrogate

__all__ = [
    "minimize",
    "maximize",
    "Optimizer",
    "Result",
    "Space",
    "Real",
    "Integer",
    "Categorical",
    "objective",
    "rows_of",
    "Surrogate",
    "GaussianProcess",
    "Acquisition",
    "ExpectedImprovement",
    "UpperConfidenceBound",
]
