"""Commands that make, measure and show stand-ins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from locum.cli._io import (
    Answer,
    Ask,
    Budget,
    Categorical,
    Data,
    Drop,
    How,
    Json,
    LedgerPath,
    Method,
    Model,
    Money,
    Pickle,
    Seed,
    Trust,
    Yes,
    confirm,
    console,
    emit,
    opened,
    whole,
    working,
)

__all__ = ["COMMANDS"]

Family = Annotated[
    str | None,
    typer.Option("--family", "-f", help="tree, rule list, rule set, additive model or sparse linear.", show_default=False),
]
AtMost = Annotated[int, typer.Option("--at-most", "-k", help="Most statements: rules, pieces or coefficients.", min=1)]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to save the stand-in in.")]
CardPath = Annotated[Path | None, typer.Option("--card", help="File for the card: .html or .json.")]
StandInPath = Annotated[Path, typer.Argument(help="A saved stand-in.", show_default=False)]


def fit(
    data: Data,
    model: Model = None,
    answer: Answer = None,
    family: Family = "tree",
    at_most: AtMost = 8,
    budget: Budget = None,
    output: Output = None,
    card: CardPath = None,
    method: Method = "predict",
    drop: Drop = None,
    categorical: Categorical = None,
    trust_pickle: Pickle = False,
    trust: Trust = None,
    price: Money = 0.0,
    ledger: LedgerPath = None,
    seed: Seed = 0,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Fit one readable stand-in, and measure it on rows kept apart."""
    how = How(method, drop, categorical, trust_pickle, trust, price, ledger)
    found, asked = _frontier(opened(data, model, answer, how), [family or "tree"], [at_most], budget, seed, yes, json)
    _finish(found, found.points[-1], asked, data, output, card, json)


