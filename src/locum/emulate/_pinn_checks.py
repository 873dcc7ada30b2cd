"""What a physics-informed emulator of a cell can be asked to be."""

from __future__ import annotations

import math
from typing import Any

from locum.core.errors import InvalidData, require_one_of, require_positive, require_whole
from locum.core.parameters import parameter_rows

BLOCKS = ("gated", "plain", "residual")
ACTIVATIONS = ("tanh", "swish", "gelu")


def check_settings(of: Any) -> None:
    """Refuse settings of an emulator that do not fit together."""
    require_one_of(("conserved", "flat"), ansatz=of.ansatz)
    require_one_of(BLOCKS, block=of.block)
    require_one_of(ACTIVATIONS, activation=of.activation)
    require_one_of(("fixed", "random"), collocation=of.collocation)
    require_whole(1, inner=of.inner, edge=of.edge, batches=of.batches)
    require_whole(0, refresh=of.refresh, random_state=of.random_state)
    require_positive(ramp=of.ramp, **({} if of.max_seconds is None else {"max_seconds": of.max_seconds}))
    if of.inner < of.edge or of.inner & (of.inner - 1) or of.edge & (of.edge - 1):
        raise InvalidData(f"expected inner >= edge, both powers of two, got {of.inner} and {of.edge}")
    if of.refresh % 50:
        raise InvalidData(f"expected refresh= in multiples of 50 iterations, got {of.refresh}")
    if not isinstance(of.lr, tuple) or len(of.lr) != 2 or not 0 < of.lr[1] <= of.lr[0] < math.inf:
        raise InvalidData(f"expected lr= as two positive numbers, the second not above the first, got {of.lr!r}")
    if len(of.weights) != 5 or not all(math.isfinite(one) and one >= 0 for one in of.weights):
        raise InvalidData(f"expected weights= as five numbers of 0 or more, got {of.weights!r}")
    if not 0 <= of.growth <= 1:
        raise InvalidData(f"expected growth= between 0 and 1, got {of.growth!r}")
    if of.attention and (of.collocation == "random" or of.growth):
        raise InvalidData("expected fixed points with attention=True, as each has a weight of its own")
    levels = of._planned()
    if not levels:
        raise InvalidData("expected a level or more, got none")
    last = levels[-1]
    if last.frozen is not None or last.cell is not None:
        raise InvalidData("expected a last level with the emulator's own cell and nothing frozen")
    for i, level in enumerate(levels):
        check_level(of, level, first=i == 0)


def check_level(of: Any, level: Any, *, first: bool) -> None:
    """Refuse a level that an emulator cannot have next."""
    require_whole(0, epochs=level.epochs, iterations=level.iterations)
    require_whole(1, width=level.width, layers=level.layers)
    if level.iterations % 50:
        raise InvalidData(f"expected iterations= in multiples of 50, got {level.iterations}")
    if not 0 <= level.begin < of.cell.duration or (level.begin and first):
        raise InvalidData(f"expected begin= within the discharge, and 0 for the first level, got {level.begin!r}")
    if level.frozen is not None:
        parameter_rows(level.frozen, tuple(of.cell.bounds))
    other = level.cell
    if other is not None and (dict(other.bounds) != dict(of.cell.bounds) or other.duration != of.cell.duration):
        raise InvalidData("expected the cell of a level to have the bounds and the duration of the emulator's")
