"""Program: what it answers, in numbers and in words, at every boundary; and that it survives being written down."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locum.core.domain import Column
from locum.core.errors import FormatError, InvalidData
from locum.core.program import Condition, Levels, Linear, Program, Rule, Steps

AGE = Column("age", low=18.0, high=90.0, missing=True)
JOB = Column("job", "categorical", levels=("clerk", "nurse", "smith"), missing=True)
COLUMNS = (AGE, JOB)
NAN = np.nan


def rules(*terms, base=(0.2, 0.8), **changes):
    settings = {"kind": "class", "classes": ("no", "yes"), "link": "identity", "body": "rules"}
    return Program(COLUMNS, terms=terms, base=base, **{**settings, **changes})


def total(*terms, base=(0.0,), **changes):
    settings = {"kind": "value", "classes": None, "link": "identity", "body": "sum"}
    return Program(COLUMNS, terms=terms, base=base, **{**settings, **changes})


LIST = rules(
    Rule((Condition(0, high=30.0), Condition(1, levels=(0, 1))), (0.9, 0.1), 40.0),
    Rule((Condition(0, 30.0, 60.0),), (0.6, 0.4)),
    Rule((Condition(1, levels=(2,), missing=True),), (0.1, 0.9)),
)
SUM = total(
    Steps(0, (30.0, 60.0), ((1.0,), (2.0,), (3.0,)), (-1.0,)),
    Levels(1, ((10.0,), (20.0,), (10.0,)), (30.0,), (40.0,)),
    Linear(0, (0.5,), 50.0, (100.0,)),
    Rule((Condition(0, low=80.0), Condition(1, levels=(2,))), (1000.0,)),
    base=(0.25,),
)


# ---------------------------------------------------------------------- conditions
AROUND = [np.nextafter(30.0, -np.inf), 30.0, np.nextafter(30.0, np.inf)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition(0, high=30.0), [True, True, False, False]),
        (Condition(0, low=30.0), [False, False, True, False]),
        (Condition(0, 30.0, np.nextafter(30.0, np.inf)), [False, False, True, False]),
        (Condition(0, 30.0, 30.0), [False, False, False, False]),
        (Condition(0), [True, True, True, False]),
        (Condition(0, high=30.0, missing=True), [True, True, False, True]),
        (Condition(0, missing=True), [True, True, True, True]),
    ],
)
def test_a_bound_above_is_included_and_one_below_is_not(condition, expected):
    assert condition.holds(np.array([[x, 0.0] for x in (*AROUND, NAN)])).tolist() == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition(1, levels=(0, 2)), [True, False, True, False, False]),
        (Condition(1, levels=(1,), missing=True), [False, True, False, False, True]),
        (Condition(1, levels=()), [False] * 5),
        (Condition(1, levels=(), missing=True), [False, False, False, False, True]),
        (Condition(1), [True, True, True, True, False]),
    ],
)
def test_an_unknown_category_is_among_no_levels(condition, expected):
    assert condition.holds(np.array([[0.0, z] for z in (0, 1, 2, -1, NAN)])).tolist() == expected


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Condition(0, high=30.25), "age <= 30.25"),
        (Condition(0, low=30.0), "age > 30"),
        (Condition(0, 1 / 3, 60.0), "0.3333 < age <= 60"),
        (Condition(0, 30.0, 60.0, missing=True), "30 < age <= 60 or missing"),
        (Condition(0), "age is known"),
        (Condition(0, missing=True), "always"),
        (Condition(1, levels=(1,)), "job is nurse"),
        (Condition(1, levels=(0, 2)), "job is not nurse"),
        (Condition(1, levels=(0, 1, 2)), "job is one of clerk, nurse, smith"),
        (Condition(1, levels=(0,), missing=True), "job is clerk or missing"),
        (Condition(1, levels=(), missing=True), "job is missing"),
        (Condition(1, levels=()), "never"),
    ],
)
def test_conditions_in_words(condition, text):
    assert condition.text(COLUMNS) == text


def test_words_are_silent_about_what_is_never_missing():
    complete = (replace(AGE, missing=False), replace(JOB, missing=False))
    assert Condition(0, high=30.0, missing=True).text(complete) == "age <= 30"
    assert Condition(1, levels=(0,), missing=True).text(complete) == "job is clerk"


bounds = st.none() | st.sampled_from([10.0, 20.0, 30.0])
conditions = st.one_of(
    st.builds(Condition, st.just(0), bounds, bounds, missing=st.booleans()),
    st.builds(Condition, st.just(1), levels=st.sets(st.integers(0, 2)).map(tuple), missing=st.booleans()),
)


@settings(deadline=None)
@given(conditions, conditions)
def test_two_conditions_on_a_column_as_one(one, other):
    if one.column != other.column:
        return
    Z = np.array([[x, z] for x in (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, NAN) for z in (-1, 0, 1, 2, NAN)])
    assert np.array_equal(one.and_(other, COLUMNS).holds(Z), one.holds(Z) & other.holds(Z))


# ---------------------------------------------------------------------- rules
def test_the_first_rule_that_matches_answers():
    Z = np.array([[30.0, 0], [30.0, 2], [31.0, 2], [60.0, NAN], [61.0, NAN], [61.0, 0], [NAN, 1], [20.0, -1], [61.0, -1]])
    assert LIST.fired(Z).tolist() == [0, 2, 1, 1, 2, 3, 3, 3, 3]
    assert LIST.predict(Z).tolist() == ["no", "yes", "no", "no", "yes", "yes", "yes", "yes", "yes"]
    assert LIST.values(Z)[[0, 5]].tolist() == [[0.9, 0.1], [0.2, 0.8]]
    swapped = replace(LIST, terms=(Rule((), (1.0, 0.0)), *LIST.terms))
    assert swapped.fired(Z).tolist() == [0] * len(Z)


def test_rules_in_words():
    assert LIST.text().splitlines() == [
        "IF age <= 30 and job is not smith THEN no (0.9)",
        "IF 30 < age <= 60 THEN no (0.6)",
        "IF job is smith or missing THEN yes (0.9)",
        "OTHERWISE yes (0.8)",
    ]
    assert rules().text() == "ALWAYS yes (0.8)"
    assert replace(LIST, exhaustive=True).text().count("\n") == 2
    assert (LIST.statements, LIST.conditions, LIST.used) == (4, 4, (0, 1))
    assert replace(LIST, exhaustive=True).statements == 3


def test_an_or_within_a_rule_stands_in_brackets():
    both = Rule((Condition(0, None, 30.0, missing=True), Condition(1, levels=(1,))), (1.0, 0.0))
    assert both.text(replace(LIST, terms=(both,)).columns).startswith("(age <= 30 or missing) and job is ")


def test_no_rows_and_no_rules():
    empty = np.empty((0, 2))
    assert LIST.predict(empty).shape == (0,)
    assert (LIST.values(empty).shape, SUM.values(empty).shape) == ((0, 2), (0, 1))
    assert rules().predict(np.zeros((2, 2))).tolist() == ["yes", "yes"]


# ---------------------------------------------------------------------- sums
@pytest.mark.parametrize(
    ("row", "value"),
    [
        ([30.0, 0], 0.25 + 1 + 10 - 10),
        ([np.nextafter(30.0, np.inf), 1], 0.25 + 2 + 20 - 10),
        ([60.0, 2], 0.25 + 2 + 10 + 5),
        ([80.0, 2], 0.25 + 3 + 10 + 15),
        ([82.0, 2], 0.25 + 3 + 10 + 16 + 1000),
        ([82.0, -1], 0.25 + 3 + 40 + 16),
        ([NAN, NAN], 0.25 - 1 + 30 + 100),
    ],
)
def test_sums_by_hand(row, value):
    assert SUM.predict(np.array([row])) == pytest.approx([value], abs=1e-12)
    parts = sum(term.contribution(np.array([row])) for term in SUM.terms)
    assert SUM.scores(np.array([row])) == pytest.approx(parts + 0.25, abs=1e-12)


def test_sums_in_words():
    assert SUM.text().splitlines() == [
        "start at +0.25",
        "IF age <= 30 ADD +1",
        "IF 30 < age <= 60 ADD +2",
        "IF age > 60 ADD +3",
        "IF job is not nurse ADD +10",
        "IF job is nurse ADD +20",
        "ADD +0.5 for each unit of age above 50",
        "IF age > 80 and job is smith ADD +1000",
    ]
    assert (SUM.statements, SUM.conditions, SUM.used) == (3 + 2 + 1 + 1, 2, (0, 1))


def test_amounts_of_classes_in_words():
    two = total(Linear(0, (-1.0, 0.5), 50.0, (0.0, 0.0)), base=(0.0, 0.25), kind="class", classes=("no", "yes"))
    assert two.text().splitlines() == ["start at +0.25 to yes", "ADD +1.5 to yes for each unit of age above 50"]
    terms = (Linear(0, (-1.0, 0.5, 0.0), 50.0, (0.0,) * 3),)
    three = total(*terms, base=(1.0, 0.0, 0.0), kind="class", classes=("a", "b", "c"))
    assert three.text().splitlines() == ["start at +1 to a", "ADD -1 to a, +0.5 to b for each unit of age above 50"]


# ---------------------------------------------------------------------- links
def test_links():
    scores = np.array([[1.0, 3.0], [-1.0, -2.0], [1000.0, 1001.0]])
    soft, clipped, plain = (rules(link=link) for link in ("softmax", "normalise", "identity"))
    expected = 1 / (1 + np.exp([2.0, -1.0, 1.0]))
    assert np.allclose(soft.linked(scores), np.column_stack([expected, 1 - expected]), rtol=0, atol=1e-15)
    assert clipped.linked(scores).tolist() == [[0.25, 0.75], [0.5, 0.5], [1000 / 2001, 1001 / 2001]]
    assert plain.linked(scores) is scores
    Z = np.array([[0.0, 0.0]])
    assert np.array_equal(soft.values(Z), soft.linked(soft.scores(Z)))


def test_the_first_of_equal_classes_is_the_answer():
    assert rules(base=(0.5, 0.5)).predict(np.zeros((1, 2))).tolist() == ["no"]
    assert rules(base=(-1.0, -0.5), link="normalise").predict(np.zeros((1, 2))).tolist() == ["no"]


def test_kinds_of_answer():
    Z = np.zeros((2, 2))
    assert rules(kind="probability").predict(Z).tolist() == [[0.2, 0.8]] * 2
    assert rules(classes=(3, 7)).predict(Z).tolist() == [7, 7]
    assert rules(classes=(False, True)).predict(Z).dtype == bool
    assert SUM.predict(Z).shape == (2,)


# ---------------------------------------------------------------------- keeping it
@pytest.mark.parametrize("program", [LIST, SUM, rules(), replace(LIST, exhaustive=True, link="softmax")])
def test_a_program_survives_json(program):
    record = json.loads(json.dumps(program.to_dict(), allow_nan=False))
    again = Program.from_dict(record)
    assert again == program
    assert again.to_dict() == record
    Z = np.array([[30.0, 0], [NAN, -1], [61.0, NAN]])
    assert np.array_equal(again.values(Z), program.values(Z))


def test_a_program_written_before_exhaustive_was_known_is_read():
    record = LIST.to_dict()
    del record["body"]["exhaustive"]
    assert Program.from_dict(record) == LIST


def test_a_newer_format_is_refused():
    with pytest.raises(FormatError, match="expected a program of format 1 or older, got 2; update locum"):
        Program.from_dict({**LIST.to_dict(), "format": 2})


@pytest.mark.parametrize(
    "damage",
    [
        {"format": None},
        {"columns": None},
        {"columns": [{"name": "x", "kind": "odd"}]},
        {"columns": []},
        {"output": {"kind": "class", "classes": None, "link": "identity"}},
        {"output": {"kind": "essay", "classes": ["a", "b"], "link": "identity"}},
        {"body": {"kind": "rules"}},
        {"body": {"kind": "sum", "terms": [{"kind": "code"}], "intercept": [0.0, 0.0]}},
        {"body": None},
    ],
)
def test_what_is_no_program_is_refused(damage):
    with pytest.raises(FormatError, match="this is not a program"):
        Program.from_dict({**LIST.to_dict(), **damage})


# ---------------------------------------------------------------------- parts that do not fit
def wrong_terms():
    value = (1.0, 2.0)
    yield Rule((Condition(2, high=1.0),), value), "there is no column 2"
    yield Rule((Condition(-1),), value), "there is no column -1"
    yield Rule((Condition(0, levels=(0,)),), value), "column 'age' is numeric, not categorical"
    yield Rule((Condition(1, high=0.5),), value), "column 'job' is categorical, not numeric"
    yield Rule((Condition(1, levels=(3,)),), value), "column 'job' has no level 3"
    yield Rule((), (1.0,)), "expected 2 numbers a value, got 1"
    yield Linear(1, value, 0.0, value), "column 'job' is categorical, not numeric"
    yield Linear(0, value, 0.0, (1.0,)), "expected 2 numbers a value, got 1"
    yield Linear(5, value, 0.0, value), "there is no column 5"
    yield Steps(0, (1.0,), (value,), value), "got 1 edges and 1 pieces"
    yield Steps(0, (2.0, 1.0), (value,) * 3, value), "ascending edges"
    yield Steps(0, (1.0, 1.0), (value,) * 3, value), "ascending edges"
    yield Steps(0, (), ((1.0, 2.0, 3.0),), value), "expected 2 numbers a value, got 3"
    yield Levels(1, (value,) * 2, value, value), "expected values of 3 levels, got 2"
    yield Levels(1, (value,) * 3, value, (1.0,)), "expected 2 numbers a value, got 1"
    yield Levels(0, (), value, value), "column 'age' is numeric, not categorical"


@pytest.mark.parametrize(("term", "message"), list(wrong_terms()))
def test_terms_that_do_not_fit_are_refused(term, message):
    with pytest.raises(InvalidData, match=f"term 1 of the program does not fit: .*{message}"):
        total(Rule((), (0.0, 0.0)), term, base=(0.0, 0.0), kind="class", classes=("no", "yes"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": (1.0,)}, "expected 2 numbers a value, got 1"),
        ({"classes": None}, "a program that answers a class needs its classes"),
        ({"kind": "value"}, "a program that answers a value needs no classes"),
        ({"kind": "essay"}, "expected kind to be one of class, probability, value, got 'essay'"),
        ({"link": "tanh"}, "expected link to be one of identity, softmax, normalise, got 'tanh'"),
        ({"body": "tree"}, "expected body to be one of rules, sum, got 'tree'"),
        ({"classes": ("a", "a")}, "expected different classes, at least one"),
        ({"classes": (), "base": ()}, "expected different classes, at least one"),
        ({"classes": (1, "1")}, "classes that are all text or all numbers"),
        ({"terms": (Linear(0, (1.0, 1.0), 0.0, (0.0, 0.0)),)}, "term 0 of the program does not fit: it is no rule"),
    ],
)
def test_programs_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(InvalidData, match=message):
        replace(LIST, **changes)
