"""Does one latent stand for a concept, do several share it, and is it silent where a more special latent is active?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from locum.core.bounds import bounded_mean
from locum.core.errors import InvalidData, need, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.probing import sparse_probe
from locum.inside.rows import finite_rows
from locum.inside.tap import Tap

__all__ = ["ConceptAbsorption", "WordRows", "concept_absorption", "first_letter_rows"]


@dataclass(frozen=True)
class ConceptAbsorption:
    """How a dictionary holds one concept.

    Attributes
    ----------
    latents : tuple of int
        Those that share the concept: the most telling one, and more as long as each makes a probe on them better. More than
        one is feature splitting.
    f1 : tuple of float
        Of the probes on the first one, two and so on, on the rows that chose them.
    recall : Fidelity
        Share of the rows with the concept on which any of the latents is active, of those that the dense probe finds.
    absorbed : Fidelity
        Share of these rows on which none of them is active, and one other latent carries the concept instead.
    absorbing : tuple of (int, int)
        The latents that carry it there, with the number of rows, the most frequent first.
    """

    latents: tuple[int, ...]
    f1: tuple[float, ...]
    recall: Fidelity
    absorbed: Fidelity
    absorbing: tuple[tuple[int, int], ...]

    @property
    def split(self) -> int:
        """How many latents share the concept."""
        return len(self.latents)


def concept_absorption(
    rows: ArrayLike,
    codes: Any,
    labels: ArrayLike,
    test_rows: ArrayLike,
    test_codes: Any,
    test_labels: ArrayLike,
    atoms: ArrayLike,
    *,
    rise: float = 0.03,
    most: int = 10,
    cosine: float = 0.025,
    carried: float = 0.4,
    C: float = 1.0,
    documents: ArrayLike | None = None,
    level: float = 0.95,
) -> ConceptAbsorption:
    """Splitting and absorption of one concept that a linear probe finds.

    The probe is logistic, on all coordinates of rows less their mean. On rows with the concept that it finds, the concept is
    *absorbed* where no latent that stands for it is active, and the latent with the largest share of the probe's score
    (code times the product of atom and probe) points the probe's way and carries at least the share `carried` of it.

    Parameters
    ----------
    rows : array-like of shape (n, width)
        Activations that choose the latents and fit the probe.
    codes : sparse or dense array of shape (n, n_latents)
    labels : array-like of bool, shape (n,)
        Which rows have the concept.
    test_rows, test_codes, test_labels : as `rows`, `codes`, `labels`
        Of those that are counted.
    atoms : array-like of shape (n_latents, width)
    rise : float, default=0.03
        By how much a further latent must raise F1 to count as one that shares the concept.
    most : int, default=10
        Latents that may share it.
    cosine : float, default=0.025
        Of an absorbing atom with the probe, at least.
    carried : float, default=0.4
        Share of the probe's score that an absorbing latent has, at least.
    C : float, default=1.0
        Of the dense probe, as for :func:`~locum.inside.sparse_probe`.
    documents : array-like of shape (m,), optional
        Of the test rows; intervals are over them where given.
    level : float, default=0.95

    Raises
    ------
    InvalidData
        Tables that do not fit together, labels of one kind, or a concept that the dense probe never finds.

    Notes
    -----
    Cost: a logistic regression, and one on few columns for each latent that is tried.

    **Departures** from Chanin and others: what a latent carries is its share of the probe's score on the row, as in Karvonen
    and others, rather than an integrated gradient through the model, so that no model is needed.

    References
    ----------
    Chanin and others, *A is for Absorption*, arXiv 2409.14507; Karvonen and others, *SAEBench*, arXiv 2503.09532.
    """
    x, y, D = finite_rows(rows), finite_rows(test_rows), finite_rows(atoms).astype(np.float64)
    Z, held = sparse.csc_array(codes), sparse.csr_array(test_codes)
    if Z.shape != (len(x), len(D)) or held.shape != (len(y), len(D)) or D.shape[1] != x.shape[1]:
        raise InvalidData(
            f"expected codes of {len(D)} latents for {len(x)} and {len(y)} rows {D.shape[1]} wide, got {Z.shape} and "
            f"{held.shape} for rows {x.shape[1]} wide"
        )
    require_whole(1, most=most)
    flags, wanted = np.asarray(labels).astype(bool), np.asarray(test_labels).astype(bool)
    dense = sparse_probe(x, flags, y, wanted, [x.shape[1]], C=C)[x.shape[1]]
    probe = np.zeros(x.shape[1])
    probe[list(dense.columns)] = dense.weights
    latents, f1 = _shared(Z, flags, rise, most)
    found = np.flatnonzero(wanted & (dense.scores(y) > 0))
    if len(found) < 2:
        raise InvalidData("the dense probe finds the concept on fewer than two test rows, so there is nothing to absorb")
    part = held[found]
    main = np.asarray(part[:, list(latents)].sum(axis=1)).ravel() > 0
    absorbed, by = _carriers(part, D, probe, (y[found] - x.mean(axis=0)) @ probe, cosine, carried)
    absorbed &= ~main
    groups = None if documents is None else np.asarray(documents)[found]
    counts = Counter(int(one) for one in by[absorbed]).most_common()
    return ConceptAbsorption(
        latents, f1, _share("recall of the concept's latents", main, groups, level, True),
        _share("share absorbed", absorbed, groups, level, False), tuple(counts),
    )  # fmt: skip


def _shared(codes: Any, flags: NDArray[np.bool_], rise: float, most: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Latents that share a concept, and F1 of the probes on the first ones, as judged on every other row."""
    half = np.arange(len(flags)) % 2 == 0
    for side in (half, ~half):
        if flags[side].all() or not flags[side].any():
            raise InvalidData("expected rows with and without the concept, at least two of each")
    table = codes.tocsr()
    probes = sparse_probe(table[half], flags[half], table[~half], flags[~half], range(1, most + 1))
    f1 = [probes[k].f1 for k in sorted(probes)]
    few = next((k for k in range(1, len(f1)) if f1[k] - f1[k - 1] < rise), len(f1))
    return probes[few].columns, tuple(f1[:few])


