"""Dictionaries as files: Locum's own, those of SAELens, and those that dictionary_learning left. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import FormatError, InvalidData, need
from locum.inside import encoders as specs
from locum.inside.dictionary import Dictionary, SparseAutoencoder
from locum.inside.mp_sae import MatchingPursuitSAE

__all__ = ["build", "load", "plain", "read_record", "read_tensors", "restored", "save", "write_record", "write_tensors"]

FORMAT = 1
_JSON, _TENSORS = "dictionary.json", "dictionary.safetensors"
_CLASSES = {"SparseAutoencoder": SparseAutoencoder, "MatchingPursuitSAE": MatchingPursuitSAE}
_OFF = 1e-3  # by which the length of an atom may differ from 1


def plain(value: Any) -> Any:
    """Settings as JSON: an encoder is its class and its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__, **{one.name: plain(getattr(value, one.name)) for one in fields(value)}}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def restored(value: Any) -> Any:
    """Settings from JSON."""
    if isinstance(value, list):
        return tuple(restored(one) for one in value)
    if isinstance(value, Mapping):
        kind = value.get("class")
        if kind not in specs.__all__:
            raise FormatError(f"the file names {kind!r}, which is no encoder of this version; update locum")
        return getattr(specs, kind)(**{name: restored(one) for name, one in value.items() if name != "class"})
    return value


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """A JSON file."""
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(path: Path, version: int, what: str = "") -> dict[str, Any]:
    """What `write_record` wrote.

    Raises
    ------
    FormatError
        No such file, one that is damaged, or one of another format.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot read {path}: {error}; expected a folder that save wrote") from error
    if record.get("format") != version:
        raise FormatError(f"expected {what}format {version} in {path.parent}, got {record.get('format')!r}; update locum")
    return record


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """A safetensors file."""
    numbers = need("safetensors.numpy", "a dictionary's file", "nets")
    numbers.save_file({name: np.ascontiguousarray(one) for name, one in tensors.items()}, str(path))


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """What a safetensors file holds.

    Raises
    ------
    FormatError
        No such file, or one that is damaged or cut short.
    """
    numbers = need("safetensors.numpy", "a dictionary's file", "nets")
    try:
        return dict(numbers.load_file(str(path)))
    except Exception as error:
        raise FormatError(f"cannot read {path}: {error}; use another copy") from error


def save(dictionary: Dictionary, folder: Path) -> None:
    """Write a dictionary to a folder."""
    kind = type(dictionary).__name__
    if kind not in _CLASSES:
        raise InvalidData(f"{kind} cannot be saved; the dictionaries of locum.inside can")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"net.{name}": one.detach().cpu().numpy() for name, one in dictionary._net.state_dict().items()}
    write_tensors(folder / _TENSORS, {**tensors, "mean": dictionary.mean_})
    settings = {name: plain(value) for name, value in dictionary.get_params(deep=False).items()}
    record = {
        "format": FORMAT,
        "class": kind,
        "settings": settings,
        "width": dictionary.n_features_in_,
        "tied": dictionary._net.tied,
    }
    record["tau"] = getattr(dictionary._net.encoder, "tau", None)
    write_record(folder / _JSON, record)


def load(folder: Path) -> Dictionary:
    """The dictionary in a folder."""
    record = read_record(folder / _JSON, FORMAT, "a dictionary of ")
    if record.get("class") not in _CLASSES:
        raise FormatError(f"expected one of {', '.join(_CLASSES)} in {folder}, got {record.get('class')!r}; update locum")
    tensors = read_tensors(folder / _TENSORS)
    settings = {name: restored(value) for name, value in record["settings"].items()}
    made = _CLASSES[record["class"]](**settings | {"device": "cpu"})
    state = {name.removeprefix("net."): one for name, one in tensors.items() if name.startswith("net.")}
    build(made, state, tensors["mean"], record["width"], tied=record["tied"], where=folder)
    if record["tau"] is not None:
        made._net.encoder.tau = record["tau"]
    return made


def build(
    made: Dictionary, state: Mapping[str, NDArray[Any]], mean: NDArray[Any], width: int, *, tied: bool, where: Path
) -> Dictionary:
    """Give a dictionary that is not fitted the weights of one that is."""
    from locum.inside._network import DictionaryNet

    torch = need("torch", "a dictionary", "nets")
    spec, tensors = made.spec(), {name: torch.from_numpy(np.array(one)) for name, one in state.items()}
    if "atoms" not in tensors or tensors["atoms"].ndim != 2:
        raise FormatError(f"{where} holds no atoms; use another copy")
    lengths = tensors["atoms"].norm(dim=1)
    off = float((lengths - 1).abs().max())
    if off > _OFF:
        at = int((lengths - 1).abs().argmax())
        raise FormatError(
            f"expected atoms of length 1 in {where}, got {float(lengths[at]):g} for atom {at}; normalise them first"
        )
    atoms = tensors["atoms"]
    first = tensors.get("encoder.map.weight", atoms)
    shift = None if tied else torch.zeros(first.shape[1])
    spec.check(len(atoms))
    encoder = spec.network(first, atoms.shape[1], 1)
    ends, weights = spec.prefixes(len(atoms)), spec.prefix_weights()
    net = DictionaryNet(encoder, atoms.clone(), torch.zeros(atoms.shape[1]), shift, ends, weights, spec.dead)
    for name, one in net.state_dict().items():
        if name in ("silent", "shift") or ".penalty." in name:  # what only a training needs may be absent
            tensors.setdefault(name, one)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise FormatError(f"{where} does not hold what {type(made).__name__} with {spec} has: {error}") from error
    made._take(net.eval(), np.asarray(mean), width)
    return made
