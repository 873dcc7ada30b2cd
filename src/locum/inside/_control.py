"""What an evaluation of dictionaries finds: counterfactuals, whether edits do what patches do, and tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.bounds import bounded_mean, survey_proportion
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.inside.cross_section import Answers, TaskInputs
from locum.inside.measures import interval_of_means

__all__ = ["Comparison", "Control", "Counterfactual", "of_means", "told_fidelity"]

_FLOATS = NDArray[np.float64]
_HOW = "held-out inputs"


@dataclass(frozen=True)
class Counterfactual:
    """Inputs each beside one of the task's that differs in one attribute, and what patching from them does.

    Attributes
    ----------
    attribute : str
    inputs : TaskInputs
    activations : dict of str to ndarray of shape (n, width)
    patched : Answers
        With all locations replaced by those of the counterfactual: the truth that edits are compared with.
    """

    attribute: str
    inputs: TaskInputs
    activations: dict[str, NDArray[np.float32]]
    patched: Answers


@dataclass(frozen=True)
class Control:
    """Whether edits make the network answer as patching does.

    Attributes
    ----------
    attribute : str
    ks : tuple of int
        Features changed at each location, at most.
    agrees : ndarray of bool, shape (n, ks)
        The edited network's answer is that of the patched one.
    unedited : ndarray of bool, shape (n,)
        The network's own answer is.
    distance : ndarray of shape (n, ks)
        From the edited vectors to those of the counterfactual, relative to that before the edit.
    weight : ndarray of shape (n, ks)
        Share of the reconstruction that the edit took away, mean over locations.
    groups : ndarray or None
    level : float
    """

    attribute: str
    ks: tuple[int, ...]
    agrees: NDArray[np.bool_]
    unedited: NDArray[np.bool_]
    distance: _FLOATS
    weight: _FLOATS
    groups: Any
    level: float

    def _scores(self, k: int | None) -> _FLOATS:
        if k is not None and k not in self.ks:
            raise InvalidData(f"expected k= as one of {', '.join(map(str, self.ks))}, got {k!r}")
        return self.agrees.mean(axis=1) if k is None else self.agrees[:, self.ks.index(k)].astype(float)

    def agreement(self, k: int | None = None) -> Fidelity:
        """Share of inputs on which edit and patch agree.

        Parameters
        ----------
        k : int or None, default=None
            One of `ks`, or their mean, the area under the curve, where None.
        """
        return share(f"agreement on {self.attribute}", self._scores(k), self.groups, self.level)

    @property
    def none(self) -> Fidelity:
        """Agreement of the network as it is: what an edit that does nothing has."""
        return share(f"agreement on {self.attribute}, no edit", self.unedited.astype(float), self.groups, self.level)

    def gain(self, k: int | None = None) -> Fidelity:
        """Agreement less that of no edit, on the same inputs.

        Parameters
        ----------
        k : int or None, default=None
        """
        values = self._scores(k) - self.unedited
        ends = bounded_mean(values, -1.0, 1.0, self.level, groups=self.groups)
        return told_fidelity(f"gain on {self.attribute}", float(values.mean()), ends, len(values), self.groups, self.level)

    def recovered(self, k: int | None = None) -> Fidelity:
        """Where agreement lies between no edit, 0, and patching itself, 1; below 0 where the edit does harm.

        Parameters
        ----------
        k : int or None, default=None

        Raises
        ------
        InvalidData
            Patching changes no answer, so there is nothing to recover.
        """
        if self.unedited.all():
            raise InvalidData(f"patching {self.attribute} changes no answer here: agreement of edits says nothing")
        table = np.column_stack([self._scores(k), self.unedited])
        return of_means(f"recovered on {self.attribute}", table, _between, self.groups, self.level)


def _between(m: Any) -> Any:
    return (m[..., 0] - m[..., 1]) / (1.0 - m[..., 1])


@dataclass(frozen=True)
class Comparison:
    """Dictionaries beside one another.

    Attributes
    ----------
    sufficiency, necessity : dict of str to Fidelity
        By dictionary.
    control : dict of str to dict of str to Control
        By dictionary and attribute.
    """

    sufficiency: dict[str, Fidelity]
    necessity: dict[str, Fidelity]
    control: dict[str, dict[str, Control]]

    def rows(self) -> list[dict[str, Any]]:
        """One line a measure and dictionary: dictionary, measure, k, value, lower, upper."""
        lines = []
        for kind in ("sufficiency", "necessity"):
            lines += [_line(name, one, None) for name, one in getattr(self, kind).items()]
        for name, told in self.control.items():
            for one in told.values():
                lines += [_line(name, one.agreement(k), k) for k in one.ks]
        first = next(iter(self.control.values()), {})
        return lines + [_line("no edit", one.none, 0) for one in first.values()]

    def __str__(self) -> str:
        lines = [f"{'dictionary':<24}{'measure':<28}{'k':>4}  value [lower, upper]"]
        for row in self.rows():
            k = "" if row["k"] is None else row["k"]
            ends = f"{row['value']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"
            lines.append(f"{row['dictionary']:<24}{row['measure']:<28}{k:>4}  {ends}")
        return "\n".join(lines)


def _line(name: str, found: Fidelity, k: int | None) -> dict[str, Any]:
    measure = found.measure.removesuffix(", no edit")
    return {"dictionary": name, "measure": measure, "k": k, "value": found.value, "lower": found.lower, "upper": found.upper}


# ---------------------------------------------------------------------- intervals
def share(measure: str, scores: _FLOATS, groups: Any, level: float) -> Fidelity:
    ends = survey_proportion(scores, level, groups=groups)
    return told_fidelity(measure, float(scores.mean()), ends, len(scores), groups, level)


def of_means(measure: str, table: _FLOATS, statistic: Callable[[Any], Any], groups: Any, level: float) -> Fidelity:
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(table.mean(axis=0)))
    ends = interval_of_means(table, statistic, level, groups, 0)
    return told_fidelity(measure, value, ends, len(table), groups, level)


def told_fidelity(
    measure: str, value: float, ends: Any, n: int, groups: Any, level: float, *, greater: bool = True
) -> Fidelity:  # fmt: skip
    ends = ends.including(value)
    count = None if groups is None else len(np.unique(np.asarray(groups)))
    return Fidelity(
        measure, value, ends.lower, ends.upper, level, n, "", _HOW, ends.method, groups=count, greater_is_better=greater
    )
