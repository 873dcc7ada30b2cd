"""A piecewise-linear recurrent network stands in for an observed system, chaotic ones included; its orbits can be computed.

Trained by generalized teacher forcing: after each step the state is drawn towards the observed one, just so much that gradients
stay bounded over any length.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import FormatError, InvalidData, need, require_one_of, require_whole
from locum.core.export import write_atomically
from locum.core.region import Region
from locum.core.surrogate import Saves
from locum.emulate._checks import inputs_of, is_number, require_rates
from locum.emulate._gtf_cells import CELLS, OBSERVATIONS, Parameters
from locum.emulate._gtf_engine import ESTIMATORS, Flat, Problem
from locum.emulate._gtf_onnx import step_graph
from locum.emulate._gtf_regions import Cycle, cycles
from locum.emulate._packed import read_packed, write_packed
from locum.emulate.dynamics import DynamicsReport, judge_dynamics
from locum.emulate.stepper import Differentiates, FreeRuns
from locum.emulate.trajectories import Schema, Trajectories

__all__ = ["Cycle", "DynamicsReconstructor"]

Array = NDArray[np.floating[Any]]

_FORMAT = 3
_FORCINGS = ("adaptive", "constant", "sparse", "full", "free")
_RUN_IN = 1000  # steps from an observed state to the model's own attractor


class DynamicsReconstructor(Differentiates, FreeRuns, Saves, BaseEstimator):
    r"""A small piecewise-linear recurrent network stands in for a system known by one observed series.

    In each window the network starts at the observed state and predicts step by step; after each step its state is drawn to the
    observed one by a share α. Gradients through T steps are then at most of size :math:`((1-α) \tilde σ)^T`, where
    :math:`\tilde σ` is the size of the Jacobians, so that α = 1 - 1/σ̃ bounds them however chaotic the system is.

    .. math:: \hat z_t = F(z_{t-1}), \quad z_t = (1-α) \hat z_t + α \bar z_t, \quad \min E \lVert O(\hat z_t) - x_t \rVert^2,
       \qquad F(z) = A z + W_1 [\mathrm{relu}(W_2 z + h_2) - \mathrm{relu}(W_2 z)] + h_1

    Parameters
    ----------
    cell : str, default="clipped-shplrnn"
        F: the one above; "shplrnn", without the second rectifier; "plrnn", "mean-centred-plrnn" and "dendritic-plrnn", which
        rectify the latent states themselves.
    latent_dim : int, default=3
        M.
    hidden_dim : int, default=50
        Hidden units; bases of the dendritic cell.
    observation : {"identity", "affine"}, default="identity"
        O: the first N latent states, or B z.
    observation_bias : bool, default=False
        B z + b.
    forcing : {"adaptive", "constant", "sparse", "full", "free"}, default="adaptive"
        α from the Jacobians; as given; 1 every `forcing_interval` steps; always 1; always 0.
    alpha : float, default=1.0
        α at the start of adaptive forcing, and of constant forcing throughout.
    alpha_estimator : str, default="product_upper_bound"
        Of σ̃ on the observed states of a batch: largest geometric mean over time of the norms; "batch_maximum";
        "jacobian_upper_bound", from the weights alone; "explog_approx" and "arithmetic_mean", norms of a mean Jacobian.
    alpha_decay : float, default=0.999
        α jumps up to an estimate and relaxes down by this factor.
    alpha_every : int, default=5
        Batches between two estimates.
    forcing_interval : int, default=16
        Of sparse forcing.
    partial_forcing : bool, default=False
        Force the N observed latent states only (identity).
    sequence_length : int, default=200
        T, steps of a window.
    batch_size : int, default=16
        Windows.
    max_updates : int, default=10_000
        Batches in all, rounded up to whole epochs.
    updates_per_epoch : int, default=50
    lr : tuple of float, default=(0.001, 1e-06)
        Learning rate at the start and the end; falls geometrically.
    latent_penalty : float, default=1e-05
        On squares of weights, and of A - 1.
    observation_penalty : float, default=0.0
        On the condition number of B, or on how hidden latent states begin.
    input_noise : float, default=0.0
        Standard deviation of noise added to (standardised) windows.
    clip : float or None, default=None
        Largest norm of a gradient.
    standardize : bool, default=True
        Columns.
    random_state : int, default=0

    Attributes
    ----------
    parameters_ : dict of ndarray
        Of the network, in standardised units.
    mean_, scale_ : ndarray of shape (N,)
    schema_ : Schema
        Columns, units and the time between rows, which trajectories that come later must have.
    region_ : Region
        Of the rows learned from; free runs that leave it warn.
    dt_ : float
    alpha_history_, grad_norm_history_ : ndarray of shape (epochs,)
        α after each epoch, and the largest norm of a gradient within it.
    loss_history_ : ndarray of shape (epochs,)
        Empty where training failed.
    n_features_in_ : int

    Raises
    ------
    InvalidData
        NaN, too short runs, fewer latent states than observed values with the identity, settings that cannot be used.

    Warns
    -----
    OutsideRegion
        A free run that comes to states far from all that were learned from, or inputs beyond them.
    ConvergenceWarning
        The loss stopped being a number; the parameters are the last that were finite.

    Notes
    -----
    Cost: 1 ms an update for T = 100, M = 3 and 50 hidden units on one core, plus 2 ms for each estimate of σ̃, and some seconds
    to compile at the first fit on a machine.

    **Departures**: the reverse pass is written by hand; `fidelity` forecasts from states along a run rather than from each.

    References
    ----------
    Hess, Monfared, Brenner and Durstewitz, *Generalized Teacher Forcing for Learning Chaotic Dynamics*, ICML 2023, arXiv
    2306.04406. The search for cycles follows Eisenmann et al., arXiv 2304.12865.

    Examples
    --------
    >>> t = np.arange(0, 40, 0.1)
    >>> circle = np.stack([np.sin(t), np.cos(t)], axis=1)
    >>> model = DynamicsReconstructor(latent_dim=2, hidden_dim=10, sequence_length=20, max_updates=500, lr=(0.01, 0.001))
    >>> bool(np.abs(model.fit(circle).predict(circle[:100], horizon=10)[:, -1] - circle[10:110]).max() < 0.2)
    True
    """

    papers = ("gtf",)

    def __init__(
        self,
        *,
        cell: str = "clipped-shplrnn",
        latent_dim: int = 3,
        hidden_dim: int = 50,
        observation: str = "identity",
        observation_bias: bool = False,
        forcing: str = "adaptive",
        alpha: float = 1.0,
        alpha_estimator: str = "product_upper_bound",
        alpha_decay: float = 0.999,
        alpha_every: int = 5,
        forcing_interval: int = 16,
        partial_forcing: bool = False,
        sequence_length: int = 200,
        batch_size: int = 16,
        max_updates: int = 10_000,
        updates_per_epoch: int = 50,
        lr: tuple[float, float] = (1e-3, 1e-6),
        latent_penalty: float = 1e-5,
        observation_penalty: float = 0.0,
        input_noise: float = 0.0,
        clip: float | None = None,
        standardize: bool = True,
        random_state: int = 0,
    ) -> None:
        self.cell = cell
        self.latent_dim = latent_dim
        self.hidden_dim = hidden_dim
        self.observation = observation
        self.observation_bias = observation_bias
        self.forcing = forcing
        self.alpha = alpha
        self.alpha_estimator = alpha_estimator
        self.alpha_decay = alpha_decay
        self.alpha_every = alpha_every
        self.forcing_interval = forcing_interval
        self.partial_forcing = partial_forcing
        self.sequence_length = sequence_length
        self.batch_size = batch_size
        self.max_updates = max_updates
        self.updates_per_epoch = updates_per_epoch
        self.lr = lr
        self.latent_penalty = latent_penalty
        self.observation_penalty = observation_penalty
        self.input_noise = input_noise
        self.clip = clip
        self.standardize = standardize
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(
        self,
        X: Any,
        inputs: Sequence[ArrayLike] | ArrayLike | None = None,
        *,
        checkpoint: Any = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Learn from one run or more; windows never cross from one into another.

        Parameters
        ----------
        X : Trajectories, array of shape (T, N), or list of such arrays
        inputs : array-like of shape (T, K), or one a run, default=None
            External inputs; the row of a step's end enters it.
        checkpoint : path or None, default=None
            A file written after each epoch, from which an interrupted training goes on.
        progress : callable or None, default=None
            Called with (epochs done, epochs in all, the losses in words).
        """
        self._check_settings()
        runs = Trajectories.of(X)
        driven = inputs_of(runs, inputs, "inputs", "K", np.float32)
        flat = self._flat(runs.dimension, 0 if driven is None else driven.shape[1])
        if max(runs.lengths) < self.sequence_length + 2:
            raise InvalidData(
                f"expected a run of {self.sequence_length + 2} rows or more for sequence_length={self.sequence_length}, "
                f"got at most {max(runs.lengths)}: use a smaller one"
            )
        self._take_units(runs)
        self._take_region(runs.stacked(), driven, runs.names)
        need("torch", "training a piecewise-linear network", "emulate")
        need("numba", "training a piecewise-linear network", "emulate")
        from locum.emulate import _gtf_training as training

        windows = training.Windows(
            ((runs.stacked() - self.mean_) / self.scale_).astype(np.float32), driven,
            runs.window_starts(self.sequence_length + 1), self.sequence_length, self.input_noise,
        )  # fmt: skip
        forcing = training.Forcing(
            self.forcing, self.alpha, self.forcing_interval, self.alpha_estimator, self.alpha_decay, self.alpha_every
        )
        found = training.fitted(
            Problem(flat, self.partial_forcing, self.latent_penalty, self.observation_penalty), windows, forcing,
            flat.initial(np.random.default_rng([self.random_state, 44])),
            epochs=-(-self.max_updates // self.updates_per_epoch), updates=self.updates_per_epoch,
            batch_size=self.batch_size, lr=self.lr, clip=self.clip, checkpoint=checkpoint,
            random_state=self.random_state, progress=progress,
        )  # fmt: skip
        self._set(flat, found.vector)
        self.alpha_history_, self.grad_norm_history_ = found.alphas, found.grad_norms
        self.loss_history_ = np.asarray([] if found.history is None else found.history.losses)
        self._seen: Trajectories | None = runs
        if found.failed:
            warnings.warn(
                f"{found.failed}; the model has the last parameters that were finite, after {len(found.alphas)} epochs",
                ConvergenceWarning, stacklevel=2,
            )  # fmt: skip
        return self

    def _take_units(self, runs: Trajectories) -> None:
        rows = runs.stacked()
        constant = np.flatnonzero(np.ptp(rows, axis=0) == 0)
        if constant.size:
            raise InvalidData(f"expected columns that vary, got a constant in column {constant[0]}: leave it out")
        n = rows.shape[1]
        self.mean_ = rows.mean(axis=0) if self.standardize else np.zeros(n)
        self.scale_ = rows.std(axis=0) if self.standardize else np.ones(n)
        self.schema_, self.dt_, self.n_features_in_ = runs.schema, runs.dt, n
        self._last = rows[-1]

    def _flat(self, observed: int, inputs: int) -> Flat:
        if self.observation == "identity" and self.latent_dim < observed:
            raise InvalidData(
                f"expected latent_dim= of {observed} or more, the number of observed columns, got {self.latent_dim}: "
                "use observation='affine' for fewer"
            )
        cell = CELLS[self.cell](self.latent_dim, self.hidden_dim, inputs)
        return Flat(cell, OBSERVATIONS[self.observation](observed, self.latent_dim, self.observation_bias))

    def _set(self, flat: Flat, vector: Array) -> None:
        self._cell, self._observed_by = flat.cell, flat.observation
        self._vector = vector
        self.parameters_: Parameters = flat.named(vector)

    # ------------------------------------------------------------------ stepping
    def step(self, z: ArrayLike, p: ArrayLike | None = None) -> Array:
        """Latent states one step later, (m,) or (n, m); `p` are external inputs of the step, (k,) or (n, k)."""
        check_is_fitted(self, "parameters_")
        return self._cell.step(self.parameters_, self._states(z), self._driven(p))

    def jacobian(self, z: ArrayLike, p: ArrayLike | None = None) -> Array:
        """Derivative of `step`, shape (m, m) or (n, m, m); inputs do not change it."""
        check_is_fitted(self, "parameters_")
        return self._cell.jacobian(self.parameters_, self._states(z))

    def encode(self, X: ArrayLike) -> Array:
        """Latent states of observations, (n, N) to (n, m) or (N,) to (m,)."""
        check_is_fitted(self, "parameters_")
        x = np.asarray(X, dtype=float)
        if x.ndim not in (1, 2) or x.shape[-1] != self.n_features_in_ or not np.isfinite(x).all():
            raise InvalidData(f"expected finite observations of {self.n_features_in_} columns, got shape {x.shape}")
        return self._observed_by.encode(self.parameters_, (x - self.mean_) / self.scale_)

    def decode(self, z: ArrayLike) -> Array:
        """Observations of latent states, in the units of the data."""
        check_is_fitted(self, "parameters_")
        return self._observed_by.decode(self.parameters_, np.asarray(z, dtype=float)) * self.scale_ + self.mean_

    # ------------------------------------------------------------------ reading
    def lyapunov_spectrum(self, n_steps: int = 50_000, x0: ArrayLike | None = None) -> Array:
        """Lyapunov exponents per unit of time on the model's own attractor, largest first, shape (m,).

        Parameters
        ----------
        n_steps : int, default=50_000
        x0 : array-like of shape (N,) or None, default=None
            Where to begin; the last state that was fitted on where None.
        """
        check_is_fitted(self, "parameters_")
        begin = self.encode(self._last if x0 is None else x0)
        return self.spectrum(begin, n_steps, time_step=self.dt_, transient=_RUN_IN)

    def fixed_points(self, *, n_starts: int = 200, iterations: int = 50) -> tuple[Cycle, ...]:
        """States that stay where they are, found exactly within linear regions, from many starts; the most stable first.

        Parameters
        ----------
        n_starts : int, default=200
            States along the model's own trajectory, and around it.
        iterations : int, default=50
            Of each search.
        """
        return self.cycles(1, n_starts=n_starts, iterations=iterations)

    def cycles(self, length: int, *, n_starts: int = 200, iterations: int = 50) -> tuple[Cycle, ...]:
        """Orbits that come back after exactly `length` steps; the parameters are otherwise those of `fixed_points`."""
        require_whole(1, length=length, n_starts=n_starts, iterations=iterations)
        check_is_fitted(self, "parameters_")
        path = self.rollout(self.encode(self._last), 10 * n_starts)
        path = path[np.isfinite(path).all(axis=1)]
        rng = np.random.default_rng([self.random_state, 1])
        around = rng.normal(scale=2.0, size=(n_starts, self.latent_dim))
        starts = np.concatenate([path[:: max(len(path) // n_starts, 1)], around])
        with np.errstate(over="ignore", invalid="ignore"):
            return cycles(self._cell, self.parameters_, starts, length, iterations)

    def fidelity(
        self, X_test: Any, *, reference: Any = None, horizon: int = 20, exponent: float | None = None, origins: int = 50
    ) -> DynamicsReport:
        """How faithful free runs are, beside the floor: what truth scores against another stretch of truth.

        Parameters
        ----------
        X_test : Trajectories, array of shape (T, N), or list of such arrays
            Not fitted on. Intervals are over runs, so one run has none.
        reference : the same, default=None
            Truth for the floor; the runs fitted on where None.
        horizon : int, default=20
            Steps of PE.
        exponent : float or None, default=None
            Largest Lyapunov exponent of the system, to tell the valid prediction time.
        origins : int, default=50
            Forecasts a run.
        """
        check_is_fitted(self, "parameters_")
        known = self._seen if reference is None else reference
        return judge_dynamics(
            self, self.schema_.taken(X_test), reference=known, horizon=horizon, exponent=exponent, origins=origins, history=1,
            random_state=self.random_state,
        )  # fmt: skip

    # ------------------------------------------------------------------ keeping
    def to_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Settings and sizes, and arrays by name; the runs fitted on are not among them."""
        check_is_fitted(self, "parameters_")
        record = {"settings": self.get_params(deep=False), "schema": asdict(self.schema_), "inputs": self._cell.inputs}
        record["region"] = self.region_.to_dict()
        names = ("mean_", "scale_", "alpha_history_", "grad_norm_history_", "loss_history_")
        return record, {name: getattr(self, name) for name in names} | {"vector": self._vector, "last": self._last}

    @classmethod
    def from_state(cls, record: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """The fitted model that `to_state` described."""
        settings = {**record["settings"], "lr": tuple(record["settings"]["lr"])}
        model = cls(**settings)
        model._check_settings()
        for name in ("mean_", "scale_", "alpha_history_", "grad_norm_history_", "loss_history_"):
            setattr(model, name, arrays[name])
        model.schema_, model.region_ = Schema.from_record(record["schema"]), Region.from_dict(record["region"])
        model.dt_, model.n_features_in_ = model.schema_.dt, model.schema_.dimension
        model._last, model._seen = arrays["last"], None
        flat = model._flat(model.n_features_in_, int(record["inputs"]))
        if arrays["vector"].shape != (flat.size,):
            raise FormatError(f"expected {flat.size} parameters in the file, got shape {arrays['vector'].shape}")
        model._set(flat, arrays["vector"])
        return model

    def save(self, path: Any) -> None:
        """Write to one file of arrays and JSON (npz), whole or not at all."""
        write_packed(path, self, _FORMAT, *self.to_state())

    @classmethod
    def load(cls, path: Any) -> Self:
        """The model that `save` wrote; nothing in the file is run.

        Raises
        ------
        FormatError
            Another kind of file, or of a newer format.
        """
        return cls.from_state(*read_packed(path, _FORMAT, "saved model of dynamics"))

    def to_onnx(self) -> bytes:
        """One step as an ONNX graph: from "state" (n, m), and "inputs" (n, K), to "next" (n, m) and "observed" (n, N).

        Latent states of observations are `encode`'s; what is observed is in the units of the data.
        """
        check_is_fitted(self, "parameters_")
        offset = self.decode(np.zeros(self.latent_dim))
        return step_graph(self._cell, self.parameters_, self.decode(np.eye(self.latent_dim)) - offset, offset)

    def export(self, path: Any) -> None:
        """Write what `to_onnx` gives, whole or not at all.

        Parameters
        ----------
        path : path
            Ends with .onnx.

        Raises
        ------
        InvalidData
            Another ending.
        """
        if Path(path).suffix != ".onnx":
            raise InvalidData(f"expected a file that ends with .onnx for a DynamicsReconstructor, got {Path(path).name}")
        write_atomically(path, self.to_onnx())

    # ------------------------------------------------------------------ what may come in
    def _states(self, z: ArrayLike) -> Array:
        found = np.asarray(z, dtype=float)
        if found.shape[-1:] != (self.latent_dim,):
            raise InvalidData(f"expected latent states of {self.latent_dim} values, got shape {found.shape}")
        return found

    def _driven(self, p: ArrayLike | None) -> Array | None:
        wanted = self._cell.inputs
        given = None if p is None else np.asarray(p, dtype=float)
        if (0 if given is None else given.shape[-1]) != wanted:
            came = "none" if given is None else f"shape {given.shape}"
            raise InvalidData(f"expected {wanted} external inputs a step, as in fit, got {came}")
        return given

    def _check_settings(self) -> None:
        require_one_of(CELLS, cell=self.cell)
        require_one_of(OBSERVATIONS, observation=self.observation)
        require_one_of(_FORCINGS, forcing=self.forcing)
        require_one_of(ESTIMATORS, alpha_estimator=self.alpha_estimator)
        whole = ("latent_dim", "hidden_dim", "alpha_every", "forcing_interval", "sequence_length", "batch_size")
        require_whole(1, **{name: getattr(self, name) for name in (*whole, "max_updates", "updates_per_epoch")})
        require_whole(0, random_state=self.random_state)
        for name in ("alpha", "alpha_decay"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value <= 1:
                raise InvalidData(f"expected {name}= between 0 and 1, got {value!r}")
        for name in ("latent_penalty", "observation_penalty", "input_noise"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < np.inf:
                raise InvalidData(f"expected {name}= of 0 or more, got {value!r}")
        require_rates(self.lr)
        if self.partial_forcing and self.observation != "identity":
            raise InvalidData("expected observation='identity' with partial_forcing=: no latent state is observed otherwise")
