"""Ways to train a surrogate on old evaluations, and to walk from the best of these to designs that are good by it."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from locum.core.errors import InvalidData, need, require_whole

if TYPE_CHECKING:
    from locum.optimize._offline_networks import Regressor, Step

__all__ = [
    "ConservativeObjective", "CovarianceAdaptation", "Ensemble", "EnsembleMean", "EnsembleMin", "GradientAscent", "Host",
]  # fmt: skip

_FLOAT = NDArray[np.float64]


class Host(BaseEstimator, ABC):
    """A way to train a surrogate on old evaluations, and to find designs that are good by it.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=200
        Of the walks.
    step_size : float, default=0.01
        Times the square root of the number of columns.
    """

    members: ClassVar[int] = 1
    spread: ClassVar[bool] = True

    def __init__(
        self,
        hidden: int = 2048,
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 3e-4,
        steps: int = 200,
        step_size: float = 0.01,
    ) -> None:
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.steps = steps
        self.step_size = step_size

    def check(self) -> None:
        """Refuse settings that cannot be used."""
        require_whole(1, hidden=self.hidden, epochs=self.epochs, steps=self.steps)
        require_whole(2, batch_size=self.batch_size)
        for name in ("learning_rate", "step_size"):
            if not 0 < getattr(self, name) < np.inf:
                raise InvalidData(f"expected {name}= above 0, got {getattr(self, name)!r}")

    def train(self, X: _FLOAT, y: _FLOAT, step: Callable[[], Step], progress: Callable[[int, int], None]) -> list[Regressor]:
        """The networks, each trained with a step of its own."""
        from locum.optimize._offline_networks import fitted

        def made(j: int) -> Regressor:
            def told(epoch: int) -> None:
                progress(j * self.epochs + epoch, self.members * self.epochs)

            return fitted(
                X, y, hidden=self.hidden, spread=self.spread, epochs=self.epochs, batch=self.batch_size,
                rate=self.learning_rate, step=step(), conservatism=self._conservatism(X.shape[1]), progress=told,
            )  # fmt: skip

        return [made(j) for j in range(self.members)]

    def _conservatism(self, width: int) -> Any:
        return None

    def value(self, models: list[Regressor]) -> Callable[[Any], Any]:
        """What is climbed: rows of shape (n, width) to numbers of shape (n,), as tensors."""
        return models[0]

    def designs(self, models: list[Regressor], X: _FLOAT, y: _FLOAT, n: int, rng: np.random.Generator) -> _FLOAT:
        """Encoded designs: the n best rows, moved uphill."""
        import torch

        from locum.optimize._offline_networks import ascended

        start = torch.as_tensor(X[np.argsort(-y, kind="stable")[:n]], dtype=torch.float32)
        ends = ascended(self.value(models), start, self.steps, self.step_size * np.sqrt(X.shape[1]))
        return np.asarray(ends.double().numpy())


@final
class GradientAscent(Host):
    """One network that learns its deviation too, climbed from the best rows.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=200
        Of the walks.
    step_size : float, default=0.01
        Times the square root of the number of columns.

    References
    ----------
    Trabucco et al., arXiv 2202.08450.
    """


class Ensemble(Host):
    """Five networks, their mean what is climbed where a final class says nothing else."""

    members = 5

    def value(self, models: list[Regressor]) -> Callable[[Any], Any]:
        import torch

        return lambda X: torch.stack([model(X) for model in models]).mean(dim=0)


@final
class EnsembleMean(Ensemble):
    """Five networks; their mean is climbed. The code of the paper takes the least of them under this name.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=200
        Of the walks.
    step_size : float, default=0.01
        Times the square root of the number of columns.
    """


@final
class EnsembleMin(Ensemble):
    """Five networks; the least of them is climbed.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=200
        Of the walks.
    step_size : float, default=0.01
        Times the square root of the number of columns.
    """

    def value(self, models: list[Regressor]) -> Callable[[Any], Any]:
        import torch

        return lambda X: torch.stack([model(X) for model in models]).amin(dim=0)


@final
class ConservativeObjective(Host):
    """One network that may not promise much more where walks from the rows end than at the rows.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=50
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=50
        Of the walks, in training and in the end.
    step_size : float, default=0.05
        Times the square root of the number of columns.
    limit : float, default=0.5
        Of what is promised beyond the rows, in deviations of the values.

    References
    ----------
    Trabucco, Kumar, Geng and Levine, *Conservative objective models for effective offline model-based optimization*, arXiv
    2107.06882.
    """

    spread = False

    def __init__(
        self,
        hidden: int = 2048,
        epochs: int = 50,
        batch_size: int = 128,
        learning_rate: float = 3e-4,
        steps: int = 50,
        step_size: float = 0.05,
        limit: float = 0.5,
    ) -> None:
        super().__init__(hidden, epochs, batch_size, learning_rate, steps, step_size)
        self.limit = limit

    def check(self) -> None:
        super().check()
        if not 0 <= self.limit < np.inf:
            raise InvalidData(f"expected limit= of 0 or more, got {self.limit!r}")

    def _conservatism(self, width: int) -> Any:
        from locum.optimize._offline_networks import Conservatism

        return Conservatism(self.steps, self.step_size * np.sqrt(width), self.limit)


@final
class CovarianceAdaptation(Host):
    """One network, searched by CMA-ES from the best row within the range of each column; the best designs that it came across.

    Parameters
    ----------
    hidden : int, default=2048
        Units in each of two layers.
    epochs : int, default=100
    batch_size : int, default=128
    learning_rate : float, default=3e-4
    steps : int, default=100
        Generations.
    step_size : float, default=0.5
        First deviation of the search, in deviations of a column.

    References
    ----------
    Hansen, *The CMA evolution strategy: a tutorial*, arXiv 1604.00772, through the package `cma`.
    """

    def __init__(
        self,
        hidden: int = 2048,
        epochs: int = 100,
        batch_size: int = 128,
        learning_rate: float = 3e-4,
        steps: int = 100,
        step_size: float = 0.5,
    ) -> None:
        super().__init__(hidden, epochs, batch_size, learning_rate, steps, step_size)

    def check(self) -> None:
        super().check()
        self._library()

    @staticmethod
    def _library() -> Any:
        return need("cma", "a search by covariance adaptation", "optimize")

    def designs(self, models: list[Regressor], X: _FLOAT, y: _FLOAT, n: int, rng: np.random.Generator) -> _FLOAT:
        from locum.optimize._offline_networks import predicted

        box = [X.min(axis=0).tolist(), X.max(axis=0).tolist()]
        settings: dict[str, Any] = {"seed": int(rng.integers(1, 2**31)), "verbose": -9, "maxiter": self.steps, "bounds": box}
        settings["popsize"] = max(16, n // 4)
        search = self._library().CMAEvolutionStrategy(X[int(y.argmax())], self.step_size, settings)
        every, worth = [X[np.argsort(-y, kind="stable")[:n]]], []
        worth.append(predicted(models, every[0])[0])
        while not search.stop():
            rows = np.array(search.ask())
            found = predicted(models, rows)[0]
            search.tell(rows.tolist(), (-found).tolist())
            every.append(rows)
            worth.append(found)
        return np.asarray(np.concatenate(every)[np.argsort(-np.concatenate(worth), kind="stable")[:n]])
