"""Flow of water through a borehole that connects two aquifers."""

from __future__ import annotations

from typing import Any

import numpy as np

from locum.problems._formula import Formula, formula

__all__ = ["borehole"]


def borehole() -> Formula:
    r"""Flow of water through a borehole between two aquifers, in m³ a year, of eight inputs.

    .. math:: \frac{2 \pi T_u (H_u - H_l)}{\ln(r / r_w) \left( 1 + \frac{2 L T_u}{\ln(r / r_w) r_w^2 K_w} + T_u / T_l \right)}

    References
    ----------
    Harper and Gupta, *Sensitivity/uncertainty analysis of a borehole scenario comparing Latin hypercube sampling and
    deterministic sensitivity approaches*, BMI/ONWI-516, 1983.

    Examples
    --------
    >>> borehole().units["well_radius"]
    'm'
    """
    return formula(
        "borehole",
        "flow of water",
        "m³/year",
        {
            "well_radius": (0.05, 0.15, "m"),
            "influence_radius": (100.0, 50_000.0, "m"),
            "upper_transmissivity": (63_070.0, 115_600.0, "m²/year"),
            "upper_head": (990.0, 1110.0, "m"),
            "lower_transmissivity": (63.1, 116.0, "m²/year"),
            "lower_head": (700.0, 820.0, "m"),
            "length": (1120.0, 1680.0, "m"),
            "conductivity": (9855.0, 12_045.0, "m/year"),
        },
        _flow,
    )


def _flow(rw: Any, r: Any, Tu: Any, Hu: Any, Tl: Any, Hl: Any, L: Any, Kw: Any) -> Any:
    reach = np.log(r / rw)
    return 2 * np.pi * Tu * (Hu - Hl) / (reach * (1 + 2 * L * Tu / (reach * rw**2 * Kw) + Tu / Tl))
