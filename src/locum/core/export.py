"""Saving a stand-in, reading it back, and turning a readable one into source code.

The file is one line that names the format and carries a checksum, then a zip archive, not compressed, of ``standin.json``,
``residuals.npy`` and ``arrays/NAME.npy`` for each array of the model. Nothing in it is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import io
import json
import os
import re
import secrets
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core._sources.javascript import to_javascript
from locum.core._sources.onnx import to_onnx
from locum.core._sources.python import to_python
from locum.core._sources.sql import to_sql
from locum.core.domain import Domain
from locum.core.errors import FormatError, InvalidData, LocumError
from locum.core.fidelity import Fidelity
from locum.core.region import Region
from locum.core.rivals import Rival
from locum.core.surrogate import Saves, StandIn

__all__ = ["EXPORTS", "FORMAT", "load", "save", "to_javascript", "to_onnx", "to_python", "to_sql", "write_atomically"]

FORMAT = 1
EXPORTS: dict[str, Callable[..., str | bytes]] = {
    "python": to_python,
    "sql": to_sql,
    "javascript": to_javascript,
    "onnx": to_onnx,
}
_MAGIC = b"locum-standin"
_HEADER = re.compile(_MAGIC + rb" ([1-9][0-9]{0,5}) ([0-9a-f]{64})\n")
_CLASS = re.compile(r"(locum(?:\.[a-z]\w*)+)\.([A-Z]\w*)", re.ASCII)
_LONGEST_HEADER = 100
_MEMBER = re.compile(r"standin\.json|residuals\.npy|arrays/.+\.npy", re.DOTALL)


def save(standin: StandIn, path: Any) -> None:
    """Write a stand-in to one file, all of it or nothing; the same stand-in gives the same bytes.

    Raises
    ------
    InvalidData
        Its model cannot be saved (it has no `Saves` ability, or holds what is no plain value), or the file cannot be written.
    """
    if not isinstance(standin.model, Saves):
        raise InvalidData(
            f"{type(standin.model).__name__} cannot be saved: it would have to be a locum.core.surrogate.Saves; "
            "the readable stand-ins of locum.explain are"
        )
    record, arrays = standin.model.to_state()
    content = {
        "class": _path(type(standin.model)),
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
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr(_member("standin.json"), json.dumps(content, default=_plain))
        archive.writestr(_member("residuals.npy"), _packed(standin.residuals))
        for name, array in arrays.items():
            archive.writestr(_member(f"arrays/{name}.npy"), _packed(array))
    data = body.getvalue()
    write_atomically(path, b"%s %d %s\n" % (_MAGIC, FORMAT, _checksum(FORMAT, data)) + data)


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
    data = _content(path)
    try:
        members = _members(data)
        record = json.loads(members.pop("standin.json"))
        arrays = {name: np.lib.format.read_array(io.BytesIO(packed), allow_pickle=False) for name, packed in members.items()}
        residuals = arrays.pop("residuals.npy")
        held = {name.removeprefix("arrays/").removesuffix(".npy"): array for name, array in arrays.items()}
        return StandIn(
            model=_class(record["class"], classes).from_state(record["model"], held),
            domain=Domain.from_dict(record["domain"]),
            region=Region.from_dict(record["region"]),
            target=record["target"],
            price=record["price"],
            fidelity=tuple(Fidelity.from_dict(found) for found in record["fidelity"]),
            rivals=tuple(Rival.from_dict(rival) for rival in record["rivals"]),
            residuals=residuals,
            random_state=record["random_state"],
        )
    except Exception as error:  # what somebody made up to look like a stand-in can fail in any way
        if isinstance(error, LocumError) and not isinstance(error, InvalidData):
            raise
        raise FormatError(f"{path} does not hold a whole stand-in: {error!r} while reading it") from error


# ---------------------------------------------------------------------- the file
def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name)  # dated 1980, so that equal stand-ins make equal files


def _packed(array: NDArray[Any]) -> bytes:
    if array.dtype.hasobject:
        raise InvalidData(f"expected arrays of numbers or of text of fixed width in what is saved, got one of {array.dtype}")
    packed = io.BytesIO()
    np.save(packed, array, allow_pickle=False)
    return packed.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise InvalidData(f"expected plain values in what is saved, got {type(value).__name__}")


def _checksum(version: int, data: bytes) -> bytes:
    return hashlib.sha256(b"%d\n" % version + data).hexdigest().encode()


def _content(path: Any) -> bytes:
    """What follows the first line of a saved stand-in, after all that the first line promises was found true."""
    try:
        with Path(path).open("rb") as file:
            header = _HEADER.fullmatch(file.readline(_LONGEST_HEADER))
            if header is None:
                raise FormatError(f"{path} is not a saved stand-in; expected a file that StandIn.save wrote")
            version = int(header[1])
            if version > FORMAT:
                raise FormatError(f"{path} has format {version}, this version reads up to {FORMAT}; update locum")
            data = file.read()
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
    if _checksum(version, data) != header[2]:
        raise FormatError(f"{path} is damaged: its content does not match its checksum; use another copy")
    return data


def _members(data: bytes) -> dict[str, bytes]:
    """The parts of the archive by name. As nothing is compressed, they cannot be larger than the file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        found = archive.infolist()
        strange = [one.filename for one in found if not _MEMBER.fullmatch(one.filename)]
        if strange or len({one.filename for one in found}) < len(found):
            raise FormatError(f"expected standin.json and arrays, each once, got {strange or [one.filename for one in found]}")
        if any(one.compress_type != zipfile.ZIP_STORED for one in found) or sum(one.file_size for one in found) > len(data):
            raise FormatError("expected an archive that is not compressed and no larger than its file")
        return {one.filename: archive.read(one) for one in found}


def _path(type_: type) -> str:
    return f"{type_.__module__}.{type_.__qualname__}"


def _class(path: str, classes: Iterable[type]) -> Any:
    for own in classes:
        if _path(own) == path:
            return own
    named = _CLASS.fullmatch(path)
    if named:
        try:
            found = getattr(importlib.import_module(named[1]), named[2], None)
        except ModuleNotFoundError as error:
            raise FormatError(f"the file holds a {path}, which this version of locum does not have") from error
        if isinstance(found, type) and issubclass(found, Saves) and not inspect.isabstract(found):
            return found
    raise FormatError(f"the file holds a {path}, which is no class of Locum that is saved; pass it in classes= if it is yours")


def write_atomically(path: Any, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old one or the new one.

    Raises
    ------
    InvalidData
        No such folder, one that cannot be written, or a full disk.
    """
    path = Path(path)
    if not path.name:
        raise InvalidData(f"expected the path of a file to write, got {str(path)!r}")
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidData(f"cannot write {path}: {error.strerror or error}; choose a folder that can be written") from error
