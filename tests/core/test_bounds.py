"""Intervals: exact where a formula is known, never narrower than proven rivals, and blind to what must not matter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import stdtrit

from locum.core import bounds
from locum.core.bounds import Interval, binomial, bootstrap, bounded_mean, linearised, survey_proportion
from locum.core.errors import InvalidData

METHODS = ("dirichlet", "betting", "empirical_bernstein")


def ends(interval):
    return [interval.lower, interval.upper]


def log_mean(means):
    return np.log(means[..., 0])


def skewed(n, seed=0):
    return np.random.default_rng(seed).beta(6, 1, n)


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("n", [1, 2, 7, 50, 1000, 10**6])
def test_binomial_is_the_exact_interval_of_scipy(n, level):
    for count in sorted({0, 1, n // 3, n - 1, n}):
        expected = stats.binomtest(count, n).proportion_ci(level, method="exact")
        assert ends(binomial(count, n, level)) == pytest.approx([expected.low, expected.high], rel=1e-9, abs=1e-12)


def test_binomial_gives_the_numbers_of_the_manual_of_r():
    # example(binom.test): 682 of 925 plants (Conover 1971, page 97)
    assert ends(binomial(682, 925)) == pytest.approx([0.7076683, 0.7654066], abs=1e-7)


def test_binomial_without_a_failure_is_the_closed_form():
    assert binomial(40, 40).lower == pytest.approx(0.025 ** (1 / 40))
    assert ends(binomial(0, 40)) == pytest.approx([0.0, 1 - 0.025 ** (1 / 40)])


def test_binomial_takes_counts_between_whole_numbers():
    low, mid, high = (binomial(x, 20).lower for x in (15, 15.5, 16))
    assert low < mid < high


@pytest.mark.parametrize(("count", "n"), [(-1, 10), (11, 10), (0, 0), (np.nan, 10), (1, np.inf)])
def test_binomial_refuses_impossible_counts(count, n):
    with pytest.raises(InvalidData, match="expected a count between 0 and n > 0"):
        binomial(count, n)


# --- bounded scores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 5, 40, 1000])
def test_on_zeros_and_ones_dirichlet_is_clopper_pearson(n):
    for count in sorted({0, 1, n // 2, n - 1, n}):
        scores = np.repeat([1.0, 0.0], [count, n - count])
        assert ends(bounded_mean(scores)) == ends(binomial(count, n))
        mapped = bounded_mean(4 * scores - 3, -3.0, 1.0)
        assert ends(mapped) == pytest.approx([4 * end - 3 for end in ends(binomial(count, n))], abs=1e-12)


def test_dirichlet_is_continuous_where_it_turns_exact():
    scores = np.repeat([1.0, 0.0], [180, 20])
    assert ends(bounded_mean(np.clip(scores, 0, 1 - 1e-9))) == pytest.approx(ends(binomial(180, 200)), abs=5e-4)


@pytest.mark.parametrize(("n", "score"), [(2, 0.5), (10, 0.9), (200, 0.7)])
def test_dirichlet_of_equal_scores_is_the_closed_form(n, score):
    # Σ D x = score (1 - D_0), and P(D_0 >= t) = (1 - t)^n; the saddlepoint formula is within 2 % of that
    found = bounded_mean(np.full(n, score))
    assert found.lower == pytest.approx(score * 0.025 ** (1 / n), rel=0.02)
    assert 1 - found.upper == pytest.approx((1 - score) * 0.025 ** (1 / n), rel=0.02)


@pytest.mark.parametrize("scores", [[0.3, 0.9], [0.2, 0.5, 0.9, 0.0], skewed(12), skewed(60, 3)])
def test_dirichlet_is_the_quantile_of_random_means(scores):
    scores = np.asarray(scores)
    parts = np.random.default_rng(1).dirichlet(np.ones(len(scores) + 1), 200_000)
    means = parts[:, 1:] @ scores
    found = bounded_mean(scores)
    assert np.mean(means <= found.lower) == pytest.approx(0.025, abs=0.0026)
    assert np.mean(means + parts[:, 0] >= found.upper) == pytest.approx(0.025, abs=0.0026)


@pytest.mark.parametrize("scores", [np.full(60, 0.9), [0.5, 0.6, 0.4, 0.55, 0.45, 0.65]])
def test_betting_is_the_region_that_no_gambler_rejects(scores):
    def capital(told, m):  # the most that betting on a mean above m brings, one score after the other
        n, log, best, mean, squares = len(told), 0.0, -np.inf, 0.5, 0.25
        for t, score in enumerate(told, start=1):
            bet = np.sqrt(2 * np.log(40) / (n * squares / t))
            log += np.log1p(min(bet, 0.75 / m) * (score - m))
            best = max(best, log)
            mean = (0.5 + sum(told[:t])) / (t + 1)
            squares += (score - mean) ** 2
        return best

    def rejected_below(end, told):
        return capital(told, end - 1e-6) > np.log(40) > capital(told, end + 1e-6)

    found = bounded_mean(scores, method="betting")
    orders = [scores] if len(scores) > 6 else [list(order) for order in itertools.permutations(scores)]  # which is not told
    assert any(
        rejected_below(found.lower, told) and rejected_below(1 - found.upper, [1 - score for score in told]) for told in orders
    )


def test_the_order_of_betting_is_not_known_beforehand():
    # with one order for every sample, the same ranks would be bet on first, and intervals would miss more than they say
    ends_in_errors = []
    for seed in range(12):
        x = skewed(3000, seed)
        found = bounded_mean(x, method="betting")
        ends_in_errors.append((found.lower - x.mean()) / (x.std() / np.sqrt(3000)))
    assert np.std(ends_in_errors) > 0.1


def test_empirical_bernstein_is_the_formula():
    x, log = skewed(400), np.log(4 / 0.05)
    half = np.sqrt(2 * x.var(ddof=1) * log / 400) + 7 * log / (3 * 399)
    found = bounded_mean(x, method="empirical_bernstein")
    assert ends(found) == pytest.approx([x.mean() - half, min(1.0, x.mean() + half)])


@pytest.mark.parametrize("n", [30, 300, 3000])
def test_proven_intervals_contain_the_tight_one(n):
    for seed in range(3):
        tight, bernstein = (bounded_mean(skewed(n, seed), method=method) for method in ("dirichlet", "empirical_bernstein"))
        assert bernstein.lower <= tight.lower <= tight.upper <= bernstein.upper
        orders = [bounded_mean(skewed(n, seed), method="betting", random_state=order) for order in range(8)]
        lower, upper = np.mean([ends(one) for one in orders], axis=0)
        assert lower <= tight.lower <= tight.upper <= upper


@pytest.mark.parametrize("method", METHODS)
def test_bounded_mean_follows_its_limits_and_mirrors(method):
    x = skewed(80)
    found = bounded_mean(x, method=method)
    moved = bounded_mean(10 * x - 5, -5.0, 5.0, method=method)
    assert ends(moved) == pytest.approx([10 * end - 5 for end in ends(found)], abs=1e-6)
    if method != "betting":  # which meets mirrored scores in another order
        mirrored = bounded_mean(1 - x, method=method)
        assert ends(mirrored) == pytest.approx([1 - found.upper, 1 - found.lower], abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scores", [[0.0, 0.0], [1.0, 1.0], [0.3, 0.3], [0.0, 1.0], [1e-300, 1e-300], [1 - 1e-16, 1.0]])
def test_bounded_mean_of_two_scores_stays_within_limits_and_has_a_width(method, scores):
    for level in (0.5, 0.95, 0.999, 1 - 1e-9):
        found = bounded_mean(scores, level=level, method=method)
        assert 0.0 <= found.lower <= np.mean(scores) <= found.upper <= 1.0
        assert found.upper - found.lower > 0.3


@pytest.mark.parametrize("method", METHODS)
def test_many_scores(method):
    x = skewed(400_000)
    found = bounded_mean(x, method=method)
    normal = 1.96 * x.std() / np.sqrt(len(x))
    assert found.lower < x.mean() - 0.99 * normal < x.mean() + 0.99 * normal < found.upper
    assert found.upper - found.lower < 6 * normal


def test_a_row_that_outweighs_all_others_leaves_little_known():
    weights = np.ones(500)
    weights[0] = 1e9
    found = bounded_mean(np.full(500, 0.9), weights=weights)
    assert found.lower < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": [0.1, 1.5]}, r"expected scores within \[0, 1\], got \[0.1, 1.5\]"),
        ({"x": [0.1, np.nan]}, "expected finite scores, got NaN or infinity at row 1"),
        ({"x": ["a", "b"]}, "expected scores to be numbers"),
        ({"x": [[0.1], [0.2]]}, r"expected scores of shape \(n,\), got shape \(2, 1\)"),
        ({"x": [0.5]}, "at least 2 rows to measure on, got 1"),
        ({"low": 1.0, "high": 1.0}, "finite limits low < high"),
        ({"high": np.inf}, "finite limits low < high"),
        ({"level": 1.0}, "level between 0 and 1"),
        ({"level": "0.95"}, "level between 0 and 1"),
        ({"method": "hoeffding"}, "expected method 'dirichlet', 'betting' or 'empirical_bernstein', got 'hoeffding'"),
        ({"method": "empirical_bernstein", "weights": [1, 2, 3]}, "needs equal weights and group sizes"),
        ({"method": "betting", "random_state": -1}, "expected random_state as a whole number"),
        ({"weights": [1, 2]}, r"expected weights of shape \(3,\)"),
        ({"weights": [1, -2, 1]}, "expected weights of 0 or more, got -2"),
        ({"weights": [0, 0, 0]}, "at least one positive weight"),
        ({"weights": [1, np.inf, 1]}, "expected finite weights"),
        ({"weights": [0, 1, 0]}, "at least 2 rows or groups of positive weight"),
        ({"weights": [1, 1, 0], "groups": [1, 1, 2]}, "at least 2 rows or groups of positive weight"),
        ({"groups": ["a", "a", "a"]}, "expected at least 2 groups, got one"),
        ({"groups": ["a", "b"]}, r"one group label a row, shape \(3,\), got shape \(2,\)"),
        ({"groups": ["a", None, "b"]}, "a group for every row, got a missing one at row 1"),
        ({"groups": [1.0, 2.0, np.nan]}, "a group for every row, got a missing one at row 2"),
    ],
)
def test_bounded_mean_refuses(change, message):
    with pytest.raises(InvalidData, match=message):
        bounded_mean(**{"x": [0.1, 0.5, 0.9], **change})


# --- weights and groups ----------------------------------------------------------------------------------------------


def every_interval(x, **sample):
    """Each function that takes weights and groups, on one column of scores."""
    influence = x - x.mean() if "weights" not in sample else x - np.average(x, weights=sample["weights"])
    return {
        "dirichlet": bounded_mean(x, **sample),
        "betting": bounded_mean(x, method="betting", **sample),
        "beta": survey_proportion(x, **sample),
        "bootstrap": bootstrap(x[:, None], log_mean, **sample),
        "linearised": linearised(0.5, influence, **sample),
    }


def assert_same(one, other, tolerance=1e-9):
    for name, interval in one.items():
        assert ends(interval) == pytest.approx(ends(other[name]), rel=tolerance, abs=tolerance), name


@pytest.mark.parametrize("n", [6, 60, 2500])
def test_one_row_a_group_is_no_groups(n):
    x = skewed(n)
    labels = np.array([f"g{i}" for i in np.random.default_rng(1).permutation(n)], dtype=object)
    assert_same(every_interval(x), every_interval(x, groups=labels), 0.0)


def test_equal_weights_are_no_weights_and_only_their_ratios_count():
    x = skewed(60)
    assert_same(every_interval(x), every_interval(x, weights=np.full(60, 3.0)), 0.0)
    w = np.random.default_rng(2).exponential(size=60)
    assert_same(every_interval(x, weights=w), every_interval(x, weights=1e6 * w))


def test_weights_are_repeated_rows_that_are_one_group():
    rng = np.random.default_rng(3)
    x, w = skewed(80), rng.integers(1, 5, 80)
    rows = np.repeat(np.arange(80), w)
    assert_same(every_interval(x, weights=w), every_interval(x[rows], groups=rows))


def test_rows_of_weight_zero_leave_no_trace():
    x, w = skewed(80), np.random.default_rng(4).exponential(size=80)
    w[::5] = 0.0
    kept = w > 0
    with_zeros, without = every_interval(x, weights=w), every_interval(x[kept], weights=w[kept])
    assert_same(with_zeros, without)


def test_the_order_of_rows_and_the_names_of_groups_do_not_matter():
    rng = np.random.default_rng(5)
    x, w, groups = skewed(120), rng.exponential(size=120), rng.integers(0, 30, 120)
    order = rng.permutation(120)
    names = rng.permutation(30)
    assert_same(
        every_interval(x, weights=w, groups=groups),
        every_interval(x[order], weights=w[order], groups=names[groups[order]]),
        1e-12,
    )


def test_alike_rows_widen_and_many_small_groups_do_not():
    rng = np.random.default_rng(6)
    x = np.repeat(rng.random(50) < 0.9, 20).astype(float)
    alone, grouped = every_interval(x), every_interval(x, groups=np.repeat(np.arange(50), 20))
    for name in alone:
        widths = [interval.upper - interval.lower for interval in (alone[name], grouped[name])]
        assert widths[1] > 3 * widths[0], name


def test_mixed_labels_are_groups_too():
    x = skewed(6)
    labels = np.array(["a", 1, "a", 1, (2, 3), (2, 3)], dtype=object)
    assert ends(bounded_mean(x, groups=labels)) == ends(bounded_mean(x, groups=[0, 1, 0, 1, 2, 2]))


# --- proportions and ratios ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 30, 5000])
def test_survey_proportion_of_independent_rows_is_clopper_pearson(n):
    for count in sorted({0, 1, n // 2, n - 1, n}):
        scores = np.repeat([1.0, 0.0], [count, n - count])
        assert ends(survey_proportion(scores)) == pytest.approx(ends(binomial(count, n)), abs=1e-9)


def test_groups_that_all_agree_count_as_one_row_each():
    found = survey_proportion(np.ones(1000), groups=np.arange(1000) // 25)
    assert ends(found) == pytest.approx(ends(binomial(40, 40)), abs=1e-9)


def test_groups_of_equal_rows_are_a_binomial_of_groups():
    scores = np.repeat(np.repeat([1.0, 0.0], [24, 6]), 11)
    found = survey_proportion(scores, groups=np.arange(330) // 11)
    assert ends(found) == pytest.approx(ends(binomial(24, 30)), abs=1e-9)


def test_survey_proportion_never_claims_more_than_independent_rows():
    scores = np.tile([1.0, 0.0], 50)  # each group half right: no spread between groups at all
    found = survey_proportion(scores, groups=np.arange(100) // 2)
    alone = binomial(50, 100)
    assert found.upper - found.lower >= (alone.upper - alone.lower) * 0.999


def test_survey_proportion_knows_the_influence_of_a_plain_mean():
    x, w = skewed(70), np.random.default_rng(1).exponential(size=70)
    given = survey_proportion(x, weights=w, influence=x - np.average(x, weights=w))
    assert ends(given) == pytest.approx(ends(survey_proportion(x, weights=w)), abs=1e-12)


def test_survey_proportion_refuses_other_scores_and_influences():
    with pytest.raises(InvalidData, match=r"expected scores within \[0, 1\]"):
        survey_proportion([0.0, 2.0])
    with pytest.raises(InvalidData, match=r"expected influence of shape \(2,\)"):
        survey_proportion([0.0, 1.0], influence=[1.0])


# --- functions of means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [40, 400, 4000])
def test_bootstrap_of_an_even_mean_is_students(n):
    x = np.random.default_rng(n).normal(size=n)
    found = bootstrap(x[:, None], lambda means: means[..., 0])
    expected = stats.t.interval(0.95, n - 1, x.mean(), x.std(ddof=1) / np.sqrt(n))
    assert ends(found) == pytest.approx(expected, abs=0.12 * (expected[1] - expected[0]))
    assert found.method == "studentised bootstrap"


def test_bootstrap_of_two_values_is_the_binomial_one():
    # how many of 12 draws are a two is binomial: the quantiles at 2.5 and 97.5 % lie at 3 and 9 of them
    def studentised(twos):
        sample = np.repeat([1.0, 2.0], [12 - twos, twos])
        return np.log(sample.mean() / 1.5) / (sample.std(ddof=1) / np.sqrt(12) / sample.mean())

    found = bootstrap(np.repeat([1.0, 2.0], 6)[:, None], log_mean, resamples=20_000)
    error = np.std([1.0, 2.0] * 6, ddof=1) / np.sqrt(12) / 1.5
    expected = [np.log(1.5) - studentised(9) * error, np.log(1.5) - studentised(3) * error]  # freedom is 11: no stretch
    assert ends(found) == pytest.approx(expected, rel=1e-5)


def test_bootstrap_leans_towards_the_long_tail():
    x = np.random.default_rng(0).exponential(size=60)
    found = bootstrap(x[:, None], lambda means: means[..., 0])
    assert found.upper - x.mean() > 1.2 * (x.mean() - found.lower)


def test_bootstrap_widens_where_few_rows_carry_the_spread():
    x = np.random.default_rng(0).normal(size=200)
    x[:3] = [9.0, -8.0, 7.0]

    def width(values):
        found = bootstrap(values[:, None], lambda means: means[..., 0])
        return (found.upper - found.lower) / (2 * stats.sem(values))

    assert width(x) > 1.08 * width(np.random.default_rng(0).normal(size=200))


@pytest.mark.parametrize("n", [2, 5, 9])
def test_bootstrap_of_fewer_than_ten_units_is_students_formula(n):
    x = np.arange(1.0, n + 1.0) ** 2
    effects = (x - x.mean()) / x.mean()  # of each row on the log of the mean
    error = np.sqrt((effects**2).sum() / (n * (n - 1)))
    freedom = min(n - 1, (effects**2).sum() ** 2 / (effects**4).sum())
    half = -stdtrit(freedom, 0.025) * error
    found = bootstrap(x[:, None], log_mean)
    assert ends(found) == pytest.approx([np.log(x.mean()) - half, np.log(x.mean()) + half], rel=1e-6)
    assert found.method == "linearised"


def test_bootstrap_widens_with_the_level_beyond_what_resamples_show():
    x = np.random.default_rng(1).exponential(size=(100, 1))
    widths = [np.ptp(ends(bootstrap(x, log_mean, level))) for level in (0.5, 0.9, 0.95, 0.99, 0.9975, 0.9999, 1 - 1e-9)]
    assert np.all(np.diff(widths) > 0)


def test_same_seed_same_interval_and_the_global_generator_is_untouched():
    x = np.random.default_rng(1).exponential(size=(100, 1))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, same, other = (bootstrap(x, log_mean, random_state=seed) for seed in (3, np.int64(3), 4))
    drawn = [bootstrap(x, log_mean, random_state=np.random.default_rng(0)) for _ in range(2)]
    assert one == same
    assert drawn[0] == drawn[1]
    assert one != other
    assert ends(one) == pytest.approx(ends(other), abs=0.05)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_bootstrap_of_many_rows_sums_them_in_blocks():
    x = np.random.default_rng(1).exponential(size=(200_000, 1))
    found = bootstrap(x, log_mean)
    half = 1.96 * x.std() / x.mean() / np.sqrt(len(x))
    assert ends(found) == pytest.approx([np.log(x.mean()) - half, np.log(x.mean()) + half], abs=0.2 * half)


def test_resamples_on_which_the_statistic_is_undefined_do_not_count():
    y = np.zeros((40, 2))
    y[:, 0] = np.random.default_rng(0).exponential(size=40)
    y[:3, 1] = [1.0, 2.0, 3.0]  # a resample without these has nothing to divide by
    found = bootstrap(y, lambda means: np.log(means[..., 0] / means[..., 1]))
    assert np.isfinite(ends(found)).all()
    assert found.upper - found.lower > 2.0


def test_a_constant_has_no_spread():
    assert ends(bootstrap(np.full((50, 1), 2.0), log_mean)) == [np.log(2.0)] * 2


@pytest.mark.parametrize(
    ("terms", "settings", "message"),
    [
        ([1.0, 2.0], {}, r"expected terms of shape \(n, k\), got shape \(2,\)"),
        ([[1.0], [np.nan]], {}, "expected finite terms, got NaN or infinity at row 1"),
        (np.zeros((20, 1)), {}, "expected a statistic that is defined on these rows"),
        (np.ones((20, 1)), {"resamples": 100}, "expected 200 or more resamples, got 100"),
        (np.ones((20, 1)), {"random_state": "a"}, "expected random_state as a whole number"),
        ([[1e-300], [1.0]], {"level": 1 - 1e-320}, "level between 0 and 1"),
    ],
)
def test_bootstrap_refuses(terms, settings, message):
    with pytest.raises(InvalidData, match=message):
        bootstrap(terms, log_mean, **settings)


def test_bootstrap_refuses_a_statistic_that_most_resamples_leave_undefined():
    y = np.random.default_rng(0).random((40, 2))
    y[:, 1] = np.arange(40) < 1  # drawn once in 37 % of the resamples, and more than once in 26 %

    def where(defined):
        return bootstrap(y, lambda means: np.where(defined(means[..., 1]), means[..., 0], np.nan))

    with pytest.raises(InvalidData, match="undefined on most resamples"):
        where(lambda share: np.abs(share - 1 / 40) < 1e-3)
    assert np.isfinite(ends(where(lambda share: share > 0.5 / 40))).all()


# --- correlations ----------------------------------------------------------------------------------------------------


def test_linearised_is_the_formula():
    influence = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    error = np.sqrt((influence**2).sum() / (5 * 4)) / (1 - 0.6**2)
    freedom = (influence**2).sum() ** 2 / (influence**4).sum()
    half = -stdtrit(freedom, 0.025) * error
    assert ends(linearised(0.6, influence)) == pytest.approx(np.tanh(np.arctanh(0.6) + np.array([-half, half])))


def test_linearised_correlation_is_fishers_interval():
    rng = np.random.default_rng(0)
    x = rng.normal(size=2000)
    y = 0.8 * x + 0.6 * rng.normal(size=2000)
    zx, zy = stats.zscore(x), stats.zscore(y)
    r = float(np.mean(zx * zy))
    found = linearised(r, zx * zy - r * (zx**2 + zy**2) / 2)
    assert ends(found) == pytest.approx(list(stats.pearsonr(x, y).confidence_interval(0.95)), abs=2e-3)


@pytest.mark.parametrize("value", [-1.0, 1.0, 1.5, np.nan])
def test_linearised_refuses_the_ends_of_the_scale(value):
    with pytest.raises(InvalidData, match="strictly between -1 and 1"):
        linearised(value, [0.1, -0.1])


# --- the record ------------------------------------------------------------------------------------------------------


def test_an_interval_is_widened_to_hold_the_estimate():
    interval = Interval(0.2, 0.4, 0.95, "x")
    assert ends(interval.including(0.3)) == [0.2, 0.4]
    assert ends(interval.including(0.5)) == [0.2, 0.5]
    assert ends(interval.including(0.1)) == [0.1, 0.4]
    assert interval.including(0.1).method == "x"


def test_check_sample_gives_codes_and_weights_of_mean_one():
    weights, groups = bounds.check_sample(3, [1, 2, 3], ["b", "a", "b"])
    assert weights == pytest.approx([0.5, 1.0, 1.5])
    assert groups.tolist() == [1, 0, 1]
    assert bounds.check_sample(3, [2, 2, 2]) == (None, None)
