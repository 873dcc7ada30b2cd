"""Papers: one TOML file a system, read into frozen records.

What can be derived is not typed: the state of a system, its BibTeX, and where its test, benchmark and page live. Only the
standard library is used here, so that listing the catalogue stays instant.
"""

from __future__ import annotations

import difflib
import functools
import math
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from locum.catalogue._bibtex import bibtex_entry
from locum.core.errors import InvalidData

__all__ = ["Paper", "Claim", "Measured", "papers", "paper"]

FOLDER = Path(__file__).parent
ROOMS = ("explain", "glassbox", "inside", "optimize", "emulate", "infer", "decode", "audit")
EXTRAS = (
    "nets", "optimize", "lm", "sim", "emulate", "chaos", "data", "skops", "boosting", "text", "infer", "vision", "meshes",
    "ray", "plots",
)  # fmt: skip
_ENTRIES = ("article", "inproceedings", "misc")


@dataclass(frozen=True)
class Claim:
    """One thing a paper shows, and the measure by which one can see it."""

    claim: str
    measure: str


@dataclass(frozen=True)
class Measured:
    """What re-measuring a paper's main claim gave here; copied from the ``result.json`` of its benchmark, never typed.

    Parameters
    ----------
    holds : bool
        Whether the claim held.
    measure : str
        What ``effect`` is, in words.
    effect, lower, upper : float
        The effect and its interval.
    level : float
        Confidence of the interval, between 0 and 1.
    direction : str
        Which way the claim says the effect points: "greater" or "less".
    seeds : int
        How many seeds were run.
    seconds : float
        Wall time of the run.
    """

    holds: bool
    measure: str
    effect: float
    lower: float
    upper: float
    level: float
    direction: str
    seeds: int
    seconds: float

    def __post_init__(self) -> None:
        numbers = (self.effect, self.lower, self.upper, self.level, self.seconds)
        finite = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
        if not (finite and isinstance(self.holds, bool) and isinstance(self.seeds, int)):
            raise InvalidData(
                f"Expected holds as true or false, a count of seeds, and finite numbers in a measurement, got {asdict(self)}."
            )
        if not (self.lower <= self.upper and 0 < self.level < 1 and self.direction in ("greater", "less")):
            raise InvalidData(
                "Expected lower <= upper, a level between 0 and 1, and direction 'greater' or 'less' in a measurement, "
                f"got {asdict(self)}."
            )

    def __str__(self) -> str:
        return f"{self.measure} {self.effect:.3g} [{self.lower:.3g}, {self.upper:.3g}]"


@dataclass(frozen=True)
class Paper:
    """One published system: its facts, its place in Locum, its claims, and what was measured of them.

    Parameters
    ----------
    number : int
        Place in the list, 1 to 65.
    slug : str
        Its name in every path.
    room : str
        The package it lives in.
    title : str
    stands_in : str
        What stands in for what.
    authors : tuple of str
        As "Family, Given".
    year : int
    entry : str
        BibTeX type: "article", "inproceedings" or "misc" (preprint).
    summary : str
        Two or three sentences.
    claims : tuple of Claim
    extras : tuple of str
        The pip extras it needs; empty for the base install.
    venue, volume, issue, pages, series : str or None, default=None
    later_title : str or None, default=None
        The title of a later or published version, where it differs.
    arxiv, doi, repository : str or None, default=None
    class_path : str or None, default=None
        Dotted public path of the class or function; None until built.
    settings : dict, default={}
        Tiny settings with which the contract suite runs it.
    module : str or None, default=None
        The file of its room that holds it, where a system is spread over the room; named after the system where None.
    measured : Measured or None, default=None

    Examples
    --------
    >>> from locum.catalogue import paper
    >>> paper("dsl").room
    'infer'
    >>> paper("dsl").key
    'egami2023using'
    """

    number: int
    slug: str
    room: str
    title: str
    stands_in: str
    authors: tuple[str, ...]
    year: int
    entry: str
    summary: str
    claims: tuple[Claim, ...]
    extras: tuple[str, ...]
    venue: str | None = None
    volume: str | None = None
    issue: str | None = None
    pages: str | None = None
    series: str | None = None
    later_title: str | None = None
    arxiv: str | None = None
    doi: str | None = None
    repository: str | None = None
    class_path: str | None = None
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    module: str | None = None
    measured: Measured | None = None

    @property
    def state(self) -> str:
        """One of "planned" (no class yet), "built" (not measured yet), "holds" and "does not hold"."""
        if self.class_path is None:
            return "planned"
        if self.measured is None:
            return "built"
        return "holds" if self.measured.holds else "does not hold"

    @property
    def url(self) -> str | None:
        """Where to read it."""
        if self.arxiv:
            return f"https://arxiv.org/abs/{self.arxiv}"
        return f"https://doi.org/{self.doi}" if self.doi else self.repository

    @property
    def paths(self) -> dict[str, str]:
        """Where its code, test, benchmark, page and facts live in the repository."""
        module = self.slug.replace("-", "_")
        return {
            "code": f"src/locum/{self.room}/{self.module or module}.py",
            "test": f"tests/{self.room}/test_{module}.py",
            "benchmark": f"benchmarks/papers/{self.slug}",
            "docs": f"docs/methods/{self.slug}.md",
            "catalogue": f"src/locum/catalogue/{self.slug}.toml",
        }

    @property
    def key(self) -> str:
        """Its BibTeX key."""
        return bibtex_entry(vars(self))[0]

    def bibtex(self) -> str:
        """Its BibTeX entry, in plain ASCII."""
        return bibtex_entry(vars(self))[1]

    def to_dict(self) -> dict[str, Any]:
        """Everything known of it, derived facts included, in types that JSON has."""
        record = asdict(self)
        for name in ("authors", "claims", "extras"):
            record[name] = list(record[name])
        record["class"] = record.pop("class_path")
        return record | {"state": self.state, "url": self.url, "key": self.key, "paths": self.paths}


