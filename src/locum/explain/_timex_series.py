"""Series of unequal lengths and irregular times as arrays, and what a module must do to be masked in its attention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData

__all__ = ["PADDED", "AttentionMasking", "as_series", "pad_series", "statistics"]

_SERIES = NDArray[np.float32]
PADDED = -1e5  # times below this mark steps that are not there
_MARK = -1e6


class AttentionMasking(ABC):
    """A torch module whose attention weights can be masked, which hides time points without putting others in their place.

    Subclass it beside ``torch.nn.Module``. Masking hides something only where nothing goes round the attention: no residual
    connection from the input.
    """

    @abstractmethod
    def embed(self, X: Any, times: Any = None, kept: Any = None) -> Any:
        """Embedding (n, width) of series (n, T, d), their times (n, T), and what is kept of each time point (n, T).

        Every layer multiplies its attention weight from time point i to j by what is kept of i and of j, after the softmax and
        without renormalising.
        """


def pad_series(series: Sequence[ArrayLike], times: Sequence[ArrayLike] | None = None) -> tuple[_SERIES, _SERIES]:
    """Series of unequal lengths, or with gaps, as one array with times.

    Parameters
    ----------
    series : sequence of arrays of shape (T_i, d), or (T_i,)
        A step with a NaN in any channel is a gap: it is left out, and the others keep their times.
    times : sequence of arrays of shape (T_i,) or None, default=None
        Increasing; 1, 2, ... where None.

    Returns
    -------
    X : ndarray of shape (n, T, d)
        Padded with zeros at the end.
    times : ndarray of shape (n, T)
        -1e6 at steps that are padded.

    Raises
    ------
    InvalidData
        No series, one without a step, unequal channels, or times of other lengths.

    Examples
    --------
    >>> X, times = pad_series([[1.0, 2.0, 3.0], [4.0, float("nan"), 5.0], [6.0]])
    >>> X[..., 0].tolist(), times[1].tolist()
    ([[1.0, 2.0, 3.0], [4.0, 5.0, 0.0], [6.0, 0.0, 0.0]], [1.0, 3.0, -1000000.0])
    """
    rows = [np.asarray(one, dtype=np.float32) for one in series]
    rows = [one[:, None] if one.ndim == 1 else one for one in rows]
    if not rows or any(one.ndim != 2 for one in rows) or len({one.shape[1] for one in rows}) != 1:
        raise InvalidData(f"expected series (time points, channels) of equal channels, got {[r.shape for r in rows][:5]}")
    when = [np.arange(1, len(one) + 1) for one in rows] if times is None else [np.asarray(one, dtype=float) for one in times]
    if [one.shape for one in when] != [(len(one),) for one in rows]:
        raise InvalidData("expected one time for each time point of each series")
    kept = [~np.isnan(one).any(axis=1) for one in rows]
    rows, when = [r[k] for r, k in zip(rows, kept, strict=True)], [t[k] for t, k in zip(when, kept, strict=True)]
    if min(map(len, rows)) == 0:
        raise InvalidData(f"series {[len(one) for one in rows].index(0)} has no time point without a gap; drop it")
    length = max(map(len, rows))
    X = np.zeros((len(rows), length, rows[0].shape[1]), dtype=np.float32)
    marks = np.full((len(rows), length), _MARK, dtype=np.float32)
    for i, (one, at) in enumerate(zip(rows, when, strict=True)):
        X[i, : len(one)], marks[i, : len(one)] = one, at
    return X, marks


def as_series(X: Any, times: Any, like: tuple[int, int] | None = None) -> tuple[_SERIES, _SERIES]:
    """Series and times, checked; regular times where None.

    Parameters
    ----------
    X : array-like or tensor of shape (n, T, d)
    times : array-like or tensor of shape (n, T), or None
    like : (int, int) or None, default=None
        T and d that are expected.

    Raises
    ------
    InvalidData
        Shapes that do not fit, NaN or infinity, times that do not increase, or padding anywhere but at the end.
    """
    try:
        found = np.ascontiguousarray(_array(X))
    except (ValueError, TypeError) as error:
        raise InvalidData(f"expected series of one shape (n, T, d), got unequal ones ({error}); see pad_series") from None
    if found.ndim != 3 or 0 in found.shape:
        raise InvalidData(f"expected series of shape (n, T, d), got {found.shape}; one channel is X[..., None]")
    if like is not None and found.shape[1:] != like:
        raise InvalidData(f"expected series of {like[0]} time points and {like[1]} channels, got {found.shape[1:]}")
    if not np.isfinite(found).all():
        row = int(np.argwhere(~np.isfinite(found))[0, 0])
        raise InvalidData(f"series {row} holds NaN or infinity; impute it, or leave gaps out with pad_series")
    if times is None:
        return found, np.tile(np.arange(1, found.shape[1] + 1, dtype=np.float32), (len(found), 1))
    when = _array(times)
    if when.shape != found.shape[:2]:
        raise InvalidData(f"expected times of shape {found.shape[:2]}, got {when.shape}")
    there = when > PADDED
    if not np.isfinite(when).all() or not there.any(axis=1).all() or (there[:, 1:] & ~there[:, :-1]).any():
        raise InvalidData("expected finite times, at least one a series, and padding only at its end; see pad_series")
    if ((np.diff(when, axis=1) <= 0) & there[:, 1:]).any():
        row = int(np.argwhere((np.diff(when, axis=1) <= 0) & there[:, 1:])[0, 0])
        raise InvalidData(f"expected times that increase, those of series {row} do not; sort its time points, drop repeats")
    return found, when


def _array(values: Any) -> _SERIES:
    """Also of a tensor, wherever it is."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float32)


def statistics(X: _SERIES, times: _SERIES) -> tuple[_SERIES, _SERIES]:
    """Mean and standard deviation of each time point and channel over the series that have it, each of shape (T, d)."""
    there = (times > PADDED)[..., None]
    count = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, X, 0.0).sum(axis=0, dtype=float) / count
    spread = np.where(there, (X - mean) ** 2, 0.0).sum(axis=0, dtype=float) / count
    return mean.astype(np.float32), np.sqrt(spread).astype(np.float32)
