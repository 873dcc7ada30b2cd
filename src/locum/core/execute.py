"""Where a target's answers are computed: here, in a pool, or on Ray; with retries, time-outs and bad rows set apart."""

from __future__ import annotations

import heapq
import os
import pickle
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, MissingExtra

__all__ = ["ENDING", "BadAnswer", "Job", "Malformed", "Outcome", "Plan", "run"]


class BadAnswer(Exception):
    """Some rows of a batch have an answer that is none, such as NaN."""


class Malformed(Exception):
    """A batch of answers that breaks the target's contract, so that asking on would only waste money."""


ENDING = (Malformed, BrokenExecutor)  # after these, nothing more is asked


@dataclass(frozen=True)
class Job:
    """Rows to ask in one call.

    Attributes
    ----------
    positions : ndarray of shape (m,)
        Which rows.
    claim : object
        Passed on to the outcome.
    attempt : int, default=0
        How often it has failed.
    error : Exception or None, default=None
        Why it failed last.
    """

    positions: NDArray[np.intp]
    claim: Any
    attempt: int = 0
    error: Exception | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of some rows of a job: their answers, or why there are none.

    Attributes
    ----------
    positions : ndarray of shape (m,)
    claim : object
    answers : ndarray of shape (m, ...) or None, default=None
    seconds : float, default=0.0
        Time the answers took.
    error : Exception or None, default=None
        Of the last attempt.
    """

    positions: NDArray[np.intp]
    claim: Any
    answers: NDArray[Any] | None = None
    seconds: float = 0.0
    error: Exception | None = None

    def halves(self) -> list[Outcome]:
        """The same in two parts."""
        out, m = [], len(self.positions)
        for part in np.array_split(np.arange(m), 2):
            answers = None if self.answers is None else self.answers[part]
            out.append(replace(self, positions=self.positions[part], answers=answers, seconds=self.seconds * len(part) / m))
        return out


@dataclass(frozen=True)
class Plan:
    """How batches are asked; the parameters are those of `Target` with the same names."""

    executor: Executor | str | None = None
    timeout: float | None = None
    retries: int = 0
    backoff: float = 0.5
    isolate: bool = False

    def check(self, answer: Any) -> None:
        """See before anything is asked that the plan can work for this model."""
        if not (self.executor is None or self.executor == "ray" or isinstance(self.executor, Executor)):
            raise InvalidData(f"expected executor= None, a concurrent.futures executor or 'ray', got {self.executor!r}")
        if self.timeout is not None and not (isinstance(self.timeout, Real) and self.timeout > 0):
            raise InvalidData(f"expected timeout= in seconds above zero, or None, got {self.timeout!r}")
        if not (isinstance(self.retries, Integral) and self.retries >= 0):
            raise InvalidData(f"expected retries= as a whole number of zero or more, got {self.retries!r}")
        if not (isinstance(self.backoff, Real) and 0 <= self.backoff < float("inf")):
            raise InvalidData(f"expected backoff= in seconds of zero or more, got {self.backoff!r}")
        if isinstance(self.executor, ProcessPoolExecutor):
            try:
                pickle.dumps(answer)
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise InvalidData(
                    f"a process pool needs a model that can be pickled, and this one cannot be ({error}); "
                    "define it at the top of a module, or use a ThreadPoolExecutor or 'ray'"
                ) from error


Judge = Callable[[Any, int], tuple[NDArray[Any], NDArray[np.bool_], str]]


def run(
    answer: Callable[[Any], Any], jobs: Iterable[Job], plan: Plan, judge: Judge, take: Callable[[Any], Any]
) -> Generator[Outcome, None, None]:
    """Ask the jobs and give their outcomes as they come back: every row of every job that was begun, exactly once.

    Parameters
    ----------
    answer : callable
        The model.
    jobs : iterable of Job
        Taken one at a time, as there is room.
    plan : Plan
    judge : callable
        From what the model gave back and the number of rows: the answers, which rows have a bad one, and what is bad.
        It raises `Malformed` where nothing can be kept; then no further job is begun, as after a pool that broke for good, or
        a model that raises it itself.
    take : callable
        A copy of the rows at given positions.
    """
    pool = _pool(answer, plan)
    todo, stopped = iter(jobs), False
    later: list[tuple[float, int, Job]] = []  # a heap of what is asked again, and when
    flying: dict[Future[Any], tuple[Job, float]] = {}
    try:
        while True:
            while len(flying) < pool.width and (job := _next(todo, later, stopped)) is not None:
                due = time.monotonic() + (plan.timeout or float("inf"))
                flying[pool.submit(take(job.positions))] = job, due
            if not flying and not later:
                return
            for job, result in _landed(flying, later, pool):
                outcomes, again = _settle(job, result, plan, judge)
                stopped |= any(isinstance(outcome.error, ENDING) for outcome in outcomes)
                yield from outcomes
                for piece in again:
                    pause = plan.backoff * 2 ** (piece.attempt - 1) + _retry_after(piece.error) if piece.attempt else 0.0
                    ready = time.monotonic() + pause
                    heapq.heappush(later, (ready, int(piece.positions[0]), piece))
            stopped |= pool.width == 0
            while stopped and later:
                job = heapq.heappop(later)[2]
                yield Outcome(job.positions, job.claim, error=job.error)
    finally:
        for future in flying:
            pool.drop(future)
        pool.close()


def _next(todo: Iterator[Job], later: list[tuple[float, int, Job]], stopped: bool) -> Job | None:
    if later and later[0][0] <= time.monotonic():
        return heapq.heappop(later)[2]
    return None if stopped else next(todo, None)


def _landed(
    flying: dict[Future[Any], tuple[Job, float]], later: list[tuple[float, int, Job]], pool: _Pool
) -> Iterator[tuple[Job, Any]]:
    """Wait for something to happen; the jobs that came back or ran out of time, with (answer, seconds) or the error."""
    now = time.monotonic()
    until = min([due for _, due in flying.values()] + ([later[0][0]] if later and len(flying) < pool.width else []))
    if not flying:
        time.sleep(max(0.0, until - now))
        return
    done, _ = wait(flying, None if until == float("inf") else max(0.0, until - now), FIRST_COMPLETED)
    for future in [future for future in flying if future in done]:
        job, _ = flying.pop(future)
        error = future.exception()
        yield job, future.result() if error is None else getattr(error, "cause", None) or error  # Ray wraps the cause
    late = [future for future, (_, due) in flying.items() if due <= time.monotonic() and not future.done()]
    for future in late:
        job, _ = flying.pop(future)
        pool.drop(future)
        yield job, TimeoutError(f"no answer within {pool.timeout} s")


def _settle(job: Job, result: Any, plan: Plan, judge: Judge) -> tuple[list[Outcome], list[Job]]:
    """What is decided about a job that came back, and what of it is asked again."""
    kept: list[Outcome] = []
    isolate = plan.isolate
    if isinstance(result, Malformed):
        return [Outcome(job.positions, job.claim, error=result)], []
    if isinstance(result, Exception):
        error = result
    else:
        raw, seconds = result
        try:
            answers, bad, why = judge(raw, len(job.positions))
        except Malformed as malformed:
            return [Outcome(job.positions, job.claim, error=malformed)], []
        good = ~bad
        if good.any():
            kept = [Outcome(job.positions[good], job.claim, answers[good], seconds)]
        if good.all():
            return kept, []
        job, error, isolate = replace(job, positions=job.positions[bad]), BadAnswer(why), False
    if job.attempt < plan.retries and _retry_after(error) < float("inf"):
        return kept, [replace(job, attempt=job.attempt + 1, error=error)]
    if isolate and len(job.positions) > 1:
        halves = np.array_split(job.positions, 2)
        return kept, [replace(job, positions=half, attempt=0, error=error) for half in halves]
    return [*kept, Outcome(job.positions, job.claim, error=error)], []


def _retry_after(error: Exception | None) -> float:
    """Seconds that an error asks to wait beyond the back-off; infinite where the same rows are not worth asking again."""
    seconds = getattr(error, "retry_after", 0.0)
    return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else 0.0


# ---------------------------------------------------------------------- where calls run
def _timed(answer: Callable[[Any], Any], rows: Any) -> tuple[Any, float]:
    if isinstance(rows, np.ndarray) and not rows.flags.writeable:
        rows = rows.copy()  # what other processes share is read-only, and not every model takes that
    start = time.perf_counter()
    return answer(rows), time.perf_counter() - start


class _Pool(ABC):
    """Runs `_timed` on batches, `width` of them at once."""

    timeout: float | None

    @property
    @abstractmethod
    def width(self) -> int: ...

    @abstractmethod
    def submit(self, rows: Any) -> Future[Any]: ...

    @abstractmethod
    def drop(self, future: Future[Any]) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


def _pool(answer: Callable[[Any], Any], plan: Plan) -> _Pool:
    if plan.executor is None:
        return _Here(answer, plan.timeout)
    if isinstance(plan.executor, Executor):
        return _Pooled(answer, plan.timeout, plan.executor)
    return _OnRay(answer, plan.timeout)


class _Here(_Pool):
    """In this process, one batch at a time; in a daemon thread where there is a time limit, so that a hung call can be left."""

    def __init__(self, answer: Callable[[Any], Any], timeout: float | None) -> None:
        self.answer, self.timeout = answer, timeout

    @property
    def width(self) -> int:
        return 1

    def submit(self, rows: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.timeout is None:
            self._call(future, rows)
        else:
            threading.Thread(target=self._call, args=(future, rows), daemon=True).start()
        return future

    def _call(self, future: Future[Any], rows: Any) -> None:
        try:
            future.set_result(_timed(self.answer, rows))
        except Exception as error:
            future.set_exception(error)

    def drop(self, future: Future[Any]) -> None: ...

    def close(self) -> None: ...


class _Pooled(_Pool):
    """In a `concurrent.futures` executor; a process pool that broke is replaced for what is asked again."""

    def __init__(self, answer: Callable[[Any], Any], timeout: float | None, executor: Executor) -> None:
        self.answer, self.timeout, self.executor = answer, timeout, executor
        self.workers = getattr(executor, "_max_workers", None) or os.cpu_count() or 1
        self.hung: list[Future[Any]] = []  # calls that were given up, and hold their worker all the same
        self.own: ProcessPoolExecutor | None = None

    @property
    def width(self) -> int:
        return max(0, self.workers - sum(not future.done() for future in self.hung))

    def submit(self, rows: Any) -> Future[Any]:
        try:
            return (self.own or self.executor).submit(_timed, self.answer, rows)
        except BrokenExecutor:
            if not isinstance(self.executor, ProcessPoolExecutor):
                raise
            self.close()
            self.own = ProcessPoolExecutor(self.workers)
            return self.own.submit(_timed, self.answer, rows)
        except RuntimeError as error:
            raise InvalidData(f"the executor takes no more calls ({error}); give one that is not shut down") from error

    def drop(self, future: Future[Any]) -> None:
        if not future.cancel():
            self.hung.append(future)

    def close(self) -> None:
        if self.own is not None:
            self.own.shutdown(wait=False, cancel_futures=True)


class _OnRay(_Pool):
    """As Ray tasks, on whatever cluster `ray.init` has joined; a task that is dropped is killed."""

    def __init__(self, answer: Callable[[Any], Any], timeout: float | None) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("executor='ray' needs Ray; install it with: pip install 'locum[ray]'") from error
        if not ray.is_initialized():
            ray.init(include_dashboard=False)
        self.ray, self.timeout = ray, timeout
        self.cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        try:
            self.model = ray.put(answer)  # sent once, not with every batch
        except TypeError as error:
            raise InvalidData(f"Ray cannot send this model to its workers: {str(error).splitlines()[0]}") from error
        # Retries are Locum's to count, since each may cost money.
        self.task = ray.remote(max_retries=0)(_timed)
        self.refs: dict[Future[Any], Any] = {}

    @property
    def width(self) -> int:
        return self.cpus

    def submit(self, rows: Any) -> Future[Any]:
        ref = self.task.remote(self.model, rows)
        future = ref.future()
        self.refs[future] = ref
        future.add_done_callback(lambda done: self.refs.pop(done, None))
        return future

    def drop(self, future: Future[Any]) -> None:
        ref = self.refs.pop(future, None)
        if ref is not None:
            self.ray.cancel(ref, force=True)

    def close(self) -> None:
        self.refs.clear()
