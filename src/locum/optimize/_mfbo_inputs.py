"""Designs that are not made as they are drawn: the objective is its mean, or a quantile, over what the inputs vary by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from locum.core.errors import InvalidData, require_whole
from locum.optimize._mfbo_acquisitions import joint_of
from locum.optimize._mfbo_surrogates import LevelSurrogate
from locum.optimize.space import Real, Space

__all__ = ["InputNoise", "Varied"]

_DRAWS = 64  # of values, from which moments of a quantile are taken


@final
class InputNoise:
    r"""Inputs vary by normal errors, and what counts is the mean over them, or a quantile.

    .. math:: F_l(x) = E_\xi[f_l(x + \xi)] \quad \text{or} \quad Q_\alpha[f_l(x + \xi)]

    F is never evaluated; it follows from the surrogate, in closed form for the mean, and by joint draws of the values for a
    quantile. The acquisition works on F at every level.

    Parameters
    ----------
    deviations : mapping of str to float
        Standard deviation of each parameter that varies, in its own unit; of its logarithm where it is on a log scale.
    share : float or None, default=None
        The value that this share of made designs is at least as good as counts, such as 0.9; the mean where None.
    draws : int, default=16
        Errors over which it is taken.

    Notes
    -----
    Errors that would leave the box are cut at its edge. Cost: a prediction of draws times levels rows at once for each design.

    References
    ----------
    Beland and Nair, *Bayesian optimization under uncertainty*, 2017; Do and Zhang, arXiv 2311.13050, on uncertain inputs.
    """

    def __init__(self, deviations: Mapping[str, float], share: float | None = None, draws: int = 16) -> None:
        self.deviations = dict(deviations)
        if not self.deviations or not all(0 < one < np.inf for one in self.deviations.values()):
            raise InvalidData(f"expected deviations above 0 of one or more parameters, got {self.deviations!r}")
        if share is not None and not 0 < share < 1:
            raise InvalidData(f"expected share= between 0 and 1, got {share!r}")
        require_whole(2, draws=draws)
        self.share, self.draws = share, draws

    def on(self, space: Space) -> Any:
        """Errors in the encoding of a space, an ndarray of shape (draws, width)."""
        from locum.optimize._models import standard_normals

        scale = np.zeros(space.width)
        for one, at in zip(space.parameters, space.columns, strict=True):
            if one.name in self.deviations and isinstance(one, Real):
                width = np.log(one.high / one.low) if one.log else one.high - one.low
                scale[at] = self.deviations[one.name] / width
        strange = [name for name in self.deviations if name not in space.names]
        if strange or not scale.any():
            known = ", ".join(one.name for one in space.parameters if isinstance(one, Real))
            raise InvalidData(f"expected deviations of real parameters, {known}, got {', '.join(self.deviations)}")
        normals = np.asarray(standard_normals(self.draws, space.width, 0))
        normals = (normals - normals.mean(axis=0)) / normals.std(axis=0)
        return normals * scale


class Varied:
    """Moments of the mean, or of a quantile, over errors of the inputs, in place of those of a surrogate.

    Parameters
    ----------
    surrogate : JointSurrogate
        Fitted.
    errors : ndarray of shape (k, d)
    share : float or None
    """

    def __init__(self, surrogate: LevelSurrogate, errors: Any, share: float | None) -> None:
        self.errors, self.share, self.noise_ = errors, share, surrogate.noise_
        self._joint = joint_of(surrogate, self)._moments

    def moments(self, X: Any) -> Any:
        """Mean and covariance of all levels at designs of shape (b, d)."""
        import torch

        from locum.optimize._mfbo_models import Moments
        from locum.optimize._models import standard_normals
        from locum.optimize._process import root_of

        joint, errors = self._joint, torch.as_tensor(self.errors)
        (k, d), L = errors.shape, len(joint.codes)
        made = (X[:, None] + errors).clamp(0, 1)
        rows = torch.cat([made[:, None].expand(-1, L, -1, -1), joint.codes[:, None, None].expand(len(X), L, k, 1)], dim=-1)
        mean, whole = joint.of_rows(rows.reshape(len(X), L * k, d + 1))
        if self.share is None:
            blocks = whole.reshape(len(X), L, k, L, k)
            return Moments(mean.reshape(len(X), L, k).mean(dim=-1), blocks.mean(dim=(2, 4)))
        normals = torch.as_tensor(standard_normals(_DRAWS, L * k, 1))
        drawn = mean[:, None] + normals @ root_of(whole).mT  # (b, s, L k)
        found = drawn.reshape(len(X), _DRAWS, L, k).quantile(1 - self.share, dim=-1)
        middle = found.mean(dim=1)
        off = found - middle[:, None]
        return Moments(middle, torch.einsum("bsi,bsj->bij", off, off) / _DRAWS)
