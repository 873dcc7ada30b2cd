"""The network from preferences to designs, and how it is trained against surrogates. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning
from numpy.typing import NDArray
from torch import Tensor, nn

from locum.core.errors import LocumError
from locum.nets import seeded
from locum.optimize._models import process_of
from locum.optimize._svh_psl_front import even_preferences, nondominated, volume

__all__ = ["Bound", "Learned", "ParetoNetwork", "Rule", "TrainingDiverged", "chosen", "direction", "learn", "similarity"]

_FLOAT = NDArray[np.float64]
_LEAST_VARIANCE = 1e-10  # at an evaluated design the slope of a standard deviation has no limit
_LEAST_WIDTH = 5e-6  # of a kernel where half of the particles are alike
_LEAST_LENGTH = 1e-12  # of a coordinate's gradients over the particles
_OFF_EDGE = 1e-4  # added to preferences, so that no objective counts nothing
_PER_OBJECTIVE = 100  # preferences that checkpoints are judged by
_MARGIN = 0.1  # by which the reference point lies beyond the front, in its own extent
_SAME = 1e-6  # designs nearer than this, in units of the space, are one design


class TrainingDiverged(LocumError, RuntimeError):
    """The surrogates, or the network trained against them, gave numbers that are not finite."""


@dataclass(frozen=True)
class Rule:
    """How particles share their gradients.

    Parameters
    ----------
    kernel : {"local", "global"} or None
    normalize : {"coordinate"} or None
    alpha, c : float
    """

    kernel: str | None
    normalize: str | None
    alpha: float
    c: float


class Bound:
    """Means of the objectives less some standard deviations, for designs in [0, 1].

    Parameters
    ----------
    models : sequence of sequence of botorch Model
        Those of each objective; several are averaged.
    deviations : float
    """

    def __init__(self, models: Sequence[Sequence[Any]], deviations: float) -> None:
        self._processes = [[process_of(one) for one in each] for each in models]
        self._deviations = deviations

    def __call__(self, x: Tensor) -> Tensor:
        """For x of shape (k, n), shape (k, m)."""
        return torch.stack([self._one(each, x) for each in self._processes], dim=1)

    def _one(self, processes: Sequence[Any], x: Tensor) -> Tensor:
        found = [one.marginal(x) for one in processes]
        mean, variance = (torch.stack(part) for part in zip(*found, strict=True))
        whole = variance.mean(dim=0) + mean.var(dim=0, correction=0)
        return mean.mean(dim=0) - self._deviations * whole.clamp_min(_LEAST_VARIANCE).sqrt()


# ---------------------------------------------------------------------- one step
def similarity(values: Tensor, active: Tensor, kernel: str, c: float) -> Tensor:
    """How alike particles are in the objectives, shape (P, P).

    Parameters
    ----------
    values : Tensor of shape (P, m)
    active : Tensor of shape (P,)
        The objective that decides each particle's scalar; with the local kernel it alone decides column b.
    kernel : {"local", "global"}
    c : float
        Multiplies the width.
    """
    apart = (values[:, None] - values[None]) ** 2
    if kernel == "global":
        apart = apart.sum(dim=2, keepdim=True)
        active = torch.zeros_like(active)
    middle = torch.quantile(apart.detach().reshape(-1, apart.shape[2]), 0.5, dim=0)
    width = torch.where(middle > 0, c * middle**2 / math.log(len(values)), _LEAST_WIDTH)
    columns = torch.arange(len(values))
    return torch.exp(-apart[:, columns, active] / width[active])


class ParetoNetwork(nn.Module):
    """Preferences of shape (k, m) to designs in [0, 1] of shape (k, n).

    Parameters
    ----------
    sizes : sequence of int
        m, widths of the layers between, and n.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(one, following, dtype=torch.float64) for one, following in pairwise(sizes))

    def traced(self, preferences: Tensor) -> tuple[list[Tensor], Tensor]:
        """What goes into each layer, and the designs."""
        into = [preferences]
        for layer in self.layers[:-1]:
            into.append(layer(into[-1]).relu())
        return into, self.layers[-1](into[-1]).sigmoid()

    def forward(self, preferences: Tensor) -> Tensor:
        return self.traced(preferences)[1]

    def slopes(self, into: list[Tensor], designs: Tensor, ahead: Tensor) -> list[Tensor]:
        """Slopes of what comes out of each layer, for slopes of the designs; each of shape (..., k, width)."""
        found = [ahead * designs * (1 - designs)]
        weights: list[Any] = [layer.weight for layer in self.layers[1:]]
        for weight, given in zip(reversed(weights), reversed(into[1:]), strict=True):
            found.append((found[-1] @ weight) * (given > 0))
        return found[::-1]


