"""Commands about the published systems: list, re-measure, cite."""

from __future__ import annotations

import json as json_module
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from locum.cli._io import Json, Seed, console, emit
from locum.core.errors import InvalidData

__all__ = ["COMMANDS"]

Slug = Annotated[str | None, typer.Argument(help="The short name of a system.", show_default=False)]
_COLOURS = {"planned": "dim", "built": "cyan", "holds": "green", "does not hold": "red"}


def papers(
    slug: Slug = None,
    room: Annotated[str | None, typer.Option(help="Only the systems of one room.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """The published systems and the state of each: planned, built, holds, does not hold, with the measured figure."""
    from locum.catalogue import paper
    from locum.catalogue import papers as every

    if slug is not None:
        one = paper(slug)
        emit(one.to_dict()) if json else _show(one)
        return
    systems = [one for one in every() if room in (None, one.room)]
    if not systems:
        raise InvalidData(f"no room is called {room!r}; the rooms are {', '.join(dict.fromkeys(p.room for p in every()))}")
    if json:
        emit([one.to_dict() for one in systems])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("#", "system", "room", "what stands in for what", "state"):
        table.add_column(name)
    for one in systems:
        state = one.state if one.measured is None else f"{one.state}: {one.measured}"
        cells = [Text(cell) for cell in (str(one.number), one.slug, one.room, one.stands_in)]
        table.add_row(*cells, Text(state, style=_COLOURS[one.state]))
    console(out=True).print(table)


def reproduce(
    slug: Slug = None,
    every: Annotated[bool, typer.Option("--all", help="Every system that is built.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller run, within three minutes.")] = False,
    seed: Seed = 0,
    benchmarks: Annotated[Path | None, typer.Option(help="The folder benchmarks/papers of a checkout.")] = None,
    json: Json = False,
) -> int:
    """Re-measure the main claim of a system; exits with 1 where it does not hold."""
    from locum.catalogue import paper
    from locum.catalogue import papers as all_papers

    if (slug is None) == (not every):
        raise InvalidData("expected the name of one system, or --all; locum papers lists them")
    folder = benchmarks or _benchmarks()
    systems = [one for one in all_papers() if one.class_path] if slug is None else [paper(slug)]
    codes = []
    for one in systems:
        script = folder / one.slug / "run.py"
        if not script.is_file():
            if slug is None:
                continue
            raise InvalidData(f"{one.slug} is {one.state}: there is no {script} to run")
        command = [sys.executable, str(script), "--json", "--seed", str(seed), *(["--quick"] if quick else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        codes.append(done.returncode)
        lines = done.stdout.strip().splitlines()
        _report(one.slug, lines[-1] if lines else "", done.returncode, json)
    if slug is None and not codes:
        console().print("No system is built yet, so there is nothing to reproduce.", markup=False)
    return max(map(abs, codes), default=0) and 1


def cite(
    things: Annotated[
        list[str] | None, typer.Argument(help="Slugs, keys, or saved stand-ins and cards.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """BibTeX of what ran: of Locum, of the systems named, of what a saved stand-in or a card stands on."""
    from locum.catalogue import cite as entries

    named = [name for thing in things or [] for name in _stood_on(thing)]
    text = entries(named)
    emit({"bibtex": text}) if json else sys.stdout.write(text)


COMMANDS = (papers, reproduce, cite)


def _stood_on(thing: str) -> list[Any]:
    path = Path(thing)
    if not path.is_file():
        return [thing]
    if path.suffix == ".json":
        try:
            return list(json_module.loads(path.read_text(encoding="utf-8"))["provenance"]["papers"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidData(f"{path} is not a card's record: {error!r}; give one that --card NAME.json wrote") from error
    from locum.core.export import load

    return [load(path).model]


def _benchmarks() -> Path:
    for folder in (Path.cwd(), *Path(__file__).resolve().parents):
        if (folder / "benchmarks" / "papers").is_dir():
            return folder / "benchmarks" / "papers"
    raise InvalidData("found no folder benchmarks/papers here or above; run inside a checkout of Locum, or give --benchmarks")


def _show(one: Any) -> None:
    out = console(out=True)
    state = one.state if one.measured is None else f"{one.state}: {one.measured}"
    lines = [f"{one.number}. {one.title} ({one.year})", "; ".join(one.authors), one.url or "", "", one.summary.strip(), ""]
    lines += [f"stands in: {one.stands_in}", f"room: {one.room}", f"state: {state}"]
    if one.class_path:
        lines.append(f"class: {one.class_path}")
    lines += ["claims:", *(f"  - {claim.claim} ({claim.measure})" for claim in one.claims)]
    out.print("\n".join(lines), markup=False, highlight=False)


def _report(slug: str, line: str, code: int, json: bool) -> None:
    try:
        record = json_module.loads(line)
    except ValueError:
        record = {"slug": slug, "holds": None, "exit": code, "said": line[:200]}
    if json:
        emit(record)
        return
    keys = ("effect", "lower", "upper", "seeds", "seconds")
    words = ", ".join(f"{key} {record[key]:.4g}" for key in keys if isinstance(record.get(key), int | float))
    state = {True: "holds", False: "does not hold"}.get(record.get("holds"), f"failed with exit code {code}")
    console(out=True).print(f"{slug}: {state}{': ' if words else ''}{words}", markup=False, highlight=False)
