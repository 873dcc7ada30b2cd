"""Frontier: how simple can a stand-in be before it lies?

Readable models of several families and sizes are fitted to the same answers and measured on the same fresh rows, beside
the cheapest rivals: fidelity, with its bounds, against the number of statements one has to read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.measures import measure as find_measure
from locum.core.report import Card, card
from locum.core.surrogate import Asked, Readable, StandIn, Training, ask_for, prepared
from locum.core.target import Budget, Target
from locum.explain._neighbourhood import content
from locum.explain.additive import AdditiveClassifier, AdditiveRegressor
from locum.explain.rule_list import RuleListClassifier, RuleListRegressor
from locum.explain.rule_set import RuleSetClassifier, RuleSetRegressor
from locum.explain.sparse_linear import SparseLinearClassifier, SparseLinearRegressor
from locum.explain.tree import TreeClassifier, TreeRegressor

__all__ = ["Frontier", "Point", "frontier", "held_out"]

SIZES = (1, 2, 4, 8, 16, 32)
_PROBE_SIZE = 8  # the size on which a family's training rows, and the queries of the frontier, are chosen
_FRESH_SHARE, _MOST_FRESH = 1 / 3, 2000
_ENOUGH = 0.95

Family = Callable[[int], Any]
_CLASSIFIERS: dict[str, Family] = {
    "tree": lambda size: TreeClassifier(max_rules=size),
    "rule list": lambda size: RuleListClassifier(max_rules=size),
    "rule set": lambda size: RuleSetClassifier(max_rules=size),
    "additive model": lambda size: AdditiveClassifier(max_statements=size),
    "sparse linear": lambda size: SparseLinearClassifier(max_terms=size),
}
_REGRESSORS: dict[str, Family] = {
    "tree": lambda size: TreeRegressor(max_rules=size),
    "rule list": lambda size: RuleListRegressor(max_rules=size),
    "rule set": lambda size: RuleSetRegressor(max_rules=size),
    "additive model": lambda size: AdditiveRegressor(max_statements=size),
    "sparse linear": lambda size: SparseLinearRegressor(max_terms=size),
}


@dataclass(frozen=True)
class Point:
    """One stand-in on the frontier.

    Parameters
    ----------
    name : str
        The family.
    standin : StandIn
    """

    name: str
    standin: StandIn

    @property
    def statements(self) -> int:
        """How many statements one has to read."""
        program = self.standin.program
        assert program is not None
        return max(1, program.statements)

    @property
    def fidelity(self) -> Fidelity:
        """On the frontier's fresh rows."""
        return self.standin.fidelity[0]

    def __str__(self) -> str:
        return f"{self.name}, {self.statements} statement{'' if self.statements == 1 else 's'}: {self.fidelity}"