@torch.no_grad()
def direction(
    network: ParetoNetwork, preferences: Tensor, bound: Callable[[Tensor], Tensor], ideal: Tensor, rule: Rule
) -> tuple[list[Tensor], Tensor]:
    r"""What the parameters are moved against, in their order, summed over particles; and the similarities.

    The rows of :math:`\frac{1}{P}(K G + α ∇_θ K 1)` add up to the particles' gradients, each weighed by the sum of its column
    of K, and the gradient of all of K. The gradient of a particle in a layer's weights is a product of what goes in and of a
    slope of what comes out, so that neither sums over particles nor norms over them need each gradient on its own.

    Parameters
    ----------
    network : ParetoNetwork
    preferences : Tensor of shape (P, m)
    bound : callable
        Designs (P, n) to objectives (P, m).
    ideal : Tensor of shape (m,)
    rule : Rule

    Returns
    -------
    list of Tensor, and Tensor of shape (P, P)
    """
    into, designs = network.traced(preferences)
    slopes, push, alike = _wanted(designs, preferences, bound, ideal, rule)
    n = len(preferences)
    weight, push = alike.sum(dim=0)[:, None] / n, push / n
    if rule.normalize is None:
        each = network.slopes(into, designs, weight * slopes + push)
        return [one for given, slope in zip(into, each, strict=True) for one in (slope.T @ given, slope.sum(dim=0))], alike
    total = []
    both = network.slopes(into, designs, torch.stack([slopes, push]))
    for given, (slope, more) in zip(into, both, strict=True):
        total += [(weight * slope).T @ given / _length(slope.square().T @ given.square()) + more.T @ given]
        total += [(weight * slope).sum(dim=0) / _length(slope.square().sum(dim=0)) + more.sum(dim=0)]
    return total, alike


def _wanted(
    designs: Tensor, preferences: Tensor, bound: Callable[[Tensor], Tensor], ideal: Tensor, rule: Rule
) -> tuple[Tensor, Tensor, Tensor]:
    """Slopes of each particle's scalar and of all similarities in the designs, both (P, n), and the similarities."""
    with torch.enable_grad():
        x = designs.detach().requires_grad_()
        found = bound(x)
        # A design has its own row of values, so that one pass an objective gives every particle's slopes.
        jacobian = torch.stack([torch.autograd.grad(one.sum(), x, retain_graph=True)[0] for one in found.T], dim=1)
        values = found.detach().requires_grad_()
        active = (preferences * (values - ideal)).argmax(dim=1)
        at = torch.arange(len(x))
        slopes = preferences[at, active][:, None] * jacobian[at, active]
        if rule.kernel is None:
            return slopes, torch.zeros_like(slopes), torch.eye(len(x), dtype=x.dtype)
        alike = similarity(values, active, rule.kernel, rule.c)
        (push,) = torch.autograd.grad(rule.alpha * alike.sum(), values)
    return slopes, (push[:, :, None] * jacobian).sum(dim=1), alike.detach()


def _length(squares: Tensor) -> Tensor:
    return squares.sqrt().clamp_min(_LEAST_LENGTH)


# ---------------------------------------------------------------------- the training
@dataclass(frozen=True)
class Learned:
    """A trained network, and what its checkpoints reached.

    Parameters
    ----------
    network : ParetoNetwork
        At the best checkpoint.
    reference : ndarray of shape (m,)
        What hypervolumes were measured to; one for all checkpoints.
    hypervolumes : tuple of float
        Of the bounds predicted along the front, at each checkpoint.
    best : int
        The checkpoint taken.
    interaction : float
        Mean similarity of two different particles over the training; 0 where none heeds another.
    """

    network: ParetoNetwork
    reference: _FLOAT
    hypervolumes: tuple[float, ...]
    best: int
    interaction: float

    def designs(self, preferences: _FLOAT) -> _FLOAT:
        """Designs in [0, 1] for preferences of shape (k, m), shape (k, n)."""
        with torch.no_grad():
            found: Tensor = self.network(torch.as_tensor(preferences))
        return np.asarray(found.numpy())


