"""Design-based supervised learning: exact cases against statsmodels, planted truth, published numbers, invariances."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from locum.infer import DesignWarning, DSLRegressor

pd = pytest.importorskip("pandas")
pytest.importorskip("formulaic")
sm = pytest.importorskip("statsmodels.api")

DATA = Path(os.environ.get("LOCUM_DATA", "/nowhere")) / "dsl"
needs_data = pytest.mark.skipif(not DATA.exists(), reason="the data of the package dsl are not in $LOCUM_DATA/dsl")
PANCHEN = "SendOrNot ~ countyWrong + prefecWrong + connect2b + prevalence + regionj + groupIssue"


def planted(n=600, seed=0, kind="logit"):
    """Rows with the truth in column "truth" and surrogates right four times in five (or with an error that leans on x)."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.integers(0, 2, n).astype(float)
    eta = 0.3 + 0.8 * x - 0.5 * z
    if kind == "logit":
        y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
        q = np.where(rng.random(n) < 0.8 - 0.1 * (x > 0), y, 1 - y)
    elif kind == "poisson":
        y = rng.poisson(np.exp(eta)).astype(float)
        q = np.maximum(0.0, np.round(y + rng.normal(size=n) + 0.3 * x))
    else:
        y = eta + rng.normal(size=n)
        q = y + 0.5 * x + 0.5 * rng.normal(size=n)
    return pd.DataFrame({"x": x, "z": z, "truth": y, "Y": y, "q": q, "g": rng.integers(0, 40, n)})


def drawn(frame, share=0.3, seed=1, columns=("Y",)):
    """The same rows with expert labels for some; `share` may differ from row to row."""
    out = frame.copy()
    out["pi"] = share
    out["R"] = (np.random.default_rng(seed).random(len(out)) < out["pi"]).astype(int)
    for name in columns:
        out.loc[out["R"] == 0, name] = np.nan
    return out


def fitted(frame, model="logit", formula="Y ~ x + z", *, prob="pi", groups=None, effects=(), surrogates=None, **settings):
    settings = {"learner": "linear", "n_splits": 1} | settings
    predicted = tuple(surrogates or {"Y": "q"})
    return DSLRegressor(model, predicted, **settings).fit(
        frame, formula, surrogates=surrogates or {"Y": "q"}, sampling_prob=prob, groups=groups, fixed_effects=effects
    )


# ---------------------------------------------------------------------- all rows labelled: the ordinary regression
def reference(model, frame, **cov):
    X = sm.add_constant(frame[["x", "z"]])
    if model == "lm":
        return sm.OLS(frame["Y"], X).fit(**cov)
    kind = {"logit": sm.Logit, "poisson": sm.Poisson}[model]
    return kind(frame["Y"], X).fit(disp=0, tol=1e-14, maxiter=100, **cov)


@pytest.mark.parametrize("model", ["lm", "logit", "poisson"])
@pytest.mark.parametrize("learner", ["linear", "boosting"])
def test_with_all_rows_labelled_it_is_the_ordinary_regression_with_hc0(model, learner):
    frame = planted(kind=model)
    m, expected = fitted(frame, model, prob=1.0, learner=learner), reference(model, frame, cov_type="HC0")
    np.testing.assert_allclose(m.params_, expected.params, rtol=0, atol=1e-8)
    np.testing.assert_allclose(m.vcov_, expected.cov_params(), rtol=0, atol=1e-8)
    # Student's with the freedom that the influences leave, here some hundreds: a little wider than the normal ones.
    half = np.diff(m.conf_int(0.1), axis=1)[:, 0] / 2
    student = stats.t.isf(0.05, m.estimates_.freedom) * m.bse_
    np.testing.assert_allclose(half, student, rtol=1e-9)
    wider = half / (np.diff(expected.conf_int(0.1), axis=1)[:, 0] / 2)
    assert (wider > 1).all()
    assert (wider < 1.06).all()


