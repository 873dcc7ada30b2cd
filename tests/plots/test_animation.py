"""Fields that move: as many frames as there are, the last one is drawn, nothing half written, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from PIL import Image

from locum.core.errors import InvalidData
from locum.plots import animate_fields


def wave(n=5):
    x = 2 * np.pi * np.arange(16) / 16
    return np.sin(x - 0.5 * np.arange(n)[:, None])


@pytest.mark.parametrize("dimensions", [1, 2])
def test_a_picture_has_a_frame_for_each_row(dimensions, tmp_path):
    u = wave() if dimensions == 1 else wave()[:, :, None] * np.ones(8)
    file = animate_fields({"solver": u, "stand-in": 0.9 * u}, tmp_path / "moving.gif", dt=0.1)
    with Image.open(file) as moving:
        assert moving.n_frames == 5
        first = np.asarray(moving.convert("RGB"), dtype=float)
        moving.seek(4)
        last = np.asarray(moving.convert("RGB"), dtype=float)
    assert np.abs(first - last).mean() > 0.1, "it moves"


def test_a_page_can_be_stepped_through(tmp_path):
    file = animate_fields({"<b>solver</b>": wave(3)}, tmp_path / "moving.html")
    text = file.read_text()
    assert text.count("data:image/png;base64") == 3
    assert "<b>solver" not in text, "names are in pictures alone"


def test_what_diverged_is_drawn_beside_the_truth(tmp_path):
    said = wave()
    said[3:] = np.nan
    assert animate_fields({"solver": wave(), "stand-in": said}, tmp_path / "moving.gif").stat().st_size > 1000


@pytest.mark.parametrize(
    ("fields", "name", "message"),
    [
        ({}, "it.gif", "fields of one shape"),
        ({"a": np.zeros((3, 4)), "b": np.zeros((3, 5))}, "it.gif", "fields of one shape"),
        ({"a": np.zeros(4)}, "it.gif", "fields of one shape"),
        ({"a": np.zeros((3, 4))}, "it.mp4", "ends with .gif or .html, got it.mp4"),
        ({"a": np.full((3, 4), np.nan)}, "it.gif", "finite fields first"),
    ],
)
def test_what_cannot_be_drawn_is_refused(fields, name, message, tmp_path):
    with pytest.raises(InvalidData, match=message):
        animate_fields(fields, tmp_path / name)
    assert not list(tmp_path.iterdir())
