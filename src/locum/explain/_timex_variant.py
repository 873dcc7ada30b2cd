"""What of the time-series explainer can be left out or put otherwise, to see what each part is worth."""

from __future__ import annotations

from dataclasses import dataclass

from locum.core.errors import InvalidData

__all__ = ["TimeXVariant"]

_KNOWN = {
    "relations": ("consistency", "contrast", "none"),
    "encoder_start": ("reference", "random"),
    "memory_start": ("random", "reference"),
    "mask": ("hard", "soft"),
}


@dataclass(frozen=True)
class TimeXVariant:
    """The published explainer, or one that does something else in one place.

    Parameters
    ----------
    relations : {"consistency", "contrast", "none"}, default="consistency"
        Hold the relations between series to those of the classifier; tell each series' embedding from those of others instead
        (as SimCLR does); or neither.
    encoder_start : {"reference", "random"}, default="reference"
        Weights of the explanation encoder before training: the classifier's, or drawn anew.
    memory_start : {"random", "reference"}, default="random"
        The same for the encoder inside the generator of masks.
    mask : {"hard", "soft"}, default="hard"
        What the explanation encoder sees in training: masks of 0 and 1 with the gradient of soft ones, or soft ones.
    label_pairs : bool, default=True
        Label consistency pair by pair. False compares two means over all pairs, as the authors' code does.

    Examples
    --------
    >>> TimeXVariant(relations="contrast").encoder_start
    'reference'
    """

    relations: str = "consistency"
    encoder_start: str = "reference"
    memory_start: str = "random"
    mask: str = "hard"
    label_pairs: bool = True

    def __post_init__(self) -> None:
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise InvalidData(f"expected {name}= to be one of {', '.join(map(repr, known))}, got {getattr(self, name)!r}")
