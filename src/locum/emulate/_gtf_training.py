"""Training under forcing: batches of windows, RAdam, and a share of forcing that follows the Jacobians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from locum.emulate._gtf_engine import ESTIMATORS, Problem, loss_and_gradient
from locum.nets.training import History, TrainingFailed, train

__all__ = ["Forcing", "Trained", "Windows", "fitted"]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Forcing:
    """How states are drawn to the observed ones.

    Attributes
    ----------
    mode : {"adaptive", "constant", "sparse", "full", "free"}
    alpha : float
        Share, at the start for adaptive forcing and throughout for constant.
    interval : int
        Steps between two forcings where they are sparse.
    estimator : str
        Of the size of the Jacobians.
    decay : float
        How slowly the share falls: 1 would be never.
    every : int
        Batches between two estimates.
    """

    mode: str
    alpha: float
    interval: int
    estimator: str
    decay: float
    every: int

    def start(self) -> float:
        """Share at the start."""
        return {"full": 1.0, "sparse": 1.0, "free": 0.0}.get(self.mode, self.alpha)

    def schedule(self, alpha: float, steps: int) -> Array:
        """Share after each step of a window."""
        if self.mode != "sparse":
            return np.full(steps, alpha)
        return np.where(np.arange(1, steps + 1) % self.interval == 0, 1.0, 0.0)

    def followed(self, alpha: float, size: float) -> float:
        """The share after Jacobians of a size were seen: it jumps up and relaxes down."""
        wanted = max(0.0, 1.0 - 1.0 / size) if size > 0 and np.isfinite(size) else 1.0
        return wanted if wanted > alpha else self.decay * alpha + (1.0 - self.decay) * wanted


@dataclass(frozen=True)
class Trained:
    """What a training ended with.

    Attributes
    ----------
    vector : ndarray
        Parameters; the last finite ones where it failed.
    history : History or None
        None where it failed.
    alphas, grad_norms : ndarray of shape (epochs,)
        The share of forcing after each epoch, and the largest norm of a gradient within it.
    failed : str
        Why it ended early; empty where it did not.
    """

    vector: Array
    history: History | None
    alphas: Array
    grad_norms: Array
    failed: str = ""


@dataclass(frozen=True)
class Windows:
    """Where batches come from: rows of all runs (n, N), inputs (n, K), and where windows may begin."""

    x: Array
    inputs: Array | None
    starts: NDArray[np.intp]
    steps: int
    noise: float

    def draw(self, count: int) -> tuple[Array, Array | None]:
        """Windows drawn with replacement, time first, by torch's generator."""
        chosen = self.starts[torch.randint(len(self.starts), (count,)).numpy()]
        rows = np.arange(self.steps + 1)[:, None] + chosen
        x = self.x[rows]
        if self.noise:
            x = x + self.noise * torch.randn(x.shape).numpy()
        return x, None if self.inputs is None else self.inputs[rows[1:]]


class _Net(torch.nn.Module):
    """All parameters as one vector, and what must outlast an interruption."""

    theta: torch.nn.Parameter
    alpha: torch.Tensor
    batches: torch.Tensor
    largest: torch.Tensor
    alphas: torch.Tensor
    grad_norms: torch.Tensor
    last_finite: torch.Tensor

    def __init__(self, vector: Array, alpha: float, epochs: int) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.from_numpy(vector.astype(np.float32)))
        self.register_buffer("alpha", torch.tensor(alpha, dtype=torch.float64))
        self.register_buffer("batches", torch.tensor(0))
        self.register_buffer("largest", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("alphas", torch.full((epochs,), torch.nan, dtype=torch.float64))
        self.register_buffer("grad_norms", torch.full((epochs,), torch.nan, dtype=torch.float64))
        self.register_buffer("last_finite", self.theta.detach().clone())

    def note(self, epoch: int) -> None:
        """What is remembered of an epoch."""
        self.alphas[epoch - 1], self.grad_norms[epoch - 1] = self.alpha, self.largest
        self.largest.zero_()
        if bool(self.theta.isfinite().all()):
            self.last_finite.copy_(self.theta)


class _Given(torch.autograd.Function):
    """A loss whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, theta: torch.Tensor, loss: float, gradient: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gradient)
        return theta.new_tensor(loss)

    @staticmethod
    def backward(ctx: Any, *above: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return torch.mul(above[0], gradient), None, None


def fitted(
    problem: Problem,
    windows: Windows,
    forcing: Forcing,
    begin: Array,
    *,
    epochs: int,
    updates: int,
    batch_size: int,
    lr: tuple[float, float],
    clip: float | None,
    checkpoint: Any,
    random_state: int,
    progress: Callable[[int, int, str], None] | None,
) -> Trained:
    """Train; parameters begin at a vector, the learning rate falls geometrically from epoch to epoch."""
    net = _Net(begin, forcing.start(), epochs)

    def loss(net: _Net, slots: torch.Tensor) -> torch.Tensor:
        x, inputs = windows.draw(len(slots))
        vector = net.theta.detach().numpy()
        with np.errstate(all="ignore"):  # a loss that is no number ends the training below
            if forcing.mode == "adaptive" and int(net.batches) % forcing.every == 0:
                _follow(problem, forcing, net, vector, x[1:])
            shares = forcing.schedule(float(net.alpha), windows.steps)
            value, gradient = loss_and_gradient(problem, vector, x, inputs, shares)
            norm = float(np.linalg.norm(gradient.astype(np.float64)))
        net.batches += 1
        net.largest.fill_(max(float(net.largest), norm) if np.isfinite(norm) else np.inf)
        return _Given.apply(net.theta, value, torch.from_numpy(gradient))

    fall = (lr[1] / lr[0]) ** (1.0 / epochs)
    failed, history = "", None
    try:
        history = train(
            net, loss, [torch.arange(updates * batch_size)], epochs=epochs, batch_size=batch_size,
            optimizer=lambda parameters: torch.optim.RAdam(parameters, lr=lr[0]),
            schedule=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, fall),
            after_epoch=lambda _, epoch: net.note(epoch), clip=clip, checkpoint=checkpoint, random_state=random_state,
            progress=progress,
        )  # fmt: skip
    except TrainingFailed as error:
        failed = str(error)
    vector = net.last_finite.numpy().astype(np.float64)
    done = ~np.isnan(net.alphas.numpy())
    return Trained(vector, history, net.alphas.numpy()[done], net.grad_norms.numpy()[done], failed)


def _follow(problem: Problem, forcing: Forcing, net: _Net, vector: Array, x: Array) -> None:
    flat = problem.flat
    p = flat.named(vector)
    try:
        size = ESTIMATORS[forcing.estimator](flat.cell, p, flat.observation.encode(p, x))
    except np.linalg.LinAlgError:  # parameters that are no numbers any more, which the loss will tell
        return
    net.alpha.fill_(forcing.followed(float(net.alpha), size))
