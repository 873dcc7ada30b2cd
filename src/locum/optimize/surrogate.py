"""Surrogates of an objective: a mean and a spread for every point, as estimators and as BoTorch models alike."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_one_of, require_whole

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = ["GaussianProcess", "Surrogate"]

_FLOAT = NDArray[np.float64]
KERNELS = ("matern52", "matern32", "matern12", "rbf", "power_exponential")
MEANS = ("constant", "linear", "quadratic")
HYPERPARAMETERS = ("map", "mle", "sampled")


def evenly(n: int, most: int | None) -> NDArray[np.intp]:
    """Up to `most` of n positions, as far apart as can be; all where None."""
    return np.arange(n) if most is None or n <= most else np.linspace(0, n - 1, most).round().astype(np.intp)


def need_botorch() -> None:
    """Import BoTorch, whose packages use what torch has deprecated, or say which extra brings it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        need("botorch", "a surrogate of an objective", "optimize")


class Surrogate(RegressorMixin, BaseEstimator, ABC):
    """What stands in for an objective: fitted to a few evaluations, it gives a distribution for every other point.

    A final class makes a BoTorch model of rows in [0, 1]; everything else follows from it. BoTorch's acquisition functions work
    on ``model_``, in float64.

    Attributes
    ----------
    model_ : botorch Model
        After `fit`; larger is better in its posterior if the values given were.
    models_ : tuple of botorch Model
        That one alone, or one a sample of the settings.
    n_features_in_ : int
    most : int or None
        Rows that it can be fitted to in reasonable time; the loop gives it no more.
    """

    most: ClassVar[int | None] = None

    def fit(self, U: ArrayLike, y: ArrayLike) -> Self:
        """Fit to values at some rows.

        Parameters
        ----------
        U : array-like of shape (n, width)
            Encoded points; numbers in [0, 1].
        y : array-like of shape (n,)

        Returns
        -------
        self

        Raises
        ------
        InvalidData
            Fewer than two rows, or numbers that are not finite.
        MissingExtra
            BoTorch is not installed.
        """
        return self._fit(U, y)

    def _fit(self, U: ArrayLike, y: ArrayLike, *gradients: _FLOAT) -> Self:
        rows, values = np.asarray(U, dtype=float), np.asarray(y, dtype=float)
        if rows.ndim != 2 or values.shape != (len(rows),) or len(rows) < 2:
            raise InvalidData(f"expected two or more rows and one value each, got shapes {rows.shape} and {values.shape}")
        if not (np.isfinite(rows).all() and np.isfinite(values).all()):
            raise InvalidData("expected finite rows and values, got NaN or infinity; leave evaluations that failed out")
        need_botorch()
        self.n_features_in_ = rows.shape[1]
        self.models_ = self._make(rows, values, *gradients)
        self.model_ = self.models_[0]
        return self

    @abstractmethod
    def _make(self, rows: _FLOAT, values: _FLOAT, *gradients: _FLOAT) -> tuple[Model, ...]: ...

    @property
    def exact(self) -> bool:
        """Whether values are taken to be without noise."""
        return False

    @property
    def warps(self) -> bool:
        """Whether it may be fitted to values under a transform that keeps their order."""
        return True

    def predict(self, U: ArrayLike, return_std: bool = False) -> Any:
        """Mean of a new evaluation at some rows.

        Parameters
        ----------
        U : array-like of shape (m, width)
        return_std : bool, default=False
            Whether its standard deviation, noise included, is given as well.

        Returns
        -------
        ndarray of shape (m,), or two of them
        """
        check_is_fitted(self)
        torch = need("torch", "a surrogate of an objective", "optimize")
        rows = np.asarray(U, dtype=float)
        if rows.ndim != 2 or rows.shape[1] != self.n_features_in_:
            raise InvalidData(f"expected rows of shape (m, {self.n_features_in_}), got {rows.shape}")
        with torch.no_grad():
            found: Any = [one.posterior(torch.as_tensor(rows), observation_noise=return_std) for one in self.models_]
            means = np.stack([one.mean.squeeze(-1).numpy() for one in found])
            if not return_std:
                return means.mean(axis=0)
            spreads = np.stack([one.variance.squeeze(-1).clamp_min(0).numpy() for one in found])
            return means.mean(axis=0), np.sqrt(spreads.mean(axis=0) + means.var(axis=0))


