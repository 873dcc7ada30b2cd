"""Commands that infer with a stand-in: regressions with cheap labels, early outcomes of trials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from locum.cli._io import Figure, Json, Seed, console, drawn, emit, whole
from locum.core.errors import InvalidData

__all__ = ["infer"]

infer = typer.Typer(
    name="infer", help="Conclusions that hold although a stand-in was used.", no_args_is_help=True, rich_markup_mode=None
)

Rows = Annotated[Path, typer.Argument(help="Rows: a CSV file with a header.", show_default=False)]
Page = Annotated[Path | None, typer.Option("--page", help="File for a page of HTML about the analysis.", show_default=False)]


@infer.command()
def dsl(
    data: Rows,
    formula: Annotated[str, typer.Option("--formula", "-f", help='Such as "y ~ x1 + x2".', show_default=False)],
    labels: Annotated[
        list[str], typer.Option("--labels", "-l", help="COLUMN=CHEAP1,CHEAP2: cheap labels of a column.", show_default=False)
    ],
    prob: Annotated[
        str,
        typer.Option("--prob", "-p", help='Chance of an expert label: a column, a number or "equal".', show_default=False),
    ],
    model: Annotated[str, typer.Option(help="mean, lm, logit, poisson or felm.")] = "logit",
    learner: Annotated[str, typer.Option(help="First stage: boosting, forest, linear or surrogate.")] = "boosting",
    groups: Annotated[str | None, typer.Option(help="Column of clusters.", show_default=False)] = None,
    fixed: Annotated[list[str] | None, typer.Option(help="Column of fixed effects, for felm.", show_default=False)] = None,
    splits: Annotated[int, typer.Option(help="Times that folds are drawn.", min=1)] = 10,
    figure: Figure = None,
    page: Page = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Regression with cheap labels for all rows and expert labels for some: valid whatever the cheap labels are worth.

    Expert labels stand in the column itself, which is empty elsewhere.
    """
    from locum.infer import DSLRegressor

    cheap = dict(_pair(one) for one in labels)
    chance, effects = _probability(prob), tuple(fixed or ())
    fitted = DSLRegressor(model, tuple(cheap), learner=learner, n_splits=splits, random_state=seed).fit(
        _table(data), formula, surrogates=cheap, sampling_prob=chance, groups=groups, fixed_effects=effects
    )
    compared = fitted.compare()
    if figure is not None:
        from locum.plots import plot_estimates

        drawn(plot_estimates(compared.estimates).figure, figure)
    _paged(fitted, page)
    if json:
        emit(
            {
                "estimates": fitted.estimates_.to_dict(),
                "compared": compared.to_dict(),
                "fidelity": [one.to_dict() for one in fitted.fidelity_],
                "figure": whole(figure),
                "page": whole(page),
            }
        )
        return
    out = console(out=True)
    out.print(str(fitted.summary()), markup=False, highlight=False)
    out.print()
    out.print(str(compared), markup=False, highlight=False)


@infer.command()
def pte(
    data: Rows,
    time: Annotated[str, typer.Option(help="Column of follow-up, to death or censoring.", show_default=False)],
    event: Annotated[str, typer.Option(help="Column with 1 for a death.", show_default=False)],
    arm: Annotated[str, typer.Option(help="Column with 1 for treatment and 0 for the reference.", show_default=False)],
    surrogate: Annotated[str, typer.Option(help="Column of the time of the early event, or empty.", show_default=False)],
    t0: Annotated[float, typer.Option(help="Early time, in the unit of the data.", show_default=False)],
    t: Annotated[float, typer.Option("--t", help="Late time.", show_default=False)],
    strata: Annotated[str | None, typer.Option(help="Column of strata, such as trials.", show_default=False)] = None,
    splits: Annotated[int, typer.Option(help="Random halvings.", min=1)] = 20,
    perturbations: Annotated[int, typer.Option(help="Vectors of multipliers behind the intervals.", min=50)] = 500,
    figure: Figure = None,
    page: Page = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Share of a treatment's effect on survival to t that is known at t0, with its interval."""
    from locum.infer import SurrogatePTE

    table = _table(data)
    columns = {one: _column(table, one, data) for one in (time, event, arm, surrogate, *([strata] if strata else []))}
    fitted = SurrogatePTE(t0, t, n_splits=splits, n_perturb=perturbations, random_state=seed).fit(
        columns[time], columns[event], columns[arm], columns[surrogate], strata=None if strata is None else columns[strata]
    )
    if figure is not None:
        from locum.plots import plot_transformation

        drawn(plot_transformation(fitted.g_).figure, figure)
    _paged(fitted, page)
    table_of = fitted.summary()
    if json:
        fidelity = {name: found.to_dict() for name, found in fitted.fidelity_.items()}
        emit({**table_of.to_dict(), "fidelity": fidelity, "figure": whole(figure), "page": whole(page)})
        return
    out = console(out=True)
    out.print(str(table_of), markup=False, highlight=False)
    for name, found in fitted.fidelity_.items():
        out.print(f"{name}: {found}", markup=False, highlight=False)


# ---------------------------------------------------------------------- parts
def _pair(text: str) -> tuple[str, list[str]]:
    column, equals, cheap = text.partition("=")
    names = [name.strip() for name in cheap.split(",") if name.strip()]
    if not (equals and column.strip() and names):
        raise InvalidData(f"expected --labels as COLUMN=CHEAP1,CHEAP2, got {text!r}")
    return column.strip(), names


def _probability(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _table(path: Path) -> dict[str, Any]:
    """Columns by name; missing text is None, missing numbers are NaN."""
    from locum.targets import read_csv

    table, _ = read_csv(path)
    out: dict[str, Any] = {}
    for name in table.dtype.names or ():
        column = table[name]
        if column.dtype.kind == "U":
            missing, column = column == "", column.astype(object)
            column[missing] = None
        out[name] = column
    return out


def _paged(fitted: Any, path: Path | None) -> None:
    if path is None:
        return
    try:
        fitted.to_html(path)
    except OSError as error:
        raise InvalidData(f"cannot write the page {path}: {error}") from error


def _column(table: dict[str, Any], name: str, path: Path) -> Any:
    if name not in table:
        raise InvalidData(f"{path} has no column {name!r}; it has {', '.join(table)}")
    return table[name]
