"""Targets from fitted predictors: what is read off them, and what is refused before they are asked."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from locum.core.errors import InvalidData, LedgerError, TargetError
from locum.targets import from_sklearn, load_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3))
Y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def forest():
    return RandomForestClassifier(10, random_state=0).fit(X, Y)


# --- what is read off ------------------------------------------------------------------------------------------------
def test_classes_output_and_name_are_read_off(forest):
    for method, output, truth in [
        ("predict", "class", forest.predict(X)),
        ("predict_proba", "probability", forest.predict_proba(X)),
    ]:
        target = from_sklearn(forest, method=method)
        np.testing.assert_array_equal(target.query(X), truth)
        assert (target.output, target.classes.tolist(), target.name) == (output, ["no", "yes"], "RandomForestClassifier")
    assert from_sklearn(forest, name="mine", price=2.0).name == "mine"


def test_scores_and_regressions_are_values():
    line = LogisticRegression().fit(X, Y)
    target = from_sklearn(line, method="decision_function")
    np.testing.assert_array_equal(target.query(X), line.decision_function(X))
    assert (target.output, target.classes) == ("value", None)
    assert from_sklearn(LinearRegression().fit(X, X[:, 0])).output == "value"


def test_a_pipeline_is_named_after_its_last_step():
    pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    assert from_sklearn(pipe).name == "LogisticRegression"


def test_the_model_is_not_touched(forest):
    before = pickle.dumps(forest)
    from_sklearn(forest).query(X[:5])
    assert pickle.dumps(forest) == before


@pytest.mark.parametrize("library", [pd, pl])
def test_frames_go_to_the_model_as_they_are(library):
    frame = library.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2]})
    model = LogisticRegression().fit(frame, Y)
    np.testing.assert_array_equal(from_sklearn(model).query(frame), model.predict(frame))


def test_a_model_that_was_saved_and_loaded_is_the_same_to_a_ledger(forest, tmp_path):
    from_sklearn(forest, ledger=tmp_path / "l.db").query(X)
    again = from_sklearn(pickle.loads(pickle.dumps(forest)), ledger=tmp_path / "l.db")
    again.query(X)
    assert (again.account().paid, again.account().replayed) == (0, 80)
    other = RandomForestClassifier(10, random_state=1).fit(X, Y)
    with pytest.raises(LedgerError, match="it computes something else"):
        from_sklearn(other, ledger=tmp_path / "l.db")
    with pytest.raises(LedgerError, match=r"this one's is 'probability'|it computes something else"):
        from_sklearn(forest, method="predict_proba", ledger=tmp_path / "l.db")


# --- refused ---------------------------------------------------------------------------------------------------------
class Bare(BaseEstimator):
    def predict(self, X):
        return X[:, 0]


def test_a_model_without_a_fit_needs_none():
    assert from_sklearn(Bare()).query(X[:2]).tolist() == X[:2, 0].tolist()


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (LogisticRegression(), {}, "this LogisticRegression is not fitted; fit it first"),
        (make_pipeline(StandardScaler(), LogisticRegression()), {}, "this Pipeline is not fitted; fit it first"),
        (LogisticRegression, {}, "expected a fitted predictor, got the class LogisticRegression itself"),
        (Bare(), {"method": "predict_proba"}, "this Bare has no predict_proba; use method='predict'"),
        (Bare(), {"method": "transform"}, "expected method= to be one of predict, predict_proba, decision_function"),
        (DecisionTreeClassifier().fit(X, np.column_stack([Y, Y])), {}, "expected a model with one output, this .* has 2"),
    ],
)
def test_models_that_cannot_be_asked_are_refused(model, settings, message):
    with pytest.raises(InvalidData, match=message):
        from_sklearn(model, **settings)


@pytest.mark.parametrize(
    ("fitted_on", "rows", "message"),
    [
        (FRAME, FRAME[["b", "a", "c"]], "fitted on the columns 'a', 'b', 'c', and got 'b', 'a', 'c'; give it the same"),
        (FRAME, FRAME[["a", "b"]], "fitted on the columns 'a', 'b', 'c', and got 'a', 'b'; give it the same"),
        (FRAME, FRAME.assign(d=1.0), "fitted on the columns 'a', 'b', 'c', and got 'a', 'b', 'c', 'd'; give it the same"),
        (FRAME, X, "fitted on a frame with the columns 'a', 'b', 'c', and got rows without names; give it a frame"),
        (X, X[:, :2], r"fitted on 3 columns, and got rows of shape \(80, 2\)"),
        (X, X[0], r"fitted on 3 columns, and got rows of shape \(3,\)"),
        (X, np.zeros(2, dtype="f8,f8,f8"), "takes no structured array; give it a frame or an array of shape"),
        (X, np.where(np.arange(3) == 1, np.nan, X), "takes no NaN or infinity, and row 0 holds one; fill it, or leave the row"),
        (X, np.vstack([X, [[0.0, np.inf, 0.0]]]), "takes no NaN or infinity, and row 80 holds one"),
        (FRAME, FRAME.assign(b=np.nan), "takes no NaN or infinity, and row 0 holds one"),
    ],
)
def test_rows_that_do_not_fit_the_model_are_refused_before_it_is_asked(monkeypatch, fitted_on, rows, message):
    model = LogisticRegression().fit(fitted_on, Y)
    target = from_sklearn(model)
    monkeypatch.setattr(LogisticRegression, "predict", lambda self, X: pytest.fail("asked"))
    with pytest.raises(InvalidData, match=message):
        target.query(rows)
    assert target.account().asked == 0


@pytest.mark.parametrize(
    "model",
    [
        HistGradientBoostingClassifier(max_iter=3),
        make_pipeline(SimpleImputer(), LogisticRegression()),
        make_pipeline(make_column_transformer((SimpleImputer(), [0, 1, 2])), LogisticRegression()),
    ],
)
def test_models_that_take_missing_values_get_them(model):
    holes = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
    model.fit(holes, Y)
    np.testing.assert_array_equal(from_sklearn(model).query(holes), model.predict(holes))


def test_what_scikit_learn_does_not_know_the_model_says_itself():
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)
    with pytest.raises(TargetError, match="raised ValueError: Input X contains NaN"):
        from_sklearn(model).query(np.full((1, 3), np.nan))


def test_text_columns_go_through_a_pipeline():
    frame = pd.DataFrame({"job": ["clerk", "nurse"] * 40, "age": np.arange(80.0)})
    model = make_pipeline(make_column_transformer((OneHotEncoder(), ["job"]), remainder="passthrough"), LogisticRegression())
    model.fit(frame, Y)
    np.testing.assert_array_equal(from_sklearn(model).query(frame), model.predict(frame))


# --- files -----------------------------------------------------------------------------------------------------------
def test_models_from_files(forest, tmp_path):
    skops = pytest.importorskip("skops.io")
    joblib = pytest.importorskip("joblib")
    line = LogisticRegression().fit(X, Y)
    skops.dump(line, tmp_path / "line.skops")
    skops.dump(forest, tmp_path / "forest.skops")
    joblib.dump(forest, tmp_path / "forest.joblib")
    np.testing.assert_array_equal(load_model(tmp_path / "line.skops").predict(X), line.predict(X))
    with pytest.raises(InvalidData, match=r"sklearn.tree._tree.Tree; find out what they do, then load it with load_model"):
        load_model(tmp_path / "forest.skops")
    trees = load_model(tmp_path / "forest.skops", trusted=["sklearn.tree._tree.Tree"])
    for model in (trees, load_model(tmp_path / "forest.joblib", trust_pickle=True)):
        np.testing.assert_array_equal(model.predict(X), forest.predict(X))


class Strange(BaseEstimator):
    def fit(self, X, y):
        return self


def test_files_that_are_not_trusted_are_refused_unread(forest, tmp_path):
    skops = pytest.importorskip("skops.io")
    hurt = tmp_path / "hurt"

    class Bomb:
        def __reduce__(self):
            return (open, (str(hurt), "w"))

    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InvalidData, match=r"bomb.pkl is a pickle: loading it runs whatever code it holds.*trust_pickle=True"):
        load_model(tmp_path / "bomb.pkl")
    assert not hurt.exists()
    skops.dump(Strange(), tmp_path / "strange.skops")
    with pytest.raises(InvalidData, match=r"holds types that are not known to be safe: .*Strange; find out what they do"):
        load_model(tmp_path / "strange.skops")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.skops", None, "cannot read the model .*missing.skops: there is no such file"),
        ("model.txt", b"x", "expected a model file ending in .skops, .joblib or .pkl, got model.txt"),
        ("model.skops", b"not a zip", "cannot load .*model.skops: "),
        ("model.pkl", b"\x80\x05junk", "cannot load .*model.pkl: "),
    ],
)
def test_files_that_are_no_models_are_refused(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidData, match=message):
        load_model(tmp_path / name, trust_pickle=True)
