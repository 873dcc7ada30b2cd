"""A page on which a person moves the preference, and sees the design, what to expect of it, and what was evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from locum.core._page import part, script_data, spoken, typeset
from locum.optimize._svh_psl_front import nondominated
from locum.optimize.space import Real

if TYPE_CHECKING:
    from locum.optimize.svh_psl import ParetoSetLearner

__all__ = ["page"]

_TWO, _MORE = 401, 861  # most preferences that the page has answers for
_DIGITS = 6
_REFERENCE = "Nguyen, Dinh, Nguyen, Hoang and Le, 2025, arXiv 2412.17312."


def page(learner: ParetoSetLearner, title: str) -> str:
    """A page of HTML that needs nothing else; every text in it is escaped."""
    from markupsafe import Markup

    import locum

    text = typeset(
        part(__name__, "pareto.html.j2"),
        part("locum.core._page", "card.css") + part(__name__, "pareto.css"),
        part(__name__, "pareto.js"),
        filters={"spoken": spoken},
        title=title,
        objectives=learner.names,
        evaluations=len(learner.designs),
        front=len(learner.pareto_front_.designs),
        fidelity=learner.fidelity(),
        reference=_REFERENCE,
        version=locum.__version__,
        data=Markup(script_data(_shown(learner))),
    )
    return text.strip() + "\n"


def _shown(learner: ParetoSetLearner) -> dict[str, Any]:
    """The answers that the page looks up, and what it draws."""
    learned = learner.learned_front(_TWO if learner.n_obj == 2 else _MORE)
    worked = learner.objectives[np.isfinite(learner.objectives).all(axis=1)]
    return {
        "objectives": list(learner.names),
        "parameters": [
            {"name": one.name, "low": one.low, "high": one.high} for one in learner.space.parameters if isinstance(one, Real)
        ],
        "preferences": _short(learned.preferences),
        "designs": _short(learned.designs),
        "mean": _short(learned.mean),
        "sd": _short(learned.sd),
        "evaluated": _short(worked),
        "front": np.flatnonzero(nondominated(worked)).tolist(),
    }


def _short(values: NDArray[np.float64]) -> list[list[float]]:
    return [[float(f"{value:.{_DIGITS}g}") for value in row] for row in values.tolist()]
