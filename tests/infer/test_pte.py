"""The share of an effect that an early outcome explains: identities, hand-worked weights, planted truth, invariances."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from locum.infer.pte import NoEffectError, SurrogatePTE, pte_curve

T0, T = 1.5, 4.0


def world(n, seed, *, censor=True):
    """Treatment delays progression and lengthens life after it; (time, event, arm, surrogate) and what is behind them."""
    rng = np.random.default_rng(seed)
    arm = np.repeat([0, 1], n // 2)
    progression = rng.exponential(np.where(arm, 3.0, 1.8))
    other = rng.exponential(np.where(arm, 12.0, 10.0))
    after = rng.exponential(np.where(arm, 3.2, 2.4) * (0.5 + 0.4 * np.minimum(progression, 2.0)))
    death = np.minimum(other, progression + after)
    end = np.minimum(rng.exponential(np.where(arm, 16.0, 7.0)), rng.uniform(4, 9, n)) if censor else np.full(n, 1e6)
    time = np.minimum(death, end)
    return (time, death <= end, arm, np.where(progression < time, progression, np.nan)), progression, death


def exact(arm, state, answer):
    """PTE where all is seen, by states of the early information; state 0 is dead."""
    p = [np.bincount(state[arm == a], minlength=state.max() + 1)[1:] / (arm == a).sum() for a in (0, 1)]
    y = [np.bincount(state[arm == a], answer[arm == a], state.max() + 1)[1:] / (arm == a).sum() for a in (0, 1)]
    multiplier = (y[0].sum() - (p[0] * y[1] / p[1]).sum()) / (p[0] ** 2 / p[1]).sum()
    return 1 + multiplier * p[0].sum() / (y[1].sum() - y[0].sum()), (multiplier * p[0] + y[1]) / p[1]


def states(progression, death, cells):
    seen = (progression <= T0) & (progression < death)
    cell = 1 + np.minimum(np.where(seen, progression, 0) / T0 * cells, cells - 1).astype(int)
    return np.where(death <= T0, 0, np.where(seen, cell, cells + 1))


def quick(**settings):
    return SurrogatePTE(**({"t0": T0, "t": T, "n_splits": 4, "n_perturb": 50} | settings))


@pytest.fixture(scope="module")
def rows():
    return world(1200, 0)[0]


@pytest.fixture(scope="module")
def fitted(rows):
    return quick().fit(*rows)


# ---------------------------------------------------------------------- known answers
def by_hand(copies):
    """Five rows an arm; copies of all of them leave every hazard as it is."""
    time = [1, 2, 2, 3, 5, 1, 2, 4, 5, 5]
    event = [0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
    surrogate = [np.nan, 1, np.nan, 0.5, np.nan, np.nan, 0.5, 1, np.nan, np.nan]
    return tuple(np.tile(column, copies) for column in (np.array(time, float), event, np.repeat([0, 1], 5), surrogate))


def lost(copies, at_risk):
    """Nelson and Aalen's sum where as many as there are copies leave one after another."""
    return np.sum(1 / (at_risk * copies - np.arange(copies)))


def test_the_effect_follows_from_hand_worked_censoring_weights():
    # Arm 0: one of 5 at risk is censored at 1, one of 3 at 2, since the death at 2 comes first. Arm 1: one of 4 at 2.
    first, both, other = np.exp(lost(60, 5)), np.exp(lost(60, 5) + lost(60, 3)), np.exp(lost(60, 4))
    zero = both / (first + both + both)  # dead at 2, dead at 3, alive at 3
    one = 3 * other / (1 + 3 * other)  # dead at 1, three alive at 3
    found = SurrogatePTE(1.5, 3.0, n_splits=2, n_perturb=50).fit(*by_hand(60))
    assert found.delta_ == pytest.approx(one - zero, rel=1e-12)
    np.testing.assert_allclose(found.survival_.value[:, -1], [zero, one])
    assert [zero, one] == pytest.approx([3 / 8, 4 / 5], abs=0.005)  # Kaplan and Meier's 3/4 · 1/2, and 4/5


def test_who_is_censored_at_t_is_alive_at_t():
    with pytest.raises(NoEffectError) as caught:
        SurrogatePTE(1.5, 2.0, n_splits=2, n_perturb=50).fit(*by_hand(30))
    assert caught.value.delta == pytest.approx(4 / 5 - 3 / 4, rel=1e-12)
    assert caught.value.interval.lower < 0 < caught.value.interval.upper


