"""Domain: every container goes to numbers and back unchanged, and what cannot is refused with one clear error."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_matrix

from locum.core.domain import Column, Domain
from locum.core.errors import InvalidData

FINITE = st.floats(-1e12, 1e12, allow_subnormal=False)
TEXT = st.text(max_size=6)


def survives(rows, check, **settings_):
    """The domain of some rows, after it was written as JSON and read back; and the rows after encode and decode."""
    domain = Domain.of(rows, **settings_)
    assert Domain.from_dict(json.loads(json.dumps(domain.to_dict()))) == domain
    Z = domain.encode(rows)
    assert Z.shape == (len(rows), len(domain))
    assert Z.dtype == np.float64
    check(domain.decode(Z), rows)
    assert np.array_equal(domain.encode(domain.decode(Z)), Z, equal_nan=True)
    return domain, Z


# ---------------------------------------------------------------------- arrays
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u1", "?"])
def test_arrays_of_every_dtype_come_back(dtype):
    rows = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]).astype(dtype)
    _, Z = survives(rows, np.testing.assert_array_equal)
    domain = Domain.of(rows)
    assert domain.decode(Z).dtype == rows.dtype
    assert domain.names == ("x0", "x1", "x2")
    assert [c.integer for c in domain.columns] == [True] * 3


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, (5, 3), elements=FINITE | st.just(np.nan)))
def test_float_arrays_are_their_own_encoding(rows):
    rows[:2] = [[0, 1, 2], [1, 2, 3]]
    domain, Z = survives(rows, np.testing.assert_array_equal)
    assert np.array_equal(Z, rows, equal_nan=True)
    assert [c.missing for c in domain.columns] == np.isnan(rows).any(axis=0).tolist()
    assert [c.low for c in domain.columns] == np.nanmin(rows, axis=0).tolist()


def test_encoding_is_a_copy():
    rows = np.eye(3)
    Domain.of(rows).encode(rows)[:] = 7
    assert rows.sum() == 3


def test_codes_of_categories():
    rows = np.array([[3.0, 0.5], [1.0, 0.7], [3.0, np.nan], [np.nan, 0.1]])
    domain, Z = survives(rows, np.testing.assert_array_equal, categorical=[0])
    assert domain.columns[0] == Column("x0", "categorical", levels=(1, 3), missing=True)
    assert domain.categorical.tolist() == [True, False]
    assert np.array_equal(Z[:, 0], [1, 0, 1, np.nan], equal_nan=True)
    assert domain.encode(np.array([[2.0, 0.5]])).tolist() == [[-1.0, 0.5]]


def test_whole_numbers_that_miss_a_value_come_back_as_floats():
    domain = Domain.of(np.array([[1, 2], [3, 4]]))
    back = domain.decode(np.array([[1.0, np.nan], [2.5, 1e30]]))
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, [[1.0, np.nan], [2.5, 1e30]])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(FINITE | st.none(), TEXT | st.none(), st.integers(-(2**53), 2**53), st.booleans()), min_size=1, max_size=9
    )
)
def test_object_arrays_come_back(values):
    values = [(0.5, "a", 1, True), (0.25, "b", 2, False), *values]
    rows = np.empty((len(values), 4), dtype=object)
    for i, row in enumerate(values):
        rows[i] = row

    def same(back, rows):
        assert back.dtype == object
        assert [[None if v != v else v for v in row] for row in back.tolist()] == rows.tolist()

    domain, _ = survives(rows, same, names=["x", "word", "count", "flag"])
    assert [c.kind for c in domain.columns] == ["numeric", "categorical", "numeric", "numeric"]
    assert domain.columns[1].levels == tuple(sorted({row[1] for row in values} - {None}))


def test_lists_keep_their_numbers():
    domain = Domain.of([[1.5, "red"], [2.5, "blue"]])
    assert [c.kind for c in domain.columns] == ["numeric", "categorical"]
    assert domain.encode([[2, "blue"]]).tolist() == [[2.0, 0.0]]


def test_text_arrays_of_both_kinds():
    rows = np.array([["a", "x"], ["b", "y"]])
    survives(rows, np.testing.assert_array_equal)
    survives(rows.astype(np.dtypes.StringDType()), lambda back, rows: np.testing.assert_array_equal(back, rows.astype(object)))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            FINITE | st.just(float("nan")),
            st.integers(-100, 100),
            st.text(st.characters(exclude_characters="\0"), max_size=5),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_structured_arrays_come_back(values):
    rows = np.array([(0.5, 1, "a"), (1.5, 2, "b"), *values], dtype=[("x", "f4"), ("n", "i2"), ("word", "U5")])

    def same(back, rows):
        assert back.dtype == rows.dtype
        for name in rows.dtype.names:
            np.testing.assert_array_equal(back[name], rows[name])

    _, Z = survives(rows, same)
    assert np.isnan(Z[:, 2]).tolist() == [text == "" for text in rows["word"].tolist()]


def test_a_structured_field_that_cannot_miss_a_value_becomes_a_float():
    rows = np.array([(1, 5), (2, 6), (3, 5)], dtype=[("n", "i4"), ("code", "i4")])
    domain = Domain.of(rows, categorical=["code"])
    back = domain.decode(np.array([[np.nan, 1.0], [2.0, np.nan]]))
    np.testing.assert_array_equal(back["n"], [np.nan, 2.0])
    np.testing.assert_array_equal(back["code"], [6.0, np.nan])


# ---------------------------------------------------------------------- frames
def pandas_frame():
    return pd.DataFrame(
        {
            "float": [0.5, np.nan, 2.5, 1.0],
            "single": np.array([0.1, 0.2, 0.3, 0.4], dtype="float32"),
            "int": [1, 2, 3, 4],
            "small": np.array([1, 2, 3, 200], dtype="uint8"),
            "bool": [True, False, True, True],
            "Int": pd.array([1, None, 3, 4], dtype="Int64"),
            "Float": pd.array([0.5, None, 1.5, 2.0], dtype="Float64"),
            "boolean": pd.array([True, None, False, True], dtype="boolean"),
            "str": pd.Series(["a", None, "b", "a"], dtype="str"),
            "string": pd.array(["a", None, "b", ""], dtype="string"),
            "object": pd.Series(["p", "q", None, "p"], dtype=object),
            "numbers": pd.Series([1, 2.5, np.nan, 3], dtype=object),
            "category": pd.Categorical(["low", "high", None, "low"], categories=["low", "middle", "high"], ordered=True),
            "codes": pd.Categorical([7, 3, 7, None]),
            "flags": pd.Categorical([True, False, True, True]),
            "constant": pd.Series([np.nan, 5.0, 5.0, 5.0]),
        }
    )


def test_pandas_frames_come_back_with_their_dtypes():
    frame = pandas_frame()
    domain, Z = survives(frame, pd.testing.assert_frame_equal)
    kinds = dict(zip(domain.names, domain.categorical.tolist(), strict=True))
    assert [name for name, kind in kinds.items() if kind] == ["str", "string", "object", "category", "codes", "flags"]
    assert domain.columns[12].levels == ("high", "low")  # those that occur
    assert domain.columns[13].levels == (3, 7)
    assert domain.columns[14].levels == (False, True)
    assert domain.columns[9].levels == ("", "a", "b")
    assert np.array_equal(Z[:, 13], [1, 0, 1, np.nan], equal_nan=True)


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8", "float32"])
def test_a_frame_of_one_type_is_read_and_given_back_as_a_mixed_one_is(dtype):
    """Such frames are taken in one piece, which must not show."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 200, (20, 5)).astype(dtype), columns=list("abcde"))
    if dtype.startswith("float"):
        frame.iloc[3, 1] = np.nan
    alone, mixed = Domain.of(frame), Domain.of(frame.assign(z=list("tu" * 10)))
    assert alone.columns == mixed.columns[:5]
    assert alone.dtypes == mixed.dtypes[:5]
    Z = alone.encode(frame)
    np.testing.assert_array_equal(Z, mixed.encode(frame.assign(z=list("tu" * 10)))[:, :5])
    pd.testing.assert_frame_equal(alone.decode(Z), frame)
    blurred = np.where(np.isnan(Z), np.nan, Z + 0.25)
    several = mixed.decode(np.column_stack([blurred, np.zeros(20)])).iloc[:, :5]
    pd.testing.assert_frame_equal(alone.decode(blurred), several)


