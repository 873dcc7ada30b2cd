"""Losses of the style explainer, and what images go through before the discriminator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["augmented", "class_divergence", "gradient_penalty", "hinge", "path_lengths", "perceptual_distance"]

_REACH = 0.25  # of the side: how far augmentation moves an image, in units of half a side; and the side of its hole


def perceptual_distance(maps: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Squared differences between channels of norm 1 at each place, mean over places and levels; shape (n,)."""
    levels = []
    for one, other in zip(maps, others, strict=True):
        gap = F.normalize(one, dim=1, eps=1e-8) - F.normalize(other, dim=1, eps=1e-8)
        levels.append(gap.square().sum(dim=1).mean(dim=(1, 2)))
    return torch.stack(levels).mean(dim=0)


def class_divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the second softmax from the first, mean over the batch."""
    return F.kl_div(others.log_softmax(dim=1), logits.log_softmax(dim=1), log_target=True, reduction="batchmean")


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the discriminator on its scores."""
    return (F.relu(1 - real) + F.relu(1 + fake)).mean()


def gradient_penalty(images: Tensor, scores: Tensor) -> Tensor:
    """Mean squared distance from 1 of the norm of the gradient of the scores by the images."""
    (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


def path_lengths(images: Tensor, w: Tensor) -> Tensor:
    """How far images move along a random direction for a step of w, shape (n,)."""
    along = torch.randn_like(images) / math.sqrt(images[0, 0].numel())
    (slope,) = torch.autograd.grad((images * along).sum(), w, create_graph=True)
    return slope.square().sum(dim=1).sqrt()


def augmented(images: Tensor, share: float) -> Tensor:
    """Each image, with probability `share`, mirrored or not, moved a little, and with a hole of mean grey."""
    if share <= 0:
        return images
    n, side, device = len(images), images.shape[-1], images.device
    chosen = torch.rand(n, device=device) < share
    theta = torch.zeros(n, 2, 3, device=device)
    theta[:, 0, 0] = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = 1.0
    theta[:, :, 2] = (2 * torch.rand(n, 2, device=device) - 1) * _REACH
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    at = torch.arange(side, device=device)
    hole = [(at[None] - torch.randint(0, side, (n, 1), device=device)).abs() < side * _REACH / 2 for _ in range(2)]
    moved = torch.where((hole[0][:, :, None] & hole[1][:, None, :])[:, None], 0.5, moved)
    return torch.where(chosen[:, None, None, None], moved, images)
