"""Parallel DEVS: cases worked by hand, ties, closure under coupling, legitimacy, and what theory says of one queue."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems.devs import INFINITY, Atomic, Coupled, DEVSError, Resultant, Simulator, simulate
from locum.problems.single_queue import Server, SingleQueue, Source


class Pulse(Atomic):
    """Sends its label at ticks that are given."""

    outputs = ("out",)

    def __init__(self, label, *times):
        self.label, self.gaps = label, np.diff([0, *times]).tolist()

    def initial(self, rng):
        return 0

    def time_advance(self, state):
        return self.gaps[state] if state < len(self.gaps) else INFINITY

    def output(self, state):
        return {"out": [self.label]}

    def internal(self, state):
        return state + 1

    def external(self, state, elapsed, bag):
        return state


class Delay(Atomic):
    """Sends what it got last, a fixed time on; what comes while it is busy is lost. Its phase tells what happened to it."""

    inputs, outputs = ("in",), ("out",)

    def __init__(self, ticks, external_first=False):
        self.ticks, self.external_first = ticks, external_first

    def initial(self, rng):
        return [None, INFINITY]

    def time_advance(self, state):
        return state[1]

    def output(self, state):
        return {"out": [state[0]]}

    def internal(self, state):
        return [None, INFINITY]

    def external(self, state, elapsed, bag):
        if state[0] is not None:
            return [state[0], state[1] - elapsed]
        return ["+".join(sorted(bag["in"])), self.ticks]

    def confluent(self, state, bag):
        if not self.external_first:
            return super().confluent(state, bag)
        return self.internal(self.external(state, state[1], bag))

    def phase(self, state):
        return state[0]


class Careless(Delay):
    """Takes the order of messages to mean something."""

    def external(self, state, elapsed, bag):
        return ["+".join(bag["in"]), self.ticks]


def line(*parts, **named):
    """Components in a row, the last one's output outside."""
    names = [f"c{i}" for i in range(len(parts))]
    pairs = [(f"{a}.out", f"{b}.in") for a, b in pairwise(names)]
    return Coupled(dict(zip(names, parts, strict=True)), [*pairs, (f"{names[-1]}.out", "out")], outputs=("out",))


def tied(delay, *pulses):
    parts = {f"p{i}": one for i, one in enumerate(pulses)} | {"delay": delay}
    pairs = [(f"p{i}.out", "delay.in") for i in range(len(pulses))]
    return Coupled(parts, [*pairs, ("delay.out", "out")], outputs=("out",))


# ---------------------------------------------------------------------- cases by hand
def test_a_message_goes_through_two_delays_at_the_ticks_worked_out_by_hand():
    trace = simulate(line(Pulse("a", 3, 20), Delay(5), Delay(2)), 100)
    assert trace.outputs == [(10, "out", "a"), (27, "out", "a")]
    assert [(e.time, e.component, e.kind) for e in trace.events[:4]] == [
        (3, "c0", "internal"), (3, "c1", "external"), (8, "c1", "internal"), (8, "c2", "external"),
    ]  # fmt: skip
    assert trace.end == 100


def test_messages_of_the_same_time_arrive_in_one_bag():
    trace = simulate(tied(Delay(4), Pulse("b", 2), Pulse("a", 2)), 50)
    assert trace.outputs == [(6, "out", "a+b")], "one external transition, not two"
    assert sum(event.component == "delay" for event in trace.events) == 2


def test_a_confluent_transition_decides_what_a_tie_means():
    pulses = Pulse("a", 1), Pulse("b", 6)  # b comes just as the delay of 5 after a ends
    first = simulate(tied(Delay(5), *pulses), 50)
    assert first.outputs == [(6, "out", "a"), (11, "out", "b")]
    assert [event.kind for event in first.events if event.component == "delay"] == ["external", "confluent", "internal"]
    assert simulate(tied(Delay(5, external_first=True), *pulses), 50).outputs == [(6, "out", "a")]


