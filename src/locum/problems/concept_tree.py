"""A planted hierarchy of concepts: features that are only there where their parent is, added up to a vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole

__all__ = ["ConceptTree"]

_INTERNAL, _LEAVES, _CHILDREN = 3, 8, 3


@dataclass(frozen=True)
class ConceptTree:
    """Twenty unit directions in twenty dimensions: eleven parents, one of them there, and three children each of three.

    An internal parent is there with probability 0.2 and a leaf parent with 0.05, one of the eleven at a time. Where an internal
    parent is there, each of its children is with probability 0.2, at most one of them. 1.36 features are active on average.
    Amplitudes are normal, drawn again until they are positive.

    Parameters
    ----------
    parent : tuple of two floats, default=(1.0, 0.25)
        Mean and standard deviation of the amplitudes of parents.
    child : tuple of two floats, default=(1.0, 0.25)
        Of children.
    correlation : float, default=0.0
        ε: each direction is mixed with ε times the sum of its siblings, and normalised. 0 leaves them orthogonal.
    shared : bool, default=False
        Whether a child has the deviation from its mean, in standard deviations, that its parent has.
    random_state : int, default=0
        Of the directions.

    References
    ----------
    Costa and others, arXiv 2506.03093, section 4 and its appendix.

    Examples
    --------
    >>> tree = ConceptTree()
    >>> X, Z = tree.sample(1000, seed=1)
    >>> X.shape, Z.shape, bool(np.allclose(X, Z @ tree.features))
    ((1000, 20), (1000, 20), True)
    >>> round(float((Z > 0).sum(axis=1).mean()), 1)
    1.4
    """

    parent: tuple[float, float] = (1.0, 0.25)
    child: tuple[float, float] = (1.0, 0.25)
    correlation: float = 0.0
    shared: bool = False
    random_state: int = 0

    def __post_init__(self) -> None:
        for name in ("parent", "child"):
            mean, deviation = getattr(self, name)
            if not (mean > 0 and deviation > 0):
                raise InvalidData(f"expected {name}= as a positive mean and deviation, got {getattr(self, name)}")
        if not 0 <= self.correlation < 1:
            raise InvalidData(f"expected correlation= of at least 0 and below 1, got {self.correlation!r}")
        require_whole(0, random_state=self.random_state)

    @property
    def parents(self) -> NDArray[np.int64]:
        """Number of the parent of each feature, -1 for those without, shape (20,)."""
        top = [-1] * (_INTERNAL + _LEAVES)
        return np.array(top + [i for i in range(_INTERNAL) for _ in range(_CHILDREN)])

    @property
    def features(self) -> NDArray[np.float64]:
        """The directions, a row each, shape (20, 20)."""
        n = len(self.parents)
        rows = np.linalg.qr(np.random.default_rng([self.random_state, 26]).normal(size=(n, n)))[0]
        siblings = self.parents[:, None] == self.parents[None, :]
        np.fill_diagonal(siblings, False)
        mixed = rows + self.correlation * siblings @ rows
        return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)

    def sample(self, n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Vectors and the amplitudes they are made of, both of shape (n, 20).

        Parameters
        ----------
        n : int
        seed : int, default=0
        """
        require_whole(1, n=n)
        rng = np.random.default_rng([self.random_state, seed, 27])
        top = rng.choice(_INTERNAL + _LEAVES, size=n, p=[0.2] * _INTERNAL + [0.05] * _LEAVES)
        Z = np.zeros((n, len(self.parents)))
        rows = np.arange(n)
        Z[rows, top] = _positive(self.parent, n, rng)
        which = rng.choice(_CHILDREN + 1, size=n, p=[0.2] * _CHILDREN + [0.4])
        there = (top < _INTERNAL) & (which < _CHILDREN)
        at = _INTERNAL + _LEAVES + _CHILDREN * top[there] + which[there]
        if self.shared:
            deviation = (Z[rows[there], top[there]] - self.parent[0]) / self.parent[1]
            Z[rows[there], at] = np.maximum(self.child[0] + self.child[1] * deviation, 1e-6)
        else:
            Z[rows[there], at] = _positive(self.child, int(there.sum()), rng)
        return Z @ self.features, Z


def _positive(law: tuple[float, float], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal numbers, those that are not positive drawn again."""
    found = rng.normal(*law, size=n)
    while (low := found <= 0).any():
        found[low] = rng.normal(*law, size=int(low.sum()))
    return found
