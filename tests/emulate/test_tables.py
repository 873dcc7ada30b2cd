"""Trajectories from tables and arrays: runs, times and units come back; what cannot be read is told with its line."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import Trajectories, read_trajectories, write_trajectories


@pytest.fixture
def runs():
    rng = np.random.default_rng(0)
    return Trajectories.of(
        [rng.normal(size=(5, 2)), rng.normal(size=(4, 2))], times=[0.5 * np.arange(5), 2 + 0.5 * np.arange(4)],
        names=("angle", "speed"), units=("rad", "rad/s"), time_unit="s",
    )  # fmt: skip


def same(one, other):
    assert (one.names, one.units, one.time_unit, one.starts) == (other.names, other.units, other.time_unit, other.starts)
    assert one.dt == pytest.approx(other.dt)
    for a, b in zip(one.states, other.states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_written_comes_back_with_its_units(runs, tmp_path):
    write_trajectories(runs, tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text().startswith("run,time [s],angle [rad],speed [rad/s]\n0,0.0,")
    same(read_trajectories(tmp_path / "runs.csv"), runs)


def test_parquet_is_read_as_csv_is(runs, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write_trajectories(runs, tmp_path / "runs.csv")
    rows = [line.split(",") for line in (tmp_path / "runs.csv").read_text().splitlines()]
    table = {name: [float(row[j]) for row in rows[1:]] for j, name in enumerate(rows[0])}
    parquet.write_table(pyarrow.table(table), tmp_path / "runs.parquet")
    same(read_trajectories(tmp_path / "runs.parquet"), runs)


@pytest.mark.parametrize("form", ["nc, 3", "nc, 4", "h5", "zarr"])
def test_arrays_are_flattened_and_keep_their_units(tmp_path, form):
    xarray = pytest.importorskip("xarray")
    field, height = np.arange(60.0).reshape(2, 5, 3, 2), np.arange(10.0).reshape(5, 2).T
    held = xarray.Dataset(
        {
            "field": (("run", "time", "y", "x"), field, {"units": "m/s"}),
            "height": (("run", "time"), height, {"units": "m"}),
            "mask": (("y", "x"), np.ones((3, 2))),
        },
        coords={"time": ("time", 0.25 * np.arange(5), {"units": "h"})},
    )
    file = tmp_path / f"fields.{form.partition(',')[0]}"
    if form == "zarr":
        held.to_zarr(file, consolidated=False)
    else:
        held.to_netcdf(file, engine="scipy" if form == "nc, 3" else "h5netcdf")
    found = read_trajectories(file)
    assert (len(found), found.dimension, found.dt, found.time_unit) == (2, 7, 0.25, "h")
    assert found.names[:2] == ("field[0]", "field[1]")
    assert found.names[-1] == "height"
    assert found.units[-2:] == ("m/s", "m")
    np.testing.assert_array_equal(found.states[1], np.column_stack([field[1].reshape(5, 6), height[1]]))


def test_plain_hdf5_is_read_by_the_number_of_a_dimension(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["x"] = np.arange(12.0).reshape(6, 2)
    with pytest.raises(InvalidData, match=r"dimension 'time' .* phony_dim_0, phony_dim_1"):
        read_trajectories(tmp_path / "plain.h5")
    assert read_trajectories(tmp_path / "plain.h5", time="phony_dim_0").states[0].shape == (6, 2)


@pytest.mark.parametrize("name", ["cut.nc", "cut.h5", "cut.zarr"])
def test_array_files_that_are_none_are_refused(tmp_path, name):
    file = tmp_path / name
    file.mkdir() if name.endswith("zarr") else file.write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(InvalidData, match="cannot be read"):
        read_trajectories(file)


def test_columns_without_times_are_one_apart_and_gaps_are_told(tmp_path):
    (tmp_path / "plain.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    found = read_trajectories(tmp_path / "plain.csv")
    assert (found.dt, found.units, len(found)) == (1.0, ("", ""), 1)
    (tmp_path / "holes.csv").write_text('a\n1\n2\n""\n4\n5\n')
    with pytest.raises(InvalidData, match="rows 2 to 2 of run 0"):
        read_trajectories(tmp_path / "holes.csv")
    assert read_trajectories(tmp_path / "holes.csv", gaps="split").lengths == (2, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,x\n", "'b' .* got 'x' in line 3"),
        ("a,b\n1,2\n3\n", "2 cells in line 3"),
        ("a\n", "a header and rows"),
        ("time,run\n0,1\n1,1\n", "columns of states"),
        ("a,a [m]\n1,2\n3,4\n", "'a' twice"),
        ("run,a\n1,2\n2,3\n1,4\n", "run '1' twice"),
        ("time,a\n0,1\n1,2\n3,4\n", "even times"),
        ("time,a\n0,1\n0,2\n", "increasing times"),
    ],
)
def test_tables_are_refused_with_what_is_wrong(text, message, tmp_path):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(InvalidData, match=message):
        read_trajectories(tmp_path / "bad.csv")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InvalidData, match=r"got runs\.txt"):
        read_trajectories(tmp_path / "runs.txt")
    with pytest.raises(InvalidData, match="there is no file"):
        read_trajectories(tmp_path / "none.csv")
