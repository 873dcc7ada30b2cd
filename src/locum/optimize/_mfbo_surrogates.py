"""Surrogates of an objective at several levels: the moments of all levels at a design, from evaluations at each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, require_one_of, require_whole
from locum.optimize.surrogate import given_noise, need_botorch

if TYPE_CHECKING:
    from botorch.models.model import Model

    from locum.optimize._mfbo_composed import Composed
    from locum.optimize._mfbo_models import Joint, Moments, Nested, Settings

__all__ = [
    "AutoregressiveProcess", "ContinuousFidelityProcess", "CoregionalizedProcess", "JointSurrogate", "LevelSurrogate",
    "NonlinearAutoregressiveProcess", "RecursiveAutoregressiveProcess", "positions_of",
]  # fmt: skip

_FLOAT = NDArray[np.float64]
_KERNELS = ("matern52", "rbf")
_RATIOS = ("constant", "linear")
_WEIGHTINGS = ("linear_truncated", "exponential_decay", "rbf")
_SAME = 1e-9  # designs nearer than that, in [0, 1], are one


class LevelSurrogate(BaseEstimator, ABC):
    """What stands in for an objective at several levels, the truth last.

    All of them answer the same question: mean and covariance of the levels at a design, from which every acquisition follows.

    Attributes
    ----------
    n_features_in_, n_levels_ : int
    noise_ : ndarray of shape (L,)
        Variance of the noise at each level, in the unit of the values squared.
    nested : bool
        Whether every design of a level must have been evaluated at the level below.
    """

    nested: ClassVar[bool] = False

    def fit(self, designs: Sequence[ArrayLike], values: Sequence[ArrayLike]) -> Self:
        """Fit to evaluations at each level.

        Parameters
        ----------
        designs : sequence of L array-likes of shape (n_l, d)
            Encoded designs, numbers in [0, 1]; cheapest level first, truth last.
        values : sequence of L array-likes of shape (n_l,)

        Returns
        -------
        self

        Raises
        ------
        InvalidData
            Shapes that do not fit, fewer than two designs at the truth or one at a level, or numbers that are not finite.
        MissingExtra
            BoTorch is not installed.
        """
        X, y = _checked(designs, values)
        need_botorch()
        self._X, self._y = X, y
        self._learn(X, y, None)
        return self

    def believing(self, designs: Sequence[ArrayLike], values: Sequence[ArrayLike]) -> Self:
        """A surrogate that has seen more, with the settings it has.

        Parameters
        ----------
        designs, values : sequence of L array-likes
            As for `fit`; levels may have none.
        """
        check_is_fitted(self)
        d = self.n_features_in_
        X = [np.concatenate([a, np.asarray(b, dtype=float).reshape(-1, d)]) for a, b in zip(self._X, designs, strict=True)]
        y = [np.concatenate([a, np.asarray(b, dtype=float)]) for a, b in zip(self._y, values, strict=True)]
        out = clone(self)
        out._X, out._y = _checked(X, y)
        out._learn(out._X, out._y, self)
        return out

    def predict(self, X: ArrayLike, level: int | None = None, return_std: bool = False) -> Any:
        """Mean of a new evaluation at some designs.

        Parameters
        ----------
        X : array-like of shape (m, d)
        level : int or None, default=None
            The truth where None.
        return_std : bool, default=False
            Whether its standard deviation, noise included, is given as well.

        Returns
        -------
        ndarray of shape (m,), or two of them
        """
        check_is_fitted(self)
        import torch

        rows, at = np.asarray(X, dtype=float), -1 if level is None else level
        if rows.ndim != 2 or rows.shape[1] != self.n_features_in_:
            raise InvalidData(f"expected designs of shape (m, {self.n_features_in_}), got {rows.shape}")
        if level is not None and not 0 <= level < self.n_levels_:
            raise InvalidData(f"expected a level from 0 to {self.n_levels_ - 1}, got {level!r}")
        with torch.no_grad():
            parts = [self.moments(part) for part in torch.as_tensor(rows).split(512)]
            mean = torch.cat([part.mean[:, at] for part in parts]).numpy()
            if not return_std:
                return mean
            variance = torch.cat([part.variance[:, at] for part in parts]).numpy()
        return mean, np.sqrt(variance + self.noise_[at])

    def moments(self, X: Any) -> Moments:
        """Mean and covariance of all levels at designs, differentiable.

        Parameters
        ----------
        X : torch.Tensor of shape (b, d)
        """
        return self._moments(X)

    _moments: Joint | Nested | Composed
    _centres: _FLOAT
    _spreads: _FLOAT

    @abstractmethod
    def _learn(self, X: list[_FLOAT], y: list[_FLOAT], before: Any) -> None:
        """Find settings, or take those of a surrogate `before`, and prepare the moments."""

    def _known(self, X: list[_FLOAT], noise: _FLOAT) -> None:
        self.n_features_in_, self.n_levels_, self.noise_ = X[0].shape[1], len(X), noise


class JointSurrogate(LevelSurrogate):
    """A surrogate that is one process over designs and levels, so that it knows what a level says of others elsewhere.

    Attributes
    ----------
    model_ : botorch Model
        Over rows (design, code of the level), of standardised values.
    codes_ : ndarray of shape (L,)
        What stands for each level in its rows.
    """

    model_: Model
    codes_: _FLOAT
    _moments: Joint

    def _joint(self, model: Any, codes: _FLOAT, centres: _FLOAT, spreads: _FLOAT) -> None:
        import torch

        from locum.optimize._mfbo_models import Joint, LevelKernel
        from locum.optimize._process import PlainProcess

        self.model_, self.codes_, process = model, codes, PlainProcess(model)
        kernel = model.covar_module
        covariance = kernel.covariance if isinstance(kernel, LevelKernel) else process.value_value
        self._moments = Joint(process, covariance, *map(torch.as_tensor, (codes, centres, spreads)))

    def prior(self, design: Any) -> Any:
        """Covariance of the levels at a design before anything was seen, a tensor of shape (L, L).

        Parameters
        ----------
        design : torch.Tensor of shape (1, d)
        """
        return self._moments.prior(design)


@final
class AutoregressiveProcess(JointSurrogate):
    r"""Each level is the one below times ρ, and a process of its own: co-kriging, with all values at once.

    .. math:: f_l(x) = \rho_{l-1}(x)\, f_{l-1}(x) + \delta_l(x), \qquad \delta_l \perp f_{l-1}

    Parameters
    ----------
    ratio : {"constant", "linear"}, default="constant"
        Whether ρ may change over the box.
    kernel : {"matern52", "rbf"}, default="matern52"
    noise : "learn" or float, default="learn"
        Variance of the noise, one for each level where learnt; 0 for solvers without any.
    settings : Settings or None, default=None
        Of another process, to be taken as they are.
    components : int or None, default=None
        For many parameters: lengths follow from as many numbers a level, by directions of partial least squares; each length is
        found by itself where None.

    Attributes
    ----------
    settings_ : Settings
        Lengths, variances, ρ, means and noise, of standardised values of each level.

    Notes
    -----
    Cost: O(N³) a step of the fit with N evaluations in all, some hundred steps; seconds for a few hundred of them.

    ρ and lengths cannot be told from two or three common designs, so all settings have priors: ρ between standardised levels
    is about 0.7 ± 1. What a level adds is a plane, integrated out, and a process.

    References
    ----------
    Kennedy and O'Hagan, *Predicting the output from a complex computer code when fast approximations are available*, 2000;
    Bouhlel et al., *Improving kriging surrogates of high-dimensional design models by partial least squares dimension
    reduction*, 2016, for `components`; Do and Zhang, arXiv 2311.13050.

    Examples
    --------
    >>> import numpy as np
    >>> many, few = np.linspace(0, 1, 11)[:, None], np.linspace(0, 1, 4)[:, None]
    >>> low = lambda X: np.sin(9 * X[:, 0])
    >>> process = AutoregressiveProcess(noise=0.0).fit([many, few], [low(many), 2 * low(few) + few[:, 0]])
    >>> bool(abs(process.predict([[0.55]])[0] - (2 * np.sin(9 * 0.55) + 0.55)) < 0.1)
    True
    """

    def __init__(
        self, ratio: str = "constant", kernel: str = "matern52", noise: str | float = "learn", settings: Settings | None = None,
        components: int | None = None,
    ) -> None:  # fmt: skip
        self.ratio = ratio
        self.kernel = kernel
        self.noise = noise
        self.settings = settings
        self.components = components

    def _learn(self, X: list[_FLOAT], y: list[_FLOAT], before: Any) -> None:
        from locum.optimize._mfbo_models import autoregressive_model, settings_of_levels

        require_one_of(_RATIOS, ratio=self.ratio)
        require_one_of(_KERNELS, kernel=self.kernel)
        if self.components is not None:
            require_whole(1, components=self.components)
        noise, kept = given_noise(self.noise), self.settings if before is None else before.settings_
        centres, spreads = _scales(y) if kept is None else (kept.centres, kept.spreads)
        rows, values = _stacked(X, y, np.arange(len(X), dtype=float), centres, spreads)
        self.settings_ = kept or settings_of_levels(
            rows, values, centres, spreads, noise=None if noise is None else noise / spreads**2,
            linear=self.ratio == "linear", kernel=self.kernel, components=self.components,
        )  # fmt: skip
        self._known(X, self.settings_.noise * spreads**2)
        model = autoregressive_model(rows, values, self.settings_, self.kernel)
        self._joint(model, np.arange(len(X), dtype=float), centres, spreads)


@final
class RecursiveAutoregressiveProcess(LevelSurrogate):
    """`AutoregressiveProcess` one level after another, for nested designs and solvers without noise.

    Every design of a level was evaluated at the level below, so what a level adds is known at its designs, and each level is
    a small problem of its own. Mean and variance are those of the joint process.

    Parameters
    ----------
    ratio : {"constant", "linear"}, default="constant"
    kernel : {"matern52", "rbf"}, default="matern52"
    settings : Settings or None, default=None
        Of another process, to be taken as they are.

    Attributes
    ----------
    settings_ : Settings

    Raises
    ------
    InvalidData
        By `fit`: designs that are not nested, named.

    Notes
    -----
    Cost: O(Σ n_l³) a step of the fit.

    References
    ----------
    Le Gratiet and Garnier, arXiv 1210.0686.
    """

    nested = True

    def __init__(self, ratio: str = "constant", kernel: str = "matern52", settings: Settings | None = None) -> None:
        self.ratio = ratio
        self.kernel = kernel
        self.settings = settings

    def _learn(self, X: list[_FLOAT], y: list[_FLOAT], before: Any) -> None:
        import torch

        from locum.optimize._mfbo_models import Nested

        require_one_of(_RATIOS, ratio=self.ratio)
        require_one_of(_KERNELS, kernel=self.kernel)
        below = [np.zeros(0), *(_values_below(X[k], X[k - 1], y[k - 1], k) for k in range(1, len(X)))]
        kept = self.settings if before is None else before.settings_
        self.settings_ = kept or self._found(X, y, below)
        settings = self.settings_
        z = [(one - a) / b for one, a, b in zip(y, settings.centres, settings.spreads, strict=True)]
        rests = [torch.as_tensor(one) for one in z]
        for k in range(1, len(X)):
            ratio = settings.ratios[k - 1]
            each = ratio[0] + ((X[k] - 0.5) @ ratio[1:] if len(ratio) > 1 else 0.0)
            rests[k] = rests[k] - torch.as_tensor(each * (below[k] - settings.centres[k - 1]) / settings.spreads[k - 1])
        self._known(X, np.zeros(len(X)))
        self._moments = Nested([torch.as_tensor(one) for one in X], rests, settings, self.kernel)

    def _found(self, X: list[_FLOAT], y: list[_FLOAT], below: list[_FLOAT]) -> Settings:
        """Settings of each level in turn: of two levels at the same designs, the lower one's own part says nothing new."""
        from locum.optimize._mfbo_models import Settings, settings_of_step

        centres, spreads = _scales(y)
        found: list[dict[str, Any]] = []
        for k, (designs, values) in enumerate(zip(X, y, strict=True)):
            lower = None if k == 0 else (below[k] - centres[k - 1]) / spreads[k - 1]
            found.append(settings_of_step(
                designs, (values - centres[k]) / spreads[k], lower, found[-1]["mean"] if k else 0.0,
                linear=self.ratio == "linear", kernel=self.kernel,
            ))  # fmt: skip
        return Settings(
            np.array([one["lengths"] for one in found]), np.array([one["variance"] for one in found]),
            np.array([one["ratio"] for one in found[1:]]), np.array([one["mean"] for one in found]), np.zeros(len(X)),
            centres, spreads,
        )  # fmt: skip


