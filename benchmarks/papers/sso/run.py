"""A model in target space for a loss whose gradient is dear: what many cheap steps for each gradient buy.

Linear classifiers on two real tables, with all rows and with batches of 100 for each gradient; imitation of trained walkers in
MuJoCo, where an expert must be asked about each state; and a small student of a sentence encoder. Beside it are gradient
descent and torch's optimizers with one step for each gradient, tuned, and with as many steps on the stored answers as the
method takes. The experts are looked for in the folder that LOCUM_DATA names; what is not there is left out, and said so.
"""

from __future__ import annotations

import gzip
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from claims import Claim, main, over_seeds

from locum.nets import seeded
from locum.optimize.sso import TargetSurrogate

CALLS = 200
TRIAL = {  # mean loss after 50 and 200 gradients, with all rows, as a trial by others had it
    "breast cancer": {"1": (0.0906, 0.0662), "10": (0.0750, 0.0549), "100": (0.0689, 0.0502), "exact": (0.0658, 0.0486)},
    "digits": {"1": (0.2007, 0.1752), "10": (0.1707, 0.1664), "100": (0.1679, 0.1662)},
}
GRID = [10.0**k for k in range(-3, 4)]


# ---------------------------------------------------------------------- linear models of real tables
@dataclass
class Problem:
    """Rows with an intercept, answers, and a loss of each row with its gradient in the outputs."""

    name: str
    X: Tensor
    y: Tensor
    loss: str
    trace: dict[str, list[float]] = field(default_factory=dict)

    @property
    def eta(self) -> float:
        return {"squared": 1.0, "logistic": 4.0, "cross-entropy": 2.0}[self.loss]

    def start(self) -> Tensor:
        shape = (self.X.shape[1], int(self.y.max()) + 1) if self.loss == "cross-entropy" else (self.X.shape[1],)
        return torch.zeros(shape, dtype=self.X.dtype, requires_grad=True)

    def each(self, z: Tensor, y: Tensor) -> Tensor:
        if self.loss == "squared":
            return (z - y).square() / 2
        if self.loss == "logistic":
            return functional.binary_cross_entropy_with_logits(z, y, reduction="none")
        return functional.cross_entropy(z, y.long(), reduction="none")

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        if self.loss == "squared":
            return z - y
        if self.loss == "logistic":
            return torch.sigmoid(z) - y
        return torch.softmax(z, 1) - functional.one_hot(y.long(), z.shape[1])

    def value(self, w: Tensor) -> float:
        with torch.no_grad():
            return float(self.each(self.X @ w, self.y).mean())

    def resampled(self, seed: int) -> Problem:
        rows = torch.as_tensor(np.random.default_rng(seed).integers(0, len(self.X), len(self.X)))
        return Problem(self.name, self.X[rows], self.y[rows], self.loss)


def problem(name: str, loss: str, classes: int = 2) -> Problem:
    X, y = (load_breast_cancer if name.startswith("breast") else load_digits)(return_X_y=True)
    spread = X.std(axis=0)
    X = np.column_stack([(X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0), np.ones(len(X))])
    return Problem(name, torch.as_tensor(X), torch.as_tensor(y % classes if classes == 2 else y, dtype=torch.float64), loss)


def curvature(X: Tensor) -> float:
    """Largest eigenvalue of X'X / n."""
    return float(torch.linalg.eigvalsh(X.T @ X / len(X))[-1])


def batches(problem: Problem, size: int | None, seed: int) -> Iterator[Tensor]:
    """Rows of one batch after another, epoch after epoch."""
    n, rng = len(problem.X), np.random.default_rng(seed)
    while True:
        order = torch.as_tensor(rng.permutation(n)) if size else torch.arange(n)
        yield from order.split(size or n)


