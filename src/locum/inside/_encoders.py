"""Encoders of dictionaries: from centred inputs to codes, with what training adds to the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from locum.core.errors import InvalidData
from locum.inside._codes import Codes, DenseCodes, SparseCodes, ends_of, select

__all__ = ["BatchTopKEncoder", "Encoder", "GatedEncoder", "JumpReLUEncoder", "LinearMap", "ReLUEncoder", "TopKEncoder"]

Tensor = torch.Tensor
_SPARSE = 0.05  # share of active entries below which gathering is cheaper than a dense product


class Encoder(nn.Module, ABC):
    """From inputs, less the bias, to codes. All tensors of inputs have the shape (n, width)."""

    @abstractmethod
    def learn(self, x: Tensor, atoms: Tensor) -> tuple[Codes, Tensor]:
        """Codes with gradients, and what the loss gets beside the error of reconstruction."""

    @abstractmethod
    def codes(self, x: Tensor, atoms: Tensor) -> SparseCodes:
        """Codes as they are used."""

    @abstractmethod
    def differentiable(self, x: Tensor, atoms: Tensor) -> Codes:
        """Codes as they are used, with gradients; nothing is learned from them."""

    @abstractmethod
    def ranked(self, x: Tensor, atoms: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Index and value, shape (n, k) each, of the latents that a code of k of them has, in the order they come in."""

    @abstractmethod
    def fold(self, into: float, out: float) -> None:
        """Take in that inputs were multiplied by `into` and outputs by `out` when it learned."""

    @abstractmethod
    def pre(self, x: Tensor, atoms: Tensor, rows: Tensor) -> Tensor:
        """What some latents would have been before any were picked, with gradients, shape (n, rows)."""

    @abstractmethod
    def at(self, share: float) -> None:
        """Be told what share of the training is over."""

    @abstractmethod
    def restart(self, rows: Tensor, directions: Tensor, alive: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        """Begin anew with some latents; gives the parameters and rows whose momenta are to be forgotten."""


class LinearMap(nn.Module):
    """``x W' + b``, with a row of W for each latent."""

    def __init__(self, atoms: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(atoms.clone())
        self.bias = nn.Parameter(torch.zeros(len(atoms)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight.T)

    def some(self, x: Tensor, rows: Tensor) -> Tensor:
        return torch.addmm(self.bias[rows], x, self.weight[rows].T)

    def fold(self, into: float, out: float) -> None:
        self.weight.mul_(into / out)
        self.bias.div_(out)

    def restart(self, rows: Tensor, directions: Tensor, alive: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        """A fifth of the mean length of living rows, as in Bricken and others (2023)."""
        length = self.weight[alive].norm(dim=1).mean() if bool(alive.any()) else self.weight.new_tensor(1.0)
        self.weight[rows] = 0.2 * length * directions
        self.bias[rows] = 0.0
        return [(self.weight, rows), (self.bias, rows)]


class _Linear(Encoder):
    """What encoders with one linear map share."""

    def __init__(self, atoms: Tensor) -> None:
        super().__init__()
        self.map = LinearMap(atoms)

    def pre(self, x: Tensor, atoms: Tensor, rows: Tensor) -> Tensor:
        return self.map.some(x, rows)

    def fold(self, into: float, out: float) -> None:
        self.map.fold(into, out)

    def at(self, share: float) -> None:
        return None

    def restart(self, rows: Tensor, directions: Tensor, alive: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        return self.map.restart(rows, directions, alive)

    def differentiable(self, x: Tensor, atoms: Tensor) -> Codes:
        with torch.no_grad():
            picked = self.codes(x, atoms)
        return select(x, self.map.weight, self.map.bias, picked)

    def ranked(self, x: Tensor, atoms: Tensor, k: int) -> tuple[Tensor, Tensor]:
        value, index = self._table(x).topk(k, dim=1)
        return index, value

    def _table(self, x: Tensor) -> Tensor:
        """Codes before a number of them is picked, shape (n, latents)."""
        return self.map(x).relu()


class _Penalty(nn.Module):
    """The weight of a penalty that follows a number of active latents, by at most `pace` of itself a step."""

    weight: Tensor

    def __init__(self, l0: float, weight: float, pace: float) -> None:
        super().__init__()
        self.l0, self.pace = l0, pace
        self.register_buffer("weight", torch.tensor(float(weight)))

    def follow(self, seen: float) -> None:
        away = min(max(seen / self.l0 - 1.0, -1.0), 1.0)
        self.weight.mul_(1.0 + self.pace * away)


class ReLUEncoder(_Linear):
    """All positive latents, with a sum of codes in the loss (L1) that leads to the number of active ones wanted."""

    def __init__(self, atoms: Tensor, l0: float, weight: float, pace: float) -> None:
        super().__init__(atoms)
        self.penalty = _Penalty(l0, weight, pace)

    def learn(self, x: Tensor, atoms: Tensor) -> tuple[Codes, Tensor]:
        with torch.no_grad():
            pre = self.map(x)
            active = pre > 0
            dense = float(active.sum()) > _SPARSE * active.numel()
        codes: Codes
        if dense:
            codes = DenseCodes(self.map(x).relu())
        else:
            codes = select(x, self.map.weight, self.map.bias, DenseCodes(pre.relu_()).sparse())
        self.penalty.follow(codes.l0())
        return codes, self.penalty.weight * codes.value.sum() / (len(x) * x.shape[1] ** 0.5)

    def codes(self, x: Tensor, atoms: Tensor) -> SparseCodes:
        return DenseCodes(self._table(x)).sparse()


class GatedEncoder(_Linear):
    """A gate says which latents are active, a scaled copy of its map how much (Rajamanoharan and others, 2404.16014)."""

    def __init__(self, atoms: Tensor, l0: float, weight: float, pace: float) -> None:
        super().__init__(atoms)
        self.scale = nn.Parameter(torch.zeros(len(atoms)))
        self.size_bias = nn.Parameter(torch.zeros(len(atoms)))
        self.penalty = _Penalty(l0, weight, pace)

    def learn(self, x: Tensor, atoms: Tensor) -> tuple[Codes, Tensor]:
        gate = self.map(x)
        value = self._sized(gate) * (gate > 0)
        codes = DenseCodes(value)
        self.penalty.follow(codes.l0())
        open_ = gate.relu()
        # The gate itself has no gradient through what it lets pass: it learns from giving the input back by frozen atoms.
        error = (x - open_ @ atoms.detach()).square().mean()
        return codes, error + self.penalty.weight * open_.sum() / (len(x) * x.shape[1] ** 0.5)

    def _sized(self, gate: Tensor) -> Tensor:
        return ((gate - self.map.bias) * self.scale.exp() + self.size_bias).relu()

    def _table(self, x: Tensor) -> Tensor:
        gate = self.map(x)
        return self._sized(gate) * (gate > 0)

    def differentiable(self, x: Tensor, atoms: Tensor) -> Codes:
        return DenseCodes(self._table(x))

    def codes(self, x: Tensor, atoms: Tensor) -> SparseCodes:
        return DenseCodes(self._table(x)).sparse()

    def fold(self, into: float, out: float) -> None:
        self.map.fold(into, out)
        self.size_bias.div_(out)

    def restart(self, rows: Tensor, directions: Tensor, alive: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        self.scale[rows], self.size_bias[rows] = 0.0, 0.0
        return [*self.map.restart(rows, directions, alive), (self.scale, rows), (self.size_bias, rows)]


class _Jump(torch.autograd.Function):
    """``z`` where it is above a threshold, and how many are: the threshold's gradients come from a window around it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, threshold: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        above = z > threshold
        return z * above, above.to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        z, threshold = ctx.saved_tensors
        window = ((z - threshold).abs() < ctx.bandwidth / 2) / ctx.bandwidth
        to_threshold = -(window * (threshold * grads[0] + grads[1])).sum(dim=0)
        return grads[0] * (z > threshold), to_threshold, None


class JumpReLUEncoder(_Linear):
    """Latents above a learned threshold each, with their number in the loss (Rajamanoharan and others, 2407.14435)."""

    def __init__(self, atoms: Tensor, l0: float, weight: float, threshold: float, bandwidth: float) -> None:
        super().__init__(atoms)
        self.threshold = nn.Parameter(torch.full((len(atoms),), threshold))
        self.l0, self.weight, self.bandwidth = l0, weight, bandwidth

    def learn(self, x: Tensor, atoms: Tensor) -> tuple[Codes, Tensor]:
        value, active = _Jump.apply(self.map(x).relu(), self.threshold, self.bandwidth)
        l0 = active.sum() / len(x)
        return DenseCodes(value), self.weight * (l0 / self.l0 - 1.0).square()

    def _table(self, x: Tensor) -> Tensor:
        pre = self.map(x)
        return pre.relu() * (pre > self.threshold)

    def codes(self, x: Tensor, atoms: Tensor) -> SparseCodes:
        return DenseCodes(self._table(x)).sparse()

    def fold(self, into: float, out: float) -> None:
        self.map.fold(into, out)
        self.threshold.div_(out)


class TopKEncoder(_Linear):
    """The k largest latents of each row, where they are positive (Gao and others, 2406.04093)."""

    def __init__(self, atoms: Tensor, k: int) -> None:
        super().__init__(atoms)
        self.k = k

    def learn(self, x: Tensor, atoms: Tensor) -> tuple[Codes, Tensor]:
        with torch.no_grad():
            picked = self.codes(x, atoms)
        return select(x, self.map.weight, self.map.bias, picked), x.new_zeros(())

    def codes(self, x: Tensor, atoms: Tensor) -> SparseCodes:
        value, index = self.map(x).topk(self.k, dim=1, sorted=False)
        return SparseCodes.of_equal_length(index, value.relu(), len(self.map.weight))


class BatchTopKEncoder(_Linear):
    """The k·n largest latents of a batch of n rows; in use those above a threshold (Bussmann and others, 2412.06410)."""

    threshold: Tensor

    def __init__(self, atoms: Tensor, k: float) -> None:
        super().__init__(atoms)
        self.k = k
        self.register_buffer("threshold", torch.tensor(-1.0))
        self._memory, self._begin = 1.0, 0.5
        self._late = False

    def at(self, share: float) -> None:
        self._late = share >= self._begin

    def remember(self, steps: int) -> None:
        """Let the threshold be a mean over about the last tenth of so many steps."""
        self._memory = min(0.999, 1.0 - 1.0 / max(1.0, steps / 10))
        self._begin = 0.5 if steps > 1 else 0.0  # the only step of a training comes at 0

    def learn(self, x: Tensor, atoms: Tensor) -> tuple[Codes, Tensor]:
        with torch.no_grad():
            picked = largest(self.map(x), max(1, round(self.k * len(x))))
            if self._late and len(picked.value):
                low = picked.value.min()
                known = self.threshold >= 0
                self.threshold.copy_(torch.where(known, torch.lerp(low, self.threshold, self._memory), low))
        return select(x, self.map.weight, self.map.bias, picked), x.new_zeros(())

    def codes(self, x: Tensor, atoms: Tensor) -> SparseCodes:
        if not self.training and self.threshold < 0:  # without one, all that is positive would be active
            raise InvalidData("no latent was active when the threshold was to be set, so rows cannot be encoded: train longer")
        table = self.map(x)
        return DenseCodes(table * (table > self.threshold)).sparse()

    def fold(self, into: float, out: float) -> None:
        self.map.fold(into, out)
        self.threshold.div_(out)


def largest(table: Tensor, count: int) -> SparseCodes:
    """The `count` largest positive entries of a table, exactly.

    A hundredth of the entries says about where the cut lies; the exact one is then looked for among the few that are above.
    """
    n, width = table.shape
    flat = table.reshape(-1)
    sample = flat[:: max(1, flat.numel() // 65_536)]
    share = min(1.0, 1.3 * count / flat.numel() + 64 / len(sample))
    cut = sample.kthvalue(max(1, int((1 - share) * len(sample)))).values.clamp(min=0.0)
    above = table > cut
    if int(above.sum()) < count:
        above = table > 0
    index, value = above.nonzero(), table[above]
    if len(value) > count:
        kept = torch.zeros(len(value), dtype=torch.bool, device=value.device)
        kept[value.topk(count, sorted=False).indices] = True
        index, value = index[kept], value[kept]
    return SparseCodes(ends_of(torch.bincount(index[:, 0], minlength=n)), index[:, 1], value, width)
