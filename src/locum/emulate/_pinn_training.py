"""How a stage of a physics-informed network is trained: collocation points, losses, Adam and then L-BFGS."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import qmc
from torch import nn

from locum.emulate._pinn_networks import VALUE
from locum.emulate._pinn_physics import Points, Stage, drives, interior, slopes
from locum.nets import TrainingFailed, train

Array = NDArray[np.float64]
Monitor = Callable[[float], None]

_CHUNK = 50  # iterations of L-BFGS between two looks at the clock
_MEMORY = 50
_MORE = 8  # times as many points for the potentials alone, which cost little and would be learned by heart on few
_LARGE = 1e4  # what the loss is scaled to: L-BFGS of torch takes no curvature below 1e-10 for what it is
_SHARE = 0.85  # of the time, after which potentials have the rest
_FRESH = 512  # points that say which weights are kept
_LEAST_RADIUS = 1e-4
_ATTENTION_LR = 1e-2


@dataclass(frozen=True)
class Recipe:
    """Settings of the training of one stage; see `PINNEmulator`."""

    inner: int
    edge: int
    batches: int
    epochs: int
    iterations: int
    lr: tuple[float, float]
    weights: tuple[float, float, float, float, float]  # diffusion, kinetics, middle, surface, data
    attention: bool
    annealing: bool
    growth: float
    collocation: str
    refresh: int
    joint: bool
    seconds: float | None
    device: str
    random_state: int


@dataclass(frozen=True)
class Observed:
    """Fields that a solver gave: clock (m,), radii (m,), parameters (m, d), potentials (2, m) and
    shares of lithium (2, m)."""

    time: torch.Tensor
    radius: torch.Tensor
    parameters: torch.Tensor
    potentials: torch.Tensor
    concentrations: torch.Tensor


@dataclass(frozen=True)
class Trained:
    """What the training of one stage did.

    Attributes
    ----------
    losses : tuple of float
        Of Adam by epoch, then of L-BFGS by 50 iterations, on the points learned from.
    residuals : tuple of float
        After Adam and then by rounds of L-BFGS, on fresh points, of all equations.
    seconds : tuple of float
        Of the processor, up to each of the residuals.
    iterations : int
        Of L-BFGS, for concentrations or for all.
    status : str
        Why it ended.
    """

    losses: tuple[float, ...]
    residuals: tuple[float, ...]
    seconds: tuple[float, ...]
    iterations: int
    status: str


# ---------------------------------------------------------------------- points
class Collocation:
    """Points spread evenly over clock, radius and parameters (scrambled Sobol sequences)."""

    def __init__(self, stage: Stage, random_state: int, device: str) -> None:
        self._stage, self._seed, self._device, self._drawn = stage, random_state, device, 0

    def draw(self, inner: int, edge: int, window: float = 1.0) -> Points:
        """New ones, of times up to a share of the stage's own."""
        stage = self._stage
        d = len(stage.low)
        seeds = np.random.SeedSequence([self._seed, self._drawn]).spawn(2)
        self._drawn += 1
        u, v = (
            torch.as_tensor(qmc.Sobol(width, rng=np.random.default_rng(seed)).random(n), device=self._device)
            for n, width, seed in ((inner, 2 + d, seeds[0]), (edge, 1 + d, seeds[1]))
        )
        begin, end = stage.clock(stage.begin), stage.clock(stage.begin + window * (stage.duration - stage.begin))

        def times(share: torch.Tensor) -> torch.Tensor:
            return begin + (end - begin) * share

        def factors(share: torch.Tensor) -> torch.Tensor:
            return stage.low + (stage.high - stage.low) * share

        inside = torch.cat([times(u[:, :1]), u[:, 1:2].clamp(min=_LEAST_RADIUS), factors(u[:, 2:])], dim=1)
        return Points(stage, inside, torch.cat([times(v[:, :1]), factors(v[:, 1:])], dim=1))