def test_intervals_hold_where_few_labels_carry_them():
    """A mean that three in a hundred rows make up, 120 of them labelled: normal intervals miss it too often."""
    covered, normal = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        y = np.where(rng.random(1500) < 0.04, rng.exponential(10, 1500), 0.0)
        drawn = np.isin(np.arange(1500), rng.choice(1500, 150, replace=False))
        frame = pd.DataFrame({"Y": np.where(drawn, y, np.nan), "q": np.zeros(1500) + rng.normal(size=1500)})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DesignWarning)
            m = DSLRegressor("mean", learner="surrogate", n_splits=1)
            m.fit(frame, "Y ~ 1", surrogates={"Y": "q"}, sampling_prob="equal")
        low, high = m.conf_int().iloc[0]
        covered.append(low <= 0.4 <= high)
        normal.append(abs(m.params_.iloc[0] - 0.4) <= 1.96 * m.bse_.iloc[0])
    assert np.mean(covered) >= np.mean(normal) + 0.02
    assert np.mean(covered) > 0.87


@pytest.mark.parametrize("model", ["lm", "logit", "poisson"])
def test_clusters_are_those_of_statsmodels(model):
    frame = planted(kind=model)
    for cov_type, corrected in (("HC0", False), ("HC1", True)):
        m = fitted(frame, model, prob=1.0, groups="g", cov_type=cov_type)
        cov = {"cov_type": "cluster", "cov_kwds": {"groups": frame["g"], "use_correction": corrected}}
        np.testing.assert_allclose(m.vcov_, reference(model, frame, **cov).cov_params(), rtol=0, atol=1e-8)


def test_hc1_scales_the_variance():
    frame = planted(kind="lm")
    m, expected = fitted(frame, "lm", prob=1.0, cov_type="HC1"), reference("lm", frame, cov_type="HC1")
    np.testing.assert_allclose(m.bse_, expected.bse, rtol=0, atol=1e-10)


def test_a_mean_is_a_mean():
    frame = planted(kind="lm")
    m = fitted(frame, "mean", "Y ~ 1", prob=1.0)
    assert m.params_["Intercept"] == pytest.approx(frame["Y"].mean(), abs=1e-12)
    assert m.bse_["Intercept"] == pytest.approx(frame["Y"].std(ddof=0) / np.sqrt(len(frame)), abs=1e-12)


def test_a_mean_by_hand():
    """Four rows, half of them labelled, the surrogate taken at its word: mean of q + R/π (Y - q)."""
    frame = pd.DataFrame({"Y": [1.0, 3.0, np.nan, np.nan], "q": [2.0, 2.5, 4.0, 5.0]})
    with pytest.warns(UserWarning, match="2 expert labels"):
        m = fitted(frame, "mean", "Y ~ 1", prob="equal", learner="surrogate")
    pseudo = np.array([2 + 2 * (1 - 2), 2.5 + 2 * (3 - 2.5), 4.0, 5.0])
    assert m.params_["Intercept"] == pytest.approx(pseudo.mean())
    assert m.bse_["Intercept"] == pytest.approx(pseudo.std() / 2)


# ---------------------------------------------------------------------- fixed effects
@pytest.mark.parametrize("effects", [("g",), ("g", "t")])
def test_fixed_effects_are_exactly_dummies(effects):
    """Also with labels missing, a predicted covariate and a predicted outcome: estimates and covariance."""
    frame = planted(kind="lm")
    rng = np.random.default_rng(5)
    frame["t"] = rng.integers(0, 7, len(frame))
    frame["qx"], frame["xx"] = frame["x"] + rng.normal(size=len(frame)), frame["x"]
    frame["Y"] += 0.1 * frame["g"] - 0.3 * frame["t"]
    some = drawn(frame, 0.5, columns=("Y", "x"))
    surrogates = {"Y": "q", "x": "qx"}
    m = fitted(some, "felm", "Y ~ x + z", effects=effects, surrogates=surrogates, learner="surrogate")
    with pytest.warns(UserWarning, match="expert labels for"):
        dummies = fitted(
            some, "lm", "Y ~ x + z + " + " + ".join(f"C({e})" for e in effects), surrogates=surrogates, learner="surrogate"
        )
    np.testing.assert_allclose(m.params_, dummies.params_[["x", "z"]], atol=1e-9)
    np.testing.assert_allclose(m.vcov_, dummies.vcov_.loc[["x", "z"], ["x", "z"]], atol=1e-9)


def test_fixed_effects_hc1_counts_the_dummies():
    frame = planted(kind="lm").assign(t=lambda d: d["g"] % 5)
    m = fitted(frame, "felm", "Y ~ x", effects=("g", "t"), prob=1.0, cov_type="HC1")
    n, p = len(frame), 1 + 40  # t follows from g, so it adds no dummies
    plain = fitted(frame, "felm", "Y ~ x", effects=("g", "t"), prob=1.0)
    assert m.bse_["x"] / plain.bse_["x"] == pytest.approx(np.sqrt(n / (n - p)))


