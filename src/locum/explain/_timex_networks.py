"""Networks of the time-series explainer: three classifiers, the generator of masks, and the masked encoder with landmarks.

Series are tensors of shape (n, T, d), times (n, T); a time below `PADDED` marks a step that is not there.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from locum.core.errors import InvalidData
from locum.explain._timex_series import PADDED, AttentionMasking
from locum.nets import Reference

__all__ = [
    "Masked", "MaskedEncoder", "MaskGenerator", "SeriesConvolution", "SeriesRecurrent", "SeriesTransformer", "copied",
    "regular_times",
]  # fmt: skip

_TIMES = 16  # width of the encoding of time
_TINY = 1e-9


def regular_times(X: Tensor) -> Tensor:
    """1, 2, ... for each series, shape (n, T)."""
    return torch.arange(1, X.shape[1] + 1, device=X.device, dtype=X.dtype).expand(len(X), -1)


def _there(times: Tensor) -> Tensor:
    return times > PADDED


# ---------------------------------------------------------------------- parts
@final
class TimeEncoding(nn.Module):
    """Sines and cosines of times at scales from 1 to the longest time; (n, T) to (n, T, 16)."""

    scales: Tensor

    def __init__(self, longest: int) -> None:
        super().__init__()
        half = _TIMES // 2
        self.register_buffer("scales", float(longest) ** torch.linspace(0, 1, half))

    def forward(self, times: Tensor) -> Tensor:
        phase = times[..., None] / self.scales
        found = torch.cat([phase.sin(), phase.cos()], dim=-1)
        return found * _there(times)[..., None]


@final
class MaskedAttention(nn.Module):
    """Self-attention of one head whose weights are multiplied by a mask after the softmax, and not renormalised.

    The weight from time point i to j is multiplied by what is kept of both. That is the same as multiplying value j and output
    i, which leaves the softmax to a fused kernel.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        nn.init.xavier_uniform_(self.project.weight)
        for layer in (self.project, self.out):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, there: Tensor | None, kept: Tensor | None) -> Tensor:
        query, key, value = self.project(x).chunk(3, dim=-1)
        value = value if kept is None else value * kept[..., None]
        # With an axis of heads: without one the kernel is not fused.
        query, key, value = query[:, None], key[:, None], value[:, None]
        found = F.scaled_dot_product_attention(query, key, value, None if there is None else there[:, None, None])[:, 0]
        return self.out(found if kept is None else found * kept[..., None])


