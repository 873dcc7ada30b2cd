"""Sparse groups of neurons, summed with non-negative weights, stand in for the hidden activations of an MLP.

A layer's activations over many tokens are factored: each component is a few neurons of any sign, and each token is a
non-negative mixture of components. A component comes with the tokens that excite it and with a direction to steer by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import FormatError, InvalidData, need, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.measures import reconstruction_fidelity
from locum.inside.rows import ActivationRows, finite_rows
from locum.inside.store import SiteRows

__all__ = ["Excerpt", "SemiNMF"]

_FLOATS = NDArray[np.float32]
_INITS = ("random", "k-means", "svd")
_SOLVERS = ("multiplicative", "coordinate")
_FORMAT = 1
_JSON, _TENSORS = "semi_nmf.json", "semi_nmf.safetensors"
_BATCH = 8192  # new rows at a time
_EXACT, _MOST_SWEEPS = 3e-5, 1000  # when non-negative least squares is done


@dataclass(frozen=True)
class Excerpt:
    """A token that excites a component, with what stands around it.

    Attributes
    ----------
    value : float
        The coefficient.
    document, position : int
    before, token, after : list of int, int, list of int
        What precedes, the token, what follows; texts where a tokenizer was given.
    """

    value: float
    document: int
    position: int
    before: Any
    token: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.value:8.3f}  {self.before}[{self.token}]{self.after}"


@final
class SemiNMF(BaseEstimator):
    r"""Sparse groups of neurons with non-negative token weights stand in for the hidden activations of an MLP.

    Rows x of activations, whatever their sign, are approximated by sums of components with weights that are not negative. Each
    iteration takes the components of least squares, keeps the largest entries of each, and updates the weights:

    .. math:: C = (Y^T Y + 10^{-6} I)^{-1} Y^T X, \quad C \leftarrow \mathrm{largest}(C), \quad
              Y \leftarrow Y \sqrt{\frac{[X C^T]_+ + Y [C C^T]_-}{[X C^T]_- + Y [C C^T]_+}}

    with columns of Y scaled to length 1 before each. Without sparsity the squared error never rises; with it, it may, so the
    components with the least error are kept.

    Parameters
    ----------
    n_components : int, default=100
    keep : float, default=0.01
        Share of the neurons in each component, above 0 and at most 1.
    init : {"random", "k-means", "svd"}, default="random"
        Weights to begin with: uniform; nearest of `n_components` centres; or the positive parts of singular vectors.
    solver : {"multiplicative", "coordinate"}, default="multiplicative"
        The published update of weights, or `sweeps` of coordinate descent, which need far fewer iterations.
    sweeps : int, default=2
        For "coordinate".
    max_iter : int, default=4000
    patience : int, default=300
        Iterations without a better error after which the fit ends.
    tol : float, default=1e-6
        By what share an error must be lower to be better.
    device : str or torch.device, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    components_ : ndarray of shape (n_components, width)
        Of length 1.
    mean_ : ndarray of shape (width,)
        Of the rows that fitted; what is left unexplained is measured against it.
    loss_curve_ : ndarray of shape (n_iter_,)
        Squared error after each iteration, relative to the squares of the rows.
    converged_ : bool
        Whether the fit ended by itself; where not, ask for more iterations.
    n_iter_, n_features_in_ : int

    Raises
    ------
    InvalidData
        More components than rows or neurons, rows that are not finite or all 0, settings that cannot be used.

    Notes
    -----
    Cost for n rows of width m and p components, an iteration: one product of 2 n m p operations, 2 n p m keep for the sparse
    one, and 4 n p² for the weights; the error comes from products that are there, where the residual would take 2 n m p more.
    One core, n = 6,000, m = 1,536, p = 100: 0.07 s. Memory: n p numbers beside the rows; rows beyond 2 GiB are read from
    the store again in each iteration.

    **Departures**: weights of rows, also of those that fitted, are found by exact non-negative least squares; components have
    length 1; weights are scaled before the components are found rather than after, so that the ridge means the same for each.

    References
    ----------
    Shafran, Geiger and Geva, *Decomposing MLP Activations into Interpretable Features via Semi-Nonnegative Matrix
    Factorization*, arXiv 2506.10920. Ding, Li and Jordan, *Convex and Semi-Nonnegative Matrix Factorizations*, IEEE
    Transactions on Pattern Analysis and Machine Intelligence 32 (2010).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = np.kron(np.eye(6), [[1.0, -2.0, 0.5]])
    >>> X = (rng.random((500, 6)) < 0.3) * rng.gamma(4, 1, size=(500, 6)) @ truth
    >>> nmf = SemiNMF(6, keep=1 / 6, max_iter=500)
    >>> Y = nmf.fit_transform(X)
    >>> Y.shape, bool((Y >= 0).all()), np.count_nonzero(nmf.components_, axis=1).tolist()
    ((500, 6), True, [3, 3, 3, 3, 3, 3])
    >>> bool(nmf.fidelity(X)["FVU"].value < 1e-3)
    True
    """

    papers = ("snmf-mlp",)

    def __init__(
        self,
        n_components: int = 100,
        keep: float = 0.01,
        *,
        init: str = "random",
        solver: str = "multiplicative",
        sweeps: int = 2,
        max_iter: int = 4000,
        patience: int = 300,
        tol: float = 1e-6,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.n_components = n_components
        self.keep = keep
        self.init = init
        self.solver = solver
        self.sweeps = sweeps
        self.max_iter = max_iter
        self.patience = patience
        self.tol = tol
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ learning
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        coefficients: ArrayLike | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Factor rows.

        Parameters
        ----------
        X : ActivationRows, array-like or torch.Tensor of shape (n, width)
            A site of a store, of which the training part is used, or rows in memory.
        y : None, default=None
            Not used.
        coefficients : array-like of shape (n, n_components), optional
            Weights to begin with instead of `init`, none negative; in the order of ``rows("train")`` for a store.
        progress : callable or None, default=None
            Called with (iterations done, iterations at most, words).

        Returns
        -------
        self
        """
        torch = need("torch", "a factorisation", "nets")
        from locum.inside._seminmf import Chunks, factorise, start

        self._check_settings()
        rows = X if isinstance(X, ActivationRows) else finite_rows(X)
        chunks = Chunks(rows, torch.device(self.device))
        self._check_rows(rows, chunks)
        if coefficients is None:
            Y = start(chunks, self.n_components, self.init, self.random_state)
        else:
            Y = torch.from_numpy(self._given(coefficients, chunks.n)).to(chunks.device)
        found = factorise(
            chunks, Y, float(self.keep), self.solver, self.sweeps, self.max_iter, self.tol, self.patience, progress
        )
        self.mean_ = sum(chunk.sum(dim=1, dtype=torch.float64) for chunk in chunks).cpu().numpy() / chunks.n  # type: ignore[union-attr]
        components = found.components.cpu().numpy()
        lengths = np.linalg.norm(components, axis=1, keepdims=True)
        self._take(components / np.maximum(lengths, np.finfo(np.float32).tiny))
        self.loss_curve_ = np.array(found.loss)
        self.n_iter_, self.converged_ = len(found.loss), found.converged
        return self

    def fit_transform(self, X: Any, y: Any = None, **settings: Any) -> _FLOATS:
        """Factor rows and give their weights, shape (n, n_components).

        Parameters
        ----------
        X : as for :meth:`fit`
        y : None, default=None
            Not used.
        **settings
            As for :meth:`fit`.
        """
        self.fit(X, **settings)
        return self.transform(X.rows("train") if isinstance(X, ActivationRows) else X)

    def _take(self, components: NDArray[Any]) -> None:
        self.components_, self.n_features_in_ = components, components.shape[1]

    def _check_settings(self) -> None:
        require_whole(1, n_components=self.n_components, sweeps=self.sweeps, max_iter=self.max_iter, patience=self.patience)
        require_whole(0, random_state=self.random_state)
        require_one_of(_INITS, init=self.init)
        require_one_of(_SOLVERS, solver=self.solver)
        if isinstance(self.keep, bool) or not isinstance(self.keep, int | float) or not 0 < self.keep <= 1:
            raise InvalidData(f"expected keep= as a share of the neurons above 0 and at most 1, got {self.keep!r}")
        if not isinstance(self.tol, int | float) or not 0 <= self.tol < 1:
            raise InvalidData(f"expected tol= of 0 or more and below 1, got {self.tol!r}")

    def _check_rows(self, rows: Any, chunks: Any) -> None:
        if self.n_components > min(chunks.n, chunks.width):
            raise InvalidData(
                f"expected n_components= of at most {min(chunks.n, chunks.width)} for {chunks.n} rows of width {chunks.width}, "
                f"got {self.n_components}"
            )
        if not any(bool(chunk.any()) for chunk in chunks):
            raise InvalidData("expected rows that are not all 0, got only zeros: there is nothing to factor")

    def _given(self, coefficients: ArrayLike, n: int) -> _FLOATS:
        table = finite_rows(coefficients)
        if table.shape != (n, self.n_components):
            raise InvalidData(f"expected coefficients= of shape {(n, self.n_components)}, got {table.shape}")
        if table.min() < 0:
            raise InvalidData(f"expected coefficients= of 0 or more, got {table.min():g}: weights of tokens are not negative")
        return np.ascontiguousarray(np.maximum(table, 1e-12).T)

    # ------------------------------------------------------------------ use
    def transform(self, X: ArrayLike) -> _FLOATS:
        """Weights of rows by non-negative least squares, shape (n, n_components).

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        """
        torch = need("torch", "a factorisation", "nets")
        from locum.inside._seminmf import nonnegative

        check_is_fitted(self, "components_")
        table = finite_rows(X, self.n_features_in_)
        C = torch.from_numpy(self.components_).to(self.device)
        parts = []
        for at in range(0, len(table), _BATCH):
            part = torch.from_numpy(np.ascontiguousarray(table[at : at + _BATCH].T)).to(self.device)
            parts.append(nonnegative(part, C, _EXACT, _MOST_SWEEPS).T.cpu().numpy())
        return np.concatenate(parts)

    def inverse_transform(self, Y: ArrayLike) -> _FLOATS:
        """Rows that weights stand for, shape (n, width).

        Parameters
        ----------
        Y : array-like of shape (n, n_components)
        """
        check_is_fitted(self, "components_")
        table = finite_rows(Y, len(self.components_))
        return table @ self.components_

    def module(self) -> Callable[[Any], Any]:
        """A function from activations to reconstructions, tensors of any leading shape, for a network to be run with."""
        torch = need("torch", "a factorisation", "nets")
        check_is_fitted(self, "components_")

        def stand_in(x: Any) -> Any:
            said = self.inverse_transform(self.transform(x.reshape(-1, x.shape[-1])))
            return torch.from_numpy(said).to(x).reshape(x.shape)

        return stand_in

    def fidelity(
        self, X: ArrayLike, *, documents: ArrayLike | None = None, level: float = 0.95, random_state: int = 0
    ) -> dict[str, Fidelity]:
        """How faithful reconstructions are, how many components they take, and how many are never used.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
            Rows that did not fit.
        documents : array-like of shape (n,), optional
        level : float, default=0.95
        random_state : int, default=0

        Returns
        -------
        dict of str to Fidelity
            "FVU", "cosine", "L0" and "dead share".
        """
        Y = self.transform(X)
        truth, said = finite_rows(X), self.inverse_transform(Y)
        return reconstruction_fidelity(truth, said, Y, self.mean_, documents=documents, level=level, random_state=random_state)

    # ------------------------------------------------------------------ what components mean
    def describe(
        self,
        rows: SiteRows,
        documents: Sequence[ArrayLike],
        *,
        tokenizer: Any = None,
        split: str = "train",
        top: int = 25,
        context: int = 15,
    ) -> list[list[Excerpt]]:
        """The tokens with the largest weights, in their texts, for each component.

        Parameters
        ----------
        rows : SiteRows
            Of a store.
        documents : sequence of array-like of int
            Token ids of the documents that the store was collected from; none longer than its context.
        tokenizer : tokenizer of transformers or None, default=None
            Texts instead of numbers.
        split : {"train", "val", "test"}, default="train"
        top : int, default=25
            Tokens with a weight of 0 are left out.
        context : int, default=15
            Tokens before and after.

        Raises
        ------
        InvalidData
            Documents that are not those of the store.
        """
        require_whole(1, top=top)
        require_whole(0, context=context)
        labels, Y = rows.store.labels(split), self.transform(rows.rows(split))
        ids = [np.asarray(one, dtype=np.int64) for one in documents]
        for token, document, position in labels:
            if document >= len(ids) or position >= len(ids[document]) or ids[document][position] != token:
                raise InvalidData(
                    f"expected documents= as in the store, where token {position} of document {document} is {token}; "
                    "give the token ids that were collected"
                )
        order = np.argsort(-Y, axis=0, kind="stable")[:top]
        return [
            [_excerpt(float(Y[i, k]), labels[i], ids, context, tokenizer) for i in order[:, k] if Y[i, k] > 0]
            for k in range(Y.shape[1])
        ]

    def vocabulary_projection(self, output: Any, head: Any, norm: Any = None) -> _FLOATS:
        """What components say of the next token by themselves: logits of each, shape (n_components, vocabulary).

        Parameters
        ----------
        output : torch.nn.Module
            The output matrix of the MLP; of a bias nothing is counted.
        head : torch.nn.Module
            From the residual stream to logits.
        norm : torch.nn.Module or None, default=None
            The last norm of the network.

        Notes
        -----
        Large logits are what a component makes more likely, and small ones what its opposite does.
        """
        torch = need("torch", "a vocabulary projection", "nets")
        check_is_fitted(self, "components_")
        parameter = next(output.parameters())
        C = torch.from_numpy(self.components_).to(parameter)
        with torch.inference_mode():
            written = output(C) - output(torch.zeros_like(C))
            return head(written if norm is None else norm(written)).float().cpu().numpy()

    # ------------------------------------------------------------------ files
    def save(self, path: Any) -> None:
        """Write the components and settings to a folder, as safetensors and JSON; :meth:`load` reads it.

        Parameters
        ----------
        path : path
        """
        from locum.inside._files import write_record, write_tensors

        check_is_fitted(self, "components_")
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / _TENSORS, {"components": self.components_, "mean": self.mean_, "loss curve": self.loss_curve_})
        settings = {**self.get_params(), "device": "cpu"}
        record = {"format": _FORMAT, "settings": settings, "converged": self.converged_}
        write_record(folder / _JSON, record)

    @staticmethod
    def load(path: Any) -> SemiNMF:
        """The factorisation that :meth:`save` wrote to a folder.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            No such folder, or one that is damaged or of another version.
        """
        from locum.inside._files import read_record, read_tensors

        folder = Path(path)
        record = read_record(folder / _JSON, _FORMAT)
        tensors = read_tensors(folder / _TENSORS)
        missing = [name for name in ("components", "mean", "loss curve") if name not in tensors]
        if missing:
            raise FormatError(f"{folder / _TENSORS} has no {missing[0]}; use another copy")
        made = SemiNMF(**record["settings"])
        made._take(tensors["components"])
        made.mean_, made.loss_curve_ = tensors["mean"], tensors["loss curve"]
        made.n_iter_, made.converged_ = len(made.loss_curve_), bool(record["converged"])
        return made


def _excerpt(value: float, label: Any, ids: Sequence[NDArray[np.int64]], context: int, tokenizer: Any) -> Excerpt:
    _, document, position = (int(one) for one in label)
    tokens = ids[document]
    parts = [tokens[max(0, position - context) : position], tokens[position : position + 1]]
    parts.append(tokens[position + 1 : position + 1 + context])
    before, token, after = ([int(one) for one in part] for part in parts)
    if tokenizer is None:
        return Excerpt(value, document, position, before, token[0], after)
    return Excerpt(value, document, position, *(tokenizer.decode(one) for one in (before, token, after)))
