"""What a learner of Pareto sets hands out: fronts, and how far its surrogates were right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.optimize.result import coverage
from locum.optimize.warp import Power, PowerWarp

__all__ = ["Foretold", "LearnedFront", "ObjectiveFidelity", "ParetoFront", "Unit", "fidelities"]

_FLOAT = NDArray[np.float64]


class ParetoFront(NamedTuple):
    """Evaluated designs that no other evaluated one is better than.

    Parameters
    ----------
    designs : ndarray of shape (k, n)
    objectives : ndarray of shape (k, m)
    """

    designs: _FLOAT
    objectives: _FLOAT


class LearnedFront(NamedTuple):
    """What the network answers for preferences spread evenly, and what the surrogates say of it.

    Parameters
    ----------
    preferences : ndarray of shape (k, m)
    designs : ndarray of shape (k, n)
    mean, sd : ndarray of shape (k, m)
        Of a new evaluation of each objective.
    """

    preferences: _FLOAT
    designs: _FLOAT
    mean: _FLOAT
    sd: _FLOAT


@dataclass(frozen=True)
class ObjectiveFidelity:
    """How far the surrogate of one objective is right, beside the cheapest rivals.

    Parameters
    ----------
    objective : str
    surrogate, mean, nearest : Fidelity
        Mean absolute error of the surrogate, of the mean of all evaluations, and of the nearest evaluated design.
    coverage : Fidelity
        Of the surrogate's intervals of level 0.9.
    """

    objective: str
    surrogate: Fidelity
    mean: Fidelity
    nearest: Fidelity
    coverage: Fidelity

    def text(self) -> str:
        """The record in words."""
        return "\n".join(
            [
                f"{self.objective}: {self.surrogate}",
                f"  the mean of all evaluations: {self.mean}",
                f"  the nearest evaluated design: {self.nearest}",
                f"  {self.coverage}",
            ]
        )

    def __str__(self) -> str:
        return self.text()


class Foretold(NamedTuple):
    """What was said of a design before it was evaluated.

    Parameters
    ----------
    mean, sd : ndarray of shape (m,)
    plain, nearest : ndarray of shape (m,)
        The mean of the evaluations so far, and what the nearest of them gave.
    """

    mean: _FLOAT
    sd: _FLOAT
    plain: _FLOAT
    nearest: _FLOAT


def fidelities(
    names: Sequence[str], truth: ArrayLike, said: Iterable[Foretold], how: str, random_state: int
) -> tuple[ObjectiveFidelity, ...]:
    """One record an objective.

    Parameters
    ----------
    names : sequence of str
    truth : array-like of shape (k, m)
    said : iterable of Foretold
        One a row of `truth`.
    how : str
        Where the rows came from.
    random_state : int
        Of the bootstrap.
    """
    Y, all_said = np.asarray(truth, dtype=float), list(said)
    mean, sd, plain, nearest = (np.array([one[part] for one in all_said]) for part in range(4))
    error, out = measure("mae"), []
    for j, name in enumerate(names):
        found = [
            error.fidelity(Y[:, j], guess[:, j], region="designs proposed" if how == "designs foretold" else "", how=how,
                           random_state=random_state)
            for guess in (mean, plain, nearest)
        ]  # fmt: skip
        cover = coverage(Y[:, j], mean[:, j], sd[:, j], region="", how=how)
        out.append(ObjectiveFidelity(name, found[0], found[1], found[2], cover))
    return tuple(out)


@dataclass(frozen=True)
class Unit:
    """The unit in which an objective is learned: warped where asked for, then with mean 0 and deviation 1.

    Parameters
    ----------
    power : Power
        Of minus the objective, since it takes large values for good ones.
    centre, scale : float
    """

    power: Power
    centre: float
    scale: float

    @classmethod
    def of(cls, values: _FLOAT, warp: PowerWarp | None) -> Unit:
        """The unit for some values, of shape (n,)."""
        power = Power() if warp is None else warp.fit(-values)
        warped = -power(-values)
        return cls(power, float(warped.mean()), float(warped.std()) or 1.0)

    def __call__(self, values: _FLOAT) -> _FLOAT:
        return np.asarray((-self.power(-values) - self.centre) / self.scale)

    def moments(self, mean: _FLOAT, sd: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
        """Mean and standard deviation of the objective, where those in this unit are normal."""
        middle, spread = self.power.moments(-(mean * self.scale + self.centre), sd * self.scale)
        return -middle, spread
