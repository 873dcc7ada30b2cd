"""Design-based supervised learning: cheap labels for all rows, expert labels for some drawn at random, valid intervals."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import BaseEstimator

from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.infer._dsl_estimate import Corrected, Regression, attempt, link_of
from locum.infer._dsl_rows import DesignWarning, Sample, read
from locum.infer._first_stage import Labels, check_learner, cross_fitted
from locum.infer._folds import stratified_folds
from locum.infer._moments import project_positive, sandwich
from locum.infer._results import Estimates, Table, check_alpha

__all__ = ["Comparison", "DSLRegressor", "DesignWarning"]

Array = NDArray[np.float64]

_MODELS = ("mean", "lm", "logit", "poisson", "felm")
_LABELS_PER_COEFFICIENT = 10


@dataclass(frozen=True)
class Comparison:
    """The same regression by several ways of using the labels.

    Attributes
    ----------
    estimates : dict of str to Estimates
        "SO" surrogate labels only, "GSO" expert labels only (weighted 1/π), "SL" predictions plugged in, "PPI" PPI++, and
        "DSL". NaN where a way has no answer; its notes say why.
    """

    estimates: dict[str, Estimates]

    def table(self) -> Table:
        """Coefficients with standard errors in brackets."""
        names = self.estimates["DSL"].names
        rows = tuple(
            (
                name,
                *(f"{e.params[j]:.3f} ({e.bse[j]:.3f})" if np.isfinite(e.params[j]) else "-" for e in self.estimates.values()),
            )
            for j, name in enumerate(names)
        )
        notes = [f"{key}: {one.method}" for key, one in self.estimates.items()]
        notes += [note for one in self.estimates.values() if not np.isfinite(one.params).all() for note in one.notes]
        return Table("One regression, several uses of the labels", ("", *self.estimates), rows, notes=tuple(notes))

    def __str__(self) -> str:
        return str(self.table())

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and text, safe for JSON."""
        return {key: one.to_dict() for key, one in self.estimates.items()}


