"""What an online trainer learned: fields of runs at once, or one step after the other."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import OutsideRegion, require_whole
from locum.core.region import Region
from locum.emulate._online_records import Units
from locum.emulate.exported import Exports
from locum.emulate.stepper import Steps

__all__ = ["DirectField", "FieldStepper"]

Array = NDArray[np.floating[Any]]


class _LearnedField:
    region: Region | None
    shown: list[int]

    def _taken(self, P: Any) -> Array:
        """The parameters that the network gets, of rows (n, k); those beyond the ones trained on are warned of."""
        rows = np.atleast_2d(np.asarray(P, dtype=float))[:, self.shown]
        beyond = np.zeros(0, dtype=bool) if self.region is None else ~self.region.in_range(rows)
        if self.region is not None and beyond.any():
            why = "; ".join(self.region.reasons(rows[beyond][:1])[0])
            warnings.warn(
                f"{beyond.sum()} of {len(rows)} rows of parameters lie outside those trained on: {why}", OutsideRegion,
                stacklevel=3,
            )  # fmt: skip
        return rows


@dataclass(frozen=True, eq=False)
class DirectField(_LearnedField, Exports):
    """Fields at any step of a run, from its parameters at once; parameters outside those trained on are warned of.

    Attributes
    ----------
    network : torch.nn.Module
    units : Units
    shown : list of int
        Parameters that it gets.
    device : torch.device or str
    inputs : tuple of int
        Shape of what the network gets for one row.
    region : Region or None
        Of those parameters; None where it gets none.
    """

    network: Any
    units: Units
    shown: list[int]
    device: Any
    inputs: tuple[int, ...]
    region: Region | None

    def predict(self, P: ArrayLike, steps: ArrayLike | None = None) -> Array:
        """Fields of runs, shape (n, number of steps, *field).

        Parameters
        ----------
        P : array-like of shape (n, k)
        steps : array-like of int or None, default=None
            Which, the first being 0; all where None.
        """
        from locum.emulate import _online_networks as networks

        rows = self._taken(P)
        at = np.arange(self.units.n_steps) if steps is None else np.atleast_1d(np.asarray(steps, dtype=int))
        inputs = self.units.at(np.repeat(rows, len(at), axis=0), np.tile(at, len(rows)))
        said = networks.said_by(self.network, inputs, self.device)
        return self.units.fields(said).reshape(len(rows), len(at), *said.shape[1:])

    def to_module(self) -> tuple[Any, dict[str, Any]]:
        """See `Exports`: from "parameters" (n, k + 1), those it gets and the number of a step, to fields (n, *field)."""
        from locum.emulate._exported_modules import ScaledNetwork, some_rows

        units, half = self.units, self.units.n_steps / 2
        shift, spread = np.append(units.p_mean, half - 1), np.append(units.p_scale, half)
        module = ScaledNetwork(self.network, shift=shift, spread=spread, mean=units.mean, scale=units.scale)
        return module, {"parameters": some_rows(len(self.shown) + 1)}


@dataclass(frozen=True, eq=False)
class FieldStepper(_LearnedField, Steps, Exports):
    """Fields one step later, from the last ones and parameters; the attributes are those of `DirectField`."""

    network: Any
    units: Units
    shown: list[int]
    device: Any
    inputs: tuple[int, ...]
    region: Region | None

    def step(self, z: ArrayLike, p: ArrayLike | None = None) -> Array:
        """Fields (n, C, *grid) one step later, at parameters (n, k), or (k,) for all."""
        return self._next(np.asarray(z, dtype=float), self._taken([] if p is None else p))

    def _next(self, u: Array, rows: Array) -> Array:
        from locum.emulate import _online_networks as networks

        inputs = self.units.with_constants(u, np.broadcast_to(rows, (len(u), rows.shape[1])))
        return self.units.fields(networks.said_by(self.network, inputs, self.device))

    def rollout(self, z0: ArrayLike, n_steps: int, p: ArrayLike | None = None) -> Array:
        """Fields after 1, 2, ... steps, shape (n_steps, n, C, *grid).

        Parameters
        ----------
        z0 : array-like of shape (n, C, *grid)
        n_steps : int
        p : array-like of shape (n, k) or (k,), default=None
            Not to be left out where the network gets parameters.
        """
        require_whole(1, n_steps=n_steps)
        out, rows = [np.asarray(z0, dtype=float)], self._taken([] if p is None else p)
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(n_steps):
                out.append(self._next(out[-1], rows))
        return np.stack(out[1:])

    def to_module(self) -> tuple[Any, dict[str, Any]]:
        """See `Exports`: from "fields" (n, C, *grid) and "parameters" (n, k), those it gets, to the next fields."""
        from locum.emulate._exported_modules import ConstantFieldStep, some_rows

        units, (channels, *grid) = self.units, self.inputs
        numbers = {"mean": units.mean, "scale": units.scale, "shift": units.p_mean, "spread": units.p_scale}
        module = ConstantFieldStep(self.network, **numbers)
        k = len(self.shown)
        return module, {"fields": some_rows(channels - k, *grid), "parameters": some_rows(k)}
