"""Losses of the time-series explainer: relations between series, sparse and connected masks, and labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "connectedness", "contrast", "divergences", "label_consistency", "label_gap", "mask_prior", "relation_gap", "relations",
]  # fmt: skip

_TINY = 1e-9


def relations(z: Tensor) -> Tensor:
    """Cosine of each embedding with each, (n, n)."""
    unit = F.normalize(z, dim=1)
    return unit @ unit.T


def relation_gap(z: Tensor, other: Tensor) -> Tensor:
    """Mean squared gap between the relations of the same series in two embeddings (behaviour consistency)."""
    return ((relations(z) - relations(other)) ** 2).mean()


def contrast(z: Tensor, other: Tensor, temperature: float = 0.5) -> Tensor:
    """Each embedding told from those of other series by its own in the other space, instead of by relations."""
    scores = F.normalize(other, dim=1) @ F.normalize(z, dim=1).T / temperature
    own = torch.arange(len(z), device=z.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def divergences(logits: Tensor, others: Tensor) -> Tensor:
    """Jensen-Shannon divergence between each distribution of one batch and each of another, (n, m), in nats."""
    p, q = logits.softmax(dim=1)[:, None], others.softmax(dim=1)[None]
    middle = torch.log((p + q) / 2 + _TINY)
    first = (p * (torch.log(p + _TINY) - middle)).sum(dim=-1)
    return (first + (q * (torch.log(q + _TINY) - middle)).sum(dim=-1)) / 2


def label_gap(logits: Tensor, said: Tensor) -> Tensor:
    """Squared gap between the divergences of each pair of series by two label heads, (n, n)."""
    return (divergences(logits, logits) - divergences(said, said)) ** 2


def label_consistency(logits: Tensor, said: Tensor, pairs: bool) -> Tensor:
    """Mean gap over pairs of series; or, not by pairs, the squared gap of two numbers, as in the authors' code."""
    if len(logits) < 2:
        return said.sum() * 0.0
    if pairs:
        i, j = torch.triu_indices(len(logits), len(logits), 1, device=logits.device)
        return label_gap(logits, said)[i, j].mean()
    return (_reversed(logits) - _reversed(said)) ** 2


def _reversed(logits: Tensor) -> Tensor:
    """Divergences from the middle to the two, averaged over all pairs and classes."""
    p = logits.softmax(dim=1)
    middle = (p[:, None] + p[None]) / 2
    log = torch.log(p + _TINY)
    spread = middle * (2 * torch.log(middle + _TINY) - log[:, None] - log[None])
    return spread.mean() / 2


def mask_prior(p: Tensor, prior: float, there: Tensor) -> Tensor:
    """Mean divergence of the probabilities to stay from a coin that falls on stay with probability `prior`."""
    p = p.clamp(1e-6, 1 - 1e-6)
    each = p * torch.log(p / prior) + (1 - p) * torch.log((1 - p) / (1 - prior))
    return (each * there).sum() / (there.sum() * p.shape[-1])


def connectedness(p: Tensor, there: Tensor) -> Tensor:
    """Length of the vector of steps from each time point to the next, divided by the number of values."""
    steps = (p[:, 1:] - p[:, :-1]) * there[:, 1:]
    # The square root has no gradient at zero, where a mask is constant.
    return (steps.square().sum() + 1e-12).sqrt() / p.numel()
