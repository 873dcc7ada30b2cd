"""Near rows: made of real cells, held out by content alone, and what is common to all explainers."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.explain._neighbourhood import Background, Neighbourhood, content, foretold, held_out


def mixed(n=200, seed=0):
    rng = np.random.default_rng(seed)
    X = np.empty((n, 3), dtype=object)
    X[:, 0] = rng.normal(10, 3, n).round(2)
    X[:, 1] = np.array(["blue", "green", "red"])[rng.integers(0, 3, n)]
    X[:, 2] = rng.normal(size=n).round(2)
    X[rng.random(n) < 0.2, 2] = None
    return X


# ------------------------------------------------------------------ content
def test_content_is_that_of_the_row_alone():
    Z = np.random.default_rng(0).normal(size=(50, 4))
    np.testing.assert_array_equal(content(Z)[7:9], content(Z[7:9].copy()))
    np.testing.assert_array_equal(content(Z[::-1]), content(Z)[::-1])
    assert content(np.array([[0.0, 1.0]])) == content(np.array([[-0.0, 1.0]]))
    assert content(np.array([[np.nan]])) == content(np.array([[-np.nan]]))


@pytest.mark.parametrize("scale", [1.0, 0.5, 1024.0])
def test_round_numbers_have_contents_of_their_own(scale):
    grid = scale * np.array(np.meshgrid(*[np.arange(-6.0, 6.0)] * 4)).reshape(4, -1).T
    keys = content(grid)
    assert len(np.unique(keys)) == len(grid)
    assert held_out(grid).mean() == pytest.approx(1 / 8, abs=0.01)
    # Swapped cells are other rows.
    assert content(np.array([[1.0, 2.0]])) != content(np.array([[2.0, 1.0]]))


def test_what_is_held_out_goes_by_no_column():
    Z = np.random.default_rng(0).normal(size=(40_000, 3))
    for j in range(3):
        assert held_out(Z)[Z[:, j] > 0].mean() == pytest.approx(1 / 8, abs=0.01)


# ------------------------------------------------------------------ crossing
def test_crossed_rows_share_out_the_cells_of_two_real_rows():
    X = mixed()
    domain = Domain.of(X)
    rows = domain.encode(X)
    pairs = Neighbourhood(domain, rows).crossed(rows, np.random.default_rng(0))
    real = {tuple(np.nan_to_num(row, nan=-9)) for row in rows}
    own = np.nan_to_num(rows, nan=-9)
    first, second = np.nan_to_num(pairs[:, 0], nan=-9), np.nan_to_num(pairs[:, 1], nan=-9)
    # In each column one of the two is the row's own value; the others together make a real row.
    assert ((first == own) | (second == own)).all()
    partner = np.where(first == own, second, first)
    assert all(tuple(row) in real for row in partner)
    assert (pairs[:, 0] == pairs[:, 1]).mean() < 0.5


def test_crossed_rows_are_no_real_rows():
    rows = np.random.default_rng(0).normal(size=(300, 2))
    pairs = Neighbourhood(Domain.of(rows), rows).crossed(rows, np.random.default_rng(0))
    assert not np.isin(content(pairs.reshape(-1, 2)), content(rows)).any()


def test_kept_columns_are_never_swapped():
    rows = np.random.default_rng(0).normal(size=(100, 4))
    kept = np.array([True, False, True, False])
    pairs = Neighbourhood(Domain.of(rows), rows).crossed(rows, np.random.default_rng(0), kept)
    for k in range(2):
        np.testing.assert_array_equal(pairs[:, k][:, kept], rows[:, kept])
        assert (pairs[:, k][:, ~kept] != rows[:, ~kept]).any()


def test_partners_are_other_rows_and_nearer_than_chance():
    rows = np.random.default_rng(0).normal(size=(500, 3))
    space = Neighbourhood(Domain.of(rows), rows)
    partner = space.partners(rows, np.random.default_rng(0))
    away = np.linalg.norm(partner - rows, axis=1)
    assert (away > 0).all()
    chance = np.linalg.norm(rows[np.random.default_rng(1).permutation(500)] - rows, axis=1)
    assert away.mean() < 0.7 * chance.mean()


def test_gaps_are_deviations_categories_and_missing_values():
    X = np.array([[0.0, "a", 1.0], [2.0, "b", None], [4.0, "a", 3.0]], dtype=object)
    domain = Domain.of(X)
    rows = domain.encode(X)
    space = Neighbourhood(domain, rows)
    spread = np.std([0.0, 2.0, 4.0])
    np.testing.assert_allclose(space.gaps(rows[:2], rows[2]), [[4 / spread, 0, 2.0], [2 / spread, 1, 1]])
    assert (space.gaps(rows, rows) == 0).all()


# ------------------------------------------------------------------ background
def test_the_order_of_the_data_does_not_matter():
    X = mixed()
    target = Target(lambda X: np.zeros(len(X)), output="value")
    first, second = (Background.of(target, rows, None, 0).rows for rows in (X, X[::-1]))
    np.testing.assert_array_equal(first, second)


def test_random_numbers_go_by_the_row_the_stage_and_the_seed():
    rows = np.random.default_rng(0).normal(size=(20, 2))
    target = Target(lambda X: X[:, 0], output="value")
    first, second = (Background.of(target, rows, None, seed) for seed in (0, 1))

    def drawn(background, row, stage):
        return background.rng(rows[row], stage).random()

    assert drawn(first, 3, "near") == drawn(first, 3, "near")
    others = [drawn(first, 4, "near"), drawn(first, 3, "far"), drawn(second, 3, "near")]
    assert len({drawn(first, 3, "near"), *others}) == 4


def test_score_asks_each_fresh_row_once_and_leaves_out_those_that_fitted():
    rows = np.arange(10.0)[:, None] * [1.0, 2.0]
    target = Target(lambda X: X[:, 0], output="value", name="first")
    background = Background.of(target, rows, None, 0)
    background.ask([rows[:3]])
    (fresh,) = background.score([rows[[0, 4, 4, 5]]])
    assert sorted(zip(fresh.rows[:, 0], fresh.weights, fresh.answers, strict=True)) == [(4.0, 2.0, 4.0), (5.0, 1.0, 5.0)]
    assert background.score([rows[:3]])[0].rows.shape == (0, 2)


def test_foretold_needs_two_points_and_takes_an_error_where_nothing_varies():
    settings = {"weights": None, "region": "here", "random_state": 0}
    assert foretold(np.array([1.0]), np.array([1.0]), **settings) is None
    assert foretold(np.ones(9), np.ones(9) + 0.1 * np.arange(9), **settings).measure == "rmse"
    met = foretold(np.ones(9), np.ones(9), **settings)
    assert (met.measure, met.value) == ("agreement", 1.0)
    assert met.lower < 0.8
    assert foretold(np.arange(9.0), np.arange(9.0), **settings).value == 1.0


def test_what_cannot_be_explained_is_refused():
    rows = np.random.default_rng(0).normal(size=(20, 2))
    target = Target(lambda X: X[:, 0], output="value")
    with pytest.raises(InvalidData, match="expected a Target, got function"):
        Background.of(lambda X: X, rows, None, 0)
    with pytest.raises(InvalidData, match="random_state to be a whole number"):
        Background.of(target, rows, None, -1)
    with pytest.raises(InvalidData, match="at least two rows"):
        Background.of(target, rows[:1], Domain.of(rows), 0)
    words = np.array([["a", 1.0], ["b", 2.0]], dtype=object)
    with pytest.raises(InvalidData, match="row 1 of X has a category in column 'x0'"):
        Background.of(target, words, None, 0).read(np.array([["a", 1.0], ["c", 2.0]], dtype=object))
