"""A program as an SQL query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from locum.core._sources._shared import is_text, ready
from locum.core.domain import Column
from locum.core.errors import InvalidData
from locum.core.program import Condition, Levels, Linear, Program, Rule, Steps, Term

__all__ = ["to_sql"]

_Dialect = Literal["sqlite", "duckdb"]
_MOST_ARGUMENTS = 50  # of one function; SQLite takes 100


def to_sql(program: Program, *, table: str = "rows", dialect: _Dialect = "sqlite", columns: Sequence[str] | None = None) -> str:
    """A query that answers for every row of a table.

    It gives back ``locum_label`` and ``locum_value_0``, ``locum_value_1``, ... (the numbers of `Program.values`, in the order
    of the classes), or ``locum_value`` where the program answers with a value, in a fresh column each: where a column is
    already called so, the prefix grows. NULL and NaN are missing, and a category that was never seen is unknown, as in
    `Program`. SQLite compares with the very thresholds of the program; what it rounds when reading a query is written as a
    fraction.

    Parameters
    ----------
    program : Program
    table : str, default="rows"
        Table or view to read from.
    dialect : {"sqlite", "duckdb"}, default="sqlite"
    columns : sequence of str or None, default=None
        Columns of the table to give back beside the answers, such as its key; those of the program where None.

    Raises
    ------
    InvalidData
        An unknown dialect, names that SQL cannot hold or tell apart, or a program with numbers that are not finite.
    """
    if dialect not in get_args(_Dialect):
        raise InvalidData(f"expected dialect to be one of {', '.join(get_args(_Dialect))}, got {dialect!r}")
    program = ready(program)
    names = [column.name for column in program.columns]
    kept = names if columns is None else list(columns)
    _check_names([table, *names, *kept], names, dialect)
    prefix = "locum_"
    while any(name.lower().startswith(prefix) for name in [table, *names, *kept]):
        prefix += "_"
    return _Query(program, dialect, prefix).text(table, kept)


def _check_names(everything: Sequence[str], columns: Sequence[str], dialect: str) -> None:
    for name in everything:
        if "\0" in name or (not name and dialect == "duckdb"):
            raise InvalidData(f"{dialect} cannot hold the name {name!r}; rename it first")
    # SQL ignores the case of ASCII letters in names.
    folded = [name.encode().lower() for name in columns]
    same = [name for name, key in zip(columns, folded, strict=True) if folded.count(key) > 1]
    if same:
        raise InvalidData(f"SQL cannot tell the columns {', '.join(map(repr, same))} apart; rename all but one first")


@dataclass(frozen=True)
class _Query:
    program: Program
    dialect: str
    prefix: str

    def text(self, table: str, kept: Sequence[str]) -> str:
        """The whole query: clean columns, then rules or scores, then answers, each step from the one before it."""
        hidden = [f"{self.prefix}kept_{i}" for i in range(len(kept))]
        clean = [f"t.{_name(name)} AS {alias}" for name, alias in zip(kept, hidden, strict=True)]
        used = [self.program.columns[j] for j in self.program.used]
        clean += [f"{self.cleaned(column)} AS {_name(column.name)}" for column in used]
        steps = [clean or [f"NULL AS {self.prefix}nothing"], *self.steps()]
        lines, source = [], _name(table)
        for i, step in enumerate(steps):
            carried = ["t.*"] if i else []
            body = ",\n  ".join([*carried, *step])
            # SQLite would otherwise put every expression in place of its name, again and again.
            hint = " MATERIALIZED" if self.dialect == "sqlite" else ""
            lines.append(f"{self.prefix}step_{i} AS{hint} (\n  SELECT\n  {body}\n  FROM {source} AS t\n)")
            source = f"{self.prefix}step_{i}"
        shown = [f"t.{alias} AS {_name(name)}" for name, alias in zip(kept, hidden, strict=True)]
        shown += [f"t.{answer}" for answer in self.answers()]
        return "WITH\n" + ",\n".join(lines) + "\nSELECT\n  " + ",\n  ".join(shown) + f"\nFROM {source} AS t\n"

    def answers(self) -> list[str]:
        if self.program.kind == "value":
            return [f"{self.prefix}value"]
        return [f"{self.prefix}label", *(f"{self.prefix}value_{k}" for k in range(len(self.program.base)))]

    # ------------------------------------------------------------------ steps
    def cleaned(self, column: Column) -> str:
        """A column as the program reads it, NULL where it is missing."""
        x = f"t.{_name(column.name)}"
        if column.kind == "categorical" and is_text(column):
            return f"{x} COLLATE BINARY" if self.dialect == "sqlite" else f"CAST({x} AS VARCHAR)"
        if self.dialect == "sqlite":  # has no NaN; a table read from CSV holds numbers as text, and nothing as ''
            return f"CAST(NULLIF({x}, '') AS REAL)"
        number = f"CAST({x} AS DOUBLE)"
        return f"CASE WHEN isnan({number}) THEN NULL ELSE {number} END"

    def steps(self) -> Iterator[list[str]]:
        """What each step adds to the columns of the one before it."""
        program, p = self.program, self.prefix
        if program.body == "rules":
            yield [f"{_case(self.rule_tests(), str(len(program.terms)))} AS {p}rule"]
            yield [f"{self.by_rule(k)} AS {answer}" for k, answer in enumerate(self.answers())]
            return
        width = range(len(program.base))
        scores, raised, values = ([f"{p}{name}_{k}" for k in width] for name in ("score", "raised", "value"))
        yield [f"{self.score(k)} AS {name}" for k, name in enumerate(scores)]
        found = [f"t.{name}" for name in scores]
        if program.link != "identity":
            yield [f"{self.largest(found)} AS {p}top"]
            linked = f"exp({{0}} - t.{p}top)" if program.link == "softmax" else "CASE WHEN {0} > 0 THEN {0} ELSE 0e0 END"
            yield [f"{linked.format(score)} AS {name}" for score, name in zip(found, raised, strict=True)]
            yield [f"{' + '.join(f't.{name}' for name in raised)} AS {p}total"]
            share = _number(1 / len(raised))
            found = [f"CASE WHEN t.{p}total > 0 THEN t.{name} / t.{p}total ELSE {share} END" for name in raised]
        if program.classes is None:
            yield [f"{found[0]} AS {p}value"]
            return
        yield [f"{value} AS {name}" for value, name in zip(found, values, strict=True)]
        found = [f"t.{name}" for name in values]
        yield [f"{self.largest(found)} AS {p}most"]
        labels = [self.literal(label) for label in program.classes]
        tests = [(f"{value} = t.{p}most", label) for value, label in zip(found[:-1], labels[:-1], strict=True)]
        yield [f"{_case(tests, labels[-1])} AS {p}label"]

    def rule_tests(self) -> list[tuple[str, str]]:
        return [(self.all(rule.conditions), str(i)) for i, rule in enumerate(self.program.terms) if isinstance(rule, Rule)]

    def by_rule(self, answer: int) -> str:
        """One of the answers, by the rule that matched."""
        values = [*(rule.value for rule in self.program.terms if isinstance(rule, Rule)), self.program.base]
        if self.program.classes is None:
            literals = [_number(value[0]) for value in values]
        elif answer == 0:
            literals = [self.literal(self.program.classes[int(np.argmax(value))]) for value in values]
        else:
            literals = [_number(value[answer - 1]) for value in values]
        tests = [(f"t.{self.prefix}rule = {i}", literal) for i, literal in enumerate(literals[:-1])]
        return _case(tests, literals[-1])

    def largest(self, values: Sequence[str]) -> str:
        while len(values) > 1:
            function = "max" if self.dialect == "sqlite" else "greatest"
            parts = [values[i : i + _MOST_ARGUMENTS] for i in range(0, len(values), _MOST_ARGUMENTS)]
            # With one argument, SQLite's max is another function.
            values = [f"{function}({', '.join(part)})" if len(part) > 1 else part[0] for part in parts]
        return values[0]

    # ------------------------------------------------------------------ conditions and terms
    def column(self, position: int) -> str:
        return f"t.{_name(self.program.columns[position].name)}"

    def all(self, conditions: Sequence[Condition]) -> str:
        return " AND ".join(self.test(condition) for condition in conditions) or "1 = 1"

    def test(self, condition: Condition) -> str:
        x = self.column(condition.column)
        if condition.levels is not None:
            test = self.among(condition.column, condition.levels)
        else:
            bounds = [f"{x} > {self.threshold(condition.low)}"] if condition.low is not None else []
            bounds += [f"{x} <= {self.threshold(condition.high)}"] if condition.high is not None else []
            test = " AND ".join(bounds) or f"{x} IS NOT NULL"
        return f"({x} IS NULL OR {test})" if condition.missing else test

    def among(self, column: int, levels: Sequence[int]) -> str:
        held = [self.literal(self.program.columns[column].levels[level]) for level in levels]
        return f"{self.column(column)} IN ({', '.join(held)})" if held else "1 = 0"

    def score(self, k: int) -> str:
        return "\n    + ".join([_number(self.program.base[k]), *(self.term(term, k) for term in self.program.terms)])

    def term(self, term: Term, k: int) -> str:
        if isinstance(term, Rule):
            return _case([(self.all(term.conditions), _number(term.value[k]))], "0e0")
        x = self.column(term.column)
        tests = [(f"{x} IS NULL", _number(term.missing[k]))]
        if isinstance(term, Linear):
            return _case(tests, f"{_number(term.slope[k])} * ({x} - {self.threshold(term.center)})")
        if isinstance(term, Steps):
            tests += [
                (f"{x} <= {self.threshold(edge)}", _number(value[k]))
                for edge, value in zip(term.edges, term.values[:-1], strict=True)
            ]
            return _case(tests, _number(term.values[-1][k]))
        tests += [(self.among(term.column, levels), _number(value[k])) for value, levels in _groups(term).items()]
        return _case(tests, _number(term.unknown[k]))

    # ------------------------------------------------------------------ literals
    def literal(self, value: Any) -> str:
        """A category or a label."""
        if isinstance(value, bool):
            return str(value).upper()
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float):
            return self.threshold(value)
        null = "char(0)" if self.dialect == "sqlite" else "chr(0)"
        parts = ["'" + part.replace("'", "''") + "'" for part in value.split("\0")]
        return parts[0] if len(parts) == 1 else f"({f' || {null} || '.join(parts)})"

    def threshold(self, value: float) -> str:
        """A number to the last bit, which SQLite does not always read from its digits."""
        # With three decimals or fewer, the nearest float is found even where its arithmetic rounds twice.
        if self.dialect == "duckdb" or (abs(value) < 2**43 and float(f"{value:.3f}") == value):
            return _number(value)
        whole, halvings = value.hex().split("p")
        sign = "-" if value < 0 else ""
        digits = whole.removeprefix(sign).removeprefix("0x")
        shift = int(halvings) - 4 * len(digits.partition(".")[2])
        text = f"CAST({sign}{int(digits.replace('.', ''), 16)} AS REAL)"
        while shift:
            step = max(-62, min(62, shift))
            text += f" {'/' if step < 0 else '*'} (1 << {abs(step)})"
            shift -= step
        return f"({text} /* {value!r} */)"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _number(value: float) -> str:
    """A number that is read as floating point, in brackets where a sign before it would start a comment."""
    text = repr(float(value))
    text = text if "e" in text else f"{text}e0"
    return text if value >= 0 else f"({text})"


def _groups(term: Levels) -> dict[tuple[float, ...], tuple[int, ...]]:
    """The distinct values of a shape function, each with its levels."""
    found: dict[tuple[float, ...], tuple[int, ...]] = {}
    for level, value in enumerate(term.values):
        found[value] = (*found.get(value, ()), level)
    return found


def _case(tests: Sequence[tuple[str, str]], otherwise: str) -> str:
    if not tests:
        return otherwise
    return "CASE" + "".join(f"\n    WHEN {test} THEN {value}" for test, value in tests) + f"\n    ELSE {otherwise} END"
