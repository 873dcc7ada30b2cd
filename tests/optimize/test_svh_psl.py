"""Steps of a learner of Pareto sets against the formulas written out, and its fronts against hand and peer."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.nets import seeded  # noqa: E402
from locum.optimize import GaussianProcess  # noqa: E402
from locum.optimize._svh_psl_engine import Bound, ParetoNetwork, Rule, chosen, direction, learn, similarity  # noqa: E402
from locum.optimize._svh_psl_front import even_preferences, nondominated, volume  # noqa: E402
from locum.optimize.svh_psl import hypervolume  # noqa: E402

CENTRES = torch.tensor([[0.2, 0.7, 0.4], [0.9, 0.1, 0.5], [0.3, 0.3, 0.8]], dtype=torch.float64)


def bowls(x):
    """As many objectives as designs have parameters, each with a curved slope of its own."""
    n = x.shape[1]
    return torch.stack([((x - CENTRES[j, :n]) ** 2).sum(dim=1) + 0.3 * torch.sin(5 * x[:, j]) for j in range(n)], dim=1)


def network(*sizes, seed=0):
    with seeded(seed):
        made = ParetoNetwork(sizes)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter *= 4.0  # so that preferences differ in their designs before any training
    return made


def particles(n, m, seed=1):
    return torch.as_tensor(np.random.default_rng(seed).dirichlet(np.ones(m), n))


def written_out(net, preferences, bound, ideal, rule):
    """The direction as the paper has it: a gradient a particle, a kernel matrix, a row of repulsion a particle."""
    parameters = list(net.parameters())

    def flat(value):
        return torch.cat([one.reshape(-1) for one in torch.autograd.grad(value, parameters, retain_graph=True)])

    values = bound(net(preferences))
    scalars = preferences * (values - ideal)
    n, m = values.shape
    G = torch.stack([flat(one.max()) for one in scalars])
    if rule.normalize:
        G = torch.nn.functional.normalize(G, dim=0)
    if rule.kernel is None:
        return G.mean(dim=0)
    K = torch.zeros(n, n, dtype=torch.float64)
    rows = [[None] * n for _ in range(n)]
    for a in range(n):
        for b in range(n):
            over = [int(scalars[b].argmax())] if rule.kernel == "local" else list(range(m))
            apart = sum((values[a, j] - values[b, j]) ** 2 for j in over)
            every = [float(sum((values[i, j] - values[k, j]).detach() ** 2 for j in over)) for i in range(n) for k in range(n)]
            width = rule.c * np.median(every) ** 2 / math.log(n) or 5e-6
            rows[a][b] = torch.exp(-apart / width)
            K[a, b] = rows[a][b].detach()
    push = torch.stack([flat(sum(rows[a])) for a in range(n)])
    return ((K @ G + rule.alpha * push) / n).sum(dim=0)


@pytest.mark.parametrize("sizes", [(2, 2), (2, 5, 2), (3, 6, 4, 3)])
@pytest.mark.parametrize("kernel", ["local", "global", None])
@pytest.mark.parametrize("normalize", ["coordinate", None])
def test_the_direction_is_the_formula(sizes, kernel, normalize):
    net, preferences = network(*sizes), particles(6, sizes[0])
    ideal = torch.full((sizes[0],), -0.4, dtype=torch.float64)
    # Wide enough that particles heed one another, and repulsion as large as what pulls.
    rule = Rule(kernel, normalize, alpha=2.0, c=20.0)
    found, alike = direction(net, preferences, bowls, ideal, rule)
    assert [one.shape for one in found] == [one.shape for one in net.parameters()]
    told = torch.cat([one.reshape(-1) for one in found])
    assert torch.allclose(told, written_out(net, preferences, bowls, ideal, rule), rtol=1e-9, atol=1e-12)
    if kernel:
        assert 0.05 < float(alike.fill_diagonal_(0).mean()) < 0.8


def test_particles_that_heed_none_make_the_plain_step():
    net, preferences, ideal = network(2, 8, 2), particles(5, 2), torch.zeros(2, dtype=torch.float64)
    plain = direction(net, preferences, bowls, ideal, Rule(None, None, 1e-3, 1.0))[0]
    narrow, alike = direction(net, preferences, bowls, ideal, Rule("local", None, 0.0, 1e-12))
    assert torch.equal(alike, torch.eye(5, dtype=torch.float64))
    assert all(torch.allclose(one, other, rtol=1e-12) for one, other in zip(plain, narrow, strict=True))
    loss = (preferences * bowls(net(preferences))).max(dim=1).values.mean()
    assert all(torch.allclose(a, b) for a, b in zip(plain, torch.autograd.grad(loss, list(net.parameters())), strict=True))


def test_repulsion_makes_particles_less_alike():
    net, preferences, ideal = network(2, 8, 2), particles(5, 2), torch.zeros(2, dtype=torch.float64)
    without, along = (direction(net, preferences, bowls, ideal, Rule("global", None, alpha, 20.0))[0] for alpha in (0.0, 1.0))

    def apart():
        values = bowls(net(preferences))
        return ((values[:, None] - values[None]) ** 2).sum(dim=2)

    with torch.no_grad():
        width = 20.0 * float(torch.quantile(apart().flatten(), 0.5)) ** 2 / math.log(5)  # which does not move with them
        before = float(torch.exp(-apart() / width).sum())
        for parameter, one, other in zip(net.parameters(), without, along, strict=True):
            parameter -= 1e-5 * (other - one)
        after = float(torch.exp(-apart() / width).sum())
    assert 6.0 < before < 24.0
    assert after < before


def test_the_width_of_the_kernel_is_the_squared_median_over_the_logarithm():
    values = torch.tensor([[0.0, 5.0], [1.0, 5.0], [3.0, 5.0]], dtype=torch.float64)
    first = similarity(values, torch.zeros(3, dtype=torch.long), "local", 2.0)
    # Squared differences 0 0 0 1 1 4 4 9 9: the median is 1.
    apart = torch.tensor([[0.0, 1.0, 9.0], [1.0, 0.0, 4.0], [9.0, 4.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(first, torch.exp(-apart * math.log(3) / 2.0))
    even = similarity(values[:2], torch.zeros(2, dtype=torch.long), "local", 1.0)
    assert float(even[0, 1]) == pytest.approx(math.exp(-math.log(2) / 0.25))  # between 0 and 1 lies the median 0.5
    alike = values.clone()
    alike[1, 0] = 1e-3
    alike[2, 0] = 0.0
    assert float(similarity(alike, torch.zeros(3, dtype=torch.long), "local", 1.0)[0, 1]) == pytest.approx(math.exp(-0.2))


def test_the_active_objective_of_a_column_alone_decides_it():
    values = torch.as_tensor(np.random.default_rng(0).normal(size=(4, 2)))
    active = torch.tensor([0, 1, 0, 1])
    moved = values.clone()
    moved[:, 1] *= torch.tensor([3.0, -1.0, 2.0, 0.5])
    one, other = (similarity(v, active, "local", 5.0) for v in (values, moved))
    assert torch.equal(one[:, [0, 2]], other[:, [0, 2]])
    assert not torch.allclose(one[:, [1, 3]], other[:, [1, 3]])


def test_a_bound_has_finite_slopes_where_designs_were_evaluated():
    U = np.random.default_rng(0).random((8, 2))
    models = [GaussianProcess(noise=0.0).fit(U, U[:, j]).models_ for j in range(2)]
    x = torch.as_tensor(U).requires_grad_()
    low, high = Bound(models, 2.0)(x), Bound(models, 0.0)(x)
    assert (low < high).all()
    assert torch.allclose(high, x, atol=0.02)
    assert torch.isfinite(torch.autograd.grad(low.sum(), x)[0]).all()


def test_a_training_finds_a_known_set_and_keeps_its_best_checkpoint():
    def between(x):
        return torch.stack([((x - 0.25) ** 2).sum(dim=1), ((x - 0.75) ** 2).sum(dim=1)], dim=1)

    settings = {"hidden": (32,), "particles": 8, "steps": 300, "every": 50, "rate": 1e-2}
    front = np.array([[0.0, 0.5], [0.5, 0.0]])
    before = torch.random.get_rng_state()
    learned = learn(between, np.full(2, -0.1), front, 2, Rule("local", "coordinate", 1e-3, 1.0), seed=0, **settings)
    again = learn(between, np.full(2, -0.1), front, 2, Rule("local", "coordinate", 1e-3, 1.0), seed=0, **settings)
    assert torch.equal(torch.random.get_rng_state(), before)
    designs = learned.designs(even_preferences(2, 21))
    assert np.array_equal(designs, again.designs(even_preferences(2, 21)))
    assert np.abs(designs[:, 0] - designs[:, 1]).max() < 0.05
    assert (np.diff(designs[:, 0]) < 0.01).all()  # the more the first counts, the nearer to its centre
    assert designs[0, 0] > 0.68
    assert designs[-1, 0] < 0.32
    assert len(learned.hypervolumes) == 6
    assert learned.best == int(np.argmax(learned.hypervolumes))
    at_best = between(torch.as_tensor(learned.designs(even_preferences(2, 200)))).numpy()
    assert volume(at_best, learned.reference) == pytest.approx(max(learned.hypervolumes))


# ---------------------------------------------------------------------- fronts
@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolumes_are_those_of_pymoo(m):
    peer = pytest.importorskip("pymoo.indicators.hv").HV
    rng = np.random.default_rng(m)
    for n in (1, 3, 20, 60):
        Y = rng.normal(size=(n, m)).round(1)  # with ties
        assert hypervolume(Y, np.full(m, 0.8)) == pytest.approx(peer(ref_point=np.full(m, 0.8))(Y), rel=1e-12)


def test_hypervolumes_by_hand():
    assert hypervolume([[0.0, 0.0, 0.0]], [1.0, 2.0, 3.0]) == 6.0
    assert hypervolume([[0.0, 1.0], [1.0, 0.0], [0.9, 0.95]], [2.0, 2.0]) == pytest.approx(3.0 + 0.1 * 0.05)
    assert hypervolume([[0.0, 2.0]], [1.0, 2.0]) == 0.0
    with pytest.raises(InvalidData, match=r"expected objectives \(n, m\), m of 2 or more, and a point"):
        hypervolume([[1.0, 2.0]], [1.0, 2.0, 3.0])
    with pytest.raises(InvalidData, match="expected finite objectives"):
        hypervolume([[1.0, np.nan]], [1.0, 2.0])


def test_no_row_of_a_front_is_dominated_and_every_other_is():
    Y = np.random.default_rng(0).integers(0, 6, size=(80, 3)).astype(float)
    kept = nondominated(Y)
    better = (Y[:, None] <= Y[None]).all(axis=2) & (Y[:, None] < Y[None]).any(axis=2)
    assert not better.any(axis=0)[kept].any()
    equal = (Y[:, None] == Y[kept][None]).all(axis=2).any(axis=1)
    assert (better.any(axis=0) | equal).all()
    assert len(np.unique(Y[kept], axis=0)) == kept.sum()


def test_preferences_are_a_lattice_of_the_simplex():
    assert even_preferences(2, 5).tolist() == [[0.0, 1.0], [0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]
    for m, n, count in ((3, 300, 300), (3, 299, 276), (4, 400, 364)):
        found = even_preferences(m, n)
        assert found.shape == (count, m)
        assert np.allclose(found.sum(axis=1), 1)
        assert (found >= 0).all()
        assert len(np.unique(found.round(9), axis=0)) == count


@pytest.mark.parametrize("m", [2, 3])
def test_a_batch_adds_most_volume_one_after_another(m):
    rng = np.random.default_rng(0)
    designs, values, front = rng.random((30, 2)), rng.normal(size=(30, m)), rng.normal(size=(4, m))
    designs[7], values[7] = designs[3], values[3]
    found = chosen(designs, values, front, designs[[5]], 6)
    every = np.vstack([front, values])
    every = every[nondominated(every)]
    reference = every.max(axis=0) + 0.1 * np.ptp(every, axis=0)
    have, free = front, [i for i in range(30) if i != 5]
    for one in found:
        gains = {i: volume(np.vstack([have, values[[i]]]), reference) for i in free}
        assert gains[one] == pytest.approx(max(gains.values()))
        have = np.vstack([have, values[[one]]])
        free = [i for i in free if not np.array_equal(designs[i], designs[one])]
    assert len(set(map(tuple, designs[found]))) == 6


def test_a_batch_has_no_more_than_there_are_different_designs():
    designs = np.tile([[0.1, 0.2], [0.3, 0.4]], (5, 1))
    values = np.tile([[1.0, 0.0], [0.0, 1.0]], (5, 1))
    assert len(chosen(designs, values, np.array([[2.0, 2.0]]), np.zeros((0, 2)), 5)) == 2
    assert len(chosen(designs, values, np.array([[2.0, 2.0]]), designs[:1], 5)) == 1
