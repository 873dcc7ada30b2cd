"""timex (arXiv 2306.02109): a masked encoder explains a trained classifier of time series, and stands in for it.

FreqShapes, LowVar and SeqComb-UV with planted evidence; two-second windows of MIT-BIH record 100 with one planted beat; four
real sets, by what the classifier still tells apart when all but the top of each map is replaced; ablations, other networks,
speed, and whether maps change with the classifier's weights. Planted sets have 2,000 training series (the paper: 5,000). Of
four trainings on FreqShapes, with longer steps and 30 epochs (the paper: one, 50), the one is taken whose gaps on validation
series are lowest; the longer sets have one each, and 100 and 30 epochs; SeqComb-MV is left out. Where series are few, epochs
are as many as make 3,000 steps. The record is read from $LOCUM_DATA/wfdb/100.dat and 100.atr, real sets from the packages aeon
and tslearn, where they are; rivals are of captum, and of time-interpret where that can be imported.
"""

from __future__ import annotations

import copy
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.metrics import f1_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from claims import Claim, Kept, main, over_seeds
from rivals import Rivals
from worlds import World, electrocardiogram, real

from locum.explain.replacement import NormalBaseline, replaced
from locum.explain.saliency import KEPT, saliency_against_truth
from locum.explain.timex import TimeXExplainer, TimeXVariant, series_reference
from locum.nets import seeded
from locum.problems.planted_series import freq_shapes, low_var, seq_comb_uv

SETS = ("GunPoint", "Trace", "BasicMotions", "JapaneseVowels")
FAST = {"learning_rate": 3e-3}  # of the ablations and other networks: fewer series and epochs, so longer steps
STEPS = 3000  # of trainings on real series
ANCHOR = 0.1
DRAWS, RESAMPLES = 5, 60


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    """All claims, the headline first."""
    kept = Kept("timex", quick, [NETS, ANCHOR])
    size = "quick" if quick else "FreqShapes"
    of = [SIZES[size], RATES[size]]
    runs = [
        kept(["planted", "FreqShapes", fold, *of], partial(planted_run, freq_shapes(), fold, size))
        for fold in folds(quick, seed)
    ]
    yield from frequency(runs)
    yield faster(kept(["speed", seed], partial(speed, seed, quick)), 200 if quick else 1000)
    yield changed(kept(["random weights", seed], partial(random_weights, seed, quick)))
    yield from other_networks(seed, quick)
    yield from heart(kept, seed, quick)
    yield from sets(kept, seed, quick)
    yield ablations(seed, quick)
    if not quick:
        yield from longer(kept, seed)


def folds(quick: bool, seed: int) -> range:
    return range(seed, seed + (2 if quick else 3))


