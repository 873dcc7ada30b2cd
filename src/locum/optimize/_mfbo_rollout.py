"""What two evaluations bring together: one anywhere at any level, then the truth where it promises most after that."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, final

import numpy as np

from locum.core.errors import require_whole
from locum.optimize._mfbo_acquisitions import DesignAndLevel, Standing, at_level, joint_of
from locum.optimize._mfbo_surrogates import LevelSurrogate

__all__ = ["TwoStepRollout"]

_LEAST = 1e-12


@final
class TwoStepRollout(DesignAndLevel):
    r"""Improvement that an evaluation and the best one of the truth after it bring together, over what both cost.

    .. math:: \frac{E_y\big[ (y - f^*)^+ [l = L] + \max_{x'} E[(f_L(x') - f^*_y)^+ \mid D, (x, l, y)] \big]}{c_l + c_L}

    f*_y is the best value at the truth with y among them. The first step is weighed by how much better it makes the second,
    so a cheap level is asked where it changes what the truth would be asked next. y is taken at the nodes of a Gauss-Hermite
    rule, x' from designs that fill the space and those that are best by expected improvement now.

    Parameters
    ----------
    nodes : int, default=6
        Values of y.
    seconds : int, default=32
        Designs x' of the second step.

    Notes
    -----
    Cost: as a prediction, times nodes and seconds. Needs one process over levels.

    References
    ----------
    Lam, Willcox and Wolpert, *Bayesian optimization with a finite budget: an approximate dynamic programming approach*, 2016;
    Yue and Kontar, arXiv 1910.14176, for several levels.
    """

    def __init__(self, nodes: int = 6, seconds: int = 32) -> None:
        require_whole(2, nodes=nodes)
        require_whole(1, seconds=seconds)
        self.nodes, self.seconds = nodes, seconds

    def table(self, surrogate: LevelSurrogate, standing: Standing) -> Callable[[Any], Any]:
        import torch

        from locum.optimize._improvement import log_h

        moments = joint_of(surrogate, self)._moments
        best, codes, top = standing.values.max(), moments.codes, len(moments.codes) - 1
        at, weights = (torch.as_tensor(one) for one in np.polynomial.hermite_e.hermegauss(self.nodes))
        weights = weights / math.sqrt(2 * math.pi)
        noise = torch.as_tensor(surrogate.noise_)

        def gain(mean: Any, sd: Any, least: Any) -> Any:
            return sd * log_h((mean - least) / sd).exp()

        with torch.no_grad():
            everything = torch.cat([standing.candidates, standing.rows])
            found = surrogate.moments(everything)
            promise = gain(found.mean[:, -1], found.variance[:, -1].sqrt(), best)
            after = everything[promise.argsort(descending=True)[: self.seconds]]
            known = surrogate.moments(after)
            mean, variance = known.mean[:, -1], known.variance[:, -1]

        def worth(X: Any) -> Any:
            out = []
            for level, code in enumerate(codes):
                # One row at the level, and the designs of the second step at the truth.
                first = at_level(X, code)[:, None]
                second = at_level(after, codes[-1]).expand(len(X), -1, -1)
                here, whole = moments.of_rows(torch.cat([first, second], dim=1))
                told = (whole[:, 0, 0] + noise[level]).clamp_min(_LEAST)
                shift = whole[:, 0, 1:] / told.sqrt()[:, None]  # (b, k): slope of the means in the value told
                left = (variance - shift**2).clamp_min(_LEAST).sqrt()
                total = X.new_zeros(len(X))
                for z, weight in zip(at, weights, strict=True):
                    now, least = X.new_zeros(len(X)), best.expand(len(X))
                    if level == top:
                        y = here[:, 0] + told.sqrt() * z
                        now, least = (y - best).clamp_min(0), torch.maximum(least, y)
                    then = gain(mean + shift * z, left, least[:, None]).amax(dim=-1)
                    total = total + weight * (now + then)
                charge = (standing.cost[level] + standing.cost[-1]) / standing.cost[-1]
                out.append(total.clamp_min(1e-300).log() - charge.log())
            return torch.stack(out, dim=-1)

        return worth
