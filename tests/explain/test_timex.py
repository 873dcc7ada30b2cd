"""Explaining classifiers of time series: planted evidence is found, fidelity is told, bad input is refused before training."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from locum.core.errors import FormatError, InvalidData, NotFresh

torch = pytest.importorskip("torch")

from locum.explain.attribution import Attribution  # noqa: E402
from locum.explain.saliency import saliency_against_truth  # noqa: E402
from locum.explain.timex import (  # noqa: E402
    AttentionMasking,
    TimeXExplainer,
    TimeXVariant,
    pad_series,
    series_reference,
)
from locum.nets import Reference, seeded  # noqa: E402

LENGTH = 16


def bumps(n, seed, channels=1):
    """Noise with a bump of three points, up or down by class, anywhere; and where it is."""
    rng = np.random.default_rng(seed)
    X = rng.normal(0, 0.2, (n, LENGTH, channels)).astype(np.float32)
    truth = np.zeros(X.shape, dtype=bool)
    y = np.arange(n) % 2
    for i, at in enumerate(rng.integers(0, LENGTH - 3, n)):
        truth[i, at : at + 3, 0] = True
    X[truth] += np.repeat(np.where(y, 2.0, -2.0), 3)
    return X, y, truth


class Plain(torch.nn.Module):
    """Somebody's own network: it weighs each value by its size, and adds up over time."""

    def __init__(self, channels=1):
        super().__init__()
        self.first, self.last = torch.nn.Linear(channels, 8), torch.nn.Linear(8, 2)

    def embed(self, X):
        return torch.relu(self.first(X)).mean(dim=1)

    def forward(self, X):
        return self.last(self.embed(X))


def plain(channels=1, seed=0):
    with seeded(seed):
        return Plain(channels).eval()


def small(reference, **settings):
    return TimeXExplainer(reference, **{"n_landmarks": 8, "members": 2, **settings})


@pytest.fixture(scope="module")
def reference():
    X, y, _ = bumps(300, 0)
    return series_reference(X, np.array(["down", "up"])[y], epochs=12, learning_rate=5e-3, random_state=1)


@pytest.fixture(scope="module")
def fitted(reference):
    return small(reference, anchor=1.0, learning_rate=5e-3, random_state=3).fit(bumps(300, 0)[0], epochs=20)


# ---------------------------------------------------------------------- planted truth
def test_the_classifier_learns_and_names_its_classes(reference):
    X, y, _ = bumps(200, 5)
    assert (reference.predict(X) == np.array(["down", "up"])[y]).mean() > 0.95


def test_maps_find_the_bump_far_better_than_chance(fitted):
    X, _, truth = bumps(200, 6)
    explained = fitted.explain(X)
    found = saliency_against_truth(explained.saliency, truth)
    assert found.auprc.lower > found.prevalence + 0.25
    assert explained.saliency.shape == X.shape
    assert ((explained.saliency > 0.5) == explained.mask).all()


def test_an_anchored_stand_in_says_what_the_classifier_says(fitted):
    found = fitted.fidelity(bumps(200, 7)[0])
    assert found.agreement.lower > 0.9
    assert found.agreement.lower > found.rivals["constant"].upper
    assert set(found.per_class) == {0, 1}
    assert found.relation_gap.upper < found.rivals["raw series"].lower
    assert "classifier's head on the embedding: agreement" in str(found)
    assert "beside it, nearest neighbour: agreement" in str(found)


def test_label_head_can_be_the_classifiers_own(reference):
    X = bumps(300, 0)[0]
    explainer = small(reference, label_head="reference", anchor=1.0, learning_rate=5e-3).fit(X, epochs=6)
    found = explainer.fidelity(bumps(100, 8)[0])
    assert found.agreement == found.head_agreement
    assert found.agreement.lower > 0.8


