"""Networks that forecast the next row of a window: N-BEATS with generic blocks, and an LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.floating[Any]]


class BeatsBlock(nn.Module):
    """Layers of one width, then two short codes: one gives back the window, one the next row."""

    def __init__(self, size: int, width: int, layers: int, expansion: int, outputs: int) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for i in range(layers):
            steps += [nn.Linear(size if i == 0 else width, width), nn.ReLU()]
        self.body = nn.Sequential(*steps)
        self.back = nn.Sequential(nn.Linear(width, expansion, bias=False), nn.Linear(expansion, size))
        self.ahead = nn.Sequential(nn.Linear(width, expansion, bias=False), nn.Linear(expansion, outputs))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the block explains of the window, and what it adds to the forecast."""
        held = self.body(x)
        return self.back(held), self.ahead(held)


class Beats(nn.Module):
    """Blocks that each read what the ones before left unexplained; forecasts add up (Oreshkin et al., arXiv 1905.10437)."""

    def __init__(self, rows: int, columns: int, blocks: int, layers: int, width: int, expansion: int) -> None:
        super().__init__()
        one = (rows * columns, width, layers, expansion, columns)
        self.blocks = nn.ModuleList([BeatsBlock(*one) for _ in range(blocks)])

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """From (n, rows, columns) to (n, columns)."""
        rest, said = windows.flatten(1), torch.zeros(())
        for block in self.blocks:
            back, ahead = block(rest)
            rest, said = rest - back, said + ahead
        return said


class LongShort(nn.Module):
    """An LSTM over the rows of a window, and a linear readout of its last state."""

    def __init__(self, columns: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(columns, hidden, layers, batch_first=True)
        self.readout = nn.Linear(hidden, columns)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """From (n, rows, columns) to (n, columns)."""
        return self.readout(self.lstm(windows)[0][:, -1])


def loss(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the next row."""
    return nn.functional.mse_loss(module(x), y)


def ahead(network: nn.Module, past: Array, n_steps: int, device: str) -> Array:
    """Rows after a window (rows, columns), each fed back, shape (n_steps, columns)."""
    window, out = torch.as_tensor(past, dtype=torch.float32, device=device)[None], []
    with torch.inference_mode():
        for _ in range(n_steps):
            out.append(network(window))
            window = torch.cat([window[:, 1:], out[-1][:, None]], dim=1)
        return torch.cat(out).cpu().numpy().astype(float)
