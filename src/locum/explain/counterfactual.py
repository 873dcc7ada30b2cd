"""Counterfactuals: the few small changes to one row that change its answer, each of them asked of the target.

Real rows with the wanted answer are where the search starts. Their cells are given back to the row one after the other while
the answer stays, and numbers are then moved back as far as it stays. All candidates of all rows go through a step together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locum.core.domain import Domain
from locum.core.errors import FormatError, InvalidData, require_whole
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.core.region import Region
from locum.core.target import Target
from locum.explain._neighbourhood import Background, Fresh, Neighbourhood, held_out
from locum.explain.attribution import plain_answer, plain_value

__all__ = ["Change", "Counterfactual", "CounterfactualExplainer", "Counterfactuals"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_BOOL = NDArray[np.bool_]
_FORMAT = 1
_CANDIDATES, _TRIED = 10, 40
_ROUNDS = 6
_GRID, _REFINED, _COLUMNS = 16, 3, 3
_DRAWN, _REACH, _SWAPPED = 1600, 0.2, 0.1


class Change(NamedTuple):
    """One changed cell.

    Parameters
    ----------
    column : str
    before, after : text, number or None
        None is a missing value.
    """

    column: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Counterfactual:
    """One changed row whose answer is the wanted one, as the target itself said.

    Parameters
    ----------
    changes : tuple of Change
    row : tuple
        The changed row, one value a column.
    answer : label, number or list of probabilities
        What the target answers for it.
    distance : float
        Sum of the changes: standard deviations of a number, 1 for a category or for a value that is or was missing.
    novelty, threshold : float
        Distance to the rows of the data, and the distance beyond which a row is unlike them (infinite where the data are too
        few to say); see `Region`.
    inside : bool
        Whether it lies in the region of the data.
    robustness : Fidelity or None
        Share of small changes to it that keep the wanted answer, on fresh rows; None where no fresh row is left.
    """

    changes: tuple[Change, ...]
    row: tuple[Any, ...]
    answer: Any
    distance: float
    novelty: float
    threshold: float
    inside: bool
    robustness: Fidelity | None

    def text(self) -> str:
        """The changes in words, and what speaks for and against them."""
        steps = ", ".join(f"{c.column}: {plain_value(c.before)} -> {plain_value(c.after)}" for c in self.changes)
        where = "among the rows of the data" if self.inside else "unlike the rows of the data"
        sure = self.robustness or "robustness not measured: no fresh row was left near it"
        return f"{steps}: then {plain_answer(self.answer)} (distance {self.distance:.3g}, {where})\n  {sure}"

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """The counterfactual as JSON-ready values."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "changes": [list(change) for change in self.changes],
            "row": list(self.row),
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "robustness": None if self.robustness is None else self.robustness.to_dict(),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Counterfactual:
        """The counterfactual that `to_dict` described."""
        threshold, robustness = record["threshold"], record["robustness"]
        return cls(
            changes=tuple(Change(*change) for change in record["changes"]),
            row=tuple(record["row"]),
            threshold=math.inf if threshold is None else threshold,
            robustness=None if robustness is None else Fidelity.from_dict(robustness),
            **{name: record[name] for name in _PLAIN},
        )


_PLAIN = ("answer", "distance", "novelty", "inside")


