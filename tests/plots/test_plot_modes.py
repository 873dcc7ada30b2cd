"""Eigenvalues and errors by horizon as pictures."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.plots import plot_horizons, plot_modes


def test_each_eigenvalue_is_where_it_is_and_those_that_grow_are_marked():
    ax = plot_modes(np.array([1.0, 0.5j, -1.2]))
    inside, beyond = ax.collections
    np.testing.assert_allclose(inside.get_offsets(), [[1.0, 0.0], [0.0, 0.5]])
    np.testing.assert_allclose(beyond.get_offsets(), [[-1.2, 0.0]])
    with pytest.raises(InvalidData, match="finite eigenvalues"):
        plot_modes([])


def test_horizons_have_a_line_a_model_with_its_interval():
    slopes = {"ours": 0.1, "theirs": 0.2}
    errors = {
        h: {name: Fidelity(f"NRMSE({h})", v * h, v * h / 2, v * h * 2, 0.95, 5) for name, v in slopes.items()} for h in (5, 20)
    }
    ax = plot_horizons(errors)
    assert [one.get_text() for one in ax.get_legend().get_texts()] == ["ours", "theirs"]
    np.testing.assert_allclose(ax.containers[1].lines[0].get_xydata(), [[5, 1.0], [20, 4.0]])
    assert ax.get_ylabel() == "NRMSE"
    with pytest.raises(InvalidData, match="same models"):
        plot_horizons({})
