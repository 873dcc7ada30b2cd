"""Matching pursuit: what every step must satisfy, agreement with plain definitions, and planted hierarchies."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import orthogonal_mp

torch = pytest.importorskip("torch")

from locum.core.errors import FormatError, InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    BatchTopK,
    Dictionary,
    MatchingPursuitSAE,
    SparseAutoencoder,
    absorption_score,
    from_saelens,
    to_saelens,
)
from locum.inside._pursuit import PursuitEncoder, pursue  # noqa: E402
from locum.problems import ConceptTree  # noqa: E402


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def plainly(X, D, k, tau=0.0):
    """The definition, row by row and step by step."""
    index, value = np.zeros((len(X), k), dtype=int), np.zeros((len(X), k))
    for i, row in enumerate(X):
        r = row.astype(float).copy()
        for t in range(k):
            c = D @ r
            j = int(np.argmax(c))
            if c[j] <= 0 or np.linalg.norm(r) <= tau:
                break
            index[i, t], value[i, t] = j, c[j]
            r -= c[j] * D[j]
    return index, value


@pytest.fixture(scope="module")
def sae(planted):
    return MatchingPursuitSAE(48, 4, epochs=12, batch_size=128, learning_rate=4e-3).fit(planted[0])


@pytest.mark.parametrize("tau", [0.0, 1.5])
def test_steps_by_the_gram_matrix_are_those_of_the_definition(tau):
    rng = np.random.default_rng(0)
    X, D = rng.normal(size=(60, 8)), unit(rng.normal(size=(20, 8)))
    index, value = pursue(torch.as_tensor(X), torch.as_tensor(D), 12, tau=tau)
    wanted, sizes = plainly(X, D, 12, tau)
    np.testing.assert_allclose(value, sizes, atol=1e-10)
    taken = sizes > 0
    np.testing.assert_array_equal(index.numpy()[taken], wanted[taken])
    assert taken.all() == (tau == 0.0)


def test_codes_are_those_of_the_dense_definition_in_single_precision(planted, sae):
    """What overcomplete's MpSAE computes with a one-hot table and two dense products a step; its argmax has no relu."""
    X, k = torch.as_tensor(planted[0][:500]), 4
    D, b = torch.as_tensor(sae.atoms_), torch.as_tensor(sae.bias_)
    codes, residual = torch.zeros(500, 48), X - b
    for _ in range(k):
        best, at = (residual @ D.T).max(dim=1)
        step = torch.nn.functional.one_hot(at, 48).float() * best[:, None]
        codes, residual = codes + step, residual - step @ D
        assert best.min() > 0  # so that the relu is immaterial here
    np.testing.assert_allclose(sae.encode(planted[0][:500]).toarray(), codes, atol=1e-5)


def test_every_step_leaves_a_residual_that_is_orthogonal_to_its_atom_and_no_longer(planted, sae):
    X = planted[0][:200]
    _, path = sae.encode(X, k=20, return_path=True)
    r = X - sae.bias_
    for t in range(20):
        shorter = r - path.value[:, t, None] * sae.atoms_[path.index[:, t]]
        taken = path.value[:, t] > 0
        products = np.einsum("nd,nd->n", shorter, sae.atoms_[path.index[:, t]])
        np.testing.assert_allclose(products[taken], 0.0, atol=1e-5)
        assert (np.linalg.norm(shorter, axis=1) <= np.linalg.norm(r, axis=1) + 1e-6).all()
        r = shorter


def test_the_code_sums_the_path_and_an_atom_may_be_chosen_twice(planted, sae):
    Z, path = sae.encode(planted[0], k=16, return_path=True)
    dense = np.zeros(Z.shape, dtype=np.float32)
    np.add.at(dense, (np.arange(len(path.index))[:, None], path.index), path.value)
    np.testing.assert_allclose(Z.toarray(), dense, atol=1e-6)
    counts = Z.count_nonzero(axis=1)
    assert counts.max() <= 16
    assert (counts < (path.value > 0).sum(axis=1)).any()


def test_no_correlation_that_is_negative_is_ever_taken():
    rows = -torch.eye(3)[:2] - 1.0
    index, value = pursue(rows, torch.eye(3), 3)
    assert not value.any()
    assert not index.any()


def test_with_orthonormal_atoms_it_is_orthogonal_matching_pursuit():
    rng = np.random.default_rng(1)
    D = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    X = np.abs(rng.normal(size=(40, 12))) @ D
    index, value = pursue(torch.as_tensor(X), torch.as_tensor(D), 5)
    wanted = orthogonal_mp(D.T, X.T, n_nonzero_coefs=5).T
    ours = np.zeros((40, 12))
    np.put_along_axis(ours, index.numpy(), value.numpy(), axis=1)
    np.testing.assert_allclose(ours, wanted, atol=1e-10)


