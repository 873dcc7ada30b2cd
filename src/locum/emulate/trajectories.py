"""Trajectories: states over even times, in runs that are never mixed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_one_of, require_whole

__all__ = ["Schema", "Trajectories"]

Array = NDArray[np.float64]

_UNEVEN = 1e-3  # of a step


@dataclass(frozen=True)
class Schema:
    """What a row is: columns with their units, and the time to the next row. What is not known is empty.

    Parameters
    ----------
    dimension : int
    dt : float
    names, units : tuple of str, default=()
        Of the columns.
    time_unit : str, default=""
    """

    dimension: int
    dt: float
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    time_unit: str = ""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Schema:
        """What `dataclasses.asdict` and a file of JSON have made of one."""
        return cls(**{**record, "names": tuple(record["names"]), "units": tuple(record["units"])})

    def taken(self, data: Any, where: str = "") -> Trajectories:
        """Trajectories whose rows are such ones.

        Parameters
        ----------
        data : Trajectories, or what `Trajectories.of` takes
            Arrays are taken to have this time between rows.
        where : str, default=""
            Where the data are from, for errors.

        Raises
        ------
        InvalidData
            Rows of other columns, in other units, or at other times apart.
        """
        runs = data if isinstance(data, Trajectories) else Trajectories.of(data, dt=self.dt)
        if runs.dimension != self.dimension:
            raise InvalidData(f"expected {self.dimension} columns of states{where}, got {runs.dimension}")
        if self.names and runs.names and self.names != runs.names:
            raise InvalidData(f"expected the columns {', '.join(self.names)}{where}, got {', '.join(runs.names)}")
        told = self.names or runs.names or tuple(f"column {j}" for j in range(self.dimension))
        pairs = [*zip(told, self.units, runs.units, strict=True)] if self.units and runs.units else []
        for name, ours, theirs in [*pairs, ("times", self.time_unit, runs.time_unit)]:
            if ours and theirs and ours != theirs:
                raise InvalidData(f"expected {name} in {ours}{where}, got {theirs}: convert first")
        if abs(runs.dt / self.dt - 1) > _UNEVEN:
            unit = f" {runs.time_unit}" if runs.time_unit else ""
            raise InvalidData(f"expected times {self.dt:g} apart{where}, got {runs.dt:g}{unit}: take rows that far apart")
        return runs


@dataclass(frozen=True, eq=False)
class Trajectories:
    """States of one or more runs at even times; runs may be of different lengths.

    Made by `Trajectories.of`, which checks.

    Parameters
    ----------
    states : tuple of ndarray of shape (T_i, d)
        One a run.
    dt : float
        Time between rows, in `time_unit`.
    starts : tuple of float
        Time of the first row of each run.
    parameters : ndarray of shape (runs, k) or None, default=None
        What was set in each run.
    names, units : tuple of str, default=()
        Of the d columns, where known.
    time_unit : str, default=""

    Examples
    --------
    >>> runs = Trajectories.of([np.zeros((5, 2)), np.ones((4, 2))], dt=0.1)
    >>> len(runs), runs.dimension, runs.windows(4).shape
    (2, 2, (3, 4, 2))
    """

    states: tuple[Array, ...]
    dt: float
    starts: tuple[float, ...]
    parameters: Array | None = None
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    time_unit: str = ""

    @classmethod
    def of(
        cls,
        data: Any,
        *,
        times: Any = None,
        dt: float | None = None,
        parameters: ArrayLike | None = None,
        names: Iterable[str] = (),
        units: Iterable[str] = (),
        time_unit: str = "",
        gaps: str = "refuse",
    ) -> Trajectories:
        """Check what came, and name what is wrong and where.

        Parameters
        ----------
        data : Trajectories, array of shape (T, d) or (runs, T, d), or sequence of arrays of shape (T_i, d)
        times : array of shape (T,), or one a run, default=None
            Increasing, at even steps.
        dt : float or None, default=None
            Instead of times; 1 where neither is given.
        parameters : array-like of shape (runs, k) or None, default=None
        names, units : iterable of str, default=() and ()
            Of the d columns.
        time_unit : str, default=""
        gaps : {"refuse", "split", "interpolate"}, default="refuse"
            What is done about rows with NaN: an error that says where; a new run after each of them; or a straight line
            between the rows around them.

        Raises
        ------
        InvalidData
            Times that decrease or are uneven, NaN or infinity, runs of other columns, too few rows.
        """
        if isinstance(data, cls):
            return data
        require_one_of(("refuse", "split", "interpolate"), gaps=gaps)
        runs = _runs(data)
        step, starts = _steps(times, dt, runs)
        set_ = None if parameters is None else _parameters(parameters, len(runs))
        whole = [_whole(run, i, gaps) for i, run in enumerate(runs)]
        origin = np.repeat(np.arange(len(runs)), [len(pieces) for pieces in whole])
        pieces = [(first, run) for one in whole for first, run in one]
        labels = tuple(names), tuple(units)
        for what, given in zip(("names", "units"), labels, strict=True):
            if given and len(given) != runs[0].shape[1]:
                raise InvalidData(f"expected {what}= for {runs[0].shape[1]} columns, got {len(given)}")
        return cls(
            tuple(run for _, run in pieces), step,
            tuple(float(starts[i] + first * step) for i, (first, _) in zip(origin, pieces, strict=True)),
            None if set_ is None else set_[origin], *labels, time_unit,
        )  # fmt: skip

    # ------------------------------------------------------------------ what it holds
    def __len__(self) -> int:
        return len(self.states)

    @property
    def dimension(self) -> int:
        """d."""
        return self.states[0].shape[1]

    @property
    def schema(self) -> Schema:
        """What a row is."""
        return Schema(self.dimension, self.dt, self.names, self.units, self.time_unit)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Rows of each run."""
        return tuple(map(len, self.states))

    def stacked(self) -> Array:
        """All rows, shape (sum of T_i, d): for means and spreads, not for dynamics."""
        return np.concatenate(self.states)

    def times(self, run: int = 0) -> Array:
        """Times of the rows of a run."""
        return np.asarray(self.starts[run] + self.dt * np.arange(len(self.states[run])), dtype=float)

    # ------------------------------------------------------------------ parts
    def take(self, runs: ArrayLike) -> Trajectories:
        """Some of the runs."""
        at = np.atleast_1d(np.asarray(runs, dtype=int)).tolist()
        if not at:
            raise InvalidData("expected at least one run to be left")
        chosen = None if self.parameters is None else self.parameters[at]
        return Trajectories(
            tuple(self.states[i] for i in at), self.dt, tuple(self.starts[i] for i in at), chosen,
            self.names, self.units, self.time_unit,
        )  # fmt: skip

    def split_runs(self, share: float = 0.8, random_state: int = 0) -> tuple[Trajectories, Trajectories]:
        """Whole runs at random: a share of them, and the others.

        Raises
        ------
        InvalidData
            One of the two would be empty.
        """
        order = np.random.default_rng(random_state).permutation(len(self))
        cut = round(share * len(self))
        if not 0 < cut < len(self):
            raise InvalidData(f"expected a share of {len(self)} runs that leaves some on both sides, got {share!r}")
        return self.take(order[:cut]), self.take(order[cut:])

    def split_time(self, share: float = 0.8, gap: int = 0) -> tuple[Trajectories, Trajectories]:
        """The start of each run, and its end, with `gap` rows left out between.

        Raises
        ------
        InvalidData
            A run is too short for both.
        """
        require_whole(0, gap=gap)
        cuts = [round(share * n) for n in self.lengths]
        for i, (cut, n) in enumerate(zip(cuts, self.lengths, strict=True)):
            if cut < 2 or n - cut - gap < 2:
                raise InvalidData(f"expected two rows or more on both sides of a cut at {share:g}, got run {i} of {n} rows")
        early = tuple(run[:cut] for run, cut in zip(self.states, cuts, strict=True))
        late = tuple(run[cut + gap :] for run, cut in zip(self.states, cuts, strict=True))
        begin = tuple(start + self.dt * (cut + gap) for start, cut in zip(self.starts, cuts, strict=True))
        rest = (self.parameters, self.names, self.units, self.time_unit)
        return Trajectories(early, self.dt, self.starts, *rest), Trajectories(late, self.dt, begin, *rest)

    def window_starts(self, length: int, stride: int = 1) -> NDArray[np.intp]:
        """Where windows begin among the rows of `stacked`; none crosses from one run into another.

        Raises
        ------
        InvalidData
            No run is that long.
        """
        require_whole(1, length=length, stride=stride)
        ends = np.cumsum(self.lengths)
        found = [np.arange(end - n, end - length + 1, stride) for end, n in zip(ends, self.lengths, strict=True) if n >= length]
        if not found:
            raise InvalidData(f"expected a run of {length} rows or more, got at most {max(self.lengths)}: use a shorter window")
        return np.concatenate(found)

    def windows(self, length: int, stride: int = 1) -> Array:
        """All windows, shape (n, length, d), as a copy."""
        self.window_starts(length, stride)
        parts = [sliding_window_view(run, length, axis=0)[::stride] for run in self.states if len(run) >= length]
        return np.ascontiguousarray(np.concatenate(parts).swapaxes(1, 2))