# ---------------------------------------------------------------------- published numbers
@needs_data
def test_panchen():
    frame = pd.read_csv(DATA / "PanChen.csv.gz")
    m = fitted(
        frame, "logit", PANCHEN, prob="equal", surrogates={"countyWrong": "pred_countyWrong"}, learner="surrogate",
    )  # fmt: skip
    both = m.compare().estimates
    at = both["DSL"].names.index("countyWrong")
    assert m.params_["countyWrong"] == pytest.approx(-0.243, abs=1e-3)
    assert m.bse_["countyWrong"] == pytest.approx(0.237, abs=1e-3)
    assert both["SO"].params[at] == pytest.approx(-1.336, abs=1e-3)
    assert both["GSO"].params[at] == pytest.approx(-0.269, abs=1e-3)
    # The standard errors given, .156 and .225, are those of the plain likelihood; robust ones are a little larger.
    for method, rows, plain in (
        ("SO", frame.assign(countyWrong=frame["pred_countyWrong"]), 0.156),
        ("GSO", frame.dropna(), 0.225),
    ):
        X = sm.add_constant(rows[["countyWrong", "prefecWrong", "connect2b", "prevalence", "regionj", "groupIssue"]])
        model = sm.Logit(rows["SendOrNot"], X)
        assert model.fit(disp=0).bse["countyWrong"] == pytest.approx(plain, abs=1e-3)
        robust = model.fit(disp=0, tol=1e-14, maxiter=100, cov_type="HC0")
        np.testing.assert_allclose(both[method].bse, robust.bse, atol=1e-8)
    assert (both["DSL"].params[at] - both["SO"].params[at]) / both["SO"].bse[at] > 4
    agreement, off = m.fidelity_[0], next(f for f in m.fidelity_ if "coefficient of countyWrong" in f.measure)
    assert (round(agreement.value, 3), agreement.n) == (0.804, 500)
    assert off.lower > 0.5


@needs_data
def test_two_way_fixed_effects_on_the_states():
    frame = pd.read_csv(DATA / "data_felm.csv.gz")
    m = fitted(
        frame, "felm", "log_gsp ~ log_pcap + log_pc + unemp", prob="equal", effects=("state", "year"),
        surrogates={"log_gsp": "pred_log_gsp"}, learner="linear", groups=None,
    )  # fmt: skip
    assert list(m.params_.index) == ["log_pcap", "log_pc", "unemp"]
    assert np.isfinite(m.bse_).all()


# ---------------------------------------------------------------------- planted truth
def coverage(estimates, errors, truth):
    return (np.abs(np.array(estimates) - truth) <= 1.96 * np.array(errors)).mean(axis=0)


@pytest.mark.parametrize("share", ["equal", "unequal"])
def test_intervals_cover_the_planted_truth_and_surrogate_only_does_not(share):
    truth, estimates, errors, naive = np.array([0.3, 0.8, -0.5]), [], [], []
    for seed in range(40):
        frame = planted(1500, seed)
        frame = drawn(frame, 0.2 if share == "equal" else np.where(frame["q"] == 1, 0.4, 0.1), seed + 1000)
        m = fitted(frame)
        estimates.append(m.params_)
        errors.append(m.bse_)
        so = sm.Logit(frame["q"], sm.add_constant(frame[["x", "z"]])).fit(disp=0)
        naive.append(np.abs(so.params - truth) <= 1.96 * so.bse)
    covered = coverage(estimates, errors, truth)
    assert (covered >= 0.84).all()  # 40 repeats: three standard deviations below 0.95
    assert np.mean(naive, axis=0)[1] < 0.05
    away = np.abs(np.mean(estimates, axis=0) - truth) / (np.std(estimates, axis=0) / np.sqrt(40))
    assert (away < 4).all()


def test_ignoring_unequal_probabilities_breaks_it():
    found = {"pi": [], "equal": []}
    for seed in range(30):
        frame = planted(1500, seed, "lm")
        frame = drawn(frame, np.where(frame["q"] - 0.5 * frame["x"] > 1, 0.5, 0.08), seed)
        for prob, out in found.items():
            out.append(
                fitted(frame.drop(columns="x"), "mean", "Y ~ 1", prob=prob, learner="surrogate").params_["Intercept"]
                - frame["truth"].mean()
            )
    right, wrong = (np.abs(np.mean(v)) / (np.std(v) / np.sqrt(30)) for v in (found["pi"], found["equal"]))
    assert right < 4 < wrong


