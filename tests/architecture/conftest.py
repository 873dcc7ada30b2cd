"""The repository as the architecture tests see it."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Repository:
    """Files, imports and declared dependencies."""

    root = ROOT
    source = ROOT / "src" / "locum"

    @functools.cached_property
    def files(self) -> list[Path]:
        return sorted(self.source.rglob("*.py"))

    @functools.cached_property
    def trees(self) -> dict[str, ast.Module]:
        """Syntax tree of each file, by its path from the library's folder."""
        return {str(path.relative_to(self.source)): ast.parse(path.read_text(encoding="utf-8")) for path in self.files}

    @functools.cached_property
    def modules(self) -> list[str]:
        """Dotted names of all modules that can be imported without running a command."""
        parts = [("locum", *path.relative_to(self.source).with_suffix("").parts) for path in self.files]
        names = [".".join(p for p in one if p != "__init__") for one in parts if one[-1] != "__main__"]
        return sorted(names)

    @functools.cached_property
    def project(self) -> dict:
        return tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def base(self) -> set[str]:
        """Distributions that everybody gets."""
        return {self.name(line) for line in self.project["project"]["dependencies"]}

    def extras(self, *, without: tuple[str, ...] = ()) -> set[str]:
        """Distributions of the extras."""
        groups = self.project["project"]["optional-dependencies"]
        lines = [line for extra, lines in groups.items() if extra not in without for line in lines]
        return {self.name(line) for line in lines} - {"locum"}

    @staticmethod
    def name(requirement: str) -> str:
        """The normalised name of a distribution."""
        return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", requirement.strip())[0]).lower()

    @functools.cached_property
    def _imports(self) -> dict[str, set[str]]:
        out: dict[str, set[str]] = {}
        for module, distributions in packages_distributions().items():
            for one in distributions:
                out.setdefault(self.name(one), set()).add(module)
        return out

    def imports(self, distribution: str) -> set[str]:
        """What a distribution is imported as; guessed for one that is not installed."""
        return self._imports.get(distribution, {distribution.replace("-", "_")})


@pytest.fixture(scope="session")
def repository() -> Repository:
    return Repository()


def pytest_generate_tests(metafunc) -> None:
    """A test a module, for tests that ask for `module`."""
    if "module" in metafunc.fixturenames:
        metafunc.parametrize("module", Repository().modules)
