"""Records of a dictionary's latents from its codes: where each is active, how strongly, and what its atom writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from locum.core.bounds import Interval, binomial, bounded_mean
from locum.core.errors import InvalidData, UnsupportedModule, need, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.features import Example, FeatureRecord, Histogram, Picture
from locum.inside.filters import RowFilter, every_position
from locum.inside.measures import interval_of_means
from locum.inside.rows import finite_rows
from locum.inside.store import padded, token_batches
from locum.inside.tap import Tap

__all__ = ["CodedUnits", "coded_text", "describe_features", "unembedding"]

_BINS = 24
_ENOUGH = 10  # documents in which a latent is active, for resampling
_NORMS = ("model.norm", "transformer.ln_f", "gpt_neox.final_layer_norm", "model.final_layernorm")


@dataclass(frozen=True)
class CodedUnits:
    """Codes of units (tokens, items or patches of images), and where each stands.

    Parameters
    ----------
    codes : sparse array of shape (n, n_latents)
    sequence, position : ndarrays of int, shape (n,)
        Which sequence a row is of, and its place in it. Units without a row, such as first tokens, have no activation.
    units : sequence of sequence of str, default=()
        All units of each sequence in their order; empty for images.
    documents : ndarray of int, shape (sequences,), or None, default=None
        Which document, user or image each sequence is of; intervals are over these. Each is by itself where None.
    sources : sequence of str, default=()
        What to call each sequence; its document's number where empty.
    ids : sequence of ndarray of int, default=()
        Token ids of each sequence, from which a model is run again.
    pictures : sequence of Picture, default=()
        One a sequence, where units are patches, row by row.

    Raises
    ------
    InvalidData
        Parts that do not fit together.
    """

    codes: Any
    sequence: NDArray[np.int64]
    position: NDArray[np.int64]
    units: Sequence[Sequence[str]] = ()
    documents: NDArray[np.int64] | None = None
    sources: Sequence[str] = ()
    ids: Sequence[NDArray[np.int64]] = ()
    pictures: Sequence[Picture] = ()

    def __post_init__(self) -> None:
        table = sparse.csr_array(self.codes)
        sequence, position = (np.asarray(one, dtype=np.int64) for one in (self.sequence, self.position))
        count = len(self.pictures) or len(self.units)
        object.__setattr__(self, "codes", table)
        object.__setattr__(self, "sequence", sequence)
        object.__setattr__(self, "position", position)
        documents = np.arange(count) if self.documents is None else np.asarray(self.documents, dtype=np.int64)
        object.__setattr__(self, "documents", documents)
        if table.shape[0] < 2 or sequence.shape != (table.shape[0],) or position.shape != sequence.shape:
            raise InvalidData(
                f"expected sequence= and position= for each of {table.shape[0]} rows of codes, two or more, "
                f"got shapes {sequence.shape} and {position.shape}"
            )
        if len(documents) != count or any(len(one) not in (0, count) for one in (self.sources, self.ids)):
            raise InvalidData(f"expected documents=, sources= and ids= for each of {count} sequences")
        if sequence.min() < 0 or sequence.max() >= count:
            raise InvalidData(f"expected sequence= as numbers below {count}, got {sequence.min()} to {sequence.max()}")
        lengths = np.array([self.length(i) for i in range(count)])
        if position.min() < 0 or (position >= lengths[sequence]).any():
            row = int(np.argmax((position < 0) | (position >= lengths[sequence])))
            raise InvalidData(f"row {row} is at position {position[row]} of a sequence of {lengths[sequence[row]]} units")

    @property
    def groups(self) -> NDArray[np.int64]:
        """Document of each row."""
        assert self.documents is not None
        return np.asarray(self.documents[self.sequence])

    def length(self, sequence: int) -> int:
        """Units of a sequence.

        Parameters
        ----------
        sequence : int
        """
        if self.pictures:
            return self.pictures[sequence].rows * self.pictures[sequence].columns
        return len(self.units[sequence])

    def source(self, sequence: int) -> str:
        """What a sequence is called.

        Parameters
        ----------
        sequence : int
        """
        assert self.documents is not None
        return str(self.sources[sequence]) if self.sources else f"document {self.documents[sequence]}"


def coded_text(
    tap: Tap,
    site: str,
    dictionary: Any,
    documents: Sequence[Any],
    tokenizer: Any,
    *,
    keep: RowFilter = every_position,
    context: int = 128,
    batch_size: int = 8,
    random_state: int = 0,
) -> CodedUnits:
    """Run a model over documents and encode the activations of their tokens.

    Parameters
    ----------
    tap : Tap
    site : str
        Where the dictionary reads.
    dictionary : Dictionary, Transcoder or another with ``transform``
    documents : sequence
        Texts, or token ids of shape (length,) each; ones that did not fit the dictionary.
    tokenizer : tokenizer of transformers
    keep : RowFilter, default=every position
        Tokens that the dictionary was fitted for.
    context : int, default=128
        Longest sequence; longer documents are cut into several.
    batch_size : int, default=8
    random_state : int, default=0
        Of the order in which sequences are run.

    Notes
    -----
    Cost: a forward pass to the site over all tokens, and their encoding.
    """
    require_whole(1, context=context, batch_size=batch_size)
    torch = need("torch", "activations of a model", "nets")
    if keep.sites - {site}:
        raise InvalidData("expected a filter of positions, tokens and norms at the site itself")
    ids = [np.asarray(tokenizer(one, verbose=False)["input_ids"] if isinstance(one, str) else one) for one in documents]
    if not ids or any(one.ndim != 1 or not one.size for one in ids):
        raise InvalidData("expected one document or more, none of them empty")
    parts: list[Any] = []
    owner: list[int] = []
    sequences: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.int64]] = []
    for batch in token_batches([one.astype(np.int64) for one in ids], context, batch_size, random_state):
        inputs, _ = padded(tap.model, ids, batch)
        with torch.inference_mode():
            found = tap.read(**inputs)[site].flatten(2).float().cpu().numpy()
        for (document, start, stop), line in zip(batch, found, strict=True):
            tokens, rows = ids[document][start:stop], line[: stop - start]
            norms = {name: np.linalg.norm(rows, axis=1) for name in keep.sites}
            picked = np.flatnonzero(keep.picks(tokens, np.arange(len(tokens)), norms))
            if len(picked):
                parts.append(sparse.csr_array(dictionary.transform(rows[picked])))
                labels.append(np.column_stack([np.full(len(picked), len(sequences)), picked]))
            owner.append(document)
            sequences.append(tokens)
    if not parts:
        raise InvalidData(f"the filter {keep} leaves no token of {len(ids)} documents")
    known = {int(one): tokenizer.decode([int(one)]) for one in np.unique(np.concatenate(sequences))}
    where = np.concatenate(labels)
    units = [tuple(known[int(one)] for one in tokens) for tokens in sequences]
    return CodedUnits(
        sparse.vstack(parts, format="csr"), where[:, 0], where[:, 1], units, np.array(owner), ids=tuple(sequences)
    )


def unembedding(model: Any) -> NDArray[np.float32]:
    """What a direction of the residual stream adds to the logit of each token, shape (vocabulary, width).

    The matrix to logits with the gain of the last norm within; of a LayerNorm also its centring. The norm's division by the
    length of the stream is left out: it scales all logits of a direction alike.

    Parameters
    ----------
    model : causal language model of transformers

    Raises
    ------
    UnsupportedModule
        No output embeddings, or a last norm that is not found.
    """
    torch = need("torch", "a model's unembedding", "nets")
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    modules = dict(model.named_modules())
    norm = next((modules[name] for name in _NORMS if name in modules), None)
    if head is None or norm is None or getattr(norm, "weight", None) is None:
        raise UnsupportedModule(
            f"expected a model with output embeddings and a last norm named {', '.join(_NORMS)}; give the matrix yourself"
        )
    with torch.no_grad():
        matrix = head.weight.float() * norm.weight.float()
        if isinstance(norm, torch.nn.LayerNorm):
            matrix = matrix - matrix.mean(dim=1, keepdim=True)
    return np.asarray(matrix.cpu().numpy(), dtype=np.float32)


def describe_features(
    units: CodedUnits,
    atoms: ArrayLike,
    *,
    latents: Sequence[int] | None = None,
    most: int = 500,
    n_examples: int = 8,
    n_drawn: int = 4,
    around: tuple[int, int] = (24, 8),
    outputs: ArrayLike | None = None,
    output_names: Sequence[str] = (),
    n_outputs: int = 10,
    n_neighbours: int = 5,
    names: Mapping[int, Any] | None = None,
    level: float = 0.95,
    random_state: int = 0,
) -> list[FeatureRecord]:
    """Records of latents: shares, histograms, examples, neighbours, and outputs that atoms raise and lower by themselves.

    Parameters
    ----------
    units : CodedUnits
        Ones that did not fit the dictionary.
    atoms : array-like of shape (n_latents, width)
    latents : sequence of int or None, default=None
        Which; where None, all that are active, or `most` of them drawn at random.
    most : int, default=500
    n_examples, n_drawn : int, default=8, 4
        Of the strongest, and drawn at random among all places where a latent is active; at most one a sequence.
    around : tuple of two int, default=(24, 8)
        Units shown before and after; pictures are shown whole.
    outputs : array-like of shape (m, width) or None, default=None
        What a direction adds to each output: :func:`unembedding`, or the embeddings of items.
    output_names : sequence of str, default=()
    n_outputs, n_neighbours : int, default=10, 5
    names : dict of int to str or (str, Fidelity), or None, default=None
    level : float, default=0.95
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Parts that do not fit together, or latents that are never active here.

    Notes
    -----
    Cost: some milliseconds a latent, and a product of all shown atoms with `outputs`.

    Examples
    --------
    >>> codes = np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 0.5], [0.0, 0.0]])
    >>> texts = [("a", "cat"), ("a", "dog")]
    >>> units = CodedUnits(codes, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), texts)
    >>> first, second = describe_features(units, np.eye(2), outputs=np.eye(2), output_names=["x", "y"], n_outputs=1)
    >>> first.examples[0].units, first.examples[0].at, second.raised
    (('a', 'cat'), 1, (('y', 0.5),))
    """
    table, counts = units.codes.tocsc(), np.diff(units.codes.tocsc().indptr)
    directions = finite_rows(atoms)
    if len(directions) != table.shape[1]:
        raise InvalidData(f"expected an atom for each of {table.shape[1]} latents, got {len(directions)}")
    require_whole(1, most=most, n_examples=n_examples, n_outputs=n_outputs)
    require_whole(0, n_drawn=n_drawn, n_neighbours=n_neighbours, random_state=random_state)
    chosen = _chosen(latents, counts, most, random_state)
    shown = _Shown(units, table, n_examples, n_drawn, around, level, random_state)
    near = _neighbours(directions, chosen, n_neighbours)
    writes = _outputs(directions, chosen, outputs, output_names, n_outputs)
    found = []
    for latent, neighbours, (raised, lowered) in zip(chosen.tolist(), near, writes, strict=True):
        record = shown.record(latent, neighbours, raised, lowered)
        given = None if names is None else names.get(latent)
        if given is not None:
            record = record.named(given) if isinstance(given, str) else record.named(*given)
        found.append(record)
    return found


# ---------------------------------------------------------------------- parts
def _chosen(latents: Sequence[int] | None, counts: NDArray[Any], most: int, random_state: int) -> NDArray[np.int64]:
    active = np.flatnonzero(counts)
    if latents is None:
        if not len(active):
            raise InvalidData("no latent is active on these units; give others")
        if len(active) <= most:
            return active
        return np.sort(np.random.default_rng([random_state, 11]).choice(active, size=most, replace=False))
    wanted = np.asarray(list(latents), dtype=np.int64)
    bad = wanted[(wanted < 0) | (wanted >= len(counts))]
    if not len(wanted) or len(bad):
        raise InvalidData(f"expected latents= from 0 to {len(counts) - 1}, got {bad.tolist() if len(bad) else 'none'}")
    dead = wanted[counts[wanted] == 0]
    if len(dead):
        raise InvalidData(f"latent {dead[0]} is never active on these units; leave it out, or give more units")
    return wanted


class _Shown:
    """What is shown of a latent's codes."""

    def __init__(
        self, units: CodedUnits, table: Any, n_examples: int, n_drawn: int, around: tuple[int, int], level: float, seed: int
    ) -> None:
        self.units, self.table, self.level, self.seed = units, table, level, seed
        self.n_examples, self.n_drawn, self.around = n_examples, n_drawn, around
        _, self.document = np.unique(units.groups, return_inverse=True)
        self.sizes = np.bincount(self.document)

    def record(self, latent: int, neighbours: Any, raised: Any, lowered: Any) -> FeatureRecord:
        start, stop = self.table.indptr[latent], self.table.indptr[latent + 1]
        rows, values = self.table.indices[start:stop], self.table.data[start:stop].astype(np.float64)
        strongest = self._one_a_sequence(rows[np.argsort(-values, kind="stable")])[: self.n_examples]
        others = np.random.default_rng([self.seed, 12, latent]).permutation(rows)
        drawn = self._one_a_sequence(others)[: self.n_drawn]
        size = dict(zip(rows.tolist(), values.tolist(), strict=True))
        drawn = sorted(drawn, key=lambda row: -size[row])
        counts, edges = np.histogram(values, bins=_BINS, range=(0.0, float(values.max())))
        histogram = Histogram(tuple(edges.tolist()), tuple(counts.tolist()), int(self.table.shape[0] - len(rows)))
        examples, sample = (tuple(self._example(row, rows, values) for row in part) for part in (strongest, drawn))
        return FeatureRecord(
            latent, float(values.max()), self._share(rows), histogram, examples, sample, raised, lowered, neighbours
        )

    def _one_a_sequence(self, rows: NDArray[Any]) -> list[int]:
        _, first = np.unique(self.units.sequence[rows], return_index=True)
        return [int(rows[i]) for i in np.sort(first)]

    def _share(self, rows: NDArray[Any]) -> Fidelity:
        n, documents = self.table.shape[0], len(self.sizes)
        value = len(rows) / n
        hits = np.bincount(self.document[rows], minlength=documents)
        if documents == 1:
            ends = binomial(len(rows), n, self.level)
        elif np.count_nonzero(hits) >= _ENOUGH:
            terms = np.column_stack([hits, self.sizes]).astype(np.float64)
            ends = interval_of_means(terms, lambda m: m[..., 0] / m[..., 1], self.level, None, self.seed)
        else:  # resamples would often have none
            ends = bounded_mean(hits / self.sizes, 0.0, 1.0, self.level, weights=self.sizes)
        ends = Interval(max(ends.lower, 0.0), max(min(ends.upper, 1.0), ends.lower), self.level, ends.method).including(value)
        groups = documents if documents > 1 else None
        return Fidelity(
            "share of rows on which it is active", value, ends.lower, ends.upper, self.level, n, how="rows", method=ends.method,
            groups=groups,
        )  # fmt: skip

    def _example(self, row: int, rows: NDArray[Any], values: NDArray[np.float64]) -> Example:
        units, sequence, position = self.units, int(self.units.sequence[row]), int(self.units.position[row])
        length = units.length(sequence)
        before, after = self.around if not units.pictures else (length, length)
        start, stop = max(0, position - before), min(length, position + after + 1)
        here = units.sequence[rows] == sequence
        activations = np.zeros(length)
        activations[units.position[rows[here]]] = values[here]
        texts = () if units.pictures else tuple(str(one) for one in units.units[sequence][start:stop])
        return Example(
            texts, tuple(float(f"{one:.4g}") for one in activations[start:stop]), position - start, sequence, position,
            units.source(sequence), units.pictures[sequence] if units.pictures else None,
        )  # fmt: skip


