"""Explainers of networks against their peers: the same weights and inputs, equal numbers where they ought to be, and seconds.

Series: integrated gradients, occlusion and expected gradients, which benchmarks/papers/timex takes from `captum`, against their
definitions worked out here (occlusion through `locum.explain.replacement`); and the one pass of a fitted TimeX against them at
equal batch. Relevance: `locum.explain` against `captum.attr.LRP`, layer by layer, in float64. Heads of SmolLM2: ablation of
single heads, attribution patching and direct edges to the logits against `auto-circuit` (in an environment of its own, with
transformer-lens 2.18, the last that it runs with), and contextual decomposition against path patching from the same heads:
seconds, rank correlation with exact ablation on other prompts, and how faithful the best heads of each are on third ones.

The seconds of heads are of the clock, of one run each on four prompts of a template, and faithfulness has no interval: a ratio
or a difference that is small there says nothing.

Writes benchmarks/peers/networks/result.json and prints one JSON line; exits with 1 when numbers that ought to be equal are not,
or when a claim of the comparison does not hold, and says which. Takes about ten minutes.

    python benchmarks/peers/networks.py [--peers .venv-networks/bin/python] [--only series|relevance|circuits]

With --only a part is measured, and what earlier runs measured is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

HERE = Path(__file__).parent / "networks"
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "benchmarks" / "papers" / name) for name in ("timex", "cd-t")]
from hooks import on_heads, outputs  # noqa: E402
from prompts import NAMES, TEMPLATES, tokens  # noqa: E402
from rivals import STEPS, Rivals  # noqa: E402

REPEATS, BATCH = 7, 64
PROMPTS, REFERENCES = 4, 4
SHARES = (0.05, 0.1, 0.2, 0.4)  # of the heads that a circuit keeps


def line(value: float, bound: float) -> dict[str, Any]:
    """A largest gap that has to stay within a bound."""
    return {"gap": float(value), "bound": bound, "holds": bool(value <= bound)}


def relative(found: Any, expected: Any) -> float:
    """The largest gap, by the largest expected value."""
    found, expected = np.asarray(found, dtype=float), np.asarray(expected, dtype=float)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# --- seconds and memory -------------------------------------------------------------------------------------------------------


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds of each of some repeats (median, least, most), after one that does not count, and the memory it took beyond.

    Beyond what the process holds already: where an earlier method has left room, that is 0, and not what a method needs.
    """
    before = peak(reset=True)
    work()
    grown = peak() - before
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return {"median": float(np.median(seconds)), "least": min(seconds), "most": max(seconds), "peak_mb": grown}


