"""What the parts of one input have to do with one answer, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_attribution"]


def plot_attribution(attribution: Any, ax: Axes | None = None, *, most: int = 12) -> Axes:
    """Draw the strongest parts of an explanation as bars, each with its interval.

    Parameters
    ----------
    attribution : Attribution
        As an explainer gives it.
    ax : matplotlib Axes or None, default=None
    most : int, default=12
        Most parts drawn, the strongest.

    Returns
    -------
    matplotlib Axes
    """
    parts = [part for part in attribution.top(most) if part.value or np.isfinite(part.upper)]
    if not parts:
        raise InvalidData("no part of this explanation differs from zero, so there is nothing to draw")
    ax = axes(ax, figsize=(6.4, 0.9 + 0.3 * len(parts)))
    values = np.array([part.value for part in parts])
    # No bar for an interval that could not be told.
    reach = np.nan_to_num(np.abs(np.array([[part.lower, part.upper] for part in parts]).T - values))
    places = np.arange(len(parts))[::-1]
    colours = [COLOURS[0] if value >= 0 else COLOURS[1] for value in values]
    ax.barh(places, values, color=colours, height=0.65)
    ax.errorbar(values, places, xerr=reach, fmt="none", ecolor="0.25", elinewidth=0.9, capsize=2.5)
    ax.axvline(0, color="0.7", lw=0.6)
    ax.set_yticks(places, [part.name for part in parts], parse_math=False)
    ax.set_xlabel(f"towards {attribution.output}", fontsize=9, parse_math=False)
    ax.set_title(str(attribution.fidelity or "fidelity not measured"), fontsize=8, parse_math=False)
    return ax
