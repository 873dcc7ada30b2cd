"""A program as JavaScript."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from locum.core._sources._shared import quoted, ready, remark
from locum.core.program import Condition, Levels, Linear, Program, Rule, Steps, Term

__all__ = ["to_javascript"]

_HEAD = "// A stand-in: predict(row) answers for a row, an object of column names and values; null and NaN are missing."
_GIVEN = """\
function given(row, name) {
  const value = Object.hasOwn(row, name) ? row[name] : null;
  return value === undefined || Number.isNaN(value) ? null : value;
}
"""
_NUMBER = """\
function number(row, name) {
  const value = given(row, name);
  if (typeof value === "string") throw new TypeError(`column ${name}: expected a number, got ${value}`);
  return value === null ? null : Number(value);
}
"""
_CATEGORY = """\
function category(row, name, codes) {
  const value = given(row, name);
  if (value === null) return null;
  return codes.get(typeof value === "string" ? value : Number(value)) ?? -1;
}
"""
_ADDED = "const added = (a, b) => a.map((x, k) => x + b[k]);"
_PIECE = """\
function piece(edges, x) {
  const found = edges.findIndex((edge) => x <= edge);
  return found < 0 ? edges.length : found;
}
"""
_LINKS = {
    "identity": ["  return scores(row);"],
    "softmax": [
        "  const s = scores(row), top = Math.max(...s);",
        "  const raised = s.map((x) => Math.exp(x - top));",
        "  const total = raised.reduce((a, b) => a + b);",
        "  return raised.map((x) => x / total);",
    ],
    "normalise": [
        "  const clipped = scores(row).map((x) => Math.max(x, 0));",
        "  const total = clipped.reduce((a, b) => a + b);",
        "  return clipped.map((x) => (total > 0 ? x / total : 1 / clipped.length));",
    ],
}
_PREDICT = {
    "value": ["  return values(row)[0];"],
    "probability": ["  return values(row);"],
    "class": ["  const v = values(row);", "  return CLASSES[v.indexOf(Math.max(...v))];"],
}


def to_javascript(program: Program) -> str:
    """A JavaScript module without dependencies, which may also stand in a page as ``<script type="module">``.

    It exports ``predict(row)``, which answers as `Program.predict`, and ``values(row)``, which gives an array of the numbers
    of `Program.values`. A row is an object of column names and values. What is null, undefined, NaN or absent is missing, and
    a category that was never seen unknown, as in `Program`.

    Raises
    ------
    InvalidData
        A program with numbers that are not finite, or with text that is not Unicode.
    """
    program = ready(program)
    kinds = {program.columns[j].kind for j in program.used}
    blocks = [_HEAD, *([_GIVEN] if kinds else [])]
    blocks += [_NUMBER] if "numeric" in kinds else []
    blocks += [_CATEGORY] if "categorical" in kinds else []
    blocks += [_ADDED] if program.body == "sum" and program.terms else []
    blocks += [_PIECE] if any(isinstance(term, Steps) for term in program.terms) else []
    blocks += [f"const CLASSES = {quoted(list(program.classes))};"] if program.classes is not None else []
    for name, body in (
        ("scores", [*_inputs(program), *_body(program)]),
        ("values", _LINKS[program.link]),
        ("predict", _PREDICT[program.kind]),
    ):
        blocks.append("\n".join([f"function {name}(row) {{", *body, "}"]))
    blocks.append(f"export {{ {'CLASSES, ' if program.classes is not None else ''}predict, values }};")
    return "\n\n".join(block.rstrip() for block in blocks) + "\n"


def _inputs(program: Program) -> Iterator[str]:
    for j in program.used:
        column = program.columns[j]
        if column.kind == "numeric":
            yield f"  const x{j} = number(row, {quoted(column.name)});"
        else:
            levels = [level if isinstance(level, str) else float(level) for level in column.levels]
            codes = quoted([[level, code] for code, level in enumerate(levels)])
            yield f"  const x{j} = category(row, {quoted(column.name)}, new Map({codes}));"


def _body(program: Program) -> Iterator[str]:
    if program.body == "sum":
        yield f"  let s = {_numbers(program.base)};"
        for term in program.terms:
            yield f"  // {remark(term.text(program.columns) if isinstance(term, Rule) else program.columns[term.column].name)}"
            yield f"  s = added(s, {_term(term)});"
        yield "  return s;"
        return
    for rule in program.terms:
        assert isinstance(rule, Rule)
        yield f"  // {remark(rule.text(program.columns))}"
        yield f"  if ({_all(rule.conditions)}) return {_numbers(rule.value)};"
    yield f"  return {_numbers(program.base)};"


def _all(conditions: Sequence[Condition]) -> str:
    return " && ".join(_test(condition) for condition in conditions) or "true"


def _test(condition: Condition) -> str:
    x = f"x{condition.column}"
    if condition.levels is not None:
        test = f"{list(condition.levels)}.includes({x})"
    else:
        bounds = [f"{x} > {float(condition.low)!r}"] if condition.low is not None else []
        bounds += [f"{x} <= {float(condition.high)!r}"] if condition.high is not None else []
        if not bounds:
            return "true" if condition.missing else f"{x} !== null"
        # A comparison with null would take it for zero.
        test = " && ".join(bounds if condition.missing else [f"{x} !== null", *bounds])
    return f"({x} === null || {test})" if condition.missing else test


def _term(term: Term) -> str:
    if isinstance(term, Rule):
        return f"{_all(term.conditions)} ? {_numbers(term.value)} : {_numbers([0.0] * len(term.value))}"
    x = f"x{term.column}"
    missing = f"{x} === null ? {_numbers(term.missing)} : "
    if isinstance(term, Linear):
        return f"{missing}{_numbers(term.slope)}.map((slope) => slope * ({x} - {_number(term.center)}))"
    table = f"[{', '.join(map(_numbers, term.values))}]"
    if isinstance(term, Levels):
        return f"{missing}{x} < 0 ? {_numbers(term.unknown)} : {table}[{x}]"
    return f"{missing}{table}[piece({_numbers(term.edges)}, {x})]"


def _number(value: float) -> str:
    return repr(float(value)) if value >= 0 else f"({float(value)!r})"


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(repr(float(value)) for value in values)}]"
