"""Spaces of parameters: points there and back, conditions, even filling, and what is refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locum.core.errors import FormatError, InvalidData
from locum.optimize import Categorical, Integer, Real, Space

MIXED = Space(
    [
        Real("rate", 1e-4, 1.0, log=True),
        Integer("layers", 1, 4),
        Integer("width", 8, 512, log=True),
        Categorical("optimizer", ("sgd", "adam", "none")),
        Real("momentum", 0.0, 0.99, when=("optimizer", ("sgd",))),
        Categorical("schedule", (True, False), when=("optimizer", ("sgd", "adam"))),
        Integer("steps", 1, 9, when=("schedule", (True,))),
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_points_come_back_as_they_were(seed):
    (point,) = MIXED.sample(1, np.random.default_rng(seed))
    assert MIXED.check(point) == point
    units = MIXED.encode([point])
    assert units.shape == (1, MIXED.width)
    assert ((units >= 0) & (units <= 1)).all()
    (back,) = MIXED.decode(units)
    assert back.keys() == point.keys()
    for name, value in point.items():
        assert back[name] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)
    assert MIXED.decode(MIXED.encode([back])) == [back]


def test_parameters_matter_only_under_their_choice():
    names = [tuple(MIXED.decode(MIXED.encode([point]))[0]) for point in MIXED.sample(300, np.random.default_rng(0))]
    base = ("rate", "layers", "width", "optimizer")
    assert set(names) == {
        (*base, "momentum", "schedule", "steps"),
        (*base, "momentum", "schedule"),
        (*base, "schedule", "steps"),
        (*base, "schedule"),
        base,
    }
    # Where the optimiser is "none" there is no schedule, so no steps either, whatever their columns say.
    units = np.ones((1, MIXED.width))
    units[0, MIXED.columns[3]] = (0, 0, 1)
    assert tuple(MIXED.decode(units)[0]) == base


def test_ranges_are_filled_evenly_and_logs_by_ratio():
    points = MIXED.sobol(512, random_state=1)
    counts = np.bincount([point["layers"] for point in points])[1:]
    assert counts.min() > 110
    rates = np.log10([point["rate"] for point in points])
    np.testing.assert_allclose(np.histogram(rates, bins=4, range=(-4, 0))[0], 128, atol=4)
    widths = np.array([point["width"] for point in points])
    assert abs((widths < 64).mean() - 0.5) < 0.05
    assert MIXED.sobol(5, random_state=1) == MIXED.sobol(5, random_state=1) != MIXED.sobol(5, random_state=2)


def test_facts():
    assert MIXED.width == 3 + 3 + 1 + 2 + 1
    assert MIXED.continuous.tolist() == [True, False, False] + [False] * 3 + [True, False, False, False]
    assert MIXED.size == math.inf
    assert Space([Integer("a", 0, 4), Categorical("b", "xyz")]).size == 15
    assert Space.box([(0, 1), (-2, 2)]).names == ("x0", "x1")


def test_a_finite_space_lists_its_points_and_counts_those_that_differ():
    space = Space([
        Categorical("kernel", ("linear", "poly", "both")), Integer("degree", 2, 5, when=("kernel", ("poly", "both"))),
        Categorical("scaled", (True, False)), Integer("rank", 1, 2, when=("kernel", ("both",))),
    ])  # fmt: skip
    points = space.points()
    assert len(points) == space.size == 2 * (1 + 4 + 4 * 2)
    assert len({space.key(point) for point in points}) == len(points)
    assert all(space.check(point) == point for point in points)
    drawn = {space.key(point) for point in space.sample(2000, np.random.default_rng(0))}
    assert drawn == {space.key(point) for point in points}
    endless = Space([Categorical("kind", ("a", "b")), Real("x", 0.0, 1.0, when=("kind", ("b",)))])
    assert endless.size == math.inf
    with pytest.raises(InvalidData, match="without Real"):
        endless.points()


def test_it_survives_json_and_its_digest_tells_it_from_others():
    back = Space.from_dict(json.loads(json.dumps(MIXED.to_dict())))
    assert back == MIXED
    assert back.digest == MIXED.digest != Space.box([(0, 1)]).digest
    for wrong in ({}, {"parameters": [{"kind": "real"}]}, {"parameters": [{"kind": "complex", "name": "a"}]}, None):
        with pytest.raises(FormatError, match="no space"):
            Space.from_dict(wrong)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Real("a", 2, 1), "low below high"),
        (lambda: Real("a", 1, 1), "low below high"),
        (lambda: Real("a", 0, math.inf), "finite bounds"),
        (lambda: Real("a", math.nan, 1), "finite bounds"),
        (lambda: Real("a", 0, 1, log=True), "above 0 with log=True"),
        (lambda: Real("", 0, 1), "a name for each parameter"),
        (lambda: Integer("a", 0.5, 3), "whole numbers as the ends"),
        (lambda: Categorical("a", ("x",)), "two or more different choices"),
        (lambda: Categorical("a", ("x", "x")), "two or more different choices"),
        (lambda: Categorical("a", (None, "x")), "text, numbers or bools"),
        (lambda: Space([]), "at least one parameter"),
        (lambda: Space([Real("a", 0, 1), Real("a", 0, 2)]), "comes twice"),
        (lambda: Space([Real("a", 0, 1, when=("b", ("x",)))]), "no Categorical that stands before it"),
        (lambda: Space([Categorical("b", "xy"), Real("a", 0, 1, when=("b", ("z",)))]), "values of b in when="),
        (lambda: Space(["a"]), "Real, Integer or Categorical"),
    ],
)
def test_spaces_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InvalidData, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 2.0}, "rate between"),
        ({"rate": "high"}, "rate between"),
        ({"layers": 2.5}, "layers to be a whole number from 1 to 4"),
        ({"optimizer": "lbfgs"}, "optimizer to be one of 'sgd', 'adam', 'none'"),
        ({"steps": 3}, "'steps' is unknown, or does not matter"),
        ({"colour": 3}, "'colour' is unknown"),
        ({"rate": None}, "rate between"),
    ],
)
def test_points_outside_the_space_are_refused(change, message):
    good = {"rate": 0.1, "layers": 2, "width": 64, "optimizer": "adam", "schedule": False}
    assert MIXED.check(good) == good
    with pytest.raises(InvalidData, match=message):
        MIXED.check({**good, **change})
    with pytest.raises(InvalidData, match="'width' is missing"):
        MIXED.check({name: value for name, value in good.items() if name != "width"})
    with pytest.raises(InvalidData, match="a point as a dict"):
        MIXED.check([1, 2])
    with pytest.raises(InvalidData, match=r"rows of shape \(n, 10\)"):
        MIXED.decode(np.zeros((2, 3)))


def test_many_points_are_encoded_as_one_by_one():
    rng = np.random.default_rng(3)
    points = MIXED.sample(200, rng)
    rows = MIXED.encode(points)
    np.testing.assert_array_equal(rows, np.concatenate([MIXED.encode([point]) for point in points]))
    again = MIXED.decode(rows)
    assert again == [one for row in rows for one in MIXED.decode([row])]
    assert [MIXED.key(one) for one in again] == [MIXED.key(MIXED.check(one)) for one in again]
    assert MIXED.encode([]).shape == (0, MIXED.width)
    assert MIXED.decode(np.zeros((0, MIXED.width))) == []


@pytest.mark.parametrize("value", [True, np.bool_(True), "1", None, np.nan, np.inf, [0.5], 1 + 0j])
def test_among_many_the_value_that_is_no_number_is_named(value):
    space = Space([Real("x", 0.0, 1.0), Integer("k", 0, 3)])
    good = {"x": np.float32(0.5), "k": np.int64(2)}
    assert space.encode([good, good]).shape == (2, 2)
    with pytest.raises(InvalidData, match="expected x between 0 and 1, got"):
        space.encode([good, {"x": value, "k": 1}])
    with pytest.raises(InvalidData, match="expected k to be a whole number from 0 to 3, got"):
        space.encode([good, {"x": 0.1, "k": value}])
