"""The physics-informed emulator: derivatives, what is built in, known answers, hierarchies, bounds, files, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import RectBivariateSpline
from sklearn.base import clone

from locum.core.errors import FormatError, InvalidData, OutsideRegion
from locum.emulate import Level, PINNEmulator
from locum.emulate._pinn_networks import ACTIVATIONS, FULL, SLOPE, VALUE, FieldNetwork, chain, product
from locum.emulate._pinn_physics import Points, Stage, drives, interior, slopes
from locum.nets import seeded
from locum.problems.battery import graphite_nmc, simple_cell

SMALL = {"inner": 64, "edge": 32, "refresh": 0}
TIMES = np.linspace(0, 1350, 15)


def small(cell=None, levels=None, **settings):
    return PINNEmulator(cell or simple_cell(), levels=levels or [Level(5, 50, 6)], **{**SMALL, **settings})


@pytest.fixture(scope="module")
def fitted():
    return small(levels=[Level(10, 200, 8)], refresh=100).fit()


@pytest.fixture(scope="module")
def solved():
    cell = simple_cell()
    return cell.solve(cell.sample(24, 5), TIMES, shells=32, steps=80)


def error(emulator, solved):
    return np.abs(emulator.predict(solved.parameters, solved.times) - solved.voltage).mean()


# ---------------------------------------------------------------------- derivatives
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [VALUE, SLOPE, FULL])
def test_rules_of_jets_have_right_derivatives(name, size):
    rng = torch.Generator().manual_seed(0)
    z, y = (torch.randn(size, 2, n, dtype=torch.float64, generator=rng, requires_grad=True) for n in (3, 1))
    bias = torch.randn(2, 1, dtype=torch.float64, generator=rng, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: chain(a, ACTIVATIONS[name], b), (z, bias))
    assert torch.autograd.gradcheck(product, (z, y))


@pytest.mark.parametrize(("block", "name"), [("gated", "tanh"), ("plain", "swish"), ("residual", "gelu")])
@pytest.mark.parametrize("even", [True, False])
def test_networks_carry_their_own_derivatives(block, name, even):
    with seeded(1):
        network = FieldNetwork(2, 6, 2, block, name, even)
        inputs, radius = torch.rand(5, 3, dtype=torch.float64), 0.2 + 0.6 * torch.rand(5, dtype=torch.float64)
    step = 1e-4
    later = torch.tensor([step, 0.0, 0.0], dtype=torch.float64)

    def value(moved=0.0, out=0.0):
        return network.concentration(inputs + moved, radius + out, VALUE)[0]

    found = network.concentration(inputs, radius, FULL).detach()
    middle = value().detach()
    torch.testing.assert_close(found[0], middle)
    torch.testing.assert_close(found[1], (value(out=step) - value(out=-step)) / (2 * step), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[2], (value(later) - value(-later)) / (2 * step), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[3], (value(out=step) - 2 * middle + value(out=-step)) / step**2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(network.concentration(inputs, radius, SLOPE), found[:2])


# ---------------------------------------------------------------------- residuals
def stage_of(cell, even=True):
    low, high = (torch.tensor(x, dtype=torch.float64) for x in ([0.5, 1.0], [4.0, 10.0]))
    with seeded(0):
        network = FieldNetwork(2, 6, 2, "gated", "tanh", even)
    return Stage(network, cell, low, high, 1.0, None, None, 0.0)


class Solved(Stage):
    """A stage whose fields are those of the solver, as splines over the clock and the radius."""

    def of(self, cell, row):
        times = cell.duration * np.linspace(0.3, 1, 121) ** 2
        found = cell.solve(row, times, shells=200, steps=400)
        self.at = self.clock(times)
        self.known = np.stack([found.electrolyte[0], found.voltage[0]])
        sides = (found.negative, found.negative_surface), (found.positive, found.positive_surface)
        both = [np.concatenate([one[0], edge[0][:, None]], axis=1) for one, edge in sides]
        self.splines = [RectBivariateSpline(self.at, np.append(found.radii, 1.0), one, kx=4, ky=4) for one in both]
        return self

    def potentials(self, clock, parameters, base=None):
        return torch.tensor(np.stack([np.interp(clock.numpy(), self.at, one) for one in self.known]))

    def concentrations(self, clock, radius, parameters, size, base=None):
        kinds = [(0, 0), (0, 1), (1, 0), (0, 2)][:size]
        at = clock.numpy(), radius.numpy()
        return torch.stack([torch.tensor(np.stack([one.ev(*at, dx=a, dy=b) for one in self.splines])) for a, b in kinds])


def residuals(cell, row, other, even):
    """Of the solver's fields at one setting of the parameters, taken for another."""
    stage = stage_of(cell, even)
    stage.__class__ = Solved
    stage.of(cell, row)
    at = stage.clock(cell.duration * torch.linspace(0.2, 0.9, 40, dtype=torch.float64))
    radius = torch.linspace(0.15, 0.9, 40, dtype=torch.float64)
    rows = torch.tensor(other, dtype=torch.float64).expand(40, 2)
    points = Points(stage, torch.cat([at[:, None], radius[:, None], rows], 1), torch.cat([at[:, None], rows], 1))
    found, kept = slopes(stage, points)
    return interior(stage, points), found, drives(stage, points, kept)


