"""Pictures of trainings: what is drawn against what, and what cannot be."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import OnlineHistory
from locum.plots import plot_learning

matplotlib.use("Agg")

ONE = OnlineHistory((10, 20), (15, 30), (0.5, 1.0), (1e-1, 1e-2), (100, 200))


@pytest.mark.parametrize(
    ("over", "x"), [("updates", [10, 20]), ("ticks", [15, 30]), ("seconds", [0.5, 1.0]), ("unique", [100, 200])]
)
def test_errors_are_drawn_against_what_was_asked_for(over, x):
    ax = plot_learning({"online": ONE, "offline": ONE}, over=over)
    assert [line.get_label() for line in ax.lines] == ["online", "offline"]
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.column_stack([x, ONE.errors]))
    assert ax.get_yscale() == "log"
    matplotlib.pyplot.close("all")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InvalidData, match="over= to be one of updates"):
        plot_learning({"one": ONE}, over="epochs")
    with pytest.raises(InvalidData, match="each with a validation"):
        plot_learning({"one": OnlineHistory((), (), (), (), ())})
