"""What the style explainer tells: attributes, strips, counterfactuals, and how faithful all of it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole
from locum.core.fidelity import Fidelity

__all__ = [
    "AttributeCheck",
    "Frechet",
    "StyleAttribute",
    "StyleAttributes",
    "StyleCounterfactuals",
    "StyleFidelity",
    "StyleStrips",
]

_FLOAT = NDArray[np.float64]
_IMAGES = NDArray[np.float32]


@dataclass(frozen=True)
class StyleAttribute:
    """One coordinate of the style space that moves the classifier.

    Attributes
    ----------
    coordinate : int
    place : str
        Where in the generator it acts.
    direction : int
        1 where the second class rises as the coordinate does, -1 where it rises as the coordinate falls.
    classes : tuple of int
        For which of the pair it was chosen; empty for one drawn at random.
    effect : Fidelity or None
        Rise of the second logit that way and of the first logit the other way, in standard deviations of each, mean over the
        images that chose it; its interval allows for all coordinates tried.
    """

    coordinate: int
    place: str
    direction: int
    classes: tuple[int, ...]
    effect: Fidelity | None

    def __str__(self) -> str:
        way = "up" if self.direction > 0 else "down"
        return f"{self.place}, {way}: {self.effect if self.effect is not None else 'drawn at random'}"


@dataclass(frozen=True, eq=False)
class StyleAttributes:
    """The coordinates that move the classifier most, strongest first.

    Attributes
    ----------
    attributes : tuple of StyleAttribute
    pair : tuple of int
        The two classes, by their logits.
    ends : ndarray of shape (2, coordinates)
        Lowest and highest value of each coordinate over the images.
    effects : ndarray of shape (coordinates, 2, 2)
        Mean change of each standardised logit (last axis) as a coordinate moves down and up.
    places : tuple of str
        Of all coordinates.
    measured : ndarray of int
        Coordinates whose effects were measured on all images; the others on those of the first pass alone.
    n : int
        Images that chose them.
    left_out : dict of str to int
        Images that did not take part, by reason.
    shift : float
    images : frozenset of int, default=frozenset()
        Digests of the images that chose them.
    """

    attributes: tuple[StyleAttribute, ...]
    pair: tuple[int, int]
    ends: _FLOAT
    effects: _FLOAT
    places: tuple[str, ...]
    measured: NDArray[np.intp]
    n: int
    left_out: Mapping[str, int]
    shift: float
    images: frozenset[int] = field(default=frozenset(), repr=False)

    def __len__(self) -> int:
        return len(self.attributes)

    def __iter__(self) -> Iterator[StyleAttribute]:
        return iter(self.attributes)

    def random(self, k: int | None = None, *, random_state: int = 0) -> StyleAttributes:
        """As many coordinates drawn at random, none of them chosen here, each in its own better direction.

        Parameters
        ----------
        k : int or None, default=None
            How many; as many as there are here where None.
        random_state : int, default=0
        """
        k = len(self) if k is None else k
        taken = {one.coordinate for one in self}
        free = np.array([j for j in range(len(self.places)) if j not in taken])
        require_whole(1, k=k)
        if k > len(free):
            raise InvalidData(f"expected k= of {len(free)} or fewer coordinates that are not among these, got {k}")
        margin = self.effects[..., 1] - self.effects[..., 0]
        drawn = np.random.default_rng(random_state).choice(free, k, replace=False)
        found = tuple(
            StyleAttribute(int(j), self.places[j], 1 if margin[j, 1] >= margin[j, 0] else -1, (), None) for j in drawn
        )
        return replace(self, attributes=found)

    def text(self) -> str:
        """One attribute a line."""
        head = f"{len(self)} of {len(self.places)} coordinates, chosen on {self.n} images; up raises class {self.pair[1]}"
        without = "".join(f"; {count} left out, {why}" for why, count in self.left_out.items() if count)
        return "\n".join([head + without, *(f"{i}. {one}" for i, one in enumerate(self, 1))])

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True, eq=False)
class StyleStrips:
    """Images as each attribute is turned, and what the classifier says.

    Attributes
    ----------
    originals, reconstructions : ndarray of shape (n, channels, S, S)
    images : ndarray of shape (n, attributes, shifts, channels, S, S)
    probabilities : ndarray of shape (n, attributes, shifts)
        Of the second class of the pair.
    before : ndarray of shape (n, 2)
        Its probability for originals and for reconstructions.
    room : ndarray of shape (n, attributes)
        How far each coordinate is from the end where the second class rises, as a share of its range.
    shifts : tuple of float
        Above 0 towards the second class.
    attributes : StyleAttributes
    """

    originals: _IMAGES
    reconstructions: _IMAGES
    images: _IMAGES
    probabilities: _FLOAT
    before: _FLOAT
    room: _FLOAT
    shifts: tuple[float, ...]
    attributes: StyleAttributes

    def order(self, attribute: int = 0) -> NDArray[np.intp]:
        """Images by how much room an attribute has in them, most first.

        Parameters
        ----------
        attribute : int, default=0
            Its place in the list.
        """
        if not 0 <= attribute < self.room.shape[1]:
            raise InvalidData(f"expected an attribute from 0 to {self.room.shape[1] - 1}, got {attribute!r}")
        return np.argsort(-self.room[:, attribute], kind="stable")

    def __str__(self) -> str:
        mean = self.probabilities.mean(axis=0)
        lines = [f"probability of class {self.attributes.pair[1]}, mean of {len(self.images)} images, by shift"]
        for one, row in zip(self.attributes, mean, strict=True):
            lines.append(f"{one.place}: " + ", ".join(f"{s:+g}: {p:.3f}" for s, p in zip(self.shifts, row, strict=True)))
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class StyleCounterfactuals:
    """Images changed by a few attributes at once until the classifier answers the target.

    Attributes
    ----------
    originals, reconstructions, images : ndarray of shape (n, channels, S, S)
        Those that never flipped are as far as they got.
    target : int
    asked : ndarray of bool, shape (n,)
        Images that are not answered the target to begin with, neither the original nor its reconstruction.
    flipped : ndarray of bool, shape (n,)
        Of those asked.
    used : ndarray of int, shape (n,)
        Attributes turned.
    shifts : ndarray of shape (n,)
        How far they were turned.
    before, after : ndarray of shape (n,)
        Probability of the target, of reconstruction and changed image.
    pixel, perceptual : ndarray of shape (n,)
        Change from the reconstruction: mean absolute difference of pixels, and distance of frozen features.
    rate : Fidelity or None
        Share of those asked that flipped; None for fewer than two.
    judged : Fidelity or None
        Of those that flipped and that the independent classifier did not call the target before, the share it does call that
        after; None without one, or for fewer than two.
    """

    originals: _IMAGES
    reconstructions: _IMAGES
    images: _IMAGES
    target: int
    asked: NDArray[np.bool_]
    flipped: NDArray[np.bool_]
    used: NDArray[np.intp]
    shifts: _FLOAT
    before: _FLOAT
    after: _FLOAT
    pixel: _FLOAT
    perceptual: _FLOAT
    rate: Fidelity | None
    judged: Fidelity | None

    def __str__(self) -> str:
        lines = [f"to class {self.target}: {int(self.flipped.sum())} of {int(self.asked.sum())} images flipped"]
        lines += [] if self.rate is None else [str(self.rate)]
        if self.flipped.any():
            where = self.flipped
            lines.append(
                f"at the flip: {self.used[where].mean():.2f} attributes, pixels changed by {self.pixel[where].mean():.4f}, "
                f"features by {self.perceptual[where].mean():.4f}"
            )
        return "\n".join([*lines, *([] if self.judged is None else [str(self.judged)])])


@dataclass(frozen=True)
class Frechet:
    """Fréchet distance between features of two sets of images, beside that between two sets of real ones.

    Attributes
    ----------
    value : float
        Mean over random halvings of the images: made from one half, real of the other.
    floor : float
        The same with real images in both halves: what finite samples alone give.
    lowest, highest : float
        Of `value`, over the halvings.
    n : int
        Images in one half.
    halvings : int
    """

    value: float
    floor: float
    lowest: float
    highest: float
    n: int
    halvings: int

    def __str__(self) -> str:
        return (
            f"Fréchet distance {self.value:.3g} ({self.lowest:.3g} to {self.highest:.3g} over {self.halvings} halvings of "
            f"{self.n} images each; real against real {self.floor:.3g})"
        )


@dataclass(frozen=True)
class StyleFidelity:
    """How far reconstructions may stand for the images.

    Attributes
    ----------
    agreement : Fidelity
        Share of images whose reconstruction the classifier gives the same class.
    divergence : Fidelity
        Kullback-Leibler divergence of the classifier's answer to the reconstruction from that to the image, in nats.
    pixel, perceptual : Fidelity
        Mean absolute difference of pixels, and mean distance of frozen features.
    frechet : Frechet
        Of reconstructions.
    generated : Frechet or None, default=None
        Of images from noise; None where there was no discriminator.
    rivals : dict of str to StyleFidelity, default=empty
        The same of cheaper ways to get images back.
    """

    agreement: Fidelity
    divergence: Fidelity
    pixel: Fidelity
    perceptual: Fidelity
    frechet: Frechet
    generated: Frechet | None = None
    rivals: Mapping[str, StyleFidelity] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [str(one) for one in (self.agreement, self.divergence, self.pixel, self.perceptual, self.frechet)]
        lines += [] if self.generated is None else [f"from noise: {self.generated}"]
        for name, one in self.rivals.items():
            lines.append(
                f"{name}: agreement {_interval(one.agreement)}, pixels {_interval(one.pixel)}, "
                f"features {_interval(one.perceptual)}, Fréchet distance {one.frechet.value:.3g}"
            )
        return "\n".join(lines)


def _interval(one: Fidelity) -> str:
    return f"{one.value:.3f} [{one.lower:.3f}, {one.upper:.3f}]"


@dataclass(frozen=True, eq=False)
class AttributeCheck:
    """What attributes do on images that had no say in choosing them.

    Attributes
    ----------
    flips : Fidelity
        Share of images whose class changes with all attributes turned at once against it.
    random : Fidelity
        The same with as many coordinates drawn at random, mean over draws.
    trivial : Fidelity or None
        The same by turning the classifier's own answer inside w, which explains nothing; None where w does not hold it.
    margins : ndarray of shape (attributes, shifts)
        Mean change of the second standardised logit less the first, one attribute turned alone.
    shifts : tuple of float
    pixel, perceptual : float
        Mean change of those that flipped; NaN where none did.
    frechet : tuple of float or None
        Of flipped images and of the same images' reconstructions, each against all images given; None for fewer than ten.
    judged : Fidelity or None
        Of those that flipped, the share for which an independent classifier changes its answer too.
    """

    flips: Fidelity
    random: Fidelity
    trivial: Fidelity | None
    margins: _FLOAT
    shifts: tuple[float, ...]
    pixel: float
    perceptual: float
    frechet: tuple[float, float] | None
    judged: Fidelity | None

    @property
    def monotone(self) -> tuple[bool, ...]:
        """For each attribute, whether the margin rises with every step of the shift."""
        return tuple(bool((np.diff(row) > 0).all()) for row in self.margins)

    def __str__(self) -> str:
        lines = [str(self.flips), str(self.random)]
        lines += [str(one) for one in (self.trivial, self.judged) if one is not None]
        lines.append(f"at the flip: pixels changed by {self.pixel:.4f}, features by {self.perceptual:.4f}")
        if self.frechet is not None:
            lines.append(f"Fréchet distance {self.frechet[0]:.3g} once flipped, {self.frechet[1]:.3g} before")
        return "\n".join([*lines, f"{sum(self.monotone)} of {len(self.monotone)} attributes act in proportion to their shift"])