def frontier(
    data: Data,
    model: Model = None,
    answer: Answer = None,
    at_most: AtMost = 8,
    family: Family = None,
    budget: Budget = None,
    output: Output = None,
    card: CardPath = None,
    method: Method = "predict",
    drop: Drop = None,
    categorical: Categorical = None,
    trust_pickle: Pickle = False,
    trust: Trust = None,
    price: Money = 0.0,
    ledger: LedgerPath = None,
    seed: Seed = 0,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Fidelity against simplicity for stand-ins of all families and sizes; the best of at most K statements is picked."""
    how = How(method, drop, categorical, trust_pickle, trust, price, ledger)
    families = None if family is None else [family]
    found, asked = _frontier(opened(data, model, answer, how), families, None, budget, seed, yes, json)
    if not json:
        out = console(out=True)
        out.print("Fidelity against the number of statements to read:", markup=False)
        for point in found.best():
            out.print(f"  {point}", markup=False, highlight=False)
        out.print()
    _finish(found, found.point_at_most(at_most, family), asked, data, output, card, json)


def score(
    standin: StandInPath,
    data: Data,
    model: Model = None,
    answer: Answer = None,
    measure: Annotated[list[str] | None, typer.Option(help="A measure; can be given again.", show_default=False)] = None,
    at_least: Annotated[
        float | None, typer.Option(help="Exit with 1 where the lower bound of the first measure is below this.")
    ] = None,
    method: Method = "predict",
    drop: Drop = None,
    categorical: Categorical = None,
    trust_pickle: Pickle = False,
    trust: Trust = None,
    price: Money = 0.0,
    ledger: LedgerPath = None,
    yes: Yes = False,
    json: Json = False,
) -> int:
    """Measure a saved stand-in on fresh rows, beside the cheapest rivals."""
    from locum.core.export import load

    loaded = load(standin)
    how = How(method, drop, categorical, trust_pickle, trust, price, ledger)
    asked = opened(data, model, answer, how)
    confirm(asked.target, len(asked.rows), asked.rows, "score", yes=yes, quiet=json)
    with working("measuring", quiet=json, target=asked.target, rows=len(asked.rows)):
        checked = loaded.check(asked.target, asked.rows, measures=measure or ())
    fresh = checked.fidelity[len(loaded.fidelity) :]
    rivals = {r.name: r.fidelity[-len(fresh) :] for r in checked.rivals}
    holds = at_least is None or fresh[0].lower >= at_least
    if json:
        emit(
            {
                "fidelity": [found.to_dict() for found in fresh],
                "rivals": {name: [found.to_dict() for found in every] for name, every in rivals.items()},
                "holds": holds,
                "account": str(asked.target.account()),
            }
        )
    else:
        out = console(out=True)
        for position, found in enumerate(fresh):
            out.print(str(found), markup=False, highlight=False)
            for name, every in rivals.items():
                out.print(f"  beside it, {name}: {every[position]}", markup=False, highlight=False)
        if not holds:
            out.print(f"The lower bound {fresh[0].lower:.3f} is below {at_least}.", markup=False, highlight=False)
    return 0 if holds else 1


def card(
    standin: StandInPath,
    data: Data,
    model: Model = None,
    answer: Answer = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the card: .html or .json.")] = Path("card.html"),
    title: Annotated[str | None, typer.Option(help="What it says on top.")] = None,
    method: Method = "predict",
    drop: Drop = None,
    categorical: Categorical = None,
    trust_pickle: Pickle = False,
    trust: Trust = None,
    price: Money = 0.0,
    ledger: LedgerPath = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Write the card of a saved stand-in: one page, in which it runs."""
    from dataclasses import replace

    from locum.core.export import load
    from locum.core.report import card as card_of

    how = How(method, drop, categorical, trust_pickle, trust, price, ledger)
    asked, loaded = opened(data, model, answer, how), load(standin)
    # Measured anew, on the rows given; what was measured elsewhere does not belong beside it.
    bare = replace(loaded, fidelity=(), rivals=tuple(replace(rival, fidelity=()) for rival in loaded.rivals))
    confirm(asked.target, len(asked.rows), asked.rows, "score", yes=yes, quiet=json)
    with working("measuring", quiet=json, target=asked.target, rows=len(asked.rows)):
        made = card_of(bare, asked.target, asked.rows, title=title, data=data.name)
    made.save(output)
    if json:
        emit({"card": str(output.resolve()), "line": made.line(), "fidelity": [found.to_dict() for found in made.fidelity]})
    else:
        console(out=True).print(made)
        console(out=True).print(f"\nThe card is in {output.resolve()}", markup=False, highlight=False)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the card.")] = Path("card.html"),
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Replace a real black box on real data by rules, and write a card in which they run."""
    from locum.cli._demo import run

    run(output, seed, json)


COMMANDS = (demo, fit, frontier, score, card)


# ---------------------------------------------------------------------- parts
def _frontier(asked: Ask, families: Any, sizes: Any, budget: Any, seed: int, yes: bool, quiet: bool) -> tuple[Any, Ask]:
    from locum.explain.frontier import SIZES, frontier, held_out

    rows, fresh = held_out(asked.domain, asked.rows, random_state=seed)
    calls = len(fresh) + (budget or len(rows))
    confirm(asked.target, calls, fresh, "score", yes=yes, quiet=quiet)
    with working("fitting", quiet=quiet, target=asked.target, rows=calls) as progress:
        found = frontier(
            asked.target, rows, fresh=fresh, families=families, sizes=sizes or SIZES, budget=budget, domain=asked.domain,
            progress=progress, random_state=seed,
        )  # fmt: skip
    return found, asked


def _finish(found: Any, point: Any, asked: Ask, data: Path, output: Path | None, card: Path | None, json: bool) -> None:
    made = found.card(point.standin, asked.target, data=data.name)
    if output is not None:
        point.standin.save(output)
    if card is not None:
        made.save(card)
    files = {"stand_in": output, "card": card}
    if json:
        emit(
            {
                **found.to_dict(),
                "picked": {"name": point.name, "statements": point.statements, "text": point.standin.program.text()},
                "fidelity": [one.to_dict() for one in point.standin.fidelity],
                "price": point.standin.price,
                **{name: whole(path) for name, path in files.items()},
            }
        )
        return
    out = console(out=True)
    out.print(made)
    for name, path in files.items():
        if path is not None:
            out.print(f"The {name.replace('_', '-')} is in {path.resolve()}", markup=False, highlight=False)
