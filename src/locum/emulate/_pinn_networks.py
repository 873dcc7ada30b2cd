"""Networks that carry their derivatives along, for residuals of differential equations.

A *jet* is a tensor whose first dimension holds a value alone (1), a value and its slope in r (2), or value, slope in r, slope
in time and curvature in r (4). Linear layers take them as they are; activations and products have the chain rule, and its
derivative by the weights, written out, which saves most of the steps that automatic differentiation would record.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

VALUE, SLOPE, FULL = 1, 2, 4  # how many of (value, r, t, rr) are carried

_Function = Callable[[Any], tuple[Any, Any, Any, Any]]  # itself and three derivatives


def _tanh(z: Any) -> tuple[Any, Any, Any, Any]:
    s = torch.tanh(z)
    first = 1 - s * s
    return s, first, -2 * s * first, first * (4 - 6 * first)


def _swish(z: Any) -> tuple[Any, Any, Any, Any]:
    s = torch.sigmoid(z)
    fall, odd = s * (1 - s), 1 - 2 * s
    return z * s, s + z * fall, fall * (2 + z * odd), fall * (odd * (3 + z * odd) - 2 * z * fall)


def _gelu(z: Any) -> tuple[Any, Any, Any, Any]:
    density = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    share = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    return z * share, share + z * density, density * (2 - z * z), density * z * (z * z - 4)


def _sigmoid(z: Any) -> tuple[Any, Any, Any, Any]:
    s = torch.sigmoid(z)
    first = s * (1 - s)
    return s, first, first * (1 - 2 * s), first * (1 - 6 * first)


ACTIVATIONS: dict[str, _Function] = {"tanh": _tanh, "swish": _swish, "gelu": _gelu}
_VALUES: dict[_Function, Callable[[torch.Tensor], torch.Tensor]] = {
    _tanh: torch.tanh, _swish: nn.functional.silu, _gelu: nn.functional.gelu, _sigmoid: torch.sigmoid,
}  # fmt: skip


class _Chain(torch.autograd.Function):
    """A function of a jet, whose value is moved by a bias first."""

    @staticmethod
    def forward(ctx: Any, z: torch.Tensor, bias: torch.Tensor | None, function: _Function) -> torch.Tensor:
        value, first, second, third = function(z[0] if bias is None else z[0] + bias)
        out = torch.empty_like(z)
        out[0] = value
        if len(z) > VALUE:
            torch.mul(z[1:], first, out=out[1:])
        if len(z) == FULL:
            out[3] += second * z[1] ** 2
        ctx.save_for_backward(z, first, second, third)
        ctx.bias = None if bias is None else bias.shape
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        (grad,), (z, first, second, third) = grads, ctx.saved_tensors
        out = grad * first
        if len(z) > VALUE:
            out[0] += second * (grad[1:] * z[1:]).sum(0)
        if len(z) == FULL:
            bent = grad[3] * z[1]
            out[0] += third * bent * z[1]
            out[1] += 2 * second * bent
        return out, None if ctx.bias is None else out[0].sum_to_size(ctx.bias), None


class _Product(torch.autograd.Function):
    """Of two jets, by the rule of Leibniz."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        out = a * b[0]
        if len(a) > VALUE:
            out[1:] += a[0] * b[1:]
        if len(a) == FULL:
            out[3] += 2 * a[1] * b[1]
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (grad,), (a, b) = grads, ctx.saved_tensors
        out = []
        for one, other in ((a, b), (b, a)):
            found = grad * other[0]
            if len(a) > VALUE:
                found[0] += (grad[1:] * other[1:]).sum(0)
            if len(a) == FULL:
                found[1] += 2 * grad[3] * other[1]
            out.append(found.sum_to_size(one.shape))
        return out[0], out[1]


