"""Prompts of two tasks: who receives something (indirect object), and a year that must be later (greater-than)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from locum.explain.cd_t import LogitDifference, Mean, ProbabilityDifference, single_tokens

# Names, templates and nouns are in parts of their own: to find heads, to measure their effect, and to measure circuits.
NAMES = {
    "find": ("Mary", "John", "Tom", "James", "Dan", "Sam", "Anna", "Alice", "Kate", "Paul"),
    "effect": ("Mark", "Jack", "Emma", "Lucy", "David", "Peter", "Sarah", "Laura", "Henry", "Adam"),
    "circuit": ("Scott", "Grace", "Frank", "Jane", "Michael", "Robert", "Jessica", "Daniel", "Thomas", "Rachel"),
}
TEMPLATES = {
    "find": (
        "When {A} and {B} went to the office, {S} handed a letter to",
        "After {A} and {B} had lunch at the cafe, {S} passed the salt to",
    ),
    "effect": (
        "While {A} and {B} were working at the station, {S} offered a snack to",
        "Once {A} and {B} arrived at the garden, {S} gave a flower to",
    ),
    "circuit": (
        "As {A} and {B} walked through the market, {S} showed a ring to",
        "Since {A} and {B} lived near the school, {S} sent a basket to",
    ),
}
NOUNS = {"find": ("war", "strike"), "effect": ("tour", "project"), "circuit": ("study", "conflict")}
REFERENCES = 10  # of each template


@dataclass(frozen=True)
class Prompts:
    """Prompts of one task and part, what is right, and the reference."""

    ids: list[list[int]]
    score: Any
    reference: Mean

    def take(self, n: int) -> Prompts:
        """The first n; the reference is of as many prompts as there are."""
        return Prompts(self.ids[:n], self.score.take(slice(0, n)), self.reference)


def indirect_object(tokenizer: Any, part: str, n: int, seed: int) -> Prompts:
    """Half of them name the giver first; the reference has three names, so that nobody is named twice."""
    rng = np.random.default_rng([seed, *part.encode()])
    ids, to, giver, groups = [], [], [], []
    for i in range(n):
        first, second = rng.permutation(NAMES[part])[:2]
        subject, other = (first, second) if i // 2 % 2 else (second, first)
        template = TEMPLATES[part][i % 2]
        ids.append(tokens(tokenizer, template.format(A=first, B=second, S=subject)))
        to.append(f" {other}")
        giver.append(f" {subject}")
        groups.append(i % 2)
    score = LogitDifference(single_tokens(tokenizer, to), single_tokens(tokenizer, giver))
    references, labels = [], []
    for label, template in enumerate(TEMPLATES[part]):
        for _ in range(REFERENCES):
            a, b, c = rng.permutation(NAMES[part])[:3]
            references.append(tokens(tokenizer, template.format(A=a, B=b, S=c)))
            labels.append(label)
    return Prompts(ids, score, Mean(references, groups=labels, prompts=groups))


def greater_than(tokenizer: Any, part: str, n: int, seed: int) -> Prompts:
    """The tens digit must not be smaller than that of the first year; the reference is other years."""
    rng = np.random.default_rng([seed, 1, *part.encode()])

    def prompt(label: int, year: int) -> list[int]:
        return tokens(tokenizer, f"The {NOUNS[part][label]} lasted from the year 17{year} to the year 17")

    years = rng.integers(20, 79, n)
    digits = single_tokens(tokenizer, map(str, range(10)))
    right = np.arange(10)[None] >= (years // 10)[:, None]
    others = rng.integers(20, 79, (2, REFERENCES))
    reference = Mean(
        [prompt(label, year) for label in (0, 1) for year in others[label]],
        groups=np.repeat([0, 1], REFERENCES).tolist(),
        prompts=[i % 2 for i in range(n)],
    )
    ids = [prompt(i % 2, year) for i, year in enumerate(years)]
    return Prompts(ids, ProbabilityDifference(digits, right), reference)


def tokens(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
