"""Nested dictionaries and what is done with them: the loss of prefixes, balance of kinds, names, and steering by latents."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

torch = pytest.importorskip("torch")

from locum.core.errors import FormatError, InvalidData  # noqa: E402
from locum.inside import (  # noqa: E402
    ActivationStore,
    ArrayStore,
    AuxiliaryLoss,
    BatchTopK,
    Matryoshka,
    NamedDictionary,
    SparseAutoencoder,
    SteeringDirection,
    Tap,
    TopK,
    balanced_rows,
    by_frequency,
    first_position,
    modality_score,
    prefix_curve,
    steering_effects,
    token_block,
    token_phrase,
)

ENDS = (3, 6, 12, 24, 48)


@pytest.fixture(scope="module")
def nested(planted):
    settings = {"epochs": 12, "batch_size": 200, "learning_rate": 4e-3}
    return SparseAutoencoder(48, Matryoshka(BatchTopK(3)), **settings).fit(planted[0])


@pytest.fixture(scope="module")
def plain(planted):
    settings = {"epochs": 12, "batch_size": 200, "learning_rate": 4e-3}
    return SparseAutoencoder(48, BatchTopK(3), **settings).fit(planted[0])


# ---------------------------------------------------------------------- the loss
def dense_loss(x, net, k, ends, weights, dead):
    """The published loss with whole tables, divided by the width: errors of prefixes, and the dead latents' share."""
    pre = ((x - net.bias) @ net.encoder.map.weight.T + net.encoder.map.bias).relu()
    flat = pre.flatten()
    kept = flat.topk(k * len(x)).indices
    codes = torch.zeros_like(flat).scatter(0, kept, flat[kept]).reshape(pre.shape)
    total = 0.0
    for end, weight in zip(ends, weights, strict=True):
        given = net.bias + codes[:, :end] @ net.atoms[:end]
        total = total + weight * (x - given).square().mean()
    left = (x - given).detach()
    few = min(len(dead), max(1, x.shape[1] // 2))
    value, index = pre[:, dead].topk(few, dim=1)
    auxiliary = torch.zeros_like(pre).scatter(1, dead[index], value) @ net.atoms
    variance = (left - left.mean(dim=0)).square().mean()
    return total + (left - auxiliary).square().mean() / variance / 32


@pytest.mark.parametrize("weights", [None, (0.1, 0.2, 0.3, 0.4, 0.0)])
def test_the_loss_and_its_gradients_are_those_of_dense_tables(planted, weights):
    from locum.inside._network import made
    from locum.nets import seeded

    x = torch.from_numpy(planted[0][:200])
    spec = Matryoshka(BatchTopK(3, dead=AuxiliaryLoss()), weights=weights)
    with seeded(0):
        net = made(spec, 48, x.mean(dim=0), None, 100)
    dead = torch.tensor([1, 5, 20, 47])
    net.window = 300
    net.silent[dead] = 300
    with torch.no_grad():  # what is said to be dead must not be active now
        net.encoder.map.bias[dead] = -0.3
        pre = (x - net.bias) @ net.encoder.map.weight.T + net.encoder.map.bias
        cut = pre.flatten().topk(600).values[-1]
        net.encoder.map.bias[dead] -= (pre[:, dead].amax(dim=0) - 0.9 * cut).clamp(min=0)
    wanted = dense_loss(x, net, 3, ENDS, weights or (0.2,) * 5, dead)
    names = [name for name, _ in net.named_parameters()]
    theirs = dict(zip(names, torch.autograd.grad(wanted, list(net.parameters())), strict=True))
    loss = net.learn(x, x).loss
    loss.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name], rtol=1e-3, atol=1e-6)


def test_the_loss_is_that_of_dictionary_learning(planted):
    reason = "a peer with pins of its own, in an environment of its own"
    matryoshka = pytest.importorskip("dictionary_learning.trainers.matryoshka_batch_top_k", reason=reason)
    from locum.inside._network import made
    from locum.nets import seeded

    x = torch.from_numpy(planted[0][:200])
    with seeded(0):
        net = made(Matryoshka(BatchTopK(3)), 48, x.mean(dim=0), None, 100)
    trainer = matryoshka.MatryoshkaBatchTopKTrainer(  # it divides the sum by 5 after weighing
        steps=100, activation_dim=16, dict_size=48, k=3, layer=0, lm_name="", device="cpu",
        group_fractions=[1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2], group_weights=[1.0] * 5,
    )  # fmt: skip
    with torch.no_grad():
        trainer.ae.W_enc.copy_(net.encoder.map.weight.T)
        trainer.ae.b_enc.copy_(net.encoder.map.bias)
        trainer.ae.W_dec.copy_(net.atoms)
        trainer.ae.b_dec.copy_(net.bias)
    assert net.learn(x, x).loss.item() == pytest.approx(trainer.loss(x, step=0).item() / 16, rel=1e-5)


