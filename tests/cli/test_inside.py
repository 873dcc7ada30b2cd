"""`locum inside collect` and `locum inside train`: a small model of one's own, from the command line."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from locum.cli import main

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from locum.inside import ActivationStore, Dictionary, from_saelens  # noqa: E402
from locum.nets import seeded  # noqa: E402

WORDS = ["the", "a", "cat", "dog", "bird", "sees", "hears", "small", "large", "red", "and", "runs", "sleeps"]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a model, its tokenizer, and forty paragraphs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("transformers"), "disabled", True)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    shape = {
        "vocab_size": len(WORDS) + 5,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    with seeded(0):
        net = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, bos_token_id=0, eos_token_id=0))
    net.save_pretrained(tmp_path / "model")
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    (tmp_path / "text.txt").write_text("\n\n".join(" ".join(rng.choice(WORDS, size=20)) for _ in range(40)))
    return tmp_path


COLLECT = ("inside", "collect", "model", "text.txt", "-o", "acts", "--by", "paragraph", "-s", "res=model.layers.0")
SITES = (
    *COLLECT,
    "-s",
    "in=model.layers.1.mlp:in",
    "-s",
    "out=model.layers.1.mlp:out",
    "-s",
    "z=model.layers.0.self_attn.o_proj:in:2",
)
TRAIN = ("inside", "train", "acts", "res", "-o", "dictionary", "--latents", 16, "-k", 3, "--batch", 64, "--rate", 0.003)


def test_activations_are_collected_and_a_dictionary_is_trained(here, capsys):
    code, out, err = run(capsys, *SITES, "--dtype", "float32")
    assert code == 0, err
    assert "This takes 840 rows" in err
    assert "rows to train" in out
    store = ActivationStore.open("acts")
    assert store.sites == ("res", "in", "out", "z")
    assert sum(store["res"].count(split) for split in ("train", "val", "test")) == 40 * 21
    code, out, err = run(capsys, *TRAIN, "--epochs", 20, "--saelens", "theirs", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["fidelity"]["FVU"]["value"] < told["rivals"]["mean"]["value"]
    rows = store["res"].rows("test")
    again = Dictionary.load("dictionary")
    np.testing.assert_allclose(from_saelens("theirs").reconstruct(rows), again.reconstruct(rows), atol=1e-4)
    assert not (here / "dictionary" / "training.pt").exists()


def test_a_collection_that_is_there_is_not_made_again_and_another_is_refused(here, capsys):
    first = json.loads(run(capsys, *COLLECT, "--json")[1])
    code, out, _ = run(capsys, *COLLECT, "--json")
    assert (code, json.loads(out)["hash"]) == (0, first["hash"])
    code, _, err = run(capsys, *COLLECT, "--keep-first")
    assert code == 5
    assert "another filter" in err


def test_a_transcoder_and_every_encoder_can_be_trained(here, capsys):
    run(capsys, *SITES)
    command = ("inside", "train", "acts", "in", "-o", "coder", "--target", "out", "--latents", 24, "-k", 4, "--batch", 128)
    for encoder in ("topk", "batchtopk", "matryoshka", "relu", "gated", "jumprelu", "pursuit"):
        own = ("inside", "train", "acts", "z", "-o", encoder, "--latents", 24, "-k", 4, "--batch", 128)
        code, out, err = run(capsys, *own, "--encoder", encoder)
        assert code == 0, err
        assert "FVU" in out
        assert "beside it, PCA" in out
    code, out, err = run(capsys, *command)
    assert code == 0, err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("-s", "bad"), "expected --site as NAME=MODULE"),
        (("-s", "bad=model.layers.7"), "there is no module 'model.layers.7'"),
        (("--by", "chapter"), "expected by= to be one of file, paragraph, line"),
    ],
)
def test_what_cannot_be_collected_is_refused(here, capsys, more, message):
    code, _, err = run(capsys, *COLLECT, *more)
    assert code == 2
    assert message in err


def test_what_cannot_be_trained_is_refused(here, capsys):
    code, _, err = run(capsys, *TRAIN)
    assert code == 5
    assert "holds no activation store" in err
    run(capsys, *COLLECT)
    code, _, err = run(capsys, "inside", "train", "acts", "rse", "-o", "dictionary")
    assert code == 2
    assert "there is no site 'rse'" in err
    code, _, err = run(capsys, *TRAIN, "--encoder", "best")
    assert code == 2
    assert "expected encoder= to be one of topk" in err
