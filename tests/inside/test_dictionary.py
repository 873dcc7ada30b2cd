"""One trainer, many encoders: planted directions are found, codes are sparse, and what was saved is the same again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

torch = pytest.importorskip("torch")

from locum.core.errors import FormatError, InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    ActivationRows,
    ActivationStore,
    ArrayStore,
    AuxiliaryLoss,
    BatchTopK,
    Dictionary,
    Gated,
    JumpReLU,
    MatchingPursuit,
    Matryoshka,
    ReLU,
    Resampling,
    SparseAutoencoder,
    Tap,
    TopK,
    from_dictionary_learning,
    from_saelens,
    fvu,
    matched,
    to_saelens,
)
from locum.inside._encoders import largest  # noqa: E402
from locum.nets import seeded  # noqa: E402

QUICK = {"epochs": 12, "batch_size": 128, "learning_rate": 4e-3}
ENCODERS = [
    ReLU(3.0), Gated(3.0), JumpReLU(3.0), TopK(3), BatchTopK(3), Matryoshka(BatchTopK(3)), Matryoshka(TopK(3), (0.25, 0.75)),
    MatchingPursuit(3),
]  # fmt: skip
NAMES = [str(one).partition("(")[0] + f" {i}" for i, one in enumerate(ENCODERS)]


@pytest.fixture(scope="module")
def fitted(planted):
    """Dictionaries by encoder, fitted once."""
    known = {}

    def of(encoder):
        if repr(encoder) not in known:
            known[repr(encoder)] = SparseAutoencoder(48, encoder, **QUICK).fit(planted[0])
        return known[repr(encoder)]

    return of


@pytest.mark.parametrize("encoder", ENCODERS, ids=NAMES)
def test_codes_are_sparse_and_not_negative_and_give_rows_back(fitted, planted, encoder):
    sae, X = fitted(encoder), planted[0]
    Z = sae.transform(X)
    assert sparse.issparse(Z)
    assert Z.shape == (4000, 48)
    assert Z.data.min() > 0
    told = sae.fidelity(X)
    assert 2.0 < told["L0"].value < 4.0
    limit = {ReLU: 0.75, Matryoshka: 0.6, Gated: 0.55}.get(type(encoder), 0.35)
    assert told["FVU"].value < limit
    np.testing.assert_allclose(np.linalg.norm(sae.atoms_, axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(sae.reconstruct(X[:50]), Z[:50].toarray() @ sae.atoms_ + sae.bias_, atol=1e-5)


@pytest.mark.parametrize("encoder", [TopK(3), MatchingPursuit(3)], ids=["TopK", "MatchingPursuit"])
def test_planted_directions_are_found(fitted, planted, encoder):
    _, cosine = matched(fitted(encoder).atoms_, planted[1])
    assert np.median(cosine) > 0.95


def test_a_row_has_the_same_code_alone_and_among_others(fitted, planted):
    for encoder in (BatchTopK(3), Matryoshka(BatchTopK(3)), TopK(3)):
        sae, X = fitted(encoder), planted[0][:40]
        together = sae.encode(X).toarray()
        alone = np.concatenate([sae.encode(row[None]).toarray() for row in X])
        np.testing.assert_array_equal(together > 0, alone > 0)
        np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_threshold_of_batches_keeps_as_many_latents_in_use(fitted, planted):
    for encoder in (BatchTopK(3), Matryoshka(BatchTopK(3))):
        assert fitted(encoder).fidelity(planted[0])["L0"].value == pytest.approx(3.0, rel=0.1)


def test_prefixes_of_a_matryoshka_reconstruct_by_themselves(fitted, planted):
    X = planted[0]

    def error(sae, m):
        Z = sae.encode(X).toarray()
        Z[:, m:] = 0.0
        return ((X - sae.decode(Z)) ** 2).sum()

    nested, plain = fitted(Matryoshka(BatchTopK(3))), fitted(BatchTopK(3))
    plain_order = np.argsort(-np.asarray((plain.encode(X) > 0).sum(axis=0)).ravel())
    Z = plain.encode(X).toarray()
    Z[:, plain_order[12:]] = 0.0
    assert error(nested, 12) < 0.9 * ((X - plain.decode(Z)) ** 2).sum()


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_global_ones_alone(planted):
    state = torch.get_rng_state()
    one, two = (SparseAutoencoder(32, TopK(3), epochs=2, batch_size=256).fit(planted[0]) for _ in range(2))
    other = SparseAutoencoder(32, TopK(3), epochs=2, batch_size=256, random_state=1).fit(planted[0])
    np.testing.assert_array_equal(one.atoms_, two.atoms_)
    assert np.abs(one.atoms_ - other.atoms_).max() > 0.1
    assert torch.equal(torch.get_rng_state(), state)


def test_the_scale_of_the_rows_does_not_matter(planted):
    X = planted[0]
    for encoder in (TopK(3), BatchTopK(3), JumpReLU(3.0), Gated(3.0)):
        small, large = (SparseAutoencoder(32, encoder, epochs=3, batch_size=256).fit(scale * X) for scale in (1.0, 64.0))
        np.testing.assert_allclose(64.0 * small.encode(X).toarray(), large.encode(64.0 * X).toarray(), rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(64.0 * small.reconstruct(X), large.reconstruct(64.0 * X), rtol=1e-3, atol=2e-2)


def test_a_fit_that_was_cut_short_goes_on_to_the_same_numbers(planted, tmp_path):
    for i, encoder in enumerate((BatchTopK(3), ReLU(3.0), MatchingPursuit(3))):
        sae, file = SparseAutoencoder(32, encoder, epochs=4, batch_size=128), tmp_path / str(i)

        def stop(done, steps, words):
            if done == steps // 2 + 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            clone(sae).fit(planted[0], checkpoint=file, progress=stop)
        cut, whole = clone(sae).fit(planted[0], checkpoint=file), clone(sae).fit(planted[0])
        np.testing.assert_array_equal(cut.atoms_, whole.atoms_)
        assert cut.record_.fvu == whole.record_.fvu
        with pytest.raises(FormatError, match="give another checkpoint="):
            clone(sae).set_params(n_latents=33).fit(planted[0], checkpoint=file)


def test_a_store_on_disk_and_its_rows_in_memory_teach_the_same_directions(language_model, documents, tmp_path):
    tap = Tap(language_model, {"in": ("model.layers.1.mlp", "in"), "out": "model.layers.1.mlp"})
    store = ActivationStore.collect(tap, documents, tmp_path, dtype="float32", block_rows=256)
    sae = SparseAutoencoder(32, TopK(4), epochs=20, batch_size=64, learning_rate=3e-3).fit(store["in"])
    assert sae.val_fvu_.value < 0.5
    assert sae.val_fvu_.n == store["in"].count("val")
    memory = clone(sae).fit(store["in"].rows("train"))
    val = store["in"].rows("val")
    assert memory.fidelity(val)["FVU"].value == pytest.approx(sae.val_fvu_.value, abs=0.1)


def test_a_transcoder_gives_one_site_from_another(language_model, documents, tmp_path):
    tap = Tap(language_model, {"in": ("model.layers.1.mlp", "in"), "out": "model.layers.1.mlp"})
    store = ActivationStore.collect(tap, documents, tmp_path / "a", dtype="float32", block_rows=256)
    coder = SparseAutoencoder(64, TopK(8), epochs=30, batch_size=64, learning_rate=5e-3).fit(store["in"], store["out"])
    told = coder.fidelity(store["in"].rows("val"), store["out"].rows("val"))
    assert told["FVU"].value < 0.7
    with tap.replace("out", coder.module(), source="in") as replaced:
        language_model(torch.as_tensor(documents[0])[None])
    assert replaced.error.square().sum() < replaced.original.square().sum()
    other = ActivationStore.collect(tap, documents, tmp_path / "b", dtype="float32", block_rows=256, random_state=1)
    with pytest.raises(InvalidData, match="expected X and y of one store"):
        coder.fit(store["in"], other["out"])


def test_dead_latents_come_back():
    """More directions than columns, seen by very different numbers of rows, and a learning rate that kills latents."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 64))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    codes = rng.random((8000, 400)) < 0.02 * np.exp(rng.normal(size=400))
    X = codes @ truth + 1.5 * rng.normal(size=64)
    settings = {"epochs": 10, "batch_size": 128, "learning_rate": 2e-2}
    left = SparseAutoencoder(512, TopK(8, dead=None), **settings).fit(X)
    helped = SparseAutoencoder(512, TopK(8, dead=AuxiliaryLoss(window=0.03)), **settings).fit(X)
    assert left.record_.dead > 0.1
    assert helped.record_.dead < 0.3 * left.record_.dead


