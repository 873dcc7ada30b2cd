"""The power transform: a bijection that keeps the order, fitted by likelihood, and what the loop makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from locum.core.errors import InvalidData
from locum.optimize import (
    EntropySearch,
    ExpectedImprovement,
    GaussianProcess,
    GradientGaussianProcess,
    KnowledgeGradient,
    Optimizer,
    Power,
    PowerWarp,
    Space,
)

pytest.importorskip("botorch")
BOX = Space.box([(-2, 2)] * 2)


def steep(point):
    return float(np.exp(3 * (abs(point["x0"] - 0.5) + abs(point["x1"] + 0.5))))


# ---------------------------------------------------------------------- the transform
@pytest.mark.parametrize("power", [0.0, 0.3, 1.0, 1.6, 2.0])
def test_it_is_that_of_yeo_and_johnson(power):
    z = np.linspace(-6, 6, 25)
    np.testing.assert_allclose(Power(0.0, 1.0, power)(z), stats.yeojohnson(z, power), rtol=1e-12)
    np.testing.assert_allclose(Power(3.0, 2.0, power)(3 + 2 * z), stats.yeojohnson(z, power), rtol=1e-12, atol=1e-12)


@given(st.floats(0, 2), st.floats(-1e6, 1e6), st.floats(1e-3, 1e3), st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_every_value_has_an_inverse_and_order_stays(power, centre, scale, values):
    warp, y = Power(centre, scale, power), np.sort(values)
    assert (np.diff(warp(y)) >= 0).all()
    np.testing.assert_allclose(warp.inverse(warp(y)), y, rtol=1e-6, atol=1e-6 * (1 + abs(centre) + scale))


def test_moments_and_stretch_are_those_of_simulation():
    warp, (mean, sd, best) = Power(1.0, 2.0, 1.8), (0.3, 0.7, 0.9)
    warped = np.random.default_rng(0).normal(mean, sd, 400_000)
    values = warp.inverse(warped)
    first, second = warp.moments(mean, sd)
    assert first == pytest.approx(values.mean(), abs=0.01)
    assert second == pytest.approx(values.std(), rel=0.01)
    gained = np.maximum(values - warp.inverse(best), 0).mean() / np.maximum(warped - best, 0).mean()
    assert warp.stretch(mean, sd, best) == pytest.approx(gained, rel=0.01)
    assert Power(0.0, 3.0, 1.0).stretch(mean, sd, best) == 3.0
    assert np.isfinite(warp.stretch(-1e6, 0.1, 5.0))


def test_the_power_follows_the_values():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=400)
    assert PowerWarp().fit(normal).power == pytest.approx(1.0, abs=0.15)
    assert PowerWarp().fit(-np.exp(2 * normal)).power > 1.7  # far below the best
    assert abs(stats.skew(PowerWarp().fit(-np.exp(normal))(-np.exp(normal)))) < 0.5 * abs(stats.skew(-np.exp(normal)))
    moved = PowerWarp().fit(5 + 3 * normal)
    assert moved.power == pytest.approx(PowerWarp().fit(normal).power, abs=1e-6)  # neither unit nor origin matters
    assert PowerWarp().fit([1.0, 2.0, 2.0, 3.0]) == Power()  # too few to tell
    with pytest.raises(InvalidData, match="finite values"):
        PowerWarp().fit([1.0, np.nan])


# ---------------------------------------------------------------------- in the loop
def told(**settings):
    optimizer = Optimizer(BOX, direction="minimize", initial=6, **settings)
    points = BOX.sobol(14, 3)
    optimizer.tell(points, [steep(point) for point in points])
    return optimizer


def test_what_is_foretold_and_recommended_is_in_the_unit_of_the_objective():
    warped, plain = told(), told(warp=None)
    points = BOX.sobol(200, 9)
    truth = np.log([steep(point) for point in points])
    errors = []
    for optimizer in (warped, plain):
        mean, sd = optimizer.foretell(points)
        assert (sd > 0).all()
        errors.append(np.abs(np.log(np.maximum(mean, 1e-3)) - truth).mean())
    assert errors[0] < 0.5 * errors[1]  # the surrogate is nearer to the truth, seen in logarithms
    found = warped.result()
    assert found.value == min(warped.values)
    assert found.mean == pytest.approx(found.value, abs=0.5 * np.median(warped.values))  # a hundredth of the largest or less


def test_the_expected_gain_is_in_the_unit_of_the_objective():
    optimizer, larger = told(), Optimizer(BOX, direction="minimize", initial=6)
    points = BOX.sobol(14, 3)
    larger.tell(points, [1000 * steep(point) for point in points])
    for one, unit in ((optimizer, 1.0), (larger, 1000.0)):
        reached = one.run(lambda point, unit=unit: unit * steep(point), 60, least_gain=2.0 * unit)
        assert reached.stopped.startswith("no improvement")
        assert len(reached.points) < 60
        assert reached.value < 10 * unit


@pytest.mark.parametrize(
    "settings",
    [
        {"acquisition": KnowledgeGradient()},
        {"acquisition": EntropySearch()},
        {"surrogate": GaussianProcess(noise=0.5)},
        {"surrogate": GradientGaussianProcess()},
        {"warp": None},
    ],
)
def test_values_stay_as_they_are_where_their_unit_matters(settings):
    assert Optimizer(BOX, direction="minimize", **settings).warp is None


@pytest.mark.parametrize("settings", [{}, {"acquisition": ExpectedImprovement()}, {"surrogate": GaussianProcess(noise=0.0)}])
def test_values_are_warped_where_only_their_order_matters(settings):
    assert isinstance(Optimizer(BOX, direction="minimize", **settings).warp, PowerWarp)


def test_a_scale_does_not_change_what_is_proposed():
    one, other = told(), Optimizer(BOX, direction="minimize", initial=6)
    points = BOX.sobol(14, 3)
    other.tell(points, [7 + 1000 * steep(point) for point in points])
    first, second = one.ask()[0], other.ask()[0]
    assert first["x0"] == pytest.approx(second["x0"], abs=1e-3)
    assert first["x1"] == pytest.approx(second["x1"], abs=1e-3)


def test_another_kind_of_warp_is_refused():
    with pytest.raises(InvalidData, match="expected warp= to be a PowerWarp or None"):
        Optimizer(BOX, direction="minimize", warp="log")
