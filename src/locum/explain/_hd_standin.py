"""What imitates a black box on a few columns: a tree that is rules, a forest, boosted trees, or an estimator of one's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GroupKFold, KFold

from locum.core.domain import Domain
from locum.core.errors import InvalidData, need
from locum.core.program import Program
from locum.core.rivals import grown_rules

__all__ = [
    "FAMILIES", "Family", "Imitation", "KChoice", "Rules", "chosen", "family", "folds", "smallest_within_one_error",
    "tree_program",
]  # fmt: skip

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_BOOL = NDArray[np.bool_]
_LEAVES = (4, 8, 16, 32, 64, 128, 256)
_MOST_ROWS = 4000  # that choose k and the settings
_TREES = 100


class Imitation(ABC):
    """A fitted model of the black box's probabilities on the columns chosen."""

    @abstractmethod
    def values(self, Z: _FLOAT) -> _FLOAT:
        """What it says of rows (n, k columns): numbers that stand for the probabilities of the classes, shape (n, classes)."""


class Family(ABC):
    """A kind of imitation with settings to choose from."""

    name: str

    @abstractmethod
    def settings(self, n: int) -> list[dict[str, Any]]:
        """Settings worth trying on n rows, the simplest first."""

    @abstractmethod
    def fitted(self, domain: Domain, Z: _FLOAT, P: _FLOAT, classes: NDArray[Any], setting: dict[str, Any]) -> Imitation:
        """An imitation of probabilities P (n, classes) on rows Z (n, k columns)."""


# ---------------------------------------------------------------------- kinds
@dataclass(frozen=True)
class Rules(Imitation):
    """A tree, as a program."""

    program: Program

    def values(self, Z: _FLOAT) -> _FLOAT:
        return self.program.values(Z)


@dataclass(frozen=True)
class _Regression(Imitation):
    model: Any

    def values(self, Z: _FLOAT) -> _FLOAT:
        return np.asarray(self.model.predict(Z), dtype=float).reshape(len(Z), -1)


@dataclass(frozen=True)
class _Classification(Imitation):
    model: Any
    classes: NDArray[Any]

    def values(self, Z: _FLOAT) -> _FLOAT:
        known = np.searchsorted(self.classes, self.model.classes_) if len(self.model.classes_) else []
        out = np.zeros((len(Z), len(self.classes)))
        said = self.model.predict_proba(Z) if hasattr(self.model, "predict_proba") else None
        out[:, known] = said if said is not None else self.model.predict(Z)[:, None] == self.model.classes_
        return out


def tree_program(domain: Domain, Z: _FLOAT, P: _FLOAT, classes: NDArray[Any], leaves: int, min_rows: int) -> Program:
    """A tree on rows (n, k) as rules that answer with mean probabilities."""
    rules = grown_rules(domain, Z, P, np.ones(len(Z)), leaves=leaves, min_rows=min_rows) if leaves > 1 else ()
    base = tuple(float(p) for p in P.mean(axis=0))
    labels = tuple(classes.tolist())
    return Program(domain.columns, "class", labels, "identity", "rules", rules, base, exhaustive=bool(rules))


