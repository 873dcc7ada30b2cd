"""cite: the BibTeX of what actually ran."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable
from typing import Any

from locum.catalogue._bibtex import bibtex_entry
from locum.catalogue._papers import FOLDER, nearest, papers
from locum.core.errors import InvalidData

__all__ = ["cite", "references"]


def cite(things: Iterable[object]) -> str:
    """BibTeX of Locum and of everything that `things` stand on, each once, in the order of first mention.

    Parameters
    ----------
    things : iterable of str, class or object
        Slugs of systems, keys of :func:`references`, classes or their instances. A class names what it stands on in its
        attribute ``papers``; anything of scikit-learn cites scikit-learn.

    Raises
    ------
    InvalidData
        A name that is neither slug nor key (with the nearest names), or an object whose class names no papers.

    Examples
    --------
    >>> from locum.catalogue import cite
    >>> print(cite(["lasso"]).splitlines()[0])
    @misc{locum,
    >>> cite(["lasso", "timex", "lasso"]).count("@")
    3
    """
    if isinstance(things, str):
        raise InvalidData(f"Expected a list of slugs, keys or objects to cite, got the text {things!r}; write [{things!r}].")
    names = dict.fromkeys(["locum", *(name for thing in things for name in _names(thing))])
    return "\n\n".join(_entry(name) for name in names) + "\n"


@functools.cache
def references() -> dict[str, dict[str, Any]]:
    """What Locum stands on beyond the 65 systems: key to BibTeX fields (``references.toml``).

    Examples
    --------
    >>> from locum.catalogue import references
    >>> references()["cart"]["year"]
    1984
    """
    import importlib.metadata  # 30 ms that listing the catalogue need not wait for

    records: dict[str, dict[str, Any]] = tomllib.loads((FOLDER / "references.toml").read_text(encoding="utf-8"))
    records["locum"]["version"] = importlib.metadata.version("locum")
    return records


def _names(thing: object) -> tuple[str, ...]:
    if isinstance(thing, str):
        return (thing,)
    cls = thing if isinstance(thing, type) else type(thing)
    named = getattr(cls, "papers", None)
    if isinstance(named, tuple):
        return named
    if cls.__module__.partition(".")[0] == "sklearn":
        return ("scikit-learn",)
    raise InvalidData(
        f"{cls.__module__}.{cls.__qualname__} does not say which papers it stands on; give the class an attribute "
        '`papers = ("slug-or-key", ...)`, or cite slugs and keys by name.'
    )


def _entry(name: str) -> str:
    slugs = {one.slug: one for one in papers()}
    if name in slugs:
        return slugs[name].bibtex()
    if name in references():
        return bibtex_entry(references()[name])[1]
    raise InvalidData(f"Nothing to cite is called {name!r}. {nearest(name, [*slugs, *references()])}")
