"""The frontier: points, the fresh rows they are measured on, picking one, and what is paid."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import locum
from locum.core.domain import Column, Domain
from locum.core.errors import BudgetExhausted, InvalidData
from locum.core.fidelity import Fidelity
from locum.core.program import Condition, Program, Rule
from locum.core.region import Region
from locum.core.rivals import Rival
from locum.core.surrogate import StandIn
from locum.core.target import Target
from locum.explain import Frontier, Point, frontier, held_out
from locum.explain.tree import TreeClassifier, TreeRegressor

X = np.random.default_rng(0).uniform(size=(150, 3)).round(3)
QUICK = {"sizes": (1, 2, 4), "families": ["tree"], "budget": 20}


def label(X):
    return np.where((X[:, 0] > 0.6) & (X[:, 1] > 0.2), "yes", "no")


def value(X):
    return np.where(X[:, 0] > 0.6, 5.0, 1.0) + X[:, 1]


def odds(X):
    p = np.where(X[:, 0] > 0.6, 0.9, 0.2)
    return np.column_stack([1 - p, p])


def key(rows):
    return {tuple(row) for row in np.asarray(rows).tolist()}


# ------------------------------------------------------------------ points and what is paid
@pytest.fixture(scope="module")
def labelled():
    target = Target(label, name="label")
    return target, frontier(target, X, sizes=(1, 2, 4), families=["tree", "sparse linear"], budget=24)


def test_points_are_sorted_and_corrected_for_their_number(labelled):
    _, found = labelled
    order = [(point.statements, point.name) for point in found]
    assert order == sorted(order)
    assert {point.name for point in found} == {"tree", "sparse linear"}
    assert len(found) == len(found.points) <= 6
    assert {point.fidelity.candidates for point in found} == {len(found)}
    assert {(point.fidelity.n, point.fidelity.level) for point in found} == {(50, 0.95)}
    for point in found:
        alone = point.standin.check(Target(label), found.fresh).fidelity[-1]
        assert alone.value == point.fidelity.value
        assert point.fidelity.lower <= alone.lower
        assert point.statements == max(1, point.standin.program.statements)


def test_every_point_comes_with_the_same_rivals(labelled):
    _, found = labelled
    trees = [point.standin for point in found if point.name == "tree"]
    assert len({standin.rivals for standin in trees}) == 1
    assert [rival.name for rival in trees[0].rivals] == ["constant", "one split", "linear model"]
    assert {rival.fidelity[0].candidates for rival in trees[0].rivals} == {1}


def test_the_budget_is_held_to_the_row(labelled):
    target, found = labelled
    account = target.account()
    assert account.by_purpose == {"fit": 24, "tune": 0, "score": 50, "use": 0}
    assert account.asked == 74
    assert {point.standin.price["calls"] for point in found} == {24}


def test_fresh_rows_never_fitted(labelled):
    target, found = labelled
    fitted, scored = (key(target.ledger.rows(purpose)[0]) for purpose in ("fit", "score"))
    assert scored == key(found.fresh)
    assert not fitted & scored
    assert target.fresh(found.fresh).all()


def test_duplicates_never_lie_on_both_sides():
    data = np.vstack([X[:40], X[:40], X[:20]])
    data[data > 0.9] = np.nan
    target = Target(lambda X: np.where(np.nan_to_num(X[:, 0], nan=1.0) > 0.5, "yes", "no"))
    found = frontier(target, data, **{**QUICK, "budget": None})
    fitted, scored = (set(map(str, target.ledger.rows(purpose)[0].tolist())) for purpose in ("fit", "score"))
    assert len(scored) == len(found.fresh) == 13
    assert not fitted & scored


def test_without_a_budget_as_many_are_asked_as_rows_are_left():
    target = Target(label)
    frontier(target, X[:45], sizes=(2,), families=["tree"])
    assert target.account().by_purpose["fit"] == 30


def test_rows_of_ones_own_to_measure_on_are_never_fitted():
    target = Target(label)
    found = frontier(target, X, fresh=X[:60], **QUICK)
    assert key(found.fresh) == key(X[:60])
    assert not key(target.ledger.rows("fit")[0]) & key(X[:60])
    assert found.points[0].fidelity.n == 60


def test_the_planted_rules_are_found_at_their_size(labelled):
    _, found = labelled
    exact = found.at_most(4, "tree")
    assert exact.fidelity[0].value > 0.85 > 0.1 + exact.rivals[0].fidelity[0].value
    assert found.at_most(1).program.statements <= 1
    assert [p.fidelity.value for p in found.best()] == sorted(p.fidelity.value for p in found.best())


# ------------------------------------------------------------------ kinds of targets
def test_values():
    target = Target(value, output="value")
    found = frontier(target, X, **{**QUICK, "budget": 60}, measure="rmse")
    assert {point.fidelity.measure for point in found} == {"rmse"}
    assert isinstance(found.points[0].standin.model, TreeRegressor)
    assert not found.points[0].fidelity.greater_is_better
    best = found.best()
    assert [p.fidelity.value for p in best] == sorted((p.fidelity.value for p in best), reverse=True)
    assert found.at_most(2).fidelity[0].value < found.at_most(1).fidelity[0].value
    assert frontier(target, X, **QUICK).points[0].fidelity.measure == "r2"


@pytest.mark.parametrize("settings", [{}, {"classes": ["no", "yes"]}])
def test_probabilities(settings):
    found = frontier(Target(odds, **settings), X, **QUICK)
    assert {point.fidelity.measure for point in found} == {"total_variation_similarity"}
    assert found.at_most(2).predict(X, outside="ignore").shape == (150, 2)
    exact = found.at_most(2)
    assert exact.fidelity[0].value > 0.85 > 0.1 + exact.rivals[0].fidelity[0].value
    assert found.points[0].standin.target["classes"] == settings.get("classes", [0, 1])


def test_recorded_answers_are_enough():
    target = Target(label, rows=X)
    found = frontier(target, X, **{**QUICK, "budget": 60})
    assert target.account().by_purpose == {"fit": 60, "tune": 0, "score": 50, "use": 0}
    assert found.at_most(4).fidelity[0].value > 0.9


# ------------------------------------------------------------------ settings
def test_an_executor_gives_the_same_numbers(labelled):
    _, found = labelled
    with ThreadPoolExecutor(2) as executor:
        other = frontier(
            Target(label, name="label"), X, sizes=(1, 2, 4), families=["tree", "sparse linear"], budget=24, executor=executor
        )
    assert str(other) == str(found)
    assert [p.standin.program for p in other] == [p.standin.program for p in found]
    assert [p.fidelity for p in other] == [p.fidelity for p in found]


def test_the_seed_decides(labelled):
    _, found = labelled
    settings = {"sizes": (1, 2, 4), "families": ["tree", "sparse linear"], "budget": 24}
    assert str(frontier(Target(label, name="label"), X, **settings)) == str(found)
    other = frontier(Target(label, name="label"), X, **settings, random_state=1)
    assert key(other.fresh) != key(found.fresh)
    assert {point.standin.random_state for point in other} == {1}


def test_families_of_ones_own():
    found = frontier(Target(label), X, **{**QUICK, "families": {"mine": lambda size: TreeClassifier(max_rules=size, sweeps=0)}})
    assert {point.name for point in found} == {"mine"}
    assert found.points[0].standin.model.sweeps == 0


def test_a_model_that_a_larger_size_does_not_change_counts_once():
    def label(X):
        return np.where(X[:, 0] > 0.5, "yes", "no")

    found = frontier(Target(label), X, sizes=(2, 2, 3), families={"two": lambda size: TreeClassifier(max_rules=2)}, budget=20)
    assert len(found) == 1
    assert found.points[0].fidelity.candidates == 1


def test_progress_is_told():
    told = []
    frontier(Target(label), X, **QUICK, progress=lambda *stage: told.append(stage))
    assert [done for done, _, _ in told] == [1, 2, 3, 4, 5]
    assert {total for _, total, _ in told} == {5}
    assert [what for _, _, what in told] == ["asked the fresh rows", "asked for fitting", "tree of 1", "tree of 2", "tree of 4"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"families": ["tre"]}, "expected families= among 'tree', 'rule list', .* got \\['tre'\\]"),
        ({"families": []}, "expected families= among"),
        ({"families": {}}, "expected families= among"),
        ({"sizes": ()}, "expected sizes= of one or more"),
        ({"sizes": (0, 1)}, "expected sizes= of one or more"),
        ({"measure": "fidelity"}, "expected a measure, one of"),
        ({"domain": Domain.of(X[:, :2])}, "rows of 2 columns"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_asked(settings, message):
    target = Target(label)
    with pytest.raises(InvalidData, match=message):
        frontier(target, X, **{**QUICK, **settings})
    assert target.account().asked == 0


def test_too_few_rows_are_refused_before_anything_is_asked():
    target = Target(label)
    with pytest.raises(InvalidData, match="at least 4 different rows to keep some apart for measuring, got 3; give fresh="):
        frontier(target, X[[0, 1, 2, 0, 1]], **QUICK)
    assert target.account().asked == 0


def test_a_budget_that_does_not_reach_for_the_fresh_rows_says_so():
    with pytest.raises(BudgetExhausted, match="30 of the 50 rows"):
        frontier(Target(label, budget=30), X, **QUICK)
    assert len(frontier(Target(label, budget=60), X, **QUICK)) > 0


# ------------------------------------------------------------------ keeping rows apart
def test_held_out_rows_are_distinct_and_apart():
    data = np.array([[float(i % 30), "ab"[i % 2], None if i % 5 == 0 else i % 3] for i in range(90)], dtype=object)
    domain = Domain.of(data)
    kept, fresh = held_out(domain, data)
    assert isinstance(kept, np.ndarray)
    assert kept.dtype == object
    texts = [set(map(str, domain.encode(rows).tolist())) for rows in (data, kept, fresh)]
    assert texts[1] | texts[2] == texts[0]
    assert not texts[1] & texts[2]
    assert len(fresh) == len(texts[2]) == round(len(texts[0]) / 3)
    again = held_out(domain, data)
    assert [str(part.tolist()) for part in again] == [str(kept.tolist()), str(fresh.tolist())]
    assert str(held_out(domain, data, random_state=1)[1].tolist()) != str(fresh.tolist())


@pytest.mark.parametrize(("settings", "count"), [({}, 50), ({"share": 0.1}, 15), ({"most": 7}, 7), ({"share": 0.001}, 2)])
def test_how_many_are_held_out(settings, count):
    kept, fresh = held_out(Domain.of(X), X, **settings)
    assert (len(kept), len(fresh)) == (150 - count, count)


# ------------------------------------------------------------------ picking a point, made by hand
AGE = Column("age", low=0.0, high=1.0)


def made(*points, constant=0.6, better=True):
    """A frontier of (family, statements, fidelity)."""
    domain = Domain((AGE,))
    region = Region.of(domain, np.linspace(0, 1, 20)[:, None])

    def program(rules):
        terms = tuple(Rule((Condition(0, high=(i + 1) / 50),), (1.0, 0.0)) for i in range(rules - 1))
        return Program((AGE,), "class", ("no", "yes"), "identity", "rules", terms, (0.0, 1.0))

    def fidelity(worth):
        return Fidelity("agreement", worth, worth - 0.1, worth + 0.1, 0.95, 100, greater_is_better=better)

    def standin(rules, worth):
        model = TreeClassifier()
        model.program_ = program(rules)
        rival = Rival("constant", program(1), (fidelity(constant),))
        about = {"name": "a box", "output": "class", "classes": ["no", "yes"]}
        return StandIn(model, domain, region, about, {"calls": 9}, (fidelity(worth),), (rival,))

    return Frontier(tuple(Point(name, standin(rules, worth)) for name, rules, worth in points), np.linspace(0, 1, 5)[:, None])


POINTS = (("a", 1, 0.60), ("b", 2, 0.80), ("a", 2, 0.78), ("a", 4, 0.79), ("b", 4, 0.90), ("a", 8, 0.98), ("b", 16, 0.99))


def summary(points):
    return [(point.name, point.statements, point.fidelity.value) for point in points]


def test_the_best_points_are_those_that_no_simpler_one_equals():
    assert summary(made(*POINTS).best()) == [POINTS[0], POINTS[1], POINTS[4], POINTS[5], POINTS[6]]
    equal = made(("a", 2, 0.8), ("a", 4, 0.8), ("b", 8, 0.81))
    assert summary(equal.best()) == [("a", 2, 0.8), ("b", 8, 0.81)]
    errors = made(("a", 1, 0.5), ("a", 2, 0.3), ("b", 2, 0.6), ("a", 4, 0.31), ("a", 8, 0.2), better=False)
    assert summary(errors.best()) == [("a", 1, 0.5), ("a", 2, 0.3), ("a", 8, 0.2)]
    assert str(errors).count("\n") == 2
    assert str(errors).splitlines()[0].startswith("a, 1 statement: agreement 0.500")


def test_at_most():
    found = made(*POINTS)
    picks = [found.point_at_most(n) for n in (1, 2, 3, 4, 7, 8, 100)]
    assert [(p.name, p.statements) for p in picks] == [("a", 1), ("b", 2), ("b", 2), ("b", 4), ("b", 4), ("a", 8), ("b", 16)]
    assert found.at_most(4, "a") is found.points[3].standin
    assert found.point_at_most(5, family="a").fidelity.value == 0.79
    simplest = made(("a", 2, 0.8), ("a", 4, 0.8))
    assert simplest.point_at_most(9).statements == 2
    with pytest.raises(InvalidData, match="no stand-in has at most 1 statements; the simplest has 2"):
        simplest.at_most(1)
    with pytest.raises(InvalidData, match="expected family= to be one of 'a', 'b', got 'c'"):
        found.at_most(4, "c")


def test_the_knee_has_most_of_what_can_be_gained_over_the_constant():
    found = made(*POINTS)
    assert found.knee().statements == 8  # 0.38 of 0.39
    assert found.knee(0.97).statements == 8
    assert found.knee(0.98).statements == 16
    assert found.knee(0.5).statements == 2
    assert found.knee(1.0).statements == 16
    assert made(*POINTS, constant=0.78).knee(0.5).statements == 4
    errors = made(("a", 1, 0.9), ("a", 2, 0.2), ("a", 9, 0.15), constant=1.0, better=False)
    assert errors.knee(0.9).statements == 2
    nothing = made(("a", 1, 0.6), ("a", 4, 0.55), constant=0.7)
    assert nothing.knee().statements == 1
    for enough in (0.0, 1.1, -1.0):
        with pytest.raises(InvalidData, match="above 0 and up to 1"):
            found.knee(enough)


def test_without_a_constant_the_least_faithful_point_is_the_floor():
    found = made(*POINTS)
    bare = tuple(Point(p.name, replace(p.standin, rivals=())) for p in found)
    assert replace(found, points=bare).knee(0.5).statements == 2


def test_rows_for_a_card_mark_the_knee_and_the_chosen():
    found = made(*POINTS)
    rows = found.rows(found.points[4].standin)
    assert [(r["name"], r["statements"], r["fidelity"].value) for r in rows] == list(POINTS)
    assert [r["chosen"] for r in rows] == [False] * 4 + [True] + [False] * 2
    assert [r["knee"] for r in rows] == [False] * 5 + [True, False]
    assert not any(r["knee"] for r in made(*POINTS[:6]).rows())  # at the largest size nobody knows
    record = found.to_dict()["points"][1]
    assert record["fidelity"] == found.points[1].fidelity.to_dict()
    assert not record["chosen"]


def test_a_card_of_a_point(labelled):
    target, found = labelled
    standin = found.at_most(2)
    paid = target.account().paid
    card = found.card(standin, target, title="Yes or no")
    assert target.account().paid == paid
    assert card.title == "Yes or no"
    assert len(card.frontier) == len(found)
    assert sum(row["chosen"] for row in card.frontier) == 1
    assert card.fidelity[0].candidates == len(found)
    assert "Yes or no" in card.to_html()


def test_locum_offers_it():
    assert locum.frontier is frontier
    assert locum.Frontier is Frontier
