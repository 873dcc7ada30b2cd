"""What comes of guesses: changes with intervals, shrinkage, ratings."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.explain._simulation_analysis import shrunken
from locum.explain.simulatability import Response, SimulationRun

QUADRANTS = ("TP", "FP", "TN", "FN")


def guesses(chances, *, users=20, items=32, seed=0, spread=0.0, rating=None):
    """Guesses right with the chances given before and after; readers gain more or less by `spread`, all methods each."""
    rng = np.random.default_rng(seed)
    shift = rng.normal(0, spread, users)
    rows = []
    for method, (pre, post) in chances.items():
        for u in range(users):
            for i in range(items):
                right = [float(rng.random() < np.clip(p, 0, 1)) for p in (pre, post + shift[u])]
                rated = np.nan if rating is None else rating(rng, right)
                rows.append(Response(method, "s", str(u), f"i{i}", QUADRANTS[i % 4], *right, rated))
    return SimulationRun(tuple(rows), False, "forward")


def test_the_change_is_the_difference_of_the_means():
    run = guesses({"a": (0.6, 0.8), "b": (0.6, 0.6)})
    for one in run.change(n_boot=400):
        rows = [r for r in run.responses if r.method == one.method]
        assert one.post == pytest.approx(np.mean([r.post for r in rows]))
        assert one.change.value == pytest.approx(one.post - one.pre)
        assert one.change.lower < one.change.value < one.change.upper
        assert (one.n_items, one.n_students, one.change.n) == (32, 20, 640)


def test_perfect_and_hopeless_readers():
    run = guesses({"a": (0.0, 1.0)})
    (one,) = run.change(n_boot=300)
    assert (one.pre, one.post) == pytest.approx((0.0, 1.0), abs=1e-3)
    assert (one.change.lower, one.change.upper) == pytest.approx((1.0, 1.0), abs=1e-3)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    """Readers gain differently; the true change is .1 in each of 80 experiments."""
    inside = 0
    for seed in range(80):
        (one,) = guesses({"a": (0.5, 0.6)}, users=16, seed=seed, spread=0.2).change(n_boot=200)
        inside += one.change.lower <= 0.1 <= one.change.upper
    assert inside >= 71


def test_the_four_quadrants_count_alike_although_answers_are_missing():
    """All of TP right and the others wrong, with most of TP missing: a quarter, not less."""
    rows = []
    for u in range(6):
        for i in range(16):
            right = float(i % 4 == 0)
            rows.append(Response("a", "s", str(u), f"i{i}", QUADRANTS[i % 4], right, np.nan if right and u else right))
    (one,) = SimulationRun(tuple(rows), True, "forward").change(n_boot=200)
    assert one.post == pytest.approx(0.25)
    assert one.change.n == 4 * 1 + 12 * 6


def test_a_contrast_is_paired_over_readers_and_items():
    """Two methods with the very same guesses differ by nothing, without any doubt."""
    run = guesses({"a": (0.5, 0.7)}, spread=0.2)
    twin = SimulationRun((*run.responses, *(r._replace(method="b") for r in run.responses)), False, "forward")
    found = twin.contrast("a", "b", "s", n_boot=300)
    assert (found.value, found.lower, found.upper) == (0.0, 0.0, 0.0)
    better = guesses({"a": (0.5, 0.9), "b": (0.5, 0.6)})
    assert better.contrast("a", "b", "s", n_boot=300).lower > 0.2
    with pytest.raises(InvalidData, match="there is no method 'c'; expected one of a, b"):
        twin.contrast("a", "c", "s")


def test_readers_of_one_method_each_are_drawn_within_it():
    first, second = guesses({"a": (0.5, 0.9)}, users=5), guesses({"b": (0.5, 0.5)}, users=3, seed=1)
    rows = (*first.responses, *(r._replace(user=f"b{r.user}") for r in second.responses))
    a, b = SimulationRun(rows, True, "forward").change(n_boot=300)
    assert (a.n_students, b.n_students) == (5, 3)
    assert a.change.lower > 0
    assert a.change.groups == 5


def test_shrinkage_draws_accuracies_together_and_leaves_clear_differences():
    shares = np.array([[0.4, 0.5, 0.6], [0.1, 0.5, 0.9]])
    few, many = shrunken(shares, np.full((2, 3), 10.0)), shrunken(shares, np.full((2, 3), 1e5))
    assert few[0] == pytest.approx(np.full(3, 0.5), abs=1e-6)  # no more spread than chance makes
    assert 0.1 < few[1, 0] < 0.2
    assert 0.8 < few[1, 2] < 0.9
    assert many == pytest.approx(shares, abs=1e-3)
    assert shrunken(np.full((1, 4), 0.7), np.full((1, 4), 50.0)) == pytest.approx(0.7)
    turned = shrunken(shares[:, ::-1], np.full((2, 3), 10.0))
    assert turned == pytest.approx(few[:, ::-1])


def test_shrinkage_recovers_the_spread_that_was_planted():
    """Over many groups the shrunken shares are nearer to the truth than the raw ones."""
    rng = np.random.default_rng(0)
    truth = 1 / (1 + np.exp(-rng.normal(0.8, 0.4, size=(50, 12))))
    raw = rng.binomial(32, truth) / 32
    found = shrunken(raw, np.full(truth.shape, 32.0))
    assert ((found - truth) ** 2).mean() < 0.85 * ((raw - truth) ** 2).mean()


def test_shrinkage_agrees_with_a_general_mixed_model():
    statsmodels = pytest.importorskip("statsmodels.genmod.bayes_mixed_glm", reason="the comparison needs statsmodels")
    shares, n = np.array([0.45, 0.6, 0.75, 0.9, 0.65, 0.3]), 60
    y = np.concatenate([np.r_[np.ones(round(s * n)), np.zeros(n - round(s * n))] for s in shares])
    groups = np.repeat(np.arange(6), n)
    of_group, ones = groups[:, None] == np.arange(6), np.ones((len(y), 1))
    fit = statsmodels.BinomialBayesMixedGLM(y, ones, of_group, np.zeros(6, dtype=int), vcp_p=5).fit_map()
    theirs = 1 / (1 + np.exp(-(fit.fe_mean[0] + fit.vc_mean)))
    ours = shrunken(np.round(shares * n)[None] / n, np.full((1, 6), float(n)))[0]
    # Theirs has a prior on the spread and takes its mode; both move each share by a few hundredths at most.
    assert ours == pytest.approx(theirs, abs=0.02)


def test_ratings_that_tell_and_ratings_that_do_not():
    telling = guesses({"a": (0.5, 0.5)}, rating=lambda rng, right: 3.0 + 2 * right[1] + rng.normal())
    empty = guesses({"a": (0.5, 0.5)}, rating=lambda rng, right: float(rng.integers(1, 8)))
    assert telling.rating_effect("s", n_boot=300).lower > 0.1
    found = empty.rating_effect("s", n_boot=300)
    assert found.lower < 0 < found.upper
    turned = SimulationRun(tuple(r._replace(rating=8 - r.rating) for r in telling.responses), False, "forward")
    assert turned.rating_effect("s", n_boot=300).upper < -0.1
    with pytest.raises(InvalidData, match="ratings and guesses that differ among 0"):
        guesses({"a": (0.5, 0.5)}).rating_effect("s")


def test_a_rating_effect_worked_by_hand():
    """Half right at 4, three quarters right at 5: the difference is a quarter."""
    rows = []
    for u in range(10):
        for i in range(40):
            high = i // 4 % 2
            right = float((i // 8) % 4 < (3 if high else 2))
            rows.append(Response("a", "s", str(u), f"i{i}", QUADRANTS[i % 4], 0.0, right, 4.0 + high))
    shares = [np.mean([r.post for r in rows if r.rating == rating]) for rating in (4.0, 5.0)]
    found = SimulationRun(tuple(rows), False, "forward").rating_effect("s", n_boot=200)
    assert found.value == pytest.approx(shares[1] - shares[0], abs=1e-3)


def test_the_same_seed_gives_the_same_interval_and_the_order_of_rows_is_nothing():
    run = guesses({"a": (0.5, 0.7), "b": (0.5, 0.6)})
    turned = SimulationRun((*run.responses[640:], *run.responses[:640]), False, "forward")
    first = {one.method: one.change.value for one in run.change(n_boot=200)}
    assert first == pytest.approx({one.method: one.change.value for one in turned.change(n_boot=200)})
    assert [str(one) for one in run.change(n_boot=200)] == [str(one) for one in run.change(n_boot=200)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"n_boot": 10}, "n_boot= to be a whole number of 200"), ({"level": 1.0}, "level between")],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        guesses({"a": (0.5, 0.7)}).change(**settings)
