"""What a design-based analysis is given, read and refused where the guarantee would be gone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.infer._first_stage import Labels, encoded
from locum.infer._folds import codes_of, content_order
from locum.infer._formula import Formula, as_frame

__all__ = ["DesignWarning", "Sample", "read"]

Array = NDArray[np.float64]
_Index = NDArray[np.intp]

_FAR = 6.0  # standard deviations of the number of labels from what the probabilities say, beyond which one warns


class DesignWarning(UserWarning):
    """Something about the expert labels that makes the intervals doubtful."""


@dataclass(frozen=True)
class Sample:
    """Rows in an order that their content sets.

    Attributes
    ----------
    frame : DataFrame of N rows
        With the labels of other rows where there is none.
    formula : Formula
    labels : dict of str to Labels
        Of each predicted variable.
    surrogates : dict of str to list of str
    features : ndarray of shape (N, q)
        What the first stage sees beside the surrogates.
    rows : ndarray of shape (n,)
        Positions of the labelled rows.
    pi : ndarray of shape (N,)
        Sampling probabilities, rescaled so that they add up to the number of labels.
    groups : ndarray of shape (N,) or None
    effects : list of ndarray of shape (N,)
    equal : bool
        Whether all rows have the same probability.
    """

    frame: Any
    formula: Formula
    labels: dict[str, Labels]
    surrogates: dict[str, list[str]]
    features: Array
    rows: _Index
    pi: Array
    groups: _Index | None
    effects: list[_Index]
    equal: bool

    @property
    def labelled_frame(self) -> Any:
        """The rows with expert labels."""
        return self.frame.iloc[self.rows].reset_index(drop=True)

    def seen(self, name: str) -> Array:
        """What the first stage of one variable sees, shape (N, q)."""
        return np.hstack([encoded(self.frame, self.surrogates[name]), self.features])

    def whole_groups(self) -> bool:
        """Whether experts label all of a group or nothing of it."""
        if self.groups is None:
            return False
        share = np.bincount(self.groups[self.rows], minlength=int(self.groups.max()) + 1) / np.bincount(self.groups)
        return bool(np.isin(share, (0.0, 1.0)).all())


def read(
    data: Any, formula: str, predicted: Sequence[str], surrogates: Mapping[str, Any], labeled: str | None, sampling_prob: Any,
    groups: str | None, effects: Sequence[str], features: Sequence[str] | None,
) -> Sample:  # fmt: skip
    """Read and check everything that `DSLRegressor.fit` is given.

    Raises
    ------
    InvalidData
    """
    frame = as_frame(data)
    named = _surrogates(predicted, surrogates)
    others = [name for name in (labeled, groups, *effects, *(features or ())) if name is not None]
    others += [sampling_prob] if isinstance(sampling_prob, str) and sampling_prob != "equal" else []
    _require_columns(frame, [*predicted, *(q for columns in named.values() for q in columns), *others])
    if set(features or ()) & set(predicted):
        raise InvalidData("features= may not hold what is predicted: the expert's label itself would leak into the first stage")
    mask = _labelled(frame, predicted, labeled)
    _require_whole(frame, [q for columns in named.values() for q in columns] + others)
    pi = _probabilities(frame, sampling_prob, mask)
    frame, labels = _filled(frame, predicted, mask)
    made = Formula(formula, frame)
    absent = [name for name in predicted if name not in made.used]
    if absent:
        raise InvalidData(f"expected the formula {formula!r} to use what is predicted, got none of {', '.join(absent)} in it")
    if features is None:
        features = sorted(made.used - set(predicted) - {q for columns in named.values() for q in columns})
    _require_varying(frame, named)
    columns = dict.fromkeys([*sorted(made.used), *(q for c in named.values() for q in c), *features, *effects])
    keys = [frame[name].to_numpy() for name in [*columns, *([groups] if groups else [])]]
    order = content_order([*keys, pi, mask])
    frame, mask, pi = frame.iloc[order].reset_index(drop=True), mask[order], pi[order]
    rows = np.flatnonzero(mask)
    labels = {name: Labels.of(name, frame[name].iloc[rows]) for name in labels}
    return Sample(
        frame, made, labels, named, encoded(frame, list(features)) if features else np.empty((len(frame), 0)), rows,
        _rescaled(pi, mask), None if groups is None else codes_of(frame[groups].to_numpy())[0],
        [codes_of(frame[name].to_numpy())[0] for name in effects], bool(np.ptp(pi) < 1e-12),
    )  # fmt: skip


def _surrogates(predicted: Sequence[str], surrogates: Mapping[str, Any]) -> dict[str, list[str]]:
    if not isinstance(surrogates, Mapping) or set(surrogates) != set(predicted):
        raise InvalidData(
            f"expected surrogates= as a mapping with an entry for each of {', '.join(predicted)}, such as {{'Y': ['q_llm']}}; "
            f"got {surrogates!r}"
        )
    out = {name: [surrogates[name]] if isinstance(surrogates[name], str) else list(surrogates[name]) for name in predicted}
    empty = [name for name, columns in out.items() if not columns]
    if empty:
        raise InvalidData(f"expected at least one surrogate column for {', '.join(empty)}, got none")
    if any(column in predicted for columns in out.values() for column in columns):
        raise InvalidData("a surrogate must be another column than the expert's label itself")
    return out


def _require_columns(frame: Any, names: Sequence[str]) -> None:
    absent = sorted({name for name in names if name not in frame.columns})
    if absent:
        raise InvalidData(
            f"these columns are not in the data: {', '.join(map(str, absent))}; it has {', '.join(map(str, frame.columns))}"
        )


def _require_whole(frame: Any, names: Sequence[str]) -> None:
    holes = {name: int(frame[name].isna().sum()) for name in names if frame[name].isna().any()}
    if holes:
        listed = ", ".join(f"{name!r} ({count})" for name, count in holes.items())
        raise InvalidData(f"missing values in {listed}; only what is predicted may be missing: fill them or drop those rows")


def _require_varying(frame: Any, surrogates: dict[str, list[str]]) -> None:
    constant = [column for columns in surrogates.values() for column in columns if frame[column].nunique() < 2]
    if constant:
        raise InvalidData(
            f"the surrogate {', '.join(constant)} says the same of every row, so it says nothing: look at how it was made, or "
            "leave it out"
        )


def _labelled(frame: Any, predicted: Sequence[str], labeled: str | None) -> NDArray[np.bool_]:
    """Which rows have expert labels; flags and labels must tell the same."""
    held = frame[list(predicted)].notna().to_numpy()
    if labeled is None:
        mask = held.any(axis=1)
    else:
        flags = frame[labeled].to_numpy()
        try:
            numbers = flags.astype(float)
        except (TypeError, ValueError) as error:
            raise InvalidData(f"expected flags of 0 and 1 in {labeled!r}, got {flags.dtype}") from error
        if not np.isin(numbers, (0.0, 1.0)).all():
            raise InvalidData(f"expected flags of 0 and 1 in {labeled!r}, got others or missing ones")
        mask = numbers == 1.0
        if held[~mask].any():
            raise InvalidData(
                f"{int(held[~mask].any(axis=1).sum())} rows are marked as not labelled in {labeled!r} and yet hold expert "
                "labels: mark them as labelled, or empty the label"
            )
    gaps = int((~held[mask]).any(axis=1).sum())
    if gaps:
        raise InvalidData(
            f"{gaps} labelled rows lack an expert label of {', '.join(predicted)}: experts must label all of them there"
        )
    if not mask.any():
        raise InvalidData("no row has an expert label, so nothing can correct the surrogate: draw some with sample_labels")
    return mask


def _probabilities(frame: Any, given: Any, mask: NDArray[np.bool_]) -> Array:
    if given is None:
        raise InvalidData(
            "the probabilities with which rows were drawn for the experts are unknown; without them nothing guarantees the "
            "intervals. Give sampling_prob= as a column or a number, or 'equal' if every row had the same chance"
        )
    if isinstance(given, str) and given == "equal":
        return np.full(len(frame), mask.mean())
    if not isinstance(given, str | Real) or (isinstance(given, str) and frame[given].dtype.kind not in "biuf"):
        raise InvalidData(f"expected sampling_prob= as a column of numbers, a number or 'equal', got {given!r}")
    pi = np.array(frame[given] if isinstance(given, str) else np.full(len(frame), given), dtype=float)
    if not ((pi > 0.0) & (pi <= 1.0)).all():
        bad = int((~((pi > 0.0) & (pi <= 1.0))).sum())
        raise InvalidData(
            f"expected sampling probabilities above 0 and at most 1, got {bad} others: rows that could never be drawn have no "
            "expert counterpart, so the guarantee is gone; leave them out of the analysis, or draw them too"
        )
    if (pi[~mask] == 1.0).any():
        raise InvalidData(
            "rows with sampling probability 1 have no expert label: either they were not certain, or labels are missing"
        )
    away = abs(mask.sum() - pi.sum()) / max(np.sqrt((pi * (1.0 - pi)).sum()), 1.0)
    if away > _FAR:
        warnings.warn(
            f"the sampling probabilities add up to {pi.sum():.0f} labels and there are {int(mask.sum())}: they may not be "
            "those of the design",
            DesignWarning,
            stacklevel=4,
        )
    return pi


def _rescaled(pi: Array, mask: NDArray[np.bool_]) -> Array:
    """Probabilities that add up to the number of labels; rows that were certain stay so."""
    uncertain = pi < 1.0
    if not uncertain.any():
        return pi
    factor = float(mask[uncertain].sum()) / float(pi[uncertain].sum())
    return np.where(uncertain, np.minimum(pi * factor, 1.0), pi) if factor > 0 else pi


def _filled(frame: Any, predicted: Sequence[str], mask: NDArray[np.bool_]) -> tuple[Any, dict[str, Labels]]:
    """The table with labels in every row, so that a formula can be read: sorted labels, over and over, where there is none."""
    labels = {name: Labels.of(name, frame.loc[mask, name]) for name in predicted}
    columns = {}
    for name in predicted:
        known = frame.loc[mask, name].to_numpy()
        known = known.astype(float) if known.dtype.kind in "biuf" else known.astype(str)
        values = np.resize(np.sort(known), len(frame))
        values[mask] = known
        columns[name] = values.astype(object) if values.dtype.kind == "U" else values
    return frame.assign(**columns), labels
