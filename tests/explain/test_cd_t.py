"""Contextual decomposition: both parts always make the model's own activations, and known answers come out."""

from __future__ import annotations

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from transformers import (  # noqa: E402
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaRMSNorm  # noqa: E402

from locum.core.errors import InvalidData, LocumError, UnsupportedModule  # noqa: E402
from locum.explain.cd_t import (  # noqa: E402
    ContextualDecomposition,
    LogitDifference,
    Masking,
    Mean,
    Node,
    ProbabilityDifference,
    single_tokens,
)
from locum.explain.saliency import randomisation_check  # noqa: E402
from locum.nets import seeded  # noqa: E402

IDS = np.random.default_rng(0).integers(0, 30, (4, 6))
REFERENCE = np.random.default_rng(1).integers(0, 30, (5, 6))
SCORE = LogitDifference([1, 2, 3, 4], [5, 6, 7, 8])
KINDS = ("gpt2", "llama", "bert")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """No words of transformers on tiny vocabularies; and the norm of Llama, which it computes in float32, in float64."""
    monkeypatch.setattr(logging.getLogger("transformers"), "disabled", True)

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


def model(kind, seed=0, **settings):
    small = {"vocab_size": 30, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 4}
    with seeded(seed):
        if kind == "gpt2":
            sizes = {"vocab_size": 30, "n_positions": 8, "n_embd": 12, "n_layer": 3, "n_head": 4}
            extra = {"initializer_range": 0.4, "bos_token_id": 0, "eos_token_id": 0}
            net = GPT2LMHeadModel(GPT2Config(**sizes | extra | settings))
        elif kind == "llama":
            extra = {"num_key_value_heads": 2, "head_dim": 4, "initializer_range": 0.4, "attention_bias": True}
            net = LlamaForCausalLM(LlamaConfig(**small | extra | settings))
        else:
            extra = {"max_position_embeddings": 8, "num_labels": 9, "initializer_range": 0.4}
            net = BertForSequenceClassification(BertConfig(**small | extra | settings))
        for name, weight in net.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(weight, std=0.5)
            if "norm" in name.lower() and name.endswith("weight"):
                torch.nn.init.normal_(weight, mean=1.0, std=0.3)
    return net.double().eval()


def decomposition(kind="gpt2", *, net=None, **settings):
    return ContextualDecomposition(net or model(kind), **settings)


def attention_only(attention, layers=1):
    """A GPT-2 whose MLPs put out nothing, and whose last norm and head are the plain ones."""
    net = model("gpt2", n_layer=layers)
    with torch.no_grad():
        for block in net.transformer.h:
            block.mlp.c_proj.weight.zero_()
            block.mlp.c_proj.bias.zero_()
    return decomposition(net=net, attention=attention, cleanup=False)


# ---------------------------------------------------------------------- exactness
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attention", ["full", "fixed"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_both_parts_make_the_activations_of_the_model(kind, attention, symmetric):
    for cleanup in (True, False):
        cd = decomposition(kind, attention=attention, symmetric=symmetric, cleanup=cleanup)
        many = [Node(layer, head) for layer in (0, 1) for head in range(4)]
        sets = [[Node(0, 1)], [Node(0, 0), Node(2, 3)], [Node(1, 2, 3)], many]
        assert cd.check(IDS, sources=sets, reference=Mean(REFERENCE), tolerance=1e-9) < 1e-12


def test_a_model_with_a_mean_pooled_head_is_exact():
    with seeded(0):
        head = torch.nn.Linear(12, 3).double()
    net = model("bert").bert
    cd = decomposition(net=net, head=head)
    assert cd.check(IDS, tolerance=1e-9) < 1e-12
    own = head(net(input_ids=torch.as_tensor(IDS)).last_hidden_state.mean(dim=1)).detach().numpy()
    score = cd.scores(IDS, LogitDifference(0, 2))
    np.testing.assert_allclose(score, own[:, 0] - own[:, 2], rtol=1e-10)


def test_attention_scaled_by_layer_is_exact():
    assert decomposition(net=model("gpt2", scale_attn_by_inverse_layer_idx=True)).check(IDS, tolerance=1e-9) < 1e-12


def test_a_wrong_rule_is_found(monkeypatch):
    cd = decomposition("llama")
    for block in cd.model.model.layers:
        block.post_attention_layernorm.variance_epsilon = 0.0  # what the rule reads is no longer what the model does

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-2)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)
    with pytest.raises(LocumError, match="block 0"):
        cd.check(IDS, tolerance=1e-6)