def surrogate(problem: Problem, *, calls: int = CALLS, size: int | None = None, seed: int = 0, until: float = -math.inf,
              eta: float | str | None = None, **settings: Any) -> list[float]:  # fmt: skip
    """Mean loss of all rows after each call; inner steps are the longest that cannot raise g, η over the batch's curvature."""
    w = problem.start()
    eta = problem.eta if eta is None else eta
    settings = {"inner": "gd", "inner_step": 1.0 if settings.get("inner", "gd") == "gd" else None, **settings}
    optimizer, losses = TargetSurrogate([w], eta, loss=problem.loss, **settings), []
    whole = curvature(problem.X)
    for rows in batches(problem, size, seed):
        X, y = problem.X[rows], problem.y[rows]
        if settings["inner"] == "gd":
            scale = 1 / math.sqrt(optimizer.oracle_calls + 1) if settings.get("schedule") == "sqrt" else 1.0
            optimizer.param_groups[0]["inner_step"] = eta * scale / (whole if size is None else curvature(X))
        loss = (lambda z, y=y: problem.each(z, y)) if eta == "armijo" else None
        optimizer.step(forward=lambda X=X: X @ w, target_grad=lambda z, y=y: problem.slope(z, y), target_loss=loss, rows=rows)
        losses.append(problem.value(w))
        if len(losses) == calls or losses[-1] <= until:
            return losses
    raise AssertionError


def plain(problem: Problem, make: Callable[[list[Tensor]], Any], *, calls: int = CALLS, size: int | None = None, seed: int = 0,
          root: bool = False) -> list[float]:  # fmt: skip
    """Mean loss of all rows after each of one step a gradient."""
    w = problem.start()
    optimizer, losses = make([w]), []
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / math.sqrt(t + 1) if root else 1.0)
    for rows in batches(problem, size, seed):
        optimizer.zero_grad()
        problem.each(problem.X[rows] @ w, problem.y[rows]).mean().backward()
        optimizer.step()
        schedule.step()
        losses.append(problem.value(w))
        if len(losses) == calls:
            return losses
    raise AssertionError


def descent(problem: Problem, step: float | None = None, **settings: Any) -> list[float]:
    step = problem.eta / curvature(problem.X) if step is None else step
    return plain(problem, lambda p: torch.optim.SGD(p, lr=step), **settings)


def line_search(problem: Problem, *, size: int, seed: int, calls: int = CALLS) -> list[float]:
    """Stochastic gradient descent in the parameters whose step passes Armijo's test on the batch (SLS)."""
    w, step, losses = problem.start().detach(), 1.0, []
    for rows in batches(problem, size, seed):
        X, y = problem.X[rows], problem.y[rows]
        here, gradient = problem.each(X @ w, y).mean(), X.T @ problem.slope(X @ w, y) / len(X)
        step *= 1.8 ** (size / len(problem.X))
        while problem.each(X @ (w - step * gradient), y).mean() > here - 0.5 * step * gradient.square().sum() and step > 1e-8:
            step *= 0.9
        w = w - step * gradient
        losses.append(problem.value(w))
        if len(losses) == calls:
            return losses
    raise AssertionError


def reached(losses: list[float], level: float) -> float:
    found = [k for k, loss in enumerate(losses, 1) if loss <= level]
    return found[0] if found else math.inf


