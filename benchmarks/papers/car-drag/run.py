"""Is drag read from depth and normal pictures of cars, do both together beat either, and does the bound hold?

Cars are those of DrivAerNet: drag by its flow solver, from its table; shapes are sketches drawn from its parameters, since its
meshes are not to be had here. What a regression on the parameters themselves reaches is a ceiling for any reading of pictures,
and is told beside it, with silhouettes, lengths and areas, and a linear model on pixels. The sketches are the same on both
sides, so that mirror images add nothing and are not used. Then airfoils, real outlines with the drag of NeuralFoil, itself a
surrogate. Drag of meshes of our own by a flow solver (OpenFOAM) could not be measured: there is no solver on the machine.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
import foils
import pictures
from claims import Claim, Kept, main, over
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from locum.core.bounds import binomial
from locum.core.errors import OutsideRegion
from locum.core.measures.values import R2
from locum.datasets import DrivAerNet, load_drivaernet
from locum.emulate import RenderingRegressor, render_views
from locum.problems import cars

SIZE, LEVEL = 48, 0.9
KINDS = {"depth": slice(0, 1), "normal": slice(1, 4), "silhouette": slice(4, 5)}
TOGETHER = "depth and normals"


# ---------------------------------------------------------------------- parts of the data
def parts(data: DrivAerNet, quick: bool) -> dict[str, np.ndarray]:
    """Rows to learn from, to stop by, to calibrate on, and to test on."""
    rng = np.random.default_rng(0)
    train, val, test = (rng.permutation(data.rows_of(part)) for part in ("train", "val", "test"))
    if quick:
        train, val, test = train[:360], val[:120], test[:120]
    return {"train": train, "stop": val[::2], "calibrate": val[1::2], "test": test}


def by_parent(data: DrivAerNet, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same rows split anew, so that no near duplicates are on two sides."""
    rows = np.concatenate(list(like.values()))
    parents = data.parents()[rows]
    out, left = {}, np.arange(len(rows))
    for name in ("test", "calibrate", "stop"):
        split = GroupShuffleSplit(1, test_size=len(like[name]) / len(left), random_state=0)
        keep, take = next(split.split(left, groups=parents[left]))
        out[name], left = rows[left[take]], left[keep]
    return {"train": rows[left], **out}


def by_body(data: DrivAerNet, like: dict[str, np.ndarray], body: str) -> dict[str, np.ndarray]:
    """Learned and calibrated without a body; test rows are those of the body."""
    out = {name: rows[data.bodies[rows] != body] for name, rows in like.items()}
    return {**out, "known": out["test"], "test": like["test"][data.bodies[like["test"]] == body]}


# ---------------------------------------------------------------------- networks
def network(
    images: np.ndarray, drag: np.ndarray, rows: dict[str, np.ndarray], at: np.ndarray, settings: dict[str, Any]
) -> dict[str, Any]:
    """What each branch and all together say on the rows held out, and where their bound is."""
    channels = ("silhouette",) if settings["branches"] == ["silhouette"] else ("depth", "normal")
    seen = images[:, :, KINDS["silhouette"] if channels == ("silhouette",) else slice(0, 4)]
    model = RenderingRegressor(**{**settings, "branches": tuple(settings["branches"])}, channels=channels, mirror=False)
    model.fit(seen[at[rows["train"]]], drag[rows["train"]], eval_set=(seen[at[rows["stop"]]], drag[rows["stop"]]))
    model.calibrate(seen[at[rows["calibrate"]]], drag[rows["calibrate"]])
    out: dict[str, Any] = {"epochs": {name: history.best_epoch for name, history in model.histories_.items()}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideRegion)  # how many are outside is told below
        for part in [name for name in ("test", "known") if name in rows]:
            some = seen[at[rows[part]]]
            out[part] = {name: model.predict(some, branch=name).tolist() for name in model.histories_}
            out["half"] = model.predict(some, return_bound=LEVEL)[1]
            out[f"outside {part}"] = float(np.mean(~model.region_.inside(some)))
    if len(settings["branches"]) > 1 and "known" not in rows:
        found = [model.attribute(seen[at[i]]) for i in rows["test"][:5]]
        out["gap"] = max(abs(one.gap) for one in found) / model.scale_
        out["views"] = {view: float(np.mean([abs(one.by_view[view]) for one in found])) for view in model.views}
        out["slopes"] = slopes(model)
    return out


