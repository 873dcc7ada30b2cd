"""A network stands in for a solver, trained while the solver runs: nothing is stored, and data are as many as it can make.

Simulations go on side by side, and each step that they take goes through a bounded buffer in memory to the network.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.bounds import bootstrap_mean
from locum.core.errors import InvalidData, need, require_one_of, require_positive, require_whole
from locum.core.fidelity import Fidelity
from locum.core.region import Region
from locum.emulate._online_buffers import FIFOBuffer, FIROBuffer, ReservoirBuffer, StepRecord, StoredBuffer, TrainingBuffer
from locum.emulate._online_clients import CLIENTS, Clients, SimulationFailed
from locum.emulate._online_records import Assembler, OnlineStats, Units
from locum.emulate.learned_fields import DirectField, FieldStepper

__all__ = [
    "FIFOBuffer", "FIROBuffer", "OnlineHistory", "OnlineStats", "OnlineTrainer",
    "ReservoirBuffer", "SimulationFailed", "StepRecord", "StoredBuffer", "TrainingBuffer",
]  # fmt: skip

Array = NDArray[np.floating[Any]]

_MODELS = ("mlp", "fno", "unet", "message-passing")
_PATIENCE = 0.2  # seconds between two looks whether training has ended
_PRIOR_DRAWS = 10_000


@dataclass(frozen=True)
class OnlineHistory:
    """Errors on held-out runs as training went on.

    Attributes
    ----------
    updates, ticks : tuple of int
        Ticks are turns of the scheduler where simulations run here in turn, and 0 elsewhere.
    seconds : tuple of float
    errors : tuple of float
        Mean squares of scaled fields, mean over runs.
    unique : tuple of int
        Records that had come.
    """

    updates: tuple[int, ...]
    ticks: tuple[int, ...]
    seconds: tuple[float, ...]
    errors: tuple[float, ...]
    unique: tuple[int, ...]


# ---------------------------------------------------------------------- the trainer
class OnlineTrainer(BaseEstimator):
    """A network stands in for a solver with parameters, and learns from simulations while they run.

    Simulations at parameters drawn from a prior run side by side. Each step they take goes into a bounded buffer, and the
    network learns from batches of it; where the buffer is full of what was not read yet, simulations wait. Nothing is stored,
    so the network meets as many different steps as the solver can make in the time, not as many as a disk can hold.

    Parameters
    ----------
    model : {"mlp", "fno", "unet", "message-passing"} or torch.nn.Module
        What learns. A module of your own takes (n, k + 1), parameters and time, in direct mode, and (n, C + k, \\*grid), fields
        and constants, in autoregressive mode.
    simulate : callable
        ``simulate(p)``, an iterator over fields, one a step, all of one shape. In autoregressive mode (C, \\*grid), and the
        first is where the run begins.
    prior : distribution of scipy.stats, sequence of them, or array-like of shape (runs, k)
        Of the parameters: one for all, one for each, or a design fixed beforehand (such as a Sobol' sequence).
    n_params : int, default=1
        k, where the prior is one distribution.
    mode : {"direct", "autoregressive"}, default="direct"
        From parameters and time to the field; from a field to the next.
    buffer : FIFOBuffer, FIROBuffer, ReservoirBuffer or StoredBuffer, or None, default=None
        ``ReservoirBuffer()`` where None; `StoredBuffer` is training offline.
    shown : sequence of int or None, default=None
        Parameters that the network gets; all where None. Others may draw initial states.
    field_mean, field_scale : float, default=0.0 and 1.0
        What fields are standardised by: numbers known beforehand.
    n_clients : int, default=4
        Simulations at once.
    backend : {"serial", "process", "ray"}, default="serial"
        Here, a step of each in turn, with the same numbers each time; in processes; on a cluster.
    records_per_update : int, default=10
        Steps that come for each update where simulations run here.
    batch_size : int, default=10
    width : int, default=256
        Of hidden layers, or channels of an operator.
    lr : float, default=0.001
        Of Adam; halves four times.
    validate_every : int, default=200
        Updates.
    max_restarts : int, default=2
        Of each run whose simulation fails, or whose process ends.
    device : torch.device or str, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    model_ : DirectField or FieldStepper
    history_ : OnlineHistory
    stats_ : OnlineStats
    validation_ : tuple of ndarray
        Parameters (n, k) and fields (n, steps, ...) of runs that were held out.

    Raises
    ------
    InvalidData
        Settings with which simulations and network would wait for each other, or that do not go together.
    SimulationFailed
        A simulation that failed more often than is allowed.

    Notes
    -----
    Cost: the simulations, and 0.5 ms an update for the network of the examples.

    **Departures**: one training process rather than one a GPU; the code of the paper could not be had, and its buffers are
    written from descriptions. Fields do not go through a ledger, as nothing is to be stored. Buffers do not survive a crash of
    the trainer.

    References
    ----------
    Meyer, Schouler, Caulk, Ribés and Raffin, *Training Deep Surrogate Models with Large Scale Online Learning*, ICML 2023,
    arXiv 2306.16133; the reservoir is that of arXiv 2309.16743.

    Examples
    --------
    >>> from scipy.stats import uniform
    >>> def cooling(p):
    ...     for t in range(1, 11):
    ...         yield p * np.exp(-0.2 * t)
    >>> trainer = OnlineTrainer("mlp", cooling, uniform(1, 1), width=32, buffer=ReservoirBuffer(100, 20), lr=1e-2)
    >>> model = trainer.fit(n_runs=200, max_updates=400, validation_runs=5).model_
    >>> bool(np.abs(model.predict([[1.5]])[0, :, 0] - list(np.ravel(list(cooling(1.5))))).max() < 0.15)
    True
    """

    papers = ("online-training",)

    def __init__(
        self,
        model: Any,
        simulate: Callable[[Array], Iterable[Array]],
        prior: Any,
        *,
        n_params: int = 1,
        mode: str = "direct",
        buffer: TrainingBuffer | None = None,
        shown: Any = None,
        field_mean: float = 0.0,
        field_scale: float = 1.0,
        n_clients: int = 4,
        backend: str = "serial",
        records_per_update: int = 10,
        batch_size: int = 10,
        width: int = 256,
        lr: float = 1e-3,
        validate_every: int = 200,
        max_restarts: int = 2,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.simulate = simulate
        self.prior = prior
        self.n_params = n_params
        self.mode = mode
        self.buffer = buffer
        self.shown = shown
        self.field_mean = field_mean
        self.field_scale = field_scale
        self.n_clients = n_clients
        self.backend = backend
        self.records_per_update = records_per_update
        self.batch_size = batch_size
        self.width = width
        self.lr = lr
        self.validate_every = validate_every
        self.max_restarts = max_restarts
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(
        self, n_runs: int = 100, *, max_updates: int = 1000, validation_runs: int = 20,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:  # fmt: skip
        """Run simulations and learn from them, until the updates are done, or all runs have ended and been learned from.

        Parameters
        ----------
        n_runs : int, default=100
            Simulations at most.
        max_updates : int, default=1000
        validation_runs : int, default=20
            Simulated before, from the same prior, and held out; two or more.
        progress : callable or None, default=None
            Called with (updates done, updates in all, the error in words) after each validation.
        """
        self._check_settings(n_runs, max_updates, validation_runs)
        need("torch", "training a network", "nets")
        P, held = self._design(n_runs, 0), self._design(validation_runs, 1)
        clients = CLIENTS[self.backend](self.simulate, self.n_clients, self.max_restarts)
        try:
            return self._fitted(clients, P, held, max_updates, progress)
        finally:
            clients.close()

    def _fitted(self, clients: Clients, P: Array, held: Array, max_updates: int, progress: Any) -> Self:
        from locum.emulate import _online_networks as networks

        fields = self._simulated(clients, held)
        shown = list(range(P.shape[1])) if self.shown is None else [int(i) for i in self.shown]
        mean, scale = self._prior_units(P)
        units = Units(mean[shown], scale[shown], self.field_mean, self.field_scale, fields.shape[1])
        assembler = Assembler(P, shown, self.mode == "autoregressive", units)
        self.validation_ = held, fields
        kind = DirectField if self.mode == "direct" else FieldStepper
        inputs, answer = self._shapes(len(shown), fields)
        network = networks.network_of(self.model, inputs, answer, self.width, self.random_state)
        self.model_ = kind(network, units, shown, self.device, inputs, self._region(P, shown))
        learner = networks.Learner(network, self.lr, max_updates, self.device)
        buffer = ReservoirBuffer() if self.buffer is None else copy.deepcopy(self.buffer)
        buffer.clear()
        run = _Run(self, buffer, assembler, learner, max_updates, progress)
        clients.begin(list(P))
        run.in_turn(clients) if self.backend == "serial" else run.at_once(clients)
        run.finish()
        self.history_, self.stats_ = run.history(), run.stats(clients)
        return self

    def _design(self, n: int, stream: int) -> Array:
        """Parameters (n, k) of runs; each run has its own draw, whoever simulates it and when."""
        if not _is_distribution(self.prior) and not _is_list(self.prior):
            design = np.asarray(self.prior, dtype=float)
            return design[-n:] if stream else design[:n]
        priors = list(self.prior) if _is_list(self.prior) else [self.prior] * self.n_params
        rngs = [np.random.default_rng([self.random_state, 43, stream, run]) for run in range(n)]
        return np.array([[float(one.rvs(random_state=rng)) for one in priors] for rng in rngs])

    def _prior_units(self, P: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the prior."""
        if not _is_distribution(self.prior) and not _is_list(self.prior):
            design = np.asarray(self.prior, dtype=float)
            return design.mean(axis=0), np.where(design.std(axis=0) > 0, design.std(axis=0), 1.0)
        priors = list(self.prior) if _is_list(self.prior) else [self.prior] * self.n_params
        mean, scale = (np.array([float(getattr(one, name)()) for one in priors]) for name in ("mean", "std"))
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise InvalidData("expected a prior with a finite mean and spread: bound it, or give a design as an array")
        return mean, scale

    def _region(self, P: Array, shown: list[int]) -> Region | None:
        """Where parameters come from: the support of the prior, or the range of a design, or of what was drawn of a tail."""
        if not shown:
            return None
        if _is_distribution(self.prior) or _is_list(self.prior):
            priors = list(self.prior) if _is_list(self.prior) else [self.prior] * self.n_params
            ends = np.array([one.support() for one in priors], dtype=float).T
        else:
            design = np.asarray(self.prior, dtype=float)
            ends = np.stack([design.min(axis=0), design.max(axis=0)])
        drawn = np.stack([P.min(axis=0), P.max(axis=0)])
        low, high = np.where(np.isfinite(ends), ends, drawn)
        return Region.of_ranges(P[:, shown], low[shown], high[shown], name="parameters trained on")

    def _simulated(self, clients: Clients, P: Array) -> Array:
        """Whole runs (n, steps, ...).

        Raises
        ------
        InvalidData
            Runs of unequal length or shape, or that are not finite.
        """
        found = {}
        clients.begin(list(P))
        while not clients.finished:
            message = clients.receive(_PATIENCE)
            if message is not None and message.field is not None:
                found[message.run, message.step] = message.field
        runs = [[field for (run, _), field in sorted(found.items(), key=lambda one: one[0]) if run == i] for i in range(len(P))]
        shapes = {np.shape(field) for run in runs for field in run}
        lengths = {len(run) for run in runs}
        if len(shapes) != 1 or len(lengths) != 1 or min(lengths) < 2:
            got = f"{sorted(lengths)} steps of shapes {sorted(shapes)}"
            raise InvalidData(f"expected runs of two steps or more, all alike, got {got}")
        fields = np.array(runs, dtype=float)
        if not np.isfinite(fields).all():
            bad = int(np.argmin(np.isfinite(fields).reshape(len(P), -1).all(axis=1)))
            raise InvalidData(f"expected finite fields of the runs held out, got NaN or infinity at parameters {P[bad]}")
        return fields

    def _shapes(self, shown: int, fields: Array) -> tuple[tuple[int, ...], tuple[int, ...]]:
        answer = fields.shape[2:]
        if self.mode == "direct":
            if isinstance(self.model, str) and self.model != "mlp":
                raise InvalidData(f"expected model='mlp' in direct mode, got {self.model!r}, which takes a field")
            return (shown + 1,), answer
        if len(answer) < 2 or (self.model != "mlp" and any(side % 4 for side in answer[1:])):
            raise InvalidData(f"expected fields of shape (fields, *grid), sides that 4 divides, got {answer}")
        return (answer[0] + shown, *answer[1:]), answer

    # ------------------------------------------------------------------ scoring
    def errors(self, *, rollout: bool = True) -> Array:
        """Mean squares of scaled fields of the runs held out, shape (n,).

        Parameters
        ----------
        rollout : bool, default=True
            In autoregressive mode, of roll-outs from where a run begins, instead of single steps.
        """
        check_is_fitted(self, "model_")
        P, fields = self.validation_
        if isinstance(self.model_, DirectField):
            off = self.model_.predict(P) - fields
        elif rollout:
            off = np.moveaxis(self.model_.rollout(fields[:, 0], fields.shape[1] - 1, P), 0, 1) - fields[:, 1:]
        else:
            n, steps = len(P), fields.shape[1] - 1
            said = self.model_.step(fields[:, :-1].reshape(-1, *fields.shape[2:]), np.repeat(P, steps, axis=0))
            off = said.reshape(n, steps, *fields.shape[2:]) - fields[:, 1:]
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(((off / self.field_scale) ** 2).reshape(len(P), -1).mean(axis=1))

    def fidelity(self, level: float = 0.95) -> Fidelity:
        """Root of the mean squared error of the fields of a run, in their units, mean over runs held out.

        Parameters
        ----------
        level : float, default=0.95

        Raises
        ------
        InvalidData
            Roll-outs that are not finite.
        """
        each = np.sqrt(self.errors()) * self.field_scale
        if not np.isfinite(each).all():
            bad = int((~np.isfinite(each)).sum())
            raise InvalidData(f"expected finite fields, but {bad} of {len(each)} roll-outs diverged")
        ends = bootstrap_mean(each, level, random_state=self.random_state)
        return Fidelity("RMSE of a run", float(each.mean()), max(0.0, ends.lower), ends.upper, level, len(each), region="prior",
                        how="runs held out", method=ends.method, greater_is_better=False)  # fmt: skip

    # ------------------------------------------------------------------ what may come in
    def _check_settings(self, n_runs: Any, max_updates: Any, validation_runs: Any) -> None:
        require_whole(1, n_runs=n_runs, max_updates=max_updates, n_params=self.n_params, n_clients=self.n_clients)
        require_whole(2, validation_runs=validation_runs)
        require_whole(1, batch_size=self.batch_size, width=self.width, validate_every=self.validate_every)
        require_whole(1, records_per_update=self.records_per_update)
        require_whole(0, max_restarts=self.max_restarts, random_state=self.random_state)
        require_positive(lr=self.lr, field_scale=self.field_scale)
        require_one_of(("direct", "autoregressive"), mode=self.mode)
        require_one_of(tuple(CLIENTS), backend=self.backend)
        if isinstance(self.model, str):
            require_one_of(_MODELS, model=self.model)
        if not callable(self.simulate):
            raise InvalidData(f"expected simulate= to be callable, got {type(self.simulate).__name__}")
        if not (self.buffer is None or isinstance(self.buffer, TrainingBuffer)):
            raise InvalidData(f"expected buffer= to be a buffer, such as ReservoirBuffer(), got {self.buffer!r}")
        (self.buffer or ReservoirBuffer()).check(self.batch_size)
        self._check_prior(n_runs + validation_runs)

    def _check_prior(self, needed: int) -> None:
        if _is_distribution(self.prior):
            k = self.n_params
        elif _is_list(self.prior):
            k = len(self.prior)
        else:
            design = np.empty(0) if isinstance(self.prior, str) else np.asarray(self.prior, dtype=float)
            if design.ndim != 2 or not np.isfinite(design).all() or len(design) < needed:
                raise InvalidData(
                    f"expected prior= as a distribution, a list of them, or a finite design of {needed} rows or more, the runs "
                    f"and those held out, got shape {design.shape}"
                )
            k = design.shape[1]
        shown = [] if self.shown is None else list(self.shown)
        if any(not 0 <= i < k for i in shown):
            raise InvalidData(f"expected shown= among the {k} parameters, from 0 on, got {shown}")


def _is_distribution(prior: Any) -> bool:
    return callable(getattr(prior, "rvs", None))


def _is_list(prior: Any) -> bool:
    return isinstance(prior, list | tuple) and len(prior) > 0 and all(map(_is_distribution, prior))


# ---------------------------------------------------------------------- one training
class _Run:
    """Feeds the buffer, learns from it, and keeps count."""

    def __init__(
        self, trainer: OnlineTrainer, buffer: TrainingBuffer, assembler: Assembler, learner: Any, max_updates: int,
        progress: Any,
    ) -> None:  # fmt: skip
        self.trainer, self.buffer, self.assembler, self.learner = trainer, buffer, assembler, learner
        self.max_updates, self.progress = max_updates, progress
        seed = trainer.random_state
        self.filling, self.reading = np.random.default_rng([seed, 44]), np.random.default_rng([seed, 45])
        self.start, self.validating = time.perf_counter(), 0.0
        self.starved = self.simulated = self.ages = 0.0
        self.reads = self.ticks = self.turns = self.refused = 0
        self.rows: list[tuple[int, int, float, float, int]] = []
        self.lock = threading.Condition()
        self.stop = False
        self.error: BaseException | None = None

    # ------------------------------------------------------------------ in turn
    def in_turn(self, clients: Clients) -> None:
        """Some steps, an update, and so on: the same numbers each time."""
        learned = 0
        while self.learner.updates < self.max_updates:
            self.ticks += 1
            for _ in range(self.trainer.records_per_update):
                if clients.finished:
                    break
                self.turns += 1
                if not self.buffer.accepts():
                    self.refused += 1
                    continue
                while not clients.finished and not self._receive(clients, 0.0):
                    pass  # the end of a run takes no turn
            if clients.finished and not self.buffer.ended:
                self.buffer.end()
            if self.buffer.ready(self.trainer.batch_size):
                self._learn(self.buffer.take(self.trainer.batch_size, self.reading))
                learned += 1
            elif self.buffer.ended:
                break
        self.starved = 1.0 - learned / max(1, self.ticks)

    def _receive(self, clients: Clients, timeout: float) -> bool:
        """Whether a step came."""
        message = clients.receive(timeout)
        if message is None:
            return False
        known = len(self.assembler.quarantined)
        record = self.assembler.take(message)
        self.simulated += message.seconds
        if len(self.assembler.quarantined) > known:
            clients.drop(message.run)
        if record is not None:
            record.born = self.learner.updates
            with self.lock:
                self.buffer.put(record, self.filling)
                self.lock.notify_all()
        return message.field is not None

    # ------------------------------------------------------------------ at once
    def at_once(self, clients: Clients) -> None:
        """Receive in a thread of its own, and learn in this one."""
        receiver = threading.Thread(target=self._receiving, args=(clients,), daemon=True)
        receiver.start()
        try:
            while self.learner.updates < self.max_updates:
                begin = time.perf_counter()
                with self.lock:
                    self.lock.wait_for(lambda: self.buffer.ready(self.trainer.batch_size) or self.buffer.ended or self.error)
                    self.starved += time.perf_counter() - begin
                    if self.error is not None:
                        raise self.error
                    if not self.buffer.ready(self.trainer.batch_size):
                        break
                    batch = self.buffer.take(self.trainer.batch_size, self.reading)
                    self.lock.notify_all()
                self._learn(batch)
        finally:
            with self.lock:
                self.stop = True
                self.lock.notify_all()
            receiver.join()

    def _receiving(self, clients: Clients) -> None:
        try:
            while not clients.finished:
                with self.lock:
                    self.lock.wait_for(lambda: self.buffer.accepts() or self.stop)
                    if self.stop:
                        return
                self._receive(clients, _PATIENCE)
        except BaseException as error:  # is raised where the training is
            self.error = error
        finally:
            with self.lock:
                self.buffer.end()
                self.lock.notify_all()

    # ------------------------------------------------------------------ learning
    def _learn(self, batch: list[Any]) -> None:
        self.ages += sum(self.learner.updates - one.born for one in batch)
        self.reads += len(batch)
        self.learner.update([one.inputs for one in batch], [one.answer for one in batch])
        done = self.learner.updates
        if done % self.trainer.validate_every == 0 or done == self.max_updates:
            self._validate()

    def finish(self) -> None:
        """Validate, where records ran out before the updates did."""
        if self.learner.updates and (not self.rows or self.rows[-1][0] != self.learner.updates):
            self._validate()

    def _validate(self) -> None:
        begin = time.perf_counter()
        error = float(self.trainer.errors(rollout=False).mean())
        self.learner.network.train()
        unique = sum(self.assembler.steps.values())
        self.rows.append((self.learner.updates, self.ticks, begin - self.start - self.validating, error, unique))
        self.validating += time.perf_counter() - begin  # which is not time of training
        if self.progress is not None:
            self.progress(self.learner.updates, self.max_updates, f"error {error:.4g} on runs held out")

    # ------------------------------------------------------------------ what is told
    def history(self) -> OnlineHistory:
        updates, ticks, seconds, errors, unique = zip(*self.rows, strict=True) if self.rows else ((),) * 5
        return OnlineHistory(updates, ticks, seconds, errors, unique)

    def stats(self, clients: Clients) -> OnlineStats:
        came, counts = self.assembler, self.buffer.counts()
        seconds = time.perf_counter() - self.start - self.validating
        if self.ticks:
            learning, simulating = 1.0 - self.starved, 1.0 - self.refused / max(1, self.turns)
        else:
            learning = max(0.0, 1.0 - self.starved / seconds)
            simulating = min(1.0, self.simulated / (clients.n_clients * seconds))
        return OnlineStats(
            came.received, came.duplicates, came.runs_done, clients.restarts, tuple(came.quarantined),
            sum(n for reads, n in counts.items() if reads), dict(sorted(counts.items())), self.ages / max(1, self.reads),
            came.bytes_received, learning, simulating, seconds, self.ticks,
        )  # fmt: skip
