"""What the measurements of recsae stand on: recommenders of real interactions, their vectors, and users in three parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from locum.datasets import Interactions
from locum.nets.recommenders import LightGCN

PARTS = ("train", "dev", "test")


@dataclass(frozen=True)
class Rows:
    """Vectors of some users, one after each item taken, and what came next; or one a user.

    Attributes
    ----------
    X : ndarray of shape (n, width)
    users, targets : ndarray of int, shape (n,)
    histories : list of ndarray of int
        The items before, all of them.
    held : ndarray of bool, shape (n,)
        Where the recommender did not learn from what came next.
    seen : sparse array of shape (n, items)
    """

    X: NDArray[np.float32]
    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    histories: list[NDArray[np.int64]]
    held: NDArray[np.bool_]
    seen: sparse.csr_array

    def at(self, where: Any) -> Rows:
        index = np.arange(len(self.X))[where]
        return Rows(self.X[index], self.users[index], self.targets[index], [self.histories[i] for i in index],
                    self.held[index], self.seen[index])  # fmt: skip


class World:
    """One recommender and its users, of which three parts share none."""

    def __init__(self, data: Interactions, held: int, seed: int, shares: tuple[float, float] = (0.6, 0.15)) -> None:
        self.data, self.held, self.seed = data, held, seed
        order = np.random.default_rng(seed).permutation(len(data.users))
        ends = (int(shares[0] * len(order)), int(sum(shares) * len(order)))
        self.users = dict(zip(PARTS, np.split(order, ends), strict=True))

    def fit(self, model: Any, validate: int = 1000) -> Any:
        """A recommender that knows all but the last items of each user, of which the first says when to stop."""
        self.model = model
        known = [one[: -self.held - 1] for one in self.data.sequences]
        of = np.random.default_rng(self.seed + 1).permutation(len(known))[:validate]

        def loss(current: Any) -> float:
            return -self._quality(current, of, -self.held - 1)[0]

        return model.fit(known, self.data.n_items, validate=loss)

    def quality(self) -> tuple[float, float]:
        """NDCG@10 of the items that were held back from the recommender, of all users, and that of popularity."""
        of = np.arange(len(self.data.sequences))
        one, other = np.mean([self._quality(self.model, of, -at) for at in range(1, self.held + 1)], axis=0)
        return float(one), float(other)

    def _quality(self, model: Any, users: NDArray[np.int64], at: int) -> tuple[float, float]:
        """NDCG@10 of the item at a place of each sequence, of the recommender and of popularity."""
        before = [self.data.sequences[u][:at] for u in users]
        wanted = np.array([self.data.sequences[u][at] for u in users])
        scores = model.scores(users if isinstance(model, LightGCN) else before)
        plain = np.tile(self.popularity, (len(users), 1))
        return gain(scores, before, wanted), gain(plain, before, wanted)

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        known = np.concatenate([one[: -self.held - 1] for one in self.data.sequences])
        return np.bincount(known, minlength=self.data.n_items).astype(float)

    def rows(self, part: str, model: Any = None, most: int | None = None) -> Rows:
        """Vectors of the users of a part, by this recommender or another; some of the rows where `most` is given."""
        model = self.model if model is None else model
        of = isinstance(model, LightGCN)
        places = [(u, t) for u in self.users[part] for t in self._places(len(self.data.sequences[u]), of)]
        if most is not None and len(places) > most:
            drawn = np.random.default_rng(self.seed + 2).permutation(len(places))[:most]
            places = [places[i] for i in np.sort(drawn)]
        users = np.array([u for u, _ in places])
        histories = [self.data.sequences[u][:t] for u, t in places]
        targets = np.array([self.data.sequences[u][t] for u, t in places])
        left = np.array([len(self.data.sequences[u]) - t for u, t in places])
        X = model.vectors(users if of else histories)
        return Rows(X, users, targets, histories, left <= self.held, taken(histories, self.data.n_items))

    def _places(self, length: int, of_users: bool) -> range:
        return range(length - self.held, length) if of_users else range(1, length)

    def kinds(self, rows: Rows) -> NDArray[np.bool_]:
        """Which kinds what came next is of, shape (n, kinds)."""
        return np.column_stack([flags[rows.targets] for flags in self.data.kinds.values()])


def taken(histories: list[NDArray[np.int64]], n_items: int) -> sparse.csr_array:
    """A table with a 1 for each item of each history."""
    ends = np.concatenate([[0], np.cumsum([len(one) for one in histories])])
    return sparse.csr_array((np.ones(ends[-1], dtype=bool), np.concatenate(histories), ends), shape=(len(histories), n_items))


def gain(scores: NDArray[Any], before: list[NDArray[np.int64]], wanted: NDArray[np.int64], k: int = 10) -> float:
    """Mean NDCG of one item wanted, among those not taken before."""
    goal = scores[np.arange(len(wanted)), wanted].copy()
    for row, items in zip(scores, before, strict=True):
        row[items] = -np.inf
    place = (scores >= goal[:, None]).sum(axis=1) + (scores[np.arange(len(wanted)), wanted] < goal) - 1
    return float(np.where(place < k, 1 / np.log2(place + 2), 0.0).mean())
