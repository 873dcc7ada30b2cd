"""The loss of a Koopman model on windows of a trajectory, and its training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from locum.emulate._koopman_information import entropy, gaussian_information, neighbour_information, ridge_operator
from locum.emulate._koopman_networks import Coder
from locum.nets.training import History, train

__all__ = ["Koopman", "Weights", "Windows", "fitted", "loss_of", "refitted", "through"]

Tensor = torch.Tensor


@dataclass(frozen=True)
class Weights:
    """What each part of the loss weighs, and how information is measured.

    Attributes
    ----------
    alpha, beta, gamma : float
        Of mutual information, of a latent step that comes true, and of entropy.
    reconstruction : float
        Of giving states back; 1 is that of giving back what comes next.
    rollout : int
        Steps of a free run that is to come true as well; 0 for none.
    information : {"infonce", "infonce-mean", "gaussian"}
    neighbours : int
    temperature : float
    ridge : float
    noise : float
        Variance of a state around what the decoder says, in the variational form.
    """

    alpha: float
    beta: float
    gamma: float
    reconstruction: float
    rollout: int
    information: str
    neighbours: int
    temperature: float
    ridge: float
    noise: float


@dataclass(frozen=True)
class Windows:
    """All rows, where windows may begin among them, and how long they are.

    Attributes
    ----------
    rows : Tensor of shape (n, d)
    inputs : Tensor of shape (n, k)
        Of the step that begins at each row; k may be 0.
    starts : Tensor of shape (windows,)
    length : int
    """

    rows: Tensor
    inputs: Tensor
    starts: Tensor
    length: int

    def drawn(self, count: int) -> tuple[Tensor, Tensor]:
        """Windows at random, shape (count, length, d), and their inputs."""
        first = self.starts[torch.randint(len(self.starts), (count,), device=self.starts.device)]
        index = first[:, None] + torch.arange(self.length, device=first.device)
        return self.rows[index], self.inputs[index]


class Koopman(nn.Module):
    """A coder and the linear map between its latent states.

    On a graph the coder works on each node, and the map of a node takes the sums over its neighbours, one for each relation:
    the whole is the sum of Kronecker products of adjacency matrices with maps of one node.

    Parameters
    ----------
    coder : Coder
    adjacency : Tensor of shape (relations, nodes, nodes)
        Of shape (1, 1, 1), holding 1, where there is no graph.
    inputs : int
        External inputs of a step.
    learned : bool
        The map is a parameter; otherwise it is solved for in every batch.
    """

    adjacency: Tensor

    def __init__(self, coder: Coder, adjacency: Tensor, inputs: int, *, learned: bool) -> None:
        super().__init__()
        self.coder, self.inputs = coder, inputs
        self.register_buffer("adjacency", adjacency)
        relations, m = len(adjacency), coder.latent_dim
        begin = torch.cat([torch.eye(m) / relations] * relations + [torch.zeros(inputs, m)])
        self.learned = learned
        self.map = nn.Parameter(begin, requires_grad=learned)
        self.log_noise = nn.Parameter(torch.full((m,), -2.0), requires_grad=coder.gaussian)

    # Inside, states have the shape (..., nodes, features); outside they are flat.
    def nodes(self, flat: Tensor) -> Tensor:
        return flat.reshape(*flat.shape[:-1], self.adjacency.shape[1], -1)

    def encode(self, x: Tensor) -> Tensor:
        return self.coder.encode(self.nodes(x))

    def decode(self, z: Tensor) -> Tensor:
        return self.coder.decoder(z).flatten(-2)

    def features(self, z: Tensor, u: Tensor) -> Tensor:
        """What the map of a node takes, shape (..., nodes, relations m + k)."""
        around = torch.einsum("rij,...jm->...irm", self.adjacency, z).flatten(-2)
        return torch.cat([around, u[..., None, :].expand(*around.shape[:-1], -1)], dim=-1)

    def solved(self, features: Tensor, after: Tensor, ridge: float) -> Tensor:
        """The map by least squares."""
        return ridge_operator(features.reshape(-1, features.shape[-1]), after.reshape(-1, after.shape[-1]), ridge)

    def whole(self, map_: Tensor) -> Tensor:
        """K of flat latent states, from the left, shape (nodes m, nodes m)."""
        m = map_.shape[1]
        blocks = [torch.kron(one, map_[r * m : (r + 1) * m].T.contiguous()) for r, one in enumerate(self.adjacency)]
        return torch.stack(blocks).sum(dim=0)


def loss_of(model: Koopman, weights: Weights, x: Tensor, u: Tensor) -> Tensor:
    """What is minimised on windows x (b, T, d) with inputs u (b, T, k)."""
    if model.coder.gaussian:
        z, mean, log_variance = model.coder.drawn(model.nodes(x))
    else:
        z = model.encode(x)
    features, after = model.features(z[:, :-1], u[:, :-1]), z[:, 1:]
    map_ = model.map if model.learned else model.solved(features, after, weights.ridge)
    foretold = features @ map_
    if model.coder.gaussian:
        total = _variational(model, weights, x, z, (mean, log_variance), foretold)
    else:
        back = weights.reconstruction * (model.decode(z) - x).square().mean()
        total = back + (model.decode(foretold) - x[:, 1:]).square().mean()
        total = total + weights.beta * (foretold - after).square().mean()
    if weights.rollout:
        total = total + _free(model, map_, z[:, 0], x, u, weights.rollout)
    if weights.alpha:
        total = total - weights.alpha * _information(model, weights, z.flatten(-2), map_)
    if weights.gamma:
        total = total - weights.gamma * entropy(z.flatten(-2).flatten(0, -2))
    return total


def _variational(
    model: Koopman, weights: Weights, x: Tensor, z: Tensor, told: tuple[Tensor, Tensor], foretold: Tensor
) -> Tensor:
    """Less the evidence of each state and of its latent step."""
    mean, log_variance = told
    seen = (model.decode(z) - x).square().sum(dim=-1) / (2 * weights.noise)
    prior = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=(-2, -1))
    spread = model.log_noise
    step = -0.5 * ((z[:, 1:] - foretold).square() / spread.exp() + spread + math.log(2 * math.pi)).sum(dim=(-2, -1))
    own = 0.5 * (log_variance[:, 1:] + 1 + math.log(2 * math.pi)).sum(dim=(-2, -1))
    evidence = seen[:, 1:].mean() + seen[:, :-1].mean() + prior[:, :-1].mean()
    return evidence - weights.beta * (step + own).mean()


def _free(model: Koopman, map_: Tensor, z: Tensor, x: Tensor, u: Tensor, steps: int) -> Tensor:
    errors = []
    for t in range(1, steps + 1):
        z = model.features(z, u[:, t - 1]) @ map_
        errors.append((model.decode(z) - x[:, t]).square().mean())
    return torch.stack(errors).mean()


def _information(model: Koopman, weights: Weights, z: Tensor, map_: Tensor) -> Tensor:
    if weights.information == "gaussian":
        return gaussian_information(z[:, :-1].flatten(0, 1), z[:, 1:].flatten(0, 1), model.whole(map_))
    pooled = weights.information == "infonce"
    return neighbour_information(z, weights.neighbours, weights.temperature, pooled=pooled)


def fitted(
    model: Koopman,
    windows: Windows,
    weights: Weights,
    *,
    updates: int,
    updates_per_epoch: int,
    batch_size: int,
    lr: tuple[float, float],
    clip: float | None,
    device: Any,
    checkpoint: Any,
    random_state: int,
    progress: Callable[[int, int, str], None] | None,
) -> History:
    """Train in place, on windows drawn anew for each batch; learning rates fall geometrically."""
    epochs = max(1, -(-updates // updates_per_epoch))
    held = Windows(windows.rows.to(device), windows.inputs.to(device), windows.starts.to(device), windows.length)

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        return loss_of(module, weights, *held.drawn(len(batch)))  # type: ignore[arg-type]

    return train(
        model, loss, [torch.zeros(updates_per_epoch * batch_size)], epochs=epochs, batch_size=batch_size,
        optimizer=lambda parameters: torch.optim.Adam([one for one in parameters if one.requires_grad], lr=lr[0]),
        schedule=lambda made: torch.optim.lr_scheduler.ExponentialLR(made, (lr[1] / lr[0]) ** (1 / epochs)),
        clip=clip, device=device, checkpoint=checkpoint, random_state=random_state, progress=progress,
    )  # fmt: skip


def refitted(model: Koopman, windows: Windows, ridge: float, chunk: int = 4096) -> Tensor:
    """The map by least squares over all steps of the data, with the coder as it is."""
    device = next(model.parameters()).device
    steps = windows.starts
    parts = []
    with torch.no_grad():
        for first in range(0, len(steps), chunk):
            at = steps[first : first + chunk]
            z = model.encode(windows.rows[at].to(device))
            after = model.encode(windows.rows[at + 1].to(device))
            parts.append((model.features(z, windows.inputs[at].to(device)).cpu().double(), after.cpu().double()))
        features, after = (torch.cat(one) for one in zip(*parts, strict=True))
        return model.solved(features, after, ridge)


def through(function: Callable[[Tensor], Tensor], x: NDArray[np.floating[Any]], device: Any, chunk: int = 1024) -> Any:
    """What a network says of rows, many at a time, as float64."""
    with torch.no_grad():
        parts = [
            function(torch.as_tensor(np.ascontiguousarray(x[i : i + chunk]), dtype=torch.float32, device=device)).cpu()
            for i in range(0, max(len(x), 1), chunk)
        ]
    return torch.cat(parts).double().numpy()
