"""What a run of the MiniFab left: its events, its bars for a Gantt chart, its series at even times, and its averages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.problems._minifab_parts import BUSY, CELL_OF, DOWN, MACHINES, MINUTE
from locum.problems.devs import Event, Trace

Array = NDArray[np.floating[Any]]

WEEK = 7 * 24 * 60  # minutes


class Bar(NamedTuple):
    """A stretch of time that a machine spent in one way.

    Parameters
    ----------
    machine : str
    phase : str
        "idle", "setup", "load", "process", "unload", "breakdown", "maintenance" or "repair".
    start, end : float
        Minutes.
    step : int
        0 without a job.
    lots : tuple of str
    """

    machine: str
    phase: str
    start: float
    end: float
    step: int
    lots: tuple[str, ...]


class Channel(NamedTuple):
    """A column of the series.

    Parameters
    ----------
    name, unit, meaning : str
    """

    name: str
    unit: str
    meaning: str


_TOOLS = tuple(name for names in MACHINES.values() for name in names)
CHANNELS = (
    Channel("finished", "lots", "lots that left in the interval before"),
    Channel("turnaround", "min", "mean time from start to finish of those lots; the last known where there are none"),
    Channel("started", "lots", "lots started in the interval before"),
    Channel("work_in_progress", "lots", "lots in the fab"),
    *(Channel(f"queue_{step}", "lots", f"lots that wait for step {step}") for step in CELL_OF),
    *(Channel(f"busy_{name}", "1", f"share of the interval in which {name} was set up, loaded, at work or unloaded")
      for name in _TOOLS),
    *(Channel(f"down_{name}", "1", f"share of the interval in which {name} was broken, in maintenance or in repair")
      for name in _TOOLS),
)  # fmt: skip


@dataclass(frozen=True)
class FabStats:
    """Averages of a run after its warm-up.

    Parameters
    ----------
    throughput, starts : float
        Lots a week.
    turnaround, spread : float
        Mean and standard deviation of the minutes from start to finish of the lots that left; NaN where none did.
    work_in_progress : float
        Time average, in lots.
    busy, down : mapping of str to float
        Share of the time of each machine.
    """

    throughput: float
    starts: float
    turnaround: float
    spread: float
    work_in_progress: float
    busy: Mapping[str, float]
    down: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class FabRun:
    """A run of the MiniFab.

    Parameters
    ----------
    trace : Trace
    """

    trace: Trace

    @property
    def minutes(self) -> float:
        """Length."""
        return self.trace.end / MINUTE

    @cached_property
    def started(self) -> dict[str, float]:
        """Minute at which each lot was started, in order."""
        return {
            message.name: event.time / MINUTE
            for event in self.trace.events if event.component.startswith("release ") for _, message in event.sent
        }  # fmt: skip

    @cached_property
    def finished(self) -> dict[str, float]:
        """Minute at which each lot left, in order."""
        return {lot.name: time / MINUTE for time, _, lot in self.trace.outputs}

    @cached_property
    def _of(self) -> dict[str, list[Event]]:
        out: dict[str, list[Event]] = {}
        for event in self.trace.events:
            out.setdefault(event.component, []).append(event)
        return out

    @cached_property
    def bars(self) -> tuple[Bar, ...]:
        """What each machine did all the time, by machine and time: the bars of a Gantt chart."""
        out: list[Bar] = []
        for cell, names in MACHINES.items():
            for name in names:
                before: tuple[int, Any] = (0, ("idle", 0, ()))
                for event in [*self._of.get(f"{cell}/{name}", ()), None]:
                    now = self.trace.end if event is None else event.time
                    phase = None if event is None else event.phase
                    if phase == before[1]:
                        continue
                    if now > before[0]:
                        what, step, lots = before[1]
                        out.append(Bar(name, what, before[0] / MINUTE, now / MINUTE, step, lots))
                    before = (now, phase)
        return tuple(out)

    def events(self) -> list[tuple[float, str, str, int, str]]:
        """The event log: minute, component, event, step and lot, by time; a lot or machine phase a row."""
        rows = [(time, "fab", "started", 1, lot) for lot, time in self.started.items()]
        rows += [(time, "fab", "finished", 6, lot) for lot, time in self.finished.items()]
        for bar in self.bars:
            rows += [(bar.start, bar.machine, bar.phase, bar.step, lot) for lot in bar.lots or ("",)]
        return sorted(rows)

    # ------------------------------------------------------------------ series
    def series(self, dt: float = 60.0) -> Array:
        """State of the fab at even times, shape (T, 20), by the columns `CHANNELS`.

        Parameters
        ----------
        dt : float, default=60.0
            Minutes; row i is at minute (i + 1) dt.
        """
        if not 0 < dt <= self.minutes:
            raise InvalidData(f"expected dt= above 0 and at most the {self.minutes:g} minutes of the run, got {dt!r}")
        edges = dt * np.arange(int(self.minutes / dt + 1e-9) + 1, dtype=np.float64)
        left, came = np.array(list(self.finished.values())), np.array(list(self.started.values()))
        gone, there = _counts(left, edges), _counts(came, edges)
        columns = [np.diff(gone), self._turnaround(gone), np.diff(there), (there - gone)[1:]]
        columns += [self._queue(step, edges[1:]) for step in CELL_OF]
        columns += [np.diff(self._spent(name, BUSY, edges)) / dt for name in _TOOLS]
        columns += [np.diff(self._spent(name, DOWN, edges)) / dt for name in _TOOLS]
        return np.column_stack(columns).astype(float)

    def _turnaround(self, gone: NDArray[np.intp]) -> Array:
        each = np.array([time - self.started[lot] for lot, time in self.finished.items()])
        total = np.concatenate([[0.0], np.cumsum(each)])[gone]
        number = np.diff(gone)
        mean = np.divide(np.diff(total), number, out=np.full(len(number), np.nan), where=number > 0)
        known = np.maximum.accumulate(np.where(number > 0, np.arange(len(number)), -1))
        return np.where(known >= 0, mean[np.maximum(known, 0)], 0.0)

    def _queue(self, step: int, times: Array) -> Array:
        cell = CELL_OF[step]
        place = [one for one, where in CELL_OF.items() if where == cell].index(step)
        events = self._of.get(f"{cell}/dispatcher", [])
        at = np.array([event.time / MINUTE for event in events])
        waiting = np.array([0, *(event.phase[place] for event in events)])
        return np.asarray(waiting[np.searchsorted(at, times, side="right")], dtype=float)

    def _spent(self, machine: str, phases: tuple[str, ...], times: Array) -> Array:
        """Minutes that a machine has spent in some phases by each of the times."""
        bars = [bar for bar in self.bars if bar.machine == machine]
        ends = np.array([0.0, *(bar.end for bar in bars)])
        spent = np.cumsum([0.0, *(bar.end - bar.start if bar.phase in phases else 0.0 for bar in bars)])
        return np.interp(times, ends, spent)

    # ------------------------------------------------------------------ averages
    def stats(self, warm_up: float = 2.0) -> FabStats:
        """Averages after so many weeks.

        Parameters
        ----------
        warm_up : float, default=2.0
        """
        begin, end = warm_up * WEEK, self.minutes
        if not 0 <= begin < end:
            raise InvalidData(f"expected warm_up= below the {end / WEEK:g} weeks of the run, got {warm_up!r}")
        left, came = np.array(list(self.finished.values())), np.array(list(self.started.values()))
        weeks = (end - begin) / WEEK
        each = np.array([time - self.started[lot] for lot, time in self.finished.items() if time > begin])
        present = np.clip(end - came, 0, end - begin).sum() - np.clip(end - left, 0, end - begin).sum()
        span = np.array([begin, end])
        shares = [
            {name: float(np.diff(self._spent(name, phases, span))[0] / (end - begin)) for name in _TOOLS}
            for phases in (BUSY, DOWN)
        ]
        return FabStats(
            len(each) / weeks, float((came > begin).sum()) / weeks,
            float(each.mean()) if len(each) else float("nan"), float(each.std()) if len(each) else float("nan"),
            float(present / (end - begin)), *shares,
        )  # fmt: skip


def _counts(times: Array, edges: Array) -> NDArray[np.intp]:
    return np.searchsorted(times, edges, side="right")