def once(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


def peak(reset: bool = False) -> float:
    """Most memory held since the last reset, in MB; NaN where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        told = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    return next(int(one.split()[1]) for one in told.splitlines() if one.startswith("VmHWM")) / 1024


# --- series -------------------------------------------------------------------------------------------------------------------


def series() -> dict[str, Any]:
    from locum.explain.timex import TimeXExplainer, series_reference
    from locum.problems.planted_series import freq_shapes

    problem = freq_shapes()
    fit, held = problem.sample(500, 1), problem.sample(BATCH, 2)
    reference = series_reference(fit.X, fit.y, layers=1, feedforward=16, epochs=20, learning_rate=2e-3, random_state=0)
    rivals, X = Rivals(reference, fit.X), held.X
    start = peak(reset=True)
    explainer = TimeXExplainer(reference, learning_rate=3e-3, random_state=0)
    _, training = once(lambda: explainer.fit(fit.X, epochs=8, batch_size=32))
    out: dict[str, Any] = {"training": {"seconds": training, "series": 500, "epochs": 8, "peak_mb": peak() - start}}
    out["equal"] = {
        "integrated gradients": line(relative(rivals.gradients(X), np.abs(integrated(reference, X, 0 * X))), 1e-4),
        "occlusion": line(relative(rivals.occlusion(X), np.abs(occluded(reference, X))), 1e-4),
        "expected gradients": expected(reference, fit.X[:20], X[:8]),
    }
    ways = {
        "timex": lambda: explainer.explain(X),
        "captum integrated gradients": lambda: rivals.gradients(X),
        "captum occlusion": lambda: rivals.occlusion(X),
        "captum gradient SHAP": lambda: rivals.gradient_shap(X),
        "integrated gradients here": lambda: integrated(reference, X, 0 * X),
        "occlusion here": lambda: occluded(reference, X),
    }
    out["seconds"] = {name: timed(work) for name, work in ways.items()}
    ours = out["seconds"]["timex"]["median"]
    out["times_as_fast"] = {name: one["median"] / ours for name, one in out["seconds"].items() if name.startswith("captum")}
    out["batch"] = BATCH
    return out


def integrated(reference: Any, X: Any, start: Any) -> np.ndarray:
    """Gradients at Gauss-Legendre points of the way from `start`, by its weights, times the way."""
    points, weights = np.polynomial.legendre.leggauss(STEPS)
    rows, begin = (torch.as_tensor(one, dtype=torch.float32) for one in (X, start))
    with torch.no_grad():
        label = reference.forward(rows).argmax(dim=1, keepdim=True)
    total = torch.zeros_like(rows)
    for point, weight in zip(points, weights, strict=True):
        at = (begin + (point + 1) / 2 * (rows - begin)).requires_grad_()
        (slope,) = torch.autograd.grad(reference.forward(at).gather(1, label).sum(), at)
        total += weight / 2 * slope
    return (total * (rows - begin)).double().numpy()


def occluded(reference: Any, X: Any, width: int = 5, step: int = 2) -> np.ndarray:
    """What the logit loses without a window, mean over the windows that a time point is in."""
    from locum.explain.replacement import ConstantBaseline, replaced

    baseline, length = ConstantBaseline(0.0).fit(X), X.shape[1]
    logits = reference.logits(X)
    label, rows = logits.argmax(axis=1), np.arange(len(X))
    total, count = np.zeros(X.shape), np.zeros((1, *X.shape[1:]))
    for first in range(0, -(-(length - width) // step) * step + 1, step):
        for channel in range(X.shape[2]):
            keep = np.ones((1, *X.shape[1:]), dtype=bool)
            keep[:, first : first + width, channel] = False
            (given,) = replaced(X, keep, baseline, draws=1)
            lost = logits[rows, label] - reference.logits(given)[rows, label]
            total += np.where(keep, 0.0, lost[:, None, None])
            count += ~keep
    return total / count


def expected(reference: Any, baselines: Any, X: Any, draws: int = 2000) -> dict[str, Any]:
    """Gradient SHAP of many draws against the integrals that it stands for: within what its draws leave open."""
    from captum.attr import GradientShap

    rows = torch.as_tensor(X, dtype=torch.float32)
    exact = np.mean([integrated(reference, X, np.broadcast_to(one, X.shape)) for one in baselines], axis=0)
    with torch.no_grad():
        label = reference.forward(rows).argmax(dim=1)
    torch.manual_seed(0)
    base, halves = torch.as_tensor(baselines, dtype=torch.float32), []
    for _ in range(2):
        found = GradientShap(reference.forward).attribute(rows, baselines=base, target=label, n_samples=draws // 2)
        halves.append(found.detach().double().numpy())
    size = np.linalg.norm(exact)
    spread = np.linalg.norm(halves[0] - halves[1]) / 2 / size  # of the mean of both halves
    return line(np.linalg.norm(np.mean(halves, axis=0) - exact) / size, 2 * float(spread)) | {"draws": draws}


# --- relevance ----------------------------------------------------------------------------------------------------------------


class Convolutional(torch.nn.Module):
    """Every kind of layer that both sides know."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        nn = torch.nn
        between = [nn.BatchNorm2d(6)] if norm else []
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), *between, nn.ReLU(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.last = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: Any) -> Any:
        return self.last(self.second(self.first(x)).flatten(1))


