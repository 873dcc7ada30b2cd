"""DrivAerNet from files: columns, split, near duplicates, and files that are other than known."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.datasets import load_drivaernet

HEADER = "Experiment,A,B,Average Cd,Std Cd,Average Cl,Std Cl,Average Cl_f,Std Cl_f"
ROWS = [
    "F_S_WW_WM_001,1,2,0.25,0.005,-0.1,0.02,0,0", "F_S_WWC_WM_001,1.01,2,0.24,0.006,-0.1,0.02,0,0",
    "N_S_WW_WM_001,9,-7,0.27,0.004,-0.2,0.03,0,0", "E_S_WW_WM_007,-8,5,0.30,0.004,0.1,0.01,0,0",
]  # fmt: skip


def written(folder, header=HEADER, rows=ROWS, packed=False):
    files = {"DrivAerNet_ParametricData.csv": "\n".join([header, *rows]), "train_design_ids.txt": "F_S_WW_WM_001\nlost_1\n",
             "val_design_ids.txt": "F_S_WWC_WM_001\n", "test_design_ids.txt": "N_S_WW_WM_001\n"}  # fmt: skip
    for name, text in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_what_a_row_says_is_where_it_belongs(tmp_path, packed):
    data = load_drivaernet(written(tmp_path, packed=packed))
    assert len(data) == 4
    assert data.columns == ("A", "B")
    assert data.kinds.tolist() == ["F_S_WW_WM", "F_S_WWC_WM", "N_S_WW_WM", "E_S_WW_WM"]
    assert data.bodies.tolist() == ["F", "F", "N", "E"]
    assert data.drag.tolist() == [0.25, 0.24, 0.27, 0.30]
    assert data.drag_spread.tolist() == [0.005, 0.006, 0.004, 0.004]
    assert data.lift[2] == -0.2
    assert data.row(2) == {"A": 9.0, "B": -7.0}
    assert data.part.tolist() == ["train", "val", "test", ""]
    assert data.rows_of("test").tolist() == [2]


def test_near_duplicates_share_a_parent(tmp_path):
    parents = load_drivaernet(written(tmp_path)).parents(0.5)
    assert parents[0] == parents[1]
    assert len(np.unique(parents)) == 3


def test_files_that_are_not_there_or_other_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InvalidData, match="found no file; get it from https://github"):
        load_drivaernet(tmp_path)
    monkeypatch.delenv("LOCUM_DATA", raising=False)
    with pytest.raises(InvalidData, match="ships in no package"):
        load_drivaernet()
    for header, rows in ((HEADER.replace("Average Cd", "Cd"), ROWS), (HEADER, [ROWS[0].replace("0.25", "high")]), (HEADER, [])):
        with pytest.raises(InvalidData, match="is not the table of DrivAerNet"):
            load_drivaernet(written(tmp_path, header, rows))
    with pytest.raises(InvalidData, match="none of the designs"):
        load_drivaernet(written(tmp_path, rows=ROWS[3:]))
    with pytest.raises(InvalidData, match="part= to be one of train, val, test"):
        load_drivaernet(written(tmp_path)).rows_of("all")
