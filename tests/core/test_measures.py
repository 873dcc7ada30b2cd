"""Measures: four identities each, parity with scikit-learn and SciPy, weights, groups, candidates, and what is refused."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from locum.core.bounds import binomial
from locum.core.errors import InvalidData
from locum.core.measures import (
    MEASURES,
    NDCG,
    ErrorMeasure,
    KLDivergence,
    Measure,
    RowMeasure,
    TopKOverlap,
    default_measure,
    measure,
)

N = 120


@dataclass(frozen=True)
class Case:
    """A measure with made-up answers and what is known about it."""

    truth: Any
    prediction: Any
    best: float  # its value on a perfect copy
    limits: tuple[float, float]
    constant: Any = None  # predictions that say the same everywhere, and their value; None where that is refused
    constant_value: float | None = None
    hand: tuple[Any, Any, float] | None = None  # two rows (or one pair of rows) worked by hand


def _values():
    rng = np.random.default_rng(0)
    y = np.round(rng.gamma(2.0, size=N), 1)  # with ties
    return y, y + 0.4 * rng.normal(size=N)


def _cases() -> dict[str, Case]:
    rng = np.random.default_rng(1)
    labels = rng.choice(["no", "maybe", "yes"], N, p=[0.5, 0.3, 0.2])
    said = np.where(rng.random(N) < 0.8, labels, rng.choice(["no", "maybe", "yes"], N))
    p = rng.dirichlet([1.0, 2.0, 3.0], N)
    q = 0.7 * p + 0.3 * rng.dirichlet([1.0, 2.0, 3.0], N)
    y, z = _values()
    mean, inf = np.full(N, y.mean()), np.inf
    spans = np.column_stack([z - 0.5, z + 0.5])
    gains = rng.integers(0, 5, (N, 12)) + np.eye(1, 12)[0]
    ranks = np.round(gains + 2 * rng.normal(size=(N, 12)))
    words = rng.integers(0, 4, (N, 6))
    told = [tuple(row[: rng.integers(3, 7)]) for row in np.where(rng.random((N, 6)) < 0.7, words, 9)]
    words = [tuple(row) for row in words]
    unit = (0.0, 1.0)
    two = [("a", "b"), ("a", "a"), 0.5]
    even, discount = np.full((N, 3), 1 / 3), 1 / np.log2(np.arange(2, 14))
    usual = p.mean(axis=0)
    return {
        "agreement": Case(labels, said, 1.0, unit, np.full(N, "no"), np.mean(labels == "no"), (*two,)),
        # two rows, one wrong: D = 1/2; blindly 1/2 · 0 + 1/2 · 1 would agree, so E = 1/2
        "cohen_kappa": Case(labels, said, 1.0, (-inf, 1.0), np.full(N, "no"), 0.0, (*two[:2], 0.0)),
        "balanced_agreement": Case(labels, said, 1.0, unit, np.full(N, "no"), 1 / 3, (*two,)),
        "total_variation_similarity": Case(
            p, q, 1.0, unit, even, 1 - 0.5 * np.abs(p - 1 / 3).sum(axis=1).mean(),
            ([[1.0, 0.0], [0.5, 0.5]], [[0.8, 0.2], [0.9, 0.1]], 1 - (0.2 + 0.4) / 2),
        ),
        "mean_squared_probability_error": Case(
            p, q, 0.0, (0.0, 2.0), even, ((p - 1 / 3) ** 2).sum(axis=1).mean(),
            ([[1.0, 0.0], [0.5, 0.5]], [[0.8, 0.2], [0.9, 0.1]], (0.08 + 0.32) / 2),
        ),
        "kl_divergence": Case(
            p, q, 0.0, (0.0, inf), np.tile(usual, (N, 1)), (p * np.log(p / usual)).sum(axis=1).mean(),
            ([[0.5, 0.5], [0.25, 0.75]], [[0.25, 0.75], [0.25, 0.75]], (0.5 * np.log(2) + 0.5 * np.log(2 / 3)) / 2),
        ),
        "r2": Case(y, z, 1.0, (-inf, 1.0), mean, 0.0, ([0.0, 2.0], [0.0, 1.0], 1 - 1 / 2)),
        "rmse": Case(y, z, 0.0, (0.0, inf), mean, y.std(), ([0.0, 2.0], [0.0, 1.0], np.sqrt(1 / 2))),
        "mae": Case(y, z, 0.0, (0.0, inf), mean, np.abs(y - y.mean()).mean(), ([0.0, 2.0], [0.0, 1.0], 1 / 2)),
        "pearson_correlation": Case(y, z, 1.0, (-1.0, 1.0), hand=([0.0, 2.0], [5.0, 4.0], -1.0)),
        "interval_coverage": Case(
            y, spans, 1.0, unit, np.tile([0.0, 2.0], (N, 1)), np.mean(y <= 2.0), ([0.0, 1.0], [[0.0, 1.0], [2.0, 3.0]], 0.5)
        ),
        "kendall_tau": Case(y, z, 1.0, (-1.0, 1.0), hand=([0.0, 2.0], [5.0, 4.0], -1.0)),
        "spearman_correlation": Case(y, z, 1.0, (-1.0, 1.0), hand=([0.0, 2.0], [5.0, 4.0], -1.0)),
        "top_k_overlap": Case(
            rng.random((N, 12)), rng.random((N, 12)), 1.0, unit, np.zeros((N, 12)), 5 / 12,
            ([[6, 5, 4, 3, 2, 1, 0]] * 2, [[6, 5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5, 6]], (1 + 3 / 5) / 2),
        ),
        "ndcg": Case(
            gains, ranks, 1.0, unit, np.zeros((N, 12)),
            np.mean(gains.sum(axis=1) * discount.mean() / (-np.sort(-gains) @ discount)),
            ([[1.0, 0.0], [1.0, 0.0]], [[2.0, 1.0], [1.0, 2.0]], (1 + 1 / np.log2(3)) / 2),
        ),
        "token_agreement": Case(
            words, told, 1.0, unit, [(0,) * 6] * N, np.mean([row.count(0) / 6 for row in words]),
            (["cat", "a"], ["cut", "ab"], (2 / 3 + 1 / 2) / 2),
        ),
        "exact_match": Case(
            words, told, 1.0, unit, [words[0]] * N, np.mean([row == words[0] for row in words]),
            (["cat", "a"], ["cat", "ab"], 0.5),
        ),
        "edit_similarity": Case(
            words, told, 1.0, unit, [()] * N, 0.0, (["kitten", ""], ["sitting", ""], (1 - 3 / 7 + 1) / 2)
        ),
    }  # fmt: skip


CASES = _cases()
every = pytest.mark.parametrize("name", CASES)


def taken(rows, order):
    """Rows in another order, also of lists."""
    return rows[order] if isinstance(rows, np.ndarray) else [rows[i] for i in order]


def numbers(found):
    return [found.value, found.lower, found.upper]


def assert_same(one, other, tolerance):
    assert numbers(one) == pytest.approx(numbers(other), rel=tolerance, abs=tolerance)
    assert one.method == other.method


def test_every_measure_has_a_case():
    assert list(CASES) == list(MEASURES)


# --- the four identities ---------------------------------------------------------------------------------------------


@every
def test_a_perfect_copy(name):
    case = CASES[name]
    copy = np.column_stack([case.truth, case.truth]) if name == "interval_coverage" else case.truth
    found = measure(name).fidelity(case.truth, copy)
    assert found.value == pytest.approx(case.best, abs=1e-12)
    assert found.upper - found.lower > 0.005, "some rows that were not asked may still differ"
    assert case.limits[0] <= found.lower <= found.upper <= case.limits[1]


@every
def test_a_constant_stand_in(name):
    case = CASES[name]
    if case.constant_value is None:
        with pytest.raises(InvalidData, match=r"undefined when .*(are constant|are all equal)"):
            measure(name).fidelity(case.truth, np.ones(N))
    else:
        assert measure(name).fidelity(case.truth, case.constant).value == pytest.approx(case.constant_value, abs=1e-12)


@every
def test_two_rows_by_hand(name):
    truth, prediction, value = CASES[name].hand
    found = measure(name).fidelity(truth, prediction)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.n == 2
    assert np.isfinite(numbers(found)).all()
    assert found.lower < found.upper


@every
def test_the_order_of_rows_does_not_matter(name):
    case, rng = CASES[name], np.random.default_rng(2)
    weights, groups, order = rng.exponential(size=N), rng.integers(0, 25, N), rng.permutation(N)
    for sample in ({}, {"weights": weights}, {"groups": groups}, {"weights": weights, "groups": groups}):
        moved = {key: rows[order] for key, rows in sample.items()}
        one = measure(name).fidelity(case.truth, case.prediction, **sample)
        other = measure(name).fidelity(taken(case.truth, order), taken(case.prediction, order), **moved)
        assert_same(one, other, 1e-11)


@pytest.mark.parametrize("name", [name for name, found in MEASURES.items() if isinstance(found, RowMeasure)])
def test_the_size_of_batches_does_not_matter(name):
    case = CASES[name]
    whole = measure(name).fidelity(case.truth, case.prediction).value
    for size in (2, 7, 60):
        batches = np.array_split(np.arange(N), N // size)
        parts = [measure(name).fidelity(taken(case.truth, b), taken(case.prediction, b)).value for b in batches]
        assert np.average(parts, weights=[len(b) for b in batches]) == pytest.approx(whole, abs=1e-12)


# --- parity ----------------------------------------------------------------------------------------------------------


def weighted_peers(w):
    """The same numbers from scikit-learn, SciPy or the definition, on the same rows and weights."""
    labels, said = CASES["agreement"].truth, CASES["agreement"].prediction
    p, q = CASES["kl_divergence"].truth, CASES["kl_divergence"].prediction
    y, z = CASES["r2"].truth, CASES["r2"].prediction
    gains, ranks = CASES["ndcg"].truth, CASES["ndcg"].prediction
    return {
        "agreement": metrics.accuracy_score(labels, said, sample_weight=w),
        "cohen_kappa": metrics.cohen_kappa_score(labels, said, sample_weight=w),
        "balanced_agreement": metrics.balanced_accuracy_score(labels, said, sample_weight=w),
        "total_variation_similarity": np.average(1 - np.maximum(p - q, 0).sum(axis=1), weights=w),
        "mean_squared_probability_error": np.average((p - q) ** 2, axis=0, weights=w).sum(),
        "kl_divergence": np.average(stats.entropy(p, q, axis=1), weights=w),
        "r2": metrics.r2_score(y, z, sample_weight=w),
        "rmse": metrics.root_mean_squared_error(y, z, sample_weight=w),
        "mae": metrics.mean_absolute_error(y, z, sample_weight=w),
        "pearson_correlation": (spread := np.cov(y, z, aweights=w))[0, 1] / np.sqrt(spread[0, 0] * spread[1, 1]),
        "ndcg": metrics.ndcg_score(gains, ranks, sample_weight=w),
    }  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
def test_parity_with_scikit_learn(weighted):
    w = np.random.default_rng(3).exponential(size=N) if weighted else None
    for name, value in weighted_peers(w).items():
        found = measure(name).fidelity(CASES[name].truth, CASES[name].prediction, weights=w).value
        tolerance = 1e-4 if name == "kl_divergence" else 1e-9  # which first raises probabilities below a millionth
        assert found == pytest.approx(value, abs=tolerance), name


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n", [2, 3, 8, 33, 500])
def test_rank_correlations_are_those_of_scipy(n, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, n, n).astype(float), rng.normal(size=n)
    y = np.round(y + 0.1 * x, seed)  # ties on both sides
    x[0], x[1], y[0], y[1] = 0, 1, 5, 3
    assert measure("kendall_tau").fidelity(x, y).value == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-9)
    assert measure("spearman_correlation").fidelity(x, y).value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


def test_rank_correlations_with_weights_are_those_of_repeated_rows():
    rng = np.random.default_rng(4)
    x, y, w = rng.integers(0, 9, 40), rng.integers(0, 9, 40), rng.integers(1, 6, 40)
    repeated = np.repeat(np.arange(40), w)
    tau = measure("kendall_tau").fidelity(x, y, weights=w).value
    rho = measure("spearman_correlation").fidelity(x, y, weights=w).value
    assert tau == pytest.approx(stats.kendalltau(x[repeated], y[repeated]).statistic, abs=1e-9)
    assert rho == pytest.approx(stats.spearmanr(x[repeated], y[repeated]).statistic, abs=1e-9)


def test_rank_correlations_of_items_within_rows_are_averaged():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 6, (40, 9)).astype(float)
    y = x + 2 * rng.normal(size=(40, 9))
    tau, rho = (measure(name).fidelity(x, y) for name in ("kendall_tau", "spearman_correlation"))
    assert tau.value == pytest.approx(np.mean([stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]), abs=1e-9)
    assert rho.value == pytest.approx(np.mean([stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]), abs=1e-9)
    assert tau.method == rho.method == "dirichlet"


def test_several_outputs():
    rng = np.random.default_rng(6)
    y = rng.normal(size=(80, 3)) * [1.0, 5.0, 0.1]
    z = y + rng.normal(size=(80, 3))
    r2 = metrics.r2_score(y, z, multioutput="variance_weighted")
    assert measure("r2").fidelity(y, z).value == pytest.approx(r2, abs=1e-9)
    assert measure("mae").fidelity(y, z).value == pytest.approx(metrics.mean_absolute_error(y, z), abs=1e-9)
    assert measure("rmse").fidelity(y, z).value == pytest.approx(np.sqrt(metrics.mean_squared_error(y, z)), abs=1e-9)
    column = measure("r2").fidelity(y[:, :1], z[:, 0])
    assert column == measure("r2").fidelity(y[:, 0], z[:, 0])


def test_ndcg_shares_the_discounts_of_ties_as_scikit_learn_does():
    gains = np.array([[3.0, 2.0, 1.0, 0.0]])
    for scores in ([[1.0, 1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0, 1.0]], [[1.0, 2.0, 2.0, 2.0]]):
        found = NDCG().fidelity(np.repeat(gains, 2, 0), np.repeat(scores, 2, 0)).value
        assert found == pytest.approx(metrics.ndcg_score(gains, scores), abs=1e-9)


def test_top_k_overlap_is_the_intersection_of_sets():
    rng = np.random.default_rng(7)
    x, y = rng.random((30, 20)), rng.random((30, 20))
    for k in (1, 3, 19):
        sets = [len({*np.argsort(-a)[:k]} & {*np.argsort(-b)[:k]}) / k for a, b in zip(x, y, strict=True)]
        assert TopKOverlap(k).fidelity(x, y).value == pytest.approx(np.mean(sets), abs=1e-12)


def test_edit_similarity_is_the_shortest_way_on_all_short_words():
    def distance(a, b):  # as it is defined, one edit after the other
        if not a or not b:
            return len(a) + len(b)
        return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))

    words = ["".join(word) for size in range(4) for word in itertools.product("ab", repeat=size)]
    pairs = list(itertools.product(words, words))
    expected = [1 - distance(a, b) / max(len(a), len(b), 1) for a, b in pairs]
    score = measure("edit_similarity")
    for (a, b), value in zip(pairs, expected, strict=True):
        assert score.fidelity([a, a], [b, b]).value == pytest.approx(value, abs=1e-12), (a, b)


def test_the_exact_interval_of_agreement():
    truth = np.zeros(400, int)
    prediction = np.repeat([0, 1], [372, 28])
    found = measure("agreement").fidelity(truth, prediction)
    assert [found.lower, found.upper] == [binomial(372, 400).lower, binomial(372, 400).upper]
    assert found.method == "exact binomial"


@pytest.mark.parametrize("name", ["cohen_kappa", "balanced_agreement", "kendall_tau", "spearman_correlation"])
def test_the_width_is_that_of_the_jackknife(name):
    rng = np.random.default_rng(16)
    n = 600 if measure(name).kind == "class" else 250
    truth = (rng.random(n) < 0.2).astype(float)
    said = np.where(rng.random(n) < 0.3 - 0.2 * truth, 1 - truth, truth)  # errors that differ between classes
    if measure(name).kind == "ranking":
        truth, error = rng.normal(size=(2, n))
        said = np.round(truth + 0.6 * error * (1 + np.abs(truth)), 1)
    found = measure(name).fidelity(truth, said)
    left_out = [measure(name).fidelity(np.delete(truth, i), np.delete(said, i)).value for i in range(n)]
    error = np.sqrt((n - 1) * np.var(left_out))
    centre = (found.lower + found.upper) / 2
    assert (found.upper - found.lower) / (2 * 1.96 * error) == pytest.approx(1.06, abs=0.07)
    assert abs(centre - found.value) < 0.35 * error


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize("name", ["r2", "rmse", "mae", "pearson_correlation"])
def test_the_unit_of_the_target_does_not_matter(name, scale):
    y, z = _values()
    one, other = measure(name).fidelity(y, z), measure(name).fidelity(scale * y, scale * z)
    factor = scale if name in ("rmse", "mae") else 1.0
    assert numbers(other) == pytest.approx([factor * end for end in numbers(one)], rel=1e-6)


def test_correlation_ignores_shift_and_scale_and_turns_with_the_sign():
    y, z = _values()
    one, moved, turned = (measure("pearson_correlation").fidelity(y, other) for other in (z, 1e6 + 3 * z, -z))
    assert numbers(moved) == pytest.approx(numbers(one), rel=1e-7)
    assert numbers(turned) == pytest.approx([-one.value, -one.upper, -one.lower], rel=1e-9)


@pytest.mark.parametrize("noise", [1e-3, 1e-6, 1e-9])
def test_correlation_does_not_cancel_near_one(noise):
    rng = np.random.default_rng(8)
    y, error = rng.normal(size=(2, 400))
    found = measure("pearson_correlation").fidelity(y, y + noise * error)
    apart = (1 - np.corrcoef(y, error)[0, 1] ** 2) * error.var() / y.var() / 2 * noise**2
    assert 1 - found.value == pytest.approx(apart, rel=0.01, abs=4e-16)
    assert found.lower <= found.value <= found.upper <= 1.0


# --- weights, groups, candidates -------------------------------------------------------------------------------------


@every
def test_weights_are_repeated_rows_that_are_one_group(name):
    case, w = CASES[name], np.random.default_rng(9).integers(1, 4, N)
    rows = np.repeat(np.arange(N), w)
    one = measure(name).fidelity(case.truth, case.prediction, weights=w)
    other = measure(name).fidelity(taken(case.truth, rows), taken(case.prediction, rows), groups=rows)
    if name in ("r2", "pearson_correlation", "spearman_correlation"):
        # the first two centre on the mean of the rows given, which resamples them in another order; Spearman's correction
        # for small samples knows rows, not groups
        assert one.value == pytest.approx(other.value, abs=1e-9)
        assert numbers(one) == pytest.approx(numbers(other), abs=5e-3)
    else:
        assert_same(one, other, 1e-9)


@every
def test_one_row_a_group_is_no_groups(name):
    case = CASES[name]
    one = measure(name).fidelity(case.truth, case.prediction)
    other = measure(name).fidelity(case.truth, case.prediction, groups=[f"row {i}" for i in range(N)])
    assert_same(one, other, 0.0)
    assert (one.groups, other.groups) == (None, N)


@every
def test_equal_weights_are_no_weights_and_zeros_leave_rows_out(name):
    case = CASES[name]
    one = measure(name).fidelity(case.truth, case.prediction)
    assert_same(one, measure(name).fidelity(case.truth, case.prediction, weights=np.full(N, 7.0)), 0.0)
    keep = np.arange(100)
    left = measure(name).fidelity(taken(case.truth, keep), taken(case.prediction, keep))
    zeros = measure(name).fidelity(case.truth, case.prediction, weights=np.repeat([2.0, 0.0], [100, N - 100]))
    assert_same(left, zeros, 0.0)
    assert zeros.n == 100


@every
def test_copies_of_rows_are_no_new_evidence_when_they_are_groups(name):
    case, rows = CASES[name], np.repeat(np.arange(N), 10)
    one = measure(name).fidelity(case.truth, case.prediction)
    copies = measure(name).fidelity(taken(case.truth, rows), taken(case.prediction, rows), groups=rows)
    blind = measure(name).fidelity(taken(case.truth, rows), taken(case.prediction, rows))
    assert copies.value == pytest.approx(one.value, abs=1e-9)
    assert copies.upper - copies.lower == pytest.approx(one.upper - one.lower, rel=0.02)
    assert blind.upper - blind.lower < 0.6 * (one.upper - one.lower)


@every
def test_the_best_of_several_has_a_wider_interval_at_the_same_level(name):
    case = CASES[name]
    one, best = (measure(name).fidelity(case.truth, case.prediction, candidates=m) for m in (1, 20))
    corrected = measure(name).fidelity(case.truth, case.prediction, level=1 - 0.05 / 20)
    assert (best.level, best.candidates, corrected.candidates) == (0.95, 20, 1)
    assert_same(best, corrected, 1e-12)
    assert best.lower < one.lower < one.value < one.upper < best.upper


@every
def test_levels_and_seeds(name):
    case = CASES[name]
    widths = []
    for level in (0.5, 0.9, 0.99, 0.999):
        found = measure(name).fidelity(case.truth, case.prediction, level=level)
        widths.append(found.upper - found.lower)
        assert case.limits[0] <= found.lower <= found.value <= found.upper <= case.limits[1]
    assert np.all(np.diff(widths) > 0)
    one, same, drawn = (measure(name).fidelity(case.truth, case.prediction, random_state=seed) for seed in (5, 5, None))
    assert one == same
    assert drawn.value == one.value


@every
def test_few_rows_and_few_groups_still_have_an_interval(name):
    case = CASES[name]
    for n in (5, 8, 12):
        rows = np.arange(n)
        found = measure(name).fidelity(taken(case.truth, rows), taken(case.prediction, rows), groups=rows // 2)
        assert case.limits[0] <= found.lower < found.upper <= case.limits[1]
        assert found.groups == len(set(rows // 2))


# --- rare errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["r2", "rmse", "mae", "pearson_correlation", "kendall_tau", "spearman_correlation"])
def test_errors_on_a_few_rows_are_bounded_by_how_rare_they_are(name):
    rng = np.random.default_rng(10)
    y = rng.normal(size=500)
    z = y.copy()
    few = 1 if name == "kendall_tau" else 3  # which counts a row passed over as out of order, too
    z[:few] = [2.0, -1.5, 0.4][:few]
    found, exact = measure(name).fidelity(y, z), measure(name).fidelity(y, y)
    assert found.method == exact.method == "rare-error bound"
    best, worst = ("lower", "upper") if name in ("rmse", "mae") else ("upper", "lower")
    assert getattr(found, best) == pytest.approx(getattr(exact, best), abs=1e-12)
    assert abs(getattr(found, worst) - exact.value) > abs(getattr(exact, worst) - exact.value) > 0.005


def test_no_error_at_all_is_bounded_by_the_rule_of_three():
    y = np.random.default_rng(11).normal(size=300)
    found = measure("mae").fidelity(y, y)
    assert found.upper == pytest.approx((1 - 0.05 ** (1 / 300)) * np.abs(y - y.mean()).max())


def test_what_was_not_seen_may_be_in_the_heaviest_rows():
    y = np.random.default_rng(11).normal(size=300)
    weights = np.repeat([3.0, 0.5], [60, 240])  # on average 1
    for name, reach in (("mae", np.abs(y - y.mean()).max()), ("kendall_tau", 4.0)):
        found = measure(name).fidelity(y, y, weights=weights)
        assert found.upper - found.lower == pytest.approx(3 * (1 - 0.05 ** (1 / 300)) * reach)


def test_an_error_that_is_the_same_everywhere_leaves_room_for_exceptions():
    y = np.random.default_rng(12).normal(size=300)
    found = measure("mae").fidelity(y, y + 0.5)
    share = 1 - 0.05 ** (1 / 300)
    largest = np.abs(y - y.mean()).max()
    assert numbers(found) == pytest.approx([0.5, (1 - share) * 0.5, (1 - share) * 0.5 + share * largest])
    r2 = measure("r2").fidelity(y, y + 0.5)  # whose other half, the variance, is as uncertain as ever
    half = 1.96 * np.std((y - y.mean()) ** 2 / y.var()) / np.sqrt(300) * (1 - r2.value)
    assert r2.lower < r2.value - 0.8 * half < r2.value + 0.8 * half < r2.upper


def test_rounding_is_not_an_error():
    y = np.random.default_rng(13).normal(size=200)
    rounded = (y * 1e3 + 1e3 - 1e3) / 1e3
    assert np.any(rounded != y)
    for name in ("r2", "rmse", "mae"):
        assert measure(name).fidelity(y, y * (1 + 2e-16)).method == "rare-error bound"
    assert measure("pearson_correlation").fidelity(y, 3 * y + 7).value == 1.0
    assert measure("pearson_correlation").fidelity(y, 3 * y + 7).method == "rare-error bound"


def test_spearman_near_one_reaches_up_to_the_population():
    # in small samples it lies below its value in the population: an interval about the sample's would miss it
    rng = np.random.default_rng(14)
    x = rng.normal(size=20_000)
    y = x + 0.05 * rng.normal(size=20_000)
    truth = stats.spearmanr(x, y).statistic
    parts = [measure("spearman_correlation").fidelity(x[i : i + 100], y[i : i + 100]) for i in range(0, 20_000, 100)]
    assert np.mean([part.value for part in parts]) < truth - 3e-4
    assert np.mean([part.lower <= truth <= part.upper for part in parts]) > 0.95


# --- numbers at the limits -------------------------------------------------------------------------------------------


def test_probabilities_of_zero_and_one():
    truth, prediction = np.array([[1.0, 0.0]] * 40), np.array([[0.0, 1.0]] * 40)
    assert measure("total_variation_similarity").fidelity(truth, prediction).value == 0.0
    assert measure("mean_squared_probability_error").fidelity(truth, prediction).value == 2.0
    found = measure("kl_divergence").fidelity(np.vstack([truth, truth[:, ::-1]]), np.vstack([prediction, truth]))
    assert found.value == pytest.approx(np.log(1e6) * (1 - 2e-6) / 1, rel=1e-3)
    assert KLDivergence(1e-3).fidelity(np.vstack([truth, truth[:, ::-1]]), np.vstack([prediction, truth])).value < 7


# --- what is refused -------------------------------------------------------------------------------------------------

ROWS = [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": [1.0, 2.0]}, r"expected weights of shape \(3,\), got shape \(2,\)"),
        ({"weights": [0.0, 0.0, 0.0]}, "at least one positive weight"),
        ({"weights": [0.0, 0.0, 1.0]}, "at least 2 rows to measure on, got 1"),
        ({"weights": [1.0, -1.0, 1.0]}, "weights of 0 or more, got -1"),
        ({"weights": ["a", "b", "c"]}, "expected weights to be numbers"),
        ({"groups": [1, 1, 1]}, "expected at least 2 groups, got one"),
        ({"groups": [1, 1, 2], "weights": [1.0, 1.0, 0.0]}, "expected at least 2 groups, got one"),
        ({"groups": [1, 2]}, "expected one group label a row"),
        ({"level": 0.0}, "level between 0 and 1"),
        ({"level": 95}, "level between 0 and 1"),
        ({"level": None}, "level between 0 and 1"),
        ({"candidates": 0}, "candidates to be a whole number of 1 or more, got 0"),
        ({"candidates": 2.0}, "candidates to be a whole number of 1 or more, got 2.0"),
        ({"candidates": True}, "candidates to be a whole number"),
        ({"how": 3}, "expected how to be text, got 3"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        measure("mae").fidelity(ROWS, [1.0, 2.5, 3.5], **settings)


def test_too_few_rows_for_an_extreme_level_is_said():
    with pytest.raises(InvalidData, match=r"rmse has no finite interval at level .* on 2 independent rows or groups"):
        measure("rmse").fidelity([1.0, 2.0], [1.5, 2.1], level=1 - 1e-9)


@pytest.mark.parametrize("other", [0.0, 0.5, -1.0, True])
def test_measures_refuse_other_settings(other):
    with pytest.raises(InvalidData, match="k to be a whole number of 1 or more"):
        TopKOverlap(other)
    with pytest.raises(InvalidData, match=r"a floor between 0 and 0\.5"):
        KLDivergence(other)


# --- the record and the list -----------------------------------------------------------------------------------------


@every
def test_the_record_says_what_it_rests_on(name):
    case = CASES[name]
    found = measure(name).fidelity(case.truth, case.prediction, region="box", how="a survey", groups=np.arange(N) // 3)
    assert (found.measure, found.n, found.groups, found.region, found.how) == (name, N, N // 3, "box", "a survey")
    assert found.greater_is_better == measure(name).greater_is_better == (case.best == 1.0)
    assert found.method in (
        "exact binomial", "dirichlet", "moment-matched beta", "studentised bootstrap", "linearised", "rare-error bound"
    )  # fmt: skip


def test_measures_by_name():
    assert all(found.name == name and measure(name) is found and measure(found) is found for name, found in MEASURES.items())
    usual = {
        "class": "agreement", "probability": "total_variation_similarity", "value": "r2", "interval": "interval_coverage",
        "ranking": "kendall_tau", "sequence": "token_agreement",
    }  # fmt: skip
    assert {output: default_measure(output).name for output in usual} == usual
    with pytest.raises(InvalidData, match=r"expected a measure, one of agreement, .*; got 'accuracy'"):
        measure("accuracy")
    with pytest.raises(InvalidData, match=r"expected an output, one of class, .*; got 'image'"):
        default_measure("image")


def test_a_measure_of_ones_own():
    class Within(RowMeasure):
        name, kind = "within_one", "value"

        def scores(self, truth, prediction):
            return (np.abs(truth - prediction) <= 1.0).astype(float)

    class CubicError(ErrorMeasure):
        name, kind, greater_is_better = "cubic_error", "value", False

        def terms(self, truth, prediction):
            return np.abs(np.column_stack([truth - prediction, truth - truth.mean()])) ** 3

        def combine(self, means):
            return np.log(means[..., 0])

    y, z = _values()
    assert measure(Within()).fidelity(y, z).value == np.mean(np.abs(y - z) <= 1.0)
    found = CubicError().fidelity(y, z)
    assert found.value == pytest.approx(np.mean(np.abs(y - z) ** 3))
    assert found.lower < found.value < found.upper
    with pytest.raises(TypeError, match="abstract"):
        Measure()
