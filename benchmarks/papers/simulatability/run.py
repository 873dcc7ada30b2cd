"""simulatability (arXiv 2005.01831): do explanations help to foretell what a model answers?

Machine students in the place of the paper's students: a machine student is not a person, and no figure here says what people
would do. They read the rendered explanations, each by one rule that was set before anything was measured. Main table: fatal
accidents in 12 columns of categories, balanced classes, sizes of the paper's Adult; Adult itself, the authors' test sheets, and
film reviews are measured where the data folder holds them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]
import sheets  # noqa: E402
import worlds  # noqa: E402
from claims import Claim, main  # noqa: E402

from locum.explain.simulatability import (  # noqa: E402
    AdditiveStudent,
    Anchor,
    Boundary,
    Composite,
    KNNStudent,
    Lime,
    Omission,
    Prototype,
    PrototypeClassifier,
    Response,
    RuleStudent,
    Shuffled,
    SimulationRun,
    SimulationTest,
    TreeStudent,
    WeightsStudent,
    word_edits,
)

# All but the weights student were set before anything was measured. Shuffled weights turned out to do an additive student no
# harm, since half of its vote is its memory of the answers; the weights student, which has none, was added to see whether that
# is why. So what it shows never decides whether the system holds.
STUDENTS = (AdditiveStudent(), WeightsStudent(), RuleStudent(), KNNStudent(), TreeStudent())
FORWARD_SEEDS, CHANGED_SEEDS, TEXT_SEEDS = 60, 30, 20
ADDITIVE, WEIGHTS, CASES = "AdditiveStudent", "WeightsStudent", "KNNStudent"
LIME = Lime(k=5, samples=5000)


def measure(quick: bool, first: int) -> Iterator[Claim]:
    """All claims, the headline first."""
    n_boot = 2000 if quick else 10_000
    world = worlds.accidents(first, quick)
    tests = built(world, quick)
    seeds = range(first, first + (40 if quick else FORWARD_SEEDS))
    yield from forward(world, tests["forward"].run(conditions(tests["proto"]), STUDENTS, seeds), n_boot, needed=True)
    seeds = range(first, first + (4 if quick else CHANGED_SEEDS))
    yield from counterfactual(world, tests["counterfactual"].run(conditions(tests["proto"]), STUDENTS, seeds), n_boot)
    if quick:
        return
    other = worlds.adult(first, quick)
    if other is None:
        skipped("Adult", "simulatability/adult.data")
    else:
        tests = built(other, quick)
        seeds = range(first, first + FORWARD_SEEDS)
        yield from forward(other, tests["forward"].run(conditions(tests["proto"]), STUDENTS, seeds), n_boot, needed=False)
    yield from own_sheets(n_boot)
    yield from text(first, quick, n_boot)


def skipped(what: str, path: str) -> None:
    print(f"skipped, {what}: $LOCUM_DATA/{path} is not there", file=sys.stderr)


def built(world: worlds.World, quick: bool) -> dict[str, Any]:
    """The prototype network and both tests of a table."""
    fit, dev, fresh = world.parts
    settings = {"epochs": 20, "push_from": 8} if quick else {}
    proto = PrototypeClassifier(domain=world.domain, **settings).fit(*fit)
    tests = {
        kind: SimulationTest.build(world.target, *dev, *fresh, kind=kind, domain=world.domain, agree_with=[proto])
        for kind in ("forward", "counterfactual")
    }
    return {**tests, "proto": proto}


def conditions(proto: PrototypeClassifier) -> dict[str, Any]:
    """What is shown, by method."""
    anchor, case = Anchor(samples=300), Prototype(proto)
    return {
        "none": None,
        "lime": LIME,
        "shuffled": Shuffled(LIME),
        "anchor": anchor,
        "boundary": Boundary(),
        "prototype": case,
        "composite": Composite((LIME, anchor, Boundary(path=False), case)),
        "omission": Omission(),
    }


# ---------------------------------------------------------------------- claims
def forward(world: worlds.World, run: SimulationRun, n_boot: int, needed: bool) -> Iterator[Claim]:
    found = {(one.student, one.method): one for one in run.change(n_boot=n_boot)}
    lime = found[ADDITIVE, "lime"]
    details = table(run, found) | {"model": {"accuracy": world.accuracy}, "students": run.note}
    name, seeds = world.name, lime.n_students
    yield Claim(f"{name}, forward: LIME helps a machine student that adds up", "change in accuracy", *ends(lime.change),
                seeds=seeds, needed=needed, details=details)  # fmt: skip
    best = found[CASES, "boundary"]
    apart = between(run, (ADDITIVE, "lime"), (CASES, "boundary"), n_boot)
    yield Claim(f"{name}, forward: LIME helps more than the decision boundary helps a student that goes by cases",
                "difference of the changes", *ends(apart), seeds=seeds, needed=needed,
                details={"boundary": list(ends(best.change))})  # fmt: skip
    yield Claim(f"{name}, forward: the same weights on other facts help less", "accuracy after LIME less after shuffled",
                *ends(run.contrast("lime", "shuffled", ADDITIVE, n_boot=n_boot)), seeds=seeds, needed=needed)  # fmt: skip
    for student, counts in ((ADDITIVE, needed), (WEIGHTS, False)):
        moved = found[student, "shuffled"]
        yield Claim(f"{name}, forward: shuffled weights do harm ({student})", "change in accuracy", *ends(moved.change),
                    seeds=seeds, direction="less", needed=counts)  # fmt: skip
    starts = ("floor, the true", "ceiling")
    floor, ceiling = (next(one for one in run.references if one.name.startswith(start)) for start in starts)
    yield Claim(f"{name}, forward: knowing the true label is worth nothing", "accuracy", *[floor.accuracy] * 3, seeds=seeds,
                direction="less", threshold=0.5 + 1e-9, decided_by="effect", needed=needed)  # fmt: skip
    yield Claim(f"{name}, forward: every answer to learn from is worth more than LIME", "accuracy less that after LIME",
                *[ceiling.accuracy - lime.post] * 3, seeds=seeds, decided_by="effect", needed=needed)  # fmt: skip


def counterfactual(world: worlds.World, run: SimulationRun, n_boot: int) -> Iterator[Claim]:
    found = {(one.student, one.method): one for one in run.change(n_boot=n_boot)}
    for method, student in (("prototype", CASES), ("prototype", ADDITIVE), ("lime", ADDITIVE)):
        one = found[student, method]
        yield Claim(f"{world.name}, counterfactual: {method} helps ({student})", "change in accuracy", *ends(one.change),
                    seeds=one.n_students, needed=False, details=table(run, found) if student == CASES else {})  # fmt: skip
    copied = next(one for one in run.references if "before the change" in one.name)
    yield Claim(f"{world.name}, counterfactual: the answer before the change is worth nothing", "accuracy",
                *[copied.accuracy] * 3, seeds=found[CASES, "lime"].n_students, direction="less", threshold=0.5 + 1e-9,
                decided_by="effect")  # fmt: skip
    rated = SimulationRun(tuple(r for r in run.responses if r.method == "lime"), False, run.kind)
    effect = rated.rating_effect(ADDITIVE, at=0.5, step=0.1)
    yield Claim("an R2 of LIME higher by a tenth goes with more right guesses", "difference in the chance of a right guess",
                *ends(effect), seeds=found[CASES, "lime"].n_students, needed=False)  # fmt: skip


def own_sheets(n_boot: int) -> Iterator[Claim]:
    place = worlds.folder("simulatability/sheets")
    if place is None:
        skipped("the authors' test sheets", "simulatability/sheets")
        return
    for domain in ("tabular", "text"):
        for kind in ("forward", "counterfactual"):
            run = sheets.sat(place / domain, kind, STUDENTS)
            found = {(one.student, one.method): one for one in run.change(n_boot=n_boot)}
            one = found[ADDITIVE, "lime"]
            people = {" ".join(key): points for key, points in sheets.PUBLISHED.items() if key[0] in (domain, "both")}
            yield Claim(f"the authors' sheets, {domain}, {kind}: LIME helps", "change in accuracy, interval over items",
                        *ends(one.change), seeds=1, needed=False,
                        details=table(run, found) | {"people, points": people})  # fmt: skip


def text(first: int, quick: bool, n_boot: int) -> Iterator[Claim]:
    got = worlds.reviews(first, quick)
    if got is None:
        skipped("film reviews", "text/nltk/sentence_polarity.zip")
        return
    world, near = got
    _, dev, fresh = world.parts
    test = SimulationTest.build(world.target, list(dev[0]), dev[1], list(fresh[0]), fresh[1], perturb=word_edits(near))
    lime = Lime(k=5, samples=500)
    run = test.run({"lime": lime, "shuffled": Shuffled(lime)}, [AdditiveStudent()], range(first, first + TEXT_SEEDS))
    found = {(one.student, one.method): one for one in run.change(n_boot=n_boot)}
    one = found[ADDITIVE, "lime"]
    yield Claim("film reviews, forward: LIME helps", "change in accuracy", *ends(one.change), seeds=one.n_students,
                needed=False, details=table(run, found) | {"model": {"accuracy": world.accuracy}})  # fmt: skip


# ---------------------------------------------------------------------- small parts
def ends(fidelity: Any) -> tuple[float, float, float]:
    return fidelity.value, fidelity.lower, fidelity.upper


def table(run: SimulationRun, found: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Every change, and what needs no explanation."""
    changes = {
        f"{method}, {student}": {"pre": one.pre, "post": one.post, "change": list(ends(one.change)), "words": one.words}
        for (student, method), one in found.items()
    }
    return {"changes": changes, "references": {one.name: one.accuracy for one in run.references}}


def between(run: SimulationRun, first: tuple[str, str], second: tuple[str, str], n_boot: int) -> Any:
    """How much more one student gained by one method than another by another, on the same items and seeds."""
    rows: list[Response] = []
    for student, method in (first, second):
        sat = [r for r in run.responses if (r.student, r.method) == (student, method)]
        rows += [r._replace(student="both", post=r.post - r.pre) for r in sat]
    return SimulationRun(tuple(rows), False, run.kind).contrast(first[1], second[1], "both", n_boot=n_boot)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