def test_resampled_latents_begin_at_rows_that_are_given_back_badly(planted):
    from locum.inside._network import made

    X = torch.as_tensor(planted[0])
    spec = ReLU(3.0, dead=Resampling())
    torch.manual_seed(0)
    net = made(spec, 24, X.mean(dim=0), None, 10)
    optimizer = torch.optim.Adam(net.parameters())
    net.learn(X[:64], X[:64]).loss.backward()
    optimizer.step()
    net.window, net.silent[:] = 10, 0
    net.silent[[3, 7]] = 11
    before = net.atoms.detach().clone()
    net.resample(X[:64], X[:64], optimizer)
    changed = (net.atoms != before).any(dim=1).nonzero()[:, 0].tolist()
    assert changed == [3, 7]
    rows = torch.nn.functional.normalize(X[:64] - net.bias, dim=1)
    assert (net.atoms[[3, 7]] @ rows.T).max(dim=1).values.min() > 0.999
    assert not optimizer.state[net.atoms]["exp_avg"][[3, 7]].any()
    assert optimizer.state[net.atoms]["exp_avg"][0].any()


def test_the_largest_entries_of_a_batch_are_found_exactly():
    rng = np.random.default_rng(0)
    for shape, count in (((64, 300), 500), ((200, 700), 90), ((50, 40), 1900), ((8, 8), 4)):
        table = torch.as_tensor(rng.normal(size=shape), dtype=torch.float32)
        found = largest(table, count)
        wanted = np.sort(table.numpy().ravel())[::-1][:count]
        np.testing.assert_array_equal(np.sort(found.value.numpy())[::-1], wanted[wanted > 0])
        rows = np.repeat(np.arange(shape[0]), np.diff(found.offsets.numpy()))
        np.testing.assert_array_equal(table.numpy()[rows, found.index.numpy()], found.value.numpy())


