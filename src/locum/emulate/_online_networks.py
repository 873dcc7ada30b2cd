"""Networks that are trained online, and what an update of them is."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from locum.core.errors import InvalidData
from locum.emulate._operators import OPERATORS
from locum.nets import TrainingFailed, seeded

__all__ = ["Learner", "network_of", "said_by"]

Array = NDArray[np.floating[Any]]

_HALVINGS = 4
_ROWS = 1024
_LOOK = 100  # updates between two looks at the loss, since reading a number off a GPU waits for it


class Stepping(nn.Module):
    """The change of fields (n, C, *grid) from them and parameters that are constant over the grid."""

    def __init__(self, operator: nn.Module, channels: int) -> None:
        super().__init__()
        self.operator, self.channels = operator, channels

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """From fields and constants (n, C + k, *grid) to the next fields (n, C, *grid)."""
        return u[:, : self.channels] + self.operator(u)


def network_of(model: Any, inputs: tuple[int, ...], answer: tuple[int, ...], width: int, random_state: int) -> nn.Module:
    """The network for inputs and answers of these shapes.

    Parameters
    ----------
    model : str or nn.Module
        "mlp" takes rows; "fno", "unet" and "message-passing" take fields, and say how they change.
    inputs, answer : tuple of int
    width, random_state : int
    """
    with seeded(random_state):
        if isinstance(model, nn.Module):
            network: nn.Module = copy.deepcopy(model)
        elif model == "mlp":
            outputs = math.prod(answer)
            hidden = [nn.Linear(math.prod(inputs), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
            network = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, outputs), nn.Unflatten(1, answer))
        else:
            operator = OPERATORS[model](inputs[0], answer[0], len(answer) - 1, width=width)
            network = Stepping(operator, answer[0])
    with torch.no_grad():
        got = tuple(network(torch.zeros(2, *inputs)).shape)
    if got != (2, *answer):
        raise InvalidData(f"expected a network from (n, *{inputs}) to (n, *{answer}), got {got} of two rows")
    return network


class Learner:
    """A network with its optimizer: mean squares, and a learning rate that halves four times."""

    def __init__(self, network: nn.Module, lr: float, max_updates: int, device: Any) -> None:
        self.network, self.device, self.updates = network.to(device).train(), device, 0
        self.optimizer = torch.optim.Adam(network.parameters(), lr=lr)
        every = max(1, math.ceil(max_updates / (_HALVINGS + 1)))
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, every, 0.5)

    def update(self, inputs: Sequence[Array], answers: Sequence[Array]) -> None:
        """One step of the optimizer.

        Raises
        ------
        TrainingFailed
            A loss that is not finite.
        """
        x, y = (torch.from_numpy(np.stack(one).astype(np.float32)).to(self.device) for one in (inputs, answers))
        loss = (self.network(x) - y).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        self.updates += 1
        if self.updates % _LOOK == 0 and not math.isfinite(found := float(loss.detach())):
            raise TrainingFailed(f"the loss of update {self.updates} is {found}; scale the fields, or lower lr=")


def said_by(network: nn.Module, inputs: Array, device: Any) -> Array:
    """Answers of a network, many rows at a time."""
    network = network.to(device).eval()
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(np.ascontiguousarray(inputs[i : i + _ROWS], dtype=np.float32)).to(device)).cpu().numpy()
            for i in range(0, len(inputs), _ROWS)
        ]
    return np.concatenate(parts).astype(float)
