"""Audit of a recommender: lists by hand, what a perfect stand-in and edits must do, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData, NotFresh  # noqa: E402
from locum.inside import RecommenderAudit, SparseAutoencoder, Tap, TopK, frozen_decoder  # noqa: E402
from locum.nets.recommenders import SASRec  # noqa: E402

ITEMS = np.repeat(np.eye(6), 5, axis=0)
KINDS = {f"taste {i}": ITEMS[:, i] > 0 for i in range(6)}


def score(h):
    return h @ ITEMS.T


@pytest.fixture(scope="module")
def world():
    """Rows of some of six tastes, the item that came next, and whose they are."""
    rng = np.random.default_rng(0)
    X = ((rng.random((1200, 6)) < 0.3) * rng.uniform(0.5, 1.5, (1200, 6))).astype(np.float32)
    wanted = (score(X) + 0.3 * rng.normal(size=(1200, 30))).argmax(axis=1)
    return X, wanted, np.arange(1200) // 4


@pytest.fixture(scope="module")
def sae(world):
    return SparseAutoencoder(8, TopK(3), epochs=40, batch_size=64, learning_rate=1e-2).fit(world[0][:800])


@pytest.fixture(scope="module")
def audit(sae):
    return RecommenderAudit(score, sae, 30, kinds=KINDS, topk=5, fitted_users=range(200))


def latent_of(sae, taste):
    return int(np.argmax(sae.atoms_[:, taste]))


# ---------------------------------------------------------------------- lists
def test_gains_are_those_by_hand(sae):
    scores = np.array([[5.0, 4.0, 3.0, 2.0], [5.0, 4.0, 3.0, 2.0], [5.0, 5.0, 1.0, 0.0], [5.0, 4.0, 3.0, 2.0]])
    audit = RecommenderAudit(lambda h: scores[: len(h)], sae, 4, topk=2)
    seen = sparse.csr_array(([1.0, 1.0], ([3, 0], [0, 3])), shape=(4, 4))
    original, _ = audit.gains(np.ones((4, 6)), np.array([0, 2, 1, 1]), seen=seen)
    # first; third and so not in the list; tied for first and so second; second, but first once what was seen is out
    np.testing.assert_allclose(original, [1.0, 0.0, 1 / np.log2(3), 1.0])
    lists = audit.recommend(np.ones((4, 6)), seen=seen)
    np.testing.assert_array_equal(lists[[0, 1, 3]], [[0, 1], [0, 1], [1, 2]])


def test_an_item_that_scores_the_same_for_all_gains_nothing_where_the_list_is_shorter_than_the_ties(sae):
    audit = RecommenderAudit(lambda h: np.zeros((len(h), 30)), sae, 30)
    assert not audit.gains(np.ones((7, 6)), np.arange(7))[0].any()


def test_a_perfect_copy_keeps_everything_and_a_constant_does_not(audit, world):
    X, wanted, users = (one[800:] for one in world)
    stand_ins = {"copy": lambda rows: rows, "mean": lambda rows: np.tile(rows.mean(axis=0), (len(rows), 1))}
    told = audit.ranking_fidelity(X, wanted, users=users, stand_ins=stand_ins)
    for name in ("NDCG@5 ratio", "HR@5 ratio"):
        assert told["copy"][name].value == told["copy"][name].lower == told["copy"][name].upper == 1.0
    assert told["copy"]["overlap@5"].value == 1.0 > told["copy"]["overlap@5"].lower > 0.95  # users not met may differ
    assert told["mean"]["NDCG@5 ratio"].upper < 0.6
    assert told["copy"]["NDCG@5 original"].value == pytest.approx(audit.gains(X, wanted)[0].mean())
    assert told["copy"]["NDCG@5 ratio"].groups == 100


def test_the_dictionary_keeps_more_than_atoms_that_were_not_learned(audit, world):
    X, wanted, users = (one[800:] for one in world)
    drawn = frozen_decoder(world[0][:800], 8, 3, epochs=0)
    stand_ins = {"ours": audit.dictionary.reconstruct, "drawn": drawn.reconstruct}
    told = audit.ranking_fidelity(X, wanted, users=users, stand_ins=stand_ins)
    assert told["ours"]["NDCG@5 ratio"].lower > 0.9
    assert told["ours"]["overlap@5"].value > told["drawn"]["overlap@5"].upper


def test_rows_in_parts_and_in_another_order_give_the_same(audit, world, monkeypatch):
    X, wanted, users = (one[800:] for one in world)
    first = audit.ranking_fidelity(X, wanted, users=users)["dictionary"]
    order = np.random.default_rng(1).permutation(len(X))
    monkeypatch.setattr("locum.inside.recsae._CELLS", 30 * 7)
    again = audit.ranking_fidelity(X[order], wanted[order], users=users[order])["dictionary"]
    for name, found in first.items():
        assert again[name].value == pytest.approx(found.value)
        assert again[name].upper == pytest.approx(found.upper)


def test_of_several_interests_each_is_replaced(sae, world):
    X, wanted = world[0][:60].reshape(20, 3, 6), world[1][:20]
    several = RecommenderAudit(lambda h: score(h).max(axis=1), sae, 30, topk=5)
    found = several.recommend(X, edit=sae.reconstruct)
    by_hand = score(sae.reconstruct(X.reshape(60, 6)).reshape(20, 3, 6)).max(axis=1)
    top = np.sort(np.take_along_axis(by_hand, found, axis=1), axis=1)
    np.testing.assert_allclose(top, np.sort(by_hand, axis=1)[:, -5:], rtol=1e-5)
    latent = latent_of(sae, 0)
    flat = several.active(latent, X.reshape(60, 6)[:, None]).reshape(20, 3)
    np.testing.assert_array_equal(several.active(latent, X), flat.any(axis=1))
    assert len(several.gains(X, wanted)[1]) == 20


# ---------------------------------------------------------------------- edits
def test_an_edit_multiplies_the_latent_and_nothing_else(audit, sae, world):
    X, latent = world[0][:50], latent_of(sae, 2)
    codes = sae.encode(X).toarray()
    assert audit.active(latent, X).tolist() == (codes[:, latent] != 0).tolist()
    codes[:, latent] *= 3.0
    np.testing.assert_allclose(audit.multiplied(latent, 3.0)(X), sae.decode(codes), atol=1e-5)
    np.testing.assert_allclose(audit.multiplied(latent, 1.0)(X), sae.reconstruct(X), atol=1e-6)
    np.testing.assert_allclose(audit.shifted(np.arange(6), 2.0)(X), sae.reconstruct(X) + 2.0 * np.arange(6), atol=1e-5)


@pytest.mark.parametrize("taste", [2, 3, 5])
def test_a_stronger_latent_brings_more_of_its_kind_and_switched_off_less(audit, sae, world, taste):
    X, wanted, users = (one[800:] for one in world)
    latent = latent_of(sae, taste)
    rows = audit.active(latent, X)
    doses = {c: audit.multiplied(latent, c) for c in (4.0, 0.0, 1.0, 2.0)}
    found = audit.dose_response(doses, f"taste {taste}", X[rows], wanted[rows], users=users[rows])
    assert found.doses == (0.0, 1.0, 2.0, 4.0)
    assert found.monotone
    assert found.rise.lower > 0.3
    assert found.overlap[1] == 1.0
    assert found.overlap[3] < 1.0
    assert found.gain[1] == pytest.approx(audit.gains(X[rows], wanted[rows])[1].mean())
    other = audit.dose_response(doses, f"taste {(taste + 1) % 6}", X[rows], wanted[rows])
    assert not other.monotone


# ---------------------------------------------------------------------- a network
def test_a_dictionary_hooked_into_the_network_gives_the_scores_of_the_audit():
    rng = np.random.default_rng(0)
    sequences = [rng.integers(0, 12, 9) for _ in range(30)]
    model = SASRec(8, history=5, epochs=1, batch_size=16).fit(sequences, 12)
    states = model.vectors(sequences)
    np.testing.assert_allclose(model.score(states), model.scores(sequences), atol=1e-5)
    sae = SparseAutoencoder(16, TopK(2), epochs=3, batch_size=8).fit(states)
    tap = Tap(model.module_, {"state": "state"})
    with tap.replace("state", sae.module()):
        hooked = model.scores(sequences)
    np.testing.assert_allclose(hooked, model.score(sae.reconstruct(states)), atol=1e-5)
    assert not np.allclose(hooked, model.scores(sequences), atol=1e-3)


def test_random_atoms_stay_as_they_are_and_the_encoder_learns_to_use_them(world):
    X = world[0][:800]
    before, after = (frozen_decoder(X, 24, 3, epochs=epochs, batch_size=64, learning_rate=1e-2) for epochs in (0, 20))
    np.testing.assert_array_equal(before.atoms_, after.atoms_)
    errors = [one.fidelity(world[0][800:])["FVU"].value for one in (before, after)]
    assert errors[1] < 0.7 * errors[0]
    again = frozen_decoder(X, 24, 3, epochs=20, batch_size=64, learning_rate=1e-2)
    np.testing.assert_array_equal(again.encode(X).toarray(), after.encode(X).toarray())
    assert not np.array_equal(frozen_decoder(X, 24, 3, epochs=0, random_state=1).atoms_, before.atoms_)


# ---------------------------------------------------------------------- refusals
def test_what_does_not_fit_is_refused(audit, sae, world):
    X, wanted = world[0][800:], world[1][800:]
    with pytest.raises(InvalidData, match="each of 30 items"):
        RecommenderAudit(score, sae, 30, kinds={"a": np.ones(29)})
    with pytest.raises(InvalidData, match="scores of 31 items"):
        RecommenderAudit(score, sae, 31).recommend(X)
    with pytest.raises(InvalidData, match="below 30"):
        audit.ranking_fidelity(X, np.full(len(X), 30))
    with pytest.raises(InvalidData, match="seen= of shape"):
        audit.ranking_fidelity(X, wanted, seen=sparse.csr_array((len(X), 29)))
    with pytest.raises(InvalidData, match="NaN"):
        audit.recommend(np.full((2, 6), np.nan))
    with pytest.raises(InvalidData, match="a user for each of"):
        audit.ranking_fidelity(X, wanted, users=[1, 2])
    with pytest.raises(InvalidData, match="of the original holds the item wanted"):
        audit.ranking_fidelity(np.tile([9.0, 0, 0, 0, 0, 0], (20, 1)), np.full(20, 29))
    with pytest.raises(InvalidData, match="rows of shape"):
        audit.recommend(X, edit=lambda rows: rows[:, :2])


def test_users_that_fitted_are_refused(audit, world):
    X, wanted, users = world
    with pytest.raises(NotFresh, match=r"200 of the users fitted the dictionary"):
        audit.ranking_fidelity(X, wanted, users=users)
    with pytest.raises(NotFresh, match="measure on others"):
        audit.dose_response({0.0: audit.multiplied(0, 0.0), 1.0: audit.multiplied(0, 1.0)}, "taste 0", X, wanted, users=users)


def test_latents_that_cannot_be_steered_are_refused(audit, sae, world):
    X, wanted = world[0][800:], world[1][800:]
    with pytest.raises(InvalidData, match="below 8"):
        audit.multiplied(8, 2.0)
    with pytest.raises(InvalidData, match="finite factors"):
        audit.edited({0: np.inf})
    latent = latent_of(sae, 0)
    silent = ~audit.active(latent, X)
    doses = {c: audit.multiplied(latent, c) for c in (0.0, 2.0)}
    with pytest.raises(InvalidData, match="active in none"):
        audit.dose_response(doses, "taste 0", X[silent], wanted[silent])
    with pytest.raises(InvalidData, match="no kind 'western'"):
        audit.dose_response(doses, "western", X, wanted)
    with pytest.raises(InvalidData, match="two doses"):
        audit.dose_response({0.0: doses[0.0]}, "taste 0", X, wanted)