@functools.cache
def papers() -> tuple[Paper, ...]:
    """All systems, by number.

    Cost: about 15 ms the first time, nothing afterwards.

    Examples
    --------
    >>> from locum.catalogue import papers
    >>> len(papers()), papers()[0].slug
    (65, 'timex')
    """
    found = [read_paper(path) for path in FOLDER.glob("*.toml") if path.name != "references.toml"]
    return tuple(sorted(found, key=lambda one: one.number))


def paper(slug: str) -> Paper:
    """The system called `slug`.

    Parameters
    ----------
    slug : str

    Raises
    ------
    InvalidData
        There is none; the message has the nearest names.
    """
    known = _by_slug()
    if slug not in known:
        raise InvalidData(f"No system is called {slug!r}. {nearest(slug, known)} `locum papers` lists all {len(known)}.")
    return known[slug]


def nearest(name: object, known: Collection[str]) -> str:
    """One sentence with the known names nearest to an unknown one."""
    wanted = str(name).strip().lower()
    close = [one for one in known if wanted and wanted in one]
    close += [one for one in difflib.get_close_matches(wanted, known, n=3, cutoff=0.5) if one not in close]
    return f"Did you mean {' or '.join(map(repr, close[:3]))}?" if close else "No name is near it."


def read_paper(path: Path) -> Paper:
    """One catalogue file as a record; InvalidData says what is wrong with a file that cannot be one."""
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidData(f"{path.name} is not TOML: {error}.") from error
    try:
        record["class_path"] = record.pop("class", None)
        record["authors"], record["extras"] = tuple(record["authors"]), tuple(record["extras"])
        record["claims"] = tuple(Claim(**claim) for claim in record["claims"])
        record["measured"] = Measured(**record["measured"]) if "measured" in record else None
        one = Paper(**record)
    except (KeyError, TypeError) as error:
        needed = _comma(f.name for f in fields(Paper) if f.default is MISSING and f.default_factory is MISSING)
        raise InvalidData(f"{path.name}: missing or unknown field ({error}); every file needs {needed}.") from error
    problems = _problems(one, path)
    if problems:
        raise InvalidData(f"{path.name}: {'; '.join(problems)}.")
    return one


def _problems(one: Paper, path: Path) -> list[str]:
    checks = {
        f"slug is {one.slug!r}, expected the file's name": one.slug == path.stem,
        f"room is {one.room!r}, expected one of {_comma(ROOMS)}": one.room in ROOMS,
        f"entry is {one.entry!r}, expected one of {_comma(_ENTRIES)}": one.entry in _ENTRIES,
        f"extras are {_comma(one.extras)}, expected among {_comma(EXTRAS)}": set(one.extras) <= set(EXTRAS),
        "authors are expected as 'Family, Given', at least one": one.authors and all(", " in a for a in one.authors),
        "at least one claim is expected": one.claims,
        "a published entry needs its venue": one.venue or one.entry == "misc",
        "a measurement needs a class": one.class_path or one.measured is None,
    }
    return [problem for problem, good in checks.items() if not good]


def _comma(names: Iterable[str]) -> str:
    return ", ".join(names)


@functools.cache
def _by_slug() -> dict[str, Paper]:
    return {one.slug: one for one in papers()}
