"""Bayesian neural networks of several kinds in the place of the Gaussian process that stands in for an objective."""

from __future__ import annotations

import itertools
import warnings
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import InvalidData, LocumError, require_one_of, require_positive, require_whole
from locum.optimize.surrogate import Surrogate

if TYPE_CHECKING:
    from botorch.models.model import Model

    from locum.optimize._bnn_networks import Layers, Posterior

__all__ = [
    "DeepEnsemble",
    "DeepKernelProcess",
    "HamiltonianNetwork",
    "InfiniteWidthProcess",
    "LaplaceNetwork",
    "NetworkSurrogate",
    "StochasticGradientHamiltonianNetwork",
]

_FLOAT = NDArray[np.float64]
PRIORS, NOISES = (0.1, 1.0, 10.0), (0.01, 0.1, 1.0)
_ACTIVATIONS = ("tanh", "relu", "identity")
_FEWEST = 5  # rows, below which nothing can be held out to choose variances by
_HALVED = 2**6  # how far a learning rate may be lowered
_HELD = 5  # the last row in so many chooses them


def _require_widths(hidden: Any) -> tuple[int, ...]:
    if isinstance(hidden, str) or not hasattr(hidden, "__iter__"):
        raise InvalidData(f"expected hidden= as a sequence of widths, got {hidden!r}")
    for width in hidden:
        require_whole(1, hidden=width)
    return tuple(hidden)


def _layers(d: int, hidden: Any, activation: str) -> Layers:
    from locum.optimize._bnn_networks import Layers

    require_one_of(_ACTIVATIONS, activation=activation)
    return Layers((d, *_require_widths(hidden), 1), activation)


