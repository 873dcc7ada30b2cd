"""Which tokens become rows of a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole

__all__ = [
    "RowFilter", "every_position", "first_position", "norm_above", "positions_before", "token_block", "token_ids",
    "token_phrase",
]  # fmt: skip

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


def token_block(begin: int, end: int) -> RowFilter:
    """Tokens from one that opens a block to the one that closes it, both included, such as the image tokens of a prompt.

    A block that is not closed reaches to the end of its sequence.

    Parameters
    ----------
    begin, end : int
        Token ids.
    """
    require_whole(0, begin=begin, end=end)

    def rule(tokens: Any, positions: Any, norms: Mapping[str, Any]) -> _Flags:
        at = np.arange(len(tokens))
        opened, closed, first = (
            np.maximum.accumulate(np.where(flags, at, -1)) for flags in (tokens == begin, tokens == end, positions == 0)
        )
        before = np.concatenate([[-1], closed[:-1]])
        return (opened >= np.maximum(first, 0)) & (opened > before)

    return RowFilter(f"token within {begin} ... {end}", rule)


def token_phrase(ids: Collection[int]) -> RowFilter:
    """Tokens of a fixed phrase wherever it stands as a whole, such as the boilerplate of a prompt.

    Parameters
    ----------
    ids : collection of int
        In order.
    """
    phrase = np.fromiter(ids, dtype=np.int64)
    if not phrase.size:
        raise InvalidData("expected ids= of one token or more, got none")

    def rule(tokens: Any, positions: Any, norms: Mapping[str, Any]) -> _Flags:
        found, k = np.zeros(len(tokens), dtype=bool), len(phrase)
        if len(tokens) >= k:
            whole = (np.lib.stride_tricks.sliding_window_view(tokens, k) == phrase).all(axis=1)
            whole &= positions[k - 1 :] - positions[: len(positions) - k + 1] == k - 1
            for offset in range(k):
                found[offset : offset + len(whole)] |= whole
        return found

    return RowFilter(f"phrase {' '.join(map(str, phrase.tolist()))}", rule)


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
