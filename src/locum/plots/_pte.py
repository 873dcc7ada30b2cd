"""Survival by arm, what an early outcome stands for, and the share of an effect that it explains, as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from locum.plots._axes import COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_pte_curve", "plot_survival", "plot_transformation"]


def plot_survival(curves: Any, ax: Axes | None = None) -> Axes:
    """Draw survival in either arm with its pointwise band.

    Parameters
    ----------
    curves : SurvivalCurves
        ``survival_`` of a fitted `SurrogatePTE`.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    ax = axes(ax, figsize=(6.0, 4.0))
    for arm, colour in enumerate(COLOURS[:2]):
        ax.plot(curves.time, curves.value[arm], color=colour, lw=1.4, label=f"arm {arm}")
        ax.fill_between(curves.time, curves.lower[arm], curves.upper[arm], color=colour, alpha=0.18, lw=0)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("time")
    ax.set_ylabel(f"alive, with {100 * curves.level:g} % intervals")
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_transformation(g: Any, ax: Axes | None = None) -> Axes:
    """Draw g over the early surrogate times, and its level for those without the surrogate event.

    Parameters
    ----------
    g : Transformation
        ``g_`` of a fitted `SurrogatePTE`.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    ax = axes(ax, figsize=(6.0, 4.0))
    ax.plot(g.time, g.value, color=COLOURS[0], lw=1.4, label="alive, progressed at s")
    ax.fill_between(g.time, g.lower, g.upper, color=COLOURS[0], alpha=0.18, lw=0)
    ax.axhline(g.later, color=COLOURS[1], lw=1.4, label="alive, not progressed")
    ax.axhspan(g.later_lower, g.later_upper, color=COLOURS[1], alpha=0.18, lw=0)
    ax.set_xlabel("surrogate time s")
    ax.set_ylabel(f"g, with {100 * g.level:g} % intervals")
    ax.legend(frameon=False, fontsize=8)
    return ax


def plot_pte_curve(curve: Any, ax: Axes | None = None, *, threshold: float | None = None) -> Axes:
    """Draw the share explained against the early time, with its simultaneous band, and the share of being alive alone.

    Parameters
    ----------
    curve : PTECurve
    ax : matplotlib Axes or None, default=None
    threshold : float or None, default=None
        A share to compare with; the earliest time from which the band lies above it is marked.

    Returns
    -------
    matplotlib Axes
    """
    ax = axes(ax, figsize=(6.0, 4.0))
    below, above = curve.pte - curve.lower, curve.upper - curve.pte
    look: dict[str, Any] = {"color": COLOURS[0], "lw": 1.2, "elinewidth": 0.9, "ms": 4, "capsize": 2.5}
    ax.errorbar(curve.t0, curve.pte, [below, above], fmt="o-", label="early outcome", **look)
    ax.plot(curve.t0, curve.alive_only, "s--", color=COLOURS[1], lw=1.0, ms=3.5, label="alive at t0 alone")
    for share in (0.0, 1.0):
        ax.axhline(share, color="0.7", lw=0.6, zorder=0)
    if threshold is not None:
        ax.axhline(threshold, color="0.4", lw=0.8, ls=":", zorder=0)
        earliest = curve.earliest(threshold)
        if earliest is not None:
            ax.axvline(earliest, color="0.4", lw=0.8, ls=":", zorder=0)
            ax.annotate(f"from {earliest:g} on", (earliest, 0.02), xycoords=("data", "axes fraction"), fontsize=8)
    ax.set_xlabel("early time t0")
    ax.set_ylabel(f"share of the effect at {curve.t:g}, {100 * curve.level:g} % for all at once")
    ax.legend(frameon=False, fontsize=8)
    return ax
