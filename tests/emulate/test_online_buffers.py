"""Buffers between simulations and a network: what is kept, what is read, who waits; by counting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import FIFOBuffer, FIROBuffer, ReservoirBuffer, StepRecord, StoredBuffer

KINDS = [FIFOBuffer, FIROBuffer, ReservoirBuffer, StoredBuffer]


def record(i):
    return StepRecord(i, 0, np.array([float(i)]), np.array([0.0]))


def filled(buffer, n, rng, first=0):
    if not first:
        buffer.clear()
    for i in range(first, first + n):
        assert buffer.accepts()
        buffer.put(record(i), rng)
    return buffer


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_and_nothing_is_read_that_was_not_put(kind, rng):
    buffer = kind() if kind is StoredBuffer else kind(50)
    buffer.clear()
    put = reads = 0
    for turn in range(200):
        for _ in range(3):
            if buffer.accepts():
                buffer.put(record(put), rng)
                put += 1
        if turn == 100:
            buffer.end()
        if turn > 100 and kind is ReservoirBuffer and not buffer.ready(5):
            break
        if buffer.ready(5):
            batch = buffer.take(5, rng)
            assert all(one.run < put for one in batch)
            reads += len(batch)
    counts = buffer.counts()
    assert sum(counts.values()) == put, "each record is somewhere"
    assert sum(times * n for times, n in counts.items()) == reads
    buffer.clear()
    assert buffer.size == 0
    assert buffer.counts() == Counter()


def test_the_oldest_is_read_first(rng):
    buffer = filled(FIFOBuffer(20), 10, rng)
    assert [one.run for one in buffer.take(4, rng)] == [0, 1, 2, 3]
    assert [one.run for one in buffer.take(4, rng)] == [4, 5, 6, 7]
    assert not buffer.ready(4)
    buffer.end()
    assert buffer.ready(4)
    assert [one.run for one in buffer.take(4, rng)] == [8, 9]
    assert not buffer.ready(4)


def test_a_random_one_is_read_above_the_watermark_alone(rng):
    buffer = filled(FIROBuffer(20, 8), 10, rng)
    assert not buffer.ready(4)
    filled(buffer, 2, rng, first=10)
    assert buffer.ready(4)
    batch = [one.run for one in buffer.take(4, rng)]
    assert batch != sorted(batch) or batch != [0, 1, 2, 3]
    assert buffer.size == 8
    filled(buffer, 12, rng, first=12)
    assert not buffer.accepts(), "it is full"
    buffer.end()
    rest = [one.run for _ in range(5) for one in buffer.take(4, rng)]
    assert sorted(batch + rest) == list(range(24)), "each once"


def test_random_reads_are_uniform(rng):
    first = Counter()
    for _ in range(4000):
        buffer = filled(FIROBuffer(20, 0), 10, rng)
        first[buffer.take(1, rng)[0].run] += 1
    assert max(first.values()) < 500
    assert min(first.values()) > 300


def test_a_reservoir_repeats_and_makes_room_of_what_was_read_alone(rng):
    buffer = filled(ReservoirBuffer(10, 5), 10, rng)
    assert not buffer.accepts(), "full, and nothing was read"
    assert buffer.unread == 10
    batch = buffer.take(6, rng)
    seen = {one.run for one in batch}
    assert buffer.unread == 10 - len(seen)
    assert buffer.size == 10, "what is read stays"
    buffer.put(record(10), rng)
    assert buffer.size == 10
    left = buffer.counts()
    assert left[0] == buffer.unread == 11 - len(seen), "no record that was not read is gone"


def test_a_reservoir_reads_all_that_it_holds_alike(rng):
    buffer, reads = filled(ReservoirBuffer(10, 5), 10, rng), Counter()
    for _ in range(2000):
        reads.update(one.run for one in buffer.take(5, rng))
    assert max(reads.values()) < 1150
    assert min(reads.values()) > 850


def test_a_reservoir_ends_once_all_was_read(rng):
    buffer = filled(ReservoirBuffer(10, 5), 10, rng)
    buffer.take(3, rng)
    buffer.end()
    while buffer.ready(3):
        buffer.take(3, rng)
    assert buffer.unread == 0
    assert buffer.counts()[0] == 0


def test_stored_records_are_read_epoch_after_epoch(rng):
    buffer = filled(StoredBuffer(), 6, rng)
    assert not buffer.ready(4)
    buffer.end()
    runs = [one.run for _ in range(3) for one in buffer.take(4, rng)]
    assert sorted(runs[:6]) == sorted(runs[6:]) == list(range(6))
    assert runs[:6] != runs[6:]


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        (FIROBuffer(100, 91), "watermark \\+ batch_size of at most capacity=100"),
        (FIFOBuffer(5), "watermark \\+ batch_size of at most capacity=5, got 0 \\+ 10"),
        (ReservoirBuffer(0, 0), "capacity= to be a whole number of 1"),
        (ReservoirBuffer(100, -1), "watermark= to be a whole number of 0"),
    ],
)
def test_sizes_with_which_all_would_wait_are_refused(buffer, message):
    with pytest.raises(InvalidData, match=message):
        buffer.check(10)
