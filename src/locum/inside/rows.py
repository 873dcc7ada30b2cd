"""Rows of activations that a dictionary learns from, in memory; what is on disk is read by `locum.inside.store`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_one_of, require_whole

__all__ = ["ActivationRows", "ArrayStore", "SPLITS", "as_rows", "balanced_rows"]

SPLITS = ("train", "val", "test")
_FLOATS = NDArray[np.float32]
_TOGETHER = 16  # blocks that a batch is drawn from
_LEAST_BLOCK = 64  # rows in memory that count as a block


class ActivationRows(ABC):
    """Rows of one site, split by document, in blocks of which each is a random sample of what surrounds it.

    Attributes
    ----------
    name : str
        Of the site.
    width : int
    """

    name: str
    width: int

    @abstractmethod
    def blocks(self, split: str) -> list[tuple[int, int]]:
        """First row and row after the last of each block."""

    @abstractmethod
    def read_into(self, start: int, out: _FLOATS) -> None:
        """Fill `out`, of shape (n, width), with the n rows from position `start` on."""

    @abstractmethod
    def documents(self, split: str) -> NDArray[np.int64]:
        """Document of each row, in the order of :meth:`rows`."""

    @property
    @abstractmethod
    def mean_(self) -> NDArray[np.float64]:
        """Mean of the training rows, shape (width,)."""

    @property
    @abstractmethod
    def gram_(self) -> NDArray[np.float64]:
        """Mean outer product of the training rows, about zero, shape (width, width)."""

    # ------------------------------------------------------------------ reading
    @property
    @final
    def mean_squared_norm_(self) -> float:
        """Of the training rows."""
        return float(np.trace(self.gram_))

    @final
    def count(self, split: str = "train") -> int:
        """Number of rows.

        Parameters
        ----------
        split : {"train", "val", "test"}, default="train"
        """
        return sum(stop - start for start, stop in self.blocks(split))

    @final
    def rows(self, split: str = "train") -> _FLOATS:
        """All rows of a part, shape (n, width), in memory.

        Parameters
        ----------
        split : {"train", "val", "test"}, default="train"
        """
        out, filled = np.empty((self.count(split), self.width), dtype=np.float32), 0
        for start, stop in self.blocks(split):
            self.read_into(start, out[filled : filled + stop - start])
            filled += stop - start
        return out

    @final
    def chunks(self, most: int | None = None, split: str = "train") -> Iterator[tuple[int, _FLOATS]]:
        """Rows of a part block by block, in the order of :meth:`rows`, with the position that each piece begins at.

        Parameters
        ----------
        most : int or None, default=None
            Rows of a piece at most; whole blocks where None.
        split : {"train", "val", "test"}, default="train"
        """
        for start, stop in self.blocks(split):
            for at in range(start, stop, most or stop - start):
                out = np.empty((min(most or stop - start, stop - at), self.width), dtype=np.float32)
                self.read_into(at, out)
                yield at, out

    @final
    def batches(self, batch: int, *, split: str = "train", epochs: int = 1, random_state: int = 0) -> Iterator[_FLOATS]:
        """Rows in random order, each once an epoch.

        A batch is made of contiguous slices of up to sixteen blocks, so that the disk is read in sequence; blocks were shuffled
        when they were written. Sites of one store, read with the same seed, give the same tokens in the same order.

        Parameters
        ----------
        batch : int
            Rows; the last batch of an epoch may have fewer.
        split : {"train", "val", "test"}, default="train"
        epochs : int, default=1
        random_state : int, default=0

        Yields
        ------
        ndarray of shape (batch, width)
        """
        require_whole(1, batch=batch, epochs=epochs)
        if not self.count(split):
            raise InvalidData(f"there are no rows of the split {split!r} at {self.name!r}; give the split a share")
        for epoch in range(epochs):
            rng = np.random.default_rng([random_state, epoch])
            out, filled = np.empty((batch, self.width), dtype=np.float32), 0
            for start, stop in _pieces(self.blocks(split), batch, rng):
                while start < stop:
                    take = min(stop - start, batch - filled)
                    self.read_into(start, out[filled : filled + take])
                    start, filled = start + take, filled + take
                    if filled == batch:
                        yield out
                        out, filled = np.empty((batch, self.width), dtype=np.float32), 0
            if filled:
                yield out[:filled]


def _pieces(blocks: Sequence[tuple[int, int]], batch: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Contiguous pieces that cover all blocks once, of up to sixteen blocks by turns, each begun at a random row."""
    order = rng.permutation(len(blocks))
    for first in range(0, len(order), _TOGETHER):
        group = [blocks[i] for i in order[first : first + _TOGETHER]]
        step = max(1, -(-batch // len(group)))
        rings = []
        for start, stop in group:
            turn = int(rng.integers(start, stop))
            spans = [(turn, stop), (start, turn)]
            rings.append([(a, min(a + step, b)) for low, b in spans for a in range(low, b, step)])
        for turn in range(max(map(len, rings))):
            for ring in rings:
                if turn < len(ring):
                    yield ring[turn]


@final
class ArrayStore(ActivationRows):
    """Rows in memory, with what a store on disk has.

    Parameters
    ----------
    X : array-like of shape (n, width)
        A torch tensor may be given.
    documents : array-like of shape (n,), optional
        Document of each row; each row is one by itself where None.
    split : tuple of three floats, default=(1.0, 0.0, 0.0)
        Shares of the documents that go to train, val and test.
    name : str, default="array"
    random_state : int, default=0
        Of the split and of the order of rows.

    Raises
    ------
    InvalidData
        No table of finite numbers, or shares that do not sum to 1.

    Examples
    --------
    >>> rows = ArrayStore(np.arange(20.0).reshape(10, 2), split=(0.8, 0.2, 0.0))
    >>> rows.count("train"), rows.count("val"), rows.width
    (8, 2, 2)
    """

    def __init__(
        self,
        X: ArrayLike,
        documents: ArrayLike | None = None,
        *,
        split: tuple[float, float, float] = (1.0, 0.0, 0.0),
        name: str = "array",
        random_state: int = 0,
    ) -> None:
        table = finite_rows(X)
        label = np.arange(len(table)) if documents is None else np.asarray(documents)
        if label.shape != (len(table),):
            raise InvalidData(f"expected a document for each of {len(table)} rows, got shape {label.shape}")
        of, codes = np.unique(label, return_inverse=True)
        part = split_documents(len(of), split, random_state)[codes]
        rng = np.random.default_rng([random_state, 1])
        order = np.concatenate([rng.permutation(np.flatnonzero(part == i)) for i in range(3)])
        self.name, self.width = name, table.shape[1]
        self._rows, self._documents = table[order], label[order]
        ends = np.cumsum([0, *np.bincount(part, minlength=3)])
        self._spans = {split: (int(a), int(b)) for split, a, b in zip(SPLITS, ends[:-1], ends[1:], strict=True)}

    def blocks(self, split: str) -> list[tuple[int, int]]:
        require_one_of(SPLITS, split=split)
        start, stop = self._spans[split]
        step = max(_LEAST_BLOCK, -(-(stop - start) // (2 * _TOGETHER)))
        return [(at, min(at + step, stop)) for at in range(start, stop, step)]

    def read_into(self, start: int, out: _FLOATS) -> None:
        out[:] = self._rows[start : start + len(out)]

    def documents(self, split: str) -> NDArray[np.int64]:
        require_one_of(SPLITS, split=split)
        return self._documents[slice(*self._spans[split])]

    @cached_property
    def _training(self) -> NDArray[np.float64]:
        return self._rows[slice(*self._spans["train"])].astype(np.float64)

    @property
    def mean_(self) -> NDArray[np.float64]:
        return self._training.mean(axis=0)

    @cached_property
    def gram_(self) -> NDArray[np.float64]:
        return self._training.T @ self._training / len(self._training)


def balanced_rows(X: Any, kinds: ArrayLike, *, n: int | None = None, random_state: int = 0) -> ArrayStore:
    """Training rows of which each kind is as frequent as every other, such as those of images and of texts.

    A dictionary fitted to a mixture spends hardly any latents on what is rare in it. Rows of kinds with too few are repeated,
    of the others some are left out, so the mean and the scale that a fit starts from are those of the balanced rows.

    Parameters
    ----------
    X : ActivationRows, array-like or torch.Tensor of shape (n, width)
        Of a store the training part; it is taken into memory.
    kinds : array-like of shape (rows,)
        Kind of each training row, in the order of ``X.rows("train")``.
    n : int or None, default=None
        Rows in all; as many as there are where None.
    random_state : int, default=0

    Returns
    -------
    ArrayStore

    Raises
    ------
    InvalidData
        Kinds that do not fit the rows, or a single kind.
    """
    rows = as_rows(X)
    labels, count = np.asarray(kinds), rows.count("train")
    if isinstance(rows, ArrayStore) and rows is not X:
        table, documents = finite_rows(X), np.arange(count)  # in the order they were given in
    else:
        table, documents = rows.rows("train"), rows.documents("train")
    if labels.shape != (count,):
        raise InvalidData(f"expected a kind for each of {count} training rows, got shape {labels.shape}")
    known = np.unique(labels)
    if len(known) < 2:
        raise InvalidData(f"expected rows of two kinds or more, got {known.tolist()}")
    total = count if n is None else n
    require_whole(len(known), n=total)
    rng = np.random.default_rng([random_state, 3])
    picked = []
    for kind, share in zip(known, [len(part) for part in np.array_split(np.arange(total), len(known))], strict=True):
        of = np.flatnonzero(labels == kind)
        picked += [rng.permutation(of)[: share - at] for at in range(0, share, len(of))]
    chosen = np.concatenate(picked)
    return ArrayStore(table[chosen], documents[chosen], name=rows.name, random_state=random_state)


def as_rows(X: Any, name: str = "X") -> ActivationRows:
    """Rows of a store as they are, and an array or a tensor as an :class:`ArrayStore`.

    Parameters
    ----------
    X : ActivationRows, array-like or torch.Tensor of shape (n, width)
    name : str, default="X"
    """
    return X if isinstance(X, ActivationRows) else ArrayStore(X, name=name)


def finite_rows(X: Any, width: int | None = None) -> _FLOATS:
    """A table of finite float32 numbers, of the width expected where one is."""
    if hasattr(X, "detach"):
        X = X.detach().cpu().float().numpy()
    try:
        table = np.asarray(X, dtype=np.float32)
    except (TypeError, ValueError):
        raise InvalidData(f"expected rows of numbers, shape (n, width), got {type(X).__name__}") from None
    if table.ndim != 2 or not table.size:
        raise InvalidData(f"expected rows of numbers, shape (n, width), got shape {table.shape}")
    if width is not None and table.shape[1] != width:
        raise InvalidData(f"expected rows {width} wide, as in fit, got {table.shape[1]}")
    bad = ~np.isfinite(table).all(axis=1)
    if bad.any():
        raise InvalidData(f"expected finite activations, got NaN or infinity in row {int(np.argmax(bad))}: drop that row first")
    return table


def split_documents(n: int, shares: Sequence[float], random_state: int) -> NDArray[np.int64]:
    """Part, 0 for train, 1 for val and 2 for test, of each of n documents; a share above 0 gets at least one."""
    part = np.asarray(shares, dtype=float)
    if part.shape != (3,) or not np.isfinite(part).all() or part.min() < 0 or abs(part.sum() - 1) > 1e-9 or part[0] == 0:
        raise InvalidData(f"expected split= as three shares, of train above 0, that sum to 1, got {tuple(shares)}")
    wanted = np.count_nonzero(part)
    if n < wanted:
        raise InvalidData(f"expected at least {wanted} documents for {wanted} splits, got {n}")
    sizes = np.where(part > 0, np.maximum(1, np.floor(part * n)), 0).astype(int)
    while sizes.sum() > n:
        sizes[np.argmax(sizes)] -= 1
    sizes[0] += n - sizes.sum()
    out = np.empty(n, dtype=np.int64)
    out[np.random.default_rng([random_state, 0]).permutation(n)] = np.repeat(np.arange(3), sizes)
    return out
