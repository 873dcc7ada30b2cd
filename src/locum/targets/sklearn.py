"""A target from a fitted predictor with scikit-learn's methods."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from locum.core.errors import InvalidData, MissingExtra, require_one_of
from locum.core.target import Target

__all__ = ["from_sklearn", "load_model"]

_METHODS = ("predict", "predict_proba", "decision_function")


def from_sklearn(model: Any, *, method: str = "predict", **settings: Any) -> Target:
    """A target from a fitted predictor.

    Parameters
    ----------
    model : object with `predict`
        Of scikit-learn, or made like one.
    method : {"predict", "predict_proba", "decision_function"}, default="predict"
    **settings
        Of `Target`; output, classes and name are read off the model where they are not given.

    Raises
    ------
    InvalidData
        Not fitted, without that method, or with several outputs that are classes. When asked: rows with other columns than it
        was fitted on, or, where scikit-learn knows that the model takes none, NaN and infinities.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> model = LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
    >>> from_sklearn(model).query([[-3.0], [4.0]])
    array(['no', 'yes'], dtype='<U3')
    """
    require_one_of(_METHODS, method=method)
    _check_fitted(model)
    try:
        answer = getattr(model, method)
    except AttributeError as error:
        raise InvalidData(f"this {type(model).__name__} has no {method}; use method='predict'") from error
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list):
        raise InvalidData(f"expected a model with one output, this {type(model).__name__} has {len(classes)}; take them apart")
    output = {"predict": "value" if classes is None else "class", "predict_proba": "probability"}.get(method, "value")
    read = {"output": output, "classes": classes if output != "value" else None, "name": _name(model)}
    return Target(answer, **{**read, "check": partial(_check_rows, model, _takes_nan(model)), **settings})


def load_model(path: Any, *, trust_pickle: bool = False, trusted: Any = ()) -> Any:
    """Read a fitted predictor from a file.

    Parameters
    ----------
    path : path
        A ``.skops`` file; or, with `trust_pickle`, a ``.joblib`` or ``.pkl`` file.
    trust_pickle : bool, default=False
        Loading a pickle runs whatever code it holds: only for files that you made, or trust as you trust a program.
    trusted : sequence of str, default=()
        Types in a ``.skops`` file, beyond those known to be safe, that may be loaded.

    Raises
    ------
    InvalidData
        No such file, not a model file, a pickle that is not trusted, or types that are not.
    MissingExtra
        skops is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidData(f"cannot read the model {path}: there is no such file")
    if path.suffix.lower() == ".skops":
        return _load_skops(path, list(trusted))
    if path.suffix.lower() not in (".joblib", ".pkl", ".pickle"):
        raise InvalidData(f"expected a model file ending in .skops, .joblib or .pkl, got {path.name}")
    if not trust_pickle:
        raise InvalidData(
            f"{path.name} is a pickle: loading it runs whatever code it holds. If you trust where it comes from, say "
            "trust_pickle=True (--trust-pickle); safer is to save the model with skops"
        )
    import joblib

    try:
        return joblib.load(path)
    except Exception as error:  # a pickle can raise anything
        raise InvalidData(f"cannot load {path}: {type(error).__name__}: {error}") from error


def _load_skops(path: Path, trusted: list[str]) -> Any:
    try:
        from skops import io
    except ImportError as error:
        raise MissingExtra("a .skops file needs skops; install it with: pip install 'locum[skops]'") from error
    try:
        unknown = sorted(set(io.get_untrusted_types(file=path)) - set(trusted))
        if not unknown:
            return io.load(path, trusted=trusted)
    except Exception as error:  # of damaged files, skops raises what the parts of it raise
        raise InvalidData(f"cannot load {path}: {type(error).__name__}: {error}") from error
    raise InvalidData(
        f"{path.name} holds types that are not known to be safe: {', '.join(unknown)}; find out what they do, then load it "
        "with load_model(path, trusted=[...]) naming them (--trust, once for each)"
    )


def _check_fitted(model: Any) -> None:
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if isinstance(model, type):
        raise InvalidData(f"expected a fitted predictor, got the class {model.__name__} itself")
    if isinstance(model, BaseEstimator) and hasattr(model, "fit"):
        try:
            check_is_fitted(model)
        except NotFittedError as error:
            raise InvalidData(f"this {type(model).__name__} is not fitted; fit it first") from error


def _name(model: Any) -> str:
    """The class of the model, or of the last step of a pipeline."""
    steps = getattr(model, "steps", None)
    return _name(steps[-1][1]) if isinstance(steps, list) and steps else type(model).__name__


def _check_rows(model: Any, takes_nan: bool, X: Any) -> None:
    names = getattr(model, "feature_names_in_", None)
    framed = hasattr(X, "columns")
    if names is not None and not framed:
        raise InvalidData(
            f"the model was fitted on a frame with the columns {_some(names)}, and got rows without names; give it a frame"
        )
    if names is not None and list(X.columns) != list(names):
        raise InvalidData(
            f"the model was fitted on the columns {_some(names)}, and got {_some(X.columns)}; give it the same, in order"
        )
    if isinstance(X, np.ndarray) and X.dtype.names:
        raise InvalidData("a scikit-learn predictor takes no structured array; give it a frame or an array of shape (n, d)")
    wanted, shape = getattr(model, "n_features_in_", None), X.shape if framed else np.shape(X)
    if wanted is not None and (len(shape) != 2 or shape[1] != wanted):
        raise InvalidData(f"the model was fitted on {wanted} columns, and got rows of shape {shape}")
    _check_finite(np.asarray(X), takes_nan)


def _check_finite(X: Any, takes_nan: bool) -> None:
    if X.dtype.kind != "f":
        return
    good = ~np.isinf(X) if takes_nan else np.isfinite(X)
    if not good.all():
        row, what = int(np.argmin(good.reshape(len(X), -1).all(axis=1))), "infinity" if takes_nan else "NaN or infinity"
        raise InvalidData(f"the model takes no {what}, and row {row} holds one; fill it, or leave the row out")


def _takes_nan(model: Any) -> bool:
    """Whether a model may take NaN; that it does not is only sure of scikit-learn's own, when they are not made of others."""
    steps = getattr(model, "steps", None)
    if isinstance(steps, list) and steps:
        return _takes_nan(steps[0][1])
    own = type(model).__module__.startswith("sklearn.")
    if not own or any(hasattr(part, "get_params") for part in model.get_params().values()):
        return True
    tags = model.__sklearn_tags__()
    return tags.no_validation or tags.input_tags.allow_nan or not tags.input_tags.two_d_array


def _some(names: Any) -> str:
    names = [repr(str(name)) for name in names]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
