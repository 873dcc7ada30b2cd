"""Layer-wise relevance propagation: worked values, identities with gradients, conservation, every kind of operation."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData, UnsupportedModule
from locum.explain.pruning_by_explaining import LRPCriterion, LRPExplainer
from locum.explain.saliency import randomisation_check
from locum.nets import seeded

torch = pytest.importorskip("torch")
nn = torch.nn


def made(*layers, seed=0):
    """A network whose batch normalisations have seen data, in eval mode."""
    with seeded(seed):
        for layer in layers:
            for part in layer.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.running_mean.normal_()
                    part.running_var.uniform_(0.5, 2.0)
                    part.weight.data.normal_()
        return nn.Sequential(*layers).eval()


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def values(net, X, y=None, **settings):
    found = np.stack([one.values for one in LRPExplainer(net, **settings).explain(X, y)])
    assert (found != 0).any(axis=tuple(range(1, found.ndim))).all(), "nothing arrived, so nothing could be compared"
    return found


class Sum(nn.Module):
    """Two branches added, in place and then written over by a rectifier in place."""

    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x):
        found = self.one(x)
        found += self.other(x)
        return torch.relu_(found)


class Concat(nn.Module):
    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x):
        return torch.cat([self.one(x), self.other(x)], dim=1)


def with_weights(layer, weight, bias=None):
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


def convolutional(bias=True):
    with seeded(0):
        return made(
            nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=bias), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=bias), nn.ReLU6(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5),
            nn.Linear(24, 20, bias=bias), nn.ReLU(), nn.Linear(20, 3, bias=bias),
        )  # fmt: skip


# ---------------------------------------------------------------------- worked by hand
def test_two_layers_worked_by_hand():
    net = made(
        with_weights(nn.Linear(2, 2), [[1.0, -1.0], [2.0, 1.0]], [0.5, -7.0]),
        with_weights(nn.Linear(2, 2), [[3.0, 1.0], [-1.0, 1.0]], [9.0, 9.0]),
    )
    # x = (2, 1): hidden (1.5, -2). Output 0 has 3 * 1.5 alone, since 1 * -2 is negative; hidden 0 has 1 * 2 alone.
    assert np.allclose(values(net, np.array([[2.0, 1.0]]), [0]), [[1.0, 0.0]], atol=1e-6)
    # Output 1: -1 * 1.5 and 1 * -2 are both negative, so nothing speaks for it and the relevance is lost.
    (lost,) = LRPExplainer(net).explain(np.array([[2.0, 1.0]]), [1])
    assert lost.values.tolist() == [0.0, 0.0]


def test_a_negative_input_counts_with_its_negative_weight():
    net = made(with_weights(nn.Linear(3, 1, bias=False), [[-2.0, 1.0, -1.0]]))
    assert np.allclose(values(net, np.array([[-1.0, 2.0, 5.0]]), [0]), [[0.5, 0.5, 0.0]], atol=1e-6)


def test_max_pool_gives_all_to_the_winner_and_a_mean_shares():
    X = np.array([[[1.0, 4.0, 2.0, 2.0]]])
    head = with_weights(nn.Linear(2, 1, bias=False), [[1.0, 1.0]])
    assert np.allclose(values(made(nn.MaxPool1d(2), nn.Flatten(), head), X), [[[0, 4 / 6, 2 / 6, 0]]], atol=1e-6)
    assert np.allclose(values(made(nn.AvgPool1d(2), nn.Flatten(), head), X), X / 9, atol=1e-6)


def test_a_mean_of_negative_values_shares_as_well():
    head = with_weights(nn.Linear(1, 1, bias=False), [[-1.0]])
    found = values(made(nn.AvgPool1d(2), nn.Flatten(), head), np.array([[[-3.0, -1.0]]]))
    assert np.allclose(found, [[[0.75, 0.25]]], atol=1e-6)


def test_a_sum_is_shared_among_the_summands_of_its_sign():
    three, one = (with_weights(nn.Linear(1, 1, bias=False), [[w]]) for w in (3.0, 1.0))
    net = made(Sum(nn.Sequential(three), nn.Sequential(one)), with_weights(nn.Linear(1, 1, bias=False), [[2.0]]))
    criterion = LRPCriterion()
    scores = criterion.score(net, (np.array([[1.0]]), [0]))
    assert [round(float(scores[name][0]), 6) for name in ("0.one.0", "0.other.0", "1")] == [0.75, 0.25, 1.0]


def test_start_from_softmax_and_logit():
    net = made(with_weights(nn.Linear(2, 2, bias=False), [[1.0, 1.0], [0.0, 0.0]]))
    X = np.array([[1.0, 2.0]])
    assert np.allclose(values(net, X, [0], start="logit").sum(), 3.0, atol=1e-6)
    assert np.allclose(values(net, X, [0], start="softmax").sum(), 1 / (1 + np.exp(-3)), atol=1e-6)


# ---------------------------------------------------------------------- identities
def test_epsilon_without_biases_is_gradient_times_input():
    net, X = convolutional(bias=False).double(), rows(4, 3, 16, 16)
    net[1] = nn.Identity().eval()
    y = np.array([0, 1, 2, 0])
    x = torch.tensor(X.astype(float), requires_grad=True)
    logits = net(x)[torch.arange(4), y]
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    wanted = (x * gradient / logits.detach()[:, None, None, None]).detach().numpy()
    found = values(net.float(), X, y, rule="epsilon")
    assert np.allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


def test_batch_normalisation_is_the_same_folded_or_apart():
    net, X = convolutional(), rows(3, 3, 16, 16)
    folded = convolutional()
    scale = folded[1].weight.data / (folded[1].running_var + folded[1].eps).sqrt()
    with torch.no_grad():
        folded[0].weight.mul_(scale[:, None, None, None])
        folded[0].bias.copy_((folded[0].bias - folded[1].running_mean) * scale + folded[1].bias)
    folded[1] = nn.Identity().eval()
    assert (scale < 0).any(), "a negative scale turns signs, which is the hard case"
    assert np.allclose(values(net, X), values(folded, X), atol=1e-6)


def test_relevance_keeps_its_sum_in_every_layer_of_a_net_without_biases():
    with seeded(1):
        net = made(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(),
            Sum(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.Identity()),
            Concat(nn.MaxPool2d(2), nn.AvgPool2d(2)), nn.Conv2d(16, 4, 1, bias=False), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2, bias=False),
        )  # fmt: skip
    X = np.abs(rows(16, 3, 8, 8))
    found = LRPCriterion().conservation(net, (X, np.arange(16) % 2))
    assert {"4", "3.one", "3.other", "2.one"} <= set(found.layers)
    # Class logits may have no positive product at all, which only concerns the last layer; the rest conserves.
    assert max(gap for layer, gap in zip(found.layers, found.gaps, strict=True) if layer != "8") < 1e-3
    found = values(net, X)
    assert (found >= 0).all()
    assert np.allclose(found.sum(axis=(1, 2, 3)), 1, atol=1e-3)


def test_order_of_hidden_units_does_not_matter():
    net, X = convolutional(), rows(3, 3, 16, 16)
    other, order = convolutional(), np.random.default_rng(0).permutation(20)
    with torch.no_grad():
        other[9].weight.copy_(net[9].weight[order])
        other[9].bias.copy_(net[9].bias[order])
        other[11].weight.copy_(net[11].weight[:, order])
    assert np.allclose(values(net, X), values(other, X), atol=1e-6)
    one, two = (LRPCriterion().score(each, (X, [0, 1, 2])) for each in (net, other))
    assert np.allclose(one["9"][order], two["9"], atol=1e-6)


@pytest.mark.parametrize("rule", ["zplus", "epsilon"])
def test_operations_in_place_change_nothing(rule):
    class Function(nn.Module):
        def forward(self, x):
            return nn.functional.leaky_relu(x, 0.1, True)

    X, found = rows(3, 6), []
    for activation in (nn.LeakyReLU(0.1), nn.LeakyReLU(0.1, inplace=True), Function()):
        with seeded(0):
            found.append(values(made(nn.Linear(6, 20), activation, nn.Linear(20, 3)), X, [0, 1, 2], rule=rule))
    assert np.allclose(found[1], found[0], atol=1e-6)
    assert np.allclose(found[2], found[0], atol=1e-6)


def test_batches_change_nothing_and_the_network_stays_as_it_was():
    net, X = convolutional(), rows(7, 3, 16, 16)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert np.allclose(values(net, X, batch_size=2), values(net, X), atol=1e-6)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_a_subclass_of_a_convolution_has_the_rule_of_the_convolution():
    class Padded(nn.Conv2d):
        def forward(self, x):
            return super().forward(nn.functional.pad(x, (0, 1, 0, 1)))

    with seeded(0):
        net = made(Padded(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
    apart = made(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 2, 2), *list(net)[1:])
    apart[1].load_state_dict(net[0].state_dict())
    X = rows(4, 1, 2, 2)
    assert np.allclose(values(net, X), values(apart, X), atol=1e-6)


# ---------------------------------------------------------------------- the record
def test_the_record_names_axes_and_class():
    (one,) = LRPExplainer(convolutional()).explain(rows(1, 3, 16, 16), [2])
    assert one.unit == "channel and pixel row and pixel column"
    assert one.values.shape == (3, 16, 16)
    assert one.output == "logit of class 2"
    assert type(one).from_dict(one.to_dict()).top(3) == one.top(3) or np.isnan(one.top(1)[0].lower)


# ---------------------------------------------------------------------- bad input
def test_train_mode_is_refused():
    net = convolutional()
    net[8].train()
    with pytest.raises(InvalidData, match="8 is in train mode"):
        LRPExplainer(net).explain(rows(1, 3, 16, 16))


def test_a_module_without_a_rule_is_named():
    with seeded(0):
        net = made(nn.Linear(3, 3), nn.Sequential(nn.LayerNorm(3)), nn.Linear(3, 2))
    with pytest.raises(UnsupportedModule, match=r"no rule for 1\.0 \(LayerNorm\)"):
        LRPExplainer(net).explain(rows(1, 3))


def test_a_product_of_two_values_of_the_row_has_no_rule():
    class Gate(nn.Module):
        def forward(self, x):
            return x * torch.sigmoid(x)

    with pytest.raises(UnsupportedModule, match="mul joins several values"):
        LRPExplainer(made(nn.Linear(3, 3), Gate(), nn.Linear(3, 2))).explain(rows(1, 3))


def test_a_function_without_a_rule_is_named():
    class Norm(nn.Module):
        def forward(self, x):
            return torch.linalg.norm(x, dim=1)

    with pytest.raises(UnsupportedModule, match="no rule for linalg_norm"):
        LRPExplainer(made(nn.Linear(3, 3), Norm())).explain(rows(1, 3))


def test_a_branch_on_values_cannot_be_followed():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UnsupportedModule, match=r"torch\.fx cannot follow"):
        LRPExplainer(made(nn.Linear(3, 3), Branch())).explain(rows(1, 3))


def test_a_negative_logit_is_no_start():
    net = made(with_weights(nn.Linear(1, 2, bias=False), [[-1.0], [1.0]]))
    with pytest.raises(InvalidData, match="logit of the class to explain is negative"):
        LRPExplainer(net, start="logit").explain(np.ones((1, 1)), [0])


@pytest.mark.parametrize(
    ("settings", "X", "y", "message"),
    [
        ({"rule": "gamma"}, np.ones((1, 2)), None, "expected rule= to be one of zplus, epsilon"),
        ({"start": "one"}, np.ones((1, 2)), None, "expected start= to be one of onehot"),
        ({}, np.full((1, 2), np.nan), None, "finite numbers"),
        ({}, np.ones(2), None, "rows of finite numbers"),
        ({}, np.ones((1, 2)), [0, 1], "one class for each of the 1 rows"),
        ({"batch_size": 0}, np.ones((1, 2)), None, "batch_size"),
    ],
)
def test_settings_and_rows_that_cannot_be_used(settings, X, y, message):
    with pytest.raises(InvalidData, match=message):
        LRPExplainer(made(nn.Linear(2, 2)), **settings).explain(X, y)


# ---------------------------------------------------------------------- whether a map needs the network
def test_epsilon_maps_change_with_random_weights_and_zplus_maps_hardly_do():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X = (0.2 + 0.05 * X.reshape(-1, 1, 8, 8)).astype(np.float32)  # nothing is 0: pixels without relevance would all be alike
    with seeded(0):
        conv, linear = torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.Linear(256, 10)
        net = torch.nn.Sequential(conv, torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), linear)
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(20):
            for rows in torch.randperm(1500).split(100):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(torch.as_tensor(X)[rows]), torch.as_tensor(y)[rows]).backward()
                optimizer.step()
    net.eval()
    with torch.no_grad():
        said = net(torch.as_tensor(X[1500:1540])).argmax(dim=1).numpy()
    assert (said == y[1500:1540]).mean() > 0.85
    last = {}
    for rule in ("zplus", "epsilon"):
        explain = lambda m, rows, rule=rule: [one.values for one in LRPExplainer(m.eval(), rule=rule).explain(rows, said)]  # noqa: E731
        last[rule] = randomisation_check(explain, net, X[1500:1540]).last
    assert last["epsilon"].upper < 0.6 < last["zplus"].lower
