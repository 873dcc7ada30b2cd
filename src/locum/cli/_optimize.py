"""The command that looks for the best point of a problem."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated, Any

import typer

from locum.cli._io import Figure, Json, Yes, confirm, console, drawn, emit, whole, working
from locum.core.errors import InvalidData

__all__ = ["COMMANDS", "optimize"]


def optimize(
    problem: Annotated[Path, typer.Argument(help="A TOML file: parameters, target or command, direction.", show_default=False)],
    budget: Annotated[
        int | None, typer.Option("--budget", "-b", help="Evaluations in all; that of the file, if not given.", min=1)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the result, as JSON.", show_default=False)
    ] = None,
    fresh: Annotated[bool, typer.Option(help="Keep nothing on disk: evaluate everything anew.")] = False,
    least_gain: Annotated[
        float | None, typer.Option(help="End where no larger improvement is expected.", show_default=False)
    ] = None,
    figure: Figure = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Find where a dear objective is least or largest, and say how far the surrogate was right on the way.

    Every evaluation is kept in a ledger beside PROBLEM. A run that was stopped goes on where it was and pays for nothing twice.
    """
    from locum.optimize import Optimizer
    from locum.optimize.problem import Problem

    given = Problem.load(problem)
    most = given.budget if budget is None else budget
    if most is None:
        raise InvalidData(f"expected a budget: say --budget, or budget = in {problem}")
    target = given.target(ledger=None) if fresh else given.target()
    optimizer = Optimizer(given.space, direction=given.direction, initial=given.initial, random_state=given.seed)
    left = most - len(target.ledger)
    if left > 0 and (len(target.ledger) or given.price):  # else nothing is known of what it will cost
        confirm(target, left, None, "fit", yes=yes, quiet=json)
    with working("optimising", quiet=json) as progress:
        found = optimizer.run(target, most, batch=given.batch, least_gain=least_gain, progress=progress)
    record: dict[str, Any] = found.to_dict() | {"problem": str(problem.resolve()), "figure": whole(figure)}
    if output is not None:
        try:
            output.write_text(json_.dumps(record, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InvalidData(f"cannot write {output}: {error}") from error
    if figure is not None:
        from locum.plots import plot_foretold

        drawn(plot_foretold(found)[0].figure, figure)
    if json:
        emit(record)
        return
    console(out=True).print(str(found), markup=False, highlight=False)


COMMANDS = (optimize,)