# ---------------------------------------------------------------------- all rows for each gradient
def full_batch(quick: bool, seed: int) -> Iterator[Claim]:
    problems = [problem("breast cancer", "logistic"), problem("digits", "logistic"),
                problem("breast cancer, squared", "squared"), problem("digits, ten classes", "cross-entropy", 10)]  # fmt: skip
    problems = problems[:2] if quick else problems
    for one in problems:
        one.trace = {"1": descent(one), "10": surrogate(one, m=10), "100": surrogate(one, m=100)}
        if one.name in TRIAL:
            one.trace["exact"] = surrogate(one, inner="exact")
    ratios = {one.name: CALLS / reached(one.trace["100"], one.trace["1"][-1]) for one in problems}
    worst = min(list(TRIAL), key=ratios.__getitem__)
    again = []
    for k in range(seed, seed + (3 if quick else 10)):
        other = next(one for one in problems if one.name == worst).resampled(k)
        level = descent(other)[-1]
        again.append(CALLS / reached(surrogate(other, m=100, until=level), level))
    _, lower, upper = over_seeds(again)
    yield Claim(
        "m=100 reaches the loss of gradient descent (1/L) after 200 gradients with a third of them",
        f"gradients of gradient descent over those of m=100, {worst}; interval over resampled rows", ratios[worst],
        min(lower, ratios[worst]), max(upper, ratios[worst]), len(again), threshold=2.999, decided_by="effect",
        details={"ratios": ratios, "again": again},
    )  # fmt: skip
    gaps = [abs(one.trace[m][at - 1] - figure) for one in problems for m, figures in TRIAL.get(one.name, {}).items()
            for at, figure in zip((50, 200), figures, strict=True)]  # fmt: skip
    shown = {one.name: {m: [losses[49], losses[199]] for m, losses in one.trace.items()} for one in problems}
    yield Claim("losses after 50 and 200 gradients are those of the trial", "largest difference of a mean loss", max(gaps), 0.0,
                max(gaps), 1, direction="less", threshold=0.001, details=shown)  # fmt: skip
    steps = [one.trace[a][at - 1] - one.trace[b][at - 1] for one in problems for a, b in (("1", "10"), ("10", "100"))
             for at in (50, 200)]  # fmt: skip
    yield Claim("the loss falls with m at 50 and at 200 gradients, on every problem", "least fall of the mean loss", min(steps),
                min(steps), max(steps), 1, details={"problems": [one.name for one in problems]})  # fmt: skip
    if not quick:
        yield tuned(problems[0])


def finite(losses: list[float]) -> float:
    return losses[-1] if math.isfinite(losses[-1]) else math.inf


