"""Nested dictionaries of a language model's residual stream: prefixes, names held to other texts, and steering by names.

SmolLM2-135M-Instruct at 4 bits, residual stream after block 15 of 30, WikiText-2 articles in windows of 128 tokens, split by
article; the first position of each window, a sink, and markup are left out. The paper's model, images and reports cannot be
had, and no language model judges here: names are words that tell contexts, a logistic model with weights common to all names
is the detector, and steering is measured by the odds of the name's own words while the network writes. Intervals are Student's
over seeds, and over latents where said; "similar" contexts are so by counts of words.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy import sparse, stats
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over, over_seeds
from wikitext import articles

from locum.inside import (
    ActivationStore,
    ArrayStore,
    BatchTopK,
    EmbeddingMatch,
    LexicalNamer,
    LogisticDetector,
    Matryoshka,
    SentenceEncoder,
    SparseAutoencoder,
    SteeringDirection,
    Tap,
    TopK,
    balanced_rows,
    by_frequency,
    first_position,
    fvu,
    latent_examples,
    modality_score,
    name_words,
    norm_above,
    prefix_curve,
    score_names,
    splice_fidelity,
    steering_effects,
    token_contexts,
    token_ids,
    word_match,
)
from locum.nets import minilm, seeded, smollm2

BLOCK, K, CONTEXT = 15, 32, 128
SITES = {"res": f"model.layers.{BLOCK}", "mlp": (f"model.layers.{BLOCK}.mlp.down_proj", "in")}
STRENGTHS = (-4.0, -2.0, 2.0, 4.0, 8.0)
PROMPTS = (
    "I think that", "This is all about", "She told me about the", "We were talking about", "The main thing is", "He said that",
    "In the end it was", "They wanted to know",
)  # fmt: skip


# ---------------------------------------------------------------------- activations
class Texts:
    """Windows of articles for fitting and, of other articles, for scoring, with their stores."""

    def __init__(self, model, tokenizer, folder: str, rows: tuple[int, int], sites: dict, seed: int) -> None:
        ids = [tokenizer(text, verbose=False)["input_ids"] for text in articles()]
        order = np.random.default_rng([seed, 1]).permutation(len(ids))
        markup = [i for i in range(len(tokenizer)) if set(tokenizer.decode([i]).strip()) <= set("=@<>") and i > 0]
        self.keep = ~first_position & ~token_ids(markup)
        fitted = self.keep & ~norm_above("res", 20.0)  # sinks that are not at the first position
        self.decode = tokenizer.decode
        self.tap = Tap(model, sites)
        self.parts = []
        cut_at = int(0.8 * len(ids))
        for name, part, count in (("fit", order[:cut_at], rows[0]), ("test", order[cut_at:], rows[1])):
            cut = [(i, ids[i][a : a + CONTEXT]) for i in part for a in range(0, len(ids[i]), CONTEXT)]
            cut = [(i, one) for i, one in cut if len(one) > 8]
            windows = [one for _, one in cut]
            settings = {"split": (1.0, 0.0, 0.0), "keep": fitted, "rows": count, "context": CONTEXT}
            store = ActivationStore.collect(self.tap, windows, f"{folder}/{name}", **settings)
            labels = store.labels("train")
            article = np.array([i for i, _ in cut])[labels[:, 1]]
            self.parts.append((store, windows, labels, article))

    def rows(self, part: int, site: str = "res") -> np.ndarray:
        return self.parts[part][0][site].rows("train")

    def contexts(self, part: int, at: np.ndarray) -> list:
        _, windows, labels, _ = self.parts[part]
        return token_contexts(windows, labels[at], self.decode)


# ---------------------------------------------------------------------- A, B. dictionaries
def methods(size: int, settings: dict) -> dict:
    return {
        "Matryoshka": SparseAutoencoder(size, Matryoshka(BatchTopK(K)), **settings),
        "BatchTopK": SparseAutoencoder(size, BatchTopK(K), **settings),
        "TopK": SparseAutoencoder(size, TopK(K), **settings),
    }


def one_fit(model, texts: Texts, X: np.ndarray, held: np.ndarray, ends: list[int]) -> dict:
    store, _, _, _ = texts.parts[0]
    article = texts.parts[1][3]
    model.fit(store["res"])
    told = {name: one.value for name, one in model.fidelity(held, documents=article).items()}
    order = None if isinstance(model.encoder, Matryoshka) else by_frequency(model.encode(X[:20_000]))
    curve = prefix_curve(model, held, ends, order=order, documents=article)
    return {**told, "dead in training": model.record_.dead, "seconds": model.record_.seconds,
            "prefixes": {str(m): one.value for m, one in curve.items()}}  # fmt: skip


def dictionaries(texts: Texts, seeds: range, size: dict, settings: dict, kept: dict) -> Iterator[Claim]:
    X, held = texts.rows(0), texts.rows(1)
    width, main_size = X.shape[1], size["factors"][0] * X.shape[1]
    ends = [main_size // 16, main_size // 8, main_size // 4, main_size // 2, main_size]
    runs = []
    for seed in seeds:
        models = methods(main_size, settings | {"random_state": seed})
        if seed > seeds[0] + 1:
            models.pop("TopK")  # two seeds of it are enough for what decides nothing
        runs.append({name: one_fit(one, texts, X, held, ends) for name, one in models.items()})
        if seed == seeds[0]:
            kept["models"] = models
            kept["curve"] = {name: run["prefixes"] for name, run in runs[0].items()}
        kept.setdefault("letters", []).append({name: absorption(one, texts) for name, one in models.items()})
    others = {}
    for factor in size["factors"][1:]:
        some = methods(factor * width, settings | {"random_state": seeds[0], "epochs": 2})
        several = [max(1, factor * width // 2**i) for i in (4, 3, 2, 1, 0)]
        others[str(factor)] = {name: one_fit(some[name], texts, X, held, several) for name in ("Matryoshka", "BatchTopK")}
    eighth = str(ends[1])
    gain = [1 - run["Matryoshka"]["prefixes"][eighth] / run["BatchTopK"]["prefixes"][eighth] for run in runs]
    details = {"seeds": runs, "other sizes": others, "rows": len(X), "n_latents": main_size, "held-out rows": len(held)}
    yield over("an eighth of the latents gives back more where prefixes were trained",
               "share by which FVU of the first eighth lies below that of the most frequent eighth of BatchTopK", gain,
               threshold=0.2, details=details)  # fmt: skip
    worse = [run["Matryoshka"]["FVU"] / run["BatchTopK"]["FVU"] - 1 for run in runs]
    yield over("all latents together give back hardly less", "FVU of Matryoshka over that of BatchTopK, less 1", worse,
               direction="less", threshold=0.15)  # fmt: skip
    beside = [run["TopK"]["FVU"] - run["Matryoshka"]["FVU"] for run in runs if "TopK" in run]
    yield over("beside TopK", "FVU of TopK less that of Matryoshka", beside, needed=False)
    off = [abs(run["Matryoshka"]["L0"] / K - 1) for run in runs]
    yield over("the threshold keeps as many latents active on other articles", "|L0 / k - 1|", off, direction="less",
               threshold=0.1)  # fmt: skip
    model = kept["models"]["Matryoshka"]
    part = held[:512]
    together = model.encode(part)
    alone = sparse.vstack([model.encode(row[None]) for row in part], format="csr")
    differ = int(((together != 0) != (alone != 0)).nnz)
    yield Claim("a row has the code it has alone", "codes of 512 rows that differ in what is active", differ, differ, differ, 1,
                direction="less", threshold=1.0, decided_by="effect")  # fmt: skip


def spliced(texts: Texts, kept: dict, count: int) -> Iterator[Claim]:
    stand_ins = {name: one.module() for name, one in kept["models"].items()}
    documents = texts.parts[1][1][:: max(1, len(texts.parts[1][1]) // count)][:count]
    mean = kept["models"]["Matryoshka"].mean_
    told = splice_fidelity(texts.tap, "res", stand_ins, documents, mean=mean, keep=texts.keep, context=CONTEXT, batch_size=4)
    details = {name: {key: str(one) for key, one in found.items()} for name, found in told.items()}
    one = told["Matryoshka"]["recovered of mean ablation"]
    yield Claim("the network predicts as before with the dictionary in its place",
                "share of the loss of mean ablation that is recovered, over windows", one.value, one.lower, one.upper, 1,
                threshold=0.5, needed=False, details=details)  # fmt: skip


# ---------------------------------------------------------------------- absorption of first letters
def first_letters(texts: Texts, part: int) -> np.ndarray:
    """First letter, 0 to 25, of tokens that begin a word, -1 for others."""
    tokens = texts.parts[part][2][:, 0]
    letter = {}
    for token in np.unique(tokens):
        text = texts.decode([token])
        word = text.strip().lower()
        letter[token] = ord(word[0]) - 97 if text[:1] == " " and word.isascii() and word.isalpha() and len(word) > 2 else -1
    return np.array([letter[token] for token in tokens])


def absorption(model: SparseAutoencoder, texts: Texts) -> float:
    """Share of tokens, of those whose letter a linear probe tells, where the letter's own latent is silent and another one
    alone brings most of what lies along the probe's direction."""
    X, held = texts.rows(0)[:20_000], texts.rows(1)
    letters, other = first_letters(texts, 0)[:20_000], first_letters(texts, 1)
    known = letters >= 0
    probe = Ridge(10.0).fit(X[known], np.eye(26)[letters[known]])
    told = probe.predict(held).argmax(axis=1)
    codes, active = sparse.csr_array(model.encode(held)), sparse.csc_array(model.encode(X[known]) > 0)
    rates = []
    for letter in range(26):
        has = letters[known] == letter
        at = np.flatnonzero((other == letter) & (told == letter))
        if has.sum() < 50 or len(at) < 15:
            continue
        hits = np.asarray(active[has].sum(axis=0)).ravel()
        total = np.asarray(active.sum(axis=0)).ravel()
        own = int(np.argmax(2 * hits / (total + has.sum())))  # the latent with the best F1
        direction = probe.coef_[letter] / np.linalg.norm(probe.coef_[letter])
        along = model.atoms_ @ direction
        missed = 0
        for row in at:
            line = codes[[row]]
            if own in line.indices:
                continue
            brought = line.data * along[line.indices]
            positive = brought[brought > 0].sum()
            missed += bool(positive > 0 and brought.max() > 0.4 * positive and along[line.indices[brought.argmax()]] > 0.025)
        rates.append(missed / len(at))
    return float(np.mean(rates)) if rates else float("nan")


