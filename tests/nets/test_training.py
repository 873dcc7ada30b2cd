"""The training loop: what it learns, that it resumes to the same numbers, and what it refuses."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import FormatError, InvalidData  # noqa: E402
from locum.nets import TrainingFailed, seeded, train  # noqa: E402


def network(seed=0, p=0.2):
    with seeded(seed):
        return torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Dropout(p), torch.nn.Linear(16, 1))


def data(n=200):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, generator=generator)
    return x, x @ torch.tensor([[1.0], [-2.0], [0.5]])


def mean_square(module, x, y):
    return torch.mean((module(x) - y) ** 2)


def weights(module):
    return torch.cat([value.flatten() for value in module.state_dict().values()])


def test_a_linear_layer_finds_least_squares():
    x, y = data()
    with seeded(0):
        layer = torch.nn.Linear(3, 1)
    history = train(layer, mean_square, (x, y), epochs=80, batch_size=50, optimizer=lambda p: torch.optim.Adam(p, lr=0.05))
    assert torch.allclose(layer.weight, torch.tensor([[1.0, -2.0, 0.5]]), atol=1e-3)
    assert history.losses[-1] < 1e-5 < history.losses[0]
    assert history.best_epoch == 80
    assert not layer.training


def test_same_seed_same_numbers_and_the_global_generator_is_left_alone():
    x, y = data()
    before = torch.get_rng_state()
    one, two, other = network(), network(), network()
    train(one, mean_square, (x, y), epochs=3, batch_size=32, random_state=4)
    torch.rand(10)
    train(two, mean_square, (x, y), epochs=3, batch_size=32, random_state=4)
    train(other, mean_square, (x, y), epochs=3, batch_size=32, random_state=5)
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))
    torch.set_rng_state(before)
    train(one, mean_square, (x, y), epochs=1, batch_size=32)
    assert torch.equal(torch.get_rng_state(), before)


class Killed(Exception):
    pass


def test_a_training_cut_off_resumes_to_the_numbers_of_one_that_was_not(tmp_path):
    x, y = data()
    settings = {
        "epochs": 6, "batch_size": 32, "random_state": 2,
        "schedule": lambda steps: torch.optim.lr_scheduler.ExponentialLR(steps, 0.8),
        "validate": lambda module: float(mean_square(module, x, y)),
    }  # fmt: skip
    whole, part = network(), network()
    expected = train(whole, mean_square, (x, y), **settings)

    def kill(done, _, __):
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        train(part, mean_square, (x, y), checkpoint=tmp_path / "run", progress=kill, **settings)
    resumed = network(seed=9)  # whatever it starts with, the checkpoint decides
    found = train(resumed, mean_square, (x, y), checkpoint=tmp_path / "run", **settings)
    assert torch.equal(weights(resumed), weights(whole))
    assert found.losses == expected.losses
    assert found.validation == expected.validation
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_best_epoch_is_kept_and_patience_ends_the_training():
    x, y = data()
    values = iter([3.0, 1.0, 2.0, 2.0, 2.0, 0.0])
    kept = {}
    module = network()

    def validate(module):
        value = next(values)
        kept[value] = weights(module).clone()
        return value

    history = train(module, mean_square, (x, y), epochs=6, batch_size=32, validate=validate, patience=3)
    assert history.stopped_early
    assert (history.best_epoch, len(history.losses)) == (2, 5)
    assert torch.equal(weights(module), kept[1.0])


def test_validation_is_in_eval_mode_and_without_gradients():
    x, y = data()
    seen = []
    module = network()
    train(
        module, mean_square, (x, y), epochs=2, batch_size=64,
        after_epoch=lambda module, epoch: seen.append((epoch, module.training)),
        validate=lambda module: (seen.append((torch.is_grad_enabled(), module.training)), 1.0)[1],
    )  # fmt: skip
    assert seen == [(1, False), (False, False), (2, False), (False, False)]


def test_bfloat16_trains_and_leaves_the_weights_float32():
    x, y = data()
    module = network(p=0.0)
    history = train(
        module, mean_square, (x, y), epochs=30, batch_size=50, precision="bfloat16",
        optimizer=lambda p: torch.optim.Adam(p, lr=0.02),
    )  # fmt: skip
    assert history.losses[-1] < 0.1 * history.losses[0]
    assert {value.dtype for value in module.state_dict().values()} == {torch.float32}


def test_clip_bounds_the_step():
    x, y = data()
    free, bound = network(), network()
    start = weights(free).clone()
    steps = lambda p: torch.optim.SGD(p, lr=1.0)  # noqa: E731
    train(free, mean_square, (x, 1000 * y), epochs=1, batch_size=200, optimizer=steps)
    train(bound, mean_square, (x, 1000 * y), epochs=1, batch_size=200, optimizer=steps, clip=0.5)
    assert torch.linalg.norm(weights(bound) - start) == pytest.approx(0.5, rel=1e-3)
    assert torch.linalg.norm(weights(free) - start) > 10


def test_frozen_parameters_stay():
    x, y = data()
    module = network()
    module[0].requires_grad_(False)
    before = module[0].weight.clone()
    train(module, mean_square, (x, y), epochs=2, batch_size=64)
    assert torch.equal(module[0].weight, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs= to be a whole number"),
        ({"batch_size": 2.5}, "batch_size= to be a whole number"),
        ({"patience": 2}, "needs validate="),
        ({"precision": "int8"}, "one of float32, bfloat16, float16"),
        ({"random_state": -1}, "random_state to be a whole number"),
    ],
)
def test_settings_that_cannot_be_used(change, message):
    with pytest.raises(InvalidData, match=message):
        train(network(), mean_square, data(), **{"epochs": 1, "batch_size": 8, **change})


def test_tensors_that_cannot_be_used():
    x, y = data()
    with pytest.raises(InvalidData, match=r"one length of at least 1, got \[200, 199\]"):
        train(network(), mean_square, (x, y[:-1]), epochs=1, batch_size=8)
    with pytest.raises(InvalidData, match="at least 1, got none"):
        train(network(), mean_square, (), epochs=1, batch_size=8)
    x[3, 1] = float("nan")
    with pytest.raises(InvalidData, match="tensor 0 holds NaN"):
        train(network(), mean_square, (x, y), epochs=1, batch_size=8)


def test_a_loss_that_is_not_finite_ends_the_training():
    x, y = data()
    steps = lambda p: torch.optim.SGD(p, lr=1e30)  # noqa: E731
    with pytest.raises(TrainingFailed, match="smaller steps"):
        train(network(), mean_square, (x, y), epochs=5, batch_size=8, optimizer=steps)
    with pytest.raises(TrainingFailed, match="validation of epoch 1 is NaN"):
        train(network(), mean_square, (x, y), epochs=1, batch_size=8, validate=lambda _: float("nan"))


def test_checkpoints_that_cannot_be_used(tmp_path):
    x, y = data()
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"not a checkpoint")
    with pytest.raises(FormatError, match="no checkpoint"):
        train(network(), mean_square, (x, y), epochs=1, batch_size=8, checkpoint=foreign)
    file = tmp_path / "run"
    train(network(), mean_square, (x, y), epochs=1, batch_size=8, checkpoint=file)
    with pytest.raises(FormatError, match="batch_size=8, not batch_size=16"):
        train(network(), mean_square, (x, y), epochs=1, batch_size=16, checkpoint=file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FormatError, match="no checkpoint"):
        train(network(), mean_square, (x, y), epochs=1, batch_size=8, checkpoint=file)