def test_a_predicted_covariate_and_both():
    truth = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        frame = planted(1500, seed)
        frame["qz"] = np.where(rng.random(len(frame)) < 0.85, frame["z"], 1 - frame["z"])
        some = drawn(frame, 0.35, seed, columns=("Y", "z"))
        m = fitted(some, surrogates={"Y": "q", "z": "qz"})
        truth.append(np.abs(m.params_ - [0.3, 0.8, -0.5]) <= 1.96 * m.bse_)
    assert (np.mean(truth, axis=0) > 0.85).all()


def test_the_finite_target_is_what_experts_would_give_on_these_rows():
    frame = planted(1500, 3)
    aim, inside, ratio = fitted(frame, prob=1.0).params_, [], []
    for seed in range(40):
        some = drawn(frame, 0.4, seed)
        m = fitted(some, target="finite")
        inside.append(np.abs(m.params_ - aim) <= 1.96 * m.bse_)
        if seed < 5:
            ratio.append(m.bse_ / fitted(some).bse_)
    assert (np.mean(inside, axis=0) >= 0.84).all()
    assert (np.mean(ratio, axis=0) < 0.95).all()
    assert fitted(frame, prob=1.0, target="finite").bse_.max() == 0.0


def test_text_outcomes_give_an_equation_a_category():
    rng = np.random.default_rng(9)
    frame = planted(2000)
    frame["truth"] = np.array(["a", "b", "c"])[np.clip(np.round(frame["x"] + rng.normal(size=2000)), -1, 1).astype(int) + 1]
    frame["q"] = np.where(rng.random(2000) < 0.8, frame["truth"], "b")
    frame["Y"] = frame["truth"].astype(object)
    some = drawn(frame, 0.3)
    m = fitted(some, "mean", "Y ~ 1")
    assert list(m.params_.index) == ["Y[a]: Intercept", "Y[b]: Intercept", "Y[c]: Intercept"]
    assert m.params_.sum() == pytest.approx(1.0)
    shares = frame["truth"].value_counts(normalize=True).sort_index().to_numpy()
    assert (np.abs(m.params_ - shares) < 4 * m.bse_).all()
    assert m.fidelity_[0].measure == "agreement of q with Y"
    one = fitted(some, "logit", "I(Y == 'a') ~ x", surrogates={"Y": "q"})
    many = fitted(some, "logit", "Y ~ x", surrogates={"Y": "q"})
    np.testing.assert_allclose(one.params_, many.params_[:2])


# ---------------------------------------------------------------------- invariances
@pytest.mark.parametrize("learner", ["linear", "forest"])
def test_same_seed_same_numbers_and_any_order_of_rows(learner):
    frame = drawn(planted(400))
    settings = {"learner": learner, "n_splits": 2 if learner == "linear" else 1}
    m, again = fitted(frame, **settings), fitted(frame.sample(frac=1, random_state=3), **settings)
    assert (m.params_ == again.params_).all()
    assert (m.vcov_ == again.vcov_).all().all()
    assert not (m.params_ == fitted(frame, random_state=1, **settings).params_).any()


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    fitted(drawn(planted(400)), learner="forest")
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_units_of_a_column_do_not_matter():
    frame = drawn(planted(400))
    a, b = fitted(frame), fitted(frame.assign(x=frame["x"] * 1e6))
    np.testing.assert_allclose(b.params_["x"] * 1e6, a.params_["x"], rtol=1e-6)


def test_splits_are_combined_by_medians():
    frame = drawn(planted(400))
    one = [fitted(frame, n_splits=s, learner="boosting") for s in (1, 3)]
    assert (one[0].split_sd_ == 0).all()
    assert (one[1].split_sd_ > 0).all()
    assert np.linalg.eigvalsh(one[1].vcov_).min() >= -1e-15


