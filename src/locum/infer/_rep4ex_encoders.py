"""Which autoencoder finds the code: sizes and choices as plain values. The networks are made when they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData, need

if TYPE_CHECKING:
    import torch

__all__ = ["ConvolutionalAutoencoder", "DenseAutoencoder", "VariationalAutoencoder", "networks"]


def networks() -> Any:
    """The module with the networks, which needs torch."""
    need("torch", "InterventionExtrapolator", "nets")
    from locum.infer import _rep4ex_networks

    return _rep4ex_networks


@dataclass(frozen=True)
class DenseAutoencoder:
    """Linear layers with leaky rectifiers between them; the decoder is the encoder turned round.

    Parameters
    ----------
    widths : tuple of int, default=(64, 64)
        Of the hidden layers of the encoder.
    """

    widths: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        _require_sizes(self.widths, "widths")

    def build(self, shape: tuple[int, ...], latent_dim: int) -> torch.nn.Module:
        """An untrained network for rows of that shape."""
        return networks().dense(shape, latent_dim, self.widths)


@dataclass(frozen=True)
class ConvolutionalAutoencoder:
    """For images of shape (C, H, W): each layer halves the sides; the decoder is the encoder turned round.

    Parameters
    ----------
    channels : tuple of int, default=(16, 32)
        Of the layers of the encoder.
    """

    channels: tuple[int, ...] = (16, 32)

    def __post_init__(self) -> None:
        _require_sizes(self.channels, "channels")

    def build(self, shape: tuple[int, ...], latent_dim: int) -> torch.nn.Module:
        """An untrained network for images of that shape."""
        if len(shape) != 3:
            raise InvalidData(f"expected images of shape (n, C, H, W) for a convolutional encoder, got rows of shape {shape}")
        return networks().convolutional(shape, latent_dim, self.channels)


@dataclass(frozen=True)
class VariationalAutoencoder:
    """The code is drawn from a normal distribution that the encoder gives, and held near the standard one.

    Parameters
    ----------
    base : DenseAutoencoder or ConvolutionalAutoencoder, default=DenseAutoencoder(widths=(64, 64))
        Whose encoder gives mean and log variance; the mean serves as the code.
    noise_variance : float, default=0.01
        Of each standardised input given its code; the divergence from the standard normal counts the more the larger it is.
    """

    base: DenseAutoencoder | ConvolutionalAutoencoder = field(default_factory=DenseAutoencoder)
    noise_variance: float = 0.01

    def __post_init__(self) -> None:
        if not isinstance(self.base, DenseAutoencoder | ConvolutionalAutoencoder):
            raise InvalidData(f"expected base= a DenseAutoencoder or ConvolutionalAutoencoder, got {self.base!r}")
        value = self.noise_variance
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < float("inf"):
            raise InvalidData(f"expected noise_variance= to be a positive number, got {value!r}")

    def build(self, shape: tuple[int, ...], latent_dim: int) -> torch.nn.Module:
        """An untrained network for rows of that shape."""
        return networks().variational(lambda outputs: self.base.build(shape, outputs), shape, latent_dim, self.noise_variance)


def _require_sizes(sizes: Any, name: str) -> None:
    good = isinstance(sizes, tuple) and bool(sizes)
    if not good or any(isinstance(one, bool) or not isinstance(one, Integral) or one < 1 for one in sizes):
        raise InvalidData(f"expected {name}= a tuple of whole numbers of 1 or more, such as (64, 64), got {sizes!r}")
