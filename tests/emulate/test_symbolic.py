"""The benchmark of symbolic regression: laws that are contained are found, others are not, and the clock is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from locum.core.errors import InvalidData
from locum.emulate import SymbolicBenchmark


class Spiral:
    """A linear oscillator with a cubic term: x' = y, y' = -x - a x**3."""

    def __init__(self, name="spiral", cubic=0.5, clock=0.0):
        self.name, self.cubic, self.clock = name, cubic, clock
        self.properties = SimpleNamespace(period=2 * np.pi)

    def rhs(self, t, x):
        return np.array([x[1], -x[0] - self.cubic * x[0] ** 3 + self.clock * np.sin(t)])

    def integrate(self, n, pts_per_period=100, *, ic=None, seed=None, bounded=True):
        assert not bounded
        t = 0.3 * seed + 2 * np.pi * np.arange(n) / pts_per_period
        return (1 + 0.3 * np.sin(0.7 * t))[:, None] * np.stack([np.sin(t), np.cos(t)], axis=1)


CUBIC = make_pipeline(PolynomialFeatures(3), LinearRegression())


def table(models, systems=None, **settings):
    return SymbolicBenchmark(systems or [Spiral()], granularity=20, periods=5, **settings).run(models)


def test_a_law_that_the_library_contains_is_found_with_its_coefficients():
    found = table({"cubic": CUBIC, "linear": LinearRegression(), "mean": DummyRegressor()})
    assert found.by_system("cubic")[0] < 1e-8
    assert found.by_system("cubic", "rmse")[0] < 1e-10
    terms = found.laws["spiral", "cubic"][1]
    names = terms[0].get_feature_names_out(["x", "y"])
    planted = {"x": -1.0, "x^3": -0.5}
    np.testing.assert_allclose(terms[1].coef_, [planted.get(name, 0.0) for name in names], atol=1e-10)
    assert 1e-3 < found.by_system("linear", "rmse")[0] < 0.5 < found.by_system("mean", "rmse")[0] < 1.5
    assert "medians over 1 systems" in str(found)


def test_errors_are_medians_over_coordinates_on_another_series():
    found = table({"mean": DummyRegressor(strategy="constant", constant=0.0)})
    fresh = Spiral().integrate(100, 20, seed=1, bounded=False)
    truth = np.array([Spiral().rhs(0, x) for x in fresh])
    expected = np.median(np.sqrt((truth**2).mean(axis=0)) / truth.std(axis=0))
    assert found.by_system("mean", "rmse")[0] == pytest.approx(expected, rel=1e-12)
    assert found.by_system("mean")[0] == pytest.approx(200.0)


def test_noise_is_on_what_is_learned_from_alone_and_seeded():
    one, again, other = (table({"cubic": CUBIC}, noise=0.1, random_state=seed).errors for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert 1e-4 < one[1, 0, 0] < 0.1
    assert np.abs(one - other).max() > 0


def test_a_law_that_answers_no_number_gets_the_worst():
    class Broken(DummyRegressor):
        def predict(self, X):
            return np.full(len(X), np.nan)

    assert table({"broken": Broken()}).errors[:, 0, 0].tolist() == [200.0, 1e12]


def test_the_median_over_systems_has_the_interval_of_order_statistics():
    systems = [Spiral(f"of {cubic:g}", cubic) for cubic in np.linspace(0, 2, 7)]
    found = table({"linear": LinearRegression()}, systems)
    errors = np.sort(found.by_system("linear", "rmse"))
    judged = found.fidelity("linear", "rmse")
    assert (judged.value, judged.lower, judged.upper, judged.n) == (errors[3], errors[0], errors[-1], 7)
    assert not judged.greater_is_better
    with pytest.raises(InvalidData, match="more systems for an interval"):
        table({"linear": LinearRegression()}, systems[:3]).fidelity("linear")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: table({}), "a system and a model at least, got 1 and 0"),
        (lambda: table({"m": CUBIC}, noise=-1), "noise= of 0 or more"),
        (lambda: table({"m": CUBIC}, [Spiral(), Spiral()]), "each system once, got spiral again"),
        (lambda: table({"m": CUBIC}, [Spiral(clock=0.5)]), "depend on the state alone, got spiral"),
        (lambda: table({"m": CUBIC}).by_system("m", "mae"), "metric= to be one of"),
        (lambda: table({"m": CUBIC}).by_system("n"), "model= to be one of"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
