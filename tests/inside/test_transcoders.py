"""Transcoders learn a layer, and what they say of a network adds up to what the network does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.base import clone

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from locum.core.errors import FormatError, InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    ArrayStore,
    BatchTopK,
    JumpReLU,
    MatchingPursuit,
    ReLU,
    SparseAutoencoder,
    TopK,
    Transcoder,
    matched,
)

QUICK = {"epochs": 6, "batch_size": 128, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def layer():
    """Inputs, outputs and weights of a layer with 24 ReLU units of which few are active, from 12 numbers to 10."""
    rng = np.random.default_rng(0)
    w, d = rng.normal(size=(24, 12)), rng.normal(size=(24, 10))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    x = rng.normal(size=(6000, 12)).astype(np.float32)
    return x, np.maximum(x @ w.T - 1.3, 0) @ d + 0.5, w, d


# ---------------------------------------------------------------------- learning
@pytest.mark.parametrize("encoder", [TopK(4), BatchTopK(3), ReLU(3.0), JumpReLU(3.0)], ids=lambda one: type(one).__name__)
def test_a_layer_of_few_active_units_is_learned(layer, encoder):
    x, y, _, _ = layer
    one = Transcoder(48, encoder, **QUICK).fit(x[:5000], y[:5000])
    told = one.fidelity(x[5000:], y[5000:])
    assert told["FVU"].value < (0.55 if isinstance(encoder, ReLU) else 0.35)
    assert told["L0"].value < 6
    np.testing.assert_allclose(np.linalg.norm(one.maps_.decoder, axis=1), 1.0, atol=1e-5)


def test_units_of_the_layer_are_found_on_both_sides(layer):
    x, y, w, d = layer
    one = Transcoder(24, TopK(4), epochs=40, batch_size=128, learning_rate=1e-2).fit(x, y)
    at, cosine = matched(one.maps_.decoder, d)
    assert np.median(cosine) > 0.97
    rows = one.maps_.encoder[at]
    read = (rows * w).sum(axis=1) / np.linalg.norm(rows, axis=1)
    assert np.median(read[cosine > 0.9]) > 0.99


def test_maps_are_what_the_codes_are_made_of(layer):
    x, y, _, _ = layer
    for encoder in (TopK(4), ReLU(3.0), BatchTopK(3), JumpReLU(3.0)):
        one = Transcoder(32, encoder, skip=True, **QUICK).fit(x[:2000], y[:2000])
        codes, maps = one.transform(x[:50]).toarray(), one.maps_
        pre = x[:50] @ maps.encoder.T + maps.bias
        np.testing.assert_allclose(codes[codes > 0], pre[codes > 0], atol=1e-4)
        said = codes @ maps.decoder + maps.decoder_bias + x[:50] @ maps.skip.T
        np.testing.assert_allclose(one.reconstruct(x[:50]), said, atol=1e-4)
        with torch.no_grad():
            given = one.module()(torch.from_numpy(x[:50]).reshape(5, 10, 12))
        np.testing.assert_allclose(given.reshape(50, -1).numpy(), said, atol=1e-4)


def test_a_linear_layer_is_the_skip_and_leaves_the_latents_nothing(layer):
    x, matrix = layer[0], np.random.default_rng(1).normal(size=(12, 10))
    one = Transcoder(16, TopK(2), skip=True, **QUICK).fit(x, x @ matrix + 2.0 + 1e-3 * layer[1])
    np.testing.assert_allclose(one.maps_.skip, matrix.T, atol=5e-3)
    assert one.fidelity(x, x @ matrix + 2.0)["FVU"].value < 1e-4


def test_a_skip_helps_where_much_is_linear(layer):
    x, y, _, _ = layer
    y = y + x[:, :10]
    plain, skip = (Transcoder(48, TopK(4), skip=one, **QUICK).fit(x, y).fidelity(x, y)["FVU"].value for one in (False, True))
    assert skip < 0.5 * plain


def test_known_weights_give_the_layer_itself(layer):
    x, _, w, d = layer
    lengths = np.linspace(0.5, 2.0, 24)
    one = Transcoder.from_weights(w, np.full(24, -1.3), d * lengths[:, None], np.full(10, 0.5))
    expected = np.maximum(x[:80] @ w.T - 1.3, 0) @ (d * lengths[:, None]) + 0.5
    np.testing.assert_allclose(one.reconstruct(x[:80]), expected, atol=1e-5)
    np.testing.assert_allclose(one.transform(x[:80]).toarray(), np.maximum(x[:80] @ w.T - 1.3, 0) * lengths, atol=1e-5)


def test_a_dictionary_that_was_fitted_with_outputs_is_a_transcoder(layer):
    x, y, _, _ = layer
    dictionary = SparseAutoencoder(32, TopK(4), **QUICK).fit(x, y)
    one = Transcoder.from_dictionary(dictionary)
    np.testing.assert_array_equal(one.reconstruct(x[:50]), dictionary.reconstruct(x[:50]))
    np.testing.assert_array_equal(one.maps_.encoder, Transcoder(32, TopK(4), **QUICK).fit(x, y).maps_.encoder)
    assert one.get_params() == Transcoder(32, TopK(4), **QUICK).get_params()
    with pytest.raises(InvalidData, match="that was fitted with y, to give outputs"):
        Transcoder.from_dictionary(SparseAutoencoder(32, TopK(4), **QUICK).fit(x))
    with pytest.raises(InvalidData, match="expected a SparseAutoencoder that was fitted with y, got Transcoder"):
        Transcoder.from_dictionary(one)


def test_rows_of_stores_are_learned_like_rows_in_memory(layer):
    x, y, _, _ = layer
    documents = np.arange(len(x)) // 50
    settings = {"documents": documents, "split": (0.8, 0.0, 0.2)}
    inputs, outputs = ArrayStore(x, **settings), ArrayStore(y, **settings)
    one = Transcoder(48, TopK(4), skip=True, **QUICK).fit(inputs, outputs)
    told = one.fidelity(inputs.rows("test"), outputs.rows("test"), documents=inputs.documents("test"))
    assert told["FVU"].value < 0.45
    assert told["FVU"].groups == 24


def test_the_same_seed_gives_the_same_numbers(layer):
    x, y, _, _ = layer
    model = Transcoder(16, TopK(2), epochs=1, batch_size=256, random_state=3)
    one, two = model.fit(x, y).maps_, clone(model).fit(x, y).maps_
    other = clone(model).set_params(random_state=4).fit(x, y).maps_
    np.testing.assert_array_equal(one.encoder, two.encoder)
    assert np.abs(one.encoder - other.encoder).max() > 1e-3


def test_a_saved_transcoder_is_the_same_again(layer, tmp_path):
    x, y, _, _ = layer
    for skip in (False, True):
        one = Transcoder(16, BatchTopK(2), skip=skip, **QUICK).fit(x, y)
        one.save(tmp_path / str(skip))
        again = Transcoder.load(tmp_path / str(skip))
        np.testing.assert_array_equal(one.reconstruct(x[:100]), again.reconstruct(x[:100]))
        assert str(one.fidelity(x, y)["FVU"]) == str(again.fidelity(x, y)["FVU"])
        assert again.get_params() == one.get_params()


def test_a_damaged_folder_is_refused(layer, tmp_path):
    x, y, _, _ = layer
    Transcoder(16, TopK(2), skip=True, **QUICK).fit(x, y).save(tmp_path / "one")
    record = json.loads((tmp_path / "one" / "transcoder.json").read_text())
    record["settings"]["skip"] = False
    (tmp_path / "one" / "transcoder.json").write_text(json.dumps(record))
    with pytest.raises(FormatError, match="not hold a whole transcoder"):
        Transcoder.load(tmp_path / "one")
    with pytest.raises(FormatError, match="expected a folder that save wrote"):
        Transcoder.load(tmp_path / "two")


def test_bad_settings_are_refused(layer):
    x, y, w, d = layer
    with pytest.raises(InvalidData, match="one length, got 100 and 90 rows"):
        Transcoder(16, TopK(2)).fit(x[:100], y[:90])
    with pytest.raises(InvalidData, match="expected y=, outputs of the layer"):
        Transcoder(16, TopK(2)).fit(x, None)
    with pytest.raises(InvalidData, match="one linear map, such as TopK or ReLU, got MatchingPursuit"):
        Transcoder(16, MatchingPursuit(2)).fit(x, y)
    with pytest.raises(InvalidData, match="skip= as True or False, got 'yes'"):
        Transcoder(16, TopK(2), skip="yes").fit(x, y)
    with pytest.raises(InvalidData, match="decoder rows that are not zero"):
        Transcoder.from_weights(w, np.zeros(24), d * 0, np.zeros(10))
    with pytest.raises(InvalidData, match="weights of n latents"):
        Transcoder.from_weights(w, np.zeros(23), d, np.zeros(10))
