"""What a card shows beyond the numbers: where a stand-in disagrees most, rows to try, and what it was made with."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import platform
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.measures import default_measure, measure
from locum.core.program import Rule
from locum.core.rivals import grown_rules
from locum.core.surrogate import StandIn

__all__ = ["examples", "made", "name_of", "records", "worst"]

_FLOAT = NDArray[np.float64]
_PARTS, _LEAVES, _LEAST_ROWS, _LEAST_SHARE = 3, 6, 20, 0.05
_FEWEST = 4 * _LEAST_ROWS
_EXAMPLES = 3
_PACKAGES = ("locum", "numpy", "scikit-learn")


def name_of(model: Any) -> str:
    """A model's class in words: RuleListClassifier is a rule list."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", type(model).__name__)
    words = [word for word in words if word not in ("Classifier", "Regressor")] or words
    return " ".join(word if word.isupper() else word.lower() for word in words)


def records(domain: Domain, Z: _FLOAT) -> list[dict[str, Any]]:
    """Encoded rows of shape (n, d) as values by column name; what is missing or unknown is None."""
    out = []
    for row in Z.tolist():
        cells: dict[str, Any] = {}
        for column, z in zip(domain.columns, row, strict=True):
            if z != z or (column.kind == "categorical" and z < 0):
                cells[column.name] = None
            elif column.kind == "categorical":
                cells[column.name] = column.levels[int(z)]
            else:
                cells[column.name] = int(z) if column.integer and z == int(z) else z
        out.append(cells)
    return out


def worst(standin: StandIn, Z: _FLOAT, truth: NDArray[Any], said: NDArray[Any]) -> tuple[dict[str, Any], ...]:
    """The parts of the region with the least fidelity, each as `Card.worst` takes it; none where rows are few.

    A small tree of the errors finds them on one half of the rows, with as many leaves as those bear out, and they are measured
    on the other, corrected for the number of parts; so they are not just where chance put the errors.
    """
    n = len(Z)
    if n < _FEWEST or truth.ndim > 2:
        return ()
    output = standin.target["output"]
    error = _errors(output, truth, said)
    order = np.random.default_rng(standin.random_state).permutation(n)
    first, second = np.sort(order[: n // 2]), np.sort(order[n // 2 :])
    if not error[first].std():
        return ()
    parts = _parts(standin.domain, Z[first], error[first])
    score = measure("mae") if output == "value" else default_measure(output)
    found: list[tuple[float, dict[str, Any]]] = []
    for part in parts:
        inside = second[part.holds(Z[second])]
        if len(inside) < _LEAST_ROWS or error[inside].mean() <= error[second].mean():
            continue
        try:
            fidelity = score.fidelity(
                truth[inside], said[inside], candidates=len(parts), region=part.text(standin.domain.columns)
            )
        except InvalidData:  # a measure that is undefined on these rows
            continue
        shown = inside[np.argsort(-error[inside], kind="stable")[:_EXAMPLES]]
        shown = shown[error[shown] > 0]
        record = {
            "where": part.text(standin.domain.columns),
            "n": len(inside),
            "fidelity": fidelity,
            "examples": [
                {"row": row, "target": _shown(standin, truth[i]), "stand_in": _shown(standin, said[i])}
                for i, row in zip(shown.tolist(), records(standin.domain, Z[shown]), strict=True)
            ],
        }
        found.append((float(error[inside].mean()), record))
    found.sort(key=lambda one: -one[0])
    return tuple(record for _, record in found[:_PARTS])


def _parts(domain: Domain, Z: _FLOAT, error: _FLOAT) -> tuple[Rule, ...]:
    """The leaves of a tree of the errors, as many as Schwarz's criterion allows; none where a single one will do.

    A leaf costs three numbers: its mean, and the column and the place of a cut.
    """
    n = len(Z)
    least, best = max(_LEAST_ROWS, int(_LEAST_SHARE * n)), tuple[Rule, ...]()
    lowest = n * math.log(error.var())
    for leaves in range(2, _LEAVES + 1):
        rules = grown_rules(domain, Z, error[:, None], np.ones(n), leaves=leaves, min_rows=least)
        spread = np.mean((error - sum(rule.contribution(Z)[:, 0] for rule in rules)) ** 2)
        score = n * math.log(max(float(spread), 1e-300)) + 3 * (len(rules) - 1) * math.log(n)
        if score < lowest:
            best, lowest = rules, score
    return best


def _errors(output: str, truth: NDArray[Any], said: NDArray[Any]) -> _FLOAT:
    if output == "class":
        return (truth != said).astype(float)
    apart = np.abs(np.asarray(truth, dtype=float) - np.asarray(said, dtype=float)).reshape(len(truth), -1)
    return apart.sum(axis=1) / (2.0 if output == "probability" else 1.0)


def _shown(standin: StandIn, answer: Any) -> Any:
    if standin.target["output"] != "probability":
        return answer.item() if isinstance(answer, np.generic) else answer
    classes = standin.target["classes"] or list(range(len(answer)))
    best = int(np.argmax(answer))
    return f"{classes[best]} ({answer[best]:.2f})"


def examples(standin: StandIn, Z: _FLOAT, said: NDArray[Any], most: int = 4) -> tuple[dict[str, Any], ...]:
    """Typical rows with different answers: the least novel of each class, or of each quarter of the values."""
    named = ~((Z < 0) & standin.domain.categorical).any(axis=1)  # a category never seen is not typical, and has no value
    Z, said = Z[named], said[named]
    if not len(Z):
        return ()
    novelty = standin.region.novelty(standin.domain.decode(Z))
    if standin.target["output"] == "value":
        first = said if said.ndim == 1 else said[:, 0]
        kind = np.searchsorted(np.quantile(first, [0.25, 0.5, 0.75]), first)
    else:
        kind = np.unique(said, return_inverse=True)[1] if said.ndim == 1 else said.argmax(axis=1)
    typical = [np.flatnonzero(kind == k)[np.argmin(novelty[kind == k])] for k in np.unique(kind)[:most]]
    return tuple(records(standin.domain, Z[typical]))


def made(standin: StandIn, data: str | None) -> dict[str, Any]:
    """When, with which versions and seed."""
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "created": datetime.date.today().isoformat(),
        "seed": standin.random_state,
        "versions": versions,
        "data": data,
        "papers": list(getattr(type(standin.model), "papers", ())),
    }
