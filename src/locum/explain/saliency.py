"""How good a saliency map is: against planted truth, by what the model loses, and whether it needs the model at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from locum.core.errors import InvalidData, need, require_whole
from locum.core.fidelity import Fidelity
from locum.explain.replacement import Baseline, replaced
from locum.explain.units import mean_fidelity

if TYPE_CHECKING:
    import torch

__all__ = [
    "SaliencyTruth",
    "OcclusionCurve",
    "RandomisationCheck",
    "saliency_against_truth",
    "occlusion_curve",
    "deletion_curve",
    "infidelity",
    "max_sensitivity",
    "randomisation_check",
]

_FLOAT = NDArray[np.float64]
_Predict = Callable[[_FLOAT], ArrayLike]
KEPT = (0.25, 0.2, 0.15, 0.1, 0.075, 0.05, 0.025, 0.01)


# ---------------------------------------------------------------------- planted truth
@dataclass(frozen=True)
class SaliencyTruth:
    """How well maps find the parts that are known to matter; each a mean over samples, in [0, 1].

    Attributes
    ----------
    auprc : Fidelity
        Average precision of each map as a ranking.
    aup, aur : Fidelity
        Area under precision, and under recall, against the threshold, each map scaled to [0, 1].
    iou : Fidelity
        Intersection over union of the truth and the map's largest tenth.
    prevalence : float
        Mean share of parts that matter: what a map at random has for auprc.
    """

    auprc: Fidelity
    aup: Fidelity
    aur: Fidelity
    iou: Fidelity
    prevalence: float

    def __str__(self) -> str:
        lines = [str(getattr(self, name)) for name in ("auprc", "aup", "aur", "iou")]
        return "\n".join([*lines, f"a map at random has an auprc of about {self.prevalence:.3f}"])


def saliency_against_truth(saliency: ArrayLike, truth: ArrayLike, *, random_state: int = 0) -> SaliencyTruth:
    """Compare maps with the parts that are known to matter, sample by sample.

    Parameters
    ----------
    saliency : array-like of shape (n, ...)
        Larger matters more; give absolute values where the sign says in which direction.
    truth : array-like of bool of that shape
        Samples in which no part matters, or every one, are left out.
    random_state : int, default=0

    Returns
    -------
    SaliencyTruth

    Raises
    ------
    InvalidData
        Shapes that differ, maps that are not finite, or fewer than two samples with a truth.

    Notes
    -----
    Cost: O(n · parts · log(parts)). A map that is the same everywhere counts as one at random, with a warning. AUP and AUR
    depend on the scale of a map; AUPRC does not. Reference: Crabbé and van der Schaar, arXiv 2106.05303, for AUP and AUR.
    """
    maps, real = _pair(saliency, truth)
    told = (real.any(axis=1)) & (~real.all(axis=1))
    if told.sum() < 2:
        raise InvalidData(f"expected two or more samples in which some parts matter and some do not, got {int(told.sum())}")
    maps, real = maps[told], real[told]
    flat = np.ptp(maps, axis=1) <= 0
    if flat.any():
        warnings.warn(f"{int(flat.sum())} of {len(flat)} maps are the same everywhere, which counts as random", stacklevel=2)
    each = np.array([_against(one, mine) for one, mine in zip(maps, real, strict=True)])
    names = ("auprc", "aup", "aur", "iou")
    found = {name: mean_fidelity(name, column, random_state=random_state) for name, column in zip(names, each.T, strict=True)}
    return SaliencyTruth(**found, prevalence=float(real.mean()))


def _against(values: _FLOAT, truth: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    span = np.ptp(values)
    if span <= 0:
        # Any threshold keeps all or nothing: precision is the prevalence, and half of all thresholds keep all.
        share = float(truth.mean())
        return share, share, 0.5, share / (1 + 9 * share)
    scaled = (values - values.min()) / span
    precision, recall, threshold = precision_recall_curve(truth, scaled)
    top = scaled >= np.quantile(scaled, 0.9)
    iou = (top & truth).sum() / (top | truth).sum()
    return (
        float(average_precision_score(truth, scaled)),
        _area(threshold, precision[:-1]),
        _area(threshold, recall[:-1]),
        float(iou),
    )


def _area(threshold: _FLOAT, values: _FLOAT) -> float:
    """Under a curve that a threshold in [0, 1] gives, which stays as it is up to the next value of the map."""
    return float(np.sum(values * np.diff(threshold, prepend=0.0)))


# ---------------------------------------------------------------------- what the model loses or keeps
@dataclass(frozen=True, eq=False)
class OcclusionCurve:
    """What a model still tells apart when all but the top of each map is replaced.

    Attributes
    ----------
    kept : tuple of float
        Share of parts kept.
    auroc : ndarray of shape (kept, draws)
        Area under the receiver operating curve, classes against the others, on average.
    baseline : str
    """

    kept: tuple[float, ...]
    auroc: _FLOAT
    baseline: str

    @property
    def mean(self) -> float:
        """Mean over shares kept and draws."""
        return float(self.auroc.mean())

    def __str__(self) -> str:
        points = ", ".join(f"{k:.3g}: {a:.3f}" for k, a in zip(self.kept, self.auroc.mean(axis=1), strict=True))
        return f"AUROC by share kept, the rest from {self.baseline}: {points}"


def occlusion_curve(
    predict_proba: _Predict,
    X: ArrayLike,
    saliency: ArrayLike,
    y: ArrayLike,
    *,
    baseline: Baseline,
    keep: Sequence[float] = KEPT,
    draws: int = 5,
    random_state: int = 0,
) -> OcclusionCurve:
    """Keep the largest shares of each map, replace the rest, and see what the model still tells apart.

    Parameters
    ----------
    predict_proba : callable
        Inputs of shape (n, ...) to probabilities (n, classes).
    X, saliency : array-like of shape (n, ...)
    y : array-like of int of shape (n,)
        True classes, as positions of the probabilities.
    baseline : Baseline
        Fitted.
    keep : sequence of float, default=(0.25, 0.2, 0.15, 0.1, 0.075, 0.05, 0.025, 0.01)
        Shares of the parts.
    draws : int, default=5
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Shapes that differ, shares outside (0, 1], or one class only.

    Notes
    -----
    Cost: keep × draws × n predictions. Exactly that share is kept, the earlier part among equals.
    """
    rows, maps = _inputs(X, saliency)
    labels = np.asarray(y)
    if labels.shape != (len(rows),) or len(np.unique(labels)) < 2:
        raise InvalidData(f"expected a class for each of {len(rows)} inputs, and two or more of them, got {np.unique(labels)}")
    if not len(keep) or not all(0 < share <= 1 for share in keep):
        raise InvalidData(f"expected keep= of shares in (0, 1], got {tuple(keep)}")
    order = _order(maps)
    found = np.empty((len(keep), draws))
    for i, share in enumerate(keep):
        stays = _first(order, max(1, round(share * order.shape[1]))).reshape(rows.shape)
        for j, given in enumerate(replaced(rows, stays, baseline, draws=draws, random_state=random_state)):
            found[i, j] = _auroc(labels, np.asarray(predict_proba(given), dtype=float))
    return OcclusionCurve(tuple(map(float, keep)), found, baseline.name)


def _auroc(labels: NDArray[Any], P: _FLOAT) -> float:
    """Mean over the classes that occur of the area of each against the others."""
    return float(np.mean([roc_auc_score(labels == c, P[:, c]) for c in np.unique(labels)]))


def deletion_curve(
    predict_proba: _Predict,
    X: ArrayLike,
    saliency: ArrayLike,
    *,
    baseline: Baseline,
    steps: int = 10,
    insert: bool = False,
    draws: int = 1,
    random_state: int = 0,
) -> _FLOAT:
    """Probability of the class answered as the strongest parts are taken away first, or put in first.

    Parameters
    ----------
    predict_proba : callable
        Inputs of shape (n, ...) to probabilities (n, classes).
    X, saliency : array-like of shape (n, ...)
    baseline : Baseline
        Fitted.
    steps : int, default=10
    insert : bool, default=False
        Start from the baseline and put the strongest parts in, instead of taking them away.
    draws : int, default=1
    random_state : int, default=0

    Returns
    -------
    ndarray of shape (n, steps + 1)
        From nothing done to everything done; its mean over an axis is the area. A good map falls early (deletion) or rises
        early (insertion).

    Notes
    -----
    Cost: (steps + 1) × draws × n predictions. Reference: Petsiuk, Das and Saenko, arXiv 1806.07421.
    """
    rows, maps = _inputs(X, saliency)
    require_whole(1, steps=steps, draws=draws)
    had = np.asarray(predict_proba(rows), dtype=float)
    c = had.argmax(axis=1)
    order = _order(maps)
    found = np.zeros((len(rows), steps + 1))
    for step in range(steps + 1):
        done = _first(order, round(step * order.shape[1] / steps)).reshape(rows.shape)
        for given in replaced(rows, done if insert else ~done, baseline, draws=draws, random_state=random_state):
            found[:, step] += np.asarray(predict_proba(given), dtype=float)[np.arange(len(rows)), c] / draws
    return found


def infidelity(
    predict: _Predict, X: ArrayLike, saliency: ArrayLike, *, sd: float = 0.1, draws: int = 20, random_state: int = 0
) -> Fidelity:
    """Mean squared gap between what a map says a small change does and what it does.

    Parameters
    ----------
    predict : callable
        Inputs of shape (n, ...) to one number each, of shape (n,).
    X, saliency : array-like of shape (n, ...)
        The map is signed: how the number moves with each part.
    sd : float, default=0.1
        Of the normal changes.
    draws : int, default=20
    random_state : int, default=0

    Notes
    -----
    Cost: draws × n predictions. Each sample's changes are rescaled by the best factor for it before the gap is taken, so the
    unit of a map does not matter; the gap is divided by the variance of what the changes do: 0 for a map that foretells them
    all, 1 for one that foretells nothing. Reference: Yeh et al., arXiv 1901.09392, equation 2 and the scaling of section 2.
    """
    rows, maps = _inputs(X, saliency)
    require_whole(2, draws=draws)
    rng = np.random.default_rng(random_state)
    start = np.asarray(predict(rows), dtype=float)
    did, said = np.empty((2, draws, len(rows)))
    for i in range(draws):
        change = rng.normal(scale=sd, size=rows.shape)
        did[i] = np.asarray(predict(rows + change), dtype=float) - start
        said[i] = (change * maps).reshape(len(rows), -1).sum(axis=1)
    power = (said**2).sum(axis=0)
    factor = np.divide((said * did).sum(axis=0), power, out=np.zeros_like(power), where=power > 0)
    gap, size = ((did - factor * said) ** 2).sum(axis=0), (did**2).sum(axis=0)
    each = np.divide(gap, size, out=np.zeros_like(gap), where=size > 0)
    return mean_fidelity("infidelity", each, random_state=random_state, greater_is_better=False)


def max_sensitivity(
    explain: Callable[[_FLOAT], ArrayLike], X: ArrayLike, *, radius: float = 0.02, draws: int = 5, random_state: int = 0
) -> Fidelity:
    """Largest relative change of a map under changes of the input that are too small to matter.

    Parameters
    ----------
    explain : callable
        Inputs of shape (n, ...) to maps of that shape.
    X : array-like of shape (n, ...)
    radius : float, default=0.02
        Each part moves by at most that.
    draws : int, default=5
    random_state : int, default=0

    Notes
    -----
    Cost: (draws + 1) × n explanations. Reference: Yeh et al., arXiv 1901.09392, equation 4.
    """
    rows = np.asarray(X, dtype=float)
    require_whole(1, draws=draws)
    rng = np.random.default_rng(random_state)
    first = _flat(explain(rows), rows)
    size = np.linalg.norm(first, axis=1)
    moved = np.zeros(len(rows))
    for _ in range(draws):
        found = _flat(explain(rows + rng.uniform(-radius, radius, size=rows.shape)), rows)
        moved = np.maximum(moved, np.linalg.norm(found - first, axis=1))
    each = np.divide(moved, size, out=moved.copy(), where=size > 0)
    return mean_fidelity("largest relative change", each, random_state=random_state, greater_is_better=False)


# ---------------------------------------------------------------------- whether the map needs the model
@dataclass(frozen=True)
class RandomisationCheck:
    """How alike maps are to those of the same network with weights at random; a map that reads the network is not.

    Attributes
    ----------
    layers : tuple of str
        Made random one after the other, from the output down: each line has all before it random as well.
    correlation : tuple of Fidelity
        Spearman's correlation of absolute values with the maps of the trained network, mean over samples.
    """

    layers: tuple[str, ...]
    correlation: tuple[Fidelity, ...]

    @property
    def last(self) -> Fidelity:
        """With every layer random."""
        return self.correlation[-1]

    def __str__(self) -> str:
        return "\n".join(f"down to {name}: {found}" for name, found in zip(self.layers, self.correlation, strict=True))


def randomisation_check(
    explain: Callable[[torch.nn.Module, _FLOAT], ArrayLike], module: torch.nn.Module, X: ArrayLike, *, random_state: int = 0
) -> RandomisationCheck:
    """Give a copy of a network random weights, layer by layer from the output, and see whether its maps change.

    Parameters
    ----------
    explain : callable
        ``explain(module, X)`` gives maps of shape (n, ...).
    module : torch.nn.Module
        Is left as it is.
    X : array-like of shape (n, ...)
    random_state : int, default=0

    Raises
    ------
    InvalidData
        A network without layers that can be drawn anew.

    Notes
    -----
    Cost: one explanation of X for each layer with weights. Reference: Adebayo et al., arXiv 1810.03292 (cascading
    randomisation).
    """
    import copy

    from locum.nets import seeded

    rows = np.asarray(X, dtype=float)
    need("torch", "drawing the weights of a network anew", "nets")
    other = copy.deepcopy(module)
    layers = [
        (name, part)
        for name, part in other.named_modules()
        if hasattr(part, "reset_parameters") and any(True for _ in part.parameters(recurse=False))
    ][::-1]
    if not layers:
        raise InvalidData("no layer of this network can be drawn anew (none has reset_parameters)")
    first = np.abs(_flat(explain(module, rows), rows))
    found = []
    for i, (_, part) in enumerate(layers):
        with seeded(random_state + i):
            part.reset_parameters()
        alike = _alike(first, np.abs(_flat(explain(other, rows), rows)))
        found.append(mean_fidelity("rank correlation", alike, random_state=random_state, greater_is_better=False))
    return RandomisationCheck(tuple(name for name, _ in layers), tuple(found))


def _alike(one: _FLOAT, other: _FLOAT) -> _FLOAT:
    """Spearman's correlation of each row; 0 where a map is the same everywhere."""
    ranks = [stats.rankdata(values, axis=1) for values in (one, other)]
    a, b = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    size = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), size, out=np.zeros(len(a)), where=size > 0)


