"""Activations of a network by name: read, replaced and edited through hooks that are gone afterwards."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from locum.core.errors import InvalidData, LocumError, need, require_one_of

if TYPE_CHECKING:
    import torch

__all__ = ["CalledTwice", "Replacement", "Site", "Tap", "attention_sites"]

_SIDES = ("in", "out")
_CACHES = ("cache", "past_key_values")  # what releases of transformers call it


class CalledTwice(LocumError, RuntimeError):
    """A module with a site was called twice in one pass, so that its name stands for two tensors."""


@dataclass(frozen=True)
class Site:
    """Where an activation is.

    Parameters
    ----------
    module : str
        Dotted name, as in ``model.named_modules()``.
    side : {"in", "out"}, default="out"
        What goes into the module, or what comes out.
    heads : int or None, default=None
        Read and written as (..., heads, width of a head) where given.

    Raises
    ------
    InvalidData
        Another side, or fewer than one head.
    """

    module: str
    side: str = "out"
    heads: int | None = None

    def __post_init__(self) -> None:
        require_one_of(_SIDES, side=self.side)
        if self.heads is not None and (not isinstance(self.heads, int) or self.heads < 1):
            raise InvalidData(f"expected heads= to be a whole number of 1 or more, got {self.heads!r}")

    def __str__(self) -> str:
        return f"{self.module}, {self.side}" + (f", {self.heads} heads" if self.heads else "")


def attention_sites(model: Any, layer: str) -> dict[str, Site]:
    """Queries, keys, values and heads' results of a Llama-type attention block, each viewed by head.

    Parameters
    ----------
    model : torch.nn.Module
        With a ``config`` that says how many heads there are.
    layer : str
        Dotted name of the layer that holds ``self_attn``, such as "model.layers.3".

    Returns
    -------
    dict of str to Site
        "q", "k", "v", and "z", the heads' results before the output matrix.
    """
    config, block = model.config, f"{layer}.self_attn"
    heads = config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    return {
        "q": Site(f"{block}.q_proj", "out", heads),
        "k": Site(f"{block}.k_proj", "out", shared),
        "v": Site(f"{block}.v_proj", "out", shared),
        "z": Site(f"{block}.o_proj", "in", heads),
    }


@dataclass
class Replacement:
    """What a replacement did in the last pass.

    Parameters
    ----------
    where : torch.Tensor or None, default=None
        Set it to a boolean tensor of the leading shape of the activation: elsewhere the original stays. None replaces all.
    original, given : torch.Tensor or None, default=None
        What the network computed at the site, and what stood in for it.
    """

    where: Any = None
    original: Any = None
    given: Any = None

    @property
    def error(self) -> Any:
        """The original less what stood in for it."""
        if self.original is None:
            raise InvalidData("nothing was replaced yet: run the model inside the context first")
        return self.original - self.given


class Tap:
    """Named activations of a network: one pass reads them all, and each can be replaced or edited.

    Hooks are plain ones of PyTorch, there for as long as a call or a context lasts, also where it ends in an exception. The
    network itself is never changed, and with hooks that change nothing its outputs are the same to the bit.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode.
    sites : dict
        Site by the name it is to have: a :class:`Site`, a module's dotted name (its output), or (dotted name, side) or
        (dotted name, side, heads). Of tuples and lists the first tensor is taken.

    Raises
    ------
    InvalidData
        No such module (near names are given), a module in train mode, or no sites.

    Notes
    -----
    Cost: the first :meth:`read` runs the whole network, to see that each module is called once; later ones stop after the
    last site.

    Examples
    --------
    >>> import torch
    >>> from locum.nets import seeded
    >>> with seeded(0):
    ...     net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    >>> tap = Tap(net, {"hidden": "1", "first": ("0", "in")})
    >>> {name: tuple(found.shape) for name, found in tap.read(torch.ones(5, 3)).items()}
    {'hidden': (5, 4), 'first': (5, 3)}
    >>> with tap.edit("hidden", lambda h: 0 * h):
    ...     bool((net(torch.ones(5, 3)) == net[2].bias).all())
    True
    """

    def __init__(self, model: torch.nn.Module, sites: Mapping[str, Any]) -> None:
        torch = need("torch", "a network's activations", "nets")
        if not isinstance(model, torch.nn.Module):
            raise InvalidData(f"expected model= to be a torch.nn.Module, got {type(model).__name__}")
        if model.training:
            raise InvalidData("expected a model in eval mode; call model.eval() first")
        if not sites:
            raise InvalidData("expected sites= to name at least one activation, got none")
        self.model = model
        self.sites = {name: _site(given) for name, given in sites.items()}
        self._modules = {name: _module(model, site) for name, site in self.sites.items()}
        self._checked = False

    @cached_property
    def model_hash(self) -> str:
        """Of the names, shapes and values of all parameters and buffers."""
        digest = xxhash.xxh3_128()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(memoryview(_bytes(tensor)))
        return digest.hexdigest()

    # ------------------------------------------------------------------ reading
    def read(self, *inputs: Any, **named: Any) -> dict[str, torch.Tensor]:
        """Run the model and give the activations at all sites, with gradients where they are on.

        Parameters
        ----------
        *inputs, **named
            As the model takes them.

        Returns
        -------
        dict of str to torch.Tensor
            In the order of the sites.

        Raises
        ------
        InvalidData
            A module that took no part, or whose activation is no tensor.
        CalledTwice
            A module that was called twice.
        """
        found: dict[str, Any] = {}
        stop = self._checked

        def seen(name: str, value: Any) -> None:
            found[name] = value
            if stop and len(found) == len(self.sites):
                raise _Done

        with self._watching(dict.fromkeys(self.sites, seen)), suppress(_Done):
            self.model(*inputs, **named)
        for name in self.sites:
            if name not in found:
                raise InvalidData(f"the module of the site {name!r} ({self.sites[name]}) took no part in the pass")
        self._checked = True
        return {name: found[name] for name in self.sites}

    # ------------------------------------------------------------------ writing
    @contextmanager
    def replace(self, site: str, stand_in: Callable[[Any], Any], *, source: str | None = None) -> Iterator[Replacement]:
        """Let something else give the activation at a site.

        Parameters
        ----------
        site : str
        stand_in : callable
            Takes the activation at `source`, gives the one at `site`; a torch module, or a dictionary's ``module()``.
        source : str or None, default=None
            A site that comes before; `site` itself where None.

        Yields
        ------
        Replacement
            With the original and the error term of the last pass; its ``where`` says where to replace.
        """
        told, begun = Replacement(), self._known(site) if source is None else self._known(source)
        given: dict[str, Any] = {}

        def note(_name: str, value: Any) -> None:
            given["source"] = value

        def put(name: str, value: Any) -> Any:
            if begun != name and "source" not in given:
                raise InvalidData(f"the site {begun!r} comes after {name!r} in the pass, so it cannot be its source")
            new = stand_in(value if begun == name else given.pop("source"))
            if tuple(new.shape) != tuple(value.shape):
                raise InvalidData(f"expected a stand-in for {name!r} of shape {tuple(value.shape)}, got {tuple(new.shape)}")
            new = new.to(value.dtype)
            told.original = value
            told.given = new if told.where is None else _blend(told.where, new, value)
            return told.given

        actions = {self._known(site): put} | ({begun: note} if begun != site else {})
        with self._watching(actions):
            yield told

    @contextmanager
    def edit(self, site: str, change: Callable[[Any], Any], *, positions: Any = None) -> Iterator[None]:
        """Change the activation at a site.

        Parameters
        ----------
        site : str
        change : callable
            Takes the activation, or its part at `positions`, and gives it changed.
        positions : int, sequence of int or None, default=None
            Along the second dimension; all where None. Those of 0 or more count from the beginning of the text also where it is
            generated piece by piece with a cache, and negative ones from the end of the piece.
        """
        wanted = None if positions is None else [int(one) for one in np.atleast_1d(positions)]
        offset = {"tokens": 0}

        def put(_name: str, value: Any) -> Any:
            if wanted is None:
                return change(value)
            length, before = value.shape[1], offset["tokens"]
            here = [one + length if one < 0 else one - before for one in wanted]
            here = [one for one in here if 0 <= one < length]
            if not here:
                return value
            changed = value.clone()
            changed[:, here] = change(value[:, here])
            return changed

        with self._watching({self._known(site): put}, offset):
            yield

    def _known(self, site: str) -> str:
        if site not in self.sites:
            near = difflib.get_close_matches(str(site), list(self.sites), n=3) or list(self.sites)
            raise InvalidData(f"there is no site {site!r}; there is {', '.join(near)}")
        return site

    # ------------------------------------------------------------------ hooks
    @contextmanager
    def _watching(
        self, actions: Mapping[str, Callable[[str, Any], Any]], offset: dict[str, int] | None = None
    ) -> Iterator[None]:
        """Hooks at sites while the context lasts; each sees the activation, and may give another."""
        calls = _Calls(offset)
        handles = [self.model.register_forward_pre_hook(calls.begin, with_kwargs=True)]
        handles.append(self.model.register_forward_hook(calls.end))
        try:
            for name, action in actions.items():
                handles.append(_hook(self._modules[name], name, self.sites[name], action, calls))
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Done(Exception):
    """All sites were seen."""


@dataclass
class _Calls:
    """Which sites were met in the pass that is running, and how many tokens of the text came before it."""

    offset: dict[str, int] | None
    running: bool = False
    busy: bool = False
    met: set[str] = field(default_factory=set)

    def begin(self, _module: Any, _inputs: Any, named: Mapping[str, Any]) -> None:
        self.running, self.met = True, set()
        if self.offset is not None:
            cache = next((named[name] for name in _CACHES if named.get(name) is not None), None)
            self.offset["tokens"] = int(cache.get_seq_length()) if cache is not None else 0

    def end(self, *_: Any) -> None:
        self.running = False

    def note(self, name: str, site: Site) -> None:
        if self.running and name in self.met:
            raise CalledTwice(
                f"the module of the site {name!r} ({site}) was called twice in one pass, so the name stands for two tensors; "
                "take a site around it, such as the module that calls it"
            )
        self.met.add(name)


def _hook(module: Any, name: str, site: Site, action: Callable[[str, Any], Any], calls: _Calls) -> Any:
    def changed(value: Any) -> Any:
        """The activation that `action` gives, or None where it gives none."""
        if calls.busy:  # a stand-in that runs the module itself
            return None
        calls.note(name, site)
        tensor = _tensor(value, name, site)
        view = tensor if site.heads is None else _by_head(tensor, name, site)
        calls.busy = True
        try:
            new = action(name, view)
        finally:
            calls.busy = False
        return None if new is None or new is view else new.reshape(tensor.shape)

    def before(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
        key = next((key for key, value in named.items() if hasattr(value, "shape")), "")
        new = changed(inputs[0] if inputs else named.get(key))
        if new is None:
            return None
        return ((new, *inputs[1:]), named) if inputs else (inputs, {**named, key: new})

    def after(_module: Any, _inputs: Any, output: Any) -> Any:
        wrapped = isinstance(output, tuple | list)
        new = changed(output[0] if wrapped and output else output)
        if new is None:
            return None
        return type(output)([new, *output[1:]]) if wrapped else new

    return (
        module.register_forward_pre_hook(before, with_kwargs=True) if site.side == "in" else module.register_forward_hook(after)
    )


def _tensor(value: Any, name: str, site: Site) -> Any:
    torch = need("torch", "a network's activations", "nets")
    if not isinstance(value, torch.Tensor):
        raise InvalidData(
            f"expected a tensor at the site {name!r} ({site}), got {type(value).__name__}; take a module within it"
        )
    return value


def _by_head(tensor: Any, name: str, site: Site) -> Any:
    width = tensor.shape[-1]
    if width % (site.heads or 1):
        raise InvalidData(f"the site {name!r} is {width} wide, which {site.heads} heads do not divide")
    return tensor.unflatten(-1, (site.heads, -1))


def _blend(where: Any, new: Any, old: Any) -> Any:
    torch = need("torch", "a network's activations", "nets")
    mask = where.reshape(where.shape + (1,) * (old.ndim - where.ndim))
    return torch.where(mask, new, old)


def _site(given: Any) -> Site:
    if isinstance(given, Site):
        return given
    if isinstance(given, str):
        return Site(given)
    if isinstance(given, tuple) and 1 <= len(given) <= 3:
        return Site(*given)
    raise InvalidData(f"expected a site as a module's name, (name, side) or (name, side, heads), got {given!r}")


def _module(model: Any, site: Site) -> Any:
    modules = dict(model.named_modules())
    if site.module not in modules:
        near = difflib.get_close_matches(site.module, list(modules), n=3, cutoff=0.4) or list(modules)[1:4]
        raise InvalidData(f"there is no module {site.module!r} in the model; near names are {', '.join(near)}")
    return modules[site.module]


def _bytes(tensor: Any) -> Any:
    torch = need("torch", "a network's activations", "nets")
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
