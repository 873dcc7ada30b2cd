"""What of one layer moves what of the next, drawn as a graph, with the least of it that keeps a network as good."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_one_of, require_whole
from locum.inside.interaction_basis import OUTPUT, InteractionBasis

__all__ = ["InteractionGraph", "Modules"]

_METHODS = ("gradient", "integrated")
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Modules:
    """Groups of directions that interact among themselves.

    Parameters
    ----------
    labels : dict of str to ndarray of int
        Module of each direction of a layer, the constant left out; -1 for those without an interaction.
    modularity : float
    permuted : tuple of float
        Modularity found in the same way in graphs whose weights were shuffled within each pair of layers.
    """

    labels: dict[str, NDArray[np.int64]]
    modularity: float
    permuted: tuple[float, ...]


@final
class InteractionGraph(BaseEstimator):
    r"""Interactions between directions of neighbouring layers stand in for the layers between them.

    .. math:: E_{ij} = \frac1n \sum_x \Big(\int_0^1 \frac{\partial \hat f_i^{l+1}(\alpha \hat f^l)}{\partial \hat f_j^l}
        \hat f_j^l\, d\alpha\Big)^2

    With biases folded in and ReLUs between, steps are homogeneous: the derivative at the activation itself is that all along
    the way, and the terms of a target add up to it.

    Parameters
    ----------
    basis : InteractionBasis
        Fitted.
    method : {"gradient", "integrated"}, default="gradient"
        The derivative at the activation, or its integral from 0 by the rule of Gauss and Legendre.
    points : int, default=8
        Of the rule.

    Attributes
    ----------
    edges_ : dict of str to ndarray of shape (directions of the next layer, directions of the layer)
        By the name of the layer from which they lead.

    Raises
    ------
    InvalidData
        A basis that is not fitted, another method, labels that do not fit.

    Notes
    -----
    Cost: a Jacobian for each row and step, `points` of them where integrated. A count of edges needed takes about ten passes
    over the Jacobians of one step.

    **Departures**: modules by Louvain's method as networkx has it, where the paper takes Leiden's; directions are ablated and
    edges cut at one layer at a time.

    References
    ----------
    Bushnaq and others, *The Local Interaction Basis*, arXiv 2405.10928.

    Examples
    --------
    >>> import torch
    >>> from locum.nets import seeded
    >>> with seeded(0):
    ...     net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> graph = InteractionGraph(InteractionBasis().fit(net, X, ["0", "2"])).fit(X)
    >>> {layer: edges.shape for layer, edges in graph.edges_.items()}
    {'0': (3, 4), '2': (3, 3)}
    """

    papers = ("interaction-basis",)

    def __init__(self, basis: InteractionBasis, method: str = "gradient", *, points: int = 8) -> None:
        self.basis = basis
        self.method = method
        self.points = points

    def fit(self, X: ArrayLike) -> Self:
        """Measure all edges.

        Parameters
        ----------
        X : array-like of shape (n, ...)
        """
        require_one_of(_METHODS, method=self.method)
        require_whole(1, points=self.points)
        check_is_fitted(self.basis, "C_")
        found = self.basis.activations(X)
        self.edges_: dict[str, _Array] = {}
        for i, layer in enumerate(self.basis.layers_[:-1]):
            rows = self._rows(found[layer], i)
            total: Any = 0.0
            for _, terms in self._terms(i, rows):
                total = total + terms.square().sum(dim=0)
            self.edges_[layer] = (total / len(rows)).cpu().numpy()
        return self

    def _rows(self, activations: _Array, i: int) -> Any:
        """Activations in their basis, on the device."""
        torch = need("torch", "an interaction graph", "nets")
        told = self.basis.transform(self.basis.layers_[i], activations)
        return torch.as_tensor(told, dtype=torch.float64, device=self.basis.device)

    def _terms(self, i: int, rows: Any) -> Any:
        """What each direction of a layer gives to each of the next, shape (rows, next, directions), piece by piece."""
        torch = need("torch", "an interaction graph", "nets")
        from locum.inside._folded import jacobians

        path, back = self.basis._path, self.basis._back[self.basis.layers_[i]]
        to = self.basis._to[self.basis.layers_[i + 1]]
        at, weight = np.polynomial.legendre.leggauss(self.points)
        rule = [(1.0, 1.0)] if self.method == "gradient" else list(zip((at + 1) / 2, weight / 2, strict=True))

        def step(row: Any) -> Any:
            total: Any = 0.0
            for alpha, share in rule:  # the integrand's derivative by a scaled copy is the derivative at that place
                total = total + share / alpha * (path.step(i, alpha * row @ back) @ to)
            return total

        with torch.no_grad():
            for piece, J in jacobians(step, rows):
                yield piece, J * rows[piece][:, None, :]

    # ------------------------------------------------------------------ how little is enough
    def edges_needed(self, X: ArrayLike, y: ArrayLike, *, drop: float = 0.001) -> dict[str, int]:
        """The fewest largest edges from each layer with which accuracy falls by no more than `drop`, found by bisection.

        Cut edges give nothing; the others give what they give in the whole network.

        Parameters
        ----------
        X : array-like of shape (n, ...)
        y : array-like of int, shape (n,)
            Classes.
        drop : float, default=0.001
        """
        check_is_fitted(self, "edges_")
        labels = _labels(y, len(np.asarray(X)))
        found = self.basis.activations(X)
        base = float((found[OUTPUT].argmax(axis=1) == labels).mean())
        needed = {}
        for i, layer in enumerate(self.basis.layers_[:-1]):
            order = np.argsort(-self.edges_[layer], axis=None, kind="stable")
            terms = list(self._terms(i, self._rows(found[layer], i)))

            def good(m: int, i: int = i, order: Any = order, terms: Any = terms) -> bool:
                mask = np.zeros(self.edges_[self.basis.layers_[i]].shape)
                mask.flat[order[:m]] = 1.0
                return self._accuracy(i, terms, mask, labels) >= base - drop

            needed[layer] = _least(good, int((self.edges_[layer] > 0).sum()))
        return needed

    def _accuracy(self, i: int, terms: Any, mask: _Array, labels: Any) -> float:
        torch = need("torch", "an interaction graph", "nets")
        cut, back = torch.as_tensor(mask, device=self.basis.device), self.basis._back[self.basis.layers_[i + 1]]
        right = 0
        with torch.no_grad():
            for piece, each in terms:
                f = torch.einsum("nij,ij->ni", each, cut) @ back
                said = f[:, :-1] if i + 2 == len(self.basis.layers_) else self.basis._path.rest(i + 1, f)
                right += int((said.argmax(dim=1).cpu().numpy() == labels[piece]).sum())
        return right / len(labels)

    def nodes_needed(self, X: ArrayLike, y: ArrayLike, *, drop: float = 0.001) -> dict[str, int]:
        """The fewest first directions of each layer with which accuracy falls by no more than `drop`, found by bisection.

        Parameters
        ----------
        X : array-like of shape (n, ...)
        y : array-like of int, shape (n,)
            Classes.
        drop : float, default=0.001
        """
        labels = _labels(y, len(np.asarray(X)))
        base = float((self.basis.outputs(X).argmax(axis=1) == labels).mean())
        needed = {}
        for layer in self.basis.layers_[:-1]:

            def good(m: int, layer: str = layer) -> bool:
                said = self.basis.outputs(X, {layer: m}).argmax(axis=1)
                return float((said == labels).mean()) >= base - drop

            needed[layer] = _least(good, self.basis.C_[layer].shape[1] - self.basis._constants(layer))
        return needed

    # ------------------------------------------------------------------ modules
    def modules(
        self,
        eps: float | Mapping[str, float] | Mapping[str, int],
        *,
        gamma: float = 1.0,
        permutations: int = 0,
        random_state: int = 0,
    ) -> Modules:
        """Groups with more between their members than chance would give, by Louvain's method, the best of ten runs.

        Weights are ``max(0, log10(E / eps))``. Those that come of it depend on `eps`: try several, and look at graphs whose
        weights are shuffled.

        Parameters
        ----------
        eps : float, or dict of str to float or to int
            Edges up to it count for nothing. By layer where a dict: such a size, or, as a whole number, how many edges are to
            count, as :meth:`edges_needed` gives them.
        gamma : float, default=1.0
            Resolution; more gives smaller modules.
        permutations : int, default=0
            Shuffled graphs.
        random_state : int, default=0
        """
        networkx = need("networkx", "modules of a graph", "nets")
        check_is_fitted(self, "edges_")
        told = {layer: float(eps) if isinstance(eps, int | float) else eps[layer] for layer in self.edges_}
        weights = {layer: self._weights(layer, after, told[layer]) for layer, after in pairwise(self.basis.layers_)}
        if not any(one.any() for one in weights.values()):
            raise InvalidData(f"expected eps= below some of the edges, got {eps!r}: no edge is left")
        labels, best = self._communities(networkx, weights, gamma, random_state)
        rng, shuffled = np.random.default_rng([random_state, 67]), []
        for i in range(permutations):
            other = {layer: rng.permuted(one.ravel()).reshape(one.shape) for layer, one in weights.items()}
            shuffled.append(self._communities(networkx, other, gamma, random_state + i)[1])
        return Modules(labels, best, tuple(shuffled))

    def _weights(self, layer: str, after: str, eps: float | int) -> _Array:
        """Of edges between directions that are not the constant's."""
        edges = self.edges_[layer]
        if isinstance(eps, int):
            ranked = np.sort(edges, axis=None)[::-1]
            eps = float(ranked[eps]) if 0 < eps < len(ranked) else 0.0
        if not eps >= 0:
            raise InvalidData(f"expected eps= of at least 0, got {eps!r}")
        inner = edges[self.basis._constants(after) :, self.basis._constants(layer) :]
        floor = max(eps, 1e-300)
        return np.maximum(0.0, np.log10(np.maximum(inner, 1e-300) / floor)) * (inner > 0)

    def _communities(self, networkx: Any, weights: Mapping[str, _Array], gamma: float, seed: int) -> tuple[Any, float]:
        graph, layers = networkx.Graph(), self.basis.layers_
        for layer, after in pairwise(layers):
            for i, j in zip(*np.nonzero(weights[layer]), strict=True):
                graph.add_edge((layer, int(j)), (after, int(i)), weight=float(weights[layer][i, j]))
        best: Any = []
        score = -math.inf
        for run in range(10):
            found = networkx.community.louvain_communities(graph, resolution=gamma, seed=seed + run)
            value = networkx.community.modularity(graph, found, resolution=gamma)
            best, score = (found, value) if value > score else (best, score)
        sizes = {layer: self.basis.C_[layer].shape[1] - self.basis._constants(layer) for layer in layers}
        labels = {layer: np.full(size, -1, dtype=np.int64) for layer, size in sizes.items()}
        for number, members in enumerate(sorted(best, key=len, reverse=True)):
            for layer, i in members:
                labels[layer][i] = number
        return labels, float(score)


def _labels(y: ArrayLike, n: int) -> NDArray[np.int64]:
    labels = np.asarray(y)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise InvalidData(f"expected {n} classes as whole numbers, got {labels.dtype} of shape {labels.shape}")
    return labels.astype(np.int64)


def _least(good: Callable[[int], bool], most: int) -> int:
    """The least number that is good, where more is never worse; the most where none below is."""
    low, high = -1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return high