# ---------------------------------------------------------------------- arrays
def _pair(saliency: ArrayLike, truth: ArrayLike) -> tuple[_FLOAT, NDArray[np.bool_]]:
    maps, real = np.asarray(saliency, dtype=float), np.asarray(truth)
    if maps.shape != real.shape or maps.ndim < 2:
        raise InvalidData(f"expected maps and truth of one shape (n, ...), got {maps.shape} and {real.shape}")
    if not np.isfinite(maps).all() or not np.isin(real, (0, 1)).all():
        raise InvalidData("expected finite maps, and a truth of bools")
    return maps.reshape(len(maps), -1), real.astype(bool).reshape(len(maps), -1)


def _inputs(X: ArrayLike, saliency: ArrayLike) -> tuple[_FLOAT, _FLOAT]:
    rows, maps = np.asarray(X, dtype=float), np.asarray(saliency, dtype=float)
    if rows.shape != maps.shape or rows.ndim < 2 or not len(rows):
        raise InvalidData(f"expected inputs and maps of one shape (n, ...), got {rows.shape} and {maps.shape}")
    if not (np.isfinite(rows).all() and np.isfinite(maps).all()):
        raise InvalidData("expected finite inputs and maps, got NaN or infinity")
    return rows, maps


def _flat(maps: ArrayLike, rows: _FLOAT) -> _FLOAT:
    found = np.asarray(maps, dtype=float)
    if len(found) != len(rows) or not np.isfinite(found).all():
        raise InvalidData(f"expected one finite map for each of {len(rows)} inputs, got shape {found.shape}")
    return found.reshape(len(found), -1)


def _order(maps: _FLOAT) -> NDArray[np.intp]:
    return np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")


def _first(order: NDArray[np.intp], k: int) -> NDArray[np.bool_]:
    found = np.zeros(order.shape, dtype=bool)
    np.put_along_axis(found, order[:, :k], True, axis=1)
    return found