@pytest.mark.parametrize(("kinetics", "even"), [("linear", True), ("butler-volmer", False)])
def test_the_solver_s_fields_leave_no_residual(kinetics, even):
    row = [[1.5, 3.0]]
    inner, edge, driven = residuals(graphite_nmc(kinetics=kinetics), row, row, even)
    assert inner.abs().max() < 5e-3
    assert edge[2:].abs().max() < 0.03
    assert driven.abs().max() < 0.05  # a shift of a millivolt moves the flux by a third
    inner, edge, driven = residuals(graphite_nmc(kinetics=kinetics), row, [[2.5, 4.0]], even)
    assert inner[1].abs().min() > 0.05
    assert edge[3].abs().min() > 0.1
    assert driven[0].abs().min() > 0.1


# ---------------------------------------------------------------------- what is built in
@pytest.mark.parametrize("ansatz", ["conserved", "flat"])
@pytest.mark.parametrize("kinetics", ["linear", "butler-volmer"])
def test_the_start_is_right_before_anything_is_learned(ansatz, kinetics):
    cell = graphite_nmc(kinetics=kinetics)
    emulator = small(cell, [Level(0, 0, 8), Level(0, 0, 8)], ansatz=ansatz).fit()
    rows = cell.sample(6)
    start = emulator.fields(rows, [0.0], [0.2, 1.0])
    truth = cell.solve(rows, [0.0])
    np.testing.assert_allclose(start.voltage, truth.voltage, rtol=1e-12)
    np.testing.assert_allclose(start.electrolyte, truth.electrolyte, rtol=1e-12)
    np.testing.assert_allclose(start.negative, 0.91, rtol=1e-12)
    np.testing.assert_allclose(start.positive, 0.39, rtol=1e-12)


def test_a_conserved_ansatz_without_a_network_holds_the_right_mean():
    stage = stage_of(graphite_nmc())
    for one in stage.network.concentrations.head.parameters():
        one.detach().zero_()
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64) ** 0.5
    found = stage.concentrations(t, t, torch.ones(3, 2, dtype=torch.float64), FULL).detach()
    truth = graphite_nmc().solve([[1.0, 1.0]], [0.0, 675.0, 1350.0])
    weights = np.diff((np.arange(65) / 64) ** 3)
    np.testing.assert_allclose(found[0, 0], truth.negative[0] @ weights, atol=1e-9)
    np.testing.assert_allclose(found[0, 1], truth.positive[0] @ weights, atol=1e-9)


# ---------------------------------------------------------------------- learning
def test_equations_alone_teach_the_voltage(fitted, solved):
    assert error(fitted, solved) < 0.02
    (history,) = fitted.history_
    assert history.iterations == 200
    assert history.residuals[-1] < 0.01 * history.residuals[0]
    assert len(history.residuals) == len(history.seconds) == 3
    assert list(history.seconds) == sorted(history.seconds)


def test_a_second_level_only_adds_to_the_first():
    one = small()
    before = one.fit().predict([[1.0, 2.0]], TIMES)
    two = clone(one).fit()
    np.testing.assert_array_equal(two.predict([[1.0, 2.0]], TIMES), before)  # the same seed, the same numbers
    two.extend(Level(0, 0, 8))
    np.testing.assert_allclose(two.predict([[1.0, 2.0]], TIMES), before, rtol=1e-12)
    assert len(two.history_) == 2
    two.extend(Level(0, 100, 8))
    assert two.history_[2].residuals[-1] < 0.7 * two.history_[2].residuals[0]


