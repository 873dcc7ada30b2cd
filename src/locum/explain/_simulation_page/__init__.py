"""The page on which people take a simulation test. It holds what they are shown, never the answers that they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from locum.core._page import part, script_data, typeset
from locum.explain._simulation_terminal import RATING

if TYPE_CHECKING:
    from locum.explain._simulation_study import Study

__all__ = ["page"]


def page(study: Study, takers: int, *, served: bool) -> str:
    """The page for takers 1 to `takers`; one that is served sends each answer to where it came from."""
    from markupsafe import Markup

    return typeset(
        *(part(__name__, f"simulation.{kind}") for kind in ("html.j2", "css", "js")),
        title=study.title,
        consent=study.consent,
        takers=takers,
        served=served,
        data=Markup(script_data(_shown(study, takers, served))),
    )


def _shown(study: Study, takers: int, served: bool) -> dict[str, Any]:
    """What the page needs to know."""
    steps = {str(taker): study.steps(taker) for taker in range(1, takers + 1)}
    counterfactual = study.kind == "counterfactual"
    keys = ("shown", "label", "answer", "changed") if counterfactual else ("shown",)
    return {
        "digest": study.digest,
        "kind": study.kind,
        "labels": list(study.labels),
        "rating": RATING,
        "served": served,
        "learn": [{key: item[key] for key in ("shown", "label", "answer")} for item in study.learn],
        "test": [{key: item[key] for key in keys} for item in study.test],
        "texts": [list(texts) for texts in study.texts],
        "codes": {taker: study.code(int(taker)) for taker in steps},
        "steps": {taker: [[*step[:2], int(step.guess), int(step.rate)] for step in mine] for taker, mine in steps.items()},
    }
