"""Objectives that give their gradient with each value: d + 1 numbers an evaluation sharpen what is known of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_one_of
from locum.optimize.space import Real, Space
from locum.optimize.surrogate import Surrogate, given_noise, need_botorch

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = ["GradientGaussianProcess", "TakesGradients", "checked_gradients", "derivative_covariance", "unit_gradients"]

_FLOAT = NDArray[np.float64]
KERNELS = ("rbf", "matern52")


class TakesGradients(Surrogate):
    """A surrogate that is fitted to values and gradients."""

    @property
    def warps(self) -> bool:
        return False  # the gradients are those of the values as they are

    def fit(self, U: ArrayLike, y: ArrayLike, gradients: ArrayLike | None = None) -> Self:
        """Fit to values and gradients at some rows.

        Parameters
        ----------
        U : array-like of shape (n, width)
        y : array-like of shape (n,)
        gradients : array-like of shape (n, width) or None, default=None
            Slopes of the value in the columns of U; needed.

        Returns
        -------
        self

        Raises
        ------
        InvalidData
            No gradients, or some that are not finite or have another shape.
        """
        slopes = None if gradients is None else np.asarray(gradients, dtype=float)
        shape = np.shape(U)
        if slopes is None or slopes.shape != shape or not np.isfinite(slopes).all():
            got = "none" if slopes is None else f"shape {slopes.shape}"
            raise InvalidData(f"expected a finite gradient of shape {shape[1:]} for each of {shape[:1]} rows, got {got}")
        return self._fit(U, y, slopes)


@final
class GradientGaussianProcess(TakesGradients):
    r"""A Gaussian process of an objective observed together with its gradient.

    .. math:: \mathrm{Cov}(\partial_i f(x), f(x')) = \frac{\partial k(x, x')}{\partial x_i}, \qquad
       \mathrm{Cov}(\partial_i f(x), \partial_j f(x')) = \frac{\partial^2 k(x, x')}{\partial x_i \partial x'_j}

    Parameters
    ----------
    kernel : {"rbf", "matern52"}, default="matern52"
    noise : "learn" or float, default="learn"
        Variance of the noise of a value; that of slopes is learnt.

    Notes
    -----
    Cost: O((n (1 + d))³) for each step of the fit, some tens of them. Settings are the likeliest under the priors of
    `GaussianProcess`, with a variance of the process as well.

    References
    ----------
    Frazier, arXiv 1807.02811, section 5; Wu et al., arXiv 1703.04389.

    Examples
    --------
    >>> import numpy as np
    >>> U = np.linspace(0, 1, 4)[:, None]
    >>> process = GradientGaussianProcess("rbf", noise=0.0).fit(U, np.sin(6 * U[:, 0]), 6 * np.cos(6 * U))
    >>> bool(abs(process.predict(np.array([[0.5]]))[0] - np.sin(3.0)) < 0.05)
    True
    """

    def __init__(self, kernel: str = "matern52", noise: str | float = "learn") -> None:
        self.kernel = kernel
        self.noise = noise

    @property
    def exact(self) -> bool:
        return self.noise == 0

    def _make(self, rows: _FLOAT, values: _FLOAT, *gradients: _FLOAT) -> tuple[Model, ...]:
        from locum.optimize._gradient_process import fitted_with_gradients

        require_one_of(KERNELS, kernel=self.kernel)
        return (fitted_with_gradients(rows, values, gradients[0], self.kernel, given_noise(self.noise)),)


def derivative_covariance(A: ArrayLike, X: ArrayLike, lengths: ArrayLike, kernel: str = "rbf") -> _FLOAT:
    """Covariance of values and gradients at some rows with those at others, for a process of unit variance.

    Parameters
    ----------
    A : array-like of shape (a, d)
    X : array-like of shape (x, d)
    lengths : array-like of shape (d,)
    kernel : {"rbf", "matern52"}, default='rbf'

    Returns
    -------
    ndarray of shape (a * (1 + d), x * (1 + d))
        For each row its value, then its d slopes.
    """
    require_one_of(KERNELS, kernel=kernel)
    one, two, scale = (np.asarray(part, dtype=float) for part in (A, X, lengths))
    if one.ndim != 2 or two.ndim != 2 or scale.shape != one.shape[1:] or two.shape[1:] != one.shape[1:]:
        raise InvalidData(f"expected rows and lengths of one width, got shapes {one.shape}, {two.shape} and {scale.shape}")
    need_botorch()
    import torch

    from locum.optimize._gradient_process import covariance

    left, right, by = (torch.as_tensor(part) for part in (one, two, scale))
    return covariance(kernel, left, right, by, True, True).numpy()


def checked_gradients(
    surrogate: Surrogate, space: Space, points: Sequence[Mapping[str, Any]], given: ArrayLike | None, worked: NDArray[np.bool_]
) -> _FLOAT:
    """Slopes in the columns of the unit cube; of no columns for a surrogate that takes none.

    Parameters
    ----------
    surrogate : Surrogate
    space : Space
    points : sequence of points
    given : array-like of shape (n, parameters) or None
    worked : ndarray of bool, shape (n,)
        Evaluations that did not fail, whose slopes must be finite.

    Raises
    ------
    InvalidData
        Slopes that are not finite or have another shape, or any for a surrogate that takes none.
    """
    if not isinstance(surrogate, TakesGradients):
        if given is not None:
            raise InvalidData(f"{type(surrogate).__name__} takes no gradients; use GradientGaussianProcess()")
        return np.zeros((len(points), 0))
    out = np.full((len(points), 0), np.nan) if given is None else np.asarray(given, dtype=float)
    if out.shape != (len(points), len(space)) or not np.isfinite(out[worked]).all():
        raise InvalidData(f"expected finite gradients of shape ({len(points)}, {len(space)}), got shape {out.shape}")
    return unit_gradients(space, points, out)


def unit_gradients(space: Space, points: Sequence[Mapping[str, Any]], gradients: _FLOAT) -> _FLOAT:
    """Slopes in the parameters as slopes in the columns of the encoding, shape (n, width).

    Parameters
    ----------
    space : Space
    points : sequence of points
    gradients : ndarray of shape (n, parameters)

    Raises
    ------
    InvalidData
        A space that is not of Real parameters alone, which always matter.
    """
    if not all(isinstance(one, Real) and one.when is None for one in space.parameters):
        raise InvalidData("expected a space of Real parameters that always matter: there are no gradients in others")
    out = gradients.copy()
    for j, one in enumerate(space.parameters):
        assert isinstance(one, Real)
        out[:, j] *= math.log(one.high / one.low) * np.array([p[one.name] for p in points]) if one.log else one.high - one.low
    return out