def test_levels_may_be_simpler_or_frozen_or_begin_late():
    cell = simple_cell(kinetics="butler-volmer")
    lower = small(cell, [Level(0, 50, 6, cell=simple_cell()), Level(0, 50, 6)]).fit()
    np.testing.assert_allclose(lower.predict([[0.5, 1.0]], [0.0]), cell.voltage([[0.5, 1.0]], [0.0]), rtol=1e-12)
    frozen = small(levels=[Level(0, 50, 6, frozen={"i0_n": 0.5, "D_p": 1.0}), Level(0, 0, 6)]).fit()
    first = frozen._chain()[0]
    at = torch.tensor([0.5, 0.5], dtype=torch.float64)
    same = first.potentials(at, torch.tensor([[0.5, 1.0], [4.0, 9.0]], dtype=torch.float64))
    assert same[1, 0] == same[1, 1]
    np.testing.assert_allclose(frozen.predict([[4.0, 9.0]], [0.0]), simple_cell().voltage([[4.0, 9.0]], [0.0]), rtol=1e-12)
    late = small(levels=[Level(0, 50, 6), Level(0, 50, 6, begin=600.0)]).fit()
    early = small(levels=[Level(0, 50, 6)]).fit()
    rows = [[1.0, 2.0], [3.0, 4.0]]
    np.testing.assert_array_equal(late.predict(rows, [100.0, 599.0]), early.predict(rows, [100.0, 599.0]))
    np.testing.assert_allclose(late.predict(rows, [600.0]), early.predict(rows, [600.0]), rtol=1e-12)
    assert np.abs(late.predict(rows, [900.0]) - early.predict(rows, [900.0])).max() > 1e-6
    joint = late.fields(rows, [599.0, 600.0, 900.0], [0.5, 1.0])
    np.testing.assert_allclose(joint.negative[:, 1], early.fields(rows, [600.0], [0.5, 1.0]).negative[:, 0], rtol=1e-12)


def test_solved_discharges_help_where_they_are_given(solved):
    settings = {"ansatz": "flat", "levels": [Level(5, 100, 6)], "joint": True}
    alone, told = small(**settings).fit(), small(**settings, weights=(10.0, 0.1, 1.0, 10.0, 1000.0)).fit(solved)
    assert error(told, solved) < 0.5 * error(alone, solved)


@pytest.fixture(scope="module")
def usual():
    return small(levels=[Level(6, 50, 5)]).fit().predict([[1.0, 2.0]], TIMES)


@pytest.mark.parametrize(
    "settings", [{"attention": True}, {"annealing": True}, {"growth": 0.5}, {"collocation": "random"}, {"joint": True},
                 {"block": "residual", "activation": "swish"}, {"block": "plain", "activation": "gelu"}]
)  # fmt: skip
def test_options_change_what_is_learned_and_still_learn(settings, usual):
    found = small(levels=[Level(6, 50, 5)], **settings).fit()
    assert np.abs(found.predict([[1.0, 2.0]], TIMES) - usual).max() > 1e-9
    assert found.history_[0].residuals[-1] < found.history_[0].residuals[0]


def test_training_can_be_watched_and_ends_in_time():
    seen = []
    emulator = small(levels=[Level(0, 100_000, 5)], max_seconds=0.5, refresh=50)
    emulator.fit(monitor=lambda one, seconds: seen.append((seconds, one.predict([[1.0, 1.0]], [600.0])[0, 0])))
    assert emulator.history_[0].status == "out of time"
    assert len(seen) == len(emulator.history_[0].residuals) - 1
    assert seen[-1][0] >= 0.4


# ---------------------------------------------------------------------- how far to trust it
def test_bounds_cover_new_discharges(fitted, solved):
    cell = simple_cell()
    fitted.audit(solved, 0.9)
    fresh = cell.solve(cell.sample(60, 9), TIMES, shells=32, steps=80)
    assert fitted.coverage(fresh).value > 0.75
    said, band = fitted.predict(fresh.parameters, TIMES), fitted.interval(fresh.parameters, TIMES)
    np.testing.assert_allclose(band[..., 1] - said, fitted.bound_)
    np.testing.assert_allclose(said - band[..., 0], fitted.bound_)
    errors = np.sort(np.abs(fitted.predict(solved.parameters, TIMES) - solved.voltage).max(axis=1))
    assert fitted.bound_ == errors[22]  # the 23rd of 24: ceil(25 * 0.9)
    with pytest.warns(OutsideRegion, match="1 of 2 rows"):
        wide = fitted.interval([[1.0, 1.0], [5.0, 1.0]], TIMES, extrapolate=True)
    assert np.isinf(wide[1]).all()
    assert np.isfinite(wide[0]).all()


