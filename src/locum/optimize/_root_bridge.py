"""The Brownian bridge between designs, its network, and its training. Imports torch: `root` imports it when used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from locum.nets import seeded, train
from locum.optimize._root_functions import Pairs

__all__ = ["BrownianBridge", "Noise", "Trained", "trained"]

_FIRST, _LAST = 0.001, 0.999  # shares of the low end at the two ends of time
_EMA = 0.995
_LEAST_LR = 5e-7


@dataclass(frozen=True)
class BrownianBridge:
    r"""Noise between two designs, pinned at both: high at time 0, low at the last time.

    .. math:: x_t = (1 - m_t) x^+ + m_t x^- + \sqrt{\delta_t} \varepsilon, \qquad \delta_t = 2 (m_t - m_t^2) v

    with m from 0.001 to 0.999 in even steps.

    Parameters
    ----------
    times : int, default=1000
    variance : float, default=1.0
        v, of which δ is half in the middle.

    Attributes
    ----------
    shares, variances : torch.Tensor of shape (times,)
        m and δ, in double precision.
    """

    times: int = 1000
    variance: float = 1.0
    shares: Tensor = field(init=False, repr=False)
    variances: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        m = torch.linspace(_FIRST, _LAST, self.times, dtype=torch.float64)
        object.__setattr__(self, "shares", m)
        object.__setattr__(self, "variances", 2 * (m - m * m) * self.variance)

    def at(self, t: Tensor, high: Tensor, low: Tensor, noise: Tensor) -> Tensor:
        """Designs (n, width) at times t (n,), between two ends (n, width), with standard normal noise (n, width)."""
        m = self.shares[t.cpu()].to(high)[:, None]
        spread = self.variances[t.cpu()].sqrt().to(high)[:, None]
        return (1 - m) * high + m * low + spread * noise

    def step_variance(self, t: int, earlier: int) -> float:
        """Variance of x at an earlier time, given x at time t and both ends."""
        m, delta = self.shares, self.variances
        new = delta[t] - delta[earlier] * (1 - m[t]) ** 2 / (1 - m[earlier]) ** 2  # what came in between
        return float(new * delta[earlier] / delta[t])

    def step_mean(self, t: int, earlier: int, x: Tensor, high: Tensor, low: Tensor) -> Tensor:
        """Mean of x at an earlier time, given x at time t and both ends, all of shape (n, width)."""
        m, delta = self.shares.tolist(), self.variances.tolist()
        away = x - (1 - m[t]) * high - m[t] * low
        scale = ((delta[earlier] - self.step_variance(t, earlier)) / delta[t]) ** 0.5
        return (1 - m[earlier]) * high + m[earlier] * low + scale * away

    def sample(
        self, low: Tensor, predict: Callable[[Tensor, int], Tensor], *, steps: int, noise_scale: float, random_state: int
    ) -> Tensor:
        """Go from low ends to high ones.

        Parameters
        ----------
        low : torch.Tensor of shape (n, width)
        predict : callable
            Takes designs (n, width) and a time, gives what they are away from their high end, of the same shape.
        steps : int
            Times at which it is asked, evenly from the last to the first.
        noise_scale : float
            Of the noise of each step, whose mean is that of the full noise; 1 is the bridge itself.
        random_state : int

        Returns
        -------
        torch.Tensor of shape (n, width)
        """
        generator = torch.Generator().manual_seed(random_state)
        grid = [round(t) for t in np.linspace(self.times - 1, 0, steps)]
        x = low
        for t, earlier in pairwise(grid):
            high = x - predict(x, t)
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float32).to(x)
            spread = noise_scale * self.step_variance(t, earlier) ** 0.5
            x = self.step_mean(t, earlier, x, high, low) + spread * noise
        return x - predict(x, grid[-1])


class Noise(nn.Module):
    """What a design on the bridge is away from its high end, from the design, the time, and the values at both ends."""

    def __init__(self, width: int, hidden: int, times: int) -> None:
        super().__init__()
        self.times = times
        sizes = [width + 3, hidden, hidden, hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, width))

    def forward(self, x: Tensor, t: Tensor, y_high: Tensor, y_low: Tensor) -> Tensor:
        """For designs (n, width), times (n,) and values (n,): shape (n, width)."""
        asked = torch.column_stack([t.to(x) / (self.times - 1), y_high, y_low])
        out: Tensor = self.layers(torch.cat([x, asked], dim=1))
        return out


@dataclass(frozen=True)
class Trained:
    """A network, with its averaged weights, and how its training went.

    Parameters
    ----------
    network : Noise
    losses : tuple of float
        Mean absolute error of each epoch on training pairs.
    validation : tuple of float
        The same on pairs from starts that were never trained on, of the averaged weights.
    """

    network: Noise
    losses: tuple[float, ...]
    validation: tuple[float, ...]


def trained(
    bridge: BrownianBridge,
    batches_of_pairs: Iterator[tuple[Pairs, Pairs]],
    *,
    epochs: int,
    refresh: int,
    hidden: int,
    batch_size: int,
    learning_rate: float,
    p_uncond: float,
    device: Any,
    random_state: int,
    progress: Callable[[int, int, str], None] | None,
) -> Trained:
    """Train a network on pairs that are drawn anew every `refresh` epochs.

    Parameters
    ----------
    bridge : BrownianBridge
    batches_of_pairs : iterator of tuple of Pairs
        Each gives pairs to train on and pairs to validate on.
    epochs, refresh, hidden, batch_size : int
    learning_rate : float
        Falls along half a cosine to 5e-7.
    p_uncond : float
        Chance that the values of a pair are hidden, both of them.
    device : torch.device or str
    random_state : int
    progress : callable or None
        As in `locum.nets.train`, over all epochs.

    Returns
    -------
    Trained
    """
    fresh, held = next(batches_of_pairs)
    with seeded(random_state):
        network = Noise(fresh.low.shape[1], hidden, bridge.times).to(device)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(_EMA))
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=min(_LEAST_LR, learning_rate))
    losses: list[float] = []
    validation: list[float] = []

    def average(*_: Any) -> None:
        if len(validation) >= epochs // 2:  # weights before that are far from the last ones
            averaged.update_parameters(network)

    def after_epoch(module: nn.Module, epoch: int) -> None:
        began = int(averaged.n_averaged) > 0
        validation.append(_error(bridge, averaged.module if began else module, held, random_state))
        if progress is not None:
            progress(len(losses) + epoch, epochs, f"validation {validation[-1]:.4g}")

    optimizer.register_step_post_hook(average)
    while True:
        done = len(losses)
        history = train(
            network,
            partial(_loss, bridge, p_uncond),
            [fresh.high, fresh.low, fresh.y_high, fresh.y_low],
            epochs=min(refresh, epochs - done),
            batch_size=batch_size,
            optimizer=lambda _: optimizer,
            schedule=lambda _: schedule,
            after_epoch=after_epoch,
            device=device,
            random_state=int(np.random.SeedSequence([random_state, done]).generate_state(1)[0]),
        )
        losses += history.losses
        if len(losses) == epochs:
            break
        fresh, held = next(batches_of_pairs)
    network.load_state_dict(averaged.module.state_dict())
    return Trained(network, tuple(losses), tuple(validation))


def _loss(
    bridge: BrownianBridge, p_uncond: float, network: nn.Module, high: Tensor, low: Tensor, y_high: Tensor, y_low: Tensor
) -> Tensor:
    """Mean absolute error at random times, with the values of some pairs hidden."""
    t = torch.randint(bridge.times, (len(high),), device=high.device)
    x = bridge.at(t, high, low, torch.randn_like(high))
    shown = (torch.rand(len(high), device=high.device) >= p_uncond).to(high)
    return (network(x, t, y_high * shown, y_low * shown) - (x - high)).abs().mean()


def _error(bridge: BrownianBridge, network: nn.Module, pairs: Pairs, random_state: int) -> float:
    """The loss on pairs with their values shown, at times and with noise that stay the same from epoch to epoch."""
    generator = torch.Generator().manual_seed(random_state)
    t = torch.randint(bridge.times, (len(pairs),), generator=generator)
    noise = torch.randn(pairs.high.shape, generator=generator).to(pairs.high)
    x = bridge.at(t, pairs.high, pairs.low, noise)
    said = network(x, t.to(x.device), pairs.y_high, pairs.y_low)
    return float((said - (x - pairs.high)).abs().mean())
