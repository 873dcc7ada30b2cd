"""What a screen of a simulation test says, and how it is read back.

An explanation is text in blocks, a blank line between two. Four kinds of block exist; what a machine student learns from an
explanation it learns by reading them here, and from nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = [
    "Additive", "Case", "Rule", "Screen", "additive_text", "case_text", "facts_in", "path_text", "read", "rule_text",
    "strongest",
]  # fmt: skip

_BASELINE, _SUM = "Baseline", "Sum"
_SMALLEST = 0.005
_EVIDENCE = re.compile(r"Evidence (.*?)for (.+) \(above (\S+) means \2\):")
_RULE = re.compile(r"Rule for (.+):")
_CASE = re.compile(r"Case answered (.+?)(?:, similarity [0-9.]+)?:")


class Screen(NamedTuple):
    """One screen: an item, its true label, the model's answer, and what else is shown.

    Parameters
    ----------
    item, label, answer : str
    explanation : str, default=""
        Of the item.
    changed : str, default=""
        The changed item whose answer is asked for; without one the item's own is.
    """

    item: str
    label: str
    answer: str
    explanation: str = ""
    changed: str = ""


@dataclass(frozen=True)
class Additive:
    """Weights of facts that are summed to the evidence for a class."""

    kind: str
    label: str
    threshold: float
    weights: dict[str, float]
    baseline: float


@dataclass(frozen=True)
class Rule:
    """Facts under which a class is answered."""

    label: str
    facts: frozenset[str]


@dataclass(frozen=True)
class Case:
    """Another item, and what is answered for it."""

    label: str
    item: str


# ---------------------------------------------------------------------- writing
def additive_text(
    label: str, weights: Sequence[tuple[str, float]], *, threshold: float, baseline: float | None = None, kind: str = ""
) -> str:
    """Facts with their weights, one a line; with a baseline, also that and the sum."""
    weights = [(fact, round(value, 2)) for fact, value in weights]  # so that the sum is that of what is shown
    lines = [f"Evidence {kind + ' ' if kind else ''}for {label} (above {threshold:g} means {label}):"]
    lines += [f"{fact} | {value:+.2f}" for fact, value in weights]
    if baseline is not None:
        lines += [f"{_BASELINE} | {baseline:+.2f}", f"{_SUM} | {round(baseline, 2) + sum(value for _, value in weights):+.2f}"]
    elif not weights:
        lines.append("(none)")
    return "\n".join(lines)


def rule_text(label: str, facts: Sequence[str]) -> str:
    """A rule, one fact a line."""
    return "\n".join([f"Rule for {label}:", *(facts or ["(any item)"])])


def case_text(label: str, item: str, similarity: float | None = None) -> str:
    """A whole item with its answer."""
    return f"Case answered {label}{'' if similarity is None else f', similarity {similarity:.2f}'}:\n{item}"


def path_text(label: str, steps: Iterable[tuple[str, str, float]]) -> str:
    """Single changes, one a line, with the evidence after each."""
    return "\n".join([f"Changes that lead to {label}:", *(f"{old} -> {new} | {after:+.2f}" for old, new, after in steps)])


def strongest(facts: Sequence[str], values: Sequence[float], k: int) -> list[tuple[str, float]]:
    """The k facts of largest absolute value, the one that speaks most for the class first; none that would be shown as 0."""
    order = sorted(range(len(facts)), key=lambda i: -abs(values[i]))[:k]
    return sorted(((facts[i], values[i]) for i in order if abs(values[i]) >= _SMALLEST), key=lambda one: -one[1])


# ---------------------------------------------------------------------- reading
def facts_in(item: str) -> frozenset[str]:
    """The facts of an item as it is shown: its lines where they read ``name = value``, its words otherwise."""
    lines = item.splitlines()
    if lines and all(" = " in line for line in lines):
        return frozenset(lines)
    return frozenset(word.lower() for word in item.split())


def read(explanation: str) -> list[Additive | Rule | Case]:
    """The blocks of an explanation that say something by themselves; a path is told by the case at its end."""
    out: list[Additive | Rule | Case] = []
    for block in explanation.split("\n\n"):
        head, _, body = block.partition("\n")
        if found := _EVIDENCE.fullmatch(head):
            out.append(_additive(found, body))
        elif found := _RULE.fullmatch(head):
            out.append(Rule(found[1], frozenset(body.splitlines())))
        elif found := _CASE.fullmatch(head):
            out.append(Case(found[1], body))
    return out


def _additive(found: re.Match[str], body: str) -> Additive:
    weights: dict[str, float] = {}
    baseline = 0.0
    for line in body.splitlines():
        fact, bar, number = line.rpartition(" | ")
        if not bar:
            continue
        if fact == _BASELINE:
            baseline = float(number)
        elif fact != _SUM:
            weights[fact] = float(number)
    return Additive(found[1].strip(), found[2], float(found[3]), weights, baseline)
