"""Axes to draw on, with one clear error where matplotlib is missing."""

from __future__ import annotations

from typing import Any

from locum.core.errors import MissingExtra

__all__ = ["axes", "pyplot"]

COLOURS = ("#2563a8", "#c2571a", "#3d7d3d", "#8a4a9e", "#8c6d1f", "#4f7f8f", "#a3304a", "#5c5c5c")
MARKERS = "osD^vP*X"


def pyplot() -> Any:
    """matplotlib.pyplot."""
    try:
        from matplotlib import pyplot as found
    except ImportError as error:
        raise MissingExtra("pictures need matplotlib; install it with: pip install 'locum[plots]'") from error
    return found


def axes(given: Any, **size: Any) -> Any:
    """The axes given, or new ones."""
    return pyplot().subplots(**size, layout="constrained")[1] if given is None else given
