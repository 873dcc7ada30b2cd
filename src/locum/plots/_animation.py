"""Fields that move: the truth and its stand-ins side by side, frame after frame, in a file to send."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_positive
from locum.core.export import write_atomically
from locum.plots._axes import COLOURS, pyplot

__all__ = ["animate_fields"]

_LINES = ("-", "--", ":", "-.")


def animate_fields(
    fields: Mapping[str, ArrayLike], path: Any, *, dt: float = 1.0, length: float = 1.0, fps: float = 8.0
) -> Path:
    """Write fields as they change in time: lines in one picture over a grid of one dimension, images side by side over two.

    Parameters
    ----------
    fields : mapping of str to array-like of shape (T, n) or (T, height, width)
        What each is called, the truth first, whose range is that of the axes or colours.
    path : path
        A .gif, or an .html page that can be stopped and stepped through.
    dt : float, default=1.0
        Time between frames.
    length : float, default=1.0
        Of the grid, along its last side.
    fps : float, default=8.0
        Frames a second.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidData
        Fields of different shapes, or another ending.
    """
    found = {name: np.asarray(one, dtype=float) for name, one in fields.items()}
    shapes = {one.shape for one in found.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) not in (2, 3) or 0 in next(iter(shapes)):
        raise InvalidData(f"expected fields of one shape, (T, n) or (T, height, width), got {sorted(shapes)}")
    file = Path(path)
    if file.suffix not in (".gif", ".html"):
        raise InvalidData(f"expected a file that ends with .gif or .html, got {file.name}")
    require_positive(dt=dt, length=length, fps=fps)
    truth = next(iter(found.values()))
    if not np.isfinite(truth).all():
        raise InvalidData("expected finite fields first, whose range the picture takes, got NaN or infinity")
    plt = pyplot()
    from matplotlib.animation import FuncAnimation

    figure, move = (_lines if truth.ndim == 2 else _images)(found, truth, length)
    clock = figure.suptitle(" ", fontsize=9)

    def show(t: int) -> list[Any]:
        clock.set_text(f"time {t * dt:.3g}")
        return [*move(t), clock]

    try:
        moving = FuncAnimation(figure, show, frames=len(truth), interval=1000 / fps)
        write_atomically(file, _written(moving, file.suffix, fps))
    finally:
        plt.close(figure)
    return file


def _written(moving: Any, suffix: str, fps: float) -> bytes:
    if suffix == ".html":
        return str(moving.to_jshtml(fps=fps, embed_frames=True)).encode()
    from matplotlib.animation import PillowWriter

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "moving.gif"
        moving.save(file, writer=PillowWriter(fps=round(max(fps, 1))))
        return file.read_bytes()


def _lines(found: dict[str, NDArray[np.float64]], truth: NDArray[np.float64], length: float) -> tuple[Any, Any]:
    figure, ax = pyplot().subplots(figsize=(4.6, 2.9), layout="constrained")
    x = length * (np.arange(truth.shape[1]) + 0.5) / truth.shape[1]
    lines = [
        ax.plot(x, one[0], _LINES[i % len(_LINES)], color=COLOURS[i % len(COLOURS)], lw=1.6, label=name)[0]
        for i, (name, one) in enumerate(found.items())
    ]
    room = 0.1 * float(np.ptp(truth)) or 1.0
    ax.set(xlim=(0, length), ylim=(truth.min() - room, truth.max() + room), xlabel="x")
    ax.legend(fontsize=7, loc="upper right")

    def move(t: int) -> list[Any]:
        for line, one in zip(lines, found.values(), strict=True):
            line.set_ydata(one[t])
        return lines

    return figure, move


def _images(found: dict[str, NDArray[np.float64]], truth: NDArray[np.float64], length: float) -> tuple[Any, Any]:
    figure, panels = pyplot().subplots(
        1, len(found), figsize=(2.4 * len(found) + 0.8, 2.8), squeeze=False, sharey=True, layout="constrained"
    )
    low, high = float(truth.min()), float(truth.max())
    low, high, colours = (-max(-low, high), max(-low, high), "RdBu_r") if low < 0 < high else (low, high, "viridis")
    extent = (0, length, 0, length * truth.shape[1] / truth.shape[2])
    images = []
    for ax, (name, one) in zip(panels[0], found.items(), strict=True):
        images.append(ax.imshow(one[0], origin="lower", cmap=colours, vmin=low, vmax=high, extent=extent))
        ax.set_title(name, fontsize=9)
    figure.colorbar(images[0], ax=list(panels[0]), shrink=0.8)

    def move(t: int) -> list[Any]:
        for image, one in zip(images, found.values(), strict=True):
            image.set_data(one[t])
        return images

    return figure, move
