"""What the five families share: scikit-learn's checks, the containers of rows, and what must not matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.export import load, save
from locum.core.region import Region
from locum.core.surrogate import StandIn
from locum.explain import (
    AdditiveClassifier,
    AdditiveRegressor,
    RuleListClassifier,
    RuleListRegressor,
    RuleSetClassifier,
    RuleSetRegressor,
    SparseLinearClassifier,
    SparseLinearRegressor,
    TreeClassifier,
    TreeRegressor,
)

CLASSIFIERS = [
    TreeClassifier(max_rules=4),
    RuleListClassifier(max_rules=3, sweeps=1),
    RuleSetClassifier(max_rules=3, sweeps=1),
    AdditiveClassifier(max_statements=8, iterations=20),
    SparseLinearClassifier(max_terms=4),
]
REGRESSORS = [
    TreeRegressor(max_rules=4),
    RuleListRegressor(max_rules=3, sweeps=1),
    RuleSetRegressor(max_rules=3, sweeps=1),
    AdditiveRegressor(max_statements=8, iterations=20),
    SparseLinearRegressor(max_terms=4),
]


@parametrize_with_checks(CLASSIFIERS + REGRESSORS)
def test_scikit_learn(estimator, check):
    check(estimator)


def name_of(model):
    return type(model).__name__


def rows(n=200, seed=0):
    """Numbers, whole numbers, text and missing values, and answers that use all of them."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "size": rng.uniform(size=n).round(3),
            "count": rng.integers(0, 6, n),
            "colour": rng.choice(["red", "green", "blue"], n).astype(object),
        }
    )
    table.loc[rng.random(n) < 0.15, "size"] = np.nan
    value = 2.0 * (table["size"].fillna(0.9) > 0.5) + (table["colour"] == "red") + 0.5 * (table["count"] > 2)
    return table, np.where(value > 1.2, "yes", "no"), value.to_numpy()


def answers(model, y, value):
    return value if name_of(model).endswith("Regressor") else y


def check_same(said, again):
    if said.dtype.kind == "f":
        np.testing.assert_allclose(said, again, rtol=0, atol=1e-6)
    else:
        assert (said == again).all()


@pytest.mark.parametrize("model", CLASSIFIERS + REGRESSORS, ids=name_of)
def test_every_container_gives_the_same_program(model):
    table, y, value = rows()
    structured = np.empty(len(table), dtype=[("size", float), ("count", int), ("colour", "U8")])
    for name in table.columns:
        structured[name] = table[name]
    given = [table, pl.from_pandas(table.astype({"colour": str})), structured, table.to_numpy(dtype=object)]
    texts = []
    for one in given:
        fitted = clone(model).fit(one, answers(model, y, value))
        texts.append(fitted.text_.replace("x0", "size").replace("x1", "count").replace("x2", "colour"))
        assert len(fitted.predict(one)) == len(table)
    assert texts[0] == texts[1] == texts[2] == texts[3]


@pytest.mark.parametrize("model", CLASSIFIERS + REGRESSORS, ids=name_of)
def test_the_order_of_rows_does_not_matter(model):
    table, y, value = rows()
    wanted = answers(model, y, value)
    order = np.random.default_rng(1).permutation(len(table))
    one = clone(model).fit(table, wanted)
    other = clone(model).fit(table.iloc[order].reset_index(drop=True), wanted[order])
    said, again = one.predict(table), other.predict(table)
    check_same(said, again)


@pytest.mark.parametrize("model", CLASSIFIERS + REGRESSORS, ids=name_of)
def test_a_constant_and_a_repeated_column_add_nothing(model):
    table, y, value = rows()
    wanted = answers(model, y, value)
    more = table.assign(always=1.0, size_again=table["size"])
    one, other = clone(model).fit(table, wanted), clone(model).fit(more, wanted)
    said, again = one.predict(table), other.predict(more)
    check_same(said, again)
    assert "always" not in other.text_


@pytest.mark.parametrize("model", CLASSIFIERS + REGRESSORS, ids=name_of)
def test_the_order_of_columns_does_not_matter(model):
    table, y, value = rows()
    wanted = answers(model, y, value)
    turned = table[["colour", "size", "count"]]
    one, other = clone(model).fit(table, wanted), clone(model).fit(turned, wanted)
    check_same(one.predict(table), other.predict(turned))
    assert {table.columns[j] for j in one.program_.used} == {turned.columns[j] for j in other.program_.used}


@pytest.mark.parametrize("model", CLASSIFIERS + REGRESSORS, ids=name_of)
def test_a_weight_is_a_number_of_repeats(model):
    table, y, value = rows()
    wanted = answers(model, y, value)
    weights = np.random.default_rng(2).integers(0, 4, len(table))
    repeat = np.repeat(np.arange(len(table)), weights)
    domain = Domain.of(table)
    one = clone(model).set_params(domain=domain).fit(table, wanted, weights)
    other = clone(model).set_params(domain=domain).fit(table.iloc[repeat].reset_index(drop=True), wanted[repeat])
    check_same(one.predict(table), other.predict(table))
    plain = clone(model).set_params(domain=domain).fit(table, wanted)
    assert one.program_ != plain.program_