def test_landmarks_group_series_of_one_class(fitted):
    X, _, _ = bumps(200, 9)
    explained = fitted.explain(X)
    assert len(fitted.landmarks_) == len(fitted.landmark_sizes_) <= 8
    assert (fitted.landmark_sizes_ > 2).all()
    near = explained.embedding @ (fitted.landmarks_ / np.linalg.norm(fitted.landmarks_, axis=1, keepdims=True)).T
    assert (explained.landmark_id == near.argmax(axis=1)).all()
    alike = [np.bincount(explained.answer[explained.group(k)]).max() for k in set(explained.landmark_id.tolist())]
    assert sum(alike) / len(X) > 0.9


def test_neighbours_are_the_nearest_by_cosine_and_of_the_same_class(fitted):
    train, X = bumps(300, 0)[0], bumps(20, 10)[0]
    near = fitted.nearest(X, k=3)
    assert near.index.shape == near.similarity.shape == (20, 3)
    assert (np.diff(near.similarity, axis=1) <= 0).all()
    seen = near.index < 270  # of the 300, a tenth chose the epoch
    assert seen.all()
    answers = fitted.explain(X).answer
    assert near.similarity[:, 0].min() > 0.9
    own = fitted.nearest(train, k=1)
    assert (own.similarity[:, 0] > 1 - 1e-6).mean() > 0.85  # a series of the fit is nearest to itself
    assert answers.shape == (20,)


def test_one_series_gives_an_attribution(fitted):
    explained = fitted.explain(bumps(4, 11)[0])
    one = explained[-1]
    assert isinstance(one, Attribution)
    assert one.unit == "time point and channel"
    assert one.values == pytest.approx(explained.saliency[3])
    assert one.axes[0].names[0] == "t=1"
    assert "no attention to what is hidden" in one.text()
    with pytest.raises(IndexError):
        explained[4]


# ---------------------------------------------------------------------- invariances
def test_a_series_is_explained_the_same_among_others_and_alone(fitted):
    X = bumps(40, 12)[0]
    whole, part = fitted.explain(X), fitted.explain(X[7:9])
    assert part.saliency == pytest.approx(whole.saliency[7:9], abs=1e-5)
    assert part.embedding == pytest.approx(whole.embedding[7:9], abs=1e-5)
    assert (part.landmark_id == whole.landmark_id[7:9]).all()


def test_same_seed_same_numbers_and_nothing_global_is_drawn(reference):
    X, test = bumps(120, 0)[0], bumps(10, 1)[0]
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    one, again, other = (small(reference, random_state=seed).fit(X, epochs=1).explain(test) for seed in (0, 0, 1))
    assert (one.saliency == again.saliency).all()
    assert (one.embedding == again.embedding).all()
    assert not (one.saliency == other.saliency).all()
    assert (before[0] == torch.get_rng_state()).all()
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_the_classifier_is_left_as_it_is(reference):
    weights = {name: value.clone() for name, value in reference.module.state_dict().items()}
    small(reference, label_head="reference", anchor=1.0).fit(bumps(100, 0)[0], epochs=1)
    assert all((weights[name] == value).all() for name, value in reference.module.state_dict().items())
    assert not reference.module.training
    assert all(one.requires_grad and one.grad is None for one in reference.module.parameters())


def test_tensors_are_taken_too(fitted):
    X = bumps(5, 12)[0]
    assert (fitted.explain(torch.as_tensor(X).requires_grad_()).saliency == fitted.explain(X).saliency).all()


def test_the_epoch_with_the_lowest_validation_is_kept(reference):
    history = small(reference).fit(bumps(150, 0)[0], X_val=bumps(60, 1)[0], epochs=4).history_
    assert len(history.validation) == 4
    assert history.best_epoch == 1 + int(np.argmin(history.validation))