@dataclass(frozen=True)
class Frontier:
    """Fidelity against complexity, with bounds that hold for whichever point is picked.

    Parameters
    ----------
    points : tuple of Point
        By statements, then by family.
    fresh : rows
        The fresh rows all of them were measured on.

    Examples
    --------
    >>> import numpy as np
    >>> from locum.core.target import Target
    >>> X = np.random.default_rng(0).uniform(size=(400, 3)).round(2)
    >>> target = Target(lambda X: ((X[:, 0] > 0.5) & (X[:, 1] > 0.3)).astype(int), name="both high")
    >>> found = frontier(target, X, sizes=(1, 2, 4), families=["tree", "rule list"])
    >>> found.at_most(4).fidelity[0].value > 0.95
    True
    >>> found.knee().statements
    2
    """

    points: tuple[Point, ...]
    fresh: Any

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    def __len__(self) -> int:
        return len(self.points)

    def __str__(self) -> str:
        return "\n".join(map(str, self.best()))

    def best(self) -> tuple[Point, ...]:
        """The points that no simpler one equals, by statements: the frontier itself."""
        out: list[Point] = []
        for point in sorted(self.points, key=lambda p: (p.statements, -_worth(p.fidelity))):
            if not out or _worth(point.fidelity) > _worth(out[-1].fidelity):
                out.append(point)
        return tuple(out)

    def at_most(self, statements: int, family: str | None = None) -> StandIn:
        """The most faithful stand-in of at most so many statements.

        Parameters
        ----------
        statements : int
        family : str or None, default=None
            Only of this family.

        Raises
        ------
        InvalidData
            There is none so small, or no such family.
        """
        return self.point_at_most(statements, family).standin

    def point_at_most(self, statements: int, family: str | None = None) -> Point:
        """As `at_most`, with its name."""
        names = dict.fromkeys(p.name for p in self.points)
        if family is not None and family not in names:
            raise InvalidData(f"expected family= to be one of {', '.join(map(repr, names))}, got {family!r}")
        among = [p for p in self.points if family in (None, p.name)]
        small = [p for p in among if p.statements <= statements]
        if not small:
            least = min(p.statements for p in among)
            raise InvalidData(f"no stand-in has at most {statements} statements; the simplest has {least}")
        return max(small, key=lambda p: (_worth(p.fidelity), -p.statements))

    def knee(self, enough: float = _ENOUGH) -> Point:
        """The point where more statements stop paying.

        Parameters
        ----------
        enough : float, default=0.95
            The simplest point that has this share of what the most faithful one gains over the constant.
        """
        if not 0 < enough <= 1:
            raise InvalidData(f"expected enough= above 0 and up to 1, got {enough}")
        best = self.best()
        floor = self._floor()
        gained = np.array([_worth(p.fidelity) - floor for p in best])
        return best[int(np.argmax(gained >= enough * gained[-1]))] if gained[-1] > 0 else best[0]

    def _floor(self) -> float:
        found = [_worth(r.fidelity[0]) for r in self.points[0].standin.rivals if r.name == "constant" and r.fidelity]
        return found[0] if found else min(_worth(p.fidelity) for p in self.points)

    def rows(self, chosen: StandIn | None = None) -> tuple[dict[str, Any], ...]:
        """Every point as a card takes it, with the knee and the chosen stand-in marked."""
        knee, largest = self.knee(), max(p.statements for p in self.points)
        return tuple(
            {
                "name": p.name,
                "statements": p.statements,
                "fidelity": p.fidelity,
                "knee": p is knee and p.statements < largest,  # at the end of the road nobody knows
                "chosen": p.standin is chosen,
            }
            for p in self.points
        )

    def card(self, standin: StandIn, target: Target, **settings: Any) -> Card:
        """The card of one of the stand-ins, with the frontier on it; settings are those of `locum.card`."""
        names = {id(p.standin): p.name for p in self.points}
        settings = {"name": names.get(id(standin)), **settings}
        return card(standin, target, self.fresh, frontier=self.rows(standin), **settings)

    def to_dict(self) -> dict[str, Any]:
        """Every point as JSON-ready values."""
        return {"points": [{**row, "fidelity": row["fidelity"].to_dict()} for row in self.rows()]}


def frontier(
    target: Target,
    data: Any,
    *,
    fresh: Any = None,
    families: Iterable[str] | Mapping[str, Family] | None = None,
    sizes: Iterable[int] = SIZES,
    budget: Budget | int | None = None,
    domain: Domain | None = None,
    measure: Any = None,
    executor: Executor | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    random_state: int = 0,
) -> Frontier:
    """Fit readable stand-ins of many sizes to the same answers, and measure all of them on the same fresh rows.

    Parameters
    ----------
    target : Target
    data : rows, as the target takes them
        They say where the stand-in will be used. No labels are needed.
    fresh : rows or None, default=None
        To measure on; a third of the distinct rows of `data`, at most 2,000, is kept apart where None. Each is asked once,
        beside the budget.
    families : iterable of str, mapping of str to callable, or None, default=None
        Names among "tree", "rule list", "rule set", "additive model" and "sparse linear", all of them where None; or models
        of one's own, each from a size.
    sizes : iterable of int, default=(1, 2, 4, 8, 16, 32)
        Most statements: rules, leaves, pieces or coefficients.
    budget : Budget, int (calls) or None, default=None
        For fitting; as many rows as are left in `data` where None.
    domain : Domain or None, default=None
    measure : str, Measure or None, default=None
        The target's usual one where None.
    executor : concurrent.futures executor or None, default=None
        Where models are fitted.
    progress : callable or None, default=None
        Called with (done, all, what) as stages end.
    random_state : int, default=0

    Returns
    -------
    Frontier
        Bounds are corrected for the number of points, so they hold for the one that is picked.

    Raises
    ------
    InvalidData, TargetError, BudgetExhausted
        `BudgetExhausted` only where the fresh rows could not be asked, or too little was answered to fit anything.

    Notes
    -----
    Cost: the budget and the fresh rows; queries are chosen once, for a tree of eight leaves; then families times sizes fits.
    """
    domain = domain or target.domain or Domain.of(data)
    if fresh is None:
        data, fresh = held_out(domain, data, random_state=random_state)
    sizes, families = sorted(set(sizes)), _named(families)
    if not sizes or sizes[0] < 1:
        raise InvalidData(f"expected sizes= of one or more, got {sizes}")
    measures = () if measure is None else (find_measure(measure),)
    report = progress or (lambda done, all_, what: None)
    # The fresh rows go first: a frontier that cannot be measured is not worth its queries. They tell the kind of answer too.
    target.query(fresh, "score")
    chosen = _families(families, target.output)
    total = 2 + len(chosen) * len(sizes)
    report(1, total, "asked the fresh rows")
    lead = next(iter(chosen.values()))
    asked = ask_for(lead(_PROBE_SIZE), target, data, budget=budget, domain=domain, random_state=random_state)
    report(2, total, "asked for fitting")
    jobs = [(name, family, size) for name, family in chosen.items() for size in sizes]
    points = []
    for (name, _, size), standin in zip(jobs, _fitted(asked, jobs, executor), strict=True):
        points.append(Point(name, standin))
        report(2 + len(points), total, f"{name} of {size}")
    points = _distinct(points)
    measured = [
        Point(p.name, p.standin.check(target, fresh, measures=measures, candidates=len(points), random_state=random_state))
        for p in points
    ]
    return Frontier(tuple(sorted(measured, key=lambda p: (p.statements, p.name))), fresh)


