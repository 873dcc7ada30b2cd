"""Names for the latents of a recommender, from the words of the items that excite them, and how well names predict activity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.stats import false_discovery_control, rankdata
from sklearn.base import BaseEstimator, clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.validation import check_is_fitted

from locum.core.bounds import bootstrap_mean, bounded_mean
from locum.core.errors import InvalidData, NotFresh, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.dictionary import Dictionary
from locum.inside.rows import finite_rows

__all__ = ["ItemConcepts", "KindDetection", "NameConfidence", "detect_kinds", "title_coherence"]

_FLOATS = NDArray[np.float64]
_BLOCK = 128  # units whose scores are ranked at a time
_NEAR = 25  # items on either side, in the order of popularity, among which matched ones are drawn


@dataclass(frozen=True)
class NameConfidence:
    """How well the name of each latent, alone, says when it is active, in histories of other users.

    Attributes
    ----------
    latent : ndarray of int, shape (m,)
        Those with a name that are active in some row and not in all.
    name : tuple of str
    precision, recall, f1 : ndarray of shape (m,)
    shuffled : ndarray of shape (m,)
        95th percentile of the F1 with the names of other latents.
    p, q : ndarray of shape (m,)
        Share of the others' names that do as well, and the same corrected by Benjamini and Hochberg.
    mean_f1, mean_shuffled : Fidelity
        Over latents; the second with the mean over the others' names.
    n : int
        Rows.
    """

    latent: NDArray[np.int64]
    name: tuple[str, ...]
    precision: _FLOATS
    recall: _FLOATS
    f1: _FLOATS
    shuffled: _FLOATS
    p: _FLOATS
    q: _FLOATS
    mean_f1: Fidelity
    mean_shuffled: Fidelity
    n: int

    def claimed(self, rate: float = 0.1) -> NDArray[np.int64]:
        """Latents whose names may be relied on: F1 above the percentile, and q at most `rate`; the surest first.

        Parameters
        ----------
        rate : float, default=0.1
            Share of them that may be wrong.
        """
        good = np.flatnonzero((self.f1 > self.shuffled) & (self.q <= rate))
        return self.latent[good[np.argsort(-self.f1[good], kind="stable")]]


@final
class ItemConcepts(BaseEstimator):
    """Names stand in for latents: the words that set apart the histories which excite a latent most.

    A history is the mean of the TF-IDF vectors of its last items. The name of a latent is the few words whose mean in the
    histories that excite it most, one a user, exceeds that in all histories by the most standard errors. The name alone then
    says when the latent is active: where the sum of its words in the history is above a threshold, set so that it says so as
    often as the latent was active in the histories that fitted.

    Parameters
    ----------
    terms : int, default=3
        Words of a name at most.
    top : int, default=40
        Histories that a name is made of, one a user.
    window : int, default=5
        Last items of a history that count.
    min_users : int, default=10
        Users that must excite a latent, or it has no name.
    vectorizer : object or None, default=None
        From texts to a sparse table, as those of scikit-learn; TF-IDF of words apart by spaces where None.

    Attributes
    ----------
    names_ : tuple of (str or None)
        Of each latent: words joined by ``" + "``.
    weights_ : sparse array of shape (n_latents, words)
    named_ : ndarray of int
        Latents with a name.
    rate_ : ndarray of shape (n_latents,)
        Share of the rows that fitted in which each is active.
    words_ : ndarray of str
    vectorizer_ : object
        As it was fitted.

    Raises
    ------
    InvalidData
        Histories that are empty, or of items without a text.

    Notes
    -----
    Cost: a sort of what is active in each latent, and, for the confidence of m names on n rows with k active latents each,
    m n k comparisons.

    **Departures**: the paper has a language model write the phrase and say where it applies; here words and a threshold do,
    which is no judgement on whether a phrase reads well.

    References
    ----------
    Wang, Zhang, Ma, Guo and Zhang, arXiv 2411.06112.

    Examples
    --------
    >>> from locum.inside import SparseAutoencoder, TopK
    >>> rng = np.random.default_rng(0)
    >>> texts = [f"film{i} {'horror' if i < 10 else 'comedy'}" for i in range(20)]
    >>> histories = [rng.integers(0, 10, 5) + 10 * (u % 2) for u in range(200)]
    >>> X = np.eye(2)[np.arange(200) % 2] + 0.01 * rng.normal(size=(200, 2))
    >>> sae = SparseAutoencoder(4, TopK(1), epochs=60, batch_size=32, learning_rate=1e-2).fit(X)
    >>> concepts = ItemConcepts(terms=1).fit(sae, X, histories, texts)
    >>> sorted({name for name in concepts.names_ if name})
    ['comedy', 'horror']
    >>> latent = concepts["horror"]
    """

    def __init__(self, terms: int = 3, *, top: int = 40, window: int = 5, min_users: int = 10, vectorizer: Any = None) -> None:
        self.terms = terms
        self.top = top
        self.window = window
        self.min_users = min_users
        self.vectorizer = vectorizer

    def fit(
        self,
        dictionary: Dictionary,
        X: ArrayLike,
        histories: Sequence[ArrayLike],
        documents: Sequence[str],
        *,
        users: ArrayLike | None = None,
    ) -> Self:
        """Name the latents of a dictionary.

        Parameters
        ----------
        dictionary : Dictionary
            Fitted.
        X : array-like of shape (n, width)
            Vectors of recommendation.
        histories : sequence of array-like of int
            Items behind each vector, the last one last.
        documents : sequence of str
            A text for each item.
        users : array-like of shape (n,), optional
            User of each row; each is one by itself where not given.

        Returns
        -------
        self
        """
        require_whole(1, terms=self.terms, top=self.top, window=self.window, min_users=self.min_users)
        rows = finite_rows(X)
        owner = np.arange(len(rows)) if users is None else np.asarray(users)
        if owner.shape != (len(rows),):
            raise InvalidData(f"expected a user for each of {len(rows)} rows, got shape {owner.shape}")
        self.dictionary_ = dictionary
        told = TfidfVectorizer(token_pattern=r"\S+", stop_words="english")
        self.vectorizer_ = told if self.vectorizer is None else clone(self.vectorizer)
        self._items = sparse.csr_array(self.vectorizer_.fit_transform(documents), dtype=np.float64)
        self.words_ = np.asarray(self.vectorizer_.get_feature_names_out())
        table = self._table(histories, len(rows))
        codes = dictionary.encode(rows).tocsc()
        self.rate_ = np.diff(codes.indptr) / len(rows)
        self.weights_ = self._weights(table, codes, owner)
        chosen = np.diff(self.weights_.indptr) > 0
        self.named_ = np.flatnonzero(chosen)
        self.names_: tuple[str | None, ...] = tuple(self._name(j) if chosen[j] else None for j in range(len(chosen)))
        self._cuts = _cuts(sparse.csc_array(table @ self.weights_[self.named_].T), self.rate_[self.named_])
        self._users = np.unique(owner) if users is not None else np.array([], dtype=int)
        return self

    def _table(self, histories: Sequence[ArrayLike], n: int) -> sparse.csr_array:
        """The mean TF-IDF vector of the last items of each history."""
        if len(histories) != n:
            raise InvalidData(f"expected a history for each of {n} rows, got {len(histories)}")
        last = [np.asarray(one)[-self.window :] for one in histories]
        sizes = np.array([len(one) for one in last])
        if not sizes.all():
            raise InvalidData(f"expected histories with items, got an empty one in row {int(np.argmin(sizes))}")
        items = np.concatenate(last).astype(np.int64)
        if items.min() < 0 or items.max() >= self._items.shape[0]:
            raise InvalidData(f"expected a text for each item, got {self._items.shape[0]} texts and item {items.max()}")
        ends = np.concatenate([[0], np.cumsum(sizes)])
        share = np.repeat(1.0 / sizes, sizes)
        return sparse.csr_array(sparse.csr_array((share, items, ends), shape=(n, self._items.shape[0])) @ self._items)

    def _weights(self, table: sparse.csr_array, codes: Any, owner: NDArray[Any]) -> sparse.csr_array:
        """How many standard errors each word of a name is above its mean."""
        mean = np.asarray(table.mean(axis=0)).ravel()
        spread = np.sqrt(np.maximum(np.asarray(table.multiply(table).mean(axis=0)).ravel() - mean**2, 1e-12))
        rows, columns, values = [], [], []
        for j in range(codes.shape[1]):
            found = _strongest(codes, j, owner, self.top)
            if len(found) < self.min_users:
                continue
            here = np.asarray(table[found].mean(axis=0)).ravel()
            gap = (here - mean) / spread * np.sqrt(len(found))
            best = np.argsort(-gap, kind="stable")[: self.terms]
            best = best[gap[best] > max(2.0, gap[best[0]] / 2)]  # words that say much less than the first one blur it
            rows += [j] * len(best)
            columns += best.tolist()
            values += (gap[best] / spread[best]).tolist()
        return sparse.csr_array((values, (rows, columns)), shape=(codes.shape[1], table.shape[1]))

    def _name(self, j: int) -> str:
        start, stop = self.weights_.indptr[j], self.weights_.indptr[j + 1]
        at = self.weights_.indices[start:stop]
        said = self.weights_.data[start:stop]
        return " + ".join(self.words_[at[np.argsort(-said, kind="stable")]])

    # ------------------------------------------------------------------ use
    def named(self, word: str) -> NDArray[np.int64]:
        """Latents whose names hold a word, the most active first.

        Parameters
        ----------
        word : str
        """
        check_is_fitted(self, "weights_")
        found = [j for j in self.named_ if word in (self.names_[j] or "").split(" + ")]
        return np.array(sorted(found, key=lambda j: -self.rate_[j]), dtype=np.int64)

    def __getitem__(self, word: str) -> int:
        """The most active latent whose name holds a word."""
        found = self.named(word)
        if not len(found):
            raise InvalidData(f"no latent has {word!r} in its name; see names_")
        return int(found[0])

    def confidence(
        self, X: ArrayLike, histories: Sequence[ArrayLike], *, users: ArrayLike | None = None, level: float = 0.95
    ) -> NameConfidence:
        """Precision, recall and F1 of names in histories of other users, beside those of all other names.

        Names of other latents, with thresholds set for this one, make the null: a p-value is the share of those that do as
        well, the name itself counted. Other latents of the same name are no part of it.

        Parameters
        ----------
        X : array-like of shape (n, width)
        histories : sequence of array-like of int
        users : array-like of shape (n,), optional
            Refused where they fitted.
        level : float, default=0.95

        Returns
        -------
        NameConfidence

        Raises
        ------
        NotFresh
            A user whose histories made the names.
        InvalidData
            Fewer than two different names.
        """
        check_is_fitted(self, "weights_")
        rows = finite_rows(X, self.dictionary_.n_features_in_)
        if users is not None:
            both = np.intersect1d(np.asarray(users), self._users)
            if len(both):
                raise NotFresh(f"{len(both)} of the users made the names (the first is {both[0]}): measure on others")
        codes = self.dictionary_.encode(rows).tocsc()[:, self.named_]
        active = np.diff(codes.indptr)
        kept = np.flatnonzero((active > 0) & (active < len(rows)))
        names = [self.names_[j] for j in self.named_]
        if len(kept) < 2 or len(set(names)) < 2:
            raise InvalidData("expected two latents or more with different names that are active in some rows, got fewer")
        scores = self._table(histories, len(rows)) @ self.weights_[self.named_].T
        f1 = np.empty((len(names), len(kept)))
        own: list[tuple[float, float]] = []
        of = {int(j): at for at, j in enumerate(kept)}
        for i, hits, said in _predictions(sparse.csc_array(scores), codes[:, kept], self._cuts[:, kept]):
            f1[i] = 2.0 * hits / np.maximum(said + active[kept], 1)
            if i in of:
                at = of[i]
                own.append((hits[at] / max(said[at], 1), hits[at] / active[kept[at]]))
        return _judged(f1, kept, np.array(own), names, self.named_, len(rows), level)


def _cuts(scores: sparse.csc_array, rates: _FLOATS) -> _FLOATS:
    """For each name and latent, the score above which rows lie as often as the latent is active, as nearly as ties allow."""
    n, cuts = scores.shape[0], np.zeros((scores.shape[1], len(rates)))
    wanted = np.rint(rates * n).astype(np.int64)
    for i in range(scores.shape[1]):
        levels, sizes = np.unique(scores.data[scores.indptr[i] : scores.indptr[i + 1]], return_counts=True)
        above = np.concatenate([np.cumsum(sizes[::-1])[::-1], [0]])  # rows above 0, and above each level
        after = np.searchsorted(-above, -wanted, side="left").clip(1)  # the first level with no more above it than wanted
        nearer = above[after - 1] - wanted < wanted - above[after]
        cuts[i] = np.concatenate([[0.0], levels])[after - nearer]
    return cuts


def _predictions(scores: sparse.csc_array, codes: Any, cuts: _FLOATS) -> Iterator[tuple[int, _FLOATS, _FLOATS]]:
    """For each name, rows in which it is right to say that each latent is active, and rows in which it says so."""
    row, latent = codes.tocoo().coords
    for i, cut in enumerate(cuts):
        one = scores[:, [i]].toarray()[:, 0]
        hits = np.bincount(latent[one[row] > cut[latent]], minlength=len(cut)).astype(float)
        said = len(one) - np.searchsorted(np.sort(one), cut, side="right").astype(float)
        yield i, hits, said


def _strongest(codes: Any, j: int, owner: NDArray[Any], top: int) -> NDArray[np.int64]:
    """Rows that excite a latent most, the strongest of each user."""
    start, stop = codes.indptr[j], codes.indptr[j + 1]
    at = codes.indices[start:stop][np.argsort(-codes.data[start:stop], kind="stable")]
    first = np.sort(np.unique(owner[at], return_index=True)[1])
    return at[first[:top]]


def _judged(
    f1: _FLOATS, kept: NDArray[np.int64], own: _FLOATS, names: list[Any], named: NDArray[np.int64], n: int, level: float
) -> NameConfidence:
    mine = f1[kept, np.arange(len(kept))]
    label = np.unique(names, return_inverse=True)[1]
    other = label[:, None] != label[kept][None, :]
    above = ((f1 >= mine[None, :] - 1e-12) & other).sum(axis=0)
    p = (1.0 + above) / (1.0 + other.sum(axis=0))
    null = np.where(other, f1, np.nan)
    found = [mine, np.nanmean(null, axis=0)]
    means = []
    for name, values in zip(("F1 of names", "F1 of other names"), found, strict=True):
        ends = bounded_mean(np.clip(values, 0.0, 1.0), 0.0, 1.0, level)
        means.append(
            Fidelity(name, float(values.mean()), ends.lower, ends.upper, level, len(kept), "", "latents on held-out users",
                     ends.method)
        )  # fmt: skip
    return NameConfidence(
        named[kept], tuple(names[i] for i in kept), own[:, 0], own[:, 1], mine, np.nanquantile(null, 0.95, axis=0), p,
        false_discovery_control(p), means[0], means[1], n,
    )  # fmt: skip


# ---------------------------------------------------------------------- what units are about
@dataclass(frozen=True)
class KindDetection:
    """How well the unit that was chosen for each kind tells rows of that kind, in rows of other users.

    Attributes
    ----------
    kinds : tuple of str
    unit : ndarray of int, shape (kinds,)
        Chosen on the training rows.
    area : ndarray of shape (kinds,)
        Under the receiver operating characteristic, on the test rows.
    """

    kinds: tuple[str, ...]
    unit: NDArray[np.int64]
    area: _FLOATS


def detect_kinds(train: Any, train_kinds: ArrayLike, test: Any, test_kinds: ArrayLike, kinds: Sequence[str]) -> KindDetection:
    """Choose a unit for each kind on some rows, and see on others how well it tells that kind from the rest.

    Kinds may go together, unlike those of :func:`~locum.inside.detect_concepts`. A unit that is lower where the kind is does
    not count: give signed units twice, once negated.

    Parameters
    ----------
    train : array or sparse array of shape (n, units)
    train_kinds : array-like of bool, shape (n, kinds)
    test, test_kinds : as `train`, `train_kinds`
        Of other users.
    kinds : sequence of str
        Their names.

    Raises
    ------
    InvalidData
        Tables that do not fit together, or a kind that all rows have, or none.
    """
    flags, held = np.asarray(train_kinds, dtype=bool), np.asarray(test_kinds, dtype=bool)
    fits = all(one.shape == (table.shape[0], len(kinds)) for one, table in ((flags, train), (held, test)))
    if train.shape[1] != test.shape[1] or not fits:
        raise InvalidData(
            f"expected rows with {len(kinds)} flags each and the same units, got {train.shape} with {flags.shape} and "
            f"{test.shape} with {held.shape}"
        )
    for name, one, other in zip(kinds, flags.T, held.T, strict=True):
        if one.all() or other.all() or not one.any() or not other.any():
            raise InvalidData(f"expected rows with and without {name!r}, in training and in test; leave that kind out")
    unit = _areas(train, flags).argmax(axis=0)
    area = _areas(test[:, unit], held)[np.arange(len(kinds)), np.arange(len(kinds))]
    return KindDetection(tuple(kinds), unit, area)


def _areas(scores: Any, flags: NDArray[np.bool_]) -> _FLOATS:
    """Area under the curve of each unit for each kind, shape (units, kinds); ties count half."""
    with_it, n = flags.sum(axis=0).astype(float), len(flags)
    parts = []
    for at in range(0, scores.shape[1], _BLOCK):
        block = scores[:, at : at + _BLOCK]
        ranks = rankdata(block.toarray() if sparse.issparse(block) else block, axis=0)
        parts.append(ranks.T @ flags)
    return np.asarray((np.concatenate(parts) - with_it * (with_it + 1) / 2) / (with_it * (n - with_it)))


def title_coherence(
    lists: ArrayLike,
    embeddings: ArrayLike,
    popularity: ArrayLike,
    *,
    draws: int = 20,
    level: float = 0.95,
    random_state: int = 0,
) -> Fidelity:
    """How much more alike the items of a latent are than items as popular, by the mean cosine of two of them.

    Parameters
    ----------
    lists : array-like of int, shape (latents, k)
        Items that each latent favours.
    embeddings : array-like of shape (items, width)
        Of texts about the items.
    popularity : array-like of shape (items,)
    draws : int, default=20
        Lists that are drawn for each latent, item by item among those about as popular.
    level : float, default=0.95
        Of the interval over latents.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Lists of fewer than two items, fewer than two lists, or items without an embedding.
    """
    items, vectors = np.asarray(lists), finite_rows(embeddings).astype(np.float64)
    counts = np.asarray(popularity, dtype=float)
    if items.ndim != 2 or len(items) < 2 or items.shape[1] < 2 or items.min() < 0 or items.max() >= len(vectors):
        raise InvalidData(f"expected two lists or more, of two or more of {len(vectors)} items, got shape {items.shape}")
    if counts.shape != (len(vectors),):
        raise InvalidData(f"expected the popularity of each of {len(vectors)} items, got shape {counts.shape}")
    require_whole(1, draws=draws)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(random_state)
    order = np.argsort(counts, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    matched = [_alike(unit, _as_popular(items, order, place, rng)) for _ in range(draws)]
    gap = _alike(unit, items) - np.mean(matched, axis=0)
    ends = bootstrap_mean(gap, level, random_state=random_state)
    return Fidelity(
        "cosine of titles above matched", float(gap.mean()), ends.lower, ends.upper, level, len(gap), "", "latents", ends.method
    )


def _as_popular(
    items: NDArray[np.int64], order: NDArray[np.int64], place: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Lists of other items about as popular, none twice in a list."""
    out = np.full(items.shape, -1, dtype=np.int64)
    for column in range(items.shape[1]):
        left = np.arange(len(items))
        for _ in range(200):
            moved = place[items[left, column]] + rng.integers(-_NEAR, _NEAR + 1, size=len(left))
            drawn = order[np.clip(moved, 0, len(order) - 1)]
            bad = (drawn[:, None] == items[left]).any(axis=1) | (drawn[:, None] == out[left]).any(axis=1)
            out[left[~bad], column] = drawn[~bad]
            left = left[bad]
            if not len(left):
                break
        else:
            raise InvalidData(f"expected more than {len(order)} items, or shorter lists: too few others are as popular")
    return out


def _alike(unit: _FLOATS, items: NDArray[np.int64]) -> _FLOATS:
    """Mean cosine of two different items of each list."""
    k = items.shape[1]
    total = unit[items].sum(axis=1)
    return np.asarray(((total**2).sum(axis=1) - k) / (k * (k - 1)))
