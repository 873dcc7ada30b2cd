"""The one loop that trains dictionaries, on rows that are streamed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from locum.core.errors import InvalidData
from locum.inside._network import DictionaryNet, made
from locum.inside.dictionary import TrainingEstimate
from locum.inside.encoders import EncoderSpec, Resampling
from locum.inside.rows import ActivationRows
from locum.nets import TrainingFailed, seeded
from locum.nets.checkpoint import draw_on, drawn, read_checkpoint, write_whole

__all__ = ["Plan", "Record", "estimate_training", "train_dictionary"]

_FORMAT = 1
_POINTS = 50  # of the curves that are kept
_LEAST_STEPS = 20  # between two checkpoints
_TRIAL = 6  # steps that an estimate takes; the first is slower than the others


@dataclass(frozen=True)
class Plan:
    """How a dictionary is trained."""

    n_latents: int
    epochs: int
    batch_size: int
    learning_rate: float
    betas: tuple[float, float]
    warmup: float
    decay: float
    clip: float | None
    normalize: bool
    device: str
    random_state: int
    learn_atoms: bool = True

    def rate(self, share: float) -> float:
        """The learning rate, as a share of the full one."""
        rise = share / self.warmup if share < self.warmup else 1.0
        fall = (1.0 - share) / self.decay if share > 1.0 - self.decay else 1.0
        return max(min(rise, fall), 1e-3)


@dataclass(frozen=True)
class Record:
    """What a training of a dictionary did.

    Attributes
    ----------
    steps : tuple of int
        When the others were noted.
    fvu, l0 : tuple of float
        Fraction of variance unexplained of a batch, and active latents a row.
    dead : float
        Share of latents not active for the last tenth of the rows.
    rows : int
        Seen in all.
    seconds : float
        Of this call.
    """

    steps: tuple[int, ...]
    fvu: tuple[float, ...]
    l0: tuple[float, ...]
    dead: float
    rows: int
    seconds: float


def train_dictionary(
    spec: EncoderSpec, rows: ActivationRows, target: ActivationRows | None, plan: Plan, *,
    checkpoint: Path | None = None, progress: Callable[[int, int, str], None] | None = None,
) -> tuple[DictionaryNet, Record]:  # fmt: skip
    """A network that gives `target` (or the rows themselves) back from the rows, in the units of the rows."""
    start = time.perf_counter()
    count, device = rows.count("train"), torch.device(plan.device)
    with seeded(plan.random_state, device=device):
        run = _begun(spec, rows, target, plan, checkpoint)
        net, done = run.net, run.resume(device)
        for step, (x, y) in enumerate(_pairs(rows, target, plan)):
            if step < done:
                continue
            run.take(step, x, y)
            if progress is not None:
                progress(step + 1, run.steps, run.words())
            if checkpoint is not None and (step + 1) % max(_LEAST_STEPS, run.steps // 20) == 0:
                run.write(step + 1, device)
        net.fold(*run.scales)
    net.eval()
    dead = float((net.silent >= max(1, count * plan.epochs // 10)).double().mean())
    seconds = time.perf_counter() - start
    return net, Record(tuple(run.at), tuple(run.fvu), tuple(run.l0), dead, count * plan.epochs, seconds)


def estimate_training(spec: EncoderSpec, rows: ActivationRows, target: ActivationRows | None, plan: Plan) -> TrainingEstimate:
    """Time and room of :func:`train_dictionary`, by a few steps of a network that is thrown away."""
    spent: list[float] = []
    with seeded(plan.random_state, device=torch.device(plan.device)):
        run = _begun(spec, rows, target, plan, None)
        last = time.perf_counter()
        for step, (x, y) in zip(range(_TRIAL), _pairs(rows, target, plan), strict=False):
            run.take(step, x, y)
            now = time.perf_counter()
            spent.append(now - last)
            last = now
    size = 3 * sum(one.numel() * one.element_size() for one in run.net.parameters())
    return TrainingEstimate(run.steps, float(np.median(spent[1:] or spent)) * run.steps, size)


def _begun(spec: EncoderSpec, rows: ActivationRows, target: ActivationRows | None, plan: Plan, checkpoint: Path | None) -> _Run:
    """A training before its first step."""
    count, device = rows.count("train"), torch.device(plan.device)
    steps = plan.epochs * math.ceil(count / plan.batch_size)
    into, out = _scale(rows, plan), _scale(rows if target is None else target, plan)
    mean = _mean(rows) * into
    net = made(spec, plan.n_latents, mean, None if target is None else _mean(target) * out, steps).to(device)
    net.atoms.requires_grad_(plan.learn_atoms)
    net.window = math.ceil(getattr(spec.dead, "window", 0.1) * count * plan.epochs)
    optimizer = torch.optim.Adam(net.parameters(), lr=plan.learning_rate, betas=plan.betas, fused=True)
    settings = {"rows": count, "name": rows.name, "spec": repr(spec), "plan": repr(plan)}
    return _Run(net, optimizer, plan, steps, checkpoint, settings, spec.inner.clip_unit(len(net.bias)), (into, out))


def _pairs(rows: ActivationRows, target: ActivationRows | None, plan: Plan) -> Iterator[tuple[Any, Any]]:
    seed = plan.random_state
    xs = rows.batches(plan.batch_size, epochs=plan.epochs, random_state=seed)
    if target is None:
        yield from ((x, x) for x in xs)
    else:  # sites of one store give the same tokens where the seed is the same
        yield from zip(xs, target.batches(plan.batch_size, epochs=plan.epochs, random_state=seed), strict=True)


def _tensor(x: Any, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, dtype=np.float32)).to(device)


def _mean(rows: ActivationRows) -> torch.Tensor:
    return torch.as_tensor(np.asarray(rows.mean_), dtype=torch.float32)


def _scale(rows: ActivationRows, plan: Plan) -> float:
    """What makes the mean squared length of rows their width."""
    if not plan.normalize:
        return 1.0
    size = rows.mean_squared_norm_
    if not size > 0:
        raise InvalidData(f"all training rows of {rows.name!r} are zero, so there is nothing to learn")
    return math.sqrt(rows.width / size)


@dataclass
class _Run:
    """A training that is under way."""

    net: DictionaryNet
    optimizer: torch.optim.Optimizer
    plan: Plan
    steps: int
    path: Path | None
    settings: dict[str, Any]
    limit: float
    scales: tuple[float, float]

    def __post_init__(self) -> None:
        self.at: list[int] = []
        self.fvu: list[float] = []
        self.l0: list[float] = []

    def take(self, step: int, x: Any, y: Any) -> None:
        """One step on rows as they were read; what gives itself back is sent to the device once."""
        device = self.net.atoms.device
        given = _tensor(x, device) * self.scales[0]
        self.step(step, given, given if y is x else _tensor(y, device) * self.scales[1])

    def step(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
        net, share = self.net, step / self.steps
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate * self.plan.rate(share)
        net.encoder.at(share)
        told = net.learn(x, y)
        self.optimizer.zero_grad(set_to_none=True)
        told.loss.backward()
        net.flatten_gradient()
        if self.plan.clip is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), self.limit * self.plan.clip)
        self.optimizer.step()
        net.shorten()
        if isinstance(net.dead, Resampling) and any(step == int(one * self.steps) for one in net.dead.times):
            net.resample(x, y, self.optimizer)
        if step % max(1, self.steps // _POINTS) == 0 or step == self.steps - 1:
            if not math.isfinite(float(told.loss.detach())):
                raise TrainingFailed(f"the loss of step {step + 1} is not finite; train with a smaller learning_rate=")
            self.at.append(step + 1)
            self.fvu.append(float(told.fvu))
            self.l0.append(told.l0)

    def words(self) -> str:
        return f"FVU {self.fvu[-1]:.3f}, L0 {self.l0[-1]:.1f}"

    def write(self, done: int, device: torch.device) -> None:
        assert self.path is not None
        record = {
            "format": _FORMAT, "settings": self.settings, "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "done": done, "curves": [self.at, self.fvu, self.l0],
        }  # fmt: skip
        write_whole(self.path, record | drawn(device))

    def resume(self, device: torch.device) -> int:
        """Steps that a checkpoint has behind it; 0 without one."""
        if self.path is None or not self.path.exists():
            return 0
        advice = "give another checkpoint=, or delete it"
        found = read_checkpoint(self.path, self.settings, version=_FORMAT, device=device, advice=advice)
        self.net.load_state_dict(found["net"])
        self.optimizer.load_state_dict(found["optimizer"])
        self.at, self.fvu, self.l0 = found["curves"]
        draw_on(found, device)
        return int(found["done"])