def slopes(model: RenderingRegressor) -> dict[str, float]:
    """Change of the predicted drag over half the range of each parameter, in the middle of all."""
    middle = {name: 0.5 * (low + high) for name, (low, high) in cars.PARAMETERS.items()}
    steps = {name: 0.25 * (high - low) for name, (low, high) in cars.PARAMETERS.items()}

    def draw(at: dict[str, float]) -> np.ndarray:
        return np.round(255 * render_views(cars.car_from_parameters(at), size=SIZE)).astype(np.uint8)

    found = model.slopes(draw, middle, steps)
    return {name: 2 * steps[name] * slope for name, slope in found.items()}


def r2(truth: np.ndarray, said: Any) -> float:
    return float(1 - np.mean((truth - np.asarray(said)) ** 2) / np.var(truth))


def within(truth: np.ndarray, said: Any, classes: np.ndarray) -> float:
    """R² against the means of the classes."""
    codes = np.unique(classes, return_inverse=True)[1]
    means = (np.bincount(codes, truth) / np.bincount(codes))[codes]
    return float(1 - np.mean((truth - np.asarray(said)) ** 2) / np.mean((truth - means) ** 2))


# ---------------------------------------------------------------------- rivals
def table(data: DrivAerNet) -> np.ndarray:
    """Parameters and kinds, standardised."""
    kinds = (data.kinds[:, None] == np.unique(data.kinds)).astype(float)
    return np.hstack([StandardScaler().fit_transform(data.parameters), kinds])