@pytest.mark.parametrize("model", CLASSIFIERS + REGRESSORS, ids=name_of)
def test_the_same_fit_gives_the_same_program_and_so_does_a_file(model, tmp_path):
    table, y, value = rows()
    wanted = answers(model, y, value)
    fitted = clone(model).fit(table, wanted)
    assert fitted.program_ == clone(model).fit(table, wanted).program_
    output = "value" if fitted.program_.classes is None else "class"
    region = Region.of(fitted.domain_, table)
    save(StandIn(fitted, fitted.domain_, region, {"name": "planted", "output": output, "classes": None}, {}), tmp_path / "one")
    again = load(tmp_path / "one").model
    assert again.program_ == fitted.program_
    assert again.get_params().keys() == fitted.get_params().keys()
    np.testing.assert_array_equal(again.predict(table), fitted.predict(table))


@pytest.mark.parametrize("model", CLASSIFIERS, ids=name_of)
def test_labels_are_probabilities_that_are_sure(model):
    table, y, _ = rows()
    sure = np.column_stack([y == "no", y == "yes"]).astype(float)
    one = clone(model).fit(table, y)
    other = clone(model).set_params(classes=["no", "yes"]).fit(table, sure)
    assert one.program_ == other.program_
    assert one.classes_.tolist() == other.classes_.tolist() == ["no", "yes"]


@pytest.mark.parametrize("model", CLASSIFIERS + REGRESSORS, ids=name_of)
def test_what_was_never_seen_is_answered(model):
    table, y, value = rows()
    fitted = clone(model).fit(table, answers(model, y, value))
    strange = pd.DataFrame({"size": [np.nan, 1e9, -1e9], "count": [0, 99, -5], "colour": ["mauve", None, "red"]})
    said = fitted.predict(strange)
    assert len(said) == 3
    if said.dtype.kind == "f":
        assert np.isfinite(said).all()


@pytest.mark.parametrize("model", CLASSIFIERS, ids=name_of)
def test_probabilities_teach_and_come_back(model):
    table, y, _ = rows()
    sure = np.column_stack([np.where(y == "no", 0.8, 0.1), np.where(y == "no", 0.2, 0.9)])
    fitted = clone(model).set_params(classes=["no", "yes"]).fit(table, sure)
    given = fitted.predict_proba(table)
    np.testing.assert_allclose(given.sum(axis=1), 1.0)
    assert (fitted.predict(table) == y).mean() > 0.8
    with pytest.raises(InvalidData, match="sum"):
        clone(model).fit(table, 2 * sure)


@pytest.mark.parametrize("model", CLASSIFIERS, ids=name_of)
@pytest.mark.parametrize(
    ("labels", "message"),
    [(lambda n: np.full(n, "yes"), "one class only"), (lambda n: np.where(np.arange(n) > 5, 1.0, np.nan), "NaN")],
)
def test_labels_that_teach_nothing_are_refused(model, labels, message):
    table, _, _ = rows()
    with pytest.raises(ValueError, match=message):
        clone(model).fit(table, labels(len(table)))


@pytest.mark.parametrize("model", [m for m in CLASSIFIERS + REGRESSORS if "Sparse" not in name_of(m)], ids=name_of)
def test_a_monotone_change_of_a_number_changes_nothing_on_the_rows_of_the_fit(model):
    table, y, value = rows()
    wanted = answers(model, y, value)
    bent = table.assign(size=np.exp(3 * table["size"]))
    said, again = clone(model).fit(table, wanted).predict(table), clone(model).fit(bent, wanted).predict(bent)
    check_same(said, again)


@pytest.mark.parametrize("model", CLASSIFIERS + REGRESSORS, ids=name_of)
def test_settings_that_cannot_be_are_refused(model):
    table, y, value = rows()
    most = next(name for name in ("max_rules", "max_statements", "max_terms") if name in model.get_params())
    with pytest.raises(InvalidData, match=most):
        clone(model).set_params(**{most: 0}).fit(table, answers(model, y, value))


@pytest.mark.parametrize("model", [m for m in CLASSIFIERS if "ridge" in m.get_params()], ids=name_of)
def test_a_ridge_too_small_for_the_numbers_is_named(model):
    table, _, value = rows()
    classes = np.array(["a", "b", "c"])[np.digitize(value, [0.6, 2.1])]
    with pytest.raises(InvalidData, match="raise ridge="):
        clone(model).set_params(ridge=1e-300).fit(table, classes)
