"""What the time-series explainer gives: maps with embeddings and landmarks, neighbours, and how faithful it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.core.measures import measure
from locum.explain._timex_series import PADDED
from locum.explain.attribution import Attribution, Axis
from locum.explain.units import mean_fidelity

__all__ = ["Neighbours", "TimeXExplanation", "TimeXFidelity", "agreement", "gaps"]

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
_ROWS = 200  # of a matrix of pairs at once
_TINY = 1e-9


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Training series whose explanations are nearest.

    Attributes
    ----------
    index : ndarray of int of shape (n, k)
        Positions in the series of the fit, nearest first.
    similarity : ndarray of shape (n, k)
        Cosine between embeddings.
    """

    index: _INT
    similarity: _FLOAT


@dataclass(frozen=True, eq=False)
class TimeXExplanation:
    """Maps of series, and where the explainer puts them.

    Indexing gives the `Attribution` of one series, over the time points that it has and its channels.

    Attributes
    ----------
    X : ndarray of shape (n, T, d)
    times : ndarray of shape (n, T)
    saliency : ndarray of shape (n, T, d)
        Probability that the mask keeps a value; 0 where a series is padded. A ranking: with a prior of 0.5 it is not sparse.
    mask : ndarray of bool of shape (n, T, d)
        Where that is above one half.
    embedding : ndarray of shape (n, width)
        Of the explanation encoder, which sees what that mask keeps.
    label : ndarray of int of shape (n,)
        The explainer's own answer, a position of the logits.
    answer : ndarray of int of shape (n,)
        The classifier's.
    landmark_id : ndarray of int of shape (n,)
        The nearest landmark: series with the same one are explained alike.
    hidden_by : str
        What the mask does to values that it does not keep, in words.
    random_state : int
    """

    X: NDArray[np.float32]
    times: NDArray[np.float32]
    saliency: _FLOAT
    mask: NDArray[np.bool_]
    embedding: _FLOAT
    label: _INT
    answer: _INT
    landmark_id: _INT
    hidden_by: str
    random_state: int

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, position: int) -> Attribution:
        i = range(len(self))[position]
        there = self.times[i] > PADDED
        values = self.saliency[i, there]
        unknown = np.full(values.shape, np.nan)
        return Attribution(
            values, unknown, unknown,
            axes=(
                Axis("time point", tuple(f"t={t:g}" for t in self.times[i, there].tolist())),
                Axis("channel", tuple(f"channel {j}" for j in range(values.shape[1]))),
            ),
            base=0.0, row=tuple(map(tuple, self.X[i, there].tolist())), answer=int(self.answer[i]),
            output=f"whether class {int(self.answer[i])} is answered", baseline=self.hidden_by, method="TimeX",
            meaning="probability that the mask keeps it", fidelity=None, random_state=self.random_state,
        )  # fmt: skip

    def group(self, landmark: int) -> _INT:
        """Positions of the series whose landmark it is, those nearest their group's mean embedding first."""
        found = np.flatnonzero(self.landmark_id == landmark)
        if not len(found):
            raise InvalidData(f"no series here has landmark {landmark}; there are {sorted(set(self.landmark_id.tolist()))}")
        unit = self.embedding[found] / np.maximum(np.linalg.norm(self.embedding[found], axis=1, keepdims=True), _TINY)
        return found[np.argsort(-(unit @ unit.mean(axis=0)), kind="stable")]


@dataclass(frozen=True)
class TimeXFidelity:
    """How well an explainer stands in for the classifier, on series that neither its fit nor its selection saw.

    Good maps do not make a good stand-in: look at both.

    Attributes
    ----------
    agreement : Fidelity
        Share of series where the explainer's label head says what the classifier says.
    head_agreement : Fidelity or None
        Share where the classifier's own head, on the explainer's embedding, does; None without a head.
    per_class : dict of int to Fidelity
        Agreement on the series of each class answered by the classifier; classes with fewer than two are left out.
    relation_gap, landmark_gap : Fidelity
        Mean squared gap of cosines between pairs of series, in the classifier's embedding and the explainer's, or that of the
        landmarks in its place.
    label_gap : Fidelity
        The same for Jensen-Shannon divergences between answers, in nats squared.
    rivals : dict of str to Fidelity
        Agreement of a constant and of the nearest neighbour (raw series, labelled by the classifier), and the relation gap of
        raw series.
    """

    agreement: Fidelity
    head_agreement: Fidelity | None
    per_class: dict[int, Fidelity]
    relation_gap: Fidelity
    landmark_gap: Fidelity
    label_gap: Fidelity
    rivals: dict[str, Fidelity]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready values."""
        alone = ("agreement", "head_agreement", "relation_gap", "landmark_gap", "label_gap")
        found = {name: getattr(self, name) for name in alone}
        return {
            **{name: None if one is None else one.to_dict() for name, one in found.items()},
            "per_class": {str(label): one.to_dict() for label, one in self.per_class.items()},
            "rivals": {name: one.to_dict() for name, one in self.rivals.items()},
        }

    def text(self) -> str:
        """One line a figure."""
        lines = [f"label head: {self.agreement}"]
        if self.head_agreement is not None:
            lines.append(f"classifier's head on the embedding: {self.head_agreement}")
        lines += [f"label head, class {c}: {found}" for c, found in self.per_class.items()]
        lines += [str(self.relation_gap), str(self.landmark_gap), str(self.label_gap)]
        return "\n".join(lines + [f"beside it, {name}: {found}" for name, found in self.rivals.items()])

    def __str__(self) -> str:
        return self.text()


# ---------------------------------------------------------------------- measuring
def agreement(truth: Any, said: Any) -> Fidelity:
    """Share of equal labels, with an exact binomial interval."""
    return measure("agreement").fidelity(np.asarray(truth), np.asarray(said), region="series given", how="series")


def gaps(name: str, one: Any, other: Any, kind: str, random_state: int) -> Fidelity:
    """Mean squared gap over pairs of series, between cosines of embeddings or divergences of probabilities.

    The interval is over series, each with its mean over all others.
    """
    matrix = {"cosine": _cosines, "divergence": _divergences}[kind]
    n = len(one)
    each = np.empty(n)
    for start in range(0, n, _ROWS):
        rows = np.arange(start, min(start + _ROWS, n))
        found = (matrix(one[rows], one) - matrix(other[rows], other)) ** 2
        found[np.arange(len(rows)), rows] = 0.0
        each[rows] = found.sum(axis=1) / (n - 1)
    return mean_fidelity(name, each, random_state=random_state, greater_is_better=False)


def _cosines(one: _FLOAT, other: _FLOAT) -> _FLOAT:
    first, second = (z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12) for z in (one, other))
    return first @ second.T


def _divergences(one: _FLOAT, other: _FLOAT) -> _FLOAT:
    p, q = one[:, None] + _TINY, other[None] + _TINY
    middle = np.log((p + q) / 2)
    return ((p * (np.log(p) - middle)).sum(axis=-1) + (q * (np.log(q) - middle)).sum(axis=-1)) / 2
