"""A code of what is observed stands in for its hidden cause, so that the outcome of actions never tried can be predicted.

An autoencoder is trained so that the mean of its code is linear in the action, which pins the hidden cause down up to an affine
map. The outcome is regressed on the code and on the part of it that the action did not set, as in instrumental variables.
"""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, require_one_of
from locum.core.fidelity import Fidelity
from locum.infer._rep4ex_control import ControlFunction
from locum.infer._rep4ex_encoders import ConvolutionalAutoencoder, DenseAutoencoder, VariationalAutoencoder
from locum.infer._rep4ex_moments import KERNELS, KernelFeatures, TestResult, independence_test, with_ones
from locum.infer._rep4ex_representation import Plan, Representation, Scaling, best_of, whitening
from locum.infer._rep4ex_results import LamTried, LinearInvarianceWarning, ReachAudit, ReconstructionWarning
from locum.infer._rep4ex_rivals import against_rivals
from locum.infer._results import Table

__all__ = [
    "ControlFunction", "ConvolutionalAutoencoder", "DenseAutoencoder", "InterventionExtrapolator", "LamTried",
    "LinearInvarianceWarning", "ReachAudit", "ReconstructionWarning", "TestResult", "VariationalAutoencoder",
]  # fmt: skip

_Array = NDArray[np.floating[Any]]

_LAMS = (0.0, 1.0, 10.0, 100.0)  # what "auto" tries
_ALPHA = 0.05  # of the tests behind warnings
_LEAST_R2 = 0.9  # of reconstruction
_FEWEST = 200  # rows
_CLOUD = 500  # residuals behind the reach of an action
_NEAR = 0.99  # quantile of the distance of a code from the nearest other, within which codes are near
_LEAST_COVERED = 0.9


