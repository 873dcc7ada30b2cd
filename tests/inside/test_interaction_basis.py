"""Interaction bases and graphs: exact sums, what they must not depend on, planted modules, and counts of free directions."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData, UnsupportedModule  # noqa: E402
from locum.inside import InteractionBasis, InteractionGraph, degeneracy  # noqa: E402
from locum.nets import seeded  # noqa: E402

nn = torch.nn
BASES = ("local", "global", "principal", "neurons")


def network(widths=(5, 7, 6, 3), seed=0):
    with seeded(seed):
        parts = []
        for a, b in pairwise(widths):
            parts += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*parts[:-1]).double().eval()


def rows(n=300, width=5, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, width)) + 0.3
    X[:, -1] = X[:, 0] - 2 * X[:, 1]  # a direction that is never seen
    return X


@pytest.fixture(scope="module")
def net():
    return network()


@pytest.fixture(scope="module")
def X():
    return rows()


def answers(net, X):
    with torch.no_grad():
        return net(torch.as_tensor(X, dtype=next(net.parameters()).dtype)).numpy()


def told(net, X, layers=("0", "2", "4"), **settings):
    """Activations in their basis by layer, without signs, and edges."""
    basis = InteractionBasis(**settings).fit(net, X, layers)
    found = {layer: np.abs(basis.transform(layer, f)) for layer, f in basis.activations(X).items()}
    return basis, found, InteractionGraph(basis).fit(X).edges_


# ---------------------------------------------------------------------- what holds by construction
@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("center", [True, False])
def test_the_network_is_the_same_in_any_basis(net, X, name, center):
    basis = InteractionBasis(name, center=center).fit(net, X, ["0", "2", "4"])
    np.testing.assert_allclose(basis.outputs(X), answers(net, X), atol=1e-9)
    every = dict.fromkeys(("0", "2", "4"), 99)
    np.testing.assert_allclose(basis.outputs(X, every), answers(net, X), atol=1e-7)


def test_directions_are_those_of_the_definition(net, X):
    """One layer before the output, by plain formulas: covariance, its root, and outputs' derivatives."""
    basis = InteractionBasis().fit(net, X, ["4"])
    f = basis.activations(X)["4"]
    W = net[4].weight.detach().numpy()
    G = np.cov(f.T, bias=True)
    eigenvalues = np.linalg.eigvals(G @ W.T @ W).real
    expected = np.sort(eigenvalues)[::-1][: len(basis.lambda_["4"]) - 1]
    np.testing.assert_allclose(basis.lambda_["4"][1:], expected, rtol=1e-8)
    moved = basis.transform("4", f)
    np.testing.assert_allclose(moved[:, 0], 1.0)
    np.testing.assert_allclose(moved[:, 1:].mean(axis=0), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.cov(moved[:, 1:].T, bias=True), np.diag(expected), atol=1e-8)
    np.testing.assert_allclose(basis.inverse_["4"] @ basis.C_["4"], np.eye(len(expected) + 1), atol=1e-8)


def test_the_last_layer_needs_no_more_directions_than_there_are_outputs(net, X):
    basis = InteractionBasis().fit(net, X, ["0", "2", "4"])
    assert basis.C_["0"].shape == (6, 5)  # four of five inputs vary
    assert basis.C_["4"].shape[1] <= 4
    assert basis.C_["output"].shape == (4, 4)


def test_local_and_global_agree_where_the_next_layer_is_the_output(net, X):
    one, other = (InteractionBasis(name).fit(net, X, ["4"]) for name in ("local", "global"))
    np.testing.assert_allclose(np.abs(one.C_["4"]), np.abs(other.C_["4"]), atol=1e-9)


def test_signs_drawn_at_random_come_near_the_sum_over_targets(net, X):
    exact = InteractionBasis().fit(net, X, ["2", "4"])
    one, same, other = (InteractionBasis(sources=40, random_state=seed).fit(net, X, ["2", "4"]) for seed in (1, 1, 2))
    np.testing.assert_allclose(one.lambda_["4"][1:], exact.lambda_["4"][1:], rtol=0.3)
    np.testing.assert_array_equal(one.C_["2"], same.C_["2"])
    assert (one.C_["2"] != other.C_["2"]).any()


