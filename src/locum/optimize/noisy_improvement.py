"""Expected improvement where evaluations are noisy, come in batches, or are bound by constraints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from locum.core.errors import require_whole
from locum.optimize.acquisition import Gain, Improvement, Known, TakesPending
from locum.optimize.surrogate import need_botorch

if TYPE_CHECKING:
    from botorch.models.model import Model

__all__ = [
    "AugmentedExpectedImprovement",
    "BestObservedExpectedImprovement",
    "NoisyExpectedImprovement",
    "ParallelExpectedImprovement",
    "chance_of_feasibility",
]


@final
class NoisyExpectedImprovement(Improvement, TakesPending):
    r"""How much higher the best mean among evaluated points is expected to be after an evaluation, as its logarithm.

    .. math:: \log\big( E[\max_{i \le n+1} \mu_{n+1}(x_i) \mid x_{n+1} = x] - \max_{i \le n} \mu_n(x_i) \big)

    It follows from the decision to recommend a point that was evaluated: what x is worth counts what it says of the others too.
    Without noise the means of the others do not move, and it is expected improvement. With pending points it is a mean over
    fixed normal numbers.

    Parameters
    ----------
    samples : int, default=128
        Normal numbers where points are pending.

    References
    ----------
    Frazier, arXiv 1807.02811, section 5, "Noisy evaluations"; for one of a finite set: Scott, Frazier and Powell, *The
    correlated knowledge gradient for simulation optimization of continuous parameters*, 2011.
    """

    warps = True

    def __init__(self, samples: int = 128) -> None:
        require_whole(1, samples=samples)
        self.samples = samples

    def of(self, model: Model, known: Known) -> Callable[[Any], Any]:
        need_botorch()
        import torch

        from locum.optimize._expected_maximum import log_gain_of_lines, log_mean_gain
        from locum.optimize._models import Lines, process_of

        lines = Lines(process_of(model), known, known.rows, self.samples)
        top = lines.mean.max()

        def value(X: Any) -> Any:
            a, B = lines.at(X)
            if lines.normals is not None:
                return log_mean_gain(a, B, lines.normals, top.expand(len(X)))
            above = (a[:, -1] - top).clamp_min(1e-300).log()  # x was not among those that one has
            return torch.logaddexp(log_gain_of_lines(a, B[..., 0]), above)

        return value


@final
class BestObservedExpectedImprovement(Improvement):
    """Expected improvement over the best value seen, which under noise is a lucky one; a baseline.

    References
    ----------
    Mockus, Tiesis and Zilinskas, *The application of Bayesian methods for seeking the extremum*, 1978.
    """

    warps = True

    def of(self, model: Model, known: Known) -> Callable[[Any], Any]:
        from botorch.acquisition.analytic import LogExpectedImprovement

        return LogExpectedImprovement(model, best_f=known.values.max())


@final
class AugmentedExpectedImprovement(Gain):
    r"""Expected improvement over a mean that is sure, times a penalty for looking where noise is all one would see; a baseline.

    .. math:: EI(x) \Big( 1 - \sqrt{\lambda / (\sigma_n^2(x) + \lambda)} \Big), \qquad
       x^{**} = \arg\max_i \mu_n(x_i) - \sigma_n(x_i)

    References
    ----------
    Huang, Allen, Notz and Zeng, *Global optimization of stochastic black-box systems via sequential kriging meta-models*, 2006.
    """

    def of(self, model: Model, known: Known) -> Callable[[Any], Any]:
        import torch
        from botorch.acquisition.analytic import LogExpectedImprovement

        from locum.optimize._models import process_of

        noise = process_of(model).fresh[0]
        with torch.no_grad():
            found: Any = model.posterior(known.rows)
            mean, sd = found.mean[:, 0], found.variance[:, 0].sqrt()
            improvement = LogExpectedImprovement(model, best_f=mean[(mean - sd).argmax()])

        def value(X: Any) -> Any:
            seen: Any = model.posterior(X)
            spread = seen.variance.reshape(len(X))
            share = noise / (spread + noise)
            return improvement(X) + torch.log1p(-share.sqrt().clamp_max(1 - 1e-12))

        return value


@final
class ParallelExpectedImprovement(Improvement, TakesPending):
    r"""Expected improvement of the best of several points evaluated at once, over the best mean, as its logarithm.

    .. math:: \log E\big[ (\max_{j \le q} f(x^j) - \max_i \mu_n(x_i))^+ \big]

    Points are chosen one after another, each with those before it pending; the mean is over fixed normal numbers.

    Parameters
    ----------
    samples : int, default=256

    References
    ----------
    Ginsbourger, Le Riche and Carraro, *Kriging is well-suited to parallelize optimization*, 2010; Wang et al., arXiv
    1602.05149; through BoTorch: Ament et al., arXiv 2310.20708.
    """

    warps = True

    def __init__(self, samples: int = 256) -> None:
        require_whole(1, samples=samples)
        self.samples = samples

    def of(self, model: Model, known: Known) -> Callable[[Any], Any]:
        import torch
        from botorch.acquisition.logei import qLogExpectedImprovement
        from botorch.sampling.get_sampler import get_sampler

        found: Any = model.posterior(known.rows)
        sampler = get_sampler(found, torch.Size([self.samples]), seed=known.seed)
        return qLogExpectedImprovement(model, best_f=found.mean.detach().max(), sampler=sampler, X_pending=known.pending)


def chance_of_feasibility(models: list[Any], X: Any) -> Any:
    """Logarithm of the chance that all constraints are 0 or more, for independent models of them.

    Parameters
    ----------
    models : list of botorch Model
    X : torch.Tensor of shape (b, 1, width)

    Returns
    -------
    torch.Tensor of shape (b,)

    References
    ----------
    Gardner et al., *Bayesian optimization with inequality constraints*, 2014; Schonlau, Welch and Jones, 1998.
    """
    import torch

    total = X.new_zeros(len(X))
    for model in models:
        found = model.posterior(X)
        mean, spread = found.mean.reshape(len(X)), found.variance.reshape(len(X)).clamp_min(1e-18)
        total = total + torch.special.log_ndtr(mean / spread.sqrt())
    return total
