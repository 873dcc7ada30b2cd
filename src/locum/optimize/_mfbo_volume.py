"""Several objectives at several levels, a surrogate of each: what an evaluation should add to the volume of the front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
import torch
from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from numpy.typing import NDArray
from sklearn.base import clone

from locum.nets import seeded
from locum.optimize._mfbo_acquisitions import DesignAndLevel, Standing
from locum.optimize._mfbo_fidelities import Fidelities
from locum.optimize._mfbo_models import explained_alone
from locum.optimize._mfbo_propose import Proposal
from locum.optimize._mfbo_records import Evaluation, best_designs, by_level
from locum.optimize._mfbo_surrogates import LevelSurrogate
from locum.optimize._svh_psl_front import nondominated
from locum.optimize.mfbo import MultiFidelityOptimizer
from locum.optimize.space import Space

__all__ = ["VolumeOptimizer"]

_FLOAT = NDArray[np.float64]
_FAR = 1e6  # in ranges of an objective, for the sides of cells that have no end
_LEADERS = 6  # of the front


@final
class VolumePerCost(DesignAndLevel):
    """Expected hypervolume improvement of the truth by what is not known of a level alone, over the cost of the level.

    As `VariableFidelityExpectedImprovement` for one objective: below the truth, the improvement of the means that is certain
    already is taken off. Objectives are independent given their data, so that the expectation over the cells of what is not
    dominated yet is a sum of products.

    Parameters
    ----------
    parts : sequence of LevelSurrogate
        One for each objective, larger is better.
    values : ndarray of shape (n, m)
        At the truth.
    """

    def __init__(self, parts: Sequence[LevelSurrogate], values: _FLOAT) -> None:
        spread = np.ptp(values, axis=0)
        self.parts, self.scale = parts, torch.as_tensor(np.where(spread > 0, spread, 1.0))
        heights = torch.as_tensor(values) / self.scale
        front = heights[torch.as_tensor(nondominated(-values))]
        worst = infer_reference_point(front)
        cells = FastNondominatedPartitioning(ref_point=worst, Y=front).get_hypercell_bounds()
        self.lower, self.upper = cells[0], cells[1].clamp_max(_FAR)

    def table(self, surrogate: LevelSurrogate | None, standing: Standing) -> Callable[[Any], Any]:
        charge = (standing.cost / standing.cost[-1]).log()

        def worth(X: Any) -> Any:
            moments = [one.moments(X) for one in self.parts]
            mean = torch.stack([one.mean[:, -1] for one in moments], dim=-1) / self.scale
            sd = torch.stack([explained_alone(one) for one in moments], dim=-1) / self.scale
            gain = self._expected(mean[:, None], sd)
            gain = torch.cat([gain[:, :-1] - self._sure(mean)[:, None], gain[:, -1:]], dim=1)
            return gain.clamp_min(1e-300).log() - charge

        return worth

    def _expected(self, mean: Any, sd: Any) -> Any:
        """Of independent normal objectives of shape (..., m), shape (...)."""

        def above(edge: Any) -> Any:
            z = (mean[..., None, :] - edge) / sd[..., None, :]
            return sd[..., None, :] * (torch.exp(-0.5 * z**2) / math.sqrt(2 * math.pi) + z * torch.special.ndtr(z))

        return (above(self.lower) - above(self.upper)).clamp_min(0.0).prod(dim=-1).sum(dim=-1)

    def _sure(self, mean: Any) -> Any:
        reached = torch.minimum(mean[:, None], self.upper) - self.lower
        return reached.clamp_min(0.0).prod(dim=-1).sum(dim=-1)


@final
class VolumeOptimizer(MultiFidelityOptimizer):
    """Proposes what enlarges the volume of the front most for its cost.

    It is told each objective beside their sum, by which levels are judged: whether they go with the truth.

    Parameters
    ----------
    space : Space
    fidelities : Fidelities
    random_state : int
    **settings
        Of `MultiFidelityOptimizer`.
    """

    def __init__(self, space: Space, fidelities: Fidelities, *, random_state: int, **settings: Any) -> None:
        super().__init__(space, fidelities, direction="maximize", random_state=random_state, **settings)
        self.objectives = np.empty((0, 1))

    def told(self, evaluations: list[Evaluation], objectives: _FLOAT, constraints: _FLOAT) -> None:
        """Take evaluations, their objectives of shape (n, m), larger is better and NaN where one failed, and constraints."""
        self.objectives = objectives
        top = np.array([one.level for one in evaluations]) == len(self.fidelities) - 1
        true = objectives[top & np.isfinite(objectives).all(axis=1)]
        spread = np.ptp(true, axis=0) if len(true) else np.ones(objectives.shape[1])
        self.tell(evaluations, (objectives / np.where(spread > 0, spread, 1.0)).sum(axis=1), constraints=constraints)

    def _proposed(self, known: list[set[str]], left: float) -> Evaluation:
        rng = np.random.default_rng([self.random_state, len(self.evaluations)])
        count, nested = len(self.fidelities), self.surrogate.nested
        told = [by_level(self.space, self.evaluations, list(column), count, nested) for column in self.objectives.T]
        parts = [clone(self.surrogate).fit(*one) for one in told]
        standing, levels, leaders = self._standing(None, int(rng.integers(2**31))), self._useful(), []
        kept = [
            i for i, one in enumerate(self.evaluations)
            if one.level == count - 1 and np.isfinite(self.objectives[i]).all() and (self.constraints[i] >= 0).all()
        ]  # fmt: skip
        values = self.objectives[kept]
        if kept:
            front = np.flatnonzero(nondominated(-values))
            leaders = [self.evaluations[kept[i]].point for i in rng.permutation(front)[:_LEADERS]]
        leaders += best_designs(self.space, *self._told())
        rule = VolumePerCost(parts, values if kept else np.array([one[1][-1] for one in told]).T)
        with seeded(int(rng.integers(2**31))):
            limits = self._limits()

            def best(of: list[int]) -> tuple[Any, int]:
                return Proposal(self.space, parts[0], limits, standing, leaders, known, of, rng).by(rule)[0]

            point, level = best(levels[-1:] if self._starved(standing) else levels)
            if self.fidelities.leaves_too_little(level, left):
                point, level = best(levels[-1:])
        if nested:
            level = next((k for k in range(level) if self.space.key(point) not in known[k]), level)
        return Evaluation(point, level)
