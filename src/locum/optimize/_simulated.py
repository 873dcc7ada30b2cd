"""The knowledge gradient by simulation: inner maxima found, held, and differentiated around."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from locum.optimize._process import Process, Update, root_of
from locum.optimize.acquisition import Known

__all__ = ["climbed", "simulated_gain"]

_FIRST, _GROW, _SHRINK = 0.05, 1.2, 0.5  # of the side of the unit cube; and how a step changes where its slope keeps its sign


def simulated_gain(process: Process, known: Known, Z: Any, steps: int) -> Callable[[Any], Any]:
    """Rows of shape (b, 1, width) to the logarithm of the gain, shape (b,).

    Parameters
    ----------
    process : Process
    known : Known
    Z : torch.Tensor of shape (s, o)
    steps : int
        Of each inner maximum.
    """
    decisions = torch.cat([known.candidates, known.rows])
    update = Update(process, known.aim, decisions)
    now = decisions[update.mean.argmax()][None, None]
    now = climbed(lambda A: process.goal_mean(known.aim, A), now, steps, known.free)
    top = process.goal_mean(known.aim, now).detach().max()

    def value(X: Any) -> Any:
        fixed = X.detach()
        with torch.no_grad():
            B, _ = update.at(fixed)  # (b, m, o)
            first = (update.mean[None, :, None] + B @ Z.mT).argmax(dim=1)  # (b, s)
        best = climbed(lambda A: _after(process, known, A, fixed, Z), decisions[first], steps, known.free)
        return (_after(process, known, best, X, Z).mean(dim=-1) - top).clamp_min(1e-300).log()

    return value


def _after(process: Process, known: Known, A: Any, X: Any, Z: Any) -> Any:
    """Mean of the goal at A, shape (b, s, width), after what z says was seen at X, shape (b, 1, width): shape (b, s)."""
    aim, (b, s, d) = known.aim, A.shape
    k, o = len(aim.weights), process.numbers
    rows = aim.expand(A).reshape(b, s * k, d)
    own = process.of_seen(X.reshape(b, d)).reshape(-1, b, o)
    white = process.of_values(rows.reshape(-1, d)).reshape(-1, b, s * k)
    cross = process.value_seen(rows, X) - torch.einsum("nba,nbo->bao", white, own)
    cross = aim.mean(cross.reshape(b, s, k, o).mT)  # (b, s, o)
    spread = process.seen_seen(X, X) - torch.einsum("nbi,nbj->bij", own, own) + process.fresh.diag()
    root = root_of(spread)
    change = torch.linalg.solve_triangular(root, cross.mT, upper=False)  # (b, o, s)
    return process.goal_mean(aim, A) + torch.einsum("bos,so->bs", change, Z)


def climbed(height: Callable[[Any], Any], start: Any, steps: int, free: Any = None) -> Any:
    """Uphill from each point of shape (b, s, width) by the signs of its slope, each coordinate with a step of its own."""
    at, step, last = start.detach().clone(), torch.full_like(start, _FIRST), torch.zeros_like(start)
    free = torch.ones(start.shape[-1], dtype=start.dtype) if free is None else free
    best, top = at, None
    with torch.enable_grad():
        for _ in range(steps + 1):
            at = at.detach().requires_grad_()
            value = height(at)
            (slope,) = torch.autograd.grad(value.sum(), at)
            with torch.no_grad():
                better = value > top if top is not None else torch.ones_like(value, dtype=torch.bool)
                best = torch.where(better[..., None], at, best)
                top = value if top is None else torch.maximum(value, top)
                turned = slope.sign() * last
                step = torch.where(turned < 0, step * _SHRINK, torch.where(turned > 0, step * _GROW, step)).clamp_max(_FIRST)
                last = slope.sign()
                at = (at + free * step * last).clamp(0, 1)
    return best.detach()
