"""Transcoders on a real language model: splices, sums that are exact, circuits taken out, and a task on few features.

Splices: MLP of the thirteenth block of SmolLM2-135M-Instruct (4 bits) on WikiText-2 articles, split by article, with TopK
latents so that all methods have the same number active. Exactness: random GPT-2 models with ReLU MLPs that are their own
transcoders. Circuits: features of that block on held-out articles, whose ten strongest earlier features are set to 0 beside
others that are as active. Task: the decade digit of a later year, by the MLP whose ablation costs most there. First positions
are left out of fit, score and splice. Intervals are Student's over seeds, and over articles where said.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from transformers import GPT2Config, GPT2LMHeadModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over
from wikitext import articles

from locum.inside import (
    ActivationStore,
    Feature,
    Logits,
    ReplacementModel,
    SparseAutoencoder,
    Tap,
    TopK,
    Transcoder,
    attribution_graph,
    first_position,
    fvu,
    splice_fidelity,
)
from locum.nets import seeded, smollm2

LAYERS = (8, 10, 12)  # with transcoders for circuits; the last is spliced
TASK = 24  # found by `costs`, which is told beside the figures
RECOVERED = "recovered of mean ablation"
KS = (1, 2, 4, 8, 16, 32, 64)


def resampled(statistic, groups: np.ndarray, seed: int, draws: int = 2000) -> tuple[float, float]:
    """Percentile interval of a statistic of rows, with whole groups drawn again."""
    rng, members = np.random.default_rng([seed, 1]), [np.flatnonzero(groups == one) for one in np.unique(groups)]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = [statistic(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
                 for _ in range(draws)]  # fmt: skip
    return tuple(float(one) for one in np.nanpercentile(found, [2.5, 97.5]))


# ---------------------------------------------------------------------- A. splices
def random_layer(rows, target, p: int, k: int, seed: int):
    """The k largest of p random ReLU units, with outputs fitted by least squares; inputs to outputs, as tensors."""
    x, y = torch.from_numpy(rows.rows()), torch.from_numpy(target.rows())
    with seeded(seed):
        w = torch.nn.functional.normalize(torch.randn(p, x.shape[1]), dim=1)
    shift, mean = x.mean(dim=0), y.mean(dim=0)

    def codes(some):
        value, index = ((some - shift) @ w.T).topk(k, dim=-1)
        return torch.zeros(*some.shape[:-1], p).scatter_(-1, index, value.relu())

    within, across, centre = torch.zeros(p, p), torch.zeros(p, y.shape[1]), torch.zeros(p)
    for start in range(0, len(x), 4096):
        z = codes(x[start : start + 4096])
        within, across, centre = within + z.T @ z, across + z.T @ y[start : start + 4096], centre + z.sum(dim=0)
    centre = centre / len(x)
    within = within / len(x) - torch.outer(centre, centre)
    across = across / len(x) - torch.outer(centre, mean)
    within.diagonal().add_(1e-4 * within.diagonal().mean())
    d = torch.linalg.solve(within, across)
    return lambda some: (codes(some) - centre) @ d + mean


def settings(size: dict, seed: int) -> dict:
    return {"epochs": size["epochs"], "batch_size": 128, "learning_rate": 3e-3, "random_state": seed}


def splices(tap: Tap, store, texts: list, seeds: range, size: dict) -> Iterator[Claim]:
    rows, target = store["in 12"], store["out 12"]
    x, y, documents = (one[: size["held"]] for one in (rows.rows("test"), target.rows("test"), rows.documents("test")))
    runs = []
    for seed in seeds:
        how = settings(size, seed)
        fitted = {f"transcoder, {k}": Transcoder(size["p"], TopK(k), **how).fit(rows, target) for k in (32, 8, 128)}
        fitted["skip-transcoder, 32"] = Transcoder(size["p"], TopK(32), skip=True, **how).fit(rows, target)
        sae = SparseAutoencoder(size["p"], TopK(32), **how).fit(target)
        random = random_layer(rows, target, size["p"], 32, seed)
        spliced = {"SAE on outputs, 32": splice_fidelity(
            tap, "out 12", {"": sae.module()}, texts, mean=target.mean_, keep=~first_position, context=128, batch_size=4)[""]
        }  # fmt: skip
        spliced |= splice_fidelity(
            tap, "out 12", {name: one.module() for name, one in fitted.items()} | {"random layer, 32": random}, texts,
            mean=target.mean_, source="in 12", keep=~first_position, context=128, batch_size=4,
        )  # fmt: skip
        errors = {name: one.fidelity(x, y, documents=documents)["FVU"].value for name, one in fitted.items()}
        errors["SAE on outputs, 32"] = sae.fidelity(y, documents=documents)["FVU"].value
        errors["random layer, 32"] = fvu(y, random(torch.from_numpy(x)).numpy(), target.mean_, documents=documents).value
        told = {name: {"recovered": one[RECOVERED].value, "lower": one[RECOVERED].lower, "upper": one[RECOVERED].upper,
                       "CE": one["CE spliced"].value, "FVU": errors[name]} for name, one in spliced.items()}  # fmt: skip
        told["CE"] = {name: one.value for name, one in spliced["transcoder, 32"].items() if name.startswith("CE")}
        told["dead"] = {name: one.fidelity(x, y)["dead share"].value for name, one in fitted.items()}
        runs.append(told)

    def each(name: str) -> np.ndarray:
        return np.array([run[name]["recovered"] for run in runs])

    ours = each("transcoder, 32")
    yield over("as faithful as a sparse autoencoder of the outputs with as many active latents",
               "share of cross-entropy recovered, transcoder less SAE, 32 active", ours - each("SAE on outputs, 32"),
               threshold=-0.05, details={"seeds": runs, "rows": rows.count("train"), "p": size["p"]})  # fmt: skip
    yield over("half of what mean ablation costs is recovered", "share recovered, 32 active", ours, threshold=0.5)
    for low, high in ((8, 32), (32, 128)):
        yield over(f"more active latents, more recovered: {high} against {low}", "share recovered, difference",
                   each(f"transcoder, {high}") - each(f"transcoder, {low}"))  # fmt: skip
    yield over("better than a random layer fitted by least squares", "share recovered, difference, 32 active",
               ours - each("random layer, 32"))  # fmt: skip
    gain = [run["random layer, 32"]["FVU"] - run["transcoder, 32"]["FVU"] for run in runs]
    yield over("less variance unexplained than by a random layer", "FVU, difference, 32 active", gain)
    yield over("a skip helps", "share recovered, skip-transcoder less transcoder, 32 active",
               each("skip-transcoder, 32") - ours, needed=False)  # fmt: skip


# ---------------------------------------------------------------------- B. exactness
def exactness(seeds: range) -> Claim:
    """The largest gap between a target and the sum of its attributions, and between edges and their nodes."""
    worst = []
    for seed in seeds:
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": 60, "n_inner": 128}
        with seeded(seed):
            model = GPT2LMHeadModel(GPT2Config(**shape, activation_function="relu", bos_token_id=0, eos_token_id=0))
            with torch.no_grad():
                for parameter in model.eval().requires_grad_(False).parameters():
                    parameter += 0.2 * torch.randn_like(parameter)
        mlps = {i: block.mlp for i, block in enumerate(model.transformer.h)}
        whole = {i: Transcoder.from_weights(one.c_fc.weight.T, one.c_fc.bias, one.c_proj.weight, one.c_proj.bias)
                 for i, one in mlps.items()}  # fmt: skip
        prompt = ReplacementModel(model, whole).run(np.random.default_rng(seed).integers(60, size=12))
        targets: list = [Feature(1, int(i), 11) for i in prompt.codes[1][[11]].indices[:10]] + [Logits({3: 1.0, 5: -1.0})]
        for target in targets:
            told = prompt.attribute(target)
            graph = attribution_graph(prompt, target, depth=2, beam=None)
            into = dict(graph.rest)
            for (_, reader), value in graph.edges.items():
                into[reader] += value
            gaps = [abs(value - graph.nodes[node]) for node, value in into.items()]
            worst.append(max([abs(told.values.sum() - told.value), *gaps]))
    return Claim("attributions sum to what the network computes", "largest gap on random networks whose MLPs are transcoders",
                 max(worst), max(worst), max(worst), len(seeds), direction="less", threshold=1e-4)  # fmt: skip


# ---------------------------------------------------------------------- C. circuits
def circuits(replaced: ReplacementModel, texts: list, pairs: int, seed: int) -> Iterator[Claim]:
    rng, told, owner = np.random.default_rng([seed, 3]), [], []
    for number, ids in enumerate(texts):
        prompt = replaced.run(ids[:24])
        active = prompt.codes[12][[-1]].indices
        for latent in rng.choice(active, size=min(5, len(active)), replace=False):
            if len(told) < pairs:
                told.append(replaced.verify(prompt, Feature(12, int(latent), -1), draws=3, random_state=seed))
                owner.append(number)
    foretold, fall = (np.array([getattr(one, name) for one in told]) for name in ("foretold", "fall"))
    beaten = np.array([abs(one.fall) > np.abs(one.others).mean() for one in told], dtype=float)
    groups, details = np.array(owner), {"foretold": foretold.tolist(), "fall": fall.tolist()}

    def agreement(rows: np.ndarray) -> float:
        return float(np.corrcoef(stats.rankdata(foretold[rows]), stats.rankdata(fall[rows]))[0, 1])

    value, (lower, upper) = agreement(np.arange(len(told))), resampled(agreement, groups, seed)
    how = f"{len(told)} features, interval over {len(np.unique(groups))} articles"
    yield Claim("what is foretold of taking ten features out comes true", f"Spearman correlation, {how}", value,
                min(lower, value), max(upper, value), 1, threshold=0.4, details=details)  # fmt: skip
    share, (lower, upper) = float(beaten.mean()), resampled(lambda rows: float(beaten[rows].mean()), groups, seed)
    yield Claim("the strongest features matter more than others as active", f"share of targets, {how}", share, lower, upper, 1,
                threshold=0.85, decided_by="effect",
                details={"others": [one.others.tolist() for one in told]})  # fmt: skip


# ---------------------------------------------------------------------- D. a task
class Years:
    """Prompts on a war from one year to another, whose next digit should be no smaller than the first year's decade."""

    def __init__(self, model, tokenizer, years: range) -> None:
        said = [tokenizer(f"The war lasted from the year 17{one:02d} to the year 17")["input_ids"] for one in years]
        self.ids, self.decades, self.model = torch.tensor(said), np.array(years) // 10, model
        self.digits = [tokenizer(str(one), add_special_tokens=False)["input_ids"][0] for one in range(10)]
        with torch.inference_mode():
            said = model(self.ids[:, :-1], use_cache=True)
            self.cache = said.cache if "cache" in said else said.past_key_values  # as releases of transformers call it

    def score(self) -> float:
        """Probability of larger digits less that of smaller ones, the mean over prompts."""
        with torch.inference_mode():
            said = self.model(self.ids[:, -1:], cache=copy.deepcopy(self.cache), use_cache=True).logits[:, -1]
        p = said.softmax(dim=-1)[:, self.digits].double().numpy()
        return float(np.mean([p[i, one + 1 :].sum() - p[i, :one].sum() for i, one in enumerate(self.decades)]))

    def read(self, tap: Tap, name: str) -> np.ndarray:
        with torch.inference_mode():
            return tap.read(self.ids, use_cache=False)[name][:, -1].numpy()

    def directions(self, norm, unembedding: np.ndarray) -> np.ndarray:
        """What raises the logits of larger digits above those of smaller ones, by prompt; zero where there are none."""
        rows = unembedding[self.digits]
        found = [rows[one + 1 :].mean(axis=0) - rows[:one].mean(axis=0) if 0 < one < 9 else 0 * rows[0]
                 for one in self.decades]  # fmt: skip
        return norm.pull(np.array(found))


