"""Generative programs, and the engine that runs an objective over them: particles side by side, branches by replay.

An objective is run once from the start. Where a choice has alternatives, a run that repeats the choices made so far and then
takes the alternative is put on a list; choices that are repeated keep their tensors, so all runs share one graph and one
backward pass. What the leaves give is put together in :func:`surrogate`, whose value is the objective and whose derivative
is an unbiased estimate of the derivative of its expectation.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData
from locum.infer._vi_strategies import LEAVE_ONE_OUT, Choice, Reparameterise, RunningMean, Strategy, drawn, name, torch_

if TYPE_CHECKING:
    import torch

__all__ = ["sample", "program", "Generative", "Program", "frozen", "replicate", "Run", "Trace", "leaves", "values", "surrogate"]

_AMBIGUOUS = "Boolean value of Tensor with more than one value"
_DEFAULT = Reparameterise()


class NeedsLoop(Exception):
    """A choice with branches sits inside replicas that run side by side."""


# ---------------------------------------------------------------------- one run
@dataclass
class Run:
    """One pass through an objective.

    Attributes
    ----------
    shape : tuple of int or None
        Of one number for every particle: replicas, branches, then the particles themselves. None outside an objective.
    prefix : sequence of Choice
        Choices to repeat.
    pure : bool
        Values only.
    vectorised : bool
        Whether branches run side by side.
    unrolled : bool
        Whether replicas run one after the other.
    most : int
        Branches allowed in all.
    """

    shape: tuple[int, ...] | None
    prefix: Sequence[Choice] = ()
    pure: bool = True
    vectorised: bool = True
    unrolled: bool = False
    most: int = 1
    made: list[Choice] = field(default_factory=list)
    pending: list[list[Choice]] = field(default_factory=list)
    densities: list[tuple[str, Any]] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    replicas: int = 0
    branches: int = 1
    result: Any = None

    def draw(self, address: str, law: Any, strategy: Strategy | None) -> Choice:
        """A random choice, new or repeated."""
        if self.shape is None:
            raise InvalidData(f"site {address!r} was reached outside an objective; to draw from a program, call draws()")
        self.check(address, tuple(law.batch_shape), law)
        if len(self.made) < len(self.prefix):
            choice = self.prefix[len(self.made)]
        elif self.pure:
            choice = Choice(drawn(law, self.shape))
        else:
            choice = self._choose(address, law, strategy or _DEFAULT)
        self.made.append(choice)
        if choice.width:
            self.shape = (choice.width, *self.shape)
            self._open(choice.width, address)
        self.pure = self.pure or choice.pure
        return choice

    def _choose(self, address: str, law: Any, strategy: Strategy) -> Choice:
        assert self.shape is not None
        if strategy.branching and self.replicas:
            raise NeedsLoop
        found = strategy.choices(address, law, self.shape)
        if not self.vectorised:
            found = [one for choice in found for one in choice.split()]
        if self.replicas:
            found = [one.summed(self.replicas) for one in found]
        self.pending += [[*self.made, one] for one in found[1:]]
        if not self.vectorised:
            self._open(len(found), address)
        return found[0]

    def _open(self, width: int, address: str) -> None:
        self.branches *= width
        if self.branches > self.most:
            raise InvalidData(
                f"{self.branches} branches are open at site {address!r}, more than max_branches={self.most}; nested "
                "enumerations multiply: use MeasureValued() or Reinforce() at some of these sites, or allow more branches"
            )

    def check(self, address: str, batch: tuple[int, ...], law: Any) -> None:
        """Refuse a site with dimensions of its own that are not declared as an event."""
        shape = self.shape
        if shape is None or not batch or batch == shape:
            return
        fits = len(batch) <= len(shape) and all(b in (1, s) for b, s in zip(reversed(batch), reversed(shape), strict=False))
        if not fits:
            raise InvalidData(
                f"site {address!r} has batch shape {batch} where one particle has {shape or 'no dimensions'}: wrap its own "
                f"dimensions, torch.distributions.Independent({name(law)}(...), {len(batch)})"
            )

    def log_density(self, address: str, law: Any, value: Any, known: Any = None) -> Any:
        """Log density of a value, one number a particle; `known` is what a strategy found it to be."""
        try:
            found = law.log_prob(value) if known is None else known
        except (ValueError, RuntimeError) as error:
            reason = str(error).partition("\n")[0]
            raise InvalidData(f"the density of site {address!r} ({name(law)}) has no value there: {reason}") from error
        if found.shape != self.shape:
            self.check(address, tuple(found.shape), law)
        self.densities.append((address, found))
        return found

    def culprit(self) -> str:
        """The first site whose density is not a finite number, in words."""
        for address, found in self.densities:
            if not bool(found.isfinite().all()):
                bad = "NaN" if bool(found.isnan().any()) else "infinite"
                return f"the log density of site {address!r} is {bad}"
        return "all densities are finite, so it is the objective itself"


_RUN: ContextVar[Run] = ContextVar("run")


def current() -> Run:
    """The run in progress; outside one, a run that evaluates densities and draws nothing."""
    return _RUN.get(None) or Run(None)


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Make a run the one in progress."""
    token = _RUN.set(run)
    try:
        yield run
    finally:
        _RUN.reset(token)


