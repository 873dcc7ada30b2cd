"""Pages about analyses: they say what the tables say, need nothing else, and escape what comes from data."""

from __future__ import annotations

import re

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("formulaic")

from locum.infer import DSLRegressor, SurrogatePTE  # noqa: E402


@pytest.fixture(scope="module")
def regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    y = 1 + 2 * x + rng.normal(size=500)
    drawn = rng.random(500) < 0.4
    data = {"Y": np.where(drawn, y, np.nan), "<b>x</b>": x, "q": y + rng.normal(size=500)}
    model = DSLRegressor("lm", learner="linear", n_splits=1)
    return model.fit(pd.DataFrame(data), "Y ~ `<b>x</b>`", surrogates={"Y": "q"}, sampling_prob="equal")


@pytest.fixture(scope="module")
def trial():
    rng = np.random.default_rng(0)
    arm = np.repeat([0, 1], 300)
    early = rng.exponential(1 + 2 * arm)
    death = early + rng.exponential(1 + arm)
    time = np.minimum(death, 6)
    seen = np.where(early < time, early, np.nan)
    return SurrogatePTE(1.0, 3.0, n_splits=2, n_perturb=60).fit(time, (death <= 6) * 1, arm, seen)


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("<body>")[2]))


def test_the_page_of_a_regression_says_what_its_tables_say(regression, tmp_path):
    page = regression.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    told = text_of(page)
    for way in regression.compare().estimates.values():
        assert way.method in told
    assert str(regression.fidelity_[0]) in told
    low, high = regression.conf_int().iloc[1]
    assert f"{regression.params_.iloc[1]:.3g} [{low:.3g}, {high:.3g}]" in told
    assert "2306.04746" in told
    assert "Y ~ " in told


def test_the_page_of_a_trial_draws_both_arms_and_the_transformation(trial):
    page = trial.to_html()
    told = text_of(page)
    assert "share explained" in told
    assert all(str(one) in told for one in trial.fidelity_.values())
    assert page.count("<polyline") == 3
    drawn = [point for found in re.findall(r'points="([^"]+)"', page) for point in found.split()]
    x, y = np.array([[float(part) for part in point.split(",")] for point in drawn]).T
    assert x.min() >= 0
    assert x.max() <= 100
    assert y.min() >= -1e-6
    assert y.max() <= 100 + 1e-6


def test_names_from_data_are_escaped_and_nothing_is_loaded(regression):
    page = regression.to_html()
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page
    assert "default-src 'none'" in page
    assert not re.search(r"<script|src=|href=\"http", page)
