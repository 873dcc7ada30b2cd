"""LIME: a linear model that holds near one row, with an interval for each value and its fidelity on fresh rows.

The rows it is fitted to are made of cells of real rows rather than of independent noise, and which of them are near is a
matter of weights, as in the paper. So all rows that are explained can share them: a thousand explanations ask the target
little more than one does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from locum.core.domain import Domain
from locum.core.errors import InvalidData, require_whole
from locum.core.target import Target
from locum.explain._neighbourhood import Background, Explained, Neighbourhood, explained, foretold, held_out
from locum.explain.attribution import Attribution, Axis

__all__ = ["LimeExplainer"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_BOOL = NDArray[np.bool_]
_LEVEL = 0.95
_FEWEST = 200
_ROWS_A_TERM = 4
_NOTHING = 1e-10  # share of the variance below which a term explains nothing but rounding
_STEPS, _STEP_ROWS = 16, 500
_FRESH = 128
_SCREENED = 4


class LimeExplainer:
    r"""Local linear explanations of single decisions.

    Near a row x the answer f is stood in for by :math:`g(z) = b + \sum_{j \in J} w_j\, t_j(z)`, which minimises
    :math:`\sum_i \pi_x(z_i) (f(z_i) - g(z_i))^2`. For a number that is known, :math:`t_j(z)` is :math:`z_j`; for a category, or
    where x has no value, it is 1 where z is the same as x and 0 elsewhere. What a column's value adds is
    :math:`w_j (t_j(x) - m_j)`, with :math:`m_j` the mean of :math:`t_j` over the rows of the data near x: what keeping the
    value does rather than taking it from a near row. The kernel :math:`\pi_x(z) = \exp(-D(x, z) / h)` falls with the mean
    squared difference D of the columns (in standard deviations; one for different categories), with h such that a stated share
    of the rows counts.

    Parameters
    ----------
    target : Target
        Of classes, probabilities or values.
    data : rows, as the target takes them
        Their cells make up the rows that are asked; no answers are needed.
    domain : Domain or None, default=None
        Read off `data` where neither this nor the target says.
    samples : int, default=10_000
        Rows drawn, however many are explained. About one in eight, told by its content, only scores, and the other row of its
        pair is left out.
    near : float, default=0.7
        Share of the rows that counts as near: their effective number under the kernel. With the kernel of the authors' code it
        is about 0.99 in 30 columns.
    max_terms : int or None, default=None
        Most columns with a weight, where not all. They are chosen one by one on half of the rows, each the one that lowers the
        squared error most; weights and intervals come from the other half, so they hold although the terms were chosen.
    output : class, int or None, default=None
        Class, or position of the value, to explain; each row's own answer where None.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Settings that cannot be used, or a target with recorded answers only.

    Notes
    -----
    Cost: at most `samples` rows of the target, once, and the rows explained; beyond that about 7 ms a row of 30 columns, 70
    ms a row of 300.

    **Departures**: cells come from real rows and not from a normal distribution; numbers are not binned; the kernel's width
    goes by the share of rows it leaves, since a fixed one leaves nearly all or nearly none as the columns grow many; there is
    no ridge penalty, which would pull the weights away from what their intervals are about.

    References
    ----------
    Ribeiro, Singh and Guestrin, *"Why should I trust you?"*, KDD 2016, arXiv 1602.04938, equation 2 and section 3.4. Intervals:
    cluster-robust as in Liang and Zeger, *Biometrika* 73, 1986, a cluster being a pair of rows with swapped cells.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> target = Target(lambda X: 2.0 * X[:, 1] - X[:, 3], name="linear", output="value")
    >>> (found,) = LimeExplainer(target, X, samples=500).explain(X[:1])
    >>> sorted(part.name for part in found.top(2))
    ['x1', 'x3']
    >>> bool(np.isclose(found.base + found.values.sum(), found.answer))
    True
    """

    papers = ("lime", "cluster-robust")

    def __init__(
        self,
        target: Target,
        data: Any,
        *,
        domain: Domain | None = None,
        samples: int = 10_000,
        near: float = 0.7,
        max_terms: int | None = None,
        output: Any = None,
        random_state: int = 0,
    ) -> None:
        self._background = Background.of(target, data, domain, random_state)
        self._space = Neighbourhood(self._background.domain, self._background.rows)
        if not 0 < near < 1:
            raise InvalidData(f"expected near= to be a share of the rows between 0 and 1, got {near!r}")
        d = len(self._background.domain)
        most = d if max_terms is None else max_terms
        require_whole(1, max_terms=most)
        least = max(_FEWEST, math.ceil(_ROWS_A_TERM * (1 + min(d, 2 * most)) / near))
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < least:
            raise InvalidData(f"expected samples= of at least {least} for so many terms and near={near:g}, got {samples!r}")
        self._samples, self._share, self._most, self._output = samples, near, most, output

    def explain(self, X: Any) -> list[Attribution]:
        """Explain rows.

        Parameters
        ----------
        X : m rows, as the target takes them

        Returns
        -------
        list of m Attribution
            A value is what the column's value adds, as above; a column without a weight has the value 0 and no interval. The
            base is what g answers for the mean of the near rows; base and values sum to its answer for x. The fidelity is the
            R2 of g on fresh rows, drawn by the kernel.
        """
        rows = self._background.read(X)
        (answers,) = self._background.ask([rows], "use")
        what = explained(self._background.target, answers, self._output)
        return [self._one(z, one) for z, one in zip(rows, what, strict=True)]

    @cached_property
    def _drawn(self) -> tuple[_Draws, _Draws]:
        """Rows that fit, in whole pairs, and rows that score, with their answers."""
        background, rows = self._background, self._background.rows
        rng = np.random.default_rng(background.random_state)
        pairs = self._samples // 2
        # Every real row as often as any other, give or take one.
        turn = np.concatenate([rng.permutation(len(rows)) for _ in range(-(-pairs // len(rows)))])[:pairs]
        made = self._space.crossed(rows[turn], rng)
        apart = held_out(made.reshape(-1, rows.shape[1])).reshape(-1, 2)
        fitted = made[~apart.any(axis=1)].reshape(-1, rows.shape[1])
        (said,) = background.ask([fitted])
        (fresh,) = background.score([made[apart]])
        return _Draws.of(self._space, fitted, said), _Draws.of(self._space, fresh.rows, fresh.answers)

    @cached_property
    def _data(self) -> _Draws:
        return _Draws.of(self._space, self._background.rows, np.empty(0))

    def _one(self, z: _FLOAT, what: Explained) -> Attribution:
        background, (fitted, fresh) = self._background, self._drawn
        model = self._fit(z, fitted, what.of(fitted.answers))
        picked = self._near_ones(z, fresh)
        fidelity = foretold(
            what.of(fresh.answers[picked]),
            model(fresh.terms(z, picked)),
            weights=None,
            region=f"rows near this one (the nearest {self._share:.0%}, by weight)",
            random_state=background.random_state,
        )
        near = _kernel(self._data.distance(z), self._share)
        middle = near @ self._data.terms(z) / near.sum()
        step = np.where(self._space.linear(z), 0.0, 1.0) - middle
        values, ends = model.weights * step, np.sort(np.stack([model.lower * step, model.upper * step]), axis=0)
        return Attribution(
            values,
            np.minimum(ends[0], values),
            np.maximum(ends[1], values),
            (Axis("column", background.domain.names),),
            base=model.base + float(model.weights @ middle),
            row=background.plain(z),
            answer=what.answer,
            output=what.text,
            baseline=f"{background.name}, near ones first",
            method="LIME",
            meaning="change from a near row's value to the one it has",
            fidelity=fidelity,
            random_state=background.random_state,
            level=_LEVEL,
        )

    def _fit(self, z: _FLOAT, drawn: _Draws, y: _FLOAT) -> _LocalModel:
        if np.ptp(y) == 0:
            return _LocalModel(float(y[0]), *np.zeros((3, len(z))))
        weights, d = _kernel(drawn.distance(z), self._share), len(z)
        if d <= self._most:
            return _least_squares(drawn.terms(z), y, weights, np.arange(d), d)
        # Half of the pairs chooses the columns; the other half, which had no say in it, gives weights and intervals.
        half = 2 * (len(y) // 4)
        first, second = slice(half), slice(half, None)
        columns = _chosen(drawn.terms(z, first), y[first], weights[first], self._most)
        return _least_squares(drawn.terms(z, second, columns), y[second], weights[second], columns, d)

    def _near_ones(self, z: _FLOAT, fresh: _Draws) -> _INT:
        """A sample of the fresh rows by the kernel: the more weight, the likelier."""
        if not len(fresh.rows):
            return np.empty(0, dtype=np.intp)
        chance = _kernel(fresh.distance(z), self._share)
        return np.flatnonzero(self._background.rng(z, "near").random(len(chance)) < chance)[:_FRESH]


# ---------------------------------------------------------------------- rows that are drawn
@dataclass(frozen=True)
class _Draws:
    """Encoded rows of shape (n, d) and their answers, made ready for distances and terms."""

    space: Neighbourhood
    rows: _FLOAT
    answers: NDArray[Any]
    filled: _FLOAT
    marks: _FLOAT
    squares: _FLOAT

    @classmethod
    def of(cls, space: Neighbourhood, rows: _FLOAT, answers: NDArray[Any]) -> _Draws:
        filled = np.asfortranarray(space.filled(rows))  # columns are short and rows are many: passes go down the rows
        return cls(space, rows, answers, filled, space.marks(rows), (filled**2).sum(axis=1))

    def distance(self, z: _FLOAT) -> _FLOAT:
        """D between each row and one of shape (d,), shape (n,)."""
        x = self.space.filled(z[None])[0]
        away = self.squares - 2.0 * (self.filled @ x) + x @ x
        away += (self.marks != self.space.marks(z[None])).sum(axis=1)
        return np.maximum(away, 0.0) / len(z)

    def terms(self, z: _FLOAT, rows: Any = slice(None), columns: _INT | None = None) -> _FLOAT:
        """:math:`t_j` of some rows, in standard deviations from x, of shape (m, d) or (m, len(columns)).

        The mean where a number is missing.
        """
        columns = np.arange(len(z)) if columns is None else columns
        every = len(columns) == len(z)
        x = self.space.filled(z[None])[0]
        out = self.filled[rows] - x if every else self.filled[rows][:, columns] - x[columns]
        for at in np.flatnonzero(~self.space.linear(z)[columns]):
            j = columns[at]
            out[:, at] = np.isnan(self.rows[rows, j]) if np.isnan(z[j]) else self.rows[rows, j] == z[j]
        return out


def _kernel(away: _FLOAT, share: float) -> _FLOAT:
    """Weights exp(-D / h), the largest of them 1, whose effective number is a share of the rows."""
    away = away - away.min()
    sample = away[:: max(1, len(away) // _STEP_ROWS)]
    low, high = 1e-6 * (sample.max() + 1e-300), 1e3 * (sample.max() + 1e-300)
    for _ in range(_STEPS):
        middle = np.sqrt(low * high)
        weights = np.exp(-sample / middle)
        wide = weights.sum() ** 2 > share * len(sample) * (weights**2).sum()
        low, high = (low, middle) if wide else (middle, high)
    return np.exp(-away / high)


# ---------------------------------------------------------------------- fitting
@dataclass(frozen=True)
class _LocalModel:
    """A sum of terms, with an interval for each weight; NaN for the interval of a column that has no term."""

    base: float
    weights: _FLOAT
    lower: _FLOAT
    upper: _FLOAT

    def __call__(self, terms: _FLOAT) -> _FLOAT:
        return self.base + terms @ self.weights


def _chosen(X: _FLOAT, y: _FLOAT, weights: _FLOAT, most: int) -> _INT:
    """Columns by forward selection: each is the one that, with those before it, leaves the least squared error.

    Among those that say most on their own, four times as many as are wanted: with very many columns, the products of all
    of them would cost more than everything else.
    """
    mass = weights / weights.sum()
    y = y - mass @ y
    middle = mass @ X
    own = mass @ X**2 - middle**2
    alone = ((mass * y) @ X) ** 2 / np.where(own > _NOTHING, own, np.inf)
    among = np.sort(np.argsort(-alone, kind="stable")[: _SCREENED * most])
    X = (X[:, among] - middle[among]) * np.sqrt(mass)[:, None]
    y = y * np.sqrt(mass)
    gram, along = X.T @ X, X.T @ y
    scale, total = np.diag(gram).copy(), float(y @ y)
    picked: list[int] = []
    while len(picked) < most:
        own = np.diag(gram)
        # What is left of a column that the others make up is rounding, and would win by dividing by it.
        left = own > 1e-9 * scale
        gain = np.where(left, along**2 / np.where(left, own, 1.0), 0.0)
        best = int(gain.argmax())
        if gain[best] <= _NOTHING * total:
            break
        picked.append(best)
        row = gram[best] / own[best]
        along = along - along[best] * row
        gram = gram - np.outer(gram[best], row)
    return among[np.sort(np.array(picked, dtype=np.intp))]


def _least_squares(X: _FLOAT, y: _FLOAT, weights: _FLOAT, columns: _INT, d: int) -> _LocalModel:
    """Weighted least squares of pairs of rows on some of d columns; the intervals let the errors of a pair go together.

    X is written over: most of the time goes into passes over it.
    """
    # About weighted means, which takes the intercept out of the normal equations.
    share = weights / weights.sum()
    middle, level = share @ X, float(share @ y)
    root = np.sqrt(weights)
    X -= middle
    X *= root[:, None]
    inverse, left = np.linalg.pinv(X.T @ X, hermitian=True), root * (y - level)
    found = inverse @ (left @ X)
    left -= X @ found
    X *= left[:, None]
    scores = X[0::2] + X[1::2]
    mass = weights.reshape(-1, 2).sum(axis=1)
    units = mass.sum() ** 2 / (mass**2).sum()  # pairs, as far as their weights let them count
    free = max(units - len(found) - 1, 1.0)
    error = np.sqrt(np.maximum(np.diag(inverse @ (scores.T @ scores) @ inverse), 0.0) * units / free)
    half = special.stdtrit(free, 0.5 + _LEVEL / 2) * error
    values, lower, upper = np.zeros(d), np.full(d, np.nan), np.full(d, np.nan)
    values[columns], lower[columns], upper[columns] = found, found - half, found + half
    return _LocalModel(level - float(middle @ found), values, lower, upper)
