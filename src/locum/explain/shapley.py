"""Shapley values of one answer against a named background: exact in few columns, else sampled, each with an interval."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from locum.core.domain import Domain
from locum.core.errors import InvalidData, require_whole
from locum.core.fidelity import Fidelity
from locum.core.target import Target
from locum.explain._neighbourhood import Background, Explained, content, explained, foretold
from locum.explain.attribution import Attribution, Axis

__all__ = ["ShapleyExplainer"]

_FLOAT = NDArray[np.float64]
_BOOL = NDArray[np.bool_]
_LEVEL = 0.95
_MOST_EXACT = 16  # columns; beyond, 2^d coalitions are no option whatever `samples` says
_COALITIONS, _CROSSED = 64, 64
_AT_ONCE = 1 << 24  # values of rows asked in one query


class ShapleyExplainer:
    r"""Interventional Shapley values of single answers.

    With :math:`v(S)` the mean answer of rows that have the columns S of the row x and all others of a background row b, the
    value of column j is :math:`\varphi_j = \sum_{S \not\ni j} \frac{|S|!\,(d - |S| - 1)!}{d!} (v(S \cup j) - v(S))`. All of
    them sum to f(x) less the mean answer of the background, exactly; a column that f does not use has the value 0, exactly.
    Where :math:`2^d` coalitions of every background row fit into `samples`, all are asked. Else columns are taken over from x
    one by one in random orders, each order forwards and backwards, as often from each background row; the interval is
    Student's, from the spread of pairs of orders within background rows (between them, where each has one).

    Parameters
    ----------
    target : Target
        Of classes, probabilities or values.
    data : rows, as the target takes them
    domain : Domain or None, default=None
        Read off `data` where neither this nor the target says.
    samples : int, default=32768
        Most rows of the target for each row explained.
    background : int or rows, default=32
        The distribution that takes the place of columns taken away: so many rows of the data, picked at random, or these rows.
    output : class, int or None, default=None
        Class, or position of the value, to explain; each row's own answer where None.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Settings that cannot be used, fewer samples than one pair of orders from each background row needs, or a target with
        recorded answers only.

    Notes
    -----
    Cost: :math:`2^d` rows of the target for each background row (exact), or 2 (d - 1) rows a pair of orders; and 64 fresh for
    each of at most 64 background rows. In four queries for all rows together, unless they are so many that they are asked in
    parts.

    **Departures** from KernelSHAP: orders rather than a weighted regression on coalitions, which keeps unused columns at
    exactly 0, and gives each value an error that is known.

    References
    ----------
    Shapley, *A value for n-person games*, 1953. Lundberg and Lee, NeurIPS 2017, arXiv 1705.07874. Backward orders: Mitchell,
    Cooper, Frank and Holmes, *Sampling permutations for Shapley value estimation*, JMLR 23, 2022, arXiv 2104.12199, section
    3.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> target = Target(lambda X: 2.0 * X[:, 0] - X[:, 1], name="linear", output="value")
    >>> (found,) = ShapleyExplainer(target, X, background=X).explain(X[:1])
    >>> bool(np.allclose(found.values, [2, -1, 0] * (X[0] - X.mean(axis=0))))
    True
    >>> bool(np.isclose(found.base + found.values.sum(), found.answer))
    True
    """

    papers = ("shap", "permutation-shapley")

    def __init__(
        self,
        target: Target,
        data: Any,
        *,
        domain: Domain | None = None,
        samples: int = 32_768,
        background: Any = 32,
        output: Any = None,
        random_state: int = 0,
    ) -> None:
        self._data = Background.of(target, data, domain, random_state)
        self._output = output
        self._rows, self._name = self._split(background)
        d, m = len(self._data.domain), len(self._rows)
        require_whole(1, samples=samples)
        self._orders = 0 if d <= _MOST_EXACT and m * 2**d <= samples else samples // (m * max(2 * (d - 1), 1))
        if not self._orders and not (d <= _MOST_EXACT and m * 2**d <= samples):
            raise InvalidData(
                f"expected samples= of at least {m * 2 * (d - 1)}, one pair of orders of {d} columns from each of {m} "
                f"background rows, got {samples}; or give fewer with background="
            )

    def _split(self, background: Any) -> tuple[_FLOAT, str]:
        """Background rows, and what they are in words."""
        if not isinstance(background, int | np.integer) or isinstance(background, bool):
            given = self._data.read(background)
            return given, f"{len(given)} rows given as background"
        if background < 1:
            raise InvalidData(f"expected background= of 1 or more rows, or the rows themselves, got {background!r}")
        rows, seed = self._data.rows, self._data.random_state
        picked = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:background])]
        return picked, f"{len(picked)} rows of the data, picked at random (seed {seed})"

    def explain(self, X: Any) -> list[Attribution]:
        """Explain rows.

        Parameters
        ----------
        X : m rows, as the target takes them

        Returns
        -------
        list of m Attribution
            A value is a column's share of what the answer has more than the base, the mean answer of the background. The
            fidelity is the R2 of base and values, added up over the columns that a coalition takes from the row, for the
            coalition's mean answer on fresh rows, each of which has its other columns from two background rows. None where no
            such rows are left, as with a single background row.
        """
        rows = self._data.read(X)
        (answers,) = self._data.ask([rows], "use")
        what = explained(self._data.target, answers, self._output)
        (floor,) = self._data.ask([self._rows])
        tops = [one.of(answers[[i]])[0] for i, one in enumerate(what)]
        games = [_Game(self, z, one, top, one.of(floor)) for z, one, top in zip(rows, what, tops, strict=True)]
        for part in self._parts(games):
            said = self._data.ask([game.rows() for game in part])
            for game, y in zip(part, said, strict=True):
                game.tell(y)
        return self._records(games)

    def _parts(self, games: list[_Game]) -> Iterator[list[_Game]]:
        """All games in one part, unless their rows are very many."""
        each = max(1, len(games[0].masks) * self._rows.size)
        step = max(1, _AT_ONCE // each)
        for start in range(0, len(games), step):
            yield games[start : start + step]

    def _records(self, games: list[_Game]) -> list[Attribution]:
        drawn = [game.fresh() for game in games]
        fresh = self._data.score([rows for _, rows in drawn])
        out = []
        for game, (masks, rows), asked in zip(games, drawn, fresh, strict=True):
            truth, kept = _means(rows, len(masks), asked.rows, game.what.of(asked.answers))
            fidelity = foretold(
                truth,
                game.base + masks[kept] @ game.values,
                weights=None,
                region="fresh coalitions of this row's columns",
                random_state=self._data.random_state,
            )
            out.append(self._record(game, fidelity))
        return out

    def _record(self, game: _Game, fidelity: Fidelity | None) -> Attribution:
        return Attribution(
            game.values,
            game.values - game.reach,
            game.values + game.reach,
            (Axis("column", self._data.domain.names),),
            base=game.base,
            row=self._data.plain(game.z),
            answer=game.what.answer,
            output=game.what.text,
            baseline=self._name,
            method="Shapley values" if not self._orders else "Shapley values (sampled orders)",
            meaning="column's share of what the answer has more than the base",
            fidelity=fidelity,
            random_state=self._data.random_state,
            level=_LEVEL,
        )


# ---------------------------------------------------------------------- one row's game
@dataclass(eq=False)
class _Game:
    """The game of one row: which coalitions are asked, and what their answers say.

    Attributes
    ----------
    values, reach : ndarray of shape (d,)
        Shapley values, and half the width of their intervals.
    """

    explainer: ShapleyExplainer
    z: _FLOAT
    what: Explained
    top: float
    floor: _FLOAT

    def __post_init__(self) -> None:
        d = len(self.z)
        self.base = float(self.floor.mean())
        if not self.explainer._orders:
            self.masks = _all_coalitions(d)[1:-1]
            return
        rng = self.explainer._data.rng(self.z, "shapley")
        pairs = len(self.floor) * self.explainer._orders
        self._order = np.argsort(rng.random((pairs, d)), axis=1)
        rank = np.argsort(self._order, axis=1)
        first = rank[:, None, :] < np.arange(1, d)[:, None]
        # Taken over backwards, the columns of an order leave the complements of these coalitions.
        self.masks = np.stack([first, ~first], axis=1).reshape(-1, d)

    def rows(self) -> _FLOAT:
        """Rows to ask, each of some coalition's columns of the row and the others of a background row."""
        background = self.explainer._rows
        if not self.explainer._orders:
            return _hybrids(self.z, background, self.masks)
        each = len(self.masks) // len(background)
        return np.where(self.masks, self.z, np.repeat(background, each, axis=0))

    def tell(self, answers: NDArray[Any]) -> None:
        """Take the answers to `rows`."""
        y, m, d = self.what.of(answers), len(self.floor), len(self.z)
        if not self.explainer._orders:
            inner = y.reshape(len(self.masks), m).mean(axis=1)
            self.values = _exact(np.concatenate([[self.base], inner, [self.top]]), d)
            self.reach = np.zeros(d)
            return
        pairs = self.explainer._orders * m
        y = y.reshape(pairs, 2, d - 1)
        floor, top = np.repeat(self.floor, self.explainer._orders)[:, None], np.full((pairs, 1), self.top)
        forward = np.diff(np.hstack([floor, y[:, 0], top]), axis=1)
        backward = -np.diff(np.hstack([top, y[:, 1], floor]), axis=1)
        gains = np.empty((pairs, d))
        np.put_along_axis(gains, self._order, (forward + backward) / 2, axis=1)
        self.values = gains.mean(axis=0)
        self.reach = _reach(gains.reshape(m, self.explainer._orders, d))

    def fresh(self) -> tuple[_BOOL, _FLOAT]:
        """Coalitions to score on, shape (k, d), and rows of each that are in no fit, coalition by coalition.

        Part of the columns outside a coalition come from one background row and part from another, each row giving every column
        once: what the rows have in single columns is what the background has.
        """
        d, rng = len(self.z), self.explainer._data.rng(self.z, "coalitions")
        rows = self.explainer._rows
        back = rows[rng.permutation(len(rows))[:_CROSSED]]
        if d < 2 or len(back) < 2:
            return np.empty((0, d), dtype=bool), np.empty((0, d))
        size = rng.integers(0, d - 1, size=_COALITIONS)
        cut = rng.integers(size + 1, d)
        rank = np.argsort(np.argsort(rng.random((_COALITIONS, d)), axis=1), axis=1)
        shift = rng.integers(1, len(back), size=_COALITIONS)
        other = back[(np.arange(len(back)) + shift[:, None]) % len(back)]
        mixed = np.where((rank < cut[:, None])[:, None], back, other)
        masks = rank < size[:, None]
        return masks, np.where(masks[:, None], self.z, mixed).reshape(-1, d)


