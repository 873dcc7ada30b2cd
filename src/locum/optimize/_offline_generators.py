"""Distributions of designs, and how they are moved to where a surrogate promises more."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.distributions import Normal, kl_divergence

from locum.optimize._offline_networks import Regressor

__all__ = ["adapted", "inverted", "reinforced"]

_FLOAT = NDArray[np.float64]
_DRAWS = 256  # a step of REINFORCE
_ROUND, _AGAIN, _POWER = 1000, 5, 0.2  # draws a round of adaptive sampling, epochs on them, and what tempers their weights
_LEAST_SD = 0.05  # of standardised columns: the density of categories would have no bound
_BINS, _SMOOTHING = 20, 0.01  # of values, by which good evaluations count more; the share that a bin must have to count
_Value = Callable[[Any], Any]


def reinforced(value: _Value, rows: _FLOAT, steps: int, rate: float, n: int) -> _FLOAT:
    """Draws of a normal distribution, fitted to rows and moved uphill in its parameters."""
    start = torch.as_tensor(rows, dtype=torch.float32)
    mean, log_sd = start.mean(dim=0), start.std(dim=0).clamp_min(1e-3).log()
    optimizer = torch.optim.Adam([mean.requires_grad_(), log_sd.requires_grad_()], lr=rate)
    for _ in range(steps):
        law = Normal(mean, log_sd.exp())
        drawn = law.sample((_DRAWS,))
        with torch.no_grad():
            worth = value(drawn)
            gain = (worth - worth.mean()) * _DRAWS / (_DRAWS - 1)  # so the baseline is the mean of the others
        optimizer.zero_grad()
        (-(gain * law.log_prob(drawn).sum(dim=1)).mean()).backward()
        optimizer.step()
    return np.asarray(Normal(mean, log_sd.exp()).sample((n,)).double().numpy())


class Autoencoder(nn.Module):
    """A variational autoencoder of designs, given `extra` numbers each, in normal distributions throughout."""

    def __init__(self, width: int, extra: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.encoder = _layers(width + extra, hidden, 2 * latent)
        self.decoder = _layers(latent + extra, hidden, width)
        self.raw = nn.Parameter(torch.zeros(width))

    def decoded(self, z: Any, extra: Any) -> Normal:
        """Designs for inputs z of shape (n, latent) and numbers of shape (n, extra)."""
        return Normal(self.decoder(torch.cat([z, extra], dim=1)), _LEAST_SD + nn.functional.softplus(self.raw))

    def loss(self, X: Any, extra: Any, weights: Any) -> Any:
        """Less the bound on the logarithm of the density, a weighted mean."""
        middle, log_sd = self.encoder(torch.cat([X, extra], dim=1)).chunk(2, dim=1)
        code = Normal(middle, log_sd.clamp(-8.0, 8.0).exp())
        missing = -self.decoded(code.rsample(), extra).log_prob(X).sum(dim=1)
        apart = kl_divergence(code, Normal(0.0, 1.0)).sum(dim=1)
        return (weights * (missing + apart)).sum() / weights.sum()

    def taught(self, X: Any, extra: Any, weights: Any, epochs: int, batch: int, rate: float) -> Autoencoder:
        """Trained on rows; as it is after that."""
        optimizer = torch.optim.Adam(self.parameters(), lr=rate)
        for _ in range(epochs):
            for some in torch.randperm(len(X)).split(batch):
                optimizer.zero_grad()
                self.loss(X[some], extra[some], weights[some]).backward()
                optimizer.step()
        return self


def _layers(width: int, hidden: int, out: int) -> nn.Sequential:
    act = nn.LeakyReLU
    return nn.Sequential(nn.Linear(width, hidden), act(), nn.Linear(hidden, hidden), act(), nn.Linear(hidden, out))


def adapted(
    models: list[Regressor], X: _FLOAT, n: int, *, rounds: int, quantile: float, hidden: int, latent: int, epochs: int,
    batch: int, rate: float,
) -> _FLOAT:  # fmt: skip
    """Draws of an autoencoder, taught again in each round by draws of its own that count by how good they are likely to be."""
    rows = torch.as_tensor(X, dtype=torch.float32)
    nothing = rows.new_zeros((max(len(rows), _ROUND, n), 0))
    first = Autoencoder(rows.shape[1], 0, hidden, latent)
    first.taught(rows, nothing[: len(rows)], torch.ones(len(rows)), epochs, batch, rate)
    present = copy.deepcopy(first)
    for _ in range(rounds):
        with torch.no_grad():
            z = torch.randn(_ROUND, latent)
            here = present.decoded(z, nothing[:_ROUND])
            drawn = here.sample()
            moments = [model.moments(drawn) for model in models]
            bar = torch.stack([mean for mean, _ in moments]).mean(dim=0).quantile(quantile)
            good = torch.stack([torch.special.ndtr((mean - bar) / sd) for mean, sd in moments]).mean(dim=0)
            older = first.decoded(z, nothing[:_ROUND]).log_prob(drawn) - here.log_prob(drawn)
            log_weights = _POWER * (older.sum(dim=1) + good.clamp_min(1e-30).log())
            weights = (log_weights - log_weights.max()).exp()
        present.taught(drawn, nothing[:_ROUND], weights, _AGAIN, batch, rate)
    with torch.no_grad():
        return np.asarray(present.decoded(torch.randn(n, latent), nothing[:n]).sample().double().numpy())


def inverted(
    value: _Value, X: _FLOAT, y: _FLOAT, n: int, *, steps: int, step_size: float, hidden: int, latent: int, epochs: int,
    batch: int, rate: float,
) -> _FLOAT:  # fmt: skip
    """Designs that a map from values gives for the largest value which the surrogate agrees on."""
    rows, values = (torch.as_tensor(one, dtype=torch.float32) for one in (X, y[:, None]))
    weights = torch.as_tensor(_emphasis(y), dtype=torch.float32)
    model = Autoencoder(rows.shape[1], 1, hidden, latent).taught(rows, values, weights, epochs, batch, rate)
    z, asked = torch.randn(n, latent).requires_grad_(), torch.full((n, 1), float(y.max())).requires_grad_()
    optimizer = torch.optim.Adam([z, asked], lr=step_size)
    for _ in range(steps):
        said = value(model.decoded(z, asked).mean)
        unlikely = 0.5 * (z**2).sum(dim=1) / latent
        optimizer.zero_grad()
        (-(asked[:, 0] - (said - asked[:, 0]) ** 2 - unlikely).sum()).backward()
        optimizer.step()
    with torch.no_grad():
        return np.asarray(model.decoded(z, asked).mean.double().numpy())


def _emphasis(y: _FLOAT) -> _FLOAT:
    """Weights of evaluations, mean 1: bins of values count more the better they are, and little where they hold few.

    Kumar and Levine, arXiv 1912.13464, section 3.3; the temperature is the deviation of the values.
    """
    edges = np.linspace(y.min(), y.max(), _BINS + 1)
    place = np.clip(np.digitize(y, edges) - 1, 0, _BINS - 1)
    share = np.bincount(place, minlength=_BINS) / len(y)
    whole = share / (share + _SMOOTHING) * np.exp((edges[1:] - y.max()) / y.std())
    each = (whole / np.maximum(share, 1 / len(y)))[place]
    return np.asarray(each / each.mean())
