"""Measures by name, and the usual one for each kind of output."""

from __future__ import annotations

from locum.core._reading import READERS
from locum.core.errors import InvalidData
from locum.core.measures._base import Measure
from locum.core.measures.classes import Agreement, BalancedAgreement, CohenKappa
from locum.core.measures.probabilities import KLDivergence, MeanSquaredProbabilityError, TotalVariationSimilarity
from locum.core.measures.rankings import NDCG, KendallTau, SpearmanCorrelation, TopKOverlap
from locum.core.measures.sequences import EditSimilarity, ExactMatch, TokenAgreement
from locum.core.measures.values import MAE, R2, RMSE, IntervalCoverage, PearsonCorrelation

__all__ = ["MEASURES", "measure", "default_measure"]

MEASURES: dict[str, Measure] = {
    found.name: found
    for found in (
        Agreement(), CohenKappa(), BalancedAgreement(),
        TotalVariationSimilarity(), MeanSquaredProbabilityError(), KLDivergence(),
        R2(), RMSE(), MAE(), PearsonCorrelation(), IntervalCoverage(),
        KendallTau(), SpearmanCorrelation(), TopKOverlap(), NDCG(),
        TokenAgreement(), ExactMatch(), EditSimilarity(),
    )
}  # fmt: skip


def measure(name: str | Measure) -> Measure:
    """The measure of that name, with its default settings; a measure is given back as it is.

    Examples
    --------
    >>> measure("r2").kind
    'value'
    """
    if isinstance(name, Measure):
        return name
    if name not in MEASURES:
        raise InvalidData(f"expected a measure, one of {', '.join(MEASURES)}; got {name!r}")
    return MEASURES[name]


def default_measure(output: str) -> Measure:
    """The measure for a target's kind of output: "class", "probability" or "value" (also "interval", "ranking", "sequence").

    Examples
    --------
    >>> [default_measure(output).name for output in ("class", "probability", "value")]
    ['agreement', 'total_variation_similarity', 'r2']
    """
    for found in MEASURES.values():
        if found.kind == output:
            return found
    raise InvalidData(f"expected an output, one of {', '.join(READERS)}; got {output!r}")
