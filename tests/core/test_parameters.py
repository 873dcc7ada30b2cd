"""Parameters by name or as rows."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.core.parameters import parameter_rows


def test_names_and_rows_say_the_same():
    wanted = [[1.0, 5.0], [2.0, 5.0]]
    np.testing.assert_array_equal(parameter_rows({"b": 5, "a": [1, 2]}, ("a", "b")), wanted)
    np.testing.assert_array_equal(parameter_rows(wanted, ("a", "b")), wanted)
    np.testing.assert_array_equal(parameter_rows([1, 5], ("a", "b")), wanted[:1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": 1}, "the parameters a, b, got a"),
        ({"a": [1, 2], "b": [1, 2, 3]}, "broadcast to one length"),
        ({"a": "x", "b": 1}, "numbers for a, b"),
        ([[1, 2, 3]], r"shape \(n, 2\), for a, b, got \(1, 3\)"),
        ([1, np.inf], "finite parameters"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(InvalidData, match=message):
        parameter_rows(given, ("a", "b"))