def held_out(
    domain: Domain, data: Any, *, share: float = _FRESH_SHARE, most: int = _MOST_FRESH, random_state: int = 0
) -> tuple[Any, Any]:
    """Split rows in two at random: those that may fit, and fresh ones; equal rows stay together, so none is in both.

    Parameters
    ----------
    domain : Domain
    data : rows
    share : float, default=1/3
        Of the distinct rows, to keep apart.
    most : int, default=2000
        Rows to keep apart.
    random_state : int, default=0

    Returns
    -------
    data, fresh : rows in the domain's container

    Raises
    ------
    InvalidData
        Fewer than four distinct rows.
    """
    Z = domain.encode(data)
    group = np.unique(content(Z), return_inverse=True)[1]
    count = int(group.max()) + 1
    if count < 4:
        raise InvalidData(f"expected at least 4 different rows to keep some apart for measuring, got {count}; give fresh=")
    wanted = max(2, min(most, round(share * count)))
    picked = np.random.default_rng(random_state).permutation(count)[:wanted]
    kept = np.isin(group, picked)
    first = np.unique(group, return_index=True)[1]
    return domain.decode(Z[~kept]), domain.decode(Z[np.sort(first[picked])])


def _named(families: Iterable[str] | Mapping[str, Family] | None) -> list[str] | dict[str, Family]:
    """Names that are known, all where there are none; or families of one's own."""
    found = dict(families) if isinstance(families, Mapping) else list(_CLASSIFIERS if families is None else families)
    strange = [name for name in found if name not in _CLASSIFIERS] if isinstance(found, list) else []
    if strange or not found:
        raise InvalidData(f"expected families= among {', '.join(map(repr, _CLASSIFIERS))}, got {list(found)}")
    return found


def _families(families: list[str] | dict[str, Family], output: str | None) -> dict[str, Family]:
    if isinstance(families, dict):
        return families
    known = _REGRESSORS if output == "value" else _CLASSIFIERS
    return {name: known[name] for name in families}


def _fitted(asked: Asked, jobs: list[tuple[str, Family, int]], executor: Executor | None) -> Iterator[StandIn]:
    """The stand-ins, in order; a family's training rows are chosen once, on one size."""
    run: Any = map if executor is None else executor.map
    families = {name: family for name, family, _ in jobs}
    trainings = {name: asked.training(family(_PROBE_SIZE)) for name, family in families.items()}
    models = [prepared(family(size), asked.domain, asked.target) for _, family, size in jobs]
    wanted = [trainings[name] for name, _, _ in jobs]
    for model, training in zip(run(Training.fitted, wanted, models), wanted, strict=True):
        yield asked.stand_in(model, training)


def _distinct(points: list[Point]) -> list[Point]:
    """Where a larger budget of statements changed nothing, the model counts once."""
    seen: set[str] = set()
    out = []
    for point in points:
        assert isinstance(point.standin.model, Readable)
        key = point.name + repr(point.standin.model.program_)
        if key not in seen:
            seen.add(key)
            out.append(point)
    return out


def _worth(found: Fidelity) -> float:
    """Higher is better."""
    return found.value if found.greater_is_better else -found.value
