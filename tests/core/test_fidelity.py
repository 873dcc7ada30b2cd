"""Fidelity: only whole records, one stable line, and the same record back from JSON."""

from __future__ import annotations

import json
import math
import re
from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest

from locum.core.errors import FormatError, InvalidData
from locum.core.fidelity import Fidelity

MEASURED = Fidelity("agreement", 0.943, 0.927, 0.956, 0.95, 1000, region="training box", candidates=3)
LINE = re.compile(r"(\S+) (\S+) \[(\S+), (\S+)\]( \(lower is better\))? at (\S+) %, n=(\d+) ")


def shown(value, lower, upper):
    """The three numbers as they are printed."""
    line = str(Fidelity("x", value, lower, upper, 0.95, 10))
    return [float(part) for part in LINE.match(line).group(2, 3, 4)]


def test_the_line():
    assert str(MEASURED) == (
        "agreement 0.943 [0.927, 0.956] at 95 %, n=1000 fresh queries, region: training box, best of 3 candidates"
    )
    rmse = Fidelity("rmse", 0.21, 0.19, 0.23, 0.999, 400, how="held-out rows", groups=30, greater_is_better=False)
    assert str(rmse) == "rmse 0.210 [0.190, 0.230] (lower is better) at 99.9 %, n=400 held-out rows in 30 groups"
    short = replace(MEASURED, level=0.5, candidates=1, region="")
    assert str(short) == "agreement 0.943 [0.927, 0.956] at 50 %, n=1000 fresh queries"


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.9434, 0.92749, 0.95601), "0.943 [0.927, 0.957]"),  # outwards
        ((0.93, 0.93, 0.93), "0.930 [0.930, 0.930]"),  # although 0.93 is stored as a little less
        ((0.9999, 0.99951, 1.0), "1.000 [0.999, 1.000]"),
        ((-0.5, -1.2345, 0.3), "-0.500 [-1.235, 0.300]"),
        ((0.0123, 0.0119, 0.01281), "0.0123 [0.0119, 0.0129]"),
        ((1.23e-7, 1.19e-7, 1.281e-7), "1.23e-07 [1.19e-07, 1.29e-07]"),
        ((12345.6, 12011.0, 12999.0), "1.23e+04 [1.2e+04, 1.3e+04]"),
        ((54.321, 50.0, 60.01), "54.3 [50.0, 60.1]"),
        ((-5.5, -1e5, 0.9), "-5.50 [-1e+05, 0.900]"),  # beside a far larger number the others keep their figures
        ((0.0, 0.0, 0.0), "0.000 [0.000, 0.000]"),
        ((1e300, -1e300, 2e307), "1e+300 [-1e+300, 2e+307]"),
        ((5e-324, 0.0, 5e-324), "0 [0, 0]"),
    ],
)
def test_numbers_are_printed_with_what_they_say(numbers, expected):
    assert str(Fidelity("x", *numbers, 0.95, 10)).startswith(f"x {expected} at")


def test_bounds_are_rounded_away_from_the_value():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        lower, value, upper = np.sort(rng.normal(size=3) * 10.0 ** rng.integers(-9, 9, 3))
        printed = shown(value, lower, upper)
        tolerance = 1e-12 + 2e-6 * max(abs(lower), abs(upper))  # 0.93 may be stored as 0.92999...
        assert printed[1] <= lower + tolerance
        assert printed[2] >= upper - tolerance
        assert printed[1] <= printed[0] <= printed[2]


def test_a_record_survives_json():
    for record in (MEASURED, replace(MEASURED, groups=12, greater_is_better=False, method="dirichlet", how="survey")):
        text = json.dumps(record.to_dict())
        assert Fidelity.from_dict(json.loads(text)) == record
    assert record.to_dict() == {"format": 1, **asdict(record)}


def test_numbers_of_numpy_become_plain():
    record = Fidelity("r2", np.float32(0.5), np.float64(0.25), np.int64(1), 0.95, np.int64(10), groups=np.int32(5))
    assert [type(number) for number in (record.value, record.lower, record.upper, record.n, record.groups)] == [
        float, float, float, int, int,
    ]  # fmt: skip
    json.dumps(record.to_dict())


def test_a_record_cannot_be_changed_and_can_be_compared():
    with pytest.raises(FrozenInstanceError):
        MEASURED.value = 1.0
    assert replace(MEASURED) == MEASURED
    assert len({MEASURED, replace(MEASURED), replace(MEASURED, n=5)}) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measure": 3}, "expected measure to be text, got 3"),
        ({"region": None}, "expected region to be text, got None"),
        ({"value": math.nan}, "expected value of a fidelity to be a finite number, got nan"),
        ({"upper": math.inf}, "expected upper of a fidelity to be a finite number, got inf"),
        ({"lower": "0.9"}, "expected lower of a fidelity to be a finite number, got '0.9'"),
        ({"value": True}, "expected value of a fidelity to be a finite number, got True"),
        ({"value": None}, "expected value of a fidelity to be a finite number, got None"),
        ({"lower": 0.99, "value": 0.95}, r"expected lower <= upper, got \[0.99, 0.956\]: swap the two ends"),
        ({"value": 0.9}, r"expected a value inside \[0.927, 0.956\], got 0.9"),
        ({"level": 0.0}, "expected a level between 0 and 1"),
        ({"level": 95}, "expected a level between 0 and 1"),
        ({"n": 1}, "expected n to be a whole number of 2 or more, got 1"),
        ({"n": 10.0}, "expected n to be a whole number of 2 or more, got 10.0"),
        ({"n": True}, "expected n to be a whole number of 2 or more, got True"),
        ({"candidates": 0}, "expected candidates to be a whole number of 1 or more, got 0"),
        ({"groups": 1}, "expected groups to be a whole number of 2 or more, got 1"),
        ({"greater_is_better": 1}, "expected greater_is_better to be True or False, got 1"),
    ],
)
def test_what_contradicts_itself_is_refused(change, message):
    with pytest.raises(InvalidData, match=message):
        replace(MEASURED, **change)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (MEASURED.to_dict() | {"format": 2}, "expected a fidelity record of format 1, got 2: update Locum"),
        ({}, "expected a fidelity record of format 1, got None"),
        ([1, 2], "expected a fidelity record of format 1, got 'list'"),
        ({k: v for k, v in MEASURED.to_dict().items() if k != "n"}, r"others or too few: \['n'\]"),
        (MEASURED.to_dict() | {"score": 1}, r"others or too few: \['score'\]"),
    ],
)
def test_a_record_of_another_format_is_refused(record, message):
    with pytest.raises(FormatError, match=message):
        Fidelity.from_dict(record)


def test_a_record_that_contradicts_itself_is_refused_on_reading():
    with pytest.raises(InvalidData, match="expected a value inside"):
        Fidelity.from_dict(MEASURED.to_dict() | {"value": 0.5})
