"""Program: what every readable stand-in compiles to.

A tree, a rule list, a rule set, an additive model and a sparse linear model are all either *rules, of which the first that
matches answers*, or *a sum of terms*. One small record says which; Python evaluates it here, a card evaluates the same
record in the browser, and exports translate it. So what is read, what is run and what was scored cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Column, Level
from locum.core.errors import FormatError, InvalidData

__all__ = ["Condition", "Levels", "Linear", "Program", "Rule", "Steps", "Term"]

_FORMAT = 1
_FLOAT = NDArray[np.float64]
_KIND = Literal["class", "probability", "value"]
_LINK = Literal["identity", "softmax", "normalise"]
_BODY = Literal["rules", "sum"]


@dataclass(frozen=True)
class Condition:
    """A test of one column.

    Numeric columns: ``low < x <= high``, where None is no bound. Categorical columns: the level is among `levels`.
    A missing value passes where `missing` says so; an unknown category never passes.

    Parameters
    ----------
    column : int
    low, high : float or None, default=None
    levels : tuple of int or None, default=None
        Indices of levels; None for a numeric column.
    missing : bool, default=False
    """

    column: int
    low: float | None = None
    high: float | None = None
    levels: tuple[int, ...] | None = None
    missing: bool = False

    def holds(self, Z: _FLOAT) -> NDArray[np.bool_]:
        """Which encoded rows of shape (n, d) pass, shape (n,)."""
        z = Z[:, self.column]
        absent = np.isnan(z)
        if self.levels is not None:
            # Levels are few, so a table look-up beats a membership test; slot -1 serves missing and unknown alike.
            known = np.zeros(max(self.levels, default=0) + 2, dtype=bool)
            known[list(self.levels)] = True
            slot = np.where(absent | (z < 0) | (z >= len(known) - 1), -1, np.nan_to_num(z)).astype(int)
            passed = known[slot]
        else:
            passed = ~absent
            if self.low is not None:
                passed &= z > self.low
            if self.high is not None:
                passed &= z <= self.high
        return passed | absent if self.missing else passed

    def text(self, columns: Sequence[Column]) -> str:
        """The condition in words."""
        column = columns[self.column]
        if self.levels is not None:
            chosen = [str(column.levels[i]) for i in self.levels]
            rest = [str(v) for i, v in enumerate(column.levels) if i not in self.levels]
            if len(chosen) == 1:
                words = f"{column.name} is {chosen[0]}"
            elif len(rest) == 1:
                words = f"{column.name} is not {rest[0]}"
            else:
                words = f"{column.name} is one of {', '.join(chosen)}" if chosen else ""
        elif self.low is None and self.high is None:
            words = f"{column.name} is known" if not self.missing else "always"
        elif self.low is None:
            words = f"{column.name} <= {_number(self.high)}"
        elif self.high is None:
            words = f"{column.name} > {_number(self.low)}"
        else:
            words = f"{_number(self.low)} < {column.name} <= {_number(self.high)}"
        if not words:
            return f"{column.name} is missing" if self.missing else "never"
        # Where nothing is ever missing, a reader need not be told what would become of it.
        return f"{words} or missing" if self.missing and column.missing and words != "always" else words

    def wrong(self, columns: Sequence[Column]) -> str | None:
        """What keeps it from being a condition on these columns."""
        if not self.levels and self.low is None and self.high is None:  # known, or missing alone: of any column
            return None if 0 <= self.column < len(columns) else f"there is no column {self.column}"
        found = _wrong_column(self.column, "numeric" if self.levels is None else "categorical", columns)
        if found or self.levels is None:
            return found
        strange = [level for level in self.levels if not 0 <= level < len(columns[self.column].levels)]
        return f"column {columns[self.column].name!r} has no level {strange[0]}" if strange else None

    def and_(self, other: Condition, columns: Sequence[Column]) -> Condition:
        """Both conditions on the same column as one."""
        if self.levels is not None and other.levels is not None:
            levels = tuple(level for level in self.levels if level in other.levels)
            return Condition(self.column, levels=levels, missing=self.missing and other.missing)
        if self.levels == () or other.levels == ():
            return Condition(self.column, levels=(), missing=self.missing and other.missing)
        low = max((b for b in (self.low, other.low) if b is not None), default=None)
        high = min((b for b in (self.high, other.high) if b is not None), default=None)
        return Condition(self.column, low, high, missing=self.missing and other.missing)

    def to_dict(self) -> dict[str, Any]:
        """The condition as JSON-ready values."""
        if self.levels is not None:
            return {"column": self.column, "levels": list(self.levels), "missing": self.missing}
        return {"column": self.column, "low": self.low, "high": self.high, "missing": self.missing}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Condition:
        """The condition that `to_dict` described."""
        levels = record.get("levels")
        return cls(
            record["column"],
            record.get("low"),
            record.get("high"),
            None if levels is None else tuple(levels),
            record["missing"],
        )


@dataclass(frozen=True)
class Rule:
    """``IF all conditions THEN value``.

    Parameters
    ----------
    conditions : tuple of Condition
        At most one a column; none at all always holds.
    value : tuple of float
        One number a class, or one number.
    n : float or None, default=None
        How many rows of the fit it answered.
    """

    conditions: tuple[Condition, ...]
    value: tuple[float, ...]
    n: float | None = None

    def holds(self, Z: _FLOAT) -> NDArray[np.bool_]:
        """Which encoded rows of shape (n, d) satisfy every condition, shape (n,)."""
        passed = np.ones(len(Z), dtype=bool)
        for condition in self.conditions:
            passed &= condition.holds(Z)
        return passed

    def contribution(self, Z: _FLOAT) -> _FLOAT:
        """What the rule adds to a sum, shape (n, k)."""
        return self.holds(Z)[:, None] * np.asarray(self.value)

    def wrong(self, columns: Sequence[Column], width: int) -> str | None:
        """What keeps it from being a rule of a program with these columns and so many numbers a value."""
        found = next((wrong for condition in self.conditions if (wrong := condition.wrong(columns))), None)
        return found or _wrong_width([self.value], width)

    def text(self, columns: Sequence[Column]) -> str:
        """The conditions in words."""
        texts = [condition.text(columns) for condition in self.conditions]
        if len(texts) > 1:  # so that nobody reads the "or" across the "and"
            texts = [f"({text})" if text.endswith(" or missing") else text for text in texts]
        return " and ".join(texts) or "always"

    def to_dict(self) -> dict[str, Any]:
        """The rule as JSON-ready values."""
        return {"kind": "rule", "if": [c.to_dict() for c in self.conditions], "then": list(self.value), "n": self.n}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Rule:
        """The rule that `to_dict` described."""
        return cls(tuple(Condition.from_dict(c) for c in record["if"]), tuple(record["then"]), record.get("n"))

    @property
    def statements(self) -> int:
        """How many statements a reader takes in: one."""
        return 1


@dataclass(frozen=True)
class Steps:
    """A piecewise constant shape function of a numeric column: piece i holds for ``edges[i-1] < x <= edges[i]``.

    Parameters
    ----------
    column : int
    edges : tuple of float
        Ascending.
    values : tuple of tuple of float
        One number a class, or one number, for each piece; one piece more than edges.
    missing : tuple of float
        What a missing value adds.
    """

    column: int
    edges: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    missing: tuple[float, ...]

    def wrong(self, columns: Sequence[Column], width: int) -> str | None:
        """What keeps it from being a term of a program with these columns and so many numbers a value."""
        found = _wrong_column(self.column, "numeric", columns)
        if len(self.values) != len(self.edges) + 1 or any(not low < high for low, high in pairwise(self.edges)):
            found = f"expected ascending edges and one piece more, got {len(self.edges)} edges and {len(self.values)} pieces"
        return found or _wrong_width([*self.values, self.missing], width)

    def contribution(self, Z: _FLOAT) -> _FLOAT:
        """What the term adds, shape (n, k)."""
        z = Z[:, self.column]
        table = np.array([*self.values, self.missing])
        piece = np.searchsorted(np.asarray(self.edges), z, side="left")
        return table[np.where(np.isnan(z), len(table) - 1, piece)]

    def to_dict(self) -> dict[str, Any]:
        """The term as JSON-ready values."""
        return {
            "kind": "steps",
            "column": self.column,
            "edges": list(self.edges),
            "values": [list(v) for v in self.values],
            "missing": list(self.missing),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Steps:
        """The term that `to_dict` described."""
        return cls(record["column"], tuple(record["edges"]), _rows(record["values"]), tuple(record["missing"]))

    @property
    def statements(self) -> int:
        """How many statements a reader takes in: one a piece."""
        return len(self.values)


@dataclass(frozen=True)
class Levels:
    """A shape function of a categorical column: one value a level.

    Parameters
    ----------
    column : int
    values : tuple of tuple of float
        One number a class, or one number, for each level.
    missing, unknown : tuple of float
        What a missing value and a category never seen add.
    """

    column: int
    values: tuple[tuple[float, ...], ...]
    missing: tuple[float, ...]
    unknown: tuple[float, ...]

    def wrong(self, columns: Sequence[Column], width: int) -> str | None:
        """What keeps it from being a term of a program with these columns and so many numbers a value."""
        found = _wrong_column(self.column, "categorical", columns)
        if found is None and len(self.values) != len(columns[self.column].levels):
            found = f"expected values of {len(columns[self.column].levels)} levels, got {len(self.values)}"
        return found or _wrong_width([*self.values, self.missing, self.unknown], width)

    def contribution(self, Z: _FLOAT) -> _FLOAT:
        """What the term adds, shape (n, k)."""
        z = Z[:, self.column]
        table = np.array([*self.values, self.missing, self.unknown])
        count = len(self.values)
        return table[np.where(np.isnan(z), count, np.where(z < 0, count + 1, np.nan_to_num(z))).astype(int)]

    def to_dict(self) -> dict[str, Any]:
        """The term as JSON-ready values."""
        return {
            "kind": "levels",
            "column": self.column,
            "values": [list(v) for v in self.values],
            "missing": list(self.missing),
            "unknown": list(self.unknown),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Levels:
        """The term that `to_dict` described."""
        return cls(record["column"], _rows(record["values"]), tuple(record["missing"]), tuple(record["unknown"]))

    @property
    def statements(self) -> int:
        """How many statements a reader takes in: one for each distinct value."""
        return len(set(self.values))


@dataclass(frozen=True)
class Linear:
    """``slope * (x - center)``; `missing` stands in for the product where x is missing.

    Parameters
    ----------
    column : int
    slope : tuple of float
        One number a class, or one number.
    center : float
    missing : tuple of float
    """

    column: int
    slope: tuple[float, ...]
    center: float
    missing: tuple[float, ...]

    def wrong(self, columns: Sequence[Column], width: int) -> str | None:
        """What keeps it from being a term of a program with these columns and so many numbers a value."""
        return _wrong_column(self.column, "numeric", columns) or _wrong_width([self.slope, self.missing], width)

    def contribution(self, Z: _FLOAT) -> _FLOAT:
        """What the term adds, shape (n, k)."""
        z = Z[:, self.column][:, None]
        return np.where(np.isnan(z), np.asarray(self.missing), np.asarray(self.slope) * (z - self.center))

    def to_dict(self) -> dict[str, Any]:
        """The term as JSON-ready values."""
        return {
            "kind": "linear",
            "column": self.column,
            "slope": list(self.slope),
            "center": self.center,
            "missing": list(self.missing),
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Linear:
        """The term that `to_dict` described."""
        return cls(record["column"], tuple(record["slope"]), record["center"], tuple(record["missing"]))

    @property
    def statements(self) -> int:
        """How many statements a reader takes in: one."""
        return 1


Term = Rule | Steps | Levels | Linear
_TERMS: dict[str, Any] = {"rule": Rule, "steps": Steps, "levels": Levels, "linear": Linear}


@dataclass(frozen=True)
class Program:
    """A readable model: rules of which the first that matches answers, or a sum of terms.

    Parameters
    ----------
    columns : tuple of Column
    kind : {"class", "probability", "value"}
        What is answered.
    classes : tuple or None
        The class labels, in the order of the numbers in each value.
    link : {"identity", "softmax", "normalise"}
        What turns scores into the answer's numbers; "normalise" clips at zero and divides by the sum.
    body : {"rules", "sum"}
    terms : tuple of Rule, Steps, Levels or Linear
        Rules only, where the body is "rules".
    base : tuple of float
        The answer where no rule matches, or the intercept of the sum.
    exhaustive : bool, default=False
        Whether the rules leave nothing but unknown categories to `base`, as a tree's leaves do.

    Raises
    ------
    InvalidData
        Parts that do not fit together, such as a term of a column that is not there.

    Examples
    --------
    >>> import numpy as np
    >>> age = Column("age", low=18, high=90)
    >>> program = Program((age,), "class", ("no", "yes"), "identity", "rules",
    ...                   (Rule((Condition(0, high=30.0),), (0.9, 0.1)),), (0.2, 0.8))
    >>> print(program.text())
    IF age <= 30 THEN no (0.9)
    OTHERWISE yes (0.8)
    >>> program.predict(np.array([[25.0], [60.0]]))
    array(['no', 'yes'], dtype='<U3')
    """

    columns: tuple[Column, ...]
    kind: _KIND
    classes: tuple[Level, ...] | None
    link: _LINK
    body: _BODY
    terms: tuple[Term, ...]
    base: tuple[float, ...]
    exhaustive: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("kind", _KIND), ("link", _LINK), ("body", _BODY)):
            if getattr(self, name) not in get_args(allowed):
                raise InvalidData(f"expected {name} to be one of {', '.join(get_args(allowed))}, got {getattr(self, name)!r}")
        if (self.kind == "value") != (self.classes is None):
            raise InvalidData(f"a program that answers a {self.kind} needs {'no' if self.kind == 'value' else 'its'} classes")
        if self.classes is not None and len({(isinstance(c, str), c) for c in self.classes}) < max(len(self.classes), 1):
            raise InvalidData(f"expected different classes, at least one, got {self.classes}")
        if self.classes is not None and len({isinstance(c, str) for c in self.classes}) > 1:
            raise InvalidData(f"expected classes that are all text or all numbers, got {self.classes}")
        width = 1 if self.classes is None else len(self.classes)
        if len(self.base) != width:
            raise InvalidData(f"expected {width} numbers a value, got {len(self.base)}")
        for position, term in enumerate(self.terms):
            wrong = term.wrong(self.columns, width)
            if self.body == "rules" and not isinstance(term, Rule):
                wrong = "it is no rule"
            if wrong:
                raise InvalidData(f"term {position} of the program does not fit: {wrong}")

    # ------------------------------------------------------------------ running it
    def fired(self, Z: _FLOAT) -> NDArray[np.intp]:
        """Index of the first rule that matches each encoded row, shape (n,); ``len(terms)`` where none does."""
        out = np.full(len(Z), len(self.terms))
        left = np.arange(len(Z))
        for position, rule in enumerate(self.terms):
            if not left.size:
                break
            hit = rule.holds(Z[left])  # type: ignore[union-attr]
            out[left[hit]] = position
            left = left[~hit]
        return out

    def scores(self, Z: _FLOAT) -> _FLOAT:
        """Numbers before the link, shape (n, k)."""
        if self.body == "rules":
            table = np.array([*(rule.value for rule in self.terms), self.base])  # type: ignore[union-attr]
            return table[self.fired(Z)]
        total = np.tile(np.asarray(self.base, dtype=float), (len(Z), 1))
        for term in self.terms:
            total += term.contribution(Z)
        return total

    def values(self, Z: _FLOAT) -> _FLOAT:
        """Numbers after the link, shape (n, k): probabilities of the classes, or the value itself."""
        return self.linked(self.scores(Z))

    def linked(self, scores: _FLOAT) -> _FLOAT:
        """Numbers after the link for numbers before it, both of shape (n, k)."""
        if self.link == "identity":
            return scores
        if self.link == "softmax":
            raised = np.exp(scores - scores.max(axis=1, keepdims=True))
            return raised / raised.sum(axis=1, keepdims=True)
        clipped = np.maximum(scores, 0.0)
        total = clipped.sum(axis=1, keepdims=True)
        return np.where(total > 0, clipped / np.where(total > 0, total, 1.0), 1.0 / scores.shape[1])

    def predict(self, Z: _FLOAT) -> NDArray[Any]:
        """Answers: labels of shape (n,), probabilities of shape (n, k), or values of shape (n,)."""
        values = self.values(Z)
        if self.kind == "value":
            return values[:, 0]
        return values if self.kind == "probability" else np.asarray(self.classes)[values.argmax(axis=1)]

    # ------------------------------------------------------------------ reading it
    @property
    def statements(self) -> int:
        """How many statements a reader takes in: rules, pieces of shape functions, coefficients."""
        return sum(term.statements for term in self.terms) + (self.body == "rules" and not self.exhaustive)

    @property
    def conditions(self) -> int:
        """How many conditions stand in the rules."""
        return sum(len(term.conditions) for term in self.terms if isinstance(term, Rule))

    @property
    def used(self) -> tuple[int, ...]:
        """The columns that matter, in order."""
        found = set()
        for term in self.terms:
            found |= {c.column for c in term.conditions} if isinstance(term, Rule) else {term.column}
        return tuple(sorted(found))

    def answer(self, value: Sequence[float]) -> str:
        """One value in words: the class and its share, or the number."""
        if self.classes is None:
            return _number(value[0])
        best = int(np.argmax(value))
        return f"{self.classes[best]} ({_number(value[best], 2)})"

    def text(self) -> str:
        """The whole program in words, one line a statement."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.body == "rules":
            for rule in self.terms:
                yield f"IF {rule.text(self.columns)} THEN {self.answer(rule.value)}"  # type: ignore[union-attr]
            if not self.exhaustive:
                yield f"{'OTHERWISE' if self.terms else 'ALWAYS'} {self.answer(self.base)}"
            return
        yield f"start at {self._amount(self.base)}"
        for term in self.terms:
            yield from self._term_lines(term)

    def _term_lines(self, term: Term) -> Iterator[str]:
        if isinstance(term, Rule):
            yield f"IF {term.text(self.columns)} ADD {self._amount(term.value)}"
        elif isinstance(term, Linear):
            name = self.columns[term.column].name
            yield f"ADD {self._amount(term.slope)} for each unit of {name} above {_number(term.center)}"
        elif isinstance(term, Steps):
            bounds: list[float | None] = [None, *term.edges, None]
            for low, high, value in zip(bounds[:-1], bounds[1:], term.values, strict=True):
                yield f"IF {Condition(term.column, low, high).text(self.columns)} ADD {self._amount(value)}"
        else:
            for value in dict.fromkeys(term.values):
                levels = tuple(i for i, other in enumerate(term.values) if other == value)
                yield f"IF {Condition(term.column, levels=levels).text(self.columns)} ADD {self._amount(value)}"

    def _amount(self, value: Sequence[float]) -> str:
        if self.classes is None:
            return _number(value[0], signed=True)
        if len(self.classes) == 2:  # two scores matter by their difference only
            return f"{_number(value[1] - value[0], signed=True)} to {self.classes[1]}"
        return ", ".join(f"{_number(v, signed=True)} to {c}" for v, c in zip(value, self.classes, strict=True) if v)

    # ------------------------------------------------------------------ keeping it
    def to_dict(self) -> dict[str, Any]:
        """The program as JSON-ready values."""
        body: dict[str, Any] = {"kind": self.body}
        if self.body == "rules":
            body |= {"rules": [t.to_dict() for t in self.terms], "otherwise": list(self.base), "exhaustive": self.exhaustive}
        else:
            body |= {"terms": [t.to_dict() for t in self.terms], "intercept": list(self.base)}
        return {
            "format": _FORMAT,
            "columns": [column.to_dict() for column in self.columns],
            "output": {
                "kind": self.kind,
                "classes": None if self.classes is None else list(self.classes),
                "link": self.link,
            },
            "body": body,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Program:
        """The program that `to_dict` described.

        Raises
        ------
        FormatError
            A newer format number, or parts that are missing or of the wrong kind.
        """
        try:
            if record["format"] > _FORMAT:
                raise FormatError(f"expected a program of format {_FORMAT} or older, got {record['format']}; update locum")
            body, output = record["body"], record["output"]
            rules = body["kind"] == "rules"
            return cls(
                tuple(Column.from_dict(column) for column in record["columns"]),
                output["kind"],
                None if output["classes"] is None else tuple(output["classes"]),
                output["link"],
                body["kind"],
                tuple(_TERMS[t["kind"]].from_dict(t) for t in body["rules" if rules else "terms"]),
                tuple(body["otherwise" if rules else "intercept"]),
                bool(body.get("exhaustive", False)),
            )
        except (KeyError, TypeError, AttributeError, InvalidData) as error:
            raise FormatError(f"this is not a program: {error!r} while reading it") from error


def _wrong_column(position: int, kind: str, columns: Sequence[Column]) -> str | None:
    if not 0 <= position < len(columns):
        return f"there is no column {position}"
    column = columns[position]
    return None if column.kind == kind else f"column {column.name!r} is {column.kind}, not {kind}"


def _wrong_width(values: Sequence[Sequence[float]], width: int) -> str | None:
    return next((f"expected {width} numbers a value, got {len(value)}" for value in values if len(value) != width), None)


def _rows(values: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(value) for value in values)


def _number(value: float | None, digits: int = 4, *, signed: bool = False) -> str:
    return "" if value is None else f"{float(value):{'+' if signed else ''}.{digits}g}"
