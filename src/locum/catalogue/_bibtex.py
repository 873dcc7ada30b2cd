"""BibTeX entries from plain records: keys, accents, escapes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

__all__ = ["bibtex_entry"]

_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": "`",
    "\N{COMBINING ACUTE ACCENT}": "'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
    "\N{COMBINING TILDE}": "~",
    "\N{COMBINING DIAERESIS}": '"',
    "\N{COMBINING MACRON}": "=",
    "\N{COMBINING DOT ABOVE}": ".",
    "\N{COMBINING RING ABOVE}": "r",
    "\N{COMBINING CARON}": "v",
    "\N{COMBINING BREVE}": "u",
    "\N{COMBINING CEDILLA}": "c",
    "\N{COMBINING OGONEK}": "k",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": "H",
}
_LETTERS = {"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ı": "i", "đ": "dj"}
_SIGNS = {
    "\\": r"{\textbackslash}",
    "~": r"{\textasciitilde}",
    "^": r"{\textasciicircum}",
    "–": "--",
    "—": "---",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "…": r"{\ldots}",
} | {sign: "\\" + sign for sign in "&%$#_{}"}
_VENUE = {"article": "journal", "inproceedings": "booktitle", "book": "publisher"}


def bibtex_entry(record: Mapping[str, Any]) -> tuple[str, str]:
    """Key and BibTeX entry of a record with ``entry``, ``title``, ``authors`` and what else is known of it.

    The key is the first author's family name, the year and the first title word of more than three letters.
    """
    year = record.get("year")
    key = _key(record["authors"][0], year, record["title"])
    lines = {
        "title": "{" + _escape(record["title"]) + "}",  # the inner braces keep capitals as they are
        "author": " and ".join(_author(name) for name in record["authors"]),
        _VENUE.get(record["entry"], "howpublished"): _escape(record.get("venue") or record.get("publisher") or ""),
        "series": _escape(record.get("series") or ""),
        "volume": _escape(record.get("volume") or ""),
        "number": _escape(record.get("issue") or ""),
        "pages": _escape(record.get("pages") or ""),
        "year": str(year or ""),
        "doi": record.get("doi") or "",
        "eprint": record.get("arxiv") or "",
        "archivePrefix": "arXiv" if record.get("arxiv") else "",
        "url": f"https://arxiv.org/abs/{record['arxiv']}" if record.get("arxiv") else "",
        "note": _note(record),
    }
    body = "".join(f"  {name} = {{{value}}},\n" for name, value in lines.items() if value)
    return key, f"@{record['entry']}{{{key},\n{body}}}"


def _key(author: str, year: int | None, title: str) -> str:
    family, comma, _ = author.partition(",")
    if not comma:  # a body, not a person: its first word will do
        return _ascii(author.split()[0])
    words = [_ascii(word) for word in re.split(r"[\W_]+", title)]
    return f"{_ascii(family)}{year or ''}{next((word for word in words if len(word) > 3), words[0])}"


def _ascii(text: str) -> str:
    spelled = "".join(_LETTERS.get(sign, sign) for sign in text)
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", spelled).lower())


def _author(name: str) -> str:
    return _escape(name) if "," in name else "{" + _escape(name) + "}"


def _note(record: Mapping[str, Any]) -> str:
    if record.get("version"):
        return f"Version {_escape(record['version'])}"
    return f"Also titled: {_escape(record['later_title'])}" if record.get("later_title") else ""


def _escape(text: str) -> str:
    return "".join(_sign(sign) for sign in unicodedata.normalize("NFC", text))


def _sign(sign: str) -> str:
    if sign in _SIGNS:
        return _SIGNS[sign]
    if sign in _LETTERS:
        return f"{{\\{_LETTERS[sign]}}}"
    split = unicodedata.normalize("NFD", sign)  # the letter, then its accent where it has one
    return f"{{\\{_ACCENTS[split[1:]]}{{{split[0]}}}}}" if split[1:] in _ACCENTS else sign
