"""What is imported, and when: light to start, nothing undeclared, nothing declared in vain."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import subprocess
import sys

import pytest

import locum

# Imports every module where only some packages can be found, as after a bare installation.
BARE = """
import importlib, json, sys
allowed, modules = json.loads(sys.stdin.read())
allowed = {*allowed, "locum", *sys.stdlib_module_names}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if path is None and name not in allowed and not name.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
failed = {}
for name in modules:
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}"
print(json.dumps(failed))
"""


def run(code, stdin=""):
    done = subprocess.run([sys.executable, "-c", code], input=stdin, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def closure(repository, distributions):
    """Distributions with all that they need themselves."""
    found, todo = set(), set(distributions)
    while todo:
        one = todo.pop()
        found.add(one)
        try:
            lines = importlib.metadata.requires(one) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        todo |= {repository.name(line) for line in lines if "extra ==" not in line} - found
    return found


def test_every_module_can_be_imported_with_the_base_installation_alone(repository):
    base = closure(repository, repository.base)
    allowed = sorted(set().union(*(repository.imports(one) for one in base)))
    optional = set().union(*(repository.imports(one) for one in repository.extras()))
    assert {"torch", "pandas", "polars", "matplotlib", "onnxruntime", "ray"}.isdisjoint(allowed)
    assert optional - set(allowed), "nothing is optional, so there is nothing to block"
    networks = {"locum." + path.removesuffix(".py").replace("/", ".") for path in early(repository)}
    failed = run(BARE, json.dumps([allowed, repository.modules]))
    assert failed.keys() == networks, failed
    assert all("No module named" in why for why in failed.values())


def test_blocking_blocks():
    assert run(BARE, json.dumps([["numpy"], ["numpy", "pandas", "json"]])).keys() == {"pandas"}


def test_importing_locum_loads_nothing_heavy():
    loaded = run("import json, sys, locum; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))")
    assert "locum" in loaded
    assert {"numpy", "scipy", "sklearn", "torch", "pandas", "polars", "narwhals", "rich", "typer"}.isdisjoint(loaded)


@pytest.mark.parametrize("first", ["papers", "Fidelity", "Card", "load"])
def test_what_does_not_compute_stays_light(first):
    code = f"import json, sys, locum; locum.{first}; print(json.dumps(sorted(sys.modules)))"
    assert {"torch", "pandas", "polars", "matplotlib", "ray"}.isdisjoint(run(code))


def test_every_name_of_locum_is_there():
    for name in locum.__all__:
        assert getattr(locum, name) is not None
    assert set(locum.__all__) <= set(dir(locum))
    with pytest.raises(AttributeError, match="has no 'fidelity_of'; it has target, Target"):
        locum.fidelity_of


def test_every_module_has_what_it_offers(module):
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", ()):
        assert hasattr(loaded, name), f"{module}.__all__ names {name!r}, which is not there"


# ---------------------------------------------------------------------- declared and used
BY_NAME = ("import_module", "find_spec", "files", "need")
COMES_WITH_THE_ROWS = {"polars"}  # who hands in a polars frame has it; nobody else needs it


def imported(tree):
    """Names that a file imports; also those imported, or looked for, by a literal name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in BY_NAME:
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


@pytest.fixture(scope="module")
def used(repository):
    """Packages that are imported, with a file that does."""
    out = {}
    for path, tree in repository.trees.items():
        for name in imported(tree):
            out.setdefault(name.partition(".")[0], path)
    return {name: path for name, path in out.items() if name != "locum" and name not in sys.stdlib_module_names}


def test_every_import_is_declared(repository, used):
    declared = repository.base | repository.extras(without=("dev", "docs"))
    known = set().union(*(repository.imports(one) for one in declared))
    undeclared = {name: path for name, path in used.items() if name not in known | COMES_WITH_THE_ROWS}
    assert not undeclared, f"imported, and not in pyproject.toml: {undeclared}"


def test_every_declared_dependency_is_imported(repository, used):
    declared = repository.base | repository.extras(without=("dev", "docs"))
    idle = sorted(one for one in declared if not repository.imports(one) & set(used))
    assert not idle, f"in pyproject.toml, and imported nowhere in src: {idle}"


NETWORKS = {"torch", "botorch", "gpytorch", "transformers"}


def early(repository):
    """Files that import an optional package at the top, with the packages."""
    base = set().union(*(repository.imports(one) for one in closure(repository, repository.base)))
    out = {}
    for path, tree in repository.trees.items():
        names = {name.partition(".")[0] for name in imported(top(tree))} - base - {"locum"} - set(sys.stdlib_module_names)
        if names:
            out[path] = names
    return out


def top(tree):
    """The imports at the top of a file."""
    return ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])


def test_optional_packages_are_imported_where_they_are_used(repository):
    """Within functions; or at the top of a private file of networks that is itself imported within functions only."""
    found = early(repository)
    dotted = {path: "locum." + path.removesuffix(".py").replace("/", ".") for path in found}
    allowed = {path for path, names in found.items() if path.rpartition("/")[2].startswith("_") and names <= NETWORKS}
    public = {path: names for path, names in found.items() if path not in allowed}
    assert not public, f"optional packages imported at the top of a file: {public}"
    for path, tree in repository.trees.items():
        if path not in found:
            at_once = set(imported(top(tree))) & set(dotted.values())
            assert not at_once, f"{path} imports {at_once} at its top: import it where it is used"