def _hybrids(z: _FLOAT, background: _FLOAT, masks: _BOOL) -> _FLOAT:
    """Every coalition with every background row, shape (k m, d), coalition by coalition."""
    return np.where(masks[:, None], z, background).reshape(-1, len(z))


def _all_coalitions(d: int) -> _BOOL:
    """All subsets, shape (2^d, d): none first, all last."""
    return np.asarray((np.arange(2**d)[:, None] >> np.arange(d)) & 1, dtype=bool)


def _exact(v: _FLOAT, d: int) -> _FLOAT:
    """Shapley values from the worth of all 2^d coalitions."""
    size = _all_coalitions(d).sum(axis=1)
    weight = np.array([math.factorial(s) * math.factorial(d - s - 1) / math.factorial(d) for s in range(d)])
    out = np.empty(d)
    for j in range(d):
        without = np.flatnonzero(~(np.arange(2**d) >> j) & 1)
        out[j] = weight[size[without]] @ (v[without + (1 << j)] - v[without])
    return out


def _reach(gains: _FLOAT) -> _FLOAT:
    """Half-widths for the mean of gains (m background rows, r pairs of orders, d): the background itself is no sample."""
    m, r, d = gains.shape
    if m * r < 2:
        return np.full(d, np.nan)
    # With one pair a background row, what the rows differ by counts as noise as well: never too narrow.
    free = m * (r - 1) if r > 1 else m - 1
    apart = gains - gains.mean(axis=1 if r > 1 else 0, keepdims=True)
    error = np.sqrt((apart**2).sum(axis=(0, 1)) / free / (m * r))
    return np.asarray(special.stdtrit(free, 0.5 + _LEVEL / 2) * error)


def _means(hybrids: _FLOAT, k: int, asked: _FLOAT, y: _FLOAT) -> tuple[_FLOAT, _BOOL]:
    """Mean answer of each of k coalitions over its rows that are fresh, and which coalitions have at least half of them."""
    place = {key: i for i, key in enumerate(content(asked).tolist())}
    at = np.array([place.get(key, -1) for key in content(hybrids).tolist()], dtype=np.intp)
    at = at.reshape(k, len(at) // max(k, 1))
    count = (at >= 0).sum(axis=1)
    kept = 2 * count >= at.shape[1]
    sums = np.where(at >= 0, np.append(y, 0.0)[at], 0.0).sum(axis=1)
    return sums[kept] / count[kept], kept
