"""cd-t (arXiv 2407.00886): the heads that contextual decomposition ranks first do the task, and it ranks them without patching.

SmolLM2-135M-Instruct (4 bits, 30 layers of 9 heads) stands in for GPT-2 small, which is not to be had without a network, and
exact mean-ablation of single heads for hand-made circuits. Tasks: indirect object and greater-than, names and templates of
their own for finding heads, for measuring effects and for circuits. Settings as published for GPT (full attention, clean-up of
signs) decide; fixed attention, which did better on pilot prompts of another template, is told beside them. Word importance:
MiniLM with a probe on sentences of film reviews, from $LOCUM_DATA. Fewer prompts than in the paper, so that it ends in half an
hour on one core.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from claims import Claim, main, over_seeds
from hooks import gradient_and_norm, path_patching
from prompts import Prompts, greater_than, indirect_object
from words import Probe, deletion, sentences

from locum.explain.cd_t import CircuitSearch, ContextualDecomposition, LogitDifference, Node
from locum.nets import seeded
from locum.nets.pretrained import smollm2

SETTINGS: dict[str, dict[str, Any]] = {"published": {}, "fixed attention": {"attention": "fixed"}}
TOP = 0.1  # share of heads that count as those of the circuit
PERCENT = (5, 10, 20, 30, 40, 50, 60, 80)
RESAMPLES = 300


class Sizes:
    """How many prompts and draws."""

    def __init__(self, quick: bool) -> None:
        self.draws, self.find, self.effect, self.circuit = (1, 2, 2, 6) if quick else (3, 4, 5, 12)
        self.random, self.equal = (2, 5) if quick else (10, 20)
        self.percent = (10, 30, 60) if quick else PERCENT
        self.rounds = 1 if quick else 4


def measure(quick: bool, first: int) -> Iterator[Claim]:
    """All claims, the headline first."""
    size = Sizes(quick)
    model, tokenizer = smollm2()
    cds = {name: ContextualDecomposition(model, **settings) for name, settings in SETTINGS.items()}
    draws = [ranked(model, tokenizer, cds, indirect_object, size, first + i) for i in range(size.draws)]
    yield from ranking(draws, "indirect object")
    yield from circuits(cds, draws[0], indirect_object(tokenizer, "circuit", size.circuit, first), "indirect object", size)
    yield from cost(cds, draws, quick)
    yield from exact(model, tokenizer, quick)
    patched = indirect_object(tokenizer, "find", 2 if quick else 6, first + 100)
    yield from targets(model, cds, draws[0], patched, 10 if quick else 40)
    yield from words(quick, first)
    if quick:
        return
    years = Sizes(quick)
    years.find, years.effect, years.circuit, years.random, years.equal, years.rounds = 3, 5, 10, 3, 10, 3
    other = ranked(model, tokenizer, cds, greater_than, years, first)
    yield from ranking([other], "greater-than")
    yield from circuits(cds, other, greater_than(tokenizer, "circuit", years.circuit, first), "greater-than", years)


# ---------------------------------------------------------------------- ranking of heads
def ranked(model: Any, tokenizer: Any, cds: Any, task: Callable[..., Prompts], size: Sizes, seed: int) -> dict[str, Any]:
    """Scores of all heads, by prompt, of each way of ranking; and exact effects on other prompts."""
    find, test = task(tokenizer, "find", size.find, seed), task(tokenizer, "effect", size.effect, seed)
    out: dict[str, Any] = {"find": find, "scores": {}, "seconds": {}}
    for name, cd in cds.items():
        start = time.perf_counter()
        out["scores"][name] = cd.relevance(find.ids, score=find.score, reference=find.reference).values
        out["seconds"][name] = (time.perf_counter() - start) / size.find
    start = time.perf_counter()
    out["scores"]["gradient"], out["scores"]["norm"] = gradient_and_norm(model, find)
    out["seconds"]["gradient"] = (time.perf_counter() - start) / size.find
    cd, start = cds["published"], time.perf_counter()
    without = cd.ablated(test.ids, "heads", test.score, reference=test.reference)
    out["seconds"]["ablation"] = (time.perf_counter() - start) / size.effect
    full = cd.scores(test.ids, test.score)
    out["effects"], out["full"] = full - without, float(full.mean())
    out["right"] = float((full > 0).mean())
    rng = np.random.default_rng(seed)
    out["scores"]["random"] = rng.normal(size=out["scores"]["published"].shape)
    return out


def labels(effects: np.ndarray) -> np.ndarray:
    """Heads whose mean effect is among the largest by magnitude."""
    size = np.abs(effects.mean(axis=1))
    return size >= np.sort(size)[-round(TOP * len(size))]


def areas(draws: list[dict[str, Any]], name: str, rng: Any = None) -> float:
    """Area under the ROC curve, mean over draws; of prompts drawn again where there is a generator."""
    found = []
    for draw in draws:
        scores, effects = draw["scores"][name], draw["effects"]
        if rng is not None:
            scores, effects = (x[:, rng.integers(x.shape[1], size=x.shape[1])] for x in (scores, effects))
        found.append(roc_auc_score(labels(effects), np.abs(scores.mean(axis=1))))
    return float(np.mean(found))


def resampled(statistic: Callable[[Any], float]) -> tuple[float, float, float]:
    """A statistic and its percentile interval over prompts."""
    rng = np.random.default_rng(0)
    lower, upper = np.quantile([statistic(rng) for _ in range(RESAMPLES)], [0.025, 0.975])
    value = statistic(None)
    return value, min(value, float(lower)), max(value, float(upper))


def ranking(draws: list[dict[str, Any]], task: str) -> Iterator[Claim]:
    told = {name: areas(draws, name) for name in draws[0]["scores"]}
    rest: dict[str, Any] = {"seeds": len(draws), "decided_by": "effect"}
    details: dict[str, Any] = {"areas": told}
    details |= {"full score": [draw["full"] for draw in draws], "right": [draw["right"] for draw in draws]}
    level = f"area under the ROC curve of |relevance| for the {TOP:.0%} of heads of largest exact effect"
    for name in SETTINGS:
        needed = name == "published"
        yield Claim(
            f"{task}, {name}: heads that matter are ranked at the top", level,
            *resampled(lambda rng, n=name: areas(draws, n, rng)), threshold=0.85, details=details, needed=needed, **rest,
        )  # fmt: skip
        yield Claim(
            f"{task}, {name}: better than chance", "gain in that area over chance",
            *resampled(lambda rng, n=name: areas(draws, n, rng) - 0.5), threshold=0.3, needed=needed, **rest,
        )  # fmt: skip
        yield Claim(
            f"{task}, {name}: not far behind gradients", "gain in that area over gradient times activation",
            *resampled(lambda rng, n=name: _gap(draws, n, rng)), threshold=-0.05, needed=needed, **rest,
        )  # fmt: skip


def _gap(draws: list[dict[str, Any]], name: str, rng: Any) -> float:
    if rng is None:
        return areas(draws, name) - areas(draws, "gradient")
    seed = int(rng.integers(2**31))  # both on the same prompts
    return areas(draws, name, np.random.default_rng(seed)) - areas(draws, "gradient", np.random.default_rng(seed))


# ---------------------------------------------------------------------- circuits
def circuits(cds: Any, draw: dict[str, Any], held: Prompts, task: str, size: Sizes) -> Iterator[Claim]:
    """Faithfulness of the best n heads of each ranking, and of the circuit that is found, on prompts apart."""
    cd = cds["published"]
    nodes = [Node(layer, head) for layer in range(cd.layers) for head in range(cd.heads)]
    rng = np.random.default_rng(0)
    ranks = {name: np.argsort(-np.abs(draw["scores"][name].mean(axis=1))) for name in (*SETTINGS, "gradient")}
    ranks["exact ablation"] = np.argsort(-np.abs(draw["effects"].mean(axis=1)))
    ranks |= {f"random {i}": rng.permutation(len(nodes)) for i in range(size.random)}
    counts = [round(percent * len(nodes) / 100) for percent in size.percent]
    find = draw["find"]
    search = CircuitSearch(cd, find.score, find.reference, per_round=4, rounds=size.rounds).fit(find.ids)
    equal = [rng.permutation(len(nodes))[: len(search.nodes_)] for _ in range(size.equal)]
    wanted = [[], nodes, search.nodes_, search.found_, *([nodes[i] for i in some] for some in equal)]
    wanted += [[nodes[i] for i in order[:count]] for order in ranks.values() for count in counts]
    empty, full, own, found, *others = cd.kept(held.ids, wanted, held.score, reference=held.reference)
    same, curves = np.array(others[: size.equal]), np.array(others[size.equal :])
    curves = dict(zip(ranks, curves.reshape(len(ranks), len(counts), -1), strict=True))

    def faithful(scores: np.ndarray, rows: Any = slice(None)) -> np.ndarray:
        return (scores[..., rows].mean(axis=-1) - empty[rows].mean()) / (full[rows].mean() - empty[rows].mean())

    def rows(rng: Any) -> Any:
        return slice(None) if rng is None else rng.integers(len(held.ids), size=len(held.ids))

    small = np.array(size.percent) <= 60
    chance = np.stack([curves[f"random {i}"] for i in range(size.random)])
    tops = [name for name in ranks if not name.startswith("random")]
    table = {name: dict(zip(map(str, size.percent), faithful(curves[name]).tolist(), strict=True)) for name in tops}
    table["random"] = dict(zip(map(str, size.percent), faithful(chance).mean(axis=0).tolist(), strict=True))
    table["first percent with 0.9"] = {name: enough(faithful(curves[name]), size.percent) for name in tops}
    resamples = [faithful(curves["published"], rows(np.random.default_rng(i))) for i in range(RESAMPLES)]
    reached = [enough(one, size.percent) for one in resamples]
    table["first percent with 0.9, 95 % interval"] = np.quantile(reached, [0.025, 0.975]).tolist()
    for name in SETTINGS:
        yield Claim(
            f"{task}, {name}: the best heads do more of the task than as many random ones",
            "gain in faithfulness over random circuits, least over sizes up to 60 %",
            *resampled(lambda g, n=name: _least(faithful, curves[n], chance, small, rows(g))),
            seeds=size.random, decided_by="effect", details=table, needed=name == "published",
        )  # fmt: skip
    told = {
        "circuit": [str(node) for node in search.nodes_], "before pruning": [str(node) for node in search.found_],
        "faithfulness": float(faithful(own)), "before pruning, faithfulness": float(faithful(found)),
        "score": {"all": float(full.mean()), "none": float(empty.mean())},
    }  # fmt: skip
    yield Claim(
        f"{task}: the pruned circuit beats random ones of its size", "share beaten",
        *resampled(lambda g: _beaten(faithful, own, same, rows(g))), threshold=0.899, seeds=size.equal, decided_by="effect",
        details=told,
    )  # fmt: skip
    yield Claim(
        f"{task}: the pruned circuit beats random ones of up to 60 % of the model", "share beaten",
        *resampled(lambda g: _beaten(faithful, own, chance[:, small].reshape(-1, len(own)), rows(g))), threshold=0.799,
        seeds=size.random, decided_by="effect",
    )  # fmt: skip


def _least(faithful: Any, curve: np.ndarray, chance: np.ndarray, small: np.ndarray, rows: Any) -> float:
    return float((faithful(curve, rows) - faithful(chance, rows).mean(axis=0))[small].min())


def _beaten(faithful: Any, own: np.ndarray, others: np.ndarray, rows: Any) -> float:
    return float((faithful(others, rows) < faithful(own, rows)).mean())


def enough(curve: np.ndarray, percent: tuple[int, ...]) -> int:
    """The smallest size whose faithfulness is 0.9 or more (larger ones need not be); 100 where none is."""
    return next((size for size, one in zip(percent, curve, strict=True) if one >= 0.9), 100)


# ---------------------------------------------------------------------- targets, cost, exactness, words
def targets(model: Any, cds: Any, draw: dict[str, Any], patched: Prompts, most: int) -> Iterator[Claim]:
    """Sources of the head of largest effect, against exact path patching."""
    find = draw["find"]
    heads = cds["published"].heads
    strongest = int(np.abs(draw["effects"].mean(axis=1)).argmax())
    target = Node(*divmod(strongest, heads))
    before = [Node(layer, head) for layer in range(target.layer) for head in range(heads)]
    for name, cd in cds.items():
        share = cd.relevance(find.ids, sources=before, target=[target], reference=find.reference).mean
        best = np.argsort(-share)[:most]
        exactly = np.abs(path_patching(model, patched, [before[i][:2] for i in best], target[:2]))
        share = share[best]

        def agreement(rng: Any, share: np.ndarray = share, exactly: np.ndarray = exactly) -> float:
            columns = slice(None) if rng is None else rng.integers(exactly.shape[1], size=exactly.shape[1])
            return float(spearmanr(share, exactly[:, columns].mean(axis=1))[0])

        yield Claim(
            f"indirect object, {name}: sources of the strongest head are those that path patching finds",
            f"Spearman correlation of relevance and patching effect, the {most} most relevant sources of head {target}",
            *resampled(agreement), threshold=0.5, seeds=exactly.shape[1], decided_by="effect", needed=name == "published",
        )  # fmt: skip


def cost(cds: Any, draws: list[dict[str, Any]], quick: bool) -> Iterator[Claim]:
    seconds = {key: float(np.mean([draw["seconds"][key] for draw in draws])) for key in draws[0]["seconds"]}
    find = draws[0]["find"].take(1)
    cd, length = cds["published"], len(find.ids[0])
    layers = (20,) if quick else (5, 25)
    some = [Node(layer, head, place) for layer in layers for head in range(cd.heads) for place in range(length)]
    start = time.perf_counter()
    cd.relevance(find.ids, sources=some, score=find.score, reference=find.reference)
    middle = time.perf_counter()
    cd.ablated(find.ids, some, find.score, reference=find.reference)
    end = time.perf_counter()
    everything = [Node(layer, head) for layer in range(cd.layers) for head in range(cd.heads)]
    cd.kept(find.ids, [everything[i:] for i in range(20)], find.score, reference=find.reference)
    greedy = (time.perf_counter() - end) / 20 * len(everything)
    details = seconds | {
        "greedy removal head by head": greedy, "positions, sources": len(some), "positions, decomposition": middle - start,
        "positions, ablation": end - middle,
    }  # fmt: skip
    ratios = [draw["seconds"]["published"] / draw["seconds"]["ablation"] for draw in draws]
    yield Claim(
        "ranking all heads takes at most four times as long as ablating each", "ratio of seconds a prompt",
        *(over_seeds(ratios) if len(ratios) > 1 else (ratios[0],) * 3), seeds=len(ratios), direction="less", threshold=4.0,
        decided_by="effect", details=details,
    )  # fmt: skip
    yield Claim(
        "with positions it is faster than ablation", "ratio of seconds", *[(middle - start) / (end - middle)] * 3, seeds=1,
        direction="less", threshold=1.0, decided_by="effect", needed=False,
    )  # fmt: skip


def exact(model: Any, tokenizer: Any, quick: bool) -> Iterator[Claim]:
    """Both parts against the activations of three models, and how far parts of heads add up."""
    from transformers import GPT2Config, GPT2LMHeadModel

    count = 3 if quick else 20
    with seeded(0):
        settings = GPT2Config(vocab_size=100, n_positions=16, n_embd=48, n_layer=4, n_head=4, bos_token_id=0, eos_token_id=0)
        small = ContextualDecomposition(GPT2LMHeadModel(settings).double().eval())
    texts, labels = sentences()
    probe = Probe(texts[:50], labels[:50])
    encoder = ContextualDecomposition(probe.model.double(), head=probe.head.double())
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 100, (count, 10))
    inside = [(small, ids.tolist()), (encoder, [probe.ids(text).tolist() for text in texts[:count]])]
    gaps = [cd.check(rows, sources=drawn(cd, rng), tolerance=1.0) for cd, rows in inside]
    llama = ContextualDecomposition(model)
    rows = indirect_object(tokenizer, "find", count, 0).ids
    wide = llama.check(rows, sources=drawn(llama, rng), tolerance=1.0)
    score = LogitDifference(1, 2)
    apart = small.relevance(ids, sources=[Node(1, head) for head in range(4)], score=score).values.sum(axis=0)
    whole = small.relevance(ids, sources=[[Node(1, head) for head in range(4)]], score=score).values[0]
    details = {"gpt2": gaps[0], "minilm": gaps[1], "part of all heads of a layer": float(np.abs(whole).mean())}
    details["sum of the parts of each, less that"] = float(np.abs(apart - whole).mean())
    yield Claim(
        "both parts make the activations, small networks, float64", "largest relative gap", *[max(gaps)] * 3, seeds=count,
        direction="less", threshold=1e-9, decided_by="effect", details=details,
    )  # fmt: skip
    yield Claim(
        "both parts make the activations, SmolLM2, float32", "largest relative gap", wide, wide, wide, seeds=count,
        direction="less", threshold=1e-4, decided_by="effect",
    )  # fmt: skip


def drawn(cd: ContextualDecomposition, rng: Any) -> list[list[Node]]:
    """Random sets of heads."""
    return [[Node(int(rng.integers(cd.layers)), int(rng.integers(cd.heads))) for _ in range(size)] for size in (1, 3, 10)]


def words(quick: bool, seed: int) -> Iterator[Claim]:
    found, details = deletion(quick, seed)
    details |= {name: float(values.mean()) for name, values in found.items()}
    best = min((name for name in found if not name.startswith("decomposition")), key=lambda name: found[name].mean())
    level = "mean probability of the answer, 10 to 50 % of words masked"
    for name in ("decomposition", "decomposition, full attention"):
        needed = name == "decomposition"
        gain = found["random"] - found[name]
        yield Claim(
            f"words, {name}: masking what it ranks first takes more than masking at random",
            f"fall of the {level}, beyond random", *over_seeds(gain), seeds=len(gain), details=details, needed=needed,
        )  # fmt: skip
        yield Claim(
            f"words, {name}: as good as the best other ({best})", f"{level}, less that of the best other",
            *over_seeds(found[name] - found[best]), seeds=len(gain), direction="less", threshold=0.02, decided_by="effect",
            needed=needed,
        )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(__file__, __doc__, measure))