def letters(kept: dict) -> Iterator[Claim]:
    gaps = [one["BatchTopK"] - one["Matryoshka"] for one in kept["letters"]]
    yield over("nested latents absorb first letters less", "absorption rate of BatchTopK less that of Matryoshka", gaps,
               needed=False, details={"seeds": kept["letters"]})  # fmt: skip


# ---------------------------------------------------------------------- C. names
def named(codes: tuple, contexts: tuple, count: int, support: int, seed: int) -> tuple[list, list[str]]:
    """Examples and names of some latents that are active on enough rows of both parts."""
    enough = [np.asarray((one > 0).sum(axis=0)).ravel() >= support for one in codes]
    latents = sorted(np.random.default_rng([seed, 2]).permutation(np.flatnonzero(enough[0] & enough[1]))[:count].tolist())
    told = {"n": 200, "n_held": support, "support": support, "random_state": seed}
    examples = latent_examples(codes[0], contexts[0], codes[1], contexts[1], latents=latents, **told)
    return examples, [LexicalNamer(8)(one.active, one.inactive) for one in examples]


def words_probe(examples: list) -> np.ndarray:
    """Balanced accuracy of a logistic model of each latent on the words of the contexts it was named from."""

    def features(one) -> dict:
        near = {f"near {word}": 1 for word in one.before.lower().split()[-8:]}
        return near | {f"token {one.token.strip().lower()}": 1}

    found = []
    for one in examples:
        table = DictVectorizer().fit([features(each) for each in (*one.active, *one.inactive)])
        told = [table.transform([features(each) for each in part]) for part in
                ((*one.active, *one.inactive), one.held_active, one.held_inactive)]  # fmt: skip
        truth = np.repeat([1, 0], [len(one.active), len(one.inactive)])
        probe = LogisticRegression(max_iter=500).fit(told[0], truth)
        found.append((probe.predict(told[1]).mean() + 1 - probe.predict(told[2]).mean()) / 2)
    return np.array(found)


