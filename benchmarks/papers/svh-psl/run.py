"""A network that answers any preference with a design: what Stein's method adds to learning it.

Five problems, two of them of engineering, with 120 evaluations each: a Latin hypercube of 20, then 5 batches of 20, where the
paper has 20 of 5, and 300 steps of each training for its 1,000, so that all of it takes minutes. What counts is the true
hypervolume of the learned front, designs for even preferences, as the logarithm of what it lacks of the best front known (LHD):
closed forms, and for the injector three long runs of NSGA-II. Beside it are the same learner without Stein's method (PSL-MOBO),
with the kernel or repulsion alone switched off, designs at random, NSGA-II (pymoo), and qLogNEHVI and qLogNParEGO (BoTorch,
with few restarts), which learn no front, so that they are compared by what was evaluated. All start from the same 20 designs.

Each run is kept in ~/.cache/locum/svh-psl, and a benchmark that was stopped goes on from there; delete the folder to start
over.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, Kept, main

from locum.core.bounds import bootstrap_mean
from locum.optimize.svh_psl import ParetoSetLearner, hypervolume
from locum.problems.multi_objective import MultiObjective, f2, re21, re37, vlmop2, zdt1

PROBLEMS = {"VLMOP2": vlmop2, "F2": f2, "ZDT1": zdt1, "RE21": re21, "RE37": re37}
ABLATED = ("VLMOP2", "RE21")  # where parts are switched off
ACQUIRED = ("VLMOP2", "RE21")  # where BoTorch runs, which takes the longest
SVH, PSL, NO_KERNEL, NO_PUSH, GLOBAL = "SVH-PSL", "PSL-MOBO", "kernel off", "repulsion off", "global kernel"
LEARNERS: dict[str, dict[str, Any]] = {
    SVH: {},
    PSL: {"kernel": None, "normalize": None},
    NO_KERNEL: {"kernel": None},
    NO_PUSH: {"alpha": 0.0},
    GLOBAL: {"kernel": "global"},
}
FIRST, BATCH = 20, 20
Run = dict[str, Any]


class Size:
    """How long a benchmark is."""

    def __init__(self, quick: bool) -> None:
        self.problems = ("VLMOP2", "RE21") if quick else tuple(PROBLEMS)
        self.batches, self.steps, self.seeds, self.acquired = (1, 60, 2, 1) if quick else (5, 300, 5, 2)
        self.kept = Kept("svh-psl", quick, [self.batches, self.steps])


# ---------------------------------------------------------------------- one run
def best(problem: MultiObjective) -> float:
    """The hypervolume of the best front known."""
    return problem.best_hypervolume or hypervolume(problem.front(20_000), problem.reference_point)


def lacking(problem: MultiObjective, Y: Any) -> float:
    """The logarithm of what objectives lack of the best front."""
    return float(np.log(max(best(problem) - hypervolume(Y, problem.reference_point), 1e-9)))


def learner(problem: MultiObjective, name: str, size: Size, seed: int) -> Run:
    settings = {"names": problem.objectives, "n_steps": size.steps, "random_state": seed, **LEARNERS[name]}
    one = ParetoSetLearner(problem.bounds, len(problem.objectives), **settings)
    one.minimize(problem.answer, n_init=FIRST, n_iter=size.batches, batch_size=BATCH)
    m = len(problem.objectives)
    front = problem.answer(one.learned_front(100 * m).designs)
    found = {"learned": lacking(problem, front), "evaluated": lacking(problem, one.objectives)}
    found["interaction"] = one.learned_.interaction
    found["coverage"] = [each.coverage.value for each in one.fidelity()]
    found["error"] = [[each.surrogate.value, each.nearest.value, each.mean.value] for each in one.fidelity()]
    if m == 2:
        found["pseudo-optima"] = pseudo_optima(problem, one)
    return found


def pseudo_optima(problem: MultiObjective, one: ParetoSetLearner, n: int = 300, by: float = 0.001) -> float:
    """The share of preferences that a neighbour's design truly serves better than their own, by a thousandth and more."""
    learned, front = one.learned_front(n), problem.front(2000)
    ideal, extent = front.min(axis=0), np.ptp(front, axis=0)
    values = (problem.answer(learned.designs) - ideal) / extent
    own = (learned.preferences * values).max(axis=1)
    left = (learned.preferences[1:] * values[:-1]).max(axis=1)
    right = (learned.preferences[:-1] * values[1:]).max(axis=1)
    beside = np.minimum(np.append(np.inf, left), np.append(right, np.inf))
    return float((own > beside + by).mean())