def relevance() -> dict[str, Any]:
    """Ours by the logit that relevance starts from, which is what captum starts from."""
    from captum.attr import LRP

    from locum.explain._lrp import Propagation
    from locum.nets import seeded

    out: dict[str, Any] = {"equal": {}, "seconds": {}}
    X = torch.as_tensor(np.random.default_rng(0).uniform(0.05, 1.0, (BATCH, 1, 14, 14)))
    for norm in (False, True):
        with seeded(0):
            net = Convolutional(norm).double()
            net.train()
            net(X)  # statistics of the batch normalisation
            net.eval()
        y = net(X).argmax(dim=1)
        logit = net(X).detach().gather(1, y[:, None])[:, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for rule in ("epsilon", "zplus"):
                if rule == "zplus" and norm:
                    continue
                found = Propagation(net, rule)(X, y, inputs=True)
                theirs = ruled(net, rule, LRP).attribute(X, target=y).detach()
                name = f"{rule}, {'with' if norm else 'without'} batch normalisation"
                start = logit.reshape(-1, 1, 1, 1)
                out["equal"][f"{name}: input"] = line(relative(found.inputs * start, theirs), 1e-5)
                if norm:
                    continue
                for layer, mine in layers(net, rule, X, y, found).items():
                    out["equal"][f"{name}: {layer}"] = line(mine, 1e-5)
        if not norm:
            out["seconds"] = {
                "locum": timed(lambda net=net, y=y: Propagation(net, "epsilon")(X, y, inputs=True)),
                "captum": timed(lambda net=net, y=y: ruled(net, "epsilon", LRP).attribute(X, target=y)),
            }
    out["rules_differ"] = (
        "captum puts its Alpha1_Beta0_Rule on inputs that are not negative alone, ours takes negative inputs with negative "
        "weights; its max-pool divides by the output and a stabiliser where ours gives all to the winner (here its "
        "stabiliser is 1e-15); it keeps relevance at a batch normalisation apart from the layer before, which ours folds in "
        "(the input is the same); it has no one-dimensional convolution and no Flatten"
    )
    return out


def ruled(net: Any, rule: str, method: Any, *layer: Any) -> Any:
    """A peer's propagation with one rule in all layers with weights; its stabiliser is ours."""
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule

    nn, least = torch.nn, 1e-15
    folded = {id(net.first[0])} if isinstance(net.first[1], nn.BatchNorm2d) else set()
    for part in net.modules():
        if isinstance(part, nn.Conv2d | nn.Linear) and rule == "zplus":
            part.rule = Alpha1_Beta0_Rule(set_bias_to_zero=True)
        elif isinstance(part, nn.MaxPool2d) or id(part) in folded:  # where ours divides by nothing
            part.rule = EpsilonRule(epsilon=least)
        elif isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.AdaptiveAvgPool2d):
            part.rule = EpsilonRule(epsilon=1e-6 if rule == "epsilon" else 1e-9)
    return method(net, *layer)


def layers(net: Any, rule: str, X: Any, y: Any, found: Any) -> dict[str, float]:
    """Gap at each layer that relevance arrives at, each of a sum that is the same at all, so relative to its largest value."""
    from captum.attr import LayerLRP

    logit = net(X).detach().gather(1, y[:, None])[:, 0]
    out = {}
    for name, mine in found.layers.items():
        theirs = ruled(net, rule, LayerLRP, net.get_submodule(name)).attribute(X, target=y).detach()
        out[name] = relative(mine * logit.reshape(-1, *[1] * (mine.ndim - 1)), theirs)
    return out


# --- heads --------------------------------------------------------------------------------------------------------------------


def task(tokenizer: Any, part: str, n: int, seed: int) -> tuple[Any, Any, Any]:
    """Prompts of one template and length, the score, and prompts for the mean in which nobody is named twice."""
    from locum.explain.cd_t import LogitDifference, single_tokens

    rng, template = np.random.default_rng([seed, *part.encode()]), TEMPLATES[part][1]
    rows: list[list[list[int]]] = [[], []]
    right, wrong = [], []
    for i in range(n + REFERENCES):
        a, b, c = rng.permutation(NAMES[part])[:3]
        if i < n:
            right.append(f" {(a, b)[i % 2]}")
            wrong.append(f" {(b, a)[i % 2]}")
        rows[i >= n].append(tokens(tokenizer, template.format(A=a, B=b, S=(b, a)[i % 2] if i < n else c)))
    score = LogitDifference(single_tokens(tokenizer, right), single_tokens(tokenizer, wrong))
    return np.array(rows[0]), score, np.array(rows[1])


