"""Prompts of one length together, answers of one token, and scores of a language model's (or classifier's) logits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData

__all__ = ["LogitDifference", "ProbabilityDifference", "Score", "by_length", "single_tokens"]

_INT = NDArray[np.intp]


@final
class LogitDifference:
    """Logit of the right answer less that of a wrong one.

    Parameters
    ----------
    right, wrong : array-like of int, shape (prompts,) or ()
        Tokens, or classes.
    position : int, default=-1
        Where the answer is read; negative counts from the end.

    Raises
    ------
    InvalidData
        Tokens that are not whole numbers of one shape.

    Examples
    --------
    >>> score = LogitDifference([2, 0], [1, 1])
    >>> score(np.array([[0.0, 1.0, 3.0], [5.0, 1.0, 0.0]])).tolist()
    [2.0, 4.0]
    """

    name = "logit of the right answer less that of the wrong one"

    def __init__(self, right: ArrayLike, wrong: ArrayLike, *, position: int = -1) -> None:
        self.right, self.wrong, self.position = _tokens(right, "right"), _tokens(wrong, "wrong"), position
        if self.right.shape != self.wrong.shape or self.right.ndim > 1:
            shapes = f"{self.right.shape} and {self.wrong.shape}"
            raise InvalidData(f"expected right and wrong of one shape, (prompts,) or (), got {shapes}")

    @property
    def prompts(self) -> int | None:
        """How many prompts it is for; None where it is the same for each."""
        return len(self.right) if self.right.ndim else None

    def take(self, rows: Any) -> LogitDifference:
        """The score of some of the prompts."""
        if self.prompts is None:
            return self
        return LogitDifference(self.right[rows], self.wrong[rows], position=self.position)

    def __call__(self, logits: Any) -> Any:
        """Scores of shape (..., prompts) from logits of shape (..., prompts, classes), of torch or NumPy."""
        rows = np.arange(logits.shape[-2])
        return logits[..., rows, self.right] - logits[..., rows, self.wrong]


@final
class ProbabilityDifference:
    """Probability of all right answers less that of all wrong ones.

    Parameters
    ----------
    tokens : array-like of int, shape (answers,)
    right : array-like of bool, shape (prompts, answers)
        Which of them are right; the others are wrong.
    position : int, default=-1
        Where the answer is read; negative counts from the end.

    Raises
    ------
    InvalidData
        Shapes that do not fit.

    Examples
    --------
    >>> score = ProbabilityDifference([0, 1], [[True, False]])
    >>> round(float(score(np.log([[0.75, 0.25]]))[0]), 3)
    0.5
    """

    name = "probability of the right answers less that of the wrong ones"

    def __init__(self, tokens: ArrayLike, right: ArrayLike, *, position: int = -1) -> None:
        self.tokens, self.right, self.position = _tokens(tokens, "tokens"), np.asarray(right), position
        if self.right.dtype != bool or self.right.ndim != 2 or self.right.shape[1:] != self.tokens.shape:
            raise InvalidData(
                f"expected right= of bools, of shape (prompts, {len(np.atleast_1d(self.tokens))}), got {self.right.dtype} of "
                f"shape {self.right.shape}"
            )

    @property
    def prompts(self) -> int:
        """How many prompts it is for."""
        return len(self.right)

    def take(self, rows: Any) -> ProbabilityDifference:
        """The score of some of the prompts."""
        return ProbabilityDifference(self.tokens, self.right[rows], position=self.position)

    def __call__(self, logits: Any) -> Any:
        """Scores of shape (..., prompts) from logits of shape (..., prompts, classes), of torch or NumPy."""
        raised = logits - (logits.max(-1)[..., None] if isinstance(logits, np.ndarray) else logits.amax(-1, keepdim=True))
        chances = np.exp(raised) if isinstance(logits, np.ndarray) else raised.exp()
        chances = chances[..., self.tokens] / chances.sum(-1)[..., None]
        sign = np.where(self.right, 1.0, -1.0)
        signs = sign if isinstance(logits, np.ndarray) else logits.new_tensor(sign)
        return (chances * signs).sum(-1)


Score = LogitDifference | ProbabilityDifference


def single_tokens(tokenizer: Any, words: Iterable[str]) -> _INT:
    """The token of each word, refused where a word is not exactly one.

    Parameters
    ----------
    tokenizer : tokenizer of transformers
    words : iterable of str
        As they stand in the text, with the space before them.

    Raises
    ------
    InvalidData
        Names the first word that is several tokens.
    """
    out = []
    for word in words:
        found = tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(found) != 1:
            parts = [tokenizer.decode([one]) for one in found]
            raise InvalidData(f"expected answers of one token each, and {word!r} is {len(found)}: {parts}; choose another word")
        out.append(found[0])
    return np.array(out, dtype=np.intp)


def _tokens(values: ArrayLike, name: str) -> _INT:
    found = np.asarray(values)
    if found.dtype.kind not in "iu" or (found < 0).any():
        raise InvalidData(f"expected {name}= of tokens as whole numbers of 0 or more, got {found.dtype}")
    return found.astype(np.intp)


def by_length(input_ids: Any, what: str = "input_ids") -> list[tuple[_INT, _INT]]:
    """Prompts of one length together: their positions in the order given, and their tokens, shape (prompts, length).

    Raises
    ------
    InvalidData
        No prompt, or one that is not a row of tokens.
    """
    try:
        rows = [np.asarray(row) for row in input_ids]
    except TypeError:
        rows = []
    if not rows or any(row.ndim != 1 or not len(row) or row.dtype.kind not in "iu" for row in rows):
        raise InvalidData(f"expected {what}= of one row of tokens (whole numbers) a prompt, got {_described(input_ids)}")
    lengths = np.array([len(row) for row in rows])
    return [
        (np.flatnonzero(lengths == one), np.stack([row for row in rows if len(row) == one]).astype(np.intp))
        for one in np.unique(lengths)
    ]


def _described(thing: Any) -> str:
    shape = getattr(thing, "shape", None)
    return type(thing).__name__ if shape is None else f"shape {tuple(shape)}"
