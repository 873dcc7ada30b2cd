"""Names of latents from the words of items: planted words, the null of other names, and measures by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

pytest.importorskip("torch")

from locum.core.errors import InvalidData, NotFresh
from locum.inside import ItemConcepts, SparseAutoencoder, TopK, detect_kinds, title_coherence

WORDS = ("horror", "comedy", "western", "musical", "war", "crime")


@pytest.fixture(scope="module")
def world():
    """Histories of items of one word each, vectors that know which, and whose they are; three rows a user."""
    rng = np.random.default_rng(0)
    texts = [f"film{i} {WORDS[i // 10]} {'old' if i % 2 else 'new'}" for i in range(60)]
    word = rng.integers(0, 6, 900)
    histories = [10 * w + rng.integers(0, 10, 6) for w in word]
    X = np.eye(6)[word] * rng.uniform(0.8, 1.2, (900, 1)) + 0.02 * rng.normal(size=(900, 6))
    return X.astype(np.float32), histories, texts, np.arange(900) // 3, word


@pytest.fixture(scope="module")
def sae(world):
    return SparseAutoencoder(12, TopK(1), epochs=40, batch_size=64, learning_rate=1e-2).fit(world[0][:600])


@pytest.fixture(scope="module")
def concepts(world, sae):
    X, histories, texts, users, _ = world
    return ItemConcepts(terms=1).fit(sae, X[:600], histories[:600], texts, users=users[:600])


def test_latents_get_the_words_of_what_excites_them(world, sae, concepts):
    X, _, _, _, word = world
    strongest = sae.encode(X[:600]).toarray()
    assert len(concepts.named_) >= 5
    for j in concepts.named_:
        excited = word[:600][strongest[:, j] > 0]
        assert concepts.names_[j] == WORDS[np.bincount(excited).argmax()]
    assert concepts.rate_.sum() == pytest.approx(1.0)


def test_a_latent_is_found_by_its_word(concepts):
    word = concepts.names_[concepts.named_[0]]
    assert concepts[word] == concepts.named(word)[0]
    rates = concepts.rate_[concepts.named(word)]
    assert (np.diff(rates) <= 0).all()
    with pytest.raises(InvalidData, match="no latent has 'opera'"):
        concepts["opera"]


def test_planted_names_are_claimed_and_their_scores_are_those_of_scikit_learn(world, sae, concepts):
    X, histories, _, users, word = world
    found = concepts.confidence(X[600:], histories[600:], users=users[600:])
    active = sae.encode(X[600:]).toarray() != 0
    for i, j in enumerate(found.latent):
        # a history holds its word and no other, so the name says "active" in its rows, unless the latent shares them
        said = word[600:] == WORDS.index(found.name[i])
        if concepts.rate_[j] > 0.9 * said.mean():
            assert found.precision[i] == pytest.approx(precision_score(active[:, j], said), abs=0.1)
            assert found.recall[i] == pytest.approx(recall_score(active[:, j], said), abs=0.1)
            assert found.f1[i] == pytest.approx(f1_score(active[:, j], said), abs=0.1)
    assert found.mean_f1.lower > found.mean_shuffled.upper
    harmonic = 2 * found.precision * found.recall / np.maximum(found.precision + found.recall, 1e-12)
    np.testing.assert_allclose(found.f1, harmonic, atol=1e-9)
    assert (found.q >= found.p).all()
    others = np.array([sum(concepts.names_[j] != name for j in concepts.named_) for name in found.name])
    surest = found.f1 > 0.5  # no other name does as well, and latents of the same name are no part of the null
    assert surest.any()
    np.testing.assert_allclose(found.p[surest], 1.0 / (1.0 + others[surest]))


def many_latents(n_words, n_rows, informed, seed=0):
    """A world with as many words as latents, whose vectors know the word of the history or nothing."""
    rng = np.random.default_rng(seed)
    word = rng.integers(0, n_words, n_rows)
    shown = word if informed else rng.permutation(word)
    X = np.eye(n_words, dtype=np.float32)[shown] + 0.01 * rng.normal(size=(n_rows, n_words)).astype(np.float32)
    histories = [3 * w + rng.integers(0, 3, 5) for w in word]
    texts = [f"word{i // 3}" for i in range(3 * n_words)]
    half = n_rows // 2
    sae = SparseAutoencoder(2 * n_words, TopK(1), epochs=40, batch_size=64, learning_rate=1e-2).fit(X[:half])
    return ItemConcepts(terms=1).fit(sae, X[:half], histories[:half], texts), X[half:], histories[half:]


def test_names_that_say_nothing_are_not_claimed_and_true_ones_are():
    concepts, X, histories = many_latents(24, 2400, informed=True)
    found = concepts.confidence(X, histories)
    assert len(found.claimed(0.1)) >= 0.8 * len(found.latent)
    best = found.claimed(0.1)[0]
    assert found.f1[found.latent.tolist().index(best)] == found.f1[np.isin(found.latent, found.claimed(0.1))].max()
    concepts, X, histories = many_latents(24, 2400, informed=False)
    if len(concepts.named_) > 1:
        found = concepts.confidence(X, histories)
        assert len(found.claimed(0.1)) <= 0.2 * len(found.latent)
        assert abs(found.mean_f1.value - found.mean_shuffled.value) < 0.1


def test_names_with_tied_scores_say_so_as_often_as_the_latent_is_active_or_as_nearly_as_can_be():
    """All rows of a word have one score, so a name takes them all or none: all where the latent is active in most of them."""
    concepts, X, histories = many_latents(24, 2400, informed=True)
    found = concepts.confidence(X, histories)
    codes = concepts.dictionary_.encode(X).toarray()[:, found.latent] != 0
    rows = np.bincount(np.array([one[0] // 3 for one in histories]), minlength=24)[[int(n[4:]) for n in found.name]]
    most = codes.sum(axis=0) > 0.6 * rows
    few = codes.sum(axis=0) < 0.4 * rows
    assert most.sum() >= 20
    assert (found.recall[most] > 0.95).all()
    assert (found.f1[most] > 0.7).all()
    assert (found.recall[few] == 0).all()


def test_any_vectorizer_of_scikit_learn_will_do_and_the_same_rows_give_the_same_names(world, sae, concepts):
    X, histories, texts, users, _ = world
    again = ItemConcepts(terms=1).fit(sae, X[:600], histories[:600], texts, users=users[:600])
    assert again.names_ == concepts.names_
    counted = ItemConcepts(terms=1, vectorizer=CountVectorizer()).fit(sae, X[:600], histories[:600], texts, users=users[:600])
    assert {one for one in counted.names_ if one} <= set(WORDS)


def test_a_name_needs_so_many_users(world, sae):
    X, histories, texts, _, _ = world
    few = ItemConcepts().fit(sae, X[:600], histories[:600], texts, users=np.zeros(600, dtype=int))
    assert not len(few.named_)
    with pytest.raises(InvalidData, match="two latents or more"):
        few.confidence(X[600:], histories[600:])


def test_what_cannot_be_named_is_refused(world, sae, concepts):
    X, histories, texts, users, _ = world
    with pytest.raises(InvalidData, match="empty one in row 1"):
        ItemConcepts().fit(sae, X[:2], [[1], []], texts)
    with pytest.raises(InvalidData, match="60 texts and item 60"):
        ItemConcepts().fit(sae, X[:2], [[1], [60]], texts)
    with pytest.raises(InvalidData, match="a history for each of 2 rows"):
        ItemConcepts().fit(sae, X[:2], [[1]], texts)
    with pytest.raises(InvalidData, match="NaN"):
        ItemConcepts().fit(sae, np.full((2, 6), np.nan), [[1], [2]], texts)
    with pytest.raises(InvalidData, match="terms="):
        ItemConcepts(terms=0).fit(sae, X[:2], [[1], [2]], texts)
    with pytest.raises(NotFresh, match="made the names"):
        concepts.confidence(X, histories, users=users)


# ---------------------------------------------------------------------- measures
def test_areas_are_those_of_scikit_learn_and_the_unit_is_chosen_in_training():
    rng = np.random.default_rng(0)
    kinds, held = rng.random((300, 3)) < 0.3, rng.random((200, 3)) < 0.3
    train, test = rng.normal(size=(300, 200)), rng.normal(size=(200, 200))
    train[:, [10, 20, 150]] += 2.0 * kinds
    test[:, [10, 20, 150]] += 2.0 * held
    train[:, 7] = kinds[:, 0]  # perfect in training, noise in test
    found = detect_kinds(train, kinds, test, held, ("a", "b", "c"))
    assert found.unit.tolist() == [7, 20, 150]
    for i in range(3):
        assert found.area[i] == pytest.approx(roc_auc_score(held[:, i], test[:, found.unit[i]]))
    thinned = [np.where(one > 1.0, one, 0.0) for one in (train, test)]
    dense = detect_kinds(thinned[0], kinds, thinned[1], held, ("a", "b", "c"))
    thin = detect_kinds(sparse.csr_array(thinned[0]), kinds, sparse.csr_array(thinned[1]), held, ("a", "b", "c"))
    np.testing.assert_allclose(dense.area, thin.area)


def test_kinds_that_all_or_none_have_are_refused():
    flags = np.array([[True, True], [False, True]])
    with pytest.raises(InvalidData, match="with and without 'b'"):
        detect_kinds(np.eye(2), flags, np.eye(2), flags, ("a", "b"))
    with pytest.raises(InvalidData, match="the same units"):
        detect_kinds(np.eye(2), flags, np.eye(3), flags, ("a", "b"))


def test_coherence_finds_planted_groups_and_nothing_where_there_is_only_popularity():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 20, 600)
    embeddings = 2.0 * np.eye(20)[group] + 0.3 * rng.normal(size=(600, 20))
    lists = np.stack([rng.choice(np.flatnonzero(group == g), 8, replace=False) for g in range(20)])
    assert title_coherence(lists, embeddings, rng.random(600)).lower > 0.5
    popularity = np.arange(600.0)  # here items as popular are alike, and lists hold nothing beyond
    alike = np.cumsum(rng.normal(size=(600, 20)), axis=0)
    starts = rng.integers(0, 560, 40)
    lists = np.stack([start + rng.choice(40, 8, replace=False) for start in starts])
    found = title_coherence(lists, alike, popularity)
    assert abs(found.value) < 0.05


def test_matched_lists_hold_no_item_twice_and_none_of_the_list_itself():
    embeddings = np.eye(60)  # any two different items have cosine 0, and an item with itself 1
    lists = np.arange(40).reshape(4, 10)
    found = title_coherence(lists, embeddings, np.arange(60.0), draws=30)
    assert found.value == found.lower == found.upper == 0.0


def test_lists_that_cannot_be_matched_are_refused():
    with pytest.raises(InvalidData, match="too few others"):
        title_coherence([[0, 1, 2], [1, 2, 3]], np.eye(4), np.arange(4))
    with pytest.raises(InvalidData, match="two lists or more"):
        title_coherence([[0, 1]], np.eye(4), np.arange(4))
    with pytest.raises(InvalidData, match="popularity of each of 4"):
        title_coherence([[0, 1], [1, 2]], np.eye(4), np.arange(3))
