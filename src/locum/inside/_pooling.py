"""One vector a prompt from the states of several layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_one_of, require_whole

__all__ = ["POOLS", "pool_states"]

POOLS = ("kmeans_sum", "mean", "last")
_MOST, _CHUNK = 1000, 512  # rounds of k-means, and prompts at a time


def pool_states(
    states: ArrayLike, pool: str = "kmeans_sum", *, n_clusters: int = 5, random_state: int = 0
) -> NDArray[np.float32]:
    """Layers made one, shape (n, width); rows that are one already stay as they are.

    Parameters
    ----------
    states : array-like of shape (n, layers, width) or (n, width)
    pool : {"kmeans_sum", "mean", "last"}, default="kmeans_sum"
        The sum of the centres of clusters of layers, so that a cluster counts alike whatever its size; the mean of layers; the
        last layer.
    n_clusters : int, default=5
    random_state : int, default=0
        Of the layers that are the first centres, the same ones for all prompts.

    Raises
    ------
    InvalidData
        States that are not finite, or of another shape, or of fewer layers than clusters.

    Notes
    -----
    Cost: about 0.1 ms a prompt of 16 layers 576 wide.
    """
    require_one_of(POOLS, pool=pool)
    require_whole(1, n_clusters=n_clusters)
    table = np.asarray(states, dtype=np.float32)
    if table.ndim not in (2, 3) or not table.size:
        raise InvalidData(f"expected states of shape (n, layers, width) or (n, width), got {table.shape}")
    if not np.isfinite(table).all():
        raise InvalidData("expected finite states, got NaN or infinity")
    if table.ndim == 2:
        return table
    if pool == "mean":
        return np.asarray(table.mean(axis=1))
    if pool == "last":
        return table[:, -1]
    if table.shape[1] < n_clusters:
        raise InvalidData(
            f"expected states of at least n_clusters={n_clusters} layers, got {table.shape[1]}; read more or ask for fewer"
        )
    first = _first_centres(len(table), table.shape[1], n_clusters, random_state)
    parts = [_centres(table[i : i + _CHUNK], first[i : i + _CHUNK]).sum(axis=1) for i in range(0, len(table), _CHUNK)]
    return np.concatenate(parts).astype(np.float32)


def _first_centres(n: int, layers: int, clusters: int, random_state: int) -> NDArray[np.int64]:
    """Layers to begin with. The same for all prompts, so that the pool of one does not rest on its place in the table."""
    chosen = np.random.default_rng([random_state, 1]).permutation(layers)[:clusters]
    return np.tile(chosen, (n, 1))


def _centres(x: NDArray[np.float32], first: NDArray[np.int64]) -> NDArray[Any]:
    """Lloyd's algorithm for each prompt, all at once; a cluster that loses its last layer keeps its centre."""
    centres = np.take_along_axis(x, first[:, :, None], axis=1)
    squares, before = (x**2).sum(axis=2), np.full(x.shape[:2], -1)
    for _ in range(_MOST):
        far = squares[:, :, None] - 2 * x @ centres.transpose(0, 2, 1) + (centres**2).sum(axis=2)[:, None]
        nearest = far.argmin(axis=2)
        if (nearest == before).all():
            break
        before = nearest
        member = (nearest[:, :, None] == np.arange(centres.shape[1])).astype(np.float32)
        size = member.sum(axis=1)[:, :, None]
        centres = np.where(size > 0, member.transpose(0, 2, 1) @ x / np.maximum(size, 1), centres)
    return centres
