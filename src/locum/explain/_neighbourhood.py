"""Rows near a row, on the data manifold; and the asking of a target that every local explanation does.

Which rows may take part in a fit and which may only score is decided by their content: about one row in eight, whoever draws
it, is held out. So no row ever does both, whatever is explained together and in whatever order. Random draws are seeded by
the content of the row that is explained, so that it has the same explanation alone and among others.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locum.core._evidence import records
from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.core.target import Target

__all__ = ["Background", "Explained", "Fresh", "Neighbourhood", "content", "explained", "foretold", "held_out"]

_FLOAT = NDArray[np.float64]
_MOST_ROWS = 4000
_BATCH_VALUES = 1 << 25  # values in one query: 256 MB, beyond which a query is cut
_CANDIDATES = 4


# ---------------------------------------------------------------------- rows by their content
def content(Z: _FLOAT) -> NDArray[np.uint64]:
    """A number for each row of shape (n, d) that depends on nothing but what the row holds, shape (n,)."""
    bits = np.where(np.isnan(Z), np.nan, Z + 0.0).view(np.uint64)
    keys = _mixed(np.arange(1, Z.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) | np.uint64(1)
    # Round numbers fill the upper half of a double only; without the fold their products would agree.
    return _mixed(((bits ^ (bits >> np.uint64(32))) * keys).sum(axis=1, dtype=np.uint64))


def held_out(Z: _FLOAT) -> NDArray[np.bool_]:
    """Which rows may only score, shape (n,): about one in eight."""
    return content(Z) >> np.uint64(61) == 0


def _mixed(h: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Every bit spread over all others (the finaliser of SplitMix64)."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


# ---------------------------------------------------------------------- asking
class Fresh(NamedTuple):
    """Distinct rows that took no part in a fit, how often each was drawn, and what the target answers."""

    rows: _FLOAT
    weights: _FLOAT
    answers: NDArray[Any]


@dataclass(frozen=True)
class Background:
    """The rows that explanations are made against, and the target that they are asked of.

    Attributes
    ----------
    target : Target
    domain : Domain
    rows : ndarray of shape (n, d)
        Encoded, in an order set by their content alone; at most 4,000.
    random_state : int
    """

    target: Target
    domain: Domain
    rows: _FLOAT
    random_state: int

    @classmethod
    def of(cls, target: Target, data: Any, domain: Domain | None, random_state: int) -> Background:
        """Read and check what an explainer was given; nothing is asked."""
        if not isinstance(target, Target):
            raise InvalidData(f"expected a Target, got {type(target).__name__}; make one with locum.target(...)")
        if target.recorded:
            raise InvalidData(
                f"expected a target that answers new rows, and {target.name!r} only has recorded answers, so nothing near a "
                "row can be asked; fit a stand-in to them with locum.fit, and explain that"
            )
        if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer) or random_state < 0:
            raise InvalidData(f"expected random_state to be a whole number of 0 or more, got {random_state!r}")
        domain = domain or target.domain or Domain.of(data)
        rows = domain.encode(data)
        if len(rows) < 2:
            raise InvalidData(f"expected at least two rows of data to draw from, got {len(rows)}")
        _refuse_unknown(domain, rows, "data")
        order = np.argsort(content(rows), kind="stable")
        if len(order) > _MOST_ROWS:
            picked = np.random.default_rng(random_state).choice(len(order), _MOST_ROWS, replace=False)
            order = order[np.sort(picked)]
        return cls(target, domain, rows[order], int(random_state))

    @property
    def name(self) -> str:
        """The distribution in words."""
        return f"{len(self.rows)} rows of the data"

    def read(self, X: Any) -> _FLOAT:
        """Rows to explain as numbers, shape (m, d)."""
        Z = self.domain.encode(X)
        if not len(Z):
            raise InvalidData("expected at least one row to explain, got none")
        _refuse_unknown(self.domain, Z, "X")
        return Z

    def plain(self, z: _FLOAT) -> tuple[Any, ...]:
        """One encoded row as JSON-ready values."""
        return tuple(records(self.domain, z[None])[0].values())

    def rng(self, z: _FLOAT, stage: str) -> np.random.Generator:
        """The random numbers of one stage of explaining one row."""
        return np.random.default_rng([self.random_state, int(content(z[None])[0]), zlib.crc32(stage.encode())])

    def ask(self, drawn: Sequence[_FLOAT], purpose: str = "fit") -> list[NDArray[Any]]:
        """What the target answers for several sets of encoded rows, all asked in one query."""
        sizes = [len(Z) for Z in drawn]
        if not sum(sizes):
            return [np.empty(0) for _ in drawn]
        rows = np.concatenate(list(drawn))
        step = max(1, _BATCH_VALUES // rows.shape[1])
        parts = [
            self.target.query(self.domain.decode(rows[start : start + step]), purpose) for start in range(0, len(rows), step)
        ]
        return np.split(np.concatenate(parts), np.cumsum(sizes)[:-1])

    def score(self, drawn: Sequence[_FLOAT]) -> list[Fresh]:
        """Ask each set's distinct rows that never fitted nor tuned anything, all in one query that scores."""
        distinct = [np.unique(content(Z), return_index=True, return_counts=True)[1:] for Z in drawn]
        sets = [(Z[first], count.astype(float)) for Z, (first, count) in zip(drawn, distinct, strict=True)]
        sizes = [len(Z) for Z, _ in sets]
        if sum(sizes):
            fresh = self.target.fresh(self.domain.decode(np.concatenate([Z for Z, _ in sets])))
            kept = np.split(fresh, np.cumsum(sizes)[:-1])
            sets = [(Z[keep], count[keep]) for (Z, count), keep in zip(sets, kept, strict=True)]
        answers = self.ask([Z for Z, _ in sets], "score")
        return [Fresh(Z, count, said) for (Z, count), said in zip(sets, answers, strict=True)]


