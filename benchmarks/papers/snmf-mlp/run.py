"""Groups of neurons by semi-non-negative factorisation: planted groups, and a real language model.

Planted: sparse groups with non-negative weights and noise. Language model: hidden activations of MLPs of
SmolLM2-135M-Instruct at 4 bits, on sentences made of the words of twenty concepts set in carriers (words.py); the
sentences to test on have other words and other carriers, and first positions are left out. Units of all methods are
directions, scored alike: the largest cosine with an activation of the sentence. No language model judges here what
steered text is about: the log-probability of held-out words of the concept takes the place of that judge, at equal
divergence of the next token, and the perplexity of the text under the network as it is that of its fluency.
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
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over_seeds

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
STEERED_LAYER, KL = 22, 0.25
RIVALS = ("shuffled", "PCA", "k-means", "neurons", "SAE", "SAE codes")


def over(name: str, measure: str, values, **settings) -> Claim:
    return Claim(name, measure, *over_seeds(values), len(values), **settings)


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
    gaps, times, fewer = [], [], []
    steps = iterations // 4
    for seed in seeds:
        X, _ = plant(seed, *size)
        Y = np.random.default_rng([seed, 2]).random((size[0], size[2]), dtype=np.float32)
        free = SemiNMF(size[2], 1.0, max_iter=steps, patience=steps).fit(X, coefficients=Y)
        gaps.append(abs(free.loss_curve_[-1] / as_published(X, Y, 1.0, steps)[0][-1] - 1.0))
        begun = time.process_time()
        SemiNMF(size[2], 0.01, max_iter=steps, patience=steps).fit(X, coefficients=Y)
        ours = time.process_time() - begun
        losses, theirs = as_published(X, Y, 0.01, steps)
        times.append(theirs / ours)
        begun = time.process_time()
        quick = SemiNMF(size[2], 0.01, solver="coordinate", max_iter=steps, patience=steps).fit(X, coefficients=Y)
        per_step = (time.process_time() - begun) / steps
        there = np.flatnonzero(quick.loss_curve_ <= min(losses))
        fewer.append(theirs / (per_step * (there[0] + 1)) if there.size else float("nan"))
    yield over("without sparsity the loss is that of the published iteration", "relative difference of losses after equal steps",
               gaps, direction="less", threshold=0.01)  # fmt: skip
    yield over("an iteration takes less time than as published", "CPU seconds as published over ours, equal steps", times,
               threshold=1.0, needed=False)  # fmt: skip
    yield over("coordinate descent gets as low sooner", f"CPU seconds of {steps} published steps over those to as low a loss",
               fewer, threshold=1.0, needed=False)  # fmt: skip


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
    settings = {"solver": "coordinate", "init": "random", "max_iter": iterations, "patience": 50, "random_state": seed}
    shuffled = np.stack([rng.permutation(column) for column in X.T], axis=1)
    axes = PCA(k // 2, random_state=seed).fit(X).components_
    sae = SparseAutoencoder(k, TopK(8), epochs=iterations // 5, batch_size=256, learning_rate=3e-3, random_state=seed).fit(X)
    return {
        "SNMF": SemiNMF(k, 0.01, **settings).fit(X).components_,
        "shuffled": SemiNMF(k, 0.01, **settings).fit(shuffled).components_,
        "PCA": np.concatenate([axes, -axes]),
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
                if layer == STEERED_LAYER and s == 0:
                    kept[name] = (unit, told)
            if layer == STEERED_LAYER and s == 0:
                kept["rows"], kept["words"] = one, words
    for name, values in found.items():
        by_layer[name] = {str(layer): float(values[:, i].mean()) for i, layer in enumerate(layers)}
    details = {"mean area by layer": by_layer, "tokens to fit on": len(one.X), "seeds": {n: v.tolist() for n, v in found.items()}}
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


def steering(model, tokenizer, kept: dict, concepts: int, written: int) -> Iterator[Claim]:
    tap = Tap(model, {"hidden": (f"model.layers.{STEERED_LAYER}.mlp.down_proj", "in")})
    prompts = [np.array(tokenizer(one)["input_ids"]) for one in PROMPTS]
    rows, rng = kept["rows"], np.random.default_rng(4)
    first = {name: [tokenizer(f" {word}")["input_ids"][0] for word in told] for name, told in kept["words"].items()}
    whose = np.asarray(rows.labels)[rows.of]
    names = list(CONCEPTS)[:concepts]
    lifts = {name: [] for name in ("SNMF", "SAE", "DiffMeans", "random")}
    special, fluency = {name: [] for name in lifts}, {name: [] for name in lifts}
    for concept in names:
        at = kept["SNMF"][1].concepts.index(concept)
        group = kept["SNMF"][0][kept["SNMF"][1].unit[at]]
        vectors = {
            "SNMF": group,
            "SAE": kept["SAE"][0][kept["SAE"][1].unit[at]],
            "DiffMeans": rows.X[whose == concept].mean(axis=0) - rows.X[whose != concept].mean(axis=0),
            "random": np.where(group != 0, rng.normal(size=len(group)), 0.0),
        }
        others = [token for name, tokens in first.items() if name != concept for token in tokens]
        for name, vector in vectors.items():
            direction = SteeringDirection(tap, "hidden", vector)
            alpha = direction.strength(prompts, KL, tol=0.05)
            rise = direction.lift(prompts, [*first[concept], *others], alpha)
            lifts[name].append(rise[: len(first[concept])].mean())
            special[name].append(lifts[name][-1] - rise[len(first[concept]) :].mean())
            if len(fluency[name]) < written:
                text = direction.sample(prompts[0], alpha, n=4, tokens=16)
                fluency[name].append(perplexity(model, prompts[0], text))
    lifts, special = ({name: np.array(told) for name, told in one.items()} for one in (lifts, special))
    details = {
        "lift by concept": {name: told.tolist() for name, told in lifts.items()}, "concepts": names,
        "perplexity under the network as it is": {name: float(np.mean(told)) for name, told in fluency.items() if told},
    }  # fmt: skip
    wins = (lifts["SNMF"] > lifts["random"]).astype(float)
    yield over("a group's direction raises words of its concept more than a random one of the same neurons",
               "share of concepts, at equal divergence; interval over concepts", wins, threshold=0.6, decided_by="effect",
               details=details)  # fmt: skip
    for name in ("random", "SAE", "DiffMeans"):
        yield over(f"steering beside {name}", f"lift of held-out words in nats less that of {name}; interval over concepts",
                   lifts["SNMF"] - lifts[name], needed=False)  # fmt: skip
    for name in ("random", "SAE", "DiffMeans"):
        yield over(f"steering beside {name}, own words against those of other concepts",
                   f"lift of own words less that of others', less the same of {name}; interval over concepts",
                   special["SNMF"] - special[name], needed=False)  # fmt: skip


# ---------------------------------------------------------------------- D. a tree, and neurons in common
def hierarchy(model, tokenizer, seeds: range, iterations: int) -> Iterator[Claim]:
    words = {"weekdays": WEEKDAYS, "months": CONCEPTS["months"].split(), "countries": CONCEPTS["countries"].split()}
    told = [(carrier.format(word), name) for name, those in words.items() for word in those for carrier in ALONE]
    acts, labels = collected(model, tokenizer, [text for text, _ in told], (STEERED_LAYER,))
    names = np.array([name for _, name in told])[labels[:, 1]]
    gains = []
    for seed in seeds:
        base = SemiNMF(keep=0.01, solver="coordinate", max_iter=iterations, patience=50, random_state=seed)
        tree = HierarchicalSemiNMF((40, 20, 10), base, fine_tune=iterations // 2).fit(acts[STEERED_LAYER])
        means = np.stack([tree.weights_[0][names == name].mean(axis=0) for name in words])
        group, merged = means.argmax(axis=0), tree.groups(2)
        real = normalized_mutual_info_score(group, merged)
        rng = np.random.default_rng([seed, 5])
        null = [normalized_mutual_info_score(rng.permutation(group), merged) for _ in range(200)]
        gains.append(real - np.mean(null))
    yield over("a tree merges features of one kind", "normalised mutual information less that of permuted kinds", gains)


def weekdays(model, tokenizer, seeds: range, iterations: int) -> Iterator[Claim]:
    told = [(carrier.format(day), day) for day in WEEKDAYS for carrier in ALONE]
    acts, labels = collected(model, tokenizer, [text for text, _ in told], (STEERED_LAYER,))
    days, X = np.array([day for _, day in told]), acts[STEERED_LAYER]
    tap = Tap(model, {"hidden": (f"model.layers.{STEERED_LAYER}.mlp.down_proj", "in")})
    prompts = [np.array(tokenizer(one)["input_ids"]) for one in PROMPTS]
    tokens = [tokenizer(f" {day}")["input_ids"][0] for day in WEEKDAYS]
    own, core_all, cores, table = [], [], [], []
    for seed in seeds:
        settings = {"solver": "coordinate", "max_iter": iterations, "patience": 50, "random_state": seed}
        C = SemiNMF(30, 0.05, **settings).fit(X).components_
        table_of = text_scores(X, C, labels[:, 1])[1]
        areas = np.stack([areas_under_curve(table_of, days == day) for day in WEEKDAYS])
        chosen = []
        for row in areas:
            chosen.append(int(next(k for k in np.argsort(-row) if k not in chosen)))
        shared = core_and_exclusive(C, chosen)
        rises = []
        for i, k in enumerate(chosen):
            only = np.zeros_like(C[k])
            only[shared.exclusive[i]] = C[k][shared.exclusive[i]]
            direction = SteeringDirection(tap, "hidden", only)
            rises.append(direction.lift(prompts, tokens, direction.strength(prompts, KL, tol=0.05)))
        rises = np.array(rises)
        siblings = (rises.sum(axis=1) - np.diag(rises)) / (len(WEEKDAYS) - 1)
        own.append(float((np.diag(rises) > siblings).mean()))
        table.append(rises.tolist())
        cores.append(len(shared.core))
        if len(shared.core):
            core = np.zeros(C.shape[1])
            core[shared.core] = C[chosen][:, shared.core].mean(axis=0)
            direction = SteeringDirection(tap, "hidden", core)
            core_all.append(direction.lift(prompts, tokens, direction.strength(prompts, KL, tol=0.05)))
    yield over("a weekday's exclusive neurons raise it more than the other days", "share of weekdays", own, threshold=0.7,
               decided_by="effect", needed=False, details={"rises": table, "core neurons": cores})  # fmt: skip
    if len(core_all) > 1:
        yield over("core neurons raise all weekdays", "least rise of the log-probability of a weekday, in nats",
                   np.array(core_all).min(axis=1), needed=False, details={"rises": np.array(core_all).tolist()})  # fmt: skip


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    seeds, few = range(seed, seed + (2 if quick else 5)), 40 if quick else 150
    size = {"fit": 8 if quick else 14, "test": 4 if quick else 6, "k": 50 if quick else 100, "iterations": few}
    model, tokenizer = smollm2()
    kept: dict = {}
    yield from detection(model, tokenizer, seeds, (STEERED_LAYER,) if quick else (2, 12, STEERED_LAYER), size, kept)
    yield from steering(model, tokenizer, kept, 5 if quick else 20, 1 if quick else 6)
    yield from planted(seeds, (1000, 400, 20) if quick else (4000, 1000, 50), 100 if quick else 400)
    yield from hierarchy(model, tokenizer, seeds, few)
    yield from weekdays(model, tokenizer, seeds, few)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
