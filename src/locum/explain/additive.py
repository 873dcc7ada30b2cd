"""An additive model that stands in for a black box: one shape function a column, each with few pieces.

Boosting learns the shape functions as far as they go; then the budget of pieces is spent where it buys most. Each shape is
cut into pieces in the best way there is (dynamic programming), the pieces are shared out between columns in the best way
there is (dynamic programming again), and the values of all pieces are fitted together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.program import Levels, Program, Steps
from locum.explain._bins import Bins
from locum.explain._readable import ReadableClassifier, ReadableRegressor
from locum.explain._sums import fit_values, leading_direction, pieces, standardised

__all__ = ["AdditiveClassifier", "AdditiveRegressor"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_MOST_BINS = 255  # as many as the boosting takes
_LEAVES = 4
_LEAST_ROWS = 10
# A class that a row has with less probability than this teaches nothing, and would cost as much as the others.
_PROBED = 4_000_000  # numbers in a table that shapes are read from
_FAINT = 0.01
_PASSES = 3


class AdditiveClassifier(ReadableClassifier):
    r"""Stands in for a classifier: a sum of shape functions, one a column, each with few pieces.

    A class scores :math:`s_c(x) = b_c + \sum_j f_{jc}(x_j)`, and its probability is :math:`e^{s_c} / \sum_m e^{s_m}`. A shape
    function :math:`f_j` is constant between few thresholds of a numeric column, or gives one value to each of few groups of
    categories; a missing value has its own. The mean of each :math:`f_j` over the rows of the fit is zero, so a piece says
    how much it moves the score from the average.

    Parameters
    ----------
    max_statements : int, default=40
        Most pieces of all shape functions together. A single one can only tell known from missing values.
    iterations : int, default=200
        Rounds of boosting.
    learning_rate : float, default=0.1
        How much of each round is kept.
    min_share : float, default=0.005
        Least share of the weight in a piece.
    min_gain : float, default=0.0001
        Least share of the variation of the shape functions that a piece must explain.
    ridge : float, default=0.0001
        Penalty on the values of pieces, each counted by its share of the weight; it keeps separable data finite.
    max_bins : int, default=255
        Most candidate thresholds a column, plus one; at most 255.
    classes : sequence or None, default=None
        The labels, where not all occur or probabilities are given.
    domain : Domain or None, default=None
        How rows are read; inferred from the rows where None.
    random_state : int, default=0
        Picks the rows the boosting reads its bins from, where there are more than 200,000.

    Attributes
    ----------
    program_ : Program
        The shape functions.
    classes_ : ndarray of shape (k,)

    Notes
    -----
    Cost: 10,000 rows of 20 columns take about a second for two classes, three for three and ten for ten.

    **Departures**: the boosting is scikit-learn's, with four leaves a round and without the bagging of the explainable
    boosting machine; there are no pairs of columns. What is new is the budget: the published models keep hundreds of pieces
    a column. Where the budget drops columns, the shapes of the others are learnt again, so that they take over what the
    dropped ones said. Values are fitted to the boosted sum, not to the answers, which have noise of their own (whatever in
    them is not additive).

    References
    ----------
    Lou, Caruana and Gehrke, *Intelligible models for classification and regression*, KDD 2012. Nori, Jenkins, Koch and
    Caruana, *InterpretML*, arXiv 1909.09223. Fisher, *On grouping for maximum homogeneity*, JASA 53, 1958.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(1000, 3))
    >>> black_box = lambda X: (np.abs(X[:, 0]) > 0.5) | (X[:, 1] > 0.9)
    >>> model = AdditiveClassifier(max_statements=5).fit(X, black_box(X))
    >>> float((model.predict(X) == black_box(X)).mean()) > 0.99
    True
    >>> [model.program_.columns[j].name for j in model.program_.used]
    ['x0', 'x1']
    """

    papers = ("intelligible-models", "ebm", "fisher-grouping")

    def __init__(
        self,
        max_statements: int = 40,
        *,
        iterations: int = 200,
        learning_rate: float = 0.1,
        min_share: float = 0.005,
        min_gain: float = 1e-4,
        ridge: float = 1e-4,
        max_bins: int = 255,
        classes: Any = None,
        domain: Domain | None = None,
        random_state: int = 0,
    ) -> None:
        self.max_statements = max_statements
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.min_share = min_share
        self.min_gain = min_gain
        self.ridge = ridge
        self.max_bins = max_bins
        self.classes = classes
        self.domain = domain
        self.random_state = random_state

    def _learn(self, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain) -> Program:
        base, terms = _sum_of_shapes(self, Z, Y, weights, domain, soft=True)
        return self._program(domain, "softmax", "sum", terms, base)


class AdditiveRegressor(ReadableRegressor):
    r"""Stands in for a predictor of real values: a sum of shape functions, one a column, each with few pieces.

    The value is :math:`b + \sum_j f_j(x_j)`; see `AdditiveClassifier` for the shape functions, for how they are found, and
    for the sources.

    Parameters
    ----------
    max_statements : int, default=40
        Most pieces of all shape functions together. A single one can only tell known from missing values.
    iterations : int, default=200
        Rounds of boosting.
    learning_rate : float, default=0.1
        How much of each round is kept.
    min_share : float, default=0.005
        Least share of the weight in a piece.
    min_gain : float, default=0.0001
        Least share of the variation of the shape functions that a piece must explain.
    ridge : float, default=0.000001
        Penalty on the values of pieces, each counted by its share of the weight.
    max_bins : int, default=255
        Most candidate thresholds a column, plus one; at most 255.
    domain : Domain or None, default=None
        How rows are read; inferred from the rows where None.
    random_state : int, default=0
        Picks the rows the boosting reads its bins from, where there are more than 200,000.

    Attributes
    ----------
    program_ : Program
        The shape functions.

    Notes
    -----
    Cost: 10,000 rows of 20 columns take about half a second.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> model = AdditiveRegressor(max_statements=2).fit(X, np.where(X[:, 0] > 0.25, 3.0, 1.0))
    >>> print(model.text_)
    start at +2.5
    IF x0 <= 0.2487 ADD -1.5
    IF x0 > 0.2487 ADD +0.5
    """

    papers = ("intelligible-models", "ebm", "fisher-grouping")

    def __init__(
        self,
        max_statements: int = 40,
        *,
        iterations: int = 200,
        learning_rate: float = 0.1,
        min_share: float = 0.005,
        min_gain: float = 1e-4,
        ridge: float = 1e-6,
        max_bins: int = 255,
        domain: Domain | None = None,
        random_state: int = 0,
    ) -> None:
        self.max_statements = max_statements
        self.iterations = iterations
        self.learning_rate = learning_rate
        self.min_share = min_share
        self.min_gain = min_gain
        self.ridge = ridge
        self.max_bins = max_bins
        self.domain = domain
        self.random_state = random_state

    def _learn(self, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain) -> Program:
        scaled, mean, spread = standardised(Y, weights)
        base, terms = _sum_of_shapes(self, Z, scaled, weights, domain, soft=False, scale=spread)
        return self._program(domain, "identity", "sum", terms, base + mean)


# ---------------------------------------------------------------------- the search
@dataclass(frozen=True)
class _Pieces:
    """The shape of one column: the piece of each code (missing left out), and each piece's value (m, k) and share (m,).

    Where the column has missing values, they come last among the values.
    """

    group: _INT
    values: _FLOAT
    share: _FLOAT


@dataclass(frozen=True)
class _Sum:
    base: _FLOAT
    pieces: dict[int, _Pieces]
    loss: float


@dataclass(frozen=True)
class _Task:
    """Rows that differ, as codes with the last of a column meaning missing; weights sum to one."""

    settings: Any
    bins: Bins
    codes: _INT
    Y: _FLOAT
    weights: _FLOAT
    soft: bool

    def share(self, column: int) -> _FLOAT:
        """Share of each code of a column, the one for missing last."""
        return np.bincount(self.codes[:, column], self.weights, self.bins.counts[column] + 1).astype(float)


def _sum_of_shapes(
    settings: Any, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, domain: Domain, *, soft: bool, scale: float = 1.0
) -> tuple[_FLOAT, list[Steps | Levels]]:
    _check(settings)
    task = _distinct(settings, domain, Z, Y, weights, soft)
    columns, taught = list(range(len(domain))), task.Y
    best = _fit(task, taught, {})
    told_apart = not soft or (task.Y > _FAINT).any(axis=0).sum() > 1  # weights of zero may leave one class only
    for attempt in range(_PASSES if told_apart else 0):
        # More threads gain little on tables of this size, wait for each other on a busy machine, and sum in another order.
        with threadpool_limits(1, user_api="openmp"):
            answers, shapes = _boost(task, taught, columns)
        if attempt == 0:
            taught = answers
        found = _fit(task, taught, _cut(task, shapes))
        if attempt and found.loss >= best.loss:
            break
        best = found
        if len(best.pieces) in (0, len(columns)):
            break
        columns = list(best.pieces)
    return scale * best.base, _terms(task, best, scale)


def _check(settings: Any) -> None:
    bounds = {
        "max_statements": settings.max_statements >= 1,
        "iterations": settings.iterations >= 1,
        "learning_rate": 0 < settings.learning_rate <= 1,
        "min_share": 0 <= settings.min_share < 0.5,
        "min_gain": 0 <= settings.min_gain < 1,
        "ridge": 0 < settings.ridge < np.inf,
        "max_bins": 2 <= settings.max_bins <= _MOST_BINS,
    }
    wrong = [f"{name}={getattr(settings, name)}" for name, fine in bounds.items() if not fine]
    if wrong:
        raise InvalidData(
            "expected max_statements >= 1, iterations >= 1, 0 < learning_rate <= 1, 0 <= min_share < 0.5, 0 <= min_gain < 1, "
            f"ridge > 0 and 2 <= max_bins <= {_MOST_BINS}, got {', '.join(wrong)}"
        )


def _distinct(settings: Any, domain: Domain, Z: _FLOAT, Y: _FLOAT, weights: _FLOAT, soft: bool) -> _Task:
    """Rows with the same codes as one, in a fixed order.

    So a row of weight two and the row given twice are the same from here on, to the last digit: the boosting works in
    single precision, and what is rounded to it here no longer knows in which order it was summed.
    """
    bins = Bins.of(domain.columns, Z, Y, weights, settings.max_bins)
    codes, index = np.unique(bins.codes(Z), axis=0, return_inverse=True)
    mass = np.bincount(index, weights)
    mean = np.stack([np.bincount(index, weights * y) for y in Y.T], axis=1) / mass[:, None]
    share = (mass / mass.sum()).astype(np.float32).astype(float)
    kept = share > 0
    mean, share = mean[kept].astype(np.float32).astype(float), share[kept]
    return _Task(settings, bins, codes[kept], mean, share / share.sum(), soft)


# ---------------------------------------------------------------------- shapes
def _boost(task: _Task, taught: _FLOAT, columns: list[int]) -> tuple[_FLOAT, dict[int, _FLOAT]]:
    """An additive model of `taught` in some columns: its answers (n, k), and each column's shape by code (missing last)."""
    settings, counts = task.settings, task.bins.counts
    table = task.codes[:, columns].astype(float)
    table[task.codes[:, columns] == counts[columns]] = np.nan
    n, k = taught.shape
    options = {
        "interaction_cst": "no_interactions",
        "max_iter": settings.iterations,
        "learning_rate": settings.learning_rate,
        "max_leaf_nodes": _LEAVES,
        "min_samples_leaf": int(np.clip(n // 25, 1, _LEAST_ROWS)),
        "early_stopping": False,
        "random_state": settings.random_state,
    }
    if task.soft:
        label, row = np.nonzero(taught.T > _FAINT)
        weights = n * task.weights[row] * taught[row, label]
        model = HistGradientBoostingClassifier(**options).fit(table[row], label, weights)
        present = model.classes_
        answers = np.zeros((n, k))
        answers[:, present] = model.predict_proba(table)
    else:
        model = HistGradientBoostingRegressor(**options).fit(table, taught[:, 0], n * task.weights)
        present = np.zeros(1, dtype=np.intp)
        answers = model.predict(table)[:, None]
    sizes, shapes = counts[columns] + 1, {}
    # A call costs a pass through all trees, however few the rows, so many columns are asked about at once.
    part = (np.cumsum(sizes) - 1) // max(1, _PROBED // len(columns))
    for positions in np.split(np.arange(len(columns)), np.flatnonzero(np.diff(part)) + 1):
        ends = np.cumsum(sizes[positions])
        probe = np.tile(table[:1], (ends[-1], 1))
        spans = [(columns[p], p, end - sizes[p], end) for p, end in zip(positions, ends, strict=True)]
        for _, position, start, end in spans:
            # With the others held fixed, what changes is this column's shape and nothing else.
            probe[start:end, position] = np.append(np.arange(end - start - 1), np.nan)
        score = model.decision_function(probe) if task.soft else model.predict(probe)
        # Of two classes one score is given: the second's above the first's.
        score = np.column_stack([-score / 2, score / 2]) if task.soft and score.ndim == 1 else score.reshape(len(probe), -1)
        for j, _, start, end in spans:
            shapes[j] = np.zeros((end - start, k))
            shapes[j][:, present] = score[start:end] - task.share(j) @ score[start:end]
    return answers, shapes


def _cut(task: _Task, shapes: dict[int, _FLOAT]) -> dict[int, _Pieces]:
    """The pieces that explain most of the shapes, within the budget."""
    settings, found, gains = task.settings, {}, {}
    total = sum(_variation(shape, task.share(j)) for j, shape in shapes.items())
    for j, shape in shapes.items():
        share = task.share(j)
        whole = _variation(shape, share)
        if whole <= 1e-12 * total:
            continue
        order = np.arange(len(share) - 1)
        if task.bins.columns[j].kind == "categorical":
            order = np.argsort(leading_direction(shape[:-1], share[:-1]), kind="stable")
        least = max(settings.min_share, 1e-12)
        costs, starts = pieces(shape[order], share[order], share[order], settings.max_statements, least)
        # What a number of pieces explains; a single piece says something only where there are missing values to set it off.
        gain = np.append(0.0, whole - costs)
        gain[1] = gain[1] if share[-1] > 0 else 0.0
        gains[j] = gain - settings.min_gain * total * np.arange(len(gain))
        found[j] = order, starts
    out = {}
    for j, count in _share_out(gains, settings.max_statements).items():
        order, starts = found[j]
        group = np.empty(len(order), dtype=np.intp)
        group[order] = np.searchsorted(starts[count - 1], np.arange(len(order)), side="right") - 1
        out[j] = _averaged(group, shapes[j], task.share(j))
    return out


def _variation(shape: _FLOAT, share: _FLOAT) -> float:
    return float(share @ ((shape - share @ shape) ** 2).sum(axis=1))


def _averaged(group: _INT, shape: _FLOAT, share: _FLOAT) -> _Pieces:
    """Pieces with the mean of the shape in each."""
    held = np.append(group, group.max() + 1)
    held_share = np.bincount(held, share).astype(float)
    total = np.stack([np.bincount(held, share * column) for column in shape.T], axis=1)
    kept = held_share > 0  # all but, maybe, missing
    return _Pieces(group, total[kept] / held_share[kept, None], held_share[kept])


def _share_out(gains: dict[int, _FLOAT], most: int) -> dict[int, int]:
    """How many pieces each column gets so that the gains sum to most (a knapsack, solved exactly)."""
    value, choices = np.zeros(most + 1), {}
    for j, gain in gains.items():
        options = np.full((min(len(gain), most + 1), most + 1), -np.inf)
        for count in range(len(options)):
            options[count, count:] = value[: most + 1 - count] + gain[count]
        choices[j] = options.argmax(axis=0)
        value = options.max(axis=0)
    left, out = most, {}
    for j in reversed(gains):
        count = int(choices[j][left])
        if count:
            out[j] = count
            left -= count
    return dict(sorted(out.items()))


# ---------------------------------------------------------------------- values
def _fit(task: _Task, taught: _FLOAT, cut: dict[int, _Pieces]) -> _Sum:
    """The values of all pieces together, close to those they have; each column's mean goes to the base."""
    blocks, offset = [np.ones((len(task.codes), 1))], np.zeros(taught.shape)
    for j, shape in cut.items():
        block = np.eye(len(shape.values))[np.append(shape.group, -1)[task.codes[:, j]]]
        blocks.append(block)
        offset += block @ shape.values
    X = np.hstack(blocks)
    penalty = task.settings.ridge * (task.weights @ X)
    fitted = fit_values(X, taught, task.weights, penalty, soft=task.soft, offset=offset)
    base, at, out = fitted.theta[0], 1, {}
    for j, shape in cut.items():
        values = shape.values + fitted.theta[at : at + len(shape.values)]
        at += len(values)
        mean = shape.share @ values / shape.share.sum()
        base = base + mean
        out[j] = _Pieces(shape.group, values - mean, shape.share)
    return _Sum(base, out, fitted.loss)


def _terms(task: _Task, found: _Sum, scale: float) -> list[Steps | Levels]:
    terms: list[Steps | Levels] = []
    none = (0.0,) * len(found.base)
    for j, shape in found.pieces.items():
        values = [tuple(float(v) for v in value) for value in scale * shape.values]
        count = int(shape.group.max()) + 1
        missing = values[-1] if len(values) > count else none
        if task.bins.columns[j].kind == "numeric":
            starts = np.flatnonzero(np.diff(shape.group)) + 1
            edges = tuple(float(edge) for edge in task.bins.edges[j][starts - 1])
            terms.append(Steps(j, edges, tuple(values[:count]), missing))
        else:
            by_level = np.empty(len(shape.group), dtype=np.intp)
            by_level[task.bins.order[j]] = shape.group
            terms.append(Levels(j, tuple(values[piece] for piece in by_level), missing, none))
    return terms
