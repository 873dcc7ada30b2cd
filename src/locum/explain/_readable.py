"""What the readable stand-ins of tables share: rows in, soft answers in, a program out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.program import Program
from locum.core.surrogate import AskTell, ChoosesQueries, Predicts, Readable, Saves
from locum.explain._active import ActiveQueries

__all__ = ["ReadableClassifier", "ReadableRegressor", "leaf_value"]

_FLOAT = NDArray[np.float64]


class _Readable(Predicts, Readable, ChoosesQueries, Saves, BaseEstimator, ABC):
    """Stands in for a black box on tables, as a `Program`; the two bases below say what it answers.

    A final class stores its settings in ``__init__`` (among them ``domain`` and ``random_state``) and learns in `_learn`.
    """

    domain: Domain | None
    random_state: int

    @abstractmethod
    def _learn(self, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain) -> Program:
        """Learn from encoded rows (n, d), answers (n, k) and positive weights (n,) of mean one.

        Classifiers get one column a class, rows summing to one; regressors one column.
        """

    def queries(
        self, domain: Domain, pool: _FLOAT, calls: int, *, allowed: Callable[[_FLOAT], Any] | None, random_state: int
    ) -> AskTell:
        """Query by committee for this model; see `ChoosesQueries.queries`."""
        return ActiveQueries(self, domain, pool, calls, allowed=allowed, random_state=random_state)

    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Settings and program as JSON-ready values; there are no arrays."""
        check_is_fitted(self, "program_")
        settings = {k: v for k, v in self.get_params(deep=False).items() if k not in ("domain", "classes")}
        record = {
            "settings": settings,
            "program": self.program_.to_dict(),
            "domain": self.domain_.to_dict(),
            "names": self.feature_names_in_.tolist() if hasattr(self, "feature_names_in_") else None,
        }
        return record, {}

    @classmethod
    def from_state(cls, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model that `to_state` described."""
        model = cls(**record["settings"])
        model.program_ = Program.from_dict(record["program"])
        model.domain_ = Domain.from_dict(record["domain"])
        model.n_features_in_ = len(model.domain_)
        if record["names"] is not None:
            model.feature_names_in_ = np.array(record["names"], dtype=object)
        if model.program_.classes is not None:
            model.classes_ = np.asarray(model.program_.classes)
        return model

    @property
    def text_(self) -> str:
        """The fitted model in words, one line a statement."""
        check_is_fitted(self, "program_")
        return self.program_.text()

    def _fit(self, X: Any, Y: _FLOAT, sample_weight: Any) -> None:
        domain = Domain.of(X, fixed=range(self.n_features_in_)) if self.domain is None else self.domain
        Z = domain.encode(X)
        if len(Y) != len(Z):
            raise InvalidData(f"expected an answer for each of the {len(Z)} rows, got {len(Y)}")
        weights = _check_sample_weight(sample_weight, Z, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        if not kept.any():
            raise InvalidData("expected some positive sample weights, all are zero")
        Z, Y, weights = Z[kept], Y[kept], weights[kept] / weights[kept].mean()
        self.domain_ = domain
        self.program_ = self._learn(Z, Y, weights, domain)

    def _open(self, X: Any, *, reset: bool) -> Any:
        """Rows that the domain can encode, checked as scikit-learn checks them."""
        if isinstance(X, np.ndarray) and X.dtype.names:
            if reset:
                self.n_features_in_ = len(X.dtype.names)
                self.feature_names_in_ = np.array(X.dtype.names, dtype=object)
            return X
        least = {"ensure_min_samples": 2} if reset else {}
        checked = validate_data(self, X, dtype=None, ensure_all_finite="allow-nan", reset=reset, **least)
        # A frame keeps its types; one without text for names is, as in scikit-learn, an array.
        named = hasattr(X, "columns") and all(isinstance(name, str) for name in X.columns)
        return X if named else checked

    def _values(self, X: Any) -> _FLOAT:
        check_is_fitted(self, "program_")
        return self.program_.values(self.domain_.encode(self._open(X, reset=False)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


class ReadableClassifier(ClassifierMixin, _Readable):
    """Stands in for a classifier: fits labels, or the probabilities a classifier gives, and answers with both.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
    program_ : Program
    domain_ : Domain
    """

    classes: Any

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Learn from rows and the black box's answers.

        Parameters
        ----------
        X : rows of shape (n, d)
            A float or object array, a structured array, or a pandas or polars frame.
        y : array of shape (n,) or (n, k)
            Labels; or probabilities of the k classes, which say more. Then ``classes=`` names them, or they are 0 to k-1.
        sample_weight : array of shape (n,) or None, default=None

        Raises
        ------
        InvalidData
            Rows the domain refuses, one class only, probabilities that do not sum to one.
        """
        X = self._open(X, reset=True)
        y = np.asarray(_present(y))
        if y.ndim == 2 and y.shape[1] > 1:
            Y = y.astype(float)
            self.classes_ = np.arange(Y.shape[1]) if self.classes is None else np.asarray(self.classes)
            _check_probabilities(Y, self.classes_)
        else:
            labels = column_or_1d(y, warn=True)
            if labels.dtype.kind == "f" and not np.isfinite(labels).all():
                raise InvalidData("Input y contains NaN or infinity: expected a label in every row; drop the other rows")
            check_classification_targets(labels)
            self.classes_, index = np.unique(labels, return_inverse=True)
            if self.classes is not None:
                given = np.asarray(self.classes)
                position = {label: i for i, label in enumerate(given.tolist())}
                strange = [label for label in self.classes_.tolist() if label not in position]
                if strange:
                    raise InvalidData(f"expected labels among classes= {list(position)[:5]}, got {strange[:5]}")
                index = np.array([position[label] for label in self.classes_.tolist()])[index]
                self.classes_ = given
            Y = np.eye(len(self.classes_))[index]
        if len(np.unique(Y.argmax(axis=1))) < 2:
            raise InvalidData("the answers hold one class only; there is nothing to tell apart. Give rows of a second class")
        self._fit(X, Y, sample_weight)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Labels, shape (n,)."""
        values = self._values(X)
        return self.classes_[values.argmax(axis=1)]

    def predict_proba(self, X: Any) -> _FLOAT:
        """Probabilities of the classes, shape (n, k)."""
        return self._values(X)

    def _program(self, domain: Domain, link: Any, body: Any, terms: Any, base: Any, *, exhaustive: bool = False) -> Program:
        classes = tuple(self.classes_.tolist())
        return Program(domain.columns, "class", classes, link, body, tuple(terms), _numbers(base), exhaustive)


class ReadableRegressor(RegressorMixin, _Readable):
    """Stands in for a predictor of real values.

    Attributes
    ----------
    program_ : Program
    domain_ : Domain
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Learn from rows and the black box's answers.

        Parameters
        ----------
        X : rows of shape (n, d)
            A float or object array, a structured array, or a pandas or polars frame.
        y : array of shape (n,)
        sample_weight : array of shape (n,) or None, default=None

        Raises
        ------
        InvalidData
            Rows the domain refuses, answers that are not finite numbers.
        """
        X = self._open(X, reset=True)
        values = np.asarray(column_or_1d(_present(y), warn=True), dtype=float)
        if not np.isfinite(values).all():
            raise InvalidData("Input y contains NaN or infinity: expected finite answers; drop the rows that have none")
        self._fit(X, values[:, None], sample_weight)
        return self

    def predict(self, X: Any) -> _FLOAT:
        """Values, shape (n,)."""
        return self._values(X)[:, 0]

    def _program(self, domain: Domain, link: Any, body: Any, terms: Any, base: Any, *, exhaustive: bool = False) -> Program:
        return Program(domain.columns, "value", None, "identity", body, tuple(terms), _numbers(base), exhaustive)


def _present(y: Any) -> Any:
    if y is None:
        raise InvalidData("requires y to be passed, but the target y is None")
    return y


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in np.ravel(values))


def _check_probabilities(Y: _FLOAT, classes: NDArray[Any]) -> None:
    if len(classes) != Y.shape[1]:
        raise InvalidData(f"expected probabilities of {len(classes)} classes, got {Y.shape[1]} columns")
    if not np.isfinite(Y).all() or (Y < 0).any() or not np.allclose(Y.sum(axis=1), 1, atol=1e-3):
        raise InvalidData("expected probabilities: rows of numbers from 0 to 1 that sum to one")


def leaf_value(Y: _FLOAT, weights: _FLOAT, labels: NDArray[np.intp] | None) -> _FLOAT:
    """What a rule answers for the rows it holds, shape (k,).

    Their mean; where that would name another class than most of the rows' labels do, the shares of those labels.
    """
    mean = weights @ Y / weights.sum()
    if labels is None:
        return mean
    shares = np.bincount(labels, weights, Y.shape[1]) / weights.sum()
    return mean if shares[mean.argmax()] >= shares.max() else shares
