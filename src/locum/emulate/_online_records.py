"""From messages of simulations to records of training: which are new, which belong together, which runs are set apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.emulate._online_buffers import StepRecord
from locum.emulate._online_clients import Message

__all__ = ["Assembler", "OnlineStats", "Units"]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Units:
    """What numbers are divided by, fixed beforehand: running statistics would drift with the stream.

    Attributes
    ----------
    p_mean, p_scale : ndarray of shape (k,)
        Of the prior.
    mean, scale : float
        Of fields.
    n_steps : int
        Of a run.
    """

    p_mean: Array
    p_scale: Array
    mean: float
    scale: float
    n_steps: int

    def parameters(self, P: Array) -> Array:
        """Scaled parameters, of the same shape (..., k)."""
        return (P - self.p_mean) / self.p_scale

    def standard(self, fields: Array) -> Array:
        """Scaled fields."""
        return (fields - self.mean) / self.scale

    def fields(self, standard: Array) -> Array:
        """Back from scaled ones."""
        return standard * self.scale + self.mean

    def at(self, p: Array, step: Array | int) -> Array:
        """What a direct network gets: scaled parameters (..., k) and the number of a step, scaled to [-1, 1], (..., k + 1)."""
        time = 2.0 * (np.asarray(step, dtype=float) + 1.0) / self.n_steps - 1.0
        rows = self.parameters(p)
        return np.concatenate([rows, np.broadcast_to(time[..., None], (*rows.shape[:-1], 1))], axis=-1)

    def with_constants(self, u: Array, p: Array) -> Array:
        """What a stepping network gets: scaled fields (..., C, *grid) and parameters as constants, (..., C + k, *grid)."""
        grid = u.shape[p.ndim :]
        rows = self.parameters(p)
        constants = np.broadcast_to(rows[(...,) + (None,) * len(grid)], (*rows.shape, *grid))
        return np.concatenate([self.standard(u), constants], axis=p.ndim - 1)


@dataclass(frozen=True)
class OnlineStats:
    """What went through the buffer, and who waited for whom.

    Attributes
    ----------
    received, duplicates : int
        Steps that came, and those of them that had come before, from a run that was begun again.
    runs_done, restarts : int
    quarantined : tuple of int
        Runs that said what is not finite, or of another shape; what came before is kept.
    records_learned : int
        Records that were read at least once.
    read_counts : dict of int to int
        How many records were read how often.
    mean_age : float
        Updates between a record's coming and its being read, mean over reads.
    bytes_received : int
    trainer_utilisation, client_utilisation : float
        Share of the time in which the network learned rather than waited for records, and in which simulations ran rather than
        waited for room. Run here in turn, where nobody waits: shares of ticks with an update, and of steps that were taken in
        when it was their turn.
    seconds : float
    ticks : int
        Turns of the scheduler where simulations run here in turn.
    """

    received: int
    duplicates: int
    runs_done: int
    restarts: int
    quarantined: tuple[int, ...]
    records_learned: int
    read_counts: dict[int, int]
    mean_age: float
    bytes_received: int
    trainer_utilisation: float
    client_utilisation: float
    seconds: float
    ticks: int


class Assembler:
    """Makes a record of each step that is new: of the step alone, or of two that follow on each other.

    Parameters
    ----------
    P : ndarray of shape (runs, k)
    seen : list of int
        Parameters that the network gets.
    pairs : bool
    units : Units
    """

    def __init__(self, P: Array, seen: list[int], pairs: bool, units: Units) -> None:
        self.P, self.pairs, self.units = P[:, seen], pairs, units
        self.shape: tuple[int, ...] | None = None
        self.steps: Counter[int] = Counter()  # of each run that came
        self.before: dict[int, Array] = {}
        self.quarantined: list[int] = []
        self.received = self.duplicates = self.bytes_received = self.runs_done = 0

    def take(self, message: Message) -> StepRecord | None:
        """A record, where the message makes one.

        Raises
        ------
        InvalidData
            Fields that are none, or with which there is nothing that follows on another.
        """
        run, step, now = message.run, message.step, message.field
        if now is None:
            self.before.pop(run, None)
            self.runs_done += 1
            return None
        if run in self.quarantined:
            return None
        self.received += 1
        self.bytes_received += now.nbytes
        if self.shape is None:
            if self.pairs and now.ndim < 2:
                raise InvalidData(f"expected fields of shape (fields, *grid) for mode='autoregressive', got {now.shape}")
            self.shape = now.shape
        if now.shape != self.shape or not np.isfinite(now).all():
            self.quarantined.append(run)
            self.before.pop(run, None)
            return None
        before = self.before.get(run) if step else None
        if self.pairs:
            self.before[run] = now
        if step < self.steps[run]:  # it came in an earlier attempt
            self.duplicates += 1
            return None
        self.steps[run] = step + 1
        if not self.pairs:
            return StepRecord(run, step, self.units.at(self.P[run], step), self.units.standard(now))
        if before is None:
            return None
        return StepRecord(run, step, self.units.with_constants(before, self.P[run]), self.units.standard(now))
