"""Gradient strategies: what a random choice does so that the derivative of an expectation can be estimated.

A strategy answers with choices: the first is the one the program goes on with, the others are alternatives under which the rest
of the program runs again. The rules by which their outcomes are put together are linear in the result of the program, so any
mixture of strategies in one program stays unbiased.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData, need, require_whole

if TYPE_CHECKING:
    import torch

__all__ = ["Choice", "Strategy", "Reparameterise", "Reinforce", "RunningMean", "Enumerate", "MeasureValued", "Average"]

LEAVE_ONE_OUT = "leave-one-out"
MOST_VALUES = 4096  # of one choice; more are no enumeration that anybody waits for


@cache
def torch_() -> Any:
    """PyTorch, asked for where it is used."""
    return need("torch", "variational inference", "nets")


@dataclass(frozen=True)
class Choice:
    """One outcome of a random choice, and what it does to the estimate.

    Attributes
    ----------
    value : torch.Tensor
        Of shape (width, *particles, *event), without the first where width is 0.
    width : int, default=0
        Number of branches that run side by side along a new leading dimension.
    weight : torch.Tensor or None, default=None
        Factor of the result, with its derivative.
    coefficient : torch.Tensor or None, default=None
        Of value zero; its derivative is multiplied by the result less the baseline.
    offset : torch.Tensor or None, default=None
        The coefficient times a baseline that is known at once.
    baseline : str, RunningMean or None, default=None
        One that is known only once the result is.
    pure : bool, default=False
        Whether the rest of the program is evaluated only, without derivatives.
    log_density : torch.Tensor or None, default=None
        Of the value, where it was computed on the way.
    """

    value: torch.Tensor
    width: int = 0
    weight: torch.Tensor | None = None
    coefficient: torch.Tensor | None = None
    offset: torch.Tensor | None = None
    baseline: Any = None
    pure: bool = False
    log_density: torch.Tensor | None = None

    def split(self) -> list[Choice]:
        """The branches one by one."""
        if not self.width:
            return [self]

        def at(i: int, part: Any) -> Any:
            return None if part is None else part[i]

        return [
            Choice(
                self.value[i],
                weight=at(i, self.weight),
                coefficient=at(i, self.coefficient),
                offset=at(i, self.offset),
                baseline=self.baseline,
                pure=self.pure,
                log_density=at(i, self.log_density),
            )
            for i in range(self.width)
        ]

    def summed(self, dimensions: int) -> Choice:
        """What replicas of a choice add to one result."""
        over = tuple(range(dimensions))
        coefficient = None if self.coefficient is None else self.coefficient.sum(over)
        offset = None if self.offset is None else self.offset.sum(over)
        return replace(self, coefficient=coefficient, offset=offset)


class Strategy(ABC):
    """How the derivative of an expectation over one random choice is estimated."""

    branching = False
    """Whether the rest of the program runs more than once."""

    @abstractmethod
    def choices(self, address: str, law: torch.distributions.Distribution, shape: tuple[int, ...]) -> list[Choice]:
        """The outcome to go on with, then the alternatives.

        Parameters
        ----------
        address : str
            Of the site, for messages.
        law : torch.distributions.Distribution
        shape : tuple of int
            Particles, and branches that were opened earlier.

        Raises
        ------
        InvalidData
            A distribution that the strategy does not apply to.
        """


class Reparameterise(Strategy):
    """The value is a smooth function of parameters and noise; derivatives flow through it.

    Pathwise for location-scale families, implicit for gamma, beta, Dirichlet and Student distributions (as PyTorch has it). The
    rest of the program must be continuous in the value: where it branches on it, use :class:`Reinforce`.
    """

    def choices(self, address: str, law: Any, shape: tuple[int, ...]) -> list[Choice]:
        if not law.has_rsample:
            raise InvalidData(
                f"site {address!r} draws from {name(law)}, which is not differentiable; it can use {applicable(law)}"
            )
        return [Choice(drawn(law, shape, differentiable=True))]


class RunningMean:
    """A baseline: the exponentially weighted mean of earlier results. It never sees the result it is subtracted from.

    Parameters
    ----------
    decay : float, default=0.9
        Weight of the past, in (0, 1).
    """

    def __init__(self, decay: float = 0.9) -> None:
        if not 0 < decay < 1:
            raise InvalidData(f"expected decay= between 0 and 1, got {decay!r}")
        self._decay, self._mean, self._mass = decay, 0.0, 0.0

    @property
    def value(self) -> float:
        """The baseline as it stands; 0 before the first result."""
        return self._mean / self._mass if self._mass else 0.0

    def update(self, result: float) -> None:
        """Take in a result, after it was used."""
        self._mean = self._decay * self._mean + (1 - self._decay) * result
        self._mass = self._decay * self._mass + (1 - self._decay)


@dataclass(frozen=True)
class Reinforce(Strategy):
    """The score function: the derivative of the log density times the result less a baseline.

    Parameters
    ----------
    baseline : float, torch.Tensor, "leave-one-out", RunningMean or None, default=None
        May depend on anything drawn before the site and on other particles, never on the site's own value.
        "leave-one-out" is the mean result of the other particles.
    """

    baseline: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.baseline, str) and self.baseline != LEAVE_ONE_OUT:
            raise InvalidData(
                f"expected baseline= to be a number, a tensor, {LEAVE_ONE_OUT!r}, RunningMean or None, got {self.baseline!r}"
            )

    def choices(self, address: str, law: Any, shape: tuple[int, ...]) -> list[Choice]:
        if moves(law):
            raise InvalidData(
                f"the support of {name(law)} at site {address!r} moves with its parameters, which the score does not see; "
                "use Reparameterise()"
            )
        value = drawn(law, shape)
        log_density = law.log_prob(value)
        coefficient = log_density - log_density.detach()
        if self.baseline is None or isinstance(self.baseline, str | RunningMean):
            return [Choice(value, coefficient=coefficient, baseline=self.baseline, log_density=log_density)]
        known = torch_().as_tensor(self.baseline).detach()
        return [Choice(value, coefficient=coefficient, offset=coefficient * known, log_density=log_density)]


class Enumerate(Strategy):
    """The rest of the program runs under every value of a finite choice; no noise is left from it."""

    branching = True

    def choices(self, address: str, law: Any, shape: tuple[int, ...]) -> list[Choice]:
        values = support(address, law)
        width, event = values.shape[0], values.shape[1:]
        full = values.reshape(width, *(1 for _ in shape), *event).expand(width, *shape, *event)
        log_density = law.log_prob(full)
        return [Choice(full, width, weight=log_density.exp(), log_density=log_density)]


class MeasureValued(Strategy):
    """The derivative of the density as a difference of two densities: the program runs under a draw from each.

    For Bernoulli, Poisson and normal distributions, alone or as independent entries: 1, 1 and 4 more runs an entry, side by
    side and without derivatives, each of which shares all earlier choices with the first.
    """

    branching = True

    def choices(self, address: str, law: Any, shape: tuple[int, ...]) -> list[Choice]:
        rule = _measure_valued(law)
        if rule is None:
            raise InvalidData(f"no measure-valued derivative of {name(law)} at site {address!r}; it can use {applicable(law)}")
        value = drawn(law, shape)
        event = value.shape[len(shape) :]
        flat = value.reshape(*shape, math.prod(event))
        coefficient, moved, weights = rule(base(law), flat, event)
        entries = flat.shape[-1]
        eye = torch_().eye(entries, dtype=flat.dtype, device=flat.device).reshape(-1, *(1 for _ in shape), entries)
        blocks = [flat + eye * (to - flat) for to in moved]  # entry j of branch j takes its new value, all others stay
        factors = [weight.expand(flat.shape).movedim(-1, 0) for weight in weights]
        other = torch_().cat(blocks).reshape(-1, *shape, *event)
        main = Choice(value, coefficient=None if coefficient is None else coefficient.expand(flat.shape).sum(-1))
        return [main, Choice(other, len(other), weight=torch_().cat(factors), pure=True)]


@dataclass(frozen=True)
class Average(Strategy):
    """The mean of several independent runs of the rest of the program.

    Parameters
    ----------
    strategy : Strategy
        Of each run; one that does not branch itself.
    runs : int
    """

    strategy: Strategy
    runs: int

    branching = True

    def __post_init__(self) -> None:
        require_whole(1, runs=self.runs)
        if self.strategy.branching:
            raise InvalidData(f"{type(self.strategy).__name__} runs the program several times already: use it alone")

    def choices(self, address: str, law: Any, shape: tuple[int, ...]) -> list[Choice]:
        (one,) = self.strategy.choices(address, law, (self.runs, *shape))
        weight = torch_().full((self.runs, *shape), 1.0 / self.runs, device=one.value.device)
        return [replace(one, width=self.runs, weight=weight)]


# ---------------------------------------------------------------------- distributions
def name(law: Any) -> str:
    """What a distribution is called."""
    return type(base(law)).__name__


def base(law: Any) -> Any:
    """The distribution of one entry."""
    while isinstance(law, torch_().distributions.Independent):
        law = law.base_dist
    return law


def moves(law: Any) -> bool:
    """Whether the support depends on parameters that are differentiated."""
    one, distributions = base(law), torch_().distributions
    edges = {distributions.Uniform: ("low", "high"), distributions.Pareto: ("scale",)}
    return any(getattr(one, edge).requires_grad for edge in edges.get(type(one), ()))


def drawn(law: Any, shape: tuple[int, ...], differentiable: bool = False) -> Any:
    """A value of shape (*shape, *event); the distribution may vary over some or all of the particles."""
    batch = tuple(law.batch_shape)
    lead = len(shape) - len(batch)
    if batch and shape[lead:] != batch:
        law, lead = law.expand(shape), 0
    return law.rsample(shape[:lead]) if differentiable else law.sample(shape[:lead])


def support(address: str, law: Any) -> Any:
    """All values, of shape (number, *event).

    Raises
    ------
    InvalidData
        There are too many of them, or infinitely many.
    """
    torch, one = torch_(), base(law)
    if not one.has_enumerate_support:
        raise InvalidData(f"the support of {name(law)} at site {address!r} is not finite; it can use {applicable(law)}")
    values = one.enumerate_support(expand=False)
    values = values.reshape(len(values), *one.event_shape)
    entries = math.prod(law.event_shape[: len(law.event_shape) - len(one.event_shape)])
    if entries * math.log(len(values)) > math.log(MOST_VALUES):
        raise InvalidData(
            f"site {address!r} has {len(values)}^{entries} values, more than {MOST_VALUES}; it can use "
            + applicable(law, without="Enumerate()")
        )
    each = torch.cartesian_prod(*[torch.arange(len(values), device=values.device)] * entries).reshape(-1, entries)
    return values[each].reshape(-1, *law.event_shape)


def applicable(law: Any, without: str = "") -> str:
    """The strategies that a distribution can have, in words."""
    found = {
        "Reparameterise()": law.has_rsample,
        "Reinforce()": not moves(law),
        "Enumerate()": base(law).has_enumerate_support,
        "MeasureValued()": _measure_valued(law) is not None,
    }
    return " or ".join(one for one, can in found.items() if can and one != without)


# ---------------------------------------------------------------------- derivatives of measures
def _measure_valued(law: Any) -> Callable[..., Any] | None:
    distributions = torch_().distributions
    rules = {distributions.Bernoulli: _bernoulli, distributions.Poisson: _poisson, distributions.Normal: _normal}
    return rules.get(type(base(law)))


def _flat(parameter: Any, event: Any) -> Any:
    """A parameter, event dimensions as one."""
    kept = parameter.shape[: parameter.dim() - len(event)]
    return parameter.reshape(*kept, -1) if event else parameter[..., None]


def _bernoulli(law: Any, value: Any, event: Any) -> Any:
    probability = _flat(law.probs, event)
    change = (2 * value - 1) * (probability - probability.detach())
    return change, [1 - value], [-change]


def _poisson(law: Any, value: Any, event: Any) -> Any:
    rate = _flat(law.rate, event)
    change = rate - rate.detach()
    return -change, [value + 1], [change]


def _normal(law: Any, value: Any, event: Any) -> Any:
    """Mean: a Rayleigh step up or down. Scale: a two-sided Maxwell step, and that times a uniform number, which is normal."""
    torch = torch_()
    mean, scale = _flat(law.loc, event), _flat(law.scale, event)
    at, width = mean.detach(), scale.detach()
    step = torch.empty_like(value).exponential_().mul(2).sqrt()
    sign = torch.where(torch.rand_like(value) < 0.5, -1.0, 1.0)
    far = sign * torch.randn(3, *value.shape, dtype=value.dtype, device=value.device).square().sum(0).sqrt()
    moved = [at + width * step, at - width * step, at + width * far, at + width * far * torch.rand_like(value)]
    shift = (mean - at) / (width * math.sqrt(2 * math.pi))
    spread = (scale - width) / width
    return None, moved, [shift, -shift, spread, -spread]
