"""Packages, files and threads that model files share."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import xxhash

from locum.core.errors import InvalidData

__all__ = ["check_unchanged", "digest", "found", "in_worker", "one_thread_in_workers", "opened_here"]

P = ParamSpec("P")
T = TypeVar("T")
_OPEN = 4  # models that stay open in a process


def found(path: Any, what: str) -> Path:
    """The absolute path of a file that is there."""
    path = Path(path).absolute()
    if not path.is_file():
        raise InvalidData(f"cannot read the {what} {path}: there is no such file")
    return path


def digest(*paths: Path) -> str:
    """What files hold, in 32 hexadecimal digits."""
    state = xxhash.xxh3_128()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
        state.update(f"\0{path.stat().st_size}".encode())
    return state.hexdigest()


def check_unchanged(content: str, *paths: Path) -> None:
    """See that files hold what they held when a target was made, which can have been in another process."""
    gone = [path for path in paths if not path.is_file()]
    if gone:
        raise InvalidData(f"the model {gone[0]} is gone; workers of a pool read it themselves")
    if digest(*paths) != content:
        raise InvalidData(f"the model {paths[0]} is another one than when the target was made; make a new target")


def opened_here(opening: Callable[P, T]) -> Callable[P, T]:
    """Open each thing once in every process, and remember the last few.

    What a forked process inherits is of no use to it, since the threads behind it are gone; nor may it be let go of there,
    since that would wait for those threads. So every process has a memory of its own.
    """
    memories: dict[int, Callable[..., T]] = {}

    @wraps(opening)
    def opened(*thing: P.args, **named: P.kwargs) -> T:
        process = os.getpid()
        if process not in memories:
            memories[process] = lru_cache(maxsize=_OPEN)(opening)
        return memories[process](*thing, **named)

    return opened


def in_worker() -> bool:
    """Whether this process is a worker of a process pool."""
    return multiprocessing.parent_process() is not None


@contextmanager
def one_thread_in_workers() -> Iterator[None]:
    """In a worker of a process pool, OpenMP works with one thread.

    A forked worker has none of its parent's threads, so a call that asks OpenMP for several waits for ever; and a pool has a
    worker for each core anyway.
    """
    if not in_worker():
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="openmp"):
        yield
