"""Shape functions as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData
from locum.core.program import Levels, Linear, Program, Steps
from locum.plots._axes import COLOURS, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_shapes"]


def plot_shapes(program: Program, *, most: int = 12) -> list[Axes]:
    """Draw what each column adds: steps and slopes over its range, one bar a category; largest first, on one scale.

    Parameters
    ----------
    program : Program
        Of an additive or a sparse linear model.
    most : int, default=12
        Most terms drawn.

    Returns
    -------
    list of matplotlib Axes
    """
    terms = [term for term in program.terms if isinstance(term, Steps | Levels | Linear)]
    if not terms:
        raise InvalidData("expected a sum of shape functions; rules are read as text: print(standin)")
    weights = _weights(program)
    terms = sorted(terms, key=lambda term: -_reach(program, term, weights))[:most]
    wide = min(3, len(terms))
    rows = math.ceil(len(terms) / wide)
    size = (3.2 * wide, 2.3 * rows)
    figure, grid = pyplot().subplots(rows, wide, figsize=size, sharey=True, squeeze=False, layout="constrained")
    drawn = list(grid.ravel())
    for ax, term in zip(drawn, terms, strict=False):
        _draw(ax, program, term, weights)
    for ax in drawn[len(terms) :]:
        ax.remove()
    figure.supylabel("adds" if program.classes is None else "adds to the log-odds", fontsize=9)
    return drawn[: len(terms)]


def _weights(program: Program) -> np.ndarray:
    """Two softmax scores matter by their difference only; more of them are drawn one line a class."""
    width = 1 if program.classes is None else len(program.classes)
    return np.array([[-1.0, 1.0]]) if width == 2 else np.eye(width)


def _corners(program: Program, term: Any) -> tuple[list[float], np.ndarray]:
    column = program.columns[term.column]
    low, high = float(column.low or 0.0), float(column.high if column.high is not None else 1.0)
    if isinstance(term, Linear):
        return [low, high], np.outer([low - term.center, high - term.center], term.slope)
    x = [low, *(edge for edge in term.edges for _ in range(2)), high]
    return x, np.repeat(np.array(term.values), 2, axis=0)


def _reach(program: Program, term: Any, weights: np.ndarray) -> float:
    values = np.array(term.values) if isinstance(term, Levels) else _corners(program, term)[1]
    return float(np.ptp(values @ weights.T, axis=0).max())


def _draw(ax: Any, program: Program, term: Any, weights: np.ndarray) -> None:
    column = program.columns[term.column]
    if isinstance(term, Levels):
        values = np.array(term.values) @ weights.T
        wide = 0.8 / values.shape[1]
        for k, one in enumerate(values.T):
            ax.bar(np.arange(len(one)) + wide * (k - (values.shape[1] - 1) / 2), one, wide, color=COLOURS[k % 8])
        names = [str(level)[:12] for level in column.levels]
        ax.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=7)
    else:
        x, values = _corners(program, term)
        for k, one in enumerate((values @ weights.T).T):
            ax.plot(x, one, color=COLOURS[k % 8], lw=1.4)
    ax.axhline(0, color="0.7", lw=0.6)
    ax.set_title(column.name, fontsize=9, parse_math=False)