def test_of_several_trainings_the_one_with_the_lowest_validation_is_kept(reference, tmp_path):
    X, check, test = bumps(100, 0)[0], bumps(40, 2)[0], bumps(5, 1)[0]
    alone = [small(reference, random_state=s).fit(X, X_val=check, epochs=2) for s in (3, 4, 5)]
    best = min(alone, key=lambda one: min(one.history_.validation))
    told, file = [], tmp_path / "several.pt"

    def stop(done, epochs, words):
        told.append((done, epochs))
        if len(told) == 3:
            raise KeyboardInterrupt

    settings = {"X_val": check, "epochs": 2, "checkpoint": file}
    with pytest.raises(KeyboardInterrupt):
        small(reference, random_state=3, restarts=3).fit(X, progress=stop, **settings)
    several = small(reference, random_state=3, restarts=3).fit(X, progress=lambda *said: told.append(said[:2]), **settings)
    assert told[:3] == [(1, 6), (2, 6), (3, 6)]
    assert told[3:] == [(4, 6), (5, 6), (6, 6)]
    assert several.history_.validation == best.history_.validation
    assert (several.explain(test).saliency == best.explain(test).saliency).all()


def test_a_checkpoint_goes_on_to_the_same_numbers(reference, tmp_path):
    X, test = bumps(100, 0)[0], bumps(5, 1)[0]
    whole = small(reference, plateau=1).fit(X, epochs=4).explain(test)
    file = tmp_path / "half.pt"

    def stop(done, epochs, words):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small(reference, plateau=1).fit(X, epochs=4, checkpoint=file, progress=stop)
    resumed = small(reference, plateau=1).fit(X, epochs=4, checkpoint=file).explain(test)
    assert (resumed.saliency == whole.saliency).all()


def test_what_is_saved_comes_back_the_same(reference, fitted, tmp_path):
    file, X = tmp_path / "explainer.pt", bumps(30, 13)[0]
    fitted.save(file)
    again = TimeXExplainer.load(file, reference)
    one, other = fitted.explain(X), again.explain(X)
    assert (one.saliency == other.saliency).all()
    assert (one.landmark_id == other.landmark_id).all()
    assert (again.landmarks_ == fitted.landmarks_).all()
    assert again.history_ == fitted.history_
    assert str(again.fidelity(X)) == str(fitted.fidelity(X))
    assert again.get_params()["anchor"] == 1.0
    with pytest.raises(NotFresh):
        again.fidelity(bumps(300, 0)[0])
    with pytest.raises(InvalidData, match="another classifier than that of the fit"):
        TimeXExplainer.load(file, series_reference(*bumps(40, 0)[:2], epochs=1))
    with pytest.raises(NotFittedError, match="before this TimeXExplainer is saved"):
        small(reference).save(file)
    (tmp_path / "text").write_text("no file of ours")
    with pytest.raises(FormatError, match="is no saved time-series explainer"):
        TimeXExplainer.load(tmp_path / "text", reference)
    torch.save({"format": 2}, tmp_path / "newer")
    with pytest.raises(FormatError, match="update Locum to read it"):
        TimeXExplainer.load(tmp_path / "newer", reference)


# ---------------------------------------------------------------------- other classifiers, channels, lengths, times
@pytest.mark.parametrize("kind", ["convolution", "recurrent"])
def test_other_networks_are_masked_in_their_values(kind):
    X, y, _ = bumps(300, 0, channels=2)
    reference = series_reference(X, y, kind=kind, epochs=8, learning_rate=3e-3)
    explainer = small(reference, learning_rate=5e-3, lambda_con=0.5).fit(X, epochs=15)
    assert explainer.masking_ == "normal draws of each time point and channel"
    found = saliency_against_truth(explainer.explain(bumps(100, 6, 2)[0]).saliency, bumps(100, 6, 2)[2])
    assert found.auprc.lower > found.prevalence + 0.15


def test_two_channels_of_a_transformer_are_masked_both_ways_and_the_right_one_is_found():
    X, y, _ = bumps(400, 0, channels=2)
    reference = series_reference(X, y, epochs=12, learning_rate=5e-3)
    explainer = small(reference, learning_rate=5e-3, lambda_con=0.5, prior=0.3).fit(X, epochs=12)
    assert explainer.masking_ == "normal draws of each time point and channel and no attention to what is hidden"
    maps = explainer.explain(bumps(100, 6, 2)[0]).saliency
    assert saliency_against_truth(maps, bumps(100, 6, 2)[2]).auprc.lower > 0.3


