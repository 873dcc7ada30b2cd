"""Posteriors in the plane of two parameters."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import Calibration
from locum.plots import plot_posterior

matplotlib.use("Agg")


def calibration(seed, names=("a", "b")):
    draws = np.random.default_rng(seed).normal([1.0, 2.0], [0.1, 0.5], (4000, 2))
    return Calibration(names, draws, 0.01, 0.5, 20.0, True)


def test_draws_means_and_the_truth_are_shown():
    found = calibration(0)
    ax = plot_posterior({"network": found, "solver": calibration(1)}, truth=[1.0, 2.0], draws=500)
    assert [len(one.get_offsets()) for one in ax.collections if len(one.get_offsets()) > 2] == [500, 500]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"network", "solver", "truth"}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")
    x, y = ax.containers[0].lines[0].get_data()
    np.testing.assert_allclose([x[0], y[0]], found.mean)
    matplotlib.pyplot.close(ax.figure)


def test_what_does_not_belong_together_is_refused():
    one, other = calibration(0), calibration(1, ("a", "c"))
    for given, pair in (({"x": one, "y": other}, (0, 1)), ({"x": one}, (0, 2)), ({}, (0, 1))):
        with pytest.raises(InvalidData, match="calibrations of the same parameters"):
            plot_posterior(given, pair=pair)
