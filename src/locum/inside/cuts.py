"""A network cut in two at an activation: what reaches it is computed once, and only what follows runs again and again."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from locum.core.errors import InvalidData, need, require_whole
from locum.inside.tap import Tap

__all__ = ["Cut", "LanguageModelCut", "NetworkCut", "States"]


@dataclass(frozen=True)
class States:
    """Activations of some inputs where a network is cut, and what the network makes of others in their place.

    Parameters
    ----------
    hidden : torch.Tensor of shape (m, width)
    after : callable
        Takes activations of shape (n, width) and the rows of the n inputs they belong to, gives logits of shape (n, classes),
        with gradients.
    """

    hidden: Any
    after: Callable[[Any, Any], Any]


class Cut(ABC):
    """A network in two parts; weights are left as they are.

    Attributes
    ----------
    model : torch.nn.Module
    """

    model: Any

    @final
    @contextmanager
    def frozen(self) -> Iterator[None]:
        """No gradients of the network's own weights while the context lasts."""
        wanted = [one for one in self.model.parameters() if one.requires_grad]
        for one in wanted:
            one.requires_grad_(False)
        try:
            yield
        finally:
            for one in wanted:
                one.requires_grad_(True)

    @abstractmethod
    def states(self, inputs: ArrayLike) -> States:
        """Run the first part.

        Parameters
        ----------
        inputs : array-like of shape (m, ...)
        """

    @abstractmethod
    def untrained(self, random_state: int = 0) -> Cut:
        """The same cut of a network of the same shape, with weights drawn anew.

        Parameters
        ----------
        random_state : int, default=0
        """


@final
class NetworkCut(Cut):
    """A torch module that takes one tensor and gives logits, cut at a site.

    Where the module is a ``torch.nn.Sequential`` and the site the output of one of its parts, only the parts after it run; else
    all of it runs with the activation replaced.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode.
    site : str
        Dotted name of a module whose output is cut; (n, width), or (n, positions, width) with `position`.
    position : int or None, default=None
        Along the second dimension of the activation.
    batch_size : int, default=8192
        Of the first part.
    device : torch.device or str, default="cpu"

    Raises
    ------
    InvalidData
        As for :class:`Tap`; an activation of another shape; outputs that are not logits of shape (n, classes).
    """

    def __init__(
        self, model: Any, site: str, *, position: int | None = None, batch_size: int = 8192, device: Any = "cpu"
    ) -> None:
        require_whole(1, batch_size=batch_size)
        self._tap = Tap(model, {"site": site})
        self.model, self.site, self.position = model.to(device), site, position
        self.batch_size, self.device = batch_size, device

    def states(self, inputs: ArrayLike) -> States:
        torch = need("torch", "a network's activations", "nets")
        given = torch.as_tensor(np.asarray(inputs), device=self.device)
        if given.is_floating_point():
            given = given.to(next((one.dtype for one in self.model.parameters() if one.is_floating_point()), given.dtype))
        with torch.no_grad():
            parts = [self._tap.read(part)["site"] for part in given.split(self.batch_size)]
        hidden = torch.cat([part if self.position is None else part[:, self.position] for part in parts])
        if hidden.ndim != 2:
            raise InvalidData(
                f"expected an activation of shape (n, width) at {self.site!r}, got {tuple(hidden.shape)}; "
                "say position= where it has positions"
            )
        tail = self._tail()

        def after(h: Any, rows: Any) -> Any:
            if tail is not None:
                return _logits(tail(h), h)
            if self.position is None:
                with self._tap.edit("site", lambda _: h):
                    return _logits(self.model(given[rows]), h)
            with self._tap.edit("site", lambda _: h[:, None], positions=self.position):
                return _logits(self.model(given[rows]), h)

        return States(hidden, after)

    def _tail(self) -> Any:
        """What follows the site, where that is a part of its own."""
        torch = need("torch", "a network's activations", "nets")
        names = [name for name, _ in self.model.named_children()]
        if not isinstance(self.model, torch.nn.Sequential) or self.site not in names or self.position is not None:
            return None
        return self.model[names.index(self.site) + 1 :]

    def untrained(self, random_state: int = 0) -> NetworkCut:
        from locum.nets import seeded

        other = copy.deepcopy(self.model)
        with seeded(random_state, device=self.device):
            for name, part in other.named_modules():
                if hasattr(part, "reset_parameters"):
                    part.reset_parameters()
                elif next(part.parameters(recurse=False), None) is not None:
                    raise InvalidData(f"the module {name or 'itself'} has weights and no reset_parameters() to draw them anew")
        return NetworkCut(other, self.site, position=self.position, batch_size=self.batch_size, device=self.device)


