"""Recommenders that know items by number alone; scores are made from one vector a history or user, or from several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_positive, require_whole
from locum.nets.training import seeded, train

__all__ = ["LightGCN", "MultiInterest", "SASRec"]

_FLOATS = NDArray[np.float32]
_TOGETHER = 2048  # inputs of a pass


class _Recommender(BaseEstimator, ABC):
    """What recommenders can do once they are trained; the module `state` of ``module_`` is where scores are made from."""

    module_: Any
    n_items_: int

    @abstractmethod
    def _inputs(self, X: Any) -> Any:
        """What the network takes, as a tensor."""

    @final
    def vectors(self, X: Any) -> _FLOATS:
        """What scores are made from, shape (n, width), or (n, interests, width).

        Parameters
        ----------
        X : sequence of array-like of int, or array-like of int
            Histories, the last item last; numbers of users for `LightGCN`.
        """
        return self._through(X, lambda given: self._states(given))

    @final
    def item_vectors(self) -> _FLOATS:
        """Vectors whose products with a state are scores, shape (items, width)."""
        torch = need("torch", "a recommender", "nets")
        check_is_fitted(self, "module_")
        with torch.inference_mode():
            return np.asarray(self.module_.table().cpu().numpy()).copy()

    @final
    def score(self, vectors: ArrayLike) -> _FLOATS:
        """Scores of all items, shape (n, items), from what `vectors` gives or what stands in for it.

        Parameters
        ----------
        vectors : array-like of shape (n, width) or (n, interests, width)
        """
        torch = need("torch", "a recommender", "nets")
        given = np.asarray(vectors, dtype=np.float32)
        table = self.item_vectors()
        if given.shape[-1] != table.shape[1]:
            raise InvalidData(f"expected vectors {table.shape[1]} wide, got shape {given.shape}")
        return self._scored(torch.from_numpy(given), torch.from_numpy(table)).numpy()

    @final
    def scores(self, X: Any) -> _FLOATS:
        """Scores of all items, shape (n, items), by the network as it is, with what is hooked to it.

        Parameters
        ----------
        X : as for `vectors`
        """
        return self._through(X, lambda given: self.module_(given))

    def _scored(self, vectors: Any, table: Any) -> Any:
        return vectors @ table.T

    def _states(self, given: Any) -> Any:
        return self.module_.states(given)

    def _through(self, X: Any, function: Callable[[Any], Any]) -> _FLOATS:
        torch = need("torch", "a recommender", "nets")
        check_is_fitted(self, "module_")
        given = self._inputs(X)
        device = next(self.module_.parameters()).device
        with torch.inference_mode():
            parts = [function(given[at : at + _TOGETHER].to(device)).cpu() for at in range(0, len(given), _TOGETHER)]
        return np.asarray(torch.cat(parts).numpy())


# ---------------------------------------------------------------------- sequences
@final
class SASRec(_Recommender):
    """Causal attention over the last items of a history; the state after the last one scores what comes next.

    Parameters
    ----------
    width : int, default=64
    blocks, heads : int, default=1, 1
    history : int, default=20
        Items that are seen.
    dropout : float, default=0.3
    negatives : int or None, default=None
        Items drawn that stand for all others in the softmax of a batch; all items where None.
    epochs, batch_size : int, default=40, 128
        A batch is of pieces of sequences, `history` items long.
    learning_rate : float, default=2e-3
        Of Adam.
    patience : int or None, default=None
        As for `locum.nets.train`, where `fit` has a validation.
    device : str or torch.device, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    module_ : torch.nn.Module
        From histories, filled up on the right with ``n_items``, to scores; ``module_.state`` is the vector they are made from.
    history_ : History
    n_items_ : int

    Raises
    ------
    InvalidData
        Items that there are not, no sequence of two items, or settings that cannot be used.

    Notes
    -----
    Cost: on one core three seconds an epoch for 100,000 interactions with 1,682 items.

    **Departures**: cross-entropy among all items, where the paper has one negative item for each that was taken.

    References
    ----------
    Kang and McAuley, *Self-Attentive Sequential Recommendation*, ICDM 2018, arXiv 1808.09781.

    Examples
    --------
    >>> loops = [(np.arange(12) + start) % 4 for start in range(4)]
    >>> model = SASRec(16, history=4, dropout=0.0, epochs=40, batch_size=8, learning_rate=1e-2).fit(loops, 4)
    >>> print(model.scores([[0, 1, 2], [3, 0]]).argmax(axis=1))
    [3 1]
    """

    def __init__(
        self,
        width: int = 64,
        *,
        blocks: int = 1,
        heads: int = 1,
        history: int = 20,
        dropout: float = 0.3,
        negatives: int | None = None,
        epochs: int = 40,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        patience: int | None = None,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.width = width
        self.blocks = blocks
        self.heads = heads
        self.history = history
        self.dropout = dropout
        self.negatives = negatives
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.device = device
        self.random_state = random_state

    def fit(self, sequences: Sequence[ArrayLike], n_items: int, *, validate: Callable[[SASRec], float] | None = None) -> Self:
        """Learn what follows what.

        Parameters
        ----------
        sequences : sequence of array-like of int
            Items of each user, the earliest first.
        n_items : int
        validate : callable or None, default=None
            Takes this, gives a number after each epoch; the weights of the lowest are kept.

        Returns
        -------
        self
        """
        torch = need("torch", "a recommender", "nets")
        from locum.nets._recommenders import AttentionNet, softmax_loss

        require_whole(1, width=self.width, blocks=self.blocks, heads=self.heads, history=self.history)
        require_positive(learning_rate=self.learning_rate)
        given = _checked(sequences, n_items, self)
        pieces = [part for one in given if len(one) > 1 for part in _pieces(one, self.history)]
        inputs = torch.from_numpy(_filled([part[:-1] for part in pieces], self.history, n_items))
        wanted = torch.from_numpy(_filled([part[1:] for part in pieces], self.history, n_items))

        def loss(net: Any, histories: Any, following: Any) -> Any:
            there = following < n_items
            return softmax_loss(net.states(histories)[there], net.table(), following[there], self.negatives)

        with seeded(self.random_state):
            net = AttentionNet(n_items, self.width, self.blocks, self.heads, self.history, self.dropout)
        return _trained(self, net, loss, [inputs, wanted], n_items, validate)

    def _inputs(self, X: Any) -> Any:
        return _histories(X, self.history, self.n_items_)

    def _states(self, given: Any) -> Any:
        found = self.module_.states(given)
        ends = (given < self.n_items_).sum(dim=1) - 1
        return found[range(len(given)), ends]


@final
class MultiInterest(_Recommender):
    """Several vectors a history, each by an attention of its own; an item scores as the interest that likes it best.

    Parameters
    ----------
    width, interests : int, default=64, 4
    history : int, default=20
        Items that are seen.
    dropout : float, default=0.3
    negatives : int or None, default=None
        Items drawn that stand for all others in the softmax of a batch; all items where None.
    epochs, batch_size : int, default=15, 512
        A batch is of histories and the item after each.
    learning_rate : float, default=2e-3
        Of Adam.
    patience : int or None, default=None
    device : str or torch.device, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    module_, history_, n_items_
        As for `SASRec`; the state has the shape (n, interests, width).

    Notes
    -----
    Cost: on one core five seconds an epoch for 100,000 interactions with 1,682 items.

    **Departures**: the last items' places count from the end; the interest that a next item is compared with is the one that
    likes it best, as in the paper, and all other items are the rest of the softmax.

    References
    ----------
    Cen and others, *Controllable Multi-Interest Framework for Recommendation*, KDD 2020, arXiv 2005.09347 (ComiRec-SA).

    Examples
    --------
    >>> loops = [(np.arange(12) + start) % 4 for start in range(4)]
    >>> model = MultiInterest(8, interests=2, history=3, dropout=0.0, batch_size=8, learning_rate=3e-2).fit(loops, 4)
    >>> model.vectors([[0, 1, 2], [3, 0]]).shape
    (2, 2, 8)
    """

    def __init__(
        self,
        width: int = 64,
        interests: int = 4,
        *,
        history: int = 20,
        dropout: float = 0.3,
        negatives: int | None = None,
        epochs: int = 15,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        patience: int | None = None,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.width = width
        self.interests = interests
        self.history = history
        self.dropout = dropout
        self.negatives = negatives
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.device = device
        self.random_state = random_state

    def fit(
        self, sequences: Sequence[ArrayLike], n_items: int, *, validate: Callable[[MultiInterest], float] | None = None
    ) -> Self:
        """Learn what follows what.

        Parameters
        ----------
        sequences : sequence of array-like of int
        n_items : int
        validate : callable or None, default=None
            As for `SASRec.fit`.

        Returns
        -------
        self
        """
        torch = need("torch", "a recommender", "nets")
        from locum.nets._recommenders import InterestNet, softmax_loss

        require_whole(1, width=self.width, interests=self.interests, history=self.history)
        require_positive(learning_rate=self.learning_rate)
        given = _checked(sequences, n_items, self)
        before = [one[max(0, t - self.history) : t] for one in given for t in range(1, len(one))]
        inputs = torch.from_numpy(_filled(before, self.history, n_items))
        wanted = torch.from_numpy(np.concatenate([one[1:] for one in given]))

        def loss(net: Any, histories: Any, following: Any) -> Any:
            states, table = net.states(histories), net.table()
            liked = (states * table[following][:, None]).sum(dim=2).argmax(dim=1)
            return softmax_loss(states[range(len(liked)), liked], table, following, self.negatives)

        with seeded(self.random_state):
            net = InterestNet(n_items, self.width, self.interests, self.history, self.dropout)
        return _trained(self, net, loss, [inputs, wanted], n_items, validate)

    def _inputs(self, X: Any) -> Any:
        return _histories(X, self.history, self.n_items_)

    def _scored(self, vectors: Any, table: Any) -> Any:
        return (vectors @ table.T).amax(dim=-2)


# ---------------------------------------------------------------------- users
@final
class LightGCN(_Recommender):
    """A vector for each user and item, averaged over neighbours in the graph; with no layers, matrix factorisation.

    Learned so that an item taken scores above one drawn at random (Bayesian personalised ranking).

    Parameters
    ----------
    width : int, default=64
    layers : int, default=2
        0 for plain matrix factorisation.
    decay : float, default=1e-4
        Weight of the squared lengths of the vectors of a batch.
    epochs, batch_size : int, default=100, 8192
    learning_rate : float, default=1e-2
        Of Adam.
    patience : int or None, default=None
    device : str or torch.device, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    module_, history_, n_items_
        As for `SASRec`; the network takes numbers of users.

    Notes
    -----
    Cost: on one core about a second an epoch for 100,000 interactions and two layers.

    References
    ----------
    He and others, *LightGCN*, SIGIR 2020, arXiv 2002.02126; Rendle and others, *BPR*, UAI 2009, arXiv 1205.2618.

    Examples
    --------
    >>> two = [np.array([0, 1, 2]), np.array([0, 1]), np.array([3, 4, 5]), np.array([4, 5])]
    >>> model = LightGCN(8, layers=1, epochs=60, batch_size=10).fit(two, 6)
    >>> scores = model.scores([1, 3])
    >>> bool(scores[0, 2] > scores[0, 3]), bool(scores[1, 3] > scores[1, 2])
    (True, True)
    """

    def __init__(
        self,
        width: int = 64,
        layers: int = 2,
        *,
        decay: float = 1e-4,
        epochs: int = 100,
        batch_size: int = 8192,
        learning_rate: float = 1e-2,
        patience: int | None = None,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.width = width
        self.layers = layers
        self.decay = decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.device = device
        self.random_state = random_state

    def fit(self, sequences: Sequence[ArrayLike], n_items: int, *, validate: Callable[[LightGCN], float] | None = None) -> Self:
        """Learn who takes what.

        Parameters
        ----------
        sequences : sequence of array-like of int
            Items of each user.
        n_items : int
        validate : callable or None, default=None
            As for `SASRec.fit`.

        Returns
        -------
        self
        """
        torch = need("torch", "a recommender", "nets")
        from locum.nets._recommenders import GraphNet

        require_whole(1, width=self.width)
        require_whole(0, layers=self.layers)
        require_positive(learning_rate=self.learning_rate)
        given = _checked(sequences, n_items, self)
        whose = np.repeat(np.arange(len(given)), [len(one) for one in given])
        pairs = torch.from_numpy(np.column_stack([whose, np.concatenate(given)]))
        taken = torch.from_numpy(np.unique(whose * n_items + np.concatenate(given))).to(self.device)

        def loss(net: Any, batch: Any) -> Any:
            users, items = net.propagated()
            user, item = batch[:, 0], batch[:, 1]
            other = _not_taken(torch, user, taken, n_items)
            first = net.vectors[torch.cat([user, net.n_users + item, net.n_users + other])]
            gap = (users[user] * (items[item] - items[other])).sum(dim=1)
            return torch.nn.functional.softplus(-gap).mean() + self.decay * first.square().sum() / len(batch)

        with seeded(self.random_state):
            net = GraphNet(pairs, len(given), n_items, self.width, self.layers)
        return _trained(self, net, loss, [pairs], n_items, validate)

    def _inputs(self, X: Any) -> Any:
        torch = need("torch", "a recommender", "nets")
        users = np.asarray(X)
        if users.ndim != 1 or users.dtype.kind not in "iu" or not len(users):
            raise InvalidData(f"expected numbers of users, shape (n,), got shape {users.shape} of {users.dtype}")
        if users.min() < 0 or users.max() >= self.module_.n_users:
            last = self.module_.n_users - 1
            raise InvalidData(f"expected users from 0 to {last}, as in fit, got {users.min()} to {users.max()}")
        return torch.from_numpy(users.astype(np.int64))


# ---------------------------------------------------------------------- helpers
def _trained(
    self: Any, net: Any, loss: Callable[..., Any], tensors: list[Any], n_items: int, validate: Callable[[Any], float] | None
) -> Any:
    torch = need("torch", "a recommender", "nets")
    self.module_, self.n_items_ = net, n_items
    self.history_ = train(
        net, loss, tensors, epochs=self.epochs, batch_size=self.batch_size, device=self.device, random_state=self.random_state,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=self.learning_rate),
        validate=None if validate is None else lambda _: validate(self), patience=None if validate is None else self.patience,
    )  # fmt: skip
    return self


def _not_taken(torch: Any, user: Any, taken: Any, n_items: int) -> Any:
    """An item for each user that the user did not take: drawn anew, a few times, where it was."""
    other = torch.randint(n_items, user.shape, device=user.device)
    for _ in range(3):
        key = user * n_items + other
        at = torch.searchsorted(taken, key).clamp(max=len(taken) - 1)
        other = torch.where(taken[at] == key, torch.randint(n_items, user.shape, device=user.device), other)
    return other


def _checked(sequences: Sequence[ArrayLike], n_items: Any, settings: Any) -> list[NDArray[np.int64]]:
    require_whole(1, epochs=settings.epochs, batch_size=settings.batch_size)
    require_whole(2, n_items=n_items)
    given = [_items(one, n_items, i) for i, one in enumerate(sequences)]
    if not any(len(one) > 1 for one in given):
        raise InvalidData("expected a sequence of two items or more, got none: there is nothing to learn from")
    return given


def _items(one: ArrayLike, n_items: int, at: int) -> NDArray[np.int64]:
    found = np.asarray(one)
    if found.ndim != 1 or not len(found):
        raise InvalidData(f"expected a sequence of items that is not empty, got shape {found.shape} at position {at}")
    if found.dtype.kind not in "iu" or found.min() < 0 or found.max() >= n_items:
        raise InvalidData(f"expected items as whole numbers from 0 to {n_items - 1}, got others at position {at}")
    return found.astype(np.int64)


def _pieces(one: NDArray[np.int64], history: int) -> list[NDArray[np.int64]]:
    """Parts of a sequence with one item more than a history, that overlap by half of it and reach to its end."""
    last = max(0, len(one) - history - 1)
    starts = [*range(0, last, max(1, history // 2)), last]
    return [one[at : at + history + 1] for at in starts]


def _filled(parts: Sequence[NDArray[np.int64]], length: int, with_: int) -> NDArray[np.int64]:
    out = np.full((len(parts), length), with_, dtype=np.int64)
    for row, part in zip(out, parts, strict=True):
        row[: len(part)] = part
    return out


def _histories(X: Any, history: int, n_items: int) -> Any:
    torch = need("torch", "a recommender", "nets")
    given = [_items(one, n_items, i)[-history:] for i, one in enumerate(X)]
    if not given:
        raise InvalidData("expected at least one history, got none")
    return torch.from_numpy(_filled(given, history, n_items))
