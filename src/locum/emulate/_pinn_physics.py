"""What a physics-informed network of a cell must satisfy: its start, which is built in, and residuals, which are learned."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import nn

from locum.emulate._pinn_networks import FULL, SLOPE, VALUE, FieldNetwork, product, sigmoid

EDGE = 2e-5  # shares of lithium are kept this far from 0 and 1 where properties are asked for
POTENTIALS = (0.0735, 0.3109)  # V, how far electrolyte and positive electrode move in a discharge
_STEP = 1e-5  # over which the slope of the diffusivity is taken: right to nine digits, and quicker than a derivative of one
_INTERVAL = 1800.0  # s, the time that rates are measured by
_SHARE, _FURTHER = 0.1, 0.01  # of what could move, for a first network on the mean and for one that corrects


class ElectrodeLike(Protocol):
    """What is asked of an electrode; see `locum.problems.battery.Electrode`."""

    radius: float
    capacity: float
    start: float
    ocp: Any
    diffusivity: Any
    exchange: Any


class CellLike(Protocol):
    """What is asked of a cell; see `locum.problems.battery.SingleParticle`."""

    negative: Any
    positive: Any
    duration: float
    kinetics: str
    bounds: Mapping[str, tuple[float, float]]

    @property
    def thermal(self) -> float: ...
    @property
    def faraday(self) -> float: ...
    @property
    def fluxes(self) -> tuple[float, float]: ...


def property_of(function: Any, x: torch.Tensor) -> torch.Tensor:
    """A property of the material, also where it answers one number for all."""
    return function(x) + 0.0 * x


class Kinetics:
    """Fluxes and potentials at the surfaces, and diffusion within, of one cell.

    Parameters are rows (n, d) of factors, in the order of `bounds`.
    """

    def __init__(self, cell: CellLike) -> None:
        self.cell, self.names = cell, tuple(cell.bounds)
        self.electrodes = (cell.negative, cell.positive)
        self.start = (float(cell.negative.start), float(cell.positive.start))
        self.drift = tuple(  # of the mean share of lithium in a particle over the discharge, as none is lost
            -3 * float(flux) * float(cell.duration) / (one.radius * one.capacity)
            for flux, one in zip(cell.fluxes, self.electrodes, strict=True)
        )

    def factor(self, parameters: torch.Tensor, name: str) -> Any:
        return parameters[:, self.names.index(name)] if name in self.names else 1.0

    def exchange(self, side: int, x: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        found = property_of(self.electrodes[side].exchange, x)
        return found * self.factor(parameters, ("i0_n", "i0_p")[side])

    def open(self, side: int, x: torch.Tensor) -> torch.Tensor:
        """Open-circuit potential."""
        return property_of(self.electrodes[side].ocp, x)

    def drive(self, side: int, exchange: torch.Tensor, over: torch.Tensor) -> torch.Tensor:
        """The flux of an overpotential as a share of the flux there is."""
        cell = self.cell
        if cell.kinetics == "linear":
            return exchange * over / (cell.thermal * cell.fluxes[side])
        bent = torch.sinh(torch.clamp(0.5 * cell.faraday * over / cell.thermal, -20.0, 20.0))
        return 2 * exchange * bent / (cell.faraday * cell.fluxes[side])

    def initial_potentials(self, parameters: torch.Tensor) -> torch.Tensor:
        """(2, n), by the kinetics at rest; the other kinetics than linear ones by their inverse."""
        cell, levels = self.cell, []
        for side in (0, 1):
            x = torch.full((1,), self.start[side], dtype=parameters.dtype, device=parameters.device)  # the same for all
            exchange, flux = self.exchange(side, x, parameters), cell.fluxes[side]
            if cell.kinetics == "linear":
                over = cell.thermal * flux / exchange
            else:
                over = 2 * cell.thermal / cell.faraday * torch.asinh(cell.faraday * flux / (2 * exchange))
            levels.append((self.open(side, x) + over).expand(parameters.shape[0]))
        return torch.stack([-levels[0], levels[1] - levels[0]])

    def constants(self) -> dict[str, Any]:
        """All that the start is made of, as plain numbers."""
        at = [torch.tensor([x], dtype=torch.float64) for x in self.start]
        exchange = [float(property_of(one.exchange, x)) for one, x in zip(self.electrodes, at, strict=True)]
        ocp = [float(property_of(one.ocp, x)) for one, x in zip(self.electrodes, at, strict=True)]
        cell = self.cell
        sizes = {"radius": [one.radius for one in self.electrodes], "capacity": [one.capacity for one in self.electrodes]}
        return {**sizes, "x": list(self.start), "ocp": ocp, "exchange": exchange, "kinetics": cell.kinetics,
                "fluxes": [float(one) for one in cell.fluxes], "thermal": float(cell.thermal),
                "faraday": float(cell.faraday)}  # fmt: skip

    def surface_slope(self, side: int, x: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """Slope of the share of lithium at the surface, per radius."""
        one = self.electrodes[side]
        held = property_of(one.diffusivity, x) * self.factor(parameters, ("D_n", "D_p")[side])
        return -self.cell.fluxes[side] * one.radius / (one.capacity * held)

    def spread(self, side: int, x: torch.Tensor, radius: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """What diffusion makes of a jet (4, n), in shares of lithium over the discharge."""
        one = self.electrodes[side]
        kept = x[0].clamp(EDGE, 1 - EDGE)
        held, more, less = property_of(one.diffusivity, torch.stack([kept, kept + _STEP, kept - _STEP])).unbind()
        slope = (more - less) / (2 * _STEP)
        pace = self.cell.duration / one.radius**2 * self.factor(parameters, ("D_n", "D_p")[side])
        return pace * (held * (x[3] + 2 * x[1] / radius) + slope * x[1] ** 2)


class Stage(nn.Module):
    """One network and how its output becomes fields that begin as they must; may correct a stage below, which is frozen.

    Fields are a *base*, without anything to learn, and what the network adds. The base may be kept for points that stay.

    Parameters
    ----------
    network : FieldNetwork
    cell : CellLike
        Whose equations it learns.
    low, high : tensor of shape (d,)
        Of the parameters.
    ramp : float
        Over which what is built in fades, in s.
    below : Stage or None
    frozen : tensor of shape (d,) or None
        Parameters at which this stage is kept, whatever it is asked for.
    begin : float
        Time in s from which this stage rules; those below rule before.
    """

    low: torch.Tensor
    high: torch.Tensor
    frozen: torch.Tensor | None
    sizes: torch.Tensor
    reach: torch.Tensor

    def __init__(
        self, network: FieldNetwork, cell: CellLike, low: torch.Tensor, high: torch.Tensor, ramp: float, below: Stage | None,
        frozen: torch.Tensor | None, begin: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.kinetics = network, Kinetics(cell)
        self.below = None if below is None else below.requires_grad_(False)
        self.ramp, self.begin, self.duration, self.conserved = ramp, begin, float(cell.duration), network.even
        negative, positive = self.kinetics.start
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("frozen", frozen)
        self.register_buffer("sizes", torch.tensor(POTENTIALS, dtype=torch.float64)[:, None])
        self.register_buffer("reach", torch.tensor([-negative, 1 - positive], dtype=torch.float64)[:, None])

    def asked(self, parameters: torch.Tensor) -> torch.Tensor:
        """The parameters that this stage goes by."""
        return parameters if self.frozen is None else self.frozen.expand_as(parameters)

    def clock(self, time: Any) -> Any:
        """What networks and points have for a time in s: its share of the discharge, or the root of that."""
        return (time / self.duration) ** (0.5 if self.conserved else 1.0)

    def pace(self, clock: torch.Tensor) -> Any:
        """By how much of the discharge time moves with the clock."""
        return 2 * clock if self.conserved else 1.0

    def _inputs(self, clock: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        return torch.cat([clock[:, None], (self.asked(parameters) - self.low) / (self.high - self.low)], dim=1)

    def rise(self, clock: torch.Tensor, size: int = VALUE) -> torch.Tensor:
        """Jet (k, 1, n) of what is 0 at the beginning: 1 - exp(-(t - begin) / ramp), or the root of time itself."""
        begin = self.clock(self.begin)
        past = (clock - begin).clamp(min=0.0)[None]
        if self.conserved:
            value, slope = past / (1 - begin), torch.full_like(past, 1 / (1 - begin))
        else:
            pace = self.duration / self.ramp
            left = torch.exp(-pace * past)
            value, slope = 1 - left, pace * left
        none = torch.zeros_like(past)
        return torch.stack([value, none, slope, none][:size])

    def faded(self, clock: torch.Tensor) -> torch.Tensor:
        """How much the slope at the surface counts, which an even start cannot have."""
        return self.pace(clock) if self.conserved else self.rise(clock)[0, 0]

    # ------------------------------------------------------------------ potentials
    def first_potentials(self, parameters: torch.Tensor) -> torch.Tensor:
        """With which the discharge begins, whatever the network says: (2, n)."""
        if self.below is not None and self.begin > 0:
            return self.below.first_potentials(parameters)
        return self.kinetics.initial_potentials(self.asked(parameters))

    def base_potentials(self, clock: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        """What the network adds to, (2, n)."""
        if self.below is None:
            return self.first_potentials(parameters)
        if self.begin > 0:
            return self.below.potentials(torch.full_like(clock, self.clock(self.begin)), parameters)
        wrong = self.first_potentials(parameters) - self.below.first_potentials(parameters)
        return self.below.potentials(clock, parameters) + (1 - self.rise(clock)[0]) * wrong

    def potentials(self, clock: torch.Tensor, parameters: torch.Tensor, base: torch.Tensor | None = None) -> torch.Tensor:
        """(2, n): electrolyte and positive electrode, in V."""
        base = self.base_potentials(clock, parameters) if base is None else base
        moved = self.rise(clock)[0] * self.sizes * self.network.potential(self._inputs(clock, parameters))
        return base + (moved if self.below is None or self.begin > 0 else 0.1 * moved)

    # ------------------------------------------------------------------ concentrations
    def base_concentrations(
        self, clock: torch.Tensor, radius: torch.Tensor, parameters: torch.Tensor, size: int
    ) -> torch.Tensor:
        """What the network adds to, jets (k, 2, n)."""
        if self.below is None:
            start = torch.zeros(size, 2, len(clock), dtype=clock.dtype, device=clock.device)
            start[0] = torch.tensor(self.kinetics.start, dtype=clock.dtype, device=clock.device)[:, None]
            if self.conserved:
                drift = torch.tensor(self.kinetics.drift, dtype=clock.dtype, device=clock.device)[:, None]
                start[0] += drift * clock**2
                start[2:3] = 2 * drift * clock
            return start
        if self.begin > 0:
            held = self.below.concentrations(torch.full_like(clock, self.clock(self.begin)), radius, parameters, size)
            if size == FULL:
                held[2] = 0.0  # what it was then does not move
            return held
        return self.below.concentrations(clock, radius, parameters, size)

    def concentrations(
        self, clock: torch.Tensor, radius: torch.Tensor, parameters: torch.Tensor, size: int, base: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Jets (k, 2, n): shares of lithium in negative and positive particles."""
        base = self.base_concentrations(clock, radius, parameters, size) if base is None else base
        out = self.network.concentration(self._inputs(clock, parameters), radius, size)
        if self.below is None and not self.conserved:
            return base + product(self.rise(clock, size), sigmoid(out)) * self.reach
        share = _SHARE if self.below is None else 1.0 if self.begin > 0 else _FURTHER
        return base + share * product(self.rise(clock, size), out) * self.reach