def costs(years: Years, layers: int) -> list[float]:
    """By how much the score falls where each layer's MLP gives its mean over the prompts."""
    tap = Tap(years.model, {str(i): f"model.layers.{i}.mlp" for i in range(layers)})
    with torch.inference_mode():
        means = {name: one[:, -1].mean(dim=0) for name, one in tap.read(years.ids, use_cache=False).items()}
    whole, found = years.score(), []
    for name, mean in means.items():
        with tap.replace(name, lambda x, mean=mean: torch.zeros_like(x) + mean):
            found.append(whole - years.score())
    return found


def curve(years: Years, tap: Tap, z: np.ndarray, rows: np.ndarray, out: np.ndarray, f: np.ndarray) -> dict[str, list]:
    """Scores with k units as they are and the others at their mean: by variance, and by attribution to the digits.

    `z` holds the units' activations by prompt, `rows` what each of them writes, and `out` the MLP's outputs, whose mean is kept
    in all runs: without any unit, features and neurons alike give the mean ablation.
    """
    away = z - z.mean(axis=0)
    orders = {
        "variance": np.argsort(-(away**2).mean(axis=0) * (rows**2).sum(axis=1)),
        "attribution": np.argsort(-np.abs(away * (f @ rows.T)).mean(axis=0)),
    }
    found: dict[str, list] = {}
    for name, order in orders.items():
        found[name] = []
        for k in KS:
            some = order[:k]
            given = torch.tensor(out.mean(axis=0) + away[:, some] @ rows[some], dtype=torch.float32)[:, None]
            with tap.replace("out", lambda _, given=given: given):
                found[name].append(years.score())
    return found


