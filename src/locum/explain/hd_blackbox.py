"""Rules over the few columns that matter, for a black box of thousands of columns.

The black box is probed from inside where it lets us (attention, gradients) and perturbed from outside; the columns are
ranked by both; a tree, a forest or boosted trees on the best k of them imitate it. How many columns are enough, how faithful
the imitation is, and whether the black box itself needs those columns and no others, is all measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from locum.core.domain import Domain
from locum.core.errors import InvalidData, NotFresh, require_whole
from locum.core.fidelity import Fidelity
from locum.core.program import Program
from locum.core.region import Region
from locum.core.rivals import rivals
from locum.core.surrogate import StandIn
from locum.core.target import Target
from locum.explain import _hd_ranking as ranking
from locum.explain import _hd_standin as standin
from locum.explain._hd_estimators import ConvAutoencoder, DenseAutoencoder, SANClassifier
from locum.explain._hd_faithfulness import Faithfulness, faithfulness
from locum.explain._hd_fidelity import HighDimFidelity, compare, defined
from locum.explain._hd_local import LocalExplanation, RuleCounterfactual, Tree, explained_locally
from locum.explain._hd_ranking import Ranking
from locum.explain._hd_rules import FoundRule, RuleBook, rule_book
from locum.explain._neighbourhood import Background
from locum.explain.tree import TreeClassifier

__all__ = [
    "ConvAutoencoder",
    "DenseAutoencoder",
    "Faithfulness",
    "FoundRule",
    "HighDimExplainer",
    "HighDimFidelity",
    "LocalExplanation",
    "Ranking",
    "RuleBook",
    "RuleCounterfactual",
    "SANClassifier",
]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_PERTURB = ("permutation", "baseline", None)
_IMITATE = ("probability", "label")


class HighDimExplainer(BaseEstimator):
    r"""Rules, rankings and checked explanations that stand in for a classifier of very many columns.

    Columns are scored from inside the black box (attention, integrated gradients) and from outside: the
    sensitivity :math:`S_j = \operatorname{mean}_i |f(x_i)_c - f(x_i \text{ with } x_{ij} \text{ replaced})_c|`, c the class
    answered, where columns that go together are replaced together. The mean of their ranks orders the columns. On
    cross-validated rows, which had no say in the ranking they are tested with, the smallest k is chosen whose imitation is
    within one standard error of the best.

    Parameters
    ----------
    target : Target
        Of probabilities or classes.
    model : object or None, default=None
        The black box itself, for probes from inside: a torch module, a `SANClassifier`, or a pipeline of autoencoders that
        ends in one. Attention on a code is carried to the columns through the derivatives of the code.
    probes : "auto" or sequence of str, default="auto"
        Of "attention" (global), "instance_attention" and "ig" (integrated gradients). Where "auto", those the model allows but
        the first, which with thousands of columns is nearly flat.
    perturb : {"permutation", "baseline", None}, default="permutation"
        What takes the place of a cell: that of another row, or the column's median; None does not perturb.
    n_repeats : int, default=5
    group_corr : float or None, default=0.9
        Columns whose absolute correlation with a leading one is at least this are replaced together; each alone where None,
        and then a column with a copy seems to matter nothing.
    rank_by : str, default="fused"
        One score ("attention", "instance_attention", "ig", "sensitivity"), or "fused": the mean of their ranks.
    k : int or "auto", default="auto"
        Columns of the imitation.
    ks : sequence of int, default=(10, 25, 50, 100, 200, 500)
        What "auto" chooses from; those beyond the number of columns are left out.
    surrogate : {"tree", "forest", "xgb"} or estimator, default="tree"
        What imitates. There is a tree in any case, for rules.
    imitate : {"probability", "label"}, default="probability"
    max_queries : int, default=40_000
        Most rows asked for perturbing. Where it does not suffice for all columns, the most promising ones are perturbed: by
        their best rank among the probes and the correlation with the answers.
    folds : int, default=5
    random_state : int, default=0

    Attributes
    ----------
    ranking_ : Ranking
    k_ : int
    columns_ : ndarray of shape (k,)
        Positions of the columns chosen.
    choices_ : tuple of KChoice
        Cross-validated R2 for each k.
    program_ : Program
        The tree on those columns.
    classes_ : ndarray
    domain_ : Domain
    price_ : dict
        Rows, seconds and money that the fit took.

    Raises
    ------
    InvalidData
        Settings that cannot be used; `fit` names more.

    Notes
    -----
    Cost: the rows of the fit and at most about `max_queries` more, in batches. The ledger keeps each row asked, some 15 bytes a
    cell; where that is too much, lower `max_queries`. 2,500 rows of 520 columns take about six seconds on one core.

    **Departures**: rows are replaced in groups around a leader, so that no chain of likenesses joins what is not alike; which
    columns are perturbed, where not all can be, is decided on all rows of the fit; contributions to a rule are Shapley values
    of its conditions; a counterfactual takes values that occur, and where the least change into another rule does not move the
    black box, cells of real rows: first in the tree's columns, then in up to eight times as many by rank.

    References
    ----------
    Karim, Shajalal, Grass, Doehmen, Chala, Boden, Beecks and Decker, *Interpreting Black-box Machine Learning Models for High
    Dimensional Datasets*, arXiv 2208.13405. Comprehensiveness and sufficiency: DeYoung et al., arXiv 1911.03429. Integrated
    gradients: Sundararajan, Taly and Yan, arXiv 1703.01365.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(600, 40))
    >>> def black_box(X):
    ...     p = 1 / (1 + np.exp(-4 * (X[:, 3] + X[:, 17])))
    ...     return np.column_stack([1 - p, p])
    >>> target = Target(black_box, name="wide", output="probability")
    >>> hd = HighDimExplainer(target, ks=(2, 10)).fit(X[:400])
    >>> hd.k_, sorted(hd.ranking_.top(2))
    (2, ['x17', 'x3'])
    >>> hd.fidelity(X[400:]).r2.lower > 0.7
    True
    """

    papers = ("hd-blackbox",)

    def __init__(
        self,
        target: Target,
        *,
        model: Any = None,
        probes: str | Sequence[str] = "auto",
        perturb: str | None = "permutation",
        n_repeats: int = 5,
        group_corr: float | None = 0.9,
        rank_by: str = "fused",
        k: int | str = "auto",
        ks: Sequence[int] = (10, 25, 50, 100, 200, 500),
        surrogate: Any = "tree",
        imitate: str = "probability",
        max_queries: int = 40_000,
        folds: int = 5,
        random_state: int = 0,
    ) -> None:
        self.target = target
        self.model = model
        self.probes = probes
        self.perturb = perturb
        self.n_repeats = n_repeats
        self.group_corr = group_corr
        self.rank_by = rank_by
        self.k = k
        self.ks = ks
        self.surrogate = surrogate
        self.imitate = imitate
        self.max_queries = max_queries
        self.folds = folds
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(self, X: Any, y: Any = None, *, groups: Any = None) -> Self:
        """Rank the columns, choose how many are enough, and imitate the black box on them.

        Parameters
        ----------
        X : rows of shape (n, d), as the target takes them
            Of numbers.
        y : array of shape (n,) or None, default=None
            True labels; only the precision of rules is told against them.
        groups : array of shape (n,) or None, default=None
            Rows of one group (one patient, one phone) are left out together when k is chosen.

        Raises
        ------
        InvalidData
            Columns that hold categories or missing values; a k beyond the number of columns; a probe that the model does not
            allow; a black box that answers with values, or one class only on all rows.
        """
        self._check_settings()
        self.domain_, Z = self._read_first(X)
        ks = self._ks(Z.shape[1])
        kind, probes = standin.family(self.surrogate, self.random_state), self._probes()
        left_out = standin.folds(len(Z), None if groups is None else np.asarray(groups), self.folds, self.random_state)
        asked = self.target.within(None)  # with an account of its own, for the price
        self._whole = Background(asked, self.domain_, Z, self.random_state)
        self._truth = None if y is None else np.asarray(y)
        if self._truth is not None and self._truth.shape != (len(Z),):
            raise InvalidData(f"expected a label for each of the {len(Z)} rows, got shape {self._truth.shape}")
        self._P = self._first_answers(Z)
        self._rank(Z, probes)
        self.choices_ = standin.chosen(
            kind, self._domain, self._order, Z, self._P, self.classes_, ks, left_out, self.random_state
        )
        choice = standin.smallest_within_one_error(self.choices_)
        self.k_, self.columns_ = choice.k, self.ranking_.order[: choice.k]
        self._kind, self._left_out = kind, left_out
        self._imitation = self._imitated(self.columns_, choice.setting)
        self.program_ = self._tree_on(self.columns_)
        near, order = Z[:, self.columns_], self.ranking_.order
        self._tree = Tree(self.program_, self.columns_, near, self._P, self._whole, self._ask, self.classes_, order)
        spent = asked.account()
        self.price_ = {"calls": spent.asked, "seconds": spent.seconds, "money": spent.money, "currency": asked.currency}
        return self

    def _check_settings(self) -> None:
        if not isinstance(self.target, Target):
            raise InvalidData(
                f"expected a Target, got {type(self.target).__name__}; make one with "
                "locum.target(model, method='predict_proba')"
            )
        if self.target.recorded:
            raise InvalidData(f"expected a target that answers new rows, and {self.target.name!r} only has recorded answers")
        require_whole(1, n_repeats=self.n_repeats, max_queries=self.max_queries)
        require_whole(2, folds=self.folds)
        require_whole(0, random_state=self.random_state)
        for name, known in (("perturb", _PERTURB), ("imitate", _IMITATE)):
            if getattr(self, name) not in known:
                raise InvalidData(f"expected {name}= to be one of {', '.join(map(repr, known))}, got {getattr(self, name)!r}")
        if self.group_corr is not None and not 0 < self.group_corr <= 1:
            raise InvalidData(f"expected group_corr= above 0 and up to 1, or None, got {self.group_corr!r}")
        if self.target.output == "value":
            raise InvalidData("expected a target of classes or probabilities, and this one answers with values")
        if self.target.output == "class" and self.imitate == "probability":
            raise InvalidData(
                "the target answers with labels, so there are no probabilities to imitate; make it with "
                "method='predict_proba', or say imitate='label'"
            )

    def _read_first(self, X: Any) -> tuple[Domain, _FLOAT]:
        width = np.shape(X)[1] if len(np.shape(X)) == 2 else 0
        domain = self.target.domain or Domain.of(X, fixed=range(width))
        return domain, self._numbers(domain, X)

    @staticmethod
    def _numbers(domain: Domain, X: Any) -> _FLOAT:
        if domain.categorical.any():
            name = domain.names[int(domain.categorical.argmax())]
            raise InvalidData(f"expected columns of numbers, and {name!r} holds categories; encode them as numbers first")
        Z = domain.encode(X)
        if np.isnan(Z).any():
            i, j = np.argwhere(np.isnan(Z))[0]
            raise InvalidData(f"column {domain.names[j]!r} is missing (NaN) in row {i}; fill it, or leave the row out")
        return Z

    def _ks(self, d: int) -> tuple[int, ...]:
        if self.k != "auto":
            require_whole(1, k=self.k)
            if int(self.k) > d:
                raise InvalidData(f"expected k= of at most the {d} columns there are, got {self.k}")
            return (int(self.k),)
        for one in self.ks:
            require_whole(1, ks=one)
        return tuple(sorted({one for one in self.ks if one <= d})) or (d,)

    def _probes(self) -> tuple[str, ...]:
        allowed = ranking.available(self.model)
        telling = tuple(one for one in allowed if one != "attention")
        wanted = telling if isinstance(self.probes, str) and self.probes == "auto" else tuple(self.probes)
        for one in wanted:
            if one not in allowed:
                what = "no model was given (model=)" if self.model is None else f"this {type(self.model).__name__} has none"
                can = f"it allows {', '.join(allowed)}" if allowed else "leave out probes=, and perturbing ranks the columns"
                raise InvalidData(f"the probe {one!r} was asked for, and {what}; {can}")
        names = (*wanted, *(() if self.perturb is None else ("sensitivity",)))
        if not names:
            raise InvalidData("there is nothing to rank columns by: allow perturbing, or give model= and probes=")
        if self.rank_by not in ("fused", *names):
            raise InvalidData(f"expected rank_by= to be one of {', '.join(('fused', *names))}, got {self.rank_by!r}")
        return wanted

    # ------------------------------------------------------------------ asking
    def _first_answers(self, Z: _FLOAT) -> _FLOAT:
        (said,) = self._whole.ask([Z], "fit")
        if self.target.output == "value":
            raise InvalidData("expected a target of classes or probabilities, and this one answers with values")
        if self.target.output == "class" and self.imitate == "probability":
            raise InvalidData("the target answers with labels; make it with method='predict_proba', or say imitate='label'")
        self.classes_ = np.asarray(self.target.classes)
        P = self._probabilities(said)
        labels = np.unique(P.argmax(axis=1))
        if len(labels) < 2:
            raise InvalidData(
                f"the black box answers {self.classes_[labels[0]].item()!r} on all {len(Z)} rows, so there is nothing to tell "
                "apart; give rows of which it answers some otherwise"
            )
        return P

    def _probabilities(self, said: NDArray[Any]) -> _FLOAT:
        """Answers as one column a class: probabilities, or 0 and 1."""
        if self.target.output == "class":
            return (said[:, None] == self.classes_).astype(float)
        P = said.astype(float)
        return P if self.imitate == "probability" else np.eye(P.shape[1])[P.argmax(axis=1)]

    def _ask(self, Z: _FLOAT, purpose: str = "fit") -> _FLOAT:
        return self._probabilities(self._whole.ask([Z], purpose)[0])

    def _domain(self, columns: _INT) -> Domain:
        return Domain(tuple(self.domain_.columns[j] for j in columns))

    # ------------------------------------------------------------------ ranking
    def _rank(self, Z: _FLOAT, probes: Sequence[str]) -> None:
        scores = ranking.probed(self.model, probes, Z, self.random_state)
        self._promising = ranking.screen(Z, self._P, scores)
        member = np.full(Z.shape[1], -1)
        if self.perturb is not None:
            found, member = ranking.perturbed(
                self._ask, Z, self._P, self._promising, how=self.perturb, group_corr=self.group_corr,
                n_repeats=self.n_repeats, max_queries=self.max_queries, random_state=self.random_state,
            )  # fmt: skip
            scores.append(found)
        self._scores = scores
        everyone = np.ones(len(Z), dtype=bool)
        self.ranking_ = Ranking(
            self.domain_.names,
            self._order(everyone),
            {score.name: score.over(everyone) for score in scores},
            {score.name: score.spread for score in scores if score.spread is not None},
            member,
            tuple(self.classes_.tolist()),
            ranking.directions(Z, self._P),
        )

    def _order(self, kept: NDArray[np.bool_]) -> _INT:
        by = [score for score in self._scores if self.rank_by in ("fused", score.name)]
        return ranking.ranked(by, self._promising, kept)

    # ------------------------------------------------------------------ imitating
    def _imitated(self, columns: _INT, setting: dict[str, Any]) -> standin.Imitation:
        rows = self._whole.rows[:, columns]
        return self._kind.fitted(self._domain(columns), rows, self._P, self.classes_, setting)

    def _tree_on(self, columns: _INT) -> Program:
        """The tree that gives the rules: the imitation itself where that is a tree."""
        if isinstance(self._imitation, standin.Rules):
            return self._imitation.program
        (choice,) = standin.chosen(
            standin.family("tree", self.random_state), self._domain, lambda _: columns, self._whole.rows, self._P,
            self.classes_, (len(columns),), self._left_out, self.random_state,
        )  # fmt: skip
        rows = self._whole.rows[:, columns]
        return standin.tree_program(self._domain(columns), rows, self._P, self.classes_, **choice.setting)

    # ------------------------------------------------------------------ how faithful
    def fidelity(self, X: Any, *, groups: Any = None) -> HighDimFidelity:
        """R2 and agreement on fresh rows, beside the cheapest rivals.

        Parameters
        ----------
        X : rows, as the target takes them
            Rows that fitted anything are left out.
        groups : array of shape (n,) or None, default=None
            Group of each row, for the intervals.

        Raises
        ------
        NotFresh
            Fewer than two rows are fresh.
        """
        return self.fidelity_by_k(X, ks=(self.k_,), groups=groups)[0]

    def fidelity_by_k(self, X: Any, *, ks: Sequence[int] | None = None, groups: Any = None) -> tuple[HighDimFidelity, ...]:
        """R2 and agreement on fresh rows for several numbers of columns.

        Parameters
        ----------
        X : rows, as the target takes them
        ks : sequence of int or None, default=None
            Those that `fit` chose from where None.
        groups : array of shape (n,) or None, default=None
        """
        check_is_fitted(self, "program_")
        wanted = tuple(choice.k for choice in self.choices_) if ks is None else tuple(ks)
        for k in wanted:
            require_whole(1, ks=k)
            if k > len(self.domain_):
                raise InvalidData(f"expected ks= of at most the {len(self.domain_)} columns there are, got {k}")
        Z, kept = self._fresh(X)
        P = self._ask(Z, "score")
        groups = None if groups is None else np.asarray(groups)[kept]
        return tuple(self._measured(k, Z, P, groups) for k in wanted)

    def _fresh(self, X: Any) -> tuple[_FLOAT, NDArray[np.bool_]]:
        Z = self._numbers(self.domain_, X)
        kept = self.target.fresh(self.domain_.decode(Z))
        if kept.sum() < 2:
            used = int((~kept).sum())
            raise NotFresh(f"{used} of these {len(Z)} rows fitted this explainer, so they cannot score it; give two others")
        return Z[kept], kept

    def _measured(self, k: int, Z: _FLOAT, P: _FLOAT, groups: Any) -> HighDimFidelity:
        columns, setting = self.ranking_.order[:k], self._setting(k)
        known = self._whole.rows
        imitation = self._imitation if k == self.k_ else self._imitated(columns, setting)
        beside = rivals(self._domain(columns), known[:, columns], self._P, np.ones(len(self._P)), self.classes_)
        random = np.random.default_rng([self.random_state, k]).permutation(Z.shape[1])[:k]
        other = self._imitated(random, setting)
        compared = partial(compare, P, groups=groups, random_state=self.random_state)
        r2, agreement = compared(imitation.values(Z[:, columns]))
        return HighDimFidelity(
            k, r2, agreement,
            tuple(one.measured(*defined(compared(one.program.values(Z[:, columns])))) for one in beside),
            defined(compared(other.values(Z[:, random]))),
        )  # fmt: skip

    def _setting(self, k: int) -> dict[str, Any]:
        """The settings chosen for the next larger k that was tried, or the largest."""
        tried = sorted(self.choices_, key=lambda choice: choice.k)
        return next((choice.setting for choice in tried if choice.k >= k), tried[-1].setting)

    def faithfulness(
        self,
        X: Any,
        *,
        ks: Sequence[int] = (1, 5, 10, 20, 50),
        background: Any = None,
        draws: int = 5,
        groups: Any = None,
    ) -> Faithfulness:
        """Whether the black box needs the top columns (comprehensiveness), and whether they are all it needs (sufficiency).

        Parameters
        ----------
        X : rows, as the target takes them
        ks : sequence of int, default=(1, 5, 10, 20, 50)
            How many columns; those beyond the number of columns are left out.
        background : rows or None, default=None
            Where cells come from that take the place of others; the rows of the fit where None.
        draws : int, default=5
            Background rows a row.
        groups : array of shape (n,) or None, default=None
            Group of each row, for the intervals.

        Notes
        -----
        Cost: six times `draws` times the number of ks rows for each row of X.
        """
        check_is_fitted(self, "program_")
        require_whole(1, draws=draws)
        Z = self._numbers(self.domain_, X)
        other = self._whole.rows if background is None else self._numbers(self.domain_, background)
        within = tuple(k for k in ks if k <= Z.shape[1])
        if not within:
            raise InvalidData(f"expected ks= of at most the {Z.shape[1]} columns there are, got {tuple(ks)}")
        return faithfulness(
            lambda rows: self._ask(rows, "use"), Z, self._ask(Z, "use"), other, self.ranking_.order, ks=within, draws=draws,
            groups=groups, random_state=self.random_state,
        )  # fmt: skip

    # ------------------------------------------------------------------ reading
    def rules(self, X: Any = None, y: Any = None, *, min_support: float = 0.01, max_rules: int = 30) -> RuleBook:
        """The tree as a list of rules, the ones that answer most rows rightly first.

        Parameters
        ----------
        X : fresh rows or None, default=None
            To measure the rules on; the rows of the fit where None, where precision is flattered.
        y : array of shape (m,) or None, default=None
            True labels of X.
        min_support : float, default=0.01
            Least share of the rows of the fit that a rule holds.
        max_rules : int, default=30
            Most rules; where the tree has more, another of so many is grown on the same columns.
        """
        check_is_fitted(self, "program_")
        require_whole(1, max_rules=max_rules)
        if not 0 <= min_support < 1:
            raise InvalidData(f"expected min_support= of 0 or more and below 1, got {min_support!r}")
        program = self.program_
        if len(program.terms) > max_rules:
            least = max(1, int(min_support * len(self._P)))
            domain = self._domain(self.columns_)
            program = standin.tree_program(domain, self._tree.Z, self._P, self.classes_, max_rules, least)
        if X is None:
            measured, how = (self._tree.Z, self.classes_[self._P.argmax(axis=1)], self._truth), "rows of the fit"
        else:
            Z, kept = self._fresh(X)
            truth = None if y is None else np.asarray(y)[kept]
            measured, how = (Z[:, self.columns_], self.classes_[self._ask(Z, "score").argmax(axis=1)], truth), "fresh queries"
        return rule_book(program, self.columns_, (self._tree.Z, self._P), measured, min_support, how)

    def explain(self, X: Any, *, fidelity: Fidelity | None = None) -> list[LocalExplanation]:
        """Explain single answers: the rule that fires, signed contributions, and a counterfactual asked of the black box.

        Parameters
        ----------
        X : m rows, as the target takes them
        fidelity : Fidelity or None, default=None
            What was measured, to be shown with each explanation.

        Notes
        -----
        Cost: at most some 200 rows of the target for each row, in five queries for all.
        """
        check_is_fitted(self, "program_")
        return explained_locally(self._tree, self._numbers(self.domain_, X), fidelity)

    def report(self, n: int = 20) -> str:
        """The `n` best columns with all that was found of them, how many are enough, and what it cost.

        Parameters
        ----------
        n : int, default=20
        """
        check_is_fitted(self, "program_")
        lines = [
            f"{self.target.name}: {len(self.domain_)} columns, {self.k_} of them in the {self._kind.name} that stands in",
            self.ranking_.text(n),
            *(f"{c.k} columns: cross-validated r2 {c.r2:.3f} (standard error {c.standard_error:.3f})" for c in self.choices_),
            f"price: {self.price_['calls']} rows asked, {self.price_['seconds']:.3g} s",
        ]
        return "\n".join(lines)

    def stand_in(self, fidelity: Iterable[Fidelity] = ()) -> StandIn:
        """The tree as a `StandIn` of the k columns chosen: it can be saved, exported, and shown as a card.

        Parameters
        ----------
        fidelity : iterable of Fidelity, default=()
            What `fidelity` measured.
        """
        check_is_fitted(self, "program_")
        domain = self._domain(self.columns_)
        record = {"settings": {}, "program": self.program_.to_dict(), "domain": domain.to_dict(), "names": None}
        target = {"name": self.target.name, "output": "class", "classes": self.classes_.tolist()}
        region = Region.of(domain, self._tree.Z, random_state=self.random_state)
        return StandIn(
            TreeClassifier.from_state(record, {}), domain, region, target, self.price_, tuple(fidelity),
            random_state=self.random_state,
        )  # fmt: skip
