"""Trajectories from files of tables and arrays, with their units, and back."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need
from locum.core.export import write_atomically
from locum.emulate.trajectories import Trajectories

__all__ = ["read_trajectories", "write_trajectories"]

Array = NDArray[np.float64]

_UNIT = re.compile(r"^(.*?)\s*\[([^\[\]]*)\]\s*$")
_TABLES, _ARRAYS = (".csv", ".parquet"), (".nc", ".h5", ".hdf5", ".zarr")


def read_trajectories(path: Any, *, time: str = "time", run: str = "run", gaps: str = "refuse") -> Trajectories:
    """Trajectories from a file.

    A table (``.csv``, ``.parquet``) has a row a time, with a column of times (left out, they are 1 apart), one that tells runs
    apart where there are several, and a column for each state. A unit stands in brackets behind a name: ``speed [m/s]``.
    An array file (``.nc`` of NetCDF 3 or 4, ``.h5``, ``.zarr``) holds variables along a dimension of times, and along one of
    runs where there are several; further dimensions are flattened; units are those that variables have. Dimensions of HDF5
    that have no names are called phony_dim_0, phony_dim_1, and so on. Variables of a Zarr store come in the order of their
    names.

    Parameters
    ----------
    path : path
    time, run : str, default="time" and "run"
        Columns, or dimensions.
    gaps : {"refuse", "split", "interpolate"}, default="refuse"
        What is done about rows with NaN, as in `Trajectories.of`.

    Raises
    ------
    InvalidData
        Another kind of file, a cell that is no number (told with its line), no column of states, times that are uneven.
    MissingExtra
        Parquet without pyarrow, array files without xarray and what it reads HDF5 or Zarr by.
    """
    file = Path(path)
    if file.suffix not in (*_TABLES, *_ARRAYS):
        raise InvalidData(f"expected a file of trajectories ({', '.join((*_TABLES, *_ARRAYS))}), got {file.name}")
    if not file.exists():
        raise InvalidData(f"there is no file {file}")
    if file.suffix in _ARRAYS:
        return _from_arrays(file, time, run, gaps)
    columns = _csv(file) if file.suffix == ".csv" else _parquet(file)
    return _from_columns(file, columns, time, run, gaps)


def write_trajectories(runs: Trajectories, path: Any, *, time: str = "time", run: str = "run") -> None:
    """Write a table (``.csv``) that `read_trajectories` reads, units in the header; whole or not at all.

    Parameters
    ----------
    runs : Trajectories
    path : path
    time, run : str, default="time" and "run"
        Names of the columns.
    """
    names = runs.names or tuple(f"x{j}" for j in range(runs.dimension))
    units = runs.units or ("",) * runs.dimension
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([run, _with_unit(time, runs.time_unit), *map(_with_unit, names, units)])
    for i, states in enumerate(runs.states):
        writer.writerows([i, repr(float(t)), *map(repr, row.tolist())] for t, row in zip(runs.times(i), states, strict=True))
    write_atomically(path, text.getvalue().encode())


# ---------------------------------------------------------------------- tables
def _with_unit(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name


def _named(header: str) -> tuple[str, str]:
    found = _UNIT.match(header)
    return (found.group(1), found.group(2)) if found else (header.strip(), "")


def _csv(file: Path) -> dict[str, Any]:
    with file.open(newline="", encoding="utf-8-sig") as opened:
        rows = list(csv.reader(opened))
    if len(rows) < 2:
        raise InvalidData(f"expected a header and rows in {file}, got {len(rows)} lines")
    header = rows[0]
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise InvalidData(f"expected {len(header)} cells in line {line} of {file}, got {len(row)}")
    return {name: [row[j] for row in rows[1:]] for j, name in enumerate(header)}


def _parquet(file: Path) -> dict[str, Any]:
    parquet = need("pyarrow.parquet", "a Parquet file", "data")
    table = parquet.read_table(file)
    return {name: table[name].to_pylist() for name in table.column_names}


def _from_columns(file: Path, columns: dict[str, Any], time: str, run: str, gaps: str) -> Trajectories:
    named = [_named(header) for header in columns]
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidData(f"expected columns of different names in {file}, got {twice[0]!r} twice")
    table = dict(zip(names, columns.values(), strict=True))
    owner = [str(one) for one in table.pop(run)] if run in table else None
    clock = _numbers(file, time, table.pop(time)) if time in table else None
    if not table:
        raise InvalidData(f"expected columns of states in {file} beside {time!r} and {run!r}, got {', '.join(names)}")
    states = np.column_stack([_numbers(file, name, values) for name, values in table.items()])
    parts = [np.arange(len(states))] if owner is None else _parts(file, owner)
    units = dict(named)
    return Trajectories.of(
        [states[rows] for rows in parts], times=None if clock is None else [clock[rows] for rows in parts], gaps=gaps,
        names=tuple(table), units=tuple(units[name] for name in table), time_unit=units.get(time, ""),
    )  # fmt: skip


def _parts(file: Path, owner: list[str]) -> list[NDArray[np.intp]]:
    """Rows of each run, which lie together."""
    change = [i for i in range(1, len(owner)) if owner[i] != owner[i - 1]]
    parts = np.split(np.arange(len(owner)), change)
    begun = [owner[rows[0]] for rows in parts]
    if len(set(begun)) < len(begun):
        again = next(one for i, one in enumerate(begun) if one in begun[:i])
        raise InvalidData(f"expected rows of a run one after another in {file}, got run {again!r} twice: sort by run and time")
    return parts


def _numbers(file: Path, name: str, values: list[Any]) -> Array:
    out = np.empty(len(values))
    for i, one in enumerate(values):
        try:
            out[i] = np.nan if one is None or one == "" else float(one)
        except (TypeError, ValueError):
            raise InvalidData(f"expected numbers in the column {name!r} of {file}, got {one!r} in line {i + 2}") from None
    return out


# ---------------------------------------------------------------------- arrays
def _engine(file: Path) -> dict[str, Any]:
    """What xarray reads a file by; NetCDF 3 begins with CDF, and NetCDF 4 is HDF5."""
    if file.suffix == ".zarr":
        need("zarr", "a Zarr store", "emulate")
        return {"engine": "zarr", "consolidated": False}
    with file.open("rb") as held:
        old = held.read(3) == b"CDF"
    if old:
        return {"engine": "scipy"}
    need("h5netcdf", "a file of NetCDF 4 or HDF5", "emulate")
    need("h5py", "a file of NetCDF 4 or HDF5", "emulate")
    return {"engine": "h5netcdf", "phony_dims": "sort"}


def _from_arrays(file: Path, time: str, run: str, gaps: str) -> Trajectories:
    xarray = need("xarray", "files of arrays", "emulate")
    engine = _engine(file)
    try:
        with xarray.open_dataset(file, decode_times=False, **engine) as opened:
            held = opened.load()
    except (ValueError, TypeError, OSError) as error:  # cut short, or another kind of file under this name
        raise InvalidData(f"{file} cannot be read: {error}") from error
    chosen = [name for name, one in held.data_vars.items() if time in one.dims]
    if file.suffix == ".zarr":  # a store is a folder, whose members have no order
        chosen = sorted(chosen, key=str)
    if not chosen:
        found = ", ".join(map(str, held.dims))
        raise InvalidData(f"expected variables along a dimension {time!r} in {file}, got dimensions {found}")
    parts, names, units = [], [], []
    for name in chosen:
        one = held[name]
        several = run in one.dims
        one = one.transpose(*([run] if several else []), time, ...)
        table = np.asarray(one.values, dtype=float)
        table = table.reshape(*table.shape[: 1 + several], -1)
        parts.append(table if several else table[None])
        width = table.shape[-1]
        names += [str(name)] if width == 1 else [f"{name}[{j}]" for j in range(width)]
        units += [str(one.attrs.get("units", ""))] * width
    if len({len(one) for one in parts}) > 1:
        raise InvalidData(f"expected all variables of {file} along {run!r}, or none, got {', '.join(map(str, chosen))}")
    clock = held[time] if time in held.coords else None
    return Trajectories.of(
        list(np.concatenate(parts, axis=2)), times=None if clock is None else np.asarray(clock.values, dtype=float), gaps=gaps,
        names=tuple(names), units=tuple(units), time_unit="" if clock is None else str(clock.attrs.get("units", "")),
    )  # fmt: skip