def learn(
    bound: Bound, ideal: _FLOAT, front: _FLOAT, width: int, rule: Rule, *, hidden: Sequence[int], particles: int, steps: int,
    every: int, rate: float, seed: int,
) -> Learned:  # fmt: skip
    """Train a new network.

    Parameters
    ----------
    bound : Bound
    ideal : ndarray of shape (m,)
    front : ndarray of shape (k, m)
        Evaluated, in the unit of the bound.
    width : int
        Of a design.
    rule : Rule
    hidden : sequence of int
    particles, steps, every : int
        Preferences a step, steps, and steps between two checkpoints.
    rate : float
        Of Adam.
    seed : int
    """
    m = len(ideal)
    fixed = torch.as_tensor(even_preferences(m, _PER_OBJECTIVE * m))
    kept: list[tuple[dict[str, Tensor], _FLOAT]] = []
    alike = 0.0
    with seeded(seed):
        network = ParetoNetwork([m, *hidden, width])
        optimizer = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
        drawn = torch.distributions.Dirichlet(torch.ones(m, dtype=torch.float64)).sample((steps, particles)) + _OFF_EDGE
    goal = torch.as_tensor(ideal)
    for step, preferences in enumerate(drawn, 1):
        moved, kernel = direction(network, preferences, bound, goal, rule)
        for parameter, against in zip(network.parameters(), moved, strict=True):
            parameter.grad = against
        optimizer.step()
        alike += float((kernel.sum() - kernel.trace()) / max(1, particles * (particles - 1)))
        if step % every == 0 or step == steps:
            with torch.no_grad():
                values = bound(network(fixed)).numpy()
            if not np.isfinite(values).all():
                raise TrainingDiverged(f"the predicted front is not finite after {step} steps; train with a smaller rate")
            kept.append(({name: one.clone() for name, one in network.state_dict().items()}, values))
    reference = beyond(np.vstack([front, kept[-1][1]]))
    reached = tuple(volume(values, reference) for _, values in kept)
    best = int(np.argmax(reached))
    network.load_state_dict(kept[best][0])
    return Learned(network.eval(), reference, reached, best, alike / steps)


def beyond(Y: _FLOAT) -> _FLOAT:
    """A reference point a little beyond the front of some rows, so that its ends count as well."""
    front = Y[nondominated(Y)]
    extent = np.ptp(front, axis=0)
    return np.asarray(front.max(axis=0) + _MARGIN * np.where(extent > 0, extent, 1.0))


# ---------------------------------------------------------------------- what to evaluate
def chosen(designs: _FLOAT, values: _FLOAT, front: _FLOAT, known: _FLOAT, n: int) -> list[int]:
    """Up to n different candidates, each the one that adds most to the volume of the front and of those before it.

    Parameters
    ----------
    designs : ndarray of shape (k, n)
        In [0, 1].
    values : ndarray of shape (k, m)
        Objectives to expect of them.
    front : ndarray of shape (f, m)
    known : ndarray of shape (e, n)
        Designs evaluated, which are not taken again.
    n : int
    """
    reference = -torch.as_tensor(beyond(np.vstack([front, values])))
    offers, free = -torch.as_tensor(values), np.ones(len(designs), dtype=bool)
    for row in known:
        free &= np.abs(designs - row).max(axis=1) > _SAME
    out: list[int] = []
    while len(out) < n and free.any():
        have = -torch.as_tensor(np.vstack([front, values[out]]))
        low, high = FastNondominatedPartitioning(reference, have).get_hypercell_bounds()
        sides = (torch.minimum(offers[:, None], high) - low).clamp_min(0.0)
        gains = sides.prod(dim=2).sum(dim=1).numpy()
        out.append(int(np.argmax(np.where(free, gains, -1.0))))
        free &= np.abs(designs - designs[out[-1]]).max(axis=1) > _SAME
    return out
