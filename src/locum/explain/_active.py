"""Which rows to ask a black box about, so that a readable stand-in learns most from few answers.

A committee of random trees is fitted to the answers so far. New questions go where it disagrees with itself, and to the
rules of the stand-in that hold many rows but few answers. At the end the rows that were not asked are answered by whichever
teacher does best in cross-validation on the rows that were: a forest or a linear model. So a stand-in with few rules learns
from the whole source, not from the few rows that were paid for. What that is worth is measured on fresh rows like all else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors
from sklearn.tree import DecisionTreeClassifier

from locum.core.domain import Domain
from locum.core.program import Program
from locum.core.rivals import Standardised, linear_program
from locum.core.surrogate import AskTell
from locum.explain._bins import Bins
from locum.explain._neighbourhood import content

__all__ = ["ActiveQueries"]

_FLOAT = NDArray[np.float64]
_ROUNDS = 6
_MOST_CANDIDATES = 12_000
_MOST_ASKED = 50_000  # a model of a few dozen statements learns nothing from more
_TREES = 100
_MOST_TRIED = 500  # columns a split; half of them where there are fewer than twice as many
_FIRST_SHARE = 1 / 3  # asked at random, so that the committee starts from the source as it is
_THIN_SHARE = 1 / 5  # of each later round goes to rules with few answers
_FLOOR = 0.02  # every row keeps a chance
_INVENTED_WEIGHT = 0.5  # of all invented rows together, against the real ones
_NEIGHBOURS = 10
_FOLDS = 5
_FEWEST, _JUDGED = 30, 20  # answers to judge a way of teaching at all, and those held out to judge it by


@dataclass(frozen=True)
class _Lessons:
    """What a teacher says of every candidate (n, k): from all answers, and from all but each part of them."""

    answers: _FLOAT
    parts: tuple[Any, ...]
    held_out: tuple[_FLOAT, ...]


class ActiveQueries(AskTell):
    """Query by committee over the rows of a source and invented rows near them.

    Invented rows lie on the data manifold: a real row takes each value, with probability one half, from one of its ten
    nearest neighbours. Real rows are asked first wherever the two are equally informative, and count double in training.

    Parameters
    ----------
    model : estimator
        The readable model that is to be fitted, not fitted itself; its rules say where answers are thin.
    domain : Domain
    pool : ndarray of shape (m, d)
        Encoded rows of the source.
    calls : int
        Most rows to ask; never more than 50,000. From 12,000 on they are drawn at random, and none is invented: so many
        leave little to choose.
    allowed : callable or None
        Which invented rows (m, d) may be asked, shape (m,); None where only rows of the pool may.
    random_state : int

    Notes
    -----
    Cost: eleven fits of 100 random trees to the answers, and seven fits of the model, each on at most 12,000 rows; up to six
    more of those where there are fewer than 100 answers.

    References
    ----------
    Seung, Opper and Sompolinsky, *Query by committee*, COLT 1992. Craven and Shavlik, *Extracting tree-structured
    representations of trained networks*, NeurIPS 1996 (queries in thin leaves).
    """

    def __init__(
        self,
        model: Any,
        domain: Domain,
        pool: _FLOAT,
        calls: int,
        *,
        allowed: Callable[[_FLOAT], NDArray[np.bool_]] | None,
        random_state: int,
    ) -> None:
        self.model = model
        self.domain = domain
        self.calls = min(calls, _MOST_ASKED)
        self.random_state = random_state
        self._rng = np.random.default_rng(random_state)
        self._lessons: dict[Any, _Lessons] = {}  # by rows and classes: a frontier asks for the same again and again
        real = _distinct(pool)
        most = max(_MOST_CANDIDATES, self.calls)
        if len(real) > most:
            real = real[np.sort(self._rng.choice(len(real), most, replace=False))]
        self._table = Standardised(domain, real)
        made = real[:0]
        if allowed is not None and self.calls < _MOST_CANDIDATES:
            made = self._invent(real, max(self.calls, len(real) // 2))
            made = made[allowed(made)]
        self.candidates = np.vstack([real, made])
        self.weights = np.ones(len(self.candidates))
        if len(made):
            self.weights[len(real) :] = min(1.0, _INVENTED_WEIGHT * len(real) / len(made))
        self._real = len(real)
        self._asked = np.zeros(len(self.candidates), dtype=bool)
        self._told: dict[int, Any] = {}
        self._round = 0
        self._pending: NDArray[np.intp] = np.empty(0, dtype=np.intp)

    # ------------------------------------------------------------------ ask and tell
    def ask(self) -> _FLOAT:
        """Encoded rows to ask next, shape (m, d)."""
        left = min(self.calls - int(self._asked.sum()), int((~self._asked).sum()))
        if left <= 0 or (self._round and not self._told):
            return self.candidates[:0]
        if self._round == 0:
            all_of_them = left == len(self.candidates)
            wanted = left if all_of_them else max(min(left, 20), int(np.ceil(self.calls * _FIRST_SHARE)))
            picked = self._rng.permutation(self._real)[: min(wanted, left)]
        else:
            picked = self._choose(max(1, min(left, int(np.ceil(self.calls * (1 - _FIRST_SHARE) / (_ROUNDS - 1))))))
        self._round += 1
        self._asked[picked] = True
        self._pending = picked
        return self.candidates[picked]

    def tell(self, Z: _FLOAT, y: NDArray[Any]) -> None:
        """Take the answers to the first ``len(Z)`` rows that `ask` gave last."""
        self._told.update(zip(self._pending[: len(Z)].tolist(), np.asarray(y), strict=True))

    def training(self, model: Any) -> tuple[_FLOAT, NDArray[Any], _FLOAT]:
        """What to fit a model on: every candidate, answered by the black box or else by the best teacher.

        A model that does better on held-out answers when fitted on the black box's answers alone gets those alone.
        """
        rows, Y, classes = self._answered(model)
        if len(rows) == len(self.candidates):
            return self.candidates[rows], self._plain(Y, classes), self.weights[rows]
        lessons, alone = self._taught(rows, Y, classes), self._alone(rows)
        if self._alone_is_better(model, rows, Y, classes, lessons, alone):
            return self.candidates[rows], self._plain(Y, classes), alone
        return self.candidates, self._plain(lessons.answers, classes), self.weights

    # ------------------------------------------------------------------ choosing
    def _choose(self, m: int) -> NDArray[np.intp]:
        rows, Y, classes = self._answered(self.model)
        open_ = np.flatnonzero(~self._asked)
        doubt = self._disagreement(rows, Y, classes, open_)
        score = (doubt + _FLOOR * max(doubt.max(), 1e-12)) * self.weights[open_]
        thin = min(int(m * _THIN_SHARE), len(open_))
        first = self._draw(open_, self._thinness(rows, Y, classes, open_), thin)
        rest = ~np.isin(open_, first)
        return np.concatenate([first, self._draw(open_[rest], score[rest], m - len(first))])

    def _draw(self, rows: NDArray[np.intp], score: _FLOAT, m: int) -> NDArray[np.intp]:
        """`m` different rows with chances by `score` (Gumbel top-m)."""
        if m <= 0 or not len(rows) or score.max() <= 0:
            return rows[:0]
        keys = np.log(np.maximum(score, 1e-300)) + self._rng.gumbel(size=len(rows))
        return rows[np.argsort(-keys, kind="stable")[:m]]

    def _disagreement(self, rows: NDArray[np.intp], Y: _FLOAT, classes: Any, open_: NDArray[np.intp]) -> _FLOAT:
        codes = self._bins(rows, Y).codes(self.candidates).astype(np.float32)
        forest = self._forest(codes[rows], Y)
        votes = np.stack([tree.predict(codes[open_]).reshape(len(open_), -1) for tree in forest.estimators_])
        if classes is None:
            return votes.std(axis=0).sum(axis=1)
        named = votes.argmax(axis=2)
        shares = np.stack([(named == k).mean(axis=0) for k in range(Y.shape[1])])
        return 1.0 - shares.max(axis=0)

    def _thinness(self, rows: NDArray[np.intp], Y: _FLOAT, classes: Any, open_: NDArray[np.intp]) -> _FLOAT:
        """Weight of the source for each answer, in the rule that holds a row; zero for models without rules."""
        model = _blank(self.model, classes)
        if classes is not None and len(np.unique(Y.argmax(axis=1))) < 2:
            return np.zeros(len(open_))
        model.fit(self.domain.decode(self.candidates[rows]), self._plain(Y, classes))
        program: Program = model.program_
        if program.body != "rules":
            return np.zeros(len(open_))
        fired = program.fired(self.candidates)
        mass = np.bincount(fired, self.weights, len(program.terms) + 1)
        answers = np.bincount(fired[rows], minlength=len(program.terms) + 1)
        return (self.weights * (mass / (answers + 1.0))[fired])[open_]

    # ------------------------------------------------------------------ teaching
    def _taught(self, rows: NDArray[np.intp], Y: _FLOAT, classes: Any) -> _Lessons:
        """What the teacher that does best in cross-validation makes of the answers."""
        key = (rows.tobytes(), None if classes is None else tuple(classes.tolist()))
        if key not in self._lessons:
            folds = KFold(min(_FOLDS, len(rows)), shuffle=True, random_state=self.random_state)
            parts = tuple(folds.split(rows))
            said = [[self._completed(teach, rows[train], Y[train], classes) for train, _ in parts] for teach in _TEACHERS]
            losses = [
                sum(_loss(Y[test], one[rows[test]], classes) for one, (_, test) in zip(ones, parts, strict=True))
                for ones in said
            ]
            best = int(np.argmin(losses))
            everything = self._completed(_TEACHERS[best], rows, Y, classes)
            self._lessons[key] = _Lessons(everything, parts, tuple(said[best]))
        return self._lessons[key]

    def _completed(self, teach: Any, rows: NDArray[np.intp], Y: _FLOAT, classes: Any) -> _FLOAT:
        """Answers for every candidate, shape (n, k): told ones as told, others as a teacher says."""
        out = teach(self, rows, Y, classes)
        if classes is not None:
            out = np.maximum(out, 0.0)
            out /= out.sum(axis=1, keepdims=True)
        out[rows] = Y
        return out

    def _taught_by_forest(self, rows: NDArray[np.intp], Y: _FLOAT, classes: Any) -> _FLOAT:
        codes = self._bins(rows, Y).codes(self.candidates).astype(np.float32)
        return np.asarray(self._forest(codes[rows], Y).predict(codes)).reshape(len(codes), -1)

    def _taught_by_line(self, rows: NDArray[np.intp], Y: _FLOAT, classes: Any) -> _FLOAT:
        line = linear_program(self.domain, self.candidates[rows], Y, np.ones(len(rows)), classes)
        return line.values(self.candidates)

    def _alone(self, rows: NDArray[np.intp]) -> _FLOAT:
        """Weights that make the rows asked stand for the source: one over the estimated chance of being asked."""
        asked = np.zeros(len(self.candidates), dtype=int)
        asked[rows] = 1
        table = self._table(self.candidates)
        tree = DecisionTreeClassifier(max_leaf_nodes=16, min_samples_leaf=20, random_state=self.random_state)
        chance = tree.fit(table, asked, sample_weight=self.weights).predict_proba(table[rows])[:, -1]
        return self.weights[rows] / np.clip(chance, 0.05, 1.0)

    def _alone_is_better(
        self, model: Any, rows: NDArray[np.intp], Y: _FLOAT, classes: Any, lessons: _Lessons, alone: _FLOAT
    ) -> bool:
        """Whether the black box's answers alone teach `model` better, judged on some of them held out."""
        if len(rows) < _FEWEST:
            return False
        losses = np.zeros(2)
        everyone = np.arange(len(self.candidates))
        enough = math.ceil(_JUDGED * len(lessons.parts) / len(rows))
        for (train, test), answers in list(zip(lessons.parts, lessons.held_out, strict=True))[:enough]:
            if classes is not None and len(np.unique(Y[train].argmax(axis=1))) < 2:
                return False
            others = np.setdiff1d(everyone, rows[test])
            ways = ((others, answers[others], self.weights[others]), (rows[train], Y[train], alone[train]))
            for way, (picked, taught, weights) in enumerate(ways):
                given = self.domain.decode(self.candidates[picked]), self._plain(taught, classes), weights
                said = _blank(model, classes).fit(*given).program_.values(self.candidates[rows[test]])
                losses[way] += _loss(Y[test], said, classes, alone[test])
        return bool(losses[1] < losses[0])

    # ------------------------------------------------------------------ parts
    def _answered(self, model: Any) -> tuple[NDArray[np.intp], _FLOAT, Any]:
        """Rows with an answer, the answers as numbers (m, k), and the classes where they are labels or probabilities."""
        rows = np.fromiter(self._told, dtype=np.intp)
        y = np.asarray([self._told[row] for row in rows.tolist()])
        if not is_classifier(model):
            return rows, y.astype(float).reshape(len(y), -1), None
        if y.ndim == 2:
            return rows, y.astype(float), np.arange(y.shape[1]) if model.classes is None else np.asarray(model.classes)
        known = np.unique(y)
        if model.classes is not None:  # a class may come up that was not known when the asking began
            given = np.asarray(model.classes)
            known = np.concatenate([given, np.setdiff1d(known, given)])
        return rows, (y[:, None] == known).astype(float), known

    def _plain(self, Y: _FLOAT, classes: Any) -> NDArray[Any]:
        """Answers as the model takes them: labels where they are sure, probabilities, or values."""
        if classes is None:
            return Y[:, 0] if Y.shape[1] == 1 else Y
        sure = ((Y == 0) | (Y == 1)).all()
        return np.asarray(classes)[Y.argmax(axis=1)] if sure else Y

    def _forest(self, codes: NDArray[Any], Y: _FLOAT) -> ExtraTreesRegressor:
        tried = min(0.5, _MOST_TRIED / codes.shape[1])
        model = ExtraTreesRegressor(_TREES, max_features=tried, random_state=self.random_state)
        return model.fit(codes, Y[:, 0] if Y.shape[1] == 1 else Y)

    def _bins(self, rows: NDArray[np.intp], Y: _FLOAT) -> Bins:
        return Bins.of(self.domain.columns, self.candidates[rows], Y, np.ones(len(rows)))

    def _invent(self, real: _FLOAT, m: int) -> _FLOAT:
        table = self._table(real)
        sample = self._rng.choice(len(real), min(len(real), 4000), replace=False)
        base = sample[self._rng.integers(0, len(sample), m)]
        near = NearestNeighbors(n_neighbors=min(_NEIGHBOURS + 1, len(sample))).fit(table[sample])
        neighbours = sample[near.kneighbors(table[sample], return_distance=False)]
        position = np.searchsorted(np.sort(sample), base)
        lookup = neighbours[np.argsort(sample)][position]
        donor = lookup[np.arange(m), self._rng.integers(0, lookup.shape[1], m)]
        take = self._rng.random((m, real.shape[1])) < 0.5
        made = _distinct(np.where(take, real[donor], real[base]))
        known = {row.tobytes() for row in real}
        return made[[row.tobytes() not in known for row in made]]


_TEACHERS = (ActiveQueries._taught_by_forest, ActiveQueries._taught_by_line)


def _distinct(Z: _FLOAT) -> _FLOAT:
    """Each row once, in an order of their own; missing values are equal to each other, and so are 0 and -0."""
    return Z[np.unique(content(Z), return_index=True)[1]] + 0.0


def _blank(model: Any, classes: Any) -> Any:
    return clone(model) if classes is None else clone(model).set_params(classes=classes)


def _loss(Y: _FLOAT, said: _FLOAT, classes: Any, weights: Any = None) -> float:
    squared = ((Y - said) ** 2).sum(axis=1)
    if classes is not None:
        squared = (Y.argmax(axis=1) != said.argmax(axis=1)) + 0.1 * squared
    return float(np.average(squared, weights=weights))
