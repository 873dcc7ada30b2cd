"""Pictures of the cars of DrivAerNet and of airfoils, drawn once and kept as bytes in ~/.cache/locum/car-drag."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.datasets import DrivAerNet
from locum.emulate import renderings
from locum.problems import cars

CHANNELS = ("depth", "normal", "silhouette")
FOLDER = Path.home() / ".cache" / "locum" / "car-drag"


def of_cars(data: DrivAerNet, rows: NDArray[np.intp], size: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Pictures (n, 6, 5, size, size) as bytes, and lengths and areas (n, 9), of the cars of these rows."""

    def one(i: int) -> tuple[NDArray[Any], NDArray[Any]]:
        car = cars.car_from_parameters(data.row(i), str(data.kinds[i]))
        pictures = renderings.render_views(car, size=size, channels=CHANNELS)
        return np.round(255 * pictures).astype(np.uint8), np.array(list(renderings.shape_measures(car).values()))

    probes = b"".join(one(int(i))[0].tobytes() for i in rows[:: max(len(rows) // 4, 1)])  # other code draws other pictures
    key = hashlib.sha256(probes + np.asarray(rows, dtype=np.int64).tobytes()).hexdigest()[:12]

    def all_of_them() -> list[NDArray[Any]]:
        return [np.stack(part) for part in zip(*map(one, rows.tolist()), strict=True)]

    pictures, measures = kept(f"cars-{size}-{key}", all_of_them)
    return pictures, measures


def kept(name: str, work: Callable[[], Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
    """The arrays that `work` gives, from the file of this name where there is one."""
    file = FOLDER / f"{name}.npz"
    if not file.exists():
        arrays = work()
        FOLDER.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{os.getpid()}.npz")
        np.savez(beside, **{str(i): one for i, one in enumerate(arrays)})
        beside.replace(file)
    with np.load(file, allow_pickle=False) as held:
        return [held[str(i)] for i in range(len(held.files))]
