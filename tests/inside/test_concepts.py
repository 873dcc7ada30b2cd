"""Detection of concepts in texts, worked by hand and with planted directions, and neurons that components share."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from locum.core.errors import InvalidData
from locum.inside import areas_under_curve, core_and_exclusive, detect_concepts, log_ratio, shared_neurons, text_scores


def test_scores_of_texts_are_the_largest_cosines():
    X = np.array([[1.0, 0], [0, 2], [3, 4], [-1, 0]])
    texts, scores = text_scores(X, np.array([[5.0, 0], [0, 1]]), [7, 2, 7, 2])
    assert texts.tolist() == [2, 7]
    np.testing.assert_allclose(scores, [[0, 1], [1, 0.8]], atol=1e-7)


def test_scores_do_not_depend_on_the_order_of_rows_or_on_lengths():
    rng = np.random.default_rng(0)
    X, D, of, order = rng.normal(size=(50, 6)), rng.normal(size=(4, 6)), rng.integers(0, 9, 50), rng.permutation(50)
    one, other = text_scores(X, D, of), text_scores(3.0 * X[order], 0.1 * D, of[order])
    np.testing.assert_allclose(one[1], other[1], atol=1e-6)


def test_log_ratio_by_hand():
    scores = np.array([[0.8, 0.2, -1.0], [0.4, 0.2, 0.5], [0.2, 0.2, 0.3], [0.1, 0.2, 0.3]])
    np.testing.assert_allclose(log_ratio(scores, [1, 1, 0, 0]), [np.log(4.0), 0.0, np.nan])


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    scores, has = rng.integers(0, 6, size=(40, 5)), rng.random(40) < 0.3
    wanted = [roc_auc_score(has, one) for one in scores.T]
    np.testing.assert_allclose(areas_under_curve(scores, has), wanted)


def planted(n, seed):
    """Texts of four concepts, each with a unit of its own among ten."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.array(["animals", "cities", "colours", "tools"]), n)
    scores = 0.3 * rng.random((4 * n, 10))
    for i, name in enumerate(np.unique(labels)):
        scores[labels == name, 2 * i + 1] += 0.5
    return scores, labels


def test_the_unit_of_each_concept_is_found_and_held_to_other_texts():
    told = detect_concepts(*planted(8, 0), *planted(5, 1))
    assert told.concepts == ("animals", "cities", "colours", "tools")
    assert told.unit.tolist() == [1, 3, 5, 7]
    np.testing.assert_array_equal(told.area, 1.0)
    assert (told.log_ratio > 0.5).all()
    assert (told.mean_area.value, told.mean_area.n) == (1.0, 4)


def test_labels_without_meaning_are_at_chance_on_other_texts():
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(20):
        train, test = rng.random((40, 30)), rng.random((40, 30))
        labels = np.repeat(np.arange(4), 10)
        areas.append(detect_concepts(train, labels, test, labels).mean_area.value)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.03)


def test_of_equal_areas_the_one_furthest_apart_is_taken():
    labels = np.array([0, 0, 1, 1])
    scores = np.array([[1.0, 1.0, 0], [1.0, 0.51, 0], [0, 0.5, 1], [0, 0.0, 1]])
    assert detect_concepts(scores, labels, scores, labels).unit.tolist() == [0, 2]


def test_neurons_in_common_by_hand():
    C = np.array([[1.0, -2, 0, 0, 3], [0.5, 0, 1, 0, 1], [2, 0, 0, 1, 0.1]])
    assert shared_neurons(C).tolist() == [[3, 2, 2], [2, 3, 2], [2, 2, 3]]
    found = core_and_exclusive(C, [0, 1, 2])
    assert found.core.tolist() == [0, 4]
    assert [one.tolist() for one in found.exclusive] == [[1], [2], [3]]
    assert core_and_exclusive(C, [0, 2]).exclusive[1].tolist() == [3]
    D = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1.0]])
    assert [core_and_exclusive(D, [0, 1, 2], share=one).core.tolist() for one in (1.0, 0.6, 0.1)] == [[0], [0, 1, 2], [0, 1, 2]]


def test_what_does_not_fit_together_is_refused():
    scores, labels = planted(4, 0)
    with pytest.raises(InvalidData, match="3 wide, as the rows are, got 2"):
        text_scores(np.ones((4, 3)), np.ones((1, 2)), np.zeros(4))
    with pytest.raises(InvalidData, match="documents="):
        text_scores(np.ones((4, 3)), np.ones((1, 3)), np.zeros(5))
    with pytest.raises(InvalidData, match="with the concept and without"):
        areas_under_curve(scores, np.ones(len(scores)))
    with pytest.raises(InvalidData, match="the same ones in the training and the test texts"):
        detect_concepts(scores, labels, scores[:4], labels[:4])
    with pytest.raises(InvalidData, match="scores of the same units"):
        detect_concepts(scores, labels, scores[:, :3], labels)
    with pytest.raises(InvalidData, match="share= above 0"):
        core_and_exclusive(np.eye(3), [0, 1], share=0.0)
    for members in ([0], [0, 0], [0, 9]):
        with pytest.raises(InvalidData, match="two or more different members"):
            core_and_exclusive(np.eye(3), members)
