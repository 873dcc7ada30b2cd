"""Attribution: what each part of one input has to do with one answer, and how sure and how faithful that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import FormatError, InvalidData
from locum.core.fidelity import Fidelity

__all__ = ["Attribution", "Axis", "Part"]

_FORMAT = 1
_SHOWN = 10


class Axis(NamedTuple):
    """What the positions along one axis of an attribution are.

    Parameters
    ----------
    unit : str
        "column", "time point", "channel", "token", "pixel row": what one position is.
    names : tuple of str
        One a position.
    """

    unit: str
    names: tuple[str, ...]


class Part(NamedTuple):
    """One part of an input, with its value and the ends of its interval.

    Parameters
    ----------
    name : str
    value, lower, upper : float
    position : tuple of int
        Where it stands in the arrays of the attribution.
    """

    name: str
    value: float
    lower: float
    upper: float
    position: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Attribution:
    """One number for each part of an input: each column of a row, time point of a series, token or pixel.

    Every explainer gives this record, and every plot, measure and card reads it.

    Parameters
    ----------
    values : ndarray of any shape
        One number a part, in the unit of what is explained.
    lower, upper : ndarray of that shape
        Ends of an interval for each value, at `level`; NaN where a part was left out of the explanation and no interval is
        known.
    axes : tuple of Axis
        What the values refer to, one axis of the array after the other.
    base : float
        What the explanation answers where no part adds anything.
    row : any
        The input that was explained, as JSON-ready values; for a table one value a column.
    answer : label, number or list of probabilities
        What the target answers for it.
    output : str
        Which number is explained: the probability of a class, whether a class is answered, or a value.
    baseline : str
        The distribution that takes the place of parts that are taken away.
    method : str
    meaning : str
        How to read one value, in words.
    fidelity : Fidelity or None
        How well base and values foretell the target's answers on fresh points near the input; None where that was not
        measured, or no fresh point is left.
    random_state : int
    level : float, default=0.95
    rivals : dict of str to Fidelity, default={}
        The same measure of cheaper explanations on the same points, where there are any.

    Raises
    ------
    InvalidData
        Arrays that do not fit one another or the axes, values that are not finite, or outside their intervals.

    Examples
    --------
    >>> import numpy as np
    >>> found = Attribution(
    ...     np.array([0.25, -0.5]), np.array([0.2, -0.6]), np.array([0.3, -0.4]), (Axis("column", ("age", "income")),),
    ...     base=0.6, row=(39, 1200.0), answer="yes", output="probability of yes", baseline="500 rows",
    ...     method="Shapley values", meaning="share of the answer above the base", fidelity=None, random_state=0,
    ... )
    >>> [part.name for part in found.top(1)]
    ['income']
    >>> print(found)
    Shapley values of probability of yes, where the target answers yes
    base +0.6, against 500 rows; a value is the share of the answer above the base
    income = 1200   -0.5 [-0.6, -0.4]
    age = 39       +0.25 [+0.2, +0.3]
    fidelity not measured
    """

    values: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    axes: tuple[Axis, ...]
    base: float
    row: Any
    answer: Any
    output: str
    baseline: str
    method: str
    meaning: str
    fidelity: Fidelity | None
    random_state: int
    level: float = 0.95
    rivals: Mapping[str, Fidelity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("values", "lower", "upper"):
            # A copy that nobody can write to: whoever reads an explanation may keep it.
            array = np.array(getattr(self, name), dtype=float)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        shape = tuple(len(axis.names) for axis in self.axes)
        for name in ("values", "lower", "upper"):
            if getattr(self, name).shape != shape:
                raise InvalidData(f"expected {name} of shape {shape}, as the axes say, got {getattr(self, name).shape}")
        if not (np.isfinite(self.values).all() and math.isfinite(self.base)):
            raise InvalidData("expected finite values and a finite base, got NaN or infinity")
        if (np.isnan(self.lower) != np.isnan(self.upper)).any():
            raise InvalidData("expected NaN at both ends of an interval that is not known, got it at one")
        outside = (self.values < self.lower) | (self.values > self.upper)
        if outside.any():
            at = tuple(int(i) for i in np.argwhere(outside)[0])
            raise InvalidData(
                f"expected each value inside its interval, got {self.values[at]:g} outside "
                f"[{self.lower[at]:g}, {self.upper[at]:g}] at position {at}"
            )
        if not 0 < self.level < 1:
            raise InvalidData(f"expected a level between 0 and 1 (such as 0.95), got {self.level!r}")

    # ------------------------------------------------------------------ facts
    @property
    def unit(self) -> str:
        """What one part is, such as "column", or "time point and channel"."""
        return " and ".join(axis.unit for axis in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """One name a part, in the order of ``values.ravel()``."""
        return tuple(", ".join(names) for names in product(*(axis.names for axis in self.axes)))

    def top(self, k: int = 5) -> tuple[Part, ...]:
        """The `k` parts of largest absolute value, largest first; parts of value zero are left out.

        Parameters
        ----------
        k : int, default=5
        """
        if k < 1:
            raise InvalidData(f"expected k of 1 or more parts, got {k!r}")
        flat = self.values.ravel()
        names = self.names
        order = np.argsort(-np.abs(flat), kind="stable")[:k]
        return tuple(
            Part(
                names[i],
                float(flat[i]),
                float(self.lower.flat[i]),
                float(self.upper.flat[i]),
                tuple(int(p) for p in np.unravel_index(i, self.values.shape)),
            )
            for i in order.tolist()
            if flat[i] != 0
        )

    # ------------------------------------------------------------------ words
    def text(self, k: int = _SHOWN) -> str:
        """The explanation in words: the `k` strongest parts, one a line, and how faithful it is."""
        parts = self.top(k)
        labels = [self._label(part) for part in parts]
        amounts = [_signed(part.value) for part in parts]
        wide = max(map(len, labels), default=0), max(map(len, amounts), default=0)
        lines = [
            f"{self.method} of {self.output}, where the target answers {plain_answer(self.answer)}",
            f"base {_signed(self.base)}, against {self.baseline}; a value is the {self.meaning}",
        ]
        for part, label, amount in zip(parts, labels, amounts, strict=True):
            line = f"{label:<{wide[0]}}  {amount:>{wide[1]}}"
            lines.append(line if math.isnan(part.lower) else f"{line} [{_signed(part.lower)}, {_signed(part.upper)}]")
        more = int((self.values != 0).sum()) - len(parts)
        if more > 0:
            lines.append(f"and {more} more")
        if not parts:
            lines.append("no part of it has anything to do with the answer, as far as could be seen")
        lines.append(str(self.fidelity or "fidelity not measured"))
        lines += [f"beside it, {name}: {found}" for name, found in self.rivals.items()]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def _label(self, part: Part) -> str:
        if [axis.unit for axis in self.axes] != ["column"] or len(self.row) != len(self.values):
            return part.name
        return f"{part.name} = {plain_value(self.row[part.position[0]])}"

    # ------------------------------------------------------------------ keeping it
    def to_dict(self) -> dict[str, Any]:
        """The attribution as JSON-ready values, with a format number."""
        return {
            "format": _FORMAT,
            **{name: _with_none(getattr(self, name)) for name in ("values", "lower", "upper")},
            "axes": [{"unit": axis.unit, "names": list(axis.names)} for axis in self.axes],
            **{name: getattr(self, name) for name in _PLAIN},
            "row": _listed(self.row),
            "answer": _listed(self.answer),
            "fidelity": None if self.fidelity is None else self.fidelity.to_dict(),
            "rivals": {name: found.to_dict() for name, found in self.rivals.items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Attribution:
        """The attribution that `to_dict` described.

        Raises
        ------
        FormatError
            A record of another format, or with parts that are missing or of the wrong kind.
        """
        if not isinstance(record, Mapping) or record.get("format") != _FORMAT:
            found = record.get("format") if isinstance(record, Mapping) else type(record).__name__
            raise FormatError(f"expected an attribution record of format {_FORMAT}, got {found!r}: update Locum to read it")
        try:
            found = record["fidelity"]
            values, lower, upper = (np.array(record[name], dtype=float) for name in ("values", "lower", "upper"))
            return cls(
                values,
                lower,
                upper,
                axes=tuple(Axis(axis["unit"], tuple(axis["names"])) for axis in record["axes"]),
                **{name: record[name] for name in _PLAIN},
                row=tuple(record["row"]) if isinstance(record["row"], list) else record["row"],
                answer=record["answer"],
                fidelity=None if found is None else Fidelity.from_dict(found),
                rivals={name: Fidelity.from_dict(one) for name, one in record.get("rivals", {}).items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"this is not an attribution: {error!r} while reading it") from error


_PLAIN = ("base", "output", "baseline", "method", "meaning", "random_state", "level")


def plain_value(value: Any) -> str:
    """A value of a row in words."""
    if value is None:
        return "missing"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def plain_answer(answer: Any) -> str:
    """An answer in words: a label, a number, or probabilities."""
    if isinstance(answer, list | tuple):
        return f"({', '.join(f'{p:.3g}' for p in answer)})"
    return plain_value(answer)


def _signed(number: float) -> str:
    return f"{number + 0.0:+.3g}"


def _with_none(array: NDArray[np.float64]) -> Any:
    return np.where(np.isnan(array), None, array.astype(object)).tolist()  # type: ignore[call-overload]


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_listed(one) for one in value] if isinstance(value, list | tuple) else value
