"""Counterfactuals: they cross where the black box was planted to, keep to what is allowed, and are what the target says."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from locum.core.errors import FormatError, InvalidData
from locum.core.target import Target
from locum.explain.counterfactual import CounterfactualExplainer, Counterfactuals
from locum.targets.recorded import recorded

X = np.random.default_rng(0).uniform(size=(400, 5))


def high(X):
    return np.where(X[:, 1] > 0.6, "high", "low")


def either(X):
    return ((X[:, 0] > 0.7) | (X[:, 3] + X[:, 4] > 1.5)).astype(int)


def target(function, **settings):
    return Target(function, name="black box", **settings)


def changed(one):
    return {change.column: change.after for change in one.changes}


# ------------------------------------------------------------------ known answers
def test_it_crosses_where_the_threshold_was_planted():
    (found,) = CounterfactualExplainer(target(high), X).explain(np.array([[0.5, 0.2, 0.5, 0.5, 0.5]]))
    assert len(found) == 1  # with any other change beside it, it would say nothing more
    (one,) = found
    assert list(changed(one)) == ["x1"]
    assert 0.6 < changed(one)["x1"] < 0.6001
    assert one.distance == pytest.approx((changed(one)["x1"] - 0.2) / X[:, 1].std())
    assert one.answer == "high"
    assert found.wanted == "any other than low"
    # Just across the threshold, about half of all small changes lead back.
    assert one.robustness.measure == "robustness"
    assert 0.2 < one.robustness.value < 0.8


def test_different_ways_are_told_nearest_first():
    x = np.array([[0.5, 0.5, 0.5, 0.6, 0.6]])
    (found,) = CounterfactualExplainer(target(either), X).explain(x)
    ways = [set(changed(one)) for one in found]
    assert {"x0"} in ways
    assert any(way <= {"x3", "x4"} for way in ways)
    assert not any(a < b for a in ways for b in ways)
    likely = [one.distance for one in found if one.inside]
    assert likely == sorted(likely)


def test_everything_told_is_what_the_target_says():
    rows = X[either(X) == 0][:15]
    black_box = target(either)
    for x, found in zip(rows, CounterfactualExplainer(black_box, X).explain(rows), strict=True):
        assert 1 <= len(found) <= 3
        for one in found:
            assert either(np.array([one.row]))[0] == one.answer == 1
            apart = np.flatnonzero(np.array(one.row) != x)
            assert [change.column for change in one.changes] == [f"x{j}" for j in apart]
            assert [change.before for change in one.changes] == x[apart].tolist()
            assert one.inside == (one.novelty <= one.threshold)
            # None of the changes can be left out.
            for j in apart:
                back = np.array([one.row])
                back[0, j] = x[j]
                assert either(back)[0] == 0


def test_of_many_changes_only_those_that_matter_are_left():
    def votes(X):  # a label says nothing of how near the other one is
        return ((X[:, :7] > 0.5).sum(axis=1) + (X[:, 7] * X[:, 8] > 0.3) > 5).astype(int)

    wide = np.random.default_rng(0).uniform(size=(800, 24))
    rows = wide[votes(wide) == 0][:10]
    for x, found in zip(rows, CounterfactualExplainer(target(votes), wide).explain(rows), strict=True):
        for one in found:
            for change in one.changes:
                back = np.array([one.row])
                back[0, int(change.column[1:])] = change.before
                assert votes(back)[0] == 0
        assert min(len(one.changes) for one in found) <= 6 - (x[:7] > 0.5).sum()


def test_values_are_moved_into_a_range():
    black_box = target(lambda X: 10 * X[:, 2] + X[:, 0], output="value")
    x = np.array([[0.5, 0.5, 0.2, 0.5, 0.5]])
    for wanted, words in (((6.0, None), "at least 6"), ((6.0, 7.0), "6 to 7"), ((None, 1.0), "at most 1")):
        (found,) = CounterfactualExplainer(black_box, X, wanted=wanted).explain(x)
        assert found.wanted == words
        one = found.found[0]
        assert (wanted[0] or -9) <= one.answer <= (wanted[1] or 99)
        assert one.answer == pytest.approx(1.0 if wanted[0] is None else 6.0, abs=0.01)


def test_probabilities_go_by_the_likeliest_class():
    def black_box(X):
        raised = np.exp(3 * X[:, :3])
        return raised / raised.sum(axis=1, keepdims=True)

    x = np.array([[0.9, 0.3, 0.4, 0.5, 0.5]])
    explainer = CounterfactualExplainer(target(black_box, output="probability", classes=["a", "b", "c"]), X, wanted="b")
    (found,) = explainer.explain(x)
    one = found.found[0]
    assert np.argmax(one.answer) == 1
    assert set(changed(one)) <= {"x0", "x1", "x2"}
    assert found.answer == pytest.approx(black_box(x)[0].tolist())


def mixed(n=500, seed=0):
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "job": rng.choice(["clerk", "nurse", "smith"], n),
            "age": rng.integers(18, 80, n),
            "income": rng.normal(30, 8, n).round(1),
        }
    )
    rows.loc[rng.random(n) < 0.2, "income"] = np.nan
    return rows


def test_categories_whole_numbers_and_missing_values():
    def black_box(rows):
        return np.where((rows["job"] == "nurse") | (rows["age"] > 50) | rows["income"].isna(), "yes", "no")

    rows = mixed()
    x = pd.DataFrame({"job": ["clerk"], "age": [30], "income": [25.0]})
    (found,) = CounterfactualExplainer(target(black_box), rows).explain(x)
    ways = [changed(one) for one in found]
    assert {"job": "nurse"} in ways
    assert {"age": 51} in ways
    assert {"income": None} in ways
    assert {one.changes[0].column: one.distance for one in found}["job"] == 1.0
    assert "income: 25 -> missing" in found.text()


# ------------------------------------------------------------------ what is allowed
def test_only_allowed_changes_are_made():
    x = np.array([[0.5, 0.5, 0.5, 0.6, 0.6]])
    (found,) = CounterfactualExplainer(target(either), X, fixed=["x0", "x4"]).explain(x)
    assert [list(changed(one)) for one in found] == [["x3"]]
    assert changed(found.found[0])["x3"] == pytest.approx(0.9, abs=1e-3)

    def middle(X):
        return (np.abs(X[:, 2] - 0.5) > 0.3).astype(int)

    for settings, end in (({"increase": ["x2"]}, 0.8), ({"decrease": [2]}, 0.2)):
        (found,) = CounterfactualExplainer(target(middle), X, **settings).explain(np.full((1, 5), 0.5))
        assert [list(changed(one)) for one in found] == [["x2"]]
        assert changed(found.found[0])["x2"] == pytest.approx(end, abs=1e-3)


def test_where_nothing_allowed_will_do_that_is_said():
    (found,) = CounterfactualExplainer(target(high), X, fixed=["x1"]).explain(np.array([[0.5, 0.2, 0.5, 0.5, 0.5]]))
    assert len(found) == 0
    assert "no allowed change to it was found" in found.text()


def test_a_crossing_in_the_middle_of_its_side_is_robust():
    def far(X):  # a gap in the data lies between the two answers
        return (X[:, 0] > 5).astype(int)

    rows = np.random.default_rng(0).normal(size=(400, 2))
    rows[:200, 0] += 20
    (edge,) = CounterfactualExplainer(target(far), rows).explain(rows[200:201])
    black_box = target(lambda X: X[:, 0], output="value")
    (deep,) = CounterfactualExplainer(black_box, rows, wanted=(19.0, 21.0)).explain(rows[200:201])
    assert edge.found[0].robustness.value < 0.9
    assert deep.found[0].robustness.n > 50


# ------------------------------------------------------------------ same numbers, few questions
@pytest.mark.parametrize("output", ["class", "value"])
def test_alone_or_among_others_in_any_order_and_twice(output):
    rows = X[either(X) == 0][:5]
    settings = {"wanted": (1, 1)} if output == "value" else {}

    def explain(data, rows):
        return CounterfactualExplainer(target(either, output=output), data, **settings).explain(rows)

    together, backwards = explain(X, rows), explain(X, rows[::-1])
    for i, found in enumerate(together):
        (alone,) = explain(X, rows[i : i + 1])
        assert alone.to_dict() == found.to_dict() == backwards[4 - i].to_dict()


def test_all_rows_go_through_a_step_together():
    calls = []
    counted = target(lambda X: calls.append(len(X)) or either(X), batch_size=10**6)
    CounterfactualExplainer(counted, X).explain(X[either(X) == 0][:40])
    assert len(calls) <= 26


def test_json_and_back():
    for found in CounterfactualExplainer(target(either), X).explain(X[either(X) == 0][:2]):
        again = Counterfactuals.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
        assert again == found
        assert str(again) == str(found)
    with pytest.raises(FormatError, match="counterfactuals of format 1"):
        Counterfactuals.from_dict({"format": 9})
    with pytest.raises(FormatError, match="not counterfactuals"):
        Counterfactuals.from_dict({"format": 1})


def test_few_rows_of_data_cannot_say_what_is_unlike_them():
    (found,) = CounterfactualExplainer(target(high), X[:30]).explain(np.array([[0.5, 0.2, 0.5, 0.5, 0.5]]))
    assert found.found[0].threshold == np.inf
    assert Counterfactuals.from_dict(json.loads(json.dumps(found.to_dict()))) == found


# ------------------------------------------------------------------ refused
def test_bad_settings_are_refused_before_anything_is_asked():
    calls = []
    counted = target(lambda X: calls.append(1) or high(X), classes=["high", "low"])
    for settings, message in (
        ({"fixed": "x1"}, r"expected fixed= to be a list of columns, got the text 'x1'"),
        ({"fixed": ["x9"]}, "fixed= names column 'x9'"),
        ({"fixed": range(5)}, "every column is fixed"),
        ({"increase": [1], "decrease": ["x1"]}, "in increase= and in decrease="),
        ({"count": 0}, "count= to be a whole number of 1 or more"),
    ):
        with pytest.raises(InvalidData, match=message):
            CounterfactualExplainer(counted, X, **settings)
    with pytest.raises(InvalidData, match="only has recorded answers"):
        CounterfactualExplainer(recorded(X, high(X)), X)
    with pytest.raises(InvalidData, match="'job' holds categories"):
        CounterfactualExplainer(counted, mixed(), increase=["job"])
    assert not calls


def test_wanted_answers_that_cannot_be_are_refused():
    low = np.array([[0.5, 0.2, 0.5, 0.5, 0.5]])
    with pytest.raises(InvalidData, match="row 0 is already answered as wanted"):
        CounterfactualExplainer(target(high), X, wanted="low").explain(low)
    with pytest.raises(InvalidData, match="one of the classes"):
        CounterfactualExplainer(target(high, classes=["high", "low"]), X, wanted="higher").explain(low)
    black_box = target(lambda X: X[:, 0], output="value")
    for wanted in (None, (None, None), 3.0):
        with pytest.raises(InvalidData, match=r"expected wanted=\(low, high\)"):
            CounterfactualExplainer(black_box, X, wanted=wanted).explain(low)
    with pytest.raises(InvalidData, match="low <= high"):
        CounterfactualExplainer(black_box, X, wanted=(2, 1)).explain(low)
