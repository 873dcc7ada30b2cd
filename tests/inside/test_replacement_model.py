"""Attributions sum to what a network computes, exactly, and ablations do what attributions say where the network is linear."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from locum.core.errors import InvalidData, UnsupportedModule  # noqa: E402
from locum.inside import (  # noqa: E402
    Feature,
    Logits,
    ReplacementModel,
    Tap,
    TopK,
    Transcoder,
    attribution_graph,
    every_position,
    first_position,
    norm_above,
)
from locum.nets import seeded  # noqa: E402

IDS = np.array([3, 14, 15, 9, 26, 5])


def gpt2(activation="relu", heads=4):
    shape = {"n_embd": 16, "n_layer": 3, "n_head": heads, "n_positions": 32, "vocab_size": 50, "n_inner": 40}
    config = transformers.GPT2Config(**shape, activation_function=activation, bos_token_id=0, eos_token_id=0)
    with seeded(0):
        model = transformers.GPT2LMHeadModel(config).eval().requires_grad_(False)
        for parameter in model.parameters():  # gains and biases are ones and zeros otherwise
            parameter += 0.3 * torch.randn_like(parameter) / (parameter.shape[0] ** 0.5 if parameter.ndim > 1 else 1.0)
    return model


def exact(model):
    """Transcoders that are the MLPs, which have ReLU units themselves."""
    found = {}
    for i, block in enumerate(model.transformer.h):
        c_fc, c_proj = block.mlp.c_fc, block.mlp.c_proj
        found[i] = Transcoder.from_weights(c_fc.weight.T, c_fc.bias, c_proj.weight, c_proj.bias)
    return found


@pytest.fixture(scope="module")
def relu():
    """A GPT-2 whose MLPs are ReLU layers, with these as transcoders, and what it does on a prompt."""
    model = gpt2()
    replaced = ReplacementModel(model, exact(model))
    return replaced, replaced.run(IDS)


@pytest.fixture(scope="module")
def skips():
    """A GPT-2 with LayerNorms and transcoders that have a skip, and are no good."""
    rng, model = np.random.default_rng(0), gpt2("gelu_new")
    found = {}
    for i in range(3):
        weights = [rng.normal(size=shape) * 0.3 for shape in ((30, 16), (30,), (30, 16), (16,))]
        found[i] = Transcoder.from_weights(*weights, skip=rng.normal(size=(16, 16)) * 0.1)
    replaced = ReplacementModel(model, found)
    return replaced, replaced.run(IDS)


@pytest.fixture(scope="module")
def llama(language_model):
    """A Llama with shared keys and values and gated MLPs, with transcoders that were fitted in a hurry."""
    with torch.no_grad(), seeded(1):
        for name, parameter in language_model.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
    rng = np.random.default_rng(0)
    tap = Tap(language_model, {f"{s} {i}": (f"model.layers.{i}.mlp", s) for i in range(3) for s in ("in", "out")})
    with torch.no_grad():
        read = tap.read(torch.as_tensor(rng.integers(1, 50, size=(40, 30))), use_cache=False)
    rows = {name: one[:, 1:].reshape(-1, 16) for name, one in read.items()}
    found = {}
    for i, skip in ((0, False), (1, True)):
        one = Transcoder(64, TopK(6), skip=skip, epochs=5, batch_size=64, learning_rate=4e-3)
        found[i] = one.fit(rows[f"in {i}"], rows[f"out {i}"])
    found[2] = Transcoder(64, TopK(6), epochs=5, batch_size=64, learning_rate=4e-3).fit(rows["in 2"], rows["out 2"])
    replaced = ReplacementModel(language_model, found, keep=~first_position)
    return replaced, replaced.run(IDS)


def strongest(prompt, layer, token=-1):
    return Feature(layer, int(prompt.codes[layer][[token]].toarray()[0].argmax()), token)


TARGETS = {
    "feature 2": lambda prompt: strongest(prompt, 2),
    "feature 1": lambda prompt: strongest(prompt, 1, 3),
    "logit difference": lambda _: Logits({4: 1.0, 9: -1.0}),
    "logit": lambda _: Logits({7: 2.0}, 2),
}


# ---------------------------------------------------------------------- sums
@pytest.mark.parametrize("which", ["relu", "llama", "skips"])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_attributions_sum_to_what_the_network_computes(request, which, target):
    replaced, prompt = request.getfixturevalue(which)
    target = target(prompt)
    told = prompt.attribute(target)
    assert told.values.sum() == pytest.approx(told.value, abs=1e-4)
    if isinstance(target, Logits):
        with torch.no_grad():
            logits = replaced.model(torch.as_tensor(IDS)[None]).logits[0, target.token]
        expected = sum(weight * float(logits[i]) for i, weight in target.weights.items())
    else:
        expected = prompt.codes[target.layer][target.token % len(IDS), target.latent]
    assert told.value == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("which", ["relu", "llama", "skips"])
def test_every_source_that_reads_is_the_sum_of_its_own_sources(request, which):
    _, prompt = request.getfixturevalue(which)
    node, reader = prompt.reader(Logits({4: 1.0}))
    told = prompt.sources(node, reader)
    kinds = set()
    for source, value in zip(told.nodes, told.values, strict=True):
        onward = prompt.onward(reader, source)
        if onward is not None:
            kinds.add(source.kind)
            assert prompt.read(onward) == pytest.approx(value, abs=1e-4)
            assert prompt.sources(source, onward).values.sum() == pytest.approx(value, abs=1e-4)
    assert kinds == {"feature", "head"} | ({"skip"} if which != "relu" else set())


def test_where_the_transcoders_are_the_mlps_nothing_is_left_to_errors(relu):
    _, prompt = relu
    told = prompt.attribute(strongest(prompt, 2))
    errors = [value for node, value in zip(told.nodes, told.values, strict=True) if node.kind in ("error", "mlp")]
    assert np.abs(errors).max() < 1e-5


def test_values_are_products_of_their_two_factors(llama):
    _, prompt = llama
    told = prompt.attribute(strongest(prompt, 2))
    known = [i for i, node in enumerate(told.nodes) if node.kind in ("feature", "embedding")]
    assert len(known) > 5
    np.testing.assert_allclose(told.values[known], told.dependent[known] * told.invariant[known])
    assert np.isnan(np.delete(told.invariant, known)).all()


def test_the_invariant_factor_is_what_the_weights_say_on_any_prompt(llama):
    replaced, prompt = llama
    target = strongest(prompt, 2)
    said = dict(replaced.connections(target.layer, target.latent, 0, top=64))
    for node, invariant in zip(prompt.attribute(target).nodes, prompt.attribute(target).invariant, strict=True):
        if node.kind == "feature" and node.layer == 0:
            assert invariant == pytest.approx(said[node.unit])
    words = dict(replaced.deembed(target.layer, target.latent, top=50))
    embedding = [i for i, node in enumerate(prompt.attribute(target).nodes) if node.kind == "embedding"]
    assert prompt.attribute(target).invariant[embedding] == pytest.approx(words[IDS[-1]])


def test_a_connection_through_a_head_is_the_invariant_factor_of_its_path(llama):
    replaced, prompt = llama
    target = strongest(prompt, 2)
    graph = attribution_graph(prompt, target, depth=2, beam=None)
    paths = [p for p in graph.paths if len(p.nodes) == 3 and p.nodes[1].kind == "head" and p.nodes[2].kind == "feature"]
    assert {path.nodes[1].unit for path in paths} == {0, 1, 2, 3}
    for path in paths[::7]:
        head, source = path.nodes[1:]
        said = dict(replaced.connections(2, target.latent, source.layer, via=[(head.layer, head.unit)], top=64))
        assert path.invariant == pytest.approx(said[source.unit])
        assert path.value == pytest.approx(path.dependent * path.invariant)


def test_logit_effects_are_attributions_to_logits(relu):
    replaced, prompt = relu
    one = strongest(prompt, 2)
    effect = dict(replaced.logit_effect(2, one.latent, top=50))
    scale = replaced.stream.last.scale(prompt.pre[-1][-1])
    for token in (4, 9):
        told = prompt.attribute(Logits({token: 1.0}))
        at = told.nodes.index(("feature", 2, one.latent, 5))
        assert told.values[at] == pytest.approx(effect[token] * scale * prompt.codes[2][5, one.latent], rel=1e-4)


# ---------------------------------------------------------------------- graphs
@pytest.mark.parametrize("beam", [4, 15, None])
def test_edges_into_a_node_and_its_rest_sum_to_its_value(llama, beam):
    _, prompt = llama
    graph = attribution_graph(prompt, strongest(prompt, 2), depth=2 if beam is None else 4, beam=beam)
    for node, value in graph.nodes.items():
        into = sum(weight for (_, reader), weight in graph.edges.items() if reader == node)
        if any(reader == node for _, reader in graph.edges) or node in graph.rest:
            assert into + graph.rest[node] == pytest.approx(value, abs=1e-4)
    assert graph.nodes[graph.target] == pytest.approx(graph.value)
    if beam is None:
        assert graph.rest[graph.target] == pytest.approx(0, abs=1e-4)
    else:
        lengths = [len(path.nodes) for path in graph.paths]
        assert max(lengths) <= 5
        assert all(lengths.count(n) <= beam for n in lengths)


def test_one_step_with_all_paths_is_the_attribution(relu):
    _, prompt = relu
    told = prompt.attribute(Logits({4: 1.0}))
    graph = attribution_graph(prompt, Logits({4: 1.0}), depth=1, beam=None)
    assert {path.nodes[1]: path.value for path in graph.paths} == pytest.approx(
        {node: value for node, value in zip(told.nodes, told.values, strict=True) if value != 0}
    )
    top = told.top(3)
    assert [node for node, _ in top] == [path.nodes[1] for path in graph.paths[:3]]
    assert all(node.kind == "feature" for node, _ in told.top(3, "feature"))


def test_a_graph_goes_to_networkx(llama):
    pytest.importorskip("networkx")
    _, prompt = llama
    graph = attribution_graph(prompt, strongest(prompt, 2), depth=3, beam=10)
    other = graph.to_networkx()
    assert set(other.nodes) == set(graph.nodes)
    assert other.number_of_edges() == len(graph.edges)
    assert graph.features(2) == graph.features()[:2]
    assert graph.target not in [("feature", *one) for one in graph.features()]


# ---------------------------------------------------------------------- influence and ablation
@pytest.mark.parametrize("which", ["relu", "skips"])
def test_influence_is_the_sum_over_all_paths(request, which):
    _, prompt = request.getfixturevalue(which)
    target = strongest(prompt, 1, 2)
    graph = attribution_graph(prompt, target, depth=3, beam=None)  # head, feature or skip, and head reach all below layer 1
    found = prompt.influence(target)
    assert list(found) == [0]
    sources = [one for one in graph.features() if one.layer == 0]
    assert len(sources) > 10
    for one in sources:
        assert found[0][one.token, one.latent] == pytest.approx(graph.nodes["feature", *one], abs=1e-5)


def test_influence_runs_through_skips_and_features_of_layers_between():
    rng, model = np.random.default_rng(1), gpt2(heads=1)
    found = {}
    for i in range(3):
        weights = rng.normal(size=(4, 16)), np.ones(4), rng.normal(size=(4, 16)), np.zeros(16)
        found[i] = Transcoder.from_weights(*weights, skip=rng.normal(size=(16, 16)))
    prompt = ReplacementModel(model, found).run([7])  # one token, so that all paths can be gone
    target = strongest(prompt, 2)
    graph = attribution_graph(prompt, target, depth=4, beam=None)  # head, layer 1, head, feature of layer 0
    told = prompt.influence(target)
    for one in graph.features():
        assert told[one.layer][one.token, one.latent] == pytest.approx(graph.nodes["feature", *one], rel=1e-4)
    assert {one.layer for one in graph.features()} == {0, 1}


def test_taking_features_out_of_the_last_mlp_does_exactly_what_attribution_says(relu):
    """Between the last MLP and the logits there is only the last norm, which is made constant here."""
    model = gpt2()
    model.transformer.ln_f = Frozen(model.transformer.ln_f)
    replaced = ReplacementModel(model, exact(model))
    prompt = replaced.run(IDS)
    target = Logits({4: 1.0, 9: -1.0})
    told = [node for node, _ in prompt.attribute(target).top(50, "feature") if node.layer == 2][:3]
    features = [Feature(*node[1:]) for node in told]
    before, after = replaced.ablate(prompt, features, target)
    assert before == pytest.approx(prompt.attribute(target).value, abs=1e-4)
    assert before - after == pytest.approx(sum(dict(prompt.attribute(target).top(99, "feature"))[n] for n in told), abs=1e-3)


class Frozen(torch.nn.Module):
    """A norm that does not look at its input's size."""

    def __init__(self, norm):
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, 1e8

    def forward(self, x):
        return (x - x.mean(dim=-1, keepdim=True)) / 1e4 * self.weight + self.bias


