"""A generator steered by attributes that stands in for the world of images as a classifier sees it.

An encoder and a style-based generator learn to repaint images so that the classifier answers the same. Single coordinates of
the generator's style space are then turned, to see which visible attributes move the answer, and by how much.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_whole
from locum.explain._fresh import contents, require_fresh
from locum.explain._projectedex_images import as_images
from locum.explain._projectedex_records import (
    AttributeCheck,
    Frechet,
    StyleAttribute,
    StyleAttributes,
    StyleCounterfactuals,
    StyleFidelity,
    StyleStrips,
)
from locum.nets import Reference, seeded

__all__ = [
    "AttributeCheck",
    "Frechet",
    "StyleAttribute",
    "StyleAttributes",
    "StyleCounterfactuals",
    "StyleExplainer",
    "StyleFidelity",
    "StyleStrips",
]

_IMAGES = NDArray[np.float32]
_ENOUGH = 200  # images to choose attributes on
_ENCODERS = ("pyramid", "plain")
_DISCRIMINATORS = ("plain", "projected")


class StyleExplainer(BaseEstimator):
    r"""A style-based generator stands in for the images that a classifier of two classes was made for.

    The encoder E turns an image x into a code, the classifier C adds its two logits, standardised, and
    :math:`w = [E(x), C(x)]` is the style from which the generator G paints :math:`x'`. Training in turn on encoded images and
    on noise (which a mapping network turns into styles) lowers an adversarial loss, and for encoded images twice

    .. math:: w_p\,\mathrm{perceptual}(x, x') + w_l\,|E(x') - E(x)| + |x - x'| + \mathrm{KL}(C(x)\,\|\,C(x')).

    The pyramid encoder reads frozen maps at four scales, each mixed across channels by a fixed random 1x1 convolution.
    `find_attributes` then finds the coordinates of the style space that move C while C(x) inside w stays as it is.

    Parameters
    ----------
    classifier : torch.nn.Module or Reference
        In eval mode, differentiable; takes images of shape (n, channels, S, S) in [0, 1], gives logits. A copy is used.
    image_size : int, default=64
        S, a power of two, 8 or more.
    encoder : {"pyramid", "plain"}, default="pyramid"
    backbone : "efficientnet-lite0" or torch.nn.Module, default="efficientnet-lite0"
        The frozen maps: a module from images of shape (n, 3, B, B) in [0, 1] to four maps, the largest first.
    backbone_size : int, default=128
        B, to which images are enlarged before.
    discriminator : {"plain", "projected"}, default="plain"
        A residual network on images, or four small ones on the frozen maps.
    attention : bool, default=False
        In the plain discriminator, at 8x8.
    augment : float, default=0.0
        Share of images that are mirrored, moved and covered in part before the discriminator sees them.
    capacity : int, default=16
        Channels of generator and discriminator.
    latent : int, default=512
        Width of the code; a multiple of 4.
    encoder_width : int, default=64
        Channels of the encoder.
    encoder_size : int or None, default=None
        Trained values the encoder should have: its channels are chosen to come nearest, which makes encoders comparable.
    mapping_layers : int, default=8
    condition : bool, default=True
        False leaves C(x) out of w: a control.
    target_pair : (int, int) or None, default=None
        The two classes to tell apart, by their logits, where there are more than two.
    w_perceptual : float, default=0.1
    w_latent : float, default=0.1
    w_pixel : float, default=1.0
    w_kl : float, default=1.0
    w_adversarial : float, default=1.0
        0 trains an autoencoder without a discriminator, and without noise.
    batch_size : int, default=64
    accumulate : int, default=1
        Batches before each step of an optimiser.
    learning_rate : float, default=2e-4
        Of encoder, mapping and generator; the discriminator's is 1.5 times that.
    ema : float, default=0.995
        Decay of the moving averages of generator and mapping, which are what is used.
    path_after : int, default=5_000
        Steps after which every 32nd has a penalty on uneven path lengths.
    device : torch.device or str, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    classes_ : tuple of int
        The pair, by logits.
    channels_ : int
    parameters_ : dict of str to int
        Trained values of each network.
    coordinates_ : int
        Of the style space.
    history_ : dict of str to tuple of float
        Mean losses of every 25 steps.
    attributes_ : StyleAttributes
        What `find_attributes` found last.

    Notes
    -----
    **Cost**: a step is two passes of the generator, three of the discriminator and, on encoded images, three of the backbone,
    most of them also backward. `find_attributes` paints coordinates × 2 × images × noise maps; `screen=` cuts the coordinates.

    **Departures** from the paper and its code: the pyramid follows the paper's figures, as its code has none. Both optimisers
    of a step see the same images. Logits in w and in effects are standardised, and the frozen maps are brought to one scale.
    The perceptual distance uses the backbone given rather than LPIPS. The sweep passes styles on instead of editing layers,
    and averages over noise maps.

    References
    ----------
    Qi et al., arXiv 2501.01392. The generator and the sweep follow Lang et al., arXiv 2104.13369; random projections of
    features, Sauer et al., arXiv 2111.01007.

    Examples
    --------
    >>> StyleExplainer(classifier=None, image_size=32, capacity=8).capacity
    8
    """

    papers = ("projectedex",)

    def __init__(
        self,
        classifier: Any,
        *,
        image_size: int = 64,
        encoder: str = "pyramid",
        backbone: Any = "efficientnet-lite0",
        backbone_size: int = 128,
        discriminator: str = "plain",
        attention: bool = False,
        augment: float = 0.0,
        capacity: int = 16,
        latent: int = 512,
        encoder_width: int = 64,
        encoder_size: int | None = None,
        mapping_layers: int = 8,
        condition: bool = True,
        target_pair: tuple[int, int] | None = None,
        w_perceptual: float = 0.1,
        w_latent: float = 0.1,
        w_pixel: float = 1.0,
        w_kl: float = 1.0,
        w_adversarial: float = 1.0,
        batch_size: int = 64,
        accumulate: int = 1,
        learning_rate: float = 2e-4,
        ema: float = 0.995,
        path_after: int = 5_000,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.classifier = classifier
        self.image_size = image_size
        self.encoder = encoder
        self.backbone = backbone
        self.backbone_size = backbone_size
        self.discriminator = discriminator
        self.attention = attention
        self.augment = augment
        self.capacity = capacity
        self.latent = latent
        self.encoder_width = encoder_width
        self.encoder_size = encoder_size
        self.mapping_layers = mapping_layers
        self.condition = condition
        self.target_pair = target_pair
        self.w_perceptual = w_perceptual
        self.w_latent = w_latent
        self.w_pixel = w_pixel
        self.w_kl = w_kl
        self.w_adversarial = w_adversarial
        self.batch_size = batch_size
        self.accumulate = accumulate
        self.learning_rate = learning_rate
        self.ema = ema
        self.path_after = path_after
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(
        self,
        images: Any,
        y: Any = None,
        *,
        steps: int = 30_000,
        checkpoint: Any = None,
        checkpoint_every: int = 500,
        resume: bool = True,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Train encoder, generator and discriminator on images.

        Parameters
        ----------
        images : array of shape (n, channels, S, S), or iterable of batches
            In [0, 1], of one or three channels. Batches, as of a DataLoader, are read once and kept.
        y : array of shape (n,) or None, default=None
            Classes that batches are balanced by; the classifier's own answers where None.
        steps : int, default=30_000
        checkpoint : path or None, default=None
            A folder for a file that holds all it takes to go on.
        checkpoint_every : int, default=500
            Steps.
        resume : bool, default=True
            Go on from a checkpoint that is there, and end with the numbers of a training without the interruption.
        progress : callable or None, default=None
            Called with (steps done, steps in all, the losses in words).

        Raises
        ------
        InvalidData
            Settings, images or a classifier that cannot be used.
        TrainingFailed
            A loss that is no longer finite; the last checkpoint is kept.
        FormatError
            A checkpoint of other settings or images.
        """
        torch = need("torch", "a style explainer", "nets")
        from locum.explain import _projectedex_frozen as fixed
        from locum.explain import _projectedex_training as training

        self._check_settings()
        require_whole(1, steps=steps, checkpoint_every=checkpoint_every)
        found = as_images(images, self.image_size)
        device = torch.device(self.device)
        self.classes_, logits = fixed.pair_of(self.classifier, self.target_pair, found, device)
        frozen, answers = fixed.frozen_parts(logits, self.backbone, self.backbone_size, found, device)
        classes = fixed.balanced_by(y, answers)
        levels = frozen.pyramid.shapes(device)
        self.channels_ = found.shape[1]
        with seeded(self.random_state):
            networks = training.Networks(self._shape(), levels)
        self.history_ = training.train_style(
            networks, frozen, found, classes, self._plan(steps), device=device,
            checkpoint=None if checkpoint is None else Path(checkpoint), every=checkpoint_every, resume=resume,
            progress=progress,
        )  # fmt: skip
        self._use(networks, frozen, device)
        self._images, self._fitted = found, contents(found)
        self.__dict__.pop("attributes_", None)
        return self

    def _use(self, networks: Any, frozen: Any, device: Any) -> None:
        """Keep what was trained."""
        from locum.explain._projectedex_networks import trainable
        from locum.explain._projectedex_use import Painter

        self._painter = Painter(networks, frozen, self._noises(1, device)[0], device)
        parts = ("encoder", "mapping", "generator", "discriminator")
        self.parameters_ = {name: trainable(getattr(networks, name)) for name in parts}
        self.coordinates_ = networks.generator.coordinates

    def _noises(self, k: int, device: Any) -> list[Any]:
        """Fixed noise maps; more of them begin with the same."""
        torch = need("torch", "a style explainer", "nets")
        shape = (k, 1, 1, self.image_size, self.image_size)
        maps = np.random.default_rng(self.random_state).random(shape, dtype=np.float32)
        return [torch.from_numpy(one).to(device) for one in maps]

    def _check_settings(self) -> None:
        require_whole(8, image_size=self.image_size)
        if self.image_size & (self.image_size - 1):
            raise InvalidData(f"expected image_size= to be a power of two, got {self.image_size}; enlarge or shrink the images")
        require_whole(4, latent=self.latent)
        if self.latent % 4:
            raise InvalidData(f"expected latent= to be a multiple of 4, one part a scale, got {self.latent}")
        require_whole(
            1, backbone_size=self.backbone_size, capacity=self.capacity, encoder_width=self.encoder_width,
            mapping_layers=self.mapping_layers, accumulate=self.accumulate,
        )  # fmt: skip
        if self.encoder_size is not None:
            require_whole(1, encoder_size=self.encoder_size)
        require_whole(2, batch_size=self.batch_size)
        require_whole(0, path_after=self.path_after, random_state=self.random_state)
        for name, known in (("encoder", _ENCODERS), ("discriminator", _DISCRIMINATORS)):
            if getattr(self, name) not in known:
                raise InvalidData(f"expected {name}= to be one of {', '.join(map(repr, known))}, got {getattr(self, name)!r}")
        for name in ("w_perceptual", "w_latent", "w_pixel", "w_kl", "w_adversarial"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InvalidData(f"expected {name}= of 0 or more, got {getattr(self, name)!r}")
        if not self.learning_rate > 0 or not 0 <= self.ema < 1 or not 0 <= self.augment <= 1:
            raise InvalidData(
                f"expected learning_rate= above 0, ema= in [0, 1) and augment= in [0, 1], got {self.learning_rate!r}, "
                f"{self.ema!r} and {self.augment!r}"
            )

    def _shape(self) -> Any:
        from locum.explain._projectedex_training import Shape

        return Shape(
            self.image_size, self.channels_, self.encoder, self.encoder_size, self.encoder_width, self.discriminator,
            self.attention, self.capacity, self.latent, self.mapping_layers, 2 if self.condition else 0,
        )  # fmt: skip

    def _plan(self, steps: int) -> Any:
        from locum.explain._projectedex_training import Plan

        return Plan(
            steps, self.batch_size, self.accumulate, self.learning_rate, self.ema, self.augment, self.path_after,
            self.w_perceptual, self.w_latent, self.w_pixel, self.w_kl, self.w_adversarial, self.random_state,
        )  # fmt: skip

    # ------------------------------------------------------------------ attributes
    def find_attributes(
        self,
        images: Any,
        *,
        n_images: int = 300,
        shift: float = 1.0,
        top: int = 4,
        noises: int = 3,
        screen: int | None = None,
        unstable: int = 150,
        realism: float | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> StyleAttributes:
        """Turn every coordinate of the style space, and keep those that move the classifier most.

        Parameters
        ----------
        images : array or iterable of batches
            To choose on; check the attributes on others. 200 or more.
        n_images : int, default=300
            At most so many of them, at random.
        shift : float, default=1.0
            Share of the way to a coordinate's lowest and highest value over the images.
        top : int, default=4
            Attributes for each class, and in all.
        noises : int, default=3
            Noise maps over which effects are averaged.
        screen : int or None, default=None
            Measure all coordinates on 32 images and one noise map first, and only so many of them, the strongest, on all.
        unstable : int, default=150
            Images that more coordinates move by over 0.3 are left out.
        realism : float or None, default=None
            Images whose reconstruction the discriminator scores lower are left out.
        progress : callable or None, default=None
            Called with (coordinates done, coordinates in all, the place of the last).

        Returns
        -------
        StyleAttributes
            Also kept as `attributes_`.

        Raises
        ------
        InvalidData
            Settings or images that cannot be used, or no image left.
        """
        from locum.explain import _projectedex_attributes as space

        given = self._read(images)
        require_whole(1, top=top, noises=noises, n_images=n_images, **({} if screen is None else {"screen": screen}))
        require_whole(0, unstable=unstable)
        if not 0 < shift < np.inf:
            raise InvalidData(f"expected shift= above 0, got {shift!r}")
        if realism is not None and not self.w_adversarial:
            raise InvalidData("realism= needs a discriminator, and w_adversarial=0 trained none")
        if len(given) > n_images:
            rows = np.random.default_rng(self.random_state).choice(len(given), n_images, replace=False)
            given = given[np.sort(rows)]
        if len(given) < _ENOUGH:
            warnings.warn(
                f"attributes are chosen on {len(given)} images; with fewer than {_ENOUGH} their ends and their order are "
                "largely chance", stacklevel=2,
            )  # fmt: skip
        maps = self._noises(noises, self._painter.device)
        search = space.Search(shift, top, maps, screen, unstable, realism, self.random_state, progress)
        self.attributes_ = space.found(self._painter, given, search, self.classes_)
        return self.attributes_

    # ------------------------------------------------------------------ reading
    def reconstruct(self, images: Any) -> _IMAGES:
        """The images as the generator paints them, shape (n, channels, S, S).

        Parameters
        ----------
        images : array or iterable of batches
        """
        found = self._read(images)
        return self._painter.paint(self._painter.styles(found))

    def explain(
        self, images: Any, attributes: StyleAttributes | None = None, *, shifts: Sequence[float] = (-2, -1, 0, 1, 2)
    ) -> StyleStrips:
        """Each image as each attribute is turned alone, with the classifier's answers.

        Parameters
        ----------
        images : array or iterable of batches
        attributes : StyleAttributes or None, default=None
            Those found last where None.
        shifts : sequence of float, default=(-2, -1, 0, 1, 2)
            Above 0 towards the second class; 1 is all the way to the end of a coordinate's range.
        """
        from locum.explain import _projectedex_use as use

        found, chosen = self._read(images), self._attributes(attributes)
        return use.strips(self._painter, found, chosen, _shifts(shifts))

    def counterfactual(
        self,
        images: Any,
        attributes: StyleAttributes | None = None,
        *,
        target: int,
        max_attributes: int = 4,
        judge: Any = None,
    ) -> StyleCounterfactuals:
        """Turn one attribute, then two at once, ... until the classifier answers the target.

        Parameters
        ----------
        images : array or iterable of batches
        attributes : StyleAttributes or None, default=None
            Those found last where None.
        target : int
            One of `classes_`.
        max_attributes : int, default=4
            The strongest ones; each number of them is turned by 0.5, 1, 1.5 and 2.
        judge : torch.nn.Module, Reference or None, default=None
            An independent classifier of the same classes, which tells visible changes from those that only this one sees.
        """
        from locum.explain import _projectedex_use as use

        found, chosen = self._read(images), self._attributes(attributes)
        require_whole(1, max_attributes=max_attributes)
        if target not in self.classes_:
            raise InvalidData(f"expected target= to be one of {self.classes_}, got {target!r}")
        second = target == self.classes_[1]
        return use.counterfactuals(self._painter, found, chosen, second, target, max_attributes, self._judge(judge))

    # ------------------------------------------------------------------ measuring
    def fidelity(self, images: Any, *, rivals: Mapping[str, StyleExplainer] | None = None) -> StyleFidelity:
        """How well reconstructions stand for images, beside the mean image and that of principal components.

        Parameters
        ----------
        images : array or iterable of batches
            Not among those of the fit.
        rivals : dict of str to StyleExplainer or None, default=None
            Others, fitted, to show beside: one without a discriminator, one with the other encoder.

        Raises
        ------
        NotFresh
            Images of the fit.
        """
        from locum.explain import _projectedex_use as use

        found = self._read(images, least=4)
        require_fresh(found, self._fitted, "images were fitted on")
        painter, seed = self._painter, self.random_state
        beside = {
            name: use.measured(painter, found, again, seed)
            for name, again in (("mean image", self._mean_of(found)), ("principal components", self._projected(found)))
        }
        for name, other in (rivals or {}).items():
            check_is_fitted(other, "coordinates_")
            beside[name] = use.measured(painter, found, other.reconstruct(found), seed)
        made = None
        if self.w_adversarial:
            made = use.halved(painter.features(painter.drawn(len(found), seed)), painter.features(found), seed)
        mine = use.measured(painter, found, painter.paint(painter.styles(found)), seed)
        return replace(mine, generated=made, rivals=beside)

    def check_attributes(
        self,
        images: Any,
        attributes: StyleAttributes | None = None,
        *,
        shift: float = 2.0,
        shifts: Sequence[float] = (-2, -1, 0, 1, 2),
        random_draws: int = 10,
        judge: Any = None,
    ) -> AttributeCheck:
        """What attributes do on images that had no say in choosing them, beside as many coordinates at random.

        Parameters
        ----------
        images : array or iterable of batches
            Neither of the fit nor of `find_attributes`.
        attributes : StyleAttributes or None, default=None
            Those found last where None.
        shift : float, default=2.0
            How far all of them are turned at once, each image away from its class.
        shifts : sequence of float, default=(-2, -1, 0, 1, 2)
            Ascending; how far each is turned alone.
        random_draws : int, default=10
        judge : torch.nn.Module, Reference or None, default=None
            An independent classifier of the same classes.

        Raises
        ------
        NotFresh
            Images of the fit, or that chose the attributes.
        """
        from locum.explain import _projectedex_use as use

        found, chosen = self._read(images, least=2), self._attributes(attributes)
        require_fresh(found, self._fitted, "images were fitted on")
        require_fresh(found, chosen.images, "images chose the attributes")
        require_whole(1, random_draws=random_draws)
        turns = _shifts(shifts)
        if not 0 < shift < np.inf or list(turns) != sorted(set(turns)):
            raise InvalidData(f"expected shift= above 0 and shifts= that ascend, got {shift!r} and {tuple(shifts)!r}")
        return use.check(self._painter, found, chosen, shift, turns, random_draws, self._judge(judge), self.random_state)

    # ------------------------------------------------------------------ helpers
    def _read(self, images: Any, least: int = 1) -> _IMAGES:
        check_is_fitted(self, "coordinates_", msg="call fit(images) before this %(name)s is used")
        found = as_images(images, self.image_size, self.channels_)
        if len(found) < least:
            raise InvalidData(f"expected {least} or more images, got {len(found)}")
        return found

    def _attributes(self, given: StyleAttributes | None) -> StyleAttributes:
        found = getattr(self, "attributes_", None) if given is None else given
        if found is None:
            raise InvalidData("no attributes are known yet; call find_attributes(images) first, or give attributes=")
        if len(found.places) != self.coordinates_ or found.pair != self.classes_:
            raise InvalidData(
                f"expected attributes of {self.coordinates_} coordinates for classes {self.classes_}, got {len(found.places)} "
                f"for {found.pair}: these are of another explainer"
            )
        return found

    def _judge(self, judge: Any) -> Callable[[_IMAGES], NDArray[np.intp]] | None:
        if judge is None:
            return None
        other = judge if isinstance(judge, Reference) else Reference(judge, device=self.device)
        columns = list(self.classes_)
        return lambda images: other.logits(images)[:, columns].argmax(axis=1)

    def _mean_of(self, images: _IMAGES) -> _IMAGES:
        return np.broadcast_to(self._images.mean(axis=0, keepdims=True), images.shape).astype(np.float32)

    def _projected(self, images: _IMAGES) -> _IMAGES:
        """Images from as many principal components of the fit as the code is wide."""
        from sklearn.decomposition import PCA

        flat = self._images.reshape(len(self._images), -1)
        count = min(self.latent, len(flat) - 1, flat.shape[1])
        lines = PCA(count, svd_solver="randomized", random_state=self.random_state).fit(flat)
        again = lines.inverse_transform(lines.transform(images.reshape(len(images), -1)))
        return np.clip(again, 0, 1).astype(np.float32).reshape(images.shape)


def _shifts(shifts: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(one) for one in shifts)
    if not found or not np.isfinite(found).all():
        raise InvalidData(f"expected shifts= of one or more finite numbers, got {tuple(shifts)!r}")
    return found
