"""Docstrings: there, true to the signature, and run."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import inspect
import re
from enum import Enum

import pytest

NAME = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : (.*))?$")
FEW = 2  # parameters that a sentence can explain


def section(docstring, title):
    """Entries of one section: (names, what is said of their kind)."""
    lines = inspect.cleandoc(docstring or "").splitlines()
    starts = [i for i, line in enumerate(lines[1:], 1) if line == title and set(lines[i + 1]) == {"-"}]
    if not starts:
        return None
    out = []
    for i in range(starts[0] + 2, len(lines)):
        if i + 1 < len(lines) and lines[i + 1] and set(lines[i + 1]) == {"-"}:
            break
        if lines[i] and not lines[i].startswith(" "):
            found = NAME.match(lines[i])
            assert found, f"this line of {title} cannot be read: {lines[i]!r}"
            out.append(([name.strip() for name in found[1].split(",")], found[2] or ""))
    return out


def parameters(thing):
    """Name and default of each parameter of a signature, starred ones with their stars."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    if inspect.isclass(thing) and issubclass(thing, Exception | Enum) and "__init__" not in vars(thing):
        return {}
    factories = {f.name: f.default_factory for f in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else {}
    out = {}
    for name, one in inspect.signature(thing).parameters.items():
        if name in ("self", "cls"):
            continue
        made = factories.get(name, dataclasses.MISSING)
        out[stars.get(one.kind, "") + name] = one.default if made is dataclasses.MISSING else made()
    return out


def same_default(said, default):
    """Whether a default in words is that of the signature."""
    try:
        literal = eval(compile(ast.parse(said, mode="eval"), "docstring", "eval"), {"__builtins__": {}})
    except (NameError, SyntaxError):
        return said in (str(default), getattr(default, "__name__", None)) or (said == "empty" and len(default) == 0)
    return literal == default and isinstance(literal, bool) == isinstance(default, bool)


def complaints(thing):
    """What is wrong with the docstring of a class or function."""
    docstring = inspect.getdoc(thing) if not inspect.isclass(thing) else thing.__doc__
    if not docstring or (dataclasses.is_dataclass(thing) and docstring.startswith(thing.__name__ + "(")):
        return ["no docstring"]
    signature = parameters(thing)
    entries = section(docstring, "Parameters")
    if entries is None and dataclasses.is_dataclass(thing):
        entries = section(docstring, "Attributes")
    if entries is None:
        elsewhere = re.search(r"parameters|settings", docstring, re.IGNORECASE) and "`" in docstring
        needless = inspect.isclass(thing) and (issubclass(thing, Exception) or not signature)
        return [] if needless or elsewhere or len(signature) <= FEW else ["no section on its parameters"]
    out = []
    names = [name for group, _ in entries for name in group]
    if names != list(signature):
        out.append(f"parameters {names} are not those of the signature, {list(signature)}")
    for group, kind in entries:
        said = re.search(r"default=(.*)$", kind)
        values = re.split(", | and ", said[1]) if said and len(group) > 1 else []
        values = values if len(values) == len(group) else [said[1]] * len(group) if said else []
        for position, name in enumerate(group):
            default = signature.get(name, inspect.Parameter.empty)
            if default is inspect.Parameter.empty:
                out += [f"{name} has no default, and is said to have {said[1]}"] if said else []
            elif said and not same_default(values[position], default):
                out.append(f"{name} is said to be {said[1]} by default, and is {default!r}")
            elif not said and not (default is None and "optional" in kind):
                out.append(f"{name} has the default {default!r}, which is not said")
    return out


def public(module):
    """Classes and functions that a public module offers, and their public methods."""
    if any(part.startswith("_") for part in module.split(".")):
        return
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", ()):
        thing = getattr(loaded, name)
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        yield name, thing
        if inspect.isclass(thing):
            for method, value in vars(thing).items():
                function = getattr(value, "__func__", value)
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{name}.{method}", function


def test_docstrings_are_true_to_the_signature(module):
    assert importlib.import_module(module).__doc__, f"{module} has no docstring"
    wrong = {}
    for name, thing in public(module):
        method = inspect.isfunction(thing) and "." in name
        found = complaints(thing)
        if method:  # an inherited method may leave its docstring to the base; see its class
            found = [one for one in found if one != "no section on its parameters"]
        if found:
            wrong[name] = found
    assert not wrong, wrong


def test_doctests(module):
    loaded = importlib.import_module(module)
    said: list[str] = []
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder(exclude_empty=True).find(loaded, module):
        runner.run(example, out=said.append)
    assert not runner.failures, "".join(said)


def test_public_modules_have_examples(repository):
    """At least the names that `import locum` offers show how they are used."""
    import locum

    found = doctest.DocTestFinder(exclude_empty=True)
    homes = [importlib.import_module(module) for module in repository.modules]
    count = sum(len(test.examples) for home in homes for test in found.find(home, home.__name__))
    assert count > 40
    classes = [getattr(locum, name) for name in ("target", "Target", "Domain", "frontier", "Fidelity", "Card", "Frontier")]
    silent = [thing.__name__ for thing in classes if ">>>" not in inspect.getdoc(thing)]
    assert silent in ([], ["frontier"])  # the class Frontier shows the function


# ---------------------------------------------------------------------- the reading itself
def good(size, *rest, seed=0, names=("a", "b"), **more):
    """Well said.

    Parameters
    ----------
    size : int
        How large.
    *rest
    seed : int, default=0
    names : tuple of str, default=('a', 'b')
    **more
    """


def lies(size=8, seed=None, low=1, high=2):
    """Badly said.

    Parameters
    ----------
    size : int, default=9
    seed : int
    low, high : int, default=1, 3
    """


def lacks(one, two, three):
    """Nothing said."""


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (good, []),
        (lacks, ["no section on its parameters"]),
        (
            lies,
            [
                "size is said to be 9 by default, and is 8",
                "seed has the default None, which is not said",
                "high is said to be 1, 3 by default, and is 2",
            ],
        ),
    ],
)
def test_the_reading_of_docstrings(thing, expected):
    assert complaints(thing) == expected
