"""Every way to a target keeps the contract of targets."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge

import locum
from locum.core.domain import Domain
from locum.targets import recorded
from locum.testing import target_checks

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(10, 3)).round(3)
MIXED = np.array([[i / 7, "ab"[i % 2], None if i == 3 else float(i)] for i in range(9)], dtype=object)
LABELS = np.where(ROWS[:, 0] > 0, "up", "down")
FOREST = RandomForestClassifier(5, random_state=0).fit(ROWS, LABELS)


def counted(X):
    return [len(str(row[1])) + float(row[0]) for row in X]


CASES = {
    "function": (partial(locum.target, partial(np.linalg.norm, axis=1), output="value", name="norm"), ROWS, []),
    "function of mixed rows": (partial(locum.target, counted, domain=Domain.of(MIXED)), MIXED, [MIXED[:, ::-1]]),
    "module:function": (partial(locum.target, "numpy:ravel"), ROWS[:, :1], []),
    "classifier": (partial(locum.target, FOREST), ROWS, [ROWS[:, :2]]),
    "probabilities": (partial(locum.target, FOREST, method="predict_proba"), ROWS, [ROWS[:, :2]]),
    "scores": (partial(locum.target, LogisticRegression().fit(ROWS, LABELS), method="decision_function"), ROWS, []),
    "regressor": (partial(locum.target, Ridge().fit(ROWS, ROWS[:, 0])), ROWS, [ROWS * np.nan]),
    "recorded answers": (partial(recorded, ROWS, LABELS), ROWS, [ROWS + 1]),
    "recorded values": (partial(recorded, ROWS, ROWS[:, 0]), ROWS, [ROWS + 1]),
}
RUNS = [(case, name, run) for case, (make, rows, bad) in CASES.items() for name, run in target_checks(make, rows, refused=bad)]


@pytest.mark.parametrize(("case", "name", "run"), RUNS, ids=[f"{case}, {name}" for case, name, _ in RUNS])
def test_contract(case, name, run):
    run()
