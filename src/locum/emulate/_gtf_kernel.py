"""The forward and the reverse pass over windows under forcing, as loops that numba compiles.

Automatic differentiation of some hundred small steps costs ten times as much as computing them; here both passes are fused, and
nothing is kept but states and the arguments of the rectifiers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import need

__all__ = ["backward", "forward"]

Array = NDArray[np.floating[Any]]

_FAST = {"reassoc", "contract", "nsz"}  # sums may be taken in any order; NaN and infinity stay what they are


def forward(A: Array, W: Array, P: Array, o: Array, c: Array, offset: Array, signal: Array, kept: Array) -> tuple[Array, ...]:
    """States under forcing and what was said before it.

    Parameters
    ----------
    A : ndarray of shape (M,)
    W : ndarray of shape (M, L)
    P : ndarray of shape (L, M)
    o : ndarray of shape (J, L)
    c : ndarray of shape (J,)
    offset : ndarray of shape (T, S, M)
        What is added in each step: h and inputs.
    signal : ndarray of shape (T + 1, S, M)
        Forcing signals, the first of them the first state.
    kept : ndarray of shape (T, M)
        One less the share of forcing.

    Returns
    -------
    tuple of ndarray of shape (T + 1, S, M), (T, S, M) and (T, S, L)
        States, what was said of them, and P z.
    """
    T, S, M = offset.shape
    states, said = np.empty((T + 1, S, M), offset.dtype), np.empty((T, S, M), offset.dtype)
    u = np.empty((T, S, len(P)), offset.dtype)
    states[0] = signal[0]
    _compiled()[0](A, W, np.ascontiguousarray(P.T), o, c, offset, signal, kept, states, said, u)
    return states, said, u


def backward(
    A: Array, W: Array, P: Array, o: Array, c: Array, pull: Array, kept: Array, states: Array, u: Array
) -> dict[str, Array]:
    """Gradients from those of what was said, `pull` of shape (T, S, M).

    Returns
    -------
    dict of str to ndarray
        Of "A", "W", "P", "o", "c", of each "offset" (T, S, M), and of the "first" state (S, M).
    """
    shapes = {"A": A, "W": W, "P": P.T, "o": o, "c": c, "offset": pull, "first": pull[0]}
    out = {name: np.zeros(like.shape, pull.dtype) for name, like in shapes.items()}
    _compiled()[1](A, W, P, o, c, pull, kept, states, u, *out.values())
    out["P"] = out["P"].T
    return out


@lru_cache(maxsize=1)
def _compiled() -> tuple[Any, Any]:
    numba = need("numba", "training a piecewise-linear network", "emulate")
    compile_ = numba.njit(fastmath=_FAST, cache=True, error_model="numpy")
    return compile_(_forward), compile_(_backward)


def _forward(A, W, PT, o, c, offset, signal, kept, states, said, u):
    T, S, M = offset.shape
    J, L = o.shape
    phi = np.empty(L, offset.dtype)
    for t in range(T):
        for s in range(S):
            z, v = states[t, s], u[t, s]
            v[:] = 0
            for m in range(M):
                for i in range(L):
                    v[i] += PT[m, i] * z[m]
            phi[:] = 0
            for j in range(J):
                for i in range(L):
                    phi[i] += c[j] * max(v[i] + o[j, i], offset.dtype.type(0))
            for m in range(M):
                total = A[m] * z[m] + offset[t, s, m]
                for i in range(L):
                    total += W[m, i] * phi[i]
                said[t, s, m] = total
                states[t + 1, s, m] = kept[t, m] * total + (1 - kept[t, m]) * signal[t + 1, s, m]


def _backward(A, W, P, o, c, pull, kept, states, u, gA, gW, gPT, go, gc, g_offset, g):
    T, S, M = pull.shape
    J, L = o.shape
    phi, slope, back = np.empty(L, pull.dtype), np.empty(L, pull.dtype), np.empty(L, pull.dtype)
    for t in range(T - 1, -1, -1):
        for s in range(S):
            z, v = states[t, s], u[t, s]
            now = g_offset[t, s]
            back[:] = 0
            for m in range(M):
                now[m] = kept[t, m] * g[s, m] + pull[t, s, m]
                for i in range(L):
                    back[i] += now[m] * W[m, i]
            phi[:] = 0
            slope[:] = 0
            for j in range(J):
                total = pull.dtype.type(0)
                for i in range(L):
                    over = v[i] + o[j, i]
                    on = pull.dtype.type(1) if over > 0 else pull.dtype.type(0)
                    phi[i] += c[j] * on * over
                    slope[i] += c[j] * on
                    go[j, i] += c[j] * on * back[i]
                    total += on * over * back[i]
                gc[j] += total
            for i in range(L):
                back[i] *= slope[i]
            for m in range(M):
                gA[m] += now[m] * z[m]
                total = A[m] * now[m]
                for i in range(L):
                    gW[m, i] += now[m] * phi[i]
                    gPT[m, i] += back[i] * z[m]
                    total += back[i] * P[i, m]
                g[s, m] = total
