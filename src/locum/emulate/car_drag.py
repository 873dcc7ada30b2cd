"""A network on pictures of a car stands in for a flow simulation of its drag."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, OutsideRegion, need, require_one_of, require_positive, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures.values import MAE, R2, IntervalCoverage
from locum.core.surrogate import Saves
from locum.emulate._drag_checks import BACKBONES, as_numbers, check_settings, drag_of, pictures_of
from locum.emulate._drag_records import ClassAudit, DragAudit, Saliency
from locum.emulate._drag_region import PictureRegion
from locum.emulate._packed import read_packed, write_packed
from locum.emulate.exported import Exports
from locum.emulate.renderings import VIEWS, channel_slices, mirrored

__all__ = ["ClassAudit", "DragAudit", "RenderingRegressor", "Saliency"]

Array = NDArray[np.floating[Any]]

_FORMAT = 1
_FALSE_ALARMS = 0.02
_SURPRISE = 0.05  # probability of so many pictures outside below which there is a warning
_MOST_STEPS = 2048


# ---------------------------------------------------------------------- the stand-in
class RenderingRegressor(Saves, Exports, BaseEstimator):
    """Pictures of a shape from several sides stand in for the flow around it: depth and surface normals in, drag out.

    Each kind of picture has a branch of grouped convolutions, with attention between all places of all views before its last
    stage, that learns to predict drag alone. The branches are then joined by one perceptron, which begins at the mean of what
    they said, and learn on together. Training stops by designs that are held back as whole groups.

    Parameters
    ----------
    branches : sequence of str, default=('depth', 'normal')
        Kinds of pictures that are read: of "depth", "normal" and "silhouette".
    backbone : {"resnext-attn-tiny", "resnext-tiny"}, default="resnext-attn-tiny"
        With attention or without.
    views : sequence of str, default=('front', 'rear', 'left', 'right', 'top', 'bottom')
        That the pictures show, in order.
    channels : sequence of str, default=('depth', 'normal')
        That the pictures have, in order.
    width : int, default=24
        Channels of the first stage; the next have two and three times as many.
    hidden : int, default=32
        Units of the perceptron for each branch.
    epochs : int, default=20
        Of each branch alone.
    joined_epochs : int, default=8
        Of the branches together.
    batch_size : int, default=32
    lr : float, default=0.002
        Of Adam with decoupled weight decay; rises, then falls along half a cosine. A third of it for joined branches.
    patience : int, default=6
        Epochs without a gain on what is held back.
    mirror : bool, default=True
        Show each picture or its mirror image, at random, whenever it is learned from: drag is the same. Both are then of the
        same design, on the same side of any split.
    held_back : float, default=0.15
        Share of the groups that say when to stop, where `fit` is given no `eval_set`.
    device : str, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    mean_, scale_ : float
        Of the drag learned from.
    average_ : ndarray of shape (views, channels, size, size)
        The mean picture.
    histories_ : dict of str to History
        By branch, and "joined".
    region_ : PictureRegion
        With `inside`, `distance`, `threshold` and `false_alarm_rate`: coarse pictures near a plane through those learned from.
    scores_ : ndarray
        Absolute errors in order, after `calibrate`.

    Raises
    ------
    InvalidData
        Pictures of other shapes than views and channels say, of unequal sizes, or not in [0, 1]; drag that is not finite; fewer
        than two groups.

    Notes
    -----
    Cost: 2 ms a picture set, branch and epoch on one core for six views of 48 pixels: 7 minutes for 3,000 cars and 20 epochs.

    **Departures**: the body of the paper could not be had, so that sizes and rates are ours. Views are not tiled to one picture
    but pass the same branch one by one, are told apart by learned offsets, and are joined by the attention and the perceptron.
    The first convolution takes patches of 4 pixels. Mirror images are drawn at random rather than added to the data.

    References
    ----------
    Song, Yuan, Permenter, Arechiga and Ahmed, *Surrogate Modeling of Car Drag Coefficient with Depth and Normal Renderings*,
    IDETC 2023, arXiv 2306.06110. Xie et al., arXiv 1611.05431, for the blocks; Sundararajan, Taly and Yan, arXiv 1703.01365,
    for integrated gradients.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> images = np.broadcast_to(rng.random((60, 1, 1, 1, 1)), (60, 2, 4, 16, 16))
    >>> drag = 0.2 + 0.1 * images[:, 0, 0, 0, 0]
    >>> model = RenderingRegressor(views=("front", "top"), width=8, epochs=15, joined_epochs=2, lr=0.01)
    >>> model.fit(images[:50], drag[:50]).predict(images[50:]).shape
    (10,)
    """

    papers = ("car-drag",)

    def __init__(
        self,
        *,
        branches: Sequence[str] = ("depth", "normal"),
        backbone: str = "resnext-attn-tiny",
        views: Sequence[str] = tuple(VIEWS),
        channels: Sequence[str] = ("depth", "normal"),
        width: int = 24,
        hidden: int = 32,
        epochs: int = 20,
        joined_epochs: int = 8,
        batch_size: int = 32,
        lr: float = 2e-3,
        patience: int = 6,
        mirror: bool = True,
        held_back: float = 0.15,
        device: str = "cpu",
        random_state: int = 0,
    ) -> None:
        self.branches = branches
        self.backbone = backbone
        self.views = views
        self.channels = channels
        self.width = width
        self.hidden = hidden
        self.epochs = epochs
        self.joined_epochs = joined_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.patience = patience
        self.mirror = mirror
        self.held_back = held_back
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ learning
    def fit(
        self,
        images: Any,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        eval_set: tuple[Any, ArrayLike] | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Learn each branch alone, and all of them together.

        Parameters
        ----------
        images : array-like of shape (n, views, channels, size, size)
            In [0, 1], or bytes; `size` is a multiple of 16.
        y : array-like of shape (n,)
            Drag coefficients.
        groups : array-like of shape (n,) or None, default=None
            Designs of one group are near duplicates, and are held back together; each is its own where None.
        eval_set : pair of images and drag, or None, default=None
            What says when to stop, instead of a part that is held back.
        progress : callable or None, default=None
            Called with (epochs done, epochs in all, the losses in words), for each network in turn.
        """
        check_settings(self)
        pictures = self._pictures(images, None)
        drag = drag_of(y, len(pictures))
        known, held = self._sides(pictures, drag, groups, eval_set)
        if not np.ptp(known[1]) > 0:
            raise InvalidData("expected drag that differs between the pictures, got one value")
        need("torch", "a network on pictures", "nets")
        from locum.emulate import _drag_networks as networks

        self.size_ = pictures.shape[-1]
        self.mean_, self.scale_ = float(known[1].mean()), float(known[1].std())
        self.average_ = known[0].mean(axis=0, dtype=float).astype(np.float32) / (255 if pictures.dtype == np.uint8 else 1)
        self.region_ = PictureRegion.of(self._shown(known[0]), _FALSE_ALARMS, self.random_state)
        recipe = networks.Recipe(
            self.epochs, self.batch_size, self.lr, self.patience, self.mirror, self.device, self.random_state
        )
        self._networks, self.histories_ = networks.fitted(
            self._plan(), recipe, known[0], self._scaled(known[1]), held[0], self._scaled(held[1]), self.joined_epochs, progress
        )
        self.__dict__.pop("scores_", None)
        return self

    def _sides(self, pictures: NDArray[Any], drag: Array, groups: Any, eval_set: Any) -> tuple[Any, Any]:
        """What is learned from, and what says when to stop."""
        codes = np.arange(len(drag)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        if codes.shape != drag.shape:
            raise InvalidData(f"expected one group for each of {len(drag)} pictures, got shape {np.shape(groups)}")
        if eval_set is not None:
            held = self._pictures(eval_set[0], pictures.shape[-1])
            return (pictures, drag), (held, drag_of(eval_set[1], len(held)))
        if len(np.unique(codes)) < 2:
            raise InvalidData("expected 2 groups or more, of which one is held back, got one: give eval_set= instead")
        split = GroupShuffleSplit(1, test_size=self.held_back, random_state=self.random_state)
        learn, stop = next(split.split(codes, groups=codes))
        return (pictures[learn], drag[learn]), (pictures[stop], drag[stop])

    def _shown(self, pictures: NDArray[Any]) -> NDArray[Any]:
        """With mirror images in every other row, where those are learned from as well."""
        if not self.mirror:
            return pictures
        out = pictures.copy()
        out[::2] = mirrored(out[::2], self.views, self.channels)
        return out

    def _scaled(self, drag: Array) -> Array:
        return np.asarray((drag - self.mean_) / self.scale_)

    def _plan(self) -> Any:
        from locum.emulate import _drag_networks as networks

        return networks.Plan(
            tuple(self.branches), channel_slices(self.channels), tuple(self.views), tuple(self.channels), self.size_,
            self.width, self.hidden, BACKBONES[self.backbone],
        )  # fmt: skip

    def _pictures(self, images: Any, size: int | None) -> NDArray[Any]:
        return pictures_of(images, self.views, self.channels, size)

    # ------------------------------------------------------------------ use
    @overload
    def predict(self, images: Any, *, branch: str | None = None, return_bound: None = None) -> Array: ...
    @overload
    def predict(self, images: Any, *, branch: str | None = None, return_bound: float) -> tuple[Array, float]: ...
    def predict(self, images: Any, *, branch: str | None = None, return_bound: float | None = None) -> Any:
        """Drag coefficients, shape (n,); with `return_bound` also the half width of their bounds.

        Parameters
        ----------
        images : array-like of shape (n, views, channels, size, size)
        branch : str or None, default=None
            One branch as it was alone; all together where None.
        return_bound : float or None, default=None
            Probability with which the drag of a new car, like those of `calibrate`, is to be within the bound.

        Warns
        -----
        OutsideRegion
            More pictures unlike those learned from than chance explains.
        """
        check_is_fitted(self, "mean_")
        pictures = self._pictures(images, self.size_)
        half = None if return_bound is None else self._half(return_bound)
        outside = self._outside(pictures)
        if binom.sf(outside.sum() - 1, len(outside), self.region_.false_alarm_rate) < _SURPRISE:
            warnings.warn(
                f"{outside.sum()} of {len(outside)} pictures are unlike those learned from, and bounds may not hold for them",
                OutsideRegion, stacklevel=2,
            )  # fmt: skip
        said = self._answer(pictures, branch)
        return said if half is None else (said, half)

    def _answer(self, pictures: NDArray[Any], branch: str | None) -> Array:
        from locum.emulate import _drag_networks as networks

        return self.mean_ + self.scale_ * networks.answers(self._network(branch), pictures, self.device)

    def _network(self, branch: str | None) -> Any:
        if branch is None:
            return self._networks["joined" if "joined" in self._networks else self.branches[0]]
        require_one_of(tuple(self._networks), branch=branch)
        return self._networks[branch]

    def _outside(self, pictures: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(~self.region_.inside(pictures))

    def to_module(self) -> tuple[Any, dict[str, Any]]:
        """See `Exports`: from "pictures" (n, views, channels, size, size), as numbers in [0, 1], to drag coefficients, (n,)."""
        check_is_fitted(self, "mean_")
        from locum.emulate._exported_modules import ScaledNetwork, some_rows

        module = ScaledNetwork(self._network(None), shift=0.0, spread=1.0, mean=self.mean_, scale=self.scale_)
        depth = channel_slices(self.channels)[self.channels[-1]].stop
        return module, {"pictures": some_rows(len(self.views), depth, self.size_, self.size_)}

    # ------------------------------------------------------------------ how far to trust it
    def calibrate(self, images: Any, y: ArrayLike) -> Self:
        """Keep the errors on shapes that were not learned from, for bounds (split conformal prediction).

        Parameters
        ----------
        images : array-like of shape (n, views, channels, size, size)
        y : array-like of shape (n,)
        """
        check_is_fitted(self, "mean_")
        pictures = self._pictures(images, self.size_)
        self.scores_ = np.sort(np.abs(drag_of(y, len(pictures)) - self._answer(pictures, None)))
        return self

    def _half(self, level: float) -> float:
        if isinstance(level, bool) or not 0 < level < 1:
            raise InvalidData(f"expected a level between 0 and 1, got {level!r}")
        scores = getattr(self, "scores_", None)
        if scores is None:
            raise InvalidData("a bound needs errors on fresh shapes: call calibrate(images, y) first")
        rank = math.ceil((len(scores) + 1) * level - 1e-9)
        if rank > len(scores):
            least = math.ceil(level / (1 - level) - 1e-9)
            raise InvalidData(f"expected {least} shapes or more in calibrate for a level of {level:g}, got {len(scores)}")
        return float(scores[rank - 1])

    def audit(
        self,
        images: Any,
        y: ArrayLike,
        *,
        by: ArrayLike | None = None,
        level: float = 0.9,
        groups: ArrayLike | None = None,
        noise: ArrayLike | None = None,
    ) -> DragAudit:
        """Errors and coverage on fresh shapes, over all and by class.

        Parameters
        ----------
        images : array-like of shape (n, views, channels, size, size)
            Neither learned from nor calibrated on.
        y : array-like of shape (n,)
        by : array-like of shape (n,) or None, default=None
            Classes, such as bodies; each of 2 shapes or more.
        level : float, default=0.9
            Of the bound.
        groups : array-like of shape (n,) or None, default=None
            Near duplicates, for intervals.
        noise : array-like of shape (n,) or None, default=None
            Standard deviation of each label, for `ceiling`.
        """
        half = self._half(level)
        pictures = self._pictures(images, self.size_)
        drag = drag_of(y, len(pictures))
        said = self._answer(pictures, None)
        labels = np.full(len(drag), "all") if by is None else np.asarray(by).astype(str)
        if labels.shape != drag.shape:
            raise InvalidData(f"expected by= with one class for each of {len(drag)} pictures, got shape {labels.shape}")
        kind = None if groups is None else np.asarray(groups)
        band = np.column_stack([said - half, said + half])
        names, codes = np.unique(labels, return_inverse=True)
        means = (np.bincount(codes, drag) / np.bincount(codes))[codes]

        def coverage(rows: Any) -> Fidelity:
            return IntervalCoverage().fidelity(drag[rows], band[rows], groups=None if kind is None else kind[rows])

        classes = {}
        for i, name in enumerate(names.tolist() if by is not None else []):
            rows = np.flatnonzero(codes == i)
            found = coverage(rows)
            r2 = R2().fidelity(drag[rows], said[rows], groups=None if kind is None else kind[rows], region=name)
            classes[name] = ClassAudit(len(rows), r2, found, found.upper < level)
        ceiling = None if noise is None else float(1 - np.mean(np.square(drag_of(noise, len(drag)))) / drag.var())
        return DragAudit(
            R2().fidelity(drag, said, groups=kind), R2().fidelity(drag - means, said - means, groups=kind),
            MAE().fidelity(drag, said, groups=kind), coverage(np.arange(len(drag))), half, level, classes, ceiling,
            float(self._outside(pictures).mean()),
        )  # fmt: skip

    # ------------------------------------------------------------------ reading it
    def attribute(
        self,
        images: Any,
        *,
        baseline: Any = "average",
        branch: str | None = None,
        steps: int = 64,
        tolerance: float = 0.01,
    ) -> Saliency:
        """Where the drag of one shape comes from: integrated gradients from a baseline.

        Parameters
        ----------
        images : array-like of shape (views, channels, size, size)
            Of one shape.
        baseline : "average", "empty" or array-like of that shape, default="average"
            The mean picture, pictures of nothing, or those of another car.
        branch : str or None, default=None
        steps : int, default=64
            Of the path at first; doubled until the maps add up.
        tolerance : float, default=0.01
            Largest gap, as a share of the standard deviation of drag.

        Warns
        -----
        ConvergenceWarning
            The maps do not add up after 2048 steps; `gap` says by how much.

        Notes
        -----
        Cost: `steps` gradients of one picture set, some 5 ms each on one core.
        """
        check_is_fitted(self, "mean_")
        require_whole(1, steps=steps)
        require_positive(tolerance=tolerance)
        from locum.emulate import _drag_networks as networks

        end = as_numbers(self._pictures(np.asarray(images)[None], self.size_)[0])
        begin = self._baseline(baseline)
        network = self._network(branch)
        while True:
            found, change = networks.integrated_gradients(network, end, begin, steps, self.device)
            gap = float(found.sum() - change)
            if abs(gap) <= tolerance or steps >= _MOST_STEPS:
                break
            steps *= 2
        if abs(gap) > tolerance:
            warnings.warn(
                f"the maps miss {abs(gap):.2g} standard deviations of drag after {steps} steps: take a nearer baseline",
                ConvergenceWarning, stacklevel=2,
            )  # fmt: skip
        found = found * self.scale_
        base = float(self._answer(begin[None], branch)[0])
        kinds = {kind: float(found[:, place].sum()) for kind, place in channel_slices(self.channels).items()}
        return Saliency(
            found.sum(axis=1), dict(zip(self.views, found.sum(axis=(1, 2, 3)).tolist(), strict=True)), kinds,
            base + change * self.scale_, base, gap * self.scale_, steps,
        )  # fmt: skip

    def _baseline(self, given: Any) -> Array:
        if isinstance(given, str):
            require_one_of(("average", "empty"), baseline=given)
            if given == "average":
                return self.average_
            empty = {"depth": 1.0, "normal": 0.5, "silhouette": 0.0}
            out = np.empty_like(self.average_)
            for kind, place in channel_slices(self.channels).items():
                out[:, place] = empty[kind]
            return out
        return as_numbers(self._pictures(np.asarray(given)[None], self.size_)[0])

    def slopes(
        self, draw: Callable[[dict[str, float]], Any], at: Mapping[str, float], steps: Mapping[str, float]
    ) -> dict[str, float]:
        """How the predicted drag changes with parameters of a shape: central differences.

        Parameters
        ----------
        draw : callable
            From parameters to pictures (views, channels, size, size).
        at : mapping of str to float
            The shape.
        steps : mapping of str to float
            Of each parameter that is asked for: large enough that edges move by a pixel or so.

        Returns
        -------
        dict of str to float
            Drag coefficient in a unit of the parameter.
        """
        check_is_fitted(self, "mean_")
        require_positive(**steps)
        pictures = [draw({**at, name: at.get(name, 0.0) + s * step}) for name, step in steps.items() for s in (1, -1)]
        ahead, behind = self._answer(self._pictures(np.stack(pictures), self.size_), None).reshape(-1, 2).T
        return {name: float(change / (2 * step)) for (name, step), change in zip(steps.items(), ahead - behind, strict=True)}

    # ------------------------------------------------------------------ files
    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Settings, weights and what bounds need."""
        check_is_fitted(self, "mean_")
        settings = {name: list(value) if isinstance(value, tuple) else value for name, value in self.get_params().items()}
        reach = self.region_.threshold
        record = {"settings": settings, "size": self.size_, "mean": self.mean_, "scale": self.scale_,
                  "threshold": reach if math.isfinite(reach) else None}  # fmt: skip
        arrays = {
            f"{name}.{key}": value.detach().cpu().numpy() for name, network in self._networks.items()
            for key, value in network.state_dict().items()
        } | {"average": self.average_, "middle": self.region_.middle, "axes": self.region_.axes}  # fmt: skip
        scores = getattr(self, "scores_", None)
        return record, arrays | ({} if scores is None else {"scores": scores})

    @classmethod
    def from_state(cls, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The regressor that `to_state` described; it lives on the CPU, and tells nothing of its training."""
        import torch

        settings: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in record["settings"].items()}
        out = cls(**{**settings, "device": "cpu"})
        out.size_, out.mean_, out.scale_ = record["size"], record["mean"], record["scale"]
        reach = math.inf if record["threshold"] is None else record["threshold"]
        out.region_ = PictureRegion(arrays["middle"], arrays["axes"], reach, _FALSE_ALARMS)
        out.average_ = arrays["average"]
        plan = out._plan()
        out._networks = {}
        for name in [*out.branches, *(["joined"] if len(out.branches) > 1 else [])]:
            network = plan.network([name] if name != "joined" else out.branches)
            own = f"{name}."
            found = {key.removeprefix(own): torch.as_tensor(value) for key, value in arrays.items() if key.startswith(own)}
            network.load_state_dict(found)
            out._networks[name] = network.eval()
        if "scores" in arrays:
            out.scores_ = arrays["scores"]
        return out

    def save(self, path: Any) -> None:
        """Write to one file of arrays and JSON (npz), whole or not at all."""
        write_packed(path, self, _FORMAT, *self.to_state())

    @classmethod
    def load(cls, path: Any) -> Self:
        """The regressor that `save` wrote; nothing in the file is run.

        Raises
        ------
        FormatError
            Another kind of file, or of a newer format.
        """
        return cls.from_state(*read_packed(path, _FORMAT, "saved regressor of pictures"))
