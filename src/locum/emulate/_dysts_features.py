"""What a series is like, in two dozen numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["features", "main_period"]

Array = NDArray[np.float64]

_LAGS = (1, 2, 3, 5, 8, 13)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def features(x: Array) -> Array:
    """Of series along the last axis, (..., T) to (..., 27): moments, quantiles, autocorrelations, spectrum, turns, thirds."""
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.maximum(x.std(axis=-1, keepdims=True), 1e-12)
    scaled = centred / spread
    power = np.abs(np.fft.rfft(scaled, axis=-1)[..., 1:]) ** 2
    share = power / np.maximum(power.sum(axis=-1, keepdims=True), 1e-12)
    place = np.arange(1, share.shape[-1] + 1) / share.shape[-1]
    middle = (share * place).sum(axis=-1)
    steps = np.diff(scaled, axis=-1)
    lagged = [_lagged(scaled, lag) for lag in _LAGS]
    thirds = [part.mean(axis=-1) for part in np.array_split(x, 3, axis=-1)]
    columns = [
        x.mean(axis=-1), spread[..., 0], (scaled**3).mean(axis=-1), (scaled**4).mean(axis=-1),
        *np.quantile(x, _QUANTILES, axis=-1), x.min(axis=-1), x.max(axis=-1), *lagged, *thirds,
        middle, np.sqrt((share * (place - middle[..., None]) ** 2).sum(axis=-1)), stats.entropy(share + 1e-12, axis=-1),
        place[share.argmax(axis=-1)], np.abs(steps).mean(axis=-1), (steps**2).mean(axis=-1),
        (np.diff(np.sign(scaled), axis=-1) != 0).mean(axis=-1),
    ]  # fmt: skip
    return np.stack(columns, axis=-1)


def _lagged(scaled: Array, lag: int) -> Array:
    """Autocorrelation at a lag; 0 where the series is no longer than that."""
    return (scaled[..., lag:] * scaled[..., :-lag]).mean(axis=-1) if scaled.shape[-1] > lag else np.zeros(scaled.shape[:-1])


def main_period(x: Array) -> float:
    """Points a period of the dominant frequency, median over series (n, T)."""
    power = np.abs(np.fft.rfft(x - x.mean(axis=1, keepdims=True), axis=1)[:, 1:]) ** 2
    return float(x.shape[1] / np.median(power.argmax(axis=1) + 1))
