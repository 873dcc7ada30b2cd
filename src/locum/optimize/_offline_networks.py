"""Networks that stand in for an objective known only through old evaluations: their training, and walks uphill on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["Ascent", "Conservatism", "Regressor", "ascended", "fitted", "plain_step", "predicted"]

_FLOAT = NDArray[np.float64]
_FIRST_WEIGHT, _DUAL_RATE = 0.1, 0.01  # of conservatism
_LOG_SD = (math.log(0.1), math.log(0.2))  # where the bounds of the logarithm of the deviation start
Step = Callable[[nn.Module, torch.optim.Optimizer, Callable[[], Any], Callable[[], Any]], None]


class Regressor(nn.Module):
    """Two hidden layers; gives a mean, and the logarithm of a deviation between learnt bounds where it is to be learnt."""

    def __init__(self, width: int, hidden: int, *, spread: bool) -> None:
        super().__init__()
        act = nn.LeakyReLU
        self.body = nn.Sequential(nn.Linear(width, hidden), act(), nn.Linear(hidden, hidden), act())
        self.mean = nn.Linear(hidden, 1)
        self.spread = nn.Linear(hidden, 1) if spread else None
        if spread:
            self.low, self.high = (nn.Parameter(torch.tensor(one)) for one in _LOG_SD)

    def forward(self, X: Any) -> Any:
        """Mean of values at rows (n, width), shape (n,)."""
        return self.mean(self.body(X))[:, 0]

    def loss(self, X: Any, y: Any) -> Any:
        """Negative log likelihood, or the squared error without a deviation."""
        inside = self.body(X)
        left = y - self.mean(inside)[:, 0]
        if self.spread is None:
            return (left**2).mean()
        log_sd = self._log_sd(inside)
        return (0.5 * (left / log_sd.exp()) ** 2 + log_sd).mean()

    def moments(self, X: Any) -> tuple[Any, Any]:
        """Mean and deviation of values at rows (n, width), each of shape (n,); for a network that learns its deviation."""
        inside = self.body(X)
        return self.mean(inside)[:, 0], self._log_sd(inside).exp()

    def _log_sd(self, inside: Any) -> Any:
        assert self.spread is not None
        raw = self.spread(inside)[:, 0]
        raw = self.high - nn.functional.softplus(self.high - raw)
        return self.low + nn.functional.softplus(raw - self.low)


def plain_step(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Any], mean: Callable[[], Any]) -> None:
    """A step on the loss alone."""
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


class Conservatism:
    """The term that keeps a model from promising much away from data, its weight found by dual ascent with Adam.

    Trabucco et al., arXiv 2107.06882, equations 4 and 6.
    """

    def __init__(self, steps: int, rate: float, limit: float) -> None:
        self.steps, self.rate, self.limit = steps, rate, limit
        self.log_weight = torch.tensor(math.log(_FIRST_WEIGHT), requires_grad=True)
        # A plain step would be as short as the weight is small, and leave it at its start.
        self.dual = torch.optim.Adam([self.log_weight], lr=_DUAL_RATE)

    def term(self, model: Regressor, X: Any) -> Any:
        """How much more the model promises after a walk from the rows than at them, weighted."""
        away = ascended(model, X, self.steps, self.rate)
        gap = model(away).mean() - model(X).mean()
        weight = float(self.log_weight.detach().exp())
        self.log_weight.grad = weight * (self.limit - gap.detach())
        self.dual.step()
        with torch.no_grad():
            self.log_weight.clamp_(-10.0, 10.0)
        return weight * gap


def fitted(
    X: _FLOAT, y: _FLOAT, *, hidden: int, spread: bool, epochs: int, batch: int, rate: float, step: Step,
    conservatism: Conservatism | None, progress: Callable[[int], None],
) -> Regressor:  # fmt: skip
    """A trained network, in float32; draws come from the global generator, which the caller has seeded."""
    rows, values = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y, dtype=torch.float32)
    model = Regressor(rows.shape[1], hidden, spread=spread)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for epoch in range(epochs):
        for some in _batches(len(rows), batch):
            part, told = rows[some], values[some]

            def loss(part: Any = part, told: Any = told) -> Any:
                found = model.loss(part, told)
                return found if conservatism is None else found + conservatism.term(model, part)

            def mean(part: Any = part) -> Any:
                return model(part).mean()

            step(model, optimizer, loss, mean)
        progress(epoch + 1)
    return model.eval()


def _batches(n: int, size: int) -> Iterator[Any]:
    order = torch.randperm(n)
    return iter(order.split(size))


# ---------------------------------------------------------------------- walks
Ascent = Callable[[Any], Any]


def ascended(value: Ascent, X: Any, steps: int, rate: float) -> Any:
    """Rows after plain gradient steps uphill on a value of rows, shape (n,)."""
    at = X.detach().clone()
    for _ in range(steps):
        at.requires_grad_()
        (slope,) = torch.autograd.grad(value(at).sum(), at)
        at = (at + rate * slope).detach()
    return at


def predicted(models: list[Regressor], X: _FLOAT) -> _FLOAT:
    """Of each model, shape (models, n)."""
    rows = torch.as_tensor(X, dtype=torch.float32)
    with torch.no_grad():
        return np.stack([model(rows).double().numpy() for model in models])