def test_weights_say_which_prefixes_count(planted):
    def error(weights, m):
        encoder = Matryoshka(BatchTopK(3), (0.25, 0.75), weights)
        sae = SparseAutoencoder(24, encoder, epochs=6, batch_size=200, learning_rate=4e-3).fit(planted[0])
        return prefix_curve(sae, planted[0], [m])[m].value

    assert error((0.9, 0.1), 6) < error((0.05, 0.95), 6)
    assert error((0.9, 0.1), 24) > error((0.05, 0.95), 24)


@pytest.mark.parametrize("weights", [(0.5, 0.6), (1.0,), (1.5, -0.5)])
def test_weights_that_are_none_are_refused(planted, weights):
    with pytest.raises(InvalidData, match="expected a weight for each of 2 groups, that sum to 1"):
        SparseAutoencoder(8, Matryoshka(BatchTopK(2), (0.5, 0.5), weights)).fit(planted[0][:50])


# ---------------------------------------------------------------------- the threshold
def test_a_training_of_a_single_batch_sets_the_threshold(planted):
    sae = SparseAutoencoder(48, Matryoshka(BatchTopK(3)), batch_size=5000).fit(planted[0])
    assert sae.fidelity(planted[0])["L0"].value == pytest.approx(3.0, rel=0.1)


def test_a_threshold_that_was_never_set_is_refused(nested, planted):
    from copy import deepcopy

    broken = deepcopy(nested)
    broken._net.encoder.threshold.fill_(-1.0)
    with pytest.raises(InvalidData, match="cannot be encoded: train longer"):
        broken.encode(planted[0][:3])


def test_the_threshold_is_saved_with_the_weights(nested, planted, tmp_path):
    nested.save(tmp_path)
    again = type(nested).load(tmp_path)
    assert again.encoder == nested.encoder
    np.testing.assert_array_equal(again.encode(planted[0][:99]).toarray(), nested.encode(planted[0][:99]).toarray())


# ---------------------------------------------------------------------- prefixes
def test_codes_of_a_prefix_are_those_of_its_latents(nested, planted):
    X = planted[0][:50]
    whole, first = nested.transform(X).toarray(), nested.transform(X, prefix=12)
    assert first.shape == whole.shape
    np.testing.assert_array_equal(first.toarray()[:, :12], whole[:, :12])
    assert not first[:, 12:].nnz
    np.testing.assert_allclose(nested.reconstruct(X, 12), first.toarray() @ nested.atoms_ + nested.bias_, atol=1e-5)
    with pytest.raises(InvalidData, match="expected prefix= as a whole number from 1 to the 48 latents, got 0"):
        nested.transform(X, prefix=0)


def test_the_curve_is_the_error_of_each_prefix(nested, planted):
    X = planted[0][:300]
    found = prefix_curve(nested, X)
    assert tuple(found) == ENDS
    for m in ENDS:
        left = ((X - nested.reconstruct(X, m)) ** 2).sum() / ((X - nested.mean_) ** 2).sum()
        assert found[m].value == pytest.approx(left, rel=1e-4)
    assert found[48].value == pytest.approx(nested.fidelity(X)["FVU"].value, rel=1e-4)


def test_prefixes_of_a_nested_dictionary_beat_the_most_frequent_latents_of_a_plain_one(nested, plain, planted):
    X = planted[0]
    order = by_frequency(plain.encode(X))
    counts = np.asarray((plain.encode(X) > 0).sum(axis=0)).ravel()
    assert (np.diff(counts[order]) <= 0).all()
    theirs = prefix_curve(plain, X, [12], order=order)[12]
    assert prefix_curve(nested, X, [12])[12].value < 0.9 * theirs.value
    assert theirs.value < prefix_curve(plain, X, [12], order=order[::-1])[12].value


def test_ends_and_orders_that_are_none_are_refused(nested, planted):
    with pytest.raises(InvalidData, match="whole numbers from 1 to the 48 latents"):
        prefix_curve(nested, planted[0], [0, 4])
    with pytest.raises(InvalidData, match="each of the 48 latents once"):
        prefix_curve(nested, planted[0], order=np.zeros(48, dtype=int))


