"""What models that are sums of terms share: the values of their terms, and the best cut of a shape into pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from locum.core.errors import InvalidData

__all__ = ["Fitted", "fit_values", "leading_direction", "pieces", "standardised"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_NEWTON_STEPS = 200
_SHORTEST = 2.0**-30
_MOST_PRODUCTS = 1_000_000  # for which the Hessian of three and more classes is worth writing down


@dataclass(frozen=True)
class Fitted:
    """Values of the parameters, and what the loss looks like around them.

    Attributes
    ----------
    theta : ndarray of shape (p, k)
    loss : float
        With the penalty.
    residual : ndarray of shape (n, k)
        Weighted: minus the slope of the loss in the scores.
    curvature : ndarray of shape (n,)
        Weighted; see `_curvature`.
    inverse : ndarray of shape (p, p)
        Of the penalised Hessian that the curvature gives.
    """

    theta: _FLOAT
    loss: float
    residual: _FLOAT
    curvature: _FLOAT
    inverse: _FLOAT


def fit_values(X: _FLOAT, Y: _FLOAT, weights: _FLOAT, penalty: _FLOAT, *, soft: bool, offset: _FLOAT | None = None) -> Fitted:
    r"""Minimise :math:`\sum_i w_i \ell(y_i, o_i + x_i \theta) + \frac12 \sum_r \lambda_r \lVert\theta_r\rVert^2`.

    The loss is the cross-entropy of a softmax (`soft`) or half the squared error. The problem is convex and every parameter
    is penalised, so Newton's method, damped, ends at the one minimum.

    Parameters
    ----------
    X : ndarray of shape (n, p)
    Y : ndarray of shape (n, k)
    weights : ndarray of shape (n,)
        Their sum is one.
    penalty : ndarray of shape (p,)
        Positive.
    soft : bool
    offset : ndarray of shape (n, k) or None, default=None
        Scores from which the parameters are counted; zero where None.

    Raises
    ------
    InvalidData
        The ridge is so small that the numbers run away.
    """
    if soft:
        # Moving all scores together changes nothing, so what rounding leaves in that direction would never settle.
        Y = Y / Y.sum(axis=1, keepdims=True)
    try:
        return _newton(X, Y, weights, penalty, soft, offset)
    except np.linalg.LinAlgError as error:
        raise InvalidData("the values of the terms are lost in rounding; raise ridge=") from error


def _newton(X: _FLOAT, Y: _FLOAT, weights: _FLOAT, penalty: _FLOAT, soft: bool, offset: _FLOAT | None) -> Fitted:
    theta = np.zeros((X.shape[1], Y.shape[1]))
    F = np.zeros(Y.shape) if offset is None else offset
    loss = _loss(F, Y, weights, soft)
    for _ in range(_NEWTON_STEPS):
        P = softmax(F) if soft else F
        residual, curvature = weights[:, None] * (Y - P), _curvature(P, weights, soft)
        descent = X.T @ residual - penalty[:, None] * theta
        factor = cho_factor(X.T @ (curvature[:, None] * X) + np.diag(penalty))
        step = cho_solve(factor, descent)
        if soft and Y.shape[1] > 2:
            few = len(X) * theta.size**2 <= _MOST_PRODUCTS
            step = _solved(X, P, weights, penalty, descent) if few else _iterated(X, P, weights, penalty, descent, factor)
        promised = float((step * descent).sum())
        if promised <= 1e-20:
            return Fitted(theta, loss, residual, curvature, cho_solve(factor, np.eye(len(theta))))
        F_step, length = X @ step, 1.0
        while length >= _SHORTEST:
            tried = theta + length * step
            then = _loss(F + length * F_step, Y, weights, soft) + 0.5 * float(penalty @ (tried**2).sum(axis=1))
            # Near the minimum the loss no longer tells neighbours apart, while Newton's step is then at its best.
            if then <= loss + 1e-14 * (1 + abs(loss)):
                break
            length /= 2
        theta, F, loss = tried, F + length * F_step, then
    raise InvalidData(f"the values of the terms did not settle in {_NEWTON_STEPS} steps; raise ridge=")


def softmax(F: _FLOAT) -> _FLOAT:
    """Scores (n, k) as probabilities."""
    raised = np.exp(F - F.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _loss(F: _FLOAT, Y: _FLOAT, weights: _FLOAT, soft: bool) -> float:
    if not soft:
        return float(weights @ ((Y - F) ** 2).sum(axis=1)) / 2
    top = F.max(axis=1)
    mass = top + np.log(np.exp(F - top[:, None]).sum(axis=1))
    return float(weights @ (mass - (Y * F).sum(axis=1)))


def _curvature(P: _FLOAT, weights: _FLOAT, soft: bool) -> _FLOAT:
    """One weighted number a row for the Hessian in its scores, shape (n,).

    Exact for values and for two classes; for more, the mean over the k-1 directions in which scores matter.
    """
    if not soft:
        return weights
    return weights * np.maximum((P * (1 - P)).sum(axis=1) / (P.shape[1] - 1), 1e-12)


def _solved(X: _FLOAT, P: _FLOAT, weights: _FLOAT, penalty: _FLOAT, descent: _FLOAT) -> _FLOAT:
    """Newton's step for three and more classes, from the whole Hessian."""
    p, k = descent.shape
    shares = (X[:, :, None] * P[:, None, :]).reshape(len(X), p * k)
    hessian = -(shares.T @ (weights[:, None] * shares)).reshape(p, k, p, k)
    for c in range(k):
        hessian[:, c, :, c] += X.T @ ((weights * P[:, c])[:, None] * X) + np.diag(penalty)
    return cho_solve(cho_factor(hessian.reshape(p * k, p * k)), descent.ravel()).reshape(p, k)


