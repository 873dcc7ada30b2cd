"""Saving a stand-in, reading it back, and turning a readable one into source code.

The file is one line that names the format and carries a checksum, then a zip archive of ``standin.json`` and one ``.npy`` an
array. Nothing in it is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from locum.core.domain import Domain
from locum.core.errors import FormatError, InvalidData
from locum.core.fidelity import Fidelity
from locum.core.program import Program, Rule
from locum.core.region import Region
from locum.core.rivals import Rival
from locum.core.surrogate import Saves, StandIn

__all__ = ["FORMAT", "load", "save", "to_python", "write_atomically"]

FORMAT = 1
_MAGIC = b"locum-standin"


def save(standin: StandIn, path: Any) -> None:
    """Write a stand-in to one file, all of it or nothing.

    Raises
    ------
    InvalidData
        Its model cannot be saved (it has no `Saves` ability).
    """
    if not isinstance(standin.model, Saves):
        raise InvalidData(
            f"{type(standin.model).__name__} cannot be saved: it would have to be a locum.core.surrogate.Saves; "
            "the readable stand-ins of locum.explain are"
        )
    record, arrays = standin.model.to_state()
    content = {
        "class": f"{type(standin.model).__module__}.{type(standin.model).__qualname__}",
        "model": record,
        "domain": standin.domain.to_dict(),
        "region": standin.region.to_dict(),
        "target": standin.target,
        "price": standin.price,
        "fidelity": [found.to_dict() for found in standin.fidelity],
        "rivals": [rival.to_dict() for rival in standin.rivals],
        "random_state": standin.random_state,
    }
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("standin.json", json.dumps(content, allow_nan=True))
        for name, array in {**arrays, "residuals": standin.residuals}.items():
            packed = io.BytesIO()
            np.save(packed, array, allow_pickle=False)
            archive.writestr(f"{name}.npy", packed.getvalue())
    data = body.getvalue()
    header = b"%s %d %s\n" % (_MAGIC, FORMAT, hashlib.sha256(data).hexdigest().encode())
    write_atomically(path, header + data)


def load(path: Any, *, classes: Iterable[type] = ()) -> StandIn:
    """Read a stand-in back.

    Parameters
    ----------
    path : path of a file that `save` wrote
    classes : iterable of type, default=()
        Classes of one's own that saved models may be of; those of Locum are known. A file can name no other.

    Raises
    ------
    FormatError
        Not such a file, damaged, newer than this version reads, or of an unknown class.
    """
    try:
        header, _, data = Path(path).read_bytes().partition(b"\n")
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
    parts = header.split()
    if len(parts) != 3 or parts[0] != _MAGIC or not parts[1].isdigit():
        raise FormatError(f"{path} is not a saved stand-in; expected a file that StandIn.save wrote")
    if int(parts[1]) > FORMAT:
        raise FormatError(f"{path} has format {int(parts[1])}, this version reads up to {FORMAT}; update locum")
    if hashlib.sha256(data).hexdigest().encode() != parts[2]:
        raise FormatError(f"{path} is damaged: its content does not match its checksum; use another copy")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            record = json.loads(archive.read("standin.json"))
            arrays = {
                name.removesuffix(".npy"): np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
                for name in archive.namelist()
                if name.endswith(".npy")
            }
        residuals = arrays.pop("residuals")
        model = _class(record["class"], classes).from_state(record["model"], arrays)
        return StandIn(
            model,
            Domain.from_dict(record["domain"]),
            Region.from_dict(record["region"]),
            record["target"],
            record["price"],
            tuple(Fidelity.from_dict(found) for found in record["fidelity"]),
            tuple(Rival.from_dict(rival) for rival in record["rivals"]),
            residuals,
            record["random_state"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path} does not hold a whole stand-in: {error!r} while reading it") from error


def _class(path: str, classes: Iterable[type]) -> Any:
    for known in classes:
        if f"{known.__module__}.{known.__qualname__}" == path:
            return known
    module, _, name = path.rpartition(".")
    if module.startswith("locum."):
        import importlib

        found = getattr(importlib.import_module(module), name, None)
        if isinstance(found, type) and issubclass(found, Saves):
            return found
    raise FormatError(f"the file holds a {path}, which is not a class of Locum that is saved; pass it in classes= if it is yours")


def write_atomically(path: Any, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one."""
    path = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InvalidData(f"cannot write {path}: {error.strerror or error}; choose a folder that can be written") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


