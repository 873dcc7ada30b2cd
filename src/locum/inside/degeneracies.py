"""How many directions of a network's weights change nothing that it does, and which of three causes explain them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, need

__all__ = ["Degeneracy", "LayerDegeneracy", "degeneracy"]

_MOST = 6000  # weights beyond which no Hessian is built


@dataclass(frozen=True)
class LayerDegeneracy:
    """Free directions of one linear layer, its bias counted as a weight on a constant input.

    Parameters
    ----------
    name : str
    inputs, outputs : int
    activation_rank, gradient_rank : int
        Of the mean outer products of inputs, and of gradients of the network's outputs by the layer's outputs.
    by_activations, by_gradients, by_either : int
        ``outputs (inputs - activation_rank)``, ``inputs (outputs - gradient_rank)``, and ``inputs outputs`` less the product of
        both ranks.
    free : int
        Counted in the layer's own block of the Hessian.
    """

    name: str
    inputs: int
    outputs: int
    activation_rank: int
    gradient_rank: int
    by_activations: int
    by_gradients: int
    by_either: int
    free: int


@dataclass(frozen=True)
class Degeneracy:
    """Free directions of a network's weights.

    Parameters
    ----------
    layers : tuple of LayerDegeneracy
    synchronised : dict of str to tuple of tuple of int
        Units of each ReLU, by its name, that are on for the same rows, in groups of two or more; units that are never on left
        out.
    weights : int
    explained : int
        Free directions that inputs, gradients and synchronised units explain, those that coincide counted once.
    nullity : int
        Free directions in all: weights less the rank of the Hessian of the squared change of the outputs.
    eigenvalues : ndarray
        Of the Hessian, rising, over the largest.
    """

    layers: tuple[LayerDegeneracy, ...]
    synchronised: dict[str, tuple[tuple[int, ...], ...]]
    weights: int
    explained: int
    nullity: int
    eigenvalues: NDArray[np.float64]

    @property
    def effective(self) -> int:
        """Weights that count."""
        return self.weights - self.nullity


def degeneracy(net: Any, X: ArrayLike, *, eps: float = 1e-10, device: Any = "cpu") -> Degeneracy:
    r"""Count the directions in which weights may move without a change of what the network does on some rows.

    Behaviour is the squared distance of outputs from what they are; its Hessian by the weights is
    :math:`H = \frac2n \sum_x J_x^\top J_x`, with J the outputs' derivatives. A linear layer is free where its inputs, or the
    gradients by its outputs, do not span their spaces; and k units of a ReLU that are on for the same rows may be mixed in
    :math:`k^2` ways, one of which is the scale of each.

    Parameters
    ----------
    net : torch.nn.Sequential
        Linear layers and ReLUs by turns, in eval mode.
    X : array-like of shape (n, inputs)
    eps : float, default=1e-10
        Share of the largest eigenvalue below which one counts as zero.
    device : torch.device or str, default="cpu"

    Raises
    ------
    InvalidData
        Other layers, more than 6,000 weights, rows that cannot be used.

    Notes
    -----
    Cost for p weights and o outputs: n o p² operations for the Hessian and about 10 p³ for its eigenvalues; three seconds for
    p = 1,500 and n = 1,800 on one core.

    **Departures**: ranks stand for the volume of the basin (its quadratic case); no learning coefficient is sampled. What
    coincides is found by projection rather than counted twice.

    References
    ----------
    Bushnaq and others, *Using Degeneracy in the Loss Landscape for Mechanistic Interpretability*, arXiv 2405.10927.

    Examples
    --------
    >>> import torch
    >>> from locum.nets import seeded
    >>> with seeded(0):
    ...     net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    >>> X = np.random.default_rng(0).normal(size=(200, 3)) @ np.diag([1.0, 1.0, 0.0])
    >>> found = degeneracy(net, X)
    >>> found.layers[0].by_activations, found.weights, found.explained <= found.nullity
    (4, 26, True)
    """
    torch = need("torch", "a network's degeneracy", "nets")
    linear, units = _parts(net)
    weights = sum(one.weight.numel() + one.out_features for _, one in linear)
    if weights > _MOST:
        raise InvalidData(f"expected at most {_MOST} weights, whose Hessian fits into memory, got {weights}")
    inputs, gradients, on = _passes(net, X, linear, device)
    blocks, start = [], 0
    hessian = torch.zeros(weights, weights, dtype=torch.float64, device=device)
    for a, g in zip(inputs, gradients, strict=True):
        blocks.append(slice(start, start + a.shape[1] * g.shape[2]))
        start = blocks[-1].stop
    for rows in torch.arange(len(inputs[0]), device=device).split(max(1, 2**25 // (weights * gradients[-1].shape[1]))):
        parts = [torch.einsum("nko,ni->nkoi", g[rows], a[rows]).flatten(2) for a, g in zip(inputs, gradients, strict=True)]
        J = torch.cat(parts, dim=2).flatten(0, 1)
        hessian += 2.0 / len(inputs[0]) * J.T @ J
    layers, null = [], []
    for (name, _), a, g, block in zip(linear, inputs, gradients, blocks, strict=True):
        values, vectors = torch.linalg.eigh(hessian[block, block])
        nothing = values <= eps * values[-1].clamp_min(1e-300)
        null.append(torch.zeros(weights, int(nothing.sum()), dtype=torch.float64, device=device))
        null[-1][block] = vectors[:, nothing]
        layers.append(_layer(name, a, g, int(nothing.sum()), eps))
    groups = _groups(on)
    mixing = _mixing(linear, units, groups, blocks, weights, device)
    known = torch.cat(null, dim=1)
    values = torch.linalg.eigvalsh(hessian)
    bent = torch.einsum("pi,pi->i", mixing, hessian @ mixing)  # a direction counts where the Hessian agrees
    mixing = mixing[:, bent <= eps * values[-1]]
    mixing = mixing - known @ (known.T @ mixing)
    explained = known.shape[1] + (_rank(mixing.T @ mixing, eps) if mixing.shape[1] else 0)
    values = (values / values[-1]).cpu().numpy()
    said = {name: tuple(one for one in found if len(one) > 1) for name, found in zip(units, groups, strict=True)}
    return Degeneracy(tuple(layers), said, weights, explained, int((values <= eps).sum()), values)


def _parts(net: Any) -> tuple[list[tuple[str, Any]], list[str]]:
    torch = need("torch", "a network's degeneracy", "nets")
    kinds = [type(one) for one in net.children()] if isinstance(net, torch.nn.Sequential) else []
    turns = [torch.nn.Linear if i % 2 == 0 else torch.nn.ReLU for i in range(len(kinds))]
    if not kinds or kinds != turns or kinds[-1] is torch.nn.ReLU:
        got = ", ".join(one.__name__ for one in kinds) or type(net).__name__
        raise InvalidData(f"expected a torch.nn.Sequential of linear layers with a ReLU between each two, got {got}")
    children = list(net.named_children())
    linear = children[::2]
    if any(one.bias is None for _, one in linear):
        raise InvalidData("expected linear layers with a bias; add one of zeros")
    return linear, [name for name, _ in children[1::2]]


def _passes(net: Any, X: ArrayLike, linear: Sequence[tuple[str, Any]], device: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Inputs of each layer with the constant, gradients of outputs by what each layer gives, and which units are on."""
    torch = need("torch", "a network's degeneracy", "nets")
    from locum.inside._folded import FoldedPath

    path = FoldedPath(net, [name for name, _ in linear], device)
    inputs = path.activations(X)[:-1]
    weights = [one.weight.detach().to(device, torch.float64) for _, one in linear]
    g = torch.eye(len(weights[-1]), dtype=torch.float64, device=device).expand(len(inputs[0]), -1, -1)
    gradients: list[Any] = [g]
    on: list[Any] = []
    for weight, after in zip(weights[:0:-1], inputs[:0:-1], strict=True):
        active = after[:, :-1] > 0
        g = (g @ weight) * active[:, None, :]
        gradients.insert(0, g)
        on.insert(0, active)
    return inputs, gradients, on