def test_pandas_dtypes_give_way_to_values_they_cannot_hold():
    frame = pd.DataFrame({"int": [1, 2, 3], "bool": [True, False, True], "Int": pd.array([1, 2, 3], dtype="Int8")})
    back = Domain.of(frame).decode(np.array([[np.nan, np.nan, np.nan], [1.5, 0.5, 0.5]]))
    assert [str(dtype) for dtype in back.dtypes] == ["float64", "float64", "float64"]
    back = Domain.of(frame).decode(np.array([[1.0, 1.0, np.nan], [2.0, 0.0, 3.0]]))
    assert [str(dtype) for dtype in back.dtypes] == ["int64", "bool", "Int8"]


def test_polars_frames_come_back_with_their_dtypes():
    frame = pl.DataFrame(
        {
            "float": [0.5, None, 2.5],
            "single": pl.Series([0.1, 0.2, 0.3], dtype=pl.Float32),
            "int": [1, None, 3],
            "small": pl.Series([1, 2, 200], dtype=pl.UInt8),
            "bool": [True, None, False],
            "string": ["a", None, "b"],
            "category": pl.Series(["a", None, "b"], dtype=pl.Categorical),
            "enum": pl.Series(["it's", None, 'b"'], dtype=pl.Enum(['b"', "it's", "[never]"])),
        }
    )

    def same(back, frame):
        pl.testing.assert_frame_equal(back, frame, categorical_as_str=False)

    domain, _ = survives(frame, same)
    assert domain.categorical.tolist() == [False] * 5 + [True] * 3


