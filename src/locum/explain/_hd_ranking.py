"""Which columns of a wide table a black box uses: probing it from inside, perturbing it from outside, and one ranking of all.

Every score keeps what it says row by row, so that a ranking can be made of any part of the rows: what is then chosen by it on
the others was chosen on rows that had no say in the ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from locum.core.errors import MissingExtra
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.explain import _hd_networks as networks
from locum.explain._hd_estimators import Attends, Differentiable

__all__ = ["Ranking", "Score", "available", "correlated_groups", "directions", "perturbed", "probed", "ranked", "screen"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_BOOL = NDArray[np.bool_]
_GRADIENT_ROWS = 256
_LEAST_ROWS = 8  # that a column is perturbed in
_PAIRS = 200
_BATCH_VALUES = 1 << 24  # values in one query
_SHOWN = 20


# ---------------------------------------------------------------------- records
@dataclass(frozen=True)
class Score:
    """What one way of looking says of each column; the larger, the more it matters.

    Attributes
    ----------
    name : str
    rows : ndarray of shape (m,) or None
        Positions of the rows it was looked at in; None where it does not depend on rows.
    each : ndarray of shape (m, d), or (d,)
        NaN for a column that was not looked at.
    spread : ndarray of shape (d,) or None
        Standard deviation of the mean between repeats, where there were any.
    """

    name: str
    rows: _INT | None
    each: _FLOAT
    spread: _FLOAT | None = None

    def over(self, kept: _BOOL) -> _FLOAT:
        """Mean over the rows that are kept, shape (d,); over all, where none of those looked at is."""
        if self.rows is None:
            return self.each
        mine = kept[self.rows]
        return self.each[mine if mine.any() else slice(None)].mean(axis=0)


@dataclass(frozen=True, eq=False)
class Ranking:
    """All columns of a wide table, the most used ones first.

    Attributes
    ----------
    names : tuple of str
    order : ndarray of shape (d,)
        Positions of the columns, best first.
    scores : dict of str to ndarray of shape (d,)
        By name of the way of looking; NaN for a column that was not looked at.
    spread : dict of str to ndarray of shape (d,)
        Standard deviation between repeats of the scores that were repeated.
    groups : ndarray of shape (d,)
        Columns of equal number were perturbed together; -1 where a column was not perturbed.
    classes : tuple
    direction : ndarray of shape (d, k)
        Rank correlation of each column with the black box's probability of each class; 0 for a constant column.
    """

    names: tuple[str, ...]
    order: _INT
    scores: dict[str, _FLOAT]
    spread: dict[str, _FLOAT]
    groups: _INT
    classes: tuple[Any, ...]
    direction: _FLOAT

    def top(self, k: int) -> tuple[str, ...]:
        """Names of the `k` best columns."""
        return tuple(self.names[j] for j in self.order[:k])

    def agreement(self) -> dict[tuple[str, str], Fidelity]:
        """Rank correlation (Spearman) of each two scores over the columns that both looked at."""
        out, names = {}, list(self.scores)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                both = np.isfinite(self.scores[one]) & np.isfinite(self.scores[other])
                values = self.scores[one][both], self.scores[other][both]
                if both.sum() >= 3 and all(np.ptp(v) > 0 for v in values):
                    out[one, other] = measure("spearman_correlation").fidelity(*values, how="columns")
        return out

    def text(self, k: int = _SHOWN) -> str:
        """The `k` best columns, one a line: scores, spread, columns perturbed with it, and which class it speaks for."""
        lines = []
        for place, j in enumerate(self.order[:k], 1):
            parts = [f"{name} {values[j]:.3g}{self._spread(name, j)}" for name, values in self.scores.items()]
            c = int(np.abs(self.direction[j]).argmax())
            parts.append(f"speaks {'for' if self.direction[j, c] >= 0 else 'against'} {self.classes[c]}")
            together = int((self.groups == self.groups[j]).sum()) if self.groups[j] >= 0 else 1
            parts += [f"perturbed with {together - 1} like it"] if together > 1 else []
            lines.append(f"{place}. {self.names[j]}: {', '.join(parts)}")
        lines += [f"{one} and {other}: {found}" for (one, other), found in self.agreement().items()]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def _spread(self, name: str, j: int) -> str:
        return f" (sd {self.spread[name][j]:.2g})" if name in self.spread and np.isfinite(self.spread[name][j]) else ""

    def to_frame(self) -> Any:
        """A pandas frame, a row a column of the table, best first.

        Raises
        ------
        MissingExtra
            pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtra("a frame needs pandas; install it with: pip install 'locum[data]'") from error
        table: dict[str, Any] = {"column": self.names, **self.scores}
        table |= {f"{name} spread": values for name, values in self.spread.items()}
        table |= {"group": self.groups} | {f"towards {c}": self.direction[:, i] for i, c in enumerate(self.classes)}
        return pandas.DataFrame(table).iloc[self.order].reset_index(drop=True)


