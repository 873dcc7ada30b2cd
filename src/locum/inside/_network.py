"""A dictionary as a network: its loss on a batch, and what keeps its atoms of length 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from locum.inside._codes import Codes, SparseCodes, decode_prefixes, ends_of
from locum.inside._encoders import Encoder
from locum.inside.encoders import AuxiliaryLoss, EncoderSpec, Resampling, Revival

__all__ = ["DictionaryModule", "DictionaryNet", "LatentReading", "Learnt", "made"]

Tensor = torch.Tensor


@dataclass(frozen=True)
class Learnt:
    """What one batch said."""

    loss: Tensor
    fvu: Tensor
    l0: float


class DictionaryNet(nn.Module):
    """Encoder, atoms and biases.

    Parameters
    ----------
    encoder : Encoder
    atoms : tensor of shape (p, m)
        Of length 1.
    bias : tensor of shape (m,)
        Added to every reconstruction.
    shift : tensor or None
        Taken from inputs; where None it is the bias itself.
    ends : tuple of int
        Prefixes that reconstruct by themselves.
    weights : tuple of float
        Of their errors in the loss.
    dead : AuxiliaryLoss, Resampling, Revival or None
    """

    silent: Tensor
    shift: Tensor

    def __init__(
        self, encoder: Encoder, atoms: Tensor, bias: Tensor, shift: Tensor | None, ends: tuple[int, ...],
        weights: tuple[float, ...], dead: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.ends, self.weights, self.dead = encoder, ends, weights, dead
        self.atoms, self.bias = nn.Parameter(atoms), nn.Parameter(bias)
        self.tied = shift is None
        self.register_buffer("shift", torch.zeros(0) if shift is None else shift)
        self.register_buffer("silent", torch.zeros(len(atoms), dtype=torch.long))
        self.window = 2**62  # rows without activity after which a latent is dead

    # ------------------------------------------------------------------ use
    def centred(self, x: Tensor) -> Tensor:
        return x - (self.bias if self.tied else self.shift)

    def codes(self, x: Tensor) -> SparseCodes:
        return self.encoder.codes(self.centred(x), self.atoms)

    def ranked(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self.encoder.ranked(self.centred(x), self.atoms, k)

    def decode(self, codes: Codes) -> Tensor:
        return codes.decode(self.atoms) + self.bias

    # ------------------------------------------------------------------ learning
    def learn(self, x: Tensor, y: Tensor) -> Learnt:
        """The loss on a batch: mean squared errors of prefixes by their weights, what the encoder adds, and dead latents."""
        centred = self.centred(x)
        codes, extra = self.encoder.learn(centred, self.atoms)
        target = y - self.bias
        errors = [target - one for one in decode_prefixes(codes, self.atoms, self.ends)]
        squares = [one.square().mean() for one in errors]
        loss = torch.stack([weight * one for weight, one in zip(self.weights, squares, strict=True)]).sum() + extra
        fired = codes.fired()
        self.silent += len(x)
        self.silent[fired] = 0
        loss = loss + self._dead_loss(centred, codes, errors[-1])
        spread = (y - y.mean(dim=0)).square().mean()
        return Learnt(loss, squares[-1].detach() / spread, codes.l0())

    def dead_rows(self) -> Tensor:
        return (self.silent >= self.window).nonzero()[:, 0]

    def _dead_loss(self, centred: Tensor, codes: Codes, error: Tensor) -> Tensor:
        if isinstance(self.dead, Revival):
            rows = (codes.largest() < self.dead.small).nonzero()[:, 0]
            if len(rows) > self.dead.spare:
                return -self.dead.weight * (error @ self.atoms[rows].T).mean()
        if isinstance(self.dead, AuxiliaryLoss):
            rows = self.dead_rows()
            if len(rows):
                return self.dead.weight * self._auxiliary(centred, error.detach(), rows)
        return error.new_zeros(())

    def _auxiliary(self, centred: Tensor, left: Tensor, rows: Tensor) -> Tensor:
        """Squared error, relative to the variance, of giving what is left over back by the largest dead latents alone."""
        few = min(len(rows), max(1, left.shape[1] // 2))
        value, index = self.encoder.pre(centred, self.atoms, rows).relu().topk(few, dim=1, sorted=False)
        active = value > 0
        given = SparseCodes(ends_of(active.sum(dim=1)), rows[index[active]], value[active], len(self.atoms)).decode(self.atoms)
        variance = (left - left.mean(dim=0)).square().mean()
        return ((left - given).square().mean() / variance.clamp(min=1e-12)).nan_to_num(0.0)

    @torch.no_grad()
    def resample(self, x: Tensor, y: Tensor, optimizer: Any) -> None:
        """Begin anew with dead latents, at rows drawn by their squared error."""
        rows = self.dead_rows()
        if not isinstance(self.dead, Resampling) or not len(rows):
            return
        centred = self.centred(x)
        error = (y - self.decode(self.encoder.codes(centred, self.atoms))).square().sum(dim=1)
        drawn = torch.multinomial(error, len(rows), replacement=len(rows) > len(x))
        alive = torch.ones(len(self.atoms), dtype=torch.bool, device=x.device)
        alive[rows] = False
        towards, seen = (nn.functional.normalize(one[drawn], dim=1) for one in (y - self.bias, centred))
        self.atoms[rows] = towards
        begun: list[tuple[nn.Parameter, Tensor]] = self.encoder.restart(rows, seen, alive)
        for parameter, part in [(self.atoms, rows), *begun]:
            for moment in ("exp_avg", "exp_avg_sq"):
                if moment in optimizer.state.get(parameter, {}):
                    optimizer.state[parameter][moment][part] = 0.0
        self.silent[rows] = 0

    @torch.no_grad()
    def flatten_gradient(self) -> None:
        """Take from the atoms' gradients what would only make them longer."""
        grad = self.atoms.grad
        if grad is not None:
            grad.addcmul_((grad * self.atoms).sum(dim=1, keepdim=True), self.atoms, value=-1.0)

    @torch.no_grad()
    def shorten(self) -> None:
        """Atoms of length 1 again."""
        self.atoms.copy_(nn.functional.normalize(self.atoms, dim=1))

    @torch.no_grad()
    def fold(self, into: float, out: float) -> None:
        """From scaled rows to rows as they are."""
        self.encoder.fold(into, out)
        self.bias.div_(out)
        if not self.tied:
            self.shift.div_(into)


