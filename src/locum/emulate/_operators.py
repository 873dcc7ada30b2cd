"""Networks from fields to fields on uniform periodic grids of one or two dimensions: FNO, U-Net, message passing."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

__all__ = ["OPERATORS", "FNO", "MessagePassing", "SpectralConv", "UNet", "convolution"]


def convolution(dimensions: int, inputs: int, outputs: int, size: int = 1, groups: int = 1, bias: bool = True) -> nn.Module:
    """A convolution over a periodic grid of one or two dimensions."""
    kind = (nn.Conv1d, nn.Conv2d)[dimensions - 1]
    if size == 1:
        return kind(inputs, outputs, 1, groups=groups, bias=bias)
    return kind(inputs, outputs, size, padding=size // 2, padding_mode="circular", groups=groups, bias=bias)


class SpectralConv(nn.Module):
    """Multiplies the lowest Fourier modes of the channels by a matrix for each mode; the same on any grid."""

    def __init__(self, inputs: int, outputs: int, modes: int, dimensions: int) -> None:
        super().__init__()
        self.modes, self.dimensions = modes, dimensions
        self.weight = nn.Parameter(torch.randn(inputs, outputs, *(2 * modes,) * (dimensions - 1), modes, 2) / inputs)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """From (n, inputs, *grid) to (n, outputs, *grid)."""
        if torch.compiler.is_exporting():  # ONNX has no complex numbers
            return self._by_matrices(u)
        grid, over = u.shape[2:], tuple(range(2, u.ndim))
        spectrum = torch.fft.rfftn(u, dim=over)
        weight = torch.view_as_complex(self.weight)
        last = min(self.modes, spectrum.shape[-1])
        kept, weight = spectrum[..., :last], weight[..., :last]
        out = u.new_zeros(u.shape[0], weight.shape[1], *spectrum.shape[2:], dtype=spectrum.dtype)
        if self.dimensions == 1:
            out[..., :last] = torch.einsum("nim,iom->nom", kept, weight)
        else:
            rows = min(self.modes, grid[0] // 2)
            for ends, of in ((slice(rows), slice(rows)), (slice(grid[0] - rows, None), slice(2 * self.modes - rows, None))):
                out[:, :, ends, :last] = torch.einsum("nixy,ioxy->noxy", kept[:, :, ends], weight[:, :, of])
        return torch.fft.irfftn(out, s=grid, dim=over)

    def _by_matrices(self, u: torch.Tensor) -> torch.Tensor:
        """The same in products of real matrices, for a grid of fixed size."""
        side, last = u.shape[-1], min(self.modes, u.shape[-1] // 2 + 1)
        cos, sin = _waves(side, torch.arange(last), u)
        re, im = u @ cos, -(u @ sin)
        weight = self.weight[..., :last, :]
        if self.dimensions == 2:
            rows = min(self.modes, u.shape[2] // 2)
            some = torch.cat([torch.arange(rows), torch.arange(-rows, 0)])
            c, s = _waves(u.shape[2], some, u)
            weight = weight[:, :, some]
            re, im = _product("nixy,xk->niky", (re, im), (c, -s))
        path = "nim,iom->nom" if self.dimensions == 1 else "niky,ioky->noky"
        re, im = _product(path, (re, im), (weight[..., 0], weight[..., 1]))
        if self.dimensions == 2:
            re, im = _product("niky,xk->nixy", (re, im), (c / u.shape[2], s / u.shape[2]))
        ends = (torch.arange(last) == 0) | (2 * torch.arange(last) == side)
        twice = (2.0 - ends.to(u)) / side
        return re @ (twice * cos).T - im @ (twice * sin).T


def _waves(side: int, modes: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of some modes on a periodic grid, each of shape (side, modes)."""
    phase = 2 * math.pi / side * torch.outer(torch.arange(side), modes).double()
    return phase.cos().to(like), phase.sin().to(like)