@final
class NonlinearAutoregressiveProcess(LevelSurrogate):
    r"""Each level is an unknown function of the design and of the level below.

    .. math:: f_l(x) = g_l(x, f_{l-1}(x)), \qquad k_g = k_\rho(x, x')\, k_f(f, f') + k_\delta(x, x')

    What is not known of a level goes through those above it by draws, so bent and broken relations of levels are learnt where
    ρ would have to be a number.

    Parameters
    ----------
    draws : int, default=256
    noise : "learn" or float, default="learn"
    random_state : int, default=0

    Notes
    -----
    Cost: a process a level; `draws` predictions for each that is asked.

    References
    ----------
    Perdikaris et al., *Nonlinear information fusion algorithms for data-efficient multi-fidelity modelling*, 2017.
    """

    def __init__(self, draws: int = 256, noise: str | float = "learn", random_state: int = 0) -> None:
        self.draws = draws
        self.noise = noise
        self.random_state = random_state

    def _learn(self, X: list[_FLOAT], y: list[_FLOAT], before: Any) -> None:
        import torch

        from locum.optimize._mfbo_composed import Composed, composed_settings
        from locum.optimize._models import standard_normals

        require_whole(2, draws=self.draws)
        require_whole(0, random_state=self.random_state)
        noise = given_noise(self.noise)
        self._centres, self._spreads = (before._centres, before._spreads) if before is not None else _scales(y)
        z = [torch.as_tensor((one - a) / b) for one, a, b in zip(y, self._centres, self._spreads, strict=True)]
        scaled = [None if noise is None else noise / float(b) ** 2 for b in self._spreads]
        first = AutoregressiveProcess("constant", "rbf", "learn" if scaled[0] is None else scaled[0])
        self._first = first.fit(X[:1], [z[0].numpy()]) if before is None else clone(before._first).set_params(
            settings=before._first.settings_
        ).fit(X[:1], [z[0].numpy()])  # fmt: skip
        normals = standard_normals(self.draws, len(X), self.random_state)
        assert self._first._moments is not None
        scales = torch.as_tensor(self._centres), torch.as_tensor(self._spreads)
        whole, self._levels = Composed(self._first._moments, normals, *scales), []
        for k in range(1, len(X)):
            with torch.no_grad():
                guess = whole.standardised(torch.as_tensor(X[k])).mean[:, k - 1].numpy()
            lower = _values_where_known(X[k], X[k - 1], z[k - 1].numpy(), guess)
            rows = torch.as_tensor(np.column_stack([X[k], lower]))
            found = composed_settings(rows, z[k], scaled[k]) if before is None else before._levels[k - 1]
            self._levels.append(found)
            whole.add(rows, z[k], found)
        each = [float(self._first.noise_[0]), *(float(one["noise"][0]) for one in self._levels)]
        self._known(X, np.array(each) * self._spreads**2)
        self._moments = whole


