"""Commands for the inside of a network: collect activations, train a dictionary on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from locum.cli._io import Json, Seed, Yes, consent, console, emit, working
from locum.core.errors import InvalidData, require_one_of

__all__ = ["inside"]

inside = typer.Typer(
    name="inside", help="Stand-ins for the activations of a network.", no_args_is_help=True, rich_markup_mode=None
)

_LONG = 300.0  # seconds above which a collection is confirmed first
_BY = ("file", "paragraph", "line")
_ENCODERS = ("topk", "batchtopk", "matryoshka", "relu", "gated", "jumprelu", "pursuit")


@inside.command()
def collect(
    model: Annotated[str, typer.Argument(help="smollm2, minilm, or a folder that transformers reads.", show_default=False)],
    text: Annotated[list[Path], typer.Argument(help="Text files.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the activations.", show_default=False)],
    site: Annotated[
        list[str],
        typer.Option(
            "--site", "-s", help="NAME=MODULE, NAME=MODULE:in or NAME=MODULE:in:HEADS; again for more.", show_default=False
        ),
    ],
    by: Annotated[
        str, typer.Option(help="What a document is: file, paragraph or line. Documents are split, not tokens.")
    ] = "file",
    rows: Annotated[int | None, typer.Option(help="Tokens to keep; all, if not given.", min=1)] = None,
    context: Annotated[int, typer.Option(help="Longest sequence; longer documents are cut.", min=2)] = 256,
    batch: Annotated[int, typer.Option(help="Sequences in a pass.", min=1)] = 16,
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    keep_first: Annotated[bool, typer.Option(help="Keep first positions, which are sinks in many models.")] = False,
    seed: Seed = 0,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Run a model over text and keep its activations at some sites, in one pass.

    It says beforehand what that takes. One that was stopped goes on where it was, by the same command.
    """
    from locum.inside import ActivationStore, Tap, every_position, first_position

    require_one_of(_BY, by=by)
    network, tokenizer = _network(model)
    tap = Tap(network, dict(_site(one) for one in site))
    settings: dict[str, Any] = {
        "tokenizer": tokenizer, "rows": rows, "context": context, "batch_size": batch, "dtype": dtype, "random_state": seed,
        "keep": every_position if keep_first else ~first_position,
    }  # fmt: skip
    documents = _documents(text, by)
    if not (output / "manifest.json").exists():
        _agree(str(found := ActivationStore.estimate(tap, documents, output, **settings)), found.seconds, yes=yes, quiet=json)
    with working("collecting", quiet=json) as progress:
        store = ActivationStore.collect(tap, documents, output, progress=progress, **settings)
    counts = {split: store[store.sites[0]].count(split) for split in ("train", "val", "test")}
    if json:
        emit({"folder": str(output.resolve()), "hash": store.hash, "rows": counts, "sites": store.manifest["sums"]})
        return
    out = console(out=True)
    out.print(f"{output}: {', '.join(f'{n} rows to {split}' for split, n in counts.items())}", markup=False, highlight=False)
    for name, sums in store.manifest["sums"].items():
        low, middle, high = (sums["norm_quantiles"][share] for share in ("0", "0.5", "1"))
        out.print(f"  {name}: lengths {low:.3g} to {high:.3g}, median {middle:.3g}", markup=False, highlight=False)