# ---------------------------------------------------------------------- what may come in
def _runs(data: Any) -> list[Array]:
    if isinstance(data, np.ndarray) and data.ndim == 1:
        raise InvalidData("expected trajectories of shape (T, d), got one column of shape (T,): use reshape(-1, 1)")
    parts = list(data) if isinstance(data, list | tuple) or np.ndim(data) == 3 else [data]
    if not parts:
        raise InvalidData("expected one run or more, got none")
    runs: list[Array] = []
    for i, part in enumerate(parts):
        try:
            run = np.asarray(part, dtype=float)
        except (TypeError, ValueError):
            raise InvalidData(f"expected numbers of shape (T, d) in run {i}, got {type(part).__name__}") from None
        if run.ndim != 2 or len(run) < 2 or not run.shape[1]:
            raise InvalidData(f"expected run {i} of shape (T, d) with two rows or more, got shape {run.shape}")
        if runs and run.shape[1] != runs[0].shape[1]:
            first = runs[0].shape[1]
            raise InvalidData(f"expected runs of the same columns, got {run.shape[1]} in run {i} and {first} in run 0")
        runs.append(run)
    return runs


def _steps(times: Any, dt: float | None, runs: list[Array]) -> tuple[float, list[float]]:
    """The one step of all runs, and where each begins."""
    if times is None:
        step = 1.0 if dt is None else float(dt)
        if not 0 < step < np.inf:
            raise InvalidData(f"expected dt= to be a positive number, got {dt!r}")
        return step, [0.0] * len(runs)
    if dt is not None:
        raise InvalidData("expected times= or dt=, got both")
    each = list(times) if isinstance(times, list | tuple) and np.ndim(times[0]) == 1 else [times] * len(runs)
    if len(each) != len(runs):
        raise InvalidData(f"expected times= for each of {len(runs)} runs, got {len(each)}")
    clocks = [np.asarray(one, dtype=float) for one in each]
    first = float(np.median(np.diff(clocks[0]))) if len(clocks[0]) > 1 else 0.0
    for i, (clock, run) in enumerate(zip(clocks, runs, strict=True)):
        if clock.shape != (len(run),):
            raise InvalidData(f"expected {len(run)} times for run {i}, got shape {clock.shape}")
        gaps = np.diff(clock)
        if not (gaps > 0).all():
            row = int(np.flatnonzero(~(gaps > 0))[0]) + 1
            raise InvalidData(f"expected increasing times, got {clock[row]:g} after {clock[row - 1]:g} in row {row} of run {i}")
        off = np.abs(gaps - first) > _UNEVEN * first
        if off.any():
            row = int(np.flatnonzero(off)[0]) + 1
            raise InvalidData(
                f"expected even times, got a step of {gaps[row - 1]:g} to row {row} of run {i} where others are {first:g}: "
                "interpolate to even times first, or pass the pieces as runs of their own"
            )
    return first, [float(clock[0]) for clock in clocks]


