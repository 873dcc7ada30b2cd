"""A step on a loss, and on how far the mean prediction moves when the weights do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from locum.optimize._offline_networks import mean_slope

__all__ = ["gradient_norm_step", "norm_of"]


def norm_of(slopes: list[Any]) -> Any:
    """Length of all gradients together."""
    return torch.stack([(one**2).sum() for one in slopes]).sum().sqrt()


def gradient_norm_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Any], mean: Callable[[], Any], *,
    weight: float, radius: float, scale: float,
) -> float:  # fmt: skip
    """A step on loss + weight × scale × ‖∇h‖, by one finite difference of ∇h along itself; gives ‖∇h‖.

    The gradient of the norm is the Hessian times the direction of ∇h, which is the difference of two gradients over `radius`.
    """
    optimizer.zero_grad()
    loss().backward()
    parameters, first = mean_slope(model, mean)
    length = norm_of(first).detach()
    if weight > 0 and float(length) > 0:
        moves = [radius * slope / length for slope in first]
        before = [one.detach().clone() for one in parameters]
        with torch.no_grad():
            for one, move in zip(parameters, moves, strict=True):
                one.add_(move)
        second = torch.autograd.grad(mean(), parameters)
        with torch.no_grad():
            for one, old in zip(parameters, before, strict=True):
                one.copy_(old)  # as it was, to the last bit
            for one, a, b in zip(parameters, first, second, strict=True):
                change = weight * scale / radius * (b - a)
                one.grad = change if one.grad is None else one.grad + change
    optimizer.step()
    return float(length)