@final
class CoregionalizedProcess(JointSurrogate):
    r"""Levels without an order: one correlation over designs, times a free covariance of the levels.

    .. math:: \mathrm{cov}(f_l(x), f_{l'}(x')) = \Big( \sum_q a_q a_q^\top + \mathrm{diag}(\kappa) \Big)_{l l'} k(x, x')

    Parameters
    ----------
    rank : int, default=1
        Vectors a in the sum.
    noise : "learn" or float, default="learn"

    Attributes
    ----------
    covariance_ : ndarray of shape (L, L)
        Of the levels, each standardised.

    Notes
    -----
    Cost: O(N³) a step of the fit, some hundred steps. BoTorch's process of several tasks takes correlations above 0 alone; here
    a level may be the truth upside down.

    References
    ----------
    Goovaerts, *Geostatistics for natural resources evaluation*, 1997; Bonilla, Chai and Williams, *Multi-task Gaussian
    process prediction*, 2007.
    """

    def __init__(self, rank: int = 1, noise: str | float = "learn") -> None:
        self.rank = rank
        self.noise = noise

    def _learn(self, X: list[_FLOAT], y: list[_FLOAT], before: Any) -> None:
        from locum.optimize._mfbo_models import coregionalized_model, coregionalized_settings

        require_whole(1, rank=self.rank)
        noise = given_noise(self.noise)
        self._centres, self._spreads = (before._centres, before._spreads) if before is not None else _scales(y)
        codes = np.arange(len(X), dtype=float)
        rows, values = _stacked(X, y, codes, self._centres, self._spreads)
        known = None if noise is None else noise / self._spreads**2
        found = before._settings if before is not None else coregionalized_settings(rows, values, len(X), self.rank, known)
        self._settings = found
        self.covariance_ = found["shared"] @ found["shared"].T + np.diag(np.exp(found["own"]))
        self._known(X, found["noise"] * self._spreads**2)
        self._joint(coregionalized_model(rows, values, found), codes, self._centres, self._spreads)


