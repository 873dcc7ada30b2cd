"""The picture of a probe's report shows each method that has the measure, the best at the top."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from locum.core.errors import InvalidData  # noqa: E402
from locum.core.fidelity import Fidelity  # noqa: E402
from locum.inside import ProbeReport  # noqa: E402
from locum.plots import plot_probe  # noqa: E402


def told(value):
    return Fidelity("answer @1", value, value - 0.1, value + 0.1, 0.95, 50)


def test_methods_stand_in_order_with_their_intervals():
    methods = {"probe": {"answer @1": told(0.6), "cosine": told(0.4)}, "linear": {"answer @1": told(0.8)}}
    report = ProbeReport(methods, {"probe": np.array([1])}, (), 0)
    ax = plot_probe(report)
    assert [one.get_text() for one in ax.get_yticklabels()] == ["probe", "linear"]
    assert [line.get_xdata().tolist() for line in ax.lines[::2]] == [pytest.approx([0.5, 0.7]), pytest.approx([0.7, 0.9])]
    assert "95 %" in ax.get_xlabel()
    assert len(plot_probe(report, "cosine").lines) == 2
    with pytest.raises(InvalidData, match="no measure 'bits'; there is answer @1, cosine"):
        plot_probe(report, "bits")
    matplotlib.pyplot.close("all")
