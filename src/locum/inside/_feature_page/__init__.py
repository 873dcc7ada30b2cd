"""The page of a dictionary: a list of its latents that can be searched, and what each of them does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from locum.core._page import part, script_data, spoken, typeset
from locum.core.fidelity import Fidelity

if TYPE_CHECKING:
    from locum.inside.features import Example, FeatureEffect, FeaturePage, FeatureRecord

__all__ = ["page"]

_OUTPUTS = {"tokens": "Next tokens", "items": "Items", "pictures": "Outputs"}
_PASSAGES = {"tokens": "passages", "items": "histories", "pictures": "pictures"}


def page(told: FeaturePage) -> str:
    """A page of HTML that needs nothing else; every text in it is escaped."""
    from markupsafe import Markup

    import locum

    text = typeset(
        part(__name__, "features.html.j2"),
        part("locum.core._page", "card.css") + part(__name__, "features.css"),
        part(__name__, "features.js"),
        filters={"spoken": spoken},
        title=told.title,
        about=told.about,
        count=len(told.records),
        n_latents=told.n_latents or len(told.records),
        rows=told.records[0].active.n,
        documents=told.records[0].active.groups,
        fidelity=told.fidelity,
        scored=any(one.score for one in told.records),
        caused=any(one.effects for one in told.records),
        passages=_PASSAGES[told.kind],
        version=locum.__version__,
        data=Markup(script_data(_shown(told))),
    )
    return text.strip() + "\n"


def _shown(told: FeaturePage) -> dict[str, Any]:
    return {
        "kind": told.kind,
        "outputs": _OUTPUTS[told.kind],
        "passages": _PASSAGES[told.kind],
        "records": [_record(one) for one in told.records],
    }


def _record(one: FeatureRecord) -> dict[str, Any]:
    return {
        "latent": one.latent,
        "name": one.name,
        "score": None if one.score is None else _said(one.score),
        "active": _said(one.active),
        "largest": _short(one.largest),
        "histogram": {"top": one.histogram.edges[-1], "counts": one.histogram.counts, "zeros": one.histogram.zeros},
        "examples": [_example(each) for each in one.examples],
        "drawn": [_example(each) for each in one.drawn],
        "raised": one.raised,
        "lowered": one.lowered,
        "neighbours": [(latent, _short(close)) for latent, close in one.neighbours],
        "effects": [_effect(each) for each in one.effects],
    }


def _example(one: Example) -> dict[str, Any]:
    picture = None if one.picture is None else one.picture.to_dict()
    values = [_short(value) for value in one.values]
    return {"units": one.units, "values": values, "at": one.at, "source": one.source, "picture": picture}


def _effect(one: FeatureEffect) -> dict[str, Any]:
    control: list[dict[str, Any] | None] = [_said(found) for found in one.control]
    measures = list(zip(map(_said, one.measures), control or [None] * len(one.measures), strict=True))
    return {"kind": one.kind, "said": one.said, "measures": measures, "raised": one.raised, "lowered": one.lowered}


def _said(one: Fidelity) -> dict[str, Any]:
    """A fidelity as its own line rounds it."""
    value, span = spoken(one)
    groups = "" if one.groups is None else f" in {one.groups} documents"
    n = f"{one.n} {one.how}{groups}"
    return {"measure": one.measure, "number": _short(one.value), "value": value, "span": span, "n": n}


def _short(value: float) -> float:
    return float(f"{value:.4g}")
