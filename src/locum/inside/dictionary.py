"""A dictionary of latents stands in for an activation vector: few of many atoms, with a sum that gives the vector back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.encoders import EncoderSpec, Resampling, TopK
from locum.inside.measures import fvu, fvu_of, reconstruction_fidelity, squares
from locum.inside.rows import ActivationRows, as_rows, finite_rows

__all__ = ["Dictionary", "SparseAutoencoder", "TrainingEstimate"]

_FLOATS = NDArray[np.float32]
_PAIRS = 8_000_000  # (row, latent) pairs that are held at a time
_PIECE = 4096  # rows that are judged at a time


@dataclass(frozen=True)
class TrainingEstimate:
    """What a training will take.

    Attributes
    ----------
    steps : int
    seconds : float
        On this machine, by the first few steps.
    bytes : int
        Of a checkpoint on disk, and about what the parameters and their moments take in memory.
    """

    steps: int
    seconds: float
    bytes: int

    def __str__(self) -> str:
        return f"{self.steps} steps, {self.bytes / 2**20:.0f} MiB a checkpoint, about {self.seconds:.0f} s"


class Dictionary(BaseEstimator, ABC):
    """What every dictionary can do; see :class:`SparseAutoencoder` and :class:`~locum.inside.MatchingPursuitSAE`.

    Attributes
    ----------
    atoms_ : ndarray of shape (n_latents, width)
        Of length 1.
    bias_ : ndarray of shape (width,)
        Added to every reconstruction.
    mean_ : ndarray of shape (width,)
        Of the training rows; what is left unexplained is measured against it.
    record_ : Record
        What the training did: fraction of variance unexplained and active latents by step, share of dead latents, seconds.
    n_features_in_ : int
    """

    n_latents: int
    epochs: int
    batch_size: int
    learning_rate: float | None
    betas: tuple[float, float]
    warmup: float
    decay: float
    clip: float | None
    normalize: bool
    device: Any
    random_state: int
    learn_atoms: bool = True

    @abstractmethod
    def spec(self) -> EncoderSpec:
        """Settings of the encoder."""

    # ------------------------------------------------------------------ learning
    @final
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        val: Any = None,
        checkpoint: Any = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Learn a dictionary of rows.

        Parameters
        ----------
        X : ActivationRows, array-like or torch.Tensor of shape (n, width)
            A site of a store, of which the training part is used, or rows in memory.
        y : as X, or None, default=None
            Rows to give back instead of X itself, such as the outputs of a layer for its inputs: a site of the same store,
            or rows in the same order.
        val : as X, or None, default=None
            Rows on which ``val_fvu_`` is measured, where X gives itself back; the validation part where X is a store.
        checkpoint : path or None, default=None
            A file that is written now and then, from which the same fit goes on to the same numbers.
        progress : callable or None, default=None
            Called with (steps done, steps in all, words).

        Returns
        -------
        self

        Raises
        ------
        InvalidData
            Rows that are not finite (the first is named), no rows, or settings that cannot be used.
        TrainingFailed
            A loss that is not finite.
        """
        from locum.inside._training import train_dictionary

        rows = as_rows(X)
        target = None if y is None else as_rows(y, "y")
        self._check(rows, target)
        net, record = train_dictionary(
            self.spec(),
            rows,
            target,
            self._plan(),
            checkpoint=None if checkpoint is None else Path(checkpoint),
            progress=progress,
        )
        self._take(net, np.asarray((rows if target is None else target).mean_), rows.width)
        self.record_ = record
        held = rows if val is None and target is None and rows.count("val") else None if val is None else as_rows(val, "val")
        if held is not None:
            split = "val" if held is rows else "train"
            whose = held.documents(split)
            documents = whose if 1 < len(np.unique(whose)) < len(whose) else None  # one document has no spread
            # Piece by piece: the validation part of a large store does not fit in memory.
            parts = [squares(part, self.reconstruct(part), self.mean_) for _, part in held.chunks(_PIECE, split)]
            self.val_fvu_ = fvu_of(np.concatenate(parts), documents)
        return self

    def estimate(self, X: Any, y: Any = None) -> TrainingEstimate:
        """What :meth:`fit` with the same arguments will take, by its first few steps.

        Parameters
        ----------
        X : as for :meth:`fit`
        y : as for :meth:`fit`, default=None

        Returns
        -------
        TrainingEstimate
            Steps, seconds and the bytes of a checkpoint.
        """
        from locum.inside._training import estimate_training

        rows = as_rows(X)
        target = None if y is None else as_rows(y, "y")
        self._check(rows, target)
        return estimate_training(self.spec(), rows, target, self._plan())

    def _plan(self) -> Any:
        from locum.inside._training import Plan

        rate = self.learning_rate
        if rate is None:
            rate = 2e-4 / (self.n_latents / 16384) ** 0.5
        return Plan(
            self.n_latents, self.epochs, self.batch_size, float(rate), (self.betas[0], self.betas[1]), self.warmup,
            self.decay, self.clip, self.normalize, str(self.device), self.random_state, self.learn_atoms,
        )  # fmt: skip

    def _check(self, rows: ActivationRows, target: ActivationRows | None) -> None:
        need("torch", "a dictionary", "nets")
        require_whole(1, n_latents=self.n_latents, epochs=self.epochs, batch_size=self.batch_size)
        require_whole(0, random_state=self.random_state)
        for name in ("warmup", "decay"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value < 1:
                raise InvalidData(f"expected {name}= as a share of the training between 0 and 1, got {value!r}")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and 0 < value < np.inf):
                raise InvalidData(f"expected {name}= to be a positive number or None, got {value!r}")
        spec = self.spec()
        if not isinstance(spec, EncoderSpec):
            raise InvalidData(f"expected encoder= to be an encoder such as TopK(32), got {spec!r}")
        spec.check(self.n_latents)
        if spec.dead is not None:
            spec.dead.check()
        if not self.learn_atoms and isinstance(spec.dead, Resampling):
            raise InvalidData("expected an encoder with dead=None for atoms that are not learned: resampling would change them")
        if not rows.count("train"):
            raise InvalidData(f"there are no training rows at {rows.name!r}")
        if target is not None:
            ours, theirs = getattr(rows, "store", None), getattr(target, "store", None)
            if (ours is None) != (theirs is None) or (ours is not None and ours.hash != theirs.hash):  # type: ignore[union-attr]
                raise InvalidData(
                    "expected X and y of one store, or both in memory: rows of two stores are of different tokens"
                )
            if rows.count("train") != target.count("train"):
                raise InvalidData(f"expected X and y of one length, got {rows.count('train')} and {target.count('train')} rows")

    def _take(self, net: Any, mean: NDArray[Any], width: int) -> None:
        """Be what a network has learned."""
        self._net = net
        self.atoms_ = net.atoms.detach().cpu().numpy().copy()
        self.bias_ = net.bias.detach().cpu().numpy().copy()
        self.mean_, self.n_features_in_ = mean.astype(np.float64), width

    # ------------------------------------------------------------------ use
    @abstractmethod
    def encode(self, X: ArrayLike) -> sparse.csr_array:
        """Codes of rows, none negative, shape (n, n_latents)."""

    @final
    def transform(self, X: ArrayLike, prefix: int | None = None) -> sparse.csr_array:
        """Codes of rows, as :meth:`encode` gives them.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        prefix : int or None, default=None
            Keep the codes of so many first latents alone, the others 0; for dictionaries whose prefixes were trained to
            reconstruct by themselves (:class:`~locum.inside.Matryoshka`).
        """
        codes = self.encode(X)
        if prefix is None:
            return codes
        self._check_k(prefix, "prefix")
        kept = sparse.csr_array(codes[:, :prefix])
        return sparse.csr_array((kept.data, kept.indices, kept.indptr), shape=codes.shape)

    @final
    def decode(self, Z: Any) -> _FLOATS:
        """Rows that codes stand for, shape (n, width).

        Codes with few active latents are multiplied as sparse ones, others as dense ones.

        Parameters
        ----------
        Z : sparse or dense array of shape (n, n_latents)
        """
        check_is_fitted(self, "atoms_")
        if Z.ndim != 2 or Z.shape[1] != len(self.atoms_):
            raise InvalidData(f"expected codes of shape (n, {len(self.atoms_)}), got {Z.shape}")
        return np.asarray(product(Z, self.atoms_) + self.bias_, dtype=np.float32)

    @final
    def reconstruct(self, X: ArrayLike, prefix: int | None = None) -> _FLOATS:
        """Rows given back from their codes, shape (n, width).

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        prefix : int or None, default=None
            As for :meth:`transform`.
        """
        return self.decode(self.transform(X, prefix))

    @final
    def module(self) -> Any:
        """A torch module from inputs to reconstructions, of any leading shape, to put in the place of an activation."""
        from locum.inside._network import DictionaryModule

        check_is_fitted(self, "atoms_")
        return DictionaryModule(self._net).eval()

    @final
    def reading(self, latent: int) -> Any:
        """A torch module from inputs of any leading shape to the codes of one latent, of that shape.

        Parameters
        ----------
        latent : int
        """
        from locum.inside._network import LatentReading

        check_is_fitted(self, "atoms_")
        if not 0 <= latent < len(self.atoms_):
            raise InvalidData(f"expected latent= from 0 to {len(self.atoms_) - 1}, got {latent!r}")
        return LatentReading(self._net, int(latent)).eval()

    @final
    def ranked(self, X: ArrayLike, k: int) -> tuple[NDArray[np.int64], _FLOATS]:
        """Latents in the order in which a code of k of them takes them in.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        k : int
            May be more than in training.

        Returns
        -------
        index, value : ndarrays of shape (n, k)
            The value is 0 where a row takes fewer.
        """
        self._check_k(k)
        parts = list(self._through(X, lambda x: self._net.ranked(x, k)))
        return np.concatenate([i.cpu().numpy() for i, _ in parts]), np.concatenate([v.cpu().numpy() for _, v in parts])

    @final
    def error_curve(
        self, X: Any, ks: Sequence[int], *, documents: ArrayLike | None = None, level: float = 0.95, random_state: int = 0
    ) -> dict[int, Fidelity]:
        """Fraction of variance unexplained with the first k latents of each row, also for more than in training.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
        ks : sequence of int
        documents : array-like of shape (n,), optional
            Intervals are over documents where given.
        level : float, default=0.95
        random_state : int, default=0

        Returns
        -------
        dict of int to Fidelity
        """
        wanted = sorted({int(k) for k in ks})
        if not wanted:
            raise InvalidData("expected at least one k in ks=, got none")
        index, value = self.ranked(X, wanted[-1])
        table, out, given, last = finite_rows(X), {}, np.tile(self.bias_, (len(value), 1)), 0
        for k in wanted:
            part = as_csr(index[:, last:k], value[:, last:k], len(self.atoms_))
            given, last = given + product(part, self.atoms_), k
            out[k] = fvu(table, given, self.mean_, documents=documents, level=level, random_state=random_state)
        return out

    @final
    def fidelity(
        self, X: ArrayLike, y: ArrayLike | None = None, *, documents: ArrayLike | None = None, level: float = 0.95,
        random_state: int = 0,
    ) -> dict[str, Fidelity]:  # fmt: skip
        """How faithful reconstructions are, how many latents they take, and how many latents are never used.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n, width)
            Rows that did not fit.
        y : array-like or None, default=None
            What is to be given back; X itself where None.
        documents : array-like of shape (n,), optional
        level : float, default=0.95
        random_state : int, default=0

        Returns
        -------
        dict of str to Fidelity
            "FVU", "cosine", "L0" and "dead share".
        """
        codes = self.encode(X)
        truth, said = finite_rows(X if y is None else y), self.decode(codes)
        return reconstruction_fidelity(
            truth, said, codes, self.mean_, documents=documents, level=level, random_state=random_state
        )

    @final
    def save(self, path: Any) -> None:
        """Write the dictionary to a folder, as safetensors and JSON; :meth:`load` reads it.

        Parameters
        ----------
        path : path
        """
        from locum.inside._files import save

        check_is_fitted(self, "atoms_")
        save(self, Path(path))

    @staticmethod
    def load(path: Any) -> Dictionary:
        """The dictionary that :meth:`save` wrote to a folder.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            No such folder, one that is damaged or cut short, or atoms that are not of length 1.
        """
        from locum.inside._files import load

        return load(Path(path))

    # ------------------------------------------------------------------ helpers
    def _check_k(self, k: Any, name: str = "k") -> None:
        check_is_fitted(self, "atoms_")
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= len(self.atoms_):
            raise InvalidData(f"expected {name}= as a whole number from 1 to the {len(self.atoms_)} latents, got {k!r}")

    def _through(self, X: Any, function: Callable[[Any], Any]) -> Iterator[Any]:
        """What a function of tensors gives for parts of the rows."""
        torch = need("torch", "a dictionary", "nets")
        check_is_fitted(self, "atoms_")
        table = finite_rows(X, self.n_features_in_)
        rows = max(1, _PAIRS // len(self.atoms_))
        device = self._net.atoms.device
        with torch.inference_mode():
            for start in range(0, len(table), rows):
                yield function(torch.from_numpy(np.array(table[start : start + rows])).to(device))

    def _encoded(self, X: Any) -> sparse.csr_array:
        parts = []
        for codes in self._through(X, lambda x: self._net.codes(x)):
            arrays = (codes.value.cpu().numpy(), codes.index.cpu().numpy(), codes.offsets.cpu().numpy())
            found = sparse.csr_array(arrays, shape=(len(codes.offsets) - 1, codes.width))
            found.sum_duplicates()
            parts.append(found)
        return sparse.csr_array(sparse.vstack(parts, format="csr"))


def product(codes: Any, atoms: NDArray[Any]) -> NDArray[Any]:
    """Codes times atoms: as sparse where few are active, which is then as many times faster."""
    if sparse.issparse(codes):
        if codes.nnz > 0.1 * codes.shape[0] * codes.shape[1]:
            return codes.toarray() @ atoms
        return codes @ atoms
    return np.asarray(codes) @ atoms


def as_csr(index: NDArray[Any], value: NDArray[Any], width: int) -> sparse.csr_array:
    n, k = index.shape
    found = sparse.csr_array((value.flatten(), index.flatten(), np.arange(0, n * k + 1, k)), shape=(n, width))
    found.sum_duplicates()
    found.eliminate_zeros()
    return found


@final
class SparseAutoencoder(Dictionary):
    r"""A sum of few learned atoms stands in for an activation vector, with a one-step encoder of any kind.

    The encoder is a linear map and what `encoder` does with it; codes times atoms plus a bias give the row back. With `y` in
    :meth:`~Dictionary.fit` the same is a transcoder, which gives the output of a layer from its input.

    .. math:: z = \mathrm{encoder}(W (x - b) + c), \quad \hat x = z D + b, \quad \lVert D_i \rVert = 1

    Parameters
    ----------
    n_latents : int
    encoder : EncoderSpec, default=TopK(k=32, dead=AuxiliaryLoss(weight=0.03125, window=0.1))
        `ReLU`, `Gated`, `JumpReLU`, `TopK`, `BatchTopK`, or one of them within `Matryoshka`.
    epochs : int, default=1
    batch_size : int, default=2048
    learning_rate : float or None, default=None
        Of Adam; 2e-4 divided by the root of n_latents / 16384 where None, as Gao and others found.
    betas : tuple of two floats, default=(0.9, 0.999)
    warmup, decay : float, default=0.05, 0.2
        Shares of the training at its beginning and end in which the learning rate rises and falls.
    clip : float or None, default=1.0
        Largest norm of a gradient, of the squared error summed over the columns as in published trainings, where it binds at
        almost every step; with `MatchingPursuit` of the mean over them.
    normalize : bool, default=True
        Train on rows scaled so that their mean squared length is their width; the scale is folded back afterwards.
    learn_atoms : bool, default=True
        False leaves the atoms as they were drawn: a control, of which only encoder and bias are learned.
    device : str or torch.device, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    atoms_, bias_, mean_, record_, n_features_in_
        As for :class:`Dictionary`.
    val_fvu_ : Fidelity
        Where there are validation rows.

    Raises
    ------
    InvalidData
        Settings or rows that cannot be used.

    Notes
    -----
    Cost of a step with TopK and BatchTopK, of n rows, width m and p latents: one product of 2 n m p operations and what is
    active; peers' dense steps take five such products. ReLU does the same once few latents are active.

    **Departures**: dead latents are counted over a share of the training rather than ten million rows; the errors are means
    over
    the columns, so that the weights of all penalties mean the same for any width; the threshold of BatchTopK is a mean over the
    last part of the training.

    References
    ----------
    Bricken and others, *Towards Monosemanticity* (2023); Gao and others, arXiv 2406.04093; Bussmann and others, arXiv
    2412.06410 and 2503.17547; Rajamanoharan and others, arXiv 2404.16014 and 2407.14435.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(12, 8))
    >>> X = (rng.random((4000, 12)) < 0.1) @ truth
    >>> sae = SparseAutoencoder(24, TopK(2), epochs=10, batch_size=128, learning_rate=3e-3).fit(X)
    >>> Z = sae.transform(X)
    >>> Z.shape, bool(Z.count_nonzero(axis=1).max() <= 2)
    ((4000, 24), True)
    >>> sae.fidelity(X)["FVU"].value < 0.3
    True
    """

    def __init__(
        self,
        n_latents: int,
        encoder: EncoderSpec = TopK(32),  # noqa: B008 - frozen
        *,
        epochs: int = 1,
        batch_size: int = 2048,
        learning_rate: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        warmup: float = 0.05,
        decay: float = 0.2,
        clip: float | None = 1.0,
        normalize: bool = True,
        learn_atoms: bool = True,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.n_latents = n_latents
        self.encoder = encoder
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.betas = betas
        self.warmup = warmup
        self.decay = decay
        self.clip = clip
        self.normalize = normalize
        self.learn_atoms = learn_atoms
        self.device = device
        self.random_state = random_state

    def spec(self) -> EncoderSpec:
        return self.encoder

    def encode(self, X: ArrayLike) -> sparse.csr_array:
        return self._encoded(X)
