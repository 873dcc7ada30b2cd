"""Activations on disk: the rows of the model, whole and shuffled, split by document, and the same after an interruption."""

from __future__ import annotations

import errno
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import FormatError, InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    ActivationStore,
    ArrayStore,
    StoreError,
    Tap,
    every_position,
    first_position,
    norm_above,
    positions_before,
    token_ids,
)
from locum.inside import _blocks as blocks  # noqa: E402
from locum.inside import store as stores  # noqa: E402

SETTINGS = {"dtype": "float32", "batch_size": 4, "block_rows": 128, "keep": ~first_position}


@pytest.fixture
def tap(language_model):
    return Tap(language_model, {"res": "model.layers.1", "hidden": ("model.layers.0.mlp.down_proj", "in")})


@pytest.fixture
def store(tap, documents, tmp_path):
    return ActivationStore.collect(tap, documents, tmp_path / "acts", **SETTINGS)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".rows"}


def test_rows_are_those_of_one_document_run_by_itself(tap, documents, store):
    seen = {}
    for split in ("train", "val", "test"):
        for (token, document, position), row in zip(store.labels(split), store["res"].rows(split), strict=True):
            seen[document, position] = (token, row)
    assert len(seen) == sum(len(one) - 1 for one in documents)
    for i in (0, 7, 23):
        own = tap.read(torch.as_tensor(documents[i])[None])["res"][0]
        for position in range(1, len(documents[i])):
            token, row = seen[i, position]
            assert token == documents[i][position]
            np.testing.assert_allclose(row, own[position], atol=1e-5)


def test_no_row_is_of_padding_or_of_what_the_filter_drops(store):
    assert all((store.labels(split)[:, 2] > 0).all() for split in ("train", "val", "test"))


def test_a_document_is_in_one_split(store):
    parts = [set(store.labels(split)[:, 1]) for split in ("train", "val", "test")]
    assert [len(part) for part in parts] == [32, 4, 4]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert [set(store.documents_of(split)) for split in ("train", "val", "test")] == parts


