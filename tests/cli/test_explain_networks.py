"""`locum explain series` and `locum explain text`: somebody's own network, from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from locum.cli import main

torch = pytest.importorskip("torch")

MODULE = """
import torch
from locum.nets import seeded

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Conv1d(1, 4, 3, padding=1)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, X):
        return self.head(torch.relu(self.body(X.transpose(1, 2))).mean(dim=2))

class Pooled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4), torch.nn.ReLU())
        self.head = torch.nn.Linear(4, 2)

    def forward(self, X):
        return self.head(self.embedding(X))

def trained():
    with seeded(0):
        return Pooled().eval()

number = 3
"""


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "series_nets.py").write_text(MODULE)
    np.save("series.npy", np.random.default_rng(0).normal(size=(80, 12)))
    return tmp_path


def series(*more):
    return ("explain", "series", "series_nets:trained", "series.npy", "--epochs", 1, "--landmarks", 5, *more)


# ---------------------------------------------------------------------- series
def test_a_classifier_of_series(here, capsys):
    out = ("--maps", "maps.npz", "--save", "explainer.pt", "--figure", "groups.png")
    code, said, _ = run(capsys, *series("--embed", "embedding", *out, "--json"))
    assert code == 0
    record = json.loads(said)
    assert 0 <= record["fidelity"]["agreement"]["lower"] <= record["fidelity"]["agreement"]["value"] <= 1
    assert set(record["fidelity"]["rivals"])
    assert record["fidelity"]["agreement"]["n"] == 16  # one in five, kept from the fit
    assert (here / "groups.png").stat().st_size > 1000
    with np.load("maps.npz") as maps:
        assert maps["saliency"].shape == (16, 12, 1)
        assert sorted(set(maps["series"])) == sorted(maps["series"])
    code, again, _ = run(capsys, *series("--embed", "embedding", *out, "--json"))
    assert json.loads(again) == record
    code, said, _ = run(capsys, *series("--embed", "embedding"))
    assert code == 0
    assert "16 series were kept apart" in said
    assert "beside it" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (series(), "give encode="),
        (series("--embed", "nowhere"), "no submodule 'nowhere'"),
        (("explain", "series", "series_nets:number", "series.npy"), "expected series_nets:number to be a torch module"),
        (("explain", "series", "series_nets:trained", "nowhere.npy"), "cannot read series from nowhere.npy"),
        (("explain", "series", "series_nets:trained", "series_nets.py"), "cannot read series"),
    ],
)
def test_series_that_cannot_be_explained(here, capsys, arguments, message):
    code, _, said = run(capsys, *arguments)
    assert code == 2
    assert message in said


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Y": np.zeros((9, 3))}, "expected an array X"),
        ({"X": np.zeros((3, 3))}, "four or more series"),
        ({"X": np.full((9, 3), "a")}, "series of numbers"),
        ({"X": np.zeros((9, 3)), "times": np.zeros((9, 4))}, r"times of shape (9, 3)"),
        ({"X": np.full((9, 3), np.nan)}, "NaN"),
    ],
)
def test_files_of_series_that_cannot_be_used(here, capsys, arrays, message):
    np.savez("wrong.npz", **arrays)
    code, _, said = run(capsys, "explain", "series", "series_nets:trained", "wrong.npz", "--embed", "embedding")
    assert code == 2
    assert message in said


# ---------------------------------------------------------------------- text
WORDS = ["[UNK]", "[MASK]", "[CLS]", "[SEP]", "good", "bad", "film", "the", "is"]


def folder(where, kind):
    """A small random network with a tokenizer of whole words."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    from locum.nets import seeded

    tokens = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokens, unk_token="[UNK]", mask_token="[MASK]")
    with seeded(0):
        if kind == "bert":
            settings = transformers.BertConfig(
                vocab_size=9, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                max_position_embeddings=16, initializer_range=0.5, id2label={0: "blame", 1: "praise"},
            )  # fmt: skip
            model = transformers.BertForSequenceClassification(settings)
        else:
            sizes = {"vocab_size": 9, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.5}
            settings = transformers.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)
            model = transformers.GPT2LMHeadModel(settings)
    model.save_pretrained(where)
    tokenizer.save_pretrained(where)
    return where


@pytest.mark.parametrize(("kind", "answers"), [("bert", ["blame", "praise"]), ("gpt2", WORDS[4:])])
def test_a_text(tmp_path, capsys, kind, answers):
    where = folder(tmp_path / "model", kind)
    code, said, _ = run(capsys, "explain", "text", where, "the film is good", "--figure", tmp_path / "words.png", "--json")
    assert code == 0
    record = json.loads(said)
    assert record["answer"] in (WORDS if kind == "gpt2" else answers)
    explained = record["explanation"]
    assert explained["axes"] == [{"unit": "token", "names": ["the", "film", "is", "good"]}]
    assert explained["fidelity"]["n"] == 100
    assert set(explained["rivals"]) == {"all tokens alike"}
    assert (tmp_path / "words.png").stat().st_size > 1000
    other = next(one for one in answers if one != record["answer"])
    code, said, _ = run(capsys, "explain", "text", where, "the film is good", "--answer", other, "--attention", "fixed")
    assert code == 0
    assert f"The model answers {record['answer']!r}" in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("the film", "--answer", "anger"), "there is no class 'anger'; expected one of blame, praise"),
        (("",), "expected a text, got none"),
        (("the film is " * 6,), "at most the 16 tokens"),
        (("the film", "--attention", "half"), "attention="),
    ],
)
def test_texts_that_cannot_be_explained(tmp_path, capsys, more, message):
    code, _, said = run(capsys, "explain", "text", folder(tmp_path / "model", "bert"), *more)
    assert code == 2
    assert message in said


def test_folders_that_hold_no_model(tmp_path, capsys):
    pytest.importorskip("transformers")
    code, _, said = run(capsys, "explain", "text", tmp_path, "the film")
    assert code == 2
    assert "expected a folder with a config.json" in said