# ---------------------------------------------------------------------- what becomes a row, and how often
def test_balanced_rows_have_each_kind_as_often():
    X = np.arange(60.0).reshape(30, 2)
    kinds = np.array(["text"] * 26 + ["image"] * 4)
    for given in (X, ArrayStore(X, np.arange(30))):
        labels = kinds if given is X else np.where(given.documents("train") >= 26, "image", "text")
        found = balanced_rows(given, labels)
        whose = np.where(found.rows()[:, 0] >= 52, "image", "text")
        assert found.count() == 30
        assert (whose == "image").sum() == 15
        counts = np.unique(found.rows()[whose == "image"], axis=0, return_counts=True)[1]
        assert counts.min() >= 3
        assert len(np.unique(found.rows()[whose == "text"], axis=0)) == 15  # none twice where there are enough
    assert balanced_rows(X, kinds, n=9).count() == 9


def test_a_rare_kind_gets_latents_of_its_own_where_rows_are_balanced():
    rng, found = np.random.default_rng(0), []
    features = rng.normal(size=(40, 24))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    kinds = np.repeat([0, 1], [3900, 100])
    codes = (rng.random((4000, 40)) < 0.1) * rng.gamma(9, 1 / 9, size=(4000, 40))
    codes[kinds == 0, 20:], codes[kinds == 1, :20] = 0.0, 0.0
    X = (codes @ features).astype(np.float32)
    for rows in (ArrayStore(X), balanced_rows(X, kinds)):
        sae = SparseAutoencoder(32, BatchTopK(2), epochs=10, batch_size=200, learning_rate=4e-3).fit(rows)
        selective = modality_score(sae.encode(X), kinds == 1) > 0.9
        close = np.abs(sae.atoms_[selective] @ features[20:].T)
        found.append(int((close.max(axis=0, initial=0.0) > 0.7).sum()))
    assert found[1] >= 3 * max(found[0], 1)


def test_kinds_that_do_not_fit_are_refused():
    with pytest.raises(InvalidData, match=r"a kind for each of 6 training rows, got shape \(5,\)"):
        balanced_rows(np.eye(6), np.arange(5))
    with pytest.raises(InvalidData, match="two kinds or more"):
        balanced_rows(np.eye(6), np.zeros(6))


def test_blocks_of_tokens_are_left_out():
    tokens = np.array([5, 1, 7, 7, 2, 6, 1, 8, 9, 9, 2, 3])
    positions = np.array([0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3])  # the second block ends with its sequence
    flags = token_block(1, 2).picks(tokens, positions, {})
    assert flags.tolist() == [False, True, True, True, True, False, True, True, False, False, False, False]


def test_phrases_are_left_out_where_they_stand_as_a_whole():
    tokens = np.array([4, 5, 6, 4, 5, 4, 5, 6, 5, 6])
    positions = np.array([0, 1, 2, 3, 4, 5, 6, 0, 1, 2])
    keep = ~(token_phrase([4, 5, 6]) | first_position)
    assert (~keep.picks(tokens, positions, {})).tolist() == [True, True, True, False, False, False, False, True, False, False]
    assert not token_phrase([4] * 20).picks(tokens, positions, {}).any()
    assert "phrase 4 5 6" in str(keep)
    with pytest.raises(InvalidData, match="one token or more"):
        token_phrase([])


# ---------------------------------------------------------------------- a language model
def decode(ids):
    return "".join(f" w{i}" for i in np.asarray(ids).tolist())


@pytest.fixture(scope="module")
def read(language_model, documents, tmp_path_factory):
    """A tap, and a store of a residual stream and of embeddings with a dictionary of each."""
    tap = Tap(language_model, {"res": "model.layers.1", "embedding": "model.embed_tokens"})
    settings = {"keep": ~first_position, "dtype": "float32", "split": (0.6, 0.0, 0.4)}
    store = ActivationStore.collect(tap, documents, tmp_path_factory.mktemp("acts"), **settings)
    sizes = {"epochs": 40, "batch_size": 64, "learning_rate": 4e-3}
    return tap, store, {site: SparseAutoencoder(32, Matryoshka(BatchTopK(2)), **sizes).fit(store[site]) for site in tap.sites}