def neurons(table: np.ndarray, cut: np.ndarray) -> sparse.csr_array:
    return sparse.csr_array(np.where(table > cut, table, 0.0))


def names(texts: Texts, plain: Texts, size: dict, settings: dict, kept: dict, seed: int) -> Iterator[Claim]:
    at = [np.arange(min(size["named"][part], len(texts.rows(part)))) for part in (0, 1)]
    contexts = tuple(texts.contexts(part, at[part]) for part in (0, 1))
    model = kept["models"]["Matryoshka"]
    codes = tuple(model.encode(texts.rows(part)[at[part]]) for part in (0, 1))
    examples, given = named(codes, contexts, size["latents"], size["support"], seed)
    encode = SentenceEncoder(*minilm())
    found = score_names(given, examples, LogisticDetector(word_match, EmbeddingMatch(encode)), random_state=seed)
    kept |= {"examples": examples, "scores": found, "codes": codes[0]}
    kinds = {}
    for one in found.latents:
        for kind, share in one.left_out.items():
            kinds.setdefault(kind, []).append(share)
    by_words = score_names(given, examples, LogisticDetector(word_match), random_state=seed)
    by_meaning = score_names(given, examples, LogisticDetector(EmbeddingMatch(encode)), random_state=seed)
    details = {
        "mean": str(found.mean), "words alone": str(by_words.mean), "MiniLM alone": str(by_meaning.mean),
        "told rightly by kind": {kind: float(np.mean(shares)) for kind, shares in kinds.items()},
        "recall": float(np.mean([one.recall for one in found.latents])),
        "best": [[one.latent, one.name, str(one.balanced_accuracy)] for one in found.best(25)],
        "worst": [[one.latent, one.name, str(one.balanced_accuracy)] for one in found.best()[-10:]],
    }  # fmt: skip
    yield Claim("names tell contexts of other articles", "median balanced accuracy over latents", found.median.value,
                found.median.lower, found.median.upper, 1, threshold=0.65, decided_by="effect", details=details)  # fmt: skip
    null = found.null
    yield Claim("permuted names tell nothing", "mean balanced accuracy of permuted names less 0.5, its size, over latents",
                abs(null.value - 0.5), max(null.lower - 0.5, 0.5 - null.upper, 0.0), max(null.upper - 0.5, 0.5 - null.lower), 1,
                direction="less", threshold=0.03, decided_by="effect")  # fmt: skip
    rivals = {"SAE": by_words}
    cut = np.quantile(texts.rows(0, "mlp")[at[0]], 1 - K / codes[0].shape[1], axis=0)
    both = tuple(neurons(texts.rows(part, "mlp")[at[part]], np.maximum(cut, 0.0)) for part in (0, 1))
    rivals["neurons"] = score_names(*reversed(named(both, contexts, size["latents"], size["support"], seed)),
                                    LogisticDetector(word_match), random_state=seed)  # fmt: skip
    drawn = SparseAutoencoder(codes[0].shape[1], Matryoshka(BatchTopK(K)), **settings | {"random_state": seed})
    drawn.fit(plain.parts[0][0]["res"])
    both = tuple(drawn.encode(plain.rows(part)[: size["named"][part]]) for part in (0, 1))
    contexts = tuple(plain.contexts(part, np.arange(both[part].shape[0])) for part in (0, 1))
    rivals["random network"] = score_names(*reversed(named(both, contexts, size["latents"], size["support"], seed)),
                                           LogisticDetector(word_match), random_state=seed)  # fmt: skip
    values = {name: np.array([each.balanced_accuracy.value for each in one.latents]) for name, one in rivals.items()}
    for name, needed in (("neurons", True), ("random network", False)):
        low, high = difference(values["SAE"], values[name])
        what = f"mean balanced accuracy, by words, less that of {name}; over latents"
        yield Claim(f"names of latents beside those of {name}", what,
                    float(values["SAE"].mean() - values[name].mean()), low, high, 1, needed=needed,
                    details={key: str(one.mean) for key, one in rivals.items()})  # fmt: skip
    probe = words_probe(examples)
    yield over("names beside a probe on words", "balanced accuracy of names less that of a probe on words; over latents",
               np.array([one.balanced_accuracy.value for one in found.latents]) - probe, needed=False)  # fmt: skip


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Welch's interval of a difference of means."""
    found = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    return float(found.low), float(found.high)