class Points:
    """Where residuals are taken, with the base of a stage there."""

    def __init__(self, stage: Stage, inner: torch.Tensor, edge: torch.Tensor) -> None:
        """Inner points (n, 2 + d) are clock, radius and parameters; those at the edge (m, 1 + d) clock and parameters."""
        n = len(edge)
        self.inner, self.time, self.parameters = inner, edge[:, 0], stage.asked(edge[:, 1:])
        self.inner_parameters = stage.asked(inner[:, 2:])
        self.twice = torch.cat([self.time, self.time]), torch.cat([self.parameters, self.parameters])
        self.radius = torch.cat([torch.ones_like(self.time), torch.zeros_like(self.time)])
        with torch.no_grad():
            self.inner_base = stage.base_concentrations(inner[:, 0], inner[:, 1], self.inner_parameters, FULL)
            self.edge_base = stage.base_concentrations(self.twice[0], self.radius, self.twice[1], SLOPE)
            self.potential_base = stage.base_potentials(self.time, self.parameters)
            known = stage.begin > 0 and not stage.conserved  # the flux is there from its start on
            self.faded = torch.ones_like(self.time) if known else stage.faded(self.time)
        self.n = n

    def take(self, inner: torch.Tensor, edge: torch.Tensor) -> Points:
        """Those of some rows."""
        out = object.__new__(Points)
        out.n = len(edge)
        out.inner, out.inner_parameters = self.inner[inner], self.inner_parameters[inner]
        out.inner_base = self.inner_base[..., inner]
        out.time, out.parameters, out.faded = self.time[edge], self.parameters[edge], self.faded[edge]
        both = torch.cat([edge, edge + self.n])
        out.twice = self.twice[0][both], self.twice[1][both]
        out.radius, out.edge_base = self.radius[both], self.edge_base[..., both]
        out.potential_base = self.potential_base[:, edge]
        return out


