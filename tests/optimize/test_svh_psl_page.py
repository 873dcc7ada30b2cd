"""The page of a Pareto set: it says what the learner says, escapes what is given to it, and answers keys in a real browser."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("botorch")

from locum.optimize import Real, Space
from locum.optimize.svh_psl import ParetoSetLearner

HOSTILE = "</script><script>alert(1)</script>"


def learned(m, **settings):
    space = Space([Real("<i>x</i> & y", 0.0, 1.0), Real("z", 0.0, 1.0)])
    centres = np.array([[0.2, 0.2], [0.8, 0.4], [0.4, 0.9]])[:m]

    def distances(X):
        return ((X[:, None] - centres) ** 2).sum(axis=2)

    each = ParetoSetLearner(space, m, hidden=(16,), n_steps=60, learning_rate=1e-2, **settings)
    return each.minimize(distances, n_init=10, n_iter=2, batch_size=6)


@pytest.fixture(scope="module")
def two():
    return learned(2, names=(HOSTILE, "it's <b>wide</b>"))


@pytest.fixture(scope="module")
def three():
    return learned(3)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S).group(1))


def test_the_page_holds_the_answers_of_the_network(two, three, tmp_path):
    for each, rows in ((two, 401), (three, 861)):
        page = each.to_html(tmp_path / "page.html")
        assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
        data = data_of(page)
        assert len(data["preferences"]) == rows
        some = slice(None, None, 57)
        preferences = np.array(data["preferences"][some])
        preferences /= preferences.sum(axis=1, keepdims=True)
        assert np.allclose(data["designs"][some], each.predict(preferences), atol=1e-4)
        mean, sd = each.foretell(np.array(data["designs"][some]))
        assert np.allclose(data["mean"][some], mean, atol=1e-4)
        assert np.allclose(data["sd"][some], sd, rtol=0.05, atol=1e-4)
        assert np.allclose(data["evaluated"], each.objectives, rtol=1e-5)
        front = np.array(data["evaluated"])[data["front"]]
        assert np.allclose(np.sort(front[:, 0]), np.sort(each.pareto_front_.objectives[:, 0]), rtol=1e-5)


def test_text_is_escaped_and_fidelity_is_said(two):
    page = two.to_html(title="<u>Trade</u>")
    assert "<u>" not in page
    assert "<i>x" not in page
    assert "<b>wide" not in page
    assert page.count("<script") == 2
    assert "alert(1)</script>" not in page
    assert "&lt;u&gt;Trade&lt;/u&gt;" in page
    for one in two.fidelity():
        for found in (one.surrogate, one.nearest, one.mean, one.coverage):
            assert str(found).removeprefix(found.measure).partition("]")[0].strip() + "]" in page
    assert "2412.17312" in page


def test_too_few_foretold_designs_are_said_so():
    each = ParetoSetLearner([(0, 1)], hidden=(8,), n_steps=5)
    each.minimize(lambda X: np.column_stack([X[:, 0], 1 - X[:, 0]]), n_init=5, n_iter=0)
    assert "Not measured: fewer than ten designs" in each.to_html()


@pytest.fixture
def show(opened, tmp_path):
    def open_page(each):
        path = tmp_path / f"{len(opened.contexts)}.html"
        each.to_html(path)
        return opened(path, viewport={"width": 1100, "height": 900})

    return open_page


def number(text):
    return float(text.replace("\u2212", "-"))


def test_keys_move_the_preference_and_the_design_follows(show, two):
    page = show(two)
    sliders, shares = page.locator("input[data-weight]"), page.locator(".weight output")
    assert shares.all_inner_texts() == ["50.0 %", "50.0 %"]
    cells = page.locator("#design tbody td:nth-child(2)")
    for key, preference in (("End", [0.6675, 0.3325]), ("Home", [0.0, 1.0])):
        sliders.nth(0).focus()
        page.keyboard.press(key)
        told = [number(text) for text in cells.all_inner_texts()]
        assert np.allclose(told, two.predict([preference])[0], atol=2e-3)
    assert shares.all_inner_texts() == ["0.0 %", "100.0 %"]
    mean, sd = two.foretell(two.predict([[0.0, 1.0]]))
    means = page.locator("#expected tbody td:nth-child(2)").all_inner_texts()
    assert np.allclose([number(one) for one in means], mean[0], atol=2e-3)
    low, high = page.locator("#expected tbody td:nth-child(3)").nth(1).inner_text().split(" to ")
    assert number(high) - number(low) == pytest.approx(2 * 1.645 * sd[0, 1], rel=0.02, abs=1e-3)
    # Nothing counts: all count alike.
    sliders.nth(1).focus()
    page.keyboard.press("Home")
    assert shares.all_inner_texts() == ["50.0 %", "50.0 %"]


def test_a_click_takes_the_nearest_point_of_the_front(show, two):
    page = show(two)
    last = page.locator("#plane circle.learned").last
    box = last.bounding_box()
    last.dispatch_event("click", {"clientX": box["x"] + 2, "clientY": box["y"] + 2, "bubbles": True})
    share = float(page.locator(".weight output").first.inner_text().split()[0])
    assert share > 75.0
    assert float(page.locator("input[data-weight]").first.input_value()) == pytest.approx(share, abs=0.6)


def test_of_three_objectives_two_are_drawn_as_asked(show, three):
    page = show(three)
    labels = page.locator("#plane text")
    assert labels.all_text_contents()[-2:] == ["f1", "f2"]
    page.select_option("#up", "2")
    assert labels.all_text_contents()[-2:] == ["f1", "f3"]
    assert page.locator("#plane circle.learned").count() == 861
    assert page.locator("#plane circle.best").count() <= len(three.pareto_front_.designs)
    assert page.locator("#plane circle.now").count() == 1
