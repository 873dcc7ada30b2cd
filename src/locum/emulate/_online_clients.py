"""Simulations that run while a network trains: here in turn, in processes, or on Ray; what is lost is run again."""

from __future__ import annotations

import multiprocessing
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, LocumError, need

__all__ = ["CLIENTS", "Clients", "Message", "Simulate", "SimulationFailed"]

Array = NDArray[np.floating[Any]]
Simulate = Callable[[Array], Iterable[Array]]

_AHEAD = 8  # steps that a task on Ray may be ahead of what was received


class SimulationFailed(LocumError, RuntimeError):
    """A simulation failed more often than is allowed.

    Parameters
    ----------
    message : str
    run : int
        Its number.
    """

    def __init__(self, message: str, *, run: int) -> None:
        super().__init__(message)
        self.run = run


@dataclass(frozen=True)
class Message:
    """One step of a run, or its end.

    Attributes
    ----------
    run, step : int
        The step counts from 0, anew in each attempt.
    field : ndarray or None
        None at the end of the run.
    seconds : float
        That it took to compute.
    """

    run: int
    step: int
    field: Array | None
    seconds: float = 0.0


def streamed(simulate: Simulate, p: Array) -> Iterator[tuple[Array, float]]:
    """Fields as single-precision arrays, each with the seconds that it took."""
    steps = iter(simulate(p))
    while True:
        start = time.perf_counter()
        try:
            field = next(steps)
        except StopIteration:
            return
        yield np.ascontiguousarray(field, dtype=np.float32), time.perf_counter() - start


