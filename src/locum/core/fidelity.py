"""Fidelity: one measured agreement between a stand-in and what it stands for, never a bare number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

from locum.core.errors import FormatError, InvalidData

__all__ = ["Fidelity"]

FORMAT = 1


@dataclass(frozen=True)
class Fidelity:
    """How faithful a stand-in is: a value, its bounds, and what they rest on.

    Parameters
    ----------
    measure : str
        Name of the measure.
    value, lower, upper : float
        Estimate and the ends of its interval, in the unit of the measure.
    level : float
        Level of the interval, in (0, 1), after correction for the candidates tried.
    n : int
        Rows it was measured on.
    region : str, default=""
        Where the rows came from.
    how : str, default="fresh queries"
        How they were sampled.
    method : str, default=""
        How the interval was made.
    candidates : int, default=1
        How many stand-ins the best was picked from on these rows (Bonferroni: each interval has level
        ``1 - (1 - level) / candidates``, so the best one's holds too).
    groups : int or None, default=None
        Number of independent groups, when rows come in groups.
    greater_is_better : bool, default=True
        False for errors and divergences.

    Raises
    ------
    InvalidData
        Numbers that are not finite, ``lower > upper``, or a value outside the interval.

    Examples
    --------
    >>> print(Fidelity("agreement", 0.943, 0.927, 0.956, 0.95, 1000, region="training box", candidates=3))
    agreement 0.943 [0.927, 0.956] at 95 %, n=1000 fresh queries, region: training box, best of 3 candidates
    >>> print(Fidelity("rmse", 0.21, 0.19, 0.23, 0.95, 400, greater_is_better=False))
    rmse 0.210 [0.190, 0.230] (lower is better) at 95 %, n=400 fresh queries
    """

    measure: str
    value: float
    lower: float
    upper: float
    level: float
    n: int
    region: str = ""
    how: str = "fresh queries"
    method: str = ""
    candidates: int = 1
    groups: int | None = None
    greater_is_better: bool = True

    def __post_init__(self) -> None:
        for name in ("measure", "region", "how", "method"):
            if not isinstance(getattr(self, name), str):
                raise InvalidData(f"expected {name} to be text, got {getattr(self, name)!r}")
        for name in ("value", "lower", "upper", "level"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, Real) or not math.isfinite(number):
                raise InvalidData(f"expected {name} of a fidelity to be a finite number, got {number!r}")
            object.__setattr__(self, name, float(number))  # NumPy's own floats would print and store differently
        if self.lower > self.upper:
            raise InvalidData(f"expected lower <= upper, got [{self.lower:g}, {self.upper:g}]: swap the two ends")
        if not self.lower <= self.value <= self.upper:
            raise InvalidData(f"expected a value inside [{self.lower:g}, {self.upper:g}], got {self.value:g}")
        if not 0.0 < self.level < 1.0:
            raise InvalidData(f"expected a level between 0 and 1 (such as 0.95), got {self.level!r}")
        least = {"n": 2, "candidates": 1} | ({} if self.groups is None else {"groups": 2})
        for name, minimum in least.items():
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, Integral) or count < minimum:
                raise InvalidData(f"expected {name} to be a whole number of {minimum} or more, got {count!r}")
            object.__setattr__(self, name, int(count))
        if not isinstance(self.greater_is_better, bool):
            raise InvalidData(f"expected greater_is_better to be True or False, got {self.greater_is_better!r}")

    def __str__(self) -> str:
        interval = f"[{_outwards(self.lower, self, math.floor)}, {_outwards(self.upper, self, math.ceil)}]"
        line = f"{self.measure} {_outwards(self.value, self, round)} {interval}"
        line += "" if self.greater_is_better else " (lower is better)"
        line += f" at {100 * self.level:.10g} %, n={self.n} {self.how}"
        line += "" if self.groups is None else f" in {self.groups} groups"
        line += f", region: {self.region}" if self.region else ""
        return line + (f", best of {self.candidates} candidates" if self.candidates > 1 else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, safe for JSON, with a format number."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Fidelity:
        """The fidelity that :meth:`to_dict` wrote.

        Raises
        ------
        FormatError
            A record that is newer than this version reads, or lacks fields, or has others.
        InvalidData
            Fields that contradict one another.
        """
        if not isinstance(record, Mapping) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, Mapping) else type(record).__name__
            raise FormatError(f"expected a fidelity record of format {FORMAT}, got {found!r}: update Locum to read it")
        given, known = set(record) - {"format"}, {field.name for field in fields(cls)}
        if given != known:
            raise FormatError(f"expected the fields of a fidelity record, got others or too few: {sorted(given ^ known)}")
        return cls(**{name: record[name] for name in known})


def _outwards(number: float, fidelity: Fidelity, rounding: Any) -> str:
    """Three decimals, or three figures where those say nothing; bounds are rounded away from the value."""
    largest = max(abs(fidelity.value), abs(fidelity.lower), abs(fidelity.upper))
    decimals = 3 if 0.1 <= largest < 10 or largest == 0 else 2 - _magnitude(largest)
    if 0 < abs(number) < 10.0**-decimals:  # beside a far larger one it keeps figures of its own
        decimals = max(decimals, min(3, 2 - _magnitude(number)))
    scaled = number * 10.0**decimals
    nearest = round(scaled)
    units = nearest if abs(scaled - nearest) < 1e-6 else rounding(scaled)  # 0.93 may be stored as 0.92999...
    rounded = units / 10.0**decimals
    return f"{rounded:.{decimals}f}" if 0 <= decimals <= 6 else f"{rounded:.3g}"


def _magnitude(number: float) -> int:
    """Power of ten of the first figure; below 1e-290 numbers are printed as if they were that large."""
    return max(math.floor(math.log10(abs(number))), -290)
