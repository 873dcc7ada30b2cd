"""Named concepts as long vectors of signs, which are bound and bundled into one vector and read back from it.

The algebra is that of multiply, add, permute: binding is the product, its own inverse; bundling is the sign of the sum; what is
in a vector is told by cosines. Vectors of different concepts are nearly orthogonal because they are long and drawn at random.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from locum.core.errors import InvalidData, require_one_of, require_whole

__all__ = ["TIES", "Codebook", "Decoded", "Document", "bundle_cosine", "bundle_recovery", "concepts_of", "parts_of"]

TIES = ("random", "zero", "negative")
_SIGNS = NDArray[np.int8]
_POINTS = 101  # of the quadrature over the cosine of the right value

Term = str | tuple[str, ...]
Document = Sequence[Term]


@dataclass(frozen=True)
class Decoded:
    """A concept, or concepts bound together, found in a vector.

    Attributes
    ----------
    concept : str or tuple of str
    cosine : float
    p_value : float
        Probability that an unrelated code has such a cosine, times the number of codes it is the best of, at most 1.
    """

    concept: str | tuple[str, ...]
    cosine: float
    p_value: float

    def __str__(self) -> str:
        name = self.concept if isinstance(self.concept, str) else " * ".join(self.concept)
        return f"{name} {self.cosine:.3f} (p = {self.p_value:.2g})"


@final
class Codebook:
    """A vector of random signs for each of some named concepts.

    The vector of a concept rests on its name, `dim` and `random_state` alone, so a codebook that grows keeps the vectors it
    had. Names are the same where they differ in case or spaces only.

    Parameters
    ----------
    concepts : sequence of str
    dim : int, default=1024
    random_state : int, default=101

    Attributes
    ----------
    concepts : tuple of str
    vectors : ndarray of int8, shape (concepts, dim)
        Of 1 and -1.

    Raises
    ------
    InvalidData
        No concepts, a name that is empty, or two names that are the same.

    Notes
    -----
    Cost: a byte a sign; ranking n vectors takes 2 n concepts dim operations.

    References
    ----------
    Gayler, *Multiplicative Binding, Representation Operators and Analogy* (1998); Kanerva, *Hyperdimensional Computing*,
    Cognitive Computation 1 (2009). As the codes of a probe: Bronzini et al., arXiv 2509.25045.

    Examples
    --------
    >>> codes = Codebook(["Denmark", "krone", "Mexico", "peso", "Japan", "yen"])
    >>> both = codes.bundle([codes.bind("Denmark", "krone"), codes.bind("Mexico", "peso")])
    >>> found = codes.decode(both, unbind=["mexico"], top=1)[0][0]
    >>> found.concept, 0.4 < found.cosine < 0.6, found.p_value < 1e-9
    ('peso', True, True)
    """

    def __init__(self, concepts: Sequence[str], dim: int = 1024, *, random_state: int = 101) -> None:
        require_whole(1, dim=dim)
        require_whole(0, random_state=random_state)
        names = [str(one) for one in concepts]
        self._index: dict[str, int] = {}
        for i, name in enumerate(names):
            key = _normal(name)
            if not key:
                raise InvalidData(f"expected concepts with a name, got {name!r} as number {i}")
            if key in self._index:
                raise InvalidData(
                    "expected concepts that differ in more than case and spaces, got "
                    f"{names[self._index[key]]!r} and {name!r}; merge them or rename one"
                )
            self._index[key] = i
        if not names:
            raise InvalidData("expected at least one concept, got none")
        self.concepts, self.dim, self.random_state = tuple(names), dim, random_state
        self.vectors: _SIGNS = np.stack([_code(key, dim, random_state) for key in self._index])

    def __repr__(self) -> str:
        return f"Codebook({len(self)} concepts, dim={self.dim}, random_state={self.random_state})"

    def __len__(self) -> int:
        return len(self.concepts)

    def __contains__(self, concept: str) -> bool:
        return _normal(concept) in self._index

    def __getitem__(self, concept: str) -> _SIGNS:
        return self.vectors[self.index(concept)]

    def index(self, concept: str) -> int:
        """Where a concept stands in `concepts`.

        Parameters
        ----------
        concept : str

        Raises
        ------
        InvalidData
            No such concept; the nearest are told.
        """
        at = self._index.get(_normal(concept))
        if at is None:
            near = difflib.get_close_matches(_normal(concept), list(self._index), n=3)
            hint = f"near are {', '.join(self.concepts[self._index[one]] for one in near)}" if near else "and none is near it"
            raise InvalidData(f"there is no concept {concept!r} among the {len(self)} of the codebook; {hint}")
        return at

    # ------------------------------------------------------------------ algebra
    def bind(self, *parts: str | ArrayLike) -> _SIGNS:
        """The product of concepts or vectors, which is like none of them and gives one back when bound with the others.

        Parameters
        ----------
        *parts : str or array-like of shape (..., dim)
        """
        if not parts:
            raise InvalidData("expected at least one concept or vector to bind, got none")
        vectors = [self[one] if isinstance(one, str) else self._wide(one) for one in parts]
        return np.asarray(np.prod(np.broadcast_arrays(*vectors), axis=0))

    def bundle(self, vectors: Sequence[ArrayLike] | ArrayLike, *, ties: str = "random") -> _SIGNS:
        """The sign of the sum of vectors, which is like each of them.

        Of two vectors half of the places are ties. Where those are drawn (the same ones for the same sum), signs made by what
        knows the two but not the draw have a cosine of one half with their bundle; where they are all -1, a constant vector has
        that cosine with every bundle.

        Parameters
        ----------
        vectors : array-like of shape (m, dim)
        ties : {"random", "zero", "negative"}, default="random"
            Signs drawn from the sum itself, 0, or -1.

        Raises
        ------
        InvalidData
            Nothing to bundle, or vectors of another length.
        """
        require_one_of(TIES, ties=ties)
        if not len(vectors):  # type: ignore[arg-type]
            raise InvalidData("expected at least one vector to bundle, got none")
        total = np.stack([self._wide(one) for one in vectors]).astype(np.int64).sum(axis=0)  # type: ignore[union-attr]
        signs = np.sign(total).astype(np.int8)
        if ties == "negative":
            return np.where(signs == 0, -1, signs).astype(np.int8)
        if ties == "random" and not signs.all():
            drawn = np.random.default_rng(_digest(total.tobytes())).integers(0, 2, self.dim, dtype=np.int8) * 2 - 1
            return np.where(signs == 0, drawn, signs).astype(np.int8)
        return signs

    def compose(self, documents: Sequence[Document], *, ties: str = "random") -> _SIGNS:
        """The vector of each document, shape (documents, dim).

        Parameters
        ----------
        documents : sequence
            Each a sequence of terms to bundle: a concept, or a tuple of concepts to bind.
        ties : {"random", "zero", "negative"}, default="random"
            As for :meth:`bundle`.

        Examples
        --------
        >>> codes = Codebook(["Denmark", "krone", "Mexico", "peso"], dim=64)
        >>> codes.compose([[("Denmark", "krone"), ("Mexico", "peso")], ["krone"]]).shape
        (2, 64)
        """
        if not len(documents) or any(isinstance(one, str) for one in documents):
            raise InvalidData("expected documents, each a sequence of concepts or of tuples of them, got none or a text")
        return np.stack([self.bundle([self.bind(*parts_of(term)) for term in one], ties=ties) for one in documents])

    # ------------------------------------------------------------------ reading
    def cosines(self, vectors: ArrayLike) -> NDArray[np.float32]:
        """Cosine of each vector with each concept, shape (n, concepts); 0 for a vector of zeros.

        Parameters
        ----------
        vectors : array-like of shape (n, dim) or (dim,)
        """
        table = np.atleast_2d(self._wide(vectors)).astype(np.float32)
        lengths = np.linalg.norm(table, axis=1, keepdims=True) * np.sqrt(self.dim)
        found = table @ self.vectors.T.astype(np.float32)
        return np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)

    def unbind(self, vectors: ArrayLike, known: Sequence[str] | Sequence[Sequence[str]]) -> NDArray[Any]:
        """Vectors times the known concepts, shape (n, dim).

        Parameters
        ----------
        vectors : array-like of shape (n, dim) or (dim,)
        known : sequence of str, or a sequence of those, one for each vector
        """
        table = np.atleast_2d(self._wide(vectors))
        if all(isinstance(one, str) for one in known):
            return table * self.bind(*known) if len(known) else table
        if len(known) != len(table):
            raise InvalidData(f"expected known concepts for each of {len(table)} vectors, got {len(known)}")
        ones = np.ones(self.dim, dtype=np.int8)
        return table * np.stack([self.bind(ones, *told) for told in known])

    def decode(
        self, vectors: ArrayLike, unbind: Sequence[str] | Sequence[Sequence[str]] = (), *, top: int = 5
    ) -> list[list[Decoded]]:
        """The concepts nearest to each vector once known ones are taken out of it.

        Parameters
        ----------
        vectors : array-like of shape (n, dim) or (dim,)
        unbind : as for :meth:`unbind`, default=()
        top : int, default=5

        Returns
        -------
        list of list of Decoded
            For each vector the `top` concepts, nearest first, with p-values corrected for the size of the codebook.

        Notes
        -----
        A p-value tells whether a code is in the vector. Whether the vector says anything of a network, controls tell.
        """
        require_whole(1, top=top)
        table = self.unbind(vectors, unbind)
        found = self.cosines(table)
        order = np.argsort(-found, axis=1, kind="stable")[:, :top]
        return [
            [Decoded(self.concepts[j], float(row[j]), self._p_value(float(row[j]), vector, len(self))) for j in best]
            for row, best, vector in zip(found, order, table, strict=True)
        ]

    def bound_pairs(self, vector: ArrayLike, n: int = 2) -> list[Decoded]:
        """Which two concepts are bound in a vector of which nothing is known: the nearest pair, then that of what it leaves.

        Every pair is tried. Three concepts bound together cannot be found one after the other, since no two are like all three.

        Parameters
        ----------
        vector : array-like of shape (dim,)
        n : int, default=2
            Pairs.

        Notes
        -----
        Cost: 2 concepts² dim operations a pair.
        """
        require_whole(1, n=n)
        if len(self) < 2:
            raise InvalidData("expected a codebook of two concepts or more to look for a pair, got one")
        given = np.asarray(self._wide(vector), dtype=np.float32)
        if given.ndim != 1 or not given.any():
            raise InvalidData(f"expected one vector that is not all 0, got shape {given.shape}")
        codes, left, found = self.vectors.astype(np.float32), given.copy(), []
        for _ in range(n):
            table = np.triu((codes * left) @ codes.T, k=1)
            table[np.tril_indices(len(self))] = -np.inf
            i, j = np.unravel_index(int(table.argmax()), table.shape)
            pair = codes[i] * codes[j]
            cosine = float(given @ pair / (np.linalg.norm(given) * np.sqrt(self.dim)))
            tried = len(self) * (len(self) - 1) // 2
            found.append(Decoded((self.concepts[i], self.concepts[j]), cosine, self._p_value(cosine, given, tried)))
            left -= (left @ pair / self.dim) * pair
        return found

    def _p_value(self, cosine: float, vector: NDArray[Any], tried: int) -> float:
        """Exact for vectors of signs; by the normal distribution for others."""
        if np.all(np.abs(vector) == 1):
            agreeing = round((1.0 + cosine) * self.dim / 2.0)
            return float(min(1.0, tried * stats.binom.sf(agreeing - 1, self.dim, 0.5)))
        return float(min(1.0, tried * stats.norm.sf(cosine * np.sqrt(self.dim))))

    def _wide(self, vectors: ArrayLike) -> NDArray[Any]:
        table = np.asarray(vectors)
        if not table.ndim or table.shape[-1] != self.dim or table.dtype.kind not in "iuf":
            raise InvalidData(f"expected vectors of {self.dim} numbers, as the codebook has, got shape {table.shape}")
        if table.dtype.kind == "f" and not np.isfinite(table).all():
            raise InvalidData("expected finite vectors, got NaN or infinity")
        return table


def bundle_cosine(m: int) -> float:
    """Expected cosine of a bundle with one of the m vectors in it, ties drawn at random.

    Parameters
    ----------
    m : int

    Examples
    --------
    >>> [bundle_cosine(m) for m in (1, 2, 3, 4, 5)]
    [1.0, 0.5, 0.5, 0.375, 0.375]
    """
    require_whole(1, m=m)
    return comb(m - 1, (m - 1) // 2) / 2 ** (m - 1)


def bundle_recovery(m: int, dim: int, concepts: int) -> float:
    """Probability that unbinding a key from a bundle of m pairs has its value as the nearest concept.

    With ρ the expected cosine, that of the value is N(ρ, (1 - ρ²) / dim), and those of others are N(0, 1 / dim).

    Parameters
    ----------
    m : int
        Pairs.
    dim : int
    concepts : int
        In the codebook.
    """
    require_whole(1, m=m, dim=dim, concepts=concepts)
    rho = bundle_cosine(m)
    points, weights = np.polynomial.hermite_e.hermegauss(_POINTS)
    beyond = stats.norm.cdf(np.sqrt(dim) * rho + np.sqrt(1.0 - rho**2) * points) ** (concepts - 1)
    return float(weights @ beyond / weights.sum())


# ---------------------------------------------------------------------- private
def parts_of(term: Term) -> tuple[str, ...]:
    """The concepts that a term binds."""
    return (term,) if isinstance(term, str) else tuple(term)


def concepts_of(documents: Sequence[Document], codebook: Codebook) -> set[str]:
    """Concepts that occur in documents, as the codebook writes them."""
    return {codebook.concepts[codebook.index(one)] for told in documents for term in told for one in parts_of(term)}


def _normal(name: str) -> str:
    return " ".join(name.split()).casefold()


def _digest(told: bytes) -> int:
    return int.from_bytes(hashlib.sha256(told).digest()[:16], "little")


def _code(key: str, dim: int, random_state: int) -> _SIGNS:
    rng = np.random.default_rng(_digest(f"{random_state} {dim} {key}".encode()))
    return (rng.integers(0, 2, dim, dtype=np.int8) * 2 - 1).astype(np.int8)