Frozen.__name__ = "FrozenLayerNorm"


def test_influence_foretells_small_changes(relu):
    """The derivative along a feature, where norms and attention are frozen, is near that of the whole network."""
    replaced, prompt = relu
    target = Logits({4: 1.0, 9: -1.0})
    found = prompt.influence(target)
    said, real = [], []
    for layer, latent, token in [Feature(i, int(j), 5) for i in range(3) for j in prompt.codes[i][[5]].indices]:
        before, after = replaced.ablate(prompt, [Feature(layer, latent, token)], target)
        said.append(found[layer][token, latent])
        real.append(before - after)
    assert np.corrcoef(said, real)[0, 1] > 0.8


def test_what_is_removed_lets_nothing_through(relu):
    _, prompt = relu
    target = Logits({4: 1.0})
    early = strongest(prompt, 0)
    late = [Feature(1, int(j), 5) for j in prompt.codes[1][[5]].indices]
    late += [Feature(2, int(j), 5) for j in prompt.codes[2][[5]].indices]
    open_, closed = (prompt.influence(target, removed=one)[0][5, early.latent] for one in ((), late))
    direct = dict(prompt.attribute(target).top(500, "feature"))
    assert abs(open_ - closed) > 1e-3
    assert closed != pytest.approx(direct["feature", 0, early.latent, 5], abs=1e-5)  # by way of attention