def task(model, tokenizer, store, seeds: range, size: dict, replaced: ReplacementModel) -> Iterator[Claim]:
    years = Years(model, tokenizer, range(2, 99, size["step"]))
    where = f"model.layers.{TASK}.mlp"
    tap = Tap(model, {"in": (where, "in"), "hidden": (f"{where}.down_proj", "in"), "out": where})
    fall = costs(years, len(replaced.stream.blocks))
    f = years.directions(replaced.stream.last, replaced.stream.unembedding)
    down = model.get_submodule(f"{where}.down_proj").weight.detach().numpy().T
    x, out, features = years.read(tap, "in"), years.read(tap, "out"), []
    neurons = curve(years, tap, years.read(tap, "hidden"), down, out, f)
    for seed in seeds:
        one = Transcoder(size["p"], TopK(32), **settings(size, seed)).fit(store[f"in {TASK}"], store[f"out {TASK}"])
        features.append(curve(years, tap, one.transform(x).toarray(), one.maps_.decoder, out, f))
    details = {"k": KS, "neurons": neurons, "features": features, "score": years.score(), "falls by layer": fall}
    few = sum(k < 24 for k in KS)
    for name in ("variance", "attribution"):
        gain = [np.mean(run[name][:few]) - np.mean(neurons[name][:few]) for run in features]
        yield over(f"few features carry more of the task than few neurons, by {name}",
                   "score with 1 to 16 kept, features less neurons", gain, needed=False,
                   details=details if name == "variance" else {})  # fmt: skip