@dataclass(frozen=True)
class Counterfactuals:
    """What was found for one row, likely and near ones first; nothing, where no change that is allowed was found to do.

    Parameters
    ----------
    found : tuple of Counterfactual
    columns : tuple of str
    row : tuple
        The row that was explained, one value a column.
    answer : label, number or list of probabilities
    wanted : str
        In words.
    random_state : int
    """

    found: tuple[Counterfactual, ...]
    columns: tuple[str, ...]
    row: tuple[Any, ...]
    answer: Any
    wanted: str
    random_state: int

    def __iter__(self) -> Iterator[Counterfactual]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def text(self) -> str:
        """All of them in words."""
        lines = [f"answered {plain_answer(self.answer)}, wanted {self.wanted}"]
        if not self.found:
            lines.append("no allowed change to it was found to do: allow more columns, or give data with the wanted answer")
        return "\n".join(lines + [one.text() for one in self.found])

    def __str__(self) -> str:
        return self.text()

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON-ready values, with a format number."""
        return {
            **{name: getattr(self, name) for name in ("answer", "wanted", "random_state")},
            "format": _FORMAT,
            "found": [one.to_dict() for one in self.found],
            "columns": list(self.columns),
            "row": list(self.row),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Counterfactuals:
        """What `to_dict` described.

        Raises
        ------
        FormatError
            A record of another format, or with parts that are missing or of the wrong kind.
        """
        if not isinstance(record, Mapping) or record.get("format") != _FORMAT:
            found = record.get("format") if isinstance(record, Mapping) else type(record).__name__
            raise FormatError(f"expected counterfactuals of format {_FORMAT}, got {found!r}: update Locum to read them")
        try:
            found = tuple(Counterfactual.from_dict(one) for one in record["found"])
            columns, row = tuple(record["columns"]), tuple(record["row"])
            return cls(found, columns, row, record["answer"], record["wanted"], record["random_state"])
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"these are not counterfactuals: {error!r} while reading them") from error


class CounterfactualExplainer:
    """Smallest changes that change an answer.

    The search starts at the nearest rows of the data with the wanted answer, with forbidden changes undone. Up to six times
    over, each changed cell is given back alone, and put into the row alone; in the order of what that does to the answer,
    cells are then given back together as long as the answer stays. Then numbers are moved back towards the row, first all
    together and then the largest changes one by one, by search on a grid that is refined. Of what remains, rows in the region
    of the data come first, then near ones; one whose changed columns include all of another's is left out.

    Parameters
    ----------
    target : Target
        Of classes, probabilities (the likeliest class counts) or values.
    data : rows, as the target takes them
        Where the search starts, and what likely rows look like.
    domain : Domain or None, default=None
        Read off `data` where neither this nor the target says.
    wanted : class, (low, high) or None, default=None
        The class that is wanted, any other than the row's where None; for values the range, with None for no bound.
    count : int, default=3
        Most counterfactuals a row.
    fixed : iterable of str or int, default=()
        Columns that may not change.
    increase, decrease : iterable of str or int, default=()
        Columns of numbers that may only become larger, or smaller.
    samples : int, default=4000
        Most rows of the data whose answers are asked to start from.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Settings that cannot be used, or a target with recorded answers only.

    Notes
    -----
    Cost: the rows of the data, once; then, for each row explained, ten candidates times about six rows a changed column and
    some 200 on grids, and about 200 fresh rows for each counterfactual. In at most 26 queries for all rows together.

    References
    ----------
    Wachter, Mittelstadt and Russell, arXiv 1711.00399 (the problem). Mothilal, Sharma and Tan, FAT* 2020, arXiv 1905.07697
    (several, and cells given back afterwards). Pawelczyk et al., ICLR 2023, arXiv 2203.06768 (robustness to small changes).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).uniform(size=(300, 3))
    >>> target = Target(lambda X: (X[:, 1] > 0.6).astype(int), name="high")
    >>> (found,) = CounterfactualExplainer(target, X).explain(np.array([[0.5, 0.2, 0.5]]))
    >>> [(change.column, round(change.after, 2)) for change in found.found[0].changes]
    [('x1', 0.6)]
    """

    papers = ("wachter-counterfactuals", "dice", "robust-recourse")

    def __init__(
        self,
        target: Target,
        data: Any,
        *,
        domain: Domain | None = None,
        wanted: Any = None,
        count: int = 3,
        fixed: Iterable[str | int] = (),
        increase: Iterable[str | int] = (),
        decrease: Iterable[str | int] = (),
        samples: int = 4000,
        random_state: int = 0,
    ) -> None:
        self._background = Background.of(target, data, domain, random_state)
        domain = self._background.domain
        require_whole(1, count=count, samples=samples)
        self._fixed = _columns(domain, fixed, "fixed")
        self._up, self._down = _columns(domain, increase, "increase"), _columns(domain, decrease, "decrease")
        wrong = np.flatnonzero((self._up | self._down) & domain.categorical)
        if wrong.size:
            raise InvalidData(f"column {domain.names[wrong[0]]!r} holds categories, which neither increase nor decrease")
        twice = np.flatnonzero(self._up & self._down)
        if twice.size:
            raise InvalidData(f"column {domain.names[twice[0]]!r} is in increase= and in decrease=; name it in fixed= instead")
        if self._fixed.all():
            raise InvalidData("every column is fixed, so nothing can change; leave some out of fixed=")
        self._wanted, self._count, self._samples = wanted, count, samples
        self._space = Neighbourhood(domain, self._background.rows)
        self._region = Region.of(domain, data, random_state=random_state)

    def explain(self, X: Any) -> list[Counterfactuals]:
        """Explain rows.

        Parameters
        ----------
        X : m rows, as the target takes them

        Returns
        -------
        list of m Counterfactuals

        Raises
        ------
        InvalidData
            A wanted answer that the target cannot give, or that a row has already.
        """
        background = self._background
        rows = background.read(X)
        (own,) = background.ask([rows], "use")
        goals = [_Goal.of(background.target, answer, self._wanted) for answer in own]
        for i, goal in enumerate(goals):
            if goal.met(own[i : i + 1])[0]:
                raise InvalidData(f"row {i} is already answered as wanted ({goal.text}); leave it out, or want another answer")
        trials = self._started(rows, goals)
        for _ in range(_ROUNDS):
            if not self._given_back(trials):
                break
        self._moved_back(trials, np.broadcast_to(self._space.numeric, trials.rows.shape), _REFINED)
        for k in range(_COLUMNS):
            self._moved_back(trials, self._largest(trials, k), _REFINED - 1)
        return self._records(trials, own)

    # ------------------------------------------------------------------ the search
    def _started(self, rows: _FLOAT, goals: list[_Goal]) -> _Trials:
        """The nearest real rows with the wanted answer, as far as they may be reached, that still have it then."""
        real = self._background.rows[: self._samples]
        (said,) = self._background.ask([real])
        tried = []
        for z, goal in zip(rows, goals, strict=True):
            Z = self._allowed(real[goal.met(said)], z)
            away = self._space.gaps(Z, z).sum(axis=1)
            order = np.argsort(away, kind="stable")
            tried.append(Z[order[away[order] > 0]][:_TRIED])
        answers = self._background.ask(tried)
        kept = [self._several(Z[goal.met(y)], z) for Z, y, z, goal in zip(tried, answers, rows, goals, strict=True)]
        owner = np.repeat(np.arange(len(rows)), [len(Z) for Z in kept])
        return _Trials(self, rows, goals, owner, np.concatenate(kept))

    def _several(self, Z: _FLOAT, z: _FLOAT) -> _FLOAT:
        """The nearest of rows that come nearest first, taking turns between the columns that changed most."""
        most = self._space.gaps(Z, z).argmax(axis=1)
        turn = np.array([int((most[:i] == j).sum()) for i, j in enumerate(most)], dtype=np.intp)
        return Z[np.argsort(turn, kind="stable")[:_CANDIDATES]]

    def _allowed(self, Z: _FLOAT, z: _FLOAT) -> _FLOAT:
        """Rows with the changes undone that may not be made to `z`."""
        kept = self._fixed | (self._up & ~(z <= Z)) | (self._down & ~(z >= Z))
        return np.where(kept, z, Z)

    def _given_back(self, trials: _Trials) -> bool:
        """Give back cells that the answer can do without; whether any was."""
        at, column = np.nonzero(trials.changed)
        if not at.size:
            return False
        start, alone, without = trials.start, trials.start[at], trials.rows[at]
        without[np.arange(len(at)), column] = start[at, column]
        alone[np.arange(len(at)), column] = trials.rows[at, column]
        everyone = np.arange(len(trials.rows))
        (_, m_without), (met, m_alone), (_, m_now), (_, m_start) = trials.ask(
            (at, without), (at, alone), (everyone, trials.rows), (everyone, start)
        )
        matters = (m_now[at] - m_without) + (m_alone - m_start[at])
        gap = self._space.gaps(trials.rows[at], start[at])[np.arange(len(at)), column]
        order = np.lexsort((-gap, matters, at))
        at, column = at[order], column[order]
        # The first r of a candidate's cells given back together, for each r; the last would be the row itself.
        place = np.arange(len(at)) - np.searchsorted(at, at)
        count = np.bincount(at, minlength=len(trials.rows))
        rank = np.full(trials.rows.shape, len(start[0]))
        rank[at, column] = place
        steps = at[place < count[at] - 1]
        upto = place[place < count[at] - 1]
        shorter = np.where(rank[steps] <= upto[:, None], start[steps], trials.rows[steps])
        ((kept, _),) = trials.ask((steps, shorter))
        before = trials.rows.copy()
        trials.rows[steps[kept]] = shorter[kept]  # of a candidate's several, the last and shortest stays
        # One change is enough for some; candidates of one row take different ones, the nearest first.
        single = np.flatnonzero(met[order])
        single = single[np.lexsort((gap[order][single], at[single]))]
        turn = np.arange(len(single)) - np.searchsorted(at[single], at[single])
        of = np.bincount(at[single], minlength=len(trials.rows))[at[single]]
        single = single[turn == (at[single] - np.searchsorted(trials.owner, trials.owner[at[single]])) % of]
        trials.rows[at[single]] = start[at[single]]
        trials.rows[at[single], column[single]] = before[at[single], column[single]]
        return not np.array_equal(before, trials.rows, equal_nan=True)

    def _largest(self, trials: _Trials, k: int) -> _BOOL:
        """The number that changed k-th most in each candidate of several changes, as a mask."""
        gaps = self._space.gaps(trials.rows, trials.start) * self._space.numeric
        order = np.argsort(-gaps, axis=1, kind="stable")
        mask = np.zeros(gaps.shape, dtype=bool)
        if k < gaps.shape[1]:
            mask[np.arange(len(gaps)), order[:, k]] = trials.changed.sum(axis=1) > 1
        return mask

    def _moved_back(self, trials: _Trials, columns: _BOOL, rounds: int) -> None:
        """Move numbers of some columns back towards the row, together, as far as the answer stays."""
        moving = columns & trials.changed & self._space.numeric & ~np.isnan(trials.rows) & ~np.isnan(trials.start)
        who = np.flatnonzero(moving.any(axis=1))
        if not who.size:
            return
        low, high = np.zeros(len(who)), np.ones(len(who))
        whole = np.array([column.integer for column in self._background.domain.columns])
        start, end = trials.start[who], trials.rows[who].copy()
        for _ in range(rounds):
            share = low[:, None] + (high - low)[:, None] * np.arange(_GRID) / _GRID
            way = (end - start)[:, None, :] * share[:, :, None]
            way = np.where(whole, np.sign(way) * np.ceil(np.abs(way) - 1e-9), way)
            made = np.where(moving[who][:, None, :], start[:, None, :] + way, end[:, None, :])
            made = self._snapped(made.reshape(-1, made.shape[2]))
            ((met, _),) = trials.ask((np.repeat(who, _GRID), made))
            met, made = met.reshape(-1, _GRID), made.reshape(len(who), _GRID, -1)
            hit = met.any(axis=1)
            first = met.argmax(axis=1)
            trials.rows[who[hit]] = made[hit, first[hit]]
            nearer = np.take_along_axis(share, np.maximum(first - 1, 0)[:, None], axis=1)[:, 0]
            low, high = (
                np.where(hit, np.where(first > 0, nearer, low), share[:, -1]),
                np.where(hit, np.take_along_axis(share, first[:, None], axis=1)[:, 0], high),
            )

    def _snapped(self, Z: _FLOAT) -> _FLOAT:
        """Rows as the target will see them: what its container cannot hold exactly is rounded."""
        return self._background.domain.encode(self._background.domain.decode(Z)) if len(Z) else Z

    # ------------------------------------------------------------------ what is told
    def _records(self, trials: _Trials, own: NDArray[Any]) -> list[Counterfactuals]:
        background = self._background
        picked = [self._picked(trials, i) for i in range(len(own))]
        flat = [(i, at) for i, chosen in enumerate(picked) for at in chosen]
        answers = background.ask([trials.rows[[at]] for _, at in flat])
        drawn = [self._small_changes(trials.rows[at]) for _, at in flat]
        fresh = background.score(drawn)
        found: list[list[Counterfactual]] = [[] for _ in own]
        for (i, at), answer, asked in zip(flat, answers, fresh, strict=True):
            found[i].append(self._record(trials, at, answer[0], asked))
        names, seed = background.domain.names, background.random_state
        return [
            Counterfactuals(tuple(one), names, background.plain(z), answer, goal.text, seed)
            for one, z, answer, goal in zip(found, trials.origin, own.tolist(), trials.goals, strict=True)
        ]

    def _picked(self, trials: _Trials, i: int) -> list[int]:
        """Which candidates of row i are told: likely and near ones first, each with changes that no other's are part of."""
        mine = np.flatnonzero(trials.owner == i)
        if not mine.size:
            return []
        inside = self._region.inside(self._background.domain.decode(trials.rows[mine]))
        away = self._space.gaps(trials.rows[mine], trials.origin[i]).sum(axis=1)
        out: list[int] = []
        sets: list[frozenset[int]] = []
        for k in np.lexsort((away, ~inside)).tolist():
            columns = frozenset(np.flatnonzero(trials.changed[mine[k]]).tolist())
            if columns and not any(columns >= other for other in sets):
                out.append(int(mine[k]))
                sets.append(columns)
        return out[: self._count]

    def _small_changes(self, c: _FLOAT) -> _FLOAT:
        """Rows a little way from a changed row towards real ones, of those that may only score."""
        rng = self._background.rng(c, "robust")
        start = np.broadcast_to(c, (_DRAWN, len(c)))
        partner = self._space.partners(start, rng)
        step = rng.uniform(0, _REACH, (_DRAWN, 1)) * (partner - start)
        whole = np.array([column.integer for column in self._background.domain.columns])
        numbers = start + np.where(whole, np.round(step), step)
        swapped = np.where(rng.random(start.shape) < _SWAPPED, partner, start)
        made = np.where(self._space.numeric & ~np.isnan(step), numbers, np.where(self._space.numeric, start, swapped))
        made = self._snapped(made)
        return made[held_out(made)]

    def _record(self, trials: _Trials, at: int, answer: Any, fresh: Fresh) -> Counterfactual:
        background, i = self._background, int(trials.owner[at])
        before, after = background.plain(trials.origin[i]), background.plain(trials.rows[at])
        robustness = None
        if len(fresh.rows) >= 2:
            met = trials.goals[i].met(fresh.answers)
            found = measure("agreement").fidelity(
                met, np.ones(len(met), dtype=bool), weights=fresh.weights, region="small changes to the changed row"
            )
            robustness = replace(found, measure="robustness")
        rows = background.domain.decode(trials.rows[[at]])
        return Counterfactual(
            tuple(Change(background.domain.names[j], before[j], after[j]) for j in np.flatnonzero(trials.changed[at]).tolist()),
            after,
            answer.tolist(),
            float(self._space.gaps(trials.rows[[at]], trials.origin[i]).sum()),
            float(self._region.novelty(rows)[0]),
            self._region.threshold,
            bool(self._region.inside(rows)[0]),
            robustness,
        )