@final
class ContinuousFidelityProcess(JointSurrogate):
    """Levels are positions s in [0, 1] of one dial, such as mesh size or training time; the truth is at s = 1.

    Parameters
    ----------
    positions : sequence of float
        Of the levels, rising, the last is 1.
    weighting : {"linear_truncated", "exponential_decay", "rbf"}, default="linear_truncated"
        How levels are alike: errors that vanish as s comes to 1, in proportion; errors that decay as with time of training; or
        by the distance of s alone, as in BOCA.
    noise : "learn" or float, default="learn"

    Notes
    -----
    Cost: O(N³) a step of the fit, through BoTorch.

    References
    ----------
    Wu et al., arXiv 1903.04703 (the first two, through BoTorch); Kandasamy et al., arXiv 1703.06240 (the third).
    """

    def __init__(self, positions: Sequence[float], weighting: str = "linear_truncated", noise: str | float = "learn") -> None:
        self.positions = positions
        self.weighting = weighting
        self.noise = noise

    def _learn(self, X: list[_FLOAT], y: list[_FLOAT], before: Any) -> None:
        from locum.optimize._mfbo_models import fitted_with, over_positions

        require_one_of(_WEIGHTINGS, weighting=self.weighting)
        codes = positions_of(self.positions)
        if len(codes) != len(X):
            raise InvalidData(f"expected a level for each of {len(codes)} positions, got {len(X)} levels")
        one = _scales([np.concatenate(y)])  # levels of one dial share a unit
        self._centres, self._spreads = (before._centres, before._spreads) if before else (np.repeat(a, len(X)) for a in one)
        rows, values = _stacked(X, y, codes, self._centres, self._spreads)
        noise = _noise_of(given_noise(self.noise), X, self._spreads)
        kernel = over_positions(self.weighting, X[0].shape[1])
        model = fitted_with(kernel, rows, values, noise, None if before is None else before.model_.state_dict())
        self._known(X, _noise_found(model, X, self._spreads))
        self._joint(model, codes, self._centres, self._spreads)


