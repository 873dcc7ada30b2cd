"""Closed forms of acquisition functions against simulation, against one another, and against BoTorch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("botorch")

import torch

from locum.core.errors import InvalidData
from locum.optimize import (
    AugmentedExpectedImprovement,
    BestObservedExpectedImprovement,
    EntropySearch,
    Environment,
    ExpectedImprovement,
    GaussianProcess,
    KnowledgeGradient,
    Known,
    NoisyExpectedImprovement,
    ParallelExpectedImprovement,
    PredictiveEntropySearch,
    Real,
    SimulatedKnowledgeGradient,
    Space,
    chance_of_feasibility,
    expected_maximum_gain,
    representer_information,
    stochastic_ascent,
)


def wave(U):
    return np.sin(5 * U[:, 0]) + (U[:, 1:] ** 2).sum(axis=1)


def case(n=8, d=2, noise=0.05, seed=0, m=40):
    """A process with noise, and what is known."""
    rng = np.random.default_rng(seed)
    U = rng.random((n, d))
    y = wave(U) + np.sqrt(noise) * rng.normal(size=n)
    process = GaussianProcess(noise=noise).fit(U, y)
    known = Known(torch.as_tensor(U), torch.as_tensor(y), torch.as_tensor(rng.random((m, d))))
    return process, known, torch.as_tensor(rng.random((5, 1, d)))


def joint(process, rows):
    """Mean and covariance by BoTorch itself."""
    with torch.no_grad():
        found = process.model_.posterior(rows)
        return found.mean[:, 0].numpy(), found.distribution.covariance_matrix.numpy()


def after(process, A, x, noise, Z):
    """Means at A after each of the observations at x that Z says, shape (len(Z), len(A)): conditioning as in any textbook."""
    mean, spread = joint(process, torch.cat([A, x]))
    return mean[:-1] + np.outer(Z, spread[:-1, -1] / np.sqrt(spread[-1, -1] + noise))


def near(closed, draws):
    """Whether a closed form lies within four standard errors of a simulation."""
    return abs(closed - draws.mean()) <= 4 * draws.std() / np.sqrt(len(draws)) + 1e-12


# ---------------------------------------------------------------------- the expected maximum of lines
@pytest.mark.parametrize("m", [2, 3, 7, 20, 50])
def test_the_expected_maximum_of_lines_is_that_of_a_simulation(m):
    rng = np.random.default_rng(m)
    a, b = rng.normal(size=m), rng.normal(size=m)
    a[m // 2], b[m // 2] = a[0], b[0]  # the same line twice
    b[-1] = b[0]  # and a parallel
    draws = (a + np.outer(rng.normal(size=200_000), b)).max(axis=1) - a.max()
    assert near(expected_maximum_gain(a, b), draws)


def test_lines_with_ties_and_meeting_points_by_hand():
    g = stats.norm.pdf(0.0)
    assert expected_maximum_gain([1.0, 1.0, 0.0], [2.0, 2.0, 2.0]) == pytest.approx(0, abs=1e-200)
    assert expected_maximum_gain([0.0, 0.0, 0.0], [-1.0, 0.0, 2.0]) == pytest.approx(3 * g)  # all three meet in a point
    assert expected_maximum_gain([0.0, 0.0], [0.0, 1.0]) == pytest.approx(g)
    assert expected_maximum_gain([5.0], [3.0]) == pytest.approx(0, abs=1e-200)
    # Far below: the gain is some 1e-90, which a difference of two numbers near 20 would not show.
    tiny = expected_maximum_gain([20.0, 0.0], [0.0, 1.0])
    assert tiny == pytest.approx(stats.norm.pdf(20) / 20**2, rel=0.01)
    many = expected_maximum_gain(np.zeros((4, 3, 2)), np.arange(24.0).reshape(4, 3, 2))
    np.testing.assert_allclose(many, g)


def test_the_order_of_lines_and_a_common_slope_change_nothing():
    rng = np.random.default_rng(0)
    a, b, order = rng.normal(size=12), rng.normal(size=12), rng.permutation(12)
    first = expected_maximum_gain(a, b)
    assert expected_maximum_gain(a[order], b[order]) == pytest.approx(first)
    assert expected_maximum_gain(3 + 2 * a, 2 * b) == pytest.approx(2 * first)
    assert expected_maximum_gain(a, -b) == pytest.approx(first)


def test_lines_that_are_none_are_refused():
    with pytest.raises(InvalidData, match="a height and a slope"):
        expected_maximum_gain([1.0], [1.0, 2.0])
    with pytest.raises(InvalidData, match="NaN or infinity"):
        expected_maximum_gain([1.0, np.nan], [1.0, 2.0])


# ---------------------------------------------------------------------- improvement
def test_expected_improvement_is_that_of_a_simulation():
    process, known, X = case()
    mean, spread = joint(process, X[:, 0])
    top = joint(process, known.rows)[0].max()
    Z = np.random.default_rng(1).normal(size=1_000_000)
    for acquisition, best in ((ExpectedImprovement(), top), (BestObservedExpectedImprovement(), known.values.max().item())):
        value = acquisition.of(process.model_, known)(X).exp().detach()
        for j in range(len(X)):
            assert near(value[j].item(), (mean[j] + np.sqrt(spread[j, j]) * Z - best).clip(0))


def test_noisy_improvement_is_that_of_a_simulation_and_counts_what_is_learnt_of_old_points():
    process, known, X = case(noise=0.2)
    X = torch.cat([X, known.rows[:1, None] + 0.01])
    value = NoisyExpectedImprovement().of(process.model_, known)(X).exp().detach().numpy()
    Z = np.random.default_rng(1).normal(size=1_000_000)
    top = joint(process, known.rows)[0].max()
    for j in range(len(X)):
        assert near(value[j], after(process, torch.cat([known.rows, X[j]]), X[j], 0.2, Z).max(axis=1) - top)
    plug_in = ExpectedImprovement().of(process.model_, known)(X).exp().detach().numpy()
    assert np.abs(value / plug_in - 1).max() > 0.1


def test_without_noise_noisy_improvement_is_expected_improvement():
    process, known, X = case(noise=0.0, n=6)
    noisy = NoisyExpectedImprovement().of(process.model_, known)(X).exp()
    plain = ExpectedImprovement().of(process.model_, known)(X).exp()
    spread = known.values.std().item()
    # The least noise there is, 2e-6 of the variance, leaves its mark.
    assert (noisy - plain).abs().max() < 2e-3 * spread
    rng = np.random.default_rng(0)
    mean, sd, best = rng.normal(size=(3, 50)) ** [[1], [2], [1]]
    lines = np.zeros((50, 4)), np.zeros((50, 4))
    lines[0][:, 0], lines[0][:, 1], lines[0][:, 2:] = best, mean, best[:, None] - 5
    lines[1][:, 1] = sd / np.sqrt(1 + 1e-10 / sd**2)  # as noise of 1e-10 has it
    found = expected_maximum_gain(*lines) + np.maximum(mean - best, 0)
    u = (mean - best) / sd
    np.testing.assert_allclose(found, sd * (u * stats.norm.cdf(u) + stats.norm.pdf(u)), atol=1e-6)


def test_a_batch_of_one_has_the_expected_improvement_and_more_points_have_more():
    process, known, X = case()
    single = ExpectedImprovement().of(process.model_, known)(X).exp()
    joint_ = ParallelExpectedImprovement(4096).of(process.model_, known)(X).exp()
    torch.testing.assert_close(joint_, single, rtol=0.05, atol=2e-3)
    two = ParallelExpectedImprovement(4096).of(process.model_, dataclasses.replace(known, pending=X[0]))(X[1:2]).exp().item()
    mean, spread = joint(process, X[:2, 0])
    draws = np.random.default_rng(0).multivariate_normal(mean, spread, size=400_000).max(axis=1)
    best = (draws - joint(process, known.rows)[0].max()).clip(0)
    assert two == pytest.approx(best.mean(), rel=0.03)


def test_the_penalty_of_the_augmented_improvement():
    process, known, X = case(noise=0.2)
    value = AugmentedExpectedImprovement().of(process.model_, known)(X).exp().detach().numpy()
    mean, spread = joint(process, torch.cat([known.rows, X[:, 0]]))
    n = len(known.rows)
    best = mean[:n][(mean[:n] - np.sqrt(spread.diagonal()[:n])).argmax()]
    sd = np.sqrt(spread.diagonal()[n:])
    u = (mean[n:] - best) / sd
    plain = sd * (u * stats.norm.cdf(u) + stats.norm.pdf(u))
    np.testing.assert_allclose(value, plain * (1 - np.sqrt(0.2 / (sd**2 + 0.2))), rtol=1e-5)


def test_constrained_improvement_is_that_of_a_simulation():
    process, known, X = case()
    limit = GaussianProcess(noise=0.0).fit(known.rows.numpy(), known.rows[:, 0].numpy() - 0.4)
    value = ExpectedImprovement().of(process.model_, known)(X) + chance_of_feasibility([limit.model_], X)
    rng = np.random.default_rng(2)
    top = joint(process, known.rows)[0].max()
    (mean, spread), (level, width) = joint(process, X[:, 0]), joint(limit, X[:, 0])
    for j in range(len(X)):
        f = mean[j] + np.sqrt(spread[j, j]) * rng.normal(size=1_000_000)
        g = level[j] + np.sqrt(width[j, j]) * rng.normal(size=1_000_000)
        assert near(value[j].exp().item(), (f - top).clip(0) * (g >= 0))


# ---------------------------------------------------------------------- the knowledge gradient
def finite(known, **more):
    """No column can take any value, so the set of decisions is that of the candidates, what was evaluated, and x."""
    return dataclasses.replace(known, free=torch.zeros(known.rows.shape[1], dtype=torch.float64), **more)


def decisions_of(known, x):
    return torch.cat([known.candidates, known.rows, x])


def test_the_knowledge_gradient_is_that_of_a_simulation():
    process, known, X = case(m=60)
    value = KnowledgeGradient(60).of(process.model_, finite(known))(X).exp().detach().numpy()
    Z = np.random.default_rng(1).normal(size=400_000)
    for j in range(len(X)):
        A = decisions_of(known, X[j])
        assert near(value[j], after(process, A, X[j], 0.05, Z).max(axis=1) - joint(process, A)[0].max())


def test_pending_points_are_part_of_the_knowledge_gradient():
    process, known, X = case(m=60)
    pending = X[0]
    value = KnowledgeGradient(60, samples=4096).of(process.model_, finite(known, pending=pending))(X[1:3]).exp().detach()
    rng = np.random.default_rng(1)
    for j, x in enumerate(X[1:3]):
        A = torch.cat([decisions_of(known, x), pending])
        mean, spread = joint(process, torch.cat([A, x, pending]))
        root = np.linalg.cholesky(spread[-2:, -2:] + 0.05 * np.eye(2))
        change = np.linalg.solve(root, spread[-2:, :-2])
        draws = (mean[:-2] + rng.normal(size=(200_000, 2)) @ change).max(axis=1) - mean[:-2].max()
        assert value[j].item() == pytest.approx(draws.mean(), rel=0.02)
    alone = KnowledgeGradient(60).of(process.model_, finite(known))(X).exp()
    assert (value > alone[1:3].detach()).all()


def test_the_joint_knowledge_gradient_is_botorchs():
    from botorch.acquisition.knowledge_gradient import qKnowledgeGradient
    from botorch.sampling import SobolQMCNormalSampler

    process, known, X = case(m=100, noise=0.01)
    sampler = SobolQMCNormalSampler(torch.Size([1024]), seed=3)
    pair = torch.cat([X[1], X[0]])
    grid = torch.cat([decisions_of(known, X[1]), X[0]])
    with torch.no_grad():
        top = process.model_.posterior(grid).mean.max()
        theirs = qKnowledgeGradient(process.model_, num_fantasies=1024, sampler=sampler, current_value=top)
        best = grid[process.model_.fantasize(pair, sampler).posterior(grid).mean[..., 0].argmax(dim=-1)]
        value = theirs(torch.cat([pair, best])[None]).item()
        ours = KnowledgeGradient(100, samples=4096).of(process.model_, finite(known, pending=X[0]))(X[1:2]).exp().item()
    assert ours == pytest.approx(value, rel=0.03)


def test_the_simulated_knowledge_gradient_is_that_of_a_fine_grid():
    process, known, X = case(m=100)
    X = X[[1, 4]]
    grid = torch.as_tensor(np.stack(np.meshgrid(*[np.linspace(0, 1, 70)] * 2), axis=-1).reshape(-1, 2))
    simulated = SimulatedKnowledgeGradient(samples=128, steps=40).of(process.model_, known)(X).exp().detach().numpy()
    top = joint(process, grid)[0].max()
    Z = stats.norm.ppf((np.arange(400) + 0.5) / 400)
    for j in range(len(X)):  # against some tails that so few numbers do not reach
        whole = (after(process, grid, X[j], 0.05, Z).max(axis=1) - top).mean()
        assert simulated[j] == pytest.approx(whole, rel=0.1, abs=1e-3)


def test_the_slope_by_the_envelope_theorem_is_that_of_differences():
    process, known, X = case()
    value = SimulatedKnowledgeGradient(samples=8, steps=60).of(process.model_, known)
    X = X[:3].clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(X).exp().sum(), X)
    for i in range(2):
        step = torch.zeros(2, dtype=X.dtype)
        step[i] = 1e-4
        with torch.no_grad():
            found = (value(X + step).exp() - value(X - step).exp()) / 2e-4
        np.testing.assert_allclose(slope[:, 0, i].numpy(), found.numpy(), rtol=0.02, atol=1e-4)


def test_stochastic_ascent_climbs():
    process, known, _ = case()
    acquisition = SimulatedKnowledgeGradient(samples=4, steps=5)
    row, value = stochastic_ascent(acquisition, process.model_, known, restarts=3, steps=25)
    started = acquisition.of(process.model_, known)(known.candidates[:3, None]).max().item()
    assert value > started
    assert ((row >= 0) & (row <= 1)).all()
    again = stochastic_ascent(acquisition, process.model_, known, restarts=3, steps=25)
    assert (again[0] == row).all()


# ---------------------------------------------------------------------- entropy
def test_both_sides_of_the_entropy_are_the_same_information_on_a_grid():
    grid = np.linspace(0, 1, 40)[:, None]
    U = np.array([[0.1], [0.45], [0.8]])
    process = GaussianProcess("rbf", noise=0.02).fit(U, np.array([0.0, 1.0, -0.3]))
    mean, spread = joint(process, torch.as_tensor(grid))
    at = [3, 15, 22, 37]
    slopes = spread[at] / np.sqrt(spread.diagonal()[at] + 0.02)[:, None]
    forward = representer_information(mean, spread, slopes, samples=16384, nodes=15)
    rng = np.random.default_rng(0)
    values, vectors = np.linalg.eigh(spread)
    f = mean + rng.normal(size=(100_000, 40)) @ (vectors * np.sqrt(values.clip(0))).T
    best = f.argmax(axis=1)

    def entropy(values):
        """Of a value with noise, by its density on a fine grid."""
        counts, edges = np.histogram(values, bins=400, range=(-8, 8))
        width = edges[1] - edges[0]
        kernel = stats.norm.pdf(np.arange(-60, 61) * width, scale=np.sqrt(0.02)) * width
        p = np.convolve(counts / len(values), kernel / kernel.sum(), mode="same")
        p = p[p > 0]
        return -(p * np.log(p / width)).sum()

    for j, place in enumerate(at):
        groups = [f[best == i, place] for i in np.unique(best) if (best == i).sum() > 30]
        kept = sum(map(len, groups))
        backward = entropy(f[:, place]) - sum(len(one) / kept * entropy(one) for one in groups)
        assert forward[j] == pytest.approx(backward, rel=0.07, abs=0.02)
    assert forward.max() > 0.1


def test_entropy_search_prefers_what_tells_of_the_best_point():
    process, known, _ = case(n=6, d=1, noise=0.01, m=64)
    X = torch.linspace(0, 1, 41, dtype=torch.float64)[:, None, None]
    value = EntropySearch(samples=512).of(process.model_, known)(X).exp()
    mean, spread = joint(process, known.candidates)
    draws = np.random.default_rng(0).multivariate_normal(mean, spread, 2000).argmax(axis=1)
    likely = known.candidates[np.bincount(draws, minlength=64).argmax(), 0].item()
    assert abs(X[value.argmax(), 0, 0].item() - likely) < 0.2
    known_best = PredictiveEntropySearch(16).of(process.model_, known)(X).exp()
    assert (known_best > 0).all()
    assert np.corrcoef(known_best.detach().numpy(), value.numpy())[0, 1] > 0.5


def test_shapes_of_representers_are_checked():
    with pytest.raises(InvalidData, match="expected shapes"):
        representer_information(np.zeros(3), np.eye(2), np.zeros((1, 3)))


# ---------------------------------------------------------------------- the mean over an environment
def test_the_mean_over_conditions_and_what_an_evaluation_says_of_it():
    space = Space([Real("x", 0.0, 1.0), Real("w", 0.0, 1.0)])
    aim = Environment([{"w": 0.1}, {"w": 0.6}, {"w": 0.9}], [0.5, 0.3, 0.2]).on(space)
    process, known, X = case(noise=0.1)
    known = dataclasses.replace(known, aim=aim)
    value = KnowledgeGradient(40).of(process.model_, known)(X[:2]).exp().detach().numpy()
    rng = np.random.default_rng(0)
    decisions = torch.linspace(0, 1, 80, dtype=torch.float64)
    for j, x in enumerate(X[:2]):
        rows = torch.stack([decisions.repeat_interleave(3), torch.tensor([0.1, 0.6, 0.9]).double().repeat(80)], dim=1)
        mean, spread = joint(process, torch.cat([rows, x]))
        draws = rng.normal(size=20_000)
        moved = mean[:-1] + np.outer(draws, spread[:-1, -1] / np.sqrt(spread[-1, -1] + 0.1))
        F = moved.reshape(-1, 80, 3) @ [0.5, 0.3, 0.2]
        now = mean[:-1].reshape(80, 3) @ [0.5, 0.3, 0.2]
        assert value[j] == pytest.approx((F.max(axis=1) - now.max()).mean(), rel=0.06, abs=1e-4)
