"""A model in target space stands in for a loss whose gradient is dear: one call of it, many cheap steps on the parameters.

Lavington, Vaswani, Babanezhad, Schmidt and Le Roux, 2023, arXiv 2302.02607. `TargetSurrogate` is an optimizer in the manner of
``torch.optim``; it is imported, and PyTorch with it, once it is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import BudgetExhausted, InvalidData, LocumError, need, require_one_of, require_whole
from locum.core.target import Target

if TYPE_CHECKING:
    import torch

    from locum.optimize._sso_optimizer import TargetSurrogate

__all__ = ["TargetSurrogate", "SurrogateStep", "SurrogateDistiller", "NonFiniteGradient"]

_LOSSES = ("squared", "cross-entropy")
_NEEDS_MORE = ("armijo", "diagonal-adagrad", "adam")  # than a gradient; the optimizer itself has them


def __getattr__(name: str) -> Any:
    """The optimizer, whose base is a class of PyTorch."""
    if name != "TargetSurrogate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    need("torch", "an optimizer of networks", "nets")
    from locum.optimize._sso_optimizer import TargetSurrogate

    return TargetSurrogate


class NonFiniteGradient(LocumError, FloatingPointError):
    """The oracle gave a gradient that holds NaN or infinity."""


@dataclass(frozen=True)
class SurrogateStep:
    """One call of the oracle, and what was made of it.

    Attributes
    ----------
    oracle_calls : int
        Gradients asked for so far, this one included.
    loss_calls : int
        Losses asked for so far.
    eta : float
        The step in target space.
    inner_steps : int
        Steps on the parameters.
    surrogate_decrease : float
        How far g fell; below zero where fixed steps of gradient descent were too long.
    gradient_norm : float
        Root of the mean squared norm of the rows' gradients in target space.
    loss : float
        Mean loss before the step; NaN without `target_loss`.
    bound_gap : float
        g less the mean loss at the new parameters, 0 or more where η is at most 1/L; NaN without `target_loss`.
    status : str
        Why the steps ended.
    """

    oracle_calls: int
    loss_calls: int
    eta: float
    inner_steps: int
    surrogate_decrease: float
    gradient_norm: float
    loss: float
    bound_gap: float
    status: str


@final
class SurrogateDistiller(RegressorMixin, BaseEstimator):
    """A student network stands in for a teacher that is dear to ask, trained by many steps for each batch that is asked.

    Every batch of rows is asked for once, and gives the gradient of the student's loss in its outputs; `TargetSurrogate` then
    takes `m` steps on its model. Later epochs use the answers again.

    Parameters
    ----------
    student : torch.nn.Module or None, default=None
        Copied, never trained itself. A linear map where None.
    teacher : Target, callable or None, default=None
        Takes rows (n, ...) and gives values of shape (n,) or (n, k), or probabilities (n, k) for the cross-entropy. None where
        `fit` is given the answers.
    loss : {"squared", "cross-entropy"}, default="squared"
        Half the squared distance of the student's outputs from the answers, or the cross-entropy of their softmax.
    m : int, default=100
        Steps for each batch.
    batch_size : int, default=100
    epochs : int, default=1
        Passes over the rows; only the first asks the teacher.
    eta, schedule, inner, inner_step : default="1/L", "constant", "adam" and None
        As in `TargetSurrogate`; η is a number, "1/L", "adagrad" or "newton".
    device : torch.device or str, default="cpu"
    random_state : int, default=0
        Order of the rows, and the weights of the linear map.

    Attributes
    ----------
    student_ : torch.nn.Module
        In eval mode.
    history_ : tuple of SurrogateStep
    calls_ : int
        Batches that the teacher was asked for.
    n_features_in_ : int
        Columns of the rows.

    Notes
    -----
    Cost: each row of the teacher once; epochs times n / batch_size times m forward and backward passes of a batch.

    Departures: the paper has no distillation; this is its algorithm 2 with a teacher for an oracle.

    Lavington, Vaswani, Babanezhad, Schmidt and Le Roux, 2023, arXiv 2302.02607, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(400, 3))
    >>> teacher = lambda rows: rows @ [1.0, -2.0, 0.5]
    >>> distilled = SurrogateDistiller(teacher=teacher, inner="exact").fit(X)
    >>> distilled.calls_, round(float(distilled.predict([[1.0, 1.0, 1.0]])[0]), 3)
    (4, -0.5)
    """

    def __init__(
        self,
        student: torch.nn.Module | None = None,
        teacher: Target | Callable[[Any], Any] | None = None,
        *,
        loss: str = "squared",
        m: int = 100,
        batch_size: int = 100,
        epochs: int = 1,
        eta: float | str = "1/L",
        schedule: str = "constant",
        inner: str = "adam",
        inner_step: float | None = None,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.loss = loss
        self.m = m
        self.batch_size = batch_size
        self.epochs = epochs
        self.eta = eta
        self.schedule = schedule
        self.inner = inner
        self.inner_step = inner_step
        self.device = device
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Ask the teacher about rows, batch by batch, and teach the student.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, ...)
        y : array-like of shape (n,) or (n, k), or None, default=None
            The teacher's answers, where there is no `teacher`.

        Returns
        -------
        self

        Raises
        ------
        InvalidData
            Rows, answers or settings that cannot be used.
        BudgetExhausted
            The teacher's budget ended; its ``best`` is this, taught by the batches before.
        MissingExtra
            PyTorch is not installed.
        """
        rows, source = self._checked(X, y)
        order = np.random.default_rng(self.random_state).permutation(len(rows))
        batches = [order[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        settings = self._settings(self.epochs * len(batches))
        self.n_features_in_, self.calls_ = rows.shape[1], 0
        self.history_: tuple[SurrogateStep, ...] = ()
        answers: list[NDArray[np.float64]] = []
        optimizer: TargetSurrogate | None = None
        for number, batch in self._turns(batches):
            if number == len(answers):
                answers.append(self._asked(source, rows, batch))
            if optimizer is None:
                optimizer = self._prepared(answers[0], settings)
            self.history_ += (self._taught(optimizer, rows[batch], answers[number]),)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """What the student answers.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, ...)

        Returns
        -------
        ndarray of shape (n,) or (n, k)
            As the teacher's answers; probabilities with the cross-entropy.
        """
        check_is_fitted(self, "student_")
        torch = need("torch", "distilling", "nets")
        rows = _numbers(X)
        if rows.shape[1] != self.n_features_in_:
            raise InvalidData(f"expected rows with {self.n_features_in_} columns, got {rows.shape[1]}")
        with torch.no_grad():
            outputs = self.student_(self._tensor(rows))
            said = torch.softmax(outputs, dim=-1) if self.loss == "cross-entropy" else outputs
        return said.cpu().numpy().reshape(len(rows), *self._answer_shape)

    # ------------------------------------------------------------------ parts
    def _checked(self, X: ArrayLike, y: ArrayLike | None) -> tuple[NDArray[Any], Any]:
        """Rows, and a target or answers."""
        need("torch", "distilling", "nets")
        require_whole(1, batch_size=self.batch_size, epochs=self.epochs)
        require_whole(0, random_state=self.random_state)
        require_one_of(_LOSSES, loss=self.loss)
        rows = _numbers(X)
        if (self.teacher is None) == (y is None):
            raise InvalidData(f"expected either a teacher or its answers y, got {'neither' if y is None else 'both'}")
        if y is None:
            return rows, self.teacher if isinstance(self.teacher, Target) else Target(self._called, output=self._output)
        answers = np.asarray(y, dtype=float)
        if answers.ndim not in (1, 2) or len(answers) != len(rows) or not np.isfinite(answers).all():
            raise InvalidData(f"expected finite answers, one for each of {len(rows)} rows, got shape {answers.shape}")
        return rows, answers

    def _called(self, rows: Any) -> NDArray[Any]:
        assert callable(self.teacher)
        return np.asarray(self.teacher(rows))

    @property
    def _output(self) -> str:
        return "probability" if self.loss == "cross-entropy" else "value"

    def _turns(self, batches: list[NDArray[np.int64]]) -> Iterator[tuple[int, NDArray[np.int64]]]:
        for _ in range(self.epochs):
            yield from enumerate(batches)

    def _asked(self, source: Any, rows: NDArray[Any], batch: NDArray[np.int64]) -> NDArray[np.float64]:
        if not isinstance(source, Target):
            return self._fitting(source[batch])
        try:
            found = np.asarray(source.query(rows[batch], "fit"), dtype=float)
        except BudgetExhausted as ended:
            ended.best = self if self.history_ else None
            raise
        self.calls_ += 1
        return self._fitting(found)

    def _fitting(self, answers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Answers that the loss can be computed with."""
        if self.loss == "squared":
            return answers
        if answers.ndim != 2 or answers.shape[1] < 2 or answers.min() < 0 or not np.allclose(answers.sum(axis=1), 1, atol=1e-3):
            raise InvalidData(f"expected probabilities of shape (n, k) with the cross-entropy, got shape {answers.shape}")
        return answers

    def _settings(self, calls: int) -> dict[str, Any]:
        """Of the optimizer, refused here where they cannot be used, before the teacher is asked."""
        from torch import nn

        from locum.optimize._sso_optimizer import check

        if self.student is not None and not isinstance(self.student, nn.Module):
            raise InvalidData(f"expected student= to be a torch.nn.Module, got {type(self.student).__name__}")
        if self.eta in _NEEDS_MORE:
            raise InvalidData(f"expected eta= here to be a number, 1/L, adagrad or newton, got {self.eta!r}")
        settings = {"eta": self.eta, "loss": self.loss, "m": self.m, "inner": self.inner, "inner_step": self.inner_step}
        settings |= {"schedule": self.schedule, "horizon": calls}
        check({**settings, "eta0": 1.0, "divergence": "euclidean"})
        return settings

    def _prepared(self, answers: NDArray[np.float64], settings: dict[str, Any]) -> TargetSurrogate:
        """The student, and an optimizer for it, once the shape of the answers is known."""
        import torch

        from locum.nets import seeded
        from locum.optimize._sso_optimizer import TargetSurrogate

        self._answer_shape = answers.shape[1:]
        if self.student is None:
            with seeded(self.random_state):
                self.student_: Any = torch.nn.Linear(self.n_features_in_, answers[0].size, dtype=torch.float64)
        else:
            self.student_ = copy.deepcopy(self.student)
        self.student_.to(self.device).eval()
        return TargetSurrogate(self.student_.parameters(), **settings)

    def _taught(self, optimizer: TargetSurrogate, rows: NDArray[Any], answers: NDArray[np.float64]) -> SurrogateStep:
        import torch

        inputs = self._tensor(rows)
        with torch.no_grad():
            shape = self.student_(inputs).shape
        wanted = torch.as_tensor(answers, device=self.device).reshape(len(answers), -1)
        if shape != wanted.shape and shape != wanted.squeeze(1).shape:
            raise InvalidData(f"expected a student with outputs like the answers, {tuple(wanted.shape)}, got {tuple(shape)}")
        wanted = wanted.reshape(shape)

        def gradient(outputs: torch.Tensor) -> torch.Tensor:
            return (torch.softmax(outputs, dim=-1) if self.loss == "cross-entropy" else outputs) - wanted

        return optimizer.step(forward=lambda: self.student_(inputs), target_grad=gradient)

    def _tensor(self, rows: NDArray[Any]) -> torch.Tensor:
        """Rows as the student takes them: whole numbers as they are, others in the precision of its weights."""
        import torch

        kind = torch.long if rows.dtype.kind in "iu" and self.student is not None else next(self.student_.parameters()).dtype
        return torch.as_tensor(rows, dtype=kind, device=self.device)


def _numbers(X: ArrayLike) -> NDArray[Any]:
    """Rows as numbers, at least one."""
    rows = np.asarray(X)
    if rows.dtype.kind not in "biuf":
        try:
            rows = rows.astype(float)
        except (TypeError, ValueError) as error:
            raise InvalidData(f"expected rows of numbers, got {rows.dtype}; encode text and categories first") from error
    if rows.ndim < 2 or len(rows) == 0:
        raise InvalidData(f"expected rows of shape (n, d), got shape {rows.shape}")
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise InvalidData("expected finite rows, got NaN or infinity; impute or drop those first")
    return rows