@final
class EncoderLayer(nn.Module):
    """Attention without a residual round it, so that nothing a mask hides goes past; then a feed-forward part with one."""

    def __init__(self, width: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = MaskedAttention(width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.forward_part = nn.Sequential(
            nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, there: Tensor | None, kept: Tensor | None) -> Tensor:
        x = self.first(self.dropout(self.attention(x, there, kept)))
        return self.second(x + self.forward_part(x))


def _head(width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))


# ---------------------------------------------------------------------- classifiers
@final
class SeriesTransformer(nn.Module, AttentionMasking):
    """A transformer on series beside the encoding of their times, whose embedding is the sum over time by length + 1."""

    def __init__(
        self, length: int, channels: int, classes: int, *, layers: int, feedforward: int, dropout: float, normalised: bool
    ) -> None:
        super().__init__()
        self.length, self.channels = length, channels
        self.settings: dict[str, Any] = {
            "length": length, "channels": channels, "classes": classes, "layers": layers, "feedforward": feedforward,
            "dropout": dropout, "normalised": normalised,
        }  # fmt: skip
        width = channels + _TIMES
        self.times = TimeEncoding(length)
        self.layers = nn.ModuleList([EncoderLayer(width, feedforward, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width) if normalised else nn.Identity()
        self.head = _head(width, classes)

    def sequence(self, X: Tensor, times: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
        """What the layers make of each time point, (n, T, 16 + d)."""
        if X.shape[1] > self.length:
            raise InvalidData(
                f"expected series of at most {self.length} time points, as this network is for, got {X.shape[1]}; cut them "
                "into parts of that length, or train the classifier on series as long"
            )
        times = regular_times(X) if times is None else times
        there = _there(times)
        x = torch.cat([self.times(times), X], dim=-1)
        for layer in self.layers:
            # Attention without padding to look after is a good deal faster.
            x = layer(x, None if bool(there.all()) else there, kept)
        return self.norm(x)

    def embed(self, X: Tensor, times: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
        there = _there(regular_times(X) if times is None else times)
        found = self.sequence(X, times, kept) * there[..., None]
        return found.sum(dim=1) / (there.sum(dim=1, keepdim=True) + 1)

    def forward(self, X: Tensor, times: Tensor | None = None) -> Tensor:
        return self.head(self.embed(X, times))


def _mean_over_time(found: Tensor, times: Tensor | None) -> Tensor:
    """Of (n, T, width), over the steps that are there."""
    if times is None:
        return found.mean(dim=1)
    there = _there(times)[..., None]
    return (found * there).sum(dim=1) / there.sum(dim=1)


@final
class SeriesConvolution(nn.Module):
    """Three convolutions over time, of width 3, and their mean over time."""

    def __init__(self, channels: int, classes: int, *, width: int = 64) -> None:
        super().__init__()
        sizes = (channels, width, width, width)
        self.convolutions = nn.ModuleList([nn.Conv1d(a, b, 3, padding=1) for a, b in pairwise(sizes)])
        self.head = _head(width, classes)

    def embed(self, X: Tensor, times: Tensor | None = None) -> Tensor:
        there = torch.ones_like(X[..., :1]) if times is None else _there(times)[..., None].to(X.dtype)
        x = X * there
        for layer in self.convolutions:
            x = F.relu(layer(x.transpose(1, 2)).transpose(1, 2)) * there  # nothing comes back from padded steps
        return _mean_over_time(x, times)

    def forward(self, X: Tensor, times: Tensor | None = None) -> Tensor:
        return self.head(self.embed(X, times))


@final
class SeriesRecurrent(nn.Module):
    """A long short-term memory, and the mean of its states over time."""

    def __init__(self, channels: int, classes: int, *, width: int = 128) -> None:
        super().__init__()
        self.memory = nn.LSTM(channels, width, batch_first=True)
        self.head = _head(width, classes)

    def embed(self, X: Tensor, times: Tensor | None = None) -> Tensor:
        return _mean_over_time(self.memory(X)[0], times)

    def forward(self, X: Tensor, times: Tensor | None = None) -> Tensor:
        return self.head(self.embed(X, times))


# ---------------------------------------------------------------------- the generator of masks
@final
class MaskGenerator(nn.Module):
    """A transformer decoder that reads a series against an encoder's memory of it, and gives each value a probability to stay.

    The encoder is one of its own, so that what the mask looks for is not what the classifier computes already.
    """

    def __init__(self, encoder: SeriesTransformer) -> None:
        super().__init__()
        self.encoder = encoder
        width, channels = encoder.channels + _TIMES, encoder.channels
        layer = nn.TransformerDecoderLayer(width, nhead=1, dim_feedforward=32, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, num_layers=2)
        for part in self.decoder.modules():
            if isinstance(part, nn.MultiheadAttention):
                part.dropout = 0.0  # of attention weights alone, which takes longer than all else together
        # One channel has two scores and a softmax, several have a sigmoid each.
        self.score = nn.Linear(width, 2 if channels == 1 else channels)
        nn.init.xavier_uniform_(self.score.weight)
        nn.init.constant_(self.score.bias, 0.01)

    def forward(self, X: Tensor, times: Tensor) -> Tensor:
        gone = ~_there(times)
        query = torch.cat([self.encoder.times(times), X], dim=-1)
        memory = self.encoder.sequence(X, times)
        hidden = gone if bool(gone.any()) else None
        found = self.decoder(query, memory, tgt_key_padding_mask=hidden, memory_key_padding_mask=hidden)
        scores = self.score(found)
        p = scores.softmax(dim=-1)[..., 1:] if self.encoder.channels == 1 else scores.sigmoid()
        return p.masked_fill(gone[..., None], 0.0)


# ---------------------------------------------------------------------- the masked encoder
class Masked(NamedTuple):
    """What comes of one pass: probabilities to stay, embedding, logits, and the landmark of each series."""

    p: Tensor
    embedding: Tensor
    logits: Tensor
    landmark: Tensor


def copied(reference: Reference, sample: tuple[Tensor, ...]) -> Reference:
    """A copy of the reference to train; parameters that have nothing to do with its embedding are left out of training.

    Raises
    ------
    InvalidData
        Where the embedding of the copy does not go through the copy.
    """
    other = copy.deepcopy(reference)
    parameters = list(other.module.parameters())
    found = other.embedding(*sample).sum()
    grads: Any = torch.autograd.grad(found, parameters, allow_unused=True) if found.requires_grad else [None]
    if all(one is None for one in grads):
        raise InvalidData(
            "the embedding does not go through a copy of the module, so there is nothing to train; give encode= as the name of "
            "a submodule, or a method of the module"
        )
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.requires_grad_(grad is not None)
    return other


@final
class MaskedEncoder(nn.Module):
    """Generator, mask, explanation encoder, label head and landmarks, as one module to train."""

    mean: Tensor
    sd: Tensor

    def __init__(
        self, generator: MaskGenerator, encoder: Reference, head: nn.Module, landmarks: Tensor, mean: Tensor, sd: Tensor, *,
        attention: bool, values: bool, tau: float, landmark_tau: float, hard: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.generator, self.head = generator, head
        self.encoder = encoder.module
        self.landmarks = nn.Parameter(landmarks.clone())
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)
        self._reference, self._attention, self._values = encoder, attention, values
        self._tau, self._landmark_tau, self._hard = tau, landmark_tau, hard

    def forward(self, X: Tensor, times: Tensor, with_times: bool, noise: Tensor | None = None) -> Masked:
        """One pass: masks are drawn in training, and keep what is likelier kept than not afterwards.

        `noise` (n or 1, T, d) is what normal draws are made of, fresh where None.
        """
        p = self.generator(X, times)
        mask = self.drawn(p, times) if self.training else (p > 0.5).to(p.dtype)
        z = self.embed(X, times, mask, with_times, noise)
        return Masked(p, z, self.head(z), self.assigned(z))

    def drawn(self, p: Tensor, times: Tensor) -> Tensor:
        """A mask of 0 and 1 whose gradient is that of a soft one."""
        noise = torch.rand_like(p)
        logistic = torch.log(noise + _TINY) - torch.log(1 - noise + _TINY)  # of two Gumbel draws, the difference
        soft = ((torch.log(p + _TINY) - torch.log(1 - p + _TINY) + logistic) / self._tau).sigmoid()
        found = (soft > 0.5).to(soft) - soft.detach() + soft if self._hard else soft
        return found * _there(times)[..., None]

    def embed(self, X: Tensor, times: Tensor, mask: Tensor, with_times: bool, noise: Tensor | None = None) -> Tensor:
        """Embedding of a series of which only what the mask keeps is seen."""
        if self._values:
            noise = torch.randn_like(X) if noise is None else noise
            X = mask * X + (1 - mask) * (self.mean + self.sd * noise)
        if self._attention:
            return self.encoder.embed(X, times, F.hardtanh(mask.sum(dim=-1)))
        return self._reference.embedding(*((X, times) if with_times else (X,)))

    def similarity(self, z: Tensor) -> Tensor:
        """Cosine of each embedding with each landmark, (n, landmarks)."""
        return F.normalize(z, dim=1) @ F.normalize(self.landmarks, dim=1).T

    def assigned(self, z: Tensor) -> Tensor:
        """The landmark of each embedding: drawn in training, the nearest afterwards. Only landmarks get gradients."""
        scores = self.similarity(z.detach())
        if self.training:
            return F.gumbel_softmax(scores.log_softmax(dim=1), tau=self._landmark_tau, hard=True) @ self.landmarks
        return self.landmarks[scores.argmax(dim=1)]
