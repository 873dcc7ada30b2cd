"""The data set of the fab: a run a setting and seed, no seed on two sides of a split, and files that say what they are."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from locum.core.errors import FormatError, InvalidData
from locum.problems.fab_data import FabSeries, fab_grid, fab_series
from locum.problems.minifab import CHANNELS, MiniFab, StepRepair, TimedRepair

FABS = [MiniFab({"Pa": 40}), MiniFab({"Pa": 60}, repair=StepRepair(10, 90.0)), MiniFab({"Pa": 60}, 18, TimedRepair())]


@pytest.fixture(scope="module")
def data():
    return fab_series(FABS, range(5), weeks=1, warm_up=0.25, dt=60)


def test_a_run_a_setting_and_seed(data):
    assert len(data) == 15
    assert data.fabs == tuple(np.repeat([0, 1, 2], 5).tolist())
    assert data.seeds == (0, 1, 2, 3, 4) * 3
    np.testing.assert_array_equal(data.series[6], FABS[1].run(1, 1).series(60)[42:])
    assert data.series[0].shape == (126, len(CHANNELS)) == (126, len(data.names))
    assert data.regimes[::5] == ("none", "by steps", "by time")
    named = dict(zip(data.parameter_names, data.parameters[5], strict=True))
    assert named == {"starts": 60, "lot_size": 24, "repair_per_step": 9, "repair_spread": 90, "time_down": 0}
    assert data.parameters[10, 1] == 18
    assert data.parameters[10, 4] == pytest.approx(np.mean([75 / 1440, 120 / 720 + 420 / 3420, 30 / 720]))


def test_processes_change_nothing():
    one, two = (fab_series(FABS[:1], [0, 1], weeks=0.4, warm_up=0.1, n_jobs=n) for n in (1, 2))
    assert one.digest() == two.digest()


def test_no_seed_is_on_two_sides_of_a_split(data):
    parts = data.split((0.6, 0.2, 0.2), 1)
    seeds = [set(part.seeds) for part in parts]
    assert [len(one) for one in seeds] == [3, 1, 1]
    assert set.union(*seeds) == {0, 1, 2, 3, 4}
    assert all(set(part.fabs) == {0, 1, 2} for part in parts)
    assert [part.seeds for part in data.split(random_state=1)] == [part.seeds for part in parts]
    with pytest.raises(InvalidData, match="a seed or more in each of 3 parts, got 1 seeds"):
        data.take([0]).split()
    with pytest.raises(InvalidData, match="that add up to 1"):
        data.split((0.5, 0.2))


def test_a_setting_can_be_held_out(data):
    rest, held = data.hold_out("starts", 40)
    assert set(held.fabs) == {0}
    assert set(rest.fabs) == {1, 2}
    with pytest.raises(InvalidData, match="with and without starts 99"):
        data.hold_out("starts", 99)
    with pytest.raises(InvalidData, match="parameter= to be one of starts"):
        data.hold_out("speed", 1)
    with pytest.raises(InvalidData, match="at least one run"):
        data.take([])


def test_files_hold_everything_and_notice_changes(data, tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "fab.parquet"
    data.to_parquet(path)
    read = FabSeries.from_parquet(path)
    assert read.digest() == data.digest()
    assert (read.seeds, read.fabs, read.regimes, read.dt) == (data.seeds, data.fabs, data.regimes, 60.0)
    table = parquet.read_table(path)
    schema = json.loads(table.schema.metadata[b"locum"])
    assert [one["name"] for one in schema["columns"]] == list(data.names)
    assert {one["unit"] for one in schema["columns"]} == {"lots", "min", "1"}
    assert all(one["meaning"] for one in schema["columns"])
    changed = table["finished"].to_numpy().copy()
    changed[7] += 1
    at = table.column_names.index("finished")
    parquet.write_table(table.set_column(at, "finished", arrow.array(changed)), path)
    with pytest.raises(FormatError, match="the file was changed"):
        FabSeries.from_parquet(path)
    parquet.write_table(arrow.table({"x": [1]}), path)
    with pytest.raises(FormatError, match=r"format 1 in .*got None"):
        FabSeries.from_parquet(path)


def test_the_hash_is_of_numbers_and_settings_alike(data):
    assert data.digest() == fab_series(FABS, range(5), weeks=1, warm_up=0.25, dt=60).digest()
    others = [replace(data, dt=30.0), replace(data, seeds=data.seeds[::-1]), replace(data, parameters=data.parameters + 1)]
    assert len({one.digest() for one in (data, *others)}) == 4


def test_a_grid_keeps_the_shares_of_the_products():
    fabs = fab_grid((60.0, 84.0), (None, StepRepair()), (24, 18))
    assert len(fabs) == 8
    assert {round(sum(fab.starts.values())) for fab in fabs} == {60, 84}
    assert fabs[0].starts["Pa"] == pytest.approx(60 * 51 / 84)
    assert [fab.lot_size for fab in fabs[:3]] == [24, 18, 24]


def test_nothing_to_simulate_is_refused():
    with pytest.raises(InvalidData, match="a fab and a seed at least, got 0 and 1"):
        fab_series([], [0])
    with pytest.raises(InvalidData, match="seed= to be a whole number"):
        fab_series(FABS, [-1])
    with pytest.raises(InvalidData, match="warm_up= below weeks=1"):
        fab_series(FABS, [0], weeks=1, warm_up=2)
