"""Settings and pictures that a stand-in for drag takes, looked at before anything is paid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_one_of, require_positive, require_whole
from locum.emulate.renderings import channel_slices, check_names

__all__ = ["BACKBONES", "as_numbers", "check_settings", "drag_of", "pictures_of"]

Array = NDArray[np.floating[Any]]

BACKBONES = {"resnext-attn-tiny": True, "resnext-tiny": False}  # whether it attends
_MULTIPLE = 16  # of pixels, which the network halves four times


def check_settings(model: Any) -> None:
    """Refuse what no network can be made of."""
    require_one_of(tuple(BACKBONES), backbone=model.backbone)
    check_names(model.views, model.channels)
    if not len(model.branches) or len(set(model.branches)) < len(model.branches):
        raise InvalidData(f"expected one branch or more, each once, got {model.branches!r}")
    for branch in model.branches:
        require_one_of(tuple(model.channels), branches=branch)
    whole = ("width", "hidden", "epochs", "joined_epochs", "batch_size", "patience")
    require_whole(1, **{name: getattr(model, name) for name in whole})
    require_whole(0, random_state=model.random_state)
    require_positive(lr=model.lr)
    if not isinstance(model.held_back, float) or not 0 < model.held_back < 1:
        raise InvalidData(f"expected held_back= between 0 and 1, got {model.held_back!r}")
    if model.mirror and ("left" in model.views) != ("right" in model.views):
        raise InvalidData("mirror=True needs the left and the right view, or neither: give both, or mirror=False")


def pictures_of(given: Any, views: Sequence[str], channels: Sequence[str], size: int | None = None) -> NDArray[Any]:
    """An array of bytes or numbers, of the views and channels that are expected, and of a size where one is."""
    if isinstance(given, list | tuple):
        shapes = sorted({np.shape(one) for one in given})
        if len(shapes) > 1:
            raise InvalidData(f"expected pictures of one size, got shapes {shapes}: draw all with the same size=")
    found = np.asarray(given)
    if found.dtype != np.uint8:
        try:
            found = found.astype(np.float32, copy=False)
        except (TypeError, ValueError):
            raise InvalidData(f"expected pictures of numbers, got {found.dtype}") from None
    depth, shape = channel_slices(channels)[channels[-1]].stop, found.shape
    if len(shape) != 5 or not shape[0] or shape[1:3] != (len(views), depth) or shape[3] != shape[4]:
        raise InvalidData(f"expected pictures of shape (n, {len(views)}, {depth}, size, size), got {shape}")
    if size is not None and shape[4] != size:
        raise InvalidData(f"expected pictures of {size} pixels, as learned from, got {shape[4]}")
    if not shape[4] or shape[4] % _MULTIPLE:
        raise InvalidData(f"expected pictures of a multiple of {_MULTIPLE} pixels, got {shape[4]}")
    if found.dtype != np.uint8 and not (found.min() >= 0 and found.max() <= 1):  # NaN is neither
        raise InvalidData(f"expected pictures in [0, 1], or bytes, got {found.min():g} to {found.max():g}")
    return found


def drag_of(y: Any, n: int) -> Array:
    """Finite numbers of shape (n,)."""
    drag = np.asarray(y, dtype=float)
    if drag.shape != (n,):
        raise InvalidData(f"expected one drag for each of {n} pictures, got shape {drag.shape}")
    if not np.isfinite(drag).all():
        raise InvalidData(f"expected finite drag, got NaN or infinity for picture {int(np.argmin(np.isfinite(drag)))}")
    return drag


def as_numbers(picture: NDArray[Any]) -> Array:
    """Bytes as numbers in [0, 1]; numbers as they are."""
    return picture.astype(np.float32) / 255 if picture.dtype == np.uint8 else picture
