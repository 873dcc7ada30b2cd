"""Card: one page about one stand-in, for the terminal, as JSON, and as one HTML file in which the stand-in runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locum.core._page import duration, figure, plain, render, shown_span, spoken
from locum.core.errors import FormatError, InvalidData
from locum.core.fidelity import Fidelity
from locum.core.program import Program
from locum.core.region import Region

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

    from locum.core.surrogate import StandIn
    from locum.core.target import Target

__all__ = ["Card", "card", "card_of"]

_FORMAT = 1
_RULES_IN_TERMINAL = 24
_PLOT_WIDTH, _PLOT_HEIGHT = 56, 11
_FAMILY_MARKS = "ox+*#@%&"


@dataclass(frozen=True, eq=False)
class Card:
    """What one should know about a stand-in before trusting it, on one page.

    Parameters
    ----------
    title : str
    target : dict
        ``name``, ``output`` ("class", "probability" or "value") and ``classes`` of what is stood in for.
    stand_in : dict
        ``name``; and, where it has them, ``class`` (its import path), ``statements``, ``conditions`` and ``used`` (names of
        the columns that matter).
    fidelity : tuple of Fidelity
        At least one; the first leads.
    rivals : tuple of dict
        ``name``, ``statements`` and ``fidelity`` of the cheapest rivals, with as many queries and on the same fresh rows.
    price : dict
        ``target`` (``calls``, ``seconds``, ``money``, ``currency``), ``by_purpose`` (rows asked), ``target_seconds_per_row``
        and ``stand_in_seconds_per_row``; what is not known is left out or None.
    region : Region
        Where the fidelity holds.
    program : Program or None, default=None
        The stand-in in the form that the page runs; without one the page shows everything else.
    frontier : tuple of dict, default=()
        ``name``, ``statements``, ``fidelity``, ``chosen`` and ``knee`` of each stand-in that was tried.
    worst : tuple of dict, default=()
        ``where`` (words), ``n``, ``fidelity`` and ``examples`` (``row``, ``target``, ``stand_in``) of the parts of the region
        with the least fidelity.
    examples : tuple of dict, default=()
        Rows, column name to value, to start the page from.
    provenance : dict, default={}
        ``created``, ``seed``, ``versions``, ``data`` and ``papers``.

    Examples
    --------
    >>> import numpy as np
    >>> from locum.core.domain import Domain
    >>> rows = np.linspace(18, 90, 50)[:, None]
    >>> domain = Domain.of(rows, names=["age"])
    >>> card = Card(
    ...     "Old or young", {"name": "forest", "output": "class", "classes": ["no", "yes"]},
    ...     {"name": "one rule", "statements": 1}, (Fidelity("agreement", 0.94, 0.92, 0.96, 0.95, 1000),), (), {},
    ...     Region.of(domain, rows))
    >>> print(card.line())
    one rule (1 statement) stands in for forest: agreement 0.940 [0.920, 0.960] at 95 %, n=1000 fresh queries
    >>> Card.from_dict(card.to_dict()).to_dict() == card.to_dict()
    True
    """

    title: str
    target: dict[str, Any]
    stand_in: dict[str, Any]
    fidelity: tuple[Fidelity, ...]
    rivals: tuple[dict[str, Any], ...]
    price: dict[str, Any]
    region: Region
    program: Program | None = None
    frontier: tuple[dict[str, Any], ...] = ()
    worst: tuple[dict[str, Any], ...] = ()
    examples: tuple[dict[str, Any], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.fidelity:
            raise InvalidData("expected at least one fidelity on a card, got none: use check() or locum.score() first")
        if self.program is not None and [c.name for c in self.program.columns] != list(self.region.domain.names):
            raise InvalidData("expected the program and the region to have the same columns, in the same order")

    def line(self) -> str:
        """The card in one line."""
        n = self.stand_in.get("statements")
        size = "" if n is None else f" ({n} statement{'' if n == 1 else 's'})"
        return f"{self.stand_in['name']}{size} stands in for {self.target['name']}: {self.fidelity[0]}"

    # ------------------------------------------------------------------ keeping it
    def to_dict(self) -> dict[str, Any]:
        """The card as JSON-ready values; what is missing or not finite in its facts becomes None.

        Raises
        ------
        InvalidData
            A program with numbers that are not finite.
        """
        return {"format": _FORMAT, **{f.name: plain(getattr(self, f.name)) for f in fields(self)}}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Card:
        """The card that `to_dict` described.

        Raises
        ------
        FormatError
            A newer format number, or parts that are missing or of the wrong kind.
        """
        try:
            if record["format"] > _FORMAT:
                raise FormatError(f"expected a card of format {_FORMAT} or older, got {record['format']}; update locum")
            parts = {f.name: record[f.name] for f in fields(cls)}
            for name in ("rivals", "frontier", "worst"):
                parts[name] = tuple({**r, "fidelity": Fidelity.from_dict(r["fidelity"])} for r in parts[name])
            parts["fidelity"] = tuple(Fidelity.from_dict(r) for r in parts["fidelity"])
            parts["region"] = Region.from_dict(parts["region"])
            parts["program"] = None if parts["program"] is None else Program.from_dict(parts["program"])
            parts["examples"] = tuple(parts["examples"])
            return cls(**parts)
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"this is not a card: {error!r} while reading it") from error

    def to_json(self) -> str:
        """The card as JSON text, without NaN or infinity."""
        return json.dumps(self.to_dict(), allow_nan=False, indent=1)

    def to_html(self) -> str:
        """The card as one HTML page that needs nothing else: no network, no other file."""
        return render(self)

    def save(self, path: Any) -> None:
        """Write the page (``.html``) or the record (``.json``), all of it or nothing."""
        from locum.core.export import write_atomically  # a card that is only printed needs no targets

        writers = {".html": self.to_html, ".json": self.to_json}
        suffix = Path(path).suffix.lower()
        if suffix not in writers:
            raise InvalidData(f"expected a path that ends in .html or .json, got {str(path)!r}")
        write_atomically(path, writers[suffix]().encode())

    # ------------------------------------------------------------------ the terminal
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.padding import Padding
        from rich.rule import Rule as Line
        from rich.text import Text

        yield Line(Text(_shown(self.title), style="bold"))
        yield Text(_shown(f"{self.stand_in['name']} stands in for {self.target['name']}{_size(self)}."))
        yield Text()
        yield from self._fidelity_tables()
        if self.program is not None:
            lines = self.program.text().splitlines()
            more = [f"... and {len(lines) - _RULES_IN_TERMINAL} more lines"] if len(lines) > _RULES_IN_TERMINAL else []
            yield Text("\nHow it decides", style="bold")
            yield Padding(Text(_shown("\n".join(lines[:_RULES_IN_TERMINAL] + more), keep="\n")), (0, 0, 0, 2))
        if self.frontier:
            yield Text("\nHow simple can it be", style="bold")
            yield Padding(Text(_shown("\n".join(_plot(self.frontier)), keep="\n"), no_wrap=True), (0, 0, 0, 2))
        if self.worst:
            yield Text("\nWhere it disagrees most", style="bold")
            for part in self.worst:
                found = part["fidelity"]
                line = f"{part['where']}: {found.measure} {' '.join(spoken(found))}, n={part['n']}"
                yield Padding(Text(_shown(line)), (0, 0, 0, 2))
        yield Text(_shown(f"\nHolds in: {self.region}", keep="\n"))
        yield Text(_shown(f"Price: {_price(plain(self.price))}"))
        made = plain(self.provenance)
        versions = ", ".join(f"{name} {version}" for name, version in (made.get("versions") or {}).items())
        known = [
            made.get("created"),
            f"seed {made['seed']}" if made.get("seed") is not None else None,
            made.get("data"),
            versions,
        ]
        yield Text(_shown("Made: " + "; ".join(str(fact) for fact in known if fact)), style="dim")

    def _fidelity_tables(self) -> Iterator[Text | Table]:
        from rich.table import Table
        from rich.text import Text

        for own in self.fidelity:
            yield Text(_shown(str(own)), style="bold")
            rivals = [rival for rival in self.rivals if rival["fidelity"].measure == own.measure]
            if not rivals:
                continue
            table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 2), header_style="dim")
            for name, justify in (("", "left"), ("statements", "right"), (own.measure, "right"), ("interval", "left")):
                table.add_column(Text(_shown(name)), justify=justify)  # type: ignore[arg-type]
            for row in ({**self.stand_in, "fidelity": own}, *rivals):
                cells = (row["name"], row.get("statements", ""), *spoken(row["fidelity"]))
                table.add_row(*(Text(_shown(str(cell))) for cell in cells))
            yield table


def card(
    standin: StandIn,
    target: Target,
    fresh: Any,
    *,
    title: str | None = None,
    name: str | None = None,
    frontier: tuple[dict[str, Any], ...] = (),
    data: str | None = None,
    measures: Any = (),
) -> Card:
    """The card of a stand-in: measured where it is not yet, with the parts of the region where it disagrees most.

    Parameters
    ----------
    standin : StandIn
    target : Target
    fresh : rows that never fitted or tuned
        Asked, where they were not yet. What `standin` was already measured on, where it was.
    title : str or None, default=None
    name : str or None, default=None
        What the stand-in is called; its class in words where None.
    frontier : tuple of dict, default=()
        As `locum.explain.Frontier.rows` gives it.
    data : str or None, default=None
        What the rows are, in words.
    measures : sequence of str or Measure, default=()
        Measured beside what is measured already.

    Notes
    -----
    Cost: one answer a fresh row that was not asked before.
    """
    from locum.core._evidence import examples, worst

    if measures or not standin.fidelity:
        standin = standin.check(target, fresh, measures=measures)
    Z = standin.domain.encode(fresh)
    truth, said = target.query(fresh, "score"), standin.predict(fresh, outside="ignore")
    made = card_of(standin, title=title, name=name, data=data)
    seconds = {
        "target_seconds_per_row": target.ledger.seconds_per_row,
        "stand_in_seconds_per_row": standin.seconds_per_row(fresh),
        "by_purpose": {purpose: n for purpose, n in target.account().by_purpose.items() if n},
    }
    return replace(
        made,
        price={**made.price, **seconds},
        frontier=tuple(frontier),
        worst=worst(standin, Z, truth, said),
        examples=examples(standin, Z, said),
    )


def card_of(standin: StandIn, *, title: str | None = None, name: str | None = None, data: str | None = None) -> Card:
    """What a measured stand-in alone can tell: its card without a target to ask.

    Parameters
    ----------
    standin : StandIn
        Measured.
    title, name, data : str or None, default=None
        As for `card`.
    """
    from locum.core._evidence import made, name_of

    program = standin.program
    kind = type(standin.model)
    about: dict[str, Any] = {"name": name or name_of(standin.model), "class": f"{kind.__module__}.{kind.__name__}"}
    if program is not None:
        used = [program.columns[j].name for j in program.used]
        about |= {"statements": program.statements, "conditions": program.conditions, "used": used}
    return Card(
        title=title or f"A stand-in for {standin.target['name']}",
        target=standin.target,
        stand_in=about,
        fidelity=standin.fidelity,
        rivals=tuple(
            {"name": rival.name, "statements": max(1, rival.program.statements), "fidelity": found}
            for rival in standin.rivals
            for found in rival.fidelity
        ),
        price={"target": {key: standin.price.get(key) for key in ("calls", "seconds", "money", "currency")}},
        region=standin.region,
        program=program,
        provenance=made(standin, data),
    )


# ---------------------------------------------------------------------- words
def _size(card: Card) -> str:
    known, total = card.stand_in, len(card.region.domain)
    words = [f"{known['statements']} statements"] if known.get("statements") is not None else []
    if known.get("conditions"):
        words.append(f"{known['conditions']} conditions")
    if known.get("used") is not None:
        words.append(f"{len(known['used'])} of {total} columns")
    return ": " + ", ".join(words) if words else ""


def _price(price: Mapping[str, Any]) -> str:
    paid = price.get("target") or {}
    words = [f"{paid['calls']:,} rows asked"] if paid.get("calls") is not None else []
    if paid.get("seconds") is not None:
        words.append(duration(paid["seconds"]))
    if paid.get("money"):
        words.append(f"{paid['money']:,.2f} {paid.get('currency', '')}".strip())
    slow, fast = price.get("target_seconds_per_row"), price.get("stand_in_seconds_per_row")
    if slow and fast:
        words.append(f"{duration(slow)} a row, the stand-in {duration(fast)}")
    return ", ".join(words) or "not recorded"


def _shown(text: str, keep: str = "") -> str:
    """Text from data without what a terminal would obey."""
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


# ---------------------------------------------------------------------- the frontier in characters
def _plot(points: tuple[dict[str, Any], ...]) -> list[str]:
    """Fidelity upwards, statements to the right (logarithmic); whiskers are the intervals."""
    families = list(dict.fromkeys(point["name"] for point in points))
    xs = [math.log(max(1, point["statements"])) for point in points]
    low, high = shown_span([point["fidelity"] for point in points])

    def column(x: float) -> int:
        return round((x - min(xs)) / ((max(xs) - min(xs)) or 1.0) * (_PLOT_WIDTH - 1))

    def row(y: float) -> int:
        return round((high - y) / ((high - low) or 1.0) * (_PLOT_HEIGHT - 1))

    grid = [[" "] * _PLOT_WIDTH for _ in range(_PLOT_HEIGHT)]
    for x, point in zip(xs, points, strict=True):
        found = point["fidelity"]
        for i in range(row(found.upper), min(row(found.lower), _PLOT_HEIGHT - 1) + 1):
            if grid[i][column(x)] == " ":
                grid[i][column(x)] = "\u2502"
    for x, point in zip(xs, points, strict=True):
        mark = _FAMILY_MARKS[families.index(point["name"]) % len(_FAMILY_MARKS)]
        grid[row(point["fidelity"].value)][column(x)] = "\u25c9" if point.get("chosen") else mark
    labels = {0: figure(high, 3), _PLOT_HEIGHT - 1: figure(low, 3)}
    lines = [f"{labels.get(i, ''):>7} \u2524{''.join(cells)}" for i, cells in enumerate(grid)]
    first, last = (str(bound(point["statements"] for point in points)) for bound in (min, max))
    lines.append(" " * 8 + "\u2514" + "\u2500" * _PLOT_WIDTH)
    lines.append(" " * 9 + first + f"{'statements':^{_PLOT_WIDTH - len(first) - len(last)}}" + last)
    legend = [f"{_FAMILY_MARKS[i % len(_FAMILY_MARKS)]} {name}" for i, name in enumerate(families)]
    knees = [f"more stops paying at {p['statements']} ({p['name']})" for p in points if p.get("knee")]
    chosen = ["\u25c9 chosen"] if any(point.get("chosen") for point in points) else []
    words, line = [], ""
    for word in [*legend, *chosen]:
        if line and len(line) + len(word) + 3 > _PLOT_WIDTH:
            words.append(line)
            line = ""
        line += ("   " if line else "") + word
    return [*lines, *(" " * 9 + text for text in [*words, line, *knees])]
