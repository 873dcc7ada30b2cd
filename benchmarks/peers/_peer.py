"""Fits one peer to recorded answers, in the environment of the peers: one npz file in, one out.

In: ``rows`` (n, d) without missing values and ``answers`` (n,), class codes or values; ``fresh`` (m, d); ``settings``, JSON
text with ``size``, ``seed`` and ``task``. Of the answers only those that a peer looks up count as asked.
Out: ``said`` (m,), ``asked`` (different rows looked up), ``size`` (leaves or rules), ``seconds``, ``proven`` (whether an
optimal tree was proven to be one).

    python _peer.py NAME IN OUT
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

LIMIT = 60.0  # seconds that the search for an optimal tree may take


class Recorded:
    """Answers rows from a table, and counts the different ones it was asked for."""

    def __init__(self, rows: np.ndarray, answers: np.ndarray) -> None:
        self.answers = dict(zip(self._keys(rows), answers.tolist(), strict=True))
        self.asked: set[bytes] = set()

    @staticmethod
    def _keys(rows: np.ndarray) -> list[bytes]:
        return [row.tobytes() for row in np.ascontiguousarray(rows, dtype=float) + 0.0]

    def predict(self, X: object) -> np.ndarray:
        """Recorded answers to rows of a frame or an array."""
        keys = self._keys(np.asarray(X))
        self.asked.update(keys)
        return np.array([self.answers[key] for key in keys])


Said = tuple[Any, int, int, bool]


def trustee(rows: Any, answers: Any, fresh: Any, size: int, seed: int, task: str) -> Said:
    """The settings of its documentation, its most stable tree."""
    from trustee import ClassificationTrustee, RegressionTrustee

    expert = Recorded(rows, answers)
    model = (ClassificationTrustee if task == "classification" else RegressionTrustee)(expert=expert)
    model.fit(rows, answers, max_leaf_nodes=size, top_k=size, num_iter=50, num_stability_iter=10, samples_size=0.3)
    tree = model.explain(top_k=size)[0]
    return tree.predict(fresh), len(expert.asked), int(tree.get_n_leaves()), False


def optimal_tree(rows: Any, answers: Any, fresh: Any, size: int, seed: int, task: str) -> Said:
    """The most accurate tree of depth four on five thresholds a column."""
    from pystreed import STreeDClassifier, STreeDRegressor

    limits = {"max_depth": 4, "max_num_nodes": size - 1, "time_limit": LIMIT, "random_seed": seed}
    if task == "classification":
        model = STreeDClassifier("accuracy", **limits)
    else:
        model = STreeDRegressor("regression", **limits)
    model.fit(rows, answers)
    return model.predict(fresh), len(rows), int(model.get_n_leaves()), bool(model.fit_result.is_optimal())


def by_imodels(name: str, limit: str) -> Callable[..., Said]:
    """A classifier or regressor of imodels whose size is set by one argument."""

    def run(rows: Any, answers: Any, fresh: Any, size: int, seed: int, task: str) -> Said:
        import imodels

        kind = getattr(imodels, name + ("Classifier" if task == "classification" else "Regressor"))
        model = kind(**{limit: size}, random_state=seed).fit(rows, answers)
        return model.predict(fresh), len(rows), int(model.complexity_), False

    return run


PEERS = {
    "Trustee": trustee,
    "optimal tree": optimal_tree,
    "FIGS": by_imodels("FIGS", "max_rules"),
    "RuleFit": by_imodels("RuleFit", "max_rules"),
    "boosted rules": by_imodels("BoostedRules", "n_estimators"),
}


def main(name: str, source: str, out: str) -> None:
    """Fit and predict."""
    data = np.load(source, allow_pickle=False)
    settings = json.loads(str(data["settings"]))
    np.random.seed(settings["seed"])  # noqa: NPY002  some of them draw from the global generator
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said, asked, size, proven = PEERS[name](data["rows"], data["answers"], data["fresh"], **settings)
    np.savez(out, said=said, asked=asked, size=size, proven=proven, seconds=time.perf_counter() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
