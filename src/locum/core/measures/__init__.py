"""Measures of fidelity: how well a stand-in's predictions agree with the target's answers.

Each measure reads its data, gives an estimate and an interval that holds at the n at hand, and so a
:class:`~locum.core.fidelity.Fidelity`. To add one, subclass :class:`RowMeasure` (a mean of bounded row scores),
:class:`ErrorMeasure` (a function of mean errors) or :class:`Measure` itself.
"""

from locum.core.measures._base import ErrorMeasure, Measure, RowMeasure
from locum.core.measures._registry import MEASURES, default_measure, measure
from locum.core.measures.classes import Agreement, BalancedAgreement, CohenKappa
from locum.core.measures.probabilities import KLDivergence, MeanSquaredProbabilityError, TotalVariationSimilarity
from locum.core.measures.rankings import NDCG, KendallTau, SpearmanCorrelation, TopKOverlap
from locum.core.measures.sequences import EditSimilarity, ExactMatch, TokenAgreement
from locum.core.measures.values import MAE, R2, RMSE, IntervalCoverage, PearsonCorrelation

__all__ = [
    "Measure", "RowMeasure", "ErrorMeasure", "MEASURES", "measure", "default_measure",
    "Agreement", "CohenKappa", "BalancedAgreement",
    "TotalVariationSimilarity", "MeanSquaredProbabilityError", "KLDivergence",
    "R2", "RMSE", "MAE", "PearsonCorrelation", "IntervalCoverage",
    "KendallTau", "SpearmanCorrelation", "TopKOverlap", "NDCG",
    "TokenAgreement", "ExactMatch", "EditSimilarity",
]  # fmt: skip
