"""Analogies between pairs of words, from a file that ships inside an installed package."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from locum.core._imported import package_folder
from locum.core.errors import InvalidData

__all__ = ["Analogy", "load_analogies"]

_PACKAGE, _FILE = "gensim", Path("test") / "test_data" / "questions-words.txt"


@dataclass(frozen=True)
class Analogy:
    """The first pair is to one another as the second is.

    Attributes
    ----------
    relation : str
    example, asked : tuple of two str
    """

    relation: str
    example: tuple[str, str]
    asked: tuple[str, str]


def load_analogies(path: str | os.PathLike[str] | None = None) -> tuple[Analogy, ...]:
    """The word analogies of Mikolov and others: 19,544 questions of 14 relations, made of 550 pairs of 905 words.

    Parameters
    ----------
    path : path or None, default=None
        A file in which a line of four words is a question and one that begins with a colon names a relation. Where None, the
        one that the package gensim holds, which is not imported.

    Raises
    ------
    InvalidData
        No such file, or one of another form.
    """
    file = _installed() if path is None else Path(path).expanduser()
    if not file.is_file():
        raise InvalidData(f"there is no file of analogies at {file}; give path=, a file such as questions-words.txt")
    found, relation = [], ""
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if line.startswith(":"):
            relation = line[1:].strip()
        elif len(words) == 4 and relation:
            found.append(Analogy(relation, (words[0], words[1]), (words[2], words[3])))
        elif words:
            raise InvalidData(
                f"expected four words, after a line that names their relation, in line {number} of {file}, got {line!r}"
            )
    if not found:
        raise InvalidData(f"{file} holds no analogies")
    return tuple(found)


def _installed() -> Path:
    found = package_folder(_PACKAGE)
    if found is None:
        raise InvalidData(
            "the analogies come from the package gensim, which is not installed, and none are downloaded: install it with "
            f"pip install --no-deps gensim, or give path=, its {_FILE.name}"
        )
    return found / _FILE
