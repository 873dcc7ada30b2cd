"""Where each level can be evaluated at all, by a classifier that joins levels: what failed teaches where not to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData
from locum.optimize.surrogate import need_botorch

if TYPE_CHECKING:
    from locum.optimize._mfbo_models import Moments

__all__ = ["LevelClassifier"]

_FLOAT = NDArray[np.float64]
_NEWTON = 12  # steps to the mode of the latent values; the density has one alone, and they come near it fast
_WIDTH = 1.702**2  # variance of the normal distribution that the logistic one is nearest to
_WHOLE, _REST, _RATIO, _MEAN = (1.5, 1.0), (-1.0, 1.0), (1.0, 0.5), (1.0, 1.0)  # priors of what `_mfbo_models` has, for logits


@final
class LevelClassifier(BaseEstimator):
    r"""The chance that an evaluation works, at each level, from those that did and those that failed.

    .. math:: P(\text{works at level } l) = \sigma(h_l(x)), \qquad h_l = \rho_{l-1} h_{l-1} + \delta_l

    The latent values are a process of levels on top of one another, as in `AutoregressiveProcess`, by Laplace's approximation.
    A mesh that folds at a cheap level often folds at the dear one, so cheap failures spare dear ones.

    Attributes
    ----------
    n_features_in_, n_levels_ : int
    ratios_ : ndarray of shape (L - 1,)
        ρ of the latent values: how far levels fail at the same designs.

    Notes
    -----
    Cost: some dozen steps of O(N³) for each of some fifty steps of the fit; seconds for a hundred evaluations.

    References
    ----------
    Klyuchnikov and Burnaev, *Gaussian process classification for variable fidelity data*, arXiv 1809.05143; Rasmussen and
    Williams, *Gaussian processes for machine learning*, 2006, section 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> many, few = np.linspace(0, 1, 13)[:, None], np.array([[0.2], [0.9]])
    >>> found = LevelClassifier().fit([many, few], [many[:, 0] < 0.6, few[:, 0] < 0.6])
    >>> near, far = found.chance([[0.3], [0.8]])
    >>> bool(near > 0.7), bool(far < 0.4)
    (True, True)
    """

    def fit(self, designs: Sequence[ArrayLike], worked: Sequence[ArrayLike]) -> Self:
        """Fit to what worked at each level.

        Parameters
        ----------
        designs : sequence of L array-likes of shape (n_l, d)
            Encoded designs, cheapest level first, truth last; levels may have none.
        worked : sequence of L array-likes of bool of shape (n_l,)

        Raises
        ------
        InvalidData
            Shapes that do not fit, or no evaluation at all.
        """
        X, t = [np.asarray(one, dtype=float) for one in designs], [np.asarray(one, dtype=bool) for one in worked]
        right = len(X) == len(t) > 0 and all(
            a.ndim == 2 and a.shape[1] == X[0].shape[1] and b.shape == (len(a),) for a, b in zip(X, t, strict=True)
        )
        if not right or not sum(map(len, X)):
            shapes = [(a.shape, b.shape) for a, b in zip(X, t, strict=False)]
            raise InvalidData(f"expected designs (n, d) and whether they worked (n,) at each level, got {shapes}")
        need_botorch()
        rows = np.concatenate([np.column_stack([one, np.full(len(one), k)]) for k, one in enumerate(X)])
        self.n_features_in_, self.n_levels_ = X[0].shape[1], len(X)
        self._moments = _Latent(rows, np.concatenate(t).astype(float), len(X))
        self.ratios_ = self._moments.parts["ratios"][:, 0].numpy()
        return self

    def moments(self, X: Any) -> Moments:
        """Mean and covariance of the latent values, with the width of the logistic function: above 0 where it works.

        Parameters
        ----------
        X : torch.Tensor of shape (b, d)
        """
        check_is_fitted(self)
        return self._moments(X)

    def chance(self, X: ArrayLike, level: int = -1) -> _FLOAT:
        """Chance that evaluations work.

        Parameters
        ----------
        X : array-like of shape (m, d)
        level : int, default=-1
            The truth by default.
        """
        import torch
        from scipy.special import ndtr

        rows = np.asarray(X, dtype=float)
        with torch.no_grad():
            found = self.moments(torch.as_tensor(rows))
        return np.asarray(ndtr((found.mean[:, level] / found.variance[:, level].sqrt()).numpy()))


class _Latent:
    """The latent process of all levels.

    Parameters
    ----------
    rows : ndarray of shape (n, d + 1)
        The level stands last.
    worked : ndarray of shape (n,)
        1 where it worked, else 0.
    L : int
    """

    def __init__(self, rows: _FLOAT, worked: _FLOAT, L: int) -> None:
        import torch

        from locum.optimize._mfbo_models import Layout, lengths_prior, mode, traced

        self.rows, self.worked, self.L, d = torch.as_tensor(rows), torch.as_tensor(worked), L, rows.shape[1] - 1
        layout = Layout({
            "lengths": ((d,), *lengths_prior(d)), "whole": ((1,), *_WHOLE), "rest": ((L - 1,), *_REST),
            "ratio": ((L - 1, 1), *_RATIO), "mean": ((1,), *_MEAN),
        })  # fmt: skip
        found = mode(traced(self._evidence), layout, [layout.start()])
        self.parts = self._named({name: torch.as_tensor(part) for name, part in found.items()})
        with torch.no_grad():
            K = self._prior(self.rows, self.rows)
            _, self.pull, self.root, self.weight, _ = self._at_mode(K, self.parts["mean"])

    def _named(self, at: dict[str, Any]) -> dict[str, Any]:
        import torch

        return {
            "lengths": at["lengths"].exp().expand(self.L, -1), "ratios": at["ratio"], "mean": at["mean"],
            "variances": torch.cat([at["whole"], at["rest"]]).exp(),
        }  # fmt: skip

    def _prior(self, A: Any, B: Any, parts: dict[str, Any] | None = None) -> Any:
        from locum.optimize._mfbo_models import CORRELATIONS, level_covariance

        return level_covariance(A, B, parts or self.parts, CORRELATIONS["matern52"], planes=False)

    def _at_mode(self, K: Any, mean: Any) -> tuple[Any, ...]:
        """Latent values less their mean, the slope and weights of the likelihood there, and the root of I + √W K √W."""
        import torch

        f, unit = torch.zeros_like(self.worked), torch.eye(len(self.worked), dtype=K.dtype)
        for _ in range(_NEWTON):
            chance = torch.sigmoid(f + mean)
            weight = (chance * (1 - chance)).clamp_min(1e-12)
            half = weight.sqrt()
            root = torch.linalg.cholesky(unit + half[:, None] * K * half)
            b = weight * f + self.worked - chance
            a = b - half * torch.cholesky_solve((half * (K @ b))[:, None], root)[:, 0]
            f = K @ a
        return f, self.worked - torch.sigmoid(f + mean), root, weight, a

    def _evidence(self, at: dict[str, Any]) -> Any:
        import torch

        parts = self._named(at)
        K = self._prior(self.rows, self.rows, parts)
        f, _, root, _, a = self._at_mode(K, parts["mean"])
        sign = 2 * self.worked - 1
        likely = torch.nn.functional.logsigmoid(sign * (f + parts["mean"])).sum()
        return likely - 0.5 * (a * f).sum() - root.diagonal().log().sum()

    def __call__(self, X: Any) -> Moments:
        import torch

        from locum.optimize._mfbo_models import Moments

        codes = torch.arange(self.L, dtype=X.dtype)
        rows = torch.cat([X[:, None].expand(-1, self.L, -1), codes.expand(len(X), -1)[..., None]], dim=-1)
        cross = self._prior(rows.reshape(-1, rows.shape[-1]), self.rows)
        mean = (self.parts["mean"] + cross @ self.pull).reshape(len(X), self.L)
        white = torch.linalg.solve_triangular(self.root, (cross * self.weight.sqrt()).mT, upper=False)
        white = white.reshape(-1, len(X), self.L)
        whole = self._prior(rows, rows) - torch.einsum("nbi,nbj->bij", white, white)
        return Moments(mean, whole + _WIDTH * torch.eye(self.L, dtype=X.dtype))
