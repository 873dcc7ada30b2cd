"""Images as an attribute is turned, and images beside what would change the classifier's answer, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from locum.core.errors import InvalidData, require_whole
from locum.plots._axes import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_counterfactuals", "plot_style_strip"]

_GAP = 1  # pixels between images


def plot_style_strip(strips: Any, attribute: int = 0, rows: int = 5, ax: Axes | None = None) -> Axes:
    """Draw images, those with most room for an attribute first, as it is turned, each over the classifier's answer.

    Parameters
    ----------
    strips : StyleStrips
    attribute : int, default=0
        Its place in the list.
    rows : int, default=5
        Images.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    require_whole(1, rows=rows)
    chosen = strips.order(attribute)[:rows]
    grid = [[strips.originals[i], *strips.images[i, attribute]] for i in chosen]
    told = [[strips.before[i, 0], *strips.probabilities[i, attribute]] for i in chosen]
    names = ["original", *(f"{shift:+g}" for shift in strips.shifts)]
    one = strips.attributes.attributes[attribute]
    ax = _drawn(grid, [[f"{p:.2f}" for p in row] for row in told], names, ax)
    ax.set_title(f"{one.place}; probability of class {strips.attributes.pair[1]}", fontsize=8)
    return ax


def plot_counterfactuals(counterfactuals: Any, rows: int = 5, ax: Axes | None = None) -> Axes:
    """Draw images that flipped, their reconstruction and change, and where the change is.

    Parameters
    ----------
    counterfactuals : StyleCounterfactuals
    rows : int, default=5
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    require_whole(1, rows=rows)
    found = counterfactuals
    chosen = np.flatnonzero(found.flipped)[:rows]
    if not len(chosen):
        raise InvalidData("expected counterfactuals of which one flipped or more, and none did")
    grid, told = [], []
    for i in chosen:
        change = np.abs(found.images[i] - found.reconstructions[i])
        grid.append([found.originals[i], found.reconstructions[i], found.images[i], change / max(float(change.max()), 1e-12)])
        told.append(["", f"{found.before[i]:.2f}", f"{found.after[i]:.2f}", f"at most {change.max():.2f}"])
    ax = _drawn(grid, told, ["original", "repainted", "changed", "change"], ax)
    ax.set_title(f"probability of class {found.target}", fontsize=8)
    return ax


def _drawn(grid: Sequence[Sequence[Any]], told: Sequence[Sequence[str]], names: Sequence[str], ax: Axes | None) -> Axes:
    """Images in rows and columns, as one picture with words over each."""
    channels, side, _ = grid[0][0].shape
    step = side + _GAP
    canvas = np.ones((len(grid) * step, len(names) * step, channels))
    for i, row in enumerate(grid):
        for k, image in enumerate(row):
            canvas[i * step : i * step + side, k * step : k * step + side] = np.moveaxis(image, 0, 2)
    ax = axes(ax, figsize=(1.1 * len(names), 0.5 + 1.1 * len(grid)))
    ax.imshow(canvas[..., 0] if channels == 1 else canvas, cmap="gray", vmin=0, vmax=1)
    for i, words in enumerate(told):
        for k, word in enumerate(words):
            ax.text(k * step + 1, i * step + 1, word, fontsize=6, color="yellow", va="top", parse_math=False)
    ax.set_xticks([k * step + side / 2 for k in range(len(names))], names, fontsize=7)
    ax.set_yticks([])
    return ax
