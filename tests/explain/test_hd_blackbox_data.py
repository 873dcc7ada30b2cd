"""Wide tables are read from files as they are known to be, and refused otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from locum.core.errors import InvalidData
from locum.datasets._wide import WIDE, load_wide

HEADER = [f"WAP{j:03d}" for j in range(1, 521)] + [
    "LONGITUDE", "LATITUDE", "FLOOR", "BUILDINGID", "SPACEID", "RELATIVEPOSITION", "USERID", "PHONEID", "TIMESTAMP",
]  # fmt: skip


def signals(folder, header=HEADER):
    for name, lines in (("trainingData.csv", [(2, 1, 7), (0, 2, 8)]), ("validationData.csv", [(3, 0, 0)])):
        rows = [",".join(header)]
        for floor, building, user in lines:
            heard = ["-60", *["100"] * 519]
            rows.append(",".join([*heard, "-7541.26", "4864920.7", str(floor), str(building), "1", "2", str(user), "23", "1"]))
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")


def test_signals_are_recoded_and_nothing_that_tells_the_place_is_left(tmp_path):
    signals(tmp_path)
    table = load_wide("ujiindoorloc", path=tmp_path)
    assert table.X.shape == (3, 520)
    assert table.X[:, 0].tolist() == [-60, -60, -60]
    assert (table.X[:, 1:] == -105).all()
    assert table.y.tolist() == [1, 2, 0]
    assert table.groups.tolist() == [7, 8, 0]
    assert table.held_out.tolist() == [False, False, True]
    assert not {"LONGITUDE", "LATITUDE", "FLOOR"} & set(table.names)
    floors = load_wide("ujiindoorloc", path=tmp_path, target="building and floor")
    assert floors.y.tolist() == ["1/2", "2/0", "0/3"]


def test_the_folder_of_data_is_looked_in(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCUM_DATA", str(tmp_path))
    (tmp_path / "ujiindoorloc").mkdir()
    signals(tmp_path / "ujiindoorloc")
    assert len(load_wide("ujiindoorloc")) == 3


def test_matlab_files_are_read_and_their_shape_is_checked(tmp_path):
    X, Y = np.arange(73 * 325).reshape(73, 325), np.repeat([1, 2], [40, 33])[:, None]
    savemat(tmp_path / "lung_small.mat", {"X": X, "Y": Y})
    table = load_wide("lung_small", path=tmp_path / "lung_small.mat")
    assert table.X.dtype == float
    assert table.y.tolist() == Y.ravel().tolist()
    assert table.relevant is None
    savemat(tmp_path / "short.mat", {"X": X[:, :10], "Y": Y})
    with pytest.raises(InvalidData, match="73 rows of 325 columns, got shape"):
        load_wide("lung_small", path=tmp_path / "short.mat")
    savemat(tmp_path / "other.mat", {"Z": X})
    with pytest.raises(InvalidData, match="expected a MATLAB file with X and Y"):
        load_wide("lung_small", path=tmp_path / "other.mat")


def test_the_relevant_columns_of_madelon_are_marked(tmp_path):
    savemat(tmp_path / "madelon.mat", {"X": np.zeros((2600, 500)), "Y": np.ones((2600, 1))})
    relevant = load_wide("madelon", path=tmp_path / "madelon.mat").relevant
    assert relevant.sum() == 20
    assert relevant[[28, 493]].all()


def test_what_cannot_be_read_is_refused(tmp_path, monkeypatch):
    assert len(WIDE) == 11
    with pytest.raises(InvalidData, match="no wide table 'madeleine'"):
        load_wide("madeleine")
    with pytest.raises(InvalidData, match="expected target="):
        load_wide("ujiindoorloc", target="floor")
    with pytest.raises(InvalidData, match="there is no such file; get it from"):
        load_wide("arcene", path=tmp_path / "arcene.mat")
    signals(tmp_path, header=["x", *HEADER[1:520], *HEADER[521:], "y"])
    with pytest.raises(InvalidData, match="is not the table 'ujiindoorloc'"):
        load_wide("ujiindoorloc", path=tmp_path)
    monkeypatch.delenv("LOCUM_DATA", raising=False)
    with pytest.raises(InvalidData, match="set LOCUM_DATA to the folder above it"):
        load_wide("arcene")


def test_a_picture_of_the_curves():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from locum.core.target import Target
    from locum.explain.hd_blackbox import HighDimExplainer
    from locum.plots._hd_blackbox import plot_faithfulness

    X = np.random.default_rng(0).normal(size=(200, 20))
    box = Target(lambda X: np.column_stack([X[:, 0] > 0, X[:, 0] <= 0]).astype(float), name="box", output="probability")
    found = HighDimExplainer(box, k=2, max_queries=1000).fit(X).faithfulness(X[:20], ks=(1, 5))
    ax = plot_faithfulness(found)
    assert len(ax.get_legend().get_texts()) == 6
    top = ax.containers[0].lines[0]
    assert top.get_xdata().tolist() == [1, 5]
    assert top.get_ydata() == pytest.approx([one.value for one in found.comprehensiveness["top"]])
    matplotlib.pyplot.close("all")
