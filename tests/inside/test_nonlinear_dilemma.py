"""Alignments: planted ones are found by the maps that can hold them, and an audit tells them from those that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    Alignment,
    CausalModel,
    LanguageModelCut,
    NetworkCut,
    NeuronMap,
    OrthogonalMap,
    RevNetMap,
    Tap,
    audit,
)
from locum.nets import TrainingFailed, seeded  # noqa: E402

WIDTH = 6


def planted(rotated):
    """A network whose hidden state holds two bits, on two neurons or on two directions, and answers whether they are equal."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0] if rotated else np.eye(WIDTH)
    net = torch.nn.Sequential(
        torch.nn.Linear(WIDTH, WIDTH), torch.nn.Identity(), torch.nn.Linear(WIDTH, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    )
    undo = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])  # of the two bits, as +1 and -1
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(turn))
        net[0].bias.zero_()
        net[2].weight.copy_(undo @ torch.tensor(turn.T[:2], dtype=torch.float32))
        net[2].bias.fill_(-1.0)
        net[4].weight.copy_(3 * torch.tensor([[-1.0, -1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0]]))
        net[4].bias.zero_()
    return net.eval()


def rows(m, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, WIDTH)).astype(np.float32)
    X[:, :2] = rng.choice([-1.0, 1.0], size=(m, 2))
    return X


BITS = CausalModel({"a": lambda x: x[:, 0] > 0, "b": lambda x: x[:, 1] > 0}, lambda a, b: a == b)


@pytest.fixture(scope="module")
def training():
    return BITS.interventions(rows(600), 2000)


@pytest.fixture(scope="module")
def held():
    return BITS.interventions(rows(3000, seed=1), 500, random_state=1)


SETTINGS = {"blocks": 1, "epochs": 12, "batch_size": 100, "learning_rate": 0.03}


# ---------------------------------------------------------------------- maps
@pytest.mark.parametrize("kind", [NeuronMap(), OrthogonalMap(), RevNetMap(3, 5)])
def test_maps_are_undone_by_their_inverses(kind):
    with seeded(0):
        made = kind.made(8, torch.float64)
        h = torch.randn(50, 8, dtype=torch.float64)
    torch.testing.assert_close(made.inverse(made(h)), h, rtol=1e-10, atol=1e-10)
    if isinstance(kind, OrthogonalMap):
        torch.testing.assert_close(made(h).norm(dim=1), h.norm(dim=1))


def test_a_reversible_network_is_that_of_its_equations():
    with seeded(0):
        made = RevNetMap(1, 3).made(4)
        h = torch.randn(5, 4)
    f, g = made.blocks[0].f, made.blocks[0].g
    first = h[:, :2] + f(h[:, 2:])
    torch.testing.assert_close(made(h), torch.cat([first, h[:, 2:] + g(first)], dim=1))


@pytest.mark.parametrize("kind", [NeuronMap(), OrthogonalMap(), RevNetMap(2, 4)])
def test_taking_a_value_from_the_base_itself_changes_nothing(kind, training):
    net = planted(True)
    fitted = Alignment(NetworkCut(net, "1"), kind, **SETTINGS | {"epochs": 1}).fit(training)
    same = training.part(0, 50)
    same.sources[:] = same.base[:, None]
    expected = net(torch.from_numpy(training.inputs[same.base])).detach().numpy()
    np.testing.assert_allclose(fitted.logits(same), expected, atol=1e-4)


# ---------------------------------------------------------------------- planted alignments
def test_nodes_on_single_neurons_are_found_by_any_map(training, held):
    cut = NetworkCut(planted(False), "1")
    neurons = Alignment(cut, NeuronMap(), blocks=1).fit(training)
    assert {node: own.tolist() for node, own in neurons.owned_.items()} == {"a": [0], "b": [1]}
    assert neurons.iia(held).value == 1.0
    assert neurons.n_parameters_ == 0
    assert neurons.history_ is None


