"""How often a probe reads answers from states, beside what it must beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from locum.inside import ProbeReport

__all__ = ["plot_probe"]


def plot_probe(report: ProbeReport, measure: str = "answer @1", ax: Axes | None = None) -> Axes:
    """Draw a measure of every method of a report that has it, with its interval; the best at the top.

    Parameters
    ----------
    report : ProbeReport
        What ``HypervectorProbe.report`` gave.
    measure : str, default="answer @1"
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    found = {name: told[measure] for name, told in report.methods.items() if measure in told}
    if not found:
        known = dict.fromkeys(one for told in report.methods.values() for one in told)
        raise InvalidData(f"there is no measure {measure!r}; there is {', '.join(known)}")
    order = sorted(found, key=lambda name: found[name].value)
    ax = axes(ax, figsize=(6.4, 0.8 + 0.35 * len(order)))
    for i, name in enumerate(order):
        one, colour = found[name], COLOURS[0 if name == "probe" else 7]
        ax.plot([one.lower, one.upper], [i, i], color=colour, lw=2)
        ax.plot(one.value, i, "o", color=colour, ms=6)
    ax.set_yticks(range(len(order)), order)
    level = next(iter(found.values())).level
    ax.set_xlabel(f"{measure}, interval at {100 * level:g} % over answers")
    return ax
