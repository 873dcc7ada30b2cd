"""Pictures of meshes: depths and normals that geometry tells, mirror images, and meshes that are not sound."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData, OutsideRegion
from locum.emulate import mirrored, render_views, shape_measures, sound_mesh
from locum.emulate.renderings import CAR_BOX, VIEWS

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("embreex")

BOX = ((-2.0, -1.0, 0.0), (2.0, 1.0, 1.6))
ALL = ("depth", "normal", "silhouette")


def brick(low=(-1.0, -0.5, 0.2), high=(1.5, 0.75, 1.0)):
    return trimesh.creation.box(bounds=[low, high])


def egg():
    """An ellipsoid with half axes 1.6, 0.8 and 0.6."""
    ball = trimesh.creation.icosphere(subdivisions=5)
    ball.apply_scale([1.6, 0.8, 0.6])
    ball.apply_translation([0.0, 0.0, 0.7])
    return ball


def wedge():
    """Different from all sides."""
    corners = [[-1.5, -0.8, 0], [1.5, -0.8, 0], [1.5, 0.4, 0], [-1.5, 0.4, 0], [1.2, -0.6, 1.2], [1.2, 0.1, 1.0]]
    return trimesh.convex.convex_hull(np.array(corners, dtype=float))


# ---------------------------------------------------------------------- known answers
def test_a_brick_is_as_far_away_as_its_faces_are():
    pictures = render_views(brick(), size=80, channels=ALL, bounds=BOX)
    nearest = {"front": 1.0 / 4, "rear": 0.5 / 4, "left": 0.5 / 2, "right": 0.25 / 2, "top": 0.6 / 1.6, "bottom": 0.2 / 1.6}
    covered = {"front": 1.25 * 0.8 / 3.2, "left": 2.5 * 0.8 / 6.4, "top": 2.5 * 1.25 / 8.0}
    outward = {"front": (-1, 0, 0), "rear": (1, 0, 0), "left": (0, -1, 0), "right": (0, 1, 0), "top": (0, 0, 1),
               "bottom": (0, 0, -1)}  # fmt: skip
    for view, picture in zip(VIEWS, pictures, strict=True):
        full = picture[4] == 1
        assert picture[0][full] == pytest.approx(nearest[view], abs=1e-6)
        assert np.abs(2 * picture[1:4, full].T - 1 - outward[view]).max() < 1e-6
        assert (picture[0][picture[4] == 0] == 1).all()
        assert (picture[1:4, picture[4] == 0] == 0.5).all()
        if view in covered:
            assert picture[4].mean() == pytest.approx(covered[view], abs=0.01)


@pytest.mark.parametrize(
    ("view", "rows", "columns"),
    [("front", "low", "-y"), ("rear", "low", "y"), ("left", "low", "x"), ("right", "low", "-x"), ("top", "-y", "x"),
     ("bottom", "y", "x")],
)  # fmt: skip
def test_a_small_block_is_where_the_camera_sees_it(view, rows, columns):
    """Near the corner x > 0, y > 0, low: which half of the picture it is in says how the camera stands."""
    small = trimesh.creation.box(bounds=[[1.2, 0.6, 0.1], [1.6, 0.8, 0.25]])
    seen = np.argwhere(render_views(small, (view,), 32, ("silhouette",), BOX)[0, 0] > 0.5).mean(axis=0) / 32
    assert (seen[0] > 0.5) == (rows in ("low", "y"))  # rows run downwards
    assert (seen[1] > 0.5) == (columns in ("y", "x"))


def test_the_normals_of_an_egg_are_those_of_the_formula():
    size, axes = 64, np.array([1.6, 0.8, 0.6])
    picture = render_views(egg(), ("top",), size, ALL, BOX, supersample=1)[0]
    x, y = (np.arange(size) + 0.5) / size * 4 - 2, 1 - (np.arange(size) + 0.5) / size * 2
    X, Y = np.meshgrid(x, y)
    inside = (X / 1.6) ** 2 + (Y / 0.8) ** 2 < 0.9
    height = 0.6 * np.sqrt(np.where(inside, 1 - (X / 1.6) ** 2 - (Y / 0.8) ** 2, 0))
    normal = np.stack([X, Y, height]) / axes[:, None, None] ** 2
    normal /= np.where(inside, np.linalg.norm(normal, axis=0), 1)
    assert picture[0][inside] == pytest.approx((0.9 - height[inside]) / 1.6, abs=2e-3)
    assert np.abs(2 * picture[1:4] - 1 - normal)[:, inside].max() < 0.05


def test_lengths_and_areas_of_an_egg():
    found = shape_measures(egg(), BOX, size=96)
    assert [found[name] for name in ("length", "width", "height")] == pytest.approx([3.2, 1.6, 1.2], abs=1e-3)
    areas = [found[name] for name in ("frontal_area", "side_area", "plan_area")]
    assert areas == pytest.approx([np.pi * 0.8 * 0.6, np.pi * 1.6 * 0.6, np.pi * 1.6 * 0.8], rel=0.01)
    assert found["mean_top"] == pytest.approx(0.7 + 0.4, abs=0.02)  # half an ellipsoid is two thirds as high on average
    assert found["mean_bottom"] == pytest.approx(0.7 - 0.4, abs=0.02)


def test_pictures_of_a_grown_shape_are_not_those_of_the_shape():
    """Depths are not scaled by picture, so that size is seen."""
    small, large = (render_views(brick(high=(1.5, 0.75, top)), ("top",), 32, ("depth",), BOX) for top in (1.0, 1.2))
    inside = small < 0.5
    assert (small[inside] - large[inside]) == pytest.approx(0.2 / 1.6, abs=1e-6)


def test_an_edge_within_a_pixel_is_seen():
    areas = [render_views(brick(high=(1.5, 0.75, top)), ("front",), 16, ("silhouette",), BOX, supersample=8).mean()
             for top in (1.0, 1.02, 1.04, 1.06)]  # fmt: skip
    assert (np.diff(areas) > 0).all()


# ---------------------------------------------------------------------- mirror images
def test_mirror_images_are_pictures_of_the_mirrored_mesh():
    other = wedge()
    other.apply_transform(np.diag([1.0, -1.0, 1.0, 1.0]))
    expected, drawn = render_views(other, size=32, bounds=BOX), render_views(wedge(), size=32, bounds=BOX)
    assert np.abs(expected - drawn).mean() > 0.02
    assert np.abs(mirrored(drawn) - expected).max() < 1e-5
    assert np.array_equal(mirrored(mirrored(drawn)), drawn) or np.abs(mirrored(mirrored(drawn)) - drawn).max() < 1e-6


def test_mirror_images_of_bytes_and_of_tensors_are_the_same():
    torch = pytest.importorskip("torch")
    drawn = np.round(255 * render_views(wedge(), size=32, bounds=BOX)).astype(np.uint8)
    found = mirrored(torch.from_numpy(drawn[None]))[0].numpy()
    assert np.array_equal(found, mirrored(drawn))
    assert np.abs(found / 255 - mirrored(drawn / 255.0)).max() < 1e-6


# ---------------------------------------------------------------------- meshes that are not sound
def holed(count=4):
    mesh = egg()
    mesh.update_faces(np.arange(len(mesh.faces)) >= count)
    return mesh


def test_faces_that_look_inwards_are_drawn_as_if_they_did_not():
    rng = np.random.default_rng(0)
    bad = egg()
    turned = rng.random(len(bad.faces)) < 0.4
    bad.faces[turned] = bad.faces[turned][:, ::-1]
    assert not bad.is_winding_consistent
    assert np.abs(render_views(bad, size=32, bounds=BOX) - render_views(egg(), size=32, bounds=BOX)).max() < 1e-6
    mended = sound_mesh(bad)
    assert mended.is_winding_consistent
    assert mended.volume == pytest.approx(egg().volume)


def test_a_mesh_turned_inside_out_is_drawn_the_same():
    bad = egg()
    bad.invert()
    assert bad.volume < 0
    assert np.abs(render_views(bad, size=32, bounds=BOX) - render_views(egg(), size=32, bounds=BOX)).max() < 1e-6


def test_holes_are_refused_filled_or_kept_as_told():
    with pytest.raises(InvalidData, match=r"expected a closed mesh, got one with 3 edges that do not lie between two faces"):
        render_views(holed(1), size=32, bounds=BOX)
    filled = render_views(holed(1), size=32, bounds=BOX, holes="fill")
    assert np.abs(filled - render_views(egg(), size=32, bounds=BOX)).max() < 0.02
    kept = render_views(holed(600), size=32, bounds=BOX, holes="keep")
    assert kept.shape == filled.shape
    with pytest.raises(InvalidData, match="expected a closed mesh"):
        sound_mesh(trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]))


def test_meshes_that_cannot_be_drawn_are_refused():
    empty, broken = trimesh.Trimesh(), brick()
    broken.vertices[0, 0] = np.nan
    for mesh, message in [
        (empty, "a mesh of one face or more"), (broken, "finite vertices"),
        (trimesh.Scene([brick()]), r"expected a trimesh.Trimesh, got Scene: of a scene take to_mesh\(\)"),
        (brick(high=(2.5, 0.75, 1.0)), r"within the box from \(-2, -1, 0\) to \(2, 1, 1.6\), got one .* to \(2.5, 0.75, 1\)"),
    ]:  # fmt: skip
        with pytest.raises(InvalidData, match=message):
            render_views(mesh, size=16, bounds=BOX)


@pytest.mark.parametrize("high", [(-0.5, 0.9, 1.0), (1.5, -0.3, 1.5)])
def test_a_mesh_that_seems_turned_is_warned_of(high):
    with pytest.warns(OutsideRegion, match="may be turned: x goes with the air, z upwards"):
        render_views(brick(high=high), size=16, bounds=BOX)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"views": ("side",)}, "views= to be one of front, rear, left"), ({"channels": ("colour",)}, "channels= to be one of"),
        ({"views": ()}, "a view and a channel or more"), ({"size": 0}, "size= to be a whole number"),
        ({"bounds": ((0, 0, 0), (1, 1, 0))}, "a lower and a higher corner"), ({"holes": "mend"}, "holes= to be one of"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused(given, message):
    with pytest.raises(InvalidData, match=message):
        render_views(holed(1) if "holes" in given else brick(), **{"bounds": BOX, **given})


def test_mirror_images_need_both_sides():
    with pytest.raises(InvalidData, match="the right view beside the left one"):
        mirrored(np.zeros((1, 4, 16, 16)), views=("left",))


def test_the_usual_box_holds_a_car():
    assert np.ptp(CAR_BOX, axis=0) == pytest.approx([5.5, 2.4, 1.7])
