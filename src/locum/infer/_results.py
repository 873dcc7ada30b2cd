"""Estimates with their covariance, and tables of them as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from locum.core.errors import InvalidData

__all__ = ["Estimates", "Table", "check_alpha"]

Array = NDArray[np.float64]
_NORMAL = 1e12  # degrees of freedom


def check_alpha(alpha: float) -> float:
    """Refuse an alpha that is no probability."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0.0 < alpha < 1.0:
        raise InvalidData(f"expected alpha between 0 and 1 (0.05 gives 95 % intervals), got {alpha!r}")
    return float(alpha)


@dataclass(frozen=True)
class Table:
    """Figures under headings, which print as text.

    Parameters
    ----------
    title : str
    headings : tuple of str
        The first is that of the names of the rows.
    rows : tuple of tuple
        A name, then numbers or text.
    facts : mapping of str to str, default={}
        Shown above the figures, two a line.
    notes : tuple of str, default=()
        Shown below.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        cells = [self.headings, *[tuple(_cell(value) for value in row) for row in self.rows]]
        widths = [max(len(row[j]) for row in cells) for j in range(len(self.headings))]
        lines = [
            "  ".join(
                cell.ljust(width) if j == 0 else cell.rjust(width)
                for j, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        width = max(len(lines[0]), len(self.title), 64)
        half = width // 2
        pairs = [f"{name}: {value}" for name, value in self.facts.items()]
        facts = [pairs[i].ljust(half) + (pairs[i + 1] if i + 1 < len(pairs) else "") for i in range(0, len(pairs), 2)]
        rule, thin = "=" * width, "-" * width
        parts = [self.title.center(width).rstrip(), rule, *([*facts, thin] if facts else []), lines[0], thin, *lines[1:], rule]
        return "\n".join(part.rstrip() for part in [*parts, *self.notes])

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text."""
        rows = [dict(zip(self.headings, row, strict=True)) for row in self.rows]
        return {"title": self.title, "facts": dict(self.facts), "rows": rows, "notes": list(self.notes)}


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not np.isfinite(value):
        return "-"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.3g}"


@dataclass(frozen=True)
class Estimates:
    """Coefficients with a covariance; intervals are normal, or Student's where degrees of freedom are known.

    Parameters
    ----------
    method : str
    names : tuple of str
    params : ndarray of shape (q,)
    vcov : ndarray of shape (q, q)
    facts : mapping of str to str, default={}
        What the summary says above the table.
    notes : tuple of str, default=()
    freedom : ndarray of shape (q,) or None, default=None
        Degrees of freedom of each standard error.

    Examples
    --------
    >>> found = Estimates("OLS", ("x",), np.array([2.0]), np.array([[0.25]]))
    >>> found.conf_int(alpha=0.05).round(2)
    array([[1.02, 2.98]])
    """

    method: str
    names: tuple[str, ...]
    params: Array
    vcov: Array
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    freedom: Array | None = None

    @cached_property
    def bse(self) -> Array:
        """Standard errors, shape (q,)."""
        return np.sqrt(np.diag(self.vcov))

    @cached_property
    def zvalues(self) -> Array:
        """Coefficients in standard errors, shape (q,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.params / self.bse

    @cached_property
    def pvalues(self) -> Array:
        """Two-sided, of a coefficient of zero, shape (q,)."""
        return 2.0 * special.stdtr(self._freedom, -np.abs(self.zvalues))

    def conf_int(self, alpha: float = 0.05) -> Array:
        """Ends of the intervals of level 1 - alpha, shape (q, 2)."""
        half = -special.stdtrit(self._freedom, check_alpha(alpha) / 2.0) * self.bse
        return np.column_stack([self.params - half, self.params + half])

    @property
    def _freedom(self) -> Array:
        # Student's is normal, to rounding, well before this.
        return np.full(len(self.params), _NORMAL) if self.freedom is None else np.minimum(self.freedom, _NORMAL)

    def summary(self, alpha: float = 0.05) -> Table:
        """The usual table of a regression."""
        ends = self.conf_int(alpha)
        columns = (self.params, self.bse, self.zvalues, self.pvalues, ends[:, 0], ends[:, 1])
        rows = tuple((name, *map(float, row)) for name, row in zip(self.names, zip(*columns, strict=True), strict=True))
        z = "z" if self.freedom is None else "t"
        headings = ("", "coef", "std err", z, f"P>|{z}|", f"[{alpha / 2:.4g}", f"{1 - alpha / 2:.4g}]")
        return Table(self.method, headings, rows, self.facts, self.notes)

    def __str__(self) -> str:
        return str(self.summary())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, safe for JSON; None for what is not a number."""
        plain = [[float(v) if np.isfinite(v) else None for v in row] for row in [self.params, *self.vcov]]
        return {
            "method": self.method,
            "names": list(self.names),
            "params": plain[0],
            "vcov": plain[1:],
            "facts": dict(self.facts),
            "notes": list(self.notes),
        }


def undefined(method: str, names: Sequence[str], why: str) -> Estimates:
    """Estimates that could not be made, and why."""
    q = len(names)
    return Estimates(method, tuple(names), np.full(q, np.nan), np.full((q, q), np.nan), notes=(f"{method}: {why}",))
