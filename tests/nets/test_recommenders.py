"""Recommenders: planted orders and groups are learned, states make the scores, and what is filled up is never seen."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.nets.recommenders import LightGCN, MultiInterest, SASRec  # noqa: E402

N = 12


def chains(n=60, seed=0):
    """Each item is followed by the next one but one, in a ring."""
    rng = np.random.default_rng(seed)
    return [(2 * np.arange(rng.integers(3, 15)) + start) % N for start in rng.integers(0, N, n)]


def groups(n=60, seed=0):
    """Users who take items of the lower half, and users who take items of the upper half."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(N // 2)[:4] + (N // 2) * (u % 2) for u in range(n)]


SMALL = {"width": 16, "history": 6, "dropout": 0.0, "batch_size": 32, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def sasrec():
    return SASRec(epochs=25, **SMALL).fit(chains(), N)


@pytest.fixture(scope="module")
def several():
    return MultiInterest(interests=3, epochs=25, **SMALL).fit(groups(), N)


def test_what_follows_what_is_learned(sasrec):
    held = chains(20, seed=1)
    said = sasrec.scores([one[:-1] for one in held]).argmax(axis=1)
    assert np.mean(said == [one[-1] for one in held]) > 0.9
    assert sasrec.history_.losses[-1] < 0.5 * sasrec.history_.losses[0]


def test_interests_lead_to_items_that_go_together(several):
    scores = several.scores([one[:2] for one in groups(20)])
    upper = scores[:, N // 2 :].mean(axis=1) > scores[:, : N // 2].mean(axis=1)
    assert (upper == (np.arange(20) % 2 == 1)).all()


@pytest.mark.parametrize("name", ["sasrec", "several"])
def test_scores_are_made_from_the_vectors(name, request):
    model = request.getfixturevalue(name)
    vectors = model.vectors(chains(20))
    assert vectors.shape == ((20, 16) if name == "sasrec" else (20, 3, 16))
    np.testing.assert_allclose(model.score(vectors), model.scores(chains(20)), atol=1e-4)
    by_hand = vectors @ model.item_vectors().T
    np.testing.assert_allclose(model.score(vectors), by_hand if by_hand.ndim == 2 else by_hand.max(axis=1), atol=1e-4)


@pytest.mark.parametrize("name", ["sasrec", "several"])
def test_only_the_last_items_count_and_histories_beside_it_change_nothing(name, request):
    model = request.getfixturevalue(name)
    long = [np.concatenate([[1, 3, 5], one]) for one in chains(20) if len(one) >= 6]
    np.testing.assert_allclose(model.vectors(long), model.vectors([one[3:] for one in long]), atol=1e-5)
    together = model.vectors([[2, 4], [0, 2, 4, 6, 8, 10]])[0]
    np.testing.assert_allclose(model.vectors([[2, 4]])[0], together, atol=1e-5)


def test_a_state_knows_nothing_of_what_comes_later(sasrec):
    with torch.inference_mode():
        one, other = (sasrec.module_.states(torch.tensor([[1, 3, 5, *rest]])) for rest in ([7, 9, 11], [0, 2, N]))
    np.testing.assert_allclose(one[:, :3], other[:, :3], atol=1e-6)
    assert not np.allclose(one[:, 3], other[:, 3], atol=1e-3)


def test_sequences_shorter_and_longer_than_a_history_are_learned_from_to_their_ends():
    ends = [np.array([0, 1]), np.array([*([2] * 9), 3])]
    model = SASRec(epochs=60, **SMALL).fit(ends, N)
    np.testing.assert_array_equal(model.scores([[0], [2] * 6]).argmax(axis=1)[0], 1)
    assert model.scores([[2] * 6])[0, 3] > np.sort(model.scores([[2] * 6])[0])[-3]


def test_negatives_that_are_drawn_learn_the_same_order():
    model = SASRec(epochs=25, negatives=4, **SMALL).fit(chains(), N)
    held = chains(20, seed=1)
    said = model.scores([one[:-1] for one in held]).argmax(axis=1)
    assert np.mean(said == [one[-1] for one in held]) > 0.9


@pytest.mark.parametrize("layers", [0, 2])
def test_groups_of_users_are_learned_and_without_layers_it_is_matrix_factorisation(layers):
    model = LightGCN(8, layers=layers, epochs=40, batch_size=64, learning_rate=3e-2).fit(groups(), N)
    scores = model.scores(np.arange(60))
    upper = scores[:, N // 2 :].mean(axis=1) > scores[:, : N // 2].mean(axis=1)
    assert (upper == (np.arange(60) % 2 == 1)).mean() > 0.95
    np.testing.assert_allclose(model.score(model.vectors(np.arange(60))), scores, atol=1e-4)
    own = model.module_.vectors.detach().numpy()
    same = np.allclose(own[60:], model.item_vectors(), atol=1e-6)
    assert same == (layers == 0)


def test_layers_average_over_neighbours_as_the_dense_matrix_does():
    sequences = groups(10)
    model = LightGCN(4, layers=2, epochs=1).fit(sequences, N)
    graph = np.zeros((10 + N, 10 + N))
    for u, items in enumerate(sequences):
        graph[u, 10 + items] = graph[10 + items, u] = 1.0
    size = np.sqrt(np.maximum(graph.sum(axis=1), 1.0))
    normal = graph / size[:, None] / size[None, :]
    own = model.module_.vectors.detach().numpy()
    expected = (own + normal @ own + normal @ normal @ own) / 3
    np.testing.assert_allclose(model.item_vectors(), expected[10:], atol=1e-5)
    np.testing.assert_allclose(model.vectors(np.arange(10)), expected[:10], atol=1e-5)


def test_the_same_seed_gives_the_same_numbers_and_the_best_epoch_is_kept():
    first, again = (SASRec(epochs=2, **SMALL).fit(chains(), N).vectors(chains()) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, SASRec(epochs=2, random_state=1, **SMALL).fit(chains(), N).vectors(chains()))
    seen = []

    def validate(model):
        seen.append(model.vectors([[0, 2]]))
        return abs(len(seen) - 2)  # lowest after the second epoch

    kept = SASRec(epochs=9, patience=2, **SMALL).fit(chains(), N, validate=validate)
    assert kept.history_.best_epoch == 2
    assert len(seen) == 4
    np.testing.assert_allclose(kept.vectors([[0, 2]]), seen[1], atol=1e-6)


def test_what_cannot_be_learned_from_is_refused(sasrec):
    with pytest.raises(InvalidData, match="from 0 to 11, got others at position 1"):
        SASRec().fit([[0, 1], [2, 12]], N)
    with pytest.raises(InvalidData, match="not empty, got shape \\(0,\\) at position 0"):
        MultiInterest().fit([np.array([], dtype=int), [1, 2]], N)
    with pytest.raises(InvalidData, match="two items or more"):
        LightGCN().fit([[0], [1]], N)
    with pytest.raises(InvalidData, match="width="):
        SASRec(0).fit([[0, 1]], N)
    with pytest.raises(InvalidData, match="learning_rate="):
        LightGCN(learning_rate=0.0).fit([[0, 1]], N)
    with pytest.raises(InvalidData, match="at least one history"):
        sasrec.vectors([])
    with pytest.raises(InvalidData, match="16 wide"):
        sasrec.score(np.ones((2, 5)))
    model = LightGCN(4, epochs=1).fit(groups(4), N)
    with pytest.raises(InvalidData, match="users from 0 to 3"):
        model.vectors([4])
    with pytest.raises(InvalidData, match="numbers of users"):
        model.vectors([[0, 1]])
