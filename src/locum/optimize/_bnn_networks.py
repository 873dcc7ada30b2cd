"""Networks with a vector of weights for each of many draws, and the ways to draw them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from botorch.models.ensemble import EnsembleModel
from botorch.posteriors.ensemble import EnsemblePosterior

from locum.core.errors import LocumError

__all__ = ["DrawnModel", "Layers", "Posterior", "descended", "hamiltonian", "leapfrog_steps", "scale_adapted"]

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"tanh": torch.tanh, "relu": torch.relu, "identity": lambda z: z}
# Dual averaging of Hoffman and Gelman, arXiv 1111.4246, section 3.2, and the share of proposals that it aims at.
_AIM, _GAMMA, _T0, _KAPPA = 0.8, 0.05, 10.0, 0.75
_LEAST_ACCEPTED = 0.1
_LEAST_SQUARE = 1.0  # of a gradient: near a close fit it vanishes, and steps in its unit would leave all bounds


@dataclass(frozen=True)
class Layers:
    """A network of one output as a function of one vector of weights.

    Parameters
    ----------
    widths : tuple of int
        Inputs, hidden layers, and 1.
    activation : str
    """

    widths: tuple[int, ...]
    activation: str

    @property
    def size(self) -> int:
        """Number of weights, offsets included."""
        return sum(a * b + b for a, b in zip(self.widths, self.widths[1:], strict=False))

    def start(self, draws: int) -> Any:
        """Weights as PyTorch starts linear layers, shape (draws, size)."""
        parts = []
        for a, b in zip(self.widths, self.widths[1:], strict=False):
            parts.append((2 * torch.rand(draws, a * b + b, dtype=torch.float64) - 1) / math.sqrt(a))
        return torch.cat(parts, dim=1)

    def split(self, weights: Any) -> list[tuple[Any, Any]]:
        """Matrices (draws, a, b) and offsets (draws, 1, b) of each layer."""
        out, place = [], 0
        for a, b in zip(self.widths, self.widths[1:], strict=False):
            matrix = weights[:, place : place + a * b].reshape(-1, a, b)
            place += a * b
            out.append((matrix, weights[:, None, place : place + b]))
            place += b
        return out

    def __call__(self, weights: Any, X: Any) -> Any:
        """Answers of each draw (draws, size) at flat rows (n, d), shape (draws, n)."""
        act, h = _ACTIVATIONS[self.activation], X[None].expand(len(weights), -1, -1)
        layers = self.split(weights)
        for matrix, offset in layers[:-1]:
            h = act(torch.baddbmm(offset, h, matrix))
        matrix, offset = layers[-1]
        return torch.baddbmm(offset, h, matrix)[..., 0]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Weights with a normal prior, and values with normal noise.

    Parameters
    ----------
    layers : Layers
    X : torch.Tensor of shape (n, d)
    y : torch.Tensor of shape (n,)
    prior, noise : float
        Variances.
    """

    layers: Layers
    X: Any
    y: Any
    prior: float
    noise: float

    def energy(self, weights: Any) -> Any:
        """Less the logarithm of the density, up to a constant, of each draw, shape (draws,)."""
        left = self.y - self.layers(weights, self.X)
        return 0.5 * (weights**2).sum(dim=1) / self.prior + 0.5 * (left**2).sum(dim=1) / self.noise

    def slope(self, weights: Any) -> tuple[Any, Any]:
        """Energies and their gradients."""
        weights = weights.detach().requires_grad_()
        energy = self.energy(weights)
        (gradient,) = torch.autograd.grad(energy.sum(), weights)
        return energy.detach(), gradient

    def evidence_of(self, weights: Any, X: Any, y: Any) -> float:
        """Mean log density of values at other rows, with one normal distribution for the mixture of draws."""
        with torch.no_grad():
            said = self.layers(weights, X)
        mean = said.mean(dim=0)
        variance = said.var(dim=0) if len(said) > 1 else torch.zeros_like(mean)
        return float(torch.distributions.Normal(mean, (variance + self.noise).sqrt()).log_prob(y).mean())


# ---------------------------------------------------------------------- descent
def descended(
    energy: Callable[[Any], Any], start: Any, steps: int, rate: float, *, decay: float = 0.0, cosine: bool = False
) -> Any:
    """Weights (draws, size) after steps of Adam on the sum of their energies; draws have nothing to do with one another."""
    weights = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=rate, weight_decay=decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if cosine else None
    for _ in range(steps):
        optimizer.zero_grad()
        energy(weights).sum().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return weights.detach()


# ---------------------------------------------------------------------- sampling
def leapfrog_steps(path: float, step: float, most: int) -> int:
    """How many steps a path takes."""
    return max(1, min(most, math.ceil(path / step)))


@dataclass(frozen=True, eq=False)
class Chain:
    """What a chain of Hamiltonian Monte Carlo gave.

    Parameters
    ----------
    draws : torch.Tensor of shape (samples, size)
    accepted : float
        Share of the proposals after burn-in.
    step : float
        Size of a leapfrog step, as it was found in burn-in.
    leapfrog : int
        Steps of a proposal with it.
    energies : torch.Tensor of shape (samples,)
    """

    draws: Any
    accepted: float
    step: float
    leapfrog: int
    energies: Any


