"""Saving and loading: what comes back is what was saved, and a file that is anything else does no harm."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import stat
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

import locum
from locum.core import export
from locum.core.domain import Domain
from locum.core.errors import FormatError, InvalidData
from locum.core.export import EXPORTS, FORMAT, load, save, write_atomically
from locum.core.program import Program
from locum.core.region import Region
from locum.core.rivals import rivals
from locum.core.surrogate import Saves, StandIn, fit
from locum.core.target import Target
from locum.explain.additive import AdditiveClassifier, AdditiveRegressor
from locum.explain.rule_list import RuleListClassifier, RuleListRegressor
from locum.explain.sparse_linear import SparseLinearClassifier, SparseLinearRegressor
from locum.explain.tree import TreeClassifier, TreeRegressor

GOLDEN = Path(__file__).parent / "golden"


class Lookup(Saves):
    """A model of one's own that holds arrays, one of them called as the file calls one of its own."""

    def __init__(self, residuals, table):
        self.residuals = residuals
        self.table = table

    def predict(self, X):
        return self.table[np.arange(len(X)) % len(self.table)]

    def to_state(self):
        return {"note": "a \U0001f600 \u2028 note"}, {"residuals": self.residuals, "a/b.npy": self.table}

    @classmethod
    def from_state(cls, record, arrays):
        assert record["note"] == "a \U0001f600 \u2028 note"
        return cls(arrays["residuals"], arrays["a/b.npy"])


def frame(n=150, seed=0):
    rng = np.random.default_rng(seed)
    out = pd.DataFrame({"age": rng.uniform(18, 90, n), "pay": rng.lognormal(8, 0.5, n)})
    out["job"] = pd.Categorical(rng.choice(["clerk", "it's", "</smith>"], n), ordered=True)
    out.loc[::9, "pay"] = np.nan
    return out


def label(X):
    return np.where((X["age"] > 40) & (X["job"] != "clerk"), "yes", "no")


def value(X):
    return X["age"].to_numpy() / 10 + X["pay"].fillna(0).to_numpy() / 5000


def fitted(model):
    """A stand-in as `fit` makes it, but of a model that was simply given all rows, which is quicker."""
    rows, labels = frame(), hasattr(model, "classes")
    answers, classes = (label(rows), ["no", "yes"]) if labels else (value(rows), None)
    domain = Domain.of(rows)
    standin = StandIn(
        model=clone(model).fit(rows, answers),
        domain=domain,
        region=Region.of(domain, rows),
        target={"name": "loan", "output": "class" if labels else "value", "classes": classes},
        price={"calls": len(rows), "seconds": 0.1, "money": 0.0, "currency": "EUR"},
        rivals=rivals(domain, domain.encode(rows), answers, np.ones(len(rows)), classes),
        random_state=7,
    )
    target = Target(label) if labels else Target(value, output="value")
    return standin.check(target, frame(60, seed=1))


@pytest.fixture(scope="module")
def tree():
    return fitted(TreeClassifier(max_rules=4))


@pytest.fixture
def path(tmp_path, tree):
    tree.save(tmp_path / "tree.locum")
    return tmp_path / "tree.locum"


