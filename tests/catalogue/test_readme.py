"""The two things written by script: the table in README.md and the measured figures in the catalogue."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from locum.catalogue import __main__ as command
from locum.catalogue import markdown_table, papers
from locum.catalogue._papers import FOLDER, read_paper
from locum.catalogue._readme import END, START, measured_files, update_measured, update_readme
from locum.core.errors import InvalidData

ROOT = Path(__file__).parents[2]
RESULT = {
    "holds": True,
    "measure": 'gain of "share"',
    "effect": 0.12,
    "lower": 0.05,
    "upper": 0.18,
    "level": 0.95,
    "direction": "greater",
    "seeds": 5,
    "seconds": 61.5,
}


def test_table_has_a_row_for_each_system_with_five_cells():
    lines = markdown_table().splitlines()
    assert len(lines) == 67
    for one, line in zip(papers(), lines[2:], strict=True):
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        assert len(cells) == 5
        assert cells[0].strip() == str(one.number)
        assert cells[1].strip() == f"[{one.slug}]({one.url})"


def test_readme_region_is_replaced_and_the_rest_kept():
    text = f"# Locum\n\n{START}\nold\n{END}\n\nmore\n"
    wanted = update_readme(text, "new\n")
    assert wanted == f"# Locum\n\n{START}\nnew\n{END}\n\nmore\n"
    assert update_readme(wanted, "new\n") == wanted


@pytest.mark.parametrize("text", ["nothing", f"{END}\n{START}", f"{START}\n{START}\n{END}"])
def test_readme_without_right_markers_is_refused(text):
    with pytest.raises(InvalidData, match="once each"):
        update_readme(text, "new\n")


def test_command_writes_then_finds_nothing_stale(tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"{START}\n{END}\n", encoding="utf-8")
    assert command.main([str(readme), "--check"]) == 1
    assert readme.read_text(encoding="utf-8") == f"{START}\n{END}\n"
    assert "stale" in capsys.readouterr().out
    assert command.main([str(readme)]) == 0
    assert markdown_table() in readme.read_text(encoding="utf-8")
    assert command.main([str(readme), "--check"]) == 0


def test_command_says_in_one_sentence_what_it_cannot_read(tmp_path, capsys):
    assert command.main([str(tmp_path / "none.md")]) == 2
    assert "none.md" in capsys.readouterr().err


def test_measured_figures_travel_from_the_result_into_the_file(tmp_path):
    folder, results = tmp_path / "catalogue", tmp_path / "results"
    (results / "dsl").mkdir(parents=True)
    folder.mkdir()
    path = folder / "dsl.toml"
    text = update_measured((FOLDER / "dsl.toml").read_text(encoding="utf-8"), None)
    path.write_text(text + "\n[settings]\nfolds = 2\n", encoding="utf-8")
    assert measured_files(folder, results) == {}

    (results / "dsl" / "result.json").write_text(json.dumps(RESULT | {"table": [1, 2]}), encoding="utf-8")
    stale = measured_files(folder, results)
    assert list(stale) == [path]
    path.write_text(stale[path], encoding="utf-8")
    assert measured_files(folder, results) == {}
    one = read_paper(path)
    assert one.state == "holds"
    assert one.settings == {"folds": 2}
    assert f"| holds: {RESULT['measure']} 0.12 [0.05, 0.18] |" in markdown_table((one,))

    (results / "dsl" / "result.json").unlink()
    assert tomllib.loads(measured_files(folder, results)[path]).keys() == tomllib.loads(text).keys() | {"settings"}


def test_measured_table_is_replaced_wherever_it_stands():
    text = 'a = 1\n\n[measured]\nholds = false\nmeasure = "old"\n\n[settings]\nb = 2\n'
    written = tomllib.loads(update_measured(text, RESULT))
    assert written == {"a": 1, "settings": {"b": 2}, "measured": RESULT}


def test_a_result_that_lacks_a_figure_is_refused():
    with pytest.raises(InvalidData, match="lacks lower, seeds"):
        update_measured("", {name: value for name, value in RESULT.items() if name not in ("lower", "seeds")})


def test_measured_figures_equal_the_results_of_this_repository():
    results = ROOT / "benchmarks" / "papers"
    if not results.exists():
        pytest.skip("benchmarks/papers is not there: an installed package has no results")
    assert measured_files(FOLDER, results) == {}


def test_the_table_in_this_repository_is_up_to_date():
    readme = ROOT / "README.md"
    if not readme.exists() or START not in readme.read_text(encoding="utf-8"):
        pytest.skip("README.md has no catalogue markers here")
    assert command.main([str(readme), "--check"]) == 0, "run: python -m locum.catalogue README.md"