def test_the_largest_entries_are_found_where_a_sample_misleads():
    """The entries that are looked at first are all large, and more are wanted than there are of those."""
    rng = np.random.default_rng(0)
    table = torch.as_tensor(rng.random((200, 700)), dtype=torch.float32)
    table.view(-1)[::2] += 5.0
    assert len(largest(table, 100_000).value) == 100_000


def test_training_is_the_published_recipe_written_out(planted):
    """Dense, with the error summed over columns and gradients of length 1 at most: what the clip was meant for.

    Where the limit was taken for the mean over columns it never bound, and Adam, which remembers the large gradients of the
    first steps, learned too slowly.
    """
    X, width, p, rate = planted[0], 16, 32, 5e-3
    ours = SparseAutoencoder(p, TopK(4, dead=None), batch_size=200, learning_rate=rate, random_state=3).fit(X)
    store = ArrayStore(X)
    scale = float((width / store.mean_squared_norm_) ** 0.5)
    with seeded(3):
        D = torch.nn.functional.normalize(torch.randn(p, width), dim=1)
    bias = torch.as_tensor(store.mean_ * scale).float()
    given = {"D": D.clone(), "W": D.clone(), "c": torch.zeros(p), "b": bias}
    for one in given.values():
        one.requires_grad_(True)
    D, W, c, b = given.values()
    optimizer, steps, bound = torch.optim.Adam(given.values(), lr=rate), 20, 0
    for step, batch in enumerate(store.batches(200, random_state=3)):
        share = step / steps
        rise, fall = min(share / 0.05, 1.0), (1 - share) / 0.2 if share > 0.8 else 1.0
        optimizer.param_groups[0]["lr"] = rate * max(min(rise, fall), 1e-3)
        x = torch.from_numpy(batch.copy()) * scale
        value, index = (torch.addmm(c, x - b, W.T)).relu().topk(4, dim=1)
        loss = (x - torch.zeros(len(x), p).scatter(1, index, value) @ D - b).square().sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        with torch.no_grad():
            D.grad -= (D.grad * D).sum(dim=1, keepdim=True) * D
        bound += float(torch.nn.utils.clip_grad_norm_(given.values(), 1.0)) > 1.0
        optimizer.step()
        with torch.no_grad():
            D.copy_(torch.nn.functional.normalize(D, dim=1))
    assert bound >= 18
    np.testing.assert_allclose(ours.atoms_, D.detach(), atol=2e-3)
    np.testing.assert_allclose(ours.bias_, b.detach() / scale, atol=2e-3)


