"""Semi-non-negative factorisation on tensors: one pass over the rows an iteration, and the loss from its products."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from locum.inside._codes import gather_sum
from locum.inside.rows import ActivationRows

__all__ = ["Chunks", "Iterates", "factorise", "fine_tune", "keep_largest", "nonnegative", "start"]

Tensor = torch.Tensor

FLOOR = 1e-12  # an entry of 0 would stay 0 under multiplicative updates
_START = 1e-6
_RIDGE = 1e-6
_CHUNK = 8192  # rows
_RESIDENT = 2 * 2**30  # bytes of rows that are kept in memory
_CLUSTERED = 50_000  # rows that centres are found on
_SPARSE = 0.05  # share of entries up to which a product by gathering is the faster one


class Chunks:
    """Rows by the thousand, transposed to shape (width, rows of the chunk); in memory where they fit, else read at each pass.

    Parameters
    ----------
    rows : ActivationRows or ndarray of shape (n, width)
        Of a store, the training part.
    device : torch.device
    """

    def __init__(self, rows: Any, device: Any) -> None:
        self.rows, self.device = rows, device
        self.n: int = rows.count("train") if isinstance(rows, ActivationRows) else len(rows)
        self.width: int = rows.width if isinstance(rows, ActivationRows) else rows.shape[1]
        self._kept = list(self._read()) if 4 * self.n * self.width <= _RESIDENT else None

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._kept) if self._kept is not None else self._read()

    def spans(self) -> Iterator[tuple[slice, Tensor]]:
        """Places of the rows of each chunk, and the chunk."""
        at = 0
        for X in self:
            yield slice(at, at + X.shape[1]), X
            at += X.shape[1]

    def _read(self) -> Iterator[Tensor]:
        if not isinstance(self.rows, ActivationRows):
            for at in range(0, self.n, _CHUNK):
                yield self._moved(self.rows[at : at + _CHUNK])
            return
        for _, part in self.rows.chunks(_CHUNK):
            yield self._moved(part)

    def _moved(self, rows: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows.T)).to(self.device)


@dataclass
class Iterates:
    """The components with the least loss, and the loss of each iteration, relative to the squares of the rows."""

    components: Tensor
    loss: list[float] = field(default_factory=list)
    converged: bool = False


def keep_largest(components: Tensor, keep: float) -> Tensor:
    """Winner take all: the share `keep` of the entries of each row that are largest in size, the others 0."""
    few = math.ceil(keep * components.shape[1])
    if few >= components.shape[1]:
        return components
    at = components.abs().topk(few, dim=1, sorted=False).indices
    return torch.zeros_like(components).scatter_(1, at, components.gather(1, at))


def factorise(
    chunks: Chunks, Y: Tensor, keep: float, solver: str, sweeps: int, max_iter: int, tol: float, patience: int,
    progress: Callable[[int, int, str], None] | None,
) -> Iterates:  # fmt: skip
    """Alternate between components in closed form, their largest entries, and coefficients, from coefficients (K, n) on.

    The products of coefficients with rows and with themselves, that the next components need, are summed up while the
    coefficients are updated. They give the loss as well, so the residual is never formed and each chunk is read once.
    """
    squares = sum(float(torch.linalg.vector_norm(X, dtype=torch.float64)) ** 2 for X in chunks)
    seen, inner = _products(chunks, Y)
    best, reference, waited = math.inf, math.inf, 0
    out = Iterates(seen)
    for step in range(max_iter):
        lengths = inner.diagonal().sqrt().clamp(min=1e-20)
        C = keep_largest(_closed_form(seen / lengths[:, None], inner / lengths / lengths[:, None]), keep)
        Q, product = C @ C.T, _multiplier(C, keep)
        seen, inner = torch.zeros_like(seen), torch.zeros_like(inner)
        for at, X in chunks.spans():
            part = Y[:, at] / lengths[:, None]
            P = product(X)
            part = _multiplied(part, P, Q) if solver == "multiplicative" else _swept(part, P, Q, sweeps, FLOOR)
            Y[:, at] = part
            seen += part @ X.T
            inner += part @ part.T
        loss = _loss(squares, seen, inner, C, Q)
        out.loss.append(loss)
        if loss < best:
            best, out.components = loss, C
        if loss < reference * (1.0 - tol):
            reference, waited = loss, 0
        else:
            waited += 1
        if progress is not None:
            progress(step + 1, max_iter, f"loss {loss:.4f}")
        if waited >= patience:
            out.converged = True
            break
    return out


def _products(chunks: Chunks, Y: Tensor) -> tuple[Tensor, Tensor]:
    seen = Y.new_zeros(len(Y), chunks.width)
    for at, X in chunks.spans():
        seen += Y[:, at] @ X.T
    return seen, Y @ Y.T


def _closed_form(seen: Tensor, inner: Tensor) -> Tensor:
    """Components of least squares for coefficients of length 1, by their products with rows and with one another."""
    ridged = inner.double()
    ridged.diagonal().add_(_RIDGE)
    return torch.linalg.solve(ridged, seen.double()).to(seen.dtype)


def _multiplier(C: Tensor, keep: float) -> Callable[[Tensor], Tensor]:
    """The product with components, which costs what is not 0 where few entries are."""
    if keep > _SPARSE or C.device.type != "cpu":
        return lambda X: C @ X
    few = math.ceil(keep * C.shape[1])
    at = C.abs().topk(few, dim=1, sorted=False).indices
    value, index = C.gather(1, at).reshape(-1), at.reshape(-1)
    ends = torch.arange(0, len(index) + 1, few)
    return lambda X: gather_sum(ends, index, value, X)


def _multiplied(Y: Tensor, P: Tensor, Q: Tensor) -> Tensor:
    """One multiplicative update of coefficients (K, n), with P = C X' and Q = C C'."""
    above = P.clamp(min=0).addmm_((-Q).clamp(min=0), Y)
    below = (-P).clamp_(min=0).addmm_(Q.clamp(min=0), Y).add_(_RIDGE)
    return above.div_(below).sqrt_().mul_(Y).clamp_(min=FLOOR)


def _swept(Y: Tensor, P: Tensor, Q: Tensor, sweeps: int, least: float) -> Tensor:
    """Sweeps of exact minimisation over one row of coefficients (K, n) at a time."""
    scale = Q.diagonal().clamp(min=1e-20).tolist()
    for _ in range(sweeps):
        for k, q in enumerate(scale):
            Y[k].add_(torch.addmv(P[k], Y.T, Q[k], alpha=-1.0), alpha=1.0 / q).clamp_(min=least)
    return Y


def _loss(squares: float, seen: Tensor, inner: Tensor, C: Tensor, Q: Tensor) -> float:
    """Squared error relative to the squares of the rows, from products alone."""
    left = squares - 2.0 * float((seen.double() * C.double()).sum()) + float((inner.double() * Q.double()).sum())
    return max(left, 0.0) / squares


# ---------------------------------------------------------------------- beginnings
def start(chunks: Chunks, k: int, init: str, random_state: int) -> Tensor:
    """Coefficients (k, n) to begin with; the components follow from them in closed form."""
    if init == "random":
        drawn = np.random.default_rng([random_state, 11]).random((chunks.n, k), dtype=np.float32)
        return torch.from_numpy(np.ascontiguousarray(drawn.T)).to(chunks.device).clamp_(min=_START)
    Y = torch.zeros(k, chunks.n, device=chunks.device)
    if init == "k-means":
        centres = _centres(chunks, k, random_state)
        half = centres.square().sum(dim=1, keepdim=True) / 2
        for at, X in chunks.spans():
            Y[:, at].scatter_(0, (half - centres @ X).argmin(dim=0, keepdim=True), 1.0)
        return Y.clamp_(min=_START)
    gram = torch.zeros(chunks.width, chunks.width, dtype=torch.float64, device=chunks.device)
    for X in chunks:
        gram += (X @ X.T).double()
    values, axes = torch.linalg.eigh(gram)
    size = values[-k:].flip(0).clamp(min=1e-20).pow(0.25).float()  # the root of a singular value
    axes = axes[:, -k:].flip(1).float()
    for at, X in chunks.spans():
        Y[:, at] = (axes.T @ X) / size[:, None]
    turned = Y.clamp(max=0).square().sum(dim=1) > Y.clamp(min=0).square().sum(dim=1)  # an axis has no sign of its own
    Y[turned] *= -1.0
    return Y.clamp_(min=_START)


def _centres(chunks: Chunks, k: int, random_state: int) -> Tensor:
    rng = np.random.default_rng([random_state, 12])
    share = min(1.0, _CLUSTERED / chunks.n)
    part = []
    for X in chunks:
        take = max(1, round(share * X.shape[1]))
        part.append(X[:, torch.from_numpy(rng.permutation(X.shape[1])[:take]).to(X.device)].T.cpu().numpy())
    model = KMeans(k, init="random", n_init=1, max_iter=15, random_state=int(rng.integers(2**31)))
    return torch.from_numpy(model.fit(np.concatenate(part)).cluster_centers_).to(chunks.device)


# ---------------------------------------------------------------------- new rows
def nonnegative(X: Tensor, C: Tensor, tol: float, most: int) -> Tensor:
    """Coefficients (K, n) of least squares on fixed components of length 1, none negative, of rows (width, n).

    Coordinate descent, for each row until no coefficient moves by more than `tol` of its largest; smaller ones are 0.
    """
    Q, P = C @ C.T, C @ X
    Y, left, part = torch.zeros_like(P), torch.arange(P.shape[1], device=P.device), torch.zeros_like(P)
    for sweep in range(most):
        before = part.clone()
        part = _swept(part, P, Q, 1, 0.0)
        moving = (part - before).abs().amax(dim=0) > tol * part.amax(dim=0)
        if sweep == most - 1 or int(moving.sum()) <= 0.8 * len(left):
            done = ~moving if sweep < most - 1 else torch.ones_like(moving)
            Y[:, left[done]] = part[:, done]
            part, P, left = part[:, ~done].contiguous(), P[:, ~done].contiguous(), left[~done]
            if not len(left):
                break
    return Y.masked_fill_(tol * Y.amax(dim=0) >= Y, 0.0)


def fine_tune(
    X: Tensor, weights: Sequence[Tensor], last: Tensor, steps: int, learning_rate: float
) -> tuple[list[Tensor], Tensor, list[float]]:
    """All weights of a hierarchy and its last components together, by Adam; weights stay at 0 or above, zeros of `last` stay 0.

    X has shape (n, width). Gives weights, components, and the loss of each step relative to the squares of the rows.
    """
    mask = last != 0
    W = [one.clone().requires_grad_() for one in weights]
    H = last.clone().requires_grad_()
    optimizer = torch.optim.Adam([*W, H], lr=learning_rate)
    squares, path = float(X.square().mean()), []
    for _ in range(steps):
        optimizer.zero_grad()
        said = W[0]
        for one in W[1:]:
            said = said @ one
        loss = (said @ H - X).square().mean()
        loss.backward()
        path.append(loss.item() / squares)
        optimizer.step()
        with torch.no_grad():
            H.mul_(mask)
            for one in W:
                one.clamp_(min=0.0)
    return [one.detach() for one in W], H.detach(), path
