"""Airfoils as thin slabs, with the drag that NeuralFoil gives them: real outlines, and a drag that is itself a surrogate's."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from pictures import kept

from locum.emulate import render_views
from locum.problems._packages import holder
from locum.problems.cars import lofted

ALPHA, REYNOLDS = 2.0, 1e6
VIEWS = ("top", "bottom")
BOX = ((0.0, 0.0, -0.35), (1.0, 0.2, 0.35))
_PANELS = 60  # along either side


def families(names: list[str]) -> NDArray[np.str_]:
    """The letters that a name begins with, such as goe and naca."""
    return np.array([re.match(r"[a-z]*", name.lower()).group() or "other" for name in names])


def outlines(limit: int | None, seed: int) -> tuple[list[str], NDArray[np.float64]]:
    """Names and (n, 2, panels + 1, 2) points of the upper and the lower side, from nose to tail, of chord 1."""
    library = holder("aerosandbox", "airfoils")
    folder = library._asb_root / "geometry" / "airfoil" / "airfoil_database"
    names = sorted(path.stem for path in folder.glob("*.dat"))
    if limit is not None:
        names = sorted(np.random.default_rng(seed).permutation(names)[:limit].tolist())
    found, points = [], []
    for name in names:
        sides = _sides(library.Airfoil(name))
        if sides is not None:
            found.append(name)
            points.append(sides)
    return found, np.stack(points)


def _sides(foil: object) -> NDArray[np.float64] | None:
    """Heights of both sides at the same places; None for an outline that cannot be read or leaves the box."""
    if foil.coordinates is None or len(foil.coordinates) < 10:
        return None
    x = 0.5 * (1 - np.cos(np.linspace(0, np.pi, _PANELS + 1)))
    out = []
    for side in (foil.upper_coordinates()[::-1], foil.lower_coordinates()):
        order = np.argsort(side[:, 0], kind="stable")
        out.append(np.column_stack([x, np.interp(x, side[order, 0], side[order, 1])]))
    sides = np.stack(out)
    thickness = sides[0, :, 1] - sides[1, :, 1]
    good = np.isfinite(sides).all() and np.abs(sides[..., 1]).max() < 0.34 and thickness.max() > 0.01
    return sides if good and thickness[1:-1].min() > -1e-3 else None


def drag_of(sides: NDArray[np.float64]) -> float:
    """At two degrees and a Reynolds number of a million."""
    foils = holder("neuralfoil", "polars of airfoils")
    around = np.concatenate([sides[0, ::-1], sides[1, 1:]])
    told = foils.get_aero_from_coordinates(around, alpha=ALPHA, Re=REYNOLDS, model_size="medium")
    return float(np.ravel(told["CD"])[0])


def slab(sides: NDArray[np.float64]) -> object:
    """The outline carried along the span, 0.16 of a chord wide, as a closed mesh."""
    upper, lower = sides[:, :, 1]
    lift = np.maximum(upper - lower, 4e-4) - (upper - lower)  # nowhere without thickness
    around = np.concatenate([np.column_stack([sides[0, :, 0], upper + 0.5 * lift]),
                             np.column_stack([sides[1, ::-1, 0], (lower - 0.5 * lift)[::-1]])])  # fmt: skip
    return lofted([np.column_stack([around[:, 0], np.full(len(around), y), around[:, 1]]) for y in (0.02, 0.18)])


def features(sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thickness, camber and where they are largest, radius of the nose, and angle of the tail, shape (n, 7)."""
    x, thick, camber = sides[0, 0, :, 0], sides[:, 0, :, 1] - sides[:, 1, :, 1], sides[:, :, :, 1].mean(axis=1)
    nose, tail = thick[:, 4], thick[:, -8] / (1 - x[-8])
    return np.column_stack([thick.max(axis=1), x[thick.argmax(axis=1)], np.abs(camber).max(axis=1), camber.mean(axis=1),
                            x[np.abs(camber).argmax(axis=1)], nose, tail])  # fmt: skip


def load(limit: int | None, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray, NDArray]:
    """Pictures (n, 2, 4, size, size) as 16-bit numbers, drag, families, and features."""
    names, sides = outlines(limit, seed)

    def work() -> list[NDArray]:
        drawn = [render_views(slab(one), VIEWS, size, ("depth", "normal"), BOX) for one in sides]
        return [np.stack(drawn).astype(np.float16), np.array([drag_of(one) for one in sides])]

    pictures, drag = kept(f"foils-{size}-{len(names)}-{seed if limit else 'all'}", work)
    return pictures.astype(np.float32), drag, families(names), features(sides)