# ---------------------------------------------------------------------- parts
def _checked(designs: Sequence[ArrayLike], values: Sequence[ArrayLike]) -> tuple[list[_FLOAT], list[_FLOAT]]:
    X, y = [np.asarray(one, dtype=float) for one in designs], [np.asarray(one, dtype=float) for one in values]
    if not X or len(X) != len(y):
        raise InvalidData(f"expected designs and values for each level, got {len(X)} and {len(y)}")
    d = X[-1].shape[1] if X[-1].ndim == 2 else 0
    for k, (rows, told) in enumerate(zip(X, y, strict=True)):
        if not d or rows.ndim != 2 or rows.shape[1] != d or told.shape != (len(rows),):
            shapes = f"{rows.shape} and {told.shape}"
            raise InvalidData(f"expected designs of shape (n, {d or 'd'}) and (n,) values at level {k}, got {shapes}")
        if len(rows) < (2 if k == len(X) - 1 else 1):
            raise InvalidData(f"expected two designs at the truth and one at each other level, got {len(rows)} at level {k}")
        if not (np.isfinite(rows).all() and np.isfinite(told).all()):
            raise InvalidData(f"expected finite designs and values, got NaN or infinity at level {k}; leave failures out")
    return X, y


def _scales(y: list[_FLOAT]) -> tuple[_FLOAT, _FLOAT]:
    """Centres and spreads of the levels."""
    centres, spreads = np.array([one.mean() for one in y]), np.array([one.std() for one in y])
    return centres, np.where(spreads > 1e-12 * (1 + np.abs(centres)), spreads, 1.0)


