"""How far roll-outs of a stand-in for a solver are off, at each value of the parameters, and where they may be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.bounds import bootstrap_mean
from locum.core.errors import InvalidData, require_one_of, require_positive
from locum.core.fidelity import Fidelity
from locum.emulate.stepper import Steps

__all__ = ["RolloutErrors", "TrustRegion", "errors_of", "grouped", "rollout_errors", "runs_of"]

Array = NDArray[np.floating[Any]]

_WORST = 10.0  # times the size of the truth, or of where it began: a run that is off by more has diverged
_BANDS = {"low": (0, 5), "mid": (5, 13), "high": (13, None)}  # wave numbers along the last axis


@dataclass(frozen=True, eq=False)
class TrustRegion:
    """Where a stand-in may be used: the values of the parameters at which its error is below a tolerance, with certainty.

    Attributes
    ----------
    values : ndarray of shape (m, k)
        Values that were tested, in ascending order of the first parameter.
    upper : ndarray of shape (m,)
        Upper bounds of the error, which hold for all values at once.
    trusted : ndarray of bool of shape (m,)
    tolerance, level : float
    """

    values: Array
    upper: Array
    trusted: NDArray[np.bool_]
    tolerance: float
    level: float

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Stretches of one parameter between neighbouring values that are trusted both; in between is interpolation."""
        if self.values.shape[1] != 1:
            raise InvalidData(f"expected one parameter to make ranges of, got {self.values.shape[1]}: read values and trusted")
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.trusted, [False]]).astype(int)))
        return tuple((float(self.values[a, 0]), float(self.values[b - 1, 0])) for a, b in edges.reshape(-1, 2))

    def __contains__(self, p: float) -> bool:
        return any(low <= p <= high for low, high in self.ranges)

    def __str__(self) -> str:
        where = ", ".join(f"{low:g} to {high:g}" if high > low else f"{low:g} alone" for low, high in self.ranges)
        return f"error below {self.tolerance:g} at {100 * self.level:g} % certainty: {where or 'nowhere that was tested'}"


@dataclass(frozen=True, eq=False)
class RolloutErrors:
    """Errors of roll-outs, by run and by value of the parameters.

    Attributes
    ----------
    values : ndarray of shape (m, k)
        Distinct values of the parameters, in ascending order.
    of : ndarray of int of shape (n,)
        Which of them each run has.
    by_run : dict of str to ndarray of shape (n,)
        "nRMSE", size of the error over all frames relative to the size of the truth; "nRMSE last", of the last frame;
        "nRMSE persistence", of saying that nothing changes; 10 is the most that any of these can be. "RMSE", "RMSE last",
        "largest error" and "conserved", the error of the mean over the grid, in the units of the fields; "RMSE low", "RMSE mid"
        and "RMSE high", of wave numbers 0 to 4, 5 to 12, and above along the last axis. Where fields die away, errors in their
        units say more than those relative to what is left.
    diverged : ndarray of bool of shape (n,)
        Whether the error is above ten times the size of the truth and of the field that it began with.
    """

    values: Array
    of: NDArray[np.intp]
    by_run: dict[str, Array]
    diverged: NDArray[np.bool_]

    def fidelity(self, measure: str = "nRMSE", level: float = 0.95, *, candidates: int = 1) -> tuple[Fidelity, ...]:
        """Mean over initial states at each value of the parameters, with its interval.

        Parameters
        ----------
        measure : str, default="nRMSE"
            A key of `by_run`.
        level : float, default=0.95
        candidates : int, default=1
            Number of values, or stand-ins, of which the best is picked.
        """
        require_one_of(tuple(self.by_run), measure=measure)
        found = []
        for i, value in enumerate(self.values):
            errors = self.by_run[measure][self.of == i]
            ends = bootstrap_mean(errors, 1.0 - (1.0 - level) / candidates)
            at = "parameters " + ", ".join(f"{one:.6g}" for one in value)
            found.append(
                Fidelity(measure, float(errors.mean()), max(0.0, ends.lower), ends.upper, level, len(errors), region=at,
                         how="fresh initial states", method=ends.method, candidates=candidates, greater_is_better=False)
            )  # fmt: skip
        return tuple(found)

    def trust_region(self, tolerance: float = 0.1, level: float = 0.95, *, measure: str = "nRMSE") -> TrustRegion:
        """Where the upper bound of a mean error is below a tolerance; bounds hold for all values at once.

        Parameters
        ----------
        tolerance : float, default=0.1
        level : float, default=0.95
        measure : str, default="nRMSE"
            A key of `by_run`.
        """
        require_positive(tolerance=tolerance)
        upper = np.array([one.upper for one in self.fidelity(measure, level, candidates=len(self.values))])
        return TrustRegion(self.values, upper, upper <= tolerance, tolerance, level)

    def __str__(self) -> str:
        lines = [str(one) for one in self.fidelity()]
        return "\n".join([*lines, f"diverged: {int(self.diverged.sum())} of {len(self.of)} runs"])