def _iterated(X: _FLOAT, P: _FLOAT, weights: _FLOAT, penalty: _FLOAT, descent: _FLOAT, factor: tuple[_FLOAT, bool]) -> _FLOAT:
    """The same by conjugate gradients, with the mean curvature as preconditioner, where the Hessian would be large."""
    shape, size = descent.shape, descent.size

    def hessian(v: _FLOAT) -> _FLOAT:
        V = v.reshape(shape)
        moved = P * (X @ V)
        moved -= P * moved.sum(axis=1, keepdims=True)
        return (X.T @ (weights[:, None] * moved) + penalty[:, None] * V).ravel()

    found, _ = cg(
        LinearOperator((size, size), matvec=hessian, dtype=float),
        descent.ravel(),
        rtol=float(np.clip(np.sqrt(np.linalg.norm(descent)), 1e-8, 0.1)),  # exact only where it pays, near the minimum
        maxiter=10 * size,
        M=LinearOperator((size, size), matvec=lambda v: cho_solve(factor, v.reshape(shape)).ravel(), dtype=float),
    )
    return found.reshape(shape)


# ---------------------------------------------------------------------- shapes
def pieces(values: _FLOAT, mass: _FLOAT, share: _FLOAT, most: int, least: float) -> tuple[_FLOAT, list[_INT]]:
    """The best cut of a sequence into 1, 2, ... `most` runs, each answered by its mean (Fisher 1958).

    Parameters
    ----------
    values : ndarray of shape (b, k)
    mass : ndarray of shape (b,)
        What a squared error counts.
    share : ndarray of shape (b,)
    most : int
    least : float
        Least share of a run.

    Returns
    -------
    costs : ndarray of shape (m,)
        Weighted squared error with 1 to m runs; m is less than `most` where no more are allowed or needed.
    starts : list of ndarray
        Where the runs start, for each number of runs.
    """
    b = len(values)
    M, Q, W = (np.append(0.0, np.cumsum(a)) for a in (mass, mass * (values**2).sum(axis=1), share))
    run_mass = M[None, :] - M[:, None]
    cost = Q[None, :] - Q[:, None]
    for column in values.T:
        S = np.append(0.0, np.cumsum(mass * column))
        cost -= (S[None, :] - S[:, None]) ** 2 / np.where(run_mass > 0, run_mass, 1.0)
    position = np.arange(b + 1)
    allowed = (position[None, :] > position[:, None]) & (W[None, :] - W[:, None] >= least * (1 - 1e-9))
    cost = np.where(allowed, np.maximum(cost, 0.0), np.inf)
    cost[0, b] = max(Q[b] - ((mass @ values) ** 2).sum() / max(M[b], 1e-300), 0.0)  # one run is always allowed
    reached, costs, starts, back = cost[0].copy(), [float(cost[0, b])], [np.zeros(1, dtype=np.intp)], []
    while len(costs) < min(most, b) and costs[-1] > 1e-12 * costs[0]:
        total = reached[:, None] + cost
        back.append(total.argmin(axis=0))
        reached = total[back[-1], position]
        if not np.isfinite(reached[b]):
            break
        found = [b]
        for step in reversed(back):
            found.append(int(step[found[-1]]))
        costs.append(float(reached[b]))
        starts.append(np.array([0, *found[:0:-1]], dtype=np.intp))
    return np.array(costs), starts


def leading_direction(values: _FLOAT, mass: _FLOAT) -> _FLOAT:
    """Values (b, k) along the direction in which they vary most, shape (b,)."""
    if values.shape[1] == 1:
        return values[:, 0]
    centred = values - mass @ values / mass.sum()
    _, vectors = np.linalg.eigh((centred * mass[:, None]).T @ centred)
    leading = vectors[:, -1]
    return centred @ (leading * np.sign(leading[np.argmax(np.abs(leading))]))


def standardised(Y: _FLOAT, weights: _FLOAT) -> tuple[_FLOAT, float, float]:
    """Values (n, 1) with mean zero and spread one, and the mean and spread they had."""
    top = float(np.abs(Y).max()) or 1.0
    mean = float(weights @ Y[:, 0] / top / weights.sum())
    spread = float(np.sqrt(weights @ (Y[:, 0] / top - mean) ** 2 / weights.sum()))
    spread = spread if spread > 1e-12 else 1.0
    return (Y / top - mean) / spread, mean * top, spread * top