def interior(stage: Stage, at: Points) -> torch.Tensor:
    """Residuals (2, n) of diffusion in the negative and positive particles, in units of what could move in half an hour."""
    clock, radius, parameters = at.inner[:, 0], at.inner[:, 1], at.inner_parameters
    x = stage.concentrations(clock, radius, parameters, FULL, at.inner_base)
    spread = torch.stack([stage.kinetics.spread(side, x[:, side], radius, parameters) for side in (0, 1)])
    return (x[2] - stage.pace(clock) * spread) * (_INTERVAL / stage.duration) / stage.reach


def slopes(stage: Stage, at: Points) -> tuple[torch.Tensor, torch.Tensor]:
    """Residuals (4, n) of the slopes in the middle and at the surface, and what is at the surface (2, n)."""
    kinetics = stage.kinetics
    x = stage.concentrations(at.twice[0], at.radius, at.twice[1], SLOPE, at.edge_base)
    kept = x[0, :, : at.n].clamp(EDGE, 1 - EDGE)
    wanted = torch.stack([kinetics.surface_slope(side, kept[side], at.parameters) for side in (0, 1)])
    middle, surface = x[1, :, at.n :] / wanted, at.faded * (x[1, :, : at.n] / wanted - 1)
    return torch.cat([middle, surface]), kept


