"""How the networks of cape are built and trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from locum.core.errors import InvalidData
from locum.emulate._cape_networks import Conditional, Guided, Guiding, Plain, unroll
from locum.emulate._operators import OPERATORS

__all__ = ["Objective", "count", "network_of", "optimizer_of", "schedule_of"]

_HALVINGS = 5


def network_of(
    base: Any, guide: dict[str, Any] | None, conditional: bool, *, width: int, channels: int, history: int, parameters: int,
    grid: tuple[int, ...],
) -> nn.Module:  # fmt: skip
    """The whole network, as drawn from the generator at hand.

    Parameters
    ----------
    base : str or nn.Module
        The operator.
    guide : dict or None
        Settings of the module that makes first guesses.
    conditional : bool
        Whether the parameters enter as channels.
    width, channels, history, parameters : int
    grid : tuple of int
    """
    frames = guide["frames"] if guide else 0
    inputs = channels * (history + frames) + (parameters if conditional else 0)
    outputs = channels * (frames + 1)
    if isinstance(base, str):
        operator = OPERATORS[base](inputs, outputs, len(grid), width=width)
    else:
        operator = copy.deepcopy(base)
        _check_operator(operator, inputs, outputs, grid)
    if guide:
        return Guided(Guiding(channels, history, parameters, grid, **guide), operator, outputs, len(grid))
    return Conditional(operator) if conditional else Plain(operator)


def _check_operator(operator: nn.Module, inputs: int, outputs: int, grid: tuple[int, ...]) -> None:
    wanted = (2, outputs, *grid)
    try:
        with torch.no_grad():
            got: Any = tuple(operator(torch.zeros(2, inputs, *grid)).shape)
    except RuntimeError as error:
        raise InvalidData(f"expected base= to take fields of shape (n, {inputs}, *{grid}), but it says: {error}") from error
    if got != wanted:
        raise InvalidData(f"expected base= to make {wanted} of fields (2, {inputs}, *{grid}), got {got}")


@dataclass
class Objective:
    """The loss of a batch of runs, which changes as epochs pass.

    Attributes
    ----------
    history, warmup, epochs : int
    window : int or None
        Frames of a run that a batch sees; all where None.
    own : callable
        From the share of epochs done and the number of steps to the number that is said from what was said.
    through_time : bool
    noise, aux_weight : float
    relative : bool
        Error relative to the size of each field, instead of mean squares.
    floor : float
        Share of the usual size of fields that is added to each size.
    offset : torch.Tensor
        Mean over scale of the fields, (C, 1, ...): standardised fields plus it are sized like fields.
    residual : callable or None
        Of standardised fields now and next, and scaled parameters.
    residual_weight : float
    """

    history: int
    warmup: int
    epochs: int
    window: int | None
    own: Callable[[float, int], int]
    through_time: bool
    noise: float
    aux_weight: float
    relative: bool
    floor: float
    offset: torch.Tensor
    residual: Callable[..., torch.Tensor] | None
    residual_weight: float

    def __call__(self, network: Any, U: torch.Tensor, p: torch.Tensor, raw: torch.Tensor) -> torch.Tensor:
        """Of standardised runs (n, T, C, *grid), scaled and raw parameters (n, k)."""
        epoch = int(network.epochs_done)
        if self.window is not None and self.window < U.shape[1]:
            first = int(torch.randint(U.shape[1] - self.window + 1, ()))
            U = U[:, first : first + self.window]
        steps = U.shape[1] - self.history
        if epoch < self.warmup:
            true = torch.stack([U[:, t : t + self.history].flatten(1, 2) for t in range(steps)], dim=1)
            guess = network.guiding(true.flatten(0, 1), p.repeat_interleave(steps, dim=0))
            return self._guessed(guess.unflatten(0, (len(U), steps)), U)
        progress = (epoch - self.warmup) / max(1, self.epochs - self.warmup - 1)
        own = self.own(progress, steps)
        said = unroll(network, U, p, self.history, own, self.through_time, self.noise)
        loss = self._off(said.field, U[:, self.history :])
        if said.guess is not None and self.aux_weight:
            loss = loss + self.aux_weight * self._guessed(said.guess, U)
        if self.residual is not None:
            now = torch.cat([U[:, self.history - 1 : self.history], said.field[:, :-1]], dim=1)
            missed = self.residual(now.flatten(0, 1), said.field.flatten(0, 1), raw.repeat_interleave(steps, dim=0))
            loss = loss + self.residual_weight * missed.square().mean()
        return loss

    def _off(self, said: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
        """Mean over runs and frames of the error of fields (n, frames, C, *grid)."""
        if not self.relative:
            return (said - true).square().mean()
        over, offset = tuple(range(2, true.ndim)), self.offset.to(true.device)
        floor = self.floor * math.sqrt(true[0, 0].numel())
        size = torch.linalg.vector_norm(true + offset, dim=over)
        return (torch.linalg.vector_norm(said - true, dim=over) / (size + floor)).mean()

    def _guessed(self, guess: torch.Tensor, U: torch.Tensor) -> torch.Tensor:
        """Mean error of first guesses (n, steps, frames, C, *grid), as far as there are frames to compare with."""
        ahead = guess.shape[2]
        known = guess.shape[1] - ahead + 1
        parts = [self._off(guess[:, :known, j], U[:, self.history + j :][:, :known]) for j in range(ahead)]
        return torch.stack(parts).mean()


def count(network: Any, epoch: int) -> None:
    """Tell a network how many epochs it has been trained: a checkpoint keeps that with it."""
    network.epochs_done.fill_(epoch)


def optimizer_of(lr: float, weight_decay: float) -> Callable[[Any], torch.optim.Optimizer]:
    """Adam, with weights drawn to 0."""
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)


def schedule_of(warmup: int, epochs: int) -> Callable[[torch.optim.Optimizer], Any]:
    """Learning rates that halve five times, at even distances after the warm-up."""

    def factor(epoch: int) -> float:
        return 0.5 ** (_HALVINGS * max(0, epoch - warmup) // max(1, epochs - warmup))

    return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
