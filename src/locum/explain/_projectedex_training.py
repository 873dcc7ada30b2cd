"""How the style explainer is trained: two optimisers in turn, and checkpoints that resume to the same numbers."""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from locum.core.errors import FormatError
from locum.explain import _projectedex_losses as losses
from locum.explain._projectedex_networks import (
    Discriminator,
    FeaturePyramid,
    Generator,
    PlainEncoder,
    ProjectedDiscriminator,
    PyramidEncoder,
    sized,
)
from locum.explain._projectedex_networks import Mapping as StyleMapping
from locum.nets import TrainingFailed, seeded
from locum.nets.checkpoint import draw_on, drawn, read_checkpoint, write_whole

__all__ = ["Frozen", "Networks", "Plan", "Shape", "train_style"]

_FORMAT = 1
_FILE = "projectedex.pt"
_LOOK = 25  # steps between looks at the losses, since reading one off a GPU waits for it
_RATIO = 1.5  # learning rate of the discriminator to that of the others
_BETAS = (0.5, 0.9)
_PENALTY, _PENALTY_EVERY = 10.0, 4
_PATH_EVERY, _PATH_DECAY = 32, 0.99
NAMES = ("discriminator", "adversarial", "reconstruction", "class divergence")


@dataclass(frozen=True)
class Shape:
    """What the networks look like."""

    image_size: int
    channels: int
    encoder: str
    encoder_size: int | None
    encoder_width: int
    discriminator: str
    attention: bool
    capacity: int
    latent: int
    mapping_layers: int
    classes: int  # how many logits follow the code in w


@dataclass(frozen=True)
class Plan:
    """How they are trained."""

    steps: int
    batch_size: int
    accumulate: int
    learning_rate: float
    ema: float
    augment: float
    path_after: int
    w_perceptual: float
    w_latent: float
    w_pixel: float
    w_kl: float
    w_adversarial: float
    random_state: int


@dataclass(frozen=True)
class Frozen:
    """What is used and never trained.

    Parameters
    ----------
    logits : callable
        Images to the two logits, with gradients.
    center, scale : Tensor of shape (2,)
        With which logits are standardised.
    pyramid : FeaturePyramid
    """

    logits: Callable[[Tensor], Tensor]
    center: Tensor
    scale: Tensor
    pyramid: FeaturePyramid

    def standardised(self, images: Tensor) -> Tensor:
        return (self.logits(images) - self.center) / self.scale