def _columns(domain: Domain, wanted: Iterable[str | int], what: str) -> _BOOL:
    if isinstance(wanted, str):
        raise InvalidData(f"expected {what}= to be a list of columns, got the text {wanted!r}; write [{wanted!r}]")
    mask = np.zeros(len(domain), dtype=bool)
    for one in wanted:
        if isinstance(one, str) and one in domain.names:
            mask[domain.names.index(one)] = True
        elif isinstance(one, int | np.integer) and not isinstance(one, bool) and 0 <= one < len(domain):
            mask[one] = True
        else:
            raise InvalidData(f"{what}= names column {one!r}, which is not among {', '.join(domain.names[:5])}")
    return mask


# ---------------------------------------------------------------------- candidates and goals
@dataclass(eq=False)
class _Trials:
    """Candidates of all rows: changed rows that have the wanted answer.

    Attributes
    ----------
    origin : ndarray of shape (m, d)
        The rows explained; `owner`, of shape (n,), says whose candidate each is.
    rows, start, changed : ndarray of shape (n, d)
        The candidates, the rows they belong to, and which cells differ.
    """

    explainer: CounterfactualExplainer
    origin: _FLOAT
    goals: list[_Goal]
    owner: _INT
    rows: _FLOAT

    @property
    def start(self) -> _FLOAT:
        return self.origin[self.owner]

    @property
    def changed(self) -> _BOOL:
        return self.explainer._space.gaps(self.rows, self.start) > 0

    def ask(self, *sets: tuple[_INT, _FLOAT]) -> list[tuple[_BOOL, _FLOAT]]:
        """For each set of candidates' positions and rows to try for them: which have the wanted answer, and by what margin."""
        out = []
        for (at, _), y in zip(sets, self.explainer._background.ask([Z for _, Z in sets]), strict=True):
            met, margin = np.zeros(len(at), dtype=bool), np.zeros(len(at))
            owner = self.owner[at]
            for i in np.unique(owner):
                mine = owner == i
                met[mine], margin[mine] = self.goals[i].met(y[mine]), self.goals[i].margin(y[mine])
            out.append((met, margin))
        return out