def _carriers(
    codes: Any, atoms: NDArray[np.float64], probe: NDArray[np.float64], score: NDArray[np.float64], cosine: float,
    carried: float,
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:  # fmt: skip
    """Rows on which one latent carries enough of the probe's score, and which one that is."""
    towards = atoms @ probe
    lengths = np.linalg.norm(atoms, axis=1) * np.linalg.norm(probe)
    close = np.divide(towards, lengths, out=np.zeros(len(atoms)), where=lengths > 0)
    shares = sparse.csr_array(codes.multiply(np.where(close >= cosine, towards, 0.0)[None])).toarray()
    by = shares.argmax(axis=1)
    most = shares[np.arange(len(by)), by]
    return (most > 0) & (most >= carried * score), by


def _share(measure: str, hits: NDArray[np.bool_], documents: Any, level: float, greater: bool) -> Fidelity:
    value = float(hits.mean())
    ends = bounded_mean(hits.astype(float), 0.0, 1.0, level, groups=documents).including(value)
    groups = None if documents is None else len(np.unique(documents))
    return Fidelity(
        measure, value, ends.lower, ends.upper, level, len(hits), "", "rows that the dense probe finds", ends.method,
        groups=groups, greater_is_better=greater,
    )  # fmt: skip


# ---------------------------------------------------------------------- the first letter of words
@dataclass(frozen=True, eq=False)
class WordRows:
    """Activations at words of one token.

    Attributes
    ----------
    rows : ndarray of shape (n, width)
    words : tuple of str
    letters : ndarray of str, shape (n,)
        The first of each word, in lower case.
    """

    rows: NDArray[np.float32]
    words: tuple[str, ...]
    letters: NDArray[np.str_]

    def frequent(self, least: int) -> tuple[str, ...]:
        """Letters that begin at least so many of the words.

        Parameters
        ----------
        least : int
        """
        found, counts = np.unique(self.letters, return_counts=True)
        return tuple(str(one) for one in found[counts >= least])


def first_letter_rows(
    tap: Tap, site: str, tokenizer: Any, *, n: int = 2000, prompt: str = "The word is", batch_size: int = 64,
    random_state: int = 0,
) -> WordRows:  # fmt: skip
    """Activations of a language model at words that are one token, of which the first letter is the concept.

    Parameters
    ----------
    tap : Tap
    site : str
    tokenizer : tokenizer of transformers
        Whose vocabulary gives the words: tokens that begin with a space and go on with three or more Latin letters.
    n : int, default=2000
        Words, drawn at random.
    prompt : str, default="The word is"
        What stands before each; activations are at the word itself.
    batch_size : int, default=64
    random_state : int, default=0

    Raises
    ------
    InvalidData
        A vocabulary with fewer such words.

    Notes
    -----
    Cost: a forward pass to the site over n short texts.
    """
    require_whole(1, n=n, batch_size=batch_size)
    torch = need("torch", "activations of a model", "nets")
    before = [int(one) for one in tokenizer(prompt, verbose=False)["input_ids"]]
    known = [(i, text[1:]) for i in range(len(tokenizer)) if _is_word(text := tokenizer.decode([i]))]
    if n > len(known):
        raise InvalidData(f"expected n= of at most the {len(known)} words of the vocabulary, got {n}")
    picked = [known[i] for i in np.sort(np.random.default_rng([random_state, 16]).permutation(len(known))[:n])]
    device, parts = next(tap.model.parameters()).device, []
    for start in range(0, n, batch_size):
        ids = [[*before, token] for token, _ in picked[start : start + batch_size]]
        with torch.inference_mode():
            parts.append(tap.read(input_ids=torch.as_tensor(ids, device=device))[site][:, -1].flatten(1).float().cpu().numpy())
    words = tuple(word for _, word in picked)
    return WordRows(np.concatenate(parts), words, np.array([word[0].lower() for word in words]))


def _is_word(text: str) -> bool:
    return len(text) > 3 and text[0] == " " and text[1:].isascii() and text[1:].isalpha()
