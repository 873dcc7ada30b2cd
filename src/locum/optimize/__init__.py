"""What stands in for an objective that is dear to evaluate, and the loop that asks it where to look next."""

from __future__ import annotations

from locum.optimize.acquisition import (
    Acquisition,
    ExpectedImprovement,
    Gain,
    Known,
    TakesPending,
    UpperConfidenceBound,
    ValueOfInformation,
)
from locum.optimize.entropy_search import EntropySearch, PredictiveEntropySearch, representer_information
from locum.optimize.environment import Environment
from locum.optimize.fidelity_levels import FidelityLevels
from locum.optimize.goal import Aim, Goal, Objective
from locum.optimize.gradients import GradientGaussianProcess, TakesGradients, derivative_covariance
from locum.optimize.knowledge_gradient import (
    KnowledgeGradient,
    SimulatedKnowledgeGradient,
    expected_maximum_gain,
    stochastic_ascent,
)
from locum.optimize.model_average import ModelAverage
from locum.optimize.noisy_improvement import (
    AugmentedExpectedImprovement,
    BestObservedExpectedImprovement,
    NoisyExpectedImprovement,
    ParallelExpectedImprovement,
    chance_of_feasibility,
)
from locum.optimize.objective import objective, rows_of
from locum.optimize.optimizer import Optimizer, Result
from locum.optimize.runs import maximize, minimize
from locum.optimize.space import Categorical, Integer, Real, Space
from locum.optimize.surrogate import GaussianProcess, Surrogate
from locum.optimize.warp import Power, PowerWarp

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
    "ModelAverage",
    "PowerWarp",
    "Power",
    "TakesGradients",
    "GradientGaussianProcess",
    "derivative_covariance",
    "Acquisition",
    "Gain",
    "ValueOfInformation",
    "TakesPending",
    "Known",
    "ExpectedImprovement",
    "NoisyExpectedImprovement",
    "BestObservedExpectedImprovement",
    "AugmentedExpectedImprovement",
    "ParallelExpectedImprovement",
    "UpperConfidenceBound",
    "KnowledgeGradient",
    "SimulatedKnowledgeGradient",
    "stochastic_ascent",
    "expected_maximum_gain",
    "EntropySearch",
    "PredictiveEntropySearch",
    "representer_information",
    "chance_of_feasibility",
    "Goal",
    "Objective",
    "Environment",
    "FidelityLevels",
    "Aim",
]
