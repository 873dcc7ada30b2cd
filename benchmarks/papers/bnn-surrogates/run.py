"""Bayesian networks in the Gaussian process's place: which wins where, and how far each can be trusted.

    python benchmarks/papers/bnn-surrogates/run.py [--quick] [--seed N] [--json]

Seven surrogates of the study, and two Gaussian processes (priors of BoTorch as of 2023, which the study had, and priors that
grow with dimension), on seven objectives: two formulas, 25 five-way choices, two tables of real trainings, a polynomial of 200
and a network of 400 variables. All start from the same ten points; then batches of ten by parallel expected improvement with
128 samples. Smaller than the study, for one core: 60 evaluations instead of about 100, hidden layers of 64, HMC of 100 + 100
proposals, three seeds, and variances chosen once, after the first points. Runs that are done are kept in
~/.cache/locum/bnn-surrogates, and a run that was stopped goes on from there; delete the folder to start over.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sklearn.base import clone

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, Kept, main

sys.path.insert(0, str(Path(__file__).resolve().parent))
from locum.core.bounds import binomial
from locum.optimize import GaussianProcess, Optimizer, ParallelExpectedImprovement, Surrogate
from locum.optimize.bnn_surrogates import (
    DeepEnsemble,
    DeepKernelProcess,
    HamiltonianNetwork,
    InfiniteWidthProcess,
    LaplaceNetwork,
    StochasticGradientHamiltonianNetwork,
)
from problems import Problem, problems, protein

FIRST, BATCH = 10, 10


class GaussianProcess2023(Surrogate):
    """A process with the priors of BoTorch 0.8: gamma, whatever the number of columns."""

    def _make(self, rows: Any, values: Any, *gradients: Any) -> Any:
        import torch
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Standardize
        from gpytorch.constraints import GreaterThan
        from gpytorch.kernels import MaternKernel, ScaleKernel
        from gpytorch.likelihoods import GaussianLikelihood
        from gpytorch.mlls import ExactMarginalLogLikelihood
        from gpytorch.priors import GammaPrior

        base = MaternKernel(nu=2.5, ard_num_dims=rows.shape[1], lengthscale_prior=GammaPrior(3.0, 6.0))
        likelihood = GaussianLikelihood(noise_prior=GammaPrior(1.1, 0.05), noise_constraint=GreaterThan(1e-4))
        model = SingleTaskGP(
            torch.as_tensor(rows), torch.as_tensor(values)[:, None], likelihood=likelihood,
            covar_module=ScaleKernel(base, outputscale_prior=GammaPrior(2.0, 0.15)), outcome_transform=Standardize(1),
        )  # fmt: skip
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        return (model,)


def surrogates(quick: bool) -> dict[str, Callable[[Problem], Surrogate]]:
    """By name, for a problem: the study chooses some settings by the number of variables."""
    few = {"burn": 30, "samples": 30} if quick else {"burn": 100, "samples": 100}
    made: dict[str, Callable[[Problem], Surrogate]] = {
        "GP, priors of 2023": lambda p: GaussianProcess2023(),
        "GP": lambda p: GaussianProcess(),
        "I-BNN": lambda p: InfiniteWidthProcess(offset_var=1.6 if p.wide else 1.3),
        "DKL": lambda p: DeepKernelProcess(pretrain=300, steps=300, learning_rate=1e-4 if p.wide else 1e-3),
        "LLA": lambda p: LaplaceNetwork(steps=500),
        "ensemble": lambda p: DeepEnsemble(steps=500, learning_rate=3e-3),
        "HMC": lambda p: HamiltonianNetwork(**few, step_size=0.002 if p.wide else 0.02),
        "SGHMC": lambda p: StochasticGradientHamiltonianNetwork(steps=1500, burn=750),
    }
    return {name: made[name] for name in ("GP", "I-BNN", "ensemble", "HMC", "SGHMC")} if quick else made


def best(problem: Problem, make: Callable[[Problem], Surrogate] | None, seed: int, budget: int) -> float:
    """The best value after all evaluations; by random points where there is no surrogate."""
    first = problem.space.sobol(FIRST, seed)
    if make is None:
        points = [*first, *problem.space.sample(budget - FIRST, np.random.default_rng([seed, 3]))]
        return max(map(problem.answer, points))
    surrogate = make(problem)
    values = [problem.answer(point) for point in first]
    if "prior_var" in surrogate.get_params() and surrogate.prior_var == "grid":
        chosen = clone(surrogate).fit(problem.space.encode(first), values)
        surrogate.set_params(prior_var=chosen.prior_var_, noise_var=chosen.noise_var_)
    acquisition = ParallelExpectedImprovement(128)
    acquisition.tries = 128  # type: ignore[misc]  # each costs a pass of all networks
    # The study has no transform of values.
    optimizer = Optimizer(
        problem.space, surrogate, acquisition, direction="maximize", initial=FIRST, warp=None, random_state=seed
    )
    optimizer.tell(first, values)
    while len(optimizer.points) < budget:
        points = optimizer.ask(BATCH)
        optimizer.tell(points, [problem.answer(point) for point in points])
    return max(optimizer.values)


def runs(quick: bool, seed: int, seeds: int) -> dict[tuple[str, str, int], float]:
    """Best value of each problem, surrogate and seed; those done before are read."""
    budget = 20 if quick else 60
    kept = Kept("bnn-surrogates", quick, [budget, BATCH])
    names: dict[str, Any] = {"random": None, **surrogates(quick)}
    return {
        (problem.name, name, s): kept([problem.name, name, s], partial(best, problem, make, s, budget))
        for s in range(seed, seed + seeds)
        for problem in problems(quick)
        for name, make in names.items()
    }


# ---------------------------------------------------------------------- calibration
def calibration(quick: bool, seed: int) -> Iterator[Claim]:
    """Coverage of 90 % intervals on rows held out, of real tables."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    low, high = X.min(axis=0), X.max(axis=0)
    tables = {"diabetes": ((X - low) / (high - low), y)}
    if not quick:
        bench = protein()
        points = bench.space.sample(200, np.random.default_rng(seed))
        tables["protein structure"] = (bench.space.encode(points), np.array([bench.answer(point) for point in points]))
    for table, (rows, values) in tables.items():
        for name, make in surrogates(quick).items():
            hits, scores = [], []
            for split in range(1 if quick else 3):
                order = np.random.default_rng([seed, split]).permutation(len(rows))[:200]
                train, test = order[40:], order[:40]
                fitted = make(problems(True)[0]).fit(rows[train], values[train])
                mean, sd = fitted.predict(rows[test], return_std=True)
                hits += (np.abs(values[test] - mean) <= stats.norm.isf(0.05) * sd).tolist()
                scores += stats.norm.logpdf(values[test], mean, np.maximum(sd, 1e-12)).tolist()
            ends = binomial(int(sum(hits)), len(hits))
            yield Claim(
                f"{name}: intervals of 90 % on {table}", "coverage on rows held out", float(np.mean(hits)), ends.lower,
                ends.upper, len(hits), "greater", 0.85, "effect", needed=False,
                details={"negative log likelihood": -float(np.mean(scores))},
            )  # fmt: skip