def test_gradients_that_only_lengthen_atoms_are_dropped(planted):
    from locum.inside._network import made

    X = torch.as_tensor(planted[0][:100])
    torch.manual_seed(0)
    net = made(TopK(3), 48, X.mean(dim=0), None, 10)
    net.learn(X, X).loss.backward()
    before = net.atoms.grad.clone()
    net.flatten_gradient()
    assert (before * net.atoms).sum(dim=1).abs().max() > 1e-4
    assert (net.atoms.grad * net.atoms).sum(dim=1).abs().max() < 1e-7
    along = (before * net.atoms).sum(dim=1, keepdim=True) * net.atoms
    assert torch.allclose(net.atoms.grad, before - along, atol=1e-7)


@pytest.mark.parametrize("encoder", [ReLU(3.0), TopK(3), BatchTopK(3), Matryoshka(BatchTopK(3))], ids=str)
def test_gradients_of_the_sparse_step_are_those_of_a_dense_one(planted, encoder):
    """Written out densely: codes as a table, one product for each prefix."""
    from locum.inside._network import made

    X = torch.as_tensor(planted[0][:200])
    torch.manual_seed(0)
    net = made(encoder, 48, X.mean(dim=0), None, 10)
    with torch.no_grad():
        net.encoder.map.bias -= 0.8  # few are active, so that the ReLU takes the sparse way
    told = net.learn(X, X)
    weight = float(net.encoder.penalty.weight) if isinstance(encoder, ReLU) else 0.0
    got = torch.autograd.grad(told.loss, [net.atoms, net.bias, net.encoder.map.weight, net.encoder.map.bias])
    pre = ((X - net.bias) @ net.encoder.map.weight.T + net.encoder.map.bias).relu()
    if isinstance(encoder, TopK):
        pre = pre * (pre >= pre.topk(3, dim=1).values[:, -1:])
    elif not isinstance(encoder, ReLU):
        pre = pre * (pre >= pre.flatten().topk(600).values[-1])
    errors = [(X - net.bias - pre[:, :m] @ net.atoms[:m]).square().mean() for m in net.ends]
    loss = torch.stack(errors).mean() + weight * pre.sum() / (200 * 16**0.5)
    expected = torch.autograd.grad(loss, [net.atoms, net.bias, net.encoder.map.weight, net.encoder.map.bias])
    assert torch.allclose(told.loss, loss, rtol=1e-5)
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_sparse_and_dense_codes_decode_to_the_same(fitted, planted):
    sae = fitted(TopK(3))
    Z = sae.encode(planted[0])
    np.testing.assert_allclose(sae.decode(Z), sae.decode(Z.toarray()), atol=1e-5)


@pytest.mark.parametrize("encoder", ENCODERS, ids=NAMES)
def test_the_module_is_the_reconstruction_of_any_shape_also_with_gradients(fitted, planted, encoder):
    sae = fitted(encoder)
    state = {name: one.clone() for name, one in sae._net.state_dict().items()}
    X = torch.as_tensor(planted[0][:60]).reshape(3, 20, 16)
    with torch.no_grad():
        plain = sae.module()(X)
    np.testing.assert_allclose(plain.flatten(0, 1), sae.reconstruct(planted[0][:60]), atol=1e-5)
    X.requires_grad_()
    given = sae.module()(X)
    np.testing.assert_allclose(given.detach(), plain, atol=1e-6)
    direction = torch.nn.functional.normalize(torch.ones_like(X), dim=-1)
    given.square().sum().backward()
    with torch.no_grad():
        step = 1e-3 * direction
        numeric = [sae.module()(X + sign * step).square().sum(dim=-1) for sign in (1, -1)]
    slopes = (numeric[0] - numeric[1]) / 2e-3
    found = (X.grad * direction).sum(dim=-1)
    assert (slopes - found).abs().median() < 1e-2
    assert all(torch.equal(one, state[name]) for name, one in sae._net.state_dict().items())


