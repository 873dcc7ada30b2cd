"""The few atoms to take from one vector, and to add, that bring it nearest to another, for many pairs of vectors at once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from locum.core.errors import InvalidData

__all__ = ["Candidates", "EditPath", "candidates", "exhaustive", "greedy"]

_FLOATS = NDArray[np.float64]
_CELLS = 20_000_000  # numbers that are held at a time


@dataclass(frozen=True)
class Candidates:
    """What may be changed in each vector: an atom each, and what it is multiplied by, below 0 where it is taken away.

    Rows have as many as the longest; those beyond a row's own have coefficient 0.
    """

    atom: NDArray[np.int64]
    coefficient: _FLOATS
    count: NDArray[np.int64]

    def take(self, rows: Any) -> Candidates:
        """Those of some vectors."""
        return Candidates(self.atom[rows], self.coefficient[rows], self.count[rows])


class EditPath(NamedTuple):
    """What was chosen, step by step; -1 and 0 in steps that a row did not take.

    Parameters
    ----------
    atom : ndarray of int, shape (n, steps)
    coefficient : ndarray of shape (n, steps)
        Below 0 where the atom is taken away.
    squared : ndarray of shape (n, steps + 1)
        Squared distance before the first step and after each.
    """

    atom: NDArray[np.int64]
    coefficient: _FLOATS
    squared: _FLOATS

    def change(self, k: int, atoms: _FLOATS) -> _FLOATS:
        """What the first k steps add to each vector."""
        steps = min(k, self.atom.shape[1])
        at = self.atom[:, :steps]
        rows, cols = np.nonzero(at >= 0)
        picked = sparse.csr_array(
            (self.coefficient[rows, cols], (rows, at[rows, cols])), shape=(len(at), len(atoms))
        )  # an atom may be taken away and added: these sum
        return np.asarray(picked @ atoms)


def candidates(before: Any, after: Any) -> Candidates:
    """Active latents of the source, to take away, and of the goal, to add.

    Parameters
    ----------
    before, after : sparse arrays of shape (n, atoms)
    """
    both = sparse.hstack([-before, after], format="csr")
    both.eliminate_zeros()
    count = np.diff(both.indptr)
    width = int(max(count.max(), 1))
    atom, coefficient = np.zeros((len(count), width), dtype=np.int64), np.zeros((len(count), width))
    rows = np.repeat(np.arange(len(count)), count)
    cols = np.arange(len(rows)) - np.repeat(both.indptr[:-1], count)
    atom[rows, cols], coefficient[rows, cols] = both.indices % before.shape[1], both.data
    return Candidates(atom, coefficient, count)


def greedy(difference: _FLOATS, found: Candidates, atoms: _FLOATS, gram: _FLOATS, steps: int) -> EditPath:
    """Step by step the candidate that brings the vector nearest; a row stops where none does.

    With c the chosen changes, r = difference + their sum and h = r·c for all candidates, a step changes the squared distance by
    2 h + |c|², and h by products of atoms that are known.

    Parameters
    ----------
    difference : ndarray of shape (n, width)
        The vector to edit less the goal.
    found : Candidates
    atoms : ndarray of shape (p, width)
    gram : ndarray of shape (p, p)
        Products of atoms.
    steps : int
        At most.
    """
    n, rows = len(difference), max(1, _CELLS // max(len(atoms), 1))
    parts = [_greedy(difference[i : i + rows], found.take(slice(i, i + rows)), atoms, gram, steps) for i in range(0, n, rows)]
    return EditPath(
        np.concatenate([one.atom for one in parts]), np.concatenate([one.coefficient for one in parts]),
        np.concatenate([one.squared for one in parts]),
    )  # fmt: skip


def _greedy(difference: _FLOATS, found: Candidates, atoms: _FLOATS, gram: _FLOATS, steps: int) -> EditPath:
    n, line = len(difference), np.arange(len(difference))
    atom, size = found.atom, found.coefficient
    free = np.arange(atom.shape[1]) < found.count[:, None]
    h = size * np.take_along_axis(difference @ atoms.T, atom, axis=1)
    own = size**2 * np.diag(gram)[atom]
    chosen, taken = np.full((n, steps), -1, dtype=np.int64), np.zeros((n, steps))
    squared = np.zeros((n, steps + 1))
    squared[:, 0] = (difference**2).sum(axis=1)
    for step in range(steps):
        gain = np.where(free, 2 * h + own, np.inf)
        j = gain.argmin(axis=1)
        go = gain[line, j] < 0
        if not go.any():
            squared[:, step + 1 :] = squared[:, [step]]
            break
        best, by = atom[line, j], np.where(go, size[line, j], 0.0)
        h += size * by[:, None] * gram[atom, best[:, None]]
        free[line[go], j[go]] = False
        chosen[go, step], taken[:, step] = best[go], by
        squared[:, step + 1] = np.maximum(squared[:, step] + np.where(go, gain[line, j], 0.0), 0.0)
    return EditPath(chosen, taken, squared)


def exhaustive(difference: _FLOATS, found: Candidates, atoms: _FLOATS, k: int, most: int) -> _FLOATS:
    """Smallest squared distance over all sets of at most k candidates, for each row, shape (n,).

    Raises
    ------
    InvalidData
        A row with more than `most` candidates.
    """
    if found.count.max() > most:
        raise InvalidData(f"expected rows with at most {most} candidates, got one with {found.count.max()}")
    out = np.empty(len(difference))
    for i, (d, count) in enumerate(zip(difference, found.count, strict=True)):
        c = found.coefficient[i, :count, None] * atoms[found.atom[i, :count]]
        sets = _sets(int(count), k)
        h, products = c @ d, c @ c.T
        out[i] = (d @ d + 2 * sets @ h + ((sets @ products) * sets).sum(axis=1)).min()
    return np.maximum(out, 0.0)


def _sets(count: int, k: int) -> _FLOATS:
    """All sets of at most k of so many, as rows of 0 and 1."""
    chosen: list[Sequence[int]] = [s for size in range(min(k, count) + 1) for s in itertools.combinations(range(count), size)]
    out = np.zeros((len(chosen), count))
    for i, members in enumerate(chosen):
        out[i, list(members)] = 1.0
    return out
