"""The page of a card in a real browser: what it computes, what it shows, and what it must never do."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from locum.core.domain import Domain
from locum.core.fidelity import Fidelity
from locum.core.program import Condition, Levels, Linear, Program, Rule, Steps
from locum.core.region import Region
from locum.core.report import Card

ROWS = 1000
HOSTILE = [
    "<script>alert(1)</script>",
    '"></script><img src=x onerror=alert(1)>',
    "</option></select><svg onload=alert(1)>",
    'it\'s "quoted" & `ticked` \\ \\u003c',
    "two\nlines\u2028and\u2029more",
    "\u202eright to left \u05d0\u05d1 \U0001f600",
    "__proto__",
    "constructor",
    "{{7*7}}${7*7}",
    "x" * 240,
]
MEASURED = Fidelity("agreement", 0.9, 0.85, 0.94, 0.95, 400, region="training rows")


# ---------------------------------------------------------------------- making cards
def table(rng, n=300):
    """Rows of numbers, whole numbers and categories, with missing values."""
    rows = np.empty((n, 6), dtype=object)
    rows[:, 0] = rng.normal(size=n).round(3)
    rows[:, 1] = rng.integers(-5, 6, n)
    rows[:, 2] = rng.choice(["a", "b", "c", "d"], n)
    rows[:, 3] = rng.exponential(1000, n)
    rows[:, 4] = rng.choice([1, 2.5, 7], n)
    rows[:, 5] = rng.choice(["yes", "no"], n)
    for j in (0, 3, 5):
        rows[rng.random(n) < 0.15, j] = None
    domain = Domain.of(rows, names=["x", "count", "letter", "amount", "code", "flag"], categorical=["code"])
    return domain, rows


def random_condition(rng, column, j):
    missing = bool(rng.random() < 0.3)
    if column.kind == "categorical":
        levels = np.flatnonzero(rng.random(len(column.levels)) < 0.6)
        return Condition(j, levels=tuple(int(i) for i in levels), missing=missing)
    low, high = sorted(rng.uniform(column.low, column.high, 2).round(int(rng.integers(0, 3))).tolist())
    shape = rng.integers(4)
    return Condition(j, low if shape in (0, 2) else None, high if shape in (1, 2) else None, missing=missing)


def random_rule(rng, columns, value, most=3):
    chosen = rng.choice(len(columns), rng.integers(0 if most == 1 else 1, most + 1), replace=False)
    return Rule(tuple(random_condition(rng, columns[j], int(j)) for j in sorted(chosen)), value(), float(rng.integers(1, 90)))


def random_term(rng, columns, value):
    j = int(rng.integers(len(columns)))
    column = columns[j]
    kind = rng.integers(3)
    if kind == 0:
        return random_rule(rng, columns, value)
    if column.kind == "categorical":
        return Levels(j, tuple(value() for _ in column.levels), value(), value())
    if kind == 1:
        return Linear(j, value(), float(rng.uniform(column.low, column.high)), value())
    edges = np.unique(rng.uniform(column.low, column.high, rng.integers(1, 8)).round(2))
    return Steps(j, tuple(edges.tolist()), tuple(value() for _ in range(len(edges) + 1)), value())


def random_program(seed, columns, body, kind, classes, link):
    rng = np.random.default_rng(seed)
    width = len(classes) if classes else 1

    def value():
        return tuple(rng.dirichlet(np.ones(width)) if body == "rules" and classes else rng.normal(size=width))

    make = random_rule if body == "rules" else random_term
    terms = tuple(make(rng, columns, value) for _ in range(rng.integers(0, 14)))
    return Program(columns, kind, classes, link, body, terms, value())


CASES = [
    (seed, body, kind, classes, link)
    for seed, (kind, classes, link) in enumerate(
        [
            ("class", ("no", "yes"), "identity"),
            ("class", ("low", "middle", "high"), "softmax"),
            ("probability", ("no", "yes"), "softmax"),
            ("probability", (1, 2, 3, 4), "normalise"),
            ("class", (False, True), "normalise"),
            ("value", None, "identity"),
        ]
    )
    for body in ("rules", "sum")
]


def make_card(program, domain, rows, **changes):
    region = Region.of(domain, rows, name="training rows")
    names = [column.name for column in program.columns]
    card = Card(
        title="A card",
        target={"name": "forest", "output": program.kind, "classes": program.classes},
        stand_in={"name": "rules", "statements": program.statements, "used": [names[j] for j in program.used]},
        fidelity=(MEASURED,),
        rivals=({"name": "constant", "statements": 1, "fidelity": replace(MEASURED, value=0.6, lower=0.5, upper=0.7)},),
        price={"target": {"calls": 900, "seconds": 3.5, "money": 1.25, "currency": "EUR"}, "by_purpose": {"fit": 900}},
        region=region,
        program=program,
        frontier=tuple(
            {"name": "rules", "statements": k, "fidelity": MEASURED, "chosen": k == 4, "knee": k == 2} for k in (1, 2, 4, 8)
        ),
        worst=(
            {
                "where": "x > 1",
                "n": 20,
                "fidelity": replace(MEASURED, n=20),
                "examples": [{"row": dict(zip(names, rows[0], strict=True)), "target": "no", "stand_in": "yes"}],
            },
        ),
        examples=tuple(dict(zip(names, row, strict=True)) for row in rows[:3]),
        provenance={"created": "today", "seed": 0, "versions": {"locum": "0"}, "data": "made up", "papers": ["cart"]},
    )
    return replace(card, **changes)


def random_rows(rng, program, domain, n=ROWS):
    """Encoded rows: in range and beyond, exactly at thresholds and next to them, missing, and unknown categories."""
    Z = np.empty((n, len(domain)))
    cuts = [[] for _ in domain.columns]
    for term in program.terms:
        for condition in getattr(term, "conditions", ()):
            cuts[condition.column] += [b for b in (condition.low, condition.high) if b is not None]
        if isinstance(term, Steps):
            cuts[term.column] += term.edges
    for j, column in enumerate(domain.columns):
        if column.kind == "categorical":
            Z[:, j] = rng.integers(-1, len(column.levels), n)
        else:
            Z[:, j] = rng.uniform(column.low - 0.5, column.high + 0.5, n)
            at = np.array([column.low, column.high, *cuts[j]])
            near = np.concatenate([at, np.nextafter(at, -np.inf), np.nextafter(at, np.inf)])
            chosen = rng.random(n) < 0.5
            Z[chosen, j] = rng.choice(near, chosen.sum())
        Z[rng.random(n) < 0.15, j] = np.nan
    return Z


def listed(Z):
    return [[None if np.isnan(z) else z for z in row] for row in np.asarray(Z, dtype=float).tolist()]


@pytest.fixture(scope="module")
def data():
    return table(np.random.default_rng(0))


def type_row(page, program, row):
    """Put an encoded row into the inputs, as a person would."""
    page.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
    for j, column in enumerate(program.columns):
        control = page.locator(f".control[data-column='{j}']")
        if np.isnan(row[j]):
            control.locator("[data-role=missing]").check()
        elif column.kind == "categorical":
            position = int(row[j]) if row[j] >= 0 else len(column.levels)  # by position: a label may look like a value
            control.locator("select").select_option(index=position)
        else:
            control.locator("[data-role=number]").fill(repr(float(row[j])))


def shown_values(page):
    return json.loads(page.locator("#answer").get_attribute("data-values"))


def settled(page):
    """Wait for what is written a little after the last input."""
    row = page.evaluate("locum.row().map((x) => (x === null ? '' : String(x))).join(',')")
    page.wait_for_selector(f"#changes[data-ready='#row={row}']")


# ---------------------------------------------------------------------- it computes what Python computes
@pytest.mark.parametrize(("seed", "body", "kind", "classes", "link"), CASES)
def test_programs_run_in_the_page_as_in_python(show, data, seed, body, kind, classes, link):
    domain, rows = data
    program = random_program(seed * 2 + (body == "sum"), domain.columns, body, kind, classes, link)
    Z = random_rows(np.random.default_rng(seed), program, domain)
    page = show(make_card(program, domain, rows))
    found = page.evaluate(
        "rows => rows.map((row) => { const { values, best, fired } = locum.evaluate(locum.card.program, row); "
        "return [values, best, fired]; })",
        listed(Z),
    )
    expected = program.values(Z)
    assert np.abs(np.array([values for values, _, _ in found]) - expected).max() <= 1e-9
    assert [best for _, best, _ in found] == expected.argmax(axis=1).tolist()
    if body == "rules":
        assert [fired for _, _, fired in found] == program.fired(Z).tolist()


def test_region_in_the_page_is_region_in_python(show, data):
    domain, rows = data
    rng = np.random.default_rng(5)
    program = random_program(1, domain.columns, "rules", "class", ("no", "yes"), "identity")
    card = make_card(program, domain, rows)
    odd = rows[rng.integers(len(rows), size=600)].copy()
    for row in odd:
        j = rng.integers(6)
        row[j] = {2: "z", 4: 99, 5: "perhaps"}.get(j, 3 * (row[j] or 1)) if rng.random() < 0.5 else None
    mixed = np.column_stack([rng.permutation(column) for column in rows.T])
    X = np.vstack([rows, odd, mixed])
    found = show(card).evaluate("rows => rows.map((row) => locum.judge(locum.card.region, row))", listed(domain.encode(X)))
    inside = card.region.inside(X)
    assert [one["inside"] for one in found] == inside.tolist()
    assert 100 < inside.sum() < len(X) - 100
    assert np.allclose([one["novelty"] for one in found], card.region.novelty(X), rtol=0, atol=1e-9)
    for one, reasons in zip(found, card.region.reasons(X), strict=True):
        assert [said.split(" = ")[0].split(":")[0] for said in one["reasons"]] == [
            said.split(" = ")[0].split(":")[0] for said in reasons
        ]


@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[11]])
def test_values_typed_in_give_the_prediction_of_python(show, data, case):
    domain, rows = data
    seed, body, kind, classes, link = case
    program = random_program(40 + seed, domain.columns, body, kind, classes, link)
    card = make_card(program, domain, rows)
    page = show(card)
    Z = np.vstack([domain.encode(rows[5:8]), domain.encode(rows[5:6])])
    Z[3] = [1e6, -77.25, -1, -3.125e-7, 0, np.nan]  # far beyond the ranges, an unknown category, a missing value
    for row in Z:
        type_row(page, program, row)
        assert np.allclose(shown_values(page), program.values(row[None])[0], rtol=0, atol=1e-9)
        said = page.locator("#said").inner_text()
        if classes:
            assert said == str(program.predict(row[None])[0]) if kind == "class" else said in map(str, classes)
        if body == "rules":
            assert page.locator(".rules > li[aria-current]").get_attribute("id") == f"rule-{program.fired(row[None])[0]}"
        assert page.locator("#where").get_attribute("data-inside") == "true" or row is not Z[0]


# ---------------------------------------------------------------------- it can be used
def test_slider_number_and_missing_box_go_together(show, data):
    domain, rows = data
    program = Program(domain.columns, "value", None, "identity", "sum", (Linear(0, (2.0,), 0.0, (-9.0,)),), (1.0,))
    page = show(make_card(program, domain, rows))
    control = page.locator(".control[data-column='0']")
    slider, number, box = (control.locator(f"[data-role={role}]") for role in ("slider", "number", "missing"))
    number.fill("0.5")
    assert float(slider.input_value()) == pytest.approx(0.5)
    assert shown_values(page) == [2.0]
    slider.focus()
    page.keyboard.press("End")
    assert float(number.input_value()) == domain.columns[0].high
    number.fill("50")  # beyond the range: allowed, answered, and called outside
    assert shown_values(page) == [101.0]
    assert "is above" in page.locator("#where").inner_text()
    box.check()
    assert number.input_value() == ""
    assert shown_values(page) == [-8.0]
    box.uncheck()
    assert shown_values(page) == [101.0]
    number.fill("")
    assert box.is_checked()
    whole = page.locator(".control[data-column='1'] [data-role=number]")
    page.locator("details.others summary").click()
    before = page.evaluate("locum.row()")
    whole.fill("")  # this column is never missing: the row stays as it was, and the field says so
    assert whole.get_attribute("aria-invalid") is not None
    assert page.evaluate("locum.row()") == before


def test_used_inputs_come_first_and_others_are_folded(show, data):
    domain, rows = data
    program = Program(domain.columns, "value", None, "identity", "sum", (Linear(3, (1.0,), 0.0, (0.0,)),), (0.0,))
    page = show(make_card(program, domain, rows))
    assert page.locator(".inputs > .controls .control").count() == 1
    assert page.locator(".inputs > .controls label.name").inner_text() == "amount"
    assert page.locator("details.others .control").count() == 5
    assert not page.locator("details.others .control").first.is_visible()


def test_a_link_brings_the_row_back(show, data):
    domain, rows = data
    program = random_program(3, domain.columns, "sum", "class", ("no", "yes"), "softmax")
    card = make_card(program, domain, rows)
    page = show(card)
    row = [0.1 + 0.2, -4, 2, None, -1, 1]
    type_row(page, program, np.array(row, dtype=float))
    settled(page)
    hash_ = page.evaluate("location.hash")
    assert hash_.startswith("#row=")
    assert page.locator("#link").get_attribute("href") == hash_
    again = show(card, hash_=hash_)
    assert again.evaluate("locum.row()") == row
    assert shown_values(again) == shown_values(page)
    for nonsense in ("#row=1,2", "#row=1,2,77,4,0,1", "#row=a,b,c,d,e,f", "#<script>%"):
        rows_ = again.evaluate(
            "async (hash) => { locum.setRow([0, 0, 0, 0, 0, 0]); location.hash = hash; "
            "await new Promise((done) => setTimeout(done, 20)); return [locum.row(), locum.card.start]; }",
            nonsense,
        )
        assert rows_[0] == rows_[1]


def test_examples_are_starting_points(show, data):
    domain, rows = data
    program = random_program(2, domain.columns, "rules", "class", ("no", "yes"), "identity")
    page = show(make_card(program, domain, rows))
    encoded = listed(domain.encode(rows[:3]))
    buttons = page.locator(".starts button")
    for i in (2, 1, 0):
        buttons.nth(i).click()
        assert page.evaluate("locum.row()") == encoded[i]
    buttons.nth(1).click()
    page.locator("#h-worst ~ .parts button").click()
    assert page.evaluate("locum.row()") == encoded[0]


@pytest.mark.parametrize("case", [*CASES[:4], *CASES[-2:]])
def test_what_is_said_to_change_the_answer_does_change_it(show, data, case):
    domain, rows = data
    seed, body, kind, classes, link = case
    program = random_program(70 + seed, domain.columns, body, kind, classes, link)
    card = make_card(program, domain, rows)
    page = show(card)
    checked = 0
    for row in domain.encode(rows[10:16]):
        page.evaluate("row => locum.setRow(row)", listed(row[None])[0])
        settled(page)
        for button in page.locator(".change").all():
            changes = json.loads(button.get_attribute("data-changes"))
            assert 1 <= len(changes) <= 2
            typed = row.copy()
            for change in changes:
                j, value = change["column"], change["value"]
                column = card.region.domain.columns[j]
                assert column.kind == "categorical" or column.low <= value <= column.high
                assert value != row[j]
                typed[j] = float(repr(value))
            before, after = program.values(row[None])[0], program.values(typed[None])[0]
            if classes:
                assert after.argmax() != before.argmax()
                assert str(classes[after.argmax()]) in button.inner_text()
            else:
                assert after[0] != before[0]
            checked += 1
    assert checked > 3
    if page.locator(".change").count():
        expected = json.loads(page.locator(".change").first.get_attribute("data-changes"))
        page.locator(".change").first.click()
        assert all(page.evaluate("locum.row()")[change["column"]] == change["value"] for change in expected)


def test_the_least_change_is_found(show):
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 10, size=(200, 2))
    domain = Domain.of(X, names=["a", "b"])
    both = Rule((Condition(0, low=4.25), Condition(1, low=6.5)), (0.0, 1.0))
    page = show(make_card(Program(domain.columns, "class", ("no", "yes"), "identity", "rules", (both,), (1.0, 0.0)), domain, X))

    def found(row):
        return [one["changes"] for one in page.evaluate("row => locum.changes(locum.card, row)", row)]

    assert found([9, 1]) == [[{"column": 1, "value": 6.51}]]
    two = [{change["column"]: change["value"] for change in changes} for changes in found([1, 1])]
    assert two == [{0: 4.26, 1: 6.51}]
    assert sorted(found([5, 8]), key=str) == [[{"column": 0, "value": 4.25}], [{"column": 1, "value": 6.5}]]
    line = Linear(0, (0.0, 1.0), 3.3333, (0.0, 0.0))
    page = show(make_card(Program(domain.columns, "class", ("no", "yes"), "softmax", "sum", (line,), (0.0, 0.0)), domain, X))
    assert found([1, 1]) == [[{"column": 0, "value": 3.34}]]
    assert found([5, 1]) == [[{"column": 0, "value": 3.33}]]


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e12])
def test_changes_in_ranges_of_any_size(show, scale):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(100, 2)) * scale
    domain = Domain.of(X, names=["a", "b"])
    rule = Rule((Condition(0, high=0.123456789 * scale),), (0.0, 1.0))
    line = (Linear(1, (0.0, 1 / scale), 0.0777 * scale, (0.0, 0.0)),)
    for body, terms, base in (("rules", (rule,), (1.0, 0.0)), ("sum", line, (0.0, 0.0))):
        program = Program(domain.columns, "class", ("no", "yes"), "identity", body, terms, base)
        page = show(make_card(program, domain, X))
        for row in X[:6]:
            (found,) = page.evaluate("row => locum.changes(locum.card, row)", row.tolist())
            (change,) = found["changes"]
            typed = row.copy()
            typed[change["column"]] = change["value"]
            assert program.predict(typed[None]) != program.predict(row[None])
            assert len(repr(change["value"])) < 12 or scale == 1e12
        page.locator(f".control[data-column='{0 if body == 'rules' else 1}'] input[type=range]").press("ArrowRight")
        assert page.evaluate("locum.row()") != page.evaluate("locum.card.start")


# ---------------------------------------------------------------------- it is safe
def hostile_card():
    rng = np.random.default_rng(1)
    rows = np.empty((120, len(HOSTILE)), dtype=object)
    for j in range(len(HOSTILE)):
        rows[:, j] = rng.normal(size=120) if j % 2 else rng.choice(np.array(HOSTILE, dtype=object), 120)
    domain = Domain.of(rows, names=HOSTILE)
    terms = (
        Rule((Condition(1, low=0.0), Condition(0, levels=(0, 1, 2))), tuple(np.eye(len(HOSTILE))[0])),
        Rule((Condition(6, levels=(3,)),), tuple(np.eye(len(HOSTILE))[1])),
    )
    program = Program(domain.columns, "class", tuple(HOSTILE), "identity", "rules", terms, tuple(np.eye(len(HOSTILE))[4]))
    bad = HOSTILE[1]
    return make_card(
        program,
        domain,
        rows,
        title=HOSTILE[0],
        target={"name": bad, "output": "class", "classes": HOSTILE},
        stand_in={"name": HOSTILE[3], "class": bad, "statements": 3, "used": HOSTILE},
        fidelity=(replace(MEASURED, region=bad, how=HOSTILE[0]),),
        rivals=({"name": HOSTILE[2], "statements": 1, "fidelity": MEASURED},),
        frontier=({"name": bad, "statements": 3, "fidelity": MEASURED, "chosen": True, "knee": True},),
        worst=(
            {
                "where": bad,
                "n": 2,
                "fidelity": MEASURED,
                "examples": [{"row": dict(zip(HOSTILE, rows[0], strict=True)), "target": bad, "stand_in": HOSTILE[2]}],
            },
        ),
        provenance={"created": bad, "seed": 0, "versions": {HOSTILE[0]: bad}, "data": bad, "papers": [bad]},
    )


@pytest.mark.parametrize("width", [1200, 360])
def test_hostile_names_stay_text(show, width):
    card = hostile_card()
    page = show(card, viewport={"width": width, "height": 800})
    for row in listed(card.region.domain.encode(np.array([list(e.values()) for e in card.examples], dtype=object))):
        page.evaluate("row => locum.setRow(row)", row)
        settled(page)
    assert page.evaluate("document.querySelector('h1').textContent") == HOSTILE[0]
    assert page.evaluate("[...document.querySelectorAll('.inputs label.name')].map((l) => l.textContent).sort()") == sorted(
        HOSTILE
    )
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert (
        page.evaluate("document.querySelectorAll('img, iframe, object, embed, link, base, svg[onload], [onerror]').length") == 0
    )
    assert page.evaluate("({}).polluted") is None
    assert "{{7*7}}${7*7}" in page.locator("body").inner_text()
    assert page.evaluate("[locum.card.region.columns.map((c) => c.name), locum.card.labels]") == [HOSTILE, HOSTILE]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_cannot_reach_the_network_or_run_what_was_slipped_in(show, data):
    domain, rows = data
    page = show(make_card(random_program(0, domain.columns, "sum", "value", None, "identity"), domain, rows))
    blocked = page.evaluate(
        """async () => {
            const seen = [];
            document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
            try { await fetch("http://127.0.0.1:9/"); } catch { seen.push("refused"); }
            document.body.append(Object.assign(document.createElement("img"), { src: "http://127.0.0.1:9/x.png" }));
            document.body.append(Object.assign(document.createElement("script"), { textContent: "window.slipped = 1" }));
            document.body.insertAdjacentHTML("beforeend", "<b onclick='window.slipped = 1'>b</b>");
            document.body.lastChild.click();
            await new Promise((done) => setTimeout(done, 50));
            return [seen, window.slipped ?? null];
        }"""
    )
    assert {"connect-src", "img-src", "refused"} <= set(blocked[0])
    assert any(directive.startswith("script-src") for directive in blocked[0])
    assert blocked[1] is None
    show.complaints.clear()  # the browser reports what it blocked,
    assert show.requests.pop().endswith("x.png")  # and announces the request that it then blocks


# ---------------------------------------------------------------------- it shows
def test_many_columns_and_many_rules(show):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(400, 60))
    domain = Domain.of(X, names=[f"column {j}" for j in range(60)])
    terms = tuple(random_rule(rng, domain.columns, lambda: tuple(rng.dirichlet([1, 1, 1])), most=4) for _ in range(200))
    program = Program(domain.columns, "class", ("a", "b", "c"), "identity", "rules", terms, (0.2, 0.3, 0.5))
    page = show(make_card(program, domain, X))
    assert page.locator(".rules > li").count() == 201
    spent = page.evaluate(
        "() => { const start = performance.now(); for (let i = 0; i < 20; i++) locum.setRow(locum.row()); "
        "const each = (performance.now() - start) / 20; const middle = performance.now(); "
        "locum.changes(locum.card, locum.row()); return [each, performance.now() - middle]; }"
    )
    assert spent[0] < 50  # milliseconds from an input to the answer
    assert spent[1] < 1000
    fired = page.locator(".rules > li[aria-current]")
    assert fired.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(
    "settings", [{"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 700}}, {"java_script_enabled": False}]
)
@pytest.mark.parametrize("body", ["rules", "sum"])
def test_dark_narrow_and_without_scripts(show, data, body, settings):
    domain, rows = data
    program = random_program(11, domain.columns, body, "class", ("low", "middle", "high"), "softmax")
    page = show(make_card(program, domain, rows), **settings)
    assert page.locator("h2").count() == 7
    assert page.locator(".rules > li" if body == "rules" else ".term").count() == len(program.terms) + (body == "rules")
    assert page.locator(".frontier .point").count() == 4
    assert len(page.screenshot(full_page=True)) > 10_000
    if settings.get("java_script_enabled", True):
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] < 80")
        assert dark == (settings.get("color_scheme") == "dark")


def test_everything_can_be_reached_by_keyboard_and_has_a_name(show, data):
    domain, rows = data
    page = show(make_card(random_program(4, domain.columns, "rules", "class", ("no", "yes"), "identity"), domain, rows))
    nameless = page.evaluate(
        "[...document.querySelectorAll('input, select, button, a, summary, [tabindex]')].filter((one) => "
        "!(one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim())).length"
    )
    assert nameless == 0
    page.locator(".frontier .point").nth(2).focus()
    assert page.locator("#point").inner_text().startswith("rules, 4 statements: agreement 0.900 [0.850, 0.940]")


def test_a_stand_in_that_is_no_program_has_a_page_without_the_running_part(show, data):
    domain, rows = data
    card = replace(make_card(random_program(0, domain.columns, "rules", "value", None, "identity"), domain, rows), program=None)
    page = show(card)
    assert page.locator("#try").count() == 0
    assert page.locator("#reading").count() == 0
    assert page.locator("h2").count() == 5


def test_figures_read_the_same_in_both_languages(show, data):
    from locum.core._page import figure

    domain, rows = data
    program = Program(domain.columns, "value", None, "identity", "sum", (Linear(0, (1.0,), 0.0, (0.0,)),), (0.0,))
    page = show(make_card(program, domain, rows))
    for x in (0.0, 1.0, -3.0, 0.123456, -1234.5678, 123456.7, 0.00123, 42.5):
        page.locator(".control[data-column='0'] [data-role=number]").fill(repr(x))
        assert page.locator("#said").inner_text() == figure(x)
