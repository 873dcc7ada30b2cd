"""The MiniFab: rules of the fab in every run, Little's law, throughput against theory, and order that changes nothing."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

import locum
from locum.core.errors import InvalidData
from locum.problems.devs import Coupled, Resultant, simulate
from locum.problems.minifab import CHANNELS, MiniFab, Setups, StepRepair, TimedRepair

WEEK = 7 * 24 * 60  # minutes
FABS = {
    "plain": MiniFab(),
    "steps": MiniFab(repair=StepRepair(20, 120.0), rule="least setup"),
    "time": MiniFab(repair=TimedRepair(), rule="last buffer first", arrivals="poisson"),
    "tests": MiniFab({"Pa": 44, "TW": 20}, arrivals="poisson"),
    "crowded": MiniFab({"Pa": 70, "Pb": 40, "TW": 6}, repair=TimedRepair(broken=("implant", "litho"))),
}


@cache
def run(name, seed=0):
    return FABS[name].run(4, seed)


@pytest.fixture(params=FABS)
def name(request):
    return request.param


def jobs(found):
    """(machine, step, lots, start, end) of each stretch of processing that was not cut."""
    return [bar for bar in found.bars if bar.phase == "process"]


# ---------------------------------------------------------------------- rules of the fab
def test_every_lot_takes_all_steps_in_order_on_the_machines_of_their_cells(name):
    found = run(name)
    where = {1: {"Ma", "Mb"}, 2: {"Mc", "Md"}, 3: {"Me"}, 4: {"Mc", "Md"}, 5: {"Ma", "Mb"}, 6: {"Me"}}
    seen = {}
    for bar in sorted(jobs(found), key=lambda one: one.start):
        assert bar.machine in where[bar.step]
        for lot in bar.lots:
            if not seen.get(lot) or seen[lot][-1] != bar.step:  # a breakdown may cut a step in two
                seen.setdefault(lot, []).append(bar.step)
    assert all(steps == list(range(1, len(steps) + 1)) for steps in seen.values())
    assert all(seen[lot] == [1, 2, 3, 4, 5, 6] for lot in found.finished)
    assert len(found.finished) > 150


def test_machines_do_one_thing_at_a_time_without_gaps(name):
    found = run(name)
    for machine in ("Ma", "Mb", "Mc", "Md", "Me"):
        bars = [bar for bar in found.bars if bar.machine == machine]
        assert bars[0].start == 0
        assert bars[-1].end == found.minutes
        assert all(a.end == b.start for a, b in pairwise(bars))


def test_batches_follow_the_rules(name):
    found = run(name)
    machines = {}
    for bar in jobs(found):
        assert len(bar.lots) == (3 if bar.machine in ("Ma", "Mb") else 1)
        products = [lot.split("-")[0] for lot in bar.lots]
        assert products.count("TW") <= 1
        if bar.step == 5:
            assert len(set(products) - {"TW"}) == 1
        for lot in bar.lots:
            machines.setdefault(lot, {}).setdefault(bar.machine, set()).add(bar.step)
    tests = [one for lot, one in machines.items() if lot.startswith("TW") and lot in found.finished]
    assert tests
    assert all(len(steps) == 1 for one in tests for machine, steps in one.items() if machine != "Me")


def test_processing_takes_the_minutes_of_its_step():
    for fab, scale in ((MiniFab(), 1.0), (MiniFab(lot_size=36), 1.5)):
        minutes = {1: 225, 2: 30 * scale, 3: 55 * scale, 4: 50 * scale, 5: 255, 6: 10 * scale}
        for bar in jobs(fab.run(1)):
            if bar.end < WEEK:
                assert bar.end - bar.start == pytest.approx(minutes[bar.step])
                assert fab.minutes(bar.step) == minutes[bar.step]


def test_a_breakdown_cuts_in_and_the_work_goes_on_after_it():
    found = run("crowded")
    total = {}
    for bar in jobs(found):
        for lot in bar.lots:
            key = lot, bar.step
            total[key] = total.get(key, 0.0) + bar.end - bar.start
    cut = [a for a, b in pairwise(found.bars) if a.phase == "process" and b.phase == "breakdown"]
    assert len(cut) > 5
    nominal = FABS["crowded"].process
    assert all(total[lot, step] == pytest.approx(nominal[step]) for lot in found.finished for step in range(1, 7))


def test_repair_follows_so_many_steps():
    found = run("steps")
    for machine in ("Ma", "Mc", "Me"):
        done, since = 0, []
        for bar in found.bars:
            if bar.machine == machine and bar.phase == "unload":
                done += 1
            if bar.machine == machine and bar.phase == "repair":
                since.append(done)
                done = 0
        assert since
        assert set(since) == {20}


def test_setups_take_what_changes():
    bars = [bar for bar in run("plain").bars if bar.machine == "Me" and bar.phase in ("setup", "load")]
    before, seen = None, set()
    for a, b in zip([None, *bars[:-1]], bars, strict=True):
        if b.phase != "load":
            continue
        now = b.lots[0].split("-")[0], b.step
        minutes = a.end - a.start if a is not None and a.phase == "setup" else 0.0
        if before is not None:
            changed = before[0] != now[0], before[1] != now[1]
            assert minutes == {(0, 0): 0, (1, 0): 10, (0, 1): 5, (1, 1): 12}[changed]
            seen.add(changed)
        before = now
    assert len(seen) == 4


# ---------------------------------------------------------------------- simultaneous events, seeds
def test_what_happens_at_the_same_time_may_happen_in_any_order(name):
    traces = [FABS[name].run(0.7, 5, order=order).trace for order in (None, 1, 2)]
    assert len({trace.digest() for trace in traces}) == 1


def test_the_whole_fab_is_a_component_like_any_other(name):
    model = FABS[name].model()
    inside, wrapped = (Coupled({"fab": one}, [("fab.done", "out")], outputs=("out",)) for one in (model, Resultant(model)))
    lots = simulate(inside, 10_000_000, 2).outputs
    assert len(lots) > 30
    assert simulate(wrapped, 10_000_000, 2).outputs == lots


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    assert FABS["time"].run(0.5, 3).trace.digest() == FABS["time"].run(0.5, 3).trace.digest()
    assert FABS["time"].run(0.5, 3).trace.digest() != FABS["time"].run(0.5, 4).trace.digest()


def test_settings_of_one_component_leave_what_others_draw():
    long, short = (MiniFab(repair=TimedRepair(mean=mean, maintenance={})).run(1, 3) for mean in (420.0, 42.0))
    assert long.started == short.started
    first = [next(bar for bar in found.bars if bar.phase == "breakdown" and bar.machine == "Mc") for found in (long, short)]
    assert first[0].start == first[1].start, "the first breakdown comes at the same time"
    assert first[0].end - first[0].start > first[1].end - first[1].start


# ---------------------------------------------------------------------- theory
def test_littles_law():
    gaps = []
    for seed in range(6):
        stats = MiniFab({"Pa": 40, "Pb": 24, "TW": 3}, repair=TimedRepair(), arrivals="poisson").run(8, seed).stats(1)
        gaps.append(stats.work_in_progress - stats.throughput * stats.turnaround / WEEK)
    gaps = np.array(gaps)
    assert abs(gaps.mean()) < max(3.5 * gaps.std(ddof=1) / np.sqrt(len(gaps)), 0.05)
    assert np.abs(gaps).max() < 1.0


def test_the_bottleneck_finishes_what_its_capacity_says():
    fast = {1: 225, 2: 5, 3: 1, 4: 5, 5: 255, 6: 1}  # so that the furnaces are the bottleneck
    fab = MiniFab({"Pa": 200}, process=fast, setups=None, transport=(1, 1), rule="last buffer first")
    assert fab.capacity()["diffusion"] == pytest.approx(2 * 3 * WEEK / (225 + 255 + 120))
    assert fab.run(8).stats(2).throughput == pytest.approx(fab.capacity()["diffusion"], rel=0.01)
    repaired = MiniFab({"Pa": 200}, process=fast, setups=None, repair=StepRepair(5, 60.0), rule="last buffer first")
    assert repaired.run(8).stats(2).throughput == pytest.approx(repaired.capacity()["diffusion"], rel=0.02)


def test_throughput_is_that_of_the_starts_below_capacity_and_never_above_it():
    below = MiniFab({"Pa": 60}).run(8).stats(2)
    assert below.throughput == pytest.approx(60, abs=0.5)
    crowded = run("crowded").stats(1)
    assert crowded.throughput < min(FABS["crowded"].capacity().values()) < crowded.starts


def test_machines_are_busy_and_down_for_the_share_that_follows_from_their_times():
    busy = MiniFab({"Pa": 60}, setups=None).run(8).stats(2).busy
    assert busy["Me"] == pytest.approx(60 * (55 + 10 + 40) / WEEK, abs=0.01)
    assert busy["Mc"] + busy["Md"] == pytest.approx(60 * (30 + 50 + 60) / WEEK, abs=0.01)
    assert busy["Ma"] + busy["Mb"] == pytest.approx(20 * (225 + 255 + 120) / WEEK, abs=0.02)
    down = MiniFab({"Pa": 40}, repair=TimedRepair(broken=())).run(8).stats(2).down
    assert down["Ma"] == pytest.approx(75 / 1440, abs=0.005)
    assert down["Md"] == pytest.approx(120 / 720, abs=0.005)


# ---------------------------------------------------------------------- series
def test_series_add_up(name):
    found = run(name)
    X = dict(zip([one.name for one in CHANNELS], found.series(60).T, strict=True))
    assert all(len(column) == 4 * 168 for column in X.values())
    assert X["finished"].sum() == len(found.finished)
    assert X["started"].sum() == len(found.started)
    np.testing.assert_allclose(np.cumsum(X["started"] - X["finished"]), X["work_in_progress"])
    waiting = sum(X[f"queue_{step}"] for step in range(1, 7))
    assert (waiting <= X["work_in_progress"]).all()
    for machine in ("Ma", "Md", "Me"):
        busy, down = X[f"busy_{machine}"], X[f"down_{machine}"]
        assert busy.min() >= -1e-9
        assert (busy + down).max() <= 1 + 1e-9
        spent = sum(bar.end - bar.start for bar in found.bars if bar.machine == machine and bar.phase not in ("idle",))
        assert (busy + down).sum() * 60 == pytest.approx(spent)


def test_turnaround_is_the_mean_of_the_lots_that_left():
    found = run("plain")
    X = found.series(60)
    lot, time = list(found.finished.items())[40]
    row = math.ceil(time / 60) - 1
    inside = [t - found.started[one] for one, t in found.finished.items() if row * 60 < t <= row * 60 + 60]
    assert time - found.started[lot] in inside
    assert X[row, 1] == pytest.approx(np.mean(inside))
    quiet = np.flatnonzero(X[:, 0] == 0)
    assert (X[quiet[quiet > row], 1] == X[quiet[quiet > row] - 1, 1]).all()


def test_queues_are_those_of_a_recount():
    found = run("plain")
    arrived, begun = {}, {}
    for bar in sorted(found.bars, key=lambda one: one.start):
        for lot in bar.lots:
            begun.setdefault((lot, bar.step), bar.start)
    for event in found.trace.events:
        if event.component == "transport":
            for port, lot in event.sent:
                if port != "done":
                    arrived[lot.name, lot.step] = event.time / 1000
    X = found.series(60)
    for row in (200, 300, 400):
        t = 60 * (row + 1)
        for step in (2, 3, 4, 5, 6):
            waits = sum(a <= t < begun.get((lot, s), np.inf) for (lot, s), a in arrived.items() if s == step)
            assert X[row, 3 + step] == waits


def test_the_log_holds_starts_finishes_and_phases_in_order():
    found = run("plain")
    log = found.events()
    assert [row[0] for row in log] == sorted(row[0] for row in log)
    assert sum(row[2] == "finished" for row in log) == len(found.finished)
    assert {row[2] for row in log} == {"started", "finished", "idle", "setup", "load", "process", "unload"}


# ---------------------------------------------------------------------- as a target
def test_it_is_a_target_whose_runs_are_in_the_ledger():
    fab = MiniFab(repair=StepRepair())
    target = locum.target(fab.response(["starts", "every", "random_state"], weeks=1.5, warm_up=0.5), name="fab")
    rows = np.array([[60.0, 10, 0], [60.0, 10, 0], [80.0, 40, 1]])
    found = target.query(rows, "fit")
    assert found.shape == (3, 2)
    assert target.account().paid == 2
    starts = {name: rate * 80 / 84 for name, rate in fab.starts.items()}
    stats = MiniFab(starts, repair=StepRepair(40, 60.0)).run(1.5, 1).stats(0.5)
    np.testing.assert_allclose(found[2], [stats.throughput, stats.turnaround])
    with pytest.raises(InvalidData, match="rows of 1 columns"):
        fab.response(["starts"])(rows)
    with pytest.raises(InvalidData, match="expected column= to be one of starts"):
        fab.response(["speed"])


# ---------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"starts": {}}, "a product or more"),
        ({"starts": {"Pa": -1}}, "starts of Pa= above 0"),
        ({"starts": {"P.a": 1}}, "without '.' and '/'"),
        ({"starts": {"Pa": 5, "TW": 3}}, "at most one TW to 2 other lots.* got 3 to 5 a week"),
        ({"lot_size": 0}, "lot_size= to be a whole number of 1"),
        ({"rule": "random"}, "rule= to be one of fifo"),
        ({"arrivals": "odd"}, "arrivals= to be one of even"),
        ({"process": {1: 10}}, r"the steps 1 to 6, got steps \[1\]"),
        ({"handling": {"litho": (1, 1)}}, "handling= of diffusion, implant, litho"),
        ({"transport": (5, 2)}, "least and most minutes"),
    ],
)
def test_settings_that_make_no_fab_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        MiniFab(**settings)


def test_repairs_and_lengths_that_make_no_sense_are_refused():
    with pytest.raises(InvalidData, match="mean= above 0"):
        StepRepair(mean=-1.0)
    with pytest.raises(InvalidData, match="every= to be a whole number"):
        StepRepair(every=0)
    with pytest.raises(InvalidData, match="cell= to be one of diffusion"):
        TimedRepair(broken=("oven",))
    with pytest.raises(InvalidData, match="shorter than its interval"):
        TimedRepair(maintenance={"litho": (30, 40)})
    with pytest.raises(InvalidData, match="expected weeks="):
        MiniFab().run(0)
    with pytest.raises(InvalidData, match="below the 4 weeks"):
        run("plain").stats(5)
    with pytest.raises(InvalidData, match="dt= above 0"):
        run("plain").series(0)
    assert Setups().both == 12.0
