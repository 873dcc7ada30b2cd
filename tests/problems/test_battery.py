"""The single-particle model: its solver against a series, itself, another integrator, and laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from locum.core.errors import InvalidData
from locum.problems.battery import GAS, Curve, Electrode, SingleParticle, graphite_nmc, simple_cell

# The polynomials of open-circuit potentials in the code published with the paper, the highest power first.
NEGATIVE = (
    1878.6244900261463, -4981.580023016213, 516.2941996957871, 6452.38177755237, -436.0524457974526, 1264.0514576769442,
    -20918.656956191975, 12954.334261316431, 28871.72866007402, -37943.83286204571, 34.11141793217983, 29363.16490602074,
    -25774.496334571464, 11073.868226559767, -2702.638445370805, 375.62895901410747, -28.064663950113868, 1.1265244540945243,
)  # fmt: skip
POSITIVE = (
    -43309.69063512314, 122888.63938515769, -69735.99554716503, -59749.183217994185, 25744.002733171154, 15730.398058573825,
    54021.915506318735, -44566.03206954511, 64.32177924593454, -7780.173422833786, 1117.4042221859695, 7387.492376558274,
    -7237.289515884936, -705.4465901574707, 17170.20236584321, -42.60228181558803, -23266.56994359366, 10810.92851132453,
    2545.4065429021307, 1.6554268823619098, 751.3515882152476, -4447.12851190078, 3727.268889820381, -1331.1791971457515,
    227.4712483170547, -17.646894926746256, 0.8568207255402533, -2.34505930698951, 5.059010555584711,
)  # fmt: skip


def series(tau, terms=400):
    """Rise of a sphere's surface over its start, over the flux times radius over diffusivity; Crank, 1975, equation 6.45."""
    roots = np.array([brentq(lambda x: np.tan(x) - x, k * np.pi + 1e-9, (k + 0.5) * np.pi - 1e-9) for k in range(1, terms + 1)])
    return 3 * tau + 0.2 - 2 * (np.exp(-np.outer(tau, roots**2)) / roots**2).sum(axis=1)


def shells(discharge):
    edges = np.arange(len(discharge.radii) + 1) / len(discharge.radii)
    return np.diff(edges**3)


# ---------------------------------------------------------------------- the solver
def test_a_sphere_of_constant_diffusivity_follows_the_series():
    cell, t = simple_cell(), np.linspace(20, 1350, 40)
    found = cell.solve([[1.0, 1.0]], t, shells=96, steps=400)
    for x, one, flux, d in (
        (found.negative_surface, cell.negative, cell.fluxes[0], 3e-14),
        (found.positive_surface, cell.positive, cell.fluxes[1], 3.5e-15),
    ):
        wanted = one.start - flux * one.radius / (d * one.capacity) * series(d * t / one.radius**2)
        np.testing.assert_allclose(x[0], wanted, atol=2e-5)


@pytest.mark.parametrize(("fixed", "refined"), [({"steps": 300}, "shells"), ({"shells": 8}, "steps")])
def test_differences_are_of_second_order(fixed, refined):
    cell, t = graphite_nmc(), np.linspace(100, 1350, 20)
    sizes = (12, 24, 48) if refined == "shells" else (80, 160, 320)
    exact = cell.voltage([[1.0, 1.0]], t, **fixed, **{refined: 5 * sizes[-1]})
    errors = [np.abs(cell.voltage([[1.0, 1.0]], t, **fixed, **{refined: n}) - exact).mean() for n in sizes]
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    assert 1.75 < order[-1] < 2.4, (errors, order)


def test_refinement_changes_less_than_a_tenth_of_a_millivolt():
    cell = graphite_nmc()
    rows = [[0.5, 1.0], [1.0, 1.0], [4.0, 10.0]]
    apart = np.abs(cell.voltage(rows, shells=64) - cell.voltage(rows, shells=128))
    assert apart.max() < 1e-4


