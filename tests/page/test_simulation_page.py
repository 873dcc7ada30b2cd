"""The page of a simulation test in a real browser: who sits it, what is kept, and what it must never show or do."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from locum.core.target import Target
from locum.explain.simulatability import SimulationTest, Study, analyse

HOSTILE = [
    "<script>alert(1)</script>",
    '"></script><img src=x onerror=alert(1)>',
    "it's & `ticked` \u2028 ${7*7}",
    "\u202eright \U0001f600",
]


def study(kind="forward", hostile=False):
    rng = np.random.default_rng(0)
    levels = HOSTILE[:3] if hostile else ["low", "mid", "high"]
    names = ["<b>no</b>", "yes & so"] if hostile else ["no", "yes"]
    X = rng.choice(levels, size=(400, 4)).astype(object)

    def answer(X):
        return np.where(np.equal(X, levels[2]).sum(axis=1) >= 2, names[1], names[0])

    truth = np.where(rng.random(400) < 0.3, np.where(answer(X) == names[1], *names), answer(X))
    target = Target(answer, name="m", output="class", classes=sorted(names))
    test = SimulationTest.build(target, X[:150], truth[:150], X[150:], truth[150:], kind=kind, n_learn=4, n_test=8)
    return test.study({"words": lambda X: [HOSTILE[i % 4] for i in range(len(X))], "nothing": None})


class Page:
    """What `show` and a reader of the page have in common."""

    def __init__(self, study):
        self.study = study

    def to_html(self):
        return self.study.to_html(takers=20)


def begin(page, taker):
    page.fill("#taker", str(taker))
    page.check("#agree")
    page.click("#begin")


def sit(page, choose, most=10_000):
    """Go through the screens until the end, or until so many are done."""
    done = 0
    while done < most and page.locator("#sitting").is_visible():
        if page.locator("#guess").is_visible():
            page.check(f'input[name="guess"][value="{choose(page)}"]')
        if page.locator("#rate").is_visible():
            page.check('input[name="rate"][value="6"]')
        page.click("#next")
        done += 1
    return done


def saved(page):
    """Wait until the server has every answer; the page's policy forbids to wait by a script."""
    page.locator("#state", has_text="Saved.").filter(has_not_text="browser").wait_for(state="attached")


def perfect(study):
    known = {item["changed"] or item["shown"]: study.labels.index(item["wanted"]) for item in study.test}
    place = "#changed" if study.kind == "counterfactual" else "#shown"
    return lambda page: known[page.evaluate(f"document.querySelector('{place}').textContent")]


def downloaded(page, path):
    with page.expect_download() as waiting:
        page.click("#download")
    waiting.value.save_as(path)
    return path


@pytest.mark.parametrize("kind", ["forward", "counterfactual"])
def test_a_perfect_taker_is_all_right_and_a_random_one_about_half(show, tmp_path, kind):
    one = study(kind)
    page = show(Page(one))
    begin(page, 1)
    assert sit(page, perfect(one)) == len(one.steps(1))
    run = analyse([downloaded(page, tmp_path / "answers_1.csv")], one)
    assert {(r.pre, r.post) for r in run.responses} == {(1.0, 1.0)}
    rng = np.random.default_rng(0)
    page = show(Page(one))
    begin(page, 2)
    sit(page, lambda page: int(rng.integers(2)))
    file = downloaded(page, tmp_path / "answers_2.csv")
    right = [guess for r in analyse([file], one).responses for guess in (r.pre, r.post)]
    assert np.mean(right) == pytest.approx(0.5, abs=0.25)


def test_the_page_shows_the_steps_of_the_study_in_their_order(show):
    one = study("counterfactual")
    taker = next(n for n in (1, 2) if one.methods[one.code(n)] == "words")
    page = show(Page(one))
    begin(page, taker)
    for step in one.steps(taker):
        screen = one.screen(step, taker)
        seen = {name: page.evaluate(f"document.querySelector('#{name}').textContent")
                for name in ("shown", "label", "answer", "explanation", "changed")}  # fmt: skip
        assert seen == {"shown": "", "label": "", "answer": "", "explanation": "", "changed": ""} | screen
        assert page.locator("#guess").is_visible() == step.guess
        assert page.locator("#rate").is_visible() == step.rate
        sit(page, lambda page: 0, most=1)


def test_without_a_number_or_consent_nothing_begins(show):
    page = show(Page(study()))
    for number, agree, says in (("", True, "number"), ("21", True, "number"), ("1.5", True, "number"), ("3", False, "agree")):
        page.fill("#taker", number)
        page.set_checked("#agree", agree)
        page.click("#begin")
        assert says in page.inner_text("#refusal")
        assert not page.locator("#sitting").is_visible()
    assert page.evaluate("localStorage.length") == 0


def test_a_page_that_is_closed_goes_on_where_it_was(show, tmp_path):
    one = study()
    page = show(Page(one))
    begin(page, 1)
    sit(page, perfect(one), most=7)
    page.reload()
    show.requests.pop()  # the reload is the page once more
    begin(page, 1)
    assert page.inner_text("#count").startswith("8 of")
    sit(page, perfect(one))
    run = analyse([downloaded(page, tmp_path / "a.csv")], one)
    assert {(r.pre, r.post) for r in run.responses} == {(1.0, 1.0)}


def test_hostile_texts_are_shown_as_text(show):
    one = study("counterfactual", hostile=True)
    taker = next(n for n in (1, 2) if one.methods[one.code(n)] == "words")
    page = show(Page(one))
    begin(page, taker)
    seen = set()
    while page.locator("#sitting").is_visible():
        seen.add(page.evaluate("document.querySelector('#explanation').textContent"))
        sit(page, lambda page: 1, most=1)
    assert set(HOSTILE) <= seen
    assert page.locator("img").count() == 0


def test_a_served_page_writes_each_answer_to_a_file(browser, tmp_path):
    one = study()
    server = one.serve(tmp_path, takers=3)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = browser.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(5000)
        complaints = []
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        begin(page, 2)
        sit(page, perfect(one), most=6)
        saved(page)
        assert len(one.read(tmp_path / "answers_2.csv")[1]) == 7
        sit(page, perfect(one))
        saved(page)
        run = analyse([tmp_path / "answers_2.csv"], Study.from_dict(one.to_dict()))
        assert {(r.pre, r.post) for r in run.responses} == {(1.0, 1.0)}
        assert complaints == []
    finally:
        context.close()
        server.shutdown()
        server.server_close()