def test_the_features_of_a_circuit_matter_more_than_others_that_are_as_active(relu):
    replaced, prompt = relu
    better = []
    for token in range(2, 6):
        for latent in prompt.codes[2][[token]].indices[:4]:
            target = Feature(2, int(latent), token)
            told = replaced.verify(prompt, target, n=4, draws=3)
            found = prompt.influence(target)
            sizes = [abs(found[one.layer][one.token, one.latent]) for one in told.features]
            assert len(sizes) == 4
            assert min(sizes) >= sorted(np.abs(np.concatenate([one.data for one in found.values()])))[-4] - 1e-9
            assert told.value == pytest.approx(prompt.attribute(target).value, abs=1e-4)
            better.append(abs(told.fall) > np.abs(told.others).mean())
    assert np.mean(better) > 0.8
    again = replaced.verify(prompt, target, n=4, draws=3)
    np.testing.assert_array_equal(again.others, told.others)
    assert "without 4 features the target falls from" in str(told)


def test_features_of_a_graph_are_taken_out_as_they_are_by_hand(llama):
    replaced, prompt = llama
    target = strongest(prompt, 2)
    features = attribution_graph(prompt, target, depth=3, beam=20).features(3)
    told = replaced.verify(prompt, target, features, draws=1)
    assert told.features == tuple(features)
    before, after = replaced.ablate(prompt, features, target)
    assert (told.value, told.fall) == pytest.approx((before, before - after), abs=1e-6)


