"""Trajectories as pictures: attractors side by side, and their power spectra over one another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d

from locum.core.errors import InvalidData, require_whole
from locum.plots._axes import COLOURS, pyplot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_attractors"]


def plot_attractors(
    runs: Mapping[str, ArrayLike],
    *,
    columns: tuple[int, int] = (0, 1),
    dt: float = 1.0,
    smoothing: float = 20.0,
    points: int = 5000,
) -> Figure:
    """Draw trajectories in the plane of two columns, side by side, and below the power spectra of the first of the columns.

    Parameters
    ----------
    runs : mapping of str to array-like of shape (T, d)
        What each is called, the truth first; all have the limits of the first.
    columns : tuple of int, default=(0, 1)
        Across and up.
    dt : float, default=1.0
        Time between rows.
    smoothing : float, default=20.0
        Standard deviation of the Gaussian over the spectra, in bins of frequency.
    points : int, default=5000
        Rows of each trajectory that are drawn.

    Returns
    -------
    matplotlib Figure
    """
    require_whole(2, points=points)
    found = {name: np.asarray(run, dtype=float) for name, run in runs.items()}
    if not found or any(run.ndim != 2 or max(columns) >= run.shape[1] for run in found.values()):
        shapes = [run.shape for run in found.values()]
        raise InvalidData(f"expected trajectories of shape (T, d) that have columns {columns}, got shapes {shapes}")
    figure = pyplot().figure(figsize=(2.6 * max(len(found), 2), 4.6), layout="constrained")
    grid = figure.add_gridspec(2, len(found), height_ratios=(3, 2))
    truth = next(iter(found.values()))[:, list(columns)]
    margin = 0.1 * np.ptp(truth, axis=0)
    spectra = figure.add_subplot(grid[1, :])
    for i, (name, run) in enumerate(found.items()):
        colour = COLOURS[i % len(COLOURS)]
        ax = figure.add_subplot(grid[0, i])
        ax.plot(run[:points, columns[0]], run[:points, columns[1]], lw=0.4, color=colour)
        ax.set_xlim(truth[:, 0].min() - margin[0], truth[:, 0].max() + margin[0])
        ax.set_ylim(truth[:, 1].min() - margin[1], truth[:, 1].max() + margin[1])
        ax.set_title(name, fontsize=9)
        ax.tick_params(labelsize=7)
        if np.isfinite(run).all() and np.ptp(run[:, columns[0]]) > 0:
            x = (run[:, columns[0]] - run[:, columns[0]].mean()) / run[:, columns[0]].std()
            power = gaussian_filter1d(np.abs(np.fft.rfft(x)) ** 2, smoothing)
            spectra.semilogy(np.fft.rfftfreq(len(x), dt), power / power.sum(), lw=1.0, color=colour, label=name)
    spectra.set_xlabel("frequency")
    spectra.set_ylabel("power")
    spectra.legend(fontsize=7)
    return figure
