"""Mid-point voltage of an output transformerless push-pull circuit."""

from __future__ import annotations

from typing import Any

from locum.problems._formula import Formula, formula

__all__ = ["otl_circuit"]

_SUPPLY = 12.0
_DIODE = 0.74
_SECOND = 11.35


def otl_circuit() -> Formula:
    r"""Mid-point voltage of an output transformerless push-pull circuit, in V, of five resistances and a current gain.

    With :math:`V_b = 12 R_{b2} / (R_{b1} + R_{b2})` and :math:`g = \beta (R_{c2} + 9)`,

    .. math:: V = \frac{(V_b + 0.74) g}{g + R_f} + \frac{11.35 R_f}{g + R_f} + \frac{0.74 R_f g}{(g + R_f) R_{c1}}

    References
    ----------
    Ben-Ari and Steinberg, *Modeling data from computer experiments: an empirical comparison of kriging with MARS and
    projection pursuit regression*, Quality Engineering 19, 2007.

    Examples
    --------
    >>> otl_circuit().unit
    'V'
    """
    return formula(
        "otl_circuit",
        "mid-point voltage",
        "V",
        {
            "rb1": (50.0, 150.0, "kΩ"),
            "rb2": (25.0, 70.0, "kΩ"),
            "rf": (0.5, 3.0, "kΩ"),
            "rc1": (1.2, 2.5, "kΩ"),
            "rc2": (0.25, 1.2, "kΩ"),
            "current_gain": (50.0, 300.0, ""),
        },
        _voltage,
    )


def _voltage(rb1: Any, rb2: Any, rf: Any, rc1: Any, rc2: Any, gain: Any) -> Any:
    base = _SUPPLY * rb2 / (rb1 + rb2)
    load = gain * (rc2 + 9)
    return ((base + _DIODE) * load + _SECOND * rf + _DIODE * rf * load / rc1) / (load + rf)
