"""Pruning by explaining (Yeom et al., 2021, arXiv:1912.08881): the part of a network that a few explained rows need."""

from __future__ import annotations

import copy
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, NotFresh, need, require_one_of, require_whole
from locum.core.measures import Agreement, KLDivergence
from locum.explain._fresh import among, contents
from locum.explain._lrp import STARTS, LRPExplainer, Propagation, checked_module
from locum.explain._propagation import Conservation
from locum.explain._prune_file import read_pruned, write_pruned
from locum.explain._prune_groups import Structure, UnitGroup, by_group, lowest, named_layers
from locum.explain._prune_records import PruningFidelity, PruningStep, Stability, latency, operations, parameters, stable
from locum.explain._prune_reference import (
    drawn,
    observed,
    probabilities,
    reference_batches,
    require_all_classes,
    tensors,
)

__all__ = [
    "GradientCriterion",
    "LRPCriterion",
    "LRPExplainer",
    "RandomCriterion",
    "RelevancePruner",
    "TaylorCriterion",
    "WeightCriterion",
]

_FLOAT = NDArray[np.float64]
_NORMS = (None, "sum", "l2")
Scores = dict[str, _FLOAT]
Kept = dict[str, NDArray[np.intp]]


def _torch() -> Any:
    return need("torch", "pruning a network", "nets")


# ---------------------------------------------------------------------- criteria
class Criterion(BaseEstimator, ABC):
    """How much each unit of a network is needed: one number for each channel of each convolution and linear layer.

    To add one, give `_totals`.
    """

    layer_norm: str | None

    def score(self, model: Any, reference: Any, *, device: Any = "cpu") -> Scores:
        """Scores of shape (channels,) by path of the layer; the units of the lowest go first.

        Parameters
        ----------
        model : torch.nn.Module
            In eval mode; logits out. It is moved to `device`, and otherwise stays as it is.
        reference : (X, y), or iterable of such pairs
            Rows of shape (n, ...) and their classes as positions among the logits; every class at least once.
        device : torch.device or str, default="cpu"

        Raises
        ------
        InvalidData
            A network in train mode, or reference rows that lack a class.
        UnsupportedModule
            For relevance alone: a module without a rule.
        """
        if self.layer_norm not in _NORMS:
            raise InvalidData(f"expected layer_norm= to be None, 'sum' or 'l2', got {self.layer_norm!r}")
        module = checked_module(model).to(device)
        batches = reference_batches(reference, device)
        with _torch().no_grad():
            require_all_classes(batches, module(batches[0][0][:1]).shape[-1])
        return {name: self._normalised(total) for name, total in self._totals(module, batches).items()}

    def joined(self, members: Sequence[_FLOAT]) -> _FLOAT:
        """The scores of units that several layers share, from those of each layer: their sum."""
        return np.sum(members, axis=0)

    @abstractmethod
    def _totals(self, model: Any, batches: list[tuple[Any, Any]]) -> Scores:
        """Scores before each layer is normalised."""

    def _normalised(self, total: _FLOAT) -> _FLOAT:
        if self.layer_norm is None:
            return total
        size = float(np.abs(total).sum() if self.layer_norm == "sum" else np.sqrt((total**2).sum()))
        return total / size if size > 0 else total


class LRPCriterion(Criterion):
    """Relevance that arrives at a unit, mean over reference rows.

    Relevance of 1 starts at the true class of each row and is shared out downwards, in proportion to what speaks for it, so
    that every layer passes on what it gets. So scores of all layers are on one scale, and no layer is normalised.

    .. math:: R_i = \\sum_j \\frac{(x_i w_{ij})^+}{\\sum_{i'} (x_{i'} w_{i'j})^+ + 10^{-9}} R_j

    Parameters
    ----------
    rule : {"zplus", "epsilon"}, default="zplus"
        Positive products alone, or all of them.
    start : {"onehot", "softmax", "logit"}, default="onehot"
        What relevance starts from: 1, the probability of the class, or its logit, which must then be positive.
    layer_norm : {None, "sum", "l2"}, default=None
        What the scores of each layer are divided by.

    Notes
    -----
    Cost: about two forward passes and a backward pass for each reference row.
    """

    def __init__(self, rule: str = "zplus", start: str = "onehot", layer_norm: str | None = None) -> None:
        self.rule = rule
        self.start = start
        self.layer_norm = layer_norm

    def _totals(self, model: Any, batches: list[tuple[Any, Any]]) -> Scores:
        require_one_of(STARTS, start=self.start)
        propagate = Propagation(model, self.rule)
        n = sum(len(y) for _, y in batches)
        totals: Scores = {}
        for X, y in batches:
            for name, relevance in propagate(X, y, start=self.start).layers.items():
                axis = _channel_axis(model, name, relevance)
                _add(totals, name, _channel_sums(relevance, axis) / n)
        return totals

    def conservation(self, model: Any, reference: Any, *, device: Any = "cpu") -> Conservation:
        """Sum of relevance on both sides of every operation, to check that it is kept; for one batch.

        Parameters
        ----------
        model, reference
            As for `score`; the first batch counts.
        device : torch.device or str, default="cpu"
        """
        X, y = reference_batches(reference, device)[0]
        return Propagation(checked_module(model).to(device), self.rule)(X, y, start=self.start, inputs=True).conservation


