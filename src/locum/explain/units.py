"""Units of a network or columns of an input, ranked by a score: what is left of a task when only the best n are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.bounds import bootstrap_mean
from locum.core.errors import InvalidData, require_whole
from locum.core.fidelity import Fidelity

__all__ = ["KeepCurve", "keep_curve", "mean_fidelity"]

_FLOAT = NDArray[np.float64]
_CONTROLS = ("bottom", "random")


def mean_fidelity(
    measure: str, values: ArrayLike, *, random_state: Any = 0, level: float = 0.95, greater_is_better: bool = True
) -> Fidelity:
    """The mean of one number a sample, with a studentised bootstrap interval over samples.

    Parameters
    ----------
    measure : str
        Its name.
    values : array-like of shape (samples,)
    random_state : int, default=0
    level : float, default=0.95
    greater_is_better : bool, default=True
    """
    found = np.asarray(values, dtype=float)
    ends = bootstrap_mean(found, level, random_state=random_state)
    return Fidelity(
        measure,
        float(found.mean()),
        ends.lower,
        ends.upper,
        level,
        len(found),
        region="samples given",
        how="samples",
        method=ends.method,
        greater_is_better=greater_is_better,
    )


@dataclass(frozen=True, eq=False)
class KeepCurve:
    """How well a task is done with only some units kept, by each of several rankings and beside the controls.

    Attributes
    ----------
    sizes : tuple of int
        How many units are kept.
    scores : dict of str to ndarray of shape (sizes, samples)
        By ranking: the first is the one under test; "bottom" keeps what it ranks last, "random" is the mean over
        `random_draws` orders at random.
    random_draws : int
    random_state : int
    """

    sizes: tuple[int, ...]
    scores: dict[str, _FLOAT]
    random_draws: int
    random_state: int

    def mean(self, name: str) -> _FLOAT:
        """Mean score of a ranking, one a size."""
        return self._scores(name).mean(axis=1)

    def area(self, name: str, *, level: float = 0.95) -> Fidelity:
        """Mean over sizes and samples, with an interval over samples."""
        return mean_fidelity("area", self._scores(name).mean(axis=0), random_state=self.random_state, level=level)

    def difference(self, one: str, other: str, *, level: float = 0.95) -> Fidelity:
        """How much larger the area of `one` is than that of `other`, paired by sample."""
        gaps = self._scores(one).mean(axis=0) - self._scores(other).mean(axis=0)
        return mean_fidelity("difference of areas", gaps, random_state=self.random_state, level=level)

    def text(self) -> str:
        """The areas, a line a ranking, and what the first is ahead of the others."""
        first, *others = self.scores
        lines = [f"{name}: {self.area(name)}" for name in self.scores]
        return "\n".join(lines + [f"{first} ahead of {name}: {self.difference(first, name)}" for name in others])

    def __str__(self) -> str:
        return self.text()

    def _scores(self, name: str) -> _FLOAT:
        if name not in self.scores:
            raise InvalidData(f"there is no ranking {name!r}; there are {', '.join(self.scores)}")
        return self.scores[name]


def keep_curve(
    evaluate: Callable[[NDArray[np.bool_]], ArrayLike],
    rankings: Mapping[str, ArrayLike],
    *,
    sizes: Sequence[int],
    random_draws: int = 10,
    random_state: int = 0,
) -> KeepCurve:
    """Keep the best units of each ranking, more and more of them, and see how well the task is done.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(keep)``, with keep bools of shape (units,), gives one score a sample; higher is better.
    rankings : mapping of str to array-like of shape (units,)
        Signed scores of the units; the highest are kept first, ties in their order. The first ranking is the one under test.
    sizes : sequence of int
        How many units to keep, each from 0 to all.
    random_draws : int, default=10
    random_state : int, default=0

    Returns
    -------
    KeepCurve

    Raises
    ------
    InvalidData
        Rankings of different length, with names of the controls, or that are not finite; sizes that are not there.

    Notes
    -----
    Cost: sizes × (rankings + 1 + random_draws) evaluations, less for sets of units that come up again.

    Examples
    --------
    >>> weights = np.array([3.0, 1.0, 2.0])
    >>> curve = keep_curve(lambda keep: np.full(12, weights @ keep), {"weight": weights}, sizes=(1, 2))
    >>> curve.mean("weight").tolist(), curve.mean("bottom").tolist()
    ([3.0, 5.0], [1.0, 3.0])
    """
    found = {name: np.asarray(values, dtype=float) for name, values in rankings.items()}
    _check(found, sizes)
    require_whole(1, random_draws=random_draws)
    units = len(next(iter(found.values())))
    known: dict[bytes, _FLOAT] = {}

    def scores(order: NDArray[np.intp]) -> _FLOAT:
        rows = []
        for size in sizes:
            keep = np.zeros(units, dtype=bool)
            keep[order[:size]] = True
            if keep.tobytes() not in known:
                known[keep.tobytes()] = _finite(evaluate(keep))
            rows.append(known[keep.tobytes()])
        return np.stack(rows)

    curves = {name: scores(np.argsort(-values, kind="stable")) for name, values in found.items()}
    curves["bottom"] = scores(np.argsort(next(iter(found.values())), kind="stable"))
    rng = np.random.default_rng(random_state)
    curves["random"] = np.mean([scores(rng.permutation(units)) for _ in range(random_draws)], axis=0)
    return KeepCurve(tuple(map(int, sizes)), curves, random_draws, random_state)


def _check(found: Mapping[str, _FLOAT], sizes: Sequence[int]) -> None:
    if not found:
        raise InvalidData("expected at least one ranking, got none")
    taken = [name for name in _CONTROLS if name in found]
    if taken:
        raise InvalidData(f"the name {taken[0]!r} is that of a control; call the ranking something else")
    shapes = {values.shape for values in found.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1 or not next(iter(shapes))[0]:
        raise InvalidData(f"expected rankings of one shape (units,), got {sorted(shapes)}")
    if not all(np.isfinite(values).all() for values in found.values()):
        raise InvalidData("expected finite scores of units, got NaN or infinity")
    units = next(iter(shapes))[0]
    if not len(sizes) or min(sizes) < 0 or max(sizes) > units:
        raise InvalidData(f"expected sizes= from 0 to the {units} units there are, got {tuple(sizes)}")


def _finite(scores: ArrayLike) -> _FLOAT:
    found = np.asarray(scores, dtype=float)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise InvalidData(f"expected evaluate() to give finite scores of shape (samples,), got shape {found.shape}")
    return found
