"""What counts as the same row, and that rows and answers come back as they went in; all seen through a ledger."""

from __future__ import annotations

import sqlite3

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from locum.core.errors import InvalidData, LedgerError
from locum.core.ledger import Ledger
from locum.core.target import Target

quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def asked(X, answer=lambda X: np.arange(len(X)) + 0.5):
    """A ledger that holds these rows."""
    target = Target(answer, output="value", allow_nan=True)
    target.query(X, "fit")
    return target.ledger


def same_rows(X, Y):
    """Whether a ledger that holds the rows X finds all of Y among them, row by row."""
    ledger = asked(X)
    return (ledger.purposes(Y) > 0).tolist()


# --- strategies ------------------------------------------------------------------------------------------------------
text = st.text(max_size=6).filter(lambda s: not s.endswith("\0"))
numbers = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
)
shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)
plain = st.one_of(numbers, hnp.unicode_string_dtypes(endianness="?", max_len=4), hnp.byte_string_dtypes(max_len=4))
arrays = hnp.arrays(plain, shapes)
values = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), text)
objects = hnp.arrays(object, shapes, elements=values)
fields = st.lists(plain, min_size=1, max_size=4).map(lambda kinds: [(f"c{j}", kind) for j, kind in enumerate(kinds)])
structured = st.tuples(fields, st.booleans()).flatmap(
    lambda made: hnp.arrays(np.dtype(made[0], align=made[1]), st.integers(1, 6))
)


@st.composite
def tables(draw):
    """Columns by name, each of one kind, some values missing."""
    n = draw(st.integers(1, 6))
    kinds = {
        "whole": st.integers(-(2**62), 2**62),
        "real": st.floats(allow_nan=False),
        "truth": st.booleans(),
        "words": text,
    }
    names = draw(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4, unique=True))
    out = {}
    for name in names:
        kind = draw(st.sampled_from(sorted(kinds)))
        holes = draw(st.booleans())
        value = st.one_of(st.none(), kinds[kind]) if holes else kinds[kind]
        out[name] = (kind, draw(st.lists(value, min_size=n, max_size=n)))
    return out


def as_pandas(table):
    dtypes = {"whole": "Int64", "real": "Float64", "truth": "boolean", "words": "str"}
    return pd.DataFrame({name: pd.Series(pd.array(v, dtype=dtypes[kind])) for name, (kind, v) in table.items()})


def as_polars(table):
    dtypes = {"whole": pl.Int64, "real": pl.Float64, "truth": pl.Boolean, "words": pl.String}
    return pl.DataFrame({name: pl.Series(v, dtype=dtypes[kind]) for name, (kind, v) in table.items()})


def distinct(X):
    """The rows of a numeric X of which no equal one came before: what a ledger holds."""
    return X[[i for i in range(len(X)) if not any(np.array_equal(X[i], X[j], equal_nan=True) for j in range(i))]]


# --- back as they went in --------------------------------------------------------------------------------------------
@quick
@given(arrays.filter(lambda X: X.dtype.kind in "biuf"))
def test_numbers_of_any_shape_and_dtype_come_back(X):
    ledger = asked(X)
    back, answers = ledger.rows()
    assert back.dtype == X.dtype
    np.testing.assert_array_equal(back, distinct(X))
    assert (ledger.purposes(X) == 1).all()
    assert len(answers) == len(back) == len(ledger)


@quick
@given(st.one_of(objects, arrays, structured))
def test_whatever_is_taken_comes_back_as_the_same_rows(X):
    ledger = asked(X)
    back, answers = ledger.rows("fit")
    assert (ledger.purposes(X) == 1).all()
    assert (ledger.purposes(back) == 1).all()
    assert back.shape[1:] == X.shape[1:]
    assert len(back) == len(answers) <= len(X)
    # Asked anew, what came back needs no answer.
    assert not (asked(back).purposes(X) == 0).any()


@quick
@given(tables())
def test_frames_come_back_as_the_same_rows(table):
    for X in (as_pandas(table), as_polars(table)):
        ledger = asked(X)
        back, _ = ledger.rows()
        assert type(back) is type(X)
        assert list(back.columns) == list(X.columns)
        assert (ledger.purposes(X) == 1).all()
        assert (asked(back).purposes(X) == 1).all()
        assert [str(t) for t in back.dtypes] == [str(t) for t in X.dtypes]


