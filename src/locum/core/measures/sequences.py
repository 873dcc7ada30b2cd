"""Measures for targets that answer with a sequence of tokens."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from locum.core.measures._base import Array, RowMeasure

__all__ = ["TokenAgreement", "ExactMatch", "EditSimilarity"]


@final
class TokenAgreement(RowMeasure):
    """Share of positions with the same token, averaged over sequences: ``mean(matches / longer length)``, in [0, 1].

    A string is the sequence of its characters; give lists of tokens for words. Two empty sequences agree. Cost:
    O(total length).
    """

    name = "token_agreement"
    kind = "sequence"

    def scores(self, truth: Any, prediction: Any) -> Array:
        return np.array(
            [
                sum(a == b for a, b in zip(said, told, strict=False)) / max(len(said), len(told), 1) if said or told else 1.0
                for said, told in zip(truth, prediction, strict=True)
            ]
        )


@final
class ExactMatch(RowMeasure):
    """Share of sequences that are the same token for token: ``mean(truth == prediction)``, in [0, 1]. Cost: O(n)."""

    name = "exact_match"
    kind = "sequence"

    def scores(self, truth: Any, prediction: Any) -> Array:
        return np.array([float(said == told) for said, told in zip(truth, prediction, strict=True)])


@final
class EditSimilarity(RowMeasure):
    """One minus the edit distance over the longer length, averaged over sequences, in [0, 1].

    Edits insert, delete or replace a token. Two empty sequences agree. Cost: O(length²) a pair, one NumPy call a token.
    Reference: Levenshtein, Soviet Physics Doklady 10 (1966).
    """

    name = "edit_similarity"
    kind = "sequence"

    def scores(self, truth: Any, prediction: Any) -> Array:
        return np.array([_edit_similarity(said, told) for said, told in zip(truth, prediction, strict=True)])


def _edit_similarity(a: tuple[Any, ...], b: tuple[Any, ...]) -> float:
    if a == b:
        return 1.0
    codes: dict[Any, int] = {}
    first, second = (np.array([codes.setdefault(token, len(codes)) for token in side], dtype=int) for side in (a, b))
    places = np.arange(len(b) + 1)
    line = places.copy()
    for i, token in enumerate(first, start=1):
        step = np.concatenate([[i], np.minimum(line[1:] + 1, line[:-1] + (second != token))])
        line = np.minimum.accumulate(step - places) + places  # insertions run along the line
    return 1.0 - float(line[-1]) / max(len(a), len(b))