@pytest.mark.parametrize("name", BASES)
def test_terms_of_a_target_add_up_to_it(net, X, name):
    """Steps are homogeneous once biases are folded, so a gradient is the whole of an attribution."""
    basis = InteractionBasis(name).fit(net, X, ["0", "2", "4"])
    graph = InteractionGraph(basis)
    found = basis.activations(X)
    for i, layer in enumerate(("0", "2", "4")):
        after = basis.layers_[i + 1]
        for piece, terms in graph._terms(i, torch.as_tensor(basis.transform(layer, found[layer]))):
            np.testing.assert_allclose(terms.sum(dim=2), basis.transform(after, found[after])[piece], atol=1e-9)


def test_a_gradient_and_an_integral_agree_for_relus_and_not_for_others(net, X):
    basis = InteractionBasis().fit(net, X, ["0", "2", "4"])
    straight, whole = (InteractionGraph(basis, method).fit(X).edges_ for method in ("gradient", "integrated"))
    for layer in straight:
        np.testing.assert_allclose(whole[layer], straight[layer], rtol=1e-8, atol=1e-14)
    bent = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double().eval()
    curved = InteractionBasis().fit(bent, X, ["0", "2"])
    straight, whole = (InteractionGraph(curved, method, points=20).fit(X).edges_ for method in ("gradient", "integrated"))
    assert np.abs(whole["0"] - straight["0"]).max() > 0.01 * straight["0"].max()
    np.testing.assert_allclose(whole["2"], straight["2"], rtol=1e-8, atol=1e-14)


# ---------------------------------------------------------------------- invariance
def rescaled(net):
    other = copy.deepcopy(net)
    with torch.no_grad():
        scale = torch.linspace(0.2, 5, 7, dtype=torch.float64)
        other[0].weight *= scale[:, None]
        other[0].bias *= scale
        other[2].weight /= scale
    return other, ("0", "2", "4")


def unseen(net):
    """Weights that touch only the direction that inputs never show."""
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight += 3 * torch.arange(7.0)[:, None] * torch.tensor([1.0, -2.0, 0.0, 0.0, -1.0])
    return other, ("0", "2", "4")


def mixed(net):
    """Invertible matrices between layers."""
    with seeded(5):
        A, B = (torch.randn(n, n, dtype=torch.float64) for n in (7, 6))
    parts = []
    for i, matrix in ((0, A), (2, B)):
        parts += [copy.deepcopy(net[i]), nn.ReLU(), nn.Linear(len(matrix), len(matrix), bias=False).double()]
        parts[-1].weight.data = matrix
    last = copy.deepcopy(net[4])
    with torch.no_grad():
        parts[3].weight.copy_(net[2].weight @ torch.linalg.inv(A))
        last.weight.copy_(net[4].weight @ torch.linalg.inv(B))
    return nn.Sequential(*parts, last).eval(), ("0", "3", "6")


def permuted(net):
    other, order = copy.deepcopy(net), torch.tensor([3, 1, 0, 6, 2, 5, 4])
    with torch.no_grad():
        other[0].weight.copy_(net[0].weight[order])
        other[0].bias.copy_(net[0].bias[order])
        other[2].weight.copy_(net[2].weight[:, order])
    return other, ("0", "2", "4")


@pytest.mark.parametrize("name", ["local", "global"])
@pytest.mark.parametrize("change", [rescaled, unseen, mixed, permuted])
def test_weights_that_make_the_network_do_the_same_give_the_same_basis_and_graph(net, X, name, change):
    other, layers = change(net)
    np.testing.assert_allclose(answers(other, X), answers(net, X), atol=1e-9)
    basis, found, edges = told(net, X, basis=name, tol=1e-10)
    _, again, drawn = told(other, X, layers, basis=name, tol=1e-10)
    assert np.diff(basis.lambda_["2"][1:]).max() < -1e-6  # no two eigenvalues are equal
    for ours, theirs in zip(("0", "2", "4"), layers, strict=True):
        scale = found[ours].max()
        np.testing.assert_allclose(again[theirs], found[ours], atol=1e-6 * scale)
        np.testing.assert_allclose(drawn[theirs], edges[ours], atol=1e-6 * edges[ours].max())


