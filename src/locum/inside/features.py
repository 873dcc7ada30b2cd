"""What each latent of a dictionary does, as records that any dictionary can fill, and one page to read them on."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import FormatError, InvalidData, require_one_of
from locum.core.fidelity import Fidelity

__all__ = ["Example", "FeatureEffect", "FeaturePage", "FeatureRecord", "Histogram", "Picture"]

FORMAT = 1
KINDS = ("tokens", "items", "pictures")
_Weighted = tuple[tuple[str, float], ...]


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of which latents see patches.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
    rows, columns : int
        Of the grid of patches.

    Raises
    ------
    InvalidData
        Pixels of another kind.
    """

    pixels: NDArray[np.uint8]
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or not self.pixels.size:
            raise InvalidData(
                f"expected pixels as uint8 of shape (height, width, 3), got {self.pixels.dtype} of shape {self.pixels.shape}"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Picture):
            return NotImplemented
        return (self.rows, self.columns) == (other.rows, other.columns) and np.array_equal(self.pixels, other.pixels)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, safe for JSON."""
        height, width = self.pixels.shape[:2]
        text = base64.b64encode(np.ascontiguousarray(self.pixels).tobytes()).decode()
        return {"height": height, "width": width, "rgb": text, "rows": self.rows, "columns": self.columns}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Picture:
        """The picture that :meth:`to_dict` wrote.

        Parameters
        ----------
        record : dict
        """
        flat = np.frombuffer(base64.b64decode(record["rgb"]), dtype=np.uint8)
        return cls(flat.reshape(record["height"], record["width"], 3), record["rows"], record["columns"])


@dataclass(frozen=True)
class Example:
    """Where a latent is active, with what stands around it.

    Parameters
    ----------
    units : tuple of str
        Tokens or items in their order; empty for a picture.
    values : tuple of float
        Activation of the latent at each unit, or at each patch row by row; 0 where it is not active.
    at : int
        Which of them the example is about.
    sequence, position : int
        Where that unit is: number of the sequence (window of a document, user, image) and place in it.
    source : str, default=""
        What to call the sequence.
    picture : Picture or None, default=None
    """

    units: tuple[str, ...]
    values: tuple[float, ...]
    at: int
    sequence: int
    position: int
    source: str = ""
    picture: Picture | None = None

    def __post_init__(self) -> None:
        count = len(self.units) if self.picture is None else self.picture.rows * self.picture.columns
        if len(self.values) != count or not 0 <= self.at < count:
            raise InvalidData(
                f"expected an activation for each of {count} units and at= as one of them, "
                f"got {len(self.values)} activations and at={self.at!r}"
            )


@dataclass(frozen=True)
class Histogram:
    """How strong a latent is where it is active.

    Parameters
    ----------
    edges : tuple of float
        Of the bins, one more than `counts`.
    counts : tuple of int
        Rows in each bin.
    zeros : int
        Rows where it is not active.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    zeros: int


@dataclass(frozen=True)
class FeatureEffect:
    """What an intervention on one latent did to a model's outputs.

    Parameters
    ----------
    kind : {"ablation", "steering"}
    said : str
        What was done, and where that was measured.
    measures : tuple of Fidelity
    control : tuple of Fidelity, default=()
        The same measures of an intervention along a random direction of the same length.
    raised, lowered : tuple of (str, float), default=()
        Outputs that it made most and least likely, with the mean change.
    """

    kind: str
    said: str
    measures: tuple[Fidelity, ...]
    control: tuple[Fidelity, ...] = ()
    raised: _Weighted = ()
    lowered: _Weighted = ()

    def __post_init__(self) -> None:
        require_one_of(("ablation", "steering"), kind=self.kind)


