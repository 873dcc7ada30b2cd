"""Densities that are only estimated: marginals of programs, normalised posteriors, sequences of targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from locum.core.errors import InvalidData
from locum.infer._vi_engine import Generative, Program, current, positional, replicate
from locum.infer._vi_strategies import Reinforce, Strategy, torch_

__all__ = ["SIR", "Marginal", "Normalize", "sequential"]


@dataclass(frozen=True)
class SIR:
    """Sampling importance resampling: how a density is estimated.

    Parameters
    ----------
    n : int
        Weighted particles; the more, the tighter the bound, at that many times the cost.
    proposal : callable or None, default=None
        Of a marginal: takes the kept choices and the arguments, gives a program over the others and its arguments,
        ``(program, *args)``. Of a posterior: the program itself. Where None the program proposes by its own choices, each
        given the ones before it.
    """

    n: int
    proposal: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 1:
            raise InvalidData(f"expected SIR to have a whole number of 1 or more particles, got {self.n!r}")


class Marginal(Generative):
    """A program as a distribution over some of its sites, the others summed out by importance sampling.

    The density estimate is ``1/n Σ q(x, u_i) / r(u_i; x)``. Where x itself was drawn with auxiliary choices u, these take one
    of the n places: then the reciprocal is unbiased for the reciprocal density, which makes a bound of an objective that
    subtracts its log.

    Parameters
    ----------
    program : Program
    keep : sequence of str
        Sites that remain.
    algorithm : SIR
    """

    def __init__(self, program: Program, keep: Sequence[str], algorithm: SIR) -> None:
        if isinstance(keep, str) or not keep:
            raise InvalidData(f"expected keep= to be a list of addresses, got {keep!r}")
        self.program, self.keep, self.algorithm = program, tuple(keep), algorithm

    def simulate(self, *args: Any) -> tuple[dict[str, Any], Any]:
        trace = self.program.trace({}, None, args)
        absent = [one for one in self.keep if one not in trace.values]
        if absent:
            raise InvalidData(
                f"keep= names {absent[0]!r}, which is no site of {self.program.__name__!r}: {sorted(trace.values)}"
            )
        kept = {one: trace.values[one] for one in self.keep}
        rest = {one: value for one, value in trace.values.items() if one not in kept}
        if self.algorithm.proposal is None:
            own = trace.total(self.keep)
        else:
            proposal, *inputs = self.algorithm.proposal(kept, *args)
            own = trace.total() - proposal.density(rest, *inputs)
        return kept, _log_mean(own, self._weights(kept, args, self.algorithm.n - 1))

    def density(self, choices: Mapping[str, Any], *args: Any) -> Any:
        return _log_mean(None, self._weights(choices, args, self.algorithm.n))

    def _weights(self, kept: Mapping[str, Any], args: Any, count: int) -> Any:
        """Log weights of fresh auxiliary choices."""

        def fresh() -> Any:
            if self.algorithm.proposal is None:
                return self.program.trace(kept, None, args).total(self.keep)
            proposal, *inputs = self.algorithm.proposal(kept, *args)
            drawn, log_r = proposal.simulate(*inputs)
            return self.program.density({**kept, **drawn}, *args) - log_r

        return replicate(count, fresh) if count else None


class Normalize(Generative):
    """The posterior of a program given observations, sampled and evaluated by importance resampling.

    Parameters
    ----------
    program : Program
    obs : mapping or callable
        Values of the observed sites, or what gives them for the arguments after the first.
    algorithm : SIR
    strategy : Strategy or None, default=None
        Of the resampling; :class:`Reinforce` where None.
    """

    def __init__(self, program: Program, obs: Any, algorithm: SIR, strategy: Strategy | None = None) -> None:
        self.program, self.obs, self.algorithm = program, obs, algorithm
        self.strategy = strategy or Reinforce()

    def simulate(self, *args: Any) -> tuple[dict[str, Any], Any]:
        choices, log_weights = replicate(self.algorithm.n, lambda: self._weighted(args))
        (picked,) = resample(choices, log_weights, 1, self.strategy)
        log_p = self.program.density({**picked, **observed(self.obs, args)}, *args)
        return picked, log_p - _log_mean(None, log_weights)

    def density(self, choices: Mapping[str, Any], *args: Any) -> Any:
        obs = observed(self.obs, args)
        log_p = self.program.density({**choices, **obs}, *args)
        if self.algorithm.proposal is None:
            own = self.program.trace({**choices, **obs}, None, args).total(obs)
        else:
            own = log_p - self.algorithm.proposal.density(choices, *args)
        count = self.algorithm.n - 1
        others = replicate(count, lambda: self._weighted(args)[1]) if count else None
        return log_p - _log_mean(own, others)

    def _weighted(self, args: Any) -> tuple[dict[str, Any], Any]:
        """Fresh choices and their log weight."""
        obs = observed(self.obs, args)
        if self.algorithm.proposal is None:
            trace = self.program.trace(obs, None, args)
            return {one: value for one, value in trace.values.items() if one not in obs}, trace.total(obs)
        choices, log_q = self.algorithm.proposal.simulate(*args)
        return choices, self.program.density({**choices, **obs}, *args) - log_q


def sequential(
    targets: Sequence[Callable[..., Any]], proposals: Sequence[Callable[..., Any]], n: int, strategy: Strategy | None = None
) -> Any:
    """The log of sequential Monte Carlo's unbiased estimate of a normalising constant, within an objective.

    Step t draws the sites that are new by ``proposals[t]``, weighs by the ratio of ``targets[t]`` to the target before, and
    resamples before the next step. The mean of the log is a lower bound of the log constant.

    Parameters
    ----------
    targets : sequence of callable
        ``targets[t](choices)`` gives the log of an unnormalised density of all choices so far.
    proposals : sequence of callable
        ``proposals[t](choices)`` gives new choices and their log density, such as ``guide.simulate(params, choices)``.
    n : int
        Particles.
    strategy : Strategy or None, default=None
        Of the resampling; :class:`Reinforce` where None.

    Returns
    -------
    torch.Tensor
        One number a particle of the objective.
    """
    if not targets or len(targets) != len(proposals):
        raise InvalidData(f"expected as many proposals as targets, one or more, got {len(proposals)} and {len(targets)}")
    particles: list[dict[str, Any]] = [{} for _ in range(n)]
    before: list[Any] = [0.0] * n
    total: Any = 0.0
    for step, (target, proposal) in enumerate(zip(targets, proposals, strict=True)):
        grown, log_weights, now = [], [], []
        for choices, last in zip(particles, before, strict=True):
            new, log_q = proposal(choices)
            grown.append({**choices, **new})
            now.append(target(grown[-1]))
            log_weights.append(now[-1] - last - log_q)
        stack = _level(log_weights)
        total = total + _log_mean(None, stack)
        if step + 1 < len(targets):
            together = {key: _level([one[key] for one in grown]) for key in grown[0]}
            particles = resample(together, stack, n, strategy or Reinforce())
            before = [target(one) for one in particles]
    return total


def resample(choices: Mapping[str, Any], log_weights: Any, count: int, strategy: Strategy) -> list[dict[str, Any]]:
    """Draw among weighted particles, in proportion to their weights.

    Parameters
    ----------
    choices : mapping of str to torch.Tensor of shape (n, *particles, *event)
    log_weights : torch.Tensor of shape (n, *particles)
    count : int
        Draws.
    strategy : Strategy
    """
    torch, run, out = torch_(), current(), []
    for _ in range(count):
        law = torch.distributions.Categorical(logits=log_weights.movedim(0, -1))
        index = run.draw("index of a particle", law, strategy).value
        out.append({key: _picked(value, index, log_weights.dim()) for key, value in choices.items()})
    return out


def _picked(value: Any, index: Any, dimensions: int) -> Any:
    """The particle at `index` along the first dimension; branches may have been opened since."""
    event = value.shape[dimensions:]
    wide = value[(slice(None), *(None for _ in range(index.dim() - dimensions + 1)))]
    wide = wide.expand(len(value), *index.shape, *event)
    where = index.long().reshape(1, *index.shape, *(1 for _ in event)).expand(1, *index.shape, *event)
    return wide.gather(0, where)[0]


def _level(parts: list[Any]) -> Any:
    """Stacked along a new first dimension, after branches that some of them lack were added."""
    torch = torch_()
    return torch.stack(torch.broadcast_tensors(*parts))


def _log_mean(own: Any, others: Any) -> Any:
    """Log of the mean of the exponentials along the first dimension, with one more number."""
    torch = torch_()
    if others is None:
        return own
    number = len(others) + (own is not None)
    whole = others if own is None else torch.cat([own.expand(others.shape[1:])[None], others])
    return torch.logsumexp(whole, 0) - math.log(number)


def observed(obs: Any, args: Sequence[Any]) -> Mapping[str, Any]:
    """Observations, worked out of the inputs where they depend on them."""
    if callable(obs):
        inputs = args[1:]
        return obs(*inputs[: positional(obs)])
    return obs
