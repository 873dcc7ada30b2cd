"""Depth and surface normals of closed meshes from several sides, in one box for all, so that size is seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, OutsideRegion, need, require_one_of, require_whole

__all__ = ["CAR_BOX", "CHANNELS", "VIEWS", "channel_slices", "mirrored", "render_views", "shape_measures", "sound_mesh"]

Array = NDArray[np.floating[Any]]

#: Around any car: x with the air, y to its side, z upwards from the ground, in m.
CAR_BOX = ((-2.75, -1.2, 0.0), (2.75, 1.2, 1.7))

#: Channels that each kind of picture has.
CHANNELS = {"depth": 1, "normal": 3, "silhouette": 1}

_HOLES = ("refuse", "fill", "keep")
_SLACK = 1e-6  # of the box, which a mesh may stick out by
_EDGE_ON = 1e-9  # cosine below which a face is seen edge on


@dataclass(frozen=True)
class _Side:
    """A camera at infinity: where it looks, and which way the picture's columns and rows run.

    Attributes
    ----------
    along, across, down : int
        Axes.
    looks, right, below : int
        Signs of these axes.
    """

    along: int
    looks: int
    across: int
    right: int
    down: int
    below: int


#: Views by name; the nose of a car points against x.
VIEWS = {
    "front": _Side(0, 1, 1, -1, 2, -1),
    "rear": _Side(0, -1, 1, 1, 2, -1),
    "left": _Side(1, 1, 0, 1, 2, -1),
    "right": _Side(1, -1, 0, -1, 2, -1),
    "top": _Side(2, -1, 0, 1, 1, -1),
    "bottom": _Side(2, 1, 0, 1, 1, 1),
}
_OTHER_SIDE = {"left": "right", "right": "left"}


# ---------------------------------------------------------------------- meshes
def sound_mesh(mesh: Any, *, holes: str = "refuse") -> Any:
    """A copy of a mesh whose faces all look outwards; duplicate vertices are merged.

    Parameters
    ----------
    mesh : trimesh.Trimesh
    holes : {"refuse", "fill", "keep"}, default="refuse"
        "fill" closes holes by flat pieces, and refuses those that it cannot close.

    Raises
    ------
    InvalidData
        No faces, vertices that are not finite, or holes.
    """
    require_one_of(_HOLES, holes=holes)
    trimesh = need("trimesh", "a mesh", "meshes")
    _check_mesh(mesh)
    found = trimesh.Trimesh(mesh.vertices, mesh.faces, process=True, validate=True)
    if not found.is_watertight and holes == "fill":
        trimesh.repair.fill_holes(found)
    if not found.is_watertight and holes != "keep":
        loose = _open_edges(found)
        raise InvalidData(
            f"expected a closed mesh, got one with {loose} edges that do not lie between two faces: close it, or let "
            f"holes='fill' close what is flat, or holes='keep' draw what is behind"
        )
    trimesh.repair.fix_normals(found, multibody=True)
    return found


def _check_mesh(mesh: Any) -> None:
    trimesh = need("trimesh", "a mesh", "meshes")
    if not isinstance(mesh, trimesh.Trimesh):
        raise InvalidData(f"expected a trimesh.Trimesh, got {type(mesh).__name__}: of a scene take to_mesh()")
    if not len(mesh.faces):
        raise InvalidData("expected a mesh of one face or more, got none")
    if not np.isfinite(mesh.vertices).all():
        raise InvalidData("expected finite vertices, got NaN or infinity")


def _open_edges(mesh: Any) -> int:
    counts = np.unique(mesh.edges_sorted, axis=0, return_counts=True)[1]
    return int((counts != 2).sum())


# ---------------------------------------------------------------------- pictures
def render_views(
    mesh: Any,
    views: Sequence[str] = tuple(VIEWS),
    size: int = 96,
    channels: Sequence[str] = ("depth", "normal"),
    bounds: Any = CAR_BOX,
    *,
    supersample: int = 2,
    holes: str = "refuse",
) -> NDArray[np.float32]:
    """Orthographic pictures of a mesh, all values in [0, 1], shape (views, channels, size, size).

    A picture spans the whole face of the box that it looks through: lengths and heights have scales of their own, which are
    those of all meshes drawn in the same box. The normals of what is seen are turned towards the camera, so that faces that
    look inwards are drawn as if they did not.

    Parameters
    ----------
    mesh : trimesh.Trimesh
        x with the air, z upwards.
    views : sequence of str, default=('front', 'rear', 'left', 'right', 'top', 'bottom')
    size : int, default=96
        Pixels along either side.
    channels : sequence of str, default=('depth', 'normal')
        "depth": one channel, from 0 at the near side of the box to 1 at its far side and where there is nothing. "normal":
        three channels, (n + 1) / 2 of the unit normal, 0.5 where there is nothing. "silhouette": share of the pixel covered.
    bounds : pair of three numbers each, default=((-2.75, -1.2, 0.0), (2.75, 1.2, 1.7))
        Lower and upper corner of the box.
    supersample : int, default=2
        Rays along either side of a pixel; depths are averaged, normals averaged where there is something.
    holes : {"refuse", "fill", "keep"}, default="refuse"
        What to do about a mesh that is not closed; see `sound_mesh`.

    Raises
    ------
    InvalidData
        A mesh without faces, with holes, or beyond the box; views or channels that are not known.
    MissingExtra
        trimesh or embreex is not installed.

    Warns
    -----
    OutsideRegion
        The mesh is longest along another axis than the box, or higher than wide where the box is not: it may be turned.

    Notes
    -----
    Cost: about a million rays a second; a mesh of 10,000 faces in six views of 64 pixels takes 0.1 s.

    Examples
    --------
    >>> import trimesh
    >>> brick = trimesh.creation.box(bounds=[[-2.0, -0.5, 0.0], [2.0, 0.5, 1.0]])
    >>> images = render_views(brick, views=("front", "top"), size=24)
    >>> images.shape, round(float(images[1, 0].min()), 3)       # seen from above: 0.7 m below the lid of a box of 1.7 m
    ((2, 4, 24, 24), 0.412)
    """
    low, high = checked_box(bounds)
    require_whole(1, size=size, supersample=supersample)
    check_names(views, channels)
    require_one_of(_HOLES, holes=holes)
    need("embreex", "rays through a mesh", "meshes")
    _check_mesh(mesh)
    found = mesh if mesh.is_watertight else sound_mesh(mesh, holes=holes)
    _check_place(found, low, high)
    return np.stack([_picture(found, VIEWS[view], size, supersample, channels, low, high) for view in views])


def checked_box(bounds: Any) -> tuple[Array, Array]:
    """Lower and upper corner of a box, after a look at them."""
    box = np.asarray(bounds, dtype=float)
    if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[0] < box[1]).all():
        raise InvalidData(f"expected bounds= as a lower and a higher corner of three numbers each, got {bounds!r}")
    return box[0], box[1]


def check_names(views: Sequence[str], channels: Sequence[str]) -> None:
    if not len(views) or not len(channels):
        raise InvalidData("expected a view and a channel or more, got none")
    for view in views:
        require_one_of(tuple(VIEWS), views=view)
    for channel in channels:
        require_one_of(tuple(CHANNELS), channels=channel)


def _check_place(mesh: Any, low: Array, high: Array) -> None:
    first, last = mesh.bounds
    slack = _SLACK * (high - low)
    if (first < low - slack).any() or (last > high + slack).any():
        raise InvalidData(
            f"expected a mesh within the box from {_said(low)} to {_said(high)}, got one from {_said(first)} to {_said(last)}: "
            "move or scale it, or give other bounds= for all meshes"
        )
    size, room = last - first, high - low
    if size.argmax() != room.argmax() or (size[2] > size[1] and room[2] < room[1]):
        warnings.warn(
            f"a mesh of {_said(size)} in a box of {_said(room)} may be turned: x goes with the air, z upwards",
            OutsideRegion, stacklevel=3,
        )  # fmt: skip


def _said(numbers: Any) -> str:
    return "(" + ", ".join(f"{one:.3g}" for one in numbers) + ")"


def _picture(
    mesh: Any, side: _Side, size: int, fine: int, channels: Sequence[str], low: Array, high: Array
) -> NDArray[np.float32]:
    """One view, shape (channels, size, size)."""
    n = size * fine
    depth, normals = np.ones((n, n), dtype=np.float32), np.zeros((n, n, 3), dtype=np.float32)
    hit = np.zeros((n, n), dtype=bool)
    across = _ticks(low, high, side.across, side.right, n)
    down = _ticks(low, high, side.down, side.below, n)
    # No ray misses that starts beside the mesh.
    columns = np.flatnonzero((across >= mesh.bounds[0, side.across]) & (across <= mesh.bounds[1, side.across]))
    rows = np.flatnonzero((down >= mesh.bounds[0, side.down]) & (down <= mesh.bounds[1, side.down]))
    if len(columns) and len(rows):
        faces = _first_faces(mesh, side, across[columns], down[rows])
        window = np.ix_(rows, columns)
        far, facing = _surface(mesh, side, faces, across[columns], down[rows])
        seen = faces >= 0
        near, room = (low if side.looks > 0 else high)[side.along], high[side.along] - low[side.along]
        hit[window] = seen
        depth[window] = np.where(seen, np.clip(side.looks * (far - near) / room, 0.0, 1.0), 1.0)
        normals[window] = np.where(seen[..., None], facing, 0.0)
    return np.concatenate([_channel(one, depth, normals, hit, fine) for one in channels]).astype(np.float32)


def _ticks(low: Array, high: Array, axis: int, sign: int, n: int) -> Array:
    middle = low[axis] + (np.arange(n) + 0.5) / n * (high[axis] - low[axis])
    return middle if sign > 0 else middle[::-1]


def _first_faces(mesh: Any, side: _Side, across: Array, down: Array) -> NDArray[np.intp]:
    """The face that each ray meets first, shape (rows, columns); -1 where it meets none."""
    start = np.empty((len(down), len(across), 3))
    start[..., side.across], start[..., side.down] = across, down[:, None]
    reach = float(np.ptp(mesh.bounds[:, side.along])) + 1e-3 * float(mesh.scale)
    middle = float(mesh.bounds[:, side.along].mean())
    start[..., side.along] = middle - side.looks * reach
    towards = np.zeros_like(start)
    towards[..., side.along] = side.looks
    found = mesh.ray.intersects_first(start.reshape(-1, 3), towards.reshape(-1, 3))
    return np.asarray(found).reshape(start.shape[:2])


def _surface(mesh: Any, side: _Side, faces: NDArray[np.intp], across: Array, down: Array) -> tuple[Array, Array]:
    """Where rays meet the planes of their faces, along the axis, and the normals there, turned to the camera."""
    corners, facing = np.asarray(mesh.triangles)[faces], np.asarray(mesh.face_normals)[faces]
    first, second, third = (corners[..., k, side.along] for k in range(3))
    steep = facing[..., side.along]
    beside = facing[..., side.across] * (across - corners[..., 0, side.across])
    beside += facing[..., side.down] * (down[:, None] - corners[..., 0, side.down])
    # A face that is seen edge on says little of where a ray meets it, but it lies between its corners.
    at = first - np.divide(beside, steep, out=np.zeros_like(beside), where=np.abs(steep) > _EDGE_ON)
    at = np.clip(at, np.minimum(np.minimum(first, second), third), np.maximum(np.maximum(first, second), third))
    return at, np.where((side.looks * steep > 0)[..., None], -facing, facing)


def _channel(kind: str, depth: Array, normals: Array, hit: NDArray[np.bool_], fine: int) -> Array:
    if kind == "depth":
        return _means(depth, fine)[None]
    if kind == "silhouette":
        return _means(hit.astype(np.float32), fine)[None]
    mean = np.stack([_means(normals[..., k], fine) for k in range(3)])
    length = np.linalg.norm(mean, axis=0)
    return np.asarray(0.5 + 0.5 * mean / np.where(length > 0, length, 1.0))


def _means(picture: Array, fine: int) -> Array:
    n = len(picture) // fine
    return np.asarray(picture.reshape(n, fine, n, fine).mean(axis=(1, 3)))


# ---------------------------------------------------------------------- channels and mirror images
def channel_slices(channels: Sequence[str]) -> dict[str, slice]:
    """Where each kind of picture is among the channels."""
    ends = np.cumsum([0, *(CHANNELS[one] for one in channels)]).tolist()
    return {one: slice(ends[i], ends[i + 1]) for i, one in enumerate(channels)}


def mirrored(images: Any, views: Sequence[str] = tuple(VIEWS), channels: Sequence[str] = ("depth", "normal")) -> Any:
    """Pictures of the mirror image of the mesh, left for right, from those of the mesh; nothing is drawn anew.

    Parameters
    ----------
    images : ndarray or tensor of shape (..., views, channels, size, size)
        In [0, 1], or bytes.
    views : sequence of str, default=('front', 'rear', 'left', 'right', 'top', 'bottom')
        Left and right come in pairs.
    channels : sequence of str, default=('depth', 'normal')

    Raises
    ------
    InvalidData
        A left view without the right one.
    """
    check_names(views, channels)
    names = list(views)
    for view in names:
        if _OTHER_SIDE.get(view, view) not in names:
            raise InvalidData(f"expected the {_OTHER_SIDE[view]} view beside the {view} one, for mirror images, got {names}")
    order = [names.index(_OTHER_SIDE.get(view, view)) for view in names]
    out = images[..., order, :, :, :]
    for i, view in enumerate(names):  # y runs down the rows from above and below, and along the columns from elsewhere
        rows = view in ("top", "bottom")
        part = out[..., i, :, :, :]
        out[..., i, :, :, :] = _reversed(part, -2 if rows else -1)
    for kind, place in channel_slices(channels).items():
        if kind == "normal":
            y = place.start + 1
            out[..., y, :, :] = _whole(images) - out[..., y, :, :]
    return out


def _whole(images: Any) -> Any:
    """What stands for 1: bytes run to 255."""
    return 255 if "uint8" in str(images.dtype) else 1.0


def _reversed(part: Any, axis: int) -> Any:
    return np.flip(part, axis).copy() if isinstance(part, np.ndarray) else part.flip(axis)


# ---------------------------------------------------------------------- few numbers of a shape
def shape_measures(mesh: Any, bounds: Any = CAR_BOX, *, size: int = 48) -> dict[str, float]:
    """Lengths and areas that say what drag one would guess without a network, in units of the mesh.

    Parameters
    ----------
    mesh : trimesh.Trimesh
    bounds : pair of three numbers each, default=((-2.75, -1.2, 0.0), (2.75, 1.2, 1.7))
    size : int, default=48
        Pixels of the silhouettes that projected areas are counted in.

    Returns
    -------
    dict
        length, width, height; area projected from the front, the side and above; area of the surface; mean height of what is
        below and of what is above.
    """
    low, high = checked_box(bounds)
    room = high - low
    seen = render_views(mesh, ("front", "left", "top", "bottom"), size, ("depth", "silhouette"), bounds)
    share = seen[:, 1].mean(axis=(1, 2))
    long, wide, tall = (mesh.bounds[1] - mesh.bounds[0]).tolist()
    covered = seen[2:, 1] > 0.5
    above, below = (float(one[some].mean()) if some.any() else 0.0 for one, some in zip(seen[2:, 0], covered, strict=True))
    return {
        "length": long, "width": wide, "height": tall, "frontal_area": float(share[0] * room[1] * room[2]),
        "side_area": float(share[1] * room[0] * room[2]), "plan_area": float(share[2] * room[0] * room[1]),
        "surface_area": float(mesh.area), "mean_top": float(high[2] - above * room[2]),
        "mean_bottom": float(low[2] + below * room[2]),
    }  # fmt: skip
