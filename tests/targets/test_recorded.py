"""Targets that are only known by recorded answers, and the CSV files they come from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from locum.core.errors import InvalidData, NotFresh, TargetError
from locum.targets import read_csv, recorded

X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])


# --- recorded answers ------------------------------------------------------------------------------------------------
def test_only_recorded_rows_can_be_asked():
    target = recorded(X, ["a", "b", "a"])
    assert target.recorded
    assert target.query(X[[2, 1]]).tolist() == ["a", "b"]
    assert (target.output, target.name, target.rows is X) == ("class", "recorded answers", True)
    with pytest.raises(InvalidData, match="2 of these 3 rows have no recorded answer, first row 0: there is no access"):
        target.query(np.array([[9.0, 9.0], [0.0, 1.0], [1.0, 0.0]]))
    assert target.account().asked == 2


@pytest.mark.parametrize("library", [pd, pl])
def test_frames_of_recorded_rows(library):
    frame = library.DataFrame({"a": [1, 2, None], "b": ["x", "y", None]})
    target = recorded(frame, np.array([[0.1, 0.9], [0.5, 0.5], [1.0, 0.0]]), classes=["no", "yes"])
    np.testing.assert_array_equal(target.query(frame[1:]), [[0.5, 0.5], [1.0, 0.0]])
    assert target.output == "probability"


def test_recorded_rows_keep_their_purposes():
    target = recorded(X, [1.5, 2.5, 3.5])
    target.query(X[:2], "fit")
    with pytest.raises(NotFresh):
        target.query(X, "score")
    assert target.query(X[2:], "score").tolist() == [3.5]


def test_repeated_rows_must_agree_or_the_first_is_taken():
    twice = X[[0, 1, 0]]
    assert recorded(twice, [1.0, 2.0, 1.0]).query(X[:1]).tolist() == [1.0]
    with pytest.raises(InvalidData, match=r"rows 0 and 2 are equal, but their answers are 1.0 and 3.0; drop one"):
        recorded(twice, [1.0, 2.0, 3.0])
    assert recorded(twice, [1.0, 2.0, 3.0], repeated="first").query(twice).tolist() == [1.0, 2.0, 1.0]
    with pytest.raises(InvalidData, match="expected repeated= to be 'refuse' or 'first', got 'last'"):
        recorded(twice, [1.0, 2.0, 3.0], repeated="last")


def test_an_answer_that_is_nan_is_no_contradiction_and_no_answer():
    with pytest.raises(TargetError, match="got NaN") as caught:
        recorded(X, [1.0, np.nan, 3.0]).query(X)
    assert caught.value.rows == (1,)
    target = recorded(X[[0, 1, 1]], [1.0, np.nan, np.nan], allow_nan=True)
    np.testing.assert_array_equal(target.query(X[:2]), [1.0, np.nan])


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([1.0, 2.0], r"expected an answer for each of the 3 rows, got an array of shape \(2,\)"),
        (1.0, r"expected an answer for each of the 3 rows, got an array of shape \(\)"),
        ([[1.0], [1.0, 2.0], [3.0]], r"expected answers that make an array of shape \(n, ...\)"),
    ],
)
def test_tables_that_do_not_fit_are_refused(answers, message):
    with pytest.raises(InvalidData, match=message):
        recorded(X, answers)


# --- CSV files -------------------------------------------------------------------------------------------------------
@pytest.fixture
def write(tmp_path):
    def written(text, encoding="utf-8"):
        path = tmp_path / "table.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return written


def test_columns_are_numbers_or_text_with_missing_values(write):
    path = write('age,job,code,y\n31,clerk,1_2,no\n ?,"nurse, night",34,yes\n2.5e1,NA,5,no\n')
    rows, said = read_csv(path, "y")
    assert rows.dtype.names == ("age", "job", "code")
    np.testing.assert_array_equal(rows["age"], [31.0, np.nan, 25.0])
    assert rows["job"].tolist() == ["clerk", "nurse, night", ""]
    assert rows["code"].tolist() == ["1_2", "34", "5"]
    assert said.tolist() == ["no", "yes", "no"]
    target = recorded(rows, said)
    assert target.query(rows[::-1]).tolist() == ["no", "yes", "no"]


@pytest.mark.parametrize(
    ("fields", "kind", "values"),
    [
        (["1", "2", "-3"], "i", [1, 2, -3]),
        (["1.0", "2", "3"], "f", [1.0, 2.0, 3.0]),
        (["1e3", "2", "3"], "f", [1000.0, 2.0, 3.0]),
        (["1e300", "2", "3"], "f", [1e300, 2.0, 3.0]),
        (["9007199254740993", "1", "2"], "f", [9007199254740992.0, 1.0, 2.0]),
        (["yes", "no", "3"], "U", ["yes", "no", "3"]),
    ],
)
def test_answers_without_a_decimal_point_are_whole(write, fields, kind, values):
    path = write("x,y\n" + "".join(f"{i},{field}\n" for i, field in enumerate(fields)))
    _, said = read_csv(path, "y")
    assert (said.dtype.kind, said.tolist()) == (kind, values)


def test_other_delimiters_and_encodings(write):
    rows, said = read_csv(write("Größe;y\n1;ä\n2;ö\n", "latin-1"), "y", delimiter=";", encoding="latin-1")
    assert rows.dtype.names == ("Größe",)
    assert said.tolist() == ["ä", "ö"]
    assert read_csv(write("x,y\n1,a\n", "utf-8-sig"), "y")[0].dtype.names == ("x",)


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", {}, "is empty; expected a header of column names, then one line a row"),
        ("x,x,y\n1,2,3\n", {}, "expected table.csv to name each column once in its first line, got x, x, y"),
        ("x,,y\n1,2,3\n", {}, "to name each column once in its first line"),
        ("x,y\n1,2\n1,2,3\n", {}, "table.csv: row 1 has 3 fields, the header has 2"),
        ("x,z\n1,2\n", {}, "table.csv has no column 'y'; its columns are x, z"),
        ("x,y\n1,\n", {}, "table.csv: row 0 has no answer in column 'y'; drop it"),
        ("x,y\n1,a\n2,NA\n", {}, "table.csv: row 1 has no answer in column 'y'; drop it"),
        ("x,y\n", {}, "at least one row below the header"),
        ("y\n1\n", {}, "expected table.csv to have .*column"),
        ('x,y\n"1,2\n', {}, "cannot read .*table.csv: "),
        ("x,y\n1,ä\n", {"encoding": "ascii"}, "cannot read .*table.csv: 'ascii' codec can't decode"),
        ("x,y\n1,2\n", {"encoding": "no-such"}, "cannot read .*table.csv: unknown encoding: no-such"),
    ],
)
def test_files_that_are_no_tables_are_refused(write, text, settings, message):
    with pytest.raises(InvalidData, match=message):
        read_csv(write(text), "y", **settings)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidData, match=r"cannot read .*none.csv: .*No such file"):
        read_csv(tmp_path / "none.csv", "y")
