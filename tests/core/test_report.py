"""Card: kept whole, printed safely, written all or nothing."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from rich.console import Console

from locum.core._page import duration, figure, plain, share, signed, spoken
from locum.core.domain import Column, Domain
from locum.core.errors import FormatError, InvalidData
from locum.core.fidelity import Fidelity
from locum.core.program import Condition, Linear, Program, Rule, Steps
from locum.core.region import Region
from locum.core.report import Card

MEASURED = Fidelity("agreement", 0.943, 0.927, 0.956, 0.95, 1000, region="survey", candidates=3)


def made(**changes):
    rng = np.random.default_rng(0)
    rows = np.empty((80, 2), dtype=object)
    rows[:, 0], rows[:, 1] = rng.integers(18, 90, 80), rng.choice(["clerk", "nurse"], 80)
    rows[::9, 1] = None
    domain = Domain.of(rows, names=["age", "job"])
    rules = (Rule((Condition(0, high=np.float64(30.5)),), (0.9, 0.1), 31), Rule((Condition(1, levels=(0,)),), (0.2, 0.8), 20))
    program = Program(domain.columns, "class", ("no", "yes"), "identity", "rules", rules, (0.4, 0.6))
    card = Card(
        title="Who gets a loan?",
        target={"name": "a forest", "output": "class", "classes": np.array(["no", "yes"])},
        stand_in={"name": "rule list", "class": "x.RuleList", "statements": 3, "conditions": 2, "used": ["age", "job"]},
        fidelity=(MEASURED,),
        rivals=({"name": "constant", "statements": 1, "fidelity": replace(MEASURED, value=0.7, lower=0.6, upper=0.8)},),
        price={
            "target": {"calls": np.int64(5000), "seconds": 62.0, "money": 2.5, "currency": "USD"},
            "by_purpose": {"fit": 4000, "score": 1000},
            "target_seconds_per_row": 0.0124,
            "stand_in_seconds_per_row": float("nan"),
        },
        region=Region.of(domain, rows, name="survey"),
        program=program,
        frontier=tuple(
            {"name": name, "statements": k, "fidelity": replace(MEASURED, value=v), "chosen": k == 3, "knee": k == 3}
            for name, k, v in [("rule list", 1, 0.93), ("rule list", 3, 0.943), ("tree", 8, 0.95)]
        ),
        worst=(
            {
                "where": "age > 60",
                "n": 31,
                "fidelity": replace(MEASURED, value=0.5, lower=0.3, upper=0.7, n=31),
                "examples": [{"row": {"age": 71, "job": None}, "target": "no", "stand_in": "yes"}],
            },
        ),
        examples=({"age": 25, "job": "clerk"}, {"age": 60, "job": float("nan")}),
        provenance={"created": "2025-05-01", "seed": 0, "versions": {"locum": "0.1.0"}, "data": "survey", "papers": ["cart"]},
    )
    return replace(card, **changes)


def printed(card, width=100):
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(card)
    return out.getvalue()


def test_a_card_survives_json():
    for card in (made(), made(program=None, frontier=(), worst=(), examples=(), rivals=())):
        record = json.loads(card.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
        again = Card.from_dict(record)
        assert again.to_dict() == card.to_dict() == record
        assert again.to_html() == card.to_html()
        assert again.line() == card.line()


def test_line():
    assert made().line() == (
        "rule list (3 statements) stands in for a forest: agreement 0.943 [0.927, 0.956] at 95 %, n=1000 fresh queries, "
        "region: survey, best of 3 candidates"
    )


@pytest.mark.parametrize(
    "damage",
    [{"format": 2}, {"region": None}, {"fidelity": [{}]}, {"rivals": [{}]}, {"program": {"format": 1}}, {"price": ...}],
)
def test_a_record_that_is_no_card_is_refused(damage):
    record = {**made().to_dict(), **damage}
    record = {key: value for key, value in record.items() if value is not ...}
    with pytest.raises(FormatError):
        Card.from_dict(record)


def test_what_cannot_be_a_card_is_refused():
    with pytest.raises(InvalidData, match="at least one fidelity"):
        made(fidelity=())
    other = Program((Column("height", low=0.0, high=1.0),), "value", None, "identity", "rules", (), (1.0,))
    with pytest.raises(InvalidData, match="same columns"):
        made(program=other)
    card = made()
    broken = replace(card.program, base=(float("nan"), 1.0))
    with pytest.raises(InvalidData, match="finite"):
        replace(card, program=broken).to_json()
    with pytest.raises(InvalidData, match="expected numbers"):
        made(examples=({"age": "old", "job": "clerk"},)).to_html()


def test_the_page_is_one_file_that_names_nothing_outside():
    html = made().to_html()
    assert html.startswith("<!doctype html>")
    assert not re.search(r"""(?:src|href)=["'](?!\#)""", html)
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    assert "default-src 'none'" in html
    data = html.split('<script type="application/json" id="card">')[1].split("</script>")[0]
    assert "NaN" not in data
    assert "Infinity" not in data
    assert not set("<>&") & set(data)
    assert json.loads(data)["program"] == made().program.to_dict()
    assert made().to_html() == html


