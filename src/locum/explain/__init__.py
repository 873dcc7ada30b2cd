"""What stands in for a trained predictor, so that people can read it."""

from __future__ import annotations

from locum.explain.additive import AdditiveClassifier, AdditiveRegressor
from locum.explain.anchors import Anchor, AnchorExplainer
from locum.explain.attribution import Attribution, Axis, Part
from locum.explain.cd_t import (
    CircuitSearch,
    ContextualDecomposition,
    LogitDifference,
    Mean,
    Node,
    ProbabilityDifference,
    single_tokens,
)
from locum.explain.counterfactual import Change, Counterfactual, CounterfactualExplainer, Counterfactuals
from locum.explain.frontier import Frontier, Point, frontier, held_out
from locum.explain.hd_blackbox import (
    ConvAutoencoder,
    DenseAutoencoder,
    HighDimExplainer,
    SANClassifier,
)
from locum.explain.lime import LimeExplainer
from locum.explain.projectedex import (
    AttributeCheck,
    Frechet,
    StyleAttribute,
    StyleAttributes,
    StyleCounterfactuals,
    StyleExplainer,
    StyleFidelity,
    StyleStrips,
)
from locum.explain.pruning_by_explaining import (
    GradientCriterion,
    LRPCriterion,
    LRPExplainer,
    RandomCriterion,
    RelevancePruner,
    TaylorCriterion,
    WeightCriterion,
)
from locum.explain.replacement import Baseline, ConstantBaseline, MeanBaseline, NormalBaseline, PermutedBaseline, replaced
from locum.explain.rule_list import RuleListClassifier, RuleListRegressor
from locum.explain.rule_set import RuleSetClassifier, RuleSetRegressor
from locum.explain.saliency import (
    OcclusionCurve,
    RandomisationCheck,
    SaliencyTruth,
    deletion_curve,
    infidelity,
    max_sensitivity,
    occlusion_curve,
    randomisation_check,
    saliency_against_truth,
)
from locum.explain.shapley import ShapleyExplainer
from locum.explain.simulatability import SimulationTest
from locum.explain.sparse_linear import SparseLinearClassifier, SparseLinearRegressor
from locum.explain.timex import (
    AttentionMasking,
    TimeXExplainer,
    TimeXExplanation,
    TimeXFidelity,
    TimeXVariant,
    pad_series,
    series_reference,
)
from locum.explain.tree import TreeClassifier, TreeRegressor
from locum.explain.units import KeepCurve, keep_curve

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
    "Baseline",
    "ConstantBaseline",
    "MeanBaseline",
    "NormalBaseline",
    "PermutedBaseline",
    "replaced",
    "keep_curve",
    "KeepCurve",
    "saliency_against_truth",
    "SaliencyTruth",
    "occlusion_curve",
    "OcclusionCurve",
    "deletion_curve",
    "infidelity",
    "max_sensitivity",
    "randomisation_check",
    "RandomisationCheck",
    "ContextualDecomposition",
    "CircuitSearch",
    "Node",
    "Mean",
    "LogitDifference",
    "ProbabilityDifference",
    "single_tokens",
    "LRPExplainer",
    "RelevancePruner",
    "LRPCriterion",
    "TaylorCriterion",
    "GradientCriterion",
    "WeightCriterion",
    "RandomCriterion",
    "TimeXExplainer",
    "TimeXExplanation",
    "TimeXFidelity",
    "TimeXVariant",
    "AttentionMasking",
    "series_reference",
    "pad_series",
    "StyleExplainer",
    "StyleAttributes",
    "StyleAttribute",
    "StyleStrips",
    "StyleCounterfactuals",
    "AttributeCheck",
    "StyleFidelity",
    "Frechet",
]