@quick
@given(tables())
def test_pandas_and_polars_frames_of_the_same_table_hold_the_same_rows(table):
    assert all(same_rows(as_pandas(table), as_polars(table)))


@quick
@given(
    hnp.arrays(
        st.one_of(plain, hnp.complex_number_dtypes(), fields.map(np.dtype)).filter(lambda d: d.kind != "b"),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    )
)
def test_answers_of_any_shape_and_dtype_come_back(Y):
    target = Target(lambda X: Y, output="value", allow_nan=True)
    X = np.arange(len(Y))
    said = target.query(X)
    again = target.query(X[::-1])[::-1]
    assert said.shape == Y.shape
    assert said.dtype.kind == Y.dtype.kind
    assert repr(said.tolist()) == repr(Y.tolist()) == repr(again.tolist())


def test_columns_picked_out_of_a_structured_array_come_back():
    X = np.array([(1, "x", 0.5), (2, "y", 1.5)], dtype=[("a", "i1"), ("b", "U2"), ("c", "f8")])[["c", "a"]]
    back, _ = asked(X).rows()
    assert back.dtype.names == ("c", "a")
    assert back.tolist() == [(0.5, 1), (1.5, 2)]


def test_structured_answers_with_parts_and_padding_come_back():
    dtype = np.dtype([("mean", "f4"), ("path", "f8", (2, 3)), ("inner", [("n", "i1"), ("word", "U3")])], align=True)
    Y = np.zeros(4, dtype=dtype)
    Y["path"] = np.arange(24).reshape(4, 2, 3)
    Y["inner"]["word"] = ["a", "bc", "", "def"]
    said = Target(lambda X: Y).query(np.arange(4))
    assert said.dtype.names == dtype.names
    assert repr(said.tolist()) == repr(Y.tolist())


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": pd.Categorical(["x", "y", "x"]), "b": pd.array([1, None, 2**60 + 1], dtype="Int64")}),
        pd.DataFrame({"a": [1, "x", None], "b": np.array([1, 2, 3], dtype="f4")}),
        pl.DataFrame({"a": ["x", "y", None], "b": [1, None, 2**60 + 1]}),
        pl.DataFrame(
            {
                "a": pl.Series(["x", "y", "x"], dtype=pl.Enum(["x", "y"])),
                "b": pl.Series([1.5, None, 2], dtype=pl.Float32),
                "c": pl.Series(["u", "v", None], dtype=pl.Categorical),
                "d": [None, None, None],
            }
        ),
    ],
    ids=["pandas categories", "pandas mixed", "polars text", "polars categories"],
)
def test_frames_of_special_columns_come_back(frame):
    ledger = asked(frame)
    back, _ = ledger.rows()
    assert len(back) == 3
    assert list(back.columns) == list(frame.columns)
    assert (asked(back).purposes(frame) == 1).all()


def test_frames_asked_in_parts_come_back_as_one():
    target = Target(lambda X: np.arange(len(X)))
    target.query(pl.DataFrame({"a": [1, 2], "b": [None, None]}))
    target.query(pl.DataFrame({"a": [1.5], "b": ["x"]}))
    assert target.ledger.rows()[0].rows() == [(1.0, None), (2.0, None), (1.5, "x")]
    other = Target(lambda X: np.arange(len(X)))
    other.query(pd.DataFrame({"a": pd.Categorical(["u"])}))
    other.query(pd.DataFrame({"a": pd.Categorical(["v"])}))
    assert other.ledger.rows()[0]["a"].tolist() == ["u", "v"]


def test_text_and_numbers_asked_in_parts_stay_what_they_are():
    target = Target(lambda X: np.arange(len(X)))
    target.query(np.array([1.5, 2.5]))
    target.query(np.array(["a"]))
    assert target.ledger.rows()[0].tolist() == [1.5, 2.5, "a"]