def visits(n=3000, seed=0):
    """No censoring, and progression seen at three visits."""
    (time, event, arm, surrogate), _, death = world(n, seed, censor=False)
    seen = np.ceil(surrogate * 2) / 2
    return (time, event, arm, np.where(seen < time, seen, np.nan)), death


def test_without_censoring_everything_is_a_plain_average():
    (time, event, arm, surrogate), death = visits()
    found = quick(trim=0.0).fit(time, event, arm, surrogate)
    alive, early = death > T, surrogate <= T0
    state = np.where(death <= T0, 0, np.where(early, np.nan_to_num(surrogate * 2), 4)).astype(int)
    share, g = exact(arm, state, alive.astype(float))
    assert found.bandwidth_ == 0.0
    assert found.delta_ == pytest.approx(alive[arm == 1].mean() - alive[arm == 0].mean(), rel=1e-12)
    assert found.plug_in_ == pytest.approx(share, rel=1e-9)
    np.testing.assert_allclose([*found.g_([0.5, 1.0, 1.5]), found.g_plus_], g)
    np.testing.assert_allclose(found.transform(time, event, surrogate), np.append(0, g)[state])


def test_the_constraint_and_the_identity_of_the_transformation():
    (time, event, arm, surrogate), death = visits(seed=3)
    found = quick(trim=0.0).fit(time, event, arm, surrogate)
    g = found.transform(time, event, surrogate)
    alive0, alive = (death[arm == 0] > T0).mean(), [(death[arm == a] > T).mean() for a in (0, 1)]
    assert g[arm == 0].mean() == pytest.approx(alive[0], rel=1e-9)
    assert g[arm == 1].mean() == pytest.approx(alive[1] + found.multiplier_ * alive0, rel=1e-9)
    assert found.plug_in_ == pytest.approx(1 + found.multiplier_ * alive0 / found.delta_, rel=1e-9)


def test_the_identity_holds_with_a_kernel_up_to_its_smoothing(rows, fitted):
    score = fitted.score_trial(*rows)
    assert score.delta_g == pytest.approx(fitted.plug_in_ * fitted.delta_, abs=0.005)


def test_being_alive_alone_explains_its_closed_form():
    (time, event, arm, surrogate), death = visits(10_000)
    found = quick(n_splits=1).fit(time, event, arm, surrogate)
    early, late = ([(death[arm == a] > u).mean() for a in (0, 1)] for u in (T0, T))
    assert found.pte_alive_only_ == pytest.approx(late[0] / early[0] * (early[1] - early[0]) / (late[1] - late[0]), abs=1e-3)
    assert found.increment_ == pytest.approx(found.pte_ - found.pte_alive_only_)


def test_the_restricted_mean_is_that_of_the_time_lived():
    (time, event, arm, surrogate), death = visits()
    found = quick(outcome="restricted mean", trim=0.0).fit(time, event, arm, surrogate)
    lived = np.minimum(death, T)
    assert found.delta_ == pytest.approx(lived[arm == 1].mean() - lived[arm == 0].mean(), abs=2e-3)
    said = found.transform(time, event, surrogate)
    assert said[arm == 0].mean() == pytest.approx(lived[arm == 0].mean(), abs=2e-3)
    assert said[arm == 1].mean() - said[arm == 0].mean() == pytest.approx(found.plug_in_ * found.delta_, abs=2e-3)
    np.testing.assert_array_equal(said[death <= T0], death[death <= T0])
    assert found.pte_ > quick(trim=0.0).fit(time, event, arm, surrogate).pte_  # what was lived by t0 is known


# ---------------------------------------------------------------------- planted truth
@pytest.fixture(scope="module")
def large():
    """The truth from a million uncensored rows, and one large censored trial."""
    (*_, arm, _), progression, death = world(1_000_000, 9, censor=False)
    alive = (death > T).astype(float)
    blind = np.where((progression <= T0) & (progression < death), 1 + (progression / T0 * 20).astype(int).clip(0, 19), 21)
    truth = exact(arm, states(progression, death, 300), alive)[0]
    return truth, exact(arm, blind, alive)[0], world(40_000, 5)[0]


