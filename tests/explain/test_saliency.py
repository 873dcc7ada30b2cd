"""Measures of saliency maps: identities, known answers, and that a map that ignores the model is found out."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.explain import (
    ConstantBaseline,
    MeanBaseline,
    deletion_curve,
    infidelity,
    max_sensitivity,
    occlusion_curve,
    randomisation_check,
    saliency_against_truth,
)

RNG = np.random.default_rng(2)
TRUTH = RNG.random((80, 12, 3)) < 0.15
X = RNG.normal(size=(120, 10))
W = np.array([4.0, -3.0, 2.0, 0, 0, 0, 0, 0, 0, 0])


def predict_proba(rows):
    p = 1 / (1 + np.exp(-np.asarray(rows) @ W))
    return np.stack([1 - p, p], axis=1)


# ---------------------------------------------------------------------- planted truth
def test_the_truth_itself_is_perfect_and_its_opposite_is_the_worst():
    best, worst = (saliency_against_truth(maps, TRUTH) for maps in (TRUTH.astype(float), 1.0 - TRUTH))
    assert best.auprc.value == best.aup.value == best.aur.value == 1
    assert worst.aur.value == 0
    assert worst.auprc.value == pytest.approx(best.prevalence)  # all that matters comes in at the last threshold
    assert best.iou.value > 0.6


def test_a_map_at_random_has_the_prevalence_for_precision():
    found = saliency_against_truth(np.random.default_rng(0).random((4_000, 1, 40)), RNG.random((4_000, 1, 40)) < 0.2)
    assert found.auprc.value == pytest.approx(found.prevalence, abs=0.08)  # average precision is biased upwards on 40 parts
    assert found.aur.value == pytest.approx(0.5, abs=0.02)


def test_auprc_knows_no_scale_and_samples_without_truth_are_left_out():
    maps = TRUTH + RNG.normal(scale=0.7, size=TRUTH.shape)
    one, scaled, cubed = (saliency_against_truth(m, TRUTH).auprc.value for m in (maps, 7 * maps - 3, maps**3))
    assert one == scaled == cubed
    empty = np.concatenate([TRUTH, np.zeros_like(TRUTH)]), np.concatenate([maps, maps])
    assert saliency_against_truth(empty[1], empty[0]) == saliency_against_truth(maps, TRUTH)


def test_areas_against_the_threshold_by_hand():
    # Scaled to 0, 0.5, 1: recall is 1 up to 0.5 and 0.5 up to 1; precision 1 after the first threshold.
    found = saliency_against_truth([[2.0, 4.0, 6.0], [2.0, 4.0, 6.0]], [[False, True, True]] * 2)
    assert found.aur.value == pytest.approx(0.75)
    assert found.aup.value == pytest.approx(1.0)


def test_a_map_that_is_the_same_everywhere_counts_as_random():
    maps = np.ones(TRUTH.shape)
    with pytest.warns(UserWarning, match="80 of 80 maps are the same everywhere"):
        found = saliency_against_truth(maps, TRUTH)
    assert found.auprc.value == pytest.approx(found.prevalence)


# ---------------------------------------------------------------------- what the model loses
def test_keeping_what_matters_keeps_the_auroc_and_keeping_the_rest_loses_it():
    y = (X @ W > 0).astype(int)
    good, bad = np.abs(X * W), -np.abs(X * W) + np.abs(X) * 1e-3
    baseline = MeanBaseline().fit(X)
    kept, lost = (occlusion_curve(predict_proba, X, m, y, baseline=baseline, keep=(0.3, 0.5), draws=2) for m in (good, bad))
    assert kept.auroc[0].min() > 0.999  # three of ten parts are all there is
    assert lost.mean < 0.6
    assert "AUROC by share kept" in str(kept)


def test_deletion_falls_and_insertion_rises_and_both_end_where_they_should():
    baseline = ConstantBaseline(0).fit(X)
    out = deletion_curve(predict_proba, X, np.abs(X * W), baseline=baseline)
    back = deletion_curve(predict_proba, X, np.abs(X * W), baseline=baseline, insert=True)
    had = predict_proba(X).max(axis=1)
    np.testing.assert_allclose(out[:, 0], had)
    np.testing.assert_allclose(back[:, -1], had)
    np.testing.assert_allclose(out[:, -1], 0.5)
    np.testing.assert_allclose(back[:, 0], 0.5)
    chance = deletion_curve(predict_proba, X, RNG.random(X.shape), baseline=baseline)
    assert out.mean() < chance.mean() < back.mean()


def test_infidelity_is_nought_for_the_gradient_of_a_line_and_one_for_a_map_of_nothing():
    def line(rows):
        return rows @ W

    exact = infidelity(line, X, np.tile(W, (len(X), 1)))
    assert exact.value == pytest.approx(0, abs=1e-12)
    assert infidelity(line, X, np.tile(10 * W, (len(X), 1))).value == pytest.approx(0, abs=1e-12)
    assert infidelity(line, X, np.zeros_like(X)).value == 1
    assert 0.8 < infidelity(line, X, np.tile(W[::-1], (len(X), 1))).value <= 1


def test_sensitivity_is_nought_for_a_map_that_does_not_move_and_grows_with_the_radius():
    assert max_sensitivity(lambda rows: np.ones_like(rows), X).value == 0
    small, large = (max_sensitivity(lambda rows: rows * W, X, radius=r).value for r in (0.01, 0.1))
    assert large == pytest.approx(10 * small, rel=0.2)


# ---------------------------------------------------------------------- whether the map needs the model
def test_gradients_fail_to_stay_and_a_map_that_ignores_the_network_stays():
    torch = pytest.importorskip("torch")
    from locum.nets import seeded

    with seeded(0):
        net = torch.nn.Sequential(torch.nn.Linear(10, 30), torch.nn.Tanh(), torch.nn.Linear(30, 1)).eval()
    before = [p.clone() for p in net.parameters()]

    def gradient(module, rows):
        x = torch.tensor(rows, dtype=torch.float32, requires_grad=True)
        return torch.autograd.grad(module(x).sum(), x)[0].numpy()

    needs = randomisation_check(gradient, net, X)
    assert needs.layers == ("2", "0")
    assert needs.last.upper < 0.5
    ignores = randomisation_check(lambda module, rows: rows, net, X)
    assert ignores.last.value == pytest.approx(1)
    assert all((one == other).all() for one, other in zip(before, net.parameters(), strict=True))
    with pytest.raises(InvalidData, match="no layer of this network"):
        randomisation_check(gradient, torch.nn.Tanh().eval(), X)


def test_bad_input_is_refused():
    y = (X @ W > 0).astype(int)
    baseline = MeanBaseline().fit(X)
    for call, message in (
        (lambda: saliency_against_truth(np.ones((3, 4)), np.ones((3, 5))), "of one shape"),
        (lambda: saliency_against_truth(np.full((3, 4), np.nan), np.ones((3, 4))), "finite maps"),
        (lambda: saliency_against_truth(np.ones((3, 4)), np.zeros((3, 4))), "two or more samples in which some parts matter"),
        (lambda: occlusion_curve(predict_proba, X, X[:5], y, baseline=baseline), "of one shape"),
        (lambda: occlusion_curve(predict_proba, X, X, 0 * y, baseline=baseline), "two or more of them"),
        (lambda: occlusion_curve(predict_proba, X, X, y, baseline=baseline, keep=(0,)), r"shares in \(0, 1\]"),
        (lambda: deletion_curve(predict_proba, X, X, baseline=baseline, steps=0), "steps= to be"),
        (lambda: max_sensitivity(lambda rows: rows[:3], X), "one finite map for each of 120"),
    ):
        with pytest.raises(InvalidData, match=message):
            call()
