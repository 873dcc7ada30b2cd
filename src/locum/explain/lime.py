"""LIME: a linear model that holds near one row, with an interval for each weight and its fidelity on fresh rows.

Near rows are made of cells of real rows rather than of independent noise; they come in pairs, which takes most of the noise
out of the weights; and the local model is scored on near rows that it has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.explain._neighbourhood import Background, Explained, Fresh, Neighbourhood, explained, foretold, held_out
from locum.explain.attribution import Attribution, Axis

__all__ = ["LimeExplainer"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_FEWEST = 100  # near rows: about twelve of them are held out
_SAMPLES, _SAMPLES_A_COLUMN = 1200, 5
_ROWS_A_TERM = 3
_LEVEL = 0.95
_NOTHING = 1e-10  # share of the variance below which a term explains nothing but rounding


class LimeExplainer:
    r"""Local linear explanations of single decisions.

    Near a row x the answer f is stood in for by :math:`g(z) = b + \sum_j w_j\, t_j(z)`. For a number that is known,
    :math:`t_j(z) = (z_j - x_j) / s_j` in standard deviations; for a category, or where x has no value, :math:`t_j(z)` is 1 where z
    is the same as x and 0 elsewhere. Near rows z are drawn as `Neighbourhood` says: the kernel of the paper is in how likely a
    real row gives its cells, so that all of them count alike. The weights are those of least squares, and their intervals allow
    for errors of any size that go together within a pair (cluster-robust, CR3).

    Parameters
    ----------
    target : Target
        Of classes, probabilities or values.
    data : rows, as the target takes them
        They say what near rows look like; no answers are needed.
    domain : Domain or None, default=None
        Read off `data` where neither this nor the target says.
    samples : int or None, default=None
        Near rows drawn for each row: 1,200, or five a column where that is more, where None. About one in eight of them, told
        by its content, only scores, and the other row of its pair is left out.
    max_terms : int or None, default=None
        Most columns with a weight; None gives each one. Where there are fewer than columns, they are added one by one, each the
        one that lowers the squared error most, on one half of the pairs; weights and intervals come from the other half, so
        they hold although the terms were chosen.
    width : float, default=0.75
        Width of the kernel, in standard deviations a column.
    output : class, int or None, default=None
        Class, or position of the value, to explain; each row's own answer where None.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Settings that cannot be used, or a target with recorded answers only.

    Notes
    -----
    Cost: at most `samples` + 1 rows of the target for each row explained, in three queries for all of them together; beyond that
    about 2 ms a row of 30 columns, 60 ms a row of 300.

    **Departures**: cells come from real rows and not from a normal distribution, numbers are not binned, and there is no ridge
    penalty, which would pull the weights away from what their intervals are about.

    References
    ----------
    Ribeiro, Singh and Guestrin, *"Why should I trust you?"*, KDD 2016, arXiv 1602.04938, equation 1 and section 3.4. Intervals:
    Bell and McCaffrey, *Survey Methodology* 28, 2002.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(300, 4))
    >>> target = Target(lambda X: 2.0 * X[:, 1] - X[:, 3], name="linear", output="value")
    >>> (found,) = LimeExplainer(target, X).explain(X[:1])
    >>> [part.name for part in found.top(2)]
    ['x1', 'x3']
    >>> round(float(found.values[1] / X[:, 1].std()), 6)
    2.0
    """

    def __init__(
        self,
        target: Target,
        data: Any,
        *,
        domain: Domain | None = None,
        samples: int | None = None,
        max_terms: int | None = None,
        width: float = 0.75,
        output: Any = None,
        random_state: int = 0,
    ) -> None:
        self._background = Background.of(target, data, domain, random_state)
        self._near = Neighbourhood(self._background.domain, self._background.rows, width)
        d = len(self._background.domain)
        if max_terms is not None and not (isinstance(max_terms, int) and max_terms >= 1):
            raise InvalidData(f"expected max_terms= of 1 or more, or None for every column, got {max_terms!r}")
        samples = max(_SAMPLES, _SAMPLES_A_COLUMN * d) if samples is None else samples
        self._max_terms = None if max_terms is None or max_terms >= d else max_terms
        terms = d if self._max_terms is None else 2 * self._max_terms
        least = max(_FEWEST, _ROWS_A_TERM * (terms + 1))
        if not (isinstance(samples, int) and samples >= least):
            raise InvalidData(f"expected samples= of at least {least} for so many columns, got {samples!r}")
        self._pairs, self._output = samples // 2, output

    def explain(self, X: Any) -> list[Attribution]:
        """Explain rows.

        Parameters
        ----------
        X : m rows, as the target takes them

        Returns
        -------
        list of m Attribution
            A value is a weight :math:`w_j` above: for a number the change of the answer for one standard deviation more, for a
            category what keeping it adds. A column without a weight has the value 0 and no interval. The base is :math:`b`. The
            fidelity is the R2 of g on fresh near rows (RMSE where the answers near the row are all the same).
        """
        rows = self._background.read(X)
        (answers,) = self._background.ask([rows], "use")
        what = explained(self._background.target, answers, self._output)
        pairs = [self._near.pairs(z, self._pairs, self._background.rng(z, "lime")) for z in rows]
        held = [held_out(pair.reshape(-1, pair.shape[2])).reshape(-1, 2) for pair in pairs]
        drawn = [pair[~apart.any(axis=1)].reshape(-1, pair.shape[2]) for pair, apart in zip(pairs, held, strict=True)]
        said = self._background.ask(drawn)
        models = [self._fit(z, Z, one.of(y)) for z, Z, y, one in zip(rows, drawn, said, what, strict=True)]
        fresh = self._background.score([pair[apart] for pair, apart in zip(pairs, held, strict=True)])
        return [self._record(z, *found) for z, *found in zip(rows, models, what, fresh, strict=True)]

    def _terms(self, z: _FLOAT, Z: _FLOAT) -> _FLOAT:
        """The terms of near rows, shape (n, d)."""
        same = (z == Z) | (np.isnan(z) & np.isnan(Z))
        return np.where(self._near.numeric & ~np.isnan(z), (Z - z) / self._near.spread, same)

    def _fit(self, z: _FLOAT, Z: _FLOAT, y: _FLOAT) -> _LocalModel:
        terms = self._terms(z, Z)
        if self._max_terms is None:
            return _least_squares(terms, y, np.flatnonzero(np.ptp(terms, axis=0) > 0))
        half = len(y) // 4 * 2  # whole pairs
        return _least_squares(terms[half:], y[half:], _chosen(terms[:half], y[:half], self._max_terms))

    def _record(self, z: _FLOAT, model: _LocalModel, what: Explained, fresh: Fresh) -> Attribution:
        background = self._background
        fidelity = foretold(
            what.of(fresh.answers),
            model(self._terms(z, fresh.rows)),
            weights=fresh.weights,
            region=f"rows near this one (kernel width {self._near.width:g})",
            random_state=background.random_state,
        )
        return Attribution(
            model.weights,
            model.lower,
            model.upper,
            (Axis("column", background.domain.names),),
            base=model.base,
            row=background.plain(z),
            answer=what.answer,
            output=what.text,
            baseline=f"{background.name}, near ones first",
            method="LIME weights",
            meaning="change for one standard deviation more of a number, or for keeping a category",
            fidelity=fidelity,
            random_state=background.random_state,
        )


@dataclass(frozen=True)
class _LocalModel:
    """A sum of terms, with an interval for each weight; NaN for the interval of a column that has no term."""

    base: float
    weights: _FLOAT
    lower: _FLOAT
    upper: _FLOAT

    def __call__(self, terms: _FLOAT) -> _FLOAT:
        return self.base + terms @ self.weights


def _chosen(terms: _FLOAT, y: _FLOAT, most: int) -> _INT:
    """Columns by forward selection: each is the one that, with those before it, leaves the least squared error."""
    terms, y = terms - terms.mean(axis=0), y - y.mean()
    gram, along = terms.T @ terms, terms.T @ y
    scale, total = np.diag(gram).copy(), float(y @ y)
    picked: list[int] = []
    left = total
    while len(picked) < most and left > _NOTHING * total:
        own = np.diag(gram)
        # What is left of a column that the others make up is rounding, and would win by dividing by it.
        open_ = own > 1e-9 * scale
        gain = np.where(open_, along**2 / np.where(open_, own, 1.0), 0.0)
        best = int(gain.argmax())
        if gain[best] <= _NOTHING * total:
            break
        picked.append(best)
        left -= float(gain[best])
        row = gram[best] / own[best]
        along = along - along[best] * row
        gram = gram - np.outer(gram[best], row)
    return np.sort(np.array(picked, dtype=np.intp))


def _least_squares(terms: _FLOAT, y: _FLOAT, columns: _INT) -> _LocalModel:
    """Least squares with an intercept on some columns of pairs of rows, and intervals that let a pair's errors go together."""
    n, d = terms.shape
    X = np.column_stack([np.ones(n), terms[:, columns]])
    inverse = np.linalg.pinv(X.T @ X, hermitian=True)
    weights = inverse @ (X.T @ y)
    reach = X @ inverse
    leverage = np.einsum("ij,ij->i", reach, X)
    scores = reach * ((y - X @ weights) / np.maximum(1.0 - leverage, 1e-6))[:, None]
    error = np.sqrt(((scores[0::2] + scores[1::2]) ** 2).sum(axis=0))
    half = special.stdtrit(max(n // 2 - len(weights), 1), 0.5 + _LEVEL / 2) * error
    values, lower, upper = np.zeros(d), np.full(d, np.nan), np.full(d, np.nan)
    values[columns], lower[columns], upper[columns] = weights[1:], (weights - half)[1:], (weights + half)[1:]
    return _LocalModel(float(weights[0]), values, lower, upper)
