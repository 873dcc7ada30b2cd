"""Cycle time of a piston in a cylinder."""

from __future__ import annotations

from typing import Any

import numpy as np

from locum.problems._formula import Formula, formula

__all__ = ["piston"]

_TWICE_GRAVITY = 19.62  # m/s²: the source has the weight twice


def piston() -> Formula:
    r"""Time a piston takes for one cycle in its cylinder, in seconds, of seven inputs.

    The gas volume :math:`V` balances spring, pressure and weight:

    .. math::
        A = P_0 S + 19.62 M - k V_0 / S, \quad V = \frac{S}{2 k} \left( \sqrt{A^2 + 4 k P_0 V_0 T_a / T_0} - A \right), \quad
        C = 2 \pi \sqrt{\frac{M}{k + S^2 P_0 V_0 T_a / (T_0 V^2)}}

    References
    ----------
    Kenett and Zacks, *Modern Industrial Statistics: Design and Control of Quality and Reliability*, 1998.

    Examples
    --------
    >>> piston().units["spring"]
    'N/m'
    """
    return formula(
        "piston",
        "cycle time",
        "s",
        {
            "mass": (30.0, 60.0, "kg"),
            "surface": (0.005, 0.020, "m²"),
            "gas_volume": (0.002, 0.010, "m³"),
            "spring": (1000.0, 5000.0, "N/m"),
            "pressure": (90_000.0, 110_000.0, "N/m²"),
            "ambient_temperature": (290.0, 296.0, "K"),
            "gas_temperature": (340.0, 360.0, "K"),
        },
        _cycle_time,
    )


def _cycle_time(M: Any, S: Any, V0: Any, k: Any, P0: Any, Ta: Any, T0: Any) -> Any:
    force = P0 * S + _TWICE_GRAVITY * M - k * V0 / S
    gas = P0 * V0 * Ta / T0
    V = S / (2 * k) * (np.sqrt(force**2 + 4 * k * gas) - force)
    return 2 * np.pi * np.sqrt(M / (k + S**2 * gas / V**2))
