"""The networks of car-drag: grouped convolutions with attention over all views, one branch for each kind of picture."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from locum.emulate.renderings import mirrored
from locum.nets import History, seeded, train

Array = NDArray[np.floating[Any]]

_ROWS = 256  # pictures that pass a network at once where nothing is learned
_PATCH = 4
_JOINED_RATE = 0.3  # of the learning rate, for branches that have learned alone


# ---------------------------------------------------------------------- modules
class Block(nn.Module):
    """A residual block of ResNeXt: narrow, convolve in groups, widen."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.narrow = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.grouped = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.widen = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape (n, width, rows, columns)."""
        return torch.relu(x + self.widen(self.grouped(self.narrow(x))))


class Attention(nn.Module):
    """Every place of every view looks at all places of all views; its gain begins at nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = max(width // 4, 4)
        self.ask, self.key, self.value = nn.Linear(width, self.inner), nn.Linear(width, self.inner), nn.Linear(width, width)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor, views: int) -> torch.Tensor:
        """Same shape (n times views, width, rows, columns)."""
        many, width, rows, columns = x.shape
        tokens = x.reshape(many // views, views, width, rows * columns).transpose(2, 3).reshape(many // views, -1, width)
        share = torch.softmax(self.ask(tokens) @ self.key(tokens).transpose(1, 2) / math.sqrt(self.inner), dim=-1)
        seen = (share @ self.value(tokens)).reshape(many // views, views, rows * columns, width).transpose(2, 3)
        return x + self.gain * seen.reshape(x.shape)


class Branch(nn.Module):
    """Features of one kind of picture, shape (n, views times width), from (n, views, channels, size, size)."""

    def __init__(self, views: int, channels: int, size: int, width: int, attends: bool) -> None:
        super().__init__()
        side = size // _PATCH
        widths = (width, 2 * width, 3 * width)
        self.views, self.out = views, views * widths[-1]
        self.stem = nn.Conv2d(channels, width, _PATCH, stride=_PATCH)
        self.place = nn.Parameter(torch.zeros(views, width, side, side))  # cars are aligned, so that places have a meaning
        self.blocks = nn.ModuleList(Block(one, max(one // 8, 1)) for one in widths)
        self.shrink = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 2, stride=2, bias=False), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairwise(widths)
        )
        self.attention = Attention(widths[-1]) if attends else None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures as numbers in [0, 1]."""
        n, views = images.shape[:2]
        x = self.stem(2 * images.flatten(0, 1) - 1).contiguous(memory_format=torch.channels_last)
        x = x + self.place.repeat(n, 1, 1, 1)
        x = self.blocks[0](x)
        x = self.shrink[1](self.blocks[1](self.shrink[0](x)))
        if self.attention is not None:
            x = self.attention(x, views)
        return self.blocks[2](x).mean(dim=(2, 3)).reshape(n, -1)


