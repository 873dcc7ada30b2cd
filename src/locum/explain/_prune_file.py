"""A pruned network in a file: its weights, and which units of the full one are left."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from locum.core.errors import FormatError, need
from locum.explain._lrp import checked_module
from locum.explain._prune_groups import Structure
from locum.nets.checkpoint import write_whole

__all__ = ["read_pruned", "write_pruned"]

_FORMAT = 1


def _torch() -> Any:
    return need("torch", "a pruned network", "nets")


def write_pruned(path: str | os.PathLike[str], model: Any, **structure: Any) -> None:
    """Weights as tensors, `structure` as JSON."""
    state = {name: value.cpu() for name, value in model.state_dict().items()}
    write_whole(path, {"structure": json.dumps({"format": _FORMAT, **structure}), "state": state})


def read_pruned(path: str | os.PathLike[str], model: Any) -> Any:
    """The network that `write_pruned` wrote, made of a copy of the full one."""
    torch = _torch()
    try:
        record = torch.load(Path(path), weights_only=True, map_location="cpu")
        structure, state = json.loads(record["structure"]), record["state"]
        if structure["format"] != _FORMAT:
            raise FormatError(f"expected a pruned network of format {_FORMAT}, got {structure['format']!r}: update Locum")
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(f"{path} holds no pruned network ({error})") from error
    small = copy.deepcopy(checked_module(model)).cpu()
    found = Structure(small, torch.zeros(structure["example"]), structure["ignore"])
    if found.widths != structure["widths"]:
        raise FormatError(f"{path} is of a network with units {structure['widths']}, not {found.widths}")
    gone = {name: np.setdiff1d(np.arange(found.widths[name]), kept).tolist() for name, kept in structure["kept"].items()}
    found.remove({name: units for name, units in gone.items() if units})
    small.load_state_dict(state)
    return small
