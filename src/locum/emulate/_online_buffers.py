"""What lies between simulations that run and a network that trains: records that come in, and batches that go out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole

__all__ = ["FIFOBuffer", "FIROBuffer", "ReservoirBuffer", "StepRecord", "StoredBuffer", "TrainingBuffer"]

Array = NDArray[np.floating[Any]]


@dataclass(eq=False)
class StepRecord:
    """One time step of one run.

    Attributes
    ----------
    run, step : int
    inputs, answer : ndarray
        What the network gets, and what it should say.
    born : int, default=0
        Updates that had been done when it came.
    reads : int, default=0
        How often it was learned from.
    """

    run: int
    step: int
    inputs: Array
    answer: Array
    born: int = 0
    reads: int = 0


class TrainingBuffer(ABC):
    """A bounded store of records; one thread at a time.

    Attributes
    ----------
    capacity : int
        Records it holds at most.
    watermark : int
        Records it must hold before any is read.
    """

    capacity: int
    watermark: int

    def check(self, batch_size: int) -> None:
        """Refuse sizes with which producers and the trainer would wait for each other.

        Parameters
        ----------
        batch_size : int
        """
        require_whole(1, capacity=self.capacity)
        require_whole(0, watermark=self.watermark)
        if self.watermark + batch_size > self.capacity:
            raise InvalidData(
                f"expected watermark + batch_size of at most capacity={self.capacity}, got {self.watermark} + {batch_size}: "
                "with more, simulations wait for room and the network for records"
            )

    def clear(self) -> None:
        """Empty it, and forget what was counted."""
        self.ended = False
        self.read_counts: Counter[int] = Counter()
        self._clear()

    def end(self) -> None:
        """No record will come any more: what is left may be read out, whatever the watermark."""
        self.ended = True

    def counts(self) -> Counter[int]:
        """How many records were read how often, those that are still in it as well."""
        return self.read_counts + Counter(one.reads for one in self._held())

    @property
    @abstractmethod
    def size(self) -> int:
        """Records in it."""

    @property
    def unread(self) -> int:
        """Records in it that were never read."""
        return sum(one.reads == 0 for one in self._held())

    @abstractmethod
    def accepts(self) -> bool:
        """Whether there is room for one more; where not, the simulations wait."""

    @abstractmethod
    def ready(self, n: int) -> bool:
        """Whether a batch of `n` may be read; a smaller one once no record will come any more."""

    @abstractmethod
    def take(self, n: int, rng: np.random.Generator) -> list[StepRecord]:
        """A batch, with `reads` counted."""

    @abstractmethod
    def put(self, record: StepRecord, rng: np.random.Generator) -> None:
        """Take a record in, where `accepts` says that there is room."""

    @abstractmethod
    def _clear(self) -> None: ...

    @abstractmethod
    def _held(self) -> list[StepRecord]: ...

    def _gone(self, record: StepRecord) -> None:
        self.read_counts[record.reads] += 1


class FIFOBuffer(TrainingBuffer):
    """The oldest record is read first, once: a batch holds neighbouring steps of the runs that are going on.

    Parameters
    ----------
    capacity : int, default=1000
    """

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self.watermark = 0

    def _clear(self) -> None:
        self._queue: deque[StepRecord] = deque()

    @property
    def size(self) -> int:
        return len(self._queue)

    def accepts(self) -> bool:
        return len(self._queue) < self.capacity

    def ready(self, n: int) -> bool:
        return len(self._queue) >= (1 if self.ended else n)

    def take(self, n: int, rng: np.random.Generator) -> list[StepRecord]:
        batch = [self._queue.popleft() for _ in range(min(n, len(self._queue)))]
        for one in batch:
            one.reads += 1
            self._gone(one)
        return batch

    def put(self, record: StepRecord, rng: np.random.Generator) -> None:
        self._queue.append(record)

    def _held(self) -> list[StepRecord]:
        return list(self._queue)


class FIROBuffer(TrainingBuffer):
    """A random record is read, once, while more than the watermark are there.

    Parameters
    ----------
    capacity : int, default=1000
    watermark : int, default=200
    """

    def __init__(self, capacity: int = 1000, watermark: int = 200) -> None:
        self.capacity = capacity
        self.watermark = watermark

    def _clear(self) -> None:
        self._records: list[StepRecord] = []

    @property
    def size(self) -> int:
        return len(self._records)

    def accepts(self) -> bool:
        return len(self._records) < self.capacity

    def ready(self, n: int) -> bool:
        return len(self._records) >= (1 if self.ended else self.watermark + n)

    def take(self, n: int, rng: np.random.Generator) -> list[StepRecord]:
        batch = [_drawn(self._records, rng) for _ in range(min(n, len(self._records)))]
        for one in batch:
            one.reads += 1
            self._gone(one)
        return batch

    def put(self, record: StepRecord, rng: np.random.Generator) -> None:
        self._records.append(record)

    def _held(self) -> list[StepRecord]:
        return self._records


class ReservoirBuffer(TrainingBuffer):
    """Any record may be read, again and again; a new one takes the place of a random one that was read.

    No record goes unread, and the network need not wait for slow simulations: it repeats what is there. Where none was read and
    it is full, the simulations wait. This is not the textbook's reservoir, which leaves out new items: here none is left out.

    Parameters
    ----------
    capacity : int, default=1000
    watermark : int, default=200

    Notes
    -----
    A batch is drawn with replacement. Once no record will come any more, each read takes its record out, until all were read.
    """

    def __init__(self, capacity: int = 1000, watermark: int = 200) -> None:
        self.capacity = capacity
        self.watermark = watermark

    def _clear(self) -> None:
        self._unseen: list[StepRecord] = []
        self._seen: list[StepRecord] = []

    @property
    def size(self) -> int:
        return len(self._unseen) + len(self._seen)

    @property
    def unread(self) -> int:
        return len(self._unseen)

    def accepts(self) -> bool:
        return self.size < self.capacity or bool(self._seen)

    def ready(self, n: int) -> bool:
        return bool(self._unseen) if self.ended else self.size >= max(self.watermark, 1)

    def take(self, n: int, rng: np.random.Generator) -> list[StepRecord]:
        batch: list[StepRecord] = []
        while len(batch) < n and self.size and not (self.ended and not self._unseen):
            at = int(rng.integers(self.size))
            new = at < len(self._unseen)
            if new or self.ended:
                record = _pop(self._unseen if new else self._seen, at if new else at - len(self._unseen))
            else:
                record = self._seen[at - len(self._unseen)]
            record.reads += 1
            batch.append(record)
            if self.ended:
                self._gone(record)
            elif new:
                self._seen.append(record)
        return batch

    def put(self, record: StepRecord, rng: np.random.Generator) -> None:
        if self.size >= self.capacity:
            self._gone(_drawn(self._seen, rng))
        self._unseen.append(record)

    def _held(self) -> list[StepRecord]:
        return self._unseen + self._seen


class StoredBuffer(TrainingBuffer):
    """Training offline: all records are stored first, and then read in random order, epoch after epoch.

    With as many runs and updates as a buffer that is fed while training, it is what that has to be compared with.
    """

    def __init__(self) -> None:
        self.capacity = 2**62
        self.watermark = 0

    def _clear(self) -> None:
        self._records: list[StepRecord] = []
        self._order: list[int] = []

    @property
    def size(self) -> int:
        return len(self._records)

    def accepts(self) -> bool:
        return True

    def ready(self, n: int) -> bool:
        return self.ended and bool(self._records)

    def take(self, n: int, rng: np.random.Generator) -> list[StepRecord]:
        batch: list[StepRecord] = []
        while len(batch) < n:
            if not self._order:
                self._order = rng.permutation(len(self._records)).tolist()
            batch.append(self._records[self._order.pop()])
            batch[-1].reads += 1
        return batch

    def put(self, record: StepRecord, rng: np.random.Generator) -> None:
        self._records.append(record)

    def _held(self) -> list[StepRecord]:
        return self._records


def _drawn(records: list[StepRecord], rng: np.random.Generator) -> StepRecord:
    """A random record, taken out."""
    return _pop(records, int(rng.integers(len(records))))


def _pop(records: list[StepRecord], at: int) -> StepRecord:
    """Take one out in constant time: the last fills its place."""
    records[at], records[-1] = records[-1], records[at]
    return records.pop()
