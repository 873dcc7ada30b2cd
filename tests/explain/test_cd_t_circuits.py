"""Circuits: planted heads are found, pruned to those that are needed, and measured on other prompts."""

from __future__ import annotations

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from transformers import GPT2Config, GPT2LMHeadModel  # noqa: E402

from locum.core.errors import InvalidData  # noqa: E402
from locum.explain.cd_t import CircuitSearch, ContextualDecomposition, LogitDifference, Mean, Node, ProbabilityDifference  # noqa: E402
from locum.nets import seeded  # noqa: E402

PLANTED = (Node(0, 1), Node(1, 2))


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "disabled", True)


def planted(noise=0.02):
    """A copying circuit of two heads in a network of twelve: the last token is followed by what came after its twin.

    One-hot tokens (20) and positions (8) in the stream, and room for what heads write. Head 0.1 writes the token before;
    head 1.2 looks for a place whose token before is the token at hand, and writes the token there to the logits.
    """
    tokens, places, width = 20, 8, 96
    settings = GPT2Config(
        vocab_size=tokens, n_positions=places, n_embd=width, n_layer=3, n_head=4, bos_token_id=0, eos_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    with seeded(0):
        net = GPT2LMHeadModel(settings).double().eval()
        for weight in net.parameters():
            torch.nn.init.normal_(weight, std=noise)
    inside, size = net.transformer, width // 4
    with torch.no_grad():
        inside.wte.weight[:, :tokens] += torch.eye(tokens)
        inside.wpe.weight[:, tokens : tokens + places] += torch.eye(places)
        for norm in (inside.ln_f, *(one for block in inside.h for one in (block.ln_1, block.ln_2))):
            norm.weight += 1
        for layer, head, *_ in PLANTED:
            block = inside.h[layer].attn
            q, k, v = (slice(part * width + head * size, part * width + head * size + size) for part in range(3))
            if layer == 0:  # position p asks for p - 1
                for place in range(1, places):
                    block.c_attn.weight[tokens + place, q.start + place - 1] += 6
                    block.c_attn.weight[tokens + place, k.start + place] += 6
                block.c_attn.weight[tokens, k.start] += 6
                to = 40
            else:  # the token at hand asks for it as the token before
                block.c_attn.weight[:tokens, q.start : q.start + tokens] += 6 * torch.eye(tokens)
                block.c_attn.weight[40 : 40 + tokens, k.start : k.start + tokens] += 6 * torch.eye(tokens)
                to = 64
            block.c_attn.weight[:tokens, v.start : v.start + tokens] += torch.eye(tokens)
            block.c_proj.weight[head * size : head * size + tokens, to : to + tokens] += torch.eye(tokens)
        net.lm_head.weight[:, 64 : 64 + tokens] += 4 * torch.eye(tokens)
    return net


def prompts(n, seed):
    """Tokens 0 a b c d a, where b is right, and a, c and d are wrong."""
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.permutation(19)[:6] + 1 for _ in range(n)])
    ids = np.column_stack([np.zeros(n, dtype=int), drawn[:, :4], drawn[:, 0]])
    return ids, ProbabilityDifference(np.arange(20), np.arange(20) == drawn[:, 1, None])


def references(n=40, seed=9):
    """The last token has no twin."""
    rng = np.random.default_rng(seed)
    return Mean(np.stack([np.append(0, rng.permutation(19)[:5] + 1) for _ in range(n)]))


@pytest.fixture(scope="module")
def cd():
    logging.getLogger("transformers").disabled = True
    return ContextualDecomposition(planted())


@pytest.fixture(scope="module")
def search(cd):
    ids, score = prompts(12, 0)
    return CircuitSearch(cd, score, references(), per_round=1, protect=[Node(1, 2)]).fit(ids)


# ---------------------------------------------------------------------- planted truth
def test_the_planted_network_does_the_task(cd):
    ids, score = prompts(30, 1)
    assert cd.scores(ids, score).min() > 0.3
    assert cd.scores(ids, score).mean() > 0.7
    assert cd.check(ids[:3], tolerance=1e-9) < 1e-12


def test_the_head_that_writes_the_answer_is_the_most_relevant_and_the_other_is_its_source(cd):
    ids, score = prompts(12, 0)
    found = cd.relevance(ids, score=score, reference=references())
    assert found.top(1)[0][0] == (Node(1, 2),)
    assert np.unravel_index(found.grid().argmax(), (3, 4)) == (1, 2)
    keys = cd.relevance(ids, target=[Node(1, 2, kind="key")], reference=references())
    assert keys.sources[int(keys.mean.argmax())] == (Node(0, 1),)


def test_the_search_goes_back_from_the_answer_to_both_heads(search):
    assert search.path_[0].targets == ()
    assert search.path_[0].nodes == (Node(1, 2),)
    assert search.path_[1].targets == (Node(1, 2),)
    assert Node(1, 2) in search.nodes_
    assert search.path_[1].nodes[0].layer == 0


def test_keys_lead_to_the_head_that_makes_them(cd):
    ids, score = prompts(12, 0)
    found = CircuitSearch(cd, score, references(), per_round=1, kind="key").fit(ids)
    assert found.nodes_ == PLANTED
    held, test = prompts(30, 7)
    assert cd.faithfulness(found.nodes_, held, test, reference=references()).value == pytest.approx(1, abs=0.1)


