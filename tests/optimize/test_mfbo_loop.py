"""The loop over levels: what it charges, which level it asks, when it stops, and what it reports."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData, TargetError  # noqa: E402
from locum.core.fidelity import Fidelity  # noqa: E402
from locum.optimize import Integer, Space  # noqa: E402
from locum.optimize.mfbo import (  # noqa: E402
    AugmentedMultiFidelityExpectedImprovement,
    AutoregressiveProcess,
    ContinuousFidelity,
    CoregionalizedProcess,
    Evaluation,
    Fidelities,
    InformationGapUpperConfidenceBound,
    KnowledgeGradientPerCost,
    LocationThenFidelity,
    MaxValueEntropyPerCost,
    MultiFidelityOptimizer,
    MultiFidelityProbabilityOfImprovement,
    MultiFidelityUpperConfidenceBound,
    NonlinearAutoregressiveProcess,
    RecursiveAutoregressiveProcess,
    VariableFidelityExpectedImprovement,
)

LINE = Space.box([(0, 1)])
DesignAndLevel = VariableFidelityExpectedImprovement.__mro__[1]


class OnlyBelow(DesignAndLevel):
    """Level 0, always."""

    def table(self, surrogate, standing):
        return lambda X: torch.stack([X[:, 0], X[:, 0] - 1e3], dim=-1)


def dear(point):
    return float((point["x0"] - 0.3) ** 2)


def cheap(point):
    return float(0.8 * dear(point) + 0.05 * np.sin(3 * point["x0"]))


def noise(point):
    return float(np.sin(1e4 * point["x0"]))


def optimizer(surrogate=None, acquisition=None, levels=None, **settings):
    settings = {"direction": "minimize", "initial": (6, 3), **settings}
    levels = levels or Fidelities([cheap, dear], [1.0, 10.0])
    return MultiFidelityOptimizer(settings.pop("space", LINE), levels, surrogate, acquisition, **settings)


def walked(one, steps):
    """What is asked for after the first design, told truly."""
    out = []
    while len(out) < steps:
        (asked,) = one.ask()
        if len(one.evaluations) >= sum(one.initial):
            out.append(asked)
        one.tell([asked], [(cheap, dear)[asked.level](asked.point)])
    return out


# ---------------------------------------------------------------------- every ingredient on one problem
@pytest.mark.parametrize(
    ("surrogate", "acquisition"),
    [
        (None, VariableFidelityExpectedImprovement()), (None, VariableFidelityExpectedImprovement(per_cost=False)),
        (None, AugmentedMultiFidelityExpectedImprovement()), (None, MultiFidelityProbabilityOfImprovement()),
        (None, MultiFidelityUpperConfidenceBound()), (None, InformationGapUpperConfidenceBound()),
        (None, LocationThenFidelity()), (None, KnowledgeGradientPerCost(decisions=10)),
        (None, MaxValueEntropyPerCost(maxima=4)),
        (RecursiveAutoregressiveProcess(), LocationThenFidelity()), (RecursiveAutoregressiveProcess(), None),
        (NonlinearAutoregressiveProcess(draws=64, noise=0.0), None), (CoregionalizedProcess(noise=0.0), None),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_every_surrogate_and_rule_finds_the_best_design(surrogate, acquisition):
    found = optimizer(surrogate, acquisition).run(budget=70)
    assert found.x["x0"] == pytest.approx(0.3, abs=0.1)
    assert found.fun == dear(found.x)
    assert found.cost_trace[-1] <= 70
    assert np.dot(found.level_counts, [1, 10]) == pytest.approx(found.cost_trace[-1])
    assert sum(found.level_counts) == len(found.points)


def test_a_dial_is_turned():
    levels = ContinuousFidelity(lambda point, s: dear(point) + 0.1 * (1 - s) * point["x0"], lambda s: s**2, (0.3, 0.6, 1.0))
    found = MultiFidelityOptimizer(LINE, levels, direction="minimize", initial=(6, 4, 3)).run(budget=7)
    assert found.x["x0"] == pytest.approx(0.3, abs=0.05)
    assert len(found.level_counts) == 3


# ---------------------------------------------------------------------- the first design
def test_the_first_design_is_nested_and_charged():
    asked = optimizer().ask(9)
    rows = [{point["x0"] for point, level in asked if level == at} for at in (0, 1)]
    assert [len(row) for row in rows] == [6, 3]
    assert rows[1] < rows[0]
    with pytest.raises(InvalidData, match="at least 36, the first design, got 35"):
        optimizer().run(budget=35)
    assert optimizer().run(budget=36).level_counts == (6, 3)


@pytest.mark.parametrize(("cost", "counts"), [((1, 10), (10, 3)), ((1, 1), (3, 3)), ((1, 1e6), (12, 3))])
def test_counts_of_the_first_design_follow_the_costs(cost, counts):
    assert optimizer(levels=Fidelities([cheap, dear], cost), initial=None).initial == counts


# ---------------------------------------------------------------------- which level
def test_the_truth_is_asked_once_as_much_was_spent_below_it():
    sure = optimizer(acquisition=OnlyBelow(), most_below=0.4, initial=(8, 6))
    assert [asked.level for asked in walked(sure, 10)] == [0, 0, 0, 0, 1] * 2
    # Three common designs do not show yet that a level is correlated.
    unsure = optimizer(acquisition=OnlyBelow(), most_below=0.4)
    assert [asked.level for asked in walked(unsure, 2)] == [0, 1]


def test_the_last_cost_is_kept_for_the_truth():
    found = optimizer(acquisition=OnlyBelow(), most_below=100.0).run(budget=36 + 13)
    assert list(found.levels[9:]) == [0, 0, 0, 1]


def test_a_promise_is_seen_to_at_once():
    one = optimizer(acquisition=OnlyBelow(), most_below=100.0, promise=1e-6)
    assert walked(one, 1)[0].level == 1


def test_a_level_that_tells_nothing_is_left_alone_and_said_to_be():
    one = optimizer(levels=Fidelities([noise, dear], [1.0, 10.0]), initial=(10, 8))
    with pytest.warns(UserWarning, match="level 0 with the truth may be none"):
        found = one.run(budget=120)
    assert found.level_counts[0] == 10
    (alike,) = found.level_correlation_
    assert isinstance(alike, Fidelity)
    assert alike.lower <= 0 <= alike.upper


def test_a_good_level_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = optimizer(initial=(9, 6)).run(budget=90)
    assert found.level_correlation_[0].lower > 0


def test_a_level_known_already_is_not_asked_again_for_its_low_cost():
    # A level that is known everywhere says nothing, however sure the improvement at the truth is.
    one = optimizer(initial=(16, 5), most_below=100.0)
    for asked in one.ask(21):
        one.tell([asked], [(dear, dear)[asked.level](asked.point)])
    (asked,) = one.ask()
    assert asked.level == 1


def test_one_level_is_plain_expected_improvement():
    found = optimizer(levels=Fidelities([dear], [2.0]), initial=[4]).run(budget=18)
    assert found.level_counts == (9,)
    assert found.level_correlation_ == ()
    assert found.x["x0"] == pytest.approx(0.3, abs=0.02)


# ---------------------------------------------------------------------- stops
def test_it_stops_where_nothing_is_gained():
    settled = optimizer().run(budget=300, tolerance=1e-3)
    assert "is expected" in settled.stopped
    assert settled.cost_trace[-1] < 200
    tired = optimizer(acquisition=AugmentedMultiFidelityExpectedImprovement()).run(budget=200, patience=9.0)
    assert "brought no improvement" in tired.stopped
    assert optimizer().run(budget=50).stopped == "the budget ended"


def test_it_stops_where_every_design_is_known():
    found = optimizer(space=Space([Integer("x0", 0, 3)]), initial=(4, 2)).run(budget=1000)
    assert found.stopped == "every design was evaluated"
    assert found.level_counts[1] == 4


# ---------------------------------------------------------------------- constraints, batches, failures, replay
def test_constraints_are_kept():
    levels = Fidelities([lambda p: (cheap(p), p["x0"] - 0.55), lambda p: (dear(p), p["x0"] - 0.5)], [1.0, 10.0])
    found = optimizer(levels=levels, initial=(8, 4)).run(budget=140)
    assert found.x["x0"] >= 0.5
    assert found.x["x0"] == pytest.approx(0.5, abs=0.05)


def test_nothing_that_keeps_the_constraints_is_said():
    levels = Fidelities([lambda p: (cheap(p), -1.0 - p["x0"]), lambda p: (dear(p), -1.0 - p["x0"])], [1.0, 10.0])
    with pytest.warns(UserWarning, match="keeps the constraints"):
        found = optimizer(levels=levels).run(budget=50)
    truth = [point["x0"] for point, level in zip(found.points, found.levels, strict=True) if level == 1]
    assert found.x["x0"] == min(truth)


@pytest.mark.parametrize("surrogate", [AutoregressiveProcess(noise=0.0), RecursiveAutoregressiveProcess()])
def test_a_batch_holds_different_evaluations(surrogate):
    one = optimizer(surrogate)
    for asked in one.ask(9):
        one.tell([asked], [(cheap, dear)[asked.level](asked.point)])
    batch = one.ask(4)
    assert len({(one.space.key(point), level) for point, level in batch}) == 4
    assert one.pending == batch
    assert optimizer(surrogate).run(budget=70, batch=3).x["x0"] == pytest.approx(0.3, abs=0.1)


def test_failures_are_left_out():
    def broken(point):
        if point["x0"] > 0.5:
            raise RuntimeError("the mesh folds")
        return dear(point)

    found = optimizer(levels=Fidelities([cheap, broken], [1.0, 10.0])).run(budget=85)
    assert np.isnan(found.values).any()
    assert found.x["x0"] == pytest.approx(0.3, abs=0.1)


def test_a_level_that_always_fails_is_named():
    def never(point):
        raise RuntimeError("no licence")

    with pytest.raises(TargetError, match="evaluations of level 0 failed"):
        optimizer(levels=Fidelities([never, dear], [1.0, 10.0])).run(budget=60)
    with pytest.raises(TargetError, match="evaluations of the truth failed"):
        optimizer(levels=Fidelities([cheap, never], [1.0, 10.0])).run(budget=60)


def test_a_run_that_is_told_the_same_goes_on_the_same():
    one, other = optimizer(random_state=3), optimizer(random_state=3)
    first = walked(one, 4)
    other.tell(one.evaluations[:-2], one.values[:-2])
    assert walked(other, 2) == first[-2:]
    assert walked(optimizer(random_state=4), 4) != first


def test_maximising_is_minimising_upside_down():
    up = Fidelities([lambda p: -cheap(p), lambda p: -dear(p)], [1.0, 10.0])
    a, b = optimizer().run(budget=60), optimizer(levels=up, direction="maximize").run(budget=60)
    assert a.points == b.points
    assert a.fun == -b.fun


# ---------------------------------------------------------------------- what is reported
def test_the_surrogate_is_measured_beside_the_truth_alone():
    def wave(point):
        return float(np.sin(14 * point["x0"]) + point["x0"])

    levels = Fidelities([lambda p: wave(p) / 2 + 3, wave], [1.0, 10.0])
    found = optimizer(levels=levels, initial=(40, 10)).run(budget=145)
    assert found.fidelity.measure == found.rival.measure == "r2"
    assert found.fidelity.value > 0.95 > found.rival.value
    text = str(found)
    assert "at the truth, at x0=" in text
    assert "truth alone: r2" in text
    assert (np.diff(found.cost_trace) > 0).all()
    known = found.best_trace[np.isfinite(found.best_trace)]
    assert (np.diff(known) <= 0).all()
    assert known[-1] == found.fun


def test_what_is_best_is_so_at_the_truth_never_at_a_cheap_level():
    found = optimizer(levels=Fidelities([lambda p: dear(p) - 100.0, dear], [1.0, 10.0])).run(budget=50)
    assert found.fun >= 0
    assert found.levels[list(found.values).index(found.fun)] == 1


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("levels", "cost", "message"),
    [
        ([cheap, dear], [10, 1], "that rise from level to level"), ([cheap, dear], [0, 1], "above 0"),
        ([cheap], [1, 2], "a cost for each of 1 levels"), ([], [], "a cost for each"), ([cheap, 3], [1, 2], "got int"),
    ],
)  # fmt: skip
def test_strange_levels_are_refused(levels, cost, message):
    with pytest.raises(InvalidData, match=message):
        Fidelities(levels, cost)
    with pytest.raises(InvalidData, match="the last of them 1"):
        ContinuousFidelity(lambda point, s: 0.0, lambda s: s, (0.5, 0.8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"direction": "down"}, "direction="), ({"initial": (3, 6)}, "to fall over 2 levels"), ({"initial": (3, 1)}, "initial"),
        ({"initial": (3,)}, "to fall over 2 levels"), ({"most_below": 0}, "most_below="),
        ({"random_state": -1}, "random_state="), ({"surrogate": "ar1"}, "surrogate="), ({"acquisition": "ei"}, "acquisition="),
        ({"promise": -1.0}, "promise="),
    ],
)  # fmt: skip
def test_strange_settings_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        optimizer(**settings)


def test_strange_tellings_are_refused():
    one = optimizer()
    for told, values, message in (
        ([({"x0": 0.5}, 2)], [1.0], "a level from 0 to 1, got 2"), ([({"x0": 5.0}, 0)], [1.0], "x0 between 0 and 1"),
        ([({"x0": 0.5}, 0)], [np.inf], "got infinity"), ([({"x0": 0.5}, 0)], [], "a value for each of 1"),
    ):  # fmt: skip
        with pytest.raises(InvalidData, match=message):
            one.tell(told, values)
    assert one.evaluations == []
    one.tell([Evaluation({"x0": 0.5}, 0)], [1.0])
    with pytest.raises(InvalidData, match="the truth was not evaluated yet"):
        one.result()


@pytest.mark.parametrize("rule", [KnowledgeGradientPerCost(), MaxValueEntropyPerCost(), InformationGapUpperConfidenceBound()])
def test_rules_that_need_one_process_say_so(rule):
    one = optimizer(NonlinearAutoregressiveProcess(draws=8, noise=0.0), rule)
    with pytest.raises(InvalidData, match="needs a surrogate that is one process over levels"):
        one.run(budget=60)
