"""Bodies of cars as closed meshes from a few numbers: sketches of the cars of DrivAerNet, and the Ahmed body."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, need, require_one_of, require_whole

__all__ = ["BODIES", "PARAMETERS", "WHEELS", "ahmed_body", "car_from_parameters", "lofted"]

Array = NDArray[np.float64]

BODIES = {"E": "estate back", "F": "fastback", "N": "notchback"}
WHEELS = {"WW": "open", "WWS": "smooth", "WWC": "closed"}

#: Lower and upper end of each parameter; lengths in mm and angles in degrees, from the car that all were morphed from.
PARAMETERS = {
    "B_Ramp_Angle": (-8.0, 15.0),
    "B_Diffusor_Angle": (-8.0, 15.0),
    "B_Trunklid_Angle": (-8.0, 20.0),
    "C_Side_Mirrors_Rotation": (-20.0, 20.0),
    "D_Rear_Window_Inclination": (-1.8, 2.5),
    "D_Winscreen_Inclination": (-1.8, 2.5),
    "C_Side_Mirrors_Translate_X": (-10.0, 20.0),
    "C_Side_Mirrors_Translate_Z": (-5.0, 10.0),
    "D_Winscreen_Length": (-50.0, 50.0),
    "D_Rear_Window_Length": (-95.0, 150.0),
    "E_A_B_C_Pillar_Thickness": (-15.0, 5.0),
    "G_Trunklid_Curvature": (-0.4, 0.8),
    "G_Trunklid_Length": (-40.0, 40.0),
    "H_Front_Bumper_Curvature": (-0.4, 1.0),
    "H_Front_Bumper_Length": (-25.0, 60.0),
    "F_Door_Handles_Thickness": (-20.0, 30.0),
    "F_Door_Handles_Z_Position": (-30.0, 30.0),
    "E_Fenders_Arch_Offset": (-25.0, 55.0),
    "A_Car_Length": (-60.0, 130.0),
    "F_Door_Handles_X_Position": (-50.0, 50.0),
    "A_Car_Width": (-60.0, 150.0),
    "A_Car_Roof_Height": (-60.0, 90.0),
    "A_Car_Green_House_Angle": (-200.0, 150.0),
}
_SLACK = 0.05  # of a range, which a value may lie beyond it by

_CLEARANCE, _AXLES, _WHEEL, _ARCH = 0.16, (-1.39, 1.39), 0.32, 0.38  # m: under the body, wheels, their radius, and room
_TAIL = 2.3
_STATIONS = 168
_REAR = {"E": (52.0, 2.22, 0.98), "F": (21.0, 2.1, 0.93), "N": (30.0, 1.72, 0.95)}  # window: angle, foot, height of the foot
_RECESS = {"open": 0.11, "smooth": 0.035, "closed": 0.004}  # of the disc within the tyre


# ---------------------------------------------------------------------- meshes from sections
def lofted(sections: Any) -> Any:
    """The closed mesh through sections that follow one another, ended by flat caps.

    Parameters
    ----------
    sections : array-like of shape (stations, points, 3)
        Points of each go round, all in the same sense.

    Returns
    -------
    trimesh.Trimesh
        Faces look outwards.
    """
    trimesh = need("trimesh", "a mesh", "meshes")
    rings = np.asarray(sections, dtype=float)
    if rings.ndim != 3 or rings.shape[2] != 3 or rings.shape[0] < 2 or rings.shape[1] < 3 or not np.isfinite(rings).all():
        raise InvalidData(f"expected two sections or more of three finite points or more, got shape {rings.shape}")
    stations, points, _ = rings.shape
    index = np.arange(stations * points).reshape(stations, points)
    here, there = index[:-1], index[1:]
    a, b, c, d = here, np.roll(here, -1, axis=1), np.roll(there, -1, axis=1), there
    sides = np.concatenate([np.stack([a, c, b], axis=-1).reshape(-1, 3), np.stack([a, d, c], axis=-1).reshape(-1, 3)])
    first, last = index[0], index[-1]
    ends = [
        np.stack([np.full(points, index.size), first, np.roll(first, -1)], axis=-1),
        np.stack([np.full(points, index.size + 1), np.roll(last, -1), last], axis=-1),
    ]
    vertices = np.concatenate([rings.reshape(-1, 3), rings[0].mean(axis=0)[None], rings[-1].mean(axis=0)[None]])
    faces = np.concatenate([sides, *ends])
    a, b, c = vertices[faces].transpose(1, 0, 2)
    inwards = np.einsum("ij,ij->", a, np.cross(b, c)) < 0  # six times the volume
    return trimesh.Trimesh(vertices, faces[:, ::-1] if inwards else faces, process=False)


def _box(centre: Sequence[float], size: Sequence[float], turned: float = 0.0) -> Any:
    """A block, turned about the vertical axis by an angle in degrees."""
    trimesh = need("trimesh", "a mesh", "meshes")
    turn = trimesh.transformations.rotation_matrix(math.radians(turned), [0.0, 0.0, 1.0])
    turn[:3, 3] = centre
    return trimesh.creation.box(extents=size, transform=turn)


def _wheel(x: float, y: float, radius: float, width: float, recess: float) -> Any:
    """A tyre whose face lies at y, and a disc that lies deeper by `recess`."""
    out = math.copysign(1.0, y)
    angles = np.linspace(0.0, 2 * math.pi, 32, endpoint=False)
    rims = [(radius * 0.94, -width), (radius, -width + 0.02), (radius, -0.02), (radius * 0.94, 0.0), (radius * 0.72, 0.0),
            (radius * 0.68, -recess), (radius * 0.1, -recess)]  # fmt: skip
    rings = [
        np.stack([x + r * np.cos(angles), np.full(len(angles), y + out * deep), radius + r * np.sin(angles)], axis=1)
        for r, deep in rims
    ]
    return lofted(rings)


# ---------------------------------------------------------------------- the cars of DrivAerNet
def car_from_parameters(parameters: Mapping[str, float] | None = None, kind: str = "F_S_WWC_WM") -> Any:
    """A sketch of a car with the parameters of DrivAerNet, as a mesh of closed parts with faces outwards, in m.

    The cars themselves, on which the drag was computed, are not public in a size that could be kept here. The sketch has their
    proportions, and every parameter moves its surface in the way that its name says, angles, pillars, mirrors and window
    lengths up to seven times as far: over its range each shifts an edge by a pixel or more in a picture of 128 pixels.

    Parameters
    ----------
    parameters : mapping of str to float or None, default=None
        Of those in `PARAMETERS`; those not given are 0.
    kind : str, default="F_S_WWC_WM"
        Body (E, F or N), underbody (S), wheels (WW open, WWS smooth, WWC closed) and mirrors (WM).

    Returns
    -------
    trimesh.Trimesh
        The nose points against x, the ground is z = 0.

    Raises
    ------
    InvalidData
        A parameter or kind that is not known, or a value far beyond its range.

    Notes
    -----
    Cost: 5 ms; 12,000 faces. Proportions follow the DrivAer reference model (Heft, Indinger and Adams, SAE 2012-01-0168);
    parameters follow Elrefaie, Dai and Ahmed, *DrivAerNet*, arXiv 2403.08055.

    Examples
    --------
    >>> car = car_from_parameters({"A_Car_Length": 100.0}, "N_S_WW_WM")
    >>> bool(car.is_watertight), bool(4.5 < car.extents[0] < 5.0)
    (True, True)
    """
    body, wheels = _kind(kind)
    p = _checked(parameters or {})
    trimesh = need("trimesh", "a mesh", "meshes")
    shell = _Shell(p, body)
    parts = [lofted(shell.sections())]
    offset = 0.5 * p["A_Car_Width"] / 1000
    for side in (-1.0, 1.0):
        parts += [_wheel(x, side * (0.885 + offset), _WHEEL, 0.22, _RECESS[wheels]) for x in _AXLES]
        mirror = (-0.62 + 3 * p["C_Side_Mirrors_Translate_X"] / 1000, side * (1.0 + offset),
                  0.98 + 3 * p["C_Side_Mirrors_Translate_Z"] / 1000)  # fmt: skip
        parts.append(_box(mirror, (0.1, 0.2, 0.13), side * 1.5 * p["C_Side_Mirrors_Rotation"]))
        thick = 0.05 + p["F_Door_Handles_Thickness"] / 1000
        for x in (-0.02, 0.86):
            centre = (x + p["F_Door_Handles_X_Position"] / 1000, side * (0.885 + offset),
                      0.79 + p["F_Door_Handles_Z_Position"] / 1000)  # fmt: skip
            parts.append(_box(centre, (0.2, 2 * thick, 0.035 + 0.5 * thick)))
    return trimesh.util.concatenate(parts)


def _kind(kind: str) -> tuple[str, str]:
    """Body and wheels of a kind in the words of the data set."""
    parts = str(kind).split("_")
    known = len(parts) >= 3 and parts[0] in BODIES and parts[2] in WHEELS
    if not known:
        raise InvalidData(
            f"expected kind= such as 'F_S_WWC_WM', a body of {', '.join(BODIES)} and wheels of {', '.join(WHEELS)}, "
            f"got {kind!r}"
        )
    return parts[0], WHEELS[parts[2]]


def _checked(given: Mapping[str, float]) -> dict[str, float]:
    for name, value in given.items():
        require_one_of(tuple(PARAMETERS), parameters=name)
        low, high = PARAMETERS[name]
        slack = _SLACK * (high - low)
        if not low - slack <= float(value) <= high + slack:
            raise InvalidData(f"expected {name} between {low:g} and {high:g}, got {value!r}")
    return {name: float(given.get(name, 0.0)) for name in PARAMETERS}


class _Shell:
    """The painted surface as sections across the car."""

    def __init__(self, p: Mapping[str, float], body: str) -> None:
        self.p, self.body = p, body
        mm = {name: value / 1000 for name, value in p.items()}
        longer = mm["A_Car_Length"]
        self.hood = -2.12 - 0.5 * longer  # where the bonnet begins; the bumper lies before it
        self.nose = self.hood - 0.16 - mm["H_Front_Bumper_Length"]
        self.tail = _TAIL + 0.5 * longer
        self.half = 0.885 + 0.5 * mm["A_Car_Width"]
        self.roof = 1.40 + mm["A_Car_Roof_Height"]
        self.cowl = -0.98 - 1.5 * mm["D_Winscreen_Length"]
        self.belt = 0.93
        steep = math.tan(math.radians(29.0 + 2 * p["D_Winscreen_Inclination"]))
        self.front = self.cowl + (self.roof - self.belt) / steep
        angle, foot, self.deck = _REAR[body]
        self.foot = min(foot + 0.4 * longer - 2 * mm["G_Trunklid_Length"] + 0.4 * mm["D_Rear_Window_Length"], self.tail - 0.05)
        steep = math.tan(math.radians(angle + 2 * p["D_Rear_Window_Inclination"]))
        self.back = self.foot - (self.roof - self.deck) / steep - 0.6 * mm["D_Rear_Window_Length"]
        self.back = max(self.back, self.front + 0.15)
        self.fender = mm["E_Fenders_Arch_Offset"]
        self.narrow = 0.62 + 0.3 * mm["A_Car_Green_House_Angle"]  # half the roof
        self.pillar = 0.13 + 7 * mm["E_A_B_C_Pillar_Thickness"]

    def sections(self) -> Array:
        """Shape (stations, points, 3)."""
        x = np.linspace(self.nose, self.tail, _STATIONS)
        y, z = self._right_half(x)
        y, z = np.concatenate([y, -y[:, -2:0:-1]], axis=1), np.concatenate([z, z[:, -2:0:-1]], axis=1)
        return np.stack([np.broadcast_to(x[:, None], y.shape), y, z], axis=-1)

    # ------------------------------------------------------------------ heights along the car
    def _floor(self, x: Array) -> Array:
        ramp, diffuser = (math.tan(math.radians(4.0 + self.p[name])) for name in ("B_Ramp_Angle", "B_Diffusor_Angle"))
        begin, end = self.hood + 0.3, 1.72
        return np.asarray(_CLEARANCE + ramp * np.maximum(begin - x, 0.0) + diffuser * np.maximum(x - end, 0.0))

    def _hull(self, x: Array) -> Array:
        """Bonnet, belt line and boot lid."""
        lid = self.deck - math.tan(math.radians(self.p["B_Trunklid_Angle"])) * 0.22  # at the tail
        knots = [self.nose, self.nose + 0.04, self.hood, self.cowl, self.foot, self.tail - 0.04, self.tail]
        heights = [0.5, 0.58, 0.72, self.belt, self.deck, lid, lid - 0.05]
        z = np.interp(x, knots, heights)
        span = max(self.tail - self.foot, 0.3)
        share = np.clip((x - (self.tail - span)) / span, 0.0, 1.0)
        z += 0.07 * self.p["G_Trunklid_Curvature"] * np.sin(math.pi * share)
        return np.asarray(z + 0.03 * np.sin(math.pi * np.clip((x - self.hood) / (self.cowl - self.hood), 0.0, 1.0)))

    def _top(self, x: Array, hull: Array) -> Array:
        """The greenhouse over the hull."""
        glass = np.interp(x, [self.cowl, self.front, self.back, self.foot], [0.0, 1.0, 1.0, 0.0], left=0.0, right=0.0)
        arched = self.roof - 0.05 * np.clip((x - 0.1) / 1.6, -1.0, 1.0) ** 2
        return np.asarray(hull + np.maximum(glass * (arched - hull), 0.002))

    # ------------------------------------------------------------------ widths
    def _side(self, x: Array) -> Array:
        """Half width of the hull, without the fenders."""
        curve = 0.2 + 0.2 * self.p["H_Front_Bumper_Curvature"]
        front = np.clip((self.hood + 0.45 - x) / (self.hood + 0.45 - self.nose), 0.0, 1.0)
        rear = np.clip((x - self.tail + 0.7) / 0.7, 0.0, 1.0)
        return np.asarray(self.half * (1.0 - curve * front**2.5 - 0.1 * rear**2.5))

    def _right_half(self, x: Array) -> tuple[Array, Array]:
        """y and z from the middle of the floor to the middle of the roof, each of shape (stations, points)."""
        floor, hull, side = self._floor(x), self._hull(x), self._side(x)
        top = self._top(x, hull)
        wing = side + sum(self.fender * np.exp(-(((x - axle) / 0.42) ** 4)) for axle in _AXLES)
        reach = sum(np.sqrt(np.maximum(_ARCH**2 - (x - axle) ** 2, 0.0)) for axle in _AXLES)
        arch = np.where(reach > 0, _WHEEL + reach, floor + 0.08)
        inner = np.where(reach > 0, side - 0.26, side - 0.01)
        arch = np.minimum(np.maximum(arch, floor + 0.05), hull - 0.12)
        middle = 0.5 * (arch + hull)
        glass = np.clip((top - hull) / max(self.roof - self.belt, 0.1), 0.0, 1.0)
        edge = side - glass * (self.half - self.narrow)
        y = [0 * x, 0.5 * inner, inner - 0.03, inner, inner, wing, wing, side]
        z = [floor, floor, floor, floor + 0.03, arch, arch + 0.01, middle, hull]
        sunk = self._windows(x) * np.minimum(glass, 1.0)
        rail = 0.72 - 1.4 * (self.pillar - 0.13)  # thick pillars go with a thick roof rail
        for share, pane in ((0.12, 0.0), (0.18, 1.0), (rail, 1.0), (rail + 0.06, 0.0)):
            y.append((side - 0.03) + share * (edge - 0.05 - side + 0.03) - 0.1 * pane * sunk)
            z.append(hull + (0.04 + 0.96 * share) * (top - hull) * 0.97)
        y += [edge - 0.05, edge - 0.13, 0.5 * edge, 0 * x]
        z += [hull + 0.98 * (top - hull), top, top + 0.012 * glass, top + 0.018 * glass]
        return np.stack(y, axis=1), np.stack(z, axis=1)

    def _windows(self, x: Array) -> Array:
        """1 where a side window is, 0 at the pillars."""
        first, last = 0.5 * (self.cowl + self.front) + 0.1, 0.5 * (self.back + self.foot) - 0.1
        half = 0.5 * self.pillar
        panes = ((first + half, 0.22 - half), (0.22 + half, 1.06 - half), (1.06 + half, last - half))
        soft = 0.03
        return np.asarray(sum(np.clip((x - a) / soft, 0, 1) * np.clip((b - x) / soft, 0, 1) * (b > a) for a, b in panes))


# ---------------------------------------------------------------------- the Ahmed body
def ahmed_body(slant: float = 25.0, *, length: float = 1.044, stations: int = 121) -> Any:
    """The block with a rounded nose and a slanted rear end on which the flow behind cars is studied, as a closed mesh, in m.

    Parameters
    ----------
    slant : float, default=25.0
        Angle of the rear slope, 0 to 45 degrees; the slope is 0.222 m long.
    length : float, default=1.044
    stations : int, default=121
        Sections along it.

    Notes
    -----
    Width 0.389 m, height 0.288 m, 0.05 m above the ground, front edges rounded by 0.1 m; the stilts are left out. Reference:
    Ahmed, Ramm and Faltin, SAE 840300.

    Examples
    --------
    >>> round(float(ahmed_body(0.0).extents[2]), 3)
    0.288
    """
    if isinstance(slant, bool) or not 0 <= slant <= 45:
        raise InvalidData(f"expected slant= between 0 and 45 degrees, got {slant!r}")
    if not length > 0.5:
        raise InvalidData(f"expected length= above 0.5 m, got {length!r}")
    require_whole(11, stations=stations)
    round_, wide, tall, up = 0.1, 0.389, 0.288, 0.05
    edge = length - 0.222 * math.cos(math.radians(slant))
    nose = round_ * (1 - np.cos(np.linspace(0.05, 0.5 * math.pi, max(stations // 4, 3))))
    x = np.concatenate([nose, np.linspace(round_, edge, stations // 2)[1:], np.linspace(edge, length, stations // 4)[1:]])
    inset = round_ - np.sqrt(np.maximum(round_**2 - np.maximum(round_ - x, 0.0) ** 2, 0.0))
    half = 0.5 * wide - inset
    low, high = up + inset, up + tall - inset - math.tan(math.radians(slant)) * np.maximum(x - edge, 0.0)
    y = np.stack([-half, half, half, -half], axis=1)
    z = np.stack([low, low, high, high], axis=1)
    return lofted(np.stack([np.broadcast_to(x[:, None], y.shape) - 0.5 * length, y, z], axis=-1))
