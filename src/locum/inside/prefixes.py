"""How much the first latents of a dictionary give back by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.inside.dictionary import Dictionary, product
from locum.inside.measures import fvu
from locum.inside.rows import finite_rows

__all__ = ["by_frequency", "prefix_curve"]


def by_frequency(codes: Any) -> NDArray[np.int64]:
    """Latents in falling order of the number of rows they are active on, shape (n_latents,).

    Parameters
    ----------
    codes : sparse or dense array of shape (n, n_latents)
    """
    return np.argsort(-np.asarray((sparse.csr_array(codes) != 0).sum(axis=0)).ravel(), kind="stable")


def prefix_curve(
    dictionary: Dictionary,
    X: ArrayLike,
    ends: Sequence[int] | None = None,
    *,
    order: ArrayLike | None = None,
    documents: ArrayLike | None = None,
    level: float = 0.95,
    random_state: int = 0,
) -> dict[int, Fidelity]:
    """Fraction of variance unexplained where the first m latents alone are kept of each code, for several m.

    Parameters
    ----------
    dictionary : Dictionary
        Fitted.
    X : array-like or torch.Tensor of shape (n, width)
        Rows that did not fit.
    ends : sequence of int or None, default=None
        Values of m; the prefixes that were trained where None.
    order : array-like of int, shape (n_latents,), optional
        Which latents come first; for dictionaries without an order of their own, such as :func:`by_frequency` of training
        rows.
    documents : array-like of shape (n,), optional
        Intervals are over documents where given.
    level : float, default=0.95
    random_state : int, default=0

    Returns
    -------
    dict of int to Fidelity

    Raises
    ------
    InvalidData
        Ends that are no numbers of latents, or an order that does not hold each latent once.
    """
    table, codes = finite_rows(X), sparse.csc_array(dictionary.encode(X))
    p = codes.shape[1]
    wanted = sorted(set(dictionary.spec().prefixes(p) if ends is None else ends))
    if not wanted or not all(isinstance(m, int | np.integer) and 1 <= m <= p for m in wanted):
        raise InvalidData(f"expected ends= as whole numbers from 1 to the {p} latents, got {wanted}")
    ranked = np.arange(p) if order is None else np.asarray(order)
    if ranked.shape != (p,) or not np.array_equal(np.sort(ranked), np.arange(p)):
        raise InvalidData(f"expected order= to hold each of the {p} latents once")
    given, last, out = np.tile(dictionary.bias_, (len(table), 1)), 0, {}
    for m in wanted:
        part = ranked[last:m]
        given, last = given + product(sparse.csr_array(codes[:, part]), dictionary.atoms_[part]), m
        out[int(m)] = fvu(table, given, dictionary.mean_, documents=documents, level=level, random_state=random_state)
    return out
