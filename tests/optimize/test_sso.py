"""The target-space optimizer: its identities, its rules of the step, and that only the oracle is dear."""

from __future__ import annotations

import copy
import json
import math
import pickle
import subprocess
import sys
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from locum.nets import seeded  # noqa: E402
from locum.optimize.sso import TargetSurrogate  # noqa: E402

F = torch.nn.functional
SOLVERS = ["armijo-gd", "adam", "lbfgs"]


def rows(n=40, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def network(outputs=1, seed=1):
    with seeded(seed):
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, outputs)).double()


def problem(loss, n=40):
    """Outputs wanted, and the loss of each row."""
    x = rows(n)
    if loss == "squared":
        y = x[:, :2].sin()
        return 2, lambda z: (z - y).square().sum(1) / 2
    if loss == "logistic":
        y = (x[:, :1] + x[:, 1:2] > 0).double()
        return 1, lambda z: F.binary_cross_entropy_with_logits(z, y, reduction="none").sum(1)
    labels = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    return 3, lambda z: F.cross_entropy(z, labels, reduction="none")


def slope(loss):
    """The gradient of each row's loss."""

    def gradient(z):
        z = z.requires_grad_()
        return torch.autograd.grad(loss(z).sum(), z)[0]

    return gradient


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# ---------------------------------------------------------------------- identities
@pytest.mark.parametrize("loss", ["squared", "logistic", "cross-entropy"])
def test_one_step_is_gradient_descent_on_the_mean_loss(loss):
    outputs, each = problem(loss)
    x, one, other = rows(), network(outputs), network(outputs)
    surrogate = TargetSurrogate(one.parameters(), eta=0.3, inner="gd", inner_step=0.2, m=1)
    plain = torch.optim.SGD(other.parameters(), lr=0.2)
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        batch = torch.randperm(len(x), generator=generator)[:10]

        def loss_there(z, batch=batch):
            whole = torch.zeros(len(x), z.shape[1], dtype=z.dtype).index_put((batch,), z)
            return each(whole)[batch]

        surrogate.step(forward=lambda batch=batch: one(x[batch]), target_grad=slope(loss_there))
        plain.zero_grad()
        loss_there(other(x[batch])).mean().backward()
        plain.step()
    assert torch.allclose(weights(one), weights(other), atol=1e-10, rtol=0)


