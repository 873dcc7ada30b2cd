"""How often 95 % intervals cover: 2,000 repeats each, seeded. The full table is ``benchmarks/speed/coverage.py``."""

from __future__ import annotations

import numpy as np

from locum.core.measures import measure

REPEATS = 2000


def coverage(name, draw, truth, **settings):
    """Share of the repeats whose interval holds the truth."""
    score, held = measure(name), 0
    for repeat in range(REPEATS):
        answers, said, sample = draw(np.random.default_rng([repeat, 7]))
        found = score.fidelity(answers, said, **sample, **settings)
        held += found.lower <= truth <= found.upper
    return held / REPEATS


def labels(right):
    """Answers and predictions that agree where `right` is true."""
    return np.zeros(len(right), dtype=int), (~right).astype(int)


def distributions(score):
    """Answers and predictions with one minus total variation `score` in each row."""
    return np.ones(len(score)), score


def values(rng, n):
    """A smooth target, and a stand-in that is constant on each cell of a grid and has errors of uneven size."""
    x = rng.random((n, 2))
    y = np.sin(5 * x[:, 0]) + 2 * x[:, 1] ** 2
    return y, y + 0.3 * (0.3 + x[:, 0]) * rng.normal(size=n)


def true_r2():
    y, z = values(np.random.default_rng(0), 1_000_000)
    return 1 - np.mean((y - z) ** 2) / y.var()


def clusters(rng, count, size, alike):
    """Groups of rows that repeat the first of their group with probability `alike`."""
    first = np.arange(count * size) // size * size
    return np.where(rng.random(count * size) < alike, first, np.arange(count * size)), first


def test_agreement():
    assert 0.93 <= coverage("agreement", lambda rng: (*labels(rng.random(500) < 0.93), {}), 0.93) <= 0.99


def test_bounded_scores():
    assert 0.93 <= coverage("total_variation_similarity", lambda rng: (*distributions(rng.beta(8, 2, 300)), {}), 0.8) <= 0.99


def test_r2():
    assert 0.93 <= coverage("r2", lambda rng: (*values(rng, 200), {}), true_r2()) <= 0.99


def test_r2_of_groups():
    def draw(rng):
        source, groups = clusters(rng, 50, 5, 0.5)
        y, z = values(rng, 250)
        return y[source], z[source], {"groups": groups}

    assert 0.93 <= coverage("r2", draw, true_r2()) <= 0.99


def test_mean_absolute_error_with_heavy_tails():
    def draw(rng):
        y = rng.normal(size=100)
        return y, y + rng.standard_t(5, size=100), {}

    truth = np.abs(np.random.default_rng(0).standard_t(5, size=4_000_000)).mean()
    assert 0.93 <= coverage("mae", draw, truth) <= 0.99


def test_kappa():
    def draw(rng):
        answers = (rng.random(400) < 0.3).astype(int)
        return answers, np.where(rng.random(400) < 0.85, answers, 1 - answers), {}

    said = 0.3 * 0.85 + 0.7 * 0.15
    expected = 1 - 0.3 * said - 0.7 * (1 - said)
    assert 0.93 <= coverage("cohen_kappa", draw, 1 - 0.15 / expected) <= 0.99


def test_rank_correlation():
    def draw(rng):
        x, y = rng.normal(size=(2, 100))
        return x, 0.8 * x + 0.6 * y, {}

    assert 0.93 <= coverage("kendall_tau", draw, 2 / np.pi * np.arcsin(0.8)) <= 0.99
    assert 0.93 <= coverage("spearman_correlation", draw, 6 / np.pi * np.arcsin(0.4)) <= 0.99


def test_agreement_of_groups():
    def draw(rng):
        source, groups = clusters(rng, 200, 5, 0.9)
        return *labels((rng.random(1000) < 0.9)[source]), {"groups": groups}

    assert 0.93 <= coverage("agreement", draw, 0.9) <= 0.99


def test_few_groups_that_are_seldom_wrong_as_a_whole():
    # most samples hold one or two of the groups that disagree, or none: intervals from the spread seen cover 70 to 80 %
    def draw(rng):
        source, groups = clusters(rng, 40, 20, 0.8)
        return *labels((rng.random(800) < 0.97)[source]), {"groups": groups}

    assert coverage("agreement", draw, 0.97) >= 0.95


def test_ignoring_groups_would_not_hold():
    def draw(rng):
        source, _ = clusters(rng, 200, 5, 0.9)
        return *labels((rng.random(1000) < 0.9)[source]), {}

    assert coverage("agreement", draw, 0.9) < 0.8


def test_agreement_of_rows_with_weights():
    def draw(rng):
        right = rng.random(500) < 0.9
        return *labels(right), {"weights": np.where(right, 1.0, 2.0) * rng.uniform(0.5, 1.5, 500)}

    assert 0.93 <= coverage("agreement", draw, 0.9 / (0.9 + 2 * 0.1)) <= 0.99


def test_r2_of_rows_with_weights():
    assert 0.93 <= coverage("r2", lambda rng: (*values(rng, 200), {"weights": rng.exponential(size=200)}), true_r2()) <= 0.99


def test_agreement_of_the_best_of_twenty():
    def draw(rng):
        right = rng.random((20, 1000)) < 0.9
        return *labels(right[np.argmax(right.sum(axis=1))]), {}

    assert 0.93 <= coverage("agreement", draw, 0.9, candidates=20) <= 0.99
    assert coverage("agreement", draw, 0.9) < 0.8, "what the correction is for"


def test_bounded_scores_of_the_best_of_twenty():
    def draw(rng):
        scores = rng.beta(4, 1, (20, 1000))
        return *distributions(scores[np.argmax(scores.sum(axis=1))]), {}

    assert 0.93 <= coverage("total_variation_similarity", draw, 0.8, candidates=20) <= 0.99


def test_r2_of_the_best_of_twenty():
    def draw(rng):
        y = rng.normal(size=200)
        errors = 0.3 * rng.normal(size=(20, 200))
        return y, y + errors[np.argmin((errors**2).sum(axis=1))], {}

    assert coverage("r2", draw, 1 - 0.3**2, candidates=20) >= 0.93  # Student's tails for 20 candidates are on the safe side
