"""Wide tables, with far more columns than a reader can take in: gene expression, spectra, planted noise, radio signals."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.datasets._tables import _data_folder

__all__ = ["WIDE", "Wide", "load_wide"]

_FLOAT = NDArray[np.float64]
_SKFEATURE = "https://github.com/jundongl/scikit-feature"
_UJI = "https://github.com/AwesomeDeepAI/DeepExplainHidim"
_MATLAB = {  # name: rows, columns
    "ALLAML": (72, 7129),
    "GLIOMA": (50, 4434),
    "Prostate-GE": (102, 5966),
    "arcene": (200, 10000),
    "colon": (62, 2000),
    "leukemia": (72, 7070),
    "lung_small": (73, 325),
    "lymphoma": (96, 4026),
    "madelon": (2600, 500),
    "nci9": (60, 9712),
}
WIDE = (*_MATLAB, "ujiindoorloc")
# The 20 columns that the classes of madelon are made of; each goes with another of them, and no other column does.
_MADELON = (28, 48, 64, 105, 128, 153, 241, 281, 318, 336, 338, 378, 433, 442, 451, 453, 455, 472, 475, 493)
_SIGNALS, _NOT_HEARD, _FAINTEST = 520, 100.0, -105.0
_FILES = ("trainingData.csv", "validationData.csv")
_COLUMNS = 529


@dataclass(frozen=True, eq=False)
class Wide:
    """A wide table.

    Parameters
    ----------
    name : str
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,)
        Labels.
    names : tuple of str
        Of the columns.
    relevant : ndarray of bool, shape (d,), or None
        Which columns have to do with the labels, where that is known.
    groups : ndarray of shape (n,) or None
        Rows of one group are alike and belong on one side of a split: the user who measured, for radio signals.
    held_out : ndarray of bool, shape (n,), or None
        Rows that were collected separately, to test on.
    source, licence : str
    repairs : tuple of str
        What was changed or left out, and why.
    """

    name: str
    X: _FLOAT
    y: NDArray[Any]
    names: tuple[str, ...]
    relevant: NDArray[np.bool_] | None
    groups: NDArray[Any] | None
    held_out: NDArray[np.bool_] | None
    source: str
    licence: str
    repairs: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.y)


def load_wide(name: str, *, path: Any = None, target: str = "building") -> Wide:
    """Read a wide table from a file; nothing is downloaded.

    Parameters
    ----------
    name : str
        One of `WIDE`: gene expression (``ALLAML``, ``GLIOMA``, ``Prostate-GE``, ``colon``, ``leukemia``, ``lung_small``,
        ``lymphoma``, ``nci9``), mass spectra (``arcene``), 20 columns among 480 of noise (``madelon``), radio signals
        (``ujiindoorloc``).
    path : path or None, default=None
        The ``.mat`` file; for radio signals the folder that holds ``trainingData.csv`` and ``validationData.csv``. Where None,
        looked for in the folders ``skfeature`` and ``ujiindoorloc`` of the one that the environment variable LOCUM_DATA names.
    target : {"building", "building and floor"}, default="building"
        What to tell apart in ``ujiindoorloc``; position, floor and building are never among its columns.

    Raises
    ------
    InvalidData
        No such table, no such file, or a file other than the one known.
    """
    if name not in WIDE:
        raise InvalidData(f"there is no wide table {name!r}; those known are {', '.join(WIDE)}")
    if target not in ("building", "building and floor"):
        raise InvalidData(f"expected target= to be 'building' or 'building and floor', got {target!r}")
    if name == "ujiindoorloc":
        return _signals(_found(path, "ujiindoorloc", name, _UJI, _FILES), target)
    file = f"{name}.mat"
    folder = _found(None if path is None else Path(path).parent, "skfeature", name, _SKFEATURE, (Path(path or file).name,))
    return _matlab(name, folder / Path(path or file).name)


def _found(path: Any, folder: str, name: str, source: str, files: tuple[str, ...]) -> Path:
    """The folder that holds the files."""
    described = {"folder": folder, "source": source, "files": [{"path": files[0]}]}
    place = _data_folder(name, described) if path is None else Path(path)
    for file in files:
        if not (place / file).is_file():
            raise InvalidData(f"expected the table {name!r} in {place / file}, and there is no such file; get it from {source}")
    return place


def _matlab(name: str, path: Path) -> Wide:
    from scipy.io import loadmat

    try:
        found = loadmat(path)
        X, y = np.asarray(found["X"], dtype=float), np.asarray(found["Y"]).ravel().astype(int)
    except (KeyError, TypeError, ValueError, NotImplementedError) as error:
        raise InvalidData(f"{path} is not the table {name!r}: expected a MATLAB file with X and Y ({error})") from error
    if X.shape != _MATLAB[name] or len(y) != len(X):
        raise InvalidData(f"expected {name} as {_MATLAB[name][0]} rows of {_MATLAB[name][1]} columns, got shape {X.shape}")
    relevant = np.isin(np.arange(X.shape[1]), _MADELON) if name == "madelon" else None
    names = tuple(f"x{j}" for j in range(X.shape[1]))
    return Wide(name, X, y, names, relevant, None, None, _SKFEATURE, "public; cite the feature selection repository", ())


def _signals(folder: Path, target: str) -> Wide:
    parts = []
    for file in _FILES:
        with (folder / file).open(newline="", encoding="utf-8") as lines:
            header = next(csv.reader(lines))
            if len(header) != _COLUMNS or header[_SIGNALS : _SIGNALS + 4] != ["LONGITUDE", "LATITUDE", "FLOOR", "BUILDINGID"]:
                raise InvalidData(f"{folder / file} is not the table 'ujiindoorloc': expected {_COLUMNS} columns, WAP001 first")
            parts.append(np.loadtxt(lines, delimiter=",", ndmin=2))
    table = np.concatenate(parts)
    X = np.where(table[:, :_SIGNALS] == _NOT_HEARD, _FAINTEST, table[:, :_SIGNALS])
    floor, building, user = table[:, _SIGNALS + 2].astype(int), table[:, _SIGNALS + 3].astype(int), table[:, _SIGNALS + 6]
    y = building if target == "building" else np.array([f"{b}/{f}" for b, f in zip(building, floor, strict=True)])
    held_out = np.arange(len(table)) >= len(parts[0])
    repairs = (
        "a signal that was not heard, coded 100, is -105, below the faintest one heard",
        "longitude, latitude, floor, space, phone and time are left out, since they tell the building",
    )
    # Nobody is named in the rows collected separately; all of them are user 0 there.
    return Wide(
        "ujiindoorloc", X, y, tuple(header[:_SIGNALS]), None, user.astype(int), held_out, _UJI,
        "CC BY 4.0 (UCI Machine Learning Repository)", repairs,
    )  # fmt: skip
