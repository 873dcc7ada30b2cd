"""Locum: stand-ins you can check.

A stand-in takes the place of something too expensive, too opaque or out of reach: a trained model, a simulator, an outcome.
Locum fits it, says how faithful it is, with a bound, where, and at what price, and lets people read it and use it.

    import locum

    target = locum.target(model)                      # anything with predict, a function, a file, recorded answers
    found = locum.frontier(target, rows)              # fidelity against simplicity, measured on fresh rows
    standin = found.at_most(8)                        # at most eight rules
    print(standin)
    found.card(standin, target).save("card.html")     # one page, in which the stand-in runs

Names are loaded when they are first used, so that importing Locum stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from locum.catalogue import cite, paper, papers
    from locum.core.domain import Domain
    from locum.core.errors import BudgetExhausted, InvalidData, LocumError, NotFresh
    from locum.core.export import load
    from locum.core.fidelity import Fidelity
    from locum.core.ledger import Ledger, Purpose
    from locum.core.region import Region
    from locum.core.report import Card, card
    from locum.core.surrogate import StandIn, fit, score
    from locum.core.target import Budget, Target
    from locum.explain.frontier import Frontier, frontier
    from locum.targets import target

__all__ = [
    "target", "Target", "Ledger", "Purpose", "Budget", "Domain", "Region",
    "fit", "score", "frontier", "card", "load",
    "StandIn", "Frontier", "Fidelity", "Card",
    "LocumError", "InvalidData", "NotFresh", "BudgetExhausted",
    "papers", "paper", "cite",
]  # fmt: skip

_HOMES = {
    "target": "locum.targets",
    "Target": "locum.core.target",
    "Budget": "locum.core.target",
    "Ledger": "locum.core.ledger",
    "Purpose": "locum.core.ledger",
    "Domain": "locum.core.domain",
    "Region": "locum.core.region",
    "fit": "locum.core.surrogate",
    "score": "locum.core.surrogate",
    "StandIn": "locum.core.surrogate",
    "frontier": "locum.explain.frontier",
    "Frontier": "locum.explain.frontier",
    "card": "locum.core.report",
    "Card": "locum.core.report",
    "load": "locum.core.export",
    "Fidelity": "locum.core.fidelity",
    "LocumError": "locum.core.errors",
    "InvalidData": "locum.core.errors",
    "NotFresh": "locum.core.errors",
    "BudgetExhausted": "locum.core.errors",
    "papers": "locum.catalogue",
    "paper": "locum.catalogue",
    "cite": "locum.catalogue",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("locum")
    if name not in _HOMES:
        raise AttributeError(f"module 'locum' has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
