"""Groups of neurons by semi-non-negative factorisation: planted groups, and a real language model.

Planted: sparse groups with non-negative weights and noise. Language model: hidden activations of MLPs of
SmolLM2-135M-Instruct at 4 bits, on sentences made of the words of twenty concepts set in carriers (words.py); the
sentences to test on have other words and other carriers, and first positions are left out. Units of all methods are
directions, scored alike: the largest cosine with an activation of the sentence. No language model judges here what
steered text is about: the log-probability of held-out words of the concept takes the place of that judge, at equal
divergence of the next token, and the perplexity of the text under the network as it is that of its fluency. The tree and
the weekdays use the words' own tokens alone: elsewhere carriers, the same for all words, decide.
Intervals are Student's over seeds, and over concepts where said.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over, over_seeds

sys.path.insert(0, str(Path(__file__).resolve().parent))
from words import ALONE, CONCEPTS, WEEKDAYS, sentences

from locum.inside import (
    ActivationStore,
    HierarchicalSemiNMF,
    SemiNMF,
    SparseAutoencoder,
    SteeringDirection,
    Tap,
    TopK,
    areas_under_curve,
    core_and_exclusive,
    detect_concepts,
    first_position,
    matched,
    text_scores,
)
from locum.nets import smollm2

PROMPTS = ("I think that", "This is all about", "She told me about the")
LAYERS, STEERED, KL = (2, 12, 22), (12, 22), 0.25
DAY_PROMPTS = ("The meeting will be on", "We will see you again next", "The shop is closed every")
METHODS = ("SNMF", "SAE", "DiffMeans", "random")
RIVALS = ("shuffled", "PCA", "SNMF from k-means", "k-means", "neurons", "SAE", "SAE codes")


# ---------------------------------------------------------------------- A. planted groups
def plant(seed: int, n: int, width: int, groups: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 1])
    truth = np.zeros((groups, width))
    for group in truth:
        group[rng.choice(width, int(np.ceil(0.01 * width)), replace=False)] = rng.normal(size=int(np.ceil(0.01 * width)))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    X = ((rng.random((n, groups)) < 0.2) * rng.gamma(2, 1, size=(n, groups))) @ truth
    return (X + 0.1 * X.std() * rng.normal(size=X.shape)).astype(np.float32), truth


def as_published(X: np.ndarray, Y: np.ndarray, keep: float, steps: int) -> tuple[list[float], float]:
    """The iteration as the paper states it, with dense products and the residual formed each time; losses and CPU seconds."""
    A, Y, losses, begun = torch.from_numpy(X.T.copy()), torch.from_numpy(Y), [], time.process_time()
    few, squares = int(np.ceil(keep * len(A))), float(A.double().square().sum())
    for _ in range(steps):
        Z = A @ Y @ torch.linalg.inv(Y.T @ Y + 1e-6 * torch.eye(Y.shape[1]))
        Z = Z * (Z.abs() >= Z.abs().topk(few, dim=0).values[-1])
        lengths = Y.norm(dim=0)
        Y, Z = Y / lengths, Z * lengths
        P, Q = A.T @ Z, Z.T @ Z
        Y = Y * ((P.clamp(min=0) + Y @ (-Q).clamp(min=0)) / ((-P).clamp(min=0) + Y @ Q.clamp(min=0) + 1e-6)).sqrt()
        losses.append(float((A - Z @ Y.T).square().sum()) / squares)
    return losses, time.process_time() - begun


def planted(seeds: range, size: tuple[int, int, int], iterations: int) -> Iterator[Claim]:
    for solver in ("multiplicative", "coordinate"):
        shares = []
        for seed in seeds:
            X, truth = plant(seed, *size)
            nmf = SemiNMF(size[2], 0.01, solver=solver, max_iter=iterations, patience=100, random_state=seed).fit(X)
            shares.append((matched(nmf.components_, truth)[1] > 0.95).mean())
        yield over(f"planted groups are found ({solver})", "share of groups with a cosine above 0.95", shares, threshold=0.9,
                   decided_by="effect", needed=solver == "multiplicative")  # fmt: skip
    gaps, times, sooner = [], [], []
    steps = iterations // 4
    for seed in seeds:
        X, _ = plant(seed, *size)
        Y = np.random.default_rng([seed, 2]).random((size[0], size[2]), dtype=np.float32)
        free, theirs = as_published(X, Y, 1.0, steps)
        ours, _ = in_time(SemiNMF(size[2], 1.0, max_iter=steps, patience=steps), X, Y)
        gaps.append(abs(ours[-1] / free[-1] - 1.0))
        descent, seconds = in_time(SemiNMF(size[2], 1.0, solver="coordinate", max_iter=steps, patience=steps), X, Y)
        there = np.flatnonzero(descent <= free[-1])
        sooner.append(theirs / (seconds / steps * (1 + there[0])) if there.size else 0.0)
        sparse = in_time(SemiNMF(size[2], 0.01, max_iter=steps, patience=steps), X, Y)[1]
        times.append(as_published(X, Y, 0.01, steps)[1] / sparse)
    yield over("without sparsity the loss is that of the published iteration",
               "relative difference of losses after equal steps", gaps, direction="less", threshold=0.01)  # fmt: skip
    yield over("an iteration takes less time than as published", "CPU seconds as published over ours, equal steps", times,
               threshold=1.0, needed=False)  # fmt: skip
    yield over("coordinate descent gets as low sooner, without sparsity",
               f"CPU seconds of {steps} published steps over those to as low a loss", sooner, threshold=1.0,
               needed=False)  # fmt: skip


def in_time(nmf: SemiNMF, X: np.ndarray, Y: np.ndarray) -> tuple[np.ndarray, float]:
    begun = time.process_time()
    return nmf.fit(X, coefficients=Y).loss_curve_, time.process_time() - begun


# ---------------------------------------------------------------------- B. concepts of a language model
@dataclass(frozen=True)
class Rows:
    """Activations of one layer: rows, their sentences, and the concept of each sentence."""

    X: np.ndarray
    of: np.ndarray
    labels: np.ndarray


def collected(model, tokenizer, texts: list[str], layers: tuple[int, ...]) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Hidden activations of MLPs by layer, and the text and position of each row."""
    tap = Tap(model, {str(layer): (f"model.layers.{layer}.mlp.down_proj", "in") for layer in layers})
    with tempfile.TemporaryDirectory() as folder:
        settings = {"tokenizer": tokenizer, "keep": ~first_position, "split": (1.0, 0.0, 0.0), "dtype": "float32"}
        store = ActivationStore.collect(tap, texts, folder, **settings)
        return {layer: store[str(layer)].rows("train") for layer in layers}, store.labels("train")