class Clients(ABC):
    """Runs simulations in the order of their numbers, `n_clients` at once.

    Parameters
    ----------
    simulate : callable
        From parameters to fields, one after the other.
    n_clients : int
    max_restarts : int
        Of each run.

    Attributes
    ----------
    restarts : int
        How many runs were begun again.
    """

    def __init__(self, simulate: Simulate, n_clients: int, max_restarts: int) -> None:
        self.simulate, self.n_clients, self.max_restarts = simulate, n_clients, max_restarts
        self.begin([])
        self._open()

    def begin(self, P: Sequence[Array]) -> None:
        """Run simulations anew, once those of before have finished.

        Parameters
        ----------
        P : sequence of ndarray
            Parameters of each run.
        """
        self.P = P
        self.todo = deque(range(len(P)))
        self.attempts = [0] * len(P)
        self.restarts = 0

    def lost(self, run: int, why: str) -> None:
        """Put a run back, first in the row; or give up.

        Raises
        ------
        SimulationFailed
            Too often.
        """
        self.attempts[run] += 1
        if self.attempts[run] > self.max_restarts:
            raise SimulationFailed(
                f"run {run} failed {self.attempts[run]} times, the last time with: {why}; mend the simulator for parameters "
                f"{np.array2string(np.asarray(self.P[run]), precision=6)}, or raise max_restarts=",
                run=run,
            )  # fmt: skip
        self.restarts += 1
        self.todo.appendleft(run)

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether all runs have ended."""

    @abstractmethod
    def receive(self, timeout: float) -> Message | None:
        """The next message of any run; None where none came in time."""

    @abstractmethod
    def drop(self, run: int) -> None:
        """Go no further with a run."""

    @abstractmethod
    def close(self) -> None:
        """End what is going on."""

    @abstractmethod
    def _open(self) -> None: ...


class SerialClients(Clients):
    """In this process, a step of each in turn: the same messages in the same order, always."""

    def _open(self) -> None:
        self.going: deque[tuple[int, int, Iterator[tuple[Array, float]]]] = deque()

    @property
    def finished(self) -> bool:
        return not (self.todo or self.going)

    def receive(self, timeout: float) -> Message | None:
        while self.todo and len(self.going) < self.n_clients:
            run = self.todo.popleft()
            self.going.append((run, 0, streamed(self.simulate, self.P[run])))
        run, step, steps = self.going.popleft()
        try:
            field, seconds = next(steps)
        except StopIteration:
            return Message(run, step, None)
        except Exception as error:
            self.lost(run, repr(error))
            return None
        self.going.append((run, step + 1, steps))
        return Message(run, step, field, seconds)

    def drop(self, run: int) -> None:
        self.going = deque(one for one in self.going if one[0] != run)

    def close(self) -> None:
        self.going.clear()


def _work(pipe: Connection, simulate: Simulate) -> None:
    """What a process does: runs, one after the other, whose steps it sends as far as the pipe takes them."""
    while True:
        try:
            p = pipe.recv()
            for field, seconds in streamed(simulate, p):
                pipe.send((field, seconds))
            pipe.send(None)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:
            pipe.send(repr(error))


@dataclass(eq=False)
class _Worker:
    process: Any
    pipe: Connection
    run: int | None = None
    step: int = 0


class ProcessClients(Clients):
    """In processes on this machine, a pipe to each: where nobody reads, a pipe fills, and its simulation waits."""

    def _open(self) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.workers: deque[_Worker] = deque()
        try:
            for _ in range(self.n_clients):
                self.workers.append(self._started())
        except (AttributeError, TypeError) as error:  # what pickle says of what it cannot send
            self.close()
            raise InvalidData(
                f"processes need a simulator that can be pickled, and this one cannot be ({error}); define it at the top of a "
                "module, or use backend='ray' or 'serial'"
            ) from error

    def _started(self) -> _Worker:
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_work, args=(theirs, self.simulate), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return _Worker(process, ours)

    @property
    def finished(self) -> bool:
        return not self.todo and all(worker.run is None for worker in self.workers)

    def receive(self, timeout: float) -> Message | None:
        for worker in self.workers:
            if worker.run is None and self.todo:
                worker.run, worker.step = self.todo.popleft(), 0
                worker.pipe.send(self.P[worker.run])
        busy = {worker.pipe: worker for worker in self.workers if worker.run is not None}
        ready = set(wait(list(busy), timeout))
        for _ in range(len(self.workers)):
            worker = self.workers[0]
            self.workers.rotate(-1)  # so that all have their turn
            if worker.pipe in ready:
                return self._read(worker)
        return None

    def _read(self, worker: _Worker) -> Message | None:
        run, step = worker.run, worker.step
        assert run is not None
        try:
            found = worker.pipe.recv()
        except (EOFError, OSError):
            self._replace(worker)
            self.lost(run, "the process ended")
            return None
        if found is None:
            worker.run = None
            return Message(run, step, None)
        if isinstance(found, str):
            worker.run = None
            self.lost(run, found)
            return None
        worker.step += 1
        return Message(run, step, *found)

    def _replace(self, worker: _Worker) -> None:
        _ended(worker)
        self.workers[self.workers.index(worker)] = self._started()

    def drop(self, run: int) -> None:
        for worker in list(self.workers):
            if worker.run == run:
                self._replace(worker)

    def close(self) -> None:
        for worker in self.workers:
            _ended(worker)
        self.workers.clear()


def _ended(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.terminate()
    worker.process.join()
    worker.process.close()


class RayClients(Clients):
    """As tasks on whatever cluster `ray.init` has joined; each may be a few steps ahead of what was received, then waits."""

    def _open(self) -> None:
        ray = need("ray", "backend='ray'", "ray")
        if not ray.is_initialized():
            ray.init(include_dashboard=False)
        self.ray = ray
        try:
            self.model = ray.put(self.simulate)
        except TypeError as error:
            raise InvalidData(f"Ray cannot send this simulator to its workers: {str(error).splitlines()[0]}") from error
        # Runs that are begun again are Locum's to count.
        self.task = ray.remote(max_retries=0)(streamed).options(
            num_returns="streaming", _generator_backpressure_num_objects=_AHEAD
        )
        self.going: dict[Any, tuple[int, int]] = {}

    @property
    def finished(self) -> bool:
        return not (self.todo or self.going)

    def receive(self, timeout: float) -> Message | None:
        while self.todo and len(self.going) < self.n_clients:
            run = self.todo.popleft()
            self.going[self.task.remote(self.model, self.P[run])] = run, 0
        ready, _ = self.ray.wait(list(self.going), timeout=timeout)
        if not ready:
            return None
        steps = ready[0]
        run, step = self.going.pop(steps)
        try:
            field, seconds = self.ray.get(next(steps))
        except StopIteration:
            return Message(run, step, None)
        except self.ray.exceptions.RayError as error:
            self.lost(run, str(getattr(error, "cause", None) or error).strip().splitlines()[-1])
            return None
        self.going[steps] = run, step + 1  # last in the row, so that all have their turn
        return Message(run, step, field, seconds)

    def drop(self, run: int) -> None:
        for steps, (number, _) in list(self.going.items()):
            if number == run:
                del self.going[steps]
                self.ray.cancel(steps, force=True)

    def close(self) -> None:
        for steps in self.going:
            self.ray.cancel(steps, force=True)
        self.going.clear()


CLIENTS: dict[str, type[Clients]] = {"serial": SerialClients, "process": ProcessClients, "ray": RayClients}
