"""Eigenvalues of a linear map in the plane, and errors of forecasts by horizon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.plots._axes import COLOURS, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["plot_horizons", "plot_modes"]


def plot_modes(eigenvalues: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw eigenvalues beside the unit circle: those on it stay, those within decay, those beyond grow.

    Parameters
    ----------
    eigenvalues : array-like of complex, shape (m,)
        Such as ``model.modes().eigenvalues``.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    found = np.asarray(eigenvalues, dtype=complex)
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise InvalidData(f"expected finite eigenvalues of shape (m,), got shape {found.shape}")
    ax = pyplot().subplots(figsize=(3.6, 3.6), layout="constrained")[1] if ax is None else ax
    turn = np.linspace(0, 2 * np.pi, 361)
    ax.plot(np.cos(turn), np.sin(turn), color="0.7", linewidth=1)
    ax.axhline(0, color="0.9", linewidth=0.8, zorder=0)
    ax.axvline(0, color="0.9", linewidth=0.8, zorder=0)
    grows = np.abs(found) > 1.01
    ax.scatter(found.real[~grows], found.imag[~grows], s=18, color=COLOURS[0], label="stay or decay")
    if grows.any():
        ax.scatter(found.real[grows], found.imag[grows], s=26, marker="x", color=COLOURS[1], label="grow")
        ax.legend(frameon=False, fontsize=8)
    ax.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
    return ax


def plot_horizons(errors: Mapping[int, Mapping[str, Fidelity]], *, ax: Axes | None = None) -> Axes:
    """Draw errors of forecasts by how far they look ahead, with their intervals, a line for each model.

    Parameters
    ----------
    errors : mapping of int to mapping of str to Fidelity
        Such as `KoopmanEmulator.errors` gives; the same models at every horizon.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    horizons = sorted(errors)
    if not horizons or len({tuple(errors[h]) for h in horizons}) != 1:
        raise InvalidData("expected errors of the same models at one horizon or more")
    ax = pyplot().subplots(figsize=(5.0, 3.2), layout="constrained")[1] if ax is None else ax
    for i, name in enumerate(errors[horizons[0]]):
        told = [errors[h][name] for h in horizons]
        value = np.array([one.value for one in told])
        ends = np.array([[v - one.lower, one.upper - v] for v, one in zip(value, told, strict=True)]).T
        ax.errorbar(horizons, value, ends, marker="o", markersize=4, capsize=2, color=COLOURS[i % len(COLOURS)], label=name)
    ax.set(xlabel="steps ahead", ylabel=told[0].measure.split("(")[0], yscale="log")
    ax.legend(frameon=False, fontsize=8)
    return ax
