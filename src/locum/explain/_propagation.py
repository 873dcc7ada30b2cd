"""What methods that carry numbers through a network module by module share: a rule for each kind, and a check of sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from locum.core.errors import LocumError, UnsupportedModule

__all__ = ["Conservation", "RuleTable"]

Rule = TypeVar("Rule")


class RuleTable(Generic[Rule]):
    """One rule for each kind of module, found by its class or the nearest class that it derives from.

    Parameters
    ----------
    rules : mapping of class or str to rule
        A str is the name of a class, for those of packages that need not be there.
    """

    def __init__(self, rules: Mapping[type | str, Rule]) -> None:
        self._rules = dict(rules)

    def rule(self, module: Any, name: str) -> Rule:
        """The rule of a module.

        Raises
        ------
        UnsupportedModule
            There is none; nothing is passed over in silence.
        """
        for kind in type(module).__mro__:
            for key in (kind, kind.__name__):
                if key in self._rules:
                    return self._rules[key]
        known = ", ".join(sorted(key if isinstance(key, str) else key.__name__ for key in self._rules))
        raise UnsupportedModule(
            f"there is no rule for {name or 'the module itself'} ({type(module).__name__}); there are rules for {known}"
        )


@dataclass
class Conservation:
    """What went into each step and what came out of it, which ought to be the same.

    Attributes
    ----------
    layers : list of str
    before, after : list of float
        Sums, or any numbers whose gap counts.
    scale : list of float
        What a gap is measured against.
    """

    layers: list[str] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)

    def note(self, layer: str, before: float, after: float, scale: float | None = None) -> None:
        """One step more; measured against the larger of the two where no `scale` is given."""
        self.layers.append(layer)
        self.before.append(float(before))
        self.after.append(float(after))
        self.scale.append(float(max(abs(before), abs(after)) if scale is None else scale))

    @property
    def gaps(self) -> Sequence[float]:
        """Relative difference of each step."""
        gap, scale = np.abs(np.subtract(self.before, self.after)), np.array(self.scale)
        return np.divide(gap, scale, out=gap.copy(), where=scale > 0).tolist()

    @property
    def gap(self) -> float:
        """The largest relative difference; 0 where nothing was noted."""
        return float(max(self.gaps, default=0.0))

    def check(self, tolerance: float) -> None:
        """Refuse a gap above the tolerance, and name the step."""
        for layer, gap in zip(self.layers, self.gaps, strict=True):
            if not gap <= tolerance:  # a NaN is above any
                raise LocumError(
                    f"what goes into {layer} and what comes out of it differ by {gap:.3g} of their size, which is more than "
                    f"{tolerance:g}; compute in float64, or report the module"
                )