# ---------------------------------------------------------------------- what is claimed
def resampled(table: np.ndarray, read: Callable[[np.ndarray], float], draws: int = 2000) -> tuple[float, float, float]:
    """A figure of a table (problems, surrogates, seeds), and its interval over seeds drawn anew within each problem."""
    rng, n = np.random.default_rng(0), table.shape[2]
    found = []
    for _ in range(draws):
        some = rng.integers(n, size=(table.shape[0], 1, n))
        found.append(read(np.take_along_axis(table, np.broadcast_to(some, table.shape), axis=2)))
    lower, upper = np.quantile(found, [0.025, 0.975])
    value = read(table)
    return value, min(float(lower), value), max(float(upper), value)


def ranked(table: np.ndarray) -> np.ndarray:
    """Mean rank of each surrogate, 1 for the best, over problems and seeds."""
    return np.asarray(stats.rankdata(-table, axis=1).mean(axis=(0, 2)))


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    seeds = 2 if quick else 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = runs(quick, seed, seeds)
        calibrated = list(calibration(quick, seed))
    names = ["random", *surrogates(quick)]
    tasks = [one.name for one in problems(quick)]
    table = np.array([[[found[(p, n, s)] for s in range(seed, seed + seeds)] for n in names] for p in tasks])
    study = [i for i, name in enumerate(names) if name not in ("random", "GP")]  # the surrogates that the study had
    told = {p: {n: table[i, j].mean() for j, n in enumerate(names)} for i, p in enumerate(tasks)}
    ranks = ranked(table)

    def winners(t: np.ndarray) -> float:
        return float(len(set(t[:, study].mean(axis=2).argmax(axis=1).tolist())))

    value, lower, upper = resampled(table, winners)
    yield Claim(
        "no surrogate wins everywhere", "surrogates that are first on some problem", value, lower, upper, seeds, "greater", 1.5,
        "effect", details={"mean best value": told, "mean rank": dict(zip(names, ranks.tolist(), strict=True))},
    )  # fmt: skip
    for j, name in enumerate(names[1:], start=1):

        def wins(t: np.ndarray, j: int = j) -> float:
            return float((t[:, j].mean(axis=1) > t[:, 0].mean(axis=1)).sum())

        value, lower, upper = resampled(table, wins)
        yield Claim(
            f"{name} beats random points", f"problems of {len(tasks)} on which its mean best value is higher", value, lower,
            upper, seeds, "greater", 0.5 if quick else 4.5, "effect",
        )  # fmt: skip
    for other in ("SGHMC", "ensemble"):

        def behind(t: np.ndarray, a: int = names.index(other), b: int = names.index("HMC")) -> float:
            each = ranked(t)
            return float(each[a] - each[b])

        value, lower, upper = resampled(table, behind)
        yield Claim(f"HMC is ahead of {other}", f"mean rank of {other} less that of HMC", value, lower, upper, seeds)
    at = tasks.index("network, 400") if not quick else len(tasks) - 1
    for name in ("GP, priors of 2023", "GP") if not quick else ("GP",):
        gap = table[at, names.index("I-BNN")] - table[at, names.index(name)]
        error = float(gap.std(ddof=1) / np.sqrt(seeds)) or 1e-12
        mean = float(gap.mean())
        yield Claim(
            f"infinite width is ahead of {name} with hundreds of variables",
            "best value on the network, I-BNN less the process; one standard error", mean, mean - error, mean + error, seeds,
            needed=name != "GP" or quick, level=0.68,
        )  # fmt: skip
    yield from calibrated


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
