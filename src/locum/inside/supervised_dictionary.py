"""One vector for each value of each known attribute stands in for an activation: fitted with labels, no training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import FormatError, InvalidData, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.measures import fvu
from locum.inside.rows import finite_rows

__all__ = ["PrincipalComponents", "SupervisedDictionary"]

_FLOATS = NDArray[np.float64]
_METHODS = ("mse", "mean")
_FORMAT = 1
_JSON, _TENSORS = "supervised.json", "supervised.safetensors"


@final
class SupervisedDictionary(BaseEstimator):
    r"""A mean and one vector for each attribute's value stand in for activations of a task whose attributes are known.

    It says how well any linear dictionary could approximate and steer the activations, and so is what dictionaries that are
    learned without labels are measured against. Coefficients are 1: what a row is made of follows from its labels alone.

    .. math:: \hat a = \bar a + \sum_i u_{i, v_i}, \quad U = (C^\top C)^+ C^\top (A - \bar a)

    Parameters
    ----------
    attributes : sequence of str or None, default=None
        Of those that the labels have; all of them where None.
    method : {"mse", "mean"}, default="mse"
        Least squares for all values together, or the mean of the rows with a value less the mean of all, which is the same
        where attributes are independent and every combination is as frequent.

    Attributes
    ----------
    atoms_ : ndarray of shape (values, width)
        Not of length 1.
    values_ : tuple of (str, value)
        Attribute and value of each atom.
    mean_, bias_ : ndarray of shape (width,)
        Of the rows.
    counts_ : ndarray of int, shape (values,)
        Rows with each value.
    n_features_in_ : int

    Raises
    ------
    InvalidData
        Labels that do not fit the rows, an unknown attribute, or rows that are not finite.

    Warns
    -----
    UserWarning
        Attributes that cannot be told apart on these rows (one follows from others): atoms are then the shortest that fit.

    Notes
    -----
    Cost: O(n q² + n q width) for n rows and q values; a second for 20,000 rows of width 576 and 100 values.

    **Departures**: none; columns of one attribute sum to 1, so C never has full rank and the pseudo-inverse is always needed.

    References
    ----------
    Makelov, Lange and Nanda, *Towards Principled Evaluations of Sparse Autoencoders for Interpretability and Control*, ICLR
    2025, arXiv 2405.08366, section 3.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = {"colour": rng.choice(["red", "blue"], 500), "size": rng.integers(3, size=500)}
    >>> X = np.outer(labels["colour"] == "red", [1, 0, 2]) + np.outer(labels["size"], [0, 1, 0])
    >>> found = SupervisedDictionary().fit(X, labels)
    >>> bool(np.allclose(found.reconstruct(labels), X)), found.values_[0]
    (True, ('colour', 'blue'))
    >>> bool(np.allclose(found.atom("colour", "red") - found.atom("colour", "blue"), [1, 0, 2], atol=1e-6))
    True
    """

    papers = ("sae-evals",)

    def __init__(self, attributes: Sequence[str] | None = None, method: str = "mse") -> None:
        self.attributes = attributes
        self.method = method

    def fit(self, X: ArrayLike, labels: Mapping[str, ArrayLike]) -> Self:
        """Find the vectors of all values.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        labels : mapping of str to array-like of shape (n,), or a table with columns
        """
        require_one_of(_METHODS, method=self.method)
        x = finite_rows(X).astype(np.float64)
        names = list(labels) if self.attributes is None else list(self.attributes)
        unknown = [name for name in names if name not in labels]
        if unknown or not names:
            raise InvalidData(f"there is no attribute {unknown[:1] or 'at all'}; the labels have {', '.join(map(str, labels))}")
        self._at: dict[str, dict[Any, int]] = {}
        for name in names:
            values = np.unique(np.asarray(labels[name])).tolist()
            first = sum(map(len, self._at.values()))
            self._at[name] = {value: first + i for i, value in enumerate(values)}
        self.values_ = tuple((name, value) for name, values in self._at.items() for value in values)
        C = self._coded(labels, len(x))
        self.mean_ = self.bias_ = x.mean(axis=0)
        self.counts_ = np.asarray(C.sum(axis=0)).astype(np.int64)
        sums = C.T @ (x - self.mean_)
        if self.method == "mean":
            self.atoms_ = sums / self.counts_[:, None]
        else:
            together = (C.T @ C).toarray()
            apart = len(self.values_) - len(names) + 1
            rank = int(np.linalg.matrix_rank(together, hermitian=True))
            if rank < apart:
                told = f"attributes cannot be told apart on these rows (rank {rank} of {apart}); give more combinations"
                warnings.warn(told, UserWarning, stacklevel=2)
            self.atoms_ = np.linalg.pinv(together, hermitian=True) @ sums
        self.n_features_in_ = x.shape[1]
        return self

    def _coded(self, labels: Mapping[str, ArrayLike], n: int | None = None) -> sparse.csr_array:
        columns = []
        for name, known in self._at.items():
            if name not in labels:
                raise InvalidData(f"expected labels of {name!r}, got those of {', '.join(map(str, labels))}")
            values = np.asarray(labels[name])
            n = len(values) if n is None else n
            if values.shape != (n,):
                raise InvalidData(f"expected {n} labels of {name!r}, got shape {values.shape}")
            strange = [value for value in dict.fromkeys(values.tolist()) if value not in known]
            if strange:
                raise InvalidData(f"no row that fitted had the value {strange[0]!r} of {name!r}, so it has no atom")
            columns.append([known[value] for value in values.tolist()])
        index = np.array(columns, dtype=np.int64).T
        ends = np.arange(0, index.size + 1, index.shape[1])
        return sparse.csr_array((np.ones(index.size), index.ravel(), ends), shape=(len(index), len(self.values_)))

    # ------------------------------------------------------------------ use
    def encode(self, labels: Mapping[str, ArrayLike]) -> sparse.csr_array:
        """Codes of 0 and 1 that labels stand for, shape (n, values).

        Parameters
        ----------
        labels : mapping of str to array-like of shape (n,)

        Raises
        ------
        InvalidData
            A value that no row had in :meth:`fit`.
        """
        check_is_fitted(self, "atoms_")
        return self._coded(labels)

    def decode(self, Z: Any) -> _FLOATS:
        """Rows that codes stand for, shape (n, width).

        Parameters
        ----------
        Z : sparse or dense array of shape (n, values)
        """
        return np.asarray(Z @ self.atoms_) + self.mean_

    def reconstruct(self, labels: Mapping[str, ArrayLike]) -> _FLOATS:
        """What rows with these labels would be, shape (n, width).

        Parameters
        ----------
        labels : mapping of str to array-like of shape (n,)
        """
        return self.decode(self.encode(labels))

    def atom(self, attribute: str, value: Any) -> _FLOATS:
        """The vector of one value, shape (width,).

        Parameters
        ----------
        attribute : str
        value : as in the labels
        """
        return np.asarray(self.atoms_[self._index(attribute, value)])

    def edit(self, X: ArrayLike, attribute: str, before: ArrayLike, after: ArrayLike) -> _FLOATS:
        """Rows with one attribute's value taken away and another put in its place, shape (n, width).

        Other attributes may have values that were not seen in :meth:`fit`.

        Parameters
        ----------
        X : array-like of shape (n, width)
        attribute : str
        before, after : array-like of shape (n,)
        """
        x = finite_rows(X, self.n_features_in_).astype(np.float64)
        old, new = ([self._index(attribute, value) for value in np.asarray(one).tolist()] for one in (before, after))
        return np.asarray(x - self.atoms_[old] + self.atoms_[new])

    def without(self, X: ArrayLike, attribute: str, values: ArrayLike, share: float = 1.0) -> _FLOATS:
        """Rows less a share of one attribute's vectors, shape (n, width).

        Parameters
        ----------
        X : array-like of shape (n, width)
        attribute : str
        values : array-like of shape (n,)
        share : float, default=1.0
        """
        x = finite_rows(X, self.n_features_in_).astype(np.float64)
        at = [self._index(attribute, value) for value in np.asarray(values).tolist()]
        return np.asarray(x - share * self.atoms_[at])

    def fidelity(
        self, X: ArrayLike, labels: Mapping[str, ArrayLike], *, documents: ArrayLike | None = None, level: float = 0.95
    ) -> Fidelity:
        """Fraction of the variance of rows that their labels leave unexplained.

        Parameters
        ----------
        X : array-like of shape (n, width)
            Rows that did not fit.
        labels : mapping of str to array-like of shape (n,)
        documents : array-like of shape (n,), optional
        level : float, default=0.95
        """
        return fvu(X, self.reconstruct(labels), self.mean_, documents=documents, level=level)

    def _index(self, attribute: str, value: Any) -> int:
        check_is_fitted(self, "atoms_")
        require_one_of(list(self._at), attribute=attribute)
        if value not in self._at[attribute]:
            raise InvalidData(f"no row that fitted had the value {value!r} of {attribute!r}, so it has no atom")
        return self._at[attribute][value]

    # ------------------------------------------------------------------ files
    def save(self, path: Any) -> None:
        """Write it to a folder, as safetensors and JSON; :meth:`load` reads it.

        Parameters
        ----------
        path : path
        """
        from locum.inside._files import write_record, write_tensors

        check_is_fitted(self, "atoms_")
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        write_tensors(folder / _TENSORS, {"atoms": self.atoms_, "mean": self.mean_, "counts": self.counts_})
        values = {name: list(known) for name, known in self._at.items()}
        write_record(folder / _JSON, {"format": _FORMAT, "method": self.method, "values": values})

    @staticmethod
    def load(path: Any) -> SupervisedDictionary:
        """What :meth:`save` wrote to a folder.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            No such folder, or one that is damaged or cut short.
        """
        from locum.inside._files import read_record, read_tensors

        record = read_record(Path(path) / _JSON, _FORMAT, "a supervised dictionary of ")
        tensors = read_tensors(Path(path) / _TENSORS)
        made = SupervisedDictionary(attributes=list(record["values"]), method=record["method"])
        made.values_ = tuple((name, value) for name, values in record["values"].items() for value in values)
        if len(made.values_) != len(tensors.get("atoms", ())):
            raise FormatError(f"{path} does not hold an atom for each of {len(made.values_)} values; use another copy")
        made._at = {name: {} for name in record["values"]}
        for i, (name, value) in enumerate(made.values_):
            made._at[name][value] = i
        made.atoms_, made.counts_ = tensors["atoms"], tensors["counts"]
        made.mean_ = made.bias_ = tensors["mean"]
        made.n_features_in_ = made.atoms_.shape[1]
        return made


@final
class PrincipalComponents(BaseEstimator):
    """Directions of largest variance as a dictionary: the control that knows no labels and no sparsity.

    Parameters
    ----------
    n_latents : int or None, default=None
        As many as the width, or rows less one, where None or where more are asked for.

    Attributes
    ----------
    atoms_ : ndarray of shape (n_latents, width)
        Of length 1 and at right angles.
    mean_, bias_ : ndarray of shape (width,)
    n_features_in_ : int
    """

    def __init__(self, n_latents: int | None = None) -> None:
        self.n_latents = n_latents

    def fit(self, X: ArrayLike) -> Self:
        """Find the directions.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        """
        x = finite_rows(X).astype(np.float64)
        if self.n_latents is not None:
            require_whole(1, n_latents=self.n_latents)
        most = min(x.shape[1], len(x) - 1)
        if most < 1:
            raise InvalidData("expected two rows or more, got one")
        self.mean_ = self.bias_ = x.mean(axis=0)
        centred = x - self.mean_
        axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1].T
        self.atoms_ = axes[: most if self.n_latents is None else min(self.n_latents, most)].copy()
        self.n_features_in_ = x.shape[1]
        return self

    def encode(self, X: ArrayLike) -> sparse.csr_array:
        """How far rows go along each direction, also backwards, shape (n, n_latents).

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        """
        check_is_fitted(self, "atoms_")
        return sparse.csr_array((finite_rows(X, self.n_features_in_) - self.mean_) @ self.atoms_.T)

    def decode(self, Z: Any) -> _FLOATS:
        """Rows that codes stand for, shape (n, width).

        Parameters
        ----------
        Z : sparse or dense array of shape (n, n_latents)
        """
        return np.asarray(Z @ self.atoms_) + self.mean_

    def reconstruct(self, X: ArrayLike) -> _FLOATS:
        """Rows given back, shape (n, width).

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        """
        return self.decode(self.encode(X))