# ---------------------------------------------------------------------- D. steering
def steering(texts: Texts, tokenizer, size: dict, kept: dict, seed: int) -> Iterator[Claim]:
    model, codes = kept["models"]["Matryoshka"], kept["codes"]
    concepts, chosen = {}, []
    for one in kept["scores"].best():
        words = [word for word in name_words(one.name) if len(word) > 2 and word[0].isalpha() and " " not in word]
        tokens = {tokenizer(f" {one}")["input_ids"][0] for word in words for one in (word, word.title())}
        if tokens and len(chosen) < size["steered"]:
            concepts[str(one.latent)] = sorted(tokens)
            chosen.append(one)
    if len(concepts) < 2:
        return  # in a quick run names may have no words that the network could say
    prompts = [np.array(tokenizer(one)["input_ids"]) for one in PROMPTS[: size["prompts"]]]
    rng, told = np.random.default_rng([seed, 3]), {"tokens": size["written"], "random_state": seed}
    active = np.flatnonzero(np.asarray((codes > 0).sum(axis=0)).ravel() >= 20)
    lines = []
    for one in chosen:
        name = str(one.latent)
        own = SteeringDirection.of_latent(texts.tap, "res", model, one.latent, codes)
        other = int(rng.choice(active[active != one.latent]))
        by = {
            "own": (own, STRENGTHS),
            "clamped": (SteeringDirection.of_latent(texts.tap, "res", model, one.latent, codes, clamp=True), (4.0,)),
            "random": (SteeringDirection(texts.tap, "res", rng.normal(size=model.n_features_in_), unit=own.unit), (4.0,)),
            "another latent": (SteeringDirection(texts.tap, "res", model.atoms_[other], unit=own.unit), (4.0,)),
        }  # fmt: skip
        line = {"latent": one.latent, "name": one.name, "words": [tokenizer.decode([i]) for i in concepts[name]]}
        for kind, (direction, strengths) in by.items():
            effects = steering_effects(direction, prompts, concepts, strengths, **told)
            line[kind] = [[e.strength, e.on_target(name), e.off_target(name), e.perplexity] for e in effects]
            if kind == "own":
                line["text at 4"] = tokenizer.decode(effects[STRENGTHS.index(4.0)].texts[0])
        lines.append(line)
    yield from steered(lines)


