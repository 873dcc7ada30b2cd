"""What stands in for a simulator or for dynamics that are observed."""

from __future__ import annotations

from locum.emulate.dynamics import (
    DynamicsReport,
    DynamicsScore,
    compare_dynamics,
    diverged,
    power_spectrum_distance,
    state_space_divergence,
    valid_prediction_time,
)
from locum.emulate.stepper import Differentiates, Encodes, Steps
from locum.emulate.trajectories import Trajectories

__all__ = [
    "Trajectories",
    "Steps",
    "Differentiates",
    "Encodes",
    "state_space_divergence",
    "power_spectrum_distance",
    "valid_prediction_time",
    "diverged",
    "compare_dynamics",
    "DynamicsReport",
    "DynamicsScore",
]
