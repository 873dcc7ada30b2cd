"""What machines do, as bars over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from locum.core.errors import InvalidData
from locum.plots._axes import COLOURS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_gantt"]

_STILL = {"breakdown": "#a3304a", "maintenance": "#8c8c8c", "repair": "#d08770", "setup": "#d9c36c"}
_HANDLING = ("load", "unload")


class _Bar(Protocol):
    machine: str
    phase: str
    start: float
    end: float
    step: int


def plot_gantt(
    bars: Sequence[Any], *, begin: float | None = None, end: float | None = None, label: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw a row a machine: work in the colour of its step, loading and unloading paler, and what keeps it from work.

    Parameters
    ----------
    bars : sequence of bars
        With `machine`, `phase`, `start`, `end` (minutes), `step` and `lots`, such as ``FabRun.bars``; idle time is left blank.
    begin, end : float or None, default=None and None
        Minutes; the first day of the bars where None.
    label : bool, default=False
        Write the names of the lots into the bars of work.
    ax : matplotlib Axes or None, default=None

    Returns
    -------
    matplotlib Axes
    """
    if not bars:
        raise InvalidData("expected a bar or more, got none")
    first = min(bar.start for bar in bars) if begin is None else begin
    last = first + 1440.0 if end is None else end
    if not first < last:
        raise InvalidData(f"expected begin= before end=, got {first:g} and {last:g}")
    shown = [bar for bar in bars if bar.end > first and bar.start < last and bar.phase != "idle"]
    machines = list(dict.fromkeys(bar.machine for bar in bars))
    ax = axes(ax, figsize=(9.0, 0.55 * len(machines) + 1.3))
    seen: dict[str, Any] = {}
    for bar in shown:
        start, width = max(bar.start, first) / 60, (min(bar.end, last) - max(bar.start, first)) / 60
        name, style = _style(bar)
        row = machines.index(bar.machine)
        drawn = ax.broken_barh([(start, width)], (row - 0.4, 0.8), edgecolor="white", linewidth=0.3, **style)
        if bar.phase not in _HANDLING:
            seen.setdefault(name, drawn)
        if label and bar.phase == "process":
            ax.text(start + width / 2, row, "\n".join(bar.lots), ha="center", va="center", fontsize=5, clip_on=True)
    ax.set_yticks(range(len(machines)), machines)
    ax.invert_yaxis()
    ax.set_xlim(first / 60, last / 60)
    ax.set_xlabel("hours")
    names = sorted(seen)
    if names:
        ax.legend([seen[name] for name in names], names, fontsize=7, ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1))
    return ax


def _style(bar: _Bar) -> tuple[str, dict[str, Any]]:
    if bar.phase in _STILL:
        return bar.phase, {"facecolor": _STILL[bar.phase]}
    colour = COLOURS[(bar.step - 1) % len(COLOURS)]
    return f"step {bar.step}", {"facecolor": colour, "alpha": 0.4 if bar.phase in _HANDLING else 1.0}
