"""Reading answers and predictions: the same content in any form, and what is refused before anything is measured."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.core.measures import measure

ROWS = [1.0, 2.0, 3.0]


def test_a_column_of_probabilities_is_that_of_the_positive_class():
    rng = np.random.default_rng(15)
    p, q = rng.random((2, 60))
    two = [np.column_stack([1 - side, side]) for side in (p, q)]
    for name in ("total_variation_similarity", "mean_squared_probability_error", "kl_divergence"):
        assert measure(name).fidelity(p, q) == measure(name).fidelity(*two)


def test_labels_of_any_kind_are_the_same_labels():
    plain = measure("agreement").fidelity([0, 1, 1, 0], [0, 1, 0, 0])
    for truth, prediction in (
        (["a", "b", "b", "a"], np.array(["a", "b", "a", "a"], dtype=object)),
        ([False, True, True, False], [0, 1, 0, 0]),
        ([0.0, 1.0, 1.0, 0.0], np.array([[0], [1], [0], [0]])),
    ):
        assert measure("agreement").fidelity(truth, prediction) == plain


def test_strings_are_sequences_of_characters_and_arrays_of_tokens():
    for name in ("token_agreement", "exact_match", "edit_similarity"):
        text = measure(name).fidelity(["abc", "abd"], ["abc", "aba"])
        assert measure(name).fidelity([list("abc"), list("abd")], [tuple("abc"), tuple("aba")]) == text
        assert measure(name).fidelity(np.array([[1, 2, 3], [1, 2, 4]]), np.array([[1, 2, 3], [1, 2, 1]])) == text


@pytest.mark.parametrize(
    ("name", "truth", "prediction", "message"),
    [
        ("agreement", ["a", "b"], ["a"], "as many predictions as answers, got 1 for 2 rows"),
        ("agreement", ["a", "b"], [0, 1], "labels of one type"),
        ("agreement", [1.0, np.nan], [1.0, 2.0], "a label in every row, got a missing one"),
        ("agreement", ["a", None], ["a", "b"], "a label in every row, got a missing one"),
        ("agreement", np.array(["2020", "NaT"], "M8[D]"), np.array(["2020", "2021"], "M8[D]"), "got a missing one"),
        ("agreement", [["a", "b"], ["c", "d"]], ["a", "b"], r"labels of shape \(n,\), got shape \(2, 2\)"),
        ("agreement", [["a"], ["c", "d"]], ["a", "b"], "rows of differing shape"),
        ("agreement", np.array([{}, {}], object), np.array([{}, {}], object), "labels that are text, numbers or True / False"),
        ("agreement", ["a"], ["a"], "at least 2 rows to measure on, got 1"),
        ("agreement", [], [], "at least 2 rows to measure on, got 0"),
        ("cohen_kappa", ["a", "a"], ["a", "b"], "cohen_kappa is undefined when the target names one class: use agreement"),
        ("balanced_agreement", ["a", "a"], ["a", "b"], "balanced_agreement is undefined when the target names one class"),
        ("total_variation_similarity", [[0.5, 0.6]] * 2, [[0.5, 0.5]] * 2, "sum to 1 in each row"),
        ("total_variation_similarity", [[1.5, -0.5]] * 2, [[0.5, 0.5]] * 2, "are 0 or more"),
        ("total_variation_similarity", [[1.0]] * 2, [[1.0]] * 2, r"shape \(n, classes\) or \(n,\), got shape \(2, 1\)"),
        ("total_variation_similarity", [[0.5, 0.5]] * 2, [[0.2, 0.3, 0.5]] * 2, "the same classes, got 2 and 3 columns"),
        ("total_variation_similarity", [[0.5, 0.5]] * 2, [[0.5, np.nan]] * 2, "predictions to be finite, got NaN or infinity"),
        ("total_variation_similarity", ["a", "b"], [0.5, 0.5], "the answers to be real numbers"),
        ("kl_divergence", [[0.5, 0.5]] * 3, [[0.5, 0.5]] * 3, "kl_divergence has no scale"),
        ("r2", ROWS, [1.0, np.inf, 3.0], "the predictions to be finite, got NaN or infinity at row 1"),
        ("r2", ROWS, ["a", "b", "c"], "the predictions to be real numbers"),
        ("r2", [True, False, True], ROWS, "the answers to be real numbers"),
        ("r2", ROWS, [[1.0, 2.0]] * 3, r"values of one shape, \(n,\) or \(n, outputs\)"),
        ("r2", np.ones((3, 2, 2)), np.ones((3, 2, 2)), "values of one shape"),
        ("r2", 1.0, 2.0, "a row for each query, got the single number"),
        ("r2", [0.1] * 3, ROWS, "r2 is undefined when the target's answers are constant: use rmse"),
        ("rmse", [0.1] * 3, [0.1] * 3, "rmse has no scale: the target's answers are constant, and met exactly"),
        ("pearson_correlation", [0.1] * 3, ROWS, "undefined when answers or predictions are constant"),
        ("pearson_correlation", [[1.0, 2.0]] * 3, [[1.0, 2.0]] * 3, "measure each output on its own"),
        ("interval_coverage", ROWS, ROWS, r"answers \(n,\) and intervals \(n, 2\)"),
        ("interval_coverage", ROWS, [[0.0, 1.0], [3.0, 1.0], [0.0, 1.0]], r"lower <= upper in each interval, got \[3. 1.\]"),
        ("kendall_tau", ROWS, [1.0] * 3, "kendall_tau is undefined when the predictions are all equal: there is no order"),
        ("spearman_correlation", [ROWS, [1.0] * 3], [ROWS, ROWS], r"answers are all equal \(row 1\)"),
        ("top_k_overlap", [ROWS] * 2, [ROWS] * 2, "more than k=5 items"),
        ("ndcg", ROWS, ROWS, r"shape \(n, items\) with at least 2 items"),
        ("ndcg", [ROWS, [0.0] * 3], [ROWS] * 2, "undefined for gains below 0 or rows without any gain"),
        ("ndcg", [ROWS, [1.0, 2.0, -1.0]], [ROWS] * 2, "undefined for gains below 0"),
        ("exact_match", "abc", "abd", "as a list of sequences"),
        ("exact_match", [1, 2], [1, 2], "as a list of sequences"),
        ("exact_match", [[[1], [2]]] * 2, [[[1], [2]]] * 2, "got lists within rows"),
    ],
)
def test_answers_that_do_not_fit_are_refused(name, truth, prediction, message):
    with pytest.raises(InvalidData, match=message):
        measure(name).fidelity(truth, prediction)
