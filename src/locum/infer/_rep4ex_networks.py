"""Autoencoders whose code has a mean that is linear in the action, and their training. Imports torch: import it when used.

Every network gives ``encode(x)``, the code of shape (n, d), and ``forward(x)``, the code and the loss of the autoencoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from locum.nets import History, train

__all__ = ["codes", "convolutional", "dense", "fit", "moment_penalty", "reconstruction_r2", "variational"]

_Array = NDArray[np.float64]
_LEAK = 0.2
_JITTER = 1e-4  # of the code's variance, so that a code that collapses for a batch can still be whitened
_ROWS = 4096  # in one pass without gradients


# ---------------------------------------------------------------------- networks
class Autoencoder(nn.Module):
    """A code, and what is decoded from it."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encoder(x)
        return code, functional.mse_loss(self.decoder(code), x)


class Variational(nn.Module):
    """Mean and log variance of a code, which is drawn for the decoder."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, weight: float) -> None:
        super().__init__()
        self.encoder, self.decoder, self.weight = encoder, decoder, weight

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).chunk(2, dim=1)[0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        drawn = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1).mean() / 2
        return mean, functional.mse_loss(self.decoder(drawn), x) + self.weight * divergence


def _chain(sizes: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.LeakyReLU(_LEAK)]
    return layers[:-1]


def dense(shape: tuple[int, ...], latent_dim: int, widths: tuple[int, ...]) -> Autoencoder:
    p = math.prod(shape)
    encoder = nn.Sequential(nn.Flatten(), *_chain([p, *widths, latent_dim]))
    decoder = nn.Sequential(*_chain([latent_dim, *reversed(widths), p]), nn.Unflatten(1, shape))
    return Autoencoder(encoder, decoder)


def convolutional(shape: tuple[int, ...], latent_dim: int, channels: tuple[int, ...]) -> Autoencoder:
    sides = [shape[1:]]
    for _ in channels:
        sides.append(tuple((side + 1) // 2 for side in sides[-1]))
    flat = (channels[-1], *sides[-1])
    down: list[nn.Module] = []
    for before, after in pairwise([shape[0], *channels]):
        down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.LeakyReLU(_LEAK)]
    up: list[nn.Module] = [nn.Linear(latent_dim, math.prod(flat)), nn.LeakyReLU(_LEAK), nn.Unflatten(1, flat)]
    for (before, after), size in zip(pairwise([*reversed(channels), shape[0]]), reversed(sides[:-1]), strict=True):
        up += [nn.Upsample(size=size), nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(_LEAK)]
    encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(math.prod(flat), latent_dim))
    return Autoencoder(encoder, nn.Sequential(*up[:-1]))


def variational(
    build: Callable[[int], Autoencoder], shape: tuple[int, ...], latent_dim: int, noise_variance: float
) -> Variational:
    """The encoder of one network and the decoder of another, since the encoder gives two numbers for each of the code."""
    weight = 2.0 * noise_variance / math.prod(shape)  # makes the loss the negative bound times twice the variance per input
    return Variational(build(2 * latent_dim).encoder, build(latent_dim).decoder, weight)


# ---------------------------------------------------------------------- the loss
def moment_penalty(code: Tensor, actions: Tensor, features: Tensor) -> Tensor:
    """V-statistic of E[r' r̃ k(a, ã)], r the residual of the whitened code of shape (n, d) after least squares on the actions.

    Parameters
    ----------
    code : Tensor of shape (n, d)
    actions : Tensor of shape (n, 1 + k)
        With a column of ones.
    features : Tensor of shape (n, m)
        Whose inner products are the kernel.
    """
    n, d = code.shape
    centred = code - code.mean(dim=0)
    covariance = centred.T @ centred / n
    ridge = _JITTER * covariance.diagonal().mean().clamp_min(1e-8) * torch.eye(d, dtype=code.dtype, device=code.device)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance + ridge), centred.T, upper=False).T
    residual = white - actions @ torch.linalg.solve(actions.T @ actions, actions.T @ white)
    return (features.T @ residual / n).square().sum()


def fit(
    network: nn.Module, x: _Array, actions: _Array, features: _Array, *, lam: float, epochs: int, batch_size: int,
    learning_rate: float, random_state: int, device: Any,
) -> History:  # fmt: skip
    """Train a network in place: its own loss plus `lam` times the moment penalty."""
    n = len(x)
    size = math.ceil(n / max(1, round(n / batch_size)))  # batches of one size, since a small last one is noise

    def loss(module: nn.Module, rows: Tensor, a: Tensor, f: Tensor) -> Tensor:
        code, own = module(rows)
        return own + lam * moment_penalty(code, a, f) if lam else own

    tensors = [torch.as_tensor(np.ascontiguousarray(part), dtype=torch.float32) for part in (x, actions, features)]
    return train(
        network, loss, tensors, epochs=epochs, batch_size=size, device=device, random_state=random_state,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=learning_rate),
        schedule=lambda steps: torch.optim.lr_scheduler.CosineAnnealingLR(steps, epochs),
    )  # fmt: skip


# ---------------------------------------------------------------------- what it gives
def _passes(network: nn.Module, x: _Array, give: Callable[[Tensor], Tensor]) -> _Array:
    device = next(network.parameters()).device
    with torch.no_grad():
        parts = [
            give(torch.as_tensor(np.ascontiguousarray(x[i : i + _ROWS]), dtype=torch.float32, device=device)).cpu().numpy()
            for i in range(0, len(x), _ROWS)
        ]
    return np.concatenate(parts).astype(float)


def codes(network: Any, x: _Array) -> _Array:
    """The code of each row, shape (n, d)."""
    return _passes(network, x, network.encode)


def reconstruction_r2(network: Any, x: _Array) -> float:
    """Share of the variance of the inputs that the decoder gives back."""
    missed = _passes(network, x, lambda rows: network.decoder(network.encode(rows))) - x
    return float(1.0 - np.square(missed).sum() / np.square(x - x.mean(axis=0)).sum())