# ---------------------------------------------------------------------- files
@pytest.mark.parametrize("encoder", ENCODERS, ids=NAMES)
def test_what_was_saved_is_the_same_again(fitted, planted, tmp_path, encoder):
    sae, X = fitted(encoder), planted[0][:100]
    sae.save(tmp_path)
    again = Dictionary.load(tmp_path)
    np.testing.assert_array_equal(again.encode(X).toarray(), sae.encode(X).toarray())
    np.testing.assert_array_equal(again.reconstruct(X), sae.reconstruct(X))
    assert again.get_params() == sae.get_params()
    assert again.fidelity(X) == sae.fidelity(X)


def test_files_that_are_damaged_are_refused(fitted, tmp_path):
    fitted(TopK(3)).save(tmp_path)
    tensors, record = tmp_path / "dictionary.safetensors", tmp_path / "dictionary.json"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-10])
    with pytest.raises(FormatError, match="use another copy"):
        Dictionary.load(tmp_path)
    tensors.write_bytes(whole)
    found = json.loads(record.read_text())
    record.write_text(json.dumps(found | {"settings": found["settings"] | {"encoder": {"class": "Popen"}}}))
    with pytest.raises(FormatError, match="names 'Popen', which is no encoder"):
        Dictionary.load(tmp_path)
    record.write_text(json.dumps(found | {"class": "MatchingPursuitSAE"}))
    with pytest.raises((FormatError, TypeError)):
        Dictionary.load(tmp_path)
    with pytest.raises(FormatError, match="expected a folder that save wrote"):
        Dictionary.load(tmp_path / "none")


@pytest.mark.parametrize("encoder", [one for one in ENCODERS if not isinstance(one, MatchingPursuit)], ids=NAMES[:-1])
def test_saelens_reads_the_same_codes(fitted, planted, tmp_path, encoder):
    """Codes by the formulas of that library, from the files that it would read."""
    from safetensors.numpy import load_file

    sae, X = fitted(encoder), planted[0][:100]
    to_saelens(sae, tmp_path, metadata={"hook_name": "blocks.1.hook_resid_post"})
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    w = load_file(tmp_path / "sae_weights.safetensors")
    assert (cfg["d_in"], cfg["d_sae"], cfg["apply_b_dec_to_input"]) == (16, 48, True)
    assert w["W_enc"].shape == (16, 48)
    assert w["W_dec"].shape == (48, 16)
    pre = (X - w["b_dec"]) @ w["W_enc"]
    if cfg["architecture"] == "gated":
        codes = (pre + w["b_gate"] > 0) * np.maximum(pre * np.exp(w["r_mag"]) + w["b_mag"], 0)
    else:
        pre = pre + w["b_enc"]
        codes = np.maximum(pre, 0)
        if cfg["architecture"] == "jumprelu":
            codes = codes * (pre > w["threshold"])
        if cfg["architecture"] == "topk":
            codes = codes * (pre >= np.sort(pre, axis=1)[:, [-cfg["k"]]])
    np.testing.assert_allclose(codes, sae.encode(X).toarray(), atol=1e-5)
    again = from_saelens(tmp_path, mean=sae.mean_)
    np.testing.assert_allclose(again.encode(X).toarray(), sae.encode(X).toarray(), atol=1e-6)