def hamiltonian(posterior: Posterior, start: Any, *, burn: int, samples: int, path: float, step: float, most: int) -> Chain:
    """Hamiltonian Monte Carlo from weights of shape (1, size), its step found by dual averaging in burn-in."""
    at = start
    energy, gradient = posterior.slope(at)
    first, averaged, missing = math.log(10 * step), 0.0, 0.0
    log_step, kept, energies, accepted = math.log(step), [], [], 0
    for i in range(1, burn + samples + 1):
        size = math.exp(log_step if i <= burn else averaged)
        momentum = torch.randn_like(at)
        place, push, height, slope = at, momentum, energy, gradient
        for _ in range(leapfrog_steps(path, size, most)):
            push = push - 0.5 * size * slope
            place = place + size * push
            height, slope = posterior.slope(place)
            push = push - 0.5 * size * slope
        gap = float(energy - height + 0.5 * (momentum**2).sum() - 0.5 * (push**2).sum())
        chance = math.exp(min(gap, 0.0)) if math.isfinite(gap) else 0.0
        if float(torch.rand(())) < chance:
            at, energy, gradient = place, height, slope
            accepted += i > burn
        if i <= burn:
            missing += (_AIM - chance - missing) / (i + _T0)
            log_step = first - math.sqrt(i) / _GAMMA * missing
            share = i**-_KAPPA
            averaged = share * log_step + (1 - share) * averaged
        else:
            kept.append(at)
            energies.append(energy)
    rate = accepted / samples
    if rate < _LEAST_ACCEPTED or not torch.isfinite(energy).all():
        raise LocumError(
            f"the chain accepted {rate:.0%} of its proposals with leapfrog steps of {math.exp(averaged):.2g}; lower step_size= "
            "or path_length="
        )
    size = math.exp(averaged)
    return Chain(torch.cat(kept), rate, size, leapfrog_steps(path, size, most), torch.cat(energies))


def scale_adapted(
    posterior: Posterior, start: Any, *, batch: int, steps: int, burn: int, every: int, rate: float, friction: float
) -> Any:
    """Stochastic gradient Hamiltonian Monte Carlo, with a scale of each weight found in burn-in; draws (samples, size).

    None where the chain left all bounds.

    Springenberg, Klein, Falkner and Hutter, *Bayesian optimization with robust Bayesian neural networks*, 2016, section 4.
    """
    n, at = len(posterior.y), start.clone()
    rate = rate / math.sqrt(n)  # the energy grows with the rows
    memory, mean, square = torch.ones_like(at), torch.zeros_like(at), torch.ones_like(at)
    velocity, kept = torch.zeros_like(at), []
    for i in range(steps):
        some = torch.randperm(n)[: min(batch, n)]
        noise = posterior.noise * len(some) / n  # so that some rows count as much as all
        gradient = Posterior(posterior.layers, posterior.X[some], posterior.y[some], posterior.prior, noise).slope(at)[1]
        if i < burn:
            memory = memory + 1 - memory * mean**2 / square
            share = 1 / memory
            mean = (1 - share) * mean + share * gradient
            square = ((1 - share) * square + share * gradient**2).clamp_min(_LEAST_SQUARE)
        inverse = square**-0.5
        spread = (2 * rate**2 * friction * inverse - rate**4).clamp_min(1e-16).sqrt()
        velocity = velocity - rate**2 * inverse * gradient - friction * velocity + spread * torch.randn_like(at)
        at = at + velocity
        if i >= burn and (i - burn) % every == every - 1:
            kept.append(at)
    out = torch.cat(kept)
    return out if torch.isfinite(out).all() else None


# ---------------------------------------------------------------------- a BoTorch model of draws
class DrawnModel(EnsembleModel):
    """A BoTorch model of networks whose weights were drawn, in the unit of the values.

    Joint samples take one network at all points; the variance of a new evaluation has the noise added.

    Parameters
    ----------
    layers : Layers
    weights : torch.Tensor of shape (draws, size)
    shift, scale : float
        Of the values, which the networks give standardised.
    noise : float
        Variance of standardised values.
    """

    def __init__(self, layers: Layers, weights: Any, shift: float, scale: float, noise: float) -> None:
        super().__init__()
        self.layers, self.draws, self.shift, self.scale, self.noise = layers, weights, shift, scale, noise
        self._num_outputs = 1

    def forward(self, X: Any) -> Any:
        flat = X.reshape(-1, X.shape[-1])
        said = self.layers(self.draws, flat).reshape(len(self.draws), *X.shape[:-1])
        return (self.shift + self.scale * said).movedim(0, -2).unsqueeze(-1)

    def posterior(self, X: Any, *args: Any, observation_noise: Any = False, **settings: Any) -> Any:
        found = super().posterior(X, *args, **settings)
        return _Noisy(found.values, self.noise * self.scale**2) if observation_noise is True else found


class _Noisy(EnsemblePosterior):
    """Draws of means, and noise of new evaluations around each."""

    def __init__(self, values: Any, noise: float) -> None:
        super().__init__(values)
        self.noise = noise

    @property
    def variance(self) -> Any:
        return super().variance + self.noise

    def rsample_from_base_samples(self, sample_shape: Any, base_samples: Any) -> Any:
        found = super().rsample_from_base_samples(sample_shape, base_samples)
        return found + math.sqrt(self.noise) * torch.randn_like(found)
