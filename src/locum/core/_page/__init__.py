"""The HTML page of a card. What stands still is laid out here and by ``card.html.j2``; what moves is run by ``card.js``.

Positions are percentages, so that drawings stretch with the page and need no inline styles, which the page's own content
security policy forbids.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.domain import Column, Domain
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.program import Levels, Linear, Program, Rule, Steps, Term
from locum.core.region import Region

if TYPE_CHECKING:
    from locum.core.report import Card

__all__ = [
    "render",
    "part",
    "typeset",
    "plain",
    "script_data",
    "figure",
    "signed",
    "share",
    "shown_span",
    "percent",
    "duration",
    "spoken",
]

_LEVELS_DRAWN = 24
_HEIGHT, _LEAST_HEIGHT = 170, 0.25  # of a shape function on the full scale, in pixels; and the least share of it
_Percents = tuple[float, ...]


def render(card: Card) -> str:
    """The page of a card."""
    from markupsafe import Markup

    program = card.program
    page = typeset(
        *(part(__name__, f"card.{kind}") for kind in ("html.j2", "css", "js")),
        filters={function.__name__: function for function in (duration, figure, percent, share, signed, spoken)},
        card=card,
        price=plain(card.price),
        made=plain(card.provenance),
        measures=[_measure(card, own) for own in card.fidelity],
        frontier=_frontier(card.frontier),
        reading=None if program is None else _reading(program, card.region.domain),
        worst=[_part(card, part) for part in card.worst],
        starts=_starts(card),
        columns=_columns(card),
        data=Markup(script_data(_live(card))),
    )
    return page.strip() + "\n"


def part(package: str, name: str) -> str:
    """A file that a page is made of."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def typeset(template: str, css: str, js: str = "", *, filters: Mapping[str, Any] | None = None, **values: Any) -> str:
    """A page of HTML: every value in it is escaped, and nothing but this style and this script is let in."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(filters or {})
    hashes = {"css": digest(css), "js": digest(js)}
    page = environment.from_string(template).render(css=Markup(css), js=Markup(js), hashes=hashes, **values)
    # A lone half of a surrogate pair in a text cannot be written as UTF-8.
    return page.encode("utf-8", "replace").decode("utf-8")


# ---------------------------------------------------------------------- values as text and JSON
def plain(value: Any) -> Any:
    """JSON-ready values; a number that is not finite becomes None, but is refused in a program."""
    if isinstance(value, Program):
        record = plain(value.to_dict())
        if not _finite(value.to_dict()):
            raise InvalidData("expected a program of finite numbers, got NaN or infinity in one: fit the stand-in again")
        return record
    if isinstance(value, Fidelity | Region):
        return plain(value.to_dict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def script_data(value: Any) -> str:
    """JSON for a script block: nothing in it can end the block or start markup. Whole floats lose their ``.0``."""

    def short(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: short(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [short(inner) for inner in item]
        return int(item) if isinstance(item, float) and item.is_integer() and abs(item) < 2**53 else item

    text = json.dumps(short(plain(value)), allow_nan=False, separators=(",", ":"))  # U+2028 and its like come out escaped
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def digest(text: str) -> str:
    """What a content security policy names a style or a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def figure(x: float, digits: int = 4) -> str:
    """A number to be read: a few figures, thousands apart."""
    if float(x).is_integer() and abs(x) < 1e15:
        text = f"{int(x):,}"
    elif 1e-4 <= abs(x) < 1e15:
        text = f"{x:,.{max(0, digits - 1 - math.floor(math.log10(abs(x))))}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{x:.{digits}g}"
    return text.replace("-", "\u2212", 1) if x < 0 else text


def signed(x: float) -> str:
    """A number that is added, with its sign."""
    return ("+" if x > 0 else "") + figure(x, 3)