def test_the_end_is_included_and_a_run_can_go_on():
    model = line(Pulse("a", 3), Delay(5))
    simulator = Simulator(model)
    assert simulator.run(7).outputs == []
    early = simulator.run(8)
    assert early.outputs == [(8, "out", "a")]
    assert simulator.run(30).digest() == simulate(model, 30).digest()
    assert simulate(model, 8).outputs == [(8, "out", "a")]


# ---------------------------------------------------------------------- order of what is simultaneous
def queues(names=("q0", "q1", "q2")):
    """Three sources into one server and on into another, with ties all the time."""
    parts = {name: Source(30.0) for name in names} | {"server": Server(7.0), "second": Server(5.0, "constant")}
    pairs = [(f"{name}.out", "server.in") for name in names]
    return Coupled(parts, [*pairs, ("server.out", "second.in"), ("second.out", "out")], outputs=("out",))


def test_what_happens_at_the_same_time_may_happen_in_any_order():
    traces = [simulate(queues(), 20_000, 1, order=order) for order in (None, 0, 1, 2)]
    assert len({trace.digest() for trace in traces}) == 1
    times = [event.time for event in traces[0].events]
    assert len(set(times)) < 0.8 * len(times), "there must be ties, or this shows nothing"
    declared_otherwise = simulate(queues(("q2", "q0", "q1")), 20_000, 1)
    assert declared_otherwise.digest() == traces[0].digest()


def test_a_model_to_which_the_order_in_a_bag_matters_is_found_out():
    model = tied(Careless(4), *(Pulse(label, 2) for label in "abcd"))
    assert len({simulate(model, 50, order=order).digest() for order in range(5)}) > 1


def test_the_same_seed_gives_the_same_trace_and_components_draw_from_streams_of_their_own():
    one, other = simulate(queues(), 5000, 1), simulate(queues(), 5000, 2)
    assert one.digest() == simulate(queues(), 5000, 1).digest() != other.digest()
    fewer = simulate(queues(("q0", "q1")), 5000, 1)
    for name in ("q0", "q1"):
        assert [e.time for e in fewer.events if e.component == name] == [e.time for e in one.events if e.component == name]


# ---------------------------------------------------------------------- closure under coupling
def test_a_coupled_model_behaves_as_the_atomic_one_that_results_from_it():
    def inner():
        parts = {"one": Server(7.0), "two": Coupled({"s": Server(5.0)}, [("i", "s.in"), ("s.out", "o")], ("i",), ("o",))}
        return Coupled(parts, [("i", "one.in"), ("one.out", "two.i"), ("two.o", "o")], ("i",), ("o",))

    def outer(middle):
        parts = {"a": Source(20.0), "b": Source(25.0), "middle": middle, "last": Server(4.0, "constant")}
        pairs = [("a.out", "middle.i"), ("b.out", "middle.i"), ("middle.o", "last.in"), ("last.out", "out")]
        return Coupled(parts, [*pairs, ("middle.o", "tap")], outputs=("out", "tap"))

    flat, wrapped = simulate(outer(inner()), 30_000, 3), simulate(outer(Resultant(inner())), 30_000, 3)
    assert len(flat.outputs) > 2000
    assert wrapped.outputs == flat.outputs
    same = [[e for e in trace.events if e.component in ("a", "b", "last")] for trace in (flat, wrapped)]
    assert same[0] == same[1]
    assert any(event.kind == "confluent" for event in wrapped.events if event.component == "middle")


# ---------------------------------------------------------------------- what is refused
class Backwards(Pulse):
    def time_advance(self, state):
        return 5 if state == 0 else self.gaps[0]


@pytest.mark.parametrize("gap", [-3, 2.5, float("nan"), None, True])
def test_a_time_advance_that_is_no_number_of_ticks_is_refused(gap):
    model = Backwards("a", 1)
    model.gaps = [gap]
    with pytest.raises(DEVSError, match=r"time advance of c0 in whole ticks of 0 or more.* at tick 5") as caught:
        simulate(line(model, Delay(1)), 10)
    assert caught.value.components == ("c0",)
    assert ("lie in the past" in str(caught.value)) == (gap == -3)


