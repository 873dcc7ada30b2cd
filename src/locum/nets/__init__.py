"""Networks that methods share, and the one loop that trains them. Needs the extra ``nets`` (PyTorch)."""

from __future__ import annotations

from locum.nets.pretrained import Pretrained, minilm, smollm2
from locum.nets.prompts import LogitDifference, ProbabilityDifference, Score, by_length, single_tokens
from locum.nets.reference import Reference
from locum.nets.training import History, TrainingFailed, seeded, train

__all__ = [
    "train",
    "History",
    "TrainingFailed",
    "seeded",
    "Reference",
    "Pretrained",
    "smollm2",
    "minilm",
    "LogitDifference",
    "ProbabilityDifference",
    "Score",
    "single_tokens",
    "by_length",
]
