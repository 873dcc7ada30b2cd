"""Time series of the MiniFab over settings and seeds: a data set with its schema, split by run, made anew at will."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from locum.core.errors import FormatError, InvalidData, need, require_one_of, require_whole
from locum.problems.minifab import CHANNELS, WEEK, MiniFab, StepRepair, TimedRepair

__all__ = ["FabSeries", "fab_grid", "fab_series"]

Array = NDArray[np.floating[Any]]

_FORMAT = 1
_PARAMETERS = tuple(MiniFab().parameters())


@dataclass(frozen=True, eq=False)
class FabSeries:
    """Series of runs, with what was set in each.

    ``Trajectories.of(list(data.series), dt=data.dt, parameters=data.parameters, names=data.names, units=data.units,
    time_unit="min")`` is what emulators learn from.

    Parameters
    ----------
    series : tuple of ndarray of shape (T, 20)
        One a run; the columns are `CHANNELS`.
    dt : float
        Minutes between rows.
    parameters : ndarray of shape (runs, 5)
        Those of `MiniFab.parameters`, by `parameter_names`.
    regimes : tuple of str
        Repair of each run: "none", "by steps" or "by time".
    fabs : tuple of int
        Which of the settings each run has.
    seeds : tuple of int
        `random_state` of each run.

    Attributes
    ----------
    names, units : tuple of str
        Of the columns.
    parameter_names : tuple of str
    """

    series: tuple[Array, ...]
    dt: float
    parameters: Array
    regimes: tuple[str, ...]
    fabs: tuple[int, ...]
    seeds: tuple[int, ...]

    names = tuple(one.name for one in CHANNELS)
    units = tuple(one.unit for one in CHANNELS)
    parameter_names = _PARAMETERS

    def __len__(self) -> int:
        return len(self.series)

    def schema(self) -> dict[str, Any]:
        """Columns with unit and meaning, step and parameters, safe for JSON."""
        columns = [one._asdict() for one in CHANNELS]
        return {"format": _FORMAT, "dt": self.dt, "time_unit": "min", "columns": columns, "parameters": list(_PARAMETERS)}

    def digest(self) -> str:
        """SHA-256 of the schema, settings, seeds and numbers."""
        found = hashlib.sha256(json.dumps(self.schema(), sort_keys=True).encode())
        found.update(repr((self.regimes, self.fabs, self.seeds)).encode())
        for one in (self.parameters, *self.series):
            found.update(np.ascontiguousarray(one, dtype="<f8").tobytes())
        return found.hexdigest()

    # ------------------------------------------------------------------ parts
    def take(self, runs: Iterable[int]) -> FabSeries:
        """Some of the runs."""
        at = [int(i) for i in runs]
        if not at:
            raise InvalidData("expected at least one run to be left")
        return FabSeries(
            tuple(self.series[i] for i in at), self.dt, self.parameters[at], tuple(self.regimes[i] for i in at),
            tuple(self.fabs[i] for i in at), tuple(self.seeds[i] for i in at),
        )  # fmt: skip

    def split(self, shares: Sequence[float] = (0.6, 0.2, 0.2), random_state: int = 0) -> tuple[FabSeries, ...]:
        """Whole runs at random, in as many parts as there are shares; runs of one seed stay together.

        A seed has the same breakdowns in all settings, so that runs of it are alike.

        Parameters
        ----------
        shares : sequence of float, default=(0.6, 0.2, 0.2)
            Add up to 1.
        random_state : int, default=0

        Raises
        ------
        InvalidData
            A part would be empty.
        """
        if abs(sum(shares) - 1.0) > 1e-9 or min(shares) <= 0:
            raise InvalidData(f"expected shares above 0 that add up to 1, got {tuple(shares)}")
        seeds = np.random.default_rng(random_state).permutation(sorted(set(self.seeds)))
        cuts = np.round(np.cumsum(shares)[:-1] * len(seeds)).astype(int)
        parts = [set(part.tolist()) for part in np.split(seeds, cuts)]
        if not all(parts):
            raise InvalidData(f"expected a seed or more in each of {len(parts)} parts, got {len(seeds)} seeds in all")
        return tuple(self.take(i for i, seed in enumerate(self.seeds) if seed in part) for part in parts)

    def hold_out(self, parameter: str, value: float) -> tuple[FabSeries, FabSeries]:
        """Runs where a parameter has another value, and those where it has this one.

        Parameters
        ----------
        parameter : str
        value : float
        """
        require_one_of(_PARAMETERS, parameter=parameter)
        column = self.parameters[:, _PARAMETERS.index(parameter)]
        held = np.isclose(column, value)
        if not held.any() or held.all():
            raise InvalidData(f"expected runs with and without {parameter} {value:g}, got only {np.unique(column).tolist()}")
        return self.take(np.flatnonzero(~held)), self.take(np.flatnonzero(held))

    # ------------------------------------------------------------------ files
    def to_parquet(self, path: str | Path) -> None:
        """Write a row a run and time, with schema, units and hash as metadata.

        Parameters
        ----------
        path : str or Path
        """
        arrow, parquet = need("pyarrow", "a .parquet file", "tables"), need("pyarrow.parquet", "a .parquet file", "tables")
        lengths = [len(one) for one in self.series]
        table: dict[str, Any] = {
            "run": np.repeat(np.arange(len(self), dtype=np.int32), lengths),
            "fab": np.repeat(np.array(self.fabs, dtype=np.int32), lengths),
            "seed": np.repeat(np.array(self.seeds, dtype=np.int64), lengths),
            "regime": np.repeat(np.array(self.regimes, dtype=str), lengths),
            **{name: np.repeat(column, lengths) for name, column in zip(_PARAMETERS, self.parameters.T, strict=True)},
            **dict(zip(self.names, np.concatenate(self.series).T, strict=True)),
        }
        metadata = {"locum": json.dumps({**self.schema(), "sha256": self.digest()})}
        parquet.write_table(arrow.table(table).replace_schema_metadata(metadata), str(path), compression="zstd")

    @classmethod
    def from_parquet(cls, path: str | Path) -> FabSeries:
        """Read what `to_parquet` wrote.

        Parameters
        ----------
        path : str or Path

        Raises
        ------
        FormatError
            Another file, a newer one, or one whose numbers are not those that its hash was taken of.
        """
        parquet = need("pyarrow.parquet", "a .parquet file", "tables")
        table = parquet.read_table(str(path))
        said = (table.schema.metadata or {}).get(b"locum")
        schema = json.loads(said) if said else {}
        if schema.get("format") != _FORMAT:
            raise FormatError(f"expected series of format {_FORMAT} in {path}, got {schema.get('format')!r}")
        column = {name: table[name].to_numpy() for name in table.column_names}
        starts = np.flatnonzero(np.diff(column["run"], prepend=-1))
        rows = np.column_stack([column[name] for name in cls.names])
        parameters = np.column_stack([column[name][starts] for name in _PARAMETERS])
        found = cls(
            tuple(np.split(rows, starts[1:])), float(schema["dt"]), parameters,
            tuple(str(one) for one in column["regime"][starts]), tuple(column["fab"][starts].tolist()),
            tuple(column["seed"][starts].tolist()),
        )  # fmt: skip
        if found.digest() != schema.get("sha256"):
            raise FormatError(f"expected the numbers in {path} to be those its hash was taken of; the file was changed")
        return found


def fab_grid(
    starts: Sequence[float],
    repairs: Sequence[StepRepair | TimedRepair | None] = (None,),
    lot_sizes: Sequence[int] = (24,),
) -> list[MiniFab]:
    """Fabs of all combinations, the products in the shares of the MiniFab.

    Parameters
    ----------
    starts : sequence of float
        Lots a week in all.
    repairs : sequence of StepRepair, TimedRepair or None, default=(None,)
    lot_sizes : sequence of int, default=(24,)
    """
    shares = {name: rate / sum(MiniFab().starts.values()) for name, rate in MiniFab().starts.items()}
    return [
        MiniFab({name: share * rate for name, share in shares.items()}, lot_size, repair)
        for rate, repair, lot_size in product(starts, repairs, lot_sizes)
    ]


def fab_series(
    fabs: Sequence[MiniFab],
    seeds: Iterable[int],
    *,
    weeks: float = 8.0,
    warm_up: float = 2.0,
    dt: float = 60.0,
    n_jobs: int = 1,
) -> FabSeries:
    """Simulate every fab with every seed.

    Parameters
    ----------
    fabs : sequence of MiniFab
    seeds : iterable of int
    weeks : float, default=8.0
        Length of a run.
    warm_up : float, default=2.0
        Weeks left out, since a run begins with an empty fab.
    dt : float, default=60.0
        Minutes between rows.
    n_jobs : int, default=1
        Processes.

    Notes
    -----
    Cost: half a second a run of eight weeks.
    """
    numbers = list(seeds)
    if not fabs or not numbers:
        raise InvalidData(f"expected a fab and a seed at least, got {len(fabs)} and {len(numbers)}")
    for seed in numbers:
        require_whole(0, seed=seed)
    if not 0 <= warm_up < weeks:
        raise InvalidData(f"expected warm_up= below weeks={weeks:g}, got {warm_up!r}")
    skip = round(warm_up * WEEK / dt)
    runs = list(product(range(len(fabs)), numbers))
    found = Parallel(n_jobs=n_jobs)(delayed(_one)(fabs[i], seed, weeks, dt, skip) for i, seed in runs)
    parameters = np.array([list(fabs[i].parameters().values()) for i, _ in runs])
    return FabSeries(
        tuple(found), float(dt), parameters, tuple(fabs[i].regime for i, _ in runs), tuple(i for i, _ in runs),
        tuple(seed for _, seed in runs),
    )  # fmt: skip


def _one(fab: MiniFab, seed: int, weeks: float, dt: float, skip: int) -> Array:
    return fab.run(weeks, seed).series(dt)[skip:]
