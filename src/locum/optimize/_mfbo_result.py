"""What a run over several levels found: the best design at the truth, what it cost, and how far levels and surrogate agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.optimize._mfbo_surrogates import AutoregressiveProcess, LevelSurrogate
from locum.optimize.space import Point

__all__ = ["MultiFidelityResult", "correlations", "left_out"]

_FLOAT = NDArray[np.float64]
_FEWEST = 4  # common designs, below which a correlation says nothing
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class MultiFidelityResult:
    """What a run over several levels found.

    Parameters
    ----------
    x : Point
        The best design that was evaluated at the truth and keeps the constraints.
    fun : float
        Its value at the truth.
    direction : {"minimize", "maximize"}
    points : tuple of Point
        All evaluations, in order.
    levels : ndarray of shape (n,)
    values : ndarray of shape (n,)
        NaN for those that failed.
    cost_trace : ndarray of shape (n,)
        Cost spent after each evaluation, the first design included.
    best_trace : ndarray of shape (n,)
        Best value at the truth after each evaluation; NaN before the first.
    level_counts : tuple of int
    level_correlation_ : tuple of Fidelity or None
        Of each level below the truth with it, at designs evaluated at both; None with too few of them.
    fidelity : Fidelity or None
        How well the surrogate foretells values at the truth that were left out, at all levels; None with too few of them.
    rival : Fidelity or None
        The same of a process that knows the truth alone.
    stopped : str
        Why it ended.
    expected : float or None, default=None
        Mean or quantile over errors of the inputs at x, by the surrogate; None without such errors.
    """

    x: Point
    fun: float
    direction: str
    points: tuple[Point, ...]
    levels: NDArray[np.intp]
    values: _FLOAT
    cost_trace: _FLOAT
    best_trace: _FLOAT
    level_counts: tuple[int, ...]
    level_correlation_: tuple[Fidelity | None, ...]
    fidelity: Fidelity | None
    rival: Fidelity | None
    stopped: str
    expected: float | None = None

    def text(self) -> str:
        """The result in words."""
        cells = [f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}" for name, value in self.x.items()]
        lines = [
            f"{self.fun:.6g} at the truth, at {', '.join(cells)}",
            f"evaluations by level: {', '.join(map(str, self.level_counts))}; cost {self.cost_trace[-1]:.6g}; {self.stopped}",
        ]
        if self.expected is not None:
            lines.append(f"{self.expected:.6g} over errors of the inputs, by the surrogate")
        for level, one in enumerate(self.level_correlation_):
            lines.append(f"level {level}: {one if one is not None else 'too few common designs for a correlation'}")
        for name, told in (("surrogate", self.fidelity), ("truth alone", self.rival)):
            lines.append(f"{name}: {told if told is not None else 'too few evaluations of the truth to leave some out'}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def correlations(keys: Sequence[dict[str, float]]) -> tuple[Fidelity | None, ...]:
    """Of each level below the truth with it.

    Parameters
    ----------
    keys : sequence of L dict
        Values by what tells designs apart.
    """
    truth: dict[str, float] = keys[-1]
    out: list[Fidelity | None] = []
    for one in keys[:-1]:
        common = [key for key in one if key in truth]
        a, b = np.array([one[key] for key in common]), np.array([truth[key] for key in common])
        if len(common) < _FEWEST or np.ptp(a) <= 1e-12 * np.abs(a).max() or np.ptp(b) <= 1e-12 * np.abs(b).max():
            out.append(None)
            continue
        about: dict[str, Any] = {"region": "designs evaluated at both levels", "how": "common designs"}
        out.append(measure("pearson_correlation").fidelity(b, a, **about))
    return tuple(out)


def left_out(
    surrogate: LevelSurrogate, designs: Sequence[_FLOAT], values: Sequence[_FLOAT], seed: int
) -> tuple[Fidelity | None, Fidelity | None]:
    """How well a surrogate, and a process of the truth alone, foretell values at the truth.

    Designs of the truth are left out by folds, at all levels, so a level below does not tell what is asked.

    Parameters
    ----------
    surrogate : LevelSurrogate
    designs, values : sequence of L ndarrays
    seed : int
    """
    X, y = designs[-1], values[-1]
    if len(y) < 2 * _FOLDS or np.ptp(y) <= 1e-12 * np.abs(y).max():
        return None, None
    alone = AutoregressiveProcess(noise=getattr(surrogate, "noise", 0.0))
    said, rival = np.empty(len(y)), np.empty(len(y))
    fold = np.random.default_rng(seed).permutation(np.arange(len(y)) % _FOLDS)
    for k in range(_FOLDS):
        out, kept = fold == k, fold != k
        apart = [np.abs(one[:, None] - X[out][None]).max(axis=-1).min(axis=1) > 1e-9 for one in designs]
        if all(one.any() for one in apart):
            pairs = [(a[there], b[there]) for a, b, there in zip(designs, values, apart, strict=True)]
            said[out] = clone(surrogate).fit(*zip(*pairs, strict=True)).predict(X[out])
        else:
            return None, None
        rival[out] = alone.fit([X[kept]], [y[kept]]).predict(X[out])
    about: dict[str, Any] = {"region": "designs evaluated at the truth", "how": "evaluations left out"}
    try:
        return measure("r2").fidelity(y, said, **about), measure("r2").fidelity(y, rival, **about)
    except InvalidData:  # foretold without any error, of which there is no interval
        return None, None
