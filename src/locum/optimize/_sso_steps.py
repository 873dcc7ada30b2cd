"""How far to trust a gradient in target space: a model of it, with its curvature. Imports torch: import it when used."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from locum.core.errors import InvalidData

__all__ = ["DIVERGENCES", "RULES", "SCHEDULES", "SMOOTHNESS", "Bound", "Point", "bound", "smoothness"]

SMOOTHNESS = {"squared": 1.0, "logistic": 0.25, "cross-entropy": 0.5}
RULES = ("1/L", "armijo", "adagrad", "diagonal-adagrad", "adam", "newton")
SCHEDULES = ("constant", "sqrt", "exponential")
DIVERGENCES = ("euclidean", "logistic", "softmax")

_SUFFICIENT, _SHRINK, _GROW = 0.5, 0.9, 1.8  # of the line search in target space
_LEAST, _MOST = 1e-4, 1e4  # steps that it may give
_FLOOR = 1e-6  # below the root of a sum of squared gradients
_FLAT = 1e-5  # curvature of a loss where it has none
_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # of Adam


def smoothness(loss: str | float | None) -> float | None:
    """L of the loss of a row in its outputs, where that is known."""
    return SMOOTHNESS[loss] if isinstance(loss, str) else loss


# ---------------------------------------------------------------------- the model
@dataclass(frozen=True)
class Bound:
    """g(θ) - l(z), a model in target space of how the mean loss of a batch changes.

    Attributes
    ----------
    forward : callable
        Gives f(θ) of shape (n, ...).
    at : Tensor of shape (n, ...)
        z, the outputs it touches the loss at.
    gradient : Tensor of shape (n, ...)
        Of each row's loss.
    curvature : float or Tensor
        1/η, one for all outputs or one each.
    divergence : str
    """

    forward: Callable[[], Tensor]
    at: Tensor
    gradient: Tensor
    curvature: float | Tensor
    divergence: str

    def __call__(self) -> Tensor:
        return self.value(self.forward())

    def value(self, outputs: Tensor) -> Tensor:
        moved = outputs - self.at
        linear = (self.gradient * moved).sum() / len(moved)
        if self.divergence == "euclidean":
            return linear + (self.curvature * moved.square()).sum() / (2 * len(moved))
        return linear + self.curvature * self._bregman(outputs, moved).sum() / len(moved)

    def _bregman(self, outputs: Tensor, moved: Tensor) -> Tensor:
        if self.divergence == "logistic":
            slope = torch.sigmoid(self.at)
            return functional.softplus(outputs) - functional.softplus(self.at) - slope * moved
        slope = torch.softmax(self.at, dim=-1)
        return torch.logsumexp(outputs, -1) - torch.logsumexp(self.at, -1) - (slope * moved).sum(-1)


# ---------------------------------------------------------------------- its curvature
@dataclass(frozen=True)
class Point:
    """Where the oracle was asked, and what it said.

    Attributes
    ----------
    at, gradient : Tensor of shape (n, ...)
    rows : Tensor of shape (n,) or None
        Which rows of the data these are.
    loss : callable or None
        Mean loss of outputs of shape (n, ...), a float.
    """

    at: Tensor
    gradient: Tensor
    rows: Tensor | None
    loss: Callable[[Tensor], float] | None


def bound(forward: Callable[[], Tensor], point: Point, settings: dict[str, Any], memory: dict[str, Any]) -> tuple[Bound, float]:
    """The model to lower next, and the step η that it stands for; `memory` is kept from one call to the next."""
    rule, scale = settings["eta"], _scale(settings, memory["t"])
    gradient: Tensor = point.gradient
    curvature: float | Tensor
    if rule in ("diagonal-adagrad", "adam"):
        gradient, spread = (_diagonal if rule == "diagonal-adagrad" else _moments)(point, memory)
        eta = settings["eta0"] * scale
        curvature = spread / eta
    elif rule == "newton":
        eta = settings["eta0"] * scale
        curvature = (_second_derivative(settings["loss"], point.at) + _FLAT) / eta
    else:
        eta = _constant(rule, settings, point, memory) * scale
        curvature = 1.0 / eta
    return Bound(forward, point.at, gradient, curvature, settings["divergence"]), eta


def _scale(settings: dict[str, Any], t: int) -> float:
    if settings["schedule"] == "sqrt":
        return 1.0 / math.sqrt(t)
    return settings["horizon"] ** (-t / settings["horizon"]) if settings["schedule"] == "exponential" else 1.0


def _constant(rule: str | float, settings: dict[str, Any], point: Point, memory: dict[str, Any]) -> float:
    """One η for all outputs."""
    if rule == "1/L":
        # With a divergence of the loss's own shape, the loss is smooth relative to it with constant 1.
        known = smoothness(settings["loss"]) if settings["divergence"] == "euclidean" else 1.0
        assert known is not None
        return 1.0 / known
    if rule == "armijo":
        memory["eta"] = _line_search(memory.get("eta", settings["eta0"] / _GROW) * _GROW, point)
        return memory["eta"]
    if rule == "adagrad":
        memory["sum"] = memory.get("sum", 0.0) + float(point.gradient.square().sum()) / len(point.at)
        return settings["eta0"] / (math.sqrt(memory["sum"]) + _FLOOR)
    return float(rule)


def _line_search(eta: float, point: Point) -> float:
    """The longest of the steps tried in target space that lowers the loss by enough."""
    assert point.loss is not None
    eta = min(max(eta, _LEAST), _MOST)
    here, slope = point.loss(point.at), float(point.gradient.square().sum()) / len(point.at)
    while eta > _LEAST and not point.loss(point.at - eta * point.gradient) <= here - _SUFFICIENT * eta * slope:
        eta = max(eta * _SHRINK, _LEAST)
    return eta


def _diagonal(point: Point, memory: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The gradient, and the root of the sum of its squares so far at each output of each row."""
    (squares,) = _kept(point, memory, ("squares",))
    squares += point.gradient.square()
    _keep(point, memory, squares=squares)
    return point.gradient, squares.sqrt() + _FLOOR


