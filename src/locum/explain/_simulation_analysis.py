"""What a simulation test says: change in guessing accuracy, with intervals over readers and items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, require_whole
from locum.core.fidelity import Fidelity

__all__ = ["Reference", "Response", "SimulationChange", "SimulationRun", "shrunken"]

_FLOAT = NDArray[np.float64]
_CHUNK = 500
_SPREADS = np.concatenate([[0.0], np.geomspace(0.03, 3.0, 24)])
_STEPS = 12
_NOTE_MACHINE = "These readers are machine students. A machine student is not a person."
_NOTE_PEOPLE = "These readers are people."


class Response(NamedTuple):
    """One item of one reader, guessed before and after.

    Parameters
    ----------
    method : str
        What was shown in between.
    student : str
        The kind of reader.
    user : str
        The reader; the same name under two methods is the same reader.
    item : str
    stratum : str
        TP, FP, TN or FN: whether the model is right about the item, and which class it answers.
    pre, post : float
        1 for a right guess of the model's answer, 0 for a wrong one, NaN where none was given.
    rating : float, default=nan
        Of what was shown; NaN where there is none.
    """

    method: str
    student: str
    user: str
    item: str
    stratum: str
    pre: float
    post: float
    rating: float = float("nan")


class Reference(NamedTuple):
    """Accuracy of a guess that needs no explanation: a floor, or a ceiling.

    Parameters
    ----------
    name : str
    accuracy : float
    n : int
        Guesses.
    """

    name: str
    accuracy: float
    n: int


@dataclass(frozen=True)
class SimulationChange:
    """What one method did to the guesses of one kind of reader.

    Parameters
    ----------
    method, student : str
    pre, post : float
        Accuracy before (shrunken) and after.
    change : Fidelity
        After less before.
    n_items, n_students : int
    words : float
        Mean number of words of an explanation.
    """

    method: str
    student: str
    pre: float
    post: float
    change: Fidelity
    n_items: int
    n_students: int
    words: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"change": self.change.to_dict()}

    def text(self) -> str:
        """One line."""
        c = self.change
        return (
            f"{self.method} ({self.student}): {self.pre:.3f} -> {self.post:.3f}, change {c.value:+.3f} "
            f"[{c.lower:+.3f}, {c.upper:+.3f}] at {100 * c.level:.10g} %, {self.n_items} items, {self.n_students} readers, "
            f"{self.words:.0f} words shown"
        )

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True, eq=False)
class SimulationRun:
    """All guesses of a test.

    Parameters
    ----------
    responses : tuple of Response
    people : bool
    kind : {"forward", "counterfactual"}
    references : tuple of Reference, default=()
    words : mapping of str to float, default=empty
        Mean number of words of an explanation, by method.
    """

    responses: tuple[Response, ...]
    people: bool
    kind: str
    references: tuple[Reference, ...] = ()
    words: Mapping[str, float] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What kind of readers these are."""
        return _NOTE_PEOPLE if self.people else _NOTE_MACHINE

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order in which they came."""
        return tuple(dict.fromkeys(one.method for one in self.responses))

    @property
    def students(self) -> tuple[str, ...]:
        """Kinds of readers, in the order in which they came."""
        return tuple(dict.fromkeys(one.student for one in self.responses))

    def change(self, *, n_boot: int = 10_000, level: float = 0.95, random_state: int = 0) -> list[SimulationChange]:
        """What each method did to the guesses of each kind of reader.

        Readers are resampled among those that sat the same methods, items as blocks within TP, FP, TN and FN, so that the
        balance of the test is kept. The four parts count alike. Accuracy before is shrunken towards that of all methods by a
        logistic regression with a random intercept for each (see `shrunken`), anew in each resample.

        Parameters
        ----------
        n_boot : int, default=10_000
            Resamples.
        level : float, default=0.95
        random_state : int, default=0

        Returns
        -------
        list of SimulationChange
        """
        out = []
        for student in self.students:
            data = _Answers(self._of(student))
            pre, post = data.resampled(n_boot, level, random_state)
            for m, method in enumerate(data.methods):
                change = data.fidelity("change in accuracy", post[:, m] - pre[:, m], m, level)
                items, readers = data.size(m)
                before, after, words = float(pre[0, m]), float(post[0, m]), self.words.get(method, 0.0)
                out.append(SimulationChange(method, student, before, after, change, items, readers, words))
        return out

    def contrast(
        self, first: str, second: str, student: str, *, n_boot: int = 10_000, level: float = 0.95, random_state: int = 0
    ) -> Fidelity:
        """How much higher accuracy after one method is than after another, for one kind of reader.

        Parameters
        ----------
        first, second, student : str
        n_boot : int, default=10_000
        level : float, default=0.95
        random_state : int, default=0
        """
        data = _Answers(self._of(student))
        for name in (first, second):
            if name not in data.methods:
                raise InvalidData(f"there is no method {name!r}; expected one of {', '.join(data.methods)}")
        a, b = data.methods.index(first), data.methods.index(second)
        _, post = data.resampled(n_boot, level, random_state)
        return data.fidelity(f"accuracy after {first} less after {second}", post[:, a] - post[:, b], a, level)

    def rating_effect(
        self,
        student: str,
        *,
        at: float = 4.0,
        step: float = 1.0,
        n_boot: int = 2000,
        level: float = 0.95,
        random_state: int = 0,
    ) -> Fidelity:
        """What a higher rating of an explanation goes with: the difference in the chance of a right guess after it.

        From a logistic regression of right guesses on ratings, over all methods of one kind of reader.

        Parameters
        ----------
        student : str
        at, step : float, default=4.0 and 1.0
            The chance at ``at + step`` less that at `at`.
        n_boot : int, default=2000
        level : float, default=0.95
        random_state : int, default=0
        """
        rows = [one for one in self._of(student) if np.isfinite(one.rating) and np.isfinite(one.post)]
        if len({one.rating for one in rows}) < 2 or len({one.post for one in rows}) < 2:
            raise InvalidData(f"expected ratings and guesses that differ among {len(rows)} rated guesses of {student}")
        data = _Answers(rows)
        x, y = (np.array([getattr(one, name) for one in rows]) for name in ("rating", "post"))
        weights = np.concatenate([W[:, data.user] * V[:, data.item] for W, V in data.draws(n_boot, random_state)])
        scale = float(x.std())
        a, b = _logistic(weights, (x - at) / scale, y)
        effect = _expit(a + b * step / scale) - _expit(a)
        return data.fidelity(f"chance of a right guess, rating {at + step:g} less {at:g}", effect, None, level)

    def to_dict(self, *, n_boot: int = 10_000, random_state: int = 0) -> dict[str, Any]:
        """What the guesses say, as JSON-ready values: without the guesses themselves.

        Parameters
        ----------
        n_boot : int, default=10_000
        random_state : int, default=0
        """
        return {
            "kind": self.kind,
            "people": self.people,
            "note": self.note,
            "changes": [one.to_dict() for one in self.change(n_boot=n_boot, random_state=random_state)],
            "references": [one._asdict() for one in self.references],
        }

    def text(self, *, n_boot: int = 10_000, random_state: int = 0) -> str:
        """All of it in words.

        Parameters
        ----------
        n_boot : int, default=10_000
        random_state : int, default=0
        """
        lines = [f"{self.kind} test. {self.note}"]
        lines += [str(one) for one in self.change(n_boot=n_boot, random_state=random_state)]
        lines += [f"{one.name}: {one.accuracy:.3f} of {one.n} guesses" for one in self.references]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def _of(self, student: str) -> list[Response]:
        rows = [one for one in self.responses if one.student == student]
        if not rows:
            raise InvalidData(f"there is no reader {student!r}; expected one of {', '.join(self.students) or 'none'}")
        return rows


# ---------------------------------------------------------------------- resampling
class _Answers:
    """Answers of one kind of reader as arrays: methods by readers by items."""

    def __init__(self, rows: Sequence[Response]) -> None:
        self.rows = rows
        self.methods = list(dict.fromkeys(one.method for one in rows))
        users, items = (sorted({getattr(one, name) for one in rows}) for name in ("user", "item"))
        strata = {one.item: one.stratum for one in rows}
        self.user = np.array([users.index(one.user) for one in rows])
        place = {item: i for i, item in enumerate(items)}
        self.item = np.array([place[one.item] for one in rows])
        method = np.array([self.methods.index(one.method) for one in rows])
        self._pre, self._post = (np.full((len(self.methods), len(users), len(items)), np.nan) for _ in range(2))
        at = (method, self.user, self.item)
        self._pre[at], self._post[at] = [one.pre for one in rows], [one.post for one in rows]
        sat = [frozenset(self.methods[m] for m in np.unique(method[self.user == u])) for u in range(len(users))]
        self._user_groups = [np.array([u for u in range(len(users)) if sat[u] == one]) for one in sorted(set(sat), key=sorted)]
        self._item_groups = [
            np.array([i for i, item in enumerate(items) if strata[item] == one]) for one in sorted(set(strata.values()))
        ]

    def size(self, m: int) -> tuple[int, int]:
        """Items and readers of a method."""
        known = ~np.isnan(self._post[m])
        return int(known.any(axis=0).sum()), int(known.any(axis=1).sum())

    def draws(self, n_boot: int, random_state: int) -> Any:
        """How often readers and items are drawn, in chunks; the first line is the sample itself."""
        require_whole(200, n_boot=n_boot)
        rng = np.random.default_rng(random_state)
        users, items = self._pre.shape[1:]
        yield np.ones((1, users)), np.ones((1, items))
        for start in range(0, n_boot, _CHUNK):
            size = min(_CHUNK, n_boot - start)
            W, V = np.zeros((size, users)), np.zeros((size, items))
            for group, out in [(g, W) for g in self._user_groups] + [(g, V) for g in self._item_groups]:
                out[:, group] = rng.multinomial(len(group), np.full(len(group), 1 / len(group)), size=size)
            yield W, V

    def resampled(self, n_boot: int, level: float, random_state: int) -> tuple[_FLOAT, _FLOAT]:
        """Accuracy before (shrunken) and after, shape (1 + n_boot, methods); the first line is the sample itself."""
        if not 0 < level < 1:
            raise InvalidData(f"expected a level between 0 and 1 (such as 0.95), got {level!r}")
        pre, post, count = [], [], []
        for W, V in self.draws(n_boot, random_state):
            before, n = self._accuracy(self._pre, W, V)
            pre.append(before)
            count.append(n)
            post.append(self._accuracy(self._post, W, V)[0])
        return shrunken(np.concatenate(pre), np.concatenate(count)), np.concatenate(post)

    def _accuracy(self, table: _FLOAT, W: _FLOAT, V: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
        """Mean of the accuracies on the four parts and number of guesses, each of shape (draws, methods)."""
        known, right = ~np.isnan(table), np.nan_to_num(table)
        parts, total = [], np.zeros((len(W), len(table)))
        for group in self._item_groups:
            hits = np.stack([((W @ one[:, group]) * V[:, group]).sum(axis=1) for one in right], axis=1)
            mass = np.stack([((W @ one[:, group]) * V[:, group]).sum(axis=1) for one in known.astype(float)], axis=1)
            parts.append(np.where(mass > 0, hits / np.maximum(mass, 1), np.nan))
            total += mass
        some = ~np.isnan(parts)
        return np.nansum(parts, axis=0) / np.maximum(some.sum(axis=0), 1), total

    def fidelity(self, measure: str, values: _FLOAT, m: int | None, level: float) -> Fidelity:
        """The first of the values, with percentiles of the others."""
        low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
        value = float(values[0])
        n = len(self.rows) if m is None else int((~np.isnan(self._post[m])).sum())
        readers = self._pre.shape[1] if m is None else self.size(m)[1]
        return Fidelity(
            measure, value, min(float(low), value), max(float(high), value), level, n, how="guesses",
            method="block bootstrap over readers and items", groups=readers if readers > 1 else None,
        )  # fmt: skip


# ---------------------------------------------------------------------- regressions
def shrunken(shares: _FLOAT, counts: _FLOAT) -> _FLOAT:
    """Shares of successes of several groups, drawn towards one another.

    The logistic regression with a random intercept for each group, ``logit p_g = mu + u_g`` with u normal: penalised
    likelihood for mu and u, the spread of u by Laplace's approximation to the likelihood, as lme4 does with ``nAGQ=0``. It is
    done for all resamples at once, which general software for mixed models cannot.

    Parameters
    ----------
    shares, counts : ndarray of shape (B, G)
        Share of successes in each group, and number of trials.

    Returns
    -------
    ndarray of shape (B, G)
    """
    if shares.shape[1] == 1:
        return shares
    best = np.full(len(shares), -np.inf)
    out = np.empty_like(shares)
    for spread in _SPREADS:
        p, likelihood = _at_spread(shares, np.maximum(counts, 1e-9), float(spread))
        better = likelihood > best + 1e-9
        out[better], best[better] = p[better], likelihood[better]
    return out


def _at_spread(shares: _FLOAT, counts: _FLOAT, spread: float) -> tuple[_FLOAT, _FLOAT]:
    pooled = np.clip((shares * counts).sum(axis=1, keepdims=True) / counts.sum(axis=1, keepdims=True), 1e-6, 1 - 1e-6)
    mu, u = np.log(pooled / (1 - pooled)), np.zeros_like(shares)
    if spread > 0:
        for _ in range(_STEPS):  # Newton's steps for all u given mu, and for mu along with them
            p = _expit(mu + u)
            w = counts * p * (1 - p)
            inner = w + 1 / spread**2
            slope = counts * (shares - p)
            gain = slope - u / spread**2
            # u is eliminated, since each u_g meets only itself and mu.
            top = (slope - w * gain / inner).sum(axis=1, keepdims=True)
            step = np.clip(top / (w - w**2 / inner).sum(axis=1, keepdims=True), -2, 2)
            mu = mu + step
            u = u + np.clip((gain - w * step) / inner, -2, 2)
    p = np.clip(_expit(mu + u), 1e-12, 1 - 1e-12)
    likelihood = (counts * (shares * np.log(p) + (1 - shares) * np.log1p(-p))).sum(axis=1)
    if spread > 0:
        w = counts * p * (1 - p)
        likelihood -= (u**2 / (2 * spread**2) + 0.5 * np.log1p(spread**2 * w)).sum(axis=1)
    return p, likelihood


def _logistic(weights: _FLOAT, x: _FLOAT, y: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    """Intercepts and slopes of weighted logistic regressions, one a line of the weights of shape (B, n).

    A ridge of a thousandth of an observation keeps them finite where a resample is separable.
    """
    a, b = np.zeros((2, len(weights)))
    for _ in range(30):
        p = _expit(a[:, None] + b[:, None] * x)
        w, gap = weights * p * (1 - p), weights * (y - p)
        g = np.stack([gap.sum(axis=1) - 1e-3 * a, gap @ x - 1e-3 * b])
        haa, hab, hbb = w.sum(axis=1) + 1e-3, w @ x, w @ x**2 + 1e-3
        det = haa * hbb - hab**2
        steps = np.clip(np.stack([hbb * g[0] - hab * g[1], haa * g[1] - hab * g[0]]) / det, -3, 3)
        a, b = a + steps[0], b + steps[1]
        if np.abs(steps).max() < 1e-8:
            break
    return a, b


def _expit(z: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(z, -40, 40)))
