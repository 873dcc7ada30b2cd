"""The rules of a tree on a few columns of a wide table, each with its support and precision, as a list that can be run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.core.program import Program, Rule

__all__ = ["FoundRule", "RuleBook", "rule_book"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]


@dataclass(frozen=True)
class FoundRule:
    """One rule with what it is worth.

    Attributes
    ----------
    text : str
        The conditions in words.
    answer : label
    support : float
        Share of the rows that satisfy the conditions.
    precision : Fidelity or None
        Share of those for which the black box gives this answer; None for fewer than two rows.
    precision_on_truth : Fidelity or None
        Share of those whose true label is this answer, where labels were given.
    """

    text: str
    answer: Any
    support: float
    precision: Fidelity | None
    precision_on_truth: Fidelity | None

    def __str__(self) -> str:
        return f"IF {self.text} THEN {self.answer} (support {self.support:.1%}; {_words(self.precision)})"


@dataclass(frozen=True)
class RuleBook:
    """A rule list: the first rule that holds answers.

    Attributes
    ----------
    rules : tuple of FoundRule
        In the order in which they are tried: by precision times support in the rows of the fit.
    program : Program
        The list with its answer for the rest, on the columns chosen; `locum.core.export` writes it as Python, SQL, JavaScript
        or ONNX.
    columns : ndarray of shape (k,)
        Positions of the program's columns in the whole table.
    agreement : Fidelity
        Share of the rows for which the list names the class that the black box names.
    covered : float
        Share of the rows that a rule answers rather than the rest.
    """

    rules: tuple[FoundRule, ...]
    program: Program
    columns: _INT
    agreement: Fidelity
    covered: float

    def __len__(self) -> int:
        return len(self.rules)

    def text(self) -> str:
        """All rules, one a line, and how often the list is right."""
        rest = f"OTHERWISE {self.program.answer(self.program.base)}"
        return "\n".join([*map(str, self.rules), rest, f"{self.agreement}; {self.covered:.1%} of the rows meet a rule"])

    def __str__(self) -> str:
        return self.text()


def rule_book(
    program: Program,
    columns: _INT,
    fitted: tuple[_FLOAT, _FLOAT],
    measured: tuple[_FLOAT, NDArray[Any], NDArray[Any] | None],
    min_support: float,
    how: str,
) -> RuleBook:
    """The rules of a tree that enough rows meet, measured.

    Parameters
    ----------
    program : Program
        A tree on k columns.
    columns : ndarray of shape (k,)
    fitted : (Z, P)
        Rows of the fit, of shape (n, k), and the black box's probabilities: they order the rules.
    measured : (Z, said, truth)
        Rows of shape (m, k) with the black box's labels and, where known, the true ones.
    min_support : float
    how : str
        Where those rows come from.
    """
    Z, P = fitted
    classes = np.asarray(program.classes)
    said = P.argmax(axis=1)
    kept: list[tuple[float, Rule]] = []
    left = np.ones(len(Z), dtype=bool)
    terms: tuple[Any, ...] = program.terms
    for rule in terms:
        holds = rule.holds(Z)
        if holds.mean() >= min_support:
            # Precision times support: the share of all rows that the rule gets right.
            kept.append((float((holds & (said == int(np.argmax(rule.value)))).mean()), rule))
            left &= ~holds
    kept.sort(key=lambda pair: -pair[0])
    rest = P[left if left.any() else slice(None)].mean(axis=0)
    ordered = tuple(rule for _, rule in kept)
    whole = Program(program.columns, "class", program.classes, "identity", "rules", ordered, tuple(rest.tolist()))
    rows, labels, truth = measured
    found = tuple(_found(rule, whole, rows, labels, truth, classes, how) for rule in ordered)
    agreement = measure("agreement").fidelity(labels, whole.predict(rows), how=how)
    return RuleBook(found, whole, columns, agreement, float((whole.fired(rows) < len(ordered)).mean()))


def _found(
    rule: Rule, program: Program, rows: _FLOAT, labels: NDArray[Any], truth: Any, classes: NDArray[Any], how: str
) -> FoundRule:
    holds, answer = rule.holds(rows), classes[int(np.argmax(rule.value))]

    def precision(of: Any) -> Fidelity | None:
        if of is None or holds.sum() < 2:
            return None
        return measure("agreement").fidelity(of[holds], np.full(int(holds.sum()), answer), how=how)

    return FoundRule(rule.text(program.columns), answer.item(), float(holds.mean()), precision(labels), precision(truth))


def _words(found: Fidelity | None) -> str:
    return "precision not measured" if found is None else f"precision {found.value:.3f} [{found.lower:.3f}, {found.upper:.3f}]"