# ---------------------------------------------------------------------- from inside
def available(model: Any) -> tuple[str, ...]:
    """The probes that a model allows."""
    parts = _parts(model)
    attends = ("attention", "instance_attention") if parts and isinstance(parts[-1], Attends) else ()
    return (*attends, *(("ig",) if parts else ()))


def probed(model: Any, wanted: Sequence[str], Z: _FLOAT, random_state: int) -> list[Score]:
    """What the inside of a model says of each column of rows of shape (n, d)."""
    picked = np.random.default_rng(random_state).permutation(len(Z))[:_GRADIENT_ROWS]
    found: dict[str, Callable[[], Score]] = {
        "attention": lambda: _attention(model, Z[picked]),
        "instance_attention": lambda: _instance_attention(model, Z, picked),
        "ig": lambda: _gradients(model, Z, picked),
    }
    return [found[name]() for name in wanted]


def _parts(model: Any) -> list[Any]:
    """The links of a chain that gradients flow through, from the rows to the answer; none where they do not."""
    steps = [step for _, step in model.steps] if isinstance(getattr(model, "steps", None), list) else [model]
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(model).__mro__}  # torch itself need not be imported
    return steps if "torch.nn.modules.module.Module" in bases or all(isinstance(step, Differentiable) for step in steps) else []


def _network(parts: Sequence[Any]) -> Any:
    import torch

    whole = [part.network() if isinstance(part, Differentiable) else part for part in parts]
    return whole[0] if len(whole) == 1 else torch.nn.Sequential(*whole)


def _attention(model: Any, Z: _FLOAT) -> Score:
    *front, head = _parts(model)
    return Score("attention", None, _carried(front, head.attention_, Z) if front else head.attention_)


def _instance_attention(model: Any, Z: _FLOAT, picked: _INT) -> Score:
    *front, head = _parts(model)
    if not front:
        return Score("instance_attention", np.arange(len(Z)), np.abs(head.instance_attention(Z)))
    codes = Z[picked]
    for part in front:
        codes = part.transform(codes)
    return Score("instance_attention", None, _carried(front, np.abs(head.instance_attention(codes)).mean(axis=0), Z[picked]))


def _carried(front: Sequence[Any], importance: _FLOAT, Z: _FLOAT) -> _FLOAT:
    """Importance of the cells of a code, shape (m,), carried to the columns by the mean absolute derivatives of the code, each
    for a change of a standard deviation: a cell of a code is no column."""
    return np.asarray(importance @ networks.mean_jacobian(_network(front), Z) * Z.std(axis=0))


def _gradients(model: Any, Z: _FLOAT, picked: _INT) -> Score:
    each = networks.integrated_gradients(_network(_parts(model)), Z[picked], Z.mean(axis=0))
    return Score("ig", picked, np.abs(each))


# ---------------------------------------------------------------------- from outside
def screen(Z: _FLOAT, P: _FLOAT, scores: Sequence[Score]) -> _FLOAT:
    """How promising each column is before it is perturbed, shape (d,): by its best rank among the scores there are and the
    largest absolute correlation with a probability. It decides which columns are perturbed at all, where not all can be."""
    correlation = np.abs(_correlations(Z, P)).max(axis=1)
    ranks = [stats.rankdata(values) for values in (correlation, *(s.over(np.ones(len(Z), dtype=bool)) for s in scores))]
    return np.asarray(np.max(ranks, axis=0) + np.mean(ranks, axis=0) / (len(correlation) + 1))


def correlated_groups(Z: _FLOAT, promising: _FLOAT, least: float | None, most: int) -> list[_INT]:
    """At most `most` groups of columns that are not constant, the most promising first.

    Each has a leader, the most promising column in none yet, and all columns in none yet whose correlation with it is at
    least `least` in absolute value: so no chain of likenesses joins what is not alike. A group a column where `least` is None.
    """
    changing = Z.min(axis=0) < Z.max(axis=0)
    order = np.argsort(-promising, kind="stable")
    order = order[changing[order]]
    if least is None:
        return [np.array([j]) for j in order[:most]]
    X = (Z - Z.mean(axis=0)) / np.where(changing, Z.std(axis=0), 1.0) / np.sqrt(len(Z))
    free, out = changing.copy(), list[_INT]()
    for j in order:
        if not free[j]:
            continue
        alike = np.flatnonzero(free & (np.abs(X[:, j] @ X) >= min(least, 1 - 1e-9)))
        group = np.concatenate([[j], alike[alike != j]])
        free[group] = False
        out.append(group)
        if len(out) == most:
            break
    return out


