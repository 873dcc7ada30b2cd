"""What the commands share: rows and targets from arguments, prices, progress, and what is printed."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from locum.core.errors import InvalidData

if TYPE_CHECKING:
    from rich.console import Console

    from locum.core.domain import Domain
    from locum.core.target import Target

__all__ = [
    "Answer", "Ask", "Budget", "Categorical", "Data", "Drop", "Figure", "How", "Json", "LedgerPath", "Method", "Model", "Money",
    "Pickle", "Seed", "Trust", "Yes", "confirm", "consent", "console", "drawn", "emit", "opened", "whole", "working",
]  # fmt: skip

Data = Annotated[Path, typer.Argument(help="Rows: a CSV file with a header. No labels are needed.", show_default=False)]
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="The black box: module:function, or a model file.", show_default=False)
]
Answer = Annotated[
    str | None,
    typer.Option("--answer", "-a", help="The column of recorded answers, where there is no model to ask.", show_default=False),
]
Method = Annotated[str, typer.Option(help="What to ask of a predictor: predict, predict_proba or decision_function.")]
Drop = Annotated[list[str] | None, typer.Option(help="A column to leave out; can be given again.", show_default=False)]
Categorical = Annotated[
    list[str] | None, typer.Option(help="A column of numbers that are codes of categories.", show_default=False)
]
Budget = Annotated[
    int | None, typer.Option("--budget", "-b", help="Rows to ask for fitting; as many as there are, if not given.", min=1)
]
Money = Annotated[float, typer.Option("--price", help="Money a row costs.", min=0.0)]
LedgerPath = Annotated[
    Path | None, typer.Option("--ledger", help="File that keeps what was asked, so that nothing is paid twice.")
]
Pickle = Annotated[bool, typer.Option("--trust-pickle", help="Load pickled models, which run whatever code they hold.")]
Trust = Annotated[
    list[str] | None, typer.Option("--trust", help="A type in a .skops file that may be loaded; can be given again.")
]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same numbers.", min=0)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask without confirmation, whatever it costs.")]
Figure = Annotated[Path | None, typer.Option("--figure", help="File for a picture: .png, .svg or .pdf.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]

_FREE_MONEY, _FREE_SECONDS = 1.0, 300.0  # above these a price is confirmed first
_TIMED_ROWS = 20


@dataclass(frozen=True)
class Ask:
    """A target, the rows given with it, and what they were read for."""

    target: Target
    rows: Any
    domain: Domain
    predictor: Any = None

    def read(self, path: Path) -> Any:
        """Rows of another file, in the container that the target takes."""
        from locum.targets import read_csv

        table, _ = read_csv(path)
        names = list(self.domain.names)
        missing = [name for name in names if name not in (table.dtype.names or ())]
        if missing:
            raise InvalidData(f"{path} lacks the column {missing[0]!r}; expected {', '.join(names)}")
        return _as_the_model_takes_them(table[names], self.predictor)


@dataclass(frozen=True)
class How:
    """How a target is to be asked; the fields are the options of the same names."""

    method: str
    drop: list[str] | None
    categorical: list[str] | None
    trust_pickle: bool
    trust: list[str] | None
    price: float
    ledger: Path | None


def opened(data: Path, model: str | None, answer: str | None, how: How) -> Ask:
    """The target and rows that the arguments name."""
    from locum.core.domain import Domain
    from locum.targets import load_model, read_csv, recorded, target

    if (model is None) == (answer is None):
        raise InvalidData("expected either --model (a black box to ask) or --answer (a column of recorded answers)")
    table, answers = read_csv(data, answer, drop=how.drop or ())
    if answer is not None:
        name = f"{answer} in {data.name}"
        return Ask(recorded(table, answers, name=name, price=how.price, ledger=how.ledger), table, Domain.of(table))
    assert model is not None
    predictor: Any = model
    if Path(model).suffix.lower() in (".skops", ".joblib", ".pkl", ".pickle"):
        predictor = load_model(model, trust_pickle=how.trust_pickle, trusted=how.trust or ())
    rows = _as_the_model_takes_them(table, predictor)
    names = None if hasattr(rows, "columns") else list(table.dtype.names or ())
    domain = Domain.of(rows, names=names, categorical=how.categorical or ())
    return Ask(target(predictor, method=how.method, price=how.price, ledger=how.ledger), rows, domain, predictor)


def _as_the_model_takes_them(table: Any, predictor: Any) -> Any:
    """An array where all columns are numbers and the model knows no names, else a frame."""
    numeric = all(table.dtype[name].kind in "biuf" for name in table.dtype.names)
    if numeric and not hasattr(predictor, "feature_names_in_"):
        return np.column_stack([table[name].astype(float) for name in table.dtype.names])
    try:
        import pandas
    except ImportError as error:
        from locum.core.errors import MissingExtra

        raise MissingExtra(
            "rows with text, or for a model with column names, are given as a frame; pip install 'locum[data]'"
        ) from error
    frame = pandas.DataFrame({name: table[name] for name in table.dtype.names})
    text = [name for name in table.dtype.names if table.dtype[name].kind == "U"]
    return frame.astype(dict.fromkeys(text, object)).where(frame != "", None) if text else frame


# ---------------------------------------------------------------------- price and progress
def confirm(target: Target, rows: int, sample: Any, purpose: str, *, yes: bool, quiet: bool) -> None:
    """Say what asking will cost, and wait for consent where that is much; a few rows of a sample are timed to know."""
    if target.recorded:
        return
    if sample is not None and math.isnan(target.estimate(1).seconds):
        target.query(sample[:_TIMED_ROWS], purpose)
    price = target.estimate(rows)
    if not quiet:
        console().print(f"Asking {target.name}: about {price}.", highlight=False, markup=False)
    if yes or (price.money <= _FREE_MONEY and not price.seconds > _FREE_SECONDS):
        return
    consent(f"this will cost about {price}", "give a smaller --budget")


def consent(what: str, otherwise: str) -> None:
    """Wait for consent; where nobody is there to give it, say what to do instead."""
    if not sys.stdin.isatty():
        raise InvalidData(f"{what}; say --yes to agree, or {otherwise}")
    typer.confirm(f"{what[0].upper()}{what[1:]}. Go on?", abort=True, err=True)


@contextmanager
def working(what: str, *, quiet: bool, target: Target | None = None, rows: int = 0) -> Iterator[Any]:
    """A progress bar on standard error; gives a function (done, all, what) that moves it.

    With a target it also counts the rows answered so far against the rows expected.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda done, total, stage: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True) as bars:
        main = bars.add_task(what, total=None)
        ended = threading.Event()
        watcher = None
        if target is not None and rows:
            asked = bars.add_task("rows answered", total=rows)
            begun = len(target.ledger)

            def watch() -> None:
                while not ended.wait(0.2):
                    bars.update(asked, completed=len(target.ledger) - begun)

            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
        try:
            yield lambda done, total, stage: bars.update(main, completed=done, total=total, description=f"{what}: {stage}")
        finally:
            ended.set()
            if watcher is not None:
                watcher.join()


# ---------------------------------------------------------------------- printing
def console(*, out: bool = False) -> Console:
    """Where people read: standard error, or standard output for what was asked for."""
    from rich.console import Console

    return Console(stderr=not out, soft_wrap=True)


def emit(record: Any) -> None:
    """One JSON object on standard output; NaN and infinity become null."""
    from locum.core.report import plain

    sys.stdout.write(json.dumps(plain(record), allow_nan=False) + "\n")


# ---------------------------------------------------------------------- files
def drawn(figure: Any, path: Path) -> None:
    """Write a picture; its ending says of which kind."""
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InvalidData(f"cannot write the figure {path}: {error}") from error


def whole(path: Path | None) -> str | None:
    """A path from the root on, as a record has it."""
    return None if path is None else str(path.resolve())
