"""Commands that explain networks: classifiers of time series, and transformers that read text."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from locum.cli._io import Figure, Json, Seed, console, drawn, emit, whole, working
from locum.core.errors import InvalidData, need, require_one_of

__all__ = ["COMMANDS"]

_HELD = 5  # one series in so many is kept from the fit, to measure on


def series(
    model: Annotated[
        str, typer.Argument(help="module:object, a torch module, or a function that gives one.", show_default=False)
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="Series: .npy of shape (n, T) or (n, T, channels), or .npz with X, and times if any.", show_default=False
        ),
    ],
    embed: Annotated[
        str | None, typer.Option("--embed", help="Submodule whose output is the embedding.", show_default=False)
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the series.", min=1)] = 50,
    landmarks: Annotated[int, typer.Option(help="Groups of like explanations, at most.", min=1)] = 50,
    maps: Annotated[
        Path | None,
        typer.Option("--maps", help="File .npz for saliency, mask and landmark of the series kept apart.", show_default=False),
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="File for the explainer.", show_default=False)] = None,
    figure: Figure = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Where a trained classifier of time series looks, by a masked encoder that stands in for it.

    One series in five is kept from the fit. On these it says how far the encoder may stand in for the classifier.
    """
    from locum.core._imported import imported
    from locum.explain.timex import TimeXExplainer

    need("torch", "a network", "nets")
    X, times = _series(data)
    order = np.random.default_rng(seed).permutation(len(X))
    held, rest = np.split(order, [max(2, len(X) // _HELD)])
    some = (None, None) if times is None else (times[rest], times[held])
    explainer = TimeXExplainer(_built(imported(model), model), encode=embed, n_landmarks=landmarks, random_state=seed)
    with working("training", quiet=json) as progress:
        explainer.fit(X[rest], some[0], epochs=epochs, progress=progress)
    found, explained = explainer.fidelity(X[held], some[1]), explainer.explain(X[held], some[1])
    if save is not None:
        explainer.save(save)
    if maps is not None:
        with maps.open("wb") as file:
            kept = {"saliency": explained.saliency, "mask": explained.mask, "landmark": explained.landmark_id}
            np.savez_compressed(file, series=held, **kept)  # type: ignore[arg-type]
    if figure is not None:
        from locum.plots import plot_landmarks

        drawn(plot_landmarks(explained), figure)
    files = {"maps": whole(maps), "explainer": whole(save), "figure": whole(figure)}
    sizes = explainer.landmark_sizes_.tolist()
    if json:
        emit({"masking": explainer.masking_, "fidelity": found.to_dict(), "landmark_sizes": sizes, **files})
        return
    out = console(out=True)
    out.print(f"Hidden values are hidden by {explainer.masking_}; {len(held)} series were kept apart.", highlight=False)
    out.print(found.text(), markup=False, highlight=False)
    out.print(f"{len(sizes)} landmarks with {', '.join(map(str, sizes))} series of the fit", highlight=False)
    out.print(explained[0].text(5), markup=False, highlight=False)


def text(
    model: Annotated[
        str,
        typer.Argument(help="A folder that transformers reads (causal Llama or GPT-2, or BERT classifier), or smollm2."),
    ],
    said: Annotated[str, typer.Argument(metavar="TEXT", help="What the model reads.", show_default=False)],
    answer: Annotated[
        str | None, typer.Option("--answer", help="Class or next token explained, not the one answered.", show_default=False)
    ] = None,
    window: Annotated[int, typer.Option(help="Tokens that are told together.", min=1)] = 1,
    attention: Annotated[str, typer.Option(help="full or fixed: whether attention patterns are decomposed too.")] = "full",
    figure: Figure = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Which tokens of a text have to do with a transformer's answer, and whether masking them says the same."""
    from locum.explain.cd_t import ContextualDecomposition, Masking

    require_one_of(("full", "fixed"), attention=attention)
    network, tokenizer, classes = _transformer(model)
    ids = tokenizer(said)["input_ids"]
    if not ids:
        raise InvalidData("expected a text, got none")
    labels = None if answer is None else [_label(answer, tokenizer, classes)]
    spare = (tokenizer.mask_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    token = next((one for one in spare if one is not None), None)
    masking = None if token is None else Masking(token, tuple(tokenizer.all_special_ids), random_state=seed)
    decomposition = ContextualDecomposition(network, attention=attention)
    (found,) = decomposition.local_importance(
        [ids], labels=labels, window=window, names=lambda one: str(tokenizer.decode([one])), masking=masking
    )
    named = classes[found.answer] if classes is not None else tokenizer.decode([found.answer])
    if figure is not None:
        from locum.plots import plot_tokens

        drawn(plot_tokens(found).figure, figure)
    if json:
        emit({"answer": named, "explanation": found.to_dict(), "figure": whole(figure)})
        return
    out = console(out=True)
    out.print(f"The model answers {named!r}.", markup=False, highlight=False)
    out.print(found.text(), markup=False, highlight=False)


COMMANDS = (series, text)


# ---------------------------------------------------------------------- parts
def _series(path: Path) -> tuple[Any, Any]:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidData(f"cannot read series from {path}: {error}") from error
    times = None
    if not isinstance(found, np.ndarray):
        with found:
            if "X" not in found:
                raise InvalidData(f"expected an array X in {path}, and times if any, got {', '.join(found) or 'none'}")
            X, times = found["X"], found.get("times")
    else:
        X = found
    if X.ndim not in (2, 3) or len(X) < 4:
        raise InvalidData(f"expected four or more series of shape (n, T) or (n, T, channels), got {X.shape}")
    if X.dtype.kind not in "biuf":
        raise InvalidData(f"expected series of numbers, got {X.dtype}")
    X = X[..., None] if X.ndim == 2 else X
    if times is not None and times.shape != X.shape[:2]:
        raise InvalidData(f"expected times of shape {X.shape[:2]}, got {times.shape}")
    return X.astype(np.float32), times


def _built(found: Any, name: str) -> Any:
    """The classifier itself, or what a function gives that makes one."""
    import torch

    from locum.nets import Reference

    kinds = (torch.nn.Module, Reference)
    made = found() if callable(found) and not isinstance(found, kinds) else found
    if not isinstance(made, kinds):
        raise InvalidData(f"expected {name} to be a torch module or a function that gives one, got {type(made).__name__}")
    return made


def _transformer(model: str) -> tuple[Any, Any, list[str] | None]:
    """Network, tokenizer, and the names of the classes where it has any."""
    from locum.nets.pretrained import classifier, smollm2

    if model == "smollm2":
        return *smollm2(), None
    path = Path(model)
    try:
        kinds = json_module.loads((path / "config.json").read_text()).get("architectures") or [""]
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidData(f"expected a folder with a config.json that transformers reads, got {model!r}: {error}") from error
    if not kinds[0].endswith("ForSequenceClassification"):
        return *smollm2(path), None
    read = classifier(path)
    names = read.model.config.id2label
    return *read, [str(names[i]) for i in range(len(names))]


def _label(answer: str, tokenizer: Any, classes: list[str] | None) -> int:
    from locum.explain.cd_t import single_tokens

    if classes is None:
        return int(single_tokens(tokenizer, [answer])[0])
    if answer not in classes:
        raise InvalidData(f"there is no class {answer!r}; expected one of {', '.join(classes)}")
    return classes.index(answer)
