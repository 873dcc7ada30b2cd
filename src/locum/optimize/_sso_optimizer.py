"""The optimizer of sso. Imports torch: `locum.optimize.sso` imports it when used."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from locum.core.errors import InvalidData, require_one_of, require_whole
from locum.optimize._sso_inner import SOLVERS, lower
from locum.optimize._sso_steps import DIVERGENCES, RULES, SCHEDULES, SMOOTHNESS, Bound, Point, bound, smoothness
from locum.optimize.sso import NonFiniteGradient, SurrogateStep

__all__ = ["TargetSurrogate", "check"]

_ROW_RULES = ("diagonal-adagrad", "adam")  # that remember each row
_PLAIN_RULES = ("1/L", "adagrad")  # that a divergence other than the Euclidean goes with, beside a number
_MEMORY = "surrogate"


class TargetSurrogate(torch.optim.Optimizer):
    r"""A quadratic in a model's outputs stands in for a loss whose gradient is dear.

    The loss of a batch is l(z), the mean over its rows, with outputs z = f(θ). Only the gradient p of l is dear: a simulator,
    an expert or a large teacher gives it. One call of it, at z, makes a model of the loss in target space

    .. math:: g(θ) = l(z) + ⟨p, f(θ) - z⟩ + \frac{1}{2η} ‖f(θ) - z‖²

    (inner product and norm are means over rows), which m steps on the parameters then lower without another call. Where the
    loss of a row is L-smooth in its outputs and η ≤ 1/L, g lies above the loss everywhere and touches it at θ, so whatever
    lowers g lowers the loss.

    Parameters
    ----------
    params : iterable of Tensor
        One group; those that need no gradient are left alone.
    eta : float or {"1/L", "armijo", "adagrad", "diagonal-adagrad", "adam", "newton"}, default="1/L"
        The step η in target space. "1/L" needs `loss`. "armijo" searches a line there, and needs `target_loss` at each step.
        "adagrad" divides `eta0` by the root of the sum of the squared norms of p. "diagonal-adagrad" and "adam" do so for each
        output of each row, and need `rows` at each step. "newton" weighs each output by the loss's second derivative.
    loss : {"squared", "logistic", "cross-entropy"}, float or None, default=None
        What the loss of a row is: (z - y)²/2 summed over outputs, logistic of one output, softmax over the outputs; or the
        number L, the most that its gradient changes with its outputs.
    m : int, default=10
        Steps on the parameters for each gradient of the loss.
    inner : {"armijo-gd", "gd", "adam", "lbfgs", "exact"}, default="armijo-gd"
        How they are made. "exact" goes to the lowest point of g at once, where outputs are linear in the parameters. All but
        "gd" leave the parameters where g would rise.
    inner_step : float or None, default=None
        Length of the first step tried ("armijo-gd", 10 where None), the learning rate of "adam" (0.01) and "lbfgs" (1), and the
        length of each step of "gd", which has no default.
    schedule : {"constant", "sqrt", "exponential"}, default="constant"
        What multiplies η at the t-th call, counted from 1: 1, 1/√t or T^(-t/T).
    horizon : int or None, default=None
        T of the exponential schedule: how many calls there will be.
    eta0 : float, default=1.0
        Scale of the rules that find η themselves; where the search of "armijo" begins.
    divergence : {"euclidean", "logistic", "softmax"}, default="euclidean"
        What ‖f(θ) - z‖²/2 may be replaced by: the Bregman divergence of log(1 + exp z), or of log Σ exp z over the outputs.

    Raises
    ------
    InvalidData
        Settings that cannot be used.

    Notes
    -----
    Cost: one call of `target_grad` and m forward and backward passes a step; "armijo-gd" adds forward passes, about 60 for the
    first step and six for each further one. "exact" holds a matrix of outputs times parameters.

    Lavington, Vaswani, Babanezhad, Schmidt and Le Roux, 2023, arXiv 2302.02607, algorithms 1 and 2.

    Examples
    --------
    >>> import torch
    >>> from locum.nets import seeded
    >>> from locum.optimize.sso import TargetSurrogate
    >>> x = torch.linspace(-1, 1, 50)[:, None]
    >>> with seeded(0):
    ...     line = torch.nn.Linear(1, 1)
    >>> optimizer = TargetSurrogate(line.parameters(), loss="squared", inner="exact")
    >>> info = optimizer.step(forward=lambda: line(x), target_grad=lambda z: z - (3 * x + 1))
    >>> [round(parameter.item(), 3) for parameter in line.parameters()], info.oracle_calls
    ([3.0, 1.0], 1)
    """

    def __init__(
        self,
        params: Iterable[Any],
        eta: float | str = "1/L",
        *,
        loss: str | float | None = None,
        m: int = 10,
        inner: str = "armijo-gd",
        inner_step: float | None = None,
        schedule: str = "constant",
        horizon: int | None = None,
        eta0: float = 1.0,
        divergence: str = "euclidean",
    ) -> None:
        settings = {
            "eta": eta, "loss": loss, "m": m, "inner": inner, "inner_step": inner_step, "schedule": schedule,
            "horizon": horizon, "eta0": eta0, "divergence": divergence,
        }  # fmt: skip
        check(settings)
        super().__init__(params, settings)
        if len(self.param_groups) > 1:
            raise InvalidData(f"expected one group of parameters, got {len(self.param_groups)}: one g is lowered for all")
        if not self._parameters:
            raise InvalidData("expected parameters of which at least one needs a gradient, got none")
        self.state[_MEMORY] = {"t": 0, "loss_calls": 0}  # type: ignore[index]

    @property
    def oracle_calls(self) -> int:
        """How often `target_grad` was called."""
        return int(self._memory["t"])

    def step(  # type: ignore[override]
        self,
        *,
        forward: Callable[[], Tensor],
        target_grad: Callable[[Tensor], Tensor],
        target_loss: Callable[[Tensor], Tensor] | None = None,
        rows: Any = None,
    ) -> SurrogateStep:
        """Ask for one gradient, and lower its model.

        Parameters
        ----------
        forward : callable
            Gives the outputs of the batch, shape (n, ...), a row each. It is called many times, and must give the same for the
            same parameters.
        target_grad : callable
            Takes outputs (n, ...) and gives, in the same shape, the gradient of each row's own loss: n times that of the mean
            loss. Called once.
        target_loss : callable or None, default=None
            Takes outputs (n, ...) and gives the loss of each row, shape (n,). Where given, the loss and how far g lies above it
            are said, for two calls; "armijo" calls it for each step it tries.
        rows : sequence of int or None, default=None
            Which rows of the data the batch holds, for rules that remember each.

        Returns
        -------
        SurrogateStep

        Raises
        ------
        InvalidData
            Outputs, gradients or losses that cannot be used; the parameters stay as they were.
        NonFiniteGradient
            The gradient holds NaN or infinity.

        Warns
        -----
        UserWarning
            Outputs that differ between two passes: dropout in training mode, most likely.
        """
        settings, memory, parameters = self.param_groups[0], self._memory, self._parameters
        if settings["eta"] == "armijo" and target_loss is None:
            raise InvalidData('expected target_loss= with eta="armijo", which compares losses along a line')
        with torch.enable_grad():
            at = _outputs(forward, settings["divergence"])
            numbers = _rows(rows, at, needed=settings["eta"] in _ROW_RULES)
            if memory["t"] == 0:
                _warn_if_random(forward, at)
            loss = None if target_loss is None else self._counted(target_loss)
            before = math.nan if loss is None else loss(at)
            memory["t"] += 1
            gradient = _gradient(target_grad, at)
            model, eta = bound(forward, Point(at, gradient, numbers, loss), settings, memory)
            done = lower(model, parameters, settings["inner"], settings["m"], settings["inner_step"])
        gap = math.nan if loss is None else _gap(model, loss, before)
        norm = math.sqrt(float(gradient.square().sum()) / len(at))
        return SurrogateStep(
            memory["t"], memory["loss_calls"], eta, done.steps, done.start - done.value, norm, before, gap, done.status
        )

    @property
    def _parameters(self) -> list[Tensor]:
        return [p for p in self.param_groups[0]["params"] if p.requires_grad]

    @property
    def _memory(self) -> dict[str, Any]:
        return self.state[_MEMORY]  # type: ignore[index]

    def _counted(self, target_loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], float]:
        """The mean loss, each call of which is counted."""

        def mean(outputs: Tensor) -> float:
            self._memory["loss_calls"] += 1
            with torch.no_grad():
                found = target_loss(outputs.clone())
            if not isinstance(found, Tensor) or found.shape != (len(outputs),):
                what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
                raise InvalidData(f"expected target_loss to give the loss of each row, shape ({len(outputs)},), got {what}")
            return float(found.mean())

        return mean


# ---------------------------------------------------------------------- what is asked
def _outputs(forward: Callable[[], Tensor], divergence: str) -> Tensor:
    with torch.no_grad():
        found = forward()
    if not isinstance(found, Tensor) or found.ndim == 0 or not found.is_floating_point() or len(found) == 0:
        what = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise InvalidData(f"expected forward to give outputs of shape (n, ...), a row each, got {what}")
    if not bool(found.isfinite().all()):
        raise InvalidData("expected finite outputs from forward, got NaN or infinity; lower eta, or scale the inputs")
    if divergence == "softmax" and (found.ndim < 2 or found.shape[-1] < 2):
        raise InvalidData(f"expected two or more outputs a row with the softmax divergence, got shape {tuple(found.shape)}")
    return found.detach().clone()  # which may be a parameter itself, about to move


def _warn_if_random(forward: Callable[[], Tensor], at: Tensor) -> None:
    with torch.no_grad():
        again = forward()
    if not torch.allclose(again, at, rtol=1e-4, atol=1e-6):
        warnings.warn(
            "two passes over the same batch with the same parameters gave different outputs, so g does not touch the loss; "
            "put the model in eval mode, or keep its dropout masks fixed",
            UserWarning,
            stacklevel=4,
        )


def _gradient(target_grad: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    found = target_grad(at.clone())
    if not isinstance(found, Tensor) or found.shape != at.shape:
        what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InvalidData(f"expected target_grad to give a gradient of the outputs' shape {tuple(at.shape)}, got {what}")
    if not bool(found.isfinite().all()):
        raise NonFiniteGradient("expected a finite gradient from target_grad, got NaN or infinity; no parameter was changed")
    return found.detach().to(at)


def _rows(rows: Any, at: Tensor, *, needed: bool) -> Tensor | None:
    if rows is None:
        if needed:
            raise InvalidData("expected rows= with this eta, which remembers each row: the numbers of the rows in the batch")
        return None
    numbers = torch.as_tensor(rows, device=at.device)
    whole = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
    if not whole or numbers.shape != (len(at),) or bool((numbers < 0).any()) or len(numbers.unique()) < len(numbers):
        raise InvalidData(f"expected rows= to be {len(at)} different whole numbers of 0 or more, one a row of the batch")
    return numbers.long()


def _gap(model: Bound, loss: Callable[[Tensor], float], before: float) -> float:
    """How far g lies above the loss where the parameters are now."""
    with torch.no_grad():
        outputs = model.forward()
        return before + float(model.value(outputs)) - loss(outputs)


# ---------------------------------------------------------------------- settings
def check(settings: dict[str, Any]) -> None:
    """Refuse settings of `TargetSurrogate` that cannot be used."""
    require_whole(1, m=settings["m"], **({} if settings["horizon"] is None else {"horizon": settings["horizon"]}))
    require_one_of(SOLVERS, inner=settings["inner"])
    require_one_of(SCHEDULES, schedule=settings["schedule"])
    require_one_of(DIVERGENCES, divergence=settings["divergence"])
    for name in ("eta0", "inner_step"):
        if settings[name] is not None:
            _positive(name, settings[name])
    if settings["inner"] == "gd" and settings["inner_step"] is None:
        raise InvalidData('expected inner_step= with inner="gd": the length of its steps')
    if settings["schedule"] == "exponential" and settings["horizon"] is None:
        raise InvalidData("expected horizon= with the exponential schedule: how many calls there will be")
    _check_loss(settings["loss"])
    _check_eta(settings)


def _check_loss(loss: Any) -> None:
    if isinstance(loss, str) and loss not in SMOOTHNESS:
        raise InvalidData(f"expected loss= to be one of {', '.join(SMOOTHNESS)} or a number L, got {loss!r}")
    if loss is not None and not isinstance(loss, str):
        _positive("loss", loss)


def _check_eta(settings: dict[str, Any]) -> None:
    eta, loss, divergence = settings["eta"], settings["loss"], settings["divergence"]
    if not isinstance(eta, str):
        _positive("eta", eta)
    elif eta not in RULES:
        raise InvalidData(f"expected eta= to be a number or one of {', '.join(RULES)}, got {eta!r}")
    if eta == "1/L" and smoothness(loss) is None:
        raise InvalidData(f'eta="1/L" needs the smoothness of the loss: give loss= one of {", ".join(SMOOTHNESS)}, or L itself')
    if eta == "newton" and not isinstance(loss, str):
        raise InvalidData(f'eta="newton" needs the second derivative of the loss: give loss= one of {", ".join(SMOOTHNESS)}')
    if divergence == "euclidean":
        return
    if isinstance(eta, str) and eta not in _PLAIN_RULES:
        raise InvalidData(f"the {divergence} divergence goes with eta= a number, {' or '.join(_PLAIN_RULES)}, got {eta!r}")
    if settings["inner"] == "exact":
        raise InvalidData(f'inner="exact" solves least squares, which the {divergence} divergence is none; use inner="lbfgs"')
    shape = {"logistic": "logistic", "softmax": "cross-entropy"}[divergence]
    if eta == "1/L" and loss != shape:
        raise InvalidData(f'eta="1/L" with the {divergence} divergence needs loss="{shape}", got {loss!r}; give eta= a number')


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool | str) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidData(f"expected {name}= to be a positive number, got {value!r}")
