"""sae-evals (arXiv 2405.08366): labelled dictionaries as the yardstick of sparse autoencoders, on who receives something.

SmolLM2-135M-Instruct at 4 bits, prompts such as "When Mary and John went to the store, John gave a drink to", with the names
IO and S and their order, Pos, as attributes: 24 names; pairs of names, places, objects and the template of the test prompts are
held out. Places, all at the last token: the residual stream after the layer where patching the other order moves the score
most, and outputs of the heads that carry the order (inhibitors) and of those without which the score falls most (movers), which
`heads.py` found. The ladder: how often at most 2, 4, 6, 12 and 32 changed features a vector make the model answer as patching
does, for Pos at the residual stream and for IO at the movers (elsewhere patching changes next to no answer); labelled
dictionaries, sparse autoencoders of the task, those whose atoms stay random, principal components, and a sparse autoencoder of
WikiText-2. Then a network that names digits, and two toys: a strong attribute that hides a weak one, and two Gaussians that a
wide dictionary splits. Intervals of measures are over pairs of names; where several seeds are told, each fits on four fifths of
the prompts, and the interval is Student's. Passes of the model are kept in ~/.cache/locum/sae-evals, and a run that was stopped
goes on from there; delete the folder to start over.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over
from wikitext import articles

from locum.inside import (
    ActivationStore,
    DictionaryEval,
    PrincipalComponents,
    ReLU,
    Resampling,
    SparseAutoencoder,
    SupervisedDictionary,
    Tap,
    TopK,
    first_position,
    interpret,
    label_properties,
)
from locum.nets import smollm2

import activations as parts  # isort: skip
import digits  # isort: skip
import heads  # isort: skip
import toys  # isort: skip

KS = (2, 4, 6, 12, 32)
LADDER = (("residual", "Pos"), ("movers", "IO"))
OCCLUDED = "23.7"  # a mover, whose output is of IO first and of S a good deal less
MEANT = 0.6
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SUFFICIENT, AGREES, AHEAD = 0.8, 0.8, 0.3


class World:
    """The model, prompts of all parts, and what was read of them."""

    def __init__(self, quick: bool, size: dict[str, Any], device: str) -> None:
        self.size, self.device = size, device
        self.folder = Path(tempfile.mkdtemp()) if quick else Path.home() / ".cache" / "locum" / "sae-evals"
        model, self.tokenizer = smollm2()
        self.model = model.to(device)
        self.sections = parts.sections(self.model)
        self.whole = parts.everywhere(self.sections)
        self.fit = parts.part(parts.fitting(size["fit"]), self.tokenizer)
        self.test = parts.part(parts.held_out(size["test"]), self.tokenizer)
        self.strangers = parts.part(parts.strangers(size["test"]), self.tokenizer)
        places = f"{parts.RESIDUAL} {parts.MOVERS} {parts.INHIBITORS}"
        self.rows = parts.kept(self.folder, f"fit {size['fit']} {places}", lambda: self.whole.read(self.fit.inputs))

    def evaluation(self, place: str, told: parts.Part) -> DictionaryEval:
        section = self.sections[place]
        means = {name: self.rows[name].mean(axis=0) for name in section.locations}
        return DictionaryEval(section, told.inputs, told.score, means=means)

    def some(self, seed: int) -> np.ndarray:
        """Four fifths of the prompts to fit on."""
        n = self.size["fit"]
        return np.sort(np.random.default_rng([seed, 8]).permutation(n)[: 4 * n // 5])

    def supervised(self, place: str, seed: int, method: str = "mse") -> dict[str, SupervisedDictionary]:
        rows = self.some(seed)
        labels, names = self.fit.inputs.take(rows).labels, self.sections[place].locations
        return {name: SupervisedDictionary(method=method).fit(self.rows[name][rows], labels) for name in names}

    def other(self, told: parts.Part, attribute: str) -> parts.Part:
        """The same prompts with another value of an attribute."""
        return parts.part(told.prompts.differing(attribute, seed=4), self.tokenizer)

    def general(self) -> np.ndarray:
        """Vectors of the residual stream on articles."""
        n = self.size["general"]

        def made() -> dict[str, np.ndarray]:
            ids = [self.tokenizer(text, verbose=False)["input_ids"] for text in articles()]
            tap = Tap(self.model, {"residual": f"model.layers.{parts.RESIDUAL}"})
            with tempfile.TemporaryDirectory() as folder:
                kept = {"context": 128, "keep": ~first_position, "rows": n, "split": (1.0, 0.0, 0.0), "dtype": "float32"}
                return {"residual": ActivationStore.collect(tap, ids, folder, **kept)["residual"].rows("train")}

        return parts.kept(self.folder, f"general {n} {parts.RESIDUAL}", made)["residual"]


# ---------------------------------------------------------------------- A. the yardstick
def yardstick(world: World, seeds: range) -> Iterator[Claim]:
    """Labels in the place of activations, and edits of the order, at each place."""
    for place in world.sections:
        ev = world.evaluation(place, world.test)
        fitted = [world.supervised(place, seed) for seed in seeds]
        details = {
            "score": float(ev.clean.score.mean()), "right": float((ev.clean.label == world.test.score.right).mean()),
            "mean ablation": float(ev.ablated.score.mean()), "prompts": len(world.test.inputs),
            "mean features, sufficiency": str(ev.sufficiency(world.supervised(place, seeds[0], "mean"))),
            "variance unexplained": unexplained(ev, fitted[0]),
        }  # fmt: skip
        for kind in ("sufficiency", "necessity"):
            found = [getattr(ev, kind)(one) for one in fitted]
            yield pooled(f"{place}: labels say enough of the activations, {kind}", f"{kind} of the supervised dictionary",
                         found, threshold=SUFFICIENT, decided_by="effect", details=details)  # fmt: skip
            details = {}
        yield from edits(world, place, fitted, ev)


def unexplained(ev: DictionaryEval, fitted: dict[str, SupervisedDictionary]) -> dict[str, str]:
    return {name: str(one.fidelity(ev.activations[name], ev.inputs.labels)) for name, one in fitted.items()}


def edits(world: World, place: str, fitted: list[Any], ev: DictionaryEval) -> Iterator[Claim]:
    """Of the order, and, at the movers, where it has been used already, of the name instead."""
    attribute = "IO" if place == "movers" else "Pos"
    for name, told, evaluated in (("", world.test, ev), (", names never seen", world.strangers, None)):
        if attribute == "IO" and name:
            return  # there are no vectors for such names
        here = evaluated or world.evaluation(place, told)
        goal = here.counterfactual(attribute, world.other(told, attribute).inputs)
        found = [here.control(one, goal, (2,), by="labels") for one in fitted]
        details = {"no edit": str(found[0].none), "patched, right": float((goal.patched.label == told.score.right).mean()),
                   "patched, the giver": float((goal.patched.label == told.score.wrong).mean()),
                   "patched, score": [float(goal.patched.score.mean()), float(goal.patched.score.std())]}  # fmt: skip
        if not name:
            details["nearest two features"] = str(here.control(fitted[0], goal, (2,)).agreement(2))
        needed = attribute == "Pos" and not name
        yield pooled(f"{place}: edits of {attribute} do what patching does{name}", "share of equal answers",
                     [one.agreement(2) for one in found], threshold=AGREES, decided_by="effect", needed=needed,
                     details=details)  # fmt: skip
        yield pooled(f"{place}: edits of {attribute} are ahead of no edit{name}", "share of equal answers, beyond no edit",
                     [one.gain(2) for one in found], threshold=AHEAD, needed=needed)  # fmt: skip


def pooled(name: str, measure: str, found: list[Any], **settings: Any) -> Claim:
    """The mean over fits of a measure on the same prompts, with the widest ends of its intervals over pairs of names."""
    values = [one.value for one in found]
    return Claim(name, f"{measure} (interval over pairs of names)", float(np.mean(values)), min(one.lower for one in found),
                 max(one.upper for one in found), len(found), **settings)  # fmt: skip


# ---------------------------------------------------------------------- B. the ladder
def dictionaries(world: World, place: str, seed: int) -> dict[str, Any]:
    """Of each kind, one for each location of a place."""
    size, made = world.size, {"supervised": world.supervised(place, seed)}
    fit = {"epochs": size["epochs"], "batch_size": 64, "learning_rate": 1e-3, "random_state": seed, "device": world.device}
    for name, learned in (("task SAE", {}), ("frozen SAE", {"learn_atoms": False})):
        made[name] = {}
        for at in world.sections[place].locations:
            encoder = ReLU(size["l0"], dead=None if learned else Resampling())
            latents = size["latents"] if place == "residual" else size["few"]
            made[name][at] = SparseAutoencoder(latents, encoder, **fit, **learned).fit(world.rows[at][world.some(seed)])
    made["PCA"] = {at: PrincipalComponents().fit(world.rows[at][world.some(seed)]) for at in world.sections[place].locations}
    return made


def ladder(world: World, seeds: range) -> Iterator[Claim]:
    means, told = {}, {}
    for place, attribute in LADDER:
        ev = world.evaluation(place, world.test)
        goal = ev.counterfactual(attribute, world.other(world.test, attribute).inputs)
        for seed in seeds:
            made = dictionaries(world, place, seed)
            if seed == seeds[0] and place == "residual":
                settings = {"epochs": max(1, world.size["epochs"] // 4), "batch_size": 256, "learning_rate": 1e-3}
                general = SparseAutoencoder(world.size["latents"], TopK(32), **settings, device=world.device)
                made["general SAE"] = {"residual": general.fit(world.general())}
            found = ev.compare(made, [goal], KS)
            for name, one in found.control.items():
                means.setdefault(name, {})[place, seed] = one[attribute].recovered().value
            if seed == seeds[0]:
                told[f"{attribute} at {place}"] = found.rows()
                meant = list(meaning(world, ev, goal, made, place))
                told[f"{attribute} at {place}, share of the reconstruction taken away"] = {
                    name: one[attribute].weight.mean(axis=0).tolist() for name, one in found.control.items()
                }
                if place == "residual":
                    interpreted = meant
    measure = "agreement from no edit, 0, to patching, 1; mean over k and over Pos at the residual stream and IO at the movers"
    told["recovered"] = {name: {f"{at}, {seed}": value for (at, seed), value in one.items()} for name, one in means.items()}

    def gain(better: str, worse: str) -> list[float]:
        gaps = [[means[better][at, seed] - means[worse][at, seed] for at, _ in LADDER] for seed in seeds]
        return [float(np.mean(one)) for one in gaps]

    for better, worse in (("supervised", "task SAE"), ("task SAE", "frozen SAE")):
        yield over(f"{better} ahead of {worse}", f"{measure}: {better} less {worse}", gain(better, worse), details=told)
        told = {}
    yield over("supervised ahead of PCA", f"{measure}: supervised less PCA", gain("supervised", "PCA"), needed=False)
    gap = means["task SAE"]["residual", seeds[0]] - means["general SAE"]["residual", seeds[0]]
    yield Claim("task SAE ahead of one of general text", "the same, for Pos at the residual stream, one seed", gap, gap, gap, 1,
                needed=False, decided_by="effect")  # fmt: skip
    yield from interpreted


def meaning(world: World, ev: DictionaryEval, goal: Any, made: dict[str, Any], place: str) -> Iterator[Claim]:
    """What latents of the task's dictionary stand for, what those with an interpretation carry, edits by it, and the gap."""
    told, scores, details = {}, {}, {}
    families, held = properties(world.fit), properties(world.test)
    for name, sae in made["task SAE"].items():
        codes = sae.transform(world.rows[name])
        told[name] = interpret(codes, families)
        good = told[name].f1 >= MEANT
        again = told[name].on(ev.codes(sae, name), held)
        scores[name] = ev.value_scores(codes, world.fit.inputs.labels[goal.attribute])
        details[name] = {
            "latents with a meaning, and of one value, by family": {
                one: [len(told[name].found(one, MEANT)), len(told[name].found(one, MEANT, single=True))]
                for one in dict.fromkeys(told[name].family) if one
            },
            "F1 of these where chosen, and on the test prompts": [float(one[good].mean()) if good.any() else 0.0
                                                                  for one in (told[name].f1, again)],
            "latents a row": float(codes.count_nonzero(axis=1).mean()),
            "variance unexplained": str(sae.fidelity(ev.activations[name])["FVU"]),
        }  # fmt: skip
    found = ev.interpreted(made["task SAE"], told, MEANT)
    by_meaning = ev.interpreted_control(made["task SAE"], goal, scores, (2, 6, 12))
    details["edits by F1"] = {k: str(by_meaning.agreement(k)) for k in by_meaning.ks}
    details["necessity"] = str(found["necessity"])
    one = found["sufficiency"]
    yield Claim(f"{place}: latents with an F1 of {MEANT} or more carry the task", "sufficiency with all others taken away",
                one.value, one.lower, one.upper, 1, threshold=0.5, needed=False, decided_by="effect",
                details=details)  # fmt: skip
    if place == "residual":
        yield same_as_loops(ev, goal, made["task SAE"]["residual"])
    gap = ev.optimality_gap(made["supervised"], goal, 4)
    yield Claim(f"{place}: greedy edits of few features are nearly the best there are",
                "distance beyond that of the best edit, as a share of that before", gap.value, gap.lower, gap.upper, 1,
                direction="less", threshold=0.05, needed=False, decided_by="effect")  # fmt: skip


