"""The probe on states with planted pairs: what is read, what controls and rivals make of it, and what must not be read."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError

torch = pytest.importorskip("torch")

from locum.core.errors import FormatError, InvalidData, OutsideRegion  # noqa: E402
from locum.inside import (  # noqa: E402
    Codebook,
    HypervectorProbe,
    Tap,
    concept_rivals,
    pair_table,
    permuted_pairs,
    prompt_states,
)
from locum.nets import seeded  # noqa: E402

N, WIDTH = 14, 32
HELD = range(N - 3, N)  # never asked for in training
PAIRS = [(f"key{i}", f"value{i}") for i in range(N)]
SETTINGS = {"hidden": (64,), "epochs": 15, "learning_rate": 5e-3}


def codebook(dim=256, seed=0):
    return Codebook([one for pair in PAIRS for one in pair], dim, random_state=seed)


def planted(n, seed=0, asked=range(N), layers=None, examples=range(N), without=None):
    """States that hold both pairs of a document, in every layer; the direction of a pair is the same in either place."""
    rng = np.random.default_rng([seed, 5])
    directions = np.random.default_rng(9).normal(size=(N, WIDTH))
    documents, states = [], []
    while len(states) < n:
        b, a = int(rng.choice(list(asked))), int(rng.choice(list(examples)))
        if a == b or (without is not None and frozenset((a, b)) in without):
            continue
        documents.append((PAIRS[a], PAIRS[b]))
        states.append(directions[a] + directions[b] + 0.05 * rng.normal(size=WIDTH))
    X = np.stack(states)
    return (X if layers is None else X[:, None] + 0.1 * rng.normal(size=(n, layers, WIDTH))), documents


@pytest.fixture(scope="module")
def fitted():
    tested = {frozenset((a, b)) for a in range(5) for b in HELD}
    X, documents = planted(500, asked=range(N - 3), without=tested)
    return HypervectorProbe(codebook(), pool="last", **SETTINGS).fit(X, documents)


# ---------------------------------------------------------------------- what is read
def test_planted_pairs_are_read_also_where_they_were_never_asked_for(fitted):
    X, documents = planted(120, 1, asked=HELD, examples=range(5))
    told = fitted.report(X, documents).methods["probe"]
    assert told["answer @1"].value > 0.95
    assert told["context @1"].value > 0.95
    assert told["answer @1"].groups == 3
    assert 0.4 < told["cosine"].value < 0.55  # half of the signs are ties, drawn for each bundle, and these bundles are new
    assert 0.7 < told["bit accuracy"].value < 0.78


def test_the_codebook_reads_answers_from_the_vector(fitted):
    X, documents = planted(5, 2)
    for vector, (_, (key, value)) in zip(fitted.encode(X), documents, strict=True):
        best = fitted.codebook.decode(vector, [key], top=2)[0]
        assert best[0].concept == value
        assert best[0].p_value < 1e-3 < best[1].p_value


def test_a_bundle_of_few_pairs_is_a_table_so_the_constant_must_be_beaten():
    X, documents = planted(200, 3)
    noise = np.random.default_rng(0).normal(size=X.shape)
    blind = HypervectorProbe(codebook(), pool="last", **SETTINGS).fit(noise, documents)
    told = blind.report(np.random.default_rng(1).normal(size=X.shape), documents).methods
    assert told["constant"]["answer @1"].value > 0.3  # the key is given, and 14 pairs fit into one vector
    assert told["probe"]["answer @1"].value < told["constant"]["answer @1"].value + 0.15


def test_a_pair_that_never_occurred_cannot_be_read():
    X, documents = planted(600)
    new = [(PAIRS[0], ("key2", "value5"))] * 20 + [(PAIRS[1], ("key5", "value2"))] * 20
    directions = np.random.default_rng(9).normal(size=(N, WIDTH))
    held = np.stack([directions[0] + directions[5]] * 20 + [directions[1] + directions[2]] * 20)
    probe = HypervectorProbe(codebook(), pool="last", **SETTINGS).fit(X, documents)
    assert probe.report(held, new).methods["probe"]["answer @1"].value < 0.1


def test_permuted_pairs_are_learned_by_heart_and_so_a_control():
    X, documents = planted(400)
    wrong = permuted_pairs(documents, random_state=1)
    assert all(a != b for told, said in zip(documents, wrong, strict=True) for a, b in zip(told, said, strict=True))
    moved = {pair for one, other in zip(documents, wrong, strict=True) for pair in zip(one, other, strict=True)}
    assert len(moved) == N
    probe = HypervectorProbe(codebook(), pool="last", **SETTINGS)
    real, control = probe.fit(X[:300], documents[:300]), clone(probe).fit(X[:300], wrong[:300])
    told = real.report(X[300:], documents[300:], controls={"permuted": (control, X[300:], wrong[300:])}).methods
    assert told["permuted"]["answer @1"].value > 0.9  # these pairs are a table, and any table is learned
    assert control.report(X[300:], documents[300:]).methods["probe"]["answer @1"].value < 0.1


def test_relations_keep_their_values_and_count_alike(fitted):
    X, documents = planted(150, 4)
    relations = ["few" if one[1][0] in ("key0", "key1") else "many" for one in documents]
    changed = permuted_pairs([(one[1],) for one in documents], relations=relations)
    assert {one[0][1] for one, name in zip(changed, relations, strict=True) if name == "few"} == {"value0", "value1"}
    report = fitted.report(X, documents, relations=relations)
    shares = report.by_relation("constant", top=5)
    assert report.methods["constant"]["answer @5"].value == pytest.approx(np.mean(list(shares.values())))
    assert report.by_relation()["few"] > 0.9


# ---------------------------------------------------------------------- nulls, rivals, the query
def test_the_constant_has_half_the_cosine_where_ties_are_negative():
    X, documents = planted(300)
    for ties, cosine, bits in (("negative", 0.5, 0.75), ("random", 0.2, 0.6)):  # 0.2: 14 pairs, of which each document has two
        probe = HypervectorProbe(codebook(1024), pool="last", ties=ties, hidden=(16,), epochs=1).fit(X, documents)
        told = probe.report(X, documents).methods["constant"]
        assert told["cosine"].value == pytest.approx(cosine, abs=0.06)
        assert told["bit accuracy"].value == pytest.approx(bits, abs=0.05)


def test_the_best_query_is_an_upper_bound_and_needs_no_probe_to_rise(fitted):
    X, documents = planted(200, 6)
    told = fitted.report(np.random.default_rng(0).normal(size=X.shape), documents).methods["probe"]
    best = told["answer @1 by the query that suits the answer (upper bound)"].value
    assert best >= told["answer @1"].value
    assert best > 0.1  # seven queries, of which any may hit: why it is no score


def test_plain_rivals_and_the_table_of_pairs_are_scored_alike(fitted):
    X, documents = planted(400, 7)
    codes = fitted.codebook
    rivals = concept_rivals(codes, X[:300], documents[:300], X[300:], epochs=20)
    rivals["table of pairs"] = pair_table(codes, documents[:300], documents[300:])
    told = fitted.report(X[300:], documents[300:], rivals=rivals).methods
    assert told["table of pairs"]["answer @1"].value == 1.0
    assert told["linear"]["answer @1"].value > 0.9
    assert told["nearest mean"]["answer @5"].value > 0.5


def test_scores_rank_without_the_words_of_the_prompt(fitted):
    X, documents = planted(30, 8)
    codes = fitted.codebook
    scores = np.zeros((30, len(codes)))
    for row, (a, b) in zip(scores, documents, strict=True):
        row[[codes.index(one) for one in (*a, b[0])]] = 2.0
        row[codes.index(b[1])] = 1.0
    told = fitted.report(X, documents, rivals={"right": scores, "level": np.zeros_like(scores)}).methods
    assert told["right"]["answer @1"].value == 1.0
    assert told["level"]["answer @5"].value == 0.0  # what ties with all reads nothing


def test_single_words_and_bundles_of_words_may_be_targets_too():
    rng = np.random.default_rng(0)
    names = [f"w{i}" for i in range(9)]
    codes, directions = Codebook(names, 256), rng.normal(size=(9, WIDTH))
    chosen = [rng.choice(9, 3, replace=False) for _ in range(300)]
    X = np.stack([directions[one].sum(axis=0) for one in chosen])
    words = [[names[i] for i in one] for one in chosen]
    probe = HypervectorProbe(codes, pool="last", **SETTINGS).fit(X[:250], words[:250])
    found = codes.decode(probe.encode(X[250:]), top=3)
    assert np.mean([{one.concept for one in best} == set(told) for best, told in zip(found, words[250:], strict=True)]) > 0.9
    with pytest.raises(InvalidData, match="last term of each document to be a pair"):
        probe.report(X[250:], words[250:])


# ---------------------------------------------------------------------- pooling
def test_pools_are_what_they_say():
    X, documents = planted(40, layers=6)
    few = {"hidden": (8,), "epochs": 1}
    for pool, flat in {"mean": X.mean(axis=1), "last": X[:, -1]}.items():
        layered = HypervectorProbe(codebook(), pool=pool, **few).fit(X, documents)
        assert (layered.encode(X) == HypervectorProbe(codebook(), **few).fit(flat, documents).encode(flat)).all()
    all_of_them = HypervectorProbe(codebook(), pool="kmeans_sum", n_clusters=6, **few).fit(X, documents)
    total = X.sum(axis=1)
    by_hand = HypervectorProbe(codebook(), **few).fit(total, documents)
    np.testing.assert_allclose(all_of_them.transform(X), by_hand.transform(total), atol=1e-3)


def test_centres_are_those_of_lloyd():
    X, documents = planted(30, layers=8)
    X[:, :3] += 4.0
    probe = HypervectorProbe(codebook(), n_clusters=3, hidden=(8,), epochs=1)
    chosen = np.random.default_rng([0, 1]).permutation(8)[:3]
    sums = [KMeans(3, init=one[chosen], n_init=1, tol=0.0).fit(one).cluster_centers_.sum(axis=0) for one in X]
    by_hand = clone(probe).fit(np.stack(sums), documents)
    np.testing.assert_allclose(probe.fit(X, documents).transform(X), by_hand.transform(np.stack(sums)), atol=1e-3)


def test_layers_that_are_alike_do_not_make_an_empty_cluster_nan():
    X, documents = planted(20, layers=6)
    X[:] = X[:, :1]
    assert np.isfinite(HypervectorProbe(codebook(), hidden=(8,), epochs=1).fit(X, documents).transform(X)).all()


def test_the_pool_of_a_prompt_does_not_rest_on_its_neighbours():
    X, documents = planted(40, layers=7)
    probe = HypervectorProbe(codebook(), hidden=(8,), epochs=1).fit(X, documents)
    np.testing.assert_allclose(probe.transform(X[7:9]), probe.transform(X)[7:9], atol=1e-5)


# ---------------------------------------------------------------------- training
def test_the_same_seed_gives_the_same_probe_and_leaves_the_generators_alone():
    X, documents = planted(60)
    state = torch.random.get_rng_state()
    few = {"hidden": (8, 8), "dropout": 0.2, "epochs": 2}
    one, same, other = (HypervectorProbe(codebook(), random_state=s, **few).fit(X, documents).transform(X) for s in (0, 0, 1))
    assert (torch.random.get_rng_state() == state).all()
    assert (one == same).all()
    assert (one != other).any()


def test_the_epoch_with_the_best_cosine_is_kept():
    X, documents = planted(200)
    probe = HypervectorProbe(codebook(), hidden=(64,), epochs=60, patience=3, learning_rate=0.02)
    history = probe.fit(X[:60], documents[:60], val=(X[60:], documents[60:])).history_
    assert history.validation[history.best_epoch - 1] == min(history.validation)
    target = codebook().compose(documents[60:]).astype(float)
    said = probe.transform(X[60:])
    cosine = (said * target).sum(axis=1) / np.linalg.norm(said, axis=1) / np.linalg.norm(target, axis=1)
    assert -min(history.validation) == pytest.approx(cosine.mean(), abs=1e-4)


def test_the_published_loss_takes_the_tangent_for_a_logit():
    from locum.inside._hypervector_net import sign_loss

    logits, signs = torch.tensor([[0.3, -2.0, 5.0]]), torch.tensor([[1.0, 1.0, -1.0]])
    said = torch.tanh(logits).double()
    mean = 0.1 * ((said - signs) ** 2).mean()
    for faithful, asked in ((True, said), (False, 2 * logits.double())):
        by_hand = torch.log1p(torch.exp(-signs * asked)).mean() + mean
        assert float(sign_loss(logits, signs, faithful)) == pytest.approx(float(by_hand), rel=1e-6)
    X, documents = planted(300)
    probe = HypervectorProbe(codebook(), faithful=True, ties="negative", pool="last", **SETTINGS).fit(X, documents)
    assert probe.report(X, documents).methods["probe"]["answer @1"].value > 0.9


def test_the_direction_raises_the_cosine_with_what_is_wanted(fitted):
    X, documents = planted(20, 9)
    wanted = [(a, next(pair for pair in PAIRS if pair not in (a, b))) for a, b in documents]
    step = fitted.direction(X, wanted)
    np.testing.assert_allclose(np.linalg.norm(step, axis=1), 1.0, rtol=1e-5)
    goal = fitted.codebook.compose(wanted, ties="zero").astype(float)

    def near(states):
        said = fitted.transform(states)
        return (said * goal).sum(axis=1) / np.linalg.norm(said, axis=1) / np.linalg.norm(goal, axis=1)

    small = 1e-2
    slope = (near(X + small * step) - near(X - small * step)) / (2 * small)
    for _ in range(3):
        other = np.random.default_rng(_).normal(size=step.shape)
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        assert (slope > (near(X + small * other) - near(X - small * other)) / (2 * small)).all()


def test_a_probe_may_be_fitted_again_on_states_of_another_width():
    X, documents = planted(40)
    probe = HypervectorProbe(codebook(), hidden=(8,), epochs=1).fit(X, documents)
    assert probe.fit(X[:, :7], documents).transform(X[:, :7]).shape == (40, 256)
    with pytest.raises(InvalidData, match="7"):
        probe.transform(X)


# ---------------------------------------------------------------------- files and bad input
def test_a_saved_probe_says_the_same(fitted, tmp_path):
    X, documents = planted(10, 1)
    fitted.save(tmp_path / "probe")
    again = HypervectorProbe.load(tmp_path / "probe")
    assert (again.encode(X) == fitted.encode(X)).all()
    assert again.get_params()["hidden"] == fitted.hidden
    assert str(again.report(X, documents)) == str(fitted.report(X, documents))
    (tmp_path / "probe" / "hypervector_probe.safetensors").write_bytes(b"cut")
    with pytest.raises(FormatError, match="use another copy"):
        HypervectorProbe.load(tmp_path / "probe")


def test_documents_with_concepts_that_did_not_fit_are_left_out_and_counted():
    X, documents = planted(200)
    some = [i for i, one in enumerate(documents) if PAIRS[0] not in one]
    probe = HypervectorProbe(codebook(), pool="last", hidden=(16,), epochs=1).fit(X[some], [documents[i] for i in some])
    with pytest.warns(OutsideRegion, match=f"{200 - len(some)} of 200 documents have a concept that did not fit"):
        report = probe.report(X, documents)
    assert report.excluded == 200 - len(some)
    assert "left out" in str(report)
    with pytest.raises(InvalidData, match="expected documents of concepts that fitted, got none"):
        probe.report(X[:2], [(PAIRS[0], PAIRS[1])] * 2)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pool": "max"}, "pool= to be one of kmeans_sum, mean, last"),
        ({"ties": "half"}, "ties= to be one of"),
        ({"hidden": ()}, "hidden= as one width or more"),
        ({"hidden": (8, 0)}, "hidden= to be a whole number of 1"),
        ({"n_clusters": 9}, "at least n_clusters=9 layers, got 4"),
        ({"dropout": 1.0}, "dropout= from 0 to below 1"),
        ({"faithful": "yes"}, "faithful= as True or False"),
        ({"codebook": ["a"]}, "codebook= as a Codebook"),
        ({"learning_rate": 0.0}, "learning_rate= above 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, told):
    X, documents = planted(12, layers=4)
    with pytest.raises(InvalidData, match=told):
        HypervectorProbe(**{"codebook": codebook(), "n_clusters": 3, "hidden": (8,), "epochs": 1} | settings).fit(X, documents)


def test_data_that_cannot_be_used_are_refused(fitted):
    X, documents = planted(12)
    new = HypervectorProbe(codebook(), hidden=(8,), epochs=1)
    with pytest.raises(InvalidData, match="a document for each state, got 11 states and 12 documents"):
        new.fit(X[1:], documents)
    with pytest.raises(InvalidData, match="finite states"):
        new.fit(np.where(np.arange(WIDTH) == 1, np.nan, X), documents)
    with pytest.raises(InvalidData, match="there is no concept 'key99'"):
        new.fit(X, [*documents[1:], (PAIRS[0], ("key99", "value1"))])
    with pytest.raises(NotFittedError):
        new.encode(X)
    with pytest.raises(InvalidData, match="32"):
        fitted.encode(X[:, :5])
    with pytest.raises(InvalidData, match=r"scores of 'lens' of shape \(12, 28\)"):
        fitted.report(X, documents, rivals={"lens": np.zeros((12, 3))})
    with pytest.raises(InvalidData, match="a relation for each of 12 documents, got 3"):
        fitted.report(X, documents, relations=["a"] * 3)
    with pytest.raises(InvalidData, match="got 11 states and 12 documents"):
        fitted.report(X[1:], documents)
    with pytest.raises(InvalidData, match="12 documents of the control 'words', got 5"):
        fitted.report(X, documents, controls={"words": (fitted, X[:5], documents[:5])})
    with pytest.raises(InvalidData, match="two answers or more"):
        fitted.report(X[:3], [documents[0]] * 3)
    with pytest.raises(InvalidData, match=r"documents of pairs, got the term 'key1'"):
        permuted_pairs([["key1"]])
    with pytest.raises(InvalidData, match="there is no method 'lens'"):
        fitted.report(X, documents).by_relation("lens")


# ---------------------------------------------------------------------- states of a network
@pytest.fixture(scope="module")
def tap():
    transformers = pytest.importorskip("transformers")
    shape = {"vocab_size": 40, "hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 20}
    with seeded(0), warnings.catch_warnings():
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape, bos_token_id=0, eos_token_id=0)).eval()
    return Tap(model, {"1": "model.layers.0", "2": "model.layers.1", "last": "model.norm"})


def test_states_are_those_of_each_prompt_by_itself(tap):
    prompts = [np.arange(1, n + 1) for n in (3, 7, 5, 1)]
    last, mean = (prompt_states(tap, prompts, tokens=tokens, batch_size=2) for tokens in ("last", "mean"))
    assert last.shape == (4, 3, 12)
    with torch.inference_mode():
        for ids, one, other in zip(prompts, last, mean, strict=True):
            said = tap.model(input_ids=torch.as_tensor(ids[None]), output_hidden_states=True).hidden_states
            np.testing.assert_allclose(one, [said[i][0, -1].numpy() for i in (1, 2, 3)], atol=1e-5)
            np.testing.assert_allclose(other, [said[i][0].mean(dim=0).numpy() for i in (1, 2, 3)], atol=1e-5)


def test_prompts_that_cannot_be_read_are_refused(tap):
    for prompts in ([], [np.array([], dtype=int)], ["text"], [np.ones((2, 2), dtype=int)]):
        with pytest.raises(InvalidData, match="prompts as texts with tokenizer="):
            prompt_states(tap, prompts)
    with pytest.raises(InvalidData, match="tokens= to be one of last, mean"):
        prompt_states(tap, [np.arange(3)], tokens="first")
    wide = Tap(tap.model, {"a": "model.layers.0", "b": "model.layers.0.mlp.up_proj"})
    with pytest.raises(InvalidData, match=r"sites of one width, got a 12, b 20"):
        prompt_states(wide, [np.arange(3)])
