"""A learned Pareto front beside the designs that were evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_pareto"]

_REACH = 1.645  # standard deviations on either side that hold 90 %


def plot_pareto(learner: Any, objectives: tuple[int, int] = (0, 1), ax: Axes | None = None) -> Axes:
    """Draw two objectives of evaluated designs, and of the learned front with what 90 % of evaluations would give.

    Parameters
    ----------
    learner : ParetoSetLearner
        After two or more evaluations.
    objectives : (int, int), default=(0, 1)
        Positions of the one across and the one up.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InvalidData
        Positions that are no two different objectives.
    """
    i, j = objectives
    if i == j or not {i, j} <= set(range(learner.n_obj)):
        raise InvalidData(f"expected two different positions below {learner.n_obj}, got {objectives!r}")
    front, learned = learner.pareto_front_.objectives, learner.learned_front(100)
    every = learner.objectives[np.isfinite(learner.objectives).all(axis=1)]
    ax = axes(ax, figsize=(6.0, 4.5))
    look: dict[str, Any] = {"ls": "", "marker": "o"}
    ax.plot(every[:, i], every[:, j], color="0.7", ms=3, label="evaluated", **look)
    ax.errorbar(
        learned.mean[:, i], learned.mean[:, j], _REACH * learned.sd[:, j], _REACH * learned.sd[:, i],
        color=COLOURS[0], ms=2, elinewidth=0.5, alpha=0.6, label="learned, predicted, 90 % of evaluations", **look,
    )  # fmt: skip
    ax.plot(front[:, i], front[:, j], color=COLOURS[1], ms=4, label="evaluated, on the front", **look)
    for limits, k in ((ax.set_xlim, i), (ax.set_ylim, j)):  # evaluations far behind the fronts would squeeze both
        seen = np.concatenate([front[:, k], learned.mean[:, k]])
        spare = 0.08 * np.ptp(seen) or 1.0
        limits(seen.min() - spare, seen.max() + spare)
    ax.set_xlabel(learner.names[i])
    ax.set_ylabel(learner.names[j])
    ax.legend(frameon=False, fontsize=8)
    return ax
