"""`target`: every kind of thing goes to the function that makes its target, and nothing else is taken."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from locum.core.errors import InvalidData, MissingExtra
from locum.core.target import Target
from locum.targets import from_boosting, from_http, from_onnx, from_torch, read_table, target

ROWS = np.arange(12.0).reshape(6, 2)
LABELS = np.array([0, 0, 0, 1, 1, 1])


def doubled(X):
    return 2 * np.asarray(X)[:, 0]


@pytest.fixture
def classifier():
    return LogisticRegression().fit(ROWS, LABELS)


# ------------------------------------------------------------------ what is taken
def test_a_function_an_import_a_predictor_and_a_target(classifier):
    np.testing.assert_array_equal(target(doubled).query(ROWS), 2 * ROWS[:, 0])
    np.testing.assert_array_equal(target("numpy:ravel").query(ROWS[:, :1]), ROWS[:, 0])
    np.testing.assert_array_equal(target(classifier).query(ROWS), classifier.predict(ROWS))
    np.testing.assert_array_equal(target(classifier, method="predict_proba").query(ROWS), classifier.predict_proba(ROWS))
    made = target(doubled)
    assert target(made) is made
    with pytest.raises(InvalidData, match="keeps its settings; leave out price"):
        target(made, price=1.0)


def test_model_files(tmp_path, classifier):
    io = pytest.importorskip("skops.io", reason="needs skops: pip install 'locum[skops]'")
    io.dump(classifier, tmp_path / "m.skops")
    joblib.dump(classifier, tmp_path / "m.joblib")
    for path in (tmp_path / "m.skops", str(tmp_path / "m.skops")):
        np.testing.assert_array_equal(target(path).query(ROWS), classifier.predict(ROWS))
    asked = target(tmp_path / "m.joblib", trust_pickle=True, method="predict_proba")
    np.testing.assert_array_equal(asked.query(ROWS), classifier.predict_proba(ROWS))
    for name in ("m.joblib", "m.pkl", "M.PICKLE"):
        joblib.dump(classifier, tmp_path / name)
        with pytest.raises(InvalidData, match=r"is a pickle: loading it runs whatever code it holds.*--trust-pickle"):
            target(tmp_path / name)


def test_a_torch_module_that_could_also_be_called():
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'locum[nets]'")

    class Doubled(torch.nn.Module):
        def forward(self, rows):
            return 2 * rows[:, 0]

    made = target(Doubled(), dtype="float64", batch_size=4)
    np.testing.assert_array_equal(made.query(ROWS), 2 * ROWS[:, 0])
    assert made.name == "Doubled"


def test_an_onnx_file(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install 'locum[onnx]'")
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'locum[onnx]'")
    shape = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, ["n", 2]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "m", shape[:1], shape[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "M.ONNX")
    np.testing.assert_array_equal(target(tmp_path / "M.ONNX", output="value").query(ROWS), -ROWS)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_booster_its_files_and_its_wrapper(tmp_path, library):
    module = pytest.importorskip(library, reason=f"needs {library}: pip install 'locum[boosting]'")
    rows = np.random.default_rng(0).normal(size=(60, 2))
    kind = module.XGBClassifier if library == "xgboost" else module.LGBMClassifier
    wrapper = kind(n_estimators=3, n_jobs=1, **({} if library == "xgboost" else {"verbose": -1})).fit(rows, rows[:, 0] > 0)
    booster = wrapper.get_booster() if library == "xgboost" else wrapper.booster_
    things = [booster]
    for suffix in (".json", ".ubj") if library == "xgboost" else (".txt",):
        booster.save_model(tmp_path / f"m{suffix}")
        things.append(tmp_path / f"m{suffix}")
    p = wrapper.predict_proba(rows)
    for thing in things:
        np.testing.assert_allclose(target(thing).query(rows), p, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(target(wrapper, method="predict_proba").query(rows), p)


def test_an_address():
    pytest.importorskip("httpx", reason="needs httpx: pip install 'locum[http]'")
    for url in ("http://127.0.0.1:9/model.onnx", "HTTPS://127.0.0.1:9/model.onnx"):
        assert target(url, timeout=1.0).name == "127.0.0.1/model.onnx"


def test_tables_of_recorded_answers(tmp_path):
    csv = tmp_path / "t.csv"
    csv.write_text("a,b,y\n0,1,5\n2,3,6\n")
    made = target(csv, answer="y", price=0.5)
    assert made.recorded
    assert made.name == "t.csv"
    np.testing.assert_array_equal(made.query(made.rows), [5, 6])
    assert made.account().money == 1.0
    with pytest.raises(InvalidData, match="no recorded answer"):
        made.query([[9.0, 9.0]])
    pytest.importorskip("duckdb", reason="needs duckdb: pip install 'locum[tables]'")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'locum[tables]'")
    arrow = pytest.importorskip("pyarrow")
    parquet.write_table(arrow.table({"a": [0.0], "p": [0.25], "q": [0.75]}), tmp_path / "t.parquet")
    several = target(tmp_path / "t.parquet", answer=["p", "q"], output="probability")
    np.testing.assert_array_equal(several.query(several.rows), [[0.25, 0.75]])
    queried = target(f"duckdb:SELECT * FROM '{csv}'", answer="y", columns=["b"])
    np.testing.assert_array_equal(queried.query(np.array([(3,), (1,)], dtype=[("b", int)])), [6, 5])
    assert queried.name == "DuckDB query"


# ------------------------------------------------------------------ what is not
@pytest.mark.parametrize(
    ("thing", "settings", "message"),
    [
        (3, {}, "expected a function, a predictor, .* got int; wrap it in a function"),
        ("model.h5", {}, r"a file ending in .skops, .* got 'model.h5'"),
        ("", {}, "got ''"),
        ("nowhere_at_all:f", {}, "cannot import 'nowhere_at_all'"),
        ("t.parquet", {}, "expected answer= to name the column of t.parquet"),
        ("m.onnx", {"method": "predict_proba"}, "method= means nothing for m.onnx; .* output='probability'"),
        (doubled, {"method": "predict_proba"}, "method= means nothing for this function"),
        (doubled, {"answer": "y"}, "answer= means nothing for this function; it names a column of a table"),
        ("t.csv", {"answer": "y", "method": "decision_function"}, "method= means nothing for t.csv"),
        (LinearRegression(), {}, "is not fitted"),
        (LinearRegression, {}, "the class LinearRegression itself"),
    ],
)
def test_things_that_are_none_of_these(thing, settings, message):
    with pytest.raises(InvalidData, match=message):
        target(thing, **settings)


def test_a_setting_that_does_not_exist_is_told():
    with pytest.raises(TypeError, match="retry"):
        target(doubled, retry=3)


@pytest.mark.parametrize(
    ("make", "missing", "message"),
    [
        (lambda: from_torch(None), "torch", r"a torch module needs torch; .*locum\[nets\]"),
        (lambda: from_onnx(__file__), "onnx", r"an ONNX file needs onnx; .*locum\[onnx\]"),
        (lambda: from_onnx(__file__), "onnxruntime", r"an ONNX file needs onnx(runtime)?; .*locum\[onnx\]"),
        (lambda: from_http("http://a/"), "httpx", r"an HTTP endpoint needs httpx; .*locum\[http\]"),
        (lambda: read_table("duckdb:SELECT 1", "y"), "duckdb", r"a DuckDB query needs (duckdb|pyarrow); .*locum\[tables\]"),
        (lambda: read_table("duckdb:SELECT 1", "y"), "pyarrow", r"a DuckDB query needs pyarrow; .*locum\[tables\]"),
    ],
)
def test_a_missing_package_names_the_extra_that_brings_it(monkeypatch, make, missing, message):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=message):
        make()


@pytest.mark.parametrize(("name", "extra"), [("m.json", "xgboost"), ("m.txt", "lightgbm")])
def test_a_missing_boosting_library_is_told(monkeypatch, tmp_path, name, extra):
    monkeypatch.setitem(sys.modules, extra, None)
    (tmp_path / name).write_text("{}")
    with pytest.raises(MissingExtra, match=rf"needs {extra}; .*locum\[boosting\]"):
        from_boosting(tmp_path / name)


def test_importing_the_targets_imports_no_heavy_package():
    heavy = ("torch", "onnx", "onnxruntime", "xgboost", "lightgbm", "pyarrow", "duckdb", "httpx", "skops")
    code = f"import sys, locum.targets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------ settings go through
def test_pools_and_settings_go_through():
    with ThreadPoolExecutor(2) as pool:
        made = target(doubled, executor=pool, batch_size=2, price=0.1, name="twice")
        np.testing.assert_array_equal(made.query(ROWS), 2 * ROWS[:, 0])
    assert isinstance(made, Target)
    assert made.name == "twice"
    assert made.account().money == pytest.approx(0.6)


@pytest.mark.slow
def test_ray_asks_model_files(tmp_path):
    """A file is opened by each of Ray's workers, not sent to them."""
    ray = pytest.importorskip("ray", reason="needs ray: pip install 'locum[ray]'")
    xgboost = pytest.importorskip("xgboost", reason="needs xgboost: pip install 'locum[boosting]'")
    rows = np.random.default_rng(0).normal(size=(100, 2))
    params = {"objective": "binary:logistic", "nthread": 1}
    booster = xgboost.train(params, xgboost.DMatrix(rows, rows[:, 0] > 0), 3)
    booster.save_model(tmp_path / "m.json")
    made = target(tmp_path / "m.json", executor="ray", batch_size=25)
    try:
        np.testing.assert_allclose(made.query(rows)[:, 1], booster.predict(xgboost.DMatrix(rows)), rtol=1e-6)
    finally:
        ray.shutdown()
