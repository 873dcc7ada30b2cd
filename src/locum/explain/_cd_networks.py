"""How the transformers that can be decomposed are put together: embeddings, blocks, and what reads the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from locum.core.errors import InvalidData
from locum.explain._cd_rules import Rules, Split, rope

__all__ = ["ADAPTERS", "Network", "network"]


class Network(ABC):
    """A transformer as the steps of its forward pass, on splits.

    Attributes
    ----------
    heads, keys, width : int
        Attention heads, heads that give keys and values, and the width of one.
    causal : bool
    scale : float
        Of the scores of attention; blocks may change it.
    """

    causal = True
    kept: tuple[str, ...] = ()  # classes that only hold others together

    def __init__(self, model: Any, rules: Rules, head: Any) -> None:
        self.model, self.rules, self.head = model, rules, head
        self._check()

    # ------------------------------------------------------------------ what a kind of transformer says
    @property
    @abstractmethod
    def blocks(self) -> list[Any]: ...

    @abstractmethod
    def embedding(self, ids: Tensor) -> Tensor:
        """Sum of the embeddings, shape (prompts, length, d)."""

    def embedded(self, x: Split) -> Split:
        """What goes into the first block."""
        return x

    @abstractmethod
    def queries_keys_values(self, layer: int, x: Split) -> tuple[Split, Split, Split]:
        """Each of shape (..., length, heads, width)."""

    @abstractmethod
    def after_heads(self, layer: int, x: Split, z: Split) -> Split:
        """From what went into a block and what its heads put out, shape (..., length, heads · width), to what leaves it."""

    @abstractmethod
    def answer(self, x: Split, position: Tensor) -> Split:
        """Logits of shape (..., prompts, classes), read at one position of each prompt where the model has one a token."""

    def scale(self, layer: int) -> float:
        return self.width**-0.5

    # ------------------------------------------------------------------ what all share
    @property
    def heads(self) -> int:
        return int(self.model.config.num_attention_heads)

    @property
    def keys(self) -> int:
        return int(getattr(self.model.config, "num_key_value_heads", None) or self.heads)

    @property
    def width(self) -> int:
        return int(getattr(self.model.config, "head_dim", None) or self.model.config.hidden_size // self.heads)

    @property
    def layers(self) -> int:
        return len(self.blocks)

    def by_head(self, part: Split) -> Split:
        """Split the last axis into heads of one width; keys and values are repeated for the queries that share them."""
        apart = part.map(lambda t: t.unflatten(-1, (-1, self.width)))
        if apart.total.shape[-2] == self.heads:
            return apart
        return apart.map(lambda t: t.repeat_interleave(self.heads // self.keys, dim=-2))

    def logits(self, ids: Tensor, position: Tensor) -> Tensor:
        """What the model itself answers, without any rule."""
        out = self.model(input_ids=ids).logits
        return out if out.ndim == 2 else out[torch.arange(len(ids), device=ids.device), position]

    def _check(self) -> None:
        for name, module in self.model.named_modules():
            if name and type(module).__name__ not in self.kept and not isinstance(module, nn.ModuleList | nn.Embedding):
                self.rules.table.rule(module, name)
        if self.head is not None:
            raise InvalidData(f"{type(self.model).__name__} has logits of its own; leave out head=")


class _Llama(Network):
    kept = (
        "LlamaModel", "LlamaDecoderLayer", "LlamaAttention", "LlamaMLP", "LlamaRotaryEmbedding",
    )  # fmt: skip

    @property
    def blocks(self) -> list[Any]:
        return list(self.model.model.layers)

    def embedding(self, ids: Tensor) -> Tensor:
        return self.model.model.embed_tokens(ids)

    def queries_keys_values(self, layer: int, x: Split) -> tuple[Split, Split, Split]:
        block, rules = self.blocks[layer], self.rules
        inside, heads = rules(x, block.input_layernorm), block.self_attn
        places = torch.arange(x.total.shape[-2], device=x.total.device)[None]
        rotate = rope(*(one[0] for one in self.model.model.rotary_emb(x.total, places)))
        q, k = (self.by_head(rules(inside, one)).map(rotate) for one in (heads.q_proj, heads.k_proj))
        return q, k, self.by_head(rules(inside, heads.v_proj))

    def after_heads(self, layer: int, x: Split, z: Split) -> Split:
        block, rules = self.blocks[layer], self.rules
        x = x + rules(z, block.self_attn.o_proj)
        inside, mlp = rules(x, block.post_attention_layernorm), block.mlp
        u, v = (rules.cleanup(rules(inside, one)) for one in (mlp.gate_proj, mlp.up_proj))
        return rules.cleanup(x + rules.cleanup(rules(rules.gate(u, mlp.act_fn, v), mlp.down_proj)))

    def answer(self, x: Split, position: Tensor) -> Split:
        return self.rules(self.rules(_at(x, position), self.model.model.norm), self.model.lm_head)


class _GPT2(Network):
    kept = ("GPT2Model", "GPT2Block", "GPT2Attention", "GPT2MLP")

    @property
    def blocks(self) -> list[Any]:
        return list(self.model.transformer.h)

    def embedding(self, ids: Tensor) -> Tensor:
        inside = self.model.transformer
        return inside.wte(ids) + inside.wpe(torch.arange(ids.shape[1], device=ids.device))

    def scale(self, layer: int) -> float:
        return self.blocks[layer].attn.scaling

    def queries_keys_values(self, layer: int, x: Split) -> tuple[Split, Split, Split]:
        block = self.blocks[layer]
        all_three = self.rules(self.rules(x, block.ln_1), block.attn.c_attn)
        q, k, v = (
            self.by_head(all_three.map(lambda t, i=i: t.chunk(3, dim=-1)[i]))  # type: ignore[misc]
            for i in range(3)
        )
        return q, k, v

    def after_heads(self, layer: int, x: Split, z: Split) -> Split:
        block, rules = self.blocks[layer], self.rules
        x = x + rules(z, block.attn.c_proj)
        first = rules.cleanup(rules(rules(x, block.ln_2), block.mlp.c_fc))
        return rules.cleanup(x + rules.cleanup(rules(rules(first, block.mlp.act), block.mlp.c_proj)))

    def answer(self, x: Split, position: Tensor) -> Split:
        return self.rules(self.rules(_at(x, position), self.model.transformer.ln_f), self.model.lm_head)

    def _check(self) -> None:
        super()._check()
        if self.model.config.add_cross_attention:
            raise InvalidData("expected a GPT-2 without cross-attention; there is no rule for what comes from an encoder")


class _Bert(Network):
    causal = False
    kept = (
        "BertModel", "BertEmbeddings", "BertEncoder", "BertLayer", "BertAttention", "BertSelfAttention", "BertSelfOutput",
        "BertIntermediate", "BertOutput", "BertPooler",
    )  # fmt: skip

    @property
    def _inside(self) -> Any:
        return getattr(self.model, "bert", self.model)

    @property
    def blocks(self) -> list[Any]:
        return list(self._inside.encoder.layer)

    def embedding(self, ids: Tensor) -> Tensor:
        first = self._inside.embeddings
        places = torch.arange(ids.shape[1], device=ids.device)
        return first.word_embeddings(ids) + first.position_embeddings(places) + first.token_type_embeddings.weight[0]

    def embedded(self, x: Split) -> Split:
        return self.rules(x, self._inside.embeddings.LayerNorm)

    def queries_keys_values(self, layer: int, x: Split) -> tuple[Split, Split, Split]:
        heads = self.blocks[layer].attention.self
        q, k, v = (self.by_head(self.rules(x, one)) for one in (heads.query, heads.key, heads.value))
        return q, k, v

    def after_heads(self, layer: int, x: Split, z: Split) -> Split:
        block, rules = self.blocks[layer], self.rules
        out = block.attention.output
        x = rules.cleanup(rules(x + rules.cleanup(rules(z, out.dense)), out.LayerNorm))
        first = rules.cleanup(rules(x, block.intermediate.dense))
        second = rules.cleanup(rules(rules(first, block.intermediate.intermediate_act_fn), block.output.dense))
        return rules.cleanup(rules(x + second, block.output.LayerNorm))

    def answer(self, x: Split, position: Tensor) -> Split:
        if self.head is not None:
            return self.rules(x.map(lambda t: t.mean(dim=-2)), self.head)
        pooler = self._inside.pooler
        pooled = self.rules(self.rules(x.map(lambda t: t[..., 0, :]), pooler.dense), pooler.activation)
        return self.rules(pooled, self.model.classifier)

    def logits(self, ids: Tensor, position: Tensor) -> Tensor:
        if self.head is None:
            return super().logits(ids, position)
        return self.head(self.model(input_ids=ids).last_hidden_state.mean(dim=1))

    def _check(self) -> None:
        given, self.head = self.head, None
        super()._check()
        self.head, name = given, type(self.model).__name__
        if self.model.config.is_decoder or not hasattr(self._inside, "encoder"):
            raise InvalidData(f"expected a BERT that is an encoder, got {name} as a decoder")
        if name == "BertModel" and not isinstance(given, nn.Linear):
            raise InvalidData("BertModel has no logits; give head=, a torch.nn.Linear on the mean of its last states")
        if name != "BertModel" and given is not None:
            raise InvalidData(f"{name} has logits of its own; leave out head=")


ADAPTERS: dict[str, tuple[type[Network], tuple[str, ...]]] = {
    "llama": (_Llama, ("LlamaForCausalLM",)),
    "gpt2": (_GPT2, ("GPT2LMHeadModel",)),
    "bert": (_Bert, ("BertModel", "BertForSequenceClassification")),
}


def network(model: Any, adapter: str, rules: Rules, head: Any) -> Network:
    """The steps of a model.

    Raises
    ------
    InvalidData
        A model of another kind, or in train mode.
    UnsupportedModule
        A module in it that has no rule.
    """
    if not isinstance(model, nn.Module):
        raise InvalidData(f"expected a model of transformers, a torch.nn.Module, got {type(model).__name__}")
    if adapter != "auto" and adapter not in ADAPTERS:
        raise InvalidData(f"expected adapter= to be one of auto, {', '.join(ADAPTERS)}, got {adapter!r}")
    name = type(model).__name__
    for key, (kind, names) in ADAPTERS.items():
        if name in names and adapter in ("auto", key):
            if model.training:
                raise InvalidData("expected a model in eval mode, since dropout changes its answers; call model.eval() first")
            return kind(model, rules, head)
    known = ", ".join(one for key, (_, names) in ADAPTERS.items() if adapter in ("auto", key) for one in names)
    raise InvalidData(f"there is no adapter for {name}; there are some for {known}")


def _at(x: Split, position: Tensor) -> Split:
    """The state of each prompt at its position."""
    rows = torch.arange(len(position), device=position.device)
    return x.map(lambda t: t[..., rows, position, :])