def test_atoms_of_other_lengths_give_the_same_reconstructions(fitted, planted, tmp_path):
    from safetensors.numpy import load_file, save_file

    sae, X = fitted(JumpReLU(3.0)), planted[0][:100]
    to_saelens(sae, tmp_path)
    w = load_file(tmp_path / "sae_weights.safetensors")
    scale = np.linspace(0.5, 2.0, 48).astype(np.float32)
    w["W_dec"] *= scale[:, None]
    for name in ("W_enc", "b_enc", "threshold"):
        w[name] = w[name] / scale
    save_file(w, tmp_path / "sae_weights.safetensors")
    again = from_saelens(tmp_path)
    np.testing.assert_allclose(again.reconstruct(X), sae.reconstruct(X), atol=1e-4)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(cfg | {"architecture": "temporal"}))
    with pytest.raises(FormatError, match=r"expected one of standard, .* got 'temporal'"):
        from_saelens(tmp_path)


def test_what_dictionary_learning_saved_is_read(fitted, planted, tmp_path):
    X = planted[0][:100]
    nested, top = fitted(Matryoshka(BatchTopK(3))), fitted(TopK(3))
    w = {name: one.detach() for name, one in nested._net.state_dict().items()}
    theirs = {
        "W_enc": w["encoder.map.weight"].T.clone(), "b_enc": w["encoder.map.bias"], "W_dec": w["atoms"], "b_dec": w["bias"],
        "k": torch.tensor(3, dtype=torch.int), "threshold": w["encoder.threshold"],
        "group_sizes": torch.tensor([3, 3, 6, 12, 24]),
    }  # fmt: skip
    write(tmp_path / "nested", theirs, "MatryoshkaBatchTopKSAE")
    again = from_dictionary_learning(tmp_path / "nested")
    np.testing.assert_allclose(again.reconstruct(X), nested.reconstruct(X), atol=1e-5)
    assert again.encoder.groups == (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    w = {name: one.detach() for name, one in top._net.state_dict().items()}
    theirs = {
        "encoder.weight": w["encoder.map.weight"], "encoder.bias": w["encoder.map.bias"],
        "decoder.weight": w["atoms"].T.clone(),
        "b_dec": w["bias"], "k": torch.tensor(3), "threshold": torch.tensor(-1.0),
    }  # fmt: skip
    write(tmp_path / "top", theirs, "AutoEncoderTopK")
    np.testing.assert_allclose(from_dictionary_learning(tmp_path / "top").reconstruct(X), top.reconstruct(X), atol=1e-5)
    write(tmp_path / "unset", theirs, "BatchTopKSAE")
    with pytest.raises(FormatError, match="ended before its threshold was set"):
        from_dictionary_learning(tmp_path / "unset")


def write(folder, tensors, kind):
    folder.mkdir()
    torch.save(tensors, folder / "ae.pt")
    (folder / "config.json").write_text(json.dumps({"trainer": {"dict_class": kind}}))


# ---------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": TopK(0)}, "expected k= to be a whole number of 1 or more, got 0"),
        ({"encoder": TopK(9)}, "expected k= of at most the 8 latents, got 9"),
        ({"n_latents": 0}, "expected n_latents= to be a whole number"),
        ({"encoder": Matryoshka(TopK(2), (0.5, 0.6))}, "positive shares that sum to 1"),
        ({"encoder": Matryoshka(TopK(2), (0.01, 0.99))}, "at least one latent a group"),
        ({"encoder": "topk"}, "expected encoder= to be an encoder such as TopK"),
        ({"encoder": ReLU(-1.0)}, "expected l0= to be a positive number"),
        ({"learning_rate": float("nan")}, "expected learning_rate= to be a positive number"),
        ({"warmup": 0.0}, "expected warmup= as a share"),
        ({"batch_size": 0}, "expected batch_size="),
    ],
)
def test_settings_that_cannot_be_used_are_refused(planted, settings, message):
    with pytest.raises(InvalidData, match=message):
        SparseAutoencoder(**{"n_latents": 8, "encoder": TopK(2)} | settings).fit(planted[0][:50])


