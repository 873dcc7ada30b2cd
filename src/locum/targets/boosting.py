"""A target from a tree ensemble of XGBoost or LightGBM, in memory or in the library's own file."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need
from locum.core.target import Target
from locum.targets._files import check_unchanged, digest, found, one_thread_in_workers, opened_here
from locum.targets._rows import as_numbers, check_columns, column_names
from locum.targets._scores import check_link, read_scores

__all__ = ["from_boosting"]


def from_boosting(model: Any, *, output: str = "auto", link: str | None = None, classes: Any = None, **settings: Any) -> Target:
    """A target from a booster of XGBoost or LightGBM.

    Its answers are those of the library's own ``Booster.predict``: up to the best round where training stopped early.

    Parameters
    ----------
    model : path, xgboost.Booster or lightgbm.Booster
        A file ending in ``.json`` or ``.ubj`` is read by XGBoost, one ending in ``.txt`` by LightGBM. Of a booster, the
        target keeps a copy as it is now. The scikit-learn wrappers of both go to `from_sklearn`.
    output : {"auto", "value", "probability", "class"}, default="auto"
        "auto" goes by the objective: probabilities, classes or values, as the library predicts them. The probability of the
        second class becomes a column for each.
    link : {None, "softmax", "sigmoid"}, default=None
        What makes probabilities of the scores of an objective of one's own; None where the booster does so itself.
    classes : sequence or None, default=None
        What the classes are called, in order; 0, 1, ... where None, since these files do not hold it.
    **settings
        Of `Target`. Workers of pools open the file themselves, so it must be there for them.

    Raises
    ------
    InvalidData
        No such file, not a model, or classes asked of a model that has none. When asked: rows with other columns than it was
        trained on, text, and for XGBoost infinite numbers.
    MissingExtra
        xgboost or lightgbm is not installed.

    Notes
    -----
    Rows without column names go by position. A model that was trained on categories takes frames with columns of categories
    (LightGBM: of pandas), or the categories' codes.
    """
    if output not in ("auto", "value", "probability", "class"):
        raise InvalidData(f"expected output= to be 'auto', 'value', 'probability' or 'class', got {output!r}")
    opened = _opened_from(model)
    facts = _booster(opened)[1]
    chosen = facts.output if output == "auto" else output
    check_link(link, chosen)
    names = None if classes is None else np.asarray(classes)
    k = max(2, facts.outputs)
    _check_output(facts, chosen, link, k, names)
    answer = Boosted(opened, chosen, link, names)
    read = {
        "name": opened.name,
        "check": answer.check,
        "fingerprint": f"{opened.content} {chosen} {link} {None if names is None else names.tolist()}",
        "classes": None if chosen == "value" else np.arange(k) if names is None else names,
    }
    return Target(answer, output=chosen, **{**read, **settings})


@dataclass(frozen=True)
class _Facts:
    """What a booster says of itself."""

    objective: str
    output: str  # of its own predictions
    outputs: int  # columns of its predictions, or classes
    columns: int
    names: tuple[str, ...] | None
    categories: bool


class _Library(ABC):
    """How a library reads a booster, what that says of itself, and how it predicts."""

    library: str

    @abstractmethod
    def open(self, source: Path | bytes) -> Any: ...

    @abstractmethod
    def raw(self, booster: Any) -> bytes: ...

    @abstractmethod
    def facts(self, booster: Any) -> _Facts: ...

    @abstractmethod
    def check(self, facts: _Facts, X: Any) -> None: ...

    @abstractmethod
    def predict(self, booster: Any, facts: _Facts, X: Any) -> NDArray[Any]: ...


class _XGBoost(_Library):
    library = "xgboost"

    def open(self, source: Path | bytes) -> Any:
        xgboost = need("xgboost", "an XGBoost model", "boosting")
        try:
            return xgboost.Booster(model_file=source if isinstance(source, Path) else bytearray(source))
        except xgboost.core.XGBoostError as error:
            raise InvalidData(f"XGBoost cannot read {_title(source)}: {_first_line(error)}") from error

    def raw(self, booster: Any) -> bytes:
        return bytes(booster.save_raw("ubj"))

    def facts(self, booster: Any) -> _Facts:
        learner = json.loads(booster.save_config())["learner"]
        objective, sizes = learner["objective"]["name"], learner["learner_model_param"]
        output = {
            "binary:logistic": "probability",
            "multi:softprob": "probability",
            "multi:softmax": "class",
            "binary:hinge": "class",
        }.get(objective, "value")
        names = booster.feature_names
        outputs = max(int(sizes["num_class"]), int(sizes["num_target"]), 1)
        return _Facts(
            objective,
            output,
            outputs,
            booster.num_features(),
            None if names is None else tuple(names),
            "c" in (booster.feature_types or ()),
        )

    def check(self, facts: _Facts, X: Any) -> None:
        check_columns(X, facts.columns, facts.names)
        if not _categories(facts, X) and np.isinf(as_numbers(X)).any():
            raise InvalidData("XGBoost takes no infinite numbers; replace them by missing (NaN) or by a bound")

    def predict(self, booster: Any, facts: _Facts, X: Any) -> NDArray[Any]:
        import xgboost

        named = {"feature_names": booster.feature_names, "feature_types": booster.feature_types}
        best = booster.attr("best_iteration")
        try:
            if _categories(facts, X):
                data = xgboost.DMatrix(X, enable_categorical=True)
            else:
                data = xgboost.DMatrix(as_numbers(X), enable_categorical=facts.categories, **named)
            return booster.predict(data, iteration_range=(0, 0 if best is None else int(best) + 1))
        except xgboost.core.XGBoostError as error:
            raise ValueError(_first_line(error)) from None


class _LightGBM(_Library):
    library = "lightgbm"

    def open(self, source: Path | bytes) -> Any:
        lightgbm = need("lightgbm", "a LightGBM model", "boosting")
        text = source.read_bytes() if isinstance(source, Path) else source
        if not text.startswith(b"tree\n"):
            raise InvalidData(f"{_title(source)} is not a LightGBM model, whose first line would be 'tree'")
        try:
            return lightgbm.Booster(model_str=text.decode())
        except (lightgbm.basic.LightGBMError, ValueError) as error:
            raise InvalidData(f"LightGBM cannot read {_title(source)}: {_first_line(error)}") from error

    def raw(self, booster: Any) -> bytes:
        return booster.model_to_string().encode()

    def facts(self, booster: Any) -> _Facts:
        head = booster.model_to_string(num_iteration=1).split("\nTree=")[0].splitlines()
        said = dict(line.split("=", 1) for line in head if "=" in line)
        objective = said.get("objective", "custom").split()[0]
        # One-against-all scores do not sum to one, so they are values.
        output = {"binary": "probability", "multiclass": "probability"}.get(objective, "value")
        names = booster.feature_name()
        unnamed = names == [f"Column_{j}" for j in range(len(names))]
        return _Facts(
            objective,
            output,
            int(said["num_tree_per_iteration"]),
            booster.num_feature(),
            None if unnamed else tuple(names),
            bool(booster.pandas_categorical),
        )

    def check(self, facts: _Facts, X: Any) -> None:
        written = tuple(name.replace(" ", "_") for name in column_names(X))  # as LightGBM writes them
        check_columns(X, facts.columns, None if written == facts.names else facts.names)
        if not _categories(facts, X):
            as_numbers(X)

    def predict(self, booster: Any, facts: _Facts, X: Any) -> NDArray[Any]:
        return booster.predict(X if _categories(facts, X) else as_numbers(X))


_LIBRARIES: dict[str, _Library] = {"xgboost": _XGBoost(), "lightgbm": _LightGBM()}
_FILES = {".json": "xgboost", ".ubj": "xgboost", ".txt": "lightgbm"}


@dataclass(frozen=True)
class _Opened:
    """A model and how to read it."""

    library: str
    source: Path | bytes = field(repr=False)
    content: str
    name: str


@opened_here
def _booster(opened: _Opened) -> tuple[Any, _Facts]:
    """The booster, and what it says of itself."""
    source = opened.source
    if isinstance(source, Path):
        check_unchanged(opened.content, source)
    library = _LIBRARIES[opened.library]
    booster = library.open(source)
    return booster, library.facts(booster)


class Boosted:
    """Answers rows with a booster.

    Parameters
    ----------
    opened : _Opened
    output, link, classes
        As `read_scores` takes them.
    """

    def __init__(self, opened: _Opened, output: str, link: str | None, classes: NDArray[Any] | None) -> None:
        self.opened, self.output, self.link, self.classes = opened, output, link, classes

    def __call__(self, X: Any) -> NDArray[Any]:
        with one_thread_in_workers():
            booster, facts = _booster(self.opened)
            said = _LIBRARIES[self.opened.library].predict(booster, facts, X)
        if self.output == "class" and facts.output == "class":
            said = said.astype(np.int64)
        return read_scores(said, self.output, self.link, self.classes)

    def check(self, X: Any) -> None:
        """Refuse rows that the booster cannot take."""
        _LIBRARIES[self.opened.library].check(_booster(self.opened)[1], X)


# ---------------------------------------------------------------------- private
def _opened_from(model: Any) -> _Opened:
    if isinstance(model, str | os.PathLike):
        path = found(model, "model")
        library = _FILES.get(path.suffix.lower())
        if library is None:
            raise InvalidData(f"expected a model file ending in .json or .ubj (XGBoost) or .txt (LightGBM), got {path.name}")
        return _Opened(library, path, digest(path), path.name)
    bases = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(model).__mro__}
    for library, kind in _LIBRARIES.items():
        if f"{library}.Booster" in bases:
            raw = kind.raw(model)
            return _Opened(library, raw, xxhash.xxh3_128_hexdigest(raw), f"{library}.Booster")
    raise InvalidData(
        f"expected a path, an xgboost.Booster or a lightgbm.Booster, got {type(model).__name__}; "
        "a predictor goes to from_sklearn"
    )


def _check_output(facts: _Facts, chosen: str, link: str | None, k: int, names: NDArray[Any] | None) -> None:
    if chosen in ("class", "probability") and facts.output == "value" and facts.outputs == 1 and link is None:
        raise InvalidData(
            f"this model's objective is {facts.objective!r}, which has no classes; say output='value', or link='sigmoid' where "
            "it gives log-odds"
        )
    if chosen == "probability" and facts.output == "class":
        raise InvalidData(f"this model's objective is {facts.objective!r}, which gives no probabilities; say output='class'")
    if link is not None and facts.output != "value":
        raise InvalidData(f"this model's objective is {facts.objective!r}, so it needs no link=; leave it out")
    if chosen != "value" and names is not None and len(names) != k:
        raise InvalidData(f"expected classes= to name the model's {k} classes in order, got {len(names)}")


def _categories(facts: _Facts, X: Any) -> bool:
    """Whether rows carry the categories themselves, which the library turns into codes."""
    return facts.categories and hasattr(X, "columns")


def _title(source: Path | bytes) -> str:
    return source.name if isinstance(source, Path) else "this booster"


def _first_line(error: Exception) -> str:
    """What a library says went wrong, without the stack of its own code."""
    return str(error).splitlines()[0].split("Check failed: ")[-1]
