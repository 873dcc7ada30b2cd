"""What steering does to the words of a name, and to those of others, as its strength grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_steering"]


def plot_steering(effects: Mapping[str, Sequence[Any]], ax: Axes | None = None) -> Axes:
    """Draw the rise of the log-odds of each concept against the strength, and dashed the mean size of the rises of all others.

    Parameters
    ----------
    effects : dict of str to sequence of SteeringEffect
        What ``steering_effects`` gave, by the concept of the direction.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    if not effects or not all(effects.values()):
        raise InvalidData("expected at least one concept with the effect of at least one strength, got none")
    ax = axes(ax, figsize=(6.4, 4.0))
    for i, (concept, several) in enumerate(effects.items()):
        ranked, colour = sorted(several, key=lambda one: one.strength), COLOURS[i % 8]
        at = [one.strength for one in ranked]
        own, others = [one.on_target(concept) for one in ranked], [one.off_target(concept) for one in ranked]
        ax.plot(at, own, f"{MARKERS[i % 8]}-", color=colour, lw=1, ms=4, label=concept)
        ax.plot(at, others, "--", color=colour, lw=0.8, alpha=0.7)
    ax.axhline(0.0, color="grey", lw=0.8)
    ax.set_xlabel("strength, in 99th percentiles of the latent")
    ax.set_ylabel("rise of log-odds (dashed: others)")
    ax.legend(frameon=False, fontsize=8)
    return ax
