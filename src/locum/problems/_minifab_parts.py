"""Components of the MiniFab: releases, transport, dispatchers, machines, and what stops machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from locum.problems.devs import INFINITY, Atomic, Bag

MINUTE = 1000  # ticks
TEST = "TW"  # the product whose lots are never two in a batch, and visit each machine of a pair once
CELL_OF = {1: "diffusion", 2: "implant", 3: "litho", 4: "implant", 5: "diffusion", 6: "litho"}
BUSY = ("setup", "load", "process", "unload")
DOWN = ("breakdown", "maintenance", "repair")
MACHINES = {"diffusion": ("Ma", "Mb"), "implant": ("Mc", "Md"), "litho": ("Me",)}


class Lot(NamedTuple):
    """A lot on its way.

    Attributes
    ----------
    name : str
    product : str
    step : int
        The next, 1 to 6; 7 once all are done.
    visited : tuple of str
        Machines that it has been on.
    """

    name: str
    product: str
    step: int = 1
    visited: tuple[str, ...] = ()


class Job(NamedTuple):
    """Lots for a machine to do a step of."""

    step: int
    lots: tuple[Lot, ...]


class Stop(NamedTuple):
    """An order to a machine to stand still for so many ticks."""

    kind: str
    lasting: int


class Release(Atomic):
    """Starts lots of one product.

    Parameters
    ----------
    product : str
    interval : float
        Mean ticks between two.
    poisson : bool
        Exponential intervals rather than equal ones.
    """

    outputs = ("lot",)

    def __init__(self, product: str, interval: float, poisson: bool) -> None:
        self.product, self.interval, self.poisson = product, interval, poisson

    def initial(self, rng: np.random.Generator) -> Any:
        return 0, round(rng.random() * self.interval), rng

    def time_advance(self, state: Any) -> int:
        return int(state[1])

    def output(self, state: Any) -> Bag:
        return {"lot": [Lot(f"{self.product}-{state[0]:05d}", self.product)]}

    def internal(self, state: Any) -> Any:
        number, _, rng = state
        ahead = rng.exponential(self.interval) if self.poisson else self.interval
        return number + 1, max(round(ahead), 1), rng

    def external(self, state: Any, elapsed: int, bag: Bag) -> Any:
        return state

    def phase(self, state: Any) -> int:
        return int(state[0])


@dataclass
class _Moving:
    rng: np.random.Generator
    now: int = 0
    due: list[tuple[int, Lot]] = field(default_factory=list)


class Transport(Atomic):
    """Carries lots to the cell of their next step, each for a random time, as many at once as there are.

    Parameters
    ----------
    low, high : int
        Ticks, both included.
    """

    inputs, outputs = ("lot",), ("diffusion", "implant", "litho", "done")

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def initial(self, rng: np.random.Generator) -> _Moving:
        return _Moving(rng)

    def time_advance(self, state: _Moving) -> int | float:
        return state.due[0][0] - state.now if state.due else INFINITY

    def output(self, state: _Moving) -> Bag:
        out: dict[str, list[Lot]] = {}
        for time, lot in state.due:
            if time == state.due[0][0]:
                out.setdefault(CELL_OF.get(lot.step, "done"), []).append(lot)
        return out

    def internal(self, state: _Moving) -> _Moving:
        state.now = state.due[0][0]
        state.due = [one for one in state.due if one[0] > state.now]
        return state

    def external(self, state: _Moving, elapsed: int, bag: Bag) -> _Moving:
        state.now += elapsed
        for lot in sorted(bag["lot"]):  # by name, so that the times drawn do not depend on the order in the bag
            state.due.append((state.now + int(state.rng.integers(self.low, self.high + 1)), lot))
        state.due.sort()
        return state

    def phase(self, state: _Moving) -> int:
        return len(state.due)


# ---------------------------------------------------------------------- dispatching
@dataclass
class _Queue:
    now: int = 0
    waiting: list[tuple[int, Lot]] = field(default_factory=list)  # since when, and who
    ready: dict[str, tuple[int, Any]] = field(default_factory=dict)  # since when, and what a machine is set up for
    jobs: list[tuple[str, Job]] = field(default_factory=list)


class Dispatcher(Atomic):
    """Holds the lots of a cell, and gives them to machines that are ready.

    Parameters
    ----------
    cell : {"diffusion", "implant", "litho"}
    batch : int
        Lots a job.
    rule : {"fifo", "first buffer first", "last buffer first", "least setup"}
    setups : SetupTicks or None
    """

    def __init__(self, cell: str, batch: int, rule: str, setups: SetupTicks | None) -> None:
        self.cell, self.batch, self.rule, self.setups = cell, batch, rule, setups
        self.steps = tuple(step for step, where in CELL_OF.items() if where == cell)
        self.inputs, self.outputs = ("lot", "ready", "away"), MACHINES[cell]

    def initial(self, rng: np.random.Generator) -> _Queue:
        return _Queue()

    def time_advance(self, state: _Queue) -> int | float:
        return 0 if state.jobs else INFINITY

    def output(self, state: _Queue) -> Bag:
        return {machine: [job] for machine, job in state.jobs}

    def internal(self, state: _Queue) -> _Queue:
        state.jobs = []
        return state

    def external(self, state: _Queue, elapsed: int, bag: Bag) -> _Queue:
        state.now += elapsed
        state.waiting += [(state.now, lot) for lot in bag.get("lot", ())]
        state.waiting.sort()
        for machine in bag.get("away", ()):
            state.ready.pop(machine, None)
        state.ready |= {machine: (state.now, setup) for machine, setup in bag.get("ready", ())}
        for machine, (_, setup) in sorted(state.ready.items(), key=lambda one: (one[1][0], one[0])):
            job = self._job(state.waiting, machine, setup)
            if job is not None:
                state.jobs.append((machine, job))
                del state.ready[machine]
                state.waiting = [one for one in state.waiting if one[1] not in job.lots]
        return state

    def _job(self, waiting: Sequence[tuple[int, Lot]], machine: str, setup: Any) -> Job | None:
        alone = len(self.outputs) == 1
        fit = [one for one in waiting if alone or one[1].product != TEST or machine not in one[1].visited]
        if self.rule != "fifo":
            signs = {"first buffer first": 1, "last buffer first": -1}
            sign = signs.get(self.rule)
            fit.sort(key=lambda one: sign * one[1].step if sign else self.setups.ticks(setup, one[1]) if self.setups else 0)
        lots = [lot for _, lot in fit]
        if self.batch == 1:
            return Job(lots[0].step, (lots[0],)) if lots else None
        tried: set[tuple[int, str]] = set()
        for first in lots:
            if (first.step, first.product) in tried:
                continue
            tried.add((first.step, first.product))
            chosen = _batch(first, [lot for lot in lots if lot is not first], self.batch)
            if len(chosen) == self.batch:
                return Job(first.step, tuple(chosen))
        return None

    def phase(self, state: _Queue) -> tuple[int, ...]:
        """How many wait, by step of the cell."""
        steps = [lot.step for _, lot in state.waiting]
        return tuple(steps.count(step) for step in self.steps)


def _batch(first: Lot, others: Iterable[Lot], size: int) -> list[Lot]:
    """As many as fit, in order: of one step, at most one test lot, and in step 5 one product besides it."""
    out = [first]
    for lot in others:
        if len(out) == size:
            break
        products = {one.product for one in out} - {TEST}
        test_is_in = len(products) < len({one.product for one in out})
        same = lot.product == TEST or lot.step == 1 or not products or lot.product in products
        if lot.step == first.step and same and not (lot.product == TEST and test_is_in):
            out.append(lot)
    return out


# ---------------------------------------------------------------------- what stops machines
class Maintenance(Atomic):
    """Orders a stop at even times, from a random one on.

    Parameters
    ----------
    every, lasting : int
        Ticks.
    """

    outputs = ("stop",)

    def __init__(self, every: int, lasting: int) -> None:
        self.every, self.lasting = every, lasting

    def initial(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.every))

    def time_advance(self, state: int) -> int:
        return state

    def output(self, state: int) -> Bag:
        return {"stop": [Stop("maintenance", self.lasting)]}

    def internal(self, state: int) -> int:
        return self.every

    def external(self, state: int, elapsed: int, bag: Bag) -> int:
        return state - elapsed


class Breakdowns(Atomic):
    """Orders a stop after an exponential time, for an exponential time, and so on from its end.

    Parameters
    ----------
    between, lasting : float
        Mean ticks.
    """

    outputs = ("stop",)

    def __init__(self, between: float, lasting: float) -> None:
        self.between, self.lasting = between, lasting

    def _draw(self, rng: np.random.Generator, pause: int) -> Any:
        return pause + round(rng.exponential(self.between)), round(rng.exponential(self.lasting)), rng

    def initial(self, rng: np.random.Generator) -> Any:
        return self._draw(rng, 0)

    def time_advance(self, state: Any) -> int:
        return int(state[0])

    def output(self, state: Any) -> Bag:
        return {"stop": [Stop("breakdown", state[1])]}

    def internal(self, state: Any) -> Any:
        return self._draw(state[2], state[1])

    def external(self, state: Any, elapsed: int, bag: Bag) -> Any:
        return state


# ---------------------------------------------------------------------- machines
@dataclass
class _Working:
    rng: np.random.Generator
    phase: str = "idle"
    left: int | float = INFINITY
    job: Job | None = None
    rest: list[tuple[str, int]] = field(default_factory=list)  # phases of the job that are to come
    setup: tuple[str, int] | None = None
    stops: list[Stop] = field(default_factory=list)
    broken: tuple[str, int] | None = None  # phase that a breakdown cut short, and what is left of it
    steps: int = 0  # since the last repair
    sending: dict[str, list[Any]] = field(default_factory=dict)
    ready: bool = False  # the dispatcher counts on it


class Machine(Atomic):
    """Does jobs: sets up, loads, processes, unloads. A breakdown cuts in and the work goes on after it; other stops wait.

    Parameters
    ----------
    name : str
    process : mapping of int to int
        Ticks of each step.
    load, unload : int
        Ticks.
    setups : SetupTicks or None
    repair_after : int or None
        Steps after which it needs repair.
    repair_lasting : float
        Mean ticks of such a repair, exponential.
    """

    inputs, outputs = ("job", "stop"), ("lot", "ready", "away")

    def __init__(
        self, name: str, process: Mapping[int, int], load: int, unload: int, setups: SetupTicks | None,
        repair_after: int | None, repair_lasting: float,
    ) -> None:  # fmt: skip
        self.name, self.process, self.load, self.unload = name, process, load, unload
        self.setups, self.repair_after, self.repair_lasting = setups, repair_after, repair_lasting

    def initial(self, rng: np.random.Generator) -> _Working:
        return self._free(_Working(rng))

    def time_advance(self, state: _Working) -> int | float:
        return 0 if state.sending else state.left

    def output(self, state: _Working) -> Bag:
        return state.sending

    def internal(self, state: _Working) -> _Working:
        if state.sending:  # nothing else happened: no time has passed
            state.sending = {}
            return state
        if state.phase in DOWN:
            return self._up(state)
        if state.rest:
            (state.phase, state.left), state.rest = state.rest[0], state.rest[1:]
            return state
        return self._done(state)

    def external(self, state: _Working, elapsed: int, bag: Bag) -> _Working:
        state.left -= elapsed
        state.stops += sorted(bag.get("stop", ()))
        for job in bag.get("job", ()):
            state.job, state.ready = job, False
            state.rest = self._phases(state.setup, job)
            if state.phase == "idle":
                (state.phase, state.left), state.rest = state.rest[0], state.rest[1:]
        if state.phase in BUSY:
            self._break(state)
        elif state.phase == "idle" and state.stops:
            state.phase, state.left = state.stops.pop(0)
            state.ready = False
            if state.sending.pop("ready", None) is None:  # what was not said yet need not be taken back
                state.sending["away"] = [self.name]
        return state

    @staticmethod
    def _break(state: _Working) -> None:
        """Let a breakdown that waits cut the work short."""
        now = next((stop for stop in state.stops if stop.kind == "breakdown"), None)
        if now is not None:
            state.stops.remove(now)
            state.broken = state.phase, int(state.left)
            state.phase, state.left = now

    def _phases(self, setup: Any, job: Job) -> list[tuple[str, int]]:
        change = self.setups.ticks(setup, job.lots[0]) if self.setups else 0
        work = [("load", self.load), ("process", self.process[job.step]), ("unload", self.unload)]
        return [("setup", change), *work] if change else work

    def _done(self, state: _Working) -> _Working:
        job = state.job
        assert job is not None
        lots = [lot._replace(step=lot.step + 1, visited=(*lot.visited, self.name)) for lot in job.lots]
        state.setup, state.job, state.steps = (job.lots[0].product, job.step), None, state.steps + 1
        state.sending = {"lot": lots}
        if self.repair_after is not None and state.steps >= self.repair_after:
            state.steps = 0
            state.stops.append(Stop("repair", round(state.rng.exponential(self.repair_lasting))))
        return self._free(state)

    def _up(self, state: _Working) -> _Working:
        """A stop has ended: the next one, or the work that it cut short, or a job that came in the meantime, or nothing."""
        if state.broken is None:
            return self._free(state)
        (state.phase, state.left), state.broken = state.broken, None
        self._break(state)
        return state

    def _free(self, state: _Working) -> _Working:
        if state.stops:
            state.phase, state.left = state.stops.pop(0)
        elif state.job is not None:
            (state.phase, state.left), state.rest = state.rest[0], state.rest[1:]
        else:
            state.phase, state.left, state.ready = "idle", INFINITY, True
            state.sending = {**state.sending, "ready": [(self.name, state.setup)]}
        return state

    def phase(self, state: _Working) -> tuple[str, int, tuple[str, ...]]:
        """What it does, the step, and the names of its lots."""
        if state.job is None:
            return state.phase, 0, ()
        return state.phase, state.job.step, tuple(lot.name for lot in state.job.lots)


@dataclass(frozen=True)
class SetupTicks:
    """Ticks to change a machine from one product and step to others."""

    product: int
    step: int
    both: int

    def ticks(self, setup: tuple[str, int] | None, lot: Lot) -> int:
        """0 where nothing changes, and for the first job."""
        if setup is None:
            return 0
        other = setup[0] != lot.product, setup[1] != lot.step
        return {(False, False): 0, (True, False): self.product, (False, True): self.step, (True, True): self.both}[other]