def test_pandas_frames_of_arrow_come_back():
    pyarrow = pytest.importorskip("pyarrow")
    text = pyarrow.string()
    frame = pd.DataFrame(
        {
            "int": pd.array([1, None, 3], dtype="int64[pyarrow]"),
            "float": pd.array([0.5, None, 3], dtype="double[pyarrow]"),
            "bool": pd.array([True, None, False], dtype="bool[pyarrow]"),
            "text": pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(text)),
            "coded": pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(pyarrow.dictionary(pyarrow.int32(), text))),
        }
    )
    # Text comes back as text, of another dtype.
    domain, _ = survives(frame, lambda back, frame: pd.testing.assert_frame_equal(back, frame, check_dtype=False))
    assert domain.categorical.tolist() == [False, False, False, True, True]
    with pytest.raises(InvalidData, match="got pyarrow's Table; convert it first"):
        domain.encode(pyarrow.table({"x": [1.0, 2.0]}))


def test_a_nan_in_polars_is_missing():
    frame = pl.DataFrame({"x": [0.5, float("nan"), None, 1.0]})
    assert np.isnan(Domain.of(frame).encode(frame)[:, 0]).tolist() == [False, True, True, False]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(FINITE | st.none(), TEXT | st.none()), min_size=1, max_size=9), st.sampled_from(["pandas", "polars"]))
def test_frames_of_anything_come_back(values, library):
    values = [(0.5, "a"), (1.5, "b"), *values]
    columns = {"x": [x for x, _ in values], "word": [word for _, word in values]}
    frame = (pd if library == "pandas" else pl).DataFrame(columns)
    survives(frame, pd.testing.assert_frame_equal if library == "pandas" else pl.testing.assert_frame_equal)


def test_containers_can_be_mixed():
    frame = pd.DataFrame({"x": [1.0, 2.0], "word": ["a", "b"]})
    domain = Domain.of(frame)
    expected = domain.encode(frame)
    assert np.array_equal(domain.encode(pl.DataFrame({"x": [1.0, 2.0], "word": ["a", "b"]})), expected)
    assert np.array_equal(domain.encode(frame.to_numpy(dtype=object)), expected)
    assert np.array_equal(domain.encode(np.array([(1, "a"), (2, "b")], dtype=[("x", "f8"), ("word", "U3")])), expected)


# ---------------------------------------------------------------------- unknown, fill, ranges
def test_a_category_that_was_never_seen_is_unknown_and_has_no_value_to_give_back():
    rows = np.array([["a"], ["b"]], dtype=object)
    domain = Domain.of(rows)
    assert domain.encode(np.array([["c"], [None]], dtype=object)).tolist()[0] == [-1.0]
    for code in (-1.0, 2.0, 0.5):
        with pytest.raises(InvalidData, match=r"expected codes of its 2 levels, got"):
            domain.decode(np.array([[code]]))
    with pytest.raises(InvalidData, match=r"shape \(n, 1\), got \(1, 2\)"):
        domain.decode(np.zeros((1, 2)))


def test_fill_makes_rows_admissible():
    rows = np.array([[0.25, 1, "a"], [1.0, 5, "b"]], dtype=object)
    domain = Domain.of(rows)
    assert domain.fill(np.array([[-3.0, 2.4, 1.6], [0.5, 99.0, -1.0]])).tolist() == [[0.25, 2.0, 1.0], [0.5, 5.0, 0.0]]


def test_the_domain_of_a_part_of_the_rows():
    rows = np.array([[0.0, "a"], [1.0, "b"], [2.0, "c"], [None, "a"]], dtype=object)
    domain = Domain.of(rows)
    part = domain.of_range(domain.encode(rows[[1, 0]]))
    assert part.columns[0] == Column("x0", low=0.0, high=1.0, integer=True)
    assert part.columns[1] == Column("x1", "categorical", levels=("a", "b", "c"), unseen=(2,))
    assert Domain.from_dict(json.loads(json.dumps(part.to_dict()))) == part


