"""Two-step rollout, failures that teach, trust regions, and errors of inputs: each against what is known."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.optimize import Categorical, Integer, Real, Space  # noqa: E402
from locum.optimize._mfbo_acquisitions import Standing  # noqa: E402
from locum.optimize._mfbo_inputs import Varied  # noqa: E402
from locum.optimize._mfbo_trust import Window  # noqa: E402
from locum.optimize.mfbo import (  # noqa: E402
    AutoregressiveProcess,
    Fidelities,
    InputNoise,
    LevelClassifier,
    MultiFidelityOptimizer,
    NonlinearAutoregressiveProcess,
    TrustRegion,
    TwoStepRollout,
)

LINE = Space.box([(0, 1)])


def dear(point):
    return float((point["x0"] - 0.3) ** 2)


def cheap(point):
    return float(0.8 * dear(point) + 0.05 * np.sin(3 * point["x0"]))


def optimizer(levels=None, **settings):
    settings = {"direction": "minimize", "initial": (6, 3), **settings}
    levels = levels or Fidelities([cheap, dear], [1.0, 10.0])
    return MultiFidelityOptimizer(settings.pop("space", LINE), levels, **settings)


def waves():
    """Two levels of a wave, larger is better."""
    X = [np.linspace(0, 1, 9)[:, None], np.array([[0.0], [0.5], [0.875]])]
    return X, [np.sin(7 * X[0][:, 0]), 1.5 * np.sin(7 * X[1][:, 0]) + X[1][:, 0]]


def standing(process, cost=(1.0, 10.0), candidates=41):
    designs, values = process._X, process._y
    t = torch.as_tensor
    return Standing(
        t(designs[-1]), t(values[-1]), t(np.concatenate(designs)), t(np.linspace(0, 1, candidates)[:, None]), t(np.array(cost)),
        t(np.zeros(2)), 0.0, t(np.ones(1)), 0,
    )  # fmt: skip


# ---------------------------------------------------------------------- rollout
def test_a_rollout_is_what_simulated_answers_bring_on_average():
    # The value told is drawn, the process refitted with it, and the best expected improvement looked up: no closed form.
    designs, values = waves()
    process = AutoregressiveProcess(noise=0.0).fit(designs, values)
    now = standing(process, candidates=17)
    found = TwoStepRollout(nodes=12, seconds=20).table(process, now)(torch.tensor([[0.3]]).double()).exp()[0].numpy()
    grid, rng = np.concatenate([now.candidates, now.rows]), np.random.default_rng(0)
    for level, charge in ((0, 1.1), (1, 2.0)):
        mean, sd = process.predict([[0.3]], level, return_std=True)
        total = []
        for y in mean[0] + sd[0] * rng.normal(size=400):
            more, told = [np.zeros((0, 1)), np.zeros((0, 1))], [np.zeros(0), np.zeros(0)]
            more[level], told[level] = np.array([[0.3]]), np.array([y])
            m, s = process.believing(more, told).predict(grid, return_std=True)
            best = max(values[-1].max(), y if level else -np.inf)
            z = (m - best) / np.maximum(s, 1e-9)
            from scipy.stats import norm

            step = max(0.0, y - values[-1].max()) if level else 0.0
            total.append(step + (s * (z * norm.cdf(z) + norm.pdf(z))).max())
        assert found[level] * charge == pytest.approx(np.mean(total), abs=4 * np.std(total) / 20 + 1e-3)


def test_a_level_that_says_nothing_is_not_asked_by_a_rollout():
    designs, values = waves()
    process = AutoregressiveProcess(noise=0.0).fit(designs, [np.cos(40 * designs[0][:, 0] ** 2), values[1]])
    table = TwoStepRollout().table(process, standing(process, cost=(9.0, 10.0)))
    worth = table(torch.linspace(0, 1, 21, dtype=torch.float64)[:, None])
    assert worth[:, 1].max() > worth[:, 0].max()


def test_a_rollout_finds_the_best_design_and_needs_one_process():
    found = optimizer(acquisition=TwoStepRollout()).run(budget=70)
    assert found.x["x0"] == pytest.approx(0.3, abs=0.1)
    with pytest.raises(InvalidData, match="needs a surrogate that is one process over levels"):
        optimizer(surrogate=NonlinearAutoregressiveProcess(draws=8, noise=0.0), acquisition=TwoStepRollout()).run(budget=60)


# ---------------------------------------------------------------------- where levels work
def border(X):
    return X[:, 0] + 0.5 * X[:, 1] < 0.8


def test_cheap_failures_say_where_the_truth_fails():
    rng = np.random.default_rng(1)
    many, few, fresh = rng.random((50, 2)), rng.random((5, 2)), rng.random((400, 2))
    joint = LevelClassifier().fit([many, few], [border(many), border(few)])
    alone = LevelClassifier().fit([few], [border(few)])
    right = [((one.chance(fresh) > 0.5) == border(fresh)).mean() for one in (joint, alone)]
    assert right[0] > 0.9
    assert right[0] > right[1] + 0.05
    assert joint.ratios_[0] > 0.3


def test_levels_that_fail_elsewhere_are_told_apart():
    rng = np.random.default_rng(2)
    X = rng.random((40, 2))
    found = LevelClassifier().fit([X, X], [np.ones(40, bool), border(X)])
    inside, outside = [[0.1, 0.1]], [[0.9, 0.9]]
    assert found.chance(outside, 0)[0] > 0.8 > 0.2 > found.chance(outside)[0]
    assert found.chance(inside)[0] > 0.8


def test_chances_come_to_the_share_that_works_where_nothing_else_is_known():
    # All at one design: the chance lies between the prior's and the share seen.
    X = np.full((40, 1), 0.5)
    found = LevelClassifier().fit([X], [np.arange(40) % 4 > 0])
    assert found.chance([[0.5]])[0] == pytest.approx(0.75, abs=0.05)


def test_designs_that_fail_are_left_alone_once_that_is_learnt():
    def broken(function):
        def level(point):
            if point["x0"] < 0.35:
                raise RuntimeError("the mesh folds")
            return function(point)

        return level

    def run(failures):
        levels = Fidelities([broken(cheap), broken(dear)], [1.0, 10.0])
        return optimizer(levels, initial=(10, 5), failures=failures).run(budget=150)

    learnt, blind = run("learn"), run("leave out")
    paid = [np.dot([1.0, 10.0], [np.isnan(one.values[one.levels == k]).sum() for k in (0, 1)]) for one in (learnt, blind)]
    assert paid[0] < paid[1]
    assert learnt.x["x0"] == pytest.approx(0.35, abs=0.03)
    assert learnt.fun <= blind.fun + 1e-3


def test_a_first_failure_does_not_hide_how_many_constraints_there_are():
    one = optimizer()
    one.tell([({"x0": 0.9}, 1)], [np.nan])
    one.tell([({"x0": 0.8}, 1), ({"x0": 0.2}, 1)], [dear({"x0": 0.8}), np.nan], constraints=[[0.1, 0.2], [np.nan, np.nan]])
    assert [len(limit) for limit in one.constraints] == [2, 2, 2]
    with pytest.raises(InvalidData, match=r"shape \(1, 2\), as before"):
        one.tell([({"x0": 0.1}, 1)], [1.0])
    assert one.result().x == {"x0": 0.8}


def test_strange_classes_are_refused():
    with pytest.raises(InvalidData, match="whether they worked"):
        LevelClassifier().fit([[[0.1]]], [[True, False]])
    with pytest.raises(InvalidData, match="failures="):
        optimizer(failures="forget")


# ---------------------------------------------------------------------- trust region
def test_sides_follow_successes_and_failures():
    region = TrustRegion(length=0.8, least=0.15, successes=2, failures=2)
    assert region.side([1.0], 1, 3) == 0.8
    assert region.side([1.0, 2.0, 3.0], 1, 3) == 1.6
    assert region.side([1.0, 2.0, 0.0, 0.0], 1, 3) == 0.4
    assert region.side([1.0, 0.0, 2.0, 0.0], 1, 3) == 0.8  # not in a row
    assert region.side([1.0, 0, 0, 0, 0], 1, 3) == 0.2
    assert region.side([1.0, 0, 0, 0, 0, 0, 0], 1, 3) == 0.8  # 0.1 is too small: from the start
    assert region.side([np.nan, 1.0, np.nan], 1, 3) == 0.8
    with pytest.raises(InvalidData, match="least="):
        TrustRegion(length=0.1, least=0.2)
    with pytest.raises(InvalidData, match="trust_region="):
        optimizer(trust_region=0.5)


def test_a_window_is_a_part_of_its_space():
    space = Space([Real("a", 0.0, 10.0), Real("b", 1.0, 100.0, log=True), Integer("n", 1, 5), Categorical("k", ("u", "v"))])
    centre = {"a": 1.0, "b": 10.0, "n": 2, "k": "v"}
    part = Window(space, centre, 0.5)
    a, b, n, k = part.space.parameters
    assert (a.low, a.high) == pytest.approx((0.0, 3.5))
    assert (b.low, b.high) == pytest.approx((10**0.5, 10**1.5))
    assert (n, k) == space.parameters[2:]
    made = part.space.sample(50, np.random.default_rng(0))
    assert all(part.holds(point) for point in made)
    assert not part.holds({**centre, "a": 5.0})
    # The map that the search uses takes rows of the part to rows of the whole.
    rows = part.space.encode(made)
    assert np.allclose(part.low + rows * (part.high - part.low), space.encode(made))


def test_proposals_stay_in_the_trust_region():
    box = Space.box([(0, 1)] * 4)

    def bowl(point):
        return float(sum((value - 0.4) ** 2 for value in point.values()))

    levels = Fidelities([lambda p: 0.9 * bowl(p) + 0.1 * p["x0"], bowl], [1.0, 10.0])
    region = TrustRegion(length=0.3, failures=10**6, successes=10**6)
    one = optimizer(levels, space=box, initial=(8, 4), trust_region=region)
    for asked in one.ask(12):
        one.tell([asked], [levels.levels[asked.level](asked.point)])
    for _ in range(4):
        truth = [(v, p) for (p, k), v in zip(one.evaluations, one.values, strict=True) if k == 1]
        centre = min(truth, key=lambda pair: pair[0])[1]
        (asked,) = one.ask()
        assert max(abs(asked.point[name] - centre[name]) for name in centre) <= 0.15 + 1e-9
        one.tell([asked], [levels.levels[asked.level](asked.point)])


# ---------------------------------------------------------------------- errors of inputs
def test_moments_of_the_mean_are_those_of_draws():
    designs, values = waves()
    process = AutoregressiveProcess(noise=0.0).fit(designs, values)
    errors = InputNoise({"x0": 0.1}, draws=8).on(LINE)
    assert errors.std() == pytest.approx(0.1)
    X = torch.tensor([[0.3], [0.66]]).double()
    found = Varied(process, errors, None).moments(X)
    rows = np.concatenate([np.clip(x + errors, 0, 1) for x in X.numpy()])
    for level in (0, 1):
        each = process.predict(rows, level).reshape(2, -1).mean(axis=1)
        assert np.allclose(found.mean[:, level], each)
    # Points of a process average out: less is unknown of the mean than of the mean point on average.
    sd = process.predict(rows, 1, return_std=True)[1].reshape(2, -1)
    assert (found.variance[:, 1].numpy() < (sd**2).mean(axis=1)).all()
    half = Varied(process, errors, 0.5).moments(X)
    most = Varied(process, errors, 0.9).moments(X)
    assert (most.mean < half.mean).all()


def test_without_errors_nothing_changes():
    process = AutoregressiveProcess(noise=0.0).fit(*waves())
    X = torch.tensor([[0.31], [0.7]]).double()
    plain, varied = process.moments(X), Varied(process, np.zeros((4, 1)), None).moments(X)
    assert torch.allclose(plain.mean, varied.mean)
    assert torch.allclose(plain.covariance, varied.covariance, atol=1e-9)
    sure = Varied(process, np.zeros((4, 1)), 0.9).moments(X)
    assert torch.allclose(plain.mean, sure.mean, atol=1e-3)
    assert torch.allclose(plain.variance, sure.variance, rtol=0.1)


def test_a_sharp_optimum_gives_way_to_a_broad_one():
    def truth(point):
        x = point["x0"]
        return -float(1.2 * np.exp(-(((x - 0.2) / 0.03) ** 2)) + np.exp(-(((x - 0.7) / 0.25) ** 2)))

    levels = Fidelities([lambda p: 0.9 * truth(p) + 0.1 * p["x0"], truth], [1.0, 10.0])
    sharp = optimizer(levels, initial=(24, 10)).run(budget=200)
    broad = optimizer(levels, initial=(24, 10), input_noise=InputNoise({"x0": 0.06}, draws=8)).run(budget=155)
    assert sharp.x["x0"] == pytest.approx(0.2, abs=0.02)
    assert broad.x["x0"] == pytest.approx(0.7, abs=0.08)
    made = np.clip(broad.x["x0"] + 0.06 * np.random.default_rng(0).normal(size=4000), 0, 1)
    assert broad.expected == pytest.approx(np.mean([truth({"x0": x}) for x in made]), abs=0.05)
    assert "over errors of the inputs" in str(broad)
    assert sharp.expected is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (({},), "deviations above 0"), (({"x0": -1.0},), "deviations above 0"), (({"x0": 0.1}, 1.0), "share="),
        (({"x0": 0.1}, None, 1), "draws="), (({"y": 0.1},), "of real parameters, x0, got y"),
    ],
)  # fmt: skip
def test_strange_errors_of_inputs_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        optimizer(input_noise=InputNoise(*settings))
