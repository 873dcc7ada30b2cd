"""``python -m locum.catalogue README.md``: bring the measured figures and the table of systems up to date.

With ``--check`` nothing is written, and the exit code is 1 when something is stale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from locum.catalogue._papers import FOLDER, papers
from locum.catalogue._readme import markdown_table, measured_files, update_readme
from locum.core.errors import InvalidData


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when all is well, 1 when something is stale, 2 when something cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m locum.catalogue", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("readme", type=Path, help="file with the two catalogue markers")
    parser.add_argument("--results", type=Path, help="folder of <slug>/result.json, to copy the measured figures from")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when something is stale")
    options = parser.parse_args(arguments)
    try:
        return _run(options.readme, options.results, options.check)
    except (InvalidData, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _run(readme: Path, results: Path | None, check: bool) -> int:
    stale = measured_files(FOLDER, results) if results else {}
    if not check:
        for path, text in stale.items():
            path.write_text(text, encoding="utf-8")
        papers.cache_clear()
    text = readme.read_text(encoding="utf-8")
    wanted = update_readme(text, markdown_table(papers()))
    if wanted != text:
        stale[readme] = wanted
        if not check:
            readme.write_text(wanted, encoding="utf-8")
    for path in stale:
        sys.stdout.write(f"{'stale' if check else 'written'}: {path}\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
