"""Which coordinates of the style space move the classifier: the sweep over all of them, and the greedy choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locum.core import bounds
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.explain._fresh import contents
from locum.explain._projectedex_networks import Generator
from locum.explain._projectedex_records import StyleAttribute, StyleAttributes

if TYPE_CHECKING:
    from locum.explain._projectedex_use import Painter

__all__ = ["DOWN", "UP", "Search", "found", "moved"]

_FLOAT = NDArray[np.float64]
_EFFECTS = NDArray[np.float32]  # change of each logit: (images, coordinates, 2 directions, 2 classes)
_Progress = Callable[[int, int, str], None] | None
DOWN, UP = 0, 1
_FIRST_PASS = 32  # images
_UNSTABLE = 0.3  # effect of a coordinate that counts against an image
_FULL = 5 * 0.5  # accumulated effect from which an image asks for no further coordinate


def moved(styles: Tensor, coordinates: Sequence[int], directions: Sequence[int], shift: float, ends: Tensor) -> Tensor:
    """Styles with some coordinates moved by `shift` of their way to an end.

    Parameters
    ----------
    styles : Tensor of shape (n, styles)
    coordinates, directions : sequences of int
        Directions are `DOWN` or `UP`.
    shift : float
    ends : Tensor of shape (2, coordinates)
        The lowest and highest value of each coordinate.
    """
    out = styles.clone()
    for j, direction in zip(coordinates, directions, strict=True):
        out[:, j] += shift * (ends[direction, j] - styles[:, j])
    return out


@torch.no_grad()
def effects_of(
    generator: Generator,
    logits: Callable[[Tensor], Tensor],
    styles: Tensor,
    ends: Tensor,
    coordinates: Sequence[int],
    *,
    shift: float,
    noises: Sequence[Tensor],
    batch_size: int,
    progress: _Progress,
) -> _EFFECTS:
    """Change of each logit, by image, coordinate and direction, mean over noise maps.

    Returns
    -------
    ndarray of shape (n, coordinates, 2 directions, 2 classes)
    """

    def answers(given: Tensor) -> Tensor:
        parts = given.split(batch_size)
        each = [torch.cat([logits(generator.painted(part, noise)) for part in parts]) for noise in noises]
        return torch.stack(each).mean(dim=0)

    base = answers(styles)
    out = np.empty((len(styles), len(coordinates), 2, base.shape[1]), dtype=np.float32)
    for i, j in enumerate(coordinates):
        both = torch.cat([moved(styles, [j], [direction], shift, ends) for direction in (DOWN, UP)])
        change = answers(both).view(2, len(styles), -1) - base
        out[:, i] = change.transpose(0, 1).cpu().numpy()
        if progress is not None:
            progress(i + 1, len(coordinates), generator.places[j])
    return out


def steady_images(effects: _EFFECTS, most: int, size: float) -> NDArray[np.bool_]:
    """Images that at most `most` coordinates move by more than `size`."""
    strong = np.abs(effects).max(axis=(2, 3)) > size
    return strong.sum(axis=1) <= most


def chosen_for(effects: _EFFECTS, answered: NDArray[np.intp], c: int, top: int) -> list[tuple[int, int]]:
    """Up to `top` pairs of coordinate and direction that raise logit `c`, chosen greedily.

    Each next one has the largest mean effect on the images answered `c` whose effects so far do not yet add up to 2.5.
    """
    raising = np.maximum(effects[answered == c][..., c], 0).astype(float)  # (images, coordinates, directions)
    flat = raising.reshape(len(raising), raising.shape[1] * 2)
    done = np.zeros(len(flat))
    found = []
    for _ in range(top):
        open_ = flat[done < _FULL]
        if not len(open_):
            break
        mean = open_.mean(axis=0)
        best = int(mean.argmax())
        if mean[best] <= 0:
            break
        found.append((best // 2, best % 2))
        done += flat[:, best]
        flat[:, best] = 0
    return found


def merged(effects: _EFFECTS, lists: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[int, int, tuple[int, ...], _FLOAT]]:
    """Coordinates of both lists, once each, strongest first.

    Returns
    -------
    list of (coordinate, direction, classes, effect)
        The direction is the one in which the second logit rises; effect, one an image, is how much that way raises the second
        logit and the other way the first.
    """
    classes: dict[int, tuple[int, ...]] = {}
    for c, pairs in enumerate(lists):
        for j in {j: None for j, _ in pairs}:
            classes[j] = (*classes.get(j, ()), c)
    found = []
    for j, told in classes.items():
        each = [effects[:, j, 1 - way, 0] + effects[:, j, way, 1] for way in (DOWN, UP)]
        way = int(np.argmax([one.mean() for one in each]))
        found.append((j, way, told, each[way].astype(float)))
    if not found:
        raise InvalidData("no coordinate raises a logit of any image; train longer, or give other images")
    return sorted(found, key=lambda one: -one[3].mean())


# ---------------------------------------------------------------------- all of it
@dataclass(frozen=True)
class Search:
    """How attributes are looked for."""

    shift: float
    top: int
    noises: Sequence[Tensor]
    screen: int | None
    unstable: int
    realism: float | None
    random_state: int
    progress: _Progress


def found(painter: Painter, images: NDArray[np.float32], search: Search, pair: tuple[int, int]) -> StyleAttributes:
    """Sweep, leave unstable images out, choose for both classes, merge, and tell the effects with intervals."""
    left_out = {}
    styles = painter.styles(images)
    if search.realism is not None:
        real = painter.scores(painter.paint(styles)) >= search.realism
        left_out["scored below realism"] = int((~real).sum())
        if not real.any():
            raise InvalidData(f"no image is scored {search.realism!r} or more; give a lower realism=")
        styles = styles[torch.from_numpy(real)]
    ends = _ends(styles, painter.generator.coordinates)
    effects, measured = _swept(painter, styles, ends, search)
    steady = steady_images(effects[:, measured], search.unstable, _UNSTABLE)
    left_out["moved by too many coordinates"] = int((~steady).sum())
    effects = effects[steady]
    answered = painter.logits(painter.paint(styles)).argmax(axis=1)[steady]
    if min(np.bincount(answered, minlength=2)) < 2:
        raise InvalidData(
            f"of {len(images)} images {len(answered)} are left, and not two of each class; give more images, or a higher "
            "unstable= or lower realism="
        )
    lists = [chosen_for(effects[:, measured], answered, c, search.top) for c in (0, 1)]
    best = merged(effects, [[(int(measured[j]), direction) for j, direction in one] for one in lists])[: search.top]
    places = painter.generator.places
    attributes = [
        StyleAttribute(j, places[j], 1 if way == UP else -1, tuple(pair[c] for c in told), _effect(each, len(places), search))
        for j, way, told, each in best
    ]
    return StyleAttributes(
        tuple(attributes), pair, ends.cpu().double().numpy(), effects.mean(axis=0).astype(float), places, measured,
        len(effects), left_out, search.shift, contents(images),
    )  # fmt: skip


def _ends(styles: Tensor, coordinates: int) -> Tensor:
    return torch.stack([styles[:, :coordinates].amin(dim=0), styles[:, :coordinates].amax(dim=0)])


def _swept(painter: Painter, styles: Tensor, ends: Tensor, search: Search) -> tuple[_EFFECTS, NDArray[np.intp]]:
    """Effects of all coordinates, and which of them were measured on all images."""

    def effects(some: Tensor, coordinates: Sequence[int], noises: Sequence[Tensor]) -> _EFFECTS:
        return effects_of(
            painter.generator, painter.frozen.standardised, some, ends, coordinates, shift=search.shift, noises=noises,
            batch_size=painter.batch_size, progress=search.progress,
        )  # fmt: skip

    count = painter.generator.coordinates
    if search.screen is None or search.screen >= count:
        return effects(styles, range(count), search.noises), np.arange(count)
    first = effects(styles[:_FIRST_PASS], range(count), search.noises[:1])
    strength = np.maximum(first, 0).mean(axis=0).max(axis=(1, 2))
    chosen = np.sort(np.argsort(-strength, kind="stable")[: search.screen])
    # Those not measured again keep what the first images say of them, on average.
    out = np.broadcast_to(first.mean(axis=0), (len(styles), *first.shape[1:])).copy()
    out[:, chosen] = effects(styles, chosen.tolist(), search.noises)
    return out, chosen


def _effect(each: _FLOAT, candidates: int, search: Search) -> Fidelity:
    """Its mean, with an interval that allows for having picked it among all coordinates."""
    level = 1 - 0.05 / candidates
    ends = bounds.bootstrap_mean(each, level, random_state=search.random_state)
    return Fidelity(
        "effect", float(each.mean()), ends.lower, ends.upper, 0.95, len(each), "images that chose it", "images", ends.method,
        candidates,
    )  # fmt: skip
