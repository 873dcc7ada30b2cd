"""What kind of encoder a dictionary has, as plain settings; the networks are made when it is fitted."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

from locum.core.errors import InvalidData, require_whole

__all__ = [
    "AuxiliaryLoss", "BatchTopK", "EncoderSpec", "Gated", "JumpReLU", "MatchingPursuit", "Matryoshka", "ReLU", "Resampling",
    "Revival", "TopK",
]  # fmt: skip


def _positive(**given: Any) -> None:
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise InvalidData(f"expected {name}= to be a positive number, got {value!r}")


# ---------------------------------------------------------------------- latents that are never active
@dataclass(frozen=True)
class AuxiliaryLoss:
    """Dead latents learn to give back what the living ones leave over (Gao and others, 2406.04093, section 2.3).

    Parameters
    ----------
    weight : float, default=0.03125
        Of the loss, which is relative to the variance of what is left over.
    window : float, default=0.1
        A latent is dead that was not active in this share of the rows of the whole training. (The papers' ten million rows
        would never pass in a short training.)
    """

    weight: float = 1 / 32
    window: float = 0.1

    def check(self) -> None:
        """Refuse what cannot be used."""
        _positive(weight=self.weight, window=self.window)


@dataclass(frozen=True)
class Resampling:
    """Dead latents begin anew at inputs that are given back badly (Bricken and others, 2023).

    Parameters
    ----------
    times : tuple of float, default=(0.25, 0.5)
        When, as shares of the training.
    window : float, default=0.1
        As for :class:`AuxiliaryLoss`.
    """

    times: tuple[float, ...] = (0.25, 0.5)
    window: float = 0.1

    def check(self) -> None:
        """Refuse what cannot be used."""
        _positive(window=self.window)
        if any(not 0 < one < 1 for one in self.times):
            raise InvalidData(f"expected times= as shares between 0 and 1, got {self.times}")


@dataclass(frozen=True)
class Revival:
    """Dead atoms are drawn towards what is left over.

    Where more than `spare` atoms have no code above `small` in a batch, ``weight`` times the mean of the products of residuals
    with them is subtracted from the loss.

    Parameters
    ----------
    weight, small : float, default=0.01, 0.01
    spare : int, default=10
    """

    weight: float = 0.01
    small: float = 0.01
    spare: int = 10

    def check(self) -> None:
        """Refuse what cannot be used."""
        _positive(weight=self.weight, small=self.small)
        require_whole(0, spare=self.spare)


# ---------------------------------------------------------------------- encoders
class EncoderSpec(ABC):
    """Settings of an encoder.

    Attributes
    ----------
    dead : AuxiliaryLoss, Resampling, Revival or None
        What is done about latents that are never active.
    """

    dead: Any

    @abstractmethod
    def check(self, n_latents: int) -> None:
        """Refuse settings that cannot be used with so many latents."""

    @abstractmethod
    def network(self, atoms: Any, width: int, steps: int) -> Any:
        """The torch module, for a training of so many steps that begins at these atoms."""

    @property
    def inner(self) -> EncoderSpec:
        """The encoder that makes the codes: itself, or the one within."""
        return self

    def prefixes(self, n_latents: int) -> tuple[int, ...]:
        """Numbers of first latents that are to give the input back by themselves."""
        return (n_latents,)

    def prefix_weights(self) -> tuple[float, ...]:
        """Weights of their errors in the loss."""
        return (1.0,)

    def clip_unit(self, width: int) -> float:
        """What a limit of 1 for the gradient's length is, for the mean over so many columns: published ones are for the sum.

        A limit for the mean hardly ever binds, and Adam, which remembers the large gradients of the first steps, then learns
        too slowly.
        """
        return 1.0 / width


def _most(n_latents: int, **given: float) -> None:
    for name, value in given.items():
        if value > n_latents:
            raise InvalidData(f"expected {name}= of at most the {n_latents} latents, got {value!r}")


def _pace(steps: int) -> float:
    """By how much a penalty may change in a step, so that it can change about three thousandfold in a training."""
    return min(0.05, 8.0 / steps)


@final
@dataclass(frozen=True)
class ReLU(EncoderSpec):
    """Positive latents, with their sum in the loss; its weight is moved until about `l0` are active.

    Parameters
    ----------
    l0 : float
        Active latents a row that are wanted.
    weight : float, default=0.05
        Of the sum at the beginning.
    dead : AuxiliaryLoss, Resampling, Revival or None, default=Resampling(times=(0.25, 0.5), window=0.1)
    """

    l0: float
    weight: float = 0.05
    dead: AuxiliaryLoss | Resampling | Revival | None = Resampling()

    def check(self, n_latents: int) -> None:
        _positive(l0=self.l0, weight=self.weight)
        _most(n_latents, l0=self.l0)

    def network(self, atoms: Any, width: int, steps: int) -> Any:
        from locum.inside._encoders import ReLUEncoder

        return ReLUEncoder(atoms, self.l0, self.weight, _pace(steps))


@final
@dataclass(frozen=True)
class Gated(EncoderSpec):
    """A gate that says which latents are active, and a size for those that are (Rajamanoharan and others, 2404.16014).

    Parameters
    ----------
    l0 : float
        Active latents a row that are wanted.
    weight : float, default=0.05
        Of the sum of open gates at the beginning.
    dead : AuxiliaryLoss, Resampling, Revival or None, default=Resampling(times=(0.25, 0.5), window=0.1)
    """

    l0: float
    weight: float = 0.05
    dead: AuxiliaryLoss | Resampling | Revival | None = Resampling()

    def check(self, n_latents: int) -> None:
        _positive(l0=self.l0, weight=self.weight)
        _most(n_latents, l0=self.l0)

    def network(self, atoms: Any, width: int, steps: int) -> Any:
        from locum.inside._encoders import GatedEncoder

        return GatedEncoder(atoms, self.l0, self.weight, _pace(steps))


@final
@dataclass(frozen=True)
class JumpReLU(EncoderSpec):
    """Latents above a threshold of their own, learned by the number that is active (Rajamanoharan and others, 2407.14435).

    Parameters
    ----------
    l0 : float
        Active latents a row that are wanted.
    weight : float, default=1.0
        Of ``(active / l0 - 1)²`` in the loss.
    threshold, bandwidth : float, default=0.01, 0.05
        At the beginning, and of the window in which it has a gradient; for inputs of mean squared length their width.
    dead : AuxiliaryLoss, Resampling, Revival or None, default=None
    """

    l0: float
    weight: float = 1.0
    threshold: float = 0.01
    bandwidth: float = 0.05
    dead: AuxiliaryLoss | Resampling | Revival | None = None

    def check(self, n_latents: int) -> None:
        _positive(l0=self.l0, weight=self.weight, threshold=self.threshold, bandwidth=self.bandwidth)
        _most(n_latents, l0=self.l0)

    def network(self, atoms: Any, width: int, steps: int) -> Any:
        from locum.inside._encoders import JumpReLUEncoder

        return JumpReLUEncoder(atoms, self.l0, self.weight, self.threshold, self.bandwidth)


@final
@dataclass(frozen=True)
class TopK(EncoderSpec):
    """The k largest latents of each row (Gao and others, 2406.04093).

    Parameters
    ----------
    k : int
    dead : AuxiliaryLoss, Resampling, Revival or None, default=AuxiliaryLoss(weight=0.03125, window=0.1)
    """

    k: int
    dead: AuxiliaryLoss | Resampling | Revival | None = AuxiliaryLoss()

    def check(self, n_latents: int) -> None:
        require_whole(1, k=self.k)
        _most(n_latents, k=self.k)

    def network(self, atoms: Any, width: int, steps: int) -> Any:
        from locum.inside._encoders import TopKEncoder

        return TopKEncoder(atoms, self.k)


@final
@dataclass(frozen=True)
class BatchTopK(EncoderSpec):
    """The largest latents of a batch, k a row on average; in use those above one threshold (Bussmann and others, 2412.06410).

    Parameters
    ----------
    k : float
    dead : AuxiliaryLoss, Resampling, Revival or None, default=AuxiliaryLoss(weight=0.03125, window=0.1)
    """

    k: float
    dead: AuxiliaryLoss | Resampling | Revival | None = AuxiliaryLoss()

    def check(self, n_latents: int) -> None:
        _positive(k=self.k)
        _most(n_latents, k=self.k)

    def network(self, atoms: Any, width: int, steps: int) -> Any:
        from locum.inside._encoders import BatchTopKEncoder

        found = BatchTopKEncoder(atoms, self.k)
        found.remember(steps)
        return found


@final
@dataclass(frozen=True)
class Matryoshka(EncoderSpec):
    """Another encoder, of whose latents each prefix also gives the input back by itself (Bussmann and others, 2503.17547).

    Parameters
    ----------
    encoder : EncoderSpec
        Usually :class:`BatchTopK`.
    groups : tuple of float, default=(0.0625, 0.0625, 0.125, 0.25, 0.5)
        Shares of the latents that come in with each prefix; they sum to 1.
    weights : tuple of float or None, default=None
        Of the error of each prefix in the loss, none negative; they sum to 1. Equal where None. Weights that sum to more would
        also change what the learning rate and the loss of dead latents mean.
    """

    encoder: EncoderSpec
    groups: tuple[float, ...] = (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    weights: tuple[float, ...] | None = None

    @property
    def dead(self) -> Any:
        """That of the encoder within."""
        return self.encoder.dead

    @property
    def inner(self) -> EncoderSpec:
        return self.encoder

    def check(self, n_latents: int) -> None:
        if not isinstance(self.encoder, EncoderSpec) or isinstance(self.encoder, Matryoshka):
            raise InvalidData(f"expected encoder= to be an encoder such as BatchTopK(32), got {self.encoder!r}")
        self.encoder.check(n_latents)
        if not self.groups or min(self.groups) <= 0 or abs(sum(self.groups) - 1) > 1e-6:
            raise InvalidData(f"expected groups= as positive shares that sum to 1, got {self.groups}")
        ends = self.prefixes(n_latents)
        if len(set(ends)) < len(ends) or ends[0] < 1:
            raise InvalidData(f"expected at least one latent a group, got groups {self.groups} of {n_latents} latents")
        if self.weights is not None:
            fitting = len(self.weights) == len(self.groups) and min(self.weights) >= 0 and abs(sum(self.weights) - 1) <= 1e-6
            if not fitting:
                raise InvalidData(f"expected a weight for each of {len(self.groups)} groups, that sum to 1, got {self.weights}")

    def network(self, atoms: Any, width: int, steps: int) -> Any:
        return self.encoder.network(atoms, width, steps)

    def prefixes(self, n_latents: int) -> tuple[int, ...]:
        ends, share = [], 0.0
        for one in self.groups:
            share += one
            ends.append(int(share * n_latents + 1e-6))
        return (*ends[:-1], n_latents)

    def prefix_weights(self) -> tuple[float, ...]:
        return self.weights or (1.0 / len(self.groups),) * len(self.groups)


@final
@dataclass(frozen=True)
class MatchingPursuit(EncoderSpec):
    """Atoms chosen one after the other, each fitted to what those before left over (Costa and others, 2506.03093).

    Parameters
    ----------
    k : int
        Steps.
    tau : float or None, default=None
        Length of the residual at which a row stops earlier.
    dropout : float, default=0.75
        Probability with which an atom may not be chosen, in a batch of the first epoch (of the first tenth of a training of one
        epoch).
    until : float, default=0.1
        Share of the training with dropout.
    dead : AuxiliaryLoss, Resampling, Revival or None, default=Revival(weight=0.01, small=0.01, spare=10)
    """

    k: int
    tau: float | None = None
    dropout: float = 0.75
    until: float = 0.1
    dead: AuxiliaryLoss | Resampling | Revival | None = Revival()

    def check(self, n_latents: int) -> None:
        require_whole(1, k=self.k)
        _most(n_latents, k=self.k)
        if self.tau is not None:
            _positive(tau=self.tau)
        for name in ("dropout", "until"):
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise InvalidData(f"expected {name}= of at least 0 and below 1, got {value!r}")

    def clip_unit(self, width: int) -> float:
        return 1.0  # gradients pass through all steps: of equal length from step to step they teach it worse

    def network(self, atoms: Any, width: int, steps: int) -> Any:
        from locum.inside._pursuit import PursuitEncoder

        return PursuitEncoder(atoms, self.k, self.tau or 0.0, self.dropout, self.until)
