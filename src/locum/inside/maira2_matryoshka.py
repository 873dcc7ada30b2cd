"""Named latents of a dictionary stand in for a residual stream: what a row holds, told in words whose worth was measured.

"Insights into a radiology-specialised multimodal large language model with sparse autoencoders" (Bouzid and others, arXiv
2507.12950) trains a Matryoshka dictionary, lets a language model name its latents, holds the names to text they were not
made from, and steers by them. The parts are ``SparseAutoencoder(n, Matryoshka(BatchTopK(k)))``, `latent_examples`, a
`Namer`, `score_names` and ``SteeringDirection.of_latent``; here they are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from locum.core.errors import FormatError, InvalidData, require_whole
from locum.core.fidelity import Fidelity
from locum.inside._files import read_record, write_record
from locum.inside.dictionary import Dictionary
from locum.inside.lexical_names import LexicalNamer, LogisticDetector
from locum.inside.naming import (
    KINDS,
    CalibratedDetector,
    Detector,
    Namer,
    NameScore,
    NameScores,
    latent_examples,
    score_names,
    token_contexts,
)
from locum.inside.store import SiteRows

__all__ = ["NamedDictionary"]

_FORMAT = 1
_JSON = "names.json"


@final
class NamedDictionary:
    """A dictionary whose latents have names, each with the accuracy at which the name tells held-out contexts.

    Parameters
    ----------
    dictionary : Dictionary
        Fitted.
    scores : NameScores
        Of some of its latents.

    Attributes
    ----------
    names : dict of int to str
        By latent.

    References
    ----------
    Bouzid, Bannur and others, arXiv 2507.12950; Bussmann and others, arXiv 2503.17547 (nested prefixes); Bills and others
    (2023) and Paulo and others, arXiv 2410.13928 (names and detection scores).
    """

    papers = ("maira2-matryoshka",)

    def __init__(self, dictionary: Dictionary, scores: NameScores) -> None:
        self.dictionary, self.scores = dictionary, scores
        self.names = {one.latent: one.name for one in scores.latents}

    @classmethod
    def of(
        cls,
        dictionary: Dictionary,
        rows: SiteRows,
        documents: Sequence[ArrayLike],
        decode: Callable[[Any], str],
        *,
        held: tuple[SiteRows, Sequence[ArrayLike]] | None = None,
        namer: Namer | None = None,
        detector: Detector | CalibratedDetector | None = None,
        latents: int | Sequence[int] = 200,
        n: int = 100,
        n_held: int = 20,
        support: int = 20,
        kinds: Sequence[str] = KINDS,
        vectors: Callable[[Sequence[str]], Any] | None = None,
        most_rows: int = 20_000,
        progress: Callable[[int, int, str], None] | None = None,
        random_state: int = 0,
    ) -> NamedDictionary:
        """Name latents from training rows of a store, and score the names on rows of other documents.

        Parameters
        ----------
        dictionary : Dictionary
            Fitted to training rows of that site.
        rows : SiteRows
            Of a store.
        documents : sequence of array-like of int
            Token ids that the store was collected from; none longer than its context.
        decode : callable
            From token ids to text: ``tokenizer.decode``.
        held : tuple of SiteRows and sequence, or None, default=None
            Another store, of which the training rows score names, and its documents; where None the test part of the first.
        namer : Namer or None, default=None
            :class:`LexicalNamer` where None.
        detector : Detector, CalibratedDetector or None, default=None
            :class:`LogisticDetector` on words where None.
        latents : int or sequence of int, default=200
            Which, or how many drawn from those active on enough rows.
        n, n_held, support : int, default=100, 20, 20
            As for :func:`latent_examples`; a language model as namer wants fewer than a hundred.
        kinds : sequence of str, default=("random", "similar", "same token")
        vectors : callable or None, default=None
            As for :func:`latent_examples`.
        most_rows : int, default=20000
            Rows, of either part, that contexts are drawn from.
        progress : callable or None, default=None
            Called with (latents named, latents in all, the name).
        random_state : int, default=0

        Raises
        ------
        InvalidData
            No test rows, latents that are asked for and active on too few rows, or fewer than four that are on enough.

        Notes
        -----
        Cost: codes of `most_rows` rows twice, a call of `namer` a latent, and calls of `detector` a latent for the score and
        three for the null.
        """
        require_whole(4, most_rows=most_rows)
        if held is None and not rows.count("test"):
            raise InvalidData(f"there are no test rows at {rows.name!r}; collect a store with a split such as (0.8, 0, 0.2)")
        other, texts = (rows, documents) if held is None else held
        parts: list[Any] = []
        for site, split, ids in ((rows, "train", documents), (other, "test" if held is None else "train", texts)):
            labels = site.store.labels(split)
            order = np.random.default_rng([random_state, 14]).permutation(len(labels))
            at = np.sort(order[:most_rows])
            parts += [dictionary.encode(site.rows(split)[at]), token_contexts(ids, labels[at], decode)]
        settings: dict[str, Any] = {"n": n, "n_held": n_held, "support": support, "kinds": kinds, "vectors": vectors}
        wanted = _drawn(parts[0], parts[2], latents, support, random_state) if isinstance(latents, int) else latents
        examples = latent_examples(*parts, latents=wanted, random_state=random_state, **settings)
        names, give = [], LexicalNamer() if namer is None else namer
        for i, one in enumerate(examples):
            names.append(give(one.active, one.inactive))
            if progress is not None:
                progress(i + 1, len(examples), names[-1])
        judge = LogisticDetector() if detector is None else detector
        return cls(dictionary, score_names(names, examples, judge, random_state=random_state))

    def best(self, n: int | None = None) -> list[NameScore]:
        """The latents whose names fit best.

        Parameters
        ----------
        n : int or None, default=None
        """
        return self.scores.best(n)

    def tell(self, X: ArrayLike, top: int = 3, least: float = 0.5) -> list[list[tuple[str, float]]]:
        """What rows hold, in words: the names of the strongest latents of each, with their codes.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        top : int, default=3
            Names a row at most.
        least : float, default=0.5
            Names are left out whose balanced accuracy has a lower end below it.
        """
        require_whole(1, top=top)
        trusted = {one.latent for one in self.scores.latents if one.balanced_accuracy.lower >= least}
        codes: sparse.csr_array = self.dictionary.encode(X)
        out = []
        for start, stop in zip(codes.indptr[:-1], codes.indptr[1:], strict=True):
            found = [(int(i), float(v)) for i, v in zip(codes.indices[start:stop], codes.data[start:stop], strict=True)]
            strong = sorted((one for one in found if one[0] in trusted), key=lambda one: -one[1])[:top]
            out.append([(self.names[latent], value) for latent, value in strong])
        return out

    # ------------------------------------------------------------------ files
    def save(self, path: Any) -> None:
        """Write the dictionary and the names to a folder; :meth:`load` reads them.

        Parameters
        ----------
        path : path
        """
        self.dictionary.save(path)
        scores = {
            "latents": [{**asdict(one), "balanced_accuracy": one.balanced_accuracy.to_dict()} for one in self.scores.latents],
            **{name: getattr(self.scores, name).to_dict() for name in ("mean", "median", "null")},
        }
        write_record(Path(path) / _JSON, {"format": _FORMAT, **scores})

    @classmethod
    def load(cls, path: Any) -> NamedDictionary:
        """What :meth:`save` wrote to a folder.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            No such folder, or one that is damaged.
        """
        record = read_record(Path(path) / _JSON, _FORMAT, "names of ")
        try:
            latents = tuple(
                NameScore(
                    int(one["latent"]), str(one["name"]), Fidelity.from_dict(one["balanced_accuracy"]), float(one["recall"]),
                    {str(kind): float(share) for kind, share in one["left_out"].items()},
                )
                for one in record["latents"]
            )  # fmt: skip
            mean, median, null = (Fidelity.from_dict(record[name]) for name in ("mean", "median", "null"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{Path(path) / _JSON} is damaged ({error}); use another copy") from error
        return cls(Dictionary.load(path), NameScores(latents, mean, median, null))


def _drawn(codes: Any, held: Any, count: int, support: int, random_state: int) -> list[int]:
    """Some of the latents that are active on enough rows of both parts."""
    first, other = (np.asarray((one > 0).sum(axis=0)).ravel() for one in (codes, held))
    enough = np.flatnonzero((first >= support) & (other >= support))
    if len(enough) < 4:
        raise InvalidData(
            f"{len(enough)} latents are active on {support} rows to name from and as many to score on, and four are needed; "
            "give more rows, or a smaller support="
        )
    return sorted(np.random.default_rng([random_state, 15]).permutation(enough)[:count].tolist())
