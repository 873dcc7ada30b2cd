"""Dataset: one table with what is known about it, and a split in which no row is on two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from locum.core._content import Rows
from locum.core.domain import Domain
from locum.core.errors import InvalidData

__all__ = ["Dataset", "Part", "Parts"]


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a table.

    Parameters
    ----------
    X : pandas DataFrame of shape (n, d)
    y : ndarray of shape (n,)
    """

    X: Any
    y: NDArray[Any]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Parts:
    """A table in three parts that share no row.

    Parameters
    ----------
    train : Part
        For the black box.
    ask : Part
        What a stand-in may ask the black box about.
    score : Part
        Fresh rows, to measure fidelity on.
    """

    train: Part
    ask: Part
    score: Part


@dataclass(frozen=True, eq=False)
class Dataset:
    """One table, ready for a black box and its stand-in.

    Parameters
    ----------
    name, title : str
    task : {"classification", "regression"}
    X : pandas DataFrame of shape (n, d)
        Numbers as int64 or float64, missing ones NaN; categories as pandas categories, by name.
    y : ndarray of shape (n,)
        Names of classes (whole numbers for the digits), or floats.
    target : str
        What `y` is.
    domain : Domain
        The columns, with all levels and ranges of the table; constant columns are kept.
    units : mapping of str to str
        Unit of a column, or of the target, where the source gives one.
    source, licence : str
    repairs : tuple of str
        What was changed or left out, and why.
    """

    name: str
    title: str
    task: Literal["classification", "regression"]
    X: Any
    y: NDArray[Any]
    target: str
    domain: Domain
    units: Mapping[str, str]
    source: str
    licence: str
    repairs: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", MappingProxyType(dict(self.units)))

    def __len__(self) -> int:
        return len(self.y)

    def __str__(self) -> str:
        missing = " with missing values" if any(column.missing for column in self.domain.columns) else ""
        categorical = int(self.domain.categorical.sum())
        lines = [
            f"{self.name}: {self.title}",
            f"{len(self)} rows of {len(self.domain)} columns, {categorical} of them categorical{missing}",
            f"{self.task}: {self.target}" + (f", {len(self.classes)} classes" if self.classes is not None else ""),
            f"source: {self.source}",
            f"licence: {self.licence}",
        ]
        return "\n".join(lines + [f"repaired: {repair}" for repair in self.repairs])

    @property
    def classes(self) -> NDArray[Any] | None:
        """The classes, sorted; None for a regression."""
        return np.unique(self.y) if self.task == "classification" else None

    def split(self, random_state: int = 0, *, shares: Sequence[float] = (0.4, 0.3, 0.3)) -> Parts:
        """Three parts at random: to train a black box, to ask it about, and fresh rows to score on.

        Equal rows stay together, whatever their labels, so that no row of one part is known from another. Classes come in
        the same shares in each part, as far as their rows go.

        Parameters
        ----------
        random_state : int, default=0
        shares : sequence of three floats, default=(0.4, 0.3, 0.3)
            Share of the rows in each part, adding up to one.

        Raises
        ------
        InvalidData
            Not three positive shares that add up to one, or a part left without rows.
        """
        if len(shares) != 3 or min(shares) <= 0 or not np.isclose(sum(shares), 1):
            raise InvalidData(f"expected three positive shares that add up to one, got {tuple(shares)}")
        keys = Rows(self.domain.encode(self.X)).keys
        side = _sides(keys, self.y if self.task == "classification" else None, shares, random_state)
        rows = [np.flatnonzero(side == part) for part in range(3)]
        if min(map(len, rows)) == 0:
            raise InvalidData(f"the {len(self)} rows of {self.name} leave a part empty with shares {tuple(shares)}")
        return Parts(*(Part(self.X.iloc[part].reset_index(drop=True), self.y[part]) for part in rows))


def _sides(keys: Sequence[bytes], labels: Any, shares: Sequence[float], random_state: int) -> NDArray[np.intp]:
    """The part of each row, shape (n,), equal keys in equal parts."""
    place: dict[bytes, int] = {}
    group = np.array([place.setdefault(key, len(place)) for key in keys])
    first = np.unique(group, return_index=True)[1]
    size = np.bincount(group)
    stratum = np.zeros(len(first), dtype=int) if labels is None else np.unique(labels, return_inverse=True)[1][first]
    order = np.random.default_rng(random_state).permutation(len(first))
    order = order[np.argsort(stratum[order], kind="stable")]
    # With the groups of one class in a row, each stretch of it is cut where the shares of that class end.
    side = np.empty(len(first), dtype=np.intp)
    bounds = np.cumsum(shares)[:2]
    for one in np.unique(stratum):
        mine = order[stratum[order] == one]
        middle = (np.cumsum(size[mine]) - size[mine] / 2) / size[mine].sum()
        side[mine] = np.searchsorted(bounds, middle)
    return side[group]