def start(problem: MultiObjective, seed: int) -> Any:
    return ParetoSetLearner(problem.bounds, len(problem.objectives), random_state=seed).ask(FIRST)


def at_random(problem: MultiObjective, size: Size, seed: int) -> Run:
    X = np.vstack([start(problem, seed), problem.sample(size.batches * BATCH, seed=seed)])
    return {"evaluated": lacking(problem, problem.answer(X))}


def nsga2(problem: MultiObjective, size: Size, seed: int) -> Run:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize

    seen: list[Any] = []
    low, high = np.array(problem.bounds).T

    class Asked(Problem):
        def _evaluate(self, X: Any, out: Any, *args: Any, **kwargs: Any) -> None:
            out["F"] = problem.answer(X)
            seen.append(out["F"])

    asked = Asked(n_var=len(low), n_obj=len(problem.objectives), xl=low, xu=high)
    total = FIRST + size.batches * BATCH
    minimize(asked, NSGA2(pop_size=FIRST, sampling=start(problem, seed)), ("n_eval", total), seed=seed)
    return {"evaluated": lacking(problem, np.vstack(seen)[:total])}


def acquired(problem: MultiObjective, name: str, size: Size, seed: int) -> Run:
    """BoTorch's loop, on the processes that the learner has."""
    import torch
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.parego import qLogNParEGO
    from botorch.models import ModelListGP
    from botorch.optim import optimize_acqf
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.utils.multi_objective.pareto import is_non_dominated

    from locum.nets import seeded
    from locum.optimize import GaussianProcess

    low, high = np.array(problem.bounds).T
    X = start(problem, seed)
    unit = torch.tensor([[0.0] * len(low), [1.0] * len(low)], dtype=torch.float64)
    search = {"bounds": unit, "num_restarts": 1, "raw_samples": 16, "options": {"maxiter": 15}}
    for batch in range(size.batches):
        U, Y = torch.as_tensor((X - low) / (high - low)), torch.as_tensor(-problem.answer(X))
        model = ModelListGP(*(GaussianProcess().fit(U.numpy(), column.numpy()).model_ for column in Y.T))
        front = U[is_non_dominated(Y)]  # no other design can be the best so far
        with seeded(1000 * seed + batch):
            sampler = SobolQMCNormalSampler(torch.Size([16]), seed=batch)
            if name == "qLogNEHVI":
                reference = (-np.array(problem.reference_point)).tolist()
                worth = qLogNoisyExpectedHypervolumeImprovement(model, reference, front, sampler=sampler)
                new = optimize_acqf(worth, q=BATCH, sequential=True, **search)[0]
            else:
                new = U[:0]
                for _ in range(BATCH):
                    worth = qLogNParEGO(model, front, sampler=sampler, X_pending=new if len(new) else None)
                    new = torch.cat([new, optimize_acqf(worth, q=1, **search)[0]])
        X = np.vstack([X, low + (high - low) * new.clamp(0, 1).numpy()])
    return {"evaluated": lacking(problem, problem.answer(X))}


