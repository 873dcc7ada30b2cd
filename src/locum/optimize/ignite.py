"""The sharpness of a surrogate regularised, so that optimising it makes less of its errors.

Dao, Nguyen, Truong and Hoang, *Incorporating Surrogate Gradient Norm to Improve Offline Optimization Techniques*, NeurIPS 2024,
arXiv 2503.04242. PyTorch is imported once a step is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import numpy as np

from locum.core.errors import InvalidData, LocumError, need, require_positive

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer as TorchOptimizer

__all__ = ["FixedGradientNorm", "GradientNormRegularizer", "UndefinedSharpness", "mean_gradient_norm"]


class UndefinedSharpness(LocumError, RuntimeError):
    """A mean prediction that depends on no weight, or whose gradient is not finite; no step was made."""


@final
class GradientNormRegularizer:
    r"""Steps on a loss under a limit on the surrogate's sharpness, the weight of the limit found by dual ascent.

    With h the mean prediction of a batch, sharpness is how far h moves when the weights move by :math:`\rho`, at first order
    :math:`\rho \|\nabla_w h\|`. A step is one on

    .. math:: L(w) + \lambda (\rho \|\nabla_w h(w)\| - \epsilon), \qquad
              \lambda \leftarrow \max(0, \lambda + \eta (\rho \|\nabla_w h\| - \epsilon)),

    the gradient of the norm by a finite difference of :math:`\nabla h` at w and at :math:`w + r \nabla h / \|\nabla h\|`.

    Parameters
    ----------
    rho : float, default=0.05
    r : float, default=0.05
        Radius of the finite difference.
    eps : float, default=0.1
        Sharpness that is allowed.
    lr_dual : float, default=1e-3
        :math:`\eta`.
    start : float, default=1e-3
        :math:`\lambda` at first.

    Attributes
    ----------
    weight : float
        :math:`\lambda`, 0 or more. The released code lets it fall below 0, where it would reward sharpness.
    norm : float
        :math:`\|\nabla_w h\|` at the last step.

    Raises
    ------
    InvalidData
        Settings that are not above 0.

    Notes
    -----
    Cost: three backward passes a step in place of one. Weights that the mean prediction does not depend on, such as those of a
    learnt deviation, take no part. h is a signed mean, so it can be flat although single predictions are steep. Both gradients
    of h see the same draws of dropout; running means, as of batch normalisation, and the global generators are moved by the
    loss alone.

    References
    ----------
    arXiv 2503.04242, sections 3 and 4.

    Examples
    --------
    >>> import torch
    >>> from locum.nets import seeded
    >>> with seeded(0):
    ...     model, X = torch.nn.Linear(3, 1), torch.randn(20, 3)
    >>> optimizer, regularizer = torch.optim.Adam(model.parameters(), lr=0.01), GradientNormRegularizer()
    >>> for _ in range(5):
    ...     regularizer.step(model, optimizer, lambda: (model(X) ** 2).mean(), lambda: model(X).mean())
    >>> regularizer.weight > 1e-3
    False
    """

    papers = ("ignite",)

    def __init__(
        self, rho: float = 0.05, r: float = 0.05, eps: float = 0.1, lr_dual: float = 1e-3, start: float = 1e-3
    ) -> None:
        require_positive(rho=rho, r=r, eps=eps, lr_dual=lr_dual)
        if not 0 <= start < np.inf:
            raise InvalidData(f"expected start= of 0 or more, got {start!r}")
        self.rho, self.r, self.eps, self.lr_dual, self.start = rho, r, eps, lr_dual, start
        self.weight, self.norm = float(start), float("nan")

    def fresh(self) -> GradientNormRegularizer:
        """The same settings, its weight as at first: one for each network."""
        return GradientNormRegularizer(self.rho, self.r, self.eps, self.lr_dual, self.start)

    def step(self, model: nn.Module, optimizer: TorchOptimizer, loss: Callable[[], Any], mean: Callable[[], Any]) -> None:
        """One step of the optimizer.

        Parameters
        ----------
        model : torch.nn.Module
        optimizer : torch.optim.Optimizer
            Of the model's parameters.
        loss, mean : callable
            Give the loss and the mean prediction of a batch, each a number with a graph.

        Raises
        ------
        UndefinedSharpness
            A mean that depends on no parameter, or a gradient that is not finite; the weights are as they were.
        InvalidData
            A mean that is not one number.
        """
        self.norm = _stepped(model, optimizer, loss, mean, self.weight, self.r, self.rho)
        self.weight = max(0.0, self.weight + self.lr_dual * (self.rho * self.norm - self.eps))


@final
class FixedGradientNorm:
    """The same with a weight that stays as it is, and no limit.

    Parameters
    ----------
    weight : float, default=0.01
    rho, r : float, default=0.2

    Attributes
    ----------
    norm : float
        That of the gradient of the mean prediction at the last step.

    References
    ----------
    arXiv 2503.04242, its second variant.
    """

    papers = ("ignite",)

    def __init__(self, weight: float = 0.01, rho: float = 0.2, r: float = 0.2) -> None:
        require_positive(weight=weight, rho=rho, r=r)
        self.weight, self.rho, self.r, self.norm = float(weight), rho, r, float("nan")

    def fresh(self) -> FixedGradientNorm:
        """The same settings."""
        return FixedGradientNorm(self.weight, self.rho, self.r)

    def step(self, model: nn.Module, optimizer: TorchOptimizer, loss: Callable[[], Any], mean: Callable[[], Any]) -> None:
        """One step of the optimizer; see `GradientNormRegularizer.step`."""
        self.norm = _stepped(model, optimizer, loss, mean, self.weight, self.r, self.rho)


def _stepped(model: Any, optimizer: Any, loss: Any, mean: Any, weight: float, r: float, rho: float) -> float:
    need("torch", "a step on a network", "nets")
    from locum.optimize._ignite_steps import gradient_norm_step

    return gradient_norm_step(model, optimizer, loss, mean, weight=weight, radius=r, scale=rho)


def mean_gradient_norm(model: nn.Module, X: Any) -> float:
    """Length of the gradient, in the weights, of a model's mean prediction at rows.

    Parameters
    ----------
    model : torch.nn.Module
        Gives predictions of shape (n,) or (n, 1).
    X : torch.Tensor of shape (n, width)

    Raises
    ------
    UndefinedSharpness
        A model whose mean prediction depends on no parameter.
    """
    need("torch", "a gradient", "nets")
    from locum.optimize._ignite_steps import mean_slope, norm_of

    return float(norm_of(mean_slope(model, lambda: model(X).mean())[1]).detach())