@dataclass(frozen=True)
class FeatureRecord:
    """One latent: where it is active, how strongly, what it writes and what it causes.

    Parameters
    ----------
    latent : int
    largest : float
        Its largest activation on the rows looked at.
    active : Fidelity
        Share of rows on which it is active.
    histogram : Histogram
    examples : tuple of Example
        Where it is strongest, at most one a sequence, the strongest first.
    drawn : tuple of Example, default=()
        Drawn at random among all places where it is active, the strongest first.
    raised, lowered : tuple of (str, float), default=()
        Outputs that its atom by itself makes most and least likely, with what it adds to their scores.
    neighbours : tuple of (int, float), default=()
        Latents with the atoms nearest to its own, with cosines.
    effects : tuple of FeatureEffect, default=()
    name : str, default=""
    score : Fidelity or None, default=None
        How well the name tells where the latent is active, on rows that did not make it.
    """

    latent: int
    largest: float
    active: Fidelity
    histogram: Histogram
    examples: tuple[Example, ...]
    drawn: tuple[Example, ...] = ()
    raised: _Weighted = ()
    lowered: _Weighted = ()
    neighbours: tuple[tuple[int, float], ...] = ()
    effects: tuple[FeatureEffect, ...] = ()
    name: str = ""
    score: Fidelity | None = None

    def named(self, name: str, score: Fidelity | None = None) -> FeatureRecord:
        """The same record with a name, and how well it tells where the latent is active.

        Parameters
        ----------
        name : str
        score : Fidelity or None, default=None
        """
        return replace(self, name=str(name), score=score)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, safe for JSON, with a format number."""
        return {"format": FORMAT, **{one.name: _plain(getattr(self, one.name)) for one in fields(self)}}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> FeatureRecord:
        """The record that :meth:`to_dict` wrote.

        Parameters
        ----------
        record : dict

        Raises
        ------
        FormatError
            A record that is newer than this version reads, or lacks fields, or has others.
        """
        if not isinstance(record, Mapping) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, Mapping) else type(record).__name__
            raise FormatError(f"expected a feature record of format {FORMAT}, got {found!r}: update locum to read it")
        try:
            made: FeatureRecord = _made(cls, {key: value for key, value in record.items() if key != "format"})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"expected a feature record as to_dict writes it: {error}") from error
        return made


@dataclass(frozen=True)
class FeaturePage:
    """Records of a dictionary's latents with what the page says above them.

    Parameters
    ----------
    title : str
    records : tuple of FeatureRecord
    kind : {"tokens", "items", "pictures"}, default="tokens"
        What the examples are made of.
    n_latents : int or None, default=None
        Of the dictionary; as many as there are records where None.
    about : str, default=""
        What was looked at: model, site, data.
    fidelity : tuple of Fidelity, default=()
        Of the dictionary as a whole, and of its rivals.

    Raises
    ------
    InvalidData
        No records, or two of one latent.

    Examples
    --------
    >>> active = Fidelity("active", 0.1, 0.05, 0.2, 0.95, 100, how="rows")
    >>> example = Example(("the", " cat"), (0.0, 2.0), at=1, sequence=0, position=1)
    >>> record = FeatureRecord(7, 2.0, active, Histogram((0.0, 2.0), (10,), 90), (example,)).named("cats")
    >>> page = FeaturePage("A dictionary", (record,))
    >>> FeaturePage.from_dict(page.to_dict()) == page
    True
    >>> "cats" in page.to_html()
    True
    """

    title: str
    records: tuple[FeatureRecord, ...]
    kind: str = "tokens"
    n_latents: int | None = None
    about: str = ""
    fidelity: tuple[Fidelity, ...] = ()

    def __post_init__(self) -> None:
        require_one_of(KINDS, kind=self.kind)
        object.__setattr__(self, "records", tuple(self.records))
        object.__setattr__(self, "fidelity", tuple(self.fidelity))
        latents = [one.latent for one in self.records]
        if not latents:
            raise InvalidData("expected at least one feature record, got none")
        if len(set(latents)) < len(latents):
            twice = next(one for one in latents if latents.count(one) > 1)
            raise InvalidData(f"expected one record a latent, got two or more of latent {twice}")

    def named(self, names: Mapping[int, Any]) -> Self:
        """The same page with names of latents.

        Parameters
        ----------
        names : dict of int to str or (str, Fidelity)
            For any of the latents; the fidelity says how well the name tells where the latent is active.
        """
        pairs = {int(latent): (one, None) if isinstance(one, str) else tuple(one) for latent, one in names.items()}
        return replace(self, records=tuple(r.named(*pairs[r.latent]) if r.latent in pairs else r for r in self.records))

    def to_html(self, path: Any = None) -> str:
        """One self-contained file of HTML, which reaches for nothing else; every text in it is escaped.

        Parameters
        ----------
        path : path or None, default=None
            Where it is also written.
        """
        from locum.inside._feature_page import page

        text = page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, safe for JSON, with a format number."""
        return {
            "format": FORMAT, "title": self.title, "kind": self.kind, "n_latents": self.n_latents, "about": self.about,
            "fidelity": [one.to_dict() for one in self.fidelity], "records": [one.to_dict() for one in self.records],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> FeaturePage:
        """The page that :meth:`to_dict` wrote.

        Parameters
        ----------
        record : dict

        Raises
        ------
        FormatError
            A record of another format, or that lacks fields.
        """
        if not isinstance(record, Mapping) or record.get("format") != FORMAT:
            found = record.get("format") if isinstance(record, Mapping) else type(record).__name__
            raise FormatError(f"expected feature records of format {FORMAT}, got {found!r}: update locum to read them")
        try:
            return cls(
                str(record["title"]), tuple(map(FeatureRecord.from_dict, record["records"])), record["kind"],
                record["n_latents"], str(record["about"]), tuple(map(Fidelity.from_dict, record["fidelity"])),
            )  # fmt: skip
        except KeyError as error:
            raise FormatError(f"expected feature records as to_dict writes them, without {error}") from error

    def save(self, path: Any) -> None:
        """Write the records as JSON; :meth:`load` reads them.

        Parameters
        ----------
        path : path
        """
        Path(path).write_text(json.dumps(self.to_dict(), allow_nan=False), encoding="utf-8")

    @staticmethod
    def load(path: Any) -> FeaturePage:
        """The records that :meth:`save` wrote.

        Parameters
        ----------
        path : path

        Raises
        ------
        FormatError
            No such file, or one that holds something else.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FormatError(f"cannot read {path}: {error}; expected a file of feature records") from error
        return FeaturePage.from_dict(record)


# ---------------------------------------------------------------------- JSON
def _plain(value: Any) -> Any:
    if isinstance(value, Fidelity | Picture):
        return value.to_dict()
    if isinstance(value, Example | Histogram | FeatureEffect):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return value.item()


def _weighted(pairs: Sequence[Any]) -> tuple[tuple[Any, float], ...]:
    return tuple((one, float(weight)) for one, weight in pairs)


def _fidelities(records: Sequence[Any]) -> tuple[Fidelity, ...]:
    return tuple(map(Fidelity.from_dict, records))


_READERS: dict[str, Any] = {
    "active": Fidelity.from_dict,
    "score": lambda one: None if one is None else Fidelity.from_dict(one),
    "histogram": lambda one: _made(Histogram, one),
    "examples": lambda many: tuple(_made(Example, one) for one in many),
    "drawn": lambda many: tuple(_made(Example, one) for one in many),
    "effects": lambda many: tuple(_made(FeatureEffect, one) for one in many),
    "measures": _fidelities,
    "control": _fidelities,
    "raised": _weighted,
    "lowered": _weighted,
    "neighbours": _weighted,
    "picture": lambda one: None if one is None else Picture.from_dict(one),
}


def _made(kind: Any, record: Mapping[str, Any]) -> Any:
    """A record class from what `_plain` made of it."""
    known = {one.name for one in fields(kind)}
    strange = sorted(set(record) ^ known)
    if strange:
        raise KeyError(f"other fields, or too few: {', '.join(strange)}")
    read = {name: _READERS.get(name, lambda one: one)(value) for name, value in record.items()}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in read.items()})