def properties(told: parts.Part) -> dict[str, Any]:
    """Attributes, each name with the order, names by place, gender; pairs of names, left out, would be of a row or two."""
    found = label_properties(told.inputs.labels) | told.prompts.properties()
    del found["IO, S"]
    return found


def same_as_loops(ev: DictionaryEval, goal: Any, sae: Any, k: int = 6) -> Claim:
    """Edits of all prompts at once against a loop that works with vectors."""
    before, after = (sae.transform(one["residual"]).toarray() for one in (ev.activations, goal.activations))
    atoms = sae.atoms_.astype(np.float64)
    difference = ev.activations["residual"].astype(np.float64) - goal.activations["residual"]
    start, n = time.perf_counter(), min(60, len(before))
    looped = [toys.by_loops(difference[i], before[i], after[i], atoms, k) for i in range(n)]
    seconds = time.perf_counter() - start
    distance = ev.control(sae, goal, (k,)).distance[:n, 0]
    same = float(np.mean(np.abs(distance - looped) < 1e-4))
    details = {"seconds of the loop": seconds, "prompts": n}
    return Claim("edits through the products of atoms are those of a plain loop",
                 "share of prompts that end as far from the goal", same, same, same, 1, threshold=0.95, decided_by="effect",
                 details=details)  # fmt: skip


