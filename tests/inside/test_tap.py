"""Activations by name: the same as the model's own, one pass for all, and nothing is left behind."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from locum.core.errors import InvalidData  # noqa: E402
from locum.inside import CalledTwice, Site, Tap, attention_sites  # noqa: E402

IDS = torch.arange(1, 25).reshape(2, 12)


def hooks(model):
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.modules())


def tap_of(model):
    return Tap(
        model,
        {
            "res": "model.layers.1",
            "mlp.in": ("model.layers.1.mlp", "in"),
            "mlp.out": "model.layers.1.mlp",
            "hidden": ("model.layers.1.mlp.down_proj", "in"),
            **attention_sites(model, "model.layers.1"),
        },
    )


def test_rows_are_those_of_the_models_own_hidden_states(language_model):
    found = tap_of(language_model).read(IDS)
    own = language_model(IDS, output_hidden_states=True).hidden_states
    assert torch.equal(found["res"], own[2])
    block = language_model.model.layers[1]
    assert torch.equal(found["mlp.out"], block.mlp(found["mlp.in"]))
    assert torch.equal(found["mlp.out"], block.mlp.down_proj(found["hidden"]))


def test_heads_are_views_of_what_the_projections_give(language_model):
    found = tap_of(language_model).read(IDS)
    assert found["q"].shape == found["z"].shape == (2, 12, 4, 4)
    assert found["k"].shape == found["v"].shape == (2, 12, 2, 4)
    attended = language_model.model.layers[1].self_attn.o_proj(found["z"].flatten(-2))
    assert torch.allclose(own_input(language_model, 1) + attended + found["mlp.out"], found["res"], atol=1e-6)


def own_input(model, layer):
    return model(IDS, output_hidden_states=True).hidden_states[layer]


def test_a_pass_stops_after_the_deepest_site(language_model):
    tap, ran = tap_of(language_model), []
    handle = language_model.model.layers[2].register_forward_hook(lambda *_: ran.append("layer 2"))
    try:
        first = tap.read(IDS)
        assert ran == ["layer 2"]  # to see that nothing is called twice
        again = tap.read(IDS)
        assert ran == ["layer 2"]
    finally:
        handle.remove()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_nothing_is_left_behind_also_after_an_exception(language_model):
    tap, before = tap_of(language_model), hooks(language_model)
    tap.read(IDS)
    with pytest.raises(ZeroDivisionError), tap.edit("res", lambda h: h / (1 // 0)):
        language_model(IDS)
    with pytest.raises(RuntimeError, match="stopped"), tap.replace("mlp.out", torch.nn.Identity(), source="mlp.in"):
        raise RuntimeError("stopped")
    assert hooks(language_model) == before


def test_hooks_that_change_nothing_leave_outputs_the_same_to_the_bit(language_model):
    tap, plain = tap_of(language_model), language_model(IDS).logits
    with tap.edit("res", lambda h: h), tap.edit("q", lambda h: h, positions=[0, -1]), tap.replace("mlp.out", lambda h: h):
        assert torch.equal(language_model(IDS).logits, plain)
    with tap.replace("mlp.out", language_model.model.layers[1].mlp, source="mlp.in") as told:
        assert torch.equal(language_model(IDS).logits, plain)
        assert not told.error.any()


def test_an_edit_is_seen_downstream_and_only_where_it_was_made(language_model):
    tap = tap_of(language_model)
    plain = language_model(IDS).logits
    with tap.edit("res", lambda h: h + 1.0, positions=5):
        changed = language_model(IDS).logits
    assert torch.equal(changed[:, :5], plain[:, :5])
    assert not torch.allclose(changed[:, 5], plain[:, 5])


def test_positions_count_from_the_beginning_of_the_text_when_it_is_generated_piece_by_piece(language_model):
    tap = tap_of(language_model)
    with tap.edit("res", lambda h: h + 1.0, positions=8):
        whole = language_model(IDS).logits[:, -1]
        cache = transformers.DynamicCache(config=language_model.config)
        language_model(IDS[:, :8], cache=cache)
        pieces = language_model(IDS[:, 8:], cache=cache).logits[:, -1]
    assert torch.allclose(whole, pieces, atol=1e-5)
    assert not torch.allclose(whole, language_model(IDS).logits[:, -1], atol=1e-3)


def test_edits_compose_in_the_order_they_were_made(language_model):
    tap = tap_of(language_model)
    with tap.edit("res", lambda h: h + 1.0), tap.edit("res", lambda h: 3.0 * h):
        found = tap.read(IDS)["res"]
    assert torch.allclose(found, 3.0 * (tap.read(IDS)["res"] + 1.0))


def test_a_head_can_be_silenced(language_model):
    tap = tap_of(language_model)

    def without_second(z):
        z = z.clone()
        z[..., 1, :] = 0.0
        return z

    with tap.edit("z", without_second):
        found = tap.read(IDS)
    assert not found["z"][..., 1, :].any()
    assert found["z"][..., 0, :].any()


def test_gradients_reach_what_stands_in(language_model):
    tap = tap_of(language_model)
    stand_in = torch.nn.Linear(16, 16)
    with tap.replace("mlp.out", stand_in, source="mlp.in") as told:
        language_model(IDS).logits.square().mean().backward()
    assert stand_in.weight.grad.abs().sum() > 0
    assert torch.equal(told.original - told.given, told.error)
    assert all(one.grad is None for one in language_model.parameters())


def test_elsewhere_the_original_stays(language_model):
    tap = tap_of(language_model)
    with tap.replace("res", torch.zeros_like) as told:
        told.where = torch.arange(12).expand(2, 12) >= 3
        language_model(IDS)
    assert torch.equal(told.given[:, :3], told.original[:, :3])
    assert not told.given[:, 3:].any()


def test_names_that_are_not_there_are_refused_with_near_ones(language_model):
    with pytest.raises(InvalidData, match=r"no module 'model.layers.9' in the model; near names are model\.layers\.\d"):
        Tap(language_model, {"res": "model.layers.9"})
    with pytest.raises(InvalidData, match="there is no site 'rse'; there is res"), tap_of(language_model).edit("rse", abs):
        pass
    with pytest.raises(InvalidData, match="expected side= to be one of in, out"):
        Site("model", "middle")
    with pytest.raises(InvalidData, match="which 5 heads do not divide"):
        Tap(language_model, {"z": ("model.layers.0.self_attn.o_proj", "in", 5)}).read(IDS)


class Shared(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one = torch.nn.Linear(3, 3)
        self.pair = torch.nn.Identity()
        self.idle = torch.nn.Identity()

    def forward(self, x):
        self.pair({"x": x})
        return self.one(self.one(x))


def test_a_module_called_twice_and_one_without_a_tensor_are_refused():
    net = Shared().eval()
    with pytest.raises(CalledTwice, match=r"'one' .*was called twice in one pass"):
        Tap(net, {"one": "one"}).read(torch.ones(2, 3))
    with pytest.raises(CalledTwice, match="called twice"), Tap(net, {"one": "one"}).edit("one", lambda h: h):
        net(torch.ones(2, 3))
    with pytest.raises(InvalidData, match=r"expected a tensor at the site 'pair' .*got dict"):
        Tap(net, {"pair": "pair"}).read(torch.ones(2, 3))
    with pytest.raises(InvalidData, match=r"'idle' .* took no part"):
        Tap(net, {"idle": "idle"}).read(torch.ones(2, 3))
    with pytest.raises(InvalidData, match=r"call model.eval"):
        Tap(Shared(), {"one": "one"})


def test_a_stand_in_of_another_shape_or_a_later_source_is_refused(language_model):
    tap = tap_of(language_model)
    refused = pytest.raises(InvalidData, match=r"expected a stand-in for 'res' of shape \(2, 12, 16\), got \(2, 12, 8\)")
    with refused, tap.replace("res", lambda h: h[..., :8]):
        language_model(IDS)
    with pytest.raises(InvalidData, match=r"'res' comes after 'mlp.out'"), tap.replace("mlp.out", abs, source="res"):
        language_model(IDS)


def test_the_hash_follows_the_weights(language_model):
    tap = tap_of(language_model)
    other = Tap(torch.nn.Linear(2, 2).eval(), {"x": ""})
    assert tap.model_hash == Tap(language_model, {"a": "model"}).model_hash
    assert other.model_hash != tap.model_hash