def _layer(name: str, a: Any, g: Any, free: int, eps: float) -> LayerDegeneracy:
    n, outputs = a.shape[1], g.shape[2]
    ranks = _rank(a.T @ a / len(a), eps), _rank((g.flatten(0, 1).T @ g.flatten(0, 1)) / len(a), eps)
    either = n * outputs - ranks[0] * ranks[1]
    return LayerDegeneracy(name, n, outputs, *ranks, outputs * (n - ranks[0]), n * (outputs - ranks[1]), either, free)


def _rank(gram: Any, eps: float) -> int:
    torch = need("torch", "a network's degeneracy", "nets")
    values = torch.linalg.eigvalsh(gram)
    return int((values > eps * values[-1].clamp_min(1e-300)).sum())


def _groups(on: Sequence[Any]) -> list[list[tuple[int, ...]]]:
    """Units of each ReLU that are on for the same rows; those never on left out."""
    found = []
    for active in on:
        kinds: dict[bytes, list[int]] = {}
        for unit, column in enumerate(active.T.cpu().numpy()):
            if column.any():
                kinds.setdefault(np.packbits(column).tobytes(), []).append(unit)
        found.append([tuple(one) for one in kinds.values()])
    return found


def _mixing(linear: Any, units: Any, groups: Any, blocks: Sequence[slice], weights: int, device: Any) -> Any:
    """Directions that mix synchronised units before a ReLU and undo it after, a column each."""
    torch = need("torch", "a network's degeneracy", "nets")
    columns = []
    for i in range(len(units)):
        before, after = linear[i][1], linear[i + 1][1]
        first = torch.cat([before.weight, before.bias[:, None]], dim=1).detach().to(device, torch.float64)
        second = torch.cat([after.weight, after.bias[:, None]], dim=1).detach().to(device, torch.float64)
        for group in groups[i]:
            for a in group:
                for b in group:
                    up, down = torch.zeros_like(first), torch.zeros_like(second)
                    up[a], down[:, b] = first[b], -second[:, a]
                    column = torch.zeros(weights, dtype=torch.float64, device=device)
                    column[blocks[i]], column[blocks[i + 1]] = up.flatten(), down.flatten()
                    columns.append(column / column.norm().clamp_min(1e-300))
    return torch.stack(columns, dim=1) if columns else torch.zeros(weights, 0, dtype=torch.float64, device=device)
