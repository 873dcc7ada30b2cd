"""The lattice Boltzmann fluid against a flow whose decay is known, and the wake of a cylinder against its frequency."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from locum.core.errors import InvalidData
from locum.problems.cylinder_wake import CylinderWake, LatticeFluid

RANDOM = np.random.default_rng(0).uniform(-0.19, 0.19, (2, 8, 8))


def taylor_green(n: int) -> tuple[float, LatticeFluid]:
    """Relative error at a fixed time of vortices that decay, with speeds that fall as cells get smaller."""
    viscosity, speed, k = 0.05, 0.64 / n, 2 * np.pi / n
    x, y = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    u = speed * np.stack([-np.cos(k * x) * np.sin(k * y), np.sin(k * x) * np.cos(k * y)])
    pressure = -(speed**2) / 4 * (np.cos(2 * k * x) + np.cos(2 * k * y))
    fluid = LatticeFluid(u, viscosity, density=1 + 3 * pressure)
    steps = round(0.25 / (viscosity * k**2))
    fluid.advance(steps)
    wanted = u * np.exp(-2 * viscosity * k**2 * steps)
    return float(np.linalg.norm(fluid.velocity - wanted) / np.linalg.norm(wanted)), fluid


def test_the_error_is_of_second_order_and_mass_and_momentum_stay():
    found = {n: taylor_green(n) for n in (12, 24, 48)}
    errors = [one for one, _ in found.values()]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert ((orders > 1.8) & (orders < 2.2)).all()
    fluid = found[24][1]
    assert fluid.density.mean() == pytest.approx(1.0, abs=1e-12)
    assert np.abs((fluid.density * fluid.velocity).sum(axis=(1, 2))).max() < 1e-10


def test_vortices_are_shed_at_the_frequency_that_is_known():
    wake = CylinderWake(diameter=6, speed=0.1, size=32)
    frames = wake.frames(120, steps=20, transient=120.0)
    assert frames.shape == (120, 2, 32, 32)
    across = frames[:, 1, 16, 12] - frames[:, 1, 16, 12].mean()
    assert across.std() > 0.1
    power = np.abs(np.fft.rfft(across * np.hanning(120), 4096)) ** 2
    strouhal = np.fft.rfftfreq(4096, wake.dt(20))[power.argmax()]
    assert 0.14 < strouhal < 0.22  # 0.164 for a cylinder that stands alone; walls nearby raise it
    np.testing.assert_array_equal(frames[:3], wake.frames(3, steps=20, transient=120.0))


def test_a_slow_flow_sheds_no_vortices():
    frames = CylinderWake(reynolds=20, diameter=6, speed=0.1, size=32).frames(2, steps=200, transient=150.0)
    assert np.abs(frames[1] - frames[0]).max() < 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LatticeFluid(np.full((2, 4, 4), 0.3), 0.1), "below 0.2"),
        (lambda: LatticeFluid(np.full((2, 4, 4), np.nan), 0.1), "below 0.2"),
        (lambda: LatticeFluid(np.zeros((2, 4, 4)), 0.0), "positive viscosity"),
        (lambda: LatticeFluid(np.zeros((2, 4, 4)), 0.1, solid=np.zeros((3, 4))), "solid="),
        (lambda: CylinderWake(diameter=3), "diameter"),
        (lambda: CylinderWake(diameter=6, size=64), "at most 10 diameters"),
        (lambda: LatticeFluid(RANDOM, 1e-12).advance(5000), "no longer finite"),
    ],
)
def test_what_cannot_be_simulated_is_refused(call, message):
    with np.errstate(all="ignore"), pytest.raises(InvalidData, match=message):
        call()
