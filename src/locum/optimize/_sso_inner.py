"""Lowering a function of the parameters by m steps, without asking anybody. Imports torch: import it when used."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from locum.core.errors import InvalidData
from locum.optimize._sso_steps import Bound

__all__ = ["SOLVERS", "Descent", "lower"]

SOLVERS = ("armijo-gd", "gd", "adam", "lbfgs", "exact")
FIRST_STEPS = {"armijo-gd": 10.0, "adam": 0.01, "lbfgs": 1.0, "exact": 1.0}

_SUFFICIENT, _SHRINK, _GROW = 0.5, 0.9, 1.8  # of the line search in the parameters
_STEADY = 1e-6  # norm of the gradient at which there is nothing left to lower
_SHORTEST = 1e-12  # step at which the line search gives up
_LINEAR = 1e-6  # relative error that tells a forward pass which is not linear
Objective = Callable[[], Tensor]


@dataclass(frozen=True)
class Descent:
    """What the steps did.

    Attributes
    ----------
    steps : int
        Taken.
    start, value : float
        Of the function, before and after.
    status : str
    """

    steps: int
    start: float
    value: float
    status: str


def lower(model: Bound, parameters: Sequence[Tensor], solver: str, m: int, step: float | None) -> Descent:
    """Move parameters, in place, so that a model falls; all but "gd" leave them where it would not."""
    length = FIRST_STEPS[solver] if step is None else step
    if solver == "exact":
        return _exact(model, parameters)
    run = {"armijo-gd": _armijo, "gd": _plain, "adam": _adam, "lbfgs": _lbfgs}[solver]
    kept = [p.grad for p in parameters]  # the solvers of torch work on these, which are the caller's
    try:
        return run(model, parameters, m, length)
    finally:
        for parameter, gradient in zip(parameters, kept, strict=True):
            parameter.grad = gradient


def _slope(objective: Objective, parameters: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
    value = objective()
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return float(value.detach()), [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def _square(gradients: Sequence[Tensor]) -> float:
    return sum(float(g.square().sum()) for g in gradients)


def _copy(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in parameters]


@torch.no_grad()
def _place(parameters: Sequence[Tensor], start: Sequence[Tensor], moves: Sequence[Tensor], step: float) -> None:
    for parameter, old, move in zip(parameters, start, moves, strict=True):
        parameter.copy_(old).add_(move, alpha=step)


@torch.no_grad()
def _restore(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _value(objective: Objective) -> float:
    with torch.no_grad():
        return float(objective())


# ---------------------------------------------------------------------- solvers
def _armijo(objective: Objective, parameters: Sequence[Tensor], m: int, step: float) -> Descent:
    """Gradient descent whose steps are as long as lowers the function by enough; each is tried longer than the one before."""
    value, slope = _slope(objective, parameters)
    start = value
    for done in range(m):
        square = _square(slope)
        if math.sqrt(square) <= _STEADY:
            return Descent(done, start, value, "gradient below 1e-6")
        before, step = _copy(parameters), step * (_GROW if done else 1.0)
        while True:
            _place(parameters, before, slope, -step)
            if _value(objective) <= value - _SUFFICIENT * step * square:
                break
            step *= _SHRINK
            if step < _SHORTEST:
                _restore(parameters, before)
                return Descent(done, start, value, "no step lowers it in this precision")
        value, slope = _slope(objective, parameters)
    return Descent(m, start, value, "all steps taken")


def _plain(objective: Objective, parameters: Sequence[Tensor], m: int, step: float) -> Descent:
    start = math.nan
    for done in range(m):
        value, slope = _slope(objective, parameters)
        start = value if done == 0 else start
        _place(parameters, parameters, slope, -step)
    return Descent(m, start, _value(objective), "all steps taken")


def _adam(objective: Objective, parameters: Sequence[Tensor], m: int, step: float) -> Descent:
    """Fresh moments each time, since they belong to another function; ends at the lowest of the places it came by."""
    solver = torch.optim.Adam(parameters, lr=step)
    lowest, best, start = math.inf, _copy(parameters), math.nan
    for done in range(m):
        value, slope = _slope(objective, parameters)
        start = value if done == 0 else start
        if value < lowest:
            lowest, best = value, _copy(parameters)
        for parameter, gradient in zip(parameters, slope, strict=True):
            parameter.grad = gradient
        solver.step()
    return _lowest(objective, parameters, best, lowest, start, m)


def _lbfgs(objective: Objective, parameters: Sequence[Tensor], m: int, step: float) -> Descent:
    solver = torch.optim.LBFGS(parameters, lr=step, max_iter=m, line_search_fn="strong_wolfe")
    before, start = _copy(parameters), _value(objective)

    def closure() -> Tensor:
        value = objective()
        solver.zero_grad(set_to_none=True)
        value.backward()
        return value.detach()

    solver.step(closure)
    taken = int(solver.state[parameters[0]].get("n_iter", 0))
    return _lowest(objective, parameters, before, start, start, taken)


def _lowest(
    objective: Objective, parameters: Sequence[Tensor], best: Sequence[Tensor], lowest: float, start: float, steps: int
) -> Descent:
    """The place reached, or a better one that was passed."""
    value = _value(objective)
    if value <= lowest:
        return Descent(steps, start, value, "all steps taken")
    _restore(parameters, best)
    return Descent(steps, start, lowest, "an earlier place was lower")


def _exact(model: Bound, parameters: Sequence[Tensor]) -> Descent:
    """The lowest point, where outputs are linear in the parameters: least squares for the step that the outputs should take."""
    jacobian, at = _jacobian(model.forward(), parameters).detach(), model.at
    weight = torch.as_tensor(model.curvature, dtype=at.dtype, device=at.device).expand_as(at).flatten()
    wanted = -model.gradient.flatten() / weight.sqrt()
    move = torch.linalg.pinv(weight.sqrt()[:, None] * jacobian) @ wanted
    moves = [part.view_as(p) for part, p in zip(move.split([p.numel() for p in parameters]), parameters, strict=True)]
    before, expected = _copy(parameters), at + (jacobian @ move).view_as(at)
    _place(parameters, before, moves, 1.0)
    with torch.no_grad():
        found = model.forward().detach()
    if float((found - expected).abs().max()) > _tolerance(at, expected):
        _restore(parameters, before)
        raise InvalidData('expected outputs that are linear in the parameters for inner="exact"; use "lbfgs" or "armijo-gd"')
    return Descent(1, 0.0, float(model.value(found)), "all steps taken")


def _tolerance(outputs: Tensor, expected: Tensor) -> float:
    size = float(torch.maximum(outputs.abs().max(), expected.abs().max()))
    return size * max(_LINEAR, 1e4 * torch.finfo(outputs.dtype).eps)


def _jacobian(outputs: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Of all outputs in all parameters, shape (outputs, parameters), by rows or by columns, whichever are fewer."""
    flat, width = outputs.flatten(), sum(p.numel() for p in parameters)
    if len(flat) <= width:
        return _pulled(flat, parameters, torch.eye(len(flat), dtype=flat.dtype, device=flat.device))
    probe = torch.zeros_like(flat, requires_grad=True)
    found = torch.autograd.grad(flat, parameters, probe, create_graph=True, allow_unused=True)
    gradient = torch.cat([(p * 0 if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)])
    basis = torch.eye(width, dtype=flat.dtype, device=flat.device)
    return torch.autograd.grad(gradient, probe, basis, is_grads_batched=True)[0].T


def _pulled(flat: Tensor, parameters: Sequence[Tensor], basis: Tensor) -> Tensor:
    found = torch.autograd.grad(flat, parameters, basis, is_grads_batched=True, allow_unused=True)
    parts = [
        basis.new_zeros(len(basis), p.numel()) if part is None else part.flatten(1)
        for p, part in zip(parameters, found, strict=True)
    ]
    return torch.cat(parts, dim=1)
