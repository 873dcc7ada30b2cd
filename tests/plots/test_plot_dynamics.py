"""Pictures of trajectories: every run has a panel with the limits of the truth, and a spectrum where it lives."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.plots import plot_attractors

matplotlib.use("Agg")
TIME = 0.1 * np.arange(2000)
TRUTH = np.stack([np.sin(TIME), np.cos(TIME), TIME], axis=1)


def test_a_panel_a_run_and_a_peak_at_its_frequency():
    dead = np.zeros((50, 3))
    figure = plot_attractors({"truth": TRUTH, "twice": 2 * TRUTH, "dead": dead}, dt=0.1, smoothing=1.0)
    spectra, *panels = figure.axes
    assert [ax.get_title() for ax in panels] == ["truth", "twice", "dead"]
    assert len({ax.get_xlim() for ax in panels}) == 1
    assert panels[0].get_xlim()[1] == pytest.approx(1.2, abs=0.01)
    assert len(spectra.lines) == 2, "what does not move has no spectrum"
    frequency, power = spectra.lines[0].get_data()
    assert frequency[np.argmax(power)] == pytest.approx(1 / (2 * np.pi), abs=0.01)
    matplotlib.pyplot.close(figure)


def test_columns_that_are_not_there_are_refused():
    with pytest.raises(InvalidData, match=r"that have columns \(0, 5\)"):
        plot_attractors({"truth": TRUTH}, columns=(0, 5))
