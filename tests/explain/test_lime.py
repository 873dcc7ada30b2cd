"""LIME: exact on linear models, local on others, intervals that hold, and few questions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.explain.lime import LimeExplainer
from locum.targets.recorded import recorded

X = np.random.default_rng(0).normal(size=(300, 4)) * [1.0, 10.0, 0.1, 2.0] + [0, 5, 1, -3]
SLOPES = np.array([2.0, -0.3, 15.0, 0.0])


def value(function, **settings):
    return Target(function, name="black box", output="value", **settings)


def linear(X):
    return X @ SLOPES + 7


def bent(X):
    return np.sin(2 * X[:, 0]) + 0.02 * X[:, 1] * X[:, 3] + (X[:, 2] > 1)


# ------------------------------------------------------------------ known answers
def test_a_linear_model_is_explained_exactly():
    for found, x in zip(LimeExplainer(value(linear), X, samples=400).explain(X[:5]), X, strict=False):
        assert found.base + found.values.sum() == pytest.approx(linear(x[None])[0], abs=1e-8)
        assert found.values[3] == pytest.approx(0.0, abs=1e-8)
        np.testing.assert_allclose(found.upper - found.lower, 0, atol=1e-8)
        assert found.fidelity.measure == "r2"
        assert found.fidelity.value == pytest.approx(1.0)


def test_a_value_is_the_slope_times_the_distance_from_near_rows():
    def other(X):
        return X @ [1.0, 1.0, 1.0, 1.0]

    first, second = (LimeExplainer(value(f), X, samples=400).explain(X[:3]) for f in (linear, other))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a.values, SLOPES * b.values, atol=1e-8)
    # When nearly all rows count as near, that is the distance from the mean.
    (wide,) = LimeExplainer(value(other), X, samples=400, near=0.999).explain(X[:1])
    np.testing.assert_allclose(wide.values, X[0] - X.mean(axis=0), rtol=0.1, atol=0.05 * X.std(axis=0).max())


def test_what_is_explained_is_local():
    def either(X):
        return np.where(X[:, 0] > 0, X[:, 1], 5 * X[:, 3])

    rows = np.array([[2.5, 15.0, 1.0, -5.0], [-2.5, 15.0, 1.0, -5.0]])
    right, left = LimeExplainer(value(either), X, near=0.1).explain(rows)
    assert right.values[1] > 10 * abs(right.values[3])
    assert left.values[3] < -3
    assert abs(left.values[1]) < 0.3 * right.values[1]


def colours(n=400, seed=0):
    rng = np.random.default_rng(seed)
    columns = [rng.choice(["blue", "green", "red"], n), rng.choice(["a", "b"], n), rng.normal(size=n)]
    return np.column_stack([np.asarray(column, dtype=object) for column in columns])


def test_a_category_adds_what_keeping_it_does():
    rows = colours()
    target = Target(lambda X: np.where(X[:, 0] == "red", "yes", "no"), name="red")
    red = rows[rows[:, 0] == "red"][:1]
    (found,) = LimeExplainer(target, rows, near=0.99).explain(red)
    share = (rows[:, 0] == "red").mean()
    assert found.output == "the answer yes"
    np.testing.assert_allclose(found.values, [1 - share, 0, 0], atol=0.03)
    assert found.base + found.values.sum() == pytest.approx(1.0)
    assert found.text().splitlines()[2].startswith("x0 = red")


def test_missing_values_are_explained_as_such():
    rows = np.random.default_rng(1).normal(size=(400, 3))
    rows[np.random.default_rng(2).random(400) < 0.4, 1] = np.nan
    target = value(lambda X: np.where(np.isnan(X[:, 1]), 5.0, 0.0) + X[:, 0])
    missing = rows[np.isnan(rows[:, 1])][:1]
    (found,) = LimeExplainer(target, rows, near=0.99).explain(missing)
    assert found.values[1] == pytest.approx(5 * (1 - np.isnan(rows[:, 1]).mean()), abs=0.5)
    assert found.row[1] is None
    assert "x1 = missing" in found.text()
    # A number that is known has no slope that missing values could tell of.
    (known,) = LimeExplainer(value(lambda X: X[:, 0]), rows).explain(rows[~np.isnan(rows[:, 1])][:1])
    np.testing.assert_allclose(known.values[1:], 0, atol=1e-8)


def test_few_terms_are_the_planted_ones():
    wide = np.random.default_rng(0).normal(size=(500, 30))
    target = value(lambda X: 3 * X[:, 4] - 2 * X[:, 17] + 0.3 * np.abs(X[:, 2]))
    (found,) = LimeExplainer(target, wide, max_terms=2, samples=3000).explain(wide[:1] + 1)
    assert set(np.flatnonzero(found.values)) == {4, 17}
    assert np.isnan(np.delete(found.lower, [4, 17])).all()
    assert np.isfinite(found.lower[[4, 17]]).all()


def test_what_never_changes_is_foretold_without_error():
    target = Target(lambda X: np.zeros(len(X), dtype=int), name="constant", classes=[0, 1])
    (found,) = LimeExplainer(target, X, samples=400).explain(X[:1])
    assert (found.values == 0).all()
    assert (found.fidelity.measure, found.fidelity.value) == ("agreement", 1.0)


# ------------------------------------------------------------------ which answer is explained
def test_probabilities_of_the_own_class_or_of_one_that_is_named():
    def black_box(X):
        p = 1 / (1 + np.exp(-X[:, 0]))
        return np.column_stack([1 - p, p])

    target = Target(black_box, name="odds", output="probability", classes=["no", "yes"])
    rows = np.array([[1.5, 5.0, 1.0, -3.0], [-1.5, 5.0, 1.0, -3.0]])
    own = LimeExplainer(target, X, samples=600).explain(rows)
    assert [one.output for one in own] == ["the probability of yes", "the probability of no"]
    assert [one.values[0] > 0.1 for one in own] == [True, True]
    named = LimeExplainer(target, X, samples=600, output="no").explain(rows)
    np.testing.assert_allclose(named[0].values, -own[0].values, atol=1e-10)
    assert own[0].answer == pytest.approx(black_box(rows)[0])
    with pytest.raises(InvalidData, match="one of the classes"):
        LimeExplainer(target, X, samples=600, output="maybe").explain(rows)


def test_one_of_several_values():
    target = value(lambda X: np.column_stack([linear(X), -linear(X)]) * 100)
    (found,) = LimeExplainer(target, X, samples=400, output=1).explain(X[:1])
    np.testing.assert_allclose(found.values[3], 0, atol=1e-6)
    assert found.output == "value 1"
    with pytest.raises(InvalidData, match="choose the one to explain with output=0 to 1"):
        LimeExplainer(target, X, samples=400).explain(X[:1])


def test_frames_keep_their_names():
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    target = value(lambda X: 2 * X["a"].to_numpy())
    (found,) = LimeExplainer(target, frame, samples=400).explain(frame.iloc[:1])
    assert found.top(1)[0].name == "a"


# ------------------------------------------------------------------ how sure
@pytest.mark.parametrize("max_terms", [None, 2])
def test_intervals_hold(max_terms):
    settings = {"near": 0.5, "max_terms": max_terms}
    truth = LimeExplainer(value(bent), X, samples=60_000, **settings).explain(X[:3])
    inside = []
    for seed in range(80):
        explainer = LimeExplainer(value(bent), X, samples=800, random_state=seed + 1, **settings)
        for found, true in zip(explainer.explain(X[:3]), truth, strict=True):
            stated = np.isfinite(found.lower)
            if (stated == np.isfinite(true.lower)).all():  # with other terms, the weights are about something else
                inside += ((found.lower <= true.values) & (true.values <= found.upper))[stated].tolist()
    assert len(inside) > 200
    assert 0.91 < np.mean(inside) < 0.99


def test_the_fidelity_says_where_the_explanation_fails():
    def fidelity(black_box):
        return LimeExplainer(value(black_box), X).explain(X[:1])[0].fidelity

    good, bad = fidelity(lambda X: np.tanh(X[:, 0])), fidelity(lambda X: np.cos(9 * X[:, 0]))
    assert good.lower > 0.8
    assert bad.upper < 0.2


# ------------------------------------------------------------------ same numbers
def test_alone_or_among_others_in_any_order_and_twice():
    explainer = LimeExplainer(value(bent), X, samples=600)
    together = explainer.explain(X[:6])
    backwards = LimeExplainer(value(bent), X[::-1], samples=600).explain(X[:6][::-1])
    for i, found in enumerate(together):
        (alone,) = LimeExplainer(value(bent), X, samples=600).explain(X[i : i + 1])
        assert alone.to_dict() == found.to_dict() == backwards[5 - i].to_dict()
    other = LimeExplainer(value(bent), X, samples=600, random_state=1).explain(X[:1])
    assert not np.array_equal(other[0].values, together[0].values)


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    LimeExplainer(value(bent), X, samples=400).explain(X[:1])
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


# ------------------------------------------------------------------ what it costs
def test_all_rows_share_the_questions():
    calls = []
    target = value(lambda X: calls.append(len(X)) or bent(X))
    explainer = LimeExplainer(target, X, samples=1000)
    explainer.explain(X[:50])
    assert len(calls) == 3
    assert sum(calls) <= 1050
    explainer.explain(X[50:60])
    assert calls[3:] == [10]
    # Rows that were explained neither fitted nor tuned anything.
    assert target.fresh(X).all()


# ------------------------------------------------------------------ refused
def test_bad_settings_are_refused_before_anything_is_asked():
    calls = []
    target = value(lambda X: calls.append(1) or bent(X))
    with pytest.raises(InvalidData, match="near= to be a share"):
        LimeExplainer(target, X, near=1.5)
    with pytest.raises(InvalidData, match="samples= of at least 200"):
        LimeExplainer(target, X, samples=50)
    with pytest.raises(InvalidData, match="max_terms= to be a whole number of 1 or more"):
        LimeExplainer(target, X, max_terms=0)
    with pytest.raises(InvalidData, match="expected rows of 4 columns"):
        LimeExplainer(target, X).explain(X[:, :3])
    with pytest.raises(InvalidData, match="at least one row to explain"):
        LimeExplainer(target, X).explain(X[:0])
    assert not calls


def test_recorded_answers_cannot_be_explained():
    with pytest.raises(InvalidData, match="only has recorded answers"):
        LimeExplainer(recorded(X, bent(X)), X)
