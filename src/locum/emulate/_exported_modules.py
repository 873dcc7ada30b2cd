"""Networks with the units of their data around them, as they are exported."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["ConstantFieldStep", "FieldStep", "KoopmanStep", "PartsInTime", "ScaledNetwork", "some_rows"]


def some_rows(*shape: int) -> torch.Tensor:
    """Two rows of an input; what is in them does not matter."""
    return torch.full((2, *shape), 0.5)


def _alone(network: nn.Module) -> nn.Module:
    """A copy on the CPU that does not learn."""
    return copy.deepcopy(network).cpu().eval().requires_grad_(False)


class _Alone(nn.Module):
    """Holds a copy of a network, and numbers that belong to the program, by name."""

    mean: torch.Tensor
    scale: torch.Tensor
    shift: torch.Tensor
    spread: torch.Tensor

    def __init__(self, network: nn.Module, **numbers: Any) -> None:
        super().__init__()
        self.network = _alone(network)
        for name, one in numbers.items():
            self.register_buffer(name, torch.as_tensor(np.asarray(one), dtype=torch.float32))


class ScaledNetwork(_Alone):
    """(x - shift) / spread through a network, of some columns, in some shape, times a scale and a mean."""

    def __init__(self, network: nn.Module, *, columns: Any = None, shape: tuple[int, ...] = (), **numbers: Any) -> None:
        super().__init__(network, **numbers)
        self.columns, self.shape = None if columns is None else [int(one) for one in columns], shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled = (x - self.shift) / self.spread
        said = self.network(scaled if self.columns is None else scaled[..., self.columns])
        return (said.reshape(said.shape[0], *self.shape) if self.shape else said) * self.scale + self.mean


class FieldStep(_Alone):
    """From fields and parameters, both in their units, to the next fields."""

    def __init__(self, network: nn.Module, *, log: bool, history: int, **numbers: Any) -> None:
        super().__init__(network, **numbers)
        self.log, self.history = log, history

    def forward(self, fields: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        scaled = ((parameters.log() if self.log else parameters) - self.shift) / self.spread
        past = [self.history, *(1,) * (self.mean.ndim - 1)]
        said = self.network((fields - self.mean.repeat(past)) / self.scale.repeat(past), scaled)
        return said.field * self.scale + self.mean


class KoopmanStep(_Alone):
    """From observations, and controls where there are some, to those one step later."""

    operator: torch.Tensor
    controls: torch.Tensor

    def forward(self, observations: torch.Tensor, controls: torch.Tensor | None = None) -> torch.Tensor:
        model: Any = self.network
        z = model.encode((observations - self.mean) / self.scale).flatten(-2) @ self.operator.T
        z = z if controls is None else z + controls @ self.controls.T
        return model.decode(model.nodes(z)) * self.scale + self.mean


class ConstantFieldStep(_Alone):
    """From fields and parameters, which the network gets as constants over the grid, to the next fields."""

    def forward(self, fields: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        rows = (parameters - self.shift) / self.spread
        constants = rows[(...,) + (None,) * (fields.ndim - 2)].expand(*rows.shape, *fields.shape[2:])
        said = self.network(torch.cat([(fields - self.mean) / self.scale, constants], dim=1))
        return said * self.scale + self.mean


class PartsInTime(nn.Module):
    """The voltage at parameters and times, by the stage that rules at each time."""

    def __init__(self, stages: list[nn.Module]) -> None:
        super().__init__()
        self.stages: Any = nn.ModuleList(map(_alone, stages))

    def forward(self, parameters: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        first, *later = self.stages
        clock = first.clock(times)
        out = first.potentials(clock, parameters)[1]
        for stage in later:
            out = torch.where(times >= stage.begin, stage.potentials(clock, parameters)[1], out)
        return out
