"""Articles of WikiText-2, which benchmarks of language models share."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path


def articles() -> list[str]:
    """Texts of the parts that can be had, without the shortest, and with their numbers and hyphens as they were written."""
    folder = Path(os.environ.get("LOCUM_DATA", "data")) / "text"
    found = []
    for part in ("valid", "test"):
        path = folder / f"wikitext2_{part}.txt.gz"
        if not path.exists():
            raise SystemExit(f"there is no {path}: set LOCUM_DATA to a folder with text/ from WikiText-2 (CC BY-SA 3.0)")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            pieces = re.split(r"\n(?= = [^=].*[^=] = \n)", file.read())
        found += [re.sub(r" @([-,.])@ ", r"\1", piece).strip() for piece in pieces if len(piece) > 500]
    return found
