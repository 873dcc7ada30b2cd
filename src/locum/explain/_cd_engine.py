"""Passes through a transformer: plain ones with heads replaced, and decomposed ones that start at the earliest source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locum.core.errors import InvalidData
from locum.explain._cd_networks import Network
from locum.explain._cd_records import KINDS
from locum.explain._cd_rules import Split
from locum.explain._propagation import Conservation

__all__ = ["Engine", "Means"]

_BOOL = NDArray[np.bool_]
_FLOAT = NDArray[np.float64]
_Parts = dict[str, Split]
_Edit = Callable[[int, _Parts], Split]


class Means:
    """Mean activations of heads over reference prompts: what stands in for a head that is taken away.

    Parameters
    ----------
    by_kind : dict of str to list of Tensor of shape (groups, length, heads, width)
        One tensor a layer.
    rows : array of shape (prompts,)
        The group of each prompt that is explained.
    """

    def __init__(self, by_kind: dict[str, list[Tensor]], rows: NDArray[np.intp]) -> None:
        self._by_kind, self._rows = by_kind, rows

    def of(self, layer: int, prompts: slice, kind: str = "z") -> Tensor:
        """Shape (prompts, length, heads, width)."""
        return self._by_kind[kind][layer][torch.as_tensor(self._rows[prompts])]


class Engine:
    """One network, and how many rows (a source and a prompt) go through it at a time.

    Parameters
    ----------
    net : Network
    batch : int
    """

    def __init__(self, net: Network, batch: int) -> None:
        self.net, self.batch = net, batch
        weight = next(net.model.parameters())
        self.device, self.dtype = weight.device, weight.dtype

    # ------------------------------------------------------------------ prompts
    def ids(self, rows: NDArray[np.intp]) -> Tensor:
        return torch.as_tensor(rows, device=self.device)

    def position(self, ids: Tensor, position: int) -> Tensor:
        """The position whose answer is read, counted from the start."""
        return torch.full((len(ids),), position % ids.shape[1], device=self.device)

    # ------------------------------------------------------------------ plain passes
    @torch.no_grad()
    def states(self, ids: Tensor) -> list[Tensor]:
        """What goes into each block, and what leaves the last, each of shape (1, prompts, length, d)."""
        x = self.net.embedded(Split(self.net.embedding(ids)[None]))
        out = [x.total]
        for layer in range(self.net.layers):
            x = self._block(layer, x, _unchanged)
            out.append(x.total)
        return out

    @torch.no_grad()
    def means(self, ids: Tensor, groups: NDArray[np.intp]) -> dict[str, list[Tensor]]:
        """Mean of each kind of activation by group of prompts, one tensor a layer."""
        count = int(groups.max()) + 1
        found: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
        size = np.bincount(groups, minlength=count)
        for rows in _slices(len(ids), self.batch):
            share = np.eye(count)[groups[rows]] / size[groups[rows]][:, None]
            weight = torch.as_tensor(share, device=self.device).to(self.dtype)

            def collect(layer: int, parts: _Parts, weight: Tensor = weight, first: bool = rows.start == 0) -> Split:
                for kind in KINDS:
                    mean = torch.einsum("pg,plhw->glhw", weight, parts[kind].total[0])
                    if first:
                        found[kind].append(mean)
                    else:
                        found[kind][layer] += mean
                return parts["z"]

            self._through(self.net.embedded(Split(self.net.embedding(ids[rows])[None])), 0, collect)
        return found

    @torch.no_grad()
    def answers(self, ids: Tensor, position: int) -> Iterator[tuple[slice, Tensor]]:
        """Logits of the model, shape (prompts, classes), in batches."""
        for rows in _slices(len(ids), self.batch):
            x = self.states(ids[rows])[-1]
            yield rows, self.net.answer(Split(x), self.position(ids[rows], position)).total[0]

    # ------------------------------------------------------------------ many sets of heads
    @torch.no_grad()
    def without(
        self, ids: Tensor, masks: _BOOL, means: Means | None, read: Callable[[Tensor, slice], Tensor], position: int
    ) -> _FLOAT:
        """A score of each prompt with each set of heads at its mean, shape (sets, prompts).

        Parameters
        ----------
        masks : array of shape (sets, layers, length or 1, heads)
        """

        def one(states: list[Tensor], start: int, prompts: slice, sets: NDArray[np.intp]) -> Tensor:
            def edit(layer: int, parts: _Parts) -> Split:
                z, mask = parts["z"].total, self._mask(masks[sets, layer])
                return parts["z"] if mask is None else Split(torch.where(mask, _mean(means, layer, prompts, z), z))

            x = self._through(Split(states[start]), start, edit)
            logits = self.net.answer(x, self.position(ids[prompts], position)).total
            return read(logits, prompts).expand(len(sets), -1)

        return self._each(ids, masks, one)

    @torch.no_grad()
    def relevant(
        self,
        ids: Tensor,
        masks: _BOOL,
        means: Means | None,
        read: Callable[[Tensor, slice], Tensor],
        position: int,
    ) -> _FLOAT:
        """A score of the relevant part of the logits beyond that of none, for each set of sources and prompt."""

        def one(states: list[Tensor], start: int, prompts: slice, sets: NDArray[np.intp]) -> Tensor:
            edit = self._source(masks[sets], means, prompts)
            x = self._through(Split(states[start]), start, edit)
            logits = self.net.answer(x, self.position(ids[prompts], position)).relevant
            assert logits is not None
            return read(logits, prompts) - read(torch.zeros_like(logits[:1]), prompts)

        return self._each(ids, masks, one)

    @torch.no_grad()
    def relevant_to(
        self,
        ids: Tensor,
        masks: _BOOL,
        means: Means | None,
        targets: Sequence[Any],
        measure: str,
    ) -> _FLOAT:
        """The relevant share of target heads, for each set of sources and prompt; zero where no target comes later."""
        last = max(target.layer for target in targets)

        def one(states: list[Tensor], start: int, prompts: slice, sets: NDArray[np.intp]) -> Tensor:
            out = torch.zeros(len(sets), states[0].shape[1], dtype=self.dtype, device=self.device)
            edit = self._source(masks[sets], means, prompts)

            def watch(layer: int, parts: _Parts) -> Split:
                for target in targets:
                    if target.layer == layer and parts[target.kind].relevant is not None:
                        mean = 0.0 if means is None else means.of(layer, prompts, target.kind)
                        out.add_(_share(parts[target.kind], target, mean, measure))
                return edit(layer, parts)

            self._through(Split(states[start]), start, watch, last + 1)
            return out

        return self._each(ids, masks, one)

    @torch.no_grad()
    def tokens(self, ids: Tensor, windows: _BOOL, read: Callable[[Tensor], Tensor], position: int) -> _FLOAT:
        """A score of the relevant part of the logits with each window of tokens as source, for one prompt.

        Parameters
        ----------
        windows : array of shape (windows, length)
        """
        out = []
        embedding = self.net.embedding(ids)[None]
        for rows in _slices(len(windows), self.batch):
            mask = torch.as_tensor(windows[rows], device=self.device)[:, None, :, None]
            x = self.net.embedded(Split(embedding, torch.where(mask, embedding, 0.0)))
            logits = self.net.answer(self._through(x, 0, _unchanged), self.position(ids, position)).relevant
            out.append(_array(read(logits)[:, 0]))  # type: ignore[arg-type]
        return np.concatenate(out)

    # ------------------------------------------------------------------ exactness
    @torch.no_grad()
    def conservation(self, ids: Tensor, masks: _BOOL, means: Means | None) -> Conservation:
        """The sum of both parts, each carried by its own rules, against the activations of the model itself."""
        found, own, net = Conservation(), self._own(ids), self.net
        edit = self._source(masks, means, slice(0, len(ids)))
        total = net.embedding(ids)[None].expand(len(masks), -1, -1, -1)
        x = net.embedded(Split(total, torch.zeros_like(total), total.clone()))
        for layer in range(net.layers):
            x = self._block(layer, x, edit)
            _note(found, f"block {layer}", x, own[layer])
        position = self.position(ids, -1)
        _note(found, "the logits", net.answer(x, position), net.logits(ids, position))
        return found

    def _own(self, ids: Tensor) -> list[Tensor]:
        """What leaves each block in the model's own pass."""
        seen: list[Tensor] = []

        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            seen.append(output if isinstance(output, Tensor) else output[0])

        hooks = [block.register_forward_hook(keep) for block in self.net.blocks]
        try:
            self.net.logits(ids, self.position(ids, -1))
        finally:
            for hook in hooks:
                hook.remove()
        return seen

    # ------------------------------------------------------------------ shared
    def _block(self, layer: int, x: Split, edit: _Edit) -> Split:
        net = self.net
        q, k, v = net.queries_keys_values(layer, x)
        z = net.rules.attention(q, k, v, net.scale(layer), net.causal)
        z = edit(layer, {"query": q, "key": k, "value": v, "z": z})
        return net.after_heads(layer, x, z.map(lambda t: t.flatten(-2)))

    def _through(self, x: Split, start: int, edit: _Edit, stop: int | None = None) -> Split:
        for layer in range(start, self.net.layers if stop is None else stop):
            x = self._block(layer, x, edit)
        return x

    def _mask(self, mask: _BOOL) -> Tensor | None:
        """Of shape (sets, 1, length or 1, heads, 1); None where it is empty."""
        return torch.as_tensor(mask, device=self.device)[:, None, :, :, None] if mask.any() else None

    def _source(self, masks: _BOOL, means: Means | None, prompts: slice) -> _Edit:
        """At each source what differs from the reference becomes relevant, and the reference is the rest."""

        def edit(layer: int, parts: _Parts) -> Split:
            z, mask = parts["z"], self._mask(masks[:, layer])
            if mask is None:
                return z
            mean = _mean(means, layer, prompts, z.total)
            before = torch.zeros((), dtype=self.dtype, device=self.device) if z.relevant is None else z.relevant
            return Split(
                z.total,
                torch.where(mask, z.total - mean, before),
                None if z.tracked is None else torch.where(mask, mean, z.tracked),
            )

        return edit

    def _each(self, ids: Tensor, masks: _BOOL, one: Callable[[list[Tensor], int, slice, NDArray[np.intp]], Tensor]) -> _FLOAT:
        """Sets that begin at the same layer together, so that what lies before is worked out once a prompt."""
        out = np.zeros((len(masks), len(ids)))
        occupied = masks.reshape(*masks.shape[:2], -1).any(axis=-1)
        first = np.where(occupied.any(axis=-1), occupied.argmax(axis=-1), self.net.layers - 1)
        for prompts in _slices(len(ids), self.batch):
            states = self.states(ids[prompts])
            # Late layers first: what is not needed any more is let go of.
            for start in range(self.net.layers - 1, -1, -1):
                sets = np.flatnonzero(first == start)
                for part in np.array_split(sets, -(-len(sets) // self.batch)) if len(sets) else ():
                    for some in _slices(len(states[0][0]), max(1, self.batch // len(part))):
                        rows = slice(prompts.start + some.start, prompts.start + some.stop)
                        found = one([state[:, some] for state in states], start, rows, part)
                        out[part, rows] = _array(found)
                states.pop()
        return out


def _unchanged(layer: int, parts: _Parts) -> Split:
    return parts["z"]


def _mean(means: Means | None, layer: int, prompts: slice, like: Tensor) -> Tensor:
    return torch.zeros_like(like[:1]) if means is None else means.of(layer, prompts)


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(n, start + size)) for start in range(0, n, size))


def _array(t: Tensor) -> _FLOAT:
    return t.double().cpu().numpy()


def _share(part: Split, target: Any, mean: Any, measure: str) -> Tensor:
    """How much of a target is relevant, shape (sets, prompts)."""
    where = slice(None) if target.position is None else slice(target.position, target.position + 1)

    def at(t: Tensor) -> Tensor:
        return t[..., where, target.head, :]

    if part.relevant is None:
        raise InvalidData("expected a part that comes from a source, got none")
    relevant = at(part.relevant)
    if measure == "dot":
        centred = part.total - mean
        return (relevant * at(centred)).sum(dim=(-1, -2))
    size, rest = (t.abs().mean(dim=(-1, -2)) for t in (relevant, at(part.rest)))
    return size / (size + rest).clamp_min(torch.finfo(size.dtype).tiny)


def _note(found: Conservation, name: str, part: Split, own: Tensor) -> None:
    assert part.relevant is not None
    found.note(name, float((part.relevant + part.rest - own).abs().max()), 0.0, float(own.abs().max()))
