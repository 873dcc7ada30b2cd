"""Is an estimator unbiased, and how far does a guide stand in for a posterior: checks, and the cheapest rivals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from locum.core.bounds import bootstrap_mean
from locum.core.errors import InvalidData
from locum.core.fidelity import Fidelity
from locum.infer._vi_engine import Generative, Program, Run, current, running
from locum.infer._vi_marginals import observed
from locum.infer._vi_strategies import Reparameterise, torch_
from locum.nets import seeded

if TYPE_CHECKING:
    import torch

    from locum.infer.programmable_vi import Objective

__all__ = ["check_unbiased", "Unbiasedness", "evidence_gap", "pareto_k", "Prior", "Laplace"]

_FLOAT = NDArray[np.float64]
_FEW_TAIL = 5
_ROUNDING, _CURVATURE = 1e-5, 1e-3  # relative errors of exact references, and of differences, that no bias is told from
_BOUNDED = 1e-4  # spread of log weights that is rounding, in single precision


# ---------------------------------------------------------------------- gradients
@dataclass(frozen=True)
class Unbiasedness:
    """A gradient estimate beside a reference.

    Attributes
    ----------
    gradient, reference, std_err, z : dict of str to ndarray
        For each parameter: mean estimate, what it should be, standard error of the difference, and their ratio.
    worst : float
        Largest absolute z.
    limit : float
        What it stays below, at the level asked for, where the estimator is unbiased (corrected for the number of entries).
    n : int
        Estimates.
    """

    gradient: dict[str, _FLOAT]
    reference: dict[str, _FLOAT]
    std_err: dict[str, _FLOAT]
    z: dict[str, _FLOAT]
    worst: float
    limit: float
    n: int

    @property
    def unbiased(self) -> bool:
        """Whether no entry is further off than noise explains."""
        return self.worst <= self.limit

    @property
    def _furthest(self) -> str:
        return max(self.z, key=lambda key: float(np.abs(self.z[key]).max()))

    def __str__(self) -> str:
        verdict = "no bias found" if self.unbiased else f"biased in {self._furthest}"
        return f"{verdict}: largest |z| {self.worst:.2f}, limit {self.limit:.2f}, n={self.n} estimates"


def check_unbiased(
    objective: Objective,
    params: Mapping[str, torch.Tensor],
    *inputs: Any,
    exact: Mapping[str, Any] | None = None,
    n: int = 100_000,
    batches: int = 100,
    step: float = 0.01,
    level: float = 0.999,
    random_state: int = 0,
) -> Unbiasedness:
    """Test whether gradient estimates have the right mean.

    The mean of many estimates is compared to a reference by its standard error over batches. The reference is the derivative
    that is given, or a central difference of the objective's own values under common random numbers, which uses no
    strategy: a wrong rule, a baseline that sees its own choice, and a branch on a reparameterised value all show.

    Parameters
    ----------
    objective : Objective
    params : mapping of str to torch.Tensor
    *inputs
    exact : mapping of str to number or array, optional
        Derivative for some or all parameters; needed where the objective holds a part of itself fixed on purpose.
    n : int, default=100_000
        Estimates in all.
    batches : int, default=100
        Independent batches they come in.
    step : float, default=0.01
        Of the differences.
    level : float, default=0.999
        Probability with which an unbiased estimator passes.
    random_state : int, default=0

    Raises
    ------
    InvalidData
        Too few estimates, or results with tails so heavy that their variance is infinite, on which no standard error rests.

    Notes
    -----
    Cost: n estimates, and 2 n evaluations for each entry of the parameters without an exact derivative.
    """
    if batches < 20 or n < 2 * batches:
        raise InvalidData(f"expected 20 batches or more of 2 estimates or more, got n={n!r} in {batches!r} batches")
    size, known = n // batches, dict(exact or {})
    results, found = [], []
    for batch in range(batches):
        one = objective.value_and_grad(params, *inputs, particles=size, random_state=_child(random_state, batch))
        results.append(one.values.numpy().reshape(size, -1).mean(1))
        found.append({key: grad.double().numpy() for key, grad in one.grads.items()})
    _finite_variance(np.concatenate(results))
    means, references, errors, ratios = {}, {}, {}, {}
    for key in params:
        means[key], error = _mean_and_error(np.stack([one[key] for one in found]))
        if key in known:
            references[key] = np.broadcast_to(np.asarray(known[key], float), means[key].shape)
            tolerance, other = _ROUNDING, np.zeros(means[key].shape)
        else:
            seeds = [_child(random_state, batches + batch) for batch in range(batches)]
            references[key], other = _difference(objective, params, inputs, key, step, size, seeds)
            tolerance = _CURVATURE
        errors[key] = np.sqrt(error**2 + other**2 + (tolerance * (1 + np.abs(references[key]))) ** 2)
        ratios[key] = (means[key] - references[key]) / errors[key]
    entries = sum(one.size for one in ratios.values())
    limit = float(stats.t.ppf(1 - (1 - level) / (2 * entries), batches - 1))
    worst = max(float(np.abs(one).max()) for one in ratios.values())
    return Unbiasedness(means, references, errors, ratios, worst, limit, size * batches)


def _difference(
    objective: Objective, params: Mapping[str, Any], inputs: Any, key: str, step: float, size: int, seeds: list[int]
) -> tuple[_FLOAT, _FLOAT]:
    """Central differences for every entry of one parameter, with standard errors."""
    shape, number = tuple(params[key].shape), params[key].numel()
    out = np.empty((len(seeds), number))
    for entry in range(number):
        move = torch_().zeros(number, dtype=params[key].dtype)
        move[entry] = step
        ends = [{**params, key: params[key].detach() + sign * move.reshape(shape)} for sign in (1, -1)]
        for row, seed in enumerate(seeds):
            up, down = (objective.evaluate(end, *inputs, particles=size, random_state=seed).double() for end in ends)
            out[row, entry] = float((up - down).mean()) / (2 * step)
    mean, error = _mean_and_error(out)
    return mean.reshape(shape), error.reshape(shape)


def _mean_and_error(batches: _FLOAT) -> tuple[_FLOAT, _FLOAT]:
    return batches.mean(0), batches.std(0, ddof=1) / math.sqrt(len(batches))


def _finite_variance(results: _FLOAT) -> None:
    shape, error = tail_shape(np.abs(results - np.median(results)))
    if shape - 2 * error > 0.5:
        raise InvalidData(
            f"the results have a tail of shape {shape:.2f}, so their variance is infinite and no mean of them can be trusted; "
            "use a guide with heavier tails than the posterior, or a bound such as elbo that is a mean of logs"
        )


def _child(random_state: int, number: int) -> int:
    return int(np.random.SeedSequence([random_state, number]).generate_state(1)[0])


# ---------------------------------------------------------------------- guides
def evidence_gap(
    objective: Objective,
    params: Any,
    *inputs: Any,
    evidence: float,
    n: int = 2_000,
    level: float = 0.95,
    region: str = "the observations",
    random_state: int = 0,
) -> Fidelity:
    """How far a bound lies below a known log evidence, in nats: for the ELBO, the KL divergence from guide to posterior.

    Parameters
    ----------
    objective : Objective
        A lower bound, such as :func:`elbo`.
    params : mapping of str to torch.Tensor, or torch.nn.Module
    *inputs
    evidence : float
        Log evidence.
    n : int, default=2_000
        Draws.
    level : float, default=0.95
    region : str, default="the observations"
    random_state : int, default=0

    Returns
    -------
    Fidelity
        With a studentised bootstrap interval. 0 for the posterior itself; lower is better.
    """
    found = objective.evaluate(params, *inputs, particles=n, random_state=random_state)
    gaps = evidence - found.double().numpy().reshape(n, -1).mean(1)
    interval = bootstrap_mean(gaps, level, random_state=random_state)
    return Fidelity(
        "log evidence less bound",
        float(gaps.mean()),
        interval.lower,
        interval.upper,
        level,
        n,
        region=region,
        how="fresh draws of the guide",
        method=interval.method,
        greater_is_better=False,
    )


def pareto_k(
    objective: Objective,
    params: Any,
    *inputs: Any,
    n: int = 4_000,
    level: float = 0.95,
    region: str = "the observations",
    random_state: int = 0,
) -> Fidelity:
    """The tail shape of a guide's importance weights: how far it can stand in for a posterior whose evidence is not known.

    Below 0.5 the weights have finite variance; above 0.7 means under the guide, weighted or not, are not to be trusted. A
    bounded tail counts as 0.

    Parameters
    ----------
    objective : Objective
        The :func:`elbo`, each of whose numbers is the log of a weight.
    params : mapping of str to torch.Tensor, or torch.nn.Module
    *inputs
    n : int, default=4_000
        Draws.
    level : float, default=0.95
    region : str, default="the observations"
    random_state : int, default=0

    Returns
    -------
    Fidelity
        Lower is better. The interval is the asymptotic one of a generalised Pareto fit, standard error ``(1 + k) / sqrt(M)``
        for M = 3 sqrt(n) weights in the tail.

    Notes
    -----
    It sees only where the guide goes: a mode of the posterior that no draw came near leaves no trace in it.

    References
    ----------
    Vehtari et al., *Pareto smoothed importance sampling*, arXiv 1507.02646; Yao et al., *Yes, but did it work?*, arXiv
    1802.02538. Fit: Zhang and Stephens, Technometrics 51 (2009).
    """
    if n < 100:
        raise InvalidData(f"expected n= of 100 draws or more, got {n!r}: a tail shape needs a tail")
    logs = objective.evaluate(params, *inputs, particles=n, random_state=random_state).double().numpy().reshape(n, -1).sum(1)
    shape, error = tail_shape(np.exp(logs - logs.max())) if np.ptp(logs) > _BOUNDED else (0.0, 0.0)
    half = float(stats.norm.ppf((1 + level) / 2)) * error
    return Fidelity(
        "Pareto k of the importance weights",
        max(0.0, shape),
        max(0.0, shape - half),
        max(0.0, shape + half),
        level,
        n,
        region=region,
        how="fresh draws of the guide",
        method="asymptotic",
        greater_is_better=False,
    )


def tail_shape(values: _FLOAT) -> tuple[float, float]:
    """Shape of a generalised Pareto distribution for the largest values, and its standard error."""
    ordered = np.sort(values)
    number = int(min(len(values) / 5, 3 * math.sqrt(len(values))))
    excess = ordered[-number:] - ordered[-number - 1]
    excess = excess[excess > 0]
    if len(excess) < _FEW_TAIL or 2 * len(np.unique(excess)) < len(excess):  # a few values over and over are no heavy tail
        return 0.0, 0.0
    m = len(excess)
    grid = np.arange(1, 31 + int(math.sqrt(m)))
    quartile = excess[int(m / 4 + 0.5) - 1]
    rates = 1 / excess[-1] + (1 - np.sqrt(len(grid) / (grid - 0.5))) / (3 * quartile)
    shapes = np.log1p(-rates[:, None] * excess).mean(1)
    heights = m * (np.log(-rates / shapes) - shapes - 1)
    weights = np.exp(heights - heights.max())
    rate = float((rates * weights).sum() / weights.sum())
    shape = float(np.log1p(-rate * excess).mean())
    shape = (m * shape + 5) / (m + 10)  # as if ten more values had spoken for 1/2: steadies short tails
    return shape, (1 + max(shape, 0.0)) / math.sqrt(m)


# ---------------------------------------------------------------------- rivals
class Prior(Generative):
    """The unobserved sites of a model, drawn as if nothing had been observed: the guide that costs nothing.

    Parameters
    ----------
    model : Program
    obs : mapping of str to torch.Tensor, or callable
    """

    def __init__(self, model: Program, obs: Any) -> None:
        self.model, self.obs = model, obs

    def simulate(self, *args: Any) -> tuple[dict[str, Any], Any]:
        obs = observed(self.obs, args)
        trace = self.model.trace(obs, None, args)
        choices = {key: value for key, value in trace.values.items() if key not in obs}
        return choices, trace.total(choices)

    def density(self, choices: Mapping[str, Any], *args: Any) -> Any:
        obs = observed(self.obs, args)
        return self.model.trace({**choices, **obs}, "no value was given for it", args).total(choices)


class Laplace(Generative):
    """A normal distribution at the posterior's mode, with the curvature there: the guide before any was optimised.

    Sites with constraints are moved to the real line first, so it is the mode there.

    Parameters
    ----------
    model : Program
        Of continuous sites, beside the observed ones.
    obs : mapping of str to torch.Tensor, or callable
    *args
        Of the model.
    steps : int, default=200
        Of the search for the mode (L-BFGS).
    random_state : int, default=0
        Of the choices that say which sites there are.

    Attributes
    ----------
    evidence : float
        Laplace's approximation of the log evidence.
    """

    def __init__(self, model: Program, obs: Any, *args: Any, steps: int = 200, random_state: int = 0) -> None:
        torch = torch_()
        self.model, self.obs = model, obs
        prior = _Laws(obs := observed(obs, args))
        with seeded(random_state), torch.no_grad(), running(prior):
            drawn = model.trace(obs, None, args).values
        self._sites: dict[str, Any] = {}
        for key, law in prior.laws.items():
            if not torch.distributions.constraints.is_dependent(law.support) and law.support.is_discrete:
                raise InvalidData(f"site {key!r} is discrete, so it has no curvature: enumerate it, or use Prior as the rival")
            move = torch.distributions.biject_to(law.support)
            event = tuple(law.event_shape)
            self._sites[key] = (move, tuple(move.inverse_shape(event)), len(event))
        size = sum(math.prod(shape) for _, shape, _ in self._sites.values())
        precision = next((drawn[key].dtype for key in self._sites), None)
        mode = self._climb(torch.zeros(size, dtype=precision), args, steps)
        curvature = torch.autograd.functional.hessian(lambda z: -self._joint(z, args), mode)
        scale, failed = torch.linalg.cholesky_ex(curvature)
        if int(failed):
            raise InvalidData("the posterior has no curvature in some direction at its mode: the model is not identified there")
        self._law = torch.distributions.MultivariateNormal(mode, covariance_matrix=torch.cholesky_inverse(scale))
        self.evidence = float(self._joint(mode, args) + size / 2 * math.log(2 * math.pi) - scale.diagonal().log().sum())

    def simulate(self, *args: Any) -> tuple[dict[str, Any], Any]:
        where = current().draw("all sites", self._law, Reparameterise()).value
        choices, jacobian = self._moved(where)
        return choices, self._law.log_prob(where) - jacobian

    def density(self, choices: Mapping[str, Any], *args: Any) -> Any:
        parts, jacobian = [], 0.0
        for key, (move, shape, event) in self._sites.items():
            free = move.inv(choices[key])
            parts.append(free.reshape(*free.shape[: free.dim() - len(shape)], -1))
            jacobian = jacobian + _total(move.log_abs_det_jacobian(free, choices[key]), free.dim() - len(shape), event)
        return self._law.log_prob(torch_().cat(parts, -1)) - jacobian

    def _joint(self, where: Any, args: Any) -> Any:
        choices, jacobian = self._moved(where)
        with running(Run(None)):
            return self.model.density({**choices, **observed(self.obs, args)}, *args) + jacobian

    def _moved(self, where: Any) -> tuple[dict[str, Any], Any]:
        """Choices from free numbers, and the log of the volume they stretch it by."""
        choices, jacobian, start, lead = {}, 0.0, 0, where.shape[:-1]
        for key, (move, shape, event) in self._sites.items():
            stop = start + math.prod(shape)
            free = where[..., start:stop].reshape((*lead, *shape))
            choices[key] = move(free)
            jacobian = jacobian + _total(move.log_abs_det_jacobian(free, choices[key]), len(lead), event)
            start = stop
        return choices, jacobian

    def _climb(self, mode: Any, args: Any, steps: int) -> Any:
        torch = torch_()
        mode = mode.requires_grad_()
        search = torch.optim.LBFGS([mode], max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-12)

        def loss() -> Any:
            search.zero_grad()
            out = -self._joint(mode, args)
            out.backward()
            return out

        search.step(loss)
        if not bool(mode.isfinite().all()):
            raise InvalidData("the search for the posterior's mode left the finite numbers: rescale the model")
        return mode.detach()


class _Laws(Run):
    """A run that keeps the distribution of each site that is not given."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(())
        self.given, self.laws = given, dict[str, Any]()

    def draw(self, address: str, law: Any, strategy: Any) -> Any:
        self.laws[address] = law
        return super().draw(address, law, strategy)


def _total(jacobian: Any, lead: int, event: int) -> Any:
    """Summed over what is left of the event's dimensions."""
    left = tuple(range(lead, jacobian.dim()))
    return jacobian.sum(left) if left else jacobian
