"""Files that a training goes on from: tensors and plain values, written whole, and refused where they are another's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locum.core.errors import FormatError, need

__all__ = ["drawn", "draw_on", "read_checkpoint", "write_whole"]


def _torch() -> Any:
    return need("torch", "training a network", "nets")


def write_whole(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
    """Write tensors and plain values: whole or not at all, also where the process is killed.

    Parameters
    ----------
    path : path
    record : mapping
    """
    beside = Path(path).with_name(Path(path).name + ".part")
    _torch().save(dict(record), beside)
    os.replace(beside, path)


def read_checkpoint(path: Path, settings: Mapping[str, Any], *, version: int, device: Any, advice: str) -> Mapping[str, Any]:
    """Read a record that `write_whole` wrote, with `format` and `settings` in it.

    Parameters
    ----------
    path : Path
    settings : mapping
        Those of the training that wants to go on.
    version : int
        Of the format.
    device : torch.device
    advice : str
        What to do about a file that cannot be used.

    Raises
    ------
    FormatError
        No checkpoint, one of another format, or of other settings.
    """
    try:
        found = _torch().load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise FormatError(f"{path} is no checkpoint ({error}); {advice}") from error
    if not isinstance(found, Mapping) or found.get("format") != version:
        raise FormatError(f"{path} is no checkpoint of format {version}; {advice}")
    wrong = [name for name, value in settings.items() if found["settings"].get(name) != value]
    if wrong:
        theirs = ", ".join(f"{name}={found['settings'].get(name)}" for name in wrong)
        ours = ", ".join(f"{name}={settings[name]}" for name in wrong)
        raise FormatError(f"{path} is of a training with {theirs}, not {ours}; {advice}")
    return found


def drawn(device: Any) -> dict[str, Any]:
    """How far the random numbers have come, as a part of a record.

    Parameters
    ----------
    device : torch.device
    """
    torch = _torch()
    on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"drawn": torch.get_rng_state(), "drawn_on_device": on_device}


def draw_on(found: Mapping[str, Any], device: Any) -> None:
    """Go on with the random numbers of a record.

    Parameters
    ----------
    found : mapping
    device : torch.device
    """
    torch = _torch()
    torch.set_rng_state(found["drawn"].cpu())
    if found["drawn_on_device"] is not None:
        torch.cuda.set_rng_state(found["drawn_on_device"].cpu(), device)