def steered(lines: list[dict]) -> Iterator[Claim]:
    own = np.array([[one[1] for one in line["own"]] for line in lines])
    four = STRENGTHS.index(4.0)
    full = np.insert(own, 2, 0.0, axis=1)  # at 0 nothing rises
    monotone = (np.diff(full, axis=1) > 0).all(axis=1)
    up_to_4 = (np.diff(full[:, :-1], axis=1) > 0).all(axis=1)
    tau = [stats.kendalltau(np.insert(STRENGTHS, 2, 0.0), row)[0] for row in full]
    details = {"latents": lines, "monotone up to 4": float(up_to_4.mean()), "mean Kendall's tau": float(np.mean(tau))}
    low, high = over_seeds(monotone.astype(float))[1:]
    yield Claim("the odds of a name's words rise with the strength", "share of latents, strictly from -4 to 8; over latents",
                float(monotone.mean()), low, high, 1, threshold=0.5, decided_by="effect", details=details)  # fmt: skip
    for kind in ("random", "another latent"):
        rival = np.array([line[kind][0][1] for line in lines])
        what = "a random direction" if kind == "random" else "another latent's direction"
        yield over(f"the latent's direction beside {what}", f"rise of the log-odds at 4 less that of {what}; over latents",
                   own[:, four] - rival)  # fmt: skip
    off = np.array([line["own"][four][2] for line in lines])
    yield over("own words rise more than those of other names", "log-odds at 4, own less mean size of others'; over latents",
               own[:, four] - off, needed=False)  # fmt: skip
    fluent = np.log([line["own"][four][3] for line in lines]) - np.log([line["random"][0][3] for line in lines])
    yield over("text stays as fluent as under a random direction", "log of the perplexity at 4 less that of a random direction",
               fluent, direction="less", needed=False)  # fmt: skip
    clamped = np.array([line["clamped"][0][1] for line in lines])
    yield over("adding beside clamping", "rise of the log-odds at 4, added less clamped; over latents", own[:, four] - clamped,
               needed=False)  # fmt: skip


