"""What stands in for a simulator or for dynamics that are observed."""

from __future__ import annotations

from locum.emulate._rollout_errors import RolloutErrors, TrustRegion, rollout_errors
from locum.emulate.calibration import Calibration, SimulationCheck, calibrate, simulation_check
from locum.emulate.cape import CAPE, Conditional, Curriculum, FirstGuess, NeuralPDESolver
from locum.emulate.car_drag import ClassAudit, DragAudit, RenderingRegressor, Saliency
from locum.emulate.chebyshev import ChebyshevInterpolant, chebyshev_interpolant
from locum.emulate.coarse import CoarseSolver, CoarseSolvers, coarse_solvers
from locum.emulate.dynamics import (
    DynamicsReport,
    DynamicsScore,
    compare_dynamics,
    diverged,
    judge_dynamics,
    power_spectrum_distance,
    state_space_divergence,
    valid_prediction_time,
)
from locum.emulate.dysts import (
    ChaosSource,
    ForecastBenchmark,
    ForecastTable,
    ImportanceTrainer,
    LaggedRegressor,
    MeanForecast,
    SurrogatePretrainer,
)
from locum.emulate.ensemble import EmulatorEnsemble
from locum.emulate.exported import Exports
from locum.emulate.fab_devs import (
    ForecastErrors,
    RecentMean,
    RecurrentForecaster,
    SeasonalNaive,
    SeriesForecaster,
    forecast_errors,
)
from locum.emulate.gtf import Cycle, DynamicsReconstructor
from locum.emulate.info_koopman import KoopmanEmulator, KoopmanWarning, Modes
from locum.emulate.learned_fields import DirectField, FieldStepper
from locum.emulate.network_forecasts import LSTM, NBeats, NetworkForecaster
from locum.emulate.online_training import (
    FIFOBuffer,
    FIROBuffer,
    OnlineHistory,
    OnlineStats,
    OnlineTrainer,
    ReservoirBuffer,
    SimulationFailed,
    StepRecord,
    StoredBuffer,
    TrainingBuffer,
)
from locum.emulate.pinn_battery import CellFields, Level, PINNEmulator
from locum.emulate.renderings import mirrored, render_views, shape_measures, sound_mesh
from locum.emulate.rivals import Analogues, EchoState, LaggedMap, Persistence
from locum.emulate.saved import load_emulator
from locum.emulate.stepper import Differentiates, Encodes, Forecasts, FreeRuns, Steps
from locum.emulate.symbolic import LawSource, SymbolicBenchmark, SymbolicTable
from locum.emulate.tables import read_trajectories, write_trajectories
from locum.emulate.trajectories import Schema, Trajectories

__all__ = [
    "Trajectories",
    "Schema",
    "read_trajectories",
    "write_trajectories",
    "load_emulator",
    "Steps",
    "Differentiates",
    "Encodes",
    "Forecasts",
    "FreeRuns",
    "state_space_divergence",
    "power_spectrum_distance",
    "valid_prediction_time",
    "diverged",
    "compare_dynamics",
    "judge_dynamics",
    "DynamicsReport",
    "DynamicsScore",
    "DynamicsReconstructor",
    "Cycle",
    "KoopmanEmulator",
    "KoopmanWarning",
    "Modes",
    "Persistence",
    "LaggedMap",
    "Analogues",
    "EchoState",
    "Exports",
    "ForecastBenchmark",
    "ForecastTable",
    "ImportanceTrainer",
    "ChaosSource",
    "LaggedRegressor",
    "MeanForecast",
    "SurrogatePretrainer",
    "LSTM",
    "NBeats",
    "NetworkForecaster",
    "LawSource",
    "SymbolicBenchmark",
    "SymbolicTable",
    "SeriesForecaster",
    "RecurrentForecaster",
    "forecast_errors",
    "ForecastErrors",
    "RecentMean",
    "SeasonalNaive",
    "NeuralPDESolver",
    "CAPE",
    "Conditional",
    "Curriculum",
    "FirstGuess",
    "CoarseSolver",
    "CoarseSolvers",
    "coarse_solvers",
    "rollout_errors",
    "RolloutErrors",
    "TrustRegion",
    "OnlineTrainer",
    "ReservoirBuffer",
    "FIROBuffer",
    "FIFOBuffer",
    "StoredBuffer",
    "TrainingBuffer",
    "StepRecord",
    "OnlineHistory",
    "OnlineStats",
    "DirectField",
    "FieldStepper",
    "SimulationFailed",
    "PINNEmulator",
    "Level",
    "CellFields",
    "EmulatorEnsemble",
    "calibrate",
    "chebyshev_interpolant",
    "ChebyshevInterpolant",
    "Calibration",
    "simulation_check",
    "SimulationCheck",
    "render_views",
    "mirrored",
    "sound_mesh",
    "shape_measures",
    "RenderingRegressor",
    "DragAudit",
    "ClassAudit",
    "Saliency",
]
