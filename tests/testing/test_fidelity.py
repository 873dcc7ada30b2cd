"""Checks of measures: a sound one passes, and each fault is caught by the check that is for it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from locum.core.bounds import Interval
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.measures import MAE, RMSE, Agreement, Measure, RowMeasure
from locum.testing import CheckFailed, check_fidelity, fidelity_checks


class Within(RowMeasure):
    """Share of rows whose prediction is within a quarter of the answer."""

    name = "within_a_quarter"
    kind = "value"

    def scores(self, truth, prediction):
        return (np.abs(truth - prediction) < 0.25).astype(float)


def test_a_measure_of_ones_own_passes():
    check_fidelity(Within())
    assert "parts and whole" in {name for name, _ in fidelity_checks(Within())}
    assert "parts and whole" not in {name for name, _ in fidelity_checks(RMSE())}


def test_own_data_and_known_values():
    truth = np.arange(40.0)
    check_fidelity(MAE(), truth=truth, prediction=truth + np.sin(truth), worst=10.0)
    with pytest.raises(CheckFailed, match="10 instead of 9"):
        check_fidelity(MAE(), truth=truth, prediction=truth + np.sin(truth), worst=9.0)
    with pytest.raises(CheckFailed, match="1 instead of 2"):
        check_fidelity(Agreement(), best=2.0)


# ------------------------------------------------------------------ what is not
class Sound(Measure):
    """Mean absolute error with a normal interval: the ground that faults are put in."""

    name = "sound"
    kind = "value"
    greater_is_better = False

    def errors(self, truth, prediction):
        return np.abs(truth - prediction)

    def estimate(self, truth, prediction, *, weights, groups, level, random_state):
        from scipy.stats import norm

        errors = self.errors(truth, prediction)
        w = np.ones(len(errors)) if weights is None else weights / weights.mean()
        value = self.mean(errors, w)
        units = np.arange(len(errors)) if groups is None else groups
        pulls = np.bincount(units, w * (errors - value))
        spread = np.sqrt((pulls**2).sum()) / w.sum() + 1e-3 / np.sqrt(len(np.unique(units)))
        reach = norm.ppf((1 + level) / 2) * spread
        return value, self.interval(value, reach, level)

    def mean(self, errors, w):
        return float(w @ errors / w.sum())

    def interval(self, value, reach, level):
        return Interval(max(0.0, value - reach), value + reach, level, "normal")


class Shifted(Sound):
    def errors(self, truth, prediction):
        return super().errors(truth, prediction) + 0.1


class TooGood(Sound):
    def errors(self, truth, prediction):
        return super().errors(truth, prediction) * (len(np.unique(prediction)) > 1)


class FirstCounts(Sound):
    def mean(self, errors, w):
        return super().mean(errors, w) + errors[0]


class Unweighted(Sound):
    def mean(self, errors, w):
        return float(errors.mean())


class OneWidth(Sound):
    def interval(self, value, reach, level):
        return super().interval(value, 0.1, level)


class NoWidth(Sound):
    def interval(self, value, reach, level):
        return super().interval(value, 0.0, level)


class Groupless(Sound):
    def estimate(self, truth, prediction, *, weights, groups, level, random_state):
        return super().estimate(truth, prediction, weights=weights, groups=None, level=level, random_state=random_state)


class GroupsWiden(Sound):
    def estimate(self, truth, prediction, *, weights, groups, level, random_state):
        value, found = super().estimate(
            truth, prediction, weights=weights, groups=groups, level=level, random_state=random_state
        )
        wider = 0.0 if groups is None else 0.05
        return value, Interval(found.lower, found.upper + wider, level, "normal")


class Drifts(Sound):
    calls = itertools.count()

    def mean(self, errors, w):
        return super().mean(errors, w) * (1 + next(self.calls) / 1000)


class MovesNumpy(Sound):
    def mean(self, errors, w):
        np.random.random()  # noqa: NPY002 - the fault
        return super().mean(errors, w)


class ReadsAnything(Sound):
    """Its own reading lets NaN through."""

    def fidelity(self, truth, prediction, **settings):
        good = ~(np.isnan(truth) | np.isnan(prediction[: len(truth)])) if len(prediction) == len(truth) else slice(None)
        return super().fidelity(np.asarray(truth)[good], np.asarray(prediction)[good], **settings)


class DependsOnTheRest(Within):
    def scores(self, truth, prediction):
        errors = np.abs(truth - prediction)
        return ((errors < errors.max()) | (errors == 0)).astype(float)


class OffTheBounds(Sound):
    def fidelity(self, truth, prediction, **settings):
        found = super().fidelity(truth, prediction, **settings)
        object.__setattr__(found, "lower", found.upper)
        return found


FAULTS = [
    (Shifted, "perfect copy", "0.1 instead of 0"),
    (NoWidth, "perfect copy", "no width"),
    (TooGood, "constant", "as good as a perfect copy"),
    (FirstCounts, "order of rows", "numbers that differ"),
    (DependsOnTheRest, "parts and whole", "from the halves"),
    (Unweighted, "weights are repeats", " and "),
    (OffTheBounds, "bounds hold the value", "sound"),
    (NoWidth, "bounds hold the value", "without width"),
    (OneWidth, "level and candidates", "the same width"),
    (OneWidth, "more rows", "no narrower"),
    (GroupsWiden, "groups", "for groups of one row"),
    (Groupless, "groups", "for groups of four equal rows"),
    (ReadsAnything, "bad data refused", "no error for NaN in truth"),
    (Drifts, "same numbers again", " and sound"),
    (MovesNumpy, "same numbers again", "moved on"),
]


def test_the_ground_of_the_faults_is_sound():
    check_fidelity(Sound())


@pytest.mark.parametrize(("fault", "name", "came"), FAULTS, ids=[f"{fault.__name__}, {name}" for fault, name, _ in FAULTS])
def test_each_fault_is_caught_by_its_check(fault, name, came):
    with pytest.raises(CheckFailed, match=came) as caught:
        dict(fidelity_checks(fault()))[name]()
    assert caught.value.check == name


def test_every_check_has_a_fault_that_it_catches():
    assert {name for _, name, _ in FAULTS} == {name for name, _ in fidelity_checks(Within())}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_fidelity("r2"), "expected a Measure whose kind is one of class, probability"),
        (lambda: check_fidelity(MAE(), truth=[1.0]), "together, got one of them"),
        (lambda: check_fidelity(MAE(), skip="bonds hold the value"), "one of them is 'bounds hold the value'"),
    ],
)
def test_what_cannot_be_checked_is_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
    assert isinstance(MAE().fidelity([1.0, 2.0, 4.0], [1.0, 2.5, 4.0]), Fidelity)
