"""What the benchmarks on chaotic systems have alike: settings that are looked at first, and a table of medians."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from locum.core.errors import InvalidData, require_whole

__all__ = ["check_benchmark", "table_of_medians"]


def check_benchmark(benchmark: Any, models: Mapping[str, Any]) -> None:
    """Refuse a benchmark without systems or models, or with lengths, noise or a seed that cannot be used."""
    require_whole(3, granularity=benchmark.granularity, periods=benchmark.periods)
    require_whole(0, random_state=benchmark.random_state)
    if not benchmark.systems or not models:
        raise InvalidData(f"expected a system and a model at least, got {len(benchmark.systems)} and {len(models)}")
    if not 0 <= benchmark.noise < np.inf:
        raise InvalidData(f"expected noise= of 0 or more, got {benchmark.noise!r}")


def table_of_medians(table: Any, metrics: Iterable[str]) -> str:
    """A line a model: the medians over systems of `table.by_system(model, metric)`."""
    names, width = list(metrics), max(map(len, table.models))
    lines = [f"{'':{width}}  " + "  ".join(f"{metric:>8}" for metric in names)]
    for model in table.models:
        medians = [float(np.median(table.by_system(model, metric))) for metric in names]
        lines.append(f"{model:{width}}  " + "  ".join(f"{one:8.3g}" for one in medians))
    return "\n".join([*lines, f"medians over {len(table.systems)} systems"])