def test_float32_is_exact_to_its_own_rounding():
    assert decomposition(net=model("llama").float()).check(IDS) < 1e-4


# ---------------------------------------------------------------------- known answers
@pytest.mark.parametrize("kind", KINDS)
def test_heads_at_their_reference_have_no_relevance(kind):
    cd = decomposition(kind)
    chances = ProbabilityDifference([1, 2, 3], [[True, False, False]])
    for score in (LogitDifference([1], [2]), chances):
        found = cd.relevance(IDS[:1], score=score, reference=Mean(IDS[:1]))
        np.testing.assert_allclose(found.values, 0.0, atol=1e-12)


@pytest.mark.parametrize("attention", ["full", "fixed"])
def test_without_mlps_and_with_the_last_norm_fixed_the_last_layer_is_what_its_heads_write(attention):
    cd = attention_only(attention)
    net, seen = cd.model, {}
    hooks = [
        net.transformer.h[0].attn.c_proj.register_forward_pre_hook(lambda _m, given: seen.update(z=given[0])),
        net.transformer.ln_f.register_forward_pre_hook(lambda _m, given: seen.update(x=given[0])),
    ]
    with torch.no_grad():
        net(input_ids=torch.as_tensor(IDS))
    for hook in hooks:
        hook.remove()
    z, x = seen["z"][:, -1], seen["x"][:, -1]
    weight, bias, norm = net.transformer.h[0].attn.c_proj.weight, net.transformer.h[0].attn.c_proj.bias, net.transformer.ln_f
    rows = net.lm_head.weight
    for head in range(4):
        part = torch.zeros_like(z)
        part[:, 3 * head : 3 * head + 3] = z[:, 3 * head : 3 * head + 3]
        b, g = part @ weight, (z - part) @ weight
        b = b + bias * b.abs() / (b.abs() + g.abs() + 1e-8)
        spread = (x.var(dim=-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
        share = b.abs() / (b.abs() + (x - b).abs() + 1e-8)
        logits = ((b - b.mean(-1, keepdim=True)) * spread * norm.weight + norm.bias * share) @ rows.T
        expected = (logits[range(4), SCORE.right] - logits[range(4), SCORE.wrong]).detach().numpy()
        found = cd.relevance(IDS, score=SCORE, sources=[Node(0, head)]).values[0]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def merged(b, g):
    """Of opposite signs, the larger takes all."""
    opposed, larger, both = b * g < 0, b.abs() > g.abs(), b + g
    return torch.where(opposed & larger, both, torch.where(opposed, 0 * b, b)), torch.where(
        opposed & ~larger, both, torch.where(opposed, 0 * g, g)
    )


@pytest.mark.parametrize("cleanup", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_gated_layer_splits_both_factors_and_merges_what_is_opposed(cleanup, symmetric):
    net = model("llama", num_hidden_layers=1, attention_bias=False)
    block, seen = net.model.layers[0], {}
    hooks = [
        block.self_attn.o_proj.register_forward_pre_hook(lambda _m, given: seen.update(z=given[0][:, -1].detach())),
        block.post_attention_layernorm.register_forward_pre_hook(lambda _m, given: seen.update(x=given[0][:, -1].detach())),
    ]
    net(input_ids=torch.as_tensor(IDS))
    for hook in hooks:
        hook.remove()
    tidy, linear, silu = (merged if cleanup else lambda b, g: (b, g)), torch.nn.functional.linear, torch.nn.functional.silu
    part = torch.zeros_like(seen["z"])
    part[:, 4:8] = seen["z"][:, 4:8]
    b = linear(part, block.self_attn.o_proj.weight)
    g = seen["x"] - b

    def normed(b, g, norm):
        scale = (b + g).square().mean(-1, keepdim=True).add(norm.variance_epsilon).rsqrt() * norm.weight
        return b * scale, g * scale

    inside = normed(b, g, block.post_attention_layernorm)
    (ub, ug), (vb, vg) = (tidy(*(linear(t, m.weight) for t in inside)) for m in (block.mlp.gate_proj, block.mlp.up_proj))
    whole, rest = silu(ub + ug) * (vb + vg), silu(ug) * vg
    gated = whole - rest
    if symmetric:
        gated = (gated + silu(ub) * vb) / 2
    out = tidy(*(linear(t, block.mlp.down_proj.weight) for t in (gated, whole - gated)))
    b, g = tidy(b + out[0], g + out[1])
    logits = linear(normed(b, g, net.model.norm)[0], net.lm_head.weight).detach().numpy()
    cd = decomposition(net=net, cleanup=cleanup, symmetric=symmetric)
    np.testing.assert_allclose(cd.relevance(IDS, score=SCORE, sources=[Node(0, 1)]).values[0], SCORE(logits), rtol=1e-9)


def test_parts_add_up_where_everything_is_linear():
    cd = attention_only("fixed", layers=2)
    with torch.no_grad():
        for block in cd.model.transformer.h:
            for one in (block.ln_1, block.attn.c_attn, block.attn.c_proj):
                one.bias.zero_()
        cd.model.transformer.ln_f.bias.zero_()
    # With no bias and no MLP, norms and patterns as they are, everything is linear: parts of single heads add up.
    alone = cd.relevance(IDS, score=SCORE, sources=[Node(0, head) for head in range(4)]).values
    together = cd.relevance(IDS, score=SCORE, sources=[[Node(0, head) for head in range(4)]]).values
    np.testing.assert_allclose(alone.sum(axis=0), together[0], rtol=1e-9)


@pytest.mark.parametrize("attention", ["full", "fixed"])
def test_attention_of_the_relevant_part_is_that_worked_out_by_hand(attention):
    cd, seen = attention_only(attention, layers=2), {}
    first, second, norm = *cd.model.transformer.h, cd.model.transformer.ln_f
    with torch.no_grad():
        for one in (first.attn.c_proj, second.ln_1, second.attn.c_attn, second.attn.c_proj, norm):
            one.bias.zero_()
    hooks = [
        first.attn.c_proj.register_forward_pre_hook(lambda _m, given: seen.update(z=given[0].detach())),
        second.ln_1.register_forward_pre_hook(lambda _m, given: seen.update(x=given[0].detach())),
        norm.register_forward_pre_hook(lambda _m, given: seen.update(last=given[0].detach())),
    ]
    cd.model(input_ids=torch.as_tensor(IDS))
    for hook in hooks:
        hook.remove()

    def scaled(t, total, module):
        spread = (total.var(dim=-1, unbiased=False, keepdim=True) + module.eps).rsqrt()
        return (t - t.mean(-1, keepdim=True)) * spread * module.weight

    part = torch.zeros_like(seen["z"])
    part[..., 3:6] = seen["z"][..., 3:6]
    b = part @ first.attn.c_proj.weight
    shape = (4, 6, 3, 4, 3)  # prompts, length, query key value, heads, width
    relevant, total = ((scaled(t, seen["x"], second.ln_1) @ second.attn.c_attn.weight).view(shape) for t in (b, seen["x"]))
    who = relevant if attention == "full" else total
    scores = torch.einsum("plhw,pmhw->phlm", who[:, :, 0], who[:, :, 1]) / 3**0.5
    pattern = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1)
    b = b + torch.einsum("phlm,pmhw->plhw", pattern, relevant[:, :, 2]).flatten(-2) @ second.attn.c_proj.weight
    logits = (scaled(b, seen["last"], norm) @ cd.model.lm_head.weight.T)[:, -1].detach().numpy()
    np.testing.assert_allclose(cd.relevance(IDS, score=SCORE, sources=[Node(0, 1)]).values[0], SCORE(logits), rtol=1e-9)


def test_ablating_is_what_a_hook_on_the_model_does():
    for kind in ("gpt2", "llama"):
        cd = decomposition(kind)
        proj = cd.model.transformer.h[1].attn.c_proj if kind == "gpt2" else cd.model.model.layers[1].self_attn.o_proj
        width = 3 if kind == "gpt2" else 4
        seen = []
        hook = proj.register_forward_pre_hook(lambda _m, given, seen=seen: seen.append(given[0].detach()))
        cd.model(input_ids=torch.as_tensor(REFERENCE))
        hook.remove()
        mean = seen[0].mean(dim=0)

        def patch(_m, given, mean=mean, width=width):
            z = given[0].clone()
            z[..., 2 * width : 3 * width] = mean[:, 2 * width : 3 * width]
            return (z,)

        hook = proj.register_forward_pre_hook(patch)
        logits = cd.model(input_ids=torch.as_tensor(IDS)).logits[:, -1].detach().numpy()
        hook.remove()
        found = cd.ablated(IDS, [Node(1, 2)], SCORE, reference=Mean(REFERENCE))[0]
        np.testing.assert_allclose(found, SCORE(logits), rtol=1e-9)


def test_shared_keys_are_those_of_the_model():
    """Heads that share keys and values are still scored each alone."""
    found = decomposition("llama").relevance(IDS, score=SCORE, sources=[Node(2, head) for head in range(4)]).values
    assert len({tuple(row.round(9)) for row in found}) == 4


def test_a_target_is_reached_by_earlier_layers_alone():
    cd = decomposition()
    for kind in ("z", "query", "key", "value"):
        for measure in ("l1", "dot"):
            found = cd.relevance(IDS, target=[Node(1, 2, kind=kind)], measure=measure, reference=Mean(REFERENCE)).values
            assert (found[:4] != 0).all()
            assert (found[4:] == 0).all()
    share = cd.relevance(IDS, target=[Node(2, 0), Node(2, 1)]).values
    assert ((share >= 0) & (share <= 2)).all()
    later = cd.relevance(IDS, sources=[Node(1, 0)], target=[Node(1, 0), Node(2, 0)]).values
    assert (later == 0).all()  # a target is no source of the others


def test_relevance_to_a_value_is_the_share_of_its_magnitude_worked_out_by_hand():
    cd = attention_only("fixed", layers=2)
    net = cd.model
    with torch.no_grad():
        for one in (net.transformer.h[0].attn.c_proj, net.transformer.h[1].ln_1, net.transformer.h[1].attn.c_attn):
            one.bias.zero_()
    seen = {}
    hook = net.transformer.h[0].attn.c_proj.register_forward_pre_hook(lambda _m, given: seen.update(z=given[0].detach()))
    inside = net.transformer.h[1].ln_1.register_forward_pre_hook(lambda _m, given: seen.update(x=given[0].detach()))
    net(input_ids=torch.as_tensor(IDS))
    hook.remove()
    inside.remove()
    part = torch.zeros_like(seen["z"])
    part[..., :3] = seen["z"][..., :3]
    b, x, norm = part @ net.transformer.h[0].attn.c_proj.weight, seen["x"], net.transformer.h[1].ln_1
    spread = (x.var(dim=-1, unbiased=False, keepdim=True) + norm.eps).rsqrt()
    weight = net.transformer.h[1].attn.c_attn.weight[:, 24:27]
    values = [(t - t.mean(-1, keepdim=True)) * spread * norm.weight @ weight for t in (b, x)]
    own, rest = values[0].abs().mean(dim=(1, 2)), (values[1] - values[0]).abs().mean(dim=(1, 2))
    found = cd.relevance(IDS, sources=[Node(0, 0)], target=[Node(1, 0, kind="value")]).values[0]
    np.testing.assert_allclose(found, (own / (own + rest)).detach().numpy(), rtol=1e-9)


def test_parts_that_outgrow_all_numbers_are_refused_and_cleanup_keeps_them_small():
    net = model("llama", attention_bias=False)
    first = net.model.layers[0].self_attn
    with torch.no_grad():  # two heads that put out the same, and whose outputs cancel to the last bit
        first.q_proj.weight[:8] = 0
        first.o_proj.weight.zero_()
        first.o_proj.weight[range(4), range(4)] = 2.0**200
        first.o_proj.weight[range(4), range(4, 8)] = -(2.0**200)
    with pytest.raises(LocumError, match=r"source 0\.0 grew .* on prompt 0; use cleanup=True"):
        decomposition(net=net, cleanup=False).relevance(IDS, score=SCORE, sources=[Node(0, 0)])
    assert np.isfinite(decomposition(net=net).relevance(IDS, score=SCORE, sources=[Node(0, 0)]).values).all()


# ---------------------------------------------------------------------- invariances
def test_batches_sources_and_prompts_make_no_difference():
    reference = Mean(REFERENCE, groups=list("aabbb"), prompts=list("abab"))
    wide = decomposition("llama", batch=1000).relevance(IDS, score=SCORE, reference=reference, sources="heads@pos")
    assert wide.values.shape == (3 * 4 * 6, 4)
    narrow = decomposition("llama", batch=3).relevance(IDS, score=SCORE, reference=reference, sources="heads@pos")
    np.testing.assert_allclose(narrow.values, wide.values, atol=1e-12)
    back = decomposition("llama").relevance(
        IDS[::-1],
        score=SCORE.take(slice(None, None, -1)),
        reference=Mean(REFERENCE, groups=list("aabbb"), prompts=list("baba")),
        sources=[wide.sources[9], wide.sources[40]],
    )
    np.testing.assert_allclose(back.values, wide.values[[9, 40]][:, ::-1], atol=1e-12)


def test_a_head_is_the_set_of_itself_at_all_positions():
    cd = decomposition("bert")
    pair = [[Node(1, 2)], [Node(1, 2, place) for place in range(6)]]
    found = cd.relevance(IDS, score=SCORE, sources=pair).values
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)


def test_prompts_of_several_lengths_are_explained_each_with_references_of_its_length():
    ids = [IDS[0].tolist(), IDS[1, :4].tolist()]
    reference = Mean([*REFERENCE.tolist(), *REFERENCE[:, :4].tolist()])
    cd, score = decomposition(), LogitDifference([1, 2], [3, 4])
    found = cd.relevance(ids, score=score, reference=reference)
    alone = cd.relevance(ids[1:], score=score.take([1]), reference=Mean(REFERENCE[:, :4]))
    np.testing.assert_allclose(found.values[:, 1], alone.values[:, 0], atol=1e-12)
    with pytest.raises(InvalidData, match="a position means nothing across lengths"):
        cd.relevance(ids, score=score, sources="heads@pos")
    with pytest.raises(InvalidData, match="no reference prompt of 4 tokens"):
        cd.relevance(ids, score=score, reference=Mean(REFERENCE))


def test_relevance_is_divided_by_the_score_or_by_its_layer():
    cd = decomposition()
    plain = cd.relevance(IDS, score=SCORE)
    np.testing.assert_allclose(cd.relevance(IDS, score=SCORE, normalise="score").values, plain.values / plain.full)
    layer = cd.relevance(IDS, score=SCORE, normalise="layer")
    np.testing.assert_allclose(np.abs(layer.grid()).shape, (3, 4))
    np.testing.assert_allclose(np.abs(layer.values).reshape(3, 4, 4).sum(axis=1), 1.0)


def test_the_model_is_left_as_it_is():
    net = model("llama")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    decomposition(net=net).relevance(IDS, score=SCORE, reference=Mean(REFERENCE))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(weight.requires_grad for weight in net.parameters())


# ---------------------------------------------------------------------- tokens
def test_tokens_of_no_effect_have_no_importance():
    net = model("bert")
    with torch.no_grad():
        for layer in net.bert.encoder.layer:  # no token sees another, and only the first is read
            layer.attention.output.dense.weight.zero_()
    (found,) = decomposition(net=net, cleanup=False).local_importance(IDS[:1])
    assert found.axes[0].unit == "token"
    np.testing.assert_allclose(found.values[1:], 0.0, atol=1e-9)
    assert abs(found.values[0]) > 0.01


def test_importances_change_where_layers_are_drawn_anew():
    def importances(net, rows):
        ids = rows.astype(int)
        found = decomposition(net=net.double().eval()).local_importance(ids, labels=[1] * len(ids))
        return [one.values for one in found]

    ids = np.stack([np.random.default_rng(i).permutation(30)[:8] for i in range(30)])
    check = randomisation_check(importances, model("bert", num_hidden_layers=1), ids)
    assert check.layers[0] == "classifier"
    assert check.layers[-1] == "bert.embeddings.word_embeddings"
    assert check.last.upper < 0.4


def test_a_window_over_all_tokens_has_all_of_the_embedding():
    cd = decomposition("gpt2")
    wide = cd.local_importance(IDS[:1], window=13)[0].values
    np.testing.assert_allclose(wide, wide[0])
    assert np.ptp(cd.local_importance(IDS[:1], window=1)[0].values) > 0
    assert np.ptp(cd.local_importance(IDS[:1], window=3)[0].values) > 0


def test_importance_is_of_the_label_against_its_closest_competitor():
    cd = decomposition("bert")
    ids = [IDS[0].tolist(), IDS[1, :4].tolist()]
    found = cd.local_importance(ids, names=lambda token: f"t{token}")
    assert [len(one.values) for one in found] == [6, 4]
    assert found[1].axes[0].names == tuple(f"t{token}" for token in IDS[1, :4])
    logits = cd.model(input_ids=torch.as_tensor(ids[:1])).logits[0].detach().numpy()
    best, second = np.argsort(-logits)[:2]
    assert found[0].output == f"logit of {best} less that of {second}"
    assert cd.local_importance(ids[:1], labels=[int(second)])[0].output == f"logit of {second} less that of {best}"


def bag_of_tokens():
    """No token sees another, and the classes have the mean of their states."""
    with seeded(0):
        sizes = {"vocab_size": 30, "hidden_size": 12, "intermediate_size": 20, "num_hidden_layers": 1, "num_attention_heads": 4}
        net = BertModel(BertConfig(**sizes))
        head = torch.nn.Linear(12, 3)
    with torch.no_grad():
        net.embeddings.position_embeddings.weight.zero_()
        net.embeddings.token_type_embeddings.weight.zero_()
        net.embeddings.word_embeddings.weight[0] = 0  # the mask says nothing
        for layer in net.encoder.layer:
            layer.attention.output.dense.weight.zero_()
            layer.output.dense.weight.zero_()
    return decomposition(net=net.double().eval(), head=head.double(), cleanup=False)


def test_importance_foretells_what_masking_does_where_tokens_add_up():
    cd = bag_of_tokens()
    (found,) = cd.local_importance([list(range(1, 9))], masking=Masking(0, fixed=(8,), draws=200))
    assert found.fidelity.n == 200
    assert found.fidelity.lower > 0.9
    assert found.rivals["all tokens alike"].upper < found.fidelity.lower
    (again,) = cd.local_importance([list(range(1, 9))], masking=Masking(0, fixed=(8,), draws=200))
    assert again.fidelity == found.fidelity
    assert cd.local_importance([list(range(1, 9))])[0].fidelity is None
    (still,) = cd.local_importance([[1, 2]], masking=Masking(0, fixed=(1, 2)))  # nothing may be masked: nothing is foretold
    assert still.fidelity is None
    assert not still.rivals


@pytest.mark.parametrize("wrong", [{"token": -1}, {"token": 1.5}, {"draws": 9}, {"random_state": -1}])
def test_maskings_that_cannot_be_used(wrong):
    with pytest.raises(InvalidData):
        Masking(**{"token": 0, **wrong})
    with pytest.raises(InvalidData, match="expected a token below"):
        decomposition().local_importance(IDS[:1], masking=Masking(10**6))


# ---------------------------------------------------------------------- refused
def test_modules_without_a_rule_are_named():
    net = model("llama")
    net.model.layers[1].mlp.act_fn = torch.nn.Softplus()
    with pytest.raises(UnsupportedModule, match=r"model\.layers\.1\.mlp\.act_fn \(Softplus\)"):
        decomposition(net=net)
    with pytest.raises(InvalidData, match="no adapter for Linear"):
        decomposition(net=torch.nn.Linear(2, 2).eval())
    with pytest.raises(InvalidData, match="no adapter for GPT2LMHeadModel; there are some for LlamaForCausalLM"):
        decomposition("gpt2", adapter="llama")
    with pytest.raises(InvalidData, match="without cross-attention"):
        decomposition(net=model("gpt2", add_cross_attention=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapter": "t5"}, "adapter= to be one of auto, llama, gpt2, bert"),
        ({"attention": "soft"}, "attention= to be one of full, fixed"),
        ({"batch": 0}, "batch= to be a whole number of 1 or more"),
        ({"head": torch.nn.Linear(12, 2)}, "has logits of its own"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InvalidData, match=message):
        decomposition(**settings)


def test_a_model_in_train_mode_or_without_logits_is_refused():
    with pytest.raises(InvalidData, match="eval mode"):
        decomposition(net=model("gpt2").train())
    with pytest.raises(InvalidData, match="give head="):
        decomposition(net=model("bert").bert)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"score": None}, "score= of LogitDifference or ProbabilityDifference, got NoneType"),
        ({"score": LogitDifference([1], [2])}, "the score is for 1 prompts, and there are 4"),
        ({"sources": "tokens"}, "sources= to be 'heads', 'heads@pos' or nodes"),
        ({"sources": [Node(3, 0)]}, r"no head 3\.0: there are 3 layers"),
        ({"sources": [Node(0, 0, 6)]}, "no position 6 in prompts of 6 tokens"),
        ({"sources": [(0, 1)]}, "expected nodes such as Node"),
        ({"sources": []}, "at least one node each"),
        ({"target": "answer"}, "target= to be 'logits' or nodes"),
        ({"target": []}, "at least one node"),
        ({"target": [Node(1, 1, kind="output")]}, "kind z, query, key, value"),
        ({"target": [Node(1, 1)], "measure": "l2"}, "measure= to be one of l1, dot"),
        ({"target": [Node(1, 1)], "normalise": "score"}, "needs the logits as target"),
        ({"normalise": "all"}, "normalise= to be one of"),
        ({"reference": REFERENCE}, "reference= to be Mean"),
        ({"input_ids": [[1, 30]]}, "tokens from 0 to below the 30 of the model, got 30"),
        ({"input_ids": [[1, -1]]}, "tokens from 0 to below the 30 of the model, got -1"),
        ({"input_ids": [[1] * 9]}, "at most the 8 tokens the model takes, got 9; shorten them"),
        ({"input_ids": [[0.5]]}, "one row of tokens"),
        ({"input_ids": 3}, "one row of tokens"),
    ],
)
def test_bad_questions_are_refused(asked, message):
    given = {"score": SCORE, "input_ids": IDS} | asked
    with pytest.raises(InvalidData, match=message):
        decomposition().relevance(given.pop("input_ids"), **given)