@pytest.mark.parametrize("name", ["principal", "neurons"])
@pytest.mark.parametrize("change", [rescaled, mixed])
def test_principal_components_and_neurons_do_change(net, X, name, change):
    other, layers = change(net)
    _, _, edges = told(net, X, basis=name)
    _, _, drawn = told(other, X, layers, basis=name)
    ours, theirs = np.sort(edges["0"].ravel()), np.sort(drawn[layers[0]].ravel())
    assert np.abs(ours - theirs).max() > 0.05 * ours.max()


def test_synchronised_units_may_be_mixed():
    net, X = network((4, 4, 2)), np.abs(rows(width=4))
    with torch.no_grad():
        net[0].weight[:2].abs_()  # on for all rows
        net[0].bias[:2] = 1.0
    other, A = copy.deepcopy(net), torch.tensor([[1.0, 0.4], [0.3, 0.9]], dtype=torch.float64)
    with torch.no_grad():
        other[0].weight[:2] = A @ net[0].weight[:2]
        other[0].bias[:2] = A @ net[0].bias[:2]
        other[2].weight[:, :2] = net[2].weight[:, :2] @ torch.linalg.inv(A)
    np.testing.assert_allclose(answers(other, X), answers(net, X), atol=1e-9)
    _, found, edges = told(net, X, ("0", "2"), tol=1e-10)
    _, again, drawn = told(other, X, ("0", "2"), tol=1e-10)
    np.testing.assert_allclose(again["2"], found["2"], atol=1e-6)
    np.testing.assert_allclose(drawn["0"], edges["0"], atol=1e-6 * edges["0"].max())


# ---------------------------------------------------------------------- how little is enough
def classes(net, X):
    return answers(net, X).argmax(axis=1)


def test_fewer_directions_and_edges_do_where_less_matters():
    """Two of five inputs decide, and in the neuron basis two nodes and a few edges are enough."""
    net = network((5, 6, 3))
    with torch.no_grad():
        for one in net.parameters():
            one.zero_()
        net[0].weight[:3, :2] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
        net[0].bias[:3] = 0.1
        net[2].weight[:, :3] = torch.eye(3)
    X = np.random.default_rng(1).normal(size=(400, 5))
    y = classes(net, X)
    assert len(np.unique(y)) == 3
    basis = InteractionBasis("neurons").fit(net, X, ["0", "2"])
    graph = InteractionGraph(basis).fit(X)
    nodes = graph.nodes_needed(X, y, drop=0.0)
    assert nodes["0"] == 2
    edges = graph.edges_needed(X, y, drop=0.0)
    assert edges["0"] <= 3 * 3 + 1
    assert (graph.edges_["0"] > 0).sum() <= 10
    ours = InteractionBasis().fit(net, X, ["0", "2"])
    assert InteractionGraph(ours).fit(X).nodes_needed(X, y, drop=0.0)["0"] <= 2
    loose = graph.edges_needed(X, y, drop=0.9)
    assert loose == {"0": 0, "2": 0}


def test_keeping_all_edges_changes_no_answer(net, X):
    y = classes(net, X)
    basis = InteractionBasis().fit(net, X, ["0", "2", "4"])
    graph = InteractionGraph(basis).fit(X)
    for layer, needed in graph.edges_needed(X, y, drop=0.0).items():
        assert 0 < needed <= (graph.edges_[layer] > 0).sum()


# ---------------------------------------------------------------------- modules
def two_in_one(seed=0):
    """Two networks side by side, behind invertible matrices that hide which unit is whose."""
    halves = [network((4, 6, 6, 2), seed=seed + i) for i in (10, 20)]
    with seeded(seed):
        mixes = [torch.linalg.qr(torch.randn(n, n, dtype=torch.float64))[0] for n in (8, 12, 12)]
    parts = []
    for i, mix in zip((0, 2, 4), mixes, strict=True):
        both = nn.Linear(2 * halves[0][i].in_features, 2 * halves[0][i].out_features).double()
        with torch.no_grad():
            both.weight.copy_(torch.block_diag(*(half[i].weight for half in halves)) @ mix.T)
            both.bias.copy_(torch.cat([half[i].bias for half in halves]))
        hide = nn.Linear(len(mix), len(mix), bias=False).double()
        hide.weight.data = mix
        parts += [hide, both, nn.ReLU()]
    return nn.Sequential(*parts[:-1]).eval()


