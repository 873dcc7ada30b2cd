"""Wide tables: planted columns come back, k is chosen on rows apart, and bad input is refused before anything is paid."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeClassifier

from locum.core.errors import InvalidData, NotFresh
from locum.core.export import EXPORTS, load
from locum.core.target import Target
from locum.explain.hd_blackbox import HighDimExplainer

RELEVANT = (3, 17, 40)


def box(X):
    """Three classes that depend on three columns."""
    scores = 3 * np.column_stack([X[:, 3], X[:, 17] - X[:, 3], X[:, 40]])
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def rows(n=400, d=60, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def target(answer=box, **settings):
    return Target(answer, **{"name": "box", "output": "probability", "classes": ["a", "b", "c"], **settings})


def explainer(thing=None, **settings):
    return HighDimExplainer(thing or target(), **{"ks": (2, 3, 10), "max_queries": 6000, "folds": 3, **settings})


@pytest.fixture(scope="module")
def fitted():
    X = rows()
    return explainer().fit(X, np.array(["a", "b", "c"])[box(X).argmax(axis=1)])


# ---------------------------------------------------------------------- planted truth
def test_planted_columns_come_first_and_as_many_are_chosen(fitted):
    assert set(fitted.ranking_.top(3)) == {"x3", "x17", "x40"}
    assert fitted.k_ == 3
    assert [choice.k for choice in fitted.choices_] == [2, 3, 10]
    assert fitted.choices_[1].r2 > fitted.choices_[0].r2 + 2 * fitted.choices_[1].standard_error


def test_columns_without_effect_have_a_sensitivity_of_zero(fitted):
    sensitivity = fitted.ranking_.scores["sensitivity"]
    others = np.setdiff1d(np.arange(60), RELEVANT)
    assert (sensitivity[others] == 0).all()
    assert (sensitivity[list(RELEVANT)] > 0.05).all()


def test_sensitivity_is_that_worked_out_by_hand():
    X = np.tile([[0.0, 5.0], [1.0, 6.0]], (50, 1))  # replacing x0 flips the answer where it changes x0: with chance 50/99
    step = target(lambda X: np.column_stack([1 - X[:, 0], X[:, 0]]), classes=[0, 1])
    hd = explainer(step, ks=(1,), group_corr=None, n_repeats=40, max_queries=100_000).fit(X)
    assert hd.ranking_.scores["sensitivity"][0] == pytest.approx(50 / 99, abs=0.02)
    assert hd.ranking_.scores["sensitivity"][1] == 0
    assert 0 < hd.ranking_.spread["sensitivity"][0] < 0.1


def test_baseline_replaces_by_the_median():
    X = np.column_stack([np.repeat([0.0, 1.0], [60, 40]), rows(100, 1)[:, 0]])
    step = target(lambda X: np.column_stack([1 - X[:, 0], X[:, 0]]), classes=[0, 1])
    hd = explainer(step, ks=(1,), perturb="baseline", n_repeats=2, max_queries=10_000).fit(X)
    assert hd.ranking_.scores["sensitivity"][0] == pytest.approx(0.4)


def test_directions_say_which_class_a_column_speaks_for(fitted):
    assert fitted.ranking_.direction[3, 0] > 0.3
    assert fitted.ranking_.direction[3, 1] < -0.3
    assert "speaks for c" in next(line for line in fitted.ranking_.text(3).splitlines() if "x40" in line)


def test_labels_alone_are_enough():
    hd = explainer(target(lambda X: np.array(["a", "b", "c"])[box(X).argmax(axis=1)], output="class"), imitate="label")
    hd.fit(rows())
    assert set(hd.ranking_.top(3)) == {"x3", "x17", "x40"}
    assert hd.fidelity(rows(seed=1)).agreement.lower > 0.7


@pytest.mark.parametrize("surrogate", ["forest", "xgb", Ridge(), DecisionTreeClassifier(max_depth=6, random_state=0)], ids=str)
def test_other_imitations_follow_too_and_leave_a_tree_for_the_rules(surrogate):
    if surrogate == "xgb":
        pytest.importorskip("xgboost")
    hd = explainer(surrogate=surrogate, k=3).fit(rows(300))
    found = hd.fidelity(rows(400, seed=1))
    assert found.agreement.lower > 0.6
    assert found.r2.value > found.random[0].value + 0.3
    assert len(hd.program_.terms) > 3


# ---------------------------------------------------------------------- invariances
def test_the_order_of_columns_changes_nothing():
    X, order = rows(), np.random.default_rng(5).permutation(60)
    back = np.argsort(order)
    plain = explainer().fit(X)
    shuffled = explainer(target(lambda Z: box(Z[:, back]))).fit(X[:, order])
    assert order[shuffled.ranking_.order[:3]].tolist() == plain.ranking_.order[:3].tolist()
    assert shuffled.ranking_.scores["sensitivity"][back] == pytest.approx(plain.ranking_.scores["sensitivity"])
    assert shuffled.k_ == plain.k_


def test_same_seed_same_numbers_and_another_seed_the_same_columns():
    X = rows(300)
    one, again, other = (explainer(random_state=seed).fit(X) for seed in (0, 0, 1))
    assert (one.ranking_.order == again.ranking_.order).all()
    assert one.program_ == again.program_
    assert not np.array_equal(one.ranking_.scores["sensitivity"], other.ranking_.scores["sensitivity"])
    assert set(one.ranking_.top(3)) == set(other.ranking_.top(3))


def test_the_global_generators_are_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    explainer().fit(rows(100))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


# ---------------------------------------------------------------------- redundant, constant, and too many columns
def twins(X):
    """Uses the mean of two columns that are copies."""
    p = 1 / (1 + np.exp(-4 * (X[:, 0] + X[:, 1])))
    return np.column_stack([1 - p, p])


def test_copies_are_perturbed_together_and_found():
    X = rows(300, 20)
    X[:, 1] = X[:, 0]
    grouped = explainer(target(twins, classes=[0, 1]), ks=(2,)).fit(X)
    alone = explainer(target(twins, classes=[0, 1]), ks=(2,), group_corr=None).fit(X)
    assert set(grouped.ranking_.top(2)) == {"x0", "x1"}
    assert grouped.ranking_.groups[0] == grouped.ranking_.groups[1]
    assert "perturbed with 1 like it" in grouped.ranking_.text(1)
    assert grouped.ranking_.scores["sensitivity"][0] > 1.4 * alone.ranking_.scores["sensitivity"][0]


def test_opposite_columns_go_together_and_chains_do_not():
    rng = np.random.default_rng(0)
    first = rng.normal(size=400)
    chain = [first]
    for _ in range(6):  # each like the one before, the last unlike the first
        chain.append(0.93 * chain[-1] + np.sqrt(1 - 0.93**2) * rng.normal(size=400))
    X = np.column_stack([*chain, -first + 0.01 * rng.normal(size=400), rows(400, 3)])
    found = explainer(target(lambda X: twins(X[:, [0, 0]]), classes=[0, 1]), ks=(2,)).fit(X)
    groups = found.ranking_.groups
    assert groups[0] == groups[7]
    assert groups[0] != groups[6]


def test_constant_columns_are_kept_last_and_never_perturbed():
    X = rows(300, 60)
    X[:, [0, 59]] = 7.0
    hd = explainer().fit(X)
    assert set(hd.ranking_.order[-2:]) == {0, 59}
    assert hd.ranking_.groups[[0, 59]].tolist() == [-1, -1]
    assert (hd.ranking_.direction[[0, 59]] == 0).all()


def test_only_the_promising_columns_are_perturbed_where_not_all_can_be():
    X = rows(300, 400)
    wide = target(lambda X: box(X))
    hd = explainer(wide, max_queries=1000, n_repeats=5).fit(X)
    assert (hd.ranking_.groups >= 0).sum() == 25
    assert set(hd.ranking_.top(3)) == {"x3", "x17", "x40"}
    assert wide.account().asked <= 300 + 1100


def test_ks_beyond_the_columns_are_left_out():
    assert [choice.k for choice in explainer(ks=(10, 25, 50, 100)).fit(rows(120)).choices_] == [10, 25, 50]
    small = explainer(target(twins, classes=[0, 1]), ks=(10, 25)).fit(rows(120, 5))
    assert small.k_ == 5


# ---------------------------------------------------------------------- fidelity
def test_fidelity_stands_beside_rivals_and_grows_with_k(fitted):
    one, three = fitted.fidelity_by_k(rows(600, seed=1), ks=(1, 3))
    assert three.r2.lower > one.r2.upper
    assert {rival.name for rival in three.rivals} == {"constant", "one split", "linear model"}
    assert three.r2.lower > three.random[0].upper
    assert "3 columns at random" in three.text()
    assert three.r2.n == 600


def test_rows_of_the_fit_cannot_score(fitted):
    mixed = np.vstack([rows()[:100], rows(200, seed=2)])
    assert fitted.fidelity(mixed).agreement.n == 200
    with pytest.raises(NotFresh, match="100 of these 100 rows fitted"):
        fitted.fidelity(rows()[:100])


def test_groups_widen_the_interval(fitted):
    X = rows(400, seed=3)
    alone, together = fitted.fidelity(X), fitted.fidelity(X, groups=np.arange(400) // 40)
    assert together.agreement.groups == 10
    assert together.agreement.upper - together.agreement.lower > alone.agreement.upper - alone.agreement.lower


def test_r2_is_undefined_where_the_black_box_says_one_thing(fitted):
    X = np.tile(rows(1, seed=4), (30, 1))
    X[:, 5] = np.arange(30)
    found = fitted.fidelity(X)
    assert found.r2 is None
    assert "undefined" in found.text()


def test_k_is_not_chosen_on_rows_that_ranked():
    """Half of the rows are answered by x0 and half by x1, so that what ranks one half says nothing of the other."""

    def halves(X):
        p = np.where(X[:, 2] > 0, X[:, 0] > 0, X[:, 1] > 0).astype(float)
        return np.column_stack([1 - p, p])

    X = rows(2000, 6)
    hd = explainer(target(halves, classes=[0, 1]), ks=(1,), folds=2).fit(X, groups=X[:, 2] > 0)
    # Each half's own column is worse than none on the other: -1; with one column for both it would be -0.5.
    assert hd.choices_[0].r2 < -0.8


def test_the_price_is_told_and_purposes_are_kept():
    asked = target(price=0.5)
    hd = explainer(asked, k=3).fit(rows(200))
    spent = asked.account().asked
    assert hd.price_["calls"] == spent
    assert hd.price_["money"] == pytest.approx(spent / 2)
    assert spent < 200 + 6600
    hd.explain(rows(3, seed=8))
    assert hd.price_["calls"] == spent < asked.account().asked
    assert f"{spent} rows asked" in hd.report(3)


# ---------------------------------------------------------------------- keeping it
def test_the_tree_is_saved_and_exported_on_its_own_columns(fitted, tmp_path):
    X = rows(100, seed=5)
    standin = fitted.stand_in([fitted.fidelity(X).agreement])
    standin.save(tmp_path / "wide.standin")
    again = load(tmp_path / "wide.standin")
    near = X[:, fitted.columns_]
    assert (again.model.predict(near) == fitted.program_.predict(near)).all()
    assert again.domain.names == fitted.ranking_.top(3)
    assert "x17" in EXPORTS["sql"](standin.program)
    assert again.fidelity[0].measure == "agreement"


def test_the_ranking_is_a_frame(fitted):
    pytest.importorskip("pandas")
    frame = fitted.ranking_.to_frame()
    assert list(frame["column"][:3]) == list(fitted.ranking_.top(3))
    assert {"sensitivity", "sensitivity spread", "group", "towards a"} <= set(frame.columns)


def test_frames_are_read_by_name():
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows(200), columns=[f"gene {j}" for j in range(60)])
    hd = explainer(target(lambda X: box(X.to_numpy()))).fit(X)
    assert set(hd.ranking_.top(3)) == {"gene 3", "gene 17", "gene 40"}
    with pytest.raises(InvalidData, match="another order"):
        hd.explain(X[X.columns[::-1]])


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 61}, "at most the 60 columns there are, got 61"),
        ({"k": 0}, "expected k="),
        ({"ks": (0, 5)}, "expected ks="),
        ({"probes": ["attention"]}, "no model was given"),
        ({"probes": ["attention"], "model": ExtraTreesClassifier()}, "this ExtraTreesClassifier has none; leave out probes="),
        ({"perturb": None}, "nothing to rank columns by"),
        ({"perturb": "zero"}, "expected perturb="),
        ({"rank_by": "attention"}, "expected rank_by= to be one of fused, sensitivity"),
        ({"surrogate": "forrest"}, "expected surrogate= to be one of tree, forest, xgb, or an estimator"),
        ({"imitate": "score"}, "expected imitate="),
        ({"group_corr": 1.5}, "expected group_corr="),
        ({"n_repeats": 0}, "expected n_repeats="),
        ({"folds": 1}, "expected folds="),
    ],
)
def test_settings_are_refused_before_anything_is_asked(settings, message):
    asked = target()
    with pytest.raises(InvalidData, match=message):
        explainer(asked, **settings).fit(rows(50))
    assert asked.account().asked == 0


def test_rows_are_refused_before_anything_is_asked():
    asked, X = target(), rows(50)
    X[7, 11] = np.nan
    with pytest.raises(InvalidData, match=r"column 'x11' is missing \(NaN\) in row 7"):
        explainer(asked).fit(X)
    with pytest.raises(InvalidData, match="holds categories"):
        explainer(asked).fit(np.array([["a", 1.0], ["b", 2.0]], dtype=object))
    with pytest.raises(InvalidData, match="a label for each of the 50 rows"):
        explainer(asked).fit(rows(50), np.zeros(49))
    with pytest.raises(InvalidData, match="at least two groups"):
        explainer(asked).fit(rows(50), groups=np.zeros(50))
    assert asked.account().asked == 0


def test_what_is_no_target_of_classes_is_refused():
    with pytest.raises(InvalidData, match="expected a Target, got function"):
        HighDimExplainer(box).fit(rows(50))
    with pytest.raises(InvalidData, match="answers with values"):
        explainer(Target(lambda X: X[:, 0], name="v", output="value")).fit(rows(50))
    with pytest.raises(InvalidData, match="method='predict_proba'"):
        explainer(Target(lambda X: X[:, 0] > 0, name="c", output="class")).fit(rows(50))
    with pytest.raises(InvalidData, match="answers with labels"):
        explainer(Target(lambda X: X[:, 0] > 0, name="left to find out")).fit(rows(50))


def test_a_single_class_is_refused():
    one = target(lambda X: np.tile([0.9, 0.1], (len(X), 1)), classes=["yes", "no"])
    with pytest.raises(InvalidData, match="answers 'yes' on all 50 rows"):
        explainer(one).fit(rows(50))