def draw(problem: Any, fold: int, train: int, test: int) -> tuple[World, Any]:
    """A world of its own for each fold, and series to choose the epoch on."""
    fit, held = problem.sample(train, 1000 + 10 * fold), problem.sample(test, 1001 + 10 * fold)
    check = problem.sample(max(100, train // 10), 1002 + 10 * fold)
    return World(fit.X, fit.y, held.X, held.y, held.truth), check.X


def one(name: str, measure: str, values: Any, threshold: float, **rest: Any) -> Claim:
    rest = {"decided_by": "effect"} | rest
    return Claim(name, measure, *over_seeds(values), seeds=len(values), threshold=threshold, **rest)


def bounded(name: str, found: Any, threshold: float, **rest: Any) -> Claim:
    """A level with its interval over samples."""
    rest = {"decided_by": "effect", "seeds": 1} | rest
    return Claim(name, found.measure, found.value, found.lower, found.upper, threshold=threshold, **rest)


def quality(maps: Any, world: World) -> dict[str, float]:
    """Against the truth, on the classes that have evidence."""
    told = world.truth.any(axis=(1, 2))
    found = saliency_against_truth(maps[told], world.truth[told])
    return {name: getattr(found, name).value for name in ("auprc", "aup", "aur", "iou")}


# ---------------------------------------------------------------------- planted worlds
SIZES: dict[str, dict[str, Any]] = {
    "FreqShapes": {"train": 2000, "test": 1000, "classifier": 60, "epochs": 30, "batch": 64, "restarts": 4},
    "LowVar": {"train": 2000, "test": 500, "classifier": 120, "epochs": 100, "batch": 64},
    "SeqComb-UV": {"train": 2000, "test": 500, "classifier": 200, "epochs": 30, "batch": 64},
    "quick": {"train": 500, "test": 200, "classifier": 40, "epochs": 8, "batch": 32},
}
NETS: dict[str, dict[str, Any]] = {
    "FreqShapes": {"layers": 1, "feedforward": 16, "dropout": 0.1, "weight_decay": 0.1},
    "LowVar": {"layers": 1, "feedforward": 32, "dropout": 0.25, "normalised": True, "weight_decay": 0.01},
    "SeqComb-UV": {"layers": 2, "feedforward": 64, "dropout": 0.25, "weight_decay": 0.01},
}
RATES: dict[str, tuple[float, float]] = {  # of the classifier and of the explainer; the paper's for the longer sets
    "FreqShapes": (2e-3, 3e-3), "LowVar": (1e-3, 3e-3), "SeqComb-UV": (1e-3, 1e-3), "quick": (2e-3, 3e-3),
}  # fmt: skip


def trained(problem: Any, fold: int, size: str) -> tuple[World, Any, Any]:
    """A world, series to choose the epoch on, and a classifier of that world."""
    world, check = draw(problem, fold, SIZES[size]["train"], SIZES[size]["test"])
    reference = series_reference(
        world.X, world.y, epochs=SIZES[size]["classifier"], learning_rate=RATES[size][0], batch_size=SIZES[size]["batch"],
        random_state=fold, **NETS[problem.name],
    )  # fmt: skip
    return world, check, reference


def explained(reference: Any, world: World, check: Any, size: str, seed: int, anchor: float = 0.0) -> TimeXExplainer:
    restarts = SIZES[size].get("restarts", 1)
    made = TimeXExplainer(reference, anchor=anchor, learning_rate=RATES[size][1], restarts=restarts, random_state=seed)
    return made.fit(world.X, X_val=check, epochs=SIZES[size]["epochs"], batch_size=SIZES[size]["batch"])


def planted_run(problem: Any, fold: int, size: str, anchored: bool = True) -> dict[str, Any]:
    """A classifier, its explainer in the paper's way and (on request) with labels anchored, and rivals."""
    world, check, reference = trained(problem, fold, size)
    said = reference.predict(world.X_test)
    rivals = Rivals(reference, world.X, seed=fold)
    maps = {"integrated gradients": quality(rivals.gradients(world.X_test), world)}
    maps["random"] = quality(rivals.random(world.X_test, fold), world)
    for name in ("occlusion", "gradient_shap"):
        maps[name] = quality(getattr(rivals, name)(world.X_test), world)
    masks = dynamask(rivals, world.X_test[:200])
    if masks is not None:
        maps["dynamask"] = quality(masks, world._replace(truth=world.truth[:200]))
    out: dict[str, Any] = {"f1": float(f1_score(world.y_test, said, average="macro")), "maps": maps}
    has = world.truth.any(axis=(1, 2))
    for name, anchor in (("timex", 0.0), ("anchored", ANCHOR))[: 2 if anchored else 1]:
        explainer = explained(reference, world, check, size, fold, anchor)
        found = explainer.explain(world.X_test).saliency
        maps[name] = quality(found, world)
        area, fidelity = saliency_against_truth(found[has], world.truth[has]).auprc, explainer.fidelity(world.X_test)
        out[f"{name} interval"] = [area.lower, area.upper]
        out[f"{name} head"], out[f"{name} label"] = fidelity.head_agreement.value, fidelity.agreement.value
        out[f"{name} fidelity"] = str(fidelity)
    return out


def dynamask(rivals: Rivals, X: Any) -> Any:
    try:
        return rivals.dynamask(X)
    except ImportError as missing:
        if "told" not in _SAID:
            _SAID.add("told")
            print(f"skipped, Dynamask (time-interpret): {missing}", file=sys.stderr)
        return None


_SAID: set[str] = set()


def column(runs: list[dict[str, Any]], method: str, name: str = "auprc") -> Any:
    return np.array([run["maps"][method][name] for run in runs])


def told(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean of every measure of every method."""
    return {name: {key: float(np.mean(column(runs, name, key))) for key in found} for name, found in runs[0]["maps"].items()}


def frequency(runs: list[dict[str, Any]]) -> Iterator[Claim]:
    mine, gradients, chance = column(runs, "timex"), column(runs, "integrated gradients"), column(runs, "random")
    yield one(
        "FreqShapes: the mask finds the spikes", "AUPRC above a random map", mine - chance, 0.4,
        details={"maps": told(runs), "each": mine.tolist()},
    )  # fmt: skip
    for name, values, threshold in (
        ("FreqShapes: AUPRC of each fold", mine, 0.72),
        ("FreqShapes: F1 of the classifier in each fold", np.array([run["f1"] for run in runs]), 0.95),
    ):
        _, lower, upper = over_seeds(values)
        yield Claim(
            name, "smallest", float(values.min()), lower, upper, len(values), threshold=threshold, decided_by="effect",
            details={"each": values.tolist()},
        )  # fmt: skip
    yield one("FreqShapes: not below integrated gradients", "AUPRC less that of |IG|", mine - gradients, -0.02)
    yield one(
        "FreqShapes, the paper's losses: the classifier's head on the embedding", "agreement",
        [run["timex head"] for run in runs], 0.8, details={"each": [run["timex fidelity"] for run in runs]},
    )  # fmt: skip
    yield one(
        "FreqShapes, anchored: the label head", "agreement", [run["anchored label"] for run in runs], 0.95,
        details={"each": [run["anchored fidelity"] for run in runs], "anchor": ANCHOR},
    )  # fmt: skip
    yield one(
        "FreqShapes, anchored: what anchoring costs", "fall in AUPRC", mine - column(runs, "anchored"), 0.05, direction="less"
    )  # fmt: skip
    yield one(
        "FreqShapes, the paper's losses: the label head", "agreement", [run["timex label"] for run in runs], 0.95,
        needed=False,
    )  # fmt: skip


def longer(kept: Kept, seed: int) -> Iterator[Claim]:
    """One fold each of the planted sets of 200 time points."""
    for problem in (low_var(), seq_comb_uv()):
        of = [SIZES[problem.name], RATES[problem.name]]
        run = kept(["planted", problem.name, seed, *of], partial(planted_run, problem, seed, problem.name, anchored=False))
        mine, chance, gradients = (run["maps"][name]["auprc"] for name in ("timex", "random", "integrated gradients"))
        lower, upper = run["timex interval"]
        details = {"maps": told([run]), "f1": run["f1"], "fidelity": run["timex fidelity"]}
        for name, less, threshold in (("a random map", chance, 0.25), ("|IG|", gradients, -0.05)):
            yield Claim(
                f"{problem.name}: against {name}", f"AUPRC less that of {name}", mine - less, lower - less, upper - less, 1,
                threshold=threshold, decided_by="effect", details=details,
            )  # fmt: skip
            details = {}


# ---------------------------------------------------------------------- random weights
def random_weights(seed: int, quick: bool) -> dict[str, float]:
    """Rank correlation of maps with those of another explainer of the classifier, and of a classifier without training."""
    size = "quick"
    world, check, reference = trained(freq_shapes(), 70 + seed, size)
    first, again = (explained(reference, world, check, size, s).explain(world.X_test).saliency for s in (seed, seed + 1))
    out = {"another seed": correlation(first, again)}
    gradients = Rivals(reference, world.X).gradients(world.X_test)
    for draw_of in range(seed, seed + 20):  # until it answers several classes: else there is nothing to explain
        other = copy.deepcopy(reference)
        with seeded(draw_of):
            for part in other.module.modules():
                if part is not other.module and hasattr(part, "reset_parameters"):
                    part.reset_parameters()
        said = np.bincount(other.predict(world.X), minlength=2)
        if np.sort(said)[-2] >= len(world.X) // 20:
            break
    out["random weights"] = correlation(first, explained(other, world, check, size, seed).explain(world.X_test).saliency)
    out["integrated gradients"] = correlation(gradients, Rivals(other, world.X).gradients(world.X_test))
    return out


def correlation(one: Any, other: Any) -> float:
    """Spearman's, mean over series."""
    pairs = zip(one.reshape(len(one), -1), other.reshape(len(other), -1), strict=True)
    return float(np.mean([stats.spearmanr(a, b).statistic for a, b in pairs]))


def changed(found: dict[str, float]) -> Claim:
    fall = found["another seed"] - abs(found["random weights"])
    return Claim(
        "Maps change when the classifier's weights are drawn anew", "rank correlation with another seed of the explainer, less "
        "that with an explainer of a classifier without training", fall, fall, fall, 1, threshold=0.2, decided_by="effect",
        details=found,
    )  # fmt: skip


# ---------------------------------------------------------------------- speed
def speed(seed: int, quick: bool) -> dict[str, float]:
    """CPU seconds for as many series, of our explanation and of rivals (measured on a part, in batches and one by one)."""
    count = 200 if quick else 1000
    world, check, reference = trained(freq_shapes(), 80 + seed, "quick")
    explainer = TimeXExplainer(reference, random_state=seed).fit(world.X, X_val=check, epochs=1)
    X = np.concatenate([world.X_test] * -(-count // len(world.X_test)))[:count]
    rivals = Rivals(reference, world.X)
    some, few = X[: count // 4], X[: count // 50]
    explainer.explain(X[:64])  # what is loaded the first time is nobody's cost
    rivals.gradients(X[:4])
    out = {
        "ours": float(np.median([seconds(lambda: explainer.explain(X)) for _ in range(5)])),
        "integrated gradients, in batches": 4 * float(np.median([seconds(lambda: rivals.gradients(some)) for _ in range(3)])),
        "integrated gradients, one by one": 50 * seconds(lambda: [rivals.gradients(X[i : i + 1]) for i in range(len(few))]),
    }
    if dynamask(rivals, few[:2]) is not None:
        out["Dynamask"] = 4 * seconds(lambda: rivals.dynamask(some))
    return out


def faster(took: dict[str, float], count: int) -> Claim:
    """The brief asks for 20 times less than integrated gradients one series after the other, and than Dynamask."""
    batched = "integrated gradients, in batches"
    least = min(value for name, value in took.items() if name not in ("ours", batched)) / took["ours"]
    return Claim(
        f"Speed: {count} series are explained faster than one by one by integrated gradients, or by Dynamask",
        "CPU time of the faster by ours", least, least, least, 1, threshold=20, decided_by="effect",
        details=took | {"over integrated gradients in batches": took[batched] / took["ours"]},
    )  # fmt: skip


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


# ---------------------------------------------------------------------- other networks, ablations
def other_networks(seed: int, quick: bool) -> Iterator[Claim]:
    size = SIZES["quick"] if quick else {"train": 1000, "test": 300, "epochs": 15}
    world, check = draw(freq_shapes(), 50 + seed, size["train"], size["test"])
    for kind in ("convolution",) if quick else ("convolution", "recurrent"):
        reference = series_reference(world.X, world.y, kind=kind, epochs=30, learning_rate=3e-3, random_state=seed)
        explainer = TimeXExplainer(reference, random_state=seed, **FAST).fit(world.X, X_val=check, epochs=size["epochs"])
        found = saliency_against_truth(explainer.explain(world.X_test).saliency, world.truth)
        accuracy = float((reference.predict(world.X_test) == world.y_test).mean())
        gradients = quality(Rivals(reference, world.X).gradients(world.X_test), world)["auprc"]
        yield bounded(
            f"FreqShapes, a {kind} network is explained", found.auprc, found.prevalence + 0.2,
            details={"accuracy": accuracy, "integrated gradients": gradients, "random": found.prevalence},
        )  # fmt: skip


def ablations(seed: int, quick: bool) -> Claim:
    """One part left out at a time, on one draw of FreqShapes; a table, no claim beyond its intervals."""
    size = SIZES["quick"] if quick else {"train": 1000, "test": 500, "classifier": 60, "epochs": 20}
    world, check = draw(freq_shapes(), 90 + seed, size["train"], size["test"])
    reference = series_reference(
        world.X, world.y, epochs=size["classifier"], learning_rate=2e-3, random_state=seed, **NETS["FreqShapes"]
    )
    ways: dict[str, dict[str, Any]] = {
        "as published": {},
        "no relations": {"variant": TimeXVariant(relations="none")},
        "no label consistency": {"lambda_lc": 0.0},
        "encoder from random weights": {"variant": TimeXVariant(encoder_start="random")},
        "soft mask": {"variant": TimeXVariant(mask="soft")},
        "generator from the classifier": {"variant": TimeXVariant(memory_start="reference")},
        "contrast instead of relations": {"variant": TimeXVariant(relations="contrast")},
        "label consistency of means": {"variant": TimeXVariant(label_pairs=False)},
    }
    table, found = {}, {}
    for name, settings in list(ways.items())[: 2 if quick else None]:
        explainer = TimeXExplainer(reference, random_state=seed, **FAST, **settings)
        explainer.fit(world.X, X_val=check, epochs=size["epochs"])
        found[name] = saliency_against_truth(explainer.explain(world.X_test).saliency, world.truth).auprc
        told_of = explainer.fidelity(world.X_test)
        table[name] = {
            "auprc": str(found[name]), "agreement": str(told_of.agreement), "head": str(told_of.head_agreement),
            "relation gap": str(told_of.relation_gap), "label gap": str(told_of.label_gap),
        }  # fmt: skip
    return bounded("Ablations on FreqShapes: as published", found["as published"], 0.0, needed=False, details=table)


# ---------------------------------------------------------------------- an electrocardiogram
def heart(kept: Kept, seed: int, quick: bool) -> Iterator[Claim]:
    try:
        world = electrocardiogram(seed, 250 if quick else None)
    except OSError as missing:
        print(f"skipped, MIT-BIH record 100: {missing}", file=sys.stderr)
        return
    run = kept(["heart", seed, STEPS], partial(heart_run, world, seed, quick))
    lower, upper = run["interval"]
    mine, less = run["maps"]["timex"]["auprc"], run["maps"]["gradients"]["auprc"]
    yield Claim(
        "MIT-BIH record 100: the mask finds the beat", "AUPRC", mine, lower, upper, 1, threshold=3 * run["prevalence"],
        decided_by="effect", details=run,
    )  # fmt: skip
    yield Claim(
        "MIT-BIH record 100: not below integrated gradients", "AUPRC less that of |IG|", mine - less, lower - less,
        upper - less, 1, threshold=-0.03, decided_by="effect",
    )  # fmt: skip


def heart_run(world: World, seed: int, quick: bool) -> dict[str, Any]:
    reference = series_reference(
        world.X, world.y, layers=1, feedforward=64, normalised=True, epochs=epochs(world, 32, quick), learning_rate=2e-3,
        batch_size=32, random_state=seed,
    )  # fmt: skip
    explainer = TimeXExplainer(reference, n_landmarks=20, learning_rate=5e-4, random_state=seed)
    explainer.fit(world.X, epochs=epochs(world, 32, quick), batch_size=32)
    planted = world.truth.any(axis=(1, 2))
    rivals = Rivals(reference, world.X)
    maps = {name: quality(getattr(rivals, name)(world.X_test), world) for name in ("gradients", "occlusion")}
    saliency = explainer.explain(world.X_test).saliency
    found = saliency_against_truth(saliency[planted], world.truth[planted])
    return {
        "maps": maps | {"timex": quality(saliency, world)}, "interval": [found.auprc.lower, found.auprc.upper],
        "accuracy": float((reference.predict(world.X_test) == world.y_test).mean()), "prevalence": found.prevalence,
        "fidelity": str(explainer.fidelity(world.X_test)),
    }  # fmt: skip


def epochs(world: World, batch: int, quick: bool) -> int:
    """As many as make the steps of a training, of which one series in ten is kept to choose the epoch on."""
    return (200 if quick else STEPS) // max(1, len(world.X) * 9 // 10 // batch)


# ---------------------------------------------------------------------- real sets
def sets(kept: Kept, seed: int, quick: bool) -> Iterator[Claim]:
    """What the classifier tells apart from the top of each map alone, the rest drawn anew."""
    table, gains = {}, {}
    for name in SETS[:1] if quick else SETS:
        try:
            world = real(name)
        except OSError as missing:
            print(f"skipped, {name}: {missing}", file=sys.stderr)
            continue
        table[name], gains[name] = kept(["real", name, seed, STEPS], partial(real_run, world, seed, quick))
    if not gains:
        return
    best = [name for name, (_, lower, _) in gains.items() if lower > 0]
    ranks = stats.rankdata([[-value["auroc"] for value in one["maps"].values()] for one in table.values()], axis=1)
    names = list(next(iter(table.values()))["maps"])
    count, rank = float(len(best)), dict(zip(names, ranks.mean(axis=0).tolist(), strict=True))
    yield Claim(
        "Real sets: keeping the top of the map beats keeping values at random",
        f"sets of {len(gains)} where the AUROC gained is above zero, paired over test series", count, count, count, 1,
        threshold=2, decided_by="effect", details={"sets": table, "gain over random": gains, "mean rank": rank},
    )  # fmt: skip


def real_run(world: World, seed: int, quick: bool) -> tuple[dict[str, Any], tuple[float, float, float]]:
    given = () if world.times_test is None else (world.times_test,)
    reference = series_reference(
        world.X, world.y, times=world.times, layers=1, feedforward=32, dropout=0.25, normalised=True,
        epochs=epochs(world, 16, quick), learning_rate=1e-3, batch_size=16, random_state=seed,
    )  # fmt: skip
    count = min(50, (len(world.X) * 9 // 10 - 1) // 3)
    explainer = TimeXExplainer(reference, n_landmarks=count, members=2, learning_rate=1e-3, random_state=seed)
    explainer.fit(world.X, world.times, epochs=epochs(world, 16, quick), batch_size=16)
    rivals = Rivals(reference, world.X, world.times_test, seed)
    maps = {"timex": explainer.explain(world.X_test, world.times_test).saliency}
    maps |= {name: getattr(rivals, name)(world.X_test) for name in ("gradients", "occlusion")}
    masks = dynamask(rivals, world.X_test)
    maps |= {} if masks is None else {"dynamask": masks}
    maps["random"] = rivals.random(world.X_test, seed)
    if world.times_test is not None:
        gone = world.times_test < -1e5
        maps = {name: np.where(gone[..., None], -np.inf, one) for name, one in maps.items()}
    baseline = NormalBaseline().fit(world.X)
    baseline.mean_, baseline.sd_ = explainer.baseline_mean_, explainer.baseline_sd_  # of the steps that are there
    P = {name: answered(reference, world.X_test, given, one, baseline, seed) for name, one in maps.items()}
    area = {name: {"auroc": float(areas(one, world.y_test).mean())} for name, one in P.items()}
    rng = np.random.default_rng(seed)
    differences = []
    while len(differences) < RESAMPLES:
        rows = rng.integers(len(world.y_test), size=len(world.y_test))
        if len(np.unique(world.y_test[rows])) == len(np.unique(world.y_test)):
            two = [areas(P[name][:, rows], world.y_test[rows]).mean() for name in ("timex", "random")]
            differences.append(two[0] - two[1])
    gain = area["timex"]["auroc"] - area["random"]["auroc"]
    accuracy = float((reference.predict(world.X_test, *given) == world.y_test).mean())
    told_of = {"maps": area, "accuracy": accuracy, "fidelity": str(explainer.fidelity(world.X_test, world.times_test))}
    return told_of, (gain, *map(float, np.quantile(differences, [0.025, 0.975])))


def answered(reference: Any, X: Any, given: Any, maps: Any, baseline: Any, seed: int) -> Any:
    """Probabilities (shares × draws, n, classes) when the top of each map stays."""
    flat = maps.reshape(len(maps), -1)
    parts = np.isfinite(flat).sum(axis=1)
    rank = np.argsort(np.argsort(-flat, axis=1, kind="stable"), axis=1)
    out = []
    for share in KEPT:
        stays = (rank < np.maximum(1, np.round(share * parts))[:, None]).reshape(X.shape)
        for rows in replaced(X, stays, baseline, draws=DRAWS, random_state=seed):
            out.append(reference.predict_proba(rows, *given))
    return np.array(out)


def areas(P: Any, y: Any) -> Any:
    """Area under the receiver operating curve of each class against the others, mean over classes; one a line of P."""
    ranks = stats.rankdata(P, axis=1)
    found = []
    for c in np.unique(y):
        mine = y == c
        m = mine.sum()
        found.append((ranks[:, mine, c].sum(axis=1) - m * (m + 1) / 2) / (m * (len(y) - m)))
    return np.mean(found, axis=0)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)
    sys.exit(main(__file__, __doc__, measure))
