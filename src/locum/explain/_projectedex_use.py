"""What a trained style explainer is used for: encode, paint, turn attributes, and measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from locum.core import bounds
from locum.core.fidelity import Fidelity
from locum.core.measures import Agreement, KLDivergence
from locum.explain import _projectedex_attributes as space
from locum.explain import _projectedex_losses as losses
from locum.explain._projectedex_records import (
    AttributeCheck,
    Frechet,
    StyleAttributes,
    StyleCounterfactuals,
    StyleFidelity,
    StyleStrips,
)
from locum.explain._projectedex_training import Frozen, Networks
from locum.explain.units import mean_fidelity

__all__ = ["Painter", "check", "counterfactuals", "measured", "share", "strips"]

_FLOAT = NDArray[np.float64]
_IMAGES = NDArray[np.float32]
_HALVINGS = 10
_FEWEST = 10  # flipped images of which a Fréchet distance is taken
_TURNS = (0.5, 1.0, 1.5, 2.0)


class Painter:
    """Trained networks with arrays going in and out, in batches and without gradients.

    Parameters
    ----------
    networks : Networks
    frozen : Frozen
    noise : Tensor
        The noise map of every image shown.
    device : torch.device
    """

    batch_size = 256

    def __init__(self, networks: Networks, frozen: Frozen, noise: Tensor, device: torch.device) -> None:
        self.networks, self.frozen, self.noise, self.device = networks, frozen, noise, device
        self.generator = networks.steady_generator

    def styles(self, images: _IMAGES, *, mirror: float = 0.0) -> Tensor:
        """Styles of the images, shape (n, styles), with the answer inside w moved by `mirror` towards the other class."""
        found = []
        with torch.no_grad():
            for batch in self._batches(images):
                code, logits = self.networks.encoder(batch, self.frozen.pyramid(batch)), self.frozen.standardised(batch)
                found.append(self.generator.styles(self.networks.w(code, logits + mirror * (logits.flip(1) - logits))))
        return torch.cat(found)

    def paint(self, styles: Tensor) -> _IMAGES:
        """Images of styles, with the noise map of all."""
        with torch.no_grad():
            parts = [self.generator.painted(part, self.noise).cpu().numpy() for part in styles.split(self.batch_size)]
        return np.concatenate(parts)

    def drawn(self, n: int, random_state: int) -> _IMAGES:
        """Images of `n` draws of noise."""
        z = np.random.default_rng(random_state).normal(size=(n, self.networks.width)).astype(np.float32)
        with torch.no_grad():
            return self.paint(self.generator.styles(self.networks.steady_mapping(torch.from_numpy(z).to(self.device))))

    def logits(self, images: _IMAGES) -> _FLOAT:
        return self._read(self.frozen.logits, images)

    def standardised(self, images: _IMAGES) -> _FLOAT:
        return self._read(self.frozen.standardised, images)

    def probabilities(self, images: _IMAGES) -> _FLOAT:
        return self._read(lambda batch: self.frozen.logits(batch).softmax(dim=1), images)

    def features(self, images: _IMAGES) -> _FLOAT:
        """Means over places of the last frozen maps, shape (n, channels)."""
        return self._read(lambda batch: self.frozen.pyramid(batch)[-1].mean(dim=(2, 3)), images)

    def scores(self, images: _IMAGES) -> _FLOAT:
        """Of the discriminator, shape (n,)."""
        judge = self.networks.discriminator
        return self._read(lambda batch: judge(batch, self.frozen.pyramid(batch)).mean(dim=1), images)

    def apart(self, images: _IMAGES, others: _IMAGES) -> tuple[_FLOAT, _FLOAT]:
        """Differences of pixels and of features, each of shape (n,)."""
        return self.compared(images, others)[:2]

    def compared(self, images: _IMAGES, others: _IMAGES) -> tuple[_FLOAT, _FLOAT, _FLOAT, _FLOAT]:
        """Differences of pixels and of features, and the pooled features of both, in one pass over the frozen maps."""
        pixel = np.abs(images.astype(float) - others).mean(axis=(1, 2, 3))
        found: list[list[_FLOAT]] = [[], [], []]
        with torch.no_grad():
            for one, other in zip(self._batches(images), self._batches(others), strict=True):
                maps = self.frozen.pyramid(one), self.frozen.pyramid(other)
                told = losses.perceptual_distance(*maps), *(both[-1].mean(dim=(2, 3)) for both in maps)
                for part, values in zip(found, told, strict=True):
                    part.append(values.cpu().double().numpy())
        perceptual, pooled, others_pooled = (np.concatenate(part) for part in found)
        return pixel, perceptual, pooled, others_pooled

    def ends(self, attributes: StyleAttributes) -> Tensor:
        return torch.as_tensor(attributes.ends, dtype=torch.float32, device=self.device)

    def _read(self, function: Callable[[Tensor], Tensor], images: _IMAGES) -> _FLOAT:
        with torch.no_grad():
            return np.concatenate([function(batch).cpu().double().numpy() for batch in self._batches(images)])

    def _batches(self, images: _IMAGES) -> Iterator[Tensor]:
        for start in range(0, len(images), self.batch_size):
            yield torch.from_numpy(np.ascontiguousarray(images[start : start + self.batch_size])).to(self.device)


# ---------------------------------------------------------------------- strips and counterfactuals
def _turned(painter: Painter, styles: Tensor, attributes: StyleAttributes, which: Sequence[int], shift: float) -> Tensor:
    """Styles with some attributes turned towards the second class, or with a shift below 0 towards the first."""
    chosen = [attributes.attributes[i] for i in which]
    up = [(one.direction > 0) == (shift >= 0) for one in chosen]
    directions = [space.UP if one else space.DOWN for one in up]
    return space.moved(styles, [one.coordinate for one in chosen], directions, abs(shift), painter.ends(attributes))


def strips(painter: Painter, images: _IMAGES, attributes: StyleAttributes, shifts: Sequence[float]) -> StyleStrips:
    """Each attribute turned alone."""
    styles = painter.styles(images)
    again = painter.paint(styles)
    shape = (len(images), len(attributes), len(shifts))
    made, told = np.empty((*shape, *images.shape[1:]), dtype=np.float32), np.empty(shape)
    for i in range(len(attributes)):
        for k, shift in enumerate(shifts):
            made[:, i, k] = painter.paint(_turned(painter, styles, attributes, [i], shift))
            told[:, i, k] = painter.probabilities(made[:, i, k])[:, 1]
    columns = [one.coordinate for one in attributes]
    low, high = attributes.ends[:, columns]
    here = styles[:, columns].cpu().double().numpy()
    up = np.array([one.direction > 0 for one in attributes])
    room = np.where(up, high - here, here - low) / np.maximum(high - low, 1e-12)
    before = np.column_stack([painter.probabilities(one)[:, 1] for one in (images, again)])
    return StyleStrips(images, again, made, told, before, room, tuple(map(float, shifts)), attributes)


def counterfactuals(
    painter: Painter, images: _IMAGES, attributes: StyleAttributes, second: bool, target: int, most: int,
    judge: Callable[[_IMAGES], NDArray[np.intp]] | None,
) -> StyleCounterfactuals:  # fmt: skip
    """Turn one attribute, then two, ... each time further, until the classifier answers the target."""
    goal = int(second)
    styles = painter.styles(images)
    again = painter.paint(styles)
    before = painter.probabilities(again)[:, goal]
    asked = (painter.logits(images).argmax(axis=1) != goal) & (painter.logits(again).argmax(axis=1) != goal)
    made, after = again.copy(), before.copy()
    used, shifts = np.zeros(len(images), dtype=np.intp), np.zeros(len(images))
    flipped = np.zeros(len(images), dtype=bool)
    for count in range(1, min(most, len(attributes)) + 1):
        for turn in _TURNS:
            rows = np.flatnonzero(asked & ~flipped)
            if not len(rows):
                break
            given = _turned(painter, styles[torch.from_numpy(rows)], attributes, range(count), turn if second else -turn)
            made[rows] = painter.paint(given)
            after[rows], used[rows], shifts[rows] = painter.probabilities(made[rows])[:, goal], count, turn
            flipped[rows] = painter.logits(made[rows]).argmax(axis=1) == goal
    pixel, perceptual = painter.apart(again, made)
    rate = share("images that flip", flipped[asked])
    judged = None
    if judge is not None and flipped.any():
        other = judge(again[flipped]) != goal
        judged = share("flips that an independent classifier follows", judge(made[flipped])[other] == goal)
    return StyleCounterfactuals(
        images, again, made, target, asked, flipped, used, shifts, before, after, pixel, perceptual, rate, judged
    )


def share(measure: str, values: NDArray[np.bool_] | _FLOAT, random_state: int = 0) -> Fidelity | None:
    """A proportion with its exact interval, or the mean of shares in [0, 1]; None for fewer than two."""
    if len(values) < 2:
        return None
    found = np.asarray(values, dtype=float)
    ends = bounds.bounded_mean(found, random_state=random_state).including(float(found.mean()))
    return Fidelity(
        measure, float(found.mean()), ends.lower, ends.upper, 0.95, len(found), "images given", "images", ends.method
    )


# ---------------------------------------------------------------------- attributes on fresh images
def check(
    painter: Painter, images: _IMAGES, attributes: StyleAttributes, shift: float, shifts: Sequence[float], draws: int,
    judge: Callable[[_IMAGES], NDArray[np.intp]] | None, random_state: int,
) -> AttributeCheck:  # fmt: skip
    """Turn attributes, and as many coordinates at random, on images that chose none of them."""
    styles = painter.styles(images)
    again = painter.paint(styles)
    was = painter.logits(again).argmax(axis=1)

    def against(chosen: StyleAttributes) -> _IMAGES:
        """All at once, each image away from its class."""
        out = again.copy()
        for c in (0, 1):
            rows = np.flatnonzero(was == c)
            if len(rows):
                way = shift if c == 0 else -shift
                out[rows] = painter.paint(_turned(painter, styles[torch.from_numpy(rows)], chosen, range(len(chosen)), way))
        return out

    def flips(made: _IMAGES) -> NDArray[np.bool_]:
        return painter.logits(made).argmax(axis=1) != was

    made = against(attributes)
    flipped = flips(made)
    others = [flips(against(attributes.random(random_state=random_state + i))) for i in range(draws)]
    margins = np.empty((len(attributes), len(shifts)))
    base = painter.standardised(again)
    for i in range(len(attributes)):
        for k, one in enumerate(shifts):
            change = painter.standardised(painter.paint(_turned(painter, styles, attributes, [i], one))) - base
            margins[i, k] = (change[:, 1] - change[:, 0]).mean()
    trivial = flips(painter.paint(painter.styles(images, mirror=1.0))) if painter.networks.classes else None
    pixel, perceptual = painter.apart(again[flipped], made[flipped]) if flipped.any() else (np.array([math.nan]),) * 2
    judged = None
    if judge is not None and flipped.any():
        judged = share("flips that an independent classifier follows", judge(made[flipped]) != judge(again[flipped]))
    return AttributeCheck(
        _certain(f"images that flip at shift {shift:g}", flipped),
        _certain(f"images that flip at shift {shift:g}, coordinates at random", np.mean(others, axis=0)),
        None if trivial is None else share("images that flip with the answer in w", trivial),
        margins, tuple(map(float, shifts)), float(pixel.mean()), float(perceptual.mean()),
        _realism(painter, images, again[flipped], made[flipped]), judged,
    )  # fmt: skip


def _certain(measure: str, values: NDArray[np.bool_] | _FLOAT) -> Fidelity:
    found = share(measure, values)
    assert found is not None, "two images or more were asked for"
    return found


def _realism(painter: Painter, images: _IMAGES, before: _IMAGES, after: _IMAGES) -> tuple[float, float] | None:
    if len(after) < _FEWEST:
        return None
    real = painter.features(images)
    return frechet(painter.features(after), real), frechet(painter.features(before), real)


# ---------------------------------------------------------------------- fidelity
def measured(painter: Painter, images: _IMAGES, again: _IMAGES, random_state: int) -> StyleFidelity:
    """Agreement, divergence, likeness and Fréchet distance of what came back."""
    truth, said = painter.probabilities(images), painter.probabilities(again)
    where: dict[str, Any] = {"region": "images given", "how": "fresh images", "random_state": random_state}
    pixel, perceptual, real, made = painter.compared(images, again)
    return StyleFidelity(
        Agreement().fidelity(truth.argmax(axis=1), said.argmax(axis=1), **where),
        KLDivergence().fidelity(truth, said, **where),
        mean_fidelity("difference of pixels", pixel, random_state=random_state, greater_is_better=False),
        mean_fidelity("perceptual distance", perceptual, random_state=random_state, greater_is_better=False),
        halved(made, real, random_state),
    )


def halved(made: _FLOAT, real: _FLOAT, random_state: int) -> Frechet:
    """Fréchet distances between random halves of equal size."""
    rng, half = np.random.default_rng(random_state), len(real) // 2
    values, floors = [], []
    for _ in range(_HALVINGS):
        order = rng.permutation(len(real))
        one, other = order[:half], order[half : 2 * half]
        values.append(frechet(made[one], real[other]))
        floors.append(frechet(real[one], real[other]))
    return Frechet(float(np.mean(values)), float(np.mean(floors)), min(values), max(values), half, _HALVINGS)


def frechet(a: _FLOAT, b: _FLOAT) -> float:
    """Squared distance of two normal distributions that have the means and covariances of the rows."""
    one, other = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = linalg.eigh(one)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    shared = np.sqrt(np.clip(linalg.eigvalsh(root @ other @ root), 0, None)).sum()
    gap = a.mean(axis=0) - b.mean(axis=0)
    return float(max(0.0, gap @ gap + np.trace(one) + np.trace(other) - 2 * shared))
