"""Weight of the wing of a light aircraft."""

from __future__ import annotations

from typing import Any

import numpy as np

from locum.problems._formula import Formula, formula

__all__ = ["wing_weight"]


def wing_weight() -> Formula:
    r"""Weight of the wing of a light aircraft, in pounds, of ten inputs.

    .. math::
        0.036\, S^{0.758} W_f^{0.0035} \left( \frac{A}{\cos^2 \Lambda} \right)^{0.6} q^{0.006} \lambda^{0.04}
        \left( \frac{100\, t}{\cos \Lambda} \right)^{-0.3} (N W_g)^{0.49} + S W_p

    The sweep :math:`\Lambda` is given in degrees.

    References
    ----------
    Forrester, Sobester and Keane, *Engineering Design via Surrogate Modelling*, 2008, section 1.4, after Raymer's handbook.

    Examples
    --------
    >>> wing_weight().units["sweep"]
    '°'
    """
    return formula(
        "wing_weight",
        "weight of the wing",
        "lb",
        {
            "area": (150.0, 200.0, "ft²"),
            "fuel_weight": (220.0, 300.0, "lb"),
            "aspect_ratio": (6.0, 10.0, ""),
            "sweep": (-10.0, 10.0, "°"),
            "dynamic_pressure": (16.0, 45.0, "lb/ft²"),
            "taper_ratio": (0.5, 1.0, ""),
            "thickness_ratio": (0.08, 0.18, ""),
            "load_factor": (2.5, 6.0, ""),
            "gross_weight": (1700.0, 2500.0, "lb"),
            "paint_weight": (0.025, 0.08, "lb/ft²"),
        },
        _weight,
    )


def _weight(S: Any, Wf: Any, A: Any, sweep: Any, q: Any, taper: Any, t: Any, N: Any, Wg: Any, Wp: Any) -> Any:
    cosine = np.cos(np.deg2rad(sweep))
    structure = 0.036 * S**0.758 * Wf**0.0035 * (A / cosine**2) ** 0.6 * q**0.006 * taper**0.04
    return structure * (100 * t / cosine) ** -0.3 * (N * Wg) ** 0.49 + S * Wp
