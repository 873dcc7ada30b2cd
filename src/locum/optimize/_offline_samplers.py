"""Hosts that draw designs: from a distribution moved to what the surrogate promises, or from a model of designs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole
from locum.optimize._offline_hosts import Ensemble
from locum.optimize.surrogate import GaussianProcess, need_botorch

if TYPE_CHECKING:
    from locum.optimize._offline_networks import Regressor

__all__ = ["AdaptiveSampling", "BatchImprovement", "ModelInversion", "Reinforce"]

_FLOAT = NDArray[np.float64]
_KNOWN = 128  # rows of each kind, the best and others, that a process is fitted to


def _order(y: _FLOAT) -> NDArray[np.intp]:
    return np.argsort(-y, kind="stable")


def _drawn(rng: np.random.Generator) -> int:
    """A seed for torch."""
    return int(rng.integers(2**31))


@final
class Reinforce(Ensemble):
    """Five networks; a normal distribution of designs, first that of the best rows, is moved to where their mean promises more.

    The gradient is that of REINFORCE: of the logarithm of the density times what a draw is worth, less the mean of the others.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=200
        Of the distribution, each on 256 draws.
    step_size : float, default=0.01
        Of Adam, on means and logarithms of deviations.

    References
    ----------
    Williams, *Simple statistical gradient-following algorithms for connectionist reinforcement learning*, 1992.
    """

    def designs(self, models: list[Regressor], X: _FLOAT, y: _FLOAT, n: int, rng: np.random.Generator) -> _FLOAT:
        from locum.nets import seeded
        from locum.optimize._offline_generators import reinforced

        with seeded(_drawn(rng)):
            return reinforced(self.value(models), X[_order(y)[: max(n, 2)]], self.steps, self.step_size, n)


@final
class BatchImprovement(Ensemble):
    """Five networks, asked in rounds for the batch of largest expected improvement under a Gaussian process of their answers.

    The process is fitted to the 128 best rows, 128 others, and what the mean of the networks has answered so far. The designs
    are those of the batches and of the best rows that this mean promises most for.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=8
        Rounds.
    q : int, default=16
        Designs a round.

    Notes
    -----
    Cost: seconds a round, for a fit of the process and a search in `q` times the number of columns.

    References
    ----------
    Wilson et al., arXiv 1712.00424; through BoTorch: Ament et al., arXiv 2310.20708.
    """

    def __init__(
        self,
        hidden: int = 2048,
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 3e-4,
        steps: int = 8,
        q: int = 16,
    ) -> None:
        super().__init__(hidden, epochs, batch_size, learning_rate, steps)
        self.q = q

    def check(self) -> None:
        super().check()
        require_whole(1, q=self.q)
        need_botorch()

    def designs(self, models: list[Regressor], X: _FLOAT, y: _FLOAT, n: int, rng: np.random.Generator) -> _FLOAT:
        from locum.nets import seeded
        from locum.optimize._offline_improvement import best_batch
        from locum.optimize._offline_networks import predicted

        order = _order(y)
        known = np.concatenate([order[:_KNOWN], rng.permutation(order[_KNOWN:])[:_KNOWN]])
        low, spread = X.min(axis=0), np.ptp(X, axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        units, values = (X[known] - low) / spread, y[known]
        for _ in range(self.steps):
            process = GaussianProcess(random_state=_drawn(rng)).fit(units, values)
            with seeded(_drawn(rng)):
                batch = best_batch(process.model_, self.q, units.shape[1], float(values.max()))
            units = np.concatenate([units, batch])
            values = np.concatenate([values, predicted(models, low + spread * batch).mean(axis=0)])
        every = np.concatenate([X[order[:n]], low + spread * units[len(known) :]])
        return np.asarray(every[_order(predicted(models, every).mean(axis=0))[:n]])


@final
class AdaptiveSampling(Ensemble):
    """Five networks, and a model of designs that is taught again by those draws of its own that are likely to be good.

    CbAS: draws of a variational autoencoder count by the chance that they are above a quantile of what the networks promise,
    times their density under the first autoencoder over that under the present one.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=20
        Rounds, each of 1,000 draws.
    quantile : float, default=0.8
    latent : int, default=16
        Width of what the autoencoder decodes.

    References
    ----------
    Brookes, Park and Listgarten, *Conditioning by adaptive sampling for robust design*, arXiv 1901.10060; weights are raised to
    the power 0.2, as in the code of arXiv 2202.08450.
    """

    def __init__(
        self,
        hidden: int = 2048,
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 3e-4,
        steps: int = 20,
        quantile: float = 0.8,
        latent: int = 16,
    ) -> None:
        super().__init__(hidden, epochs, batch_size, learning_rate, steps)
        self.quantile = quantile
        self.latent = latent

    def check(self) -> None:
        super().check()
        require_whole(1, latent=self.latent)
        if not 0 <= self.quantile < 1:
            raise InvalidData(f"expected quantile= of 0 or more and below 1, got {self.quantile!r}")

    def designs(self, models: list[Regressor], X: _FLOAT, y: _FLOAT, n: int, rng: np.random.Generator) -> _FLOAT:
        from locum.nets import seeded
        from locum.optimize._offline_generators import adapted

        size = _sizes(self, self.latent)
        with seeded(_drawn(rng)):
            return adapted(models, X, n, rounds=self.steps, quantile=self.quantile, **size)


@final
class ModelInversion(Ensemble):
    """Five networks, and a map from values to designs that is asked for a value which it and the networks agree on.

    MINs: the map is taught on old evaluations, good ones counting more. Walks from the best value in the data raise the value
    asked for, less the squared difference from what the mean of the networks says of the design, and less how unlikely the
    map's other input is.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=100
        Of the walks.
    step_size : float, default=0.02
        Of Adam, in these walks.
    latent : int, default=16
        Width of the map's other input.

    Notes
    -----
    The map is the decoder of a conditional variational autoencoder, where the paper has a generative adversarial network.

    References
    ----------
    Kumar and Levine, *Model inversion networks for model-based optimization*, arXiv 1912.13464.
    """

    def __init__(
        self,
        hidden: int = 2048,
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 3e-4,
        steps: int = 100,
        step_size: float = 0.02,
        latent: int = 16,
    ) -> None:
        super().__init__(hidden, epochs, batch_size, learning_rate, steps, step_size)
        self.latent = latent

    def check(self) -> None:
        super().check()
        require_whole(1, latent=self.latent)

    def designs(self, models: list[Regressor], X: _FLOAT, y: _FLOAT, n: int, rng: np.random.Generator) -> _FLOAT:
        from locum.nets import seeded
        from locum.optimize._offline_generators import inverted

        size = _sizes(self, self.latent)
        with seeded(_drawn(rng)):
            return inverted(self.value(models), X, y, n, steps=self.steps, step_size=self.step_size, **size)


def _sizes(host: Ensemble, latent: int) -> dict[str, Any]:
    """Of a model of designs, and of its training: those of the networks."""
    told = {"hidden": host.hidden, "epochs": host.epochs, "batch": host.batch_size, "rate": host.learning_rate}
    return {**told, "latent": latent}
