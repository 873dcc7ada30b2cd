"""How measures read answers and predictions: one function for each kind, each giving two arrays of n rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData

__all__ = ["READERS"]


def _labels(truth: Any, prediction: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels as whole-number codes, the same label having the same code on both sides."""
    pair = [_column(side, who) for side, who in ((truth, "the answers"), (prediction, "the predictions"))]
    _same_length(*pair)
    text = [any(isinstance(label, str) for label in side.tolist()[:1]) for side in pair]
    if text[0] != text[1]:
        raise InvalidData(f"expected labels of one type, got answers like {pair[0][:1]} and predictions {pair[1][:1]}")
    both = np.concatenate([side if side.dtype == pair[0].dtype else side.astype(object) for side in pair])
    if both.dtype == object:
        codes = _coded(both.tolist())
    else:
        if both.dtype.kind in "fcmM" and np.any(both != both):
            raise InvalidData("expected a label in every row, got a missing one: drop those rows")
        codes = np.unique(both, return_inverse=True)[1]
    return codes[: len(pair[0])], codes[len(pair[0]) :]


def _coded(labels: list[Any]) -> NDArray[np.intp]:
    """Labels of any one kind, numbered as they come."""
    seen: dict[Any, int] = {}
    try:
        if any(label is None or label != label for label in labels):
            raise InvalidData("expected a label in every row, got a missing one: drop those rows")
        return np.array([seen.setdefault(label, len(seen)) for label in labels], dtype=np.intp)
    except TypeError:  # lists and the like have no hash; pandas' own missing value is neither equal to itself nor not
        raise InvalidData("expected labels that are text, numbers or True / False, and none missing, in every row") from None


def _probabilities(truth: Any, prediction: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Distributions of shape (n, C); a column of P(positive) becomes two."""
    pair = []
    for side, who in ((truth, "the answers"), (prediction, "the predictions")):
        p = _finite(side, who)
        p = np.column_stack([1.0 - p, p]) if p.ndim == 1 else p
        if p.ndim != 2 or p.shape[1] < 2:
            raise InvalidData(f"expected {who} as probabilities of shape (n, classes) or (n,), got shape {p.shape}")
        tolerance = 1e-3 if np.asarray(side).dtype in (np.float16, np.float32) else 1e-6
        if p.size and (p.min() < -tolerance or np.abs(p.sum(axis=1) - 1.0).max() > tolerance):
            raise InvalidData(f"expected {who} to be probabilities that are 0 or more and sum to 1 in each row")
        p = np.clip(p, 0.0, 1.0)
        pair.append(p / p.sum(axis=1, keepdims=True))
    if len(pair[0]) == len(pair[1]) and pair[0].shape != pair[1].shape:
        raise InvalidData(f"expected the same classes, got {pair[0].shape[1]} and {pair[1].shape[1]} columns")
    return _same_length(*pair)


def _values(truth: Any, prediction: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers of shape (n,) or (n, outputs)."""
    pair = [_finite(side, who) for side, who in ((truth, "the answers"), (prediction, "the predictions"))]
    pair = [side[:, 0] if side.ndim == 2 and side.shape[1] == 1 else side for side in pair]
    _same_length(*pair)
    if pair[0].shape != pair[1].shape or pair[0].ndim not in (1, 2):
        raise InvalidData(f"expected values of one shape, (n,) or (n, outputs), got {pair[0].shape} and {pair[1].shape}")
    return pair[0], pair[1]


def _intervals(truth: Any, prediction: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Numbers of shape (n,) and intervals (lower, upper) of shape (n, 2)."""
    y, ends = _finite(truth, "the answers"), _finite(prediction, "the predictions")
    if y.ndim != 1 or ends.ndim != 2 or ends.shape[1] != 2:
        raise InvalidData(f"expected answers (n,) and intervals (n, 2), got shapes {y.shape} and {ends.shape}")
    if np.any(ends[:, 0] > ends[:, 1]):
        raise InvalidData(f"expected lower <= upper in each interval, got {ends[np.argmax(ends[:, 0] > ends[:, 1])]}")
    return _same_length(y, ends)


def _sequences(truth: Any, prediction: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sequences of tokens as object arrays of tuples; a string is the sequence of its characters."""
    pair = []
    for side, who in ((truth, "the answers"), (prediction, "the predictions")):
        rows = None if isinstance(side, str) or not hasattr(side, "__iter__") else list(side)
        if rows is None or any(not hasattr(row, "__iter__") for row in rows):
            raise InvalidData(f"expected {who} as a list of sequences (strings, or lists of tokens), got {side!r:.80}")
        held = np.empty(len(rows), dtype=object)
        for i, row in enumerate(rows):  # one by one: NumPy would take tuples of one length for a second axis
            held[i] = tuple(row.tolist() if isinstance(row, np.ndarray) else row)
        try:
            hash(tuple(held))
        except TypeError:
            raise InvalidData(f"expected {who} as sequences of tokens (text or numbers), got lists within rows") from None
        pair.append(held)
    return _same_length(*pair)


def _same_length(truth: NDArray[Any], prediction: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if len(truth) != len(prediction):
        raise InvalidData(f"expected as many predictions as answers, got {len(prediction)} for {len(truth)} rows")
    return truth, prediction


def _array(values: Any, who: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError:
        raise InvalidData(f"expected {who} as one row of the same shape for each query, got rows of differing shape") from None


def _column(values: Any, who: str) -> NDArray[Any]:
    """Labels of shape (n,); text and objects alike."""
    array = _array(values, who)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1:
        raise InvalidData(f"expected {who} as labels of shape (n,), got shape {array.shape}")
    return array


def _finite(values: Any, who: str) -> NDArray[np.float64]:
    """Finite real numbers as floats, at least one-dimensional."""
    array = _array(values, who)
    try:
        if array.dtype.kind in "USbcmM":
            raise TypeError
        array = array.astype(float)
    except (TypeError, ValueError):
        raise InvalidData(f"expected {who} to be real numbers, got {array.dtype} like {array.ravel()[:1]}") from None
    if array.ndim == 0:
        raise InvalidData(f"expected {who} to have a row for each query, got the single number {array}")
    if not np.all(np.isfinite(array)):
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InvalidData(f"expected {who} to be finite, got NaN or infinity at row {row}: drop it or fill it")
    return array


READERS: dict[str, Callable[[Any, Any], tuple[NDArray[Any], NDArray[Any]]]] = {
    "class": _labels,
    "probability": _probabilities,
    "value": _values,
    "interval": _intervals,
    "ranking": _values,
    "sequence": _sequences,
}
