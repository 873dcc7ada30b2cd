"""Which tokens become rows of a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole

__all__ = ["RowFilter", "every_position", "first_position", "norm_above", "positions_before", "token_ids"]

_Flags = NDArray[np.bool_]


class RowFilter:
    """A rule that picks tokens; rules are combined by ``~``, ``&`` and ``|``.

    Parameters
    ----------
    text : str
        The rule in words; a store carries it, and two stores with the same words have the same rule.
    rule : callable
        Takes token ids, positions (both of shape (n,)) and norms by site, gives flags of shape (n,).
    sites : collection of str, default=()
        Sites whose norms the rule reads; it can then only be applied when the activations are there.

    Examples
    --------
    >>> keep = ~first_position & ~token_ids({0})
    >>> keep.picks(np.array([7, 0, 7]), np.array([0, 1, 2]), {}).tolist()
    [False, False, True]
    >>> print(keep)
    (not first position) and (not token in 0)
    """

    def __init__(self, text: str, rule: Callable[[Any, Any, Mapping[str, Any]], _Flags], sites: Collection[str] = ()) -> None:
        self.text, self.rule, self.sites = text, rule, frozenset(sites)

    def picks(self, tokens: Any, positions: Any, norms: Mapping[str, Any]) -> _Flags:
        """Which of n tokens the rule picks.

        Parameters
        ----------
        tokens, positions : ndarray of shape (n,)
        norms : dict of str to ndarray of shape (n,)
            By site.
        """
        return np.asarray(self.rule(tokens, positions, norms), dtype=bool)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"RowFilter({self.text!r})"

    def __invert__(self) -> RowFilter:
        return RowFilter(f"not {self.text}", lambda *seen: ~self.picks(*seen), self.sites)

    def __and__(self, other: RowFilter) -> RowFilter:
        text = f"({self.text}) and ({other.text})"
        return RowFilter(text, lambda *seen: self.picks(*seen) & other.picks(*seen), self.sites | other.sites)

    def __or__(self, other: RowFilter) -> RowFilter:
        text = f"({self.text}) or ({other.text})"
        return RowFilter(text, lambda *seen: self.picks(*seen) | other.picks(*seen), self.sites | other.sites)


every_position = RowFilter("every position", lambda tokens, positions, norms: np.ones(len(tokens), dtype=bool))
first_position = RowFilter("first position", lambda tokens, positions, norms: positions == 0)


def positions_before(stop: int) -> RowFilter:
    """The first `stop` positions of each sequence.

    Parameters
    ----------
    stop : int
    """
    require_whole(1, stop=stop)
    return RowFilter(f"position before {stop}", lambda tokens, positions, norms: positions < stop)


def token_ids(ids: Collection[int]) -> RowFilter:
    """Tokens of certain ids.

    Parameters
    ----------
    ids : collection of int
    """
    wanted = np.unique(np.fromiter(ids, dtype=np.int64))
    words = ", ".join(map(str, wanted.tolist()))
    return RowFilter(f"token in {words}", lambda tokens, positions, norms: np.isin(tokens, wanted))


def norm_above(site: str, multiple: float) -> RowFilter:
    """Tokens whose activation at a site is longer than a multiple of the median in their batch.

    Parameters
    ----------
    site : str
    multiple : float
        Above 0. Sinks of attention are often 100 times as long as other tokens.
    """
    if not np.isfinite(multiple) or multiple <= 0:
        raise InvalidData(f"expected multiple= to be a positive number, got {multiple!r}")

    def rule(tokens: Any, positions: Any, norms: Mapping[str, Any]) -> _Flags:
        return norms[site] > multiple * np.median(norms[site])

    return RowFilter(f"norm at {site} above {multiple:g} medians", rule, (site,))
