"""Groups of neurons that are themselves sums of fewer groups: a tree stands in for the hidden activations of an MLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_positive, require_whole
from locum.inside.rows import ActivationRows, finite_rows
from locum.inside.snmf_mlp import SemiNMF

__all__ = ["HierarchicalSemiNMF"]

_FLOATS = NDArray[np.float32]


@final
class HierarchicalSemiNMF(BaseEstimator):
    r"""A tree of groups of neurons stands in for the hidden activations of an MLP: components are themselves factored.

    The first level factors the rows, and each further one the components of the level before, into fewer of them with weights
    that are not negative, so that :math:`X \approx W_1 W_2 \cdots W_L C_L`. All of it may then be trained together.

    Parameters
    ----------
    ranks : sequence of int, default=(400, 200, 100, 50)
        Components of each level, falling.
    base : SemiNMF or None, default=None
        Settings of the factorisations, whose `n_components` does not count; the usual ones where None.
    fine_tune : int, default=500
        Steps of Adam on the squared error of the whole product; rows must then fit into memory.
    learning_rate : float, default=1e-3

    Attributes
    ----------
    components_ : list of ndarray of shape (ranks[i], width)
        Of length 1 by level; those of the last level are as after the fine-tuning.
    weights_ : list of ndarray
        Of rows, shape (n, ranks[0]), and of each level's components in those of the next, shape (ranks[i - 1], ranks[i]).
    loss_curve_ : ndarray
        Of the fine-tuning: squared error relative to the squares of the rows.
    n_features_in_ : int

    Raises
    ------
    InvalidData
        Ranks that do not fall, or as for :class:`SemiNMF`.

    Notes
    -----
    Cost: that of one factorisation by level, of which all but the first have few rows, and 6 n (ranks[0] ranks[1] +
    width ranks[-1]) operations a step of fine-tuning.

    **Departures**: weights stay at 0 or above in the fine-tuning, and zeros of the last components stay 0.

    References
    ----------
    Shafran, Geiger and Geva, arXiv 2506.10920, section on hierarchies.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> leaves = np.repeat(np.eye(3), 4, axis=0) @ rng.normal(size=(3, 40)) + 0.3 * rng.normal(size=(12, 40))
    >>> X = (rng.random((600, 12)) < 0.2) * rng.gamma(4, 1, size=(600, 12)) @ leaves
    >>> tree = HierarchicalSemiNMF((12, 3), SemiNMF(keep=1.0, solver="coordinate", max_iter=400), fine_tune=20).fit(X)
    >>> [one.shape for one in tree.components_], tree.groups(1).shape
    ([(12, 40), (3, 40)], (12,))
    """

    papers = ("snmf-mlp",)

    def __init__(
        self,
        ranks: Sequence[int] = (400, 200, 100, 50),
        base: SemiNMF | None = None,
        *,
        fine_tune: int = 500,
        learning_rate: float = 1e-3,
    ) -> None:
        self.ranks = ranks
        self.base = base
        self.fine_tune = fine_tune
        self.learning_rate = learning_rate

    def fit(self, X: Any, y: Any = None, *, progress: Callable[[int, int, str], None] | None = None) -> Self:
        """Factor rows, then components, then train all together.

        Parameters
        ----------
        X : ActivationRows, array-like or torch.Tensor of shape (n, width)
        y : None, default=None
            Not used.
        progress : callable or None, default=None
            Called with (iterations done, iterations at most, words) of each level.
        """
        torch = need("torch", "a factorisation", "nets")
        from locum.inside._seminmf import fine_tune

        self._check()
        base = SemiNMF() if self.base is None else self.base
        self.components_, self.weights_, data = [], [], X
        for rank in self.ranks:
            level = clone(base).set_params(n_components=int(rank))
            self.weights_.append(level.fit_transform(data, progress=progress))
            self.components_.append(level.components_)
            data = level.components_
        self.n_features_in_, self.loss_curve_ = data.shape[1], np.empty(0)
        if self.fine_tune:
            rows = X.rows("train") if isinstance(X, ActivationRows) else finite_rows(X)
            tensors = [torch.from_numpy(one).to(base.device) for one in (rows, *self.weights_, data)]
            tuned, last, path = fine_tune(tensors[0], tensors[1:-1], tensors[-1], self.fine_tune, float(self.learning_rate))
            lengths = last.norm(dim=1).clamp(min=1e-20)
            tuned[-1] = tuned[-1] * lengths
            self.weights_ = [one.cpu().numpy() for one in tuned]
            self.components_[-1] = (last / lengths[:, None]).cpu().numpy()
            self.loss_curve_ = np.array(path)
        return self

    def _check(self) -> None:
        require_whole(0, fine_tune=self.fine_tune)
        ranks = list(self.ranks)
        if not ranks or any(isinstance(one, bool) or not isinstance(one, int | np.integer) or one < 1 for one in ranks):
            raise InvalidData(f"expected ranks= as whole numbers of 1 or more, got {self.ranks!r}")
        if any(b >= a for a, b in pairwise(ranks)):
            raise InvalidData(f"expected ranks= that fall from level to level, got {self.ranks!r}")
        require_positive(learning_rate=self.learning_rate)

    def reconstruct(self) -> _FLOATS:
        """The rows that fitted, as the whole product gives them, shape (n, width)."""
        check_is_fitted(self, "components_")
        said = self.weights_[0]
        for one in self.weights_[1:]:
            said = said @ one
        return said @ self.components_[-1]

    def groups(self, level: int) -> NDArray[np.int64]:
        """The component of a level that each component of the first belongs to, by the largest weight at each step.

        Parameters
        ----------
        level : int
            From 0, the first, on.

        Returns
        -------
        ndarray of int, shape (ranks[0],)
            -1 for one that no component of a next level takes up.
        """
        check_is_fitted(self, "components_")
        if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < len(self.components_):
            raise InvalidData(f"expected level= from 0 to {len(self.components_) - 1}, got {level!r}")
        found = np.arange(len(self.components_[0]))
        for weights in self.weights_[1 : level + 1]:
            parent = np.where(weights.max(axis=1) > 0, weights.argmax(axis=1), -1)
            found = np.where(found >= 0, parent[found], -1)
        return found
