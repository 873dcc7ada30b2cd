"""Runs one optimiser on functions of BBOB or on real tasks, in its own environment: cells in, values out, a line each.

In, on standard input: JSON lines {"function", "dimension", "seed", "budget"}; a number is a function of BBOB, whose instance is
seed + 1, and a name one of ``_tasks``. Out: the same with ``values``, what each evaluation gave, in their order, above the
optimum for BBOB, and ``seconds`` in all.

With {"dimension", "seed", "told", "ask"} instead, the optimiser is told that many random points, and the seconds for each of
``ask`` suggestions after it are given as ``suggested``.

    python _optimizers.py NAME < CELLS
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from _tasks import HIGH, LOW, task

Objective = Callable[[np.ndarray], float]


def first(d: int) -> int:
    """Points before a surrogate is used, for all that let one say so: two a parameter, and two."""
    return 2 * (d + 1)


def bbob(function: int, d: int, instance: int) -> Objective:
    """Above the optimum."""
    import ioh

    found = ioh.get_problem(function, instance=instance, dimension=d, problem_class=ioh.ProblemClass.BBOB)
    return lambda x: float(found(np.asarray(x, dtype=float).tolist()) - found.optimum.y)


# ---------------------------------------------------------------------- optimisers: each gives ask and tell
class Random:
    """Points at random."""

    def __init__(self, d: int, seed: int, budget: int) -> None:
        self.d, self.rng = d, np.random.default_rng(seed)

    def ask(self) -> np.ndarray:
        return self.rng.uniform(LOW, HIGH, self.d)

    def tell(self, x: np.ndarray, y: float) -> None:
        """Nothing is learnt."""


class Sobol(Random):
    """A scrambled Sobol sequence."""

    def __init__(self, d: int, seed: int, budget: int) -> None:
        from scipy.stats import qmc

        self.points = iter(LOW + (HIGH - LOW) * qmc.Sobol(d, rng=seed).random(2 ** int(np.ceil(np.log2(budget + 1)))))

    def ask(self) -> np.ndarray:
        return next(self.points)


class Locum:
    """The default `Optimizer`."""

    def __init__(self, d: int, seed: int, budget: int) -> None:
        from locum.optimize import Optimizer, Space

        self.optimizer = Optimizer(Space.box([(LOW, HIGH)] * d), self.surrogate(), direction="minimize", random_state=seed)
        self.asked: dict[bytes, Any] = {}

    def surrogate(self) -> Any:
        return None

    def ask(self) -> np.ndarray:
        (point,) = self.optimizer.ask()
        x = np.array(list(point.values()), dtype=float)
        self.asked[x.tobytes()] = point
        return x

    def tell(self, x: np.ndarray, y: float) -> None:
        names = self.optimizer.space.names
        self.optimizer.tell([self.asked.get(x.tobytes(), dict(zip(names, x.tolist(), strict=True)))], [y])


class LocumOne(Locum):
    """One process, of the columns as they are: the default of earlier runs."""

    def surrogate(self) -> Any:
        from locum.optimize import GaussianProcess

        return GaussianProcess()


class LocumWarped(Locum):
    """One process, of bent columns."""

    def surrogate(self) -> Any:
        from locum.optimize import GaussianProcess

        return GaussianProcess(input_warping=True)


class BoTorch:
    """Its single-task process and log expected improvement, as its documentation has them."""

    def __init__(self, d: int, seed: int, budget: int) -> None:
        import torch

        torch.manual_seed(seed)
        self.d, self.X, self.Y = d, [], []
        self.start = torch.quasirandom.SobolEngine(d, scramble=True, seed=seed).draw(first(d), dtype=torch.float64)

    def ask(self) -> np.ndarray:
        import torch
        from botorch.acquisition import LogExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Standardize
        from botorch.optim import optimize_acqf
        from gpytorch.mlls import ExactMarginalLogLikelihood

        if len(self.X) < len(self.start):
            return LOW + (HIGH - LOW) * self.start[len(self.X)].numpy()
        X, Y = torch.tensor(np.array(self.X)), -torch.tensor(np.array(self.Y))[:, None]
        model = SingleTaskGP(X, Y, outcome_transform=Standardize(m=1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        bounds = torch.stack([torch.zeros(self.d), torch.ones(self.d)]).double()
        acquisition = LogExpectedImprovement(model, best_f=Y.max())
        x, _ = optimize_acqf(acquisition, bounds=bounds, q=1, num_restarts=10, raw_samples=512)
        return LOW + (HIGH - LOW) * x[0].numpy()

    def tell(self, x: np.ndarray, y: float) -> None:
        self.X.append((x - LOW) / (HIGH - LOW))
        self.Y.append(y)


class Optuna:
    """One of its samplers."""

    def __init__(self, d: int, seed: int, budget: int, kind: str) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = getattr(optuna.samplers, kind)(seed=seed, n_startup_trials=first(d))
        self.space = {f"x{j}": optuna.distributions.FloatDistribution(LOW, HIGH) for j in range(d)}
        self.study, self.trial = optuna.create_study(sampler=sampler), None
        self.made = optuna.trial.create_trial

    def ask(self) -> np.ndarray:
        self.trial = self.study.ask(self.space)
        return np.array([self.trial.params[name] for name in self.space])

    def tell(self, x: np.ndarray, y: float) -> None:
        if self.trial is None:
            params = dict(zip(self.space, x.tolist(), strict=True))
            self.study.add_trial(self.made(params=params, distributions=self.space, value=y))
        else:
            self.study.tell(self.trial, y)
            self.trial = None


class OptunaGP(Optuna):
    """Its Gaussian process."""

    def __init__(self, d: int, seed: int, budget: int) -> None:
        super().__init__(d, seed, budget, "GPSampler")


class OptunaTPE(Optuna):
    """Its Parzen estimators."""

    def __init__(self, d: int, seed: int, budget: int) -> None:
        super().__init__(d, seed, budget, "TPESampler")


class Hebo:
    """HEBO, winner of a competition for black boxes."""

    def __init__(self, d: int, seed: int, budget: int) -> None:
        import torch
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers.hebo import HEBO

        np.random.seed(seed)  # noqa: NPY002 (it draws from there)
        torch.manual_seed(seed)
        space = DesignSpace().parse([{"name": f"x{j}", "type": "num", "lb": LOW, "ub": HIGH} for j in range(d)])
        self.optimizer, self.asked = HEBO(space, rand_sample=first(d), scramble_seed=seed), None
        self.names = [f"x{j}" for j in range(d)]

    def ask(self) -> np.ndarray:
        self.asked = self.optimizer.suggest(1)
        return self.asked[self.names].to_numpy(dtype=float)[0]

    def tell(self, x: np.ndarray, y: float) -> None:
        import pandas as pd

        self.optimizer.observe(pd.DataFrame([x], columns=self.names), np.array([[y]]))


class Smac:
    """SMAC for black boxes: a Gaussian process."""

    def __init__(self, d: int, seed: int, budget: int) -> None:
        import logging
        import tempfile
        from pathlib import Path

        from ConfigSpace import ConfigurationSpace, Float
        from smac import BlackBoxFacade, Scenario

        logging.disable(logging.CRITICAL)
        space = ConfigurationSpace(seed=seed)
        space.add([Float(f"x{j}", (LOW, HIGH)) for j in range(d)])
        self.names = [f"x{j}" for j in range(d)]
        where = Path(tempfile.mkdtemp())
        scenario = Scenario(space, n_trials=budget + 1, seed=seed, deterministic=True, output_directory=where)
        design = BlackBoxFacade.get_initial_design(scenario, n_configs=first(d))
        settings = {"initial_design": design, "overwrite": True, "logging_level": False}
        self.smac = BlackBoxFacade(scenario, lambda config, seed=0: 0.0, **settings)
        self.info: Any = None

    def ask(self) -> np.ndarray:
        self.info = self.smac.ask()
        return np.array([self.info.config[name] for name in self.names])

    def tell(self, x: np.ndarray, y: float) -> None:
        from smac.runhistory.dataclasses import TrialValue

        self.smac.tell(self.info, TrialValue(cost=y, time=0.0))


class Ax:
    """Ax with its own choice of methods."""

    def __init__(self, d: int, seed: int, budget: int) -> None:
        from ax.api.client import Client
        from ax.api.configs import RangeParameterConfig

        self.names, self.index = [f"x{j}" for j in range(d)], None
        self.client = Client(random_seed=seed)
        bounds = [RangeParameterConfig(name=name, parameter_type="float", bounds=(LOW, HIGH)) for name in self.names]
        self.client.configure_experiment(parameters=bounds)
        self.client.configure_optimization(objective="-value")
        self.client.configure_generation_strategy(initialization_budget=first(d))

    def ask(self) -> np.ndarray:
        ((self.index, parameters),) = self.client.get_next_trials(max_trials=1).items()
        return np.array([parameters[name] for name in self.names])

    def tell(self, x: np.ndarray, y: float) -> None:
        index = self.index
        if index is None:
            index = self.client.attach_trial(parameters=dict(zip(self.names, x.tolist(), strict=True)))
        self.client.complete_trial(trial_index=index, raw_data={"value": y})
        self.index = None


OPTIMIZERS: dict[str, Any] = {
    "Locum": Locum, "BoTorch logEI": BoTorch, "Optuna GP": OptunaGP, "Optuna TPE": OptunaTPE, "SMAC": Smac, "HEBO": Hebo,
    "Ax": Ax, "Sobol": Sobol, "random": Random, "Locum, one process": LocumOne, "Locum, inputs warped": LocumWarped,
}  # fmt: skip


# ---------------------------------------------------------------------- cells
def regret(kind: Any, cell: dict[str, Any]) -> dict[str, Any]:
    d, seed, budget = cell["dimension"], cell["seed"], cell["budget"]
    which = cell["function"]
    ask_value = task(which)[1] if isinstance(which, str) else bbob(which, d, seed + 1)
    began, values = time.perf_counter(), []
    optimizer = kind(d, seed, budget)
    for _ in range(budget):
        x = np.clip(optimizer.ask(), LOW, HIGH)
        values.append(ask_value(x))
        optimizer.tell(x, values[-1])
    return cell | {"values": values, "seconds": time.perf_counter() - began}


def suggested(kind: Any, cell: dict[str, Any]) -> dict[str, Any]:
    d, seed = cell["dimension"], cell["seed"]
    value, rng = bbob(8, d, seed + 1), np.random.default_rng(seed)
    optimizer = kind(d, seed, cell["told"] + cell["ask"])
    for x in rng.uniform(LOW, HIGH, (cell["told"], d)):
        optimizer.tell(x, value(x))
    spent = []
    for _ in range(cell["ask"]):
        began = time.perf_counter()
        x = optimizer.ask()
        spent.append(time.perf_counter() - began)
        optimizer.tell(x, value(np.clip(x, LOW, HIGH)))
    return cell | {"suggested": spent}


def main() -> None:
    warnings.simplefilter("ignore")
    kind = OPTIMIZERS[sys.argv[1]]
    for line in sys.stdin:
        cell = json.loads(line)
        found = suggested(kind, cell) if "told" in cell else regret(kind, cell)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
