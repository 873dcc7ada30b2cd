"""Fits Trustee to recorded answers, in the environment of the peers: one npz file in, one out.

In: ``rows`` (n, d) and ``answers`` (n,), class codes, of which only those that Trustee asks for count; ``fresh`` (m, d);
``settings``, JSON text with ``leaves``, ``samples_size``, ``num_iter``, ``num_stability_iter`` and ``seed``.
Out: ``said`` (m,), ``asked`` (how many different rows were looked up), ``leaves``, ``seconds``.

    python _trustee.py IN OUT
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import numpy as np
from trustee import ClassificationTrustee


class Recorded:
    """Answers rows from a table, and counts the different ones it was asked for."""

    def __init__(self, rows: np.ndarray, answers: np.ndarray) -> None:
        self.answers = dict(zip(self._keys(rows), answers.tolist(), strict=True))
        self.asked: set[bytes] = set()

    @staticmethod
    def _keys(rows: np.ndarray) -> list[bytes]:
        rows = np.ascontiguousarray(rows, dtype=float) + 0.0
        rows[np.isnan(rows)] = np.nan
        return [row.tobytes() for row in rows]

    def predict(self, X: object) -> np.ndarray:
        """Class codes of a frame or an array of rows."""
        keys = self._keys(np.asarray(X))
        self.asked.update(keys)
        return np.array([self.answers[key] for key in keys])


def main(source: str, out: str) -> None:
    """Fit and predict."""
    data = np.load(source, allow_pickle=False)
    settings = json.loads(str(data["settings"]))
    expert = Recorded(data["rows"], data["answers"])
    np.random.seed(settings["seed"])  # noqa: NPY002  Trustee draws from the global generator
    start = time.perf_counter()
    model = ClassificationTrustee(expert=expert)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(
            data["rows"],
            data["answers"],
            max_leaf_nodes=settings["leaves"],
            top_k=settings["leaves"],
            num_iter=settings["num_iter"],
            num_stability_iter=settings["num_stability_iter"],
            samples_size=settings["samples_size"],
        )
    tree = model.explain(top_k=settings["leaves"])[0]
    seconds = time.perf_counter() - start
    said = tree.predict(data["fresh"])
    np.savez(out, said=said, asked=len(expert.asked), leaves=tree.get_n_leaves(), seconds=seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