@inside.command()
def train(
    store: Annotated[Path, typer.Argument(help="Folder that collect wrote.", show_default=False)],
    site: Annotated[str, typer.Argument(help="Name of a site.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the dictionary.", show_default=False)],
    latents: Annotated[int, typer.Option(help="Number of latents.", min=1)] = 4096,
    encoder: Annotated[str, typer.Option(help=f"{', '.join(_ENCODERS)}.")] = "batchtopk",
    k: Annotated[int, typer.Option("-k", help="Active latents a row that are wanted.", min=1)] = 32,
    target: Annotated[str | None, typer.Option(help="Site to give back from SITE: a transcoder.", show_default=False)] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the rows.", min=1)] = 1,
    batch: Annotated[int, typer.Option(help="Rows a step.", min=1)] = 2048,
    rate: Annotated[float | None, typer.Option(help="Learning rate; by the number of latents, if not given.")] = None,
    saelens: Annotated[Path | None, typer.Option(help="Also write a folder that SAELens loads.", show_default=False)] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Learn a dictionary of the activations at a site, and say on held-out documents how faithful it is.

    One that was stopped goes on where it was, by the same command, and ends with the same numbers.
    """
    from locum.inside import ActivationStore, reconstruction_rivals, to_saelens

    require_one_of(_ENCODERS, encoder=encoder)
    found = ActivationStore.open(store)
    rows, given = found[site], None if target is None else found[target]
    settings: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "learning_rate": rate, "random_state": seed}
    dictionary = _dictionary(encoder, latents, k, settings)
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = output / "training.pt"
    with working("training", quiet=json) as progress:
        dictionary.fit(rows, given, checkpoint=checkpoint, progress=progress)
    dictionary.save(output)
    checkpoint.unlink(missing_ok=True)
    if saelens is not None:
        to_saelens(dictionary, saelens, metadata={"hook_name": found.manifest["sites"][site]["site"]})
    split = "test" if rows.count("test") else "train"
    held, documents = rows.rows(split)[:20_000], rows.documents(split)[:20_000]
    goal = held if given is None else given.rows(split)[:20_000]
    told = dictionary.fidelity(held, goal, documents=documents)
    rivals = reconstruction_rivals(rows if given is None else given, goal, round(told["L0"].value), documents=documents)
    if json:
        emit({
            "folder": str(output.resolve()), "split": split, "fidelity": {name: one.to_dict() for name, one in told.items()},
            "rivals": {name: one.to_dict() for name, one in rivals.items()}, "dead_in_training": dictionary.record_.dead,
        })  # fmt: skip
        return
    out = console(out=True)
    for one in told.values():
        out.print(str(one), markup=False, highlight=False)
    for name, one in rivals.items():
        out.print(f"beside it, {name}: {one}", markup=False, highlight=False)


# ---------------------------------------------------------------------- parts
def _network(model: str) -> tuple[Any, Any]:
    from locum.nets.pretrained import minilm, smollm2

    found = minilm() if model == "minilm" else smollm2() if model == "smollm2" else smollm2(model)
    return found.model, found.tokenizer


def _site(said: str) -> tuple[str, tuple[Any, ...]]:
    name, equals, where = said.partition("=")
    parts = where.split(":")
    if not (name and equals and parts[0]) or len(parts) > 3 or (len(parts) == 3 and not parts[2].isdigit()):
        raise InvalidData(f"expected --site as NAME=MODULE, NAME=MODULE:in or NAME=MODULE:in:HEADS, got {said!r}")
    return name, (*parts[:2], int(parts[2])) if len(parts) == 3 else tuple(parts)


def _documents(paths: list[Path], by: str) -> list[str]:
    found: list[str] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidData(f"cannot read text from {path}: {error}") from error
        pieces = {"file": [text], "paragraph": re.split(r"\n\s*\n", text), "line": text.split("\n")}[by]
        found += [piece.strip() for piece in pieces if piece.strip()]
    if len(found) < 3:
        raise InvalidData(f"expected three documents or more, to train, choose and test on, got {len(found)}; see --by")
    return found


def _agree(cost: str, seconds: float, *, yes: bool, quiet: bool) -> None:
    """Say what a collection takes, and wait for consent where that is long."""
    if not quiet:
        console().print(f"This takes {cost}.", highlight=False, markup=False)
    if not yes and seconds > _LONG:
        consent(f"this takes {cost}", "keep fewer --rows")


def _dictionary(encoder: str, latents: int, k: int, settings: dict[str, Any]) -> Any:
    from locum import inside as room

    if encoder == "pursuit":
        return room.MatchingPursuitSAE(latents, k, **settings)
    made = {
        "topk": room.TopK(k), "batchtopk": room.BatchTopK(k), "matryoshka": room.Matryoshka(room.BatchTopK(k)),
        "relu": room.ReLU(float(k)), "gated": room.Gated(float(k)), "jumprelu": room.JumpReLU(float(k)),
    }  # fmt: skip
    return room.SparseAutoencoder(latents, made[encoder], **settings)