class _GradientBased(Criterion):
    """What the cross-entropy of the reference rows loses with a unit, to first order."""

    def __init__(self, layer_norm: str | None = "l2") -> None:
        self.layer_norm = layer_norm

    @abstractmethod
    def _effect(self, activation: Any, gradient: Any) -> Any:
        """One value for each activation."""

    def _totals(self, model: Any, batches: list[tuple[Any, Any]]) -> Scores:
        torch = _torch()
        totals: Scores = {}
        counts: dict[str, int] = {}
        for X, y in batches:
            with observed(model, X) as found:
                loss = torch.nn.functional.cross_entropy(found.logits, y, reduction="sum")
                gradients = torch.autograd.grad(loss, list(found.outputs.values()))
            for (name, activation), gradient in zip(found.outputs.items(), gradients, strict=True):
                axis = _channel_axis(model, name, activation)
                _add(totals, name, _channel_sums(self._effect(activation.detach(), gradient), axis))
                counts[name] = counts.get(name, 0) + activation.numel() // activation.shape[axis]
        return {name: np.abs(total) / counts[name] for name, total in totals.items()}


class TaylorCriterion(_GradientBased):
    """First-order Taylor: absolute mean of activation times gradient of the loss, over rows and positions.

    Parameters
    ----------
    layer_norm : {None, "sum", "l2"}, default="l2"
        What the scores of each layer are divided by.

    References
    ----------
    .. [1] Molchanov et al. (2017), "Pruning Convolutional Neural Networks for Resource Efficient Inference", arXiv:1611.06440.
    """

    def _effect(self, activation: Any, gradient: Any) -> Any:
        return activation * gradient


class GradientCriterion(_GradientBased):
    """Absolute mean of the gradient of the loss by an activation, over rows and positions.

    Parameters
    ----------
    layer_norm : {None, "sum", "l2"}, default="l2"
        What the scores of each layer are divided by.
    """

    def _effect(self, activation: Any, gradient: Any) -> Any:
        return gradient


class WeightCriterion(Criterion):
    """Sum of the absolute weights of a unit, with the batch normalisation behind it folded in; needs no rows.

    Parameters
    ----------
    layer_norm : {None, "sum", "l2"}, default="sum"
        What the scores of each layer are divided by.

    References
    ----------
    .. [1] Li et al. (2017), "Pruning Filters for Efficient ConvNets", arXiv:1608.08710.
    """

    def __init__(self, layer_norm: str | None = "sum") -> None:
        self.layer_norm = layer_norm

    def _totals(self, model: Any, batches: list[tuple[Any, Any]]) -> Scores:
        with observed(model, batches[0][0][:1]) as found:
            norms = found.norms
        totals = {}
        for name, layer in named_layers(model).items():
            total = layer.weight.detach().abs().flatten(1).sum(dim=1)
            if name in norms:
                norm = norms[name]
                spread = (norm.running_var + norm.eps).sqrt()
                total = total * (1.0 if norm.weight is None else norm.weight.detach().abs()) / spread
            totals[name] = total.double().cpu().numpy()
        return totals


class RandomCriterion(Criterion):
    """No reason at all: what every other criterion has to beat.

    Parameters
    ----------
    random_state : int, default=0
    """

    layer_norm = None

    def __init__(self, random_state: int = 0) -> None:
        self.random_state = random_state

    def joined(self, members: Sequence[_FLOAT]) -> _FLOAT:
        return members[0]  # a sum of several would be larger than what one layer alone draws

    def _totals(self, model: Any, batches: list[tuple[Any, Any]]) -> Scores:
        sizes = {name: layer.weight.shape[0] for name, layer in named_layers(model).items()}
        rng = np.random.default_rng([self.random_state, sum(sizes.values())])  # another order at each size
        return {name: rng.random(size) for name, size in sizes.items()}