# ---------------------------------------------------------------------- E. two kinds of rows, planted
def kinds(seeds: range) -> Iterator[Claim]:
    ratios = []
    for seed in seeds:
        rng, found = np.random.default_rng([seed, 4]), []
        features = rng.normal(size=(40, 24))
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        kind = np.repeat([0, 1], [4000, 200])
        codes = (rng.random((4200, 40)) < 0.1) * rng.gamma(9, 1 / 9, size=(4200, 40))
        codes[kind == 0, 20:], codes[kind == 1, :20] = 0.0, 0.0
        X = (codes @ features).astype(np.float32)
        for rows in (ArrayStore(X), balanced_rows(X, kind, random_state=seed)):
            settings = {"epochs": 10, "batch_size": 200, "learning_rate": 4e-3, "random_state": seed}
            sae = SparseAutoencoder(32, Matryoshka(BatchTopK(2)), **settings).fit(rows)
            rare = X[kind == 1]
            selective = modality_score(sae.encode(X), kind == 1) > 0.9
            close = np.abs(sae.atoms_[selective] @ features[20:].T).max(axis=0, initial=0.0)
            found.append(((close > 0.7).sum(), fvu(rare, sae.reconstruct(rare), rare.mean(axis=0)).value))
        ratios.append([found[1][0] / max(found[0][0], 1), found[0][1] - found[1][1]])
    values = np.array(ratios)
    yield over("features of a rare kind are found where kinds are balanced", "times as many found as at 20 to 1, planted",
               values[:, 0], threshold=3.0, decided_by="effect", needed=False)  # fmt: skip
    yield over("rows of a rare kind are given back better", "FVU of rare rows at 20 to 1 less that where balanced, planted",
               values[:, 1], needed=False)  # fmt: skip


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    warnings.simplefilter("error")
    if device == "cpu":
        torch.set_num_threads(1)
    size = {"rows": (40_000, 10_000), "plain": (18_000, 7_000), "factors": (4, 2, 8), "named": (40_000, 10_000), "latents": 100,
            "support": 20, "steered": 10, "prompts": 6, "written": 12, "spliced": 10}  # fmt: skip
    settings = {"epochs": 5, "batch_size": 256, "learning_rate": 1e-3, "device": device}
    if quick:
        size |= {"rows": (6_000, 3_000), "plain": (2_500, 2_000), "factors": (2,), "named": (6_000, 3_000), "latents": 30,
                 "support": 12, "steered": 3, "prompts": 3, "written": 8, "spliced": 2}  # fmt: skip
        settings["batch_size"] = 128
    seeds, kept = range(seed, seed + (2 if quick else 5)), {}
    model, tokenizer = smollm2()
    model.to(device)
    with seeded(seed):
        drawn = type(model)(model.config).eval().requires_grad_(False).to(device)
    with tempfile.TemporaryDirectory() as folder:
        texts = Texts(model, tokenizer, f"{folder}/a", size["rows"], SITES, seed)
        plain = Texts(drawn, tokenizer, f"{folder}/b", size["plain"], {"res": SITES["res"]}, seed)
        told = list(dictionaries(texts, seeds, size, settings, kept))
        yield from names(texts, plain, size, settings, kept, seed)
        yield from told
        yield from spliced(texts, kept, size["spliced"])
        yield from letters(kept)
        yield from steering(texts, tokenizer, size, kept, seed)
    yield from kinds(seeds)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
