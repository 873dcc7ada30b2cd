"""Pictures of circuits, heads and tokens show what the results hold."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib").use("Agg")
from matplotlib import pyplot  # noqa: E402

from locum.core.errors import InvalidData  # noqa: E402
from locum.explain.attribution import Attribution, Axis  # noqa: E402
from locum.explain.cd_t import Node, Relevance, Round  # noqa: E402
from locum.plots._circuit import plot_circuit, plot_heads, plot_tokens  # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def search():
    nodes = (Node(0, 1), Node(0, 3), Node(2, 2))
    path = (Round((), (nodes[2],), 1.0), Round((nodes[2]._replace(kind="key"),), nodes[:2], 2.0))
    return SimpleNamespace(decomposition=SimpleNamespace(heads=4), found_=nodes, nodes_=(nodes[0], nodes[2]), path_=path)


def attribution(values, unit="token"):
    names, unknown = tuple(f"w${i}" for i in range(len(values))), np.full(len(values), np.nan)
    return Attribution(
        np.array(values), unknown, unknown, (Axis(unit, names),), base=0.0, row=names, answer=1,
        output="logit of 1 less that of 0", baseline="none", method="m", meaning="margin", fidelity=None, random_state=0,
    )  # fmt: skip


def test_a_circuit_shows_each_head_and_the_way_back():
    ax = plot_circuit(search())
    words = [text.get_text() for text in ax.texts]
    assert {"0.1", "0.3", "2.2", "answer"} <= set(words)
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None) is not None]
    assert len(arrows) == 3  # 2.2 to the answer, and both heads of layer 0 to 2.2
    pale = [dots.get_facecolor()[0][0] for dots in ax.collections]
    assert sorted(round(float(one), 2) for one in pale)[-1] == 0.85


def test_a_search_that_has_found_nothing_is_refused():
    with pytest.raises(InvalidData, match="call fit"):
        plot_circuit(SimpleNamespace(nodes_=()))


def test_heads_stand_where_they_are():
    sources = tuple((Node(layer, head),) for layer in range(2) for head in range(3))
    ax = plot_heads(Relevance(sources, np.arange(6.0)[:, None], None, "the logits"))
    np.testing.assert_array_equal(ax.images[0].get_array(), np.arange(6.0).reshape(2, 3))
    assert ax.images[0].get_clim() == (-5, 5)


def test_tokens_are_written_in_their_order_over_several_lines():
    ax = plot_tokens(attribution(np.linspace(-1, 1, 15)))
    assert [text.get_text() for text in ax.texts] == [f"w${i}" for i in range(15)]
    assert [text.get_position() for text in ax.texts][11:13] == [(11, 0), (0, -1)]
    first, last = (text.get_bbox_patch().get_facecolor() for text in (ax.texts[0], ax.texts[-1]))
    assert first[2] > first[0]
    assert last[0] > last[2]


def test_another_axis_is_refused():
    with pytest.raises(InvalidData, match="one axis of tokens, got column"):
        plot_tokens(attribution([1.0, 2.0], unit="column"))
