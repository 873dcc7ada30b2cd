"""Commands that put a stand-in to use: in another language, behind an address, about one decision."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from locum.cli._io import Json, console, emit, whole
from locum.core.errors import InvalidData

__all__ = ["COMMANDS"]

StandInPath = Annotated[Path, typer.Argument(help="A saved stand-in.", show_default=False)]


def export(
    standin: StandInPath,
    to: Annotated[str, typer.Option("--to", "-t", help="python, sql, javascript or onnx.")] = "python",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; standard output for text, if not given.")] = None,
    table: Annotated[str, typer.Option(help="Table that the SQL reads.")] = "rows",
    dialect: Annotated[str, typer.Option(help="sqlite or duckdb.")] = "sqlite",
    json: Json = False,
) -> None:
    """Write a readable stand-in as Python, SQL, JavaScript or ONNX that needs no Locum."""
    from locum.core.export import EXPORTS, load, write_atomically

    if to not in EXPORTS:
        raise InvalidData(f"expected --to to be one of {', '.join(EXPORTS)}, got {to!r}")
    program = load(standin).program
    if program is None:
        raise InvalidData(f"{standin.name} holds a model that cannot be read, and so not be written in another language")
    settings = {"table": table, "dialect": dialect} if to == "sql" else {}
    code = EXPORTS[to](program, **settings)
    if output is not None:
        write_atomically(output, code.encode() if isinstance(code, str) else code)
    elif isinstance(code, bytes):
        raise InvalidData(f"{to} is not text; say where to write it with --output")
    if json:
        emit({"to": to, "output": whole(output), "code": code if output is None else None})
    elif output is None:
        sys.stdout.write(str(code))
    else:
        console(out=True).print(f"The stand-in is in {output.resolve()}", markup=False, highlight=False)


def serve(
    thing: Annotated[Path, typer.Argument(help="A saved stand-in, or a card's record (card.json).", show_default=False)],
    port: Annotated[int, typer.Option("--port", "-p", help="0 takes any that is free.", min=0, max=65535)] = 8765,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine it needs --anyone.")] = "127.0.0.1",
    anyone: Annotated[bool, typer.Option("--anyone", help="Let other machines in.")] = False,
    json: Json = False,
) -> None:
    """Serve the page of a card, in which the stand-in runs, and its answers to rows posted as JSON; ends with Ctrl-C."""
    from locum.cli._serve import server

    made = server(_card(thing), host, port, anyone=anyone)
    address = f"http://{made.server_address[0]!s}:{made.server_address[1]}"
    emit({"address": address}) if json else console(out=True).print(f"Serving at {address}; Ctrl-C ends it.", highlight=False)
    sys.stdout.flush()
    try:
        made.serve_forever()
    except KeyboardInterrupt:
        return
    finally:
        made.server_close()


COMMANDS = (export, serve)


def _card(path: Path) -> Any:
    import json as json_module

    from locum.core.export import load
    from locum.core.report import Card, card_of

    if path.suffix.lower() != ".json":
        return card_of(load(path))
    try:
        record = json_module.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidData(f"cannot read {path}: {error}") from error
    return Card.from_dict(record)