def _product(
    path: str, one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Real and imaginary parts of a sum of products of complex numbers that are given by theirs."""
    rr, ii = torch.einsum(path, one[0], other[0]), torch.einsum(path, one[1], other[1])
    ri, ir = torch.einsum(path, one[0], other[1]), torch.einsum(path, one[1], other[0])
    return rr - ii, ri + ir


class FNO(nn.Module):
    """Fourier neural operator: spectral convolutions beside pointwise ones. Li et al., arXiv 2010.08895."""

    def __init__(
        self, inputs: int, outputs: int, dimensions: int = 1, *, width: int = 20, modes: int = 12, layers: int = 4,
        head: int = 128,
    ) -> None:  # fmt: skip
        super().__init__()
        self.lift = convolution(dimensions, inputs, width)
        self.spectral = nn.ModuleList(SpectralConv(width, width, modes, dimensions) for _ in range(layers))
        self.pointwise = nn.ModuleList(convolution(dimensions, width, width) for _ in range(layers))
        self.head = nn.Sequential(convolution(dimensions, width, head), nn.GELU(), convolution(dimensions, head, outputs))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """From (n, inputs, *grid) to (n, outputs, *grid)."""
        v = self.lift(u)
        for i, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            v = spectral(v) + pointwise(v)
            if i < len(self.spectral) - 1:
                v = functional.gelu(v)
        return self.head(v)


class UNet(nn.Module):
    """Convolutions on ever coarser grids and back, each joined by what was there before: the grid halves `levels` times."""

    def __init__(self, inputs: int, outputs: int, dimensions: int = 1, *, width: int = 20, levels: int = 2) -> None:
        super().__init__()
        self.pool: Callable[..., torch.Tensor] = (functional.avg_pool1d, functional.avg_pool2d)[dimensions - 1]

        def block(i: int, o: int) -> nn.Module:
            return nn.Sequential(convolution(dimensions, i, o, 5), nn.GELU(), convolution(dimensions, o, o, 5), nn.GELU())

        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(block(i, o) for i, o in zip([inputs, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(block(o + i, i) for i, o in zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.out = convolution(dimensions, width, outputs)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """From (n, inputs, *grid) to (n, outputs, *grid)."""
        seen, v = [], self.down[0](u)
        for block in list(self.down)[1:]:
            seen.append(v)
            v = block(self.pool(v, 2))
        for block in self.up:
            v = block(torch.cat([functional.interpolate(v, scale_factor=2.0), seen.pop()], dim=1))
        return self.out(v)


class MessagePassing(nn.Module):
    """Cells send messages to neighbours, from both states and their difference: Brandstetter et al., arXiv 2202.03376."""

    def __init__(
        self, inputs: int, outputs: int, dimensions: int = 1, *, width: int = 32, layers: int = 4, reach: int = 2
    ) -> None:
        super().__init__()
        steps = [step for step in range(-reach, reach + 1) if step]
        self.moves = [(axis, step) for axis in range(2, 2 + dimensions) for step in steps]
        self.encode = nn.Sequential(convolution(dimensions, inputs, width), nn.GELU(), convolution(dimensions, width, width))

        def each(i: int, o: int, bias: bool = True) -> nn.ModuleList:
            return nn.ModuleList(convolution(dimensions, i, o, bias=bias) for _ in range(layers))

        self.own, self.other, self.change = each(width, width), each(width, width, False), each(inputs, width, False)
        self.place = nn.Parameter(torch.randn(layers, len(self.moves), width, *(1,) * dimensions) / math.sqrt(width))
        self.update = each(2 * width, width)
        self.out = nn.Sequential(convolution(dimensions, width, width), nn.GELU(), convolution(dimensions, width, outputs))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """From (n, inputs, *grid) to (n, outputs, *grid)."""
        h = self.encode(u)
        for own, other, change, place, update in zip(self.own, self.other, self.change, self.place, self.update, strict=True):
            at, there = own(h) + change(u), other(h) - change(u)
            heard = [
                functional.gelu(at + torch.roll(there, step, axis) + bias)
                for (axis, step), bias in zip(self.moves, place, strict=True)
            ]
            h = h + functional.gelu(update(torch.cat([h, torch.stack(heard).mean(0)], dim=1)))
        return self.out(h)


OPERATORS: dict[str, type[nn.Module]] = {"fno": FNO, "unet": UNet, "message-passing": MessagePassing}
