"""What latent states of a Koopman model tell of one another: bounds of mutual information, and the entropy of their spread."""

from __future__ import annotations

import torch

__all__ = ["entropy", "gaussian_information", "neighbour_information", "ridge_operator"]

Tensor = torch.Tensor
_FLOOR = 1e-8


def entropy(z: Tensor) -> Tensor:
    r"""Von Neumann entropy :math:`-\sum λ_j \log λ_j` of the covariance of rows (n, d), divided by its trace; in nats.

    Its exponential is how many directions the rows fill: d where all have the same variance, 1 where all lie on a line.
    """
    centred = z - z.mean(dim=0)
    covariance = centred.T @ centred / len(z)
    covariance = covariance + _FLOOR * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    shares = torch.linalg.eigvalsh(covariance / covariance.trace()).clamp(min=_FLOOR)
    return -(shares * shares.log()).sum()


def neighbour_information(z: Tensor, neighbours: int, temperature: float, *, pooled: bool) -> Tensor:
    """InfoNCE of states and those a few steps before and after, negatives being the other times of the same window.

    Parameters
    ----------
    z : Tensor of shape (windows, T, d)
    neighbours : int
        k: positives are 1, ..., k steps away; states with fewer on either side are no anchors.
    temperature : float
    pooled : bool
        Cosine similarity, and the log of the share that all positives have together; otherwise dot products, and the mean of
        the logs of the share of each, as in the paper.

    Returns
    -------
    Tensor
        Mean over anchors, at most 0; with the log of the number of candidates added it bounds the information from below.
    """
    length = z.shape[1]
    units = torch.nn.functional.normalize(z, dim=2) if pooled else z
    similar = units @ units.transpose(1, 2) / temperature
    time = torch.arange(length, device=z.device)
    away = (time[:, None] - time[None]).abs()
    similar = similar.masked_fill(away == 0, -torch.inf)[:, neighbours : length - neighbours]
    near = (away <= neighbours)[neighbours : length - neighbours] & (away > 0)[neighbours : length - neighbours]
    share = similar.log_softmax(dim=2)
    if pooled:
        return share.masked_fill(~near, -torch.inf).logsumexp(dim=2).mean()
    return share.masked_fill(~near, 0.0).sum(dim=2).mean() / (2 * neighbours)


def gaussian_information(z: Tensor, after: Tensor, operator: Tensor, lag: int = 1) -> Tensor:
    r"""Mutual information of states and those `lag` steps later, were both Gaussian, in nats.

    .. math:: I = \tfrac12 \log\det(M + K^n C K^{n\top}) - \tfrac12 \log\det M, \quad M = \sum_{i<n} K^i Σ K^{i\top}

    Parameters
    ----------
    z, after : Tensor of shape (n, d)
        States, and those one step later.
    operator : Tensor of shape (d, d)
        K, from the left: ``after ≈ z @ K.T``.
    lag : int, default=1
    """
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)

    def spread(rows: Tensor) -> Tensor:
        centred = rows - rows.mean(dim=0)
        return centred.T @ centred / len(rows)

    signal = spread(z)
    floor = _FLOOR * signal.trace() + torch.finfo(z.dtype).tiny
    noise = spread(after - z @ operator.T) + floor * eye
    total, power = noise, operator
    for _ in range(lag - 1):
        total = total + power @ noise @ power.T
        power = power @ operator
    return 0.5 * (torch.linalg.slogdet(total + power @ signal @ power.T)[1] - torch.linalg.slogdet(total)[1])


def ridge_operator(before: Tensor, after: Tensor, ridge: float) -> Tensor:
    """The map of least squares ``after ≈ before @ W`` with a penalty, relative to the number of rows, shape (features, d)."""
    gram = before.T @ before / len(before)
    eye = torch.eye(len(gram), dtype=before.dtype, device=before.device)
    return torch.linalg.solve(gram + ridge * eye, before.T @ after / len(before))
