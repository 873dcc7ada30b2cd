"""What a design-based analysis refuses, and what it warns of."""

# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.infer import DesignWarning, DSLRegressor, NoSolution

pd = pytest.importorskip("pandas")
pytest.importorskip("formulaic")


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(float)
    drawn = rng.random(n) < 0.3
    return pd.DataFrame(
        {
            "x": x,
            "Y": np.where(drawn, y, np.nan),
            "q": np.where(rng.random(n) < 0.8, y, 1 - y),
            "R": drawn * 1,
            "pi": 0.3,
            "g": np.arange(n) // 10,
        }
    )


def fit(frame=None, formula="Y ~ x", settings=None, **how):
    settings = {"learner": "linear", "n_splits": 1} | (settings or {})
    how = {"surrogates": {"Y": "q"}, "labeled": "R", "sampling_prob": "pi"} | how
    return DSLRegressor(**settings).fit(rows() if frame is None else frame, formula, **how)


def changed(column, values, where=None):
    frame = rows()
    if where is None:
        frame[column] = values
    else:
        frame.loc[where(frame), column] = values
    return frame


REFUSED = {
    "probability zero": (lambda: {"frame": changed("pi", 0.0, lambda d: d.index < 3)}, "above 0 and at most 1, got 3 others.*guarantee is gone"),
    "probability above one": (lambda: {"frame": changed("pi", 1.2, lambda d: d.index < 2)}, "at most 1, got 2 others"),
    "probability missing": (lambda: {"frame": changed("pi", np.nan, lambda d: d.index < 2)}, "missing values in 'pi'"),
    "probability unknown": (lambda: {"sampling_prob": None}, "are unknown; without them nothing guarantees"),
    "probability no number": (lambda: {"sampling_prob": [0.3]}, "expected sampling_prob= as a column"),
    "certain and not labelled": (lambda: {"frame": changed("pi", 1.0)}, "sampling probability 1 have no expert label"),
    "labelled without label": (lambda: {"frame": changed("Y", np.nan, lambda d: d.index == d.index[d["R"] == 1][0])}, "1 labelled rows lack an expert label"),
    "labels of unlabelled": (lambda: {"frame": changed("Y", 1.0, lambda d: d.index == d.index[d["R"] == 0][0])}, "1 rows are marked as not labelled"),
    "flags": (lambda: {"frame": changed("R", 2)}, "expected flags of 0 and 1 in 'R'"),
    "no labels": (lambda: {"frame": changed("Y", np.nan), "labeled": None}, "no row has an expert label"),
    "labels all alike": (lambda: {"frame": changed("Y", 1.0, lambda d: d["R"] == 1)}, "that are all .*1.0"),
    "infinite labels": (lambda: {"frame": changed("Y", np.inf, lambda d: d["R"] == 1)}, "expected finite expert labels"),
    "constant surrogate": (lambda: {"frame": changed("q", 1.0)}, "the surrogate q says the same of every row"),
    "missing surrogate": (lambda: {"frame": changed("q", np.nan, lambda d: d.index < 4)}, r"missing values in 'q' \(4\)"),
    "absent surrogate": (lambda: {"surrogates": {"Y": "llm"}}, "not in the data: llm; it has"),
    "no surrogate": (lambda: {"surrogates": {"Y": []}}, "at least one surrogate column for Y"),
    "surrogate of another": (lambda: {"surrogates": {"Z": "q"}}, "an entry for each of Y"),
    "label as surrogate": (lambda: {"surrogates": {"Y": "Y"}}, "another column than the expert's label"),
    "label as feature": (lambda: {"features": ["Y", "x"]}, "would leak into the first stage"),
    "missing covariate": (lambda: {"frame": changed("x", np.nan, lambda d: d.index < 4)}, "cannot be read with these columns"),
    "unknown covariate": (lambda: {"formula": "Y ~ w"}, "cannot be read with these columns"),
    "no formula": (lambda: {"formula": "x"}, "expected a formula such as"),
    "not predicted": (lambda: {"formula": "q ~ x"}, "to use what is predicted"),
    "collinear": (lambda: {"frame": rows().assign(w=lambda d: 2 * d["x"] - 1), "formula": "Y ~ x + w"}, "Intercept, x, w are collinear"),
    "infinite term": (lambda: {"frame": rows().assign(w=0.0), "formula": "Y ~ {1 / w}"}, "not finite on some rows|cannot be read"),
    "outside the link": (lambda: {"frame": changed("Y", 3.0, lambda d: (d["R"] == 1) & (d["x"] > 0))}, r"within \[0, 1\] for the logit link"),
    "mean with terms": (lambda: {"settings": {"model": "mean"}}, "'Y ~ 1' for a mean"),
    "model": (lambda: {"settings": {"model": "probit"}}, "expected model= mean, lm, logit, poisson, felm, got 'probit'"),
    "learner": (lambda: {"settings": {"learner": "magic"}}, "expected learner= boosting, forest"),
    "learner class": (lambda: {"settings": {"learner": DSLRegressor}}, "a scikit-learn estimator or a name"),
    "folds": (lambda: {"settings": {"cross_fit": 1}}, "cross_fit= to be a whole number of 2 or more, got 1"),
    "target": (lambda: {"settings": {"target": "both"}}, "expected target= superpopulation, finite"),
    "effects without felm": (lambda: {"fixed_effects": ("g",)}, "model='felm' and none otherwise"),
    "felm without effects": (lambda: {"settings": {"model": "felm"}}, "one or two columns with model='felm'"),
    "absorbed": (lambda: {"frame": rows().assign(w=lambda d: d["g"] % 3), "formula": "Y ~ w", "settings": {"model": "felm"}, "fixed_effects": ("g",)}, "w do not vary within the fixed effects"),
    "few clusters": (lambda: {"frame": rows().assign(h=lambda d: d["R"] * (d.index % 3)), "groups": "h"}, "in each of 5 folds, got some in .* too few clusters"),
    "a number": (lambda: {"frame": 3}, "expected a table or a mapping of columns, got int"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    how, message = REFUSED[case]
    with pytest.raises(InvalidData, match=f"(?s){message}"):
        fit(**how())


def test_perfect_separation_has_no_solution():
    frame = rows().assign(Y=lambda d: np.where(d["R"] == 1, (d["x"] > 0) * 1.0, np.nan), q=lambda d: (d["x"] > 0) * 1)
    with pytest.raises(NoSolution, match="the columns separate the outcome perfectly"):
        fit(frame, settings={"learner": "surrogate"})


def test_a_score_is_learnt_from_and_is_no_label():
    frame = rows().assign(q=lambda d: 10 * d["q"] - 4)
    m = fit(frame)
    assert np.isnan(m.compare().estimates["SO"].params).all()
    assert m.fidelity_ == ()
    with pytest.raises(InvalidData, match="needs a surrogate label, got a score"):
        fit(frame, settings={"learner": "surrogate"})


def test_few_labels_are_warned_of():
    frame = rows(60)
    with pytest.warns(DesignWarning, match="expert labels for 2 coefficients.*20 or more are advised"):
        fit(
            frame.assign(Y=lambda d: d["Y"].where(d["R"].cumsum() <= 12), R=lambda d: d["R"] * (d["R"].cumsum() <= 12)),
            sampling_prob="equal",
        )


def test_probabilities_of_another_design_are_warned_of():
    with pytest.warns(DesignWarning, match="add up to 240 labels and there are"):
        fit(changed("pi", 0.6))


def test_flags_may_be_left_out():
    assert (fit(labeled=None).params_ == fit().params_).all()
    assert (fit(labeled=None, sampling_prob=0.3).params_ == fit().params_).all()
