"""Processes of several levels: covariances, settings at the mode of their posterior, and moments of all levels at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.exceptions.warnings import InputDataWarning, OptimizationWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.kernels.exponential_decay import ExponentialDecayKernel
from botorch.models.kernels.linear_truncated_fidelity import LinearTruncatedFidelityKernel
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.means import Mean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from gpytorch.settings import min_fixed_noise
from gpytorch.utils.warnings import NumericalWarning
from numpy.typing import NDArray
from scipy.optimize import minimize

from locum.optimize._mfbo_likelihood import LevelLikelihood, plane
from locum.optimize._mfbo_reduced import Reduced, directions
from locum.optimize._process import PlainProcess, root_of

__all__ = [
    "CORRELATIONS", "LEARNT_NOISE", "LEAST_NOISE", "MEAN", "REST", "WHOLE", "Joint", "Layout", "LevelKernel", "Moments",
    "Nested", "Settings", "apart", "autoregressive_model", "coregionalized_model", "coregionalized_settings", "explained",
    "explained_alone", "fitted_with", "lengths_prior", "level_covariance", "likelihood", "mode", "over_positions",
    "settings_of_levels", "settings_of_step", "traced",
]  # fmt: skip

_FLOAT = NDArray[np.float64]
Falls = Callable[[dict[str, _FLOAT]], tuple[float, dict[str, _FLOAT]]]
LEAST_NOISE = 1e-10  # of the variance of a level: deterministic solvers need no more
_SURE_NOISE = 1e-6  # where kernels of several positions leave matrices closer to singular
LEARNT_NOISE = (-8.0, 3.0)  # prior of its logarithm: solvers are nearly exact
_STEPS = 60
_FIRST_LENGTHS = (-1.0, 1.0)  # of the starts, off the centre of their prior
_SMOOTH = 2.5  # and of what levels add, in one more start: its size rises as much
_RATIO = (0.7, 1.0)  # prior of ρ between standardised levels
_SLOPE = (0.0, 0.5)
WHOLE, REST = (0.0, 1.0), (-1.5, 1.5)  # priors of the logarithms of the variances: of level 0, and of what is added
MEAN = (0.0, 1.0)
_SHARED = (0.8, 0.8)  # prior of what levels have in common


def apart(A: Any, B: Any, lengths: Any) -> Any:
    return (((A / lengths).unsqueeze(-2) - (B / lengths).unsqueeze(-3)) ** 2).sum(dim=-1)


def _matern52(r2: Any) -> Any:
    r = (5.0 * r2 + 1e-20).sqrt()  # the root has no slope at 0
    return (1.0 + r + (5.0 / 3.0) * r2) * (-r).exp()


def _rbf(r2: Any) -> Any:
    return (-0.5 * r2).exp()


CORRELATIONS: dict[str, Callable[[Any], Any]] = {"matern52": _matern52, "rbf": _rbf}


# ---------------------------------------------------------------------- moments
@dataclass(frozen=True, eq=False)
class Moments:
    """Of all levels at some designs, truth last.

    Parameters
    ----------
    mean : torch.Tensor of shape (b, L)
    covariance : torch.Tensor of shape (b, L, L)
    """

    mean: Any
    covariance: Any

    @property
    def variance(self) -> Any:
        """Of each level, shape (b, L)."""
        return self.covariance.diagonal(dim1=-2, dim2=-1).clamp_min(1e-18)


def explained(moments: Moments) -> Any:
    """Variance of the truth that knowing a level at the same design would take away, shape (b, L)."""
    return moments.covariance[..., -1] ** 2 / moments.variance


def explained_alone(moments: Moments) -> Any:
    """Standard deviation of the truth by what is not known of a level alone: at the truth, what the level below leaves."""
    part = explained(moments)
    if part.shape[1] > 1:
        part = torch.cat([part[:, :-1], part[:, -1:] - part[:, -2:-1]], dim=1)
    return part.clamp_min(1e-18).sqrt()


class Joint:
    """Moments of levels by one process over rows (x, code of the level).

    Parameters
    ----------
    process : PlainProcess
        Of standardised values.
    covariance : callable
        Its prior covariance of rows, by the shortest way.
    codes, centres, spreads : torch.Tensor of shape (L,)
    """

    def __init__(
        self, process: PlainProcess, covariance: Callable[[Any, Any], Any], codes: Any, centres: Any, spreads: Any
    ) -> None:
        self.process, self.covariance = process, covariance
        self.codes, self.centres, self.spreads = codes, centres, spreads

    def _rows(self, X: Any) -> Any:
        L = len(self.codes)
        return torch.cat([X[:, None].expand(-1, L, -1), self.codes.expand(len(X), L)[..., None]], dim=-1)

    def prior(self, X: Any) -> Any:
        """Covariance of the levels at one design, of shape (1, d), before anything was seen."""
        with torch.no_grad():
            whole = self.covariance(self._rows(X), self._rows(X))[0]
        return whole * self.spreads[:, None] * self.spreads

    def __call__(self, X: Any) -> Moments:
        return Moments(*self.of_rows(self._rows(X)))

    def of_rows(self, rows: Any) -> tuple[Any, Any]:
        """Mean and covariance of groups of rows (x, code), shape (b, m, d + 1), as tensors (b, m) and (b, m, m)."""
        process, (b, m, _) = self.process, rows.shape
        flat = rows.reshape(b * m, -1)
        cross = self.covariance(flat, process.train)
        mean = (process.prior_mean(flat) + cross @ process.weights).reshape(b, m)
        white = torch.linalg.solve_triangular(process.root, cross.mT, upper=False).reshape(-1, b, m)
        whole = self.covariance(rows, rows) - torch.einsum("nbi,nbj->bij", white, white)
        level = (rows[..., -1:].detach() - self.codes).abs().argmin(dim=-1)
        spread = self.spreads[level]
        return mean * spread + self.centres[level], whole * spread[..., :, None] * spread[..., None, :]


# ---------------------------------------------------------------------- settings of levels on top of one another
@dataclass(frozen=True, eq=False)
class Settings:
    """Of levels on top of one another, each standardised.

    Parameters
    ----------
    lengths : ndarray of shape (L, d)
    variances : ndarray of shape (L,)
        Of level 0 and of what each further level adds.
    ratios : ndarray of shape (L - 1, 1 or d + 1)
        ρ at the centre of the box, and its slopes.
    means : ndarray of shape (L,)
    noise : ndarray of shape (L,)
    centres, spreads : ndarray of shape (L,)
        By which values were standardised.
    """

    lengths: _FLOAT
    variances: _FLOAT
    ratios: _FLOAT
    means: _FLOAT
    noise: _FLOAT
    centres: _FLOAT
    spreads: _FLOAT


def lengths_prior(d: int) -> tuple[float, float]:
    """Of the logarithm of a length; the mode is that of the log-normal prior of the length itself (arXiv 2402.02229)."""
    return math.sqrt(2) + 0.5 * math.log(d) - 3.0, math.sqrt(3)


class Layout:
    """How settings stand in one vector, with the priors of its parts: logarithms of what is positive.

    Parameters
    ----------
    parts : dict of str to (shape, mean, deviation)
    """

    def __init__(self, parts: dict[str, tuple[tuple[int, ...], float, float]]) -> None:
        self.parts = parts
        sizes = [math.prod(shape) for shape, _, _ in parts.values()]
        self.mean = np.repeat([mean for _, mean, _ in parts.values()], sizes)
        self.deviation = np.repeat([deviation for _, _, deviation in parts.values()], sizes)
        ends = np.cumsum([0, *sizes]).tolist()
        self._places = {name: slice(ends[i], ends[i + 1]) for i, name in enumerate(parts)}

    def of(self, at: Any) -> dict[str, Any]:
        """The parts of a vector, tensor or array."""
        return {name: at[self._places[name]].reshape(shape) for name, (shape, _, _) in self.parts.items()}

    def start(self, **off: float) -> _FLOAT:
        """The means of the priors, with some parts moved by a number."""
        out = self.mean.copy()
        for name, by in off.items():
            out[self._places[name]] += by
        return out


def likelihood(K: Any, residual: Any) -> Any:
    """Logarithm of the likelihood of values less their means, up to a constant; minus infinity where K is not one."""
    root, failed = torch.linalg.cholesky_ex(K)
    if failed:
        return torch.tensor(-torch.inf)
    white = torch.linalg.solve_triangular(root, residual[:, None], upper=False)
    return -0.5 * (white**2).sum() - root.diagonal().log().sum()


def traced(density: Callable[[dict[str, Any]], Any]) -> Falls:
    """Less a logarithm of a likelihood of tensors, with its slopes by automatic differentiation."""

    def falls(parts: dict[str, _FLOAT]) -> tuple[float, dict[str, _FLOAT]]:
        leaves = {name: torch.tensor(part, requires_grad=True) for name, part in parts.items()}
        value = -density(leaves)
        if not torch.isfinite(value):
            return math.inf, parts
        slopes = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
        found = zip(leaves, slopes, strict=True)
        return float(value.detach()), {name: np.zeros_like(parts[name]) if g is None else g.numpy() for name, g in found}

    return falls


def mode(falls: Falls, layout: Layout, starts: Sequence[_FLOAT]) -> dict[str, _FLOAT]:
    """The settings of largest posterior density, found from some starts.

    Parameters
    ----------
    falls : callable
        Parts of the settings to less the logarithm of the likelihood, and its slopes.
    layout : Layout
    starts : sequence of ndarray
    """

    def whole(at: _FLOAT) -> tuple[float, _FLOAT]:
        value, slopes = falls(layout.of(at))
        if not math.isfinite(value):
            return 1e10, np.zeros_like(at)
        off = (at - layout.mean) / layout.deviation
        slope = np.concatenate([slopes[name].ravel() for name in layout.parts])
        return value + 0.5 * float(off @ off), slope + off / layout.deviation

    limits = list(zip(layout.mean - 5 * layout.deviation, layout.mean + 5 * layout.deviation, strict=True))
    ends = [minimize(whole, at, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": _STEPS}) for at in starts]
    return layout.of(min(ends, key=lambda end: end.fun).x)


def _weights(rows: Any, ratios: Any, L: int) -> Any:
    """What the addition of each level counts in rows (x, level): products of ρ, shape (..., L)."""
    level, x = rows[..., -1].round(), rows[..., :-1] - 0.5
    each = [one[0] + (x @ one[1:] if len(one) > 1 else 0.0) for one in ratios]
    out = []
    for j in range(L):
        weight = (level >= j).to(rows.dtype)
        for i in range(j, L - 1):
            weight = torch.where(level > i, weight * each[i], weight)
        out.append(weight)
    return torch.stack(out, dim=-1)


def level_covariance(A: Any, B: Any, parts: dict[str, Any], correlation: Callable[[Any], Any], *, planes: bool = True) -> Any:
    """Of levels on top of one another, at rows (x, level); with or without the planes of what levels add."""
    L = len(parts["variances"])
    one, other, total = _weights(A, parts["ratios"], L), _weights(B, parts["ratios"], L), 0.0
    for j in range(L):
        R = correlation(apart(A[..., :-1], B[..., :-1], parts["lengths"][j]))
        own = parts["variances"][j] * R
        if j and planes:
            own = own + plane(A[..., :-1], B[..., :-1])
        total = total + one[..., :, None, j] * other[..., None, :, j] * own
    return total


class LevelKernel(Kernel):
    def __init__(self, covariance: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.covariance = covariance

    def forward(self, x1: Any, x2: Any, diag: bool = False, **params: Any) -> Any:
        if diag:
            return self.covariance(x1[..., None, :], x2[..., None, :])[..., 0, 0]
        return self.covariance(x1, x2)


class _LevelMean(Mean):
    def __init__(self, means: Any) -> None:
        super().__init__()
        self.means = means

    def forward(self, x: Any) -> Any:
        return self.means[x[..., -1].round().long()]


def _level_model(
    rows: _FLOAT, values: _FLOAT, covariance: Callable[[Any, Any], Any], means: _FLOAT, noise: _FLOAT
) -> SingleTaskGP:
    """A BoTorch model with a known covariance of rows (x, level), and a mean and a noise for each level."""
    each = torch.as_tensor(noise + LEAST_NOISE)[rows[:, -1].round().astype(int)]
    with warnings.catch_warnings(), min_fixed_noise(double_value=LEAST_NOISE):
        warnings.simplefilter("ignore", InputDataWarning)  # levels are no part of the unit cube
        model = SingleTaskGP(
            torch.as_tensor(rows), torch.as_tensor(values)[:, None], train_Yvar=each[:, None],
            covar_module=LevelKernel(covariance), mean_module=_LevelMean(torch.as_tensor(means)), outcome_transform=None,
        )  # fmt: skip
    return model.eval()


def _layout(d: int, L: int, linear: bool, learn: bool, components: int | None) -> Layout:
    centre, width = lengths_prior(d)
    # Numbers in place of lengths: with all inputs in one direction alike, each length has its usual prior.
    numbers = ((L, components or 0), math.log(d) - 2 * centre, 2 * width)
    parts: dict[str, tuple[tuple[int, ...], float, float]] = {
        "lengths": ((L, d), centre, width) if components is None else numbers,
        "whole": ((1,), *WHOLE), "rest": ((L - 1,), *REST),
        "ratio": ((L - 1, 1), *_RATIO), "slopes": ((L - 1, d if linear else 0), *_SLOPE), "mean": ((1,), *MEAN),
        "noise": ((L if learn else 0,), *LEARNT_NOISE),
    }  # fmt: skip
    return Layout(parts)


def _named(parts: dict[str, _FLOAT], given: _FLOAT | None) -> dict[str, _FLOAT]:
    """Settings from the parts of a vector."""
    return {
        "lengths": np.exp(parts["lengths"]), "variances": np.exp(np.concatenate([parts["whole"], parts["rest"]])),
        "ratios": np.concatenate([parts["ratio"], parts["slopes"]], axis=1),
        "means": np.concatenate([parts["mean"], np.zeros(len(parts["ratio"]))]),
        "noise": np.exp(parts["noise"]) if given is None else given,
    }  # fmt: skip


def settings_of_levels(
    rows: _FLOAT, values: _FLOAT, centres: _FLOAT, spreads: _FLOAT, *, noise: _FLOAT | None, linear: bool, kernel: str,
    components: int | None = None,
) -> Settings:  # fmt: skip
    """Settings of levels on top of one another from all of their values at once.

    Parameters
    ----------
    rows : ndarray of shape (n, d + 1)
        The level stands last.
    values : ndarray of shape (n,)
        Standardised.
    centres, spreads : ndarray of shape (L,)
    noise : ndarray of shape (L,) or None
        Of standardised values; learnt where None.
    linear : bool
        Whether ρ may change over the box.
    kernel : str
    components : int or None, default=None
        Directions of partial least squares that lengths follow from; each length is free where None.
    """
    layout = _layout(rows.shape[1] - 1, len(centres), linear, noise is None, components)
    falls: Falls = LevelLikelihood(rows, values, len(centres), kernel, noise, LEAST_NOISE)
    if components is not None:
        falls = Reduced(falls, directions(rows, values, len(centres), components))
    turn = 1.0 if components is None else -2.0  # of lengths to numbers
    starts = [layout.start(lengths=turn * off) for off in _FIRST_LENGTHS]
    if len(centres) > 1:  # a trend from level to level is far from both of these
        starts.append(layout.start(rest=_SMOOTH, ratio=1.0 - _RATIO[0]))
        layout.of(starts[-1])["lengths"][1:] += turn * _SMOOTH
    found = mode(falls, layout, starts)
    if isinstance(falls, Reduced):
        found["lengths"] = falls.lengths(found["lengths"])
    return Settings(**_named(found, noise), centres=centres, spreads=spreads)


def autoregressive_model(rows: _FLOAT, values: _FLOAT, settings: Settings, kernel: str) -> SingleTaskGP:
    """A BoTorch model of standardised values at rows (x, level), with given settings."""
    parts = {name: torch.as_tensor(getattr(settings, name)) for name in ("lengths", "variances", "ratios")}

    def covariance(A: Any, B: Any) -> Any:
        return level_covariance(A, B, parts, CORRELATIONS[kernel])

    return _level_model(rows, values, covariance, settings.means, settings.noise)


# ---------------------------------------------------------------------- levels without an order
def coregionalized_settings(rows: _FLOAT, values: _FLOAT, L: int, rank: int, noise: _FLOAT | None) -> dict[str, _FLOAT]:
    """Settings of levels that share one correlation: parameters as for `settings_of_levels`."""
    X, y, d = torch.as_tensor(rows), torch.as_tensor(values), rows.shape[1] - 1
    layout = Layout({
        "lengths": ((d,), *lengths_prior(d)), "shared": ((L, rank), *_SHARED), "own": ((L,), *REST), "means": ((L,), *MEAN),
        "noise": ((0 if noise is not None else L,), *LEARNT_NOISE),
    })  # fmt: skip
    level = X[:, -1].round().long()

    def density(at: dict[str, Any]) -> Any:
        more = at["noise"].exp() if noise is None else torch.as_tensor(noise)
        return likelihood(_coregionalized(X, X, at) + (more[level] + LEAST_NOISE).diag(), y - at["means"][level])

    turned = np.where(np.arange(rank) % 2, -1.0, 1.0) * np.linspace(1.0, 0.5, rank)  # vectors must differ to come apart
    starts = [layout.start(lengths=off) for off in _FIRST_LENGTHS]
    for start in starts:
        layout.of(start)["shared"][:, 1:] = np.outer(np.linspace(-1, 1, L), turned[1:])
    found = mode(traced(density), layout, starts)
    return found | {"noise": np.exp(found["noise"]) if noise is None else noise}


def _coregionalized(A: Any, B: Any, parts: dict[str, Any]) -> Any:
    whole = parts["shared"] @ parts["shared"].mT + parts["own"].exp().diag()
    one, other = A[..., -1].round().long(), B[..., -1].round().long()
    R = _matern52(apart(A[..., :-1], B[..., :-1], parts["lengths"].exp()))
    return whole[one[..., :, None], other[..., None, :]] * R


def coregionalized_model(rows: _FLOAT, values: _FLOAT, settings: dict[str, _FLOAT]) -> SingleTaskGP:
    """A BoTorch model of standardised values at rows (x, level), with given settings."""
    parts = {name: torch.as_tensor(settings[name]) for name in ("lengths", "shared", "own")}
    return _level_model(rows, values, lambda A, B: _coregionalized(A, B, parts), settings["means"], settings["noise"])


# ---------------------------------------------------------------------- one level after another
def settings_of_step(
    X: _FLOAT, values: _FLOAT, lower: _FLOAT | None, lower_mean: float, *, linear: bool, kernel: str
) -> dict[str, Any]:
    """Settings of one level, given the values of the level below at its designs.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    values, lower : ndarray of shape (n,)
        Standardised; None at level 0.
    lower_mean : float
        Prior mean of the level below.
    linear : bool
    kernel : str
    """
    rows, y, d = torch.as_tensor(X), torch.as_tensor(values), X.shape[1]
    below, first = torch.zeros_like(y) if lower is None else torch.as_tensor(lower) - lower_mean, lower is None
    layout = Layout({
        "lengths": ((d,), *lengths_prior(d)), "variance": ((1,), *(WHOLE if first else REST)),
        "ratio": ((0 if first else 1,), *_RATIO), "slopes": ((d if linear and not first else 0,), *_SLOPE),
        "mean": ((1 if first else 0,), *MEAN),
    })  # fmt: skip
    unit = LEAST_NOISE * torch.eye(len(y), dtype=y.dtype)

    def density(at: dict[str, Any]) -> Any:
        R, v = CORRELATIONS[kernel](apart(rows, rows, at["lengths"].exp())), at["variance"].exp()
        if first:
            return likelihood(v * R + unit, y - at["mean"])
        slopes = (rows - 0.5) @ at["slopes"] if linear else 0.0
        return likelihood(v * R + plane(rows, rows) + unit, y - (at["ratio"] + slopes) * below)

    starts = [layout.start(lengths=off) for off in _FIRST_LENGTHS]
    if not first:
        starts.append(layout.start(lengths=_SMOOTH, variance=_SMOOTH, ratio=1.0 - _RATIO[0]))
    found = mode(traced(density), layout, starts)
    return {
        "lengths": np.exp(found["lengths"]), "variance": float(np.exp(found["variance"][0])),
        "ratio": np.concatenate([found["ratio"], found["slopes"]]), "mean": float(found["mean"].sum()),
    }  # fmt: skip


class Nested:
    """Moments of levels where each is ρ times the one below and a process of its own, by one level after another.

    Parameters
    ----------
    designs : list of torch.Tensor of shape (n_l, d)
    rests : list of torch.Tensor of shape (n_l,)
        Standardised values less ρ times those of the level below at the same designs.
    settings : Settings
        Whose means are those of the levels, from which those of what they add follow.
    kernel : str
    """

    def __init__(self, designs: list[Any], rests: list[Any], settings: Settings, kernel: str) -> None:
        self.settings, self.designs, self.correlation = settings, designs, CORRELATIONS[kernel]
        self._lengths, self._ratios = torch.as_tensor(settings.lengths), torch.as_tensor(settings.ratios)
        self._means = torch.as_tensor(settings.means)
        self._roots, self._held = [], []
        for k, (X, rest) in enumerate(zip(designs, rests, strict=True)):
            noise = float(settings.noise[k]) + LEAST_NOISE
            K = self._own(X, X, k)
            self._roots.append(root_of(K + noise * torch.eye(len(X), dtype=X.dtype)))
            self._held.append(torch.cholesky_solve((rest - self._own_mean(X, k))[:, None], self._roots[k])[:, 0])

    def ratio(self, X: Any, k: int) -> Any:
        """ρ from level l to the next, at designs (b, d)."""
        one = self._ratios[k]
        return one[0] + ((X - 0.5) @ one[1:] if len(one) > 1 else torch.zeros(len(X), dtype=X.dtype))

    def _own(self, A: Any, B: Any, k: int) -> Any:
        """Prior covariance of what a level adds."""
        K = self.settings.variances[k] * self.correlation(apart(A, B, self._lengths[k]))
        return K + plane(A, B) if k else K

    def _own_mean(self, X: Any, k: int) -> Any:
        below = self._means[k - 1] * self.ratio(X, k - 1) if k else 0.0
        return self._means[k] - below + torch.zeros(len(X), dtype=X.dtype)

    def __call__(self, X: Any) -> Moments:
        means, rows = [], []
        for k in range(len(self.designs)):
            cross = self._own(X, self.designs[k], k)
            white = torch.linalg.solve_triangular(self._roots[k], cross.mT, upper=False)
            mean = self._own_mean(X, k) + cross @ self._held[k]
            whole = self._own(X[:, None], X[:, None], k)[:, 0, 0]
            own = (whole - (white**2).sum(dim=0)).clamp_min(0)
            if k == 0:
                means, rows = [mean], [[own]]
                continue
            ratio = self.ratio(X, k - 1)
            means.append(ratio * means[-1] + mean)
            last = [ratio * one for one in rows[-1]]  # covariances of this level with those below
            rows.append([*last, ratio * last[-1] + own])
        L = len(rows)
        whole = torch.stack([torch.stack([rows[max(i, j)][min(i, j)] for j in range(L)], -1) for i in range(L)], -2)
        spreads, centres = torch.as_tensor(self.settings.spreads), torch.as_tensor(self.settings.centres)
        return Moments(torch.stack(means, -1) * spreads + centres, whole * spreads[:, None] * spreads)


# ---------------------------------------------------------------------- kernels of BoTorch and GPyTorch
def over_positions(weighting: str, d: int) -> Kernel:
    """A kernel of d columns and of a position in the last."""
    centre, width = lengths_prior(d)
    prior = LogNormalPrior(centre + width**2, width)  # of the length itself
    designs = MaternKernel(nu=2.5, ard_num_dims=d, active_dims=list(range(d)), lengthscale_prior=prior)
    designs.lengthscale = prior.mode.expand(1, d)
    if weighting == "rbf":
        last = RBFKernel(active_dims=[d], lengthscale_prior=LogNormalPrior(0.0, 1.0))
        return ScaleKernel(designs * last)
    if weighting == "exponential_decay":
        return ScaleKernel(designs * ExponentialDecayKernel(active_dims=[d]))
    return ScaleKernel(LinearTruncatedFidelityKernel(fidelity_dims=[d], dimension=d + 1, nu=2.5))


def fitted_with(kernel: Kernel, rows: _FLOAT, values: _FLOAT, noise: _FLOAT | None, state: Any) -> SingleTaskGP:
    """A model with a kernel over rows (x, code of the level), its settings found, or taken from a model before.

    Parameters
    ----------
    kernel : Kernel
    rows : ndarray of shape (n, d + 1)
    values : ndarray of shape (n,)
        Standardised.
    noise : ndarray of shape (n,) or None
        Of standardised values; learnt where None.
    state : dict or None
        Settings that are kept.
    """
    known = None if noise is None else torch.as_tensor(noise)[:, None] + _SURE_NOISE
    learnt = GaussianLikelihood(noise_prior=LogNormalPrior(*LEARNT_NOISE), noise_constraint=GreaterThan(_SURE_NOISE))
    with warnings.catch_warnings(), min_fixed_noise(double_value=LEAST_NOISE):
        for kind in (InputDataWarning, OptimizationWarning, NumericalWarning):  # as for every process of the room
            warnings.simplefilter("ignore", kind)
        model = SingleTaskGP(
            torch.as_tensor(rows), torch.as_tensor(values)[:, None], train_Yvar=known,
            likelihood=learnt if known is None else None, covar_module=kernel, outcome_transform=None,
        )  # fmt: skip
        if state is not None:
            kept: Any = {name: value for name, value in state.items() if known is None or "likelihood" not in name}
            model.load_state_dict({**model.state_dict(), **kept})
            return model.eval()
        try:
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        except ModelFittingError:
            model.eval()  # the settings of the priors stand
    return model
