"""Anchors: planted rules are found, precision is what fresh rows say, and the same comes out whatever is explained together."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from locum.core.domain import Domain
from locum.core.errors import FormatError, InvalidData
from locum.core.program import Condition
from locum.core.target import Target
from locum.explain.anchors import Anchor, AnchorExplainer
from locum.targets.recorded import recorded

X = np.random.default_rng(0).uniform(size=(600, 6))


def both(X):
    return np.where((X[:, 1] > 0.5) & (X[:, 4] <= 0.4), "in", "out")


def target(function, **settings):
    return Target(function, name="black box", **settings)


# ------------------------------------------------------------------ known answers
def test_the_planted_rule_is_found():
    (found,) = AnchorExplainer(target(both), X).explain(np.array([[0.5, 0.9, 0.5, 0.5, 0.1, 0.5]]))
    assert found.reached
    first, second = found.conditions
    assert (first.column, first.high) == (1, None)
    assert first.low == pytest.approx(0.5, abs=0.02)
    assert (second.column, second.low) == (4, None)
    assert second.high == pytest.approx(0.4, abs=0.02)
    assert found.answer == "in"
    assert found.precision.value > 0.95
    assert found.precision.measure == "precision"
    assert found.precision.n > 300
    assert found.coverage.value == pytest.approx(0.2, abs=0.04)


def test_one_of_two_reasons_is_enough_and_the_wider_one_is_told():
    rows = np.array([[0.5, 0.1, 0.5, 0.5, 0.95, 0.5]])
    (found,) = AnchorExplainer(target(both), X).explain(rows)
    assert len(found.conditions) == 1
    condition = found.conditions[0]
    # Beyond 0.4 lie six tenths of the data, below 0.5 five.
    assert condition.column == 4
    assert condition.low == pytest.approx(0.4, abs=0.06)
    assert found.coverage.value > 0.5


def test_where_the_answer_is_nearly_always_the_same_there_is_nothing_to_say():
    (found,) = AnchorExplainer(target(lambda X: (X[:, 0] > 0.999).astype(int)), X).explain(X[:1])
    assert found.conditions == ()
    assert found.coverage.value == 1.0
    assert found.text().splitlines()[0] == "IF always THEN 0"


def test_what_no_rule_explains_is_said_to_be_unexplained():
    def noise(X):
        return (np.floor(1e4 * np.abs(np.sin(1e4 * X.sum(axis=1)))).astype(int) % 2).astype(int)

    (found,) = AnchorExplainer(target(noise), X, max_conditions=2).explain(X[:1])
    assert not found.reached
    assert found.precision.upper < 0.95
    assert "no rule was found" in found.text()


def test_the_stated_precision_holds():
    def soft(X):
        return (X[:, 0] + 0.3 * np.sin(20 * X[:, 1]) > 0.5).astype(int)

    data = np.random.default_rng(1).uniform(size=(4000, 6))
    found = AnchorExplainer(target(soft), data).explain(X[:20])
    fresh = np.random.default_rng(9).uniform(size=(20_000, 6))
    inside = []
    for anchor, x in zip(found, X, strict=False):
        under = fresh[anchor.holds(fresh)]
        true = (soft(under) == soft(x[None])).mean()
        inside.append(anchor.precision.lower - 0.02 <= true <= anchor.precision.upper + 0.02)
    assert np.mean(inside) >= 0.9


def test_categories_and_missing_values_are_conditions():
    rng = np.random.default_rng(0)
    rows = np.empty((800, 3), dtype=object)
    rows[:, 0] = rng.choice(["blue", "green", "red"], 800)
    rows[:, 1] = rng.normal(size=800)
    rows[:, 2] = rng.normal(size=800)
    rows[rng.random(800) < 0.4, 2] = None

    def black_box(X):
        return ((X[:, 0] == "red") & pd.isna(X[:, 2])).astype(int)

    (found,) = AnchorExplainer(target(black_box), rows).explain(np.array([["red", 0.3, None]], dtype=object))
    assert found.text().splitlines()[0] == "IF x0 is red and x2 is missing THEN 1"
    assert found.precision.value == 1.0
    encoded = Domain.of(rows).encode(rows)
    np.testing.assert_array_equal(found.holds(encoded), black_box(rows) == 1)


def test_probabilities_go_by_the_likeliest_class():
    def black_box(X):
        p = np.where(X[:, 2] > 0.5, 0.7, 0.2)
        return np.column_stack([1 - p, p])

    (found,) = AnchorExplainer(target(black_box, output="probability"), X).explain(X[X[:, 2] > 0.8][:1])
    assert [condition.column for condition in found.conditions] == [2]
    assert found.answer == pytest.approx([0.3, 0.7])


def test_values_count_as_the_same_within_a_tolerance():
    black_box = target(lambda X: 10 * np.floor(2 * X[:, 3]) + X[:, 0], output="value")
    (found,) = AnchorExplainer(black_box, X, tolerance=2.0).explain(X[X[:, 3] > 0.8][:1])
    assert [condition.column for condition in found.conditions] == [3]
    assert found.conditions[0].low == pytest.approx(0.5, abs=0.02)
    assert found.tolerance == 2.0
    (loose,) = AnchorExplainer(black_box, X).explain(X[:1])
    assert loose.tolerance == pytest.approx(0.5 * black_box.query(X).std(), rel=0.1)
    assert "give or take" in loose.text()


# ------------------------------------------------------------------ same numbers, few questions
def test_alone_or_among_others_in_any_order_and_twice():
    together = AnchorExplainer(target(both), X).explain(X[:6])
    backwards = AnchorExplainer(target(both), X[::-1]).explain(X[:6][::-1])
    for i, found in enumerate(together):
        (alone,) = AnchorExplainer(target(both), X).explain(X[i : i + 1])
        assert alone.to_dict() == found.to_dict() == backwards[5 - i].to_dict()


def test_a_stage_is_one_question_for_all_rows():
    calls = []
    counted = target(lambda X: calls.append(len(X)) or both(X), batch_size=10**6)
    found = AnchorExplainer(counted, X, max_conditions=3).explain(X[:40])
    assert len(calls) <= 1 + 1 + 3 + 1
    assert max(len(one.conditions) for one in found) == 2
    assert counted.fresh(X[:40]).all()


def test_json_and_back():
    for found in AnchorExplainer(target(both), X).explain(X[:3]):
        again = Anchor.from_dict(json.loads(json.dumps(found.to_dict())))
        assert again == found
        assert str(again) == str(found)
    with pytest.raises(FormatError, match="anchor record of format 1"):
        Anchor.from_dict({"format": 9})
    with pytest.raises(FormatError, match="not an anchor"):
        Anchor.from_dict({"format": 1})
    assert all(isinstance(condition, Condition) for condition in again.conditions)


# ------------------------------------------------------------------ refused
def test_bad_settings_are_refused_before_anything_is_asked():
    calls = []
    counted = target(lambda X: calls.append(1) or both(X))
    with pytest.raises(InvalidData, match="threshold= between 0 and 1"):
        AnchorExplainer(counted, X, threshold=95)
    with pytest.raises(InvalidData, match=r"samples= of at least \d+ for a precision of 0.99"):
        AnchorExplainer(counted, X, threshold=0.99, samples=100)
    with pytest.raises(InvalidData, match="max_conditions= to be a whole number of 1 or more"):
        AnchorExplainer(counted, X, max_conditions=0)
    with pytest.raises(InvalidData, match="tolerance= of more than 0"):
        AnchorExplainer(counted, X, tolerance=-1.0)
    with pytest.raises(InvalidData, match="only has recorded answers"):
        AnchorExplainer(recorded(X, both(X)), X)
    assert not calls
    with pytest.raises(InvalidData, match="are for targets of values"):
        AnchorExplainer(counted, X, tolerance=1.0).explain(X[:1])
