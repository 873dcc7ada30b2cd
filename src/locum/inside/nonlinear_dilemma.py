"""An algorithm stands in for a network through an invertible map of its hidden state: how well, and through how strong a map.

Where the map may do anything, almost any algorithm fits almost any network. So a map is stated with its power, fitted on
some interventions and measured on others; :func:`locum.inside.audit` sets controls beside it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.bounds import binomial, survey_proportion
from locum.core.errors import InvalidData, need, require_positive, require_whole
from locum.core.fidelity import Fidelity
from locum.inside.causal_model import Interventions
from locum.inside.cuts import Cut, States

__all__ = ["Alignment", "AlignmentMap", "CodeLength", "NeuronMap", "OrthogonalMap", "RevNetMap"]

_DRIFT = 1e-3  # standard deviations by which an inverse may miss before a fit is given up
_REAL = 10_000  # states among which the nearest is looked for
_PROBES = 2000  # rows on which inverses and single neurons are tried


class AlignmentMap(ABC):
    """A family of invertible maps of an activation."""

    @abstractmethod
    def made(self, width: int, dtype: Any = None) -> Any:
        """A torch module with an ``inverse``, its weights drawn from torch's generator."""


@final
@dataclass(frozen=True)
class NeuronMap(AlignmentMap):
    """No map: each node owns single neurons, added one at a time where they lower the loss most."""

    def made(self, width: int, dtype: Any = None) -> Any:
        from locum.inside._alignment import Neurons

        return Neurons()

    def __str__(self) -> str:
        return "neurons"


@final
@dataclass(frozen=True)
class OrthogonalMap(AlignmentMap):
    """u = W h with an orthogonal matrix W: nodes own directions."""

    def made(self, width: int, dtype: Any = None) -> Any:
        from locum.inside._alignment import Rotation

        return Rotation(width, dtype)

    def __str__(self) -> str:
        return "orthogonal"


@final
@dataclass(frozen=True)
class RevNetMap(AlignmentMap):
    """A reversible network: in each block y1 = h1 + F(h2) and y2 = h2 + G(y1), for the two halves of the activation.

    Parameters
    ----------
    blocks : int, default=10
    width : int, default=16
        Hidden units of F and of G.
    """

    blocks: int = 10
    width: int = 16

    def __post_init__(self) -> None:
        require_whole(1, blocks=self.blocks, width=self.width)

    def made(self, width: int, dtype: Any = None) -> Any:
        from locum.inside._alignment import RevNet

        if width % 2:
            raise InvalidData(f"expected an activation of even width for a RevNet, which couples its halves, got {width}")
        return RevNet(width, self.blocks, self.width, dtype)

    def __str__(self) -> str:
        return f"RevNet({self.blocks}, {self.width})"


class CodeLength(NamedTuple):
    """What it costs to send the labels of interventions one batch after the other, each with a map fitted on those before.

    Parameters
    ----------
    bits : float
        For each intervention.
    uniform : float
        The same without any map, all labels equally likely.
    stages : tuple of tuple of int, float
        Interventions fitted on, and bits for each of the next ones.
    """

    bits: float
    uniform: float
    stages: tuple[tuple[int, float], ...]


