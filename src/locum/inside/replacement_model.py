"""A language model whose MLPs are read through transcoders: prompts, splices, ablations, and what the weights alone say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, UnsupportedModule, need, require_whole
from locum.inside._attribution import Feature, Logits, Maps, Prompt
from locum.inside._stream import Stream, check_layer, stream_of
from locum.inside.filters import RowFilter, every_position
from locum.inside.tap import Replacement, Tap
from locum.inside.transcoders import Transcoder

__all__ = ["Connection", "ReplacementModel", "Verification"]

_OFF = 1e-3  # relative error of a sum of the stream above which a layout is not what it seems
_NEAR = 5  # features of like activation among which one is drawn


class Connection(NamedTuple):
    """A latent or a token, and what the weights say of it.

    Attributes
    ----------
    id : int
    weight : float
    """

    id: int
    weight: float


@dataclass(frozen=True)
class Verification:
    """What taking features out did, beside what attribution foretold and beside other active features.

    Attributes
    ----------
    features : tuple of Feature
        Taken out together.
    value : float
        The target before.
    foretold, fall : float
        By how much the target falls: with attention, norms and active latents held at what they were, and in a run in which
        nothing is held.
    others : ndarray of shape (draws,)
        The fall where as many other active features are taken out, each drawn from those of about the same activation.
    """

    features: tuple[Feature, ...]
    value: float
    foretold: float
    fall: float
    others: NDArray[np.floating[Any]]

    def __str__(self) -> str:
        return (
            f"without {len(self.features)} features the target falls from {self.value:.3g} by {self.fall:.3g} (foretold "
            f"{self.foretold:.3g}), without others by {self.others.mean():.3g} (mean of {len(self.others)} draws)"
        )


@final
class ReplacementModel:
    """A language model whose MLPs are read through transcoders, for circuits and for runs with the transcoders in their place.

    Parameters
    ----------
    model : transformers causal language model
        Laid out as Llama (Mistral, Qwen2 and Qwen3, SmolLM) or as GPT-2, in eval mode. It is not changed.
    transcoders : dict of int to Transcoder
        By layer, each fitted from what goes into ``mlp`` of that layer (after the norm) to what comes out.
    keep : RowFilter, default=every position
        Positions that the transcoders were fitted for; elsewhere the MLPs stay.

    Raises
    ------
    InvalidData
        No such layer, a transcoder of another width, or a filter that reads norms.
    UnsupportedModule
        A model of another layout.

    Notes
    -----
    Weights are held as views of the model's where they are float32 on the CPU already. Gains of norms belong to the weights
    here: what reads a stream is an encoder row times the gain, and the scale of the norm on a token is the input's part.

    References
    ----------
    Dunefsky, Chlenski and Nanda, arXiv 2406.11944, section 4 and appendices D and E.
    """

    papers = ("transcoders",)

    def __init__(self, model: Any, transcoders: Mapping[int, Transcoder], *, keep: RowFilter = every_position) -> None:
        need("torch", "a network with transcoders", "nets")
        self.stream: Stream = stream_of(model)
        if not transcoders:
            raise InvalidData("expected at least one transcoder by layer, got none")
        if keep.sites:
            raise InvalidData("expected a filter of positions and tokens here; one that reads norms differs from run to run")
        for layer, one in transcoders.items():
            check_layer(self.stream, layer)
            if not isinstance(one, Transcoder):
                raise InvalidData(f"expected a Transcoder of layer {layer}, got {type(one).__name__}")
            check_is_fitted(one, "dictionary_")
            widths = one.maps_.encoder.shape[1], one.maps_.decoder.shape[1]
            if widths != (self.stream.width, self.stream.width):
                raise InvalidData(
                    f"expected a transcoder of layer {layer} from {self.stream.width} to {self.stream.width} wide, got {widths}"
                )
        self.model, self.keep = model, keep
        self.transcoders = {layer: transcoders[layer] for layer in sorted(transcoders)}
        self._tap = Tap(model, self.stream.sites)

    # ------------------------------------------------------------------ runs
    def run(self, input_ids: ArrayLike) -> Prompt:
        """Run the model as it is on one text, and keep what attributions need.

        Parameters
        ----------
        input_ids : array-like or torch.Tensor of int, shape (n,) or (1, n)

        Returns
        -------
        Prompt

        Raises
        ------
        InvalidData
            No token ids of one text.
        UnsupportedModule
            A module that does not do what its place in the layout says, as seen on this text.
        """
        torch = need("torch", "a network with transcoders", "nets")
        ids = self._ids(input_ids)
        modules = [self.model.get_submodule(self.stream.sites[f"attention {i}"].module) for i in range(len(self.stream.blocks))]
        with torch.inference_mode(), _scores(self.model, modules) as patterns:
            read = self._tap.read(ids, use_cache=False)
        found = {name: one[0].float().cpu().numpy().astype(float) for name, one in read.items()}
        layers = range(len(self.stream.blocks))
        tokens = ids[0].cpu().numpy()
        replaced = self.keep.picks(tokens, np.arange(len(tokens)), {})
        codes, errors = {}, []
        for layer in layers:
            out = found[f"out {layer}"]
            if layer in self.transcoders:
                one, x = self.transcoders[layer], found[f"in {layer}"]
                given = sparse.csr_array(sparse.diags_array(replaced.astype(np.float32)) @ one.transform(x))
                given.eliminate_zeros()
                given.sort_indices()
                codes[layer] = given
                out = np.where(replaced[:, None], out - one.reconstruct(x, given), out)
            errors.append(out)
        prompt = Prompt(
            tokens, self.stream, {layer: one.maps_ for layer, one in self.transcoders.items()},
            (*(found[f"pre {i}"] for i in layers), found["last"]), tuple(found[f"mid {i}"] for i in layers),
            tuple(one[0].float().cpu().numpy() for one in patterns), codes, tuple(errors), replaced,
        )  # fmt: skip
        self._verify(prompt, found)
        return prompt

    def _ids(self, input_ids: ArrayLike) -> Any:
        torch = need("torch", "a network with transcoders", "nets")
        ids = np.asarray(input_ids.cpu() if hasattr(input_ids, "cpu") else input_ids)
        ids = ids[0] if ids.ndim == 2 and len(ids) == 1 else ids
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
            raise InvalidData(f"expected the token ids of one text, shape (n,) or (1, n), got shape {ids.shape}")
        if not 0 <= ids.min() <= ids.max() < len(self.stream.embedding):
            raise InvalidData(f"expected token ids from 0 to {len(self.stream.embedding) - 1}, got {ids.min()} to {ids.max()}")
        return torch.as_tensor(ids, dtype=torch.long, device=next(self.model.parameters()).device)[None]

    def _verify(self, prompt: Prompt, found: Mapping[str, NDArray[Any]]) -> None:
        """Refuse a model that adds up to something else than its layout says, such as one with norms after its layers."""
        stream, sites = self.stream, self.stream.sites
        start = stream.embedding[prompt.tokens].astype(float)
        if stream.positions is not None:
            start = start + stream.positions[: len(start)]
        said = [("the embedding", start, prompt.pre[0])]
        for i, block in enumerate(stream.blocks):
            heads = np.einsum("hts,shk->thk", prompt.patterns[i], prompt.values[i])
            attended = np.einsum("thk,hdk->td", heads, block.heads.out) + block.heads.out_bias
            said += [
                (str(sites[f"attention {i}"].module), attended, prompt.middle[i] - prompt.pre[i]),
                (str(sites[f"mid {i}"].module), block.middle(prompt.middle[i]), found[f"in {i}"]),
                (str(sites[f"out {i}"].module), found[f"out {i}"], prompt.pre[i + 1] - prompt.middle[i]),
            ]
        for name, ours, theirs in said:
            # Differences of a stream that is large have its rounding, so errors are judged beside the stream too.
            size = np.abs(theirs).max() + 1e-3 * np.abs(prompt.pre[-2]).max()
            if np.abs(ours - theirs).max() > _OFF * size:
                raise UnsupportedModule(
                    f"{name} does not do here what a plain layer of this layout does, so attributions would not add up; "
                    "layers with more norms, scaled embeddings or other residual paths are not supported"
                )

    @contextmanager
    def spliced(
        self, changes: Mapping[int, Callable[[Any], Any]] | None = None, *, where: Any = None, errors: Prompt | None = None
    ) -> Iterator[dict[int, Replacement]]:
        """Let the transcoders stand in for the MLPs while the context lasts.

        Parameters
        ----------
        changes : dict of int to callable, optional
            By layer: takes the codes, a tensor of shape (texts, tokens, latents), and gives them changed.
        where : boolean tensor of shape (texts, tokens) or None, default=None
            Where to stand in, as `keep` says for the texts; everywhere where None.
        errors : Prompt or None, default=None
            Add what the transcoders lacked on this prompt, so that without changes the model does what it did.

        Yields
        ------
        dict of int to Replacement
            By layer.
        """
        torch = need("torch", "a network with transcoders", "nets")
        changes = changes or {}
        for layer in changes:
            if layer not in self.transcoders:
                raise InvalidData(f"there is no transcoder of layer {layer}; there is one of {sorted(self.transcoders)}")
        with ExitStack() as stack:
            told = {}
            for layer, one in self.transcoders.items():
                lacking = None if errors is None else torch.as_tensor(errors.errors[layer], dtype=torch.float32)
                stand_in = _StandIn(one.module(), changes.get(layer), lacking)
                told[layer] = stack.enter_context(self._tap.replace(f"out {layer}", stand_in, source=f"in {layer}"))
                told[layer].where = where if errors is None else torch.as_tensor(errors.replaced)[None]
            yield told

    def ablate(
        self, prompt: Prompt, features: Collection[Feature], target: Feature | Logits, *, errors: bool = True
    ) -> tuple[float, float]:
        """What the target is, and what it is with some features set to 0, in runs with transcoders in the place of the MLPs.

        Nothing is frozen here: attention, norms and all later features do what they then do.

        Parameters
        ----------
        prompt : Prompt
        features : collection of Feature
        target : Feature or Logits
            A feature's pre-activation, or logits.
        errors : bool, default=True
            Add what the transcoders lacked on this prompt, so that the first number is the model's own.

        Returns
        -------
        before, after : float
        """
        some = [Feature(*one) for one in features]
        for one in some:
            prompt.reader(one)
        return self._measured(prompt, target, {}, errors), self._measured(prompt, target, _changes(some), errors)

    def verify(
        self,
        prompt: Prompt,
        target: Feature | Logits,
        features: Collection[Feature] | None = None,
        *,
        n: int = 10,
        draws: int = 5,
        errors: bool = True,
        random_state: int = 0,
    ) -> Verification:
        """Take features out together, and see whether a target falls as attribution says, and more than without others.

        Parameters
        ----------
        prompt : Prompt
        target : Feature or Logits
        features : collection of Feature or None, default=None
            Such as those of a graph; the n with the largest influence along all paths where None.
        n : int, default=10
        draws : int, default=5
            Sets of other features.
        errors : bool, default=True
            As for :meth:`ablate`.
        random_state : int, default=0

        Returns
        -------
        Verification

        Raises
        ------
        InvalidData
            No features, one that is not active or not below the target, or too few others that are active.
        """
        require_whole(1, n=n, draws=draws)
        reachable = prompt.influence(target)
        chosen = _largest_influences(reachable, n) if features is None else [Feature(*one) for one in features]
        pool = _active_features(reachable)
        if not chosen or not set(chosen) <= set(pool):
            raise InvalidData(f"expected active features that a target can read, got {chosen[:3]}; take those of a graph of it")
        others = [one for one in pool if one not in set(chosen)]
        if len(others) < len(chosen):
            raise InvalidData(f"expected {len(chosen)} other active features below the target, got {len(others)}; take fewer")
        told, rng = prompt.influence(target, chosen), np.random.default_rng(random_state)
        before = self._measured(prompt, target, {}, errors)
        falls = [
            before - self._measured(prompt, target, _changes(one), errors)
            for one in [chosen, *(_alike(prompt, chosen, others, rng) for _ in range(draws))]
        ]
        foretold = sum(float(told[one.layer][one.token, one.latent]) for one in chosen)
        return Verification(tuple(chosen), before, foretold, falls[0], np.array(falls[1:]))

    def _measured(self, prompt: Prompt, target: Feature | Logits, changes: Any, errors: bool) -> float:
        torch = need("torch", "a network with transcoders", "nets")
        node, _ = prompt.reader(target)
        ids = self._ids(prompt.tokens)
        where = torch.as_tensor(prompt.replaced)[None]
        with torch.inference_mode(), self.spliced(changes, where=where, errors=prompt if errors else None):
            if isinstance(target, Logits):
                said = self.model(ids, use_cache=False).logits[0, node.token].float()
                return float(sum(weight * float(said[i]) for i, weight in target.weights.items()))
            one = Tap(self.model, {"in": self.stream.sites[f"in {node.layer}"]})
            x = one.read(ids, use_cache=False)["in"][0, node.token].float().cpu().numpy()
        maps = prompt.maps[node.layer]
        return float(maps.encoder[node.unit].astype(float) @ x + maps.bias[node.unit])

    # ------------------------------------------------------------------ what the weights alone say
    def direction(self, layer: int, latent: int, via: Sequence[tuple[int, int]] = ()) -> NDArray[np.floating[Any]]:
        """The direction of the stream that makes a latent active, but for the scales of norms.

        Parameters
        ----------
        layer, latent : int
        via : sequence of (layer, head), default=()
            Heads it is moved by, the last before the latent first; the direction then is of the stream before the first layer's
            attention, at the token attended to.

        Returns
        -------
        ndarray of shape (width,)
        """
        f = self.stream.blocks[layer].middle.pull(self._row(layer, latent).encoder[latent].astype(float))
        above = layer + 1
        for at, head in via:
            check_layer(self.stream, at)
            block = self.stream.blocks[at]
            if not at < above:
                raise InvalidData(f"expected heads of falling layers, at most {above - 1}, got a head of layer {at}")
            if not 0 <= head < len(block.heads):
                raise InvalidData(f"expected a head from 0 to {len(block.heads) - 1} at layer {at}, got {head}")
            f, above = block.before.pull(block.heads.pull(f)[head]), at
        return f

    def connections(
        self, layer: int, latent: int, source: int, *, via: Sequence[tuple[int, int]] = (), top: int = 20
    ) -> list[Connection]:
        """Latents of an earlier layer that the weights connect most with a latent, directly or through attention heads.

        Times the source's activation, attention scores and scales of norms, a weight is the attribution on a prompt.

        Parameters
        ----------
        layer, latent : int
        source : int
            Layer of the sources.
        via : sequence of (layer, head), default=()
            As for :meth:`direction`.
        top : int, default=20
            By size.
        """
        last = via[-1][0] if via else layer
        if not self._row(source, 0) or not source < last:
            raise InvalidData(f"expected a source below layer {last}, got {source}: what is read was written before")
        return _largest(self.transcoders[source].maps_.decoder @ self.direction(layer, latent, via), top)

    def deembed(self, layer: int, latent: int, *, via: Sequence[tuple[int, int]] = (), top: int = 20) -> list[Connection]:
        """Tokens whose embeddings make a latent active most, directly or moved by attention heads.

        Parameters
        ----------
        layer, latent : int
        via : sequence of (layer, head), default=()
            As for :meth:`direction`.
        top : int, default=20
            The largest, not by size: what makes it active.
        """
        return _largest(self.stream.embedding @ self.direction(layer, latent, via), top, signed=True)

    def logit_effect(self, layer: int, latent: int, *, top: int = 20) -> list[Connection]:
        """Tokens whose logits a latent raises most directly, but for the scale of the last norm.

        Parameters
        ----------
        layer, latent : int
        top : int, default=20
            The largest, not by size.
        """
        row, norm = self._row(layer, latent).decoder[latent].astype(float), self.stream.last
        row = row - row.mean() if norm.centred else row
        return _largest(self.stream.unembedding @ (row * norm.gain), top, signed=True)

    def _row(self, layer: int, latent: int) -> Maps:
        if layer not in self.transcoders:
            raise InvalidData(f"there is no transcoder of layer {layer}; there is one of {sorted(self.transcoders)}")
        maps = self.transcoders[layer].maps_
        if not 0 <= latent < len(maps.encoder):
            raise InvalidData(f"expected a latent from 0 to {len(maps.encoder) - 1} at layer {layer}, got {latent}")
        return maps


class _StandIn:
    """What is put in the place of an MLP."""

    def __init__(self, module: Any, change: Callable[[Any], Any] | None, lacking: Any) -> None:
        self.module, self.change, self.lacking = module, change, lacking

    def __call__(self, x: Any) -> Any:
        y = self.module(x) if self.change is None else self.module.changed(x, self.change)
        return y if self.lacking is None else y + self.lacking.to(y)


def _changes(features: Sequence[Feature]) -> dict[int, Callable[[Any], Any]]:
    """What sets the codes of features to 0, by layer."""
    by_layer: dict[int, list[Feature]] = {}
    for one in features:
        by_layer.setdefault(one.layer, []).append(one)
    return {layer: partial(_without, features=some) for layer, some in by_layer.items()}


def _without(codes: Any, features: Sequence[Feature]) -> Any:
    codes[:, [one.token for one in features], [one.latent for one in features]] = 0.0
    return codes


def _active_features(influence: Mapping[int, sparse.csr_array]) -> list[Feature]:
    """Features with an influence, of whatever size."""
    return [
        Feature(layer, int(latent), int(token))
        for layer, one in influence.items()
        for token, latent in zip(*one.nonzero(), strict=True)
    ]


def _largest_influences(influence: Mapping[int, sparse.csr_array], n: int) -> list[Feature]:
    found = _active_features(influence)
    found.sort(key=lambda one: -abs(influence[one.layer][one.token, one.latent]))
    return found[:n]


def _alike(prompt: Prompt, features: Sequence[Feature], pool: Sequence[Feature], rng: np.random.Generator) -> list[Feature]:
    """For each feature another one, drawn from the five of the pool that are nearest in activation and not yet drawn."""
    sizes, left, found = np.array([_size(prompt, one) for one in pool]), np.ones(len(pool), dtype=bool), []
    for one in features:
        near = np.argsort(np.where(left, np.abs(sizes - _size(prompt, one)), np.inf), kind="stable")[: min(_NEAR, left.sum())]
        drawn = int(rng.choice(near))
        left[drawn] = False
        found.append(pool[drawn])
    return found


def _size(prompt: Prompt, feature: Feature) -> float:
    return float(prompt.codes[feature.layer][feature.token, feature.latent])


def _largest(scores: NDArray[Any], top: int, signed: bool = False) -> list[Connection]:
    order = np.argsort(-(scores if signed else np.abs(scores)), kind="stable")[:top]
    return [Connection(int(i), float(scores[i])) for i in order]


@contextmanager
def _scores(model: Any, modules: Sequence[Any]) -> Iterator[list[Any]]:
    """Attention scores of modules, by a way of computing attention that tells them, while the context lasts.

    Asking the model for them would leave hooks of transformers behind.
    """
    found: list[Any] = []
    used = model.config._attn_implementation
    model.set_attn_implementation("eager")
    hooks = [one.register_forward_hook(lambda _module, _inputs, output: found.append(output[1])) for one in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        model.set_attn_implementation(used)