@pytest.mark.parametrize(("loss", "largest"), [("squared", 1.0), ("logistic", 0.25), ("cross-entropy", 0.5)])
def test_the_model_lies_above_the_loss_up_to_one_over_l_and_not_beyond(loss, largest):
    outputs, each = problem(loss, n=5)
    x, net = rows(5), network(outputs)
    gaps = {}
    for name, eta in (("1/L", "1/L"), ("beyond", 10 / largest)):
        generator, gaps[name] = torch.Generator().manual_seed(3), []
        optimizer = TargetSurrogate(net.parameters(), eta=eta, loss=loss, inner="gd", inner_step=1.0, m=1)
        for _ in range(1000):
            with torch.no_grad():
                for p in net.parameters():
                    p.copy_(2 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
            optimizer.param_groups[0]["inner_step"] = 10 ** float(3 * torch.rand((), generator=generator) - 2)
            gaps[name].append(optimizer.step(forward=lambda: net(x), target_grad=slope(each), target_loss=each).bound_gap)
    assert min(gaps["1/L"]) >= -1e-10
    assert max(gaps["1/L"]) > 0.1 or (loss == "squared" and max(gaps["1/L"]) < 1e-10)  # which is its own model
    assert min(gaps["beyond"]) < -1e-3


@pytest.mark.parametrize("m", [1, 10, 100])
@pytest.mark.parametrize("loss", ["squared", "logistic", "cross-entropy"])
def test_the_loss_of_the_whole_batch_only_falls(loss, m):
    outputs, each = problem(loss)
    x, net = rows(), network(outputs)
    optimizer = TargetSurrogate(net.parameters(), loss=loss, m=m)
    infos = [optimizer.step(forward=lambda: net(x), target_grad=slope(each), target_loss=each) for _ in range(8)]
    losses = [info.loss for info in infos]
    assert all(after <= before for before, after in pairwise(losses))
    assert losses[-1] < losses[0]
    assert all(info.surrogate_decrease > 0 and info.bound_gap >= -1e-12 for info in infos)


@pytest.mark.parametrize("inner", SOLVERS)
def test_more_steps_mean_less_loss_for_each_call(inner):
    outputs, each = problem("logistic")
    x, found = rows(), []
    for m in (1, 10, 100):
        net = network(outputs)
        optimizer = TargetSurrogate(net.parameters(), loss="logistic", m=m, inner=inner)
        for _ in range(5):
            optimizer.step(forward=lambda net=net: net(x), target_grad=slope(each))
        found.append(float(each(net(x).detach()).mean()))
    assert found[0] > found[1] > found[2]


def test_the_closed_form_of_a_linear_map_is_least_squares_and_what_many_steps_tend_to():
    x, p = rows(), rows(seed=7)[:, :2]
    x[:, 3] = x[:, 0] - x[:, 1]  # so that least squares has many solutions, of which the shortest is meant
    n, found = len(x), {}
    for inner, m, step in (("exact", 1, None), ("gd", 5000, 0.2), ("lbfgs", 200, None)):
        theta = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
        optimizer = TargetSurrogate([theta], eta=0.7, inner=inner, m=m, inner_step=step)
        optimizer.step(forward=lambda theta=theta: x @ theta, target_grad=lambda z: p)
        found[inner] = theta.detach()
    expected = -0.7 * torch.linalg.pinv(x.T @ x / n) @ (x.T @ p / n)
    assert torch.allclose(found["exact"], expected, atol=1e-10)
    assert torch.allclose(found["gd"], expected, atol=1e-8)
    assert torch.allclose(x @ found["lbfgs"], x @ expected, atol=1e-5)


def test_the_closed_form_with_more_parameters_than_outputs():
    x, y = rows(3), rows(3, 2, seed=5)
    theta = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    other = torch.ones(2, dtype=torch.float64, requires_grad=True)  # that the outputs do not depend on
    TargetSurrogate([theta, other], loss="squared", inner="exact").step(forward=lambda: x @ theta, target_grad=lambda z: z - y)
    assert torch.allclose(x @ theta.detach(), y)
    assert torch.equal(other.detach(), torch.ones(2, dtype=torch.float64))


def test_the_step_does_not_depend_on_how_often_the_rows_are_repeated():
    found = []
    for copies in (1, 3):
        net, x = network(2), rows().repeat(copies, 1)
        y = rows()[:, :2].sin().repeat(copies, 1)
        optimizer = TargetSurrogate(net.parameters(), loss="squared", m=5)
        info = optimizer.step(forward=lambda net=net, x=x: net(x), target_grad=lambda z, y=y: z - y)
        found.append((weights(net), info.gradient_norm, info.surrogate_decrease))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-12)
    assert found[0][1:] == pytest.approx(found[1][1:])


@pytest.mark.parametrize(("divergence", "loss"), [("softmax", "cross-entropy"), ("logistic", "logistic")])
def test_a_divergence_of_the_losss_own_shape_is_the_loss(divergence, loss):
    """Half of it then lies below the loss, and twice above; the labels are asked for once."""
    outputs, each = problem(loss)
    x = rows()
    gaps = {}
    for eta in ("1/L", 0.5, 2.0):
        net = network(outputs)
        optimizer = TargetSurrogate(net.parameters(), eta=eta, loss=loss, divergence=divergence, inner="lbfgs", m=20)
        gaps[eta] = optimizer.step(forward=lambda net=net: net(x), target_grad=slope(each), target_loss=each).bound_gap
    assert gaps["1/L"] == pytest.approx(0, abs=1e-9)
    assert gaps[0.5] > 1e-3
    assert gaps[2.0] < -1e-3


# ---------------------------------------------------------------------- the step in target space
def free(n, k=1):
    """Outputs that are the parameters themselves, so that a step in target space is made as it is."""
    return torch.zeros(n, k, dtype=torch.float64, requires_grad=True)


def test_the_line_search_finds_the_step_worked_out_by_hand():
    """Of (z - y)²/2 with half the slope asked for, steps up to 1 pass: 1 itself, then 1.8 shortened by 0.9 six times."""
    z, y = free(3), torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    each = lambda z: (z - y).square().sum(1) / 2  # noqa: E731
    optimizer = TargetSurrogate([z], eta="armijo", inner="exact")
    first = optimizer.step(forward=lambda: z, target_grad=lambda z: z - y, target_loss=each)
    assert (first.eta, first.loss, first.loss_calls) == (1.0, pytest.approx(14 / 6), 4)
    assert (first.surrogate_decrease, first.bound_gap) == pytest.approx((14 / 6, 0))
    with torch.no_grad():
        z.zero_()
    second = optimizer.step(forward=lambda: z, target_grad=lambda z: z - y, target_loss=each)
    assert second.eta == pytest.approx(1.8 * 0.9**6)
    assert second.loss_calls == 4 + 10  # before, here, seven tries, after


