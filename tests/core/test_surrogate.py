"""The stand-in: what is asked and paid for it, what it is fitted on, how it answers outside its region, how it is checked."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import locum
from locum.core.domain import Domain
from locum.core.errors import BudgetExhausted, InvalidData, NotFresh, OutsideRegion
from locum.core.measures import R2
from locum.core.region import Region
from locum.core.surrogate import StandIn, ask_for, fit, score
from locum.core.target import Budget, Target
from locum.explain.tree import TreeClassifier, TreeRegressor

X = np.random.default_rng(0).normal(size=(300, 3)).round(4)
FRESH = np.random.default_rng(1).normal(size=(400, 3)).round(4)


def line(X):
    return 2 * X[:, 0] - X[:, 1]


def label(X):
    return np.where(line(X) > 0.3, "yes", "no")


def odds(X):
    p = 1 / (1 + np.exp(-2 * line(X)))
    return np.column_stack([1 - p, p])


def values(**settings):
    return Target(line, **{"output": "value", "name": "line", **settings})


def labels(**settings):
    return Target(label, **{"name": "label", **settings})


@pytest.fixture(scope="module")
def tree():
    """A stand-in for labels that chooses its queries."""
    return fit(TreeClassifier(max_rules=3), labels(), X, budget=60, random_state=5)


@pytest.fixture(scope="module")
def soft_tree():
    """A stand-in for probabilities, whose classes nobody named."""
    return fit(TreeClassifier(max_rules=4), Target(odds), X, budget=20)


class Counting:
    """A black box that remembers what it was asked."""

    def __init__(self, answer):
        self.answer, self.rows = answer, []

    def __call__(self, X):
        self.rows += np.asarray(X).tolist()
        return self.answer(X)


# ------------------------------------------------------------------ what is asked
def test_fit_learns_what_the_target_answers():
    standin = fit(LinearRegression(), values(), X)
    np.testing.assert_allclose(standin.predict(FRESH, outside="ignore"), line(FRESH))
    assert standin.target == {"name": "line", "output": "value", "classes": None}
    assert standin.price["calls"] == 300
    assert standin.program is None


@pytest.mark.parametrize("model", [LinearRegression(), TreeRegressor(max_rules=3)])
@pytest.mark.parametrize("calls", [2, 7, 41])
def test_calls_are_asked_to_the_last_and_no_further(model, calls):
    box = Counting(line)
    target = Target(box, output="value")
    standin = fit(model, target, X, budget=calls)
    assert len({tuple(row) for row in box.rows}) == len(box.rows) == calls == standin.price["calls"] == target.account().asked
    assert target.account().by_purpose["fit"] == calls


def test_without_a_budget_every_row_is_asked_once():
    box = Counting(line)
    fit(Ridge(), Target(box, output="value"), np.vstack([X, X[:50]]))
    assert sorted(box.rows) == sorted(X.tolist())


def test_rows_are_picked_at_random_by_the_seed():
    def asked(seed):
        box = Counting(line)
        fit(Ridge(), Target(box, output="value"), X, budget=40, random_state=seed)
        return {tuple(row) for row in box.rows}

    assert asked(0) == asked(0)
    assert len(asked(0) & asked(1)) < 20
    assert asked(0) <= {tuple(row) for row in X.tolist()}
    assert asked(0) != {tuple(row) for row in X[:40].tolist()}


def test_money_ends_a_fit_with_what_it_bought():
    standin = fit(LinearRegression(), values(price=0.5), X, budget=Budget(money=10.0))
    assert standin.price == {"calls": 20, "seconds": pytest.approx(0, abs=1), "money": 10.0, "currency": "USD"}
    np.testing.assert_allclose(standin.predict(X, outside="ignore"), line(X), atol=1e-9)
    chosen = fit(TreeRegressor(max_rules=3), values(price=0.5), X[:60], budget=Budget(money=11.0))
    assert chosen.price["calls"] == 22


def test_the_targets_own_budget_holds_as_well():
    target = values(budget=25)
    assert fit(LinearRegression(), target, X, budget=100).price["calls"] == 25
    with pytest.raises(BudgetExhausted, match="is used up: 0 of the") as caught:
        fit(LinearRegression(), target, FRESH, budget=10)
    assert caught.value.best is None
    assert caught.value.ledger is target.ledger


def test_what_is_in_the_ledger_is_not_paid_for_again():
    box = Counting(line)
    target = Target(box, output="value")
    first = fit(Ridge(), target, X, budget=60)
    second = fit(Ridge(alpha=2.0), target, X, budget=60)
    assert len(box.rows) == 60
    assert (first.price["calls"], second.price["calls"]) == (60, 60)


@pytest.mark.parametrize("model", [Ridge(), TreeRegressor(max_rules=3)])
def test_recorded_answers_are_enough(model):
    target = Target(line, output="value", rows=X)
    assert fit(model, target, X, budget=20).price["calls"] == 20
    with pytest.raises(InvalidData, match="have no recorded answer"):
        fit(model, target, FRESH, budget=20)


@pytest.mark.parametrize("model", [Ridge(), TreeRegressor(max_rules=3)])
def test_rows_that_scored_never_fit(model):
    target = values()
    target.query(X[:280], "score")
    fit(model, target, X, budget=20)
    assert target.fresh(X[:280]).all()
    target.query(X[:280], "score")
    scored = values()
    scored.query(X, "score")
    with pytest.raises(InvalidData, match="asked to score; fit on other rows"):
        fit(model, scored, X)


def test_the_domain_is_the_callers_the_targets_or_the_datas():
    own, wide = Domain.of(X, names=["a", "b", "c"]), Domain.of(X, names=["x", "y", "z"])
    assert fit(Ridge(), values(domain=own), X).domain is own
    assert fit(Ridge(), values(domain=own), X, domain=wide).domain is wide
    assert fit(Ridge(), values(), X).domain.names == ("x0", "x1", "x2")
    assert fit(TreeRegressor(max_rules=2), values(domain=own), X, budget=20).model.domain_ is own


# ------------------------------------------------------------------ what is fitted
def test_many_models_are_fitted_to_one_asking():
    box = Counting(label)
    target = Target(box)
    asked = ask_for(TreeClassifier(max_rules=4), target, X, budget=20)
    paid = len(box.rows)
    sizes = [asked.fit(TreeClassifier(max_rules=size)) for size in (2, 3, 8)]
    assert len(box.rows) == paid == 20
    assert [standin.program.statements for standin in sizes[:2]] == [2, 3]
    assert all(standin.price == sizes[0].price for standin in sizes)
    assert asked.fit(TreeClassifier(max_rules=4)).program == fit(TreeClassifier(max_rules=4), labels(), X, budget=20).program


def test_training_is_what_was_answered():
    asked = ask_for(Ridge(), values(), X, budget=50)
    training = asked.training(Ridge())
    assert training.classes is None
    np.testing.assert_allclose(training.y, line(training.domain.decode(training.Z)))
    assert training.weights.tolist() == [1.0] * 50
    model = Ridge()
    assert training.fitted(model) is model
    assert [rival.name for rival in training.rivals] == ["constant", "one split", "linear model"]
    assert ask_for(KNeighborsClassifier(), labels(), X).training(KNeighborsClassifier()).classes.tolist() == ["no", "yes"]


def test_a_model_that_takes_no_weights_is_given_none():
    class Bare(LinearRegression):
        def fit(self, X, y):
            return super().fit(X, y)

    assert fit(Bare(), values(), X).predict(X[:1], outside="ignore")[0] == pytest.approx(line(X[:1])[0])


def test_settings_left_open_are_filled_in_and_others_kept():
    target = labels(classes=["no", "yes", "never"])
    domain = Domain.of(X, names=["a", "b", "c"])
    open_ = fit(TreeClassifier(max_rules=2), target, X, domain=domain, budget=20).model
    assert (open_.domain, open_.classes.tolist()) == (domain, ["no", "yes", "never"])
    held = fit(TreeClassifier(max_rules=2, classes=["yes", "no"]), labels(), X, budget=20).model
    assert held.classes == ["yes", "no"]


@pytest.mark.parametrize(
    ("model", "target", "message"),
    [
        (Ridge(), labels(classes=["no", "yes"], output="class"), "Ridge is a regressor, and the target answers with classes"),
        (LogisticRegression(), values(), "is a classifier, and the target answers with values"),
        (LogisticRegression(), Target(odds, output="probability", classes=[0, 1]), "learns from labels, and the target"),
        (TreeRegressor(), Target(odds, output="probability", classes=[0, 1]), "expected a classifier"),
    ],
)
def test_a_model_of_the_wrong_kind_is_refused_before_anything_is_asked(model, target, message):
    with pytest.raises(InvalidData, match=message):
        fit(model, target, X)
    assert target.account().asked == 0


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (X[:1], {}, "at least two rows"),
        (X, {"budget": 0}, "above zero"),
        (X, {"budget": 2.5}, "whole number of calls"),
        (X, {"domain": Domain.of(X[:, :2])}, "rows of 2 columns"),
        (np.where(X > 2, np.inf, X), {}, "infinite"),
    ],
)
def test_bad_input_is_refused_before_anything_is_asked(data, settings, message):
    for model in (Ridge(), TreeRegressor()):
        target = values()
        with pytest.raises(InvalidData, match=message):
            fit(model, target, data, **settings)
        assert target.account().asked == 0


def test_a_category_that_the_domain_does_not_have_is_refused_before_anything_is_asked():
    rows = np.array([["a", 1.0], ["b", 2.0], ["c", 3.0], ["a", 4.0]], dtype=object)
    target = Target(lambda rows: rows[:, 1].astype(float), output="value")
    with pytest.raises(InvalidData, match="never seen"):
        fit(DecisionTreeRegressor(), target, rows, domain=Domain.of(rows[[0, 1, 3]]))
    assert target.account().asked == 0


# ------------------------------------------------------------------ answers, inside and outside
OUT = np.array([[50.0, 0.0, 0.0], [0.0, 0.0, 0.0], [2.4, -2.4, 2.4]])


def test_rows_outside_are_warned_of():
    standin = fit(LinearRegression(), values(), X)
    inside = standin.region.inside(OUT).tolist()
    assert inside == [False, True, False]
    with pytest.warns(OutsideRegion, match=r"2 of 3 rows lie outside .*; row 0: x0 = 50 is above .* Its fidelity"):
        said = standin.predict(OUT)
    np.testing.assert_allclose(said, line(OUT), atol=1e-9)
    with pytest.warns(OutsideRegion, match="row 1: unlike the rows seen"):
        standin.predict(OUT[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        standin.predict(OUT[1:2])
        standin.predict(OUT, outside="ignore")


def test_abstaining_masks_rows_outside(soft_tree):
    said = fit(LinearRegression(), values(), X).predict(OUT, outside="abstain")
    assert np.ma.getmaskarray(said).tolist() == [True, False, True]
    np.testing.assert_allclose(said.data, line(OUT), atol=1e-9)
    soft = soft_tree.predict(OUT, outside="abstain")
    assert np.ma.getmaskarray(soft).tolist() == [[True, True], [False, False], [True, True]]
    assert said.count() == 1


def test_other_ways_are_refused():
    with pytest.raises(InvalidData, match="'warn', 'abstain' or 'ignore', got 'widen'"):
        fit(LinearRegression(), values(), X).predict(X, outside="widen")


def test_answers_are_those_of_the_targets_kind(tree, soft_tree):
    hard = tree.predict(X[:5], outside="ignore")
    assert hard.shape == (5,)
    assert set(hard) <= {"no", "yes"}
    soft = soft_tree.predict(X, outside="ignore")
    np.testing.assert_allclose(soft.sum(axis=1), 1)
    assert np.abs(soft - odds(X)).mean() < 0.2
    assert soft_tree.target["classes"] == [0, 1]


def test_probabilities_are_drawn_to_uniform_by_novelty(tree):
    standin = tree
    rows = np.vstack([OUT, X[:40], 1.1 * X[:40]])
    own, widened = standin.predict_proba(rows, outside="ignore"), standin.predict_proba(rows)
    novelty, threshold = standin.region.novelty(rows), standin.region.threshold
    for i, row in enumerate(rows):
        in_range = standin.region.in_range(row[None])[0]
        trust = min(1.0, threshold / novelty[i]) if in_range else 0.0
        np.testing.assert_allclose(widened[i], trust * own[i] + (1 - trust) / 2)
    assert widened[0].tolist() == [0.5, 0.5]
    np.testing.assert_array_equal(widened[standin.region.inside(rows)], own[standin.region.inside(rows)])
    assert 0.5 < widened[2].max() < own[2].max()


def test_probabilities_of_values_are_refused():
    with pytest.raises(InvalidData, match="answers with values, not classes"):
        fit(Ridge(), values(), X).predict_proba(X)


# ------------------------------------------------------------------ intervals
def calibrated(m, level, seed):
    """Coverage of fresh answers by the intervals of a constant that was checked on `m` rows."""
    rng = np.random.default_rng(seed)
    domain = Domain.of(np.array([[0.0], [1.0]]))
    region = Region.of(domain, np.linspace(0, 1, 30)[:, None])
    model = DecisionTreeRegressor(max_depth=1).fit([[0.0], [1.0]], [0.4, 0.6])
    standin = StandIn(model, domain, region, {"name": "sine", "output": "value", "classes": None}, {})
    target = Target(lambda rows: np.sin(9 * rows[:, 0]), output="value")
    standin = standin.check(target, rng.uniform(size=(m, 1)), measures=["mae"])
    rows = rng.uniform(size=(50, 1))
    low, high = standin.predict_interval(rows, level).T
    truth = np.sin(9 * rows[:, 0])
    return ((low <= truth) & (truth <= high)).mean()


@pytest.mark.parametrize(("m", "level"), [(19, 0.9), (49, 0.8), (99, 0.95)])
def test_intervals_cover_as_often_as_they_say(m, level):
    """Split conformal: exactly rank / (m + 1) on average, when errors have no ties."""
    covered = [calibrated(m, level, seed) for seed in range(100)]
    promised = np.ceil((m + 1) * level) / (m + 1)
    slack = 3 * np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= level - slack
    assert np.mean(covered) == pytest.approx(promised, abs=slack)


def test_intervals_are_the_answer_plus_and_minus_a_checked_error():
    standin = fit(Ridge(alpha=50.0), values(), X).check(values(), FRESH)
    said = standin.predict(X, outside="ignore")
    errors = np.sort(np.abs(line(FRESH) - standin.predict(FRESH, outside="ignore")))
    np.testing.assert_allclose(standin.residuals, errors)
    low, high = standin.predict_interval(X, 0.9).T
    np.testing.assert_allclose((low + high) / 2, said)
    inside = standin.region.inside(X)
    np.testing.assert_allclose(((high - low) / 2)[inside], errors[int(np.ceil(401 * 0.9)) - 1])
    far = standin.predict_interval(OUT, 0.9)
    assert np.isinf(far[0]).all()
    assert far[2, 1] - far[2, 0] > far[1, 1] - far[1, 0]


def test_intervals_that_cannot_hold_are_refused():
    standin = fit(Ridge(), values(), X)
    with pytest.raises(InvalidData, match=r"the 0 checked rows can support, got 0\.9; check the stand-in on more fresh rows"):
        standin.predict_interval(X)
    few = standin.check(values(), FRESH[:9], measures=["mae"])
    assert few.predict_interval(X, 0.9).shape == (300, 2)
    for level in (0.95, 1.0, 0.0, -1.0):
        with pytest.raises(InvalidData, match="expected a level that the 9 checked rows can support"):
            few.predict_interval(X, level)
    with pytest.raises(InvalidData, match="for real-valued targets"):
        fit(DummyClassifier(), labels(), X).predict_interval(X)


# ------------------------------------------------------------------ checking
def test_a_check_measures_the_stand_in_and_its_rivals_on_the_same_fresh_rows(tree):
    target, standin = labels(), tree
    checked = standin.check(target, FRESH)
    assert standin.fidelity == ()
    (found,) = checked.fidelity
    assert found.value == pytest.approx((checked.predict(FRESH, outside="ignore") == label(FRESH)).mean())
    assert (found.measure, found.n, found.region, found.candidates) == ("agreement", 400, "region of the data", 1)
    beside = {rival.name: rival.fidelity[0] for rival in checked.rivals}
    assert beside["constant"].value == pytest.approx(max((label(FRESH) == one).mean() for one in ("no", "yes")))
    assert beside["constant"].value < beside["one split"].value < found.value < beside["linear model"].value
    assert beside["one split"].n == 400
    assert target.account().by_purpose["score"] == 400


def test_several_measures_and_several_checks():
    target = values()
    standin = fit(Ridge(), target, X).check(target, FRESH[:200], measures=["rmse", R2()])
    assert [found.measure for found in standin.fidelity] == ["rmse", "r2"]
    assert [[found.measure for found in rival.fidelity] for rival in standin.rivals] == [["rmse", "r2"]] * 3
    again = standin.check(target, FRESH[200:], level=0.8, how="a second sample", candidates=5)
    assert [found.measure for found in again.fidelity] == ["rmse", "r2", "r2"]
    last = again.fidelity[-1]
    assert (last.level, last.how, last.candidates, last.n) == (0.8, "a second sample", 5, 200)
    assert [rival.fidelity[-1].candidates for rival in again.rivals] == [1, 1, 1]
    assert score(standin, target, FRESH, "rmse").measure == "rmse"
    assert score(standin, target, FRESH).measure == "r2"


def test_weights_and_groups_reach_the_measure(tree):
    target, standin = labels(), tree
    weights, groups = np.linspace(0, 1, 400), np.arange(400) // 4
    wrong = standin.predict(FRESH, outside="ignore") != label(FRESH)
    found = score(standin, target, FRESH, weights=weights, groups=groups)
    assert found.value == pytest.approx(1 - weights @ wrong / weights.sum())
    assert found.groups == 100


def test_probabilities_are_measured_as_such_and_as_classes(soft_tree):
    standin = soft_tree.check(Target(odds), FRESH, measures=["total_variation_similarity", "agreement"])
    soft, hard = standin.fidelity
    said = standin.predict(FRESH, outside="ignore")
    assert soft.value == pytest.approx(1 - np.abs(said - odds(FRESH)).sum(axis=1).mean() / 2)
    assert hard.value == pytest.approx((said.argmax(axis=1) == odds(FRESH).argmax(axis=1)).mean())


def test_fitted_rows_never_score():
    target = values()
    standin = fit(Ridge(), target, X, budget=100)
    with pytest.raises(NotFresh, match="100 of these 300 rows fitted"):
        standin.check(target, X)
    assert target.account().by_purpose["score"] == 0


def test_a_check_that_cannot_be_paid_gives_the_best_so_far():
    target = values(budget=120)
    standin = fit(Ridge(), target, X, budget=100)
    with pytest.raises(BudgetExhausted, match="20 of the 400 rows") as caught:
        standin.check(target, FRESH)
    assert caught.value.best is standin
    assert caught.value.answered == 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measures": ["agreemant"]}, "expected a measure, one of"),
        ({"measures": ["rmse"]}, "rmse is a measure of kind 'value', and this target answers with kind 'class'"),
        ({"levle": 0.9}, "expected settings among groups, weights, .*, got levle"),
        ({"level": 95}, "expected a level between 0 and 1"),
        ({"weights": np.ones(3)}, "weights"),
        ({"groups": np.zeros(400)}, "at least 2 groups"),
    ],
)
def test_bad_settings_of_a_check_are_refused_before_anything_is_asked(settings, message):
    target = labels()
    standin = fit(DummyClassifier(), target, X, budget=50)
    with pytest.raises(InvalidData, match=message):
        standin.check(target, FRESH, **settings)
    assert target.account().asked == 50


def test_rows_that_cannot_be_scored_are_refused_before_anything_is_asked():
    target = labels()
    standin = fit(DummyClassifier(), target, X, budget=50)
    for rows, message in ((FRESH[:, :2], "rows of 3 columns"), (FRESH[:1], "at least 2 rows to measure on")):
        with pytest.raises(InvalidData, match=message):
            standin.check(target, rows)
    assert target.account().asked == 50


# ------------------------------------------------------------------ words, prices, keeping
def test_words(tree):
    target, standin = labels(), tree
    assert str(standin).splitlines()[0].startswith("TreeClassifier for label, region of the data (3 columns")
    assert "IF x0" in str(standin)
    assert str(standin).endswith("fidelity not measured yet: use check() or locum.score()")
    checked = str(standin.check(target, FRESH))
    assert "\nagreement 0." in checked
    assert "\nbeside it, constant: agreement 0." in checked


def test_the_time_of_an_answer_is_measured_on_any_rows():
    standin = fit(DecisionTreeClassifier(), labels(), X)
    assert 0 < standin.seconds_per_row(X) < 1
    rows = np.array([["a", 1.0], ["b", 2.0], ["a", 3.0], ["b", 4.0]] * 3, dtype=object)
    rows[:, 1] += np.arange(12)
    mixed = fit(TreeRegressor(max_rules=2), Target(lambda rows: rows[:, 1].astype(float), output="value"), rows)
    assert mixed.seconds_per_row(np.array([["never seen", 2.0]], dtype=object)) > 0


def test_saved_and_read_back(tree, tmp_path):
    standin = tree.check(labels(), FRESH)
    standin.save(tmp_path / "tree.standin")
    again = locum.load(tmp_path / "tree.standin")
    assert str(again) == str(standin)
    assert again.rivals == standin.rivals
    assert (again.target, again.price, again.random_state) == (standin.target, standin.price, 5)
    np.testing.assert_array_equal(again.predict_proba(FRESH), standin.predict_proba(FRESH))
    assert replace(again, model=None, region=None) == replace(standin, model=None, region=None, residuals=again.residuals)