def test_an_event_in_the_past_is_refused():
    model = Coupled({"delay": Delay(5)}, [("in", "delay.in"), ("delay.out", "out")], ("in",), ("out",))
    simulator = Simulator(model)
    simulator.schedule(3, "in", "a")
    simulator.schedule(3, "in", "b")
    assert simulator.run(10).outputs == [(8, "out", "a+b")]
    with pytest.raises(InvalidData, match="at tick 10 or later, got one at 9, which is in the past"):
        simulator.schedule(9, "in", "c")
    with pytest.raises(InvalidData, match="until= of 10 or later, got 4"):
        simulator.run(4)
    with pytest.raises(InvalidData, match=r"input port of the model among \('in',\), got 'elsewhere'"):
        simulator.schedule(12, "elsewhere", "c")


def test_time_that_does_not_pass_is_noticed():
    parts = {"a": Delay(0), "b": Delay(0), "p": Pulse("x", 4)}
    loop = Coupled(parts, [("a.out", "b.in"), ("b.out", "a.in"), ("p.out", "a.in")])
    with pytest.raises(DEVSError, match=r"50 transitions in a row happened at tick 4.*not legitimate") as caught:
        simulate(loop, 10, limit=50)
    assert caught.value.time == 4
    assert set(caught.value.components) <= {"a", "b"}
    assert simulate(loop, 3, limit=50).events == []


def test_zero_time_is_allowed_within_the_limit():
    model = line(Pulse("a", 2), *(Delay(0) for _ in range(5)))
    assert simulate(model, 2, limit=6).outputs == [(2, "out", "a")]
    with pytest.raises(DEVSError, match="not legitimate"):
        simulate(model, 2, limit=5)


class Astray(Pulse):
    def output(self, state):
        return {"elsewhere": [1]}


def test_couplings_that_make_no_sense_are_refused():
    parts = {"p": Pulse("a", 1), "d": Delay(1)}
    for couplings, message in [
        ([("p.out", "x.in")], "component among p, d, got 'x'"),
        ([("p.out", "d.out")], r"one of the ports \('in',\) of d, got 'out'"),
        ([("d.out", "d.in")], "d is coupled to itself"),
        ([("in", "out")], "the input in is coupled straight to an output"),
        ([("p.out", "nowhere")], "of the model itself, got 'nowhere'"),
        ([("p.out", "d.in"), ("p.out", "d.in")], "each coupling once"),
    ]:
        with pytest.raises(InvalidData, match=message):
            Coupled(parts, couplings, inputs=("in",), outputs=("out",))
    with pytest.raises(InvalidData, match="component or more"):
        Coupled({}, [])
    with pytest.raises(InvalidData, match=r"without '\.' and '/'"):
        Coupled({"a.b": Delay(1)}, [])
    with pytest.raises(InvalidData, match="of other names"):
        Coupled(parts, [], inputs=("x",), outputs=("x",))
    with pytest.raises(InvalidData, match="expected a Coupled model, got Pulse"):
        Simulator(Pulse("a", 1))
    with pytest.raises(DEVSError, match=r"on its output ports \('out',\), got some on 'elsewhere'"):
        simulate(line(Astray("a", 1), Delay(1)), 5)


# ---------------------------------------------------------------------- theory
@pytest.mark.parametrize(("load", "service"), [(0.5, "exponential"), (0.8, "constant")])
def test_the_mean_wait_is_that_of_pollaczek_and_khinchine(load, service):
    queue = SingleQueue(load, service)
    means = np.array([queue.times_in_system(4000, seed).mean() - 1 for seed in range(8)])
    error = means.std(ddof=1) / np.sqrt(len(means))
    assert abs(means.mean() - queue.mean_wait) < 3.5 * error
    assert error < 0.1 * queue.mean_wait


def test_a_queue_that_grows_without_end_is_refused():
    with pytest.raises(InvalidData, match="between 0 and 1"):
        SingleQueue(1.0)