# ---------------------------------------------------------------------- losses
class Objective(nn.Module):
    """Means of squares of all residuals of a stage."""

    weights: torch.Tensor

    def __init__(self, stage: Stage, recipe: Recipe, observed: Observed | None) -> None:
        super().__init__()
        self.stage, self.recipe, self._observed = stage, recipe, observed
        self._collocation = Collocation(stage, recipe.random_state, recipe.device)
        diffusion, kinetics, middle, surface, data = recipe.weights
        every = [diffusion, diffusion, kinetics, kinetics, middle, middle, surface, surface]
        self.register_buffer("weights", torch.tensor(every + [data] * (4 if observed else 0), dtype=torch.float64))
        self.register_buffer("balance", torch.ones(len(self.weights), dtype=torch.float64))  # by annealing
        self.attention = nn.ParameterList(
            nn.Parameter(torch.ones(rows, n, dtype=torch.float64), requires_grad=recipe.attention)
            for rows, n in ((2, recipe.inner), (6, recipe.edge))
        )
        self._held: tuple[Points, torch.Tensor] | None = None
        self.draw()
        self._fresh = self._collocation.draw(_FRESH, _FRESH // 2)
        if observed is not None:
            with torch.no_grad():
                at = observed.time, observed.parameters
                self._data_base = stage.base_potentials(*at), stage.base_concentrations(at[0], observed.radius, at[1], VALUE)

    balance: torch.Tensor

    def draw(self, window: float = 1.0) -> None:
        """Take new points."""
        self.points = self._collocation.draw(self.recipe.inner, self.recipe.edge, window)
        self._held = None
        self._surface = self.points if self.recipe.joint else self._collocation.draw(2, _MORE * self.recipe.edge, window)

    def _data(self) -> torch.Tensor:
        seen, stage = self._observed, self.stage
        if seen is None:
            return torch.zeros(0, dtype=torch.float64, device=self.weights.device)
        said = stage.potentials(seen.time, seen.parameters, self._data_base[0])
        shares = stage.concentrations(seen.time, seen.radius, seen.parameters, VALUE, self._data_base[1])[0]
        wrong = torch.cat([(said - seen.potentials) / stage.sizes, (shares - seen.concentrations) / stage.reach])
        return (wrong**2).mean(dim=1)

    def _residuals(self, at: Points, part: str) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Of diffusion (2, n), kinetics (2, m) and slopes (4, m); None for those that a part does not change."""
        if part == "potentials":
            if self._held is None or self._held[0] is not at:
                with torch.no_grad():
                    self._held = at, slopes(self.stage, at)[1]
            return None, drives(self.stage, at, self._held[1]), None
        found, kept = slopes(self.stage, at)
        if part == "concentrations":
            return interior(self.stage, at), None, found
        return interior(self.stage, at), drives(self.stage, at, kept if self.recipe.joint else kept.detach()), found

    def terms(self, part: str = "all", rows: torch.Tensor | None = None) -> torch.Tensor:
        """Mean square of each kind of residual, weighted by attention; of some groups of points or of all."""
        at, (inner, edge) = self._surface if part == "potentials" else self.points, self.attention
        if part == "potentials":
            edge = torch.ones(6, at.n, dtype=torch.float64, device=self.weights.device)
        if rows is not None:
            ratio = self.recipe.inner // self.recipe.edge
            inside = (rows[:, None] * ratio + torch.arange(ratio, device=rows.device)).ravel()
            at, inner, edge = at.take(inside, rows), inner[:, inside], edge[:, rows]
        weights = (inner, edge[:2], edge[2:])
        means = [
            torch.zeros(len(weight), dtype=torch.float64, device=weight.device) if one is None else (weight * one**2).mean(1)
            for weight, one in zip(weights, self._residuals(at, part), strict=True)
        ]
        return torch.cat([*means, self._data()])

    def loss(self, part: str = "all", rows: torch.Tensor | None = None) -> torch.Tensor:
        """Weighted sum of the terms."""
        return (self.weights * self.balance * self.terms(part, rows)).sum()

    @torch.no_grad()
    def residual(self, part: str = "all") -> float:
        """On fresh points, with the weights of the kinds and nothing else."""
        self._held = None
        means = [(one**2).mean(1) if one is not None else torch.zeros(n, dtype=torch.float64, device=self.weights.device)
                 for one, n in zip(self._residuals(self._fresh, part), (2, 2, 4), strict=True)]  # fmt: skip
        self._held = None
        return float((self.weights * torch.cat([*means, self._data()])).sum())

    @torch.enable_grad()
    def anneal(self) -> None:
        """Move the balance of the kinds towards that at which their gradients are as large as that of diffusion."""
        learned = list(self.stage.network.parameters())
        sizes = []
        for term in self.weights * self.terms():
            grads = torch.autograd.grad(term, learned, retain_graph=True, allow_unused=True)
            sizes.append(torch.cat([one.abs().ravel() for one in grads if one is not None]))
        top = max(float(one.max()) for one in sizes[:2])
        wanted = torch.tensor([min(top / max(float(one.mean()), 1e-12), 1e3) for one in sizes], dtype=torch.float64)
        wanted[:2] = 1.0
        self.balance.mul_(0.9).add_(0.1 * wanted.to(self.balance.device))


# ---------------------------------------------------------------------- training
class _Clock:
    """Seconds of the processor, without those that are not training."""

    def __init__(self) -> None:
        self._start, self._off = time.process_time(), 0.0

    def __call__(self) -> float:
        return time.process_time() - self._start - self._off

    def outside(self, function: Callable[[], Any]) -> None:
        began = time.process_time()
        function()
        self._off += time.process_time() - began


def fitted(stage: Stage, recipe: Recipe, observed: Observed | None, monitor: Monitor | None) -> Trained:
    """Train a stage, in place."""
    stage.to(recipe.device)
    clock, objective = _Clock(), Objective(stage, recipe, observed).to(recipe.device)
    losses = list(_adam(objective)) if recipe.epochs else []
    for one in objective.attention:
        one.requires_grad_(False)
    parts = ("all",) if recipe.joint else ("concentrations", "potentials")
    residuals, seconds = [objective.residual()], [clock()]
    done, length, status = 0, recipe.refresh or recipe.iterations, "all iterations done"
    while done < recipe.iterations and status != "out of time":
        if done:
            objective.draw()
        span = min(length, recipe.iterations - done)
        for part in parts:
            found, status = _lbfgs(objective, part, span, clock)
            losses += found
        done += span
        residuals.append(objective.residual())
        seconds.append(clock())
        if monitor is not None:
            clock.outside(lambda: monitor(seconds[-1]))
    if not math.isfinite(residuals[-1]):
        raise TrainingFailed("the residuals are not finite: train with a smaller lr=, or see that properties are finite")
    return Trained(tuple(losses), tuple(residuals), tuple(seconds), done, status)


def _adam(objective: Objective) -> tuple[float, ...]:
    recipe = objective.recipe
    groups = torch.arange(recipe.edge)
    half = recipe.epochs // 2
    fall = (recipe.lr[1] / recipe.lr[0]) ** (1 / max(recipe.epochs - half, 1))

    def optimizer(_: Any) -> torch.optim.Optimizer:
        parts: list[dict[str, Any]] = [{"params": list(objective.stage.network.parameters()), "lr": recipe.lr[0]}]
        if recipe.attention:
            parts.append({"params": list(objective.attention), "lr": _ATTENTION_LR, "maximize": True})
        return torch.optim.Adam(parts)

    def after(_: Any, epoch: int) -> None:
        if recipe.growth:
            objective.draw(min(1.0, epoch / (recipe.growth * recipe.epochs)))
        elif recipe.collocation == "random":
            objective.draw()
        if recipe.annealing:
            objective.anneal()

    history = train(
        objective, lambda module, rows: module.loss(rows=rows), [groups], epochs=recipe.epochs,
        batch_size=max(recipe.edge // recipe.batches, 1), optimizer=optimizer,
        schedule=lambda steps: torch.optim.lr_scheduler.LambdaLR(steps, lambda k: fall ** max(k - half, 0)),
        validate=lambda _: objective.residual(), after_epoch=after, device=recipe.device,
        random_state=recipe.random_state,
    )  # fmt: skip
    return history.losses


def _lbfgs(objective: Objective, part: str, iterations: int, clock: _Clock) -> tuple[list[float], str]:
    """Make the residuals of a part small on the points there are; the weights kept have the least on fresh ones."""
    recipe, network = objective.recipe, objective.stage.network
    learned = list(network.parameters()) if part == "all" else network.parts()[part]
    best, least, losses = _copy(learned), objective.residual(part), []

    with torch.no_grad():
        scale = _LARGE / max(float(objective.loss(part)), 1e-300)

    def closure() -> torch.Tensor:
        for parameter in learned:
            parameter.grad = None
        loss = scale * objective.loss(part)
        loss.backward()
        return loss.detach()

    optimizer = torch.optim.LBFGS(
        learned, lr=1.0, max_iter=_CHUNK, max_eval=2 * _CHUNK, history_size=_MEMORY, line_search_fn="strong_wolfe",
        tolerance_grad=0.0, tolerance_change=0.0,
    )  # fmt: skip
    for _ in range(0, iterations, _CHUNK):
        if recipe.seconds is not None and clock() > recipe.seconds * (1.0 if part != "concentrations" else _SHARE):
            break
        losses.append(float(optimizer.step(closure)) / scale)
        residual = objective.residual(part)
        if not math.isfinite(residual):
            break
        if residual < least:
            best, least = _copy(learned), residual
    _restore(learned, best)
    late = recipe.seconds is not None and clock() > recipe.seconds * _SHARE
    return losses, "out of time" if late else "all iterations done"


def _copy(parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    return [one.detach().clone() for one in parameters]


@torch.no_grad()
def _restore(parameters: list[nn.Parameter], held: list[torch.Tensor]) -> None:
    for parameter, one in zip(parameters, held, strict=True):
        parameter.copy_(one)
