"""Distilling: what the student learns, that every row is paid for once, and what is refused before anything is paid."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

torch = pytest.importorskip("torch")

import locum  # noqa: E402
from locum.core.errors import BudgetExhausted, InvalidData  # noqa: E402
from locum.core.target import Budget, Target  # noqa: E402
from locum.nets import seeded  # noqa: E402
from locum.optimize.sso import SurrogateDistiller  # noqa: E402

X = np.random.default_rng(0).normal(size=(120, 3))
MAP = np.array([[1.0, 0.0], [-2.0, 1.0], [0.5, 3.0]])


def linear(rows):
    return rows @ MAP + 1.0


def shares(rows):
    raised = np.exp(linear(rows))
    return raised / raised.sum(axis=1, keepdims=True)


def student(outputs=2, seed=0):
    with seeded(seed):
        return torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs))


def test_a_linear_student_finds_a_linear_teacher():
    found = SurrogateDistiller(teacher=linear, inner="exact", batch_size=40).fit(X)
    assert np.allclose(found.predict(X[:9]), linear(X[:9]))
    one = SurrogateDistiller(teacher=lambda rows: linear(rows)[:, 0], inner="lbfgs").fit(X)
    assert one.predict(X).shape == (120,)
    assert one.score(X, linear(X)[:, 0]) > 0.999


def test_a_network_learns_more_from_a_call_with_more_steps():
    errors = [
        np.square(SurrogateDistiller(student(), linear, m=m, batch_size=40).fit(X).predict(X) - linear(X)).mean()
        for m in (1, 10, 100)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.3 * linear(X).var()


def test_every_row_is_paid_for_once_whatever_the_epochs():
    target = Target(linear, output="value")
    found = SurrogateDistiller(student(), target, m=5, batch_size=50, epochs=4).fit(X)
    assert target.account().asked == 120
    assert found.calls_ == 3
    assert len(found.history_) == 12
    assert not target.fresh(X).any()


def test_probabilities_teach_and_come_back():
    for model in (None, student()):
        found = SurrogateDistiller(model, shares, loss="cross-entropy", m=60, batch_size=60, epochs=5, inner_step=0.05).fit(X)
        said = found.predict(X)
        assert np.allclose(said.sum(axis=1), 1)
        assert np.abs(said - shares(X)).mean() < 0.05


def test_answers_given_teach_what_the_teacher_teaches():
    asked = SurrogateDistiller(student(), linear, m=5).fit(X)
    given = SurrogateDistiller(student(), m=5).fit(X, linear(X))
    again = SurrogateDistiller(student(), linear, m=5).fit(X)
    other = SurrogateDistiller(student(), linear, m=5, random_state=1).fit(X)
    assert np.array_equal(asked.predict(X), given.predict(X))
    assert np.array_equal(asked.predict(X), again.predict(X))
    assert not np.array_equal(asked.predict(X), other.predict(X))
    assert given.calls_ == 0


def test_the_student_and_the_generators_are_left_alone_and_a_clone_is_the_same_again():
    own = student().train()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    state = torch.get_rng_state()
    made = SurrogateDistiller(own, linear, m=3)
    first = made.fit(X)
    assert torch.equal(torch.get_rng_state(), state)
    assert own.training
    assert not first.student_.training
    assert all(torch.equal(own.state_dict()[name], value) for name, value in before.items())
    assert np.array_equal(clone(made).fit(X).predict(X), first.predict(X))


def test_whole_numbers_reach_an_embedding():
    tokens = np.random.default_rng(1).integers(0, 7, size=(90, 4))
    with seeded(0):
        bag = torch.nn.EmbeddingBag(7, 1, mode="sum")
    value = np.arange(7.0)
    found = SurrogateDistiller(bag, lambda rows: value[rows].sum(axis=1), inner="lbfgs", batch_size=90).fit(tokens)
    assert np.allclose(found.predict(tokens), value[tokens].sum(axis=1), atol=0.01)


def test_it_is_a_model_for_a_target_like_any_other():
    target = locum.target(lambda rows: linear(rows)[:, 0], output="value", name="linear")
    made = locum.fit(SurrogateDistiller(inner="exact"), target, X, budget=60)
    assert locum.score(made, target, np.random.default_rng(2).normal(size=(40, 3))).value > 0.99


def test_a_budget_that_ends_leaves_what_was_taught_so_far():
    target = Target(linear, output="value", budget=Budget(calls=80))
    with pytest.raises(BudgetExhausted) as ended:
        SurrogateDistiller(student(), target, m=20, batch_size=40).fit(X)
    assert ended.value.best.calls_ == 2
    assert ended.value.best.predict(X).shape == (120, 2)
    with pytest.raises(BudgetExhausted) as ended:
        SurrogateDistiller(student(), Target(linear, output="value", budget=Budget(calls=10)), batch_size=40).fit(X)
    assert ended.value.best is None


def never(_):
    raise AssertionError("the teacher was asked")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"m": 0}, "m= to be a whole number"),
        ({"batch_size": 0}, "batch_size= to be a whole number"),
        ({"epochs": 1.5}, "epochs= to be a whole number"),
        ({"random_state": -1}, "random_state= to be a whole number"),
        ({"loss": "logistic"}, "loss= to be one of squared, cross-entropy, got 'logistic'"),
        ({"eta": "sgd"}, "eta= to be a number or one of"),
        ({"eta": "armijo"}, "eta= here"),
        ({"inner": "gd"}, "inner_step="),
        ({"student": "small"}, "student= to be a torch.nn.Module, got str"),
    ],
)
def test_settings_that_are_refused_before_the_teacher_is_asked(settings, message):
    with pytest.raises(InvalidData, match=message):
        SurrogateDistiller(**{"teacher": never, **settings}).fit(X)


def test_rows_and_answers_that_cannot_be_used():
    with pytest.raises(InvalidData, match="either a teacher or its answers y, got neither"):
        SurrogateDistiller().fit(X)
    with pytest.raises(InvalidData, match="got both"):
        SurrogateDistiller(teacher=never).fit(X, linear(X))
    for rows, message in (
        (X[:0], r"rows of shape \(n, d\)"), (X[:, 0], r"rows of shape \(n, d\)"), (X * np.nan, "finite rows"),
        ([["a", "b"]], "rows of numbers"),
    ):  # fmt: skip
        with pytest.raises(InvalidData, match=message):
            SurrogateDistiller(teacher=never).fit(rows)
    with pytest.raises(InvalidData, match="one for each of 120 rows"):
        SurrogateDistiller().fit(X, linear(X)[:-1])
    with pytest.raises(InvalidData, match="finite answers"):
        SurrogateDistiller().fit(X, linear(X) * np.nan)
    with pytest.raises(InvalidData, match="outputs like the answers"):
        SurrogateDistiller(student(3), linear).fit(X)
    with pytest.raises(InvalidData, match="expected probabilities"):
        SurrogateDistiller(loss="cross-entropy").fit(X, linear(X))
    with pytest.raises(InvalidData, match="rows with 3 columns, got 2"):
        SurrogateDistiller(inner="exact").fit(X, linear(X)).predict(X[:, :2])
