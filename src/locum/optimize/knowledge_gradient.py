"""The knowledge gradient: how much higher the best mean is expected to be after an evaluation, wherever that best then lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, need, require_whole
from locum.optimize.acquisition import Improvement, Known, TakesPending, ValueOfInformation
from locum.optimize.surrogate import need_botorch

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = ["KnowledgeGradient", "SimulatedKnowledgeGradient", "expected_maximum_gain", "stochastic_ascent"]

_OLD = 40  # evaluated points in the set, those with the best means
_STEPS = 30  # uphill to the best mean
_NEAR = 0.25  # side of the box around it, where the best mean will mostly lie next


def expected_maximum_gain(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    r"""How far the expected maximum of random lines lies above the highest of them now: E[max(a + bZ)] - max a.

    .. math:: h(a, b) = \sum_i (b_{i+1} - b_i) \, g(-|c_i|), \qquad g(z) = \varphi(z) + z \Phi(z)

    over the lines of the upper envelope in the order of their slopes, with corners c between neighbours; Z is standard normal.

    Parameters
    ----------
    a, b : array-like of shape (..., m)
        Heights and slopes.

    Returns
    -------
    ndarray of shape (...)

    Notes
    -----
    Cost: O(m²) a set of lines.

    References
    ----------
    Frazier, Powell and Dayanik, *The knowledge-gradient policy for correlated normal beliefs*, 2009.

    Examples
    --------
    >>> expected_maximum_gain([0.0, 0.0], [0.0, 1.0]).round(4).item()  # the mean of the positive part of Z
    0.3989
    """
    heights, slopes = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if heights.shape != slopes.shape or not heights.ndim or not heights.shape[-1]:
        raise InvalidData(f"expected a height and a slope for each line, got shapes {heights.shape} and {slopes.shape}")
    if not (np.isfinite(heights).all() and np.isfinite(slopes).all()):
        raise InvalidData("expected finite heights and slopes, got NaN or infinity")
    torch = need("torch", "the knowledge gradient", "optimize")
    from locum.optimize._expected_maximum import log_gain_of_lines

    return log_gain_of_lines(torch.as_tensor(heights), torch.as_tensor(slopes)).exp().numpy()


@final
class KnowledgeGradient(Improvement, ValueOfInformation, TakesPending):
    r"""Expected rise of the best mean of the goal over a finite set of decisions, exactly, as its logarithm.

    .. math:: \log\big( E[\max_{x'} \mu_{n+1}(x') \mid x_{n+1} = x] - \max_{x'} \mu_n(x') \big)

    The maximum is over points that fill the space, the best of those evaluated, the best mean and points around it, and x. Of
    this set it is the knowledge gradient: with one number an observation by the closed form of `expected_maximum_gain`, with
    pending points or gradients by a mean over fixed normal numbers.

    Parameters
    ----------
    decisions : int, default=40
        Points that fill the space in the set; half as many lie around the best mean.
    samples : int, default=128
        Normal numbers where there is no closed form.

    References
    ----------
    Frazier, arXiv 1807.02811, section 4.2; Wu and Frazier, arXiv 1606.04414 (pending points); Wu et al., arXiv 1703.04389
    (gradients).
    """

    tries = 512

    def __init__(self, decisions: int = 40, samples: int = 128) -> None:
        require_whole(1, decisions=decisions, samples=samples)
        self.decisions, self.samples = decisions, samples

    def of(self, model: Model, known: Known) -> Callable[[Any], Any]:
        need_botorch()
        import torch

        from locum.optimize._expected_maximum import log_gain_of_lines, log_mean_gain
        from locum.optimize._models import Lines, process_of
        from locum.optimize._simulated import climbed

        process = process_of(model)
        with torch.no_grad():
            order = process.goal_mean(known.aim, known.rows).argsort(descending=True)
            decisions = torch.cat([known.candidates[: self.decisions], known.rows[order[:_OLD]]])
            first = decisions[process.goal_mean(known.aim, decisions).argmax()]
        best = climbed(lambda A: process.goal_mean(known.aim, A), first[None, None], _STEPS, known.free)[0]
        around = _NEAR * (known.candidates[: self.decisions // 2] - 0.5)
        around = best + (around if known.free is None else around * known.free)
        decisions = torch.cat([decisions, best, around.clamp(0, 1)])
        lines = Lines(process, known, decisions, self.samples)

        def value(X: Any) -> Any:
            a, B = lines.at(X)
            if lines.normals is None:
                return log_gain_of_lines(a, B[..., 0])
            return log_mean_gain(a, B, lines.normals, a.amax(dim=-1))

        return value


@final
class SimulatedKnowledgeGradient(Improvement, ValueOfInformation):
    r"""Expected rise of the best mean over the whole space, by simulation, with the gradient of the envelope theorem.

    For some fixed normal numbers Z the observation at x is :math:`\mu_n(x) + Z\sqrt{\sigma_n^2(x) + \lambda}`; the mean that
    follows is maximised over the space, from the best of the points that fill it uphill. Held where they are, the maxima do not
    move with x to first order, so the gradient is that of the means there.

    Parameters
    ----------
    samples : int, default=16
        Normal numbers.
    steps : int, default=30
        Steps uphill of each inner maximum.

    Notes
    -----
    Cost: some thousands of predictions a point; `KnowledgeGradient` is far cheaper where some hundred points tell enough.

    References
    ----------
    Frazier, arXiv 1807.02811, section 4.2 and algorithms 2 to 4; Wu et al., arXiv 1703.04389.
    """

    tries = 128

    def __init__(self, samples: int = 16, steps: int = 30) -> None:
        require_whole(2, samples=samples)
        require_whole(0, steps=steps)
        self.samples, self.steps = samples, steps

    def of(self, model: Model, known: Known) -> Callable[[Any], Any]:
        need_botorch()
        from locum.optimize._models import process_of, standard_normals
        from locum.optimize._simulated import simulated_gain

        process = process_of(model)
        Z = standard_normals(self.samples, process.numbers, known.seed)
        return simulated_gain(process, known, Z, self.steps)


def stochastic_ascent(
    acquisition: SimulatedKnowledgeGradient,
    model: Model,
    known: Known,
    *,
    restarts: int = 10,
    steps: int = 100,
    a: float = 4.0,
    random_state: int = 0,
) -> tuple[NDArray[np.float64], float]:
    """Maximise a simulated knowledge gradient by stochastic gradient ascent, with fresh normal numbers at each step.

    Parameters
    ----------
    acquisition : SimulatedKnowledgeGradient
        Its samples are drawn anew at each step; its last value, with the numbers of `known`, decides between restarts.
    model : botorch Model
    known : Known
    restarts : int, default=10
        Rows that the ascent starts from, taken from the candidates.
    steps : int, default=100
    a : float, default=4.0
        Step t is a / (a + t) times a tenth of the unit cube's side, along the gradient of the logarithm.
    random_state : int, default=0

    Returns
    -------
    row : ndarray of shape (width,)
    value : float
        The logarithm of the gain there.

    References
    ----------
    Frazier, arXiv 1807.02811, algorithm 2.
    """
    from dataclasses import replace

    require_whole(1, restarts=restarts, steps=steps)
    torch = need("torch", "the knowledge gradient", "optimize")
    rng = np.random.default_rng(random_state)
    X = known.candidates[:restarts, None].clone()
    for t in range(steps):
        fresh = acquisition.of(model, replace(known, seed=int(rng.integers(2**31))))
        X = X.detach().requires_grad_()
        (slope,) = torch.autograd.grad(fresh(X).sum(), X)
        length = slope.norm(dim=-1, keepdim=True).clamp_min(1.0)  # no step leaves the neighbourhood
        X = (X + 0.1 * a / (a + t) * slope / length).clamp(0, 1)
    with torch.no_grad():
        value = acquisition.of(model, known)(X)
    best = int(value.argmax())
    return X.detach()[best, 0].numpy(), float(value[best])
