"""A network's or a tree ensemble's scores as a target's answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.core.execute import Malformed

__all__ = ["check_link", "read_scores"]

_LINKS = (None, "softmax", "sigmoid")


def check_link(link: str | None, output: str) -> None:
    """See that a link can be used for an output.

    Raises
    ------
    InvalidData
        Not a link, or one where no probabilities are wanted.
    """
    if link not in _LINKS:
        raise InvalidData(f"expected link= to be None, 'softmax' or 'sigmoid', got {link!r}")
    if link is not None and output not in ("probability", "class"):
        raise InvalidData(
            f"link={link!r} turns scores into probabilities, and output is {output!r}; say output='probability' or 'class'"
        )


def read_scores(scores: NDArray[Any], output: str, link: str | None, classes: NDArray[Any] | None) -> NDArray[Any]:
    r"""Scores as answers.

    .. math::
        \mathrm{softmax}(s)_c = \frac{e^{s_c}}{\sum_k e^{s_k}}, \qquad \mathrm{sigmoid}(s) = \frac{1}{1 + e^{-s}}

    Parameters
    ----------
    scores : ndarray of shape (m, ...)
    output : {"auto", "value", "probability", "class"}
        Values are as they came, but (m, 1) becomes (m,); so are they for "auto". One column of probabilities, that of the
        second class, becomes two. A class is that of the highest score; whole numbers of shape (m,) are taken as positions
        of classes, and text of that shape as classes.
    link : {None, "softmax", "sigmoid"}
        What makes probabilities of the scores; None where they are.
    classes : ndarray of shape (k,) or None
        What the classes are called, where not 0, 1, ...

    Returns
    -------
    ndarray of shape (m, ...)

    Raises
    ------
    Malformed
        Scores of a shape from which that cannot be read.
    ArithmeticError
        NaN where a class is asked for.
    """
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if output not in ("probability", "class"):
        return scores
    if output == "class" and scores.ndim == 1 and scores.dtype.kind in "biuUS":
        return scores if scores.dtype.kind in "US" else _called(scores, classes)
    if scores.ndim > 2 or scores.dtype.kind not in "biuf":
        raise Malformed(f"expected scores of shape (m,) or (m, classes), got {scores.dtype} of shape {scores.shape}")
    if scores.ndim == 2 and link == "sigmoid":
        raise Malformed(f"link='sigmoid' takes one score a row, got {scores.shape[1]}; say link='softmax', or output='value'")
    if scores.ndim == 1 and link == "softmax":
        raise Malformed("link='softmax' takes a score a class, got one score a row; say link='sigmoid'")
    if output == "class" and np.isnan(scores).any():
        raise ArithmeticError("the model's scores of a row are NaN, so it has no class")
    if output == "class" and scores.ndim == 2:  # a link keeps the order
        return _called(np.argmax(scores, axis=1), classes)
    p = _linked(scores, link)
    if output == "probability":
        return np.column_stack([1 - p, p]) if p.ndim == 1 else p
    if not ((p >= 0) & (p <= 1)).all():
        raise Malformed(f"expected the probability of the second class, got {p.min():g} to {p.max():g}; say link='sigmoid'")
    return _called((p > 0.5).astype(int), classes)


def _linked(scores: NDArray[Any], link: str | None) -> NDArray[Any]:
    scores = scores.astype(np.result_type(scores.dtype, np.float32))
    if link == "softmax":
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    if link == "sigmoid":
        small = np.exp(-np.abs(scores))  # never overflows
        return np.where(scores >= 0, 1, small) / (1 + small)
    return scores


def _called(index: NDArray[Any], classes: NDArray[Any] | None) -> NDArray[Any]:
    """Class positions as what the classes are called."""
    if classes is None:
        return index.astype(np.int64)
    if index.size and (index.min() < 0 or index.max() >= len(classes)):
        wrong = index.min() if index.min() < 0 else index.max()
        raise Malformed(f"expected one of the {len(classes)} classes by its position, from 0 on, got {wrong}")
    return classes[index.astype(np.intp)]
