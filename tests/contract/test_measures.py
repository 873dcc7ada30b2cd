"""Every measure keeps the contract of measures."""

from __future__ import annotations

import pytest

from locum.core.measures import MEASURES
from locum.testing import fidelity_checks

# What a stand-in scores that always says the same, where the formula tells: one class in three, or the mean.
WORST = {"cohen_kappa": 0.0, "balanced_agreement": 1 / 3, "r2": 0.0}
RUNS = [(one, name, run) for one, found in MEASURES.items() for name, run in fidelity_checks(found, worst=WORST.get(one))]


@pytest.mark.parametrize(("measure", "name", "run"), RUNS, ids=[f"{measure}, {name}" for measure, name, _ in RUNS])
def test_contract(measure, name, run):
    run()


def test_known_values_are_of_measures():
    assert set(WORST) <= set(MEASURES)