def test_nodes_on_directions_are_found_by_rotations_and_not_by_single_neurons(training, held):
    cut = NetworkCut(planted(True), "1")
    turned = Alignment(cut, OrthogonalMap(), **SETTINGS).fit(training)
    found = turned.iia(held)
    assert found.value > 0.97
    assert found.lower < found.value < found.upper or found.value == 1.0
    assert turned.n_parameters_ == WIDTH * (WIDTH - 1) // 2
    assert Alignment(cut, NeuronMap(), blocks=1).fit(training).iia(held).upper < 0.85
    weight = turned.module_.map.linear.weight.detach().numpy()
    own = planted(True)[0].weight.detach().numpy()[:, :2]
    np.testing.assert_allclose(np.abs(weight[:2] @ own), np.eye(2), atol=0.2)


def test_edited_states_of_a_true_alignment_lie_among_real_ones(training, held):
    cut = NetworkCut(planted(True), "1")
    turned = Alignment(cut, OrthogonalMap(), **SETTINGS).fit(training)
    assert 0.5 < turned.distance(held) < 1.5
    far = Alignment(cut, RevNetMap(2, 8), **SETTINGS).fit(training)
    assert far.distance(held) > turned.distance(held)


def test_the_same_seed_gives_the_same_map(training, held):
    cut = NetworkCut(planted(True), "1")
    settings = SETTINGS | {"epochs": 2}
    one, same = (Alignment(cut, OrthogonalMap(), **settings).fit(training) for _ in range(2))
    other = Alignment(cut, OrthogonalMap(), **settings, random_state=1).fit(training)
    np.testing.assert_array_equal(one.logits(held), same.logits(held))
    assert (one.logits(held) != other.logits(held)).any()


def test_a_fit_leaves_the_network_as_it_was(training):
    net = planted(True)
    before = {name: one.clone() for name, one in net.state_dict().items()}
    Alignment(NetworkCut(net, "1"), OrthogonalMap(), **SETTINGS | {"epochs": 1}).fit(training)
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in net.parameters())


def test_training_stops_where_what_is_held_back_no_longer_improves(training):
    cut = NetworkCut(planted(True), "1")
    fitted = Alignment(cut, OrthogonalMap(), **SETTINGS | {"epochs": 60}, patience=2).fit(training)
    assert fitted.history_.stopped_early
    assert len(fitted.history_.validation) == len(fitted.history_.losses)


def test_bases_that_come_again_widen_the_interval():
    cut = NetworkCut(planted(True), "1")
    fitted = Alignment(cut, NeuronMap(), blocks=1).fit(BITS.interventions(rows(100), 500))
    few = fitted.iia(BITS.interventions(rows(40, seed=5), 2000))
    assert few.groups == 40
    assert few.n == 2000
    many = fitted.iia(BITS.interventions(rows(40_000, seed=5), 2000))
    assert few.upper - few.lower > 1.3 * (many.upper - many.lower)


# ---------------------------------------------------------------------- code length
def test_a_true_alignment_has_a_short_code_and_random_labels_a_long_one(training):
    cut = NetworkCut(planted(True), "1")
    told = Alignment(cut, OrthogonalMap(), **SETTINGS).code_length(training, first=250)
    assert [n for n, _ in told.stages] == [250, 500, 1000]
    assert told.uniform == 1.0
    assert told.bits < 0.75
    assert told.stages[-1][1] < 0.05
    paid = sum(bits * size for (_, bits), size in zip(told.stages, (250, 500, 1000), strict=True))
    assert told.bits == pytest.approx((250 + paid) / 2000)
    noise = BITS.interventions(rows(600), 2000)
    noise.labels[:] = np.random.default_rng(0).integers(2, size=2000)
    assert Alignment(cut, OrthogonalMap(), **SETTINGS).code_length(noise, first=250).bits > 0.98