def test_modules_hidden_by_mixing_are_found_in_the_interaction_basis():
    net = two_in_one()
    rng = np.random.default_rng(0)
    half = rng.normal(size=(60, 4)), rng.normal(size=(60, 4))
    X = np.column_stack([np.repeat(half[0], 60, axis=0), np.tile(half[1], (60, 1))])[::2]  # the two halves are uncorrelated
    truth = np.array([0, 0, 1, 1])
    found = {}
    for name in ("local", "neurons"):
        basis = InteractionBasis(name).fit(net, X, ["1", "4", "7"])
        modules = InteractionGraph(basis).fit(X).modules(1e-8, permutations=2)
        found[name] = modules
        inputs = modules.labels["output"]
        assert len(inputs) == 4
    assert adjusted_rand_score(truth, found["local"].labels["output"]) == 1.0
    assert len(set(found["local"].labels["1"][:8])) == 2
    assert found["local"].modularity > max(found["local"].permuted) + 0.1
    assert found["local"].modularity > found["neurons"].modularity + 0.2


# ---------------------------------------------------------------------- degeneracy
@pytest.fixture(scope="module")
def trained():
    """Six inputs, one of them always 0, to three classes."""
    from locum.nets import train

    X = np.random.default_rng(0).normal(size=(400, 6))
    X[:, 5] = 0.0
    y = torch.as_tensor((X[:, 0] + X[:, 1] ** 2 > 0.5) * 1 + (X[:, 2] > 1) * 1)
    net = network((6, 5, 4, 3))
    train(net, lambda net, x, y: nn.functional.cross_entropy(net(x), y), [torch.as_tensor(X), y], epochs=20, batch_size=50,
          optimizer=lambda p: torch.optim.Adam(p, lr=0.01))  # fmt: skip
    return net, X


def nullity(net, X, eps=1e-10):
    """By automatic differentiation of all weights at once."""
    names = dict(net.named_parameters())
    x = torch.as_tensor(X)
    J = torch.func.jacrev(lambda p: torch.func.functional_call(net, p, x))({k: v.detach() for k, v in names.items()})
    flat = torch.cat([J[name].flatten(2) for name in names], dim=2).flatten(0, 1)
    values = torch.linalg.eigvalsh(flat.T @ flat)
    return int((values <= eps * values[-1]).sum())


def test_free_directions_are_counted_as_automatic_differentiation_counts_them(trained):
    net, X = trained
    found = degeneracy(net, X)
    assert found.nullity == nullity(net, X)
    assert found.weights == sum(one.numel() for one in net.parameters())
    assert 0.9 * found.nullity <= found.explained <= found.nullity
    assert found.layers[0].by_activations == 5  # the input that is always 0, for each of five units
    assert found.effective == found.weights - found.nullity
    assert all(one.free >= one.by_either for one in found.layers)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_copied_unit_is_free_in_all_its_weights(trained, copies):
    """Each copy of a unit brings its inputs, the constant and its outputs, and all of them are free."""
    net, X = trained
    before = degeneracy(net, X)
    unit = int((torch.as_tensor(X) @ net[0].weight.T + net[0].bias > 0).sum(dim=0).argmin())
    wide = network((6, 5 + copies, 4, 3))
    with torch.no_grad():
        for i in (2, 4):
            wide[i].bias.copy_(net[i].bias)
        wide[0].weight.copy_(torch.cat([net[0].weight, net[0].weight[unit].repeat(copies, 1)]))
        wide[0].bias.copy_(torch.cat([net[0].bias, net[0].bias[unit].repeat(copies)]))
        share = net[2].weight.clone()
        share[:, unit] /= copies + 1
        wide[2].weight.copy_(torch.cat([share, share[:, unit, None].repeat(1, copies)], dim=1))
        wide[4].weight.copy_(net[4].weight)
    np.testing.assert_allclose(answers(wide, X), answers(net, X), atol=1e-9)
    after = degeneracy(wide, X)
    assert after.nullity - before.nullity == copies * (6 + 1 + 4)
    assert after.explained - before.explained == copies * (6 + 1 + 4)
    assert any(set(range(5, 5 + copies)) <= set(group) for group in after.synchronised["1"])


