"""Images as the style explainer takes them: read, checked, and told apart by content."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData

__all__ = ["as_images"]

_IMAGES = NDArray[np.float32]


def as_images(given: Any, size: int, channels: int | None = None) -> _IMAGES:
    """Images of shape (n, channels, size, size) with values in [0, 1].

    Parameters
    ----------
    given : array, tensor, or iterable of batches
        A batch is an array or tensor, or a sequence whose first element is one, as a DataLoader gives them. An array of
        float32, such as a memory-mapped one, is not copied.
    size : int
    channels : int or None, default=None
        How many there must be; 1 or 3 where None.
    """
    if hasattr(given, "__array__") or isinstance(given, list | tuple):
        found = _array(given)
    elif isinstance(given, Iterable):
        batches = list(_batches(given))
        if not batches:
            raise InvalidData("expected images, got an iterable without any batch")
        found = np.concatenate(batches)
    else:
        raise InvalidData(f"expected an array of images or batches of them, got {type(given).__name__}")
    allowed = (1, 3) if channels is None else (channels,)
    if found.ndim != 4 or not len(found) or found.shape[1] not in allowed or found.shape[2:] != (size, size):
        said = " or ".join(map(str, allowed))
        raise InvalidData(
            f"expected images of shape (n, {said}, {size}, {size}), got {found.shape}; for colour in place of grey repeat "
            "the one channel three times, for grey take the mean of the three"
        )
    low, high = float(found.min()), float(found.max())
    if not (low >= 0 and high <= 1):  # also where one is NaN
        raise InvalidData(f"expected finite values in [0, 1], got {low:g} to {high:g}; divide bytes by 255")
    return found


def _array(given: Any) -> _IMAGES:
    found = np.asarray(given)
    if found.dtype.kind not in "fiub":
        raise InvalidData(f"expected images of numbers, got {found.dtype}")
    return found.astype(np.float32, copy=False)


def _batches(given: Iterable[Any]) -> Iterator[_IMAGES]:
    for batch in given:
        yield _array(batch[0] if isinstance(batch, list | tuple) else batch)
