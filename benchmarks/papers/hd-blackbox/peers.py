"""Other ways to rank the columns of a wide table, all from rows and the black box's labels alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def peers(X: Any, labels: Any, seed: int) -> dict[str, Callable[[], Any]]:
    """By name, what gives a score a column; those whose package is missing are left out."""
    found = {
        "L1 logistic regression": lambda: l1(X, labels, seed),
        "mutual information": lambda: information(X, labels, seed),
        "relevance less redundancy": lambda: relevance_less_redundancy(X, labels),
        "extremely randomised trees": lambda: trees(X, labels, seed),
    }
    try:
        import xgboost
    except ImportError:
        return found
    found["XGBoost gain"] = lambda: boosted(xgboost, X, labels, seed).feature_importances_
    try:
        import shap
    except ImportError:
        return found
    found["SHAP of XGBoost"] = lambda: shap_ranking(shap, boosted(xgboost, X, labels, seed), X)
    return found


def l1(X: Any, labels: Any, seed: int) -> Any:
    from sklearn.linear_model import SGDClassifier
    from sklearn.preprocessing import StandardScaler

    model = SGDClassifier("log_loss", penalty="l1", alpha=1e-3, max_iter=50, tol=1e-3, random_state=seed)
    return np.abs(model.fit(StandardScaler().fit_transform(X), labels).coef_).max(axis=0)


def information(X: Any, labels: Any, seed: int) -> Any:
    from sklearn.feature_selection import mutual_info_classif

    return mutual_info_classif(X, labels, discrete_features=False, random_state=seed)


def relevance_less_redundancy(X: Any, labels: Any, most: int = 100) -> Any:
    """Greedy: next is the column of the largest F less its mean correlation with those picked, as a quotient."""
    from sklearn.feature_selection import f_classif

    changing = X.std(axis=0) > 0
    F = np.zeros(X.shape[1])
    F[changing] = np.nan_to_num(f_classif(X[:, changing], labels)[0], posinf=1e12)
    Z = (X - X.mean(axis=0)) / np.where(changing, X.std(axis=0), 1.0) / np.sqrt(len(X))
    score, shared = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for step in range(min(most, int(changing.sum()))):
        worth = np.where(changing & (score == 0), F / np.maximum(shared / max(step, 1), 1e-3), -1.0)
        j = int(worth.argmax())
        score[j] = most - step
        shared += np.abs(Z[:, j] @ Z)
    return score


def trees(X: Any, labels: Any, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(200, random_state=seed).fit(X, labels).feature_importances_


def boosted(xgboost: Any, X: Any, labels: Any, seed: int) -> Any:
    model = xgboost.XGBClassifier(n_estimators=60, max_depth=4, n_jobs=1, random_state=seed)
    return model.fit(X, np.unique(labels, return_inverse=True)[1])


def shap_ranking(shap: Any, model: Any, X: Any) -> Any:
    values = np.abs(np.asarray(shap.TreeExplainer(model).shap_values(X[:500])))
    return values.mean(axis=tuple(axis for axis in range(values.ndim) if axis != 1))
