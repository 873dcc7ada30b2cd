"""A program as Python source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from locum.core._sources._shared import ready, remark
from locum.core.program import Condition, Levels, Linear, Program, Rule, Steps, Term

__all__ = ["to_python"]

_HEAD = '"""A stand-in: predict(row) answers for a row, a mapping of column names to values; None and NaN are missing."""'
_NUMBER = """\
def number(row, name):
    value = given(row, name)
    if isinstance(value, str):
        raise TypeError(f"column {name!r}: expected a number, got {value!r}")
    return None if value is None else float(value)
"""
_CATEGORY = """\
def category(row, name, codes):
    value = given(row, name)
    return None if value is None else codes.get(value, -1)
"""
_GIVEN = """\
def given(row, name):
    value = row.get(name)
    absent = value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
    return None if absent else value
"""
_ADDED = """\
def added(a, b):
    return [x + y for x, y in zip(a, b)]
"""
_LINKS = {
    "identity": ["    return scores(row)"],
    "softmax": [
        "    s = scores(row)",
        "    raised = [math.exp(x - max(s)) for x in s]",
        "    total = sum(raised)",
        "    return [x / total for x in raised]",
    ],
    "normalise": [
        "    clipped = [max(x, 0.0) for x in scores(row)]",
        "    total = sum(clipped)",
        "    return [x / total if total > 0 else 1 / len(clipped) for x in clipped]",
    ],
}
_PREDICT = {
    "value": ["    return values(row)[0]"],
    "probability": ["    return values(row)"],
    "class": ["    v = values(row)", "    return CLASSES[v.index(max(v))]"],
}


def to_python(program: Program) -> str:
    """Python source without dependencies.

    It defines ``predict(row)``, which answers as `Program.predict`, and ``values(row)``, which gives a list of the numbers of
    `Program.values`. A row maps column names to values. What is None, NaN or absent is missing, and a category that was never
    seen unknown, as in `Program`.

    Raises
    ------
    InvalidData
        A program with numbers that are not finite, or with text that is not Unicode.
    """
    program = ready(program)
    kinds = {program.columns[j].kind for j in program.used}
    imports = ["import math"] if program.link == "softmax" else []
    imports += ["from bisect import bisect_left"] if any(isinstance(term, Steps) for term in program.terms) else []
    head = [_HEAD, *(["", *imports] if imports else [])]
    head += ["", f"CLASSES = {_listed(program.classes)}"] if program.classes is not None else []
    blocks = ["\n".join(head), *([_GIVEN] if kinds else [])]
    blocks += [_NUMBER] if "numeric" in kinds else []
    blocks += [_CATEGORY] if "categorical" in kinds else []
    blocks += [_ADDED] if program.body == "sum" and program.terms else []
    for name, body in (
        ("scores", [*_inputs(program), *_body(program)]),
        ("values", _LINKS[program.link]),
        ("predict", _PREDICT[program.kind]),
    ):
        blocks.append("\n".join([f"def {name}(row):", *body]))
    return "\n\n\n".join(block.rstrip() for block in blocks) + "\n"


def _inputs(program: Program) -> Iterator[str]:
    for j in program.used:
        column = program.columns[j]
        if column.kind == "numeric":
            yield f"    x{j} = number(row, {column.name!a})"
        else:
            codes = ", ".join(f"{level!a}: {code}" for code, level in enumerate(column.levels))
            yield f"    x{j} = category(row, {column.name!a}, {{{codes}}})"


def _body(program: Program) -> Iterator[str]:
    if program.body == "sum":
        yield f"    s = {_numbers(program.base)}"
        for term in program.terms:
            yield f"    # {remark(term.text(program.columns) if isinstance(term, Rule) else program.columns[term.column].name)}"
            yield f"    s = added(s, {_term(term)})"
        yield "    return s"
        return
    for rule in program.terms:
        assert isinstance(rule, Rule)
        yield f"    # {remark(rule.text(program.columns))}"
        yield f"    if {_all(rule.conditions)}:"
        yield f"        return {_numbers(rule.value)}"
    yield f"    return {_numbers(program.base)}"


def _all(conditions: Sequence[Condition]) -> str:
    return " and ".join(_test(condition) for condition in conditions) or "True"


def _test(condition: Condition) -> str:
    x = f"x{condition.column}"
    if condition.levels is not None:
        test = f"{x} in ({', '.join(map(str, condition.levels))}{',' * (len(condition.levels) == 1)})"
    else:
        low = "" if condition.low is None else f"{float(condition.low)!r} < "
        high = "" if condition.high is None else f" <= {float(condition.high)!r}"
        if not low and not high:
            return "True" if condition.missing else f"{x} is not None"
        test = f"{low}{x}{high}" if condition.missing else f"{x} is not None and {low}{x}{high}"
    return f"({x} is None or {test})" if condition.missing else test


def _term(term: Term) -> str:
    if isinstance(term, Rule):
        return f"{_numbers(term.value)} if {_all(term.conditions)} else {_numbers([0.0] * len(term.value))}"
    x = f"x{term.column}"
    missing = f"{_numbers(term.missing)} if {x} is None else "
    if isinstance(term, Linear):
        return f"{missing}[slope * ({x} - {float(term.center)!r}) for slope in {_numbers(term.slope)}]"
    table = f"[{', '.join(map(_numbers, term.values))}]"
    if isinstance(term, Levels):
        return f"{missing}{_numbers(term.unknown)} if {x} < 0 else {table}[{x}]"
    return f"{missing}{table}[bisect_left({_numbers(term.edges)}, {x})]"


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(repr(float(value)) for value in values)}]"


def _listed(values: Sequence[object]) -> str:
    return f"[{', '.join(map(ascii, values))}]"
