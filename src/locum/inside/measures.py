"""How faithful reconstructions of activations are, each measure with an interval over documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.bounds import Interval, binomial, bootstrap, bounded_mean
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.inside.rows import ActivationRows, finite_rows

__all__ = ["cosine", "dead_share", "fvu", "mean_l0", "interval_of_means", "reconstruction_fidelity", "reconstruction_rivals"]

_HOW = "rows"
_BLOCKS = 9  # few enough that the interval is Student's


def fvu(
    truth: ArrayLike,
    said: ArrayLike,
    mean: ArrayLike,
    *,
    documents: ArrayLike | None = None,
    level: float = 0.95,
    region: str = "",
    random_state: int = 0,
) -> Fidelity:
    """Fraction of variance unexplained: squared error over that of a constant, the mean of the training rows.

    A perfect copy has 0 and that constant has 1.

    Parameters
    ----------
    truth, said : array-like of shape (n, width)
    mean : array-like of shape (width,)
        Of the rows that fitted.
    documents : array-like of shape (n,), optional
        The interval is over documents where given.
    level : float, default=0.95
    region : str, default=""
    random_state : int, default=0
        Of the bootstrap.

    Raises
    ------
    InvalidData
        Rows that do not fit together, or that all are the mean.
    """
    return fvu_of(squares(truth, said, mean), documents, level, region, random_state)


def squares(truth: ArrayLike, said: ArrayLike, mean: ArrayLike) -> NDArray[np.float64]:
    """Squared distance of each row from what was said of it, and from the mean, shape (n, 2)."""
    x, y = _pair(truth, said)
    return np.column_stack([((x - y) ** 2).sum(axis=1), ((x - np.asarray(mean, dtype=np.float64)) ** 2).sum(axis=1)])


def fvu_of(
    terms: NDArray[np.float64], documents: ArrayLike | None, level: float = 0.95, region: str = "", random_state: int = 0
) -> Fidelity:
    """Fraction of variance unexplained of rows of which :func:`squares` are known."""
    if not terms[:, 1].any():
        raise InvalidData("expected rows that differ from the mean, got none: there is no variance to explain")
    value, n = float(terms[:, 0].sum() / terms[:, 1].sum()), len(terms)
    if np.abs(terms[:, 0] - value * terms[:, 1]).max() <= 1e-6 * terms[:, 1].mean():  # no spread but that of rounding
        return _fidelity("FVU", value, (value, value), n, documents, level, "no spread", False, region)
    with np.errstate(over="ignore"):
        found = interval_of_means(terms, lambda m: np.log(m[..., 0] / m[..., 1]), level, documents, random_state)
        lower, upper = np.exp(found.lower), np.exp(found.upper)
    if not upper < 10.0 * max(1.0, value):  # hardly any row has an error: its logarithm says nothing
        found = interval_of_means(terms, lambda m: m[..., 0] / m[..., 1], level, documents, random_state)
        lower, upper = max(found.lower, 0.0), found.upper
    return _fidelity("FVU", value, (lower, upper), n, documents, level, found.method, False, region)


def cosine(
    truth: ArrayLike,
    said: ArrayLike,
    mean: ArrayLike,
    *,
    documents: ArrayLike | None = None,
    level: float = 0.95,
    region: str = "",
) -> Fidelity:
    """Mean cosine between rows and what was said of them, both less the mean.

    Parameters
    ----------
    truth, said : array-like of shape (n, width)
    mean : array-like of shape (width,)
        Of the rows that fitted.
    documents : array-like of shape (n,), optional
    level : float, default=0.95
    region : str, default=""
    """
    x, y = _pair(truth, said)
    x, y = x - np.asarray(mean, dtype=np.float64), y - np.asarray(mean, dtype=np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    found = np.divide((x * y).sum(axis=1), lengths, out=np.zeros(len(x)), where=lengths > 0)
    scores = np.clip(found, -1.0, 1.0)
    ends = bounded_mean(scores, -1.0, 1.0, level, groups=documents)
    return _fidelity(
        "cosine", float(scores.mean()), (ends.lower, ends.upper), len(x), documents, level, ends.method, True, region
    )


def mean_l0(
    codes: Any, *, documents: ArrayLike | None = None, level: float = 0.95, region: str = "", random_state: int = 0
) -> Fidelity:
    """Mean number of active latents a row.

    Parameters
    ----------
    codes : sparse or dense array of shape (n, n_latents)
    documents : array-like of shape (n,), optional
    level : float, default=0.95
    region : str, default=""
    random_state : int, default=0
    """
    counts = _active(codes).sum(axis=1).astype(float)
    found = interval_of_means(counts[:, None], lambda m: m[..., 0], level, documents, random_state)
    return _fidelity(
        "L0", float(counts.mean()), (found.lower, found.upper), len(counts), documents, level, found.method, False, region
    )


def dead_share(codes: Any, *, level: float = 0.95, region: str = "") -> Fidelity:
    """Share of latents that no row activates, with an interval over latents for these rows.

    More rows can only lower it: it says nothing of latents that wait for rows of another kind.

    Parameters
    ----------
    codes : sparse or dense array of shape (n, n_latents)
    level : float, default=0.95
    region : str, default=""
    """
    used = _active(codes).sum(axis=0) > 0
    dead = int((~used).sum())
    ends = binomial(dead, len(used), level).including(dead / len(used))
    how = f"latents on {codes.shape[0]} rows"
    return Fidelity(
        "dead share",
        dead / len(used),
        ends.lower,
        ends.upper,
        level,
        len(used),
        region,
        how,
        ends.method,
        greater_is_better=False,
    )


def reconstruction_fidelity(
    truth: ArrayLike, said: ArrayLike, codes: Any, mean: ArrayLike, *, documents: ArrayLike | None = None, level: float = 0.95,
    random_state: int = 0,
) -> dict[str, Fidelity]:  # fmt: skip
    """How faithful reconstructions are, how many latents they take, and how many latents are never used.

    Parameters
    ----------
    truth, said : array-like of shape (n, width)
    codes : sparse or dense array of shape (n, n_latents)
    mean : array-like of shape (width,)
        Of the rows that fitted.
    documents : array-like of shape (n,), optional
    level : float, default=0.95
    random_state : int, default=0

    Returns
    -------
    dict of str to Fidelity
        "FVU", "cosine", "L0" and "dead share".
    """
    told: dict[str, Any] = {"documents": documents, "level": level}
    return {
        "FVU": fvu(truth, said, mean, random_state=random_state, **told),
        "cosine": cosine(truth, said, mean, **told),
        "L0": mean_l0(codes, random_state=random_state, **told),
        "dead share": dead_share(codes, level=level),
    }


def reconstruction_rivals(
    rows: ActivationRows,
    X: ArrayLike,
    k: int,
    *,
    documents: ArrayLike | None = None,
    level: float = 0.95,
    random_state: int = 0,
) -> dict[str, Fidelity]:
    """Fraction of variance unexplained by what needs no dictionary: the mean, and k numbers a row on fixed directions.

    Parameters
    ----------
    rows : ActivationRows
        What would fit.
    X : array-like of shape (n, width)
        Rows to measure on.
    k : int
        Directions; the L0 of the dictionary beside which they are shown.
    documents : array-like of shape (n,), optional
    level : float, default=0.95
    random_state : int, default=0

    Returns
    -------
    dict of str to Fidelity
        "mean", "PCA" and "random directions".
    """
    x, mean = finite_rows(X, rows.width).astype(np.float64), np.asarray(rows.mean_)
    few = max(1, min(k, rows.width))
    axes = np.linalg.eigh(np.asarray(rows.gram_) - np.outer(mean, mean))[1][:, ::-1][:, :few]
    drawn = np.linalg.qr(np.random.default_rng([random_state, 7]).normal(size=(rows.width, few)))[0]
    told: dict[str, Any] = {"documents": documents, "level": level, "random_state": random_state}
    return {
        "mean": fvu(x, np.tile(mean, (len(x), 1)), mean, **told),
        "PCA": fvu(x, mean + (x - mean) @ axes @ axes.T, mean, **told),
        "random directions": fvu(x, mean + (x - mean) @ drawn @ drawn.T, mean, **told),
    }


def interval_of_means(
    terms: NDArray[np.float64], statistic: Callable[[Any], Any], level: float, documents: Any, random_state: int
) -> Interval:
    """The bootstrap's interval; Student's over a few large blocks where so few rows differ that resamples often have none.

    Parameters
    ----------
    terms : ndarray of shape (n, k)
        What is averaged.
    statistic : callable
        Means of shape (..., k) to numbers of shape (...).
    level : float
    documents : array-like of shape (n,) or None
        The interval is over documents where given.
    random_state : int
    """
    groups = None if documents is None else np.unique(np.asarray(documents), return_inverse=True)[1]
    try:
        return bootstrap(terms, statistic, level, groups=groups, random_state=random_state)
    except InvalidData:
        units = np.arange(len(terms)) if groups is None else groups
        order = np.random.default_rng([random_state, 8]).permutation(units.max() + 1)
        return bootstrap(terms, statistic, level, groups=order[units] % _BLOCKS, random_state=random_state)


def _active(codes: Any) -> Any:
    return codes != 0 if not hasattr(codes, "tocsr") else codes.tocsr().astype(bool)


def _pair(truth: ArrayLike, said: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = finite_rows(truth).astype(np.float64), finite_rows(said).astype(np.float64)
    if x.shape != y.shape:
        raise InvalidData(f"expected rows and reconstructions of one shape, got {x.shape} and {y.shape}")
    return x, y


def _fidelity(
    measure: str,
    value: float,
    ends: tuple[float, float],
    n: int,
    documents: Any,
    level: float,
    method: str,
    greater: bool,
    region: str,
) -> Fidelity:
    groups = None if documents is None else len(np.unique(np.asarray(documents)))
    lower, upper = min(ends[0], value), max(ends[1], value)
    return Fidelity(measure, value, lower, upper, level, n, region, _HOW, method, groups=groups, greater_is_better=greater)