def runs_of(U: ArrayLike, P: ArrayLike) -> tuple[Array, Array]:
    """Runs (n, T, C, *grid) and parameters (n, k), checked.

    Parameters
    ----------
    U, P : array-like
    """
    runs, rows = np.asarray(U, dtype=np.float64), np.asarray(P, dtype=np.float64)
    if runs.ndim not in (4, 5):
        raise InvalidData(f"expected runs of shape (n, T, fields, *grid) on a grid of one or two dimensions, got {runs.shape}")
    if rows.ndim != 2 or len(rows) != len(runs):
        raise InvalidData(f"expected parameters of shape ({len(runs)}, k), a row for each run, got {rows.shape}")
    if not (np.isfinite(runs).all() and np.isfinite(rows).all()):
        raise InvalidData("expected finite runs and parameters, got NaN or infinity: leave such runs out")
    return runs, rows


def rollout_errors(model: Steps, U: ArrayLike, P: ArrayLike, *, history: int = 1) -> RolloutErrors:
    """Roll a stand-in out beside true runs, from their first frames, and measure how far it is off.

    Parameters
    ----------
    model : Steps
        Its states are the fields of the last `history` frames.
    U : array-like of shape (n, T, C, *grid)
        Runs that were not fitted on, two or more at each value of the parameters.
    P : array-like of shape (n, k)
    history : int, default=1
    """
    runs, values, of = grouped(U, P, history)
    begin = runs[:, :history].reshape(len(runs), -1, *runs.shape[3:])
    said = np.moveaxis(model.rollout(begin, runs.shape[1] - history, values[of]), 0, 1)
    return errors_of(said, runs, values, of, history)


def errors_of(said: Array, runs: Array, values: Array, of: NDArray[np.intp], history: int) -> RolloutErrors:
    """Of frames (n, T - history, C, *grid) beside true runs, as `grouped` gives them."""
    true = runs[:, history:]
    still = np.broadcast_to(runs[:, history - 1 : history], true.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        return RolloutErrors(values, of, *_errors(said, true, still))


def grouped(U: ArrayLike, P: ArrayLike, history: int) -> tuple[Array, Array, NDArray[np.intp]]:
    """Runs (n, T, C, *grid), distinct parameters (m, k), and which of them each run has: two or more runs for each.

    Parameters
    ----------
    U, P : array-like
    history : int
        Frames that are given, fewer than there are.
    """
    runs, rows = runs_of(U, P)
    values, of = np.unique(rows, axis=0, return_inverse=True)
    of = of.reshape(-1)
    if (np.bincount(of) < 2).any() or runs.shape[1] <= history:
        raise InvalidData(
            f"expected two runs or more at each value of the parameters, of more than {history} frames: "
            f"got {np.bincount(of).min()} at one of them, and {runs.shape[1]} frames"
        )
    return runs, values, of


def _errors(said: Array, true: Array, still: Array) -> tuple[dict[str, Array], NDArray[np.bool_]]:
    off, grid = said - true, tuple(range(3, true.ndim))
    size = _size(true)
    relative = _size(off) / size
    diverged = ~(_size(off) < _WORST * np.maximum(size, _size(still)))
    spectrum = np.abs(np.fft.rfft(off)) / true.shape[-1]
    found = {
        "nRMSE": relative,
        "nRMSE last": _size(off[:, -1:]) / _size(true[:, -1:]),
        "nRMSE persistence": _size(still - true) / size,
        "RMSE": _size(off) / np.sqrt(off[0].size),
        "RMSE last": _size(off[:, -1:]) / np.sqrt(off[0, -1].size),
        "largest error": np.abs(off).reshape(len(off), -1).max(axis=1),
        "conserved": np.sqrt((off.mean(axis=grid) ** 2).reshape(len(off), -1).mean(axis=1)),
    }
    for name, (low, high) in _BANDS.items():
        part = spectrum[..., low:high]
        found[f"RMSE {name}"] = np.sqrt((part**2).reshape(len(off), -1).mean(axis=1)) if part.size else np.zeros(len(off))
    for name, values in found.items():
        most = _WORST if name.startswith("nRMSE") else np.finfo(float).max ** 0.25
        found[name] = np.where(values < most, values, most)  # NaN as well
    return found, diverged


def _size(fields: Array) -> Array:
    """Euclidean norm of each run, shape (n,); never 0."""
    norms = np.sqrt((fields.reshape(len(fields), -1) ** 2).sum(axis=1))
    return np.maximum(norms, 1e-12)
