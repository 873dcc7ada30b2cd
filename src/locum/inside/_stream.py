"""The residual stream of a transformer: what reads from it and writes to it, as matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, UnsupportedModule
from locum.inside.tap import Site

__all__ = ["Block", "Heads", "Norm", "Stream", "stream_of"]

_FLOATS = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Norm:
    """A norm, which for one token is an affine map once its scale is known.

    Parameters
    ----------
    gain, bias : ndarray of shape (d,)
    eps : float
    centred : bool
        Whether the mean is taken off first (LayerNorm), or not (RMSNorm).
    """

    gain: _FLOATS
    bias: _FLOATS
    eps: float
    centred: bool

    def scale(self, x: _FLOATS) -> _FLOATS:
        """What tokens are multiplied by, from rows of shape (n, d) to shape (n,)."""
        y = x - x.mean(axis=-1, keepdims=True) if self.centred else x
        return 1.0 / np.sqrt((y**2).mean(axis=-1) + self.eps)

    def pull(self, f: _FLOATS) -> _FLOATS:
        """A vector that reads what comes out as one that reads what goes in, but for the scale and the bias."""
        g = f * self.gain
        return g - g.mean(axis=-1, keepdims=True) if self.centred else g

    def __call__(self, x: _FLOATS) -> _FLOATS:
        y = x - x.mean(axis=-1, keepdims=True) if self.centred else x
        return y * self.scale(x)[..., None] * self.gain + self.bias


@dataclass(frozen=True)
class Heads:
    """Values and outputs of attention heads.

    Parameters
    ----------
    value : ndarray of shape (value heads, k, d)
    value_bias : ndarray of shape (value heads, k)
    out : ndarray of shape (heads, d, k)
    out_bias : ndarray of shape (d,)
    """

    value: _FLOATS
    value_bias: _FLOATS
    out: _FLOATS
    out_bias: _FLOATS

    def __len__(self) -> int:
        return len(self.out)

    @property
    def shared(self) -> NDArray[np.int64]:
        """Value head of each head: several heads share one where keys and values are grouped."""
        return np.arange(len(self.out)) // (len(self.out) // len(self.value))

    def inner(self, f: _FLOATS) -> _FLOATS:
        """Vectors that read the stream after attention as ones that read each head's values, (..., d) to (..., heads, k)."""
        return np.einsum("...d,hdk->...hk", f, self.out, optimize=True)

    def pull(self, f: _FLOATS) -> _FLOATS:
        """Vectors that read each head's input (after the norm), (..., d) to (..., heads, d): the transposed OV circuit."""
        return np.einsum("...hk,hkd->...hd", self.inner(f), self.value[self.shared], optimize=True)


@dataclass(frozen=True)
class Block:
    """One layer: attention after a norm, then an MLP after a norm."""

    before: Norm
    heads: Heads
    middle: Norm


@dataclass(frozen=True)
class Stream:
    """All layers, embeddings, and the head that gives the logits.

    Parameters
    ----------
    blocks : tuple of Block
    embedding, unembedding : ndarrays of shape (vocabulary, d)
    positions : ndarray of shape (longest text, d) or None
        Where positions are added to the stream.
    last : Norm
    sites : dict
        "pre 0", "attention 0", "mid 0", "in 0", "out 0" and so on for each layer, and "last": site in the model.
    """

    blocks: tuple[Block, ...]
    embedding: _FLOATS
    unembedding: _FLOATS
    positions: _FLOATS | None
    last: Norm
    sites: Mapping[str, Site]

    @property
    def width(self) -> int:
        return int(self.embedding.shape[1])


def stream_of(model: Any) -> Stream:
    """The stream of a causal language model of transformers that is laid out as Llama or as GPT-2.

    Raises
    ------
    UnsupportedModule
        Another layout; the module that is missing or is of another kind is named.
    """
    for read in (_llama, _gpt2):
        found = read(model)
        if found is not None:
            return found
    raise UnsupportedModule(
        f"expected a causal language model laid out as Llama (model.layers.0.self_attn.o_proj) or GPT-2 "
        f"(transformer.h.0.attn.c_proj), got {type(model).__name__}"
    )


def _numbers(tensor: Any) -> _FLOATS:
    found: _FLOATS = tensor.detach().cpu().float().numpy()
    return found


def _bias(module: Any, width: int) -> _FLOATS:
    bias = getattr(module, "bias", None)
    return np.zeros(width, dtype=np.float32) if bias is None else _numbers(bias)