def test_the_planted_share_is_found_in_spite_of_censoring(large):
    truth, _, rows = large
    found = quick(n_splits=1).fit(*rows)
    assert found.pte_ == pytest.approx(truth, abs=0.03)
    assert found.pte_ci_.lower <= truth <= found.pte_ci_.upper


def test_death_is_part_of_what_is_known(large):
    truth, blind, _ = large
    assert blind < truth - 0.04


def test_censoring_must_not_be_taken_for_death(large):
    truth, _, (time, event, arm, surrogate) = large
    found = quick(n_splits=1).fit(time, np.ones_like(event), arm, surrogate)
    assert abs(found.pte_ - truth) > 0.05


def test_the_same_rows_flatter_the_transformation():
    gaps = []
    for seed in range(6):
        found = quick(n_splits=10).fit(*world(500, seed)[0])
        gaps.append(found.plug_in_ - found.pte_)
    assert np.mean(gaps) > 0.005


def test_small_trials_are_unbiased_on_average(large):
    found = [quick().fit(*world(2000, seed)[0]).pte_ for seed in range(12)]
    assert np.mean(found) == pytest.approx(large[0], abs=0.065)  # 2.5 standard errors


def test_all_that_acts_through_the_surrogate_is_explained():
    rng = np.random.default_rng(2)
    arm = np.repeat([0, 1], 2000)
    progression = rng.exponential(np.where(arm, 3.0, 1.5))
    death = progression + rng.exponential(2.0, 4000)
    surrogate = np.where(progression < death, progression, np.nan)
    found = quick(t0=3.0, t=3.2, n_perturb=100).fit(death, np.ones(4000), arm, surrogate)
    assert found.pte_ == pytest.approx(1.0, abs=0.05)
    assert found.pte_ci_.lower < 1 < found.pte_ci_.upper  # replicates above 1 are not dropped
    assert found.pte_alive_only_ < found.pte_


# ---------------------------------------------------------------------- invariances
def numbers(found):
    return [found.pte_, found.pte_ci_.lower, found.pte_ci_.upper, found.delta_, found.delta_g_, found.pte_alive_only_,
            found.split_sd_, *found.g_.value, found.fidelity_["g"].value]  # fmt: skip


def test_rows_in_another_order_give_the_same_numbers(rows, fitted):
    order = np.random.default_rng(1).permutation(len(rows[0]))
    assert numbers(quick().fit(*(column[order] for column in rows))) == numbers(fitted)


def test_the_seed_sets_the_numbers(rows, fitted):
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert numbers(clone(fitted).fit(*rows)) == numbers(fitted)
    assert quick(random_state=1).fit(*rows).pte_ != fitted.pte_
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_the_unit_of_time_does_not_matter(rows, fitted):
    time, event, arm, surrogate = rows
    found = quick(t0=12 * T0, t=12 * T).fit(12 * time, event, arm, 12 * surrogate)
    assert found.pte_ == pytest.approx(fitted.pte_, rel=1e-9)
    assert found.bandwidth_ == pytest.approx(12 * fitted.bandwidth_)


def test_the_arms_are_not_exchangeable(rows, fitted):
    time, event, arm, surrogate = rows
    found = quick().fit(time, event, 1 - arm, surrogate)
    assert found.delta_ == pytest.approx(-fitted.delta_)
    assert abs(found.pte_ - fitted.pte_) > 0.005


def test_one_stratum_is_no_stratum(rows, fitted):
    assert numbers(quick().fit(*rows, np.full(len(rows[0]), "only"))) == numbers(fitted)


def test_strata_make_up_for_unequal_allocation():
    rng = np.random.default_rng(4)
    stratum = np.repeat([0, 1], 4000)  # 80 % are treated in the stratum with the worse outlook
    arm = (rng.random(8000) < np.where(stratum, 0.8, 0.2)).astype(int)
    progression = rng.exponential((1 + arm) * np.where(stratum, 0.8, 2.5))
    death = progression + rng.exponential((1 + arm) * np.where(stratum, 0.8, 2.5))
    surrogate = np.where(progression < death, progression, np.nan)
    alive = death > 3
    truth = np.mean([alive[(stratum == s) & (arm == 1)].mean() - alive[(stratum == s) & (arm == 0)].mean() for s in (0, 1)])
    rows = death, np.ones(8000), arm, surrogate
    assert quick(t0=1.0, t=3.0).fit(*rows, stratum).delta_ == pytest.approx(truth, abs=1e-9)
    raw = alive[arm == 1].mean() - alive[arm == 0].mean()
    assert abs(raw - truth) > 0.1


