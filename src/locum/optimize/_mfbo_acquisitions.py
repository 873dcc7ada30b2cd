"""What evaluating a design at a level is worth, by the moments of all levels at the design."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from locum.core.errors import InvalidData, require_whole
from locum.optimize._mfbo_surrogates import JointSurrogate, LevelSurrogate

__all__ = [
    "AugmentedMultiFidelityExpectedImprovement", "DesignThenLevel", "InformationGapUpperConfidenceBound",
    "KnowledgeGradientPerCost", "LevelAcquisition", "LocationThenFidelity", "MaxValueEntropyPerCost",
    "MultiFidelityProbabilityOfImprovement", "MultiFidelityUpperConfidenceBound", "Standing",
    "VariableFidelityExpectedImprovement", "at_level", "joint_of",
]  # fmt: skip

_LEAST = 1e-300
_SMALL = 1e-8  # of the variance of the truth: noise that even exact solvers are taken to have


@dataclass(frozen=True, eq=False)
class Standing:
    """What an acquisition may look at beside the surrogate; larger values are better.

    Parameters
    ----------
    rows : torch.Tensor of shape (n, d)
        Designs evaluated at the truth that keep the constraints.
    values : torch.Tensor of shape (n,)
    seen : torch.Tensor of shape (m, d)
        Designs evaluated at any level.
    candidates : torch.Tensor of shape (k, d)
        Designs that fill the space.
    cost : torch.Tensor of shape (L,)
    gaps : torch.Tensor of shape (L,)
        How far values of each level were from the truth at most, at the same designs.
    starved : float
        Cost spent below the truth since it was last asked, in evaluations of the truth.
    free : torch.Tensor of shape (d,)
        1 for columns that can take any value.
    seed : int
    """

    rows: Any
    values: Any
    seen: Any
    candidates: Any
    cost: Any
    gaps: Any
    starved: float
    free: Any
    seed: int


class LevelAcquisition:
    """What evaluating a design at a level is worth."""


class DesignAndLevel(LevelAcquisition, ABC):
    """An acquisition that weighs designs and levels together."""

    @abstractmethod
    def table(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        """Designs of shape (b, d) to worths of each level, shape (b, L), as logarithms."""


class DesignThenLevel(LevelAcquisition, ABC):
    """An acquisition that chooses a design first, and then at which levels to evaluate it."""

    @abstractmethod
    def height(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        """Designs of shape (b, d) to worths of shape (b,)."""

    @abstractmethod
    def levels(self, surrogate: LevelSurrogate, standing: Standing, design: Any) -> list[int]:
        """Levels at which a design of shape (1, d) is evaluated."""


def _log_improvement(mean: Any, sd: Any, best: Any) -> Any:
    from locum.optimize._improvement import log_h

    return log_h((mean - best) / sd) + sd.log()


def _effective(surrogate: LevelSurrogate, standing: Standing) -> Any:
    """The mean where it is surely good: at the evaluated design with the best mean less standard deviation."""
    found = surrogate.moments(standing.rows)
    mean, sd = found.mean[:, -1].detach(), found.variance[:, -1].detach().sqrt()
    return mean[(mean - sd).argmax()]


def _usefulness(surrogate: LevelSurrogate, moments: Any, standing: Standing) -> Any:
    """Logarithm of correlation with the truth, times what noise leaves of an evaluation, over the cost; shape (b, L)."""
    import torch

    variance = moments.variance
    alike = (moments.covariance[..., -1].abs() / (variance * variance[:, -1:]).sqrt()).clamp(1e-12, 1.0)
    noise = torch.as_tensor(surrogate.noise_) + _SMALL * standing.values.var(correction=0)
    left = (1 - (noise / (variance + noise)).sqrt()).clamp_min(1e-12)
    return alike.log() + left.log() - (standing.cost / standing.cost[-1]).log()


@final
class VariableFidelityExpectedImprovement(DesignAndLevel):
    r"""Expected improvement of the truth by what is not known of a level alone.

    .. math:: E[(\mu_L(x) + s(x, l) Z - f^*)^+], \qquad s^2(x, l) = \frac{\mathrm{cov}(f_l, f_L)^2}{\mathrm{var}(f_l)}

    s² is the variance of the truth that knowing the level would take away; at the truth it is what the level below would leave.
    For levels on top of one another these are ρ² s² and the variance of what the truth adds. Below the truth, the improvement
    of the mean that is certain already, (μ - f*)⁺, is taken off: no evaluation there can bring it about, and for its low cost
    it would be asked for again and again.

    Parameters
    ----------
    per_cost : bool, default=True
        Whether it is divided by the cost, which the paper leaves out.

    References
    ----------
    Zhang, Han and Zhang, *Variable-fidelity expected improvement method for efficient global optimization of expensive
    functions*, 2018.
    """

    def __init__(self, per_cost: bool = True) -> None:
        self.per_cost = per_cost

    def table(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        import torch

        from locum.optimize._mfbo_models import explained_alone

        best, charge = standing.values.max(), (standing.cost / standing.cost[-1]).log() * float(self.per_cost)

        def worth(X: Any) -> Any:
            found = surrogate.moments(X)
            sd = explained_alone(found)
            mean = found.mean[:, -1:]
            below = _log_improvement(best - (mean - best).abs(), sd[:, :-1], best)
            return torch.cat([below, _log_improvement(mean, sd[:, -1:], best)], dim=1) - charge

        return worth


@final
class AugmentedMultiFidelityExpectedImprovement(DesignAndLevel):
    r"""Expected improvement at the truth, times how alike the level is, how little noise hides, and how cheap it is.

    .. math:: E[(f_L(x) - \mu^*)^+] \; |\mathrm{corr}(f_l, f_L)| \;
              \Big( 1 - \frac{\sigma_l}{\sqrt{s_l^2 + \sigma_l^2}} \Big) \frac{c_L}{c_l}

    μ* is the mean at the evaluated design that is surely best.

    References
    ----------
    Huang, Allen, Notz and Miller, *Sequential kriging optimization using multiple-fidelity evaluations*, 2006.
    """

    def table(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        best = _effective(surrogate, standing)

        def worth(X: Any) -> Any:
            found = surrogate.moments(X)
            gain = _log_improvement(found.mean[:, -1:], found.variance[:, -1:].sqrt(), best)
            return gain + _usefulness(surrogate, found, standing)

        return worth


@final
class MultiFidelityProbabilityOfImprovement(DesignAndLevel):
    """Chance of an improvement at the truth, times the factors of `AugmentedMultiFidelityExpectedImprovement`.

    Parameters
    ----------
    least : float, default=0.01
        Improvement that counts, in standard deviations of the values at the truth.

    References
    ----------
    Ruan, Jiang, Zhou, Hu and Shu, *Variable-fidelity probability of improvement method for efficient global optimization of
    expensive black-box problems*, 2020.
    """

    def __init__(self, least: float = 0.01) -> None:
        if not least >= 0:
            raise InvalidData(f"expected least= of 0 or more, got {least!r}")
        self.least = float(least)

    def table(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        import torch

        wanted = _effective(surrogate, standing) + self.least * standing.values.std(correction=0)

        def worth(X: Any) -> Any:
            found = surrogate.moments(X)
            chance = torch.special.log_ndtr((found.mean[:, -1:] - wanted) / found.variance[:, -1:].sqrt())
            return chance + _usefulness(surrogate, found, standing)

        return worth


def joint_of(surrogate: LevelSurrogate, what: object) -> JointSurrogate:
    """The surrogate, refused where it is not one process over levels."""
    if not isinstance(surrogate, JointSurrogate):
        raise InvalidData(
            f"{type(what).__name__} needs a surrogate that is one process over levels, got {type(surrogate).__name__}; "
            "use AutoregressiveProcess, CoregionalizedProcess or ContinuousFidelityProcess"
        )
    return surrogate


def _per_level(value: Callable[[Any], Any], codes: Any, cost: Any) -> Callable[[Any], Any]:
    """Worths of shape (b, L), less logarithms of costs, from the value of rows (x, code) of shape (b, 1, d + 1)."""
    import torch

    def worth(X: Any) -> Any:
        each = [value(torch.cat([X, code.expand(len(X), 1)], dim=-1)[:, None]) for code in codes]
        return torch.stack(each, dim=-1) - cost.log()

    return worth


@final
class KnowledgeGradientPerCost(DesignAndLevel):
    """Expected rise of the best mean at the truth over its cost: `KnowledgeGradient`, at every level.

    Parameters
    ----------
    decisions : int, default=40
        As in `KnowledgeGradient`.

    References
    ----------
    Poloczek, Wang and Frazier, arXiv 1603.00389; Wu et al., arXiv 1903.04703.
    """

    def __init__(self, decisions: int = 40) -> None:
        require_whole(1, decisions=decisions)
        self.decisions = decisions

    def table(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        import torch

        from locum.optimize.acquisition import Known
        from locum.optimize.goal import Aim
        from locum.optimize.knowledge_gradient import KnowledgeGradient

        process, d = joint_of(surrogate, self), standing.seen.shape[1]
        codes = torch.as_tensor(process.codes_)
        aim = Aim(np.array([d]), np.array([[process.codes_[-1]]]), np.ones(1))
        rows = at_level(standing.rows, codes[-1])
        free = torch.cat([standing.free, standing.free.new_zeros(1)])
        known = Known(rows, standing.values, at_level(standing.candidates, codes[-1]), aim=aim, free=free, seed=standing.seed)
        # What is around the best mean is cut to [0, 1], where codes need not lie; the aim sets the code anyway.
        return _per_level(KnowledgeGradient(self.decisions).of(process.model_, known), codes, standing.cost)


@final
class MaxValueEntropyPerCost(DesignAndLevel):
    """What an evaluation says about the largest value at the truth, over its cost.

    Parameters
    ----------
    maxima : int, default=10
        Draws of the largest value.

    References
    ----------
    Takeno et al., arXiv 1901.08275; through BoTorch.
    """

    def __init__(self, maxima: int = 10) -> None:
        require_whole(1, maxima=maxima)
        self.maxima = maxima

    def table(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        import torch
        from botorch.acquisition.max_value_entropy_search import qMultiFidelityMaxValueEntropy
        from gpytorch.utils.warnings import NumericalWarning

        process = joint_of(surrogate, self)
        codes = torch.as_tensor(process.codes_)
        candidates = torch.cat([standing.candidates, standing.rows])

        def truth(X: Any) -> Any:
            return torch.cat([X[..., :-1], codes[-1].expand(*X.shape[:-1], 1)], dim=-1)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NumericalWarning)  # variances that rounding takes below 0, at known designs
            found = qMultiFidelityMaxValueEntropy(
                process.model_, at_level(candidates, codes[-1]), num_mv_samples=self.maxima, project=truth
            )  # fmt: skip

        def value(X: Any) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NumericalWarning)
                return found(X).clamp_min(1e-12).log()

        return _per_level(value, codes, standing.cost)


def at_level(X: Any, code: Any) -> Any:
    """Rows (x, code) of designs of shape (b, d) at one level."""
    import torch

    return torch.cat([X, code.expand(len(X), 1)], dim=-1)


@final
class LocationThenFidelity(DesignThenLevel):
    r"""The design by expected improvement at the truth, then the level by the variance it takes away there for its cost.

    .. math:: l^* = \arg\max_l \frac{s^2_{\mathrm{red}}(l, x)}{\big( \sum_{i \le l} c_i \big)^2}

    All levels up to the one chosen are evaluated, so that designs stay nested.

    References
    ----------
    Meliani et al., *Multi-fidelity efficient global optimization: methodology and application to airfoil shape design*, 2019.
    """

    def height(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        best = standing.values.max()

        def worth(X: Any) -> Any:
            found = surrogate.moments(X)
            return _log_improvement(found.mean[:, -1], found.variance[:, -1].sqrt(), best)

        return worth

    def levels(self, surrogate: LevelSurrogate, standing: Standing, design: Any) -> list[int]:
        from locum.optimize._mfbo_models import explained

        taken = explained(surrogate.moments(design))[0] / standing.cost.cumsum(0) ** 2
        return list(range(int(taken.argmax()) + 1))


@final
class MultiFidelityUpperConfidenceBound(DesignThenLevel):
    r"""The design with the highest least upper bound of all levels, at the lowest level that is not known well there.

    .. math:: \varphi_l = \mu_l + \sqrt{\beta}\, s_l + \zeta_l, \qquad
              l = \min \{ l : \sqrt{\beta}\, s_l(x) \ge \gamma_l \}, \qquad \gamma_l = \zeta_l \sqrt{c_l / c_{l+1}}

    ζ bounds how far a level is from the truth: the largest gap seen at the same designs. γ doubles for each evaluation of the
    truth that was spent below it, so that the truth does not starve. Levels are taken to be in the unit of the truth.

    Parameters
    ----------
    beta : float, default=4.0

    References
    ----------
    Kandasamy et al., arXiv 1603.06288.
    """

    def __init__(self, beta: float = 4.0) -> None:
        self.beta = _beta(beta)

    def height(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        def worth(X: Any) -> Any:
            found = surrogate.moments(X)
            return (found.mean + (self.beta * found.variance).sqrt() + standing.gaps).amin(dim=-1)

        return worth

    def levels(self, surrogate: LevelSurrogate, standing: Standing, design: Any) -> list[int]:
        width = (self.beta * surrogate.moments(design).variance[0]).sqrt()[:-1]
        least = standing.gaps[:-1] * (standing.cost[:-1] / standing.cost[1:]).sqrt() * 2.0 ** math.floor(standing.starved)
        return [_first(width >= least)]


@final
class InformationGapUpperConfidenceBound(DesignThenLevel):
    r"""BOCA: the design by an upper bound at the truth, at the cheapest level that is both unknown there and far enough.

    .. math:: s_l(x) > \gamma_l = \sqrt{\kappa}\, \xi_l \, (c_l / c_L)^{q}, \qquad \xi_l > \max \xi / \sqrt{\beta}, \qquad
              \xi_l = \sqrt{1 - \mathrm{corr}^2(f_l, f_L)}

    ξ is the information gap of a level by the prior; q = 1 / (d + 3).

    Parameters
    ----------
    beta : float, default=4.0

    References
    ----------
    Kandasamy, Dasarathy, Schneider and Póczos, arXiv 1703.06240.
    """

    def __init__(self, beta: float = 4.0) -> None:
        self.beta = _beta(beta)

    def height(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        joint_of(surrogate, self)

        def worth(X: Any) -> Any:
            found = surrogate.moments(X)
            return found.mean[:, -1] + (self.beta * found.variance[:, -1]).sqrt()

        return worth

    def levels(self, surrogate: LevelSurrogate, standing: Standing, design: Any) -> list[int]:
        prior = joint_of(surrogate, self).prior(design)
        heights = prior.diagonal()
        gap = (1 - (prior[:, -1] ** 2 / (heights * heights[-1])).clamp_max(1.0)).sqrt()
        least = heights.sqrt() * gap * (standing.cost / standing.cost[-1]) ** (1 / (design.shape[1] + 3))
        unknown = surrogate.moments(design).variance[0].sqrt() > least
        return [_first((unknown & (gap > gap.max() / math.sqrt(max(self.beta, 1.0))))[:-1])]


def _beta(beta: float) -> float:
    if not 0 <= beta < math.inf:
        raise InvalidData(f"expected beta= of 0 or more, got {beta!r}")
    return float(beta)


def _first(there: Any) -> int:
    """Place of the first that is so, or one past the last."""
    found = there.nonzero()
    return int(found[0]) if len(found) else len(there)
