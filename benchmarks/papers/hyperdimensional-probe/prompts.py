"""Prompts made of word pairs, the states of models on them, and how they are split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from locum.datasets import load_analogies
from locum.inside import Codebook, Tap, pool_states, prompt_states
from locum.nets import minilm, smollm2

KEPT = Path.home() / ".cache" / "locum" / "hyperdimensional-probe"
FORMATS = ("{} : {} = {} :", "{} is to {} as {} is to")
TIMES = 6  # that a pair is asked for, and is the example, in each format
VERSION = 2  # of what is kept
POOLS = ("kmeans_sum", "mean", "last")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Corpus:
    """Documents of two pairs of one relation; each pair as often the example as it is asked for."""

    documents: list[tuple[Pair, Pair]]
    relations: np.ndarray
    prompts: list[str]
    concepts: tuple[str, ...]

    def codebook(self, dim: int, seed: int) -> Codebook:
        return Codebook(self.concepts, dim, random_state=101 + seed)


def corpus(times: int = TIMES, formats: int = 2) -> Corpus:
    pairs: dict[str, dict[Pair, None]] = {}
    for one in load_analogies():
        pairs.setdefault(one.relation, {}).update(dict.fromkeys((one.example, one.asked)))
    rng, documents, relations = np.random.default_rng(0), [], []
    for relation, found in pairs.items():
        order = [list(found)[i] for i in rng.permutation(len(found))]
        for step in rng.choice(np.arange(1, len(order)), times, replace=False):
            documents += [(order[i], order[(i + step) % len(order)]) for i in range(len(order))]
            relations += [relation] * len(order)
    apart = [i for i, (a, b) in enumerate(documents) if len({*a, *b}) == 4]  # no word twice
    documents, relations = [documents[i] for i in apart], [relations[i] for i in apart]
    concepts = tuple(sorted({word for told in documents for pair in told for word in pair}))
    prompts = [form.format(*a, b[0]) for form in FORMATS[:formats] for a, b in documents]
    return Corpus(documents * formats, np.array(relations * formats), prompts, concepts)


# ---------------------------------------------------------------------- states
@dataclass(frozen=True)
class States:
    """What was read from SmolLM2 on the prompts."""

    kmeans_sum: np.ndarray  # (n, width), pooled states of the upper half; the last layer is taken after the final norm
    mean: np.ndarray
    last: np.ndarray
    words: np.ndarray  # (n, width), the sum of the prompt's token embeddings
    lens: np.ndarray  # (n, layers), rank of the answer's first token among those of concepts that are not in the prompt
    right: np.ndarray  # (n,), whether the most likely next token is the answer's first
    single: np.ndarray  # (n,), whether that is all of the answer


def upper_half(model) -> dict[str, str]:
    n = model.config.num_hidden_layers
    return {str(i + 1): f"model.layers.{i}" for i in range(n // 2 - 1, n - 1)} | {str(n): "model.norm"}


def kept(name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays that are made once."""
    file = KEPT / f"{name}-{VERSION}.npz"
    if not file.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".part.npz")
        np.savez(beside, **make())
        beside.replace(file)
    with np.load(file, allow_pickle=False) as found:
        return dict(found)


def states(data: Corpus) -> States:
    return States(**kept(f"smollm2-{len(data.prompts)}", lambda: _states(data)))


def lens_ranks(data: Corpus, layers: np.ndarray, first: np.ndarray, model) -> np.ndarray:
    """What the output matrix says of each layer, read through the final norm; ties count before the answer."""
    index, norm = {one: i for i, one in enumerate(data.concepts)}, model.model.norm.weight.detach().numpy()
    rows, ranks = model.get_output_embeddings().weight.detach().numpy()[first], np.empty(layers.shape[:2], dtype=np.int16)
    answers = np.array([index[one[1][1]] for one in data.documents])
    for layer in range(layers.shape[1]):
        h = layers[:, layer]
        if layer < layers.shape[1] - 1:
            h = h / np.sqrt((h**2).mean(axis=1, keepdims=True) + model.config.rms_norm_eps) * norm
        scores = h @ rows.T
        own = scores[np.arange(len(h)), answers]
        for row, (a, b) in zip(scores, data.documents, strict=True):
            row[[index[one] for one in (*a, b[0])]] = -np.inf
        ranks[:, layer] = (scores >= own[:, None]).sum(axis=1)
    return ranks