class InterventionExtrapolator(BaseEstimator):
    r"""A learned code φ(X) stands in for the hidden cause Z, so that E[Y | do(a)] can be predicted for actions never tried.

    Actions A move the hidden Z = M A + V, of which X is an invertible picture and Y = ℓ(Z) + U an outcome; V and U may depend
    on one another, but not on A. Any code that can be decoded and whose mean given A is linear in A equals Z up to an affine
    map, so an autoencoder is trained with a penalty on what is not linear. Y is then an additive function of the code and of
    its residual V̂ after least squares on A, and the part of the code alone is averaged over V̂ about the centre that a sets:

    .. math:: \min \lVert X - \mathrm{dec}(φ(X)) \rVert^2 + λ \, E[r^\top \tilde r \, k(A, \tilde A)], \quad r = φ - W A - α,
       \qquad E[Y \mid do(a)] = E_V[ν(W a + α + \hat V)] + \mathrm{const}

    Encoders are trained on one half of the rows and the regression on the other, both ways, and the two predictions averaged.

    Parameters
    ----------
    latent_dim : int
        d, the number of hidden causes; at most the number of actions.
    lam : "auto" or float, default="auto"
        λ. "auto" tries 0, 1, 10 and 100 on one half of the rows and takes the one with the smallest moment statistic on the
        other half, of those that lose at most 0.01 of the reconstruction; 0 is a plain autoencoder, without identification.
    encoder : DenseAutoencoder, ConvolutionalAutoencoder, VariationalAutoencoder or None, default=None
        Dense for rows and convolutional for images where None.
    kernel : {"rbf", "laplacian"}, default="rbf"
        On actions, with the median distance as its bandwidth.
    epochs : int, default=150
    batch_size : int, default=1000
        Small batches make the penalty noisy.
    learning_rate : float, default=0.002
        At the start; it falls to 0 along a cosine.
    n_resamples : int, default=200
        Behind tests and standard errors.
    device : str or torch.device, default="cpu"
    random_state : int, default=0

    Attributes
    ----------
    lam_ : float
    path_ : tuple of LamTried
        What "auto" saw for each λ; empty for a λ that was given.
    moment_test_ : TestResult
        Of linear invariance, E[r | A] = 0, on rows that the encoders have not seen (which "auto" has, in half of them).
    independence_test_ : TestResult
        Of r and A, which also fails for a variance that depends on A, noise in X, or an effect of A that is not linear.
    reconstruction_r2_ : float
        On rows that the encoders have not seen.
    strength_ : ndarray of shape (d,)
        Share of the variance of the code that actions set, in its canonical directions, weakest first. Where the weakest is
        close to 0 there is little to identify by.
    agreement_ : float
        R² of the code of one half from that of the other, by least squares. Codes that are identified agree; codes that agree
        need not be identified.
    histories_ : tuple of History
        Of the training of both encoders.
    n_ : int

    Raises
    ------
    InvalidData
        Fewer actions than hidden causes (not identifiable), actions that are constant or collinear, NaN, too few rows,
        settings that cannot be used.

    Warns
    -----
    LinearInvarianceWarning
        The test rejects at 5 %, or actions do not move the code in all directions.
    ReconstructionWarning
        Reconstruction R² below 0.9.
    UserWarning
        Fewer rows than five batches.

    Notes
    -----
    Cost: 2 encoders, with "auto" 5, of n/2 rows each, and 2 control functions. 8,000 rows of 10 inputs with "auto" take 10 s on
    one core, 300 actions 2 s, and their standard errors 15 s.

    **Departures**: the kernel is a pivoted Cholesky factor of rank 200 at most, which leaves out a ten thousandth; the code is
    whitened in each batch, so that shrinking it does not pay; ν and ψ are cubic splines in d dimensions with a ridge each,
    which are linear far from the data, and not networks; λ is chosen on held-out rows by the size of the moment statistic,
    since with many rows its test rejects the best of codes; cross-fitting.

    Assumes as many actions as hidden causes or more, an effect of A on Z that is linear, X without noise, V of full support,
    and A independent of U and V. Predictions reach as far as V does beyond the actions seen: see `audit`.

    References
    ----------
    Saengkyongam, Rosenfeld, Ravikumar, Pfister and Peters, *Identifying Representations for Intervention Extrapolation*, ICLR
    2024, arXiv 2310.04295.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> A, V = rng.uniform(-1, 1, (1000, 1)), rng.normal(size=(1000, 1))
    >>> Z = A + V
    >>> X, Y = np.hstack([Z, np.tanh(Z)]), Z[:, 0] ** 2 + V[:, 0]
    >>> found = InterventionExtrapolator(1, lam=1.0, epochs=60, batch_size=100).fit(X, A, Y)
    >>> bool(np.abs(found.predict_do([[0.0], [1.5]]) - [1.0, 3.25]).max() < 1.0)
    True
    """

    papers = ("rep4ex",)

    def __init__(
        self,
        latent_dim: int,
        *,
        lam: str | float = "auto",
        encoder: DenseAutoencoder | ConvolutionalAutoencoder | VariationalAutoencoder | None = None,
        kernel: str = "rbf",
        epochs: int = 150,
        batch_size: int = 1000,
        learning_rate: float = 2e-3,
        n_resamples: int = 200,
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.lam = lam
        self.encoder = encoder
        self.kernel = kernel
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.n_resamples = n_resamples
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(self, X: ArrayLike, A: ArrayLike, Y: ArrayLike) -> InterventionExtrapolator:
        """Learn the code from inputs and actions, and the outcome from code and actions.

        Parameters
        ----------
        X : array-like of shape (n, p) or (n, C, H, W)
        A : array-like of shape (n, k)
            Actions as they were set, independent of everything else.
        Y : array-like of shape (n,)
        """
        self._check_settings()
        x, a, y = self._rows(X, A, Y)
        self._x_scaling, self._a_scaling, self._trained_on = Scaling.of(x), Scaling.of(a), (a, y)
        self._shape = x.shape[1:]
        plan = self._plan(self._x_scaling(x), self._a_scaling(a))
        halves = np.array_split(np.random.default_rng([self.random_state, 0]).permutation(len(x)), 2)
        first = self._first(plan, *halves)
        self._codes = (first, plan.trained(halves[1], self.lam_, 1))
        self._controls = tuple(
            ControlFunction(code(plan.x[rows]), plan.actions[rows], y[rows], self.random_state)
            for code, rows in zip(self._codes, reversed(halves), strict=True)
        )
        self.histories_ = tuple(code.history for code in self._codes)
        self.n_ = len(x)
        self._examine(plan, halves)
        self._warn()
        return self

    def _plan(self, x: _Array, actions: _Array) -> Plan:
        spec = self.encoder or (DenseAutoencoder() if x.ndim == 2 else ConvolutionalAutoencoder())
        training = {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        features = KernelFeatures(actions, self.kernel)(actions)
        training["device"] = self.device
        return Plan(spec, self.latent_dim, training, x, actions, features, self.n_resamples, self.random_state)

    def _first(self, plan: Plan, rows: Any, others: Any) -> Representation:
        self.path_: tuple[LamTried, ...] = ()
        if not isinstance(self.lam, str):
            self.lam_ = float(self.lam)
            return plan.trained(rows, self.lam_, 0)
        found, self.path_ = plan.tried(_LAMS, rows, others)
        best = best_of(self.path_)
        self.lam_ = self.path_[best].lam
        return found[best]

    def _examine(self, plan: Plan, halves: Any) -> None:
        """Tests and figures of the codes, each on the half that its encoder has not seen."""
        unseen = list(zip(self._codes, reversed(halves), strict=True))
        self.moment_test_ = TestResult.of(*(plan.moment_test(code, rows) for code, rows in unseen))
        rng = np.random.default_rng([self.random_state, 3])
        self.independence_test_ = TestResult.of(
            *(
                independence_test(control.residual, plan.actions[rows], rng, self.n_resamples)
                for control, (_, rows) in zip(self._controls, unseen, strict=True)
            )
        )
        self.reconstruction_r2_ = float(np.mean([code.reconstruction_r2(plan.x[rows]) for code, rows in unseen]))
        one, other = (code(plan.x) for code in self._codes)
        self.agreement_ = 1.0 - float(_unexplained(other, one)[-1])
        self.strength_ = np.sort(1.0 - _unexplained(one, plan.actions)[:-1])

    def _warn(self) -> None:
        if self.n_ < 5 * self.batch_size:
            warnings.warn(
                f"expected {5 * self.batch_size} rows or more for batches of {self.batch_size}, got {self.n_}: the encoders "
                "take few steps; use a smaller batch_size= or more epochs=",
                UserWarning, stacklevel=3,
            )  # fmt: skip
        if self.moment_test_.pvalue < _ALPHA:
            warnings.warn(
                f"the mean of the code given the action is not linear ({self.moment_test_}), with lam={self.lam_:g}: the code "
                "may not be the hidden cause; try a larger lam=, or see whether the action acts linearly",
                LinearInvarianceWarning, stacklevel=3,
            )  # fmt: skip
        if self.n_ * self.strength_[0] < 4 * self._trained_on[0].shape[1]:
            warnings.warn(
                f"the action sets {self.strength_[0]:.2g} of the variance of the code in one direction, which is none: "
                "use a smaller latent_dim=, or stronger actions",
                LinearInvarianceWarning, stacklevel=3,
            )  # fmt: skip
        if self.reconstruction_r2_ < _LEAST_R2:
            warnings.warn(
                f"expected inputs that a code of {self.latent_dim} numbers gives back, got R² {self.reconstruction_r2_:.3f}: "
                "use a larger latent_dim=, more epochs= or another encoder=, or a smaller lam=",
                ReconstructionWarning, stacklevel=3,
            )  # fmt: skip

    # ------------------------------------------------------------------ use
    def predict_do(self, A_star: ArrayLike, *, return_std: bool = False) -> Any:
        """E[Y | do(a)] for each action, shape (m,).

        Parameters
        ----------
        A_star : array-like of shape (m, k)
        return_std : bool, default=False
            Also give the standard errors of the second stage, shape (m,): a bootstrap of least squares and regression, with
            the encoders as they are. They know nothing of a code that is wrong, nor of a curve that bends beyond the data.
        """
        actions = self._actions(A_star)
        said = np.mean([one.do(actions) for one in self._controls], axis=0)
        if not return_std:
            return said
        rng = np.random.default_rng([self.random_state, 4])
        drawn = np.mean([one.do_resampled(actions, rng, self.n_resamples) for one in self._controls], axis=0)
        return said, np.std(drawn, axis=0, ddof=1)

    def predict(self, X: ArrayLike, A_star: ArrayLike) -> _Array:
        """E[Y | X = x, do(a)] row by row, shape (n,).

        Parameters
        ----------
        X : array-like of shape (n, p) or (n, C, H, W)
            Seen under the action in the same row.
        A_star : array-like of shape (n, k)
        """
        x, actions = self._inputs(X), self._actions(A_star)
        if len(x) != len(actions):
            raise InvalidData(f"expected an action for each of {len(x)} rows of X, got {len(actions)}")
        return np.mean([one.given(code(x), actions) for code, one in zip(self._codes, self._controls, strict=True)], axis=0)

    def transform(self, X: ArrayLike) -> _Array:
        """The code of each row by the first encoder, shape (n, d): the hidden cause up to an affine map where identified."""
        return self._codes[0](self._inputs(X))

    # ------------------------------------------------------------------ trust
    def audit(self, A_star: ArrayLike) -> ReachAudit:
        """How far each action is from what was seen, and whether the prediction for it is flagged.

        Parameters
        ----------
        A_star : array-like of shape (m, k)
        """
        actions = self._actions(A_star)
        each = [_reach(one, actions, self._a_scaling(self._trained_on[0])) for one in self._controls]
        distance, covered = np.mean(each, axis=0)
        return ReachAudit(np.asarray(A_star, dtype=float), distance, covered, covered < _LEAST_COVERED, _LEAST_COVERED)

    def fidelity(self, A: ArrayLike, Y: ArrayLike, *, level: float = 0.95) -> dict[str, Fidelity]:
        """Squared errors for outcomes of actions that were left out, of this and of the cheapest rivals.

        Parameters
        ----------
        A : array-like of shape (m, k)
            Set at random, or by a plan made before.
        Y : array-like of shape (m,)
        level : float, default=0.95

        Returns
        -------
        dict of str to Fidelity
            "extrapolator"; "constant", "linear" and "network" (regressions of Y on A in the rows of `fit`); and "gain", how
            much less the squared error is than that of the best of those three. The noise of Y is in all of them alike.
        """
        actions = self._actions(A)
        y = _numbers(Y, "Y", 1)
        if len(y) != len(actions):
            raise InvalidData(f"expected an outcome for each of {len(actions)} actions, got {len(y)}")
        known, seen = self._trained_on
        return against_rivals(self.predict_do(A), actions, y, self._a_scaling(known), seen, level, self.random_state)

    def summary(self) -> Table:
        """What the fit rests on, which prints as text."""
        check_is_fitted(self, "lam_")
        rows = (
            ("linear invariance", self.moment_test_.statistic, self.moment_test_.pvalue),
            ("independence", self.independence_test_.statistic, self.independence_test_.pvalue),
        )
        facts = {"rows": str(self.n_), "lambda": f"{self.lam_:g}", "reconstruction R²": f"{self.reconstruction_r2_:.4f}"}
        facts |= {"agreement of halves": f"{self.agreement_:.4f}"}
        facts |= {"share set by actions": ", ".join(f"{one:.2f}" for one in self.strength_)}
        return Table("Intervention extrapolation", ("test", "statistic", "p"), rows, facts)

    # ------------------------------------------------------------------ what may come in
    def _check_settings(self) -> None:
        least = {"latent_dim": 1, "epochs": 1, "batch_size": 2, "n_resamples": 20, "random_state": 0}
        for name, minimum in least.items():
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, Integral) or count < minimum:
                raise InvalidData(f"expected {name}= to be a whole number of {minimum} or more, got {count!r}")
        lam: Any = self.lam
        if not (isinstance(lam, str) and lam == "auto") and not (_is_number(lam) and 0 <= lam < np.inf):
            raise InvalidData(f"expected lam= 'auto' or a number of 0 or more, got {lam!r}")
        if not (_is_number(self.learning_rate) and 0 < self.learning_rate < np.inf):
            raise InvalidData(f"expected learning_rate= to be a positive number, got {self.learning_rate!r}")
        require_one_of(KERNELS, kernel=self.kernel)
        known = (DenseAutoencoder, ConvolutionalAutoencoder, VariationalAutoencoder)
        if self.encoder is not None and not isinstance(self.encoder, known):
            raise InvalidData(f"expected encoder= to be one of {', '.join(k.__name__ for k in known)}, got {self.encoder!r}")

    def _rows(self, X: ArrayLike, A: ArrayLike, Y: ArrayLike) -> tuple[_Array, _Array, _Array]:
        x, a, y = _numbers(X, "X", 2, 4), _numbers(A, "A", 2), _numbers(Y, "Y", 1)
        if not len(x) == len(a) == len(y):
            raise InvalidData(f"expected X, A and Y with one row a unit, got {len(x)}, {len(a)} and {len(y)} rows")
        if len(x) < _FEWEST:
            raise InvalidData(f"expected {_FEWEST} rows or more, since encoder and regression need some each, got {len(x)}")
        k, p = a.shape[1], int(np.prod(x.shape[1:]))
        if k < self.latent_dim:
            raise InvalidData(
                f"expected at least as many actions as latent_dim={self.latent_dim}, got {k}: what no action moves is not "
                "identifiable; use a smaller latent_dim="
            )
        if p < self.latent_dim:
            raise InvalidData(f"expected at least latent_dim={self.latent_dim} inputs in X, got {p}")
        constant = np.flatnonzero(np.ptp(a, axis=0) == 0)
        if constant.size:
            raise InvalidData(f"expected actions that vary, got a constant in column {constant[0]} of A: leave it out")
        if np.linalg.matrix_rank((a - a.mean(axis=0)) / a.std(axis=0), tol=1e-6 * len(a) ** 0.5) < k:
            raise InvalidData(f"expected actions that vary by themselves, got {k} collinear columns of A: leave one out")
        if np.ptp(y) == 0:
            raise InvalidData(f"expected outcomes that differ, got {len(y)} that are all {y[0]:g}")
        return x, a, y

    def _inputs(self, X: ArrayLike) -> _Array:
        """New inputs, standardised."""
        check_is_fitted(self, "lam_")
        x = _numbers(X, "X", 2, 4)
        if x.shape[1:] != self._shape:
            raise InvalidData(f"expected rows of X of shape {self._shape}, as in fit, got {x.shape[1:]}")
        return self._x_scaling(x)

    def _actions(self, A_star: ArrayLike) -> _Array:
        """New actions, standardised."""
        check_is_fitted(self, "lam_")
        a, k = _numbers(A_star, "A_star", 2), self._trained_on[0].shape[1]
        if a.shape[1] != k:
            raise InvalidData(f"expected actions of {k} columns, as in fit, got {a.shape[1]}")
        return self._a_scaling(a)


def _unexplained(code: _Array, by: _Array) -> _Array:
    """Shares of variance that least squares leaves, in the canonical directions of a code, and the mean of all at the end."""
    mean, root = whitening(code)
    white = (code - mean) @ root
    basis = np.linalg.qr(with_ones(by))[0]
    left = white - basis @ (basis.T @ white)
    shares = np.linalg.eigvalsh(left.T @ left / (len(left) - 1))
    return np.append(shares, shares.mean())


def _reach(control: ControlFunction, actions: _Array, seen: _Array) -> tuple[_Array, _Array]:
    """Distance of the centre that each action sets from the nearest one seen, and share of its cloud that is covered."""
    slopes, residual = control.best.slopes, control.residual
    root = whitening(residual)[1]
    distance = KDTree(with_ones(seen) @ slopes @ root).query(with_ones(actions) @ slopes @ root)[0]
    codes = KDTree(control.code)
    near = np.quantile(codes.query(control.code, k=2)[0][:, 1], _NEAR)
    cloud = (with_ones(actions) @ slopes)[:, None] + residual[:_CLOUD]
    covered = codes.query(cloud)[0] <= near
    return distance, covered.mean(axis=1)


def _numbers(values: ArrayLike, name: str, *dimensions: int) -> _Array:
    """A finite array with one of the numbers of dimensions."""
    shape = {1: "(n,)", 2: "(n, k)", 4: "(n, C, H, W)"}
    wanted = " or ".join(shape[one] for one in dimensions)
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise InvalidData(f"expected {name} to be numbers of shape {wanted}, got {type(values).__name__}") from None
    if array.ndim not in dimensions or not array.size:
        hint = "; one column is reshape(-1, 1)" if array.ndim == 1 and array.size else ""
        raise InvalidData(f"expected {name} of shape {wanted}, got shape {array.shape}{hint}")
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InvalidData(f"expected finite {name}, got NaN or infinity in row {row}: impute or drop it first")
    return array


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
