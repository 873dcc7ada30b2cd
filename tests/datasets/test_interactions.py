"""Interactions: read from small files of each kind, in order of time, and the real ones where they are."""

from __future__ import annotations

import gzip
import importlib.util
import os

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.datasets import INTERACTIONS, load_interactions


@pytest.fixture
def movielens_100k(tmp_path):
    (tmp_path / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        "10\t2\t4\t300\n10\t1\t3\t100\n2\t1\t5\t50\n10\t30\t1\t100\n2\t2\t1\t40\n",
        encoding="utf-8",
    )
    (tmp_path / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's\n2\tL'Année, \"quoted\"\tV\tunknown\n30\tGoldenEye\t1988\tAction\n"
        "4\tUnseen\t1990\tWar\n",
        encoding="utf-8",
    )
    return tmp_path


def test_sequences_are_in_order_of_time_and_ties_in_the_order_of_the_file(movielens_100k):
    found = load_interactions("ml-100k", path=movielens_100k)
    assert found.users == ("2", "10")
    assert found.items == ("1", "2", "30")  # what nobody took is left out
    assert [one.tolist() for one in found.sequences] == [[1, 0], [0, 2, 1]]
    assert len(found) == 5
    assert found.popularity().tolist() == [2, 2, 1]
    assert found.years.tolist() == [1995, 0, 1988]
    assert list(found.kinds) == ["Action", "Animation", "Children's"]
    assert found.kinds["Action"].tolist() == [False, False, True]
    assert found.documents()[0] == "toy story genre=animation genre=children's 1990s"
    assert found.documents()[2] == "goldeneye genre=action 1980s"


def test_years_are_taken_out_of_titles(tmp_path):
    with gzip.open(tmp_path / "ml_latest_small_ratings.csv.gz", "wt") as file:
        file.write("userId,movieId,rating,timestamp\n1,5,4.0,10\n1,7,4.0,9\n1,8,1.0,11\n")
    with gzip.open(tmp_path / "ml_latest_small_movies.csv.gz", "wt") as file:
        file.write('movieId,title,genres\n5,"American President, The (1995)",Comedy|Drama\n')
        file.write("7,Show (2011–2012),(no genres listed)\n")
        file.write("8,Untitled,Drama\n")
    found = load_interactions("ml-latest-small", path=tmp_path)
    assert found.titles == ("American President, The", "Show", "Untitled")
    assert found.years.tolist() == [1995, 2011, 0]
    assert list(found.kinds) == ["Comedy", "Drama"]
    assert found.sequences[0].tolist() == [1, 0, 2]
    assert found.documents()[2] == "untitled genre=drama"


def test_groceries_have_no_titles(tmp_path):
    with gzip.open(tmp_path / "amazon_grocery_train.csv.gz", "wt") as file:
        file.write("user_id\titem_id\ttime\n3\t9\t5\n3\t4\t6\n")
    found = load_interactions("amazon-grocery", path=tmp_path)
    assert found.items == ("4", "9")
    assert found.sequences[0].tolist() == [1, 0]
    assert found.documents() == ("", "")


def test_what_is_not_there_is_told(tmp_path, movielens_100k, monkeypatch):
    with pytest.raises(InvalidData, match="those known are ml-100k"):
        load_interactions("netflix")
    with pytest.raises(InvalidData, match="no such file; get it from https://grouplens"):
        load_interactions("ml-latest-small", path=tmp_path)
    monkeypatch.delenv("LOCUM_DATA", raising=False)
    with pytest.raises(InvalidData, match="set LOCUM_DATA"):
        load_interactions("amazon-grocery")
    (movielens_100k / "ml-100k.item").write_text("item_id:token\n1\n", encoding="utf-8")
    with pytest.raises(InvalidData, match="are not those of 'ml-100k'"):
        load_interactions("ml-100k", path=movielens_100k)


def test_items_that_were_taken_must_be_described(movielens_100k):
    file = movielens_100k / "ml-100k.item"
    file.write_text(file.read_text(encoding="utf-8").replace("30\tGoldenEye", "31\tGoldenEye"), encoding="utf-8")
    with pytest.raises(InvalidData, match="its list of items lacks"):
        load_interactions("ml-100k", path=movielens_100k)


@pytest.mark.parametrize(
    ("name", "takes", "users", "items"),
    [("ml-100k", 100_000, 943, 1682), ("ml-latest-small", 100_836, 610, 9724), ("amazon-grocery", 121_892, 14_681, 8687)],
)
def test_the_real_ones_are_whole(name, takes, users, items):
    there = importlib.util.find_spec("recbole") if name == "ml-100k" else os.environ.get("LOCUM_DATA")
    if not there:
        pytest.skip(f"{name} is not on this machine")
    found = load_interactions(name)
    assert (len(found), len(found.users), found.n_items) == (takes, users, items)
    assert min(map(len, found.sequences)) >= 1
    assert all(flags.any() for flags in found.kinds.values())
    assert np.concatenate(found.sequences).max() == items - 1
    assert name in INTERACTIONS
