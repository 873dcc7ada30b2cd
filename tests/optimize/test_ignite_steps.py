"""Steps in loops of one's own: dropout, batch normalisation, failures, and what is left as it was."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.nets import seeded  # noqa: E402
from locum.optimize.ignite import (  # noqa: E402
    FixedGradientNorm,
    GradientNormRegularizer,
    UndefinedSharpness,
    mean_gradient_norm,
)


def network(*middle):
    with seeded(0):
        return torch.nn.Sequential(torch.nn.Linear(3, 8), *middle, torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(30, 3, generator=generator, dtype=torch.float64)


def flat(tensors):
    return torch.cat([one.detach().reshape(-1) for one in tensors])


def nothing(model):
    """A loss without a slope, so that a step is the regulariser's alone."""
    return lambda: sum(0.0 * one.sum() for one in model.parameters())


def test_both_gradients_see_the_same_draws_of_dropout():
    """Of two draws the difference, over the radius, would be thousands of times too long."""
    A, model = batch(), network(torch.nn.Dropout(0.5))
    weights = list(model.parameters())
    with seeded(3):
        slopes = torch.autograd.grad(model(A).mean(), weights, create_graph=True)
        norm = torch.cat([one.reshape(-1) for one in slopes]).norm()
        exact = flat(torch.autograd.grad(norm, weights, allow_unused=True, materialize_grads=True))
    stepped = copy.deepcopy(model)
    with seeded(3):
        optimizer = torch.optim.SGD(stepped.parameters(), lr=1.0)
        FixedGradientNorm(weight=1.0, rho=1.0, r=1e-3).step(stepped, optimizer, nothing(stepped), lambda: stepped(A).mean())
    found = flat(model.parameters()) - flat(stepped.parameters())
    assert torch.cosine_similarity(found, exact, dim=0) > 0.99
    assert float(found.norm()) == pytest.approx(float(exact.norm()), rel=0.02)


def test_running_means_and_the_generator_are_moved_by_the_loss_alone():
    A, first = batch(), network(torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5))
    plain, ours = copy.deepcopy(first), copy.deepcopy(first)
    with seeded(5):
        (plain(A) ** 2).mean().backward()
        wanted = torch.rand(4)
    with seeded(5):
        optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
        FixedGradientNorm(weight=1.0).step(ours, optimizer, lambda: (ours(A) ** 2).mean(), lambda: ours(A).mean())
        assert torch.equal(torch.rand(4), wanted)
    assert ours[1].num_batches_tracked == 1
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), plain.buffers(), strict=True))


def test_weights_are_put_back_where_the_second_mean_fails():
    A, model = batch(), network()
    before, calls = copy.deepcopy(model), []

    def mean():
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("out of memory, say")
        return model(A).mean()

    with pytest.raises(ValueError, match="out of memory"):
        FixedGradientNorm().step(model, torch.optim.SGD(model.parameters(), lr=0.1), lambda: (model(A) ** 2).mean(), mean)
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), model.parameters(), strict=True))


def test_no_step_is_made_where_the_gradient_is_not_finite():
    A, model = batch(), network()
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UndefinedSharpness, match="not finite; lower the learning rate"):
        GradientNormRegularizer().step(model, optimizer, lambda: (model(A) ** 2).mean(), lambda: model(A).mean() / 0.0)
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_mean_that_depends_on_no_weight_is_a_runtime_error(elsewhere):
    A, model, other = batch(), network(), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def mean():
        return other(A).mean() if elsewhere else torch.tensor(1.0)

    with pytest.raises(RuntimeError, match="depends on no parameter of the model"):
        GradientNormRegularizer().step(model, optimizer, lambda: (model(A) ** 2).mean(), mean)


def test_a_loss_without_a_graph_is_not_taken_for_the_mean():
    A, model = batch(), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match="does not require grad") as raised:
        GradientNormRegularizer().step(model, optimizer, lambda: torch.tensor(1.0), lambda: model(A).mean())
    assert not isinstance(raised.value, UndefinedSharpness)


def test_a_mean_is_one_number():
    A, model = batch(), network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InvalidData, match=r"one number, got torch\.Size"):
        GradientNormRegularizer().step(model, optimizer, lambda: (model(A) ** 2).mean(), lambda: model(A))


def test_the_mean_can_be_flat_while_single_predictions_are_steep():
    """What the measure does not see: two rows whose gradients cancel."""
    model = torch.nn.Linear(2, 1, bias=False).double()
    rows = torch.tensor([[5.0, -3.0], [-5.0, 3.0]], dtype=torch.float64)
    assert mean_gradient_norm(model, rows) == pytest.approx(0.0, abs=1e-12)
    assert mean_gradient_norm(model, rows[:1]) == pytest.approx(34**0.5)