def share(p: float) -> str:
    """A part of one, in percent; never rounded to all of it."""
    number = str(math.floor(1000 * p) / 10) if 0.995 < p < 1 else f"{100 * p:.{int(0 < p < 0.0995)}f}"
    return f"{number}\u00a0%"


def percent(x: float) -> str:
    """A position as an SVG attribute."""
    return f"{x:.4g}%"


def spoken(found: Fidelity) -> tuple[str, str]:
    """Value and interval of a fidelity as its own line rounds them."""
    value, rest = str(found)[len(found.measure) + 1 :].split(" ", 1)
    return value, rest[: rest.index("]") + 1]


def duration(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3), ("\u00b5s", 1e-6)):
        if seconds >= size:
            return f"{figure(seconds / size, 3)} {unit}"
    return f"{figure(seconds / 1e-9, 2)} ns" if seconds else "0 s"


# ---------------------------------------------------------------------- fidelity and frontier
def _scaled(low: float, high: float, values: Iterable[float]) -> _Percents:
    return tuple(100 * min(1.0, max(0.0, (v - low) / (high - low))) for v in values)


def _measure(card: Card, own: Fidelity) -> dict[str, Any]:
    """One measure of the stand-in and its rivals on one scale that shows zero."""
    rows = [{"name": card.stand_in["name"], "statements": card.stand_in.get("statements"), "fidelity": own, "own": True}]
    rows += [{"statements": None, **rival, "own": False} for rival in card.rivals if rival["fidelity"].measure == own.measure]
    found = [row["fidelity"] for row in rows]
    top = max(f.upper for f in found)
    high = 1.0 if own.greater_is_better and top <= 1 else top or 1.0
    low = max(min(0.0, *(f.lower for f in found)), -high)  # a rival that is worse than nothing must not squeeze the rest
    for row, f in zip(rows, found, strict=True):
        zero, value, lower, upper = _scaled(low, high, (0.0, f.value, f.lower, f.upper))
        row["bar"] = {"x": min(zero, value), "width": abs(value - zero), "value": value, "lower": lower, "upper": upper}
    return {"own": own, "rows": rows, "ticks": _ticks(low, high)}


