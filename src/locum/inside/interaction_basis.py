"""A basis in which layers interact stands in for raw neurons: the same for all weights that make a network do the same.

Directions that are never active, or that nothing later depends on, are dropped; the others are scaled by how much of what comes
next they move. :class:`locum.inside.InteractionGraph` draws what is left between layers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_one_of, require_whole

__all__ = ["OUTPUT", "InteractionBasis"]

OUTPUT = "output"  # what the last activation is called
_BASES = ("local", "global", "principal", "neurons")
_Array = NDArray[np.float64]


@final
class InteractionBasis(BaseEstimator):
    r"""Directions of activations that interact stand in for the neurons of each layer.

    Biases become weights on a constant 1. From the last layer back, activations f (with the constant) are centred and
    whitened, :math:`R = Y U D^{-1/2}`; then what follows says how much each direction matters:

    .. math:: M = R^+ \Big(\frac1n \sum_x \sum_i g_i g_i^\top\Big) R^{+\top} = V \Lambda V^\top, \quad C = R V \Lambda^{1/2},
        \quad \hat f = C^\top f

    with g the derivative by f of the i-th target: the next activation in its own basis ("local") or the output ("global").
    Invertible linear changes between layers, rescaled ReLUs, and weights that touch only what is never active leave f̂ as it is,
    up to signs, where no two eigenvalues are equal.

    Parameters
    ----------
    basis : {"local", "global", "principal", "neurons"}, default="local"
        "principal" takes principal components by variance, and "neurons" the activations themselves, to compare with.
    center : bool, default=True
        Whether the mean is counted to the constant. Without it the constant is a direction like others.
    sources : int or None, default=None
        Derivatives of so many random sums of targets, each with signs drawn anew, instead of one for each target.
    tol : float, default=1e-12
        Share of the largest eigenvalue below which a direction is dropped.
    device : torch.device or str, default="cpu"
    random_state : int, default=0
        Of the signs.

    Attributes
    ----------
    layers_ : tuple of str
        Those given, and "output".
    C_ : dict of str to ndarray of shape (width + 1, k)
        Columns are directions; the first is the constant's where centred or "neurons".
    inverse_ : dict of str to ndarray of shape (k, width + 1)
        Back to activations with their constant.
    lambda_ : dict of str to ndarray of shape (k,)
        Importance of each direction, falling from the first that is not the constant; variances for "principal".

    Raises
    ------
    InvalidData
        Layers that are not there or not in order, another network than a Sequential, inputs that are not finite, a layer on
        which nothing depends.
    UnsupportedModule
        A layer with a bias that is not linear.

    Notes
    -----
    Cost: a Jacobian of each step for each row, or `sources` derivatives; all in float64. Eigenvectors of matrices as wide as
    the layers.

    **Departures**: rows are independent inputs; sums over positions are not taken. The constant keeps its scale 1. The output
    is left as it is, so logits count as they are; end the network with what should count instead.

    References
    ----------
    Bushnaq and others, arXiv 2405.10927 and *The Local Interaction Basis*, arXiv 2405.10928.

    Examples
    --------
    >>> import torch
    >>> from locum.nets import seeded
    >>> with seeded(0):
    ...     net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    >>> X = np.random.default_rng(0).normal(size=(200, 3)) @ np.diag([1.0, 1.0, 0.0])
    >>> basis = InteractionBasis().fit(net, X, ["0", "2"])
    >>> {layer: C.shape for layer, C in basis.C_.items()}
    {'0': (4, 3), '2': (9, 3), 'output': (3, 3)}
    >>> bool(np.allclose(basis.outputs(X), net(torch.tensor(X, dtype=torch.float32)).detach(), atol=1e-5))
    True
    """

    papers = ("interaction-basis",)

    def __init__(
        self,
        basis: str = "local",
        *,
        center: bool = True,
        sources: int | None = None,
        tol: float = 1e-12,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.basis = basis
        self.center = center
        self.sources = sources
        self.tol = tol
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(self, net: Any, X: ArrayLike, layers: Sequence[str]) -> Self:
        """Find the basis of each layer.

        Parameters
        ----------
        net : torch.nn.Sequential
            In eval mode.
        X : array-like of shape (n, ...)
        layers : sequence of str
            Names of parts whose inputs are the layers.
        """
        from locum.inside._folded import FoldedPath

        require_one_of(_BASES, basis=self.basis)
        if self.sources is not None:
            require_whole(1, sources=self.sources)
        if not 0 <= self.tol < 1:
            raise InvalidData(f"expected tol= of at least 0 and below 1, got {self.tol!r}")
        path = FoldedPath(net, layers, self.device)
        found = path.activations(_array(X))
        widest = max(one.shape[1] for one in found[:-1])
        if len(found[0]) < widest:
            warnings.warn(
                f"{len(found[0])} rows for a layer {widest} wide with its constant: directions that no row shows are dropped",
                UserWarning,
                stacklevel=2,
            )
        self._path, self.layers_ = path, (*path.layers, OUTPUT)
        self._to: dict[str, Any] = {}
        self._back: dict[str, Any] = {}
        self.lambda_: dict[str, _Array] = {}
        signs = np.random.default_rng([self.random_state, 61])
        for i in reversed(range(len(self.layers_))):
            layer, f = self.layers_[i], found[i]
            if i == len(path.layers) or self.basis == "neurons":
                to, back, size = _plain(f.shape[1], f)
            elif self.basis == "principal":
                to, back, size = self._principal(f)
            else:
                to, back, size = self._interacting(layer, f, self._gram(i, f, signs))
            self._to[layer], self._back[layer], self.lambda_[layer] = to, back, size.cpu().numpy()
        self.lambda_ = {layer: self.lambda_[layer] for layer in self.layers_}
        self.C_ = {layer: self._to[layer].cpu().numpy() for layer in self.layers_}
        self.inverse_ = {layer: self._back[layer].cpu().numpy() for layer in self.layers_}
        return self

    def _gram(self, i: int, f: Any, signs: np.random.Generator) -> Any:
        """Mean over rows of the outer products of derivatives of the targets by an activation."""
        torch = need("torch", "an interaction basis", "nets")
        from locum.inside._folded import jacobians

        path, total = self._path, torch.zeros(f.shape[1], f.shape[1], dtype=torch.float64, device=f.device)
        to = self._to[self.layers_[i + 1]]

        def target(row: Any) -> Any:
            return path.step(i, row) @ to if self.basis == "local" else path.rest(i, row)

        if self.sources is None:
            for _, J in jacobians(target, f):
                flat = J.flatten(0, 1)
                total += flat.T @ flat
            return total / len(f)
        targets = len(target(f[0]))
        for rows in torch.arange(len(f), device=f.device).split(256):
            drawn = torch.from_numpy(signs.choice([-1.0, 1.0], size=(self.sources, targets))).to(f.device)
            for _, J in jacobians(partial(_summed, target, drawn), f[rows]):
                flat = J.flatten(0, 1)
                total += flat.T @ flat
        return total / (len(f) * self.sources)

    def _whitened(self, f: Any) -> tuple[Any, Any, Any]:
        """Directions that are active, each with variance 1, the way back, and their variances."""
        torch = need("torch", "an interaction basis", "nets")
        width = f.shape[1]
        shift = torch.eye(width, dtype=torch.float64, device=f.device)
        if self.center:
            shift[-1, :-1] = -f[:, :-1].mean(dim=0)
        unshift = 2 * torch.eye(width, dtype=torch.float64, device=f.device) - shift
        centred = f @ shift
        if self.center:
            values, vectors = _axes(centred[:, :-1], self.tol)
            U = torch.zeros(width, len(values) + 1, dtype=torch.float64, device=f.device)
            U[-1, 0], U[:-1, 1:] = 1.0, vectors
            values = torch.cat([values.new_ones(1), values])
        else:
            values, U = _axes(centred, self.tol)
        return shift @ U / values.sqrt(), values.sqrt()[:, None] * (U.T @ unshift), values

    def _principal(self, f: Any) -> tuple[Any, Any, Any]:
        R, back, values = self._whitened(f)
        return R * values.sqrt(), back / values.sqrt()[:, None], values

    def _interacting(self, layer: str, f: Any, gram: Any) -> tuple[Any, Any, Any]:
        torch = need("torch", "an interaction basis", "nets")
        R, back, _ = self._whitened(f)
        M = back @ gram @ back.T
        if self.center:
            values, vectors = _falling(M[1:, 1:], self.tol)
            V = torch.zeros(len(M), len(values) + 1, dtype=torch.float64, device=f.device)
            V[0, 0], V[1:, 1:] = 1.0, vectors
            values = torch.cat([values.new_ones(1), values])
        else:
            values, V = _falling(M, self.tol)
        if len(values) <= int(self.center):
            raise InvalidData(f"nothing that follows depends on the layer {layer!r}: no direction is left")
        return R @ V * values.sqrt(), (V / values.sqrt()).T @ back, values

    # ------------------------------------------------------------------ use
    def transform(self, layer: str, activations: ArrayLike) -> _Array:
        """Activations in the basis of their layer, shape (n, k).

        Parameters
        ----------
        layer : str
        activations : array-like of shape (n, width)
        """
        C = self.C_[self._known(layer)]
        rows = np.asarray(activations, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(C) - 1:
            raise InvalidData(f"expected activations of shape (n, {len(C) - 1}) for the layer {layer!r}, got {rows.shape}")
        return rows @ C[:-1] + C[-1]

    def activations(self, X: ArrayLike) -> dict[str, _Array]:
        """Of all layers, without the constant, by name.

        Parameters
        ----------
        X : array-like of shape (n, ...)
        """
        check_is_fitted(self, "C_")
        found = self._path.activations(_array(X))
        return {layer: f[:, :-1].cpu().numpy() for layer, f in zip(self.layers_, found, strict=True)}

    def truncate(self, layer: str, m: int) -> _Array:
        """The projection that keeps the first m directions beside the constant, shape (width + 1, width + 1).

        Parameters
        ----------
        layer : str
        m : int
            From 0 on.
        """
        require_whole(0, m=m)
        stop = m + self._constants(self._known(layer))
        return self.C_[layer][:, :stop] @ self.inverse_[layer][:stop]

    def outputs(self, X: ArrayLike, keep: Mapping[str, int] | None = None) -> _Array:
        """What the network gives where only some directions of layers go on, shape (n, outputs).

        Parameters
        ----------
        X : array-like of shape (n, ...)
        keep : dict of str to int or None, default=None
            How many directions of a layer, beside the constant.
        """
        torch = need("torch", "an interaction basis", "nets")
        check_is_fitted(self, "C_")
        kept = {layer: torch.as_tensor(self.truncate(layer, m), device=self.device) for layer, m in (keep or {}).items()}
        with torch.no_grad():
            f = self._path.enter(_array(X))
            for i, layer in enumerate(self.layers_):
                f = f @ kept[layer] if layer in kept else f
                f = self._path.step(i, f) if layer != OUTPUT else f
        return f[:, :-1].cpu().numpy()

    def _constants(self, layer: str) -> int:
        """How many directions are the constant's own: the first, or none."""
        return int(self.center or self.basis == "neurons" or layer == OUTPUT)

    def _known(self, layer: str) -> str:
        check_is_fitted(self, "C_")
        if layer not in self.C_:
            raise InvalidData(f"there is no layer {layer!r}; there is {', '.join(self.C_)}")
        return layer