def test_the_line_search_stays_within_its_bounds():
    z = free(2)
    rising = TargetSurrogate([z], eta="armijo", inner="exact")
    info = rising.step(forward=lambda: z, target_grad=torch.ones_like, target_loss=lambda z: -z.sum(1))
    assert info.eta == 1e-4
    falling = TargetSurrogate([z], eta="armijo", inner="exact", eta0=1e6)
    assert falling.step(forward=lambda: z, target_grad=torch.ones_like, target_loss=lambda z: z.sum(1)).eta == 1e4


def test_adagrad_divides_by_the_root_of_the_sum_of_squared_norms():
    z = free(2)
    optimizer = TargetSurrogate([z], eta="adagrad", eta0=3.0, inner="exact")
    gradient = torch.tensor([[1.0], [7.0]], dtype=torch.float64)  # of mean square 25
    found = [optimizer.step(forward=lambda: z, target_grad=lambda _: gradient).eta for _ in range(4)]
    assert found == pytest.approx([3 / 5, 3 / math.sqrt(50), 3 / math.sqrt(75), 3 / 10], rel=1e-6)


def test_diagonal_adagrad_and_adam_are_those_of_torch_on_the_outputs():
    y = rows(6, 2)
    for eta, rival in (("diagonal-adagrad", torch.optim.Adagrad), ("adam", torch.optim.Adam)):
        one, other = free(6, 2), free(6, 2)
        optimizer = TargetSurrogate([one], eta=eta, eta0=0.1, inner="exact")
        peer = rival([other], lr=0.1, **({"eps": 1e-6} if eta != "adam" else {}))
        for _ in range(6):
            optimizer.step(forward=lambda one=one: one, target_grad=lambda z: (z - y) ** 3, rows=range(6))
            other.grad = (other.detach() - y) ** 3
            peer.step()
        assert torch.allclose(one, other, atol=1e-9)


def test_rules_of_rows_remember_each_row_by_its_number():
    batches = [[0, 1], [4, 2], [1, 4], [0, 3]]
    z, y, sums = free(5), rows(5, 1), torch.zeros(5, 1, dtype=torch.float64)
    optimizer, expected = TargetSurrogate([z], eta="diagonal-adagrad", inner="exact"), torch.zeros(5, 1, dtype=torch.float64)
    for batch in batches:
        optimizer.step(forward=lambda batch=batch: z[batch], target_grad=lambda z, batch=batch: z - y[batch], rows=batch)
        p = expected[batch] - y[batch]
        sums[batch] += p**2
        expected[batch] -= p / (sums[batch].sqrt() + 1e-6)
    assert torch.allclose(z, expected)


def test_newton_is_iteratively_reweighted_least_squares():
    x, y = rows(), (rows()[:, :1] + rows(seed=3)[:, :1] > 0).double()
    theta = torch.zeros(4, 1, dtype=torch.float64, requires_grad=True)
    optimizer = TargetSurrogate([theta], eta="newton", loss="logistic", inner="exact")
    expected = torch.zeros(4, 1, dtype=torch.float64)
    for _ in range(4):
        optimizer.step(forward=lambda: x @ theta, target_grad=lambda z: torch.sigmoid(z) - y)
        share = torch.sigmoid(x @ expected)
        expected = expected - torch.linalg.solve(x.T @ ((share * (1 - share) + 1e-5) * x), x.T @ (share - y))
    assert torch.allclose(theta, expected, atol=1e-9)
    assert float((x.T @ (torch.sigmoid(x @ theta.detach()) - y)).abs().max()) < 1e-3


def test_newton_of_the_other_losses():
    for loss, expected in (("squared", -1 / (1 + 1e-5)), ("cross-entropy", -1 / (0.25 + 1e-5))):
        z = free(1, 2)
        TargetSurrogate([z], eta="newton", loss=loss, inner="exact").step(forward=lambda z=z: z, target_grad=torch.ones_like)
        assert z.tolist() == [[pytest.approx(expected)] * 2]


@pytest.mark.parametrize(
    ("schedule", "expected"), [("constant", [2, 2, 2]), ("sqrt", [2, 2 / 2**0.5, 2 / 3**0.5]),
                               ("exponential", [2 * 16 ** (-t / 16) for t in (1, 2, 3)])],
)  # fmt: skip
def test_schedules(schedule, expected):
    z = free(2)
    optimizer = TargetSurrogate([z], eta=2.0, schedule=schedule, horizon=16, inner="exact")
    infos = [optimizer.step(forward=lambda: z, target_grad=torch.ones_like) for _ in range(3)]
    assert [info.eta for info in infos] == pytest.approx(expected)
    assert z.flatten().tolist() == pytest.approx([-sum(expected)] * 2)  # projected gradient descent in target space


