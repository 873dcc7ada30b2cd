"""The loop with goals, constraints and other settings: it finds planted optima, and refuses what makes no sense."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("botorch")

import torch

from locum.core.errors import InvalidData
from locum.optimize import (
    Categorical,
    EntropySearch,
    Environment,
    FidelityLevels,
    GaussianProcess,
    Integer,
    KnowledgeGradient,
    NoisyExpectedImprovement,
    Optimizer,
    ParallelExpectedImprovement,
    PredictiveEntropySearch,
    Real,
    SimulatedKnowledgeGradient,
    Space,
)

BOX = Space([Real("x", 0.0, 1.0), Real("y", 0.0, 1.0)])
FOLDS = Space([Real("x", 0.0, 1.0), Categorical("fold", (0, 1, 2))])
GOAL = Environment([{"fold": k} for k in range(3)], [0.5, 0.25, 0.25])
LEVELS = Space([Real("x", 0.0, 1.0), Integer("level", 0, 2)])


def bowl(point):
    return (point["x"] - 0.31) ** 2 + (point["y"] - 0.64) ** 2


def by_fold(point):
    return (point["x"] - (0.2, 0.9, 0.5)[point["fold"]]) ** 2  # the mean is least at 0.45


def run(optimizer, function, n):
    for _ in range(n):
        points = optimizer.ask()
        optimizer.tell(points, [function(point) for point in points])
    return optimizer


# ---------------------------------------------------------------------- acquisitions in the loop
@pytest.mark.parametrize(
    "acquisition",
    [NoisyExpectedImprovement(), KnowledgeGradient(20), EntropySearch(20, 128), ParallelExpectedImprovement(64)],
)
def test_each_acquisition_finds_a_bowl_with_points_pending(acquisition):
    optimizer = Optimizer(BOX, acquisition=acquisition, direction="minimize", initial=5)
    run(optimizer, bowl, 5)
    for _ in range(2):
        points = optimizer.ask(2)
        assert BOX.key(points[0]) != BOX.key(points[1])
        optimizer.tell(points, [bowl(point) for point in points])
    assert bowl(optimizer.recommend("best_mean")) < 0.01


@pytest.mark.parametrize("acquisition", [PredictiveEntropySearch(4), SimulatedKnowledgeGradient(4, 5)])
def test_dear_acquisitions_propose_points_and_the_same_ones_again(acquisition):
    told = [run(Optimizer(BOX, acquisition=acquisition, direction="minimize", initial=5), bowl, 6) for _ in range(2)]
    assert told[0].points == told[1].points
    assert BOX.check(told[0].points[-1]) == told[0].points[-1]


# ---------------------------------------------------------------------- what is recommended
def test_three_rules_of_recommendation():
    rng = np.random.default_rng(1)
    optimizer = Optimizer(Space([Real("x", 0.0, 1.0)]), direction="minimize", initial=15, warp=None)
    for point in optimizer.space.sobol(30, 3):
        optimizer.tell([point], [(point["x"] - 0.3) ** 2 + 0.15 * rng.normal()])
    rules = ("best_observed", "best_mean_evaluated", "best_mean")
    observed, evaluated, anywhere = (optimizer.recommend(rule) for rule in rules)
    assert observed == optimizer.points[int(np.argmin(optimizer.values))]
    means = GaussianProcess().fit(optimizer.space.encode(optimizer.points), optimizer.values)
    rows = optimizer.space.encode(optimizer.points)
    assert evaluated == optimizer.points[int(means.predict(rows).argmin())]
    assert evaluated == optimizer.recommend() != observed
    grid = np.linspace(0, 1, 2001)[:, None]
    assert means.predict(optimizer.space.encode([anywhere]))[0] <= means.predict(grid).min() + 1e-4
    with pytest.raises(InvalidData, match="best_observed, best_mean_evaluated, best_mean"):
        optimizer.recommend("best")


# ---------------------------------------------------------------------- constraints
def test_the_best_point_that_keeps_the_constraints():
    optimizer = Optimizer(BOX, GaussianProcess(noise=0.0), direction="minimize", initial=6)
    for _ in range(10):
        points = optimizer.ask()
        limits = [[point["x"] - 0.5, 0.9 - point["y"]] for point in points]
        optimizer.tell(points, [bowl(point) for point in points], constraints=limits)
    best = optimizer.recommend()
    assert 0.5 <= best["x"] < 0.6
    assert abs(best["y"] - 0.64) < 0.15
    anywhere = optimizer.recommend("best_mean")
    assert abs(anywhere["x"] - 0.5) < 0.03
    assert optimizer.result().best == best


def test_where_nothing_keeps_the_constraints_yet_it_looks_for_what_does():
    optimizer = Optimizer(BOX, GaussianProcess(noise=0.0), direction="minimize", initial=4)
    for point in ({"x": 0.1, "y": 0.1}, {"x": 0.3, "y": 0.5}, {"x": 0.5, "y": 0.2}, {"x": 0.2, "y": 0.9}):
        optimizer.tell([point], [bowl(point)], constraints=[[point["x"] - 0.9]])
    with pytest.warns(UserWarning, match="no point told keeps the constraints; looking"):
        (point,) = optimizer.ask()
    assert point["x"] > 0.85
    with pytest.warns(UserWarning, match="nearest"):
        assert optimizer.recommend()["x"] == 0.5


def test_constraints_come_with_every_evaluation():
    optimizer = Optimizer(BOX, direction="minimize")
    one = {"x": 0.5, "y": 0.5}
    optimizer.tell([one], [1.0], constraints=[[1.0, 2.0]])
    for wrong, message in ((None, r"shape \(1, 2\), as before"), ([[1.0]], r"shape \(1, 2\)"), ([[1.0, np.nan]], "NaN or inf")):
        with pytest.raises(InvalidData, match=message):
            optimizer.tell([one], [1.0], constraints=wrong)
    optimizer.tell([one], [np.nan], constraints=[[np.nan, np.nan]])
    assert len(optimizer.points) == 2


# ---------------------------------------------------------------------- environments
@pytest.mark.parametrize("acquisition", [KnowledgeGradient(20), EntropySearch(20, 128)])
def test_the_mean_over_conditions_is_optimised_by_one_of_them_at_a_time(acquisition):
    optimizer = Optimizer(FOLDS, acquisition=acquisition, goal=GOAL, direction="minimize", initial=6)
    run(optimizer, by_fold, 12)
    found = optimizer.recommend("best_mean")
    assert set(found) == {"x"}
    assert abs(found["x"] - 0.45) < 0.08
    assert {point["fold"] for point in optimizer.points} == {0, 1, 2}
    result = optimizer.result()
    assert set(result.best) == {"x"}
    assert result.value == result.mean


def test_evaluations_lie_at_the_conditions_alone():
    space = Space([Real("x", 0.0, 1.0), Real("angle", 0.0, 10.0)])
    goal = Environment([{"angle": 2.0}, {"angle": 7.0}])
    optimizer = Optimizer(space, acquisition=KnowledgeGradient(10), goal=goal, direction="maximize", initial=5)
    run(optimizer, lambda point: -((point["x"] - point["angle"] / 10) ** 2), 8)
    assert {round(point["angle"], 9) for point in optimizer.points} == {2.0, 7.0}
    assert abs(optimizer.recommend("best_mean")["x"] - 0.45) < 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Environment([]), "one or more conditions"),
        (lambda: Environment([{"fold": 0}, {"seed": 1}]), "the same names"),
        (lambda: Environment([{"fold": 0}, {"fold": 1}], [0.5, 0.6]), "sum to 1"),
        (lambda: Environment([{"fold": 0}], [-1.0]), "sum to 1"),
        (lambda: Environment([{"seed": 0}]).on(FOLDS), "parameters of the space"),
        (lambda: Environment([{"x": 0.5, "fold": 0}]).on(FOLDS), "nothing is left to decide"),
        (lambda: Environment([{"fold": 7}]).on(FOLDS), "fold to be one of"),
        (lambda: FidelityLevels("level", 2, 3.0), "cost= to be a function"),
        (lambda: FidelityLevels("level", 2, lambda level: 0.0), "costs above 0"),
        (lambda: FidelityLevels("mesh", 2, lambda level: 1.0).on(LEVELS), "parameters of the space"),
        (lambda: Optimizer(FOLDS, direction="minimize", goal=GOAL), "use KnowledgeGradient or EntropySearch"),
        (lambda: Optimizer(FOLDS, direction="minimize", goal=GOAL), "ExpectedImprovement counts nothing"),
        (lambda: Optimizer(FOLDS, direction="minimize", goal="mean"), "to be a Goal"),
        (lambda: KnowledgeGradient(0), "decisions= to be a whole number"),
        (lambda: EntropySearch(samples=1), "samples= to be a whole number"),
    ],
)
def test_goals_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InvalidData, match=message):
        make()


def test_no_value_shows_the_goal_of_an_environment():
    optimizer = Optimizer(FOLDS, acquisition=KnowledgeGradient(), goal=GOAL, direction="minimize")
    with pytest.raises(InvalidData, match="no evaluation shows Environment"):
        optimizer.recommend("best_observed")


# ---------------------------------------------------------------------- levels
@pytest.mark.parametrize("acquisition", [KnowledgeGradient(20), EntropySearch(20, 128)])
def test_cheap_levels_are_used_where_they_teach_and_the_target_is_recommended(acquisition):
    price = {0: 0.02, 1: 0.2, 2: 1.0}
    optimizer = Optimizer(
        LEVELS, acquisition=acquisition, goal=FidelityLevels("level", 2, price.get), direction="minimize", initial=6
    )
    run(optimizer, lambda point: (point["x"] - 0.37) ** 2 + 0.02 * (2 - point["level"]) * point["x"], 13)
    chosen = [point["level"] for point in optimizer.points[6:]]
    assert chosen.count(0) > chosen.count(2)
    best = optimizer.recommend("best_mean")
    assert best["level"] == 2
    assert abs(best["x"] - 0.37) < 0.1
    same = FidelityLevels("level", 2, lambda level: 1.0)
    dear = Optimizer(LEVELS, acquisition=acquisition, goal=same, direction="minimize", initial=6)
    for point, value in zip(optimizer.points[:6], optimizer.values[:6], strict=True):
        dear.tell([point], [value])
    assert dear.ask()[0]["level"] == 2  # at one price for all levels the truth teaches most


# ---------------------------------------------------------------------- the process and its settings
def test_settings_are_drawn_from_their_posterior():
    rng = np.random.default_rng(0)
    U = rng.random((25, 2))
    y = np.sin(6 * U[:, 0]) + 0.05 * rng.normal(size=25)  # the second column does not matter
    process = GaussianProcess(hyperparameters="sampled").fit(U, y)
    assert len(process.models_) > 4
    lengths = np.array([one.covar_module.lengthscale.detach().numpy()[0] for one in process.models_])
    assert np.median(lengths[:, 1]) > 3 * np.median(lengths[:, 0])
    assert lengths[:, 0].std() > 0
    again = GaussianProcess(hyperparameters="sampled").fit(U, y)
    V = rng.random((20, 2))
    mean, sd = process.predict(V, return_std=True)
    np.testing.assert_array_equal(again.predict(V), mean)
    assert np.abs(mean - np.sin(6 * V[:, 0])).mean() < 0.15
    parts = [one.posterior(torch.as_tensor(V), observation_noise=True) for one in process.models_]
    within = np.mean([one.variance.detach().numpy()[:, 0] for one in parts], axis=0)
    assert (sd**2 >= within - 1e-12).all()


def test_the_slice_sampler_draws_from_the_posterior_of_the_noise():
    """With values of noise alone the posterior of its variance is near what counting says."""
    rng = np.random.default_rng(3)
    U, y = rng.random((60, 1)), rng.normal(size=60)
    draws = [one.likelihood.noise.item() for seed in range(2) for one in
             GaussianProcess("rbf", hyperparameters="sampled", random_state=seed).fit(U, y).models_]  # fmt: skip
    assert 0.5 < np.mean(draws) < 1.4
    assert 0.05 < np.std(draws) < 0.5


def test_the_acquisition_is_averaged_over_the_settings():
    points, asked = BOX.sobol(7, 1), BOX.sobol(5, 2)
    optimizer = Optimizer(BOX, GaussianProcess(hyperparameters="sampled"), direction="minimize", initial=5, warp=None)
    optimizer.tell(points, [bowl(point) for point in points])
    rows = BOX.encode(points)
    process = GaussianProcess(hyperparameters="sampled").fit(rows, [-bowl(point) for point in points])
    each = []
    for model in process.models_:
        found, best = model.posterior(torch.as_tensor(BOX.encode(asked))), model.posterior(torch.as_tensor(rows)).mean.max()
        mean, sd = found.mean[:, 0].detach().numpy(), found.variance[:, 0].sqrt().detach().numpy()
        u = (mean - best.item()) / sd
        each.append(sd * (u * stats.norm.cdf(u) + stats.norm.pdf(u)))
    np.testing.assert_allclose(np.exp(optimizer.worth(asked)), np.mean(each, axis=0), rtol=1e-6)
    assert np.std(each, axis=0).max() > 0


def test_likelihood_alone_and_other_kernels():
    rng = np.random.default_rng(0)
    U = rng.random((30, 1))
    y = 4 * np.sin(5 * U[:, 0])
    V = rng.random((50, 1))
    for kernel in ("matern52", "matern32", "rbf", "power_exponential"):
        for hyperparameters in ("map", "mle"):
            process = GaussianProcess(kernel, noise=0.0, hyperparameters=hyperparameters).fit(U, y)
            assert np.abs(process.predict(V) - 4 * np.sin(5 * V[:, 0])).max() < 0.3
    assert np.abs(GaussianProcess("matern12").fit(U, y).predict(V) - 4 * np.sin(5 * V[:, 0])).mean() < 0.3


def test_the_power_exponential_kernel_is_its_formula_and_the_gaussian_at_two():
    U = np.random.default_rng(0).random((12, 2))
    kernel = GaussianProcess("power_exponential").fit(U, U[:, 0]).model_.covar_module
    assert kernel.power.item() > 1.9  # a line is smooth
    kernel.initialize(raw_power=torch.tensor([0.3]))
    lengths, power = kernel.lengthscale.detach().numpy()[0], kernel.power.item()
    assert 1 < power < 2
    apart = np.abs(U[:, None] - U[None]) / lengths
    with torch.no_grad():
        found = kernel(torch.as_tensor(U)).to_dense().numpy()
    np.testing.assert_allclose(found, np.exp(-(apart**power).sum(axis=2)), atol=1e-7)


@pytest.mark.parametrize("mean", ["linear", "quadratic", lambda rows: rows[..., :1] ** 2])
def test_a_mean_of_features_carries_on_beyond_the_data(mean):
    U = np.random.default_rng(0).random((25, 1)) * 0.5
    y = 10 * U[:, 0] ** 2 if mean != "linear" else 10 * U[:, 0]
    truth = 10.0
    with_features = GaussianProcess("rbf", mean=mean).fit(U, y).predict(np.array([[1.0]]))[0]
    assert abs(with_features - truth) < 1.5
    optimizer = Optimizer(BOX, GaussianProcess(mean=mean), KnowledgeGradient(10), direction="minimize", initial=5)
    assert bowl(run(optimizer, bowl, 8).recommend()) < 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"mean": "cubic"}, "mean= to be one of"), ({"hyperparameters": "nuts"}, "hyperparameters= to be one of map, mle")],
)
def test_settings_of_the_process_are_checked(settings, message):
    with pytest.raises(InvalidData, match=message):
        GaussianProcess(**settings).fit(np.random.default_rng(0).random((4, 1)), np.arange(4.0))


# ---------------------------------------------------------------------- one step and two
def test_one_step_of_improvement_is_close_to_two_in_one_dimension():
    """Two steps ahead by exhaustion on a grid, with expected improvement as the last: one step gets most of what two get."""
    space = Space([Real("x", 0.0, 1.0)])
    U = np.array([[0.1], [0.5], [0.9]])
    y = np.array([0.1, 0.6, 0.3])
    model = GaussianProcess("rbf", noise=0.0).fit(U, y).model_
    grid = torch.linspace(0, 1, 41, dtype=torch.float64)[:, None]
    with torch.no_grad():
        found = model.posterior(grid)
        mean, spread = found.mean[:, 0].numpy(), found.distribution.covariance_matrix.numpy()
    at, weights = np.polynomial.hermite_e.hermegauss(9)
    weights = weights / weights.sum()

    def improvement(mean, variance, best):
        sd = np.sqrt(np.maximum(variance, 1e-12))
        u = (mean - best) / sd
        return sd * (u * stats.norm.cdf(u) + stats.norm.pdf(u))

    def two_steps(i):
        sd = np.sqrt(spread[i, i] + 1e-9)
        slope, left = spread[i] / sd, spread.diagonal() - (spread[i] / sd) ** 2
        total = 0.0
        for z, w in zip(at, weights, strict=True):
            best = max(0.6, mean[i] + sd * z)
            total += w * (best - 0.6 + improvement(mean + slope * z, left, best).max())
        return total

    ahead = np.array([two_steps(i) for i in range(41)])
    once = improvement(mean, spread.diagonal(), 0.6)
    assert (ahead >= once - 1e-6).all()
    assert ahead[once.argmax()] > 0.75 * ahead.max()
    optimizer = Optimizer(space, GaussianProcess("rbf", noise=0.0), direction="maximize", initial=3)
    optimizer.tell([{"x": u} for u in U[:, 0]], y)
    assert abs(optimizer.ask()[0]["x"] - grid[once.argmax(), 0].item()) < 0.05
