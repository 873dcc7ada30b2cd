"""A physics-informed network stands in for the single-particle model of a lithium-ion cell, over time, radius and parameters.

It learns from the equations, with few solved discharges or none. Levels correct levels below them: again the same equations,
simpler ones first, or fewer parameters first.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, OutsideRegion, need
from locum.core.fidelity import Fidelity
from locum.core.measures.values import IntervalCoverage
from locum.core.parameters import parameter_rows
from locum.core.surrogate import Saves
from locum.emulate._packed import read_packed, write_packed
from locum.emulate._pinn_checks import check_level, check_settings
from locum.emulate.calibration import Calibration, calibrate
from locum.emulate.exported import Exports

__all__ = ["CellFields", "Level", "PINNEmulator"]

Array = NDArray[np.float64]

_FORMAT = 1
_ROWS = 4096  # points that pass the network at once: few enough that what they become stays in the processor's cache
_ROWS_ELSEWHERE = 2**20  # the same on another device, which many points keep busy
_SLACK = 1e-9


@dataclass(frozen=True, eq=False)
class Level:
    """One network of a hierarchy.

    Parameters
    ----------
    epochs : int, default=150
        Of Adam.
    iterations : int, default=1500
        Of L-BFGS, a multiple of 50.
    width : int, default=20
    layers : int, default=2
    cell : object or None, default=None
        Whose equations it learns: one like the emulator's with other kinetics or simpler properties; the emulator's own where
        None.
    frozen : mapping of str to float or None, default=None
        Parameters at which this level is kept, so that the next one learns what depends on them.
    begin : float, default=0.0
        Time in s from which this level rules; it starts from what the level below says then.
    """

    epochs: int = 150
    iterations: int = 1500
    width: int = 20
    layers: int = 2
    cell: Any = None
    frozen: Mapping[str, float] | None = None
    begin: float = 0.0


@dataclass(frozen=True, eq=False)
class CellFields:
    """All fields of n discharges.

    Attributes
    ----------
    voltage, electrolyte : ndarray of shape (n, T)
        In V.
    negative, positive : ndarray of shape (n, T, N)
        Share of lithium in the particles.
    """

    voltage: Array
    electrolyte: Array
    negative: Array
    positive: Array


class PINNEmulator(Saves, Exports, BaseEstimator):
    r"""A network N(t, r, p) stands in for the solver of a cell's equations, with parameters p that are not known.

    What must hold at the start is built in; all else are residuals at collocation points, whose squares are made small by Adam
    and then by L-BFGS, in double precision. A further level learns a small correction on what is there.

    .. math:: φ = φ_0(p) + g(t) S N_φ, \quad x = x_0 + g(t) (x_∞ - x_0) \,\mathrm{sigmoid}(N_x), \quad g = 1 - e^{-t/τ};
       \qquad φ_k = φ_{k-1} + 0.1\, g S N_φ, \quad x_k = x_{k-1} + 0.01\, g (x_∞ - x_0) N_x

    Parameters
    ----------
    cell : object
        The equations and the ranges of the parameters, such as `locum.problems.battery.graphite_nmc()`.
    levels : sequence of Level or None, default=None
        From the first that is learned to the last, which has the equations of `cell`; one of the usual size where None.
    ansatz : {"conserved", "flat"}, default="conserved"
        What the first network adds to: the mean share of lithium in a particle, which is known at all times, x̄(t) + 0.1 g (x_∞
        - x_0) N_x, where all is in the root of time (g too, as diffusion from a sudden start is smooth in it) and the square of
        the radius; or the share at the start, as above and in the paper.
    block : {"gated", "plain", "residual"}, default="gated"
    activation : {"tanh", "swish", "gelu"}, default="tanh"
    ramp : float, default=1.0
        τ, in s.
    inner, edge : int, default=1024 and 512
        Collocation points within, and at the surface and in the middle; powers of two, the first not below the second.
    batches : int, default=8
        Of an epoch of Adam.
    lr : tuple of float, default=(0.002, 0.0002)
        Of Adam, held for half of the epochs and then falling.
    weights : tuple of float, default=(10.0, 1.0, 1.0, 10.0, 1.0)
        Of the squares of diffusion, kinetics, slope in the middle, slope at the surface, and data. A millivolt moves the flux
        by a third: with `joint`, kinetics bend concentrations to where open-circuit potentials are flat unless they weigh
        little.
    attention : bool, default=False
        Each point has a weight of its own that grows with its residual (self-adaptive, Adam only).
    annealing : bool, default=False
        Weights of the kinds follow the sizes of their gradients (Adam only).
    growth : float, default=0.0
        Share of the epochs over which the time that points are taken from grows to the end.
    collocation : {"fixed", "random"}, default="fixed"
        Whether Adam sees the same points in all epochs.
    refresh : int, default=500
        Iterations of L-BFGS in a round, a multiple of 50, after which points are drawn anew; 0 for one round, as in the paper.
    joint : bool, default=False
        Whether L-BFGS learns all at once, as in the paper. Concentrations do not depend on potentials at a given current, so by
        default each round learns them first, and then the potentials from what is at the surfaces.
    max_seconds : float or None, default=None
        Of the processor, for each level; what is reached then is kept. Numbers then depend on the machine.
    device : str, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    history_ : tuple of Trained
        By level: losses, residuals on fresh points, seconds.
    bounds_ : dict of str to (float, float)
    bound_ : float
        After `audit`, in V.

    Raises
    ------
    InvalidData
        Settings that do not fit; parameters outside their bounds, unless `extrapolate`.

    Notes
    -----
    Cost: 20 to 30 ms an iteration of L-BFGS on one core, for 1024 and 512 points; a level below costs nothing more, as its
    fields at the points are kept. Predictions: 1 µs a point. No query of the solver, unless `data` is given.

    **Departures**: `joint`, `ansatz` and `weights`, as said above; radii are scaled by each particle's own; points are from
    Sobol sequences, and are drawn anew every `refresh` iterations, since L-BFGS learns a few fixed points by heart; potentials
    have a first layer of their own; corrections begin at nothing and add to the level below, where the paper fades that in as
    well; L-BFGS has a line search in place of a warm-up; the weights kept are those with the least residual on fresh points.

    References
    ----------
    Hassanaly et al., *PINN surrogate of Li-ion battery models for parameter inference, Part I*, 2024, arXiv 2312.17329. Wang et
    al., arXiv 2001.04536, for the gated block and annealing; McClenny and Braga-Neto, arXiv 2009.04544, for attention.

    Examples
    --------
    >>> from locum.problems.battery import simple_cell
    >>> quick = PINNEmulator(simple_cell(), levels=[Level(epochs=5, iterations=50, width=6)], inner=64, edge=32)
    >>> quick.fit().predict({"i0_n": [1.0, 2.0], "D_p": 3.0}, [0.0, 600.0, 1350.0]).shape
    (2, 3)
    """

    papers = ("pinn-battery",)

    def __init__(
        self,
        cell: Any,
        *,
        levels: Sequence[Level] | None = None,
        ansatz: str = "conserved",
        block: str = "gated",
        activation: str = "tanh",
        ramp: float = 1.0,
        inner: int = 1024,
        edge: int = 512,
        batches: int = 8,
        lr: tuple[float, float] = (2e-3, 2e-4),
        weights: tuple[float, float, float, float, float] = (10.0, 1.0, 1.0, 10.0, 1.0),
        attention: bool = False,
        annealing: bool = False,
        growth: float = 0.0,
        collocation: str = "fixed",
        refresh: int = 500,
        joint: bool = False,
        max_seconds: float | None = None,
        device: str = "cpu",
        random_state: int = 0,
    ) -> None:
        self.cell = cell
        self.levels = levels
        self.ansatz = ansatz
        self.block = block
        self.activation = activation
        self.ramp = ramp
        self.inner = inner
        self.edge = edge
        self.batches = batches
        self.lr = lr
        self.weights = weights
        self.attention = attention
        self.annealing = annealing
        self.growth = growth
        self.collocation = collocation
        self.refresh = refresh
        self.joint = joint
        self.max_seconds = max_seconds
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(self, data: Any = None, *, monitor: Callable[[Self, float], None] | None = None) -> Self:
        """Learn from the equations.

        Parameters
        ----------
        data : object or None, default=None
            Solved discharges with all their fields, such as `SingleParticle.solve` gives, to learn from as well.
        monitor : callable or None, default=None
            Called with the emulator and the seconds of the level, after each round of L-BFGS; its own time is not counted.

        Raises
        ------
        InvalidData
        MissingExtra
            torch is not installed.
        TrainingFailed
            Residuals that are never finite.
        """
        check_settings(self)
        self._stage: Any = None
        self.history_: tuple[Any, ...] = ()
        self.bounds_ = dict(self.cell.bounds)
        for level in self._planned():
            self.extend(level, data, monitor=monitor)
        return self

    def _planned(self) -> Sequence[Level]:
        return (Level(),) if self.levels is None else self.levels

    def extend(self, level: Level, data: Any = None, *, monitor: Callable[[Self, float], None] | None = None) -> Self:
        """Learn one more level, on top of what is there; those below stay as they are.

        Parameters
        ----------
        level : Level
        data : object or None, default=None
        monitor : callable or None, default=None
        """
        check_is_fitted(self, "bounds_")
        if isinstance(self.cell, SimpleNamespace):
            raise InvalidData("expected a cell with its equations; a loaded emulator has none: set_params(cell=...) first")
        check_level(self, level, first=self._stage is None)
        need("torch", "training a physics-informed network", "nets")
        from locum.emulate import _pinn_training as training

        at = len(self.history_)
        seen = None if data is None else self._observed(data)
        below, self._stage = self._stage, self._new_stage(level, self._stage, at)
        watch = None if monitor is None else lambda seconds: monitor(self, seconds)
        recipe = training.Recipe(
            self.inner, self.edge, self.batches, level.epochs, level.iterations, self.lr, self.weights, self.attention,
            self.annealing, self.growth, self.collocation, self.refresh, self.joint, self.max_seconds, self.device,
            self.random_state + 1000 * at,
        )  # fmt: skip
        try:
            found = training.fitted(self._stage, recipe, seen, watch)
        except BaseException:
            self._stage = below
            raise
        self.history_ = (*self.history_, found)
        return self

    def _new_stage(self, level: Level, below: Any, at: int) -> Any:
        import torch

        from locum.emulate._pinn_networks import FieldNetwork
        from locum.emulate._pinn_physics import Stage
        from locum.nets import seeded

        low, high = (torch.tensor(ends, dtype=torch.float64) for ends in zip(*self.bounds_.values(), strict=True))
        frozen = None
        if level.frozen is not None:
            frozen = torch.as_tensor(parameter_rows(level.frozen, tuple(self.bounds_))[0])
        with seeded(self.random_state + 1000 * at):
            network = FieldNetwork(len(low), level.width, level.layers, self.block, self.activation, self.ansatz == "conserved")
            if below is not None:
                network.start_from_nothing()  # a correction begins with none
        stage = Stage(network, level.cell or self.cell, low, high, self.ramp, below, frozen, float(level.begin))
        return stage.to(self.device)

    def _observed(self, data: Any) -> Any:
        """Two fields along time and one point in the radius for each time, evenly over radii."""
        import torch

        from locum.emulate._pinn_training import Observed

        rows = parameter_rows(data.parameters, tuple(self.bounds_))
        times = self._times(data.times)
        shape = (len(rows), len(times), len(data.radii))
        if data.negative.shape != shape or data.voltage.shape != shape[:2]:
            raise InvalidData(f"expected fields of shape {shape}, got {data.negative.shape} and {data.voltage.shape}")
        radius = (np.arange(shape[0] * shape[1]) * 0.618034 % 1.0 * shape[2]).astype(int).reshape(shape[:2])
        pick = np.ogrid[: shape[0], : shape[1]]
        shares = np.stack([one[pick[0], pick[1], radius].ravel() for one in (data.negative, data.positive)])

        def tensor(x: Array) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(x, dtype=float), device=self.device)

        return Observed(
            tensor(np.tile(self._clock(times), shape[0])), tensor(np.asarray(data.radii)[radius.ravel()]),
            tensor(np.repeat(rows, shape[1], axis=0)), tensor(np.stack([data.electrolyte.ravel(), data.voltage.ravel()])),
            tensor(shares),
        )  # fmt: skip

    # ------------------------------------------------------------------ use
    def predict(self, parameters: Any, times: ArrayLike, *, extrapolate: bool = False) -> Array:
        """The voltage, shape (n, T), in V.

        Parameters
        ----------
        parameters : array-like of shape (n, d) or (d,), or mapping of name to numbers that broadcast
        times : array-like of shape (T,)
            Rising, within the discharge, in s.
        extrapolate : bool, default=False
            Whether parameters outside the bounds get a warning (`OutsideRegion`) rather than an error.
        """
        return self._values(parameters, times, None, extrapolate)[0][1]

    def fields(self, parameters: Any, times: ArrayLike, radii: ArrayLike, *, extrapolate: bool = False) -> CellFields:
        """Potentials and shares of lithium.

        Parameters
        ----------
        parameters : array-like of shape (n, d) or (d,), or mapping of name to numbers that broadcast
        times : array-like of shape (T,)
        radii : array-like of shape (N,)
            As shares of the radius of a particle; 1 is the surface.
        extrapolate : bool, default=False
        """
        places = np.atleast_1d(np.asarray(radii, dtype=float))
        if places.ndim != 1 or not ((places >= 0) & (places <= 1)).all():
            raise InvalidData("expected radii of shape (N,) between 0 and 1, as shares of the radius of a particle")
        (electrolyte, voltage), shares = self._values(parameters, times, places, extrapolate)
        return CellFields(voltage, electrolyte, shares[0], shares[1])

    def _values(self, parameters: Any, times: ArrayLike, radii: Array | None, extrapolate: bool) -> tuple[Array, Array]:
        check_is_fitted(self, "bounds_")
        import torch

        rows, at = self._rows(parameters, extrapolate), self._times(times)
        factors, clock = (torch.as_tensor(x, device=self.device) for x in (rows, self._clock(at)))
        places = torch.as_tensor(np.empty(0) if radii is None else radii, device=self.device)
        many = max(len(places), 1)
        potentials, shares = np.empty((2, len(rows), len(at))), np.empty((2, len(rows), len(at), len(places)))
        begins = [0.0, *(level.begin for level in self._chain() if level.begin > 0), math.inf]
        at_once = _ROWS if factors.device.type == "cpu" else _ROWS_ELSEWHERE
        for first, last in pairwise(begins):
            stage = self._ruling(first)
            some = slice(*np.searchsorted(at, (first, last)))
            held = some.stop - some.start
            step = max(at_once // max(held * many, 1), 1)
            for mine in (slice(start, start + step) for start in range(0, len(rows) if held else 0, step)):
                given = factors[mine].repeat_interleave(held, 0)
                moment = clock[some].repeat(len(given) // held)
                with torch.no_grad():
                    potentials[:, mine, some] = stage.potentials(moment, given).cpu().numpy().reshape(2, -1, held)
                    if radii is not None:
                        found = stage.concentrations(moment.repeat_interleave(many), places.repeat(len(given)),
                                                     given.repeat_interleave(many, 0), 1)  # fmt: skip
                        shares[:, mine, some] = found[0].cpu().numpy().reshape(2, -1, held, many)
        return potentials, shares

    def to_module(self) -> tuple[Any, dict[str, Any]]:
        """See `Exports`: from "parameters" (n, d) and "times" (n,) to the voltage (n,), in float64."""
        check_is_fitted(self, "bounds_")
        from locum.emulate._exported_modules import PartsInTime, some_rows

        begins = [0.0, *(level.begin for level in self._chain() if level.begin > 0)]
        module = PartsInTime([self._ruling(begin) for begin in begins])
        return module, {"parameters": some_rows(len(self.bounds_)).double(), "times": some_rows().double()}

    def _clock(self, times: Array) -> Array:
        return np.asarray((times / self.cell.duration) ** (0.5 if self.ansatz == "conserved" else 1.0))

    def _chain(self) -> list[Any]:
        """Stages from the first to the last."""
        found: list[Any] = []
        stage = self._stage
        while stage is not None:
            found.append(stage)
            stage = stage.below
        return found[::-1]

    def _ruling(self, begin: float) -> Any:
        """The last stage that began at or before a time."""
        return next(stage for stage in reversed(self._chain()) if stage.begin <= begin)

    # ------------------------------------------------------------------ how far to trust it
    def audit(self, solved: Any, level: float = 0.9) -> Self:
        """Bound the error of the voltage from discharges that were solved for it, with parameters drawn from where it is used.

        The largest error along a new discharge is at most `bound_` with probability `level` or more (split conformal
        prediction; the discharge is the unit).

        Parameters
        ----------
        solved : object
            With ``parameters`` (n, d), ``times`` (T,) and ``voltage`` (n, T), not learned from.
        level : float, default=0.9

        Raises
        ------
        InvalidData
            Too few discharges for the level.
        """
        errors = self._errors(solved)
        if not 0 < level < 1:
            raise InvalidData(f"expected level= between 0 and 1, got {level!r}")
        rank = math.ceil((len(errors) + 1) * level - 1e-9)
        if rank > len(errors):
            least = math.ceil(level / (1 - level) - 1e-9)
            raise InvalidData(f"expected {least} discharges or more for level={level:g}, got {len(errors)}")
        self.bound_, self.level_ = float(np.sort(errors)[rank - 1]), level
        return self

    def interval(self, parameters: Any, times: ArrayLike, *, extrapolate: bool = False) -> Array:
        """Lower and upper ends of the voltage, shape (n, T, 2); without end outside the bounds of the parameters.

        Parameters
        ----------
        parameters : array-like of shape (n, d) or (d,), or mapping of name to numbers that broadcast
        times : array-like of shape (T,)
        extrapolate : bool, default=False
        """
        check_is_fitted(self, "bound_")
        middle = self.predict(parameters, times, extrapolate=extrapolate)
        outside = self._outside(parameter_rows(parameters, tuple(self.bounds_)))
        half = np.where(outside, np.inf, self.bound_)[:, None]
        return np.stack([middle - half, middle + half], axis=-1)

    def coverage(self, solved: Any, *, level: float = 0.95) -> Fidelity:
        """Share of discharges that stay within `bound_` all along.

        Parameters
        ----------
        solved : object
            As for :meth:`audit`, with others.
        level : float, default=0.95
            Of the interval.
        """
        check_is_fitted(self, "bound_")
        errors = self._errors(solved)
        band = np.column_stack([np.full(len(errors), -self.bound_), np.full(len(errors), self.bound_)])
        return IntervalCoverage().fidelity(errors, band, level=level, region="box of parameters", how="solved discharges")

    def _errors(self, solved: Any) -> Array:
        said = self.predict(solved.parameters, solved.times)
        if np.shape(solved.voltage) != said.shape:
            raise InvalidData(f"expected voltages of shape {said.shape}, got {np.shape(solved.voltage)}")
        return np.asarray(np.abs(said - solved.voltage).max(axis=1))

    def calibrate(self, times: ArrayLike, voltage: ArrayLike, *, sigma: float | str = "fit", **settings: Any) -> Calibration:
        """Posterior of the parameters, given a measured discharge; see :func:`locum.emulate.calibrate`.

        Parameters
        ----------
        times : array-like of shape (T,)
        voltage : array-like of shape (T,)
            In V.
        sigma : float or "fit", default="fit"
        **settings
            Of `calibrate`.
        """
        at = self._times(times)
        seen = np.asarray(voltage, dtype=float)
        if seen.shape != at.shape or not (np.isfinite(seen) & (seen > 0)).all():
            raise InvalidData(f"expected {len(at)} finite voltages above 0, got shape {seen.shape}")
        return calibrate(lambda rows: self.predict(rows, at), seen, self.bounds_, sigma=sigma, **settings)

    # ------------------------------------------------------------------ files
    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Settings, what the start needs, and the weights; the equations, which are code, stay behind."""
        check_is_fitted(self, "history_")
        levels: list[dict[str, Any]] = []
        arrays: dict[str, NDArray[Any]] = {}
        for i, stage in enumerate(self._chain()):
            levels.append({"begin": stage.begin, "start": stage.kinetics.constants(), "frozen": stage.frozen is not None,
                           "width": stage.network.trunk.weight.shape[2],
                           "layers": len(stage.network.potentials.layers)})  # fmt: skip
            kept = {**dict(stage.network.state_dict()), **({} if stage.frozen is None else {"frozen": stage.frozen})}
            arrays |= {f"{i}.{name}": one.cpu().numpy() for name, one in kept.items()}
        record = {
            "levels": levels, "bounds": self.bounds_, "duration": self.cell.duration, "ramp": self.ramp, "block": self.block,
            "ansatz": self.ansatz, "activation": self.activation, "bound": getattr(self, "bound_", None),
            "level": getattr(self, "level_", None),
        }  # fmt: skip
        return record, arrays

    @classmethod
    def from_state(cls, record: dict[str, Any], arrays: dict[str, NDArray[Any]], device: str = "cpu") -> Self:
        """The emulator that `to_state` described, which predicts; to learn more it needs its cell."""
        import torch

        from locum.emulate._pinn_physics import constant_cell

        bounds = {name: tuple(ends) for name, ends in record["bounds"].items()}
        levels = []
        for i, one in enumerate(record["levels"]):
            cell = constant_cell(one["start"], bounds, record["duration"])
            frozen = dict(zip(bounds, arrays[f"{i}.frozen"].tolist(), strict=True)) if one["frozen"] else None
            levels.append(Level(width=one["width"], layers=one["layers"], begin=one["begin"], frozen=frozen, cell=cell))
        kind = {name: record[name] for name in ("ansatz", "block", "activation", "ramp")}
        out = cls(levels[-1].cell, levels=levels, device=device, **kind)
        out._stage, out.bounds_, out.history_ = None, bounds, ()
        for i, level in enumerate(levels):
            out._stage = out._new_stage(level, out._stage, i)
            weights = {k.partition(".")[2]: torch.as_tensor(v) for k, v in arrays.items() if k.startswith(f"{i}.")}
            weights.pop("frozen", None)
            out._stage.network.load_state_dict(weights)
        if record["bound"] is not None:
            out.bound_, out.level_ = record["bound"], record["level"]
        return out

    def save(self, path: Any) -> None:
        """Write to one file of arrays and JSON (npz), whole or not at all."""
        write_packed(path, self, _FORMAT, *self.to_state())

    @classmethod
    def load(cls, path: Any, *, device: str = "cpu") -> Self:
        """The emulator that `save` wrote, on a device; nothing in the file is run.

        Raises
        ------
        FormatError
            Another kind of file, or of a newer format.
        """
        return cls.from_state(*read_packed(path, _FORMAT, "saved emulator of a cell"), device)

    # ------------------------------------------------------------------ what may come in
    def _outside(self, rows: Array) -> NDArray[np.bool_]:
        low, high = np.array(list(self.bounds_.values()), dtype=float).T
        slack = _SLACK * (high - low)
        return np.asarray(((rows < low - slack) | (rows > high + slack)).any(axis=1))

    def _rows(self, parameters: Any, extrapolate: bool) -> Array:
        rows = parameter_rows(parameters, tuple(self.bounds_))
        outside = np.flatnonzero(self._outside(rows))
        if outside.size:
            said = f"{outside.size} of {len(rows)} rows of parameters lie outside {self.bounds_}, first row {outside[0]}"
            if not extrapolate:
                raise InvalidData(f"{said}: nothing was learned there; extrapolate=True answers all the same")
            warnings.warn(said, OutsideRegion, stacklevel=3)
        return rows

    def _times(self, times: ArrayLike) -> Array:
        at, end = np.atleast_1d(np.asarray(times, dtype=float)), float(self.cell.duration)
        if at.ndim != 1 or not len(at) or not np.isfinite(at).all() or (np.diff(at) <= 0).any():
            raise InvalidData("expected finite, rising times of shape (T,)")
        if at[0] < 0 or at[-1] > end * (1 + _SLACK):
            raise InvalidData(f"expected times from 0 to {end:g} s, got {at[0]:g} to {at[-1]:g}")
        return np.asarray(np.minimum(at, end))
