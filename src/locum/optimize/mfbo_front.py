"""Several objectives at several levels: the front of the truth, by volume or by one preference after another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, TargetError, require_one_of, require_whole
from locum.optimize._mfbo_acquisitions import LevelAcquisition
from locum.optimize._mfbo_records import Evaluation, constraint_count
from locum.optimize._svh_psl_front import nondominated, volume
from locum.optimize.mfbo import Fidelities, MultiFidelityOptimizer
from locum.optimize.objective import rows_of
from locum.optimize.space import Point, Space
from locum.optimize.surrogate import need_botorch

__all__ = ["MultiFidelityParetoOptimizer", "MultiFidelityFront"]

_FLOAT = NDArray[np.float64]
_SINGLE = ("trust_region", "input_noise")
_SUM = 0.05  # of all objectives, added to the largest, so that designs that are worse in the others count less


@dataclass(frozen=True, eq=False)
class MultiFidelityFront:
    """Designs at the truth that no other one there is better than in everything.

    Parameters
    ----------
    x : tuple of Point
    fun : ndarray of shape (n, m)
        Their objectives, evaluated at the truth.
    direction : {"minimize", "maximize"}
    levels : ndarray of shape (N,)
        Of all evaluations, in order.
    values : ndarray of shape (N, m)
        NaN for those that failed.
    cost_trace : ndarray of shape (N,)
    """

    x: tuple[Point, ...]
    fun: _FLOAT
    direction: str
    levels: NDArray[np.intp]
    values: _FLOAT
    cost_trace: _FLOAT

    def hypervolume(self, reference: ArrayLike) -> float:
        """Volume between the front and a point that is worse.

        Parameters
        ----------
        reference : array-like of shape (m,)
        """
        point = np.asarray(reference, dtype=float)
        if point.shape != (self.fun.shape[1],) or not np.isfinite(point).all():
            raise InvalidData(f"expected {self.fun.shape[1]} finite numbers for a reference point, got {reference!r}")
        turn = 1.0 if self.direction == "minimize" else -1.0
        return volume(turn * self.fun, turn * point)


@final
class MultiFidelityParetoOptimizer:
    r"""Proposes designs and levels that enlarge the front of several objectives, all to be small or all large.

    Each objective has a surrogate of all levels. A design and level are worth the volume that knowing the level there is
    expected to add to the front of the truth, over the cost; what the means would add already is taken off below the truth. The
    reference point is a tenth of the range worse than the front so far.

    With ``acquisition=`` a preference w is drawn evenly from the simplex for each proposal instead, and the objectives of each
    level become one, of which there is one surrogate:

    .. math:: \max_j w_j z_{lj} + 0.05 \sum_j w_j z_{lj}, \qquad z_{lj} = (f_{lj} - a_{lj}) / (b_{lj} - a_{lj}),

    with a and b the best and the worst of that objective seen at that level. All acquisitions, trust regions and errors of
    inputs of `MultiFidelityOptimizer` are then at hand.

    Parameters
    ----------
    space : Space
    fidelities : Fidelities
        Whose levels give the objectives first, and then constraints.
    objectives : int, default=2
        m.
    acquisition : LevelAcquisition or None, default=None
        Of the one objective that a preference makes; by volume where None.
    direction : {"minimize", "maximize"}
    random_state : int, default=0
    **settings
        Of `MultiFidelityOptimizer`: surrogate, initial, most_below and so on.

    Raises
    ------
    InvalidData
        Settings that cannot be used: ``trust_region=`` and ``input_noise=`` are for one objective, and want ``acquisition=``.

    Notes
    -----
    Cost: m fits of the surrogate an evaluation, or one with preferences. The cells of what is not dominated grow with the front
    as n for two objectives, and as n^(m / 2) and more for m.

    References
    ----------
    Emmerich, Deutz and Klinkenberg, *Hypervolume-based expected improvement*, 2011; Knowles, *ParEGO*, 2006; Do and Zhang,
    arXiv 2311.13050, on several objectives.

    Examples
    --------
    >>> from locum.optimize import Space
    >>> near = lambda point: [point["x0"] ** 2, (point["x0"] - 1) ** 2]
    >>> levels = Fidelities([lambda point: [0.9 * one + 0.01 for one in near(point)], near], cost=[1, 10])
    >>> found = MultiFidelityParetoOptimizer(Space.box([(-1, 2)]), levels, direction="minimize", initial=(8, 4)).run(budget=100)
    >>> bool(found.hypervolume([1.0, 1.0]) > 0.6)
    True
    """

    papers = ("mfbo",)

    def __init__(
        self, space: Space, fidelities: Fidelities, objectives: int = 2, acquisition: LevelAcquisition | None = None, *,
        direction: str, random_state: int = 0, **settings: Any,
    ) -> None:  # fmt: skip
        require_whole(2, objectives=objectives)
        require_one_of(("minimize", "maximize"), direction=direction)
        self.space, self.fidelities, self.objectives, self.direction = space, fidelities, objectives, direction
        self.acquisition, self.random_state, self.settings = acquisition, random_state, settings
        single = [name for name in _SINGLE if settings.get(name) is not None]
        if single and acquisition is None:
            raise InvalidData(f"{single[0]}= is for one objective; give acquisition= too, to make one by preferences")
        self.initial = self._plain().initial
        self.evaluations: list[Evaluation] = []
        self.values: list[_FLOAT] = []
        self.constraints: list[_FLOAT] = []

    # ------------------------------------------------------------------ ask and tell
    def ask(self, left: float = math.inf) -> list[Evaluation]:
        """The next design and level.

        Parameters
        ----------
        left : float, default=inf
            Cost that may still be spent.

        Returns
        -------
        list of Evaluation
            Empty where nothing is left to ask, or it cannot be paid.
        """
        if self.acquisition is not None:
            rng = np.random.default_rng([self.random_state, len(self.evaluations)])
            return self._of(rng.dirichlet(np.ones(self.objectives))).ask(1, left)
        if not self.evaluations:
            return self._plain().ask(1, left)
        need_botorch()
        from locum.optimize._mfbo_volume import VolumeOptimizer

        search = VolumeOptimizer(self.space, self.fidelities, random_state=self.random_state, **self.settings)
        search.told(self.evaluations, -self._turn * np.array(self.values), np.nan_to_num(np.array(self.constraints)))
        return search.ask(1, left)

    def tell(self, evaluations: Sequence[tuple[Mapping[str, Any], int]], values: Iterable[ArrayLike]) -> None:
        """Say what evaluations gave, asked for or not.

        Parameters
        ----------
        evaluations : sequence of (point, level)
        values : iterable of array-like of shape (m,) or (m + c,)
            Objectives, then constraints that are to be 0 or more; NaN for an evaluation that failed.

        Raises
        ------
        InvalidData
            As `MultiFidelityOptimizer.tell`, or rows of another width. Nothing is taken then.
        """
        rows, m = [np.asarray(one, dtype=float).ravel() for one in values], self.objectives
        worked = [bool(np.isfinite(row).all()) for row in rows]
        before = constraint_count(self.values, self.constraints)
        fresh = max((len(row) - m for row, good in zip(rows, worked, strict=True) if good and len(row) > m), default=0)
        width = fresh if before is None else before
        if len(rows) != len(evaluations) or any(len(row) != m + width for row, good in zip(rows, worked, strict=True) if good):
            raise InvalidData(f"expected {m + width} numbers for each of {len(evaluations)} evaluations, got {len(rows)} rows")
        probe = self._plain()
        probe.tell(evaluations, np.zeros(len(rows)))  # refuses what is none of the space's
        if before is None:
            self.constraints = [np.full(width, np.nan) for _ in self.constraints]
        for one, row, good in zip(probe.evaluations, rows, worked, strict=True):
            self.evaluations.append(one)
            self.values.append(row[:m] if good else np.full(m, np.nan))
            self.constraints.append(row[m:] if good else np.full(width, np.nan))

    @property
    def spent(self) -> float:
        """Cost of everything told."""
        return float(sum(self.fidelities.cost[one.level] for one in self.evaluations))

    # ------------------------------------------------------------------ the whole run
    def run(self, budget: float) -> MultiFidelityFront:
        """Ask the levels until the budget ends; the first design is charged like everything else.

        Parameters
        ----------
        budget : float

        Raises
        ------
        InvalidData
            A budget below the first design; nothing was paid.
        TargetError
            No evaluation of the truth worked.
        """
        first = float(np.dot(self.initial, self.fidelities.cost))
        if not first <= budget < math.inf:
            raise InvalidData(f"expected a budget of at least {first:g}, the first design, got {budget!r}; lower initial=")
        targets = self.fidelities.targets(self.space)
        while asked := self.ask(budget - self.spent):
            (one,) = asked
            try:
                row = np.asarray(targets[one.level].query(rows_of(self.space, [one.point]), "fit"), dtype=float).ravel()
            except TargetError:
                row = np.full(self.objectives, np.nan)
            self.tell(asked, [row])
        return self.result()

    def result(self) -> MultiFidelityFront:
        """The front so far, of what was evaluated at the truth."""
        levels, top = np.array([one.level for one in self.evaluations], dtype=np.intp), len(self.fidelities) - 1
        values = np.array(self.values).reshape(-1, self.objectives)
        worked = np.flatnonzero((levels == top) & np.isfinite(values).all(axis=1))
        kept = [i for i in worked if (self.constraints[i] >= 0).all()]
        if not kept:
            raise TargetError("no evaluation of the truth worked and kept the constraints, so there is no front")
        chosen = np.array(kept)[nondominated(self._turn * values[kept])]
        cost = np.cumsum(self.fidelities.cost[levels])
        points = tuple(self.evaluations[i].point for i in chosen)
        return MultiFidelityFront(points, values[chosen], self.direction, levels, values, cost)

    # ------------------------------------------------------------------ one objective of many
    @property
    def _turn(self) -> float:
        return 1.0 if self.direction == "minimize" else -1.0

    def _plain(self) -> MultiFidelityOptimizer:
        return MultiFidelityOptimizer(
            self.space, self.fidelities, acquisition=self.acquisition, direction="minimize", random_state=self.random_state,
            **self.settings,
        )  # fmt: skip

    def _of(self, weights: _FLOAT) -> MultiFidelityOptimizer:
        """An optimiser of one objective that was told everything, by a preference."""
        one = self._plain()
        if self.evaluations:
            one.tell(self.evaluations, self._single(weights), constraints=np.nan_to_num(np.array(self.constraints)))
        return one

    def _single(self, weights: _FLOAT) -> list[float]:
        values = self._turn * np.array(self.values)
        levels, out = np.array([one.level for one in self.evaluations]), np.full(len(values), np.nan)
        for level in range(len(self.fidelities)):
            at = (levels == level) & np.isfinite(values).all(axis=1)
            if at.any():
                low, high = values[at].min(axis=0), values[at].max(axis=0)
                z = (values[at] - low) / np.where(high > low, high - low, 1.0)
                out[at] = (z * weights).max(axis=1) + _SUM * z @ weights
        return out.tolist()
