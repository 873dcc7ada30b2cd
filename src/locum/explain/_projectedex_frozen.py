"""What the style explainer uses and never trains: the classifier's two logits, their scale, and the frozen maps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from locum.core.errors import InvalidData
from locum.explain._projectedex_networks import FeaturePyramid, lite0
from locum.explain._projectedex_training import Frozen
from locum.nets import Reference

__all__ = ["balanced_by", "frozen_parts", "pair_of"]

_IMAGES = NDArray[np.float32]
_LEAST = 10  # images of a class to learn from
_BATCH = 256


def pair_of(classifier: Any, pair: Any, images: _IMAGES, device: Any) -> tuple[tuple[int, int], Callable[[Tensor], Tensor]]:
    """The pair of classes, and their two logits as a function of images; refused where it cannot be explained."""
    given = classifier if isinstance(classifier, Reference) else Reference(classifier, device=device)
    # A copy, so that neither its gradients nor its place are touched.
    frozen = Reference(copy.deepcopy(given.module).requires_grad_(False), device=device)
    probe = torch.from_numpy(np.array(images[:2])).to(device).requires_grad_(True)
    try:
        found = frozen.forward(probe)
    except RuntimeError as error:
        shape = ", ".join(map(str, images.shape[1:]))
        raise InvalidData(
            f"the classifier takes no images of shape (n, {shape}): {str(error).splitlines()[0]}. Give images as it was "
            "trained on: a grey one has 1 channel, a colour one 3 (repeat the one, or take the mean of the three)"
        ) from error
    if not found.requires_grad or not bool(torch.autograd.grad(found.square().sum(), probe)[0].any()):
        raise InvalidData(
            "the classifier passes no gradient to its images; leave out no_grad, detach, rounding and thresholds inside it"
        )
    if pair is None:
        if found.shape[1] != 2:
            raise InvalidData(f"expected two logits, got {found.shape[1]}; say target_pair=, the two to tell apart")
        pair = (0, 1)
    if len(set(pair)) != 2 or not all(isinstance(c, int) and 0 <= c < found.shape[1] for c in pair):
        raise InvalidData(f"expected target_pair= of two of the logits 0 to {found.shape[1] - 1}, got {pair!r}")
    columns = list(pair)
    return (columns[0], columns[1]), lambda x: frozen.forward(x)[:, columns]


def frozen_parts(
    logits: Callable[[Tensor], Tensor], backbone: Any, size: int, images: _IMAGES, device: Any
) -> tuple[Frozen, NDArray[np.intp]]:
    """Classifier and backbone with the scale of the logits on the images, and what the classifier answers for each."""
    if isinstance(backbone, str) and backbone != "efficientnet-lite0":
        raise InvalidData(f"expected backbone= to be 'efficientnet-lite0' or a torch module, got {backbone!r}")
    if not isinstance(backbone, str | nn.Module):
        raise InvalidData(f"expected backbone= to be a torch.nn.Module, got {type(backbone).__name__}")
    with torch.no_grad():
        starts = range(0, len(images), _BATCH)
        batches = (torch.from_numpy(np.ascontiguousarray(images[i : i + _BATCH])) for i in starts)
        told = torch.cat([logits(batch.to(device)) for batch in batches])
    if not bool(told.isfinite().all()):
        raise InvalidData("the classifier answers NaN or infinity for some images; mend it first")
    scale = told.std(dim=0)
    if not bool((scale > 0).all()):
        raise InvalidData("the classifier answers the same for every image, so there is nothing to explain")
    pyramid = FeaturePyramid(lite0() if isinstance(backbone, str) else backbone, size).to(device)
    some = images[:: max(1, len(images) // _BATCH)][:_BATCH]
    pyramid.calibrate(torch.from_numpy(np.ascontiguousarray(some)).to(device))
    return Frozen(logits, told.mean(dim=0), scale, pyramid), told.argmax(dim=1).cpu().numpy()


def balanced_by(y: Any, answers: NDArray[np.intp]) -> NDArray[Any]:
    """The class of each image that batches are balanced by."""
    classes, source = (answers, "that the classifier answers") if y is None else (np.asarray(y), "of y")
    if classes.shape != answers.shape:
        raise InvalidData(f"expected a class for each of {len(answers)} images, got shape {classes.shape}")
    names, counts = np.unique(classes, return_counts=True)
    if len(names) < 2 or min(counts) < _LEAST:
        told = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True))
        raise InvalidData(f"expected {_LEAST} or more images of each of two classes {source}, got {told}; give more images")
    return classes
