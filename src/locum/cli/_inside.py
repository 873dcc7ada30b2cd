"""Commands for the inside of a network: collect activations, train a dictionary on them, look at its latents."""

from __future__ import annotations

import json as json_text
import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from locum.cli._io import Json, Seed, Yes, consent, console, emit, whole, working
from locum.core.errors import InvalidData, require_one_of

__all__ = ["inside"]

inside = typer.Typer(
    name="inside", help="Stand-ins for the activations of a network.", no_args_is_help=True, rich_markup_mode=None
)

_LONG = 300.0  # seconds above which a collection is confirmed first
_PASSAGES = 3 * 12 + 2 * 8  # run for the effects of a latent: its own in three ways, and prompts in two
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
    if not (json or checkpoint.exists()):
        _say(str(dictionary.estimate(rows, given)))
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


@inside.command()
def page(
    source: Annotated[
        Path, typer.Argument(help="Folder of a dictionary or a transcoder, or a JSON file of records.", show_default=False)
    ],
    model: Annotated[str | None, typer.Argument(help="As for collect; none for a file of records.", show_default=False)] = None,
    text: Annotated[
        list[Path] | None, typer.Argument(help="Text files that did not fit the dictionary.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the page.")] = Path("features.html"),
    site: Annotated[
        str | None, typer.Option("--site", "-s", help="MODULE or MODULE:in where it reads.", show_default=False)
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Where it writes, if elsewhere: a transcoder's.", show_default=False)
    ] = None,
    by: Annotated[
        str, typer.Option(help="What a document is: file, paragraph or line. Intervals are over documents.")
    ] = "file",
    most: Annotated[int, typer.Option(help="Latents shown; drawn at random, if more are active.", min=1)] = 500,
    latent: Annotated[list[int] | None, typer.Option("--latent", "-l", help="A latent to show; again for more.")] = None,
    effects: Annotated[int, typer.Option(help="Latents of which it is measured what ablation and steering do.", min=0)] = 8,
    names: Annotated[
        Path | None,
        typer.Option(help='JSON of names: {"17": "rivers"}, or with a score as a fidelity record.', show_default=False),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Of the page.", show_default=False)] = None,
    records: Annotated[Path | None, typer.Option(help="Also write the records, as JSON.", show_default=False)] = None,
    context: Annotated[int, typer.Option(help="Longest sequence; longer documents are cut.", min=2)] = 128,
    batch: Annotated[int, typer.Option(help="Sequences in a pass.", min=1)] = 8,
    keep_first: Annotated[bool, typer.Option(help="Show first positions too.")] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Write a page of a dictionary's latents: where each is active, what it writes, and what it causes.

    The page is one file that needs nothing else. From a file of records it is made without a model.
    """
    from dataclasses import replace

    from locum.inside import FeaturePage

    if source.suffix == ".json":
        if model is not None:
            raise InvalidData("expected no model beside a file of records")
        found = FeaturePage.load(source)
    else:
        if model is None or not text or site is None:
            raise InvalidData("expected a model, text files and --site, or a file of records that ends in .json")
        require_one_of(_BY, by=by)
        shown = {"context": context, "batch_size": batch, "random_state": seed}
        documents, loaded = _documents(text, by, 1), _network(model)
        if not json:
            _say(_longest(loaded, documents, context, batch, effects))
        with working("describing", quiet=json) as progress:
            found = _described(
                source, model, loaded, documents, site, target, keep_first, latent, most, effects, shown, progress
            )
    if names is not None:
        found = found.named(_names(names))
    if title is not None:
        found = replace(found, title=title)
    if records is not None:
        found.save(records)
    found.to_html(output)
    told = {
        "page": whole(output), "records": whole(records), "shown": len(found.records), "n_latents": found.n_latents,
        "effects": sum(bool(one.effects) for one in found.records), "named": sum(bool(one.name) for one in found.records),
        "fidelity": [one.to_dict() for one in found.fidelity],
    }  # fmt: skip
    if json:
        emit(told)
        return
    out = console(out=True)
    for one in found.fidelity:
        out.print(str(one), markup=False, highlight=False)
    out.print(f"{output}: {told['shown']} latents, {told['effects']} with effects", markup=False, highlight=False)


# ---------------------------------------------------------------------- parts
def _described(
    folder: Path, model: str, loaded: tuple[Any, Any], documents: list[str], site: str, target: str | None,
    keep_first: bool, latents: list[int] | None, most: int, effects: int, settings: dict[str, Any], progress: Any,
) -> Any:  # fmt: skip
    """Records of the latents of a dictionary on the activations of a model."""
    from locum import inside as room

    made = room.Transcoder.load(folder) if (folder / "transcoder.json").exists() else room.Dictionary.load(folder)
    dictionary = made.dictionary_ if isinstance(made, room.Transcoder) else made
    network, tokenizer = loaded
    sites = {"site": _site(f"site={site}")[1]} | ({} if target is None else {"target": _site(f"target={target}")[1]})
    tap = room.Tap(network, sites)
    keep = room.every_position if keep_first else ~room.first_position
    units = room.coded_text(tap, "site", made, documents, tokenizer, keep=keep, **settings)
    causal, seed, outputs = hasattr(network, "lm_head"), settings["random_state"], None
    if causal:
        matrix = room.unembedding(network)
        outputs = matrix if matrix.shape[1] == dictionary.atoms_.shape[1] else None  # heads and neurons are of another width
    names = [tokenizer.decode([i]) for i in range(len(matrix))] if causal else []
    found = room.describe_features(
        units, dictionary.atoms_, latents=latents, most=most, outputs=outputs, output_names=names, random_state=seed
    )
    if causal and effects:
        at = "site" if target is None else "target"
        first = room.causal_effects(
            tap, at, units, found[:effects], dictionary.atoms_, names, batch_size=settings["batch_size"], random_state=seed,
            progress=progress,
        )  # fmt: skip
        found = [*first, *found[effects:]]
    whole_ = (room.mean_l0(units.codes, documents=units.groups), room.dead_share(units.codes))
    about = f"{type(made).__name__} of {site} of {model}, on {len(documents)} documents."
    return room.FeaturePage(folder.name, tuple(found), "tokens", len(dictionary.atoms_), about, whole_)


def _names(path: Path) -> dict[int, Any]:
    """Names of latents from a file: texts, or texts with fidelity records."""
    try:
        return {int(key): _name(one) for key, one in json_text.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wanted = '{"17": "rivers"}, or with "name" and "score" for each'
        raise InvalidData(f"cannot read names from {path}: {error}; expected {wanted}") from error


def _name(told: Any) -> tuple[str, Any]:
    from locum.core.fidelity import Fidelity

    if isinstance(told, str):
        return told, None
    return str(told["name"]), None if told["score"] is None else Fidelity.from_dict(told["score"])


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


def _documents(paths: list[Path], by: str, least: int = 3) -> list[str]:
    found: list[str] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidData(f"cannot read text from {path}: {error}") from error
        pieces = {"file": [text], "paragraph": re.split(r"\n\s*\n", text), "line": text.split("\n")}[by]
        found += [piece.strip() for piece in pieces if piece.strip()]
    if len(found) < least:
        if not found:
            raise InvalidData("expected text, got none in these files")
        raise InvalidData(f"expected three documents or more, to train, choose and test on, got {len(found)}; see --by")
    return found


def _agree(cost: str, seconds: float, *, yes: bool, quiet: bool) -> None:
    """Say what a collection takes, and wait for consent where that is long."""
    if not quiet:
        _say(cost)
    if not yes and seconds > _LONG:
        consent(f"this takes {cost}", "keep fewer --rows")


def _say(cost: str) -> None:
    console().print(f"This takes {cost}.", highlight=False, markup=False)


def _longest(loaded: tuple[Any, Any], documents: list[str], context: int, batch: int, effects: int) -> str:
    """What a page takes at most: passes through the whole model, by one of them."""
    import torch

    network, tokenizer = loaded
    ids = tokenizer(documents, verbose=False)["input_ids"]
    tokens, longest = sum(map(len, ids)), min(context, max(map(len, ids)))
    given = torch.tensor([[one[i % len(one)] for i in range(longest)] for one in ids[:batch]])
    with torch.inference_mode():
        network(input_ids=given)  # the first pass is slower than others
        start = time.perf_counter()
        network(input_ids=given)
    each = (time.perf_counter() - start) / given.numel()
    passages = effects * _PASSAGES * longest if hasattr(network, "lm_head") else 0
    return f"{tokens} tokens and {passages} more for effects, {(tokens + passages) * each:.0f} s at most"


def _dictionary(encoder: str, latents: int, k: int, settings: dict[str, Any]) -> Any:
    from locum import inside as room

    if encoder == "pursuit":
        return room.MatchingPursuitSAE(latents, k, **settings)
    made = {
        "topk": room.TopK(k), "batchtopk": room.BatchTopK(k), "matryoshka": room.Matryoshka(room.BatchTopK(k)),
        "relu": room.ReLU(float(k)), "gated": room.Gated(float(k)), "jumprelu": room.JumpReLU(float(k)),
    }  # fmt: skip
    return room.SparseAutoencoder(latents, made[encoder], **settings)
