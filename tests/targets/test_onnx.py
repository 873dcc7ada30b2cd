"""Targets from ONNX files: what the exported model itself said, and rows that the file cannot take."""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from locum.core.errors import InvalidData, LedgerError, TargetError
from locum.targets import from_onnx
from locum.testing import check_target

onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'locum[onnx]'")
pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'locum[onnx]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

X, y = load_iris(return_X_y=True)
X = X.astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])
FLOAT, DOUBLE, INT64, STRING = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING


def written(path, nodes, inputs, outputs, tensors=()):
    """A model of some nodes as a file; inputs and outputs as (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        [numpy_helper.from_array(values, name) for name, values in dict(tensors).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def linear(path, weights=(1.0, -2.0), batch="n", kind=FLOAT):
    """y = x @ weights."""
    weights = np.array(weights, np.float32 if kind == FLOAT else np.float64)[:, None]
    d = len(weights)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return written(path, [node], [("x", kind, [batch, d])], [("y", kind, [batch, 1])], {"w": weights})


def identity(path, kind=FLOAT, shape=("n", 3)):
    return written(path, [helper.make_node("Identity", ["x"], ["y"])], [("x", kind, list(shape))], [("y", kind, list(shape))])


def exported(path, model, rows, **options):
    to_onnx = pytest.importorskip("skl2onnx", reason="needs skl2onnx, for models to test with").to_onnx
    path.write_bytes(to_onnx(model, rows, options=options or None).SerializeToString())
    return path


# ------------------------------------------------------------------ answers are the model's
def test_a_classifier_with_named_probabilities(tmp_path):
    model = LogisticRegression(max_iter=1000).fit(X, y)
    path = exported(tmp_path / "m.onnx", model, X[:1])  # its second output is a list of {class: probability}
    target = from_onnx(path)
    assert (target.output, target.classes.tolist(), target.name) == ("class", [0, 1, 2], "m.onnx")
    np.testing.assert_array_equal(target.query(X), model.predict(X))
    probabilities = from_onnx(path, output="probability")
    np.testing.assert_allclose(probabilities.query(X), model.predict_proba(X), atol=1e-5)
    assert probabilities.classes.tolist() == [0, 1, 2]


def test_a_classifier_with_a_table_of_probabilities(tmp_path):
    model = DecisionTreeClassifier(max_depth=3).fit(X, NAMES[y])
    path = exported(tmp_path / "m.onnx", model, X[:1], zipmap=False)
    target = from_onnx(path)
    assert target.query(X).tolist() == model.predict(X).tolist()
    assert target.classes.tolist() == NAMES.tolist()
    np.testing.assert_allclose(from_onnx(path, output="probability").query(X), model.predict_proba(X), atol=1e-6)
    by_name = from_onnx(path, output_name="probabilities", output="class")
    assert by_name.query(X).tolist() == model.predict(X).tolist()


def test_a_regressor(tmp_path):
    rows, value = load_diabetes(return_X_y=True)
    model = LinearRegression().fit(rows, value)
    target = from_onnx(exported(tmp_path / "m.onnx", model, rows[:1]))
    assert target.output == "value"
    np.testing.assert_allclose(target.query(rows), model.predict(rows), rtol=1e-10)


def test_a_pipeline_that_takes_a_column_a_tensor(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": X[:, 0], "b": np.where(X[:, 1] > 3, "wide", "narrow"), "k": y})
    steps = [("n", StandardScaler(), ["a"]), ("t", OneHotEncoder(), ["b"]), ("k", "passthrough", ["k"])]
    model = make_pipeline(ColumnTransformer(steps), LogisticRegression(max_iter=1000)).fit(frame, y)
    path = exported(tmp_path / "m.onnx", model, frame[:1], zipmap=False)
    target = from_onnx(path)
    np.testing.assert_array_equal(target.query(frame), model.predict(frame))
    structured = np.array([tuple(row) for row in frame.itertuples(index=False)], dtype=[("a", "f4"), ("b", "U6"), ("k", int)])
    np.testing.assert_array_equal(from_onnx(path).query(structured), model.predict(frame))
    np.testing.assert_array_equal(from_onnx(path).query(frame.to_numpy(dtype=object)), model.predict(frame))
    for rows, message in [
        (frame[["b", "a", "k"]], "takes the columns a, b, k, and got b, a, k"),
        (frame[["a", "b"]], "takes the columns a, b, k, and got a, b"),
        (frame.assign(k=0.5), "takes whole numbers .* in 'k', got 0.5"),
        (frame.assign(b=None), "takes text in 'b', got None"),
        (frame.assign(a="x"), "takes numbers only, got text such as 'x'"),
        (X[:, :2].astype(object), r"rows of 3 columns"),
    ]:
        with pytest.raises(InvalidData, match=message):
            from_onnx(path).query(rows)


def test_the_scores_of_a_network(tmp_path):
    model = MLPClassifier((20,), learning_rate_init=0.05, tol=1e-3, max_iter=2000, random_state=0).fit(X, NAMES[y])
    weights = [values.astype(np.float32) for values in (*model.coefs_, *model.intercepts_)]
    tensors = dict(zip(("w0", "w1", "b0", "b1"), weights, strict=True))
    layers = [("Gemm", ["x", "w0", "b0"], "h"), ("Relu", ["h"], "r"), ("Gemm", ["r", "w1", "b1"], "scores")]
    nodes = [helper.make_node(kind, given, [made]) for kind, given, made in layers]
    path = written(tmp_path / "m.onnx", nodes, [("x", FLOAT, ["n", 4])], [("scores", FLOAT, ["n", 3])], tensors)
    said = from_onnx(path, output="probability", link="softmax", classes=NAMES).query(X)
    np.testing.assert_allclose(said, model.predict_proba(X), atol=1e-5)
    assert from_onnx(path, output="class", classes=NAMES).query(X).tolist() == model.predict(X).tolist()


def test_a_link_makes_probabilities_of_scores(tmp_path):
    path = identity(tmp_path / "m.onnx", DOUBLE)
    scores = np.array([[0.0, 1.0, 3.0], [-1.0, 2.0, 2.0]])
    said = from_onnx(path, output="probability", link="softmax", classes=NAMES).query(scores)
    np.testing.assert_allclose(said, np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True))
    assert from_onnx(path, output="class", classes=NAMES).query(scores[:1]).tolist() == ["virginica"]
    one = identity(tmp_path / "one.onnx", DOUBLE, ("n",))
    said = from_onnx(one, output="probability", link="sigmoid").query([[0.0], [np.log(3)]])
    np.testing.assert_allclose(said, [[0.5, 0.5], [0.25, 0.75]])


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (FLOAT, np.array([[1.5, 2.0, np.nan]])),
        (TensorProto.FLOAT16, np.array([[1.5, 2.0, 3.0]])),
        (INT64, np.array([[1.0, 2.0, -3.0]])),
        (TensorProto.UINT8, np.array([[0, 1, 255]])),
        (TensorProto.BOOL, np.array([[1, 0, 1]])),
        (STRING, np.array([["a", "b", "ä"]])),
    ],
)
def test_rows_are_cast_to_the_type_the_model_says(tmp_path, kind, rows):
    path = identity(tmp_path / "m.onnx", kind)
    said = from_onnx(path, output="value", allow_nan=True).query(rows)
    np.testing.assert_array_equal(said, rows)
    assert said.dtype.kind == {STRING: "U", TensorProto.BOOL: "b", INT64: "i", TensorProto.UINT8: "u"}.get(kind, "f")


def test_rows_of_more_dimensions(tmp_path):
    path = identity(tmp_path / "m.onnx", shape=("n", 2, 3))
    rows = np.arange(12.0).reshape(2, 2, 3)
    np.testing.assert_array_equal(from_onnx(path).query(rows), rows)
    with pytest.raises(InvalidData, match=r"takes 'x' of shape \(n, 2, 3\), got \(2, 3, 2\)"):
        from_onnx(path).query(rows.reshape(2, 3, 2))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_model_for_batches_of_one_size(tmp_path, batch):
    target = from_onnx(linear(tmp_path / "m.onnx", batch=batch))
    rows = np.arange(22.0).reshape(11, 2)
    np.testing.assert_allclose(target.query(rows), rows @ [1, -2])


def test_it_behaves_as_a_target_must(tmp_path):
    path = linear(tmp_path / "m.onnx", kind=DOUBLE)
    rows = np.random.default_rng(0).normal(size=(12, 2))
    check_target(partial(from_onnx, path), rows, refused=[rows[:, :1], np.array([["x", "y"]])])


# ------------------------------------------------------------------ identity and pools
def test_the_ledger_knows_the_file_by_its_content(tmp_path):
    path, ledger = linear(tmp_path / "m.onnx"), tmp_path / "answers.ledger"
    first = from_onnx(path, ledger=ledger)
    first.query([[1.0, 2.0]])
    first.ledger.close()
    (tmp_path / "moved").mkdir()
    moved = from_onnx(shutil.move(path, tmp_path / "moved"), ledger=ledger)
    assert moved.query([[1.0, 2.0]]).tolist() == [-3.0]
    assert moved.account().paid == 0
    moved.ledger.close()
    with pytest.raises(LedgerError, match="fingerprint"):
        from_onnx(linear(path, weights=(1.0, -2.5)), ledger=ledger)


def test_tensors_beside_the_file_count(tmp_path):
    path = linear(tmp_path / "m.onnx", weights=np.arange(400.0))
    prints = []
    for scale in (1.0, 2.0):
        model = onnx.load(path, load_external_data=False)
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(scale) * np.ones((400, 1), np.float32), "w"))
        onnx.save(model, tmp_path / "big.onnx", save_as_external_data=True, location="big.bin", size_threshold=0)
        (tmp_path / "answers.ledger").unlink(missing_ok=True)
        target = from_onnx(tmp_path / "big.onnx", ledger=tmp_path / "answers.ledger")
        assert target.query(np.ones((1, 400))).tolist() == [400 * scale]
        prints.append(target.ledger.target["fingerprint"])
        target.ledger.close()
        (tmp_path / "big.bin").rename(tmp_path / "gone.bin")
        with pytest.raises(InvalidData, match=r"big.bin: there is no such file"):
            from_onnx(tmp_path / "big.onnx")
    assert prints[0] != prints[1]


@pytest.mark.parametrize("start", ["fork", "spawn", "threads"])
def test_pools_open_the_file_themselves(tmp_path, one_worker, start):
    path = linear(tmp_path / "m.onnx", weights=np.ones(50))
    rows = np.random.default_rng(0).normal(size=(400, 50))
    for i in range(4):  # the sessions here have threads, which a forked worker lacks
        from_onnx(linear(tmp_path / f"{i}.onnx", weights=np.ones(50))).query(rows)
    with ThreadPoolExecutor(2) if start == "threads" else one_worker(start) as pool:
        target = from_onnx(path, executor=pool, batch_size=100, timeout=60)
        np.testing.assert_allclose(target.query(rows), rows.sum(axis=1), rtol=1e-4, atol=1e-4)


def test_a_worker_does_not_answer_with_another_model(tmp_path):
    path = linear(tmp_path / "m.onnx")
    with ProcessPoolExecutor(1) as pool:
        target = from_onnx(path, executor=pool)
        linear(path, weights=(5.0, 5.0))
        with pytest.raises(TargetError, match="is another one than when the target was made"):
            target.query([[1.0, 1.0]])
        path.unlink()
        with pytest.raises(TargetError, match="is gone; workers of a pool read it themselves"):
            target.query([[1.0, 1.0]])


# ------------------------------------------------------------------ refusals
def test_files_that_are_no_model(tmp_path):
    with pytest.raises(InvalidData, match="there is no such file"):
        from_onnx(tmp_path / "none.onnx")
    for content in (b"", b"garbage", b"\x00" * 100):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(InvalidData, match=r"bad.onnx"):
            from_onnx(tmp_path / "bad.onnx")
    unknown = written(
        tmp_path / "op.onnx", [helper.make_node("Nonsense", ["x"], ["y"])], [("x", FLOAT, ["n", 1])], [("y", FLOAT, ["n", 1])]
    )
    with pytest.raises(InvalidData, match=r"cannot run op.onnx: .*Nonsense"):
        from_onnx(unknown)


def test_models_whose_inputs_are_no_rows(tmp_path):
    two = written(
        tmp_path / "two.onnx",
        [helper.make_node("Concat", ["a", "b"], ["y"], axis=1)],
        [("a", FLOAT, ["n", 2]), ("b", FLOAT, ["n", 1])],
        [("y", FLOAT, ["n", 3])],
    )
    with pytest.raises(InvalidData, match="one input of numbers or text, or one a column, each one value wide, got a;"):
        from_onnx(two)
    with pytest.raises(InvalidData, match=r"got x \(tensor\(complex64\)\)|cannot run"):
        from_onnx(identity(tmp_path / "complex.onnx", TensorProto.COMPLEX64))


def test_models_with_several_outputs_want_a_name(tmp_path):
    path = written(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("Neg", ["x"], ["less"])],
        [("x", FLOAT, ["n", 1])],
        [("same", FLOAT, ["n", 1]), ("less", FLOAT, ["n", 1])],
    )
    with pytest.raises(InvalidData, match=r"several outputs; say output_name= for one of same .*, less"):
        from_onnx(path)
    with pytest.raises(InvalidData, match=r"no output 'more'; it has same"):
        from_onnx(path, output_name="more")
    assert from_onnx(path, output_name="less").query([[2.0]]).tolist() == [-2.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"providers": ["MagicProvider"]}, "onnxruntime has no MagicProvider here; it has .*CPU"),
        ({"threads": -1}, "threads= of zero or more"),
        ({"link": "softmax"}, "say output='probability' or 'class'"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, settings, message):
    with pytest.raises(InvalidData, match=message):
        from_onnx(linear(tmp_path / "m.onnx"), **settings)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 3)), r"takes 'x' of shape \(n, 2\), got \(2, 3\)"),
        (np.zeros(2), r"got \(2,\)"),
        (np.array([["a", "b"]]), "takes numbers only, got text such as 'a'"),
    ],
)
def test_rows_are_refused_before_the_model_is_asked(tmp_path, rows, message):
    target = from_onnx(linear(tmp_path / "m.onnx"))
    with pytest.raises(InvalidData, match=message):
        target.query(rows)
    assert target.ledger.account().asked == 0
