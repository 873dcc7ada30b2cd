"""One page about one analysis: what was found, with intervals, beside other ways, and how far the stand-in can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from locum.core._page import figure, part, percent, typeset
from locum.core.fidelity import Fidelity
from locum.infer._results import Table

__all__ = ["Row", "Series", "page"]

_MARGIN = 0.05  # of the drawing, on either side


class Row(NamedTuple):
    """One interval in a drawing.

    Parameters
    ----------
    name : str
    series : str
        Rows of one series have one colour.
    value, lower, upper : float
        NaN where the way has no answer.
    """

    name: str
    series: str
    value: float
    lower: float
    upper: float


class Series(NamedTuple):
    """A curve in steps, with a band.

    Parameters
    ----------
    title, across, up : str
        Heading, and what the two axes are.
    curves : dict of str to (x, value, lower, upper)
        Arrays of one shape, x ascending.
    """

    title: str
    across: str
    up: str
    curves: dict[str, tuple[Any, Any, Any, Any]]


def page(
    title: str,
    about: str,
    tables: Sequence[Table],
    rows: Sequence[Row],
    fidelity: Sequence[tuple[str, Fidelity]],
    reference: str,
    curves: Sequence[Series] = (),
) -> str:
    """A page of HTML that needs nothing else; every text in it is escaped."""
    import locum

    series = list(dict.fromkeys(row.series for row in rows))
    text = typeset(
        part(__name__, "analysis.html.j2"),
        part("locum.core._page", "card.css") + part(__name__, "analysis.css"),
        filters={"percent": percent, "cell": _cell},
        title=title,
        about=about,
        tables=tables,
        picture=_drawn(rows, series),
        series=series,
        curves=[_curve(one) for one in curves],
        fidelity=fidelity,
        reference=reference,
        version=locum.__version__,
    )
    return text.strip() + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return figure(float(value)) if np.isfinite(value) else "-"


def _drawn(rows: Sequence[Row], series: Sequence[str]) -> dict[str, Any]:
    """Where each interval stands, in percent of the width; one scale for all."""
    ends = np.array([[row.lower, row.upper] for row in rows], dtype=float)
    known = ends[np.isfinite(ends).all(axis=1)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or 1.0

    def at(x: float) -> float:
        return 100 * (_MARGIN + (1 - 2 * _MARGIN) * (x - low) / span)

    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        there = all(np.isfinite((row.value, row.lower, row.upper)))
        said = f"{figure(row.value, 3)} [{figure(row.lower, 3)}, {figure(row.upper, 3)}]" if there else "no answer"
        place = {"value": at(row.value), "lower": at(row.lower), "upper": at(row.upper)} if there else None
        mark = {"series": row.series, "k": series.index(row.series), "said": said, "at": place}
        groups.setdefault(row.name, []).append(mark)
    return {"groups": groups, "zero": at(0.0), "ends": (figure(low, 3), figure(high, 3))}


def _curve(one: Series) -> dict[str, Any]:
    """Curves in steps as points of a drawing of 100 by 100."""
    every = [np.asarray(part, dtype=float) for curve in one.curves.values() for part in curve[1:]]
    low, high = min(0.0, min(float(np.nanmin(part)) for part in every)), max(float(np.nanmax(part)) for part in every)
    right = max(float(np.max(curve[0])) for curve in one.curves.values()) or 1.0
    span = (high - low) or 1.0

    def points(x: Any, y: Any) -> list[tuple[float, float]]:
        across, up = 100 * np.asarray(x, dtype=float) / right, 100 * (1 - (np.asarray(y, dtype=float) - low) / span)
        steps = [(float(across[0]), float(up[0]))]
        for before, now in zip(range(len(across) - 1), range(1, len(across)), strict=True):
            steps += [(float(across[now]), float(up[before])), (float(across[now]), float(up[now]))]
        return steps

    def line(steps: list[tuple[float, float]]) -> str:
        return " ".join(f"{a:.2f},{b:.2f}" for a, b in steps)

    lines = []
    for k, (name, (x, value, lower, upper)) in enumerate(one.curves.items()):
        band = points(x, upper) + points(x, lower)[::-1]
        lines.append({"name": name, "k": k, "line": line(points(x, value)), "band": line(band)})
    edges = {"left": "0", "right": figure(right, 3), "low": figure(low, 3), "high": figure(high, 3)}
    return {"title": one.title, "across": one.across, "up": one.up, "lines": lines, "edges": edges}