def test_any_learner_and_any_table():
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.naive_bayes import GaussianNB

    frame = drawn(planted(400))
    learner = RandomForestRegressor(10)
    for given in (learner, GaussianNB()):
        m = fitted(frame, learner=given)
        assert np.isfinite(m.bse_).all()
    assert learner.random_state is None  # the one given is left as it was
    polars = pytest.importorskip("polars")
    np.testing.assert_array_equal(fitted(polars.from_pandas(frame)).params_, fitted(frame).params_)


# ---------------------------------------------------------------------- rivals and forecasts
@pytest.mark.parametrize("model", ["lm", "logit", "poisson"])
def test_prediction_powered_is_that_of_ppi_python(model):
    ppi = pytest.importorskip("ppi_py")
    frame = drawn(planted(kind=model))
    found = fitted(frame, model, prob="equal").compare().estimates["PPI"]
    near, far = frame[frame["R"] == 1], frame[frame["R"] == 0]
    given = [part.to_numpy() for part in (sm.add_constant(near[["x", "z"]]), near["Y"], near["q"])]
    given += [part.to_numpy() for part in (sm.add_constant(far[["x", "z"]]), far["q"])]
    interval = {"lm": ppi.ppi_ols_ci, "logit": ppi.ppi_logistic_ci, "poisson": ppi.ppi_poisson_ci}[model]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the peer asks of scikit-learn and of its compiler
        ends = np.column_stack(interval(*given, alpha=0.05))
    # The peer minimises the loss of logit and poisson to a loose tolerance, and for lm adds two separate regressions.
    near_enough = 0.3 * found.bse[:, None] if model == "lm" else 5e-4
    assert (np.abs(found.conf_int() - ends) < near_enough).all()


def test_useless_surrogates_cost_nothing_and_good_ones_pay():
    frame = planted(3000)
    frame["noise"] = np.random.default_rng(0).integers(0, 2, 3000)
    frame["good"] = np.where(np.random.default_rng(1).random(3000) < 0.97, frame["Y"], 1 - frame["Y"])
    some = drawn(frame, 0.2)
    poor, rich = (fitted(some, surrogates={"Y": name}) for name in ("noise", "good"))
    alone = poor.compare().estimates["GSO"]
    assert (poor.bse_ / alone.bse < 1.05).all()
    assert (rich.bse_ / alone.bse < 0.75).all()


def test_the_forecast_of_standard_errors_comes_true():
    frame, seen, came = planted(4000, kind="logit"), [], []
    for seed in range(10):
        m = fitted(drawn(frame, 0.1, seed))
        seen.append(m.forecast(2 * m.n_labels_))
        came.append(fitted(drawn(frame, 0.2, seed)).bse_)
    ratio = np.mean(seen, axis=0) / np.mean(came, axis=0)
    assert (np.abs(ratio - 1) < 0.1).all()


def test_labels_needed_answers_the_forecast():
    m = fitted(drawn(planted(4000), 0.1))
    wanted = m.bse_["x"] * 0.8
    n = m.labels_needed({"x": wanted})
    assert m.forecast(n)["x"] <= wanted < m.forecast(n - 1)["x"]
    assert m.labels_needed({"x": 9.0}) == m.n_labels_
    assert m.forecast(m.n_labels_)["z"] == pytest.approx(m.bse_["z"])
    with pytest.raises(ValueError, match="with all 4000 rows labelled the standard error of 'x' would still be about"):
        m.labels_needed({"x": 1e-4})
    with pytest.raises(ValueError, match="expected coefficients among Intercept, x, z, got 'w'"):
        m.labels_needed({"w": 1.0})
    with pytest.raises(ValueError, match="expected a number of labels between"):
        m.forecast(3)


def test_a_regression_that_experts_alone_cannot_fit_is_shown_as_such():
    frame = planted(1000)
    frame["rare"] = (np.arange(1000) % 20 == 0).astype(float)
    some = drawn(frame, 0.3)
    rare, labelled = some["rare"] == 1, some["R"] == 1
    some.loc[rare & labelled, ["Y", "q"]] = 1.0  # all that experts saw are alike; the surrogate says no of some others
    some.loc[rare & ~labelled, "q"] = (some["x"] > 0) * 1.0
    table = fitted(some, formula="Y ~ x + rare", learner="surrogate").compare()
    assert np.isnan(table.estimates["GSO"].params).all()
    assert np.isfinite(table.estimates["DSL"].params).all()
    assert "separate the outcome perfectly" in str(table)
    assert table.to_dict()["GSO"]["params"] == [None, None, None]
