"""A target from a torch module."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from locum.core._content import fingerprint_of
from locum.core.errors import InvalidData, need
from locum.core.execute import Malformed
from locum.core.target import Target
from locum.targets._files import in_worker
from locum.targets._rows import as_numbers, cast
from locum.targets._scores import check_link, read_scores

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch"]

_CALLING = threading.RLock()  # eval mode belongs to the module, so calls from several threads take turns


def from_torch(
    module: torch.nn.Module,
    *,
    output: str = "value",
    link: str | None = None,
    classes: Any = None,
    device: Any = None,
    dtype: Any = "float32",
    batch_size: int = 1024,
    **settings: Any,
) -> Target:
    """A target from a torch module that takes a batch of rows and gives one tensor.

    While it answers, the module is in eval mode and records no gradients; afterwards each of its parts is in the mode it was
    in. Its parameters stay where and what they are.

    Parameters
    ----------
    module : torch.nn.Module
        Takes a tensor of shape (m, ...), gives one of shape (m, ...).
    output : {"value", "probability", "class"}, default="value"
        What to make of what it gives: values as they are, of shape (m,) where they are (m, 1); probabilities of shape
        (m, classes), or (m,) of the second class; or the class with the highest score.
    link : {None, "softmax", "sigmoid"}, default=None
        What makes probabilities of the module's scores; None where it gives probabilities.
    classes : sequence or None, default=None
        What the classes are called, in the order of the scores; 0, 1, ... where None.
    device : torch.device, str or None, default=None
        Where its parameters are; that is found out where None. Batches are sent there.
    dtype : torch.dtype or str, default="float32"
        Of the batches; ``"int64"`` for tokens.
    batch_size : int, default=1024
        Most rows in one call.
    **settings
        Of `Target`. A process pool is sent the module with every batch, Ray once.

    Raises
    ------
    InvalidData
        Not a module, one that was never called (lazy), or settings that do not fit it. When asked: rows that its first
        layer cannot take, or a module whose parameters have changed.
    MissingExtra
        torch is not installed.

    Notes
    -----
    Recorded answers are those of the module as it is now. When it is trained further, the target refuses to be asked.
    The first layer is known for a layer and for ``torch.nn.Sequential``; give `domain` for any other module.

    Examples
    --------
    >>> import numpy as np, torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[1.0, -1.0]])), layer.bias.zero_()
    >>> from_torch(layer).query(np.array([[3.0, 1.0]]))
    array([2.], dtype=float32)
    >>> from_torch(layer, output="class", link="sigmoid", classes=["no", "yes"]).query(np.array([[3.0, 1.0]]))
    array(['yes'], dtype='<U3')
    """
    torch = need("torch", "a torch module", "nets")
    if output not in ("value", "probability", "class"):
        raise InvalidData(f"expected output= to be 'value', 'probability' or 'class', got {output!r}")
    check_link(link, output)
    _check_module(torch, module)
    names = None if classes is None else np.asarray(classes)
    answer = TorchModule(module, output, link, names, _device(torch, module, device), _dtype(torch, dtype))
    if settings.get("ledger") is not None and settings.get("fingerprint") is None:  # reads all parameters
        settings["fingerprint"] = answer.fingerprint()
    read = {"name": type(module).__name__, "check": answer.check}
    return Target(answer, output=output, classes=names, batch_size=batch_size, **{**read, **settings})


class TorchModule:
    """Answers rows with a module.

    Parameters
    ----------
    module : torch.nn.Module
    output, link, classes
        As `read_scores` takes them.
    device : torch.device
    dtype : torch.dtype
    """

    def __init__(
        self,
        module: torch.nn.Module,
        output: str,
        link: str | None,
        classes: NDArray[Any] | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.module, self.output, self.link, self.classes = module, output, link, classes
        self.device, self.dtype = device, dtype
        self.state = _state(module)

    def __call__(self, X: Any) -> NDArray[Any]:
        import torch

        if in_worker():
            torch.set_num_threads(1)  # a forked worker has none of its parent's threads, and waits for them for ever
        numbers = as_numbers(X)
        batch = torch.from_numpy(np.array(numbers, dtype=numbers.dtype.newbyteorder("="))).to(self.device, self.dtype)
        with _CALLING:
            with _answering(self.module), torch.inference_mode():
                said = self.module(batch)
            self.state = _state(self.module)  # some modules rewrite their own parameters for eval mode
        if not isinstance(said, torch.Tensor):
            raise Malformed(
                f"expected the module to give one tensor, got {type(said).__name__}; wrap it in a module that gives the one "
                "that is wanted"
            )
        if said.dtype in (torch.bfloat16, torch.float16):
            said = said.float()
        return read_scores(said.cpu().numpy(), self.output, self.link, self.classes)

    def check(self, X: Any) -> None:
        """Refuse rows that the module cannot take, and a module that is no longer the same."""
        if _state(self.module) != self.state:
            raise InvalidData(
                "the module's parameters have changed since this target was made, so its recorded answers are of another "
                "model; make a new target"
            )
        numbers = as_numbers(X)
        if not (self.dtype.is_floating_point or self.dtype.is_complex):
            cast(numbers, str(self.dtype).removeprefix("torch."))
        _check_first_layer(self.module, numbers)

    def fingerprint(self) -> str:
        """What tells this module from another: its parts, their settings and code, its parameters and buffers."""
        import torch

        compiled = (torch.jit.ScriptModule, torch.fx.GraphModule)
        state = xxhash.xxh3_128()
        settings = (self.output, self.link, None if self.classes is None else self.classes.tolist(), str(self.dtype))
        state.update(repr(settings).encode())
        for name, part in self.module.named_modules():
            state.update(f"\n{name} {type(part).__module__}.{type(part).__qualname__} {part.extra_repr()}".encode())
            code = part.code if isinstance(part, compiled) else fingerprint_of(type(part).forward)
            state.update(str(code).encode())
            held = {key: value for key, value in vars(part).items() if not key.startswith("_") and key != "training"}
            state.update(repr([(key, fingerprint_of(held[key])) for key in sorted(held)]).encode())
        for name, tensor in (*self.module.named_parameters(), *self.module.named_buffers()):
            state.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            state.update(_bytes(tensor))
        return state.hexdigest()


# ---------------------------------------------------------------------- private
def _check_module(torch: Any, module: Any) -> None:
    if not isinstance(module, torch.nn.Module):
        kind = f"the class {module.__name__} itself" if isinstance(module, type) else type(module).__name__
        raise InvalidData(f"expected a torch module, got {kind}; a function of rows goes to from_callable")
    if any(torch.nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        raise InvalidData(f"this {type(module).__name__} has parameters without a shape yet; call it once on a batch first")


def _device(torch: Any, module: torch.nn.Module, wanted: Any) -> torch.device:
    try:
        given = None if wanted is None else torch.empty(0, device=wanted).device  # "cuda" is the current one of them
    except (RuntimeError, AssertionError) as error:
        raise InvalidData(f"cannot use device={wanted!r}: {str(error).splitlines()[0]}") from error
    places = {parameter.device for parameter in module.parameters()}
    if len(places) > 1 and given is None:
        raise InvalidData(f"the module's parameters are on {', '.join(sorted(map(str, places)))}; say device= for the batches")
    if len(places) == 1 and given is not None and given not in places:
        raise InvalidData(f"the module's parameters are on {places.pop()}; move it to {given} first, or leave out device=")
    return given or (places.pop() if places else torch.device("cpu"))


def _dtype(torch: Any, wanted: Any) -> torch.dtype:
    found = getattr(torch, wanted, None) if isinstance(wanted, str) else wanted
    if not isinstance(found, torch.dtype):
        raise InvalidData(f"expected dtype= such as 'float32' or 'int64', got {wanted!r}")
    return found


def _state(module: torch.nn.Module) -> list[tuple[int, int]]:
    """Changes when a parameter is written to or replaced."""
    return [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in module.parameters()]


@contextmanager
def _answering(module: torch.nn.Module) -> Iterator[None]:
    """The module in eval mode; afterwards each of its parts in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        with suppress(NotImplementedError):  # an exported program keeps the mode it was exported in
            module.eval()
        yield
    finally:
        with suppress(NotImplementedError):
            module.train(modes[0][1])
        for part, mode in modes:
            part.training = mode


