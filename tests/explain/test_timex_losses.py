"""Losses of the time-series explainer against values worked out by hand, and masks that hide."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.explain import _timex_losses as losses  # noqa: E402
from locum.explain._timex_networks import (  # noqa: E402
    MaskedAttention,
    MaskedEncoder,
    MaskGenerator,
    SeriesConvolution,
    SeriesTransformer,
    TimeEncoding,
)
from locum.explain._timex_records import gaps  # noqa: E402
from locum.nets import Reference, seeded  # noqa: E402


def drawn(*shape, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).normal(size=shape), dtype=torch.float64)


def test_relations_are_cosines_and_their_gap_does_not_see_a_rotation():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]], dtype=torch.float64)
    root = math.sqrt(0.5)
    assert losses.relations(z).flatten().tolist() == pytest.approx([1, 0, root, 0, 1, root, root, root, 1])
    other = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    assert float(losses.relation_gap(z, other)) == pytest.approx((2 * 1 + 4 * (1 - root) ** 2) / 9)
    turn = torch.linalg.qr(drawn(5, 5)).Q
    assert float(losses.relation_gap(drawn(9, 5), 3 * drawn(9, 5) @ turn)) == pytest.approx(0, abs=1e-12)


def test_divergences_are_those_of_jensen_and_shannon():
    logits = torch.tensor([[50.0, 0.0], [0.0, 50.0], [0.0, 0.0]], dtype=torch.float64)
    found = losses.divergences(logits, logits)
    assert float(found[0, 1]) == pytest.approx(math.log(2), abs=1e-6)
    assert found.diagonal().tolist() == pytest.approx([0, 0, 0], abs=1e-8)
    q, m = np.array([0.5, 0.5]), np.array([0.75, 0.25])
    by_hand = (np.log(1 / 0.75) + (q * np.log(q / m)).sum()) / 2
    assert float(found[0, 2]) == pytest.approx(by_hand, abs=1e-6)


def test_label_consistency_compares_pairs_and_does_not_see_an_exchange_of_labels():
    y, said = drawn(7, 3), drawn(7, 3, seed=1)
    one, other = losses.divergences(y, y), losses.divergences(said, said)
    pairs = [float((one - other)[i, j] ** 2) for i in range(7) for j in range(i + 1, 7)]
    assert float(losses.label_consistency(y, said, True)) == pytest.approx(np.mean(pairs))
    assert float(losses.label_consistency(y, y[:, [2, 0, 1]], True)) == pytest.approx(0, abs=1e-15)
    assert float(losses.label_consistency(y[:1], said[:1], True)) == 0
    p, q = y.softmax(dim=1).numpy(), said.softmax(dim=1).numpy()

    def scalar(s):
        m = (s[:, None] + s[None]) / 2
        return np.mean((m * (np.log(m / s[:, None]) + np.log(m / s[None]))) / 2)

    assert float(losses.label_consistency(y, said, False)) == pytest.approx((scalar(p) - scalar(q)) ** 2, rel=1e-4)


def test_the_prior_is_a_divergence_from_a_coin():
    p, there = torch.tensor([[[0.2, 0.5], [1.0, 0.0]]]), torch.tensor([[[1.0], [0.0]]])
    first = 0.2 * math.log(0.2 / 0.5) + 0.8 * math.log(0.8 / 0.5)
    assert float(losses.mask_prior(p, 0.5, there)) == pytest.approx(first / 2, rel=1e-5)
    assert math.isfinite(float(losses.mask_prior(p, 0.5, torch.ones_like(there))))
    assert float(losses.mask_prior(torch.full((1, 2, 2), 0.1), 0.1, torch.ones_like(there))) == pytest.approx(0, abs=1e-7)


def test_connectedness_is_the_length_of_steps_and_has_a_gradient_where_there_are_none():
    p = torch.tensor([[[0.0], [3.0], [3.0], [9.0]], [[1.0], [1.0], [5.0], [5.0]]])
    there = torch.ones_like(p)
    there[0, 3] = 0.0
    assert float(losses.connectedness(p, there)) == pytest.approx(math.sqrt(9 + 16) / 8)
    flat = torch.ones(1, 4, 1, requires_grad=True)
    losses.connectedness(flat, torch.ones(1, 4, 1)).backward()
    assert bool(flat.grad.isfinite().all())


def test_contrast_is_lowest_where_each_finds_itself():
    z = torch.eye(4)
    assert float(losses.contrast(z, z)) < float(losses.contrast(z, z[[1, 2, 3, 0]]))
    assert float(losses.contrast(z, z)) == pytest.approx(math.log(math.exp(2) + 3) - 2, rel=1e-5)


def test_attention_is_masked_after_the_softmax_and_not_renormalised():
    with seeded(0):
        layer = MaskedAttention(5)
    x, kept = drawn(2, 6, 5).float(), torch.tensor([[1.0, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0]])
    query, key, value = layer.project(x).chunk(3, dim=-1)
    weights = (query @ key.transpose(1, 2) / math.sqrt(5)).softmax(dim=-1)
    by_hand = layer.out((weights * kept[:, :, None] * kept[:, None, :]) @ value)
    assert torch.allclose(layer(x, None, kept), by_hand, atol=1e-6)
    assert torch.allclose(layer(x, None, torch.ones(2, 6)), layer(x, None, None), atol=1e-6)
    there = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    short = layer(x[:1, :4], None, None)
    assert torch.allclose(layer(x, there, None)[:1, :4], short, atol=1e-6)


def test_times_are_encoded_at_scales_from_one_to_the_longest():
    found = TimeEncoding(81)(torch.tensor([[2.0, -1e6]]))
    scales = 81.0 ** (np.arange(8) / 7)
    assert found[0, 0].tolist() == pytest.approx([*np.sin(2 / scales), *np.cos(2 / scales)], abs=1e-5)
    assert found[0, 1].tolist() == [0.0] * 16


@pytest.mark.parametrize("kind", ["cosine", "divergence"])
def test_gaps_are_those_of_the_losses_over_pairs(kind):
    one, other = drawn(450, 3), drawn(450, 3, seed=1)
    if kind == "cosine":
        expected = float(losses.relation_gap(one, other)) * 450 / 449
        found = gaps("gap", one.numpy(), other.numpy(), kind, 0)
    else:
        expected = float(losses.label_consistency(one, other, True))
        found = gaps("gap", one.softmax(dim=1).numpy(), other.softmax(dim=1).numpy(), kind, 0)
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert found.lower < found.value < found.upper


# ---------------------------------------------------------------------- masks and landmarks
def masked(**settings):
    """An untrained explainer of series of 10 time points and 2 channels, masked in their values."""
    with seeded(0):
        net = SeriesConvolution(2, 3, width=6).eval()
        memory = SeriesTransformer(10, 2, 3, layers=1, feedforward=8, dropout=0.0, normalised=False)
        return MaskedEncoder(
            MaskGenerator(memory), Reference(net, embed=net.embed, head=net.head), torch.nn.Linear(6, 3), torch.randn(4, 6),
            torch.full((10, 2), 3.0), torch.full((10, 2), 0.5),
            **{"attention": False, "values": True, "tau": 1.0, "landmark_tau": 0.1, "hard": True, **settings},
        )  # fmt: skip


def test_masks_are_drawn_with_their_probability_and_pass_gradients_on():
    times = torch.arange(1.0, 11).expand(4000, -1)
    p = torch.full((4000, 10, 2), 0.3, requires_grad=True)
    with seeded(1):
        drawn_masks, soft = masked().drawn(p, times), masked(hard=False).drawn(p.detach(), times)
    assert set(drawn_masks.detach().round(decimals=5).flatten().tolist()) == {0.0, 1.0}
    assert float(drawn_masks.detach().mean()) == pytest.approx(0.3, abs=0.01)
    assert 0 < float(soft.min()) < 0.2 < 0.8 < float(soft.max()) < 1
    drawn_masks.sum().backward()
    assert bool((p.grad > 0).all())
    with seeded(1):
        gone = masked().drawn(torch.full((1, 10, 2), 1.0), torch.tensor([[1.0] * 1 + [-1e6] * 9]))
    assert gone[0, 1:].abs().sum() == 0


def test_values_that_are_not_kept_are_normal_draws_of_their_place():
    net, X, times = masked(), drawn(5, 10, 2).float(), torch.arange(1.0, 11).expand(5, -1)
    noise, mask = drawn(5, 10, 2, seed=2).float(), torch.zeros(5, 10, 2)
    mask[:, :4, 0] = 1.0
    by_hand = torch.where(mask.bool(), X, 3.0 + 0.5 * noise)
    assert torch.allclose(net.embed(X, times, mask, False, noise), net.encoder.embed(by_hand), atol=1e-6)


def test_landmarks_are_drawn_in_training_and_the_nearest_afterwards_and_alone_get_gradients():
    net = masked()
    z = drawn(300, 6).float().requires_grad_()
    near = net.landmarks.detach()[net.similarity(z.detach()).argmax(dim=1)]
    net.eval()
    assert torch.equal(net.assigned(z), near)
    net.train()
    with seeded(0):
        found = net.assigned(z)
    each = torch.cdist(found.detach(), net.landmarks.detach()).min(dim=1).values
    assert float(each.max()) < 1e-3
    assert 0.25 < float((found.detach() - near).abs().sum(dim=1).lt(1e-4).float().mean()) < 0.7  # the draw is nearly blind
    losses.relation_gap(z, found).backward(inputs=[net.landmarks, z])
    assert float(net.landmarks.grad.abs().sum()) > 0
    by_hand = torch.autograd.grad(losses.relation_gap(z, found.detach()), z)[0]
    assert torch.allclose(z.grad, by_hand)
