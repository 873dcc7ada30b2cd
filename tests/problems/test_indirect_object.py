"""Sentences of the indirect object: their attributes, their counterfactuals, and where their names are."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems import IndirectObject


class Words:
    """A tokenizer with a token for each word; some are two."""

    def __init__(self, long=()):
        self.known, self.long = {}, long

    def __call__(self, text, add_special_tokens):
        ids = []
        for word in text.replace(",", " ,").split():
            ids += [self.known.setdefault(part, len(self.known)) for part in ([word, "~"] if word in self.long else [word])]
        return {"input_ids": ids}


def test_texts_say_what_the_labels_say():
    found = IndirectObject().sample(200, seed=3)
    for text, to, giver, pos in zip(found.texts, *found.labels.values(), strict=True):
        words = text.replace(",", "").split()
        assert (words.count(to), words.count(giver)) == (1, 2)
        assert (words.index(to) < words.index(giver)) == (pos == "ABB")
        assert words[-1] == "to"


def test_attributes_are_even_and_seeds_count():
    found = IndirectObject(names=("Mary", "John", "Tom", "Anna")).sample(4000, seed=0)
    for name in ("IO", "S"):
        _, counts = np.unique(found.labels[name], return_counts=True)
        assert (np.abs(counts / 4000 - 0.25) < 0.03).all()
    assert abs((found.labels["Pos"] == "ABB").mean() - 0.5) < 0.03
    assert (found.labels["IO"] != found.labels["S"]).all()
    assert found.texts == IndirectObject(names=("Mary", "John", "Tom", "Anna")).sample(4000, seed=0).texts
    assert found.texts != IndirectObject(names=("Mary", "John", "Tom", "Anna")).sample(4000, seed=1).texts


@pytest.mark.parametrize("attribute", ["IO", "S", "Pos"])
def test_counterfactuals_differ_in_one_attribute_alone(attribute):
    found = IndirectObject().sample(100, seed=0)
    other = found.differing(attribute, seed=1)
    for name, values in found.labels.items():
        assert ((values != other.labels[name]) == (name == attribute)).all()
    assert (other.labels["IO"] != other.labels["S"]).all()
    assert (other.template == found.template).all()
    assert (other.place == found.place).all()
    assert (other.object == found.object).all()


def test_names_are_found_among_the_tokens():
    found = IndirectObject().sample(50, seed=0)
    told = found.tokens(tokenizer := Words())
    for i, row in enumerate(told.ids):
        at = {name: places[i] for name, places in told.positions.items()}
        assert row[at["IO"]] == told.right[i] == tokenizer.known[found.labels["IO"][i]]
        assert row[at["S1"]] == row[at["S2"]] == told.wrong[i]
        assert at["S1"] < at["S2"] < at["END"] == len(row) - 1


def test_properties_are_those_of_the_sentences():
    found = IndirectObject().sample(60, seed=0)
    told = found.properties()
    rows = told["name in sentence"]["Mary"]
    assert [" Mary" in text for text in found.texts] == rows.tolist()
    first = np.array([name for text in found.texts for name in found.names if text.split()[1] == name])
    assert (told["first name"]["John"] == (first == "John")).all()
    assert (told["gender of IO"]["woman"] ^ told["gender of IO"]["man"]).all()
    assert set(found.pairs) == {"/".join(sorted(pair)) for pair in zip(found.labels["IO"], found.labels["S"], strict=True)}
    part = found.take([4, 2])
    assert part.texts == [found.texts[4], found.texts[2]]


def test_what_cannot_be_a_sentence_is_refused():
    with pytest.raises(InvalidData, match="two names or more"):
        IndirectObject(names=("Mary", "Mary"))
    with pytest.raises(InvalidData, match=r"expected \{object\} once in the template"):
        IndirectObject(templates=("{A} {B} {S} {place}",))
    with pytest.raises(InvalidData, match="names of one token each, and John, Mary are not"):
        IndirectObject(names=("Mary", "John", "Tom")).sample(5).tokens(Words(long=("Mary", "John")))
    twice = ("Then {A} and {B} saw the {place}, Mary saw, {S} gave a {object} to",)
    sentences = IndirectObject(names=("Mary", "John"), templates=twice).sample(20)
    with pytest.raises(InvalidData, match=r"expected IO once each in prompt \d+, .* found it 2 times"):
        sentences.tokens(Words())
    with pytest.raises(InvalidData, match="three names or more"):
        IndirectObject(names=("Mary", "John")).sample(5).differing("IO")
    with pytest.raises(InvalidData, match="attribute="):
        IndirectObject().sample(5).differing("place")
