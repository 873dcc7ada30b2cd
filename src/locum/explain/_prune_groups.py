"""Which channels of a network go together, and taking them out for good."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, LocumError, UnsupportedModule, need

__all__ = ["Structure", "UnitGroup", "by_group", "lowest", "named_layers"]

_INT = NDArray[np.intp]
_TOLERANCE = 1e-5


def _torch() -> Any:
    return need("torch", "pruning a network", "nets")


def named_layers(model: Any) -> dict[str, Any]:
    """Convolutions and linear layers by their path."""
    nn = _torch().nn
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


@dataclass(frozen=True)
class UnitGroup:
    """Units that can be taken out: channels of one layer, with those of all others that have to go with them.

    Parameters
    ----------
    name : str
        Path of one of its layers, by which it is known.
    width : int
        Number of units.
    members : dict of str to (units, channels)
        For each of its layers, which unit each of its channels belongs to.
    """

    name: str
    width: int
    members: Mapping[str, tuple[_INT, _INT]]

    def spread(self, scores: Mapping[str, Any]) -> list[NDArray[np.float64]]:
        """The scores of each member, one a unit."""
        found = []
        for name, (units, channels) in self.members.items():
            of_units = np.zeros(self.width)
            np.add.at(of_units, units, np.asarray(scores[name])[channels])
            found.append(of_units)
        return found


class Structure:
    """The groups of units of a network.

    Parameters
    ----------
    model : torch.nn.Module
        In eval mode; `remove` changes it.
    example : torch.Tensor
        An input, batch axis first.
    ignore : sequence of str
        Paths of layers whose units stay, and with them the whole of their group.

    Raises
    ------
    UnsupportedModule
        A grouped convolution that is not depthwise stands in a group.
    InvalidData
        There is nothing to prune.
    """

    def __init__(self, model: Any, example: Any, ignore: Sequence[str] = ()) -> None:
        self.model, self.example = model, example
        self._names = {module: name for name, module in model.named_modules()}
        pruning = need("torch_pruning", "taking channels out of a network", "nets")
        self._trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        for parameter in model.parameters():  # the channels that go together are found along the gradient
            parameter.requires_grad_(True)
        with _torch().enable_grad():
            self._graph = pruning.DependencyGraph().build_dependency(model, example_inputs=example, verbose=False)
        self._restore()
        layers = named_layers(model)
        found = []
        for group in self._graph.get_all_groups(root_module_types=tuple({type(layer) for layer in layers.values()})):
            one = self._read(group, layers)
            if one is not None and not set(one.members) & set(ignore):
                found.append(one)
        self.groups = tuple(found)
        if not found:
            raise InvalidData("there is no unit to take out: every layer is ignored, or reaches the output")

    @property
    def widths(self) -> dict[str, int]:
        return {group.name: group.width for group in self.groups}

    def _read(self, group: Any, layers: Mapping[str, Any]) -> UnitGroup | None:
        """The group in our words; None where it reaches the output."""
        members: dict[str, tuple[_INT, _INT]] = {}
        for item in group:
            node, outwards = item.dep.target, self._graph.is_out_channel_pruning_fn(item.dep.handler)
            if outwards and not node.outputs:
                return None
            if isinstance(node.module, _torch().nn.Parameter):
                raise UnsupportedModule(
                    f"a parameter of shape {tuple(node.module.shape)} outside any layer goes with units of "
                    f"{self._names[group[0].dep.target.module]}; put it into a layer, or name that one in ignore="
                )
            name = self._names.get(node.module, "")
            if name not in layers or not outwards:
                continue
            self._check_convolution(name, layers[name])
            members[name] = np.array(item.root_idxs, dtype=np.intp), np.array(item.idxs, dtype=np.intp)
        root = self._names[group[0].dep.target.module]
        return UnitGroup(root, int(max(units.max() for units, _ in members.values())) + 1, members)

    def _check_convolution(self, name: str, layer: Any) -> None:
        groups = getattr(layer, "groups", 1)
        if groups > 1 and not groups == layer.in_channels == layer.out_channels:
            raise UnsupportedModule(
                f"{name} is a convolution of {groups} groups and {layer.out_channels} channels, of which single channels "
                "cannot be taken out; name it in ignore=, with the layers that feed it"
            )

    # ------------------------------------------------------------------ taking out
    def masked(self, chosen: Mapping[str, Iterable[int]]) -> Any:
        """A copy of the network in which the units chosen answer 0, at the size it had."""
        torch = _torch()
        model = copy.deepcopy(self.model)
        named = dict(model.named_modules())
        with torch.no_grad():
            for root, units in chosen.items():
                for item in self._group(root, units):
                    name = self._names.get(item.dep.target.module)
                    if name is not None and self._graph.is_out_channel_pruning_fn(item.dep.handler):
                        _silence(named[name], list(item.idxs))
        return model

    def remove(self, chosen: Mapping[str, Iterable[int]]) -> None:
        """Take units out of the network itself, which must then answer as `masked` does.

        Raises
        ------
        LocumError
            It does not.
        """
        torch = _torch()
        masked = self.masked(chosen)
        # Groups may meet in one layer, behind a concatenation: all its channels go at once, while their numbers still hold.
        gone: dict[tuple[Any, Any], tuple[Any, set[int]]] = {}
        for root, units in chosen.items():
            for item in self._group(root, units):
                gone.setdefault((item.dep.target, item.dep.handler), (item.dep, set()))[1].update(item.idxs)
        for dependency, channels in gone.values():
            dependency(sorted(channels))
        self._restore()
        with torch.no_grad():
            expected = masked(self.example)
            try:
                found = self.model(self.example)
            except RuntimeError as error:
                raise LocumError(
                    f"without units of {', '.join(list(chosen)[:5])} the layers no longer fit together ({error}); what was "
                    "joined there could not be followed (a concatenation that is flattened into a linear layer cannot): name "
                    "its layers in ignore="
                ) from error
        if expected.shape != found.shape:
            raise LocumError(
                f"without the units chosen the network answers shape {tuple(found.shape)} and not {tuple(expected.shape)}; "
                "name the layers behind its output in ignore="
            )
        gap = float((expected - found).abs().max() / expected.abs().max().clamp(min=1.0))
        if not gap <= _TOLERANCE:
            raise LocumError(
                f"the network without the units chosen and the one in which they answer 0 differ by {gap:.2g}, more than "
                f"{_TOLERANCE:g}; look for an activation behind one of {', '.join(list(chosen)[:5])} that does not take 0 "
                "to 0, and name the layer in ignore="
            )

    def _group(self, root: str, units: Iterable[int]) -> Any:
        module = self.model.get_submodule(root)
        pruner = self._graph.get_pruner_of_module(module)
        return self._graph.get_pruning_group(module, pruner.prune_out_channels, [int(unit) for unit in units])

    def _restore(self) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self._trained[name])


def _silence(module: Any, channels: list[int]) -> None:
    """Make some outputs of a layer, or of a batch normalisation behind one whose outputs are 0, answer 0."""
    for name in ("weight", "bias"):
        parameter = getattr(module, name, None)
        if parameter is not None:
            parameter[channels] = 0.0
    if getattr(module, "running_mean", None) is not None:
        module.running_mean[channels] = 0.0


# ---------------------------------------------------------------------- units of all groups in one row
def lowest(scores: NDArray[np.float64], groups: Sequence[UnitGroup], count: int, room: Mapping[str, int]) -> NDArray[np.bool_]:
    """The `count` units of lowest score, of each group at most as many as it may lose."""
    owners = np.repeat([group.name for group in groups], [group.width for group in groups])
    left, gone = dict(room), np.zeros(len(scores), dtype=bool)
    for at in np.argsort(scores, kind="stable").tolist():
        if count == 0:
            break
        if left[owners[at]] > 0:
            gone[at], left[owners[at]], count = True, left[owners[at]] - 1, count - 1
    return gone


def by_group(gone: NDArray[np.bool_], groups: Sequence[UnitGroup]) -> dict[str, list[int]]:
    """Which units of each group, from one row of all; groups that lose none are left out."""
    parts = np.split(gone, np.cumsum([group.width for group in groups])[:-1])
    return {group.name: np.flatnonzero(part).tolist() for group, part in zip(groups, parts, strict=True) if part.any()}
