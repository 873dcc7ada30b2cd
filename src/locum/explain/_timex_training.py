"""How the time-series explainer is put together, trained, and asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from locum.core.errors import InvalidData
from locum.explain import _timex_losses as losses
from locum.explain._timex_networks import MaskedEncoder, MaskGenerator, SeriesTransformer, copied
from locum.explain._timex_series import PADDED, statistics
from locum.explain._timex_variant import TimeXVariant
from locum.nets import History, Reference, seeded, train

__all__ = ["Answers", "Passed", "Plan", "Hiding", "answers", "assemble", "fit_masked", "passed", "require_alike"]

_FLOAT = NDArray[np.float64]
_ROWS = 256  # in one pass
_SAME = 1e-3  # of the spread of embeddings: more is no rounding
_BETTER_WITHIN = 5  # epochs


class Plan(NamedTuple):
    """Weights of the losses and how they are lowered."""

    prior: float
    lambda_con: float
    lambda_lc: float
    anchor: float
    learning_rate: float
    weight_decay: float
    plateau: int | None
    epochs: int
    batch_size: int
    random_state: int


class Hiding(NamedTuple):
    """How a series meets the classifier: whether with its times, and how it is masked."""

    with_times: bool
    attention: bool
    values: bool


class Answers(NamedTuple):
    """What the frozen classifier makes of series: embedding (n, width) and logits (n, classes)."""

    embedding: Tensor
    logits: Tensor


class Passed(NamedTuple):
    """What the explainer makes of series."""

    p: _FLOAT
    embedding: _FLOAT
    logits: _FLOAT
    landmark: Any


# ---------------------------------------------------------------------- the frozen classifier
def answers(reference: Reference, X: Any, times: Any, with_times: bool) -> Answers:
    """Embedding and logits of all series, on the CPU."""
    found: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for part, when in _batches(X, times, reference.device):
            given = (part, when) if with_times else (part,)
            found.append((reference.embedding(*given).cpu(), reference.forward(*given).cpu()))
    return Answers(torch.cat([z for z, _ in found]), torch.cat([y for _, y in found]))


def _batches(X: Any, times: Any, device: Any) -> Any:
    for start in range(0, len(X), _ROWS):
        rows = slice(start, start + _ROWS)
        yield torch.as_tensor(X[rows], device=device), torch.as_tensor(times[rows], device=device)


# ---------------------------------------------------------------------- putting it together
class _Frozen(nn.Module):
    """The head of a copy of the classifier, which passes gradients on and is not trained."""

    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._head = (head,)  # in a tuple, so that its parameters are not this module's

    def forward(self, z: Tensor) -> Tensor:
        return self._head[0](z)


def assemble(
    reference: Reference, X: Any, times: Any, told: Answers, hiding: Hiding, variant: TimeXVariant, settings: dict[str, Any]
) -> MaskedEncoder:
    """An untrained explainer, drawn from the generator that is on; see `TimeXExplainer` for the settings."""
    width, classes = told.embedding.shape[1], told.logits.shape[1]
    length, channels = X.shape[1:]
    first = [torch.as_tensor(one[:2], device=reference.device) for one in (X, times)]
    encoder = copied(reference, tuple(first) if hiding.with_times else (first[0],))
    if variant.encoder_start == "random":
        _draw_anew(encoder.module)
    if settings["label_head"] == "reference":
        head: nn.Module = _Frozen(encoder.head)  # type: ignore[arg-type]
    else:
        head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))
    mean, sd = (torch.as_tensor(one) for one in statistics(X, times))
    generator = MaskGenerator(_memory(reference.module, length, channels, classes, variant))
    return MaskedEncoder(
        generator, encoder, head, told.embedding[_stratified(told.logits, settings["n_landmarks"])], mean, sd,
        attention=hiding.attention, values=hiding.values, tau=settings["tau"], landmark_tau=settings["landmark_tau"],
        hard=variant.mask == "hard",
    ).to(reference.device)  # fmt: skip


def _memory(module: Any, length: int, channels: int, classes: int, variant: TimeXVariant) -> SeriesTransformer:
    """The encoder of the generator: of the same make as the classifier where that is a transformer of ours."""
    if not isinstance(module, SeriesTransformer):
        if variant.memory_start == "reference":
            raise InvalidData("memory_start='reference' needs a transformer that series_reference made; this is another module")
        return SeriesTransformer(length, channels, classes, layers=1, feedforward=64, dropout=0.1, normalised=False)
    made = SeriesTransformer(**module.settings)
    if variant.memory_start == "reference":
        made.load_state_dict(module.state_dict())
    return made


def _draw_anew(module: Any) -> None:
    for part in module.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()


def _stratified(logits: Tensor, count: int) -> Tensor:
    """As many rows of each class that is answered as can be, at random; a class with few gives what it has."""
    order = torch.randperm(len(logits))
    said = logits.argmax(dim=1)[order]
    rank = nn.functional.one_hot(said).cumsum(dim=0).gather(1, said[:, None])[:, 0]  # its place within its class
    return order[torch.argsort(rank, stable=True)[:count]]


def require_alike(net: MaskedEncoder, X: Any, times: Any, told: Answers, hiding: Hiding) -> None:
    """Refuse an encoder whose embeddings with everything kept are not those of the classifier."""
    net.eval()
    with torch.no_grad():
        part, when = next(_batches(X, times, net.mean.device))
        z = net.embed(part, when, torch.ones_like(part), hiding.with_times, torch.zeros_like(part)).cpu()
    gap = float((z - told.embedding[: len(z)]).abs().max() / told.embedding.std().clamp(min=1e-12))
    if not gap <= _SAME:
        raise InvalidData(
            f"with everything kept, the encoder's embedding is off by {gap:.2g} of its spread from the classifier's; encode= "
            "must give the same again for the same series"
        )


# ---------------------------------------------------------------------- training
def fit_masked(
    net: MaskedEncoder, data: tuple[Any, Any, Answers], held: tuple[Any, Any, Answers], hiding: Hiding, plan: Plan,
    variant: TimeXVariant, *, device: Any, checkpoint: Any, progress: Any,
) -> History:  # fmt: skip
    """Train on some series and keep the weights of the epoch with the lowest relation and label gaps on others."""
    validation: list[float] = []

    def loss(module: Any, X: Tensor, times: Tensor, z: Tensor, y: Tensor) -> Tensor:
        found = module(X, times, hiding.with_times)
        there = (times > PADDED)[..., None].to(X.dtype)
        total = _between(z, y, found.embedding, found.landmark, found.logits, plan, variant)
        total = total + 2 * losses.mask_prior(found.p, plan.prior, there)
        if plan.lambda_con:
            total = total + 2 * plan.lambda_con * losses.connectedness(found.p, there)
        if plan.anchor:
            target, said = y.softmax(dim=1), found.logits.log_softmax(dim=1)
            total = total + plan.anchor * nn.functional.kl_div(said, target, reduction="batchmean")
        return total

    def validate(module: Any) -> float:
        X, times, told = held
        found = passed(module, X, times, hiding, plan.random_state)
        other = torch.as_tensor(found.embedding, dtype=torch.float32)
        said = torch.as_tensor(found.logits, dtype=torch.float32)
        landmark = torch.as_tensor(found.landmark, dtype=torch.float32)
        validation.append(float(_between(told.embedding, told.logits, other, landmark, said, plan, variant)))
        return validation[-1]

    tensors = [*(torch.as_tensor(one) for one in data[:2]), *data[2]]
    return train(
        net, loss, tensors, epochs=plan.epochs, batch_size=plan.batch_size, clip=1.0, validate=validate, device=device,
        optimizer=lambda p: torch.optim.AdamW(p, lr=plan.learning_rate, weight_decay=plan.weight_decay),
        schedule=None if plan.plateau is None else lambda steps: _Plateau(steps, validation, plan.plateau),  # type: ignore[arg-type]
        checkpoint=checkpoint, progress=progress, random_state=plan.random_state,
    )  # fmt: skip


def _between(z: Tensor, y: Tensor, other: Tensor, landmark: Tensor, said: Tensor, plan: Plan, variant: TimeXVariant) -> Tensor:
    """The losses that compare embeddings and labels with those of the classifier."""
    total = other.sum() * 0.0
    if variant.relations == "consistency":
        total = losses.relation_gap(z, other) + losses.relation_gap(z, landmark)
    elif variant.relations == "contrast":
        total = losses.contrast(z, other) + losses.contrast(z, landmark)
    if plan.lambda_lc:
        total = total + plan.lambda_lc * losses.label_consistency(y, said, variant.label_pairs)
    return total


class _Plateau:
    """A tenth of the learning rate where validation has not got better for a while, from an epoch on."""

    def __init__(self, optimizer: torch.optim.Optimizer, validation: list[float], after: int) -> None:
        self._inner = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=_BETTER_WITHIN)
        self._validation, self._after, self._steps = validation, after, 0

    def step(self) -> None:
        # Called before the validation of an epoch, so what it sees is that of the epoch before.
        self._steps += 1
        if self._steps > self._after and self._validation:
            self._inner.step(self._validation[-1])

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "inner": self._inner.state_dict(), "validation": list(self._validation)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps = state["steps"]
        self._validation[:] = state["validation"]
        self._inner.load_state_dict(state["inner"])


# ---------------------------------------------------------------------- asking
def passed(net: MaskedEncoder, X: Any, times: Any, hiding: Hiding, random_state: int) -> Passed:
    """One pass over all series, all hidden by the same draws, so that what is said of one does not depend on the others."""
    device = net.mean.device
    with torch.no_grad(), seeded(random_state, device="cpu"):
        noise = torch.randn(1, *net.mean.shape).to(device)
        found = [net(part, when, hiding.with_times, noise) for part, when in _batches(X, times, device)]
    kinds = ("p", "embedding", "logits", "landmark")
    return Passed(*(torch.cat([getattr(one, kind) for one in found]).cpu().double().numpy() for kind in kinds))
