"""Pictures show what the result says: as many marks, the right places, names as text."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.domain import Column
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.program import Condition, Levels, Linear, Program, Rule, Steps

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")

from locum.core.target import Target  # noqa: E402
from locum.explain import LimeExplainer  # noqa: E402
from locum.plots import plot_attribution, plot_frontier, plot_shapes  # noqa: E402


class Points:
    """A frontier of four points."""

    def rows(self):
        values = [("tree", 1, 0.6), ("tree", 4, 0.9), ("rule list", 2, 0.8), ("rule list", 8, 0.92)]
        return tuple(
            {"name": name, "statements": k, "fidelity": Fidelity("agreement", v, v - 0.05, v + 0.04, 0.95, 200), "knee": k == 4}
            for name, k, v in values
        )


@pytest.fixture(autouse=True)
def closed():
    yield
    matplotlib.pyplot.close("all")


def test_the_frontier_has_a_line_a_family_and_marks_the_knee():
    ax = plot_frontier(Points())
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["tree", "rule list"]
    assert [text.get_text() for text in ax.texts] == ["more stops paying"]
    drawn = [np.asarray(container.lines[0].get_ydata(), dtype=float) for container in ax.containers]
    np.testing.assert_allclose(drawn[0], [0.6, 0.9])
    np.testing.assert_allclose(drawn[1], [0.8, 0.92])
    assert "agreement" in ax.get_ylabel()


def test_it_draws_where_it_is_told():
    ax = matplotlib.pyplot.figure().add_subplot()
    assert plot_frontier(Points(), ax) is ax


def test_a_frontier_without_points_is_refused():
    empty = Points()
    empty.rows = lambda: ()
    with pytest.raises(InvalidData, match="got none"):
        plot_frontier(empty)


def test_shapes_are_drawn_by_reach_over_their_range():
    letter = Column("$x_1$", "categorical", levels=("a", "b"))
    columns = (Column("age", low=0.0, high=10.0), letter, Column("z", low=-1.0, high=1.0))
    terms = (
        Steps(0, (4.0,), ((-1.0,), (2.0,)), (0.0,)),
        Levels(1, ((0.5,), (-0.5,)), (0.0,), (0.0,)),
        Linear(2, (3.0,), 0.0, (0.0,)),
    )
    drawn = plot_shapes(Program(columns, "value", None, "identity", "sum", terms, (1.0,)))
    assert [ax.get_title() for ax in drawn] == ["z", "age", "$x_1$"]
    np.testing.assert_allclose(drawn[0].lines[0].get_ydata(), [-3.0, 3.0])
    np.testing.assert_allclose(drawn[1].lines[0].get_xdata(), [0, 4, 4, 10])
    np.testing.assert_allclose(drawn[1].lines[0].get_ydata(), [-1, -1, 2, 2])
    assert [bar.get_height() for bar in drawn[2].patches] == [0.5, -0.5]
    drawn[0].figure.canvas.draw()  # a name is not read as a formula


def test_two_classes_are_drawn_by_their_difference():
    columns = (Column("age", low=0.0, high=10.0),)
    program = Program(columns, "class", ("no", "yes"), "softmax", "sum", (Linear(0, (-1.0, 1.0), 5.0, (0.0, 0.0)),), (0.0, 0.0))
    (ax,) = plot_shapes(program)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [-10, 10])


def test_rules_are_not_shapes():
    columns = (Column("age", low=0.0, high=10.0),)
    program = Program(columns, "value", None, "identity", "rules", (Rule((Condition(0, high=3.0),), (1.0,)),), (0.0,))
    with pytest.raises(InvalidData, match="read as text"):
        plot_shapes(program)


def test_an_attribution_has_a_bar_a_part_with_its_interval_and_says_how_faithful_it_is():
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(300, 3))
    target = Target(lambda X: 2.0 * X[:, 0] - X[:, 1], name="$line_1$", output="value")
    (found,) = LimeExplainer(target, X, random_state=0).explain(X[:1])
    ax = plot_attribution(found, most=2)
    assert [label.get_text() for label in ax.get_yticklabels()] == [part.name for part in found.top(2)]
    np.testing.assert_allclose(sorted(bar.get_width() for bar in ax.patches), sorted(part.value for part in found.top(2)))
    assert ax.get_title() == str(found.fidelity)
    (zero,) = LimeExplainer(Target(lambda X: np.ones(len(X)), output="value"), X).explain(X[:1])
    with pytest.raises(InvalidData, match="nothing to draw"):
        plot_attribution(zero)