# ----------------------------------------------------------------------
def measure(quick: bool, seed: int) -> Iterator[Claim]:
    warnings.simplefilter("error")
    size = {"p": 1152, "rows": 32_000, "epochs": 4, "held": 4_000, "spliced": 20, "pairs": 100, "texts": 20, "step": 2,
            "length": 320}  # fmt: skip
    if quick:
        size |= {"p": 576, "rows": 4_000, "held": 500, "spliced": 3, "pairs": 8, "texts": 3, "step": 12, "length": 257}
    seeds = range(seed, seed + (2 if quick else 5))
    model, tokenizer = smollm2()
    ids = [tokenizer(text, verbose=False)["input_ids"][: size["length"]] for text in articles()]
    sites = {f"{side} {i}": (f"model.layers.{i}.mlp", side) for i in (*LAYERS, TASK) for side in ("in", "out")}
    tap = Tap(model, sites)
    with tempfile.TemporaryDirectory() as folder:
        collected = {"context": 128, "keep": ~first_position, "rows": size["rows"], "split": (0.8, 0.0, 0.2)}
        store = ActivationStore.collect(tap, ids, folder, **collected)
        held = [ids[i][:129] for i in store.documents_of("test")]
        yield from splices(tap, store, held[: size["spliced"]], seeds, size)
        yield exactness(range(seed, seed + (3 if quick else 10)))
        fitted = {i: Transcoder(size["p"], TopK(32), **settings(size, seed)).fit(store[f"in {i}"], store[f"out {i}"])
                  for i in LAYERS}  # fmt: skip
        replaced = ReplacementModel(model, fitted, keep=~first_position)
        yield from circuits(replaced, held[: size["texts"]], size["pairs"], seed)
        yield from task(model, tokenizer, store, seeds, size, replaced)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
