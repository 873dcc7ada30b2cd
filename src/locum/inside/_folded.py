"""A sequence of layers cut at the inputs of some, with biases as weights on a constant, so that all steps start from zero."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from locum.core.errors import InvalidData, UnsupportedModule

__all__ = ["FoldedPath", "jacobians"]

Tensor = torch.Tensor
_CHUNK = 2**24  # numbers in the Jacobians that are held at once


class FoldedPath:
    """Steps between activations, each with a constant 1 as its last entry.

    Parameters
    ----------
    net : torch.nn.Sequential
    layers : sequence of str
        Names of parts whose inputs are the activations, in their order; the last activation is the output.
    device : torch.device or str
    """

    def __init__(self, net: Any, layers: Sequence[str], device: Any) -> None:
        if not isinstance(net, nn.Sequential):
            raise InvalidData(f"expected net= as a torch.nn.Sequential, one path of layers, got {type(net).__name__}")
        if net.training:
            raise InvalidData("expected a network in eval mode; call net.eval() first")
        names = [name for name, _ in net.named_children()]
        strange = [layer for layer in layers if layer not in names]
        if strange or not layers:
            raise InvalidData(f"expected layers= among {', '.join(names)}, got {', '.join(strange) or 'none'}")
        at = [names.index(layer) for layer in layers]
        if at != sorted(set(at)):
            raise InvalidData(f"expected layers= each once and in the order of the network, got {', '.join(layers)}")
        parts = list(copy.deepcopy(net).double().requires_grad_(False).to(device))
        for name, part in zip(names[at[0] :], parts[at[0] :], strict=True):
            _check(name, part)
        self.layers, self.device = tuple(layers), device
        self._before = parts[: at[0]]
        self._segments = [parts[a:b] for a, b in zip(at, [*at[1:], len(parts)], strict=True)]

    def enter(self, X: Any) -> Tensor:
        """Activations of the first layer with the constant, shape (n, width + 1)."""
        h = torch.as_tensor(X, dtype=torch.float64, device=self.device)
        with torch.no_grad():
            for part in self._before:
                h = part(h)
        if h.ndim != 2 or len(h) < 2:
            raise InvalidData(f"expected activations of shape (n, width) with two rows or more, got {tuple(h.shape)}")
        if not bool(h.isfinite().all()):
            raise InvalidData("expected finite inputs, got NaN or infinity; impute or drop those rows first")
        return torch.cat([h, torch.ones_like(h[:, :1])], dim=1)

    def step(self, i: int, f: Tensor) -> Tensor:
        """From one activation to the next, for one row or many."""
        h, constant = f[..., :-1], f[..., -1:]
        for part in self._segments[i]:
            h = _folded(part, h, constant)
        return torch.cat([h, constant], dim=-1)

    def rest(self, i: int, f: Tensor) -> Tensor:
        """From an activation to the outputs, without the constant."""
        for j in range(i, len(self._segments)):
            f = self.step(j, f)
        return f[..., :-1]

    @torch.no_grad()
    def activations(self, X: Any) -> list[Tensor]:
        """At all layers and at the output."""
        found = [self.enter(X)]
        for i in range(len(self._segments)):
            found.append(self.step(i, found[-1]))
        return found


def jacobians(function: Callable[[Tensor], Tensor], rows: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Derivatives of a function of one row at many, piece by piece, each of shape (rows, outputs, inputs)."""
    out = function(rows[0])
    if not out.is_floating_point():
        raise InvalidData(f"expected layers with derivatives, got one that gives {out.dtype}")
    size = max(1, _CHUNK // max(1, out.numel() * rows.shape[1]))
    each = torch.func.vmap(torch.func.jacrev(function))
    for start in range(0, len(rows), size):
        piece = slice(start, min(start + size, len(rows)))
        yield piece, each(rows[piece]).detach()


def _check(name: str, part: nn.Module) -> None:
    if not isinstance(part, nn.Linear) and any(one.rpartition(".")[2] == "bias" for one, _ in part.named_parameters()):
        raise UnsupportedModule(
            f"the layer {name} ({type(part).__name__}) has a bias that cannot be made a weight on a constant; "
            "only linear layers may have one"
        )


def _folded(part: nn.Module, h: Tensor, constant: Tensor) -> Tensor:
    if isinstance(part, nn.Linear):
        out = nn.functional.linear(h, part.weight)
        return out if part.bias is None else out + part.bias * constant
    return part(h)
