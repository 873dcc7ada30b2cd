"""Targets from torch modules: the module's own answers, its modes and parameters as they were, and rows it cannot take."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from locum.core.errors import InvalidData, LedgerError, TargetError
from locum.targets import from_torch
from locum.testing import check_target

torch = pytest.importorskip("torch", reason="needs torch: pip install 'locum[nets]'")
nn = torch.nn

X, y = load_breast_cancer(return_X_y=True)
X = (X - X.mean(axis=0)) / X.std(axis=0)


def network(outputs=2, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(30, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, outputs)).to(
            dtype
        )


@pytest.fixture(scope="module")
def trained():
    """A small network that was really trained, left in training mode."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    rows, labels = torch.from_numpy(X), torch.from_numpy(y)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(rows), labels).backward()
            optimizer.step()
    optimizer.zero_grad()
    return model


def own(model, rows=X, dtype=torch.float64):
    """What the module itself says, in eval mode."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    with torch.no_grad():
        said = model(torch.from_numpy(np.asarray(rows)).to(dtype)).numpy()
    for part, mode in modes:
        part.training = mode
    return said


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


# ------------------------------------------------------------------ answers
def test_answers_are_the_modules_own(trained):
    scores = own(trained)
    made = partial(from_torch, trained, dtype="float64")
    np.testing.assert_array_equal(made().query(X), scores)
    np.testing.assert_allclose(made(output="probability", link="softmax").query(X), softmax(scores), rtol=1e-12)
    classes = made(output="class", link="softmax", classes=["ill", "well"])
    assert classes.query(X).tolist() == np.array(["ill", "well"])[scores.argmax(axis=1)].tolist()
    assert classes.classes.tolist() == ["ill", "well"]
    assert (classes.query(X) == np.array(["ill", "well"])[y]).mean() > 0.95  # it did learn
    assert made(output="class").query(X).tolist() == scores.argmax(axis=1).tolist()


def test_float32_is_the_default_and_batches_do_not_matter():
    model = network(dtype=torch.float32)
    expected = own(model, dtype=torch.float32)
    for size in (1, 7, 1000):
        said = from_torch(model, batch_size=size).query(X)
        assert said.dtype == np.float32
        np.testing.assert_allclose(said, expected, rtol=1e-5, atol=1e-6)


def test_one_score_a_row():
    model = network(1)
    score = own(model)[:, 0]
    p = 1 / (1 + np.exp(-score))
    made = partial(from_torch, model, dtype="float64")
    np.testing.assert_array_equal(made().query(X), score)
    np.testing.assert_allclose(made(output="probability", link="sigmoid").query(X), np.column_stack([1 - p, p]), rtol=1e-12)
    assert made(output="class", link="sigmoid").query(X).tolist() == (score > 0).astype(int).tolist()
    probable = nn.Sequential(model, nn.Sigmoid())
    np.testing.assert_allclose(from_torch(probable, output="probability", dtype="float64").query(X)[:, 1], p, rtol=1e-12)
    assert from_torch(probable, output="class", dtype="float64").query(X).tolist() == (p > 0.5).astype(int).tolist()


def test_large_scores_do_not_overflow():
    scores = np.array([[-1e3], [0.0], [1e3]])
    said = from_torch(nn.Identity(), output="probability", link="sigmoid", dtype="float64").query(scores)
    np.testing.assert_array_equal(said, [[1, 0], [0.5, 0.5], [0, 1]])
    said = from_torch(nn.Identity(), output="probability", link="softmax", dtype="float64").query(np.hstack([scores, -scores]))
    np.testing.assert_array_equal(said, [[0, 1], [0.5, 0.5], [1, 0]])


def test_tokens_and_half_precision():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2)).to(torch.bfloat16)
    tokens = np.array([[0, 1, 2], [9, 9, 9]])
    said = from_torch(model, dtype="int64").query(tokens)
    assert said.dtype == np.float32
    np.testing.assert_array_equal(said, model(torch.from_numpy(tokens)).detach().float().numpy())
    np.testing.assert_array_equal(from_torch(model, dtype=torch.int64).query(tokens.astype(float)), said)


def test_a_module_may_name_the_classes_itself():
    class Nearest(nn.Module):
        def forward(self, rows):
            return (rows[:, 0] > 0).long()

    assert from_torch(Nearest(), output="class").query([[1.0], [-1.0]]).tolist() == [1, 0]
    assert from_torch(Nearest(), output="class", classes=["no", "yes"]).query([[1.0], [-1.0]]).tolist() == ["yes", "no"]


@pytest.mark.parametrize("container", ["frame", "structured", "object", "lists", "big-endian", "read-only"])
def test_rows_in_any_container(container):
    rows = np.arange(6.0).reshape(3, 2)
    model = nn.Linear(2, 1)
    if container == "frame":
        given = pytest.importorskip("pandas").DataFrame({"a": rows[:, 0], "b": rows[:, 1].astype(int)})
    elif container == "structured":
        given = np.array([tuple(row) for row in rows], dtype=[("a", float), ("b", np.int32)])
    elif container == "big-endian":
        given = rows.astype(">f8")
    else:
        given = {"object": rows.astype(object), "lists": rows.tolist(), "read-only": rows.copy()}[container]
    if container == "read-only":
        given.setflags(write=False)
    np.testing.assert_allclose(from_torch(model).query(given), own(model, rows, torch.float32)[:, 0], rtol=1e-6)


def test_it_behaves_as_a_target_must(trained):
    made = partial(from_torch, trained, dtype="float64", output="probability", link="softmax")
    refused = [X[:, :29], X[0], np.full((1, 30), "x")]
    check_target(made, X[:20], refused=refused)


def test_programs_that_torch_compiled():
    model = network(dtype=torch.float32)
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(model.eval(), (torch.zeros(2, 30),), dynamic_shapes=[batch]).module()
    np.testing.assert_allclose(from_torch(exported).query(X), own(model, dtype=torch.float32), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------ the module is left as it was
def test_modes_gradients_and_parameters_are_left_as_they_were(trained):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    trained.train()
    trained[1].eval()
    modes = [part.training for part in trained.modules()]
    from_torch(trained, dtype="float64").query(X)
    assert [part.training for part in trained.modules()] == modes == [True, True, False, True, True, True]
    assert all(torch.equal(before[name], value) for name, value in trained.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in trained.parameters())


def test_modes_are_restored_when_the_module_raises():
    class Fails(nn.Module):
        def forward(self, rows):
            raise RuntimeError("no")

    model = Fails()
    with pytest.raises(TargetError, match="raised RuntimeError: no"):
        from_torch(model).query([[1.0]])
    assert model.training


@pytest.mark.parametrize("mode", [True, False])
def test_a_module_that_rewrites_its_parameters_for_each_mode(mode):
    class Merged(nn.Module):
        """Adds its low-rank part to the weights in eval mode, as adapters do, and takes it out again."""

        def __init__(self):
            super().__init__()
            self.weight, self.added, self.merged = nn.Parameter(torch.ones(1)), 2.0, False

        def train(self, mode=True):
            if self.merged == mode:
                with torch.no_grad():
                    self.weight += -self.added if mode else self.added
                self.merged = not mode
            return super().train(mode)

        def forward(self, rows):
            return rows * (self.weight if self.merged else self.weight + self.added)

    model = Merged().train(mode)
    target = from_torch(model)
    for value in (1.0, 2.0):
        assert target.query([[value]]).tolist() == [3 * value]
        assert (model.training, model.merged, model.weight.item()) == (mode, not mode, 1.0 if mode else 3.0)


def test_threads_do_not_see_each_others_modes():
    """Without turns, one thread would switch dropout on again while another still answers."""
    started = threading.Barrier(4)

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout = nn.Dropout(0.5)

        def forward(self, rows):
            for _ in range(50):
                rows = self.dropout(rows)
            return rows

    def asks(offset):
        target = from_torch(model, batch_size=10)
        started.wait(timeout=10)
        return target.query(offset + np.arange(200.0)[:, None])

    model = Slow()
    with ThreadPoolExecutor(4) as pool:
        for offset, said in zip((0, 1000, 2000, 3000), pool.map(asks, (0, 1000, 2000, 3000)), strict=True):
            np.testing.assert_array_equal(said, offset + np.arange(200.0))
    assert model.training


def test_a_module_that_was_trained_on_is_refused():
    model = nn.Linear(2, 1)
    target = from_torch(model)
    target.query([[1.0, 2.0]])
    with torch.no_grad():
        model.weight += 1
    with pytest.raises(InvalidData, match="parameters have changed since this target was made"):
        target.query([[1.0, 3.0]])
    from_torch(model).query([[1.0, 3.0]])


# ------------------------------------------------------------------ identity, pools
def test_the_ledger_knows_the_module_by_its_content(tmp_path):
    path = tmp_path / "answers.ledger"
    rows = X[:5]
    first = from_torch(network(), dtype="float64", ledger=path)
    said = first.query(rows)
    first.ledger.close()
    same = from_torch(network().train(), dtype="float64", ledger=path)
    np.testing.assert_array_equal(same.query(rows), said)
    assert same.account().paid == 0
    same.ledger.close()
    other = network()
    with torch.no_grad():
        other[4].bias[0] += 1e-9
    with pytest.raises(LedgerError, match="fingerprint"):
        from_torch(other, dtype="float64", ledger=path)
    with pytest.raises(LedgerError, match="fingerprint"):
        from_torch(nn.Sequential(*network()[:2], nn.Tanh(), *network()[3:]), dtype="float64", ledger=path)


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, rows):
        return rows * self.scale


def test_settings_of_a_module_count(tmp_path):
    prints = [
        from_torch(Scaled(scale), ledger=tmp_path / f"{i}.ledger").ledger.target["fingerprint"]
        for i, scale in enumerate((2.0, 2.0, 3.0))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_a_process_pool_answers_too(one_worker):
    model = nn.Sequential(nn.Linear(30, 500), nn.ReLU(), nn.Linear(500, 500), nn.ReLU(), nn.Linear(500, 1)).double()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)  # with these, a forked worker would wait for threads that it lacks
    try:
        expected = own(model)[:, 0]
        with one_worker("fork") as pool:
            target = from_torch(model, dtype="float64", executor=pool, batch_size=300, timeout=30)
            np.testing.assert_allclose(target.query(X), expected, rtol=1e-10, atol=1e-12)
    finally:
        torch.set_num_threads(threads)


# ------------------------------------------------------------------ refusals
@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        (nn.Linear(3, 1), np.zeros((2, 4)), r"begins with a Linear that takes rows of shape \(n, 3\), got \(2, 4\)"),
        (nn.Sequential(nn.Sequential(nn.Linear(3, 1))), np.zeros(3), r"shape \(n, 3\), got \(3,\)"),
        (nn.Conv2d(3, 4, 1), np.zeros((2, 1, 8, 8)), r"shape \(n, 3, height, width\), got \(2, 1, 8, 8\)"),
        (nn.Conv1d(2, 4, 1), np.zeros((2, 8)), r"shape \(n, 2, length\), got \(2, 8\)"),
        (nn.BatchNorm1d(5), np.zeros((2, 4)), r"BatchNorm1d that takes rows of shape \(n, 5\)"),
        (nn.Linear(1, 1), [["red"]], "takes numbers only, got text such as 'red'"),
    ],
)
def test_rows_that_the_first_layer_cannot_take(model, rows, message):
    target = from_torch(model)
    with pytest.raises(InvalidData, match=message):
        target.query(rows)
    assert target.ledger.account().asked == 0


@pytest.mark.parametrize(
    ("tokens", "message"), [([[10]], "tokens from 0 to 9, got 10"), ([[-1]], "got -1"), ([[0.5]], "whole numbers")]
)
def test_tokens_that_the_embedding_does_not_have(tokens, message):
    with pytest.raises(InvalidData, match=message):
        from_torch(nn.Embedding(10, 2), dtype="int64").query(tokens)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"link": "softmax"}, "say output='probability' or 'class'"),
        ({"link": "logit", "output": "class"}, "expected link= to be None, 'softmax' or 'sigmoid'"),
        ({"output": "auto"}, "expected output= to be 'value'"),
        ({"dtype": "float33"}, "expected dtype= such as 'float32'"),
        ({"device": "nowhere"}, "cannot use device='nowhere'"),
        ({"device": "meta"}, "parameters are on cpu; move it to meta first"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(InvalidData, match=message):
        from_torch(nn.Linear(2, 1), **settings)


@pytest.mark.parametrize(
    ("thing", "message"),
    [(nn.Linear, "the class Linear itself"), (len, "goes to from_callable"), (nn.LazyLinear(2), "call it once on a batch")],
)
def test_things_that_are_no_module(thing, message):
    with pytest.raises(InvalidData, match=message):
        from_torch(thing)


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        ({"output": "probability", "link": "sigmoid"}, [[1.0, 2.0]], "one score a row, got 2"),
        ({"output": "probability", "link": "softmax"}, [[1.0]], "a score a class, got one"),
        ({"output": "class"}, [[3.0]], "say link='sigmoid'"),
        ({"output": "class", "classes": ["a", "b"]}, [[1.0, 2.0, 3.0]], "one of the 2 classes by its position, .* got 2"),
        ({"output": "probability"}, [[1.0, 2.0]], "between 0 and 1"),
        ({"output": "probability"}, [[[1.0, 2.0]]], r"shape \(m,\) or \(m, classes\)"),
        ({"output": "class"}, [[np.nan, 2.0]], "are NaN, so it has no class"),
        ({}, [[np.nan]], "expected finite numbers"),
    ],
)
def test_scores_from_which_no_answer_can_be_read(settings, rows, message):
    with pytest.raises(TargetError, match=message):
        from_torch(nn.Identity(), **settings).query(np.array(rows))


def test_a_module_that_gives_no_tensor():
    class Pair(nn.Module):
        def forward(self, rows):
            return rows, rows

    with pytest.raises(TargetError, match="one tensor, got tuple"):
        from_torch(Pair()).query([[1.0]])
