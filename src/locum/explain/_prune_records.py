"""What pruning costs and saves, how faithful the small network is, and how much hangs on the reference rows."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from locum.core.errors import need
from locum.core.fidelity import Fidelity

__all__ = ["PruningFidelity", "PruningStep", "Stability", "latency", "operations", "parameters", "stable"]

_FLOAT = NDArray[np.float64]


def _torch() -> Any:
    return need("torch", "pruning a network", "nets")


@dataclass(frozen=True)
class PruningStep:
    """The network after one step of pruning.

    Attributes
    ----------
    share : float
        Of the units that could be pruned, how many are gone.
    measured : dict of str to float
        What `evaluate` said, "accuracy" where it said one number; empty without one.
    parameters, flops : int
        Left in the whole network; floating-point operations are for one forward pass of the example input.
    parameter_share, flop_share : float
        Of those of the full network.
    seconds : float
        Of one forward pass of the example input, median of five.
    by_layer : dict of str to float
        Share of the units of each group that are gone, by the path of one of its layers.
    """

    share: float
    measured: dict[str, float]
    parameters: int
    flops: int
    parameter_share: float
    flop_share: float
    seconds: float
    by_layer: dict[str, float]

    @property
    def accuracy(self) -> float | None:
        """What `evaluate` said under that name."""
        return self.measured.get("accuracy")

    def to_dict(self) -> dict[str, Any]:
        """The step as JSON-ready values."""
        return asdict(self)

    def __str__(self) -> str:
        said = "".join(f", {name} {value:.3f}" for name, value in self.measured.items())
        return (
            f"{self.share:.1%} of units gone, {self.parameter_share:.1%} of parameters and {self.flop_share:.1%} of operations "
            f"left, {1000 * self.seconds:.3g} ms{said}"
        )


@dataclass(frozen=True)
class PruningFidelity:
    """How well the small network says what the full one says, beside one of that many units chosen at random.

    Attributes
    ----------
    agreement, divergence : Fidelity
        Share of rows with the same label, and Kullback-Leibler divergence of the small network's probabilities from the
        full one's.
    random_agreement, random_divergence : Fidelity
        The same where as many units are taken out at random, in as many steps.
    """

    agreement: Fidelity
    divergence: Fidelity
    random_agreement: Fidelity
    random_divergence: Fidelity

    def __str__(self) -> str:
        return "\n".join([
            str(self.agreement), str(self.divergence),
            f"units at random: {self.random_agreement}", f"units at random: {self.random_divergence}",
        ])  # fmt: skip


@dataclass(frozen=True)
class Stability:
    """How much the order of units hangs on which reference rows were drawn.

    Attributes
    ----------
    per_class : int
        Reference rows of each class.
    spearman, kendall : Fidelity
        Mean rank correlation of the scores of two draws.
    overlap : Fidelity
        Mean share of the units that one draw would prune which the other would prune as well.
    """

    per_class: int
    spearman: Fidelity
    kendall: Fidelity
    overlap: Fidelity

    def __str__(self) -> str:
        return "\n".join(f"{self.per_class} a class: {one}" for one in (self.spearman, self.kendall, self.overlap))


# ---------------------------------------------------------------------- size
def parameters(model: Any) -> int:
    """Numbers that a network has learned."""
    return sum(parameter.numel() for parameter in model.parameters())


def operations(model: Any, example: Any) -> int:
    """Floating-point operations of one forward pass; a multiplication and its addition are two."""
    torch = _torch()
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example)
    return int(counter.get_total_flops())


def latency(model: Any, example: Any, repeats: int = 5) -> float:
    """Median seconds of a forward pass, after one that does not count."""
    torch = _torch()
    taken = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            model(example)
            if example.device.type == "cuda":
                torch.cuda.synchronize(example.device)
            taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:]))


# ---------------------------------------------------------------------- stability
def stable(per_class: int, scores: Sequence[_FLOAT], pruned: Sequence[NDArray[np.bool_]], level: float) -> Stability:
    """Compare draws pair by pair; the interval is a jackknife over draws, since pairs share them."""
    compared: Mapping[str, Callable[[int, int], float]] = {
        "spearman": lambda i, j: float(stats.spearmanr(scores[i], scores[j]).statistic),
        "kendall": lambda i, j: float(stats.kendalltau(scores[i], scores[j]).statistic),
        "overlap": lambda i, j: float((pruned[i] & pruned[j]).sum() / pruned[i].sum()),
    }
    n = len(scores)
    found = {}
    for name, compare in compared.items():
        table = np.zeros((n, n))
        for i, j in itertools.combinations(range(n), 2):
            table[i, j] = table[j, i] = compare(i, j)
        found[name] = _jackknife(name, table, level)
    return Stability(per_class, **found)


def _jackknife(name: str, table: _FLOAT, level: float) -> Fidelity:
    n = len(table)
    total = table.sum()
    value = total / (n * (n - 1))
    without = (total - 2 * table.sum(axis=1)) / ((n - 1) * (n - 2))
    error = math.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    least = 0.0 if name == "overlap" else -1.0
    return Fidelity(
        name, value, max(least, value - half), min(1.0, value + half), level, n, how="reference draws",
        method="jackknife over draws",
    )  # fmt: skip
