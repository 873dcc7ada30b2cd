"""`locum inside collect` and `locum inside train`: a small model of one's own, from the command line."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from locum.cli import main

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from locum.inside import ActivationStore, Dictionary, FeaturePage, from_saelens  # noqa: E402
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
        assert "This takes 6 steps" in err or "This takes 5 steps" in err
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


PAGE = ("inside", "page", "dictionary", "model", "text.txt", "--by", "paragraph", "--site", "model.layers.0")


def test_a_page_of_latents_is_made_from_a_model_and_again_from_its_records(here, capsys):
    run(capsys, *COLLECT)
    run(capsys, *TRAIN, "--epochs", 5)
    command = (*PAGE, "-o", "page.html", "--records", "records.json", "--effects", 2, "--json", "--title", "Words <b>")
    code, out, err = run(capsys, *command)
    assert code == 0, err
    told = json.loads(out)
    page = FeaturePage.load("records.json")
    assert told["shown"] == len(page.records) <= 16 == told["n_latents"]
    assert [bool(one.effects) for one in page.records[:3]] == [True, True, False]
    assert {unit for one in page.records for unit in one.examples[0].units} <= {*WORDS, "[CLS]", "[SEP]"}
    assert {text for one in page.records for text, _ in one.raised} & set(WORDS)
    assert [one["measure"] for one in told["fidelity"]] == ["L0", "dead share"]
    text = (here / "page.html").read_text(encoding="utf-8")
    assert "<h1><bdi>Words &lt;b&gt;</bdi></h1>" in text
    latent = page.records[0].latent
    score = page.fidelity[1].to_dict()
    (here / "names.json").write_text(json.dumps({str(latent): {"name": "small animals", "score": score}, "99": "none"}))
    code, out, err = run(capsys, "inside", "page", "records.json", "-o", "again.html", "--names", "names.json")
    assert code == 0, err
    assert f"{told['shown']} latents, 2 with effects" in out
    assert "small animals" in (here / "again.html").read_text(encoding="utf-8")
    code, out, err = run(capsys, *PAGE, "-l", latent, "--effects", 0)
    assert code == 0, err
    assert "tokens and 0 more for effects" in err
    assert "features.html: 1 latents, 0 with effects" in out


def test_what_cannot_be_shown_is_refused(here, capsys):
    for more, code, message in (
        (("none.json",), 5, "cannot read none.json"),
        (("dictionary", "model"), 2, "expected a model, text files and --site"),
        (("none.json", "model"), 2, "no model beside a file of records"),
        (("dictionary", "model", "text.txt", "--site", "model.layers.0"), 5, "cannot read dictionary/dictionary.json"),
    ):
        found, _, err = run(capsys, "inside", "page", *more)
        assert found == code, err
        assert message in err
    run(capsys, *COLLECT)
    run(capsys, *TRAIN)
    code, _, err = run(capsys, *PAGE, "-l", 99)
    assert (code, "from 0 to 15, got [99]" in err) == (2, True), err
    (here / "names.json").write_text('{"a": 1}')
    run(capsys, *PAGE, "--records", "records.json", "--effects", 0)
    code, _, err = run(capsys, "inside", "page", "records.json", "--names", "names.json")
    assert (code, "cannot read names from names.json" in err) == (2, True), err