def test_units_that_are_never_on_are_free_and_synchronised_with_none():
    net, X = network((4, 5, 2)), rows(width=4)
    with torch.no_grad():
        net[0].bias[2] = -1e3
    found = degeneracy(net, X)
    assert not any(2 in group for group in found.synchronised["1"])
    assert found.layers[0].gradient_rank == 4
    assert found.layers[0].by_gradients == 5
    assert found.layers[1].by_activations >= 2


# ---------------------------------------------------------------------- refusals
def test_networks_and_layers_that_do_not_fit_are_refused(net, X):
    with pytest.raises(InvalidData, match="expected layers= each once and in the order of the network, got 2, 0"):
        InteractionBasis().fit(net, X, ["2", "0"])
    with pytest.raises(InvalidData, match="expected layers= among 0, 1, 2, 3, 4, got 7"):
        InteractionBasis().fit(net, X, ["7"])
    with pytest.raises(InvalidData, match=r"expected net= as a torch.nn.Sequential, one path of layers, got Linear"):
        InteractionBasis().fit(net[0], X, ["0"])
    with pytest.raises(InvalidData, match="expected basis= to be one of local"):
        InteractionBasis("lib").fit(net, X, ["0"])
    with pytest.raises(InvalidData, match="expected finite inputs, got NaN or infinity"):
        InteractionBasis().fit(net, np.full((5, 5), np.nan), ["0"])
    with pytest.raises(UnsupportedModule, match=r"the layer 1 \(LayerNorm\) has a bias"):
        InteractionBasis().fit(nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3)).eval(), X, ["0"])
    dead = copy.deepcopy(net)
    with torch.no_grad():
        dead[4].weight.zero_()
    with pytest.raises(InvalidData, match="nothing that follows depends on the layer '4'"):
        InteractionBasis().fit(dead, X, ["0", "4"])
    with pytest.raises(InvalidData, match=r"call net\.eval"):
        InteractionBasis().fit(copy.deepcopy(net).train(), X, ["0"])
    with pytest.warns(UserWarning, match="4 rows for a layer 8 wide with its constant"):
        InteractionBasis().fit(net, X[:4], ["2"])


def test_what_cannot_be_asked_of_a_basis_or_graph_is_refused(net, X):
    basis = InteractionBasis().fit(net, X, ["0", "2"])
    with pytest.raises(InvalidData, match="there is no layer '1'; there is"):
        basis.transform("1", X)
    with pytest.raises(InvalidData, match=r"expected activations of shape \(n, 7\) for the layer '2'"):
        basis.transform("2", X)
    with pytest.raises(InvalidData, match="expected m= to be a whole number of 0 or more"):
        basis.truncate("2", -1)
    graph = InteractionGraph(basis).fit(X)
    with pytest.raises(InvalidData, match="expected 300 classes as whole numbers"):
        graph.edges_needed(X, np.ones(3, dtype=int))
    with pytest.raises(InvalidData, match="no edge is left"):
        graph.modules(1e9)
    with pytest.raises(InvalidData, match="expected method= to be one of gradient, integrated"):
        InteractionGraph(basis, "both").fit(X)


def test_networks_without_turns_of_linear_layers_and_relus_are_refused(X):
    with pytest.raises(InvalidData, match="of linear layers with a ReLU between each two, got Linear, Tanh, Linear"):
        degeneracy(nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 2)).eval(), X)
    with pytest.raises(InvalidData, match="expected at most 6000 weights"):
        degeneracy(network((5, 900, 2)), X)
    with pytest.raises(InvalidData, match="expected linear layers with a bias"):
        degeneracy(nn.Sequential(nn.Linear(5, 3, bias=False)).eval(), X)