def test_no_lithium_is_lost():
    cell, t = graphite_nmc(), np.linspace(0, 1350, 11)
    found = cell.solve([[1.0, 1.0], [3.0, 7.0]], t, shells=20, steps=30)
    for x, one, flux in ((found.negative, cell.negative, cell.fluxes[0]), (found.positive, cell.positive, cell.fluxes[1])):
        # the spline in the root of time is exact for the square of it
        left = one.start - 3 * flux * t / (one.radius * one.capacity)
        np.testing.assert_allclose(x @ shells(found), np.tile(left, (2, 1)), atol=1e-12)


def test_another_integrator_agrees():
    """The same volumes in space, integrated by scipy with a small tolerance."""
    cell, n = graphite_nmc(), 24
    one, flux, factor = cell.positive, cell.fluxes[1], 2.0
    edges = one.radius * np.arange(n + 1) / n
    volumes, width = np.diff(edges**3) / 3, one.radius / n

    def rate(_, x):
        flow = np.zeros(n + 1)
        flow[1:-1] = edges[1:-1] ** 2 * factor * one.diffusivity((x[1:] + x[:-1]) / 2) * np.diff(x) / width
        flow[-1] = -(edges[-1] ** 2) * flux / one.capacity
        return np.diff(flow) / volumes

    t = np.linspace(50, 1350, 14)
    exact = solve_ivp(rate, (0, 1350), np.full(n, one.start), method="LSODA", t_eval=t, rtol=1e-9, atol=1e-11).y.T
    np.testing.assert_allclose(cell.solve([[1.0, factor]], t, shells=n, steps=800).positive[0], exact, atol=2e-6)


def test_many_cells_at_once_are_as_each_alone():
    cell = graphite_nmc()
    rows = cell.sample(5, 3)
    together = cell.solve(rows, shells=16, steps=40)
    alone = [cell.solve(row, shells=16, steps=40) for row in rows]
    np.testing.assert_allclose(together.voltage, np.concatenate([one.voltage for one in alone]), rtol=1e-12)
    np.testing.assert_allclose(together.positive, np.concatenate([one.positive for one in alone]), rtol=1e-12)
    np.testing.assert_array_equal(cell.voltage(rows, shells=16, steps=40), together.voltage)
    np.testing.assert_array_equal(together.negative[0], together.negative[4])  # no parameter reaches diffusion there


# ---------------------------------------------------------------------- kinetics
def test_the_paper_s_polynomials_give_its_first_voltage():
    ocp = (lambda x: np.polyval(NEGATIVE, x), lambda x: np.polyval(POSITIVE, x))
    assert graphite_nmc(ocp=ocp).voltage([[1.0, 1.0]], [0.0])[0, 0] == pytest.approx(4.0922, abs=5e-5)


def test_tables_stay_close_to_the_polynomials():
    cell = graphite_nmc()
    for curve, coefficients, low, high in ((cell.negative.ocp, NEGATIVE, 0.3, 0.91), (cell.positive.ocp, POSITIVE, 0.39, 0.85)):
        x = np.linspace(low, high, 100)
        assert np.abs(curve(x) - np.polyval(coefficients, x)).mean() < 0.012


def test_kinetics_agree_where_the_flux_is_small_and_at_the_formulas():
    linear, full = graphite_nmc(c_rate=0.01), graphite_nmc(c_rate=0.01, kinetics="butler-volmer")
    np.testing.assert_allclose(linear.voltage([[1.0, 2.0]]), full.voltage([[1.0, 2.0]]), atol=1e-7)
    cell = graphite_nmc()
    found = cell.solve([[2.0, 2.0]])
    rt, x = GAS * 303.15, found.negative_surface[0]
    exchange = 2.0 * 0.675 * 30.53 * np.sqrt(1.2 * x * (1 - x))
    np.testing.assert_allclose(-found.electrolyte[0], cell.negative.ocp(x) + rt * cell.fluxes[0] / exchange)
    fuller = graphite_nmc(kinetics="butler-volmer", c_rate=2.0)
    over = fuller.overpotential(fuller.fluxes[0], 3.0)
    back = 3.0 / fuller.faraday * 2 * np.sinh(0.5 * fuller.faraday * over / rt)
    assert back == pytest.approx(fuller.fluxes[0])


