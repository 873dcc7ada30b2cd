"""A linear map between learned latent states stands in for dynamics; information over time decides what the states hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import FormatError, InvalidData, need, require_one_of, require_whole
from locum.core.fidelity import Fidelity
from locum.core.region import Region
from locum.emulate._checks import inputs_of, is_number, require_rates
from locum.emulate._koopman_errors import errors_by_horizon
from locum.emulate._koopman_linear import Modes, regulator_gain, shortened
from locum.emulate._packed import read_packed, write_packed
from locum.emulate.dynamics import DynamicsReport, judge_dynamics
from locum.emulate.exported import Exports
from locum.emulate.rivals import LaggedMap, Persistence
from locum.emulate.stepper import Forecasts, FreeRuns
from locum.emulate.trajectories import Schema, Trajectories

__all__ = ["KoopmanEmulator", "KoopmanWarning", "Modes"]

Array = NDArray[np.floating[Any]]

_FORMAT = 3
_FIRST_ROWS = 512  # that the encoder is scaled on before it is trained
_FORMS = ("ae", "vae")
_INFORMATION = ("infonce", "infonce-mean", "gaussian")
_OPERATORS = ("ridge", "learned")
_GROWS, _COLLAPSED = 1.01, 1.5
_UPDATES_PER_EPOCH = 50
_ARRAYS = ("mean_", "scale_", "loss_history_", "operator_", "input_operator_", "_last", "_map")


class KoopmanWarning(UserWarning):
    """A linear map whose free runs grow, or latent states that have collapsed."""


class KoopmanEmulator(FreeRuns, Exports, BaseEstimator):
    r"""Dynamics that are linear between learned latent states: forecasts are powers of a matrix, its eigenvalues are modes.

    Beside giving states back and stepping right, latent states are to tell of one another over time (mutual information
    :math:`\hat I`), which keeps what can be foretold, and to fill their space (entropy S), without which information alone
    lets modes drop out.

    .. math:: L = L_{rec} + L_{pred} + β L_{step} + L_{rollout} - α \hat I - γ S(C / \mathrm{tr}\, C)

    Parameters
    ----------
    latent_dim : int, default=32
        m, of a node where there is a graph.
    encoder : {"mlp", "conv"} or torch.nn.Module, default="mlp"
        "conv" for fields of `shape`. A module takes rows (n, d) to (n, m), or to (n, 2 m) in the variational form, and needs
        `decoder`.
    decoder : torch.nn.Module or None, default=None
    hidden : sequence of int, default=(128, 128)
        Units of the "mlp".
    shape : tuple of int or None, default=None
        Channels, height and width of a state, which is flat in the data; scaled as a whole rather than by column.
    width : float, default=0.25
        Of the channels 16, 32, 64, 128 and 256 of "conv".
    adjacency : array-like of shape (relations, nodes, nodes) or None, default=None
        A graph: a state holds the same columns for each node, one node after the other.
    form : {"ae", "vae"}, default="ae"
        Latent states that are determined, or drawn.
    alpha, beta, gamma : float, default=0.2, 1.0 and 0.01
        Weights of information, of latent steps and of entropy, the last 0 or more.
    neighbours : int, default=3
        k: states up to k steps away count as alike, against others of the window.
    temperature : float, default=0.1
    mutual_information : {"infonce", "infonce-mean", "gaussian"}, default="infonce"
        With cosine similarity and positives pooled (as in the authors' code); with dot products and positives one by one (as in
        the paper); in closed form, as if states were Gaussian.
    operator : {"ridge", "learned"}, default="ridge"
        Solved for in every batch, with gradients, and from all steps at the end; or a parameter.
    ridge : float, default=0.001
        Relative to the number of rows.
    reconstruction : float, default=1.0
    rollout_steps : int, default=0
        Of a free run in the loss.
    noise : float, default=0.1
        Variance of what is observed, for drawn states.
    window : int, default=16
        Rows; more than twice the `neighbours`, and more than `rollout_steps`.
    largest_modulus : float or None, default=None
        Eigenvalues larger than it are shortened after training, so that free runs stay bounded.
    batch_size : int, default=32
    max_updates : int, default=2000
    lr : tuple of float, default=(0.001, 0.0001)
        At the start and the end.
    clip : float or None, default=1.0
    device : torch.device or str, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    operator_ : ndarray of shape (m, m)
        K, from the left, of flat latent states.
    input_operator_ : ndarray of shape (m, k)
        B; k is 0 where there were no controls.
    effective_dimension_ : float
        Exponential of the entropy of the training latents: how many directions they fill.
    mean_, scale_ : ndarray of shape (d,)
    schema_ : Schema
        Columns, units and the time between rows, which trajectories that come later must have.
    region_ : Region
        Of states, or of latent states where they are fields, and of controls that led there; free runs that leave it warn.
    dt_ : float
    loss_history_ : ndarray of shape (epochs,)
    n_features_in_ : int

    Raises
    ------
    InvalidData
        States that are not finite or of unequal columns, a window too short for `neighbours` or `rollout_steps`, a negative
        `gamma`.

    Warns
    -----
    KoopmanWarning
        Eigenvalues beyond 1.01, with which free runs grow; an effective dimension below 1.5.
    OutsideRegion
        A free run that comes to states far from all that were learned from, or controls beyond them.

    Notes
    -----
    Cost: 15 ms an update for windows of 16 rows, 32 latents and 128 hidden units on one core; a forecast costs a product of a
    matrix and a vector a step.

    **Departures**: latent states begin with variance 1, as entropy knows no scale. Gradients go through the solve for K, which
    is refitted on all steps at the end (published code: detached solves of single windows, averaged). Entropy is subtracted
    from what is minimised, as in the paper, not added, as in its code. Choose weights on a stretch held out.

    References
    ----------
    Cheng, Yuan, Yang, Zhang, Cheng, He and Sun, *Information Shapes Koopman Representation*, ICLR 2026, arXiv 2510.13025.

    Examples
    --------
    >>> t = np.arange(0, 60, 0.1)
    >>> circle = np.stack([np.sin(t), np.cos(t)], axis=1)
    >>> settings = {"latent_dim": 4, "hidden": (16,), "neighbours": 2, "window": 8, "gamma": 0.0, "alpha": 0.0}
    >>> model = KoopmanEmulator(max_updates=300, lr=(1e-2, 1e-3), **settings).fit(Trajectories.of(circle, dt=0.1))
    >>> bool(np.abs(model.forecast(circle[:100], 10) - circle[100:110]).max() < 0.1)
    True
    """

    papers = ("info-koopman",)

    def __init__(
        self,
        latent_dim: int = 32,
        *,
        encoder: Any = "mlp",
        decoder: Any = None,
        hidden: Sequence[int] = (128, 128),
        shape: tuple[int, int, int] | None = None,
        width: float = 0.25,
        adjacency: ArrayLike | None = None,
        form: str = "ae",
        alpha: float = 0.2,
        beta: float = 1.0,
        gamma: float = 0.01,
        neighbours: int = 3,
        temperature: float = 0.1,
        mutual_information: str = "infonce",
        operator: str = "ridge",
        ridge: float = 1e-3,
        reconstruction: float = 1.0,
        rollout_steps: int = 0,
        noise: float = 0.1,
        window: int = 16,
        largest_modulus: float | None = None,
        batch_size: int = 32,
        max_updates: int = 2000,
        lr: tuple[float, float] = (1e-3, 1e-4),
        clip: float | None = 1.0,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.encoder = encoder
        self.decoder = decoder
        self.hidden = hidden
        self.shape = shape
        self.width = width
        self.adjacency = adjacency
        self.form = form
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.neighbours = neighbours
        self.temperature = temperature
        self.mutual_information = mutual_information
        self.operator = operator
        self.ridge = ridge
        self.reconstruction = reconstruction
        self.rollout_steps = rollout_steps
        self.noise = noise
        self.window = window
        self.largest_modulus = largest_modulus
        self.batch_size = batch_size
        self.max_updates = max_updates
        self.lr = lr
        self.clip = clip
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(
        self,
        X: Any,
        controls: Sequence[ArrayLike] | ArrayLike | None = None,
        *,
        checkpoint: Any = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Learn from one run or more; windows never cross from one into another.

        Parameters
        ----------
        X : Trajectories, array of shape (T, d), or list of such arrays
        controls : array-like of shape (T, k), or one a run, default=None
            External inputs; a row acts from that row of X to the next.
        checkpoint : path or None, default=None
            A file written now and then, from which an interrupted training goes on.
        progress : callable or None, default=None
            Called with (epochs done, epochs in all, the losses in words).
        """
        self._check_settings()
        runs = Trajectories.of(X)
        given = inputs_of(runs, controls, "controls", "k")
        driven = np.zeros((sum(runs.lengths), 0)) if given is None else given
        graph = self._graph(runs.dimension)
        self._take_units(runs)
        need("torch", "a Koopman model", "emulate")
        import torch

        from locum.emulate import _koopman_training as training
        from locum.emulate._koopman_networks import begin_at_unit_variance

        rows = torch.as_tensor((runs.stacked() - self.mean_) / self.scale_, dtype=torch.float32)
        inputs = torch.as_tensor(driven, dtype=torch.float32)
        windows, steps = (
            training.Windows(rows, inputs, torch.as_tensor(runs.window_starts(length)), length) for length in (self.window, 2)
        )
        self._model = self._made(graph, runs.dimension, driven.shape[1])
        if isinstance(self.encoder, str):
            begin_at_unit_variance(self._model.coder, self._model.nodes(rows[:: -(-len(rows) // _FIRST_ROWS)].to(self.device)))
        history = training.fitted(
            self._model, windows, self._weights(), updates=self.max_updates, updates_per_epoch=_UPDATES_PER_EPOCH,
            batch_size=self.batch_size, lr=self.lr, clip=self.clip, device=self.device, checkpoint=checkpoint,
            random_state=self.random_state, progress=progress,
        )  # fmt: skip
        self.loss_history_ = np.asarray(history.losses)
        found = self._model.map.detach().cpu().double()
        if self.operator == "ridge":
            found = training.refitted(self._model, steps, self.ridge)
        self._take_map(found)
        self._seen: Trajectories | None = runs
        latent = self.encode(runs.stacked())
        self.effective_dimension_ = _effective_dimension(latent)
        later = np.delete(np.arange(len(latent)), np.cumsum((0, *runs.lengths[:-1])))  # that a step, and controls, led to
        self._take_region(self._placed(latent, runs.stacked())[later], None if given is None else driven[later - 1], runs.names)
        self._warn()
        return self

    def _take_units(self, runs: Trajectories) -> None:
        rows, nodes = runs.stacked(), len(self._graph(runs.dimension)[0])
        # Columns of one kind have one unit: those of all nodes, or all places of a field.
        alike = rows.reshape(-1, 1) if self.shape is not None else rows.reshape(-1, rows.shape[1] // nodes)
        mean, spread = alike.mean(axis=0), alike.std(axis=0)
        times = rows.shape[1] // alike.shape[1]
        self.mean_, self.scale_ = np.tile(mean, times), np.tile(np.where(spread > 0, spread, 1.0), times)
        self.schema_, self.dt_, self.n_features_in_, self._last = runs.schema, runs.dt, rows.shape[1], rows[-1]

    def _take_map(self, found: Any) -> None:
        """Be what a map of a node says, for the whole graph."""
        self._map = found.numpy().astype(float)
        K = self._model.whole(found.to(self._model.adjacency)).cpu().double().numpy()
        self.operator_ = K if self.largest_modulus is None else shortened(K, self.largest_modulus)
        given = self._map[len(self._map) - self._model.inputs :].T
        self.input_operator_ = np.tile(given, (self._model.adjacency.shape[1], 1))

    def _warn(self) -> None:
        largest = float(np.abs(np.linalg.eigvals(self.operator_)).max())
        if largest > _GROWS:
            warnings.warn(
                f"the largest eigenvalue has the modulus {largest:.3f}, so free runs grow; use largest_modulus=1.0, "
                "or rollout_steps= for longer free runs in training", KoopmanWarning, stacklevel=3,
            )  # fmt: skip
        if self.effective_dimension_ < _COLLAPSED:
            warnings.warn(
                f"latent states fill {self.effective_dimension_:.2f} directions of {len(self.operator_)}; use a larger gamma=",
                KoopmanWarning, stacklevel=3,
            )  # fmt: skip

    def _made(self, graph: Array, dimension: int, inputs: int) -> Any:
        import torch

        from locum.emulate import _koopman_networks as networks
        from locum.emulate._koopman_training import Koopman
        from locum.nets import seeded

        gaussian, own = self.form == "vae", dimension // graph.shape[1]
        with seeded(self.random_state):
            if isinstance(self.encoder, str):
                coder = (
                    networks.perceptron(own, self.latent_dim, self.hidden, gaussian=gaussian)
                    if self.encoder == "mlp"
                    else networks.convolutional(self._shape(own), self.latent_dim, self.width, gaussian=gaussian)
                )
            else:
                coder = networks.Coder(self.encoder, self.decoder, self.latent_dim, gaussian=gaussian)
            model = Koopman(coder, torch.as_tensor(graph, dtype=torch.float32), inputs, learned=self.operator == "learned")
        return model.to(self.device)

    def _weights(self) -> Any:
        from locum.emulate._koopman_training import Weights

        return Weights(
            self.alpha, self.beta, self.gamma, self.reconstruction, self.rollout_steps, self.mutual_information,
            self.neighbours, self.temperature, self.ridge, self.noise,
        )  # fmt: skip

    # ------------------------------------------------------------------ stepping
    def step(self, z: ArrayLike, p: ArrayLike | None = None) -> Array:
        """Latent states one step later, (m,) or (n, m); `p` are controls of the step, (k,) or (n, k)."""
        check_is_fitted(self, "operator_")
        found = np.asarray(z, dtype=float)
        if found.shape[-1:] != (len(self.operator_),):
            raise InvalidData(f"expected latent states of {len(self.operator_)} values, got shape {found.shape}")
        wanted, given = self.input_operator_.shape[1], None if p is None else np.asarray(p, dtype=float)
        if (0 if given is None else given.shape[-1]) != wanted:
            came = "none" if given is None else f"shape {given.shape}"
            raise InvalidData(f"expected {wanted} controls a step, as in fit, got {came}")
        out = found @ self.operator_.T
        return np.asarray(out if given is None else out + given @ self.input_operator_.T)

    def encode(self, X: ArrayLike) -> Array:
        """Latent states of observations, (n, d) to (n, m) or (d,) to (m,); the means where they are drawn."""
        from locum.emulate._koopman_training import through

        check_is_fitted(self, "mean_")
        x = np.asarray(X, dtype=float)
        if x.ndim not in (1, 2) or x.shape[-1] != self.n_features_in_ or not np.isfinite(x).all():
            raise InvalidData(f"expected finite observations of {self.n_features_in_} columns, got shape {x.shape}")
        scaled = np.atleast_2d((x - self.mean_) / self.scale_)
        found = through(lambda rows: self._model.encode(rows).flatten(-2), scaled, self.device)
        return np.asarray(found if x.ndim == 2 else found[0])

    def decode(self, z: ArrayLike) -> Array:
        """Observations of latent states, in the units of the data, of any leading shape."""
        from locum.emulate._koopman_training import through

        check_is_fitted(self, "mean_")
        given = np.asarray(z, dtype=float)
        flat = given.reshape(-1, given.shape[-1])
        found = through(lambda rows: self._model.decode(self._model.nodes(rows)), flat, self.device)
        return np.asarray(found.reshape(*given.shape[:-1], -1) * self.scale_ + self.mean_)

    def _placed(self, z: Array, x: Array) -> Array:
        return x if self.shape is None else z

    def to_module(self) -> tuple[Any, dict[str, Any]]:
        """See `Exports`: from "observations" (n, d), and "controls" (n, k) where there are some, to the next observations."""
        check_is_fitted(self, "operator_")
        from locum.emulate._exported_modules import KoopmanStep, some_rows

        numbers = {"mean": self.mean_, "scale": self.scale_, "operator": self.operator_, "controls": self.input_operator_}
        module = KoopmanStep(self._model, **numbers)
        inputs, k = {"observations": some_rows(self.n_features_in_)}, self.input_operator_.shape[1]
        return module, inputs | ({"controls": some_rows(k)} if k else {})

    # ------------------------------------------------------------------ reading
    def modes(self) -> Modes:
        """Eigenvalues of the linear map with their periods and decay times."""
        check_is_fitted(self, "operator_")
        return Modes.of(self.operator_, self.dt_)

    def latent_information(self, X: Any = None, lag: int = 1) -> float:
        """Mutual information of latent states and those `lag` steps later, were both Gaussian, in nats.

        Parameters
        ----------
        X : Trajectories, or what `Trajectories.of` takes, default=None
            The runs fitted on where None.
        lag : int, default=1
        """
        import torch

        from locum.emulate._koopman_information import gaussian_information

        require_whole(1, lag=lag)
        runs = self._known(X)
        latent = [self.encode(run) for run in runs.states]
        z, after = np.concatenate([one[:-1] for one in latent]), np.concatenate([one[1:] for one in latent])
        tensors = [torch.as_tensor(one) for one in (z, after, self.operator_)]
        return float(gaussian_information(tensors[0], tensors[1], tensors[2], lag))

    def _known(self, X: Any) -> Trajectories:
        check_is_fitted(self, "operator_")
        if X is None and self._seen is None:
            raise InvalidData("a model that was loaded does not hold the runs it was fitted on: give X")
        return self._seen if X is None else self.schema_.taken(X)  # type: ignore[return-value]

    def regulator(self, state_cost: ArrayLike | None = None, control_cost: ArrayLike | None = None) -> Array:
        """Gain F of the linear-quadratic regulator in the latent space, shape (k, m): ``u = F (z_goal - z)``.

        Parameters
        ----------
        state_cost : array-like of shape (m, m) or None, default=None
            The identity where None.
        control_cost : array-like of shape (k, k) or None, default=None
        """
        check_is_fitted(self, "operator_")
        return regulator_gain(self.operator_, self.input_operator_, state_cost, control_cost)

    # ------------------------------------------------------------------ how faithful
    def errors(
        self, X_test: Any, horizons: Sequence[int] = (5, 20, 50), *, origins: int = 50, level: float = 0.95,
        random_state: int = 0,
    ) -> dict[int, dict[str, Fidelity]]:  # fmt: skip
        """Error of forecasts, in standard deviations of the test states, at some horizons, beside the cheapest rivals.

        Parameters
        ----------
        X_test : Trajectories, or what `Trajectories.of` takes
            Not fitted on.
        horizons : sequence of int, default=(5, 20, 50)
            Steps.
        origins : int, default=50
            Rows a run that are forecast from, evenly spread.
        level : float, default=0.95
            Of intervals over runs, or over origins where there is one run (which are then not independent).
        random_state : int, default=0

        Returns
        -------
        dict of int to dict of str to Fidelity
            By horizon, "Koopman", "persistence" and, unless the model was loaded, "linear map" of what is observed (of as many
            principal components as there are latents, for fields).
        """
        check_is_fitted(self, "operator_")
        runs = self.schema_.taken(X_test)
        models: dict[str, Forecasts] = {"Koopman": self, "persistence": Persistence().fit(runs)}
        if self._seen is not None:
            few = None if self.shape is None else min(len(self.operator_), sum(self._seen.lengths) - 1)
            models["linear map"] = LaggedMap(components=few).fit(self._seen)
        spread = runs.stacked().std(axis=0)
        whole = np.full_like(spread, np.sqrt((spread**2).mean())) if self.shape is not None else spread
        return errors_by_horizon(models, runs, horizons, origins, whole, level, random_state)

    def fidelity(
        self, X_test: Any, *, reference: Any = None, horizon: int = 20, exponent: float | None = None, origins: int = 50
    ) -> DynamicsReport:
        """How faithful free runs are, beside the floor: what truth scores against another stretch of truth.

        Parameters
        ----------
        X_test : Trajectories, or what `Trajectories.of` takes
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
        check_is_fitted(self, "operator_")
        known = self._seen if reference is None else reference
        return judge_dynamics(
            self, self.schema_.taken(X_test), reference=known, horizon=horizon, exponent=exponent, origins=origins, history=1,
            random_state=self.random_state,
        )  # fmt: skip

    # ------------------------------------------------------------------ keeping
    def save(self, path: Any) -> None:
        """Write to one file of arrays and JSON (npz), whole or not at all; models with modules of one's own have no file.

        Parameters
        ----------
        path : path
        """
        check_is_fitted(self, "operator_")
        if not isinstance(self.encoder, str):
            raise InvalidData("a model with modules of one's own is not saved: keep their state_dict(), and fit anew")
        settings = self.get_params(deep=False) | {"device": "cpu", "adjacency": None, "hidden": list(self.hidden)}
        arrays = {name: getattr(self, name) for name in _ARRAYS} | {"adjacency": self._graph(self.n_features_in_)}
        weights = {f"net.{name}": value.cpu().numpy() for name, value in self._model.state_dict().items()}
        told = {"settings": settings, "schema": asdict(self.schema_), "effective_dimension": self.effective_dimension_}
        told["region"] = self.region_.to_dict()
        write_packed(path, self, _FORMAT, told, arrays | weights)

    @classmethod
    def load(cls, path: Any) -> Self:
        """The model that `save` wrote; nothing in the file is run.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            Another kind of file, or of a newer format.
        """
        import torch

        record, arrays = read_packed(path, _FORMAT, "saved model of dynamics")
        settings = record["settings"]
        tuples = {name: tuple(settings[name]) for name in ("lr", "hidden", "shape") if settings[name] is not None}
        graph = arrays.pop("adjacency")
        model = cls(**settings | tuples | {"adjacency": graph if graph.size > 1 else None})
        model._check_settings()
        for name in _ARRAYS:
            setattr(model, name, arrays.pop(name))
        model.schema_, model.effective_dimension_ = Schema.from_record(record["schema"]), float(record["effective_dimension"])
        model.region_ = Region.from_dict(record["region"])
        model.dt_, model.n_features_in_, model._seen = model.schema_.dt, model.schema_.dimension, None
        model._model = model._made(graph, model.n_features_in_, model.input_operator_.shape[1])
        try:
            model._model.load_state_dict({name[4:]: torch.as_tensor(value) for name, value in arrays.items()})
        except RuntimeError as error:
            raise FormatError(f"{path} holds weights of another network ({error})") from error
        return model

    # ------------------------------------------------------------------ what may come in
    def _graph(self, dimension: int) -> Array:
        if self.adjacency is None:
            return np.ones((1, 1, 1))
        found = np.asarray(self.adjacency, dtype=float)
        if found.ndim != 3 or found.shape[1] != found.shape[2] or not np.isfinite(found).all():
            raise InvalidData(f"expected adjacency= of shape (relations, nodes, nodes), finite, got shape {found.shape}")
        if dimension % found.shape[1]:
            raise InvalidData(f"expected as many columns for each of {found.shape[1]} nodes, got {dimension} columns in all")
        return found

    def _shape(self, own: int) -> tuple[int, int, int]:
        shape = self.shape
        if shape is None or len(shape) != 3 or int(np.prod(shape)) != own or shape[1] % 16 or shape[2] % 16:
            raise InvalidData(
                f"expected shape= as (channels, height, width) of {own} columns, the last two divisible by 16, got {shape!r}"
            )
        return shape

    def _check_settings(self) -> None:
        if isinstance(self.encoder, str):
            require_one_of(("mlp", "conv"), encoder=self.encoder)
        elif self.decoder is None:
            raise InvalidData("expected decoder= beside an encoder= of one's own")
        require_one_of(_FORMS, form=self.form)
        require_one_of(_INFORMATION, mutual_information=self.mutual_information)
        require_one_of(_OPERATORS, operator=self.operator)
        whole = ("latent_dim", "neighbours", "batch_size", "max_updates")
        require_whole(1, **{name: getattr(self, name) for name in whole})
        require_whole(0, random_state=self.random_state, rollout_steps=self.rollout_steps)
        require_whole(2, window=self.window)
        for name in ("alpha", "beta", "gamma", "reconstruction", "ridge"):
            value = getattr(self, name)
            if not is_number(value) or not 0 <= value < np.inf:
                told = ", since a negative one shrinks the entropy that it is to keep" if name == "gamma" else ""
                raise InvalidData(f"expected {name}= of 0 or more{told}, got {value!r}")
        for name in ("temperature", "noise", "width"):
            value = getattr(self, name)
            if not is_number(value) or not 0 < value < np.inf:
                raise InvalidData(f"expected {name}= to be a positive number, got {value!r}")
        if self.alpha and self.mutual_information != "gaussian" and self.window <= 2 * self.neighbours:
            raise InvalidData(f"expected window= of more than 2 neighbours= ({2 * self.neighbours} rows), got {self.window}")
        if self.rollout_steps >= self.window:
            raise InvalidData(f"expected rollout_steps= below window= ({self.window}), got {self.rollout_steps}")
        require_rates(self.lr)


def _effective_dimension(z: Array) -> float:
    import torch

    from locum.emulate._koopman_information import entropy

    return float(entropy(torch.as_tensor(z)).exp())
