"""The split: three parts that share no row, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.datasets import Dataset, load


def make(X: pd.DataFrame, y: np.ndarray, task: str = "classification") -> Dataset:
    return Dataset("made", "made up", task, X, y, "label", Domain.of(X), {}, "here", "none", ())


def contents(table: Dataset, part) -> set[bytes]:
    return {row.tobytes() for row in np.nan_to_num(table.domain.encode(part.X), nan=-99.0)}


@pytest.mark.parametrize("name", ["thyroid", "wine_quality", "power_plant", "nursery"])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_row_is_in_two_parts(name, seed):
    table = load(name)
    parts = table.split(seed)
    train, ask, score = (contents(table, part) for part in (parts.train, parts.ask, parts.score))
    assert len(train | ask | score) == len(train) + len(ask) + len(score)
    assert sum(map(len, (parts.train, parts.ask, parts.score))) == len(table)


def test_equal_rows_stay_together_whatever_their_labels():
    # 60 different rows, each five times, with different labels.
    X = pd.DataFrame({"a": np.repeat(np.arange(60), 5) % 20, "b": np.repeat(list("xyz"), 100)})
    y = np.tile(np.array(["p", "q", "p", "q", "q"]), 60)
    table = make(X, y)
    parts = table.split(3)
    seen = [contents(table, part) for part in (parts.train, parts.ask, parts.score)]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 60
    assert all(len(part) % 5 == 0 for part in (parts.train, parts.ask, parts.score))


def test_missing_values_are_equal_to_one_another():
    X = pd.DataFrame({"a": np.tile([np.nan, 1.0, 2.0, 3.0, 4.0, 5.0], 20), "b": np.tile([1.0, 1.0, 2.0, 2.0, 3.0, 3.0], 20)})
    table = make(X, np.zeros(120), "regression")
    parts = table.split()
    assert sum(part.X["a"].isna().any() for part in (parts.train, parts.ask, parts.score)) == 1


def test_labels_stay_with_their_rows():
    X = pd.DataFrame({"a": np.arange(300.0)})
    table = make(X, 10 * np.arange(300.0), "regression")
    for part in (table.split(5).train, table.split(5).ask, table.split(5).score):
        assert np.array_equal(part.y, 10 * part.X["a"].to_numpy())
        assert part.X.index.tolist() == list(range(len(part)))


def test_same_seed_same_parts_and_another_seed_others():
    table = load("wine")
    one, same, other = table.split(1), table.split(1), table.split(2)
    assert one.score.X.equals(same.score.X)
    assert not one.score.X.equals(other.score.X)


def test_the_global_generator_is_untouched():
    table = load("wine")
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    table.split(1)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_shares_hold_and_so_do_those_of_classes():
    table = load("german_credit")
    parts = table.split(4, shares=(0.5, 0.3, 0.2))
    assert [len(part) for part in (parts.train, parts.ask, parts.score)] == [500, 300, 200]
    assert [float((part.y == "bad").mean()) for part in (parts.train, parts.ask, parts.score)] == [0.3, 0.3, 0.3]


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.4, 0.2), (0.2, 0.2, 0.2, 0.4)])
def test_shares_that_cannot_be_are_refused(shares):
    with pytest.raises(InvalidData, match="expected three positive shares that add up to one"):
        load("wine").split(shares=shares)


def test_a_part_without_rows_is_refused():
    X = pd.DataFrame({"a": [1.0, 1.0, 2.0, 2.0]})
    with pytest.raises(InvalidData, match="the 4 rows of made leave a part empty"):
        make(X, np.zeros(4), "regression").split()
