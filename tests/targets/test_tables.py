"""Tables of recorded answers: what was written is what is read, and what is no table of answers is refused."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.targets import read_csv, read_table, recorded

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'locum[tables]'")
import pyarrow.csv  # noqa: E402
import pyarrow.feather  # noqa: E402
import pyarrow.parquet  # noqa: E402

PLAIN = pa.table({"size": [1.5, 2.5, 0.5], "colour": ["red", "blue", "réd"], "sold": [True, False, True], "y": [3, 1, 2]})


@pytest.fixture
def duckdb():
    return pytest.importorskip("duckdb", reason="needs duckdb: pip install 'locum[tables]'")


def write_parquet(table, path):
    pyarrow.parquet.write_table(table, path)
    return path


def write_feather(table, path):
    pyarrow.feather.write_feather(table, path)
    return path


def write_arrow_file(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return path


def write_arrow_stream(table, path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return path


FORMATS = [
    (write_parquet, "t.parquet"),
    (write_feather, "t.feather"),
    (write_arrow_file, "t.arrow"),
    (write_arrow_stream, "t.arrow"),
]


def read(table, answer, tmp_path, **settings):
    return read_table(write_parquet(table, tmp_path / "t.parquet"), answer, **settings)


# ------------------------------------------------------------------ what is read
@pytest.mark.parametrize(("write", "name"), FORMATS, ids=lambda value: getattr(value, "__name__", value))
def test_every_format_gives_the_same_rows_and_answers(tmp_path, write, name):
    rows, answers = read_table(write(PLAIN, tmp_path / name), "y")
    assert rows.dtype.names == ("size", "colour", "sold")
    assert [rows.dtype[i].kind for i in range(3)] == ["f", "U", "b"]
    assert rows.tolist() == [(1.5, "red", True), (2.5, "blue", False), (0.5, "réd", True)]
    assert answers.dtype == np.int64
    assert answers.tolist() == [3, 1, 2]
    np.testing.assert_array_equal(recorded(rows, answers).query(rows[[2, 0]]), [2, 3])


def test_csv_is_read_as_read_csv_reads_it(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("size,colour,y\n1.5,red,3\nNA,?,1\n")
    rows, answers = read_table(str(path), "y")
    expected, said = read_csv(path, "y")
    assert rows.tolist()[0] == expected.tolist()[0] == (1.5, "red")
    assert np.isnan(rows["size"][1])
    assert rows["colour"][1] == expected["colour"][1] == ""
    np.testing.assert_array_equal(answers, said)


def test_columns_can_be_picked_and_ordered_and_several_be_answers(tmp_path):
    rows, answers = read(PLAIN, ["y", "size"], tmp_path, columns=["sold", "colour"])
    assert rows.dtype.names == ("sold", "colour")
    np.testing.assert_array_equal(answers, [[3, 1.5], [1, 2.5], [2, 0.5]])
    rows, answers = read(PLAIN, ["y"], tmp_path)
    assert answers.tolist() == [3, 1, 2]


def test_missing_values_decimals_and_categories(tmp_path):
    table = pa.table(
        {
            "whole": pa.array([1, None], pa.int32()),
            "flag": pa.array([True, None]),
            "text": pa.array(["a", None]).dictionary_encode(),
            "price": pa.array([Decimal("1.25"), None]),
            "count": pa.array([Decimal(7), Decimal(-2)]),
            "huge": pa.array([2**60 + 1, 5], pa.int64()),
            "half": pa.array([0.5, 1.0], pa.float16()),
            "wide": pa.array(["x", "y"], pa.string_view()),
            "y": ["no", "yes"],
        }
    )
    rows, answers = read(table, "y", tmp_path)
    assert rows.tolist()[0] == (1.0, 1.0, "a", 1.25, 7, 2**60 + 1, 0.5, "x")
    assert np.isnan([rows["whole"][1], rows["flag"][1], rows["price"][1]]).all()
    assert rows["text"][1] == ""
    assert rows["count"].dtype == rows["huge"].dtype == np.int64
    assert answers.tolist() == ["no", "yes"]


def test_a_folder_of_parquet_files(tmp_path):
    folder = tmp_path / "t.parquet"
    folder.mkdir()
    write_parquet(PLAIN.slice(0, 2), folder / "part-0.parquet")
    write_parquet(PLAIN.slice(2), folder / "part-1.parquet")
    assert read_table(folder, "y")[1].tolist() == [3, 1, 2]


def test_a_query_reads_files_and_databases(tmp_path, duckdb):
    path = write_parquet(PLAIN, tmp_path / "t.parquet")
    rows, answers = read_table(f"duckdb:SELECT size * 2 AS twice, sold, y FROM '{path}' WHERE size > 1 ORDER BY y", "y")
    assert rows.tolist() == [(5.0, False), (3.0, True)]
    assert answers.tolist() == [1, 3]
    with duckdb.connect(str(tmp_path / "d.duckdb")) as connection:
        connection.execute("CREATE TABLE sales AS SELECT 1 AS a, 2.5 AS price, 'x' AS y")
    rows, answers = read_table("duckdb:FROM sales", "y", database=tmp_path / "d.duckdb")
    assert rows.tolist() == [(1, 2.5)]
    assert answers.tolist() == ["x"]
    sums, _ = read_table("duckdb:SELECT sum(range) AS total, 1 AS y FROM range(4)", "y")
    assert sums["total"].tolist() == [6]  # DuckDB adds up in 128 bits


# ------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"when": [datetime.date(2024, 1, 1)]}, r"column 'when' holds date32\[day\].*turn times into numbers"),
        ({"span": [datetime.timedelta(1)]}, "column 'span' holds duration"),
        ({"many": [[1.0, 2.0]]}, "column 'many' holds list<.*take numbers or text out of it"),
        ({"raw": [b"x"]}, "column 'raw' holds binary"),
        ({"none": pa.nulls(1)}, "column 'none' holds null"),
    ],
)
def test_columns_that_are_no_numbers_and_no_text(tmp_path, columns, message):
    table = pa.table({**columns, "x": [1], "y": [1]})
    with pytest.raises(InvalidData, match=message):
        read(table, "y", tmp_path)


@pytest.mark.parametrize(
    ("table", "answer", "settings", "message"),
    [
        (PLAIN, "z", {}, "t.parquet has no column 'z'; its columns are size, colour, sold, y"),
        (PLAIN, "y", {"columns": ["size", "z"]}, "has no column 'z'"),
        (PLAIN, "y", {"columns": ["size", "y"]}, "none an answer, got size, y"),
        (PLAIN, "y", {"columns": ["size", "size"]}, "each once"),
        (PLAIN, "y", {"columns": []}, "at least one column"),
        (PLAIN, [], {}, "name one column"),
        (PLAIN, ["y", "y"], {}, "several once each"),
        (PLAIN, ["y", "colour"], {}, "column 'colour' is text"),
        (PLAIN.slice(0, 0), "y", {}, "one row, got 4 and 0"),
        (PLAIN.select(["y"]), "y", {}, "at least two columns and one row, got 1 and 3"),
        (pa.table({"x": [1, 2], "y": [0.5, None]}), "y", {}, "row 1 has no answer in column 'y'"),
        (pa.table({"x": [1, 2], "y": ["a", None]}), "y", {}, "row 1 has no answer in column 'y'"),
        (PLAIN, "y", {"database": "d.duckdb"}, "database= is for queries"),
    ],
)
def test_tables_that_hold_no_rows_and_answers(tmp_path, table, answer, settings, message):
    with pytest.raises(InvalidData, match=message):
        read(table, answer, tmp_path, **settings)


@pytest.mark.parametrize(("write", "name"), FORMATS, ids=lambda value: getattr(value, "__name__", value))
def test_a_name_that_comes_twice(tmp_path, write, name):
    table = pa.table([[1], [2], [3]], names=["x", "x", "y"])
    with pytest.raises(InvalidData, match=r"to name each column once, got x|Multiple matches .*x"):
        read_table(write(table, tmp_path / name), "y")


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.feather"])
@pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"PAR1", b"ARROW1\x00\x00"])
def test_files_that_are_no_table(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidData, match=f"cannot read .*{name}"):
        read_table(tmp_path / name, "y")


def test_files_that_are_not_there_or_of_no_known_kind(tmp_path):
    for name in ("t.parquet", "t.feather", "t.csv"):
        with pytest.raises(InvalidData, match="cannot read"):
            read_table(tmp_path / name, "y")
    with pytest.raises(InvalidData, match=r"ending in .parquet, .arrow, .feather, .csv, or 'duckdb:SELECT"):
        read_table("t.xlsx", "y")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELEC 1", "DuckDB cannot run 'SELEC 1'"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("COPY (SELECT 1) TO 'out.csv'", "expected one SELECT after 'duckdb:'"),
        ("SELECT 1 AS x, 2 AS y; DROP TABLE t", "expected one SELECT"),
        ("", "expected one SELECT"),
        ("CREATE TABLE t (x int)", "expected one SELECT"),
        ("SELECT 1 AS x, 2 AS z", "the query has no column 'y'"),
    ],
)
def test_queries_that_give_no_table(tmp_path, monkeypatch, duckdb, query, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidData, match=message):
        read_table(f"duckdb:{query}", "y")
    assert list(tmp_path.iterdir()) == []


def test_databases_that_cannot_be_read(tmp_path, duckdb):
    with pytest.raises(InvalidData, match=r"cannot read the database .*: there is no such file"):
        read_table("duckdb:SELECT 1 AS x, 2 AS y", "y", database=tmp_path / "d.duckdb")
    (tmp_path / "d.duckdb").write_bytes(b"garbage" * 1000)
    with pytest.raises(InvalidData, match="DuckDB cannot run"):
        read_table("duckdb:SELECT 1 AS x, 2 AS y", "y", database=tmp_path / "d.duckdb")
