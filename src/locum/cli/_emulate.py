"""Commands for dynamics: learn an emulator from trajectories, let it run on, say how faithful it is."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from locum.cli._io import Figure, Json, Seed, console, drawn, emit, whole, working
from locum.core.errors import InvalidData, OutsideRegion, require_one_of

__all__ = ["emulate"]

emulate = typer.Typer(
    name="emulate", help="Stand-ins for dynamics that were observed or simulated.", no_args_is_help=True, rich_markup_mode=None
)

_KINDS = ("reconstructor", "koopman")

Runs = Annotated[
    Path,
    typer.Argument(help="Trajectories: .csv, .parquet, .nc, .h5 or .zarr; units in brackets: speed [m/s].", show_default=False),
]
Saved = Annotated[Path, typer.Argument(help="File that fit wrote.", show_default=False)]
Time = Annotated[str, typer.Option(help="Column, or dimension, of times.")]
Run = Annotated[str, typer.Option(help="Column, or dimension, that tells runs apart.")]
Gaps = Annotated[str, typer.Option(help="Rows with NaN: refuse, split or interpolate.")]


@emulate.command()
def fit(
    data: Runs,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the emulator (.npz).", show_default=False)],
    kind: Annotated[str, typer.Option(help=f"{' or '.join(_KINDS)}.")] = "reconstructor",
    latents: Annotated[int | None, typer.Option(help="Latent states; as many as columns, or 32 for koopman.", min=1)] = None,
    hidden: Annotated[int, typer.Option(help="Hidden units.", min=1)] = 50,
    window: Annotated[int, typer.Option(help="Steps of a training window.", min=8)] = 40,
    updates: Annotated[int, typer.Option(help="Training steps.", min=1)] = 5000,
    held: Annotated[float, typer.Option(help="Share of each run, at its end, that is held out to judge on.")] = 0.2,
    time: Time = "time",
    run: Run = "run",
    gaps: Gaps = "refuse",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Learn an emulator of trajectories, and say on the end of each run, held out, how faithful it is."""
    from locum.emulate import DynamicsReconstructor, KoopmanEmulator, read_trajectories

    require_one_of(_KINDS, kind=kind)
    runs = read_trajectories(data, time=time, run=run, gaps=gaps)
    early, late = runs.split_time(1 - held)
    model: Any
    if kind == "reconstructor":
        few = latents or max(3, runs.dimension)
        model = DynamicsReconstructor(
            latent_dim=few, hidden_dim=hidden, sequence_length=window, max_updates=updates, lr=(1e-2, 1e-4), random_state=seed
        )
    else:
        model = KoopmanEmulator(
            latents or 32, hidden=(hidden,), window=window, rollout_steps=min(15, window - 1), max_updates=updates,
            largest_modulus=1.0, random_state=seed,
        )  # fmt: skip
    with working("training", quiet=json) as progress:
        model.fit(early, progress=progress)
    model.save(output)
    _tell(model, late, json, {"file": whole(output)}, None)


@emulate.command()
def rollout(
    emulator: Saved,
    data: Runs,
    steps: Annotated[int, typer.Option("--steps", "-n", help="Steps to go on for.", min=1, show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the trajectories (.csv).", show_default=False)],
    time: Time = "time",
    run: Run = "run",
    gaps: Gaps = "refuse",
    figure: Figure = None,
    json: Json = False,
) -> None:
    """Go on from the last row of each run."""
    from locum.emulate import Trajectories, write_trajectories

    model, runs = _loaded(emulator, data, time, run, gaps)
    said, left = _runs_on(model, runs.states, steps)
    starts = tuple(runs.times(i)[-1] + runs.dt for i in range(len(runs)))
    out = Trajectories(tuple(said), runs.dt, starts, runs.parameters, runs.names, runs.units, runs.time_unit)
    write_trajectories(out, output, time=time, run=run)
    if figure is not None:
        _draw({"given": runs.states[0], "runs on": said[0]}, runs, figure)
    if json:
        emit({"file": whole(output), "runs": len(runs), "steps": steps, "figure": whole(figure), "outside": left})
        return
    console(out=True).print(f"{output}: {steps} steps after each of {len(runs)} runs", markup=False, highlight=False)


@emulate.command()
def score(
    emulator: Saved,
    data: Runs,
    horizon: Annotated[int, typer.Option(help="Steps ahead of the prediction error.", min=1)] = 20,
    exponent: Annotated[
        float | None, typer.Option(help="Largest Lyapunov exponent, to tell the valid prediction time.", show_default=False)
    ] = None,
    time: Time = "time",
    run: Run = "run",
    gaps: Gaps = "refuse",
    figure: Figure = None,
    json: Json = False,
) -> None:
    """Say how faithful an emulator is on trajectories that it was not fitted on."""
    model, runs = _loaded(emulator, data, time, run, gaps)
    if figure is not None:
        (free,), _ = _runs_on(model, [runs.states[0][:1]], len(runs.states[0]))
        _draw({"truth": runs.states[0], "free run": free}, runs, figure)
    _tell(model, runs, json, {"figure": whole(figure)}, exponent, horizon)


@emulate.command()
def export(
    emulator: Saved,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File for the program: .onnx, or .pt2 for PyTorch.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Write an emulator as a program that runs without Locum; it knows no region and gives no warnings."""
    from locum.emulate import load_emulator

    load_emulator(emulator).export(output)
    if json:
        emit({"file": whole(output), "bytes": output.stat().st_size})
        return
    console(out=True).print(f"{output}: {output.stat().st_size:,} bytes", markup=False, highlight=False)


# ---------------------------------------------------------------------- parts
def _loaded(emulator: Path, data: Path, time: str, run: str, gaps: str) -> tuple[Any, Any]:
    """An emulator, and trajectories that it can be used on."""
    from locum.emulate import load_emulator, read_trajectories

    model, runs = load_emulator(emulator), read_trajectories(data, time=time, run=run, gaps=gaps)
    if not hasattr(model, "forecast"):
        raise InvalidData(f"expected an emulator of trajectories, got {type(model).__name__}: use it from Python")
    return model, model.schema_.taken(runs, where=f" in {data}, as in fit")


def _runs_on(model: Any, histories: Sequence[Any], steps: int) -> tuple[list[Any], list[str]]:
    """What follows on each, and which of them leave what was learned from; told on standard error as well."""
    said, left = [], []
    for i, states in enumerate(histories):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", OutsideRegion)
            said.append(model.forecast(states, steps))
        left += [f"run {i}: {one.message}" for one in caught]
    for line in left:
        console().print(f"warning: {line}", markup=False, highlight=False)
    return said, left


def _draw(states: dict[str, Any], runs: Any, figure: Path) -> None:
    from locum.plots import plot_attractors

    drawn(plot_attractors(states, columns=(0, min(1, runs.dimension - 1)), dt=runs.dt), figure)


def _tell(model: Any, runs: Any, json: bool, beside: dict[str, Any], exponent: float | None, horizon: int = 20) -> None:
    from locum.emulate import judge_dynamics

    ahead = min(horizon, max(1, min(runs.lengths) // 4))
    report = judge_dynamics(model, runs, horizon=ahead, exponent=exponent, history=1)
    if json:
        scores = {
            name: {"values": one.values, "floor": one.floor, "fidelity": None if (f := one.fidelity()) is None else f.to_dict()}
            for name, one in report.scores.items()
        }
        emit({"scores": scores, "runs": report.n_runs, "diverged": report.n_diverged} | beside)
        return
    console(out=True).print(str(report), markup=False, highlight=False)
