"""The networks for wide tables, and what is read off their inside."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.core.target import Target  # noqa: E402
from locum.explain.hd_blackbox import (  # noqa: E402
    ConvAutoencoder,
    DenseAutoencoder,
    HighDimExplainer,
    Ranking,
    SANClassifier,
)
from locum.testing import check_surrogate  # noqa: E402

PLANTED = (2, 9, 31)


def table(n=1500, d=40, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, d))
    return X, (X[:, 2] + X[:, 9] - X[:, 31] > 0).astype(int)


def explainer(model, **settings):
    black_box = Target(model.predict_proba, name="box", output="probability", classes=model.classes_)
    return HighDimExplainer(black_box, model=model, **{"ks": (3, 10), "max_queries": 3000, "folds": 2, **settings})


def san(**settings):
    return SANClassifier(**{"epochs": 12, "batch_size": 64, "learning_rate": 0.01, **settings})


@pytest.fixture(scope="module")
def fitted():
    X, y = table()
    return san().fit(X, y)


# ---------------------------------------------------------------------- the classifier
def test_the_classifier_keeps_the_contract():
    check_surrogate(SANClassifier(epochs=5, batch_size=32, learning_rate=0.01))


def test_the_classifier_learns(fitted):
    X, y = table(seed=1)
    assert (fitted.predict(X) == y).mean() > 0.85
    assert fitted.losses_[-1] < fitted.losses_[0] / 2
    assert fitted.predict_proba(X).sum(axis=1) == pytest.approx(1)


def test_attention_is_that_of_the_formula(fitted):
    X, _ = table(20)
    weight, bias = fitted.module_.weight.detach().double().numpy(), fitted.module_.bias.detach().double().numpy()
    diagonal = np.diagonal(weight, axis1=1, axis2=2)
    shares = np.exp(diagonal) / np.exp(diagonal).sum(axis=1, keepdims=True)
    order = fitted.inputs_.order
    assert fitted.attention_[order] == pytest.approx(shares.mean(axis=0), rel=1e-4)
    x = ((X - fitted.inputs_.center) / fitted.inputs_.scale)[:, order]
    each = np.mean([x @ weight[k].T + bias[k] for k in range(2)], axis=0)
    assert fitted.instance_attention(X)[:, order] == pytest.approx(each, abs=1e-4)
    said = fitted.predict_proba(table()[0]).argmax(axis=1)
    expected = np.abs(fitted.instance_attention(table()[0]))[said == 1].mean(axis=0)
    assert fitted.class_attention_[1] == pytest.approx(expected)


def test_of_low_rank_the_matrix_is_a_diagonal_and_a_product():
    X, y = table(1000)
    thin = san(rank=3).fit(X, y)
    module = thin.module_
    whole = torch.diag_embed(module.diagonal) + module.left @ module.right
    assert torch.allclose(torch.diagonal(whole, dim1=1, dim2=2), module.own(), atol=1e-6)
    x = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(module.attention(x), x @ whole.transpose(1, 2) + module.bias, atol=1e-5)
    assert (thin.predict(X) == y).mean() > 0.9
    assert sum(p.numel() for p in thin.module_.parameters()) < sum(p.numel() for p in san().fit(X, y).module_.parameters())


def test_with_a_softmax_the_weights_of_a_row_sum_to_one():
    X, y = table(100)
    soft = san(softmax=True, epochs=2, dropout=0.0).fit(X, y)
    x = torch.randn(4, 40, generator=torch.Generator().manual_seed(1))
    weights = soft.module_.attention(x).softmax(dim=-1)
    expected = soft.module_.head((weights * x).mean(dim=0))
    assert torch.allclose(soft.module_(x), expected)
    assert weights.sum(dim=-1).detach().numpy() == pytest.approx(1, abs=1e-5)


def test_scale_and_order_of_columns_change_nothing():
    X, y = table(200)
    order = np.random.default_rng(3).permutation(40)
    one = san(epochs=5).fit(X, y)
    shuffled = san(epochs=5).fit(X[:, order], y)
    assert shuffled.predict_proba(X[:, order]) == pytest.approx(one.predict_proba(X), abs=1e-6)
    assert shuffled.attention_ == pytest.approx(one.attention_[order], abs=1e-8)
    scaled = san(epochs=5).fit(1024 * X, y)  # its columns are in another order, hence other first weights
    assert (scaled.predict(1024 * X) == one.predict(X)).mean() > 0.85


def test_constant_columns_and_wild_values_do_no_harm():
    X, y = table(200)
    X[:, 5], X[0, 6] = 0.1, 1e9
    found = san().fit(X, y)
    assert np.isfinite(found.predict_proba(X)).all()
    assert (found.predict(X) == y).mean() > 0.85


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 0}, "expected heads="),
        ({"dropout": 1.0}, "expected dropout="),
        ({"learning_rate": 0.0}, "expected learning_rate="),
        ({"rank": 0}, "expected rank="),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(InvalidData, match=message):
        SANClassifier(**settings).fit(*table(50))


def test_missing_values_are_refused():
    X, y = table(50)
    X[3, 3] = np.nan
    for model in (SANClassifier(), DenseAutoencoder(), ConvAutoencoder()):
        with pytest.raises(ValueError, match="NaN"):
            model.fit(X, y)


# ---------------------------------------------------------------------- autoencoders
def low_rank(n=300, d=50):
    rng = np.random.default_rng(0)
    return 5 + 3 * rng.normal(size=(n, 3)) @ rng.normal(size=(3, d))


def test_a_dense_code_as_long_as_the_rank_gives_rows_back():
    X = low_rank()
    auto = DenseAutoencoder(code=3, hidden=(), epochs=150, batch_size=32, learning_rate=0.01).fit(X)
    error = ((auto.inverse_transform(auto.transform(X)) - X) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum()
    assert error < 0.02
    assert auto.transform(X).shape == (300, 3)


def test_a_convolutional_code_is_an_eighth_of_the_grid_and_learns():
    X = low_rank(128, 100)
    auto = ConvAutoencoder(epochs=40, batch_size=32, learning_rate=0.005).fit(X)
    assert auto.transform(X).shape == (128, 16 * 16 // 8)
    assert auto.losses_[-1] < 0.6
    assert auto.inverse_transform(auto.transform(X)).shape == X.shape


def test_7091_columns_lie_on_a_grid_that_halves_three_times():
    X = np.random.default_rng(0).normal(size=(4, 7091))
    assert ConvAutoencoder(epochs=1, batch_size=4).fit_transform(X).shape == (4, 968)


@pytest.mark.parametrize("make", [lambda: DenseAutoencoder(code=4, epochs=3), lambda: ConvAutoencoder(epochs=3)])
def test_codes_do_not_depend_on_the_order_of_columns(make):
    X, order = low_rank(60, 70), np.random.default_rng(1).permutation(70)
    assert make().fit_transform(X[:, order]) == pytest.approx(make().fit_transform(X), abs=1e-3)


# ---------------------------------------------------------------------- probing
def test_integrated_gradients_sum_to_the_change_of_the_answer(fitted):
    X, _ = table()
    hd = explainer(fitted, probes=["ig"], perturb=None).fit(X)
    score = hd._scores[0]
    signed = hd.ranking_.scores["ig"]
    assert signed.shape == (40,)
    network = fitted.network()
    from locum.explain._hd_networks import integrated_gradients  # completeness concerns signed values, which no record holds

    each = integrated_gradients(network, X[:30], X.mean(axis=0), steps=64)
    said = fitted.predict_proba(X[:30])
    start = fitted.predict_proba(X.mean(axis=0)[None])[0]
    c = said.argmax(axis=1)
    assert each.sum(axis=1) == pytest.approx(said[np.arange(30), c] - start[c], abs=0.01)
    assert score.each.min() >= 0


@pytest.mark.parametrize("by", ["instance_attention", "ig", "sensitivity", "fused"])
def test_planted_columns_come_back_by_each_probe(fitted, by):
    hd = explainer(fitted, rank_by=by).fit(table(seed=2)[0])
    assert set(hd.ranking_.order[:3]) == set(PLANTED)


def test_a_plain_torch_module_is_probed_by_gradients_alone():
    module = torch.nn.Linear(40, 2)
    with torch.no_grad():
        module.weight.zero_()
        module.weight[0, list(PLANTED)] = 2.0
        module.bias.zero_()

    def answer(X):
        with torch.no_grad():
            return module(torch.as_tensor(X, dtype=torch.float32)).softmax(dim=1).double().numpy()

    black_box = Target(answer, name="linear", output="probability")
    hd = HighDimExplainer(black_box, model=module, perturb=None, ks=(3,)).fit(table()[0])
    assert list(hd.ranking_.scores) == ["ig"]
    assert set(hd.ranking_.order[:3]) == set(PLANTED)
    with pytest.raises(InvalidData, match="this Linear has none; it allows ig"):
        HighDimExplainer(black_box, model=module, probes=["attention"]).fit(table()[0])


def test_attention_on_a_code_is_carried_to_the_columns_under_a_shuffle():
    """The code's cells are no columns: with the columns shuffled, what was planted must come back where it went."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(600, 1))
    X = rng.normal(size=(600, 60))
    X[:, 20:26] += 2 * factor  # what the code is made of
    y = (factor[:, 0] > 0).astype(int)
    order = rng.permutation(60)
    for columns in (np.arange(60), order):
        model = make_pipeline(DenseAutoencoder(code=2, hidden=(16,), epochs=40, batch_size=64, learning_rate=0.005), san()).fit(
            X[:, columns], y
        )
        assert (model.predict(X[:, columns]) == y).mean() > 0.85
        for probe in ("attention", "instance_attention", "ig"):
            hd = explainer(model, probes=[probe], perturb=None, k=6).fit(X[:, columns])
            assert {int(columns[j]) for j in hd.ranking_.order[:6]} == set(range(20, 26)), probe