# ---------------------------------------------------------------------- what is asked, and what is left alone
@pytest.mark.parametrize("inner", SOLVERS)
def test_the_oracle_is_asked_once_a_step_and_what_it_is_given_is_a_copy(inner):
    outputs, each = problem("squared")
    x, net, twin, asked = rows(), network(outputs), network(outputs), []

    def oracle(z):
        asked.append(z.clone())
        found = slope(each)(z)
        z.detach().zero_()
        return found

    optimizer = TargetSurrogate(net.parameters(), loss="squared", m=30, inner=inner)
    infos = [optimizer.step(forward=lambda: net(x), target_grad=oracle) for _ in range(3)]
    careful = TargetSurrogate(twin.parameters(), loss="squared", m=30, inner=inner)
    for _ in range(3):
        careful.step(forward=lambda: twin(x), target_grad=slope(each))
    assert torch.equal(weights(net), weights(twin))
    assert len(asked) == infos[-1].oracle_calls == optimizer.oracle_calls == 3
    assert infos[-1].loss_calls == 0
    assert math.isnan(infos[0].loss)
    assert math.isnan(infos[0].bound_gap)
    assert min(info.surrogate_decrease for info in infos) > 0
    assert float(each(net(x).detach()).mean()) < float(each(asked[0]).mean())


def test_gradients_generators_and_frozen_parameters_are_left_alone():
    outputs, each = problem("squared")
    x = rows()
    state = torch.get_rng_state()
    for inner in SOLVERS:
        net = network(outputs)
        net[0].weight.requires_grad_(False)
        net[2].weight.grad = torch.full_like(net[2].weight, 7.0)
        frozen = net[0].weight.clone()
        TargetSurrogate(net.parameters(), loss="squared", m=3, inner=inner).step(
            forward=lambda net=net: net(x), target_grad=slope(each)
        )
        assert torch.equal(net[0].weight, frozen)
        assert not torch.equal(net[2].weight, network(outputs)[2].weight)
        assert net[2].weight.grad.unique().tolist() == [7.0]
        assert net[0].bias.grad is None
    assert torch.equal(torch.get_rng_state(), state)


def test_steps_that_would_raise_the_model_are_not_kept():
    outputs, each = problem("squared")
    x, net = rows(), network(outputs)
    before = weights(net)
    optimizer = TargetSurrogate(net.parameters(), loss="squared", m=3, inner="adam", inner_step=1e3)
    info = optimizer.step(forward=lambda: net(x), target_grad=slope(each))
    assert torch.equal(weights(net), before)
    assert (info.surrogate_decrease, info.status) == (0.0, "an earlier place was lower")
    free_running = TargetSurrogate(net.parameters(), loss="squared", m=3, inner="gd", inner_step=1e3)
    assert free_running.step(forward=lambda: net(x), target_grad=slope(each)).surrogate_decrease < 0


def test_the_descent_says_when_there_is_nothing_left_to_lower():
    z = free(3)
    still = TargetSurrogate([z], loss="squared").step(forward=lambda: z, target_grad=torch.zeros_like)
    assert (still.inner_steps, still.status) == (0, "gradient below 1e-6")
    single = torch.zeros(3, 1, requires_grad=True)  # float32 cannot hold a decrease beside a large constant
    coarse = TargetSurrogate([single], eta=1e-12, m=50)
    info = coarse.step(forward=lambda: single + 1e6, target_grad=torch.ones_like)
    assert info.status == "no step lowers it in this precision"
    assert single.abs().max() == 0


def test_stopped_and_resumed_it_gives_the_same_numbers():
    y = rows(5, 1)
    settings = {"eta": "adam", "eta0": 0.1, "inner": "gd", "inner_step": 0.05, "schedule": "sqrt"}

    def run(z, optimizer, steps):
        for _ in range(steps):
            optimizer.step(forward=lambda: z, target_grad=lambda z: z - y, rows=range(5))

    whole, part = free(5), free(5)
    run(whole, TargetSurrogate([whole], **settings), 6)
    optimizer = TargetSurrogate([part], **settings)
    run(part, optimizer, 3)
    record = copy.deepcopy(optimizer.state_dict())
    resumed = TargetSurrogate([part], **settings)
    resumed.load_state_dict(record)
    run(part, resumed, 3)
    assert torch.equal(part, whole)
    assert resumed.oracle_calls == 6
    assert pickle.loads(pickle.dumps(resumed)).oracle_calls == 6


def test_asking_for_the_room_does_not_load_torch():
    code = "import json, sys, locum.optimize.sso; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) is False
