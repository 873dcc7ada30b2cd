"""The recurrent network of fab-devs: reads a window, answers the horizon."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from locum.nets import History, seeded, train

Array = NDArray[np.floating[Any]]


class Recurrent(nn.Module):
    """A GRU over the rows of a window, and a linear readout of its last state."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, outputs)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """From (n, rows, inputs) to (n, outputs)."""
        return self.readout(self.gru(windows)[0][:, -1])


def fitted(
    past: Array, future: Array, held_past: Array, held_future: Array, hidden: int, epochs: int, patience: int, lr: float,
    random_state: int,
) -> tuple[Recurrent, History]:  # fmt: skip
    """Trained on windows (n, rows, inputs) and answers (n, outputs), stopped by those that are held back."""
    given = [torch.from_numpy(np.ascontiguousarray(one, dtype=np.float32)) for one in (past, future, held_past, held_future)]
    with seeded(random_state):
        network = Recurrent(past.shape[2], hidden, future.shape[1])

    def loss(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(module(x), y)

    history = train(
        network, loss, given[:2], epochs=epochs, batch_size=64, optimizer=lambda p: torch.optim.Adam(p, lr=lr),
        validate=lambda module: float(loss(module, *given[2:])), patience=patience, clip=1.0, random_state=random_state,
    )  # fmt: skip
    return network, history


def answers(network: Recurrent, past: Array) -> Array:
    """Of windows (n, rows, inputs), shape (n, outputs)."""
    with torch.no_grad():
        parts = [
            network(torch.from_numpy(np.ascontiguousarray(past[i : i + 4096], dtype=np.float32))).numpy()
            for i in range(0, len(past), 4096)
        ]
    return np.concatenate(parts).astype(float)
