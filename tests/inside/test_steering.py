"""Steering: a multiple of a direction at a site, the strength that moves predictions by a given amount, and sampled text."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import SteeringDirection, Tap  # noqa: E402

PROMPTS = [[3, 7, 11], [5, 2]]


@pytest.fixture(scope="module")
def tap(language_model):
    return Tap(language_model, {"hidden": ("model.layers.1.mlp.down_proj", "in"), "last": "model.norm"})


def test_a_strength_of_0_changes_nothing(tap):
    direction = SteeringDirection(tap, "hidden", np.arange(24.0))
    plain = tap.model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].double().log_softmax(dim=-1)
    np.testing.assert_array_equal(direction.log_probabilities(PROMPTS)[0], plain.numpy())
    assert direction.divergence(PROMPTS, 0.0) == 0.0


def test_at_the_last_norm_logits_move_by_the_products_of_the_head(tap):
    vector = np.random.default_rng(0).normal(size=16)
    direction = SteeringDirection(tap, "last", 5.0 * vector)
    with torch.no_grad():
        before = tap.model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1]
        with direction.at(2.0):
            after = tap.model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1]
    wanted = tap.model.lm_head.weight.numpy() @ (2.0 * vector / np.linalg.norm(vector))
    np.testing.assert_allclose((after - before).numpy(), wanted, atol=1e-4)


def test_divergence_is_that_of_the_definition(tap):
    direction = SteeringDirection(tap, "hidden", np.ones(24))
    p, q = (np.exp(direction.log_probabilities(PROMPTS, alpha)) for alpha in (0.0, 3.0))
    wanted = (p * np.log(p / q)).sum(axis=1).mean()
    assert direction.divergence(PROMPTS, 3.0) == pytest.approx(wanted)
    assert wanted > 0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kl", [0.02, 0.25])
def test_a_strength_gives_the_divergence_asked_for(tap, sign, kl):
    direction = SteeringDirection(tap, "hidden", np.ones(24))
    alpha = direction.strength(PROMPTS, kl, sign=sign)
    assert np.sign(alpha) == sign
    assert direction.divergence(PROMPTS, alpha) == pytest.approx(kl, rel=0.011)


def test_the_length_of_the_vector_does_not_matter(tap):
    one, other = (SteeringDirection(tap, "hidden", scale * np.ones(24)) for scale in (1.0, 7.0))
    assert one.strength(PROMPTS) == other.strength(PROMPTS)


def test_the_lift_of_tokens_is_the_rise_of_their_log_probabilities(tap):
    direction = SteeringDirection(tap, "last", tap.model.lm_head.weight.detach().numpy()[9])
    found = direction.lift(PROMPTS, [9, 4], 3.0)
    wanted = (direction.log_probabilities(PROMPTS, 3.0) - direction.log_probabilities(PROMPTS)).mean(axis=0)
    np.testing.assert_allclose(found, wanted[[9, 4]])
    assert found[0] > 0


def test_samples_follow_the_seed_and_the_direction(tap):
    direction = SteeringDirection(tap, "last", tap.model.lm_head.weight.detach().numpy()[9])
    settings = {"n": 3, "tokens": 6, "top_p": 0.9}
    before = torch.get_rng_state()
    one, same, other = (direction.sample(PROMPTS[0], 0.0, random_state=seed, **settings) for seed in (0, 0, 1))
    assert one.shape == (3, 6)
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert torch.equal(before, torch.get_rng_state())
    assert (direction.sample(PROMPTS[0], 500.0, **settings) == 9).mean() > 0.5
    assert np.array_equal(one, direction.sample(PROMPTS[0], 0.0, random_state=0, **settings))  # nothing was left behind


@pytest.mark.parametrize(
    ("vector", "message"), [(np.zeros(24), "not all 0"), (np.full(24, np.nan), "finite"), (np.ones((2, 24)), r"\(width,\)")]
)
def test_vectors_that_are_no_direction_are_refused(tap, vector, message):
    with pytest.raises(InvalidData, match=message):
        SteeringDirection(tap, "hidden", vector)


def test_a_direction_of_another_width_or_site_is_refused(tap):
    with pytest.raises(InvalidData, match="24 wide for the site 'hidden', got 16"):
        SteeringDirection(tap, "hidden", np.ones(16)).divergence(PROMPTS, 1.0)
    with pytest.raises(InvalidData, match="there is no site 'hiden'; there is hidden, last"):
        SteeringDirection(tap, "hiden", np.ones(24))


def test_a_divergence_out_of_reach_is_told(tap):
    direction = SteeringDirection(tap, "hidden", np.ones(24))
    with pytest.raises(InvalidData, match=r"no strength up to 0\.01 reaches a divergence of 5: the largest met is"):
        direction.strength(PROMPTS, 5.0, most=0.01)
    with pytest.raises(InvalidData, match="above 0"):
        direction.strength(PROMPTS, -1.0)
    with pytest.raises(InvalidData, match="sign"):
        direction.strength(PROMPTS, sign=0)
    with pytest.raises(InvalidData, match="none empty"):
        direction.divergence([[]], 1.0)
