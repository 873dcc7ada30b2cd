"""A trained classifier as one thing: what it gives, where its embedding comes from, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.nets import Reference, seeded  # noqa: E402

X = np.random.default_rng(0).normal(size=(11, 3))


def network():
    with seeded(0):
        return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(5, 2)).eval()


def test_logits_probabilities_and_labels_are_those_of_the_module_in_batches_of_any_size():
    net = network()
    with torch.no_grad():
        wanted = net(torch.tensor(X, dtype=torch.float32)).double().numpy()
    for batch_size in (1, 4, 11, 100):
        reference = Reference(net, classes=("no", "yes"), batch_size=batch_size)
        np.testing.assert_allclose(reference.logits(X), wanted, atol=1e-6)
        P = reference.predict_proba(X)
        np.testing.assert_allclose(P, np.exp(wanted) / np.exp(wanted).sum(axis=1, keepdims=True), atol=1e-6)
        assert reference.predict(X).tolist() == np.where(wanted[:, 1] > wanted[:, 0], "yes", "no").tolist()
    assert Reference(net).predict(X).tolist() == wanted.argmax(axis=1).tolist()


def test_the_embedding_of_a_callable_and_of_a_submodule_are_the_same_and_the_head_goes_on_from_it():
    net = network()
    named, called = Reference(net, embed="1", head=net[3]), Reference(net, embed=lambda x: net[1](net[0](x)))
    np.testing.assert_array_equal(named.embed(X), called.embed(X))
    with torch.no_grad():
        logits = named.head(torch.tensor(named.embed(X), dtype=torch.float32)).double().numpy()
    np.testing.assert_allclose(logits, named.logits(X), atol=1e-6)
    assert not any(part._forward_hooks for part in net.modules())


def test_tensors_keep_their_gradients_and_the_module_is_left_as_it_is():
    net = network()
    reference = Reference(net, embed="1")
    x = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    (reference.forward(x).sum() + reference.embedding(x).sum()).backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_several_inputs_and_more_dimensions_are_taken_and_an_embedding_is_flattened():
    class Timed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Identity()

        def forward(self, x, times):
            found = self.inner(x * times[..., None])
            return found.sum(dim=1)

    series, times = np.ones((4, 6, 2)), np.tile(np.arange(6), (4, 1))
    reference = Reference(Timed().eval(), embed="inner")
    np.testing.assert_allclose(reference.logits(series, times), np.full((4, 2), 15.0))
    assert reference.embed(series, times).shape == (4, 12)


def test_a_hook_is_removed_where_the_forward_pass_fails():
    net = network()
    with pytest.raises(RuntimeError):
        Reference(net, embed="1").embed(np.ones((2, 9)))
    assert not any(part._forward_hooks for part in net.modules())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embed": "encoder"}, "no submodule 'encoder'"),
        ({"classes": ("a", "a")}, "each class once"),
        ({"batch_size": 0}, "batch_size= to be a whole number of 1 or more"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        Reference(network(), **settings)


def test_a_module_in_train_mode_and_what_is_no_module_are_refused():
    net = network()
    net[2].train()
    with pytest.raises(InvalidData, match=r"2 is in train mode; call module.eval\(\) first"):
        Reference(net)
    with pytest.raises(InvalidData, match=r"expected a torch.nn.Module, got function"):
        Reference(lambda x: x)


def test_inputs_and_outputs_that_cannot_be_used_are_refused():
    reference = Reference(network())
    for wrong, message in (
        ([[np.nan, 0, 0]], "NaN or infinity"),
        (np.empty((0, 3)), "one length of at least 1"),
        (3.0, "one length of at least 1"),
        ([["a", "b", "c"]], "expected numbers"),
    ):
        with pytest.raises(InvalidData, match=message):
            reference.predict(wrong)
    with pytest.raises(InvalidData, match="one length of at least 1"):
        reference.predict(X, X[:5])
    with pytest.raises(InvalidData, match="give embed=: a callable, or the name of a submodule"):
        reference.embed(X)
    with pytest.raises(InvalidData, match=r"got 3 classes and 2 logits"):
        Reference(network(), classes="abc").predict(X)
    with pytest.raises(InvalidData, match=r"expected logits of shape \(11, classes\)"):
        Reference(torch.nn.Flatten(0).eval()).predict(X)


def test_a_submodule_that_takes_no_part_is_named():
    class Idle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(InvalidData, match="'unused' took no part"):
        Reference(Idle().eval(), embed="unused").embed(X)
