"""Targets from XGBoost and LightGBM: the library's own predictions, from memory and from its files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from threadpoolctl import threadpool_limits

from locum.core.errors import InvalidData, LedgerError, TargetError
from locum.targets import from_boosting
from locum.testing import check_target

CANCER = load_breast_cancer(return_X_y=True)
WINE = load_wine(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)


@pytest.fixture(params=["xgboost", "lightgbm"])
def library(request):
    return pytest.importorskip(request.param, reason=f"needs {request.param}: pip install 'locum[boosting]'")


@pytest.fixture
def xgboost():
    return pytest.importorskip("xgboost", reason="needs xgboost: pip install 'locum[boosting]'")


@pytest.fixture
def lightgbm():
    return pytest.importorskip("lightgbm", reason="needs lightgbm: pip install 'locum[boosting]'")


def trained(library, rows, values, rounds=8, **params):
    """A small booster."""
    if library.__name__ == "xgboost":
        return library.train({"max_depth": 3, "nthread": 1, **params}, library.DMatrix(rows, values), rounds)
    return library.train({"num_leaves": 7, "verbose": -1, "num_threads": 1, **params}, library.Dataset(rows, values), rounds)


def binary(library, rows=CANCER[0], values=CANCER[1], **params):
    return trained(library, rows, values, objective="binary:logistic" if library.__name__ == "xgboost" else "binary", **params)


def own(library, booster, rows, **settings):
    return booster.predict(library.DMatrix(rows, **settings) if library.__name__ == "xgboost" else rows)


def saved(library, booster, folder, name="m"):
    path = folder / f"{name}{'.json' if library.__name__ == 'xgboost' else '.txt'}"
    booster.save_model(path)
    return path


# ------------------------------------------------------------------ the library's own predictions
def test_two_classes(library, tmp_path):
    rows, _ = CANCER
    booster = binary(library)
    p = own(library, booster, rows)
    path = saved(library, booster, tmp_path)
    for model, name in [(booster, f"{library.__name__}.Booster"), (path, path.name), (str(path), path.name)]:
        target = from_boosting(model)
        np.testing.assert_allclose(target.query(rows), np.column_stack([1 - p, p]), rtol=1e-6)
        assert (target.output, target.classes.tolist(), target.name) == ("probability", [0, 1], name)
    assert from_boosting(path, output="class").query(rows).tolist() == (p > 0.5).astype(int).tolist()
    named = from_boosting(path, output="class", classes=["ill", "well"])
    assert named.query(rows).tolist() == np.where(p > 0.5, "well", "ill").tolist()
    np.testing.assert_array_equal(from_boosting(path, output="value").query(rows), p)


def test_three_classes(library):
    rows, values = WINE
    objective = "multi:softprob" if library.__name__ == "xgboost" else "multiclass"
    booster = trained(library, rows, values, objective=objective, num_class=3)
    p = own(library, booster, rows)
    np.testing.assert_array_equal(from_boosting(booster).query(rows), p)
    said = from_boosting(booster, output="class", classes=["a", "b", "c"])
    assert said.query(rows).tolist() == np.array(["a", "b", "c"])[p.argmax(axis=1)].tolist()


def test_values(library):
    rows, values = DIABETES
    objective = "reg:squarederror" if library.__name__ == "xgboost" else "regression"
    booster = trained(library, rows, values, objective=objective)
    target = from_boosting(booster)
    np.testing.assert_array_equal(target.query(rows), own(library, booster, rows))
    assert (target.output, target.classes) == ("value", None)
    with pytest.raises(InvalidData, match=f"objective is '{objective}', which has no classes"):
        from_boosting(booster, output="class")


def test_the_scikit_learn_wrappers_file_predicts_as_the_wrapper(library, tmp_path):
    rows, values = CANCER
    wrapper = library.XGBClassifier if library.__name__ == "xgboost" else partial(library.LGBMClassifier, verbose=-1)
    model = wrapper(n_estimators=8, n_jobs=1).fit(rows, values)
    booster = model.get_booster() if library.__name__ == "xgboost" else model.booster_
    target = from_boosting(saved(library, booster, tmp_path))
    np.testing.assert_allclose(target.query(rows), model.predict_proba(rows), rtol=1e-6, atol=1e-7)
    assert from_boosting(booster, output="class").query(rows).tolist() == model.predict(rows).tolist()


def test_training_that_stopped_early_predicts_up_to_the_best_round(xgboost, tmp_path):
    rows, values = CANCER
    model = xgboost.XGBClassifier(n_estimators=300, learning_rate=1.0, early_stopping_rounds=20, n_jobs=1)
    model.fit(rows[:300], values[:300], eval_set=[(rows[300:], values[300:])], verbose=False)
    booster = model.get_booster()
    assert model.best_iteration + 1 < booster.num_boosted_rounds()
    assert not np.allclose(booster.predict(xgboost.DMatrix(rows)), model.predict_proba(rows)[:, 1], rtol=1e-6)
    for source in (booster, saved(xgboost, booster, tmp_path)):
        np.testing.assert_allclose(from_boosting(source).query(rows), model.predict_proba(rows), rtol=1e-6, atol=1e-7)


def test_classes_and_hinge_scores(xgboost):
    rows, values = WINE
    booster = trained(xgboost, rows, values, objective="multi:softmax", num_class=3)
    target = from_boosting(booster)
    said = target.query(rows)
    assert (target.output, said.dtype) == ("class", np.int64)
    np.testing.assert_array_equal(said, own(xgboost, booster, rows))
    named = from_boosting(booster, classes=["a", "b", "c"]).query(rows)
    assert named.tolist() == np.array(["a", "b", "c"])[said].tolist()
    with pytest.raises(InvalidData, match="'multi:softmax', which gives no probabilities"):
        from_boosting(booster, output="probability")
    hinge = trained(xgboost, *CANCER, objective="binary:hinge")
    np.testing.assert_array_equal(from_boosting(hinge).query(CANCER[0]), own(xgboost, hinge, CANCER[0]))


def test_log_odds_take_a_link(xgboost):
    booster = trained(xgboost, *CANCER, objective="binary:logitraw")
    score = own(xgboost, booster, CANCER[0]).astype(float)
    np.testing.assert_array_equal(from_boosting(booster).query(CANCER[0]), score)
    said = from_boosting(booster, output="probability", link="sigmoid").query(CANCER[0])
    np.testing.assert_allclose(said[:, 1], 1 / (1 + np.exp(-score)), rtol=1e-5)
    with pytest.raises(InvalidData, match="say output='value', or link='sigmoid'"):
        from_boosting(booster, output="probability")
    with pytest.raises(InvalidData, match="'binary:logistic', so it needs no link="):
        from_boosting(binary(xgboost), link="sigmoid")


def test_one_against_all_scores_are_values(lightgbm):
    booster = trained(lightgbm, *WINE, objective="multiclassova", num_class=3)
    scores = own(lightgbm, booster, WINE[0])
    assert np.abs(scores.sum(axis=1) - 1).max() > 1e-3
    target = from_boosting(booster)
    np.testing.assert_array_equal(target.query(WINE[0]), scores)
    assert target.output == "value"
    assert from_boosting(booster, output="class").query(WINE[0]).tolist() == scores.argmax(axis=1).tolist()


def test_missing_values_go_the_way_that_was_learnt(library):
    rows = np.where(np.random.default_rng(0).random(CANCER[0].shape) < 0.2, np.nan, CANCER[0])
    booster = binary(library, rows)
    p = own(library, booster, rows)
    np.testing.assert_allclose(from_boosting(booster).query(rows)[:, 1], p, rtol=1e-6)
    np.testing.assert_allclose(from_boosting(booster).query(rows.astype(object))[:, 1], p, rtol=1e-6)


def test_it_behaves_as_a_target_must(library, tmp_path):
    path = saved(library, binary(library), tmp_path)
    rows = CANCER[0][:12]
    refused = [rows[:, :29], np.full((1, 30), "x"), rows[0]]
    check_target(partial(from_boosting, path), rows, refused=refused)


# ------------------------------------------------------------------ columns
def frame_of(rows, names):
    return pytest.importorskip("pandas").DataFrame(rows, columns=names)


def test_columns_with_names(library):
    names = list(load_breast_cancer().feature_names)  # with spaces, which LightGBM writes as underscores
    frame = frame_of(CANCER[0], names)
    booster = binary(library, frame)
    p = own(library, booster, frame)
    structured = np.array([tuple(row) for row in CANCER[0]], dtype=[(name, float) for name in names])
    for rows in (frame, structured, CANCER[0]):
        np.testing.assert_allclose(from_boosting(booster).query(rows)[:, 1], p, rtol=1e-6)
    for wrong in (frame[names[::-1]], frame.rename(columns={names[0]: "other"})):
        with pytest.raises(InvalidData, match=r"the model takes the columns mean.radius.* give it the same, in order"):
            from_boosting(booster).query(wrong)


def test_columns_of_categories(library, tmp_path):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    letters = rng.choice(["a", "b", "c"], 300)
    frame = pd.DataFrame({"n": rng.normal(size=300), "c": pd.Categorical(letters)})
    values = ((letters == "b") ^ (frame["n"] > 1)).astype(int)
    if library.__name__ == "xgboost":
        data = library.DMatrix(frame, values, enable_categorical=True)
        booster = library.train({"objective": "binary:logistic", "nthread": 1}, data, 8)
        p = own(library, booster, frame, enable_categorical=True)
    else:
        booster = binary(library, frame, values, min_data_in_leaf=5)
        p = own(library, booster, frame)
    assert np.corrcoef(p, values)[0, 1] > 0.9
    path = saved(library, booster, tmp_path)
    turned = frame.assign(c=pd.Categorical(letters, categories=["c", "b", "a"]))  # the same letters, other codes
    for rows in (frame, turned):
        np.testing.assert_allclose(from_boosting(path).query(rows)[:, 1], p, rtol=1e-6)
    coded = np.column_stack([frame["n"], np.searchsorted(["a", "b", "c"], letters)])
    np.testing.assert_allclose(from_boosting(path).query(coded)[:, 1], p, rtol=1e-6)
    with pytest.raises(InvalidData, match="numbers only, got text such as"):
        from_boosting(path).query(np.array([(0.5, "a")], dtype=[("n", float), ("c", "U1")]))


def test_infinite_numbers_are_refused_before_xgboost_would(xgboost):
    rows = np.array(CANCER[0])
    rows[3, 3] = np.inf
    target = from_boosting(binary(xgboost))
    with pytest.raises(InvalidData, match="XGBoost takes no infinite numbers"):
        target.query(rows)
    assert target.ledger.account().asked == 0


def test_an_unknown_category_is_told_without_the_librarys_stack(xgboost):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"n": np.arange(40.0), "c": pd.Categorical(["a", "b"] * 20)})
    data = xgboost.DMatrix(frame, np.arange(40) % 2, enable_categorical=True)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 3)
    with pytest.raises(TargetError, match="Found a category not in the training set") as told:
        from_boosting(booster).query(frame.assign(c=pd.Categorical(["z"] * 40)))
    assert "Stack trace" not in str(told.value)


# ------------------------------------------------------------------ identity and pools
def test_the_ledger_knows_the_model_by_its_content(library, tmp_path):
    rows, ledger = CANCER[0][:5], tmp_path / "answers.ledger"
    path = saved(library, binary(library), tmp_path)
    first = from_boosting(path, ledger=ledger)
    first.query(rows)
    first.ledger.close()
    path = path.rename(tmp_path / f"other{path.suffix}")
    same = from_boosting(path, ledger=ledger, name=first.name)
    same.query(rows)
    assert same.account().paid == 0
    same.ledger.close()
    with pytest.raises(LedgerError, match="fingerprint"):
        from_boosting(saved(library, binary(library, rounds=9), tmp_path, "more"), ledger=ledger, name=first.name)


def test_a_booster_is_kept_as_it_is_now(library):
    booster = binary(library)
    before = own(library, booster, CANCER[0])
    target = from_boosting(booster)
    if library.__name__ == "xgboost":
        booster.update(library.DMatrix(*CANCER), 8)
    else:
        booster = library.train({"objective": "binary", "verbose": -1}, library.Dataset(*CANCER), 3, init_model=booster)
    assert np.abs(own(library, booster, CANCER[0]) - before).max() > 0.01
    np.testing.assert_allclose(target.query(CANCER[0])[:, 1], before, rtol=1e-6)


@pytest.mark.parametrize(("start", "kept"), [("fork", "file"), ("fork", "memory"), ("threads", "file")])
def test_pools_answer_too(library, tmp_path, one_worker, start, kept):
    rows = np.tile(CANCER[0], (4, 1)) + np.arange(4 * len(CANCER[0]))[:, None] * 1e-9
    booster = binary(library)
    model = saved(library, booster, tmp_path) if kept == "file" else booster
    with threadpool_limits(2, user_api="openmp"):  # with these, a forked worker would wait for threads that it lacks
        expected = from_boosting(model).query(rows)
        with ThreadPoolExecutor(2) if start == "threads" else one_worker(start) as pool:
            target = from_boosting(model, executor=pool, batch_size=1200, timeout=30)
            np.testing.assert_array_equal(target.query(rows), expected)
    np.testing.assert_allclose(expected[:, 1], own(library, booster, rows), rtol=1e-6)


def test_a_worker_does_not_answer_with_another_model(library, tmp_path, one_worker):
    path = saved(library, binary(library), tmp_path)
    with one_worker("fork") as pool:
        target = from_boosting(path, executor=pool)
        saved(library, binary(library, rounds=9), tmp_path)
        with pytest.raises(TargetError, match="is another one than when the target was made"):
            target.query(CANCER[0])


# ------------------------------------------------------------------ refusals
@pytest.mark.parametrize("content", ["", "garbage", '{"a": 1}', "tree\nversion=v4\n"])
def test_files_that_are_no_model(library, tmp_path, content, capfd):
    path = tmp_path / ("m.json" if library.__name__ == "xgboost" else "m.txt")
    path.write_text(content)
    with pytest.raises(InvalidData, match=r"m\.(json|txt)") as told:
        from_boosting(path)
    assert "Stack trace" not in str(told.value)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("none.json", "there is no such file"),
        (__file__, r"ending in .json or .ubj \(XGBoost\) or .txt \(LightGBM\), got test_boosting.py"),
        (3, "expected a path, an xgboost.Booster or a lightgbm.Booster, got int"),
    ],
)
def test_things_that_are_no_booster(thing, message):
    with pytest.raises(InvalidData, match=message):
        from_boosting(thing)


def test_settings_that_do_not_fit(library):
    booster = binary(library)
    with pytest.raises(InvalidData, match="name the model's 2 classes in order, got 3"):
        from_boosting(booster, classes=["a", "b", "c"])
    with pytest.raises(InvalidData, match="expected output= to be 'auto'"):
        from_boosting(booster, output="label")