def given_noise(noise: str | float) -> float | None:
    """The variance given, or None where it is to be learnt."""
    if noise != "learn" and (isinstance(noise, bool | str) or not 0 <= float(noise) < np.inf):
        raise InvalidData(f'expected noise= to be "learn" or a variance of 0 or more, got {noise!r}')
    return None if noise == "learn" else float(noise)


@final
class GaussianProcess(Surrogate):
    """A Gaussian process with a length for each column.

    Parameters
    ----------
    kernel : {"matern52", "matern32", "matern12", "rbf", "power_exponential"}, default="matern52"
        The last is exp(-Σ |x - x'|^p) in scaled distances, with p between 1 and 2 learnt; "rbf" is p = 2.
    noise : "learn" or float, default="learn"
        Variance of the noise of an evaluation, in the unit of the values squared; 0 for an objective without any.
    mean : {"constant", "linear", "quadratic"} or callable, default="constant"
        Features whose weighted sum is the mean far from data. A callable takes a tensor of rows of shape (..., width) and gives
        one of shape (..., k).
    hyperparameters : {"map", "mle", "sampled"}, default="map"
        The likeliest settings under priors, the likeliest without any, or some drawn from their posterior by slice sampling.
        With "sampled" the loop averages acquisition functions over them, not predictions.
    input_warping : bool, default=False
        Whether each column is bent, 1 - (1 - x^a)^b with powers that are learnt at their mode, so that the process may change
        faster at one end of a range than at the other: for optima in a corner, as of designs whose ranges span decades.
    random_state : int, default=0

    Attributes
    ----------
    models_ : tuple of botorch Model
        One a sample of the settings.

    Notes
    -----
    Cost: O(n³) for each step of the fit, some tens of them, on 400 of the rows where there are more, and once on all; "sampled"
    takes some 150 steps a setting. A loop gives it at most 2,000 rows, the best and an even choice of the others.
    Lengths have the priors of Hvarfner, Hellsten and Nardi, arXiv 2402.02229, which grow with the square root of the number of
    columns; warps are those of Snoek, Swersky, Zemel and Adams, arXiv 1402.0929, with the prior that BoTorch proposes. "mle"
    shrinks lengths to nothing where there are few points. Through BoTorch, arXiv 1910.06403.

    Examples
    --------
    >>> import numpy as np
    >>> U = np.linspace(0, 1, 8)[:, None]
    >>> process = GaussianProcess(noise=0.0).fit(U, np.sin(6 * U[:, 0]))
    >>> mean, sd = process.predict(np.array([[0.5]]), return_std=True)
    >>> bool(abs(mean[0] - np.sin(3.0)) < 0.05)
    True
    """

    most = 2000

    def __init__(
        self,
        kernel: str = "matern52",
        noise: str | float = "learn",
        mean: str | Callable[[Any], Any] = "constant",
        hyperparameters: str = "map",
        input_warping: bool = False,
        random_state: int = 0,
    ) -> None:
        self.kernel = kernel
        self.noise = noise
        self.mean = mean
        self.hyperparameters = hyperparameters
        self.input_warping = input_warping
        self.random_state = random_state

    @property
    def exact(self) -> bool:
        return self.noise == 0

    @property
    def warps(self) -> bool:
        return self.noise in ("learn", 0)  # any other variance is in the unit of the values

    def _make(self, rows: _FLOAT, values: _FLOAT, *gradients: _FLOAT) -> tuple[Model, ...]:
        from locum.nets import seeded
        from locum.optimize._gaussian_process import fitted, sampled

        require_one_of(KERNELS, kernel=self.kernel)
        require_one_of(HYPERPARAMETERS, hyperparameters=self.hyperparameters)
        if not callable(self.mean) and self.mean not in MEANS:
            raise InvalidData(f"expected mean= to be one of {', '.join(MEANS)}, or a callable, got {self.mean!r}")
        if self.input_warping and self.kernel == "power_exponential":
            raise InvalidData('expected another kernel= with input_warping=True, got "power_exponential"')
        noise = given_noise(self.noise)
        require_whole(0, random_state=self.random_state)
        with seeded(self.random_state):
            model = fitted(
                rows, values, self.kernel, noise, self.mean, priors=self.hyperparameters != "mle", warped=self.input_warping
            )
        if self.hyperparameters != "sampled":
            return (model,)
        return sampled(model, np.random.default_rng(self.random_state))
