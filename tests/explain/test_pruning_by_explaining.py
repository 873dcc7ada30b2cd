"""Criteria and pruning: planted units, worked scores, coupled channels, guards, the size that is left."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from locum.core.errors import FormatError, InvalidData, LocumError, NotFresh, UnsupportedModule
from locum.explain.pruning_by_explaining import (
    GradientCriterion,
    LRPCriterion,
    RandomCriterion,
    RelevancePruner,
    TaylorCriterion,
    WeightCriterion,
)
from locum.nets import seeded

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
nn = torch.nn

CRITERIA = [LRPCriterion(), TaylorCriterion(), GradientCriterion(), WeightCriterion(), RandomCriterion()]


def rows(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def settled(net, seed=0):
    """Batch normalisations that have seen data, eval mode."""
    with seeded(seed):
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_(std=0.1)
                part.running_var.uniform_(0.5, 2.0)
                part.weight.data.uniform_(0.5, 1.5)
                part.bias.data.normal_(std=0.1)
    return net.eval()


def perceptron(width=12, classes=3):
    with seeded(0):
        hidden = nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        return hidden.append(nn.Linear(width, classes)).eval()


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(width, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(6, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        return torch.relu(x + self.second(self.first(x)))


class Inverted(nn.Module):
    def __init__(self, width, wide):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)
        )
        self.project = nn.Sequential(nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        return x + self.project(self.depthwise(self.expand(x)))


class Dense(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, x):
        return torch.cat([x, torch.relu(self.conv(x))], dim=1)


def residual():
    with seeded(1):
        stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        return settled(nn.Sequential(stem, Residual(8), Residual(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)))


def inverted():
    with seeded(2):
        stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU6())
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        return settled(nn.Sequential(stem, Inverted(4, 12), Inverted(4, 12), *head))


def dense():
    with seeded(3):
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            Dense(6),
            nn.MaxPool2d(2),
            Dense(10),
            nn.Conv2d(14, 4, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 3),
        ).eval()


NETS = {"perceptron": perceptron, "residual": residual, "inverted": inverted, "dense": dense}


def task(name, n=18):
    X = rows(n, 5) if name == "perceptron" else rows(n, 3, 8, 8)
    return X, np.arange(n) % 3


def example(name):
    return torch.zeros(1, 5) if name == "perceptron" else torch.zeros(1, 3, 8, 8)


def pruner(name, criterion=None, net=None, **settings):
    settings = {"step": 0.25, "target": 0.5} | settings
    return RelevancePruner(net or NETS[name](), criterion or LRPCriterion(), example(name), **settings)


# ---------------------------------------------------------------------- scores
def planted():
    """Hidden units 0 and 1 decide; 2 has large weights but a bias that keeps it off; 3 answers and nobody listens."""
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0], [1.0, 1.0]]))
        net[0].bias.copy_(torch.tensor([0.0, 0.0, -99.0, 0.0]))
        net[2].weight.copy_(torch.tensor([[1.0, 0.0, 9.0, 0.0], [0.0, 1.0, 9.0, 0.0]]))
        net[2].bias.zero_()
    return net


def planted_rows():
    X = np.array([[3.0, 0.5], [2.0, 1.0], [0.5, 4.0], [1.0, 2.0]])
    return X, np.array([0, 0, 1, 1])


def test_relevance_finds_the_planted_units():
    scores = LRPCriterion().score(planted(), planted_rows())
    assert np.allclose(scores["0"], [0.5, 0.5, 0.0, 0.0], atol=1e-6)
    assert np.allclose(scores["2"], [0.5, 0.5])


def test_pruning_to_half_keeps_the_planted_units_and_every_answer():
    net, (X, y) = planted(), planted_rows()
    found = RelevancePruner(net, LRPCriterion(), torch.zeros(1, 2), step=0.5, target=0.5).fit((X, y))
    assert found.kept_["0"].tolist() == [0, 1]
    x = torch.tensor(X).float()
    assert torch.allclose(found.model_(x), net(x))


def test_weights_keep_the_loud_unit_that_does_nothing():
    found = RelevancePruner(planted(), WeightCriterion(), torch.zeros(1, 2), step=0.75, target=0.75).fit(planted_rows())
    assert found.kept_["0"].tolist() == [2]


def test_gradient_and_taylor_are_what_their_formulas_say():
    net, (X, y) = planted(), planted_rows()
    x = torch.tensor(X).float()
    hidden = net[0](x).detach().requires_grad_(True)
    loss = nn.functional.cross_entropy(net[2](torch.relu(hidden)), torch.tensor(y), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, hidden)
    for criterion, effect in ((GradientCriterion(), gradient), (TaylorCriterion(), gradient * hidden.detach())):
        raw = effect.sum(0).abs().numpy() / 4
        assert np.allclose(criterion.score(net, (X, y))["0"], raw / np.linalg.norm(raw), atol=1e-6)
        assert np.allclose(type(criterion)(layer_norm=None).score(net, (X, y))["0"], raw, atol=1e-6)


def test_weight_is_the_sum_of_absolute_weights_as_share_of_the_layer():
    assert np.allclose(WeightCriterion().score(planted(), planted_rows())["0"], np.array([1, 1, 18, 2]) / 22)


def test_a_batch_normalisation_belongs_to_the_layer_before_it():
    """The network with the normalisation folded into the convolution scores the same, whatever the criterion."""
    with seeded(0):
        net = settled(nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(32, 3)
        ))  # fmt: skip
    folded = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *list(net)[3:]).eval()
    scale = net[1].weight.data / (net[1].running_var + net[1].eps).sqrt()
    with torch.no_grad():
        folded[0].weight.copy_(net[0].weight * scale[:, None, None, None])
        folded[0].bias.copy_((net[0].bias - net[1].running_mean) * scale + net[1].bias)
    for criterion in CRITERIA[:4]:
        one, two = (criterion.score(each, task("image")) for each in (net, folded))
        assert np.allclose(one["0"], two["0"], atol=1e-5), criterion


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda one: type(one).__name__)
def test_batches_and_a_pair_give_the_same_scores(criterion):
    X, y = task("residual")
    net = residual()
    whole = criterion.score(net, (X, y))
    parts = criterion.score(net, [(torch.tensor(X[:5]), torch.tensor(y[:5])), (torch.tensor(X[5:]), torch.tensor(y[5:]))])
    assert whole.keys() == parts.keys()
    assert all(np.allclose(whole[name], parts[name], atol=1e-5) for name in whole)


def test_relevance_needs_no_layer_norm_and_takes_one():
    net, reference = perceptron(), task("perceptron")
    plain, summed = LRPCriterion().score(net, reference), LRPCriterion(layer_norm="sum").score(net, reference)
    assert all(np.isclose(one.sum(), 1.0) for one in summed.values())
    assert all(np.allclose(plain[name] / plain[name].sum(), summed[name]) for name in plain)


def test_random_scores_follow_their_seed():
    net, reference = perceptron(), task("perceptron")
    one, same, other = (RandomCriterion(seed).score(net, reference)["0"] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


# ---------------------------------------------------------------------- coupled channels and removal
@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("name", NETS)
def test_half_of_the_units_go_and_the_network_is_smaller(name, criterion):
    net = NETS[name]()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    found = pruner(name, criterion, net).fit(task(name))
    assert np.isclose(found.history_[-1].share, 0.5, atol=0.03)
    assert found.history_[-1].parameters == sum(p.numel() for p in found.model_.parameters()) < found.history_[0].parameters
    assert found.history_[-1].flops < found.history_[0].flops
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert found.model_(torch.tensor(task(name)[0])).shape == (18, 3)


def test_the_small_network_answers_as_the_full_one_with_units_silenced():
    net, (X, y) = inverted(), task("inverted")
    found = pruner("inverted", net=net, ignore=[net[0], "1.project", "2.project"]).fit((X, y))
    assert len(found.kept_) == 2, "the expansion channels of two blocks"
    silent = inverted()
    for name, kept in found.kept_.items():
        gone = np.setdiff1d(np.arange(12), kept)
        block = silent[int(name.split(".")[0])]
        with torch.no_grad():
            for layer in (block.expand[1], block.depthwise[1]):
                layer.weight[gone], layer.bias[gone] = 0.0, 0.0
    x = torch.tensor(X)
    assert torch.allclose(found.model_(x), silent(x), atol=1e-5)
    small = found.model_[1].depthwise[0]
    assert small.groups == small.in_channels == small.out_channels == len(found.kept_["1.depthwise.0"])


def test_channels_behind_concatenations_are_the_right_ones():
    net, (X, y) = dense(), task("dense")
    found = pruner("dense", net=net).fit((X, y))
    assert set(found.kept_) == {"0", "2.conv", "4.conv", "5"}
    silent = dense()
    with torch.no_grad():
        for name, kept in found.kept_.items():
            layer = silent.get_submodule(name)
            gone = np.setdiff1d(np.arange(layer.out_channels), kept)
            layer.weight[gone], layer.bias[gone] = 0.0, 0.0
    x = torch.tensor(X)
    assert torch.allclose(found.model_(x), silent(x), atol=1e-5)


def test_a_concatenation_flattened_into_a_linear_layer_is_refused():
    with seeded(3):
        net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), Dense(6), Dense(10), nn.Flatten(), nn.Linear(14 * 64, 3))
    with pytest.raises(LocumError, match="no longer fit together"):
        pruner("dense", net=net.eval()).fit(task("dense"))


def test_a_batch_normalisation_without_weights_goes_along():
    with seeded(4):
        layers = (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))
        net = nn.Sequential(*layers)
        net[1].running_mean.normal_()
    found = pruner("residual", net=net.eval()).fit(task("residual"))
    assert found.model_[1].num_features == found.model_[0].out_channels == 3


def test_residual_channels_are_one_unit_scored_by_their_sum():
    net, reference = residual(), task("residual")
    scores = LRPCriterion().score(net, reference)
    # With the channels inside the blocks left alone, the units are the 8 channels that stem and both blocks share.
    found = pruner("residual", net=net, step=0.5, ignore=["1.first", "2.first"]).fit(reference)
    total = scores["0.0"] + scores["1.second.0"] + scores["2.second.0"]
    (kept,) = found.kept_.values()
    assert kept.tolist() == sorted(np.argsort(total)[4:].tolist())
    assert found.model_[0][0].out_channels == found.model_[2].second[0].out_channels == 4


def test_scores_are_made_anew_at_each_step():
    reference = task("perceptron")
    seen = []

    class Counting(WeightCriterion):
        def score(self, model, reference, *, device="cpu"):
            seen.append(sum(p.numel() for p in model.parameters()))
            return super().score(model, reference, device=device)

    found = pruner("perceptron", Counting(), step=0.1).fit(reference)
    assert seen == [step.parameters for step in found.history_[:-1]]
    assert len(seen) == 5


# ---------------------------------------------------------------------- guards
def test_a_layer_keeps_its_least_number_of_channels():
    net = perceptron()
    with torch.no_grad():
        net[0].weight.mul_(1e-3)  # whose units are all the lowest, in absolute weight
    criterion = WeightCriterion(layer_norm=None)
    found = pruner("perceptron", criterion, net).fit(task("perceptron")).kept_
    assert sorted(map(len, found.values())) == [1, 11]
    found = pruner("perceptron", criterion, net, min_channels=4).fit(task("perceptron")).kept_
    assert sorted(map(len, found.values())) == [4, 8]
    found = pruner("perceptron", criterion, net, max_layer_share=0.5).fit(task("perceptron"))
    assert list(found.history_[-1].by_layer.values()) == [0.5, 0.5]


@pytest.mark.parametrize("settings", [{"target": 0.95, "min_channels": 2}, {"max_layer_share": 0.25}])
def test_a_share_that_would_empty_a_layer_is_refused(settings):
    with pytest.raises(InvalidData, match=r"would empty a layer.*lower target="):
        pruner("perceptron", **settings).fit(task("perceptron"))


def test_a_class_without_reference_rows_is_refused():
    X, y = task("perceptron")
    with pytest.raises(InvalidData, match="none of class 2"):
        pruner("perceptron").fit((X[y < 2], y[y < 2]))


def test_a_label_beyond_the_logits_is_refused():
    X, y = task("perceptron")
    with pytest.raises(InvalidData, match="label 3, but the network answers 3 logits"):
        pruner("perceptron").fit((X, y + 1))


def test_a_network_in_train_mode_is_refused():
    with pytest.raises(InvalidData, match="train mode"):
        pruner("perceptron", net=perceptron().train()).fit(task("perceptron"))


def test_a_module_without_a_rule_is_named():
    with seeded(0):
        net = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)).eval()
    with pytest.raises(UnsupportedModule, match=r"no rule for 1 \(LayerNorm\)"):
        pruner("perceptron", net=net).fit(task("perceptron"))


def test_a_grouped_convolution_is_named():
    with seeded(0):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 3)).eval()
    with pytest.raises(UnsupportedModule, match="1 is a convolution of 2 groups"):
        pruner("residual", net=net).fit(task("residual"))


def test_an_activation_that_is_not_0_at_0_is_refused():
    """A unit behind a sigmoid still says 0.5 when it is silenced, so taking it out changes more."""
    with seeded(0):
        net = nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 3)).eval()
    with pytest.raises(LocumError, match="does not take 0 to 0"):
        pruner("perceptron", net=net).fit(task("perceptron"))


def test_nothing_to_prune_is_refused():
    with pytest.raises(InvalidData, match="no unit to take out"):
        pruner("perceptron", ignore=["0", "2"]).fit(task("perceptron"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 0.0}, "step= to be a share"),
        ({"target": 1.0}, "target= to be a share"),
        ({"max_layer_share": 2.0}, "max_layer_share= to be a share"),
        ({"min_channels": 0}, "min_channels"),
        ({"ignore": ["9"]}, "ignore= to name layers"),
        ({"criterion": "lrp"}, "expected a criterion"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(InvalidData, match=message):
        pruner("perceptron", **settings).fit(task("perceptron"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (([[np.nan] * 5], [0]), "NaN or infinity"),
        ((np.zeros((2, 5)), [0]), "one label for each"),
        ((np.zeros((2, 5)), [0.0, 1.0]), "whole numbers"),
        ([], "got none"),
        (7, "as a pair"),
    ],
)
def test_reference_rows_that_cannot_be_used(reference, message):
    with pytest.raises(InvalidData, match=message):
        pruner("perceptron").fit(reference)


def test_layer_norms_that_do_not_exist():
    with pytest.raises(InvalidData, match="layer_norm= to be"):
        TaylorCriterion(layer_norm="l1").score(perceptron(), task("perceptron"))


# ---------------------------------------------------------------------- what it reports
def test_history_tells_sizes_shares_and_what_was_measured():
    def measured(model):
        return {"accuracy": 0.5, "loss": float(sum(p.numel() for p in model.parameters()))}

    found = pruner("perceptron", step=0.25).fit(task("perceptron"), evaluate=measured)
    first, *_, last = found.history_
    assert (first.share, first.parameter_share, first.flop_share) == (0.0, 1.0, 1.0)
    assert first.parameters == 5 * 12 + 12 + 12 * 12 + 12 + 12 * 3 + 3
    assert first.flops == 2 * (5 * 12 + 12 * 12 + 12 * 3)
    assert last.measured["loss"] == last.parameters
    assert np.isclose(np.mean(list(last.by_layer.values())), last.share)
    assert last.accuracy == 0.5
    assert "50.0% of units gone" in str(last)


def test_fine_tuning_follows_each_step_and_ends_in_eval_mode():
    trained = []

    def fine_tune(model):
        model.train()
        trained.append(sum(p.numel() for p in model.parameters()))
        with torch.no_grad():
            model[-1].bias.add_(1.0)

    found = pruner("perceptron").fit(task("perceptron"), fine_tune=fine_tune)
    assert trained == [step.parameters for step in found.history_[1:]]
    assert not found.model_.training
    assert torch.allclose(found.model_[-1].bias, perceptron()[-1].bias + 2.0)


def test_frozen_parameters_stay_frozen():
    net = perceptron()
    net[0].weight.requires_grad_(False)
    found = pruner("perceptron", net=net).fit(task("perceptron"))
    assert [p.requires_grad for p in found.model_.parameters()] == [False, *[True] * 5]


def test_fidelity_beside_random_pruning():
    net, (X, y) = planted(), planted_rows()
    found = RelevancePruner(net, LRPCriterion(), torch.zeros(1, 2), step=0.5, target=0.5).fit((X, y))
    fresh = np.abs(rows(300, 2, seed=5))
    told = found.fidelity(fresh, region="standard normal")
    assert told.agreement.value == 1.0
    assert told.agreement.lower > 0.98
    assert abs(told.divergence.value) < 1e-6
    assert told.random_agreement.value < 1.0
    assert "units at random: agreement" in str(told)
    with pytest.raises(NotFresh, match="2 of these 3 rows"):
        found.fidelity(np.concatenate([X[:2], fresh[:1]]))


def test_stability_is_perfect_without_rows_and_grows_with_them():
    X, y = rows(300, 5), np.arange(300) % 3
    (weights,) = pruner("perceptron", WeightCriterion()).stability(X, y, draws=4)
    assert (weights.spearman.value, weights.kendall.value, weights.overlap.value) == pytest.approx((1.0, 1.0, 1.0))
    few, many = pruner("perceptron").stability(X, y, per_class=(1, 60), draws=5)
    assert few.spearman.value < many.spearman.value
    assert few.overlap.lower <= few.overlap.value <= few.overlap.upper
    assert "60 a class: spearman" in str(many)
    with pytest.raises(InvalidData, match="at least 200 rows of class 0"):
        pruner("perceptron").stability(X, y, per_class=(200,), draws=3)


def test_same_rows_same_network():
    one, two = (pruner("residual").fit(task("residual")) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.model_.parameters(), two.model_.parameters(), strict=True))


# ---------------------------------------------------------------------- keeping it
@pytest.mark.parametrize("name", NETS)
def test_what_was_saved_answers_the_same(name, tmp_path):
    found = pruner(name).fit(task(name))
    found.save(tmp_path / "small.pt")
    small = RelevancePruner.load(tmp_path / "small.pt", NETS[name]())
    x = torch.tensor(task(name)[0])
    assert torch.equal(small(x), found.model_(x))
    assert not small.training


def test_a_file_of_another_architecture_is_refused(tmp_path):
    pruner("perceptron").fit(task("perceptron")).save(tmp_path / "small.pt")
    with pytest.raises(FormatError, match="of a network with units"):
        RelevancePruner.load(tmp_path / "small.pt", perceptron(width=10))
    (tmp_path / "none.pt").write_bytes(b"nothing")
    with pytest.raises(FormatError, match="no pruned network"):
        RelevancePruner.load(tmp_path / "none.pt", perceptron())


def test_the_small_network_exports_to_onnx(tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    found = pruner("inverted").fit(task("inverted"))
    X = task("inverted")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the other exporter of torch needs onnxscript
        torch.onnx.export(
            found.model_, (torch.tensor(X),), tmp_path / "small.onnx", dynamo=False, input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    (said,) = runtime.InferenceSession(str(tmp_path / "small.onnx")).run(None, {"x": X[:5]})
    assert np.allclose(said, found.model_(torch.tensor(X[:5])).detach().numpy(), atol=1e-5)
