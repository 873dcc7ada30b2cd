"""Simulation tests: the draw of items, what is shown, machine students, and that nothing leaks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from locum.core.domain import Column, Domain
from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.explain.simulatability import (
    AdditiveStudent,
    Anchor,
    Boundary,
    Composite,
    KNNStudent,
    Lime,
    Omission,
    PrototypeClassifier,
    RuleStudent,
    Screen,
    Shown,
    Shuffled,
    SimulationTest,
    TreeStudent,
    WeightsStudent,
    tabular_edits,
    word_edits,
)

NAMES = ("bank", "home", "job", "car", "age", "sex")
LEVELS = ("low", "mid", "high")
DOMAIN = Domain(tuple(Column(name, "categorical", levels=LEVELS) for name in NAMES), "object", ("O",) * 6)
WEIGHTS = np.array([2.0, -1.5, 1.0, 0.0, 0.0, 0.0])


def rows(rng, n):
    return rng.choice(LEVELS, size=(n, 6)).astype(object)


def margin(X):
    codes = np.array([[LEVELS.index(cell) for cell in row] for row in X]) - 1
    return codes @ WEIGHTS + 0.1


def probabilities(X):
    p = 1 / (1 + np.exp(-2 * margin(X)))
    return np.column_stack([1 - p, p])


def model(**settings):
    return Target(probabilities, name="loan", output="probability", classes=["no", "yes"], domain=DOMAIN, **settings)


def data(seed=0, n=500):
    """Two sets of rows whose labels the model gets wrong one time in four."""
    rng = np.random.default_rng(seed)
    X = rows(rng, n)
    wrong = rng.random(n) < 0.25
    truth = np.where((margin(X) > 0) != wrong, "yes", "no")
    return X[: n // 2], truth[: n // 2], X[n // 2 :], truth[n // 2 :]


def build(target=None, **settings):
    return SimulationTest.build(target or model(), *data(), **settings)


# ---------------------------------------------------------------------- the draw
@pytest.mark.parametrize("kind", ["forward", "counterfactual"])
def test_material_is_balanced_and_disjoint(kind):
    test = build(kind=kind)
    assert Counter(item.quadrant for item in test.learn) == dict.fromkeys(("TP", "FP", "TN", "FN"), 4)
    assert Counter(item.quadrant for item in test.test) == dict.fromkeys(("TP", "FP", "TN", "FN"), 8)
    learned, asked = ({item.shown for item in part} for part in (test.learn, test.test))
    assert len(learned) == 16
    assert len(asked) == 32
    assert not learned & asked
    for item in (*test.learn, *test.test):
        right = item.answer == item.label
        assert item.quadrant == ("TP" if right else "FP") if item.answer == "yes" else ("TN" if right else "FN")


@pytest.mark.parametrize("kind", ["forward", "counterfactual"])
def test_an_item_of_both_pools_is_never_learned_and_asked(kind):
    X, truth, *_ = data()
    test = SimulationTest.build(model(), X, truth, X, truth, kind=kind, n_test=16, perturb=tabular_edits(1, 3, draws=30))
    for seed in range(5):
        drawn = test.redraw(seed)
        learned = {item.shown for item in drawn.learn}
        assert not learned & {shown for item in drawn.test for shown in (item.shown, item.changed_shown)}
        assert len({item.shown for item in drawn.test}) == 16


def test_half_of_the_changes_change_the_answer_in_each_quadrant():
    test = build(kind="counterfactual")
    flips = Counter((item.quadrant, item.changed_answer != item.answer) for item in test.test)
    assert set(flips.values()) == {4}
    assert len(flips) == 8
    for item in test.test:
        before, after = item.shown.splitlines(), item.changed_shown.splitlines()
        assert 1 <= sum(a != b for a, b in zip(before, after, strict=True)) <= 3
        answers = model().query(DOMAIN.decode(np.stack([item.unit, item.changed])))
        assert [("no", "yes")[int(p)] for p in answers.argmax(axis=1)] == [item.answer, item.changed_answer]


def test_the_order_tells_neither_quadrant_nor_flip():
    """Over many draws each place holds each quadrant, and a flip, about equally often."""
    test = build(kind="counterfactual", n_learn=4, n_test=8, perturb=tabular_edits(1, 3, draws=30))
    draws = [test.redraw(seed).test for seed in range(60)]
    flips = np.array([[item.changed_answer != item.answer for item in items] for items in draws])
    assert np.abs(flips.mean(axis=0) - 0.5).max() < 0.25
    first = Counter(items[0].quadrant for items in draws)
    assert min(first[q] for q in ("TP", "FP", "TN", "FN")) >= 5


def test_changed_items_are_nobody_elses_items():
    test = build(kind="counterfactual")
    shown = {item.shown for item in (*test.learn, *test.test)}
    changed = [item.changed_shown for item in test.test]
    assert not shown & set(changed)
    assert len(set(changed)) == len(changed)


def test_all_models_agree_on_every_item():
    def other(X):
        return np.where((margin(X) > 0) & (X[:, 5] != "high"), "yes", "no")

    test = build(kind="counterfactual", agree_with=[other])
    units = np.stack([item.unit for item in (*test.learn, *test.test)])
    assert other(DOMAIN.decode(units)).tolist() == [item.answer for item in (*test.learn, *test.test)]
    changed = np.stack([item.changed for item in test.test])
    assert other(DOMAIN.decode(changed)).tolist() == [item.changed_answer for item in test.test]


def test_the_same_seed_draws_the_same_and_another_does_not():
    def names(test):
        return [item.name for item in test.test], [item.changed_shown for item in test.test]

    first = build(kind="counterfactual", random_state=3)
    assert names(first) == names(build(kind="counterfactual", random_state=3)) == names(first.redraw(3))
    assert names(first) != names(first.redraw(4))


def test_items_without_a_change_are_dropped_and_counted():
    """Where bank is low nothing of one edit changes the answer: no 'diff' there."""

    def stubborn(X):
        return np.where((X[:, 0] == "high") | ((X[:, 0] == "mid") & (X[:, 1] == "low")), "yes", "no")

    rng = np.random.default_rng(0)
    X = rows(rng, 800)
    answers = stubborn(X)
    truth = np.where(rng.random(800) < 0.5, "yes", "no")
    target = Target(stubborn, name="stubborn", output="class", classes=["no", "yes"], domain=DOMAIN)

    parts = (X[:400], truth[:400], X[400:], truth[400:])
    test = SimulationTest.build(target, *parts, kind="counterfactual", n_test=16, perturb=tabular_edits(1, 1, draws=4))
    assert test.dropped["diff"] > 0
    assert set(answers) == {"no", "yes"}
    again = test.redraw(test.random_state)
    assert again.dropped == test.dropped


def test_an_impossible_balance_is_told_with_counts():
    X, truth, X_test, _ = data()
    perfect = np.where(margin(X_test) > 0, "yes", "no")
    with pytest.raises(InvalidData, match=r"at least 8 items to be asked about of each .* got \d+ TP, 0 FP, \d+ TN, 0 FN"):
        SimulationTest.build(model(), X, truth, X_test, perfect)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "backward"}, "expected kind= to be one of forward, counterfactual"),
        ({"n_learn": 6}, "multiple of 4"),
        ({"kind": "counterfactual", "n_test": 12}, "one of 8, got 16 and 12"),
        ({"random_state": -1}, "random_state= to be a whole number of 0 or more"),
        ({"perturb": word_edits({"a": ["b"]}), "kind": "counterfactual"}, "word_edits is for sentences"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        build(**settings)


def test_numbers_values_and_other_labels_are_refused_before_anything_is_asked():
    target = model()
    X, truth, *_ = data()
    with pytest.raises(InvalidData, match="labels of two classes, got 3"):
        SimulationTest.build(target, X, np.where(np.arange(len(X)) == 0, "maybe", truth), X, truth)
    numbers = np.random.default_rng(0).normal(size=(50, 2))
    plain = Target(lambda X: X[:, 0] > 0, name="numbers", output="class", classes=[False, True])
    with pytest.raises(InvalidData, match="column 'x0' holds numbers"):
        SimulationTest.build(plain, numbers, numbers[:, 0] > 0, numbers, numbers[:, 0] > 0)
    assert target.account().asked == plain.account().asked == 0
    with pytest.raises(InvalidData, match="expected a Target"):
        SimulationTest.build(probabilities, X, truth, X, truth)


# ---------------------------------------------------------------------- what is shown
def test_lime_shows_the_planted_weights_and_their_sum():
    test = build()
    shown = test.explanations(Lime(k=3, samples=2000))
    for item, one in zip(test.learn, shown, strict=True):
        lines = one.text.splitlines()
        assert lines[0] == "Evidence for yes (above 0.5 means yes):"
        facts = [line.split(" | ")[0] for line in lines[1:-2]]
        assert set(facts) <= set(item.shown.splitlines())
        values = [float(line.rsplit(" | ", 1)[1]) for line in lines[1:]]
        assert values[-1] == pytest.approx(sum(values[:-1]), abs=1e-9)
        most = facts[int(np.abs(values[:-2]).argmax())]
        assert most.split(" = ")[0] in ("bank", "home", "job")
        assert one.rating is not None


def test_an_anchor_holds_for_its_item():
    test = build()
    for item, one in zip(test.learn, test.explanations(Anchor(samples=300)), strict=True):
        head, *facts = one.text.splitlines()
        assert head == f"Rule for {item.answer}:"
        assert set(facts) <= set(item.shown.splitlines())
        assert facts


def test_the_boundary_path_ends_at_a_changed_answer_nearby():
    test = build()
    for item, one in zip(test.learn, test.explanations(Boundary()), strict=True):
        path, case = one.text.split("\n\n")
        other = "no" if item.answer == "yes" else "yes"
        assert path.splitlines()[0] == f"Changes that lead to {other}:"
        head, *lines = case.splitlines()
        assert head == f"Case answered {other}:"
        edits = [(a, b) for a, b in zip(item.shown.splitlines(), lines, strict=True) if a != b]
        assert sorted(f"{a} -> {b}" for a, b in edits) == sorted(line.rsplit(" | ", 1)[0] for line in path.splitlines()[1:])
        assert float(path.splitlines()[-1].rsplit(" | ", 1)[1]) > 0  # evidence for the answer it leads to


def test_the_boundary_is_reached_by_one_edit_wherever_one_does():
    test = build(perturb=tabular_edits(1, 3, draws=2000))
    for item, one in zip(test.learn, test.explanations(Boundary()), strict=True):
        single = np.array([item.unit] * 18)
        single[np.arange(18), np.arange(18) // 3] = np.arange(18) % 3
        single = [z for z in single if test.medium.show(z) not in test.hidden]
        flips = (margin(DOMAIN.decode(np.stack(single))) > 0) != (item.answer == "yes")
        steps = len(one.text.split("\n\n")[0].splitlines()) - 1
        assert (steps == 1) == flips.any()


def test_omission_ranks_the_planted_columns_first_and_no_others():
    test = build()
    found = Counter(
        line.split(" = ")[0] for one in test.explanations(Omission(k=3)) for line in one.text.splitlines()[1:] if " | " in line
    )
    assert {"bank", "home", "job"} == {name for name, _ in found.most_common(3)}


def test_a_composite_is_its_parts_and_a_shuffled_one_only_moves_weights():
    test = build()
    lime, case = Lime(k=3, samples=2000), Boundary(path=False)
    parts = [test.explanations(one) for one in (lime, case)]
    for both, *apart in zip(test.explanations(Composite((lime, case))), *parts, strict=True):
        assert both.text == "\n\n".join(one.text for one in apart)
    moved = 0
    for item, one, other in zip(test.learn, parts[0], test.explanations(Shuffled(lime)), strict=True):
        numbers = [sorted(line.rsplit(" | ", 1)[1] for line in text.splitlines()[1:-2]) for text in (one.text, other.text)]
        assert numbers[0] == numbers[1]
        assert one.text.splitlines()[-2:] == other.text.splitlines()[-2:]
        facts = [line.rsplit(" | ", 1)[0] for line in other.text.splitlines()[1:-2]]
        assert set(facts) <= set(item.shown.splitlines())
        moved += one.text != other.text
    assert moved > 10
    with pytest.raises(InvalidData, match="shows none"):
        test.explanations(Shuffled(case))


@pytest.mark.parametrize("kind", ["forward", "counterfactual"])
def test_no_condition_shows_an_item_that_is_asked(kind):
    """Small domains are crowded: the nearest change of an item is often an item that is asked."""
    test = build(kind=kind, n_learn=16, n_test=32)
    for condition in (Lime(k=3, samples=500), Boundary(), Omission(), Composite((Boundary(path=False),))):
        for one in test.explanations(condition):
            assert not any(text in one.text for text in test.hidden)


def test_a_condition_that_leaks_is_refused():
    test = build()
    leak = test.test[0].shown
    with pytest.raises(InvalidData, match="shows an item whose answer is asked"):
        test.explanations(lambda X: [f"Case answered yes:\n{leak}"] * len(X))
    turned = "\n".join(leak.splitlines()[::-1])
    with pytest.raises(InvalidData, match="shows an item whose answer is asked"):
        test.explanations(lambda X: [Shown(f"Case answered yes:\n{turned}")] * len(X))
    changed = build(kind="counterfactual")
    with pytest.raises(InvalidData, match="shows an item whose answer is asked"):
        changed.explanations(lambda X: [f"so what of this:\n{changed.test[3].changed_shown}"] * len(X))
    with pytest.raises(InvalidData, match="one explanation for each of 16 items, got 1"):
        test.explanations(lambda X: ["only one"])


def test_conditions_are_given_the_items_explained_and_no_others():
    given = []

    def spy(X):
        given.append([tuple(row) for row in X])
        return ["nothing"] * len(X)

    for kind in ("forward", "counterfactual"):
        test = build(kind=kind)
        test.run({"spy": spy}, [KNNStudent()], seeds=[7])
        drawn = test.redraw(7)
        part = drawn.learn if kind == "forward" else drawn.test
        assert given.pop() == [tuple(row) for row in DOMAIN.decode(np.stack([item.unit for item in part]))]


# ---------------------------------------------------------------------- machine students
def learned(explanation=""):
    return [
        Screen("a = 1\nb = 1", "yes", "yes", explanation),
        Screen("a = 1\nb = 0", "no", "yes", explanation),
        Screen("a = 0\nb = 1", "yes", "no", explanation),
        Screen("a = 0\nb = 0", "no", "no", explanation),
    ]


def asked(*items):
    return [Screen(item, "", "") for item in items]


@pytest.mark.parametrize("student", [AdditiveStudent(), RuleStudent(), KNNStudent(k=1), TreeStudent()])
def test_students_learn_the_answers_and_not_the_labels(student):
    questions = asked("a = 1\nb = 1", "a = 1\nb = 0", "a = 0\nb = 1", "a = 0\nb = 0")
    assert student.answer(learned(), questions, ("no", "yes"), 0) == ["yes", "yes", "no", "no"]


def test_each_kind_of_explanation_is_read_by_its_own_student():
    weights = "Evidence for yes (above 0.5 means yes):\nc = 9 | -4.00\na = 1 | +0.10\nBaseline | +0.50\nSum | -3.40"
    rule = "Rule for no:\nc = 9"
    case = "Case answered no, similarity 0.93:\na = 1\nb = 1\nc = 9"
    question = asked("a = 1\nb = 1\nc = 9")
    for student, text in ((AdditiveStudent(), weights), (RuleStudent(), rule), (KNNStudent(k=1), case)):
        assert student.answer(learned(), question, ("no", "yes"), 0) == ["yes"]
        assert student.answer(learned(text), question, ("no", "yes"), 0) == ["no"]
        others = [one for one in (weights, rule, case) if one is not text]
        assert student.answer(learned("\n\n".join(others)), question, ("no", "yes"), 0) == ["yes"]


def test_evidence_for_the_other_class_counts_the_other_way():
    one = "Evidence for yes (above 0 means yes):\nc = 9 | -4.00"
    other = "Evidence for no (above 0 means no):\nc = 9 | +4.00"
    question = asked("a = 1\nb = 1\nc = 9")
    assert AdditiveStudent().answer(learned(one), question, ("no", "yes"), 0) == ["no"]
    assert AdditiveStudent().answer(learned(other), question, ("no", "yes"), 0) == ["no"]


def test_a_student_may_go_by_weights_alone():
    weights = "Evidence for yes (above 0 means yes):\na = 1 | -0.10\na = 0 | +0.10"
    question = asked("a = 1\nb = 1", "a = 0\nb = 0")
    assert WeightsStudent().answer(learned(), question, ("no", "yes"), 0) == ["yes", "no"]
    assert WeightsStudent().answer(learned(weights), question, ("no", "yes"), 0) == ["no", "yes"]


def test_a_changed_item_loses_the_weights_of_what_went():
    text = "Evidence for yes (above 0.5 means yes):\na = 1 | +0.90\nb = 1 | -0.10\nBaseline | +0.00\nSum | +0.80"
    start = [Screen("a = 1\nb = 1", "yes", "yes", text, "a = 2\nb = 1"), Screen("a = 0\nb = 0", "no", "no", "", "a = 0\nb = 1")]
    plain = [screen._replace(explanation="") for screen in start]
    assert AdditiveStudent().answer([], start, ("no", "yes"), 0)[0] == "no"
    assert AdditiveStudent().answer([], plain, ("no", "yes"), 0)[0] == "yes"


def test_a_student_sees_text_alone_and_no_answer_that_is_asked():
    """What reaches a student holds no answer and no label of a forward item, and only text."""
    seen = []

    class Spy(AdditiveStudent):
        def answer(self, learned, asked, labels, random_state):
            seen.append((learned, asked))
            return super().answer(learned, asked, labels, random_state)

    test = build()
    test.run({"lime": Lime(k=2, samples=500)}, [Spy()], seeds=[0])
    (before, questions), (after, again) = seen
    assert questions == again
    assert all(screen[1:] == ("", "", "", "") for screen in questions)
    assert all(screen.explanation == "" for screen in before)
    assert [screen[:3] for screen in before] == [screen[:3] for screen in after]
    assert all(isinstance(cell, str) for screen in (*before, *after, *questions) for cell in screen)


def test_changed_items_are_explained_as_they_were_before_the_change():
    seen = []

    class Spy(AdditiveStudent):
        def answer(self, learned, asked, labels, random_state):
            seen.append((learned, asked))
            return super().answer(learned, asked, labels, random_state)

    test = build(kind="counterfactual")
    test.run({"lime": Lime(k=6, samples=500)}, [Spy()], seeds=[0])
    (_, before), (learned, after) = seen
    assert all(screen.explanation == "" for screen in (*before, *learned))
    for screen in after:
        facts = {line.rsplit(" | ", 1)[0] for line in screen.explanation.splitlines()[1:-2]}
        assert facts <= set(screen.item.splitlines())


def test_lime_helps_and_shuffled_weights_do_not():
    lime = Lime(k=3, samples=2000)
    run = build().run({"lime": lime, "shuffled": Shuffled(lime)}, [AdditiveStudent()], seeds=range(12))
    helped, moved = run.change(n_boot=1000)
    assert helped.change.lower > 0
    assert moved.change.value < helped.change.value - 0.05
    assert helped.pre == moved.pre
    assert (helped.n_students, moved.n_students) == (12, 12)
    assert run.contrast("lime", "shuffled", "AdditiveStudent", n_boot=1000).lower > 0
    assert "A machine student is not a person" in run.text(n_boot=200)


@pytest.mark.parametrize("kind", ["forward", "counterfactual"])
def test_floors_are_one_half_by_design(kind):
    run = build(kind=kind, n_test=16).run({"none": None}, [KNNStudent()], seeds=range(3))
    found = {one.name: one.accuracy for one in run.references}
    assert found["floor, the true label"] == 0.5
    assert found["floor, the majority"] == pytest.approx(0.5, abs=0.0 if kind == "forward" else 0.15)
    if kind == "counterfactual":
        assert found["floor, the answer before the change"] == 0.5
    assert found["ceiling, a student of every answer to learn from"] > 0.85
    (nothing,) = run.change(n_boot=200)
    assert nothing.change.value == 0.0


def test_the_same_seeds_give_the_same_guesses():
    def responses():
        return build().run({"b": Boundary()}, [TreeStudent(), KNNStudent()], seeds=range(2)).responses

    assert repr(responses()) == repr(responses())


def test_a_run_needs_conditions_students_and_seeds():
    for conditions, students, seeds in (({}, [KNNStudent()], [0]), ({"n": None}, [], [0]), ({"n": None}, [KNNStudent()], [])):
        with pytest.raises(InvalidData, match="at least one condition, one student and one seed"):
            build().run(conditions, students, seeds)


# ---------------------------------------------------------------------- sentences
GOOD, BAD, FILL = ("great", "lovely", "fine"), ("awful", "dull", "poor"), ("the", "film", "was", "plot", "actor", "story")
NEIGHBOURS = {word: tuple(GOOD + BAD) for word in (*GOOD, *BAD)} | {"film": ("plot",), "plot": ("film",)}


def said(texts):
    score = np.array([sum(w in GOOD for w in t.split()) - sum(w in BAD for w in t.split()) for t in texts]) + 0.5
    p = 1 / (1 + np.exp(-2.0 * score))
    return np.column_stack([1 - p, p])


def sentences(n, seed):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice([*GOOD, *BAD, *FILL, *FILL], size=rng.integers(6, 11))) for _ in range(n)]
    right = rng.random(n) < 0.7
    return texts, np.where((said(texts)[:, 1] > 0.5) == right, "pos", "neg")


@pytest.mark.parametrize("kind", ["forward", "counterfactual"])
def test_sentences_work_as_rows_do(kind):
    target = Target(said, name="reviews", output="probability", classes=["neg", "pos"])
    perturb = word_edits(NEIGHBOURS, draws=40)
    parts = (*sentences(150, 0), *sentences(250, 1))
    test = SimulationTest.build(target, *parts, kind=kind, n_learn=8, n_test=16, perturb=perturb)
    for item in test.test if kind == "counterfactual" else ():
        pairs = [(a, b) for a, b in zip(item.shown.split(), item.changed_shown.split(), strict=True) if a != b]
        assert 1 <= len(pairs) <= 6
        assert all(b in NEIGHBOURS[a] for a, b in pairs)
    weights = [line for one in test.explanations(Lime(k=3, samples=400)) for line in one.text.splitlines()[1:-2]]
    assert sum(line.split(" | ")[0] in (*GOOD, *BAD) for line in weights) > 0.8 * len(weights)
    assert all(("+" in line) == (line.split(" | ")[0] in GOOD) for line in weights if line.split(" | ")[0] in (*GOOD, *BAD))
    run = test.run(
        {"omission": Omission(k=4), "boundary": Boundary(), "anchor": Anchor(samples=300, threshold=0.9)},
        [AdditiveStudent(), RuleStudent()],
        seeds=[0],
    )
    assert len(run.change(n_boot=200)) == 6


def test_sentences_need_word_edits_of_one_word():
    target = Target(said, name="reviews", output="probability", classes=["neg", "pos"])
    with pytest.raises(InvalidData, match="perturb= for sentences"):
        SimulationTest.build(target, *sentences(50, 0), *sentences(50, 1))
    with pytest.raises(InvalidData, match="neighbours of one word each"):
        word_edits({"film": ["motion picture"]})


# ---------------------------------------------------------------------- prototypes
def test_prototypes_are_training_rows_of_their_class_and_classify():
    pytest.importorskip("torch", reason="prototypes need torch")
    X, _, X_test, _ = data(n=1000)
    y, y_test = (np.where(margin(part) > 0, "yes", "no") for part in (X, X_test))
    proto = PrototypeClassifier(domain=DOMAIN, prototypes=5, epochs=12, push_from=4, learning_rate=0.01).fit(X, y)
    assert (proto.predict(X_test) == y_test).mean() > 0.85
    assert proto.predict_proba(X_test).sum(axis=1) == pytest.approx(1.0)
    train_rows = {tuple(row): label for row, label in zip(X, y, strict=True)}
    for label, cases in zip(proto.classes_, proto.cases_, strict=True):
        real = [tuple(row) for row in DOMAIN.decode(cases)]
        assert [train_rows[row] for row in real] == [label] * 5
    # Each prototype is the latent point of its case: the case is entirely like itself.
    (own,) = proto.explained(DOMAIN.decode(proto.cases_[0][:1]))
    assert own.similarity == pytest.approx(1.0, abs=1e-5)
    same = PrototypeClassifier(domain=DOMAIN, prototypes=5, epochs=12, push_from=4, learning_rate=0.01).fit(X, y)
    assert np.array_equal(same.cases_, proto.cases_)


def test_a_prototype_is_shown_with_its_own_class_and_never_when_it_is_asked():
    pytest.importorskip("torch", reason="prototypes need torch")
    X, truth, *_ = data()
    proto = PrototypeClassifier(domain=DOMAIN, prototypes=3, epochs=4, push_from=1).fit(X, truth)
    names = {"\n".join(f"{n} = {v}" for n, v in zip(NAMES, row, strict=True)): label
             for cases, label in zip(proto.cases_, proto.classes_, strict=True) for row in DOMAIN.decode(cases)}  # fmt: skip
    rows = X[:20]
    first = proto.explained(rows)
    for one in first:
        assert names[one.case] == one.label
        assert one.text().splitlines()[0] == f"Case answered {one.label}, similarity {one.similarity:.2f}:"
    hidden = {first[0].case}
    assert first[0].case not in {one.case for one in proto.explained(rows, hidden=hidden)}
    assert proto.explain(rows) == [one.text() for one in first]
    with pytest.raises(InvalidData, match="every prototype is an item of the test"):
        proto.explained(rows, hidden=names)


def test_prototypes_refuse_what_they_cannot_use():
    X, truth, *_ = data()
    with pytest.raises(InvalidData, match="at least prototypes=400 rows of each"):
        PrototypeClassifier(domain=DOMAIN, prototypes=400).fit(X, truth)
    with pytest.raises(InvalidData, match="validation= between 0 and 1"):
        PrototypeClassifier(domain=DOMAIN, validation=1.0).fit(X, truth)
    with pytest.raises(InvalidData, match="epochs= to be a whole number of 20 or more"):
        PrototypeClassifier(domain=DOMAIN, epochs=10).fit(X, truth)
    with pytest.raises(InvalidData, match="a label for each of 250 rows, got 3"):
        PrototypeClassifier(domain=DOMAIN).fit(X, truth[:3])
