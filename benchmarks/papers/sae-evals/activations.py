"""Prompts of the indirect object in parts that share no pair of names, place, object or template, and activations of each part.

What takes passes of the model is kept in a folder, so that a run that was stopped goes on from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from locum.inside import CrossSection, Location, Tap, TaskInputs
from locum.nets import LogitDifference
from locum.problems import IndirectObject, IndirectObjectPrompts

NAMES = IndirectObject().names[:24]
OTHERS = IndirectObject().names[24:48]
RESIDUAL = 22  # where patching the other order moves the score most; these were found by `heads.py`
MOVERS = ((23, 3), (29, 1), (23, 7))  # without which the score falls most
INHIBITORS = ((20, 0), (19, 2))  # which move the score most when they are as in the other order


@dataclass(frozen=True)
class Part:
    """Prompts as the evaluation takes them."""

    prompts: IndirectObjectPrompts
    inputs: TaskInputs
    score: LogitDifference


def part(prompts: IndirectObjectPrompts, tokenizer: Any) -> Part:
    told = prompts.tokens(tokenizer)
    inputs = TaskInputs(told.ids, prompts.labels, told.positions, prompts.pairs)
    return Part(prompts, inputs, LogitDifference(told.right, told.wrong))


def fitting(n: int, seed: int = 1) -> IndirectObjectPrompts:
    """Prompts to fit on: pairs of names, places, objects and templates of their own."""
    whole = IndirectObject()
    task = IndirectObject(NAMES, whole.places[:10], whole.objects[:10], whole.templates[:4])
    return _of_pairs(task, n, seed, held=False)


def held_out(n: int, seed: int = 2) -> IndirectObjectPrompts:
    """Prompts with the names that fitted, in other pairs, and with another template, other places and objects."""
    whole = IndirectObject()
    task = IndirectObject(NAMES, whole.places[10:], whole.objects[10:], whole.templates[4:])
    return _of_pairs(task, n, seed, held=True)


def strangers(n: int, seed: int = 3) -> IndirectObjectPrompts:
    """Prompts with names that nothing was fitted on, and another template, other places and objects."""
    whole = IndirectObject()
    return IndirectObject(OTHERS, whole.places[10:], whole.objects[10:], whole.templates[4:]).sample(n, seed)


def _of_pairs(task: IndirectObject, n: int, seed: int, *, held: bool) -> IndirectObjectPrompts:
    """A quarter of all pairs of names are held out."""
    names = sorted(task.names)
    pairs = [f"{a}/{b}" for i, a in enumerate(names) for b in names[i + 1 :]]
    order = np.random.default_rng(0).permutation(len(pairs))
    out = {pairs[i] for i in order[: len(pairs) // 4]}
    drawn = task.sample(8 * n, seed)
    rows = np.flatnonzero(np.isin(drawn.pairs, list(out)) == held)[:n]
    return drawn.take(rows)


def sections(model: Any, batch_size: int = 64) -> dict[str, CrossSection]:
    """The three places: the residual stream, name movers and S-inhibition heads, all at the last token."""
    layers = sorted({layer for layer, _ in (*MOVERS, *INHIBITORS)})
    sites: dict[str, Any] = {"residual": f"model.layers.{RESIDUAL}"}
    sites |= {f"z{i}": (f"model.layers.{i}.self_attn.o_proj", "in", 9) for i in layers}
    tap = Tap(model, sites)

    def heads(some: tuple[tuple[int, int], ...]) -> dict[str, Location]:
        return {f"{layer}.{head}": Location(f"z{layer}", "END", head) for layer, head in some}

    places = {"residual": {"residual": Location("residual", "END")}, "movers": heads(MOVERS), "inhibitors": heads(INHIBITORS)}
    return {name: CrossSection(tap, one, batch_size=batch_size) for name, one in places.items()}


def everywhere(found: dict[str, CrossSection]) -> CrossSection:
    """All places of the sections, read in one pass."""
    first = next(iter(found.values()))
    return CrossSection(first.tap, {name: at for one in found.values() for name, at in one.locations.items()})


def kept(folder: Path, key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays from a file, made where there is none."""
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made, scratch = make(), path.with_suffix(".part.npz")
        np.savez(scratch, **made)
        scratch.replace(path)
    with np.load(path) as file:
        return {name: file[name] for name in file.files}
