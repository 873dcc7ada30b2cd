"""A step on a loss, and on how far the mean prediction moves when the weights do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from locum.core.errors import InvalidData
from locum.optimize.ignite import UndefinedSharpness

__all__ = ["gradient_norm_step", "mean_slope", "norm_of"]


def norm_of(slopes: list[Any]) -> Any:
    """Length of all gradients together."""
    return torch.stack([(one**2).sum() for one in slopes]).sum().sqrt()


def mean_slope(model: nn.Module, mean: Callable[[], Any]) -> tuple[list[Any], list[Any]]:
    """Parameters that the mean prediction depends on, and its gradients in them.

    The generators are left as they were, so that two calls see the same draws of dropout.
    """
    parameters = [one for one in model.parameters() if one.requires_grad]
    devices = sorted({one.device.index for one in parameters if one.is_cuda})
    with torch.random.fork_rng(devices=devices):
        value = mean()
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        raise InvalidData(f"expected mean= to give one number, got {getattr(value, 'shape', type(value).__name__)}")
    found = torch.autograd.grad(value, parameters, allow_unused=True) if value.requires_grad else [None] * len(parameters)
    pairs = [(one, slope) for one, slope in zip(parameters, found, strict=True) if slope is not None]
    if not pairs:
        raise UndefinedSharpness("the mean prediction depends on no parameter of the model; give mean= with a graph")
    return [one for one, _ in pairs], [slope for _, slope in pairs]


@contextmanager
def _put_back(tensors: list[Any]) -> Iterator[None]:
    """Afterwards the tensors hold what they held, to the last bit."""
    before = [one.detach().clone() for one in tensors]
    try:
        yield
    finally:
        with torch.no_grad():
            for one, old in zip(tensors, before, strict=True):
                one.copy_(old)


def gradient_norm_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Any], mean: Callable[[], Any], *,
    weight: float, radius: float, scale: float,
) -> float:  # fmt: skip
    """A step on loss + weight × scale × ‖∇h‖, by one finite difference of ∇h along itself; gives ‖∇h‖.

    The gradient of the norm is the Hessian times the direction of ∇h, which is the difference of two gradients over `radius`.
    """
    optimizer.zero_grad()
    loss().backward()
    with _put_back(list(model.buffers())):  # running means are moved by the loss alone
        parameters, first = mean_slope(model, mean)
        length = norm_of(first).detach()
        if not torch.isfinite(length):
            raise UndefinedSharpness("the gradient of the mean prediction is not finite; lower the learning rate")
        if weight > 0 and float(length) > 0:
            with _put_back(parameters):
                with torch.no_grad():
                    for one, slope in zip(parameters, first, strict=True):
                        one.add_(radius * slope / length)
                second = mean_slope(model, mean)[1]
            for one, a, b in zip(parameters, first, second, strict=True):
                change = weight * scale / radius * (b - a)
                one.grad = change if one.grad is None else one.grad + change
    optimizer.step()
    return float(length)
