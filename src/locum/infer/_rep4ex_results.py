"""What an extrapolation rests on: warnings, the values of λ that were tried, and how far actions reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.infer._rep4ex_moments import TestResult
from locum.infer._results import Table

__all__ = ["LamTried", "LinearInvarianceWarning", "ReachAudit", "ReconstructionWarning"]

Array = NDArray[np.floating[Any]]


class LinearInvarianceWarning(UserWarning):
    """The mean of the code given the action is not linear, or does not move with it: the code may not be the hidden cause."""


class ReconstructionWarning(UserWarning):
    """The inputs are not given back from the code, so that it may have lost a part of the hidden cause."""


@dataclass(frozen=True)
class LamTried:
    """One value of λ, judged on rows that the encoder has not seen.

    Attributes
    ----------
    lam : float
    reconstruction_r2 : float
    moment_test : TestResult
    """

    lam: float
    reconstruction_r2: float
    moment_test: TestResult


@dataclass(frozen=True)
class ReachAudit:
    """How far each action is from what was seen.

    Attributes
    ----------
    actions : ndarray of shape (m, k)
    distance : ndarray of shape (m,)
        Of the code's mean under the action from its mean under the nearest action seen, in standard deviations of the part of
        the code that actions do not set (Mahalanobis).
    covered : ndarray of shape (m,)
        Share of the codes expected under the action that have a code seen near them.
    flagged : ndarray of bool, shape (m,)
        Whether that share is below `least`: the prediction rests on the tails of a spline rather than on data.
    least : float
    """

    actions: Array
    distance: Array
    covered: Array
    flagged: NDArray[np.bool_]
    least: float

    def __str__(self) -> str:
        names = [np.array2string(action, precision=3, separator=", ") for action in self.actions]
        flags = np.where(self.flagged, "beyond the data", "")
        rows = tuple(zip(names, self.distance.tolist(), self.covered.tolist(), flags.tolist(), strict=True))
        facts = {"flagged": f"{int(self.flagged.sum())} of {len(names)}", "least share covered": f"{self.least:g}"}
        return str(Table("Reach of actions", ("action", "distance", "covered", ""), rows, facts))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        names = ("actions", "distance", "covered", "flagged")
        return {name: getattr(self, name).tolist() for name in names} | {"least": self.least}