def _channel_axis(model: Any, name: str, output: Any) -> int:
    return output.ndim - 1 if isinstance(model.get_submodule(name), _torch().nn.Linear) else 1


def _channel_sums(values: Any, axis: int) -> _FLOAT:
    others = [i for i in range(values.ndim) if i != axis]
    return np.asarray(values.double().sum(dim=others).cpu().numpy())


def _add(totals: Scores, name: str, more: _FLOAT) -> None:
    totals[name] = totals[name] + more if name in totals else more


# ---------------------------------------------------------------------- pruning
class RelevancePruner(BaseEstimator):
    """A smaller network stands in for a trained one: units that a criterion finds least needed are taken out, step by step.

    A few reference rows of each class say what the task needs. At each step all units of all layers are scored anew and ranked
    together, and the lowest go for good: output channels, their biases and batch normalisations, and the input channels
    behind them. Channels that residual sums or depthwise convolutions tie together are one unit, scored by their sum.

    Parameters
    ----------
    model : torch.nn.Module
        Trained, in eval mode, logits out; it stays as it is.
    criterion : LRPCriterion, TaylorCriterion, GradientCriterion, WeightCriterion or RandomCriterion
    example_input : torch.Tensor of shape (1, ...)
        What the network takes.
    step : float, default=0.05
        Share of the original number of units that go at a time.
    target : float, default=0.5
        Share of units to prune in all.
    min_channels : int, default=1
        Units that each layer keeps at least.
    max_layer_share : float or None, default=None
        Largest share of the units of one layer that may go.
    ignore : sequence of modules or str, default=()
        Layers, or their paths, of which no unit goes; what is tied to them stays as well, as does what reaches the output.
    device : torch.device or str, default="cpu"
    random_state : int, default=0
        Of the random rival and of draws.

    Attributes
    ----------
    model_ : torch.nn.Module
        The small network, in eval mode.
    history_ : tuple of PruningStep
        The full network and each step: share of units, what `evaluate` said, parameters, operations, latency, share by layer.
    kept_ : dict of str to ndarray of int
        By path of one layer of each group, which of its units are left.

    Notes
    -----
    Cost: for each step one scoring of the reference rows and two forward passes of the example input; on top of it what
    `fine_tune` and `evaluate` take.

    **Departures** from the paper: batch normalisations are folded for all criteria, not for relevance alone. Relevance is
    divided by the number of rows, not by each layer's sum; without branches this is the same. A network that answers otherwise
    than one in which the units are silenced is refused.

    References
    ----------
    .. [1] Yeom et al. (2021), "Pruning by Explaining: A Novel Criterion for Deep Neural Network Pruning", Pattern Recognition
       115, arXiv:1912.08881.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from locum.nets import seeded
    >>> with seeded(0):
    ...     net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    >>> X = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    >>> y = net(torch.tensor(X)).argmax(1).numpy()
    >>> pruner = RelevancePruner(net, LRPCriterion(), torch.zeros(1, 4), step=0.25).fit((X, y))
    >>> pruner.model_
    Sequential(
      (0): Linear(in_features=4, out_features=4, bias=True)
      (1): ReLU()
      (2): Linear(in_features=4, out_features=2, bias=True)
    )
    >>> [step.share for step in pruner.history_]
    [0.0, 0.25, 0.5]
    """

    papers = ("pruning-by-explaining",)

    def __init__(
        self,
        model: Any,
        criterion: Any,
        example_input: Any,
        *,
        step: float = 0.05,
        target: float = 0.5,
        min_channels: int = 1,
        max_layer_share: float | None = None,
        ignore: Sequence[Any] = (),
        device: Any = "cpu",
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.example_input = example_input
        self.step = step
        self.target = target
        self.min_channels = min_channels
        self.max_layer_share = max_layer_share
        self.ignore = ignore
        self.device = device
        self.random_state = random_state

    def fit(
        self,
        reference: Any,
        *,
        fine_tune: Callable[[Any], Any] | None = None,
        evaluate: Callable[[Any], float | Mapping[str, float]] | None = None,
    ) -> Self:
        """Prune.

        Parameters
        ----------
        reference : (X, y), or iterable of such pairs
            Rows that the criterion scores units on, of every class.
        fine_tune : callable or None, default=None
            ``fine_tune(model)`` trains the network in place after each step.
        evaluate : callable or None, default=None
            ``evaluate(model)`` gives the accuracy, or a dict of numbers by name; on rows that are not among the reference.

        Raises
        ------
        InvalidData
            Settings that cannot be used, a share that would empty a layer, a class without reference rows, train mode.
        UnsupportedModule
            A module that relevance has no rule for, or a grouped convolution.
        LocumError
            The pruned network answers otherwise than the one with silenced units.
        """
        batches = reference_batches(reference, self.device)
        self._reference, self._fine_tune = contents(row for X, _ in batches for row in X.cpu().numpy()), fine_tune
        self._batches = batches
        self.model_, self.history_, self.kept_, self._widths = self._pruned(self.criterion, evaluate)
        return self

    # ------------------------------------------------------------------ steps
    def _pruned(self, criterion: Any, evaluate: Any) -> tuple[Any, tuple[PruningStep, ...], Kept, dict[str, int]]:
        structure = self._started()
        model, widths = structure.model, structure.widths
        total = sum(widths.values())
        allowed = {name: self._allowed(width) for name, width in widths.items()}
        planned = self._planned(total, sum(allowed.values()))
        kept: Kept = {name: np.arange(width) for name, width in widths.items()}
        history = [self._noted(model, None, kept, widths, evaluate)]
        for gone in planned:
            if gone is not planned[0]:
                structure = Structure(model, structure.example, self._ignored())
            count = gone - (total - sum(map(len, kept.values())))
            room = {name: allowed[name] - (widths[name] - len(units)) for name, units in kept.items()}
            scores = _unit_scores(criterion, structure.groups, criterion.score(model, self._batches, device=self.device))
            chosen = by_group(lowest(scores, structure.groups, count, room), structure.groups)
            structure.remove(chosen)
            kept = {name: np.delete(units, chosen.get(name, [])) for name, units in kept.items()}
            if self._fine_tune is not None:
                self._fine_tune(model)
                model.eval()
            history.append(self._noted(model, history[0], kept, widths, evaluate))
        return model, tuple(history), kept, widths

    def _started(self) -> Structure:
        """A copy of the network, and its groups; settings are checked."""
        torch = _torch()
        require_whole(1, min_channels=self.min_channels)
        for name, share in (("step", self.step), ("target", self.target), ("max_layer_share", self.max_layer_share)):
            if not (share is None and name == "max_layer_share") and not (isinstance(share, float) and 0 < share < 1):
                raise InvalidData(f"expected {name}= to be a share between 0 and 1, got {share!r}")
        if not isinstance(self.criterion, Criterion):
            raise InvalidData(f"expected a criterion such as LRPCriterion(), got {type(self.criterion).__name__}")
        if not isinstance(self.example_input, torch.Tensor):
            raise InvalidData(f"expected example_input= to be a tensor, got {type(self.example_input).__name__}")
        model = copy.deepcopy(checked_module(self.model)).to(self.device)
        return Structure(model, self.example_input.to(self.device), self._ignored())

    def _ignored(self) -> list[str]:
        named = dict(self.model.named_modules())
        paths = {module: name for name, module in named.items()}
        found = []
        for one in self.ignore:
            name = one if isinstance(one, str) else paths.get(one)
            if name not in named:
                raise InvalidData(f"expected ignore= to name layers of the network, got {one!r}")
            found += [path for path in named if path == name or path.startswith(f"{name}.")]
        return found

    def _allowed(self, width: int) -> int:
        """How many units of a layer may go."""
        most = width if self.max_layer_share is None else int(self.max_layer_share * width + 1e-9)
        return max(0, min(most, width - self.min_channels))

    def _planned(self, total: int, allowed: int) -> list[int]:
        """How many units are gone after each step."""
        wanted = round(self.target * total)
        if wanted > allowed:
            raise InvalidData(
                f"target={self.target:g} means {wanted} of {total} units, which would empty a layer: with min_channels="
                f"{self.min_channels} and max_layer_share={self.max_layer_share} at most {allowed} may go; "
                "lower target=, or those limits"
            )
        steps = math.ceil(self.target / self.step - 1e-9)
        planned = [min(wanted, round((i + 1) * self.step * total)) for i in range(steps)]
        return sorted({gone for gone in planned if gone > 0})

    def _noted(self, model: Any, full: PruningStep | None, kept: Any, widths: Any, evaluate: Any) -> PruningStep:
        example = self.example_input.to(self.device)
        said = {} if evaluate is None else evaluate(model)
        named = said if isinstance(said, Mapping) else {"accuracy": said}
        measured = {name: float(value) for name, value in named.items()}
        count, flops = parameters(model), operations(model, example)
        by_layer = {name: 1 - len(units) / widths[name] for name, units in kept.items()}
        return PruningStep(
            1 - sum(map(len, kept.values())) / sum(widths.values()), measured, count, flops,
            count / full.parameters if full else 1.0, flops / full.flops if full else 1.0, latency(model, example), by_layer,
        )  # fmt: skip

    # ------------------------------------------------------------------ how far to trust it
    def fidelity(self, X: Any, *, groups: Any = None, region: str = "", level: float = 0.95) -> PruningFidelity:
        """How well the small network says what the full one says, beside a network without as many units at random.

        Parameters
        ----------
        X : array of shape (n, ...)
            Rows that are not among the reference.
        groups : array of shape (n,) or None, default=None
            Group of each row where several are alike, for the intervals.
        region : str, default=""
            Where the rows come from, in words.
        level : float, default=0.95

        Raises
        ------
        NotFresh
            A row is one of the reference.

        Notes
        -----
        Cost: the random rival is pruned, and fine-tuned, as the network was.
        """
        check_is_fitted(self, "model_")
        rows, _ = tensors(X, np.zeros(len(X), dtype=int), self.device)
        known = among(rows.cpu().numpy(), self._reference)
        if known:
            raise NotFresh(f"{known} of these {len(rows)} rows are among the reference, so they cannot score; give others")
        other, *_ = self._pruned(RandomCriterion(self.random_state), None)
        full = copy.deepcopy(self.model).to(self.device)
        truth, small, random = (probabilities(model, rows) for model in (full, self.model_, other))
        how: dict[str, Any] = {"groups": groups, "region": region, "level": level, "how": "fresh rows"}
        how["random_state"] = self.random_state
        found = []
        for said in (small, random):
            found.append(Agreement().fidelity(truth.argmax(axis=1), said.argmax(axis=1), **how))
            found.append(KLDivergence().fidelity(truth, said, **how))
        return PruningFidelity(*found)

    def stability(
        self, X: Any, y: Any, *, per_class: Sequence[int] = (10,), draws: int = 10, level: float = 0.95
    ) -> list[Stability]:
        """Whether other reference rows would have pruned the same units: one record for each number of rows a class.

        Parameters
        ----------
        X, y : array of shape (n, ...), array of int of shape (n,)
            Rows to draw references from.
        per_class : sequence of int, default=(10,)
        draws : int, default=10
            At least 3.
        level : float, default=0.95

        Notes
        -----
        Cost: `draws` scorings for each number. The units pruned are those that one step to `target` would take.
        """
        require_whole(3, draws=draws)
        rows, labels = tensors(X, y, self.device)
        structure = self._started()
        room = {group.name: self._allowed(group.width) for group in structure.groups}
        count = self._planned(sum(structure.widths.values()), sum(room.values()))[-1]
        found = []
        for size in per_class:
            require_whole(1, per_class=size)
            scores, pruned = [], []
            for draw in range(draws):
                chosen = drawn(labels.cpu().numpy(), size, np.random.default_rng([self.random_state, size, draw]))
                said = self.criterion.score(structure.model, (rows[chosen], labels[chosen]), device=self.device)
                scores.append(_unit_scores(self.criterion, structure.groups, said))
                pruned.append(lowest(scores[-1], structure.groups, count, room))
            found.append(stable(size, scores, pruned, level))
        return found

    # ------------------------------------------------------------------ keeping it
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the weights, and which units are left as JSON, into one file that holds no code."""
        check_is_fitted(self, "model_")
        write_pruned(
            path, self.model_, widths=self._widths, kept={name: units.tolist() for name, units in self.kept_.items()},
            ignore=self._ignored(), example=list(self.example_input.shape), history=[step.to_dict() for step in self.history_],
        )  # fmt: skip

    @staticmethod
    def load(path: str | os.PathLike[str], model: Any) -> Any:
        """The small network that `save` wrote, in eval mode.

        Parameters
        ----------
        path : path
        model : torch.nn.Module
            The architecture of the full network, in eval mode, with any weights; it stays as it is.

        Raises
        ------
        FormatError
            The file is none of these, or of another architecture.
        """
        return read_pruned(path, model)


# ---------------------------------------------------------------------- units of all layers in one row
def _unit_scores(criterion: Criterion, groups: Sequence[UnitGroup], scores: Scores) -> _FLOAT:
    return np.concatenate([criterion.joined(group.spread(scores)) for group in groups])
