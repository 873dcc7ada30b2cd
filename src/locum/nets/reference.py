"""A trained classifier as one thing: its logits, probabilities, labels and embedding, in batches and without a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, need, require_whole

if TYPE_CHECKING:
    import torch

__all__ = ["Reference"]

_FLOAT = NDArray[np.float64]


class Reference:
    """A trained torch classifier, and where its embedding is.

    The module is used as it is: never trained, moved only to `device`, its parameters left as they are.

    Parameters
    ----------
    module : torch.nn.Module
        In eval mode. Takes one tensor or several of equal length n, gives logits of shape (n, classes).
    embed : callable, str or None, default=None
        What gives the embedding, of shape (n, width): a callable on the same tensors, or the name of a submodule (as in
        ``module.named_modules()``) whose output it is. An output of more dimensions is flattened.
    head : callable or None, default=None
        Takes an embedding, gives logits.
    classes : sequence or None, default=None
        Labels, one a logit; 0, 1, ... where None.
    batch_size : int, default=256
    device : torch.device or str, default="cpu"

    Raises
    ------
    InvalidData
        A module left in train mode, a submodule that is not there, or settings that cannot be used.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from locum.nets import Reference, seeded
    >>> with seeded(0):
    ...     net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    >>> reference = Reference(net, embed="1", head=net[2], classes=("no", "yes"))
    >>> X = np.eye(3)
    >>> reference.embed(X).shape, reference.predict_proba(X).shape, reference.predict(X).shape
    ((3, 4), (3, 2), (3,))
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        embed: Callable[..., torch.Tensor] | str | None = None,
        head: Callable[[torch.Tensor], torch.Tensor] | None = None,
        classes: Sequence[Any] | None = None,
        batch_size: int = 256,
        device: Any = "cpu",
    ) -> None:
        torch = _torch()
        if not isinstance(module, torch.nn.Module):
            raise InvalidData(f"expected a torch.nn.Module, got {type(module).__name__}")
        in_training = [name or "the module itself" for name, part in module.named_modules() if part.training]
        if in_training:
            raise InvalidData(f"expected eval mode, but {in_training[0]} is in train mode; call module.eval() first")
        if isinstance(embed, str) and embed not in dict(module.named_modules()):
            some = ", ".join(name for name, _ in list(module.named_modules())[1:9])
            raise InvalidData(f"there is no submodule {embed!r} to read the embedding from; there are {some}")
        require_whole(1, batch_size=batch_size)
        if classes is not None and len(set(classes)) != len(classes):
            raise InvalidData(f"expected each class once, got {list(classes)}")
        self.module, self.device = module.to(device), torch.device(device)
        self.head, self.batch_size = head, batch_size
        self._embed, self._classes = embed, None if classes is None else tuple(classes)

    # ------------------------------------------------------------------ tensors, with gradients
    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n, classes).

        Raises
        ------
        InvalidData
            The module gives something else.
        """
        logits = self.module(*tensors)
        if not isinstance(logits, _torch().Tensor) or logits.ndim != 2 or len(logits) != len(tensors[0]):
            got = tuple(getattr(logits, "shape", ())) or type(logits).__name__
            raise InvalidData(f"expected logits of shape ({len(tensors[0])}, classes) from the module, got {got}")
        if self._classes is not None and logits.shape[1] != len(self._classes):
            raise InvalidData(f"expected one class a logit, got {len(self._classes)} classes and {logits.shape[1]} logits")
        return logits

    def embedding(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Embedding of shape (n, width).

        Raises
        ------
        InvalidData
            It was not said what gives it.
        """
        if self._embed is None:
            raise InvalidData("this reference has no embedding; give embed=: a callable, or the name of a submodule")
        if callable(self._embed):
            found = self._embed(*tensors)
        else:
            seen: list[torch.Tensor] = []
            part = self.module.get_submodule(self._embed)
            hook = part.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
            try:
                self.module(*tensors)
            finally:
                hook.remove()
            if not seen:
                raise InvalidData(f"the submodule {self._embed!r} took no part in the forward pass; name another as embed=")
            found = seen[-1]
        if not isinstance(found, _torch().Tensor) or found.ndim < 2 or len(found) != len(tensors[0]):
            got = tuple(getattr(found, "shape", ())) or type(found).__name__
            raise InvalidData(f"expected an embedding of shape ({len(tensors[0])}, width), got {got}")
        return found.flatten(1)

    # ------------------------------------------------------------------ arrays, without
    def logits(self, *arrays: ArrayLike) -> _FLOAT:
        """Logits of shape (n, classes)."""
        return self._batched(self.forward, arrays)

    def predict_proba(self, *arrays: ArrayLike) -> _FLOAT:
        """Probabilities of shape (n, classes)."""
        return self._batched(lambda *tensors: self.forward(*tensors).softmax(dim=1), arrays)

    def predict(self, *arrays: ArrayLike) -> NDArray[Any]:
        """The likeliest class of each of n inputs."""
        best = self.logits(*arrays).argmax(axis=1)
        return best if self._classes is None else np.array(self._classes)[best]

    def embed(self, *arrays: ArrayLike) -> _FLOAT:
        """Embedding of shape (n, width)."""
        return self._batched(self.embedding, arrays)

    def _batched(self, function: Callable[..., torch.Tensor], arrays: Sequence[ArrayLike]) -> _FLOAT:
        with _torch().no_grad():
            found = [function(*batch).cpu().double().numpy() for batch in self._batches(arrays)]
        return np.concatenate(found)

    def _batches(self, arrays: Sequence[ArrayLike]) -> Iterator[list[torch.Tensor]]:
        """Rows on the device, in the dtype of the weights where they are fractions."""
        torch = _torch()
        found = [np.asarray(array) for array in arrays]
        lengths = {array.shape[:1] for array in found}
        if len(lengths) != 1 or lengths <= {(), (0,)}:
            raise InvalidData(f"expected arrays of one length of at least 1, got shapes {[array.shape for array in found]}")
        if any(array.dtype.kind not in "fiub" for array in found):
            raise InvalidData(f"expected numbers, got {[str(array.dtype) for array in found]}")
        if not all(np.isfinite(array).all() for array in found):
            raise InvalidData("expected finite numbers, got NaN or infinity; impute or drop those rows first")
        weights = next((one.dtype for one in self.module.parameters() if one.is_floating_point()), torch.float32)
        for start in range(0, len(found[0]), self.batch_size):
            batch = [torch.as_tensor(array[start : start + self.batch_size], device=self.device) for array in found]
            yield [one.to(weights) if one.is_floating_point() else one for one in batch]


def _torch() -> Any:
    return need("torch", "a reference network", "nets")