# ---------------------------------------------------------------------- there and back
@pytest.mark.parametrize(
    "model",
    [
        TreeClassifier(max_rules=4),
        RuleListClassifier(max_rules=4),
        SparseLinearClassifier(max_terms=3),
        AdditiveClassifier(max_statements=6, iterations=10),
        TreeRegressor(max_rules=4),
        RuleListRegressor(max_rules=3),
        SparseLinearRegressor(max_terms=3),
        AdditiveRegressor(max_statements=6, iterations=10),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_fitted_stand_in_comes_back_whole(model, tmp_path):
    standin = fitted(model)
    standin.save(tmp_path / "a.locum")
    again = locum.load(tmp_path / "a.locum")
    rows = frame(80, seed=2)
    assert type(again.model) is type(standin.model)
    assert str(again) == str(standin)
    assert again.program == standin.program
    assert again.model.get_params(deep=False).keys() == standin.model.get_params(deep=False).keys()
    assert np.array_equal(again.predict(rows, outside="ignore"), standin.predict(rows, outside="ignore"))
    assert again.predict(rows, outside="abstain").mask.tolist() == standin.predict(rows, outside="abstain").mask.tolist()
    assert again.region.reasons(rows) == standin.region.reasons(rows)
    if standin.target["output"] == "value":
        assert np.array_equal(again.predict_interval(rows), standin.predict_interval(rows))
    else:
        assert np.array_equal(again.predict_proba(rows), standin.predict_proba(rows))
    for name in ("domain", "target", "price", "fidelity", "rivals", "random_state"):
        assert getattr(again, name) == getattr(standin, name), name
    save(again, tmp_path / "b.locum")
    assert (tmp_path / "a.locum").read_bytes() == (tmp_path / "b.locum").read_bytes()


def test_a_model_of_ones_own_with_arrays(tree, tmp_path):
    model = Lookup(np.arange(3.0), np.array(["a", "\u00e9"]))
    mine = replace(tree, model=model, residuals=np.array([0.25, 0.5]), price={"calls": np.int64(3), "seconds": np.float64(0.5)})
    mine.save(tmp_path / "mine.locum")
    with pytest.raises(FormatError, match=r"Lookup, which is no class of Locum that is saved; pass it in classes= if it is"):
        load(tmp_path / "mine.locum")
    again = load(tmp_path / "mine.locum", classes=[dict, Lookup])
    assert again.model.residuals.tolist() == [0.0, 1.0, 2.0]
    assert again.model.table.tolist() == ["a", "\u00e9"]
    assert again.residuals.tolist() == [0.25, 0.5]
    assert again.price == {"calls": 3, "seconds": 0.5}


def test_what_cannot_be_saved_is_refused_and_leaves_no_file(tree, tmp_path):
    standin = fit(LinearRegression(), Target(lambda X: X[:, 0], output="value"), np.random.default_rng(0).normal(size=(50, 2)))
    with pytest.raises(InvalidData, match=r"LinearRegression cannot be saved: it would have to be a locum\.core\.\w+\.Saves"):
        standin.save(tmp_path / "a.locum")
    with pytest.raises(InvalidData, match="expected plain values in what is saved, got Target"):
        replace(tree, price={"target": Target(label)}).save(tmp_path / "a.locum")
    with pytest.raises(InvalidData, match="arrays of numbers or of text of fixed width in what is saved, got one of object"):
        replace(tree, model=Lookup(np.array([None]), np.zeros(1))).save(tmp_path / "a.locum")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tree-1", "additive-1"])
def test_files_of_earlier_versions_are_read(name):
    standin = load(GOLDEN / f"{name}.locum")
    known = json.loads((GOLDEN / f"{name}.json").read_text())
    rows = pd.DataFrame(known["rows"])
    answers = standin.predict(rows, outside="ignore").tolist()
    assert answers == (pytest.approx(known["answers"], rel=1e-12) if name.startswith("additive") else known["answers"])
    assert standin.region.inside(rows).tolist() == known["inside"]
    assert 0 < sum(known["inside"]) < len(rows)
    assert [str(found) for found in standin.fidelity] == known["fidelity"]
    assert standin.residuals.tolist() == known["residuals"]
    assert [rival.name for rival in standin.rivals] == ["constant", "one split", "linear model"]
    assert isinstance(standin.program, Program)


def test_every_format_so_far_has_its_golden_files():
    for number in range(1, FORMAT + 1):
        assert {f"tree-{number}.locum", f"additive-{number}.locum"} <= {file.name for file in GOLDEN.iterdir()}


def test_exports_by_name(tree):
    assert list(EXPORTS) == ["python", "sql", "javascript", "onnx"]
    assert [type(translate(tree.program)) for translate in EXPORTS.values()] == [str, str, str, bytes]


# ---------------------------------------------------------------------- damaged, foreign, newer
def test_one_changed_byte_anywhere_is_found(path, tmp_path):
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    spots = {*range(100), *range(len(whole) - 60, len(whole)), *rng.integers(0, len(whole), 200).tolist()}
    changed = tmp_path / "changed.locum"
    for spot in spots:
        for other in {whole[spot] ^ 1, whole[spot] ^ 0x80, ord("0")} - {whole[spot]}:
            changed.write_bytes(whole[:spot] + bytes([other]) + whole[spot + 1 :])
            with pytest.raises(FormatError):
                load(changed)


def test_a_cut_file_and_one_with_more_at_its_end(path):
    whole = path.read_bytes()
    for part in (b"", whole[:5], whole[:80], whole[:-1], whole[: len(whole) // 2], whole + b"\n"):
        path.write_bytes(part)
        with pytest.raises(FormatError):
            load(path)


def test_a_newer_format_is_refused(path):
    path.write_bytes(path.read_bytes().replace(b"locum-standin 1 ", b"locum-standin 2 ", 1))
    with pytest.raises(FormatError, match=r"tree.locum has format 2, this version reads up to 1; update locum"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"hello\n",
        b"locum-standin\n",
        b"locum-standin 0 " + b"0" * 64 + b"\n",
        b"locum-standin -1 " + b"0" * 64 + b"\n",
        b"locum-standin 01 " + b"0" * 64 + b"\n",
        b"locum-standin 1 " + b"0" * 63 + b"\n",
        b"SQLite format 3\0" + bytes(5000),
        pickle.dumps({"class": "locum"}),
        bytes(range(256)) * 100,
    ],
)
def test_a_foreign_file_is_refused(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(FormatError, match=r"other is not a saved stand-in; expected a file that StandIn.save wrote"):
        load(tmp_path / "other")


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(FormatError, match=r"cannot read .*nothing: No such file"):
        load(tmp_path / "nothing")
    with pytest.raises(FormatError, match=r"cannot read .*: Is a directory"):
        load(tmp_path)


# ---------------------------------------------------------------------- made up to do harm: the checksum is right
def signed(body, number=FORMAT):
    checksum = hashlib.sha256(b"%d\n" % number + body).hexdigest().encode()
    return b"locum-standin %d %s\n" % (number, checksum) + body


def parts(path):
    with zipfile.ZipFile(io.BytesIO(path.read_bytes().partition(b"\n")[2])) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members, compression=zipfile.ZIP_STORED):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return body.getvalue()


def test_the_files_made_here_are_signed_as_the_real_ones(path):
    members = parts(path)
    path.write_bytes(signed(packed(members)))
    load(path)
    assert sorted(members) == ["residuals.npy", "standin.json"]


class Bang:
    """What a pickle does when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("name", ["residuals.npy", "arrays/x.npy"])
def test_an_array_that_holds_a_pickle_is_never_loaded(name, path, tmp_path):
    array = io.BytesIO()
    np.save(array, np.array([Bang(tmp_path / "bang")], dtype=object), allow_pickle=True)
    for content in (array.getvalue(), pickle.dumps(Bang(tmp_path / "bang"))):
        path.write_bytes(signed(packed({**parts(path), name: content})))
        with pytest.raises(FormatError, match="does not hold a whole stand-in"):
            load(path)
    assert not (tmp_path / "bang").exists()


def test_an_archive_that_would_unfold_to_more_than_its_file_is_refused(path):
    members = parts(path)
    bomb = {**members, "arrays/zeros.npy": bytes(50_000_000)}
    path.write_bytes(signed(packed(bomb, zipfile.ZIP_DEFLATED)))
    assert path.stat().st_size < 200_000
    with pytest.raises(FormatError, match="an archive that is not compressed and no larger than its file"):
        load(path)


def test_a_compressed_member_is_refused_however_small_it_says_it_is(path):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, data in parts(path).items():
            archive.writestr(name, data)
        archive.writestr("arrays/zeros.npy", bytes(10_000_000), zipfile.ZIP_LZMA)
        archive.filelist[-1].file_size = 10
    path.write_bytes(signed(body.getvalue()))
    with pytest.raises(FormatError, match="an archive that is not compressed"):
        load(path)


def test_many_members_that_share_the_same_bytes_are_refused(path):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, data in parts(path).items():
            archive.writestr(name, data)
        archive.writestr("arrays/0.npy", bytes(10_000))
        for i in range(1, 500):
            twin = zipfile.ZipInfo(f"arrays/{i}.npy")
            twin.header_offset, twin.CRC = archive.filelist[-1].header_offset, archive.filelist[-1].CRC
            twin.compress_size = twin.file_size = 10_000
            archive.filelist.append(twin)
    path.write_bytes(signed(body.getvalue()))
    with pytest.raises(FormatError, match="no larger than its file"):
        load(path)


def test_an_array_that_claims_to_be_huge_is_refused(path):
    for shape in ((10**13,), (2**62, 2**62), (-1,)):
        claim = io.BytesIO()
        np.lib.format.write_array_header_1_0(claim, {"descr": "<f8", "fortran_order": False, "shape": shape})
        path.write_bytes(signed(packed({**parts(path), "residuals.npy": claim.getvalue() + bytes(80)})))
        with pytest.raises(FormatError, match="does not hold a whole stand-in"):
            load(path)


@pytest.mark.parametrize("name", ["../evil.npy", "/tmp/evil.npy", "arrays/../../evil", "other.json", "a.npz", "C:\\evil.npy"])
def test_names_of_other_files_are_refused(name, path):
    path.write_bytes(signed(packed({**parts(path), name: b""})))
    with pytest.raises(FormatError, match=r"expected standin.json and arrays, each once, got"):
        load(path)


def test_nothing_is_written_when_loading(path, tmp_path):
    array = io.BytesIO()
    np.save(array, np.zeros(2))
    path.write_bytes(signed(packed({**parts(path), "arrays/../../evil.npy": array.getvalue()})))
    before = sorted(tmp_path.parent.rglob("*"))
    load(path)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_the_same_name_twice_is_refused(path):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, data in parts(path).items():
            archive.writestr(name, data)
        archive.filelist.append(archive.filelist[0])
    path.write_bytes(signed(body.getvalue()))
    with pytest.raises(FormatError, match="each once"):
        load(path)


@pytest.mark.parametrize(
    "class_",
    [
        "os.system",
        "builtins.eval",
        "locum.catalogue.__main__.main",
        "locum.cli.App",
        "locum.nowhere.Model",
        "locum.core.surrogate.StandIn",
        "locum.core.surrogate.Saves",
        "locum.core.export.Saves",
        "locum.explain.tree.TreeClassifier.fit",
        "locum.explain._readable.ReadableClassifier",
        "locum..TreeClassifier",
        "",
    ],
)
def test_a_file_can_name_no_other_class(class_, path):
    members = parts(path)
    record = {**json.loads(members["standin.json"]), "class": class_}
    path.write_bytes(signed(packed({**members, "standin.json": json.dumps(record)})))
    with pytest.raises(FormatError, match="the file holds a "):
        load(path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 200_000,
        "{}",
        "[]",
        '{"class": null}',
        "9" * 5000,
        "\ud800".encode("utf-8", "surrogatepass"),
    ],
    ids=["empty", "deep", "no keys", "list", "no class", "long number", "no text"],
)
def test_a_record_that_is_none_is_refused(content, path):
    path.write_bytes(signed(packed({**parts(path), "standin.json": content})))
    with pytest.raises(FormatError):
        load(path)


@pytest.mark.parametrize("key", ["class", "model", "domain", "region", "target", "price", "fidelity", "rivals", "random_state"])
def test_a_record_without_one_of_its_parts_is_refused(key, path):
    members = parts(path)
    record = json.loads(members["standin.json"])
    del record[key]
    path.write_bytes(signed(packed({**members, "standin.json": json.dumps(record)})))
    with pytest.raises(FormatError, match=f"does not hold a whole stand-in: KeyError\\('{key}'\\)"):
        load(path)


def test_an_archive_that_is_none_is_refused(path):
    members = packed(parts(path))
    encrypted = bytearray(members)
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        at = members.index(mark) + (6 if mark == b"PK\x03\x04" else 8)
        struct.pack_into("<H", encrypted, at, 1)
    for body in (b"", b"PK", bytes(100), members[: len(members) // 2], bytes(encrypted)):
        path.write_bytes(signed(body))
        with pytest.raises(FormatError, match="does not hold a whole stand-in"):
            load(path)


# ---------------------------------------------------------------------- writing
def test_a_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    write_atomically(tmp_path / "ours", b"content")
    assert (tmp_path / "ours").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_folder_that_is_none_or_cannot_be_written(tree, path, monkeypatch):
    with pytest.raises(InvalidData, match=r"cannot write .*: No such file or directory; choose a folder that can be written"):
        tree.save(path.parent / "nowhere" / "a.locum")
    with pytest.raises(InvalidData, match=r"cannot write .*; choose a folder that can be written"):
        tree.save(path / "a.locum")  # the folder is a file
    with pytest.raises(InvalidData, match=r"cannot write .*: Is a directory"):
        tree.save(path.parent)
    with pytest.raises(InvalidData, match="expected the path of a file to write, got '/'"):
        tree.save("/")

    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InvalidData, match=r"cannot write .*: Read-only file system; choose a folder that can be written"):
        tree.save(path.parent / "a.locum")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(failing, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(export.os, failing, full)
    with pytest.raises(InvalidData, match=r"cannot write .*: No space left on device"):
        write_atomically(tmp_path / "a", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"old")]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(export.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"new")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"old")]


def test_names_as_long_as_a_file_may_have(tmp_path):
    write_atomically(tmp_path / ("x" * 250), b"new")
    assert (tmp_path / ("x" * 250)).read_bytes() == b"new"
