"""A wide, sparsely active layer stands in for a transformer's MLP, and weights of its latents for the circuits through it.

An MLP mixes what it reads, so a circuit cannot be followed through it by products of weights. A transcoder is trained to do
what the MLP does, from input to output, with few active latents. From one latent to another then leads a product of two
factors: how active the first is on this prompt, and what the weights say of the two on any prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import FormatError, InvalidData
from locum.core.fidelity import Fidelity
from locum.inside._attribution import Maps
from locum.inside.dictionary import SparseAutoencoder
from locum.inside.encoders import BatchTopK, EncoderSpec, JumpReLU, ReLU, TopK
from locum.inside.measures import reconstruction_fidelity
from locum.inside.rows import ActivationRows, as_rows, finite_rows

__all__ = ["Transcoder"]

_FORMAT = 1
_JSON, _TENSORS = "transcoder.json", "transcoder.safetensors"
_RIDGE = 1e-6  # of the mean variance of inputs, in the fit of the skip


@final
class Transcoder(BaseEstimator):
    r"""A wide, sparsely active layer stands in for an MLP of a transformer, from its input to its output.

    .. math:: z = \mathrm{encoder}(W (x - \bar x) + c), \quad \hat y = z D + b \; (+ S x), \quad \lVert D_i \rVert = 1

    With `skip`, a linear map S of the input is fitted first, by least squares, and the latents give what it leaves over.

    Parameters
    ----------
    n_latents : int
        The paper has 32 times the width.
    encoder : EncoderSpec, default=TopK(k=32, dead=AuxiliaryLoss(weight=0.03125, window=0.1))
        `ReLU`, the paper's, with a sum of codes in the loss; or `TopK`, `BatchTopK`, `JumpReLU`, or one within `Matryoshka`:
        encoders with one linear map, which is what circuits are read from.
    skip : bool, default=False
    epochs : int, default=1
    batch_size : int, default=2048
    learning_rate : float or None, default=None
        Of Adam; 2e-4 divided by the root of n_latents / 16384 where None.
    normalize : bool, default=True
        Train on inputs and outputs scaled so that their mean squared length is their width; the scales are folded back.
    device : str or torch.device, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    dictionary_ : SparseAutoencoder
        The sparse part, with its training's ``record_``.
    maps_ : Maps
        Matrices: ``encoder``, ``bias``, ``decoder``, ``decoder_bias`` and ``skip``.
    mean_ : ndarray of shape (width out,)
        Of the outputs that fitted.
    n_features_in_ : int

    Raises
    ------
    InvalidData
        Inputs and outputs of different numbers of rows or of two stores, rows that are not finite, an encoder without a linear
        map, or other settings that cannot be used.

    Notes
    -----
    Cost: that of a :class:`~locum.inside.SparseAutoencoder` of this size; with `skip` two passes over the rows more.

    **Departures**: decoder rows have length 1 all through the training; the weight of the sum of codes is moved until about the
    wanted number is active; the skip is fitted before the latents, not with them.

    References
    ----------
    Dunefsky, Chlenski and Nanda, *Transcoders Find Interpretable LLM Feature Circuits*, NeurIPS 2024, arXiv 2406.11944;
    skip-transcoders: Paulo, Shabalin and Belrose, arXiv 2501.18823.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(4000, 6))
    >>> y = np.maximum(x @ rng.normal(size=(6, 10)), 0) @ rng.normal(size=(10, 6))      # a layer that is to be stood in for
    >>> plain, skip = (
    ...     Transcoder(40, TopK(4), skip=one, epochs=10, batch_size=128, learning_rate=3e-3).fit(x, y) for one in (False, True)
    ... )
    >>> plain.transform(x).shape, bool(skip.fidelity(x, y)["FVU"].value < plain.fidelity(x, y)["FVU"].value < 0.3)
    ((4000, 40), True)
    """

    papers = ("transcoders",)

    def __init__(
        self,
        n_latents: int,
        encoder: EncoderSpec = TopK(32),  # noqa: B008 - frozen
        *,
        skip: bool = False,
        epochs: int = 1,
        batch_size: int = 2048,
        learning_rate: float | None = None,
        normalize: bool = True,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.n_latents = n_latents
        self.encoder = encoder
        self.skip = skip
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.normalize = normalize
        self.device = device
        self.random_state = random_state

    @classmethod
    def from_weights(
        cls,
        encoder: ArrayLike,
        bias: ArrayLike,
        decoder: ArrayLike,
        decoder_bias: ArrayLike,
        *,
        skip: ArrayLike | None = None,
    ) -> Transcoder:
        """A transcoder with ReLU latents whose weights are known, such as an MLP with ReLU itself.

        Latents are scaled so that decoder rows have length 1, which changes nothing of what comes out.

        Parameters
        ----------
        encoder : array-like of shape (n_latents, width in)
        bias : array-like of shape (n_latents,)
        decoder : array-like of shape (n_latents, width out)
        decoder_bias : array-like of shape (width out,)
        skip : array-like of shape (width out, width in), optional
        """
        from locum.inside._files import build

        w, d = finite_rows(encoder), finite_rows(decoder)
        c, b = (np.asarray(one, dtype=np.float32) for one in (bias, decoder_bias))
        if len(w) != len(d) or c.shape != (len(w),) or b.shape != d.shape[1:]:
            raise InvalidData(
                f"expected weights of n latents, got shapes {w.shape}, {c.shape}, {d.shape} and {b.shape} of encoder, bias, "
                "decoder and its bias"
            )
        length = np.linalg.norm(d, axis=1)
        if not length.all():
            raise InvalidData(f"expected decoder rows that are not zero, got one of zeros: {int(np.argmin(length))}; drop it")
        made = cls(len(w), ReLU(1.0), skip=skip is not None)
        state = {
            "atoms": d / length[:, None], "bias": b, "encoder.map.weight": w * length[:, None], "encoder.map.bias": c * length,
        }  # fmt: skip
        sparse_part = SparseAutoencoder(len(w), ReLU(1.0))
        build(sparse_part, state, b, w.shape[1], tied=False, where=Path("the weights"))
        sparse_part._net.shift = sparse_part._net.bias.new_zeros(w.shape[1])
        matrix = None if skip is None else finite_rows(skip, w.shape[1])
        return made._take(sparse_part, matrix, b.astype(float))

    @classmethod
    def from_dictionary(cls, dictionary: SparseAutoencoder) -> Transcoder:
        """A transcoder from a dictionary that was fitted with `y`, as ``locum inside train --target`` does.

        Parameters
        ----------
        dictionary : SparseAutoencoder
        """
        if not isinstance(dictionary, SparseAutoencoder):
            raise InvalidData(f"expected a SparseAutoencoder that was fitted with y, got {type(dictionary).__name__}")
        check_is_fitted(dictionary, "atoms_")
        if dictionary._net.tied or not _linear(dictionary.encoder):
            raise InvalidData("expected a dictionary with one linear map that was fitted with y, to give outputs from inputs")
        names = ("n_latents", "encoder", "epochs", "batch_size", "learning_rate", "normalize", "device", "random_state")
        made = cls(**{name: getattr(dictionary, name) for name in names})
        return made._take(dictionary, None, dictionary.mean_)

    # ------------------------------------------------------------------ learning
    def fit(self, X: Any, y: Any, *, checkpoint: Any = None, progress: Callable[[int, int, str], None] | None = None) -> Self:
        """Learn to give the outputs of a layer from its inputs.

        Parameters
        ----------
        X : ActivationRows, array-like or torch.Tensor of shape (n, width in)
            What goes into the MLP, after the norm; a site of a store, of which the training part is used.
        y : as X, of shape (n, width out)
            What comes out: a site of the same store, or rows in the same order.
        checkpoint : path or None, default=None
            A file that is written now and then, from which the same fit goes on to the same numbers.
        progress : callable or None, default=None
            Called with (steps done, steps in all, words).

        Returns
        -------
        self
        """
        if y is None:
            raise InvalidData("expected y=, outputs of the layer for X; a dictionary of X itself is a SparseAutoencoder")
        if not isinstance(self.skip, bool):
            raise InvalidData(f"expected skip= as True or False, got {self.skip!r}")
        if isinstance(self.encoder, EncoderSpec) and not _linear(self.encoder):
            kind = type(self.encoder).__name__
            raise InvalidData(f"expected an encoder with one linear map, such as TopK or ReLU, got {kind}")
        rows, target = as_rows(X), as_rows(y, "y")
        dictionary = SparseAutoencoder(
            self.n_latents, self.encoder, epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate,
            normalize=self.normalize, device=self.device, random_state=self.random_state,
        )  # fmt: skip
        dictionary._check(rows, target)
        skip = _least_squares(rows, target) if self.skip else None
        left = target if skip is None else _Residual(rows, target, skip)
        dictionary.fit(rows, left, checkpoint=checkpoint, progress=progress)
        return self._take(dictionary, skip, np.asarray(target.mean_))

    def _take(self, dictionary: SparseAutoencoder, skip: NDArray[np.float32] | None, mean: NDArray[Any]) -> Self:
        net = dictionary._net
        weight, bias, shift = (one.detach().cpu().numpy() for one in (net.encoder.map.weight, net.encoder.map.bias, net.shift))
        self.dictionary_, self.mean_ = dictionary, mean.astype(np.float64)
        self.n_features_in_ = int(weight.shape[1])
        self.maps_ = Maps(weight, bias - weight @ shift, dictionary.atoms_, dictionary.bias_, skip)
        return self

    # ------------------------------------------------------------------ use
    def transform(self, X: ArrayLike) -> sparse.csr_array:
        """Codes of inputs, none negative, shape (n, n_latents).

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width in)
        """
        check_is_fitted(self, "dictionary_")
        return self.dictionary_.encode(X)

    def reconstruct(self, X: ArrayLike, codes: sparse.csr_array | None = None) -> NDArray[np.float32]:
        """Outputs for inputs, shape (n, width out).

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width in)
        codes : sparse array of shape (n, n_latents) or None, default=None
            To be used instead of those of X, such as changed ones.
        """
        codes, skip = self.transform(X) if codes is None else codes, self.maps_.skip
        said = self.dictionary_.decode(codes)
        return said if skip is None else np.asarray(said + finite_rows(X) @ skip.T, dtype=np.float32)

    def module(self) -> Any:
        """A torch module from inputs to outputs, of any leading shape, to put in the place of the layer."""
        from locum.inside._transcoder_net import TranscoderModule

        check_is_fitted(self, "dictionary_")
        skip = self.maps_.skip
        net = self.dictionary_._net
        return TranscoderModule(net, None if skip is None else net.bias.new_tensor(skip)).eval()

    def fidelity(
        self, X: ArrayLike, y: ArrayLike, *, documents: ArrayLike | None = None, level: float = 0.95, random_state: int = 0
    ) -> dict[str, Fidelity]:
        """How faithful the outputs are, how many latents they take, and how many latents are never used.

        Parameters
        ----------
        X, y : array-like or torch.Tensor of shape (n, width)
            Inputs and outputs of the layer that did not fit.
        documents : array-like of shape (n,), optional
            Intervals are over documents where given.
        level : float, default=0.95
        random_state : int, default=0

        Returns
        -------
        dict of str to Fidelity
            "FVU", "cosine", "L0" and "dead share".
        """
        codes, truth = self.transform(X), finite_rows(y)
        said = self.reconstruct(X, codes)
        return reconstruction_fidelity(
            truth, said, codes, self.mean_, documents=documents, level=level, random_state=random_state
        )

    # ------------------------------------------------------------------ files
    def save(self, path: Any) -> None:
        """Write the transcoder to a folder, as safetensors and JSON; :meth:`load` reads it.

        Parameters
        ----------
        path : path
        """
        from locum.inside._files import plain, write_record, write_tensors

        check_is_fitted(self, "dictionary_")
        folder = Path(path)
        self.dictionary_.save(folder)
        skip = self.maps_.skip
        write_tensors(folder / _TENSORS, {"mean": self.mean_} | ({} if skip is None else {"skip": skip}))
        settings = {name: plain(value) for name, value in self.get_params(deep=False).items()}
        write_record(folder / _JSON, {"format": _FORMAT, "settings": settings})

    @classmethod
    def load(cls, path: Any) -> Transcoder:
        """The transcoder that :meth:`save` wrote to a folder.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            No such folder, or one that is damaged or cut short.
        """
        from locum.inside._files import load, read_record, read_tensors, restored

        folder = Path(path)
        record = read_record(folder / _JSON, _FORMAT, "a transcoder of ")
        tensors = read_tensors(folder / _TENSORS)
        made = cls(**{name: restored(value) for name, value in record["settings"].items()} | {"device": "cpu"})
        dictionary = load(folder)
        if not isinstance(dictionary, SparseAutoencoder) or "mean" not in tensors or made.skip != ("skip" in tensors):
            raise FormatError(f"{folder} does not hold a whole transcoder; use another copy")
        return made._take(dictionary, tensors.get("skip"), tensors["mean"])


def _linear(spec: EncoderSpec) -> bool:
    return isinstance(spec.inner, ReLU | TopK | BatchTopK | JumpReLU)


def _least_squares(rows: ActivationRows, target: ActivationRows) -> NDArray[np.float32]:
    """The linear map, of shape (width out, width in), that gives targets less their mean best from rows less theirs."""
    together = np.zeros((rows.width, target.width))
    for start, x in rows.chunks():
        y = np.empty((len(x), target.width), dtype=np.float32)
        target.read_into(start, y)
        together += x.T.astype(float) @ y
    mean = np.asarray(rows.mean_)
    across = together / rows.count("train") - np.outer(mean, target.mean_)
    within = np.asarray(rows.gram_) - np.outer(mean, mean)
    within[np.diag_indices_from(within)] += _RIDGE * np.trace(within) / len(within)
    return np.linalg.solve(within, across).T.astype(np.float32)


class _Residual(ActivationRows):
    """Targets less a linear map of their rows."""

    def __init__(self, rows: ActivationRows, target: ActivationRows, skip: NDArray[np.float32]) -> None:
        self.name, self.width, self.store = target.name, target.width, getattr(target, "store", None)
        self._rows, self._target, self._skip = rows, target, skip

    def blocks(self, split: str) -> list[tuple[int, int]]:
        return self._target.blocks(split)

    def read_into(self, start: int, out: NDArray[np.float32]) -> None:
        x = np.empty((len(out), self._rows.width), dtype=np.float32)
        self._rows.read_into(start, x)
        self._target.read_into(start, out)
        out -= x @ self._skip.T

    def documents(self, split: str) -> NDArray[np.int64]:
        return self._target.documents(split)

    @property
    def mean_(self) -> NDArray[np.float64]:
        return np.asarray(self._target.mean_ - self._skip @ self._rows.mean_)

    @property
    def gram_(self) -> NDArray[np.float64]:
        found = np.zeros((self.width, self.width))
        for _, y in self.chunks():
            found += y.T.astype(float) @ y
        return found / self.count("train")