class DSLRegressor(BaseEstimator):
    r"""Cheap imperfect labels stand in for expert labels in a regression; a random sample of expert labels repairs it.

    A first stage g learns the expert's label from the surrogate labels and the other columns, on rows it does not predict.
    Every row enters the equations with its prediction, and the rows that experts labelled correct them, weighted by the inverse
    of the known probability :math:`\pi_i` of being labelled:

    .. math:: \sum_i m(\hat D_i; \beta) + \frac{R_i}{\pi_i} \bigl[m(D_i; \beta) - m(\hat D_i; \beta)\bigr] = 0.

    Intervals are valid however bad the surrogate or g; good ones make them short. Folds are drawn `n_splits` times and medians
    are reported.

    Parameters
    ----------
    model : {"mean", "lm", "logit", "poisson", "felm"}, default="logit"
        What is fitted; "felm" is linear with one or two fixed effects.
    predicted : sequence of str, default=("Y",)
        Columns that experts label: the outcome, covariates, or both; numbers, or text for categories.
    cross_fit : int, default=5
        Folds.
    n_splits : int, default=10
        Times that folds are drawn.
    learner : {"boosting", "forest", "linear", "surrogate"} or estimator, default="boosting"
        The first stage: a name, or any scikit-learn classifier or regressor. "surrogate" takes the first surrogate label as it
        is.
    cov_type : {"HC0", "HC1"}, default="HC0"
        Robust covariance, without or with the small-sample factor; of clusters where groups are given.
    target : {"superpopulation", "finite"}, default="superpopulation"
        Whether rows stand for a population they were drawn from, or the target is what experts would have given on these very
        rows; then only the drawing of the labels counts as chance.
    random_state : int, default=0

    Attributes
    ----------
    estimates_ : Estimates
        Coefficients and covariance as arrays, with `summary`, `conf_int` and `to_dict`.
    params_, bse_ : Series of shape (q,)
    vcov_ : DataFrame of shape (q, q)
    split_sd_ : Series of shape (q,)
        Spread of the coefficients between the splits.
    fidelity_ : tuple of Fidelity
        Agreement of each surrogate with the experts, on expert rows weighted by 1/π; and how far off each coefficient of the
        surrogate-only regression is.
    n_labels_, n_rows_ : int

    Raises
    ------
    InvalidData
        Probabilities that are unknown or not in (0, 1], flags and labels that contradict, missing values, constant surrogates,
        collinear columns.
    NoSolution
        Perfect separation.

    Notes
    -----
    Cost: ``cross_fit`` times ``n_splits`` fits of the first stage per predicted column, and as many predictions of
    N / cross_fit rows. 100,000 rows, 20 coefficients, five folds: about 3 s a split with boosting, 1 s with "linear". No
    query; labels come from `sample_labels` and a `Target`.

    **Departures**: equations are solved exactly (Newton), not by minimising their norm. Fixed effects are taken out of both
    kinds of rows by the projection of the corrected variables, which is exactly the regression with dummies. Probabilities
    are rescaled to the number of labels among rows that were not certain. For the finite target, labels are taken as drawn
    independently, which is cautious for samples of fixed size.

    References
    ----------
    Egami, Hinck, Stewart and Wei, *Using Imperfect Surrogates for Downstream Inference*, NeurIPS 2023, arXiv 2306.04746.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=1000)
    >>> y = 1 + 2 * x + rng.normal(size=1000)
    >>> drawn = rng.random(1000) < 0.3
    >>> q = y + 0.5 * (x > 0) + rng.normal(size=1000) / 2
    >>> data = {"x": x, "Y": np.where(drawn, y, np.nan), "q": q}
    >>> model = DSLRegressor("lm", learner="linear", n_splits=3)
    >>> _ = model.fit(data, "Y ~ x", surrogates={"Y": ["q"]}, sampling_prob=0.3)
    >>> bool(abs(model.params_["x"] - 2) < 3 * model.bse_["x"])
    True
    """

    papers = ("dsl",)

    def __init__(
        self,
        model: str = "logit",
        predicted: Sequence[str] = ("Y",),
        *,
        cross_fit: int = 5,
        n_splits: int = 10,
        learner: Any = "boosting",
        cov_type: str = "HC0",
        target: str = "superpopulation",
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.predicted = predicted
        self.cross_fit = cross_fit
        self.n_splits = n_splits
        self.learner = learner
        self.cov_type = cov_type
        self.target = target
        self.random_state = random_state

    def fit(
        self,
        data: Any,
        formula: str,
        *,
        surrogates: Mapping[str, Any],
        sampling_prob: Any = None,
        labeled: str | None = None,
        groups: str | None = None,
        fixed_effects: Sequence[str] = (),
        features: Sequence[str] | None = None,
    ) -> Self:
        """Estimate the regression that experts would have given.

        Parameters
        ----------
        data : table of N rows, or mapping of columns
        formula : str
            Such as "Y ~ senate + log(length)"; "Y ~ 1" for a mean. A text outcome gives an equation for each category.
        surrogates : mapping of str to str or sequence of str
            Cheap labels of each predicted column; the first is the one that rivals use.
        sampling_prob : str, float or None, default=None
            Probability of each row of being drawn for the experts: a column, a number, or "equal" for simple random sampling.
            Refused where None: it must be that of the design.
        labeled : str or None, default=None
            Column of 0 and 1; rows with a label where None.
        groups : str or None, default=None
            Column of the clusters.
        fixed_effects : sequence of str, default=()
            One or two columns, for "felm".
        features : sequence of str or None, default=None
            What the first stage sees beside the surrogates; the observed columns of the formula where None.
        """
        self._check(fixed_effects)
        predicted = [self.predicted] if isinstance(self.predicted, str) else list(self.predicted)
        sample = read(data, formula, predicted, surrogates, labeled, sampling_prob, groups, fixed_effects, features)
        if self.model == "mean" and sample.formula.terms != ("Intercept",):
            raise InvalidData(f"expected a formula such as 'Y ~ 1' for a mean, got the terms {', '.join(sample.formula.terms)}")
        regression = Regression(sample, link_of(self.model), self.cov_type == "HC1", self.target == "finite")
        wanted = _LABELS_PER_COEFFICIENT * len(regression.terms)
        if len(sample.rows) < wanted:
            warnings.warn(
                f"{len(sample.rows)} expert labels for {len(regression.terms)} coefficients: intervals hold for large samples, "
                f"{wanted} or more are advised",
                DesignWarning,
                stacklevel=2,
            )
        self._formula, splits, self._predictions = formula, [], None
        for split in range(1 if self.learner == "surrogate" else self.n_splits):
            predictions = self._predict(regression, split)
            splits.append(regression.corrected(predictions))
            self._predictions = predictions if self._predictions is None else self._predictions
        self._regression, self._splits = regression, splits
        self.n_labels_, self.n_rows_ = len(sample.rows), len(sample.frame)
        self._combine()
        return self

    def _check(self, effects: Sequence[str]) -> None:
        _among("model", self.model, _MODELS)
        _among("cov_type", self.cov_type, ("HC0", "HC1"))
        _among("target", self.target, ("superpopulation", "finite"))
        check_learner(self.learner)
        for name, least in (("cross_fit", 2), ("n_splits", 1), ("random_state", 0)):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
                raise InvalidData(f"expected {name}= to be a whole number of {least} or more, got {number!r}")
        if isinstance(effects, str) or (self.model == "felm") != (len(effects) in (1, 2)):
            raise InvalidData(
                f"expected fixed_effects= as one or two columns with model='felm' and none otherwise, got {effects!r}"
            )

    def _predict(self, regression: Regression, split: int) -> dict[str, Array]:
        """First-stage predictions of every row, by models that have not seen the row's group."""
        sample = regression.sample
        if self.learner == "surrogate":
            taken = regression.surrogate_predictions()
            if taken is None:
                raise InvalidData(
                    "learner='surrogate' needs a surrogate label, got a score in another unit: learn from it instead"
                )
            return taken
        rng = np.random.default_rng([self.random_state, split])
        folds = stratified_folds(self.cross_fit, _strata(sample), rng, groups=sample.groups)
        held = len(np.unique(folds[sample.rows]))
        if held < self.cross_fit:
            unit = "rows" if sample.groups is None else "clusters"
            raise InvalidData(
                f"expected expert labels in each of {self.cross_fit} folds, got some in {held}: too few {unit} are labelled; "
                "lower cross_fit= or have more labelled"
            )
        seed = int(rng.integers(2**31))
        return {
            name: cross_fitted(sample.seen(name), one, sample.rows, folds, self.learner, seed)
            for name, one in sample.labels.items()
        }

    def _combine(self) -> None:
        """Medians over the splits; their spread is part of the covariance."""
        params = np.array([one.params for one in self._splits])
        middle = np.median(params, axis=0)
        away = params - middle
        vcov = project_positive(
            np.median([one.vcov + np.outer(d, d) for one, d in zip(self._splits, away, strict=True)], axis=0)
        )
        sample, names = self._regression.sample, self._regression.names
        kind = self.cov_type if sample.groups is None else f"{self.cov_type}, {len(np.unique(sample.groups))} clusters"
        learner = self.learner if isinstance(self.learner, str) else type(self.learner).__name__
        facts = {
            "Model": self.model, "Rows": f"{self.n_rows_:,}", "Expert labels": f"{self.n_labels_:,}", "First stage": learner,
            "Folds": str(self.cross_fit), "Splits": str(len(self._splits)), "Covariance": kind, "Target": self.target,
        }  # fmt: skip
        freedom = np.median([one.freedom for one in self._splits], axis=0)
        self.estimates_ = Estimates("Design-based supervised learning", names, middle, vcov, facts, freedom=freedom)
        self._split_sd = params.std(axis=0, ddof=1) if len(params) > 1 else np.zeros(len(names))
        self.fidelity_ = tuple(self._agreements()) + tuple(self._errors_of_surrogate_only())

    # ------------------------------------------------------------------ what was found
    @property
    def params_(self) -> Any:
        """Coefficients by name."""
        return self._series(self.estimates_.params)

    @property
    def bse_(self) -> Any:
        """Standard errors by name."""
        return self._series(self.estimates_.bse)

    @property
    def split_sd_(self) -> Any:
        """Standard deviation of the coefficients between the splits, by name."""
        return self._series(self._split_sd)

    @property
    def vcov_(self) -> Any:
        """Covariance by names."""
        return self._frame(self.estimates_.vcov, list(self.estimates_.names))

    def conf_int(self, alpha: float = 0.05) -> Any:
        """Intervals of level 1 - alpha, a table with a row for each coefficient and the columns "lower" and "upper"."""
        return self._frame(self.estimates_.conf_int(alpha), ["lower", "upper"])

    def summary(self, alpha: float = 0.05) -> Table:
        """The usual table of a regression, with the fidelity of the surrogate below."""
        table = self.estimates_.summary(alpha)
        return replace(table, notes=(*table.notes, *map(str, self.fidelity_)))

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One page about the analysis: coefficients beside other uses of the labels, and how far the labels can be trusted.

        Parameters
        ----------
        path : path or None, default=None
            Where the page is written as well. It needs nothing else to be read.
        """
        from locum.infer._page import Row, page

        compared = self.compare()
        rows = [
            Row(name, one.method, float(one.params[j]), *map(float, one.conf_int()[j]))
            for j, name in enumerate(self.estimates_.names)
            for one in compared.estimates.values()
        ]
        about = (
            f"{self._formula}: {self.n_labels_:,} of {self.n_rows_:,} rows have an expert label; a cheap label stands in for "
            "it in the others, and the known probabilities of being labelled repair what it gets wrong."
        )
        reference = (
            "Egami, Hinck, Stewart and Wei, Using Imperfect Surrogates for Downstream Inference: Design-based Supervised "
            "Learning, NeurIPS 2023, arXiv 2306.04746."
        )
        told = [("", one) for one in self.fidelity_]
        tables = [self.estimates_.summary(), compared.table()]
        text = page("A regression with cheap labels", about, tables, rows, told, reference)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def compare(self) -> Comparison:
        """The same regression from surrogate labels only, expert labels only, plugged-in predictions, PPI++, and this."""
        regression, names = self._regression, self._regression.names
        return Comparison(
            {
                "SO": regression.surrogate_only()[0],
                "GSO": attempt("expert labels only", names, regression.expert_only),
                "SL": attempt("predicted labels plugged in", names, lambda: regression.plugged_in(self._predictions or {})),
                "PPI": attempt("prediction-powered (PPI++)", names, regression.prediction_powered),
                "DSL": self.estimates_,
            }
        )

    def _series(self, values: Array) -> Any:
        import pandas

        return pandas.Series(values, index=list(self.estimates_.names))

    def _frame(self, values: Array, columns: list[str]) -> Any:
        import pandas

        return pandas.DataFrame(values, index=list(self.estimates_.names), columns=columns)

    # ------------------------------------------------------------------ how many labels
    def forecast(self, n_labels: int) -> Any:
        """Standard errors to expect with so many expert labels (no fewer than now), drawn in the same proportions, by name.

        Raises
        ------
        InvalidData
            Fewer labels than there are, or more than rows.
        """
        if not self.n_labels_ <= n_labels <= self.n_rows_:
            raise InvalidData(f"expected a number of labels between {self.n_labels_} and {self.n_rows_}, got {n_labels!r}")
        return self._series(np.sqrt(self._forecast(n_labels / self.n_labels_)))

    def _forecast(self, times: float) -> Array:
        """Variances with `times` as many labels; as for all labels and no surrogate where the split into parts fails."""
        middle = self.estimates_.params
        each = [np.diag(s.first) / times + np.diag(s.second) + (s.params - middle) ** 2 for s in self._splits]
        found = np.median(each, axis=0)
        return np.where(found > 0, found, np.diag(self.estimates_.vcov) / times)

    def labels_needed(self, se: Mapping[str, float]) -> int:
        """Expert labels with which the standard errors are expected to be no larger than asked for.

        Parameters
        ----------
        se : mapping of str to float
            Standard error wanted of each coefficient named.

        Raises
        ------
        InvalidData
            Unknown coefficients, standard errors that are not positive, or that all labels would not give.
        """
        names, most = self.estimates_.names, self.n_labels_
        for name, wanted in se.items():
            if name not in names:
                raise InvalidData(f"expected coefficients among {', '.join(names)}, got {name!r}")
            if not (isinstance(wanted, int | float) and 0 < wanted < math.inf):
                raise InvalidData(f"expected a standard error above 0 for {name!r}, got {wanted!r}")
            j = names.index(name)
            low, high = self.n_labels_, self.n_rows_
            if self._forecast(high / self.n_labels_)[j] > wanted**2:
                least = math.sqrt(self._forecast(high / self.n_labels_)[j])
                raise InvalidData(
                    f"with all {high} rows labelled the standard error of {name!r} would still be about {least:.3g}, more than "
                    f"{wanted:g}: gather more rows"
                )
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if self._forecast(middle / self.n_labels_)[j] <= wanted**2 else (middle + 1, high)
            most = max(most, low)
        return most

    # ------------------------------------------------------------------ fidelity of the stand-in
    def _agreements(self) -> list[Fidelity]:
        sample, out = self._regression.sample, []
        weights = 1.0 / sample.pi[sample.rows]
        groups = None if sample.groups is None else sample.groups[sample.rows]
        for name, one in sample.labels.items():
            for column in sample.surrogates[name]:
                said = _as_label(sample.labelled_frame[column].to_numpy(), one)
                if said is None or (groups is not None and len(np.unique(groups)) < 2):
                    continue
                kind = measure("r2" if one.levels is None else "agreement")
                truth = one.values if one.levels is None else one.levels[one.values.astype(np.intp)]
                found = kind.fidelity(
                    truth, said, weights=weights, groups=groups, how="expert labels weighted by 1/π", region="all rows"
                )
                out.append(replace(found, measure=f"{found.measure} of {column} with {name}"))
        return out

    def _errors_of_surrogate_only(self) -> list[Fidelity]:
        """Distance between the surrogate-only coefficients and the corrected ones; both rest on the same rows."""
        regression, sample = self._regression, self._regression.sample
        so, influence = regression.surrogate_only()
        if influence is None:
            return []
        ours: Corrected = self._splits[0]
        vcov = self.estimates_.vcov if regression.finite else sandwich(influence - ours.influence, sample.groups)
        half = stats.norm.isf(check_alpha(0.05) / 2.0) * np.sqrt(np.diag(vcov))
        away = np.abs(so.params - self.estimates_.params)
        return [
            Fidelity(
                f"error of the surrogate-only coefficient of {name}",
                size,
                max(0.0, size - reach),
                size + reach,
                0.95,
                self.n_rows_,
                region="all rows",
                how=f"rows, {self.n_labels_} with expert labels",
                method="normal, robust",
                greater_is_better=False,
            )
            for name, size, reach in zip(regression.names, away, half, strict=True)
        ]  # fmt: skip


def _among(name: str, given: Any, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise InvalidData(f"expected {name}= {', '.join(allowed)}, got {given!r}")


def _strata(sample: Sample) -> NDArray[np.intp]:
    """Zero for rows without label; labelled rows by their classes, so that every fold holds all of them."""
    out = np.zeros(len(sample.frame), dtype=np.intp)
    code = np.zeros(len(sample.rows), dtype=np.intp)
    for one in sample.labels.values():
        if one.levels is not None:
            code = code * len(one.levels) + one.values.astype(np.intp)
    out[sample.rows] = 1 + code
    return out


def _as_label(column: NDArray[Any], labels: Labels) -> NDArray[Any] | None:
    """A surrogate on the scale of the labels; None for a score in another unit."""
    if labels.text:
        return column.astype(str)
    if column.dtype.kind not in "biuf":
        return None
    numbers = column.astype(float)
    if labels.levels is None:
        return numbers
    return (numbers >= 0.5).astype(float) if ((numbers >= 0.0) & (numbers <= 1.0)).all() else None