def _stacked(X: list[_FLOAT], y: list[_FLOAT], codes: _FLOAT, centres: _FLOAT, spreads: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    """Rows (x, code of the level), and standardised values."""
    rows = np.concatenate([np.column_stack([one, np.full(len(one), codes[k])]) for k, one in enumerate(X)])
    return rows, np.concatenate([(one - centres[k]) / spreads[k] for k, one in enumerate(y)])


def _noise_of(noise: float | None, X: list[_FLOAT], spreads: _FLOAT) -> _FLOAT | None:
    """A given variance for each standardised value."""
    if noise is None:
        return None
    return np.concatenate([np.full(len(one), noise / s**2) for one, s in zip(X, spreads, strict=True)])


def _noise_found(model: Any, X: list[_FLOAT], spreads: _FLOAT) -> _FLOAT:
    """Variance of the noise at each level, in the unit of the values."""
    noise = model.likelihood.noise.detach().reshape(-1).numpy()
    firsts = np.cumsum([0, *map(len, X[:-1])])
    return np.asarray((noise[firsts] if len(noise) > 1 else np.repeat(noise, len(X))) * spreads**2)


def _nearest(X: _FLOAT, lower: _FLOAT) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Which design of the level below each is, and whether it is there."""
    apart = np.abs(X[:, None] - lower[None]).max(axis=-1)
    at = apart.argmin(axis=1)
    return at, apart[np.arange(len(X)), at] <= _SAME


def _values_below(X: _FLOAT, lower: _FLOAT, values: _FLOAT, level: int) -> _FLOAT:
    at, there = _nearest(X, lower)
    if not there.all():
        lost = ", ".join(str(X[i].round(4).tolist()) for i in np.flatnonzero(~there)[:3])
        raise InvalidData(
            f"expected every design of level {level} at level {level - 1} as well; {int((~there).sum())} are not, such as "
            f"{lost}; evaluate them there, or use AutoregressiveProcess"
        )
    return values[at]


def _values_where_known(X: _FLOAT, lower: _FLOAT, values: _FLOAT, guess: _FLOAT) -> _FLOAT:
    at, there = _nearest(X, lower)
    return np.where(there, values[at], guess)


def positions_of(positions: Sequence[float]) -> _FLOAT:
    """Positions of a dial as an array, refused where they do not rise to 1."""
    found = np.asarray(positions, dtype=float)
    if found.ndim != 1 or not len(found) or not (np.diff(found) > 0).all() or found[0] < 0 or found[-1] != 1:
        raise InvalidData(f"expected rising positions in [0, 1], the last of them 1, got {positions!r}")
    return found
