"""Commands that test whether explanations help a reader to foretell a black box: on machine students, and on people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

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
    whole,
    working,
)
from locum.core.errors import InvalidData

__all__ = ["simulate"]

simulate = typer.Typer(
    name="simulate",
    help="Does an explanation help a reader to foretell the black box?",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# What can be shown: its class, and the machine students that can read it.
_CONDITIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "lime": ("Lime", ("AdditiveStudent", "WeightsStudent")),
    "omission": ("Omission", ("AdditiveStudent", "WeightsStudent")),
    "anchor": ("Anchor", ("RuleStudent",)),
    "boundary": ("Boundary", ("KNNStudent", "TreeStudent")),
}
_ITEM = 5_000  # rows that explaining one item may ask, at most

StudyFile = Annotated[Path, typer.Argument(help="A study, as `locum simulate students --study` wrote it.", show_default=False)]
Takers = Annotated[int, typer.Option(help="Numbers of takers that the page knows.", min=1)]


@simulate.command()
def students(
    data: Data,
    label: Annotated[
        str, typer.Option("--label", "-l", help="Column of what is true, in the two classes that the model answers.")
    ],
    model: Model = None,
    show: Annotated[
        list[str] | None,
        typer.Option(help=f"What is shown: {', '.join(_CONDITIONS)}; can be given again. Else lime.", show_default=False),
    ] = None,
    kind: Annotated[str, typer.Option(help="forward (new items) or counterfactual (changed ones).")] = "forward",
    learn: Annotated[int, typer.Option(help="Items to learn from.", min=4)] = 16,
    ask: Annotated[int, typer.Option("--ask", help="Items that are asked.", min=4)] = 32,
    readers: Annotated[int, typer.Option(help="Machine students of each kind, with items of their own.", min=1)] = 20,
    ranges: Annotated[int, typer.Option(help="Ranges that columns of numbers are cut into.", min=2)] = 3,
    study: Annotated[Path | None, typer.Option(help="File for the same test with people: a study.", show_default=False)] = None,
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
    """Machine students foretell the model's answers, before and after they are shown explanations.

    Half of DATA is to learn from and half to be asked about. Items are balanced by whether the model is right. "nothing" (the
    items again) and "shuffled" (weights of lime on other facts) stand beside what is shown.
    """
    from locum.explain import simulatability

    asked = opened(data, model, None, How(method, [*(drop or ()), label], categorical, trust_pickle, trust, price, ledger))
    shown = list(dict.fromkeys(show or ["lime"]))
    conditions, labels = _conditions(shown), _labels(data, label)
    reading = dict.fromkeys(name for one in shown for name in _CONDITIONS[one][1])
    items = readers * (learn if kind == "forward" else ask)
    most = len(asked.rows) + items * _ITEM * len(shown)
    confirm(asked.target, most, asked.rows, "fit", yes=yes, quiet=json)
    with working("explaining", quiet=json, target=asked.target, rows=most):
        test = _test(asked, labels, kind, learn, ask, ranges, seed)
        found = test.run(conditions, [getattr(simulatability, name)() for name in reading], seeds=range(seed, seed + readers))
        if study is not None:
            test.study(conditions).save(study)
    _told(found, json, {"study": whole(study), "account": str(asked.target.account())})


@simulate.command()
def take(
    study: StudyFile,
    taker: Annotated[int, typer.Option("--taker", "-t", help="Your number, from 1.", min=1, show_default=False)],
    answers: Annotated[
        Path | None, typer.Option("--answers", help="File for the answers; answers_<number>.csv, if not given.")
    ] = None,
) -> None:
    """Take a study at this terminal. Each answer is kept at once; a study that was stopped goes on where it was."""
    from locum.explain.simulatability import Study

    try:
        Study.load(study).take(taker, answers)
    except EOFError:
        raise InvalidData("the answers ended before the study did; they are kept, so take it again to go on") from None


@simulate.command()
def page(
    study: StudyFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the page.")] = Path("take.html"),
    takers: Takers = 60,
    json: Json = False,
) -> None:
    """One page that works from disk, for those who take the study: what is asked cannot be read out of it."""
    from locum.explain.simulatability import Study

    Study.load(study).to_html(output, takers=takers)
    if json:
        emit({"page": str(output.resolve()), "takers": takers})
        return
    console(out=True).print(f"{output.resolve()}: for takers 1 to {takers}", markup=False, highlight=False)


@simulate.command()
def serve(
    study: StudyFile,
    folder: Annotated[Path, typer.Argument(help="Folder for the answers, one file a taker; made if new.", show_default=False)],
    port: Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535)] = 0,
    takers: Takers = 60,
    json: Json = False,
) -> None:
    """Serve the page to this machine alone, and keep answers as they come, until interrupted."""
    from locum.explain.simulatability import Study

    found = Study.load(study)
    folder.mkdir(exist_ok=True)
    with found.serve(folder, port=port, takers=takers) as server:
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        if json:
            emit({"address": address, "folder": str(folder.resolve())})
        else:
            console(out=True).print(f"{address} until interrupted; answers go to {folder}", markup=False, highlight=False)
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


@simulate.command()
def analyse(
    study: StudyFile,
    answers: Annotated[list[Path], typer.Argument(help="Files of answers, one a taker.", show_default=False)],
    json: Json = False,
) -> None:
    """What people's answers say: what each condition did to their guesses, with intervals over people and items."""
    from locum.explain import simulatability

    _told(simulatability.analyse(answers, simulatability.Study.load(study)), json, {})


# ---------------------------------------------------------------------- parts
def _conditions(names: list[str]) -> dict[str, Any]:
    from locum.explain import simulatability

    strange = [name for name in names if name not in _CONDITIONS]
    if strange:
        raise InvalidData(f"expected --show to be one of {', '.join(_CONDITIONS)}, got {strange[0]!r}")
    out = {name: getattr(simulatability, _CONDITIONS[name][0])() for name in names}
    controls: dict[str, Any] = {"nothing": None}
    if "lime" in out:
        controls["shuffled"] = simulatability.Shuffled(out["lime"])
    return out | controls


def _labels(data: Path, label: str) -> Any:
    from locum.targets import read_csv

    labels = read_csv(data, label)[1]
    assert labels is not None
    classes = np.unique(labels).tolist()
    if len(classes) != 2:  # said before the model is asked
        raise InvalidData(f"expected two classes in {label}, got {len(classes)}: {', '.join(map(str, classes[:5]))}")
    # Whole numbers come as floats from a file; the model answers 1, not 1.0.
    return labels.astype(int) if labels.dtype.kind == "f" and (labels == labels.astype(int)).all() else labels


def _test(asked: Ask, labels: Any, kind: str, learn: int, ask: int, ranges: int, seed: int) -> Any:
    from locum.explain.simulatability import SimulationTest, in_ranges

    target, rows = in_ranges(asked.target, asked.rows, domain=asked.domain, ranges=ranges)
    order = np.random.default_rng(seed).permutation(len(rows))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    return SimulationTest.build(
        target, rows[first], labels[first], rows[second], labels[second],
        kind=kind, n_learn=learn, n_test=ask, domain=target.domain, random_state=seed,
    )  # fmt: skip


def _told(found: Any, json: bool, more: dict[str, Any]) -> None:
    if json:
        emit(found.to_dict() | more)
        return
    out = console(out=True)
    out.print(str(found), markup=False, highlight=False)
    for name, value in more.items():
        if value is not None:
            out.print(f"{name}: {value}", markup=False, highlight=False)
