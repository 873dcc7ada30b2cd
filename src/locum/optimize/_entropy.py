"""Which of some representers is largest: probabilities from joint samples, before and after an observation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from locum.optimize._models import standard_normals
from locum.optimize._process import root_of

__all__ = ["Representers", "joint_samples"]

_AT_ONCE = 10_000_000  # numbers held of updated samples
_DRAWS = 512


def _root(covariance: Any) -> Any:
    """Of a covariance that may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()


def joint_samples(mean: Any, covariance: Any, n: int, seed: int) -> Any:
    """Of shape (n, m)."""
    generator = torch.Generator().manual_seed(seed)
    return mean + torch.randn(n, len(mean), generator=generator, dtype=mean.dtype) @ _root(covariance).mT


class Representers:
    """Joint samples of the goal at representers.

    Parameters
    ----------
    mean : torch.Tensor of shape (m,)
    covariance : torch.Tensor of shape (m, m)
    samples, nodes, seed : int
    """

    def __init__(self, mean: Any, covariance: Any, samples: int, nodes: int, seed: int) -> None:
        m = len(mean)
        self.root = root_of(covariance)
        Z = standard_normals(samples, m + 1, seed)
        self.white, self.rest = Z[:, :m], Z[:, m]
        self.values = mean + self.white @ self.root.mT
        at, weights = np.polynomial.hermite_e.hermegauss(nodes)
        self.nodes, self.weights = torch.as_tensor(at), torch.as_tensor(weights / math.sqrt(2 * math.pi))

    @staticmethod
    def best(mean: Any, covariance: Any, m: int, seed: int) -> Any:
        """Places of the m decisions that are best most often in joint samples, then of those with the highest means."""
        times = torch.bincount(joint_samples(mean, covariance, _DRAWS, seed).argmax(dim=-1), minlength=len(mean))
        order = times + torch.softmax(mean / covariance.diagonal().mean().clamp_min(1e-300).sqrt(), dim=0)
        return order.argsort(descending=True)[:m]

    def information(self, slopes: Any) -> Any:
        """Fall of the entropy of which is largest, for observations with slopes of shape (b, m): shape (b,)."""
        size = max(1, _AT_ONCE // (self.values.numel() * len(self.nodes)))
        return torch.cat([self._information(part) for part in slopes.split(size)])

    def _information(self, slopes: Any) -> Any:
        s, m = self.values.shape
        along = torch.linalg.solve_triangular(self.root, slopes.mT, upper=False).mT  # (b, m)
        left = (1 - (along**2).sum(dim=-1)).clamp_min(0).sqrt()
        seen = along @ self.white.mT + left[:, None] * self.rest  # (b, s): the observation each sample would give
        shift = self.nodes[None, :, None] - seen[:, None]  # (b, nodes, s)
        best = (self.values + shift[..., None] * slopes[:, None, None]).argmax(dim=-1)
        counts = torch.zeros(*best.shape[:-1], m, dtype=self.values.dtype)
        counts.scatter_add_(-1, best, torch.ones_like(best, dtype=counts.dtype))
        now = _entropy(torch.bincount(self.values.argmax(dim=-1), minlength=m).to(counts.dtype) / s)
        return now - _entropy(counts / s) @ self.weights


def _entropy(p: Any) -> Any:
    return -torch.xlogy(p, p).sum(dim=-1)