# ---------------------------------------------------------------------- intervals, curve, other trials
def test_intervals_shrink_with_rows_and_surround_the_estimate(fitted):
    small = quick(n_splits=1, n_perturb=200).fit(*world(600, 0)[0])
    big = quick(n_splits=1, n_perturb=200).fit(*world(7200, 0)[0])
    for one in (small, big, fitted):
        assert one.pte_ci_.lower < one.pte_ < one.pte_ci_.upper
        assert one.g_.lower.max() <= one.g_.value.max()
    assert 2.2 < small.pte_se_ / big.pte_se_ < 8  # 3.5 in the limit, more where the effect is unclear


def test_fieller_and_quantiles_agree_where_the_effect_is_clear():
    rows = world(6000, 1)[0]
    one, other = (quick(interval=name, n_splits=1, n_perturb=300).fit(*rows).pte_ci_ for name in ("percentile", "fieller"))
    assert (one.method, other.method) == ("perturbation, quantiles", "Fieller")
    np.testing.assert_allclose([one.lower, one.upper], [other.lower, other.upper], atol=0.03)


def test_halves_vary_more_over_splits_than_pooled_effects(rows):
    pooled, halves = (quick(n_splits=20, ratio=ratio).fit(*rows) for ratio in ("pooled", "halves"))
    assert halves.pte_ == pytest.approx(pooled.pte_, abs=0.05)
    assert halves.split_sd_ > pooled.split_sd_


def test_the_transformation_beats_its_cheapest_rivals(fitted):
    errors = {name: one.value for name, one in fitted.fidelity_.items()}
    assert errors["g"] < errors["alive at t0"] < errors["constant"]
    assert errors["gain"] == pytest.approx(errors["alive at t0"] - errors["g"])
    assert fitted.fidelity_["gain"].lower > 0


def test_the_curve_holds_the_single_fits_and_is_wider(rows, fitted):
    curve = pte_curve(fitted, [1.0, T0, 2.5])
    assert curve.pte[1] == fitted.pte_
    assert curve.lower[1] <= fitted.pte_ci_.lower
    assert curve.upper[1] >= fitted.pte_ci_.upper
    assert curve.pte[2] > curve.pte[0]
    single = pte_curve(fitted, [T0])
    assert curve.lower[1] < single.lower[0] <= single.upper[0] < curve.upper[1]  # three times at once take more
    assert curve.earliest(curve.lower[2] - 1e-9) in (1.0, T0, 2.5)
    assert curve.earliest(5.0) is None


def test_a_later_dip_of_the_band_counts():
    from locum.infer.pte import PTECurve

    times = np.array([1.0, 2.0, 3.0, 4.0])
    lower = np.array([0.6, 0.2, 0.5, 0.7])
    assert PTECurve(times, lower, lower, lower, lower, 5.0, 0.95).earliest(0.4) == 3.0


def test_another_trial_is_scored_from_its_first_months_alone(fitted):
    time, event, arm, surrogate = world(800, 11)[0]
    score = fitted.score_trial(time, event, arm, surrogate)
    later = time > T0
    changed = fitted.score_trial(
        np.where(later, T0, time), np.where(later, 0, event), arm, np.where(surrogate > T0, np.nan, surrogate)
    )
    assert changed == score
    assert score.lower < score.delta_g < score.upper
    assert "n=800" in str(score)


def test_a_few_cells_without_mass_join_their_neighbours():
    (time, event, arm, surrogate), _, _ = world(2000, 3)
    gone = (arm == 1) & (surrogate > 0.6) & (surrogate < 0.9)
    found = quick(bandwidth=0.02).fit(time, event, arm, np.where(gone, surrogate + 0.6, surrogate).clip(max=time))
    assert 0.05 < found.trimmed_mass_ < 0.5
    assert np.isfinite(found.g_.value).all()
    assert np.abs(found.g_.value).max() < 3


def test_the_summary_prints_what_was_found(fitted):
    table = fitted.summary()
    assert table.rows[0][1:] == (fitted.pte_, fitted.pte_ci_.lower, fitted.pte_ci_.upper)
    said = str(table)
    assert "share explained" in said
    assert f"{fitted.delta_:.4f}" in said