def test_fixed_columns_may_be_constant():
    rows = np.array([[1.0, 2.0], [1.0, 3.0]])
    assert Domain.of(rows, fixed=["x0"]).columns[0] == Column("x0", low=1.0, high=1.0, integer=True)
    assert Domain.of(np.array([[np.nan], [1.0]])).columns[0].missing  # missing or not is a difference


# ---------------------------------------------------------------------- refusals
def objects(*rows):
    out = np.empty((len(rows), len(rows[0])), dtype=object)
    for i, row in enumerate(rows):
        out[i] = row
    return out


REFUSED = {
    "no rows": (np.empty((0, 2)), {}, "expected at least two rows, got 0"),
    "one row": (np.ones((1, 2)), {}, "expected at least two rows, got 1"),
    "one row alone": (np.ones(3), {}, r"shape \(n, d\), got ndarray of shape \(3,\); give one row as \[row\]"),
    "no columns": (np.empty((3, 0)), {}, "expected at least two rows, got 0"),
    "no columns in a frame": (pd.DataFrame(index=[0, 1]), {}, "expected at least one column, got none"),
    "nothing": (None, {}, r"got NoneType of shape \(\)"),
    "three axes": (np.ones((2, 2, 2)), {}, r"got ndarray of shape \(2, 2, 2\)"),
    "constant": (np.array([[1.0, 2], [1.0, 3]]), {}, "column 'x0' holds one value only.*drop it, or name it in fixed="),
    "constant text": (objects(("a",), ("a",)), {}, "column 'x0' holds one value only"),
    "all missing": (np.array([[np.nan], [np.nan]]), {}, "column 'x0' holds nothing but missing values; drop it"),
    "all None": (objects((None,), (None,)), {}, "column 'x0' holds nothing but missing values"),
    "twice": (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), {}, "every column name once, got 'a' more than once"),
    "twice by names=": (np.eye(2), {"names": ["a", "a"]}, "every column name once, got 'a' more than once"),
    "numbered": (pd.DataFrame([[1, 2], [3, 4]]), {}, "column names to be text, got 0, 1; rename the columns first"),
    "names of two parts": (pd.DataFrame({("a", 0): [1, 2], ("a", 1): [3, 4]}), {}, r"to be text, got \('a', 0\), \('a', 1\)"),
    "names by number": (np.eye(2), {"names": [1, 2]}, "column names to be text, got 1, 2"),
    "too few names": (np.eye(2), {"names": ["a"]}, "a name for each of the 2 columns, got 1 names"),
    "other names": (pd.DataFrame({"a": [1, 2]}), {"names": ["b"]}, "carry their own column names"),
    "infinite": (np.array([[1.0], [np.inf]]), {}, "column 'x0' holds infinite values; replace them by missing or by a bound"),
    "minus infinite": (objects((1.0,), (-np.inf,)), {}, "column 'x0' holds infinite values"),
    "infinite code": (np.array([[1.0], [np.inf]]), {"categorical": [0]}, "column 'x0' holds infinite values"),
    "mixed": (objects((1,), ("a",)), {}, "column 'x0' mixes or holds number and text; give it numbers only, or text only"),
    "bytes": (objects((b"a",), (b"b",)), {}, "column 'x0' mixes or holds bytes"),
    "lists": (objects(([1],), ([2],)), {}, "column 'x0' mixes or holds list"),
    "byte strings": (np.array([[b"a"], [b"b"]]), {}, r"expected numbers or text, got an array of \|S1; convert it first"),
    "dates": (np.array([["2020-01-01"], ["2020-01-02"]], dtype="datetime64[D]"), {}, "an array of datetime64"),
    "dates in a frame": (pd.DataFrame({"day": pd.date_range("2020-01-01", periods=2)}), {}, "column 'day' holds Datetime"),
    "decimals": (pl.DataFrame({"x": [1, 2]}).cast(pl.Decimal(10, 2)), {}, "holds Decimal.*; turn it into plain numbers first"),
    "intervals": (pd.DataFrame({"bin": pd.cut(pd.Series([1, 9]), 2)}), {}, "column 'bin' mixes or holds Interval"),
    "complex": (np.array([[1j], [2j]]), {}, "an array of complex128"),
    "field of pairs": (np.zeros(2, dtype=[("p", "f8", (2,))]), {}, r"expected fields of numbers or text, got 'p'"),
    "field of bytes": (np.zeros(2, dtype=[("p", "S3")]), {}, r"expected fields of numbers or text, got 'p' \(\|S3\)"),
    "structured table": (np.zeros((2, 2), dtype=[("x", "f8")]), {}, r"structured array of shape \(n,\), got shape \(2, 2\)"),
    "sparse": (csr_matrix(np.eye(3)), {}, "got scipy's csr_matrix; convert it first"),
    "lazy": (pl.DataFrame({"x": [1, 2]}).lazy(), {}, "got polars's LazyFrame; convert it first"),
    "masked": (np.ma.array(np.eye(2), mask=np.eye(2)), {}, "got a masked one; fill it first"),
    "ragged": ([[1, 2], [3]], {}, "expected rows of one length"),
    "too many categories": (
        objects(*((f"id {i}",) for i in range(100_000))),
        {},
        "column 'x0' has 100000 categories, more than 1000: it looks like an identifier; drop it",
    ),
    "huge whole numbers": (np.array([[2**60], [2**60 + 1]]), {}, r"column 'x0' holds whole numbers beyond 2\*\*53"),
    "huge objects": (objects((2**60,), (1,)), {}, r"column 'x0' holds whole numbers beyond 2\*\*53"),
    "no such category": (np.eye(2), {"categorical": ["y"]}, "categorical= names column 'y', which is not among x0, x1"),
    "no such fixed": (np.eye(2), {"fixed": [-1]}, "fixed= names column -1, which is not among x0, x1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_cannot_be_used_are_refused(case):
    rows, settings_, message = REFUSED[case]
    with pytest.raises(InvalidData, match=message):
        Domain.of(rows, **settings_)


def test_huge_floats_are_numbers_like_any_other():
    assert Domain.of(objects((1e300,), (1.0,))).columns[0].high == 1e300


FITTED = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "c": [0.5, 1.5]})
OTHERWISE = {
    "another order": (FITTED[["b", "a", "c"]], "in another order than in the fit; reorder them to a, b, c"),
    "one missing": (FITTED[["a", "c"]], "differ from those of the fit: missing 'b'$"),
    "one more": (FITTED.assign(d=1), "differ from those of the fit: not expected 'd'$"),
    "both": (FITTED.rename(columns={"a": "A"}), "missing 'a'; not expected 'A'"),
    "an array": (np.eye(2), "expected rows of 3 columns \\(a, b, c\\), got 2"),
    "text for numbers": (FITTED.assign(a=["1", "2"]), "column 'a': expected numbers, got '1'"),
    "numbers for text": (FITTED.assign(b=[1, 2]), "column 'b': expected text, got 1"),
    "mixed numbers": (FITTED.assign(a=pd.Series([1, "2"], dtype=object)), "column 'a' mixes or holds number and text"),
    "lists": (FITTED.assign(b=[["x"], ["y"]]), "column 'b' holds values that are neither numbers nor text"),
    "infinite": (FITTED.assign(c=[1.0, np.inf]), "column 'c' holds infinite values"),
    "numbered": (FITTED.rename(columns={"a": 0}), "column names to be text, got 0"),
}