# ---------------------------------------------------------------------- programs
class Generative(ABC):
    """A distribution over choices: named values."""

    @abstractmethod
    def simulate(self, *args: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Choices, and the log of their density or of an estimate whose reciprocal is unbiased for the reciprocal density.

        Parameters
        ----------
        *args
            Of the program; it is given as many of the first ones as it takes.
        """

    @abstractmethod
    def density(self, choices: Mapping[str, torch.Tensor], *args: Any) -> torch.Tensor:
        """The log density of choices, or of an unbiased estimate of the density.

        Parameters
        ----------
        choices : mapping of str to torch.Tensor
            A value for each site, and for nothing else.
        *args
            As above.
        """


@dataclass
class Trace:
    """The sites of one execution of a program.

    Attributes
    ----------
    given : mapping
        Values that are known beforehand.
    missing : str or None
        Why a site must have one of them; None where the others are drawn.
    """

    given: Mapping[str, Any]
    missing: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, Any] = field(default_factory=dict)

    def total(self, addresses: Any = None) -> Any:
        """Sum of the log densities of some or all sites."""
        picked = list(self.logs.values()) if addresses is None else [self.logs[one] for one in addresses]
        out = picked[0] if picked else torch_().zeros(())
        for one in picked[1:]:
            out = out + one
        return out


class Program(Generative):
    """A Python function that makes random choices with :func:`sample`, as a distribution. Made by :func:`program`.

    Parameters
    ----------
    function : callable
        Of positional arguments. Written for one particle, with `...` before the dimensions of an event, it runs for many.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__name__ = getattr(function, "__name__", "program")
        self.__doc__ = function.__doc__
        self.takes = positional(function)

    def __call__(self, *args: Any) -> Any:
        """Run it as a part of another program."""
        return self.function(*args[: self.takes])

    def trace(self, given: Mapping[str, Any], missing: str | None, args: Any) -> Trace:
        """Execute it, some or all sites given.

        Parameters
        ----------
        given : mapping of str to torch.Tensor
        missing : str or None
            Why a site without a value is refused; None where it is drawn.
        args : sequence

        Raises
        ------
        InvalidData
            A site twice, a site without a value, a value without a site, or a value of density zero.
        """
        run, trace = current(), Trace(given, missing)
        run.traces.append(trace)
        token = _RUN.set(run)
        try:
            self(*args)
        finally:
            _RUN.reset(token)
            run.traces.pop()
        strange = [one for one in given if one not in trace.values]
        if strange:
            there = ", ".join(map(repr, trace.values)) or "none"
            raise InvalidData(
                f"program {self.__name__!r} has no site {', '.join(map(repr, strange))} that a value was given for (a site of "
                f"the guide, or an observation); its sites are {there}"
            )
        return trace

    def simulate(self, *args: Any) -> tuple[dict[str, Any], Any]:
        trace = self.trace({}, None, args)
        return trace.values, trace.total()

    def density(self, choices: Mapping[str, Any], *args: Any) -> Any:
        return self.trace(choices, "no value was given for it: add it to the guide, or observe it", args).total()


def program(function: Callable[..., Any]) -> Program:
    """Make a generative program of a Python function (a decorator).

    Parameters
    ----------
    function : callable
        Calls :func:`sample`; takes parameters, where it has any, as its first argument.

    Examples
    --------
    >>> import torch
    >>> from torch.distributions import Normal
    >>> @program
    ... def model():
    ...     x = sample("x", Normal(0.0, 1.0))
    ...     sample("y", Normal(2 * x, 1.0))
    >>> log_density = model.density({"x": torch.tensor(0.0), "y": torch.tensor(1.0)})
    >>> round(log_density.item(), 4)
    -2.3379
    """
    return Program(function)


def sample(address: str, law: torch.distributions.Distribution, strategy: Strategy | None = None) -> torch.Tensor:
    """Make a random choice, within a program.

    Parameters
    ----------
    address : str
        Its name; each once in an execution.
    law : torch.distributions.Distribution
        With the dimensions of one particle's value declared as an event.
    strategy : Strategy or None, default=None
        How derivatives pass it; :class:`Reparameterise` where None.

    Raises
    ------
    InvalidData
        An address that was used already, no program around it, or a strategy that does not apply.
    """
    run = current()
    if not run.traces:
        raise InvalidData(f"site {address!r} stands outside a program; decorate the function with @program")
    trace = run.traces[-1]
    if not isinstance(address, str) or address in trace.values:
        raise InvalidData(f"expected each address to be text and to be used once, got {address!r}: number it, such as 'x0'")
    if strategy is not None and not isinstance(strategy, Strategy):
        raise InvalidData(f"expected a strategy such as Reparameterise() at site {address!r}, got {strategy!r}")
    known = None
    if address in trace.given:
        value = trace.given[address]
    elif trace.missing is not None:
        raise InvalidData(f"site {address!r} cannot be evaluated: {trace.missing}")
    else:
        choice = run.draw(address, law, strategy)
        value, known = choice.value, choice.log_density
    trace.values[address] = value
    trace.logs[address] = run.log_density(address, law, value, known)
    return value


@contextmanager
def frozen() -> Iterator[None]:
    """Within it choices are drawn and densities evaluated, and no derivative is taken of either."""
    run = current()
    before, run.pure = run.pure, True
    try:
        with torch_().no_grad():
            yield
    finally:
        run.pure = before


def replicate(count: int, body: Callable[[], Any]) -> Any:
    """Run something several times, each with choices of its own.

    Parameters
    ----------
    count : int
    body : callable
        Gives one number a particle, or a pair of choices and such a number.

    Returns
    -------
    The same with a new first dimension of length `count`.

    Notes
    -----
    The replicas run side by side, or one after the other where a choice in them branches.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InvalidData(f"expected a number of replicas of 1 or more, got {count!r}")
    run = current()
    if run.shape is None:
        raise InvalidData("replicate() draws, so it has to run inside an objective")
    if run.unrolled or not run.vectorised:
        found = [(body(), run.shape) for _ in range(count)]  # branches may be opened by each, so its shape is read after it
        return _stacked([_widened(one, shape, run.shape) for one, shape in found])
    outside, run.shape = run.shape, (count, *run.shape)
    run.replicas += 1
    found = _widened(body(), run.shape, run.shape)
    run.shape, run.replicas = outside, run.replicas - 1
    return found


def _widened(result: Any, shape: tuple[int, ...], full: tuple[int, ...]) -> Any:
    """A result for every particle and branch; `shape` was theirs when it was made."""
    if not isinstance(result, tuple):
        return result.expand(full)
    choices, number = result
    wide = {key: one.expand(*full, *one.shape[len(shape) :]) for key, one in choices.items()}
    return wide, number.expand(full)


def _stacked(results: list[Any]) -> Any:
    stack = torch_().stack
    if not isinstance(results[0], tuple):
        return stack(results)
    return {key: stack([one[key] for one, _ in results]) for key in results[0][0]}, stack([number for _, number in results])


@lru_cache(maxsize=256)
def positional(function: Callable[..., Any]) -> int | None:
    """Number of positional arguments of a function; None for any number."""
    kinds = [one.kind for one in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    return sum(kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)


# ---------------------------------------------------------------------- estimates
def leaves(function: Callable[[], Any], shape: tuple[int, ...], **settings: Any) -> list[Run]:
    """All runs of an objective: the first, and one for each alternative that was left.

    Parameters
    ----------
    function : callable
        The objective, arguments bound.
    shape : tuple of int
        Particles.
    **settings
        Of :class:`Run`.
    """
    todo: list[list[Choice]] = [[]]
    done: list[Run] = []
    while todo:
        prefix = todo.pop()
        pure = bool(prefix) and prefix[-1].pure
        run = Run(shape, prefix, settings.get("pure", False), **{k: v for k, v in settings.items() if k != "pure"})
        with running(run), torch_().set_grad_enabled(not (pure or run.pure)):
            try:
                run.result = function()
            except RuntimeError as error:
                if _AMBIGUOUS not in str(error):
                    raise
                raise InvalidData(
                    "the program branches on a value that differs between particles; give the objective vectorised=False, or "
                    "use torch.where"
                ) from error
        result = run.result
        if not isinstance(result, torch_().Tensor) or result.dim() > len(run.shape or ()):
            what = f"a tensor of shape {tuple(result.shape)}" if isinstance(result, torch_().Tensor) else type(result).__name__
            raise InvalidData(f"expected an objective of one number a particle, shape {run.shape}, got {what}: sum it up")
        todo += run.pending
        done.append(run)
        if len(done) + len(todo) > run.most:
            raise InvalidData(f"more than max_branches={run.most} runs; use MeasureValued() or Reinforce() at some sites")
    return done


def _collapsed(term: Any, run: Run, particles: int) -> Any:
    """Sum over branches."""
    assert run.shape is not None
    extra = len(run.shape) - particles
    if term.shape != run.shape:
        term = term.expand(run.shape)
    return term.sum(tuple(range(extra))) if extra else term


def _weight(run: Run) -> Any:
    out = None
    for choice in run.made:
        if choice.weight is not None:
            out = choice.weight if out is None else out * choice.weight
    return out


def values(runs: list[Run], particles: int) -> torch.Tensor:
    """What the objective came to, one number a particle, without derivatives.

    Parameters
    ----------
    runs : list of Run
    particles : int
        Dimensions of the particles.
    """
    total: Any = None
    for run in runs:
        if any(choice.pure for choice in run.made):
            continue
        weight = _weight(run)
        term = run.result.detach() if weight is None else weight.detach() * run.result.detach()
        part = _collapsed(term, run, particles)
        total = part if total is None else total + part  # no addition of zero: a step of a small program would feel it
    return total


def surrogate(runs: list[Run], particles: int, others: Any) -> torch.Tensor:
    """A number a particle whose value is the objective and whose derivative is the estimate.

    Every leaf adds ``W f + stop(W) Σ c (stop(f) - b)``, W the product of the weights of its choices and c their coefficients.

    Parameters
    ----------
    runs : list of Run
    particles : int
    others : torch.Tensor or None
        Mean of the results of the other particles, where a choice asks for it.
    """
    total: Any = None
    for run in runs:
        weight, known = _weight(run), run.result.detach()
        term = run.result if weight is None else weight * run.result
        score = None
        for choice in run.made:
            if choice.coefficient is None:
                continue
            gain = choice.coefficient * (known - _baseline(choice.baseline, others))
            gain = gain if choice.offset is None else gain - choice.offset
            score = gain if score is None else score + gain
        if score is not None:
            term = term + (score if weight is None else weight.detach() * score)
        part = _collapsed(term, run, particles)
        total = part if total is None else total + part
    return total


def _baseline(kind: Any, others: Any) -> Any:
    if isinstance(kind, RunningMean):
        return kind.value
    if kind == LEAVE_ONE_OUT:
        if others is None:
            raise InvalidData('a baseline="leave-one-out" needs two or more particles')
        return others
    return 0.0


def compares(runs: list[Run]) -> bool:
    """Whether a choice asks for the results of other particles."""
    return any(isinstance(choice.baseline, str) for run in runs for choice in run.made)


def running_means(runs: list[Run]) -> list[RunningMean]:
    """The stateful baselines that were used, each once."""
    found = {id(choice.baseline): choice.baseline for run in runs for choice in run.made}
    return [one for one in found.values() if isinstance(one, RunningMean)]
