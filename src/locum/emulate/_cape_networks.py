"""The networks of cape: a first guess of what comes next, weighed by parameters, and an operator that corrects it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from locum.emulate._operators import SpectralConv, convolution

__all__ = ["Conditional", "Guided", "Guiding", "Plain", "Said", "unroll"]

_POOLED = 4  # cells that the spectral branch sees as one


class Said(NamedTuple):
    """The next field (n, C, *grid), and the first guess (n, frames, C, *grid) where there is one."""

    field: torch.Tensor
    guess: torch.Tensor | None


class Normalised(nn.Module):
    """Each channel to mean 0 and variance 1 over the grid, then times a gain that is learned: on any grid."""

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((channels, *(1,) * dimensions), 0.1))
        self.offset = nn.Parameter(torch.zeros(channels, *(1,) * dimensions))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Same shape (n, channels, *grid)."""
        return self.gain * functional.instance_norm(u) + self.offset


class Guiding(nn.Module):
    """Three derivative-like branches, whose channels are weighed by attention computed from the parameters."""

    def __init__(
        self, channels: int, history: int, parameters: int, grid: tuple[int, ...], *,
        width: int, kernel: int, frames: int, modes: int, norm: str,
    ) -> None:  # fmt: skip
        super().__init__()
        d, half = len(grid), width // 2
        self.channels, self.frames = channels, frames
        self.read = convolution(d, channels * history, half, kernel, bias=False)
        self.attend = nn.ModuleList(
            nn.Sequential(nn.Linear(parameters, half), nn.GELU(), nn.Linear(half, width)) for _ in range(3)
        )
        self.spectral = SpectralConv(half, width, modes, d)
        self.pointwise = convolution(d, half, width)
        self.depthwise = convolution(d, half, width, kernel, groups=half, bias=False)
        self.skip, self.out = convolution(d, half, width), convolution(d, width, channels * frames)
        self.pool = (functional.avg_pool1d, functional.avg_pool2d)[d - 1]
        self.norm: nn.Module = nn.Identity()
        if norm == "instance":
            self.norm = Normalised(channels * frames, d)
        elif norm == "layer":
            self.norm = nn.LayerNorm(grid)

    def attention(self, p: torch.Tensor) -> torch.Tensor:
        """Of the spectral, the pointwise and the depthwise branch, shape (n, 3, width)."""
        return torch.stack([one(p) for one in self.attend], dim=1)

    def forward(self, u: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """From states (n, history * C, *grid) and parameters (n, k) to guesses (n, frames, C, *grid)."""
        y = functional.gelu(self.read(u))
        coarse = functional.interpolate(self.spectral(self.pool(y, _POOLED)), scale_factor=float(_POOLED))
        weights = self.attention(p)[(...,) + (None,) * (u.ndim - 2)]
        branches = (coarse, self.pointwise(y), self.depthwise(y))
        v = self.skip(y) + sum(weights[:, i] * branch for i, branch in enumerate(branches))
        change = self.norm(self.out(functional.gelu(v)))
        return u[:, None, -self.channels :] + change.reshape(u.shape[0], self.frames, self.channels, *u.shape[2:])


class Guided(nn.Module):
    """An operator that sees the parameters through the first guess alone."""

    def __init__(self, guiding: Guiding, operator: nn.Module, inside: int, dimensions: int) -> None:
        super().__init__()
        self.guiding, self.operator = guiding, operator
        self.mix = convolution(dimensions, inside, guiding.channels)

    def forward(self, u: torch.Tensor, p: torch.Tensor) -> Said:
        """From states (n, history * C, *grid) and parameters (n, k)."""
        guess = self.guiding(u, p)
        return Said(self.mix(self.operator(torch.cat([u, guess.flatten(1, 2)], dim=1))), guess)


class Conditional(nn.Module):
    """An operator that gets the parameters as channels that are constant over the grid."""

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, u: torch.Tensor, p: torch.Tensor) -> Said:
        """From states (n, history * C, *grid) and parameters (n, k)."""
        constant = p[(...,) + (None,) * (u.ndim - 2)].expand(*p.shape, *u.shape[2:])
        return Said(self.operator(torch.cat([u, constant], dim=1)), None)


class Plain(nn.Module):
    """An operator that does not know the parameters."""

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, u: torch.Tensor, p: torch.Tensor) -> Said:
        """From states (n, history * C, *grid); the parameters are not looked at."""
        return Said(self.operator(u), None)


def unroll(
    network: nn.Module, U: torch.Tensor, p: torch.Tensor, history: int, own: int, through_time: bool, noise: float
) -> Said:
    """Say every frame of runs (n, T, C, *grid) from `history` on: the first `own` ones step by step from what was said itself.

    The others are said from the true frames before them, all at once.

    Parameters
    ----------
    network : nn.Module
    U, p : torch.Tensor
    history, own : int
    through_time : bool
        Whether gradients flow through what was said before.
    noise : float
        Standard deviation of what is added to inputs.

    Returns
    -------
    Said
        Fields (n, T - history, C, *grid), and first guesses (n, T - history, frames, C, *grid).
    """
    n, frames, channels = U.shape[:3]
    steps = frames - history
    state, said = U[:, :history].flatten(1, 2), []
    for _ in range(own):
        said.append(network(_noisy(state, noise), p))
        field = said[-1].field
        state = torch.cat([state[:, channels:], field if through_time else field.detach()], dim=1)
    fields = torch.stack([one.field for one in said], dim=1)
    guesses = torch.stack([one.guess for one in said], dim=1) if said[0].guess is not None else None
    if own < steps:
        true = torch.stack([U[:, t : t + history].flatten(1, 2) for t in range(own, steps)], dim=1)
        rest = network(_noisy(true.flatten(0, 1), noise), p.repeat_interleave(steps - own, dim=0))
        fields = torch.cat([fields, rest.field.unflatten(0, (n, -1))], dim=1)
        if guesses is not None:
            guesses = torch.cat([guesses, rest.guess.unflatten(0, (n, -1))], dim=1)
    return Said(fields, guesses)


def _noisy(state: torch.Tensor, noise: float) -> torch.Tensor:
    return state + noise * torch.randn_like(state) if noise else state