def _neighbours(atoms: NDArray[np.float32], chosen: NDArray[np.int64], n: int) -> list[tuple[tuple[int, float], ...]]:
    """Latents with the largest cosines to each of some, the nearest first."""
    few = min(n, len(atoms) - 1)
    if few < 1:
        return [()] * len(chosen)
    unit = atoms / np.maximum(np.linalg.norm(atoms, axis=1, keepdims=True), 1e-12)
    found: list[tuple[tuple[int, float], ...]] = []
    for start in range(0, len(chosen), 256):
        part = chosen[start : start + 256]
        close = unit[part] @ unit.T
        close[np.arange(len(part)), part] = -np.inf
        index = np.argpartition(-close, few - 1, axis=1)[:, :few]
        for line, at in zip(close, index, strict=True):
            order = at[np.argsort(-line[at], kind="stable")]
            found.append(tuple((int(i), float(line[i])) for i in order))
    return found


def _outputs(
    atoms: NDArray[np.float32], chosen: NDArray[np.int64], outputs: ArrayLike | None, names: Sequence[str], n: int
) -> list[tuple[Any, Any]]:
    """Outputs that each of some atoms raises and lowers most, about the mean of all outputs."""
    if outputs is None:
        return [((), ())] * len(chosen)
    matrix = finite_rows(outputs)
    if matrix.shape[1] != atoms.shape[1] or len(names) != len(matrix):
        raise InvalidData(
            f"expected outputs= of shape (m, {atoms.shape[1]}) and a name for each, got {matrix.shape} and {len(names)} names"
        )
    few, found = min(n, len(matrix)), []
    for start in range(0, len(chosen), 64):
        scores = atoms[chosen[start : start + 64]] @ matrix.T
        scores -= scores.mean(axis=1, keepdims=True)
        for line in scores:
            found.append((largest(line, few, names), largest(-line, few, names, sign=-1.0)))
    return found


def largest(scores: NDArray[Any], n: int, names: Sequence[str], sign: float = 1.0) -> tuple[tuple[str, float], ...]:
    """The names of the n largest scores with these times a sign, the largest first; only ones above 0."""
    few = min(n, len(scores))
    at = np.argpartition(-scores, few - 1)[:few]
    order = at[np.argsort(-scores[at], kind="stable")]
    return tuple((str(names[i]), float(f"{sign * scores[i]:.4g}")) for i in order if scores[i] > 0)
