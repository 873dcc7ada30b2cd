"""Pictures of a shape from several sides, and what each place of them adds to a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from locum.core.errors import InvalidData
from locum.plots._axes import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_views"]

_GAP = 2  # pixels between pictures
_FADED = 0.35  # of the contrast of what lies under a map


def plot_views(images: ArrayLike, views: Sequence[str], *, saliency: Any = None, ax: Axes | None = None) -> Axes:
    """Draw a strip of pictures for each kind, and one of maps: red adds to the answer, blue takes away.

    Parameters
    ----------
    images : array-like of shape (views, 1 or 4 or more, size, size)
        Depth first, then normals as colours, in [0, 1]; further channels are left out.
    views : sequence of str
        Names.
    saliency : Saliency or None, default=None
        With `maps` (views, size, size) and `by_view`, which is written over the maps.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    shown = np.asarray(images, dtype=float)
    if shown.ndim != 4 or len(shown) != len(views) or shown.shape[2] != shown.shape[3] or not np.isfinite(shown).all():
        raise InvalidData(f"expected finite pictures of shape ({len(views)}, channels, size, size), got shape {shown.shape}")
    if saliency is not None and np.shape(saliency.maps) != (shown.shape[0], *shown.shape[2:]):
        raise InvalidData(f"expected maps for pictures of shape {shown.shape}, got shape {np.shape(saliency.maps)}")
    rows = [np.repeat(shown[:, :1], 3, axis=1)]
    rows += [shown[:, 1:4]] if shown.shape[1] >= 4 else []
    rows += [_coloured(shown[:, 0], np.asarray(saliency.maps))] if saliency is not None else []
    size, step = shown.shape[-1], shown.shape[-1] + _GAP
    canvas = np.ones((len(rows) * step - _GAP, len(views) * step - _GAP, 3))
    for i, row in enumerate(rows):
        for k, picture in enumerate(row):
            canvas[i * step : i * step + size, k * step : k * step + size] = np.moveaxis(picture, 0, 2)
    ax = axes(ax, figsize=(1.5 * len(views), 1.5 * len(rows) + 0.3))
    ax.imshow(np.clip(canvas, 0, 1), interpolation="nearest")
    ax.set_xticks([k * step + size / 2 for k in range(len(views))], list(views), fontsize=8)
    ax.set_yticks([])
    if saliency is not None:
        for k, view in enumerate(views):
            ax.text(k * step + 1, (len(rows) - 1) * step + 1, f"{saliency.by_view[view]:+.4f}", fontsize=7, va="top")
    return ax


def _coloured(depth: Any, maps: Any) -> Any:
    """Maps over faded pictures, shape (views, 3, size, size)."""
    faded = 1 - _FADED * (1 - depth)
    largest = float(np.quantile(np.abs(maps), 0.998)) or 1.0
    strength = np.clip(maps / largest, -1, 1)
    red, blue = np.maximum(strength, 0), np.maximum(-strength, 0)
    return np.stack([faded * (1 - blue), faded * (1 - red - blue), faded * (1 - red)], axis=1)
