"""Encoders and decoders of Koopman models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

__all__ = ["Coder", "begin_at_unit_variance", "convolutional", "perceptron"]

_CHANNELS = (16, 32, 64, 128, 256)


class Coder(nn.Module):
    """Flat states to latent ones and back; Gaussian latents have a log variance each.

    Parameters
    ----------
    encoder, decoder : nn.Module
        From (n, d) to (n, m), or (n, 2 m) for Gaussian latents, and from (n, m) to (n, d).
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent_dim: int, *, gaussian: bool) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent_dim, self.gaussian = encoder, decoder, latent_dim, gaussian

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latent states, or their means."""
        return self.encoder(x)[..., : self.latent_dim]

    def drawn(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latent states drawn, their means and their log variances."""
        mean, log_variance = self.encoder(x).split(self.latent_dim, dim=-1)
        log_variance = log_variance.clamp(-12.0, 4.0)
        return mean + (log_variance / 2).exp() * torch.randn_like(mean), mean, log_variance


def perceptron(dimension: int, latent_dim: int, hidden: Sequence[int], *, gaussian: bool) -> Coder:
    """Layers of hidden units both ways, with SiLU between them."""

    def layers(sizes: list[int]) -> nn.Sequential:
        parts: list[nn.Module] = []
        for before, after in pairwise(sizes):
            parts += [nn.Linear(before, after), nn.SiLU()]
        return nn.Sequential(*parts[:-1])

    there = layers([dimension, *hidden, latent_dim * (2 if gaussian else 1)])
    return Coder(there, layers([latent_dim, *reversed(hidden), dimension]), latent_dim, gaussian=gaussian)


def convolutional(shape: tuple[int, int, int], latent_dim: int, width: float, *, gaussian: bool) -> Coder:
    """Five convolutions, halving the size after each of the first four, and a linear map; mirrored, with refinement, back.

    Parameters
    ----------
    shape : tuple of int
        Channels, height, width of a state; height and width divisible by 16.
    latent_dim : int
    width : float
        Of the channels 16, 32, 64, 128, 256.
    gaussian : bool
    """
    channels = [max(1, round(width * one)) for one in _CHANNELS]
    low = (shape[1] // 16, shape[2] // 16)
    flat = channels[-1] * low[0] * low[1]
    there: list[nn.Module] = [nn.Unflatten(1, shape)]
    for i, (before, after, kernel) in enumerate(zip([shape[0], *channels], channels, (7, 5, 3, 3, 3), strict=False)):
        there += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.ReLU()]
        if i < 4:
            there.append(nn.AvgPool2d(2))
    there += [nn.Flatten(), nn.Linear(flat, latent_dim * (2 if gaussian else 1))]
    back: list[nn.Module] = [nn.Linear(latent_dim, flat), nn.Unflatten(1, (channels[-1], *low))]
    for before, after in zip(channels[:0:-1], channels[-2::-1], strict=True):
        up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        back += [up, nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    refine = max(1, round(width * 64)), max(1, round(width * 32))
    back += [nn.Conv2d(channels[0], refine[0], 1), nn.ReLU(), nn.Conv2d(refine[0], refine[1], 1), nn.ReLU()]
    back += [nn.Conv2d(refine[1], shape[0], 1), nn.Flatten()]
    encoder: Any = nn.Sequential(*there)
    decoder: Any = nn.Sequential(*back)
    # Channels last halves the time of a step on a processor; the numbers are the same.
    for one in (encoder, decoder):
        one.to(memory_format=torch.channels_last)
    return Coder(_Rows(encoder), _Rows(decoder), latent_dim, gaussian=gaussian)


def begin_at_unit_variance(coder: Coder, rows: torch.Tensor) -> None:
    """Scale the last layer of the encoder, a linear one, so that latent states of these rows have mean 0 and variance 1.

    The entropy of their spread knows no scale. Where they hardly differ at first, as behind five convolutions, its slope is all
    that training follows: they fill every direction and tell nothing of the state. Initial values from data are those of
    Salimans and Kingma, arXiv 1602.07868, section 3.
    """
    last = [one for one in coder.encoder.modules() if isinstance(one, nn.Linear)][-1]
    m = coder.latent_dim
    with torch.no_grad():
        z = coder.encode(rows).reshape(-1, m)
        spread = z.std(dim=0).clamp(min=torch.finfo(z.dtype).tiny)
        last.weight[:m] /= spread[:, None]
        last.bias[:m] = (last.bias[:m] - z.mean(dim=0)) / spread


class _Rows(nn.Module):
    """Takes rows of any leading shape to a network that takes a batch."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
