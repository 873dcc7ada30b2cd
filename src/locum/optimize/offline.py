"""Better designs from old evaluations alone: a network stands in for the objective, and is climbed with care."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.optimize._offline_codes import DesignCode
from locum.optimize._offline_hosts import (
    ConservativeObjective,
    CovarianceAdaptation,
    EnsembleMean,
    EnsembleMin,
    GradientAscent,
    Host,
)
from locum.optimize._offline_samplers import AdaptiveSampling, BatchImprovement, ModelInversion, Reinforce
from locum.optimize.ignite import FixedGradientNorm, GradientNormRegularizer, mean_gradient_norm

if TYPE_CHECKING:
    from locum.optimize._offline_networks import Step

__all__ = [
    "AdaptiveSampling", "BatchImprovement", "ConservativeObjective", "CovarianceAdaptation", "EnsembleMean", "EnsembleMin",
    "GradientAscent", "Host", "ModelInversion", "OfflineOptimizer", "Proposal", "Reinforce",
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
        different = np.unique(_cells(again), axis=0)
        seen = {row.tobytes() for row in _cells(self._rows)}
        unseen = sum(row.tobytes() not in seen for row in different)
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


def _cells(rows: _FLOAT) -> _FLOAT:
    """Rows on a fine grid, the same number for both zeros."""
    return np.asarray(np.round(rows / _SAME) + 0.0)