def test_a_lone_surrogate_does_not_stop_the_page_from_being_written(tmp_path):
    made(title="half \ud83d of a pair").save(tmp_path / "card.html")
    assert "half ? of a pair" in (tmp_path / "card.html").read_text()


def test_save(tmp_path):
    card = made()
    card.save(tmp_path / "card.html")
    card.save(str(tmp_path / "card.json"))
    assert (tmp_path / "card.html").read_text() == card.to_html()
    assert Card.from_dict(json.loads((tmp_path / "card.json").read_text())).to_dict() == card.to_dict()
    with pytest.raises(InvalidData, match=r"\.html or \.json"):
        card.save(tmp_path / "card.pdf")
    with pytest.raises(InvalidData, match="cannot write"):
        card.save(tmp_path / "nowhere" / "card.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.html", "card.json"]


def test_terminal():
    text = printed(made())
    for part in (
        "Who gets a loan?",
        str(MEASURED)[:40],
        "constant",
        "IF age <= 30.5 THEN no (0.9)",
        "OTHERWISE yes (0.6)",
        "\u25c9 chosen",
        "more stops paying at 3 (rule list)",
        "age > 60: agreement 0.500 [0.300, 0.700], n=31",
        "5,000 rows asked, 1.03 min, 2.50 USD",
        "seed 0",
    ):
        assert part in text
    assert "decides" not in printed(made(program=None))
    assert "simple" not in printed(made(frontier=()))
    assert all(len(line) <= 60 for line in printed(made(frontier=()), width=60).splitlines())


def test_terminal_shows_names_and_obeys_none_of_them():
    hostile = "[bold red]x[/] \x1b[2J\x07\r\u202e \x9b31m"
    card = made()
    columns = tuple(replace(column, name=hostile + column.name) for column in card.program.columns)
    card = replace(
        card,
        title=hostile,
        target={**card.target, "name": hostile},
        program=replace(card.program, columns=columns, classes=(hostile, "b")),
        region=replace(card.region, domain=replace(card.region.domain, columns=columns), name=hostile),
        rivals=({"name": hostile, "statements": 1, "fidelity": MEASURED},),
        worst=({"where": hostile, "n": 3, "fidelity": MEASURED},),
        examples=(),
        provenance={"data": hostile},
    )
    text = printed(card)
    assert "[bold red]x[/]" in text
    assert not set(text) & set("\x1b\x07\r\u202e\x9b")


def test_frontier_of_one_point_and_long_readings():
    rules = tuple(Rule((Condition(0, high=float(k)),), (0.5, 0.5)) for k in range(100))
    card = made()
    card = replace(card, program=replace(card.program, terms=rules), frontier=card.frontier[:1])
    text = printed(card)
    assert "and 77 more lines" in text
    assert "card" in card.to_html()


def test_a_stand_in_that_cannot_be_read_needs_no_statements():
    card = made(program=None, stand_in={"name": "network"}, rivals=({"name": "untrained network", "fidelity": MEASURED},))
    assert card.line().startswith("network stands in for a forest: agreement")
    assert "network stands in for a forest." in printed(card)
    assert "untrained network" in card.to_html()


def test_shape_functions_are_drawn_to_one_scale():
    card = made()
    terms = (
        Steps(0, (30.0, 50.0), ((0.0, -2.0), (0.0, 0.0), (0.0, 2.0)), (0.0, 0.0)),
        Linear(0, (0.0, 0.05), 50.0, (0.0, 0.0)),
    )
    html = replace(card, program=replace(card.program, body="sum", link="softmax", terms=terms)).to_html()
    drawn = re.findall(r'data-low="(.*?)" data-high="(.*?)".*?<svg width="100%" height="(.*?)"', html, flags=re.S)
    (low, high, height), line = ([float(text) for text in found] for found in drawn)
    assert (low, high) == (-2, 2)
    assert height / (high - low) == pytest.approx(line[2] / (line[1] - line[0]), rel=0.02)


def test_page_parts_are_in_the_package():
    held = {item.name for item in resources.files("locum.core._page").iterdir()}
    assert {"card.html.j2", "card.css", "card.js"} <= held


def test_figure():
    assert [figure(x) for x in (0, 1234567.0, 1234.5678, 0.123456, 0.1)] == ["0", "1,234,567", "1,235", "0.1235", "0.1"]
    assert [figure(x) for x in (-2.5, 1e-7, 1e20)] == ["\u22122.5", "1e-07", "1e+20"]


def test_other_words():
    assert [duration(s) for s in (0, 3e-9, 1.7e-6, 0.0124, 3.21, 62.0, 7300)] == [
        "0 s", "3 ns", "1.7 \u00b5s", "12.4 ms", "3.21 s", "1.03 min", "2.03 h",
    ]  # fmt: skip
    assert [signed(x) for x in (0, 0.5, -0.5)] == ["0", "+0.5", "\u22120.5"]
    assert [share(p) for p in (0, 0.052, 0.5, 0.9996, 1)] == [f"{n}\u00a0%" for n in ("0", "5.2", "50", "99.9", "100")]
    assert spoken(MEASURED) == ("0.943", "[0.927, 0.956]")
    record = {1: np.array([1.0, np.nan]), "b": (np.True_, np.int64(3), None, np.inf)}
    assert plain(record) == {"1": [1.0, None], "b": [True, 3, None, None]}
