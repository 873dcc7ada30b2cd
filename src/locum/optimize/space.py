"""Where an optimiser may look: numbers, whole numbers and choices, some of which matter only under others."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from locum.core.errors import FormatError, InvalidData, require_whole

__all__ = ["Categorical", "Integer", "Parameter", "Point", "Real", "Space"]

_FLOAT = NDArray[np.float64]
Point = dict[str, Any]
When = tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Real:
    """A number in a range.

    Parameters
    ----------
    name : str
    low, high : float
    log : bool, default=False
        Whether equal ratios count alike, as for a learning rate.
    when : (str, tuple) or None, default=None
        Name of a choice, and the values of it under which this parameter matters; always where None.
    """

    name: str
    low: float
    high: float
    log: bool = False
    when: When | None = None

    def __post_init__(self) -> None:
        _check_range(self.name, self.low, self.high, self.log)

    width = 1
    idle = (0.5,)  # its encoding where it does not matter

    @property
    def _ends(self) -> tuple[float, float]:
        return (math.log(self.low), math.log(self.high)) if self.log else (float(self.low), float(self.high))

    def encode(self, values: Sequence[Any]) -> _FLOAT:
        """To [0, 1], shape (n, 1)."""
        found, (low, high) = _numbers(values), self._ends
        bad = ~((found >= self.low) & (found <= self.high))
        if bad.any():
            value = values[int(bad.argmax())]
            raise InvalidData(f"expected {self.name} between {self.low:g} and {self.high:g}, got {value!r}")
        return np.clip(((np.log(found) if self.log else found) - low) / (high - low), 0, 1)[:, None]

    def decode(self, units: _FLOAT) -> list[Any]:
        """From [0, 1], one value a row of `units`, of shape (n, 1)."""
        low, high = self._ends
        found = low + np.clip(units[:, 0], 0, 1) * (high - low)
        return np.clip(np.exp(found) if self.log else found, self.low, self.high).tolist()


@dataclass(frozen=True)
class Integer:
    """A whole number in a range, both ends included.

    Parameters
    ----------
    name : str
    low, high : int
    log : bool, default=False
    when : (str, tuple) or None, default=None
        See `Real`.
    """

    name: str
    low: int
    high: int
    log: bool = False
    when: When | None = None

    def __post_init__(self) -> None:
        for end in (self.low, self.high):
            if isinstance(end, bool) or not isinstance(end, int):
                raise InvalidData(f"expected whole numbers as the ends of {self.name}, got {self.low!r} and {self.high!r}")
        _check_range(self.name, self.low, self.high, self.log)

    width = 1
    idle = (0.5,)

    @property
    def _ends(self) -> tuple[float, float]:
        # Half a step more on either side, so that the ends are drawn as often as the others.
        low, high = self.low - 0.5, self.high + 0.5
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def encode(self, values: Sequence[Any]) -> _FLOAT:
        """To [0, 1], shape (n, 1)."""
        found, (low, high) = _numbers(values), self._ends
        bad = ~((found >= self.low) & (found <= self.high) & (found == np.round(found)))
        if bad.any():
            value = values[int(bad.argmax())]
            raise InvalidData(f"expected {self.name} to be a whole number from {self.low} to {self.high}, got {value!r}")
        return (((np.log(found) if self.log else found) - low) / (high - low))[:, None]

    def decode(self, units: _FLOAT) -> list[Any]:
        """From [0, 1], one value a row of `units`, of shape (n, 1)."""
        low, high = self._ends
        found = low + np.clip(units[:, 0], 0, 1) * (high - low)
        return [min(max(round(one), self.low), self.high) for one in (np.exp(found) if self.log else found).tolist()]


@dataclass(frozen=True)
class Categorical:
    """A choice without an order.

    Parameters
    ----------
    name : str
    choices : tuple of str, int, float or bool
        Two or more.
    when : (str, tuple) or None, default=None
        See `Real`.
    """

    name: str
    choices: tuple[Any, ...]
    when: When | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "choices", tuple(self.choices))
        _check_name(self.name)
        if len(self.choices) < 2 or len({(type(one), one) for one in self.choices}) < len(self.choices):
            raise InvalidData(f"expected two or more different choices for {self.name}, got {self.choices!r}")
        if not all(isinstance(one, str | int | float | bool) for one in self.choices):
            raise InvalidData(f"expected choices of {self.name} to be text, numbers or bools, got {self.choices!r}")

    @property
    def width(self) -> int:
        """Columns of the encoding: one a choice."""
        return len(self.choices)

    @property
    def idle(self) -> tuple[float, ...]:
        """Its encoding where it does not matter."""
        return (0.0,) * self.width

    def encode(self, values: Sequence[Any]) -> _FLOAT:
        """One column a choice, 1 for the one taken, shape (n, choices)."""
        strange = [value for value in values if value not in self.choices]
        if strange:
            raise InvalidData(f"expected {self.name} to be one of {', '.join(map(repr, self.choices))}, got {strange[0]!r}")
        return np.eye(self.width)[[self.choices.index(value) for value in values]]

    def decode(self, units: _FLOAT) -> list[Any]:
        """The choice of the largest column, one a row of `units`, of shape (n, choices)."""
        return [self.choices[i] for i in units.argmax(axis=1).tolist()]


Parameter = Real | Integer | Categorical
_KINDS: dict[str, type[Any]] = {"real": Real, "integer": Integer, "categorical": Categorical}


class Space:
    """Parameters, and the points that are made of them.

    A point is a dict with a value for each parameter that matters in it. Encoded, it is a row of numbers in [0, 1]: one column
    for a number, one a choice; a parameter that does not matter stands in the middle, or has no choice.

    Parameters
    ----------
    parameters : iterable of Real, Integer or Categorical
        With different names. A parameter with `when` stands after the choice that it names.

    Raises
    ------
    InvalidData
        No parameters, names twice, or a `when` that names no choice before it.

    Examples
    --------
    >>> space = Space([Real("rate", 1e-4, 1.0, log=True), Categorical("kernel", ("linear", "poly")),
    ...                Integer("degree", 2, 5, when=("kernel", ("poly",)))])
    >>> space.encode([{"rate": 0.01, "kernel": "linear"}]).round(3).tolist()
    [[0.5, 1.0, 0.0, 0.5]]
    >>> space.decode([[1.0, 0.2, 0.9, 0.0]])
    [{'rate': 1.0, 'kernel': 'poly', 'degree': 2}]
    """

    def __init__(self, parameters: Iterable[Parameter]) -> None:
        self.parameters = tuple(parameters)
        if not self.parameters:
            raise InvalidData("expected at least one parameter, got none")
        known: dict[str, Parameter] = {}
        for one in self.parameters:
            if not isinstance(one, Real | Integer | Categorical):
                raise InvalidData(f"expected Real, Integer or Categorical parameters, got {type(one).__name__}")
            if one.name in known:
                raise InvalidData(f"the name {one.name!r} comes twice; give each parameter one of its own")
            if one.when is not None:
                self._check_when(one, known)
            known[one.name] = one

    @staticmethod
    def _check_when(one: Parameter, known: Mapping[str, Parameter]) -> None:
        assert one.when is not None
        parent, values = one.when
        above = known.get(parent)
        if not isinstance(above, Categorical):
            raise InvalidData(f"{one.name} matters only under {parent!r}, which is no Categorical that stands before it")
        strange = [value for value in values if value not in above.choices]
        if strange or not values:
            raise InvalidData(f"expected values of {parent} in when= of {one.name}, got {values!r}; it has {above.choices!r}")

    @classmethod
    def box(cls, bounds: Sequence[tuple[float, float]]) -> Space:
        """Numbers x0, x1, ... within bounds.

        Parameters
        ----------
        bounds : sequence of (low, high)
        """
        return cls(Real(f"x{i}", float(low), float(high)) for i, (low, high) in enumerate(bounds))

    # ------------------------------------------------------------------ facts
    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(one.name for one in self.parameters)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.names)

    @cached_property
    def _plain(self) -> bool:
        """Whether all parameters matter in every point."""
        return all(one.when is None for one in self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Space) and self.parameters == other.parameters

    def __hash__(self) -> int:
        return hash(self.parameters)

    def __repr__(self) -> str:
        return f"Space([{', '.join(map(repr, self.parameters))}])"

    @cached_property
    def columns(self) -> tuple[slice, ...]:
        """Which columns of the encoding are whose."""
        ends = np.cumsum([0, *(one.width for one in self.parameters)]).tolist()
        return tuple(slice(low, high) for low, high in pairwise(ends))

    @property
    def width(self) -> int:
        """Columns of the encoding."""
        return self.columns[-1].stop

    @cached_property
    def continuous(self) -> NDArray[np.bool_]:
        """Which columns of the encoding can take any value in [0, 1], shape (width,)."""
        out = np.zeros(self.width, dtype=bool)
        for one, at in zip(self.parameters, self.columns, strict=True):
            out[at] = isinstance(one, Real)
        return out

    @cached_property
    def size(self) -> float:
        """How many points there are; infinity with any Real."""
        return math.prod(self._values_of(one) for one in self.parameters if one.when is None)

    def _values_of(self, one: Parameter) -> float:
        """How many values a parameter takes, each with all that matters under it."""
        if isinstance(one, Real):
            return math.inf
        if isinstance(one, Integer):
            return one.high - one.low + 1
        under = [(other, other.when[1]) for other in self.parameters if other.when is not None and other.when[0] == one.name]
        return sum(math.prod(self._values_of(other) for other, given in under if choice in given) for choice in one.choices)

    # ------------------------------------------------------------------ points
    def active(self, point: Mapping[str, Any]) -> list[Parameter]:
        """The parameters that matter in a point."""
        out: list[Parameter] = []
        there: set[str] = set()
        for one in self.parameters:
            if one.when is None or (one.when[0] in there and point.get(one.when[0]) in one.when[1]):
                out.append(one)
                there.add(one.name)
        return out

    def check(self, point: Mapping[str, Any]) -> Point:
        """The point with its parameters in their order.

        Raises
        ------
        InvalidData
            A parameter that is missing, unknown, does not matter here, or lies outside its range.
        """
        return self.taken([point])[0][0]

    def taken(self, points: Iterable[Mapping[str, Any]]) -> tuple[list[Point], _FLOAT]:
        """Points with their parameters in their order, and their rows of shape (n, width); refused as by `check`.

        Parameters
        ----------
        points : iterable of mappings
        """
        given = list(points)
        rows = self.encode(given)
        return [{name: point[name] for name in self.names if name in point} for point in given], rows

    def _check_names(self, point: Any) -> None:
        """Refuse a point that has not just the parameters that matter in it."""
        if not isinstance(point, Mapping):
            raise InvalidData(f"expected a point as a dict with {', '.join(self.names)}, got {type(point).__name__}")
        matters = self._names if self._plain else {one.name for one in self.active(point)}
        if point.keys() == matters:
            return
        for one in self.parameters:  # a choice that there is not would seem to make others strange
            if one.name in matters and one.name in point:
                one.encode([point[one.name]])
        missing = [name for name in self.names if name in matters and name not in point]
        strange = [name for name in point if name not in matters]
        what = f"{missing[0]!r} is missing" if missing else f"{strange[0]!r} is unknown, or does not matter in it"
        raise InvalidData(f"expected a point with {', '.join(name for name in self.names if name in matters)}, but {what}")

    def encode(self, points: Iterable[Mapping[str, Any]]) -> _FLOAT:
        """Points as rows of shape (n, width)."""
        given = list(points)
        for point in given:
            self._check_names(point)
        rows = np.empty((len(given), self.width))
        for one, at in zip(self.parameters, self.columns, strict=True):
            there = [i for i, point in enumerate(given) if one.name in point] if one.when is not None else slice(None)
            rows[:, at] = one.idle
            rows[there, at] = one.encode([point[one.name] for point in given if one.when is None or one.name in point])
        return rows

    def decode(self, units: Any) -> list[Point]:
        """Points from rows of shape (n, width); numbers outside [0, 1] are cut off."""
        found = np.asarray(units, dtype=float)
        if found.ndim != 2 or found.shape[1] != self.width:
            raise InvalidData(f"expected rows of shape (n, {self.width}), got {found.shape}")
        values = [one.decode(found[:, at]) for one, at in zip(self.parameters, self.columns, strict=True)]
        whole = [dict(zip(self.names, row, strict=True)) for row in zip(*values, strict=True)]
        return whole if self._plain else [{one.name: point[one.name] for one in self.active(point)} for point in whole]

    def sobol(self, n: int, random_state: int = 0) -> list[Point]:
        """Points that fill the space evenly: a scrambled Sobol sequence.

        Parameters
        ----------
        n : int
        random_state : int, default=0
        """
        require_whole(1, n=n)
        require_whole(0, random_state=random_state)
        sequence = qmc.Sobol(len(self.parameters), rng=np.random.default_rng(random_state))
        return self._spread(sequence.random_base2(math.ceil(math.log2(n)))[:n])

    def sample(self, n: int, rng: np.random.Generator) -> list[Point]:
        """Points at random."""
        return self._spread(rng.random((n, len(self.parameters))))

    def points(self) -> list[Point]:
        """All points of a finite space, each once.

        Raises
        ------
        InvalidData
            A space with any Real.
        """
        if math.isinf(self.size):
            raise InvalidData("expected a space without Real parameters to list the points of: it has no end")
        values = [range(one.low, one.high + 1) if isinstance(one, Integer) else one.choices for one in self.parameters
                  if not isinstance(one, Real)]  # fmt: skip
        found: dict[str, Point] = {}
        for row in product(*values):
            whole = dict(zip(self.names, row, strict=True))
            point = {one.name: whole[one.name] for one in self.active(whole)}
            found.setdefault(text_of(point), point)
        return list(found.values())

    def _spread(self, made: _FLOAT) -> list[Point]:
        """Points from one number in [0, 1) a parameter."""
        rows = np.zeros((len(made), self.width))
        for j, (one, at) in enumerate(zip(self.parameters, self.columns, strict=True)):
            if isinstance(one, Categorical):
                rows[np.arange(len(made)), at.start + (made[:, j] * one.width).astype(int)] = 1.0
            else:
                rows[:, at.start] = made[:, j]
        return self.decode(rows)

    def key(self, point: Mapping[str, Any]) -> str:
        """What tells a point from others, as text."""
        return text_of(self.check(point))

    # ------------------------------------------------------------------ keeping it
    @cached_property
    def digest(self) -> str:
        """What tells this space from any other."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        kinds = {kind: name for name, kind in _KINDS.items()}
        return {"parameters": [{"kind": kinds[type(one)], **asdict(one)} for one in self.parameters]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Space:
        """The space that `to_dict` described.

        Raises
        ------
        FormatError
            A record that is none.
        """
        try:
            parameters = []
            for one in record["parameters"]:
                given = {key: value for key, value in one.items() if key != "kind"}
                if given.get("when") is not None:
                    given["when"] = (given["when"][0], tuple(given["when"][1]))
                if "choices" in given:
                    given["choices"] = tuple(given["choices"])
                parameters.append(_KINDS[one["kind"]](**given))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise FormatError(f"this is no space: {error!r} while reading it") from error
        return cls(parameters)


def text_of(point: Mapping[str, Any]) -> str:
    """What tells a point that was checked, or decoded, from others."""
    return json.dumps(point, sort_keys=True, default=float)


def _numbers(values: Sequence[Any]) -> _FLOAT:
    """Numbers, and NaN for what is none."""
    kinds = set(map(type, values))
    if kinds <= {float, int}:
        return np.array(values, dtype=float)
    some = [isinstance(value, int | float | np.number) and not isinstance(value, bool) for value in values]
    return np.array([float(value) if is_number else math.nan for value, is_number in zip(values, some, strict=True)])


def _check_range(name: str, low: Any, high: Any, log: bool) -> None:
    _check_name(name)
    numbers = all(isinstance(end, int | float | np.number) and not isinstance(end, bool) for end in (low, high))
    if not numbers or not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise InvalidData(f"expected finite bounds of {name} with low below high, got {low!r} and {high!r}")
    if log and low <= 0:
        raise InvalidData(f"expected bounds of {name} above 0 with log=True, got {low!r}")


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidData(f"expected a name for each parameter, got {name!r}")
