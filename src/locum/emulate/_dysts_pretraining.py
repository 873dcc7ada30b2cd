"""A small causal convolutional autoencoder of series, and how it is trained on windows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.parametrizations import weight_norm

from locum.nets.training import History, seeded, train

__all__ = ["Autoencoder", "encoded", "trained"]

Array = NDArray[np.float64]

_BATCH = 64
_FACTOR = 3  # how much shorter a code is than its series


class _CausalBlock(torch.nn.Module):
    """Two dilated convolutions that see the past alone, beside a plain projection of their input."""

    def __init__(self, inside: int, outside: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.first = weight_norm(torch.nn.Conv1d(inside, outside, 3, dilation=dilation))
        self.second = weight_norm(torch.nn.Conv1d(outside, outside, 3, dilation=dilation))
        self.beside = torch.nn.Conv1d(inside, outside, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        act, pad = torch.nn.functional.leaky_relu, torch.nn.functional.pad
        out = act(self.first(pad(x, (self.pad, 0))))
        return torch.add(act(self.second(pad(out, (self.pad, 0)))), self.beside(x))


class Autoencoder(torch.nn.Module):
    """Series (n, 1, T) to codes (n, 8, T / 3) and back."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.encoder = nn.Sequential(_CausalBlock(1, 16, 2), nn.Conv1d(16, 8, 3, stride=_FACTOR, padding=1))
        self.decoder = nn.Sequential(
            nn.ConvTranspose1d(8, 16, 3), nn.ELU(), nn.ConvTranspose1d(16, 8, 3, stride=_FACTOR, padding=1), nn.ELU(),
            nn.ConvTranspose1d(8, 1, 3),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.decoder(self.encoder(x))
        return found[..., : x.shape[-1]]


def trained(windows: Array, epochs: int, lr: float, random_state: int) -> tuple[Autoencoder, History]:
    """An autoencoder of windows (n, T)."""
    with seeded(random_state):
        net = Autoencoder()

    def loss(net: Autoencoder, x: torch.Tensor) -> torch.Tensor:
        return torch.mean((net(x) - x) ** 2)

    tensor = torch.from_numpy(windows.astype(np.float32))[:, None]
    history = train(
        net, loss, [tensor], epochs=epochs, batch_size=_BATCH, random_state=random_state,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=lr),
    )  # fmt: skip
    return net, history


def encoded(net: Autoencoder, x: Array) -> Array:
    """Codes (n, 8, length) of series (n, T)."""
    with torch.no_grad():
        return np.asarray(net.encoder(torch.from_numpy(x.astype(np.float32))[:, None]).numpy(), dtype=float)