def test_sums_are_those_of_the_training_rows(store):
    rows = store["hidden"].rows("train").astype(float)
    np.testing.assert_allclose(store["hidden"].mean_, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(store["hidden"].gram_, rows.T @ rows / len(rows), atol=1e-12)
    told = store.manifest["sums"]["hidden"]
    assert told["mean_squared_norm"] == pytest.approx((rows**2).sum(axis=1).mean())
    assert told["norm_quantiles"]["0.5"] == pytest.approx(np.median(np.linalg.norm(rows, axis=1)), rel=1e-6)


def test_sites_hold_the_same_tokens_in_the_same_order(tap, documents, store, language_model):
    down = language_model.model.layers[0].mlp.down_proj
    other = ActivationStore.collect(
        Tap(language_model, {"hidden": ("model.layers.0.mlp.down_proj", "in"), "out": "model.layers.0.mlp"}),
        documents, store.folder.parent / "other", **SETTINGS,
    )  # fmt: skip
    pairs = zip(other["hidden"].batches(50, random_state=3), other["out"].batches(50, random_state=3), strict=True)
    for hidden, out in pairs:
        np.testing.assert_allclose(down(torch.as_tensor(hidden)), out, atol=1e-5)
    np.testing.assert_array_equal(other["hidden"].rows("train"), store["hidden"].rows("train"))


def test_every_row_comes_once_an_epoch_in_another_order_each_time(store):
    rows = store["res"].rows("train")
    n = len(rows)
    batches = list(store["res"].batches(64, epochs=2, random_state=1))
    assert [len(one) for one in batches[:-1]].count(64) >= 2 * (n // 64)
    both = np.concatenate(batches)
    first, second = both[:n], both[n:]
    for part in (first, second):
        np.testing.assert_array_equal(np.sort(part[:, 0]), np.sort(rows[:, 0]))
    assert (first != second).any(axis=1).mean() > 0.9
    again = np.concatenate(list(store["res"].batches(64, epochs=2, random_state=1)))
    np.testing.assert_array_equal(again, both)


def test_batches_are_mixed_over_documents(store):
    documents = dict(zip(map(float, store["res"].rows("train")[:, 0]), store.labels("train")[:, 1], strict=True))
    for batch in list(store["res"].batches(64))[:-1]:
        found = np.array([documents[float(value)] for value in batch[:, 0]])
        assert len(np.unique(found)) > 15
        assert (found[1:] == found[:-1]).mean() < 0.4


def test_half_precision_holds_the_same_to_its_digits(tap, documents, store, tmp_path):
    half = ActivationStore.collect(tap, documents, tmp_path / "half", **SETTINGS | {"dtype": "float16"})
    np.testing.assert_allclose(half["res"].rows(), store["res"].rows(), rtol=1e-3, atol=1e-4)
    assert (half.folder / "res.rows").stat().st_size * 2 == (store.folder / "res.rows").stat().st_size


class Killed(BaseException):
    """As a process that ends."""


@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_collection_that_was_cut_short_goes_on_to_the_same_store(tap, documents, store, tmp_path, monkeypatch, at):
    calls, flush = [], blocks.BlockWriter._flush

    def stop(done, total, words):
        if done == at:
            raise Killed

    def torn(self, split):
        flush(self, split)
        calls.append(split)
        if len(calls) == 2:
            raise Killed  # a block was appended, and the manifest does not know it yet

    with pytest.raises(Killed):
        ActivationStore.collect(tap, documents, tmp_path / "cut", progress=stop, **SETTINGS)
    monkeypatch.setattr(blocks.BlockWriter, "_flush", torn)
    with pytest.raises(Killed):
        ActivationStore.collect(tap, documents, tmp_path / "cut", **SETTINGS)
    monkeypatch.setattr(blocks.BlockWriter, "_flush", flush)
    whole = ActivationStore.collect(tap, documents, tmp_path / "cut", **SETTINGS)
    assert whole.hash == store.hash
    assert content(whole.folder) == content(store.folder)
    np.testing.assert_array_equal(whole["res"].gram_, store["res"].gram_)
    assert not list(whole.folder.glob("*.part"))


def test_a_finished_store_is_opened_and_not_made_again(tap, documents, store, monkeypatch):
    monkeypatch.setattr(Tap, "read", None)
    assert ActivationStore.collect(tap, documents, store.folder, **SETTINGS).hash == store.hash


def test_a_full_disk_leaves_what_is_there(tap, documents, store, tmp_path, monkeypatch):
    flush, done = blocks.BlockWriter._flush, []

    def full(self, split):
        if len(done) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(split)
        flush(self, split)

    monkeypatch.setattr(blocks.BlockWriter, "_flush", full)
    with pytest.raises(StoreError, match=r"No space left on device; make room and call collect again.*blocks are whole"):
        ActivationStore.collect(tap, documents, tmp_path / "full", **SETTINGS)
    part = ActivationStore.open(tmp_path / "full")
    assert not part.complete
    assert 0 < part["res"].count() < store["res"].count()
    assert next(part["res"].batches(32)).shape == (32, 16)
    monkeypatch.setattr(blocks.BlockWriter, "_flush", flush)
    assert ActivationStore.collect(tap, documents, tmp_path / "full", **SETTINGS).hash == store.hash


def test_so_many_rows_as_were_asked_for(tap, documents, tmp_path):
    few = ActivationStore.collect(tap, documents, tmp_path / "few", rows=300, **SETTINGS)
    assert sum(few["res"].count(split) for split in ("train", "val", "test")) == 300
    with pytest.raises(InvalidData, match=r"expected at most \d+ rows=.*got 10000000"):
        ActivationStore.collect(tap, documents, tmp_path / "many", rows=10_000_000, **SETTINGS)


def test_long_documents_are_cut_where_asked_and_refused_otherwise(tap, tmp_path):
    long = [np.arange(1, 50).repeat(3), np.arange(1, 20), np.arange(1, 20)]
    with pytest.raises(InvalidData, match="document 0 has 147 tokens and the model reads 64; give context="):
        ActivationStore.collect(tap, long, tmp_path / "a", **SETTINGS)
    with pytest.raises(InvalidData, match="expected context= of at most 64"):
        ActivationStore.collect(tap, long, tmp_path / "a", context=65, **SETTINGS)
    cut = ActivationStore.collect(tap, long, tmp_path / "a", context=30, **SETTINGS | {"keep": every_position})
    labels = np.concatenate([cut.labels(split) for split in ("train", "val", "test")])
    assert np.bincount(labels[:, 1]).tolist() == [147, 19, 19]
    assert labels[:, 2].max() == 29


class Broken(torch.nn.Module):
    """Gives each token as itself, but for one."""

    def __init__(self, value):
        super().__init__()
        self.value = value
        self.body = torch.nn.Identity()

    def forward(self, input_ids, attention_mask):
        rows = input_ids[..., None].float().expand(*input_ids.shape, 4).clone()
        rows[input_ids == 13] = self.value
        return self.body(rows)


def test_rows_that_are_not_finite_are_named(tmp_path):
    docs = [[1, 2, 3], [4, 13, 5], [6, 7]]
    told = {"dtype": "float32", "batch_size": 1, "split": (1.0, 0.0, 0.0)}
    with pytest.raises(InvalidData, match=r"at 'x' are not finite in batch \d, row 1 \(document 1, position 1, token 13\)"):
        ActivationStore.collect(Tap(Broken(float("nan")).eval(), {"x": "body"}), docs, tmp_path / "nan", **told)
    tap = Tap(Broken(1e6).eval(), {"x": "body"})
    with pytest.raises(InvalidData, match=r"1e\+06 does not fit float16: take dtype='float32'"):
        ActivationStore.collect(tap, docs, tmp_path / "half", **told | {"dtype": "float16"})
    dropped = ActivationStore.collect(tap, docs, tmp_path / "drop", keep=~token_ids([13]), **told | {"dtype": "float16"})
    assert sorted(dropped.labels("train")[:, 0]) == [1, 2, 3, 4, 5, 6, 7]
    kept = ActivationStore.collect(tap, docs, tmp_path / "norm", keep=~norm_above("x", 50.0), **told | {"batch_size": 3})
    assert 13 not in kept.labels("train")[:, 0]


def test_stores_of_other_settings_models_and_sites_are_refused(tap, documents, store, language_model):
    with pytest.raises(FormatError, match="holds a store with another filter"):
        ActivationStore.collect(tap, documents, store.folder, **SETTINGS | {"keep": ~positions_before(2)})
    with pytest.raises(FormatError, match="holds a store with another documents"):
        ActivationStore.collect(tap, documents[:-1], store.folder, **SETTINGS)
    ActivationStore.open(store.folder, tap=tap)
    with pytest.raises(FormatError, match="is of another model"):
        ActivationStore.open(store.folder, tap=Tap(Broken(0.0).eval(), {"res": "body"}))
    with pytest.raises(FormatError, match=r"has no site 'res' at model\.layers\.2, out; it has res, hidden"):
        ActivationStore.open(store.folder, tap=Tap(language_model, {"res": "model.layers.2"}))
    with pytest.raises(InvalidData, match="there is no site 'mlp'"):
        store["mlp"]


def test_files_that_are_damaged_are_refused(store, tmp_path):
    with pytest.raises(FormatError, match="holds no activation store"):
        ActivationStore.open(tmp_path)
    rows = store.folder / "res.rows"
    rows.write_bytes(rows.read_bytes()[:-4])
    with pytest.raises(FormatError, match="is cut short"):
        ActivationStore.open(store.folder)
    manifest = store.folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(FormatError, match="expected a store of format 1"):
        ActivationStore.open(store.folder)


def test_what_it_will_take_is_known_before(tap, documents, store, tmp_path, monkeypatch):
    told = ActivationStore.estimate(tap, documents, tmp_path / "none", **SETTINGS)
    assert told.rows == sum(store["res"].count(split) for split in ("train", "val", "test"))
    assert told.bytes == told.rows * (16 * 4 + 24 * 4 + 12)
    assert told.seconds > 0
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr(stores, "_free", lambda path: 1000)
    with pytest.raises(InvalidData, match=r"the store needs .* MiB and .* has 0 MiB left"):
        ActivationStore.collect(tap, documents, tmp_path / "none", **SETTINGS)


def test_empty_documents_and_filters_that_leave_nothing_are_refused(tap, documents, tmp_path):
    with pytest.raises(InvalidData, match="got document 40 with shape"):
        ActivationStore.collect(tap, [*documents, []], tmp_path / "a", **SETTINGS)
    with pytest.raises(InvalidData, match="leaves no token"):
        ActivationStore.collect(tap, documents, tmp_path / "a", **SETTINGS | {"keep": ~every_position})
    with pytest.raises(InvalidData, match="give tokenizer="):
        ActivationStore.collect(tap, ["text"], tmp_path / "a", **SETTINGS)
    with pytest.raises(InvalidData, match="reads norms at 'mlp', which is no site"):
        ActivationStore.collect(tap, documents, tmp_path / "a", **SETTINGS | {"keep": norm_above("mlp", 5)})


# ---------------------------------------------------------------------- in memory
def test_the_twin_in_memory_keeps_documents_together():
    X = np.arange(60.0).reshape(30, 2)
    rows = ArrayStore(X, np.repeat(np.arange(10), 3), split=(0.5, 0.3, 0.2), random_state=4)
    assert [rows.count(split) for split in ("train", "val", "test")] == [15, 9, 6]
    seen = [set(rows.documents(split)) for split in ("train", "val", "test")]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 10
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(rows.rows(split)[:, 0] // 6, rows.documents(split))
    both = np.concatenate(list(rows.batches(4, split="val", epochs=1)))
    np.testing.assert_array_equal(np.sort(both[:, 0]), np.sort(rows.rows("val")[:, 0]))
    np.testing.assert_allclose(rows.gram_, rows.rows().T @ rows.rows() / 15)


def test_one_block_is_begun_at_another_row_in_each_epoch():
    rows = ArrayStore(np.arange(50.0)[:, None])
    assert len(rows.blocks("train")) == 1
    first, second, third = np.concatenate(list(rows.batches(10, epochs=3))).reshape(3, 50)
    assert sorted(first) == sorted(second) == sorted(third) == list(range(50))
    assert len({first[0], second[0], third[0]}) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"X": [1.0, 2.0]}, r"expected rows of numbers, shape \(n, width\), got shape \(2,\)"),
        ({"X": [[1.0], [np.nan]]}, "got NaN or infinity in row 1"),
        ({"X": np.ones((4, 2)), "split": (0.5, 0.6, 0.0)}, "three shares"),
        ({"X": np.ones((2, 2)), "split": (0.5, 0.3, 0.2)}, "at least 3 documents for 3 splits, got 2"),
        ({"X": np.ones((4, 2)), "documents": [1, 2]}, "expected a document for each of 4 rows"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        ArrayStore(**settings)