@pytest.mark.parametrize("encode", ["embed", "first, by name"])
def test_anybodys_network_can_be_explained(encode):
    net = plain()
    given = net.embed if encode == "embed" else "first"
    head = net.last if encode == "embed" else None
    explainer = small(net, encode=given, head=head).fit(bumps(100, 0)[0], epochs=1)
    found = explainer.fidelity(bumps(50, 1)[0])
    assert (found.head_agreement is None) == (head is None)
    assert explainer.explain(bumps(5, 1)[0]).saliency.shape == (5, LENGTH, 1)
    again = small(Reference(net, embed=given, head=head)).fit(bumps(100, 0)[0], epochs=1)
    assert (again.explain(bumps(5, 1)[0]).saliency == explainer.explain(bumps(5, 1)[0]).saliency).all()


def test_anybodys_attention_can_be_masked():
    class Own(torch.nn.Module, AttentionMasking):
        def __init__(self):
            super().__init__()
            self.score, self.value, self.last = (torch.nn.Linear(1, k) for k in (1, 6, 2))
            self.last = torch.nn.Linear(6, 2)

        def embed(self, X, times=None, kept=None):
            weights = self.score(X).softmax(dim=1)
            weights = weights if kept is None else weights * kept[..., None]
            return (weights * torch.tanh(self.value(X))).sum(dim=1)

        def forward(self, X, times=None):
            return self.last(self.embed(X, times))

    with seeded(4):
        net = Own().eval()
    explainer = small(net).fit(bumps(100, 0)[0], epochs=1)
    assert explainer.masking_ == "no attention to what is hidden"


def test_what_the_mask_hides_does_not_reach_the_embedding(reference):
    """Without a residual round attention, a hidden time point may hold anything."""
    X = torch.as_tensor(bumps(6, 2)[0])
    times = torch.arange(1.0, LENGTH + 1).expand(6, -1)
    kept = torch.ones(6, LENGTH)
    kept[:, 4:9] = 0
    other = X.clone()
    other[:, 4:9] = 50.0
    embed = reference.module.embed
    with torch.no_grad():
        # The softmax is over all time points, so what hidden ones hold still moves the scale of the others; not their content.
        first, second = embed(X, times, kept), embed(X, times, torch.zeros(6, LENGTH))
        blind = embed(other, times, torch.zeros(6, LENGTH))
    assert not torch.allclose(first, second)
    assert torch.allclose(second, blind, atol=1e-6)


def test_padding_changes_nothing():
    X, times = pad_series([one[: LENGTH - i % 5] for i, one in enumerate(bumps(120, 0)[0])])
    reference = series_reference(X, X.sum(axis=(1, 2)) > 0, times=times, epochs=10, learning_rate=5e-3)
    longer = X.copy()
    longer[times < -1e5] = 7.0  # what stands at padded steps must not count
    assert reference.logits(longer, times) == pytest.approx(reference.logits(X, times), abs=1e-5)
    explainer = small(reference, lambda_con=0.0).fit(X, times, epochs=1)
    explained = explainer.explain(longer, times)
    assert (explained.saliency[times < -1e5] == 0).all()
    assert explained.saliency == pytest.approx(explainer.explain(X, times).saliency, abs=1e-5)
    assert explained[1].values.shape == (LENGTH - 1, 1)
    with pytest.raises(InvalidData, match="the fit had times, so give times="):
        explainer.explain(X)


@pytest.mark.parametrize("kind", ["convolution", "recurrent"])
def test_padding_changes_nothing_for_other_networks(kind):
    X, times = pad_series([one[: LENGTH - i % 5] for i, one in enumerate(bumps(40, 0)[0])])
    reference = series_reference(X, np.arange(40) % 2, times=times, kind=kind, epochs=1)
    longer = X.copy()
    longer[times < -1e5] = 7.0
    assert reference.logits(longer, times) == pytest.approx(reference.logits(X, times), abs=1e-5)


