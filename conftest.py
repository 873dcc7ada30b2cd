"""Every code block of the README and the guides runs, each document in a folder of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

BACK = "__folder_to_return_to__"


def enter(namespace: dict[str, Any]) -> None:
    namespace[BACK] = Path.cwd()
    os.chdir(tempfile.mkdtemp())


def leave(namespace: dict[str, Any]) -> None:
    os.chdir(namespace[BACK])


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md", "docs/methods/*.md"], setup=enter, teardown=leave
).pytest()