def test_rows_in_forms_that_do_not_go_together_are_refused_when_read_as_one():
    target = Target(lambda X: np.arange(len(X)))
    target.query(np.zeros((2, 3)), "fit")
    target.query(pd.DataFrame({"a": [1, 2]}), "use")
    with pytest.raises(LedgerError, match=r"arrays of shape \(n, 3\) and pandas rows with the columns 'a'"):
        target.ledger.rows()
    assert target.ledger.rows("use")[0]["a"].tolist() == [1, 2]


# --- the same row ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("X", "Y"),
    [
        (np.array([[1, 2]]), np.array([[1.0, 2.0]])),
        (np.array([[1.0, 2.0]]), np.array([[1, 2]], dtype=np.int8)),
        (np.array([[True, False]]), [[1, 0]]),
        (np.array([[0.0, 5.0]]), np.array([[-0.0, 5.0]])),
        (np.array([[np.nan, 1.0]]), np.array([[-np.nan, 1.0]])),
        (np.array([[np.nan, 1.0]]), np.array([[None, 1]], dtype=object)),
        (np.array([[0.5, 1.0]], dtype=np.float32), np.array([[0.5, 1.0]])),
        (np.array([["a", "b"]]), np.array([["a", "b"]], dtype=object)),
        (np.array([["a", "b"]]), np.array([[b"a", b"b"]])),
        (np.array([["a", "b"]]), np.array([["a", "b"]], dtype=np.dtypes.StringDType())),
        (np.array([[1.0, 2.0]]), np.asfortranarray([[1.0, 2.0]]).astype(">f8")),
        (np.array([[2**53, 1]]), np.array([[2.0**53, 1.0]])),
        (np.array([[2**63, 1]], dtype=np.uint64), np.array([[2**63, 1]], dtype=object)),
        (pd.DataFrame({"a": [1], "b": ["x"]}), np.array([(1.0, "x")], dtype=[("a", "f8"), ("b", "U3")])),
        (pd.DataFrame({"a": [1, 2]})[1:], pl.DataFrame({"a": [2.0]})),
    ],
)
def test_rows_of_the_same_values_are_the_same_whatever_holds_them(X, Y):
    assert all(same_rows(X, Y))
    assert all(same_rows(Y, X))


@pytest.mark.parametrize(
    ("X", "Y"),
    [
        (np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]])),
        (np.array([[1.0, 2.0]]), np.array([1.0])),
        (np.array([[1.0]]), np.array([1.0])),
        (np.array([[1.0, 2.0]]), np.array([[[1.0], [2.0]]])),
        (np.zeros((1, 2, 3)), np.zeros((1, 3, 2))),
        (np.array([[0.1]], dtype=np.float32), np.array([[0.1]])),
        (np.array([[1.0, "1"]], dtype=object), np.array([[1.0, 1.0]], dtype=object)),
        (np.array([["a", "bc"]]), np.array([["ab", "c"]])),
        (np.array([["a", None]], dtype=object), np.array([["a", ""]], dtype=object)),
        (np.array([[2**53]]), np.array([[2**53 + 1]])),
        (np.array([[2**63]], dtype=np.uint64), np.array([[2**63 + 1]], dtype=np.uint64)),
        (pd.DataFrame({"a": [1.0], "b": [2.0]}), np.array([[1.0, 2.0]])),
        (np.array([(1.0, 2.0)], dtype="f8,f8"), np.array([(1.0, 2.0)], dtype=[("f1", "f8"), ("f0", "f8")])),
        (pl.DataFrame({"a": [None, 2**60 + 1]})[1:], pl.DataFrame({"a": [None, 2**60]})[1:]),
    ],
)
def test_rows_of_other_values_differ(X, Y):
    assert not any(same_rows(X, Y))


@quick
@given(
    hnp.arrays(st.sampled_from(["f8", "f4", "i4", "i8", "U3"]), st.tuples(st.integers(1, 8), st.integers(1, 3))), st.randoms()
)
def test_order_and_repetition_do_not_matter(X, random):
    order = list(range(len(X))) * 2
    random.shuffle(order)
    calls = []

    def answer(rows):
        calls.extend(rows.tolist())
        return np.array([hash(str(row)) % 1000 for row in rows.tolist()]) / 7

    target = Target(answer, output="value")
    first = target.query(X)
    paid = len(calls)
    assert paid == (len({tuple(row) for row in X.tolist()}) if X.dtype.kind == "U" else len(distinct(X)))
    shuffled = target.query(X[order])
    assert len(calls) == paid
    np.testing.assert_array_equal(shuffled, first[order])