# ---------------------------------------------------------------------- all runs
def quietly(run: Callable[[], Run]) -> Run:
    """What a run gives, and its seconds."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BoTorch's own, about the packages under it
        return run() | {"seconds": time.perf_counter() - began}


def every(size: Size, seed: int) -> dict[tuple[str, str], list[Run]]:
    """All runs by problem and method, seed after seed."""
    import torch

    torch.set_num_threads(1)
    out: dict[tuple[str, str], list[Run]] = {}
    for k in range(size.seeds):
        for name in size.problems:
            problem = PROBLEMS[name]()
            jobs: dict[str, Callable[..., Run]] = {"random": at_random, "NSGA-II": nsga2}
            learners = [SVH, PSL] + ([NO_KERNEL, NO_PUSH] if name in ABLATED else [])
            if name in ACQUIRED and k < size.acquired:
                learners.append(GLOBAL)
                for one in ("qLogNEHVI", "qLogNParEGO"):
                    jobs[one] = lambda problem, size, seed, one=one: acquired(problem, one, size, seed)
            for one in learners:
                jobs[one] = lambda problem, size, seed, one=one: learner(problem, one, size, seed)
            for method, job in jobs.items():
                found = size.kept([name, method, seed + k], partial(quietly, partial(job, problem, size, seed + k)))
                out.setdefault((name, method), []).append(found)
    return out


def differences(runs: dict[tuple[str, str], list[Run]], one: str, other: str, what: str) -> dict[str, list[float]]:
    """By problem, one method less another, from the same start."""
    names = dict.fromkeys(problem for problem, method in runs if method == other)
    return {name: [a[what] - b[what] for a, b in zip(runs[name, one], runs[name, other], strict=False)] for name in names}


def compared(name: str, runs: dict[tuple[str, str], list[Run]], other: str, what: str = "learned", **rest: Any) -> Claim:
    """Whether SVH-PSL lacks less than another, over problems and seeds."""
    found = differences(runs, SVH, other, what)
    cells = [value for values in found.values() for value in values]
    ends = bootstrap_mean(cells)
    front = "the learned front" if what == "learned" else "what was evaluated"
    details = {problem: float(np.mean(values)) for problem, values in found.items()}
    return Claim(
        name, f"LHD of {front} less that of {other}, over {len(found)} problems", float(np.mean(cells)), ends.lower, ends.upper,
        max(map(len, found.values())), direction="less", details=details, **rest,
    )  # fmt: skip


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    size = Size(quick)
    runs = every(size, seed)
    head = compared("Stein's method brings the learned front nearer to the true one", runs, PSL)
    yield head
    means = head.details
    yield level("the difference is 0.05 or more", "mean difference of LHD from PSL-MOBO", head.effect, -0.05, head.seeds)
    won = float(np.mean([value < 0 for value in means.values()]))
    yield level("it is nearer on most problems", "share of problems", won, 0.5, head.seeds, direction="greater", details=means)
    yield level("it is never far behind", "largest mean difference of LHD on a problem", max(means.values()), 0.3, head.seeds)
    yield compared("the kernel is what helps", runs, NO_KERNEL)
    yield compared("repulsion is what helps", runs, NO_PUSH, needed=False)
    yield compared("the local kernel is better than the global one", runs, GLOBAL, needed=False)
    random = {name: float(np.mean(one)) for name, one in differences(runs, SVH, "random", "evaluated").items()}
    yield level(
        "what it evaluates is better than designs at random", "largest mean difference of LHD of what was evaluated",
        max(random.values()), 0.0, size.seeds, details=random,
    )  # fmt: skip
    for other in ("NSGA-II", "qLogNEHVI", "qLogNParEGO"):
        yield compared(f"what it evaluates is better than with {other}", runs, other, "evaluated", needed=False)
    both = [name for name in size.problems if "pseudo-optima" in runs[name, SVH][0]]
    cells = [a["pseudo-optima"] - b["pseudo-optima"] for p in both for a, b in zip(runs[p, SVH], runs[p, PSL], strict=True)]
    ends = bootstrap_mean(cells)
    yield Claim(
        "fewer preferences are served better by a neighbour's design", "share of 300, less that of PSL-MOBO",
        float(np.mean(cells)), ends.lower, ends.upper, size.seeds, direction="less", needed=False, details=table(runs),
    )  # fmt: skip


def level(name: str, what: str, value: float, threshold: float, seeds: int, direction: str = "less", **rest: Any) -> Claim:
    """A claim that a number alone decides."""
    return Claim(name, what, value, value, value, seeds, direction=direction, threshold=threshold, decided_by="effect", **rest)


def table(runs: dict[tuple[str, str], list[Run]]) -> dict[str, Any]:
    """Means of everything measured, by problem and method."""
    out: dict[str, Any] = {}
    for (problem, method), found in runs.items():
        keys = [key for key, value in found[0].items() if isinstance(value, float)]
        means = {key: float(np.mean([one[key] for one in found])) for key in keys}
        for key in ("coverage", "error"):
            if found[0].get(key):
                means[key] = np.mean([one[key] for one in found], axis=0).tolist()
        out.setdefault(problem, {})[method] = means
    return out


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