def _parameters(given: ArrayLike, n: int) -> Array:
    found = np.asarray(given, dtype=float)
    if found.ndim != 2 or len(found) != n or not np.isfinite(found).all():
        raise InvalidData(f"expected finite parameters of shape ({n}, k), a row a run, got shape {found.shape}")
    return found


def _whole(run: Array, i: int, gaps: str) -> list[tuple[int, Array]]:
    """Pieces of a run without NaN, each with the row where it begins."""
    good: NDArray[np.bool_] = np.asarray(np.isfinite(run).all(axis=1))
    if good.all():
        return [(0, run)]
    bad = np.flatnonzero(~good)
    last = int(bad[0] + np.argmax(np.append(good[bad[0] :], True))) - 1
    if gaps == "refuse":
        raise InvalidData(
            f"expected finite states, got NaN or infinity in rows {bad[0]} to {last} of run {i} ({len(bad)} rows in all): "
            "gaps='split' makes runs of what lies between, gaps='interpolate' draws straight lines"
        )
    if good.sum() < 2:
        raise InvalidData(f"expected two rows or more without NaN in run {i}, got {good.sum()}")
    if gaps == "interpolate":
        if not (good[0] and good[-1]):
            raise InvalidData(f"expected run {i} to begin and end with finite rows, since nothing lies beyond: cut it")
        rows = np.arange(len(run))
        return [(0, np.column_stack([np.interp(rows, rows[good], column[good]) for column in run.T]))]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    pieces = [(int(a), run[a:b]) for a, b in edges.reshape(-1, 2) if b - a >= 2]
    if not pieces:
        raise InvalidData(f"expected two rows in a row without NaN in run {i}, got none")
    return pieces
