"""The loop of a learner of Pareto sets: planted sets, failures, budgets, the same numbers again, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("botorch")

import locum.optimize.svh_psl as module
from locum.core.errors import InvalidData, TargetError
from locum.core.target import Budget, Target
from locum.optimize import Categorical, Integer, PowerWarp, Real, Space
from locum.optimize.svh_psl import ParetoSetLearner

BOX = [(-1.0, 3.0), (10.0, 30.0)]
ENDS = np.array([[0.0, 15.0], [2.0, 25.0]])  # where each objective is least; the set lies straight between


def distances(X):
    Z = (np.asarray(X)[:, None] - ENDS) / np.array([4.0, 20.0])
    return (Z**2).sum(axis=2)


def learner(**settings):
    return ParetoSetLearner(BOX, **{"hidden": (32,), "n_steps": 150, "learning_rate": 1e-2, **settings})


@pytest.fixture(scope="module")
def done():
    return learner(names=("to <a>", "to b")).minimize(distances, n_init=12, n_iter=3, batch_size=4)


def test_a_planted_set_is_learned(done):
    front = done.learned_front(41)
    assert front.preferences.shape == (41, 2)
    share = (front.designs - ENDS[0]) / (ENDS[1] - ENDS[0])
    assert np.abs(share[:, 0] - share[:, 1]).max() < 0.06
    assert (share[0] > 0.85).all()
    assert (share[-1] < 0.15).all()
    assert np.abs(front.mean - distances(front.designs)).max() < 0.01
    # A preference's own scalar is least at its own design.
    values = (distances(front.designs) - done.objectives.mean(axis=0)) / done.objectives.std(axis=0) - done.ideal_
    scalar = (front.preferences[:, None] * values[None]).max(axis=2)
    assert (np.diag(scalar) <= scalar.min(axis=1) + 0.1).all()
    assert np.median(scalar) > np.median(np.diag(scalar)) + 0.2


def test_what_was_evaluated(done):
    assert done.designs.shape == (24, 2)
    assert np.array_equal(done.objectives, distances(done.designs))
    low, high = np.array(BOX).T
    assert ((done.designs >= low) & (done.designs <= high)).all()
    assert len(np.unique(done.designs, axis=0)) == 24
    assert done.stopped_ == "all batches were evaluated"
    front = done.pareto_front_
    assert np.array_equal(front.objectives, distances(front.designs))
    dominated = (done.objectives[:, None] <= front.objectives[None]).all(axis=2)
    assert dominated.sum() == len(front.designs)
    # The proposals lie on the set, which twelve designs at random hardly meet.
    assert done.hypervolume([0.3, 0.3]) > 1.1 * module.hypervolume(done.objectives[:12], [0.3, 0.3])


def test_fidelity_stands_beside_cheap_rivals(done):
    found = done.fidelity()
    assert [one.objective for one in found] == ["to <a>", "to b"]
    for one in found:
        assert one.surrogate.n == one.coverage.n == 12
        assert one.surrogate.measure == "mae"
        assert one.surrogate.value < 0.2 * one.nearest.value
        assert one.nearest.value < one.mean.value
        assert str(one.surrogate) in one.text()
    X = np.column_stack([np.linspace(-0.9, 2.9, 15), np.linspace(29, 11, 15)])
    held = done.fidelity(X, distances(X))
    assert held[0].surrogate.how == "held-out evaluations"
    mean, sd = done.foretell(X)
    assert held[1].surrogate.value == pytest.approx(np.abs(mean - distances(X))[:, 1].mean())
    assert held[1].mean.value == pytest.approx(np.abs(done.objectives[:, 1].mean() - distances(X)[:, 1]).mean())
    near = ((X[:, None] - done.designs) ** 2 / np.array([16.0, 400.0])).sum(axis=2).argmin(axis=1)
    assert held[1].nearest.value == pytest.approx(np.abs(done.objectives[near] - distances(X))[:, 1].mean())
    inside = np.abs(mean - distances(X)) <= 1.6449 * sd
    assert held[0].coverage.value == pytest.approx(inside[:, 0].mean())


def test_the_same_seed_gives_the_same_numbers_and_asking_twice_the_same_designs():
    one, other, third = (learner(random_state=seed) for seed in (3, 3, 4))
    for each in (one, other, third):
        X = each.ask(8)
        assert np.array_equal(X, each.ask(8))
        each.tell(X, distances(X))
    assert np.array_equal(one.ask(3), one.ask(3))
    assert np.array_equal(one.ask(3), other.ask(3))
    assert np.array_equal(one.predict([[0.3, 0.7]]), other.predict([[0.3, 0.7]]))
    assert not np.array_equal(one.designs, third.designs)


def test_variants_start_from_the_same_designs_and_differ_after():
    found = []
    for settings in ({}, {"kernel": "global"}, {"kernel": None}, {"kernel": None, "normalize": None}):
        each = learner(n_steps=60, **settings).minimize(distances, n_init=8, n_iter=1, batch_size=3)
        found.append(each.designs)
        assert (each.learned_.interaction > 0) == (each.kernel is not None)
    assert all(np.array_equal(found[0][:8], one[:8]) for one in found)
    assert len({one[8:].tobytes() for one in found}) == 4


def test_units_of_the_objectives_do_not_matter():
    def stretched(X):
        return distances(X) * np.array([1e6, 1e-3]) + np.array([5e6, 7.0])

    plain, other = (learner(n_steps=60).minimize(f, n_init=8, n_iter=1) for f in (distances, stretched))
    assert np.allclose(plain.designs, other.designs, atol=1e-3)


def test_the_ideal_point_only_falls():
    each, before = learner(n_steps=30), np.zeros(2)
    for _ in range(4):
        X = each.ask(6)
        each.tell(X, distances(X))
        assert (each.ideal_ <= before).all()
        before = each.ideal_.copy()
    worked = (each.objectives - each.objectives.mean(axis=0)) / each.objectives.std(axis=0)
    assert (each.ideal_ <= worked.min(axis=0) - 0.1 + 1e-12).all()


def test_three_objectives_and_logarithmic_parameters():
    space = Space([Real("rate", 1e-4, 1.0, log=True), Real("x", 0.0, 1.0)])

    def three(X):
        rate, x = np.log10(X[:, 0]) / 4, X[:, 1]
        return np.column_stack([(rate + 0.5) ** 2 + x**2, rate**2 + (x - 1) ** 2, (rate + 1) ** 2 + (x - 0.5) ** 2])

    each = ParetoSetLearner(space, 3, hidden=(32,), n_steps=100, learning_rate=1e-2)
    each.minimize(three, n_init=15, n_iter=1)
    front = each.learned_front(66)
    assert front.designs.shape == (66, 2)
    assert front.mean.shape == (66, 3)
    anywhere = np.random.default_rng(0).random((3000, 2))
    best = three(np.column_stack([10 ** (4 * anywhere[:, 0] - 4), anywhere[:, 1]]))
    assert module.hypervolume(three(front.designs), [1.0, 1.0, 1.0]) > 0.9 * module.hypervolume(best, [1.0, 1.0, 1.0])
    assert np.abs(front.mean - three(front.designs)).mean() < 0.05


def test_an_objective_over_orders_of_magnitude_is_warped():
    def steep(X):
        return distances(X) ** np.array([1.0, 8.0]) * np.array([1.0, 1e9])

    plain, warped = (learner(n_steps=60, warp=warp).minimize(steep, n_init=25, n_iter=0) for warp in (None, PowerWarp()))
    X = np.column_stack([np.linspace(-0.9, 2.9, 30), np.linspace(29, 11, 30)])
    found = [each.fidelity(X, steep(X))[1].surrogate.value for each in (plain, warped)]
    assert np.isfinite(warped.foretell(X)[1]).all()
    assert found[1] < found[0]


# ---------------------------------------------------------------------- failures and budgets
def test_evaluations_that_failed_are_kept_and_not_learned_from():
    each = learner(n_steps=40)
    X = each.ask(10)
    failed = np.arange(10) % 3 == 0
    Y = distances(X)
    Y[0] = np.nan
    each.tell(X, np.where(failed[:, None], np.inf, Y), failed=failed)
    assert np.isnan(each.objectives).all(axis=1).tolist() == failed.tolist()
    only = learner(n_steps=40)
    only.tell(X[~failed], Y[~failed])
    assert np.array_equal(each.foretell(X)[0], only.foretell(X)[0])
    assert len(each.pareto_front_.designs) == len(only.pareto_front_.designs)
    proposed = each.ask(4)
    assert not (proposed[:, None] == X[None]).all(axis=2).any()


@pytest.mark.parametrize("how", ["raises", "NaN"])
def test_a_target_that_fails_somewhere_loses_nothing_else(how):
    def broken(X):
        bad = X[:, 0] > 2.0
        if how == "raises" and bad.any():
            raise RuntimeError("no mesh")
        return np.where(bad[:, None], np.nan, distances(X))

    each = learner(n_steps=40).minimize(broken, n_init=12, n_iter=1, batch_size=3)
    lost = np.isnan(each.objectives).all(axis=1)
    assert np.array_equal(lost, each.designs[:, 0] > 2.0)
    assert lost.any()
    assert len(each.designs) == 15
    assert np.array_equal(each.objectives[~lost], distances(each.designs[~lost]))


def test_a_target_that_always_fails_is_said_so():
    def never(X):
        raise RuntimeError("no licence")

    with pytest.raises(TargetError, match="6 of 6 evaluations failed; mend the objectives"):
        learner().minimize(never, n_init=6)


def test_a_budget_ends_a_run_and_a_ledger_resumes_it(tmp_path):
    calls = []

    def counted(X):
        calls.extend(X.tolist())
        return distances(X)

    settings = {"name": "d", "output": "value", "ledger": tmp_path / "runs.ledger", "fingerprint": "d"}
    short = learner(n_steps=40).minimize(Target(counted, **settings), n_init=8, n_iter=4, batch_size=4, budget=Budget(calls=14))
    assert short.stopped_ == "the budget ended"
    assert len(short.designs) == len(calls) == 14
    whole = learner(n_steps=40).minimize(Target(counted, **settings), n_init=8, n_iter=2, batch_size=4)
    assert np.array_equal(whole.designs[:14], short.designs)
    assert len(calls) == len(whole.designs) == 16


def test_progress_is_told():
    told = []
    learner(n_steps=30).minimize(distances, n_init=6, n_iter=2, batch_size=2, progress=lambda *one: told.append(one))
    assert [one[:2] for one in told] == [(6, 10), (8, 10), (10, 10)]
    assert told[-1][2].endswith("on the front")


# ---------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_obj": 1}, "expected n_obj= to be a whole number of 2 or more, got 1"),
        ({"kernel": "rbf"}, "expected kernel= to be one of local, global, got 'rbf'"),
        ({"normalize": "none"}, "expected normalize= to be one of coordinate, got 'none'"),
        ({"n_particles": 1}, "expected n_particles= to be a whole number of 2 or more, got 1"),
        ({"n_steps": 0}, "expected n_steps= to be a whole number of 1 or more"),
        ({"hidden": ()}, "expected hidden= with at least one width"),
        ({"hidden": (8, 0)}, "expected hidden= to be a whole number of 1 or more, got 0"),
        ({"c": 0.0}, "expected c= to be a number above 0, got 0.0"),
        ({"alpha": -1.0}, "expected alpha= to be a number of 0 or more, got -1.0"),
        ({"lcb": float("nan")}, "expected lcb= to be a number of 0 or more, got nan"),
        ({"names": ("a", "a")}, "expected 2 different names of objectives"),
        ({"surrogate": "gp"}, "expected surrogate= to be a GaussianProcess, got str"),
        ({"warp": 1.0}, "expected warp= to be a PowerWarp or None, got float"),
        ({"random_state": -1}, "random_state= to be a whole number of 0 or more"),
    ],
)
def test_settings_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        learner(**settings)


@pytest.mark.parametrize("other", [Integer("k", 1, 5), Categorical("kind", ("a", "b")), Real("x", 0, 1, when=("kind", ("a",)))])
def test_a_space_of_anything_but_real_numbers_is_refused(other):
    first = [Categorical("kind", ("a", "b"))] if isinstance(other, Real) else []
    with pytest.raises(InvalidData, match=r"expected a space of real numbers that always matter, but .* is none; relax it"):
        ParetoSetLearner(Space([*first, other]))


def test_what_is_told_is_checked_before_any_of_it_is_taken():
    each = learner()
    X = each.ask(4)
    Y = distances(X)
    for told, settings, message in [
        ((X, np.where(np.arange(4)[:, None] == 2, np.nan, Y)), {}, "row 2 of the objectives holds NaN or infinity; mark"),
        ((X, Y * np.array([1.0, np.inf])), {}, "row 0 of the objectives holds NaN or infinity"),
        ((X, Y[:, :1]), {}, r"expected objectives of shape \(4, 2\), got \(4, 1\)"),
        ((X[:, :1], Y), {}, r"expected designs of shape \(k, 2\), got \(4, 1\)"),
        ((X + 100.0, Y), {}, "expected x0 between -1 and 3"),
        ((X, Y), {"failed": [0, 1, 0, 0]}, "expected failed= as 4 bools"),
    ]:
        with pytest.raises(InvalidData, match=message):
            each.tell(*told, **settings)
    assert len(each.designs) == 0


@pytest.mark.parametrize(
    ("preferences", "message"),
    [
        ([[0.7, 0.7]], "whose parts are 0 or more and sum to 1; divide each row by its sum"),
        ([[1.2, -0.2]], "whose parts are 0 or more"),
        ([[np.nan, 1.0]], "whose parts are 0 or more"),
        ([[0.2, 0.3, 0.5]], r"expected preferences of shape \(k, 2\), got \(1, 3\)"),
        ([0.5, 0.5], r"expected preferences of shape \(k, 2\), got \(2,\)"),
    ],
)
def test_preferences_lie_on_the_simplex(done, preferences, message):
    with pytest.raises(InvalidData, match=message):
        done.predict(preferences)


def test_nearly_one_is_one(done):
    assert np.array_equal(done.predict([[0.4996, 0.4996]]), done.predict([[0.5, 0.5]]))


def test_nothing_is_predicted_from_nothing():
    with pytest.raises(InvalidData, match="expected two or more evaluations that did not fail"):
        learner().predict([[0.5, 0.5]])


def test_a_reference_point_that_nothing_dominates_is_warned_about(done):
    with pytest.warns(UserWarning, match="no evaluated design dominates the reference point; move it away"):
        assert done.hypervolume([-1.0, -1.0]) == 0.0


def test_held_out_designs_must_be_held_out(done):
    with pytest.raises(InvalidData, match="expected held-out designs, got some that were told before"):
        done.fidelity(done.designs, done.objectives)
    with pytest.raises(InvalidData, match="expected 10 or more designs with 2 finite objectives each"):
        done.fidelity(done.designs[:3] + 0.01, done.objectives[:3])
    assert learner().fidelity() == ()


def test_settings_of_a_run_are_refused_before_anything_is_paid():
    paid = []
    for settings, message in [
        ({"n_init": 1}, "expected n_init= to be a whole number of 2 or more"),
        ({"batch_size": 0}, "expected batch_size= to be a whole number of 1 or more"),
    ]:
        with pytest.raises(InvalidData, match=message):
            learner().minimize(lambda X: paid.append(X) or distances(X), **settings)
    assert not paid
    with pytest.raises(InvalidData, match="expected the target to give 2 objectives a design, got shape"):
        learner().minimize(lambda X: X[:, 0], n_init=4)
