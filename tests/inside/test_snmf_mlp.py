"""Semi-non-negative factorisation: planted groups, agreement with definitions and with non-negative least squares."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.exceptions import NotFittedError
from sklearn.metrics import normalized_mutual_info_score

torch = pytest.importorskip("torch")

from locum.core.errors import FormatError, InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    ActivationStore,
    ArrayStore,
    HierarchicalSemiNMF,
    SemiNMF,
    Tap,
    first_position,
    matched,
    splice_fidelity,
)


def plant(seed, n=1500, width=400, groups=20, keep=0.02, noise=0.1, active=0.3):
    """Rows that are non-negative sums of sparse groups of any sign, with noise, and the groups."""
    rng = np.random.default_rng(seed)
    truth, few = np.zeros((groups, width)), int(np.ceil(keep * width))
    for group in truth:
        group[rng.choice(width, few, replace=False)] = rng.normal(size=few)
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    Y = (rng.random((n, groups)) < active) * rng.gamma(2, 1, size=(n, groups))
    X = Y @ truth
    return (X + noise * X.std() * rng.normal(size=X.shape)).astype(np.float32), truth


def plainly(X, Y, keep, steps):
    """The published iteration, as it is written down; the loss after each step."""
    A, losses = X.T.astype(float), []
    for _ in range(steps):
        Z = A @ Y @ np.linalg.inv(Y.T @ Y + 1e-6 * np.eye(Y.shape[1]))
        few = int(np.ceil(keep * len(Z)))
        Z[np.abs(Z) < np.sort(np.abs(Z), axis=0)[-few]] = 0.0
        lengths = np.linalg.norm(Y, axis=0)
        Y, Z = Y / lengths, Z * lengths
        P, Q = A.T @ Z, Z.T @ Z
        P1, P0, Q1, Q0 = np.maximum(P, 0), np.maximum(-P, 0), np.maximum(Q, 0), np.maximum(-Q, 0)
        Y = Y * np.sqrt((P1 + Y @ Q0) / (P0 + Y @ Q1 + 1e-6))
        losses.append(((A - Z @ Y.T) ** 2).sum() / (A**2).sum())
    return np.array(losses)


# ---------------------------------------------------------------------- the factorisation
@pytest.mark.parametrize("solver", ["multiplicative", "coordinate"])
def test_planted_groups_are_found(solver):
    shares = []
    for seed in range(5):
        X, truth = plant(seed)
        nmf = SemiNMF(20, 0.02, solver=solver, max_iter=400, patience=100, random_state=seed).fit(X)
        shares.append((matched(nmf.components_, truth)[1] > 0.95).mean())
    assert min(shares) >= 0.9


# Which of two almost equal entries stays is decided by rounding, so with few entries the paths part later on.
@pytest.mark.parametrize(("keep", "steps"), [(0.02, 5), (0.3, 30), (1.0, 30)])
def test_the_loss_takes_the_path_of_the_published_iteration(keep, steps):
    X, _ = plant(0, n=300, width=100, groups=8)
    Y = np.random.default_rng(1).random((300, 8)).astype(np.float32)
    nmf = SemiNMF(8, keep, max_iter=steps, patience=30).fit(X, coefficients=Y)
    np.testing.assert_allclose(nmf.loss_curve_, plainly(X, Y.astype(float), keep, steps), rtol=1e-4)


@pytest.mark.parametrize("init", ["random", "k-means", "svd"])
@pytest.mark.parametrize("solver", ["multiplicative", "coordinate"])
def test_without_sparsity_the_loss_never_rises(solver, init):
    X = np.random.default_rng(3).normal(size=(200, 30))
    curve = SemiNMF(6, 1.0, solver=solver, init=init, max_iter=60, tol=0.0).fit(X).loss_curve_
    assert (np.diff(curve) <= 1e-5 * curve[:-1]).all()
    assert curve[-1] < curve[0]


def test_a_first_guess_by_centres_or_singular_vectors_is_better_than_chance():
    X, _ = plant(1)
    begun = {init: SemiNMF(20, 1.0, init=init, max_iter=1).fit(X).loss_curve_[0] for init in ("random", "k-means", "svd")}
    assert begun["svd"] < begun["k-means"] < begun["random"]


def test_the_best_components_are_kept_though_the_loss_may_rise():
    X = np.random.default_rng(0).normal(size=(300, 60)).astype(np.float32)
    nmf = SemiNMF(10, 0.1, max_iter=120, patience=120)
    Y = nmf.fit_transform(X)
    assert (np.diff(nmf.loss_curve_) > 0).any()
    found = ((X - nmf.inverse_transform(Y)) ** 2).sum() / (X**2).sum()
    assert found <= nmf.loss_curve_.min() + 1e-6
    np.testing.assert_array_equal(np.count_nonzero(nmf.components_, axis=1), 6)
    np.testing.assert_allclose(np.linalg.norm(nmf.components_, axis=1), 1.0, rtol=1e-6)


def test_the_fit_ends_by_itself_or_says_that_it_did_not():
    X, _ = plant(0, n=300, width=100, groups=5)
    long = SemiNMF(5, 0.02, solver="coordinate", patience=20).fit(X)
    short = SemiNMF(5, 0.02, max_iter=3).fit(X)
    assert long.converged_
    assert long.n_iter_ == len(long.loss_curve_) < 4000
    record = np.minimum.accumulate(long.loss_curve_)
    assert record[-20:].min() >= record[-21] * (1 - 1e-6)  # the last twenty were no better
    assert long.n_iter_ > 30  # better ones began the count anew
    assert not short.converged_
    assert short.n_iter_ == 3


def test_weights_are_those_of_non_negative_least_squares():
    X, _ = plant(2, n=200, width=60, groups=12, keep=0.2)
    nmf = SemiNMF(12, 0.2, max_iter=50).fit(X)
    wanted = np.array([nnls(nmf.components_.T.astype(float), row.astype(float))[0] for row in X])
    Y = nmf.transform(X)
    np.testing.assert_allclose(Y, wanted, atol=0.02)
    squares = [((X - one @ nmf.components_) ** 2).sum() for one in (Y, wanted)]
    assert squares[0] == pytest.approx(squares[1], rel=1e-5)
    assert ((Y == 0) == (wanted == 0)).mean() > 0.99
    np.testing.assert_allclose(Y[:7], nmf.transform(X[:7]), atol=1e-3)


def test_scaled_rows_have_scaled_weights():
    X, _ = plant(3, n=300, width=80, groups=6)
    one, other = SemiNMF(6, 0.1, max_iter=40), SemiNMF(6, 0.1, max_iter=40)
    Y, scaled = one.fit_transform(X), other.fit_transform(4.0 * X)
    np.testing.assert_allclose(other.components_, one.components_, atol=1e-4)
    np.testing.assert_allclose(scaled, 4.0 * Y, atol=1e-2)


def test_same_seed_same_numbers_and_the_global_generators_are_left_alone():
    X, _ = plant(0, n=200, width=50, groups=5)
    before = torch.get_rng_state()
    one, other, third = (SemiNMF(5, 0.1, max_iter=20, random_state=seed).fit(X).components_ for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, third)
    assert torch.equal(before, torch.get_rng_state())


def test_rows_read_in_pieces_give_the_same_components(monkeypatch):
    from locum.inside import _seminmf

    X, _ = plant(0, n=500, width=60, groups=5)
    rows = ArrayStore(X)
    whole = SemiNMF(5, 0.1, max_iter=30).fit(rows)
    monkeypatch.setattr(_seminmf, "_CHUNK", 64)
    monkeypatch.setattr(_seminmf, "_RESIDENT", 0)
    pieces = SemiNMF(5, 0.1, max_iter=30).fit(rows)
    np.testing.assert_allclose(pieces.components_, whole.components_, atol=1e-3)
    for init in ("k-means", "svd"):
        assert SemiNMF(5, 1.0, init=init, max_iter=20).fit(rows).loss_curve_[-1] < 0.3


def test_fidelity_beside_identities():
    X, _ = plant(0, noise=0.0)
    nmf = SemiNMF(20, 0.02, solver="coordinate", max_iter=300).fit(X)
    told = nmf.fidelity(X, documents=np.arange(len(X)) // 10)
    assert told["FVU"].value < 1e-3 < 0.999 < told["cosine"].value
    assert told["L0"].value == pytest.approx(6.0, abs=0.5)
    assert told["dead share"].value == 0.0
    assert told["FVU"].groups == 150


def test_files_bring_back_the_same_factorisation(tmp_path):
    X, _ = plant(0, n=200, width=50, groups=5)
    nmf = SemiNMF(5, 0.1, max_iter=20).fit(X)
    nmf.save(tmp_path / "nmf")
    back = SemiNMF.load(tmp_path / "nmf")
    np.testing.assert_array_equal(back.components_, nmf.components_)
    np.testing.assert_allclose(back.transform(X), nmf.transform(X), atol=1e-3)
    assert back.get_params() == nmf.get_params()
    assert (back.n_iter_, back.converged_) == (nmf.n_iter_, nmf.converged_)
    record = json.loads((tmp_path / "nmf" / "semi_nmf.json").read_text())
    (tmp_path / "nmf" / "semi_nmf.json").write_text(json.dumps(record | {"format": 99}))
    with pytest.raises(FormatError, match="expected format 1"):
        SemiNMF.load(tmp_path / "nmf")
    with pytest.raises(FormatError, match="expected a folder that save wrote"):
        SemiNMF.load(tmp_path)


# ---------------------------------------------------------------------- the hierarchy
def families(seed):
    """Rows of 12 groups in 3 families; groups of one family share half of their neurons and lie in one third of all."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((12, 120))
    for i, group in enumerate(truth):
        group[40 * (i // 4) : 40 * (i // 4) + 6] = 1.0
        own = 40 * (i // 4) + 8 + 6 * (i % 4)
        group[own : own + 6] = 1.0
    return ((rng.random((1500, 12)) < 0.1) * rng.gamma(4, 1, size=(1500, 12)) @ truth).astype(np.float32)


@pytest.fixture(scope="module")
def tree():
    base = SemiNMF(keep=0.25, init="k-means", max_iter=150)
    return HierarchicalSemiNMF((12, 3), base, fine_tune=0).fit(families(0))


def test_a_tree_puts_members_of_a_family_together():
    shares, chance = [], []
    for seed in range(3):
        base = SemiNMF(keep=0.25, init="k-means", max_iter=150, random_state=seed)
        tree = HierarchicalSemiNMF((12, 3), base, fine_tune=0).fit(families(seed))
        family = np.square(tree.components_[0]).reshape(12, 3, 40).sum(axis=2).argmax(axis=1)
        groups = tree.groups(1)
        shares.append(normalized_mutual_info_score(family, groups))
        chance.append(normalized_mutual_info_score(np.random.default_rng(seed).permutation(family), groups))
    assert np.mean(shares) > 0.7 > 0.5 > np.mean(chance)


def test_groups_follow_the_largest_weights(tree):
    np.testing.assert_array_equal(tree.groups(0), np.arange(12))
    np.testing.assert_array_equal(tree.groups(1), np.where(tree.weights_[1].any(axis=1), tree.weights_[1].argmax(axis=1), -1))
    deep = HierarchicalSemiNMF((4, 3, 2))
    deep.components_ = [np.eye(one, 5) for one in (4, 3, 2)]
    first = np.array([[0, 1, 2], [3, 0, 0], [0, 0, 0], [0, 2, 1]], dtype=float)
    deep.weights_ = [np.ones((6, 4)), first, np.array([[1.0, 0], [0, 2], [3, 1]])]
    assert deep.groups(1).tolist() == [2, 0, -1, 1]
    assert deep.groups(2).tolist() == [0, 0, -1, 1]


def test_fine_tuning_lowers_the_error_and_keeps_signs_and_zeros(tree):
    X = families(0)
    tuned = HierarchicalSemiNMF(tree.ranks, tree.base, fine_tune=80, learning_rate=3e-2).fit(X)
    before, after = (((X - one.reconstruct()) ** 2).sum() for one in (tree, tuned))
    assert after < before
    assert tuned.loss_curve_[0] == pytest.approx(before / (X**2).sum(), rel=1e-3)
    assert tuned.loss_curve_[-1] == pytest.approx(after / (X**2).sum(), rel=1e-3)
    assert all((one >= 0).all() for one in tuned.weights_)
    assert (tuned.components_[-1][tree.components_[-1] == 0] == 0).all()


# ---------------------------------------------------------------------- a network
@pytest.fixture(scope="module")
def store(language_model, documents, tmp_path_factory):
    tap = Tap(language_model, {"hidden": ("model.layers.1.mlp.down_proj", "in")})
    folder = tmp_path_factory.mktemp("acts")
    return tap, ActivationStore.collect(tap, documents, folder, keep=~first_position, dtype="float32")


@pytest.fixture(scope="module")
def fitted(store):
    return SemiNMF(8, 0.25, max_iter=60).fit(store[1]["hidden"])


def test_excerpts_are_the_tokens_with_the_largest_weights(store, fitted, documents):
    rows = store[1]["hidden"]
    told = fitted.describe(rows, documents, top=5, context=2)
    Y, labels = fitted.transform(rows.rows("train")), store[1].labels("train")
    assert len(told) == 8
    for k, excerpts in enumerate(told):
        np.testing.assert_allclose([one.value for one in excerpts], np.sort(Y[:, k])[::-1][:5], rtol=1e-5)
        for one in excerpts:
            text = documents[one.document].tolist()
            assert one.token == text[one.position]
            assert [*one.before, one.token, *one.after] == text[max(0, one.position - 2) : one.position + 3]
    assert labels[np.argmax(Y[:, 0])].tolist() == [told[0][0].token, told[0][0].document, told[0][0].position]


def test_excerpts_of_other_documents_are_refused(store, fitted, documents):
    with pytest.raises(InvalidData, match="give the token ids that were collected"):
        fitted.describe(store[1]["hidden"], documents[::-1])


def test_a_projection_to_the_vocabulary_is_what_the_network_would_say(language_model, fitted):
    mlp, model = language_model.model.layers[1].mlp, language_model
    told = fitted.vocabulary_projection(mlp.down_proj, model.lm_head, model.model.norm)
    written = torch.from_numpy(fitted.components_) @ mlp.down_proj.weight.T
    np.testing.assert_allclose(told, model.lm_head(model.model.norm(written)).numpy(), rtol=1e-5)
    plain = fitted.vocabulary_projection(mlp.down_proj, model.lm_head)
    np.testing.assert_allclose(plain, (written @ model.lm_head.weight.T).numpy(), rtol=1e-4, atol=1e-5)


def test_more_components_lose_the_network_less(store, documents):
    tap, rows = store[0], store[1]["hidden"]
    stand_ins = {str(k): SemiNMF(k, 1.0, solver="coordinate", max_iter=100).fit(rows).module() for k in (2, 20)}
    held = [documents[i] for i in store[1].documents_of("test")]
    told = splice_fidelity(tap, "hidden", stand_ins, held, mean=rows.mean_, keep=~first_position)
    assert told["20"]["KL"].value < told["2"]["KL"].value


# ---------------------------------------------------------------------- what is refused
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_components": 60}, "at most 50 for 200 rows of width 50, got 60"),
        ({"keep": 0}, "above 0 and at most 1, got 0"),
        ({"keep": 1.5}, "above 0 and at most 1, got 1.5"),
        ({"init": "knn"}, "init"),
        ({"solver": "newton"}, "solver"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1.0}, "tol= of 0 or more"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    X, _ = plant(0, n=200, width=50, groups=5)
    with pytest.raises(InvalidData, match=message):
        SemiNMF(**{"n_components": 5, **settings}).fit(X)


def test_rows_that_cannot_be_used_are_refused():
    X, _ = plant(0, n=200, width=50, groups=5)
    with pytest.raises(InvalidData, match="0 or more, got -1"):
        SemiNMF(5, max_iter=2).fit(X, coefficients=-np.ones((200, 5)))
    with pytest.raises(InvalidData, match=r"shape \(200, 5\), got \(200, 4\)"):
        SemiNMF(5, max_iter=2).fit(X, coefficients=np.ones((200, 4)))
    with pytest.raises(InvalidData, match="only zeros"):
        SemiNMF(5).fit(0 * X)
    with pytest.raises(InvalidData, match="row 3"):
        SemiNMF(5).fit(np.where(np.arange(200)[:, None] == 3, np.nan, X))
    with pytest.raises(InvalidData, match="rows 50 wide"):
        SemiNMF(5, max_iter=2).fit(X).transform(X[:, :9])
    with pytest.raises(NotFittedError):
        SemiNMF(5).transform(X)


@pytest.mark.parametrize("ranks", [(), (5, 5), (3, 5), (5, 0), (5.0, 2)])
def test_ranks_must_fall(ranks):
    with pytest.raises(InvalidData, match="ranks="):
        HierarchicalSemiNMF(ranks).fit(np.ones((20, 10)))


def test_a_level_that_there_is_not_is_refused(tree):
    with pytest.raises(InvalidData, match="from 0 to 1, got 2"):
        tree.groups(2)