def _states(data: Corpus) -> dict[str, np.ndarray]:
    model, tokenizer = smollm2()
    table = model.get_input_embeddings().weight.detach().numpy()
    layers = prompt_states(Tap(model, upper_half(model)), data.prompts, tokenizer=tokenizer)
    tokens = [tokenizer(f" {one}")["input_ids"] for one in data.concepts]
    head = model.get_output_embeddings().weight.detach().numpy()
    spoken = np.concatenate([(part @ head.T).argmax(axis=1) for part in np.array_split(layers[:, -1], 64)])
    first, index = np.array([ids[0] for ids in tokens]), {one: i for i, one in enumerate(data.concepts)}
    answers = np.array([index[one[1][1]] for one in data.documents])
    return {name: pool_states(layers, name).astype(np.float16) for name in POOLS} | {
        "words": np.stack([table[tokenizer(one)["input_ids"]].sum(axis=0) for one in data.prompts]).astype(np.float16),
        "lens": lens_ranks(data, layers, first, model),
        "right": spoken == first[answers],
        "single": np.array([len(ids) == 1 for ids in tokens])[answers],
    }


def sentence_states(data: Corpus) -> np.ndarray:
    """Means over tokens and the upper layers of MiniLM, shape (n, width)."""

    def make() -> dict[str, np.ndarray]:
        model, tokenizer = minilm()
        n = model.config.num_hidden_layers
        tap = Tap(model, {str(i + 1): f"encoder.layer.{i}" for i in range(n // 2 - 1, n)})
        layers = prompt_states(tap, data.prompts, tokenizer=tokenizer, tokens="mean")
        return {"mean": pool_states(layers, "mean").astype(np.float16)}

    return kept(f"minilm-{len(data.prompts)}", make)["mean"]


# ---------------------------------------------------------------------- splits
@dataclass(frozen=True)
class Split:
    """Indices of prompts: to train on, to choose the epoch on, and to test on."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def random_split(data: Corpus, seed: int) -> Split:
    """Documents at random; both formats of one, and the one with the pairs in the other order, lie in one part."""
    share = _share(data, np.random.default_rng([seed, 11]))
    return Split(np.flatnonzero(share >= 0.3), np.flatnonzero(share < 0.1), np.flatnonzero((share >= 0.1) & (share < 0.3)))


def answers_held_out(data: Corpus, seed: int) -> Split:
    """A fifth of each relation's pairs are never asked for in training, where they do occur as examples."""
    rng = np.random.default_rng([seed, 12])
    held: set[Pair] = set()
    for relation in np.unique(data.relations):
        here = sorted({data.documents[i][1] for i in np.flatnonzero(data.relations == relation)} - held)
        held |= {here[i] for i in rng.permutation(len(here))[: max(2, round(0.2 * len(here)))]}
    test = np.array([one[1] in held for one in data.documents])
    tested = {frozenset(data.documents[i]) for i in np.flatnonzero(test)}
    free = ~test & np.array([frozenset(one) not in tested for one in data.documents])  # the same two pairs the other way round
    return _with_val(data, free, test, rng)


def pairs_held_out(data: Corpus, seed: int) -> Split:
    """Half of the pairs whose words all stand in other pairs too occur nowhere in training."""
    rng = np.random.default_rng([seed, 13])
    pairs = sorted({pair for one in data.documents for pair in one})
    counts: dict[str, int] = {}
    for pair in pairs:
        for word in pair:
            counts[word] = counts.get(word, 0) + 1
    held: set[Pair] = set()
    for i in rng.permutation(len(pairs)):
        if all(counts[word] > 1 for word in pairs[i]) and len(held) < 14:
            held.add(pairs[i])
            for word in pairs[i]:
                counts[word] -= 1
    test = np.array([one[1] in held and one[0] not in held for one in data.documents])
    free = np.array([not held.intersection(one) for one in data.documents])
    return _with_val(data, free, test, rng)


def _with_val(data: Corpus, free: np.ndarray, test: np.ndarray, rng: np.random.Generator) -> Split:
    """A tenth of what is free to choose the epoch on, all prompts of the same two pairs together."""
    share = _share(data, rng)
    return Split(np.flatnonzero(free & (share >= 0.1)), np.flatnonzero(free & (share < 0.1)), np.flatnonzero(test))


def _share(data: Corpus, rng: np.random.Generator) -> np.ndarray:
    """A random number for each prompt, the same one for all that hold the same two pairs."""
    keys = [frozenset(one) for one in data.documents]
    names = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return rng.random(len(names))[[names[key] for key in keys]]
