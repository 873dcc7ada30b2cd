"""Better designs from old evaluations alone: a network stands in for the objective, and is climbed with care."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.optimize._offline_codes import DesignCode
from locum.optimize.ignite import FixedGradientNorm, GradientNormRegularizer, mean_gradient_norm

if TYPE_CHECKING:
    from locum.optimize._offline_networks import Regressor, Step

__all__ = [
    "ConservativeObjective", "CovarianceAdaptation", "EnsembleMean", "EnsembleMin", "GradientAscent", "Host",
    "OfflineOptimizer", "Proposal",
]  # fmt: skip

_FLOAT = NDArray[np.float64]
_HELD = 200  # rows that judge the surrogate, or a fifth of a smaller table
_SAME = 1e-9  # of a standardised column: closer than that a design is one of the data


@dataclass(frozen=True, eq=False)
class Proposal:
    """Designs proposed, and how far what they are said to be worth can be trusted.

    Parameters
    ----------
    X : ndarray of shape (m, d)
    predicted : ndarray of shape (m,)
        By the surrogate, in the unit of the values; expect less.
    unique, unseen : int
        Different designs, and how many of them are not in the data.
    fidelity : tuple of Fidelity
        R2 and rank correlation of the surrogate on rows that it was not fitted to.
    rivals : dict of str to tuple of Fidelity
        The same of a linear model.
    best_visible : float
        The best value in the data.
    """

    X: NDArray[Any]
    predicted: _FLOAT
    unique: int
    unseen: int
    fidelity: tuple[Fidelity, ...]
    rivals: dict[str, tuple[Fidelity, ...]]
    best_visible: float

    def text(self) -> str:
        """The proposal in words."""
        middle, most = float(np.median(self.predicted)), float(self.predicted.max())
        lines = [
            f"{len(self.X)} designs, {self.unique} different, {self.unseen} of them not in the data",
            f"said to be worth {middle:.4g} in the middle, {most:.4g} at best; the best in the data: {self.best_visible:.4g}",
            *map(str, self.fidelity),
        ]
        return "\n".join(lines + [f"beside it, {name}: {one}" for name, found in self.rivals.items() for one in found])

    def __str__(self) -> str:
        return self.text()


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
                rate=self.learning_rate, step=step(), conservatism=self._conservatism(), progress=told,
            )  # fmt: skip

        return [made(j) for j in range(self.members)]

    def _conservatism(self) -> Any:
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


class _Ensemble(Host):
    members = 5


@final
class EnsembleMean(_Ensemble):
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

    def value(self, models: list[Regressor]) -> Callable[[Any], Any]:
        import torch

        return lambda X: torch.stack([model(X) for model in models]).mean(dim=0)


@final
class EnsembleMin(_Ensemble):
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
        self._width = 1

    def check(self) -> None:
        super().check()
        if not 0 <= self.limit < np.inf:
            raise InvalidData(f"expected limit= of 0 or more, got {self.limit!r}")

    def train(self, X: _FLOAT, y: _FLOAT, step: Callable[[], Step], progress: Callable[[int, int], None]) -> list[Regressor]:
        self._width = X.shape[1]
        return super().train(X, y, step, progress)

    def _conservatism(self) -> Any:
        from locum.optimize._offline_networks import Conservatism

        return Conservatism(self.steps, self.step_size * np.sqrt(self._width), self.limit)


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

    def designs(self, models: list[Regressor], X: _FLOAT, y: _FLOAT, n: int, rng: np.random.Generator) -> _FLOAT:
        from locum.optimize._offline_networks import predicted

        library = need("cma", "a search by covariance adaptation", "optimize")
        box = [X.min(axis=0).tolist(), X.max(axis=0).tolist()]
        settings: dict[str, Any] = {"seed": int(rng.integers(1, 2**31)), "verbose": -9, "maxiter": self.steps, "bounds": box}
        settings["popsize"] = max(16, n // 4)
        search = library.CMAEvolutionStrategy(X[int(y.argmax())], self.step_size, settings)
        every, worth = [X[np.argsort(-y, kind="stable")[:n]]], []
        worth.append(predicted(models, every[0])[0])
        while not search.stop():
            rows = np.array(search.ask())
            found = predicted(models, rows)[0]
            search.tell(rows.tolist(), (-found).tolist())
            every.append(rows)
            worth.append(found)
        return np.asarray(np.concatenate(every)[np.argsort(-np.concatenate(worth), kind="stable")[:n]])


@final
class OfflineOptimizer(BaseEstimator):
    """Proposes designs from old evaluations; no new one is asked for.

    Parameters
    ----------
    host : Host
    regularizer : GradientNormRegularizer, FixedGradientNorm or None, default=None
        What the networks are trained with beside the host's own loss.
    n_designs : int, default=128
    n_choices : int or None, default=None
        Categories at each position of a design; None for numbers.
    random_state : int, default=0

    Attributes
    ----------
    fidelity_ : tuple of Fidelity
        Of the surrogate on rows that it was not fitted to: at most 200.
    rivals_ : dict of str to tuple of Fidelity

    Notes
    -----
    Cost: a training for each network; with a regularizer three backward passes a step in place of one.

    References
    ----------
    Trabucco et al., *Design-Bench: benchmarks for data-driven offline model-based optimization*, arXiv 2202.08450.

    Examples
    --------
    >>> import numpy as np
    >>> from locum.optimize.ignite import GradientNormRegularizer
    >>> X = np.random.default_rng(0).normal(size=(400, 2))
    >>> y = -((X - 0.5) ** 2).sum(axis=1)
    >>> host = GradientAscent(hidden=32, epochs=20, steps=50, step_size=0.01)
    >>> optimizer = OfflineOptimizer(host, GradientNormRegularizer(), n_designs=16).fit(X, y)
    >>> optimizer.propose().X.shape
    (16, 2)
    """

    papers = ("ignite",)

    def __init__(
        self,
        host: Host,
        regularizer: GradientNormRegularizer | FixedGradientNorm | None = None,
        n_designs: int = 128,
        n_choices: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.host = host
        self.regularizer = regularizer
        self.n_designs = n_designs
        self.n_choices = n_choices
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, *, progress: Callable[[int, int], None] | None = None) -> Self:
        """Train the surrogate.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Designs: numbers, or codes of categories from 0.
        y : array-like of shape (n,)
            Larger is better.
        progress : callable or None, default=None
            Called with (epochs done, epochs in all).

        Raises
        ------
        InvalidData
            Fewer designs than are to be proposed, values that are all the same or not finite, or settings that cannot be used.
        MissingExtra
            PyTorch is not installed.
        """
        if not isinstance(self.host, Host):
            raise InvalidData(f"expected host= to be a Host such as GradientAscent(), got {type(self.host).__name__}")
        if self.regularizer is not None and not isinstance(self.regularizer, GradientNormRegularizer | FixedGradientNorm):
            raise InvalidData(f"expected regularizer= to be a GradientNormRegularizer, got {type(self.regularizer).__name__}")
        require_whole(1, n_designs=self.n_designs)
        require_whole(0, random_state=self.random_state)
        self.host.check()
        designs, values = np.asarray(X), np.asarray(y, dtype=float)
        code = DesignCode(self.n_choices).fit(designs, values)
        if len(designs) < max(self.n_designs, 10):
            raise InvalidData(f"expected {max(self.n_designs, 10)} designs or more, got {len(designs)}")
        need("torch", "a surrogate of old evaluations", "nets")
        from locum.nets import seeded

        rows, wanted = code.encode(designs), (values - code.value_middle_) / code.value_spread_
        order = np.random.default_rng(self.random_state).permutation(len(rows))
        held, kept = np.split(order, [min(_HELD, len(rows) // 5)])
        with seeded(self.random_state):
            self.models_ = self.host.train(rows[kept], wanted[kept], self._step, progress or (lambda done, whole: None))
        self._code, self._rows, self._wanted, self._designs = code, rows, wanted, designs
        self.fidelity_ = self._judged(self._said(rows[held]), wanted[held])
        linear = Ridge(alpha=1.0).fit(rows[kept], wanted[kept])
        self.rivals_ = {"a linear model": self._judged(linear.predict(rows[held]), wanted[held])}
        return self

    def _step(self) -> Step:
        from locum.optimize._offline_networks import plain_step

        return plain_step if self.regularizer is None else self.regularizer.fresh().step

    def _said(self, rows: _FLOAT) -> _FLOAT:
        import torch

        with torch.no_grad():
            return np.asarray(self.host.value(self.models_)(torch.as_tensor(rows, dtype=torch.float32)).double().numpy())

    def _judged(self, said: _FLOAT, truth: _FLOAT) -> tuple[Fidelity, ...]:
        found = []
        for name in ("r2", "spearman_correlation"):
            try:
                found.append(measure(name).fidelity(truth, said, region="rows like the data", how="rows held out"))
            except InvalidData:  # all the same: nothing to be measured
                continue
        return tuple(found)

    def propose(self) -> Proposal:
        """Designs that are good by the surrogate, `n_designs` of them.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "models_")
        rng = np.random.default_rng([self.random_state, 1])
        rows = self.host.designs(self.models_, self._rows, self._wanted, self.n_designs, rng)
        X = self._code.decode(rows)
        again = self._code.encode(X)  # as they will be evaluated
        predicted = self._code.value_middle_ + self._code.value_spread_ * self._said(again)
        different = np.unique(np.round(again / _SAME), axis=0) * _SAME
        seen = {row.tobytes() for row in np.round(self._rows / _SAME)}
        unseen = sum(row.tobytes() not in seen for row in np.round(different / _SAME))
        best = self._code.value_middle_ + self._code.value_spread_ * float(self._wanted.max())
        return Proposal(X, predicted, len(different), int(unseen), self.fidelity_, self.rivals_, best)

    def sharpness(self, X: ArrayLike) -> float:
        """Length of the gradient, in the weights, of the mean prediction at designs; the mean over networks.

        Parameters
        ----------
        X : array-like of shape (m, d)
        """
        check_is_fitted(self, "models_")
        import torch

        rows = torch.as_tensor(self._code.encode(X), dtype=torch.float32)
        return float(np.mean([mean_gradient_norm(model, rows) for model in self.models_]))