def test_a_measured_discharge_is_calibrated(fitted, solved):
    found = fitted.calibrate(TIMES, fitted.predict([[2.0, 4.0]], TIMES)[0], sigma=0.001, burn=150, steps=100)
    assert found.names == ("i0_n", "D_p")
    np.testing.assert_allclose(found.mean, [2.0, 4.0], atol=4 * found.deviation.max())
    assert found.deviation[1] < 1.0


# ---------------------------------------------------------------------- files
def test_what_was_saved_predicts_the_same(tmp_path, solved):
    emulator = small(graphite_nmc(kinetics="butler-volmer"), ansatz="flat",
                     levels=[Level(0, 50, 6, frozen={"i0_n": 1.0, "D_p": 2.0}), Level(0, 50, 7, 1)]).fit()  # fmt: skip
    emulator.audit(solved)
    emulator.save(tmp_path / "cell.npz")
    back = PINNEmulator.load(tmp_path / "cell.npz")
    rows = [[0.5, 1.0], [3.0, 9.0]]
    for ours, theirs in zip(
        (emulator.fields(rows, TIMES, [0.0, 1.0]), emulator.interval(rows, TIMES)),
        (back.fields(rows, TIMES, [0.0, 1.0]), back.interval(rows, TIMES)), strict=True,
    ):  # fmt: skip
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_array_equal(ours.positive, theirs.positive)
            np.testing.assert_array_equal(ours.voltage, theirs.voltage)
    with pytest.raises(InvalidData, match="a loaded emulator has none"):
        back.extend(Level(0, 50))
    (tmp_path / "other.npz").write_bytes(b"PK nothing")
    with pytest.raises(FormatError, match="no saved emulator"):
        PINNEmulator.load(tmp_path / "other.npz")


# ---------------------------------------------------------------------- what is refused
def test_settings_that_do_not_fit_are_refused():
    cell = simple_cell()
    for settings, message in [
        ({"block": "wide"}, "block= to be one of"),
        ({"activation": "relu"}, "activation= to be one of"),
        ({"ansatz": "round"}, "ansatz= to be one of"),
        ({"inner": 100}, "powers of two"),
        ({"inner": 16}, "inner >= edge"),
        ({"refresh": 70}, "multiples of 50"),
        ({"lr": (1e-4, 1e-3)}, "lr= as two positive numbers"),
        ({"weights": (1.0, -1.0, 1.0, 1.0, 1.0)}, "weights= as five numbers"),
        ({"growth": 2.0}, "growth= between 0 and 1"),
        ({"attention": True, "collocation": "random"}, "fixed points with attention"),
        ({"max_seconds": 0.0}, "max_seconds= above 0"),
        ({"ramp": 0.0}, "ramp= above 0"),
        ({"levels": [Level(iterations=70)]}, "multiples of 50"),
        ({"levels": [Level(begin=100.0)]}, "0 for the first level"),
        ({"levels": [Level(frozen={"i0_n": 1.0, "D_p": 1.0})]}, "nothing frozen"),
        ({"levels": [Level(frozen={"D": 1.0}), Level()]}, "expected the parameters i0_n, D_p"),
        ({"levels": [Level(cell=simple_cell(duration=100.0)), Level()]}, "bounds and the duration"),
    ]:
        with pytest.raises(InvalidData, match=message):
            small(cell, **settings).fit()


def test_questions_that_cannot_be_answered_are_refused(fitted, solved):
    row = [[1.0, 2.0]]
    for call, message in [
        (lambda: fitted.predict([[5.0, 2.0]], TIMES), "1 of 1 rows of parameters lie outside"),
        (lambda: fitted.predict(row, [1400.0]), "times from 0 to 1350 s"),
        (lambda: fitted.predict(row, [2.0, 1.0]), "rising times"),
        (lambda: fitted.predict({"i0_n": 1.0, "x": 2.0}, TIMES), "expected the parameters"),
        (lambda: fitted.fields(row, TIMES, [1.5]), "radii of shape"),
        (lambda: fitted.audit(solved, 0.99), "expected 99 discharges or more"),
        (lambda: fitted.audit(solved, 1.0), "level= between 0 and 1"),
        (lambda: fitted.calibrate(TIMES, -np.ones(15)), "voltages above 0"),
        (lambda: fitted.calibrate(TIMES, np.full(15, np.nan)), "finite voltages"),
    ]:
        with pytest.raises(InvalidData, match=message):
            call()
    with pytest.warns(OutsideRegion):
        assert fitted.predict([[5.0, 2.0]], TIMES, extrapolate=True).shape == (1, 15)