class Networks(nn.Module):
    """All that is trained, and the moving averages of generator and mapping, which are what is used afterwards."""

    def __init__(self, shape: Shape, levels: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.latent, self.classes = shape.latent, shape.classes
        self.width = shape.latent + shape.classes
        self.encoder = _encoder(shape, levels)
        self.mapping = StyleMapping(self.width, shape.mapping_layers)
        self.generator = Generator(shape.image_size, shape.channels, shape.capacity, self.width)
        self.discriminator = _discriminator(shape, levels)
        self.steady_mapping = copy.deepcopy(self.mapping).requires_grad_(False)
        self.steady_generator = copy.deepcopy(self.generator).requires_grad_(False)

    def w(self, code: Tensor, logits: Tensor) -> Tensor:
        """The style: a code, and the classifier's standardised logits behind it."""
        return torch.cat([code, logits], dim=1) if self.classes else code


def _encoder(shape: Shape, levels: Sequence[tuple[int, int]]) -> nn.Module:
    def make(width: int) -> nn.Module:
        if shape.encoder == "pyramid":
            return PyramidEncoder(levels, shape.latent, width)
        return PlainEncoder(shape.channels, shape.image_size, shape.latent, width)

    return make(shape.encoder_width) if shape.encoder_size is None else sized(make, shape.encoder_size)


def _discriminator(shape: Shape, levels: Sequence[tuple[int, int]]) -> nn.Module:
    if shape.discriminator == "projected":
        return ProjectedDiscriminator(levels, 4 * shape.capacity)
    return Discriminator(shape.image_size, shape.channels, shape.capacity, attention=shape.attention)


def train_style(
    networks: Networks,
    frozen: Frozen,
    images: NDArray[np.float32],
    classes: NDArray[Any],
    plan: Plan,
    *,
    device: torch.device,
    checkpoint: Path | None,
    every: int,
    resume: bool,
    progress: Callable[[int, int, str], None] | None,
) -> dict[str, tuple[float, ...]]:
    """Train in place; mean losses of every `_LOOK` steps, by name.

    Raises
    ------
    TrainingFailed
        A loss that is not finite; the last checkpoint is left as it is.
    FormatError
        A checkpoint of other settings or images, or that is none.
    """
    with seeded(plan.random_state, device=device):
        networks.to(device).train()
        loop = _Loop(networks, frozen, images, classes, plan, device)
        file = None if checkpoint is None else _Checkpoint(checkpoint, loop, images)
        if file is not None and resume and file.path.exists():
            file.read()
        while loop.step < plan.steps:
            loop.advance()
            last = loop.step == plan.steps
            if loop.step % _LOOK == 0 or last:
                loop.look()
                if progress is not None:
                    progress(loop.step, plan.steps, loop.words())
            if file is not None and (loop.step % every == 0 or last):
                loop.look()
                file.write()
        networks.eval()
    return {name: tuple(values) for name, values in loop.history.items()}


class _Loop:
    """The state of a training, and one step of it."""

    def __init__(
        self, networks: Networks, frozen: Frozen, images: NDArray[np.float32], classes: NDArray[Any], plan: Plan,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.networks, self.frozen, self.plan, self.device = networks, frozen, plan, device
        self._images = images
        self._rows = [np.flatnonzero(classes == c) for c in np.unique(classes)]
        painters = (networks.encoder, networks.mapping, networks.generator)
        trained = [one for part in painters for one in part.parameters() if one.requires_grad]
        self._judged = [one for one in networks.discriminator.parameters() if one.requires_grad]
        self.painting = torch.optim.Adam(trained, lr=plan.learning_rate, betas=_BETAS)
        self.judging = torch.optim.Adam(self._judged, lr=_RATIO * plan.learning_rate, betas=_BETAS)
        self.step = 0
        self.mean_path = torch.zeros((), device=device)
        self.sums = torch.zeros(len(NAMES), 2, device=device)
        self.history: dict[str, list[float]] = {name: [] for name in NAMES}

    @property
    def adversarial(self) -> bool:
        return self.plan.w_adversarial > 0

    # ------------------------------------------------------------------ one step
    def advance(self) -> None:
        """A step of each optimiser, on encoded images and on noise in turn."""
        encoded = self.step % 2 == 0 or not self.adversarial
        self.judging.zero_grad(set_to_none=True)
        batches = [self._batch() for _ in range(self.plan.accumulate)]
        if self.adversarial:
            for images in batches:
                (self._judge(images, encoded) / self.plan.accumulate).backward()
            self.judging.step()
        self.painting.zero_grad(set_to_none=True)
        self._judging_learns(False)
        for images in batches:
            (self._paint(images, encoded) / self.plan.accumulate).backward()
        self._judging_learns(True)
        self.painting.step()
        self.step += 1
        self._average()

    def _judging_learns(self, learns: bool) -> None:
        for one in self._judged:
            one.requires_grad_(learns)

    def _judge(self, images: Tensor, encoded: bool) -> Tensor:
        """Loss of the discriminator."""
        plan, judge = self.plan, self.networks.discriminator
        with torch.no_grad():
            w = self._encode(images, self._maps(images))[0] if encoded else self._mapped(len(images))
            fake = losses.augmented(self.networks.generator(w, self._noise(len(images))), plan.augment)
        real = losses.augmented(images, plan.augment)
        penalise = bool(judge.penalised) and self.step % _PENALTY_EVERY == 0
        real = real.detach().requires_grad_(penalise)
        scores = judge(real, self._judged_maps(real))
        loss = losses.hinge(scores, judge(fake, self._judged_maps(fake)))
        self._note("discriminator", loss)
        return loss + _PENALTY * losses.gradient_penalty(real, scores) if penalise else loss

    def _paint(self, images: Tensor, encoded: bool) -> Tensor:
        """Loss of encoder, mapping and generator."""
        plan, nets = self.plan, self.networks
        maps = self._maps(images) if encoded else None
        w, code = self._encode(images, maps) if encoded else (self._mapped(len(images)), None)
        painted = nets.generator(w, self._noise(len(images)))
        loss = torch.zeros((), device=self.device)
        if self.adversarial:
            seen = losses.augmented(painted, plan.augment)
            loss = -plan.w_adversarial * nets.discriminator(seen, self._judged_maps(seen)).mean()
            self._note("adversarial", loss)
        if encoded:
            # Twice, since every other batch has none of it.
            loss = loss + (2 if self.adversarial else 1) * self._likeness(images, maps, code, painted)
        due = self.step > plan.path_after and self.step % _PATH_EVERY == 0
        return loss + self._path(painted, w) if due and self.adversarial else loss

    def _likeness(self, images: Tensor, maps: Any, code: Any, painted: Tensor) -> Tensor:
        """How far reconstructions are from the images, to the eye and to the classifier."""
        plan = self.plan
        reads = plan.w_perceptual > 0 or (plan.w_latent > 0 and self._needs_maps)
        again = self.frozen.pyramid(painted) if reads else None
        apart = plan.w_pixel * (images - painted).abs().mean()
        if plan.w_perceptual > 0:
            apart = apart + plan.w_perceptual * losses.perceptual_distance(maps, again).mean()  # type: ignore[arg-type]
        if plan.w_latent > 0:
            apart = apart + plan.w_latent * (self.networks.encoder(painted, again) - code).abs().mean()
        self._note("reconstruction", apart)
        if plan.w_kl <= 0:
            return apart
        with torch.no_grad():
            answers = self.frozen.logits(images)
        gap = losses.class_divergence(answers, self.frozen.logits(painted))
        self._note("class divergence", gap)
        return apart + plan.w_kl * gap

    def _path(self, painted: Tensor, w: Tensor) -> Tensor:
        """Penalty on steps of w that move images unevenly far."""
        lengths = losses.path_lengths(painted, w)
        mean = lengths.detach().mean()
        started = bool(self.mean_path > 0)
        penalty = (lengths - self.mean_path).square().mean() if started else 0 * lengths.mean()
        self.mean_path = _PATH_DECAY * self.mean_path + (1 - _PATH_DECAY) * mean if started else mean
        return penalty

    # ------------------------------------------------------------------ its parts
    @property
    def _needs_maps(self) -> bool:
        return isinstance(self.networks.encoder, PyramidEncoder)

    def _batch(self) -> Tensor:
        """Images, as many of each class as of the other."""
        share = -(-self.plan.batch_size // len(self._rows))
        drawn = [rows[torch.randint(len(rows), (share,)).numpy()] for rows in self._rows]
        chosen = np.concatenate(drawn)[torch.randperm(share * len(drawn)).numpy()[: self.plan.batch_size]]
        return torch.from_numpy(np.ascontiguousarray(self._images[chosen])).to(self.device)

    def _maps(self, images: Tensor) -> Any:
        reads = self._needs_maps or self.plan.w_perceptual > 0
        with torch.no_grad():
            return self.frozen.pyramid(images) if reads else None

    def _judged_maps(self, images: Tensor) -> Any:
        return self.frozen.pyramid(images) if isinstance(self.networks.discriminator, ProjectedDiscriminator) else None

    def _encode(self, images: Tensor, maps: Any) -> tuple[Tensor, Tensor]:
        code = self.networks.encoder(images, maps)
        with torch.no_grad():
            logits = self.frozen.standardised(images)
        return self.networks.w(code, logits), code

    def _mapped(self, n: int) -> Tensor:
        return self.networks.mapping(torch.randn(n, self.networks.width, device=self.device))

    def _noise(self, n: int) -> Tensor:
        side = self._images.shape[-1]
        return torch.rand(n, 1, side, side, device=self.device)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.plan.ema, (1 + self.step) / (10 + self.step))  # the first weights are soon forgotten
        nets = self.networks
        for steady, live in ((nets.steady_generator, nets.generator), (nets.steady_mapping, nets.mapping)):
            for old, new in zip(steady.parameters(), live.parameters(), strict=True):
                old.lerp_(new, 1 - decay)

    # ------------------------------------------------------------------ what is told
    def _note(self, name: str, loss: Tensor) -> None:
        self.sums[NAMES.index(name)] += torch.stack([loss.detach(), torch.ones_like(loss)])

    def look(self) -> None:
        """Move the sums of losses into the history, or stop where one is not finite."""
        for name, (total, count) in zip(NAMES, self.sums.tolist(), strict=True):
            if not math.isfinite(total):
                raise TrainingFailed(
                    f"the loss of the {name} is no longer finite after step {self.step}; the last checkpoint is kept: go on "
                    "from it with a smaller learning_rate=, or look at what the classifier answers"
                )
            if count:
                self.history[name].append(total / count)
        self.sums.zero_()

    def words(self) -> str:
        return ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items() if values)


# ---------------------------------------------------------------------- checkpoints
class _Checkpoint:
    """A file that holds all it takes to go on, as tensors and plain values: nothing in it is code."""

    def __init__(self, folder: Path, loop: _Loop, images: NDArray[np.float32]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self._loop = folder / _FILE, loop
        self._settings = {name: value for name, value in asdict(loop.plan).items() if name != "steps"}
        layout = repr([(name, tuple(value.shape)) for name, value in loop.networks.state_dict().items()])
        self._settings |= {"images": zlib.crc32(np.ascontiguousarray(images).data), "number of images": len(images)}
        self._settings |= {"layout of the networks": zlib.crc32(layout.encode())}

    def write(self) -> None:
        loop = self._loop
        record = {
            "format": _FORMAT,
            "settings": self._settings,
            "networks": loop.networks.state_dict(),
            "painting": loop.painting.state_dict(),
            "judging": loop.judging.state_dict(),
            "step": loop.step,
            "mean_path": loop.mean_path,
            "history": loop.history,
        }
        write_whole(self.path, record | drawn(loop.device))

    def read(self) -> None:
        loop, path = self._loop, self.path
        advice = "give another folder, or resume=False"
        found = read_checkpoint(path, self._settings, version=_FORMAT, device=loop.device, advice=advice)
        if found["step"] > loop.plan.steps:
            done = found["step"]
            raise FormatError(f"{path} is of {done} steps, more than steps={loop.plan.steps}; ask for more, or resume=False")
        loop.networks.load_state_dict(found["networks"])
        loop.painting.load_state_dict(found["painting"])
        loop.judging.load_state_dict(found["judging"])
        loop.step, loop.mean_path, loop.history = found["step"], found["mean_path"], found["history"]
        draw_on(found, loop.device)
