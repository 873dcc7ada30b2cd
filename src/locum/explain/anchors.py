"""Anchors: the shortest rule that holds for a row and, wherever else it holds, nearly always has the same answer.

A beam of rules grows by one condition a stage. All rules of a stage, for all rows that are explained, are tried on draws
under each rule in one query; what the draws under a rule say of its extensions costs nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.bounds import binomial
from locum.core.domain import Column, Domain
from locum.core.errors import FormatError, InvalidData, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.core.program import Condition, Rule
from locum.core.target import Target
from locum.explain._bins import Bins
from locum.explain._neighbourhood import Background, Explained, Fresh, Neighbourhood, explained, held_out
from locum.explain.attribution import plain_answer

__all__ = ["Anchor", "AnchorExplainer"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_BOOL = NDArray[np.bool_]
_FORMAT = 1
_BINS = 10
_BEAM = 4
_BASE = 5  # times `samples`, since all rows share the draws under no rule at all
_FRESH = 400
_HELD = 8  # draws for each one that is held out
_NORMAL = 1.96
_TOLERANCE = 0.5


@dataclass(frozen=True)
class Anchor:
    """A rule under which the target answers as it does for one row.

    Parameters
    ----------
    conditions : tuple of Condition
        At most one a column; none at all where the answer is the same nearly everywhere.
    columns : tuple of Column
        What the conditions are about.
    precision : Fidelity or None
        Share of fresh rows under the rule that have the answer; None where no fresh row is left.
    coverage : Fidelity
        Share of the rows of the data that the rule holds for.
    reached : bool
        Whether the search found a rule whose precision was at least `threshold` by its lower bound; else this is the best it
        found.
    row : tuple
        The row that was explained, one value a column.
    answer : label, number or list of probabilities
    tolerance : float or None
        How far a value may be off to count as the same answer; None for classes and probabilities.
    threshold : float
    baseline : str
        The distribution of rows under the rule.
    random_state : int
    """

    conditions: tuple[Condition, ...]
    columns: tuple[Column, ...]
    precision: Fidelity | None
    coverage: Fidelity
    reached: bool
    row: tuple[Any, ...]
    answer: Any
    tolerance: float | None
    threshold: float
    baseline: str
    random_state: int

    def holds(self, Z: _FLOAT) -> _BOOL:
        """Which encoded rows of shape (n, d) satisfy the rule, shape (n,)."""
        return Rule(self.conditions, ()).holds(Z)

    def text(self) -> str:
        """The rule in words, with its precision and coverage."""
        rule = Rule(self.conditions, ()).text(self.columns)
        off = "" if self.tolerance is None else f", give or take {self.tolerance:.3g}"
        lines = [f"IF {rule} THEN {plain_answer(self.answer)}{off}"]
        if not self.reached:
            lines.append(f"no rule was found whose precision is surely {self.threshold:g} or more; this is the best")
        lines += [str(self.precision or "precision not measured: no fresh row was left under the rule"), str(self.coverage)]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """The anchor as JSON-ready values, with a format number."""
        return {
            "format": _FORMAT,
            "conditions": [condition.to_dict() for condition in self.conditions],
            "columns": [column.to_dict() for column in self.columns],
            "precision": None if self.precision is None else self.precision.to_dict(),
            "coverage": self.coverage.to_dict(),
            "row": list(self.row),
            **{name: getattr(self, name) for name in _PLAIN},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Anchor:
        """The anchor that `to_dict` described.

        Raises
        ------
        FormatError
            A record of another format, or with parts that are missing or of the wrong kind.
        """
        if not isinstance(record, Mapping) or record.get("format") != _FORMAT:
            found = record.get("format") if isinstance(record, Mapping) else type(record).__name__
            raise FormatError(f"expected an anchor record of format {_FORMAT}, got {found!r}: update Locum to read it")
        try:
            precision = record["precision"]
            return cls(
                conditions=tuple(Condition.from_dict(one) for one in record["conditions"]),
                columns=tuple(Column.from_dict(one) for one in record["columns"]),
                precision=None if precision is None else Fidelity.from_dict(precision),
                coverage=Fidelity.from_dict(record["coverage"]),
                row=tuple(record["row"]),
                **{name: record[name] for name in _PLAIN},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"this is not an anchor: {error!r} while reading it") from error


_PLAIN = ("reached", "answer", "tolerance", "threshold", "baseline", "random_state")


class AnchorExplainer:
    r"""Rules that are enough for an answer.

    Conditions are ranges of a number between tenths of the data, a category, or that a value is missing. Rows under a rule A
    are drawn from the data: a real row for which A holds (or the row explained) takes about half of its cells outside A from
    another real row near it. The precision of A is the share of them with the answer of the row explained. A stage extends
    each of the best four rules by each condition, judged by the draws under the rule that satisfy it too, and draws under the
    four most promising. The first stage at which the exact 95 % interval of a rule's precision lies above the threshold ends
    the search, and among such rules the one that holds for most of the data wins.

    Parameters
    ----------
    target : Target
        Of classes, probabilities (the likeliest class counts) or values.
    data : rows, as the target takes them
        They say what rows under a rule look like; no answers are needed.
    domain : Domain or None, default=None
        Read off `data` where neither this nor the target says.
    samples : int, default=1000
        Draws under each rule that is tried.
    threshold : float, default=0.95
        Wanted precision.
    max_conditions : int, default=5
    tolerance : float or None, default=None
        How far a value may be off to count as the same answer (targets of values); half the standard deviation of the target's
        answers where None.
    output : int or None, default=None
        Which value is explained, where a target gives several.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Settings that cannot be used, or a target with recorded answers only.

    Notes
    -----
    Cost: five times `samples` rows of the target, once; then at most four times `samples` a stage and 400 fresh rows for each
    row explained, in one query a stage for all of them together.

    **Departures**: the published search asks few rows at a time, of the rule that its bounds say most about (KL-LUCB); here
    every rule of a stage has the same number of draws, which needs a handful of queries instead of thousands. Rows under a
    rule are made of near rows rather than of any two. The precision that is reported comes from fresh rows.

    References
    ----------
    Ribeiro, Singh and Guestrin, *Anchors: high-precision model-agnostic explanations*, AAAI 2018, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(size=(500, 4))
    >>> target = Target(lambda X: (X[:, 2] > 0.5).astype(int), name="high")
    >>> (found,) = AnchorExplainer(target, X).explain(np.array([[0.3, 0.3, 0.9, 0.3]]))
    >>> [condition.column for condition in found.conditions], found.reached
    ([2], True)
    """

    papers = ("anchors",)

    def __init__(
        self,
        target: Target,
        data: Any,
        *,
        domain: Domain | None = None,
        samples: int = 1000,
        threshold: float = 0.95,
        max_conditions: int = 5,
        tolerance: float | None = None,
        output: int | None = None,
        random_state: int = 0,
    ) -> None:
        self._background = Background.of(target, data, domain, random_state)
        if not 0 < threshold < 1:
            raise InvalidData(f"expected threshold= between 0 and 1 (such as 0.95), got {threshold!r}")
        least = _fewest(threshold)
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < least:
            raise InvalidData(f"expected samples= of at least {least} for a precision of {threshold:g}, got {samples!r}")
        require_whole(1, max_conditions=max_conditions)
        if tolerance is not None and not 0 < tolerance < np.inf:
            raise InvalidData(f"expected tolerance= of more than 0, got {tolerance!r}")
        self._samples, self._threshold, self._most = samples, threshold, max_conditions
        self._tolerance, self._output = tolerance, output
        domain, rows = self._background.domain, self._background.rows
        self._space = Neighbourhood(domain, rows)
        self._bins = Bins.of(domain.columns, rows, np.zeros((len(rows), 1)), np.ones(len(rows)), _BINS)
        self._codes = self._bins.codes(rows)

    def explain(self, X: Any) -> list[Anchor]:
        """Explain rows.

        Parameters
        ----------
        X : m rows, as the target takes them

        Returns
        -------
        list of m Anchor
        """
        background = self._background
        rows = background.read(X)
        (own,) = background.ask([rows], "use")
        base = self._base_draws()
        (said,) = background.ask([base])
        same = self._same(own, said)
        searches = [_Search(self, z, agrees) for z, agrees in zip(rows, same, strict=True)]
        for search in searches:
            search.tell([base], [said])
        for _ in range(self._most):
            asked = [search.ask() for search in searches]
            answers = background.ask([Z for drawn in asked for Z in drawn])
            for search, drawn in zip(searches, asked, strict=True):
                if drawn:
                    search.tell(drawn, answers[: len(drawn)])
                    answers = answers[len(drawn) :]
        fresh = background.score([search.fresh() for search in searches])
        return [self._record(search, answer, one) for search, answer, one in zip(searches, own.tolist(), fresh, strict=True)]

    def _base_draws(self) -> _FLOAT:
        rng = np.random.default_rng(self._background.random_state)
        rows = self._background.rows
        Z = self._space.crossed(rows[rng.integers(len(rows), size=_BASE * self._samples // 2)], rng).reshape(-1, rows.shape[1])
        return Z[~held_out(Z)]

    def _same(self, own: NDArray[Any], said: NDArray[Any]) -> list[_Same]:
        """For each row's answer, whether another answer counts as the same."""
        target = self._background.target
        if target.output != "value":
            if self._output is not None or self._tolerance is not None:
                raise InvalidData("output= and tolerance= are for targets of values; this one answers with classes")
            return [_Same(answer, None, None) for answer in own]
        (what, *_) = explained(target, own, self._output)
        reach = self._tolerance or _TOLERANCE * float(what.of(said).std())
        return [_Same(value, what, reach) for value in what.of(own)]

    def _record(self, search: _Search, answer: Any, fresh: Fresh) -> Anchor:
        background, rule = self._background, search.best
        conditions = tuple(self._condition(j, *rule.spans[j]) for j in sorted(rule.spans))
        name = f"rows under the rule, of {background.name}"
        precision = None
        if len(fresh.rows) >= 2:
            hits = search.same.agrees(fresh.answers)
            found = measure("agreement").fidelity(hits, np.ones(len(hits), dtype=bool), weights=fresh.weights, region=name)
            precision = replace(found, measure="precision")
        held = int(rule.holds.sum())
        share = binomial(held, len(rule.holds))
        coverage = Fidelity(
            "coverage", held / len(rule.holds), share.lower, share.upper, share.level, len(rule.holds), how="rows of the data",
            method=share.method,
        )  # fmt: skip
        return Anchor(
            conditions,
            background.domain.columns,
            precision,
            coverage,
            search.reached,
            background.plain(search.z),
            answer,
            search.same.tolerance,
            self._threshold,
            f"{background.name}, those under the rule crossed with near ones",
            background.random_state,
        )

    def _condition(self, j: int, first: int, last: int) -> Condition:
        if first == self._bins.counts[j]:  # the code of a missing value
            return Condition(j, levels=(), missing=True)
        return self._bins.condition(j, first, last, missing=False)


