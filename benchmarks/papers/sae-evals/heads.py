"""Which heads matter: the score without each, and with each as it is where the names come in the other order.

    python heads.py

ranks all 270 heads of SmolLM2 and the residual stream after each layer, at the last token, and prints them; the lists in
`activations.py` are from there. The benchmark checks that the first five of each list are still ahead of heads drawn at random.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from activations import Part, fitting, part

from locum.inside import CrossSection, Location, Tap
from locum.nets import smollm2

LAYERS, HEADS = 30, 9


def effects(model: Any, told: Part, other: Part, heads: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    """By how much the score of each prompt falls without a head, or with that of the other prompt, shape (heads, n)."""
    layers = sorted({layer for layer, _ in heads})
    tap = Tap(model, {f"z{i}": (f"model.layers.{i}.self_attn.o_proj", "in", HEADS) for i in layers})
    section = CrossSection(tap, {f"{layer}.{head}": Location(f"z{layer}", "END", head) for layer, head in heads})
    here, there = section.read(told.inputs), section.read(other.inputs)
    prepared = section.prepare(told.inputs)
    mean = [{name: np.broadcast_to(one.mean(axis=0), one.shape).copy()} for name, one in here.items()]
    put = [{}, *mean, *({name: one} for name, one in there.items())]
    clean, *changed = prepared.run(put, told.score)
    falls = np.stack([clean.score - one.score for one in changed])
    return {"without": falls[: len(heads)], "other order": falls[len(heads) :], "clean": clean.score}


def streams(model: Any, told: Part, other: Part) -> np.ndarray:
    """The score with the residual stream after each layer as it is in the other prompt, mean over prompts, shape (layers,)."""
    tap = Tap(model, {str(i): f"model.layers.{i}" for i in range(LAYERS)})
    section = CrossSection(tap, {str(i): Location(str(i), "END") for i in range(LAYERS)})
    there = section.read(other.inputs)
    answers = section.prepare(told.inputs).run([{name: x} for name, x in there.items()], told.score)
    return np.array([one.score.mean() for one in answers])


def both_orders(tokenizer: Any, n: int, seed: int) -> tuple[Part, Part]:
    prompts = fitting(n, seed)
    return part(prompts, tokenizer), part(prompts.differing("Pos"), tokenizer)


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, tokenizer = smollm2()
    told, other = both_orders(tokenizer, 60, 11)
    print("streams", streams(model, told, other).round(2).tolist(), flush=True)
    everything = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    found = effects(model, told, other, everything)
    print("clean", found["clean"].mean())
    for name in ("without", "other order"):
        mean = found[name].mean(axis=1)
        order = np.argsort(-np.abs(mean))[:20]
        print(name, [(everything[i], round(float(mean[i]), 2)) for i in order], flush=True)
