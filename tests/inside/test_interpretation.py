"""What latents stand for, by F1, alone and in unions, and what attention scores are made of."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import f1_score

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    PrincipalComponents,
    SupervisedDictionary,
    Tap,
    attention_pairs,
    attention_sites,
    f1_scores,
    interpret,
    label_properties,
    parts_of,
)


def drawn(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return {"name": rng.integers(5, size=n), "place": rng.integers(3, size=n)}


def test_scores_are_those_of_scikit_learn():
    labels = drawn()
    codes = sparse.csr_array(np.random.default_rng(1).random((200, 6)) * (np.random.default_rng(2).random((200, 6)) < 0.3))
    of = label_properties(labels)["name"]
    wanted = [[f1_score(has, codes.toarray()[:, i] != 0) for has in of.values()] for i in range(6)]
    np.testing.assert_allclose(f1_scores(codes, of), wanted)
    np.testing.assert_allclose(f1_scores(codes.toarray(), of), wanted)


def test_planted_latents_are_found_and_unions_too():
    labels = drawn()
    name, place = labels["name"], labels["place"]
    codes = np.stack([name == 3, np.isin(name, [0, 4]), place == 1, (name == 2) & (place == 0), np.zeros(200)], axis=1)
    found = interpret(codes.astype(float), label_properties(labels))
    assert found.family == ("name", "name", "place", "name, place", "")
    assert found.values[0] == (3,)
    assert set(found.values[1]) == {0, 4}
    assert found.values[3] == ((2, 0),)
    np.testing.assert_allclose(found.f1, [1, 1, 1, 1, 0])
    assert found.positives.tolist() == [*codes.sum(axis=0)[:4].astype(int), 0]
    assert found.found("name").tolist() == [0, 1]
    assert found.found("name", single=True).tolist() == [0]
    without = interpret(codes.astype(float), label_properties(labels), unions=1)
    assert without.f1[1] < 0.8
    assert len(without.values[1]) == 1


def test_unions_of_overlapping_properties_count_rows_once():
    has = {"a": np.array([1, 1, 0, 0, 0]), "b": np.array([0, 1, 1, 0, 0])}
    found = interpret(np.array([[1.0], [1], [1], [0], [0]]), {"letters": has})
    assert (found.f1[0], found.positives[0]) == (1.0, 3)


def test_scores_on_other_rows_are_lower_where_nothing_was_there():
    labels, other = drawn(60, 0), drawn(60, 1)
    rng = np.random.default_rng(3)
    codes, others = (rng.random((60, 40)) < 0.2 for _ in range(2))
    found = interpret(codes, label_properties(labels))
    again = found.on(others, label_properties(other))
    assert again.mean() < found.f1.mean() - 0.05
    np.testing.assert_allclose(found.on(codes, label_properties(labels)), found.f1)


def test_properties_that_do_not_fit_are_refused():
    with pytest.raises(InvalidData, match="at least one family"):
        interpret(np.ones((3, 1)), {"a": {}})
    with pytest.raises(InvalidData, match=r"flags of 3 rows, got shape \(2,\)"):
        interpret(np.ones((3, 1)), {"a": {1: [True, False]}})
    with pytest.raises(InvalidData, match="unions="):
        interpret(np.ones((3, 1)), {"a": {1: [1, 0, 1]}}, unions=0)


# ---------------------------------------------------------------------- attention
def test_pairs_of_parts_sum_to_the_attention_of_the_model(language_model):
    """The softmax of summed pairs over all keys is the attention that the model itself uses."""
    tap = Tap(language_model, attention_sites(language_model, "model.layers.1"))
    ids = torch.tensor([[5, 9, 2, 7, 11]])
    with torch.no_grad():
        seen = tap.read(ids)
    head, last = 3, 4
    scores = []
    for at in range(5):
        q = {"whole": seen["q"][0, [last], head].numpy()}
        k = {"half": 0.5 * seen["k"][0, [at], head // 2].numpy(), "rest": 0.5 * seen["k"][0, [at], head // 2].numpy()}
        scores.append(attention_pairs(language_model, q, k, [last], [at]).total[0])
    weights = torch.softmax(torch.tensor(np.array(scores)), dim=0)
    mixed = (weights[:, None] * seen["v"][0, :, head // 2]).sum(dim=0)
    np.testing.assert_allclose(mixed.numpy(), seen["z"][0, last, head].numpy(), atol=1e-5)


def test_parts_sum_to_rows_and_attributes_are_parts():
    labels = drawn()
    X = np.eye(5)[labels["name"]] @ np.ones((5, 4)) * 0.3 + np.outer(labels["place"], [1, 0, 2, 0])
    sd = SupervisedDictionary().fit(X, labels)
    parts = parts_of(sd, X, labels=labels)
    assert list(parts) == ["bias", "name", "place", "error"]
    np.testing.assert_allclose(np.sum(list(parts.values()), axis=0), X, atol=1e-6)
    np.testing.assert_allclose(parts["error"], 0.0, atol=1e-5)
    pca = PrincipalComponents().fit(X)
    told = interpret(pca.encode(X), label_properties(labels))
    parts = parts_of(pca, X, interpretation=told, threshold=2.0)
    assert list(parts) == ["bias", "other", "error"]
    with pytest.raises(InvalidData, match="labels="):
        parts_of(sd, X)
    with pytest.raises(InvalidData, match="interpretation= of the 4 latents"):
        parts_of(pca, X)


def test_the_largest_pairs_come_first(language_model):
    q = {"small": np.full((3, 4), 0.1), "large": np.full((3, 4), 5.0)}
    found = attention_pairs(language_model, q, {"key": np.ones((3, 4))}, [2, 2, 2], [2, 2, 2])
    assert found.top(1)[0][:2] == ("large", "key")
    assert found.top(1)[0][2] == pytest.approx(5 * 4 / 2)  # the same rotation of both
    with pytest.raises(InvalidData, match="parts of queries and keys of one shape"):
        attention_pairs(language_model, q, {"key": np.ones((3, 2))}, [2, 2, 2], [2, 2, 2])
    with pytest.raises(InvalidData, match="rotary positions"):
        attention_pairs(torch.nn.Linear(2, 2), q, q, [0], [0])
