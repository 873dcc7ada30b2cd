"""Region: its false alarms are as rare as it says, and it says why a row lies outside."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.region import Region

REPEATS = 500


def source(rng, n, kind):
    """Rows of a source, as every repeat draws them anew."""
    if kind == "numbers":
        return rng.normal(size=(n, 3))
    if kind == "heavy tails":
        return rng.standard_t(1.5, size=(n, 2))
    rows = np.empty((n, 3), dtype=object)
    rows[:, 0] = rng.normal(size=n)
    rows[:, 1] = rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1])
    rows[:, 2] = rng.integers(0, 5, n)
    rows[rng.random(n) < 0.1, 0] = None
    return rows


@pytest.mark.parametrize("kind", ["numbers", "heavy tails", "mixed"])
def test_false_alarms_are_as_rare_as_said(kind):
    said, novel, outside = [], [], []
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        rows = source(rng, 150, kind)
        domain = Domain.of(rows)
        region = Region.of(domain, rows, false_alarm_rate=0.1, random_state=seed)
        fresh = source(rng, 50, kind)
        said.append(region.false_alarm_rate)
        novel.append((region.novelty(fresh) > region.threshold).mean())
        outside.append((~region.inside(fresh)).mean())
    noise = 3 * np.std(outside) / math.sqrt(REPEATS)
    assert np.mean(outside) <= np.mean(said) + noise
    assert np.mean(outside) >= np.mean(said) / 2  # it does call rows novel
    assert np.mean(novel) <= 0.1 + noise


def test_novelty_alone_takes_what_ranges_leave_of_the_false_alarms():
    rng = np.random.default_rng(0)
    rows = rng.uniform(size=(4000, 2))
    region = Region.of(Domain.of(rows), rows, false_alarm_rate=0.2)
    assert region.false_alarm_rate == pytest.approx(0.2)
    assert (region.novelty(rng.uniform(size=(4000, 2))) > region.threshold).mean() == pytest.approx(0.2, abs=0.03)


def test_the_share_of_rows_that_reach_beyond_all_others():
    rows = np.arange(100.0)[:, None]
    assert Region.of(Domain.of(rows), rows, false_alarm_rate=0.05).false_alarm_rate == pytest.approx(0.05)
    # Twenty ranges take 2 in 50 rows each; what is left for novelty is a fifth of what was wanted.
    rows = np.random.default_rng(0).normal(size=(50, 20))
    alone = np.zeros(50, dtype=bool)
    for column in rows.T:
        alone[[column.argmin(), column.argmax()]] = True
    region = Region.of(Domain.of(rows), rows, false_alarm_rate=0.5)
    assert region.false_alarm_rate == pytest.approx(alone.mean() + 0.1)


def test_the_share_of_rows_that_stand_alone_with_a_category_or_a_gap():
    rows = pd.DataFrame({"letter": ["a"] * 14 + ["b"] * 14 + ["c", "a"], "x": [1.0, 2.0] * 14 + [1.0, None]})
    domain = Domain.of(rows)
    assert Region.of(domain, rows).false_alarm_rate == pytest.approx(2 / 30)
    unknown = rows.assign(letter=["a"] * 14 + ["b"] * 14 + ["z", "z"], x=[1.0, 2.0] * 15)
    assert Region.of(domain, unknown).false_alarm_rate == pytest.approx(2 / 30)


def test_few_rows_have_ranges_only():
    rows = np.random.default_rng(0).normal(size=(39, 2))
    region = Region.of(Domain.of(rows), rows)
    assert region.threshold == math.inf
    assert region.inside(rows).all()
    assert region.inside([[0.0, 1e9]]).tolist() == [False]
    two = Region.of(Domain.of(rows), rows[:2])
    assert two.inside(rows[:2]).all()
    with pytest.raises(InvalidData, match="expected at least two rows to make a region of, got 1"):
        Region.of(Domain.of(rows), rows[:1])
    for rate in (0, 1, -0.1):
        with pytest.raises(InvalidData, match="expected a false-alarm rate between 0 and 1"):
            Region.of(Domain.of(rows), rows, false_alarm_rate=rate)


# ---------------------------------------------------------------------- what is inside
def frame(n=400, seed=0):
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 91, n).astype(float)
    out = pd.DataFrame({"age": age, "job": rng.choice(["clerk", "nurse"], n), "height": rng.normal(170, 10, n)})
    out["pay"] = 100 * age + rng.normal(0, 20, n)
    out.loc[::7, "height"] = np.nan
    out.loc[:1, "age"] = [18.0, 90.0]
    return out


@pytest.fixture(scope="module")
def region():
    rows = frame()
    return Region.of(Domain.of(rows), rows, false_alarm_rate=0.02)


def typical(**changes):
    rows = pd.DataFrame({"age": [50.0], "job": ["clerk"], "height": [170.0], "pay": [5000.0]})
    return rows.assign(**changes)


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, ()),
        ({"height": np.nan}, ()),
        ({"age": 17.0, "pay": 1800.0}, ("age = 17 is below 18, the lowest seen",)),
        ({"age": 91.5, "pay": 8950.0}, ("age = 91.5 is above 90, the highest seen",)),
        ({"job": "smith"}, ("job is a category never seen",)),
        ({"job": None}, ("job is missing",)),
        ({"age": np.nan}, ("age is missing",)),
        ({"job": "smith", "age": 10.0}, ("age = 10 is below 18, the lowest seen", "job is a category never seen")),
    ],
)
def test_ranges_categories_and_missing_values(region, changes, reasons):
    rows = typical(**changes)
    assert region.reasons(rows) == [reasons]
    assert region.in_range(rows).tolist() == [not reasons]
    assert region.inside(rows).tolist() == [not reasons]


def test_a_combination_that_never_occurred_is_novel(region):
    rows = typical(age=[20.0], pay=[8900.0])
    assert region.in_range(rows).all()
    assert not region.inside(rows).any()
    (reason,) = region.reasons(rows)[0]
    assert reason.startswith(f"unlike the rows seen: distance {region.novelty(rows)[0]:.3g} to them, threshold ")


def test_a_category_of_the_domain_that_did_not_occur_is_outside():
    rows = frame()
    domain = Domain.of(pd.concat([rows, typical(job="smith")]))
    region = Region.of(domain, rows)
    assert region.reasons(typical(job=["smith"])) == [("job is a category never seen",)]
    assert region.inside(typical()).all()
    assert Region.of(domain, pd.concat([rows, typical(job="smith")])).in_range(typical(job=["smith"])).all()


def test_rows_of_many_kinds_are_judged_one_by_one(region):
    rows = pd.concat([typical(), typical(job=None), frame(30, seed=1), typical(age=1.0)])
    together = region.inside(rows).tolist()
    assert together == [bool(region.inside(rows.iloc[[i]])[0]) for i in range(len(rows))]
    assert [not reasons for reasons in region.reasons(rows)] == together
    assert np.array_equal(region.novelty(rows), [region.novelty(rows.iloc[[i]])[0] for i in range(len(rows))])


# ---------------------------------------------------------------------- the distance
def test_novelty_is_the_city_block_distance_to_the_fifth_nearest_reference_row(region):
    rows = pd.concat([frame(40, seed=2), typical(job="smith", age=np.nan), typical(height=np.nan)])
    Z, known = region.domain.encode(rows), region.rows
    expected = []
    for z in Z:
        distances = np.zeros(len(known))
        for j, categorical in enumerate(region.domain.categorical):
            if categorical:
                distances += known[:, j] != z[j]
            elif np.isnan(z[j]):
                there = ~np.isnan(known[:, j])
                distances += there + np.where(there, np.abs(known[:, j] - region.center[j]) / region.scale[j], 0)
            else:
                absent = np.isnan(known[:, j])
                distances += absent + np.abs(np.where(absent, region.center[j], known[:, j]) - z[j]) / region.scale[j]
        expected.append(np.sort(distances)[4])
    assert np.allclose(region.novelty(rows), expected, rtol=0, atol=1e-12)


def test_novelty_does_not_depend_on_units_or_on_the_order_of_columns():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3))
    fresh = 2 * rng.normal(size=(50, 3))

    def judged(change):
        domain = Domain.of(change(rows))
        region = Region.of(domain, change(rows), random_state=3)
        return region.novelty(change(fresh)), region.inside(change(fresh)), region.threshold

    novelty, inside, threshold = judged(lambda X: X)
    for change in (lambda X: 1000 * X - 7, lambda X: X[:, [2, 0, 1]]):
        other = judged(change)
        assert np.allclose(other[0], novelty)
        assert np.array_equal(other[1], inside)
        assert other[2] == pytest.approx(threshold)


def test_a_row_as_far_as_the_threshold_is_inside():
    rows = np.tile(np.arange(10.0), 40)[:, None]  # every distance is tied
    region = Region.of(Domain.of(rows), rows)
    assert region.inside(rows).all()
    assert region.false_alarm_rate == pytest.approx(0.05)
    rows = np.random.default_rng(0).normal(size=(300, 5))
    region = Region.of(Domain.of(rows), rows)
    novelty = region.novelty(rows)
    reach = region.threshold - novelty[novelty <= region.threshold].max()
    # The row that made the threshold is inside, with room for sums in another order.
    assert 1e-12 * region.threshold < reach < 1e-8 * region.threshold


def test_a_row_without_gaps_is_a_unit_away_from_one_with_a_gap():
    rows = np.full((100, 2), np.nan)
    rows[:, 0] = np.tile([0.0, 1.0], 50)
    rows[:3, 1] = [0.0, 1.0, 2.0]
    region = Region.of(Domain.of(rows), rows)
    assert region.novelty([[0.0, 1.0]])[0] >= 1.0
    assert region.novelty([[0.0, np.nan]])[0] == 0.0


def test_columns_of_many_kinds_alone():
    words = np.array([["a"], ["b"], ["c"], ["a"]] * 20, dtype=object)
    region = Region.of(Domain.of(words), words)
    assert region.inside(words).all()
    assert region.novelty(np.array([["z"]], dtype=object)).tolist() == [1.0]
    fixed = np.column_stack([np.ones(80), np.arange(80.0)])
    region = Region.of(Domain.of(fixed, fixed=[0]), fixed)
    assert region.inside(fixed).mean() > 0.9
    assert not region.inside([[2.0, 40.0]]).any()


# ---------------------------------------------------------------------- keeping it
def test_the_same_seed_gives_the_same_region_and_the_global_generators_are_left_alone():
    rows = frame()
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (Region.of(Domain.of(rows), rows, random_state=seed).to_dict() for seed in (4, 4, 5))
    assert first == again != other
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_a_region_survives_json(region):
    rows = pd.concat([frame(50, seed=3), typical(job="smith"), typical(age=np.nan)])
    few = Region.of(Domain.of(frame(20)), frame(20), name="twenty rows")
    for kept in (region, few):
        record = json.loads(json.dumps(kept.to_dict(), allow_nan=False))
        again = Region.from_dict(record)
        assert again.to_dict() == kept.to_dict() == record
        assert np.array_equal(again.novelty(rows), kept.novelty(rows))
        assert again.reasons(rows) == kept.reasons(rows)
        assert str(again) == str(kept)
    assert str(region) == "region of the data (4 columns, false alarms at most 2.0%)"


def test_a_region_of_many_categories_stays_small():
    words = np.array([[f"word {i % 900}", i] for i in range(3000)], dtype=object)
    region = Region.of(Domain.of(words), words)
    assert len(json.dumps(region.to_dict())) < 40_000
    assert region.inside(words).mean() > 0.9


def test_between_ends_everything_is_inside():
    rows = np.array([[0.0, 5.0], [1.0, 5.0]])
    region = Region.of_ranges(rows, name="chosen")
    assert region.inside([[0.5, 5.0], [1.0, 5.0], [1.1, 5.0]]).tolist() == [True, True, False]
    wider = Region.of_ranges(rows, [-1.0, 5.0], [2.0, 6.0])
    assert wider.inside([[-1.0, 5.5], [2.0, 6.0], [0.0, 4.9]]).tolist() == [True, True, False]
    assert wider.reasons([[0.0, 4.9]]) == [("p1 = 4.9 is below 5, the lowest seen",)]
    again = Region.from_dict(region.to_dict())
    assert (again.name, again.to_dict()) == ("chosen", region.to_dict())
