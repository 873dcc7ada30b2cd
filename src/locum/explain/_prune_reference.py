"""The few rows that decide what a network keeps, and what its layers answer on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need
from locum.explain._prune_groups import named_layers

__all__ = [
    "Observed", "drawn", "observed", "probabilities", "reference_batches", "require_all_classes", "tensors",
]  # fmt: skip

_BATCH = 64
_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d")


def _torch() -> Any:
    return need("torch", "pruning a network", "nets")


# ---------------------------------------------------------------------- rows and labels
def tensors(X: Any, y: Any, device: Any) -> tuple[Any, Any]:
    """Rows and labels as tensors on the device; checked."""
    torch = _torch()
    rows = torch.as_tensor(X if isinstance(X, torch.Tensor) else np.asarray(X), device=device)
    labels = torch.as_tensor(y if isinstance(y, torch.Tensor) else np.asarray(y), device=device)
    if labels.ndim != 1 or len(labels) != len(rows) or len(rows) == 0:
        raise InvalidData(
            f"expected rows (n, ...) and one label for each, got shapes {tuple(rows.shape)} and {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.dtype == torch.bool or bool((labels < 0).any()):
        raise InvalidData("expected labels to be the positions of classes among the logits: whole numbers from 0")
    if rows.is_floating_point():
        rows = rows.float()
        if not bool(rows.isfinite().all()):
            raise InvalidData("the rows hold NaN or infinity; impute or drop those first")
    return rows, labels.long()


def reference_batches(reference: Any, device: Any) -> list[tuple[Any, Any]]:
    """A pair (X, y), or an iterable of such pairs as a DataLoader is, as batches on the device."""
    if isinstance(reference, tuple) and len(reference) == 2:
        X, y = tensors(*reference, device)
        return list(zip(X.split(_BATCH), y.split(_BATCH), strict=True))
    try:
        batches = [tensors(X, y, device) for X, y in reference]
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidData):
            raise
        raise InvalidData("expected reference rows as a pair (X, y), or batches of such pairs") from error
    if not batches:
        raise InvalidData("expected reference rows, got none")
    return batches


def require_all_classes(batches: list[tuple[Any, Any]], classes: int) -> None:
    """Refuse reference rows that leave a class out: its units would be the first to go."""
    present = {int(label) for _, y in batches for label in y.unique()}
    beyond = sorted(present - set(range(classes)))
    if beyond:
        raise InvalidData(f"there is a label {beyond[0]}, but the network answers {classes} logits, for labels from 0")
    missing = sorted(set(range(classes)) - present)
    if missing:
        raise InvalidData(
            f"the reference rows have none of class {', '.join(map(str, missing))}; what only those need would look useless"
        )


def drawn(labels: NDArray[np.int64], per_class: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """As many rows of each class, at random."""
    found = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < per_class:
            raise InvalidData(f"expected at least {per_class} rows of class {label} to draw from, got {len(rows)}")
        found.append(rng.choice(rows, per_class, replace=False))
    return np.concatenate(found)


# ---------------------------------------------------------------------- what a network and its layers answer
def probabilities(model: Any, rows: Any) -> NDArray[np.float64]:
    """Probabilities of shape (n, classes), in batches."""
    torch = _torch()
    with torch.no_grad():
        return np.concatenate([model(part).softmax(dim=1).double().cpu().numpy() for part in rows.split(256)])


@dataclass
class Observed:
    """One forward pass.

    Attributes
    ----------
    logits : torch.Tensor
    outputs : dict of str to torch.Tensor
        Of each convolution and linear layer, behind the batch normalisation where there is one right behind it.
    norms : dict of str to module
        Those batch normalisations.
    """

    logits: Any = None
    outputs: dict[str, Any] = field(default_factory=dict)
    norms: dict[str, Any] = field(default_factory=dict)


@contextmanager
def observed(model: Any, X: Any) -> Iterator[Observed]:
    """A forward pass with gradients in which layers are watched; afterwards the network is as it was."""
    torch = _torch()
    found = Observed()
    given: dict[int, str] = {}
    handed: list[Any] = []  # kept, so that no other tensor gets the identity of one of them

    def kept(name: str, output: Any) -> Any:
        found.outputs[name] = output
        copy = output.clone()  # so that an operation in place behind it leaves what was kept
        given[id(copy)] = name
        handed.append(copy)
        return copy

    def layer(name: str) -> Any:
        return lambda module, inputs, output: kept(name, output)

    def norm(module: Any, inputs: Any, output: Any) -> Any:
        name = given.get(id(inputs[0]))
        if name is None:
            return output
        found.norms[name] = module
        return kept(name, output)

    hooks = [module.register_forward_hook(layer(name)) for name, module in named_layers(model).items()]
    hooks += [module.register_forward_hook(norm) for module in model.modules() if type(module).__name__ in _NORMS]
    try:
        with torch.enable_grad():
            found.logits = model(X.detach().requires_grad_(X.is_floating_point()))
            yield found
    finally:
        for hook in hooks:
            hook.remove()
