"""Files: their length, what they must not hold, the places of a method, and what is pinned."""

from __future__ import annotations

import ast
import re

import pytest

from locum.catalogue import paper, papers

MOST_LINES = 600
MOST_LINES_OF_A_FUNCTION = 60
# Classes have a state of their own; the last two only read that of everybody.
SAFE_RANDOM = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "PCG64", "Random", "get_state", "getstate"}


def test_files_are_short(repository):
    lengths = {str(p.relative_to(repository.source)): len(p.read_text().splitlines()) for p in repository.files}
    long = {path: n for path, n in lengths.items() if n > MOST_LINES}
    assert not long, f"more than {MOST_LINES} lines: {long}"


def test_functions_are_short(repository):
    """Lines of code, with the signature and without the docstring."""
    long = {}
    for path, tree in repository.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (body[-1].end_lineno - body[0].lineno + 1) if body else 0
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long[f"{path}:{node.name}"] = lines
    assert not long, f"more than {MOST_LINES_OF_A_FUNCTION} lines: {long}"


def test_the_library_prints_nothing(repository):
    prints = [
        f"{path}:{node.lineno}"
        for path, tree in repository.trees.items()
        if not path.startswith("cli/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "breakpoint", "input")
    ]
    assert not prints


def test_nothing_is_left_to_do(repository):
    mark = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    files = [path for path in repository.source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    left = [f"{path.name}: {found[0]}" for path in files if (found := mark.search(path.read_text(encoding="utf-8")))]
    assert len(files) > 50
    assert not left


def global_random(tree):
    """Lines that use the generator everybody shares."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr not in SAFE_RANDOM:
            holder = ast.unparse(node.value)
            if holder in ("np.random", "numpy.random", "random"):
                yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module in ("numpy.random", "random"):
            yield from [node.lineno] * any(alias.name not in SAFE_RANDOM for alias in node.names)


def test_the_global_generators_are_left_alone(repository):
    assert list(global_random(ast.parse("np.random.seed(0)\nrandom.random()\nfrom random import choice"))) == [3, 1, 2]
    used = [f"{path}:{line}" for path, tree in repository.trees.items() for line in global_random(tree)]
    assert not used


def test_settings_are_arguments_not_environment_variables(repository):
    """A variable may say where something lies, never what is done."""
    places = {"datasets/_tables.py"}
    read = [
        f"{path}:{node.lineno}"
        for path, tree in repository.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and path not in places
    ]
    assert not read


# ---------------------------------------------------------------------- one slug, five places
def missing_places(one, root):
    return sorted(name for name, path in one.paths.items() if not (root / path).exists())


@pytest.mark.parametrize("slug", [one.slug for one in papers() if one.class_path] or [None])
def test_a_built_system_has_its_five_places(repository, slug):
    if slug is None:
        assert missing_places(papers()[0], repository.root), "nothing is built, yet a first one has all its places"
        return
    assert not missing_places(paper(slug), repository.root)


def test_every_page_of_a_method_has_a_catalogue_entry_or_a_class(repository):
    """A page, a benchmark or a test of something that the catalogue does not know would rot unseen."""
    known = {one.slug for one in papers()}
    folder = repository.root / "benchmarks" / "papers"
    strange = [path.name for path in folder.iterdir() if path.is_dir()] if folder.exists() else []
    assert set(strange) <= known


# ---------------------------------------------------------------------- pins
def test_constraints_pin_every_direct_dependency(repository):
    lines = (repository.root / "constraints.txt").read_text().splitlines()
    lines = [line.partition("#")[0].strip() for line in lines]
    pins = {repository.name(line): line for line in lines if line}
    loose = [line for line in pins.values() if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][^\s,;*]*(\s*;.*)?", line)]
    assert not loose, f"not pinned to one version: {loose}"
    absent = sorted((repository.base | repository.extras()) - set(pins))
    assert not absent, f"not in constraints.txt: {absent}"
