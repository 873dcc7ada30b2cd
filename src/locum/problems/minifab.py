"""The MiniFab: a small re-entrant wafer fab of five machines and six steps, as coupled discrete-event components."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_one_of, require_positive, require_whole
from locum.problems._minifab_parts import (
    CELL_OF,
    MACHINES,
    MINUTE,
    TEST,
    Breakdowns,
    Dispatcher,
    Machine,
    Maintenance,
    Release,
    SetupTicks,
    Transport,
)
from locum.problems._minifab_run import CHANNELS, Bar, Channel, FabRun, FabStats
from locum.problems.devs import Coupled, simulate

__all__ = ["CHANNELS", "Bar", "Channel", "FabRun", "FabStats", "MiniFab", "Setups", "StepRepair", "TimedRepair"]

Array = NDArray[np.float64]

WEEK = 7 * 24 * 60  # minutes
RULES = ("fifo", "first buffer first", "last buffer first", "least setup")
_NOMINAL = 24  # wafers of the lots whose times are given
_STARTS = MappingProxyType({"Pa": 51.0, "Pb": 30.0, TEST: 3.0})
_PROCESS = MappingProxyType({1: 225.0, 2: 30.0, 3: 55.0, 4: 50.0, 5: 255.0, 6: 10.0})
_HANDLING = MappingProxyType({"diffusion": (20, 40), "implant": (15, 15), "litho": (10, 10)})
_PLANNED = MappingProxyType({"diffusion": (1440, 75), "implant": (720, 120), "litho": (720, 30)})
_FEWEST_WEEKS = 1e-3


@dataclass(frozen=True)
class Setups:
    """Minutes to change the lithography machine over.

    Parameters
    ----------
    product, step, both : float, default=10.0, 5.0 and 12.0
    """

    product: float = 10.0
    step: float = 5.0
    both: float = 12.0


@dataclass(frozen=True)
class StepRepair:
    """Every machine needs repair after so many steps, for a time that is exponential.

    Parameters
    ----------
    every : int, default=40
    mean : float, default=60.0
        Minutes.
    """

    every: int = 40
    mean: float = 60.0

    def __post_init__(self) -> None:
        require_whole(1, every=self.every)
        require_positive(mean=self.mean)


@dataclass(frozen=True)
class TimedRepair:
    """Maintenance by the calendar, and breakdowns of the implantation machines.

    Parameters
    ----------
    between, mean : float, default=3000.0 and 420.0
        Mean minutes between two breakdowns of a machine, and of each; exponential.
    maintenance : mapping of str to tuple, default={'diffusion': (1440, 75), 'implant': (720, 120), 'litho': (720, 30)}
        Minutes from one maintenance of a machine to the next, and of each, by cell. It waits for the job at hand.
    broken : tuple of str, default=('implant',)
        Cells with breakdowns.
    """

    between: float = 3000.0
    mean: float = 420.0
    maintenance: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(_PLANNED))
    broken: tuple[str, ...] = ("implant",)

    def __post_init__(self) -> None:
        require_positive(between=self.between, mean=self.mean)
        for cell in (*self.maintenance, *self.broken):
            require_one_of(tuple(MACHINES), cell=cell)
        for cell, (every, lasting) in self.maintenance.items():
            if not 0 < lasting < every < math.inf:
                raise InvalidData(f"expected maintenance of {cell} to be shorter than its interval, got {lasting} of {every}")

    def share(self, cell: str) -> float:
        """Of the time that machines of a cell stand still, in the long run."""
        every, lasting = self.maintenance.get(cell, (1.0, 0.0))
        return lasting / every + (self.mean / (self.between + self.mean) if cell in self.broken else 0.0)


@dataclass(frozen=True)
class MiniFab:
    """Lots go through diffusion, implantation, lithography, implantation, diffusion and lithography, and so meet themselves.

    Two furnaces Ma and Mb take batches of three lots (steps 1 and 5), two implanters Mc and Md (2 and 4) and a lithography
    machine Me (3 and 6) one lot each. Test lots are never two in a batch, and visit each machine of a pair once at most; a
    batch of step 5 has one product besides them.

    Parameters
    ----------
    starts : mapping of str to float, default={'Pa': 51.0, 'Pb': 30.0, 'TW': 3.0}
        Lots a week.
    lot_size : int, default=24
        Wafers a lot. Times on the implanters and on lithography, which take wafer by wafer, are in proportion to it; those of
        the furnaces are not.
    repair : StepRepair, TimedRepair or None, default=None
    rule : {"fifo", "first buffer first", "last buffer first", "least setup"}, default="fifo"
        Which lot is next.
    arrivals : {"even", "poisson"}, default="even"
        Intervals between starts of a product: equal, from a random first one on, or exponential.
    process : mapping of int to float, default={1: 225.0, 2: 30.0, 3: 55.0, 4: 50.0, 5: 255.0, 6: 10.0}
        Minutes of each step, for lots of 24 wafers.
    handling : mapping of str to tuple, default={'diffusion': (20, 40), 'implant': (15, 15), 'litho': (10, 10)}
        Minutes to load and unload, by cell.
    setups : Setups or None, default=Setups(product=10.0, step=5.0, both=12.0)
    transport : (float, float), default=(6.0, 14.0)
        Least and most minutes between cells, loading and unloading of the vehicle among them.
    batch : int, default=3
        Lots in a furnace.

    Notes
    -----
    Cost: about half a second for eight weeks.

    Steps, machines, process times and starts are those of Kempf's specification. Handling, setups and maintenance are not all
    in what could be read of it, and are settings. Buffers have no limit here, where they hold 18, 12 and 12 lots; operators are
    not modelled. Reference: Pendyala et al., arXiv 2408.09307.

    Examples
    --------
    >>> run = MiniFab(starts={"Pa": 60}).run(2, random_state=1)
    >>> round(run.stats(warm_up=1).throughput), {cell: round(rate) for cell, rate in MiniFab().capacity().items()}
    (60, {'diffusion': 101, 'implant': 144, 'litho': 96})
    """

    starts: Mapping[str, float] = field(default_factory=lambda: dict(_STARTS))
    lot_size: int = _NOMINAL
    repair: StepRepair | TimedRepair | None = None
    rule: str = "fifo"
    arrivals: str = "even"
    process: Mapping[int, float] = field(default_factory=lambda: dict(_PROCESS))
    handling: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(_HANDLING))
    setups: Setups | None = field(default_factory=Setups)
    transport: tuple[float, float] = (6.0, 14.0)
    batch: int = 3

    def __post_init__(self) -> None:
        require_whole(1, lot_size=self.lot_size, batch=self.batch)
        require_one_of(RULES, rule=self.rule)
        require_one_of(("even", "poisson"), arrivals=self.arrivals)
        if not self.starts:
            raise InvalidData("expected starts= of a product or more, got none")
        for name, rate in self.starts.items():
            if not name or set(name) & {".", "/"}:
                raise InvalidData(f"expected names of products without '.' and '/', got {name!r}")
            require_positive(**{f"starts of {name}": rate})
        if set(self.process) != set(_PROCESS):
            raise InvalidData(f"expected process= minutes of the steps 1 to 6, got steps {sorted(self.process)}")
        if set(self.handling) != set(MACHINES):
            raise InvalidData(f"expected handling= of {', '.join(MACHINES)}, got {sorted(self.handling)}")
        for step, minutes in self.process.items():
            require_positive(**{f"process time of step {step}": minutes})
        low, high = self.transport
        if not 0 < low <= high < math.inf:
            raise InvalidData(f"expected transport= as least and most minutes above 0, got {self.transport}")
        tests = self.starts.get(TEST, 0.0)
        others = sum(self.starts.values()) - tests
        if (self.batch - 1) * tests > others:
            raise InvalidData(
                f"expected at most one {TEST} to {self.batch - 1} other lots, as no two of them are in a batch, got {tests:g} "
                f"to {others:g} a week: their queue would grow without end"
            )

    # ------------------------------------------------------------------ what is known of it
    def minutes(self, step: int) -> float:
        """Of processing a lot or batch in a step, without handling."""
        scale = 1.0 if CELL_OF[step] == "diffusion" else self.lot_size / _NOMINAL
        return self.process[step] * scale

    def capacity(self) -> dict[str, float]:
        """Most lots a week that each cell could finish if it never waited, nor changed over."""
        out = {}
        for cell, machines in MACHINES.items():
            steps = [step for step, where in CELL_OF.items() if where == cell]
            each = [self.minutes(step) + sum(self.handling[cell]) for step in steps]
            if isinstance(self.repair, StepRepair):
                each = [one + self.repair.mean / self.repair.every for one in each]
            up = 1.0 - (self.repair.share(cell) if isinstance(self.repair, TimedRepair) else 0.0)
            out[cell] = WEEK * up * len(machines) * (self.batch if cell == "diffusion" else 1) / sum(each)
        return out

    def parameters(self) -> dict[str, float]:
        """What tells settings apart, as numbers: those that the series of `fab_series` are labelled with."""
        steps = self.repair if isinstance(self.repair, StepRepair) else None
        timed = self.repair if isinstance(self.repair, TimedRepair) else None
        return {
            "starts": float(sum(self.starts.values())),
            "lot_size": float(self.lot_size),
            "repair_per_step": steps.mean / steps.every if steps else 0.0,
            "repair_spread": steps.mean if steps else 0.0,
            "time_down": float(np.mean([timed.share(cell) for cell in MACHINES])) if timed else 0.0,
        }

    @property
    def regime(self) -> str:
        """ "none", "by steps" or "by time"."""
        return {StepRepair: "by steps", TimedRepair: "by time"}.get(type(self.repair), "none")

    # ------------------------------------------------------------------ the model
    def model(self) -> Coupled:
        """Releases, transport and three cells, coupled."""
        low, high = (_ticks(one) for one in self.transport)
        parts: dict[str, Any] = {"transport": Transport(low, high)}
        couplings = [("transport.done", "done")]
        for product, rate in sorted(self.starts.items()):
            parts[f"release {product}"] = Release(product, WEEK * MINUTE / rate, self.arrivals == "poisson")
            couplings.append((f"release {product}.lot", "diffusion.lot"))
        for cell in MACHINES:
            parts[cell] = self._cell(cell)
            couplings += [(f"transport.{cell}", f"{cell}.lot"), (f"{cell}.moved", "transport.lot")]
        return Coupled(parts, couplings, outputs=("done",))

    def _cell(self, cell: str) -> Coupled:
        change = self.setups if cell == "litho" else None
        setups = SetupTicks(*(_ticks(one) for one in (change.product, change.step, change.both))) if change else None
        batch = self.batch if cell == "diffusion" else 1
        parts: dict[str, Any] = {"dispatcher": Dispatcher(cell, batch, self.rule, setups)}
        couplings = [("lot", "dispatcher.lot")]
        process = {step: _ticks(self.minutes(step)) for step, where in CELL_OF.items() if where == cell}
        load, unload = (_ticks(one) for one in self.handling[cell])
        steps = self.repair if isinstance(self.repair, StepRepair) else None
        repair = (steps.every, steps.mean * MINUTE) if steps else (None, 0.0)
        for name in MACHINES[cell]:
            parts[name] = Machine(name, process, load, unload, setups, *repair)
            couplings += [(f"dispatcher.{name}", f"{name}.job"), (f"{name}.lot", "moved")]
            couplings += [(f"{name}.ready", "dispatcher.ready"), (f"{name}.away", "dispatcher.away")]
            for kind, one in self._stops(cell).items():
                parts[f"{name} {kind}"] = one
                couplings.append((f"{name} {kind}.stop", f"{name}.stop"))
        return Coupled(parts, couplings, inputs=("lot",), outputs=("moved",))

    def _stops(self, cell: str) -> dict[str, Maintenance | Breakdowns]:
        out: dict[str, Maintenance | Breakdowns] = {}
        if isinstance(self.repair, TimedRepair):
            if cell in self.repair.maintenance:
                out["maintenance"] = Maintenance(*(_ticks(one) for one in self.repair.maintenance[cell]))
            if cell in self.repair.broken:
                out["breakdowns"] = Breakdowns(self.repair.between * MINUTE, self.repair.mean * MINUTE)
        return out

    def run(self, weeks: float = 8.0, random_state: int = 0, *, order: int | None = None) -> FabRun:
        """Simulate from an empty fab.

        Parameters
        ----------
        weeks : float, default=8.0
        random_state : int, default=0
            Each component has a generator of its own, so that what one machine draws changes nothing for another.
        order : int or None, default=None
            As in `locum.problems.devs.simulate`; changes nothing but proves it.
        """
        if not _FEWEST_WEEKS <= weeks < math.inf:
            raise InvalidData(f"expected weeks= of {_FEWEST_WEEKS} or more, got {weeks!r}")
        return FabRun(simulate(self.model(), round(weeks * WEEK * MINUTE), random_state, order=order))

    def response(self, columns: Sequence[str], *, weeks: float = 8.0, warm_up: float = 2.0) -> Callable[[ArrayLike], Array]:
        """A function of rows, for `locum.target` to count and record: settings and seed to weekly throughput and turnaround.

        Parameters
        ----------
        columns : sequence of {"starts", "lot_size", "every", "mean", "random_state"}
            What the columns of a row are: lots a week in all, wafers a lot, of a `StepRepair` steps between and minutes, seed.
        weeks, warm_up : float, default=8.0 and 2.0

        Returns
        -------
        callable
            From rows (n, k) to (n, 2): lots a week, and mean minutes from start to finish.
        """
        for name in columns:
            require_one_of(("starts", "lot_size", "every", "mean", "random_state"), column=name)

        def response(X: ArrayLike) -> Array:
            rows = np.asarray(X, dtype=float)
            if rows.ndim != 2 or rows.shape[1] != len(columns):
                raise InvalidData(f"expected rows of {len(columns)} columns ({', '.join(columns)}), got shape {rows.shape}")
            found = []
            for row in rows.tolist():
                one = dict(zip(columns, row, strict=True))
                stats = self._with(one).run(weeks, int(one.get("random_state", 0))).stats(warm_up=warm_up)
                found.append([stats.throughput, stats.turnaround])
            return np.array(found)

        return response

    def _with(self, changes: Mapping[str, float]) -> MiniFab:
        out = self
        if "starts" in changes:
            scale = changes["starts"] / sum(self.starts.values())
            out = replace(out, starts={name: scale * rate for name, rate in self.starts.items()})
        if "lot_size" in changes:
            out = replace(out, lot_size=round(changes["lot_size"]))
        if {"every", "mean"} & set(changes):
            base = self.repair if isinstance(self.repair, StepRepair) else StepRepair()
            every, mean = changes.get("every", base.every), changes.get("mean", base.mean)
            out = replace(out, repair=StepRepair(round(every), float(mean)))
        return out


def _ticks(minutes: float) -> int:
    return round(minutes * MINUTE)
