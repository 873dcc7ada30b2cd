"""Pictures: a result in, matplotlib axes out. The only place that imports matplotlib."""

from __future__ import annotations

from locum.plots._alignment import plot_audit, plot_interactions
from locum.plots._animation import animate_fields
from locum.plots._attribution import plot_attribution
from locum.plots._attribution_graph import plot_attribution_graph
from locum.plots._circuit import plot_circuit, plot_heads, plot_tokens
from locum.plots._concepts import plot_detection
from locum.plots._control import plot_control
from locum.plots._counterfactual_strip import plot_counterfactuals, plot_style_strip
from locum.plots._dictionary import plot_error_curves
from locum.plots._doses import plot_doses
from locum.plots._dynamics import plot_attractors
from locum.plots._estimates import plot_estimates
from locum.plots._frontier import plot_frontier
from locum.plots._gantt import plot_gantt
from locum.plots._hd_blackbox import plot_faithfulness
from locum.plots._hypervectors import plot_probe
from locum.plots._learning import plot_learning
from locum.plots._modes import plot_horizons, plot_modes
from locum.plots._pareto import plot_pareto
from locum.plots._posterior import plot_posterior
from locum.plots._pruning import plot_pruned_layers, plot_pruning
from locum.plots._pte import plot_pte_curve, plot_survival, plot_transformation
from locum.plots._regret import plot_foretold, plot_regret, plot_slice
from locum.plots._rollout import plot_fields, plot_rollout_errors
from locum.plots._series import plot_landmarks, plot_series
from locum.plots._shapes import plot_shapes
from locum.plots._steering import plot_steering
from locum.plots._views import plot_views

__all__ = [
    "plot_frontier",
    "plot_shapes",
    "plot_attribution",
    "plot_estimates",
    "plot_survival",
    "plot_transformation",
    "plot_pte_curve",
    "plot_faithfulness",
    "plot_circuit",
    "plot_heads",
    "plot_tokens",
    "plot_attribution_graph",
    "plot_pruning",
    "plot_pruned_layers",
    "plot_style_strip",
    "plot_counterfactuals",
    "plot_error_curves",
    "plot_detection",
    "plot_audit",
    "plot_interactions",
    "plot_doses",
    "plot_steering",
    "plot_probe",
    "plot_control",
    "plot_series",
    "plot_landmarks",
    "plot_regret",
    "plot_slice",
    "plot_foretold",
    "plot_pareto",
    "plot_attractors",
    "plot_gantt",
    "plot_modes",
    "plot_horizons",
    "plot_rollout_errors",
    "animate_fields",
    "plot_fields",
    "plot_learning",
    "plot_posterior",
    "plot_views",
]
