"""What counts as an answer: the contract that a target's first answers fix, and later ones keep."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from locum.core._content import text_or_numbers
from locum.core.errors import InvalidData
from locum.core.execute import Malformed

__all__ = ["OUTPUTS", "Contract", "Output"]

Output = Literal["class", "probability", "value"]
_NAMES = 5  # columns named in a message
OUTPUTS: tuple[Output, ...] = ("class", "probability", "value")
_KINDS = {
    "b": "bool",
    "i": "integer",
    "u": "integer",
    "f": "float",
    "c": "complex",
    "U": "text",
    "S": "bytes",
    "V": "structured",
}


class Contract:
    """What a target's answers are: output, kind of values, shape of one answer; and the names of the columns it is asked.

    Parameters
    ----------
    known : dict
        What the ledger knows about the target.
    fix : callable
        Writes down what the first answers fixed, and gives what is known then; another process may have been first.
    classes : ndarray of shape (k,) or None
    allow_nan : bool
    """

    def __init__(
        self,
        known: dict[str, Any],
        fix: Callable[[dict[str, Any]], dict[str, Any]],
        classes: NDArray[Any] | None,
        allow_nan: bool,
    ) -> None:
        self.known, self.fix, self.classes, self.allow_nan = known, fix, classes, allow_nan
        self._lock = threading.Lock()

    @property
    def output(self) -> Output | None:
        """None until the first answer, where it was not given."""
        return self.known.get("output")

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of one answer; None until the first."""
        shape = self.known.get("shape")
        return None if shape is None else tuple(shape)

    def judge(self, raw: Any, n: int) -> tuple[NDArray[Any], NDArray[np.bool_], str]:
        """What a model gave back for `n` rows, as an array; which rows have no answer that can be used; and why.

        Raises
        ------
        Malformed
            The answers are not what was agreed.
        """
        answers, bad = _as_array(raw)
        if answers.ndim == 0 or len(answers) != n:
            came = "one value" if answers.ndim == 0 else f"{len(answers)} answers"
            raise Malformed(f"expected one answer a row, {n} of them, got {came}")
        if not self.allow_nan:
            bad |= ~_finite(answers)
        good = answers[~bad]
        if len(good):
            with self._lock:
                self._hold(good)
        return answers, bad, "expected finite numbers, or text, got NaN, infinity or None"

    def hold_columns(self, names: list[str] | None) -> None:
        """Let the names of the columns that were answered first hold for all that is asked."""
        if names is not None and self.known.get("columns") is None:
            with self._lock:
                self.known = self.fix({**self.known, "columns": names})

    def check_columns(self, names: list[str] | None) -> None:
        """See that rows have the columns that were asked before; where either have no names, there is nothing to see."""
        known = self.known.get("columns")
        if names is None or known is None or names == known:
            return
        asked = "the columns that the target was asked with before, " + ", ".join(map(repr, known[:_NAMES]))
        if sorted(names) == sorted(known):
            raise InvalidData(f"expected {asked}, got the same in another order; reorder them")
        lost, extra = [n for n in known if n not in names], [n for n in names if n not in known]
        got = " and ".join(
            f"{what} {', '.join(map(repr, some[:_NAMES]))}" for what, some in (("without", lost), ("also", extra)) if some
        )
        raise InvalidData(f"expected {asked}, got rows {got}; give it the same columns in the same order")

    def _hold(self, answers: NDArray[Any]) -> None:
        kind, shape = _kind(answers), list(answers.shape[1:])
        first = self.known.get("kind") is None
        if not first and (kind, shape) != (self.known["kind"], self.known["shape"]):
            expected = f"{self.known['kind']} of shape {_shape(self.known['shape'])}"
            raise Malformed(f"expected answers like the first, {expected}, got {kind} of shape {_shape(shape)}")
        output = self.output or _decide(answers)
        if output == "probability":
            _check_probabilities(answers, self.classes)
        elif output == "class":
            _check_classes(answers, self.classes)
        if first:
            self.known = self.fix({**self.known, "output": output, "kind": kind, "shape": shape})
            self._hold(answers)


def _as_array(raw: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Answers as an array, and which are None."""
    try:
        answers = np.asarray(raw)
        absent = np.zeros(answers.shape[:1], dtype=bool)
        if answers.dtype.kind in "OT":
            absent = np.array([answer is None for answer in answers]) if answers.ndim == 1 else absent
            there = text_or_numbers(answers[~absent])
            answers = np.zeros(answers.shape, dtype=there.dtype)
            answers[~absent] = there
    except (ValueError, TypeError) as error:
        raise Malformed(f"expected an array of answers, got {type(raw).__name__}: {error}") from error
    if answers.dtype.kind not in _KINDS or answers.dtype.hasobject:
        raise Malformed(f"expected numbers, text or a structured array, got {answers.dtype}")
    return answers, absent


def _finite(answers: NDArray[Any]) -> NDArray[np.bool_]:
    if answers.dtype.names:
        return np.all([_finite(answers[name]) for name in answers.dtype.names], axis=0)
    if answers.dtype.kind not in "fc":
        return np.ones(len(answers), dtype=bool)
    return np.isfinite(answers).reshape(len(answers), -1).all(axis=1)


def _kind(answers: NDArray[Any]) -> str:
    return str(answers.dtype.descr) if answers.dtype.names else _KINDS[answers.dtype.kind]


def _shape(shape: list[int]) -> str:
    return f"(n, {', '.join(map(str, shape))})" if shape else "(n,)"


def _decide(answers: NDArray[Any]) -> Output:
    if answers.ndim == 1 and answers.dtype.kind in "biuUS":
        return "class"
    if answers.ndim == 2 and answers.shape[1] > 1 and answers.dtype.kind == "f" and _improbable(answers) is None:
        return "probability"
    return "value"


def _improbable(answers: NDArray[Any]) -> str | None:
    """What keeps rows of numbers from being probabilities."""
    tolerance = 1e-6 if answers.dtype.itemsize >= 8 else 1e-3
    low, high, sums = float(answers.min()), float(answers.max()), answers.sum(axis=1)
    if low < -tolerance or high > 1 + tolerance:
        return f"values from {low:g} to {high:g}"
    worst = float(sums[np.argmax(np.abs(sums - 1))])
    return f"a row that sums to {worst:.8g}" if abs(worst - 1) > tolerance else None


def _check_probabilities(answers: NDArray[Any], classes: NDArray[Any] | None) -> None:
    if answers.ndim != 2 or answers.dtype.kind not in "fiu" or (classes is not None and answers.shape[1] != len(classes)):
        wanted = "k" if classes is None else len(classes)
        raise Malformed(f"expected probabilities of shape (n, {wanted}), got {answers.dtype} of shape {answers.shape}")
    wrong = _improbable(answers)
    if wrong is not None:
        raise Malformed(f"expected probabilities between 0 and 1 that sum to 1, got {wrong}; for scores give output='value'")


def _check_classes(answers: NDArray[Any], classes: NDArray[Any] | None) -> None:
    if answers.ndim != 1:
        raise Malformed(f"expected one class a row, of shape (n,), got shape {answers.shape}")
    if classes is not None and not (known := np.isin(answers, classes)).all():
        raise Malformed(f"expected one of the classes {classes.tolist()}, got {answers[~known][0].item()!r}")