def test_what_cannot_be_verified_is_refused(relu):
    replaced, prompt = relu
    with pytest.raises(InvalidData, match="active features that a target can read"):
        replaced.verify(prompt, strongest(prompt, 0))
    with pytest.raises(InvalidData, match="active features that a target can read"):
        replaced.verify(prompt, strongest(prompt, 1), [strongest(prompt, 2)])
    with pytest.raises(InvalidData, match="other active features below the target, got"):
        replaced.verify(prompt, strongest(prompt, 1), n=10_000)


# ---------------------------------------------------------------------- splices
def test_spliced_with_its_errors_the_network_does_what_it_did(llama):
    replaced, prompt = llama
    ids = torch.as_tensor(IDS)[None]
    with torch.no_grad():
        plain = replaced.model(ids).logits
        with replaced.spliced(errors=prompt):
            same = replaced.model(ids).logits
        with replaced.spliced(where=torch.as_tensor(prompt.replaced)[None]) as told:
            other = replaced.model(ids).logits
            assert sorted(told) == [0, 1, 2]
            assert float(told[0].error[:, 0].abs().max()) == 0  # the first position stays
        after = replaced.model(ids).logits
    torch.testing.assert_close(same, plain, atol=1e-4, rtol=1e-4)
    assert float((other - plain).abs().max()) > 1e-2
    assert torch.equal(after, plain)