# ---------------------------------------------------------------------- source code
def to_python(program: Program) -> str:
    """Python source without dependencies: a function ``predict(row)`` that takes a mapping of column names to values.

    A missing value is None, NaN or absent; a category that was never seen is unknown, as in `Program`.
    """
    levels = {c.name: list(c.levels) for c in program.columns if c.kind == "categorical"}
    lines = [
        "import math",
        "",
        f"COLUMNS = {[c.name for c in program.columns]!r}",
        f"LEVELS = {levels!r}",
        f"CLASSES = {None if program.classes is None else list(program.classes)!r}",
        "",
        "",
        "def encode(row):",
        "    out = []",
        "    for name in COLUMNS:",
        "        value = row.get(name)",
        "        if value is None or value != value:",
        "            out.append(None)",
        "        elif name in LEVELS:",
        "            out.append(LEVELS[name].index(value) if value in LEVELS[name] else -1)",
        "        else:",
        "            out.append(float(value))",
        "    return out",
        "",
        "",
        "def scores(x):",
        *_python_body(program),
        "",
        "",
        "def values(row):",
        "    s = scores(encode(row))",
        *_PYTHON_LINKS[program.link],
        "",
        "",
        "def predict(row):",
        "    v = values(row)",
        {"value": "    return v[0]", "probability": "    return v"}.get(program.kind, "    return CLASSES[v.index(max(v))]"),
    ]
    return "\n".join(lines) + "\n"


_PYTHON_LINKS = {
    "identity": ["    return s"],
    "softmax": ["    e = [math.exp(v - max(s)) for v in s]", "    return [v / sum(e) for v in e]"],
    "normalise": [
        "    c = [max(v, 0.0) for v in s]",
        "    return [v / sum(c) for v in c] if sum(c) > 0 else [1.0 / len(c)] * len(c)",
    ],
}


def _python_body(program: Program) -> list[str]:
    if program.body == "rules":
        lines = []
        for rule in program.terms:
            lines += [f"    if {_python_test(rule)}:", f"        return {_literal(rule.value)}"]  # type: ignore[union-attr]
        return [*lines, f"    return {_literal(program.base)}"]
    lines = [f"    s = {_literal(program.base)}"]
    for term in program.terms:
        lines += [f"    v = {line}" if i == 0 else f"    {line}" for i, line in enumerate(_python_term(term))]
        lines.append("    s = [a + b for a, b in zip(s, v)]")
    return [*lines, "    return s"]


def _python_test(rule: Rule) -> str:
    tests = []
    for condition in rule.conditions:
        x = f"x[{condition.column}]"
        if condition.levels is not None:
            held = f"{x} in {list(condition.levels)!r}"
        else:
            low = "" if condition.low is None else f"{condition.low!r} < "
            high = "" if condition.high is None else f" <= {condition.high!r}"
            held = f"{low}{x}{high}" if low or high else "True"
        tests.append(f"({x} is None or {held})" if condition.missing else f"({x} is not None and {held})")
    return " and ".join(tests) or "True"


def _python_term(term: Any) -> list[str]:
    record = term.to_dict()
    if record["kind"] == "rule":
        return [f"{_literal(term.value)} if {_python_test(term)} else {_literal([0.0] * len(term.value))}"]
    x, missing = f"x[{term.column}]", _literal(term.missing)
    if record["kind"] == "linear":
        return [f"{missing} if {x} is None else [k * ({x} - {term.center!r}) for k in {_literal(term.slope)}]"]
    table = "[" + ", ".join(_literal(v) for v in term.values) + "]"
    if record["kind"] == "levels":
        return [f"{missing} if {x} is None else ({_literal(term.unknown)} if {x} < 0 else {table}[{x}])"]
    return [f"{missing} if {x} is None else {table}[sum(e < {x} for e in {list(term.edges)!r})]"]


def _literal(values: Any) -> str:
    return repr([float("nan") if v != v else float(v) for v in values]).replace("nan", "math.nan")
