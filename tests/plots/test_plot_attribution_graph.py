"""A picture of a circuit shows its nodes where they are and its edges by their size and sign."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib").use("Agg")
from matplotlib import pyplot  # noqa: E402

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import Node  # noqa: E402
from locum.plots import plot_attribution_graph  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def graph():
    target, feature, head = Node("feature", 2, 7, 1), Node("feature", 0, 3, 1), Node("head", 1, 2, 0)
    word, bias = Node("embedding", -1, -1, 0), Node("bias", 0, -1, 1)
    nodes = {target: 2.0, feature: 1.5, head: -0.5, word: -0.25, bias: 0.1}
    edges = {(feature, target): 1.5, (head, target): -0.5, (word, head): -0.25, (bias, target): 0.1}
    prompt = SimpleNamespace(tokens=np.array([5, 6]))
    return SimpleNamespace(prompt=prompt, target=target, value=2.0, nodes=nodes, edges=edges)


def test_nodes_and_edges_are_where_they_belong():
    ax = plot_attribution_graph(graph(), ["$a", "b"], names={(0, 3): "years"})
    assert {"2.7", "years", "1.2"} <= {text.get_text() for text in ax.texts}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["$a", "b"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["embedding", "0", "1", "2"]
    assert len(ax.lines) == 3  # the bias is left out
    widths = {line.get_color(): line.get_linewidth() for line in ax.lines}
    assert len(widths) == 2
    assert max(line.get_linewidth() for line in ax.lines) == pytest.approx(3.0)
    ax.figure.canvas.draw()


def test_what_cannot_be_drawn_is_refused():
    one = graph()
    with pytest.raises(InvalidData, match="the 2 tokens of the prompt, got 3"):
        plot_attribution_graph(one, ["a", "b", "c"])
    one.nodes = {one.target: 2.0}
    with pytest.raises(InvalidData, match="its target alone"):
        plot_attribution_graph(one)