def test_rows_that_cannot_be_used_are_refused(fitted, planted):
    sae, X = fitted(TopK(3)), planted[0]
    with pytest.raises(NotFittedError):
        SparseAutoencoder(8, TopK(2)).transform(X)
    with pytest.raises(InvalidData, match="expected rows 16 wide, as in fit, got 15"):
        sae.transform(X[:, :15])
    broken = X[:10].copy()
    broken[7, 3] = np.inf
    with pytest.raises(InvalidData, match="NaN or infinity in row 7"):
        sae.transform(broken)
    with pytest.raises(InvalidData, match="NaN or infinity in row 7"):
        SparseAutoencoder(8, TopK(2)).fit(broken)
    with pytest.raises(InvalidData, match=r"expected codes of shape \(n, 48\)"):
        sae.decode(np.ones((3, 4)))
    with pytest.raises(InvalidData, match="are zero"):
        SparseAutoencoder(8, TopK(2)).fit(ArrayStore(np.zeros((20, 3))))


def test_a_validation_part_of_one_document_is_judged_row_by_row():
    X = np.random.default_rng(0).normal(size=(200, 6))
    held = ArrayStore(X[:40], documents=np.zeros(40, dtype=int))
    sae = SparseAutoencoder(8, TopK(2), epochs=1, batch_size=50).fit(X, val=held)
    assert sae.val_fvu_.lower <= sae.val_fvu_.value <= sae.val_fvu_.upper


def test_a_large_validation_part_is_judged_piece_by_piece(planted):
    """It was read as one table, which for a store of several GiB is more than memory holds."""
    X = np.tile(planted[0], (5, 1))

    class Watched(ActivationRows):
        name, width, longest = "watched", 16, 0

        def blocks(self, split):
            return {"train": [(0, 4000)], "val": [(4000, 20_000)], "test": []}[split]

        def read_into(self, start, out):
            self.longest = max(self.longest, len(out))
            out[:] = X[start : start + len(out)]

        def documents(self, split):
            return np.arange(*self.blocks(split)[0]) // 100

        mean_ = property(lambda self: X[:4000].mean(axis=0).astype(np.float64))
        gram_ = property(lambda self: (X[:4000].T @ X[:4000] / 4000).astype(np.float64))

    rows = Watched()
    sae = SparseAutoencoder(32, TopK(3), batch_size=200).fit(rows)
    assert rows.longest <= 4096
    whole = fvu(X[4000:], sae.reconstruct(X[4000:]), sae.mean_, documents=rows.documents("val"))
    assert sae.val_fvu_.value == pytest.approx(whole.value, rel=1e-6)
    assert sae.val_fvu_.lower == pytest.approx(whole.lower, rel=1e-4)
    assert (sae.val_fvu_.n, sae.val_fvu_.groups) == (16_000, 160)


def test_atoms_that_are_not_learned_stay_as_they_were_drawn(planted):
    X, _ = planted
    settings = {"epochs": 1, "batch_size": 200, "learning_rate": 3e-3, "learn_atoms": False}
    short, long = (SparseAutoencoder(24, TopK(4), **settings | {"epochs": n}).fit(X) for n in (1, 4))
    np.testing.assert_allclose(short.atoms_, long.atoms_, atol=1e-6)
    learned = SparseAutoencoder(24, TopK(4), **settings | {"epochs": 4, "learn_atoms": True}).fit(X)
    assert np.abs(learned.atoms_ - long.atoms_).max() > 0.1
    fvu = [one.fidelity(X)["FVU"].value for one in (short, long, learned)]
    assert fvu[0] > fvu[1] > fvu[2]  # the encoder learns all the same
    with pytest.raises(InvalidData, match="dead=None for atoms that are not learned"):
        SparseAutoencoder(24, ReLU(4.0), learn_atoms=False).fit(X)


def test_an_estimate_counts_steps_and_changes_nothing(planted):
    X = planted[0]
    one = SparseAutoencoder(48, TopK(3), epochs=3, batch_size=128)
    told = one.estimate(X)
    assert told.steps == 3 * -(-len(X) // 128)
    assert told.bytes >= 3 * 4 * 2 * 48 * X.shape[1]
    assert told.seconds > 0
    assert not hasattr(one, "record_")
    assert str(told).startswith(f"{told.steps} steps, ")
    state = torch.get_rng_state()
    after = one.fit(X).atoms_
    np.testing.assert_array_equal(SparseAutoencoder(48, TopK(3), epochs=3, batch_size=128).fit(X).atoms_, after)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(InvalidData, match="of one length"):
        one.estimate(X, X[:-1])
