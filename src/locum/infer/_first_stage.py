"""Predictions of what experts would say, each made by a model that has not seen the row's own label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from locum.core.errors import InvalidData

__all__ = ["LEARNERS", "Labels", "check_learner", "cross_fitted", "encoded", "from_surrogate"]

Array = NDArray[np.float64]
_Index = NDArray[np.intp]

_BOOSTING = {"max_iter": 60, "max_leaf_nodes": 15, "early_stopping": False}
_FOREST = {"n_estimators": 100, "min_samples_leaf": 5}
LEARNERS: dict[str, dict[bool, Callable[[int], BaseEstimator]]] = {  # whether it classifies -> how it is made from a seed
    "boosting": {
        True: lambda seed: HistGradientBoostingClassifier(**_BOOSTING, random_state=seed),
        False: lambda seed: HistGradientBoostingRegressor(**_BOOSTING, random_state=seed),
    },
    "forest": {
        True: lambda seed: ExtraTreesClassifier(**_FOREST, random_state=seed),
        False: lambda seed: ExtraTreesRegressor(**_FOREST, random_state=seed),
    },
    "linear": {
        True: lambda seed: make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)),
        False: lambda seed: make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 7))),
    },
}


@dataclass(frozen=True)
class Labels:
    """Expert labels of one variable.

    Parameters
    ----------
    name : str
    values : ndarray of shape (n,)
        Of the labelled rows: numbers, or codes of the categories.
    levels : ndarray or None
        The categories of text; the two values 0 and 1 of a binary number; None for other numbers.
    text : bool
        Whether the values are codes of categories rather than numbers.
    """

    name: str
    values: NDArray[Any]
    levels: NDArray[Any] | None
    text: bool

    @classmethod
    def of(cls, name: str, column: Any) -> Labels:
        """Read the labelled part of a column (a pandas Series without missing values)."""
        array = column.to_numpy()
        if array.dtype.kind not in "biuf":
            levels, codes = np.unique(array.astype(str), return_inverse=True)
            found = cls(name, codes, levels, True)
        else:
            numbers = array.astype(float)
            if not np.isfinite(numbers).all():
                raise InvalidData(f"expected finite expert labels in {name!r}, got infinities")
            binary = bool(np.isin(numbers, (0.0, 1.0)).all())
            found = cls(name, numbers, np.array([0.0, 1.0]) if binary else None, False)
        if len(np.unique(found.values)) < 2:
            raise InvalidData(
                f"expected expert labels of {name!r} that differ, got {len(array)} that are all {array[0]!r}: nothing can be "
                "learnt from them; have more rows labelled, or sample the rare kind more often"
            )
        return found

    def indicators(self) -> Array:
        """Categories as columns of 0 and 1, or the numbers themselves."""
        return np.eye(len(self.levels))[self.values] if self.text and self.levels is not None else self.values


def check_learner(learner: Any) -> None:
    """Refuse what cannot be a first stage."""
    if isinstance(learner, str):
        if learner not in (*LEARNERS, "surrogate"):
            raise InvalidData(
                f"expected learner= {', '.join(LEARNERS)}, 'surrogate' or a scikit-learn estimator, got {learner!r}"
            )
    elif isinstance(learner, type) or not all(hasattr(learner, name) for name in ("fit", "predict", "get_params")):
        raise InvalidData(f"expected learner= a scikit-learn estimator or a name, got {learner!r}")


def encoded(frame: Any, names: list[str]) -> Array:
    """Columns as numbers, shape (n, q): text becomes one column a category."""
    out = []
    for name in names:
        array = frame[name].to_numpy()
        if array.dtype.kind in "biuf":
            out.append(array.astype(float)[:, None])
        else:
            levels, codes = np.unique(array.astype(str), return_inverse=True)
            out.append(np.eye(len(levels))[codes])
    return np.hstack(out)


def cross_fitted(features: Array, labels: Labels, rows: _Index, folds: _Index, learner: Any, seed: int) -> Array:
    """Predictions of each row by the model that was fitted on the labelled rows of the other folds.

    Parameters
    ----------
    features : ndarray of shape (N, q)
    labels : Labels
    rows : ndarray of shape (n,)
        Positions of the labelled rows.
    folds : ndarray of shape (N,)
    learner : str or estimator
    seed : int

    Returns
    -------
    ndarray of shape (N,), or (N, levels) for text
    """
    classify = labels.levels is not None
    made = LEARNERS[learner][classify](seed) if isinstance(learner, str) else _seeded(clone(learner), seed)
    if is_classifier(made) and not classify:
        raise InvalidData(f"{labels.name!r} is a number and the learner a classifier: give a regressor, or text for categories")
    if labels.text and not is_classifier(made):
        raise InvalidData(f"{labels.name!r} is text and the learner no classifier: give a classifier with predict_proba")
    out = np.empty((len(features), len(labels.levels)) if labels.text and labels.levels is not None else len(features))
    for fold in range(int(folds.max()) + 1):
        inside, train = folds == fold, folds[rows] != fold
        out[inside] = _predicted(clone(made), features[rows[train]], labels, train, features[inside])
    if not np.isfinite(out).all():
        raise InvalidData(f"the learner predicted values that are not finite for {labels.name!r}: use another learner")
    return out


def _predicted(model: Any, X: Array, labels: Labels, train: NDArray[np.bool_], asked: Array) -> Array:
    y = labels.values[train]
    if labels.levels is None or not is_classifier(model):
        return np.asarray(model.fit(X, y).predict(asked), dtype=float)
    codes = y if labels.text else y.astype(np.intp)
    p = np.zeros((len(asked), len(labels.levels)))
    seen = np.unique(codes)
    if len(seen) == 1:
        p[:, seen] = 1.0
    else:
        model.fit(X, codes)
        p[:, np.asarray(model.classes_, dtype=np.intp)] = model.predict_proba(asked)
    return p if labels.text else p[:, 1]


def _seeded(model: Any, seed: int) -> Any:
    """The estimator with every open seed in it set."""
    settings = model.get_params()
    names = [name for name in settings if name.rpartition("__")[2] == "random_state" and settings[name] is None]
    return model.set_params(**dict.fromkeys(sorted(names), seed))


def from_surrogate(column: Any, labels: Labels) -> Array | None:
    """A surrogate column taken at its word, as predictions; None where it is a score and no label."""
    array = column.to_numpy()
    if labels.text and labels.levels is not None:
        place = np.searchsorted(labels.levels, array.astype(str)).clip(0, len(labels.levels) - 1)
        return np.eye(len(labels.levels))[place] if np.all(labels.levels[place] == array.astype(str)) else None
    if array.dtype.kind not in "biuf":
        return None
    numbers = array.astype(float)
    inside = labels.levels is None or bool(((numbers >= 0.0) & (numbers <= 1.0)).all())
    return numbers if inside else None