@dataclass(frozen=True)
class _Goal:
    """The answer that is wanted.

    Attributes
    ----------
    text : str
    index : int or None
        The wanted class among probabilities, or the row's own where `other`.
    label : any
        The same, among labels.
    other : bool
        Whether any other is wanted.
    low, high : float
        Of values.
    """

    text: str
    index: int | None = None
    label: Any = None
    other: bool = False
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def of(cls, target: Target, answer: Any, wanted: Any) -> _Goal:
        """What is wanted of a row with this answer."""
        if target.output == "value":
            return cls._of_value(answer, wanted)
        classes = target.classes.tolist() if target.classes is not None else []
        if wanted is not None and wanted not in classes:
            raise InvalidData(f"expected wanted= to be one of the classes {classes[:10]}, got {wanted!r}")
        other = wanted is None
        if target.output == "class":
            label = answer.item() if other else wanted
            return cls(f"any other than {label}" if other else str(label), None, label, other)
        index = int(answer.argmax()) if other else classes.index(wanted)
        return cls(f"any other than {classes[index]}" if other else str(wanted), index, None, other)

    @classmethod
    def _of_value(cls, answer: Any, wanted: Any) -> _Goal:
        if np.ndim(answer):
            raise InvalidData(f"expected one value a row, got {np.size(answer)}; wrap the target in a function that gives one")
        if not isinstance(wanted, tuple | list) or len(wanted) != 2 or wanted[0] is wanted[1] is None:
            raise InvalidData(f"expected wanted=(low, high) for a target of values, None being no bound, got {wanted!r}")
        low = -math.inf if wanted[0] is None else float(wanted[0])
        high = math.inf if wanted[1] is None else float(wanted[1])
        if not low <= high:
            raise InvalidData(f"expected wanted=(low, high) with low <= high, got {wanted!r}")
        words = f"at least {low:g}" if high == math.inf else f"at most {high:g}" if low == -math.inf else f"{low:g} to {high:g}"
        return cls(words, low=low, high=high)

    def margin(self, answers: NDArray[Any]) -> _FLOAT:
        """By how much each of n answers is the wanted one, or where negative is not, shape (n,)."""
        if self.label is not None:
            return np.where((answers == self.label) != self.other, 1.0, -1.0)
        if self.index is None:
            return np.minimum(answers - self.low, self.high - answers)
        rest = np.delete(answers, self.index, axis=1).max(axis=1)
        return (rest - answers[:, self.index]) * (1.0 if self.other else -1.0)

    def met(self, answers: NDArray[Any]) -> _BOOL:
        """Which of n answers are the wanted one, shape (n,)."""
        margin = self.margin(answers)
        return margin >= 0 if self.index is None and self.label is None else margin > 0
