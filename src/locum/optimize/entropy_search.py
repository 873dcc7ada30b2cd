"""Entropy search: how much an evaluation is expected to say about where the best decision lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_whole
from locum.optimize.acquisition import Gain, Known, ValueOfInformation
from locum.optimize.surrogate import need_botorch

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = ["EntropySearch", "PredictiveEntropySearch", "representer_information"]

_LEAST = 1e-10  # nats; less is told from none by nobody
_ITERATIONS = 30  # of expectation propagation, which stands still after some ten


@final
class EntropySearch(ValueOfInformation):
    r"""Expected fall of the entropy of where the goal is largest, among some representers, as its logarithm.

    .. math:: \log\big( H[p_n] - E_y\, H[p_n \mid y \text{ at } x] \big), \qquad p_i = P(r_i \text{ is best})

    Representers are the decisions that are best most often in joint samples. What an observation does to the samples is a
    linear update, so all its values are tried with the same samples.

    Parameters
    ----------
    representers : int, default=40
    samples : int, default=256
        Of the goal at the representers.
    nodes : int, default=5
        Values of the observation, by Gauss and Hermite.

    Notes
    -----
    Entropies are those of frequencies, so the value is flat between points: it is maximised among the points tried.

    References
    ----------
    Frazier, arXiv 1807.02811, section 4.3; Hennig and Schuler, arXiv 1112.1217.
    """

    tries = 512

    def __init__(self, representers: int = 40, samples: int = 256, nodes: int = 5) -> None:
        require_whole(2, representers=representers, samples=samples, nodes=nodes)
        self.representers, self.samples, self.nodes = representers, samples, nodes

    def of(self, model: Model, known: Known) -> Callable[[Any], Any]:
        need_botorch()
        import torch

        from locum.optimize._entropy import Representers
        from locum.optimize._models import process_of
        from locum.optimize._process import Update

        process = process_of(model)
        if process.numbers > 1:
            raise InvalidData("entropy search takes values alone, got a surrogate with gradients; use KnowledgeGradient")
        decisions = torch.cat([known.candidates, known.rows])
        with torch.no_grad():
            mean, spread = process.goal_mean(known.aim, decisions), process.covariance(known.aim, decisions)
            kept = Representers.best(mean, spread, self.representers, known.seed)
            held = Representers(mean[kept], spread[kept][:, kept], self.samples, self.nodes, known.seed)
        update = Update(process, known.aim, decisions[kept])

        def value(X: Any) -> Any:
            with torch.no_grad():
                slopes = update.at(X)[0][..., 0]
                found = held.information(slopes).clamp_min(_LEAST).log()
            return found + 0 * X.sum(dim=(-2, -1))

        return value


@final
class PredictiveEntropySearch(Gain):
    r"""The same information seen from the other side, by expectation propagation, as its logarithm.

    .. math:: \log\big( H[y_x] - E_{x^*} H[y_x \mid x^*] \big)

    Parameters
    ----------
    optima : int, default=8
        Samples of where the best point lies, each the best of the points that fill the space in a joint sample.

    Notes
    -----
    The expectation propagation can give values below 0, which count as none. Its slope costs far more than its value, so it is
    maximised among the points tried.

    References
    ----------
    Frazier, arXiv 1807.02811, section 4.3; Hernández-Lobato, Hoffman and Ghahramani, arXiv 1406.2541; through BoTorch.
    """

    def __init__(self, optima: int = 8) -> None:
        require_whole(1, optima=optima)
        self.optima = optima

    def of(self, model: Model, known: Known) -> Callable[[Any], Any]:
        need_botorch()
        import torch
        from botorch.acquisition.predictive_entropy_search import qPredictiveEntropySearch

        from locum.optimize._entropy import joint_samples
        from locum.optimize._models import process_of

        process, decisions = process_of(model), torch.cat([known.candidates, known.rows])
        with torch.no_grad():
            draws = joint_samples(
                process.mean(decisions), process.covariance(known.aim, decisions), self.optima, known.seed
            )  # fmt: skip
        found = qPredictiveEntropySearch(model, decisions[draws.argmax(dim=-1)], max_ep_iterations=_ITERATIONS)

        def value(X: Any) -> Any:
            with torch.no_grad():
                values = found(X).clamp_min(_LEAST).log()
            return values + 0 * X.sum(dim=(-2, -1))

        return value


def representer_information(
    mean: ArrayLike, covariance: ArrayLike, slopes: ArrayLike, *, samples: int = 1024, nodes: int = 9, random_state: int = 0
) -> NDArray[np.float64]:
    """What observations say about which of some representers is largest, in nats.

    Parameters
    ----------
    mean : array-like of shape (m,)
    covariance : array-like of shape (m, m)
    slopes : array-like of shape (b, m)
        For each of b observations its covariances with the representers over its standard deviation, noise included.
    samples : int, default=1024
    nodes : int, default=9
    random_state : int, default=0

    Returns
    -------
    ndarray of shape (b,)
    """
    a, spread, b = (np.asarray(part, dtype=float) for part in (mean, covariance, slopes))
    if a.ndim != 1 or spread.shape != (len(a), len(a)) or b.ndim != 2 or b.shape[1] != len(a):
        raise InvalidData(f"expected shapes (m,), (m, m) and (b, m), got {a.shape}, {spread.shape} and {b.shape}")
    need_botorch()
    import torch

    from locum.optimize._entropy import Representers

    held = Representers(torch.as_tensor(a), torch.as_tensor(spread), samples, nodes, random_state)
    return held.information(torch.as_tensor(b)).numpy()