def test_bad_scores_and_references_are_refused():
    with pytest.raises(InvalidData, match="of one shape"):
        LogitDifference([1, 2], [3])
    with pytest.raises(InvalidData, match="whole numbers of 0 or more"):
        LogitDifference([0.5], [1])
    with pytest.raises(InvalidData, match=r"of shape \(prompts, 2\)"):
        ProbabilityDifference([1, 2], [[True]])
    with pytest.raises(InvalidData, match="together, or neither"):
        Mean(REFERENCE, groups=list("aabbb"))
    with pytest.raises(InvalidData, match="a group for each of the 5"):
        Mean(REFERENCE, groups=list("ab"), prompts=list("ab"))
    with pytest.raises(InvalidData, match="no reference prompt of the group 'c'"):
        Mean(REFERENCE, groups=list("aabbb"), prompts=list("abcc"))
    with pytest.raises(InvalidData, match="the reference is for 2 prompts"):
        decomposition().relevance(IDS, score=SCORE, reference=Mean(REFERENCE, groups=list("aabbb"), prompts=list("ab")))


def test_answers_of_several_tokens_are_refused():
    class Tokenizer:
        def __call__(self, word, add_special_tokens):
            return {"input_ids": [1] if word == " Mary" else [2, 3]}

        def decode(self, ids):
            return f"<{ids[0]}>"

    assert single_tokens(Tokenizer(), [" Mary", " Mary"]).tolist() == [1, 1]
    with pytest.raises(InvalidData, match=r"' Bartholomew' is 2: \['<2>', '<3>'\]"):
        single_tokens(Tokenizer(), [" Mary", " Bartholomew"])


def test_probability_differences_are_those_worked_out_by_hand():
    logits = np.log(np.array([[0.5, 0.2, 0.2, 0.1], [0.1, 0.1, 0.3, 0.5]]))
    score = ProbabilityDifference([0, 1, 2], [[True, False, False], [False, True, True]])
    np.testing.assert_allclose(score(logits), [0.5 - 0.4, 0.4 - 0.1])
    np.testing.assert_allclose(score(torch.as_tensor(logits)).numpy(), score(logits))
    np.testing.assert_allclose(score.take([1])(logits[1:]), [0.3])