def test_irregular_times_reach_the_classifier(reference):
    X = bumps(100, 0)[0]
    times = np.cumsum(np.random.default_rng(0).integers(1, 4, (100, LENGTH)), axis=1).astype(float)
    assert np.abs(reference.logits(X, times) - reference.logits(X)).max() > 1e-3
    explainer = small(reference, lambda_con=0.0).fit(X, times, epochs=1)
    shifted = explainer.explain(X[:5], times[:5]).saliency
    assert not np.allclose(shifted, explainer.explain(X[:5], times[5:10]).saliency)


@pytest.mark.parametrize(
    "variant",
    [
        TimeXVariant(relations="none"),
        TimeXVariant(relations="contrast"),
        TimeXVariant(encoder_start="random"),
        TimeXVariant(memory_start="reference"),
        TimeXVariant(mask="soft"),
        TimeXVariant(label_pairs=False),
    ],
    ids=str,
)
def test_each_part_can_be_left_out_and_counts(reference, variant):
    X, test = bumps(100, 0)[0], bumps(5, 1)[0]
    plain = small(reference).fit(X, epochs=1).explain(test)
    other = small(reference, variant=variant).fit(X, epochs=1).explain(test)
    assert not np.allclose(plain.saliency, other.saliency, atol=1e-7)


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": "both"}, "expected mask= to be one of 'auto', 'attention', 'value', got 'both'"),
        ({"mask": "attention"}, "needs a module that is AttentionMasking, and Plain is not"),
        ({"prior": 1.0}, "expected prior= between 0 and 1"),
        ({"n_landmarks": 0}, "expected n_landmarks="),
        ({"n_landmarks": 45}, "expected more than n_landmarks × members = 90 series to train on"),
        ({"tau": 0.0}, "expected tau= above 0"),
        ({"anchor": -1.0}, "expected anchor= of 0 or more"),
        ({"label_head": "theirs"}, "expected label_head="),
        ({"label_head": "reference", "head": None}, "give head="),
        ({"encode": None}, "give encode=: the name of the submodule"),
        ({"encode": lambda X: X.mean(dim=1)}, "does not go through a copy of the module"),
        ({"variant": "contrast"}, "expected variant= to be a TimeXVariant, got str"),
        ({"variant": TimeXVariant(memory_start="reference")}, "needs a transformer that series_reference made"),
        ({"plateau": -1}, "expected plateau="),
        ({"restarts": 0}, "expected restarts="),
    ],
)
def test_settings_are_refused_before_training(settings, message):
    net = plain()
    with pytest.raises(InvalidData, match=message):
        small(net, **{"encode": net.embed, "head": net.last, **settings}).fit(bumps(100, 0)[0], epochs=1)


def test_series_are_refused_before_training(reference):
    X = bumps(100, 0)[0]
    bad = X.copy()
    bad[3, 2] = np.nan
    for given, times, message in [
        (bad, None, "series 3 holds NaN or infinity"),
        (X[..., 0], None, r"expected series of shape \(n, T, d\), got \(100, 16\)"),
        ([[[1.0]], [[1.0], [2.0]]], None, "got unequal ones .*see pad_series"),
        (X, np.ones((100, LENGTH)), "expected times that increase, those of series 0 do not"),
        (X, np.ones((100, 3)), r"expected times of shape \(100, 16\)"),
        (np.concatenate([X, X], axis=1), None, "at most 16 time points, as this network is for, got 32; cut them"),
    ]:
        with pytest.raises(InvalidData, match=message):
            small(reference).fit(given, times, epochs=1)
    with pytest.raises(InvalidData, match="for both X and X_val, or for neither"):
        small(reference).fit(X, X_val=X[:20], times_val=np.tile(np.arange(16.0), (20, 1)), epochs=1)
    padded_first = np.tile(np.arange(16.0), (100, 1))
    padded_first[0, 0] = -1e6
    with pytest.raises(InvalidData, match="padding only at its end"):
        small(reference).fit(X, padded_first, epochs=1)


