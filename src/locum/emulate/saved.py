"""Emulators from files, whatever their kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from locum.core.errors import InvalidData
from locum.emulate._packed import kind_of
from locum.emulate.cape import NeuralPDESolver
from locum.emulate.car_drag import RenderingRegressor
from locum.emulate.gtf import DynamicsReconstructor
from locum.emulate.info_koopman import KoopmanEmulator

__all__ = ["load_emulator"]

_CLASSES = (DynamicsReconstructor, KoopmanEmulator, NeuralPDESolver, RenderingRegressor)
_KINDS: dict[str, Any] = {one.__name__: one for one in _CLASSES}


def load_emulator(path: Any) -> Any:
    """The emulator in a file that its own `save` wrote; nothing in the file is run.

    Parameters
    ----------
    path : path

    Returns
    -------
    DynamicsReconstructor, KoopmanEmulator, NeuralPDESolver or RenderingRegressor

    Raises
    ------
    InvalidData
        No such file, or an emulator of a kind that is not known here.
    FormatError
        Another kind of file.
    """
    if not Path(path).exists():
        raise InvalidData(f"there is no file {path}")
    kind = kind_of(path)
    if kind not in _KINDS:
        raise InvalidData(f"expected a saved emulator ({', '.join(_KINDS)}) in {path}, got {kind}")
    return _KINDS[kind].load(path)