def _refuse_unknown(domain: Domain, Z: _FLOAT, where: str) -> None:
    unknown = (Z < 0) & domain.categorical
    if unknown.any():
        i, j = np.argwhere(unknown)[0]
        raise InvalidData(
            f"row {i} of {where} has a category in column {domain.names[j]!r} that the domain does not know; give a domain= of "
            "rows that have it, or leave the row out"
        )


# ---------------------------------------------------------------------- what is explained
@dataclass(frozen=True)
class Explained:
    """The one number of an answer that is explained.

    Attributes
    ----------
    text : str
    label : any
        The class whose answering is explained, where answers are labels.
    index : int or None
        Which probability or value is explained, where there are several.
    answer : any
        The whole answer, JSON-ready.
    """

    text: str
    label: Any
    index: int | None
    answer: Any

    def of(self, answers: NDArray[Any]) -> _FLOAT:
        """That number of each of n answers, shape (n,)."""
        if self.index is not None:
            return answers[:, self.index].astype(float)
        return (answers == self.label).astype(float) if self.label is not None else answers.astype(float)


def explained(target: Target, answers: NDArray[Any], wanted: Any) -> list[Explained]:
    """What is explained of each answer: the class or the position `wanted`, or where it is None the answer's own.

    Raises
    ------
    InvalidData
        A class that the target does not have; several values a row, of which none was chosen.
    """
    if target.output == "value":
        return [_value(answer, wanted) for answer in answers]
    classes = target.classes.tolist() if target.classes is not None else []
    if wanted is not None and wanted not in classes:
        # Where nobody named the classes, one may exist that no answer has shown yet; but none can be told apart from a slip.
        raise InvalidData(f"expected output= to be one of the classes {classes[:10]}, got {wanted!r}")
    out = []
    for answer in answers:
        index = None
        if target.output == "probability":
            index = int(answer.argmax()) if wanted is None else classes.index(wanted)
            label = classes[index]
        else:
            label = answer.item() if wanted is None else wanted
        text = f"the answer {label}" if index is None else f"the probability of {label}"
        out.append(Explained(text, label, index, answer.tolist()))
    return out


def _value(answer: Any, wanted: Any) -> Explained:
    width = np.size(answer)
    if np.ndim(answer) == 0 and wanted is None:
        return Explained("the value", None, None, float(answer))
    if np.ndim(answer) > 1 or wanted not in range(width if np.ndim(answer) else 0):
        what = f"{width} values a row: choose the one to explain with output=0 to {width - 1}"
        raise InvalidData(f"expected one value a row, or which of them to explain, got {what if np.ndim(answer) else wanted!r}")
    return Explained(f"value {wanted}", None, int(wanted), np.asarray(answer).tolist())


