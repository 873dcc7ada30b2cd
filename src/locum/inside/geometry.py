"""How the atoms of a dictionary lie to one another, and how their codes occur together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from locum.core.bounds import bootstrap_mean
from locum.core.errors import InvalidData, require_whole
from locum.core.fidelity import Fidelity

__all__ = ["absorption_score", "babel", "babel_selected", "effective_rank", "matched", "modality_score"]

_FOUND = 0.5  # cosine from which on a feature counts as found by the atom matched with it


def effective_rank(codes: Any) -> float:
    """Exponential of the entropy of the spectrum of co-activations: how many directions codes spread over.

    The eigenvalues are those of Z' Z, divided by their sum. One latent alone gives 1, q latents that are active one at a
    time and equally strong give q.

    Parameters
    ----------
    codes : sparse or dense array of shape (n, n_latents)
    """
    table = sparse.csr_array(codes)
    used = np.flatnonzero(np.asarray((table != 0).sum(axis=0)).ravel())
    if not used.size:
        raise InvalidData("expected codes with at least one active latent, got zeros only")
    table = table[:, used]
    small = table @ table.T if table.shape[0] < table.shape[1] else table.T @ table
    share = np.clip(np.linalg.eigvalsh(small.toarray().astype(np.float64)), 0.0, None)
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def babel(atoms: ArrayLike, r: int) -> float:
    """The largest sum of absolute inner products of one atom with r others (Tropp, 2004).

    Parameters
    ----------
    atoms : array-like of shape (p, width)
        Of length 1.
    r : int
        From 1 to p - 1.
    """
    table = np.asarray(atoms)
    require_whole(1, r=r)
    if r >= len(table):
        raise InvalidData(f"expected r= below the {len(table)} atoms, got {r}")
    worst = 0.0
    for start in range(0, len(table), 512):  # the whole table of products would not fit for large dictionaries
        products = np.abs(table[start : start + 512] @ table.T)
        products[np.arange(len(products)), np.arange(start, start + len(products))] = 0.0
        worst = max(worst, float(np.partition(products, -r, axis=1)[:, -r:].sum(axis=1).max()))
    return worst


def babel_selected(
    atoms: ArrayLike, codes: Any, r: int, *, documents: ArrayLike | None = None, level: float = 0.95, random_state: int = 0
) -> Fidelity:
    """Mean over rows of the Babel function within the atoms that are active together.

    Where s atoms are active, ``min(r, s - 1)`` others are summed; a row with fewer than two has 0.

    Parameters
    ----------
    atoms : array-like of shape (p, width)
    codes : sparse or dense array of shape (n, p)
    r : int
    documents : array-like of shape (n,), optional
    level : float, default=0.95
    random_state : int, default=0
    """
    require_whole(1, r=r)
    table, chosen = np.asarray(atoms), sparse.csr_array(codes)
    found = np.zeros(chosen.shape[0])
    for i in range(len(found)):
        active = chosen.indices[chosen.indptr[i] : chosen.indptr[i + 1]]
        if len(active) > 1:
            products = np.abs(table[active] @ table[active].T)
            np.fill_diagonal(products, 0.0)
            few = min(r, len(active) - 1)
            found[i] = np.partition(products, -few, axis=1)[:, -few:].sum(axis=1).max()
    ends = bootstrap_mean(found, level, groups=documents, random_state=random_state)
    groups = None if documents is None else len(np.unique(np.asarray(documents)))
    return Fidelity(
        f"Babel({r}) of selected atoms", float(found.mean()), ends.lower, ends.upper, level, len(found), "", "rows",
        ends.method, groups=groups, greater_is_better=False,
    )  # fmt: skip


def matched(atoms: ArrayLike, features: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The atom that stands for each true feature, one for each, by the largest sum of cosines.

    Parameters
    ----------
    atoms : array-like of shape (p, width)
    features : array-like of shape (q, width)
        At most p.

    Returns
    -------
    atom, cosine : ndarrays of shape (q,)
    """
    A, F = (np.asarray(one, dtype=np.float64) for one in (atoms, features))
    if A.ndim != 2 or F.ndim != 2 or A.shape[1] != F.shape[1] or len(F) > len(A):
        raise InvalidData(f"expected features of the width of the atoms and no more of them, got {A.shape} and {F.shape}")
    A = A / np.maximum(np.linalg.norm(A, axis=1, keepdims=True), 1e-12)
    F = F / np.maximum(np.linalg.norm(F, axis=1, keepdims=True), 1e-12)
    close = F @ A.T
    at = linear_sum_assignment(close, maximize=True)[1]
    return at, close[np.arange(len(F)), at]


def absorption_score(atoms: ArrayLike, features: ArrayLike, parents: ArrayLike) -> float:
    """Mean cosine between the atoms of child features and the true parents: 0 where no child has absorbed its parent.

    It needs planted truth. A child that no atom is near to (cosine with the atom matched below 0.5) does not count; NaN
    where no child was found.

    Parameters
    ----------
    atoms : array-like of shape (p, width)
    features : array-like of shape (q, width)
        True ones.
    parents : array-like of shape (q,)
        Number of the feature that is the parent of each, -1 for those without.
    """
    parent = np.asarray(parents)
    at, close = matched(atoms, features)
    children = np.flatnonzero((parent >= 0) & (close >= _FOUND))
    if not children.size:
        return float("nan")
    A, F = np.asarray(atoms, dtype=np.float64), np.asarray(features, dtype=np.float64)
    cosines = [float(A[at[i]] @ F[parent[i]] / (np.linalg.norm(A[at[i]]) * np.linalg.norm(F[parent[i]]))) for i in children]
    return float(np.mean(cosines))


def modality_score(codes: Any, first: ArrayLike) -> NDArray[np.float64]:
    """Share of the mean activity of each latent that is on rows of the first of two kinds; NaN for latents never active.

    Parameters
    ----------
    codes : sparse or dense array of shape (n, p)
    first : array-like of bool, shape (n,)
        Rows of the first kind, such as images.
    """
    table, flags = sparse.csr_array(codes), np.asarray(first, dtype=bool)
    if flags.shape != (table.shape[0],) or flags.all() or not flags.any():
        raise InvalidData(f"expected a flag for each of {table.shape[0]} rows, of both kinds, got shape {flags.shape}")
    one, other = (np.asarray(table[rows].mean(axis=0)).ravel() for rows in (flags, ~flags))
    with np.errstate(invalid="ignore"):
        return one / (one + other)
