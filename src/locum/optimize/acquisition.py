"""Acquisition functions: what evaluating a point is worth, by the surrogate's distribution for it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from locum.core.errors import InvalidData

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = ["Acquisition", "ExpectedImprovement", "UpperConfidenceBound"]

# Rows of shape (b, 1, width) to values of shape (b,), as tensors.
Value = Callable[[Any], Any]


class Acquisition(ABC):
    """What evaluating a point is worth; larger is better, and so are the values of the surrogate."""

    @abstractmethod
    def of(self, model: Model, rows: Any) -> Value:
        """The value of points under a model.

        Parameters
        ----------
        model : botorch Model
        rows : torch.Tensor of shape (n, width)
            Evaluated points.

        Returns
        -------
        callable
            Rows of shape (b, 1, width) to values of shape (b,), differentiable.
        """

    def gain(self, value: float) -> float | None:
        """The improvement to be expected that a value stands for, in the unit of the objective; None where it says none."""
        return None


@final
class ExpectedImprovement(Acquisition):
    r"""Expected improvement over the best mean among the points evaluated, as its logarithm.

    .. math:: \log E[(f(x) - \max_i \mu(x_i))^+]

    The logarithm does not vanish where an improvement is unlikely, so its slope leads on. With noise the best mean takes the
    place of the best value seen, which luck would decide.

    References
    ----------
    Jones, Schonlau and Welch, *Efficient global optimization of expensive black-box functions*, 1998; the logarithm:
    Ament et al., arXiv 2310.20708.
    """

    def of(self, model: Model, rows: Any) -> Value:
        from botorch.acquisition.analytic import LogExpectedImprovement

        known: Any = model.posterior(rows)
        return LogExpectedImprovement(model, best_f=known.mean.detach().max())

    def gain(self, value: float) -> float:
        return math.exp(value)


@final
class UpperConfidenceBound(Acquisition):
    """Mean and some standard deviations.

    Parameters
    ----------
    beta : float, default=4.0
        Square of the number of standard deviations.

    References
    ----------
    Srinivas et al., arXiv 0912.3995.
    """

    def __init__(self, beta: float = 4.0) -> None:
        if not beta >= 0:
            raise InvalidData(f"expected beta= of 0 or more, got {beta!r}")
        self.beta = float(beta)

    def of(self, model: Model, rows: Any) -> Value:
        from botorch.acquisition.analytic import UpperConfidenceBound as Bound

        return Bound(model, beta=self.beta)