# ---------------------------------------------------------------------- how faithful
def foretold(truth: _FLOAT, said: _FLOAT, *, weights: Any, region: str, random_state: int) -> Fidelity | None:
    """R2 of what an explanation foretells on fresh points.

    Where the target's answers are all the same it has none: then the share that is foretold, if all are, else the RMSE. None
    where fewer than two points are left.
    """
    if len(truth) < 2:
        return None
    settings = {"weights": weights, "region": region, "random_state": random_state}
    if np.ptp(truth) == 0 and np.allclose(truth, said, rtol=1e-9, atol=1e-12):
        return measure("agreement").fidelity(truth == truth, truth == truth, **settings)
    for name in ("r2", "rmse"):
        try:
            return measure(name).fidelity(truth, said, **settings)
        except InvalidData:  # undefined on these points
            continue
    return None


# ---------------------------------------------------------------------- near rows
class Neighbourhood:
    """New rows made of cells of real ones, and how near they are.

    A real row takes about half of its cells from another, the nearest of four that are picked at random. All of them come from
    one row, so that they go together as they do in the data.

    Parameters
    ----------
    domain : Domain
    rows : ndarray of shape (n, d)
        Encoded rows of the data.

    Attributes
    ----------
    numeric : ndarray of bool, shape (d,)
    spread : ndarray of shape (d,)
        Standard deviation of each numeric column over what is known of it; 1 for the others.
    """

    def __init__(self, domain: Domain, rows: _FLOAT) -> None:
        self.rows = rows
        self.numeric = ~domain.categorical
        self.center, self.spread = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        for j in np.flatnonzero(self.numeric):
            known = rows[~np.isnan(rows[:, j]), j]
            if known.size:
                self.center[j], self.spread[j] = known.mean(), known.std() or 1.0

        self._holes = self.numeric & np.isnan(rows).any(axis=0)
        self._filled, self._marks = self.filled(rows), self.marks(rows)

    def filled(self, Z: _FLOAT) -> _FLOAT:
        """Numbers in standard deviations from the mean, shape (n, d); 0 where one is missing, and for categories."""
        return np.where(self.numeric & ~np.isnan(Z), (Z - self.center) / self.spread, 0.0)

    def marks(self, Z: _FLOAT) -> _FLOAT:
        """What is compared as same or not: categories, and whether a number is missing where some are."""
        return np.hstack([np.where(np.isnan(Z), -1.0, Z)[:, ~self.numeric], np.isnan(Z)[:, self._holes]])

    def linear(self, z: _FLOAT) -> NDArray[np.bool_]:
        """Which columns hold a number that is known in one encoded row of shape (d,)."""
        return self.numeric & ~np.isnan(z)

    def gaps(self, Z: _FLOAT, other: _FLOAT) -> _FLOAT:
        """How far apart cells are: standard deviations; 1 for different categories, or where one of two values is missing."""
        apart = np.abs(Z - other) / self.spread
        out = np.where(self.numeric, apart, np.sign(apart))
        return np.where(np.isnan(out), np.isnan(Z) != np.isnan(other), out)

    def partners(self, Z: _FLOAT, rng: np.random.Generator) -> _FLOAT:
        """For each row of shape (n, d) another real one, the nearest of four that are picked at random."""
        picked = rng.integers(len(self.rows), size=(_CANDIDATES, len(Z)))
        filled, marks = self.filled(Z), self.marks(Z)
        away = np.empty(picked.shape)
        for k, choice in enumerate(picked):
            apart = self._filled[choice] - filled
            away[k] = np.einsum("ij,ij->i", apart, apart) + (self._marks[choice] != marks).sum(axis=1)
        away[away == 0] = np.inf  # a row is no partner of its own
        return self.rows[picked[away.argmin(axis=0), np.arange(len(Z))]]

    def crossed(self, Z: _FLOAT, rng: np.random.Generator, kept: NDArray[np.bool_] | None = None) -> _FLOAT:
        """Each row of shape (n, d) crossed with a partner, as pairs of shape (n, 2, d): one has the cells that the other lacks.

        Columns `kept`, a mask of shape (d,), are those of the first in both.
        """
        partner = self.partners(Z, rng)
        swap = rng.random(Z.shape) < 0.5
        free = np.arange(Z.shape[1]) if kept is None else np.flatnonzero(~kept)
        if len(free) > 1:  # a row with all cells of one, or none, is that real row again
            alike = np.flatnonzero(swap[:, free].all(axis=1) | ~swap[:, free].any(axis=1))
            swap[alike, free[rng.integers(len(free), size=len(alike))]] ^= True
        pairs = np.stack([np.where(swap, partner, Z), np.where(swap, Z, partner)], axis=1)
        return pairs if kept is None else np.where(kept, Z[:, None], pairs)
