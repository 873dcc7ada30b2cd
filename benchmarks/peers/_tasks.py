"""Real tasks for the comparison of optimisers: engineering design with constraints, and tuning of models on real data.

Each takes a point of the box [-5, 5]^d, as the functions of BBOB do, and gives a number to be minimised. Limits of a design
count as log(1 + 10 violation), each violation a share of what is allowed, on top of the logarithm of its cost: so steep that
no design gains by breaking one. A model is judged
by its loss in cross-validation over folds that do not change. Needs numpy and scikit-learn alone, whatever the environment.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

__all__ = ["ENGINEERING", "HIGH", "LOW", "TUNING", "task"]

LOW, HIGH = -5.0, 5.0
Bounds = list[tuple[float, float]]


# ---------------------------------------------------------------------- engineering: cost, and limits that are at most 0
def welded_beam(x: np.ndarray) -> tuple[float, list[float]]:
    """Cost of a beam and its weld: height and length of the weld, height and width of the beam (Rao, 1996)."""
    h, length, t, b = x
    load, reach, modulus, shear = 6000.0, 14.0, 30e6, 12e6
    direct = load / (np.sqrt(2) * h * length)
    arm = np.hypot(length / 2, (h + t) / 2)
    inertia = 2 * np.sqrt(2) * h * length * (length**2 / 12 + ((h + t) / 2) ** 2)
    turning = load * (reach + length / 2) * arm / inertia
    stress = np.sqrt(direct**2 + direct * turning * length / arm + turning**2)
    buckling = 4.013 * modulus * t * b**3 / (6 * reach**2) * (1 - t / (2 * reach) * np.sqrt(modulus / (4 * shear)))
    sigma, deflection = 6 * load * reach / (b * t**2), 4 * load * reach**3 / (modulus * t**3 * b)
    limits = [stress / 13600 - 1, sigma / 30000 - 1, h / b - 1, deflection / 0.25 - 1, load / max(buckling, 1.0) - 1]
    return 1.10471 * h**2 * length + 0.04811 * t * b * (14 + length), limits


def pressure_vessel(x: np.ndarray) -> tuple[float, list[float]]:
    """Cost of a vessel: thickness of shell and head, in steps of 1/16, its radius and length (Sandgren, 1990)."""
    shell, head = np.round(x[0] / 0.0625) * 0.0625, np.round(x[1] / 0.0625) * 0.0625
    r, length = x[2], x[3]
    cost = 0.6224 * shell * r * length + 1.7781 * head * r**2 + 3.1661 * shell**2 * length + 19.84 * shell**2 * r
    volume = np.pi * r**2 * length + 4 / 3 * np.pi * r**3
    return cost, [0.0193 * r / shell - 1, 0.00954 * r / head - 1, 1296000 / volume - 1]


def spring(x: np.ndarray) -> tuple[float, list[float]]:
    """Weight of a spring under tension: diameter of wire and coil, number of coils (Arora, 1989)."""
    wire, coil, n = x
    bent = (4 * coil**2 - wire * coil) / (12566 * (coil * wire**3 - wire**4)) + 1 / (5108 * wire**2)
    limits = [1 - coil**3 * n / (71785 * wire**4), bent - 1, 1 - 140.45 * wire / (coil**2 * n), (wire + coil) / 1.5 - 1]
    return (n + 2) * coil * wire**2, limits


def speed_reducer(x: np.ndarray) -> tuple[float, list[float]]:
    """Weight of a gear box: face, module, teeth, lengths and diameters of two shafts (Golinski, 1970)."""
    b, m, z, l1, l2, d1, d2 = (*x[:2], np.round(x[2]), *x[3:])
    cost = 0.7854 * b * m**2 * (3.3333 * z**2 + 14.9334 * z - 43.0934) - 1.508 * b * (d1**2 + d2**2)
    cost += 7.4777 * (d1**3 + d2**3) + 0.7854 * (l1 * d1**2 + l2 * d2**2)
    first = np.sqrt((745 * l1 / (m * z)) ** 2 + 16.9e6) / (110 * d1**3)
    second = np.sqrt((745 * l2 / (m * z)) ** 2 + 157.5e6) / (85 * d2**3)
    limits = [
        27 / (b * m**2 * z) - 1, 397.5 / (b * m**2 * z**2) - 1, 1.93 * l1**3 / (m * z * d1**4) - 1,
        1.93 * l2**3 / (m * z * d2**4) - 1, first - 1, second - 1, m * z / 40 - 1, 5 * m / b - 1, b / (12 * m) - 1,
        (1.5 * d1 + 1.9) / l1 - 1, (1.1 * d2 + 1.9) / l2 - 1,
    ]  # fmt: skip
    return cost, limits


def stepped_cantilever(x: np.ndarray) -> tuple[float, list[float]]:
    """Weight of a beam of five hollow blocks, by their heights (Fleury and Braibant, 1986)."""
    return 0.0624 * float(np.sum(x)), [float(np.sum(np.array([61.0, 37.0, 19.0, 7.0, 1.0]) / x**3)) - 1]


ENGINEERING: dict[str, tuple[Bounds, Callable[[np.ndarray], tuple[float, list[float]]]]] = {
    "welded beam": ([(0.1, 2.0), (0.1, 10.0), (0.1, 10.0), (0.1, 2.0)], welded_beam),
    "pressure vessel": ([(0.0625, 6.1875), (0.0625, 6.1875), (10.0, 200.0), (10.0, 200.0)], pressure_vessel),
    "spring": ([(0.05, 2.0), (0.25, 1.3), (2.0, 15.0)], spring),
    "speed reducer": (
        [(2.6, 3.6), (0.7, 0.8), (17.0, 28.0), (7.3, 8.3), (7.3, 8.3), (2.9, 3.9), (5.0, 5.5)], speed_reducer,
    ),
    "stepped cantilever": ([(0.01, 100.0)] * 5, stepped_cantilever),
}  # fmt: skip


# ---------------------------------------------------------------------- tuning: a model of settings, data, and a loss
def _support(c: float, gamma: float) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(C=10**c, gamma=10**gamma))


def _kernel_ridge(alpha: float, gamma: float) -> Any:
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), KernelRidge(kernel="rbf", alpha=10**alpha, gamma=10**gamma))


def _boosting(kind: str, rate: float, leaves: float, least: float, l2: float, share: float) -> Any:
    import sklearn.ensemble as ensembles

    return getattr(ensembles, kind)(
        max_iter=60, learning_rate=10**rate, max_leaf_nodes=round(leaves), min_samples_leaf=round(least),
        l2_regularization=10**l2, max_features=share, early_stopping=False, random_state=0,
    )  # fmt: skip


def _network(alpha: float, rate: float, width: float, batch: float) -> Any:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPClassifier(
        (round(2**width),), alpha=10**alpha, learning_rate_init=10**rate, batch_size=round(2**batch), max_iter=15,
        random_state=0,
    )  # fmt: skip
    return make_pipeline(StandardScaler(), network)


_BOOSTED: Bounds = [(-3.0, 0.0), (2.0, 64.0), (1.0, 80.0), (-6.0, 2.0), (0.1, 1.0)]
# Data of scikit-learn, the score, the settings' ranges, and the model.
TUNING: dict[str, tuple[str, str, Bounds, Callable[..., Any]]] = {
    "support vectors, digits": ("digits", "accuracy", [(-3.0, 4.0), (-6.0, 1.0)], _support),
    "kernel ridge, diabetes": ("diabetes", "neg_mean_squared_error", [(-6.0, 3.0), (-5.0, 1.0)], _kernel_ridge),
    "boosting, breast cancer": (
        "breast_cancer", "neg_log_loss", _BOOSTED, lambda *x: _boosting("HistGradientBoostingClassifier", *x),
    ),
    "boosting, diabetes": (
        "diabetes", "neg_mean_squared_error", _BOOSTED, lambda *x: _boosting("HistGradientBoostingRegressor", *x),
    ),
    "network, digits": ("digits", "neg_log_loss", [(-7.0, 1.0), (-4.5, -0.5), (3.0, 7.0), (4.0, 9.0)], _network),
}  # fmt: skip


@cache
def _data(name: str) -> tuple[np.ndarray, np.ndarray]:
    import sklearn.datasets

    X, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    some = np.random.default_rng(0).permutation(len(y))[:600]
    return X[some], y[some]


def _loss(name: str, x: np.ndarray) -> float:
    import warnings

    from sklearn.model_selection import cross_val_score

    data, scoring, _, model = TUNING[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = cross_val_score(model(*x), *_data(data), scoring=scoring, cv=3, error_score=np.nan)
    loss = -float(np.mean(scores))
    return loss if np.isfinite(loss) else 1e3


def _cost(name: str, x: np.ndarray) -> float:
    cost, limits = ENGINEERING[name][1](x)
    return float(np.log(cost) + np.sum(np.log1p(10 * np.clip(limits, 0.0, 1e12))))


def task(name: str) -> tuple[int, Callable[[np.ndarray], float]]:
    """Its number of parameters, and what is minimised over the box."""
    bounds = np.array(ENGINEERING[name][0] if name in ENGINEERING else TUNING[name][2])
    value = _cost if name in ENGINEERING else _loss

    def minimised(x: np.ndarray) -> float:
        share = (np.asarray(x, dtype=float) - LOW) / (HIGH - LOW)
        return value(name, bounds[:, 0] + share * (bounds[:, 1] - bounds[:, 0]))

    return len(bounds), minimised