def _summed(target: Callable[[Any], Any], signs: Any, row: Any) -> Any:
    return signs @ target(row)


def _array(X: Any) -> Any:
    return X if hasattr(X, "detach") else np.asarray(X, dtype=np.float64)


def _axes(rows: Any, tol: float) -> tuple[Any, Any]:
    """Eigenvalues of the mean outer product of rows, and vectors, as `_falling`; without squaring what is nearly zero."""
    torch = need("torch", "an interaction basis", "nets")
    sizes, vectors = torch.linalg.svd(torch.linalg.qr(rows, mode="r")[1], full_matrices=False)[1:]
    values = sizes**2 / len(rows)
    keep = values > max(tol * float(values[0]) if len(values) else 0.0, 0.0)
    return values[keep], vectors[keep].T


def _falling(gram: Any, tol: float) -> tuple[Any, Any]:
    """Eigenvalues from the largest down, and their vectors, those that are nearly zero left out."""
    torch = need("torch", "an interaction basis", "nets")
    values, vectors = torch.linalg.eigh((gram + gram.T) / 2)
    values, vectors = values.flip(0), vectors.flip(1)
    keep = values > max(tol * float(values[0]) if len(values) else 0.0, 0.0)
    return values[keep], vectors[:, keep]


def _plain(width: int, f: Any) -> tuple[Any, Any, Any]:
    """The activations themselves, with the constant first, and their mean squares."""
    torch = need("torch", "an interaction basis", "nets")
    order = torch.cat([torch.tensor([width - 1]), torch.arange(width - 1)]).to(f.device)
    to = torch.eye(width, dtype=torch.float64, device=f.device)[:, order]
    return to, to.T, f.square().mean(dim=0)[order]