@final
class Alignment(BaseEstimator):
    r"""An algorithm's nodes stand in for blocks of a mapped hidden state.

    With an invertible map :math:`\phi` of the hidden state h each node owns some coordinates of :math:`u = \phi(h)`. Under an
    intervention the coordinates of nodes that are set come from the hidden states of other inputs, and the network goes on
    from :math:`\phi^{-1}(u)`. The map is trained so that the network then answers as the algorithm does; the network's own
    weights stay as they are:

    .. math:: \min_\phi\; \mathrm{E}\,\big[-\log p\big(y^*(x_0, x_\eta) \mid \phi^{-1}(u(x_0)\ \text{with}\ u_\eta =
        \phi(h(x_\eta))_\eta)\big)\big]

    Parameters
    ----------
    cut : Cut
        The network and the activation; the map is trained on its device.
    map : AlignmentMap, default=orthogonal
    blocks : int or dict of str to int, default=8
        Coordinates that each node owns.
    epochs : int, default=20
    batch_size : int, default=1024
    learning_rate : float, default=1e-3
        Of Adam; falls along half a cosine.
    patience : int or None, default=None
        Epochs without a lower loss on a tenth of the interventions that is held back, after which training stops; None trains
        on all of them.
    random_state : int, default=0

    Attributes
    ----------
    module_ : torch.nn.Module
        Of the fitted map.
    history_ : History or None
        Of the training; None for single neurons.
    owned_ : dict of str to ndarray of int
        Coordinates of each node.
    drift_ : float
        Largest error of the inverse, in standard deviations of the activation.
    n_parameters_ : int
        Free parameters of the map.

    Raises
    ------
    InvalidData
        Blocks larger than the activation, a RevNet on an odd width, labels the network has no logit for, no interventions.
    TrainingFailed
        A loss or an inverse that went astray; train with smaller steps, or a network in float64.

    Notes
    -----
    Cost: hidden states of the distinct inputs once. Then, for each intervention and epoch, the map on the base and on
    the source of each node, its inverse, and the part of the network after the cut, forwards and backwards.

    **Departures**: interventions pair rows of one table of inputs, so that hidden states are computed once for each input
    rather than once for each use; the learning rate falls along half a cosine instead of by plateaus.

    References
    ----------
    Sutter, Minder, Hofmann and Pimentel, *The Non-Linear Representation Dilemma*, NeurIPS 2025, arXiv 2507.08802. Geiger and
    others, *Finding Alignments Between Interpretable Causal Variables and Distributed Neural Representations*,
    arXiv 2303.02536.

    Examples
    --------
    >>> import torch
    >>> from locum.inside import CausalModel, NetworkCut
    >>> from locum.nets import seeded
    >>> with seeded(0):
    ...     net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2)).eval()
    >>> _ = net[0].weight.data.copy_(torch.eye(2)), net[0].bias.data.zero_()
    >>> _ = net[2].weight.data.copy_(torch.tensor([[-9.0, -9.0], [9.0, 9.0]]))
    >>> _ = net[2].bias.data.copy_(torch.tensor([9.0, -9.0]))
    >>> either = CausalModel({"a": lambda x: x[:, 0] > 0, "b": lambda x: x[:, 1] > 0}, lambda a, b: a | b)
    >>> X = np.random.default_rng(0).integers(0, 2, size=(50, 2)) * 2.0
    >>> alignment = Alignment(NetworkCut(net, "1"), NeuronMap(), blocks=1).fit(either.interventions(X, 200))
    >>> {node: owned.tolist() for node, owned in alignment.owned_.items()}
    {'a': [0], 'b': [1]}
    >>> alignment.iia(either.interventions(X, 200, random_state=1)).value
    1.0
    """

    papers = ("nonlinear-dilemma",)

    def __init__(
        self,
        cut: Cut,
        map: AlignmentMap = OrthogonalMap(),
        *,
        blocks: int | Mapping[str, int] = 8,
        epochs: int = 20,
        batch_size: int = 1024,
        learning_rate: float = 1e-3,
        patience: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.cut = cut
        self.map = map
        self.blocks = blocks
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(self, interventions: Interventions, *, states: States | None = None) -> Self:
        """Find the map.

        Parameters
        ----------
        interventions : Interventions
        states : States or None, default=None
            What ``cut.states(interventions.inputs)`` gave, where it is there already.
        """
        from locum.inside._alignment import Aligned, first_coordinates
        from locum.nets import seeded

        require_whole(1, epochs=self.epochs, batch_size=self.batch_size)
        require_positive(learning_rate=self.learning_rate)
        if not isinstance(self.map, AlignmentMap):
            raise InvalidData(f"expected map= as NeuronMap(), OrthogonalMap() or RevNetMap(), got {self.map!r}")
        if not len(interventions):
            raise InvalidData("expected at least one intervention, got none")
        found = self.cut.states(interventions.inputs) if states is None else states
        width = found.hidden.shape[1]
        sizes = self._sizes(interventions.nodes, width)
        device = found.hidden.device
        with seeded(self.random_state):
            made = self.map.made(width, found.hidden.dtype)
        module = Aligned(made, first_coordinates(sizes, width)).to(device)
        self._check_labels(found, interventions)
        self.history_ = None
        if isinstance(self.map, NeuronMap):
            module.owned.copy_(self._greedy(module, found, interventions, sizes))
        else:
            self.history_ = self._trained(module, found, interventions)
        self.module_ = module.eval()
        self.nodes_ = interventions.nodes
        self.owned_ = {
            node: np.flatnonzero(own.cpu().numpy()) for node, own in zip(interventions.nodes, module.owned, strict=True)
        }
        self.drift_ = module.drift(found.hidden[:_PROBES])
        self.n_parameters_ = _free_parameters(self.map, module.map, width)
        return self

    def _sizes(self, nodes: tuple[str, ...], width: int) -> list[int]:
        told = dict.fromkeys(nodes, self.blocks) if isinstance(self.blocks, int) else dict(self.blocks)
        if set(told) != set(nodes):
            raise InvalidData(f"expected blocks= for the nodes {', '.join(nodes)}, got {', '.join(map(str, told)) or 'none'}")
        require_whole(1, **{f"blocks[{node!r}]": size for node, size in told.items()})
        if sum(told.values()) > width:
            raise InvalidData(f"expected blocks of at most {width} coordinates together, the width at the cut, got {told}")
        return [int(told[node]) for node in nodes]

    def _check_labels(self, states: States, interventions: Interventions) -> None:
        torch = need("torch", "an alignment", "nets")
        with torch.no_grad():
            classes = states.after(states.hidden[:1], torch.zeros(1, dtype=torch.long, device=states.hidden.device)).shape[1]
        if interventions.labels.max() >= classes:
            raise InvalidData(f"expected labels below {classes}, the network's logits, got {interventions.labels.max()}")

    def _trained(self, module: Any, states: States, interventions: Interventions) -> Any:
        torch = need("torch", "an alignment", "nets")
        from locum.nets import TrainingFailed, train

        probe = states.hidden[:_PROBES]

        def loss(this: Any, base: Any, sources: Any, swapped: Any, labels: Any) -> Any:
            logits = states.after(this.edited(states.hidden, base, sources, swapped), base)
            return torch.nn.functional.cross_entropy(logits, labels)

        def inverse_holds(this: Any, epoch: int) -> None:
            drift = this.drift(probe)
            if not drift <= _DRIFT:
                raise TrainingFailed(
                    f"after epoch {epoch} the inverse of the map misses by {drift:.2g} standard deviations; use a network in "
                    "float64, or train with smaller steps"
                )

        device = states.hidden.device
        tensors = _tensors(interventions, device)
        held = max(1, len(interventions) // 10) if self.patience is not None else 0
        rest, kept = [one[held:] for one in tensors], [one[:held] for one in tensors]

        def schedule(optimizer: Any) -> Any:
            return torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda epoch: 0.5 + 0.5 * math.cos(math.pi * epoch / self.epochs)
            )

        def validate(this: Any) -> float:
            parts = zip(*(one.split(self.batch_size) for one in kept), strict=True)
            return sum(float(loss(this, *part)) * len(part[0]) for part in parts) / held

        with self.cut.frozen():
            return train(
                module, loss, rest, epochs=self.epochs, batch_size=self.batch_size, schedule=schedule,
                optimizer=lambda parameters: torch.optim.Adam(parameters, lr=self.learning_rate),
                validate=validate if held else None, patience=self.patience, after_epoch=inverse_holds, device=device,
                random_state=self.random_state,
        )  # fmt: skip

    @staticmethod
    def _greedy(module: Any, states: States, interventions: Interventions, sizes: list[int]) -> Any:
        """Neurons of each node: one at a time for each node in turn, the one with which the loss is lowest."""
        torch = need("torch", "an alignment", "nets")
        base, sources, swapped, labels = _tensors(interventions.part(0, _PROBES), states.hidden.device)
        owned = torch.zeros_like(module.owned)
        for step in range(max(sizes)):
            for j, size in enumerate(sizes):
                if step >= size:
                    continue
                losses = {}
                for neuron in torch.nonzero(~owned.any(dim=0))[:, 0].tolist():
                    module.owned.copy_(owned)
                    module.owned[j, neuron] = True
                    with torch.no_grad():
                        logits = states.after(module.edited(states.hidden, base, sources, swapped), base)
                    losses[neuron] = float(torch.nn.functional.cross_entropy(logits, labels))
                owned[j, min(losses, key=losses.__getitem__)] = True
        return owned

    # ------------------------------------------------------------------ use
    def logits(self, interventions: Interventions, *, states: States | None = None) -> NDArray[np.float64]:
        """What the network says under interventions, shape (n, classes).

        Parameters
        ----------
        interventions : Interventions
        states : States or None, default=None
            What ``cut.states(interventions.inputs)`` gave.
        """
        return self._run(interventions, states, lambda found, base, h: found.after(h, base).double())

    def success(self, interventions: Interventions, *, states: States | None = None) -> NDArray[np.bool_]:
        """Whether the network answers as the algorithm does, for each intervention.

        Parameters
        ----------
        interventions : Interventions
        states : States or None, default=None
            What ``cut.states(interventions.inputs)`` gave.
        """
        return self.logits(interventions, states=states).argmax(axis=1) == interventions.labels

    def iia(self, interventions: Interventions, *, states: States | None = None, level: float = 0.95) -> Fidelity:
        """Interchange-intervention accuracy: how often the network answers as the algorithm does.

        The interval is exact where each base occurs once, and over bases where some occur again.

        Parameters
        ----------
        interventions : Interventions
            On inputs that did not fit.
        states : States or None, default=None
            What ``cut.states(interventions.inputs)`` gave.
        level : float, default=0.95
        """
        return proportion("IIA", self.success(interventions, states=states), interventions.base, level)

    def distance(self, interventions: Interventions, *, states: States | None = None, most: int = 500) -> float:
        """How far edited hidden states lie from real ones: their median distance to the nearest of the inputs' own.

        1 means as far as the inputs' own lie from one another; far above 1 the network is asked about states that it never
        has.

        Parameters
        ----------
        interventions : Interventions
        states : States or None, default=None
            What ``cut.states(interventions.inputs)`` gave.
        most : int, default=500
            Interventions looked at.
        """
        torch = need("torch", "an alignment", "nets")
        require_whole(2, most=most)
        found = self.cut.states(interventions.inputs) if states is None else states
        edited = self._run(interventions.part(0, most), found, lambda _, __, h: h)
        real = found.hidden[:_REAL].double().cpu()
        own = torch.cdist(real[: len(edited)], real)
        own[own <= 1e-12] = torch.inf  # the input itself, and its doubles
        usual = own.min(dim=1).values.median()
        return float(torch.cdist(torch.from_numpy(edited).double(), real).min(dim=1).values.median() / usual)

    def _run(self, interventions: Interventions, states: States | None, told: Any) -> NDArray[np.float64]:
        torch = need("torch", "an alignment", "nets")
        check_is_fitted(self, "module_")
        if interventions.nodes != self.nodes_:
            raise InvalidData(f"expected interventions on {', '.join(self.nodes_)}, got {', '.join(interventions.nodes)}")
        found = self.cut.states(interventions.inputs) if states is None else states
        tensors = (one.split(self.batch_size) for one in _tensors(interventions, found.hidden.device)[:3])
        edited = self.module_.edited
        with torch.no_grad():
            parts = [told(found, base, edited(found.hidden, base, *rest)) for base, *rest in zip(*tensors, strict=True)]
        return torch.cat(parts).cpu().double().numpy()

    # ------------------------------------------------------------------ how much it takes
    def code_length(self, interventions: Interventions, *, first: int = 1000) -> CodeLength:
        """Bits an intervention, where labels are sent in batches of doubling size, each with a map fitted on all before.

        A map that says much only after it has seen much has a long code, so strong families pay for their strength.

        Parameters
        ----------
        interventions : Interventions
            In random order.
        first : int, default=1000
            In the first batch, sent as if all labels were equally likely.

        Notes
        -----
        Cost: about that of two fits.
        """
        require_whole(1, first=first)
        n = len(interventions)
        if n <= first:
            raise InvalidData(f"expected more interventions than the {first} of the first batch, got {n}")
        states = self.cut.states(interventions.inputs)
        stages: list[tuple[int, float]] = []
        bits, at, uniform = 0.0, first, 0.0
        while at < n:
            stop = min(2 * at, n)
            fitted = type(self)(**{**self.get_params(deep=False), "random_state": self.random_state + len(stages)})
            fitted.fit(interventions.part(0, at), states=states)
            logits, labels = fitted.logits(interventions.part(at, stop), states=states), interventions.labels[at:stop]
            uniform = math.log2(logits.shape[1])
            log = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
            paid = -log[np.arange(stop - at), labels] / math.log(2)
            bits += float(paid.sum())
            stages.append((at, float(paid.mean())))
            at = stop
        return CodeLength((bits + first * uniform) / n, uniform, tuple(stages))


def proportion(measure: str, success: NDArray[Any], groups: NDArray[Any], level: float, how: str = "interventions") -> Fidelity:
    """A share of successes, each between 0 and 1, with an interval over groups where some occur again."""
    score = np.asarray(success, dtype=np.float64)
    names, share = np.unique(groups), float(score.mean())
    if len(names) == len(score) and np.isin(score, (0.0, 1.0)).all():
        ends, told = binomial(int(score.sum()), len(score), level), None
    else:
        ends, told = survey_proportion(score, level, groups=groups), len(names) if len(names) < len(score) else None
    ends = ends.including(share)
    return Fidelity(measure, share, ends.lower, ends.upper, level, len(score), "", how, ends.method, groups=told)


def _tensors(interventions: Interventions, device: Any) -> list[Any]:
    torch = need("torch", "an alignment", "nets")
    arrays = (interventions.base, interventions.sources, interventions.swapped, interventions.labels)
    return [torch.as_tensor(one, device=device) for one in arrays]


def _free_parameters(kind: AlignmentMap, made: Any, width: int) -> int:
    if isinstance(kind, OrthogonalMap):
        return width * (width - 1) // 2
    return sum(one.numel() for one in made.parameters())
