"""Bodies of cars: closed whatever the parameters, each of which is seen; and the Ahmed body with its own dimensions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems.cars import BODIES, PARAMETERS, WHEELS, ahmed_body, car_from_parameters, lofted

pytest.importorskip("trimesh")


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("wheels", WHEELS)
def test_cars_are_closed_and_faces_look_outwards_at_the_ends_of_all_ranges(body, wheels):
    rng = np.random.default_rng([len(wheels), ord(body)])
    for _ in range(2):
        given = {name: ends[rng.integers(2)] for name, ends in PARAMETERS.items()}
        car = car_from_parameters(given, f"{body}_S_{wheels}_WM")
        assert car.is_watertight
        assert car.is_winding_consistent
        parts = car.split()
        assert len(parts) == 11  # shell, four wheels, two mirrors, four handles
        assert min(part.volume for part in parts) > 0
        assert car.bounds[0, 2] == pytest.approx(0, abs=1e-9)
        assert car.bounds[:, 1].sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_is_seen(name):
    """Somewhere an edge moves by a pixel or more at 128 pixels, or a surface turns by as much as is easily seen."""
    pytest.importorskip("embreex")
    from locum.emulate import render_views

    low, high = (render_views(car_from_parameters({name: end}), size=128, supersample=1) for end in PARAMETERS[name])
    changed = np.abs(high - low).max(axis=1) > 0.1
    columns, rows = changed.any(axis=1).sum(axis=1), changed.any(axis=2).sum(axis=1)
    assert max(np.minimum(columns, rows)) >= 2
    assert changed.sum(axis=(1, 2)).max() >= 20


def test_lengths_do_what_their_names_say():
    plain, longer, wider, higher = (
        car_from_parameters(p) for p in ({}, {"A_Car_Length": 100.0}, {"A_Car_Width": 100.0}, {"A_Car_Roof_Height": 50.0})
    )
    assert (longer.extents - plain.extents) == pytest.approx([0.1, 0, 0], abs=1e-6)
    assert (wider.extents - plain.extents) == pytest.approx([0, 0.1, 0], abs=1e-6)
    assert (higher.extents - plain.extents) == pytest.approx([0, 0, 0.05], abs=2e-3)


def test_bodies_differ_behind_and_wheels_in_their_discs():
    cars = {body: car_from_parameters(kind=f"{body}_S_WWC_WM").volume for body in BODIES}
    assert cars["E"] > cars["F"] > cars["N"]
    discs = [car_from_parameters(kind=f"F_S_{wheels}_WM").volume for wheels in ("WW", "WWS", "WWC")]
    assert discs[0] < discs[1] < discs[2]


def test_the_ahmed_body_has_its_dimensions():
    for slant in (0.0, 12.5, 25.0, 40.0):
        body = ahmed_body(slant)
        assert body.is_watertight
        assert body.volume > 0
        assert body.extents == pytest.approx([1.044, 0.389, 0.288], abs=1e-3)
        rear = body.vertices[body.vertices[:, 0] > body.bounds[1, 0] - 1e-9]
        assert rear[:, 2].max() == pytest.approx(0.05 + 0.288 - 0.222 * math.sin(math.radians(slant)), abs=1e-9)


def test_a_loft_through_squares_is_a_block():
    square = np.array([[0, 0], [1, 0], [1, 2], [0, 2]], dtype=float)
    for order in (square, square[::-1]):
        block = lofted([np.column_stack([np.full(4, x), order]) for x in (0.0, 1.0, 3.0)])
        assert block.is_watertight
        assert block.volume == pytest.approx(6)
        assert block.area == pytest.approx(2 * (2 + 3 + 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: car_from_parameters({"Speed": 1.0}), "parameters= to be one of B_Ramp_Angle"),
        (lambda: car_from_parameters({"A_Car_Length": 900.0}), "A_Car_Length between -60 and 130, got 900"),
        (lambda: car_from_parameters({"A_Car_Length": math.nan}), "A_Car_Length between -60 and 130, got nan"),
        (lambda: car_from_parameters(kind="T_S_WW_WM"), "a body of E, F, N and wheels of WW, WWS, WWC, got 'T_S_WW_WM'"),
        (lambda: ahmed_body(50.0), "slant= between 0 and 45 degrees"),
        (lambda: ahmed_body(length=0.2), "length= above 0.5 m"),
        (lambda: lofted(np.zeros((1, 4, 3))), "two sections or more"),
    ],
)  # fmt: skip
def test_what_is_no_car_is_refused(call, message):
    with pytest.raises(InvalidData, match=message):
        call()
