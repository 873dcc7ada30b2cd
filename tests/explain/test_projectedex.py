"""Style explainers of a classifier that tells large discs from small ones: what decides is known, and so is what does not."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.exceptions import NotFittedError

from locum.core.errors import FormatError, InvalidData, NotFresh
from locum.explain.projectedex import StyleExplainer
from locum.nets import Reference, TrainingFailed, seeded, train

torch = pytest.importorskip("torch")

S = 16


def discs(n, seed, channels=1):
    """Images of bright discs, and whether each is large; brightness and place are drawn apart from that."""
    rng = np.random.default_rng(seed)
    large = rng.integers(0, 2, n)
    radius = np.where(large == 1, rng.uniform(4.2, 5.5, n), rng.uniform(2.0, 3.3, n))
    x, y = rng.uniform(6, 9, (2, n, 1, 1))
    at = np.arange(S)
    far = np.hypot(at[None, :, None] - x, at[None, None, :] - y)
    disc = rng.uniform(0.5, 1, (n, 1, 1)) * np.clip(radius[:, None, None] - far + 0.5, 0, 1)
    return np.repeat(disc[:, None], channels, axis=1).astype(np.float32), large


def radius(images):
    """Of the disc in each image."""
    flat = np.asarray(images)[:, 0].reshape(len(images), -1)
    return np.sqrt((flat > np.quantile(flat, 0.98, axis=1)[:, None] / 2).sum(axis=1) / np.pi)


class Always(torch.nn.Module):
    """A judge that answers class 1 whatever it sees."""

    def forward(self, x):
        return torch.tensor([[0.0, 1.0]]).expand(len(x), 2)


class Maps(torch.nn.Module):
    """Four maps of a small random network."""

    def __init__(self):
        super().__init__()
        with seeded(1):
            self.layers = torch.nn.ModuleList([torch.nn.Conv2d(i, 8, 3, 2, 1) for i in (3, 8, 8, 8)])

    def forward(self, x):
        out = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            out.append(x)
        return out


def network(channels=1, classes=2, seed=0):
    nn = torch.nn
    with seeded(seed):
        first, second, last = nn.Conv2d(channels, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1), nn.Linear(128, classes)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), last).eval()


def classifier(seed=0):
    X, y = discs(500, 100 + seed)
    net = network(seed=seed)
    loss = lambda net, x, t: torch.nn.functional.cross_entropy(net(x), t)  # noqa: E731
    adam = lambda p: torch.optim.Adam(p, 3e-3)  # noqa: E731
    train(net, loss, [torch.from_numpy(X), torch.from_numpy(y)], epochs=12, batch_size=32, optimizer=adam, random_state=seed)
    return net


TINY = {
    "image_size": S, "backbone_size": 32, "capacity": 2, "latent": 16, "encoder_width": 8, "mapping_layers": 2,
    "batch_size": 16, "learning_rate": 2e-3, "ema": 0.98,
}  # fmt: skip


def explainer(net, **changed):
    return StyleExplainer(net, **{"backbone": Maps().eval(), **TINY, **changed})


@pytest.fixture(scope="module")
def net():
    return classifier()


@pytest.fixture(scope="module")
def fitted(net):
    weights = {"w_adversarial": 0.03, "w_pixel": 10.0, "w_perceptual": 1.0}  # so short a training needs a strong pull
    return explainer(net, **weights).fit(discs(500, 0)[0], steps=300)


@pytest.fixture(scope="module")
def found(fitted):
    return fitted.find_attributes(discs(200, 1)[0], top=6)


FRESH = discs(150, 2)[0]


# ---------------------------------------------------------------------- what is planted
def test_reconstructions_keep_the_class_and_look_like_the_image(fitted):
    told = fitted.fidelity(FRESH)
    assert told.agreement.value > 0.9
    assert told.agreement.lower < told.agreement.value
    assert told.pixel.upper < told.rivals["mean image"].pixel.lower
    assert told.agreement.lower > told.rivals["mean image"].agreement.upper
    assert told.generated is not None
    assert told.frechet.value > told.frechet.floor > 0
    assert "principal components: agreement" in str(told)


def test_attributes_change_what_decides(fitted, found):
    """Turned towards large discs, discs grow; and where the classifier changes its mind, the disc has changed its size."""
    strips = fitted.explain(FRESH, found, shifts=(-2, 2))
    small, large = (radius(strips.images[:, 0, i]) for i in (0, 1))
    assert (large >= small).mean() > 0.9
    assert (large - small).mean() > 0.2
    for target, sign in ((0, -1), (1, 1)):
        changed = fitted.counterfactual(FRESH, found, target=target, max_attributes=6)
        assert changed.rate.value > 0.5
        before, after = (radius(one[changed.flipped]) for one in (changed.reconstructions, changed.images))
        assert (sign * (after - before) > 0).mean() > 0.9


def test_attributes_found_beat_coordinates_at_random(fitted, found, net):
    told = fitted.check_attributes(FRESH, found, judge=net)
    assert told.flips.value > told.random.value
    assert sum(told.monotone) >= len(found) - 1
    assert told.margins[:, -1].min() > 0 > told.margins[:, 0].max()
    assert 0 <= told.trivial.value <= 1
    assert told.judged is None or told.judged.value == 1  # the judge is the classifier itself


def test_the_strongest_comes_first_with_an_interval_for_all_tried(found):
    effects = [one.effect.value for one in found]
    assert effects == sorted(effects, reverse=True)
    assert all(one.effect.candidates == len(found.places) for one in found)
    assert found.attributes[0].effect.lower > 0
    assert len({one.coordinate for one in found}) == len(found)
    assert "up raises class 1" in str(found)


# ---------------------------------------------------------------------- reading
def test_a_shift_of_nothing_is_the_reconstruction(fitted, found):
    strips = fitted.explain(FRESH[:7], found, shifts=(0,))
    assert np.allclose(strips.images[:, 0, 0], strips.reconstructions, atol=1e-6)
    assert np.allclose(strips.probabilities[:, :, 0], strips.before[:, 1:], atol=1e-5)
    assert np.allclose(strips.reconstructions, fitted.reconstruct(FRESH[:7]), atol=1e-6)
    assert strips.room[strips.order(1), 1].tolist() == sorted(strips.room[:, 1], reverse=True)
    with pytest.raises(InvalidData, match="an attribute from 0 to 5, got 6"):
        strips.order(6)


def test_an_image_alone_is_painted_as_among_others(fitted):
    assert np.allclose(fitted.reconstruct(FRESH[:1]), fitted.reconstruct(FRESH)[:1], atol=1e-5)


@pytest.mark.parametrize("target", [0, 1])
def test_counterfactuals_answer_the_target(fitted, found, net, target):
    told = fitted.counterfactual(FRESH, found, target=target, max_attributes=3, judge=net)
    says = Reference(net).predict
    assert (says(told.images[told.flipped]) == target).all()
    assert (says(told.reconstructions[told.asked]) != target).all()
    assert not told.flipped[~told.asked].any()
    assert (told.used <= 3).all()
    assert np.array_equal(told.images[~told.asked], told.reconstructions[~told.asked])
    assert (told.pixel[told.flipped] > 0).all()
    assert (told.after[told.flipped] > 0.5).all()
    assert told.rate.value == pytest.approx(told.flipped.sum() / told.asked.sum())
    assert f"to class {target}: {told.flipped.sum()} of {told.asked.sum()} images flipped" in str(told)


def test_an_independent_classifier_may_disagree(fitted, found):
    judge = Always().eval()
    assert fitted.counterfactual(FRESH, found, target=0, judge=judge).judged.value == 0
    assert fitted.counterfactual(FRESH, found, target=1, judge=judge).judged is None  # it called all of them that before


def test_attributes_at_random_are_none_of_those_found(found):
    drawn = found.random(random_state=3)
    assert len(drawn) == len(found)
    assert not {one.coordinate for one in drawn} & {one.coordinate for one in found}
    assert [one.coordinate for one in found.random(random_state=3)] == [one.coordinate for one in drawn]
    with pytest.raises(InvalidData, match="coordinates that are not among these"):
        found.random(len(found.places))


def test_screening_measures_those_it_keeps_as_the_whole_sweep_does(fitted, found):
    screened = fitted.find_attributes(discs(200, 1)[0], top=6, screen=20)
    assert len(screened.measured) == 20
    assert found.attributes[0].coordinate in screened.measured
    both = [one.coordinate for one in screened if one.coordinate in {other.coordinate for other in found}]
    assert both
    assert np.allclose(screened.effects[both], found.effects[both], atol=1e-4)
    fitted.attributes_ = found


def test_images_that_too_many_coordinates_move_are_left_out(fitted):
    images = discs(200, 1)[0]
    with pytest.raises(InvalidData, match="not two of each class"):
        fitted.find_attributes(images, screen=4, unstable=0, shift=100.0)
    with pytest.raises(InvalidData, match="no image is scored"):
        fitted.find_attributes(images, screen=4, realism=1e6)


def test_few_images_are_warned_of(fitted):
    with pytest.warns(UserWarning, match="chosen on 60 images; with fewer than 200"):
        fitted.find_attributes(discs(100, 1)[0], n_images=60, screen=4, noises=1)


# ---------------------------------------------------------------------- training
def state(sx):
    return sx.reconstruct(FRESH[:5])


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_global_generators(net):
    X = discs(60, 3)[0]
    before = torch.get_rng_state(), random.getstate()
    one, again, other = (explainer(net, random_state=seed).fit(X, steps=3) for seed in (5, 5, 6))
    assert np.array_equal(state(one), state(again))
    assert not np.array_equal(state(one), state(other))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


def test_a_training_that_was_interrupted_ends_with_the_same_numbers(net, tmp_path):
    X = discs(60, 3)[0]
    settings = {"path_after": 0, "augment": 0.5, "accumulate": 2, "batch_size": 4}
    whole = explainer(net, **settings).fit(X, steps=34)

    def stop(done, steps, words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explainer(net, **settings).fit(X, steps=34, checkpoint=tmp_path, checkpoint_every=17, progress=stop)
    resumed = explainer(net, **settings).fit(X, steps=34, checkpoint=tmp_path, checkpoint_every=17)
    assert np.array_equal(state(whole), state(resumed))
    done = explainer(net, **settings).fit(X, steps=34, checkpoint=tmp_path, progress=stop)  # nothing is left to do
    assert np.array_equal(state(whole), state(done))


def test_a_checkpoint_of_something_else_is_refused(net, tmp_path):
    X = discs(60, 3)[0]
    explainer(net).fit(X, steps=2, checkpoint=tmp_path)
    with pytest.raises(FormatError, match=r"w_kl=1\.0, not w_kl=0\.0"):
        explainer(net, w_kl=0.0).fit(X, steps=2, checkpoint=tmp_path)
    with pytest.raises(FormatError, match="layout of the networks"):
        explainer(net, capacity=4).fit(X, steps=2, checkpoint=tmp_path)
    with pytest.raises(FormatError, match="images="):
        explainer(net).fit(discs(60, 4)[0], steps=2, checkpoint=tmp_path)
    with pytest.raises(FormatError, match="of 2 steps, more than steps=1"):
        explainer(net).fit(X, steps=1, checkpoint=tmp_path)
    explainer(net, w_kl=0.0).fit(X, steps=1, checkpoint=tmp_path, resume=False)
    (tmp_path / "projectedex.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(FormatError, match="is no checkpoint"):
        explainer(net).fit(X, steps=2, checkpoint=tmp_path)


def test_a_training_that_diverges_stops_and_keeps_the_last_checkpoint(net, tmp_path):
    X = discs(60, 3)[0]
    with pytest.raises(TrainingFailed, match="no longer finite after step"):
        explainer(net, learning_rate=1e18, w_adversarial=0.0).fit(X, steps=60, checkpoint=tmp_path, checkpoint_every=1)
    kept = torch.load(tmp_path / "projectedex.pt", weights_only=True)
    assert 0 < kept["step"] < 60
    assert all(np.isfinite(values).all() for values in kept["history"].values())


def test_the_classifier_is_left_as_it_was(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    explainer(net).fit(discs(60, 3)[0], steps=3)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(one.requires_grad and one.grad is None for one in network().parameters())
    assert all(one.requires_grad for one in net.parameters())


def test_batches_of_a_loader_are_the_same_as_an_array(net):
    X = discs(60, 3)[0]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(X)), batch_size=16)
    assert np.array_equal(state(explainer(net).fit(loader, steps=2)), state(explainer(net).fit(X, steps=2)))


def test_without_a_discriminator_it_is_an_autoencoder(net):
    sx = explainer(net, w_adversarial=0.0).fit(discs(60, 3)[0], steps=30)
    assert sx.history_["discriminator"] == sx.history_["adversarial"] == ()
    assert len(sx.history_["reconstruction"]) == 2
    assert sx.fidelity(FRESH[:20]).generated is None
    with pytest.raises(InvalidData, match="trained none"):
        sx.find_attributes(FRESH, realism=0.0)


def test_the_control_without_the_answer_in_w(net):
    sx = explainer(net, condition=False, w_adversarial=0.0).fit(discs(200, 3)[0], steps=80)
    with pytest.warns(UserWarning, match="fewer than 200"):
        found = sx.find_attributes(FRESH[:50], screen=4, noises=1, unstable=1000)
    assert sx.check_attributes(FRESH[50:80], found, random_draws=1).trivial is None


@pytest.mark.parametrize(
    "changed",
    [
        {"discriminator": "projected"},
        {"attention": True, "augment": 1.0},
        {"encoder": "plain", "discriminator": "projected", "w_kl": 0.0},
        {"w_perceptual": 0.0, "w_latent": 0.0, "encoder": "plain"},
    ],
    ids=str,
)
def test_variants_train_on_colour_images(changed):
    X = discs(60, 3, channels=3)[0]
    sx = explainer(network(channels=3), **changed).fit(X, np.arange(60) % 2, steps=6)
    assert state_of_colour(sx).shape == (4, 3, S, S)
    assert 0 <= state_of_colour(sx).min() <= state_of_colour(sx).max() <= 1


def state_of_colour(sx):
    return sx.reconstruct(discs(4, 9, channels=3)[0])


def test_encoders_are_made_of_equal_size(net):
    sizes = {}
    for encoder in ("pyramid", "plain"):
        sx = explainer(net, encoder=encoder, encoder_size=20_000).fit(discs(60, 3)[0], steps=1)
        sizes[encoder] = sx.parameters_["encoder"]
    assert all(abs(size - 20_000) < 2_000 for size in sizes.values()), sizes


def test_two_of_more_classes(net):
    nine = network(classes=9)
    X = discs(60, 3)[0]
    with pytest.raises(InvalidData, match="two logits, got 9; say target_pair="):
        explainer(nine).fit(X, steps=1)
    with pytest.raises(InvalidData, match=r"two of the logits 0 to 8, got \(3, 9\)"):
        explainer(nine, target_pair=(3, 9)).fit(X, steps=1)
    sx = explainer(nine, target_pair=(3, 7)).fit(X, np.arange(60) % 2, steps=1)
    assert sx.classes_ == (3, 7)
    p, q = (softmax(Reference(nine).logits(one)[:, [3, 7]], axis=1) for one in (FRESH, sx.reconstruct(FRESH)))
    told = sx.fidelity(FRESH)
    assert told.agreement.value == pytest.approx((p.argmax(axis=1) == q.argmax(axis=1)).mean())
    assert told.divergence.value == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-3)


def test_the_style_space_of_the_paper_has_2464_coordinates():
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64 * 64, 2)).eval()
    X = np.random.default_rng(0).random((20, 1, 64, 64), dtype=np.float32)
    sx = StyleExplainer(flat, backbone=Maps().eval(), backbone_size=32, batch_size=2, w_adversarial=0.0, encoder_width=8)
    assert sx.fit(X, np.arange(20) % 2, steps=1).coordinates_ == 2464


# ---------------------------------------------------------------------- refusals
class Detached(torch.nn.Module):
    def forward(self, x):
        mean = x.mean(dim=(1, 2, 3)).detach()
        return torch.stack([mean, -mean], dim=1)


class Steps(torch.nn.Module):
    def forward(self, x):
        mean = (8 * x).round().mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean], dim=1)


class Same(torch.nn.Module):
    def forward(self, x):
        return 0 * x.mean(dim=(1, 2, 3))[:, None] + torch.tensor([[1.0, 2.0]]) + 1e-30 * x.mean()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_size": 24}, "power of two, got 24"),
        ({"image_size": 4}, "image_size= to be a whole number of 8"),
        ({"latent": 18}, "multiple of 4"),
        ({"encoder": "deep"}, "encoder= to be one of 'pyramid', 'plain', got 'deep'"),
        ({"discriminator": "none"}, "discriminator= to be one of"),
        ({"backbone": "resnet"}, "'efficientnet-lite0' or a torch module, got 'resnet'"),
        ({"backbone": torch.nn.Identity()}, "a backbone that gives 4 maps"),
        ({"w_kl": -1.0}, "w_kl= of 0 or more, got -1.0"),
        ({"augment": 2.0}, "augment= in \\[0, 1\\]"),
        ({"classifier": network().train()}, "in train mode"),
        ({"classifier": Detached().eval()}, "passes no gradient"),
        ({"classifier": Steps().eval()}, "passes no gradient"),
        ({"classifier": Same().eval()}, "passes no gradient|the same for every image"),
        ({"classifier": "a classifier"}, "torch.nn.Module, got str"),
    ],
    ids=lambda one: str(one)[:40],
)
def test_what_cannot_be_used_is_refused_before_training(net, changed, message):
    with pytest.raises(InvalidData, match=message):
        StyleExplainer(**{"classifier": net, "backbone": Maps().eval(), **TINY, **changed}).fit(discs(60, 3)[0], steps=1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (255 * discs(60, 3)[0], "values in \\[0, 1\\], got 0 to .*divide bytes by 255"),
        (discs(60, 3)[0] - 0.1, "values in \\[0, 1\\], got -0.1"),
        (np.full((60, 1, S, S), np.nan), "values in \\[0, 1\\], got nan"),
        (discs(60, 3)[0][:, 0], "shape \\(n, 1 or 3, 16, 16\\), got \\(60, 16, 16\\)"),
        (np.zeros((60, 2, S, S)), "shape \\(n, 1 or 3, 16, 16\\), got \\(60, 2, 16, 16\\)"),
        (iter(()), "without any batch"),
        (7, "batches of them, got int"),
        (np.full((60, 1, S, S), "a"), "images of numbers"),
    ],
    ids=lambda one: None if isinstance(one, np.ndarray) else str(one)[:30],
)
def test_images_that_cannot_be_used_are_refused(net, images, message):
    with pytest.raises(InvalidData, match=message):
        explainer(net).fit(images, steps=1)


@pytest.mark.parametrize(("given", "taken"), [(3, 1), (1, 3)])
def test_colour_for_a_grey_classifier_and_grey_for_colour_are_refused(given, taken):
    sx = explainer(network(channels=taken))
    with pytest.raises(InvalidData, match=f"no images of shape \\(n, {given}, .*a grey one has 1 channel, a colour one 3"):
        sx.fit(discs(60, 3, channels=given)[0], np.arange(60) % 2, steps=1)


def test_grey_images_are_refused_after_colour_ones():
    sx = explainer(network(channels=3)).fit(discs(60, 3, channels=3)[0], np.arange(60) % 2, steps=1)
    with pytest.raises(InvalidData, match="repeat the one channel three times"):
        sx.reconstruct(discs(4, 9)[0])


def test_too_few_images_of_a_class_are_refused(net):
    X, y = discs(60, 3)
    few = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:4]])
    with pytest.raises(InvalidData, match=r"10 or more images of each of two classes of y, got .*1: 4"):
        explainer(net).fit(X[few], y[few], steps=1)
    with pytest.raises(InvalidData, match="that the classifier answers, got"):
        explainer(net).fit(X[few], steps=1)
    with pytest.raises(InvalidData, match="a class for each of 60 images"):
        explainer(net).fit(X, y[:50], steps=1)


def test_nothing_is_known_before_it_is_found(net, fitted, found):
    with pytest.raises(NotFittedError, match="call fit"):
        explainer(net).find_attributes(FRESH)
    other = explainer(net, capacity=4).fit(discs(60, 3)[0], steps=1)
    with pytest.raises(InvalidData, match="call find_attributes"):
        other.explain(FRESH[:2])
    with pytest.raises(InvalidData, match="these are of another explainer"):
        other.explain(FRESH[:2], found)
    with pytest.raises(InvalidData, match=r"target= to be one of \(0, 1\), got 2"):
        fitted.counterfactual(FRESH, found, target=2)
    with pytest.raises(InvalidData, match="shifts= of one or more finite numbers"):
        fitted.explain(FRESH[:2], found, shifts=())
    with pytest.raises(InvalidData, match="shifts= that ascend"):
        fitted.check_attributes(FRESH, found, shifts=(1, 0))
    with pytest.raises(InvalidData, match="shift= above 0, got 0"):
        fitted.find_attributes(FRESH, shift=0)


def test_images_that_had_a_say_cannot_measure(fitted, found):
    with pytest.raises(NotFresh, match="20 of 20 images were fitted on"):
        fitted.fidelity(discs(500, 0)[0][:20])
    with pytest.raises(NotFresh, match="20 of 20 images chose the attributes"):
        fitted.check_attributes(discs(200, 1)[0][:20], found)
