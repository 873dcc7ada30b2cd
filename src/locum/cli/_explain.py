"""Commands that explain single answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from locum.cli import _explain_networks
from locum.cli._io import (
    Ask,
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
    working,
)
from locum.core.errors import InvalidData

__all__ = ["explain"]

explain = typer.Typer(
    name="explain", help="Explain single answers of a black box, with bounds.", no_args_is_help=True, rich_markup_mode=None
)

for command in _explain_networks.COMMANDS:
    explain.command()(command)


@dataclass(frozen=True)
class _Way:
    """One explainer: its class in locum.explain, and about how many rows it asks to explain m of them, each of d columns."""

    name: str
    asks: Callable[[int, int, int], int]


_WAYS = {
    "lime": _Way("LimeExplainer", lambda m, d, n: 10_000 + m),
    "shapley": _Way("ShapleyExplainer", lambda m, d, n: 32_768 * m),
    "anchors": _Way("AnchorExplainer", lambda m, d, n: 5000 + 4000 * m),
    "counterfactual": _Way("CounterfactualExplainer", lambda m, d, n: min(n, 4000) + m * (60 * d + 2600)),
}


@explain.command()
def row(
    data: Data,
    model: Model = None,
    at: Annotated[
        list[int] | None,
        typer.Option("--row", "-r", help="Position in DATA of a row, from 0; can be given again.", show_default=False),
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="A CSV file of rows to explain, with the columns of DATA.", show_default=False)
    ] = None,
    by: Annotated[str, typer.Option("--by", help=f"{', '.join(_WAYS)}.")] = "lime",
    output: Annotated[
        str | None,
        typer.Option("--class", help="For lime and shapley: the class explained, not the one answered.", show_default=False),
    ] = None,
    wanted: Annotated[
        str | None,
        typer.Option(help="For counterfactual: the class wanted, or LOW:HIGH, of which one may be empty.", show_default=False),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option(help="For counterfactual: a column that may not change; can be given again.", show_default=False),
    ] = None,
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
    """Explain the answer to rows: by a local linear model, Shapley values, a rule that anchors it, or what would change it.

    DATA says what rows look like; new rows near those explained are drawn from it and asked. Each explanation says how faithful
    it is on fresh rows near the one explained.
    """
    if by not in _WAYS:
        raise InvalidData(f"expected --by to be one of {', '.join(_WAYS)}, got {by!r}")
    if (not at) == (rows is None):
        raise InvalidData("expected rows to explain: --row with a position in the data, or --rows with a file")
    asked = opened(data, model, None, How(method, drop, categorical, trust_pickle, trust, price, ledger))
    chosen = _chosen(asked, at) if rows is None else asked.read(rows)
    count = len(chosen)
    asks = _WAYS[by].asks(count, len(asked.domain), len(asked.rows))
    confirm(asked.target, asks, asked.rows, "fit", yes=yes, quiet=json)
    with working("explaining", quiet=json, target=asked.target, rows=asks):
        explained = _explainer(asked, by, output, wanted, fixed, seed).explain(chosen)
    if json:
        records = [one.to_dict() for one in explained]
        emit({"by": by, "explanations": records, "account": str(asked.target.account())})
        return
    out = console(out=True)
    for position, one in zip(at or range(count), explained, strict=True):
        out.print(f"Row {position}", markup=False, highlight=False)
        out.print("  " + one.text().replace("\n", "\n  ") + "\n", markup=False, highlight=False)


# ---------------------------------------------------------------------- parts
def _chosen(asked: Ask, at: list[int] | None) -> Any:
    n = len(asked.rows)
    wrong = [one for one in at or () if not 0 <= one < n]
    if wrong:
        raise InvalidData(f"there is no row {wrong[0]} in the data: it has {n}, counted from 0")
    return asked.rows.iloc[at] if hasattr(asked.rows, "iloc") else asked.rows[at]


def _explainer(asked: Ask, by: str, output: str | None, wanted: str | None, fixed: list[str] | None, seed: int) -> Any:
    import locum.explain as room

    settings: dict[str, Any] = {"domain": asked.domain, "random_state": seed}
    if by in ("lime", "shapley"):
        settings["output"] = _class(asked, output)
    elif output is not None:
        raise InvalidData(f"--class goes with --by lime or shapley; {by} explains the answer itself")
    if by == "counterfactual":
        settings |= {"wanted": _wanted(asked, wanted), "fixed": fixed or ()}
    elif wanted is not None or fixed:
        raise InvalidData(f"--wanted and --fixed go with --by counterfactual, not with {by}")
    return getattr(room, _WAYS[by].name)(asked.target, asked.rows, **settings)


def _class(asked: Ask, name: str | None) -> Any:
    """A class by what it is called; the target is asked about one row where it has not said yet what its classes are."""
    if name is None:
        return None
    if asked.target.classes is None:
        asked.target.query(asked.rows[:1], "use")
    known = {str(one): one for one in (() if asked.target.classes is None else list(asked.target.classes))}
    if name not in known:
        raise InvalidData(f"there is no class {name!r}; expected one of {', '.join(known) or 'none: the target gives values'}")
    return known[name]


def _wanted(asked: Ask, text: str | None) -> Any:
    if text is None:
        return None
    low, colon, high = text.partition(":")
    if not colon:
        return _class(asked, text)
    try:
        return (float(low) if low else None, float(high) if high else None)
    except ValueError as error:
        raise InvalidData(f"expected --wanted as a class or as LOW:HIGH, got {text!r}") from error
