"""Measures: a perfect copy, a constant, cases worked by hand, and intervals over documents."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    ActivationStore,
    ArrayStore,
    Tap,
    absorption_score,
    babel,
    babel_selected,
    cosine,
    dead_share,
    effective_rank,
    first_position,
    fvu,
    matched,
    mean_l0,
    modality_score,
    reconstruction_rivals,
    splice_fidelity,
)


def test_unexplained_variance_of_a_copy_a_constant_and_by_hand():
    rng = np.random.default_rng(0)
    X, mean = rng.normal(size=(200, 3)), np.array([0.1, 0.0, -0.2])
    assert fvu(X, X, mean).value == 0.0
    assert fvu(X, np.tile(mean, (200, 1)), mean).value == pytest.approx(1.0)
    by_hand = fvu([[1.0, 0.0], [0.0, 2.0]] * 20, [[1.0, 1.0], [0.0, 1.0]] * 20, [0.0, 0.0])
    assert by_hand.value == pytest.approx((1 + 1) / (1 + 4))
    assert not by_hand.greater_is_better
    with pytest.raises(InvalidData, match="of one shape"):
        fvu(X, X[:5], mean)
    with pytest.raises(InvalidData, match="no variance to explain"):
        fvu(np.ones((4, 2)), np.zeros((4, 2)), [1.0, 1.0])


def test_an_error_that_hardly_any_row_has_still_gets_an_interval():
    X = np.random.default_rng(0).normal(size=(400, 3))
    Y = X + 1e-6
    Y[:2] = 0.0
    told = fvu(X, Y, np.zeros(3))
    assert 0.0 <= told.lower <= told.value <= told.upper < 0.1


def test_counts_of_which_one_differs_get_an_interval():
    codes = np.zeros((1000, 8))
    codes[:, 0] = 1.0
    codes[0, 1] = 1.0
    told = mean_l0(codes)
    assert told.lower <= 1.001 <= told.upper < 1.01
    grouped = mean_l0(codes, documents=np.arange(1000) // 25)
    assert grouped.groups == 40
    assert grouped.lower <= 1.001 <= grouped.upper


def test_the_cosine_of_a_copy_an_opposite_and_by_hand():
    X = np.random.default_rng(0).normal(size=(100, 4))
    assert cosine(X, X, np.zeros(4)).value == pytest.approx(1.0)
    assert cosine(X, -X, np.zeros(4)).value == pytest.approx(-1.0)
    assert cosine([[1.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [1.0, 1.0]], [0.0, 0.0]).value == pytest.approx(0.5**0.5 / 2)


def test_active_and_dead_latents_are_counted():
    Z = sparse.csr_array(np.array([[1.0, 0, 0, 2], [0, 0, 0, 3], [0, 0, 0, 0]]))
    for codes in (Z, Z.toarray()):
        assert mean_l0(codes).value == pytest.approx(1.0)
        assert dead_share(codes).value == 0.5


def test_intervals_over_documents_hold_what_they_should():
    """Rows of a document share an error: intervals over rows would be far too short."""
    rng, held, naive = np.random.default_rng(0), [], []
    for _ in range(60):
        documents = np.repeat(np.arange(30), 20)
        X = rng.normal(size=(600, 4))
        error = rng.gamma(2.0, 0.25, size=30)[documents, None] * rng.normal(size=(600, 4))
        truth = (2 * 0.25**2 + (2 * 0.25) ** 2) / 1.0
        for found, groups in ((held, documents), (naive, None)):
            told = fvu(X, X + error, np.zeros(4), documents=groups)
            found.append(told.lower <= truth <= told.upper)
    assert np.mean(held) > 0.85
    assert np.mean(naive) < np.mean(held) - 0.2


def test_rivals_are_the_mean_principal_and_random_directions():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 8)) * np.array([5, 3, 1, 1, 0.5, 0.5, 0.1, 0.1]) + 2.0
    found = reconstruction_rivals(ArrayStore(X[:2000]), X[2000:], 2)
    assert found["mean"].value == pytest.approx(1.0, abs=1e-6)
    variance = np.array([25, 9, 1, 1, 0.25, 0.25, 0.01, 0.01])
    assert found["PCA"].value == pytest.approx(variance[2:].sum() / variance.sum(), abs=0.02)
    assert found["PCA"].value < found["random directions"].value < 1.0


# ---------------------------------------------------------------------- geometry
def test_effective_rank_of_cases_known():
    assert effective_rank(np.array([[1.0, 0, 0], [2.0, 0, 0]])) == pytest.approx(1.0)
    assert effective_rank(np.eye(5)) == pytest.approx(5.0)
    assert effective_rank(np.ones((7, 4))) == pytest.approx(1.0)
    p = np.array([4.0, 1.0]) / 5
    assert effective_rank(np.diag([2.0, 1.0])) == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    rng = np.random.default_rng(0)
    wide = rng.random((20, 60))
    assert effective_rank(wide) == pytest.approx(effective_rank(wide.T))


def test_babel_of_cases_known():
    assert babel(np.eye(6), 3) == pytest.approx(0.0)
    half = np.array([[1.0, 0.0], [0.5, 0.75**0.5], [-0.5, 0.75**0.5]])
    assert babel(half, 1) == pytest.approx(0.5)
    assert babel(half, 2) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    D = rng.normal(size=(700, 5))
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    products = np.abs(D @ D.T)
    np.fill_diagonal(products, 0)
    assert babel(D, 4) == pytest.approx(np.sort(products, axis=1)[:, -4:].sum(axis=1).max())
    with pytest.raises(InvalidData, match="below the 6 atoms"):
        babel(np.eye(6), 6)


def test_babel_within_the_atoms_that_are_active_together():
    half = np.array([[1.0, 0.0], [0.5, 0.75**0.5], [-0.5, 0.75**0.5]])
    Z = np.array([[1.0, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    assert babel_selected(half, Z, 2).value == pytest.approx((1.0 + 0.5 + 0 + 0) / 4)
    assert babel_selected(half, Z, 1).value == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)


def test_absorption_is_none_for_true_atoms_and_a_right_angle_for_absorbed_ones():
    features, parents = np.eye(6), np.array([-1, -1, 0, 0, 1, 1])
    shuffled = features[[3, 1, 5, 0, 2, 4]]
    assert absorption_score(shuffled, features, parents) == pytest.approx(0.0)
    absorbed = features.copy()
    absorbed[2:] += features[parents[2:]]
    assert absorption_score(absorbed, features, parents) == pytest.approx(0.5**0.5)
    lost = features.copy()
    lost[2:] = features[[0, 0, 1, 1]]
    assert np.isnan(absorption_score(lost, features, parents))
    at, close = matched(shuffled, features)
    np.testing.assert_array_equal(at, [3, 1, 4, 0, 5, 2])
    np.testing.assert_allclose(close, 1.0)


def test_modality_of_latents_by_hand():
    Z, first = np.array([[1.0, 2, 0, 0], [3, 2, 0, 0], [0, 2, 0, 1]]), np.array([True, True, False])
    np.testing.assert_allclose(modality_score(sparse.csr_array(Z), first), [1.0, 0.5, np.nan, 0.0])
    with pytest.raises(InvalidData, match="of both kinds"):
        modality_score(Z, [True, True, True])


# ---------------------------------------------------------------------- a spliced network
@pytest.fixture(scope="module")
def spliced(language_model, documents, tmp_path_factory):
    tap = Tap(language_model, {"res": "model.layers.1"})
    folder = tmp_path_factory.mktemp("acts")
    store = ActivationStore.collect(tap, documents, folder, dtype="float32", keep=~first_position)
    held = [documents[i] for i in (*store.documents_of("val"), *store.documents_of("test"))]

    def told(stand_in, **settings):
        settings = {"mean": store["res"].mean_, "keep": ~first_position, "context": 64} | settings
        return splice_fidelity(tap, "res", {"it": stand_in, "other": torch.zeros_like}, held, **settings)["it"]

    return told, store, held


def test_a_perfect_copy_recovers_all_and_the_ablation_itself_nothing(spliced):
    told, store, _ = spliced
    copy = told(lambda x: x)
    assert copy["CE spliced"].value == copy["CE original"].value
    assert copy["KL"].value == pytest.approx(0.0, abs=1e-6)
    assert copy["recovered of mean ablation"].value == copy["recovered of zero ablation"].value == 1.0
    mean = torch.as_tensor(store["res"].mean_).float()
    ablated = told(lambda x: torch.zeros_like(x) + mean)
    assert ablated["CE spliced"].value == pytest.approx(ablated["CE mean-ablated"].value)
    assert ablated["recovered of mean ablation"].value == pytest.approx(0.0, abs=1e-6)
    assert ablated["KL"].value > 0
    assert copy["CE original"].groups == 8


def test_the_cross_entropy_is_that_of_one_document_at_a_time(spliced, language_model):
    told, _, held = spliced
    losses = []
    for ids in held:
        logits = language_model(torch.as_tensor(ids)[None]).logits[0, :-1]
        losses += torch.nn.functional.cross_entropy(logits, torch.as_tensor(ids[1:]), reduction="none").tolist()
    found = told(lambda x: x)["CE original"]
    assert found.value == pytest.approx(np.mean(losses), rel=1e-5)
    assert found.n == len(losses)
    assert told(lambda x: x, batch_size=3)["CE original"].value == pytest.approx(found.value, rel=1e-6)


def test_positions_that_the_filter_drops_keep_their_own_activation(spliced):
    told, _, _ = spliced
    with_first = told(torch.zeros_like, keep=first_position | ~first_position)
    without = told(torch.zeros_like)
    assert with_first["CE spliced"].value == pytest.approx(with_first["CE zero-ablated"].value)
    assert with_first["CE spliced"].value != without["CE spliced"].value