def chain(z: torch.Tensor, function: _Function, bias: torch.Tensor | None = None) -> torch.Tensor:
    """A function of a jet, by the chain rule."""
    if len(z) == VALUE and not torch.is_grad_enabled():  # nobody asks for derivatives, which are most of the work
        return _VALUES[function](z if bias is None else z + bias)
    return _Chain.apply(z, bias, function)


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of two jets."""
    return a * b if len(a) == VALUE and not torch.is_grad_enabled() else _Product.apply(a, b)


def sigmoid(z: torch.Tensor) -> torch.Tensor:
    """Of a jet."""
    return chain(z, _sigmoid)


class _Dense(nn.Module):
    """A layer of several networks side by side, from jets (k, B, n, inputs) to (k, B, n, outputs); inputs may be shared."""

    def __init__(self, branches: int, inputs: int, outputs: int, function: _Function | None, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(math.sqrt(2 / inputs) * torch.randn(branches, inputs, outputs, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(branches, 1, outputs, dtype=torch.float64)) if bias else None
        self._function = function

    def forward(self, jet: torch.Tensor) -> torch.Tensor:
        out = jet @ self.weight
        if self._function is not None:
            return chain(out, self._function, self.bias)
        return out if self.bias is None else torch.cat([out[:1] + self.bias, out[1:]])


class Branches(nn.Module):
    """Several networks of one shape side by side, from one jet (k, n, inputs) to (k, B, n).

    Blocks: "gated" mixes two views U and V of the input by H ← (1 - Z) U + Z V; "plain" is a chain of layers; "residual" adds
    each layer to what it was given.
    """

    def __init__(self, branches: int, inputs: int, width: int, layers: int, block: str, activation: str, bias: bool) -> None:
        super().__init__()
        self.block, function = block, ACTIVATIONS[activation]
        self.first = _Dense(branches, inputs, width, function)
        self.views = nn.ModuleList(_Dense(branches, inputs, width, function) for _ in range(2 if block == "gated" else 0))
        self.layers = nn.ModuleList(_Dense(branches, width, width, function) for _ in range(layers))
        self.head = _Dense(branches, width, 1, None, bias=bias)

    def forward(self, jet: torch.Tensor) -> torch.Tensor:
        given = jet[:, None]
        held = self.first(given)
        if self.block == "gated":
            u, v = (view(given) for view in self.views)
            apart = v - u
            for layer in self.layers:
                held = u + product(layer(held), apart)
        else:
            for layer in self.layers:
                new = layer(held)
                held = held + new if self.block == "residual" else new
        return self.head(held)[..., 0]


class FieldNetwork(nn.Module):
    """From time and parameters to two potentials, and with the radius to two concentrations; all without units.

    The time and the parameters pass a layer that the two potentials share, and one that the concentrations share; there the
    radius joins, and after a further layer they branch off. With `even` it joins as its square: concentrations are then level
    in the middle, and the divergence in a sphere, which divides by the radius, stays tame there.
    """

    def __init__(self, parameters: int, width: int, layers: int, block: str, activation: str, even: bool) -> None:
        super().__init__()
        self.even = even
        self.start = _Dense(1, 1 + parameters, width, ACTIVATIONS[activation])
        self.trunk = _Dense(1, 1 + parameters, width, ACTIVATIONS[activation])
        self.joined = _Dense(1, width + 1, width, ACTIVATIONS[activation])
        self.potentials = Branches(2, width, width, layers, block, activation, True)
        self.concentrations = Branches(2, width, width, layers, block, activation, False)

    def potential(self, inputs: torch.Tensor) -> torch.Tensor:
        """Values (2, n) of electrolyte and positive electrode."""
        return self.potentials(self.start(inputs[None, None])[:, 0])[0]

    @torch.no_grad()
    def start_from_nothing(self) -> None:
        """Answer 0 everywhere until something is learned."""
        for head in (self.potentials.head, self.concentrations.head):
            head.weight.zero_()

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """What is learned, by what it says; the two have nothing in common."""
        sets = {"concentrations": (self.trunk, self.joined, self.concentrations), "potentials": (self.start, self.potentials)}
        return {name: [one for module in modules for one in module.parameters()] for name, modules in sets.items()}

    def concentration(self, inputs: torch.Tensor, radius: torch.Tensor, size: int) -> torch.Tensor:
        """Jets (k, 2, n) of negative and positive particles, at shares (n,) of their radius."""
        rows = [inputs, *(torch.zeros_like(inputs) for _ in range(size - 1))]
        if size == FULL:
            rows[2][:, 0] = 1.0
        features = self.trunk(torch.stack(rows)[:, None])[:, 0]
        own = torch.zeros(size, len(radius), 1, dtype=radius.dtype, device=radius.device)
        own[0, :, 0] = radius**2 if self.even else radius
        if size >= SLOPE:
            own[1, :, 0] = 2 * radius if self.even else 1.0
        if size == FULL and self.even:
            own[3] = 2.0
        return self.concentrations(self.joined(torch.cat([features, own], dim=2)[:, None])[:, 0])
