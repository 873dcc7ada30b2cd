"""The expected maximum of lines a + b Z in a standard normal Z, above the largest a, as its logarithm."""

from __future__ import annotations

import math
from typing import Any

import torch

__all__ = ["log_gain_of_lines", "log_mean_gain", "log_tail"]

_FLOOR = -690.0  # the logarithm of the least gain told from none
_CELLS = 4_000_000  # of a table of pairs of lines held at once


def log_tail(t: Any) -> Any:
    """Logarithm of φ(t) - t (1 - Φ(t)), the expected excess of a standard normal over t >= 0."""
    near = t.clamp_max(1e3)
    scaled = 1 - near * math.sqrt(math.pi / 2) * torch.special.erfcx(near / math.sqrt(2))
    # Beyond, the difference of two nearly equal numbers is its first term.
    rest = torch.where(t > 1e3, -2 * t.clamp_min(1.0).log(), scaled.clamp_min(1e-300).log())
    return rest - t**2 / 2 - 0.5 * math.log(2 * math.pi)


def log_gain_of_lines(a: Any, b: Any) -> Any:
    """Logarithm of E[max(a + b Z)] - max(a), shape (...), of lines with shape (..., m).

    With the lines of the upper envelope in the order of their slopes, it is the sum over its corners c of the change of slope
    there times the expected excess of Z over the size of c. A line is found to be in the envelope, and its left corner, by
    comparing all pairs: O(m²), and no loop over lines.
    """
    shape, m = a.shape[:-1], a.shape[-1]
    a, b = a.reshape(-1, m), b.reshape(-1, m)
    parts = max(1, _CELLS // (m * m))
    found = [_gain(one, two) for one, two in zip(a.split(parts), b.split(parts), strict=True)]
    return torch.cat(found).reshape(shape)


def _gain(a: Any, b: Any) -> Any:
    with torch.no_grad():
        before, corner = _left_neighbours(a, b)
    change = b - b.gather(-1, before)
    at = (a.gather(-1, before) - a) / torch.where(corner, change, torch.ones_like(change))
    terms = torch.where(corner, change, torch.ones_like(change)).log() + log_tail(at.abs())
    terms = torch.where(corner, terms, torch.full_like(terms, _FLOOR))
    return torch.logsumexp(torch.cat([terms, torch.full_like(terms[:, :1], _FLOOR)], dim=-1), dim=-1)


def _left_neighbours(a: Any, b: Any) -> tuple[Any, Any]:
    """For each line the one it takes over from in the upper envelope, and whether there is one and it is in it."""
    rise = b[..., :, None] - b[..., None, :]  # slope of i less that of j
    lead = a[..., None, :] - a[..., :, None]  # height of j less that of i
    order = torch.arange(a.shape[-1])
    meets = lead / rise
    low = torch.where(rise > 0, meets, torch.full_like(meets, -math.inf)).amax(dim=-1)
    high = torch.where(rise < 0, meets, torch.full_like(meets, math.inf)).amin(dim=-1)
    # Of parallel lines the highest counts, of equal ones the first; one that touches the others in a point does not.
    beaten = ((rise == 0) & ((lead > 0) | ((lead == 0) & (order[None, :] < order[:, None])))).any(dim=-1)
    kept = (low < high) & ~beaten
    slopes = torch.where((rise > 0) & kept[..., None, :], b[..., None, :], torch.full_like(rise, -math.inf))
    nearest, before = slopes.max(dim=-1)
    return before, kept & torch.isfinite(nearest)


def log_mean_gain(a: Any, B: Any, Z: Any, top: Any) -> Any:
    """Logarithm of the mean over rows z of Z of max(a + B z) - top.

    Parameters
    ----------
    a : torch.Tensor of shape (..., m)
    B : torch.Tensor of shape (..., m, r)
    Z : torch.Tensor of shape (s, r)
    top : torch.Tensor of shape (...)
    """
    best = (a[..., None] + B @ Z.mT).amax(dim=-2).mean(dim=-1)
    return (best - top).clamp_min(math.exp(_FLOOR)).log()
