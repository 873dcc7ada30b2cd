"""Calibration: which settings of a simulator agree with what was measured, and whether such statements cover the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from locum.core.errors import InvalidData, need, require_positive, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures.values import IntervalCoverage

__all__ = ["Calibration", "SimulationCheck", "calibrate", "simulation_check"]

Array = NDArray[np.float64]
Curves = Callable[[Array], Array]

_TRIES = 8  # bisections of log sigma
_RANGE = (1 / 30, 30.0)  # of sigma, as a multiple of the first guess
_ENVELOPE = 400  # draws whose curves are compared with the data


@dataclass(frozen=True, eq=False)
class Calibration:
    """A posterior.

    Attributes
    ----------
    names : tuple of str
    draws : ndarray of shape (m, d)
    sigma : float
        Standard deviation of what is not explained, in the unit of the data.
    acceptance : float
        Share of moves that were taken.
    steps_apart : float
        Steps of the chains that make one independent draw of each walker (autocorrelation time), the largest over parameters;
        NaN where the chains are too short to say.
    explained : bool
        Whether curves of the posterior stay within two sigma of the data all along.
    """

    names: tuple[str, ...]
    draws: Array
    sigma: float
    acceptance: float
    steps_apart: float
    explained: bool

    @property
    def mean(self) -> Array:
        """Of each parameter, shape (d,)."""
        return np.asarray(self.draws.mean(axis=0))

    @property
    def deviation(self) -> Array:
        """Standard deviation of each parameter, shape (d,)."""
        return np.asarray(self.draws.std(axis=0))

    def interval(self, level: float = 0.9) -> Array:
        """Between quantiles that leave as much on either side, shape (d, 2)."""
        return np.quantile(self.draws, [(1 - level) / 2, (1 + level) / 2], axis=0).T

    def __str__(self) -> str:
        ends = self.interval()
        lines = [f"{n}  {m:.4g} [{a:.4g}, {b:.4g}] at 90 %" for n, m, (a, b) in zip(self.names, self.mean, ends, strict=True)]
        return "\n".join([*lines, f"sigma  {self.sigma:.3g}" + ("" if self.explained else ", and the data are not explained")])


def calibrate(
    curves: Curves,
    observed: ArrayLike,
    bounds: Mapping[str, tuple[float, float]],
    *,
    sigma: float | str = "fit",
    guess: float = 0.01,
    walkers: int = 24,
    burn: int = 200,
    steps: int = 400,
    random_state: int = 0,
) -> Calibration:
    r"""Draw from the posterior of parameters, with even priors within bounds and independent normal errors.

    .. math:: y_i = f_i(p) + e_i, \quad e_i \sim N(0, σ^2)

    Sampled by an affine-invariant ensemble, whose walkers ask for their curves together. With "fit", σ is the least at which
    the curves of all draws stay within 2σ of the data all along, found by bisection: what a stand-in gets wrong is then taken
    for noise, and widens the posterior, instead of being taken for information.

    Parameters
    ----------
    curves : callable
        From rows (n, d) to curves (n, T): an emulator, or the simulator itself.
    observed : array-like of shape (T,)
    bounds : mapping of str to (float, float)
    sigma : float or "fit", default="fit"
        In the unit of the data.
    guess : float, default=0.01
        The σ with which the bisection begins.
    walkers : int, default=24
    burn, steps : int, default=200 and 400
        Of each walker, thrown away and kept.
    random_state : int, default=0

    Returns
    -------
    Calibration

    Raises
    ------
    InvalidData
        Before anything is asked: no finite data, sigma not above 0, too few walkers.
    MissingExtra
        emcee is not installed.

    Notes
    -----
    Cost: walkers times (burn + steps) curves; 8 more times a third of that with "fit".

    **Departures**: the paper samples by NUTS, from JAX; two parameters need no gradients.

    References
    ----------
    Goodman and Weare, 2010; Foreman-Mackey et al., arXiv 1202.3665. The bisection: Hassanaly et al., arXiv 2312.17336.

    Examples
    --------
    >>> t = np.linspace(0, 1, 50)
    >>> y = 2.0 * t + np.random.default_rng(0).normal(0, 0.1, 50)
    >>> found = calibrate(lambda rows: rows * t, y, {"slope": (0, 5)}, sigma=0.1)
    >>> bool(abs(found.mean[0] - 2.0) < 3 * found.deviation[0])
    True
    """
    seen = np.asarray(observed, dtype=float)
    if seen.ndim != 1 or not len(seen) or not np.isfinite(seen).all():
        raise InvalidData(f"expected finite data of shape (T,), got shape {seen.shape}")
    require_positive(guess=guess, **({} if sigma == "fit" else {"sigma": sigma}))
    require_whole(1, burn=burn, steps=steps)
    require_whole(2 * len(bounds) + 2, walkers=walkers)
    need("emcee", "calibration", "emulate")
    posterior = _Posterior(curves, seen, bounds, walkers, random_state)
    if isinstance(sigma, str):
        if sigma != "fit":
            raise InvalidData(f"expected sigma= as a number above 0 or 'fit', got {sigma!r}")
        fitted, explained = _fitted_sigma(posterior, guess, max(burn // 3, 1), max(steps // 3, 1))
        return replace(posterior.sampled(fitted, burn, steps), explained=explained)
    return posterior.sampled(float(sigma), burn, steps)


class _Posterior:
    """Chains that begin where those before have ended."""

    def __init__(self, curves: Curves, seen: Array, bounds: Mapping[str, Any], walkers: int, random_state: int) -> None:
        self._curves, self._seen, self._names = curves, seen, tuple(bounds)
        self._low, self._high = np.array(list(bounds.values()), dtype=float).T
        if not (self._low < self._high).all():
            raise InvalidData(f"expected bounds with low < high, got {dict(bounds)}")
        self._rng = np.random.default_rng([random_state, 17])
        self._walkers = self._low + (self._high - self._low) * self._rng.random((walkers, len(self._low)))

    def _misfit(self, rows: Array) -> Array:
        found = np.asarray(self._curves(rows), dtype=float)
        if found.shape != (len(rows), len(self._seen)):
            raise InvalidData(f"expected curves of shape {(len(rows), len(self._seen))}, got {found.shape}")
        return np.asarray(((found - self._seen) ** 2).sum(axis=1))

    def _caught_up(self, coords: Array, density: Array) -> Array:
        """Walkers, with those that hang back far from the others put between two that do not (Hou et al., arXiv 1104.2612).

        Where the density is lower than for all but one in a million draws of a normal distribution, the posterior has no share
        worth telling; moves from there towards the others are refused for as long as these are close together.
        """
        far = density < density.max() - stats.chi2.isf(1e-6, coords.shape[1]) / 2
        near = coords[~far]
        if len(near) < 2 or not far.any():
            return coords
        one, two = (near[self._rng.integers(len(near), size=int(far.sum()))] for _ in range(2))
        out = coords.copy()
        aside = 0.1 * near.std(axis=0) * self._rng.normal(size=one.shape)  # else walkers of a few would lie on a line
        out[far] = np.clip(one + self._rng.random((len(one), 1)) * (two - one) + aside, self._low, self._high)
        return out

    def sampled(self, sigma: float, burn: int, steps: int) -> Calibration:
        import emcee

        def log_density(rows: Array) -> Array:
            out = np.full(len(rows), -np.inf)
            inside = ((rows >= self._low) & (rows <= self._high)).all(axis=1)
            if inside.any():
                out[inside] = -0.5 * self._misfit(rows[inside]) / sigma**2
            return out

        sampler = emcee.EnsembleSampler(*self._walkers.shape, log_density, vectorize=True)
        words = self._rng.integers(0, 2**32, 624, dtype=np.uint32)
        sampler.random_state = ("MT19937", words, 624)  # a generator of its own, in the only form that emcee takes
        begin = self._walkers
        for part in (burn - burn // 2, burn // 2):
            if part:
                met = sampler.run_mcmc(begin, part, skip_initial_state_check=True)
                begin = self._caught_up(met.coords, met.log_prob)
        sampler.reset()
        end = sampler.run_mcmc(begin, steps, skip_initial_state_check=True)
        self._walkers = end.coords
        draws = sampler.get_chain(flat=True)
        with np.errstate(invalid="ignore"):  # a walker that never moved has no time
            apart = sampler.get_autocorr_time(tol=0, quiet=True) if steps >= 50 else np.array([np.nan])
        some = draws[np.linspace(0, len(draws) - 1, min(_ENVELOPE, len(draws))).astype(int)]
        away = np.abs(np.asarray(self._curves(some)) - self._seen).max()
        return Calibration(self._names, draws, sigma, float(np.mean(sampler.acceptance_fraction)),
                           float(np.max(apart)), bool(away <= 2 * sigma))  # fmt: skip


def _fitted_sigma(posterior: _Posterior, guess: float, burn: int, steps: int) -> tuple[float, bool]:
    """The least sigma, on the scale of its logarithm, that explains the data, and whether any tried did."""
    low, high, explained = math.log(guess * _RANGE[0]), math.log(guess * _RANGE[1]), False
    at = math.log(guess)
    for _ in range(_TRIES):
        enough = posterior.sampled(math.exp(at), burn, steps).explained
        low, high, explained = (low, at, True) if enough else (at, high, explained)
        at = (low + high) / 2
    return math.exp(high), explained


@dataclass(frozen=True, eq=False)
class SimulationCheck:
    """Calibrations of data whose truth is known.

    Attributes
    ----------
    names : tuple of str
    truths : ndarray of shape (n, d)
    ranks : ndarray of shape (n, d)
        Share of the posterior below the truth; even between 0 and 1 where calibration is right.
    calibrations : tuple of Calibration
    """

    names: tuple[str, ...]
    truths: Array
    ranks: Array
    calibrations: tuple[Calibration, ...]

    def coverage(self, name: str, level: float = 0.9) -> Fidelity:
        """Share of truths within the interval of a parameter.

        Parameters
        ----------
        name : str
        level : float, default=0.9
            Of the intervals of the posterior.
        """
        at = self.names.index(name)
        ends = np.array([one.interval(level)[at] for one in self.calibrations])
        return IntervalCoverage().fidelity(self.truths[:, at], ends, region="prior", how="simulated truths")

    def evenness(self, name: str) -> float:
        """Probability of ranks as uneven as these where calibration is right (Kolmogorov and Smirnov)."""
        return float(stats.kstest(self.ranks[:, self.names.index(name)], "uniform").pvalue)


def simulation_check(
    curves: Curves,
    truth: Curves,
    bounds: Mapping[str, tuple[float, float]],
    *,
    noise: float,
    n: int = 40,
    random_state: int = 0,
    **settings: Any,
) -> SimulationCheck:
    """Calibrate a stand-in on data that the simulator made, again and again, from parameters drawn from the prior.

    Parameters
    ----------
    curves : callable
        The stand-in, from rows (n, d) to curves (n, T).
    truth : callable
        The simulator, the same.
    bounds : mapping of str to (float, float)
    noise : float
        Standard deviation that is added to what the simulator says.
    n : int, default=40
        Truths.
    random_state : int, default=0
    **settings
        Of `calibrate`.

    Notes
    -----
    Cost: n curves of the simulator and n calibrations. Reference: Talts et al., arXiv 1804.06788.
    """
    require_whole(2, n=n)
    require_positive(noise=noise)
    rng = np.random.default_rng([random_state, 29])
    low, high = np.array(list(bounds.values()), dtype=float).T
    truths = low + (high - low) * rng.random((n, len(low)))
    clean = np.asarray(truth(truths), dtype=float)
    seen = clean + noise * rng.normal(size=clean.shape)
    found = tuple(calibrate(curves, y, bounds, random_state=random_state + i, **settings) for i, y in enumerate(seen))
    ranks = np.array([(one.draws < p).mean(axis=0) for one, p in zip(found, truths, strict=True)])
    return SimulationCheck(tuple(bounds), truths, ranks, found)