@pytest.mark.parametrize("case", OTHERWISE)
def test_rows_unlike_those_of_the_fit_are_refused(case):
    rows, message = OTHERWISE[case]
    with pytest.raises(InvalidData, match=message):
        Domain.of(FITTED).encode(rows)


def test_numbers_that_are_infinite_are_refused_when_encoding_an_array():
    with pytest.raises(InvalidData, match="column 'x1' holds infinite values"):
        Domain.of(np.eye(2)).encode(np.array([[0.0, -np.inf]]))


def test_a_record_cannot_name_a_library_of_its_own():
    record = Domain.of(FITTED).to_dict()
    for damage in ({"container": "antigravity"}, {"dtypes": ["float64"]}):
        with pytest.raises(InvalidData, match="expected one of the containers array, object, structured, pandas, polars"):
            Domain.from_dict({**record, **damage})


def test_a_column_is_numeric_or_categorical():
    with pytest.raises(InvalidData, match="expected column 'x' to be numeric or categorical, got 'other'"):
        Column.from_dict({"name": "x", "kind": "other"})


@settings(deadline=None, max_examples=60)
@given(st.permutations(range(6)))
def test_the_order_of_rows_does_not_matter(order):
    rows = objects((1.5, "b"), (0.5, "a"), (None, "c"), (2.0, None), (7.0, "a"), (0.25, "b"))
    assert Domain.of(rows[order]) == Domain.of(rows)
