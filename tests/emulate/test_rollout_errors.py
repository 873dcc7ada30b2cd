"""Errors of roll-outs: by hand, at each value of a parameter, for what diverges, and where a stand-in may be used."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import Steps, rollout_errors


class Grows(Steps):
    """Each field times its parameter, which the truth does as well; plus a share of the field for each step that was taken."""

    def __init__(self, off=0.0):
        self.off = off

    def step(self, z, p=None):
        return np.asarray(z) * np.reshape(np.asarray(p), (-1, 1, 1)) * (1 + self.off)

    def rollout(self, z0, n_steps, p=None):
        out = [np.asarray(z0)]
        with np.errstate(over="ignore"):
            for _ in range(n_steps):
                out.append(self.step(out[-1], p))
        return np.stack(out[1:])


def truth(values=(1.0, 2.0), n=12, steps=3):
    P = np.repeat(values, n)[:, None]
    u = np.random.default_rng(0).normal(size=(len(P), 1, 8)) + 1
    return np.concatenate([u[:, None], np.moveaxis(Grows().rollout(u, steps, P), 0, 1)], axis=1), P


def test_a_perfect_copy_has_no_error_and_persistence_a_known_one():
    U, P = truth()
    found = rollout_errors(Grows(), U, P)
    assert all(np.allclose(one, 0) for name, one in found.by_run.items() if name != "nRMSE persistence")
    np.testing.assert_allclose(found.by_run["nRMSE persistence"][found.of == 0], 0.0, atol=1e-12)
    by_hand = np.sqrt((1 + 9 + 49) / (4 + 16 + 64))
    np.testing.assert_allclose(found.by_run["nRMSE persistence"][found.of == 1], by_hand)
    assert not found.diverged.any()


def test_errors_by_hand():
    U, P = truth()
    found = rollout_errors(Grows(0.1), U, P)
    np.testing.assert_allclose(found.by_run["nRMSE last"], 1.1**3 - 1)
    one = U[0, 1:, 0] * (1.1 ** np.arange(1, 4)[:, None] - 1)
    assert found.by_run["RMSE"][0] == pytest.approx(np.sqrt((one**2).mean()))
    assert found.by_run["largest error"][0] == pytest.approx(np.abs(one).max())
    assert found.by_run["conserved"][0] == pytest.approx(np.sqrt((one.mean(axis=1) ** 2).mean()))
    assert found.by_run["RMSE high"][0] == 0.0, "8 cells have no such waves"


def test_what_diverges_is_counted_and_has_the_worst_there_is():
    U, P = truth()
    for off in (1e200, 30.0, np.nan):
        found = rollout_errors(Grows(off), U, P)
        assert found.diverged.all()
        assert (found.by_run["nRMSE"] == 10.0).all()
        assert all(np.isfinite(one).all() for one in found.by_run.values())
        assert "diverged: 24 of 24 runs" in str(found)


def test_a_field_that_dies_away_is_not_taken_for_a_run_that_diverged():
    U, P = truth((1e-6, 2e-6))  # what is left after a step is a millionth

    class Stays(Grows):
        def step(self, z, p=None):
            return 0.5 * np.asarray(z)

    found = rollout_errors(Stays(), U, P)
    assert (found.by_run["nRMSE"] == 10.0).all(), "relative to what is left"
    assert not found.diverged.any()
    assert found.by_run["RMSE last"][0] == pytest.approx(np.sqrt(((U[0, 0] / 8 - U[0, -1]) ** 2).mean()))
    bound = 1.5 * found.by_run["RMSE"].max()
    assert found.trust_region(bound, measure="RMSE").trusted.all()
    assert not found.trust_region(bound).trusted.any()


def test_means_have_intervals_at_each_value():
    U, P = truth()
    low, high = rollout_errors(Grows(0.1), U, P).fidelity()
    assert low.region == "parameters 1"
    assert high.region == "parameters 2"
    assert high.n == 12
    assert 0 < low.lower <= low.value <= low.upper
    assert not low.greater_is_better


def test_a_stand_in_may_be_used_where_its_bound_is_below_the_tolerance():
    class Worse(Grows):
        def step(self, z, p=None):
            return super().step(z, p) * (1 + 0.01 * np.reshape(np.asarray(p), (-1, 1, 1)) ** 2)

    U, P = truth((0.5, 1.0, 1.5, 3.0))
    found = rollout_errors(Worse(), U, P)
    region = found.trust_region(0.08)
    np.testing.assert_array_equal(region.trusted, [True, True, True, False])
    assert region.ranges == ((0.5, 1.5),)
    assert 1.2 in region
    assert 2.0 not in region
    assert str(region) == "error below 0.08 at 95 % certainty: 0.5 to 1.5"
    assert "nowhere" in str(found.trust_region(1e-6))
    all_at_once = found.trust_region(0.08).upper[0]
    assert all_at_once >= found.fidelity()[0].upper, "bounds hold for all values at once"


def test_more_parameters_have_values_but_no_ranges():
    U, P = truth()
    found = rollout_errors(type("Both", (Grows,), {"step": lambda self, z, p=None: Grows.step(self, z, p[:, :1])})(), U,
                           np.column_stack([P, P]))  # fmt: skip
    region = found.trust_region()
    assert region.trusted.all()
    with pytest.raises(InvalidData, match="one parameter to make ranges of, got 2"):
        region.ranges


def test_runs_that_say_nothing_are_refused():
    U, P = truth(n=1)
    with pytest.raises(InvalidData, match="two runs or more at each value"):
        rollout_errors(Grows(), U, P)
    U, P = truth()
    with pytest.raises(InvalidData, match="more than 1 frames"):
        rollout_errors(Grows(), U[:, :1], P)
    with pytest.raises(InvalidData, match="measure= to be one of nRMSE"):
        rollout_errors(Grows(), U, P).fidelity("R2")