def rivals(
    data: DrivAerNet, images: np.ndarray, measures: np.ndarray, at: np.ndarray, rows: dict[str, np.ndarray]
) -> dict[str, float]:
    """R² on the test rows of what is cheaper; alphas are chosen on the rows learned from."""
    learn, test = np.concatenate([rows["train"], rows["stop"]]), rows["test"]
    columns, y = table(data), data.drag

    def ridge(*steps: Any) -> Any:
        return make_pipeline(*steps, StandardScaler(), RidgeCV(np.logspace(-2, 5, 15)))

    def score(model: Any, features: np.ndarray, where: Any) -> float:
        return r2(y[test], model.fit(features[where(learn)], y[learn]).predict(features[where(test)]))

    def same(i: np.ndarray) -> np.ndarray:
        return i

    boosting = partial(HistGradientBoostingRegressor, random_state=0, max_iter=300, learning_rate=0.05, max_leaf_nodes=12)
    kinds = columns[:, len(data.columns) :]
    out = {
        "mean": r2(y[test], np.full(len(test), y[learn].mean())),
        "class": score(LinearRegression(), kinds, same),
        "parameters, linear": score(LinearRegression(), columns, same),
        "parameters, quadratic ridge": score(ridge(PolynomialFeatures(2, include_bias=False)), columns, same),
        "parameters, boosting": score(boosting(), columns, same),
        "lengths and areas, ridge": score(ridge(), measures, lambda i: at[i]),
        "lengths and areas, boosting": score(boosting(), measures, lambda i: at[i]),
    }
    for name, place in {**KINDS, TOGETHER: slice(0, 4)}.items():
        flat = images[:, :, place].reshape(len(images), -1)
        flat = flat[:, flat[at[learn]].std(axis=0) > 2].astype(np.float32)
        pixels = ridge(PCA(min(150, len(learn) // 3), svd_solver="randomized", iterated_power=2, random_state=0))
        out[f"pixels of {name}, ridge"] = score(pixels, flat, lambda i: at[i])
    return out


# ---------------------------------------------------------------------- cars
def drag_of_cars(quick: bool, seeds: range, device: str, kept: Kept) -> Iterator[Claim]:
    data = load_drivaernet()
    rows = parts(data, quick)
    used = np.sort(np.concatenate(list(rows.values())))
    at = np.full(len(data), -1)
    at[used] = np.arange(len(used))
    images, measures = pictures.of_cars(data, used, SIZE)
    settings = {"epochs": 8 if quick else 12, "joined_epochs": 3 if quick else 5, "patience": 5, "lr": 3e-3, "device": device}

    def cell(split: str, some: dict[str, np.ndarray], branches: list[str], seed: int, **more: Any) -> dict[str, Any]:
        chosen = {**settings, "branches": branches, "random_state": seed, **more}
        return kept([split, chosen], lambda: network(images, data.drag, some, at, chosen))

    found = [cell("official", rows, ["depth", "normal"], seed) for seed in seeds]
    flat = [cell("official", rows, ["silhouette"], seed) for seed in seeds]
    cheap = kept(["rivals"], lambda: rivals(data, images, measures, at, rows))
    yield from accuracy(data, rows["test"], found, flat, cheap, quick)
    yield from trust(data, rows["test"], found, quick)
    yield from reading(data, rows, found)
    if not quick:
        plain = [cell("official", rows, ["normal"], seed, backbone="resnext-tiny") for seed in seeds]
        truth = data.drag[rows["test"]]
        attentive, other = ([r2(truth, one["test"]["normal"]) for one in some] for some in (found, plain))
        yield over("attention helps, normals alone", "R2 with attention less without",
                   list(np.array(attentive) - other), needed=False)  # fmt: skip
    others = by_parent(data, rows)
    alone = cell("parents", others, ["depth", "normal"], seeds[0])
    far = kept(["rivals", "parents"], lambda: rivals(data, images, measures, at, others))
    yield parents(data, rows["test"], others["test"], alone, found[0], far)
    unlike = by_body(data, rows, "N")
    yield new_body(data, unlike, cell("body N", unlike, ["depth", "normal"], seeds[0]), quick)


def accuracy(
    data: DrivAerNet, test: np.ndarray, found: list[dict], flat: list[dict], cheap: dict[str, float], quick: bool
) -> Iterator[Claim]:
    truth, classes = data.drag[test], data.kinds[test]
    scores = {name: [r2(truth, one["test"][name]) for one in found] for name in ("joined", "depth", "normal")}
    silhouettes = [r2(truth, one["test"]["silhouette"]) for one in flat]
    own = {name: [within(truth, one["test"][name], classes) for one in found] for name in scores}
    ceiling = 1 - float(np.mean(data.drag_spread[test] ** 2) / truth.var())
    yield over("drag of unseen cars from depth and normals together", "R2 on the official test cars", scores["joined"],
               threshold=0.4 if quick else 0.8, decided_by="effect",
               details={"R2": {**scores, "silhouettes": silhouettes}, "R2 within classes": own, "rivals": cheap,
                        "mean absolute error": [float(np.abs(truth - one["test"]["joined"]).mean()) for one in found],
                        "R2 that the spread within a simulation allows": ceiling,
                        "best epochs": [one["epochs"] for one in found], "test cars": len(test)})  # fmt: skip
    best = np.maximum(scores["depth"], scores["normal"])
    yield over("together as good as the better branch alone", "R2 together less that of the better branch",
               list(np.array(scores["joined"]) - best), threshold=-0.01, needed=not quick)  # fmt: skip
    least = np.min([scores[name] for name in scores], axis=0) - np.array(silhouettes)
    yield over("every image model beats silhouettes", "R2 of the worst less that of silhouettes", list(least), threshold=0.03,
               needed=not quick)  # fmt: skip
    yield over("within classes", "R2 against the means of the seven kinds", own["joined"], decided_by="effect", needed=False)
    for rival in ("parameters, boosting", "parameters, linear", f"pixels of {TOGETHER}, ridge", "lengths and areas, boosting"):
        yield over(f"against {rival}", "R2 together less that of the rival", [one - cheap[rival] for one in scores["joined"]],
                   needed=False)  # fmt: skip
    yield Claim("the parameters themselves, by boosting", "R2 on the official test cars", cheap["parameters, boosting"],
                cheap["parameters, boosting"], cheap["parameters, boosting"], 1, threshold=0.88, decided_by="effect",
                needed=False)  # fmt: skip


def trust(data: DrivAerNet, test: np.ndarray, found: list[dict], quick: bool) -> Iterator[Claim]:
    truth, bodies = data.drag[test], data.bodies[test]
    inside = [np.abs(truth - one["test"]["joined"]) <= one["half"] for one in found]
    by_class = {body: [float(one[bodies == body].mean()) for one in inside] for body in np.unique(bodies)}
    off = [abs(float(one.mean()) - LEVEL) for one in inside]
    yield over("the 90 % bound holds on unseen cars", "coverage, how far from 0.9", off, direction="less", threshold=0.03,
               decided_by="effect", needed=not quick,
               details={"coverage": [float(one.mean()) for one in inside], "by body": by_class,
                        "half width": [one["half"] for one in found]})  # fmt: skip


def reading(data: DrivAerNet, rows: dict[str, np.ndarray], found: list[dict]) -> Iterator[Claim]:
    yield over("attributions add up", "largest gap in standard deviations of drag, five cars", [one["gap"] for one in found],
               direction="less", threshold=0.011, decided_by="effect",
               details={"views": [one["views"] for one in found]})  # fmt: skip
    learn = rows["train"]
    linear = LinearRegression().fit(table(data)[learn], data.drag[learn]).coef_[: len(data.columns)]
    wanted = linear / data.parameters.std(axis=0) * [0.5 * (high - low) for low, high in cars.PARAMETERS.values()]
    same = [float(np.corrcoef(wanted, [one["slopes"][name] for name in data.columns])[0, 1]) for one in found]
    yield over("slopes along parameters are those of the table", "correlation with the coefficients of a linear model", same,
               needed=False, details={"slopes": [one["slopes"] for one in found],
                                      "linear": dict(zip(data.columns, wanted.tolist(), strict=True))})  # fmt: skip


def parents(
    data: DrivAerNet, official: np.ndarray, test: np.ndarray, apart: dict, found: dict, cheap: dict[str, float]
) -> Claim:
    """R² where designs of one parent are on one side, beside that of the official split with the same seed."""
    here = R2().fidelity(data.drag[test], apart["test"]["joined"], groups=data.parents()[test])
    there = r2(data.drag[official], found["test"]["joined"])
    return Claim("no near duplicates on both sides", "R2 together, split by parent", here.value, here.lower, here.upper, 1,
                 decided_by="effect", needed=False,
                 details={"official split, same seed": there, "rivals": cheap,
                          "parents": len(np.unique(data.parents()))})  # fmt: skip


def new_body(data: DrivAerNet, rows: dict[str, np.ndarray], told: dict, quick: bool) -> Claim:
    """Learned from estates and fastbacks, asked about notchbacks: less is covered than was promised."""
    shares, scores = {}, {}
    for part in ("known", "test"):
        inside = np.abs(data.drag[rows[part]] - told[part]["joined"]) <= told["half"]
        scores[part] = r2(data.drag[rows[part]], told[part]["joined"])
        shares[part] = binomial(int(inside.sum()), len(inside)), float(inside.mean()), told[f"outside {part}"]
    ends, share, outside = shares["test"]
    return Claim("a body that was never seen loses coverage, and is flagged", "0.9 less the coverage of notchbacks",
                 LEVEL - share, LEVEL - ends.upper, LEVEL - ends.lower, 1, needed=not quick,
                 details={"coverage": {"known bodies": shares["known"][1], "notchbacks": share},
                          "outside the region": {"known bodies": shares["known"][2], "notchbacks": outside},
                          "R2": {"known bodies": scores["known"], "notchbacks": scores["test"]}})  # fmt: skip


# ---------------------------------------------------------------------- airfoils
def drag_of_foils(quick: bool, seeds: range, device: str, kept: Kept) -> Iterator[Claim]:
    images, drag, family, features = foils.load(300 if quick else None, SIZE, 0)
    y = np.log10(drag)
    epochs = {"epochs": 6, "joined_epochs": 2} if quick else {"epochs": 40, "joined_epochs": 10, "patience": 12}
    scores, cheap = [], []
    for seed in seeds:
        learn, test = next(GroupShuffleSplit(1, test_size=0.2, random_state=seed).split(y, groups=family))

        def work(learn: np.ndarray = learn, test: np.ndarray = test, seed: int = seed) -> dict[str, Any]:
            model = RenderingRegressor(views=foils.VIEWS, lr=3e-3, mirror=False, device=device, random_state=seed, **epochs)
            model.fit(images[learn], y[learn], groups=family[learn])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", OutsideRegion)
                return {name: model.predict(images[test], branch=name).tolist() for name in model.histories_}

        said = kept(["foils", epochs, device, seed], work)
        told = {name: np.array(one) for name, one in said.items()}
        scores.append({name: {"drag": r2(drag[test], 10**one), "log": r2(y[test], one)} for name, one in told.items()})
        boosting = HistGradientBoostingRegressor(random_state=0).fit(features[learn], y[learn]).predict(features[test])
        cheap.append({"drag": r2(drag[test], 10**boosting), "log": r2(y[test], boosting)})
    yield over("drag of airfoils of families that were never seen", "R2 of drag, together",
               [one["joined"]["drag"] for one in scores], threshold=0.9, decided_by="effect", needed=not quick,
               details={"R2": scores, "thickness and camber, boosting": cheap, "airfoils": len(y),
                        "families": len(np.unique(family)), "labels": "NeuralFoil, itself a surrogate of XFOIL"})  # fmt: skip
    yield over("airfoils against thickness and camber", "R2 of the logarithm of drag, together less boosting",
               [one["joined"]["log"] - two["log"] for one, two in zip(scores, cheap, strict=True)], needed=False)  # fmt: skip


def measure(quick: bool, seed: int, device: str) -> Iterator[Claim]:
    kept = Kept("car-drag", quick, settings=[SIZE, 1])
    seeds = range(seed, seed + (2 if quick else 3))
    yield from drag_of_cars(quick, seeds, device, kept)
    yield from drag_of_foils(quick, seeds, device, kept)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