def test_needless_heads_are_pruned_and_protected_ones_stay(cd):
    ids, score = prompts(12, 0)
    found = CircuitSearch(cd, score, references(), percentile=50, kind="key", protect=PLANTED).fit(ids)
    assert set(PLANTED) <= set(found.nodes_)
    assert len(found.nodes_) < len(found.found_)
    scores = [score for _, score in found.pruned_]
    assert scores == sorted(scores)
    kept = cd.kept(ids, [found.found_, found.nodes_], score, reference=references()).mean(axis=1)
    assert kept[1] == pytest.approx(scores[-1])
    assert kept[1] > kept[0]
    everything = CircuitSearch(cd, score, references(), percentile=50, kind="key", prune=False).fit(ids)
    assert everything.nodes_ == found.found_


def test_positions_of_the_planted_heads_come_out(cd):
    ids, score = prompts(6, 3)
    found = cd.relevance(ids, score=score, sources="heads@pos", reference=references())
    assert found.sources[int(found.mean.argmax())] == (Node(1, 2, 5),)
    search = CircuitSearch(cd, score, references(), level="heads@pos", per_round=1, rounds=2, kind="key", prune=False).fit(ids)
    assert search.path_[1].targets == (Node(1, 2, None, "key"),)
    assert search.path_[0].nodes == (Node(1, 2, 5),)
    assert search.path_[1].nodes[0][:2] == (0, 1)
    twin = cd.relevance(ids, sources="heads@pos", target=[Node(1, 2, 2, "key")], reference=references())
    assert twin.sources[int(twin.mean.argmax())] == (Node(0, 1, 2),)


# ---------------------------------------------------------------------- faithfulness
def test_faithfulness_of_everything_is_one_and_of_nothing_zero(cd):
    ids, score = prompts(15, 4)
    everything = [Node(layer, head) for layer in range(3) for head in range(4)]
    for nodes, expected in ((everything, 1.0), ((), 0.0)):
        found = cd.faithfulness(nodes, ids, score, reference=references())
        assert found.value == pytest.approx(expected, abs=1e-9)
        assert (found.measure, found.n) == ("faithfulness", 15)
    some = cd.faithfulness(PLANTED, ids, score, reference=references())
    assert some.lower < some.value < some.upper
    empty, own = cd.kept(ids, [(), PLANTED], score, reference=references()).mean(axis=1)
    assert some.value == pytest.approx((own - empty) / (cd.scores(ids, score).mean() - empty))


def test_a_task_that_is_done_without_heads_has_no_faithfulness(cd):
    ids, _ = prompts(12, 5)
    chance = LogitDifference(np.arange(12) % 2 + 1, (np.arange(12) + 1) % 2 + 1)
    with pytest.raises(InvalidData, match="cannot be told from 0"):
        cd.faithfulness(PLANTED, ids, chance, reference=references())
    with pytest.raises(InvalidData, match="cannot be told from 0"):
        cd.random_circuits(PLANTED, ids, chance, reference=references())


def test_the_planted_circuit_beats_random_ones(cd):
    ids, score = prompts(15, 6)
    found = cd.random_circuits(PLANTED, ids, score, reference=references(), sizes=(10, 30, 100), n=8)
    assert found.faithfulness.shape == (3, 8)
    np.testing.assert_allclose(found.faithfulness[2], 1.0)
    assert found.beaten[0] == 1.0
    assert found.circuit == pytest.approx(cd.faithfulness(PLANTED, ids, score, reference=references()).value)
    again = cd.random_circuits(PLANTED, ids, score, reference=references(), sizes=(10, 30, 100), n=8)
    np.testing.assert_array_equal(again.faithfulness, found.faithfulness)
    other = cd.random_circuits(PLANTED, ids, score, reference=references(), sizes=(10, 30), n=8, random_state=1)
    assert (other.faithfulness != found.faithfulness[:2]).any()
    assert "of those of 10 %" in str(found)


def test_logits_serve_as_a_task_as_well(cd):
    ids, _ = prompts(12, 0)
    score = LogitDifference(ids[:, 2], ids[:, 4])
    found = CircuitSearch(cd, score, references(), per_round=1, kind="key", prune=False).fit(ids)
    assert found.nodes_ == PLANTED


# ---------------------------------------------------------------------- settings
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"per_round": 0}, "per_round= to be a whole number of 1 or more"),
        ({"rounds": 0}, "rounds= to be a whole number"),
        ({"level": "layers"}, "level= to be one of heads, heads@pos"),
        ({"percentile": 100}, "percentile= from 0 to below 100"),
        ({"kind": "mlp"}, "kind= to be one of z, query, key, value"),
    ],
)
def test_bad_settings_are_refused(cd, settings, message):
    ids, score = prompts(2, 0)
    with pytest.raises(InvalidData, match=message):
        CircuitSearch(cd, score, **settings).fit(ids)


def test_unequal_prompts_and_bad_sizes_are_refused(cd):
    ids, score = prompts(2, 0)
    with pytest.raises(InvalidData, match="prompts of one length"):
        CircuitSearch(cd, score, level="heads@pos").fit([ids[0], ids[1][:4]])
    with pytest.raises(InvalidData, match="sizes= in percent"):
        cd.random_circuits(PLANTED, ids, score, sizes=(0,))
    with pytest.raises(InvalidData, match=r"no head 5\.0"):
        cd.kept(ids, [[Node(5, 0)]], score)


def test_nothing_that_speaks_for_the_answer_is_an_error(cd):
    ids, _ = prompts(4, 0)
    with pytest.raises(InvalidData, match="no head speaks for the answer"):
        CircuitSearch(cd, LogitDifference(ids[:, 2], ids[:, 2])).fit(ids)


def test_settings_are_those_of_scikit_learn(cd):
    _, score = prompts(2, 0)
    assert CircuitSearch(cd, score, per_round=3).get_params()["per_round"] == 3
    assert "reference" in CircuitSearch(cd, score).get_params()