@pytest.fixture(scope="module")
def stream(read):
    tap, store, dictionaries = read
    return tap, store["res"], dictionaries["res"]


@pytest.fixture(scope="module")
def tokens(read):
    """Embeddings know nothing but the token."""
    _, store, dictionaries = read
    return store["embedding"], dictionaries["embedding"]


@pytest.fixture(scope="module")
def named(tokens, documents):
    rows, sae = tokens
    return NamedDictionary.of(sae, rows, documents, decode, latents=16, n_held=12, support=12)


def downstream(tap, ids):
    """What the layer after the site gets."""
    got = []
    handle = tap.model.model.layers[2].register_forward_pre_hook(lambda _, inputs: got.append(inputs[0]))
    try:
        tap.model(input_ids=ids)
    finally:
        handle.remove()
    return got[0]


def test_latents_of_a_language_model_are_named_and_names_are_held_to_other_documents(named):
    assert len(named.names) == named.scores.mean.n == 16
    assert named.scores.mean.lower > named.scores.null.upper
    assert sum("token" in name for name in named.names.values()) >= 12
    assert named.best(2)[0].balanced_accuracy.lower >= named.best(2)[1].balanced_accuracy.lower


def test_rows_are_told_by_the_names_of_their_strongest_latents(named, tokens):
    rows, sae = tokens
    X = rows.rows("test")[:40]
    told, codes = named.tell(X, top=2, least=0.0), sae.encode(X).toarray()
    assert any(told)
    for line, row in zip(told, codes, strict=True):
        known = sorted(((named.names[i], v) for i, v in enumerate(row) if v > 0 and i in named.names), key=lambda one: -one[1])
        assert [value for _, value in line] == pytest.approx([value for _, value in known[:2]])
        assert [name for name, _ in line] == [name for name, _ in known[:2]]
    assert not any(named.tell(X, least=1.01))


def test_named_dictionaries_come_back_from_files(named, tokens, tmp_path):
    named.save(tmp_path)
    again = NamedDictionary.load(tmp_path)
    assert again.scores == named.scores
    X = tokens[0].rows("test")[:9]
    assert again.tell(X) == named.tell(X)
    (tmp_path / "names.json").write_text('{"format": 1, "latents": [3]}')
    with pytest.raises(FormatError, match="damaged"):
        NamedDictionary.load(tmp_path)


def test_the_same_seed_names_the_same(named, tokens, documents):
    rows, sae = tokens
    again = NamedDictionary.of(sae, rows, documents, decode, latents=16, n_held=12, support=12)
    assert again.scores == named.scores


def test_stores_without_test_rows_or_active_latents_are_refused(tokens, documents, planted):
    rows, sae = tokens
    with pytest.raises(InvalidData, match=r"latents are active on 5000 rows to name from"):
        NamedDictionary.of(sae, rows, documents, decode, support=5000)
    with pytest.raises(InvalidData, match="no test rows"):
        NamedDictionary.of(sae, ArrayStore(planted[0]), documents, decode)


def test_a_latent_is_read_as_it_is_encoded(stream):
    _, rows, sae = stream
    X = rows.rows("test")[:60]
    codes = sae.encode(X).toarray()
    for latent in (0, 7, 31):
        found = sae.reading(latent)(torch.from_numpy(X).reshape(6, 10, -1)).detach()
        np.testing.assert_allclose(found.reshape(-1), codes[:, latent], atol=1e-5)
    with pytest.raises(InvalidData, match="from 0 to 31, got 32"):
        sae.reading(32)


def often(sae, rows):
    codes = sae.encode(rows.rows("train"))
    return int(by_frequency(codes)[0]), codes


def test_strengths_are_multiples_of_the_99th_percentile_of_active_codes(stream):
    tap, rows, sae = stream
    latent, codes = often(sae, rows)
    steer = SteeringDirection.of_latent(tap, "res", sae, latent, codes)
    column = codes[:, [latent]].toarray()[:, 0]
    assert steer.unit == pytest.approx(np.quantile(column[column > 0], 0.99))
    ids = torch.tensor([[3, 7, 11, 4]])
    with torch.no_grad():
        before = tap.read(input_ids=ids)["res"]
        with steer.at(2.0):
            after = downstream(tap, ids)
    moved = np.broadcast_to(2 * steer.unit * sae.atoms_[latent], before.shape)
    np.testing.assert_allclose((after - before).numpy(), moved, atol=1e-4)


