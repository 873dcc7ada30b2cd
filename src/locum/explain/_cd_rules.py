"""Rules that carry a sum of two parts through the modules of a transformer without changing the sum. Imported when used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from locum.explain._propagation import RuleTable

__all__ = ["Rules", "Split", "rope"]

_TOLERANCE = 1e-8  # of the division that shares a bias between two parts


@dataclass(frozen=True)
class Split:
    """An activation as a sum of a relevant part and a rest.

    The rest is the total less the relevant part, so it need not be computed; where `tracked` is given it is carried by rules
    of its own, which is how exactness is checked.

    Parameters
    ----------
    total : Tensor of shape (1 or sources, prompts, ...)
    relevant : Tensor of shape (sources, prompts, ...) or None
        None stands for zero.
    tracked : Tensor of the shape of `relevant` or None
    """

    total: Tensor
    relevant: Tensor | None = None
    tracked: Tensor | None = None

    @property
    def rest(self) -> Tensor:
        if self.tracked is not None:
            return self.tracked
        return self.total if self.relevant is None else self.total - self.relevant

    @property
    def whole(self) -> Tensor:
        """The total as the sum of the parts that are carried."""
        return self.total if self.relevant is None or self.tracked is None else self.relevant + self.tracked

    def map(self, linear: Callable[[Tensor], Tensor]) -> Split:
        """Each part through a map that is linear."""
        return Split(*(None if part is None else linear(part) for part in self._parts))  # type: ignore[arg-type]

    def replaced(self, total: Tensor, relevant: Callable[[], Tensor], rest: Callable[[], Tensor]) -> Split:
        """New parts, each worked out only where it is carried."""
        return Split(
            total,
            None if self.relevant is None else relevant(),
            None if self.tracked is None else rest(),
        )

    def __add__(self, other: Split) -> Split:
        first, second = (part._parts for part in (self, other))
        return Split(*(_sum(one, two) for one, two in zip(first, second, strict=True)))  # type: ignore[arg-type]

    @property
    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.total, self.relevant, self.tracked


class Rules:
    """The rules, and the choices that they leave open.

    Parameters
    ----------
    attention : {"full", "fixed"}
    symmetric : bool
        Whether a non-linearity is shared by the mean over both orders of the parts, rather than with the rest first.
    cleanup : bool
        Whether parts of opposite sign are merged after each half of an MLP and after each block.
    """

    def __init__(self, attention: str, symmetric: bool, cleanup: bool) -> None:
        self.attention_mode, self.symmetric, self.merges = attention, symmetric, cleanup
        self.table: RuleTable[Callable[[Split, Any], Split]] = RuleTable(
            {
                nn.Linear: self._linear,
                "Conv1D": self._conv1d,
                nn.LayerNorm: self._layer_norm,
                "LlamaRMSNorm": self._rms_norm,
                **dict.fromkeys((nn.GELU, nn.ReLU, nn.SiLU, nn.Tanh, *_ACTIVATIONS), self._activation),
                **dict.fromkeys((nn.Dropout, nn.Identity), self._same),
            }
        )

    def __call__(self, part: Split, module: nn.Module, name: str = "") -> Split:
        return self.table.rule(module, name)(part, module)

    # ------------------------------------------------------------------ one module
    def _linear(self, part: Split, module: Any) -> Split:
        moved = part.map(lambda t: nn.functional.linear(t, module.weight))
        return moved if module.bias is None else _with_bias(moved, module.bias, moved)

    def _conv1d(self, part: Split, module: Any) -> Split:
        moved = part.map(lambda t: t @ module.weight)
        return _with_bias(moved, module.bias, moved)

    def _layer_norm(self, part: Split, module: Any) -> Split:
        spread = (part.total.var(dim=-1, keepdim=True, unbiased=False) + module.eps).rsqrt()
        moved = part.map(lambda t: (t - t.mean(dim=-1, keepdim=True)) * spread)
        if module.weight is not None:
            moved = moved.map(lambda t: t * module.weight)
        return moved if module.bias is None else _with_bias(moved, module.bias, part)

    def _rms_norm(self, part: Split, module: Any) -> Split:
        scale = (part.total.square().mean(dim=-1, keepdim=True) + module.variance_epsilon).rsqrt()
        return part.map(lambda t: t * scale * module.weight)

    def _activation(self, part: Split, module: Any) -> Split:
        one = Split(torch.ones_like(part.total[:1, :1]))
        return self._product(part, module, one)

    def gate(self, part: Split, activation: Any, other: Split) -> Split:
        """An activation of one split times another: SwiGLU and its kin."""
        return self._product(part, activation, other)

    def _product(self, u: Split, activation: Any, v: Split) -> Split:
        total = activation(u.total) * v.total
        if u.relevant is None:
            return Split(total)
        # A factor without parts goes whole with either part of the other.
        v_rest, v_relevant, v_whole = (v.total,) * 3 if v.relevant is None else (v.rest, v.relevant, v.whole)
        whole, rest = activation(u.whole) * v_whole, activation(u.rest) * v_rest
        if self.symmetric:
            alone = (activation(u.relevant) - activation(torch.zeros_like(u.relevant))) * v_relevant
            rest = (rest + whole - alone) / 2
        return u.replaced(total, lambda: whole - rest, lambda: rest)

    @staticmethod
    def _same(part: Split, module: Any) -> Split:
        return part

    # ------------------------------------------------------------------ heads
    def attention(self, q: Split, k: Split, v: Split, scale: float, causal: bool) -> Split:
        """What the heads put out; q, k, v of shape (..., length, heads, width of a head)."""
        q, k, v = (part.map(lambda t: t.transpose(-2, -3)) for part in (q, k, v))
        pattern = _pattern(q.total, k.total, scale, causal)
        total = pattern @ v.total
        if v.relevant is None or q.relevant is None or k.relevant is None:
            out = Split(total)
        elif self.attention_mode == "fixed":
            out = v.map(lambda t: pattern @ t)
        else:
            relevant = _pattern(q.relevant, k.relevant, scale, causal) @ v.relevant
            out = v.replaced(total, lambda: relevant, lambda: pattern @ v.whole - relevant)
        return out.map(lambda t: t.transpose(-2, -3))

    # ------------------------------------------------------------------ signs
    def cleanup(self, part: Split) -> Split:
        """Where the parts have opposite signs, the larger takes the whole sum and the other becomes zero."""
        if not self.merges or part.relevant is None:
            return part
        b, g = part.relevant, part.rest
        opposed, larger = b * g < 0, b.abs() > g.abs()
        zero = torch.zeros((), dtype=b.dtype, device=b.device)
        return part.replaced(
            part.total,
            lambda: torch.where(opposed, torch.where(larger, part.whole, zero), b),
            lambda: torch.where(opposed, torch.where(larger, zero, part.whole), g),
        )


_ACTIVATIONS = (
    "GELUTanh", "NewGELUActivation", "GELUActivation", "SiLUActivation", "FastGELUActivation", "QuickGELUActivation",
)  # fmt: skip


def _sum(one: Tensor | None, two: Tensor | None) -> Tensor | None:
    if one is None or two is None:
        return two if one is None else one
    return one + two


def _with_bias(moved: Split, bias: Tensor, weighed: Split) -> Split:
    """Add a bias, shared by the magnitudes of the parts of `weighed`; where both are zero it goes to the rest."""
    if moved.relevant is None or weighed.relevant is None:
        return Split(moved.total + bias)
    size = weighed.relevant.abs()
    share = size / (size + weighed.rest.abs() + _TOLERANCE)
    return Split(
        moved.total + bias,
        moved.relevant + bias * share,
        None if moved.tracked is None else moved.tracked + bias * (1 - share),
    )


def _pattern(q: Tensor, k: Tensor, scale: float, causal: bool) -> Tensor:
    scores = (q @ k.transpose(-1, -2)) * scale
    if causal:
        length = scores.shape[-1]
        later = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(dim=-1)


def rope(cos: Tensor, sin: Tensor) -> Callable[[Tensor], Tensor]:
    """Rotation of queries and keys of shape (..., length, heads, width) by their position: a linear map.

    Parameters
    ----------
    cos, sin : Tensor of shape (length, width)
    """
    cos, sin = cos[:, None], sin[:, None]

    def rotate(t: Tensor) -> Tensor:
        one, two = t.chunk(2, dim=-1)
        return t * cos + torch.cat((-two, one), dim=-1) * sin

    return rotate
