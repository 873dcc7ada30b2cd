"""Cars of DrivAerNet as a table: what each was morphed by, and the drag and lift that a flow solver gave."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from locum.core.errors import InvalidData, require_one_of, require_positive
from locum.datasets._tables import _data_folder

__all__ = ["DrivAerNet", "load_drivaernet"]

_SOURCE = "https://github.com/Mohamedelrefaie/DrivAerNet"
_TABLE = "DrivAerNet_ParametricData.csv"
_SPLITS = ("train", "val", "test")
_TARGETS = {"drag": "Average Cd", "lift": "Average Cl"}


@dataclass(frozen=True, eq=False)
class DrivAerNet:
    """Cars, each with its parameters, and means over the last steps of a simulation.

    Parameters
    ----------
    names : tuple of str
        Of the cars, such as "F_S_WWC_WM_070".
    kinds : ndarray of str of shape (n,)
        Body, underbody, wheels and mirrors, such as "F_S_WWC_WM".
    parameters : ndarray of shape (n, 23)
        Lengths in mm, angles in degrees.
    columns : tuple of str
        Names of the parameters.
    drag, drag_spread, lift, lift_spread : ndarray of shape (n,)
        Coefficients, and their standard deviations within a simulation.
    part : ndarray of str of shape (n,)
        The official split: "train", "val", "test", or "" where a car is in none.
    source : str, default="https://github.com/Mohamedelrefaie/DrivAerNet"
    licence : str, default="CC BY-NC 4.0"
    """

    names: tuple[str, ...]
    kinds: NDArray[np.str_]
    parameters: NDArray[np.float64]
    columns: tuple[str, ...]
    drag: NDArray[np.float64]
    drag_spread: NDArray[np.float64]
    lift: NDArray[np.float64]
    lift_spread: NDArray[np.float64]
    part: NDArray[np.str_]
    source: str = _SOURCE
    licence: str = "CC BY-NC 4.0"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def bodies(self) -> NDArray[np.str_]:
        """E (estate), F (fastback) or N (notchback), shape (n,)."""
        return np.array([kind[0] for kind in self.kinds])

    def row(self, i: int) -> dict[str, float]:
        """The parameters of one car by name."""
        return dict(zip(self.columns, self.parameters[i].tolist(), strict=True))

    def rows_of(self, part: str) -> NDArray[np.intp]:
        """Rows of a part of the official split.

        Parameters
        ----------
        part : {"train", "val", "test"}
        """
        require_one_of(_SPLITS, part=part)
        return np.flatnonzero(self.part == part)

    def parents(self, radius: float = 1.0) -> NDArray[np.intp]:
        """A number for each car that is shared by near duplicates, shape (n,), whatever their body and wheels.

        Many designs were simulated with several wheels and bodies: the official split has them on both sides.

        Parameters
        ----------
        radius : float, default=1.0
            Distance of standardised parameters that links two cars; two at random are some 6 apart.
        """
        require_positive(radius=radius)
        scaled = (self.parameters - self.parameters.mean(axis=0)) / self.parameters.std(axis=0)
        pairs = KDTree(scaled).query_pairs(radius, output_type="ndarray")
        links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(self), len(self)))
        return np.asarray(connected_components(links, directed=False)[1])


def load_drivaernet(path: Any = None) -> DrivAerNet:
    """Read the table of DrivAerNet and its official split from files; nothing is downloaded.

    Parameters
    ----------
    path : path or None, default=None
        The folder that holds ``DrivAerNet_ParametricData.csv`` and ``train_design_ids.txt`` and the like, each as it is or with
        ``.gz``. Where None, the folder ``drivaernet`` of the one that the environment variable LOCUM_DATA names.

    Raises
    ------
    InvalidData
        No such files, or files other than those known.

    References
    ----------
    Elrefaie, Dai and Ahmed, *DrivAerNet: A Parametric Car Dataset for Data-Driven Aerodynamic Design and Graph-Based Drag
    Prediction*, arXiv 2403.08055.
    """
    described = {"folder": "drivaernet", "source": _SOURCE, "files": [{"path": _TABLE}]}
    folder = _data_folder("drivaernet", described) if path is None else Path(path)
    lines = list(csv.reader(_read(folder, _TABLE)))
    header, rows = lines[0], lines[1:]
    wanted = [f"{what}{name.removeprefix('Average')}" for name in _TARGETS.values() for what in ("Average", "Std")]
    if header[:1] != ["Experiment"] or not set(wanted) <= set(header) or not rows or any(len(r) != len(header) for r in rows):
        raise InvalidData(f"{folder / _TABLE} is not the table of DrivAerNet: expected a column Experiment first, and {wanted}")
    names = tuple(row[0] for row in rows)
    columns = tuple(header[1 : header.index(_TARGETS["drag"])])
    try:
        table = np.array([row[1:] for row in rows], dtype=float)
    except ValueError as error:
        raise InvalidData(f"{folder / _TABLE} is not the table of DrivAerNet: {error}") from error
    drag, drag_spread, lift, lift_spread = (table[:, header.index(name) - 1] for name in wanted)
    return DrivAerNet(
        names, np.array([name.rpartition("_")[0] for name in names]), table[:, : len(columns)], columns, drag, drag_spread,
        lift, lift_spread, _parts(folder, names),
    )  # fmt: skip


def _read(folder: Path, name: str) -> list[str]:
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        return plain.read_text(encoding="utf-8").splitlines()
    if packed.is_file():
        with gzip.open(packed, "rt", encoding="utf-8") as opened:
            return opened.read().splitlines()
    raise InvalidData(f"expected the table 'drivaernet' in {plain}, or with .gz, and found no file; get it from {_SOURCE}")


def _parts(folder: Path, names: tuple[str, ...]) -> NDArray[np.str_]:
    at = {name: i for i, name in enumerate(names)}
    part = np.full(len(names), "", dtype="<U5")
    for one in _SPLITS:
        rows = [at[name] for name in (line.strip() for line in _read(folder, f"{one}_design_ids.txt")) if name in at]
        if not rows:
            raise InvalidData(f"none of the designs in {folder / one}_design_ids.txt are in the table")
        part[rows] = one
    return part
