"""A dictionary of tastes stands in for the vector from which a recommender scores items: how good its lists stay, and edits.

Scores are made from one vector a history (or several), so a dictionary that gives the vector back can be put in its place, and
each latent can be made stronger or weaker before the items are ranked again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from locum.core.bounds import bootstrap, bounded_mean
from locum.core.errors import InvalidData, NotFresh, need, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.dictionary import Dictionary, SparseAutoencoder
from locum.inside.encoders import TopK
from locum.inside.rows import as_rows, finite_rows

__all__ = ["DoseResponse", "RecommenderAudit", "frozen_decoder"]

_FLOATS = NDArray[np.float64]
_CELLS = 8_000_000  # scores that are held at a time


@dataclass(frozen=True)
class DoseResponse:
    """What an edit does to lists of recommendations, at several strengths.

    Attributes
    ----------
    kind : str
        Of items, whose share is followed.
    doses : tuple of float
        Strengths, in order.
    share : ndarray of shape (doses,)
        Of the items of the kind in the lists.
    gain : ndarray of shape (doses,)
        Mean of NDCG with the items that came next.
    overlap : ndarray of shape (doses,)
        With the lists of what the dictionary gives back without an edit.
    rise : Fidelity
        Share at the highest dose less that at the lowest, over users.
    n : int
        Rows that were edited.
    """

    kind: str
    doses: tuple[float, ...]
    share: _FLOATS
    gain: _FLOATS
    overlap: _FLOATS
    rise: Fidelity
    n: int

    @property
    def monotone(self) -> bool:
        """Whether the share never falls from one dose to the next, and rises in all."""
        return bool((np.diff(self.share) >= 0).all() and self.share[-1] > self.share[0])


@final
class RecommenderAudit:
    """Puts a dictionary in the place of the vector that a recommender scores items from, and ranks again.

    Parameters
    ----------
    score : callable
        From vectors of shape (n, width), or (n, interests, width), to scores of all items, shape (n, items):
        ``lambda h: h @ item_vectors.T`` or ``recommender.score``. Of several interests each is replaced.
    dictionary : Dictionary
        Fitted on such vectors.
    n_items : int
    kinds : dict of str to array-like of bool, shape (items,), or None, default=None
        Kinds of items, such as genres.
    topk : int, default=10
        Length of a list.
    fitted_users : collection or None, default=None
        Users whose vectors fitted the dictionary, or tuned it; they are refused wherever fidelity is measured.

    Raises
    ------
    InvalidData
        Kinds that do not describe each item; scores of another number of items; vectors that are not finite.
    NotFresh
        A user that fitted is to be measured on.

    Notes
    -----
    Cost: one pass through the dictionary and one product with the items for each stand-in, or each dose.

    **Departures**: the error of the autoencoder is not added back after an edit, as in the paper; what changes is compared with
    the lists of the reconstruction without an edit.

    References
    ----------
    Wang, Zhang, Ma, Guo and Zhang, *Interpret the Internal States of Recommendation Model with Sparse Autoencoder*, arXiv
    2411.06112.

    Examples
    --------
    >>> rng, items = np.random.default_rng(0), np.repeat(np.eye(6), 5, axis=0)
    >>> X = (rng.random((900, 6)) < 0.3) * rng.uniform(0.5, 1.5, (900, 6))
    >>> sae = SparseAutoencoder(8, TopK(3), epochs=30, batch_size=64, learning_rate=1e-2).fit(X[:600])
    >>> kinds = {"first": items[:, 0] > 0}
    >>> audit = RecommenderAudit(lambda h: h @ items.T, sae, 30, kinds=kinds, topk=5)
    >>> wanted = (X[600:] @ items.T + 0.3 * rng.normal(size=(300, 30))).argmax(axis=1)
    >>> audit.ranking_fidelity(X[600:], wanted)["dictionary"]["NDCG@5 ratio"].value > 0.9
    True
    >>> latent = int(np.argmax(sae.atoms_[:, 0]))
    >>> doses = {c: audit.multiplied(latent, c) for c in (0.0, 1.0, 3.0)}
    >>> audit.dose_response(doses, "first", X[600:], wanted).monotone
    True
    """

    papers = ("recsae",)

    def __init__(
        self,
        score: Callable[[Any], Any],
        dictionary: Dictionary,
        n_items: int,
        *,
        kinds: Mapping[str, ArrayLike] | None = None,
        topk: int = 10,
        fitted_users: Collection[Any] | None = None,
    ) -> None:
        require_whole(1, topk=topk)
        require_whole(topk + 1, n_items=n_items)
        self.score, self.dictionary, self.n_items, self.topk = score, dictionary, n_items, topk
        self.kinds = {name: np.asarray(flags, dtype=bool) for name, flags in (kinds or {}).items()}
        for name, flags in self.kinds.items():
            if flags.shape != (n_items,):
                raise InvalidData(
                    f"expected kinds[{name!r}] to say of each of {n_items} items whether it is one, got {flags.shape}"
                )
        self._fitted = np.array([], dtype=int) if fitted_users is None else np.unique(np.asarray(list(fitted_users)))

    # ------------------------------------------------------------------ splicing
    def ranking_fidelity(
        self,
        X: ArrayLike,
        targets: ArrayLike,
        *,
        users: ArrayLike | None = None,
        seen: Any = None,
        stand_ins: Mapping[str, Callable[[Any], Any]] | None = None,
        level: float = 0.95,
        random_state: int = 0,
    ) -> dict[str, dict[str, Fidelity]]:
        """Quality of the lists with stand-ins in the place of the vector, and how alike the lists are.

        All items that were not seen before are ranked; the gain of a list is that of one item wanted, ``1 / log2(1 + place)``
        within the list. Intervals are over users; for ratios whole users are resampled, the same ones on both sides.

        Parameters
        ----------
        X : array-like of shape (n, width) or (n, interests, width)
        targets : array-like of int, shape (n,)
            The item that came next.
        users : array-like of shape (n,), optional
            Each row is a user by itself where not given.
        seen : sparse array of shape (n, items), optional
            Items that may not be recommended.
        stand_ins : dict of str to callable or None, default=None
            From rows of shape (n, width) to rows; the dictionary's ``reconstruct`` where None.
        level : float, default=0.95
        random_state : int, default=0

        Returns
        -------
        dict of str to dict of str to Fidelity
            For each stand-in ``NDCG@k original``, ``NDCG@k spliced``, ``NDCG@k ratio``, ``HR@k ratio`` (share of lists with the
            item wanted) and ``overlap@k``, k as `topk`.
        """
        x, owner = self._rows(X, users)
        wanted, taken = self._wanted(targets, len(x)), self._seen(seen, len(x))
        chosen = stand_ins if stand_ins is not None else {"dictionary": self.dictionary.reconstruct}
        before = self._ranked(x, wanted, taken)
        told: dict[str, Any] = {"owner": owner, "level": level, "random_state": random_state}
        out = {}
        for name, function in chosen.items():
            after = self._ranked(self._replaced(x, function), wanted, taken)
            out[name] = _compared(before, after, self.topk, **told)
        return out

    def gains(
        self, X: ArrayLike, targets: ArrayLike, *, seen: Any = None, stand_in: Callable[[Any], Any] | None = None
    ) -> tuple[_FLOATS, _FLOATS]:
        """NDCG of each row with the original and with a stand-in, shape (n,) each; for choices on other users.

        Parameters
        ----------
        X, targets
            As for `ranking_fidelity`.
        seen : sparse array of shape (n, items), optional
        stand_in : callable or None, default=None
            The dictionary's ``reconstruct`` where None.
        """
        x, _ = self._rows(X, None)
        wanted, taken = self._wanted(targets, len(x)), self._seen(seen, len(x))
        after = self._ranked(self._replaced(x, stand_in or self.dictionary.reconstruct), wanted, taken)
        return self._ranked(x, wanted, taken).gain, after.gain

    # ------------------------------------------------------------------ edits
    def multiplied(self, latent: int, by: float) -> Callable[[Any], Any]:
        """An edit: rows of which one latent is multiplied before they are given back.

        Parameters
        ----------
        latent : int
        by : float
            0 switches it off, 1 changes nothing.
        """
        return self.edited({latent: by})

    def edited(self, multipliers: Mapping[int, float]) -> Callable[[Any], Any]:
        """An edit: rows of which some latents are multiplied before they are given back.

        Parameters
        ----------
        multipliers : dict of int to float
        """
        n_latents = len(self.dictionary.atoms_)
        for latent, by in multipliers.items():
            require_whole(0, latent=int(latent) if isinstance(latent, np.integer) else latent)
            if latent >= n_latents or not np.isfinite(by):
                raise InvalidData(f"expected latents below {n_latents} and finite factors, got {latent!r} times {by!r}")

        def edit(rows: Any) -> Any:
            factors = np.ones(n_latents, dtype=np.float32)
            for latent, by in multipliers.items():
                factors[latent] = by
            return self.dictionary.decode(self.dictionary.encode(rows) @ sparse.diags_array(factors))

        return edit

    def shifted(self, direction: ArrayLike, by: float) -> Callable[[Any], Any]:
        """The rival of an edit: rows given back by the dictionary, plus a multiple of a direction.

        Parameters
        ----------
        direction : array-like of shape (width,)
            Such as the mean vector of the items of a kind.
        by : float
        """
        step = np.asarray(direction, dtype=np.float32) * np.float32(by)
        return lambda rows: self.dictionary.reconstruct(rows) + step

    def active(self, latent: int, X: ArrayLike) -> NDArray[np.bool_]:
        """Rows in which a latent is active, in any interest, shape (n,).

        Parameters
        ----------
        latent : int
        X : array-like of shape (n, width) or (n, interests, width)
        """
        x = _table(X)
        codes = self.dictionary.encode(x.reshape(-1, x.shape[-1]))[:, [latent]].toarray()[:, 0] != 0
        return codes.reshape(len(x), -1).any(axis=1)

    def recommend(self, X: ArrayLike, *, seen: Any = None, edit: Callable[[Any], Any] | None = None) -> NDArray[np.int64]:
        """The lists, best first, shape (n, topk).

        Parameters
        ----------
        X : array-like of shape (n, width) or (n, interests, width)
        seen : sparse array of shape (n, items), optional
        edit : callable or None, default=None
            What stands in for the vectors: what `edited` or `shifted` gives, or ``dictionary.reconstruct``; the vectors
            themselves where None.
        """
        x, _ = self._rows(X, None)
        taken = self._seen(seen, len(x))
        parts = []
        for at, scores in self._scored(x if edit is None else self._replaced(x, edit)):
            _leave_out(scores, taken, slice(at, at + len(scores)))
            parts.append(_best(scores, self.topk))
        return np.concatenate(parts)

    def dose_response(
        self,
        doses: Mapping[float, Callable[[Any], Any]],
        kind: str,
        X: ArrayLike,
        targets: ArrayLike,
        *,
        users: ArrayLike | None = None,
        seen: Any = None,
        level: float = 0.95,
    ) -> DoseResponse:
        """Share of a kind of items in the lists, and what lists lose, with an edit at several strengths.

        Give rows in which the latent is active: in others nothing can change.

        Parameters
        ----------
        doses : dict of float to callable
            Edits by their strength, as `multiplied` and `shifted` give them.
        kind : str
        X, targets
            As for `ranking_fidelity`.
        users : array-like of shape (n,), optional
        seen : sparse array of shape (n, items), optional
        level : float, default=0.95

        Returns
        -------
        DoseResponse

        Raises
        ------
        InvalidData
            A kind that is not known, fewer than two doses, or edits that change no row, as those of a latent that is never
            active.
        """
        if kind not in self.kinds:
            raise InvalidData(f"there is no kind {kind!r}; there is {', '.join(self.kinds) or 'none, give kinds='}")
        if len(doses) < 2:
            raise InvalidData(f"expected two doses or more, got {len(doses)}")
        x, owner = self._rows(X, users)
        wanted, taken = self._wanted(targets, len(x)), self._seen(seen, len(x))
        plain = self._ranked(self._replaced(x, self.dictionary.reconstruct), wanted, taken)
        order = sorted(doses)
        rows = [self._replaced(x, doses[dose]) for dose in order]
        if all(np.array_equal(rows[0], one) for one in rows[1:]):
            raise InvalidData("no dose changes a row: the latent is active in none of them, so it cannot be steered here")
        lists = [self._ranked(one, wanted, taken) for one in rows]
        shares = [self.kinds[kind][one.top].mean(axis=1) for one in lists]
        change = shares[-1] - shares[0]
        ends = bounded_mean(change, -1.0, 1.0, level, groups=owner)
        rise = Fidelity(
            f"rise of the share of {kind}", float(change.mean()), ends.lower, ends.upper, level, len(x), "",
            "rows of held-out users", ends.method, groups=_groups(owner),
        )  # fmt: skip
        return DoseResponse(
            kind, tuple(map(float, order)), np.array([one.mean() for one in shares]),
            np.array([one.gain.mean() for one in lists]), np.array([_overlap(plain.top, one.top).mean() for one in lists]),
            rise, len(x),
        )  # fmt: skip

    # ------------------------------------------------------------------ helpers
    def _rows(self, X: ArrayLike, users: Any) -> tuple[Any, Any]:
        x = _table(X)
        if users is None:
            return x, None
        owner = np.asarray(users)
        if owner.shape != (len(x),):
            raise InvalidData(f"expected a user for each of {len(x)} rows, got shape {owner.shape}")
        both = np.intersect1d(owner, self._fitted)
        if len(both):
            raise NotFresh(f"{len(both)} of the users fitted the dictionary (the first is {both[0]}): measure on others")
        return x, owner

    def _wanted(self, targets: ArrayLike, n: int) -> NDArray[np.int64]:
        wanted = np.asarray(targets)
        if wanted.shape != (n,) or wanted.dtype.kind not in "iu" or wanted.min() < 0 or wanted.max() >= self.n_items:
            raise InvalidData(f"expected the number of an item below {self.n_items} for each of {n} rows, got {wanted.shape}")
        return wanted.astype(np.int64)

    def _seen(self, seen: Any, n: int) -> sparse.csr_array | None:
        if seen is None:
            return None
        found = sparse.csr_array(seen)
        if found.shape != (n, self.n_items):
            raise InvalidData(f"expected seen= of shape {(n, self.n_items)}, got {found.shape}")
        return found

    def _replaced(self, x: Any, function: Callable[[Any], Any]) -> Any:
        given = np.asarray(function(x.reshape(-1, x.shape[-1])), dtype=np.float32)
        if given.size != x.size:
            raise InvalidData(f"expected the stand-in to give rows of shape {x.shape}, got {given.shape}")
        return given.reshape(x.shape)

    def _ranked(self, x: Any, wanted: NDArray[np.int64], seen: sparse.csr_array | None) -> _Lists:
        parts = []
        for at, scores in self._scored(x):
            rows = slice(at, at + len(scores))
            goal = np.take_along_axis(scores, wanted[rows, None], axis=1)
            _leave_out(scores, seen, rows)
            np.put_along_axis(scores, wanted[rows, None], goal, axis=1)
            parts.append(((scores >= goal).sum(axis=1) - 1, _best(scores, self.topk)))  # what scores the same comes first
        place = np.concatenate([one for one, _ in parts])
        gain = np.where(place < self.topk, 1.0 / np.log2(place + 2.0), 0.0)
        return _Lists(np.concatenate([one for _, one in parts]), gain, (place < self.topk).astype(float))

    def _scored(self, x: Any) -> Iterator[tuple[int, _FLOATS]]:
        """Scores of parts of the rows, with the row each begins at."""
        step = max(1, _CELLS // self.n_items)
        for at in range(0, len(x), step):
            part = x[at : at + step]
            scores = np.array(self.score(part), dtype=np.float64)
            if scores.shape != (len(part), self.n_items):
                raise InvalidData(f"expected scores of {self.n_items} items for each row, got shape {scores.shape}")
            yield at, scores


def _leave_out(scores: _FLOATS, seen: sparse.csr_array | None, rows: slice) -> None:
    if seen is not None:
        row, item = seen[rows].nonzero()
        scores[row, item] = -np.inf


def _best(scores: _FLOATS, k: int) -> NDArray[np.int64]:
    """The k items of each row that score most, the first of them first."""
    top = np.argpartition(scores, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)


@dataclass(frozen=True)
class _Lists:
    """Lists of some rows: items best first, and what each list gains and whether it holds the item wanted."""

    top: NDArray[np.int64]
    gain: _FLOATS
    hit: _FLOATS


def _compared(before: _Lists, after: _Lists, k: int, *, owner: Any, level: float, random_state: int) -> dict[str, Fidelity]:
    overlap = _overlap(before.top, after.top)

    def mean(name: str, values: _FLOATS) -> Fidelity:
        ends = bounded_mean(values, 0.0, 1.0, level, groups=owner)
        return _told(name, float(values.mean()), ends, level, len(values), owner)

    def ratio(name: str, one: _FLOATS, other: _FLOATS) -> Fidelity:
        if not other.any():
            raise InvalidData(f"{name} is not defined: no list of the original holds the item wanted; give more rows")
        ends = bootstrap(
            np.column_stack([one, other]), lambda m: m[..., 0] / m[..., 1], level, groups=owner, random_state=random_state
        )
        return _told(name, float(one.sum() / other.sum()), ends, level, len(one), owner)

    return {
        f"NDCG@{k} original": mean(f"NDCG@{k} original", before.gain),
        f"NDCG@{k} spliced": mean(f"NDCG@{k} spliced", after.gain),
        f"NDCG@{k} ratio": ratio(f"NDCG@{k} ratio", after.gain, before.gain),
        f"HR@{k} ratio": ratio(f"HR@{k} ratio", after.hit, before.hit),
        f"overlap@{k}": mean(f"overlap@{k}", overlap),
    }


def _told(name: str, value: float, ends: Any, level: float, n: int, owner: Any) -> Fidelity:
    found = ends.including(value)
    return Fidelity(
        name, value, found.lower, found.upper, level, n, "", "rows of held-out users", found.method, groups=_groups(owner)
    )


def _groups(owner: Any) -> int | None:
    return None if owner is None else len(np.unique(owner))


def _overlap(one: NDArray[np.int64], other: NDArray[np.int64]) -> _FLOATS:
    """Share of the items of each list that are in the other."""
    return (one[:, :, None] == other[:, None, :]).any(axis=2).mean(axis=1)


def _table(X: ArrayLike) -> Any:
    """Finite numbers of shape (n, width) or (n, interests, width)."""
    x = np.asarray(X, dtype=np.float32)
    if x.ndim not in (2, 3) or not x.size:
        raise InvalidData(f"expected vectors of shape (n, width) or (n, interests, width), got shape {x.shape}")
    finite_rows(x.reshape(len(x), -1))
    return x


# ---------------------------------------------------------------------- a rival
def frozen_decoder(
    X: Any, n_latents: int, k: int, *, epochs: int = 10, batch_size: int = 256, learning_rate: float = 2e-3,
    device: Any = "cpu", random_state: int = 0,
) -> SparseAutoencoder:  # fmt: skip
    """The rival of a dictionary: atoms drawn at random, which stay as they are, and an encoder that learns to use them.

    Parameters
    ----------
    X : as for `SparseAutoencoder.fit`
    n_latents, k : int
        As many as the dictionary has, and as many active.
    epochs : int, default=10
        0 for an encoder that is not trained either: the products with the atoms.
    batch_size : int, default=256
    learning_rate : float, default=2e-3
        Falls to a twentieth.
    device : str or torch.device, default="cpu"
    random_state : int, default=0

    Returns
    -------
    SparseAutoencoder
        Its ``epochs`` may be 0, with which it could not be fitted.
    """
    torch = need("torch", "a dictionary", "nets")
    from locum.inside._network import made
    from locum.nets import seeded, train

    rows = as_rows(X)
    model = SparseAutoencoder(
        n_latents, TopK(k), epochs=max(1, epochs), batch_size=batch_size, learning_rate=learning_rate, device=device,
        random_state=random_state,
    )  # fmt: skip
    model._check(rows, None)
    scale = math.sqrt(rows.width / rows.mean_squared_norm_)
    with seeded(random_state):
        net = made(TopK(k), n_latents, torch.as_tensor(rows.mean_, dtype=torch.float32) * scale, None, 1)
    net.atoms.requires_grad_(False)
    net.window = math.ceil(0.1 * rows.count("train") * max(1, epochs))
    if epochs:
        train(
            net, lambda one, x: one.learn(x, x).loss, [torch.from_numpy(rows.rows("train")) * scale], epochs=epochs,
            batch_size=batch_size, clip=1.0, device=device, random_state=random_state,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=learning_rate),
            schedule=lambda steps: torch.optim.lr_scheduler.LinearLR(steps, 1.0, 0.05, total_iters=epochs),
        )  # fmt: skip
    net.fold(scale, scale)
    model._take(net.eval(), np.asarray(rows.mean_), rows.width)
    return model