def most_groups(max_queries: int, n_repeats: int) -> int:
    """How many groups can be perturbed in enough rows."""
    return max(1, max_queries // (n_repeats * _LEAST_ROWS))


def perturbed(
    ask: Callable[[_FLOAT], _FLOAT],
    Z: _FLOAT,
    P: _FLOAT,
    promising: _FLOAT,
    *,
    how: str,
    group_corr: float | None,
    n_repeats: int,
    max_queries: int,
    random_state: int,
) -> tuple[Score, _INT]:
    """How far the answer moves when a group of columns is replaced; and the group of each column, shape (d,)."""
    rng = np.random.default_rng(random_state)
    groups = correlated_groups(Z, promising, group_corr, most_groups(max_queries, n_repeats))
    # A cell replaced by its equal asks nothing new, so rows are as many as the budget allows for the cells that change.
    one, other = rng.integers(len(Z), size=(2, _PAIRS))
    changing = sum(float((Z[one][:, group] != Z[other][:, group]).any(axis=1).mean()) for group in groups)
    m = int(np.clip(max_queries / (n_repeats * max(changing, 1e-9)), min(_LEAST_ROWS, len(Z)), len(Z)))
    rows = np.sort(rng.permutation(len(Z))[:m])
    moved = np.zeros((n_repeats, m, len(groups)))
    for repeat in range(n_repeats):
        if how == "baseline":
            donors = np.broadcast_to(np.median(Z, axis=0), (m, Z.shape[1]))
        else:
            away = rng.integers(1, len(Z), size=m)  # any row but the row itself
            donors = Z[(rows + away) % len(Z)]
        for at, made, i in _replaced(Z[rows], donors, groups):
            said = ask(made)
            c = P[rows[i]].argmax(axis=1)
            moved[repeat, i, at] = np.abs(P[rows[i], c] - said[np.arange(len(i)), c])
    each, spread, member = np.full((m, Z.shape[1]), np.nan), np.full(Z.shape[1], np.nan), np.full(Z.shape[1], -1)
    between = moved.mean(axis=1).std(axis=0, ddof=1) if n_repeats > 1 else np.full(len(groups), np.nan)
    for number, group in enumerate(groups):
        each[:, group], spread[group], member[group] = moved[:, :, number].mean(axis=0)[:, None], between[number], number
    return Score("sensitivity", rows, each, spread), member


def _replaced(own: _FLOAT, donors: _FLOAT, groups: Sequence[_INT]) -> Iterator[tuple[_INT, _FLOAT, _INT]]:
    """Rows with the cells of a group replaced, where that changes them: (group of each, rows, position of each)."""
    most = max(1, _BATCH_VALUES // own.shape[1])
    pairs = [(number, np.flatnonzero((own[:, g] != donors[:, g]).any(axis=1))) for number, g in enumerate(groups)]
    at = np.concatenate([np.full(len(i), number) for number, i in pairs])
    rows = np.concatenate([i for _, i in pairs])
    for start in range(0, len(at), most):
        group, i = at[start : start + most], rows[start : start + most]
        made = own[i]
        for number in np.unique(group):
            mine = np.flatnonzero(group == number)
            made[np.ix_(mine, groups[number])] = donors[np.ix_(i[mine], groups[number])]
        yield group, made, i


# ---------------------------------------------------------------------- together
def ranked(scores: Sequence[Score], promising: _FLOAT, kept: _BOOL) -> _INT:
    """All columns, best first: by their mean rank over the scores of the rows kept, then by how promising they are."""
    each = [stats.rankdata(-np.nan_to_num(score.over(kept), nan=-np.inf)) for score in scores]
    return np.lexsort((-promising, np.mean(each, axis=0)))


def directions(Z: _FLOAT, P: _FLOAT) -> _FLOAT:
    """Rank correlation of each column with each probability, shape (d, k)."""
    return _correlations(stats.rankdata(Z, axis=0), stats.rankdata(P, axis=0))


def _correlations(Z: _FLOAT, P: _FLOAT) -> _FLOAT:
    """Correlation of each column of Z with each of P, shape (d, k); 0 where either is constant."""

    def scaled(X: _FLOAT) -> _FLOAT:
        return (X - X.mean(axis=0)) / np.where(X.min(axis=0) < X.max(axis=0), X.std(axis=0), np.inf)

    return scaled(Z).T @ scaled(P) / len(Z)
