"""The MiniFab beside the same fab written as processes for simpy: lot for lot the same times."""

from __future__ import annotations

import numpy as np
import pytest

from locum.problems.minifab import MiniFab

simpy = pytest.importorskip("simpy")

CELLS = {1: "diffusion", 2: "implant", 3: "litho", 4: "implant", 5: "diffusion", 6: "litho"}
LATE = 9  # after all else that happens at the same time


class Processes:
    """The fab with even transport and no repair; dispatching comes last of what happens at a time."""

    def __init__(self, fab, releases, end):
        self.fab, self.env = fab, simpy.Environment()
        self.waiting = {cell: [] for cell in set(CELLS.values())}
        self.ready = {"diffusion": {"Ma": 0, "Mb": 0}, "implant": {"Mc": 0, "Md": 0}, "litho": {"Me": 0}}
        self.setup, self.visited, self.finished = None, {}, {}
        for lot, time in releases.items():
            self.env.process(self.arrive(lot, 1, time))
        self.env.run(until=end)

    def arrive(self, lot, step, after):
        yield self.env.timeout(after)
        if step > 6:
            self.finished[lot] = self.env.now
            return
        self.waiting[CELLS[step]].append((self.env.now, lot, step))
        self.wake(CELLS[step])

    def wake(self, cell):
        event = self.env.event()
        event.callbacks.append(lambda _: self.dispatch(cell))
        event._ok, event._value = True, None
        self.env.schedule(event, priority=LATE)

    def dispatch(self, cell):
        for machine in sorted(self.ready[cell], key=lambda one: (self.ready[cell][one], one)):
            lots = self.choose(cell, machine)
            if lots:
                del self.ready[cell][machine]
                self.waiting[cell] = [one for one in self.waiting[cell] if one not in lots]
                self.env.process(self.work(cell, machine, lots))

    def choose(self, cell, machine):
        queue = sorted(self.waiting[cell])
        if cell != "litho":
            queue = [one for one in queue if not (one[1].startswith("TW") and machine in self.visited.get(one[1], ()))]
        if cell != "diffusion":
            return queue[:1]
        for first in queue:
            lots = [first]
            for other in queue:
                products = [lot.split("-")[0] for _, lot, _ in lots]
                product = other[1].split("-")[0]
                if other in lots or other[2] != first[2] or len(lots) == 3 or (product == "TW" and "TW" in products):
                    continue
                if first[2] == 5 and product != "TW" and set(products) - {"TW", product}:
                    continue
                lots.append(other)
            if len(lots) == 3:
                return lots
        return []

    def work(self, cell, machine, lots):
        step, product = lots[0][2], lots[0][1].split("-")[0]
        if cell == "litho":
            if self.setup is not None:
                changed = self.setup[0] != product, self.setup[1] != step
                yield self.env.timeout({(0, 0): 0, (1, 0): 10, (0, 1): 5, (1, 1): 12}[changed] * 1000)
            self.setup = product, step
        load, unload = self.fab.handling[cell]
        yield self.env.timeout(1000 * (load + self.fab.process[step] + unload))
        for _, lot, _ in lots:
            self.visited.setdefault(lot, set()).add(machine)
            self.env.process(self.arrive(lot, step + 1, 10_000))
        self.ready[cell][machine] = self.env.now
        self.wake(cell)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_lot_leaves_when_it_does_in_simpy(seed):
    fab = MiniFab({"Pa": 47, "Pb": 29, "TW": 4}, transport=(10, 10), arrivals="poisson")
    run = fab.run(6, seed)
    peer = Processes(fab, {lot: round(time * 1000) for lot, time in run.started.items()}, run.trace.end)
    ours = {lot: round(time * 1000) for lot, time in run.finished.items()}
    assert len(ours) > 400
    assert ours.keys() == peer.finished.keys()
    gaps = np.array([ours[lot] - peer.finished[lot] for lot in ours])
    assert (gaps == 0).all()