@dataclass(frozen=True)
class _Same:
    """The answer of the row explained: a label, probabilities, or a value with what counts as the same."""

    answer: Any
    what: Explained | None
    tolerance: float | None

    def agrees(self, answers: NDArray[Any]) -> _BOOL:
        """Which of n answers are the same, shape (n,)."""
        if self.what is not None:
            return np.abs(self.what.of(answers) - self.answer) <= self.tolerance
        return answers == self.answer if answers.ndim == 1 else answers.argmax(axis=1) == self.answer.argmax()


# ---------------------------------------------------------------------- one row's search
@dataclass(eq=False)
class _Rule:
    """A rule as spans of codes by column, and what is known of it."""

    spans: dict[int, tuple[int, int]]
    holds: _BOOL  # which rows of the data satisfy it
    codes: _INT  # of the draws under it
    hits: _BOOL  # which of them have the answer

    @property
    def sure(self) -> float:
        """Lower end of the exact interval of its precision."""
        return binomial(int(self.hits.sum()), len(self.hits)).lower if len(self.hits) else 0.0


class _Search:
    """The search for one row's rule, by ask and tell."""

    def __init__(self, explainer: AnchorExplainer, z: _FLOAT, same: _Same) -> None:
        self.explainer, self.z, self.same = explainer, z, same
        self._rng = explainer._background.rng(z, "anchor")
        self._spans = _candidates(explainer._bins, explainer._bins.codes(z[None])[0])
        everywhere = np.ones(len(explainer._codes), dtype=bool)
        self._beam = [_Rule({}, everywhere, np.empty((0, len(z)), dtype=np.intp), np.empty(0, dtype=bool))]
        self.best, self.reached = self._beam[0], False

    def ask(self) -> list[_FLOAT]:
        """Draws under each of the next rules; none once the search has ended."""
        if self.reached:
            return []
        self._beam = self._extended()
        return [self._drawn(rule, self.explainer._samples) for rule in self._beam]

    def tell(self, drawn: list[_FLOAT], answers: list[NDArray[Any]]) -> None:
        """Take the answers to what `ask` gave."""
        for rule, Z, y in zip(self._beam, drawn, answers, strict=True):
            rule.codes, rule.hits = self.explainer._bins.codes(Z), self.same.agrees(y)
        sure = [rule.sure for rule in self._beam]
        enough = [rule for rule, low in zip(self._beam, sure, strict=True) if low >= self.explainer._threshold]
        if enough:
            self.best, self.reached = max(enough, key=lambda rule: int(rule.holds.sum())), True
        elif self._beam and max(sure) > self.best.sure:
            self.best = self._beam[int(np.argmax(sure))]

    def fresh(self) -> _FLOAT:
        """Draws under the rule found that may only score."""
        Z = self._draw(self.best, _FRESH * _HELD)
        return Z[held_out(Z)]

    def _drawn(self, rule: _Rule, n: int) -> _FLOAT:
        Z = self._draw(rule, n)
        return Z[~held_out(Z)]

    def _draw(self, rule: _Rule, n: int) -> _FLOAT:
        rows = self.explainer._background.rows
        under = np.append(np.flatnonzero(rule.holds), len(rows))  # the last is the row explained
        picked = under[self._rng.integers(len(under), size=n // 2)]
        start = np.where((picked == len(rows))[:, None], self.z, rows[np.minimum(picked, len(rows) - 1)])
        kept = np.zeros(len(self.z), dtype=bool)
        kept[list(rule.spans)] = True
        return self.explainer._space.crossed(start, self._rng, kept).reshape(-1, len(self.z))

    def _extended(self) -> list[_Rule]:
        """The most promising extensions of the beam by one condition, each on columns of its own."""
        codes, threshold = self.explainer._codes, self.explainer._threshold
        column, first, last = self._spans
        found: dict[tuple[tuple[int, tuple[int, int]], ...], tuple[_Rule, float, float]] = {}
        for rule in self._beam:
            tables = [_table(rule.codes), _table(rule.codes[rule.hits]), _table(codes[rule.holds])]
            wide = min(table.shape[1] for table in tables) - 1
            ends = np.minimum(np.stack([first, last + 1]), wide)
            n, k, cover = (table[column, ends[1]] - table[column, ends[0]] for table in tables)
            open_ = (n > 0) & (cover > 0) & ~np.isin(column, list(rule.spans))
            share = np.where(open_, k / np.maximum(n, 1), -1.0)
            sure = np.where(open_, _wilson(k, np.maximum(n, 1)), -1.0)
            broad = np.where(share >= threshold, cover, -1.0)
            for i in {*_best_by_column(column, sure), *_best_by_column(column, broad)}:
                spans = {**rule.spans, int(column[i]): (int(first[i]), int(last[i]))}
                held = rule.holds & (codes[:, column[i]] >= first[i]) & (codes[:, column[i]] <= last[i])
                made = _Rule(spans, held, rule.codes[:0], rule.hits[:0])
                found[tuple(sorted(spans.items()))] = (made, float(sure[i]), float(broad[i]))
        # Half of the beam goes to the broadest of those that seem precise enough, which may turn out not to be.
        surest = [rule for rule, *_ in sorted(found.values(), key=lambda one: (-one[1], -one[2]))]
        broadest = [rule for rule, _, broad in sorted(found.values(), key=lambda one: (-one[2], -one[1])) if broad > 0]
        best = broadest[: _BEAM // 2]
        return best + [rule for rule in surest if rule not in best][: _BEAM - len(best)]


def _candidates(bins: Bins, own: _INT) -> tuple[_INT, _INT, _INT]:
    """Every condition that a row with these codes satisfies: column, first and last code."""
    out = []
    for j, (code, count) in enumerate(zip(own.tolist(), bins.counts.tolist(), strict=True)):
        if bins.columns[j].kind == "categorical" or code == count:
            out.append((j, code, code))
            continue
        out += [(j, a, b) for a in range(code + 1) for b in range(code, count) if (a, b) != (0, count - 1)]
    return tuple(np.array(out, dtype=np.intp).reshape(-1, 3).T)  # type: ignore[return-value]


def _table(codes: _INT) -> _INT:
    """How many rows have a code below each, column by column, shape (d, codes + 1)."""
    n, d = codes.shape
    wide = int(codes.max()) + 1 if n else 1
    flat = np.bincount((codes + np.arange(d) * wide).ravel(), minlength=d * wide).reshape(d, wide)
    return np.concatenate([np.zeros((d, 1), dtype=np.intp), flat.cumsum(axis=1)], axis=1)


def _best_by_column(column: _INT, worth: _FLOAT) -> list[int]:
    """The condition of most worth on each column, where it is worth anything."""
    order = np.lexsort((worth, column))
    last = np.flatnonzero(np.append(np.diff(column[order]) != 0, True))
    return [int(i) for i in order[last] if worth[i] >= 0]


def _wilson(k: _INT, n: _INT) -> _FLOAT:
    """Lower end of Wilson's interval of a proportion: a quick ranking; what is decided by is exact."""
    share, extra = k / n, _NORMAL**2 / n
    return (share + extra / 2 - _NORMAL * np.sqrt(share * (1 - share) / n + extra / (4 * n))) / (1 + extra)


def _fewest(threshold: float) -> int:
    """Draws that can at all be sure of a precision, with an eighth of them held out."""
    n = 2
    while binomial(n, n).lower < threshold:
        n *= 2
    return 2 * n
