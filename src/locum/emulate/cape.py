"""A neural operator stands in for a solver of partial differential equations over a range of their parameters.

Parameters weigh the channels of a first guess of the next field, and training goes over from true fields to the network's own.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import FormatError, InvalidData, OutsideRegion, need, require_one_of, require_positive, require_whole
from locum.core.region import Region
from locum.core.surrogate import Saves
from locum.emulate._cape_settings import CAPE, Conditional, Curriculum
from locum.emulate._packed import read_packed, write_packed
from locum.emulate._rollout_errors import RolloutErrors, rollout_errors, runs_of
from locum.emulate.exported import Exports
from locum.emulate.stepper import Steps

__all__ = ["CAPE", "Conditional", "Curriculum", "FirstGuess", "NeuralPDESolver"]

Array = NDArray[np.floating[Any]]

_FORMAT = 1
_BASES = ("fno", "unet", "message-passing")
_LOSSES = ("rel-l2", "mse")
_ROWS = 256  # fields that are stepped at once
_COARSE = 4  # cells of the grid that networks see as one


@dataclass(frozen=True, eq=False)
class FirstGuess:
    """What the parameters make of fields before the operator corrects it.

    Attributes
    ----------
    fields : ndarray of shape (n, frames, C, *grid)
        In the units of the data.
    attention : dict of str to ndarray of shape (n, width)
        Weights of the channels of the "spectral", "pointwise" and "depthwise" branch: changes that reach over the whole grid,
        that stay in a cell, and that come from neighbouring cells.
    """

    fields: Array
    attention: dict[str, Array]


# ---------------------------------------------------------------------- the stand-in
class NeuralPDESolver(Steps, Saves, Exports, BaseEstimator):
    r"""An autoregressive neural operator stands in for a solver of an equation, at parameters it may not have been trained on.

    The operator makes the next field of the last one, on a uniform periodic grid. With `CAPE`, three branches that act like
    derivatives (depthwise, pointwise, spectral) are weighed by attention from the parameters and add up to a first guess of the
    next field; the operator sees the parameters through that guess alone. Training goes over, smoothly, from true fields as
    inputs to the network's own:

    .. math:: \hat u_e = u + W \,\mathrm{gelu}\big(\textstyle\sum_i a_i(p) \odot D_i y + V y\big), \quad
       y = \mathrm{gelu}(K u), \qquad u^{t+1} = G(u^t, \hat u_e)

    Parameters
    ----------
    base : {"fno", "unet", "message-passing"} or torch.nn.Module, default="fno"
        The operator G; a module of your own takes (n, channels in, \*grid) to (n, channels out, \*grid), with
        C (history + frames) channels in and C (frames + 1) out with `CAPE`, C history + k in and C out with `Conditional`.
    parameters : CAPE, Conditional or None, default=None
        How the parameters enter; not at all where None.
    width : int, default=20
        Channels of the operator.
    history : int, default=1
        Frames that it sees.
    loss : {"rel-l2", "mse"}, default="rel-l2"
        Error of each frame relative to its size, or mean squares.
    floor : float, default=0.1
        Share of the usual size of fields that is added to the size of each, so that frames that have all but died away do not
        count for more than those that have not.
    aux_weight : float, default=0.001
        Of the error of the first guess.
    residual : callable or None, default=None
        ``residual(now, next, p)``, tensors (n, C, \*grid), the same, and (n, k) in the units of the data: what the equation
        says is 0. Its mean square is added to the loss.
    residual_weight : float, default=1.0
    curriculum : Curriculum or None, default=None
        ``Curriculum()`` where None.
    window : int or None, default=None
        Frames of a run that a batch sees, from a random one on; all where None. Less work an update.
    noise : float, default=0.001
        Standard deviation, relative to the fields', of what is added to inputs in training.
    warmup_epochs : int, default=3
        In which the first guess alone is trained.
    epochs, batch_size : int, default=100 and 50
        Batches of runs.
    lr, weight_decay : float, default=0.003 and 0.0001
        Of Adam; the rate halves five times.
    clip : float or None, default=1.0
        Largest norm of a gradient.
    device : torch.device or str, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    network_ : torch.nn.Module
    history_ : History
        Of the training.
    region_ : Region
        Ranges of the parameters trained on.
    mean_, scale_ : ndarray of shape (C,)
    grid_ : tuple of int
    n_parameters_ : int
        Numbers learned.

    Raises
    ------
    InvalidData
        Runs, parameters or settings that do not go together.

    Warns
    -----
    OutsideRegion
        Parameters outside the range trained on.

    Notes
    -----
    Cost: on one core about 0.3 s for 1000 steps of 64 cells, forwards and backwards; epochs times runs times frames of them.

    **Departures**: convolutions are circular, as the grid is, and the operators get no coordinates and no padding, so that a
    shifted field gives a shifted answer; the change that is guessed is not normalised, which was far better here; errors of
    frames are averaged, so that `aux_weight` is another than in the paper, and have a `floor`; the schedule is rounded up; the
    penalty on the gradient by parameters is not there.

    References
    ----------
    Takamoto, Alesiani and Niepert, *Learning Neural PDE Solvers with Parameter-Guided Channel Attention*, ICML 2023, arXiv
    2304.14118. Push-forward: Brandstetter, Worrall and Welling, arXiv 2202.03376.

    Examples
    --------
    >>> x = 2 * np.pi * np.arange(16) / 16
    >>> speeds = np.linspace(0.5, 1.5, 12)[:, None]
    >>> U = np.sin(x - 0.3 * np.arange(4)[:, None, None] * speeds[:, :, None, None])     # 12 runs of 4 frames
    >>> solver = NeuralPDESolver(parameters=CAPE(width=8), width=8, warmup_epochs=1, epochs=60, batch_size=4).fit(U, speeds)
    >>> bool(np.abs(solver.rollout(U[4, 0], 3, speeds[4]) - U[4, 1:]).max() < 0.3)
    True
    """

    papers = ("cape",)

    def __init__(
        self,
        base: Any = "fno",
        parameters: CAPE | Conditional | None = None,
        *,
        width: int = 20,
        history: int = 1,
        loss: str = "rel-l2",
        floor: float = 0.1,
        aux_weight: float = 1e-3,
        residual: Callable[..., Any] | None = None,
        residual_weight: float = 1.0,
        curriculum: Curriculum | None = None,
        window: int | None = None,
        noise: float = 1e-3,
        warmup_epochs: int = 3,
        epochs: int = 100,
        batch_size: int = 50,
        lr: float = 3e-3,
        weight_decay: float = 1e-4,
        clip: float | None = 1.0,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.base = base
        self.parameters = parameters
        self.width = width
        self.history = history
        self.loss = loss
        self.floor = floor
        self.aux_weight = aux_weight
        self.residual = residual
        self.residual_weight = residual_weight
        self.curriculum = curriculum
        self.window = window
        self.noise = noise
        self.warmup_epochs = warmup_epochs
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.clip = clip
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(
        self, U: ArrayLike, P: ArrayLike, *, checkpoint: Any = None, progress: Callable[[int, int, str], None] | None = None
    ) -> Self:
        """Learn from runs of the solver.

        Parameters
        ----------
        U : array-like of shape (n, T, C, *grid)
            Frames of n runs, evenly spaced in time; a grid of one or two dimensions whose sides 4 divides.
        P : array-like of shape (n, k)
            Parameters of each run.
        checkpoint : path or None, default=None
            A file written after each epoch, from which an interrupted training goes on.
        progress : callable or None, default=None
            Called with (epochs done, epochs in all, the losses in words).
        """
        self._check_settings()
        runs, rows = runs_of(U, P)
        self._check_runs(runs, rows)
        torch = need("torch", "a neural solver", "nets")
        from locum.emulate import _cape_training as training
        from locum.nets import train

        self._take_units(runs, rows)
        network = self._built()
        network.register_buffer("epochs_done", torch.zeros((), dtype=torch.long))
        guided = isinstance(self.parameters, CAPE)
        warmup, curriculum = self.warmup_epochs if guided else 0, self.curriculum or Curriculum()
        objective = training.Objective(
            self.history, warmup, self.epochs, self.window, curriculum.own_steps, curriculum.through_time, self.noise,
            self.aux_weight, self.loss == "rel-l2", self.floor, self._tensor(self._per_field(self.mean_ / self.scale_)),
            None if self.residual is None else self._residual, self.residual_weight,
        )  # fmt: skip
        tensors = [self._tensor(one) for one in (self._standard(runs), self._scaled(rows), rows)]
        self.history_ = train(
            network, objective, tensors, epochs=self.epochs, batch_size=self.batch_size,
            optimizer=training.optimizer_of(self.lr, self.weight_decay), schedule=training.schedule_of(warmup, self.epochs),
            after_epoch=training.count, clip=self.clip, device=self.device,
            checkpoint=checkpoint, random_state=self.random_state, progress=progress,
        )  # fmt: skip
        del network.epochs_done
        return self

    def _built(self) -> Any:
        from locum.emulate import _cape_training as training
        from locum.nets import seeded

        guide = None
        if isinstance(self.parameters, CAPE):
            guide = {name: value for name, value in asdict(self.parameters).items() if name != "scale"}
        with seeded(self.random_state):
            self.network_ = training.network_of(
                self.base, guide, isinstance(self.parameters, Conditional), width=self.width, channels=len(self.mean_),
                history=self.history, parameters=len(self.region_.domain), grid=self.grid_,
            )  # fmt: skip
        self.n_parameters_ = sum(one.numel() for one in self.network_.parameters())
        return self.network_

    def _take_units(self, runs: Array, rows: Array) -> None:
        over = (0, 1, *range(3, runs.ndim))
        self.mean_, self.scale_, self.grid_ = runs.mean(axis=over), runs.std(axis=over), runs.shape[3:]
        if (self.scale_ <= 0).any():
            raise InvalidData(f"expected fields that vary, got a constant in field {int(np.argmin(self.scale_))}: leave it out")
        distinct = np.unique(rows, axis=0)
        self.region_ = Region.of_ranges(distinct, name="parameters trained on")
        bent = self._bent(distinct)
        self._shift, self._spread = bent.mean(axis=0), np.where(bent.std(axis=0) > 0, bent.std(axis=0), 1.0)

    # ------------------------------------------------------------------ units
    def _bent(self, rows: Array) -> Array:
        if self.parameters is None or self.parameters.scale != "log":
            return rows
        if (rows <= 0).any():
            raise InvalidData(f"expected parameters above 0 for scale='log', got {rows.min():g}: use scale='standard'")
        return np.log(rows)

    def _scaled(self, rows: Array) -> Array:
        if self.parameters is not None and self.parameters.scale == "none":
            return rows
        return (self._bent(rows) - self._shift) / self._spread

    def _per_field(self, values: Array) -> Array:
        return values.reshape(-1, *(1,) * len(self.grid_))

    def _standard(self, fields: Array) -> Array:
        return (fields - self._per_field(self.mean_)) / self._per_field(self.scale_)

    def _tensor(self, values: Array) -> Any:
        torch = need("torch", "a neural solver", "nets")
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

    def _residual(self, now: Any, later: Any, p: Any) -> Any:
        mean, scale = (self._tensor(self._per_field(one)).to(now.device) for one in (self.mean_, self.scale_))
        assert self.residual is not None
        return self.residual(now * scale + mean, later * scale + mean, p)

    # ------------------------------------------------------------------ stepping
    def step(self, z: ArrayLike, p: ArrayLike | None = None) -> Array:
        """Fields one step later, of the same shape as `z`.

        Parameters
        ----------
        z : array-like of shape (history * C, *grid) or (n, history * C, *grid)
            The last frames, the oldest first.
        p : array-like of shape (k,) or (n, k), default=None
            Not to be left out.
        """
        states, rows = self._given(z, p)
        channels = len(self.mean_)
        after = np.concatenate([states[:, channels:], self._rolled(states, rows[None], 1)[0]], axis=1)
        return after if np.ndim(z) > 1 + len(self.grid_) else after[0]

    def rollout(self, z0: ArrayLike, n_steps: int, p: ArrayLike | None = None) -> Array:
        """Fields after 1, 2, ... steps, shape (n_steps, C, *grid), or (n_steps, n, C, *grid) for n states.

        Parameters
        ----------
        z0 : array-like of shape (history * C, *grid) or (n, history * C, *grid)
            The last frames, the oldest first.
        n_steps : int
        p : array-like of shape (k,) or (n, k), or (n_steps, k) for one state, default=None
            Not to be left out. Parameters that stay the same, one row for each state; or for one state a row for each step.
        """
        require_whole(1, n_steps=n_steps)
        single = np.ndim(z0) == 1 + len(getattr(self, "grid_", ()))
        if single and p is not None and np.ndim(p) == 2:
            if len(np.asarray(p)) != n_steps:
                raise InvalidData(f"expected a row of p for each of {n_steps} steps, got {len(np.asarray(p))}")
            states, rows = self._given(np.repeat(np.asarray(z0)[None], n_steps, axis=0), p)
            return self._rolled(states[:1], rows[:, None], n_steps)[:, 0]
        states, rows = self._given(z0, p)
        said = self._rolled(states, rows[None], n_steps)
        return said[:, 0] if single else said

    def _given(self, z: ArrayLike, p: ArrayLike | None) -> tuple[Array, Array]:
        """States (n, history * C, *grid) and parameters (n, k), checked."""
        check_is_fitted(self, "network_")
        states, k = np.asarray(z, dtype=float), len(self.region_.domain)
        states = states[None] if states.ndim == 1 + len(self.grid_) else states
        if states.shape[1:] != (self.history * len(self.mean_), *self._grid_of(states)):
            wanted = (self.history * len(self.mean_), *self.grid_)
            raise InvalidData(f"expected states of shape {wanted}, or (n, *{wanted}), got {np.shape(z)}")
        rows = np.empty((0, 0)) if p is None else np.atleast_2d(np.asarray(p, dtype=float))
        if rows.shape not in ((1, k), (len(states), k)) or not np.isfinite(rows).all():
            raise InvalidData(f"expected {k} finite parameters, or a row of them for each state, got shape {rows.shape}")
        outside = ~self.region_.in_range(rows)
        if outside.any():
            why = "; ".join(self.region_.reasons(rows[outside][:1])[0])
            warnings.warn(f"parameters outside those trained on: {why}", OutsideRegion, stacklevel=3)
        return states, np.broadcast_to(rows, (len(states), k))

    def _grid_of(self, states: Array) -> tuple[int, ...]:
        """The grid that states may have: any that 4 divides, unless something ties the network to the one trained on."""
        tied = not isinstance(self.base, str) or (isinstance(self.parameters, CAPE) and self.parameters.norm == "layer")
        grid = states.shape[2:]
        fits = len(grid) == len(self.grid_) and all(side % _COARSE == 0 and side > 0 for side in grid)
        return grid if fits and not tied else self.grid_

    def _rolled(self, states: Array, rows: Array, n_steps: int) -> Array:
        """From states (n, ...) and parameters (1 or n_steps, n, k) to (n_steps, n, C, *grid)."""
        torch = need("torch", "a neural solver", "nets")
        scaled, channels = self._scaled(rows), len(self.mean_)
        standard = self._standard(states.reshape(len(states), self.history, channels, *states.shape[2:]))
        out = np.empty((n_steps, len(states), channels, *states.shape[2:]))
        network = self.network_.to(self.device).eval()
        for first in range(0, len(states), _ROWS):
            block = slice(first, first + _ROWS)
            z = self._tensor(standard[block]).flatten(1, 2).to(self.device)
            p = self._tensor(scaled[:, block]).to(self.device)
            with torch.no_grad():
                for t in range(n_steps):
                    field = network(z, p[min(t, len(p) - 1)]).field
                    z = torch.cat([z[:, channels:], field], dim=1)
                    out[t, block] = field.cpu().numpy()
        return out * self._per_field(self.scale_) + self._per_field(self.mean_)

    def to_module(self) -> tuple[Any, dict[str, Any]]:
        """See `Exports`: from "fields" (n, history * C, *grid), of the grid trained on, and "parameters" (n, k)."""
        check_is_fitted(self, "network_")
        from locum.emulate._exported_modules import FieldStep, some_rows

        log = self.parameters is not None and self.parameters.scale == "log"
        whole = self.parameters is not None and self.parameters.scale == "none"
        units = (np.zeros_like(self._shift), np.ones_like(self._spread)) if whole else (self._shift, self._spread)
        mean, scale = self._per_field(self.mean_), self._per_field(self.scale_)
        numbers = {"mean": mean, "scale": scale, "shift": units[0], "spread": units[1]}
        module = FieldStep(self.network_, log=log, history=self.history, **numbers)
        rows = {"fields": some_rows(self.history * len(self.mean_), *self.grid_)}
        return module, rows | {"parameters": some_rows(len(self.region_.domain))}

    # ------------------------------------------------------------------ reading
    def first_guess(self, u: ArrayLike, p: ArrayLike) -> FirstGuess:
        """What the parameters make of fields, before the operator sees it, and how they weigh the branches.

        Parameters
        ----------
        u : array-like of shape (history * C, *grid) or (n, history * C, *grid)
        p : array-like of shape (k,) or (n, k)
        """
        torch = need("torch", "a neural solver", "nets")
        if not isinstance(self.parameters, CAPE):
            raise InvalidData(f"expected a solver with parameters=CAPE(...) to read a first guess of, got {self.parameters!r}")
        states, rows = self._given(u, p)
        standard = self._standard(states.reshape(len(states), self.history, len(self.mean_), *states.shape[2:]))
        network: Any = self.network_.to(self.device).eval()
        with torch.no_grad():
            q = self._tensor(self._scaled(rows)).to(self.device)
            guess = network.guiding(self._tensor(standard).flatten(1, 2).to(self.device), q).cpu().numpy()
            weights = network.guiding.attention(q).cpu().numpy()
        fields = guess.astype(float) * self._per_field(self.scale_) + self._per_field(self.mean_)
        return FirstGuess(fields, {name: weights[:, i] for i, name in enumerate(("spectral", "pointwise", "depthwise"))})

    def fidelity(self, U_test: ArrayLike, P_test: ArrayLike) -> RolloutErrors:
        """How far roll-outs are off at each value of the parameters: print it, or ask it for a `trust_region`.

        Parameters
        ----------
        U_test : array-like of shape (n, T, C, *grid)
            Not fitted on, two runs or more at each value.
        P_test : array-like of shape (n, k)
        """
        return rollout_errors(self, U_test, P_test, history=self.history)

    # ------------------------------------------------------------------ keeping
    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Settings and units, and the weights by name.

        Raises
        ------
        InvalidData
            A base, or a residual, of your own: a file holds no code.
        """
        check_is_fitted(self, "network_")
        if not isinstance(self.base, str) or self.residual is not None:
            raise InvalidData("expected base= by name and no residual=, since a file holds no code: keep network_.state_dict()")
        settings = self.get_params(deep=False) | {"device": "cpu"}
        del settings["residual"]
        record: dict[str, Any] = {"settings": settings, "grid": list(self.grid_), "region": self.region_.to_dict()}
        for name in ("parameters", "curriculum"):
            given = settings[name]
            settings[name] = None if given is None else [type(given).__name__, asdict(given)]
        units = {"mean_": self.mean_, "scale_": self.scale_, "_shift": self._shift, "_spread": self._spread}
        weights = {f"network/{name}": one.cpu().numpy() for name, one in self.network_.state_dict().items()}
        return record, units | weights

    @classmethod
    def from_state(cls, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted solver that `to_state` described."""
        torch = need("torch", "a neural solver", "nets")
        settings, kinds = dict(record["settings"]), {"CAPE": CAPE, "Conditional": Conditional, "Curriculum": Curriculum}
        for name in ("parameters", "curriculum"):
            if settings[name] is not None:
                kind, given = settings[name]
                settings[name] = kinds[kind](**given)
        solver = cls(**settings)
        solver._check_settings()
        for name in ("mean_", "scale_", "_shift", "_spread"):
            setattr(solver, name, arrays[name])
        solver.grid_, solver.region_ = tuple(record["grid"]), Region.from_dict(record["region"])
        weights = {name.removeprefix("network/"): one for name, one in arrays.items() if name.startswith("network/")}
        solver._built().load_state_dict({name: torch.from_numpy(np.array(one)) for name, one in weights.items()})
        return solver

    def save(self, path: Any) -> None:
        """Write to one file of arrays and JSON (npz), whole or not at all."""
        write_packed(path, self, _FORMAT, *self.to_state())

    @classmethod
    def load(cls, path: Any) -> Self:
        """The solver that `save` wrote; nothing in the file is run.

        Raises
        ------
        FormatError
            Another kind of file, or of a newer format.
        """
        record, arrays = read_packed(path, _FORMAT, "saved solver")
        try:
            return cls.from_state(record, arrays)
        except (KeyError, TypeError, RuntimeError, InvalidData) as error:
            raise FormatError(f"{path} holds no solver that can be built ({error})") from error

    # ------------------------------------------------------------------ what may come in
    def _check_runs(self, runs: Array, rows: Array) -> None:
        frames = self.history + 2 if self.window is None else max(self.history + 2, self.window)
        if runs.shape[1] < frames:
            raise InvalidData(f"expected runs of {frames} frames or more for history={self.history}, got {runs.shape[1]}")
        if any(side % _COARSE for side in runs.shape[3:]):
            raise InvalidData(f"expected a grid whose sides {_COARSE} divides, got {runs.shape[3:]}: interpolate to one")
        if rows.shape[1] == 0:
            raise InvalidData("expected a parameter or more for each run, got none")
        self._bent(rows)

    def _check_settings(self) -> None:
        if isinstance(self.base, str):
            require_one_of(_BASES, base=self.base)
        if not (self.parameters is None or isinstance(self.parameters, CAPE | Conditional)):
            raise InvalidData(f"expected parameters= to be a CAPE, a Conditional or None, got {self.parameters!r}")
        if not (self.curriculum is None or isinstance(self.curriculum, Curriculum)):
            raise InvalidData(f"expected curriculum= to be a Curriculum or None, got {self.curriculum!r}")
        require_one_of(_LOSSES, loss=self.loss)
        require_whole(1, width=self.width, history=self.history, epochs=self.epochs, batch_size=self.batch_size)
        require_whole(0, warmup_epochs=self.warmup_epochs, random_state=self.random_state)
        require_positive(lr=self.lr, **({} if self.clip is None else {"clip": self.clip}))
        if self.window is not None:
            require_whole(self.history + 2, window=self.window)
        for name in ("floor", "aux_weight", "residual_weight", "noise", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InvalidData(f"expected {name}= of 0 or more, got {getattr(self, name)!r}")
        if isinstance(self.parameters, CAPE) and self.warmup_epochs > self.epochs:
            raise InvalidData(f"expected warmup_epochs= of at most epochs={self.epochs}, got {self.warmup_epochs}")
