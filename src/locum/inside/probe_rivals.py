"""What a probe for concepts must beat: a linear one, nearest means, a table of pairs, and pairs permuted at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, need, require_whole
from locum.inside.codebook import Codebook, Document, parts_of
from locum.inside.rows import finite_rows

__all__ = ["concept_rivals", "pair_table", "permuted_pairs"]

_FLOATS = NDArray[np.float32]


def concept_rivals(
    codebook: Codebook,
    X: ArrayLike,
    documents: Sequence[Document],
    X_new: ArrayLike,
    *,
    epochs: int = 30,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    random_state: int = 0,
) -> dict[str, _FLOATS]:
    """Scores of all concepts for new states by plain probes that learn from the same documents.

    Parameters
    ----------
    codebook : Codebook
    X : array-like of shape (n, width)
        Pooled states that fit.
    documents : sequence of n documents
        Each concept of a document counts alike, in whatever term it stands.
    X_new : array-like of shape (m, width)
    epochs, learning_rate, batch_size : int, float, int, default=30, 1e-3, 64
        Of the linear probe.
    random_state : int, default=0

    Returns
    -------
    dict of str to ndarray of shape (m, concepts)
        "linear", the logits of a softmax over concepts, and "nearest mean", cosines with the mean state of each concept; states
        standardised.
    """
    torch = need("torch", "a linear probe", "nets")
    from locum.nets import seeded, train

    x, new = finite_rows(X), finite_rows(X_new, np.asarray(X).shape[1])
    if len(documents) != len(x):
        raise InvalidData(f"expected a document for each state, got {len(x)} states and {len(documents)} documents")
    scale = x.std(axis=0)
    scale[scale == 0] = 1.0
    x, new = (x - x.mean(axis=0)) / scale, (new - x.mean(axis=0)) / scale
    member = np.zeros((len(x), len(codebook)), dtype=np.float32)
    for row, told in zip(member, documents, strict=True):
        row[[codebook.index(one) for term in told for one in parts_of(term)]] = 1.0
    means = member.T @ x / np.maximum(member.sum(axis=0), 1.0)[:, None]
    unit = [one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (new, means)]
    with seeded(random_state):
        linear = torch.nn.Linear(x.shape[1], len(codebook))
    shares = member / member.sum(axis=1, keepdims=True)
    train(
        linear,
        lambda module, states, wanted: torch.nn.functional.cross_entropy(module(states), wanted),
        [torch.from_numpy(x), torch.from_numpy(shares)],
        epochs=epochs,
        batch_size=batch_size,
        optimizer=lambda p: torch.optim.AdamW(p, lr=learning_rate, weight_decay=1e-2),
        random_state=random_state,
    )
    with torch.inference_mode():
        logits = linear(torch.from_numpy(new)).numpy()
    return {"linear": logits, "nearest mean": unit[0] @ unit[1].T}


def pair_table(codebook: Codebook, documents: Sequence[Document], new: Sequence[Document]) -> _FLOATS:
    """Scores of all concepts for new documents by counting what was bound with their key: neither network nor states.

    Parameters
    ----------
    codebook : Codebook
    documents : sequence of documents
        Those that fit.
    new : sequence of m documents
        The last term of each a pair, of which the key alone is used.

    Returns
    -------
    ndarray of shape (m, concepts)
    """
    counts = np.zeros((len(codebook), len(codebook)), dtype=np.float32)
    for told in documents:
        for pair in (parts_of(term) for term in told):
            if len(pair) == 2:
                counts[codebook.index(pair[0]), codebook.index(pair[1])] += 1.0
    return counts[[codebook.index(parts_of(one[-1])[0]) for one in new]]


def permuted_pairs(
    documents: Sequence[Document], *, relations: Sequence[str] | None = None, random_state: int = 0
) -> list[tuple[tuple[str, str], ...]]:
    """Documents in which each pair has the value of another one: what a probe can still learn of these, it learns by heart.

    Parameters
    ----------
    documents : sequence of documents
        Of pairs; give those that fit and those to test on together, so that a pair gets the same value in both.
    relations : sequence of str or None, default=None
        Of the documents; values stay within their relation where given.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Terms that are not pairs, or relations of another number.
    """
    require_whole(0, random_state=random_state)
    names = [""] * len(documents) if relations is None else [str(one) for one in relations]
    if len(names) != len(documents):
        raise InvalidData(f"expected a relation for each of {len(documents)} documents, got {len(names)}")
    of: dict[tuple[str, str], str] = {}
    for told, name in zip(documents, names, strict=True):
        for term in told:
            pair = parts_of(term)
            if len(pair) != 2:
                raise InvalidData(f"expected documents of pairs, got the term {term!r}")
            of.setdefault((pair[0], pair[1]), name)
    rng = np.random.default_rng([random_state, 3])
    changed: dict[tuple[str, str], tuple[str, str]] = {}
    for name in sorted(set(of.values())):
        pairs = sorted(pair for pair, whose in of.items() if whose == name)
        values = [pairs[i][1] for i in _moved(len(pairs), rng)]
        changed |= {pair: (pair[0], value) for pair, value in zip(pairs, values, strict=True)}
    return [tuple(changed[parts_of(term)[0], parts_of(term)[1]] for term in told) for told in documents]


def _moved(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random cycle, which leaves nothing where it was."""
    order = rng.permutation(n)
    found = np.empty(n, dtype=np.int64)
    found[order] = np.roll(order, 1)
    return found