def _check_first_layer(module: torch.nn.Module, numbers: NDArray[Any]) -> None:
    from torch import nn

    while isinstance(module, nn.Sequential) and len(module):
        module = module[0]
    shape = numbers.shape
    refuse = partial(_refuse_shape, type(module).__name__, shape)
    if isinstance(module, nn.Linear) and (len(shape) < 2 or shape[-1] != module.in_features):
        refuse(f"(n, {module.in_features})")
    if isinstance(module, nn.BatchNorm1d) and (len(shape) < 2 or shape[1] != module.num_features):
        refuse(f"(n, {module.num_features})")
    for d, kind in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d), start=1):
        if isinstance(module, kind) and (len(shape) != d + 2 or shape[1] != module.in_channels):
            refuse(f"(n, {module.in_channels}, {', '.join(['length', 'height, width', 'depth, height, width'][d - 1 : d])})")
    if isinstance(module, nn.Embedding) and numbers.size:
        low, high = numbers.min(), numbers.max()
        if low < 0 or high >= module.num_embeddings:
            raise InvalidData(f"the module takes tokens from 0 to {module.num_embeddings - 1}, got {low if low < 0 else high}")


def _refuse_shape(layer: str, shape: tuple[int, ...], wanted: str) -> None:
    raise InvalidData(f"the module begins with a {layer} that takes rows of shape {wanted}, got {shape}")


def _bytes(tensor: torch.Tensor) -> bytes:
    import torch

    return tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
