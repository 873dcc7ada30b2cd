"""Levels that are each an unknown function of the design and of the level below."""

from __future__ import annotations

from typing import Any

import torch

from locum.optimize._mfbo_models import (
    CORRELATIONS,
    LEARNT_NOISE,
    LEAST_NOISE,
    MEAN,
    REST,
    WHOLE,
    Joint,
    Layout,
    Moments,
    apart,
    lengths_prior,
    likelihood,
    mode,
    traced,
)  # fmt: skip
from locum.optimize._process import root_of

__all__ = ["Composed", "composed_settings"]


def composed_settings(rows: Any, values: Any, noise: float | None) -> dict[str, Any]:
    """Settings of a process g(x, f) with the kernel k(x, x') k(f, f') + k(x, x').

    Parameters
    ----------
    rows : torch.Tensor of shape (n, d + 1)
        The value of the level below stands last.
    values : torch.Tensor of shape (n,)
    noise : float or None
        Learnt where None.
    """
    d = rows.shape[1] - 1
    layout = Layout({
        "lengths": ((d,), *lengths_prior(d)), "below": ((1,), 0.0, 1.0), "variance": ((1,), *WHOLE),
        "own": ((d,), *lengths_prior(d)), "rest": ((1,), *REST), "mean": ((1,), *MEAN),
        "noise": ((int(noise is None),), *LEARNT_NOISE),
    })  # fmt: skip

    def density(at: dict[str, Any]) -> Any:
        more = at["noise"].exp() if noise is None else noise
        unit = torch.eye(len(rows), dtype=rows.dtype)
        return likelihood(_composed(rows, rows, at) + (more + LEAST_NOISE) * unit, values - at["mean"])

    starts = [layout.start(lengths=a, own=b) for a in (0.0, 2.0) for b in (-1.0, 1.0)]
    found = {name: torch.as_tensor(part) for name, part in mode(traced(density), layout, starts).items()}
    return found | {"noise": found["noise"].exp() if noise is None else torch.tensor([noise])}


def _composed(A: Any, B: Any, parts: dict[str, Any]) -> Any:
    below = apart(A[..., -1:], B[..., -1:], parts["below"].exp())
    both = CORRELATIONS["rbf"](apart(A[..., :-1], B[..., :-1], parts["lengths"].exp()) + below)
    own = CORRELATIONS["rbf"](apart(A[..., :-1], B[..., :-1], parts["own"].exp()))
    return parts["variance"].exp() * both + parts["rest"].exp() * own


class Composed:
    """Moments of levels that are each a function of the design and of the level below, by draws through all of them.

    Parameters
    ----------
    first : Joint
        Of level 0 alone.
    normals : torch.Tensor of shape (s, L)
    centres, spreads : torch.Tensor of shape (L,)
    """

    def __init__(self, first: Joint, normals: Any, centres: Any, spreads: Any) -> None:
        self.first, self.normals, self.centres, self.spreads = first, normals, centres, spreads
        self._levels: list[tuple[Any, Any, Any, dict[str, Any]]] = []

    def add(self, rows: Any, values: Any, parts: dict[str, Any]) -> None:
        """One more level: rows (x, value of the level below), standardised values, and settings."""
        unit = torch.eye(len(rows), dtype=rows.dtype)
        root = root_of(_composed(rows, rows, parts) + (parts["noise"] + LEAST_NOISE) * unit)
        self._levels.append((rows, root, torch.cholesky_solve((values - parts["mean"])[:, None], root)[:, 0], parts))

    def standardised(self, X: Any) -> Moments:
        """Of the levels that there are so far, in their own units."""
        first = self.first(X)
        mean, variance, S = first.mean[:, 0], first.variance[:, 0], len(self.normals)
        means, draws = [mean.expand(S, -1)], [mean + variance.sqrt() * self.normals[:, :1]]
        variances = [variance.expand(S, -1)]
        for k, (rows, root, held, parts) in enumerate(self._levels, 1):
            at = torch.cat([X.expand(S, -1, -1), draws[-1][..., None]], dim=-1).reshape(S * len(X), -1)
            cross = _composed(at, rows, parts)
            white = torch.linalg.solve_triangular(root, cross.mT, upper=False)
            prior = parts["variance"].exp() + parts["rest"].exp()
            means.append((parts["mean"] + cross @ held).reshape(S, -1))
            variances.append((prior - (white**2).sum(dim=0)).clamp_min(1e-12).reshape(S, -1))
            draws.append(means[-1] + variances[-1].sqrt() * self.normals[:, k : k + 1])
        center = torch.stack([one.mean(dim=0) for one in means], dim=-1)
        spread = torch.stack(draws, dim=-1) - center  # draws of a level, with the means of those above
        above = torch.stack(means, dim=-1) - center
        whole = torch.einsum("sbi,sbj->bij", spread, above) / S
        upper = whole.triu(1)
        own = above.square().mean(dim=0) + torch.stack([one.mean(dim=0) for one in variances], dim=-1)
        return Moments(center, upper + upper.mT + torch.diag_embed(own))

    def __call__(self, X: Any) -> Moments:
        found = self.standardised(X)
        return Moments(
            found.mean * self.spreads + self.centres, found.covariance * self.spreads[:, None] * self.spreads
        )  # fmt: skip
