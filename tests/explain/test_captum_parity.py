"""Numbers of captum, which ours have to equal on the same network and inputs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from locum.explain.pruning_by_explaining import LRPExplainer
from locum.explain.replacement import ConstantBaseline, replaced
from locum.explain.saliency import max_sensitivity
from locum.nets import Reference, seeded

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    from captum.attr import LRP, Occlusion, Saliency
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule
    from captum.metrics import sensitivity_max


class Net(torch.nn.Module):
    """Without a Flatten, which captum has no rule for."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
        self.last = torch.nn.Sequential(torch.nn.Linear(36, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

    def forward(self, x):
        return self.last(self.first(x).flatten(1))


@pytest.fixture
def net():
    with seeded(0):
        return Net().eval()


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0.05, 1.0, (6, 1, 8, 8)).astype(np.float32)


def ruled(net, rule):
    for part in net.modules():
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear):
            part.rule = Alpha1_Beta0_Rule(set_bias_to_zero=True) if rule == "zplus" else EpsilonRule(epsilon=1e-6)
        elif isinstance(part, torch.nn.MaxPool2d):
            part.rule = EpsilonRule(epsilon=1e-12)  # ours goes to the winner and loses nothing
    return LRP(net)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("rule", ["zplus", "epsilon"])
def test_relevance_is_that_of_captum(net, images, rule):
    found = np.stack([one.values for one in LRPExplainer(net, rule=rule).explain(images, np.full(6, 1))])
    rows = torch.as_tensor(images)
    logit = net(rows).detach()[:, 1].numpy()  # what captum starts from; ours starts from 1
    expected = ruled(net, rule).attribute(rows, target=1).detach().numpy() / logit[:, None, None, None]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_replacing_one_pixel_loses_what_occlusion_says(net, images):
    baseline, reference = ConstantBaseline(0.0).fit(images), Reference(net)
    found = np.zeros(images.shape)
    full = reference.logits(images)[:, 2]
    for i, j in np.ndindex(8, 8):
        keep = np.ones((1, 1, 8, 8), dtype=bool)
        keep[..., i, j] = False
        (given,) = replaced(images, keep, baseline, draws=1)
        found[:, 0, i, j] = full - reference.logits(given)[:, 2]
    expected = Occlusion(net).attribute(torch.as_tensor(images), sliding_window_shapes=(1, 1, 1), target=2)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-5)


def test_sensitivity_is_that_of_captum_for_the_same_changes(net, images):
    def gradients(rows):
        return Saliency(net).attribute(torch.as_tensor(rows, dtype=torch.float32).requires_grad_(), target=0).numpy()

    found = max_sensitivity(gradients, images, radius=0.05, draws=3, random_state=4)
    rng = np.random.default_rng(4)
    changes = np.stack([rng.uniform(-0.05, 0.05, size=images.shape) for _ in range(3)], axis=1)

    def changed(rows):
        assert len(rows) == 18  # each image three times, one after the other
        return rows + torch.as_tensor(changes.reshape(18, 1, 8, 8), dtype=torch.float32)

    def explain(rows):
        (given,) = rows if isinstance(rows, tuple) else (rows,)  # captum hands over either
        return (Saliency(net).attribute(given.requires_grad_(), target=0),)

    expected = sensitivity_max(explain, torch.as_tensor(images), perturb_func=changed, n_perturb_samples=3)
    assert found.value == pytest.approx(float(expected.mean()), rel=1e-4)