def _ticks(low: float, high: float, wanted: int = 5) -> list[tuple[float, str]]:
    """Round numbers between two ends, as (percent, text)."""
    rough = (high - low) / wanted
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    numbers = [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return [(_scaled(low, high, [v])[0], figure(v, 6)) for v in numbers]


def shown_span(found: Sequence[Fidelity]) -> tuple[float, float]:
    """Ends of a scale for many fidelities: all values and whiskers, but no whisker that would squeeze the rest."""
    values = [f.value for f in found]
    low, high = min(values), max(values)
    reach = 0.5 * (max(f.upper - f.value for f in found if f.value == high) + high - low)
    return max(min(f.lower for f in found), low - reach), min(max(f.upper for f in found), high + reach)


def _frontier(points: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Fidelity upwards against statements to the right, in percent."""
    points = [p for p in points if p["fidelity"].measure == points[0]["fidelity"].measure]
    if not points:
        return None
    sizes = [max(1, p["statements"]) for p in points]
    ends = math.log(min(sizes)), math.log(max(sizes))
    margin = 0.05 * (ends[1] - ends[0]) or 0.5
    left, right = ends[0] - margin, ends[1] + margin
    bottom, top = shown_span([p["fidelity"] for p in points])
    spare = 0.06 * (top - bottom) or 0.5
    bottom, top = bottom - spare, top + spare
    families = list(dict.fromkeys(p["name"] for p in points))
    drawn = []
    for point, size in zip(points, sizes, strict=True):
        f = point["fidelity"]
        value, lower, upper = (100 - y for y in _scaled(bottom, top, (f.value, f.lower, f.upper)))
        k = families.index(point["name"])
        x = _scaled(left, right, [math.log(size)])[0] + 0.5 * (k - (len(families) - 1) / 2)  # side by side, not on top
        drawn.append({**point, "x": x, "y": value, "lower": lower, "upper": upper, "k": k})
    lines = [_line((p["x"], p["y"]) for p in sorted(drawn, key=lambda p: p["x"]) if p["k"] == k) for k in range(len(families))]
    counts = [c for e in range(7) for c in (10**e, 2 * 10**e, 5 * 10**e) if left <= math.log(c) <= right]
    counts = counts if len(counts) > 2 else sorted({min(sizes), max(sizes)})
    across = [(_scaled(left, right, [math.log(c)])[0], figure(c)) for c in counts]
    upwards = [(100 - y, text) for y, text in _ticks(bottom, top)]
    return {"points": drawn, "families": families, "lines": lines, "x": across, "y": upwards, "measure": points[0]["fidelity"]}


def _line(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.4g} {y:.4g}" for x, y in points)


# ---------------------------------------------------------------------- the reading
def _reading(program: Program, domain: Domain) -> dict[str, Any]:
    labels = None if program.classes is None else [str(c) for c in program.classes]
    if program.body == "rules":
        rules = [_rule(program, rule) for rule in program.terms if isinstance(rule, Rule)]
        rules.append(_rule(program, Rule((), program.base)))
        values = [rule["value"][0] for rule in rules]
        for rule in rules:
            rule["dot"] = 50.0 if len(set(values)) == 1 else _scaled(min(values), max(values), rule["value"][:1])[0]
        return {"kind": "rules", "labels": labels, "rules": rules, "rows": sum(rule["n"] or 0 for rule in rules)}
    views = _views(program)
    drawings = [_term(program, domain, views, i) for i in range(len(program.terms))]
    order = sorted(range(len(drawings)), key=lambda i: -drawings[i]["reach"])
    low = min([0.0, *(v for d in drawings for v in d["values"])])
    high = max([0.0, *(v for d in drawings for v in d["values"])])
    low, high = (low, high) if high > low else (-1.0, 1.0)
    for drawing in drawings:
        _place(drawing, low, high, [view["k"] for view in views])
    return {
        "kind": "sum",
        "labels": labels,
        "views": views,
        "terms": [drawings[i] for i in order],
        "titles": [d["title"] for d in drawings],
        "start": dataclasses.replace(program, terms=()).text(),
        "zero": _scaled(low, high, [0.0])[0],
    }


def _rule(program: Program, rule: Rule) -> dict[str, Any]:
    """One rule in words, with the shares of the classes as segments of a bar."""
    shares = np.clip(rule.value, 0.0, None)
    shares = shares / shares.sum() if shares.sum() > 0 else np.full(len(shares), 1.0 / len(shares))
    starts = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    return {
        "conditions": [condition.text(program.columns) for condition in rule.conditions],
        "value": rule.value,
        "best": int(np.argmax(rule.value)),
        "shares": list(zip(starts.tolist(), shares.tolist(), strict=True)),
        "n": rule.n,
    }


def _views(program: Program) -> list[dict[str, Any]]:
    """The numbers of a value that are worth a look, each as a weighting of them: two softmax scores matter by their
    difference only, and more of them by their distance from the mean."""
    if program.classes is None:
        return [{"label": "", "k": 0, "weights": [1.0]}]
    labels, k = [str(c) for c in program.classes], len(program.classes)
    if k == 2 and program.link == "softmax":
        return [{"label": labels[1], "k": 1, "weights": [-1.0, 1.0]}]
    shift = 1.0 / k if program.link == "softmax" else 0.0
    return [{"label": name, "k": i, "weights": [float(i == j) - shift for j in range(k)]} for i, name in enumerate(labels)]


def _term(program: Program, domain: Domain, views: list[dict[str, Any]], index: int) -> dict[str, Any]:
    """One term of a sum: what it is called, in words, and the corners or rows to be drawn."""
    term = program.terms[index]
    weights = np.array([view["weights"] for view in views])
    start, whole = (dataclasses.replace(program, terms=terms).text() for terms in ((), (term,)))
    text = whole[len(start) :].strip().splitlines()
    title = " and ".join(dict.fromkeys(program.columns[j].name for j in _columns_of(term)))
    drawing: dict[str, Any] = {"index": index, "title": title, "text": text, "curve": None, "rows": None, "side": [], "more": 0}
    if isinstance(term, Steps | Linear):
        column = domain.columns[term.column]
        x, values = _corners(term, column)
        drawing["curve"] = {"x": x, "values": values @ weights.T}
        if column.missing:
            drawing["side"] = [("missing", np.array(term.missing) @ weights.T)]
        shown = drawing["curve"]["values"]
    else:
        rows = _rows_of(program, term, domain)
        drawing["rows"] = [(name, np.array(value) @ weights.T) for name, value in rows[:_LEVELS_DRAWN]]
        drawing["more"] = max(0, len(rows) - _LEVELS_DRAWN)
        shown = np.array([np.array(value) @ weights.T for _, value in rows])
    drawing["values"] = [*np.ravel(shown), *(v for _, side in drawing["side"] for v in side)]
    spread = shown.max(axis=0) - shown.min(axis=0) if len(shown) > 1 else np.abs(shown[0])
    drawing["reach"] = float(spread.max())
    return drawing


def _columns_of(term: Term) -> list[int]:
    return [c.column for c in term.conditions] if isinstance(term, Rule) else [term.column]


def _corners(term: Steps | Linear, column: Column) -> tuple[list[float], np.ndarray]:
    """Corners of a shape function over the column's range: x, and the numbers there of shape (m, k)."""
    low, high = _span(column)
    if isinstance(term, Linear):
        return [low, high], np.outer([low - term.center, high - term.center], term.slope)
    inner = [edge for edge in term.edges if low < edge < high]
    x = [low, *(edge for edge in inner for _ in range(2)), high]
    first = int(np.searchsorted(term.edges, low, side="right"))
    pieces = [first + i for i in range(len(inner) + 1) for _ in range(2)]
    return x, np.array([term.values[i] for i in pieces])


def _rows_of(program: Program, term: Levels | Rule, domain: Domain) -> list[tuple[str, Sequence[float]]]:
    if isinstance(term, Rule):
        return [(term.text(program.columns), term.value)]
    column = program.columns[term.column]
    rows: list[tuple[str, Sequence[float]]] = [(str(v), value) for v, value in zip(column.levels, term.values, strict=True)]
    if domain.columns[term.column].missing:
        rows.append(("missing", term.missing))
    return sorted(rows, key=lambda row: -max(map(abs, row[1])))


def _place(drawing: dict[str, Any], low: float, high: float, marks: Sequence[int]) -> None:
    """Turn the numbers of a drawing into percentages of a scale that all terms share; curves keep its unit but only as
    much of its height as they need."""
    curve = drawing["curve"]
    if curve is not None:
        bottom, top = min(0.0, curve["values"].min()), max(0.0, curve["values"].max())
        spare = max(0.0, _LEAST_HEIGHT * (high - low) - (top - bottom)) / 2
        bottom, top = bottom - spare, top + spare
        across = _scaled(curve["x"][0], curve["x"][-1], curve["x"])
        curve |= {
            "low": bottom,
            "high": top,
            "height": round(_HEIGHT * (top - bottom) / (high - low)),
            "zero": 100 - _scaled(bottom, top, [0.0])[0],
            "from": curve["values"].min(),
            "to": curve["values"].max(),
            "paths": [
                (k, _line(zip(across, (100 - y for y in _scaled(bottom, top, numbers)), strict=True)))
                for k, numbers in zip(marks, curve["values"].T, strict=True)
            ],
        }
    for name in ("rows", "side"):
        drawing[name] = [
            {
                "name": label,
                "numbers": [float(v) for v in numbers],
                "x": list(zip(marks, _scaled(low, high, numbers), strict=True)),
            }
            for label, numbers in drawing[name] or []
        ]


def _span(column: Column) -> tuple[float, float]:
    low = 0.0 if column.low is None else column.low
    high = low if column.high is None else column.high
    return (low, high) if high > low else (low, low + 1.0)


# ---------------------------------------------------------------------- rows and what the page runs
def _encoded(domain: Domain, row: Mapping[str, Any]) -> list[float]:
    """A row of values by name as numbers; a column it does not name is missing."""
    cells = np.empty((1, len(domain)), dtype=object)
    cells[0] = [row.get(name) for name in domain.names]
    return domain.encode(cells)[0].tolist()


def _starts(card: Card) -> list[dict[str, Any]]:
    """Rows the page starts from, with what the stand-in says of them."""
    if card.program is None:
        return []
    rows = [_encoded(card.region.domain, row) for row in card.examples]
    if not rows:  # the middle of every column
        center = np.where(card.region.domain.categorical, 0.0, card.region.center)
        rows = [card.region.domain.fill(center[None])[0].tolist()]
    values = card.program.values(np.array(rows))
    return [{"row": plain(row), "answer": _answer(card.program, value)} for row, value in zip(rows, values, strict=True)]


def _answer(program: Program, value: Sequence[float]) -> str:
    return figure(value[0]) if program.classes is None else str(program.classes[int(np.argmax(value))])


def _part(card: Card, part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of the region where fidelity is low, its examples ready to be shown and tried."""
    used = card.stand_in.get("used") or list(card.region.domain.names)
    examples = []
    for example in part.get("examples", ()):
        row = example["row"]
        shown = [(name, _cell(row.get(name))) for name in used if name in row]
        encoded = None if card.program is None else script_data(_encoded(card.region.domain, row))
        examples.append({**{w: _cell(example.get(w)) for w in ("target", "stand_in")}, "shown": shown, "encoded": encoded})
    return {**part, "examples": examples}


def _cell(value: Any) -> str:
    value = plain(value)
    if value is None:
        return "missing"
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return figure(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _columns(card: Card) -> list[dict[str, Any]]:
    """Every column with how the page asks for it: those that matter first."""
    used = () if card.program is None else card.program.used
    out = []
    for j, column in enumerate(card.region.domain.columns):
        low, high = _span(column) if column.kind == "numeric" else (0.0, 0.0)
        optional = column.missing or (card.program is not None and card.program.columns[j].missing)
        out.append({"index": j, "column": column, "low": low, "high": high, "missing": optional, "used": j in used})
    return sorted(out, key=lambda item: not item["used"])


def _live(card: Card) -> dict[str, Any] | None:
    """What ``card.js`` needs to run the stand-in."""
    if card.program is None:
        return None
    reading = _reading(card.program, card.region.domain)
    region = card.region
    return {
        "program": card.program,
        "labels": reading["labels"],
        "used": card.program.used,
        "start": _starts(card)[0]["row"],
        "sum": None if reading["kind"] == "rules" else {name: reading[name] for name in ("views", "titles")},
        "region": {
            "columns": [column.to_dict() for column in region.domain.columns],
            "center": region.center,
            "scale": region.scale,
            "threshold": region.threshold,
            "nearest": min(region.to_dict()["neighbours"], len(region.rows)),
            "reference": _folded(region),
        },
    }


def _folded(region: Region) -> np.ndarray:
    """The reference rows with one number a column: the scaled value (NaN: missing), or the slot of the category, those of
    missing and of unknown behind the levels."""
    out = (region.rows - region.center) / region.scale
    for j in np.flatnonzero(region.domain.categorical):
        width, z = len(region.domain.columns[j].levels), region.rows[:, j]
        out[:, j] = np.where(np.isnan(z), width, np.where(z < 0, width + 1, z))
    return out
