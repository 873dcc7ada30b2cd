"""Programmable variational inference: models, guides and objectives as programs, with unbiased gradients.

A guide, a program of parameters, stands in for the posterior of a model, another program. What is optimised is a third: a
function that simulates programs, asks for their densities and returns a number, whose expectation is meant. How the derivative
of that expectation is estimated is said choice by choice, by a strategy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData, require_whole
from locum.infer._vi_checks import Laplace, Prior, Unbiasedness, check_unbiased, evidence_gap, pareto_k
from locum.infer._vi_engine import (
    Generative,
    NeedsLoop,
    Program,
    Run,
    compares,
    frozen,
    leaves,
    positional,
    program,
    replicate,
    running,
    running_means,
    sample,
    surrogate,
    values,
)
from locum.infer._vi_marginals import SIR, Marginal, Normalize, observed, sequential
from locum.infer._vi_strategies import (
    Average,
    Choice,
    Enumerate,
    MeasureValued,
    Reinforce,
    Reparameterise,
    RunningMean,
    Strategy,
    torch_,
)
from locum.nets import seeded

if TYPE_CHECKING:
    import torch

__all__ = [
    "program",
    "sample",
    "Program",
    "Generative",
    "Strategy",
    "Choice",
    "Reparameterise",
    "Reinforce",
    "RunningMean",
    "Enumerate",
    "MeasureValued",
    "Average",
    "objective",
    "Objective",
    "Estimate",
    "Optimised",
    "elbo",
    "iwelbo",
    "q_wake",
    "p_wake",
    "frozen",
    "replicate",
    "Marginal",
    "Normalize",
    "SIR",
    "sequential",
    "draws",
    "check_unbiased",
    "Unbiasedness",
    "evidence_gap",
    "pareto_k",
    "Prior",
    "Laplace",
]


@dataclass(frozen=True)
class Estimate:
    """An objective and its gradient, estimated.

    Attributes
    ----------
    value : float
        Mean over particles and rows.
    std_err : float
        Of the value; infinite with one particle.
    grads : dict of str to torch.Tensor
        Unbiased estimate of the derivative for each parameter.
    values : torch.Tensor
        One number a particle (and row).
    """

    value: float
    std_err: float
    grads: dict[str, torch.Tensor]
    values: torch.Tensor


@dataclass(frozen=True)
class Optimised:
    """Where an optimisation ended.

    Attributes
    ----------
    params : mapping of str to torch.Tensor, or torch.nn.Module
        In the form they were given.
    values : tuple of float
        The estimate of each step.
    """

    params: Any
    values: tuple[float, ...]


class Objective:
    r"""The expectation of a program over programs, to be maximised.

    For a function with value f and choices v the estimate is
    :math:`\sum_{\ell} W_\ell f_\ell + \bar W_\ell \sum_s c_{\ell s} (\bar f_\ell - b_s)`, a sum over the leaves that branching
    strategies open: W is the product of their weights, c the (zero-valued) score of each choice that has one, b its baseline,
    and a bar stops derivatives. Its derivative is unbiased for any mixture of strategies, since each rule is linear in f.

    Parameters
    ----------
    function : callable
        Takes parameters and inputs (as many as it takes), calls :meth:`Generative.simulate` and :meth:`Generative.density`, and
        returns one number a particle.
    vectorised : bool, default=True
        Whether particles run side by side. False where a program branches on its own choices: they then run one by one.
    max_branches : int, default=1024
        Runs that strategies may open for one particle, side by side or one by one.

    Notes
    -----
    Cost: one forward and one backward pass of all particles. Each :class:`Enumerate` multiplies the work behind it by its
    number of values; each :class:`MeasureValued` adds a forward pass.

    **Departures**: PyTorch runs each program on lanes of particles where the paper maps a program over keys; continuations are
    replays of the program with earlier choices repeated; derivatives are taken in reverse mode of one surrogate rather than by
    dual numbers. Expectations stand outside: a function of an expectation, which the paper allows for in part, is not offered.

    References
    ----------
    Becker et al., *Probabilistic programming with programmable variational inference*, PLDI 2024, arXiv 2406.15742. Lew et al.,
    *ADEV*, POPL 2023, arXiv 2212.06386, for unbiased composition. Foerster et al., *DiCE*, 2018, arXiv 1802.05098, for scores
    of value zero. Heidergott et al., 2008, for measure-valued derivatives of the normal distribution.

    Examples
    --------
    >>> import torch
    >>> from torch.distributions import Bernoulli
    >>> @program
    ... def coin(params):
    ...     sample("heads", Bernoulli(params["p"]), Enumerate())
    >>> payoff = Objective(lambda params: 3.0 * coin.simulate(params)[0]["heads"])
    >>> estimate = payoff.value_and_grad({"p": torch.tensor(0.25)})
    >>> estimate.value, estimate.grads["p"].item()
    (0.75, 3.0)
    """

    papers = ("programmable-vi",)

    def __init__(self, function: Callable[..., Any], *, vectorised: bool = True, max_branches: int = 1024) -> None:
        if not callable(function):
            raise InvalidData(f"expected an objective to be a function of parameters, got {type(function).__name__}")
        self.function, self.vectorised, self.max_branches = function, vectorised, max_branches
        self._takes = positional(function)
        self._unrolled = False
        self._checked: set[int | None] = set()

    def surrogate(self, params: Any, *inputs: Any, particles: int = 1, rows: int | None = None) -> torch.Tensor:
        """A number whose value is the estimate and whose derivative is the gradient estimate, for any optimiser of PyTorch.

        Draws from PyTorch's generator as it stands; see :func:`locum.nets.seeded`.

        Parameters
        ----------
        params : mapping of str to torch.Tensor, or torch.nn.Module
        *inputs
        particles : int, default=1
        rows : int or None, default=None
            Independent rows along the last dimension of every number, the objective being the mean over them. None for one.
        """
        return self._estimate((params, *inputs), particles, rows)[0].mean()

    def value_and_grad(
        self, params: Any, *inputs: Any, particles: int = 1, rows: int | None = None, random_state: int = 0
    ) -> Estimate:
        """Estimate the objective and its derivative.

        Parameters
        ----------
        params : mapping of str to torch.Tensor, or torch.nn.Module
        *inputs
        particles : int, default=1
            Independent estimates that are averaged.
        rows : int or None, default=None
        random_state : int, default=0

        Raises
        ------
        InvalidData
            Programs that do not fit together, a strategy that does not apply, or a density that is no number.
        """
        params, tensors = differentiable(params)
        with seeded(random_state):
            total, found = self._estimate((params, *inputs), particles, rows)
        mean = total.mean()
        grads: Any = [None] * len(tensors)
        if mean.requires_grad:
            grads = torch_().autograd.grad(mean, list(tensors.values()), allow_unused=True)
        named = {
            key: torch_().zeros_like(one) if grad is None else grad
            for (key, one), grad in zip(tensors.items(), grads, strict=True)
        }
        each = found.reshape(particles, -1).mean(1)
        error = float(each.std()) / math.sqrt(particles) if particles > 1 else math.inf
        return Estimate(float(each.mean()), error, named, found)

    def evaluate(self, params: Any, *inputs: Any, particles: int = 1, rows: int | None = None, random_state: int = 0) -> Any:
        """The objective alone, one number a particle, without strategies or derivatives.

        Parameters
        ----------
        params : mapping of str to torch.Tensor, or torch.nn.Module
        *inputs
        particles : int, default=1
        rows : int or None, default=None
        random_state : int, default=0

        Returns
        -------
        torch.Tensor of shape (particles,) or (particles, rows)
        """
        with seeded(random_state), torch_().no_grad():
            return self._run((params, *inputs), particles, rows, pure=True)[1]

    def maximise(
        self,
        params: Any,
        *inputs: Any,
        steps: int,
        particles: int = 1,
        rows: int | None = None,
        optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
        random_state: int = 0,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Optimised:
        """Climb the objective by stochastic gradients.

        Networks on batches of data train through :func:`locum.nets.train`, with minus :meth:`surrogate` as loss.

        Parameters
        ----------
        params : mapping of str to torch.Tensor, or torch.nn.Module
            A module is changed in place, a mapping is not.
        *inputs
        steps : int
        particles : int, default=1
        rows : int or None, default=None
        optimizer : callable or None, default=None
            Takes the parameters, gives the optimizer; Adam with steps of 0.01 where None.
        random_state : int, default=0
        progress : callable or None, default=None
            Called with (steps done, steps in all, the value in words).
        """
        require_whole(1, steps=steps)
        params, tensors = differentiable(params)
        climb = (optimizer or (lambda found: torch_().optim.Adam(found, lr=0.01)))(list(tensors.values()))
        history: list[float] = []
        with seeded(random_state):
            for step in range(steps):
                climb.zero_grad(set_to_none=True)
                total, found = self._estimate((params, *inputs), particles, rows)
                (-total.mean()).backward()
                climb.step()
                history.append(float(found.mean()))
                if progress is not None:
                    progress(step + 1, steps, f"objective {history[-1]:.4g}")
        if isinstance(params, Mapping):
            params = {key: one.detach() for key, one in params.items()}
        return Optimised(params, tuple(history))

    def _estimate(self, args: tuple[Any, ...], particles: int, rows: int | None) -> tuple[Any, Any]:
        self._rehearse(args, rows)
        return self._run(args, particles, rows, pure=False)

    def _run(self, args: tuple[Any, ...], particles: int, rows: int | None, pure: bool) -> tuple[Any, Any]:
        """Surrogate and value of each particle."""
        require_whole(1, particles=particles)
        if rows is not None and not self.vectorised:
            raise InvalidData("rows= run side by side, which vectorised=False rules out: sum over them in the objective")
        row = () if rows is None else (rows,)
        lone = self.vectorised and particles == 1  # it needs no dimension of its own, which saves time in networks
        shape = (*(() if lone else (particles,)), *row) if self.vectorised else ()
        runs = self._all_leaves(args, shape, 1 if self.vectorised else particles, pure)
        each = [values(one, len(shape)) for one in runs]
        found = each[0] if self.vectorised and not lone else torch_().stack(each)
        if not math.isfinite(float(found.sum())):
            culprits = [run.culprit() for one in runs for run in one if not bool(run.result.isfinite().all())]
            raise InvalidData(
                f"the objective is not finite: {culprits[0] if culprits else 'its weights are not'}; mend it there"
            )
        if pure:
            return found, found
        others: Any = [None] * len(runs)
        if particles > 1 and any(map(compares, runs)):
            mean = (found.sum(0) - found) / (particles - 1)
            others = [mean] if self.vectorised else list(mean)
        totals = [surrogate(one, len(shape), other) for one, other in zip(runs, others, strict=True)]
        for baseline in running_means([run for one in runs for run in one]):
            baseline.update(float(found.mean()))
        return (totals[0] if self.vectorised and not lone else torch_().stack(totals)), found

    def _all_leaves(self, args: tuple[Any, ...], shape: tuple[int, ...], times: int, pure: bool) -> list[list[Run]]:
        try:
            return [self._leaves(args, shape, pure) for _ in range(times)]
        except NeedsLoop:
            self._unrolled = True
        return [self._leaves(args, shape, pure) for _ in range(times)]

    def _leaves(self, args: tuple[Any, ...], shape: tuple[int, ...], pure: bool) -> list[Run]:
        settings = {"vectorised": self.vectorised, "unrolled": self._unrolled, "most": self.max_branches}
        return leaves(lambda: self.function(*args[: self._takes]), shape, pure=pure, **settings)

    def _rehearse(self, args: tuple[Any, ...], rows: int | None) -> None:
        """One particle without a dimension of its own: shapes that only fit by accident show here."""
        if rows in self._checked:
            return
        with seeded(0), torch_().no_grad():
            self._leaves(args, () if rows is None else (rows,), pure=True)
        self._checked.add(rows)


def objective(function: Callable[..., Any] | None = None, *, vectorised: bool = True, max_branches: int = 1024) -> Any:
    """Make an :class:`Objective` of a function (a decorator, with or without settings).

    Parameters
    ----------
    function : callable or None, default=None
    vectorised : bool, default=True
    max_branches : int, default=1024

    Examples
    --------
    >>> import torch
    >>> from torch.distributions import Normal
    >>> @program
    ... def guide(params):
    ...     sample("x", Normal(params["mean"], 1.0))
    >>> @objective
    ... def minus_square(params):
    ...     choices, log_density = guide.simulate(params)
    ...     return -choices["x"] ** 2
    >>> estimate = minus_square.value_and_grad({"mean": torch.tensor(1.0)}, particles=4096)
    >>> abs(estimate.value + 2.0) < 4 * estimate.std_err
    True
    """
    if function is None:
        return lambda one: Objective(one, vectorised=vectorised, max_branches=max_branches)
    return Objective(function, vectorised=vectorised, max_branches=max_branches)


# ---------------------------------------------------------------------- objectives that come with it
def elbo(model: Generative, guide: Generative, obs: Any, *, vectorised: bool = True, max_branches: int = 1024) -> Objective:
    """The evidence lower bound, ``E_q[log p(x, obs) - log q(x)]``. A :class:`Marginal` guide makes it hierarchical.

    Parameters
    ----------
    model, guide : Generative
        Each takes as many of (parameters, *inputs) as it has arguments.
    obs : mapping of str to torch.Tensor, or callable
        Values of the observed sites, or a function of the inputs that gives them.
    vectorised : bool, default=True
    max_branches : int, default=1024
    """

    def bound(*args: Any) -> Any:
        return _log_weight(model, guide, obs, args)

    return Objective(bound, vectorised=vectorised, max_branches=max_branches)


def iwelbo(
    model: Generative, guide: Generative, obs: Any, k: int, *, vectorised: bool = True, max_branches: int = 1024
) -> Objective:
    """The importance-weighted bound, ``E log (1/k) Σ p(x_i, obs) / q(x_i)``: never below the ELBO, up to the log evidence.

    Parameters
    ----------
    model, guide : Generative
    obs : mapping of str to torch.Tensor, or callable
    k : int
        Draws of the guide.
    vectorised : bool, default=True
    max_branches : int, default=1024
    """

    def bound(*args: Any) -> Any:
        log_weights = replicate(k, lambda: _log_weight(model, guide, obs, args))
        return torch_().logsumexp(log_weights, 0) - math.log(k)

    return Objective(bound, vectorised=vectorised, max_branches=max_branches)


def q_wake(model: Program, guide: Generative, obs: Any, algorithm: SIR, *, vectorised: bool = True) -> Objective:
    """The wake phase of the guide: ``E log q(x)``, x from an importance approximation of the posterior that is held fixed.

    Parameters
    ----------
    model : Program
    guide : Generative
    obs : mapping of str to torch.Tensor, or callable
    algorithm : SIR
        Its proposal is usually the guide.
    vectorised : bool, default=True
    """

    def bound(*args: Any) -> Any:
        with frozen():
            choices, _ = Normalize(model, obs, algorithm).simulate(*args)
        return guide.density(choices, *args)

    return Objective(bound, vectorised=vectorised)


def p_wake(model: Program, obs: Any, algorithm: SIR, *, vectorised: bool = True) -> Objective:
    """The wake phase of the model: ``E log p(x, obs)``, x from an importance approximation of the posterior that is held fixed.

    Parameters
    ----------
    model : Program
    obs : mapping of str to torch.Tensor, or callable
    algorithm : SIR
    vectorised : bool, default=True
    """

    def bound(*args: Any) -> Any:
        with frozen():
            choices, _ = Normalize(model, obs, algorithm).simulate(*args)
        return model.density({**choices, **observed(obs, args)}, *args)

    return Objective(bound, vectorised=vectorised)


def draws(guide: Generative, *args: Any, n: int = 1000, random_state: int = 0) -> dict[str, torch.Tensor]:
    """Draw from a program, such as a guide that was optimised.

    Parameters
    ----------
    guide : Generative
        Vectorised: written for one particle, run for n.
    *args
        Its own.
    n : int, default=1000
    random_state : int, default=0

    Returns
    -------
    dict of str to torch.Tensor of shape (n, *event)
    """
    with seeded(random_state), torch_().no_grad(), running(Run((n,))):
        return guide.simulate(*args)[0]


def _log_weight(model: Generative, guide: Generative, obs: Any, args: tuple[Any, ...]) -> Any:
    choices, log_q = guide.simulate(*args)
    seen = observed(obs, args)
    twice = [one for one in choices if one in seen]
    if twice:
        raise InvalidData(f"site {twice[0]!r} is observed, and the guide draws it: take it out of one of the two")
    return model.density({**choices, **seen}, *args) - log_q


# ---------------------------------------------------------------------- parameters
def differentiable(params: Any) -> tuple[Any, dict[str, Any]]:
    """Parameters to differentiate for, copied where they come as a mapping, and the tensors by name."""
    torch = torch_()
    if isinstance(params, torch.nn.Module):
        tensors = {key: one for key, one in params.named_parameters() if one.requires_grad}
    elif isinstance(params, Mapping):
        wrong = [key for key, one in params.items() if not isinstance(one, torch.Tensor) or not one.is_floating_point()]
        if wrong:
            raise InvalidData(f"expected parameters to be tensors of floats, got {params[wrong[0]]!r} for {wrong[0]!r}")
        params = {key: one.detach().clone().requires_grad_() for key, one in params.items()}
        tensors = dict(params)
    else:
        raise InvalidData(f"expected parameters as a mapping of tensors or a torch.nn.Module, got {type(params).__name__}")
    if not tensors:
        raise InvalidData("expected at least one parameter to differentiate for, got none")
    return params, tensors