def made(spec: EncoderSpec, n_latents: int, mean: Tensor, target_mean: Tensor | None, steps: int) -> DictionaryNet:
    """A network before its training; drawn from torch's generator."""
    width = len(mean if target_mean is None else target_mean)
    atoms = nn.functional.normalize(torch.randn(n_latents, width), dim=1)
    if target_mean is None:
        first, shift = atoms, None
    else:
        first, shift = nn.functional.normalize(torch.randn(n_latents, len(mean)), dim=1), mean.clone()
    encoder = spec.network(first, width, steps)
    bias = (mean if target_mean is None else target_mean).clone()
    ends, weights = spec.prefixes(n_latents), spec.prefix_weights()
    return DictionaryNet(encoder, atoms.clone(), bias, shift, ends, weights, spec.dead)


class DictionaryModule(nn.Module):
    """Inputs to reconstructions, for a network to be run with: any leading shape, gradients to the input."""

    def __init__(self, net: DictionaryNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).to(self.net.atoms.dtype)
        if flat.requires_grad:
            codes: Codes = self.net.encoder.differentiable(self.net.centred(flat), self.net.atoms)
        else:
            codes = self.net.codes(flat)
        return self.net.decode(codes).reshape(*x.shape[:-1], -1).to(x.dtype)


class LatentReading(nn.Module):
    """Inputs to the codes of one latent."""

    def __init__(self, net: DictionaryNet, latent: int) -> None:
        super().__init__()
        self.net, self.latent = net, latent

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1]).to(self.net.atoms.dtype)
        codes = self.net.codes(flat)
        hits = codes.index == self.latent
        line = torch.bucketize(hits.nonzero()[:, 0], codes.offsets, right=True) - 1
        return flat.new_zeros(len(flat)).index_put((line,), codes.value[hits]).reshape(x.shape[:-1]).to(x.dtype)