def tuned(one: Problem) -> Claim:
    """The best of seven steps for both."""
    ours = {step: finite(surrogate(one, eta=step, m=100)) for step in GRID}
    theirs = {step: finite(descent(one, step)) for step in GRID}
    best, rival = min(ours.values()), min(theirs.values())
    w = one.start()
    lowest = torch.optim.LBFGS([w], max_iter=5000, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        lowest.zero_grad()
        value = one.each(one.X @ w, one.y).mean()
        value.backward()
        return value

    lowest.step(closure)
    details = {"m=100": ours, "gradient descent": theirs, "optimum": one.value(w)}
    return Claim(f"{one.name}: also where both take the best of seven steps", "loss of m=100 less that of gradient descent",
                 best - rival, best - rival, best - rival, 1, direction="less", needed=False, details=details)  # fmt: skip


# ---------------------------------------------------------------------- batches of 100
def mini_batch(quick: bool, seed: int) -> Iterator[Claim]:
    seeds = range(seed, seed + (3 if quick else 5))
    ends: dict[str, dict[str, list[float]]] = {}
    for one in (problem("breast cancer", "logistic"), problem("digits", "logistic")):
        runs: dict[str, list[float]] = {"SGD": [], "SGD, root": [], "m=100": [], "m=100, root": [], "exact": []}
        for k in seeds:
            given: dict[str, Any] = {"size": 100, "seed": k}
            runs["SGD"].append(descent(one, **given)[-1])
            runs["SGD, root"].append(descent(one, root=True, **given)[-1])
            runs["m=100"].append(surrogate(one, m=100, **given)[-1])
            runs["m=100, root"].append(surrogate(one, m=100, schedule="sqrt", **given)[-1])
            runs["exact"].append(surrogate(one, inner="exact", **given)[-1])
        ends[one.name] = runs
    means = {name: {run: float(np.mean(values)) for run, values in runs.items()} for name, runs in ends.items()}

    def gap(name: str, one: str, other: str) -> tuple[float, float, float]:
        return over_seeds(np.array(ends[name][one]) - np.array(ends[name][other]))

    yield Claim("batches of 100, interpolation: m=100 is below SGD at a constant step",
                "breast cancer: loss of SGD less that of m=100",
                *gap("breast cancer", "SGD", "m=100"), len(seeds), details=means)  # fmt: skip
    yield Claim("batches of 100, no interpolation: at a constant step m=100 fits the batch too well",
                "digits: loss of m=100 less that of SGD", *gap("digits", "m=100", "SGD"), len(seeds))  # fmt: skip
    yield Claim("a step that falls with the root of the calls mends that", "digits: loss of m=100, constant less falling",
                *gap("digits", "m=100", "m=100, root"), len(seeds))  # fmt: skip
    yield Claim("and is then below SGD at a constant step", "digits: loss of SGD less that of m=100, falling",
                *gap("digits", "SGD", "m=100, root"), len(seeds), needed=False)  # fmt: skip


def counterparts(seed: int) -> Iterator[Claim]:
    """Rules of the step in target space, and the same rules in the parameters."""
    seeds, m, grid = range(seed, seed + 5), 20, GRID[2:5]
    for one in (problem("breast cancer", "logistic"), problem("digits", "logistic")):
        line, ours = ([f(one, size=100, seed=k)[-1] for k in seeds] for f in (
            line_search, lambda *a, **b: surrogate(*a, eta="armijo", inner="lbfgs", m=m, **b)))  # fmt: skip
        yield Claim(f"{one.name}: a line search in target space beats one in the parameters",
                    "loss of SLS less that of SSO-SLS", *over_seeds(np.array(line) - np.array(ours)), len(seeds), needed=False,
                    details={"SLS": line, "SSO-SLS": ours})  # fmt: skip
        plainly = {lr: [plain(one, lambda p, lr=lr: torch.optim.Adagrad(p, lr=lr), size=100, seed=k)[-1] for k in seeds]
                   for lr in grid}  # fmt: skip
        lifted = {lr: [surrogate(one, eta="adagrad", eta0=lr, inner="lbfgs", m=m, size=100, seed=k)[-1] for k in seeds]
                  for lr in grid}  # fmt: skip
        rival, best = (min(runs.values(), key=np.mean) for runs in (plainly, lifted))
        yield Claim(f"{one.name}: Adagrad in target space beats Adagrad, the best of {len(grid)} scales for both",
                    "loss of Adagrad less that of SSO-Adagrad", *over_seeds(np.array(rival) - np.array(best)), len(seeds),
                    needed=False, details={"Adagrad": plainly, "SSO-Adagrad": lifted})  # fmt: skip


# ---------------------------------------------------------------------- imitation
STATES, EPISODES = 1000, 20
RUNS = (("hopper", "linear"), ("walker2d", "linear"), ("hopper", "tanh"))
ADAM, ADAGRAD, SGD = torch.optim.Adam, torch.optim.Adagrad, torch.optim.SGD
MS, ETAS = (1, 10, 100), (0.05, 0.5)  # 0.5 is 1/L of the squared distance
RATES = {ADAM: (0.003, 0.03), ADAGRAD: (0.03, 0.3), SGD: (0.003, 0.03)}


class World:
    """A walker of MuJoCo with the actor that the authors trained for it."""

    def __init__(self, name: str, file: Path) -> None:
        import gymnasium

        self.env = gymnasium.make(name).unwrapped  # the wrappers only count steps and check arguments
        weights = np.load(file)
        parts = ("linear1", "linear2", "mean_linear")
        self.layers = [(weights[f"{part}.weight"].T.astype(float), weights[f"{part}.bias"].astype(float)) for part in parts]
        self.shape = len(self.layers[0][0]), len(self.layers[-1][1])

    def expert(self, states: np.ndarray) -> np.ndarray:
        (a, b), (c, d), (e, f) = self.layers
        return np.tanh(np.maximum(np.maximum(states @ a + b, 0) @ c + d, 0) @ e + f)

    def visit(self, policy: nn.Sequential, n: int, share: float, seed: int) -> tuple[np.ndarray, float]:
        """States of a walk in which the expert acts with some probability, else the policy; and its mean return."""
        act, rng = as_numpy(policy), np.random.default_rng(seed)
        states, returns, total, since = [], [], 0.0, 0
        state, _ = self.env.reset(seed=seed)
        for _ in range(n):
            states.append(state)
            action = self.expert(state) if share and rng.random() < share else act(state)
            state, reward, fallen, _, _ = self.env.step(np.clip(action, -1, 1))
            total, since = total + float(reward), since + 1
            if fallen or since == 1000:
                returns.append(total)
                total, since = 0.0, 0
                state, _ = self.env.reset()
        return np.array(states), float(np.mean(returns)) if returns else total


def as_numpy(policy: nn.Sequential) -> Callable[[np.ndarray], np.ndarray]:
    """The policy for one state, without torch's cost for each call."""
    layers = [(m.weight.detach().numpy().T.copy(), m.bias.detach().numpy()) for m in policy if isinstance(m, nn.Linear)]

    def act(state: np.ndarray) -> np.ndarray:
        for weight, bias in layers[:-1]:
            state = np.tanh(state @ weight + bias)
        return state @ layers[-1][0] + layers[-1][1]

    return act


def learner(kind: str, shape: tuple[int, int], seed: int) -> nn.Sequential:
    sizes = [shape[0], *([64, 64] if kind == "tanh" else []), shape[1]]
    with seeded(seed):
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def surrogate_steps(eta: float, schedule: str, m: int) -> Callable[[nn.Sequential], Callable[[Tensor, Tensor], None]]:
    def prepare(policy: nn.Sequential) -> Callable[[Tensor, Tensor], None]:
        optimizer = TargetSurrogate(policy.parameters(), eta, schedule=schedule, m=m)

        def learn(states: Tensor, actions: Tensor) -> None:
            optimizer.step(forward=lambda: policy(states), target_grad=lambda z: 2 * (z - actions))

        return learn

    return prepare


def plain_steps(make: Any, rate: float, m: int = 1) -> Callable[[nn.Sequential], Callable[[Tensor, Tensor], None]]:
    def prepare(policy: nn.Sequential) -> Callable[[Tensor, Tensor], None]:
        optimizer = make(policy.parameters(), lr=rate)

        def learn(states: Tensor, actions: Tensor) -> None:
            for _ in range(m):
                optimizer.zero_grad()
                (policy(states) - actions).square().sum(dim=1).mean().backward()
                optimizer.step()

        return learn

    return prepare


def imitated(world: World, kind: str, prepare: Any, seed: int, episodes: int, share: float) -> tuple[float, float, float]:
    """After some calls about states of walks in which the expert acts with some probability: mean squared distance from the
    expert's action in states of the learner's own, in those of the expert, and the learner's mean return.
    """  # fmt: skip
    policy = learner(kind, world.shape, seed)
    learn = prepare(policy)
    for t in range(episodes):
        visited, _ = world.visit(policy, STATES, share, 1000 * seed + t)
        learn(*(torch.as_tensor(part, dtype=torch.float32) for part in (visited, world.expert(visited))))
    own, reward = world.visit(policy, STATES, 0.0, 1000 * seed + 999)
    theirs, _ = world.visit(policy, STATES, 1.0, 1000 * seed + 998)
    errors = []
    for states in (own, theirs):
        with torch.no_grad():
            said = policy(torch.as_tensor(states, dtype=torch.float32)).numpy()
        error = float(np.square(said - world.expert(states)).sum(axis=1).mean())
        errors.append(error if math.isfinite(error) else math.inf)
    return errors[0], errors[1], reward


def imitation(quick: bool, seed: int) -> Iterator[Claim]:
    folder = Path(os.environ.get("LOCUM_DATA", "")) / "mujoco_experts"
    for name, kind in RUNS[:1] if quick else RUNS:
        file = folder / f"{name}.npz"
        if not file.exists():
            print(f"left out: mujoco_experts/{name}.npz is not in the folder that LOCUM_DATA names; it holds the authors' "
                  "sac_actor weights, see docs/methods/sso.md", file=sys.stderr)  # fmt: skip
            continue
        try:
            world = World({"hopper": "Hopper-v5", "walker2d": "Walker2d-v5"}[name], file)
        except ImportError:
            print("left out: imitation needs gymnasium[mujoco]", file=sys.stderr)
            return
        for share in (1.0,) if quick else (1.0, 0.0):  # as the authors' settings have it: the expert walks, or the learner does
            yield from one_learner(world, name, kind, share, range(seed, seed + (3 if quick else 5)), 5 if quick else EPISODES)


def one_learner(world: World, name: str, kind: str, share: float, seeds: range, episodes: int) -> Iterator[Claim]:
    """Decided on states of the walks that were learnt from; the others, and the return, are told beside."""
    quick = episodes < EPISODES
    apart = range(seeds[0] + 100, seeds[0] + (101 if quick else 102))  # seeds that settings are chosen by
    at = 1 if share else 0  # which error decides
    walks = "the expert" if share else "the learner"

    def run(prepare: Any, over: Any = seeds) -> np.ndarray:
        return np.array([imitated(world, kind, prepare, k, episodes, share) for k in over])

    def best(make: Any, choices: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Of settings, those with the least error on seeds of their own."""
        return min(choices, key=lambda one: run(make(*one), apart)[:, at].mean())

    chosen = {m: best(surrogate_steps, [(eta, schedule, m) for eta in ETAS for schedule in ("constant", "sqrt")]) for m in MS}
    rival = best(plain_steps, [(make, rate, 1) for make, rates in RATES.items() for rate in rates])
    control = best(plain_steps, [(ADAM, rate, 100) for rate in (0.001, 0.01)])
    tuned, stored = f"{rival[0].__name__}({rival[1]:g})", f"Adam({control[1]:g}), 100 steps"
    runs = {f"m={m}": run(surrogate_steps(*one)) for m, one in chosen.items()} | {
        tuned: run(plain_steps(*rival)), stored: run(plain_steps(*control)),
    }  # fmt: skip
    shown = ("own states", "expert's states", "return")
    details: dict[str, Any] = {what: {one: x[:, i].tolist() for one, x in runs.items()} for i, what in enumerate(shown)}
    details["steps chosen"] = {f"m={m}": list(one[:2]) for m, one in chosen.items()}
    said, ours = f"{name}, {kind} policy, {walks} walks, after {episodes} calls", runs["m=100"]
    for other, words in (("m=1", "m=1"), (tuned, f"the best tuned optimizer with a step a call, {tuned}"),
                         (stored, f"{stored} on the stored batch")):  # fmt: skip
        yield Claim(f"{said}: m=100 imitates better than {words}",
                    f"squared distance of actions in states of {walks}'s walk, rival less m=100",
                    *over_seeds(runs[other][:, at] - ours[:, at]), len(seeds), needed=not quick and other != stored,
                    details=details if other == "m=1" else {})  # fmt: skip
    elsewhere = "learner" if share else "expert"
    for other, words in (("m=1", "m=1"), (tuned, tuned)):
        yield Claim(f"{said}: also in states of the {elsewhere}'s walk better than {words}",
                    f"squared distance of actions in states of the {elsewhere}'s walk, rival less m=100",
                    *over_seeds(runs[other][:, 1 - at] - ours[:, 1 - at]), len(seeds), needed=False)  # fmt: skip
    yield Claim(f"{said}: m=100 walks further than m=1", "mean return, m=100 less m=1",
                *over_seeds(ours[:, 2] - runs["m=1"][:, 2]), len(seeds), needed=False)  # fmt: skip


# ---------------------------------------------------------------------- a sentence encoder
WORDS = 1024


def encoder(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts of hashed word pieces of sentences, and what MiniLM embeds them as, scaled to length one."""
    from locum.nets.pretrained import minilm

    with gzip.open(Path(os.environ["LOCUM_DATA"]) / "text" / "sst2_train.tsv.gz", "rt", encoding="utf-8") as file:
        sentences = [line.partition("\t")[0] for line in file][:n]
    model, tokenizer = minilm()
    counts, out = np.zeros((n, WORDS), dtype=np.float32), []
    for i in range(0, n, 50):
        batch = tokenizer(sentences[i : i + 50], padding=True, truncation=True, max_length=48, return_tensors="pt")
        mask = batch["attention_mask"]
        with torch.no_grad():
            states = model(**batch).last_hidden_state
        mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        out.append(functional.normalize(mean, dim=1).numpy())
        for row, (pieces, seen) in enumerate(zip(batch["input_ids"].numpy(), mask.numpy(), strict=True)):
            np.add.at(counts[i + row], pieces[seen == 1] * 2654435761 % WORDS, 1.0)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True), np.concatenate(out)


def small(seed: int) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Linear(WORDS, 64), nn.Tanh(), nn.Linear(64, 384))


