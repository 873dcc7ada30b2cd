"""How well activations of latents are foretold on documents that nobody has looked at: what interpretations are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.bounds import bootstrap, bounded_mean
from locum.core.errors import InvalidData, require_positive
from locum.core.fidelity import Fidelity
from locum.inside.describing import CodedUnits

__all__ = ["activation_correlation", "foretold_by_units", "interpretability"]

_FLOATS = NDArray[np.float64]


def activation_correlation(
    truth: ArrayLike,
    said: ArrayLike,
    *,
    documents: ArrayLike | None = None,
    level: float = 0.95,
    random_state: int = 0,
) -> Fidelity:
    """Correlation of activations with what was foretold of them, with an interval over documents.

    A perfect copy, scaled or shifted, has 1; a constant has 0.

    Parameters
    ----------
    truth, said : array-like of shape (n,)
        Activations of a latent, and what an interpretation says of them: by a model that was given its name, or by anything.
    documents : array-like of shape (n,), optional
    level : float, default=0.95
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Numbers that do not fit together, or activations that are all the same.

    References
    ----------
    Bills and others, *Language models can explain neurons in language models* (2023).

    Examples
    --------
    >>> activation_correlation([0.0, 1.0, 0.0, 2.0], [0.0, 2.0, 0.0, 4.0]).value
    1.0
    """
    x, y = (np.asarray(one, dtype=np.float64) for one in (truth, said))
    if x.ndim != 1 or x.shape != y.shape or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InvalidData(f"expected finite activations and predictions of one length, got shapes {x.shape} and {y.shape}")
    if x.size < 2 or np.ptp(x) == 0:
        raise InvalidData("expected activations that differ: there is nothing to foretell")
    groups = None if documents is None else len(np.unique(np.asarray(documents)))
    told: dict[str, Any] = {"how": "rows", "groups": groups}
    if np.ptp(y) == 0:
        return Fidelity("correlation", 0.0, 0.0, 0.0, level, len(x), method="no spread", **told)
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    value = float(np.clip((x * y).mean(), -1.0, 1.0))
    if 1.0 - abs(value) < 1e-9:
        return Fidelity("correlation", round(value), round(value), round(value), level, len(x), method="no spread", **told)
    terms = np.column_stack([x, y, x * x, y * y, x * y])

    def statistic(m: Any) -> Any:
        a, b = m[..., 2] - m[..., 0] ** 2, m[..., 3] - m[..., 1] ** 2
        return np.arctanh(np.clip((m[..., 4] - m[..., 0] * m[..., 1]) / np.sqrt(a * b), -1 + 1e-12, 1 - 1e-12))

    with np.errstate(invalid="ignore", divide="ignore"):
        ends = bootstrap(terms, statistic, level, groups=documents, random_state=random_state)
    lower, upper = float(np.tanh(ends.lower)), float(np.tanh(ends.upper))
    return Fidelity("correlation", value, min(lower, value), max(upper, value), level, len(x), method=ends.method, **told)


def foretold_by_units(
    train: CodedUnits, test: CodedUnits, latents: Sequence[int], *, prior: float = 2.0
) -> NDArray[np.float64]:
    """Activations foretold from the unit itself and the one before it, as they were on other documents, shape (rows, latents).

    It is the reading that needs no language model: the mean activation of the latent on this pair of units, drawn towards
    that on this unit, which is drawn towards that on all, by as much as `prior` rows of these would.

    Parameters
    ----------
    train, test : CodedUnits
        Of texts or items; documents each its own.
    latents : sequence of int
    prior : float, default=2.0
        In rows.
    """
    require_positive(prior=prior)
    if train.pictures or test.pictures:
        raise InvalidData("expected units that are texts or items; patches have no text to go by")
    columns = np.asarray(list(latents), dtype=np.int64)
    if not len(columns) or columns.min() < 0 or columns.max() >= train.codes.shape[1]:
        raise InvalidData(f"expected latents= from 0 to {train.codes.shape[1] - 1}, got {columns.tolist()}")
    if train.codes.shape[1] != test.codes.shape[1]:
        raise InvalidData("expected codes of one dictionary in both, got others")
    Z = train.codes.tocsc()[:, columns].tocsr()
    said = np.tile(np.asarray(Z.mean(axis=0)).ravel(), (len(test.position), 1)).astype(np.float64)
    for context in (False, True):
        learned, asked = (_keys(units, context) for units in (train, test))
        known, code = np.unique(learned, return_inverse=True)
        counts = np.bincount(code).astype(np.float64)
        sums = _sums(Z, code, len(known))
        at = np.searchsorted(known, asked).clip(max=len(known) - 1)
        there = known[at] == asked
        n = counts[at[there], None]
        said[there] = (sums[at[there]] + prior * said[there]) / (n + prior)
    return said


def interpretability(
    train: CodedUnits,
    test: CodedUnits,
    latents: Sequence[int],
    *,
    prior: float = 2.0,
    level: float = 0.95,
    random_state: int = 0,
) -> tuple[dict[int, Fidelity], Fidelity]:
    """How well a reading made on some documents foretells activations on others: for each latent, and on average.

    Show beside it the same of what no dictionary learned: codes along random directions, of an untrained network, or
    coordinates themselves.

    Parameters
    ----------
    train, test : CodedUnits
        Of documents each its own.
    latents : sequence of int
        Ones that are active in the test documents; others are left out.
    prior : float, default=2.0
        As for :func:`foretold_by_units`.
    level : float, default=0.95
    random_state : int, default=0

    Returns
    -------
    each : dict of int to Fidelity
        Correlations, with intervals over documents.
    mean : Fidelity
        Over latents, with an interval over these.

    Raises
    ------
    InvalidData
        Fewer than two of the latents are active in the test documents.
    """
    said = foretold_by_units(train, test, latents, prior=prior)
    Z = test.codes.tocsc()
    groups = test.groups if len(np.unique(test.groups)) > 1 else None
    each: dict[int, Fidelity] = {}
    for latent, column in zip(latents, said.T, strict=True):
        truth = Z[:, [int(latent)]].toarray().ravel()
        if np.ptp(truth) > 0:
            each[int(latent)] = _with_interval(truth, column, groups, level, random_state)
    if len(each) < 2:
        raise InvalidData(f"expected two latents or more that are active in the test documents, got {len(each)}")
    values = np.array([one.value for one in each.values()])
    ends = bounded_mean(values, -1.0, 1.0, level)
    value = float(values.mean())
    mean = Fidelity(
        "mean correlation", value, min(ends.lower, value), max(ends.upper, value), level, len(values), how="latents",
        method=ends.method,
    )  # fmt: skip
    return each, mean


# ---------------------------------------------------------------------- parts
def _with_interval(truth: _FLOATS, said: _FLOATS, groups: Any, level: float, random_state: int) -> Fidelity:
    """The interval of a latent that too few documents hold is all there can be."""
    try:
        return activation_correlation(truth, said, documents=groups, level=level, random_state=random_state)
    except InvalidData:  # active in so few documents that resamples often have none
        value = float(np.corrcoef(truth, said)[0, 1])
        return Fidelity("correlation", value, -1.0, 1.0, level, len(truth), how="rows", method="unknown")


def _keys(units: CodedUnits, context: bool) -> NDArray[np.str_]:
    """The text of each row's unit, with that of the one before where asked for."""
    texts = [
        (units.units[s][p - 1] + "\x00" if p else "\x00") * context + units.units[s][p]
        for s, p in zip(units.sequence.tolist(), units.position.tolist(), strict=True)
    ]
    return np.array(texts, dtype=np.str_)


def _sums(codes: Any, code: NDArray[np.int64], groups: int) -> _FLOATS:
    from scipy import sparse

    pick = sparse.csr_array((np.ones(len(code)), (code, np.arange(len(code)))), shape=(groups, len(code)))
    return np.asarray((pick @ codes).toarray(), dtype=np.float64)
