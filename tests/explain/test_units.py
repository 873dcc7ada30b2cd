"""Keep-n curves: exact on an additive task, controls beside, paired intervals."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.explain import keep_curve

UNITS = 40
RNG = np.random.default_rng(5)
WEIGHTS = RNG.exponential(size=UNITS)
GAINS = WEIGHTS * np.exp(RNG.normal(scale=0.3, size=(60, UNITS)))  # of each unit, sample by sample
SIZES = (0, 1, 4, 10, 20, UNITS)


def evaluate(keep):
    return GAINS @ keep


def test_an_additive_task_gives_the_sums_of_the_best_and_of_the_worst():
    curve = keep_curve(evaluate, {"weight": WEIGHTS}, sizes=SIZES)
    total = GAINS.mean(axis=0)[np.argsort(-WEIGHTS)]
    np.testing.assert_allclose(curve.mean("weight"), [total[:k].sum() for k in SIZES])
    np.testing.assert_allclose(curve.mean("bottom"), [total[::-1][:k].sum() for k in SIZES])
    assert curve.mean("weight")[0] == curve.mean("random")[0] == 0
    np.testing.assert_allclose(curve.mean("random")[-1], total.sum())


def test_the_better_ranking_is_ahead_and_the_worse_is_not():
    noise = np.random.default_rng(1).normal(size=UNITS)
    curve = keep_curve(evaluate, {"weight": WEIGHTS, "noise": noise}, sizes=SIZES, random_draws=20)
    for other in ("noise", "random", "bottom"):
        assert curve.difference("weight", other).lower > 0
        assert curve.difference(other, "weight").upper < 0
    itself = curve.difference("weight", "weight")
    assert (itself.lower, itself.value, itself.upper) == (0, 0, 0)
    assert "weight ahead of random" in curve.text()


def test_the_interval_of_an_area_covers_it():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        gains = rng.exponential(size=(40, 3))
        curve = keep_curve(partial(np.matmul, gains), {"a": [3, 2, 1]}, sizes=(1, 2), random_draws=1, random_state=seed)
        found = curve.area("a")
        covered += found.lower <= 1.5 <= found.upper  # means 1 and 2
    assert 180 <= covered <= 199


def test_the_same_set_of_units_is_asked_once():
    asked = []

    def count(keep):
        asked.append(keep.tobytes())
        return GAINS @ keep

    keep_curve(count, {"a": WEIGHTS, "b": 2 * WEIGHTS}, sizes=SIZES, random_draws=3)
    assert len(asked) == len(set(asked))


def test_same_seed_same_numbers():
    one, two, other = (keep_curve(evaluate, {"w": WEIGHTS}, sizes=(5,), random_draws=2, random_state=s) for s in (1, 1, 2))
    assert (one.scores["random"] == two.scores["random"]).all()
    assert (one.scores["random"] != other.scores["random"]).any()


def test_bad_input_is_refused():
    for rankings, sizes, message in (
        ({}, (1,), "at least one ranking"),
        ({"random": WEIGHTS}, (1,), "that of a control"),
        ({"a": WEIGHTS, "b": WEIGHTS[1:]}, (1,), "of one shape"),
        ({"a": np.full(UNITS, np.nan)}, (1,), "finite scores of units"),
        ({"a": WEIGHTS}, (UNITS + 1,), "from 0 to the 40 units"),
        ({"a": WEIGHTS}, (), "from 0 to the 40 units"),
    ):
        with pytest.raises(InvalidData, match=message):
            keep_curve(evaluate, rankings, sizes=sizes)
    with pytest.raises(InvalidData, match=r"finite scores of shape \(samples,\)"):
        keep_curve(lambda keep: np.nan, {"a": WEIGHTS}, sizes=(1,))
    with pytest.raises(InvalidData, match="no ranking 'x'; there are a, bottom, random"):
        keep_curve(evaluate, {"a": WEIGHTS}, sizes=(1,)).area("x")
