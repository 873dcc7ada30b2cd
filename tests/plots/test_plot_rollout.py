"""Pictures of roll-outs: what is drawn where, and what cannot be."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import RolloutErrors
from locum.plots import plot_fields, plot_rollout_errors

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def errors(scale, columns=1):
    of = np.repeat([0, 1, 2], 12)
    by_run = {"nRMSE": scale * (1 + of) * np.random.default_rng(0).uniform(0.9, 1.1, 36)}
    return RolloutErrors(np.array([[0.1], [1.0], [10.0]])[:, [0] * columns], of, by_run, np.zeros(36, dtype=bool))


def test_errors_are_drawn_over_the_parameter_with_intervals():
    ax = plot_rollout_errors({"one": errors(0.1), "two": errors(1.0)}, trained=[0.1, 10.0], tolerance=0.2)
    assert ax.get_xscale() == ax.get_yscale() == "log"
    found = errors(0.1).fidelity()
    line = ax.containers[0]
    np.testing.assert_allclose(line[0].get_xydata(), [[0.1, found[0].value], [1.0, found[1].value], [10.0, found[2].value]])
    ends = line[2][0].get_segments()[1][:, 1]
    np.testing.assert_allclose(ends, [found[1].lower, found[1].upper])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["trained on", "one", "two"]


def test_fields_are_drawn_in_the_colours_of_the_first():
    u = np.outer(np.linspace(1, 2, 5), np.sin(np.arange(8)))
    figure = plot_fields({"solver": u, "stand-in": 3 * u}, dt=0.1)
    images = [ax.get_images()[0] for ax in figure.axes[:2]]
    assert images[0].get_clim() == images[1].get_clim() == (-np.abs(u).max(), np.abs(u).max())
    np.testing.assert_allclose(images[1].get_array(), 3 * u)
    assert images[0].get_extent() == [0, 1.0, 0, 0.5]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InvalidData, match="over one parameter"):
        plot_rollout_errors({"two": errors(1.0, columns=2)})
    with pytest.raises(InvalidData, match="over one parameter"):
        plot_rollout_errors({})
    with pytest.raises(InvalidData, match=r"shape \(T, n\)"):
        plot_fields({"one": np.zeros(3)})
