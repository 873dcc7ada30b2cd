"""Turning things into a `Target`: a function, a fitted predictor, a network, a model file, an endpoint, recorded answers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.targets.boosting import from_boosting
from locum.targets.function import from_callable
from locum.targets.http import from_http
from locum.targets.onnx import from_onnx
from locum.targets.recorded import read_csv, recorded
from locum.targets.sklearn import from_sklearn, load_model
from locum.targets.tables import read_table
from locum.targets.torch import from_torch

__all__ = [
    "from_callable",
    "from_sklearn",
    "load_model",
    "from_torch",
    "from_onnx",
    "from_boosting",
    "from_http",
    "recorded",
    "read_csv",
    "read_table",
    "target",
]


def target(thing: Any, *, method: str = "predict", answer: Any = None, trust_pickle: bool = False, **settings: Any) -> Target:
    """Turn a thing into a target.

    Parameters
    ----------
    thing : callable, fitted predictor, torch module, booster, text or path
        One of

        - a function of rows, or ``"module:function"``;
        - an object with ``predict``, or a file of one: ``.skops``, ``.joblib``, ``.pkl``;
        - a torch module;
        - an ``.onnx`` file;
        - a booster of XGBoost or LightGBM, or its file: ``.json``, ``.ubj``, ``.txt``;
        - the address of an endpoint: ``http://...``, ``https://...``;
        - a table of recorded answers: ``.csv``, ``.parquet``, ``.arrow``, ``.feather``, ``"duckdb:SELECT ..."``.

        A target is given back as it is.
    method : {"predict", "predict_proba", "decision_function"}, default="predict"
        What to ask of a predictor.
    answer : str, sequence of str or None, default=None
        The column of a table that holds the answers, or several.
    trust_pickle : bool, default=False
        Whether pickled models may be loaded; loading one runs whatever code it holds.
    **settings
        Of `Target`, and of what makes this kind of target: `from_torch`, `from_onnx`, `from_boosting`, `from_http`,
        `read_table`.

    Raises
    ------
    InvalidData
        None of these; a predictor that is not fitted; a file that cannot be used; `method` or `answer` where it means nothing.
    MissingExtra
        A package that this kind needs is not installed.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> doubled = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    >>> target(doubled).query([[3.0]])
    array([6.])
    """
    if isinstance(thing, Target):
        if settings:
            raise InvalidData(f"a target keeps its settings; leave out {', '.join(settings)}, or give the model itself")
        return thing
    thing = os.fspath(thing) if isinstance(thing, os.PathLike) else thing
    make = _of_text(thing) if isinstance(thing, str) else _of_object(thing)
    asked: dict[str, Any] = {"method": method} if method != "predict" else {}
    asked |= {} if answer is None else {"answer": answer}
    takes = inspect.signature(make).parameters
    for name in asked:
        if name not in takes:
            what = thing if isinstance(thing, str) else f"this {type(thing).__name__}"
            raise InvalidData(f"{name}= means nothing for {what}; {_INSTEAD[name]}")
    if "trust_pickle" in takes:
        asked["trust_pickle"] = trust_pickle
    return make(thing, **asked, **settings)


_INSTEAD = {
    "method": "it is for predictors; say output='probability' or 'value' for what else a model gives",
    "answer": "it names a column of a table",
}


def _from_model_file(path: str, *, method: str = "predict", trust_pickle: bool = False, **settings: Any) -> Target:
    return from_sklearn(load_model(path, trust_pickle=trust_pickle), method=method, **settings)


def _from_table(table: str, *, answer: Any = None, columns: Any = None, database: Any = None, **settings: Any) -> Target:
    if answer is None:
        raise InvalidData(f"expected answer= to name the column of {table} that holds the answers")
    rows, answers = read_table(table, answer, columns=columns, database=database)
    name = os.path.basename(table) if os.path.exists(table) else "DuckDB query"  # whose text may hold credentials
    return recorded(rows, answers, **{"name": name, **settings})


_SCHEMES: dict[str, Callable[..., Target]] = {"http": from_http, "https": from_http, "duckdb": _from_table}
_FILES: dict[str, Callable[..., Target]] = {
    **dict.fromkeys((".skops", ".joblib", ".pkl", ".pickle"), _from_model_file),
    ".onnx": from_onnx,
    **dict.fromkeys((".json", ".ubj", ".txt"), from_boosting),
    **dict.fromkeys((".csv", ".parquet", ".arrow", ".feather"), _from_table),
}
_CLASSES: dict[str, Callable[..., Target]] = {  # known by name, so that nothing need be imported
    "torch.nn.modules.module.Module": from_torch,
    "xgboost.core.Booster": from_boosting,
    "lightgbm.basic.Booster": from_boosting,
}


def _of_text(text: str) -> Callable[..., Target]:
    scheme, colon, _ = text.partition(":")
    make = _SCHEMES.get(scheme.lower()) or _FILES.get(os.path.splitext(text)[1].lower())
    if make is None and not colon:
        raise InvalidData(
            f"expected 'module:function', an address (http://...), 'duckdb:SELECT ...', or a file ending in "
            f"{', '.join(_FILES)}, got {text!r}"
        )
    return make or from_callable


def _of_object(thing: Any) -> Callable[..., Target]:
    for base in type(thing).__mro__:
        if make := _CLASSES.get(f"{base.__module__}.{base.__qualname__}"):
            return make
    if hasattr(thing, "predict"):
        return from_sklearn
    if callable(thing):
        return from_callable
    raise InvalidData(
        f"expected a function, a predictor, a torch module, a booster, 'module:function', an address or a file, got "
        f"{type(thing).__name__}; wrap it in a function that takes rows and gives one answer a row"
    )
