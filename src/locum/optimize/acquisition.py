"""Acquisition functions: what evaluating a point is worth, by the surrogate's distribution for it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from locum.core.errors import InvalidData
from locum.optimize.goal import Aim

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = [
    "Acquisition", "ExpectedImprovement", "Gain", "Improvement", "Known", "TakesPending", "UpperConfidenceBound",
    "ValueOfInformation",
]  # fmt: skip

# Rows of shape (b, 1, width) to values of shape (b,), as tensors.
Value = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Known:
    """What an acquisition may look at beside the model.

    Parameters
    ----------
    rows : torch.Tensor of shape (n, width)
        Evaluated points that count as what one has: those that keep the constraints, where there are any.
    values : torch.Tensor of shape (n,)
        What they gave; larger is better.
    candidates : torch.Tensor of shape (m, width)
        Points that fill the space, for rules that look for a maximum over it.
    pending : torch.Tensor of shape (p, width) or None, default=None
        Points whose value is not known yet.
    aim : Aim or None, default=None
        What is to be made best; the objective itself where None.
    free : torch.Tensor of shape (width,) or None, default=None
        1 for columns that can take any value, else 0; all can where None.
    seed : int, default=0
        Of random numbers that stay as they are while points are compared.
    """

    rows: Any
    values: Any
    candidates: Any
    pending: Any = None
    aim: Any = None
    free: Any = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.aim is None:
            object.__setattr__(self, "aim", Aim(np.zeros(0, dtype=np.intp), np.zeros((1, 0)), np.ones(1)))


class Acquisition(ABC):
    """What evaluating a point is worth; larger is better, and so are the values of the surrogate.

    Attributes
    ----------
    tries : int
        Points that the loop tries before it follows the best of them uphill: fewer where values are dear.
    warps : bool
        Whether it may be counted in values under a transform that keeps their order.
    """

    tries: ClassVar[int] = 1024
    warps: ClassVar[bool] = False

    @abstractmethod
    def of(self, model: Model, known: Known) -> Value:
        """The value of points under a model.

        Parameters
        ----------
        model : botorch Model
        known : Known

        Returns
        -------
        callable
            Rows of shape (b, 1, width) to values of shape (b,), differentiable.
        """

    def average(self, values: Any) -> Any:
        """Mean over models, a tensor of shape (models, b) to one of shape (b,)."""
        return values.mean(dim=0)

    def gain(self, value: float) -> float | None:
        """The improvement to be expected that a value stands for, in the unit of the objective; None where it says none."""
        return None


class Gain(Acquisition):
    """An acquisition whose values are logarithms of something gained, so that chances multiply it and costs divide it."""

    def average(self, values: Any) -> Any:
        return values.logsumexp(dim=0) - math.log(len(values))


class Improvement(Gain):
    """A gain in the unit of the objective."""

    def gain(self, value: float) -> float:
        return math.exp(value)


class ValueOfInformation(Gain):
    """A gain that counts what is learnt about the goal wherever one looks, at other levels and conditions too."""


class TakesPending:
    """An acquisition that looks at pending points itself; for others they are taken to have given their mean."""


@final
class ExpectedImprovement(Improvement):
    r"""Expected improvement over the best mean among the points evaluated, as its logarithm.

    .. math:: \log E[(f(x) - \max_i \mu(x_i))^+]

    The logarithm does not vanish where an improvement is unlikely, so its slope leads on. With noise the best mean takes the
    place of the best value seen, which luck would decide.

    References
    ----------
    Jones, Schonlau and Welch, *Efficient global optimization of expensive black-box functions*, 1998; the logarithm:
    Ament et al., arXiv 2310.20708.
    """

    warps = True

    def of(self, model: Model, known: Known) -> Value:
        from botorch.models import SingleTaskGP

        from locum.optimize._improvement import log_improvement
        from locum.optimize._models import process_of

        if type(model) is not SingleTaskGP:
            from botorch.acquisition.analytic import LogExpectedImprovement

            found: Any = model.posterior(known.rows)
            return LogExpectedImprovement(model, best_f=found.mean.detach().max())
        return log_improvement(process_of(model), known.rows)


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

    warps = True

    def __init__(self, beta: float = 4.0) -> None:
        if not beta >= 0:
            raise InvalidData(f"expected beta= of 0 or more, got {beta!r}")
        self.beta = float(beta)

    def of(self, model: Model, known: Known) -> Value:
        from botorch.acquisition.analytic import UpperConfidenceBound as Bound

        return Bound(model, beta=self.beta)
