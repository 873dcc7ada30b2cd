"""Expected improvement of a plain Gaussian process, as its logarithm, from the process's own linear algebra."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["log_h", "log_improvement"]

_TINY = 1e-300


def log_improvement(process: Any, rows: Any) -> Callable[[Any], Any]:
    """Logarithm of the expected improvement over the best mean at `rows`, of points of shape (b, 1, width), shape (b,)."""
    with torch.no_grad():
        best = process.mean(rows).max()

    def value(X: Any) -> Any:
        mean, variance = process.marginal(X[:, 0])
        sd = variance.sqrt()
        return log_h((mean - best) / sd) + sd.log()

    return value


def log_h(z: Any) -> Any:
    """log(φ(z) + z Φ(z)); far below 0 by the scaled complementary error function, where both terms cancel."""
    near = z.clamp_min(-1.0)
    plain = (torch.exp(-0.5 * near**2) / math.sqrt(2 * math.pi) + near * torch.special.ndtr(near)).log()
    far = z.clamp(-1e8, -1.0)
    # Φ(z) = φ(z) m(-z) with Mills' ratio m; 1 - |z| m is small, and 1 / z² where it would be lost.
    ratio = math.sqrt(math.pi / 2) * torch.special.erfcx(-far / math.sqrt(2))
    left = torch.where(far > -1e4, (1.0 + far * ratio).clamp_min(_TINY), far**-2)
    below = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) + left.log()
    return torch.where(z > -1.0, plain, below)
