"""Estimates and tables; drawing rows for experts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.infer import Estimates, Table, sample_labels


def test_intervals_are_students_where_the_degrees_of_freedom_are_known():
    known = Estimates("OLS", ("a", "b"), np.array([1.0, -2.0]), np.diag([0.25, 1.0]), freedom=np.array([3.0, np.inf]))
    np.testing.assert_allclose(known.conf_int()[:, 1] - known.params, [3.18245 * 0.5, 1.95996], rtol=1e-5)
    np.testing.assert_allclose(known.pvalues, [0.139326, 0.0455003], rtol=1e-4)  # |t| = 2 with 3 degrees, |z| = 2


def estimates():
    return Estimates("OLS", ("a", "b"), np.array([1.0, -2.0]), np.array([[0.25, 0.1], [0.1, 1.0]]), {"Rows": "10"}, ("a note",))


def test_intervals_and_tests_are_normal():
    found = estimates()
    np.testing.assert_allclose(found.bse, [0.5, 1.0])
    np.testing.assert_allclose(found.zvalues, [2.0, -2.0])
    np.testing.assert_allclose(found.pvalues, 0.0455002639, atol=1e-9)
    np.testing.assert_allclose(found.conf_int(0.05)[0], 1 + 0.5 * 1.959963985 * np.array([-1, 1]))


def test_a_summary_says_everything():
    text = str(estimates().summary(0.1))
    for part in ("OLS", "Rows: 10", "coef", "std err", "[0.05", "0.95]", "-2.0000", "a note"):
        assert part in text
    assert str(estimates()) == str(estimates().summary()) == repr(estimates().summary())
    assert len({len(line) for line in str(Table("t", ("", "x"), (("a", 1.0), ("b", 22.5)))).splitlines()[3:-1]} - {64}) == 1


def test_as_plain_numbers():
    record = json.loads(json.dumps(estimates().to_dict()))
    assert record["vcov"] == [[0.25, 0.1], [0.1, 1.0]]
    assert json.loads(json.dumps(estimates().summary().to_dict()))["rows"][1]["coef"] == -2.0


@pytest.mark.parametrize("alpha", [0, 1.0, "5%", True])
def test_alpha_is_a_probability(alpha):
    with pytest.raises(InvalidData, match="expected alpha between 0 and 1"):
        estimates().conf_int(alpha)


# ---------------------------------------------------------------------- drawing
def test_probabilities_are_those_of_the_drawing():
    strata = np.array(["no"] * 900 + ["yes"] * 100)
    drawn = np.zeros(1000)
    for seed in range(400):
        design = sample_labels(np.zeros((1000, 2)), 100, strata=strata, rates={"no": 1, "yes": 5}, seed=seed)
        assert design.labeled.sum() == len(design.rows) == 100
        drawn += design.labeled
    assert design.sampling_prob[-1] / design.sampling_prob[0] == pytest.approx(5, rel=0.05)
    assert np.bincount(strata == "yes", weights=design.sampling_prob).round(9).tolist() == [64.0, 36.0]
    gap = (drawn / 400 - design.sampling_prob) / np.sqrt(design.sampling_prob * (1 - design.sampling_prob) / 400)
    assert np.abs(gap).max() < 4.5


def test_whole_groups_are_drawn():
    groups = np.repeat(np.arange(50), 4)
    design = sample_labels({"g": groups}, 10, groups="g", seed=2)
    assert len(design.rows) == 40
    assert len(np.unique(groups[design.rows])) == 10
    assert (design.sampling_prob == 0.2).all()


def test_every_stratum_has_a_row():
    design = sample_labels(np.zeros((1000, 1)), 5, strata=[0] * 999 + [1])
    assert design.labeled[-1]
    assert design.sampling_prob[0] == pytest.approx(4 / 999)


def test_same_seed_same_rows():
    a, b, c = (sample_labels(np.zeros((100, 1)), 10, seed=seed).rows for seed in (1, 1, 2))
    assert (a == b).all()
    assert (a != c).any()


def test_experts_are_asked_once_and_with_a_purpose():
    rows = np.arange(40.0)[:, None]
    expert = Target(lambda X: X[:, 0] * 2.0, name="expert", price=0.5)
    design = sample_labels(rows, 8)
    labels = design.ask(expert, rows)
    assert (labels[design.rows] == 2 * rows[design.rows, 0]).all()
    assert np.isnan(labels).sum() == 32
    design.ask(expert, rows)
    assert expert.account().money == 4.0
    assert not expert.fresh(rows[design.rows]).any()
    with pytest.raises(InvalidData, match="expected the 40 rows that were drawn from, got 3"):
        design.ask(expert, rows[:3])
    with pytest.raises(InvalidData, match="expected one number a row from the expert"):
        design.ask(Target(lambda X: np.array(["yes"] * len(X)), name="words"), rows)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"n": 0}, "expected n= between 1 and the 10 rows"),
        ({"n": 11}, "expected n= between 1 and the 10 rows"),
        ({"n": 1, "strata": [0, 1] * 5}, "at least one row a stratum, 2 in all, got 1"),
        ({"n": 4, "strata": [0, 1] * 5, "rates": {0: 1}}, "a rate for each stratum, got none for 1"),
        ({"n": 4, "strata": [0, 1] * 5, "rates": {0: 1, 1: 0}}, "rows that can never be drawn"),
        ({"n": 4, "strata": [0, 1]}, "one value for each of 10 rows"),
        ({"n": 4, "strata": "q"}, "expected strata= to be a column"),
        ({"n": 4, "strata": [0, np.nan] * 5}, "expected a value in every row, got 5 missing"),
        ({"n": 2, "strata": [0, 1] * 5, "groups": [0] * 5 + [1] * 5}, "strata that do not vary within a group"),
    ],
)
def test_drawings_that_are_refused(how, message):
    with pytest.raises(InvalidData, match=message):
        sample_labels(np.zeros((10, 1)), **how)