def distillation(quick: bool, seed: int) -> Iterator[Claim]:
    from locum.core.errors import LocumError
    from locum.optimize.sso import SurrogateDistiller

    n = 600 if quick else 2000
    try:
        X, Y = encoder(n + 400)
    except (LocumError, KeyError, OSError) as error:
        print(f"left out: the sentence encoder ({error})", file=sys.stderr)
        return
    rest, fresh = np.arange(n), np.arange(n, n + 400)
    scale = float(np.square(Y[fresh] - Y[rest].mean(axis=0)).sum(axis=1).mean())

    def error(said: np.ndarray) -> float:
        return float(np.square(said - Y[fresh]).sum(axis=1).mean()) / scale

    def ours(k: int, m: int) -> float:
        made = SurrogateDistiller(small(k), m=m, inner="armijo-gd", random_state=k)
        return error(made.fit(X[rest], Y[rest]).predict(X[fresh]))

    def theirs(k: int, rate: float, m: int = 1) -> float:
        net = small(k)
        optimizer = ADAM(net.parameters(), lr=rate)
        for rows in np.random.default_rng(k).permutation(rest).reshape(-1, 100):
            for _ in range(m):
                optimizer.zero_grad()
                (net(torch.as_tensor(X[rows])) - torch.as_tensor(Y[rows])).square().sum(1).mean().backward()
                optimizer.step()
        with torch.no_grad():
            return error(net(torch.as_tensor(X[fresh])).numpy())

    seeds = range(seed, seed + (3 if quick else 5))
    rate = min((0.001, 0.003, 0.01, 0.03), key=lambda rate: theirs(seed + 100, rate))
    runs = {"m=1": [ours(k, 1) for k in seeds], "m=100": [ours(k, 100) for k in seeds],
            "Adam": [theirs(k, rate) for k in seeds], "Adam, 100 steps": [theirs(k, 0.001, 100) for k in seeds]}  # fmt: skip
    details = {"runs": runs, "rate": rate, "teacher calls": n // 100, "rows": n, "mean alone": 1.0}
    rivals = {"m=1": "m=1", "Adam": "Adam, tuned, a step a call", "Adam, 100 steps": "100 steps of Adam on the stored batch"}
    for other, words in rivals.items():
        gain = over_seeds(np.array(runs[other]) - np.array(runs["m=100"]))
        yield Claim(f"a small student of MiniLM: after {n // 100} calls m=100 is nearer than {words}",
                    "squared error over that of the mean, rival less m=100", *gain, len(seeds), needed=False,
                    details=details)  # fmt: skip


def measure(quick: bool, seed: int) -> Iterator[Claim]:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DeprecationWarning)  # of gymnasium, about older worlds
    yield from full_batch(quick, seed)
    yield from mini_batch(quick, seed)
    yield from imitation(quick, seed)
    yield from distillation(quick, seed)
    if not quick:
        yield from counterparts(seed)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, measure))
