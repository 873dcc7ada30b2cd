"""The table of systems, and the two files that are written from measurements: README.md and the catalogue itself."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from locum.catalogue._papers import Measured, Paper, papers
from locum.core.errors import InvalidData

__all__ = ["markdown_table", "update_readme", "update_measured"]

START, END = "<!-- catalogue:start -->", "<!-- catalogue:end -->"


def markdown_table(systems: tuple[Paper, ...] | None = None) -> str:
    """The table of systems for README.md: number, name, room, what stands in for what, state with the measured figure.

    Examples
    --------
    >>> from locum.catalogue import markdown_table, paper
    >>> print(markdown_table((paper("dsl"),)).splitlines()[0])
    | # | system | room | what stands in for what | state |
    """
    rows = ["| # | system | room | what stands in for what | state |", "|--:|---|---|---|---|"]
    for one in papers() if systems is None else systems:
        name = f"[{one.slug}]({one.url})" if one.url else one.slug
        state = one.state if one.measured is None else f"{one.state}: {one.measured}"
        cells = (str(one.number), name, one.room, one.stands_in, state)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def update_readme(text: str, table: str) -> str:
    """`text` with `table` between the two markers.

    Raises
    ------
    InvalidData
        The markers are not there exactly once each, in order.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise InvalidData(f"Expected the lines {START} and {END} once each, in this order; add them where the table belongs.")
    before, _, rest = text.partition(START)
    return f"{before}{START}\n{table}{END}{rest.partition(END)[2]}"


def update_measured(text: str, result: dict[str, Any] | None) -> str:
    """A catalogue file's `text` with its table ``[measured]`` taken from `result` (a ``result.json``), or without one for None.

    Fields of `result` beyond those of :class:`Measured` stay in the benchmark.
    """
    kept = re.sub(r"\n*^\[measured\]\n(?:(?!\[).*\n?)*", "\n\n", text, flags=re.MULTILINE).rstrip("\n") + "\n"
    if result is None:
        return kept
    names = [one.name for one in dataclasses.fields(Measured)]
    missing = [name for name in names if name not in result]
    if missing:
        raise InvalidData(f"result.json lacks {', '.join(missing)}; it needs {', '.join(names)}.")
    values = {name: result[name] for name in names}
    Measured(**values)
    written = f"{kept}\n[measured]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
    if tomllib.loads(written)["measured"] != values:
        raise InvalidData(f"These values cannot be written as TOML: {values}.")
    return written


def measured_files(folder: Path, results: Path) -> dict[Path, str]:
    """Catalogue files in `folder` whose ``[measured]`` differs from `results`/<slug>/result.json, with their right text."""
    stale: dict[Path, str] = {}
    for path in sorted(folder.glob("*.toml")):
        if path.name == "references.toml":
            continue
        source, text = results / path.stem / "result.json", path.read_text(encoding="utf-8")
        try:
            wanted = update_measured(text, json.loads(source.read_text(encoding="utf-8")) if source.exists() else None)
        except (InvalidData, json.JSONDecodeError, TypeError) as error:
            raise InvalidData(f"{source}: {error}") from error
        if tomllib.loads(wanted) != tomllib.loads(text):
            stale[path] = wanted
    return stale