# --- refused ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((0, 3)), "expected at least one row, got none"),
        (np.zeros((2, 0)), r"at least one value, got an array of shape \(2, 0\)"),
        (3.0, r"expected rows as an array of shape \(n, ...\), got 3.0"),
        ([[1, 2], [3]], r"expected rows that make an array of shape \(n, ...\), got list"),
        (np.array([1j]), "expected rows of numbers or text, got complex128"),
        (np.array(["2020-01-01"], dtype="M8[D]"), r"expected rows of numbers or text, got datetime64\[D\]"),
        (np.zeros(2, dtype=[("a", "f8", 2)]), "expected rows of numbers or text"),
        (np.zeros((2, 2), dtype="f8,f8"), r"expected a structured array of shape \(n,\), got shape \(2, 2\)"),
        (np.array([[{}]], dtype=object), r"expected numbers, text or None in row 0, got dict: \{\}"),
        (np.array([[1, b"x"]], dtype=object), "expected numbers, text or None in row 0, got bytes"),
        (pd.DataFrame({1: [1.0]}), r"each with a text name of its own, got \[1\]; rename them first"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), r"each with a text name of its own, got \['a', 'a'\]"),
        (pd.DataFrame({"when": pd.to_datetime(["2020-01-01"])}), "column 'when' holds Datetime.*turn dates and times into"),
        (pl.DataFrame({"a": [[1, 2]]}), "expected numbers, text or None in row 0, got list"),
        (pl.DataFrame({"a": [1]}).lazy(), "expected rows as an array"),
    ],
)
def test_what_cannot_be_a_row_is_refused_before_anything_is_asked(X, message):
    calls = []
    target = Target(lambda X: calls.append(X) or np.zeros(len(X)))
    with pytest.raises(InvalidData, match=message):
        target.query(X)
    assert calls == []


def test_sparse_rows_are_refused():
    from scipy.sparse import csr_array

    with pytest.raises(InvalidData, match=r"expected dense rows, got a sparse matrix; use .toarray\(\)"):
        Target(lambda X: X).query(csr_array(np.eye(3)))


def test_an_arrow_table_is_refused():
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(InvalidData, match="expected a pandas or polars frame or an array, got Table; convert it first"):
        Target(lambda X: X).query(pa.table({"a": [1]}))


# --- damage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("column", ["rows", "answers"])
@pytest.mark.parametrize("position", [0, 5, -1])
def test_one_changed_byte_is_noticed(tmp_path, column, position):
    path = tmp_path / "ledger.db"
    with Ledger(path) as ledger:
        Target(lambda X: X[:, 0], ledger=ledger, name="first").query(np.arange(6.0).reshape(3, 2))
    with sqlite3.connect(path) as file:
        blob = bytearray(file.execute(f"SELECT {column} FROM block").fetchone()[0])
        blob[position] ^= 1
        file.execute(f"UPDATE block SET {column} = ?", (bytes(blob),))
    file.close()
    with Ledger(path) as ledger, pytest.raises(LedgerError, match="does not match its checksum, so the ledger is damaged"):
        ledger.rows()


# --- which model it is -----------------------------------------------------------------------------------------------
def test_a_model_keeps_its_fingerprint_and_another_has_another(tmp_path):
    path = tmp_path / "ledger.db"

    def scaled(by):
        return lambda X: by * X[:, 0]

    X = np.ones((2, 2))
    Target(scaled(2.0), ledger=path, name="scaled").query(X)
    assert Target(scaled(2.0), ledger=path, name="scaled").query(X).tolist() == [2.0, 2.0]
    with pytest.raises(LedgerError, match=r"belongs to a target 'scaled' with fingerprint .* it computes something else"):
        Target(scaled(3.0), ledger=path, name="scaled")
    assert Target(scaled(3.0), ledger=tmp_path / "other.db", name="scaled").query(X).tolist() == [3.0, 3.0]