def _norm(module: Any, name: str) -> Norm:
    """A LayerNorm or an RMSNorm; that it does what is written here is checked on each prompt."""
    eps = getattr(module, "eps", getattr(module, "variance_epsilon", None))
    weight = getattr(module, "weight", None)
    if eps is None or weight is None:
        raise UnsupportedModule(f"the module {name!r} ({type(module).__name__}) is no LayerNorm or RMSNorm with a gain")
    return Norm(_numbers(weight), _bias(module, len(weight)), float(eps), "LayerNorm" in type(module).__name__)


def _sites(names: Mapping[str, tuple[str, str]], layers: int, prefix: str, last: str) -> dict[str, Site]:
    found = {
        f"{what} {layer}": Site(f"{prefix}.{layer}.{module}", side)
        for layer in range(layers)
        for what, (module, side) in names.items()
    }
    return found | {"last": Site(last, "in")}


def _part(model: Any, name: str) -> Any:
    """A module by its dotted name."""
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise UnsupportedModule(
            f"there is no module {name!r} in {type(model).__name__}, which a model of its kind has"
        ) from None


def _llama(model: Any) -> Stream | None:
    body: Any = getattr(model, "model", None)
    if not hasattr(body, "layers") or not hasattr(body, "embed_tokens"):
        return None
    blocks = []
    for i, layer in enumerate(body.layers):
        names = ("input_layernorm", "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp")
        before, value, out, middle, _ = (_part(layer, name) for name in names)
        size, d = layer.self_attn.head_dim, value.weight.shape[1]
        heads = Heads(
            _numbers(value.weight).reshape(-1, size, d), _bias(value, len(value.weight)).reshape(-1, size),
            _numbers(out.weight).reshape(d, -1, size).swapaxes(0, 1), _bias(out, d),
        )  # fmt: skip
        where = f"model.layers.{i}"
        blocks.append(
            Block(_norm(before, f"{where}.input_layernorm"), heads, _norm(middle, f"{where}.post_attention_layernorm"))
        )
    names_of = {
        "pre": ("input_layernorm", "in"), "attention": ("self_attn", "out"), "mid": ("post_attention_layernorm", "in"),
        "in": ("mlp", "in"), "out": ("mlp", "out"),
    }  # fmt: skip
    sites = _sites(names_of, len(blocks), "model.layers", "model.norm")
    out = _part(model, "lm_head")
    _no_bias(out)
    last = _norm(_part(model, "model.norm"), "model.norm")
    return Stream(tuple(blocks), _numbers(body.embed_tokens.weight), _numbers(out.weight), None, last, sites)


def _gpt2(model: Any) -> Stream | None:
    body: Any = getattr(model, "transformer", None)
    if not hasattr(body, "h") or not hasattr(body, "wte") or not hasattr(body, "wpe"):
        return None
    blocks = []
    for i, layer in enumerate(body.h):
        before, joint, out, middle, _ = (_part(layer, name) for name in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp"))
        count, size = layer.attn.num_heads, layer.attn.head_dim
        d = count * size
        if tuple(joint.weight.shape) != (d, 3 * d):
            raise UnsupportedModule(f"expected transformer.h.{i}.attn.c_attn of shape {(d, 3 * d)}, got {joint.weight.shape}")
        heads = Heads(
            _numbers(joint.weight)[:, 2 * d :].T.reshape(count, size, d),
            _numbers(joint.bias)[2 * d :].reshape(count, size),
            _numbers(out.weight).T.reshape(d, count, size).swapaxes(0, 1), _numbers(out.bias),
        )  # fmt: skip
        where = f"transformer.h.{i}"
        blocks.append(Block(_norm(before, f"{where}.ln_1"), heads, _norm(middle, f"{where}.ln_2")))
    names_of = {
        "pre": ("ln_1", "in"), "attention": ("attn", "out"), "mid": ("ln_2", "in"), "in": ("mlp", "in"), "out": ("mlp", "out"),
    }  # fmt: skip
    sites = _sites(names_of, len(blocks), "transformer.h", "transformer.ln_f")
    out = _part(model, "lm_head")
    _no_bias(out)
    last = _norm(_part(model, "transformer.ln_f"), "transformer.ln_f")
    return Stream(tuple(blocks), _numbers(body.wte.weight), _numbers(out.weight), _numbers(body.wpe.weight), last, sites)


def _no_bias(head: Any) -> None:
    if getattr(head, "bias", None) is not None:
        raise UnsupportedModule("the module 'lm_head' has a bias, which a model of its kind has not")


def check_layer(stream: Stream, layer: Any, what: str = "layer") -> int:
    """A layer's number, refused where there is no such layer."""
    count = len(stream.blocks)
    if isinstance(layer, bool) or not isinstance(layer, int | np.integer) or not 0 <= layer < count:
        raise InvalidData(f"expected {what} as a whole number from 0 to {count - 1}, got {layer!r}")
    return int(layer)