def drives(stage: Stage, at: Points, kept: torch.Tensor) -> torch.Tensor:
    """Residuals (2, n) of the kinetics of both electrodes, with what is at their surfaces (2, n)."""
    kinetics = stage.kinetics
    electrolyte, electrode = stage.potentials(at.time, at.parameters, at.potential_base)
    found = []
    for side, above in ((0, -electrolyte), (1, electrode - electrolyte)):
        over = above - kinetics.open(side, kept[side])
        found.append(kinetics.drive(side, kinetics.exchange(side, kept[side], at.parameters), over) - 1)
    return torch.stack(found)


def constant_cell(start: Mapping[str, Any], bounds: Mapping[str, tuple[float, float]], duration: float) -> Any:
    """What a saved emulator needs of its cell: the properties at the start, as numbers; see `Kinetics.constants`."""

    def electrode(side: int) -> Any:
        ocp, exchange = start["ocp"][side], start["exchange"][side]
        sizes = {"radius": start["radius"][side], "capacity": start["capacity"][side], "start": start["x"][side]}
        return SimpleNamespace(**sizes, ocp=lambda x: 0.0 * x + ocp, exchange=lambda x: 0.0 * x + exchange)

    return SimpleNamespace(
        negative=electrode(0), positive=electrode(1), bounds=dict(bounds), duration=duration, kinetics=start["kinetics"],
        fluxes=tuple(start["fluxes"]), thermal=start["thermal"], faraday=start["faraday"],
    )  # fmt: skip