def test_a_pipeline_with_a_step_that_has_no_gradient_allows_no_probe():
    X, y = table(100)
    model = make_pipeline(DenseAutoencoder(epochs=2), LogisticRegression()).fit(X, y)
    assert list(explainer(model).fit(X).ranking_.scores) == ["sensitivity"]
    with pytest.raises(InvalidData, match="this Pipeline has none; leave out probes="):
        explainer(model, probes=["ig"]).fit(X)


def test_scores_that_agree_are_said_to():
    one = np.random.default_rng(0).uniform(size=30)
    other = np.append(one[:20] ** 3, np.full(10, np.nan))  # in the same order, and ten columns not looked at
    scores = {"ig": one, "sensitivity": other, "attention": -one, "instance_attention": np.ones(30)}
    names = tuple(map(str, range(30)))
    found = Ranking(names, np.arange(30), scores, {}, np.arange(30), ("a", "b"), np.zeros((30, 2))).agreement()
    assert found["ig", "sensitivity"].value == 1
    assert found["ig", "sensitivity"].n == 20
    assert found["ig", "attention"].value == -1
    assert ("ig", "instance_attention") not in found


def test_fresh_attention_is_nearly_flat_on_shuffled_labels():
    """Attention that only follows the table would be as uneven with labels that mean nothing."""
    X, y = table()
    shuffled = san().fit(X, np.random.default_rng(0).permutation(y))
    true = san().fit(X, y)
    each = [np.abs(one.instance_attention(X)).mean(axis=0) for one in (true, shuffled)]
    ranks = [np.argsort(np.argsort(-values))[list(PLANTED)].mean() for values in each]
    assert ranks[0] < 2
    assert ranks[1] > 5
