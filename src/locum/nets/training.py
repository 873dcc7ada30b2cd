"""The one training loop: batches, device, mixed precision, early stopping, and checkpoints that resume to the same numbers."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locum.core.errors import InvalidData, LocumError, need, require_one_of, require_whole
from locum.nets.checkpoint import draw_on, drawn, read_checkpoint, write_whole

if TYPE_CHECKING:
    import torch

__all__ = ["train", "History", "seeded", "TrainingFailed"]

_FORMAT = 1
_PRECISIONS = ("float32", "bfloat16", "float16")


class TrainingFailed(LocumError, RuntimeError):
    """The loss stopped being a number."""


@dataclass(frozen=True)
class History:
    """What a training did.

    Attributes
    ----------
    losses : tuple of float
        Mean training loss of each epoch.
    validation : tuple of float
        What `validate` gave after each epoch; empty without one.
    best_epoch : int
        The epoch whose weights the module has now, counted from 1: the one with the lowest validation, or else the last.
    stopped_early : bool
    seconds : float
        Of this call; a training that was resumed took longer in all.
    """

    losses: tuple[float, ...]
    validation: tuple[float, ...]
    best_epoch: int
    stopped_early: bool
    seconds: float


@contextmanager
def seeded(random_state: int, *, device: Any = "cpu") -> Iterator[None]:
    """Within it, torch draws from a generator of its own; afterwards the global one is as it was.

    Parameters
    ----------
    random_state : int
        Of 0 or more.
    device : torch.device or str, default="cpu"
        Whose generator is kept as well, where it is a GPU.

    Examples
    --------
    >>> import torch
    >>> with seeded(0):
    ...     first = torch.rand(2)
    >>> with seeded(0):
    ...     again = torch.rand(2)
    >>> bool((first == again).all())
    True
    """
    torch = _torch()
    if isinstance(random_state, bool) or not isinstance(random_state, int) or random_state < 0:
        raise InvalidData(f"expected random_state to be a whole number of 0 or more, got {random_state!r}")
    device = torch.device(device)
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(random_state)
        yield


def train(
    module: torch.nn.Module,
    loss: Callable[..., torch.Tensor],
    tensors: Sequence[torch.Tensor],
    *,
    epochs: int,
    batch_size: int,
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
    validate: Callable[[torch.nn.Module], float] | None = None,
    patience: int | None = None,
    after_epoch: Callable[[torch.nn.Module, int], None] | None = None,
    clip: float | None = None,
    device: Any = "cpu",
    precision: str = "float32",
    checkpoint: str | os.PathLike[str] | None = None,
    random_state: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> History:
    """Train a module, in place, on tensors in memory.

    Every epoch takes the rows in a new order. With `validate` the module ends with the weights of the epoch where that was
    lowest, and in eval mode in any case.

    Parameters
    ----------
    module : torch.nn.Module
        Is moved to `device`.
    loss : callable
        ``loss(module, *batch)`` gives the mean loss of a batch, a tensor without dimensions.
    tensors : sequence of torch.Tensor
        Of equal length n; a batch holds the same rows of each, on `device`.
    epochs, batch_size : int
    optimizer : callable or None, default=None
        Takes the parameters, gives the optimizer; ``torch.optim.Adam`` at its defaults where None.
    schedule : callable or None, default=None
        Takes the optimizer, gives a scheduler of learning rates that steps once an epoch.
    validate : callable or None, default=None
        Takes the module, in eval mode and without gradients, gives a number; lower is better.
    patience : int or None, default=None
        Epochs without a lower validation after which training stops.
    after_epoch : callable or None, default=None
        ``after_epoch(module, epoch)`` before the validation of each epoch, for what a method does to its weights in between.
    clip : float or None, default=None
        Largest norm of the gradients of a batch.
    device : torch.device or str, default="cpu"
    precision : {"float32", "bfloat16", "float16"}, default="float32"
        What the forward pass may compute in; the weights stay what they are.
    checkpoint : path or None, default=None
        A file that is written after every epoch. Where it is there already, training goes on from it and ends with the numbers
        that one without the interruption has.
    random_state : int, default=0
        Order of rows and everything the module draws.
    progress : callable or None, default=None
        Called with (epochs done, epochs in all, the losses in words).

    Returns
    -------
    History

    Raises
    ------
    InvalidData
        Settings or tensors that cannot be used.
    FormatError
        A checkpoint of other settings, or that is no checkpoint.
    TrainingFailed
        A loss that is not finite.
    MissingExtra
        torch is not installed.

    Notes
    -----
    Cost: epochs times n forward and backward passes. A checkpoint takes about four times the module.

    Examples
    --------
    >>> import torch
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> with seeded(0):
    ...     line = torch.nn.Linear(1, 1)
    >>> mean_square = lambda module, x, y: torch.mean((module(x) - y) ** 2)
    >>> history = train(line, mean_square, [x, 3 * x + 1], epochs=60, batch_size=16,
    ...                 optimizer=lambda p: torch.optim.Adam(p, lr=0.1))
    >>> [round(parameter.item(), 2) for parameter in line.parameters()]
    [3.0, 1.0]
    """
    torch = _torch()
    _check(tensors, epochs, batch_size, patience, validate, precision)
    start = time.perf_counter()
    device = torch.device(device)
    with seeded(random_state, device=device):
        module.to(device)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        steps = (optimizer or torch.optim.Adam)(parameters)
        scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        autocast = torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32")
        run = _Run(module, steps, schedule(steps) if schedule else None, scaler, clip, autocast)
        state = _State([], [], None, 0, torch.Generator().manual_seed(random_state))
        settings: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "rows": len(tensors[0])}
        settings |= {"random_state": random_state, "precision": precision}
        settings |= {"parameters": sum(parameter.numel() for parameter in module.parameters())}
        file = None if checkpoint is None else _Checkpoint(Path(checkpoint), settings, device)
        if file is not None and file.path.exists():
            file.read(run, state)
        stopped = _stopped(state, patience)
        while len(state.losses) < epochs and not stopped:
            _epoch(run, state, loss, tensors, batch_size, device)
            epoch = len(state.losses)
            module.eval()
            with torch.no_grad():
                if after_epoch is not None:
                    after_epoch(module, epoch)
                if validate is not None:
                    state.note(float(validate(module)), module)
            stopped = _stopped(state, patience)
            if file is not None:
                file.write(run, state)
            if progress is not None:
                progress(epoch, epochs, _words(state))
        module.eval()
        if state.best is not None:
            module.load_state_dict(state.best)
    at = state.best_epoch if validate is not None else len(state.losses)
    return History(tuple(state.losses), tuple(state.validation), at, stopped, time.perf_counter() - start)


# ---------------------------------------------------------------------- one epoch
@dataclass
class _Run:
    """Everything with weights or moments of its own."""

    module: Any
    optimizer: Any
    scheduler: Any
    scaler: Any
    clip: float | None
    autocast: Any


@dataclass
class _State:
    """How far a training has come."""

    losses: list[float]
    validation: list[float]
    best: dict[str, Any] | None
    best_epoch: int
    order: torch.Generator

    def note(self, value: float, module: torch.nn.Module) -> None:
        """A validation, and the weights where it is the lowest so far."""
        if math.isnan(value):
            epoch = len(self.losses)
            raise TrainingFailed(f"the validation of epoch {epoch} is NaN; train with smaller steps, or mend validate=")
        if self.best is None or value < min(self.validation):
            self.best = {name: value.detach().clone() for name, value in module.state_dict().items()}
            self.best_epoch = len(self.losses)
        self.validation.append(value)


def _epoch(
    run: _Run, state: _State, loss: Callable[..., Any], tensors: Sequence[torch.Tensor], batch_size: int, device: Any
) -> None:
    torch = _torch()
    run.module.train()
    n = len(tensors[0])
    total = torch.zeros((), dtype=torch.float64, device=device if device.type != "mps" else "cpu")
    for rows in torch.randperm(n, generator=state.order).split(batch_size):
        batch = [tensor[rows.to(tensor.device)].to(device, non_blocking=True) for tensor in tensors]
        with run.autocast:
            value = loss(run.module, *batch)
        run.optimizer.zero_grad(set_to_none=True)
        run.scaler.scale(value).backward()
        if run.clip is not None:
            run.scaler.unscale_(run.optimizer)
            torch.nn.utils.clip_grad_norm_(run.module.parameters(), run.clip)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        total += value.detach().to(total) * len(rows)
    mean = float(total) / n  # once an epoch, since reading a number off a GPU waits for it
    if not math.isfinite(mean):
        raise TrainingFailed(
            f"the loss of epoch {len(state.losses) + 1} is {mean}; scale the data, train with smaller steps, or set clip="
        )
    state.losses.append(mean)
    if run.scheduler is not None:
        run.scheduler.step()


def _stopped(state: _State, patience: int | None) -> bool:
    return patience is not None and bool(state.validation) and len(state.losses) - state.best_epoch >= patience


def _words(state: _State) -> str:
    last = f"loss {state.losses[-1]:.4g}"
    return last + (f", validation {state.validation[-1]:.4g}" if state.validation else "")


# ---------------------------------------------------------------------- checkpoints
class _Checkpoint:
    """A file that holds all it takes to go on, as tensors and plain values: nothing in it is code."""

    def __init__(self, path: Path, settings: Mapping[str, Any], device: Any) -> None:
        self.path, self._settings, self._device = path, dict(settings), device

    def write(self, run: _Run, state: _State) -> None:
        record = {
            "format": _FORMAT,
            "settings": self._settings,
            "module": run.module.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "scheduler": run.scheduler.state_dict() if run.scheduler is not None else None,
            "scaler": run.scaler.state_dict(),
            "losses": state.losses,
            "validation": state.validation,
            "best": state.best,
            "best_epoch": state.best_epoch,
            "order": state.order.get_state(),
        }
        write_whole(self.path, record | drawn(self._device))

    def read(self, run: _Run, state: _State) -> None:
        advice = "give another path, or delete it"
        found = read_checkpoint(self.path, self._settings, version=_FORMAT, device=self._device, advice=advice)
        run.module.load_state_dict(found["module"])
        run.optimizer.load_state_dict(found["optimizer"])
        if run.scheduler is not None:
            run.scheduler.load_state_dict(found["scheduler"])
        run.scaler.load_state_dict(found["scaler"])
        state.losses, state.validation = found["losses"], found["validation"]
        state.best, state.best_epoch = found["best"], found["best_epoch"]
        state.order.set_state(found["order"].cpu())
        draw_on(found, self._device)


# ---------------------------------------------------------------------- settings
def _check(tensors: Any, epochs: Any, batch_size: Any, patience: Any, validate: Any, precision: Any) -> None:
    require_whole(1, epochs=epochs, batch_size=batch_size, **({} if patience is None else {"patience": patience}))
    if patience is not None and validate is None:
        raise InvalidData("patience= counts epochs without a better validation, so it needs validate= as well")
    require_one_of(_PRECISIONS, precision=precision)
    lengths = [len(tensor) for tensor in tensors]
    if not lengths or min(lengths) == 0 or len(set(lengths)) > 1:
        raise InvalidData(f"expected tensors of one length of at least 1, got {lengths or 'none'}")
    for i, tensor in enumerate(tensors):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InvalidData(f"tensor {i} holds NaN or infinity; impute or drop those rows first")


def _torch() -> Any:
    return need("torch", "training a network", "nets")