def test_an_exchange_current_without_limit_leaves_the_open_circuit():
    cell = simple_cell()
    found = cell.solve([[1e12, 1.0]])
    np.testing.assert_allclose(-found.electrolyte, 0.2 - 0.2 * found.negative_surface, atol=1e-9)


def test_all_four_factors_act_where_they_should():
    cell = graphite_nmc()
    wide = SingleParticle(cell.negative, cell.positive, cell.area, cell.current, cell.duration,
                          bounds=dict.fromkeys(("D_n", "i0_p", "i0_n", "D_p"), (0.5, 2.0)))  # fmt: skip
    same = wide.voltage({"D_n": 1.0, "i0_p": 1.0, "i0_n": 1.5, "D_p": 1.5})
    np.testing.assert_allclose(same, cell.voltage({"i0_n": 1.5, "D_p": 1.5}))
    more = wide.solve({"D_n": [1.0, 2.0], "i0_p": 1.0, "i0_n": 1.5, "D_p": 1.5})
    assert (more.negative_surface[1] > more.negative_surface[0]).all()
    np.testing.assert_array_equal(more.positive[0], more.positive[1])


# ---------------------------------------------------------------------- tables
def test_curves_answer_torch_as_they_answer_numpy():
    x = np.linspace(-0.05, 1.05, 111)
    for curve in (graphite_nmc().negative.ocp, graphite_nmc().positive.ocp, Curve([0, 0.4, 1], [1, 1, 0])):
        t = torch.tensor(x, requires_grad=True)
        found = curve(t)
        np.testing.assert_allclose(found.detach().numpy(), curve(x), rtol=1e-10, atol=1e-12)
        (slope,) = torch.autograd.grad(found.sum(), t)
        inner = np.abs(np.subtract.outer(x, curve.x)).min(axis=1) > 1e-5
        wanted = (curve(x + 1e-7) - curve(x - 1e-7)) / 2e-7
        np.testing.assert_allclose(slope.numpy()[inner], wanted[inner], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------- what is refused
def test_what_cannot_be_solved_is_refused():
    cell = graphite_nmc()
    for call, message in [
        (lambda: cell.voltage({"i0_n": 1.0}), "expected the parameters i0_n, D_p, got i0_n"),
        (lambda: cell.voltage({"i0_n": [1.0, 2.0], "D_p": [1.0, 2.0, 3.0]}), "broadcast"),
        (lambda: cell.voltage([[1.0, 2.0, 3.0]]), r"shape \(n, 2\)"),
        (lambda: cell.voltage([[np.nan, 2.0]]), "finite"),
        (lambda: cell.voltage([[-1.0, 2.0]]), "above 0"),
        (lambda: cell.voltage([[1.0, 1.0]], [5.0, 5.0]), "rising times"),
        (lambda: cell.voltage([[1.0, 1.0]], [-1.0]), "times from 0 to 1350 s"),
        (lambda: cell.voltage([[1.0, 1.0]], [1400.0]), "times from 0 to 1350 s"),
        (lambda: cell.solve([[1.0, 1.0]], shells=2), "shells= to be a whole number of 3"),
        (lambda: graphite_nmc(c_rate=8.0).voltage([[1.0, 1.0]]), "empty or full after"),
        (lambda: graphite_nmc(kinetics="tafel"), "kinetics= to be one of linear"),
        (lambda: graphite_nmc(c_rate=0.0), "current= above 0"),
        (lambda: SingleParticle(cell.negative, cell.positive, 1.0, 1.0, 1.0, bounds={"k": (1, 2)}), "one of i0_n"),
        (lambda: SingleParticle(cell.negative, cell.positive, 1.0, 1.0, 1.0, bounds={"D_p": (2, 1)}), "0 < low < high"),
        (lambda: Electrode(1.0, 1.0, 1.5, 1.0, 0.5, abs, abs, abs), "shares of at most 1"),
        (lambda: Curve([0, 0], [1, 2]), "rising x"),
    ]:
        with pytest.raises(InvalidData, match=message):
            call()
