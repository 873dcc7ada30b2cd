"""What is left of a network's accuracy as its units go, and which layers lose them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_pruned_layers", "plot_pruning"]


def plot_pruning(histories: Mapping[str, Sequence[Any]], ax: Axes | None = None, *, measure: str = "accuracy") -> Axes:
    """Draw what was measured against the share of units pruned, one line a criterion.

    Parameters
    ----------
    histories : dict of str to sequence of PruningStep
        `RelevancePruner.history_` by name of the criterion.
    ax : matplotlib Axes or None, default=None
    measure : str, default="accuracy"
        Which of the numbers that `evaluate` gave.

    Returns
    -------
    matplotlib Axes
    """
    if not histories or any(measure not in step.measured for steps in histories.values() for step in steps):
        raise InvalidData(f"expected steps with {measure!r} measured at each; give evaluate= to fit")
    ax = axes(ax, figsize=(6.4, 4.0))
    for i, (name, steps) in enumerate(histories.items()):
        x, y = [100 * step.share for step in steps], [step.measured[measure] for step in steps]
        ax.plot(x, y, f"{MARKERS[i % 8]}-", color=COLOURS[i % 8], lw=1, ms=4, label=name)
    ax.set_xlabel("units pruned, %")
    ax.set_ylabel(measure)
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_pruned_layers(history: Sequence[Any], ax: Axes | None = None) -> Axes:
    """Draw the share of its units that each layer has lost after the last step, in the order of the network.

    Parameters
    ----------
    history : sequence of PruningStep
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    if not history:
        raise InvalidData("expected the steps of a pruning, got none")
    by_layer = dict(reversed(history[-1].by_layer.items()))  # groups are found from the output on
    ax = axes(ax, figsize=(6.4, 0.9 + 0.28 * len(by_layer)))
    ax.bar(range(len(by_layer)), [100 * share for share in by_layer.values()], color=COLOURS[0])
    ax.set_xticks(range(len(by_layer)), list(by_layer), rotation=90, fontsize=7)
    ax.axhline(100 * history[-1].share, color="0.4", lw=0.8, ls=":")
    ax.annotate("all layers", (0, 100 * history[-1].share), fontsize=8, va="bottom")
    ax.set_ylabel("units pruned, %")
    ax.set_ylim(0, 100)
    return ax
