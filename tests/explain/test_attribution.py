"""Attribution records: order, words, several axes, JSON and back, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from locum.core.errors import FormatError, InvalidData
from locum.core.fidelity import Fidelity
from locum.explain.attribution import Attribution, Axis

FIDELITY = Fidelity("r2", 0.8, 0.7, 0.9, 0.95, 120, region="rows near this one")


def made(values, lower=None, upper=None, axes=None, **rest):
    values = np.asarray(values, dtype=float)
    names = tuple(f"c{i}" for i in range(len(values)))
    settings = {
        "base": 0.5,
        "row": tuple(range(len(values))),
        "answer": "yes",
        "output": "the probability of yes",
        "baseline": "100 rows of the data",
        "method": "LIME",
        "meaning": "change",
        "fidelity": FIDELITY,
        "random_state": 3,
    }
    lower = values - 0.1 if lower is None else lower
    upper = values + 0.1 if upper is None else upper
    return Attribution(values, lower, upper, axes or (Axis("column", names),), **{**settings, **rest})


def test_top_is_by_absolute_value_and_leaves_out_what_adds_nothing():
    found = made([0.1, -0.4, 0.0, 0.4, 0.2])
    assert [part.name for part in found.top(3)] == ["c1", "c3", "c4"]  # of equal ones the first comes first
    assert [part.position for part in found.top(9)] == [(1,), (3,), (4,), (0,)]
    assert found.top(1)[0].lower == pytest.approx(-0.5)


def test_values_of_several_axes_have_a_name_each():
    axes = (Axis("time point", ("t0", "t1")), Axis("channel", ("left", "right", "both")))
    found = made([[1, 2, 3], [-4, 5, 6]], axes=axes, row=[[0.0] * 3] * 2)
    assert found.unit == "time point and channel"
    assert found.names[4] == "t1, right"
    assert found.top(1)[0] == ("t1, both", 6.0, 5.9, 6.1, (1, 2))
    assert "t1, both   +6 [+5.9, +6.1]" in found.text()


def test_words_show_values_of_the_row_intervals_fidelity_and_what_is_left_out():
    found = made([0.25, -0.5, 0.0], [0.2, np.nan, 0.0], [0.3, np.nan, 0.0], row=(39.0, None, "red"))
    lines = found.text().splitlines()
    assert lines[0] == "LIME of the probability of yes, where the target answers yes"
    assert lines[2:4] == ["c1 = missing   -0.5", "c0 = 39       +0.25 [+0.2, +0.3]"]
    assert lines[-1] == str(FIDELITY)
    assert "and 1 more" in found.text(1)
    assert "no part of it" in made([0.0, 0.0]).text()
    assert "fidelity not measured" in str(made([1.0], fidelity=None))


@pytest.mark.parametrize("answer", ["yes", 3.5, [0.25, 0.75], True])
def test_json_and_back(answer):
    found = made([0.25, -0.5], [0.2, np.nan], [0.3, np.nan], answer=answer, row=(1.5, None))
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    again = Attribution.from_dict(record)
    assert again.to_dict() == found.to_dict()
    assert str(again) == str(found)
    np.testing.assert_array_equal(again.lower, found.lower)


def test_arrays_are_copies_that_nobody_can_write_to():
    values = np.array([1.0, 2.0])
    found = made(values)
    values[0] = 9.0
    assert found.values[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 2.0


def test_what_contradicts_itself_is_refused():
    with pytest.raises(InvalidData, match=r"expected lower of shape \(2,\)"):
        made([1.0, 2.0], lower=[1.0])
    with pytest.raises(InvalidData, match="inside its interval, got 1 outside"):
        made([1.0], lower=[1.5], upper=[2.0])
    with pytest.raises(InvalidData, match="NaN at both ends"):
        made([1.0], lower=[np.nan], upper=[2.0])
    with pytest.raises(InvalidData, match="finite values"):
        made([np.nan])
    with pytest.raises(InvalidData, match="level between 0 and 1"):
        made([1.0], level=95)
    with pytest.raises(InvalidData, match="k of 1 or more"):
        made([1.0]).top(0)


def test_foreign_records_are_refused():
    with pytest.raises(FormatError, match="format 1, got 2"):
        Attribution.from_dict({**made([1.0]).to_dict(), "format": 2})
    with pytest.raises(FormatError, match="got 'list'"):
        Attribution.from_dict([])
    record = made([1.0]).to_dict()
    del record["axes"]
    with pytest.raises(FormatError, match="not an attribution"):
        Attribution.from_dict(record)