# ---------------------------------------------------------------------- C. what is hidden, what is split
def hidden(world: World, seeds: range) -> Iterator[Claim]:
    X, labels, size = world.rows[OCCLUDED], world.fit.inputs.labels, world.size
    counts, ranks = [], []
    for seed in seeds:
        fit = {"epochs": size["epochs"], "batch_size": 128, "learning_rate": 2e-3, "random_state": seed, "device": world.device}
        counts.append(toys.found_as_the_strong_one_fades(X, labels, "IO", "S", SHARES, size["few"] // 2, TopK(4), fit))
        ranks.append(rank(counts[-1]))
    yield over("SmolLM2: S comes to light as IO fades", "rank correlation of latents of S with the share of IO taken away",
               ranks, threshold=0.8, decided_by="effect", details={"shares": SHARES, "latents of S": counts})  # fmt: skip


def rank(counts: list[int]) -> float:
    return float(spearmanr(SHARES, counts).statistic) if len(set(counts)) > 1 else 0.0


def planted(seeds: range, quick: bool) -> Iterator[Claim]:
    counts, ranks, splits = [], [], []
    for seed in seeds:
        X, labels = toys.two_attributes(2000 if quick else 4000, seed)
        fit = {"epochs": 10 if quick else 20, "batch_size": 100, "learning_rate": 3e-3, "random_state": seed}
        counts.append(toys.found_as_the_strong_one_fades(X, labels, "strong", "weak", SHARES, 64, TopK(2), fit))
        ranks.append(rank(counts[-1]))
        splits.append(toys.split(seed))
    yield over("planted: the weak attribute comes to light as the strong one fades",
               "rank correlation of latents of the weak one with the share of the strong one taken away", ranks, threshold=0.8,
               decided_by="effect", details={"latents of the weak one": counts})  # fmt: skip
    more = [one["wide"]["latents of one side"] - one["narrow"]["latents of one side"] for one in splits]
    yield over("a wide dictionary splits two Gaussians", "latents of one side, 256 less 4 latents", more, threshold=10,
               details={"seeds": splits})  # fmt: skip


# ---------------------------------------------------------------------- D. digits
def second_task(seeds: range, quick: bool, device: str) -> Iterator[Claim]:
    runs = [digits.measured(seed, quick, device) for seed in seeds]
    for kind in ("sufficiency", "necessity"):
        yield over(f"digits: labels say enough, {kind}", f"{kind} of the supervised dictionary",
                   [run[kind]["supervised"] for run in runs], threshold=SUFFICIENT, decided_by="effect",
                   details={"seeds": runs} if kind == "sufficiency" else {})  # fmt: skip
    yield over("digits: edits of the digit do what patching does", "share of equal answers", [run["by labels"] for run in runs],
               threshold=AGREES, decided_by="effect")  # fmt: skip
    for better, worse in (("supervised", "task SAE"), ("task SAE", "frozen SAE")):
        gain = [run["recovered"][better] - run["recovered"][worse] for run in runs]
        yield over(f"digits: {better} ahead of {worse}", "agreement between no edit and patching, mean over k", gain)


# ---------------------------------------------------------------------- the heads
def listed_heads(world: World, quick: bool) -> Iterator[Claim]:
    told, other = heads.both_orders(world.tokenizer, world.size["heads"], 21)
    drawn = np.random.default_rng(5).permutation(heads.LAYERS * heads.HEADS)[: 8 if quick else 24]
    listed = [*parts.MOVERS[:5], *parts.INHIBITORS[:5]]
    random = [(int(i) // heads.HEADS, int(i) % heads.HEADS) for i in drawn]
    random = [one for one in random if one not in (*parts.MOVERS, *parts.INHIBITORS)]
    found = heads.effects(world.model, told, other, [*listed, *random])
    first = len(parts.MOVERS[:5])
    beyond = {
        "movers": (found["without"].mean(axis=1), slice(0, first)),
        "inhibitors": (np.abs(found["other order"].mean(axis=1)), slice(first, len(listed))),
    }
    for name, (effect, own) in beyond.items():
        others = effect[len(listed) :]
        ahead = float(np.mean(effect[own][:, None] > others))
        what = "falls without it" if name == "movers" else "moves with that of the other order"
        yield Claim(f"the listed {name} matter more than heads drawn at random",
                    f"share of pairs of a listed and a random head in which the score {what} by more", ahead, ahead, ahead,
                    1, threshold=0.9, decided_by="effect", needed=False,
                    details={"listed": [str(one) for one in listed[own]], "effects": effect[own].tolist(),
                             "random": others.tolist()})  # fmt: skip


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    size: dict[str, Any] = {"fit": 3000, "test": 200, "general": 20_000, "latents": 1152, "few": 512, "epochs": 50, "l0": 12.0,
                            "heads": 40}  # fmt: skip
    if quick:
        size |= {"fit": 400, "test": 40, "general": 1500, "latents": 288, "few": 128, "epochs": 60, "heads": 12}
    seeds = range(seed, seed + (2 if quick else 3))
    world = World(quick, size, device)
    yield from yardstick(world, seeds)
    yield from ladder(world, seeds)
    yield from hidden(world, seeds)
    yield from planted(range(seed, seed + (2 if quick else 3)), quick)
    yield from second_task(range(seed, seed + (2 if quick else 5)), quick, device)
    yield from listed_heads(world, quick)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