# ---------------------------------------------------------------------- cuts
class Wrapped(torch.nn.Module):
    """The same layers, where a cut cannot see what follows."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def test_running_only_what_follows_is_running_all_with_the_activation_replaced():
    net, X = planted(True), rows(40)
    short, long = NetworkCut(net, "1").states(X), NetworkCut(Wrapped(net).eval(), "net.1").states(X)
    torch.testing.assert_close(short.hidden, long.hidden)
    at, h = torch.tensor([3, 7, 7]), torch.randn(3, WIDTH)
    torch.testing.assert_close(short.after(h, at), long.after(h, at))
    torch.testing.assert_close(short.after(short.hidden, torch.arange(40)), net(torch.from_numpy(X)))


def test_an_activation_with_positions_is_cut_at_one_of_them(language_model):
    class Last(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, ids):
            return self.model(input_ids=ids).logits[:, -1]

    ids = np.random.default_rng(0).integers(1, 50, size=(6, 7))
    whole = NetworkCut(Last(language_model).eval(), "model.model.layers.0", position=-1).states(ids)
    part = LanguageModelCut(language_model, 1, (2, 4)).states(ids)
    torch.testing.assert_close(part.hidden, whole.hidden)
    at, h = torch.tensor([5, 0, 0]), torch.randn(3, 16)
    said = whole.after(h, at)
    wanted = said.gather(1, torch.from_numpy(ids[at][:, [2, 4]]))
    torch.testing.assert_close(part.after(h, at), wanted, rtol=1e-4, atol=1e-5)


def test_the_later_layers_of_a_language_model_give_gradients_to_the_state_alone(language_model):
    ids = np.random.default_rng(0).integers(1, 50, size=(4, 6))
    cut = LanguageModelCut(language_model, 2, (1, 3))
    states = cut.states(ids)
    tap = Tap(language_model, {"site": "model.layers.1"})
    h = states.hidden.clone().requires_grad_()
    (ours,) = torch.autograd.grad(states.after(h, torch.arange(4))[:, 0].sum(), h)
    full = states.hidden.clone().requires_grad_()
    with tap.edit("site", lambda _: full[:, None], positions=-1):
        said = language_model(input_ids=torch.from_numpy(ids)).logits[:, -1]
    (theirs,) = torch.autograd.grad(said[torch.arange(4), torch.from_numpy(ids[:, 1])].sum(), full)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_untrained_copy_has_other_weights_of_its_own_seed(language_model):
    for cut in (NetworkCut(planted(True), "1"), LanguageModelCut(language_model, 1, (0,))):
        one, same, other = cut.untrained(1), cut.untrained(1), cut.untrained(2)
        assert cut.model is not one.model
        first, second, third, own = (next(each.model.parameters()) for each in (one, same, other, cut))
        assert torch.equal(first, second)
        assert not torch.equal(first, third)
        assert not torch.equal(first, own)
        assert not one.model.training


# ---------------------------------------------------------------------- the audit
def test_an_audit_supports_a_planted_alignment_and_not_what_fits_controls_as_well():
    cuts = {"hidden": NetworkCut(planted(True), "1")}
    other = CausalModel({"c": lambda x: (x[:, 0] > 0) ^ (x[:, 2] > 0)}, lambda x, c: (c ^ (x[:, 2] > 0)) == (x[:, 1] > 0))
    heard = []
    told = audit(
        cuts, BITS, rows(600), rows(2000, seed=1), maps=[OrthogonalMap(), NeuronMap()], settings=SETTINGS, n=2000, n_test=400,
        rivals={"another": other}, progress=lambda done, total, what: heard.append((done, total, what)),
    )  # fmt: skip
    line = told.line("hidden", "orthogonal")
    assert line.supported
    assert line.iia.value > 0.95
    assert line.network.value == 1.0
    assert set(line.controls) == {"shuffled nodes", "another", "untrained"}
    assert line.controls["shuffled nodes"].value < 0.8
    assert line.controls["untrained"].value < 0.8
    single = told.line("hidden", "neurons")
    assert not single.supported
    assert any(reason.startswith("not above") for reason in single.reasons)
    assert str(told).splitlines()[0].startswith("hidden, orthogonal: IIA")
    assert ": supported" in str(line)
    assert heard[-1][:2] == (8, 8)
    assert heard[0][2] == "hidden, orthogonal, the network"


def test_an_audit_flags_a_map_that_knows_more_than_its_network():
    """The network answers at random, and the map is told everything: a state in which all inputs differ."""
    with seeded(0):
        net = torch.nn.Sequential(torch.nn.Linear(WIDTH, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).eval()
    settings = {"blocks": 3, "epochs": 15, "batch_size": 200, "learning_rate": 0.01}
    told = audit(
        {"hidden": NetworkCut(net, "1")}, BITS, rows(2000), rows(2000, seed=1), maps=[RevNetMap(3, 32)], settings=settings,
        n=6000, n_test=500, controls=["shuffled nodes"],
    )  # fmt: skip
    (line,) = told.lines
    assert line.iia.value > 0.75
    assert any("the map has learned the task" in reason for reason in line.reasons)


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": 4}, "expected blocks of at most 6 coordinates together, the width at the cut"),
        ({"blocks": {"a": 1}}, "expected blocks= for the nodes a, b, got a"),
        ({"blocks": 0}, r"expected blocks\['a'\]= to be a whole number of 1 or more"),
        ({"map": "orthogonal"}, r"expected map= as NeuronMap\(\), OrthogonalMap\(\) or RevNetMap\(\)"),
        ({"epochs": 0}, "expected epochs="),
        ({"learning_rate": -1.0}, "expected learning_rate= above 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(training, settings, message):
    with pytest.raises(InvalidData, match=message):
        Alignment(NetworkCut(planted(True), "1"), **{"blocks": 1} | settings).fit(training)


def test_networks_and_interventions_that_do_not_fit_are_refused(training, language_model):
    net = planted(True)
    odd = torch.nn.Sequential(torch.nn.Linear(WIDTH, 5), torch.nn.Linear(5, 2)).eval()
    with pytest.raises(InvalidData, match="expected an activation of even width for a RevNet"):
        Alignment(NetworkCut(odd, "0"), RevNetMap(), blocks=1).fit(training)
    with pytest.raises(InvalidData, match="expected at least one intervention, got none"):
        Alignment(NetworkCut(net, "1"), blocks=1).fit(training.part(0, 0))
    many = CausalModel({"a": lambda x: x[:, 0] > 0}, lambda a: 5 * a)
    with pytest.raises(InvalidData, match="expected labels below 2, the network's logits, got 5"):
        Alignment(NetworkCut(net, "1"), blocks=1).fit(many.interventions(rows(50), 50))
    with pytest.raises(NotFittedError):
        Alignment(NetworkCut(net, "1")).iia(training)
    fitted = Alignment(NetworkCut(net, "1"), NeuronMap(), blocks=1).fit(training)
    with pytest.raises(InvalidData, match="expected interventions on a, b, got a"):
        fitted.iia(many.interventions(rows(50), 50))
    with pytest.raises(InvalidData, match="expected an activation of shape"):
        NetworkCut(language_model, "model.layers.0").states(np.ones((2, 4), dtype=int))
    single = NetworkCut(torch.nn.Sequential(torch.nn.Linear(WIDTH, 4), torch.nn.Linear(4, 1)).eval(), "0").states(rows(2))
    with pytest.raises(InvalidData, match=r"expected logits of shape \(2, classes\)"):
        single.after(torch.zeros(2, 4), torch.arange(2))
    with pytest.raises(InvalidData, match="expected layer= from 1 to 2"):
        LanguageModelCut(language_model, 3, (0,))
    with pytest.raises(InvalidData, match="expected a causal language model of the Llama type, got Sequential"):
        LanguageModelCut(net, 1, (0,))
    with pytest.raises(InvalidData, match="expected choices= as positions within 4 tokens"):
        LanguageModelCut(language_model, 1, (4,)).states(np.ones((2, 4), dtype=int))
    with pytest.raises(InvalidData, match="expected more interventions than the 1000 of the first batch"):
        Alignment(NetworkCut(net, "1"), blocks=1).code_length(training.part(0, 1000))


def test_steps_that_lose_the_inverse_are_told(training):
    with pytest.raises(TrainingFailed, match=r"the inverse of the map misses|the loss of epoch"):
        Alignment(NetworkCut(planted(True), "1"), RevNetMap(8, 8), **SETTINGS | {"learning_rate": 30.0}).fit(training)


def test_audits_that_make_no_sense_are_refused():
    cuts, X = {"hidden": NetworkCut(planted(True), "1")}, rows(20)
    with pytest.raises(InvalidData, match="expected controls= among untrained, shuffled nodes, got 'disjoint'"):
        audit(cuts, BITS, X, X, controls=["disjoint"])
    with pytest.raises(InvalidData, match="expected at least one cut and at least one map"):
        audit({}, BITS, X, X)
    with pytest.raises(InvalidData, match="expected margin= of at least 0 and below 1"):
        audit(cuts, BITS, X, X, margin=1.0)
