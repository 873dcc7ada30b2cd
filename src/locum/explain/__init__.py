"""What stands in for a trained predictor, so that people can read it."""

from __future__ import annotations

from locum.explain.additive import AdditiveClassifier, AdditiveRegressor
from locum.explain.anchors import Anchor, AnchorExplainer
from locum.explain.attribution import Attribution, Axis, Part
from locum.explain.counterfactual import Change, Counterfactual, CounterfactualExplainer, Counterfactuals
from locum.explain.frontier import Frontier, Point, frontier, held_out
from locum.explain.hd_blackbox import (
    ConvAutoencoder,
    DenseAutoencoder,
    HighDimExplainer,
    SANClassifier,
)
from locum.explain.lime import LimeExplainer
from locum.explain.rule_list import RuleListClassifier, RuleListRegressor
from locum.explain.rule_set import RuleSetClassifier, RuleSetRegressor
from locum.explain.shapley import ShapleyExplainer
from locum.explain.simulatability import SimulationTest
from locum.explain.sparse_linear import SparseLinearClassifier, SparseLinearRegressor
from locum.explain.tree import TreeClassifier, TreeRegressor

__all__ = [
    "frontier",
    "Frontier",
    "Point",
    "held_out",
    "TreeClassifier",
    "TreeRegressor",
    "RuleListClassifier",
    "RuleListRegressor",
    "RuleSetClassifier",
    "RuleSetRegressor",
    "AdditiveClassifier",
    "AdditiveRegressor",
    "SparseLinearClassifier",
    "SparseLinearRegressor",
    "LimeExplainer",
    "ShapleyExplainer",
    "AnchorExplainer",
    "CounterfactualExplainer",
    "Attribution",
    "Axis",
    "Part",
    "Anchor",
    "Counterfactuals",
    "Counterfactual",
    "Change",
    "HighDimExplainer",
    "SANClassifier",
    "DenseAutoencoder",
    "ConvAutoencoder",
    "SimulationTest",
]
