"""Estimators for wide tables: the self-attention classifier and two autoencoders, in scikit-learn's manner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from locum.core.errors import InvalidData, need, require_whole
from locum.core.surrogate import Saves
from locum.explain import _hd_networks as networks
from locum.explain._neighbourhood import content
from locum.nets.training import seeded, train

if TYPE_CHECKING:
    import torch

__all__ = ["Attends", "ConvAutoencoder", "DenseAutoencoder", "Differentiable", "SANClassifier"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]


# ---------------------------------------------------------------------- abilities
class Differentiable(ABC):
    """Is, once fitted, one torch module from raw rows to what it answers, through which gradients flow."""

    @abstractmethod
    def network(self) -> torch.nn.Module:
        """The module: rows of shape (n, d) to answers or codes of shape (n, m)."""


class Attends(ABC):
    """Weighs its inputs, and says how much.

    Attributes
    ----------
    attention_ : ndarray of shape (d,)
    class_attention_ : ndarray of shape (k, d)
    """

    attention_: _FLOAT
    class_attention_: _FLOAT

    @abstractmethod
    def instance_attention(self, X: Any) -> _FLOAT:
        """Attention of each row to each input, shape (n, d)."""


@dataclass(frozen=True)
class _Inputs:
    """How rows enter a network: columns in an order set by what they hold, so that a shuffle of columns changes nothing."""

    order: _INT
    center: _FLOAT
    scale: _FLOAT

    @classmethod
    def of(cls, X: _FLOAT) -> _Inputs:
        scale = X.std(axis=0)
        # Rounding gives a constant column a spread.
        return cls(np.argsort(content(X.T), kind="stable"), X.mean(axis=0), np.where(X.min(axis=0) < X.max(axis=0), scale, 1.0))

    def standardised(self, X: _FLOAT) -> _FLOAT:
        """Rows as the network takes them."""
        return np.clip((X - self.center) / self.scale, -networks.CLIP, networks.CLIP)[:, self.order]

    def back(self, values: _FLOAT) -> _FLOAT:
        """Numbers of shape (..., d), one an input of the network, in the order of the columns."""
        out = np.empty_like(values)
        out[..., self.order] = values
        return out

    def by_likeness(self, X: _FLOAT) -> _Inputs:
        """The same with columns that go together side by side: in order of their angle in the first two components."""
        Z = self.standardised(X)
        left = np.linalg.svd(Z, full_matrices=False)[0][:, :2]
        along = Z.T @ left
        turn = np.arctan2(along[:, -1], along[:, 0])
        return _Inputs(self.order[np.argsort(turn, kind="stable")], self.center, self.scale)


def _tensor(X: _FLOAT) -> Any:
    torch = need("torch", "a network for wide tables", "nets")
    return torch.as_tensor(np.ascontiguousarray(X), dtype=torch.float32)


def _adam(rate: float) -> Any:
    torch = need("torch", "a network for wide tables", "nets")
    return lambda parameters: torch.optim.Adam(parameters, lr=rate)


def _answers(module: Any, X: Any) -> _FLOAT:
    torch = need("torch", "a network for wide tables", "nets")
    with torch.inference_mode():
        return np.asarray(module(X).double().numpy())


def _check_rate(learning_rate: Any) -> None:
    if not 0 < learning_rate < np.inf:
        raise InvalidData(f"expected learning_rate= above 0, got {learning_rate!r}")


# ---------------------------------------------------------------------- classifier
class SANClassifier(ClassifierMixin, Attends, Differentiable, Saves, BaseEstimator):
    r"""A black box that says what it looks at: a self-attention network on a wide table.

    Each head weighs the columns of a row by a linear map of that row, and a small network classifies the weighted row:
    :math:`h = \frac1H \sum_k (W_k x + c_k) \odot x`, then linear, dropout, SELU, linear and a sigmoid a class (one against
    the rest). The global attention is the mean over heads of the softmax of :math:`\operatorname{diag} W_k`; with thousands
    of columns it is nearly flat, so read its ranks.

    Parameters
    ----------
    heads : int, default=2
    hidden : int, default=32
        Units of the classifying layer.
    epochs : int, default=32
    batch_size : int, default=128
    learning_rate : float, default=0.001
        Of Adam.
    dropout : float, default=0.2
    rank : int or None, default=None
        Makes each :math:`W_k` a diagonal and a product of rank so much; the whole matrix of d x d numbers where None, which
        beyond some 2,000 columns is slow.
    softmax : bool, default=False
        Whether the weights of a row go through a softmax, as the paper of the network says and its code does not.
    random_state : int, default=0

    Attributes
    ----------
    attention_ : ndarray of shape (d,)
        Global attention, summing to one.
    class_attention_ : ndarray of shape (k, d)
        Mean absolute attention of the rows of the fit that are answered with a class; the mean of all rows for a class that
        none is answered with.
    classes_ : ndarray of shape (k,)
    losses_ : tuple of float
        Mean training loss of each epoch.

    Notes
    -----
    Cost: 2,000 rows of 500 columns take about seven seconds on one core.

    **Departures**: rows are standardised inside, since the attention ignores the scale of a column; probabilities are the
    sigmoids divided by their sum; columns enter in an order set by what they hold, so their order in the table does not matter.

    References
    ----------
    Skrlj, Dzeroski, Lavrac and Petkovic, *Feature importance estimation with self-attention networks*, arXiv 2002.04464.
    Karim et al., arXiv 2208.13405.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 20))
    >>> san = SANClassifier(epochs=20, batch_size=32, learning_rate=0.01).fit(X, X[:, 3] * X[:, 7] > 0)
    >>> sorted(san.instance_attention(X).mean(axis=0).shape), san.attention_.shape
    ([20], (20,))
    """

    papers = ("hd-blackbox",)

    def __init__(
        self,
        heads: int = 2,
        hidden: int = 32,
        *,
        epochs: int = 32,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        dropout: float = 0.2,
        rank: int | None = None,
        softmax: bool = False,
        random_state: int = 0,
    ) -> None:
        self.heads = heads
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.dropout = dropout
        self.rank = rank
        self.softmax = softmax
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array of shape (n, d)
        y : array of shape (n,)
            Labels of at least two classes.

        Raises
        ------
        InvalidData
            One class only, or settings that cannot be used.
        """
        require_whole(1, heads=self.heads, hidden=self.hidden, epochs=self.epochs, batch_size=self.batch_size)
        _check_rate(self.learning_rate)
        if self.rank is not None:
            require_whole(1, rank=self.rank)
        if not 0 <= self.dropout < 1:
            raise InvalidData(f"expected dropout= from 0 up to, not including, 1, got {self.dropout!r}")
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InvalidData("the answers hold one class only; there is nothing to tell apart. Give rows of a second class")
        torch = need("torch", "SANClassifier", "nets")
        self.inputs_ = _Inputs.of(X)
        rows, wanted = _tensor(self.inputs_.standardised(X)), _tensor(np.eye(len(self.classes_))[index])
        self.module_ = self._module()
        loss = torch.nn.functional.binary_cross_entropy_with_logits
        history = train(
            self.module_, lambda module, x, t: loss(module(x), t), [rows, wanted],
            epochs=self.epochs, batch_size=self.batch_size, optimizer=_adam(self.learning_rate), random_state=self.random_state,
        )  # fmt: skip
        self.losses_ = history.losses
        self._attend(X)
        return self

    def predict_proba(self, X: Any) -> _FLOAT:
        """Probabilities of the classes, shape (n, k)."""
        check_is_fitted(self, "module_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        each = _answers(lambda x: self.module_(x).sigmoid(), _tensor(self.inputs_.standardised(rows))) + 1e-12
        return each / each.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels, shape (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def instance_attention(self, X: Any) -> _FLOAT:
        """Mean over heads of :math:`W_k x + c_k` for each row, shape (n, d)."""
        check_is_fitted(self, "module_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        weights = _answers(lambda x: self.module_.attention(x).mean(dim=0), _tensor(self.inputs_.standardised(rows)))
        return self.inputs_.back(weights)

    def network(self) -> torch.nn.Module:
        """One torch module from raw rows to probabilities."""
        check_is_fitted(self, "module_")
        torch = need("torch", "SANClassifier", "nets")
        front = networks.prepared(self.inputs_.order, self.inputs_.center, self.inputs_.scale)
        return torch.nn.Sequential(front, self.module_, networks.shares()).eval()

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Settings as JSON-ready values, and the arrays of the network."""
        check_is_fitted(self, "module_")
        arrays = {f"module.{name}": value.numpy() for name, value in self.module_.state_dict().items()}
        arrays |= {name: getattr(self.inputs_, name) for name in ("order", "center", "scale")}
        arrays |= {"classes": self.classes_, "attention": self.attention_, "class_attention": self.class_attention_}
        names = self.feature_names_in_.tolist() if hasattr(self, "feature_names_in_") else None
        return {"settings": self.get_params(), "losses": list(self.losses_), "names": names}, arrays

    @classmethod
    def from_state(cls, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model that `to_state` described."""
        torch = need("torch", "SANClassifier", "nets")
        model = cls(**record["settings"])
        model.inputs_ = _Inputs(arrays["order"], arrays["center"], arrays["scale"])
        model.n_features_in_, model.classes_ = len(arrays["order"]), arrays["classes"]
        if record["names"] is not None:
            model.feature_names_in_ = np.array(record["names"], dtype=object)
        model.module_ = model._module().eval()
        parts = {name.removeprefix("module."): array for name, array in arrays.items() if name.startswith("module.")}
        model.module_.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in parts.items()})
        model.attention_, model.class_attention_ = arrays["attention"], arrays["class_attention"]
        model.losses_ = tuple(record["losses"])
        return model

    def _module(self) -> Any:
        with seeded(self.random_state):
            return networks.self_attention(
                self.n_features_in_, len(self.classes_), heads=self.heads, hidden=self.hidden, dropout=self.dropout,
                rank=self.rank, softmax=self.softmax,
            )  # fmt: skip

    def _attend(self, X: _FLOAT) -> None:
        weights = _answers(lambda _: self.module_.own().softmax(dim=1).mean(dim=0), None)
        self.attention_ = self.inputs_.back(weights)
        each, said = np.abs(self.instance_attention(X)), self.predict_proba(X).argmax(axis=1)
        rows = [said == c if (said == c).any() else np.ones(len(said), dtype=bool) for c in range(len(self.classes_))]
        self.class_attention_ = np.stack([each[mine].mean(axis=0) for mine in rows])


# ---------------------------------------------------------------------- autoencoders
class _Autoencoder(TransformerMixin, Differentiable, BaseEstimator, ABC):
    """Learns a code of fewer numbers from which rows can be had back; a final class builds the two halves."""

    epochs: int
    batch_size: int
    learning_rate: float
    random_state: int

    @abstractmethod
    def _parts(self, d: int) -> tuple[Any, Any]:
        """Encoder and decoder for standardised rows of d columns."""

    @abstractmethod
    def _arranged(self, X: _FLOAT) -> _Inputs:
        """How rows enter the encoder."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn to give rows back.

        Parameters
        ----------
        X : array of shape (n, d)
        y : None
            Not used.
        """
        require_whole(1, epochs=self.epochs, batch_size=self.batch_size)
        _check_rate(self.learning_rate)
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        torch = need("torch", type(self).__name__, "nets")
        self.inputs_ = self._arranged(X)
        with seeded(self.random_state):
            self.encoder_, self.decoder_ = self._parts(X.shape[1])
        both = torch.nn.Sequential(self.encoder_, self.decoder_)
        history = train(
            both, lambda module, x: torch.nn.functional.mse_loss(module(x), x), [_tensor(self.inputs_.standardised(X))],
            epochs=self.epochs, batch_size=self.batch_size, optimizer=_adam(self.learning_rate), random_state=self.random_state,
        )  # fmt: skip
        self.losses_ = history.losses
        return self

    def transform(self, X: Any) -> _FLOAT:
        """Codes, shape (n, m)."""
        check_is_fitted(self, "encoder_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        return _answers(self.encoder_, _tensor(self.inputs_.standardised(rows)))

    def inverse_transform(self, codes: Any) -> _FLOAT:
        """Rows that codes of shape (n, m) stand for, shape (n, d)."""
        check_is_fitted(self, "decoder_")
        rows = self.inputs_.back(_answers(self.decoder_, _tensor(np.asarray(codes, dtype=float))))
        return rows * self.inputs_.scale + self.inputs_.center

    def network(self) -> torch.nn.Module:
        """One torch module from raw rows to codes."""
        check_is_fitted(self, "encoder_")
        torch = need("torch", type(self).__name__, "nets")
        front = networks.prepared(self.inputs_.order, self.inputs_.center, self.inputs_.scale)
        return torch.nn.Sequential(front, self.encoder_).eval()


class DenseAutoencoder(_Autoencoder):
    """Stands in for the columns of a wide table: a short code, learnt by a network that gives the row back from it.

    Parameters
    ----------
    code : int, default=64
        Numbers in a code.
    hidden : tuple of int, default=(256,)
        Units of the layers between row and code; the decoder mirrors them.
    epochs : int, default=30
    batch_size : int, default=128
    learning_rate : float, default=0.001
    random_state : int, default=0

    Attributes
    ----------
    losses_ : tuple of float
        Mean squared error of the standardised row after each epoch; 1 is what the mean row scores.

    Notes
    -----
    Cost: a second for 1,000 rows of 500 columns. Columns enter in an order set by what they hold.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 2)) @ np.random.default_rng(1).normal(size=(2, 30))
    >>> auto = DenseAutoencoder(code=2, hidden=(), epochs=100, batch_size=32, learning_rate=0.01).fit(X)
    >>> auto.transform(X).shape, auto.losses_[-1] < 0.05
    ((200, 2), True)
    """

    papers = ("hd-blackbox",)

    def __init__(
        self,
        code: int = 64,
        hidden: tuple[int, ...] = (256,),
        *,
        epochs: int = 30,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        random_state: int = 0,
    ) -> None:
        self.code = code
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _parts(self, d: int) -> tuple[Any, Any]:
        require_whole(1, code=self.code)
        return networks.dense_parts(d, self.code, tuple(self.hidden))

    def _arranged(self, X: _FLOAT) -> _Inputs:
        return _Inputs.of(X)


class ConvAutoencoder(_Autoencoder):
    """Stands in for the columns of a wide table: a code learnt by convolutions over a square grid of the columns.

    Three convolutions of 16, 8 and 8 channels, each with batch normalisation and halved by pooling, lead to a code of an eighth
    of the grid (7,091 columns on a grid of 88 x 88 to 968 numbers); the decoder mirrors them.

    Parameters
    ----------
    epochs : int, default=10
    batch_size : int, default=128
    learning_rate : float, default=0.001
    random_state : int, default=0

    Attributes
    ----------
    losses_ : tuple of float
        Mean squared error of the standardised row after each epoch; 1 is what the mean row scores.

    Notes
    -----
    Cost: 0.2 seconds an epoch for 100 rows of 7,000 columns. Neighbours on a grid mean nothing where columns come in any order.
    So columns that go together are put side by side, by their angle in the first two principal components of the rows of the
    fit; the order in which they come changes nothing.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(64, 100))
    >>> ConvAutoencoder(epochs=1).fit_transform(X).shape
    (64, 32)
    """

    papers = ("hd-blackbox",)

    def __init__(self, epochs: int = 10, *, batch_size: int = 128, learning_rate: float = 1e-3, random_state: int = 0) -> None:
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _parts(self, d: int) -> tuple[Any, Any]:
        return networks.convolutional_parts(d)

    def _arranged(self, X: _FLOAT) -> _Inputs:
        return _Inputs.of(X).by_likeness(X)
