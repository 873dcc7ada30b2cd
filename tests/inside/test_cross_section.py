"""Vectors of a language model read and replaced at named tokens, with what comes before computed once."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import CrossSection, Location, Tap, TaskInputs, attention_sites  # noqa: E402
from locum.nets import LogitDifference  # noqa: E402


@pytest.fixture(scope="module")
def tap(language_model):
    sites = {"residual": "model.layers.1", **attention_sites(language_model, "model.layers.1")}
    return Tap(language_model, sites)


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(0)
    lengths = rng.integers(6, 9, size=30)
    ids = [rng.integers(1, 50, size=n).tolist() for n in lengths]
    positions = {"END": lengths - 1, "second": np.full(30, 1), "late": rng.integers(3, 6, size=30)}
    return TaskInputs(ids, {"first": np.array([row[0] % 2 for row in ids])}, positions)


SCORE = LogitDifference(np.arange(30), np.arange(30) + 10)


def test_vectors_are_those_of_the_hooks(tap, prompts):
    section = CrossSection(tap, {"end": Location("residual", "END"), "head": Location("z", "late", heads=2)}, batch_size=4)
    found = section.read(prompts)
    for i in (0, 7, 29):
        seen = tap.read(torch.tensor([prompts.inputs[i]]))
        np.testing.assert_allclose(found["end"][i], seen["residual"][0, -1].numpy(), atol=1e-5)
        np.testing.assert_allclose(found["head"][i], seen["z"][0, prompts.positions["late"][i], 2].numpy(), atol=1e-5)


def test_its_own_vectors_change_nothing(tap, prompts):
    section = CrossSection(tap, {"end": Location("residual", "END"), "head": Location("q", "late", heads=(0, 3))})
    plain, same = section.prepare(prompts).run([{}, section.read(prompts)], SCORE)
    np.testing.assert_allclose(plain.score, same.score, atol=1e-5)
    whole = [tap.model(torch.tensor([row])).logits[0, -1] for row in prompts.inputs]
    np.testing.assert_allclose(plain.score, [float(one[i] - one[i + 10]) for i, one in enumerate(whole)], atol=1e-5)
    assert plain.label.tolist() == [int(one.argmax()) for one in whole]


def test_replacing_is_what_a_whole_pass_with_a_hook_says(tap, prompts):
    """With the first place late in the prompt, what comes before is not computed again; the answers are the same."""
    section = CrossSection(tap, {"a": Location("z", "late", heads=1), "b": Location("residual", "END")}, batch_size=8)
    rng = np.random.default_rng(1)
    new = {"a": rng.normal(size=(30, 4)), "b": rng.normal(size=(30, 16))}
    only = {"a": new["a"]}
    prepared = section.prepare(prompts)
    both, one, again = prepared.run([new, only, new], SCORE)
    np.testing.assert_array_equal(both.score, again.score)
    for i in range(0, 30, 5):
        at = int(prompts.positions["late"][i])

        def put(z, at=at, i=i):
            z = z.clone()
            z[0, at, 1] = torch.as_tensor(new["a"][i])
            return z

        with torch.no_grad(), tap.edit("z", put):
            logits = tap.model(torch.tensor([prompts.inputs[i]])).logits[0, -1]
        assert one.score[i] == pytest.approx(float(logits[i] - logits[i + 10]), abs=1e-5)
        last = torch.as_tensor(new["b"][i])
        with torch.no_grad(), tap.edit("z", put), tap.edit("residual", lambda x, v=last: v.to(x).expand_as(x), positions=-1):
            logits = tap.model(torch.tensor([prompts.inputs[i]])).logits[0, -1]
        assert both.score[i] == pytest.approx(float(logits[i] - logits[i + 10]), abs=1e-5)


def test_a_place_at_the_first_token_is_replaced_as_well(tap, prompts):
    first = TaskInputs(prompts.inputs, prompts.labels, {"start": np.zeros(30, dtype=int)})
    section = CrossSection(tap, {"start": Location("residual", "start")})
    plain, other = section.prepare(first).run([{}, {"start": np.ones((30, 16))}], SCORE)
    assert np.abs(plain.score - other.score).max() > 1e-3


def test_some_of_the_inputs_are_the_same_inputs(prompts):
    part = prompts.take([3, 5])
    assert part.inputs == [prompts.inputs[3], prompts.inputs[5]]
    assert part.positions["END"].tolist() == prompts.positions["END"][[3, 5]].tolist()
    assert len(prompts.take(np.arange(30) < 4)) == 4


def test_what_cannot_be_read_or_replaced_is_refused(tap, prompts):
    with pytest.raises(InvalidData, match="the position 'END' of prompt 2 is 99, and that prompt has"):
        TaskInputs(prompts.inputs, prompts.labels, {"END": np.where(np.arange(30) == 2, 99, 0)})
    with pytest.raises(InvalidData, match="expected 'first' for each of 30 inputs, got shape"):
        TaskInputs(prompts.inputs, {"first": np.zeros(3)})
    with pytest.raises(InvalidData, match="at least one input and one attribute"):
        TaskInputs(prompts.inputs, {})
    with pytest.raises(InvalidData, match="there is no site 'resid'; there is"):
        CrossSection(tap, {"end": Location("resid", "END")})
    with pytest.raises(InvalidData, match="at least one location"):
        CrossSection(tap, {})
    with pytest.raises(InvalidData, match="is at 'S2'; the positions of the inputs are END, second, late"):
        CrossSection(tap, {"end": Location("residual", "S2")}).read(prompts)
    with pytest.raises(InvalidData, match="needs a position="):
        CrossSection(tap, {"end": "residual"}).read(prompts)
    with pytest.raises(InvalidData, match="not viewed by head"):
        CrossSection(tap, {"end": Location("residual", "END", heads=1)}).read(prompts)
    prepared = CrossSection(tap, {"end": Location("residual", "END")}).prepare(prompts)
    with pytest.raises(InvalidData, match=r"vectors of shape \(\d+, 16\), got \(\d+, 3\)"):
        prepared.run([{"end": np.zeros((30, 3))}], SCORE)
    with pytest.raises(InvalidData, match="there is no location 'start'"):
        prepared.run([{"start": np.zeros((30, 16))}], SCORE)
    with pytest.raises(InvalidData, match="the score is for 2 inputs, and there are 30"):
        prepared.run([{}], LogitDifference([1, 2], [3, 4]))
    with pytest.raises(InvalidData, match="score= of LogitDifference"):
        prepared.run([{}], None)
