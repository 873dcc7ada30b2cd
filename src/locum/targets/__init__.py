"""Turning things into a `Target`: a function, a fitted predictor, a model file, a table of recorded answers."""

from __future__ import annotations

import os
from typing import Any

from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.targets.callable import from_callable
from locum.targets.recorded import read_csv, recorded
from locum.targets.sklearn import from_sklearn, load_model

__all__ = ["from_callable", "from_sklearn", "load_model", "read_csv", "recorded", "target"]

_MODEL_FILES = (".skops", ".pkl", ".pickle", ".joblib")


def target(
    thing: Any, *, method: str = "predict", answer: str | None = None, trust_pickle: bool = False, **settings: Any
) -> Target:
    """Turn a thing into a target.

    Parameters
    ----------
    thing : callable, fitted predictor, text or path
        A function of rows; an object with ``predict``; ``"module:function"``; a model file (``.skops``, ``.joblib``, ``.pkl``);
        or a ``.csv`` file of recorded answers. A target is given back as it is.
    method : {"predict", "predict_proba", "decision_function"}, default="predict"
        What to ask of a predictor.
    answer : str or None, default=None
        The column of a CSV file that holds the answers.
    trust_pickle : bool, default=False
        Whether pickled models may be loaded; loading one runs whatever code it holds.
    **settings
        Of `Target`.

    Raises
    ------
    InvalidData
        None of these; a predictor that is not fitted; a file that cannot be used.

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
    if isinstance(thing, str | os.PathLike):
        return _from_text(os.fspath(thing), method, answer, trust_pickle, settings)
    if hasattr(thing, "predict"):
        return from_sklearn(thing, method=method, **settings)
    if callable(thing):
        return from_callable(thing, **settings)
    raise InvalidData(
        f"expected a function, a predictor, 'module:function', a model file or a CSV file, got {type(thing).__name__}; "
        "wrap it in a function that takes rows and gives one answer a row"
    )


def _from_text(text: str, method: str, answer: str | None, trust_pickle: bool, settings: dict[str, Any]) -> Target:
    suffix = os.path.splitext(text)[1].lower()
    if suffix in _MODEL_FILES:
        return from_sklearn(load_model(text, trust_pickle=trust_pickle), method=method, **settings)
    if suffix == ".csv":
        if answer is None:
            raise InvalidData(f"expected answer= to name the column of {text} that holds the answers")
        rows, answers = read_csv(text, answer)
        return recorded(rows, answers, **{"name": os.path.basename(text), **settings})
    if ":" in text:
        return from_callable(text, **settings)
    raise InvalidData(f"expected 'module:function', or a file ending in {', '.join(_MODEL_FILES)} or .csv, got {text!r}")