class NetworkSurrogate(Surrogate):
    """A network with normal priors of its weights and normal noise, its posterior drawn from or approximated.

    Values are standardised. With "grid" the variances are those, among 0.1, 1, 10 for the weights and 0.01, 0.1, 1 for the
    noise, under which networks fitted to the first four fifths of the rows foretell the last fifth best; the study's own grid
    is not published.

    Attributes
    ----------
    prior_var_, noise_var_ : float
        Variances in use, of weights and of standardised values.
    diagnostics_ : dict of str to float
        What tells whether the fit can be trusted.
    """

    papers = ("bnn-surrogates",)

    hidden: Any
    activation: str
    prior_var: Any
    noise_var: Any
    random_state: int

    @abstractmethod
    def _model(self, posterior: Posterior, shift: float, scale: float) -> Model: ...

    def _check(self) -> None:
        require_whole(0, random_state=self.random_state)
        for name in ("prior_var", "noise_var"):
            value = getattr(self, name)
            if isinstance(value, str):
                require_one_of(("grid",), **{name: value})
            else:
                require_positive(**{name: value})

    def _make(self, rows: _FLOAT, values: _FLOAT, *gradients: _FLOAT) -> tuple[Model, ...]:
        import torch

        from locum.nets import seeded

        self._check()
        layers = _layers(rows.shape[1], self.hidden, self.activation)
        shift, scale = float(values.mean()), float(values.std(ddof=1)) or 1.0
        X, y = torch.as_tensor(rows), torch.as_tensor((values - shift) / scale)
        with seeded(self.random_state):
            self.prior_var_, self.noise_var_ = self._variances(layers, X, y)
            return (self._model(self._posterior(layers, X, y, self.prior_var_, self.noise_var_), shift, scale),)

    @staticmethod
    def _posterior(layers: Layers, X: Any, y: Any, prior: float, noise: float) -> Posterior:
        from locum.optimize._bnn_networks import Posterior

        return Posterior(layers, X, y, prior, noise)

    def _variances(self, layers: Layers, X: Any, y: Any) -> tuple[float, float]:
        """Given, or chosen by held-out rows from the grid."""
        priors = PRIORS if self.prior_var == "grid" else (self.prior_var,)
        noises = NOISES if self.noise_var == "grid" else (self.noise_var,)
        choices = list(itertools.product(priors, noises))
        if len(choices) == 1:
            return choices[0]
        if len(y) < _FEWEST:
            warnings.warn(
                f"{len(y)} rows are too few to choose variances by; 1 for the weights and 0.1 for the noise are taken",
                UserWarning,
                stacklevel=5,
            )
            return next(one for one in ((1.0, 0.1), *choices) if one[0] in priors and one[1] in noises)
        first = len(y) - max(1, len(y) // _HELD)
        scores = []
        for prior, noise in choices:
            part = self._posterior(layers, X[:first], y[:first], prior, noise)
            scores.append(part.evidence_of(self._trial(part), X[first:], y[first:]))
        return choices[int(np.argmax(scores))]

    def _trial(self, posterior: Posterior) -> Any:
        """Weights by which variances are compared: some likely ones."""
        from locum.optimize._bnn_networks import descended

        return descended(posterior.energy, posterior.layers.start(5), 300, 1e-2)


@final
class HamiltonianNetwork(NetworkSurrogate):
    r"""Weights drawn by Hamiltonian Monte Carlo, from their most likely values on.

    Leapfrog steps follow the density of all rows; their size is found by dual averaging in burn-in, and kept from then on.

    Parameters
    ----------
    hidden : tuple of int, default=(64, 64)
    activation : {"tanh", "relu", "identity"}, default="tanh"
    prior_var, noise_var : float or "grid", default="grid"
    burn, samples : int, default=200
        Proposals before and after the step is fixed.
    path_length : float, default=0.08
        Steps times their size; with one step a proposal this is Langevin sampling, as ``diagnostics_["leapfrog"]`` tells.
    step_size : float, default=0.02
        Where the search for it starts.
    random_state : int, default=0

    Attributes
    ----------
    diagnostics_ : dict of str to float
        "accepted", "step", "leapfrog", and "split_r_hat" of the energy, near 1 where both halves of the chain agree.

    Raises
    ------
    LocumError
        When fitted: a chain that accepts less than one proposal in ten.

    Notes
    -----
    Cost: ``burn + samples`` times up to 200 leapfrog steps, each a pass over all rows.

    References
    ----------
    Li, Rudner and Wilson, arXiv 2305.20028; Neal, *MCMC using Hamiltonian dynamics*, arXiv 1206.1901; Hoffman and Gelman, arXiv
    1111.4246.

    Examples
    --------
    >>> import numpy as np
    >>> U = np.linspace(0, 1, 12)[:, None]
    >>> net = HamiltonianNetwork((16,), prior_var=1.0, noise_var=0.01, burn=60, samples=60).fit(U, np.sin(6 * U[:, 0]))
    >>> net.predict(U).shape
    (12,)
    """

    def __init__(
        self,
        hidden: Any = (64, 64),
        activation: str = "tanh",
        prior_var: Any = "grid",
        noise_var: Any = "grid",
        burn: int = 200,
        samples: int = 200,
        path_length: float = 0.08,
        step_size: float = 0.02,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.prior_var = prior_var
        self.noise_var = noise_var
        self.burn = burn
        self.samples = samples
        self.path_length = path_length
        self.step_size = step_size
        self.random_state = random_state

    def _model(self, posterior: Posterior, shift: float, scale: float) -> Model:
        from locum.optimize._bnn_networks import DrawnModel, descended, hamiltonian

        require_whole(1, burn=self.burn)
        require_whole(4, samples=self.samples)
        require_positive(path_length=self.path_length, step_size=self.step_size)
        start = descended(posterior.energy, posterior.layers.start(1), 1000, 1e-2)
        chain = hamiltonian(
            posterior, start, burn=self.burn, samples=self.samples, path=self.path_length, step=self.step_size, most=200
        )
        halves = chain.energies.reshape(-1)[: self.samples // 2 * 2].reshape(2, -1)
        within, between = halves.var(dim=1).mean(), halves.mean(dim=1).var() * halves.shape[1]
        r_hat = float((((halves.shape[1] - 1) * within + between) / (halves.shape[1] * within.clamp_min(1e-300))).sqrt())
        self.diagnostics_ = {
            "accepted": chain.accepted, "step": chain.step, "leapfrog": float(chain.leapfrog), "split_r_hat": r_hat,
            "energy_at_start": float(posterior.energy(start)), "energy": float(chain.energies.mean()),
        }  # fmt: skip
        return DrawnModel(posterior.layers, chain.draws, shift, scale, posterior.noise)


@final
class StochasticGradientHamiltonianNetwork(NetworkSurrogate):
    """Weights drawn by stochastic gradient Hamiltonian Monte Carlo with scales found in burn-in.

    Parameters
    ----------
    hidden : tuple of int, default=(64, 64)
    activation : {"tanh", "relu", "identity"}, default="tanh"
    prior_var, noise_var : float or "grid", default="grid"
    batch : int, default=5
        Rows a step.
    steps, burn, every : int, default=2000, 1000, 5
        Steps in all, those before the first draw, and from one draw to the next.
    learning_rate : float, default=1e-2
        Divided by the square root of the number of rows; halved until the chain stays within bounds.
    friction : float, default=0.05
        Share of the velocity that is lost at each step.
    random_state : int, default=0

    References
    ----------
    Li, Rudner and Wilson, arXiv 2305.20028; Springenberg, Klein, Falkner and Hutter, *Bayesian optimization with robust
    Bayesian neural networks*, 2016.
    """

    def __init__(
        self,
        hidden: Any = (64, 64),
        activation: str = "tanh",
        prior_var: Any = "grid",
        noise_var: Any = "grid",
        batch: int = 5,
        steps: int = 2000,
        burn: int = 1000,
        every: int = 5,
        learning_rate: float = 1e-2,
        friction: float = 0.05,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.prior_var = prior_var
        self.noise_var = noise_var
        self.batch = batch
        self.steps = steps
        self.burn = burn
        self.every = every
        self.learning_rate = learning_rate
        self.friction = friction
        self.random_state = random_state

    def _model(self, posterior: Posterior, shift: float, scale: float) -> Model:
        from locum.optimize._bnn_networks import DrawnModel, descended, scale_adapted

        require_whole(1, batch=self.batch, steps=self.steps, burn=self.burn, every=self.every)
        require_positive(learning_rate=self.learning_rate, friction=self.friction)
        if self.burn + 2 * self.every > self.steps:
            raise InvalidData(f"expected steps= for two draws or more after burn={self.burn}, got {self.steps}")
        start = descended(posterior.energy, posterior.layers.start(1), 1000, 1e-2)
        rate, draws = self.learning_rate, None
        while draws is None:
            draws = scale_adapted(
                posterior, start, batch=self.batch, steps=self.steps, burn=self.burn, every=self.every, rate=rate,
                friction=self.friction,
            )  # fmt: skip
            if draws is None:
                rate /= 2
                if rate < self.learning_rate / _HALVED:
                    raise LocumError(f"the chain left all bounds even with a learning rate of {rate:g}; raise noise_var=")
        self.diagnostics_ = {
            "draws": float(len(draws)), "learning_rate": rate, "energy_at_start": float(posterior.energy(start)),
            "energy": float(posterior.energy(draws).mean()),
        }  # fmt: skip
        return DrawnModel(posterior.layers, draws, shift, scale, posterior.noise)


@final
class DeepEnsemble(NetworkSurrogate):
    """Networks trained to their most likely weights, each from its own start on its own four fifths of the rows.

    Parameters
    ----------
    hidden : tuple of int, default=(64, 64)
    activation : {"tanh", "relu", "identity"}, default="tanh"
    prior_var, noise_var : float or "grid", default="grid"
    members : int, default=10
    steps : int, default=1000
    learning_rate : float, default=1e-3
    random_state : int, default=0

    Notes
    -----
    Cost: `steps` passes of all members at once.

    References
    ----------
    Li, Rudner and Wilson, arXiv 2305.20028; Lakshminarayanan, Pritzel and Blundell, arXiv 1612.01474.
    """

    def __init__(
        self,
        hidden: Any = (64, 64),
        activation: str = "tanh",
        prior_var: Any = "grid",
        noise_var: Any = "grid",
        members: int = 10,
        steps: int = 1000,
        learning_rate: float = 1e-3,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.prior_var = prior_var
        self.noise_var = noise_var
        self.members = members
        self.steps = steps
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _model(self, posterior: Posterior, shift: float, scale: float) -> Model:
        import torch

        from locum.optimize._bnn_networks import DrawnModel, descended

        require_whole(2, members=self.members)
        require_whole(1, steps=self.steps)
        require_positive(learning_rate=self.learning_rate)
        n, layers = len(posterior.y), posterior.layers
        kept = max(1, round(0.8 * n))
        rows = torch.stack([torch.randperm(n)[:kept] for _ in range(self.members)])
        seen = torch.zeros(self.members, n, dtype=torch.float64).scatter(1, rows, 1.0)

        def energy(weights: Any) -> Any:
            left = (posterior.y - layers(weights, posterior.X)) * seen
            return 0.5 * (weights**2).sum(dim=1) / posterior.prior + 0.5 * (left**2).sum(dim=1) / posterior.noise

        weights = descended(energy, layers.start(self.members), self.steps, self.learning_rate)
        with torch.no_grad():
            said = layers(weights, posterior.X)
        self.diagnostics_ = {"spread": float(said.std(dim=0).mean()), "error": float(((said - posterior.y) ** 2).mean())}
        return DrawnModel(layers, weights, shift, scale, posterior.noise)


@final
class LaplaceNetwork(Surrogate):
    r"""A network at its most likely weights; around them it is taken to be linear, and the weights to be normal.

    .. math:: f(x) \sim N\big( f(x; \hat w),\ J(x) \Sigma J(x')^T \big), \qquad
              \Sigma = (J^T J / \sigma^2 + I / s^2)^{-1}

    over all weights, exactly: in the space of the n rows, with a kernel of inner products of gradients. The paper approximates
    :math:`\Sigma` by Kronecker factors.

    Parameters
    ----------
    hidden : tuple of int, default=(64, 64)
    activation : {"tanh", "relu", "identity"}, default="tanh"
    prior_var, noise_var : float or "evidence", default="evidence"
        Both given, or both those of largest evidence after a training with `weight_decay`.
    steps : int, default=1000
    weight_decay : float, default=1e-3
    random_state : int, default=0

    References
    ----------
    Li, Rudner and Wilson, arXiv 2305.20028; Immer, Korzepa and Bauer, arXiv 2008.08400.
    """

    papers = ("bnn-surrogates",)

    def __init__(
        self,
        hidden: Any = (64, 64),
        activation: str = "tanh",
        prior_var: Any = "evidence",
        noise_var: Any = "evidence",
        steps: int = 1000,
        weight_decay: float = 1e-3,
        random_state: int = 0,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.prior_var = prior_var
        self.noise_var = noise_var
        self.steps = steps
        self.weight_decay = weight_decay
        self.random_state = random_state

    def _make(self, rows: _FLOAT, values: _FLOAT, *gradients: _FLOAT) -> tuple[Model, ...]:
        import torch

        from locum.nets import seeded
        from locum.optimize._bnn_kernels import linearised

        require_whole(0, random_state=self.random_state)
        require_whole(1, steps=self.steps)
        require_positive(weight_decay=self.weight_decay)
        if (self.prior_var == "evidence") != (self.noise_var == "evidence"):
            raise InvalidData("expected both variances, or neither, since they are found together")
        given = None
        if self.prior_var != "evidence":
            require_positive(prior_var=self.prior_var, noise_var=self.noise_var)
            given = (float(self.prior_var), float(self.noise_var))
        X, Y = torch.as_tensor(rows), torch.as_tensor(values)[:, None]
        layers = _layers(rows.shape[1], self.hidden, self.activation)
        with seeded(self.random_state):
            model, self.prior_var_, self.noise_var_ = linearised(
                X, Y, layers, steps=self.steps, decay=self.weight_decay, given=given
            )
        self.diagnostics_ = {"prior_var": self.prior_var_, "noise_var": self.noise_var_}
        return (model,)


# ---------------------------------------------------------------------- processes whose kernel is a network's
@final
class InfiniteWidthProcess(Surrogate):
    """The Gaussian process that a network becomes as its layers grow wide; of it only a mean and the noise are fitted.

    Parameters
    ----------
    depth : int, default=3
        Hidden layers.
    weight_var : float, default=10.0
        Variance of weights, over the inputs of their layer.
    offset_var : float, default=1.3
        The study takes 1.6 in high dimension.
    activation : {"relu", "erf"}, default="relu"

    References
    ----------
    Li, Rudner and Wilson, arXiv 2305.20028; Lee et al., arXiv 1711.00165; Cho and Saul, *Kernel methods for deep learning*,
    2009.

    Examples
    --------
    >>> import numpy as np
    >>> U = np.random.default_rng(0).random((20, 30))
    >>> process = InfiniteWidthProcess().fit(U, U.sum(axis=1))
    >>> bool(np.corrcoef(process.predict(U), U.sum(axis=1))[0, 1] > 0.99)
    True
    """

    papers = ("bnn-surrogates",)
    most = 2000

    def __init__(self, depth: int = 3, weight_var: float = 10.0, offset_var: float = 1.3, activation: str = "relu") -> None:
        self.depth = depth
        self.weight_var = weight_var
        self.offset_var = offset_var
        self.activation = activation

    def _make(self, rows: _FLOAT, values: _FLOAT, *gradients: _FLOAT) -> tuple[Model, ...]:
        import torch

        from locum.optimize._bnn_kernels import InfiniteWidthKernel, infinite_width

        require_whole(1, depth=self.depth)
        require_one_of(("relu", "erf"), activation=self.activation)
        require_positive(weight_var=self.weight_var, offset_var=self.offset_var)
        kernel = InfiniteWidthKernel(self.depth, self.weight_var, self.offset_var, self.activation)
        return (infinite_width(torch.as_tensor(rows), torch.as_tensor(values)[:, None], kernel),)


@final
class DeepKernelProcess(Surrogate):
    """A Gaussian process on features of a network, trained together by the marginal likelihood.

    Parameters
    ----------
    features : tuple of int, default=(128, 128, 128)
        Widths of layers; the last is that of the features.
    pretrain : int, default=1000
        Steps of squared error with a linear head, which is left out afterwards.
    steps : int, default=1000
        Steps on the marginal likelihood; the study takes 5,000.
    learning_rate : float, default=1e-3
    random_state : int, default=0

    Notes
    -----
    Cost: `steps` times O(n³). With few rows it can fit them exactly and be too sure elsewhere: look at the fidelity.

    References
    ----------
    Li, Rudner and Wilson, arXiv 2305.20028; Wilson, Hu, Salakhutdinov and Xing, arXiv 1511.02222.
    """

    papers = ("bnn-surrogates",)
    most = 2000

    def __init__(
        self,
        features: Any = (128, 128, 128),
        pretrain: int = 1000,
        steps: int = 1000,
        learning_rate: float = 1e-3,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.pretrain = pretrain
        self.steps = steps
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _make(self, rows: _FLOAT, values: _FLOAT, *gradients: _FLOAT) -> tuple[Model, ...]:
        import torch

        from locum.nets import seeded
        from locum.optimize._bnn_kernels import deep_kernel

        require_whole(1, pretrain=self.pretrain, steps=self.steps)
        require_whole(0, random_state=self.random_state)
        require_positive(learning_rate=self.learning_rate)
        widths = _require_widths(self.features)
        X, Y = torch.as_tensor(rows), torch.as_tensor(values)[:, None]
        with seeded(self.random_state):
            return (deep_kernel(X, Y, widths, pretrain=self.pretrain, steps=self.steps, rate=self.learning_rate),)
