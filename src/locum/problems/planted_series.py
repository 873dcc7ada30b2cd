"""Time series whose class is written into a few known time points: what a saliency map should find, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData

__all__ = ["PlantedSeries", "SeriesSample", "freq_shapes", "low_var", "seq_comb_mv", "seq_comb_uv"]

_FLOAT = NDArray[np.float64]
_CLASSES = 4
_WARM_UP = 20  # steps of the background before the first that is kept
_REACH = 5  # ramps go to so many times the largest value of the background


class SeriesSample(NamedTuple):
    """Series, their classes, and where the classes are written.

    Parameters
    ----------
    X : ndarray of shape (n, T, d)
    y : ndarray of int of shape (n,)
    truth : ndarray of bool of shape (n, T, d)
        The values that were put in for the class; none where a class has no evidence.
    """

    X: _FLOAT
    y: NDArray[np.intp]
    truth: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class PlantedSeries:
    """A world of time series of four classes, which knows the time points and channels that make the class.

    Parameters
    ----------
    name : str
    length : int
        Time points T.
    channels : int
        d.
    classes : tuple of str
        What each class is, in words.
    plant : callable
        Background (T, d), class and generator to the series and the bools of what was put in.
    background : callable
        n and generator to (n, T, d) values without a class.

    Examples
    --------
    >>> from locum.problems.planted_series import freq_shapes
    >>> X, y, truth = freq_shapes().sample(8, seed=1)
    >>> X.shape, sorted(y.tolist()), bool((truth.sum(axis=1) % 3 == 0).all())
    ((8, 50, 1), [0, 0, 1, 1, 2, 2, 3, 3], True)
    """

    name: str
    length: int
    channels: int
    classes: tuple[str, ...]
    plant: Callable[[_FLOAT, int, np.random.Generator], tuple[_FLOAT, NDArray[np.bool_]]] = field(repr=False)
    background: Callable[[int, np.random.Generator], _FLOAT] = field(repr=False)

    def sample(self, n: int, seed: int = 0) -> SeriesSample:
        """As many series of each class as can be, in random order."""
        if n < 1:
            raise InvalidData(f"expected to sample at least one series, got n={n}")
        rng = np.random.default_rng([seed, 2])
        y = rng.permutation(np.arange(n) % len(self.classes))
        pairs = [self.plant(x, int(c), rng) for x, c in zip(self.background(n, rng), y, strict=True)]
        return SeriesSample(np.stack([x for x, _ in pairs]), y, np.stack([where for _, where in pairs]))


def freq_shapes(*, length: int = 50, noise: float = 0.25) -> PlantedSeries:
    """Spikes of three points, down or up, every 10 or every 17 time points, in normal noise.

    Parameters
    ----------
    length : int, default=50
    noise : float, default=0.25
        Standard deviation.

    References
    ----------
    Queen et al., arXiv 2306.02109, FreqShapes.

    Examples
    --------
    >>> freq_shapes().classes
    ('down, every 10', 'up, every 10', 'down, every 17', 'up, every 17')
    """
    _check(length, 40, noise)
    shape = 2 - 0.25 * np.arange(-1, 2) ** 2

    def plant(series: _FLOAT, c: int, rng: np.random.Generator) -> tuple[_FLOAT, NDArray[np.bool_]]:
        sign, period = (-1, 1)[c % 2], (10, 17)[c // 2]
        where = np.zeros(series.shape, dtype=bool)
        for centre in range(int(rng.integers(length - period)), length, period):
            if 1 <= centre <= length - 2:
                series[centre - 1 : centre + 2, 0] += sign * shape
                where[centre - 1 : centre + 2, 0] = True
        return series, where

    names = ("down, every 10", "up, every 10", "down, every 17", "up, every 17")
    return PlantedSeries("FreqShapes", length, 1, names, plant, lambda n, rng: rng.normal(0, noise, (n, length, 1)))


def seq_comb_uv(*, length: int = 200) -> PlantedSeries:
    """Two ramps of 10 to 19 time points one after the other; the class is which go up and which down.

    A ramp is a line with a sine on top, between five times the smallest and the largest absolute value of the background,
    which is nonlinear autoregressive (NARMA of order 2).

    Parameters
    ----------
    length : int, default=200

    References
    ----------
    Queen et al., arXiv 2306.02109, SeqComb-UV.

    Examples
    --------
    >>> seq_comb_uv().classes
    ('none', 'down, down', 'up, up', 'up, down')
    """
    return _seq_comb("SeqComb-UV", length, 1, (10, 20), 10.0)


def seq_comb_mv(*, length: int = 200, channels: int = 4) -> PlantedSeries:
    """The same with longer ramps (15 to 29 time points), each on a channel of its own.

    Parameters
    ----------
    length : int, default=200
    channels : int, default=4

    References
    ----------
    Queen et al., arXiv 2306.02109, SeqComb-MV.

    Examples
    --------
    >>> X, y, truth = seq_comb_mv().sample(40)
    >>> [int(truth[y == c].any(axis=1).sum(axis=1).max()) for c in range(4)]
    [0, 2, 2, 2]
    """
    if channels < 2:
        raise InvalidData(f"expected channels= of two or more, one a ramp, got {channels!r}; use seq_comb_uv for one")
    return _seq_comb("SeqComb-MV", length, channels, (15, 30), 5.0)


def low_var(*, length: int = 200) -> PlantedSeries:
    """A stretch of 10 to 19 time points with far less variance than elsewhere; the class is its channel and its level.

    Two channels; the stretch has mean -1.5 or 1.5 and standard deviation 0.1, in a background of standard deviation 1.

    Parameters
    ----------
    length : int, default=200

    References
    ----------
    Queen et al., arXiv 2306.02109, LowVar.

    Examples
    --------
    >>> X, y, truth = low_var().sample(20)
    >>> bool(X[truth].std() > 1 and np.abs(np.abs(X[truth]) - 1.5).max() < 0.5)
    True
    """
    _check(length, 80, 1.0)

    def plant(series: _FLOAT, c: int, rng: np.random.Generator) -> tuple[_FLOAT, NDArray[np.bool_]]:
        count, start = int(rng.integers(10, 20)), int(rng.integers(20, length - 40))
        where = np.zeros(series.shape, dtype=bool)
        where[start : start + count, c // 2] = True
        series[where] = rng.normal((-1.5, 1.5)[c % 2], 0.1, count)
        return series, where

    names = ("low on 0", "high on 0", "low on 1", "high on 1")
    return PlantedSeries("LowVar", length, 2, names, plant, lambda n, rng: _narma((n, length, 2), 1.0, rng))


# ---------------------------------------------------------------------- parts
def _seq_comb(name: str, length: int, channels: int, counts: tuple[int, int], rate: float) -> PlantedSeries:
    _check(length, 4 * counts[1], 1.0)
    signs = ((), (-1, -1), (1, 1), (1, -1))

    def plant(series: _FLOAT, c: int, rng: np.random.Generator) -> tuple[_FLOAT, NDArray[np.bool_]]:
        where = np.zeros(series.shape, dtype=bool)
        low, high = -_REACH * abs(series.min()), _REACH * abs(series.max())
        place = rng.permutation(channels)[:2] if channels > 1 else np.zeros(2, dtype=int)
        begin, end = 0, length // 2
        for sign, channel in zip(signs[c], place, strict=False):
            count = int(rng.integers(*counts))
            start = int(rng.integers(begin, end))
            series[start : start + count, channel] = _ramp(count, low, high, sign, int(rng.poisson(rate)))
            where[start : start + count, channel] = True
            begin, end = start + count, length - counts[1]
        return series, where

    names = ("none", "down, down", "up, up", "up, down")
    return PlantedSeries(name, length, channels, names, plant, lambda n, rng: _narma((n, length, channels), 0.01, rng))


def _ramp(count: int, low: float, high: float, sign: int, frequency: int) -> _FLOAT:
    """A line through zero in the middle, of the slope that leads from one end to the other, with a sine on top."""
    x = np.arange(count) - count // 2
    return np.asarray(sign * (high - low) / count * x + np.sin(frequency * x), dtype=float)


def _narma(shape: tuple[int, int, int], noise: float, rng: np.random.Generator) -> _FLOAT:
    """Nonlinear autoregressive moving averages of order 2, with normal noise on top; shape (n, length, channels)."""
    n, length, channels = shape
    u = rng.uniform(0, 0.5, (length + _WARM_UP, n, channels))
    y = np.zeros(u.shape)
    for t in range(1, len(u) - 1):
        y[t + 1] = 0.3 * y[t] + 0.05 * y[t] * (y[t] + y[t - 1]) + 1.5 * u[t - 1] * u[t] + 0.1
    return y[_WARM_UP:].swapaxes(0, 1) + rng.normal(0, noise, shape)


def _check(length: int, least: int, noise: float) -> None:
    if isinstance(length, bool) or not isinstance(length, int) or length < least:
        raise InvalidData(f"expected length= of {least} or more time points, got {length!r}")
    if not 0 <= noise < np.inf:
        raise InvalidData(f"expected noise= of 0 or more, got {noise!r}")