class DragNetwork(nn.Module):
    """Branches side by side, and a perceptron from their features to one number.

    Parameters
    ----------
    branches : dict of str to Branch
    places : dict of str to slice
        Of the channels that a branch reads.
    hidden : int
        Units of the perceptron for each branch.
    """

    def __init__(self, branches: Mapping[str, Branch], places: Mapping[str, slice], hidden: int) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        self.places = dict(places)
        features, hidden = sum(one.out for one in branches.values()), hidden * len(branches)
        self.head = nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Standardised drag (n,) from (n, views, channels, size, size)."""
        seen = [branch(images[:, :, self.places[name]]) for name, branch in self.branches.items()]
        return self.head(torch.cat(seen, dim=1))[:, 0]


@dataclass(frozen=True)
class Plan:
    """What all networks of one stand-in have alike.

    Attributes
    ----------
    branches : sequence of str
    places : dict of str to slice
    views : sequence of str
    channels : sequence of str
    size, width, hidden : int
    attends : bool
    """

    branches: Sequence[str]
    places: Mapping[str, slice]
    views: Sequence[str]
    channels: Sequence[str]
    size: int
    width: int
    hidden: int
    attends: bool

    def network(self, names: Sequence[str]) -> DragNetwork:
        """A network of some branches."""
        made = {}
        for name in names:
            place = self.places[name]
            made[name] = Branch(len(self.views), place.stop - place.start, self.size, self.width, self.attends)
        return DragNetwork(made, {name: self.places[name] for name in names}, self.hidden)


@dataclass(frozen=True)
class Recipe:
    """How a network learns."""

    epochs: int
    batch_size: int
    lr: float
    patience: int
    mirror: bool
    device: str
    random_state: int


# ---------------------------------------------------------------------- learning
def fitted(
    plan: Plan, recipe: Recipe, images: NDArray[Any], answers: Array, held_images: NDArray[Any], held_answers: Array,
    joined_epochs: int, progress: Callable[[int, int, str], None] | None,
) -> tuple[dict[str, DragNetwork], dict[str, History]]:  # fmt: skip
    """Each branch alone, and all of them joined where there are several, with what training did."""
    networks, histories = {}, {}
    tensors = [_tensor(one) for one in (images, answers)]
    held = [_tensor(one).to(recipe.device) for one in (held_images, held_answers)]
    for i, name in enumerate(plan.branches):
        with seeded(recipe.random_state + 10 * i):
            networks[name] = plan.network([name])
        seed = recipe.random_state + 10 * i
        histories[name] = _learn(networks[name], plan, recipe, tensors, held, recipe.epochs, recipe.lr, seed, progress)
    if len(plan.branches) > 1:
        seed = recipe.random_state + 1000
        with seeded(seed):
            joined = plan.network(plan.branches).to(recipe.device)
        for name in plan.branches:
            joined.branches[name] = copy.deepcopy(networks[name].branches[name])
        _add_heads(joined, networks)
        rate = recipe.lr * _JOINED_RATE
        histories["joined"] = _learn(joined, plan, recipe, tensors, held, joined_epochs, rate, seed, progress)
        networks["joined"] = joined
    return networks, histories


def _add_heads(joined: DragNetwork, alone: Mapping[str, DragNetwork]) -> None:
    """Let the joined head begin at the mean of what the branches said alone."""
    head: Any = joined.head
    first, _, last = head
    with torch.no_grad():
        first.weight.zero_()
        last.bias.zero_()
        row, column = 0, 0
        for network in alone.values():
            alone_head: Any = network.head
            own, _, readout = alone_head
            rows, columns = slice(row, row + own.out_features), slice(column, column + own.in_features)
            first.weight[rows, columns], first.bias[rows] = own.weight, own.bias
            last.weight[0, rows] = readout.weight[0] / len(alone)
            last.bias += readout.bias / len(alone)
            row, column = rows.stop, columns.stop


def _learn(
    network: DragNetwork, plan: Plan, recipe: Recipe, tensors: Sequence[torch.Tensor], held: Sequence[torch.Tensor],
    epochs: int, rate: float, seed: int, progress: Callable[[int, int, str], None] | None,
) -> History:  # fmt: skip
    def loss(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if recipe.mirror and module.training:
            turned = torch.rand(len(x), device=x.device) < 0.5
            x = torch.where(turned[:, None, None, None, None], mirrored(x, plan.views, plan.channels), x)
        return nn.functional.mse_loss(module(as_numbers(x)), y)

    def validate(module: nn.Module) -> float:
        said = torch.cat([module(as_numbers(part)) for part in held[0].split(_ROWS)])
        return float(nn.functional.mse_loss(said, held[1]))

    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return train(
        network, loss, tensors, epochs=epochs, batch_size=recipe.batch_size,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01),
        schedule=lambda steps: torch.optim.lr_scheduler.LambdaLR(steps, lambda epoch: _rate(epoch, epochs)),
        validate=validate, patience=recipe.patience, clip=1.0, device=recipe.device, random_state=seed, progress=progress,
    )  # fmt: skip


def _rate(epoch: int, epochs: int) -> float:
    """Share of the learning rate: a rise over a tenth of the epochs, and half a cosine down."""
    rise = max(epochs // 10, 1)
    if epoch < rise:
        return (epoch + 1) / (rise + 1)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (epoch - rise) / max(epochs - rise, 1)))


def as_numbers(images: torch.Tensor) -> torch.Tensor:
    """Bytes as numbers in [0, 1]; numbers as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    wanted = array if array.dtype == np.uint8 else array.astype(np.float32, copy=False)
    return torch.from_numpy(np.ascontiguousarray(wanted))


# ---------------------------------------------------------------------- use
def answers(network: DragNetwork, images: NDArray[Any], device: str) -> Array:
    """Standardised drag of pictures, shape (n,)."""
    with torch.no_grad():
        parts = [
            network(as_numbers(_tensor(images[i : i + _ROWS]).to(device))).cpu().numpy() for i in range(0, len(images), _ROWS)
        ]
    return np.concatenate(parts).astype(float)


def integrated_gradients(
    network: DragNetwork, images: NDArray[Any], baseline: NDArray[Any], steps: int, device: str
) -> tuple[Array, float]:
    """What each number of a picture (views, channels, size, size) adds to the answer, and the answer's change in all.

    The path from the baseline is straight, and the middles of its steps are looked at.
    """
    end, begin = (as_numbers(_tensor(one).to(device)) for one in (images, baseline))
    total = torch.zeros_like(end, dtype=torch.float64)
    shares = (torch.arange(steps, device=device) + 0.5) / steps
    for some in shares.split(32):
        at = (begin + some[:, None, None, None, None] * (end - begin)).requires_grad_(True)
        (slope,) = torch.autograd.grad(network(at).sum(), at)
        total += slope.double().sum(dim=0)
    with torch.no_grad():
        change = network(end[None]) - network(begin[None])
    return ((end - begin).double() * total / steps).cpu().numpy(), float(change[0])