def test_changed_codes_change_what_comes_out(relu):
    replaced, _ = relu
    ids = torch.as_tensor(IDS)[None]
    with torch.no_grad():
        plain = replaced.model(ids).logits
        with replaced.spliced({1: lambda z: z}):
            same = replaced.model(ids).logits
        with replaced.spliced({1: lambda z: 0 * z}) as told:
            replaced.model(ids)
            bias = replaced.transcoders[1].maps_.decoder_bias
            np.testing.assert_allclose(told[1].given[0, 0].numpy(), bias, atol=1e-6)
    torch.testing.assert_close(same, plain, atol=1e-4, rtol=1e-4)


def test_the_model_is_left_as_it_was(relu):
    replaced, _ = relu
    assert replaced.model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in replaced.model.modules())


# ---------------------------------------------------------------------- refusals
def test_bad_targets_are_refused(llama):
    _, prompt = llama
    silent = int(np.flatnonzero(prompt.codes[2][[3]].toarray()[0] == 0)[0])
    with pytest.raises(InvalidData, match=f"latent {silent} of layer 2 is not active at token 3.*active most are"):
        prompt.attribute(Feature(2, silent, 3))
    with pytest.raises(InvalidData, match="token from -6 to 5"):
        prompt.attribute(Feature(2, 0, 6))
    with pytest.raises(InvalidData, match="latent from 0 to 63"):
        prompt.attribute(Feature(2, 64, 0))
    with pytest.raises(InvalidData, match="layer as a whole number from 0 to 2, got 3"):
        prompt.attribute(Feature(3, 0, 0))
    with pytest.raises(InvalidData, match="token id from 0 to 49"):
        prompt.attribute(Logits({50: 1.0}))


def test_bad_questions_to_the_weights_are_refused(llama):
    replaced, _ = llama
    with pytest.raises(InvalidData, match="source below layer 1, got 1"):
        replaced.connections(1, 0, 1)
    with pytest.raises(InvalidData, match="heads of falling layers, at most 1"):
        replaced.direction(1, 0, via=[(2, 0)])
    with pytest.raises(InvalidData, match="head from 0 to 3 at layer 1"):
        replaced.direction(1, 0, via=[(1, 4)])
    with pytest.raises(InvalidData, match="no transcoder of layer 7"), replaced.spliced({7: lambda z: z}):
        pass


def test_bad_models_and_transcoders_are_refused(llama, relu):
    replaced, _ = llama
    with pytest.raises(UnsupportedModule, match=r"laid out as Llama .* or GPT-2"):
        ReplacementModel(torch.nn.Linear(3, 3).eval(), replaced.transcoders)
    with pytest.raises(InvalidData, match="layer as a whole number from 0 to 2, got 5"):
        ReplacementModel(replaced.model, {5: replaced.transcoders[0]})
    with pytest.raises(InvalidData, match="at least one transcoder"):
        ReplacementModel(replaced.model, {})
    narrow = Transcoder.from_weights(np.ones((2, 4)), np.zeros(2), np.ones((2, 16)), np.zeros(16))
    with pytest.raises(InvalidData, match=r"from 16 to 16 wide, got \(4, 16\)"):
        ReplacementModel(replaced.model, {0: narrow})
    with pytest.raises(InvalidData, match="filter of positions and tokens"):
        ReplacementModel(replaced.model, replaced.transcoders, keep=norm_above("x", 3.0))
    with pytest.raises(InvalidData, match="token ids of one text"):
        replaced.run([[1, 2], [3, 4]])
    with pytest.raises(InvalidData, match="token ids from 0 to 49"):
        replaced.run([1, 60])


def test_a_model_that_only_looks_like_llama_is_refused():
    shape = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    with seeded(0):
        model = transformers.GemmaForCausalLM(transformers.GemmaConfig(**shape, head_dim=4, num_key_value_heads=1)).eval()
    one = Transcoder.from_weights(np.ones((2, 8)), np.zeros(2), np.ones((2, 8)), np.zeros(8))
    with pytest.raises(UnsupportedModule, match="would not add up"):
        ReplacementModel(model, {0: one}).run([1, 2, 3])
    assert every_position.picks(np.zeros(2), np.arange(2), {}).all()
