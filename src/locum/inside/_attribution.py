"""One prompt through a network whose MLPs are read through transcoders: who writes what, and who reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from locum.core.errors import InvalidData
from locum.inside._stream import Stream, check_layer

__all__ = ["Attributions", "Feature", "Logits", "Maps", "Node", "Prompt", "Reader"]

_FLOATS = NDArray[np.floating[Any]]


class Feature(NamedTuple):
    """A latent of the transcoder of a layer, at a token.

    Parameters
    ----------
    layer, latent : int
    token : int
        Position; negative ones count from the end.
    """

    layer: int
    latent: int
    token: int


@dataclass(frozen=True)
class Logits:
    """A weighted sum of logits at a token.

    Parameters
    ----------
    weights : dict of int to float
        By token id; ``{a: 1.0, b: -1.0}`` is a difference.
    token : int, default=-1
        Position that predicts; negative ones count from the end.
    """

    weights: Mapping[int, float]
    token: int = -1


class Node(NamedTuple):
    """What writes to the residual stream, or reads from it.

    Parameters
    ----------
    kind : str
        "feature"; "head", with the token that is attended to; "skip", the linear part of a transcoder; and those that are not
        followed further: "embedding", "position", "error" (of a transcoder), "mlp" (a whole one, where none stands in),
        "bias" (of a layer), "constant" (of the reader itself). The target is of the kind "feature" or "logits".
    layer : int
        -1 for embeddings, positions and constants.
    unit : int
        Latent or head; -1 for the others.
    token : int
    """

    kind: str
    layer: int
    unit: int
    token: int

    def __str__(self) -> str:
        name = self.kind if self.layer < 0 else f"{self.kind} {self.layer}" + (f".{self.unit}" if self.unit >= 0 else "")
        return f"{name} at {self.token}"


class Reader(NamedTuple):
    """``factor * direction @ stream + constant``, of the stream before a layer's attention or (middle) its MLP, at a token."""

    direction: _FLOATS
    factor: float
    constant: float
    layer: int
    middle: bool
    token: int


class Maps(NamedTuple):
    """What a transcoder does, as matrices.

    Attributes
    ----------
    encoder, bias : ndarrays of shape (latents, width in) and (latents,)
        ``encoder @ x + bias`` is the pre-activation, and the code itself where a latent is active.
    decoder, decoder_bias : ndarrays of shape (latents, width out) and (width out,)
    skip : ndarray of shape (width out, width in) or None
        Linear map of the input that is added.
    """

    encoder: _FLOATS
    bias: _FLOATS
    decoder: _FLOATS
    decoder_bias: _FLOATS
    skip: _FLOATS | None


@dataclass(frozen=True)
class Attributions:
    """What each source adds to a target, which they sum to.

    Attributes
    ----------
    target : Node
    value : float
        The target's pre-activation, or its logits.
    nodes : tuple of Node
    values : ndarray of shape (nodes,)
    dependent, invariant : ndarrays of shape (nodes,)
        Factors of the values: what depends on the input (activation, attention scores, scales of norms), and what the weights
        alone say. For features and embeddings; NaN for others.
    """

    target: Node
    value: float
    nodes: tuple[Node, ...]
    values: _FLOATS
    dependent: _FLOATS
    invariant: _FLOATS

    def top(self, n: int = 10, kind: str | None = None) -> list[tuple[Node, float]]:
        """The sources with the largest values, by size.

        Parameters
        ----------
        n : int, default=10
        kind : str or None, default=None
            Of these alone.
        """
        order = [i for i in np.argsort(-np.abs(self.values)) if kind is None or self.nodes[i].kind == kind]
        return [(self.nodes[i], float(self.values[i])) for i in order[:n]]