def test_clamping_sets_the_code_whatever_it_was(stream):
    tap, rows, sae = stream
    latent, codes = often(sae, rows)
    steer = SteeringDirection.of_latent(tap, "res", sae, latent, codes, clamp=True)
    ids = torch.tensor([[3, 7, 11, 4, 9, 30]])
    with torch.no_grad():
        before = tap.read(input_ids=ids)["res"]
        with steer.at(1.5):
            after = downstream(tap, ids)
    was = sae.reading(latent)(before)
    wanted = (1.5 * steer.unit - was)[..., None] * torch.from_numpy(sae.atoms_[latent])
    torch.testing.assert_close(after - before, wanted, atol=1e-4, rtol=1e-3)
    assert steer.divergence([[3, 7]], 3.0) > 0  # from the network as it is, not from the latent at 0


def test_dead_latents_and_endless_strengths_are_refused(stream):
    tap, rows, sae = stream
    with pytest.raises(InvalidData, match="latent 3 is active on none of 9 rows"):
        SteeringDirection.of_latent(tap, "res", sae, 3, sparse.csr_array((9, 32)))
    steer = SteeringDirection.of_latent(tap, "res", sae, *often(sae, rows))
    with pytest.raises(InvalidData, match="a finite strength"):
        steer.divergence([[3, 7]], float("inf"))
    with pytest.raises(InvalidData, match="unit="):
        SteeringDirection(tap, "res", np.ones(16), unit=0.0)


# ---------------------------------------------------------------------- effects of steering
PROMPTS = [[3, 7, 11], [5, 2], [9]]


def test_prompts_of_several_lengths_are_written_on_as_they_are_alone(language_model):
    direction = SteeringDirection(Tap(language_model, {"last": "model.norm"}), "last", np.arange(16.0))
    together = direction.write(PROMPTS, 0.3, tokens=4, top_k=1)
    assert together.shape == (3, 4)
    for prompt, text in zip(PROMPTS, together, strict=True):
        assert direction.write([prompt], 0.3, tokens=4, top_k=1)[0].tolist() == text.tolist()


def test_a_direction_of_the_head_raises_its_token_and_the_effect_is_as_defined(language_model):
    tap = Tap(language_model, {"last": "model.norm"})
    direction = SteeringDirection(tap, "last", language_model.lm_head.weight.detach().numpy()[9])
    concepts = {"nine": [9], "others": [4, 5, 6]}
    none, some, much = steering_effects(direction, PROMPTS, concepts, [0.0, 2.0, 6.0], tokens=5)
    assert none.rises == pytest.approx({"nine": 0.0, "others": 0.0}, abs=1e-9)
    assert none.perplexity == pytest.approx(1.0)
    assert 0 < some.on_target("nine") < much.on_target("nine")
    assert much.off_target("nine") == abs(much.rises["others"])
    assert much.perplexity > 1.0

    def odds(alpha, wrote):
        found = []
        for prompt, text in zip(PROMPTS, wrote, strict=True):
            with torch.no_grad(), direction.at(alpha):
                logits = language_model(input_ids=torch.tensor([[*prompt, *text]])).logits[0, len(prompt) - 1 : -1]
            p = logits.double().softmax(dim=-1)[:, [4, 5, 6]].sum(dim=-1)
            found += torch.log(p / (1 - p)).tolist()
        return np.mean(found)

    plain = direction.write(PROMPTS, None, tokens=5)
    assert much.rises["others"] == pytest.approx(odds(6.0, much.texts) - odds(None, plain), abs=1e-4)


def test_effects_of_nothing_are_refused(language_model):
    direction = SteeringDirection(Tap(language_model, {"last": "model.norm"}), "last", np.ones(16))
    with pytest.raises(InvalidData, match="two concepts or more"):
        steering_effects(direction, PROMPTS, {"a": [1]}, [1.0])
    with pytest.raises(InvalidData, match="two concepts or more"):
        steering_effects(direction, PROMPTS, {"a": [1], "b": []}, [1.0])
    with pytest.raises(InvalidData, match="strengths="):
        steering_effects(direction, PROMPTS, {"a": [1], "b": [2]}, [np.nan])


def test_topk_is_nested_as_well(planted):
    sae = SparseAutoencoder(48, Matryoshka(TopK(3)), epochs=3, batch_size=200, learning_rate=4e-3).fit(planted[0])
    curve = [found.value for found in prefix_curve(sae, planted[0]).values()]
    assert (np.diff(curve) < 0).all()
