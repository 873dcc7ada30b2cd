"""Whether a black box needs the columns that rank high, and whether they are all it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.measures import RowMeasure

__all__ = ["CONTROLS", "Faithfulness", "faithfulness"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
CONTROLS = ("top", "random", "bottom")


@dataclass(frozen=True)
class Faithfulness:
    """What the black box loses without some columns, and with them alone, beside as many random and as many bottom ones.

    Attributes
    ----------
    ks : tuple of int
        How many columns.
    comprehensiveness : dict of str to tuple of Fidelity
        By "top", "random" and "bottom", one a k: how far the probability of the class answered falls when these columns are
        replaced. High is good for the top.
    sufficiency : dict of str to tuple of Fidelity
        How far it falls when all others are replaced; low is good for the top.
    comprehensiveness_aopc, sufficiency_aopc : dict of str to Fidelity
        Mean over the ks (area over the perturbation curve).
    draws : int
        Background rows averaged over, for each row.
    """

    ks: tuple[int, ...]
    comprehensiveness: dict[str, tuple[Fidelity, ...]]
    sufficiency: dict[str, tuple[Fidelity, ...]]
    comprehensiveness_aopc: dict[str, Fidelity]
    sufficiency_aopc: dict[str, Fidelity]
    draws: int

    def text(self) -> str:
        """The curves, a line a number of columns, and their means."""
        lines = []
        for name in ("comprehensiveness", "sufficiency"):
            curves = getattr(self, name)
            for i, k in enumerate(self.ks):
                controls = ", ".join(f"{which} {curves[which][i].value:.3f}" for which in CONTROLS[1:])
                lines.append(f"{name}, {k} columns: {curves['top'][i]} (controls: {controls})")
            means = getattr(self, f"{name}_aopc")
            controls = ", ".join(f"{which} {means[which].value:.3f}" for which in CONTROLS[1:])
            lines.append(f"{name}, mean: {means['top']} (controls: {controls})")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


class _Drop(RowMeasure):
    """Mean fall of the probability of the class answered, between -1 and 1."""

    kind = "value"
    limits = (-1.0, 1.0)

    def scores(self, truth: Any, prediction: Any) -> _FLOAT:
        return np.asarray(truth - prediction)


@final
class _Comprehensiveness(_Drop):
    name = "comprehensiveness"


@final
class _Sufficiency(_Drop):
    name = "sufficiency"
    greater_is_better = False


_MEASURES = (_Comprehensiveness(), _Sufficiency())


def faithfulness(
    ask: Callable[[_FLOAT], _FLOAT],
    Z: _FLOAT,
    P: _FLOAT,
    background: _FLOAT,
    order: _INT,
    *,
    ks: Sequence[int],
    draws: int,
    groups: Any,
    random_state: int,
) -> Faithfulness:
    """Curves for rows Z (n, d) answered P (n, classes), with cells of rows of the background (m, d) for what is taken."""
    if max(ks) > len(order) or min(ks) < 1:
        raise InvalidData(f"expected ks= from 1 to the {len(order)} columns there are, got {tuple(ks)}")
    rng = np.random.default_rng(random_state)
    shuffled = rng.permutation(len(order))
    donors = rng.integers(len(background), size=(draws, len(Z)))
    c = P.argmax(axis=1)
    had = P[np.arange(len(Z)), c]
    sets = {"top": order, "random": shuffled, "bottom": order[::-1]}
    each: dict[tuple[str, str], list[_FLOAT]] = {}
    for which, columns in sets.items():
        for k in ks:
            chosen = np.zeros(len(order), dtype=bool)
            chosen[columns[:k]] = True
            for name, taken in (("comprehensiveness", chosen), ("sufficiency", ~chosen)):
                left = np.zeros(len(Z))
                for donor in donors:
                    left += ask(np.where(taken, background[donor], Z))[np.arange(len(Z)), c] / draws
                each.setdefault((name, which), []).append(left)

    curves: list[dict[str, tuple[Fidelity, ...]]] = []
    means: list[dict[str, Fidelity]] = []
    for one in _MEASURES:
        said = partial(one.fidelity, had, groups=groups, how="fresh rows", random_state=random_state)
        curves.append({w: tuple(said(left) for left in each[one.name, w]) for w in CONTROLS})
        means.append({w: said(np.mean(each[one.name, w], axis=0)) for w in CONTROLS})
    return Faithfulness(tuple(int(k) for k in ks), curves[0], curves[1], means[0], means[1], draws)