def circuits(python: str) -> dict[str, Any]:
    from locum.explain.cd_t import ContextualDecomposition, Mean, Node
    from locum.nets.pretrained import smollm2

    model, tokenizer = smollm2()
    find, test, third = (task(tokenizer, part, PROMPTS, 0) for part in ("find", "effect", "circuit"))
    cd = ContextualDecomposition(model)
    heads = [Node(layer, head) for layer in range(cd.layers) for head in range(cd.heads)]
    ids, score, corrupt = find
    ablated, own = once(lambda: cd.ablated(ids, heads, score, reference=Mean(corrupt)))
    some = list(range(0, len(heads), 9))  # each layer, another head in each
    some = [i + (i // 9) % 9 for i in some]
    theirs = peer(python, model, find, [heads[i][:2] for i in some])
    node = np.mean(attribution(model, ids, score, corrupt), axis=1)
    direct, _ = once(lambda: edges_to_logits(model, ids, score, corrupt, [heads[i][:2] for i in some]))
    full = cd.scores(ids, score)
    size = float(np.abs(full[None] - ablated).max())
    equal = {
        "score of the model": line(np.abs(full - theirs["full"]).max() / np.abs(full).max(), 1e-4),
        "ablation of one head": line(np.abs(ablated[some] - theirs["ablated"]).max() / size, 1e-4),
        # Theirs is of a loss, the negative of the score; masks go from clean to patched, as the product does in reverse.
        "node attribution patching": line(relative(node, theirs["node"]), 1e-3),
        "direct edges to the logits": line(np.abs(direct - theirs["direct"]).max() / np.abs(full).max(), 1e-4),
    }
    rankings, seconds = ranked(cd, model, find, heads)
    rankings["node attribution patching (auto-circuit)"] = np.abs(theirs["node"])
    effect = np.abs((cd.scores(*test[:2]) - cd.ablated(test[0], heads, test[1], reference=Mean(test[2]))).mean(axis=1))
    correlation = {name: float(spearmanr(np.abs(values), effect)[0]) for name, values in rankings.items()}
    seconds |= {"node attribution patching (auto-circuit)": float(theirs["node_seconds"])}
    seconds |= {"edge attribution patching, all edges (auto-circuit)": float(theirs["edge_seconds"])}
    ablation = {"locum, all heads": own, "auto-circuit, all heads": float(theirs["ablated_seconds"]) * len(heads) / len(some)}
    return {
        "equal": equal, "prompts": PROMPTS, "heads": len(heads), "seconds": seconds, "ablation_seconds": ablation,
        "correlation_with_exact_effects": correlation, "faithfulness": faithful(cd, third, heads, rankings),
    }  # fmt: skip


def peer(python: str, model: Any, given: Any, heads: list[tuple[int, int]]) -> dict[str, Any]:
    ids, score, corrupt = given
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(
            source, folder=model.name_or_path, clean=ids, corrupt=corrupt, right=score.right, wrong=score.wrong,
            target=(20, 3), heads=heads, edges=heads,
        )  # fmt: skip
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | threads
        command = [python, str(Path(__file__).parent / "_networks_peer.py"), str(source), str(out)]
        subprocess.run(command, check=True, stdout=sys.stderr, env=environment)
        with np.load(out, allow_pickle=False) as found:
            return dict(found)


def attribution(model: Any, ids: Any, score: Any, corrupt: Any) -> np.ndarray:
    """Gradient of the score times (z - m), shape (heads of all layers, prompts)."""
    means, seen = outputs(model, torch.as_tensor(corrupt)).mean(dim=1), []

    def keep(_layer: int, z: torch.Tensor) -> torch.Tensor:
        z = z if z.requires_grad else z.requires_grad_()
        z.retain_grad()
        seen.append(z)
        return z

    with on_heads(model, keep):
        score(model(input_ids=torch.as_tensor(ids)).logits[:, -1]).sum().backward()
    model.zero_grad(set_to_none=True)
    parts = [(z.grad * (z.detach() - means[i])).sum(dim=(1, 3)).T for i, z in enumerate(seen)]
    return torch.cat(parts).double().numpy()


def edges_to_logits(model: Any, ids: Any, score: Any, corrupt: Any, heads: list[tuple[int, int]]) -> np.ndarray:
    """The score where the last norm alone hears the mean of a head, shape (heads, prompts)."""
    rows = torch.as_tensor(ids)
    means, clean, out = outputs(model, torch.as_tensor(corrupt)).mean(dim=1), outputs(model, rows), []
    with torch.no_grad():
        seen: list[torch.Tensor] = []
        hook = model.model.norm.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
        model.model(input_ids=rows)
        hook.remove()
        for layer, head in heads:
            gap = torch.zeros_like(clean[layer])
            gap[:, :, head] = means[layer][:, head] - clean[layer][:, :, head]
            moved = seen[0] + model.model.layers[layer].self_attn.o_proj(gap.flatten(-2))
            out.append(score(model.lm_head(model.model.norm(moved))[:, -1]).numpy())
    return np.array(out)


def patched(model: Any, ids: Any, score: Any, corrupt: Any, heads: list[Any], batch: int) -> np.ndarray:
    """Path patching to the logits: the score lost where one head is at its mean, the others as they were, MLPs worked out anew.

    So many passes of all prompts at once as a `batch` of rows allows; shape (heads, prompts).
    """
    rows, n = torch.as_tensor(ids), len(ids)
    means, clean, out = outputs(model, torch.as_tensor(corrupt)).mean(dim=1), outputs(model, torch.as_tensor(ids)), []
    with torch.no_grad():
        plain = score(model(input_ids=rows).logits[:, -1]).numpy()
        for start in range(0, len(heads), max(1, batch // n)):
            part = heads[start : start + max(1, batch // n)]

            def change(layer: int, z: torch.Tensor, part: Any = part) -> torch.Tensor:
                z = clean[layer].repeat(len(part), 1, 1, 1)
                for i, node in enumerate(part):
                    if node.layer == layer:
                        z[i * n : (i + 1) * n, :, node.head] = means[layer][:, node.head]
                return z

            with on_heads(model, change):
                states = model.model(input_ids=rows.repeat(len(part), 1)).last_hidden_state[:, -1]
            logits = model.lm_head(states).unflatten(0, (len(part), n))
            out += [plain - score(one).numpy() for one in logits]
    return np.array(out)


def ranked(cd: Any, model: Any, given: Any, heads: list[Any]) -> tuple[dict[str, Any], dict[str, float]]:
    from locum.explain.cd_t import Mean

    ids, score, corrupt = given
    ways: dict[str, Callable[[], Any]] = {
        "contextual decomposition": lambda: cd.relevance(ids, score=score, sources=heads, reference=Mean(corrupt)).values,
        "path patching, a pass for each head": lambda: patched(model, ids, score, corrupt, heads, 1),
        "path patching, 64 rows a pass": lambda: patched(model, ids, score, corrupt, heads, 64),
        "node attribution patching": lambda: attribution(model, ids, score, corrupt),
    }
    rankings, seconds = {}, {}
    for name, way in ways.items():
        values, seconds[name] = once(way)
        rankings[name] = values.mean(axis=1)
    gap = relative(rankings["path patching, 64 rows a pass"], rankings["path patching, a pass for each head"])
    assert gap < 1e-3, f"path patching in batches is off by {gap:.2g}"
    del rankings["path patching, 64 rows a pass"]
    rankings["random"] = np.random.default_rng(0).normal(size=len(heads))
    return rankings, seconds


def faithful(cd: Any, given: Any, heads: list[Any], rankings: dict[str, Any]) -> dict[str, Any]:
    """Share of the score beyond that of no head that the best heads keep, on third prompts: mean over shares, and each."""
    from locum.explain.cd_t import Mean

    ids, score, corrupt = given
    sizes = [round(share * len(heads)) for share in SHARES]
    kept = [[heads[i] for i in np.argsort(-np.abs(v))[:size]] for v in rankings.values() for size in sizes]
    found = cd.kept(ids, [[], heads, *kept], score, reference=Mean(corrupt)).mean(axis=1)
    share = ((found[2:] - found[0]) / (found[1] - found[0])).reshape(len(rankings), -1)
    return {name: {"mean": float(one.mean()), "each": one.tolist()} for name, one in zip(rankings, share, strict=True)}


# --- what is told -------------------------------------------------------------------------------------------------------------


def claims(found: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if "series" in found:
        one = found["series"]["seconds"]
        for name, ratio in found["series"]["times_as_fast"].items():
            apart = one["timex"]["most"] < one[name]["least"]
            out[f"timex, once fitted, explains a batch faster than {name}"] = {"ratio": ratio, "holds": apart}
    if "circuits" in found:
        seconds, faith = found["circuits"]["seconds"], found["circuits"]["faithfulness"]
        mine, theirs = "contextual decomposition", "path patching, a pass for each head"
        better = faith[mine]["mean"] >= faith[theirs]["mean"]
        for other in (theirs, "path patching, 64 rows a pass"):
            ratio = seconds[other] / seconds[mine]
            out[f"decomposition is twice as fast as {other}, and as faithful"] = {
                "ratio": ratio, "faithfulness": [faith[mine]["mean"], faith[theirs]["mean"]],
                "holds": ratio >= 2 and better,
            }  # fmt: skip
    return out


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", default=str(ROOT / ".venv-networks" / "bin" / "python"))
    parser.add_argument("--only", choices=("series", "relevance", "circuits"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "result.json"
    found = json.loads(path.read_text(encoding="utf-8"))["measured"] if path.is_file() else {}
    parts = {"series": series, "relevance": relevance, "circuits": lambda: circuits(given.peers)}
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name, part in parts.items():
            if given.only in (None, name):
                found[name] = part()
    equal = {f"{part}: {name}": one for part, lines in found.items() for name, one in lines["equal"].items()}
    told = claims(found)
    holds = all(one["holds"] for one in (*equal.values(), *told.values()))
    record = {
        "holds": holds, "equal": all(one["holds"] for one in equal.values()), "claims": told, "measured": found,
        "cpus": os.cpu_count(), "torch": torch.__version__,
    }  # fmt: skip
    HERE.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({"holds": holds, "equal": {name: one["gap"] for name, one in equal.items()}, "claims": told}))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
