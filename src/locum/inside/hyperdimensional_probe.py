"""A vector made of named concepts stands in for a language model's state, and is taken apart again to see which those are.

A network learns from the state before the next word to give the vector of what the prompt says and asks: pairs of concepts
bound and bundled, the answer among them. From a new prompt's vector, known words are taken out, and the concept nearest to what
is left is the answer that is read from the state.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import FormatError, InvalidData, OutsideRegion, need, require_one_of, require_positive, require_whole
from locum.inside._pooling import POOLS, pool_states
from locum.inside._probe_report import ProbeReport, rank_table, report_on
from locum.inside.codebook import TIES, Codebook, Document, concepts_of
from locum.inside.rows import finite_rows

__all__ = ["HypervectorProbe"]

_FORMAT = 1
_JSON, _TENSORS = "hypervector_probe.json", "hypervector_probe.safetensors"
_BATCH = 2048  # rows encoded at a time


@final
class HypervectorProbe(BaseEstimator):
    r"""A hypervector of named concepts stands in for the state of a language model before its next word.

    States h of several layers are pooled into e, a network gives logits of signs, and these are trained towards the bundle t of
    a document's bound pairs, which holds the answer though the prompt does not:

    .. math:: e = \mathrm{pool}(h), \quad \ell = f(e), \quad t = \mathrm{sign}\Bigl(\sum_i \phi_{a_i} \phi_{b_i}\Bigr), \quad
              \mathrm{BCE}(2\ell, (t + 1) / 2) + 0.1 \, (\tanh \ell - t)^2

    Parameters
    ----------
    codebook : Codebook
    pool : {"kmeans_sum", "mean", "last"}, default="kmeans_sum"
        The sum of the centres of clusters of layers, the published one; the mean of layers; or the last.
    n_clusters : int, default=5
    hidden : tuple of int, default=(1024, 1024)
        Widths; a layer after the first is added to what it gets where the widths are equal.
    dropout : float, default=0.0
    ties : {"random", "zero", "negative"}, default="random"
        Of the targets; see :meth:`Codebook.bundle`. "negative" is what the published code does.
    faithful : bool, default=False
        The loss and the scale as published: the tangent itself taken for a logit, so that no probability is above 0.73, and
        states as they come rather than standardised.
    epochs : int, default=30
        At most, with `val`.
    patience : int, default=10
        Epochs without a better cosine on `val` after which the fit ends.
    batch_size : int, default=32
    learning_rate : float, default=3e-4
        Of AdamW, falling to 0 along half a cosine.
    weight_decay : float, default=1e-4
    device : str or torch.device, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    known_ : frozenset of str
        Concepts of the documents that fitted; others have codes that the network never met, and cannot be read.
    constant_ : ndarray of int8, shape (dim,)
        The commonest sign at each place of the targets: the cheapest rival.
    history_ : History
        Of the training; its validation is the negative mean cosine.
    n_features_in_ : int

    Raises
    ------
    InvalidData
        States that are not finite, as many documents as states are not given, a concept that the codebook lacks, settings that
        cannot be used.

    Notes
    -----
    Cost for n prompts, hidden widths w and dim D: 6 n (width w + w² + w D) operations an epoch. One core, n = 4,000, w = 512,
    D = 1,024: a second.

    A pair bound together has a code like that of no other pair, so a pair that never occurred in training cannot be read,
    whatever the state holds: the probe knows a table of pairs, and tells which one a state points to. The same network on the
    words of the prompt alone, without a model, is therefore the rival to look at.

    **Departures**: logits in the loss, standardised states and drawn ties unless `faithful` and ``ties="negative"``; one cosine
    rather than warm restarts; no averaging of weights and no attention in the network.

    References
    ----------
    Bronzini, Nicolini, Lepri, Staiano and Passerini, *Hyperdimensional Probe: Decoding LLM Representations via Vector Symbolic
    Architectures*, arXiv 2509.25045.

    Examples
    --------
    >>> from locum.inside import Codebook
    >>> rng = np.random.default_rng(0)
    >>> pairs = [(f"k{i}", f"v{i}") for i in range(12)]
    >>> codes = Codebook([one for pair in pairs for one in pair], dim=256)
    >>> directions = rng.normal(size=(12, 24))
    >>> chosen = [rng.choice(12, 2, replace=False) for _ in range(400)]
    >>> states = np.stack([directions[a] + directions[b] for a, b in chosen])
    >>> documents = [(pairs[a], pairs[b]) for a, b in chosen]
    >>> probe = HypervectorProbe(codes, pool="last", hidden=(64,), epochs=20, learning_rate=3e-3)
    >>> _ = probe.fit(states[:350], documents[:350])
    >>> report = probe.report(states[350:], documents[350:])
    >>> report.methods["probe"]["answer @1"].value > 0.9
    True
    """

    papers = ("hyperdimensional-probe",)

    def __init__(
        self,
        codebook: Codebook,
        *,
        pool: str = "kmeans_sum",
        n_clusters: int = 5,
        hidden: tuple[int, ...] = (1024, 1024),
        dropout: float = 0.0,
        ties: str = "random",
        faithful: bool = False,
        epochs: int = 30,
        patience: int = 10,
        batch_size: int = 32,
        learning_rate: float = 3e-4,
        weight_decay: float = 1e-4,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.codebook = codebook
        self.pool = pool
        self.n_clusters = n_clusters
        self.hidden = hidden
        self.dropout = dropout
        self.ties = ties
        self.faithful = faithful
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ learning
    def fit(
        self,
        X: ArrayLike,
        y: Sequence[Document],
        *,
        val: tuple[ArrayLike, Sequence[Document]] | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Learn to give the vectors of documents from states.

        Parameters
        ----------
        X : array-like of shape (n, layers, width) or (n, width)
        y : sequence of n documents
            Each a sequence of terms: a concept, or a tuple of concepts bound together.
        val : tuple of states and documents or None, default=None
            Others, on which the best epoch is chosen.
        progress : callable or None, default=None
            Called with (epochs done, epochs in all, words).

        Returns
        -------
        self
        """
        torch = need("torch", "a probe", "nets")
        from locum.inside._hypervector_net import HypervectorNet, sign_loss
        from locum.nets import seeded, train

        self._check_settings()
        rows, targets = self._pooled(X), self._targets(X, y)
        held = None
        if val is not None:
            held = finite_rows(self._pooled(val[0]), rows.shape[1]), self._targets(*val).astype(np.float32)
        centre, scale = np.zeros(rows.shape[1], dtype=np.float32), np.ones(rows.shape[1], dtype=np.float32)
        if not self.faithful:
            centre, scale = rows.mean(axis=0), rows.std(axis=0)
            scale = np.where(scale > 1e-6 * max(float(scale.max()), 1e-12), scale, 1.0).astype(np.float32)
        with seeded(self.random_state):
            net = HypervectorNet(
                rows.shape[1], self.hidden, self.codebook.dim, self.dropout, torch.from_numpy(centre), torch.from_numpy(scale)
            )

        def validate(_net: Any) -> float:
            assert held is not None
            return -float(_row_cosines(self._outputs(net, held[0]), held[1]).mean())

        faithful = self.faithful
        self.history_ = train(
            net,
            lambda module, x, t: sign_loss(module(x), t.float(), faithful),
            [torch.from_numpy(rows), torch.from_numpy(targets)],
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=lambda p: torch.optim.AdamW(p, lr=self.learning_rate, weight_decay=self.weight_decay),
            schedule=lambda steps: torch.optim.lr_scheduler.CosineAnnealingLR(steps, self.epochs),
            validate=None if held is None else validate,
            patience=None if held is None else self.patience,
            device=self.device,
            random_state=self.random_state,
            progress=progress,
        )
        self.known_ = frozenset(concepts_of(y, self.codebook))
        self.constant_ = np.where(targets.sum(axis=0, dtype=np.int64) >= 0, 1, -1).astype(np.int8)
        return self._take(net)

    def _take(self, net: Any) -> Self:
        self._net, self.n_features_in_ = net, len(net.centre)
        return self

    def _check_settings(self) -> None:
        if not isinstance(self.codebook, Codebook):
            raise InvalidData(f"expected codebook= as a Codebook, got {type(self.codebook).__name__}")
        require_one_of(POOLS, pool=self.pool)
        require_one_of(TIES, ties=self.ties)
        if not isinstance(self.faithful, bool):
            raise InvalidData(f"expected faithful= as True or False, got {self.faithful!r}")
        if not isinstance(self.hidden, Sequence) or not self.hidden:
            raise InvalidData(f"expected hidden= as one width or more, got {self.hidden!r}")
        require_whole(1, epochs=self.epochs, batch_size=self.batch_size, patience=self.patience, n_clusters=self.n_clusters)
        for width in self.hidden:
            require_whole(1, hidden=width)
        require_whole(0, random_state=self.random_state)
        require_positive(learning_rate=self.learning_rate)
        if not 0 <= self.dropout < 1 or not self.weight_decay >= 0:
            raise InvalidData(
                "expected dropout= from 0 to below 1 and weight_decay= of 0 or more, got "
                f"{self.dropout!r} and {self.weight_decay!r}"
            )

    def _targets(self, X: ArrayLike, documents: Sequence[Document]) -> NDArray[np.int8]:
        _check_lengths(X, documents)
        return self.codebook.compose(documents, ties=self.ties)

    def _pooled(self, X: ArrayLike) -> NDArray[np.float32]:
        return pool_states(X, self.pool, n_clusters=self.n_clusters, random_state=self.random_state)

    # ------------------------------------------------------------------ use
    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """What the network says of each sign, between -1 and 1, shape (n, dim).

        Parameters
        ----------
        X : array-like of shape (n, layers, width) or (n, width)
        """
        check_is_fitted(self, "known_")
        return self._outputs(self._net, finite_rows(self._pooled(X), self.n_features_in_))

    def encode(self, X: ArrayLike) -> NDArray[np.int8]:
        """The vector of each state, of 1 and -1, shape (n, dim), which the codebook decodes.

        Parameters
        ----------
        X : array-like of shape (n, layers, width) or (n, width)
        """
        return np.where(self.transform(X) >= 0, 1, -1).astype(np.int8)

    def _outputs(self, net: Any, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        torch = need("torch", "a probe", "nets")
        device = net.centre.device
        with torch.inference_mode():
            parts = [torch.tanh(net(part.to(device))).cpu() for part in torch.from_numpy(rows).split(_BATCH)]
        return np.asarray(torch.cat(parts).numpy())

    def direction(self, X: ArrayLike, documents: Sequence[Document]) -> NDArray[np.float32]:
        """Where each pooled state would have to move to be read as another document, of length 1, shape (n, width).

        The gradient of the cosine between what the network says and the vector of the document. Added to the language model's
        own state it shows whether the model, too, acts on what the probe reads.

        Parameters
        ----------
        X : array-like of shape (n, layers, width) or (n, width)
        documents : sequence of n documents
        """
        torch = need("torch", "a probe", "nets")
        check_is_fitted(self, "known_")
        wanted = self.codebook.compose(documents, ties="zero").astype(np.float32)
        _check_lengths(X, documents)
        rows = finite_rows(self._pooled(X), self.n_features_in_)
        x = torch.from_numpy(rows).to(self._net.centre.device).requires_grad_(True)
        near = torch.nn.functional.cosine_similarity(torch.tanh(self._net(x)), torch.from_numpy(wanted).to(x.device))
        (slope,) = torch.autograd.grad(near.sum(), x)
        return np.asarray((slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-30)).cpu().numpy())

    # ------------------------------------------------------------------ how far to trust it
    def report(
        self,
        X: ArrayLike,
        documents: Sequence[Document],
        *,
        controls: Mapping[str, tuple[HypervectorProbe, ArrayLike, Sequence[Document]]] | None = None,
        rivals: Mapping[str, ArrayLike] | None = None,
        relations: Sequence[str] | None = None,
        level: float = 0.95,
    ) -> ProbeReport:
        """How often answers are read from states that did not fit, beside what needs no such probe.

        The query is fixed: the first concept of the last term is unbound, and the answer is its second. Concepts that stand in
        the prompt are left out of the ranking, for all alike. Documents with a concept that did not fit are left out with a
        warning.

        Parameters
        ----------
        X : array-like of shape (n, layers, width) or (n, width)
        documents : sequence of n documents
            The last term of each a pair.
        controls : dict of str to (probe, states, documents) or None, default=None
            Other fitted probes, each with its own states of the same prompts, and what those are to say: such as one of the
            words of the prompt alone, or one trained on permuted pairs (:func:`permuted_pairs`).
        rivals : dict of str to array-like of shape (n, concepts) or None, default=None
            Scores of all concepts by other means, such as :func:`concept_rivals`, a lens, or the next token.
        relations : sequence of str or None, default=None
            Of the documents; each then counts alike.
        level : float, default=0.95

        Returns
        -------
        ProbeReport
            Intervals are over answers' pairs, since prompts with the same one are not independent.
        """
        check_is_fitted(self, "known_")
        _check_lengths(X, documents)
        kept = self._kept(documents)
        asked = [documents[i] for i in kept]
        said = self.encode(np.asarray(X)[kept])
        tables = {"probe": rank_table(self.codebook, said, asked, self.ties, oracle=True)}
        for name, (probe, states, told) in (controls or {}).items():
            check_is_fitted(probe, "known_")
            _check_lengths(states, told)
            if len(told) != len(documents):
                raise InvalidData(f"expected {len(documents)} documents of the control {name!r}, got {len(told)}")
            codes = probe.encode(np.asarray(states)[kept])
            tables[name] = rank_table(probe.codebook, codes, [told[i] for i in kept], probe.ties, oracle=False)
        constant = np.tile(self.constant_, (len(kept), 1))
        tables["constant"] = rank_table(self.codebook, constant, asked, self.ties, oracle=False)
        scores = {name: np.asarray(table)[kept] for name, table in (rivals or {}).items()}
        if relations is not None and len(relations) != len(documents):
            raise InvalidData(f"expected a relation for each of {len(documents)} documents, got {len(relations)}")
        groups = None if relations is None else [relations[i] for i in kept]
        return report_on(self.codebook, tables, scores, asked, groups, len(documents) - len(kept), level)

    def _kept(self, documents: Sequence[Document]) -> list[int]:
        index = self.codebook.index
        known = {index(one) for one in self.known_}
        kept = [i for i, one in enumerate(documents) if {index(name) for name in concepts_of([one], self.codebook)} <= known]
        if not kept:
            raise InvalidData(
                "expected documents of concepts that fitted, got none: codes of others cannot be read, so nothing is measured"
            )
        if len(kept) < len(documents):
            warnings.warn(
                f"{len(documents) - len(kept)} of {len(documents)} documents have a concept that did not fit and are left out",
                OutsideRegion,
                stacklevel=3,
            )
        return kept

    # ------------------------------------------------------------------ files
    def save(self, path: Any) -> None:
        """Write the probe and its codebook to a folder, as safetensors and JSON; :meth:`load` reads it.

        Parameters
        ----------
        path : path
        """
        from locum.inside._files import plain, write_record, write_tensors

        check_is_fitted(self, "known_")
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: one.cpu().numpy() for name, one in self._net.state_dict().items()}
        write_tensors(folder / _TENSORS, state | {"constant": self.constant_})
        settings = {name: plain(value) for name, value in self.get_params(deep=False).items() if name != "codebook"}
        codes = self.codebook
        book = {"concepts": list(codes.concepts), "dim": codes.dim, "random_state": codes.random_state}
        record = {"format": _FORMAT, "settings": settings, "codebook": book, "known": sorted(self.known_)}
        write_record(folder / _JSON, record)

    @classmethod
    def load(cls, path: Any) -> HypervectorProbe:
        """The probe that :meth:`save` wrote to a folder.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            No such folder, or one that is damaged or cut short.
        """
        torch = need("torch", "a probe", "nets")
        from locum.inside._files import read_record, read_tensors, restored
        from locum.inside._hypervector_net import HypervectorNet

        folder = Path(path)
        record = read_record(folder / _JSON, _FORMAT, "a probe of ")
        state = {name: torch.from_numpy(np.array(one)) for name, one in read_tensors(folder / _TENSORS).items()}
        settings = {name: restored(value) for name, value in record["settings"].items()} | {"device": "cpu"}
        made = cls(Codebook(**record["codebook"]), **settings)
        made._check_settings()
        try:
            centre, scale = state["centre"], state["scale"]
            net = HypervectorNet(len(centre), made.hidden, made.codebook.dim, made.dropout, centre, scale)
            made.constant_ = state.pop("constant").numpy()
            net.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise FormatError(f"{folder} does not hold a whole probe ({error}); use another copy") from error
        made.known_ = frozenset(record["known"])
        return made._take(net.eval())


def _check_lengths(X: ArrayLike, documents: Sequence[Document]) -> None:
    n = len(np.asarray(X))
    if n != len(documents):
        raise InvalidData(f"expected a document for each state, got {n} states and {len(documents)} documents")


def _row_cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(lengths, 1e-12), dtype=np.float64)