class _Tree(Family):
    name = "tree"

    def settings(self, n: int) -> list[dict[str, Any]]:
        leaves = [count for count in _LEAVES if count <= max(4, n // 4)]
        return [{"leaves": count, "min_rows": least} for count in leaves for least in (5, 1)]

    def fitted(self, domain: Domain, Z: _FLOAT, P: _FLOAT, classes: NDArray[Any], setting: dict[str, Any]) -> Imitation:
        return Rules(tree_program(domain, Z, P, classes, **setting))


@dataclass(frozen=True)
class _Forest(Family):
    random_state: int
    name = "forest"

    def settings(self, n: int) -> list[dict[str, Any]]:
        return [{}]

    def fitted(self, domain: Domain, Z: _FLOAT, P: _FLOAT, classes: NDArray[Any], setting: dict[str, Any]) -> Imitation:
        from sklearn.ensemble import ExtraTreesRegressor

        return _Regression(ExtraTreesRegressor(_TREES, max_features=0.5, random_state=self.random_state).fit(Z, P))


@dataclass(frozen=True)
class _Boosted(Family):
    random_state: int
    name = "xgb"

    def settings(self, n: int) -> list[dict[str, Any]]:
        return [{"max_depth": 3}, {"max_depth": 6}]

    def fitted(self, domain: Domain, Z: _FLOAT, P: _FLOAT, classes: NDArray[Any], setting: dict[str, Any]) -> Imitation:
        xgboost = need("xgboost", "surrogate='xgb'", "boosting")
        model = xgboost.XGBRegressor(
            n_estimators=_TREES, learning_rate=0.1, subsample=0.8, n_jobs=1, random_state=self.random_state, **setting
        )
        return _Regression(model.fit(Z, P))


@dataclass(frozen=True)
class _Own(Family):
    estimator: Any
    name = "estimator"

    def settings(self, n: int) -> list[dict[str, Any]]:
        return [{}]

    def fitted(self, domain: Domain, Z: _FLOAT, P: _FLOAT, classes: NDArray[Any], setting: dict[str, Any]) -> Imitation:
        model = clone(self.estimator)
        if is_classifier(model):
            return _Classification(model.fit(Z, classes[P.argmax(axis=1)]), classes)
        return _Regression(model.fit(Z, P))


FAMILIES: dict[str, Callable[[int], Family]] = {"tree": lambda _: _Tree(), "forest": _Forest, "xgb": _Boosted}


def family(surrogate: Any, random_state: int) -> Family:
    """The kind that a setting names.

    Raises
    ------
    InvalidData
        Neither a kind nor an estimator.
    """
    if isinstance(surrogate, str) and surrogate in FAMILIES:
        return FAMILIES[surrogate](random_state)
    if hasattr(surrogate, "fit") and hasattr(surrogate, "get_params") and not isinstance(surrogate, type):
        return _Own(surrogate)
    raise InvalidData(f"expected surrogate= to be one of {', '.join(FAMILIES)}, or an estimator, got {surrogate!r}")


# ---------------------------------------------------------------------- how many columns
class KChoice(NamedTuple):
    """Cross-validated fidelity with k columns.

    Parameters
    ----------
    k : int
    r2 : float
        Mean over folds; errors over the variance of all rows.
    standard_error : float
    setting : dict
        The best settings with that many columns.
    """

    k: int
    r2: float
    standard_error: float
    setting: dict[str, Any]


def folds(n: int, groups: Any, count: int, random_state: int) -> list[_BOOL]:
    """Masks of the rows that each fold leaves out; whole groups, where there are groups."""
    if groups is None:
        parts = KFold(min(count, n), shuffle=True, random_state=random_state).split(np.zeros(n))
    else:
        found = min(count, len(np.unique(groups)))
        if found < 2:
            raise InvalidData("expected rows of at least two groups, got one group; leave out groups=")
        parts = GroupKFold(found, shuffle=True, random_state=random_state).split(np.zeros(n), groups=groups)
    out = []
    for _, left_out in parts:
        mask = np.zeros(n, dtype=bool)
        mask[left_out] = True
        out.append(mask)
    return out


def chosen(
    kind: Family,
    domain_of: Callable[[_INT], Domain],
    order_of: Callable[[_BOOL], _INT],
    Z: _FLOAT,
    P: _FLOAT,
    classes: NDArray[Any],
    ks: Sequence[int],
    left_out: Sequence[_BOOL],
    random_state: int,
) -> tuple[KChoice, ...]:
    """Cross-validated fidelity for each k, with a ranking made anew of the rows of each fit."""
    used = np.zeros(len(Z), dtype=bool)
    used[np.random.default_rng(random_state).permutation(len(Z))[:_MOST_ROWS]] = True
    settings = kind.settings(int(used.sum()))
    scale = float(((P - P.mean(axis=0)) ** 2).sum()) / len(P)
    found = np.zeros((len(ks), len(settings), len(left_out)))
    for f, out in enumerate(left_out):
        order = order_of(~out)
        fitting, checking = used & ~out, used & out
        if not (fitting.any() and checking.any()):
            raise InvalidData("expected rows on both sides of every fold, and a fold is empty; use fewer folds")
        for i, k in enumerate(ks):
            columns = order[:k]
            for s, setting in enumerate(settings):
                model = kind.fitted(domain_of(columns), Z[fitting][:, columns], P[fitting], classes, setting)
                error = ((P[checking] - model.values(Z[checking][:, columns])) ** 2).sum(axis=1).mean()
                found[i, s, f] = 1.0 - error / scale
    best = found.mean(axis=2).argmax(axis=1)
    out_of = [found[i, s] for i, s in enumerate(best)]
    return tuple(
        KChoice(int(k), float(r2.mean()), float(r2.std(ddof=1) / np.sqrt(len(r2))), settings[s])
        for k, r2, s in zip(ks, out_of, best, strict=True)
    )


def smallest_within_one_error(choices: Sequence[KChoice]) -> KChoice:
    """The smallest k whose fidelity is within one standard error of the best."""
    best = max(choices, key=lambda choice: choice.r2)
    return min((c for c in choices if c.r2 >= best.r2 - best.standard_error), key=lambda choice: choice.k)