@final
@dataclass(frozen=True)
class Prompt:
    """What happened on one prompt; see :meth:`ReplacementModel.run <locum.inside.ReplacementModel.run>`.

    Attributions hold attention scores, the scales of norms, and which latents are active at what they were. Then everything
    is linear: what the embedding, each active latent, each head from each token and all biases write to the residual stream
    sums to what a target reads there, and each of those is read in the same way again.

    Attributes
    ----------
    tokens : ndarray of int, shape (n,)
    stream : Stream
        Weights of the model.
    maps : dict of int to Maps
        Weights of the transcoders by layer.
    pre, middle : tuples of ndarray of shape (n, width)
        The stream before each layer's attention, and before its MLP; `pre` has one more, after the last layer.
    patterns : tuple of ndarray of shape (heads, n, n)
        Attention scores, from each token (second axis) to each token.
    codes : dict of int to sparse array of shape (n, latents)
        Empty lines where the transcoder does not stand in.
    errors : tuple of ndarray of shape (n, width)
        Output of each MLP less that of its transcoder, or the whole output where none stands in.
    replaced : ndarray of bool, shape (n,)
        Tokens at which transcoders stand in.
    """

    tokens: NDArray[np.int64]
    stream: Stream
    maps: Mapping[int, Maps]
    pre: tuple[_FLOATS, ...]
    middle: tuple[_FLOATS, ...]
    patterns: tuple[_FLOATS, ...]
    codes: Mapping[int, sparse.csr_array]
    errors: tuple[_FLOATS, ...]
    replaced: NDArray[np.bool_]

    # ------------------------------------------------------------------ frozen numbers
    @cached_property
    def before_scales(self) -> list[_FLOATS]:
        """Of the norm before each layer's attention, shape (n,) each."""
        return [b.before.scale(x) for b, x in zip(self.stream.blocks, self.pre[:-1], strict=True)]

    @cached_property
    def middle_scales(self) -> list[_FLOATS]:
        """Of the norm before each layer's MLP, shape (n,) each."""
        return [b.middle.scale(x) for b, x in zip(self.stream.blocks, self.middle, strict=True)]

    @cached_property
    def values(self) -> list[_FLOATS]:
        """Values of each layer's attention, shape (n, heads, k) each."""
        found = []
        for block, x in zip(self.stream.blocks, self.pre[:-1], strict=True):
            value = np.einsum("nd,hkd->nhk", block.before(x), block.heads.value, optimize=True) + block.heads.value_bias
            found.append(value[:, block.heads.shared])
        return found

    # ------------------------------------------------------------------ targets
    def reader(self, target: Feature | Logits) -> tuple[Node, Reader]:
        """How a target reads the stream.

        Parameters
        ----------
        target : Feature or Logits

        Raises
        ------
        InvalidData
            No such layer, transcoder, latent or token, or a latent that is not active there.
        """
        if isinstance(target, Logits):
            return self._logits_reader(target)
        layer, latent, token = target
        layer = check_layer(self.stream, layer)
        if layer not in self.maps:
            raise InvalidData(f"there is no transcoder of layer {layer}; there is one of {sorted(self.maps)}")
        count = len(self.maps[layer].encoder)
        if not 0 <= latent < count:
            raise InvalidData(f"expected a latent from 0 to {count - 1} at layer {layer}, got {latent}")
        token = self._token(token)
        if self.codes[layer][token, latent] == 0:
            index, z = self._active(layer, token)
            most = f"active most are {', '.join(map(str, index[np.argsort(-z)[:3]]))}" if len(index) else "none is active there"
            raise InvalidData(
                f"latent {latent} of layer {layer} is not active at token {token}, so nothing can be attributed to it; {most}"
            )
        return Node("feature", layer, int(latent), token), self._feature_reader(Feature(layer, int(latent), token), 1.0, 1.0)

    def _token(self, token: int) -> int:
        n = len(self.tokens)
        if not -n <= token < n:
            raise InvalidData(f"expected a token from {-n} to {n - 1} of this prompt, got {token}")
        return int(token % n)

    def _logits_reader(self, target: Logits) -> tuple[Node, Reader]:
        vocabulary, token = len(self.stream.unembedding), self._token(target.token)
        if not target.weights or not all(0 <= one < vocabulary for one in target.weights):
            raise InvalidData(f"expected weights= by token id from 0 to {vocabulary - 1}, got {dict(target.weights)}")
        ids, weights = list(target.weights), np.array(list(target.weights.values()), dtype=float)
        f, norm = weights @ self.stream.unembedding[ids].astype(float), self.stream.last
        scale = float(norm.scale(self.pre[-1][token]))
        layer = len(self.stream.blocks)
        return Node("logits", layer, -1, token), Reader(norm.pull(f), scale, float(f @ norm.bias), layer, False, token)

    def _feature_reader(self, at: Feature, weight: float, factor: float) -> Reader:
        """Reads ``factor * weight * pre-activation``; the weight is a matter of the weights alone."""
        maps, norm = self.maps[at.layer], self.stream.blocks[at.layer].middle
        row = maps.encoder[at.latent].astype(float)
        constant = factor * weight * (float(maps.bias[at.latent]) + float(row @ norm.bias))
        scale = float(self.middle_scales[at.layer][at.token])
        return Reader(weight * norm.pull(row), factor * scale, constant, at.layer, True, at.token)

    def read(self, reader: Reader) -> float:
        """What a reader finds.

        Parameters
        ----------
        reader : Reader
        """
        stream = (self.middle if reader.middle else self.pre)[reader.layer][reader.token]
        return float(reader.factor * (reader.direction @ stream) + reader.constant)

    # ------------------------------------------------------------------ one step back
    def attribute(self, target: Feature | Logits) -> Attributions:
        """What each source adds to a target directly, and through attention heads one by one.

        Parameters
        ----------
        target : Feature or Logits

        Returns
        -------
        Attributions
            Whose values sum to the target's pre-activation (logits) to the precision of the model's own arithmetic.
        """
        node, reader = self.reader(target)
        return self.sources(node, reader)

    def sources(self, node: Node, reader: Reader) -> Attributions:
        """What each source adds to what a reader finds.

        Parameters
        ----------
        node : Node
            Whose reader it is.
        reader : Reader
        """
        nodes: list[Node] = []
        parts: list[_FLOATS] = []
        for some, values, dependent, invariant in self._pieces(reader):
            nodes += some
            parts.append(np.stack([values, dependent, invariant]))
        values, dependent, invariant = np.concatenate(parts, axis=1)
        return Attributions(node, self.read(reader), tuple(nodes), values, dependent, invariant)

    def _pieces(self, reader: Reader) -> Iterator[tuple[list[Node], _FLOATS, _FLOATS, _FLOATS]]:
        """Nodes with their values and the two factors of these, source by source."""
        f, factor, t = reader.direction, reader.factor, reader.token

        def plain(kind: str, layer: int, value: float) -> tuple[list[Node], _FLOATS, _FLOATS, _FLOATS]:
            unknown = np.array([np.nan])
            return [Node(kind, layer, -1, t)], np.array([value]), unknown, unknown

        word = float(f @ self.stream.embedding[self.tokens[t]])
        yield [Node("embedding", -1, -1, t)], np.array([factor * word]), np.array([factor]), np.array([word])
        if self.stream.positions is not None:
            yield plain("position", -1, factor * float(f @ self.stream.positions[t]))
        yield plain("constant", -1, reader.constant)
        for layer in range(reader.layer + reader.middle):
            heads, bias = self.stream.blocks[layer].heads, 0.0
            yield self._head_pieces(reader, layer)
            bias = float(f @ heads.out_bias)
            if layer < reader.layer:
                if layer in self.maps and self.replaced[t]:
                    yield self._feature_pieces(reader, layer)
                    maps = self.maps[layer]
                    bias += float(f @ maps.decoder_bias)
                    if maps.skip is not None:
                        yield plain("skip", layer, factor * float(f @ (maps.skip @ self._normed(layer, t))))
                    yield plain("error", layer, factor * float(f @ self.errors[layer][t]))
                else:
                    yield plain("mlp", layer, factor * float(f @ self.errors[layer][t]))
            yield plain("bias", layer, factor * bias)

    def _normed(self, layer: int, token: int) -> _FLOATS:
        """What goes into an MLP."""
        return self.stream.blocks[layer].middle(self.middle[layer][token])

    def _feature_pieces(self, reader: Reader, layer: int) -> tuple[list[Node], _FLOATS, _FLOATS, _FLOATS]:
        index, z = self._active(layer, reader.token)
        invariant = self.maps[layer].decoder[index] @ reader.direction
        dependent = reader.factor * z
        return [Node("feature", layer, int(i), reader.token) for i in index], dependent * invariant, dependent, invariant

    def _head_pieces(self, reader: Reader, layer: int) -> tuple[list[Node], _FLOATS, _FLOATS, _FLOATS]:
        t, inner = reader.token, self.stream.blocks[layer].heads.inner(reader.direction)
        read = np.einsum("hk,shk->hs", inner, self.values[layer][: t + 1], optimize=True)
        values = (reader.factor * self.patterns[layer][:, t, : t + 1] * read).ravel()
        nodes = [Node("head", layer, h, s) for h in range(len(inner)) for s in range(t + 1)]
        return nodes, values, np.full(len(values), np.nan), np.full(len(values), np.nan)

    def _active(self, layer: int, token: int) -> tuple[NDArray[np.int64], _FLOATS]:
        codes = self.codes[layer]
        part = slice(codes.indptr[token], codes.indptr[token + 1])
        return codes.indices[part], codes.data[part].astype(float)

    def onward(self, reader: Reader, node: Node) -> Reader | None:
        """How a source of a reader reads on, so that what it finds is the source's value; None for a leaf.

        Parameters
        ----------
        reader : Reader
        node : Node
            One of its sources.
        """
        if node.kind == "feature":
            weight = float(self.maps[node.layer].decoder[node.unit] @ reader.direction)
            return self._feature_reader(Feature(*node[1:]), weight, reader.factor)
        if node.kind == "skip":
            norm = self.stream.blocks[node.layer].middle
            f = reader.direction @ np.asarray(self.maps[node.layer].skip, dtype=float)
            scale = float(self.middle_scales[node.layer][node.token])
            constant = reader.factor * float(f @ norm.bias)
            return Reader(norm.pull(f), reader.factor * scale, constant, node.layer, True, node.token)
        if node.kind == "head":
            block, score = self.stream.blocks[node.layer], self.patterns[node.layer][node.unit, reader.token, node.token]
            shared, factor = block.heads.shared[node.unit], reader.factor * float(score)
            inner = reader.direction @ block.heads.out[node.unit]
            f = inner @ block.heads.value[shared]
            constant = factor * float(inner @ block.heads.value_bias[shared] + f @ block.before.bias)
            scale = float(self.before_scales[node.layer][node.token])
            return Reader(block.before.pull(f), factor * scale, constant, node.layer, False, node.token)
        return None

    # ------------------------------------------------------------------ all the way back
    def influence(self, target: Feature | Logits, removed: Collection[Feature] = ()) -> dict[int, sparse.csr_array]:
        """What each active latent adds to a target along all paths together.

        Parameters
        ----------
        target : Feature or Logits
        removed : collection of Feature, default=()
            Latents that let nothing through. The sum of their own influences then is by how much the target falls where all of
            them are set to 0, as far as the frozen network is right about it.

        Returns
        -------
        dict of int to sparse array of shape (n, latents)
            For each layer with a transcoder below the target.
        """
        _, reader = self.reader(target)
        back = np.zeros_like(self.pre[0])
        back[reader.token] = reader.factor * reader.direction
        found: dict[int, sparse.csr_array] = {}
        blocked = set(removed)
        for layer in reversed(range(reader.layer + reader.middle)):
            if layer < reader.layer and layer in self.maps:
                found[layer], through = self._through_mlp(layer, back, blocked)
                back = back + through
            back = back + self._through_attention(layer, back)
        return dict(sorted(found.items()))

    def _through_mlp(self, layer: int, back: _FLOATS, blocked: Collection[Feature]) -> tuple[sparse.csr_array, _FLOATS]:
        maps, norm, codes = self.maps[layer], self.stream.blocks[layer].middle, self.codes[layer]
        line = np.repeat(np.arange(len(back)), np.diff(codes.indptr))
        weight = np.einsum("jd,jd->j", maps.decoder[codes.indices], back[line])
        told = sparse.csr_array((codes.data * weight, codes.indices, codes.indptr), shape=codes.shape)
        lets = np.array([Feature(layer, int(j), int(t)) not in blocked for j, t in zip(codes.indices, line, strict=True)])
        passed = sparse.csr_array((weight * lets, codes.indices, codes.indptr), shape=codes.shape)
        read = passed @ maps.encoder.astype(float)
        if maps.skip is not None:
            read = read + (back * self.replaced[:, None]) @ maps.skip
        return told, norm.pull(read) * self.middle_scales[layer][:, None]

    def _through_attention(self, layer: int, back: _FLOATS) -> _FLOATS:
        block = self.stream.blocks[layer]
        mixed = np.einsum("hts,thk->shk", self.patterns[layer], block.heads.inner(back), optimize=True)
        read = np.einsum("shk,hkd->sd", mixed, block.heads.value[block.heads.shared], optimize=True)
        return block.before.pull(read) * self.before_scales[layer][:, None]
