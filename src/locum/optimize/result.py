"""What a run found, and how far its surrogate was right about the points that it proposed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from locum.core.bounds import binomial, bootstrap_mean
from locum.core.fidelity import Fidelity
from locum.optimize.space import Point
from locum.optimize.warp import Power

__all__ = ["FEWEST", "Foretold", "Result", "coverage", "deviations", "fidelity_of"]

_FLOAT = NDArray[np.float64]
_LEVEL = 0.9
FEWEST = 10  # points foretold, below which an interval of their fidelity says nothing


@dataclass(frozen=True, eq=False)
class Result:
    """What a run found.

    Parameters
    ----------
    best : Point
        The point recommended: among those evaluated, the one with the best mean by the surrogate.
    value : float
        What it gave; for a goal other than the objective itself, the mean of the goal there.
    mean : float
        Its mean by the surrogate, or its median where values are warped, which is what to expect of it again; the value where
        there is no surrogate yet.
    direction : {"minimize", "maximize"}
    points : tuple of Point
        All evaluations, in order.
    values : ndarray of shape (n,)
        NaN for those that failed.
    fidelity : tuple of Fidelity
        How far the surrogate was right about the points it proposed, each foretold before it was evaluated.
    foretold : ndarray of shape (n, 3)
        Lower end, median and upper end of the interval of level 0.9 that the surrogate gave for each of them, in the unit of
        the values; NaN for points that it did not propose.
    stopped : str
        Why it ended.
    account : str, default=""
        What was paid.
    """

    best: Point
    value: float
    mean: float
    direction: str
    points: tuple[Point, ...]
    values: _FLOAT
    fidelity: tuple[Fidelity, ...]
    foretold: _FLOAT
    stopped: str
    account: str = ""

    @property
    def trace(self) -> _FLOAT:
        """Best value so far after each evaluation, shape (n,); NaN before the first that did not fail."""
        sign = -1.0 if self.direction == "minimize" else 1.0
        return sign * _running_best(sign * self.values)

    def text(self) -> str:
        """The result in words."""
        failed = int(np.isnan(self.values).sum())
        cells = [f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in self.best.items()]
        lines = [
            f"{self.value:.6g} at {', '.join(cells)}",
            f"{len(self.values)} evaluations{f', {failed} of them failed' if failed else ''}; {self.stopped}",
        ]
        lines += [str(one) for one in self.fidelity] or ["fidelity not measured: too few points were proposed by the surrogate"]
        return "\n".join([*lines, *([self.account] if self.account else [])])

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "best": self.best,
            "value": self.value,
            "mean": self.mean,
            "direction": self.direction,
            "points": list(self.points),
            "values": [None if math.isnan(one) else one for one in self.values.tolist()],
            "fidelity": [one.to_dict() for one in self.fidelity],
            "foretold": [None if math.isnan(one[1]) else one for one in self.foretold.tolist()],
            "stopped": self.stopped,
            "account": self.account,
        }


@dataclass
class Foretold:
    """A point proposed, what the surrogate said of it, and what the constant did, of values as they were warped then.

    Parameters
    ----------
    mean, sd : float
        By the surrogate; larger is better.
    plain_mean, plain_sd : float
        Of all values so far.
    warp : Power
    value : float, default=nan
        What it gave, warped.
    """

    mean: float
    sd: float
    plain_mean: float
    plain_sd: float
    warp: Power
    value: float = math.nan

    def interval(self, sign: float) -> _FLOAT:
        """Lower end, median and upper end of level 0.9, as values that are larger the better times `sign`."""
        ends = self.mean + stats.norm.isf((1 - _LEVEL) / 2) * self.sd * np.array([-1.0, 0.0, 1.0])
        return np.sort(sign * self.warp.inverse(ends))

    def told(self, value: float) -> None:
        """Take what it gave; neither coverage nor a difference of log scores depends on the warp."""
        self.value = float(self.warp(value))


def deviations(foretold: Iterable[Foretold], level: float) -> float:
    """How many standard deviations an interval must reach to either side to have covered what was proposed.

    Parameters
    ----------
    foretold : iterable of Foretold
    level : float

    Returns
    -------
    float
        The conformal quantile of standardised errors, and no less than that of a normal distribution; the latter alone with
        too few points.
    """
    normal = float(stats.norm.isf((1 - level) / 2))
    off = sorted(abs(one.value - one.mean) / one.sd for one in foretold if math.isfinite(one.value))
    if len(off) < FEWEST:
        return normal
    return max(normal, off[min(math.ceil((len(off) + 1) * level), len(off)) - 1])


def fidelity_of(foretold: Iterable[Foretold], random_state: int) -> tuple[Fidelity, ...]:
    """Coverage of intervals, and log score above that of one normal distribution for all points; empty with too few points.

    Parameters
    ----------
    foretold : iterable of Foretold
    random_state : int
        Of the bootstrap.
    """
    told = [one for one in foretold if math.isfinite(one.value)]
    if len(told) < FEWEST:
        return ()
    y, mean, sd, plain, spread = np.array([[o.value, o.mean, o.sd, o.plain_mean, o.plain_sd] for o in told]).T
    cover = coverage(y, mean, sd, region="points proposed", how="points foretold")
    gain = stats.norm.logpdf(y, mean, sd) - stats.norm.logpdf(y, plain, spread)
    around = bootstrap_mean(gain, random_state=random_state)
    return cover, Fidelity(
        "log score above one normal for all", float(gain.mean()), around.lower, around.upper, 0.95, len(y),
        region="points proposed", how="points foretold", method=around.method,
    )  # fmt: skip


def coverage(truth: _FLOAT, mean: _FLOAT, sd: _FLOAT, *, region: str, how: str) -> Fidelity:
    """How often normal intervals of level 0.9 held.

    Parameters
    ----------
    truth, mean, sd : ndarray of shape (n,)
    region, how : str
        What the fidelity says of where and how it was measured.

    Returns
    -------
    Fidelity
    """
    inside = np.abs(truth - mean) <= stats.norm.isf((1 - _LEVEL) / 2) * sd
    ends = binomial(float(inside.sum()), len(truth))
    return Fidelity(
        f"coverage of {_LEVEL:.0%} intervals", float(inside.mean()), ends.lower, ends.upper, 0.95, len(truth), region=region,
        how=how, method=ends.method,
    )  # fmt: skip


def _running_best(values: _FLOAT) -> _FLOAT:
    return np.fmax.accumulate(values)