@final
class LanguageModelCut(Cut):
    """A causal language model of the Llama type, cut after a layer at the last token of prompts of one length.

    Keys and values of all earlier tokens are kept, so that only the last token runs through the later layers, and of the
    vocabulary only the candidates are scored.

    Parameters
    ----------
    model : model of transformers
        With ``model.layers``, ``model.rotary_emb``, ``model.norm`` and an output embedding, such as a Llama; in eval mode.
    layer : int
        Layers before the cut.
    choices : sequence of int
        Positions of the prompt whose tokens are the candidates for the next token; logits come in their order.
    batch_size : int, default=32
        Prompts that run through the whole model at once.
    device : torch.device or str, default="cpu"

    Raises
    ------
    InvalidData
        Another kind of model, a layer that is not there, prompts that are not one table of ids, positions outside them.

    Notes
    -----
    Cost: one pass over the prompts; afterwards an intervention costs a token's way through the later layers. Memory: keys and
    values of the later layers of all prompts.
    """

    def __init__(self, model: Any, layer: int, choices: Sequence[int], *, batch_size: int = 32, device: Any = "cpu") -> None:
        require_whole(1, batch_size=batch_size, layer=layer)
        body: Any = getattr(model, "model", None)
        if not all(hasattr(body, name) for name in ("layers", "rotary_emb", "norm")):
            raise InvalidData(f"expected a causal language model of the Llama type, got {type(model).__name__}")
        if layer >= len(body.layers):
            raise InvalidData(f"expected layer= from 1 to {len(body.layers) - 1}, with layers left to follow, got {layer}")
        self._tap = Tap(model, {"site": f"model.layers.{layer - 1}"})
        self.model, self.layer, self.choices = model.to(device), layer, tuple(choices)
        self.batch_size, self.device = batch_size, device

    def states(self, inputs: ArrayLike) -> States:
        torch = need("torch", "a language model's activations", "lm")
        ids = np.asarray(inputs)
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.shape[1] < 2:
            raise InvalidData(f"expected prompts as one table of token ids, got {ids.dtype} of shape {ids.shape}")
        if not self.choices or not all(-ids.shape[1] <= one < ids.shape[1] for one in self.choices):
            raise InvalidData(f"expected choices= as positions within {ids.shape[1]} tokens, got {self.choices}")
        given = torch.as_tensor(ids, dtype=torch.long, device=self.device)
        hidden, keys, values = [], [], []
        with torch.no_grad():
            for part in given.split(self.batch_size):
                with self._tap.replace("site", lambda h: h) as seen:
                    said: Any = self.model(input_ids=part, use_cache=True, logits_to_keep=1)
                hidden.append(seen.original[:, -1].clone())
                later = _cache_of(said).layers[self.layer :]
                keys.append(torch.stack([one.keys[:, :, :-1] for one in later], dim=1))
                values.append(torch.stack([one.values[:, :, :-1] for one in later], dim=1))
        kept = _Later(self.model, self.layer, torch.cat(keys), torch.cat(values))
        candidates = given[:, list(self.choices)]
        return States(torch.cat(hidden), lambda h, rows: kept.logits(h, rows, candidates))

    def untrained(self, random_state: int = 0) -> LanguageModelCut:
        from locum.nets import seeded

        with seeded(random_state):
            other = type(self.model)(copy.deepcopy(self.model.config)).to(self.model.dtype).eval()
        return LanguageModelCut(other, self.layer, self.choices, batch_size=self.batch_size, device=self.device)


class _Later:
    """The layers after the cut, for the last token alone."""

    def __init__(self, model: Any, layer: int, keys: Any, values: Any) -> None:
        self.model, self.layer, self.keys, self.values = model, layer, keys, values

    def logits(self, h: Any, rows: Any, candidates: Any) -> Any:
        torch = need("torch", "a language model's activations", "lm")
        body, position = self.model.model, self.keys.shape[3]
        at = torch.full((1, 1), position, dtype=torch.long, device=h.device)
        x, turn = h[:, None], body.rotary_emb(h[:, None], position_ids=at)
        kept = _Prefix(self.keys[rows], self.values[rows], self.layer)
        for one in body.layers[self.layer :]:
            name = "cache" if "cache" in inspect.signature(one.forward).parameters else "past_key_values"
            x = one(x, position_embeddings=turn, position_ids=at, attention_mask=None, **{name: kept})
        out = body.norm(x)[:, 0]
        weights = self.model.get_output_embeddings().weight[candidates[rows]]
        return (weights * out[:, None]).sum(dim=-1)


class _Prefix:
    """What the attention of transformers asks of a cache, without writing to it."""

    def __init__(self, keys: Any, values: Any, first: int) -> None:
        self._keys, self._values, self._first = keys, values, first

    def update(self, key: Any, value: Any, layer: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        torch = need("torch", "a language model's activations", "lm")
        i = layer - self._first
        return torch.cat([self._keys[:, i], key], dim=2), torch.cat([self._values[:, i], value], dim=2)


def _cache_of(said: Any) -> Any:
    """Keys and values, whatever this release of transformers calls them."""
    return said["cache"] if "cache" in said else said["past_key_values"]


def _logits(found: Any, h: Any) -> Any:
    if getattr(found, "ndim", 0) != 2 or len(found) != len(h) or found.shape[1] < 2:
        got = tuple(getattr(found, "shape", ())) or type(found).__name__
        raise InvalidData(f"expected logits of shape ({len(h)}, classes) from the network, got {got}")
    return found