def _moments(point: Point, memory: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Adam's two running means at each output of each row, the second as a root."""
    first, second, seen = _kept(point, memory, ("first", "second", "seen"))
    seen += 1
    first.lerp_(point.gradient, 1 - _BETAS[0])
    second.lerp_(point.gradient.square(), 1 - _BETAS[1])
    _keep(point, memory, first=first, second=second, seen=seen)
    return first / (1 - _BETAS[0] ** seen), (second / (1 - _BETAS[1] ** seen)).sqrt() + _EPSILON


def _kept(point: Point, memory: dict[str, Any], names: tuple[str, ...]) -> list[Tensor]:
    """What is remembered of these rows; the memory grows with the largest row number."""
    assert point.rows is not None
    size, shape = int(point.rows.max()) + 1, point.at.shape[1:]
    for name in names:
        old = memory.get(name)
        if old is not None and old.shape[1:] != shape:
            raise InvalidData(f"expected outputs of the shape before, (n, {_dims(old)}), got (n, {_dims(point.at)})")
        if old is None or len(old) < size:
            memory[name] = point.at.new_zeros((size, *shape))
            if old is not None:
                memory[name][: len(old)] = old
    return [memory[name][point.rows] for name in names]


def _keep(point: Point, memory: dict[str, Any], **values: Tensor) -> None:
    for name, value in values.items():
        memory[name][point.rows] = value


def _dims(outputs: Tensor) -> str:
    return ", ".join(map(str, outputs.shape[1:]))


def _second_derivative(loss: str, at: Tensor) -> Tensor:
    """Of the loss in each output alone."""
    if loss == "squared":
        return torch.ones_like(at)
    share = torch.sigmoid(at) if loss == "logistic" else torch.softmax(at, dim=-1)
    return share * (1 - share)
