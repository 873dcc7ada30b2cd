"""Rules, faithfulness and single explanations of wide tables: worked by hand, and asked of the black box."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData, NotFresh
from locum.core.target import Target
from locum.explain.hd_blackbox import HighDimExplainer


def rows(n=600, d=30, seed=0):
    return np.random.default_rng(seed).uniform(size=(n, d))


def corner(X):
    """Yes in one corner of two columns."""
    p = np.where((X[:, 4] > 0.5) & (X[:, 11] > 0.5), 0.9, 0.2)
    return np.column_stack([1 - p, p])


def explainer(answer=corner, classes=("no", "yes"), **settings):
    box = Target(answer, name="box", output="probability", classes=list(classes))
    return HighDimExplainer(box, **{"ks": (2, 5), "max_queries": 4000, "folds": 3, **settings})


@pytest.fixture(scope="module")
def fitted():
    X = rows()
    y = np.where(corner(X)[:, 1] > 0.5, "yes", "no")
    y[:60] = np.where(y[:60] == "yes", "no", "yes")
    return explainer().fit(X, y)


# ---------------------------------------------------------------------- rules
def test_the_rules_are_those_of_the_black_box(fitted):
    book = fitted.rules()
    assert fitted.k_ == 2
    (yes,) = [rule for rule in book.rules if rule.answer == "yes"]
    (rule,) = [rule for rule in book.program.terms if np.argmax(rule.value) == 1]
    assert sorted(book.program.columns[one.column].name for one in rule.conditions) == ["x11", "x4"]
    assert [one.low for one in rule.conditions] == pytest.approx([0.5, 0.5], abs=0.01)
    assert yes.support == pytest.approx(0.25, abs=0.05)
    assert yes.precision.value == 1
    assert yes.precision_on_truth.value == pytest.approx(0.9, abs=0.06)
    assert book.agreement.value == 1
    assert book.covered == 1


def test_rules_are_ordered_by_the_rows_they_get_right_and_those_of_few_rows_dropped(fitted):
    book = fitted.rules(min_support=0.3)
    assert all(rule.support >= 0.3 for rule in book.rules)
    assert book.covered < 1
    right = [rule.support * rule.precision.value for rule in fitted.rules().rules]
    assert right == sorted(right, reverse=True)
    assert "OTHERWISE" in book.text()


def test_rules_are_measured_on_fresh_rows(fitted):
    X = rows(300, seed=1)
    book = fitted.rules(X, np.full(300, "no"))
    assert book.agreement.n == 300
    assert book.agreement.how == "fresh queries"
    assert {rule.precision_on_truth.value for rule in book.rules} == {0.0, 1.0}
    Z = X[:, book.columns]
    said = np.array(["no", "yes"])[corner(X).argmax(axis=1)]
    assert (book.program.predict(Z) == said).mean() == book.agreement.value
    with pytest.raises(NotFresh):
        fitted.rules(rows()[:50])


def test_no_more_rules_than_asked_for():
    def smooth(X):
        p = 1 / (1 + np.exp(-6 * (X[:, 0] + X[:, 1] + X[:, 2] - 1.5)))
        return np.column_stack([1 - p, p])

    hd = explainer(smooth, k=3).fit(rows())
    assert len(hd.program_.terms) > 10
    for most in (1, 4, 10):
        assert len(hd.rules(max_rules=most)) <= most
    assert len(hd.rules(max_rules=10, min_support=0)) == 10
    assert hd.rules(max_rules=10).agreement.value > hd.rules(max_rules=2).agreement.value


def test_settings_of_the_rules_are_checked(fitted):
    with pytest.raises(InvalidData, match="expected max_rules="):
        fitted.rules(max_rules=0)
    with pytest.raises(InvalidData, match="expected min_support="):
        fitted.rules(min_support=1)


# ---------------------------------------------------------------------- single answers
def test_an_explanation_worked_by_hand(fitted):
    x = np.full((1, 30), 0.4)
    x[0, [4, 11]] = 0.8, 0.9
    (one,) = fitted.explain(x)
    assert one.answer == "yes"
    assert one.agrees
    assert one.probabilities == pytest.approx((0.1, 0.9))
    Z = rows()
    first, second = Z[:, 4] > 0.5, Z[:, 11] > 0.5
    p = corner(Z)[:, 1]
    v, v1, v2, v12 = p.mean(), p[first].mean(), p[second].mean(), p[first & second].mean()
    by_name = dict(zip(one.attribution.names, one.attribution.values, strict=True))
    assert one.attribution.base == pytest.approx(v)
    assert by_name["x4"] == pytest.approx(((v1 - v) + (v12 - v2)) / 2, abs=0.02)
    assert by_name["x11"] == pytest.approx(((v2 - v) + (v12 - v1)) / 2, abs=0.02)
    assert one.attribution.base + one.attribution.values.sum() == pytest.approx(one.imitated[1])


def test_the_counterfactual_is_the_least_change(fitted):
    x = np.full((1, 30), 0.4)
    x[0, [4, 11]] = 0.9, 0.6
    (one,) = fitted.explain(x)
    found = one.counterfactual
    assert found.valid_on_black_box
    assert found.answer == found.expected == "no"
    assert [change.column for change in found.changes] == ["x11"]
    assert 0.47 < found.changes[0].after <= 0.51
    assert corner(found.row[None]).argmax() == 0
    assert found.after == pytest.approx((0.8, 0.2))
    assert found.cost == pytest.approx((0.6 - found.changes[0].after) / rows()[:, 11].std())


def test_a_black_box_that_does_not_go_along_makes_the_counterfactual_invalid():
    """On rows it was fitted to the box uses x4; elsewhere it always says yes, which a tree cannot know."""
    known = {row.tobytes() for row in rows()}

    def stubborn(X):
        seen = np.array([row.tobytes() in known for row in X])
        p = np.where(seen & (X[:, 4] <= 0.5), 0.1, 0.9)
        return np.column_stack([1 - p, p])

    hd = explainer(stubborn, group_corr=None).fit(rows())
    x = rows(5, seed=3)
    x[:, 4] = 0.9
    for one in hd.explain(x):
        assert one.answer == "yes"
        assert not one.counterfactual.valid_on_black_box
        assert one.counterfactual.answer == "yes"
        assert one.counterfactual.expected == "no"
        assert "of the tree only" in one.counterfactual.text()


def test_changes_that_the_answer_can_do_without_are_given_back():
    """x1 follows x0, so the tree needs x0 alone; the box needs both, and only cells of a real row move both."""

    def both(X):
        p = np.where((X[:, 0] > 0.5) | (X[:, 1] > 0.5), 0.95, 0.05)
        return np.column_stack([1 - p, p])

    X = rows(600, 8)
    X[:, 1] = X[:, 0]
    (one,) = explainer(both, k=6).fit(X).explain(np.full((1, 8), 0.8))
    assert one.counterfactual.valid_on_black_box
    assert {change.column for change in one.counterfactual.changes} == {"x0", "x1"}


def test_more_columns_are_changed_where_those_of_the_tree_do_not_move_the_black_box():
    """Any of four columns that go together is enough, and the tree has one of them."""

    def any_of_four(X):
        p = np.where((X[:, :4] > 0.5).any(axis=1), 0.9, 0.1)
        return np.column_stack([1 - p, p])

    X = rows(400, 20)
    X[:, 1:4] = X[:, :1]
    hd = explainer(any_of_four, k=1, ks=(1,)).fit(X)
    (one,) = hd.explain(np.full((1, 20), 0.8))
    assert one.counterfactual.valid_on_black_box
    assert {change.column for change in one.counterfactual.changes} == {"x0", "x1", "x2", "x3"}
    assert one.counterfactual.answer == "no"


def test_where_the_tree_is_wrong_it_says_so(fitted):
    x = np.full((1, 30), 0.4)
    x[0, [4, 11]] = 0.9, 0.9
    inverse = explainer(lambda X: corner(X)[:, ::-1] if len(X) == 1 else corner(X)).fit(rows())
    (one,) = inverse.explain(x)
    assert not one.agrees
    assert "does not explain this row" in one.text()


def test_explanations_do_not_depend_on_each_other(fitted):
    X = rows(6, seed=9)
    together = fitted.explain(X)
    for x, one in zip(X, together, strict=True):
        (alone,) = fitted.explain(x[None])
        assert alone.text() == one.text()


# ---------------------------------------------------------------------- faithfulness
def test_faithfulness_worked_by_hand(fitted):
    X = np.full((40, 30), 0.8)
    X[:, 20] = np.linspace(0, 1, 40)
    background = np.full((3, 30), 0.1)
    found = fitted.faithfulness(X, ks=(1, 2, 29), background=background, draws=2)
    assert [one.value for one in found.comprehensiveness["top"]] == pytest.approx([0.7, 0.7, 0.7])
    assert [one.value for one in found.sufficiency["top"]] == pytest.approx([0.7, 0, 0])
    assert found.comprehensiveness["bottom"][0].value == pytest.approx(0)
    assert found.sufficiency["bottom"][0].value == pytest.approx(0.7)
    assert found.sufficiency_aopc["top"].value == pytest.approx(0.7 / 3)
    assert found.comprehensiveness_aopc["top"].value == pytest.approx(0.7)
    assert found.sufficiency["top"][0].greater_is_better is False
    assert found.sufficiency["top"][0].n == 40
    assert "2 columns" in found.text()


def test_faithfulness_of_all_columns_and_of_a_background_of_the_row_itself(fitted):
    X = rows(50, seed=4)
    whole = fitted.faithfulness(X, ks=(30,), draws=1)
    assert whole.sufficiency["top"][0].value == 0
    assert whole.comprehensiveness["top"][0].value == whole.comprehensiveness["random"][0].value
    same = fitted.faithfulness(X[:1].repeat(5, axis=0), ks=(1, 30), background=X[:1].repeat(2, axis=0))
    assert all(one.value == 0 for curve in (same.comprehensiveness, same.sufficiency) for one in curve["top"])


def test_faithfulness_leaves_out_what_is_beyond_the_columns(fitted):
    assert fitted.faithfulness(rows(20, seed=5)).ks == (1, 5, 10, 20)
    with pytest.raises(InvalidData, match="at most the 30 columns"):
        fitted.faithfulness(rows(20, seed=5), ks=(31,))
    with pytest.raises(InvalidData, match="expected ks="):
        fitted.faithfulness(rows(20, seed=5), ks=(0, 5))
    with pytest.raises(InvalidData, match="expected draws="):
        fitted.faithfulness(rows(20, seed=5), draws=0)


def test_redundant_columns_make_comprehensiveness_small_and_not_sufficiency():
    """Either of two copies is enough, so that taking one away shows nothing: the black box has the other."""

    def either(X):
        p = np.where(np.maximum(X[:, 0], X[:, 1]) > 0.5, 0.9, 0.1)
        return np.column_stack([1 - p, p])

    X = rows(500, 10)
    X[:, 1] = X[:, 0]
    hd = explainer(either, k=2).fit(X)
    fresh = rows(100, 10, seed=6)
    fresh[:, 1] = fresh[:, 0]
    found = hd.faithfulness(fresh, ks=(1, 2), draws=10)
    assert set(hd.ranking_.order[:2]) == {0, 1}
    one, two = (f.value for f in found.comprehensiveness["top"])
    assert one < 0.6 * two


def test_the_report_tells_it_all(fitted):
    text = fitted.report(2)
    assert text.startswith("box: 30 columns, 2 of them in the tree")
    assert "x4: sensitivity" in text
    assert "5 columns: cross-validated r2" in text
