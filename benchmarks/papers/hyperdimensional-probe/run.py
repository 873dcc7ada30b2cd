"""Word analogies read from the states of a language model as bundles of bound pairs, beside what needs no model.

Pairs: the 550 of questions-words.txt, 14 relations, each asked for and given as the example equally often, in two formats.
Model: SmolLM2-135M-Instruct at 4 bits, the last token's states of layers 15 to 30. Splits: documents at random; answers held
out, where a fifth of the pairs are never asked for in training but do occur as examples; pairs held out, which occur nowhere.
The query is fixed: the key is unbound. Shares are means over relations. Intervals are Student's over seeds; each seed has its
own split, codebook and network. States and finished parts are kept in ~/.cache/locum/hyperdimensional-probe, and a run that was
stopped goes on from there; delete the folder to start over. What moves the model is measured with the model on the CPU.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, Kept, main, over, over_seeds, tidy

sys.path.insert(0, str(Path(__file__).resolve().parent))
from prompts import (
    VERSION,
    Corpus,
    Split,
    States,
    answers_held_out,
    corpus,
    pairs_held_out,
    random_split,
    sentence_states,
    states,
)

from locum.core.errors import OutsideRegion
from locum.inside import HypervectorProbe, Tap, bundle_recovery, concept_rivals, pair_table, permuted_pairs
from locum.nets import smollm2

DIM = 1024
SPLITS = {"random": random_split, "answers held out": answers_held_out, "pairs held out": pairs_held_out}
APART = ("capital-common-countries", "capital-world", "gram6-nationality-adjective", "gram8-plural")
SITES = {"block 20": "model.layers.19", "last block": "model.layers.29"}
STEP = 0.25  # of the length of the state


class Cells(Kept):
    """Parts of the measurement, each made once, in numbers that JSON has."""

    def __init__(self, quick: bool, device: str) -> None:
        super().__init__("hyperdimensional-probe", quick, [VERSION, device])

    def __call__(self, name: Sequence[Any], work: Callable[[], Any]) -> Any:
        return super().__call__(name, lambda: tidy(work()))


# ---------------------------------------------------------------------- fitting and reading
def picked(data: Corpus, rows: np.ndarray) -> list:
    return [data.documents[i] for i in rows]


def fitted(data: Corpus, X: np.ndarray, split: Split, seed: int, epochs: int, device: str, **settings) -> HypervectorProbe:
    told = settings.pop("documents", data.documents)
    codes = data.codebook(DIM, settings.pop("codebook_seed", seed))
    probe = HypervectorProbe(codes, hidden=(512, 512), epochs=epochs, patience=5, batch_size=32, learning_rate=1e-3,
                             device=device, random_state=seed, **settings)  # fmt: skip
    return probe.fit(X[split.train], [told[i] for i in split.train], val=(X[split.val], [told[i] for i in split.val]))


def by_name(hits: np.ndarray, relations: np.ndarray) -> dict[str, float]:
    """Share of hits by relation."""
    return {one: float(hits[relations == one].mean()) for one in np.unique(relations)}


def decoded(data: Corpus, S: States, name: str, seed: int, epochs: int, device: str) -> dict:
    """All methods on one split with one seed."""
    split, e = SPLITS[name](data, seed), S.kmeans_sum
    train, test, asked, relations = split.train, split.test, picked(data, split.test), data.relations[split.test]
    probe = fitted(data, e, split, seed, epochs, device)
    words = fitted(data, S.words, split, seed, epochs, device)
    controls = {"words alone": (words, S.words[test], asked)}
    if name == "answers held out":
        wrong = permuted_pairs(data.documents, relations=list(data.relations), random_state=seed)
        permuted = fitted(data, e, split, seed, epochs, device, documents=wrong)
        controls["permuted pairs"] = (permuted, e[test], [wrong[i] for i in test])
    codes = probe.codebook
    rivals = concept_rivals(codes, e[train], picked(data, train), e[test], random_state=seed)
    rivals["table of pairs"] = pair_table(codes, picked(data, train), asked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideRegion)  # told as a number
        report = probe.report(e[test], asked, controls=controls, rivals=rivals, relations=list(relations))
    told = {name: {key: one.value for key, one in found.items()} for name, found in report.methods.items()}
    layer = int((S.lens[train] == 1).mean(axis=0).argmax())  # the layer that finds answers of the training prompts best
    by = {one: report.by_relation(one) for one in ("probe", "words alone", "table of pairs")}
    spoken = {"next token": S.right, "lens": S.lens[:, layer] == 1, "next token among concepts": S.lens[:, -1] == 1}
    for one, hits in spoken.items():
        by[one] = by_name(hits[test], relations)
        told[one] = {"answer @1": float(np.mean(list(by[one].values())))}
    single = S.single[test]
    told["next token"]["single-token answers @1"] = float(S.right[test][single].mean())
    if not report.excluded:
        told["probe"]["single-token answers @1"] = float((report.ranks["probe"] == 1)[single].mean())
    return {"methods": told, "relations": by, "lens layer": layer + 15, "n": len(asked), "excluded": report.excluded}


def one_probe(data: Corpus, X: np.ndarray, split: Split, seed: int, epochs: int, device: str, **settings) -> dict:
    """A probe and its constant alone."""
    probe = fitted(data, X, split, seed, epochs, device, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideRegion)
        report = probe.report(X[split.test], picked(data, split.test), relations=list(data.relations[split.test]))
    return {name: {key: one.value for key, one in found.items()} for name, found in report.methods.items()}


# ---------------------------------------------------------------------- does the model act on it?
def moved(data: Corpus, e: np.ndarray, seed: int, epochs: int, prompts: int) -> dict:
    """Rise of the log-probability of another pair's value, when the state moves towards that pair by the probe's gradient."""
    split = answers_held_out(data, seed)
    probe = fitted(data, e, split, seed, epochs, "cpu")
    model, tokenizer = smollm2()
    rng, tap = np.random.default_rng([seed, 21]), Tap(model, SITES)
    half = len(data.prompts) // 2  # the first format
    chosen = [i for i in rng.permutation(split.test) if i < half][:prompts]
    wanted = []
    for i in chosen:
        a, b = data.documents[i]
        others = sorted({data.documents[j][1] for j in np.flatnonzero(data.relations == data.relations[i])})
        free = [one for one in others if not {*one} & {*a, *b}]
        wanted.append([free[j] for j in rng.choice(len(free), 2, replace=False)])
    steps = [probe.direction(e[chosen], [(data.documents[i][0], pair[k]) for i, pair in zip(chosen, wanted, strict=True)])
             for k in (0, 1)]  # fmt: skip
    rises: dict[str, dict[str, list[float]]] = {site: {"own": [], "other": [], "random": []} for site in SITES}
    for at, i in enumerate(chosen):
        ids = tokenizer(data.prompts[i], return_tensors="pt")["input_ids"]
        token = tokenizer(f" {wanted[at][0][1]}")["input_ids"][0]
        noise = rng.normal(size=(4, e.shape[1]))
        table = np.stack([np.zeros(e.shape[1]), steps[0][at], steps[1][at],
                          *(noise / np.linalg.norm(noise, axis=1, keepdims=True))]).astype(np.float32)  # fmt: skip
        for site in SITES:
            with torch.inference_mode(), tap.edit(site, _shift(torch.from_numpy(table)), positions=-1):
                logs = model(input_ids=ids.expand(len(table), -1)).logits[:, -1].log_softmax(dim=-1)[:, token].numpy()
            rise = logs[1:] - logs[0]
            for name, value in zip(("own", "other", "random"), (rise[0], rise[1], rise[2:].mean()), strict=True):
                rises[site][name].append(float(value))
    return {site: {name: float(np.mean(values)) for name, values in found.items()} for site, found in rises.items()}


def _shift(table: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda h: h + STEP * h.norm(dim=-1, keepdim=True) * table[:, None]


# ---------------------------------------------------------------------- claims
def get(cells: list[dict], method: str, key: str = "answer @1") -> np.ndarray:
    return np.array([one["methods"][method][key] for one in cells])


def averaged(cells: list[dict]) -> dict:
    """Means over seeds, by method and measure."""
    first = cells[0]["methods"]
    return {name: {key: float(np.mean([one["methods"][name].get(key, np.nan) for one in cells])) for key in told}
            for name, told in first.items()}  # fmt: skip


def by_relation(cells: list[dict], method: str) -> dict:
    names = sorted({one for cell in cells for one in cell["relations"][method]})
    return {name: float(np.mean([cell["relations"][method][name] for cell in cells if name in cell["relations"][method]]))
            for name in names}  # fmt: skip


def reading(cells: list[dict], random: list[dict]) -> Iterator[Claim]:
    held = "answers held out"
    relations = {name: by_relation(cells, name) for name in ("probe", "words alone", "lens", "table of pairs", "next token")}
    yield over("answers are read far more often than they are spoken", f"answer @1 less next token @1, {held}",
               get(cells, "probe") - get(cells, "next token"),
               details={"means": averaged(cells), "by relation": relations, "lens layers": [one["lens layer"] for one in cells],
                        "apart": {name: {key: told.get(name) for key, told in relations.items()} for name in APART},
                        "seeds": [one["methods"] for one in cells]})  # fmt: skip
    yield over("the same, documents split at random as in the paper", "answer @1 less next token @1",
               get(random, "probe") - get(random, "next token"), details={"means": averaged(random)})  # fmt: skip
    yield over("words of the prompt are read from the state", f"context @1, {held}", get(cells, "probe", "context @1"),
               threshold=0.8, decided_by="effect")  # fmt: skip
    yield over("answers are read from states better than from the words of the prompt alone",
               f"answer @1 less that of the same network on token embeddings, {held}",
               get(cells, "probe") - get(cells, "words alone"), needed=False)  # fmt: skip
    yield over("answers are read better than permuted ones", f"answer @1 less that of permuted pairs, {held}",
               get(cells, "probe") - get(cells, "permuted pairs"), needed=False)  # fmt: skip
    yield over("the probe does better than a table of the training pairs", f"answer @1 less that of the table, {held}",
               get(cells, "probe") - get(cells, "table of pairs"), needed=False)  # fmt: skip
    for name in ("constant", "linear", "nearest mean", "lens", "next token among concepts"):
        yield over(f"the probe beside {name}", f"answer @1 less that of {name}, {held}", get(cells, "probe") - get(cells, name),
                   needed=False)  # fmt: skip
    best = "answer @1 by the query that suits the answer (upper bound)"
    yield over("choosing the query by the answer adds", f"upper bound less answer @1, {held}",
               get(cells, "probe", best) - get(cells, "probe"), needed=False)  # fmt: skip


def variants(
    cells: Cells, data: Corpus, S: States, held: list[dict], seeds: range, epochs: int, device: str, crossed: int
) -> Iterator[Claim]:
    e, pools = S.kmeans_sum, {name: getattr(S, name) for name in ("mean", "last")}
    told = {name: [cells(f"pool {name} {one}", lambda X=X, one=one: one_probe(
        data, X, answers_held_out(data, one), one, epochs, device)) for one in seeds] for name, X in pools.items()}  # fmt: skip
    values = {name: np.array([one["probe"]["answer @1"] for one in found]) for name, found in told.items()}
    values["kmeans_sum"] = get(held, "probe")[: len(seeds)]
    for name in pools:
        yield over(f"pooling by clusters beside {name}", f"answer @1 less that with {name}, answers held out",
                   values["kmeans_sum"] - values[name], needed=False,
                   details={one: found.tolist() for one, found in values.items()})  # fmt: skip
    found = [cells(f"published {one}", lambda one=one: one_probe(
        data, e, random_split(data, one), one, epochs, device, faithful=True, ties="negative")) for one in seeds]  # fmt: skip
    for key in ("cosine", "bit accuracy"):
        gain = [one["probe"][key] - one["constant"][key] for one in found]
        yield over(f"published loss and ties: {key} above a constant's", f"{key} less that of a constant, random split", gain,
                   needed=False, details={"seeds": found})  # fmt: skip
    new = [cells(f"new pairs {seed}", lambda seed=seed: one_probe(
        data, e, pairs_held_out(data, seed), seed, epochs, device)) for seed in seeds]  # fmt: skip
    yield over("pairs that occurred nowhere cannot be read", "answer @1, pairs held out",
               [one["probe"]["answer @1"] for one in new], direction="less", threshold=0.1, decided_by="effect", needed=False,
               details={"seeds": new})  # fmt: skip
    M = sentence_states(data)
    other = [cells(f"minilm {seed}", lambda seed=seed: one_probe(
        data, M, answers_held_out(data, seed), seed, epochs, device)) for seed in seeds]  # fmt: skip
    yield over("words of the prompt are read from a sentence encoder", "context @1 of MiniLM, answers held out",
               [one["probe"]["context @1"] for one in other], threshold=0.8, decided_by="effect", needed=False,
               details={"seeds": other})  # fmt: skip
    if crossed:
        split = answers_held_out(data, seeds[0])
        grid = np.array([[cells(f"crossed {a} {b}", lambda a=a, b=b: one_probe(
            data, e, split, b, epochs, device, codebook_seed=10 + a))["probe"]["answer @1"] for b in range(crossed)]
            for a in range(crossed)])  # fmt: skip
        spread = float(grid.std(ddof=1))
        yield Claim("codebook and network matter little",
                    "standard deviation of answer @1 over codebooks and networks, one split, answers held out", spread, spread,
                    spread, grid.size, direction="less", threshold=0.05, decided_by="effect", needed=False,
                    details={"codebooks by networks": grid.tolist()})  # fmt: skip


def algebra(data: Corpus, dims: tuple[int, ...], batches: int = 40, size: int = 500) -> Iterator[Claim]:
    """Recovery from bundles of m pairs, m odd so that there are no ties, against what is expected."""
    curves, gaps, rng = {}, [], np.random.default_rng(5)
    for dim in dims:
        codes = data.codebook(dim, 0)
        for m in (3, 7, 15, 31):
            right = 0
            for _ in range(batches):
                at = rng.random((size, len(codes))).argpartition(2 * m, axis=1)[:, : 2 * m]
                total = sum(codes.vectors[at[:, i]] * codes.vectors[at[:, m + i]] for i in range(m))
                right += int((codes.cosines(np.sign(total) * codes.vectors[at[:, 0]]).argmax(axis=1) == at[:, m]).sum())
            found, expected = right / (batches * size), bundle_recovery(m, dim, len(codes))
            curves[f"{m} pairs of {dim} signs"] = [found, expected]
            gaps.append(abs(found - expected))
    worst = max(gaps)
    yield Claim("pairs come back from bundles as often as expected",
                f"largest difference of shares, {batches * size} bundles each", worst, worst, worst, len(gaps),
                direction="less", threshold=0.01, decided_by="effect", details={"found and expected": curves})  # fmt: skip


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    seeds, few = range(seed, seed + (2 if quick else 5)), range(seed, seed + (2 if quick else 3))
    data, cells, epochs = corpus(*((3, 1) if quick else ())), Cells(quick, device), 12
    S = states(data)
    held, random = ([cells(f"{name} {one}", lambda name=name, one=one: decoded(data, S, name, one, epochs, device))
                     for one in those] for name, those in (("answers held out", seeds), ("random", few)))  # fmt: skip
    yield from reading(held, random)
    rises = [cells(f"moved {one}", lambda one=one: moved(data, S.kmeans_sum, one, epochs, 10 if quick else 60)) for one in few]
    for site in SITES:
        for other in ("random", "other"):
            gap = [one[site]["own"] - one[site][other] for one in rises]
            against = {"random": "random steps of equal length", "other": "steps towards another pair"}[other]
            yield Claim(f"a step along the probe's gradient at {site} raises the value it leads to, beside {against}",
                        "rise of its log-probability less theirs, in nats", *over_seeds(gap), len(gap), needed=False,
                        details={"seeds": rises})  # fmt: skip
    yield from variants(cells, data, S, held, few, epochs, device, 0 if quick else 3)
    yield from algebra(data, (256, 1024) if quick else (256, 1024, 4096))


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