def test_its_first_step_is_that_of_orthogonal_matching_pursuit_and_its_error_no_smaller():
    rng = np.random.default_rng(2)
    D = unit(rng.normal(size=(40, 10)))
    D = np.concatenate([D, -D])  # then the sign of a correlation does not matter
    X = rng.normal(size=(30, 10))
    index, value = pursue(torch.as_tensor(X), torch.as_tensor(D), 4)
    best = orthogonal_mp(D.T, X.T, n_nonzero_coefs=4).T
    first = orthogonal_mp(D.T, X.T, n_nonzero_coefs=1).T
    np.testing.assert_allclose((first @ D), value[:, :1].numpy() * D[index[:, 0]], atol=1e-10)
    ours = X - np.einsum("nk,nkd->nd", value, D[index])
    assert (np.linalg.norm(ours, axis=1) >= np.linalg.norm(X - best @ D, axis=1) - 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradients_that_retrace_the_steps_are_those_of_autograd(dtype):
    torch.manual_seed(0)
    x, D = torch.randn(300, 6, dtype=dtype), torch.nn.functional.normalize(torch.randn(12, 6, dtype=dtype), dim=1)
    weights = torch.randn(12, 6, dtype=dtype)
    x.requires_grad_(), D.requires_grad_()
    codes, r = torch.zeros(300, 12, dtype=dtype), x
    for _ in range(7):
        best, at = (r @ D.T).relu().max(dim=1)
        step = torch.nn.functional.one_hot(at, 12) * best[:, None]
        codes, r = codes + step, r - best[:, None] * D[at]
    loss = (x - codes @ D).square().mean() + (codes @ weights).square().mean()
    expected = torch.autograd.grad(loss, (x, D))
    ours, _ = PursuitEncoder(D, 7, 0.0, 0.0, 0.0).learn(x, D)
    same = (x - ours.decode(D)).square().mean() + ours.decode(weights).square().mean()
    assert torch.allclose(loss, same)
    for one, other in zip(torch.autograd.grad(same, (x, D)), expected, strict=True):
        assert torch.allclose(one, other, atol=1e-12 if dtype == torch.float64 else 1e-6)


def test_the_error_falls_with_every_step_beyond_those_of_the_training(planted, sae):
    held = planted[0][:600]
    curve = sae.error_curve(held, [1, 2, 4, 8, 16, 48])
    values = [found.value for found in curve.values()]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.02
    said = sae.decode(sae.encode(held, k=8))
    assert curve[8].value == pytest.approx(((held - said) ** 2).sum() / ((held - sae.mean_) ** 2).sum(), rel=1e-4)
    assert curve[8].lower < curve[8].value < curve[8].upper


def test_a_target_is_reached_row_by_row_with_as_few_steps_as_it_takes(planted, sae):
    X = planted[0][:500]
    Z, path = sae.encode(X, target_fvu=0.2, return_path=True)
    allowed = 0.2 * ((X - sae.mean_) ** 2).sum(axis=1)
    steps = (path.value > 0).sum(axis=1)
    assert steps.min() < steps.max()
    reached = ((X - sae.decode(Z)) ** 2).sum(axis=1)
    assert (reached <= allowed * 1.001 + 1e-9).mean() > 0.99
    last = path.value.copy()
    last[np.arange(500), np.maximum(steps - 1, 0)] = 0.0
    one_less = sae.bias_ + np.einsum("nk,nkd->nd", last, sae.atoms_[path.index])
    assert (((X - one_less) ** 2).sum(axis=1)[steps > 0] > allowed[steps > 0] * 0.999).all()


def test_coverage_has_a_bound_that_holds_on_other_rows(planted, sae):
    told = sae.coverage(planted[0][:1000], 0.3, k=2)
    rest = sae.coverage(planted[0][1000:], 0.3, k=2)
    assert 0.05 < told.value < 0.95
    assert told.lower <= rest.value <= told.upper
    assert sae.coverage(planted[0][:200], 0.3).value > 0.99
    grouped = sae.coverage(planted[0][:1000], 0.3, k=2, documents=np.arange(1000) // 50)
    assert grouped.groups == 20
    assert grouped.upper - grouped.lower > told.upper - told.lower


def test_dropout_in_the_first_epoch_alone(planted):
    encoder = PursuitEncoder(torch.eye(16), 16, 0.0, dropout=0.75, until=0.5)
    X = torch.ones(1, 16)
    torch.manual_seed(0)
    encoder.at(0.2)
    early = [encoder.learn(X, torch.eye(16))[0].l0() for _ in range(200)]
    encoder.at(0.5)
    late = [encoder.learn(X, torch.eye(16))[0].l0() for _ in range(3)]
    assert np.mean(early) == pytest.approx(4.0, abs=0.4)
    assert late == [16.0] * 3
    assert encoder.codes(X, torch.eye(16)).l0() == 16.0


def test_atoms_that_a_batch_does_not_use_are_drawn_to_what_is_left_over():
    from locum.inside._network import made
    from locum.inside.encoders import MatchingPursuit, Revival

    torch.manual_seed(0)
    X = torch.randn(50, 8)
    spec = MatchingPursuit(1, dropout=0.0, dead=Revival(weight=0.5, small=0.01, spare=3))
    net = made(spec, 100, X.mean(dim=0), None, 10)
    told = net.learn(X, X)
    told.loss.backward()
    codes = net.codes(X)
    dead = ~codes.fired()
    assert dead.sum() > 3
    left = X - net.decode(codes)
    expected = -0.5 * left.mean(dim=0) / dead.sum()
    assert torch.allclose(net.atoms.grad[dead], expected.expand(int(dead.sum()), 8), atol=1e-6)


# ---------------------------------------------------------------------- planted hierarchies
def test_a_planted_hierarchy_is_found_where_another_encoder_absorbs():
    """The paper's result in small, with one seed; the benchmark measures it."""
    tree = ConceptTree()
    X, _ = tree.sample(30_000, seed=1)
    settings = {"batch_size": 200, "epochs": 8, "learning_rate": 3e-2, "betas": (0.5, 0.9375), "normalize": False}
    pursuit = MatchingPursuitSAE(20, 4, tau=0.05, **settings).fit(X)
    batch = SparseAutoencoder(20, BatchTopK(1.36), **settings).fit(X)
    ours, theirs = (absorption_score(one.atoms_, tree.features, tree.parents) for one in (pursuit, batch))
    assert abs(ours) < 0.1
    assert theirs > ours + 0.15


def test_files_keep_tau_and_refuse_atoms_of_another_length(planted, tmp_path):
    from safetensors.numpy import load_file, save_file

    sae = MatchingPursuitSAE(24, 6, tau=0.4, epochs=1, batch_size=256).fit(planted[0])
    sae.save(tmp_path / "own")
    again, X = Dictionary.load(tmp_path / "own"), planted[0][:200]
    np.testing.assert_array_equal(again.encode(X).toarray(), sae.encode(X).toarray())
    left = np.linalg.norm(X - sae.decode(sae.encode(X, k=24)), axis=1)
    assert (left > 0.01).all()
    to_saelens(sae, tmp_path / "theirs")
    theirs = from_saelens(tmp_path / "theirs", mean=sae.mean_)
    np.testing.assert_allclose(theirs.encode(X, k=6).toarray(), sae.encode(X).toarray(), atol=1e-6)
    tensors = load_file(tmp_path / "own" / "dictionary.safetensors")
    tensors["net.atoms"][5] *= 1.01
    save_file(tensors, tmp_path / "own" / "dictionary.safetensors")
    with pytest.raises(FormatError, match=r"got 1\.01 for atom 5; normalise them first"):
        Dictionary.load(tmp_path / "own")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "expected k= to be a whole number of 1 or more"),
        ({"k": 9}, "expected k= of at most the 8 latents, got 9"),
        ({"n_latents": 0}, "expected n_latents="),
        ({"tau": -1.0}, "expected tau= to be a positive number"),
        ({"dropout": 1.0}, "expected dropout= of at least 0 and below 1"),
        ({"revive": -0.1}, "expected weight= to be a positive number"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(planted, settings, message):
    with pytest.raises(InvalidData, match=message):
        MatchingPursuitSAE(**{"n_latents": 8, "k": 2} | settings).fit(planted[0][:50])


def test_what_cannot_be_encoded_is_refused(planted, sae):
    X = planted[0]
    for target in (0.0, 1.5, float("nan")):
        with pytest.raises(InvalidData, match="expected target_fvu= above 0 and at most 1"):
            sae.encode(X, target_fvu=target)
    with pytest.raises(InvalidData, match="expected k= as a whole number from 1 to the 48 latents, got 49"):
        sae.encode(X, k=49)
    with pytest.raises(NotFittedError):
        MatchingPursuitSAE(8).encode(X)