def units(rows: Rows, k: int, iterations: int, seed: int) -> dict[str, object]:
    """Directions by method, all learned from the same rows; the sparse autoencoder itself, for its codes."""
    X, rng = rows.X, np.random.default_rng([seed, 3])
    settings = {"solver": "coordinate", "max_iter": iterations, "patience": 50, "random_state": seed}
    shuffled = np.stack([rng.permutation(column) for column in X.T], axis=1)
    axes = PCA(k // 2, random_state=seed).fit(X).components_
    sae = SparseAutoencoder(k, TopK(8), epochs=iterations // 5, batch_size=256, learning_rate=3e-3, random_state=seed).fit(X)
    return {
        "SNMF": SemiNMF(k, 0.01, **settings).fit(X).components_,
        "shuffled": SemiNMF(k, 0.01, **settings).fit(shuffled).components_,
        "PCA": np.concatenate([axes, -axes]),
        "SNMF from k-means": SemiNMF(k, 0.01, init="k-means", **settings).fit(X).components_,
        "k-means": KMeans(k, n_init=1, random_state=seed).fit(X).cluster_centers_,
        "neurons": np.concatenate([np.eye(X.shape[1]), -np.eye(X.shape[1])]),
        "SAE": sae.atoms_,
        "SAE codes": sae,
    }


def scores(unit, rows: Rows) -> np.ndarray:
    if isinstance(unit, SparseAutoencoder):
        codes = unit.encode(rows.X).toarray()
        return np.stack([codes[rows.of == text].max(axis=0) for text in np.unique(rows.of)])
    return text_scores(rows.X, unit, rows.of)[1]


def detection(model, tokenizer, seeds: range, layers: tuple[int, ...], size: dict, kept: dict) -> Iterator[Claim]:
    found = {name: np.zeros((len(seeds), len(layers))) for name in ("SNMF", *RIVALS)}
    positive, by_layer = [], {}
    for s, seed in enumerate(seeds):
        fit, test, words = sentences(size["fit"], size["test"], seed)
        parts = []
        for told in (fit, test):
            acts, labels = collected(model, tokenizer, [text for text, _ in told], layers)
            names = np.array([name for _, name in told])
            parts.append({layer: Rows(X, labels[:, 1], names) for layer, X in acts.items()})
        for i, layer in enumerate(layers):
            one, other = parts[0][layer], parts[1][layer]
            methods = units(one, size["k"], size["iterations"], seed)
            for name, unit in methods.items():
                told = detect_concepts(scores(unit, one), one.labels, scores(unit, other), other.labels)
                found[name][s, i] = told.mean_area.value
                if name == "SNMF":
                    positive.append(np.nanmean(told.log_ratio > 0))
                if layer in STEERED and s == 0:
                    kept[layer, name] = (unit, told)
            if layer in STEERED and s == 0:
                kept[layer, "rows"], kept["words"] = one, words
    for name, values in found.items():
        by_layer[name] = {str(layer): float(values[:, i].mean()) for i, layer in enumerate(layers)}
    each = {name: values.tolist() for name, values in found.items()}
    details = {"mean area by layer": by_layer, "tokens to fit on": len(one.X), "seeds": each}
    ours = found["SNMF"].mean(axis=1)
    what = "area under the curve on other sentences, less that of"
    yield over("groups tell concepts better than without co-activation", f"{what} groups of shuffled neurons",
               ours - found["shuffled"].mean(axis=1), details=details)  # fmt: skip
    yield over("groups tell concepts better than principal axes", f"{what} principal axes", ours - found["PCA"].mean(axis=1))
    for name in RIVALS[2:]:
        yield over(f"groups beside {name}", f"{what} {name}", ours - found[name].mean(axis=1), needed=False)
    yield Claim("most groups score higher on texts of their concept", "share of concepts whose log ratio is above 0",
                *over_seeds(positive), len(positive), threshold=0.75, needed=False)  # fmt: skip


# ---------------------------------------------------------------------- C. steering
def perplexity(model, prompt: np.ndarray, texts: np.ndarray) -> float:
    ids = torch.as_tensor(np.concatenate([np.tile(prompt, (len(texts), 1)), texts], axis=1))
    with torch.inference_mode():
        logs = model(input_ids=ids).logits[:, len(prompt) - 1 : -1].log_softmax(dim=-1)
    return float(torch.exp(-logs.gather(2, torch.as_tensor(texts)[..., None]).mean()))


def directions(kept: dict, layer: int, concept: str, rng) -> dict[str, np.ndarray]:
    rows, (groups, told) = kept[layer, "rows"], kept[layer, "SNMF"]
    at, whose = told.concepts.index(concept), np.asarray(rows.labels)[rows.of]
    group = groups[told.unit[at]]
    return {
        "SNMF": group,
        "SAE": kept[layer, "SAE"][0][kept[layer, "SAE"][1].unit[at]],
        "DiffMeans": rows.X[whose == concept].mean(axis=0) - rows.X[whose != concept].mean(axis=0),
        "random": np.where(group != 0, rng.normal(size=len(group)), 0.0),
    }


def steering(model, tokenizer, kept: dict, layers: tuple[int, ...], concepts: int, written: int) -> Iterator[Claim]:
    prompts = [np.array(tokenizer(one)["input_ids"]) for one in PROMPTS]
    first = {name: [tokenizer(f" {word}")["input_ids"][0] for word in told] for name, told in kept["words"].items()}
    names, rng, told = list(CONCEPTS)[:concepts], np.random.default_rng(4), {}
    lift, own, texts = ({name: np.zeros((len(layers), len(names))) for name in METHODS} for _ in range(3))
    for i, layer in enumerate(layers):
        tap = Tap(model, {"hidden": (f"model.layers.{layer}.mlp.down_proj", "in")})
        for j, concept in enumerate(names):
            others = [token for name, tokens in first.items() if name != concept for token in tokens]
            for name, vector in directions(kept, layer, concept, rng).items():
                direction = SteeringDirection(tap, "hidden", vector)
                alpha = direction.strength(prompts, KL, tol=0.05)
                rise, n = direction.lift(prompts, [*first[concept], *others], alpha), len(first[concept])
                lift[name][i, j], own[name][i, j] = rise[:n].mean(), rise[:n].mean() - rise[n:].mean()
                if j < written:
                    texts[name][i, j] = perplexity(model, prompts[0], direction.sample(prompts[0], alpha, n=4, tokens=16))
    for name in METHODS:
        told[name] = {"lift": lift[name].tolist(), "own less others": own[name].tolist(),
                      "perplexity under the network as it is": float(texts[name][:, :written].mean())}  # fmt: skip
    details = {"by layer and concept": told, "concepts": names, "layers": list(layers)}
    wins = (lift["SNMF"] > lift["random"]).mean(axis=0)
    yield over("a group's direction raises words of its concept more than a random one of the same neurons",
               "share of concepts and layers, at equal divergence; interval over concepts", wins, threshold=0.6,
               decided_by="effect", details=details)  # fmt: skip
    for what, values in (("lift of held-out words in nats", lift), ("lift of own words less that of others'", own)):
        for name in METHODS[1:]:
            yield over(f"steering beside {name}", f"{what}, less that of {name}; interval over concepts",
                       (values["SNMF"] - values[name]).mean(axis=0), needed=False)  # fmt: skip


# ---------------------------------------------------------------------- D. a tree, and neurons in common
def of_words(model, tokenizer, words: dict[str, list[str]], layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations at the tokens of words set alone in carriers, with the kind and the word of each."""
    told = [(carrier.format(word), name, word) for name, those in words.items() for word in those for carrier in ALONE]
    acts, labels = collected(model, tokenizer, [text for text, _, _ in told], (layer,))
    kind, word = (np.array([one[i] for one in told])[labels[:, 1]] for i in (1, 2))
    tokens = [tokenizer.decode([token]).strip() for token in labels[:, 0]]
    there = np.array([len(token) > 1 and one.startswith(token) for token, one in zip(tokens, word, strict=True)])
    return acts[layer][there], kind[there], word[there]


def hierarchy(model, tokenizer, seeds: range, iterations: int) -> Iterator[Claim]:
    words = {"weekdays": WEEKDAYS, "months": CONCEPTS["months"].split(), "countries": CONCEPTS["countries"].split()}
    X, kind, _ = of_words(model, tokenizer, words, STEERED[-1])
    gains = []
    for seed in seeds:
        settings = {"solver": "coordinate", "init": "k-means", "max_iter": iterations, "patience": 50, "random_state": seed}
        tree = HierarchicalSemiNMF((40, 20, 10), SemiNMF(keep=0.01, **settings), fine_tune=iterations // 2).fit(X)
        group = np.stack([tree.weights_[0][kind == name].mean(axis=0) for name in words]).argmax(axis=0)
        merged, rng = tree.groups(2), np.random.default_rng([seed, 5])
        null = [normalized_mutual_info_score(rng.permutation(group), merged) for _ in range(200)]
        gains.append(normalized_mutual_info_score(group, merged) - np.mean(null))
    yield over("a tree merges features of one kind", "normalised mutual information less that of permuted kinds", gains)


def weekdays(model, tokenizer, seeds: range, iterations: int) -> Iterator[Claim]:
    layer = STEERED[-1]
    X, _, days = of_words(model, tokenizer, {"weekdays": WEEKDAYS}, layer)
    tap = Tap(model, {"hidden": (f"model.layers.{layer}.mlp.down_proj", "in")})
    prompts = [np.array(tokenizer(one)["input_ids"]) for one in DAY_PROMPTS]
    tokens = [tokenizer(f" {day}")["input_ids"][0] for day in WEEKDAYS]

    def rises(vector: np.ndarray, neurons: np.ndarray) -> np.ndarray:
        part = np.zeros_like(vector)
        part[neurons] = vector[neurons]
        direction = SteeringDirection(tap, "hidden", part)
        return direction.lift(prompts, tokens, direction.strength(prompts, KL, tol=0.05))

    own, least, table, cores = [], [], [], []
    for seed in seeds:
        settings = {"solver": "coordinate", "init": "k-means", "max_iter": iterations, "patience": 50, "random_state": seed}
        C = SemiNMF(14, 0.01, **settings).fit(X).components_
        cosines = text_scores(X, C, np.arange(len(X)))[1]
        areas = np.stack([areas_under_curve(cosines, days == day) for day in WEEKDAYS])
        members = linear_sum_assignment(areas, maximize=True)[1]
        shared = core_and_exclusive(C, members, share=3 / 7)
        told = np.stack([rises(C[k], only) for k, only in zip(members, shared.exclusive, strict=True)])
        siblings = (told.sum(axis=1) - np.diag(told)) / (len(WEEKDAYS) - 1)
        own.append(float((np.diag(told) > siblings).mean()))
        core = rises(C[members].mean(axis=0), shared.core)
        least.append(float(core.min()))
        table.append(told.tolist())
        cores.append(core.tolist())
    yield over("a weekday's exclusive neurons raise it more than the other days", "share of weekdays", own, threshold=0.7,
               decided_by="effect", needed=False, details={"rises": table})  # fmt: skip
    yield over("neurons that three weekdays or more share raise all of them",
               "least rise of the log-probability of a weekday, in nats", least, needed=False,
               details={"rises": cores})  # fmt: skip


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    seeds, few = range(seed, seed + (2 if quick else 5)), 30 if quick else 100
    layers, steered = (STEERED[-1:], STEERED[-1:]) if quick else (LAYERS, STEERED)
    size = {"fit": 8 if quick else 14, "test": 4 if quick else 6, "k": 50 if quick else 100, "iterations": few}
    model, tokenizer = smollm2()
    kept: dict = {}
    yield from detection(model, tokenizer, seeds, layers, size, kept)
    yield from steering(model, tokenizer, kept, steered, 4 if quick else 20, 1 if quick else 4)
    yield from planted(seeds, (1000, 400, 20) if quick else (4000, 1000, 50), 400)
    yield from hierarchy(model, tokenizer, seeds, few)
    yield from weekdays(model, tokenizer, seeds[:1] if quick else seeds, few)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
