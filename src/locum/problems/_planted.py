"""Planted problems: rows on a correlated manifold, and a black box that is a program and so knows its own truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from locum.core.domain import Column, Domain
from locum.core.errors import InvalidData
from locum.core.program import Condition, Program

__all__ = ["Draft", "Manifold", "Output", "Planted", "balanced", "plant"]

Output = Literal["class", "probability", "value"]

_FLOAT = NDArray[np.float64]
_PILOT_ROWS = 4000
_REACH = 3.0  # latent values are cut off here, so that every numeric column has a known range
_FACTORS = 2
_LEAST_SHARE = 0.05  # of each class, or the problem is drawn again
_LEAST_ROWS = 40  # of the pilot rows, for each rule
_TRIES = 200
_SHAPES = ("normal", "skewed", "uniform", "counts")


@dataclass(frozen=True, eq=False)
class Planted:
    """A black box on tables whose truth is known.

    Parameters
    ----------
    name : str
    truth : Program
        What answers: the same rules or terms that a stand-in should find.
    domain : Domain
        Numeric columns ``x0, x1, ...`` of four shapes, then categorical ones ``c0, c1, ...``.
    manifold : Manifold
        Where its rows come from.

    Examples
    --------
    >>> from locum.problems import planted_rules
    >>> problem = planted_rules(random_state=2)
    >>> X = problem.sample(1000, seed=7)
    >>> X.shape, sorted(set(problem.answer(X).tolist()))
    ((1000, 9), ['no', 'yes'])
    """

    name: str
    truth: Program
    domain: Domain
    manifold: Manifold = field(repr=False)

    @property
    def relevant(self) -> tuple[str, ...]:
        """The columns that matter to the answers."""
        return tuple(self.domain.names[column] for column in self.truth.used)

    def sample(self, n: int, seed: int = 0) -> NDArray[Any]:
        """Rows from the manifold, an object array of shape (n, d), or a float one where no column is categorical."""
        if n < 1:
            raise InvalidData(f"expected to sample at least one row, got n={n}")
        return self.domain.decode(self.manifold.rows(n, np.random.default_rng([seed, 1])))

    def answer(self, X: Any) -> NDArray[Any]:
        """Labels of shape (n,), probabilities of shape (n, k), or values of shape (n,)."""
        return self.truth.predict(self.domain.encode(X))


@dataclass(frozen=True, eq=False)
class Manifold:
    """A Gaussian copula with two factors: how columns depend on each other, and where values are missing.

    A column's latent value is a mix of two factors that all columns share and of noise of its own; its distribution is
    then given its shape. A value is missing where a mix of the factors and of noise exceeds a threshold, so that missing
    values are no more independent of the rest than real ones are.

    Parameters
    ----------
    columns : tuple of Column
    loadings, absence : ndarray of shape (d, 2)
        Weights of the factors in the latent value of each column, and in what makes it missing.
    thresholds : tuple of ndarray
        Where latent values pass from one level to the next, for categorical columns.
    missing : ndarray of shape (d,)
        Share of missing values.
    """

    columns: tuple[Column, ...]
    loadings: _FLOAT
    absence: _FLOAT
    thresholds: tuple[_FLOAT, ...]
    missing: _FLOAT

    def rows(self, n: int, rng: np.random.Generator) -> _FLOAT:
        """Encoded rows of shape (n, d)."""
        factors = rng.normal(size=(n, _FACTORS))
        latent = _mixed(factors, self.loadings, rng)
        absent = ndtr(_mixed(factors, self.absence, rng)) > 1 - self.missing
        out = np.empty_like(latent)
        for j, column in enumerate(self.columns):
            if column.kind == "categorical":
                out[:, j] = np.searchsorted(self.thresholds[j], latent[:, j])
            else:
                out[:, j] = _shaped(latent[:, j], _SHAPES[j % len(_SHAPES)])
        out[absent] = np.nan
        return out


@dataclass(frozen=True)
class Draft:
    """What a problem is planted in: columns, pilot rows, and chance.

    Parameters
    ----------
    columns : tuple of Column
    pilot : ndarray of shape (m, d)
        Encoded rows of the manifold.
    relevant : ndarray of shape (r,)
        The columns that may matter.
    classes : tuple of str or None
    rng : Generator
    """

    columns: tuple[Column, ...]
    pilot: _FLOAT
    relevant: NDArray[np.intp]
    classes: tuple[str, ...] | None
    rng: np.random.Generator

    def column(self) -> int:
        """A relevant column, at random."""
        return int(self.rng.choice(self.relevant))

    def condition(self, column: int, rows: NDArray[np.intp]) -> Condition:
        """A condition on a column that holds for some of the pilot rows and not for others, at random."""
        rng, z = self.rng, self.pilot[rows, column]
        missing = bool(rng.random() < 0.5) and self.columns[column].missing
        if self.columns[column].kind == "categorical":
            count = len(self.columns[column].levels)
            levels = rng.permutation(count)[: rng.integers(1, count)]
            return Condition(column, levels=tuple(sorted(int(level) for level in levels)), missing=missing)
        cut = self.cut(column, float(rng.uniform(0.2, 0.8)), z)
        return Condition(column, None, cut, missing=missing) if rng.random() < 0.5 else Condition(column, cut, missing=missing)

    def cut(self, column: int, share: float, z: _FLOAT) -> float:
        """A threshold below which that share of the known values lies, rounded so that it reads well."""
        known = z[~np.isnan(z)]
        value = float(np.quantile(known, share)) if known.size else 0.0
        return math.floor(value) + 0.5 if self.columns[column].integer else round(value, 2)

    def answer(self, which: int) -> tuple[float, ...]:
        """What a rule says that names class `which`; a number where there are no classes, further up for each `which`."""
        if self.classes is None:
            return (round(float(10 * which + self.rng.uniform(0, 4)), 1),)
        shares = self.rng.uniform(0.0, 0.3, len(self.classes))
        shares[which % len(self.classes)] = self.rng.uniform(0.7, 1.0)
        return tuple(float(share) for share in shares / shares.sum())

    def offsets(self, scale: float) -> tuple[float, ...]:
        """What a piece of a sum adds: a number, or one a class of which the first is zero."""
        width = 1 if self.classes is None else len(self.classes) - 1
        drawn = [round(float(value), 2) for value in self.rng.normal(0.0, scale, width)]
        return tuple(drawn) if self.classes is None else (0.0, *drawn)


def plant(
    name: str,
    program: Callable[[Draft], Program],
    random_state: int,
    *,
    output: Output,
    classes: Sequence[str],
    numeric: int,
    categorical: int,
    relevant: int,
    missing: float,
) -> Planted:
    """Draw a manifold and a program on it; again, until every class has its share.

    Raises
    ------
    InvalidData
        Settings out of range, or 200 draws without a problem in which every class comes up.
    """
    _check(output, classes, numeric, categorical, relevant, missing)
    rng = np.random.default_rng([random_state, 0])
    for _ in range(_TRIES):
        manifold = _manifold(rng, numeric, categorical, missing)
        chosen = np.sort(rng.choice(numeric + categorical, relevant, replace=False))
        pilot = manifold.rows(_PILOT_ROWS, rng)
        draft = Draft(manifold.columns, pilot, chosen, None if output == "value" else tuple(classes), rng)
        truth = program(draft)
        if len(truth.used) == relevant and _lively(truth, pilot):
            container = "object" if categorical else "array"
            dtypes = ("O" if categorical else "<f8",) * len(manifold.columns)
            return Planted(name, truth, Domain(manifold.columns, container, dtypes), manifold)
    raise InvalidData(
        f"{_TRIES} draws gave no {name} in which each of {relevant} columns matters and each class holds at least "
        f"{_LEAST_SHARE:.0%} of the rows; ask for fewer columns or classes, or for more rules, leaves or pieces"
    )


def _check(output: str, classes: Sequence[str], numeric: int, categorical: int, relevant: int, missing: float) -> None:
    if output not in ("class", "probability", "value"):
        raise InvalidData(f"expected output= to be 'class', 'probability' or 'value', got {output!r}")
    if len(set(classes)) < max(2, len(classes)):
        raise InvalidData(f"expected at least two different classes, got {list(classes)}")
    if min(numeric, categorical) < 0 or not 1 <= relevant <= numeric + categorical:
        raise InvalidData(
            "expected relevant= between 1 and the number of columns, and no negative count, got "
            f"numeric={numeric}, categorical={categorical} and relevant={relevant}"
        )
    if not 0 <= missing < 0.5:
        raise InvalidData(f"expected missing= to be a share from 0 to below 0.5, got {missing!r}")


def _manifold(rng: np.random.Generator, numeric: int, categorical: int, missing: float) -> Manifold:
    d = numeric + categorical
    shares = np.where(np.arange(d) % 2 == 0, missing, 0.0)  # every other column is complete
    columns, thresholds = [], []
    for j in range(numeric):
        shape = _SHAPES[j % len(_SHAPES)]
        low, high = (float(value) for value in _shaped(np.array([-_REACH, _REACH]), shape))
        columns.append(Column(f"x{j}", "numeric", low, high, shape == "counts", (), bool(shares[j] > 0)))
        thresholds.append(np.empty(0))
    for j in range(categorical):
        count = int(rng.integers(3, 6))
        levels = tuple("abcdef"[:count])
        columns.append(Column(f"c{j}", "categorical", levels=levels, missing=bool(shares[numeric + j] > 0)))
        cumulated = np.cumsum(rng.dirichlet(np.full(count, 4.0)))[:-1]
        thresholds.append(ndtri(cumulated))
    return Manifold(tuple(columns), _loadings(rng, d), _loadings(rng, d), tuple(thresholds), shares)


def _loadings(rng: np.random.Generator, d: int) -> _FLOAT:
    angle = rng.uniform(0, 2 * np.pi, d)
    return rng.uniform(0.5, 0.85, d)[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


def _mixed(factors: _FLOAT, loadings: _FLOAT, rng: np.random.Generator) -> _FLOAT:
    own = np.sqrt(1 - (loadings**2).sum(axis=1))
    return np.clip(factors @ loadings.T + own * rng.normal(size=(len(factors), len(loadings))), -_REACH, _REACH)


def _shaped(latent: _FLOAT, shape: str) -> _FLOAT:
    if shape == "skewed":
        return np.exp(latent)
    if shape == "uniform":
        return 100 * (ndtr(latent) - ndtr(-_REACH)) / (ndtr(_REACH) - ndtr(-_REACH))
    if shape == "counts":
        return np.round(2 * (latent + _REACH))
    return latent


def _lively(truth: Program, pilot: _FLOAT) -> bool:
    """Whether every rule answers some rows, and every class has its share."""
    if truth.body == "rules":
        answered = np.bincount(truth.fired(pilot), minlength=len(truth.terms) + 1)
        if answered[: len(truth.terms)].min() < _LEAST_ROWS:
            return False
    values = truth.values(pilot)
    if truth.classes is None:
        return bool(values.std() > 0)
    share = np.bincount(values.argmax(axis=1), minlength=len(truth.classes)) / len(pilot)
    return bool(share.min() >= _LEAST_SHARE)


def balanced(terms: Iterable[Any], draft: Draft) -> tuple[float, ...]:
    """The base of a sum that makes its middle score zero, so that no class takes all."""
    total = sum(term.contribution(draft.pilot) for term in terms)
    return tuple(float(-value) for value in np.median(total, axis=0))
