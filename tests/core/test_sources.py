"""Exports: what other engines answer is what `Program` answers, whatever the names, the thresholds and the gaps."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys

import duckdb
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest

from locum.core.domain import Column
from locum.core.errors import InvalidData, MissingExtra
from locum.core.export import EXPORTS, to_javascript, to_onnx, to_python, to_sql
from locum.core.program import Condition, Levels, Linear, Program, Rule, Steps
from locum.explain.additive import AdditiveClassifier, AdditiveRegressor
from locum.explain.rule_list import RuleListClassifier
from locum.explain.sparse_linear import SparseLinearClassifier
from locum.explain.tree import TreeClassifier, TreeRegressor

ROWS = 10_000
NODE = shutil.which("node")
HOSTILE = [
    "it's",
    'say "hi"',
    "back\\slash\\",
    "two\nlines\r\u2028",
    "</script><script>alert(1)</script>",
    "{{7*7}} ${7*7} `x` %s {0}",
    "x; DROP TABLE rows; --",
    "/* */ // # <!--",
    "select",
    "Größe 😀 \u202e\u05d0",
    "__proto__",
    "constructor",
    "' OR '1'='1",
    "None",
    " ",
    "\x1b\x07",
    "t0",
    "values",
    "rows",
    "locum_label",
]
COLUMNS = (
    Column("x", low=-3.0, high=3.0, missing=True),
    Column("count", low=-5.0, high=5.0, integer=True),
    Column("letter", "categorical", levels=("a", "b", "c", "d"), missing=True),
    Column("amount", low=0.0, high=9.0, missing=True),
    Column("code", "categorical", levels=(1, 2.5, 7), missing=True),
    Column("flag", "categorical", levels=(False, True)),
)
OUTPUTS = [
    ("class", ("no", "yes"), "identity"),
    ("class", ("low", "middle", "high"), "softmax"),
    ("class", (False, True), "normalise"),
    ("class", (3, 1, 2), "softmax"),
    ("probability", ("no", "yes"), "softmax"),
    ("probability", (1, 2, 3, 4), "normalise"),
    ("class", (0.5, 1.5), "identity"),
    ("class", ("only",), "softmax"),
    ("value", None, "identity"),
]


# ---------------------------------------------------------------------- programs and rows
def random_condition(rng, column, j):
    missing = bool(rng.random() < 0.3)
    if column.kind == "categorical":
        if rng.random() < 0.1:
            return Condition(j, missing=missing)
        return Condition(j, levels=tuple(np.flatnonzero(rng.random(len(column.levels)) < 0.6).tolist()), missing=missing)
    low, high = sorted((rng.uniform(column.low, column.high, 2) if rng.random() < 0.7 else rng.integers(-2, 3, 2) / 2).tolist())
    shape = rng.integers(4)
    return Condition(j, low if shape in (0, 2) else None, high if shape in (1, 2) else None, missing=missing)


def random_rule(rng, columns, value):
    chosen = rng.choice(len(columns), rng.integers(1, min(4, len(columns) + 1)), replace=False)
    return Rule(tuple(random_condition(rng, columns[j], int(j)) for j in sorted(chosen)), value(), float(rng.integers(1, 90)))


def random_term(rng, columns, value):
    j = int(rng.integers(len(columns)))
    column, kind = columns[j], rng.integers(3)
    if kind == 0:
        return random_rule(rng, columns, value)
    if column.kind == "categorical":
        some = [value(), value()]
        return Levels(j, tuple(some[i] for i in rng.integers(2, size=len(column.levels))), value(), value())
    if kind == 1:
        return Linear(j, value(), float(rng.uniform(column.low, column.high)), value())
    edges = np.unique(rng.uniform(column.low, column.high, rng.integers(0, 8)))
    return Steps(j, tuple(edges.tolist()), tuple(value() for _ in range(len(edges) + 1)), value())


def random_program(seed, body, kind, classes, link, columns=COLUMNS, terms=None):
    rng = np.random.default_rng(seed)
    width = len(classes) if classes else 1
    make = random_rule if body == "rules" else random_term

    def value():
        return tuple(rng.normal(size=width).tolist())

    count = rng.integers(1, 14) if terms is None else terms
    return Program(columns, kind, classes, link, body, tuple(make(rng, columns, value) for _ in range(count)), value())


def thresholds(program, j):
    cuts = []
    for term in program.terms:
        for condition in getattr(term, "conditions", ()):
            if condition.column == j:
                cuts += [bound for bound in (condition.low, condition.high) if bound is not None]
        if getattr(term, "column", None) == j:
            cuts += [*getattr(term, "edges", ()), *([term.center] if isinstance(term, Linear) else [])]
    return np.array(cuts or [0.0])


def random_rows(program, dtype=np.float64, n=ROWS, seed=0):
    """Encoded rows: anywhere, exactly at thresholds and next to them on both sides, missing, and unknown categories."""
    rng = np.random.default_rng(seed)
    Z = np.empty((n, len(program.columns)))
    for j, column in enumerate(program.columns):
        if column.kind == "categorical":
            Z[:, j] = rng.integers(-1, len(column.levels), n)
        else:
            at = rng.choice(thresholds(program, j), n).astype(dtype)
            near = np.stack([at, np.nextafter(at, dtype(-np.inf)), np.nextafter(at, dtype(np.inf)), -at])
            away = rng.uniform(column.low - 1, column.high + 1, n).astype(dtype)
            Z[:, j] = np.where(rng.random(n) < 0.5, near[rng.integers(4, size=n), np.arange(n)], away)
            if column.integer:
                Z[:, j] = np.where(rng.random(n) < 0.3, np.round(Z[:, j]), Z[:, j])
        Z[rng.random(n) < 0.15, j] = np.nan
    return Z


def is_text(column):
    return any(isinstance(level, str) for level in column.levels)


def raw(program, Z, missing=None):
    """Encoded rows as columns of plain values; what is missing is `missing`."""
    out = {}
    for column, z in zip(program.columns, Z.T, strict=True):
        if column.kind == "numeric":
            out[column.name] = [missing if np.isnan(v) else v for v in z.tolist()]
        else:
            unknown = "never seen" if is_text(column) else 99.5
            table = [*column.levels, unknown, missing]
            slot = np.where(np.isnan(z), len(column.levels) + 1, np.where(z < 0, len(column.levels), z)).astype(int)
            out[column.name] = [table[i] for i in slot]
    return out


# ---------------------------------------------------------------------- engines: values (n, k), and labels where there are any
def by_python(program, Z, folder):
    path = folder / f"standin_{id(program)}.py"
    path.write_text(to_python(program), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    columns = raw(program, Z)
    odd = raw(program, Z, missing=float("nan"))
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    rows[::2] = [dict(zip(odd, row, strict=True)) for row in zip(*odd.values(), strict=True)][::2]
    values = np.array([module.values(row) for row in rows])
    return values, [module.predict(row) for row in rows]


DRIVER = """
import {{ readFileSync, writeFileSync }} from "node:fs";
import {{ predict, values }} from "./standin.mjs";
const columns = JSON.parse(readFileSync("rows.json", "utf8"), (key, value) => (value === "NaN!" ? NaN : value));
const rows = columns[0].values.map((_, i) => {{
  const row = Object.create(null);
  for (const column of columns) row[column.name] = column.values[i];
  return row;
}});
writeFileSync("out.json", JSON.stringify(rows.map((row) => [values(row), predict(row)])));
"""


def by_javascript(program, Z, folder):
    (folder / "standin.mjs").write_text(to_javascript(program), encoding="utf-8")
    (folder / "run.mjs").write_text(DRIVER.format(), encoding="utf-8")
    columns = raw(program, Z)
    odd = raw(program, Z, missing="NaN!")
    mixed = [{"name": name, "values": [*columns[name][: ROWS // 2], *odd[name][ROWS // 2 :]]} for name in columns]
    (folder / "rows.json").write_text(json.dumps(mixed), encoding="utf-8")
    ran = subprocess.run([NODE, "run.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    return np.array([values for values, _ in found]), [label for _, label in found]


def name(text):
    return '"' + text.replace('"', '""') + '"'


def split(program, found):
    """Answers of a query that gives the key first."""
    found = sorted(found)
    if program.kind == "value":
        return np.array([row[1] for row in found])[:, None], None
    return np.array([row[2:] for row in found], dtype=float), [row[1] for row in found]


def by_sqlite(program, Z, folder, table="rows"):
    columns = raw(program, Z)
    connection = sqlite3.connect(":memory:")
    kinds = ["TEXT COLLATE NOCASE" if is_text(column) else "REAL" for column in program.columns]
    connection.execute(
        f"CREATE TABLE {name(table)} (key INTEGER, {', '.join(f'{name(c)} {k}' for c, k in zip(columns, kinds, strict=True))})"
    )
    rows = zip(range(len(Z)), *columns.values(), strict=True)
    connection.executemany(f"INSERT INTO {name(table)} VALUES (?{', ?' * len(columns)})", rows)
    found = connection.execute(to_sql(program, table=table, columns=["key"])).fetchall()
    connection.close()
    values, labels = split(program, found)
    if labels is not None and isinstance(program.classes[0], bool):
        labels = [bool(label) for label in labels]
    return values, labels


def by_duckdb(program, Z, folder, table="rows"):
    frame = pd.DataFrame({"key": np.arange(len(Z))})
    for i, (column, values) in enumerate(zip(program.columns, raw(program, Z).values(), strict=True)):
        frame[f"c{i}"] = pd.Series(values, dtype=object) if is_text(column) else np.array(values, dtype=float)
    connection = duckdb.connect()
    # Every other number that is missing is NaN, and not NULL; DuckDB tells them apart.
    nan = "CASE WHEN c{0} IS NOT NULL THEN c{0} WHEN key % 2 = 0 THEN 'nan'::DOUBLE END"
    chosen = ", ".join(
        f"{f'c{i}' if is_text(column) else nan.format(i)} AS {name(column.name)}" for i, column in enumerate(program.columns)
    )
    connection.execute(f"CREATE TABLE {name(table)} AS SELECT key, {chosen} FROM frame")
    if len(Z) == ROWS:
        gaps = connection.execute(f"SELECT count(x), count(CASE WHEN isnan(x) THEN 1 END) FROM {name(table)}").fetchone()
        assert 0 < gaps[1] < np.isnan(Z[:, 0]).sum() == len(Z) - gaps[0] + gaps[1]
    found = connection.execute(to_sql(program, table=table, dialect="duckdb", columns=["key"])).fetchall()
    connection.close()
    return split(program, found)


def by_onnx(program, Z, folder, precision="float64"):
    model = to_onnx(program, precision=precision)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    missing = json.loads(session.get_modelmeta().custom_metadata_map["missing_text"])
    feed = {}
    for column, values in zip(program.columns, raw(program, Z).values(), strict=True):
        if is_text(column):
            feed[column.name] = np.array([missing[column.name] if v is None else v for v in values], dtype=object)
        else:
            feed[column.name] = np.array(values, dtype=precision)
    found = session.run(None, feed)
    assert found[-1].dtype == precision
    return (found[0][:, None], None) if program.kind == "value" else (found[1], found[0].tolist())


needs_node = pytest.mark.skipif(NODE is None, reason="needs node, to run what is exported to JavaScript")
ENGINES = [by_python, pytest.param(by_javascript, marks=needs_node), by_sqlite, by_duckdb, by_onnx]


def check(engine, program, folder, Z=None, tolerance=1e-9, **settings):
    Z = random_rows(program) if Z is None else Z
    values, labels = engine(program, Z, folder, **settings)
    expected = program.values(Z)
    assert values.shape == expected.shape
    assert np.abs(values - expected).max() <= tolerance * max(1.0, np.abs(expected).max())
    if program.classes is not None and not isinstance(labels[0], list):
        answers = [program.classes[k] for k in expected.argmax(axis=1)]
        assert labels == answers
        assert {type(label) for label in labels} == {type(label) for label in answers}
    elif labels is not None:  # predict() of a program that answers with numbers
        assert np.array_equal(np.reshape(labels, values.shape), values)


# ---------------------------------------------------------------------- equal answers
CASES = [
    pytest.param(seed, body, *OUTPUTS[i], id=f"{body}-{'-'.join(map(str, OUTPUTS[i]))}")
    for seed, (body, i) in enumerate([("rules", i) for i in (0, 2, 8)] + [("sum", i) for i in (1, 2, 3, 5, 6, 7, 8)])
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("seed", "body", "kind", "classes", "link"), CASES)
def test_every_engine_gives_the_values_and_labels_of_the_program(engine, seed, body, kind, classes, link, tmp_path):
    check(engine, random_program(seed, body, kind, classes, link), tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_by_hand_with_every_kind_of_term(engine, tmp_path):
    terms = (
        Rule((Condition(0, 0.1, 0.7), Condition(2, levels=(1, 3), missing=True)), (1.0, -1.0)),
        Rule((), (0.5, 0.25)),
        Steps(3, (0.1 + 0.2, 1.0, 1.0000000000000002), ((1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (4.0, 0.0)), (0.0, 7.0)),
        Steps(1, (), ((0.125, 0.0),), (0.0, 8.0)),
        Levels(2, ((0.0, 1.0), (0.0, 2.0), (0.0, 1.0), (0.0, 4.0)), (9.0, 0.0), (0.0, 9.0)),
        Levels(4, ((0.5, 0.0), (0.25, 0.0), (0.5, 0.0)), (0.0, 0.5), (0.0, 0.0)),
        Linear(0, (-0.5, 0.75), -1.5, (0.0, 0.3)),
    )
    program = Program(COLUMNS, "class", ("no", "yes"), "identity", "sum", terms, (-2.0, 1e-7))
    row = np.array([[0.5, np.nan, 1.0, 0.1 + 0.2, -1.0, 0.0]])
    by_hand = [-2.0 + 1.0 + 0.5 + 1.0 + 0.0 + 0.0 + 0.0 - 1.0, 1e-7 - 1.0 + 0.25 + 0.0 + 8.0 + 2.0 + 0.0 + 1.5]
    assert np.allclose(program.values(row), [by_hand], rtol=0, atol=1e-12)
    check(engine, program, tmp_path, Z=np.vstack([row, random_rows(program, n=2000)]))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("body", ["rules", "sum"])
def test_a_program_without_terms_answers_always_the_same(engine, body, tmp_path):
    check(engine, random_program(3, body, "class", ("no", "yes"), "softmax", terms=0), tmp_path, Z=np.full((3, 6), np.nan))


@pytest.mark.parametrize("engine", ENGINES)
def test_many_terms_and_many_classes(engine, tmp_path):
    many = tuple(f"class {k}" for k in range(151))  # more than SQLite takes as arguments
    program = random_program(8, "sum", "class", many, "softmax", terms=3)
    check(engine, program, tmp_path, Z=random_rows(program, n=200))
    program = random_program(9, "sum", "value", None, "identity", terms=300)
    check(engine, program, tmp_path, Z=random_rows(program, n=200))
    program = random_program(10, "rules", "class", ("no", "yes"), "identity", terms=400)
    check(engine, program, tmp_path, Z=random_rows(program, n=200))


def table(n=600, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n).astype(float),
            "income": rng.lognormal(10, 1, n),
            "job": rng.choice(["clerk", "nurse", "smith", "weaver"], n),
            "town": rng.choice(["A", "B", "C"], n),
        }
    )
    frame.loc[rng.random(n) < 0.1, "income"] = np.nan
    frame.loc[rng.random(n) < 0.1, "job"] = None
    y = (frame["age"] > 40).to_numpy().astype(int) + ((frame["income"] > 20000) & (frame["job"] != "smith")).to_numpy()
    return frame, y


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "model",
    [
        TreeClassifier(max_rules=6),
        RuleListClassifier(max_rules=5),
        AdditiveClassifier(max_statements=12, iterations=20),
        SparseLinearClassifier(max_terms=4),
        TreeRegressor(max_rules=6),
        AdditiveRegressor(max_statements=9, iterations=20),
    ],
    ids=lambda model: type(model).__name__,
)
def test_fitted_models(engine, model, tmp_path):
    frame, y = table()
    program = model.fit(frame, y).program_
    check(engine, program, tmp_path, Z=random_rows(program, n=1000))


# ---------------------------------------------------------------------- names and categories that want to be code
def hostile_program(names):
    columns = tuple(
        Column(text, low=0.0, high=1.0, missing=True)
        if i % 2
        else Column(text, "categorical", levels=tuple(sorted({"", *HOSTILE[i:], *HOSTILE[:2]})), missing=True)
        for i, text in enumerate(names)
    )
    rules = [
        Rule((Condition(j, levels=(0, 2)) if column.kind == "categorical" else Condition(j, high=0.2),), (float(j), 30.0 - j))
        for j, column in enumerate(columns)
    ]
    terms = [
        Levels(j, tuple((float(i), 0.0) for i in range(len(column.levels))), (0.5, 0.0), (0.25, 0.0))
        if column.kind == "categorical"
        else Linear(j, (1.0, 0.0), 0.5, (0.125, 0.0))
        for j, column in enumerate(columns)
    ]
    yield Program(columns, "class", (HOSTILE[0], HOSTILE[4]), "identity", "rules", tuple(rules), (1.0, 2.0))
    yield Program(columns, "class", (HOSTILE[3], ""), "identity", "sum", (*terms, *rules), (1.0, 2.0))


@pytest.mark.parametrize("engine", ENGINES)
def test_hostile_names_categories_and_classes_are_only_text(engine, tmp_path):
    nameless = [""] if engine in (by_python, by_javascript, by_sqlite) else []
    settings = {"table": HOSTILE[6]} if engine in (by_sqlite, by_duckdb) else {}
    for program in hostile_program([*HOSTILE, "label", "value_0", *nameless]):
        check(engine, program, tmp_path, Z=random_rows(program, n=300), **settings)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_category_with_a_null_character(engine, tmp_path):
    column = Column("c", "categorical", levels=("a\0b", "a", "\0"))
    shape = Levels(0, ((1.0,), (2.0,), (3.0,)), (4.0,), (5.0,))
    program = Program((column,), "value", None, "identity", "sum", (shape,), (0.0,))
    check(engine, program, tmp_path, Z=np.array([[0.0], [1.0], [2.0], [-1.0], [np.nan]]))


def test_what_stands_in_a_page_ends_no_script():
    for program in hostile_program(HOSTILE):
        source = to_javascript(program)
        assert source.isascii()
        assert to_python(program).isascii()
        assert "</" not in source
        assert "<!--" not in source


def test_no_text_of_the_data_reaches_the_lines_where_python_looks_for_an_encoding():
    column = Column("-*- coding: rot13 -*-", "categorical", levels=("coding: utf-7",))
    program = Program((column,), "class", ("coding: cp037",), "identity", "rules", (), (1.0,))
    assert "coding" not in "".join(to_python(program).splitlines()[:2])


# ---------------------------------------------------------------------- thresholds in every precision
def misread_by_sqlite(rng):
    """Numbers whose digits this SQLite reads as another number, if there are any."""
    connection = sqlite3.connect(":memory:")
    found = []
    for numbers in rng.normal(size=(100, 500)).tolist():
        read = connection.execute(f"SELECT {', '.join(map(repr, numbers))}").fetchone()
        found += [number for number, other in zip(numbers, read, strict=True) if number != other]
    connection.close()
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_thresholds_are_exact_to_the_last_bit(engine, tmp_path):
    rng = np.random.default_rng(7)
    few = [0.1, 0.15, -0.0, 1e22, 5e-324, -5e-324, 1.7976931348623157e308, 0.1 + 0.2, 2.5, 1e15 + 0.5, *misread_by_sqlite(rng)]
    spread = np.ldexp(rng.uniform(1, 2, 60), rng.integers(-1060, 1000, 60)) * rng.choice([-1, 1], 60)
    edges = np.unique(np.concatenate([rng.normal(size=200), spread, few])).tolist()
    values = tuple((float(i),) for i in range(len(edges) + 1))
    program = Program((Column("x"),), "value", None, "identity", "sum", (Steps(0, tuple(edges), values, (-1.0,)),), (0.0,))
    at = np.array(edges)[:, None]
    check(engine, program, tmp_path, Z=np.vstack([at, np.nextafter(at[1:], -np.inf), np.nextafter(at[:-1], np.inf)]))


@pytest.mark.parametrize(("seed", "body", "kind", "classes", "link"), CASES)
def test_onnx_in_single_precision_takes_the_same_branches(seed, body, kind, classes, link, tmp_path):
    program = random_program(50 + seed, body, kind, classes, link)
    Z = random_rows(program, dtype=np.float32)
    values, _ = by_onnx(program, Z, tmp_path, precision="float32")
    expected = program.values(Z)
    sizes = sum(np.abs(term.contribution(Z)) for term in program.terms) if body == "sum" else np.abs(expected)
    assert (np.abs(values - expected) <= 1e-6 * np.maximum(1.0, sizes).max(axis=1, keepdims=True)).all()


def test_onnx_in_single_precision_keeps_the_label_of_a_rule():
    rules = (Rule((Condition(0, high=0.0),), (0.5 - 1e-12, 0.5 + 1e-12)),)
    program = Program((Column("x"),), "class", ("no", "yes"), "identity", "rules", rules, (0.5 + 1e-12, 0.5 - 1e-12))
    _, labels = by_onnx(program, np.array([[0.0], [1.0]]), None, precision="float32")
    assert labels == ["yes", "no"]


# ---------------------------------------------------------------------- what each language has of its own
def simple_program(**changes):
    columns = (Column("x"), Column("letter", "categorical", levels=("a", "b"), missing=True))
    rules = (Rule((Condition(0, high=0.5),), (1.0,)), Rule((Condition(1, levels=(0,), missing=True),), (2.0,)))
    settings = {"kind": "value", "classes": None, "link": "identity", "body": "rules", "terms": rules, "base": (3.0,)}
    return Program(columns, **{**settings, **changes})


def test_python_reads_rows_as_the_program_does():
    space = {}
    exec(to_python(simple_program()), space)
    predict = space["predict"]
    assert predict({"x": 0.5, "letter": "b"}) == 1.0
    assert predict({"x": np.float32(0.75), "letter": "b"}) == 3.0
    assert predict({}) == predict({"x": None, "letter": None}) == predict({"x": pd.NA, "letter": pd.NaT}) == 2.0
    assert predict({"x": float("nan"), "letter": "c"}) == 3.0
    assert predict(pd.Series({"x": True, "letter": "a"})) == 2.0
    with pytest.raises(TypeError, match="'x': expected a number, got '1'"):
        predict({"x": "1"})


def test_python_is_readable():
    source = to_python(simple_program())
    assert "    # letter is a or missing\n    if (x1 is None or x1 in (0,)):\n        return [2.0]\n" in source
    assert "import" not in source


@needs_node
def test_javascript_reads_rows_as_the_program_does(tmp_path):
    (tmp_path / "standin.mjs").write_text(to_javascript(simple_program()))
    rows = (
        "[{x: 0.5, letter: 'b'}, {}, {x: undefined, letter: null}, {x: NaN, letter: 'c'}, {x: true, letter: 'a'},"
        " {x: 7n, letter: 'b'}]"
    )
    script = (
        "import('./standin.mjs').then(({ predict }) => {"
        f" console.log(JSON.stringify({rows}.map(predict)));"
        " try { predict({ x: '1' }); } catch (error) { console.log(error.message); } })"
    )
    ran = subprocess.run([NODE, "-e", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[1,2,2,3,2,3]", "column x: expected a number, got 1"]


@needs_node
def test_javascript_takes_no_column_from_what_every_object_has(tmp_path):
    column = Column("constructor", "categorical", levels=("a",), missing=True)
    shape = Levels(0, ((1.0,),), (2.0,), (3.0,))
    (tmp_path / "standin.mjs").write_text(to_javascript(Program((column,), "value", None, "identity", "sum", (shape,), (0.0,))))
    script = "import('./standin.mjs').then(({ predict }) => console.log(predict({}), predict({ constructor: 'a' })))"
    ran = subprocess.run([NODE, "-e", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "2 1\n"


@pytest.mark.parametrize("dialect", ["sqlite", "duckdb"])
def test_sql_gives_back_the_columns_asked_for(dialect):
    program = simple_program(kind="class", classes=("no", "yes"), terms=(), base=(0.25, 0.75))
    connection = sqlite3.connect(":memory:") if dialect == "sqlite" else duckdb.connect()
    connection.execute("CREATE TABLE rows (id INTEGER, x DOUBLE PRECISION, letter TEXT, locum_label TEXT)")
    connection.execute("INSERT INTO rows VALUES (7, 0.5, 'a', 'b')")

    def run(**settings):
        cursor = connection.execute(to_sql(program, dialect=dialect, **settings))
        return [column[0] for column in cursor.description], cursor.fetchall()

    assert run() == (["x", "letter", "locum_label", "locum_value_0", "locum_value_1"], [(0.5, "a", "yes", 0.25, 0.75)])
    assert run(columns=[]) == (["locum_label", "locum_value_0", "locum_value_1"], [("yes", 0.25, 0.75)])
    names, rows = run(columns=["id", "locum_label"])
    assert names == ["id", "locum_label", "locum__label", "locum__value_0", "locum__value_1"]
    assert rows == [(7, "b", "yes", 0.25, 0.75)]
    connection.close()


def test_sqlite_reads_a_table_of_text():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE rows (x TEXT, letter TEXT)")
    connection.executemany("INSERT INTO rows VALUES (?, ?)", [("0.50", "b"), ("9", "b"), ("", "a"), ("1e-1", "b")])
    found = connection.execute(to_sql(simple_program())).fetchall()
    connection.close()
    assert [value for _, _, value in found] == [1.0, 3.0, 2.0, 1.0]


def test_sqlite_tells_capitals_apart_whatever_the_column_says():
    column = Column("c", "categorical", levels=("A", "a"))
    program = Program((column,), "value", None, "identity", "sum", (Levels(0, ((1.0,), (2.0,)), (0.0,), (0.0,)),), (0.0,))
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE rows (c TEXT COLLATE NOCASE)")
    connection.executemany("INSERT INTO rows VALUES (?)", [("a",), ("A",)])
    found = connection.execute(to_sql(program)).fetchall()
    connection.close()
    assert found == [("a", 2.0), ("A", 1.0)]


def test_duckdb_takes_categories_for_text_whatever_the_column_says():
    column = Column("c", "categorical", levels=("1", "many"))
    program = Program((column,), "value", None, "identity", "sum", (Levels(0, ((1.0,), (2.0,)), (0.0,), (7.0,)),), (0.0,))
    connection = duckdb.connect()
    connection.execute("CREATE TABLE rows (c INTEGER)")
    connection.execute("INSERT INTO rows VALUES (1), (2)")
    found = connection.execute(to_sql(program, dialect="duckdb")).fetchall()
    connection.close()
    assert found == [(1, 1.0), (2, 7.0)]


def test_sqlite_takes_no_column_that_is_not_there_for_text():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE rows (letter TEXT)")
    with pytest.raises(sqlite3.OperationalError, match="no such column"):
        connection.execute(to_sql(simple_program(), columns=[]))
    connection.close()


def test_duckdb_reads_other_types_of_column():
    connection = duckdb.connect()
    connection.execute("CREATE TABLE rows (x DECIMAL(5, 2), letter ENUM ('q', 'b'))")
    connection.execute("INSERT INTO rows VALUES (0.50, 'q'), (0.51, 'b'), (NULL, NULL)")
    found = connection.execute(to_sql(simple_program(), dialect="duckdb")).fetchall()
    connection.close()
    assert [value for _, _, value in found] == [1.0, 3.0, 2.0]


def test_onnx_outputs_keep_clear_of_columns():
    columns = (Column("label"), Column("values"))
    model = to_onnx(Program(columns, "class", (1, 2), "identity", "rules", (), (0.0, 1.0)))
    session = onnxruntime.InferenceSession(model)
    assert [one.name for one in session.get_inputs()] == ["label", "values"]
    assert [one.name for one in session.get_outputs()] == ["label_", "values_"]


def test_the_same_program_gives_the_same_text():
    for name_, export in EXPORTS.items():
        assert export(simple_program()) == export(simple_program()), name_


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize("export", EXPORTS.values())
def test_what_no_language_can_say_is_refused(export):
    with pytest.raises(InvalidData, match="not finite"):
        export(simple_program(base=(float("nan"),)))
    with pytest.raises(InvalidData, match="not finite"):
        export(simple_program(terms=(Rule((Condition(0, low=float("-inf")),), (1.0,)),)))
    with pytest.raises(InvalidData, match="half a character"):
        export(Program((Column("\ud800"),), "value", None, "identity", "rules", (), (1.0,)))
    with pytest.raises(InvalidData, match="the answer has codes beyond"):
        export(Program((Column("x"),), "class", (1, 2**60), "identity", "rules", (), (1.0, 0.0)))
    with pytest.raises(InvalidData, match="column 'c' has codes beyond"):
        export(Program((Column("c", "categorical", levels=(1, 2**60)),), "value", None, "identity", "rules", (), (1.0,)))


def named(*names):
    return Program(tuple(Column(name) for name in names), "value", None, "identity", "rules", (), (1.0,))


def test_what_sql_cannot_say_is_refused():
    with pytest.raises(InvalidData, match="dialect to be one of sqlite, duckdb, got 'mysql'"):
        to_sql(simple_program(), dialect="mysql")
    with pytest.raises(InvalidData, match="cannot tell the columns 'Age', 'age' apart"):
        to_sql(named("Age", "age"))
    for settings in ({"table": "a\0"}, {"columns": ["a\0"]}, {"table": "", "dialect": "duckdb"}):
        with pytest.raises(InvalidData, match="cannot hold the name"):
            to_sql(simple_program(), **settings)


def test_what_onnx_cannot_say_is_refused(monkeypatch):
    with pytest.raises(InvalidData, match="precision to be one of float64, float32, got 'half'"):
        to_onnx(simple_program(), precision="half")
    with pytest.raises(InvalidData, match="input without a name"):
        to_onnx(named(""))
    with pytest.raises(InvalidData, match="beyond float32"):
        to_onnx(simple_program(base=(1e300,)), precision="float32")
    close = Column("c", "categorical", levels=(1, 1.000000001))
    shape = Levels(0, ((1.0,), (2.0,)), (0.0,), (0.0,))
    with pytest.raises(InvalidData, match="one in float32"):
        to_onnx(Program((close,), "value", None, "identity", "sum", (shape,), (0.0,)), precision="float32")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"pip install 'locum\[onnx\]'"):
        to_onnx(simple_program())
