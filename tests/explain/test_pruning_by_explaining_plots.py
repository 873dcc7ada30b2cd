"""The pictures of a pruning show the numbers of its history."""

from __future__ import annotations

import pytest

from locum.core.errors import InvalidData
from locum.explain._prune_records import PruningStep

pyplot = pytest.importorskip("matplotlib.pyplot")
from locum.plots._pruning import plot_pruned_layers, plot_pruning  # noqa: E402


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def step(share, accuracy, **by_layer):
    return PruningStep(share, {"accuracy": accuracy}, 100, 200, 1 - share, 1 - share, 0.01, by_layer)


HISTORY = (step(0.0, 0.9, last=0.0, first=0.0), step(0.5, 0.7, last=0.8, first=0.2))


def test_accuracy_against_share_pruned():
    ax = plot_pruning({"LRP": HISTORY, "random": HISTORY[:1]})
    assert [line.get_label() for line in ax.lines] == ["LRP", "random"]
    assert ax.lines[0].get_xdata().tolist() == [0.0, 50.0]
    assert ax.lines[0].get_ydata().tolist() == [0.9, 0.7]


def test_share_of_each_layer_in_the_order_of_the_network():
    ax = plot_pruned_layers(HISTORY)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["first", "last"]
    assert [bar.get_height() for bar in ax.patches] == [20.0, 80.0]


def test_nothing_measured_is_refused():
    with pytest.raises(InvalidData, match="'loss' measured"):
        plot_pruning({"LRP": HISTORY}, measure="loss")
    with pytest.raises(InvalidData, match="got none"):
        plot_pruned_layers(())