def test_times_for_a_network_without_them_are_refused():
    net = plain()
    times = np.tile(np.arange(1.0, LENGTH + 1), (100, 1))
    with pytest.raises(InvalidData, match="the classifier takes series alone"):
        small(net, encode=net.embed).fit(bumps(100, 0)[0], times, epochs=1)


def test_a_classifier_that_always_says_the_same_is_refused():
    net = plain()
    with torch.no_grad():
        net.last.bias[1] = 100.0
    with pytest.raises(InvalidData, match="answers class 1 on all 90 series: nothing to explain"):
        small(net, encode=net.embed).fit(bumps(100, 0)[0], epochs=1)


def test_an_embedding_that_is_not_the_same_again_is_refused():
    class Noisy(Plain):
        def embed(self, X):
            return super().embed(X) + torch.rand(1)

        def forward(self, X):
            return self.last(Plain.embed(self, X))

    with seeded(0):
        net = Noisy().eval()
    with pytest.raises(InvalidData, match="encode= must give the same again for the same series"):
        small(net, encode=net.embed).fit(bumps(100, 0)[0], epochs=1)


def test_a_classifier_in_another_precision_is_refused():
    net = plain().double()
    with pytest.raises(InvalidData, match=r"expected a classifier in float32, got \['torch.float64'\]"):
        small(net, encode=net.embed).fit(bumps(100, 0)[0], epochs=1)


def test_modules_in_training_and_attention_of_two_channels_are_refused(reference):
    net = plain().train()
    with pytest.raises(InvalidData, match=r"call module.eval\(\) first"):
        small(net, encode=net.embed).fit(bumps(100, 0)[0], epochs=1)
    two = series_reference(bumps(40, 0, 2)[0], np.arange(40) % 2, epochs=1)
    with pytest.raises(InvalidData, match="hides time points of one channel, got 2 channels"):
        small(two, mask="attention").fit(bumps(100, 0, 2)[0], epochs=1)


def test_nothing_is_explained_before_the_fit_nor_scored_on_it(reference, fitted):
    with pytest.raises(NotFittedError, match=r"call fit\(X\) before"):
        small(reference).explain(bumps(5, 0)[0])
    with pytest.raises(NotFresh, match="100 of 120 series were fitted on"):
        fitted.fidelity(np.concatenate([bumps(300, 0)[0][:100], bumps(20, 77)[0]]))
    with pytest.raises(InvalidData, match="expected series of 16 time points and 1 channels"):
        fitted.explain(bumps(5, 0, channels=2)[0])
    with pytest.raises(InvalidData, match="at most the 270 series of the fit"):
        fitted.nearest(bumps(5, 0)[0], k=271)
    with pytest.raises(InvalidData, match="no series here has landmark 99"):
        fitted.explain(bumps(5, 0)[0]).group(99)


@pytest.mark.parametrize(
    ("series", "times", "message"),
    [
        ([], None, "expected series"),
        ([[1.0, 2.0]], [[1.0]], "one time for each time point"),
        ([[1.0], [np.nan]], None, "series 1 has no time point without a gap"),
        ([np.ones((3, 2)), np.ones((3, 1))], None, "of equal channels"),
    ],
)
def test_padding_refuses_what_it_cannot_pad(series, times, message):
    with pytest.raises(InvalidData, match=message):
        pad_series(series, times)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"kind": "mlp"}, "expected kind="), ({"y": np.zeros(30)}, "one of two or more classes")],
)
def test_what_no_classifier_can_be_trained_on_is_refused(settings, message):
    X, y, _ = bumps(30, 0)
    with pytest.raises(InvalidData, match=message):
        series_reference(X, **{"y": y, **settings})
