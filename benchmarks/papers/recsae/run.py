"""A sparse dictionary in the place of the vector that a recommender scores films from: fidelity, names and edits.

MovieLens 100k: self-attention over the last twenty films (SASRec, width 64) learns from all but the last six ratings of each
user, of which the first says when to stop. The dictionary learns from the vectors after each film of 60 % of the users, choices
are made on 15 % more, and the rest are measured on: fidelity on their last five films, which nothing has seen. Amazon Grocery,
in other families of recommenders: fidelity alone, since its items have no titles. Intervals are Student's over seeds, of which
each has its own recommender, split and dictionary, and over users where said.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from claims import Claim, main, over
from recommend import Rows, World

from locum.datasets import load_interactions
from locum.inside import (
    ItemConcepts,
    RecommenderAudit,
    SparseAutoencoder,
    TopK,
    detect_kinds,
    frozen_decoder,
    fvu,
    title_coherence,
)
from locum.nets import minilm
from locum.nets.recommenders import LightGCN, MultiInterest, SASRec

K, SCALE, WIDTH = 16, 32, 64
DOSES = (0.0, 0.5, 1.0, 2.0, 4.0)
SHIFTS = (-0.5, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
PICKED, FEWEST = 10, 15  # latents that are steered, and users of those that choose in whom each is active
STEERED = 1_500  # rows, at most, in which a latent is steered


def sae(X: np.ndarray, size: dict, seed: int, k: int = K, scale: int = SCALE, **more: Any) -> SparseAutoencoder:
    settings = {"epochs": size["epochs"], "batch_size": 128, "learning_rate": 1e-3, "device": size["device"]} | more
    return SparseAutoencoder(scale * X.shape[1], TopK(k), random_state=seed, **settings).fit(X)


def components(X: np.ndarray, k: int) -> Any:
    found = PCA(k, random_state=0).fit(X)
    return lambda rows: found.inverse_transform(found.transform(rows))


def sasrec(size: dict, seed: int, **more: Any) -> SASRec:
    settings = {"epochs": size["passes"], "batch_size": 64, "learning_rate": 4e-3, "negatives": 256}
    return SASRec(WIDTH, device=size["device"], random_state=seed, **settings | more)


# ---------------------------------------------------------------------- A. fidelity
def fidelity(world: World, audit: RecommenderAudit, stand_ins: dict, held: Rows) -> dict:
    told = audit.ranking_fidelity(held.X, held.targets, users=held.users, seen=held.seen, stand_ins=stand_ins)
    return {name: {key: [one.value, one.lower, one.upper] for key, one in lines.items()} for name, lines in told.items()}


def by_length(model: SparseAutoencoder, X: np.ndarray) -> list[float]:
    """Variance unexplained in each fifth of the rows, from the shortest to the longest."""
    order = np.argsort(np.linalg.norm(X, axis=1), kind="stable")
    return [fvu(X[part], model.reconstruct(X[part]), model.mean_).value for part in np.array_split(order, 5)]


def value(run: dict, name: str, key: str) -> float:
    return run["fidelity"][name][key][0]


def on_fidelity(runs: list[dict]) -> Iterator[Claim]:
    yield over("a dictionary in place keeps the quality of lists", "NDCG@10 spliced over original, K = 16",
               [value(run, "dictionary", "NDCG@10 ratio") for run in runs], threshold=0.95, decided_by="effect",
               details={"seeds": [run["fidelity"] | {"recommender": run["quality"]} for run in runs]})  # fmt: skip
    yield over("the recommender is better than popularity", "NDCG@10 less that of the most popular films",
               [run["quality"][0] - run["quality"][1] for run in runs])  # fmt: skip
    yield over("lists stay alike", "share of the first ten films that stay",
               [value(run, "dictionary", "overlap@10") for run in runs], threshold=0.6, decided_by="effect")  # fmt: skip
    for name, rival, needed in (
        ("principal components", "PCA", True),
        ("random atoms with a trained encoder", "random decoder", True),
    ):
        for key in ("NDCG@10 ratio", "overlap@10"):
            gap = [value(run, "dictionary", key) - value(run, rival, key) for run in runs]
            yield over(f"better than {name}: {key}", f"{key} less that of {rival} at K = 16", gap,
                       needed=needed and key.startswith("NDCG"))  # fmt: skip

    for key in ("NDCG@10 ratio", "overlap@10"):
        gap = [value(run, "dictionary, K = 4", key) - value(run, "PCA, K = 4", key) for run in runs]
        yield over(f"better than principal components at K = 4: {key}", f"{key} less that of PCA at K = 4", gap, needed=False)


def grid(world: World, train: Rows, held: Rows, size: dict, seed: int) -> Iterator[Claim]:
    """Other numbers of active latents and other widths, one seed."""
    told = {}
    for scale in size["scales"]:
        for k in size["ks"]:
            model = sae(train.X, size, seed, k, scale)
            audit = RecommenderAudit(world.model.score, model, world.data.n_items)
            found = audit.ranking_fidelity(held.X, held.targets, users=held.users, seen=held.seen)["dictionary"]
            told[f"K={k}, scale={scale}"] = {key: [one.value, one.lower, one.upper] for key, one in found.items()} | {
                key: one.value for key, one in model.fidelity(held.X, documents=held.users).items()
            }
    best = max(told.values(), key=lambda one: one["NDCG@10 ratio"][0])["NDCG@10 ratio"]
    yield Claim("other sizes", "largest NDCG@10 ratio among K and scales, over users, one seed", *best, 1, threshold=0.95,
                decided_by="effect", needed=False, details=told)  # fmt: skip


# ---------------------------------------------------------------------- B. what units are about
def detection(world: World, model: SparseAutoencoder, train: Rows, test: Rows, size: dict, seed: int) -> dict:
    names = tuple(world.data.kinds)
    flags, held = world.kinds(train), world.kinds(test)
    common = [i for i in range(len(names)) if min(flags[:, i].sum(), held[:, i].sum()) >= 5]
    bare = sasrec(size, seed, epochs=1, learning_rate=1e-12)
    bare.fit(world.data.sequences[:2], world.data.n_items)
    plain = [bare.vectors(rows.histories) for rows in (train, test)]
    untrained = sae(plain[0], size, seed)
    axes = PCA(WIDTH, random_state=0).fit(train.X)
    drawn = frozen_decoder(train.X, SCALE * WIDTH, K, epochs=0, random_state=seed)
    mean, directions = train.X.mean(axis=0), drawn.atoms_.T
    units = {
        "dictionary": [model.encode(rows.X) for rows in (train, test)],
        "neurons": [both_signs(rows.X - mean) for rows in (train, test)],
        "PCA axes": [both_signs(axes.transform(rows.X)) for rows in (train, test)],
        "random directions": [np.maximum((rows.X - mean) @ directions, 0.0) for rows in (train, test)],
        "random dictionary": [drawn.encode(rows.X) for rows in (train, test)],
        "untrained recommender": [untrained.encode(one) for one in plain],
    }
    told, purity = {}, {}
    for name, (one, other) in units.items():
        found = detect_kinds(one, flags[:, common], other, held[:, common], [names[i] for i in common])
        told[name] = dict(zip(found.kinds, found.area.tolist(), strict=True))
        top = purest(one, flags[:, common]).argmax(axis=0)
        purity[name] = dict(zip(found.kinds, purest(other[:, top], held[:, common]).diagonal().tolist(), strict=True))
    return {"area": told, "purity": purity}


def purest(scores: Any, flags: np.ndarray, share: float = 0.01) -> np.ndarray:
    """Share of each kind among the rows in which each unit is largest, over its share in all, shape (units, kinds)."""
    rows = max(10, int(share * len(flags)))
    parts = []
    for at in range(0, scores.shape[1], 256):
        block = scores[:, at : at + 256]
        table = block.toarray() if hasattr(block, "toarray") else block
        parts.append(flags[np.argpartition(table, -rows, axis=0)[-rows:]].mean(axis=0))
    return np.concatenate(parts) / flags.mean(axis=0)


def both_signs(table: np.ndarray) -> np.ndarray:
    return np.concatenate([table, -table], axis=1)


def on_detection(runs: list[dict]) -> Iterator[Claim]:
    measures = {"area": "mean area under the curve of genres", "purity": "mean lift of genres in the top 1 % of rows"}
    for key, said in measures.items():
        found = {name: [mean(run["areas"][key][name]) for run in runs] for name in runs[0]["areas"][key]}
        details = {name: float(np.mean(one)) for name, one in found.items()} | {"seeds": [run["areas"][key] for run in runs]}
        for name in list(found)[1:]:
            gap = np.subtract(found["dictionary"], found[name])
            yield over(f"genres, {key}: latents against {name}", f"{said} less that of {name}", gap,
                       needed=key == "area" and name in ("neurons", "random directions"),
                       details=details if name == "neurons" else {})  # fmt: skip


def mean(kinds: dict) -> float:
    return float(np.mean(list(kinds.values())))


def embedded(titles: tuple[str, ...]) -> np.ndarray:
    """Mean last states of MiniLM, one row a title."""
    import torch

    model, tokenizer = minilm()
    parts, order = [], np.argsort([len(one) for one in titles], kind="stable")
    with torch.inference_mode():
        for at in range(0, len(titles), 64):
            given = tokenizer([titles[i] for i in order[at : at + 64]], padding=True, return_tensors="pt")
            said, there = model(**given).last_hidden_state, given["attention_mask"][..., None]
            parts.append(((said * there).sum(dim=1) / there.sum(dim=1)).numpy())
    found = np.concatenate(parts)
    return found[np.argsort(order, kind="stable")]


def favoured(world: World, X: np.ndarray, units: Any) -> np.ndarray:
    """For each unit the ten films that score most above their mean where the unit is largest, of those taken by five users."""
    dense = units.toarray() if hasattr(units, "toarray") else units
    dense = dense[:, (dense > 0).sum(axis=0) >= 40]
    strongest = X[np.argpartition(dense, -40, axis=0)[-40:]].mean(axis=0)
    scores = (strongest - X.mean(axis=0)) @ world.model.item_vectors().T
    scores[:, world.popularity < 5] = -np.inf
    return np.argsort(-scores, axis=1)[:, :10]


def on_coherence(runs: list[dict]) -> Iterator[Claim]:
    yield over("films of a latent have titles alike", "mean cosine of titles (MiniLM) above films as popular",
               [run["coherence"]["dictionary"] for run in runs],
               details={"seeds": [run["coherence"] for run in runs]})  # fmt: skip
    for name in ("neurons", "random directions"):
        gap = [run["coherence"]["dictionary"] - run["coherence"][name] for run in runs]
        yield over(f"titles: latents against {name}", f"cosine of titles above matched, less that of {name}", gap, needed=False)


# ---------------------------------------------------------------------- C. names
def names(concepts: ItemConcepts, rows: Rows) -> tuple[dict, Any]:
    found = concepts.confidence(rows.X, rows.histories, users=rows.users)
    claimed = found.claimed(0.1)
    best = [int(np.flatnonzero(found.latent == j)[0]) for j in claimed[:25]]
    told = {
        "named": len(concepts.named_), "judged": len(found.latent), "claimed": len(claimed),
        "F1": found.mean_f1.value, "F1 of other names": found.mean_shuffled.value,
        "quantiles of F1": np.quantile(found.f1, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist(),
        "precision": float(found.precision.mean()), "recall": float(found.recall.mean()),
        "surest": [[int(found.latent[i]), found.name[i], float(found.f1[i]), float(found.q[i])] for i in best],
    }  # fmt: skip
    return told, found


def on_names(runs: list[dict]) -> Iterator[Claim]:
    gap = [run["names"]["F1"] - run["names"]["F1 of other names"] for run in runs]
    yield over("names say when latents are active", "mean F1 on other users, less that of other latents' names", gap,
               details={"seeds": [run["names"] for run in runs]})  # fmt: skip
    yield over("hundreds of tastes can be named", "latents whose names are claimed (false discovery rate 0.1)",
               [run["names"]["claimed"] for run in runs], threshold=100.0, decided_by="effect")  # fmt: skip


# ---------------------------------------------------------------------- D. edits
def control(world: World, audit: RecommenderAudit, concepts: ItemConcepts, claimed: Any, dev: Rows, test: Rows) -> dict:
    codes, held = (audit.dictionary.encode(rows.X).tocsc() for rows in (dev, test))
    picked = picks(world, audit, concepts, claimed, dev, codes)
    rng = np.random.default_rng(world.seed)
    table = world.model.item_vectors()
    out: dict[str, Any] = {"picked": [[j, kind, concepts.names_[j]] for j, kind in picked]}
    curves: dict[str, list] = {"latent": [], "random": [], "mean vector": []}
    rate, size = np.diff(codes.indptr) / len(dev.X), np.asarray(codes.sum(axis=0)).ravel()
    rare = [j for j in range(len(rate)) if len(np.unique(dev.users[active(codes, j)])) < FEWEST]
    for j, kind in picked:
        rows = test.at(active(held, j, STEERED))
        other = matched(j, rate, size, {*rare, *(one for one, _ in picked)}, rng)
        near = test.at(active(held, other, STEERED))
        vector = table[world.data.kinds[kind]].mean(axis=0)
        vector = vector / np.linalg.norm(vector) * size[j] / max(rate[j] * len(dev.X), 1)  # as long as the latent is strong
        curves["latent"].append(response(audit, {c: audit.multiplied(j, c) for c in DOSES}, kind, rows))
        curves["random"].append(response(audit, {c: audit.multiplied(other, c) for c in DOSES}, kind, near))
        curves["mean vector"].append(response(audit, {c: audit.shifted(vector, c) for c in SHIFTS}, kind, rows))
    out["curves"] = {
        name: {key: np.mean([one[key] for one in found], axis=0).tolist() for key in ("share", "gain", "overlap")}
        for name, found in curves.items()
    }
    out["monotone"] = [one["monotone"] for one in curves["latent"]]
    out["rows"] = [one["n"] for one in curves["latent"]]
    return out


def active(codes: Any, j: int, most: int | None = None) -> np.ndarray:
    """Rows in which a latent is active; some of them where there are more than `most`."""
    found = np.random.default_rng(j).permutation(codes.indices[codes.indptr[j] : codes.indptr[j + 1]])
    return np.sort(found[:most])


def picks(
    world: World, audit: RecommenderAudit, concepts: ItemConcepts, claimed: Any, dev: Rows, codes: Any
) -> list[tuple[int, str]]:
    """Named latents whose genre the lists of other users follow most, at most four a genre.

    Those whose names are claimed, and the forty most active of the rest.
    """
    genre = {f"genre={kind.lower()}": kind for kind in world.data.kinds}
    found, rest = [], [j for j in concepts.named_ if j not in set(claimed.tolist())]
    for j in [*claimed, *sorted(rest, key=lambda one: -concepts.rate_[one])[:40]]:
        kinds = [genre[word] for word in concepts.names_[j].split(" + ") if word in genre]
        rows = dev.at(active(codes, int(j), STEERED))
        if kinds and len(np.unique(rows.users)) >= FEWEST:
            doses = {c: audit.multiplied(int(j), c) for c in (0.0, 4.0)}
            share = response(audit, doses, kinds[0], rows)["share"]
            found.append((share[1] - share[0], int(j), kinds[0]))
    out: list[tuple[int, str]] = []
    for _, j, kind in sorted(found, reverse=True):
        if sum(one == kind for _, one in out) < 4 and len(out) < PICKED:
            out.append((j, kind))
    return out


def matched(j: int, rate: np.ndarray, size: np.ndarray, but: set[int], rng: np.random.Generator) -> int:
    """Another latent, one of the five that are most nearly as often and as strongly active."""
    strength = size / np.maximum(rate, 1e-9)
    off = np.abs(np.log(np.maximum(rate, 1e-9) / rate[j])) + np.abs(np.log(np.maximum(strength, 1e-9) / strength[j]))
    off[list(but)] = np.inf
    return int(rng.choice(np.argsort(off)[:5]))


def response(audit: RecommenderAudit, doses: dict, kind: str, rows: Rows) -> dict:
    found = audit.dose_response(doses, kind, rows.X, rows.targets, users=rows.users, seen=rows.seen)
    return {"share": found.share, "gain": found.gain, "overlap": found.overlap, "n": found.n, "monotone": found.monotone}


def at_equal(curves: dict, key: str) -> float:
    """Share of the genre at the highest dose, less that of the mean vector where lists have lost as much."""
    one, other = curves["latent"], curves["mean vector"]
    start = SHIFTS.index(0.0)
    lost = np.maximum.accumulate(other[key][start] - np.array(other[key][start:]))
    gained = np.array(other["share"][start:]) - other["share"][start]
    ours = one["share"][-1] - one["share"][DOSES.index(1.0)]
    return float(ours - np.interp(max(one[key][DOSES.index(1.0)] - one[key][-1], 0.0), lost, gained))


def on_control(runs: list[dict]) -> Iterator[Claim]:
    curves = [run["control"]["curves"] for run in runs]
    steps = [float(np.diff(one["latent"]["share"]).min()) for one in curves]
    yield over("the genre follows the multiplier", "smallest rise of its share from one of 0, 0.5, 1, 2, 4 to the next", steps,
               details={"seeds": [run["control"] for run in runs]})  # fmt: skip
    rises = {name: [one[name]["share"][-1] - one[name]["share"][0] for one in curves] for name in ("latent", "random")}
    yield over("more than with random latents as active", "rise of the share from 0 to 4, less that of random latents",
               np.subtract(rises["latent"], rises["random"]))  # fmt: skip
    yield over("lists lose quality", "NDCG@10 at 4 less that at 1, in rows where the latent is active",
               [one["latent"]["gain"][-1] - one["latent"]["gain"][2] for one in curves], direction="less", threshold=0.0,
               needed=False)  # fmt: skip
    for key, name, needed in (("gain", "at equal loss of NDCG", True), ("overlap", "at equal change of lists", False)):
        yield over(f"more than adding the mean vector of the genre, {name}",
                   f"share of the genre at 4, less that of the mean vector {name}", [at_equal(one, key) for one in curves],
                   needed=needed)  # fmt: skip


# ---------------------------------------------------------------------- one seed, and other families
def films(seed: int, size: dict, titles: np.ndarray) -> tuple[dict, World, Rows, Rows]:
    world = World(load_interactions("ml-100k"), held=5, seed=seed)
    world.fit(sasrec(size, seed))
    test, dev = world.rows("test"), world.rows("dev")
    train = world.rows("train", most=size["rows"])
    model = sae(train.X, size, seed)
    audit = RecommenderAudit(world.model.score, model, world.data.n_items, kinds=world.data.kinds,
                             fitted_users=world.users["train"])  # fmt: skip
    rival = frozen_decoder(train.X, SCALE * WIDTH, K, epochs=size["epochs"], batch_size=128, learning_rate=1e-3,
                           device=size["device"], random_state=seed)  # fmt: skip
    stand_ins = {
        "dictionary": model.reconstruct, "PCA": components(train.X, K), "random decoder": rival.reconstruct,
        "dictionary, K = 4": sae(train.X, size, seed, 4).reconstruct, "PCA, K = 4": components(train.X, 4),
    }  # fmt: skip
    run: dict[str, Any] = {"quality": world.quality()}
    run["fidelity"] = fidelity(world, audit, stand_ins, test.at(test.held))
    told = model.fidelity(test.X[test.held], documents=test.users[test.held])
    run["fidelity"]["dictionary"] |= {key: [one.value, one.lower, one.upper] for key, one in told.items()}
    run["fidelity"]["dictionary"]["FVU by length"] = by_length(model, test.X[test.held])
    few = np.random.default_rng(seed).permutation(len(train.X))[: size["ranked"]]
    run["areas"] = detection(world, model, train.at(few), test.at(slice(None, size["ranked"])), size, seed)
    X = train.X[few]
    directions = frozen_decoder(train.X, SCALE * WIDTH, K, epochs=0, random_state=seed).atoms_.T
    units = {"dictionary": model.encode(X), "neurons": both_signs(X - X.mean(axis=0)),
             "random directions": np.maximum((X - X.mean(axis=0)) @ directions, 0.0)}  # fmt: skip
    run["coherence"] = {
        name: title_coherence(favoured(world, X, one), titles, world.popularity).value for name, one in units.items()
    }
    concepts = ItemConcepts().fit(model, train.X, train.histories, world.data.documents(), users=train.users)
    surest = names(concepts, dev)[1].claimed(0.1)
    run["names"] = names(concepts, test)[0]
    run["control"] = control(world, audit, concepts, surest, dev, test)
    return run, world, train, test.at(test.held)


def families(seeds: range, size: dict) -> Iterator[Claim]:
    """Groceries: one vector a user, or one after each item; the last item is the one wanted."""
    told: dict[str, Any] = {"device": size["device"]}
    made = {
        "BPR matrix factorisation": lambda seed: LightGCN(WIDTH, 0, epochs=size["graph"], random_state=seed, **told),
        "LightGCN": lambda seed: LightGCN(WIDTH, 2, epochs=size["graph"], random_state=seed, **told),
        "SASRec": lambda seed: sasrec(size, seed, epochs=size["passes"] // 2),
        "four interests": lambda seed: MultiInterest(WIDTH, 4, negatives=256, epochs=4, random_state=seed, **told),
    }
    for name in size["families"]:
        runs = []
        for seed in seeds:
            world = World(load_interactions("amazon-grocery"), held=1, seed=seed)
            world.fit(made[name](seed), validate=1500)
            rows = {part: world.rows(part, most=size["rows"] // 2) for part in ("train", "test")}
            flat = rows["train"].X.reshape(-1, WIDTH)
            model = sae(flat, size, seed, scale=8)
            audit = RecommenderAudit(world.model.score, model, world.data.n_items, fitted_users=world.users["train"])
            held = rows["test"].at(rows["test"].held)
            stand_ins = {"dictionary": model.reconstruct, "PCA": components(flat, K)}
            runs.append({"fidelity": fidelity(world, audit, stand_ins, held),
                         "quality": world.quality()})  # fmt: skip
        yield over(f"groceries, {name}: lists keep their quality", "NDCG@10 spliced over original, K = 16, scale 8",
                   [value(run, "dictionary", "NDCG@10 ratio") for run in runs], threshold=0.95, decided_by="effect",
                   needed=False, details={"seeds": runs})  # fmt: skip
        yield over(f"groceries, {name}: better than PCA", "NDCG@10 ratio less that of PCA at K = 16",
                   [value(run, "dictionary", "NDCG@10 ratio") - value(run, "PCA", "NDCG@10 ratio") for run in runs],
                   needed=False)  # fmt: skip


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    size: dict[str, Any] = {"passes": 6, "epochs": 2, "rows": 15_000, "ranked": 4_000, "ks": (32,), "scales": (8,), "graph": 15,
                            "families": ("BPR matrix factorisation",)}  # fmt: skip
    if not quick:
        size = {"passes": 20, "epochs": 6, "rows": 60_000, "ranked": 15_000, "ks": (4, 8, 16, 32), "scales": (8, 32),
                "graph": 30, "families": ("BPR matrix factorisation", "LightGCN", "SASRec", "four interests")}  # fmt: skip
    size["device"] = device
    titles = embedded(load_interactions("ml-100k").titles)
    found = [films(one, size, titles) for one in range(seed, seed + (2 if quick else 5))]
    runs = [one[0] for one in found]
    for part in (on_fidelity, on_detection, on_coherence, on_names, on_control):
        yield from part(runs)
    yield from grid(*found[0][1:], size, seed)
    yield from families(range(seed, seed + (1 if quick else 2)), size)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
